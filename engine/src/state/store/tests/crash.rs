//! Processes that die: what they had acknowledged is there, whole.

use std::io::{self, BufRead, BufReader, Write as _};
use std::process::Stdio;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::super::faults;
use super::*;

/// How many rows an epoch has: mostly one, sometimes several chunks.
fn epoch_rows(epoch: Epoch) -> i64 {
    match epoch % 50 {
        49 => 70_000,
        n if n % 10 == 9 => 500,
        _ => 1,
    }
}

/// Two relations that must agree, and a position.
fn epoch_entry(epoch: Epoch) -> LogEntry {
    let ids = epoch as i64 * 100_000..epoch as i64 * 100_000 + epoch_rows(epoch);
    let changes = vec![(STREAM, vec![Delta::inserts(rows(ids.clone()))]), (TABLE, vec![Delta::retractions(rows(ids))])];
    LogEntry { positions: vec![(STREAM, epoch.to_string().into_bytes())], ..entry(epoch, changes) }
}

/// Every epoch up to the last is whole; returns the last.
fn check(path: &Path, acknowledged: Epoch) -> Epoch {
    let store = open(path);
    store.collect_garbage().unwrap();
    let last = store.last_epoch();
    assert!(last >= acknowledged, "epoch {acknowledged} was acknowledged, the log ends at {last}");
    let mut epoch = 0;
    for read in store.replay(0) {
        let read = read.unwrap();
        epoch += 1;
        let expected = epoch_entry(epoch);
        assert_eq!((&read.header, &read.positions), (&expected.header, &expected.positions));
        assert_eq!(contents(&read), contents(&expected));
    }
    assert_eq!(epoch, last);
    let rows: i64 = (1..=last).map(epoch_rows).sum();
    for relation in [STREAM, TABLE] {
        assert_eq!(store.stream_end(relation).unwrap(), rows as u64);
        let read: usize = store.deltas(relation, 0, Epoch::MAX, None).map(|d| d.unwrap().len()).sum();
        assert_eq!(read as i64, rows);
    }
    if let Some(manifest) = store.newest_manifest() {
        let block = store.read_block(manifest.parts[0].blocks[0]).unwrap();
        assert_eq!(block, super::rows(manifest.epoch as i64..manifest.epoch as i64 + 1));
    }
    last
}

/// Appends from where the log ends and says each epoch after it is acknowledged; checkpoints now and then.
fn append_for_ever(path: &Path, faults: Option<Arc<dyn Faults>>, sync: bool) -> ! {
    let store = Store::open_with_faults(path, StoreOptions { sync, ..small() }, faults).unwrap();
    store.collect_garbage().unwrap();
    let mut out = io::stdout();
    for epoch in store.last_epoch() + 1.. {
        store.append(&epoch_entry(epoch)).unwrap();
        writeln!(out, "ack {epoch}").unwrap();
        out.flush().unwrap();
        if epoch % 7 == 0 {
            let block = store.write_block(&rows(epoch as i64..epoch as i64 + 1)).unwrap();
            let part = Part { relation: STREAM, worker: 0, node: 0, slot: 0, fingerprint: 0, blocks: vec![block] };
            store.commit_manifest(&Manifest { epoch, workers: 1, positions: vec![], parts: vec![part] }).unwrap();
        }
    }
    unreachable!("epochs do not end")
}

/// Runs the child until `stop` says so or it dies; returns the last epoch that it acknowledged.
fn run(test: &str, argument: &str, kill_after: Option<Duration>) -> Epoch {
    let mut process = child(test, argument).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let lines = BufReader::new(process.stdout.take().unwrap()).lines();
    let reader = std::thread::spawn(move || {
        let acks =
            lines.map_while(|line| line.ok()).filter_map(|line| line.rsplit("ack ").next()?.parse::<Epoch>().ok());
        acks.last().unwrap_or(0)
    });
    if let Some(time) = kill_after {
        std::thread::sleep(time);
        process.kill().unwrap(); // SIGKILL
    }
    process.wait().unwrap();
    reader.join().unwrap()
}

#[test]
fn kill_9_loses_nothing_acknowledged() {
    for sync in [true, false] {
        let dir = tempfile::tempdir().unwrap();
        let argument = format!("{sync} {}", dir.path().display());
        let (mut last, mut acknowledged) = (0, 0);
        for round in 0..5 {
            // Times that differ from run to run: the kill should hit every phase sooner or later.
            let time = Duration::from_millis(150 + 60 * round + u64::from(std::process::id() % 40));
            acknowledged = run("crash::append_until_killed", &argument, Some(time)).max(acknowledged);
            last = check(dir.path(), acknowledged);
        }
        assert!(acknowledged > 10 && last - acknowledged <= 1, "{last} written, {acknowledged} acknowledged");
    }
}

#[test]
#[ignore = "a child process of another test"]
fn append_until_killed() {
    let Some(argument) = child_argument() else { return };
    let (sync, path) = argument.split_once(' ').unwrap();
    append_for_ever(Path::new(path), None, sync == "true")
}

/// Stops the process at the `n`-th write, just before or just after it.
#[derive(Debug)]
struct StopAt {
    countdown: AtomicUsize,
    after: bool,
}

impl Faults for StopAt {
    fn before(&self, _: faults::Write, _: usize) -> io::Result<()> {
        if !self.after && self.countdown.fetch_sub(1, Ordering::Relaxed) == 1 {
            std::process::abort();
        }
        Ok(())
    }
    fn after(&self, _: faults::Write) -> io::Result<()> {
        if self.after && self.countdown.fetch_sub(1, Ordering::Relaxed) == 1 {
            std::process::abort();
        }
        Ok(())
    }
}

/// Every single write of a short life is once the last one: creation, schemas, epochs, blocks, manifests.
#[test]
fn a_stop_between_any_two_writes_is_survived() {
    let mut lasts = Vec::new();
    for n in 1..=26 {
        for after in [false, true] {
            let dir = tempfile::tempdir().unwrap();
            let argument = format!("{n} {after} {}", dir.path().display());
            let acknowledged = run("crash::append_until_stopped", &argument, None);
            let last = check(dir.path(), acknowledged);
            assert!(last - acknowledged <= 1);
            lasts.push(last);
            // It goes on from there as well.
            if n % 9 == 0 {
                let again = run("crash::append_until_stopped", &argument, None);
                assert!(check(dir.path(), again.max(acknowledged)) >= last);
            }
        }
    }
    assert!(lasts[0] == 0 && *lasts.last().unwrap() > 14, "{lasts:?}");
}

#[test]
#[ignore = "a child process of another test"]
fn append_until_stopped() {
    let Some(argument) = child_argument() else { return };
    let mut words = argument.splitn(3, ' ');
    let mut word = || words.next().unwrap();
    let faults = StopAt { countdown: AtomicUsize::new(word().parse().unwrap()), after: word() == "true" };
    append_for_ever(Path::new(word()), Some(Arc::new(faults)), true)
}
