//! DO, as far as migrations have it: a block that makes something unless it is there. There is no PL/pgSQL besides.
//!
//! ```text
//!   DO $$ BEGIN CREATE TYPE mood AS ENUM ('sad'); EXCEPTION WHEN duplicate_object THEN null; END $$
//!   DO $$ BEGIN IF NOT EXISTS (SELECT 1 FROM pg_type WHERE typname = 'mood') THEN CREATE TYPE …; END IF; END $$
//! ```

use super::cursor::Cursor;
use crate::error::{Error, Result};
use crate::sql::statement::{Block, StatementKind};

/// Conditions of PL/pgSQL, and their SQLSTATEs.
const CONDITIONS: &[(&str, &str)] = &[
    ("duplicate_object", "42710"),
    ("duplicate_table", "42P07"),
    ("duplicate_column", "42701"),
    ("duplicate_schema", "42P06"),
    ("undefined_object", "42704"),
    ("undefined_table", "42P01"),
    ("undefined_column", "42703"),
    ("unique_violation", "23505"),
];

impl Cursor<'_> {
    pub fn do_block(&mut self) -> Result<StatementKind> {
        let unsupported = self.error_here(Error::unsupported("DO")).hint(
            "Of blocks there are BEGIN statement; EXCEPTION WHEN duplicate_object THEN null; END, and BEGIN IF condition THEN \
             statements; END IF; END.",
        );
        self.expect("do")?;
        let _ = self.accept("language plpgsql");
        let body = self.string()?;
        let _ = self.accept("language plpgsql");
        block(&body).map(StatementKind::Do).ok_or(unsupported)
    }
}

/// `None` for what is no such block, or has statements in it that cannot be read.
fn block(body: &str) -> Option<Block> {
    let body = body.trim().trim_end_matches(';').trim_end();
    let mut body = without_end(after(body, "begin")?, "end")?;
    let mut ignored = Vec::new();
    if let Some(at) = find(body, "exception") {
        let handler = after(&body[at..], "exception")?;
        ignored = conditions(handler)?;
        body = &body[..at];
    }
    let body = body.trim();
    let mut condition = None;
    let mut inner = body;
    if let Some(rest) = after(body, "if") {
        let then = find(rest, "then")?;
        condition = Some(*super::query(&format!("SELECT 1 WHERE ({})", &rest[..then])).ok()?);
        let rest = rest[then + "then".len()..].trim().trim_end_matches(';').trim_end();
        inner = without_end(without_end(rest, "if")?, "end")?;
        if ["else", "elsif", "end"].iter().any(|word| find(inner, word).is_some()) {
            return None;
        }
    }
    let statements = super::parse(inner).ok()?;
    let statements: Vec<_> = statements.into_iter().filter(|s| !matches!(s.kind, StatementKind::Empty)).collect();
    // Of several nobody could take back those before the one that fails.
    let fits = !statements.is_empty() && (ignored.is_empty() || statements.len() == 1);
    let fits = fits && statements.iter().all(|statement| statement.kind.is_definition());
    fits.then_some(Block { condition, statements, ignored })
}

/// `WHEN a OR b THEN null;`, once or more.
fn conditions(handler: &str) -> Option<Vec<&'static str>> {
    let mut codes = Vec::new();
    let mut rest = handler.trim();
    while !rest.is_empty() {
        let then = find(rest, "then")?;
        let named = after(&rest[..then], "when")?.to_ascii_lowercase();
        for name in named.split_whitespace().filter(|word| *word != "or") {
            match name {
                "others" => codes.push(""),
                name => codes.push(CONDITIONS.iter().find(|(known, _)| *known == name)?.1),
            }
        }
        rest = after(rest[then + "then".len()..].trim(), "null")?.trim().strip_prefix(';')?.trim();
    }
    Some(codes)
}

/// What follows a text's first word.
fn after<'a>(text: &'a str, word: &str) -> Option<&'a str> {
    let text = text.trim_start();
    (find(text, word) == Some(0)).then(|| text[word.len()..].trim_start())
}

/// What comes before its last word.
fn without_end<'a>(text: &'a str, word: &str) -> Option<&'a str> {
    let text = text.trim().trim_end_matches(';').trim_end();
    let at = text.len().checked_sub(word.len()).filter(|at| text.is_char_boundary(*at))?;
    let apart = text[..at].ends_with(|c: char| c.is_whitespace() || c == ';');
    (text[at..].eq_ignore_ascii_case(word) && apart).then(|| &text[..at])
}

/// Where a word stands outside of quotes and parentheses.
fn find(text: &str, word: &str) -> Option<usize> {
    let (mut depth, mut quote, mut before) = (0usize, None, ' ');
    for (at, c) in text.char_indices() {
        match (quote, c) {
            (Some(open), _) if c == open => quote = None,
            (Some(_), _) => {}
            (None, '\'' | '"') => quote = Some(c),
            (None, '(') => depth += 1,
            (None, ')') => depth = depth.saturating_sub(1),
            (None, _) if depth == 0 && !is_of_word(before) => {
                let there = text.get(at..at + word.len()).is_some_and(|found| found.eq_ignore_ascii_case(word));
                let ends = text.get(at + word.len()..).is_some_and(|rest| !rest.starts_with(is_of_word));
                if there && ends {
                    return Some(at);
                }
            }
            _ => {}
        }
        before = c;
    }
    None
}

fn is_of_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_that_make_something_unless_it_is_there() {
        let read = |body: &str| block(body).map(|b| (b.condition.is_some(), b.statements.len(), b.ignored));
        let sequelize =
            "BEGIN CREATE TYPE \"public\".\"m\" AS ENUM('x', 'end'); EXCEPTION WHEN duplicate_object THEN null; END";
        assert_eq!(read(sequelize), Some((false, 1, vec!["42710"])));
        let drizzle = "\nBEGIN\n ALTER TABLE \"a\" ADD CONSTRAINT \"f\" FOREIGN KEY (\"b\") REFERENCES \"c\"(\"d\");\nEXCEPTION\n \
                       WHEN duplicate_object OR duplicate_table THEN NULL;\nEND ";
        assert_eq!(read(drizzle), Some((false, 1, vec!["42710", "42P07"])));
        let unless = "BEGIN IF NOT EXISTS (SELECT 1 FROM pg_type WHERE typname = 'then') THEN CREATE TYPE m AS ENUM ('a'); \
                      CREATE TABLE t (m m); END IF; END;";
        assert_eq!(read(unless), Some((true, 2, vec![])));
        let plain = "begin create table t (a int); end";
        assert_eq!(read(plain), Some((false, 1, vec![])));
        assert_eq!(read("BEGIN PERFORM f(); END"), None);
        assert_eq!(read("DECLARE x int; BEGIN x := 1; END"), None);
        assert_eq!(
            read("BEGIN CREATE TABLE a (a int); CREATE TABLE b (b int); EXCEPTION WHEN others THEN null; END"),
            None
        );
        assert_eq!(read("BEGIN CREATE TABLE a (a int); EXCEPTION WHEN others THEN RAISE NOTICE 'x'; END"), None);
        assert_eq!(read("BEGIN IF true THEN CREATE TABLE a (a int); ELSE CREATE TABLE b (b int); END IF; END"), None);
        assert_eq!(read("BEGIN SELECT 1; END"), None);
    }
}
