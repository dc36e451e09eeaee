//! DECLARE, FETCH, MOVE, CLOSE, and statements prepared by name.

use std::sync::{Arc, Mutex};

use arrow::array::Array as _;
use arrow::array::RecordBatch;
use arrow::datatypes::{Field, SchemaRef};
use datafusion::common::ScalarValue;
use futures::StreamExt;
use sqlparser::ast;

use super::collected::hold;
use super::plans::{Plans, Room};
use super::query::Argument;
use super::{Outcome, Prepared, RowStream, Session};
use crate::error::{Error, Result};
use crate::sql::bind::error_from;
use crate::sql::statement::{FetchCount, Statement};

/// Rows of a query, read a few at a time.
pub(super) struct Cursor {
    pub hold: bool,
    schema: SchemaRef,
    /// Never locked: the mutex only makes a session shareable between the points where it waits.
    rows: Mutex<RowStream>,
    /// Taken from the stream, not yet fetched.
    rest: Option<RecordBatch>,
    _room: Room,
}

impl Cursor {
    async fn next(&mut self, wanted: usize) -> Result<Option<RecordBatch>> {
        let batch = match self.rest.take() {
            Some(batch) => batch,
            None => match self.rows.get_mut().expect("never locked").next().await {
                None => return Ok(None),
                Some(batch) => batch?,
            },
        };
        if batch.num_rows() > wanted {
            self.rest = Some(batch.slice(wanted, batch.num_rows() - wanted));
            return Ok(Some(batch.slice(0, wanted)));
        }
        Ok(Some(batch))
    }
}

impl Session {
    pub(super) async fn declare(
        &mut self,
        name: &str,
        hold: bool,
        statement: &Statement,
        parameters: &[Argument],
    ) -> Result<Outcome> {
        if !hold && self.transaction.is_none() {
            return Err(Error::new("25P01", "DECLARE CURSOR can only be used in transaction blocks"));
        }
        if self.cursors.contains_key(name) {
            return Err(Error::new("42P03", format!("cursor \"{name}\" already exists")));
        }
        let statement = Arc::new(statement.clone());
        let Outcome::Rows { schema, rows, .. } = Box::pin(self.run(&statement, &Plans::default(), parameters)).await?
        else {
            return Err(Error::new("42P11", "a cursor's statement must return rows"));
        };
        let cursor = Cursor { hold, schema, rows: Mutex::new(rows), rest: None, _room: self.room_for_rows()? };
        self.cursors.insert(name.to_string(), cursor);
        Ok(Outcome::Done("DECLARE CURSOR".into()))
    }

    pub(super) fn cursor_schema(&self, name: &str) -> Result<SchemaRef> {
        let cursor = self.cursors.get(name).ok_or_else(|| unknown_cursor(name))?;
        Ok(cursor.schema.clone())
    }

    pub(super) async fn fetch(&mut self, name: &str, count: FetchCount, is_move: bool) -> Result<Outcome> {
        let mut wanted = match count {
            FetchCount::Rows(n) => usize::try_from(n).unwrap_or(usize::MAX),
            FetchCount::All => usize::MAX,
            FetchCount::Backward => {
                return Err(Error::new("55000", "cursor can only scan forward")
                    .hint("Declare it with SCROLL option to enable backward scan."));
            }
        };
        // Taken out while it is read, so that a failure closes it.
        let mut cursor = self.cursors.remove(name).ok_or_else(|| unknown_cursor(name))?;
        let schema = cursor.schema.clone();
        let mut batches = Vec::new();
        let mut total = 0;
        let held = self.reservation("the rows of a FETCH");
        while wanted > 0 {
            let Some(batch) = cursor.next(wanted).await? else { break };
            wanted -= batch.num_rows();
            total += batch.num_rows();
            if !is_move {
                hold(&held, &batch)?;
                batches.push(Ok(batch));
            }
            // An endless cursor (a subscription) gives what there is.
            if wanted == usize::MAX && cursor.schema.fields().first().is_some_and(|f| f.name() == "_ts") {
                break;
            }
        }
        self.cursors.insert(name.to_string(), cursor);
        if is_move {
            return Ok(Outcome::Done(format!("MOVE {total}")));
        }
        let rows = futures::stream::iter(batches).map(move |batch| {
            // Until the last row has been taken.
            let _held = &held;
            batch
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
            .map(|t| crate::sql::types::field("", t, true).map(|f| Some(Arc::new(f))))
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
