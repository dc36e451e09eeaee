//! The distinct values of one argument per group, with how often each occurs. From it live DISTINCT
//! aggregates, which see each value once, and min and max under retraction.
//!
//! ```text
//!   count(DISTINCT x), count(DISTINCT x) FILTER (WHERE f), max(x)
//!
//!   group x    all rows   rows with f
//!   7     10   3          1
//!   7     12   1          0              max: heap of group 7: 12, 10
//! ```
//!
//! One table serves all calls over one argument: an entry has one multiplicity per filter. Within an
//! epoch a multiplicity may fall below zero for a while; only at its end is it asked which values came
//! and which went: DISTINCT accumulators are fed those, as rows of weight ±1.
//!
//! min and max keep one heap per group (see [`super::heaps`]), in which a value that went may stay for a while. An
//! entry is forgotten when its multiplicities are zero and no heap holds it; so a value that comes back finds itself
//! still there.
//!
//! Cost: one look-up per row, as much per distinct value at the end of the epoch, log n in the heaps.

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, UInt32Array};
use arrow::buffer::BooleanBuffer;
use arrow::datatypes::DataType;

use super::accumulator::{Accumulator, Rows};
use super::cells::Cells;
use super::heaps::{Entries, Heap};
use super::journal::Journal;
use crate::error::Result;
use crate::state::key_table::KeyTable;
use crate::state::spill::{Spillable, StateVec};

/// More heaps over one argument take another table.
pub const HEAPS_MAX: usize = 30;
/// Entry flag: it is in the table. The lower bits say which heaps hold it.
const LIVE: u32 = 1 << 31;
/// So many values are looked at at a time.
const VALUES_AT_ONCE: usize = 1 << 16;

pub struct Values {
    /// Column of the input.
    pub argument: usize,
    pub data_type: DataType,
    /// Columns of the input; `None`: all rows. One multiplicity each.
    pub filters: Vec<Option<usize>>,
    /// Which accumulator sees the distinct values of which filter.
    pub feeds: Vec<(usize, usize)>,
    pub heaps: Vec<Heap>,

    /// (group, value) → entry.
    pub table: KeyTable,
    pub journal: Journal,
    /// By entry, and in it by filter.
    pub multiplicities: StateVec<i64>,
    group_of: StateVec<u32>,
    flags: StateVec<u32>,
    touched_in: StateVec<u32>,

    /// Entries touched in this epoch, and their multiplicities before it.
    touched: Vec<u32>,
    before: Vec<i64>,
    epoch: u32,
}

impl Values {
    pub fn new(argument: usize, data_type: &DataType) -> Result<Values> {
        Ok(Values {
            argument,
            data_type: data_type.clone(),
            filters: Vec::new(),
            feeds: Vec::new(),
            heaps: Vec::new(),
            table: KeyTable::new(&[DataType::UInt32, data_type.clone()])?,
            journal: Journal::new(),
            multiplicities: StateVec::new_in(Spillable),
            group_of: StateVec::new_in(Spillable),
            flags: StateVec::new_in(Spillable),
            touched_in: StateVec::new_in(Spillable),
            touched: Vec::new(),
            before: Vec::new(),
            epoch: 1,
        })
    }

    /// The multiplicity that counts rows with this filter.
    pub fn filter(&mut self, filter: Option<usize>) -> usize {
        self.filters.iter().position(|known| *known == filter).unwrap_or_else(|| {
            self.filters.push(filter);
            self.filters.len() - 1
        })
    }

    pub fn heap(&mut self, filter: usize, max: bool) -> Result<usize> {
        if let Some(known) = self.heaps.iter().position(|heap| heap.filter == filter && heap.max == max) {
            return Ok(known);
        }
        self.heaps.push(Heap::new(filter, max, &self.data_type)?);
        Ok(self.heaps.len() - 1)
    }

    /// `passes[i]`: the rows that filter i lets through; `None`: all.
    pub fn add(&mut self, ids: &[u32], values: &ArrayRef, weights: Option<&[i64]>, passes: &[Option<BooleanBuffer>]) {
        // Only rows with a value that some filter lets through.
        let any = passes.iter().cloned().reduce(|a, b| Some(&a? | &b?)).expect("at least one filter");
        let valid = values.logical_nulls().filter(|nulls| nulls.null_count() > 0).map(|nulls| nulls.inner().clone());
        let selected = match (any, valid) {
            (Some(any), Some(valid)) => Some(&any & &valid),
            (any, valid) => any.or(valid),
        };
        let rows: Option<Vec<u32>> = selected
            .filter(|selected| selected.count_set_bits() < ids.len())
            .map(|selected| selected.set_indices().map(|row| row as u32).collect());
        let keys: [ArrayRef; 2] = match &rows {
            None => [std::sync::Arc::new(UInt32Array::from(ids.to_vec())), values.clone()],
            Some(rows) => {
                let groups = UInt32Array::from_iter_values(rows.iter().map(|row| ids[*row as usize]));
                let rows = UInt32Array::from(rows.clone());
                let values = arrow::compute::take(values, &rows, None).expect("rows of this batch");
                [std::sync::Arc::new(groups), values]
            }
        };
        let mut entries = Vec::new();
        self.table.intern(&self.table.encoder().encode(&keys), &mut entries);
        self.grow();
        let width = self.filters.len();
        for (i, entry) in entries.into_iter().enumerate() {
            let row = rows.as_ref().map_or(i, |rows| rows[i] as usize);
            if self.touched_in[entry as usize] != self.epoch {
                self.group_of[entry as usize] = ids[row];
                self.touch(entry);
            }
            let weight = weights.map_or(1, |weights| weights[row]);
            for (multiplicity, pass) in self.multiplicities[entry as usize * width..][..width].iter_mut().zip(passes) {
                if pass.as_ref().is_none_or(|pass| pass.value(row)) {
                    *multiplicity += weight;
                }
            }
        }
    }

