//! DECLARE, FETCH, MOVE, CLOSE, and statements prepared by name.
//!
//! A cursor that can go back keeps the rows that it has given. One that was not declared with SCROLL or NO SCROLL does so
//! until they are too many: from then on it can only go on, as Postgres' cursors can over some plans.
//!
//! ```text
//!   DECLARE c SCROLL CURSOR FOR VALUES ('a'), ('b'), ('c')
//!   position     0    1   2   3    4          FETCH LAST: c, at 3      FETCH 5: nothing, at 4
//!             before  a   b   c  after        FETCH BACKWARD 2: c, b   FETCH ABSOLUTE -3: a
//! ```

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use arrow::array::{Array as _, RecordBatch, UInt32Array};
use arrow::compute::take_record_batch;
use arrow::datatypes::{Field, SchemaRef};
use datafusion::common::ScalarValue;
use datafusion::execution::memory_pool::MemoryReservation;
use futures::StreamExt;
use sqlparser::ast;

use super::collected::hold;
use super::plans::{Plans, Room};
use super::query::Argument;
use super::{Outcome, Prepared, RowStream, Session};
use crate::error::{Error, Result};
use crate::sql::bind::error_from;
use crate::sql::statement::{FetchCount, Statement, StatementKind};

/// What a cursor keeps that was not declared with SCROLL.
const KEPT_BYTES_MAX: usize = 8 << 20;
const ROWS_AT_ONCE: usize = 8192;

/// Rows of a query, read a few at a time.
pub(super) struct Cursor {
    pub hold: bool,
    schema: SchemaRef,
    /// Never locked: the mutex only makes a session shareable between the points where it waits.
    rows: Mutex<RowStream>,
    ended: bool,
    /// Taken from the stream: where it can go back, all of them from the first one on; else those not yet fetched.
    batches: VecDeque<RecordBatch>,
    /// Rows before those.
    passed: usize,
    /// Rows taken from the stream.
    total: usize,
    /// The row that it stands on, from 1; 0 before the first one, and `total + 1` after the last one.
    position: usize,
    scroll: Scroll,
    /// For what it keeps.
    held: MemoryReservation,
    _room: Room,
}

#[derive(Clone, Copy, PartialEq)]
enum Scroll {
    Yes,
    /// As long as what is kept is not too much.
    WhileSmall,
    No,
}

impl Cursor {
    /// Takes rows from the stream until there are so many, or it has ended.
    async fn read_to(&mut self, wanted: usize) -> Result<()> {
        // An endless one (a subscription) gives what there is.
        let only_now = wanted == usize::MAX && self.is_endless();
        while self.total < wanted && !self.ended {
            match self.rows.get_mut().expect("never locked").next().await {
                None => self.ended = true,
                Some(batch) => {
                    let batch = batch?;
                    self.total += batch.num_rows();
                    if self.scroll != Scroll::No {
                        hold(&self.held, &batch)?;
                    }
                    if batch.num_rows() > 0 {
                        self.batches.push_back(batch);
                    }
                    if only_now {
                        break;
                    }
                }
            }
        }
        Ok(())
    }

    fn is_endless(&self) -> bool {
        self.schema.fields().first().is_some_and(|f| f.name() == "_ts")
    }

    /// Rows by their numbers, from 1: those from `first` on, as many as `count`. All have been read.
    fn rows(&self, first: usize, count: usize) -> Vec<RecordBatch> {
        if count == 0 {
            return Vec::new();
        }
        let mut before = self.passed;
        let mut found = Vec::new();
        let (first, end) = (first - 1, first - 1 + count);
        for batch in &self.batches {
            let (from, to) = (first.max(before), end.min(before + batch.num_rows()));
            if from < to {
                found.push(batch.slice(from - before, to - from));
            }
            before += batch.num_rows();
        }
        found
    }

    /// Lets go of what it will not give again.
    fn forget(&mut self) {
        if self.scroll == Scroll::WhileSmall && self.held.size() > KEPT_BYTES_MAX {
            self.scroll = Scroll::No;
        }
        if self.scroll != Scroll::No {
            return;
        }
        self.held.free();
        while let Some(batch) = self.batches.front() {
            let gone = self.position.min(self.total) - self.passed;
            if gone < batch.num_rows() {
                let rest = batch.slice(gone, batch.num_rows() - gone);
                self.batches[0] = rest;
                self.passed += gone;
                return;
            }
            self.passed += batch.num_rows();
            self.batches.pop_front();
        }
    }

    fn only_forward(&self) -> Result<()> {
        match self.scroll {
            Scroll::No => Err(Error::new("55000", "cursor can only scan forward")
                .hint("Declare it with SCROLL option to enable backward scan.")),
            _ => Ok(()),
        }
    }

