//! GROUP BY: what lists, positions, and sets within sets mean.
//!
//! ```text
//!   GROUP BY (a, b), a               GROUP BY a, b
//!   CUBE ((a, b), c)                 GROUPING SETS ((a, b, c), (a, b), (c), ())
//!   SELECT a, … GROUP BY ROLLUP (1)  GROUP BY ROLLUP (a); DISTINCT ON (1) is the same
//! ```

use sqlparser::ast::{self, Expr, Function, Select, SelectItem};

use crate::error::{Error, Result};
use crate::sql::calls;
use crate::sql::rewrite::whole_number;

/// A cube of more columns has more sets than anyone wants.
const CUBE_MAX: usize = 12;

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
            Expr::Tuple(parts) => parts,
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
            let sets = matches!(part, Expr::Rollup(_) | Expr::Cube(_) | Expr::GroupingSets(_));
            if sets || !flat.contains(&part) {
                flat.push(part);
            }
        }
    }
    *groups = flat;
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
