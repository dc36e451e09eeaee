//! The log as its callers see it.

use super::compact::ids;
use super::*;

#[test]
fn entries_come_back_after_reopening() {
    let dir = tempfile::tempdir().unwrap();
    let written: Vec<LogEntry> = (1..=50)
        .map(|e| LogEntry {
            positions: vec![(STREAM, format!("offset {e}").into_bytes()), (TABLE, vec![])],
            ..insert(e * 2, e as i64..e as i64 * 5)
        })
        .collect();
    {
        let store = open(dir.path());
        assert_eq!((store.last_epoch(), store.last_header().unwrap()), (0, None));
        store.append(&written[0]).unwrap();
        store.append_all(&written[1..]).unwrap();
    }
    let store = open(dir.path());
    assert_eq!(store.last_epoch(), 100);
    assert_eq!(store.last_header().unwrap().unwrap(), written[49].header);
    for after in [0, 1, 2, 50, 99, 100, 1_000] {
        let read: Vec<LogEntry> = store.replay(after).map(Result::unwrap).collect();
        let expected: Vec<&LogEntry> = written.iter().filter(|e| e.header.epoch > after).collect();
        assert_eq!(read.len(), expected.len());
        for (read, expected) in read.iter().zip(expected) {
            assert_eq!((&read.header, &read.positions), (&expected.header, &expected.positions));
            assert_eq!(contents(read), contents(expected));
        }
    }
}

/// More epochs and rows than one window of replay.
#[test]
fn replay_crosses_its_windows() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), StoreOptions { sync: false, ..small() }).unwrap();
    let mut next = 0;
    for epoch in 1..=10_000 {
        let n = if epoch % 1_000 == 0 { 100_000 } else { 1 };
        store.append(&insert(epoch, next..next + n)).unwrap();
        next += n;
    }
    let mut expected = 0;
    let mut epochs = 0;
    for entry in store.replay(0) {
        let entry = entry.unwrap();
        epochs += 1;
        assert_eq!(entry.header.epoch, epochs);
        let n = if epochs % 1_000 == 0 { 100_000 } else { 1 };
        assert_eq!(contents(&entry)[0].1, rows(expected..expected + n));
        expected += n;
    }
    assert_eq!((epochs, expected), (10_000, next));
    assert_eq!(stream(&store, 0, Epoch::MAX), rows(0..next));
}

#[test]
fn a_stream_is_read_between_epochs() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let neighbour = |e: Epoch| entry(e, vec![(TABLE, vec![Delta::retractions(rows(0..3))])]);
    for e in 0..20 {
        store.append(&insert(e * 2 + 1, e as i64 * 10..e as i64 * 10 + 10)).unwrap();
        store.append(&neighbour(e * 2 + 2)).unwrap();
    }
    assert_eq!(stream(&store, 0, Epoch::MAX), rows(0..200));
    assert_eq!(stream(&store, 2, 6), rows(10..30));
    assert_eq!(stream(&store, 3, 4).num_rows(), 0);
    assert_eq!(stream(&store, 39, Epoch::MAX).num_rows(), 0);
    assert_eq!(stream(&store, Epoch::MAX, Epoch::MAX).num_rows(), 0);
    assert_eq!(store.stream_end(STREAM).unwrap(), 200);
    assert_eq!(store.stream_end(TABLE).unwrap(), 60);
    assert_eq!(store.stream_end(99).unwrap(), 0);
    // One-row epochs come in large batches; a relation with weights is no stream.
    assert_eq!(store.stream_rows(STREAM, 0, Epoch::MAX, None).count(), 1);
    assert_eq!(store.stream_rows(TABLE, 0, Epoch::MAX, None).next().unwrap().unwrap_err().code, "XX000");
}

