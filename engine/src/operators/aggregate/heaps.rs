//! The greatest (or least) of each group's values, where they come and go: a heap per group.
//!
//! ```text
//!   max of texts, group 7      first bytes   entry             the entry leads to the value itself, which the table
//!                              "watermelon"  12                has anyway; it is looked at where the first bytes are
//!                              "water"       10                those of another one as well
//! ```
//!
//! A value that went stays in its heap, *stale*, until it comes up or most of the heap is gone; between epochs none is on
//! top. Large heaps are state that can leave memory.
//!
//! Cost: log n per value that comes, or comes up; a value that is the best one of none is mostly pushed in constant time.

use arrow::array::ArrayRef;
use arrow::buffer::NullBuffer;
use arrow::datatypes::DataType;

use super::order::{self, Order};
use crate::error::Result;
use crate::state::key_table::KeyTable;
use crate::state::spill::{Spillable, StateVec, fixed_bytes_of};

/// What the heaps see of the entries.
pub(super) struct Entries<'a> {
    pub table: &'a KeyTable,
    pub multiplicities: &'a [i64],
    pub flags: &'a mut [u32],
    pub group_of: &'a [u32],
    pub width: usize,
    pub filter: usize,
    /// Set in an entry's flags while this heap holds it.
    pub bit: u32,
}

impl Entries<'_> {
    fn is_there(&self, entry: u32) -> bool {
        self.multiplicities[entry as usize * self.width + self.filter] > 0
    }
}

/// The greatest (or least) value of each group, among the values of one filter.
pub struct Heap {
    pub filter: usize,
    pub max: bool,
    by_group: ByGroup,
}

/// A minimum becomes a maximum by flipping all bits.
enum ByGroup {
    U64(StateVec<Lazy<u64>>),
    U128(StateVec<Lazy<u128>>),
    Bytes(StateVec<Lazy<Head>>),
}

/// The first bytes of a text, with zeros behind its end.
type Head = [u32; 3];

fn head(bytes: &[u8]) -> Head {
    let mut first = [0; size_of::<Head>()];
    let length = bytes.len().min(first.len());
    first[..length].copy_from_slice(&bytes[..length]);
    let (words, _) = first.as_chunks::<4>();
    [0, 1, 2].map(|i| u32::from_be_bytes(words[i]))
}

/// A heap that may hold values which are gone, but never on top (between epochs).
struct Lazy<K> {
    /// Each value with its entry; none is above the one at half its place.
    items: StateVec<(K, u32)>,
    /// How many are gone.
    stale: u32,
}

impl<K> Lazy<K> {
    fn new() -> Self {
        Lazy { items: StateVec::new_in(Spillable), stale: 0 }
    }
}

/// `above(a, b)`: a comes up before b.
impl<K: Copy> Lazy<K> {
    fn push(&mut self, item: (K, u32), above: impl Fn(&(K, u32), &(K, u32)) -> bool) {
        let mut at = self.items.len();
        self.items.push(item);
        let items = &mut self.items[..];
        while at > 0 {
            let parent = (at - 1) / 2;
            if !above(&item, &items[parent]) {
                break;
            }
            items[at] = items[parent];
            at = parent;
        }
        items[at] = item;
    }

    fn pop(&mut self, above: impl Fn(&(K, u32), &(K, u32)) -> bool) {
        if let Some(last) = self.items.pop()
            && !self.items.is_empty()
        {
            sink(&mut self.items, 0, last, above);
        }
    }

    fn retain(&mut self, stays: impl FnMut(&(K, u32)) -> bool, above: impl Fn(&(K, u32), &(K, u32)) -> bool) {
        self.items.retain(stays);
        let length = self.items.len();
        if self.items.capacity() / 4 > length {
            self.items.shrink_to(length * 2);
        }
        for at in (0..length / 2).rev() {
            let item = self.items[at];
            sink(&mut self.items, at, item, &above);
        }
    }
}

/// Puts an item where `at` is, or below.
fn sink<K: Copy>(items: &mut [(K, u32)], mut at: usize, item: (K, u32), above: impl Fn(&(K, u32), &(K, u32)) -> bool) {
    loop {
        let mut child = 2 * at + 1;
        if child >= items.len() {
            break;
        }
        if child + 1 < items.len() && above(&items[child + 1], &items[child]) {
            child += 1;
        }
        if !above(&items[child], &item) {
            break;
        }
        items[at] = items[child];
        at = child;
    }
    items[at] = item;
}

