//! From a key to the positions of the live rows that have it, in an arrangement.
//!
//! One slot per distinct key holds the newest position; links per position lead through the others of the
//! key. (One hash entry per row instead was measured four times slower.) Where rows can be retracted the
//! links go both ways, so that taking a row out is constant however long its chain.

use arrow::datatypes::DataType;

use crate::delta::keys::KeyBatch;
use crate::error::Result;
use crate::state::key_table::KeyTable;
use crate::state::spill::{Spillable, StateVec};

pub const NONE: u32 = u32::MAX;

pub struct KeyIndex {
    table: KeyTable,
    /// By key id: the newest position.
    heads: StateVec<u32>,
    /// By position: the next older of the same key.
    next: StateVec<u32>,
    /// By position: the next newer; only where rows can be retracted.
    previous: Option<StateVec<u32>>,
    /// SQL's `=`: rows with a NULL in the key match nothing and are left out.
    skip_nulls: bool,
    ids: Vec<u32>,
}

impl KeyIndex {
    pub fn new(types: &[DataType], retractable: bool, skip_nulls: bool) -> Result<Self> {
        Ok(KeyIndex {
            table: KeyTable::new(types)?,
            heads: StateVec::new_in(Spillable),
            next: StateVec::new_in(Spillable),
            previous: retractable.then(|| StateVec::new_in(Spillable)),
            skip_nulls,
            ids: Vec::new(),
        })
    }

    /// An empty index of the same kind.
    pub fn empty(&self) -> Self {
        let types = self.table.encoder().types().to_vec();
        Self::new(&types, self.previous.is_some(), self.skip_nulls).expect("the same types as before")
    }

    pub fn table(&self) -> &KeyTable {
        &self.table
    }

    /// The rows at the next positions have these keys.
    pub fn append(&mut self, keys: &KeyBatch) {
        let mut ids = std::mem::take(&mut self.ids);
        self.table.intern(keys, &mut ids);
        self.heads.resize(self.table.bound() as usize, NONE);
        self.next.reserve(ids.len());
        for (row, &id) in ids.iter().enumerate() {
            let position = self.next.len() as u32;
            if self.skip_nulls && keys.any_null.as_ref().is_some_and(|n| n.value(row)) {
                self.next.push(NONE);
                if let Some(previous) = &mut self.previous {
                    previous.push(NONE);
                }
                continue;
            }
            let head = std::mem::replace(&mut self.heads[id as usize], position);
            self.next.push(head);
            if let Some(previous) = &mut self.previous {
                previous.push(NONE);
                if head != NONE {
                    previous[head as usize] = position;
                }
            }
        }
        self.ids = ids;
    }

    /// Takes positions out; `keys` are the keys of their rows.
    pub fn remove(&mut self, keys: &KeyBatch, positions: &[u32]) {
        let mut ids = std::mem::take(&mut self.ids);
        self.table.find(keys, &mut ids);
        let previous = self.previous.as_mut().expect("a retractable index");
        for (row, (&id, &position)) in ids.iter().zip(positions).enumerate() {
            if self.skip_nulls && keys.any_null.as_ref().is_some_and(|n| n.value(row)) {
                continue;
            }
            let (newer, older) = (previous[position as usize], self.next[position as usize]);
            if older != NONE {
                previous[older as usize] = newer;
            }
            if newer != NONE {
                self.next[newer as usize] = older;
            } else {
                assert_eq!(self.heads[id as usize], position, "the newest row of its key");
                self.heads[id as usize] = older;
                if older == NONE {
                    self.table.remove(id);
                }
            }
        }
        self.ids = ids;
    }

    /// For each key the newest position that has it, or `NONE`.
    pub fn heads(&mut self, keys: &KeyBatch) -> Vec<u32> {
        let mut ids = std::mem::take(&mut self.ids);
        self.table.find(keys, &mut ids);
        let heads = ids
            .iter()
            .enumerate()
            .map(|(row, &id)| {
                let null = self.skip_nulls && keys.any_null.as_ref().is_some_and(|n| n.value(row));
                if id == NONE || null { NONE } else { self.heads[id as usize] }
            })
            .collect();
        self.ids = ids;
        heads
    }

    /// The next older position of the same key, or `NONE`.
    #[inline(always)]
    pub fn next(&self, position: u32) -> u32 {
        self.next[position as usize]
    }

    pub fn state_bytes(&self) -> usize {
        let links = 1 + usize::from(self.previous.is_some());
        self.table.state_bytes() + self.heads.capacity() * 4 + self.next.capacity() * 4 * links
    }
}
