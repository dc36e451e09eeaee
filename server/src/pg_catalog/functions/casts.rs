//! Casts to the types that only the catalogs have: oid, name, "char" and the reg* types.
//!
//! An oid is a number; a reg* value is an oid that prints as the name of what it stands for. So
//! `'accounts'::regclass` becomes a call of `regclass('accounts')`, which gives the oid 16389 in a field
//! marked `regclass`, and where text is wanted [`REG_OUT`] gives `accounts`.

use arrow::datatypes::Field;
use datafusion::common::Result;
use millrace_engine::Error;

use super::arrays::parse_array;
use super::{Call, Declaration, called_on_null, failed, meaning, strict};
use crate::pg_catalog::CatalogView;
use crate::pg_catalog::contents::{function_name, function_oid};
use crate::pg_catalog::enums;
use crate::pg_catalog::names::Names;
use crate::pg_catalog::names::split_name;
use crate::pg_catalog::value::Value;
use millrace_engine::sql::keywords::quote_ident;

/// A reg* value as text, by the argument's field.
pub const REG_OUT: &str = "regout";

pub const FUNCTIONS: &[Declaration] = &[
    strict("oid", 1..=1, "oid", oid),
    strict("xid", 1..=1, "xid", oid),
    strict("cid", 1..=1, "cid", oid),
    strict("name", 1..=1, "name", |c| {
        Ok(c.arguments[0].print().map(|t| t.chars().take(63).collect::<String>()).into())
    }),
    // Casting to "char" keeps the first byte.
    strict("char", 1..=1, "char", |c| Ok(c.arguments[0].print().map(|t| t.chars().take(1).collect::<String>()).into())),
    strict("regclass", 1..=1, "regclass", |c| cast(c, "regclass")),
    strict("regtype", 1..=1, "regtype", |c| cast(c, "regtype")),
    strict("regnamespace", 1..=1, "regnamespace", |c| cast(c, "regnamespace")),
    strict("regrole", 1..=1, "regrole", |c| cast(c, "regrole")),
    strict("regproc", 1..=1, "regproc", |c| cast(c, "regproc")),
    strict("regprocedure", 1..=1, "regprocedure", |c| cast(c, "regproc")),
    strict("regcollation", 1..=1, "regcollation", |c| cast(c, "regcollation")),
    strict("oid_array", 1..=1, "_oid", array),
    strict("name_array", 1..=1, "_name", array),
    strict("char_array", 1..=1, "_char", array),
    // There are no operators or configurations in the catalogs: numbers stay numbers.
    strict("regoper", 1..=1, "regoper", |c| cast(c, "regoper")),
    strict("regoperator", 1..=1, "regoperator", |c| cast(c, "regoperator")),
    strict("regconfig", 1..=1, "regconfig", |c| cast(c, "regconfig")),
    strict("regdictionary", 1..=1, "regdictionary", |c| cast(c, "regdictionary")),
    strict("to_regclass", 1..=1, "regclass", |c| Ok(look_up(c.view, "regclass", c.text(0)).into())),
    strict("to_regtype", 1..=1, "regtype", |c| Ok(look_up(c.view, "regtype", c.text(0)).into())),
    strict("to_regnamespace", 1..=1, "regnamespace", |c| Ok(look_up(c.view, "regnamespace", c.text(0)).into())),
    strict("to_regrole", 1..=1, "regrole", |c| Ok(look_up(c.view, "regrole", c.text(0)).into())),
    strict("to_regproc", 1..=1, "regproc", |c| Ok(look_up(c.view, "regproc", c.text(0)).into())),
    strict(REG_OUT, 1..=1, "text", |c| {
        let kind = c.fields.first().and_then(|f| meaning(f)).unwrap_or_default();
        Ok(c.oid(0).map(|oid| print(c.view, kind, oid)).into())
    }),
    called_on_null("pg_typeof", 1..=1, "text", |c| {
        let field = &c.fields[0];
        let declared = meaning(field).map(millrace_engine::sql::types::plain_type);
        let name = declared.unwrap_or_else(|| sql_name(field));
        // Arrays of any number of dimensions are of one type.
        let item = name.trim_end_matches("[]");
        Ok(if item.len() < name.len() { format!("{item}[]").into() } else { name.into() })
    }),
    strict("pg_collation_for", 1..=1, "text", |_| Ok("\"default\"".into())),
];

/// Whether `name` is a type that is cast to by calling the function of its name.
pub fn is_type_cast(name: &str) -> bool {
    matches!(name, "oid" | "xid" | "cid" | "name" | "char") || is_reg(name)
}

