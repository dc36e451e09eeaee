//! Functions about SQL text that clients build their catalog queries with.

use super::{Declaration, strict};
use crate::pg_catalog::names::split_name;

pub const FUNCTIONS: &[Declaration] = &[
    strict("like_escape", 2..=2, "text", |c| {
        Ok(like_escape(c.text(0).unwrap_or_default(), c.text(1).unwrap_or_default()).into())
    }),
    // Addresses are texts.
    strict("host", 1..=1, "text", |c| {
        let address = c.text(0).unwrap_or_default();
        Ok(address.split_once('/').map_or(address, |(host, _)| host).into())
    }),
    strict("parse_ident", 1..=2, "_text", |c| Ok(split_name(c.text(0).unwrap_or_default()).into())),
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
