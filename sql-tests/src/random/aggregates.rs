//! Random groupings, with every aggregate.

use rand::Rng;
use rand::rngs::StdRng;

use super::expression::{Column, Type, column, expression, literal, one_in, pick, predicate};
use super::from::{From, from};
use super::query::{Query, Relation};
use super::subqueries::{self, filter};

pub fn aggregate(rng: &mut StdRng, relations: &[Relation]) -> Query {
    let from = from(rng, relations);
    let filter = filter(rng, relations, &from.scope);
    let with_filter = From { sql: format!("{}{filter}", from.sql), ..from };
    if one_in(rng, 10) {
        return with_subqueries(rng, relations, with_filter);
    }
    aggregate_over(rng, with_filter)
}

/// A group's key and aggregates as seen by subqueries in the select list and HAVING.
fn with_subqueries(rng: &mut StdRng, relations: &[Relation], from: From) -> Query {
    let exact: Vec<&Column> = from.scope.iter().filter(|c| c.ty != Type::Inexact).collect();
    let (key, argument) = ((*pick(rng, &exact)).clone(), *pick(rng, &exact));
    let (call, ty) = match argument.ty.ordered() {
        true => (format!("{}({})", pick(rng, &["min", "max"]), argument.name), argument.ty),
        false => (format!("count({})", argument.name), Type::Bigint),
    };
    let name = key.name.clone();
    let outer = [key, Column { name: call.clone(), ty }];
    let mut items = vec![(name.clone(), outer[0].ty), (call, ty)];
    let value = *pick(rng, &[Type::Int, Type::Bigint, Type::Boolean, outer[0].ty]);
    if let Some(item) = subqueries::value(rng, relations, &outer, value) {
        items.push((item, value));
    }
    let having = match one_in(rng, 2) {
        true => subqueries::condition(rng, relations, &outer).map_or(String::new(), |c| format!(" HAVING {c}")),
        false => String::new(),
    };
    let list: Vec<String> = items.iter().enumerate().map(|(i, (item, _))| format!("{item} AS c{i}")).collect();
    let sql = format!("SELECT {} FROM {} GROUP BY {name}{having}", list.join(", "), from.sql);
    let columns = items.into_iter().enumerate().map(|(i, (_, ty))| Column { name: format!("c{i}"), ty }).collect();
    Query { sql, columns, weight: 1 }
}

/// A key that names at least one column: a lone literal in GROUP BY would mean a position.
fn key(rng: &mut StdRng, scope: &[Column]) -> Option<Column> {
    let keys: Vec<&Column> = scope.iter().filter(|c| c.ty != Type::Inexact).collect();
    if keys.is_empty() {
        return None;
    }
    let c = *pick(rng, &keys);
    if one_in(rng, 4) {
        let name = match c.ty {
            Type::Int | Type::Bigint => format!("({} % 2)", c.name),
            Type::Text => format!("upper({})", c.name),
            Type::Timestamp | Type::Timestamptz => format!("date_trunc('hour', {})", c.name),
            _ => format!("coalesce({}, {})", c.name, literal(rng, c.ty)),
        };
        return Some(Column { name, ty: c.ty });
    }
    Some(c.clone())
}

pub fn aggregate_over(rng: &mut StdRng, from: From) -> Query {
    let mut keys: Vec<Column> = Vec::new();
    for _ in 0..*pick(rng, &[0, 1, 1, 1, 2, 2]) {
        // One key twice is legal and of no use.
        keys.extend(key(rng, &from.scope).filter(|k| keys.iter().all(|other| other.name != k.name)));
    }
    let mut items: Vec<String> = keys.iter().map(|k| k.name.clone()).collect();
    let mut columns: Vec<Type> = keys.iter().map(|k| k.ty).collect();
    for _ in 0..rng.random_range(1..=4) {
        let (call, ty) = aggregate_call(rng, &from.scope);
        items.push(call);
        columns.push(ty);
    }
    if !keys.is_empty() && one_in(rng, 8) {
        let names: Vec<&str> = keys.iter().map(|k| k.name.as_str()).collect();
        items.push(format!("grouping({})", names.join(", ")));
        columns.push(Type::Int);
    }
    let list: Vec<String> = items.iter().enumerate().map(|(i, item)| format!("{item} AS c{i}")).collect();
    let mut sql = format!("SELECT {} FROM {}", list.join(", "), from.sql);
    if !keys.is_empty() {
        let names: Vec<&str> = keys.iter().map(|k| k.name.as_str()).collect();
        sql += &format!(" GROUP BY {}", grouping(rng, &names));
    }
    if one_in(rng, 4) {
        let having = match rng.random_range(0..4) {
            3 => {
                let c = pick(rng, &from.scope).name.clone();
                format!("count({c}) > 0 AND {}", predicate(rng, &keys, 1))
            }
            0 => "count(*) > 1".to_string(),
            1 => format!("count({}) < 3", pick(rng, &from.scope).name),
            _ => match column(rng, &from.scope, Type::Int) {
                Some(c) => format!("sum({c}) > 2 OR max({c}) IS NULL"),
                None => "count(*) <> 2".to_string(),
            },
        };
        sql += &format!(" HAVING {having}");
    }
    let columns = columns.into_iter().enumerate().map(|(i, ty)| Column { name: format!("c{i}"), ty }).collect();
    Query { sql, columns, weight: 1 }
}

