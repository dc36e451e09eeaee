//! An arrangement with an index over the rows of all epochs that someone can still read.
//!
//! ```text
//!   key 7 ──► (7,'c') born 12 ──► (7,'b') died 12 ──► (7,'a')
//!             a reader of epoch 11 passes over (7,'c'), one of epoch 12 over (7,'b')
//! ```
//!
//! One writer, and any number of readers on its thread, each at an epoch of its own ([`Arranged`]). A row leaves the index
//! when nobody can see it any more. What is not read by key has no index, and costs nothing more than its rows.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::DataType;

use super::arrangement::{Arrangement, Pin, split_weights, take};
use super::key_index::KeyIndex;
use crate::delta::Delta;
use crate::delta::keys::KeyBatch;
use crate::error::Result;
use crate::time::Epoch;

pub struct IndexedRows {
    pub rows: Arrangement,
    index: Option<Index>,
}

struct Index {
    by_key: KeyIndex,
    /// Columns of the rows.
    key: Vec<usize>,
    /// Dead rows that are still in the index, by the epoch in which they died.
    dying: VecDeque<(Epoch, u32)>,
    /// So many readers hold positions: those stay what they are.
    reading: Rc<Cell<usize>>,
}

/// Which rows a reader sees: those before position `end` that died after `alive_after`, if they did.
#[derive(Debug, Clone, Copy)]
pub struct Version {
    end: u32,
    alive_after: Epoch,
}

/// As long as it lives, positions stay what they are.
pub struct Reading(Rc<Cell<usize>>);

impl Drop for Reading {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

impl IndexedRows {
    /// `key`: the columns that the rows are read by.
    pub fn new(rows: Arrangement, key: Option<&[usize]>) -> Result<Self> {
        let index = key.map(|key| -> Result<Index> {
            let types: Vec<DataType> = key.iter().map(|&c| rows.schema().field(c).data_type().clone()).collect();
            let by_key = KeyIndex::new(&types, true, false)?;
            Ok(Index { by_key, key: key.to_vec(), dying: VecDeque::new(), reading: Rc::default() })
        });
        Ok(IndexedRows { rows, index: index.transpose()? })
    }

    /// See [`Arrangement::apply`].
    pub fn apply(&mut self, delta: &Delta, epoch: Epoch) -> usize {
        let Some(index) = &mut self.index else { return self.rows.apply(delta, epoch) };
        let (plus, minus) = match &delta.weights {
            None => (delta.rows.clone(), None),
            Some(weights) => {
                let (plus, minus) = split_weights(weights);
                (take(&delta.rows, &plus), Some(take(&delta.rows, &minus)))
            }
        };
        index.append(&plus);
        self.rows.append(&plus);
        let gone = minus.map_or(Vec::new(), |minus| self.rows.retract(&minus, epoch));
        index.dying.extend(gone.iter().flatten().map(|&position| (epoch, position)));
        gone.iter().filter(|position| position.is_none()).count()
    }

    /// See [`Arrangement::publish`].
    pub fn publish(&mut self, epoch: Epoch) {
        let Some(index) = &mut self.index else { return self.rows.publish(epoch) };
        if index.reading.get() > 0 {
            self.rows.publish_in_place(epoch);
        } else {
            self.rows.publish(epoch);
            if self.rows.take_rewritten().is_some() {
                return self.index_by_key();
            }
        }
        let horizon = self.rows.reader().horizon();
        let gone = index.dying.partition_point(|(died, _)| *died <= horizon);
        if gone > 0 {
            let gone: Vec<u32> = index.dying.drain(..gone).map(|(_, position)| position).collect();
            let keys = index.encode(&self.rows.columns_at(&index.key, &gone), gone.len());
            index.by_key.remove(&keys, &gone);
        }
    }

    /// After a restore, before any other change.
    pub fn index_rows(&mut self) {
        self.rows.index_rows();
        self.index_by_key();
    }

    fn index_by_key(&mut self) {
        let Some(index) = &mut self.index else { return };
        index.by_key = index.by_key.empty();
        for rows in self.rows.segments() {
            index.append(&rows);
        }
        index.dying = self.rows.dying();
    }

    fn index(&self) -> &Index {
        self.index.as_ref().expect("only what is read by key is asked by key")
    }

    /// For each key the newest position that has it, or `NONE`.
    pub fn heads(&mut self, keys: &KeyBatch) -> Vec<u32> {
        self.index.as_mut().expect("only what is read by key is asked by key").by_key.heads(keys)
    }

    /// The next older position of the same key, or `NONE`.
    pub fn next(&self, position: u32) -> u32 {
        self.index().by_key.next(position)
    }

    /// The rows that were born by the end of `born_through` and have not died by the end of `alive_after`.
    pub fn version(&self, born_through: Epoch, alive_after: Epoch) -> Version {
        Version { end: self.rows.end_at(born_through), alive_after }
    }

