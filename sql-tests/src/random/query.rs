//! Random queries that a materialized view may have: filters, joins of up to three relations of every kind
//! with extra conditions, grouping with every aggregate, HAVING, DISTINCT, set operations, windows, what
//! `ordered` makes, subqueries in WHERE, FROM, WITH and the SELECT list.
//!
//! A relation's *weight* says how many base relations its rows may multiply; a join's is the sum, a
//! grouping's is 1. Nothing heavier than [`WEIGHT_MAX`] is made, so that results stay some thousand rows.

use rand::Rng;
use rand::rngs::StdRng;

use super::expression::{Column, Type, column, expression, literal, one_in, pick, predicate};
use super::ordered;

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
    if !one_in(rng, 12) {
        return body(rng, relations);
    }
    let Query { sql, columns, weight } = body(rng, relations);
    let with = Relation { name: "w".into(), columns, weight };
    // It is read more often than others.
    let relations: Vec<Relation> =
        relations.iter().chain(std::iter::repeat_n(&with, relations.len())).cloned().collect();
    let query = body(rng, &relations);
    Query { sql: format!("WITH w AS ({sql}) {}", query.sql), ..query }
}

fn body(rng: &mut StdRng, relations: &[Relation]) -> Query {
    match rng.random_range(0..25) {
        20 => ordered::top_n(rng, relations),
        21 => ordered::distinct_on(rng, relations),
        22 | 23 => ordered::windows(rng, relations),
        24 => ordered::ranked(rng, relations),
        0..=5 => project(rng, relations, None),
        6..=13 => aggregate(rng, relations),
        14 | 15 => distinct(rng, relations),
        16..=18 => union_all(rng, relations),
        _ => set_operation(rng, relations),
    }
}