    async fn forward(&mut self, wanted: usize) -> Result<Vec<RecordBatch>> {
        let last = self.position.saturating_add(wanted);
        self.read_to(last).await?;
        let first = self.position + 1;
        let count = (self.total + 1).saturating_sub(first).min(wanted);
        // Of an endless one nobody knows the end.
        self.position = if count == wanted || !self.ended { self.position + count } else { self.total + 1 };
        Ok(self.rows(first, count))
    }

    fn backward(&mut self, wanted: usize) -> Result<Vec<RecordBatch>> {
        self.only_forward()?;
        let count = self.position.saturating_sub(1).min(wanted);
        let first = self.position - count;
        self.position = if count == wanted { first } else { 0 };
        let reversed = |rows: RecordBatch| {
            let order = UInt32Array::from_iter_values((0..rows.num_rows() as u32).rev());
            take_record_batch(&rows, &order).map_err(Error::internal)
        };
        self.rows(first, count).into_iter().rev().map(reversed).collect()
    }

    /// The row of this number, if there is one; going back only if it may.
    async fn at(&mut self, number: usize) -> Result<Vec<RecordBatch>> {
        if number <= self.position {
            self.only_forward()?;
        }
        self.read_to(number).await?;
        self.position = number.min(self.total + 1);
        Ok(if (1..=self.total).contains(&self.position) { self.rows(self.position, 1) } else { Vec::new() })
    }

    /// As many rows as are wanted, some at a time: those that are only passed are not kept.
    async fn go_on(&mut self, wanted: usize, fetched: &mut Fetched) -> Result<()> {
        let mut left = wanted;
        while left > 0 {
            let step = if wanted == usize::MAX && self.is_endless() { wanted } else { left.min(ROWS_AT_ONCE) };
            let rows = self.forward(step).await?;
            let count = rows.iter().map(RecordBatch::num_rows).sum::<usize>();
            fetched.add(rows)?;
            self.forget();
            if count < step {
                return Ok(());
            }
            left -= count;
        }
        Ok(())
    }

    async fn fetch(&mut self, count: FetchCount, fetched: &mut Fetched) -> Result<()> {
        let size = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
        let rows = match count {
            FetchCount::Rows(0) | FetchCount::Back(0) | FetchCount::Relative(0) => {
                self.only_forward()?;
                self.at(self.position).await?
            }
            FetchCount::Rows(n) => return self.go_on(size(n), fetched).await,
            FetchCount::All => return self.go_on(usize::MAX, fetched).await,
            FetchCount::Back(n) => self.backward(size(n))?,
            FetchCount::BackAll => self.backward(usize::MAX)?,
            FetchCount::Absolute(n) if n >= 0 => self.at(size(n as u64)).await?,
            FetchCount::Absolute(n) => {
                self.only_forward()?;
                self.read_to(usize::MAX).await?;
                self.at((self.total + 1).saturating_sub(size(n.unsigned_abs()))).await?
            }
            FetchCount::Relative(n) if n > 0 => self.at(self.position.saturating_add(size(n as u64))).await?,
            FetchCount::Relative(n) => self.at(self.position.saturating_sub(size(n.unsigned_abs()))).await?,
        };
        self.forget();
        fetched.add(rows)
    }
}

/// What a FETCH gives, or a MOVE counts.
struct Fetched {
    batches: Vec<RecordBatch>,
    total: usize,
    /// `None`: nothing is given.
    held: Option<MemoryReservation>,
}

impl Fetched {
    fn add(&mut self, rows: Vec<RecordBatch>) -> Result<()> {
        for batch in rows {
            self.total += batch.num_rows();
            if let Some(held) = &self.held {
                hold(held, &batch)?;
                self.batches.push(batch);
            }
        }
        Ok(())
    }
}

impl Session {
    pub(super) async fn declare(
        &mut self,
        name: &str,
        hold: bool,
        scroll: Option<bool>,
        statement: &Statement,
        parameters: &[Argument],
    ) -> Result<Outcome> {
        if !hold && self.transaction.is_none() {
            return Err(Error::new("25P01", "DECLARE CURSOR can only be used in transaction blocks"));
        }
        if self.cursors.contains_key(name) {
            return Err(Error::new("42P03", format!("cursor \"{name}\" already exists")));
        }
        let is_query = matches!(
            statement.kind,
            StatementKind::Query(_) | StatementKind::QueryLocking { .. } | StatementKind::QueryAsOf { .. }
        );
        let scroll = match scroll {
            Some(true) if !is_query => return Err(Error::unsupported("SCROLL of what is not a query")),
            Some(true) => Scroll::Yes,
            None if is_query => Scroll::WhileSmall,
            _ => Scroll::No,
        };
        let statement = Arc::new(statement.clone());
        let Outcome::Rows { schema, rows, .. } = Box::pin(self.run(&statement, &Plans::default(), parameters)).await?
        else {
            return Err(Error::new("42P11", "a cursor's statement must return rows"));
        };
        let cursor = Cursor {
            hold,
            schema,
            rows: Mutex::new(rows),
            ended: false,
            batches: VecDeque::new(),
            passed: 0,
            total: 0,
            position: 0,
            scroll,
            held: self.kept_reservation("the rows of a cursor"),
            _room: self.room_for_rows()?,
        };
        self.cursors.insert(name.to_string(), cursor);
        Ok(Outcome::Done("DECLARE CURSOR".into()))
    }

