//! Runs one `.slt` file in one mode.
//!
//! | mode | what happens |
//! | --- | --- |
//! | `1`, `3` | one engine with so many workers; after each change every materialized view is verified |
//! | `crash` | after *every* statement the views are verified, the engine is killed (nothing flushed), and opened again with another number of workers: 1 → 3 → 2 → 1 … |
//! | `postgres` | the same file against a PostgreSQL server: are the expected answers its answers? |
//!
//! A file runs in all modes unless it says otherwise in a comment among its first lines, e.g.
//! `# modes: workers postgres` (`workers` stands for `1` and `3`). A statement can be left out with
//! `skipif postgres` or `onlyif millrace`. All failures of a file are collected, not just the first.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex as StdMutex};

use sqllogictest::{
    AsyncDB, DBOutput, ExpectedError, MakeConnection, QueryExpect, Record, RecordOutput, Runner, StatementExpect,
};
use tokio::sync::Mutex;

use crate::answer::{Letter, SqlError, changes, letters_match};
use crate::{millrace, postgres};

/// A file with more failures than this is broken as a whole.
const FAILURES_SHOWN_MAX: usize = 20;

#[derive(Debug, Clone)]
pub enum Mode {
    Workers(usize),
    Crash,
    Postgres(postgres::Server),
}

impl Mode {
    pub fn name(&self) -> String {
        match self {
            Mode::Workers(n) => n.to_string(),
            Mode::Crash => "crash".into(),
            Mode::Postgres(_) => "postgres".into(),
        }
    }
    /// Whether the file's text lets it run in this mode.
    pub fn suits(&self, text: &str) -> bool {
        let Some(modes) = text.lines().take(20).find_map(|line| line.strip_prefix("# modes:")) else { return true };
        let word = match self {
            Mode::Workers(_) => "workers",
            Mode::Crash => "crash",
            Mode::Postgres(_) => "postgres",
        };
        modes.split_whitespace().any(|m| m == word)
    }
}

