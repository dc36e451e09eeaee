//! The simple protocol: a text of statements, each answered in turn, one ReadyForQuery at the end.
//!
//! Several statements are one transaction (unless they say otherwise), so the last CommandComplete is sent
//! after its commit. The first error ends it.

use millrace_engine::error::Result;
use millrace_engine::session::Outcome;
use millrace_engine::sql::statement::{Statement, StatementKind};

use super::connection::{Connection, Failure, supervise};
use super::io::End;
use super::rows::Cursor;
use super::wire;
use crate::encoding::RowEncoder;

/// Where statements stand in the text that they came in: an error's position counts from the text's beginning.
pub struct Places<'a> {
    text: &'a str,
    /// Bytes up to the end of the last statement, and characters.
    at: usize,
    characters: usize,
}

impl<'a> Places<'a> {
    pub fn in_text(text: &'a str) -> Places<'a> {
        Places { text, at: 0, characters: 0 }
    }
    /// How many characters come before the next statement.
    pub fn before(&mut self, statement: &Statement) -> usize {
        let Some(found) = self.text[self.at..].find(&statement.text) else { return 0 };
        let before = self.characters + self.text[self.at..self.at + found].chars().count();
        self.at += found + statement.text.len();
        self.characters = before + statement.text.chars().count();
        before
    }
}

impl Connection {
    pub(super) async fn simple_query(&mut self, sql: &str) -> Result<(), End> {
        self.statements.remove("");
        self.portals.remove("");
        let running = self.registration.running.clone();
        running.begin();
        let result = self.run_all(sql).await;
        running.end();
        match result {
            Ok(()) => {}
            Err(Failure::Error(error)) => self.fail(&error),
            Err(Failure::End(end)) => return Err(end),
        }
        self.ready();
        Ok(())
    }

    async fn run_all(&mut self, sql: &str) -> Result<(), Failure> {
        let mut statements = self.session.parse(sql)?;
        self.put_notices();
        statements.retain(|s| !matches!(s.kind, StatementKind::Empty));
        let Some(last) = statements.pop() else {
            wire::put_plain(&mut self.io.out, wire::EMPTY_QUERY);
            return Ok(());
        };
        let mut places = Places::in_text(sql);
        if statements.is_empty() {
            let before = places.before(&last);
            let tag = self.run_one(last).await.map_err(|e| e.moved(before))?;
            self.complete(&tag);
            return Ok(());
        }
        self.session.begin_implicit().await;
        let result = self.run_each(statements, last, places).await;
        let ended = self.session.end_implicit(result.is_ok()).await;
        let tag = result?;
        ended?;
        self.complete(&tag);
        Ok(())
    }

    async fn run_each(
        &mut self,
        statements: Vec<Statement>,
        last: Statement,
        mut places: Places<'_>,
    ) -> Result<String, Failure> {
        for statement in statements {
            let before = places.before(&statement);
            let tag = self.run_one(statement).await.map_err(|e| e.moved(before))?;
            self.complete(&tag);
        }
        let before = places.before(&last);
        self.run_one(last).await.map_err(|e| e.moved(before))
    }

    fn complete(&mut self, tag: &str) {
        self.put_notices();
        wire::put_complete(&mut self.io.out, tag);
    }

    /// Runs a statement and sends its rows; returns its command tag.
    async fn run_one(&mut self, statement: Statement) -> Result<String, Failure> {
        self.check_not_failed(&statement)?;
        metrics::counter!("millrace_statements_total").increment(1);
        if let Some(tag) = self.deallocate(&statement.kind) {
            return Ok(tag);
        }
        let deadline = self.deadline();
        let running = self.registration.running.clone();
        let outcome = {
            let session = &mut self.session;
            let work = session.prepare_and_execute(statement);
            supervise(work, &mut self.io, &running, deadline).await?
        };
        let (prepared, outcome) = outcome;
        self.forget(&prepared.statement.kind);
        match outcome {
            Outcome::Empty => Ok(String::new()),
            Outcome::Done(tag) => Ok(tag),
            Outcome::Rows { schema, rows, tag } => {
                let formats = vec![false; schema.fields().len()];
                let mut cursor = Cursor::new(rows, RowEncoder::new(schema, formats, self.style()), tag);
                cursor.encoder.describe(&mut self.io.out);
                let (count, _) = cursor.send(0, &mut self.io, &running, deadline).await?;
                Ok(cursor.command_tag(count))
            }
            Outcome::CopyIn(copy) => self.copy_in(copy, deadline).await,
            Outcome::CopyOut { columns, format, data } => self.copy_out(columns, &format, data, deadline).await,
        }
    }
}