    pub(super) fn cursor_schema(&self, name: &str) -> Result<SchemaRef> {
        let cursor = self.cursors.get(name).ok_or_else(|| unknown_cursor(name))?;
        Ok(cursor.schema.clone())
    }

    pub(super) async fn fetch(&mut self, name: &str, count: FetchCount, is_move: bool) -> Result<Outcome> {
        // Taken out while it is read, so that a failure closes it.
        let mut cursor = self.cursors.remove(name).ok_or_else(|| unknown_cursor(name))?;
        let schema = cursor.schema.clone();
        let held = (!is_move).then(|| self.reservation("the rows of a FETCH"));
        let mut fetched = Fetched { batches: Vec::new(), total: 0, held };
        let done = cursor.fetch(count, &mut fetched).await;
        // One that cannot go back has not failed.
        if done.as_ref().err().is_none_or(|error| error.code == "55000") {
            self.cursors.insert(name.to_string(), cursor);
        }
        done?;
        let Fetched { batches, total, held } = fetched;
        if is_move {
            return Ok(Outcome::Done(format!("MOVE {total}")));
        }
        let rows = futures::stream::iter(batches).map(move |batch| {
            // Until the last row has been taken.
            let _held = &held;
            Ok(batch)
        });
        Ok(Outcome::Rows { schema, rows: Box::pin(rows), tag: "FETCH" })
    }

    /// The columns of a cursor that DECLARE made; clients ask for them as for those of a portal.
    pub fn cursor_columns(&self, name: &str) -> Option<SchemaRef> {
        self.cursors.get(name).map(|cursor| cursor.schema.clone())
    }

    pub(super) fn close_cursor(&mut self, name: Option<&str>) -> Result<Outcome> {
        match name {
            None => {
                self.cursors.clear();
                Ok(Outcome::Done("CLOSE CURSOR ALL".into()))
            }
            Some(name) => {
                self.cursors.remove(name).ok_or_else(|| unknown_cursor(name))?;
                Ok(Outcome::Done("CLOSE CURSOR".into()))
            }
        }
    }

    pub(super) fn prepare_named(&mut self, name: &str, types: &[String], statement: &Statement) -> Result<()> {
        if self.prepared.contains_key(name) {
            return Err(Error::new("42P05", format!("prepared statement \"{name}\" already exists")));
        }
        let given = types
            .iter()
            .map(|t| crate::sql::types::field("", &self.type_found(t)?, true).map(|f| Some(Arc::new(f))))
            .collect::<Result<Vec<_>>>()?;
        let held = Some(self.room_for(statement)?);
        let plans = Plans::default();
        let (parameters, columns) = self.describe(statement, &given, &plans)?;
        let prepared = Prepared { statement: Arc::new(statement.clone()), parameters, columns, plans, _held: held };
        self.prepared.insert(name.to_string(), prepared);
        Ok(())
    }

    pub(super) fn prepared_named(&self, name: &str) -> Result<Prepared> {
        self.prepared
            .get(name)
            .cloned()
            .ok_or_else(|| Error::new("26000", format!("prepared statement \"{name}\" does not exist")))
    }

    /// EXECUTE's arguments as values of the parameters' types.
    pub(super) fn argument_values(&self, prepared: &Prepared, arguments: &[ast::Expr]) -> Result<Vec<Argument>> {
        if arguments.len() != prepared.parameters.len() {
            return Err(Error::new(
                "42601",
                format!("wrong number of parameters: expected {}, got {}", prepared.parameters.len(), arguments.len()),
            ));
        }
        let scope = self.scope();
        let state = self.state(&scope)?;
        let nothing = datafusion::common::DFSchema::empty();
        let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(1));
        let one = RecordBatch::try_new_with_options(Arc::new(arrow::datatypes::Schema::empty()), vec![], &options)
            .expect("no columns");
        let values = arguments
            .iter()
            .zip(&prepared.parameters)
            .map(|(argument, field)| {
                let expr = crate::sql::bind::bind_expression(&state, &nothing, argument)?;
                let value = state
                    .create_physical_expr(expr, &nothing)
                    .and_then(|e| e.evaluate(&one))
                    .and_then(|v| v.into_array(1))
                    .map_err(error_from)?;
                let given = Field::new("", value.data_type().clone(), true);
                let value = crate::sql::cast::assign(&value, &given, field, &self.style()?)?;
                ScalarValue::try_from_array(&value, 0).map_err(error_from)
            })
            .collect::<Result<Vec<_>>>()?;
        Ok(super::query::arguments(&prepared.parameters, values))
    }
}

fn unknown_cursor(name: &str) -> Error {
    Error::new("34000", format!("cursor \"{name}\" does not exist"))
}
