//! Functions about SQL text and JSON that clients build their catalog queries with.

use datafusion::common::Result;
use millrace_engine::Error;
use serde_json::json;

use super::{Call, Declaration, called_on_null, failed, strict};
use crate::pg_catalog::names::{quote_ident, quote_literal, split_name};
use crate::pg_catalog::value::Value;

pub const FUNCTIONS: &[Declaration] = &[
    strict("quote_ident", 1..=1, "text", |c| Ok(c.arguments[0].print().map(|t| quote_ident(&t)).into())),
    strict("quote_literal", 1..=1, "text", |c| Ok(c.arguments[0].print().map(|t| quote_literal(&t)).into())),
    called_on_null("quote_nullable", 1..=1, "text", |c| {
        Ok(c.arguments[0].print().map_or_else(|| "NULL".to_string(), |t| quote_literal(&t)).into())
    }),
    called_on_null("format", 1..=usize::MAX, "text", format),
    strict("like_escape", 2..=2, "text", |c| {
        Ok(like_escape(c.text(0).unwrap_or_default(), c.text(1).unwrap_or_default()).into())
    }),
    strict("parse_ident", 1..=2, "_text", |c| Ok(split_name(c.text(0).unwrap_or_default()).into())),
    called_on_null("json_build_object", 0..=usize::MAX, "json", object),
    called_on_null("jsonb_build_object", 0..=usize::MAX, "jsonb", object),
    called_on_null("json_build_array", 0..=usize::MAX, "json", array),
    called_on_null("jsonb_build_array", 0..=usize::MAX, "jsonb", array),
];

/// A LIKE pattern with the backslash as its escape in place of `by`; no escape at all where `by` is empty.
fn like_escape(pattern: &str, by: &str) -> String {
    let mut out = String::new();
    let mut chars = pattern.chars();
    while let Some(c) = chars.next() {
        if by.starts_with(c) {
            out.push('\\');
            out.extend(chars.next());
        } else if c == '\\' {
            out.push_str("\\\\");
        } else {
            out.push(c);
        }
    }
    out
}

/// `format('%I.%I = %L', …)`: %s text, %I identifier, %L literal, %% percent, with positions (`%1$s`),
/// widths and `-`.
fn format(c: &Call) -> Result<Value> {
    let Some(pattern) = c.text(0) else { return Ok(Value::Null) };
    let mut out = String::new();
    let mut next = 1;
    let mut chars = pattern.chars().peekable();
    while let Some(ch) = chars.next() {
        if ch != '%' {
            out.push(ch);
            continue;
        }
        if chars.peek() == Some(&'%') {
            chars.next();
            out.push('%');
            continue;
        }
        let mut digits = String::new();
        let mut left = false;
        let conversion = loop {
            match chars.next() {
                Some('$') => {
                    next = digits.parse().unwrap_or(0);
                    if next == 0 {
                        return failed(Error::invalid_value(
                            "format specifies argument 0, but arguments are numbered from 1",
                        ));
                    }
                    digits.clear();
                }
                Some('-') => left = true,
                Some(d) if d.is_ascii_digit() => digits.push(d),
                Some(conversion @ ('s' | 'I' | 'L')) => break conversion,
                Some(other) => {
                    return failed(
                        Error::invalid_value(format!("unrecognized format() type specifier \"{other}\""))
                            .hint("For a single \"%\" use \"%%\"."),
                    );
                }
                None => return failed(Error::invalid_value("unterminated format() type specifier")),
            }
        };
        let Some(value) = c.arguments.get(next) else {
            return failed(Error::invalid_value("too few arguments for format()"));
        };
        next += 1;
        let text = match (conversion, value.print()) {
            ('s', text) => text.unwrap_or_default(),
            ('I', Some(text)) => quote_ident(&text),
            ('I', None) => return failed(Error::new("22004", "null values cannot be formatted as an SQL identifier")),
            (_, Some(text)) => quote_literal(&text),
            (_, None) => "NULL".to_string(),
        };
        let width = digits.parse().unwrap_or(0);
        let padding = " ".repeat(usize::saturating_sub(width, text.chars().count()));
        out.push_str(&if left { text + &padding } else { padding + &text });
    }
    Ok(out.into())
}

fn to_json(value: &Value) -> serde_json::Value {
    match value {
        Value::Null => json!(null),
        Value::Bool(b) => json!(b),
        Value::Int(i) => json!(i),
        Value::Float(f) => json!(f),
        Value::Text(t) => json!(t),
        Value::List(l) => l.iter().map(to_json).collect(),
        Value::Other(s) => json!(s.to_string()),
    }
}

/// `{"a" : 1, "b" : "x"}`: Postgres puts spaces around the colons of json_build_object.
fn object(c: &Call) -> Result<Value> {
    if !c.arguments.len().is_multiple_of(2) {
        return failed(Error::invalid_value("argument list must have even number of elements"));
    }
    let mut members = Vec::new();
    for pair in c.arguments.chunks(2) {
        let Some(key) = pair[0].print() else {
            return failed(Error::new("22004", "null value not allowed for object key"));
        };
        members.push(format!("{} : {}", json!(key), to_json(&pair[1])));
    }
    Ok(format!("{{{}}}", members.join(", ")).into())
}

fn array(c: &Call) -> Result<Value> {
    let items: Vec<String> = c.arguments.iter().map(|v| to_json(v).to_string()).collect();
    Ok(format!("[{}]", items.join(", ")).into())
}