/// Several readers share a stream: each row is given to one of them, and about as many to each.
#[test]
fn a_stream_is_dealt_to_readers() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let sizes = [1, 1, 90, 3_000, 1, 7, 20, 129, 70_000, 1];
    let mut end = 0;
    for e in 0..60 {
        let first = end;
        end += sizes[e as usize % sizes.len()];
        store.append(&insert(e + 1, first..end)).unwrap();
    }
    for (readers, after, through, first) in
        [(1, 0, 60, 0), (2, 0, 60, 0), (3, 0, 60, 5), (2, 3, 41, 0), (4, 13, 60, 73_999)]
    {
        let wanted =
            ids(&join(store.stream_rows(STREAM, after, through, Some(vec![0])).from_offset(first).map(Result::unwrap)));
        let read: Vec<Vec<i64>> = (0..readers)
            .map(|own| {
                let dealt =
                    store.stream_rows(STREAM, after, through, Some(vec![0])).dealt(own, readers).from_offset(first);
                dealt.flat_map(|rows| ids(&rows.unwrap())).collect()
            })
            .collect();
        assert!(read.iter().all(|ids| ids.is_sorted()));
        let most = read.iter().map(Vec::len).max().unwrap();
        assert!(most <= wanted.len() / readers + 70_000, "{most} of {} to one of {readers}", wanted.len());
        let mut all = read.concat();
        all.sort_unstable();
        assert_eq!(all, wanted, "{readers} readers of {after} to {through} from {first}");
    }
    // Of two epochs one reader has none.
    assert_eq!(store.stream_rows(STREAM, 59, 60, None).dealt(1, 2).count(), 0);
    // Whoever has read none of what is missing notices as well.
    let mut readers: Vec<_> = (0..2).map(|own| store.stream_rows(STREAM, 0, 60, None).dealt(own, 2)).collect();
    assert!(readers.iter_mut().all(|rows| rows.next().unwrap().is_ok()));
    store.trim(STREAM, 59).unwrap();
    assert!(readers.into_iter().all(|rows| rows.last().unwrap().unwrap_err().code == "55000"));
}

/// A large commit is cut into chunks, small deltas are joined, empty ones leave no trace.
#[test]
fn chunks_have_a_good_size() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let many: Vec<Delta> = (0..500).map(|i| Delta::inserts(rows(i..i + 1))).collect();
    store.append(&insert(1, 0..200_000)).unwrap();
    store.append(&entry(2, vec![(STREAM, many)])).unwrap();
    store.append(&insert(3, 0..0)).unwrap();
    store.append(&entry(4, vec![(STREAM, vec![])])).unwrap();
    let chunks: Vec<Vec<usize>> = store
        .replay(0)
        .map(|e| e.unwrap().changes.iter().flat_map(|(_, deltas)| deltas.iter().map(Delta::len)).collect())
        .collect();
    assert_eq!(chunks, vec![vec![65_536, 65_536, 65_536, 3_392], vec![500], vec![], vec![]]);
    assert_eq!(stream(&store, 0, 1), rows(0..200_000));
}

#[test]
fn a_changed_schema_starts_a_new_batch() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let wide = |ids: std::ops::Range<i64>| {
        let rows = rows(ids);
        let mut columns = rows.columns().to_vec();
        columns.push(columns[0].clone());
        RecordBatch::try_from_iter(["id", "name", "more"].into_iter().zip(columns)).unwrap()
    };
    store.append(&insert(1, 0..2)).unwrap();
    store.append(&insert(2, 2..3)).unwrap();
    let changes = vec![Delta::inserts(wide(3..4)), Delta::inserts(wide(4..5)), Delta::inserts(rows(5..6))];
    store.append(&entry(3, vec![(STREAM, changes)])).unwrap();
    let read: Vec<RecordBatch> = store.stream_rows(STREAM, 0, 9, None).map(Result::unwrap).collect();
    assert_eq!(read, vec![rows(0..3), wide(3..5), rows(5..6)]);
    let ids: Vec<RecordBatch> = store.stream_rows(STREAM, 0, 9, Some(vec![0])).map(Result::unwrap).collect();
    assert_eq!(ids.iter().map(RecordBatch::num_rows).collect::<Vec<_>>(), [3, 2, 1]);
}

