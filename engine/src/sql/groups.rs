//! GROUP BY: what lists, positions, and sets within sets mean.
//!
//! ```text
//!   GROUP BY (a, b), a               GROUP BY a, b
//!   CUBE ((a, b), c)                 GROUPING SETS ((a, b, c), (a, b), (c), ())
//!   SELECT a, … GROUP BY ROLLUP (1)  GROUP BY ROLLUP (a); DISTINCT ON (1) is the same
//!   DISTINCT ROLLUP (a), ROLLUP (a)  GROUPING SETS ((a), ())
//! ```

use std::ops::ControlFlow;

use sqlparser::ast::{self, Expr, Function, Select, SelectItem};

use crate::error::{Error, Result};
use crate::sql::calls;
use crate::sql::parse::fold;
use crate::sql::rewrite::{call, whole_number};
use crate::sql::visit;

/// A cube of more columns has more sets than anyone wants.
const CUBE_MAX: usize = 12;
/// As many sets Postgres allows.
const SETS_MAX: usize = 4096;

/// What stands first in `GROUP BY DISTINCT …`, as a call (`parse/spellings.rs`).
pub const DISTINCT_SETS: &str = "mr_distinct_sets";

/// Of `GROUP BY DISTINCT` each of the sets that its items make together, once.
pub fn distinct_sets(select: &mut Select) {
    let ast::GroupByExpr::Expressions(groups, _) = &mut select.group_by else { return };
    let is_marker = |group: &Expr| matches!(group, Expr::Function(f) if f.name.to_string() == DISTINCT_SETS);
    if !groups.first().is_some_and(is_marker) {
        return;
    }
    groups.remove(0);
    if !groups.iter().any(is_sets) {
        return;
    }
    let sets_of = |group: &Expr| match group {
        Expr::Rollup(sets) => rolled_up(sets),
        Expr::Cube(sets) if sets.len() <= CUBE_MAX => cubed(sets),
        Expr::GroupingSets(sets) => expanded_sets(sets.clone()),
        Expr::Tuple(parts) => vec![parts.clone()],
        other => vec![vec![other.clone()]],
    };
    let mut all: Vec<Vec<Expr>> = vec![Vec::new()];
    for group in groups.iter() {
        let sets = sets_of(group);
        if all.len() * sets.len() > SETS_MAX {
            return;
        }
        let with = |before: &Vec<Expr>| sets.iter().map(|set| [&before[..], &set[..]].concat()).collect::<Vec<_>>();
        all = all.iter().flat_map(with).collect();
    }
    let same = |a: &[Expr], b: &[Expr]| a.iter().all(|expr| b.contains(expr)) && b.iter().all(|expr| a.contains(expr));
    let mut distinct: Vec<Vec<Expr>> = Vec::new();
    for set in each_once(all) {
        if !distinct.iter().any(|known| same(known, &set)) {
            distinct.push(set);
        }
    }
    *groups = vec![Expr::GroupingSets(distinct)];
}

fn is_sets(group: &Expr) -> bool {
    matches!(group, Expr::Rollup(_) | Expr::Cube(_) | Expr::GroupingSets(_))
}

/// Items that are the same expression under several names are several groups among sets, each NULL where it is not in the set:
/// `SELECT a AS x, a AS y … GROUP BY x, ROLLUP (y)`. To tell them apart later ones are written `coalesce(a)`.
fn name_apart(select: &mut Select) {
    let ast::GroupByExpr::Expressions(groups, _) = &select.group_by else { return };
    if !groups.iter().any(is_sets) {
        return;
    }
    let mut named: Vec<String> = Vec::new();
    for group in groups {
        let _ = visit::visit_expressions(group, |expr| {
            if let Expr::Identifier(name) = expr {
                named.push(fold(name));
            }
            ControlFlow::<()>::Continue(())
        });
    }
    let mut known: Vec<Expr> = Vec::new();
    for item in &mut select.projection {
        let SelectItem::ExprWithAlias { expr, alias } = item else { continue };
        if !named.contains(&fold(alias)) {
            continue;
        }
        if known.contains(expr) {
            *expr = call("coalesce", vec![expr.clone()]);
        } else {
            known.push(expr.clone());
        }
    }
}

/// ROLLUP, CUBE or GROUPING SETS as one of the sets of GROUPING SETS: the sets that it stands for.
fn nested_sets(set: &[Expr]) -> Option<Vec<Vec<Expr>>> {
    let [item] = set else { return None };
    let parts = |function: &Function| {
        let of = |expr| if let Expr::Tuple(parts) = expr { parts } else { vec![expr] };
        calls::arguments(function).map(|arguments| arguments.into_iter().map(of).collect::<Vec<_>>())
    };
    match item {
        Expr::GroupingSets(sets) => Some(sets.clone()),
        Expr::Function(function) => match function.name.to_string().to_lowercase().as_str() {
            "rollup" => parts(function).map(|sets| rolled_up(&sets)),
            "cube" => parts(function).filter(|sets| sets.len() <= CUBE_MAX).map(|sets| cubed(&sets)),
            _ => None,
        },
        _ => None,
    }
}

