//! An engine in this process, on a fresh directory that goes with it.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use millrace_engine::engine::{Config, Engine};
use millrace_engine::session::{Outcome, Session};

use crate::events::Error;

#[derive(Debug, Clone, Copy)]
pub struct Settings {
    pub workers: usize,
    /// Log what is written. Without it rows live only in the view.
    pub log: bool,
    /// Sync the log before an epoch is acknowledged.
    pub sync: bool,
    /// Checkpoint every few seconds.
    pub checkpoint: bool,
}

pub struct Embedded {
    pub engine: Arc<Engine>,
    directory: tempfile::TempDir,
}

impl Embedded {
    /// Blocks: not to be called on a runtime's thread.
    pub fn open(settings: Settings) -> Result<Self, Error> {
        let directory = tempfile::tempdir()?;
        let mut config = Config::new(directory.path());
        config.workers = settings.workers;
        config.log = settings.log;
        config.sync = settings.sync;
        config.checkpoint_interval = settings.checkpoint.then_some(Duration::from_secs(5));
        Ok(Embedded { engine: Engine::open(config)?, directory })
    }

    pub fn session(&self) -> Session {
        self.engine.session("millrace", "millrace")
    }

    pub fn directory(&self) -> &Path {
        self.directory.path()
    }
}

/// Parses, binds and runs one statement.
pub async fn run(session: &mut Session, sql: &str) -> Result<Outcome, Error> {
    let statement = session.parse(sql)?.pop().ok_or("no statement")?;
    let prepared = session.prepare(statement, &[]).await?;
    Ok(session.execute(&prepared, vec![]).await?)
}
