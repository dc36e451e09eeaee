//! A client's conversation with the engine: settings, transaction, prepared statements, cursors.
//!
//! Text goes in through [`Session::parse`] and [`Session::prepare`]; [`Session::execute`] runs a bound
//! statement and gives an [`Outcome`], whose rows are an Arrow stream.

mod alter;
mod alter_below;
mod alter_own;
mod alter_rows;
mod alter_stream;
mod analyze;
pub mod arrangements;
mod backup;
pub mod cancel;
mod change_with;
mod collected;
mod constraints;
mod contention;
mod copy;
mod create_as;
mod cursor;
pub mod ddl;
mod defaults;
mod definition;
mod dml;
mod do_block;
mod dropping;
mod event_time;
mod generated;
mod immediate;
mod index;
mod live;
mod locking;
mod lookup;
mod merge;
mod numbers;
mod on_conflict;
pub mod origins;
mod own_batches;
mod past;
mod patience;
mod plans;
mod portions;
pub mod query;
mod references;
mod referential;
mod rejected;
mod replace;
mod returning;
mod sequence;
mod settings;
mod settling;
mod shielded;
mod show;
mod subscribe;
mod system_state;
mod system_tables;
pub(crate) mod temporary;
pub mod through_view;
mod transaction;
mod types;
pub mod view;

use std::borrow::Cow;
use std::collections::{HashMap, VecDeque};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::{FieldRef, SchemaRef};
use bytes::Bytes;
use datafusion::common::ScalarValue;
use datafusion::execution::memory_pool::{MemoryPool, MemoryReservation};
use datafusion::execution::runtime_env::RuntimeEnv;
use futures::Stream;
use tokio::time::Instant;

pub use cancel::CancelHandle;
use change_with::OneStatement;
use contention::Contention;
pub use copy::CopyIn;
use cursor::Cursor;
use plans::Plans;
pub use plans::Room;
use query::Argument;
use settings::Settings;
use settling::Settling;
use transaction::Transaction;

use crate::catalog::{Catalog, RelationKind};
use crate::core::Core;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::serve::table::SnapshotSlot;
use crate::sql::bounds::Bounds;
use crate::sql::copy::{CopyDirection, CopyFormat};
use crate::sql::statement::{Statement, StatementKind};
use crate::sql::system::CatalogView;
use crate::waits::Waiter;

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
    pub parameters: Vec<FieldRef>,
    pub columns: Option<SchemaRef>,
    plans: Plans,
    /// For as long as the client keeps it.
    _held: Option<Arc<MemoryReservation>>,
}

/// What a statement gave.
pub enum Outcome {
    Empty,
    /// Command tag, e.g. `CREATE TABLE`, `INSERT 0 3`, `SET`.
    Done(String),
    /// Rows, and the tag's word: `SELECT` (the server appends the count), `FETCH`, `SHOW`, `EXPLAIN`,
    /// or for RETURNING the whole tag prefix, e.g. `INSERT 0`.
    Rows {
        schema: SchemaRef,
        rows: RowStream,
        tag: &'static str,
    },
    CopyIn(CopyIn),
    CopyOut {
        columns: usize,
        format: CopyFormat,
        data: ByteStream,
    },
}

/// One client's session. Not shared: one statement at a time.
pub struct Session {
    engine: Arc<Engine>,
    core: Arc<Core>,
    user: String,
    database: String,
    pid: i32,
    settings: Settings,
    transaction: Option<Transaction>,
    notices: VecDeque<Notice>,
    cancel: CancelHandle,
    /// Of the statement that runs, or ran last.
    environment: Arc<RuntimeEnv>,
    /// Of it what is held until it ends.
    held: Vec<MemoryReservation>,
    /// For what lasts longer: statements that stay prepared.
    kept: Arc<dyn MemoryPool>,
    slot: Arc<SnapshotSlot>,
    prepared: HashMap<String, Prepared>,
    cursors: HashMap<String, Cursor>,
    /// What set_config() asked for while a statement ran.
    asked_settings: live::AskedSettings,
    /// CHECKs of the tables that it writes to.
    conditions: constraints::Conditions,
    /// The numbers that sequences gave it last.
    seen_numbers: numbers::SharedSeen,
    /// Advisory locks, LISTEN and NOTIFY.
    settling: Arc<Settling>,
    /// It has made a temporary table.
    has_temporary: bool,
    /// Of a statement of several parts what those before gave and changed.
    one_statement: Option<OneStatement>,
    /// Of the statement that runs: who is in its way.
    contention: Contention,
}

