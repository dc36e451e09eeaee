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
//! Past [`PARTS_FROM`] slots the table is cut into [`PARTS`] parts by the first bits, each growing by
//! itself, so that no epoch waits for all of a large table to be copied.
//!
//! Cost: about 9 ns to insert and 4 ns to find while it is in the cache. Beyond it a look-up misses
//! twice, once for the slot and once for the value; both are fetched ahead, a block of rows at a time.
//!
//! Ids are below [`KeyTable::bound`]; those of removed keys are given out again, the last freed first.
//! Limits: under 2^32 − 1 keys.

use arrow::array::ArrayRef;
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::DataType;

use crate::delta::hash::{hash_bytes, hash_u64, hash_u128, hash_with_nulls};
use crate::delta::keys::{ByteKeys, KeyBatch, KeyEncoder, KeyForm, KeyValues};
use crate::error::Result;

/// What `find` answers for a key that is not there.
pub const ABSENT: u32 = u32::MAX;

pub struct KeyTable {
    encoder: KeyEncoder,
    slots: Slots,
    values: Values,
    /// By id, once there was a key with a NULL: bit i says that column i is NULL.
    null_masks: Vec<u8>,
    free: Vec<u32>,
}

enum Values {
    U64(Vec<u64>),
    U128(Vec<u128>),
    Bytes(Arena),
}

impl KeyTable {
    pub fn new(types: &[DataType]) -> Result<Self> {
        let encoder = KeyEncoder::new(types)?;
        let values = match encoder.form() {
            KeyForm::U64 => Values::U64(Vec::new()),
            KeyForm::U128 => Values::U128(Vec::new()),
            KeyForm::Raw | KeyForm::Packed => Values::Bytes(Arena::default()),
        };
        Ok(KeyTable { encoder, slots: Slots::new(), values, null_masks: Vec::new(), free: Vec::new() })
    }