    pub fn sees(&self, version: &Version, position: u32) -> bool {
        position < version.end && self.rows.died_at(position) > version.alive_after
    }

    pub fn reading(&self) -> Reading {
        let reading = self.index().reading.clone();
        reading.set(reading.get() + 1);
        Reading(reading)
    }

    pub fn state_bytes(&self) -> usize {
        let index = self.index.as_ref().map_or(0, |index| index.by_key.state_bytes() + index.dying.capacity() * 16);
        self.rows.state_bytes() + index
    }
}

impl Index {
    fn encode(&self, columns: &[ArrayRef], rows: usize) -> KeyBatch {
        self.by_key.table().encoder().encode_rows(columns, rows)
    }

    fn append(&mut self, rows: &RecordBatch) {
        let columns: Vec<ArrayRef> = self.key.iter().map(|&c| rows.column(c).clone()).collect();
        let keys = self.encode(&columns, rows.num_rows());
        self.by_key.append(&keys);
    }
}

/// Rows that are arranged elsewhere, for one who reads them: as of an epoch that it has reached, or later.
pub struct Arranged {
    pub rows: Rc<RefCell<IndexedRows>>,
    reached: RefCell<Pin>,
}

impl Arranged {
    pub fn new(rows: Rc<RefCell<IndexedRows>>, reached: Pin) -> Self {
        Arranged { rows, reached: RefCell::new(reached) }
    }
    /// All epochs up to this one have been taken in by who reads.
    pub fn reached(&self) -> Epoch {
        self.reached.borrow().epoch()
    }
    pub fn reach(&self, epoch: Epoch) {
        self.reached.borrow_mut().advance(epoch);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delta::text::{parse, schema};
    use crate::state::key_index::NONE;

    /// Random changes; at every epoch since the pinned one each key leads to just the rows that it had then.
    #[test]
    fn every_epoch_that_is_pinned_is_read_by_key() {
        let schema = schema("k: Int64, v: Int64");
        let mut indexed = IndexedRows::new(Arrangement::new(schema.clone(), true), Some(&[0])).unwrap();
        let mut now: Vec<(i64, i64)> = Vec::new();
        let mut then: VecDeque<(Epoch, Vec<(i64, i64)>)> = VecDeque::new();
        let mut pin: Option<Pin> = None;
        let (mut seed, mut rewritten, mut next) = (1u64, false, 0);
        let mut random = move |below: usize| {
            seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (seed >> 33) as usize % below
        };
        for epoch in 1..=120u64 {
            let mut text = Vec::new();
            for _ in 0..60 {
                let row = (random(9) as i64, next);
                next += 1;
                now.push(row);
                text.push(format!("+1 | {} | {}", row.0, row.1));
            }
            for _ in 0..random(60).min(now.len() - 1) + usize::from(epoch > 20) * 30 {
                let row = now.swap_remove(random(now.len()));
                text.push(format!("-1 | {} | {}", row.0, row.1));
            }
            let end = indexed.rows.end();
            assert_eq!(indexed.apply(&parse(&schema, &text.join("\n")), epoch), 0);
            let held = (epoch % 7 == 0).then(|| indexed.reading());
            indexed.publish(epoch);
            rewritten |= indexed.rows.end() < end && held.is_none();
            then.push_back((epoch, now.clone()));
            if epoch % 5 == 0 {
                pin = indexed.rows.reader().pin(epoch - 3);
                then.retain(|(known, _)| *known >= epoch - 3);
            }
            for (known, rows) in then.iter().filter(|_| pin.is_some()) {
                let version = indexed.version(*known, *known);
                let asked = parse(&schema, &(0..9).map(|k| format!("+1 | {k} | 0")).collect::<Vec<_>>().join("\n"));
                let keys = indexed.index().encode(&asked.rows.columns()[..1], 9);
                for (key, mut at) in indexed.heads(&keys).into_iter().enumerate() {
                    let mut found = Vec::new();
                    while at != NONE {
                        if indexed.sees(&version, at) {
                            found.push(at);
                        }
                        at = indexed.next(at);
                    }
                    let values = indexed.rows.columns_at(&[1], &found).pop().unwrap();
                    let values: &arrow::array::Int64Array = arrow::array::AsArray::as_primitive(&values);
                    let mut found: Vec<i64> = values.values().to_vec();
                    let mut wanted: Vec<i64> = rows.iter().filter(|r| r.0 == key as i64).map(|r| r.1).collect();
                    found.sort_unstable();
                    wanted.sort_unstable();
                    assert_eq!(found, wanted, "key {key} of epoch {known} at {epoch}");
                }
            }
        }
        assert!(rewritten);
    }
}