impl Heap {
    /// Error: 0A000 for types without an order here.
    pub(super) fn new(filter: usize, max: bool, data_type: &DataType) -> Result<Heap> {
        let by_group = match order::order_of(data_type)? {
            Order::U64 => ByGroup::U64(StateVec::new_in(Spillable)),
            Order::U128 => ByGroup::U128(StateVec::new_in(Spillable)),
            Order::Bytes => ByGroup::Bytes(StateVec::new_in(Spillable)),
        };
        Ok(Heap { filter, max, by_group })
    }

    /// Values come and go; `values`: those of the entries `touched`. Once all that an epoch touched have, [`Heap::settle`].
    pub(super) fn update(&mut self, entries: Entries, touched: &[u32], changes: &[i32], values: &ArrayRef) {
        match &mut self.by_group {
            ByGroup::U64(heaps) => {
                let (keys, flip) = (order::to_u64(values), if self.max { 0 } else { u64::MAX });
                update(heaps, entries, touched, changes, |i| keys[i] ^ flip, by_key)
            }
            ByGroup::U128(heaps) => {
                let (keys, flip) = (order::to_u128(values), if self.max { 0 } else { u128::MAX });
                update(heaps, entries, touched, changes, |i| keys[i] ^ flip, by_key)
            }
            ByGroup::Bytes(heaps) => {
                let (keys, flip) = (order::to_bytes(values), if self.max { 0 } else { u32::MAX });
                let above = by_bytes(self.max, entries.table);
                update(heaps, entries, touched, changes, |i| head(keys.get(i)).map(|word| word ^ flip), above)
            }
        }
    }

    /// Nothing that is gone stays on top. Notes in `left` which entries have left the heap.
    pub(super) fn settle(&mut self, entries: Entries, touched: &[u32], changes: &[i32], left: &mut Vec<u32>) {
        match &mut self.by_group {
            ByGroup::U64(heaps) => settle(heaps, entries, touched, changes, by_key, left),
            ByGroup::U128(heaps) => settle(heaps, entries, touched, changes, by_key, left),
            ByGroup::Bytes(heaps) => {
                let above = by_bytes(self.max, entries.table);
                settle(heaps, entries, touched, changes, above, left)
            }
        }
    }

    pub(super) fn drop_groups(&mut self, ids: &[u32], left: &mut Vec<u32>) {
        fn drop<K>(heaps: &mut [Lazy<K>], ids: &[u32], left: &mut Vec<u32>) {
            for id in ids {
                if let Some(lazy) = heaps.get_mut(*id as usize) {
                    let gone = std::mem::replace(lazy, Lazy::new());
                    left.extend(gone.items.iter().map(|(_, entry)| *entry));
                }
            }
        }
        match &mut self.by_group {
            ByGroup::U64(heaps) => drop(heaps, ids, left),
            ByGroup::U128(heaps) => drop(heaps, ids, left),
            ByGroup::Bytes(heaps) => drop(heaps, ids, left),
        }
    }

    /// The greatest (least) values of these groups; NULL where there is none.
    pub(super) fn results(&self, output: &DataType, ids: &[u32], table: &KeyTable) -> ArrayRef {
        fn tops<'a, K>(heaps: &'a [Lazy<K>], ids: &'a [u32]) -> impl Iterator<Item = Option<&'a (K, u32)>> {
            ids.iter().map(|id| heaps.get(*id as usize)?.items.first())
        }
        fn nulls<K>(heaps: &[Lazy<K>], ids: &[u32]) -> Option<NullBuffer> {
            let valid = NullBuffer::from_iter(tops(heaps, ids).map(|top| top.is_some()));
            Some(valid).filter(|nulls| nulls.null_count() > 0)
        }
        match &self.by_group {
            ByGroup::U64(heaps) => {
                let flip = if self.max { 0 } else { u64::MAX };
                let values: Vec<u64> = tops(heaps, ids).map(|top| top.map_or(0, |(key, _)| key ^ flip)).collect();
                order::from_u64(output, &values, nulls(heaps, ids))
            }
            ByGroup::U128(heaps) => {
                let flip = if self.max { 0 } else { u128::MAX };
                let values: Vec<u128> = tops(heaps, ids).map(|top| top.map_or(0, |(key, _)| key ^ flip)).collect();
                order::from_u128(output, &values, nulls(heaps, ids))
            }
            ByGroup::Bytes(heaps) => {
                let from = bytes_from(table);
                order::from_bytes(output, tops(heaps, ids).map(|top| top.map(|(_, entry)| table.tail(*entry, from))))
            }
        }
    }

