//! Set operations, one within the other, over rows of the same types.

use rand::Rng;
use rand::rngs::StdRng;

use super::expression::{Type, one_in, pick};
use super::query::{Query, Relation, project, some_types};

pub fn set_operations(rng: &mut StdRng, relations: &[Relation]) -> Query {
    let types = some_types(rng, relations);
    combined(rng, relations, &types, 3)
}

/// At most `branches` SELECTs.
fn combined(rng: &mut StdRng, relations: &[Relation], types: &[Type], branches: u32) -> Query {
    if branches == 1 {
        return project(rng, relations, Some(types));
    }
    let of_left = rng.random_range(1..branches);
    let left = combined(rng, relations, types, of_left);
    let of_right = if one_in(rng, 2) { 1 } else { branches - of_left };
    let right = combined(rng, relations, types, of_right);
    let operation =
        pick(rng, &["UNION ALL", "UNION ALL", "UNION", "EXCEPT", "EXCEPT ALL", "INTERSECT", "INTERSECT ALL"]);
    let mut enclosed = |sql: &str| if one_in(rng, 2) { format!("({sql})") } else { sql.to_string() };
    let sql = format!("{} {operation} {}", enclosed(&left.sql), enclosed(&right.sql));
    Query { sql, columns: left.columns, weight: left.weight.max(right.weight) }
}