/// All test files below `root`, sorted.
pub fn files(root: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![root.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("the test folder can be read") {
            let path = entry.expect("the test folder can be read").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "slt") {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// Runs the file; with `update` it writes the answers that came into it instead of comparing.
pub async fn run_file(path: &Path, mode: &Mode, update: bool) -> Result<(), String> {
    match mode {
        Mode::Workers(_) | Mode::Crash => {
            let (workers, crash) = if let Mode::Workers(n) = mode { (*n, false) } else { (1, true) };
            let database = millrace::Database::create(workers).map_err(|e| format!("cannot open: {e}"))?;
            let world = Arc::new(World { database: Mutex::new(database), crash, failure: StdMutex::default() });
            let connect = {
                let world = world.clone();
                move || {
                    let world = world.clone();
                    async move { Ok::<_, SqlError>(Client { world, session: None }) }
                }
            };
            let take_failure = || world.failure.lock().expect("no thread panicked holding it").take();
            run_records(path, mode, connect, take_failure, update).await
        }
        Mode::Postgres(server) => {
            let scratch = Arc::new(server.scratch().await.map_err(|e| format!("cannot make a database: {e}"))?);
            let connect = {
                let scratch = scratch.clone();
                move || {
                    let scratch = scratch.clone();
                    async move { scratch.connect().await }
                }
            };
            let result = run_records(path, mode, connect, || None, update).await;
            scratch.drop_database().await.map_err(|e| format!("cannot drop the database: {e}"))?;
            result
        }
    }
}

async fn run_records<M>(
    path: &Path,
    mode: &Mode,
    connect: M,
    take_failure: impl Fn() -> Option<String>,
    update: bool,
) -> Result<(), String>
where
    M: MakeConnection,
    M::Conn: AsyncDB<ColumnType = Letter, Error = SqlError>,
{
    let records = sqllogictest::parse_file::<Letter>(path).map_err(|e| e.to_string())?;
    let mut runner = Runner::new(connect);
    runner.add_label(&mode.name());
    runner.with_column_validator(letters_match);
    let mut failures = Vec::new();
    let mut text = String::new();
    for record in records {
        if matches!(record, Record::Injected(_)) {
            continue;
        }
        if update {
            let output = runner.apply_record(record.clone()).await;
            let record = updated(&record, &output).unwrap_or(record);
            writeln!(text, "{record}").expect("a string takes everything");
        } else if let Err(e) = runner.run_async(record).await {
            failures.push(e.to_string());
        }
        if let Some(failure) = take_failure() {
            failures.push(failure);
            // Views stay wrong once they are: what follows would only repeat it.
            break;
        }
        if failures.len() >= FAILURES_SHOWN_MAX {
            failures.push("… and more".into());
            break;
        }
    }
    runner.shutdown_async().await;
    if !failures.is_empty() {
        return Err(failures.join("\n"));
    }
    if update {
        std::fs::write(path, format!("{}\n", text.trim_end())).map_err(|e| e.to_string())?;
    }
    Ok(())
}

/// The record with the answer that came; `None` when there is nothing to change.
fn updated(record: &Record<Letter>, output: &RecordOutput<Letter>) -> Option<Record<Letter>> {
    let error = match output {
        RecordOutput::Statement { error: Some(e), .. } | RecordOutput::Query { error: Some(e), .. } => e,
        _ => {
            return sqllogictest::update_record_with_output(
                record,
                output,
                " ",
                sqllogictest::default_validator,
                sqllogictest::default_normalizer,
                |actual, expected| actual == expected,
            );
        }
    };
    // An error is told by its SQLSTATE; a pattern that someone wrote by hand stays while it fits.
    let code = error.downcast_ref::<SqlError>().map_or("XX000", |e| &e.code);
    let came = || ExpectedError::SqlState(code.to_string());
    let fits = |expected: &ExpectedError| {
        !matches!(expected, ExpectedError::Empty) && expected.is_match(&error.to_string(), Some(code))
    };
    let mut record = record.clone();
    match &mut record {
        Record::Statement { expected: StatementExpect::Error(e), .. } if fits(e) => return None,
        Record::Query { expected: QueryExpect::Error(e), .. } if fits(e) => return None,
        Record::Statement { expected, .. } => *expected = StatementExpect::Error(came()),
        Record::Query { expected, .. } => *expected = QueryExpect::Error(came()),
        _ => return None,
    }
    Some(record)
}

/// What the connections of one file share.
struct World {
    database: Mutex<millrace::Database>,
    crash: bool,
    /// A view that was wrong, or an engine that did not come up again.
    failure: StdMutex<Option<String>>,
}

/// One named connection of a file to Millrace.
struct Client {
    world: Arc<World>,
    session: Option<millrace_engine::session::Session>,
}

impl Client {
    /// What every statement is followed by, whether it succeeded or not.
    async fn after(&mut self, sql: &str) -> Result<(), String> {
        let mut database = self.world.database.lock().await;
        if self.world.crash {
            self.session = None;
            database.verify().await.map_err(|e| format!("before the crash: {e}"))?;
            let workers = [1, 3, 2];
            let now = workers.iter().position(|w| *w == database.workers()).expect("one of these");
            database
                .crash_and_reopen(workers[(now + 1) % workers.len()])
                .await
                .map_err(|e| format!("cannot reopen after a crash: {e}"))?;
            database.verify().await.map_err(|e| format!("after a crash: {e}"))
        } else if changes(sql) {
            database.verify().await
        } else {
            Ok(())
        }
    }
}

#[async_trait::async_trait]
impl AsyncDB for Client {
    type Error = SqlError;
    type ColumnType = Letter;

    async fn run(&mut self, sql: &str) -> Result<DBOutput<Letter>, SqlError> {
        if self.session.is_none() {
            self.session = Some(self.world.database.lock().await.session());
        }
        let session = self.session.as_mut().expect("just made");
        let result = millrace::run(session, sql).await;
        if let Err(failure) = self.after(sql).await {
            let failure = format!("{failure}\nafter [SQL] {sql}");
            *self.world.failure.lock().expect("no thread panicked holding it") = Some(failure);
        }
        result.map(crate::answer::Answer::into_output)
    }
    async fn shutdown(&mut self) {
        self.session = None;
    }
    fn engine_name(&self) -> &str {
        "millrace"
    }
    fn error_sql_state(error: &SqlError) -> Option<String> {
        Some(error.code.clone())
    }
}

#[async_trait::async_trait]
impl AsyncDB for postgres::Connection {
    type Error = SqlError;
    type ColumnType = Letter;

    async fn run(&mut self, sql: &str) -> Result<DBOutput<Letter>, SqlError> {
        postgres::Connection::run(self, sql).await.map(crate::answer::Answer::into_output)
    }
    async fn shutdown(&mut self) {}
    fn engine_name(&self) -> &str {
        "postgres"
    }
    fn error_sql_state(error: &SqlError) -> Option<String> {
        Some(error.code.clone())
    }
}
