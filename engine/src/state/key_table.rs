//! From keys to small dense ids: what arrangements and cells are indexed by. Whatever belongs to a key
//! then lies in plain vectors, by id.
//!
//! ```text
//!   slots  [ tag | id+1 ]   tag = high 32 bits of the hash; 0 is empty
//!     …    [  0        ]
//!     …    [ 8f31 | 2  ] ──► id 1   values[1] = 42
//!     …    [ 8f40 | 1  ] ──► id 0   values[0] = 17
//! ```
//!
//! Open addressing with linear probing; a key's home is the leading bits of its tag, so keys lie in the
//! order of their tags but for the few that were pushed on, and growing reads no key again. A slot whose
//! tag fits is compared by value; tag and value together are the whole key, NULLs included (see
//! [`crate::delta::keys`]). Removal shifts back what was pushed on, so there are no tombstones.
//!
//! Past `PARTS_FROM` slots the table is cut into `PARTS` parts by the first bits, each growing by
//! itself, so that no epoch waits for all of a large table to be copied.
//!
//! Cost: about 9 ns to insert and 4 ns to find while it is in the cache. Beyond it a look-up misses
//! twice, once for the slot and once for the value; both are fetched ahead, a block of rows at a time.
//!
//! Ids are below [`KeyTable::bound`]; those of removed keys are given out again, the last freed first.
//! Limits: under 2^32 − 1 keys.

mod by_id;
mod slots;

use arrow::array::ArrayRef;
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::DataType;

use self::by_id::{Arena, Place};
use self::slots::Slots;
use crate::delta::hash::{hash_bytes, hash_u64, hash_u128, hash_with_nulls};
use crate::delta::keys::{ByteKeys, KeyBatch, KeyEncoder, KeyForm, KeyValues};
use crate::error::Result;
use crate::state::spill::{Spillable, StateVec};

/// What `find` answers for a key that is not there.
pub const ABSENT: u32 = u32::MAX;

pub struct KeyTable {
    encoder: KeyEncoder,
    slots: Slots,
    values: Values,
    /// By id, once there was a key with a NULL: bit i says that column i is NULL.
    null_masks: StateVec<u8>,
    free: Vec<u32>,
}

enum Values {
    U64(StateVec<u64>),
    U128(StateVec<u128>),
    Bytes(Arena),
}

impl KeyTable {
    pub fn new(types: &[DataType]) -> Result<Self> {
        let encoder = KeyEncoder::new(types)?;
        let values = match encoder.form() {
            KeyForm::U64 => Values::U64(StateVec::new_in(Spillable)),
            KeyForm::U128 => Values::U128(StateVec::new_in(Spillable)),
            KeyForm::Raw | KeyForm::Packed => Values::Bytes(Arena::new()),
        };
        Ok(KeyTable { encoder, slots: Slots::new(), values, null_masks: StateVec::new_in(Spillable), free: Vec::new() })
    }

    pub fn encoder(&self) -> &KeyEncoder {
        &self.encoder
    }
    /// How many keys there are.
    pub fn len(&self) -> usize {
        self.bound() as usize - self.free.len()
    }
    /// All ids are below.
    pub fn bound(&self) -> u32 {
        match &self.values {
            Values::U64(values) => values.len() as u32,
            Values::U128(values) => values.len() as u32,
            Values::Bytes(arena) => arena.places.len() as u32,
        }
    }

    /// The id of each key, or [`ABSENT`]. Clears `out` first.
    pub fn find(&self, keys: &KeyBatch, out: &mut Vec<u32>) {
        out.clear();
        match (&self.values, &keys.values) {
            (Values::U64(values), KeyValues::U64(wanted)) => self.slots.find(&keys.hashes, values, &wanted[..], out),
            (Values::U128(values), KeyValues::U128(wanted)) => self.slots.find(&keys.hashes, values, &wanted[..], out),
            (Values::Bytes(values), KeyValues::Bytes(wanted)) => self.slots.find(&keys.hashes, values, wanted, out),
            _ => panic!("keys of another form: {:?} in a table of {:?}", keys.values, self.encoder.types()),
        }
    }

