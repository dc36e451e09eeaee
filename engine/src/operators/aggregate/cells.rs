//! Cells: what an aggregate knows of each group, as one record of 64-bit words per group.
//!
//! ```text
//!   group id 0   | rows | touched | sum, low | sum, high | values | …
//!   group id 1   | rows | touched | …
//! ```
//!
//! One record, not one vector per aggregate: the aggregates of a group are touched together, so they
//! should share cache lines. The offsets are handed out when the operator is made.

use crate::state::spill::{Spillable, StateVec};

/// Offset of the number of rows in a group, an i64.
pub const ROWS: usize = 0;
/// Offset of the number of the epoch in which the group was touched last (the operator's own count).
pub const TOUCHED: usize = 1;
const HEADER_WORDS: usize = 2;

pub struct Cells {
    words: StateVec<u64>,
    width: usize,
}

impl Cells {
    pub fn new() -> Cells {
        Cells { words: StateVec::new_in(Spillable), width: HEADER_WORDS }
    }
    /// Offset of `words` further words. Only before the first group.
    pub fn reserve(&mut self, words: usize) -> usize {
        assert!(self.words.is_empty(), "the record's layout is fixed before the first group");
        self.width += words;
        self.width - words
    }
    /// Records for all ids below `bound`; new ones are zeros.
    pub fn grow(&mut self, bound: u32) {
        let words = bound as usize * self.width;
        if words > self.words.len() {
            self.words.resize(words, 0);
        }
    }
    pub fn clear(&mut self, id: u32) {
        let start = id as usize * self.width;
        self.words[start..start + self.width].fill(0);
    }
    #[inline(always)]
    pub fn at<const N: usize>(&self, id: u32, offset: usize) -> &[u64; N] {
        let start = id as usize * self.width + offset;
        self.words[start..start + N].try_into().expect("N words")
    }
    #[inline(always)]
    pub fn at_mut<const N: usize>(&mut self, id: u32, offset: usize) -> &mut [u64; N] {
        let start = id as usize * self.width + offset;
        (&mut self.words[start..start + N]).try_into().expect("N words")
    }
    #[inline(always)]
    pub fn count(&self, id: u32, offset: usize) -> i64 {
        self.words[id as usize * self.width + offset] as i64
    }
    #[inline(always)]
    pub fn add_count(&mut self, id: u32, offset: usize, change: i64) {
        let word = &mut self.words[id as usize * self.width + offset];
        *word = word.wrapping_add(change as u64);
    }

    /// Bytes of a record as it is saved.
    pub fn record_bytes(&self) -> usize {
        self.width * 8
    }
    /// The record without the word that means nothing after a restart.
    pub fn save(&self, id: u32, out: &mut Vec<u8>) {
        let start = id as usize * self.width;
        for (offset, word) in self.words[start..start + self.width].iter().enumerate() {
            out.extend_from_slice(&if offset == TOUCHED { 0 } else { *word }.to_le_bytes());
        }
    }
    pub fn load(&mut self, id: u32, bytes: &[u8]) {
        let start = id as usize * self.width;
        let words = bytes.as_chunks::<8>().0.iter().map(|word| u64::from_le_bytes(*word));
        self.words[start..start + self.width].iter_mut().zip(words).for_each(|(to, from)| *to = from);
    }
    pub fn state_bytes(&self) -> usize {
        self.words.capacity() * 8
    }
}
