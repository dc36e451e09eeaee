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

/// Whether an identifier spelled like this must be quoted.
pub fn is_reserved(word: &str) -> bool {
    KEYWORDS.get(word).is_some_and(|k| k.category != "U")
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
