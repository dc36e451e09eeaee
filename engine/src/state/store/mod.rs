//! The store: the only durable thing, one RocksDB in a directory of its own (docs/format.md draws it).
//!
//! ```text
//!   log          one entry per epoch: header, rows, source positions, catalog changes; one atomic write
//!   catalog      relations and settings as of the log's end; ids that are never reused
//!   checkpoint   blocks of rows, written at leisure, made to count by one small manifest
//! ```
//!
//! One writer appends; everything else may be called from any thread. What is written carries a format
//! version and a checksum, so that damage is reported (XX001, with the relation and the epoch or block)
//! rather than returned as rows. After a write or a sync has failed the store takes no more writes
//! ([`Store::failure`]): what the disk then holds is unknown until the log is read again.

mod catalog;
mod checkpoint;
mod chunk;
mod compact;
mod directory;
pub mod disk;
mod faults;
mod frame;
mod inspect;
mod keys;
mod log;
mod moment;
mod packed;
mod past;
mod readers;
mod replay;
mod rocks;
mod scan;
mod schemas;
mod shapes;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

pub use catalog::CatalogChange;
pub use checkpoint::{BlockId, Manifest, Part, RELATION_ROWS};
pub use compact::Cursor;
pub use faults::Faults;
pub use faults::Write;
pub use inspect::{Report, restore};
pub use log::{Gone, LogEntry};
pub use moment::{Incoming, Moment, MomentFile};
pub use readers::LogPin;
pub use scan::Place;
pub use shapes::absent_text;

use tokio::sync::watch;

use crate::catalog::RelationId;
use crate::error::{Error, Result};
use directory::Directory;
use rocks::Db;

/// Version of everything that the store writes. A directory of another version is refused.
pub const FORMAT: u32 = 1;

#[derive(Debug, Clone)]
pub struct StoreOptions {
    /// Make the directory if it does not exist or is empty.
    pub create: bool,
    /// `false`: acknowledged writes may be lost at power loss (not when only the process dies).
    pub sync: bool,
    /// Bound on RocksDB's block cache, indexes, filters and write buffers together.
    pub cache_bytes: usize,
}

impl Default for StoreOptions {
    fn default() -> Self {
        StoreOptions { create: true, sync: true, cache_bytes: 128 << 20 }
    }
}

/// An open data directory. Readers made by it ([`Replay`], [`StreamRows`]) keep it open until they are dropped.
pub struct Store {
    inner: Arc<Inner>,
}

/// What readers share with the store.
struct Inner {
    // Fields are dropped in order: RocksDB first, then the directory.
    db: Db,
    schemas: schemas::Schemas,
    shapes: shapes::Shapes,
    log: log::LogState,
    catalog: catalog::CatalogState,
    checkpoint: checkpoint::CheckpointState,
    directory: Directory,
    sync: bool,
    reserve_bytes: u64,
    /// Dropped last: nothing holds the directory any more.
    open: watch::Sender<()>,
}

/// Sizes for metrics, in bytes unless said otherwise.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StoreStats {
    /// All files of the directory.
    pub disk_bytes: u64,
    /// Table files of the log and of the blocks, without what is still in write buffers.
    pub log_bytes: u64,
    pub block_bytes: u64,
    pub write_buffer_bytes: u64,
    pub block_cache_bytes: u64,
    /// What compaction has yet to rewrite.
    pub compaction_pending_bytes: u64,
}

impl Store {
    /// Opens or creates. Refuses, without touching a file: a directory that is neither empty nor
    /// Millrace's, one of another format version, a damaged one (all XX001); one that is open already,
    /// here or in another process (55006).
    pub fn open(path: &Path, options: StoreOptions) -> Result<Store> {
        Self::open_with_faults(path, options, None)
    }