    /// The id of each key, which gets one if it has none. Clears `out` first. Without removals before,
    /// ids at or above the bound of before are new.
    pub fn intern(&mut self, keys: &KeyBatch, out: &mut Vec<u32>) {
        out.clear();
        let first_new = self.bound();
        let freed = self.free.len();
        match (&mut self.values, &keys.values) {
            (Values::U64(values), KeyValues::U64(wanted)) => {
                self.slots.intern(&keys.hashes, values, &wanted[..], &mut self.free, out)
            }
            (Values::U128(values), KeyValues::U128(wanted)) => {
                self.slots.intern(&keys.hashes, values, &wanted[..], &mut self.free, out)
            }
            (Values::Bytes(values), KeyValues::Bytes(wanted)) => {
                self.slots.intern(&keys.hashes, values, wanted, &mut self.free, out)
            }
            _ => panic!("keys of another form: {:?} in a table of {:?}", keys.values, self.encoder.types()),
        }
        if keys.null_masks.is_some() || !self.null_masks.is_empty() {
            self.null_masks.resize(self.bound() as usize, 0);
            let anew = self.free.len() < freed;
            for (row, id) in out.iter().enumerate().filter(|(_, id)| anew || **id >= first_new) {
                self.null_masks[*id as usize] = keys.null_masks.as_ref().map_or(0, |masks| masks[row]);
            }
        }
    }

    /// Forgets a key. Its id will be given to another one.
    pub fn remove(&mut self, id: u32) {
        self.slots.remove(self.hash_of(id), id);
        if let Values::Bytes(arena) = &mut self.values {
            arena.forget(id);
        }
        self.free.push(id);
    }

    /// The key columns of these ids, in their order.
    pub fn keys(&self, ids: &[u32]) -> Vec<ArrayRef> {
        let values = match &self.values {
            Values::U64(values) => KeyValues::U64(ids.iter().map(|id| values[*id as usize]).collect()),
            Values::U128(values) => KeyValues::U128(ids.iter().map(|id| values[*id as usize]).collect()),
            Values::Bytes(arena) => {
                let offsets = OffsetBuffer::from_lengths(ids.iter().map(|id| arena.get(*id).len()));
                let mut data = Vec::with_capacity(offsets[ids.len()] as usize);
                ids.iter().for_each(|id| data.extend_from_slice(arena.get(*id)));
                KeyValues::Bytes(ByteKeys { offsets, data: data.into() })
            }
        };
        let masks: Option<Vec<u8>> =
            (!self.null_masks.is_empty()).then(|| ids.iter().map(|id| self.null_masks[*id as usize]).collect());
        let masks = masks.filter(|masks| masks.iter().any(|mask| *mask != 0));
        self.encoder.decode_values(&values, masks.as_deref(), ids.len())
    }

    /// The bytes of a key from `from` on, for keys that are kept as bytes.
    #[inline(always)]
    pub fn tail(&self, id: u32, from: usize) -> &[u8] {
        let Values::Bytes(arena) = &self.values else { panic!("keys of {:?} are no bytes", self.encoder.types()) };
        &arena.get(id)[from..]
    }

    pub fn hash_of(&self, id: u32) -> u64 {
        let hash = match &self.values {
            Values::U64(values) => hash_u64(values[id as usize]),
            Values::U128(values) => hash_u128(values[id as usize]),
            Values::Bytes(arena) => hash_bytes(arena.get(id)),
        };
        self.null_masks.get(id as usize).map_or(hash, |mask| hash_with_nulls(hash, *mask))
    }

    /// True for ids that a key has now.
    pub fn live(&self) -> Vec<bool> {
        let mut live = vec![true; self.bound() as usize];
        self.free.iter().for_each(|id| live[*id as usize] = false);
        live
    }

    pub fn state_bytes(&self) -> usize {
        let values = match &self.values {
            Values::U64(values) => values.capacity() * 8,
            Values::U128(values) => values.capacity() * 16,
            Values::Bytes(arena) => arena.data.capacity() + arena.places.capacity() * size_of::<Place>(),
        };
        values + self.slots.bytes() + self.null_masks.capacity() + self.free.capacity() * 4
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Int64Array, StringArray};
    use proptest::prelude::*;
    use std::collections::HashMap;
    use std::sync::Arc;

    type Key = (Option<i64>, Option<String>);

