//! Random window functions, with frames of every unit.
//!
//! Either one window whose order is closed by all columns that are shown, so that rows it leaves equal are equal rows; or
//! functions and frames that do not tell peers apart.

use rand::Rng;
use rand::rngs::StdRng;

use super::expression::{Column, Type, literal, one_in, pick, predicate};
use super::ordered::{inner, key, partition, scope, total_order};
use super::query::{Query, Relation};

fn frame(rng: &mut StdRng) -> String {
    let unit = *pick(rng, &["ROWS", "ROWS", "GROUPS"]);
    let n = rng.random_range(0..=2);
    match rng.random_range(0..9) {
        7 => format!(" {unit} BETWEEN {} PRECEDING AND {n} PRECEDING", n + 1),
        8 => format!(" {unit} BETWEEN {n} FOLLOWING AND {} FOLLOWING", n + 1),
        0 => format!(" {unit} BETWEEN {n} PRECEDING AND CURRENT ROW"),
        1 => format!(" {unit} BETWEEN {n} PRECEDING AND {} FOLLOWING", rng.random_range(0..=2)),
        2 => format!(" {unit} BETWEEN CURRENT ROW AND UNBOUNDED FOLLOWING"),
        3 => " ROWS UNBOUNDED PRECEDING".to_string(),
        4 => " RANGE BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING".to_string(),
        _ => String::new(),
    }
}

/// A window function's call without its OVER, and its type; whether it takes a frame.
fn window_call(rng: &mut StdRng, columns: &[Column]) -> (String, Type, bool) {
    let column = pick(rng, columns).clone();
    let (name, ty) = (&column.name, column.ty);
    let i = rng.random_range(1..=2);
    match rng.random_range(0..16) {
        11 => (format!("nth_value({name}, {i})"), ty, true),
        12 if ty != Type::Inexact => (format!("lag({name}, {i}, {})", literal(rng, ty)), ty, false),
        13 => (format!("lead({name}, 0)"), ty, false),
        14 => (format!("count({name}) FILTER (WHERE {})", predicate(rng, columns, 1)), Type::Bigint, true),
        15 if matches!(ty, Type::Smallint | Type::Bigint) => {
            (format!("{}({name})", pick(rng, &["bit_and", "bit_or"])), ty, true)
        }
        15 if ty == Type::Int => (format!("array_agg({name})"), Type::Array, true),
        15 if ty == Type::Boolean => (format!("{}({name})", pick(rng, &["bool_and", "bool_or"])), ty, true),
        15 if ty == Type::Text => (format!("string_agg({name}, ',')"), ty, true),
        0 => ("row_number()".into(), Type::Bigint, false),
        1 => ("rank()".into(), Type::Bigint, false),
        2 => ("dense_rank()".into(), Type::Bigint, false),
        3 => (format!("ntile({})", rng.random_range(1..=3)), Type::Int, false),
        4 => (format!("lag({name})"), ty, false),
        5 => (format!("lead({name}, {})", rng.random_range(1..=2)), ty, false),
        6 => (format!("first_value({name})"), ty, true),
        7 => (format!("last_value({name})"), ty, true),
        8 if matches!(ty, Type::Smallint | Type::Int) => (format!("sum({name})"), Type::Bigint, true),
        9 if ty.ordered() => (format!("{}({name})", pick(rng, &["min", "max"])), ty, true),
        10 => (format!("count({name})"), Type::Bigint, true),
        _ => ("count(*)".into(), Type::Bigint, true),
    }
}