#[test]
fn trimming_leaves_the_rest_and_the_offsets() {
    let dir = tempfile::tempdir().unwrap();
    {
        let store = open(dir.path());
        (1..=10).for_each(|e| store.append(&insert(e, e as i64 * 10..e as i64 * 10 + 10)).unwrap());
        store.trim(STREAM, 4).unwrap();
        store.trim(STREAM, 3).unwrap();
        store.prune_headers(0, 4, |_| Ok(false)).unwrap();
        assert_eq!(stream(&store, 4, Epoch::MAX), rows(50..110));
        let replayed: Vec<Epoch> = store.replay(0).map(|e| e.unwrap().header.epoch).collect();
        assert_eq!(replayed, [5, 6, 7, 8, 9, 10]);
        store.trim(STREAM, 10).unwrap();
        store.prune_headers(0, 10, |_| Ok(false)).unwrap();
    }
    let store = open(dir.path());
    assert_eq!((store.last_epoch(), store.stream_end(STREAM).unwrap()), (10, 100));
    assert_eq!(store.header(9).unwrap(), None);
    store.append(&insert(11, 110..120)).unwrap();
    assert_eq!((stream(&store, 10, 11), store.stream_end(STREAM).unwrap()), (rows(110..120), 110));
}

#[test]
fn what_a_reader_has_pinned_stays() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    (1..=4).for_each(|e| store.append(&insert(e, e as i64 * 10..e as i64 * 10 + 10)).unwrap());
    store.trim(STREAM, 1).unwrap();
    let (after, pin) = store.pin_log(STREAM, 4).unwrap().unwrap();
    assert_eq!(after, 1);
    store.trim(STREAM, 3).unwrap();
    // Whoever comes now begins later, and so keeps nothing from going that the first one does not.
    let (next, second) = store.pin_log(STREAM, 4).unwrap().unwrap();
    assert_eq!((next, store.trimmed_through(STREAM).unwrap(), store.stream_first(STREAM).unwrap()), (3, 3, 30));
    let later = pin.clone();
    drop(pin);
    store.trim(STREAM, 3).unwrap();
    assert_eq!(stream(&store, after, 4), rows(20..50));
    assert!(store.has_rows_to_delete(STREAM).unwrap());
    drop(later);
    store.trim(STREAM, 3).unwrap();
    assert!(!store.has_rows_to_delete(STREAM).unwrap());
    assert_eq!(store.stream_rows(STREAM, 1, 4, None).next().unwrap().unwrap_err().code, "55000");
    assert_eq!(stream(&store, next, 4), rows(40..50));
    // What is still read at the end goes at the next start.
    store.trim(STREAM, 4).unwrap();
    drop((second, store));
    let store = open(dir.path());
    assert_eq!(store.deltas(STREAM, 0, 9, None).count(), 1);
    store.collect_garbage().unwrap();
    assert_eq!(store.deltas(STREAM, 0, 9, None).count(), 0);
    assert_eq!((store.trimmed_through(STREAM).unwrap(), store.stream_end(STREAM).unwrap()), (4, 40));
}

#[test]
fn a_reader_notices_that_rows_were_trimmed_under_it() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    (0..4).for_each(|e| store.append(&insert(e + 1, e as i64 * 10_000..(e as i64 + 1) * 10_000)).unwrap());
    let mut reader = store.stream_rows(STREAM, 0, 4, None);
    assert_eq!(reader.next().unwrap().unwrap(), rows(0..10_000));
    store.trim(STREAM, 2).unwrap();
    assert_eq!(reader.next().unwrap().unwrap_err().code, "55000");
    assert!(reader.next().is_none());
}

#[test]
fn a_reader_outlives_the_store_and_its_thread() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    store.append(&insert(1, 0..100)).unwrap();
    let (reader, replay) = (store.stream_rows(STREAM, 0, 1, None), store.replay(0));
    drop(store);
    let read = std::thread::spawn(move || (join(reader.map(Result::unwrap)), replay.count()));
    assert_eq!(read.join().unwrap(), (rows(0..100), 1));
    open(dir.path()); // they have let go of it
}

#[test]
fn epochs_without_their_end_can_be_discarded() {
    let dir = tempfile::tempdir().unwrap();
    {
        let store = open(dir.path());
        (1..=5).for_each(|e| store.append(&insert(e, e as i64..e as i64 + 1)).unwrap());
        store.discard_after(3).unwrap();
        assert_eq!((store.last_epoch(), store.stream_end(STREAM).unwrap()), (3, 3));
    }
    let store = open(dir.path());
    assert_eq!(store.last_epoch(), 3);
    assert_eq!(stream(&store, 0, Epoch::MAX), rows(1..4));
    store.append(&insert(4, 70..71)).unwrap();
    assert_eq!(stream(&store, 3, 4), rows(70..71));
}

