//! RocksDB, and nothing else of the engine knows it: three column families, atomic batches, range scans.
//!
//! * `meta` (the default one): format, catalog, schemas, manifest: small, read at start.
//! * `log`: appended in the order of relations and epochs, scanned by range.
//! * `blocks`: checkpointed rows, read by id.
//!
//! Write buffers are charged to the block cache, so `cache_bytes` bounds both. RocksDB compresses blocks of
//! small values; large values come compressed. Recovery of the write-ahead log stops at the first damaged
//! record ("point in time"), since a power loss may leave any unsynced tail; `directory.rs` tells a loss of
//! what was acknowledged.

use std::ops::{ControlFlow, Deref};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use rocksdb::{
    BlockBasedOptions, Cache, ColumnFamily, ColumnFamilyDescriptor, DBCompressionType, DBRecoveryMode,
    DBWithThreadMode, ErrorKind, LogLevel, Options, ReadOptions, SingleThreaded, WriteBatch, WriteBufferManager,
    WriteOptions,
};

use super::directory::check_version;
use super::faults::{Faults, Write};
use super::frame;
use super::keys::FORMAT_KEY;
use super::{FORMAT, StoreStats};
use crate::error::{Error, Result};

const MAGIC: &[u8] = b"millrace";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Family {
    Meta,
    Log,
    Blocks,
}

impl Family {
    const ALL: [Family; 3] = [Family::Meta, Family::Log, Family::Blocks];
    fn name(self) -> &'static str {
        match self {
            Family::Meta => rocksdb::DEFAULT_COLUMN_FAMILY_NAME,
            Family::Log => "log",
            Family::Blocks => "blocks",
        }
    }
}

pub(super) struct Db {
    db: DBWithThreadMode<SingleThreaded>,
    cache: Cache,
    write_buffers: WriteBufferManager,
    faults: Option<Arc<dyn Faults>>,
    failure: OnceLock<Error>,
    /// Opened read-only: where RocksDB's own log is meanwhile.
    notes: Option<PathBuf>,
}

impl Db {
    pub fn open(path: &Path, create: bool, cache_bytes: usize, faults: Option<Arc<dyn Faults>>) -> Result<Db> {
        let cache = Cache::new_lru_cache(cache_bytes);
        let write_buffers =
            WriteBufferManager::new_write_buffer_manager_with_cache(cache_bytes / 2, false, cache.clone());
        let families =
            Family::ALL.map(|f| ColumnFamilyDescriptor::new(f.name(), family_options(f, &cache, cache_bytes)));
        let options = database_options(create, &write_buffers);
        let db = DBWithThreadMode::open_cf_descriptors(&options, path, families).map_err(open_error)?;
        end_at_once();
        Ok(Db { db, cache, write_buffers, faults, failure: OnceLock::new(), notes: None })
    }

