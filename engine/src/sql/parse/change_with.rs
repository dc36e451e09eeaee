//! WITH before or around statements that change rows.
//!
//! ```text
//!   WITH q AS (SELECT …) DELETE FROM t USING q …                  Delete, with q
//!   WITH d AS (DELETE … RETURNING *) INSERT INTO u SELECT … d     ChangeWith
//! ```

use std::ops::ControlFlow;

use sqlparser::ast;
use sqlparser::tokenizer::Token;

use super::cursor::{Cursor, fold};
use super::source::unquoted;
use crate::error::{Error, Result};
use crate::sql::statement::{ChangeWith, Delete, Insert, Merge, StatementKind, Update, WithPart};
use crate::sql::visit;

/// What begins a statement that changes rows.
const CHANGES: &[&str] = &["insert", "update", "delete", "merge"];

impl Cursor<'_> {
    /// A statement that begins with WITH and changes rows, in its queries or behind them; `None` where it is a query.
    pub fn change_with(&mut self) -> Result<Option<StatementKind>> {
        // Read to there and back again: looking ahead counts from here each time.
        let (mut depth, mut read, mut before) = (0usize, 0, String::new());
        let (mut within, mut behind) = (false, false);
        loop {
            let word = unquoted(self.token()).to_ascii_lowercase();
            match self.token() {
                Token::EOF => break,
                Token::LParen => {
                    let next = unquoted(&self.parser.peek_nth_token_ref(1).token).to_ascii_lowercase();
                    let is_body = depth == 0 && ["as", "materialized"].contains(&before.as_str());
                    within |= is_body && CHANGES.contains(&next.as_str());
                    depth += 1;
                }
                Token::RParen => depth = depth.saturating_sub(1),
                _ if depth == 0 && CHANGES.contains(&word.as_str()) => {
                    behind = true;
                    break;
                }
                _ if depth == 0 && ["select", "values", "table"].contains(&word.as_str()) => break,
                _ => {}
            }
            before = word;
            self.parser.advance_token();
            read += 1;
        }
        (0..read).for_each(|_| self.parser.prev_token());
        match (within, behind) {
            (true, _) => self.changes_within().map(Some),
            (false, true) => self.change_behind().map(Some),
            (false, false) => Ok(None),
        }
    }

    fn changes_within(&mut self) -> Result<StatementKind> {
        self.expect("with")?;
        let recursive = self.accept("recursive");
        let parts = self.comma_separated(Self::with_part)?;
        let start = self.start();
        let main = Box::new(self.change_or_query()?);
        let main_text = self.text_since(start).to_string();
        Ok(StatementKind::ChangeWith(ChangeWith { recursive, parts, main, main_text }))
    }

    /// `name [(a, b)] AS [[NOT] MATERIALIZED] (statement)`
    fn with_part(&mut self) -> Result<WithPart> {
        let name = self.identifier()?;
        let columns = if *self.token() == Token::LParen { self.identifiers()? } else { Vec::new() };
        self.expect("as")?;
        let _ = self.accept_one(&["materialized", "not materialized"]);
        self.expect_token(&Token::LParen)?;
        let start = self.start();
        if self.sees("merge") {
            return Err(self.error_here(Error::new("0A000", "MERGE not supported in WITH query")));
        }
        let kind = self.change_or_query()?;
        let text = self.text_since(start).to_string();
        self.expect_token(&Token::RParen)?;
        Ok(WithPart { name, columns, kind, text })
    }

    fn change_or_query(&mut self) -> Result<StatementKind> {
        match unquoted(self.token()).to_ascii_lowercase().as_str() {
            "insert" => self.insert(),
            "update" => self.update(),
            "delete" => self.delete(),
            "merge" => self.merge(),
            _ => Ok(StatementKind::Query(self.query()?)),
        }
    }

    /// Queries alone in WITH, and behind it what changes rows.
    fn change_behind(&mut self) -> Result<StatementKind> {
        let with_token = self.parser.peek_token().into();
        self.expect("with")?;
        let recursive = self.accept("recursive");
        let cte_tables = self.comma_separated(|c| c.sqlparser(|p| p.parse_cte()))?;
        let with = ast::With { with_token, recursive, cte_tables };
        let start = self.start();
        Ok(match self.change_or_query()? {
            // Those are not in the source, which alone takes its WITH along.
            StatementKind::Insert(insert) if has_subqueries_beside_source(&insert) => {
                let parts = with.cte_tables.into_iter().map(part_of).collect();
                let main_text = self.text_since(start).to_string();
                let main = Box::new(StatementKind::Insert(insert));
                StatementKind::ChangeWith(ChangeWith { recursive, parts, main, main_text })
            }
            StatementKind::Insert(mut insert) => {
                // What the source says itself comes behind, and may name what is before.
                if let Some(source) = &mut insert.source {
                    let own = source.with.take();
                    let mut all = with;
                    all.recursive |= own.as_ref().is_some_and(|own| own.recursive);
                    all.cte_tables.extend(own.into_iter().flat_map(|own| own.cte_tables));
                    source.with = Some(all);
                }
                StatementKind::Insert(insert)
            }
            StatementKind::Update(update) => StatementKind::Update(Update { with: Some(with), ..update }),
            StatementKind::Delete(delete) => StatementKind::Delete(Delete { with: Some(with), ..delete }),
            StatementKind::Merge(merge) => StatementKind::Merge(Merge { with: Some(with), ..merge }),
            other => other,
        })
    }
}

fn part_of(cte: ast::Cte) -> WithPart {
    let columns = cte.alias.columns.iter().map(|column| fold(&column.name)).collect();
    let text = super::text_of(&cte.query);
    WithPart { name: fold(&cte.alias.name), columns, kind: StatementKind::Query(cte.query), text }
}

/// In ON CONFLICT or RETURNING.
fn has_subqueries_beside_source(insert: &Insert) -> bool {
    let subquery = |expr: &ast::Expr| match expr {
        ast::Expr::Subquery(_) | ast::Expr::Exists { .. } | ast::Expr::InSubquery { .. } => ControlFlow::Break(()),
        _ => ControlFlow::Continue(()),
    };
    let assigned = insert
        .on_conflict
        .iter()
        .flat_map(|on_conflict| on_conflict.assignments.iter().map(|(_, expr)| expr).chain(&on_conflict.filter));
    let in_conflict = assigned.into_iter().any(|expr| visit::visit_expressions(expr, subquery).is_break());
    in_conflict || visit::visit_expressions(&insert.returning, subquery).is_break()
}
