//! `BACKUP TO '/directory'`, and `BACKUP TO 's3://bucket/prefix' [KEEP n]`; `mr_backups` shows the latter.

use std::path::PathBuf;

use arrow::array::RecordBatch;

use super::system_state::{batch, numbers, optional_numbers, texts, times};
use super::{Outcome, Session};
use crate::backup::{self, Location};
use crate::core::Core;
use crate::error::{Error, Result};

impl Session {
    /// Copies the store as of one moment, while all goes on: into a new directory of the server's machine, or what is new
    /// to an object store.
    pub(super) async fn backup(&mut self, to: &str, keep: Option<u64>) -> Result<Outcome> {
        if backup::is_url(to) {
            let (store, core) = (self.core.store.clone(), self.core.clone());
            let made = self.core.backups.run(store, Location::parse(to)?, keep, move || core.clock_us()).await?;
            let message = format!(
                "backup {}: {} files of {} bytes, {} files of {} bytes sent",
                made.name.unwrap_or_default(),
                made.files,
                made.bytes,
                made.sent_files,
                made.sent_bytes
            );
            self.notice("NOTICE", "00000", message);
            return Ok(Outcome::Done("BACKUP".into()));
        }
        if keep.is_some() {
            return Err(Error::unsupported("KEEP for a backup into a directory")
                .hint("Such a backup is a directory of its own. file:///directory holds several."));
        }
        let path = PathBuf::from(to);
        if !path.is_absolute() {
            return Err(Error::invalid_value(format!("BACKUP needs an absolute path or a URL, not \"{to}\"")));
        }
        let store = self.core.store.clone();
        let copied = tokio::task::spawn_blocking(move || store.backup(&path)).await;
        copied.map_err(Error::internal)??;
        Ok(Outcome::Done("BACKUP".into()))
    }
}

/// Rows of `mr_backups`.
pub(super) fn backups(core: &Core) -> Result<RecordBatch> {
    let records = core.backups.records();
    let number = |f: fn(&backup::Record) -> u64| numbers(records.iter().map(f));
    batch(vec![
        ("location", texts(records.iter().map(|r| Some(r.location.clone())))),
        ("state", texts(records.iter().map(|r| Some(r.state().to_string())))),
        ("started", times(records.iter().map(|r| Some(r.started_us)))),
        ("finished", times(records.iter().map(|r| r.finished_us))),
        ("name", texts(records.iter().map(|r| r.name.clone()))),
        ("epoch", optional_numbers(records.iter().map(|r| r.epoch))),
        ("files", number(|r| r.files)),
        ("bytes", number(|r| r.bytes)),
        ("sent_files", number(|r| r.sent_files)),
        ("sent_bytes", number(|r| r.sent_bytes)),
        ("error", texts(records.iter().map(|r| r.error.as_ref().map(ToString::to_string)))),
    ])
}
