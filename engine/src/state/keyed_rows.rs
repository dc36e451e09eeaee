//! Rows arranged by a key: an arrangement, and an index that leads from a key to the rows that have it.
//!
//! ```text
//!   key 7 ──► (7,'b') ──► (7,'a')      a walk finds the live rows of many keys, step by step
//! ```
//!
//! The rows are durable; the index is made anew from them.

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::{DataType, SchemaRef};

use super::arrangement::Arrangement;
use super::durable::{Durable, Saved, Share};
use super::key_index::{KeyIndex, NONE};
use super::spill::{Spillable, StateVec};
use crate::delta::keys::KeyBatch;
use crate::error::{Error, Result};
use crate::time::Epoch;

pub struct KeyedRows {
    pub rows: Arrangement,
    pub index: KeyIndex,
    key: Vec<usize>,
}

/// The positions of the live rows of some keys, as far as they have been found: of one key after the other.
pub struct Walk {
    heads: Vec<u32>,
    at: u32,
    pub positions: StateVec<u32>,
    /// Where each key's end.
    ends: Vec<usize>,
}

impl Walk {
    /// Those of the keys `from..to`.
    pub fn of(&self, from: usize, to: usize) -> &[u32] {
        let start = if from == 0 { 0 } else { self.ends[from - 1] };
        &self.positions[start..if to == 0 { 0 } else { self.ends[to - 1] }]
    }
}

impl KeyedRows {
    /// `retractable`: rows can be taken out again. `skip_nulls`: a key with a NULL leads nowhere, as SQL's `=` has it.
    pub fn new(schema: &SchemaRef, key: &[usize], retractable: bool, skip_nulls: bool) -> Result<Self> {
        let types: Vec<DataType> = key.iter().map(|&c| schema.field(c).data_type().clone()).collect();
        Ok(KeyedRows {
            rows: Arrangement::new(schema.clone(), retractable),
            index: KeyIndex::new(&types, retractable, skip_nulls)?,
            key: key.to_vec(),
        })
    }

    /// The keys of `rows`.
    pub fn keys(&self, rows: &RecordBatch) -> KeyBatch {
        let columns: Vec<ArrayRef> = self.key.iter().map(|&c| rows.column(c).clone()).collect();
        self.index.table().encoder().encode_rows(&columns, rows.num_rows())
    }

    /// Adds rows; `keys` are theirs.
    pub fn append(&mut self, rows: &RecordBatch, keys: &KeyBatch) {
        self.rows.append(rows);
        self.index.append(keys);
    }

    /// Takes rows out as of `epoch`; the positions where they were. Error: one of them is not there.
    pub fn retract(&mut self, rows: &RecordBatch, keys: &KeyBatch, epoch: Epoch) -> Result<Vec<u32>> {
        let found: Option<Vec<u32>> = self.rows.retract(rows, epoch).into_iter().collect();
        let found =
            found.ok_or_else(|| Error::internal("an operator was told to retract a row that it does not have"))?;
        self.index.remove(keys, &found);
        Ok(found)
    }

    /// To the live rows of each key.
    pub fn walk(&mut self, keys: &KeyBatch) -> Walk {
        let heads = self.index.heads(keys);
        Walk {
            at: heads.first().copied().unwrap_or(NONE),
            heads,
            positions: StateVec::new_in(Spillable),
            ends: Vec::new(),
        }
    }

    /// Goes on for `budget` rows, which is then less. True: it is at its end. Nothing may have changed since it began.
    pub fn go_on(&self, walk: &mut Walk, budget: &mut usize) -> bool {
        while walk.ends.len() < walk.heads.len() {
            while walk.at != NONE {
                if *budget == 0 {
                    return false;
                }
                *budget -= 1;
                walk.positions.push(walk.at);
                walk.at = self.index.next(walk.at);
            }
            walk.ends.push(walk.positions.len());
            walk.at = walk.heads.get(walk.ends.len()).copied().unwrap_or(NONE);
        }
        true
    }

    /// Ends an epoch. Where positions have changed, the old ones of the rows that stayed, in their new order.
    pub fn publish(&mut self, epoch: Epoch) -> Option<Vec<u32>> {
        self.rows.publish(epoch);
        let kept = self.rows.take_rewritten()?;
        self.index = self.index_of_rows();
        Some(kept)
    }

    /// Between two epochs: only the live rows that `stays` names, batch by batch, are left. Their old positions, in their
    /// new order.
    pub fn keep(&mut self, epoch: Epoch, stays: impl Fn(&RecordBatch) -> Vec<bool>) -> Vec<u32> {
        let kept = self.rows.keep(epoch, stays);
        self.index = self.index_of_rows();
        kept
    }

    /// A new index over the rows as they stand (all live).
    fn index_of_rows(&self) -> KeyIndex {
        let mut index = self.index.empty();
        for rows in self.rows.segments() {
            index.append(&self.keys(&rows));
        }
        index
    }
}

impl Durable for KeyedRows {
    fn save(&mut self) -> Saved {
        self.rows.save()
    }
    fn restore(&mut self, parts: &[Vec<RecordBatch>], share: &Share) -> Result<()> {
        let encoder = self.index.table().encoder();
        self.rows.restore(parts, encoder, &self.key, share, 0);
        self.index = self.index_of_rows();
        Ok(())
    }
    fn state_bytes(&self) -> usize {
        self.rows.state_bytes() + self.index.state_bytes()
    }
    fn fixed_bytes(&self) -> usize {
        0
    }
    fn state_rows(&self) -> usize {
        self.rows.live_rows() as usize
    }
}
