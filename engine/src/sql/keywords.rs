//! SQL's key words as Postgres 15 classes them: for pg_get_keywords and for quoting identifiers.

use std::collections::HashMap;
use std::sync::LazyLock;

pub struct Keyword {
    /// `U` unreserved, `C` a column's name, `T` a type's or function's name, `R` reserved.
    pub category: &'static str,
    pub bare_label: bool,
}

pub static KEYWORDS: LazyLock<HashMap<&'static str, Keyword>> = LazyLock::new(|| {
    let lines = include_str!("keywords.txt").lines().filter(|l| !l.starts_with('#'));
    lines
        .flat_map(|line| {
            let mut words = line.split(' ');
            let category = words.next().expect("keywords.txt: category");
            let bare_label = words.next() == Some("t");
            words.map(move |w| (w, Keyword { category, bare_label }))
        })
        .collect()
});

/// A name as it is written in SQL: in quotes where it would be read as another, or as a key word.
pub fn quote_ident(name: &str) -> String {
    let plain = name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
        && name.bytes().next().is_some_and(|b| !b.is_ascii_digit())
        && KEYWORDS.get(name).is_none_or(|keyword| keyword.category == "U");
    if plain { name.to_string() } else { format!("\"{}\"", name.replace('"', "\"\"")) }
}

impl Keyword {
    pub fn description(&self) -> &'static str {
        match self.category {
            "U" => "unreserved",
            "C" => "unreserved (cannot be function or type name)",
            "T" => "reserved (can be function or type name)",
            _ => "reserved",
        }
    }
}
