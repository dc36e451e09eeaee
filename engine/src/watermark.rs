//! How far event time has come in a stream, and which of its rows come too late.
//!
//! ```text
//!   WATERMARK FOR ts AS ts - INTERVAL '5 seconds'
//!
//!   row      10:00:07   10:00:12   10:00:08   10:00:06   10:00:13
//!   before   –          10:00:02   10:00:07   10:00:07   10:00:07      the watermark just before the row
//!                                  in time    late
//! ```
//!
//! The watermark is the latest event time seen less the delay; of several partitions the lowest counts. It never falls.
//! A row is late if it is strictly before the watermark just before it, in the order of the log: so the cut into batches
//! changes nothing, and rows of one instant are late together or not at all. All of it is decided once, when an epoch is
//! made, and logged: a late row is not logged among the stream's rows.
//!
//! A row more than `max_future` ahead of the clock counts as any other but does not move the watermark: one wrong clock
//! would make all that follows late. A partition that has been silent for longer than the idle timeout goes on with
//! the clock, from where it stood.

use arrow::array::{Array, AsArray, UInt32Array};
use arrow::datatypes::TimestampMicrosecondType;

use crate::catalog::{RelationId, Watermark};
use crate::delta::Delta;
use crate::time::{PartitionTime, StreamTime};

/// Which partition of its source a stream's rows come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Partition {
    pub number: u32,
    /// How many there are: the watermark waits for all of them.
    pub of: u32,
}

impl Default for Partition {
    fn default() -> Self {
        Partition { number: 0, of: 1 }
    }
}

/// Rows as they came, divided.
pub struct Admitted {
    pub in_time: Delta,
    /// With the watermark that each missed.
    pub late: Option<(Delta, Vec<i64>)>,
}

/// The times of `stream`, made when it is first heard of.
pub fn times_of(times: &mut Vec<StreamTime>, stream: RelationId) -> &mut StreamTime {
    let at = match times.binary_search_by_key(&stream, |time| time.stream) {
        Ok(at) => at,
        Err(at) => {
            times.insert(at, StreamTime { stream, ..StreamTime::default() });
            at
        }
    };
    &mut times[at]
}

/// Takes rows in, in their order, and moves the watermark. `now_us` is the epoch's.
pub fn admit(time: &mut StreamTime, w: &Watermark, partition: Partition, now_us: i64, rows: &Delta) -> Admitted {
    for number in 0..partition.of.max(partition.number + 1) {
        if time.partitions.iter().all(|p| p.partition != number) {
            time.partitions.push(PartitionTime { partition: number, latest_us: None, seen_us: now_us });
        }
    }
    let others = time.partitions.iter().filter(|p| p.partition != partition.number);
    let others = lowest(others, w, now_us);
    let own = time.partitions.iter_mut().find(|p| p.partition == partition.number).expect("made above");
    own.seen_us = now_us;
    let column = rows.rows.column(w.column).as_primitive::<TimestampMicrosecondType>();
    let (mut late, mut missed) = (Vec::new(), Vec::new());
    let ahead_of = now_us.saturating_add(w.max_future_us);
    for row in (0..column.len()).filter(|&row| column.is_valid(row)) {
        let event = column.value(row);
        if let Some(watermark) = time.watermark_us.filter(|&watermark| event < watermark) {
            late.push(row as u32);
            missed.push(watermark);
        } else if event > ahead_of {
            time.ahead += 1;
        } else if own.latest_us.is_none_or(|latest| event > latest) {
            own.latest_us = Some(event);
            if let Lowest::At(others) = others {
                time.watermark_us = time.watermark_us.max(Some(event.min(others).saturating_sub(w.delay_us)));
            }
        }
    }
    time.late += late.len() as u64;
    if late.is_empty() || w.late == crate::catalog::LateRows::Update {
        return Admitted { in_time: rows.clone(), late: None };
    }
    let mut next_late = late.iter().copied().peekable();
    let in_time: Vec<u32> = (0..rows.len() as u32).filter(|row| next_late.next_if_eq(row).is_none()).collect();
    let late = UInt32Array::from(late);
    Admitted { in_time: rows.take(&in_time.into()), late: Some((rows.take(&late), missed)) }
}

/// Lets time pass in what is silent. Returns whether the watermark has moved.
pub fn pass_time(time: &mut StreamTime, w: &Watermark, now_us: i64) -> bool {
    let before = time.watermark_us;
    let heard = time.partitions.iter().any(|p| p.latest_us.is_some());
    if let (true, Lowest::At(lowest)) = (heard, lowest(time.partitions.iter(), w, now_us)) {
        time.watermark_us = before.max(Some(lowest.saturating_sub(w.delay_us)));
    }
    time.watermark_us != before
}

#[derive(Clone, Copy)]
enum Lowest {
    At(i64),
    /// One has said nothing yet, and is waited for.
    Unknown,
}