    /// Neither writes nor locks anything.
    pub fn open_read_only(path: &Path) -> Result<Db> {
        let cache_bytes = 64 << 20;
        let cache = Cache::new_lru_cache(cache_bytes);
        let write_buffers = WriteBufferManager::new_write_buffer_manager(0, false);
        let families =
            Family::ALL.map(|f| ColumnFamilyDescriptor::new(f.name(), family_options(f, &cache, cache_bytes)));
        let mut options = database_options(false, &write_buffers);
        // RocksDB keeps a log of its doings wherever it is opened.
        static OPENED: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let number = OPENED.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let notes = std::env::temp_dir().join(format!("millrace-look-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&notes)?;
        options.set_db_log_dir(&notes);
        let opened = DBWithThreadMode::open_cf_descriptors_read_only(&options, path, families, false);
        let db = opened.map_err(|e| {
            let _ = std::fs::remove_dir_all(&notes);
            open_error(e)
        })?;
        Ok(Db { db, cache, write_buffers, faults: None, failure: OnceLock::new(), notes: Some(notes) })
    }

    /// Room on the disk of a directory; `None` where the system does not say.
    pub fn free_bytes(&self, directory: &Path) -> Option<u64> {
        let injected = self.faults.as_ref().and_then(|faults| faults.free_bytes());
        injected.or_else(|| super::disk::free_bytes(directory))
    }

    /// Makes a copy as of now, with links where that is possible.
    pub fn copy_to(&self, path: &Path) -> Result<()> {
        let copied = rocksdb::checkpoint::Checkpoint::new(&self.db).and_then(|c| c.create_checkpoint(path));
        copied.map_err(|e| Error::io(format!("cannot copy the store to \"{}\": {e}", path.display())))
    }

    pub fn write_format(&self) -> Result<()> {
        let mut batch = self.batch();
        let body = [MAGIC, &FORMAT.to_be_bytes()].concat();
        batch.put(Family::Meta, FORMAT_KEY, &frame::seal(FORMAT_KEY, &body));
        self.write(Write::Meta, batch, true)
    }

    pub fn check_format(&self) -> Result<()> {
        let what = || "the format record".to_string();
        let value = self.get(Family::Meta, FORMAT_KEY)?.ok_or_else(|| frame::damaged(what(), "it is missing"))?;
        match frame::open(FORMAT_KEY, &value, what)?.strip_prefix(MAGIC).map(<[u8; 4]>::try_from) {
            Some(Ok(version)) => check_version(u32::from_be_bytes(version)),
            _ => Err(frame::damaged(what(), "it is not Millrace's")),
        }
    }

    fn family(&self, family: Family) -> &ColumnFamily {
        self.db.cf_handle(family.name()).expect("all families are opened with the database")
    }

    pub fn get(&self, family: Family, key: &[u8]) -> Result<Option<impl Deref<Target = [u8]> + '_>> {
        self.db.get_pinned_cf(self.family(family), key).map_err(read_error)
    }

    /// Visits keys in `lower..upper` in order, until told to break.
    pub fn scan(
        &self,
        family: Family,
        lower: &[u8],
        upper: &[u8],
        mut visit: impl FnMut(&[u8], &[u8]) -> Result<ControlFlow<()>>,
    ) -> Result<()> {
        if lower >= upper {
            return Ok(());
        }
        let mut options = ReadOptions::default();
        options.set_iterate_upper_bound(upper);
        // What is scanned is mostly read once: keep the cache for what is looked up.
        options.fill_cache(family == Family::Meta);
        let mut cursor = self.db.raw_iterator_cf_opt(self.family(family), options);
        cursor.seek(lower);
        while let Some((key, value)) = cursor.item() {
            if visit(key, value)?.is_break() {
                return Ok(());
            }
            cursor.next();
        }
        cursor.status().map_err(read_error)
    }

    /// The last entry in `lower..upper`.
    pub fn last(&self, family: Family, lower: &[u8], upper: &[u8]) -> Result<Option<(Vec<u8>, Vec<u8>)>> {
        let mut options = ReadOptions::default();
        options.set_iterate_lower_bound(lower);
        options.set_iterate_upper_bound(upper);
        let mut cursor = self.db.raw_iterator_cf_opt(self.family(family), options);
        cursor.seek_to_last();
        let item = cursor.item().map(|(key, value)| (key.to_vec(), value.to_vec()));
        cursor.status().map_err(read_error)?;
        Ok(item)
    }

    pub fn batch(&self) -> Batch<'_> {
        Batch { db: self, inner: WriteBatch::default() }
    }

