//! Joins with what is made anew for each row to the left: LATERAL subqueries, series, elements of arrays.

use rand::Rng;
use rand::rngs::StdRng;

use super::expression::{Column, Type, column, expression, one_in, pick, predicate};
use super::from::{From, comparison, equality, from};
use super::query::{Query, Relation, WEIGHT_MAX};
use super::subqueries::light;

/// `left … JOIN LATERAL …`, where `left` is light enough.
pub fn lateral(rng: &mut StdRng, relations: &[Relation], left: &From) -> Option<From> {
    if left.weight >= WEIGHT_MAX {
        return None;
    }
    let alias = format!("r{}", left.sources);
    let (sql, columns) = match rng.random_range(0..4) {
        0 => elements(rng, &left.scope, &alias)?,
        1 => {
            let number = column(rng, &left.scope, Type::Int)?;
            let column = Column { name: "c0".into(), ty: Type::Int };
            (format!("generate_series(1, least({number}, 3)) AS {alias}(c0)"), vec![column])
        }
        _ => subquery(rng, relations, &left.scope, &alias)?,
    };
    let own: Vec<Column> =
        columns.into_iter().map(|c| Column { name: format!("{alias}.{}", c.name), ty: c.ty }).collect();
    let sql = match rng.random_range(0..4) {
        0 => format!("{}, LATERAL {sql}", left.sql),
        1 => format!("{} LEFT JOIN LATERAL {sql} ON {}", left.sql, predicate(rng, &own, 1)),
        2 => format!("{} LEFT JOIN LATERAL {sql} ON true", left.sql),
        _ => format!("{} JOIN LATERAL {sql} ON true", left.sql),
    };
    // What follows in FROM would see the left side of a comma no more.
    let sources = if sql.contains(", LATERAL ") { usize::MAX } else { left.sources + 1 };
    Some(From { sql, scope: left.scope.iter().cloned().chain(own).collect(), weight: left.weight + 1, sources })
}

fn elements(rng: &mut StdRng, scope: &[Column], alias: &str) -> Option<(String, Vec<Column>)> {
    let array = column(rng, scope, Type::Array)?;
    let int = |name: &str| Column { name: name.into(), ty: Type::Int };
    Some(if one_in(rng, 2) {
        (format!("unnest({array}) AS {alias}(c0)"), vec![int("c0")])
    } else {
        let ordinality = Column { name: "c1".into(), ty: Type::Bigint };
        (format!("unnest({array}) WITH ORDINALITY AS {alias}(c0, c1)"), vec![int("c0"), ordinality])
    })
}

fn subquery(rng: &mut StdRng, relations: &[Relation], outer: &[Column], alias: &str) -> Option<(String, Vec<Column>)> {
    let relation = light(rng, relations)?;
    let own: Vec<Column> =
        relation.columns.iter().map(|c| Column { name: format!("y.{}", c.name), ty: c.ty }).collect();
    let mut conditions: Vec<String> =
        if one_in(rng, 4) { comparison(rng, &own, outer) } else { equality(rng, &own, outer) }.into_iter().collect();
    if one_in(rng, 3) {
        conditions.push(predicate(rng, &own, 1));
    }
    let filter = if conditions.is_empty() { String::new() } else { format!(" WHERE {}", conditions.join(" AND ")) };
    let from = format!("FROM {} AS y{filter}", relation.name);
    let exact: Vec<&Column> = own.iter().filter(|c| c.ty != Type::Inexact).collect();
    let (a, b) = (*pick(rng, &exact), *pick(rng, &exact));
    let named = |name: &str, ty| Column { name: name.into(), ty };
    let both = || vec![named("c0", a.ty), named("c1", b.ty)];
    let list = format!("{} AS c0, {} AS c1", a.name, b.name);
    let (sql, columns) = match rng.random_range(0..7) {
        0 | 1 => {
            let direction = pick(rng, &["", " DESC", " NULLS FIRST", " DESC NULLS LAST"]);
            let limit = rng.random_range(1..=2);
            let ties =
                if one_in(rng, 4) { format!("FETCH FIRST {limit} ROWS WITH TIES") } else { format!("LIMIT {limit}") };
            (format!("SELECT {list} {from} ORDER BY {}{direction}, {} {ties}", a.name, b.name), both())
        }
        2 => {
            let call = if b.ty.ordered() { format!("max({})", b.name) } else { format!("min({}::text)", b.name) };
            let ty = if b.ty.ordered() { b.ty } else { Type::Text };
            (format!("SELECT count(*) AS c0, {call} AS c1 {from}"), vec![named("c0", Type::Bigint), named("c1", ty)])
        }
        3 => {
            let sql = format!("SELECT {} AS c0, count({}) AS c1 {from} GROUP BY {}", a.name, b.name, a.name);
            (sql, vec![named("c0", a.ty), named("c1", Type::Bigint)])
        }
        4 => (format!("SELECT DISTINCT {list} {from}"), both()),
        5 => {
            let o = pick(rng, outer).clone();
            if o.ty == Type::Inexact {
                return None;
            }
            let other = expression(rng, outer, o.ty, 1);
            (format!("VALUES ({}), ({other})", o.name), vec![named("column1", o.ty)])
        }
        _ => {
            let order = format!("ORDER BY {} NULLS FIRST", a.name);
            let sql = format!("SELECT {} AS c0, rank() OVER ({order}) AS c1 {from}", a.name);
            (sql, vec![named("c0", a.ty), named("c1", Type::Bigint)])
        }
    };
    Some((format!("({sql}) AS {alias}"), columns))
}

/// Elements of an array, or a series, in the select list.
pub fn unnested(rng: &mut StdRng, relations: &[Relation]) -> Option<Query> {
    let from = from(rng, relations);
    let rows = match (column(rng, &from.scope, Type::Array), column(rng, &from.scope, Type::Int)) {
        (Some(array), _) => format!("unnest({array})"),
        (None, Some(number)) => format!("generate_series({number}, 2)"),
        (None, None) => return None,
    };
    let c = pick(rng, &from.scope).clone();
    let filter = if one_in(rng, 3) { format!(" WHERE {}", predicate(rng, &from.scope, 1)) } else { String::new() };
    let sql = format!("SELECT {} AS c0, {rows} AS c1 FROM {}{filter}", c.name, from.sql);
    let columns = vec![Column { name: "c0".into(), ty: c.ty }, Column { name: "c1".into(), ty: Type::Int }];
    Some(Query { sql, columns, weight: WEIGHT_MAX })
}
