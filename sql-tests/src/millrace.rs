//! Millrace under test: one data directory, opened in this process, killed and reopened at will.
//!
//! ```text
//!   Database ── workers 1 ──► crash ──► workers 3 ──► crash ──► workers 2
//!        └── Connection: one session; a new one after each crash, as a client would reconnect
//! ```

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicI64;
use std::time::Duration;

use arrow::array::RecordBatch;
use bytes::Bytes;
use futures::StreamExt;
use millrace_engine::engine::{Config, Engine};
use millrace_engine::session::{Outcome, Session};
use millrace_engine::sql::text::{PgType, Style, Zone, value_to_text};
use millrace_engine::tools::Faults;
use millrace_server::pg_catalog::PgCatalog;
use tempfile::TempDir;

use crate::answer::{Answer, Letter, SqlError, copy_data};

/// No statement of a test takes this long, unless something hangs.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(60);

impl From<millrace_engine::Error> for SqlError {
    fn from(e: millrace_engine::Error) -> Self {
        SqlError { code: e.code.into(), message: e.message }
    }
}

pub struct Database {
    /// Removed at the end.
    _place: TempDir,
    directory: PathBuf,
    faults: Option<Arc<dyn Faults>>,
    /// What the process should use; half of the machine's without it.
    memory: Option<u64>,
    /// `None` only while it is being reopened.
    engine: Option<Arc<Engine>>,
    workers: usize,
    /// What SET CLOCK drives; it goes on through crashes.
    clock: Arc<AtomicI64>,
    /// Counts the crashes; a session of an earlier life is dead.
    pub life: u64,
}

impl Database {
    pub fn create(workers: usize) -> Result<Database, SqlError> {
        let place = tempfile::tempdir().expect("the temporary directory is writable");
        Self::open(place, "", workers, None)
    }
    /// In a directory within `place`, whose writes go through `faults` until it is reopened.
    pub fn open(
        place: TempDir,
        name: &str,
        workers: usize,
        faults: Option<Arc<dyn Faults>>,
    ) -> Result<Database, SqlError> {
        let directory = place.path().join(name);
        let clock = Arc::new(AtomicI64::new(0));
        let engine = Some(open(&directory, workers, &clock, faults.clone(), None)?);
        Ok(Database { _place: place, directory, faults, memory: None, engine, workers, clock, life: 0 })
    }
    /// With so much memory for the process.
    pub fn with_memory(bytes: u64) -> Result<Database, SqlError> {
        let place = tempfile::tempdir().expect("the temporary directory is writable");
        let (directory, clock, memory) = (place.path().to_path_buf(), Arc::new(AtomicI64::new(0)), Some(bytes));
        let engine = Some(open(&directory, 1, &clock, None, memory)?);
        Ok(Database { _place: place, directory, faults: None, memory, engine, workers: 1, clock, life: 0 })
    }
    pub fn path(&self) -> &Path {
        &self.directory
    }
    /// Ends it as by kill -9, lets `harm` do what a power loss would to its files, and opens it again without faults.
    pub async fn crash_harm_and_reopen(&mut self, workers: usize, harm: impl FnOnce(&Path)) -> Result<(), SqlError> {
        let engine = self.engine.take().expect("only absent while it is being reopened");
        engine.crash().await;
        engine.release().await;
        harm(&self.directory);
        self.faults = None;
        self.engine = Some(open(&self.directory, workers, &self.clock, None, self.memory)?);
        (self.workers, self.life) = (workers, self.life + 1);
        Ok(())
    }
    fn engine(&self) -> &Arc<Engine> {
        self.engine.as_ref().expect("only absent while it is being reopened")
    }
    pub fn workers(&self) -> usize {
        self.workers
    }
    /// As by kill -9: nothing is flushed. All sessions must have been dropped.
    pub async fn crash_and_reopen(&mut self, workers: usize) -> Result<(), SqlError> {
        let engine = self.engine.take().expect("only absent while it is being reopened");
        engine.crash().await;
        self.reopen(engine, workers).await
    }
    /// In order, with a last checkpoint.
    pub async fn stop_and_reopen(&mut self, workers: usize) -> Result<(), SqlError> {
        let engine = self.engine.take().expect("only absent while it is being reopened");
        engine.shutdown().await?;
        self.reopen(engine, workers).await
    }
    /// Ends it in order, and does something with what it leaves.
    pub async fn close_and<T>(mut self, then: impl FnOnce() -> T) -> T {
        if let Some(engine) = self.engine.take() {
            engine.shutdown().await.expect("an orderly end");
            engine.release().await;
        }
        then()
    }
    async fn reopen(&mut self, engine: Arc<Engine>, workers: usize) -> Result<(), SqlError> {
        engine.release().await;
        self.engine = Some(open(&self.directory, workers, &self.clock, self.faults.clone(), self.memory)?);
        self.workers = workers;
        self.life += 1;
        Ok(())
    }
    pub fn session(&self) -> Session {
        self.engine().session("tester", "millrace")
    }

    pub fn relation_id(&self, name: &str) -> u32 {
        self.engine().catalog().find("public", name).expect("it was made").id
    }

    /// The materialized views, as they may be written in SQL.
    pub fn materialized_views(&self) -> Vec<String> {
        let catalog = self.engine().catalog();
        let quote = |s: &str| format!("\"{}\"", s.replace('"', "\"\""));
        catalog
            .relations
            .values()
            .filter(|r| r.kind == millrace_engine::catalog::RelationKind::MaterializedView)
            .map(|r| format!("{}.{}", quote(&r.schema_name), quote(&r.name)))
            .collect()
    }

