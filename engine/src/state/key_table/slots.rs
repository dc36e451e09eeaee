//! The slots of a key table: where a hash leads to an id. Layout and cost: see [`super`].

use super::ABSENT;
use super::by_id::ById;
use crate::state::spill::{StateVec, zeros};

const PARTS_BITS: u32 = 6;
/// How many parts a large table has.
pub(super) const PARTS: usize = 1 << PARTS_BITS;
/// From how many slots on a table is a large one.
const PARTS_FROM: usize = 1 << 14;
/// Above this, slots are fetched ahead: beyond a usual L2 cache.
const FETCH_AHEAD_FROM_BYTES: usize = 1 << 20;
/// Rows whose slots, then values, are fetched ahead together.
const BLOCK: usize = 32;

pub(super) struct Slots {
    /// 1 or [`PARTS`], by the tag's first bits.
    parts: Vec<Part>,
    part_bits: u32,
}

/// A table by itself: 2^bits slots, at most three quarters of them used.
struct Part {
    slots: StateVec<u64>,
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
        Part { slots: zeros(1 << bits), used: 0, bits }
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
    pub(super) fn new() -> Slots {
        Slots { parts: vec![Part::new(4)], part_bits: 0 }
    }
    #[cfg(test)]
    pub(super) fn parts(&self) -> usize {
        self.parts.len()
    }
    pub(super) fn bytes(&self) -> usize {
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

    pub(super) fn find<B: ?Sized, S: ById<B>>(&self, hashes: &[u64], store: &S, batch: &B, out: &mut Vec<u32>) {
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

    pub(super) fn intern<B: ?Sized, S: ById<B>>(
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
    pub(super) fn remove(&mut self, hash: u64, id: u32) {
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
pub(super) fn fetch_ahead<T>(place: &T) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch reads nothing that the program sees, and SSE is part of x86-64.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>((place as *const T).cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = place;
}