    /// Notes an entry and its multiplicities as they are now.
    fn touch(&mut self, entry: u32) {
        let width = self.filters.len();
        self.touched_in[entry as usize] = self.epoch;
        self.flags[entry as usize] |= LIVE;
        self.touched.push(entry);
        self.before.extend_from_slice(&self.multiplicities[entry as usize * width..][..width]);
        self.journal.changed(entry, self.table.bound());
    }

    fn grow(&mut self) {
        let bound = self.table.bound() as usize;
        if bound > self.flags.len() {
            self.multiplicities.resize(bound * self.filters.len(), 0);
            self.group_of.resize(bound, 0);
            self.flags.resize(bound, 0);
            self.touched_in.resize(bound, 0);
        }
    }

    /// The epoch has ended: tells the accumulators and heaps which values came and which went.
    /// `groups`: keys of the groups by id.
    pub fn flush(&mut self, accumulators: &mut [Box<dyn Accumulator>], cells: &mut Cells, groups: &KeyTable) {
        if self.touched.is_empty() {
            return;
        }
        let touched = std::mem::take(&mut self.touched);
        let before = std::mem::take(&mut self.before);
        let width = self.filters.len();
        let parts = || touched.chunks(VALUES_AT_ONCE).zip(before.chunks(VALUES_AT_ONCE * width));
        for (touched, before) in parts() {
            let values = self.table.keys(touched).pop().expect("group and value");
            self.feed(accumulators, cells, touched, before, &values);
            self.update_heaps(touched, before, &values);
        }
        let mut idle = Vec::new();
        for (touched, before) in parts() {
            self.settle_heaps(touched, before, &mut idle);
        }
        idle.extend(touched);
        self.forget_idle(idle, groups);
        self.epoch += 1;
    }

    fn feed(
        &self,
        accumulators: &mut [Box<dyn Accumulator>],
        cells: &mut Cells,
        touched: &[u32],
        before: &[i64],
        values: &ArrayRef,
    ) {
        let ids: Vec<u32> = touched.iter().map(|entry| self.group_of[*entry as usize]).collect();
        for filter in 0..self.filters.len() {
            if self.feeds.iter().all(|(fed, _)| *fed != filter) {
                continue;
            }
            let weights: Vec<i64> =
                (0..touched.len()).map(|i| self.change(touched, before, i, filter) as i64).collect();
            let selected = BooleanBuffer::collect_bool(weights.len(), |i| weights[i] != 0);
            for (_, accumulator) in self.feeds.iter().filter(|(fed, _)| *fed == filter) {
                let selected = Some(selected.clone());
                let rows = Rows { ids: &ids, weights: Some(&weights), selected, argument: Some(values) };
                accumulators[*accumulator].add(cells, &rows);
            }
        }
    }

    /// 1: the value came, −1: it went, 0: it stayed or stayed away.
    fn change(&self, touched: &[u32], before: &[i64], i: usize, filter: usize) -> i32 {
        let width = self.filters.len();
        let now = self.multiplicities[touched[i] as usize * width + filter];
        (now > 0) as i32 - (before[i * width + filter] > 0) as i32
    }

    fn update_heaps(&mut self, touched: &[u32], before: &[i64], values: &ArrayRef) {
        for number in 0..self.heaps.len() {
            let changes = self.changes(touched, before, number);
            let (heap, entries) = self.heap_and_entries(number);
            heap.update(entries, touched, &changes, values);
        }
    }

    /// Notes entries that left a heap.
    fn settle_heaps(&mut self, touched: &[u32], before: &[i64], left: &mut Vec<u32>) {
        for number in 0..self.heaps.len() {
            let changes = self.changes(touched, before, number);
            let (heap, entries) = self.heap_and_entries(number);
            heap.settle(entries, touched, &changes, left);
        }
    }

    /// Of the values that the heap `number` is of.
    fn changes(&self, touched: &[u32], before: &[i64], number: usize) -> Vec<i32> {
        (0..touched.len()).map(|i| self.change(touched, before, i, self.heaps[number].filter)).collect()
    }

