//! Random subqueries as conditions and as values: correlated with any query around them, one within the other,
//! IN, EXISTS, ANY, ALL and their negations, rows, and single values.

use rand::Rng;
use rand::rngs::StdRng;

use super::expression::{Column, OPERATORS, Type, column, literal, one_in, pick, predicate};
use super::from::{comparison, equality};
use super::query::Relation;

/// How deep subqueries stand in each other.
const DEPTH_MAX: usize = 3;

/// A relation for a subquery.
pub fn light<'a>(rng: &mut StdRng, relations: &'a [Relation]) -> Option<&'a Relation> {
    let light: Vec<&Relation> = relations.iter().filter(|r| r.weight == 1).collect();
    if light.is_empty() { None } else { Some(*pick(rng, &light)) }
}

/// ` WHERE …` or nothing, at times with a subquery.
pub fn filter(rng: &mut StdRng, relations: &[Relation], scope: &[Column]) -> String {
    let mut conditions = Vec::new();
    if rng.random_bool(0.45) {
        conditions.push(predicate(rng, scope, 2));
    }
    if one_in(rng, 5) {
        conditions.extend(condition(rng, relations, scope));
    }
    if one_in(rng, 40)
        && let Some(time) = column(rng, scope, Type::Timestamptz)
    {
        // True, and false: what changes while a case runs cannot be compared.
        let clock = pick(rng, &["<= now()", "> now() - INTERVAL '1 day'"]);
        conditions.push(format!("{time} {clock}"));
    }
    if conditions.is_empty() { String::new() } else { format!(" WHERE {}", conditions.join(" AND ")) }
}

/// A condition with a subquery over columns in scope; NULL in places.
pub fn condition(rng: &mut StdRng, relations: &[Relation], scope: &[Column]) -> Option<String> {
    condition_at(rng, relations, scope, 1)
}

/// A single value of the type, from a subquery.
pub fn value(rng: &mut StdRng, relations: &[Relation], scope: &[Column], ty: Type) -> Option<String> {
    if ty == Type::Boolean {
        return condition(rng, relations, scope).map(|c| format!("({c})"));
    }
    value_at(rng, relations, scope, ty, 1)
}

/// What is read by a subquery: its own columns, and `FROM … WHERE …`.
struct Inner {
    columns: Vec<Column>,
    from: String,
}

/// A relation under a name of its own, or two, correlated with what is around it, or not.
fn inner(rng: &mut StdRng, relations: &[Relation], outer: &[Column], depth: usize) -> Option<Inner> {
    let relation = light(rng, relations)?;
    let named = |relation: &Relation, alias: &str| -> Vec<Column> {
        relation.columns.iter().map(|c| Column { name: format!("{alias}.{}", c.name), ty: c.ty }).collect()
    };
    let mut columns = named(relation, &format!("x{depth}"));
    let mut from = format!("FROM {} AS x{depth}", relation.name);
    let mut own_names: Vec<&str> = relation.columns.iter().map(|c| c.name.as_str()).collect();
    let mut conditions = Vec::new();
    // Two of them have columns of one name.
    if one_in(rng, 3)
        && let Some(other) = light(rng, relations)
    {
        let others = named(other, &format!("y{depth}"));
        if let Some(on) = equality(rng, &columns, &others) {
            match rng.random_range(0..4) {
                0 => {
                    from = format!("{from}, {} AS y{depth}", other.name);
                    conditions.push(on);
                }
                1 => from = format!("{from} LEFT JOIN {} AS y{depth} ON {on}", other.name),
                _ => from = format!("{from} JOIN {} AS y{depth} ON {on}", other.name),
            }
            columns.extend(others);
            own_names.extend(other.columns.iter().map(|c| c.name.as_str()));
        }
    }
    // A column that USING has merged has no table's name: where this relation has one of that name, it means that.
    let means_own = |c: &&Column| !c.name.contains('.') && own_names.iter().any(|own| c.name.contains(own));
    let outer: Vec<Column> = outer.iter().filter(|c| !means_own(c)).cloned().collect();
    match rng.random_range(0..8) {
        0 => {}
        1 if depth == 1 => conditions.extend(comparison(rng, &columns, &outer)),
        2 => {
            conditions.extend(equality(rng, &columns, &outer));
            conditions.extend(equality(rng, &columns, &outer));
        }
        _ => conditions.extend(equality(rng, &columns, &outer)),
    }
    if rng.random_bool(0.4) {
        conditions.push(predicate(rng, &columns, 1));
    }
    if depth < DEPTH_MAX && one_in(rng, 4) {
        // With columns of all that is around.
        let all: Vec<Column> = columns.iter().chain(&outer).cloned().collect();
        conditions.extend(condition_at(rng, relations, &all, depth + 1));
    }
    let filter = if conditions.is_empty() { String::new() } else { format!(" WHERE {}", conditions.join(" AND ")) };
    Some(Inner { columns, from: format!("{from}{filter}") })
}

