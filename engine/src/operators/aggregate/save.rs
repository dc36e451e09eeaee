//! An aggregate's state in checkpoints: blocks of two kinds, told apart by their schema's metadata.
//!
//! ```text
//!   groups      group columns | record                          | what lies beside the records …
//!   values i    group columns | value | one multiplicity per filter
//! ```
//!
//! A group whose record counts no rows, or a value whose multiplicities are all zero, is gone. Heaps are
//! not saved: the values fill them again.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, FixedSizeBinaryArray, Int64Array, RecordBatch, new_null_array};
use arrow::datatypes::{Field, Int64Type, Schema};

use super::Aggregate;
use super::cells::ROWS;
use super::journal::Changes;
use super::values::Values;
use crate::error::{Error, Result};
use crate::state::durable::{Durable, Saved, Share};
use crate::state::key_table::ABSENT;
use crate::state::spill::Passing;

/// Key of a block's metadata: `groups`, or the number of a table of values.
const PIECE: &str = "piece";
const GROUPS: &str = "groups";
const BLOCK_ROWS: usize = 1 << 16;

impl Aggregate {
    pub(super) fn live_groups(&self) -> Vec<u32> {
        let live = self.groups.live();
        (0..self.groups.bound()).filter(|id| live[*id as usize]).collect()
    }

    fn group_block(&self, ids: &[u32]) -> RecordBatch {
        let mut records = Vec::with_capacity(ids.len() * self.cells.record_bytes());
        ids.iter().for_each(|id| self.cells.save(*id, &mut records));
        let beside = self.accumulators.iter().filter_map(|accumulator| accumulator.save(ids)).collect();
        self.group_columns(self.groups.keys(ids), records, beside)
    }

    /// Groups that are gone.
    fn group_tombstones(&self, keys: Vec<ArrayRef>, rows: usize) -> RecordBatch {
        let records = vec![0; rows * self.cells.record_bytes()];
        let beside = self.accumulators.iter().filter_map(|accumulator| accumulator.save(&[]));
        let beside = beside.map(|empty| new_null_array(empty.data_type(), rows)).collect();
        self.group_columns(keys, records, beside)
    }

    fn group_columns(&self, mut columns: Vec<ArrayRef>, records: Vec<u8>, beside: Vec<ArrayRef>) -> RecordBatch {
        let records = FixedSizeBinaryArray::new(self.cells.record_bytes() as i32, records.into(), None);
        columns.push(Arc::new(records));
        columns.extend(beside);
        block(GROUPS.to_string(), columns)
    }

    /// All blocks of these groups.
    fn group_blocks(&self, ids: &[u32]) -> Vec<RecordBatch> {
        let mut passing = Passing::default();
        ids.chunks(BLOCK_ROWS).map(|ids| passing.take(self.group_block(ids))).collect()
    }

    fn value_blocks(&self, number: usize, entries: &[u32]) -> Vec<RecordBatch> {
        let values = &self.values[number];
        let width = values.filters.len();
        let block = |entries: &[u32]| {
            let mut columns = values.keys(entries, &self.groups);
            for filter in 0..width {
                let of = |entry: &u32| values.multiplicities[*entry as usize * width + filter];
                columns.push(Arc::new(Int64Array::from_iter_values(entries.iter().map(of))));
            }
            block(number.to_string(), columns)
        };
        let mut passing = Passing::default();
        entries.chunks(BLOCK_ROWS).map(|entries| passing.take(block(entries))).collect()
    }

    fn value_tombstones(&self, number: usize, mut keys: Vec<ArrayRef>) -> RecordBatch {
        let rows = keys.last().expect("a value").len();
        keys.extend(self.values[number].filters.iter().map(|_| Arc::new(Int64Array::from_value(0, rows)) as ArrayRef));
        block(number.to_string(), keys)
    }

    fn save_whole(&mut self) -> Vec<RecordBatch> {
        let groups = self.live_groups();
        let mut blocks = self.group_blocks(&groups);
        self.journal.all_saved(groups.into_iter(), self.groups.bound());
        for number in 0..self.values.len() {
            let entries = self.values[number].live();
            blocks.extend(self.value_blocks(number, &entries));
            let bound = self.values[number].table.bound();
            self.values[number].journal.all_saved(entries.into_iter(), bound);
        }
        blocks
    }

    /// `None` when not all changes were noted.
    fn save_changes(&mut self) -> Option<Vec<RecordBatch>> {
        let Changes::Some { removed, changed } = self.journal.take() else { return None };
        let mut blocks: Vec<RecordBatch> = Vec::new();
        for keys in removed {
            // Without GROUP BY no group is ever removed, so there is a key column.
            let rows = keys[0].len();
            blocks.push(self.group_tombstones(keys, rows));
        }
        blocks.extend(self.group_blocks(&changed));
        for number in 0..self.values.len() {
            let Changes::Some { removed, changed } = self.values[number].journal.take() else { return None };
            blocks.extend(removed.into_iter().map(|keys| self.value_tombstones(number, keys)));
            blocks.extend(self.value_blocks(number, &changed));
        }
        Some(blocks)
    }

