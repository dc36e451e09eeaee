//! Damage on disk and failing writes are noticed, named, and never returned as rows.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::super::frame;
use super::super::keys::log_key;
use super::super::rocks::Family;
use super::*;

/// Files of the database whose name ends so, largest first.
fn database_files(dir: &Path, suffix: &str) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = fs::read_dir(dir.join("db")).unwrap().map(|e| e.unwrap().path()).collect();
    files.retain(|p| p.to_str().unwrap().ends_with(suffix));
    files.sort_by_key(|p| std::cmp::Reverse(fs::metadata(p).unwrap().len()));
    files
}

/// Everything that opening and reading the store says: the number of stream rows, or the first error.
fn read_all(path: &Path) -> Result<usize> {
    let store = Store::open(path, small())?;
    store.load_catalog()?;
    let rows = store.stream_rows(STREAM, 0, Epoch::MAX, None).try_fold(0, |n, b| b.map(|b| n + b.num_rows()))?;
    let replayed = store
        .replay(0)
        .try_fold(0, |n, e| e.map(|e| n + contents(&e).iter().map(|c| c.1.num_rows()).sum::<usize>()))?;
    assert_eq!(rows, replayed);
    if let Some(manifest) = store.newest_manifest() {
        manifest.parts.iter().flat_map(|p| &p.blocks).try_for_each(|id| store.read_block(*id).map(drop))?;
    }
    Ok(rows)
}

/// Writes under the store's own checksum are the only ones believed: RocksDB's are valid here.
#[test]
fn a_flipped_byte_in_a_value_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    (1..=3).for_each(|e| store.append(&insert(e, 0..1_000)).unwrap());
    let block = store.write_block(&rows(0..10)).unwrap();
    let flip = |family: Family, key: &[u8], at: usize| {
        let db = &store.inner.db;
        let mut value = db.get(family, key).unwrap().unwrap().to_vec();
        let at = at % value.len();
        value[at] ^= 0x10;
        let mut batch = db.batch();
        batch.put(family, key, &value);
        db.write(Write::Meta, batch, false).unwrap();
    };
    let key = log_key(STREAM, 2, 0);
    for at in [0, 1, 4, 5, 9, 700] {
        flip(Family::Log, &key, at);
        let error = store.stream_rows(STREAM, 0, 9, None).nth(1).unwrap().unwrap_err();
        assert_eq!(error.code, "XX001");
        assert!(error.message.contains("epoch 2 of relation 16384 (chunk 0)"), "{error}");
        assert!(store.replay(0).any(|e| e.is_err_and(|e| e == error)));
        flip(Family::Log, &key, at);
    }
    assert_eq!(stream(&store, 0, 9).num_rows(), 3_000);
    flip(Family::Blocks, &block.to_be_bytes(), 40);
    assert!(store.read_block(block).unwrap_err().message.contains(&format!("block {block}: its checksum")));
    flip(Family::Log, &log_key(0, 3, 0), 20);
    assert!(store.last_header().unwrap_err().message.contains("header of epoch 3"));
    assert_eq!(store.replay(2).next().unwrap().unwrap_err().code, "XX001");
}

/// A packed chunk with a right checksum and a wrong inside gives an error or other rows, never a panic.
#[test]
fn nonsense_inside_a_value_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    store.append(&insert(1, 0..20)).unwrap();
    let db = &store.inner.db;
    let key = log_key(STREAM, 1, 0);
    let sealed = db.get(Family::Log, &key).unwrap().unwrap().to_vec();
    let body = frame::open(&key, &sealed, String::new).unwrap().to_vec();
    let mut errors = 0;
    for at in 0..body.len() {
        for change in [0x01, 0x80, 0xff] {
            let mut body = body.clone();
            body[at] ^= change;
            let mut batch = db.batch();
            batch.put(Family::Log, &key, &frame::seal(&key, &body));
            db.write(Write::Meta, batch, false).unwrap();
            errors += usize::from(store.stream_rows(STREAM, 0, 1, None).any(|b| b.is_err()));
        }
    }
    assert!(errors > 50, "only {errors} noticed: the test changes nothing that matters");
}

#[test]
fn a_missing_chunk_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let put = CatalogChange::Put(Box::new(relation(STREAM, "s")));
    store.append(&LogEntry { catalog: vec![put], ..insert(1, 0..200_000) }).unwrap();
    let mut batch = store.inner.db.batch();
    batch.delete(Family::Log, &log_key(STREAM, 1, 1));
    store.inner.db.write(Write::Meta, batch, false).unwrap();
    let error = store.replay(0).next().unwrap().unwrap_err();
    assert!(error.message.contains("epoch 1 of relation 16384: 3 of its 4 chunks are there"), "{error}");
    assert!(store.stream_rows(STREAM, 0, 9, None).any(|b| b.is_err()));
}

