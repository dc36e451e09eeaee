//! What things cost in CPU time of the calling thread: run with `--ignored --nocapture`. Asserts nothing
//! but that it works.

use std::time::Duration;

use arrow::array::{Float64Array, TimestampMicrosecondArray};

use super::*;

/// The thread's CPU time: other work on the machine does not count.
struct Instant(Duration);

impl Instant {
    fn now() -> Instant {
        let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
        Instant(Duration::from_nanos(text.split(' ').next().unwrap().parse().unwrap()))
    }
    fn elapsed(&self) -> Duration {
        Instant::now().0 - self.0
    }
}

/// Seven columns, of which two are texts: about 70 bytes a row.
fn bids(n: usize) -> RecordBatch {
    let long = |k: i64| Arc::new(Int64Array::from_iter_values((0..n as i64).map(move |i| i * k % 100_003))) as ArrayRef;
    let text = |w: &'static str| {
        Arc::new(StringArray::from_iter_values((0..n).map(move |i| format!("{w}-{}", i % 977)))) as ArrayRef
    };
    RecordBatch::try_from_iter([
        ("auction", long(7)),
        ("bidder", long(13)),
        ("price", Arc::new(Float64Array::from_iter_values((0..n).map(|i| i as f64 / 100.0))) as ArrayRef),
        ("channel", text("channel")),
        ("url", text("https://www.example.com/item")),
        ("ts", Arc::new(TimestampMicrosecondArray::from_iter_values((0..n as i64).map(|i| i * 1_000)))),
        ("quantity", long(3)),
    ])
    .unwrap()
}

fn nosync() -> StoreOptions {
    StoreOptions { create: true, sync: false, cache_bytes: 64 << 20 }
}

#[test]
#[ignore = "a measurement"]
fn one_row_epochs() {
    let dir = tempfile::tempdir().unwrap();
    let epochs = 200_000;
    let batch = bids(1_000);
    let entries: Vec<LogEntry> = (1..=epochs)
        .map(|e| entry(e, vec![(STREAM, vec![Delta::inserts(batch.slice(e as usize % 1_000, 1))])]))
        .collect();
    let store = Store::open(dir.path(), nosync()).unwrap();
    let start = Instant::now();
    entries.iter().for_each(|e| store.append(e).unwrap());
    let each = |start: Instant, n: u64| start.elapsed().as_nanos() as f64 / n as f64 / 1_000.0;
    println!("append of one row, no sync: {:.2} us", each(start, epochs));
    let (key, header) = (super::super::keys::log_key(STREAM, 9, 0), super::super::keys::log_key(0, 9, 0));
    let size = |key: &[u8]| store.inner.db.get(super::super::rocks::Family::Log, key).unwrap().unwrap().len();
    println!("bytes of one row: chunk {} header {}, each with a key of 16", size(&key), size(&header));
    drop(store);
    let store = Store::open(dir.path(), nosync()).unwrap();
    println!("on disk per row: {:.1} bytes", store.stats().log_bytes as f64 / epochs as f64);
    let start = Instant::now();
    assert_eq!(
        store.stream_rows(STREAM, 0, epochs, None).map(|b| b.unwrap().num_rows()).sum::<usize>(),
        epochs as usize
    );
    println!("scan of one-row epochs: {:.3} us a row", each(start, epochs));
    let start = Instant::now();
    assert_eq!(
        store.stream_rows(STREAM, 0, epochs, Some(vec![0])).map(|b| b.unwrap().num_rows()).sum::<usize>(),
        epochs as usize
    );
    println!("the same, one column: {:.3} us a row", each(start, epochs));
    let start = Instant::now();
    assert_eq!(store.replay(0).count(), epochs as usize);
    println!("replay of one-row epochs: {:.3} us an epoch", each(start, epochs));
    let start = Instant::now();
    for i in 0..1_000 {
        let after = i * 191 % (epochs - 1);
        assert_eq!(store.stream_rows(STREAM, after, after + 1, None).count(), 1);
    }
    println!("seek to one epoch of {epochs}: {:.2} us", each(start, 1_000));
    let end = epochs;
    let synced = Store::open(tempfile::tempdir().unwrap().path(), small()).unwrap();
    let start = std::time::Instant::now();
    entries[..200].iter().for_each(|e| synced.append(e).unwrap());
    println!("append of one row, synced: {:.1} us of wall time", start.elapsed().as_micros() as f64 / 200.0);
    assert_eq!(store.last_epoch(), end);
}

