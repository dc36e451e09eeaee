//! Random scalar expressions and predicates, typed, over columns in scope.
//!
//! Domains are small, so that joins match, groups repeat and duplicates come; nothing can overflow or
//! divide by zero, so every error is a finding. Doubles are multiples of 1/4 (or NaN), whose sums are exact
//! in any order; what is not ([`Type::Inexact`]) is shown but never computed with.

use rand::Rng;
use rand::rngs::StdRng;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Type {
    Smallint,
    Int,
    Bigint,
    Text,
    Numeric,
    Double,
    Boolean,
    Date,
    Timestamp,
    Timestamptz,
    /// Of hours, minutes and seconds only: spans of the same length are then the same text.
    Interval,
    Bytea,
    /// `int[]`, NULLs within included.
    Array,
    /// jsonb whose numbers are whole.
    Json,
    /// A double that another order of the same additions may change in its last bits: an average.
    Inexact,
}

/// What columns of base relations can have.
pub const COLUMN_TYPES: [Type; 17] = [
    Type::Int,
    Type::Int,
    Type::Int,
    Type::Text,
    Type::Smallint,
    Type::Bigint,
    Type::Text,
    Type::Numeric,
    Type::Double,
    Type::Boolean,
    Type::Date,
    Type::Timestamp,
    Type::Timestamptz,
    Type::Interval,
    Type::Bytea,
    Type::Array,
    Type::Json,
];

impl Type {
    pub fn sql(self) -> &'static str {
        match self {
            Type::Smallint => "smallint",
            Type::Int => "int",
            Type::Bigint => "bigint",
            Type::Text => "text",
            Type::Numeric => "numeric(8,2)",
            Type::Double | Type::Inexact => "double precision",
            Type::Boolean => "boolean",
            Type::Date => "date",
            Type::Timestamp => "timestamp",
            Type::Timestamptz => "timestamptz",
            Type::Interval => "interval",
            Type::Bytea => "bytea",
            Type::Array => "int[]",
            Type::Json => "jsonb",
        }
    }
    pub fn number(self) -> bool {
        matches!(self, Type::Smallint | Type::Int | Type::Bigint | Type::Numeric | Type::Double)
    }
    /// Whether it has min and max.
    pub fn ordered(self) -> bool {
        !matches!(self, Type::Boolean | Type::Bytea | Type::Json | Type::Inexact)
    }
    pub fn whole(self) -> bool {
        matches!(self, Type::Smallint | Type::Int | Type::Bigint)
    }
}

/// A column as an expression names it, e.g. `r0.c1`.
#[derive(Debug, Clone)]
pub struct Column {
    pub name: String,
    pub ty: Type,
}

pub fn pick<'a, T>(rng: &mut StdRng, items: &'a [T]) -> &'a T {
    &items[rng.random_range(0..items.len())]
}

/// One in how many.
pub fn one_in(rng: &mut StdRng, n: u32) -> bool {
    rng.random_range(0..n) == 0
}

/// A value as it stands in a VALUES list.
pub fn value(rng: &mut StdRng, ty: Type) -> String {
    match ty {
        Type::Smallint | Type::Int => rng.random_range(-2..=4).to_string(),
        Type::Bigint => pick(rng, &["0", "1", "2", "3", "-1", "5000000000"]).to_string(),
        Type::Text => pick(rng, &["'a'", "'b'", "'c'", "''", "'ab'", "'B'"]).to_string(),
        Type::Numeric => pick(rng, &["0", "1", "0.5", "1.25", "2.00", "-1.5"]).to_string(),
        Type::Double | Type::Inexact if one_in(rng, 40) => "'NaN'".to_string(),
        Type::Double | Type::Inexact => pick(rng, &["0", "1", "0.5", "1.25", "-2", "100"]).to_string(),
        Type::Boolean => pick(rng, &["true", "false"]).to_string(),
        Type::Date => format!("'2024-01-0{}'", rng.random_range(1..=4)),
        Type::Interval => pick(rng, &["'1 minute'", "'00:01:30'", "'-00:00:30'", "'1 hour'", "'0'"]).to_string(),
        Type::Bytea => pick(rng, &["'\\x01'", "'\\x'", "'\\x0102'", "'\\xff'"]).to_string(),
        Type::Array => pick(rng, &["'{}'", "'{1,2}'", "'{2}'", "'{1,NULL}'", "'{0,1,2}'", "'{NULL}'"]).to_string(),
        Type::Json => {
            pick(rng, &["'{\"a\": 1}'", "'[1, 2]'", "'\"a\"'", "'1'", "'null'", "'{\"a\": [1], \"b\": null}'", "'{}'"])
                .to_string()
        }
        Type::Timestamp | Type::Timestamptz => pick(
            rng,
            &[
                "'2024-01-01 00:00:00'",
                "'2024-01-01 00:00:30'",
                "'2024-01-01 00:01:00'",
                "'2024-01-01 00:01:30.5'",
                "'2024-01-01 00:05:00'",
                "'2024-01-01 01:00:00'",
                "'2024-01-02 00:00:00'",
            ],
        )
        .to_string(),
    }
}