    /// As [`Store::open`]; `faults` is asked before and after each write (for tests).
    pub fn open_with_faults(path: &Path, options: StoreOptions, faults: Option<Arc<dyn Faults>>) -> Result<Store> {
        let directory = Directory::prepare(path, options.create)?;
        let db = Db::open(&directory.database(), directory.is_fresh(), options.cache_bytes, faults)
            .map_err(|e| Error { message: format!("data directory \"{}\": {}", path.display(), e.message), ..e })?;
        // It is ours now.
        moment::clear(directory.path());
        if directory.is_fresh() {
            db.write_format()?;
            directory.mark_ready()?;
        } else {
            db.check_format()?;
        }
        // What write buffers hold, once more for their flush, and the write-ahead log's next piece.
        let reserve_bytes = options.cache_bytes as u64 + (8 << 20);
        let schemas = schemas::Schemas::load(&db)?;
        let log = log::LogState::load(&db)?;
        let catalog = catalog::CatalogState::load(&db)?;
        let checkpoint = checkpoint::CheckpointState::load(&db)?;
        let (sync, open) = (options.sync, watch::Sender::new(()));
        let shapes = shapes::Shapes::default();
        let inner = Inner { db, schemas, shapes, log, catalog, checkpoint, directory, sync, reserve_bytes, open };
        inner.directory.check_acknowledged(inner.log.last_epoch())?;
        if !options.sync {
            tracing::warn!("writes are not synced: what is acknowledged may be lost when the machine loses power");
        }
        Ok(Store { inner: Arc::new(inner) })
    }

    /// Its sender is gone once the data directory is closed, which its readers may delay.
    pub fn open_until(&self) -> watch::Receiver<()> {
        self.inner.open.subscribe()
    }

    /// Set once a write or a sync has failed: the store refuses all further ones, and the process should
    /// stop and recover from the log.
    pub fn failure(&self) -> Option<Error> {
        self.inner.db.failure()
    }

    /// What the disk of the directory still takes, where that is known.
    pub fn free_bytes(&self) -> Option<u64> {
        self.inner.db.free_bytes(self.inner.directory.path())
    }

    /// Whether `bytes` more can be written with certainty: there is a reserve on the disk for what RocksDB does behind
    /// the scenes, which a full disk must never stop in the middle. 53100 when not; nothing has been tried then, so
    /// that all goes on once there is room.
    pub fn room(&self, bytes: u64) -> Result<()> {
        let Some(free) = self.free_bytes() else { return Ok(()) };
        let wanted = self.inner.reserve_bytes + bytes;
        if free >= wanted {
            return Ok(());
        }
        let message = format!("there is no room on the data directory's disk: {} MB are free", free >> 20);
        let hint = format!("Reading goes on, and writing will once {} MB are free.", wanted.div_ceil(1 << 20));
        Err(Error::new("53100", message).hint(hint))
    }

    /// Notes, while the process is going down, that a view brings it down.
    pub fn suspect(&self, view: RelationId) {
        let mut views = self.suspects();
        views.insert(view);
        if let Err(error) = self.inner.directory.write_suspects(&views) {
            tracing::error!(%error, view, "cannot note the view that brings the process down");
        }
    }

    /// The views that were noted and not absolved since.
    pub fn suspects(&self) -> BTreeSet<RelationId> {
        self.inner.directory.suspects()
    }

    pub fn absolve(&self, view: RelationId) -> Result<()> {
        let mut views = self.suspects();
        match views.remove(&view) {
            true => self.inner.directory.write_suspects(&views),
            false => Ok(()),
        }
    }

    /// All files of the directory. Walks it: some tens of microseconds.
    pub fn disk_bytes(&self) -> u64 {
        self.inner.directory.bytes()
    }

    pub fn stats(&self) -> StoreStats {
        StoreStats { disk_bytes: self.disk_bytes(), ..self.inner.db.stats() }
    }

    /// At start, before anything is appended: deletes what a crash left over, namely blocks that no
    /// manifest names, log chunks after the last header, and the logs of relations dropped shortly before.
    pub fn collect_garbage(&self) -> Result<()> {
        self.inner.collect_blocks()?;
        self.inner.collect_log()
    }
}