impl Drop for Session {
    fn drop(&mut self) {
        self.leave_temporary();
        self.settling.leave();
        self.core.sessions.lock().expect("no panic while held").remove(&self.pid);
    }
}

/// Messages kept for a client that does not ask for them.
const NOTICES_MAX: usize = 1000;

impl Session {
    pub(crate) fn new(engine: Arc<Engine>, user: &str, database: &str) -> Session {
        let core = engine.core().clone();
        let environment = core.memory.of_statement();
        let kept = core.memory.of_statement().memory_pool.clone();
        let pid = core.next_pid.fetch_add(1, Ordering::Relaxed);
        let named = (user.to_string(), database.to_string());
        core.sessions.lock().expect("no panic while held").insert(pid, named);
        let settling = Arc::new(Settling::new(core.clone(), pid));
        let mut settings = Settings::default();
        settings.set_fixed("session_authorization", user);
        Session {
            engine,
            core,
            user: user.to_string(),
            database: database.to_string(),
            pid,
            settings,
            transaction: None,
            notices: VecDeque::new(),
            cancel: CancelHandle::default(),
            environment,
            held: Vec::new(),
            kept,
            slot: Arc::default(),
            prepared: HashMap::new(),
            cursors: HashMap::new(),
            asked_settings: Default::default(),
            conditions: Default::default(),
            seen_numbers: Default::default(),
            settling,
            has_temporary: false,
            one_statement: None,
            contention: Contention::default(),
        }
    }

    /// Splits and parses a text of any number of statements.
    pub fn parse(&mut self, sql: &str) -> Result<Vec<Statement>> {
        self.cancel.reset(self.deadline());
        let sql = &*self.with_names_cut(sql);
        let parse = || self.bounds().within(|| crate::sql::parse::parse(sql));
        if patience::is_long(sql) { patience::aside(parse) } else { parse() }
    }

    /// Binds: finds the types of parameters and columns. `given[i]` is the client's type for `$i+1`.
    pub async fn prepare(&mut self, statement: Statement, given: &[Option<FieldRef>]) -> Result<Prepared> {
        let held = self.room_for(&statement)?;
        let prepared = self.prepare_by(statement, given, self.deadline())?;
        Ok(Prepared { _held: Some(held), ..prepared })
    }

    /// Prepares and runs a statement without parameters; both together have the time that one may have.
    pub async fn prepare_and_execute(&mut self, statement: Statement) -> Result<(Prepared, Outcome)> {
        let deadline = self.deadline();
        let prepared = self.prepare_by(statement, &[], deadline)?;
        let outcome = self.execute_by(&prepared, Vec::new(), deadline).await?;
        Ok((prepared, outcome))
    }

    fn deadline(&self) -> Option<Instant> {
        cancel::deadline(self.settings.statement_timeout())
    }

    /// A statement begins: time and memory are its own.
    fn begin_statement(&mut self, deadline: Option<Instant>) {
        self.cancel.reset(deadline);
        self.environment = self.core.memory.of_statement();
    }

    fn bounds(&self) -> Bounds {
        self.cancel.bounds(self.environment.memory_pool.clone())
    }

    fn prepare_by(
        &mut self,
        statement: Statement,
        given: &[Option<FieldRef>],
        deadline: Option<Instant>,
    ) -> Result<Prepared> {
        self.apply_asked_settings()?;
        self.begin_statement(deadline);
        let plans = Plans::default();
        let is_long = patience::is_long(&statement.text);
        let bounds = self.bounds();
        let mut describe = || bounds.within(|| self.describe(&statement, given, &plans));
        let described = if is_long { patience::aside(describe) } else { describe() };
        self.one_statement = None;
        let (parameters, columns) = described.map_err(|e| statement.locate(e))?;
        Ok(Prepared { statement: Arc::new(statement), parameters, columns, plans, _held: None })
    }