/// A value that carries its type, for use in expressions.
pub fn literal(rng: &mut StdRng, ty: Type) -> String {
    let value = value(rng, ty);
    match ty {
        Type::Int if value.starts_with('-') => format!("({value})"),
        Type::Int | Type::Boolean => value,
        Type::Numeric => format!("({value}::numeric(8,2))"),
        _ if value.starts_with('-') => format!("(({value})::{})", ty.sql()),
        _ => format!("({value}::{})", ty.sql()),
    }
}

/// A column of the type, if there is one.
pub fn column(rng: &mut StdRng, scope: &[Column], ty: Type) -> Option<String> {
    let fitting: Vec<&Column> = scope.iter().filter(|c| c.ty == ty).collect();
    if fitting.is_empty() { None } else { Some(pick(rng, &fitting).name.clone()) }
}

fn leaf(rng: &mut StdRng, scope: &[Column], ty: Type) -> String {
    if !one_in(rng, 6) {
        if let Some(name) = column(rng, scope, ty) {
            return name;
        }
    }
    literal(rng, ty)
}

/// An expression of the type, nested at most `depth` deep.
pub fn expression(rng: &mut StdRng, scope: &[Column], ty: Type, depth: u32) -> String {
    if depth == 0 || rng.random_bool(0.45) || ty == Type::Inexact {
        return leaf(rng, scope, ty);
    }
    let d = depth - 1;
    match rng.random_range(0..10) {
        0 => {
            let (p, a, b) = (predicate(rng, scope, d), expression(rng, scope, ty, d), expression(rng, scope, ty, d));
            return format!("CASE WHEN {p} THEN {a} ELSE {b} END");
        }
        1 => return format!("coalesce({}, {})", expression(rng, scope, ty, d), literal(rng, ty)),
        2 => return format!("nullif({}, {})", expression(rng, scope, ty, d), literal(rng, ty)),
        _ => {}
    }
    let mut sub = |ty| expression(rng, scope, ty, d);
    match ty {
        // Nothing that grows: a smallint is soon full.
        Type::Smallint => {
            let a = sub(Type::Smallint);
            match rng.random_range(0..4) {
                0 => format!("({a} % 3::smallint)"),
                1 => format!("abs({a})"),
                2 => format!("least({a}, {})", leaf(rng, scope, Type::Smallint)),
                _ => format!("(-{a})"),
            }
        }
        Type::Int => {
            let a = sub(Type::Int);
            match rng.random_range(0..9) {
                7 => format!("cardinality({})", leaf(rng, scope, Type::Array)),
                8 => format!("({})[{}]", leaf(rng, scope, Type::Array), rng.random_range(1..=3)),
                0 => format!("({a} + 1)"),
                1 => format!("({a} - {})", leaf(rng, scope, Type::Int)),
                2 => format!("({a} * 2)"),
                3 => format!("({a} % 3)"),
                4 => format!("abs({a})"),
                5 => format!("length({})", expression(rng, scope, Type::Text, d)),
                _ => format!("(-{a})"),
            }
        }
        Type::Bigint => {
            let a = sub(Type::Bigint);
            match rng.random_range(0..5) {
                0 => format!("({a} + {})", expression(rng, scope, Type::Int, d)),
                4 => format!("({a} - {})", leaf(rng, scope, Type::Smallint)),
                1 => format!("({a} % 7)"),
                2 => format!("({}::bigint)", expression(rng, scope, Type::Int, d)),
                _ => format!("({a} * 2)"),
            }
        }
        Type::Text => {
            let a = sub(Type::Text);
            match rng.random_range(0..12) {
                8 => format!("({} ->> 'a')", leaf(rng, scope, Type::Json)),
                9 => format!("jsonb_typeof({})", leaf(rng, scope, Type::Json)),
                10 => format!("encode({}, 'hex')", leaf(rng, scope, Type::Bytea)),
                11 => format!("array_to_string({}, ',', '-')", leaf(rng, scope, Type::Array)),
                6 => format!("({a} || {})", leaf(rng, scope, Type::Int)),
                7 => format!("({}::text)", leaf(rng, scope, Type::Date)),
                0 => format!("upper({a})"),
                1 => format!("({a} || {})", literal(rng, Type::Text)),
                2 => format!("substr({a}, 1, 1)"),
                3 => format!("({}::text)", expression(rng, scope, Type::Int, d)),
                4 => format!("replace({a}, 'a', 'x')"),
                _ => format!("lower({a})"),
            }
        }
        Type::Numeric => {
            let a = sub(Type::Numeric);
            match rng.random_range(0..6) {
                0 => format!("({a} + 1.5)"),
                1 => format!("({a} * 2)"),
                2 => format!("round({a}, 1)"),
                3 => format!("({a} - {})", leaf(rng, scope, Type::Int)),
                4 => format!("round({a} / 3, 2)"),
                _ => format!("abs({a})"),
            }
        }
        Type::Double => {
            let a = sub(Type::Double);
            match rng.random_range(0..4) {
                0 => format!("({a} + 0.5::double precision)"),
                1 => format!("({a} * 2)"),
                2 => format!("({}::double precision)", expression(rng, scope, Type::Int, d)),
                _ => format!("abs({a})"),
            }
        }
        Type::Boolean => format!("({})", predicate(rng, scope, d)),
        Type::Date => {
            let a = sub(Type::Date);
            match rng.random_range(0..3) {
                0 => format!("({a} + 1)"),
                1 => format!("(({a}) - 1)"),
                _ => format!("({}::date)", leaf(rng, scope, Type::Timestamp)),
            }
        }
        Type::Timestamp | Type::Timestamptz => {
            let a = sub(ty);
            match rng.random_range(0..5) {
                0 => format!("({a} + INTERVAL '1 minute')"),
                4 => format!("({a} - {})", leaf(rng, scope, Type::Interval)),
                1 => format!("date_trunc('minute', {a})"),
                2 => format!("({a} - INTERVAL '1 day')"),
                _ => format!("date_bin(INTERVAL '2 minutes', {a}, {} '2000-01-01')", ty.sql()),
            }
        }
        Type::Interval => {
            let a = sub(Type::Interval);
            match rng.random_range(0..4) {
                0 => format!("({a} + INTERVAL '30 seconds')"),
                1 => format!("(-{a})"),
                2 => format!("({a} * 2)"),
                _ => format!("make_interval(mins => {})", leaf(rng, scope, Type::Int)),
            }
        }
        Type::Bytea => {
            let a = sub(Type::Bytea);
            match rng.random_range(0..3) {
                0 => format!("({a} || '\\x01'::bytea)"),
                1 => format!("decode(left(encode({a}, 'hex'), 2), 'hex')"),
                _ => format!("convert_to({}, 'UTF8')", leaf(rng, scope, Type::Text)),
            }
        }
        Type::Array => {
            let a = sub(Type::Array);
            match rng.random_range(0..5) {
                0 => format!("({a} || {})", leaf(rng, scope, Type::Int)),
                1 => format!("array_remove({a}, 1)"),
                2 => format!("ARRAY[{}, {}]", leaf(rng, scope, Type::Int), leaf(rng, scope, Type::Int)),
                3 => format!("({a})[1:2]"),
                _ => format!("array_append({a}, {})", leaf(rng, scope, Type::Int)),
            }
        }
        Type::Json => {
            let a = sub(Type::Json);
            match rng.random_range(0..5) {
                0 => format!("({a} -> 'a')"),
                1 => format!("jsonb_build_object('k', {})", leaf(rng, scope, Type::Int)),
                2 => format!("to_jsonb({})", leaf(rng, scope, Type::Text)),
                3 => format!("jsonb_build_array({}, {a})", leaf(rng, scope, Type::Int)),
                _ => format!("to_jsonb({})", leaf(rng, scope, Type::Array)),
            }
        }
        Type::Inexact => unreachable!("a leaf above"),
    }
}