/// A store with files of all kinds: tables of the log, the blocks and the catalog, and a write-ahead log.
fn make(path: &Path) {
    let store = open(path);
    let put = CatalogChange::Put(Box::new(relation(STREAM, "s")));
    store.append(&LogEntry { catalog: vec![put], ..insert(1, 0..100_000) }).unwrap();
    let blocks = store.write_blocks(&rows(0..100_000)).unwrap();
    let part = Part { relation: STREAM, worker: 0, node: 0, slot: 0, fingerprint: 0, blocks };
    store.commit_manifest(&Manifest { epoch: 1, parts: vec![part], ..Manifest::default() }).unwrap();
    drop(store);
    let store = open(path); // which turns the write-ahead log into tables
    (2..=40).for_each(|e| store.append(&insert(e, e as i64..e as i64 + 100)).unwrap());
}

const ROWS: usize = 100_000 + 39 * 100;

/// Flips one byte, or cuts the file, at many places in every file: the store is refused or an error names
/// the damage, or (in unused bytes) all rows are there. Never fewer rows, never wrong ones, never a panic.
#[test]
fn damage_in_any_file_is_noticed() {
    let original = tempfile::tempdir().unwrap();
    make(original.path());
    assert_eq!(read_all(original.path()).unwrap(), ROWS);
    let names = || fs::read_dir(original.path().join("db")).unwrap().map(|e| e.unwrap());
    let kinds = |suffix: &str| names().filter(|e| e.file_name().to_str().unwrap().ends_with(suffix)).count();
    assert!(kinds(".sst") >= 3, "tables are there to be damaged");
    let (mut noticed, mut harmless) = (0, 0);
    for file in names() {
        let name = file.file_name().into_string().unwrap();
        let size = file.metadata().unwrap().len();
        if size == 0 || name.starts_with("LOG") || name == "LOCK" || name.starts_with("OPTIONS") || name == "IDENTITY" {
            continue; // RocksDB's own notes, nothing of ours
        }
        for place in 0..6 {
            for cut in [false, true] {
                let copy = tempfile::tempdir().unwrap();
                fs::create_dir(copy.path().join("db")).unwrap();
                for other in names() {
                    fs::copy(other.path(), copy.path().join("db").join(other.file_name())).unwrap();
                }
                for other in ["MILLRACE", "acknowledged"] {
                    fs::copy(original.path().join(other), copy.path().join(other)).unwrap();
                }
                let path = copy.path().join("db").join(&name);
                let mut bytes = fs::read(&path).unwrap();
                let at = (size * (2 * place + 1) / 12) as usize;
                if cut {
                    bytes.truncate(at);
                } else {
                    bytes[at] ^= 0x40;
                }
                fs::write(&path, bytes).unwrap();
                match read_all(copy.path()) {
                    Ok(rows) => {
                        assert_eq!(rows, ROWS, "{name} damaged at {at} of {size} (cut: {cut})");
                        harmless += 1;
                    }
                    Err(e) => {
                        assert!(["XX001", "58030"].contains(&e.code), "{name} at {at}: {} {e}", e.code);
                        noticed += 1;
                    }
                }
            }
        }
    }
    assert!(noticed > 2 * harmless, "{noticed} noticed, {harmless} harmless");
}

/// The end of the write-ahead log is lost: without the note of what was acknowledged this would look like
/// fewer commits.
#[test]
fn a_lost_tail_of_acknowledged_epochs_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    (1..=40).for_each(|e| store.append(&insert(e, e as i64..e as i64 + 100)).unwrap());
    // As kill -9 leaves it: copy the files of the open store.
    let copy = tempfile::tempdir().unwrap();
    fs::create_dir(copy.path().join("db")).unwrap();
    for name in ["MILLRACE", "acknowledged"] {
        fs::copy(dir.path().join(name), copy.path().join(name)).unwrap();
    }
    for file in fs::read_dir(dir.path().join("db")).unwrap().map(|e| e.unwrap()) {
        fs::copy(file.path(), copy.path().join("db").join(file.file_name())).unwrap();
    }
    let log = &database_files(copy.path(), ".log")[0];
    let mut bytes = fs::read(log).unwrap();
    bytes.truncate(bytes.len() / 2);
    fs::write(log, bytes).unwrap();
    let error = Store::open(copy.path(), small()).err().unwrap();
    assert_eq!(error.code, "XX001");
    assert!(error.message.contains("epoch 40 had been acknowledged"), "{error}");
    fs::remove_file(copy.path().join("acknowledged")).unwrap();
    let store = open(copy.path());
    let last = store.last_epoch();
    assert!(last > 1 && last < 40);
    assert_eq!(store.stream_end(STREAM).unwrap(), last * 100);
}

/// Fails the `n`-th write of a kind, before or after it is done.
#[derive(Debug)]
struct FailOnce {
    kind: Write,
    after: bool,
    countdown: AtomicUsize,
    error: io::ErrorKind,
}