    /// Groups as they were saved. Those that are gone stay until all values have been loaded.
    fn load_groups(&mut self, block: &RecordBatch, share: &Share) -> Result<()> {
        let keys = self.groups.encoder().types().len();
        let columns = owned(self, block, share)?;
        let Some(records) = columns.get(keys).and_then(|column| column.as_fixed_size_binary_opt()) else {
            return Err(Error::corrupt("a checkpoint's block of groups holds no records"));
        };
        if records.value_length() as usize != self.cells.record_bytes() {
            return Err(Error::corrupt("a checkpoint's groups were saved by another plan"));
        }
        let mut ids = Vec::new();
        self.groups.intern(&self.groups.encoder().encode_rows(&columns[..keys], records.len()), &mut ids);
        self.cells.grow(self.groups.bound());
        ids.iter().enumerate().for_each(|(row, id)| self.cells.load(*id, records.value(row)));
        let mut beside = columns[keys + 1..].iter();
        for accumulator in &mut self.accumulators {
            if accumulator.save(&[]).is_some() {
                let column = beside.next().ok_or_else(|| Error::corrupt("a checkpoint's groups lack a column"))?;
                accumulator.load(&ids, column)?;
            }
        }
        self.announced |= self.is_global() && !ids.is_empty();
        Ok(())
    }

    fn load_values(&mut self, number: usize, block: &RecordBatch, share: &Share) -> Result<()> {
        let keys = self.groups.encoder().types().len();
        let columns = owned(self, block, share)?;
        let rows = columns[keys].len();
        let mut ids = Vec::new();
        self.groups.find(&self.groups.encoder().encode_rows(&columns[..keys], rows), &mut ids);
        if ids.contains(&ABSENT) {
            return Err(Error::corrupt("a checkpoint holds values of a group that it does not hold"));
        }
        let multiplicities: Vec<&[i64]> =
            columns[keys + 1..].iter().map(|column| &column.as_primitive::<Int64Type>().values()[..]).collect();
        self.values[number].load(&ids, &columns[keys], &multiplicities);
        Ok(())
    }
}

/// The columns of a block, of the rows whose group this worker owns.
fn owned(aggregate: &Aggregate, block: &RecordBatch, share: &Share) -> Result<Vec<ArrayRef>> {
    if share.workers == 1 {
        return Ok(block.columns().to_vec());
    }
    let encoder = aggregate.groups.encoder();
    let keys = encoder.encode_rows(&block.columns()[..encoder.types().len()], block.num_rows());
    let mine = keys.hashes.iter().map(|hash| Some(share.owns(*hash))).collect();
    let filtered = arrow::compute::filter_record_batch(block, &mine).map_err(Error::internal)?;
    Ok(filtered.columns().to_vec())
}

fn block(piece: String, columns: Vec<ArrayRef>) -> RecordBatch {
    let fields: Vec<Field> = columns
        .iter()
        .enumerate()
        .map(|(i, column)| Field::new(format!("c{i}"), column.data_type().clone(), true))
        .collect();
    let schema = Schema::new_with_metadata(fields, HashMap::from([(PIECE.to_string(), piece)]));
    RecordBatch::try_new(Arc::new(schema), columns).expect("the schema was made from the columns")
}

fn piece_of(block: &RecordBatch) -> Result<Option<usize>> {
    let damaged = || Error::corrupt("a block of an aggregate's checkpoint does not say what it is");
    match block.schema_ref().metadata().get(PIECE).map(String::as_str) {
        Some(GROUPS) => Ok(None),
        Some(number) => Ok(Some(number.parse().map_err(|_| damaged())?)),
        None => Err(damaged()),
    }
}

impl Durable for Aggregate {
    fn save(&mut self) -> Saved {
        if self.is_global() && self.spec.owner && !self.announced {
            // Its row has not been shown, so nobody must think that it was.
            return Saved { whole: true, blocks: Vec::new() };
        }
        let garbage = self.saved_rows > 2 * self.state_rows() + BLOCK_ROWS;
        if let Some(blocks) = (!garbage).then(|| self.save_changes()).flatten() {
            self.saved_rows += blocks.iter().map(RecordBatch::num_rows).sum::<usize>();
            return Saved { whole: false, blocks };
        }
        let blocks = self.save_whole();
        self.saved_rows = blocks.iter().map(RecordBatch::num_rows).sum();
        Saved { whole: true, blocks }
    }

    fn restore(&mut self, parts: &[Vec<RecordBatch>], share: &Share) -> Result<()> {
        // A value's block may come before one that removes its group: all groups first.
        for block in parts.iter().flatten() {
            match piece_of(block)? {
                None => self.load_groups(block, share)?,
                Some(number) if number < self.values.len() => {}
                Some(_) => return Err(Error::corrupt("a checkpoint's values were saved by another plan")),
            }
        }
        for block in parts.iter().flatten() {
            if let Some(number) = piece_of(block)? {
                self.load_values(number, block, share)?;
            }
        }
        self.values.iter_mut().for_each(|values: &mut Values| values.loaded(&self.groups));
        self.dead = if self.is_global() { Vec::new() } else { self.live_groups() };
        self.dead.retain(|id| self.cells.count(*id, ROWS) == 0);
        self.forget_dead();
        if parts.len() == share.workers {
            self.saved_rows = parts[share.worker].iter().map(RecordBatch::num_rows).sum();
            self.journal.all_saved(self.live_groups().into_iter(), self.groups.bound());
            for values in &mut self.values {
                let (entries, bound) = (values.live(), values.table.bound());
                values.journal.all_saved(entries.into_iter(), bound);
            }
        }
        Ok(())
    }

    fn state_bytes(&self) -> usize {
        let beside: usize = self.accumulators.iter().map(|accumulator| accumulator.side_bytes()).sum();
        let values: usize = self.values.iter().map(Values::state_bytes).sum();
        self.groups.state_bytes() + self.cells.state_bytes() + beside + values
    }

    fn fixed_bytes(&self) -> usize {
        let beside: usize = self.accumulators.iter().map(|accumulator| accumulator.side_fixed_bytes()).sum();
        beside + self.values.iter().map(Values::fixed_bytes).sum::<usize>()
    }
    fn state_rows(&self) -> usize {
        self.groups.len() + self.values.iter().map(|values| values.table.len()).sum::<usize>()
    }
}
