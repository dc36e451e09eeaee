//! What stands in FROM: relations, windows over them, subqueries, joined in every way.

use rand::Rng;
use rand::rngs::StdRng;

use super::aggregates::aggregate_over;
use super::expression::{Column, Type, column, one_in, pick, predicate};
use super::query::{Relation, WEIGHT_MAX, project};
use super::{lateral, subqueries};

/// `r0`, `r1`, …: what stands in FROM, and what may be named.
pub struct From {
    pub sql: String,
    pub scope: Vec<Column>,
    pub weight: u32,
    /// Aliases made so far.
    pub sources: usize,
}

fn source(rng: &mut StdRng, relations: &[Relation], n: usize, weight_max: u32) -> Option<From> {
    let light: Vec<&Relation> = relations.iter().filter(|r| r.weight <= weight_max).collect();
    if light.is_empty() {
        return None;
    }
    let relation = *pick(rng, &light);
    let alias = format!("r{n}");
    let mut columns = relation.columns.clone();
    let mut weight = relation.weight;
    let ty = *pick(rng, &[Type::Timestamp, Type::Timestamptz]);
    let time = column(rng, &relation.columns, ty).filter(|_| one_in(rng, 2));
    let sql = match time {
        Some(ts) => {
            columns.push(Column { name: "window_start".into(), ty });
            columns.push(Column { name: "window_end".into(), ty });
            let name = &relation.name;
            if rng.random_bool(0.6) {
                let size = pick(rng, &["1 minute", "90 seconds", "1 hour", "1 day"]);
                format!("TUMBLE({name}, {ts}, INTERVAL '{size}') AS {alias}")
            } else {
                let (slide, size) = pick(rng, &[("1 minute", "2 minutes"), ("30 seconds", "90 seconds")]);
                format!("HOP({name}, {ts}, INTERVAL '{slide}', INTERVAL '{size}') AS {alias}")
            }
        }
        None if one_in(rng, 8) => {
            let inner = if rng.random_bool(0.5) {
                aggregate_over(rng, plain(relation))
            } else {
                project(rng, std::slice::from_ref(relation), None)
            };
            columns = inner.columns;
            weight = inner.weight;
            format!("({}) AS {alias}", inner.sql)
        }
        None => format!("{} AS {alias}", relation.name),
    };
    let scope = columns.iter().map(|c| Column { name: format!("{alias}.{}", c.name), ty: c.ty }).collect();
    Some(From { sql, scope, weight, sources: 1 })
}

fn plain(relation: &Relation) -> From {
    let scope = relation.columns.iter().map(|c| Column { name: format!("q.{}", c.name), ty: c.ty }).collect();
    From { sql: format!("{} AS q", relation.name), scope, weight: relation.weight, sources: 1 }
}

