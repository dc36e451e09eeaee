//! A piece of an arrangement: rows that came one after the other, and when each of them died.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use arrow::array::{BooleanArray, RecordBatch, UInt32Array};
use arrow::compute::filter_record_batch;

use super::take;
use crate::state::segment_index::{SegmentIndex, Wanted};
use crate::state::spill::{Charge, Spillable, StateVec, bytes_of, set_aside};
use crate::time::Epoch;

/// The death of a row that lives: later than any epoch. (0 is one: before the first checkpoint, recovery fills views as of it.)
pub(super) const ALIVE: Epoch = Epoch::MAX;

/// Rows at positions `first .. first + rows.num_rows()`.
pub(super) struct Segment {
    pub(super) first: u32,
    pub(super) rows: Arc<RecordBatch>,
    /// What the rows take, wherever they are.
    pub(super) bytes: usize,
    /// Epoch in which each row died, [`ALIVE`] while it lives; made at the first death.
    pub(super) died: OnceLock<StateVec<AtomicU64>>,
    index: SegmentIndex,
    _memory: Charge,
}

impl Segment {
    pub(super) fn new(first: u32, rows: RecordBatch) -> Self {
        let bytes = bytes_of(&rows);
        let (rows, memory) = set_aside(rows, bytes);
        let (rows, died) = (Arc::new(rows), OnceLock::new());
        Segment { first, rows, bytes, died, index: SegmentIndex::default(), _memory: memory }
    }
    pub(super) fn end(&self) -> u32 {
        self.first + self.rows.num_rows() as u32
    }
    pub(super) fn died_at(&self, row: usize) -> Epoch {
        self.died.get().map_or(ALIVE, |d| d[row].load(Ordering::Acquire))
    }
    pub(super) fn mark_died(&self, row: usize, epoch: Epoch) {
        let died = self.died.get_or_init(|| deaths((0..self.rows.num_rows()).map(|_| ALIVE)));
        let before = died[row].swap(epoch, Ordering::Release);
        assert_eq!(before, ALIVE, "a row dies once");
    }
    /// The rows in the picture of `epoch`, of those before position `end`.
    pub(super) fn visible(&self, end: u32, epoch: Epoch) -> Option<RecordBatch> {
        if self.first >= end {
            return None;
        }
        let length = (end.min(self.end()) - self.first) as usize;
        let rows = if length == self.rows.num_rows() { (*self.rows).clone() } else { self.rows.slice(0, length) };
        let Some(died) = self.died.get() else { return Some(rows) };
        let mask: BooleanArray = died[..length].iter().map(|d| Some(d.load(Ordering::Acquire) > epoch)).collect();
        let rows = filter_record_batch(&rows, &mask).expect("mask is as long as the rows");
        (rows.num_rows() > 0).then_some(rows)
    }

    /// Of the visible rows those that may be wanted.
    pub(super) fn found(&self, end: u32, epoch: Epoch, wanted: &Wanted) -> Option<RecordBatch> {
        let Some(rows) = self.index.rows(&self.rows, self.first, wanted) else { return self.visible(end, epoch) };
        let is_visible = |row: &u32| self.first + row < end && self.died_at(*row as usize) > epoch;
        let rows: Vec<u32> = rows.into_iter().filter(is_visible).collect();
        (!rows.is_empty()).then(|| take(&self.rows, &rows))
    }

    pub(super) fn visible_from(&self, skip: usize, end: u32, epoch: Epoch) -> Option<RecordBatch> {
        if skip == 0 {
            return self.visible(end, epoch);
        }
        let length = (end.min(self.end()).saturating_sub(self.first)) as usize;
        if skip >= length {
            return None;
        }
        let keep: Vec<u32> = (skip..length).filter(|&r| self.died_at(r) > epoch).map(|r| r as u32).collect();
        if keep.is_empty() {
            return None;
        }
        Some(arrow::compute::take_record_batch(&self.rows, &UInt32Array::from(keep)).expect("rows of the segment"))
    }
}

/// When rows died.
pub(super) fn deaths(epochs: impl Iterator<Item = Epoch>) -> StateVec<AtomicU64> {
    let mut died = StateVec::new_in(Spillable);
    died.extend(epochs.map(AtomicU64::new));
    died
}
