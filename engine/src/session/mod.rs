//! A client's conversation with the engine: settings, transaction, prepared statements, cursors.
//! (The signatures of the public API; see each item.)

use std::pin::Pin;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, SchemaRef};
use bytes::Bytes;
use datafusion::common::ScalarValue;
use futures::Stream;

use crate::error::{Error, Result};
use crate::sql::statement::{CopyFormat, Statement};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TransactionStatus {
    Idle,
    Open,
    Failed,
}

/// A message beside the answer, e.g. `NOTICE: relation "x" does not exist, skipping`.
#[derive(Debug, Clone)]
pub struct Notice {
    /// `NOTICE`, `WARNING`, `INFO` …
    pub severity: &'static str,
    pub code: &'static str,
    pub message: String,
}

pub type RowStream = Pin<Box<dyn Stream<Item = Result<RecordBatch>> + Send>>;
pub type ByteStream = Pin<Box<dyn Stream<Item = Result<Bytes>> + Send>>;

/// A bound statement. `columns` is `None` when it returns no rows.
#[derive(Clone)]
pub struct Prepared {
    pub statement: Arc<Statement>,
    /// `$1, $2, …`: types given by the client or inferred; text where nothing says more.
    pub parameters: Vec<DataType>,
    pub columns: Option<SchemaRef>,
}

/// What a statement gave.
pub enum Outcome {
    Empty,
    /// Command tag, e.g. `CREATE TABLE`, `INSERT 0 3`, `SET`.
    Done(String),
    /// Rows, and the tag's word: `SELECT` (the server appends the count), `FETCH`, `SHOW`, `EXPLAIN`,
    /// or for RETURNING the whole tag prefix, e.g. `INSERT 0`.
    Rows { schema: SchemaRef, rows: RowStream, tag: &'static str },
    CopyIn(CopyIn),
    CopyOut { columns: usize, format: CopyFormat, data: ByteStream },
}

/// COPY … FROM STDIN under way: `push` the bytes as they come, then `finish`; dropping it abandons all.
pub struct CopyIn {
    pub columns: usize,
    pub format: CopyFormat,
}

impl CopyIn {
    pub async fn push(&mut self, _bytes: Bytes) -> Result<()> {
        Err(Error::internal("stub"))
    }
    /// Commits; returns the number of rows.
    pub async fn finish(self) -> Result<u64> {
        Err(Error::internal("stub"))
    }
}

/// One client's session. Not shared: one statement at a time.
pub struct Session {}

impl Session {
    /// Splits and parses a text of any number of statements.
    pub fn parse(&self, _sql: &str) -> Result<Vec<Statement>> {
        Err(Error::internal("stub"))
    }
    /// Binds: finds the types of parameters and columns. `given[i]` is the client's type for `$i+1`.
    pub async fn prepare(&mut self, _statement: Statement, _given: &[Option<DataType>]) -> Result<Prepared> {
        Err(Error::internal("stub"))
    }
    /// Runs; `parameters` as many as `prepared.parameters`. In a failed transaction answers 25P02 to all
    /// but COMMIT/ROLLBACK. Cancelling (see [`Session::cancel_handle`]) ends it, and the streams it
    /// returned, with 57014.
    pub async fn execute(&mut self, _prepared: &Prepared, _parameters: Vec<ScalarValue>) -> Result<Outcome> {
        Err(Error::internal("stub"))
    }
    pub fn transaction_status(&self) -> TransactionStatus {
        TransactionStatus::Idle
    }
    /// The server calls this when a stream that `execute` returned has failed, so that an open
    /// transaction becomes failed.
    pub fn note_failure(&mut self) {}
    /// Several statements in one simple query message are one implicit transaction: `begin_implicit`
    /// before the first (a no-op inside BEGIN), `end_implicit(ok)` after the last or the failed one.
    pub async fn begin_implicit(&mut self) {}
    pub async fn end_implicit(&mut self, _ok: bool) -> Result<()> {
        Ok(())
    }
    /// Messages since the last call.
    pub fn take_notices(&mut self) -> Vec<Notice> {
        Vec::new()
    }
    /// Settings with GUC_REPORT that changed since the last call (all of them at first): name, value.
    pub fn take_reported_settings(&mut self) -> Vec<(String, String)> {
        Vec::new()
    }
    pub fn setting(&self, _name: &str) -> Option<String> {
        None
    }
    /// Sets a setting from the startup packet; unknown names give 42704.
    pub fn set_startup(&mut self, _name: &str, _value: &str) -> Result<()> {
        Ok(())
    }
    pub fn cancel_handle(&self) -> CancelHandle {
        CancelHandle(Arc::new(|| ()))
    }
    /// The session's process id as clients see it (pg_backend_pid, BackendKeyData).
    pub fn pid(&self) -> i32 {
        0
    }
}

/// Cancels the statement that its session is running, if any. Cheap to clone, usable from any thread.
#[derive(Clone)]
pub struct CancelHandle(pub Arc<dyn Fn() + Send + Sync>);
impl CancelHandle {
    pub fn cancel(&self) {
        (self.0)()
    }
}
