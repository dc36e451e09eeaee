//! A life of some forty statements, in which one write after the other fails: before it is made, after it was made, for
//! want of room, or as a power loss would have it, with any part of what was not synced gone. After each, nothing that
//! was acknowledged is lost, nothing is doubled, what was not acknowledged is there whole or not at all, every view
//! equals its query, and the rest of the life ends where it ends without any fault.
//!
//! `MILLRACE_FAULT_SEED` and `MILLRACE_FAULT_WRITE` repeat one failure.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use millrace_engine::tools::{self, Faults, WriteKind};
use millrace_sql_tests::millrace::{Database, run};

use super::{block_on, ok, sql};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    NotWritten,
    WrittenButFailed,
    NoSpace,
    /// The process ends right after the write; of what was not synced some bytes are gone.
    PowerLoss,
}
const KINDS: [Kind; 4] = [Kind::NotWritten, Kind::WrittenButFailed, Kind::NoSpace, Kind::PowerLoss];

#[derive(Debug)]
struct FailAt {
    directory: PathBuf,
    kind: Kind,
    /// Which write fails, from 1.
    at: usize,
    writes: AtomicUsize,
    /// The newest write-ahead log and its length when something was synced last, before the failure.
    synced: Mutex<Option<(PathBuf, u64)>>,
    free: AtomicU64,
}

impl FailAt {
    fn new(directory: &Path, kind: Kind, at: usize) -> Arc<FailAt> {
        let (writes, synced, free) = (AtomicUsize::new(0), Mutex::default(), AtomicU64::new(u64::MAX));
        Arc::new(FailAt { directory: directory.to_path_buf(), kind, at, writes, synced, free })
    }
}

impl Faults for FailAt {
    fn before(&self, _: WriteKind, _: usize) -> io::Result<()> {
        let n = self.writes.fetch_add(1, Ordering::SeqCst) + 1;
        match self.kind {
            Kind::NotWritten if n == self.at => Err(io::Error::other("injected: input/output error")),
            Kind::NoSpace if n == self.at => Err(io::Error::from(io::ErrorKind::StorageFull)),
            _ => Ok(()),
        }
    }
    fn after(&self, kind: WriteKind) -> io::Result<()> {
        let n = self.writes.load(Ordering::SeqCst);
        let failed = matches!(self.kind, Kind::WrittenButFailed | Kind::PowerLoss) && n == self.at;
        if failed {
            return Err(io::Error::other("injected: the sync failed"));
        }
        if matches!(kind, WriteKind::Append | WriteKind::Manifest) {
            *self.synced.lock().unwrap() = newest_log(&self.directory);
        }
        Ok(())
    }
    fn free_bytes(&self) -> Option<u64> {
        Some(self.free.load(Ordering::SeqCst))
    }
}

fn newest_log(directory: &Path) -> Option<(PathBuf, u64)> {
    let files = fs::read_dir(directory.join("db")).ok()?.flatten();
    let logs = files.filter(|file| file.path().extension().is_some_and(|e| e == "log"));
    logs.map(|file| (file.path(), file.metadata().map_or(0, |m| m.len()))).max()
}

const LIFE: &[&str] = &[
    "CREATE STREAM s (k int, v int)",
    "CREATE TABLE t (k int PRIMARY KEY, name text) WITH (history = '1 minute')",
    "INSERT INTO t SELECT i, 'name ' || i FROM generate_series(1, 9) g(i)",
    "CREATE MATERIALIZED VIEW sums AS SELECT k, count(*) AS n, sum(v) AS total FROM s GROUP BY k",
    "CREATE MATERIALIZED VIEW named AS SELECT name, total FROM sums JOIN t ON sums.k = t.k",
    "INSERT INTO s SELECT i % 7, i FROM generate_series(1, 200) g(i)",
    "UPDATE t SET name = 'other' WHERE k < 3",
    "CHECKPOINT",
    "INSERT INTO s VALUES (1, 1000)",
    "BEGIN; DELETE FROM t WHERE k = 5; INSERT INTO s VALUES (5, 5), (6, 6); INSERT INTO t VALUES (0, 'zero'); COMMIT",
    "CREATE TABLE copy AS SELECT * FROM named",
    "CREATE MATERIALIZED VIEW late WITH (start = 100) AS SELECT max(v) AS most FROM s",
    "CHECKPOINT",
    "DROP MATERIALIZED VIEW named",
    "INSERT INTO s SELECT i % 5, i FROM generate_series(1, 300) g(i)",
    "ALTER TABLE copy RENAME TO copied",
    "DELETE FROM copied WHERE total > 3000",
    "CHECKPOINT",
    "CREATE STREAM other (x text)",
    "DROP TABLE copied",
    "INSERT INTO other VALUES ('a'), ('b')",
    "INSERT INTO t VALUES (1, 'again') ON CONFLICT (k) DO UPDATE SET name = excluded.name",
    "CHECKPOINT",
];

/// Everything that can be seen, but for what statements say of themselves.
async fn contents(database: &Database) -> Vec<String> {
    let mut seen = Vec::new();
    for name in ["s", "t", "copy", "copied", "other", "sums", "named", "late"] {
        match sql(database, &format!("SELECT * FROM {name}")).await {
            Ok(answer) => {
                let mut rows: Vec<String> = answer.rows.iter().map(|row| row.join(" ")).collect();
                rows.sort();
                seen.push(format!("{name}: {}", rows.join(", ")));
            }
            Err(error) => assert_eq!(error.code, "42P01", "{name}: {error}"),
        }
    }
    seen
}

