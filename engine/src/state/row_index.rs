//! From the hash of a whole row to the positions of the live rows with that hash.
//!
//! One slot per distinct hash holds the newest position; a link per position leads to the next older one.
//! Equal rows share a chain, so taking one of a million duplicates away is one step.
//!
//! Past [`PARTS_FROM`] hashes the table is cut into [`PARTS`] parts by the first bits of the hash, each growing by itself,
//! so that no epoch waits for all of a large table to be copied.

use hashbrown::HashTable;

use crate::state::spill::{Spillable, StateVec};

const NONE: u32 = u32::MAX;
const PARTS_FROM: usize = 1 << 16;
const PARTS: usize = 1 << PART_BITS;
const PART_BITS: u32 = 6;

type Heads = HashTable<(u64, u32), Spillable>;

pub struct RowIndex {
    /// (hash, newest position with it); one table, or [`PARTS`].
    heads: Vec<Heads>,
    /// Bits of a hash by which its part is known.
    part_bits: u32,
    /// By position: the next older one of the same hash.
    next: StateVec<u32>,
}

impl RowIndex {
    pub fn new() -> Self {
        RowIndex { heads: vec![HashTable::new_in(Spillable)], part_bits: 0, next: StateVec::new_in(Spillable) }
    }

    pub fn with_capacity(rows: usize) -> Self {
        let mut next = StateVec::new_in(Spillable);
        next.reserve(rows);
        let part_bits = if rows > PARTS_FROM { PART_BITS } else { 0 };
        let parts = 1 << part_bits;
        let heads = (0..parts).map(|_| HashTable::with_capacity_in(rows.div_ceil(parts), Spillable)).collect();
        RowIndex { heads, part_bits, next }
    }

    fn part(&self, hash: u64) -> &Heads {
        &self.heads[part(hash, self.part_bits)]
    }

    fn part_mut(&mut self, hash: u64) -> &mut Heads {
        &mut self.heads[part(hash, self.part_bits)]
    }

    /// A table that would grow is cut into parts instead, once it is large.
    fn make_room(&mut self) {
        let [heads] = &mut self.heads[..] else { return };
        if heads.len() < PARTS_FROM || heads.len() < heads.capacity() {
            return;
        }
        let whole = std::mem::replace(heads, HashTable::new_in(Spillable));
        let mut parts: Vec<Heads> =
            (0..PARTS).map(|_| HashTable::with_capacity_in(2 * whole.len() / PARTS, Spillable)).collect();
        for head in whole {
            parts[part(head.0, PART_BITS)].insert_unique(head.0, head, |e| e.0);
        }
        (self.heads, self.part_bits) = (parts, PART_BITS);
    }

    /// The next positions, one for each hash.
    pub fn append(&mut self, hashes: &[u64]) {
        self.append_live(hashes, |_| true);
    }

    /// Like `append`, but rows that are not `live` only use up their position.
    pub fn append_live(&mut self, hashes: &[u64], live: impl Fn(usize) -> bool) {
        self.next.reserve(hashes.len());
        for (row, &hash) in hashes.iter().enumerate() {
            self.next.push(NONE);
            if live(row) {
                self.put_back(hash, self.next.len() as u32 - 1);
            }
        }
    }

    /// Makes `position` the newest of its hash.
    pub fn put_back(&mut self, hash: u64, position: u32) {
        let heads = &mut self.heads[part(hash, self.part_bits)];
        match heads.find_mut(hash, |e| e.0 == hash) {
            Some(entry) => {
                self.next[position as usize] = entry.1;
                entry.1 = position;
            }
            None => {
                self.next[position as usize] = NONE;
                if self.part_bits == 0 {
                    self.make_room();
                }
                self.part_mut(hash).insert_unique(hash, (hash, position), |e| e.0);
            }
        }
    }

    /// Takes the newest position of `hash` out.
    pub fn pop(&mut self, hash: u64) -> Option<u32> {
        let mut entry = self.heads[part(hash, self.part_bits)].find_entry(hash, |e| e.0 == hash).ok()?;
        let position = entry.get().1;
        match self.next[position as usize] {
            NONE => {
                entry.remove();
            }
            older => entry.get_mut().1 = older,
        }
        Some(position)
    }

    /// All positions of `hash`, newest first.
    pub fn chain(&self, hash: u64) -> impl Iterator<Item = u32> + '_ {
        let head = self.head(hash).unwrap_or(NONE);
        std::iter::successors((head != NONE).then_some(head), |&p| {
            let older = self.next[p as usize];
            (older != NONE).then_some(older)
        })
    }

    /// The newest position of `hash`.
    pub fn head(&self, hash: u64) -> Option<u32> {
        self.part(hash).find(hash, |e| e.0 == hash).map(|e| e.1)
    }

    /// The next older position of the same hash.
    pub fn older(&self, position: u32) -> Option<u32> {
        Some(self.next[position as usize]).filter(|&p| p != NONE)
    }

    pub fn remove(&mut self, hash: u64, position: u32) {
        let heads = &mut self.heads[part(hash, self.part_bits)];
        let mut entry = heads.find_entry(hash, |e| e.0 == hash).ok().expect("an indexed position");
        let older = self.next[position as usize];
        if entry.get().1 == position {
            if older == NONE {
                entry.remove();
            } else {
                entry.get_mut().1 = older;
            }
            return;
        }
        let mut at = entry.get().1;
        while self.next[at as usize] != position {
            at = self.next[at as usize];
            assert!(at != NONE, "an indexed position");
        }
        self.next[at as usize] = older;
    }

    pub fn state_bytes(&self) -> usize {
        self.heads.iter().map(|heads| heads.capacity() * 17).sum::<usize>() + self.next.capacity() * 4
    }
}

/// Hashbrown looks at the last bits for the place and at the first seven for the tag: these are between.
fn part(hash: u64, bits: u32) -> usize {
    (hash >> 48) as usize & ((1 << bits) - 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn an_index_in_parts_finds_what_one_table_does() {
        let hash = |row: u32| u64::from(row % 200_000).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let mut index = RowIndex::new();
        let mut wanted: BTreeMap<u64, Vec<u32>> = BTreeMap::new();
        for row in 0..300_000u32 {
            index.append(&[hash(row)]);
            wanted.entry(hash(row)).or_default().push(row);
            if row % 3 == 0 {
                let gone = row / 2;
                let rows = wanted.get_mut(&hash(gone)).unwrap();
                if let Some(at) = rows.iter().position(|r| *r == gone) {
                    rows.remove(at);
                    index.remove(hash(gone), gone);
                }
            }
        }
        assert_eq!(index.heads.len(), PARTS);
        let mut again = RowIndex::with_capacity(300_000);
        again.append_live(&(0..300_000).map(hash).collect::<Vec<_>>(), |row| {
            wanted[&hash(row as u32)].contains(&(row as u32))
        });
        for (hash, rows) in &wanted {
            let newest_first: Vec<u32> = rows.iter().rev().copied().collect();
            assert_eq!(index.chain(*hash).collect::<Vec<_>>(), newest_first);
            assert_eq!(again.chain(*hash).collect::<Vec<_>>(), newest_first);
            assert_eq!(
                (again.pop(*hash), again.head(*hash)),
                (newest_first.first().copied(), newest_first.get(1).copied())
            );
        }
    }
}