    pub fn encoder(&self) -> &KeyEncoder {
        &self.encoder
    }
    /// How many keys there are.
    pub fn len(&self) -> usize {
        self.bound() as usize - self.free.len()
    }
    pub fn is_empty(&self) -> bool {
        self.len() == 0
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

/// Key values by id, and the values of a batch by row.
trait ById<B: ?Sized> {
    fn equal(&self, id: u32, batch: &B, row: usize) -> bool;
    /// `id` is at most the number of ids so far.
    fn put(&mut self, id: u32, batch: &B, row: usize);
    fn bound(&self) -> u32;
    fn fetch_ahead(&self, id: u32);
}

impl<T: Copy + Eq> ById<[T]> for Vec<T> {
    #[inline(always)]
    fn equal(&self, id: u32, batch: &[T], row: usize) -> bool {
        self[id as usize] == batch[row]
    }
    #[inline(always)]
    fn put(&mut self, id: u32, batch: &[T], row: usize) {
        match self.get_mut(id as usize) {
            Some(value) => *value = batch[row],
            None => self.push(batch[row]),
        }
    }
    fn bound(&self) -> u32 {
        self.len() as u32
    }
    #[inline(always)]
    fn fetch_ahead(&self, id: u32) {
        fetch_ahead(&self[id as usize]);
    }
}

/// Byte strings by id, one after the other; rewritten when most of them were removed.
#[derive(Default)]
struct Arena {
    data: Vec<u8>,
    places: Vec<Place>,
    dead_bytes: usize,
}

#[derive(Clone, Copy)]
struct Place {
    start: u64,
    length: u32,
}

impl Arena {
    #[inline(always)]
    fn get(&self, id: u32) -> &[u8] {
        let place = self.places[id as usize];
        &self.data[place.start as usize..][..place.length as usize]
    }
    fn forget(&mut self, id: u32) {
        self.dead_bytes += self.places[id as usize].length as usize;
        self.places[id as usize].length = 0;
        if self.dead_bytes > 4096 && self.dead_bytes > self.data.len() / 2 {
            let mut data = Vec::with_capacity(self.data.len() - self.dead_bytes);
            for place in &mut self.places {
                let bytes = &self.data[place.start as usize..][..place.length as usize];
                place.start = data.len() as u64;
                data.extend_from_slice(bytes);
            }
            self.data = data;
            self.dead_bytes = 0;
        }
    }
}

impl ById<ByteKeys> for Arena {
    #[inline(always)]
    fn equal(&self, id: u32, batch: &ByteKeys, row: usize) -> bool {
        self.get(id) == batch.get(row)
    }
    fn put(&mut self, id: u32, batch: &ByteKeys, row: usize) {
        let bytes = batch.get(row);
        let place = Place { start: self.data.len() as u64, length: bytes.len() as u32 };
        self.data.extend_from_slice(bytes);
        match self.places.get_mut(id as usize) {
            Some(old) => *old = place,
            None => self.places.push(place),
        }
    }
    fn bound(&self) -> u32 {
        self.places.len() as u32
    }
    /// The place only: the bytes' own address would have to be read first.
    #[inline(always)]
    fn fetch_ahead(&self, id: u32) {
        fetch_ahead(&self.places[id as usize]);
    }
}

const PARTS_BITS: u32 = 6;
/// How many parts a large table has.
const PARTS: usize = 1 << PARTS_BITS;
/// From how many slots on a table is a large one.
const PARTS_FROM: usize = 1 << 14;
/// Above this, slots are fetched ahead: beyond a usual L2 cache.
const FETCH_AHEAD_FROM_BYTES: usize = 1 << 20;
/// Rows whose slots, then values, are fetched ahead together.
const BLOCK: usize = 32;

struct Slots {
    /// 1 or [`PARTS`], by the tag's first bits.
    parts: Vec<Part>,
    part_bits: u32,
}

/// A table by itself: 2^bits slots, at most three quarters of them used.
struct Part {
    slots: Box<[u64]>,
    used: usize,
    bits: u32,
}

#[inline(always)]
fn tag_of(hash: u64) -> u32 {
    (hash >> 32) as u32
}
#[inline(always)]
fn slot_of(tag: u32, id: u32) -> u64 {
    (tag as u64) << 32 | (id + 1) as u64
}

impl Part {
    fn new(bits: u32) -> Part {
        Part { slots: vec![0; 1 << bits].into(), used: 0, bits }
    }
    /// `position` is the tag without the bits that chose the part, moved to the top.
    #[inline(always)]
    fn home(&self, position: u32) -> usize {
        (position >> (32 - self.bits)) as usize
    }
    #[inline(always)]
    fn next(&self, at: usize) -> usize {
        (at + 1) & (self.slots.len() - 1)
    }
    #[inline(always)]
    fn is_full(&self) -> bool {
        self.used >= self.slots.len() / 4 * 3
    }
    /// For a key that is not there.
    fn put(&mut self, position: u32, slot: u64) {
        let mut at = self.home(position);
        while self.slots[at] != 0 {
            at = self.next(at);
        }
        self.slots[at] = slot;
        self.used += 1;
    }
}

impl Slots {
    fn new() -> Slots {
        Slots { parts: vec![Part::new(4)], part_bits: 0 }
    }
    fn bytes(&self) -> usize {
        self.parts.iter().map(|part| part.slots.len() * 8).sum()
    }
    #[inline(always)]
    fn part_of(&self, tag: u32) -> usize {
        ((tag as u64) >> (32 - self.part_bits)) as usize
    }
    #[inline(always)]
    fn position(&self, tag: u32) -> u32 {
        tag << self.part_bits
    }

    /// The slot with this key, or else the empty one where it belongs.
    #[inline(always)]
    fn seek<B: ?Sized, S: ById<B>>(&self, tag: u32, store: &S, batch: &B, row: usize) -> (usize, usize, u64) {
        let part_index = self.part_of(tag);
        let part = &self.parts[part_index];
        let mut at = part.home(self.position(tag));
        loop {
            let slot = part.slots[at];
            if slot == 0 || (slot >> 32) as u32 == tag && store.equal(slot as u32 - 1, batch, row) {
                return (part_index, at, slot);
            }
            at = part.next(at);
        }
    }

    fn find<B: ?Sized, S: ById<B>>(&self, hashes: &[u64], store: &S, batch: &B, out: &mut Vec<u32>) {
        let large = self.bytes() > FETCH_AHEAD_FROM_BYTES;
        out.reserve(hashes.len());
        for start in (0..hashes.len()).step_by(BLOCK) {
            let end = (start + BLOCK).min(hashes.len());
            if large {
                self.fetch_block_ahead(&hashes[start..end], store);
            }
            for row in start..end {
                let (_, _, slot) = self.seek(tag_of(hashes[row]), store, batch, row);
                out.push((slot as u32).wrapping_sub(1));
            }
        }
    }

    fn intern<B: ?Sized, S: ById<B>>(
        &mut self,
        hashes: &[u64],
        store: &mut S,
        batch: &B,
        free: &mut Vec<u32>,
        out: &mut Vec<u32>,
    ) {
        let large = self.bytes() > FETCH_AHEAD_FROM_BYTES;
        out.reserve(hashes.len());
        for start in (0..hashes.len()).step_by(BLOCK) {
            let end = (start + BLOCK).min(hashes.len());
            if large {
                self.fetch_block_ahead(&hashes[start..end], store);
            }
            for row in start..end {
                let tag = tag_of(hashes[row]);
                let (part, at, slot) = self.seek(tag, store, batch, row);
                if slot != 0 {
                    out.push(slot as u32 - 1);
                    continue;
                }
                let id = free.pop().unwrap_or_else(|| store.bound());
                assert!(id < ABSENT - 1, "a table of 2^32 keys");
                store.put(id, batch, row);
                out.push(id);
                if self.parts[part].is_full() {
                    self.grow(part);
                    let position = self.position(tag);
                    let part = self.part_of(tag);
                    self.parts[part].put(position, slot_of(tag, id));
                } else {
                    self.parts[part].slots[at] = slot_of(tag, id);
                    self.parts[part].used += 1;
                }
            }
        }
    }

    /// Makes the caches fetch the slots of these keys, then the values that they point at.
    #[inline(always)]
    fn fetch_block_ahead<B: ?Sized, S: ById<B>>(&self, hashes: &[u64], store: &S) {
        let home = |hash: u64| {
            let part = &self.parts[self.part_of(tag_of(hash))];
            &part.slots[part.home(self.position(tag_of(hash)))]
        };
        hashes.iter().for_each(|hash| fetch_ahead(home(*hash)));
        for hash in hashes {
            let slot = *home(*hash);
            if slot != 0 {
                store.fetch_ahead(slot as u32 - 1);
            }
        }
    }

    /// Twice the slots for one part; or the one part of a small table becomes the many of a large one.
    #[cold]
    fn grow(&mut self, part: usize) {
        let bits = self.parts[part].bits;
        if self.part_bits == 0 && 1 << bits >= PARTS_FROM {
            let old = self.parts.pop().expect("a small table has one part");
            self.part_bits = PARTS_BITS;
            self.parts = (0..PARTS).map(|_| Part::new(bits + 1 - PARTS_BITS)).collect();
            for slot in old.slots.iter().filter(|slot| **slot != 0) {
                let tag = tag_of(*slot);
                let (part, position) = (self.part_of(tag), self.position(tag));
                if self.parts[part].is_full() {
                    self.grow(part);
                }
                self.parts[part].put(position, *slot);
            }
        } else {
            let old = std::mem::replace(&mut self.parts[part], Part::new(bits + 1));
            for slot in old.slots.iter().filter(|slot| **slot != 0) {
                let position = self.position(tag_of(*slot));
                self.parts[part].put(position, *slot);
            }
        }
    }

    /// Empties the slot of `id` and moves back what had to pass over it.
    fn remove(&mut self, hash: u64, id: u32) {
        let wanted = slot_of(tag_of(hash), id);
        let part_bits = self.part_bits;
        let part = self.part_of(tag_of(hash));
        let part = &mut self.parts[part];
        let mut hole = part.home(tag_of(hash) << part_bits);
        while part.slots[hole] != wanted {
            assert!(part.slots[hole] != 0, "removed key {id} is in the table");
            hole = part.next(hole);
        }
        let mask = part.slots.len() - 1;
        let mut at = part.next(hole);
        while part.slots[at] != 0 {
            let home = part.home(tag_of(part.slots[at]) << part_bits);
            // It may move into the hole unless its home lies after the hole, on the way to where it is.
            if (at.wrapping_sub(home) & mask) >= (at.wrapping_sub(hole) & mask) {
                part.slots[hole] = part.slots[at];
                hole = at;
            }
            at = part.next(at);
        }
        part.slots[hole] = 0;
        part.used -= 1;
    }
}

/// Asks the processor to load what is at `place` into its caches.
#[inline(always)]
fn fetch_ahead<T>(place: &T) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch reads nothing that the program sees, and SSE is part of x86-64.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>((place as *const T).cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = place;
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
        assert_eq!(table.slots.parts.len(), PARTS);
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