impl FailOnce {
    fn new(kind: Write, n: usize, after: bool, error: io::ErrorKind) -> Arc<FailOnce> {
        Arc::new(FailOnce { kind, after, countdown: AtomicUsize::new(n), error })
    }
    fn decide(&self, write: Write, after: bool) -> io::Result<()> {
        if write != self.kind || after != self.after || self.countdown.fetch_sub(1, Ordering::Relaxed) != 1 {
            return Ok(());
        }
        match self.error {
            io::ErrorKind::StorageFull => Err(io::Error::from_raw_os_error(28)),
            kind => Err(io::Error::new(kind, "injected")),
        }
    }
}

impl Faults for FailOnce {
    fn before(&self, write: Write, bytes: usize) -> io::Result<()> {
        assert!(bytes > 0);
        self.decide(write, false)
    }
    fn after(&self, write: Write) -> io::Result<()> {
        self.decide(write, true)
    }
}

/// After a failed write nothing is accepted any more; after a restart the epoch is there whole or not at all.
#[test]
fn a_failed_write_stops_the_store() {
    for (error, code) in [(io::ErrorKind::Other, "58030"), (io::ErrorKind::StorageFull, "53100")] {
        for after in [false, true] {
            let dir = tempfile::tempdir().unwrap();
            let faults = FailOnce::new(Write::Append, 3, after, error);
            let store = Store::open_with_faults(dir.path(), small(), Some(faults)).unwrap();
            store.append(&insert(1, 0..100)).unwrap();
            store.append(&insert(2, 0..100)).unwrap();
            assert_eq!(store.failure(), None);
            let failed = store.append(&insert(3, 0..100)).unwrap_err();
            assert_eq!((failed.code, store.last_epoch()), (code, 2));
            assert_eq!(store.failure(), Some(failed.clone()));
            assert_eq!(store.append(&insert(4, 0..100)).unwrap_err(), failed);
            assert_eq!(store.write_block(&rows(0..1)).unwrap_err(), failed);
            assert_eq!(stream(&store, 0, 2).num_rows(), 200);
            drop(store);
            let store = open(dir.path());
            let last = store.last_epoch();
            assert_eq!(last, if after { 3 } else { 2 });
            assert_eq!(stream(&store, 0, 9).num_rows() as u64, last * 100);
            store.append(&insert(9, 0..100)).unwrap();
        }
    }
}

#[test]
fn a_failed_manifest_leaves_the_one_before() {
    for after in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let part = |blocks| Part { relation: STREAM, worker: 0, node: 1, slot: 0, fingerprint: 0, blocks };
        let manifest = |epoch, block| Manifest { epoch, workers: 1, positions: vec![], parts: vec![part(vec![block])] };
        let faults = FailOnce::new(Write::Manifest, 2, after, io::ErrorKind::Other);
        let store = Store::open_with_faults(dir.path(), small(), Some(faults)).unwrap();
        let first = store.write_block(&rows(0..1)).unwrap();
        store.commit_manifest(&manifest(1, first)).unwrap();
        let second = store.write_block(&rows(1..2)).unwrap();
        assert_eq!(store.commit_manifest(&manifest(2, second)).unwrap_err().code, "58030");
        drop(store);
        let store = open(dir.path());
        store.collect_garbage().unwrap();
        let (stands, gone) = if after { (second, first) } else { (first, second) };
        assert_eq!(store.newest_manifest().unwrap().parts[0].blocks, [stands]);
        assert!(store.read_block(stands).is_ok() && store.read_block(gone).is_err());
    }
}

/// Fills a small file system, named by `MILLRACE_SMALL_DISK`: what was acknowledged stays, and once there is
/// room again the store goes on.
#[test]
#[ignore = "needs a file system of some 64 MB, e.g. a tmpfs"]
fn a_full_disk_is_survived() {
    let Ok(disk) = std::env::var("MILLRACE_SMALL_DISK") else { return };
    let path = Path::new(&disk).join("data");
    let ballast = Path::new(&disk).join("ballast");
    fs::write(&ballast, vec![1; 16 << 20]).unwrap();
    let store = open(&path);
    let random = |epoch: u64| {
        let mut x = epoch.wrapping_mul(0x9E3779B97F4A7C15) | 1;
        let ids = (0..20_000).map(|_| {
            x ^= x << 13;
            x ^= x >> 7;
            x ^= x << 17;
            x as i64
        });
        let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(ids));
        entry(epoch, vec![(STREAM, vec![Delta::inserts(RecordBatch::try_from_iter([("x", ids)]).unwrap())])])
    };
    let (acknowledged, error) =
        (1..).find_map(|epoch| store.append(&random(epoch)).err().map(|e| (epoch - 1, e))).expect("the disk is small");
    println!("full after epoch {acknowledged}: {} {error}", error.code);
    assert_eq!(error.code, "53100");
    drop(store);
    fs::remove_file(&ballast).unwrap();
    let store = open(&path);
    assert!(store.last_epoch() >= acknowledged);
    let mut epochs = 0;
    for entry in store.replay(0) {
        let entry = entry.unwrap();
        epochs += 1;
        assert_eq!(contents(&entry), contents(&random(epochs)));
    }
    assert_eq!(epochs, store.last_epoch());
    store.append(&random(epochs + 1)).unwrap();
}