/// Pairs of an outer and an inner column that can be compared.
fn pairs<'a>(outer: &'a [Column], inner: &'a [Column]) -> Vec<(&'a Column, &'a Column)> {
    let fits = |o: &Column, i: &Column| o.ty == i.ty && o.ty != Type::Inexact;
    outer.iter().flat_map(|o| inner.iter().filter(move |i| fits(o, i)).map(move |i| (o, i))).collect()
}

fn condition_at(rng: &mut StdRng, relations: &[Relation], scope: &[Column], depth: usize) -> Option<String> {
    let Inner { columns, from } = inner(rng, relations, scope, depth)?;
    let pairs = pairs(scope, &columns);
    let not = *pick(rng, &["", "NOT "]);
    if pairs.is_empty() || one_in(rng, 3) {
        let exists = match rng.random_range(0..8) {
            0 => format!("{not}EXISTS (SELECT count(*) {from} HAVING count(*) > 1)"),
            1 => {
                let other = inner(rng, relations, scope, depth)?;
                let operation = pick(rng, &["UNION ALL", "UNION", "EXCEPT", "INTERSECT"]);
                format!("{not}EXISTS (SELECT 1 {from} {operation} SELECT 1 {})", other.from)
            }
            _ => format!("{not}EXISTS (SELECT 1 {from})"),
        };
        return Some(or_else(rng, scope, exists));
    }
    let (o, i) = *pick(rng, &pairs);
    let (outer, own, ty) = (&o.name, &i.name, o.ty);
    let operator = *pick(rng, &OPERATORS);
    let condition = match rng.random_range(0..10) {
        0 | 1 => format!("{outer} {not}IN (SELECT {own} {from})"),
        // Aggregates of the query around are not understood in a row before IN (42803).
        2 if scope.iter().all(|c| !c.name.contains('(')) => {
            let (p, q) = *pick(rng, &pairs);
            format!("({outer}, {}) {not}IN (SELECT {own}, {} {from})", p.name, q.name)
        }
        // There is no least boolean in SQL, by which these are known, and no least jsonb.
        3 | 4 if !matches!(ty, Type::Boolean | Type::Json) => {
            let quantifier = pick(rng, &["ANY", "ALL"]);
            format!("{outer} {operator} {quantifier} (SELECT {own} {from})")
        }
        5 => format!("{outer} {not}IN (SELECT {own} {from} GROUP BY {own} HAVING count(*) > 1)"),
        6 => {
            let other = inner(rng, relations, scope, depth)?;
            let operation = pick(rng, &["UNION ALL", "UNION", "EXCEPT", "INTERSECT"]);
            let own_other = column(rng, &other.columns, ty)?;
            format!("{outer} {not}IN (SELECT {own} {from} {operation} SELECT {own_other} {})", other.from)
        }
        7 => {
            let (p, q) = *pick(rng, &pairs);
            let rows = format!("SELECT {own}, {} {from} ORDER BY {own}, {} LIMIT 1", q.name, q.name);
            format!("({outer}, {}) {operator} ({rows})", p.name)
        }
        _ => format!("{outer} {operator} {}", value_at(rng, relations, scope, ty, depth)?),
    };
    Some(or_else(rng, scope, condition))
}

/// The condition, or beside another one, or negated.
fn or_else(rng: &mut StdRng, scope: &[Column], condition: String) -> String {
    match rng.random_range(0..8) {
        0 => format!("({} OR {condition})", predicate(rng, scope, 0)),
        1 => format!("(NOT ({condition}))"),
        2 => format!("(({condition}) IS NOT TRUE)"),
        3 => format!("(CASE WHEN {} THEN {condition} ELSE {condition} IS NULL END)", predicate(rng, scope, 0)),
        _ => condition,
    }
}

fn value_at(rng: &mut StdRng, relations: &[Relation], scope: &[Column], ty: Type, depth: usize) -> Option<String> {
    let Inner { columns, from } = inner(rng, relations, scope, depth)?;
    let own = column(rng, &columns, ty);
    let call = match (own, rng.random_range(0..5)) {
        (_, 0) if ty == Type::Bigint => "count(*)".to_string(),
        (_, 1) if ty == Type::Array => {
            let number = column(rng, &columns, Type::Int)?;
            return Some(format!("ARRAY(SELECT {number} {from} ORDER BY {number} LIMIT 3)"));
        }
        (Some(own), 1 | 2) if ty != Type::Inexact => {
            let order = pick(rng, &["", " DESC", " NULLS FIRST", " DESC NULLS LAST"]);
            let offset = pick(rng, &["", "", " OFFSET 1"]);
            return Some(format!("(SELECT {own} {from} ORDER BY {own}{order} LIMIT 1{offset})"));
        }
        (Some(own), _) if ty.ordered() => format!("{}({own})", pick(rng, &["min", "max"])),
        (_, _) if ty == Type::Bigint => "count(*)".to_string(),
        _ => return None,
    };
    Some(match rng.random_range(0..6) {
        0 => format!("(SELECT {call} {from} HAVING count(*) > 1)"),
        1 => format!("coalesce((SELECT {call} {from}), {})", literal(rng, ty)),
        _ => format!("(SELECT {call} {from})"),
    })
}
