//! An arrangement in checkpoints: what has changed since the last one, and its rows again after a start.
//!
//! ```text
//!   blocks   rows 0 … 40 │ rows 41 … 43 │ died: 7, 12 │ rows 44 …      in order of position, deaths by position
//! ```
//!
//! Dead rows are left out when it is restored; positions on disk then are higher than those here, until a save is
//! whole again.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BooleanArray, RecordBatch, RecordBatchOptions, UInt32Array};
use arrow::compute::{concat_batches, filter_record_batch};
use arrow::datatypes::{SchemaRef, UInt32Type};

use super::{ALIVE, Arrangement, SEGMENT_ROWS_MIN, row_hashes};
use crate::delta::keys::KeyEncoder;
use crate::state::durable;
use crate::state::row_index::RowIndex;
use crate::time::Epoch;

/// How far a checkpoint has what is here.
#[derive(Default)]
pub(super) struct SavedUpTo {
    pub(super) end: u32,
    pub(super) deaths: Vec<u32>,
    pub(super) whole: bool,
    /// Rows on disk that were dead at the last start, and so are not here: for each the position before which it was.
    pub(super) left_out: Vec<u32>,
}

impl SavedUpTo {
    /// The position on disk of the row that is at `position` here.
    fn on_disk(&self, position: u32) -> u32 {
        position + self.left_out.partition_point(|&at| at <= position) as u32
    }
}

impl Arrangement {
    /// The next save is whole: what is on disk is not what was restored.
    pub fn save_whole(&mut self) {
        self.saved = SavedUpTo { whole: true, ..SavedUpTo::default() };
    }

    /// What has changed since the last save. Called between epochs.
    pub fn save(&mut self) -> durable::Saved {
        let whole = std::mem::take(&mut self.saved.whole);
        let from = if whole { 0 } else { self.saved.end };
        let mut blocks = Vec::new();
        let mut dead: Vec<u32> = if whole { Vec::new() } else { std::mem::take(&mut self.saved.deaths) };
        for segment in &self.segments[self.segments.partition_point(|s| s.end() <= from)..] {
            let skip = from.saturating_sub(segment.first) as usize;
            blocks.push(segment.rows.slice(skip, segment.rows.num_rows() - skip));
            if segment.died.get().is_some() {
                let died = (skip..segment.rows.num_rows()).filter(|&r| segment.died_at(r) != ALIVE);
                dead.extend(died.map(|r| segment.first + r as u32));
            }
        }
        if blocks.len() > 1 {
            blocks = coalesce(&self.shared.schema, blocks);
        }
        if !dead.is_empty() {
            let dead: UInt32Array = dead.into_iter().map(|position| self.saved.on_disk(position)).collect();
            let column: ArrayRef = Arc::new(dead);
            blocks.push(RecordBatch::try_from_iter([(DEATHS, column)]).expect("one column"));
        }
        self.saved.end = self.end;
        durable::Saved { whole, blocks }
    }

    /// Nothing of epochs before this one will be there.
    pub fn begin_at(&mut self, epoch: Epoch) {
        let mut state = self.shared.state.lock().expect("no panic while held");
        assert!(self.end == 0 && state.closed <= epoch, "nothing has happened in it");
        state.births = std::collections::VecDeque::from([(epoch, 0)]);
        state.horizon = epoch;
        state.closed = epoch;
    }

    /// Fills an empty arrangement, as of `epoch`, with the live rows of what the workers of before saved:
    /// its own part if there are as many workers now, else the rows whose key (columns `key`) is its own.
    pub fn restore(
        &mut self,
        parts: &[Vec<RecordBatch>],
        encoder: &KeyEncoder,
        key: &[usize],
        share: &durable::Share,
        epoch: Epoch,
    ) {
        self.restore_rows(parts, encoder, key, share, epoch);
        self.index_rows();
    }

