//! Text to statements.
//!
//! `source.rs` cuts the text at its semicolons and bounds its size; `cursor.rs` walks one statement's tokens; the other
//! files read one family of statements each, queries and expressions being left to sqlparser. Nothing is looked up:
//! names may not exist and options may be unknown.
//!
//! ```text
//!   "SELECT 1; -- one\n COMMIT"   ->   Query "SELECT 1", Commit "COMMIT"
//!   "selct 1"                     ->   42601 syntax error at or near "selct", position 1
//! ```

mod alter;
mod change_with;
mod constraints;
mod copy;
mod create;
mod cursor;
mod dml;
mod do_block;
mod frame;
mod identity;
mod locking;
mod long_names;
mod merge;
mod references;
mod select_into;
mod sequence;
mod session;
mod source;
mod spellings;
#[cfg(test)]
mod tests;
mod types;
mod unicode_names;
mod written;

use sqlparser::ast;
use sqlparser::tokenizer::{Span, Token, TokenWithSpan, Tokenizer};

use crate::error::{Error, Result};
use crate::sql::bounds;
use crate::sql::dialect::DIALECT;
use crate::sql::statement::{Name, Statement, StatementKind};
use cursor::Cursor;
use source::{Source, significant, split, unquoted};

pub use long_names::{cut, cut_names};
pub use written::text_of;

pub use cursor::{fold, interval_literal, is_plain_name, is_reserved};

/// Every statement of a text; one that is [`StatementKind::Empty`] when there is none. All or none: an error anywhere
/// is the whole text's. Errors: 42601 with its position in `text`, 0A000, 54001.
pub fn parse(text: &str) -> Result<Vec<Statement>> {
    let source = Source::new(text);
    split(&source)?
        .into_iter()
        .map(|tokens| {
            bounds::check()?;
            let mut tokens = tokens;
            // Without white space at the end, so that the last token is the end of the statement's text.
            while tokens.last().is_some_and(|t| !significant(t)) {
                tokens.pop();
            }
            let mut cursor = Cursor::new(&source, tokens)?;
            let statement = cursor.statement()?;
            match cursor.at_end() {
                true => Ok(statement),
                false => cursor.unexpected().map_err(|e| hint_for_neighbours(e, text)),
            }
        })
        // A parser that was told to stop may call that a mistake in the text.
        .map(|result: Result<Statement>| {
            result.map_err(|e| bounds::check().err().unwrap_or_else(|| hint_for_neighbours(e, text)))
        })
        .collect()
}

/// One statement; 42601 when there are several.
pub fn parse_one(text: &str) -> Result<Statement> {
    let mut statements = parse(text)?;
    match statements.len() {
        1 => Ok(statements.remove(0)),
        _ => Err(Error::syntax("cannot insert multiple commands into a prepared statement")),
    }
}

/// A query such as a view's stored text. It is not what the user wrote, so nothing in it has a place.
pub fn query(text: &str) -> Result<Box<ast::Query>> {
    let source = Source::new(text);
    let mut cursor = Cursor::new(&source, one_without_places(&source)?)?;
    match cursor.kind() {
        Ok(StatementKind::Query(query)) if cursor.at_end() => Ok(query),
        // The error of the text with its places says where in the text.
        _ => Err(parse_one(text).err().unwrap_or_else(|| Error::syntax("a query was expected"))),
    }
}

fn one_without_places(source: &Source<'_>) -> Result<Vec<TokenWithSpan>> {
    let mut statements = split(source)?;
    if statements.len() > 1 {
        return Err(Error::syntax("cannot insert multiple commands into a prepared statement"));
    }
    let mut tokens = statements.pop().unwrap_or_default();
    tokens.iter_mut().for_each(|token| token.span = Span::empty());
    Ok(tokens)
}

/// Line and column of the first word that means `name`.
pub fn place_of_name(text: &str, name: &str) -> Option<(u64, u64)> {
    let tokens = Tokenizer::new(&DIALECT, text).tokenize_with_location().ok()?;
    let means = |token: &Token| match token {
        Token::Word(word) if word.quote_style.is_some() => word.value == name,
        Token::Word(word) => word.value.to_lowercase() == name,
        _ => false,
    };
    let found = tokens.iter().find(|t| means(&t.token))?;
    Some((found.span.start.line, found.span.start.column))
}

/// An expression such as a column's stored default; without places, like [`query`].
pub fn parse_expression(text: &str) -> Result<ast::Expr> {
    let source = Source::new(text);
    let mut cursor = Cursor::new(&source, one_without_places(&source)?)?;
    let expression = cursor.expression()?;
    if cursor.at_end() { Ok(expression) } else { cursor.unexpected() }
}

/// A name as SQL writes it, in a text of its own: `s."Odd name"`.
pub fn parse_name(text: &str) -> Result<Name> {
    let source = Source::new(text);
    let mut cursor = Cursor::new(&source, one_without_places(&source)?)?;
    let name = cursor.name()?;
    if cursor.at_end() { Ok(name) } else { cursor.unexpected() }
}

