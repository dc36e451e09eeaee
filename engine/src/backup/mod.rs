//! Backups to an object store: `BACKUP TO 's3://bucket/prefix' [KEEP n]`, `millrace backup`, `millrace restore`.
//!
//! In comes an open [`Store`] and a [`Location`]; out go files that are not there yet and a manifest that names all
//! (`manifest.rs` draws them). Nothing of SQL or of views is known here. A backup works on a task of its own, beside all
//! statements: whoever waits for it may leave, which ends it.
//!
//! Limits: one backup at a time per process and per prefix. Parts of uploads that a killed process left in S3 are
//! for the bucket's lifecycle rule (`AbortIncompleteMultipartUpload`) to delete.

mod location;
mod manifest;
mod pieces;
mod progress;
mod receive;
mod send;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use tokio::sync::oneshot;

pub use location::{Location, is_url};
pub use manifest::{Manifest, names};
pub use progress::Record;
pub use receive::restore;
pub use send::Keep;

use crate::error::{Error, Result};
use crate::state::store::Store;

/// The backups of one process.
#[derive(Default)]
pub struct Backups {
    jobs: progress::Jobs,
    known: Arc<progress::KnownFiles>,
    busy: Arc<tokio::sync::Mutex<()>>,
}

impl Backups {
    /// Those under way and those that have ended, in the order in which they began.
    pub fn records(&self) -> Vec<Record> {
        self.jobs.records()
    }

    /// Makes a backup and waits for it; dropped before, it is cancelled. `clock` gives microseconds since 1970.
    /// Errors: 55006 while another is under way, here or to the same prefix; 58030 and others of the object store.
    pub async fn run(
        &self,
        store: Arc<Store>,
        to: Location,
        keep: Keep,
        clock: impl Fn() -> i64 + Send + 'static,
    ) -> Result<Record> {
        if keep == Some(0) {
            return Err(Error::invalid_value("KEEP must be at least 1: the new backup is one of those kept"));
        }
        let busy = self.busy.clone().try_lock_owned();
        let busy = busy.map_err(|_| Error::new("55006", "another backup is under way").hint("mr_backups shows it."))?;
        let now_us = clock();
        let job = self.jobs.begin(to.to_string(), now_us);
        let (known, reported) = (self.known.clone(), job.clone());
        // Sends nothing: its end is dropped when whoever waits has left.
        let (waiting, left) = oneshot::channel::<()>();
        let task = tokio::spawn(async move {
            let _busy = busy;
            let result = tokio::select! {
                result = send::send(&store, &to, keep, &job, &known, now_us) => result,
                _ = left => {
                    send::release(&store, &to).await;
                    Err(Error::canceled("the backup was cancelled"))
                }
            };
            if let Err(error) = &result {
                tracing::warn!(%error, detail = error.detail.as_deref(), %to, "a backup has failed");
            }
            job.update(|record| {
                record.finished_us = Some(clock());
                record.error = result.as_ref().err().cloned();
            });
            result
        });
        let result = task.await.map_err(Error::internal);
        drop(waiting);
        result?.map(|()| reported.record())
    }
}