/// One to three sources, joined.
pub fn from(rng: &mut StdRng, relations: &[Relation]) -> From {
    let mut from = source(rng, relations, 0, WEIGHT_MAX).expect("base relations are light");
    if one_in(rng, 40) {
        if let Some(chain) = full_chain(rng, relations) {
            return chain;
        }
    }
    let wanted = *pick(rng, &[1, 1, 1, 2, 2, 2, 3]);
    while from.sources < wanted {
        let Some(right) = source(rng, relations, from.sources, WEIGHT_MAX.saturating_sub(from.weight)) else { break };
        if one_in(rng, 8) {
            if let Some(lateral) = lateral::lateral(rng, relations, &from) {
                from = lateral;
                continue;
            }
        }
        if one_in(rng, 15) {
            let both: Vec<Column> = from.scope.iter().chain(&right.scope).cloned().collect();
            let (kind, condition) = match rng.random_range(0..6) {
                0 => ("CROSS JOIN", String::new()),
                1 => ("JOIN", format!(" ON {}", predicate(rng, &both, 1))),
                2 => ("LEFT JOIN", format!(" ON {}", predicate(rng, &both, 1))),
                n => {
                    let Some(condition) = comparison(rng, &from.scope, &right.scope) else { continue };
                    (["JOIN", "LEFT JOIN", "RIGHT JOIN"][n - 3], format!(" ON {condition}"))
                }
            };
            from = From {
                sql: format!("{} {kind} {}{condition}", from.sql, right.sql),
                scope: both,
                weight: from.weight + right.weight,
                sources: from.sources + 1,
            };
            continue;
        }
        if from.sources == 1 && one_in(rng, 8) {
            let name = |c: &Column| c.name.split_once('.').expect("an alias before it").1.to_string();
            let shared = from
                .scope
                .iter()
                .filter(|l| l.ty != Type::Inexact && right.scope.iter().any(|r| r.ty == l.ty && name(r) == name(l)));
            let shared: Vec<String> = shared.map(name).collect();
            if !shared.is_empty() {
                let kind = pick(rng, &["JOIN", "LEFT JOIN", "RIGHT JOIN", "FULL JOIN"]);
                from = From {
                    sql: format!("{} {kind} {} USING ({})", from.sql, right.sql, pick(rng, &shared)),
                    scope: from.scope.iter().chain(&right.scope).cloned().collect(),
                    weight: from.weight + right.weight,
                    sources: from.sources + 1,
                };
                continue;
            }
        }
        let Some(mut condition) = equality(rng, &from.scope, &right.scope) else { break };
        if one_in(rng, 6) {
            if let Some(second) = equality(rng, &from.scope, &right.scope) {
                condition = format!("{condition} AND {second}");
            }
        }
        let both: Vec<Column> = from.scope.iter().chain(&right.scope).cloned().collect();
        if one_in(rng, 3) {
            condition = format!("{condition} AND {}", predicate(rng, &both, 1));
        }
        if one_in(rng, 12) {
            if let Some(asked) = subqueries::condition(rng, relations, &both) {
                condition = format!("{condition} AND {asked}");
            }
        }
        let kind = pick(rng, &["JOIN", "JOIN", "LEFT JOIN", "RIGHT JOIN", "FULL JOIN"]);
        from = From {
            sql: format!("{} {kind} {} ON {condition}", from.sql, right.sql),
            scope: both,
            weight: from.weight + right.weight,
            sources: from.sources + 1,
        };
    }
    from
}

/// Three relations that are joined `FULL JOIN … USING`: the shared column is that of whichever has a row.
fn full_chain(rng: &mut StdRng, relations: &[Relation]) -> Option<From> {
    let sources: Vec<From> = (0..3).map_while(|n| source(rng, relations, n, 1)).collect();
    let [a, b, c] = sources.as_slice() else { return None };
    let bare = |c: &Column| c.name.split_once('.').expect("an alias before it").1.to_string();
    let has = |from: &From, name: &str, ty: Type| from.scope.iter().any(|c| c.ty == ty && bare(c) == name);
    let shared = |c: &&Column| c.ty != Type::Inexact && has(b, &bare(c), c.ty);
    let shared: Vec<&Column> = a.scope.iter().filter(shared).filter(|l| has(c, &bare(l), l.ty)).collect();
    if shared.is_empty() {
        return None;
    }
    let column = *pick(rng, &shared);
    let (name, mut kind) = (bare(column), || *pick(rng, &["FULL JOIN", "FULL JOIN", "LEFT JOIN", "RIGHT JOIN"]));
    let sql = format!("{} {} {} USING ({name}) {} {} USING ({name})", a.sql, kind(), b.sql, kind(), c.sql);
    let merged = Column { name, ty: column.ty };
    let scope = std::iter::once(&merged).chain(sources.iter().flat_map(|s| &s.scope)).cloned().collect();
    Some(From { sql, scope, weight: WEIGHT_MAX, sources: 3 })
}

/// `l.a = r.b` over two columns of one type, or of two numeric ones.
pub fn equality(rng: &mut StdRng, left: &[Column], right: &[Column]) -> Option<String> {
    let mixed = one_in(rng, 8);
    let fits = |a: Type, b: Type| {
        let number = |t| matches!(t, Type::Smallint | Type::Int | Type::Bigint | Type::Numeric);
        a != Type::Inexact && (a == b || mixed && number(a) && number(b))
    };
    let pairs: Vec<(&str, &str)> = left
        .iter()
        .flat_map(|l| right.iter().filter(move |r| fits(l.ty, r.ty)).map(|r| (l.name.as_str(), r.name.as_str())))
        .collect();
    if pairs.is_empty() {
        return None;
    }
    let (l, r) = pick(rng, &pairs);
    Some(format!("{l} = {r}"))
}

/// `l.a < r.b` and the like.
pub fn comparison(rng: &mut StdRng, left: &[Column], right: &[Column]) -> Option<String> {
    let equality = equality(rng, left, right)?;
    let operator = *pick(rng, &["<", "<=", ">", ">=", "<>"]);
    Some(equality.replacen('=', operator, 1))
}