    /// Runs; `parameters` as many as `prepared.parameters`. In a failed transaction answers 25P02 to all
    /// but COMMIT and ROLLBACK. Cancelling (see [`Session::cancel_handle`]) ends it, and the streams it
    /// returned, with 57014.
    pub async fn execute(&mut self, prepared: &Prepared, parameters: Vec<ScalarValue>) -> Result<Outcome> {
        prepared.plans.keep_lasting();
        self.execute_by(prepared, parameters, self.deadline()).await
    }

    async fn execute_by(
        &mut self,
        prepared: &Prepared,
        parameters: Vec<ScalarValue>,
        deadline: Option<Instant>,
    ) -> Result<Outcome> {
        let kind = &prepared.statement.kind;
        if self.transaction.as_ref().is_some_and(|t| t.failed) && !transaction::allowed_when_failed(kind) {
            return Err(Error::new(
                "25P02",
                "current transaction is aborted, commands ignored until end of transaction block",
            ));
        }
        if parameters.len() != prepared.parameters.len() {
            let message = format!(
                "bind message supplies {} parameters, but prepared statement requires {}",
                parameters.len(),
                prepared.parameters.len()
            );
            return Err(Error::new("08P01", message));
        }
        self.apply_asked_settings()?;
        self.settle();
        self.begin_statement(deadline);
        let (cancel, bounds) = (self.cancel.clone(), self.bounds());
        let statement = prepared.statement.clone();
        let arguments = query::arguments(&prepared.parameters, parameters);
        let run = bounds.clone().future(self.run(&statement, &prepared.plans, &arguments));
        let result = match patience::is_long(&statement.text) {
            true => cancel.run(deadline, patience::Aside(Box::pin(run))).await,
            false => cancel.run(deadline, run).await,
        };
        // Of one that was cancelled they are still there.
        self.leave_one_statement();
        self.release();
        match result {
            Ok(Outcome::Rows { schema, rows, tag }) => {
                let rows = Box::pin(bounds.stream(rows));
                Ok(Outcome::Rows { schema, rows: cancel.guard(deadline, rows), tag })
            }
            Ok(Outcome::CopyOut { columns, format, data }) => {
                Ok(Outcome::CopyOut { columns, format, data: Box::pin(bounds.stream(data)) })
            }
            Ok(outcome) => Ok(outcome),
            Err(error) => {
                self.note_failure();
                Err(statement.locate(error))
            }
        }
    }