fn expanded_sets(sets: Vec<Vec<Expr>>) -> Vec<Vec<Expr>> {
    sets.into_iter()
        .flat_map(|set| match nested_sets(&set) {
            Some(nested) => expanded_sets(nested),
            None => vec![set],
        })
        .collect()
}

fn rolled_up(sets: &[Vec<Expr>]) -> Vec<Vec<Expr>> {
    (0..=sets.len()).rev().map(|n| sets[..n].concat()).collect()
}

fn cubed(sets: &[Vec<Expr>]) -> Vec<Vec<Expr>> {
    let n = sets.len();
    let chosen = |bits: usize| (0..n).filter(move |i| bits >> (n - 1 - i) & 1 == 1).flat_map(|i| sets[i].clone());
    (0..1usize << n).rev().map(|bits| chosen(bits).collect()).collect()
}

fn repeats(exprs: &[Expr]) -> bool {
    exprs.iter().enumerate().any(|(i, expr)| exprs[..i].contains(expr))
}

/// Sets that name nothing twice.
fn each_once(sets: Vec<Vec<Expr>>) -> Vec<Vec<Expr>> {
    let once = |set: Vec<Expr>| {
        set.into_iter().fold(Vec::new(), |mut known: Vec<Expr>, expr| {
            if !known.contains(&expr) {
                known.push(expr);
            }
            known
        })
    };
    sets.into_iter().map(once).collect()
}

/// `GROUP BY (a, b), a` is `GROUP BY a, b`; `CUBE ((a, b), c)` and the like are the sets that they mean.
pub fn flatten_groups(select: &mut Select) {
    let ast::GroupByExpr::Expressions(groups, _) = &mut select.group_by else { return };
    let mut flat: Vec<Expr> = Vec::new();
    for group in groups.drain(..) {
        let parts = match group {
            Expr::Tuple(parts) => parts.into_iter().flat_map(fields_of_row).collect(),
            Expr::Rollup(sets) if sets.iter().any(|set| set.len() != 1) || repeats(&sets.concat()) => {
                vec![Expr::GroupingSets(each_once(rolled_up(&sets)))]
            }
            Expr::Cube(sets)
                if (sets.iter().any(|set| set.len() != 1) || repeats(&sets.concat())) && sets.len() <= CUBE_MAX =>
            {
                vec![Expr::GroupingSets(each_once(cubed(&sets)))]
            }
            Expr::GroupingSets(sets) if sets.iter().any(|set| nested_sets(set).is_some()) => {
                vec![Expr::GroupingSets(expanded_sets(sets))]
            }
            other => vec![other],
        };
        for part in parts {
            // Sets that repeat are as many groups.
            if is_sets(&part) || !flat.contains(&part) {
                flat.push(part);
            }
        }
    }
    *groups = flat;
    name_apart(select);
}

/// What a row is made of, with what rows within it are made of: as groups that is the same.
fn fields_of_row(part: Expr) -> Vec<Expr> {
    match part {
        Expr::Tuple(parts) => parts.into_iter().flat_map(fields_of_row).collect(),
        other => vec![other],
    }
}

/// Among GROUPING SETS, ROLLUP and CUBE, and in DISTINCT ON, a number is the item of the SELECT list at that place; by itself in GROUP BY
/// DataFusion knows it.
pub fn resolve_positions(select: &mut Select) -> Result<()> {
    let resolve = |items: &mut [Expr], clause: &str| {
        for item in items {
            let Some(position) = whole_number(item) else { continue };
            let place = usize::try_from(position).ok().and_then(|position| position.checked_sub(1));
            *item = match place.and_then(|place| select.projection.get(place)) {
                _ if select.projection.iter().take(place.map_or(0, |place| place + 1)).any(is_star) => {
                    let what = format!("a position in {clause} that counts columns of *");
                    return Err(Error::unsupported(what).hint("Name the column."));
                }
                Some(SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. }) => expr.clone(),
                _ => {
                    let message = format!("{clause} position {position} is not in select list");
                    return Err(Error::new("42P10", message));
                }
            };
        }
        Ok(())
    };
    if let Some(ast::Distinct::On(items)) = &mut select.distinct {
        resolve(items, "SELECT DISTINCT ON")?;
    }
    let ast::GroupByExpr::Expressions(groups, _) = &mut select.group_by else { return Ok(()) };
    for group in groups {
        if let Expr::Rollup(sets) | Expr::Cube(sets) | Expr::GroupingSets(sets) = group {
            sets.iter_mut().try_for_each(|set| resolve(set, "GROUP BY"))?;
        }
    }
    Ok(())
}

fn is_star(item: &SelectItem) -> bool {
    matches!(item, SelectItem::Wildcard(_) | SelectItem::QualifiedWildcard(..))
}
