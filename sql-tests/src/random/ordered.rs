//! Random queries in which order matters: LIMIT and OFFSET, WITH TIES, DISTINCT ON, ranks compared with a
//! constant, and names that are hidden by others.
//!
//! Every order is closed by all columns that are shown, so that rows it leaves equal are equal rows, and
//! each engine must give the same ones.

use rand::Rng;
use rand::rngs::StdRng;

use super::expression::{Column, Type, one_in, pick};
use super::query::{Query, Relation, project, some_types};

/// `inner`'s columns as `q.c0`, …
pub fn scope(inner: &Query) -> Vec<Column> {
    inner.columns.iter().map(|c| Column { name: format!("q.{}", c.name), ty: c.ty }).collect()
}

/// A query whose columns can all be compared exactly.
pub fn inner(rng: &mut StdRng, relations: &[Relation]) -> Query {
    let types = some_types(rng, relations);
    project(rng, relations, Some(&types))
}

pub fn key(rng: &mut StdRng, name: &str) -> String {
    let direction = *pick(rng, &["", "", " DESC", " ASC"]);
    let nulls = *pick(rng, &["", "", " NULLS FIRST", " NULLS LAST"]);
    format!("{name}{direction}{nulls}")
}

/// All columns in some order, after those of `first`.
pub fn total_order(rng: &mut StdRng, columns: &[Column], first: &[String]) -> String {
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
    if one_in(rng, 4) {
        return renamed(rng, query);
    }
    if one_in(rng, 4) {
        // Ties are all shown, so this order need not be closed.
        let name = pick(rng, &query.columns).name.clone();
        let key = key(rng, &name);
        let rows = format!("FETCH FIRST {} ROWS WITH TIES", rng.random_range(1..=4));
        return Query { sql: format!("{} ORDER BY {key} {rows}", query.sql), ..query };
    }
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

/// Columns under each other's names, by expressions of those that are hidden so.
fn renamed(rng: &mut StdRng, query: Query) -> Query {
    let by = rng.random_range(0..query.columns.len());
    let shown = query.columns.iter().cycle().skip(by).zip(&query.columns);
    let list: Vec<String> = shown.clone().map(|(column, name)| format!("{} AS {}", column.name, name.name)).collect();
    let columns = shown.map(|(column, name)| Column { name: name.name.clone(), ty: column.ty }).collect();
    let hidden = |c: &Column| Column { name: format!("coalesce({0}, {0})", c.name), ty: c.ty };
    let hidden: Vec<Column> = query.columns.iter().map(hidden).collect();
    let order = total_order(rng, &hidden, &[]);
    let (list, limit) = (list.join(", "), rng.random_range(1..=6));
    let sql = format!("SELECT {list} FROM ({}) AS q ORDER BY {order} LIMIT {limit}", query.sql);
    Query { sql, columns, ..query }
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
pub fn partition(rng: &mut StdRng, columns: &[Column]) -> String {
    let mut by: Vec<&str> = (0..rng.random_range(0..=2)).map(|_| pick(rng, columns).name.as_str()).collect();
    by.dedup();
    if by.is_empty() { String::new() } else { format!("PARTITION BY {} ", by.join(", ")) }
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
