//! Random queries that a materialized view may have: filters, select lists over joins, grouping, DISTINCT, set
//! operations, windows, WITH: what the modules beside this one make, put together.
//!
//! A relation's *weight* says how many base relations its rows may multiply; a join's is the sum, a
//! grouping's is 1. Nothing heavier than [`WEIGHT_MAX`] is made, so that results stay some thousand rows.

use rand::Rng;
use rand::rngs::StdRng;

use super::expression::{Column, Type, expression, one_in, pick};
use super::from::from;
use super::subqueries::{self, filter};
use super::{aggregates, lateral, ordered, recursive, sets, windows};

pub const WEIGHT_MAX: u32 = 3;

/// A relation that queries may read.
#[derive(Debug, Clone)]
pub struct Relation {
    pub name: String,
    /// Names as in the relation: `c0`, …
    pub columns: Vec<Column>,
    pub weight: u32,
}

pub struct Query {
    pub sql: String,
    pub columns: Vec<Column>,
    pub weight: u32,
}

/// Any query over the relations.
pub fn query(rng: &mut StdRng, relations: &[Relation]) -> Query {
    let (with, sql) = match rng.random_range(0..40) {
        0..=2 => {
            let Query { sql, columns, weight } = body(rng, relations);
            (Relation { name: "w".into(), columns, weight }, format!("WITH w AS ({sql})"))
        }
        3 => match recursive::recursive(rng, relations) {
            Some((with, sql)) => (with, format!("WITH RECURSIVE {sql}")),
            None => return body(rng, relations),
        },
        _ => return body(rng, relations),
    };
    // It is read more often than others.
    let relations: Vec<Relation> =
        relations.iter().chain(std::iter::repeat_n(&with, relations.len())).cloned().collect();
    let query = body(rng, &relations);
    Query { sql: format!("{sql} {}", query.sql), ..query }
}

fn body(rng: &mut StdRng, relations: &[Relation]) -> Query {
    match rng.random_range(0..30) {
        0..=6 => project(rng, relations, None),
        7..=14 => aggregates::aggregate(rng, relations),
        15 | 16 => distinct(rng, relations),
        17..=20 => sets::set_operations(rng, relations),
        21 => ordered::top_n(rng, relations),
        22 => ordered::distinct_on(rng, relations),
        23 => ordered::ranked(rng, relations),
        24 => lateral::unnested(rng, relations).unwrap_or_else(|| project(rng, relations, None)),
        25 | 26 => windows::peers(rng, relations),
        _ => windows::windows(rng, relations),
    }
}

/// A select list over a FROM and a WHERE; of the given types where `types` says so.
pub fn project(rng: &mut StdRng, relations: &[Relation], types: Option<&[Type]>) -> Query {
    let from = from(rng, relations);
    let mut items = Vec::new();
    let mut columns = Vec::new();
    let count = types.map_or_else(|| rng.random_range(1..=4), <[Type]>::len);
    for i in 0..count {
        let ty = match types {
            Some(types) => types[i],
            None => pick(rng, &from.scope).ty,
        };
        let scalar = if one_in(rng, 15) { subqueries::value(rng, relations, &from.scope, ty) } else { None };
        let item = scalar.unwrap_or_else(|| expression(rng, &from.scope, ty, 2));
        items.push(format!("{item} AS c{i}"));
        columns.push(Column { name: format!("c{i}"), ty });
    }
    let filter = filter(rng, relations, &from.scope);
    Query { sql: format!("SELECT {} FROM {}{filter}", items.join(", "), from.sql), columns, weight: from.weight }
}

fn distinct(rng: &mut StdRng, relations: &[Relation]) -> Query {
    let mut query = project(rng, relations, None);
    query.sql = query.sql.replacen("SELECT", "SELECT DISTINCT", 1);
    query
}

pub fn some_types(rng: &mut StdRng, relations: &[Relation]) -> Vec<Type> {
    let all: Vec<Type> =
        relations.iter().flat_map(|r| r.columns.iter().map(|c| c.ty)).filter(|t| *t != Type::Inexact).collect();
    (0..rng.random_range(1..=3)).map(|_| *pick(rng, &all)).collect()
}
