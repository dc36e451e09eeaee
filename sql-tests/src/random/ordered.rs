//! Random queries in which order matters: LIMIT and OFFSET, DISTINCT ON, window functions with frames, and
//! ranks compared with a constant; and GROUPING SETS.
//!
//! Every order is closed by all columns that are shown, so that rows it leaves equal are equal rows, and
//! each engine must give the same ones.

use rand::Rng;
use rand::rngs::StdRng;

use super::expression::{Column, Type, one_in, pick, predicate};
use super::query::{Query, Relation, project, some_types};

/// `inner`'s columns as `q.c0`, …
fn scope(inner: &Query) -> Vec<Column> {
    inner.columns.iter().map(|c| Column { name: format!("q.{}", c.name), ty: c.ty }).collect()
}

/// A query whose columns can all be compared exactly.
fn inner(rng: &mut StdRng, relations: &[Relation]) -> Query {
    let types = some_types(rng, relations);
    project(rng, relations, Some(&types))
}

fn key(rng: &mut StdRng, name: &str) -> String {
    let direction = *pick(rng, &["", "", " DESC", " ASC"]);
    let nulls = *pick(rng, &["", "", " NULLS FIRST", " NULLS LAST"]);
    format!("{name}{direction}{nulls}")
}

/// All columns in some order, after those of `first`.
fn total_order(rng: &mut StdRng, columns: &[Column], first: &[String]) -> String {
    let mut names: Vec<&str> =
        columns.iter().map(|c| c.name.as_str()).filter(|n| !first.iter().any(|f| f == n)).collect();
    for i in (1..names.len()).rev() {
        names.swap(i, rng.random_range(0..=i));
    }
    let names = first.iter().map(String::as_str).chain(names);
    let keys: Vec<String> = names.map(|name| key(rng, name)).collect();
    keys.join(", ")
}

/// `SELECT … ORDER BY … LIMIT … OFFSET …`.
pub fn top_n(rng: &mut StdRng, relations: &[Relation]) -> Query {
    let query = inner(rng, relations);
    let order = total_order(rng, &query.columns, &[]);
    let limit = rng.random_range(0..=6);
    let rows = match rng.random_range(0..6) {
        0 => format!("LIMIT {limit} OFFSET {}", rng.random_range(0..=3)),
        1 => format!("OFFSET {}", rng.random_range(0..=3)),
        2 => format!("FETCH FIRST {} ROWS ONLY", limit.max(1)),
        _ => format!("LIMIT {limit}"),
    };
    Query { sql: format!("{} ORDER BY {order} {rows}", query.sql), ..query }
}

pub fn distinct_on(rng: &mut StdRng, relations: &[Relation]) -> Query {
    let query = inner(rng, relations);
    let keys = rng.random_range(1..=query.columns.len());
    let keys: Vec<String> = query.columns[..keys].iter().map(|c| c.name.clone()).collect();
    let order = total_order(rng, &query.columns, &keys);
    let on = keys.join(", ");
    let sql = format!("SELECT DISTINCT ON ({on}) * FROM ({}) AS q ORDER BY {order}", query.sql);
    Query { sql, ..query }
}

/// `PARTITION BY …` of at most two columns, or nothing.
fn partition(rng: &mut StdRng, columns: &[Column]) -> String {
    let mut by: Vec<&str> = (0..rng.random_range(0..=2)).map(|_| pick(rng, columns).name.as_str()).collect();
    by.dedup();
    if by.is_empty() { String::new() } else { format!("PARTITION BY {} ", by.join(", ")) }
}

fn frame(rng: &mut StdRng) -> String {
    let unit = *pick(rng, &["ROWS", "ROWS", "GROUPS"]);
    let n = rng.random_range(0..=2);
    match rng.random_range(0..7) {
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
    match rng.random_range(0..12) {
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

/// The first rows of each partition, by a rank compared with a constant.
pub fn ranked(rng: &mut StdRng, relations: &[Relation]) -> Query {
    let query = inner(rng, relations);
    let scope = scope(&query);
    let function = *pick(rng, &["row_number", "rank", "dense_rank"]);
    let partition = partition(rng, &scope);
    // Ties are only told apart by row_number.
    let order = if function == "row_number" {
        total_order(rng, &scope, &[])
    } else {
        let name = pick(rng, &scope).name.clone();
        key(rng, &name)
    };
    let n = rng.random_range(1..=3);
    let condition = *pick(rng, &["<=", "<", "="]);
    let shown = one_in(rng, 2);
    let list: Vec<&str> = query.columns.iter().map(|c| c.name.as_str()).collect();
    let i = list.len();
    let number = if shown { format!(", n AS c{i}") } else { String::new() };
    let mut columns = query.columns.clone();
    if shown {
        columns.push(Column { name: format!("c{i}"), ty: Type::Bigint });
    }
    let sql = format!(
        "SELECT {}{number} FROM (SELECT q.*, {function}() OVER ({partition}ORDER BY {order}) AS n FROM ({}) AS q) AS z WHERE n {condition} {n}",
        list.join(", "),
        query.sql
    );
    Query { sql, columns, weight: query.weight }
}

/// What stands after GROUP BY for the keys: often just them.
pub fn grouping(rng: &mut StdRng, keys: &[&str]) -> String {
    let list = keys.join(", ");
    match rng.random_range(0..12) {
        0 => format!("ROLLUP ({list})"),
        1 => format!("CUBE ({list})"),
        2 if keys.len() > 1 => format!("GROUPING SETS (({list}), ({}), ())", keys[1]),
        2 => format!("GROUPING SETS (({list}), ())"),
        _ => list,
    }
}