    /// The same, but for the index that retractions need: that is made by [`Self::index_rows`].
    pub fn restore_rows(
        &mut self,
        parts: &[Vec<RecordBatch>],
        encoder: &KeyEncoder,
        key: &[usize],
        share: &durable::Share,
        epoch: Epoch,
    ) {
        let index = self.rows_by_hash.take();
        let dealt_anew = parts.len() != share.workers;
        let parts = if dealt_anew { parts } else { &parts[share.worker..=share.worker] };
        let keep = |rows: &RecordBatch| -> BooleanArray {
            let columns: Vec<ArrayRef> = key.iter().map(|&k| rows.column(k).clone()).collect();
            encoder.encode_rows(&columns, rows.num_rows()).hashes.iter().map(|&h| Some(share.owns(h))).collect()
        };
        let mut left_out = Vec::new();
        for part in parts {
            let mut dead: Vec<u32> = Vec::new();
            for block in part.iter().filter(|b| is_deaths(b)) {
                dead.extend(block.column(0).as_primitive::<UInt32Type>().values().iter());
            }
            dead.sort_unstable();
            left_out.extend(dead.iter().zip(0..).map(|(&position, before)| position - before));
            let mut first = 0u32;
            for block in part.iter().filter(|b| !is_deaths(b)) {
                let end = first + block.num_rows() as u32;
                let gone = &dead[dead.partition_point(|&p| p < first)..dead.partition_point(|&p| p < end)];
                let mut rows = if gone.is_empty() {
                    block.clone()
                } else {
                    let mask: BooleanArray = (first..end).map(|p| Some(gone.binary_search(&p).is_err())).collect();
                    filter_record_batch(block, &mask).expect("mask is as long as the rows")
                };
                if dealt_anew {
                    rows = filter_record_batch(&rows, &keep(&rows)).expect("mask is as long as the rows");
                }
                let columns = rows.columns().to_vec();
                let options = RecordBatchOptions::new().with_row_count(Some(rows.num_rows()));
                let rows = RecordBatch::try_new_with_options(self.shared.schema.clone(), columns, &options)
                    .expect("a part of this plan node has its columns");
                self.append(&rows);
                first = end;
            }
        }
        self.publish(epoch);
        self.rows_by_hash = index;
        // What is on disk goes on, unless these are other rows, or most of it is dead.
        self.saved = match dealt_anew || left_out.len() > self.end as usize {
            true => SavedUpTo { whole: true, ..SavedUpTo::default() },
            false => SavedUpTo { end: self.end, deaths: Vec::new(), whole: false, left_out },
        };
    }

    /// After [`Self::restore_rows`], before any other change.
    pub fn index_rows(&mut self) {
        let Some(index) = &mut self.rows_by_hash else { return };
        *index = RowIndex::with_capacity(self.end as usize);
        for segment in &self.segments {
            index.append(&row_hashes(&segment.rows));
        }
    }
}

/// The name of the column, and so the mark of the block, that holds positions of dead rows.
const DEATHS: &str = "__died_position";

fn is_deaths(block: &RecordBatch) -> bool {
    block.num_columns() == 1 && block.schema().field(0).name() == DEATHS
}

/// Small batches joined until they are worth a block.
fn coalesce(schema: &SchemaRef, batches: Vec<RecordBatch>) -> Vec<RecordBatch> {
    let mut out = Vec::new();
    let mut group: Vec<RecordBatch> = Vec::new();
    let mut rows = 0;
    for batch in batches {
        rows += batch.num_rows();
        group.push(batch);
        if rows >= SEGMENT_ROWS_MIN {
            out.push(concat_batches(schema, &group).expect("one schema"));
            group.clear();
            rows = 0;
        }
    }
    if !group.is_empty() {
        out.push(concat_batches(schema, &group).expect("one schema"));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delta::text::{parse, schema};

    /// What is saved after a start goes on from what was on disk before it, though rows that were dead are not here.
    #[test]
    fn saving_goes_on_after_dead_rows_were_left_out() {
        let schema = schema("k: Int64");
        let encoder = KeyEncoder::new(&[]).unwrap();
        let mut disk: Vec<RecordBatch> = Vec::new();
        let mut live: Vec<i64> = Vec::new();
        let (mut next, mut wholes) = (0, 0);
        for round in 0..12 {
            let mut rows = Arrangement::new(schema.clone(), true);
            rows.restore(&[disk.clone()], &encoder, &[], &durable::Share::ALL, 1);
            let found: Vec<i64> = rows
                .reader()
                .pin(1)
                .unwrap()
                .picture()
                .batches()
                .flat_map(|b| b.column(0).as_primitive::<arrow::datatypes::Int64Type>().values().to_vec())
                .collect();
            assert_eq!(found, live, "round {round}");
            for step in 0..3 {
                // Some come, of which one goes at once; some old ones go.
                let mut text: Vec<String> = (next..next + 40).map(|k| format!("+1 | {k}")).collect();
                live.extend(next..next + 40);
                next += 40;
                let goes: Vec<i64> = live.iter().copied().filter(|k| (k + round + step) % 7 == 0).collect();
                live.retain(|k| !goes.contains(k));
                text.extend(goes.iter().map(|k| format!("-1 | {k}")));
                assert_eq!(rows.apply(&parse(&schema, &text.join("\n")), 2 + step as u64), 0);
                rows.publish(2 + step as u64);
                let saved = rows.save();
                // Only when there was nothing, or when most of it was dead.
                assert!(!saved.whole || step == 0 && round != 1, "round {round}, step {step}");
                wholes += usize::from(saved.whole);
                if saved.whole {
                    disk.clear();
                }
                disk.extend(saved.blocks);
            }
        }
        assert!((2..8).contains(&wholes), "{wholes}");
    }
}
