//! Where a key table keeps its keys: by id, in vectors of words or one after the other as bytes.

use super::slots::fetch_ahead;
use crate::delta::keys::ByteKeys;
use crate::state::spill::{Spillable, StateVec};

/// Key values by id, and the values of a batch by row.
pub(super) trait ById<B: ?Sized> {
    fn equal(&self, id: u32, batch: &B, row: usize) -> bool;
    /// `id` is at most the number of ids so far.
    fn put(&mut self, id: u32, batch: &B, row: usize);
    fn bound(&self) -> u32;
    fn fetch_ahead(&self, id: u32);
}

impl<T: Copy + Eq> ById<[T]> for StateVec<T> {
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
pub(super) struct Arena {
    pub(super) data: StateVec<u8>,
    pub(super) places: StateVec<Place>,
    dead_bytes: usize,
}

#[derive(Clone, Copy)]
pub(super) struct Place {
    start: u64,
    length: u32,
}

impl Arena {
    pub(super) fn new() -> Arena {
        Arena { data: StateVec::new_in(Spillable), places: StateVec::new_in(Spillable), dead_bytes: 0 }
    }
    #[inline(always)]
    pub(super) fn get(&self, id: u32) -> &[u8] {
        let place = self.places[id as usize];
        &self.data[place.start as usize..][..place.length as usize]
    }
    pub(super) fn forget(&mut self, id: u32) {
        self.dead_bytes += self.places[id as usize].length as usize;
        self.places[id as usize].length = 0;
        if self.dead_bytes > 4096 && self.dead_bytes > self.data.len() / 2 {
            let mut data = StateVec::with_capacity_in(self.data.len() - self.dead_bytes, Spillable);
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