pub fn windows(rng: &mut StdRng, relations: &[Relation]) -> Query {
    let query = inner(rng, relations);
    let scope = scope(&query);
    let mut items: Vec<String> = scope.iter().enumerate().map(|(i, c)| format!("{} AS c{i}", c.name)).collect();
    let mut columns = query.columns.clone();
    // Of one window: two orders may each put identical rows as they like, so which results meet in a row would be open.
    let (partition, order) = (partition(rng, &scope), total_order(rng, &scope, &[]));
    for _ in 0..rng.random_range(1..=2) {
        let (call, ty, framed) = window_call(rng, &scope);
        let frame = if framed { frame(rng) } else { String::new() };
        let i = columns.len();
        items.push(format!("{call} OVER ({partition}ORDER BY {order}{frame}) AS c{i}"));
        columns.push(Column { name: format!("c{i}"), ty });
    }
    let filter = if one_in(rng, 4) { format!(" WHERE {}", predicate(rng, &scope, 1)) } else { String::new() };
    let sql = format!("SELECT {} FROM ({}) AS q{filter}", items.join(", "), query.sql);
    Query { sql, columns, weight: query.weight }
}

/// Window functions that treat peers alike, so that each may have a window of its own, whose order leaves rows equal.
pub fn peers(rng: &mut StdRng, relations: &[Relation]) -> Query {
    let query = inner(rng, relations);
    let scope = scope(&query);
    let mut items: Vec<String> = scope.iter().enumerate().map(|(i, c)| format!("{} AS c{i}", c.name)).collect();
    let mut columns = query.columns.clone();
    for _ in 0..rng.random_range(1..=3) {
        let order = pick(rng, &scope).clone();
        let partition = partition(rng, &scope);
        let argument = pick(rng, &scope).clone();
        let (name, ty) = (&argument.name, argument.ty);
        let framed = format!("{}{}", key(rng, &order.name), peer_frame(rng, order.ty));
        let (call, ty, over) = match rng.random_range(0..8) {
            0 => ("rank()".into(), Type::Bigint, key(rng, &order.name)),
            1 => ("dense_rank()".into(), Type::Bigint, key(rng, &order.name)),
            2 => ("percent_rank()".into(), Type::Inexact, key(rng, &order.name)),
            3 => ("cume_dist()".into(), Type::Inexact, key(rng, &order.name)),
            4 if matches!(ty, Type::Smallint | Type::Int) => (format!("sum({name})"), Type::Bigint, framed),
            5 if ty.ordered() => (format!("{}({name})", pick(rng, &["min", "max"])), ty, framed),
            6 => (format!("count({name}) FILTER (WHERE {})", predicate(rng, &scope, 1)), Type::Bigint, framed),
            _ => (format!("count({name})"), Type::Bigint, framed),
        };
        let i = columns.len();
        items.push(format!("{call} OVER ({partition}ORDER BY {over}) AS c{i}"));
        columns.push(Column { name: format!("c{i}"), ty });
    }
    let sql = format!("SELECT {} FROM ({}) AS q", items.join(", "), query.sql);
    Query { sql, columns, weight: query.weight }
}

/// A frame that begins and ends between peers; by distance where the order is of a type that has one.
fn peer_frame(rng: &mut StdRng, order: Type) -> String {
    let (unit, steps) = match order {
        Type::Smallint | Type::Int | Type::Bigint if one_in(rng, 2) => ("RANGE", ["1", "2"]),
        Type::Numeric if one_in(rng, 2) => ("RANGE", ["0.5", "1.25"]),
        Type::Date | Type::Timestamp | Type::Timestamptz | Type::Interval if one_in(rng, 2) => {
            ("RANGE", ["INTERVAL '30 seconds'", "INTERVAL '26 hours'"])
        }
        _ => ("GROUPS", ["1", "2"]),
    };
    let [near, far] = steps;
    match rng.random_range(0..7) {
        0 => format!(" {unit} BETWEEN {near} PRECEDING AND CURRENT ROW"),
        1 => format!(" {unit} BETWEEN {far} PRECEDING AND {near} FOLLOWING"),
        2 => format!(" {unit} BETWEEN {far} PRECEDING AND {near} PRECEDING"),
        3 => format!(" {unit} BETWEEN {near} FOLLOWING AND UNBOUNDED FOLLOWING"),
        4 => format!(" {unit} BETWEEN UNBOUNDED PRECEDING AND {near} FOLLOWING"),
        5 => " RANGE BETWEEN CURRENT ROW AND UNBOUNDED FOLLOWING".to_string(),
        _ => String::new(),
    }
}