fn aggregate_call(rng: &mut StdRng, scope: &[Column]) -> (String, Type) {
    let filter = if one_in(rng, 6) { format!(" FILTER (WHERE {})", predicate(rng, scope, 1)) } else { String::new() };
    let computable: Vec<&Column> = scope.iter().filter(|c| c.ty != Type::Inexact).collect();
    if computable.is_empty() || one_in(rng, 5) {
        return (format!("count(*){filter}"), Type::Bigint);
    }
    let ty = pick(rng, &computable).ty;
    let argument = expression(rng, scope, ty, 1);
    let number = ty.number();
    let distinct = if one_in(rng, 5) { "DISTINCT " } else { "" };
    match rng.random_range(0..12) {
        10 if ty.ordered() && !matches!(ty, Type::Array) => {
            let function = pick(rng, &["percentile_disc(0.4)", "mode()"]);
            (format!("{function} WITHIN GROUP (ORDER BY {argument}){filter}"), ty)
        }
        10 | 11 if matches!(ty, Type::Int | Type::Text) => {
            let order = pick(rng, &["", " DESC", " NULLS FIRST"]);
            match ty {
                Type::Int if one_in(rng, 2) => {
                    (format!("array_agg({distinct}{argument} ORDER BY {argument}{order}){filter}"), Type::Array)
                }
                _ => (format!("jsonb_agg({argument} ORDER BY {argument}{order}){filter}"), Type::Json),
            }
        }
        11 if number => (format!("percentile_cont(0.5) WITHIN GROUP (ORDER BY {argument}){filter}"), Type::Inexact),
        2..=4 if ty == Type::Interval => (format!("sum({argument}){filter}"), ty),
        8 if ty == Type::Text => {
            (format!("string_agg({distinct}{argument}, ',' ORDER BY {argument}){filter}"), Type::Text)
        }
        8 if matches!(ty, Type::Int | Type::Smallint | Type::Bigint) => {
            (format!("{}({argument}){filter}", pick(rng, &["bit_and", "bit_or", "bit_xor"])), ty)
        }
        9 if ty == Type::Double => {
            (format!("{}({argument}){filter}", pick(rng, &["var_pop", "stddev_samp"])), Type::Inexact)
        }
        9 if number => {
            let function = pick(rng, &["var_pop", "var_samp", "stddev_pop", "stddev_samp"]);
            (format!("round({function}({argument}){filter}, 4)"), Type::Numeric)
        }
        0 => (format!("count({argument}){filter}"), Type::Bigint),
        1 => (format!("count(DISTINCT {argument}){filter}"), Type::Bigint),
        2 | 3 if number => {
            let sum = match ty {
                Type::Smallint | Type::Int => Type::Bigint,
                Type::Double => Type::Double,
                _ => Type::Numeric,
            };
            (format!("sum({distinct}{argument}){filter}"), sum)
        }
        4 if ty == Type::Double => (format!("avg({argument}){filter}"), Type::Inexact),
        // A numeric average has 16 digits and more: rounded, it is the same everywhere.
        4 if number => (format!("round(avg({distinct}{argument}){filter}, 4)"), Type::Numeric),
        5 | 6 if ty.ordered() => (format!("{}({argument}){filter}", pick(rng, &["min", "max"])), ty),
        _ if ty == Type::Boolean => (format!("{}({argument}){filter}", pick(rng, &["bool_and", "bool_or"])), ty),
        _ if ty.ordered() => (format!("min({argument}){filter}"), ty),
        _ => (format!("count({argument}){filter}"), Type::Bigint),
    }
}

/// What stands after GROUP BY for the keys: often just them.
pub fn grouping(rng: &mut StdRng, keys: &[&str]) -> String {
    let list = keys.join(", ");
    match rng.random_range(0..16) {
        0 => format!("ROLLUP ({list})"),
        1 => format!("CUBE ({list})"),
        2 if keys.len() > 1 => format!("GROUPING SETS (({list}), ({}), ())", keys[1]),
        2 => format!("GROUPING SETS (({list}), ())"),
        3 => format!("GROUPING SETS (({list}), ROLLUP ({list}))"),
        4 if keys.len() > 1 => format!("{}, ROLLUP ({})", keys[0], keys[1..].join(", ")),
        5 if keys.len() > 1 => format!("GROUPING SETS ({}), CUBE ({})", keys[0], keys[1]),
        _ => list,
    }
}