    /// Columns of the given kind, made of one number per row; some are NULL.
    fn columns(kind: usize, numbers: &[u16]) -> (Vec<ArrayRef>, Vec<Key>) {
        let int = |n: u16| (n % 7 != 3).then(|| n as i64 * 1_000_003);
        let text = |n: u16| (n % 5 != 2).then(|| format!("key {}", n / 2));
        let ints: ArrayRef = Arc::new(numbers.iter().map(|n| int(*n)).collect::<Int64Array>());
        let others: ArrayRef = Arc::new(numbers.iter().map(|n| int(n / 3)).collect::<Int64Array>());
        let texts: ArrayRef = Arc::new(numbers.iter().map(|n| text(*n)).collect::<StringArray>());
        let word = |n: u16| int(n / 3).map(|i| i.to_string());
        match kind {
            0 => (vec![ints], numbers.iter().map(|n| (int(*n), None)).collect()),
            1 => (vec![ints, others], numbers.iter().map(|n| (int(*n), word(*n))).collect()),
            2 => (vec![texts], numbers.iter().map(|n| (None, text(*n))).collect()),
            _ => (vec![ints, texts], numbers.iter().map(|n| (int(*n), text(*n))).collect()),
        }
    }

    #[derive(Debug, Clone)]
    enum Action {
        Intern(Vec<u16>),
        Find(Vec<u16>),
        Remove(Vec<u16>),
    }

    fn actions() -> impl Strategy<Value = Vec<Action>> {
        let batch = || prop::collection::vec(0..3000u16, 1..200);
        let action = prop_oneof![
            3 => batch().prop_map(Action::Intern),
            1 => batch().prop_map(Action::Find),
            2 => batch().prop_map(Action::Remove)
        ];
        prop::collection::vec(action, 1..30)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn agrees_with_a_hash_map(kind in 0..4usize, actions in actions()) {
            let (sample, _) = columns(kind, &[0]);
            let types: Vec<DataType> = sample.iter().map(|c| c.data_type().clone()).collect();
            let mut table = KeyTable::new(&types).unwrap();
            let mut model: HashMap<Key, u32> = HashMap::new();
            let mut ids = Vec::new();
            for action in actions {
                match action {
                    Action::Intern(numbers) => {
                        let (columns, keys) = columns(kind, &numbers);
                        table.intern(&table.encoder().encode(&columns), &mut ids);
                        for (key, id) in keys.into_iter().zip(&ids) {
                            let taken = model.values().any(|other| other == id);
                            match model.get(&key) {
                                Some(known) => prop_assert_eq!(known, id),
                                None => {
                                    prop_assert!(!taken, "id {} has a key", id);
                                    model.insert(key, *id);
                                }
                            }
                        }
                        // What comes back is what went in.
                        for (back, column) in table.keys(&ids).iter().zip(&columns) {
                            prop_assert_eq!(back, column);
                        }
                    }
                    Action::Find(numbers) => {
                        let (columns, keys) = columns(kind, &numbers);
                        let batch = table.encoder().encode(&columns);
                        table.find(&batch, &mut ids);
                        for (row, key) in keys.iter().enumerate() {
                            prop_assert_eq!(ids[row], model.get(key).copied().unwrap_or(ABSENT));
                            if ids[row] != ABSENT {
                                prop_assert_eq!(table.hash_of(ids[row]), batch.hashes[row]);
                            }
                        }
                    }
                    Action::Remove(numbers) => {
                        for key in columns(kind, &numbers).1 {
                            if let Some(id) = model.remove(&key) {
                                table.remove(id);
                            }
                        }
                    }
                }
                prop_assert_eq!(table.len(), model.len());
                prop_assert!(model.values().all(|id| *id < table.bound()));
            }
        }
    }

    /// Many parts, growth of each, and removal of all in another order.
    #[test]
    fn a_large_table() {
        let mut table = KeyTable::new(&[DataType::Int64]).unwrap();
        let column: ArrayRef = Arc::new(Int64Array::from_iter_values(0..300_000));
        let keys = table.encoder().encode(&[column.clone()]);
        let mut ids = Vec::new();
        table.intern(&keys, &mut ids);
        assert!(ids.iter().enumerate().all(|(row, id)| row == *id as usize));
        assert_eq!(table.slots.parts(), slots::PARTS);
        table.find(&keys, &mut ids);
        assert!(ids.iter().enumerate().all(|(row, id)| row == *id as usize));
        for id in (0..300_000).filter(|id| id % 3 != 0).rev() {
            table.remove(id);
        }
        table.find(&keys, &mut ids);
        assert!(ids.iter().enumerate().all(|(row, id)| *id == if row % 3 == 0 { row as u32 } else { ABSENT }));
        table.intern(&keys, &mut ids);
        assert_eq!((table.len(), table.bound()), (300_000, 300_000));
        assert_eq!(&table.keys(&ids)[0], &column);
    }
}
