//! What an aggregate says: for each group touched in an epoch what it showed before, taken back, and
//! what it shows now.

use std::collections::VecDeque;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, Int64Array, RecordBatch, RecordBatchOptions, UInt32Array};
use arrow::buffer::BooleanBuffer;
use arrow::compute::kernels::cmp::not_distinct;
use arrow::compute::{concat, interleave, take};
use arrow::datatypes::{DataType, Schema};

use super::accumulator::{Fault, counts};
use super::calls::Source;
use super::cells::{ROWS, TOUCHED};
use super::{Aggregate, AggregateCall, OUTPUT_ROWS};
use crate::delta::{Delta, text};
use crate::operators::{ErrorChange, Output};

/// Groups touched in an epoch.
#[derive(Default)]
pub(super) struct Touched {
    /// Those that were there before it, with what they showed.
    pub(super) old: VecDeque<Old>,
    /// The others.
    pub(super) new: VecDeque<Vec<u32>>,
}

pub(super) struct Old {
    pub(super) ids: Vec<u32>,
    pub(super) columns: Vec<ArrayRef>,
    pub(super) faults: Vec<Fault>,
}

/// Output that is not yet worth a batch.
#[derive(Default)]
pub(super) struct Pending {
    pub(super) pieces: Vec<Vec<ArrayRef>>,
    pub(super) weights: Vec<i64>,
}

impl Aggregate {
    /// Notes which groups a batch touches, and what those showed before that were there.
    pub(super) fn touch(&mut self, ids: &[u32]) {
        let (mut old, mut new) = (Vec::new(), Vec::new());
        let (global, bound) = (self.is_global(), self.groups.bound());
        for id in ids {
            let [rows, touched] = self.cells.at_mut::<2>(*id, ROWS);
            debug_assert_eq!((ROWS, TOUCHED), (0, 1));
            if *touched != self.epoch {
                *touched = self.epoch;
                let was_there = if global { self.announced } else { *rows as i64 > 0 };
                if was_there {
                    old.push(*id)
                } else {
                    new.push(*id)
                }
                self.journal.changed(*id, bound);
            }
        }
        for ids in old.chunks(OUTPUT_ROWS) {
            let (columns, faults) = self.results(ids);
            self.touched.old.push_back(Old { ids: ids.to_vec(), columns, faults });
        }
        self.touched.new.extend(new.chunks(OUTPUT_ROWS).map(<[u32]>::to_vec));
    }

    /// One column per call, and the groups that have no result to show.
    fn results(&self, ids: &[u32]) -> (Vec<ArrayRef>, Vec<Fault>) {
        let mut faults = Vec::new();
        let types = self.spec.output.fields()[self.spec.group.len()..].iter().map(|field| field.data_type());
        let column = |((source, call), output): ((&Source, &AggregateCall), &DataType)| match source {
            Source::Count { offset } => counts(&self.cells, *offset, ids),
            Source::Accumulator(number) => {
                self.accumulators[*number].results(call.function, output, &self.cells, ids, &mut faults)
            }
            Source::Heap { values, heap } => self.values[*values].extremes(*heap, output, ids),
        };
        let columns = self.calls.iter().zip(&self.spec.calls).zip(types).map(column).collect();
        (columns, faults)
    }

    /// Says how the results of some touched groups changed.
    pub(super) fn emit(&mut self, ids: &[u32], old: Option<&Old>, out: &mut Output) {
        let (columns, faults) = self.results(ids);
        let fault_at = |faults: &[Fault]| {
            let mut by_place: Vec<Option<&'static str>> = vec![None; if faults.is_empty() { 0 } else { ids.len() }];
            faults.iter().rev().for_each(|(place, message)| by_place[*place] = Some(message));
            by_place
        };
        let (old_faults, new_faults) = (fault_at(old.map_or(&[], |old| &old.faults)), fault_at(&faults));
        let same = old.filter(|_| !columns.is_empty()).map(|old| {
            let pairs = old.columns.iter().zip(&columns);
            let same = pairs.map(|(old, new)| not_distinct(old, new).expect("columns of one comparable type"));
            same.map(|same| same.values().clone()).reduce(|a, b| &a & &b).expect("at least one column")
        });

        // Which row of which column set, 0 the old and 1 the new.
        let mut places: Vec<(usize, usize)> = Vec::new();
        for (i, id) in ids.iter().enumerate() {
            let rows = self.cells.count(*id, ROWS);
            let there = self.is_global() || rows > 0;
            if rows == 0 && !self.is_global() {
                self.dead.push(*id);
            }
            let (old_fault, new_fault) = (old_faults.get(i).copied().flatten(), new_faults.get(i).copied().flatten());
            let new_fault = new_fault.filter(|_| there);
            if old_fault != new_fault {
                self.tell_faults(*id, old_fault, new_fault, out);
            }
            let before = old.is_some() && old_fault.is_none();
            let now = there && new_fault.is_none();
            if before && now && same.as_ref().is_none_or(|same: &BooleanBuffer| same.value(i)) {
                continue;
            }
            if before {
                places.push((0, i));
            }
            if now {
                places.push((1, i));
            }
        }
        if places.is_empty() {
            return;
        }
        let shown: Vec<u32> = places.iter().map(|(_, i)| ids[*i]).collect();
        let mut piece = self.groups.keys(&shown);
        for (i, new) in columns.iter().enumerate() {
            piece.push(match old {
                Some(old) => interleave(&[&old.columns[i], new], &places).expect("columns of one type"),
                None if places.len() == ids.len() => new.clone(),
                None => {
                    let rows = UInt32Array::from_iter_values(places.iter().map(|(_, i)| *i as u32));
                    take(new, &rows, None).expect("rows of this column")
                }
            });
        }
        self.pending.pieces.push(piece);
        self.pending.weights.extend(places.iter().map(|(set, _)| if *set == 0 { -1 } else { 1 }));
        if self.pending.weights.len() >= OUTPUT_ROWS {
            self.flush(out);
        }
    }

    #[cold]
    fn tell_faults(&self, id: u32, old: Option<&str>, new: Option<&str>, out: &mut Output) {
        let options = RecordBatchOptions::new().with_row_count(Some(1));
        let fields = self.spec.output.fields()[..self.spec.group.len()].to_vec();
        let schema = Arc::new(Schema::new(fields));
        let keys = RecordBatch::try_new_with_options(schema, self.groups.keys(&[id]), &options);
        let row = text::format_row(&keys.expect("keys of the group's types"), 0, ", ");
        for (message, weight) in [(old, -1), (new, 1)] {
            let Some(message) = message else { continue };
            out.errors.push(ErrorChange { message: message.to_string(), row: row.clone(), weight });
        }
    }

    /// Makes one delta of what is pending.
    pub(super) fn flush(&mut self, out: &mut Output) {
        let Pending { pieces, weights } = std::mem::take(&mut self.pending);
        if weights.is_empty() {
            return;
        }
        let columns = (0..self.spec.output.fields().len()).map(|i| match &pieces[..] {
            [piece] => piece[i].clone(),
            pieces => {
                let columns: Vec<&dyn Array> = pieces.iter().map(|piece| piece[i].as_ref()).collect();
                concat(&columns).expect("columns of one type")
            }
        });
        let options = RecordBatchOptions::new().with_row_count(Some(weights.len()));
        let rows = RecordBatch::try_new_with_options(self.spec.output.clone(), columns.collect(), &options);
        let weights = weights.iter().any(|w| *w != 1).then(|| Int64Array::from(weights));
        out.deltas.push(Delta::new(rows.expect("columns of the output's types"), weights));
    }
}