    async fn run(&mut self, statement: &Arc<Statement>, plans: &Plans, parameters: &[Argument]) -> Result<Outcome> {
        use StatementKind::*;
        let text = &statement.text;
        if let Some(tag) = writes_tag(&statement.kind) {
            self.check_writable(tag)?;
        }
        self.begin_contention();
        for subquery in &statement.locking {
            self.lock_subquery(subquery, parameters).await?;
        }
        let done = |tag: &str| Ok(Outcome::Done(tag.to_string()));
        match &statement.kind {
            Empty => Ok(Outcome::Empty),
            Query(query) => Ok(with_origins(self.select(query, plans, parameters).await?, plans)),
            QueryLocking { query, locking } => {
                self.lock_read(query, locking, parameters).await?;
                Ok(with_origins(self.select(query, plans, parameters).await?, plans))
            }
            QueryAsOf { query, at } => self.select_as_of(query, at, parameters).await,
            CreateStream(d) => {
                self.create_base(RelationKind::Stream, d, text).await?;
                done("CREATE STREAM")
            }
            CreateTable(d) => {
                self.create_base(RelationKind::Table, d, text).await?;
                done("CREATE TABLE")
            }
            CreateTableAs(definition) => {
                let rows = self.create_table_as(definition, text).await?;
                Ok(Outcome::Done(rows.map_or("CREATE TABLE AS".into(), |n| format!("SELECT {n}"))))
            }
            CreateView { name, or_replace, if_not_exists, columns, query, check } => {
                self.create_view(name, columns, query, *check, text, *or_replace, *if_not_exists).await?;
                done("CREATE VIEW")
            }
            CreateMaterializedView { name, or_replace, if_not_exists, columns, query, options, emit } => {
                let definition = view::Definition { name, columns, query, options, emit: *emit, text };
                self.create_materialized_view(definition, *or_replace, *if_not_exists).await?;
                done("CREATE MATERIALIZED VIEW")
            }
            CreateSink { name, if_not_exists, input, options } => {
                self.create_sink(name, input, options, text, *if_not_exists).await?;
                done("CREATE SINK")
            }
            CreateSchema { name, if_not_exists } => {
                self.create_schema(name, *if_not_exists).await?;
                done("CREATE SCHEMA")
            }
            CreateIndex { unique, name, on, columns, included, computed, condition, if_not_exists } => {
                let by = index::By { columns, included, computed, condition: condition.as_ref() };
                self.create_index(*unique, name.as_deref(), on, by, *if_not_exists).await?;
                done("CREATE INDEX")
            }
            DropIndex { names, if_exists } => {
                self.drop_indexes(names, *if_exists).await?;
                done("DROP INDEX")
            }
            DropSchema { names, if_exists, cascade } => {
                self.drop_schemas(names, *if_exists, *cascade).await?;
                done("DROP SCHEMA")
            }
            Drop { kind, names, if_exists, cascade } => {
                self.drop_relations(*kind, names, *if_exists, *cascade).await?;
                Ok(Outcome::Done(format!("DROP {}", kind.word().to_uppercase())))
            }
            Rename { kind, name, new_name, if_exists } => {
                self.rename(*kind, name, new_name, *if_exists).await?;
                Ok(Outcome::Done(format!("ALTER {}", kind.word().to_uppercase())))
            }
            AlterTable { kind, name, if_exists, actions } => {
                self.alter_table(*kind, name, *if_exists, actions).await?;
                Ok(Outcome::Done(format!("ALTER {}", kind.word().to_uppercase())))
            }
            CreateSequence { name, if_not_exists, options } => {
                self.create_sequence(name, options, *if_not_exists, text).await?;
                done("CREATE SEQUENCE")
            }
            AlterSequence { name, if_exists, options } => {
                self.alter_sequence(name, options, *if_exists).await?;
                done("ALTER SEQUENCE")
            }
            SetConstraints { names, deferred } => self.set_constraints(names, *deferred).await,
            Refresh(name) => self.refresh(name),
            Type(change) => self.change_type(change, text).await,
            Resume(name) => {
                self.resume(name).await?;
                done("ALTER MATERIALIZED VIEW")
            }
            Replay(name) => self.replay(name).await,
            Comment { name, column, text } => {
                self.comment(name, column.as_deref(), text.as_deref()).await?;
                done("COMMENT")
            }
            Insert(_) | Update(_) | Delete(_) | Merge(_) | ChangeWith(_) | Truncate { .. } | TruncateCascade { .. } => {
                self.change_and_follow(&statement.kind, plans, parameters).await
            }
            Copy(copy) => match copy.direction {
                CopyDirection::FromStdin => self.copy_in(copy),
                CopyDirection::ToStdout => self.copy_out(copy).await,
            },
            Begin { read_only, isolation } => self.begin(*read_only, isolation.as_deref()),
            Commit => {
                let ended = self.commit().await;
                // Of one that has failed it says ROLLBACK.
                self.settling.end(matches!(&ended, Ok(Outcome::Done(tag)) if tag == "COMMIT"));
                ended
            }
            Rollback => {
                let ended = self.rollback();
                self.settling.end(false);
                ended
            }
            Savepoint(name) => self.savepoint(name).inspect(|_| self.settling.mark(name)),
            ReleaseSavepoint(name) => self.release_savepoint(name).inspect(|_| self.settling.forget_mark(name)),
            RollbackToSavepoint(name) => self.rollback_to_savepoint(name).inspect(|_| self.settling.back_to_mark(name)),
            Listen(channel) => {
                self.listen(channel);
                done("LISTEN")
            }
            Unlisten(channel) => {
                self.unlisten(channel.as_deref());
                done("UNLISTEN")
            }
            Notify { channel, payload } => {
                self.settling.notify(channel, payload)?;
                done("NOTIFY")
            }
            Set { local, assignments } => {
                self.set(*local, assignments)?;
                done("SET")
            }
            SetClock(time) => {
                self.set_clock(time).await?;
                done("SET")
            }
            Reset(name) => {
                match name {
                    Some(name) => self.settings.set(name, None)?,
                    None => self.settings.reset_all(),
                }
                done("RESET")
            }
            Show(show) => self.show(show),
            Explain(explain) => self.explain(explain).await,
            Verify(name) => self.verify(name).await,
            Subscribe(subscribe) => self.subscribe(subscribe).await,
            Prepare { name, types, statement } => {
                self.prepare_named(name, types, statement)?;
                done("PREPARE")
            }
            Execute { name, arguments } => {
                let prepared = self.prepared_named(name)?;
                prepared.plans.keep_lasting();
                let values = self.argument_values(&prepared, arguments)?;
                // One level: what is prepared is never EXECUTE itself. An error's place is one in the text of PREPARE.
                Box::pin(self.run(&prepared.statement, &prepared.plans, &values)).await.map_err(Error::nowhere)
            }
            Deallocate(name) => {
                match name {
                    None => self.prepared.clear(),
                    Some(name) => {
                        self.prepared_named(name)?;
                        self.prepared.remove(name);
                    }
                }
                Ok(Outcome::Done(if name.is_none() { "DEALLOCATE ALL" } else { "DEALLOCATE" }.into()))
            }
            DeclareCursor { name, hold, scroll, statement } => {
                self.declare(name, *hold, *scroll, statement, parameters).await
            }
            Fetch { cursor, count, is_move } => self.fetch(cursor, *count, *is_move).await,
            CloseCursor(name) => self.close_cursor(name.as_deref()),
            DiscardAll => {
                if self.transaction.is_some() {
                    return Err(Error::new("25001", "DISCARD ALL cannot run inside a transaction block"));
                }
                self.settings.reset_all();
                self.prepared.clear();
                self.cursors.clear();
                self.unlisten(None);
                self.settling.unlock_all();
                *self.seen_numbers.lock().expect("no panic while held") = Default::default();
                self.drop_temporary().await?;
                done("DISCARD ALL")
            }
            DiscardTemporary => {
                self.drop_temporary().await?;
                done("DISCARD TEMP")
            }
            Backup { to, keep } => self.backup(to, *keep).await,
            Checkpoint => self.engine.checkpoint().await.map(|_| Outcome::Done("CHECKPOINT".into())),
            Do(block) => self.do_block(block).await,
            NoOp { tag } => done(tag),
        }
    }

