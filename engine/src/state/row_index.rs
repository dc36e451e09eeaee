//! From the hash of a whole row to the positions of the live rows with that hash.
//!
//! One slot per distinct hash holds the newest position; a link per position leads to the next older one.
//! Equal rows share a chain, so taking one of a million duplicates away is one step.

use hashbrown::HashTable;

use crate::state::spill::{Spillable, StateVec};

const NONE: u32 = u32::MAX;

pub struct RowIndex {
    /// (hash, newest position with it)
    heads: HashTable<(u64, u32), Spillable>,
    /// By position: the next older one of the same hash.
    next: StateVec<u32>,
}

impl RowIndex {
    pub fn new() -> Self {
        RowIndex { heads: HashTable::new_in(Spillable), next: StateVec::new_in(Spillable) }
    }

    pub fn with_capacity(rows: usize) -> Self {
        let mut next = StateVec::new_in(Spillable);
        next.reserve(rows);
        RowIndex { heads: HashTable::with_capacity_in(rows, Spillable), next }
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
        match self.heads.find_mut(hash, |e| e.0 == hash) {
            Some(entry) => {
                self.next[position as usize] = entry.1;
                entry.1 = position;
            }
            None => {
                self.next[position as usize] = NONE;
                self.heads.insert_unique(hash, (hash, position), |e| e.0);
            }
        }
    }

    /// Takes the newest position of `hash` out.
    pub fn pop(&mut self, hash: u64) -> Option<u32> {
        let mut entry = self.heads.find_entry(hash, |e| e.0 == hash).ok()?;
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
        let head = self.heads.find(hash, |e| e.0 == hash).map_or(NONE, |e| e.1);
        std::iter::successors((head != NONE).then_some(head), |&p| {
            let older = self.next[p as usize];
            (older != NONE).then_some(older)
        })
    }

    /// The newest position of `hash`.
    pub fn head(&self, hash: u64) -> Option<u32> {
        self.heads.find(hash, |e| e.0 == hash).map(|e| e.1)
    }

    /// The next older position of the same hash.
    pub fn older(&self, position: u32) -> Option<u32> {
        Some(self.next[position as usize]).filter(|&p| p != NONE)
    }

    pub fn remove(&mut self, hash: u64, position: u32) {
        let mut entry = self.heads.find_entry(hash, |e| e.0 == hash).ok().expect("an indexed position");
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
        self.heads.capacity() * 17 + self.next.capacity() * 4
    }
}