pub fn is_reg(name: &str) -> bool {
    matches!(
        name,
        "regclass"
            | "regtype"
            | "regnamespace"
            | "regrole"
            | "regproc"
            | "regprocedure"
            | "regcollation"
            | "regoper"
            | "regoperator"
            | "regconfig"
            | "regdictionary"
    )
}

fn oid(c: &Call) -> Result<Value> {
    match &c.arguments[0] {
        // As Postgres wraps: -1::oid is 4294967295.
        Value::Int(i) => Ok((*i as u32).into()),
        other => match other.oid() {
            Some(oid) => Ok(oid.into()),
            None => invalid("oid", other),
        },
    }
}

fn array(c: &Call) -> Result<Value> {
    Ok(match &c.arguments[0] {
        Value::Text(text) => Value::List(parse_array(text)),
        other => other.clone(),
    })
}

fn invalid(kind: &str, value: &Value) -> Result<Value> {
    let text = value.print().unwrap_or_default();
    failed(Error::new("22P02", format!("invalid input syntax for type {kind}: \"{text}\"")))
}

fn cast(c: &Call, kind: &str) -> Result<Value> {
    let text = match &c.arguments[0] {
        Value::Int(i) => return Ok((*i as u32).into()),
        other => other.print().unwrap_or_default(),
    };
    match look_up(c.view, kind, Some(&text)) {
        Some(oid) => Ok(oid.into()),
        None => failed(match kind {
            "regclass" => Error::undefined_relation(&text),
            "regnamespace" => Error::new("3F000", format!("schema \"{text}\" does not exist")),
            "regproc" => Error::new("42883", format!("function \"{text}\" does not exist")),
            "regrole" => Error::undefined_object(format!("role \"{text}\" does not exist")),
            "regcollation" => Error::undefined_object(format!("collation \"{text}\" does not exist")),
            "regtype" => Error::undefined_object(format!("type \"{text}\" does not exist")),
            _ => Error::undefined_object(format!("\"{text}\" does not exist")),
        }),
    }
}

fn look_up(view: &CatalogView, kind: &str, text: Option<&str>) -> Option<u32> {
    let text = text?;
    if let Ok(oid) = text.trim().parse() {
        return Some(oid);
    }
    let last = || split_name(text).pop().unwrap_or_default();
    match kind {
        "regclass" => view.find_relation(text),
        "regtype" => enums::parse(view, text),
        "regnamespace" => view.schema_oid(&last()),
        "regrole" => view.roles().contains(&last()).then(|| crate::pg_catalog::names::role_oid(&last())),
        "regproc" => function_oid(text.split('(').next().unwrap_or(text).trim_start_matches("pg_catalog.")),
        "regcollation" => {
            [("default", 100), ("C", 950), ("POSIX", 951)].iter().find(|(n, _)| *n == last()).map(|(_, o)| *o)
        }
        _ => None,
    }
}

/// A reg* value as Postgres prints it: the name, or the number of what does not exist.
fn print(view: &CatalogView, kind: &str, oid: u32) -> String {
    if oid == 0 {
        return "-".into();
    }
    let name = match kind {
        "regclass" => view.print_relation(oid),
        "regtype" => Some(enums::format(view, oid, -1)).filter(|name| name != "???"),
        "regnamespace" => view.schema_name(oid).map(|n| quote_ident(&n)),
        "regrole" => view.role_name(oid).map(|n| quote_ident(&n)),
        "regproc" | "regprocedure" => function_name(oid).map(str::to_string),
        "regcollation" => [(100, "\"default\""), (950, "\"C\""), (951, "\"POSIX\"")]
            .iter()
            .find(|(o, _)| *o == oid)
            .map(|(_, n)| n.to_string()),
        _ => None,
    };
    name.unwrap_or_else(|| oid.to_string())
}

fn sql_name(field: &Field) -> String {
    use arrow::datatypes::DataType::*;
    match field.data_type() {
        Boolean => "boolean",
        Int16 => "smallint",
        Int32 => "integer",
        Int64 => "bigint",
        UInt32 => "oid",
        Float32 => "real",
        Float64 => "double precision",
        Decimal128(..) | Decimal256(..) => "numeric",
        Binary | BinaryView | LargeBinary => "bytea",
        Date32 => "date",
        Time64(_) => "time without time zone",
        Timestamp(_, None) => "timestamp without time zone",
        Timestamp(_, Some(_)) => "timestamp with time zone",
        Interval(_) => "interval",
        List(element) => return format!("{}[]", sql_name(element)),
        Struct(_) => "record",
        _ => "text",
    }
    .into()
}