    async fn select(
        &mut self,
        query: &sqlparser::ast::Query,
        plans: &Plans,
        parameters: &[Argument],
    ) -> Result<Outcome> {
        let mut before = self.core.catalog();
        loop {
            let planned = self.planned(plans, &query::fields_of(parameters), || Ok(Cow::Borrowed(query)))?;
            match self.run_planned(&planned, parameters).await {
                // Each time something else has been replaced: it ends.
                Err(error) if self.is_replaced(&before, &error) => before = self.core.catalog(),
                Err(error) => return Err(error),
                Ok((schema, rows)) => return Ok(Outcome::Rows { schema, rows, tag: "SELECT" }),
            }
        }
    }

    pub fn transaction_status(&self) -> TransactionStatus {
        match &self.transaction {
            Some(t) if t.failed => TransactionStatus::Failed,
            Some(t) if !t.implicit => TransactionStatus::Open,
            _ => TransactionStatus::Idle,
        }
    }

    /// How long its client may be silent now, and what it is told after that. The session then ends.
    pub fn idle_limit(&self) -> Option<(Duration, Error)> {
        let in_transaction = self.transaction_status() != TransactionStatus::Idle;
        let (code, what) = match in_transaction {
            true => ("25P03", "terminating connection due to idle-in-transaction timeout"),
            false => ("57P05", "terminating connection due to idle-session timeout"),
        };
        Some((self.settings.idle_timeout(in_transaction)?, Error::new(code, what)))
    }

    /// The server calls this when a stream that `execute` returned has failed, so that an open
    /// transaction becomes failed.
    pub fn note_failure(&mut self) {
        match &mut self.transaction {
            Some(transaction) => transaction.failed = true,
            None => self.settling.fail(),
        }
    }

    /// Messages since the last call.
    pub fn take_notices(&mut self) -> Vec<Notice> {
        self.notices.drain(..).chain(self.settling.take_notices()).collect()
    }