/// `r0`, `r1`, …: what stands in FROM, and what may be named.
struct From {
    sql: String,
    scope: Vec<Column>,
    weight: u32,
    /// Aliases made so far.
    sources: usize,
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
fn from(rng: &mut StdRng, relations: &[Relation]) -> From {
    let mut from = source(rng, relations, 0, WEIGHT_MAX).expect("base relations are light");
    let wanted = *pick(rng, &[1, 1, 1, 2, 2, 2, 3]);
    while from.sources < wanted {
        let Some(right) = source(rng, relations, from.sources, WEIGHT_MAX.saturating_sub(from.weight)) else { break };
        if one_in(rng, 15) {
            let both: Vec<Column> = from.scope.iter().chain(&right.scope).cloned().collect();
            let (kind, condition) = match rng.random_range(0..3) {
                0 => ("CROSS JOIN", String::new()),
                1 => ("JOIN", format!(" ON {}", predicate(rng, &both, 1))),
                _ => ("LEFT JOIN", format!(" ON {}", predicate(rng, &both, 1))),
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

/// `l.a = r.b` over two columns of one type, or of two numeric ones.
fn equality(rng: &mut StdRng, left: &[Column], right: &[Column]) -> Option<String> {
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

/// A relation for a subquery.
fn light<'a>(rng: &mut StdRng, relations: &'a [Relation]) -> Option<&'a Relation> {
    let light: Vec<&Relation> = relations.iter().filter(|r| r.weight == 1).collect();
    if light.is_empty() { None } else { Some(*pick(rng, &light)) }
}

/// ` WHERE …` or nothing, at times with a subquery.
fn filter(rng: &mut StdRng, relations: &[Relation], scope: &[Column]) -> String {
    let mut conditions = Vec::new();
    if rng.random_bool(0.45) {
        conditions.push(predicate(rng, scope, 2));
    }
    if one_in(rng, 6) {
        let Some(inner) = light(rng, relations) else { return String::new() };
        let columns: Vec<Column> =
            inner.columns.iter().map(|c| Column { name: format!("x.{}", c.name), ty: c.ty }).collect();
        let restriction = if rng.random_bool(0.4) { predicate(rng, &columns, 1) } else { "true".into() };
        let pair =
            scope.iter().find_map(|o| columns.iter().find(|i| i.ty == o.ty && o.ty != Type::Inexact).map(|i| (o, i)));
        if let Some((outer, i)) = pair {
            let (ty, outer, i, name) = (outer.ty, &outer.name, &i.name, &inner.name);
            conditions.push(match rng.random_range(0..6) {
                0 => format!("{outer} IN (SELECT {i} FROM {name} AS x WHERE {restriction})"),
                1 => format!("{outer} NOT IN (SELECT {i} FROM {name} AS x WHERE {restriction})"),
                2 => format!("EXISTS (SELECT 1 FROM {name} AS x WHERE {i} = {outer} AND {restriction})"),
                3 if ty.ordered() => format!("{outer} >= (SELECT min({i}) FROM {name} AS x WHERE {restriction})"),
                4 => {
                    let other = predicate(rng, scope, 0);
                    match rng.random_range(0..4) {
                        0 => format!("({other} OR EXISTS (SELECT 1 FROM {name} AS x WHERE {i} = {outer}))"),
                        1 => format!("({other} OR NOT EXISTS (SELECT 1 FROM {name} AS x WHERE {i} = {outer}))"),
                        2 => format!("({other} OR {outer} IN (SELECT {i} FROM {name} AS x WHERE {restriction}))"),
                        _ => format!("({other} OR {outer} NOT IN (SELECT {i} FROM {name} AS x WHERE {restriction}))"),
                    }
                }
                _ => format!("NOT EXISTS (SELECT 1 FROM {name} AS x WHERE {i} = {outer} AND {restriction})"),
            });
        }
    }
    if conditions.is_empty() { String::new() } else { format!(" WHERE {}", conditions.join(" AND ")) }
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
        let scalar = if one_in(rng, 25) { scalar_subquery(rng, relations, &from.scope, ty) } else { None };
        let item = scalar.unwrap_or_else(|| expression(rng, &from.scope, ty, 2));
        items.push(format!("{item} AS c{i}"));
        columns.push(Column { name: format!("c{i}"), ty });
    }
    let filter = filter(rng, relations, &from.scope);
    Query { sql: format!("SELECT {} FROM {}{filter}", items.join(", "), from.sql), columns, weight: from.weight }
}

/// `(SELECT max(…) FROM … WHERE …)` of the type, correlated or not.
fn scalar_subquery(rng: &mut StdRng, relations: &[Relation], scope: &[Column], ty: Type) -> Option<String> {
    let inner = light(rng, relations)?;
    let columns: Vec<Column> =
        inner.columns.iter().map(|c| Column { name: format!("x.{}", c.name), ty: c.ty }).collect();
    let argument = column(rng, &columns, ty);
    let call = match argument {
        Some(argument) if ty.ordered() => format!("{}({argument})", pick(rng, &["min", "max"])),
        _ if ty == Type::Bigint => "count(*)".to_string(),
        _ => return None,
    };
    let correlation = if one_in(rng, 3) { None } else { equality(rng, &columns, scope) };
    let condition = correlation.unwrap_or_else(|| predicate(rng, &columns, 1));
    Some(format!("(SELECT {call} FROM {} AS x WHERE {condition})", inner.name))
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

fn union_all(rng: &mut StdRng, relations: &[Relation]) -> Query {
    let types = some_types(rng, relations);
    let branches: Vec<Query> = (0..rng.random_range(2..=3)).map(|_| project(rng, relations, Some(&types))).collect();
    let sql: Vec<&str> = branches.iter().map(|b| b.sql.as_str()).collect();
    let weight = branches.iter().map(|b| b.weight).max().expect("two at least");
    Query { sql: sql.join(" UNION ALL "), columns: branches[0].columns.clone(), weight }
}

fn set_operation(rng: &mut StdRng, relations: &[Relation]) -> Query {
    let types = some_types(rng, relations);
    let (a, b) = (project(rng, relations, Some(&types)), project(rng, relations, Some(&types)));
    let operation = pick(rng, &["UNION", "UNION", "EXCEPT", "INTERSECT"]);
    Query { sql: format!("{} {operation} {}", a.sql, b.sql), weight: a.weight.max(b.weight), columns: a.columns }
}

fn aggregate(rng: &mut StdRng, relations: &[Relation]) -> Query {
    let from = from(rng, relations);
    let filter = filter(rng, relations, &from.scope);
    let with_filter = From { sql: format!("{}{filter}", from.sql), ..from };
    aggregate_over(rng, with_filter)
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

fn aggregate_over(rng: &mut StdRng, from: From) -> Query {
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
    let list: Vec<String> = items.iter().enumerate().map(|(i, item)| format!("{item} AS c{i}")).collect();
    let mut sql = format!("SELECT {} FROM {}", list.join(", "), from.sql);
    if !keys.is_empty() {
        let names: Vec<&str> = keys.iter().map(|k| k.name.as_str()).collect();
        sql += &format!(" GROUP BY {}", ordered::grouping(rng, &names));
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
    match rng.random_range(0..10) {
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
