//! Defaults of columns as Postgres spells them: the type of a text in quotes is named, and a sequence as it is found.
//!
//! ```text
//!   n int DEFAULT nextval('public.counter')     nextval('counter'::regclass)
//!   m mood DEFAULT 'ok'                          'ok'::mood
//!   t timestamptz DEFAULT now()                  now()
//! ```

use millrace_engine::catalog::Column;

use super::CatalogView;
use super::contents::type_of;
use super::enums;
use super::names::Names;

pub fn spelt(view: &CatalogView, column: &Column, default: &str) -> String {
    if let Some(name) = sequence_named(default)
        && let Some(name) = view.find_relation(&name).and_then(|id| view.print_relation(id))
    {
        return format!("nextval('{}'::regclass)", name.replace('\'', "''"));
    }
    let (of, _) = type_of(column);
    if is_text_in_quotes(default) && of.category() != "N" {
        return format!("{default}::{}", enums::format(view, of.oid, -1));
    }
    enums::with_schemas_of_types(view, default)
}

/// `'ok'`, and nothing after it.
fn is_text_in_quotes(expression: &str) -> bool {
    let inner = expression.strip_prefix('\'').and_then(|rest| rest.strip_suffix('\''));
    inner.is_some_and(|inner| !inner.replace("''", "").contains('\''))
}

/// The sequence of `nextval('s')`, as it is named there.
fn sequence_named(expression: &str) -> Option<String> {
    let inner = expression.strip_prefix("nextval(")?.strip_suffix(')')?;
    let lower = inner.to_ascii_lowercase();
    let literal = if lower.ends_with("::regclass") { &inner[..inner.len() - "::regclass".len()] } else { inner };
    is_text_in_quotes(literal).then(|| literal[1..literal.len() - 1].replace("''", "'"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_and_sequences_are_told_apart_from_other_expressions() {
        assert_eq!(sequence_named("nextval('public.s')").as_deref(), Some("public.s"));
        assert_eq!(sequence_named("nextval('\"It''s\"'::REGCLASS)").as_deref(), Some("\"It's\""));
        assert_eq!(sequence_named("nextval('a') + nextval('b')"), None);
        assert!(is_text_in_quotes("'it''s'"));
        assert!(is_text_in_quotes("''"));
        assert!(!is_text_in_quotes("'a' || 'b'"));
        assert!(!is_text_in_quotes("'"));
    }
}