    /// Compares every materialized view with the batch answer to its query; says which differ, and how.
    pub async fn verify(&self) -> Result<(), String> {
        let mut session = self.session();
        for view in self.materialized_views() {
            let answer = run(&mut session, &format!("VERIFY MATERIALIZED VIEW {view}"))
                .await
                .map_err(|e| format!("VERIFY of {view} with {} workers: {e}", self.workers))?;
            if !answer.rows.is_empty() {
                let rows: Vec<String> = answer.rows.iter().take(20).map(|r| r.join(" ")).collect();
                return Err(format!(
                    "{view} differs from its batch answer, with {} workers, in {} rows:\n{}",
                    self.workers,
                    answer.rows.len(),
                    rows.join("\n")
                ));
            }
        }
        Ok(())
    }
}

fn open(
    directory: &Path,
    workers: usize,
    clock: &Arc<AtomicI64>,
    faults: Option<Arc<dyn Faults>>,
    memory: Option<u64>,
) -> Result<Arc<Engine>, SqlError> {
    let config = Config {
        workers,
        memory,
        // A killed process loses nothing that reached the operating system; what a fault leaves is another matter.
        sync: faults.is_some(),
        faults: faults.clone(),
        // Often, so that a crash finds all: checkpoints, a tail of the log after one, and one half written.
        checkpoint_interval: Some(Duration::from_millis(100)).filter(|_| faults.is_none()),
        test_clock: Some(clock.clone()),
        ..Config::new(directory)
    };
    // Opening blocks until the views are there.
    let engine = tokio::task::block_in_place(|| Engine::open(config))?;
    // As behind the server, whose functions a user has too.
    engine.set_system_catalog(Arc::new(PgCatalog));
    Ok(engine)
}

/// What a statement must give: its cells row by row, with `|` between.
pub async fn must(session: &mut Session, text: &str) -> String {
    run(session, text).await.unwrap_or_else(|error| panic!("{text}: {error}")).rows.concat().join("|")
}

/// The same, in a session of its own.
pub async fn one(database: &Database, text: &str) -> String {
    must(&mut database.session(), text).await
}

/// The same, of a query for one number.
pub async fn number(database: &Database, text: &str) -> u64 {
    one(database, text).await.parse().unwrap_or_else(|_| panic!("{text}: no number"))
}

/// Runs a text of one or more statements; the answer is the last one's.
pub async fn run(session: &mut Session, sql: &str) -> Result<Answer, SqlError> {
    match tokio::time::timeout(STATEMENT_TIMEOUT, run_all(session, sql)).await {
        Ok(result) => {
            // As the server says when it has answered.
            session.settle();
            result
        }
        Err(_) => Err(SqlError { code: "HANGS".into(), message: format!("no answer within {STATEMENT_TIMEOUT:?}") }),
    }
}

async fn run_all(session: &mut Session, sql: &str) -> Result<Answer, SqlError> {
    let (text, data) = match copy_data(sql) {
        Some((statement, data)) => (statement, Some(data)),
        None => (sql, None),
    };
    let statements = session.parse(text).inspect_err(|_| session.note_failure())?;
    let mut last = Answer::default();
    for statement in statements {
        let (_, outcome) = session.prepare_and_execute(statement).await?;
        last = match outcome {
            Outcome::Empty => Answer::default(),
            Outcome::Done(tag) => Answer::done(&tag),
            Outcome::Rows { schema, mut rows, .. } => {
                let style = Style::in_zone(zone(session));
                let columns = schema.fields().iter().map(|f| Letter::of_oid(PgType::of(f).oid)).collect();
                let mut answer = Answer { columns: Some(columns), ..Answer::default() };
                while let Some(batch) = rows.next().await {
                    let batch = batch.inspect_err(|_| session.note_failure())?;
                    append(&mut answer.rows, &batch, &style);
                }
                answer.count = answer.rows.len() as u64;
                answer
            }
            Outcome::CopyIn(mut copy) => {
                let data = data.clone().unwrap_or_default();
                copy.push(Bytes::from(data)).inspect_err(|_| session.note_failure())?;
                let count = session.finish_copy(copy).await?;
                Answer { count, ..Answer::default() }
            }
            Outcome::CopyOut { data: mut chunks, .. } => {
                let mut bytes = Vec::new();
                while let Some(chunk) = chunks.next().await {
                    bytes.extend_from_slice(&chunk.inspect_err(|_| session.note_failure())?);
                }
                copied_out(&bytes)
            }
        };
    }
    Ok(last)
}

/// COPY TO's lines, as rows of one text column.
pub fn copied_out(bytes: &[u8]) -> Answer {
    let rows: Vec<Vec<String>> =
        String::from_utf8_lossy(bytes).lines().map(|line| vec![Answer::cell(Some(line.to_string()))]).collect();
    Answer { columns: Some(vec![Letter::Text]), count: rows.len() as u64, rows }
}

fn zone(session: &Session) -> Zone {
    session.setting("timezone").and_then(|name| Zone::parse(&name).ok()).unwrap_or_default()
}

fn append(rows: &mut Vec<Vec<String>>, batch: &RecordBatch, style: &Style) {
    let schema = batch.schema();
    for row in 0..batch.num_rows() {
        let cells = schema.fields().iter().zip(batch.columns());
        rows.push(cells.map(|(field, array)| Answer::cell(value_to_text(field, array, row, style))).collect());
    }
}
