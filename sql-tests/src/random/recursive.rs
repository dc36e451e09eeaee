//! Random WITH RECURSIVE: what can be reached along pairs of columns, in a few steps.

use rand::rngs::StdRng;

use super::expression::{Column, Type, column, one_in, pick, predicate};
use super::query::Relation;
use super::subqueries::light;

/// The relation `w`, and what stands behind WITH RECURSIVE.
pub fn recursive(rng: &mut StdRng, relations: &[Relation]) -> Option<(Relation, String)> {
    let (start, step) = (light(rng, relations)?, light(rng, relations)?);
    let scope = |relation: &Relation, alias: &str| -> Vec<Column> {
        relation.columns.iter().map(|c| Column { name: format!("{alias}.{}", c.name), ty: c.ty }).collect()
    };
    let (first, next) = (scope(start, "s"), scope(step, "x"));
    let ty = *pick(rng, &[Type::Int, Type::Int, Type::Text]);
    let (from, along, to) = (column(rng, &first, ty)?, column(rng, &next, ty)?, column(rng, &next, ty)?);
    let filter = predicate(rng, &first, 1);
    // Every row of a step is kept under UNION ALL: few steps, or there are too many.
    let (union, steps) = if one_in(rng, 3) { ("UNION ALL", 1) } else { ("UNION", 3) };
    let more = if one_in(rng, 3) { format!(" AND {}", predicate(rng, &next, 1)) } else { String::new() };
    let sql = format!(
        "w(c0, c1) AS (SELECT {from}, 0 FROM {} AS s WHERE {filter} {union} \
         SELECT {to}, w.c1 + 1 FROM w JOIN {} AS x ON {along} = w.c0 WHERE w.c1 < {steps}{more})",
        start.name, step.name
    );
    let columns = vec![Column { name: "c0".into(), ty }, Column { name: "c1".into(), ty: Type::Int }];
    Some((Relation { name: "w".into(), columns, weight: if union == "UNION" { 1 } else { 2 } }, sql))
}
