//! Which types Postgres casts into which, when it is told to: its pg_cast, over the types that there are here.
//!
//! Beside what the table says, anything becomes text of any kind and text becomes anything, arrays become arrays where their
//! elements do, and a type becomes itself.

use crate::sql::enums;
use crate::sql::types::plain_type;

/// From a type, into which others.
const CASTS: &[(&str, &[&str])] = &[
    ("boolean", &["integer"]),
    ("smallint", NUMBERS),
    ("integer", &["boolean", "smallint", "bigint", "real", "double precision", "numeric"]),
    ("bigint", NUMBERS),
    ("real", NUMBERS),
    ("double precision", NUMBERS),
    ("numeric", NUMBERS),
    ("bytea", &[]),
    ("date", &["timestamp without time zone", "timestamp with time zone"]),
    ("time without time zone", &["interval"]),
    ("timestamp without time zone", &["date", "time without time zone", "timestamp with time zone"]),
    ("timestamp with time zone", &["date", "time without time zone", "timestamp without time zone"]),
    ("interval", &["time without time zone"]),
    ("uuid", &[]),
    ("json", &["jsonb"]),
    ("jsonb", &["json", "boolean", "smallint", "integer", "bigint", "real", "double precision", "numeric"]),
];
const NUMBERS: &[&str] = &["smallint", "integer", "bigint", "real", "double precision", "numeric"];
const TEXTS: &[&str] = &["text", "character varying", "character", "bpchar", "name"];

/// Whether a cast that is written out exists. Of types that the table does not know, such as those of the catalogs, it does.
pub fn exists(from: &str, to: &str) -> bool {
    let of_enum = |sql_type: &str| enums::is_enum(sql_type);
    if of_enum(from) || of_enum(to) {
        return from == to || is_text(&plain_type(from)) || is_text(&plain_type(to));
    }
    let (from, to) = (spelt(from), spelt(to));
    let element = |t: &str| t.strip_suffix("[]").map(|t| t.trim_end_matches("[]").to_string());
    match (element(&from), element(&to)) {
        (Some(from), Some(to)) => return exists(&from, &to),
        (Some(_), None) => return is_text(&to) || !is_known(&to),
        (None, Some(_)) => return is_text(&from) || !is_known(&from),
        (None, None) => {}
    }
    if from == to || is_text(&from) || is_text(&to) || !is_known(&to) {
        return true;
    }
    CASTS.iter().find(|(known, _)| *known == from).is_none_or(|(_, into)| into.contains(&to.as_str()))
}

/// Each cast of the table, for pg_cast: from, to, and when it is made: by itself, in assignments too, or where it is written
/// out alone (`i`, `a`, `e`).
pub fn listed() -> impl Iterator<Item = (&'static str, &'static str, &'static str)> {
    let all = CASTS.iter().flat_map(|(from, into)| into.iter().map(|to| (*from, *to)));
    all.filter(|(from, to)| from != to).map(|(from, to)| (from, to, context(from, to)))
}

/// A type without its length; an enum stays as it is, for that is how others are told from it.
fn spelt(sql_type: &str) -> String {
    if enums::is_enum(sql_type.trim_end_matches("[]")) { sql_type.to_string() } else { plain_type(sql_type) }
}

fn context(from: &str, to: &str) -> &'static str {
    // To what is behind it a type becomes by itself.
    const ORDERS: &[&[&str]] = &[
        &["smallint", "integer", "bigint", "numeric", "real", "double precision"],
        &["date", "timestamp without time zone", "timestamp with time zone"],
        &["time without time zone", "interval"],
    ];
    for order in ORDERS {
        let place = |name: &str| order.iter().position(|known| *known == name);
        if let (Some(from), Some(to)) = (place(from), place(to)) {
            return if from < to { "i" } else { "a" };
        }
    }
    match (from, to) {
        ("timestamp without time zone" | "timestamp with time zone", "time without time zone") => "a",
        ("json", "jsonb") | ("jsonb", "json") => "a",
        _ => "e",
    }
}

fn is_text(sql_type: &str) -> bool {
    TEXTS.contains(&sql_type)
}

fn is_known(sql_type: &str) -> bool {
    is_text(sql_type) || CASTS.iter().any(|(known, _)| *known == sql_type)
}

#[cfg(test)]
mod tests {
    use super::exists;

    #[test]
    fn as_pg_cast_has_it() {
        for (from, to) in [
            ("integer", "boolean"),
            ("numeric(4,2)", "integer"),
            ("json", "jsonb"),
            ("uuid", "character varying(9)"),
            ("text", "integer[]"),
            ("integer[]", "text[]"),
            ("integer[][]", "numeric[]"),
            ("timestamp(3) without time zone", "date"),
            ("bigint", "regclass"),
        ] {
            assert!(exists(from, to), "{from} to {to}");
        }
        for (from, to) in [
            ("bigint", "boolean"),
            ("boolean", "bigint"),
            ("date", "interval"),
            ("integer", "json"),
            ("uuid", "bytea"),
            ("date", "date[]"),
            ("boolean[]", "date[]"),
            ("json", "integer"),
        ] {
            assert!(!exists(from, to), "{from} to {to}");
        }
    }
}
