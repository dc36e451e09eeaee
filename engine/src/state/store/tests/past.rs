//! Places in the log by time, offset and size, and headers that go.

use super::*;

/// Epochs 2, 4 … 20, ten rows each, committed at ten times their number.
fn filled(path: &Path) -> Store {
    let store = open(path);
    for epoch in (2..=20).step_by(2) {
        let mut entry = insert(epoch, epoch as i64 * 5 - 10..epoch as i64 * 5);
        entry.header.now_us = epoch as i64 * 10;
        store.append(&entry).unwrap();
    }
    store
}

#[test]
fn a_time_finds_its_epoch() {
    let dir = tempfile::tempdir().unwrap();
    let store = filled(dir.path());
    let at = |time| store.epoch_at(time).unwrap().map(|header| header.epoch);
    assert_eq!((at(19), at(20), at(39), at(40), at(41)), (None, Some(2), Some(2), Some(4), Some(4)));
    assert_eq!((at(199), at(200), at(i64::MAX)), (Some(18), Some(20), Some(20)));
    let headers = store.headers(&[3, 4, 10, 20]).unwrap();
    assert_eq!(headers.iter().map(|h| h.epoch).collect::<Vec<_>>(), [4, 10, 20]);
}

#[test]
fn an_offset_finds_its_place() {
    let dir = tempfile::tempdir().unwrap();
    let store = filled(dir.path());
    let place = |offset| store.place_of_offset(STREAM, offset).unwrap();
    assert_eq!((place(0), place(9), place(10), place(95)), ((1, 0), (1, 9), (3, 0), (19, 5)));
    let read = |offset| {
        let (after, _) = place(offset);
        join(store.stream_rows(STREAM, after, 99, None).from_offset(offset).map(Result::unwrap))
    };
    for offset in [0, 3, 10, 42, 99] {
        assert_eq!(read(offset), rows(offset as i64..100));
    }
    store.trim(STREAM, 6).unwrap();
    assert_eq!((place(3), place(30), place(35)), ((7, 0), (7, 0), (7, 5)));
    assert_eq!((store.stream_first(STREAM).unwrap(), store.first_epoch(STREAM).unwrap()), (30, Some(8)));
}

#[test]
fn rows_tell_their_places() {
    let dir = tempfile::tempdir().unwrap();
    let store = filled(dir.path());
    store.append(&insert(21, 100..40_100)).unwrap();
    store.append(&insert(22, 40_100..40_101)).unwrap();
    let mut offset = 0;
    for batch in store.stream_rows(STREAM, 2, 99, None).with_places() {
        let (rows, places) = batch.unwrap();
        assert_eq!(places.iter().map(|p| p.rows).sum::<usize>(), rows.num_rows());
        for place in places {
            offset = offset.max(10);
            assert_eq!(place.offset, offset);
            let epoch = if offset < 100 { offset / 5 + 2 } else { 21 + u64::from(offset >= 40_100) };
            assert_eq!(place.epoch, epoch);
            offset += place.rows as u64;
        }
    }
    assert_eq!(offset, 40_101);
}

#[test]
fn a_trimmed_log_is_not_read_as_if_it_were_whole() {
    let dir = tempfile::tempdir().unwrap();
    {
        let store = filled(dir.path());
        let mut late = store.stream_rows(STREAM, 4, 20, None);
        store.trim(STREAM, 6).unwrap();
        assert_eq!(late.next().unwrap().unwrap_err().code, "55000");
        assert!(late.next().is_none());
        // All that was left to be read goes.
        let mut started = store.stream_rows(STREAM, 6, 20, None);
        assert_eq!(started.next().unwrap().unwrap().num_rows(), 70);
        store.trim(STREAM, 20).unwrap();
        assert!(started.next().is_none());
    }
    let store = open(dir.path());
    assert_eq!(store.trimmed_through(STREAM).unwrap(), 20);
    assert_eq!(store.stream_rows(STREAM, 0, 20, None).next().unwrap().unwrap_err().code, "55000");
    assert!(store.stream_rows(STREAM, 20, 30, None).next().is_none());
}

#[test]
fn headers_go_when_nothing_is_left_of_their_epochs() {
    let dir = tempfile::tempdir().unwrap();
    let store = filled(dir.path());
    store.prune_headers(2, 18, |header| Ok(header.epoch % 4 == 0)).unwrap();
    let left: Vec<Epoch> = (0..=20).filter(|e| store.header(*e).unwrap().is_some()).collect();
    assert_eq!(left, [2, 4, 8, 12, 16, 20]);
    assert_eq!(store.epoch_at(119).unwrap().unwrap().epoch, 8);
    // The last one stays, whatever is said.
    store.prune_headers(0, 99, |_| Ok(false)).unwrap();
    assert_eq!((store.first_header().unwrap().unwrap().epoch, store.last_epoch()), (20, 20));
}

#[test]
fn a_size_finds_the_epoch_to_trim_through() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    (1..=40).for_each(|e| store.append(&insert(e, e as i64 * 20_000..(e as i64 + 1) * 20_000)).unwrap());
    let bytes = store.log_bytes(STREAM, 0);
    assert!(bytes > 1 << 20, "{bytes} bytes are in files");
    assert_eq!(store.through_for_bytes(STREAM, bytes), 0);
    let through = store.through_for_bytes(STREAM, bytes / 2);
    assert!((5..40).contains(&through), "{through}");
    assert!(store.log_bytes(STREAM, through) <= bytes / 2);
    store.trim(STREAM, through).unwrap();
    assert_eq!(store.first_epoch(STREAM).unwrap(), Some(through + 1));
}