fn number(name: &str) -> Option<usize> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is a number")))
}

#[test]
fn any_write_may_fail() {
    let seed = number("MILLRACE_FAULT_SEED").unwrap_or(1);
    block_on(async {
        // Without faults: what each statement leads to, and how many writes there are.
        let place = tempfile::tempdir().unwrap();
        let directory = place.path().join("d");
        let counter = FailAt::new(&directory, Kind::NotWritten, usize::MAX);
        let database = Database::open(place, "d", 2, Some(counter.clone())).unwrap();
        let mut after = vec![contents(&database).await];
        for statement in LIFE {
            ok(&database, statement).await;
            after.push(contents(&database).await);
        }
        let writes = counter.writes.load(Ordering::SeqCst);
        assert!(writes > 60, "only {writes} writes");
        drop(database);
        let all: Vec<usize> = (1..=writes).collect();
        for at in number("MILLRACE_FAULT_WRITE").map_or(all, |at| vec![at]) {
            one_fault(&after, KINDS[(at + seed) % KINDS.len()], at, seed).await;
        }
    });
}

async fn one_fault(after: &[Vec<String>], kind: Kind, at: usize, seed: usize) {
    let what = format!("{kind:?} at write {at}, seed {seed}");
    let place = tempfile::tempdir().unwrap();
    let directory = place.path().join("d");
    let faults = FailAt::new(&directory, kind, at);
    let mut database = match Database::open(place, "d", 1 + at % 3, Some(faults.clone())) {
        Ok(database) => database,
        // The directory's very first writes: nothing can be lost yet.
        Err(error) => return assert!(["58030", "53100"].contains(&error.code.as_str()), "{what}: {error}"),
    };
    let mut done = 0;
    for statement in LIFE {
        match sql(&database, statement).await {
            Ok(_) => done += 1,
            Err(error) => {
                assert!(["58030", "53100"].contains(&error.code.as_str()), "{what}: {statement}: {error}");
                break;
            }
        }
    }
    let harm = |directory: &Path| {
        let Some((file, length)) = faults.synced.lock().unwrap().clone().filter(|_| kind == Kind::PowerLoss) else {
            return;
        };
        let Some((newest, whole)) = newest_log(directory) else { return };
        let kept = if newest == file { length } else { 0 };
        let rest = whole - kept;
        let stays = kept + (rest > 0).then(|| (at * 7919 + seed * 104729) as u64 % (rest + 1)).unwrap_or(0);
        fs::OpenOptions::new().write(true).open(&newest).unwrap().set_len(stays).unwrap();
    };
    database.crash_harm_and_reopen(1 + (at + seed) % 3, harm).await.unwrap_or_else(|e| panic!("{what}: {e}"));
    let seen = contents(&database).await;
    // What had been acknowledged, or the statement that failed as well.
    let now = (done..(done + 2).min(after.len())).find(|n| after[*n] == seen);
    let now = now.unwrap_or_else(|| panic!("{what}: after {done} statements\n{seen:#?}\nand not\n{:#?}", after[done]));
    database.verify().await.unwrap_or_else(|e| panic!("{what}: {e}"));
    for statement in &LIFE[now..] {
        sql(&database, statement).await.unwrap_or_else(|e| panic!("{what}: {statement}: {e}"));
    }
    database.verify().await.unwrap_or_else(|e| panic!("{what}: {e}"));
    assert_eq!(contents(&database).await, after[after.len() - 1], "{what}: at the end");
    database.stop_and_reopen(1).await.unwrap();
    assert_eq!(contents(&database).await, after[after.len() - 1], "{what}: after a restart");
    let path = database.path().to_path_buf();
    let report = database.close_and(|| tools::check(&path)).await.unwrap();
    assert_eq!(report.problems, [""; 0], "{what}");
}

/// A full disk: writing is refused, reading goes on, and all goes on when there is room; nothing has to be restarted.
#[test]
fn a_full_disk_is_waited_out() {
    block_on(async {
        let place = tempfile::tempdir().unwrap();
        let faults = FailAt::new(&place.path().join("d"), Kind::NotWritten, usize::MAX);
        let mut database = Database::open(place, "d", 2, Some(faults.clone())).unwrap();
        for statement in &LIFE[..7] {
            ok(&database, statement).await;
        }
        let before = contents(&database).await;
        faults.free.store(1 << 20, Ordering::SeqCst);
        let refused = [
            "INSERT INTO s VALUES (1, 1)",
            "UPDATE t SET name = 'x'",
            "BEGIN; INSERT INTO t VALUES (100, 'x'); INSERT INTO s VALUES (1, 1); COMMIT",
            "CREATE TABLE u (a int)",
            "CREATE MATERIALIZED VIEW w AS SELECT * FROM s",
            "CHECKPOINT",
        ];
        for statement in refused {
            let mut session = database.session();
            let error = run(&mut session, statement).await.unwrap_err();
            assert_eq!(error.code, "53100", "{statement}: {error}");
        }
        assert_eq!(contents(&database).await, before);
        database.verify().await.unwrap();
        ok(&database, "DROP MATERIALIZED VIEW named").await;
        faults.free.store(u64::MAX, Ordering::SeqCst);
        for statement in refused {
            ok(&database, statement).await;
        }
        database.verify().await.unwrap();
        let after = contents(&database).await;
        database.crash_and_reopen(3).await.unwrap();
        assert_eq!(contents(&database).await, after);
        database.verify().await.unwrap();
    });
}