    pub(super) fn state_bytes(&self) -> usize {
        self.bytes(|items| items)
    }

    /// Small heaps: what of it can be in memory only.
    pub(super) fn fixed_bytes(&self) -> usize {
        self.bytes(fixed_bytes_of)
    }

    /// The sum of its vectors, of each of which `of` says what counts of its bytes.
    fn bytes(&self, of: impl Fn(usize) -> usize) -> usize {
        fn bytes<K>(heaps: &StateVec<Lazy<K>>, of: impl Fn(usize) -> usize) -> usize {
            let items = heaps.iter().map(|lazy| of(lazy.items.capacity() * size_of::<(K, u32)>()));
            of(heaps.capacity() * size_of::<Lazy<K>>()) + items.sum::<usize>()
        }
        match &self.by_group {
            ByGroup::U64(heaps) => bytes(heaps, of),
            ByGroup::U128(heaps) => bytes(heaps, of),
            ByGroup::Bytes(heaps) => bytes(heaps, of),
        }
    }
}

/// Where in the table's keys, groups with a text each, the text begins.
fn bytes_from(table: &KeyTable) -> usize {
    table.encoder().tail_from().expect("a group and a text")
}

fn by_key<K: Ord + Copy>(a: &(K, u32), b: &(K, u32)) -> bool {
    a.0 > b.0
}

/// The entries' texts decide where their first bytes are equal.
fn by_bytes(max: bool, table: &KeyTable) -> impl Fn(&(Head, u32), &(Head, u32)) -> bool {
    let from = bytes_from(table);
    move |a, b| {
        a.0 > b.0
            || a.0 == b.0 && {
                let [a, b] = [a, b].map(|item| table.tail(item.1, from));
                if max { a > b } else { a < b }
            }
    }
}

fn update<K: Copy>(
    heaps: &mut StateVec<Lazy<K>>,
    entries: Entries,
    touched: &[u32],
    changes: &[i32],
    key: impl Fn(usize) -> K,
    above: impl Fn(&(K, u32), &(K, u32)) -> bool,
) {
    for (i, (entry, change)) in touched.iter().zip(changes).enumerate() {
        let group = entries.group_of[*entry as usize] as usize;
        if *change != 0 && heaps.len() <= group {
            heaps.resize_with(group + 1, Lazy::new);
        }
        let flags = entries.flags[*entry as usize];
        match change {
            1 if flags & entries.bit == 0 => {
                heaps[group].push((key(i), *entry), &above);
                entries.flags[*entry as usize] |= entries.bit;
            }
            1 => heaps[group].stale -= 1,
            -1 => heaps[group].stale += 1,
            _ => {}
        }
    }
}

fn settle<K: Copy>(
    heaps: &mut StateVec<Lazy<K>>,
    entries: Entries,
    touched: &[u32],
    changes: &[i32],
    above: impl Fn(&(K, u32), &(K, u32)) -> bool,
    left: &mut Vec<u32>,
) {
    for (entry, _) in touched.iter().zip(changes).filter(|(_, change)| **change == -1) {
        let lazy = &mut heaps[entries.group_of[*entry as usize] as usize];
        if lazy.stale as usize > lazy.items.len() / 2 + 8 {
            lazy.stale = 0;
            let stays = |(_, entry): &(K, u32)| {
                let there = entries.is_there(*entry);
                if !there {
                    entries.flags[*entry as usize] &= !entries.bit;
                    left.push(*entry);
                }
                there
            };
            lazy.retain(stays, &above);
        }
        while let Some((_, entry)) = lazy.items.first().copied().filter(|(_, entry)| !entries.is_there(*entry)) {
            entries.flags[entry as usize] &= !entries.bit;
            left.push(entry);
            lazy.stale -= 1;
            lazy.pop(&above);
        }
    }
}