pub const OPERATORS: [&str; 6] = ["=", "<>", "<", "<=", ">", ">="];

/// Two columns compared as a row.
fn rows(rng: &mut StdRng, [a, b]: [&Column; 2]) -> String {
    let row = format!("({}, {})", a.name, b.name);
    let mut values = || format!("({}, {})", literal(rng, a.ty), literal(rng, b.ty));
    let (first, second) = (values(), values());
    match rng.random_range(0..4) {
        0 => format!("({row} IN ({first}, {second}))"),
        1 => format!("({row} NOT IN ({first}, {second}))"),
        2 => format!("(ROW{row} IS DISTINCT FROM ROW{first})"),
        _ => format!("({row} {} {first})", pick(rng, &OPERATORS)),
    }
}

/// A condition; NULL in places.
pub fn predicate(rng: &mut StdRng, scope: &[Column], depth: u32) -> String {
    if depth > 0 && one_in(rng, 3) {
        let (a, b) = (predicate(rng, scope, depth - 1), predicate(rng, scope, depth - 1));
        return match rng.random_range(0..5) {
            0 | 1 => format!("({a} AND {b})"),
            2 | 3 => format!("({a} OR {b})"),
            _ => format!("(NOT {a})"),
        };
    }
    let computable: Vec<&Column> = scope.iter().filter(|c| c.ty != Type::Inexact).collect();
    if computable.is_empty() {
        return "true".into();
    }
    let c = *pick(rng, &computable);
    let (name, ty) = (&c.name, c.ty);
    if ty == Type::Boolean {
        return match rng.random_range(0..4) {
            0 => name.clone(),
            1 => format!("(NOT {name})"),
            2 => format!("({name} IS NOT TRUE)"),
            _ => format!("({name} IS NULL)"),
        };
    }
    let operator = *pick(rng, &OPERATORS);
    match (ty, rng.random_range(0..3)) {
        (Type::Array, 0) => return format!("(1 = ANY ({name}))"),
        (Type::Array, 1) => return format!("({name} @> '{{1}}'::int[])"),
        (Type::Json, 0) => return format!("({name} ? 'a')"),
        (Type::Json, 1) => return format!("({name} @> '1'::jsonb)"),
        _ => {}
    }
    if one_in(rng, 12) {
        let other = (*pick(rng, &computable)).clone();
        return rows(rng, [c, &other]);
    }
    match rng.random_range(0..10) {
        0 => format!("({name} IS NULL)"),
        1 => format!("({name} IS NOT NULL)"),
        2 => format!("({name} BETWEEN {} AND {})", literal(rng, ty), literal(rng, ty)),
        3 => format!("({name} IN ({}, {}))", literal(rng, ty), literal(rng, ty)),
        4 => format!("({name} IS DISTINCT FROM {})", leaf(rng, scope, ty)),
        5 if ty == Type::Text => format!("({name} LIKE 'a%')"),
        5 if matches!(ty, Type::Int | Type::Date) => {
            let quantifier = *pick(rng, &["ANY", "ALL"]);
            format!("({name} {operator} {quantifier} (ARRAY[{}, {}]))", literal(rng, ty), literal(rng, ty))
        }
        6 if ty == Type::Int => {
            let numeric = leaf(rng, scope, Type::Numeric);
            format!("({name} {operator} {numeric})")
        }
        _ => {
            let mut other = if depth > 0 { expression(rng, scope, ty, depth - 1) } else { leaf(rng, scope, ty) };
            if other == *name {
                other = literal(rng, ty);
            }
            format!("({name} {operator} {other})")
        }
    }
}