    /// Writes all of `batch` or nothing. With `sync` it, and everything written before it, is on the disk
    /// when this returns. An error is final for the store.
    pub fn write(&self, kind: Write, batch: Batch<'_>, sync: bool) -> Result<()> {
        if let Some(failure) = self.failure() {
            return Err(failure);
        }
        let mut options = WriteOptions::default();
        options.set_sync(sync);
        let inject = |outcome: std::io::Result<()>| outcome.map_err(write_error);
        let written = match &self.faults {
            None => self.db.write_opt(batch.inner, &options).map_err(write_error),
            Some(faults) => inject(faults.before(kind, batch.inner.size_in_bytes()))
                .and_then(|()| self.db.write_opt(batch.inner, &options).map_err(write_error))
                .and_then(|()| inject(faults.after(kind))),
        };
        written.inspect_err(|e| {
            let _ = self.failure.set(e.clone()); // keep the first
        })
    }

    pub fn failure(&self) -> Option<Error> {
        self.failure.get().cloned()
    }

    /// Deletes the table files that lie wholly inside a range whose keys are already deleted: frees the
    /// disk at once instead of at some compaction. Best effort.
    pub fn drop_files(&self, family: Family, lower: &[u8], upper: &[u8]) {
        // RocksDB counts the upper bound as inside, and would drop a file that ends with the very key that is to stay.
        let mut last = upper.to_vec();
        for byte in last.iter_mut().rev() {
            let (less, borrowed) = byte.overflowing_sub(1);
            *byte = less;
            if !borrowed {
                break;
            }
        }
        if let Err(e) = self.db.delete_file_in_range_cf(self.family(family), lower, &last) {
            tracing::warn!("cannot drop table files early: {e}");
        }
    }

    /// About how many bytes of table files the keys in `lower..upper` take.
    pub fn range_bytes(&self, family: Family, lower: &[u8], upper: &[u8]) -> u64 {
        let sizes = self.db.get_approximate_sizes_cf(&self.family(family), &[rocksdb::Range::new(lower, upper)]);
        sizes.into_iter().sum()
    }

    pub fn stats(&self) -> StoreStats {
        let number = |family: Family, name: &str| {
            self.db.property_int_value_cf(self.family(family), name).ok().flatten().unwrap_or(0)
        };
        StoreStats {
            disk_bytes: 0,
            log_bytes: number(Family::Log, "rocksdb.total-sst-files-size"),
            block_bytes: number(Family::Blocks, "rocksdb.total-sst-files-size"),
            write_buffer_bytes: self.write_buffers.get_usage() as u64,
            block_cache_bytes: self.cache.get_usage() as u64,
            compaction_pending_bytes: Family::ALL
                .iter()
                .map(|f| number(*f, "rocksdb.estimate-pending-compaction-bytes"))
                .sum(),
        }
    }
}

impl Drop for Db {
    /// An orderly end makes also unsynced writes durable.
    fn drop(&mut self) {
        end_at_once();
        if let Some(notes) = &self.notes {
            let _ = std::fs::remove_dir_all(notes);
            return;
        }
        if self.failure.get().is_none()
            && let Err(e) = self.db.flush_wal(true)
        {
            tracing::error!("cannot sync the log at the end: {e}");
        }
    }
}

/// From here on the process ends at once when it exits. Otherwise RocksDB's statics would be destroyed first, under threads
/// that are still closing a store, and the first that locks one of them would abort ("pthread lock: Invalid argument").
/// What is to stay is synced by then, as it is when the process is killed.
///
/// Whatever is registered last runs first, and RocksDB makes its statics as it needs them: so this is called again and again.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn end_at_once() {
    use std::ffi::{c_int, c_void};

    unsafe extern "C" {
        /// glibc's; the function is given the exit code.
        fn on_exit(function: extern "C" fn(c_int, *mut c_void), argument: *mut c_void) -> c_int;
    }
    extern "C" fn end(code: c_int, _: *mut c_void) {
        // SAFETY: always allowed; Rust has flushed its output before.
        unsafe { libc::_exit(code) }
    }
    // SAFETY: `end` lives as long as the process.
    if unsafe { on_exit(end, std::ptr::null_mut()) } != 0 {
        tracing::warn!("no room for one more function at exit");
    }
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
fn end_at_once() {}

/// Changes that are written together.
pub(super) struct Batch<'a> {
    db: &'a Db,
    inner: WriteBatch,
}