#[test]
#[ignore = "a measurement"]
fn large_commits() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), nosync()).unwrap();
    let batch = bids(1_000_000);
    let bytes: usize = batch.columns().iter().map(|c| c.to_data().get_slice_memory_size().unwrap()).sum();
    let start = Instant::now();
    store.append(&entry(1, vec![(STREAM, vec![Delta::inserts(batch)])])).unwrap();
    let rate = |start: Instant| bytes as f64 / start.elapsed().as_secs_f64() / 1e6;
    println!(
        "append of 1M rows: {:.0} ns a row, {:.0} MB/s of Arrow bytes",
        start.elapsed().as_nanos() as f64 / 1e6,
        rate(start)
    );
    drop(store);
    let store = Store::open(dir.path(), nosync()).unwrap();
    println!("on disk per row: {:.1} of {:.1} bytes", store.stats().log_bytes as f64 / 1e6, bytes as f64 / 1e6);
    let start = Instant::now();
    assert_eq!(store.stream_rows(STREAM, 0, 1, None).map(|b| b.unwrap().num_rows()).sum::<usize>(), 1_000_000);
    println!("scan: {:.0} ns a row, {:.0} MB/s", start.elapsed().as_nanos() as f64 / 1e6, rate(start));
    let start = Instant::now();
    assert_eq!(store.stream_rows(STREAM, 0, 1, Some(vec![0])).map(|b| b.unwrap().num_rows()).sum::<usize>(), 1_000_000);
    println!("scan of one column: {:.0} ns a row", start.elapsed().as_nanos() as f64 / 1e6);
}

/// Where the packed form stops paying.
#[test]
#[ignore = "a measurement"]
fn forms() {
    use super::super::chunk::{self, ChunkHead, Collector};
    use super::super::schemas::StoredSchema;
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), nosync()).unwrap();
    let all = bids(8_192);
    let stored = store.inner.schemas.intern(&store.inner.db, &all.schema()).unwrap();
    let ipc = StoredSchema {
        id: stored.id,
        schema: stored.schema.clone(),
        message: stored.message.clone(),
        weighted: stored.weighted.clone(),
        weighted_message: stored.weighted_message.clone(),
        packable: false,
    };
    for n in [1, 4, 16, 64, 128, 256, 512, 1_024, 4_096] {
        let delta = Delta::inserts(all.slice(0, n));
        print!("{n:5} rows:");
        for (name, stored) in [("packed", &*stored), ("ipc", &ipc)] {
            if name == "packed" && n > chunk::PACKED_ROWS_MAX {
                continue;
            }
            let rounds = 400_000 / (n + 50) + 20;
            let start = Instant::now();
            let mut bytes = 0;
            let mut sealed = Vec::new();
            for _ in 0..rounds {
                sealed = chunk::encode(stored, &delta, 0).unwrap().seal(b"k");
                bytes = sealed.len();
            }
            let encode = start.elapsed().as_nanos() as f64 / rounds as f64 / 1_000.0;
            let start = Instant::now();
            for _ in 0..rounds {
                let head = ChunkHead::read(frame::open(b"k", &sealed, String::new).unwrap()).unwrap();
                let mut reader = Collector::new(&store.inner.schemas, head.schema_id, None).unwrap();
                assert_eq!(reader.decode(&head).unwrap().len(), n);
            }
            let decode = start.elapsed().as_nanos() as f64 / rounds as f64 / 1_000.0;
            print!(
                "   {name} {bytes} bytes, {:.1}/row, encode {encode:.1} us, decode {decode:.1} us",
                bytes as f64 / n as f64
            );
        }
        println!();
    }
}