    fn notice(&mut self, severity: &'static str, code: &'static str, message: String) {
        if self.notices.len() < NOTICES_MAX {
            self.notices.push_back(Notice { severity, code, message });
        }
    }

    /// Settings with GUC_REPORT that changed since the last call (all of them at first): name, value.
    pub fn take_reported_settings(&mut self) -> Vec<(String, String)> {
        self.settings.take_reported()
    }
    pub fn setting(&self, name: &str) -> Option<String> {
        self.settings.get(name).ok().map(str::to_string)
    }
    /// Sets a setting from the startup packet; unknown names give 42704.
    pub fn set_startup(&mut self, name: &str, value: &str) -> Result<()> {
        self.settings.set(name, Some(value))
    }
    pub fn cancel_handle(&self) -> CancelHandle {
        self.cancel.clone()
    }
    /// Itself, as one who waits.
    fn waiter(&self) -> Waiter {
        Waiter::Session(self.pid)
    }

    /// The session's process id as clients see it (pg_backend_pid, BackendKeyData).
    pub fn pid(&self) -> i32 {
        self.pid
    }

    fn catalog_view(&self, catalog: Arc<Catalog>) -> CatalogView {
        CatalogView {
            catalog,
            user: self.user.clone(),
            database: self.database.clone(),
            pid: self.pid,
            settings: self.settings.all(),
            search_path: self.lookup_path(&self.core.catalog()),
            live: Arc::new(live::SessionLive::new(self)),
        }
    }

    fn set(&mut self, local: bool, assignments: &[(String, Option<String>)]) -> Result<()> {
        if local && self.transaction.is_none() {
            self.notice("WARNING", "25P01", "SET LOCAL can only be used in transaction blocks".into());
            return Ok(());
        }
        for (name, value) in assignments {
            let before = self.settings.get(name)?.to_string();
            self.settings.set(name, value.as_deref())?;
            if let Some(transaction) = &mut self.transaction {
                let name = name.to_ascii_lowercase();
                if name == "transaction_read_only" {
                    transaction.read_only = self.settings.value("transaction_read_only") == "on";
                }
                // SET LOCAL ends with the transaction; SET is taken back when it rolls back.
                let per_transaction = local || name.starts_with("transaction_");
                transaction.settings.push((name, before, per_transaction));
            }
        }
        Ok(())
    }
}

/// Rows that say which tables' columns theirs are.
fn with_origins(outcome: Outcome, plans: &Plans) -> Outcome {
    match outcome {
        Outcome::Rows { schema, rows, tag } => {
            Outcome::Rows { schema: origins::with_origins(schema, &plans.origins()), rows, tag }
        }
        other => other,
    }
}

/// The statement's name in messages, when it changes something.
fn writes_tag(kind: &StatementKind) -> Option<&'static str> {
    use StatementKind::*;
    Some(match kind {
        CreateStream(_) => "CREATE STREAM",
        CreateTable(_) | CreateTableAs(_) => "CREATE TABLE",
        CreateView { .. } => "CREATE VIEW",
        CreateMaterializedView { .. } => "CREATE MATERIALIZED VIEW",
        CreateSink { .. } => "CREATE SINK",
        CreateSchema { .. } => "CREATE SCHEMA",
        CreateIndex { .. } => "CREATE INDEX",
        CreateSequence { .. } => "CREATE SEQUENCE",
        Type(change) => change.tag(),
        DropSchema { .. } | DropIndex { .. } | Drop { .. } => "DROP",
        Rename { .. } | AlterTable { .. } | AlterSequence { .. } => "ALTER",
        Comment { .. } => "COMMENT",
        Insert(_) => "INSERT",
        Update(_) => "UPDATE",
        Delete(_) => "DELETE",
        Merge(_) => "MERGE",
        ChangeWith(with) => {
            with.parts.iter().map(|part| &part.kind).chain([with.main.as_ref()]).find_map(writes_tag)?
        }
        Truncate { .. } | TruncateCascade { .. } => "TRUNCATE TABLE",
        Copy(c) if c.direction == CopyDirection::FromStdin => "COPY FROM",
        _ => return None,
    })
}