/// How far the slowest of some partitions is.
fn lowest<'a>(partitions: impl Iterator<Item = &'a PartitionTime>, w: &Watermark, now_us: i64) -> Lowest {
    let mut lowest = i64::MAX;
    for partition in partitions {
        let silent_us = now_us.saturating_sub(partition.seen_us);
        let over = w.idle_us.map_or(0, |idle| silent_us.saturating_sub(idle)).max(0);
        match partition.latest_us {
            Some(latest) => lowest = lowest.min(latest.saturating_add(over)),
            None if over > 0 => {}
            None => return Lowest::Unknown,
        }
    }
    Lowest::At(lowest)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, RecordBatch, TimestampMicrosecondArray};

    use super::*;
    use crate::catalog::LateRows;

    const SECOND: i64 = 1_000_000;

    fn watermark(delay: i64, idle: Option<i64>) -> Watermark {
        Watermark {
            column: 0,
            delay_us: delay * SECOND,
            idle_us: idle.map(|s| s * SECOND),
            max_future_us: 3600 * SECOND,
            late: LateRows::Drop,
        }
    }

    fn rows(seconds: &[i64]) -> Delta {
        let times: ArrayRef = Arc::new(seconds.iter().map(|s| Some(s * SECOND)).collect::<TimestampMicrosecondArray>());
        Delta::inserts(RecordBatch::try_from_iter([("ts", times)]).unwrap())
    }

    fn seconds(delta: &Delta) -> Vec<i64> {
        delta.rows.column(0).as_primitive::<TimestampMicrosecondType>().values().iter().map(|t| t / SECOND).collect()
    }

    /// (in time, late, watermark after)
    fn take(
        time: &mut StreamTime,
        w: &Watermark,
        part: (u32, u32),
        now: i64,
        times: &[i64],
    ) -> (Vec<i64>, Vec<i64>, Option<i64>) {
        let partition = Partition { number: part.0, of: part.1 };
        let admitted = admit(time, w, partition, now * SECOND, &rows(times));
        let late = admitted.late.map_or(vec![], |(late, _)| seconds(&late));
        (seconds(&admitted.in_time), late, time.watermark_us.map(|w| w / SECOND))
    }

    #[test]
    fn the_cut_into_batches_changes_nothing() {
        let w = watermark(5, None);
        let all = [7, 12, 8, 6, 13, 8, 7, 30, 24, 25];
        let whole = take(&mut StreamTime::default(), &w, (0, 1), 100, &all);
        assert_eq!(whole, (vec![7, 12, 8, 13, 8, 30, 25], vec![6, 7, 24], Some(25)));
        for cut in 1..all.len() {
            let mut time = StreamTime::default();
            let first = take(&mut time, &w, (0, 1), 100, &all[..cut]);
            let second = take(&mut time, &w, (0, 1), 100, &all[cut..]);
            assert_eq!(([first.0, second.0].concat(), [first.1, second.1].concat(), second.2), whole);
            assert_eq!(time.late, 3);
        }
    }

    #[test]
    fn without_delay_rows_of_one_instant_are_in_time() {
        let mut time = StreamTime::default();
        let w = watermark(0, None);
        assert_eq!(take(&mut time, &w, (0, 1), 9, &[5, 5]).1, Vec::<i64>::new());
        assert_eq!(take(&mut time, &w, (0, 1), 9, &[5, 4]), (vec![5], vec![4], Some(5)));
    }

    #[test]
    fn a_row_far_ahead_of_the_clock_does_not_move_it() {
        let mut time = StreamTime::default();
        let w = watermark(0, None);
        assert_eq!(take(&mut time, &w, (0, 1), 100, &[90, 100_000, 91]), (vec![90, 100_000, 91], vec![], Some(91)));
        assert_eq!(time.ahead, 1);
    }

    #[test]
    fn the_slowest_partition_counts_until_it_is_idle() {
        let mut time = StreamTime::default();
        let w = watermark(0, Some(10));
        // The other one is waited for.
        assert_eq!(take(&mut time, &w, (0, 2), 100, &[90]).2, None);
        assert_eq!(take(&mut time, &w, (1, 2), 101, &[80, 85]).2, Some(85));
        assert_eq!(take(&mut time, &w, (0, 2), 110, &[95]).2, Some(85));
        // Silent since 101: from 111 on it goes with the clock.
        assert!(!pass_time(&mut time, &w, 111 * SECOND));
        assert!(pass_time(&mut time, &w, 113 * SECOND));
        assert_eq!(time.watermark_us, Some(87 * SECOND));
        // It never falls.
        assert_eq!(take(&mut time, &w, (1, 2), 114, &[86, 88]), (vec![88], vec![86], Some(88)));
    }

    #[test]
    fn a_partition_never_heard_of_is_left_out_once_it_is_idle() {
        let mut time = StreamTime::default();
        let w = watermark(0, Some(10));
        assert_eq!(take(&mut time, &w, (0, 2), 100, &[90]).2, None);
        assert_eq!(take(&mut time, &w, (0, 2), 111, &[91]).2, Some(91));
    }
}