#[test]
#[should_panic(expected = "epoch 5 after 5")]
fn epochs_must_rise() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    store.append(&insert(5, 0..1)).unwrap();
    let _ = store.append(&insert(5, 0..1));
}

#[test]
fn the_catalog_follows_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let changes = |epoch, catalog| LogEntry { catalog, ..insert(epoch, 0..1) };
    let setting =
        |key: &str, value: Option<&str>| CatalogChange::Meta { key: key.into(), value: value.map(Into::into) };
    let first = vec![
        CatalogChange::Put(Box::new(relation(STREAM, "s"))),
        CatalogChange::Put(Box::new(relation(TABLE, "t"))),
        CatalogChange::PutSchema { name: "sales \"é\"".into(), id: 16400 },
        CatalogChange::PutSchema { name: "gone".into(), id: 16401 },
        setting("a", Some("1")),
        setting("b", Some("2")),
    ];
    let second = vec![
        CatalogChange::Put(Box::new(relation(STREAM, "renamed"))),
        CatalogChange::Drop(TABLE),
        CatalogChange::DropSchema { name: "gone".into() },
        setting("a", None),
    ];
    {
        let store = open(dir.path());
        assert!(store.load_catalog().unwrap().relations.is_empty());
        store.append(&changes(1, first.clone())).unwrap();
        assert_eq!(store.load_catalog().unwrap().relations.len(), 2);
        store.append(&changes(2, second.clone())).unwrap();
    }
    let store = open(dir.path());
    let catalog = store.load_catalog().unwrap();
    assert_eq!(catalog.relations.keys().copied().collect::<Vec<_>>(), [STREAM]);
    assert_eq!(**catalog.get(STREAM).unwrap(), relation(STREAM, "renamed"));
    assert_eq!(catalog.schemas, [("sales \"é\"".to_string(), 16400)].into());
    assert_eq!(store.load_meta().unwrap(), [("b".to_string(), "2".to_string())].into());
    let replayed: Vec<Vec<CatalogChange>> = store.replay(0).map(|e| e.unwrap().catalog).collect();
    assert_eq!(replayed, [first, second]);
}

#[test]
fn a_dropped_relation_leaves_the_log() {
    let dir = tempfile::tempdir().unwrap();
    {
        let store = open(dir.path());
        let put = |id, name| CatalogChange::Put(Box::new(relation(id, name)));
        let both = vec![(STREAM, vec![Delta::inserts(rows(0..5))]), (TABLE, vec![Delta::inserts(rows(0..5))])];
        store.append(&LogEntry { catalog: vec![put(STREAM, "s"), put(TABLE, "t")], ..entry(1, both) }).unwrap();
        store.append(&LogEntry { catalog: vec![CatalogChange::Drop(TABLE)], ..insert(2, 5..6) }).unwrap();
        assert_eq!(store.deltas(TABLE, 0, 9, None).count(), 1);
    }
    let store = open(dir.path());
    store.collect_garbage().unwrap();
    assert_eq!(store.deltas(TABLE, 0, 9, None).count(), 0);
    assert_eq!(store.stream_end(TABLE).unwrap(), 0);
    assert_eq!(stream(&store, 0, 9), rows(0..6));
    let replayed: Vec<Vec<RelationId>> =
        store.replay(0).map(|e| e.unwrap().changes.iter().map(|(r, _)| *r).collect()).collect();
    assert_eq!(replayed, [[STREAM], [STREAM]]);
}

#[test]
fn ids_are_never_given_out_twice() {
    let dir = tempfile::tempdir().unwrap();
    let mut seen = Vec::new();
    for _ in 0..4 {
        let store = Arc::new(open(dir.path()));
        let threads: Vec<_> = (0..3)
            .map(|_| {
                let store = store.clone();
                std::thread::spawn(move || (0..17).map(|_| store.next_id().unwrap()).collect::<Vec<_>>())
            })
            .collect();
        seen.extend(threads.into_iter().flat_map(|t| t.join().unwrap()));
    }
    let given = seen.len();
    seen.sort_unstable();
    seen.dedup();
    assert_eq!((seen.len(), seen[0]), (given, crate::catalog::FIRST_USER_ID));
}