impl Batch<'_> {
    pub fn is_empty(&self) -> bool {
        self.inner.is_empty()
    }
    pub fn put(&mut self, family: Family, key: &[u8], value: &[u8]) {
        self.inner.put_cf(self.db.family(family), key, value);
    }
    pub fn delete(&mut self, family: Family, key: &[u8]) {
        self.inner.delete_cf(self.db.family(family), key);
    }
    /// Deletes `lower..upper`.
    pub fn delete_range(&mut self, family: Family, lower: &[u8], upper: &[u8]) {
        self.inner.delete_range_cf(self.db.family(family), lower, upper);
    }
}

fn database_options(create: bool, write_buffers: &WriteBufferManager) -> Options {
    let mut options = Options::default();
    options.create_if_missing(create);
    options.create_missing_column_families(create);
    options.set_paranoid_checks(true);
    options.set_track_and_verify_wals_in_manifest(true);
    options.set_wal_recovery_mode(DBRecoveryMode::PointInTime);
    options.set_write_buffer_manager(write_buffers);
    // Bounds what is read again at start.
    options.set_max_total_wal_size(64 << 20);
    options.set_max_open_files(512);
    // By default each opening starts and ends 45 threads, which have little to do.
    options.set_max_file_opening_threads(1);
    options.set_max_background_jobs(2);
    options.set_bytes_per_sync(1 << 20);
    options.set_log_level(LogLevel::Warn);
    options.set_max_log_file_size(4 << 20);
    options.set_keep_log_file_num(2);
    options.set_stats_dump_period_sec(0);
    options
}

fn family_options(family: Family, cache: &Cache, cache_bytes: usize) -> Options {
    let mut table = BlockBasedOptions::default();
    table.set_block_cache(cache);
    table.set_cache_index_and_filter_blocks(true);
    table.set_pin_l0_filter_and_index_blocks_in_cache(true);
    table.set_format_version(5);
    table.set_block_size(if family == Family::Log { 32 << 10 } else { 16 << 10 });
    if family == Family::Blocks {
        table.set_bloom_filter(10.0, false);
    }
    let mut options = Options::default();
    options.set_block_based_table_factory(&table);
    options.set_compression_type(DBCompressionType::Lz4);
    options.set_write_buffer_size((cache_bytes / 8).clamp(1 << 20, 64 << 20));
    options.set_max_write_buffer_number(3);
    options.set_level_compaction_dynamic_level_bytes(true);
    options
}

fn open_error(e: rocksdb::Error) -> Error {
    let text = e.to_string();
    let lower = text.to_ascii_lowercase();
    if lower.contains("lock hold by current process") {
        Error::new("55006", "it is already open in this process").detail(text)
    } else if lower.contains("lock") && (lower.contains("unavailable") || lower.contains("while lock file")) {
        Error::new("55006", "it is in use by another process").detail(text)
    } else if matches!(e.kind(), ErrorKind::Corruption | ErrorKind::InvalidArgument | ErrorKind::NotFound)
        || lower.contains("no such file")
    {
        Error::corrupt("it is damaged and cannot be opened").detail(text)
    } else if lower.contains("no space left") {
        Error::new("53100", "there is no space left on its disk").detail(text)
    } else {
        Error::io(format!("it cannot be opened: {text}"))
    }
}

fn read_error(e: rocksdb::Error) -> Error {
    match e.kind() {
        ErrorKind::Corruption => frame::damaged("a table file", e),
        _ => Error::io(format!("cannot read the store: {e}")),
    }
}

fn write_error(e: impl std::fmt::Display) -> Error {
    let text = e.to_string();
    let code = if text.to_ascii_lowercase().contains("no space left") { "53100" } else { "58030" };
    Error::new(code, format!("cannot write to the store, which now takes no more writes: {text}"))
        .hint("Whether this write is durable is known when the process has been started again.")
}
