//! Rows that later ones have superseded go; the others keep their places.

use std::collections::BTreeMap;

use arrow::array::{AsArray, BooleanArray};
use arrow::datatypes::Int64Type;

use super::*;
use crate::state::store::chunk::Run;

const KEYS: i64 = 37;

/// The last offset of each key among rows with an offset below `end`.
fn newest(end: i64) -> BTreeMap<i64, i64> {
    (0..end).map(|id| (id * id % KEYS, id)).collect()
}

/// `id` is the offset, the key is made of it.
fn stays(newest: &BTreeMap<i64, i64>) -> impl FnMut(&RecordBatch, &[Run]) -> BooleanArray {
    |rows, runs| {
        let ids = rows.column(0).as_primitive::<Int64Type>().values();
        let offsets: Vec<i64> = runs.iter().flat_map(|&(first, n)| first as i64..(first + n) as i64).collect();
        assert_eq!(ids[..], offsets[..]);
        ids.iter().map(|id| Some(newest[&(id * id % KEYS)] <= *id)).collect()
    }
}

pub(super) fn ids(rows: &RecordBatch) -> Vec<i64> {
    rows.column(0).as_primitive::<Int64Type>().values().to_vec()
}

#[test]
fn superseded_rows_go_and_the_others_keep_their_places() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(dir.path());
    let mut made = entry(1, vec![]);
    made.catalog = vec![CatalogChange::Put(Box::new(relation(STREAM, "s")))];
    store.append(&made).unwrap();
    // Chunks of one row, of a packed chunk, of an IPC chunk.
    let sizes = [1, 1, 90, 3000, 1, 7, 20, 129, 1];
    let mut ends = vec![0i64, 0];
    let mut round = 0;
    for through in [9u64, 10, 17, 30] {
        while store.last_epoch() < through + 3 {
            let (epoch, first) = (store.last_epoch() + 1, *ends.last().unwrap());
            let end = first + sizes[epoch as usize % sizes.len()];
            store.append(&insert(epoch, first..end)).unwrap();
            ends.push(end);
        }
        let newest = newest(ends[through as usize]);
        let mut cursor = store.begin_compaction(STREAM, through).unwrap().unwrap();
        while store.compact_step(&mut cursor, stays(&newest)).unwrap() {}
        store.end_compaction(STREAM, through, cursor.kept_rows).unwrap();
        round += 1;
        let (last, end) = (store.last_epoch(), *ends.last().unwrap());
        let mut wanted: Vec<i64> = newest.values().copied().collect();
        wanted.sort();
        assert_eq!(cursor.kept_rows, wanted.len() as u64);
        wanted.extend(ends[through as usize]..end);
        for again in 0..2 {
            assert_eq!(ids(&stream(&store, 0, last)), wanted, "through {through}, {again}");
            let mut seen = 0;
            for batch in store.stream_rows(STREAM, 0, last, None).with_places() {
                let (rows, places) = batch.unwrap();
                let offsets = places.iter().flat_map(|p| (p.offset..p.offset + p.rows as u64).map(|o| (o, p.epoch)));
                for (id, (offset, epoch)) in ids(&rows).into_iter().zip(offsets) {
                    assert_eq!(id, offset as i64);
                    assert!(ends[epoch as usize - 1] <= id && id < ends[epoch as usize], "{id} in {epoch}");
                    seen += 1;
                }
            }
            assert_eq!(seen, wanted.len());
            for first in [0, 1, wanted[5] + 1, ends[through as usize], end - 1] {
                let (after, _) = store.place_of_offset(STREAM, first as u64).unwrap();
                let read: Vec<i64> = store
                    .stream_rows(STREAM, after, last, None)
                    .from_offset(first as u64)
                    .flat_map(|b| ids(&b.unwrap()))
                    .collect();
                let from: Vec<i64> = wanted.iter().copied().filter(|id| *id >= first).collect();
                assert_eq!(read, from, "from {first}");
            }
            assert_eq!(store.stream_end(STREAM).unwrap(), end as u64);
            let gone = Gone {
                trimmed: 0,
                compacted: through,
                compactions: round,
                cleaned: through,
                kept_rows: newest.len() as u64,
            };
            assert_eq!(store.gone(STREAM).unwrap(), gone);
            let problems = store.check().problems;
            assert!(problems.iter().all(|problem| !problem.contains("relation 16384")), "{problems:?}");
            drop(store);
            store = open(dir.path());
        }
        // What is read as of an earlier epoch would miss keys.
        assert_eq!(store.stream_rows(STREAM, 0, through - 1, None).last().unwrap().unwrap_err().code, "55000");
        assert!(store.stream_rows(STREAM, 0, through - 1, None).following().all(|rows| rows.is_ok()));
        assert!(store.pin_log(STREAM, through - 1).unwrap().is_none());
        let reader = store.pin_log(STREAM, through).unwrap().unwrap();
        assert!(store.begin_compaction(STREAM, through + 1).unwrap().is_none());
        drop(reader);
    }
    // What is trimmed while it is looked through does not come back.
    let (last, newest) = (store.last_epoch(), newest(*ends.last().unwrap()));
    let mut cursor = store.begin_compaction(STREAM, last).unwrap().unwrap();
    store.trim(STREAM, last - 2).unwrap();
    while store.compact_step(&mut cursor, stays(&newest)).unwrap() {}
    let left: Vec<i64> = newest.values().copied().filter(|id| *id >= ends[last as usize - 2]).collect();
    let mut read = ids(&stream(&store, last - 2, last));
    read.sort();
    let mut left = left;
    left.sort();
    assert_eq!(read, left);
    // Nor does what has been dropped.
    let mut cursor = store.begin_compaction(STREAM, last).unwrap().unwrap();
    let mut dropped = entry(last + 1, vec![]);
    dropped.catalog = vec![CatalogChange::Drop(STREAM)];
    store.append(&dropped).unwrap();
    assert!(!store.compact_step(&mut cursor, |_, _| panic!("nothing is looked at")).unwrap());
}