    fn heap_and_entries(&mut self, number: usize) -> (&mut Heap, Entries<'_>) {
        let width = self.filters.len();
        let Values { heaps, table, multiplicities, flags, group_of, .. } = self;
        let heap = &mut heaps[number];
        let filter = heap.filter;
        (heap, Entries { table, multiplicities, flags, group_of, width, filter, bit: 1 << number })
    }

    /// A group is gone, and with it all its values: the heaps let go of them.
    pub fn drop_groups(&mut self, ids: &[u32], groups: &KeyTable) {
        let mut left = Vec::new();
        for (number, heap) in self.heaps.iter_mut().enumerate() {
            let start = left.len();
            heap.drop_groups(ids, &mut left);
            left[start..].iter().for_each(|entry| self.flags[*entry as usize] &= !(1 << number));
        }
        self.forget_idle(left, groups);
    }

    /// All values of these groups go with them.
    pub fn empty_groups(&mut self, ids: &[u32], groups: &KeyTable) {
        let mut gone = vec![false; groups.bound() as usize];
        ids.iter().for_each(|id| gone[*id as usize] = true);
        let width = self.filters.len();
        let mut entries = self.live();
        entries.retain(|entry| gone[self.group_of[*entry as usize] as usize]);
        for entry in &entries {
            self.multiplicities[*entry as usize * width..][..width].fill(0);
        }
        self.drop_groups(ids, groups);
        entries.retain(|entry| self.flags[*entry as usize] != 0);
        self.forget_idle(entries, groups);
    }

    /// Removes those of the entries that nobody needs.
    fn forget_idle(&mut self, mut entries: Vec<u32>, groups: &KeyTable) {
        let width = self.filters.len();
        entries.retain(|entry| {
            let zero = self.multiplicities[*entry as usize * width..][..width].iter().all(|m| *m == 0);
            let idle = zero && self.flags[*entry as usize] == LIVE;
            if idle {
                self.flags[*entry as usize] = 0;
            }
            idle
        });
        let saved: Vec<u32> = entries.iter().copied().filter(|entry| self.journal.forget(*entry)).collect();
        if !saved.is_empty() {
            let keys = self.keys(&saved, groups);
            self.journal.removed(keys, saved.len(), self.table.bound());
        }
        entries.into_iter().for_each(|entry| self.table.remove(entry));
    }

    /// The groups' key columns, then the value.
    pub fn keys(&self, entries: &[u32], groups: &KeyTable) -> Vec<ArrayRef> {
        let ids: Vec<u32> = entries.iter().map(|entry| self.group_of[*entry as usize]).collect();
        let mut keys = groups.keys(&ids);
        keys.push(self.table.keys(entries).pop().expect("group and value"));
        keys
    }

    /// Sets the multiplicities of entries as they were saved, filter by filter.
    pub fn load(&mut self, ids: &[u32], values: &ArrayRef, multiplicities: &[&[i64]]) {
        let width = self.filters.len();
        let keys: [ArrayRef; 2] = [std::sync::Arc::new(UInt32Array::from(ids.to_vec())), values.clone()];
        let mut entries = Vec::new();
        self.table.intern(&self.table.encoder().encode(&keys), &mut entries);
        self.grow();
        for (row, entry) in entries.into_iter().enumerate() {
            self.group_of[entry as usize] = ids[row];
            self.flags[entry as usize] |= LIVE;
            for (filter, column) in multiplicities.iter().enumerate() {
                self.multiplicities[entry as usize * width + filter] = column[row];
            }
        }
    }

    /// After all loads: fills the heaps and forgets what was removed. What accumulators were fed is saved
    /// with them.
    pub fn loaded(&mut self, groups: &KeyTable) {
        let all = self.live();
        if !self.heaps.is_empty() {
            // All that are there come, so it makes no difference how many at once.
            for some in all.chunks(VALUES_AT_ONCE) {
                let before = vec![0; some.len() * self.filters.len()];
                let values = self.table.keys(some).pop().expect("group and value");
                self.update_heaps(some, &before, &values);
            }
        }
        self.forget_idle(all, groups);
    }

    pub fn live(&self) -> Vec<u32> {
        (0..self.flags.len() as u32).filter(|entry| self.flags[*entry as usize] & LIVE != 0).collect()
    }

    /// What the heap `number` says of these groups.
    pub fn extremes(&self, number: usize, output: &DataType, ids: &[u32]) -> ArrayRef {
        self.heaps[number].results(output, ids, &self.table)
    }

    pub fn state_bytes(&self) -> usize {
        let vectors = self.multiplicities.capacity() * 8 + self.flags.capacity() * 12;
        self.table.state_bytes() + vectors + self.heaps.iter().map(Heap::state_bytes).sum::<usize>()
    }

    /// What of it can be in memory only.
    pub fn fixed_bytes(&self) -> usize {
        self.heaps.iter().map(Heap::fixed_bytes).sum()
    }
}

/// The rows that a filter column lets through.
pub fn passing(column: &ArrayRef) -> BooleanBuffer {
    let column: &BooleanArray = column.as_boolean();
    match column.nulls() {
        None => column.values().clone(),
        Some(valid) => column.values() & valid.inner(),
    }
}