/// The name in a table factor or function call, folded. Errors: 0A000 for another database, 42601 for too many parts.
pub fn name_of(name: &ast::ObjectName) -> Result<Name> {
    cursor::fold_name(name)
}

impl Cursor<'_> {
    /// One statement, up to where it ends; its text is its part of the source.
    fn statement(&mut self) -> Result<Statement> {
        if self.at_end() {
            return Ok(Statement {
                text: String::new(),
                start: (1, 1),
                kind: StatementKind::Empty,
                locking: Vec::new(),
            });
        }
        let (start, place) = (self.start(), self.place());
        let mut kind = self.kind()?;
        let locking = locking::of_subqueries(&mut kind, self.text_since(start))?;
        let kind = locking::apart(kind)?;
        Ok(Statement { text: self.text_since(start).to_string(), start: place, kind, locking })
    }

    /// A statement that yields rows, within COPY or DECLARE.
    fn row_statement(&mut self) -> Result<Statement> {
        let (start, place) = (self.start(), self.place());
        let kind = match self.sees("subscribe") {
            true => self.subscribe()?,
            false => self.query_statement()?,
        };
        Ok(Statement { text: self.text_since(start).to_string(), start: place, kind, locking: Vec::new() })
    }

    fn kind(&mut self) -> Result<StatementKind> {
        if *self.token() == Token::LParen {
            return self.query_statement();
        }
        let first = unquoted(self.token()).to_ascii_lowercase();
        match first.as_str() {
            "with" => match self.change_with()? {
                Some(change) => Ok(change),
                None => self.query_statement(),
            },
            "select" | "values" | "table" => self.query_statement(),
            "insert" => self.insert(),
            "update" => self.update(),
            "delete" => self.delete(),
            "merge" => self.merge(),
            "truncate" => self.truncate(),
            "copy" => self.copy(),
            "create" => self.create(),
            "drop" => self.drop_statement(),
            "alter" => self.alter(),
            "comment" => self.comment(),
            "begin" | "start" => self.begin(),
            "commit" | "end" => self.commit(),
            "rollback" | "abort" => self.rollback(),
            "savepoint" | "release" => self.savepoint(),
            "set" => self.set(),
            "reset" => self.reset(),
            "show" => self.show(),
            "explain" => self.explain(),
            "verify" => self.verify(),
            "replay" => self.replay(),
            "subscribe" => self.subscribe(),
            "prepare" => self.prepare_statement(),
            "execute" => self.execute(),
            "deallocate" => self.deallocate(),
            "discard" => self.discard(),
            "declare" => self.declare(),
            "fetch" | "move" => self.fetch(),
            "close" => self.close(),
            "listen" | "unlisten" | "notify" => self.listen_or_notify(),
            "vacuum" => self.no_op("VACUUM"),
            "analyze" | "analyse" => self.no_op("ANALYZE"),
            "backup" => {
                self.expect("backup to")?;
                let to = self.string()?;
                let keep = if self.accept("keep") { Some(self.unsigned()?) } else { None };
                Ok(StatementKind::Backup { to, keep })
            }
            "checkpoint" => {
                self.expect("checkpoint")?;
                Ok(StatementKind::Checkpoint)
            }
            "lock" => self.no_op("LOCK TABLE"),
            "refresh" => self.refresh(),
            // Each role may do everything already.
            "grant" => self.no_op("GRANT"),
            "reindex" => self.no_op("REINDEX"),
            "cluster" => self.no_op("CLUSTER"),
            "do" => self.do_block(),
            "revoke" | "call" | "import" | "security" | "reassign" | "load" => {
                Err(self.error_here(Error::unsupported(first.to_uppercase())))
            }
            _ => self.unexpected(),
        }
    }
}

/// Says how Millrace spells what a neighbour's dialect wrote.
fn hint_for_neighbours(error: Error, text: &str) -> Error {
    if error.code != "42601" || error.hint.is_some() {
        return error;
    }
    let lower = text.to_lowercase();
    let has = |words: &str| {
        let mut rest = lower.split_whitespace();
        let first = words.split(' ').next().unwrap_or_default();
        rest.clone().any(|w| w.starts_with(first)) && {
            let joined = rest.by_ref().collect::<Vec<_>>().join(" ");
            joined.contains(words)
        }
    };
    if error.message.contains("near \"`") {
        error.hint("Quote names with double quotes: \"name\".")
    } else if has("window tumbling") {
        error.hint("Write FROM TUMBLE(t, ts, INTERVAL '1 minute') and GROUP BY window_start, window_end.")
    } else if has("window hopping") {
        error.hint(
            "Write FROM HOP(t, ts, INTERVAL '10 seconds', INTERVAL '1 minute') and GROUP BY window_start, window_end.",
        )
    } else if has("window session") {
        error.hint("Write FROM SESSION(TABLE t PARTITION BY k, DESCRIPTOR(ts), INTERVAL '1 minute') and GROUP BY k, window_start, window_end.")
    } else if has("match_condition") {
        error.hint("Write l ASOF JOIN r ON l.key = r.key AND l.time >= r.time.")
    } else if has("in cluster") {
        error.hint("There are no clusters to choose; leave IN CLUSTER out.")
    } else {
        error
    }
}
