//! Which entries of a table changed since the last checkpoint, by id; and the keys of those that are
//! gone, since their ids are given out again.
//!
//! Until the first checkpoint, and whenever noting changes would take more room than the table itself,
//! it notes nothing and says that everything changed.

use arrow::array::{ArrayRef, RecordBatch};

use crate::state::spill::{Charge, Spillable, StateVec, set_aside};

const DIRTY: u8 = 1;
/// A checkpoint has this entry, so its removal must be told.
const SAVED: u8 = 2;

pub struct Journal {
    everything: bool,
    flags: StateVec<u8>,
    dirty: StateVec<u32>,
    /// Key columns of removed entries; many of them can leave memory until they are saved.
    removed: Vec<(RecordBatch, Charge)>,
    removed_rows: usize,
}

pub enum Changes {
    Everything,
    /// First the keys that are gone, then the ids that changed.
    Some {
        removed: Vec<Vec<ArrayRef>>,
        changed: Vec<u32>,
    },
}

impl Journal {
    pub fn new() -> Journal {
        Journal {
            everything: true,
            flags: StateVec::new_in(Spillable),
            dirty: StateVec::new_in(Spillable),
            removed: Vec::new(),
            removed_rows: 0,
        }
    }

    /// An entry changed, or is new. `bound`: all ids are below.
    pub fn changed(&mut self, id: u32, bound: u32) {
        if self.everything {
            return;
        }
        if self.flags.len() < bound as usize {
            self.flags.resize(bound as usize, 0);
        }
        let flags = &mut self.flags[id as usize];
        if *flags & DIRTY == 0 {
            *flags |= DIRTY;
            self.dirty.push(id);
            self.give_up_if_long(bound);
        }
    }

    /// Whether the keys of a removed entry must be handed to [`Journal::removed`].
    pub fn forget(&mut self, id: u32) -> bool {
        let Some(flags) = self.flags.get_mut(id as usize) else { return false };
        let saved = *flags & SAVED != 0;
        *flags = 0;
        saved && !self.everything
    }

    pub fn removed(&mut self, keys: Vec<ArrayRef>, rows: usize, bound: u32) {
        if !self.everything {
            let named = keys.into_iter().enumerate().map(|(i, column)| (format!("c{i}"), column));
            let keys = RecordBatch::try_from_iter(named).expect("columns of one length, at least one");
            let bytes = keys.get_array_memory_size();
            self.removed.push(set_aside(keys, bytes));
            self.removed_rows += rows;
            self.give_up_if_long(bound);
        }
    }

    fn give_up_if_long(&mut self, bound: u32) {
        if self.dirty.len() + self.removed_rows > 2 * bound as usize + 1024 {
            *self = Journal::new();
        }
    }

    /// What changed since the last call.
    pub fn take(&mut self) -> Changes {
        if self.everything {
            return Changes::Everything;
        }
        let dirty = std::mem::replace(&mut self.dirty, StateVec::new_in(Spillable));
        // An id may be gone again, or be given out again and stand here twice.
        let is_dirty = |id: &u32| {
            let flags = &mut self.flags[*id as usize];
            let dirty = *flags & DIRTY != 0;
            if dirty {
                *flags = SAVED;
            }
            dirty
        };
        let changed = dirty.iter().copied().filter(is_dirty).collect();
        self.removed_rows = 0;
        let removed = std::mem::take(&mut self.removed).into_iter().map(|(keys, _)| keys.columns().to_vec());
        Changes::Some { removed: removed.collect(), changed }
    }

    /// From now on changes are noted: these ids, and no others, are in the checkpoint.
    pub fn all_saved(&mut self, ids: impl Iterator<Item = u32>, bound: u32) {
        *self = Journal::new();
        self.everything = false;
        self.flags.resize(bound as usize, 0);
        ids.for_each(|id| self.flags[id as usize] = SAVED);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> Vec<ArrayRef> {
        vec![std::sync::Arc::new(arrow::array::UInt32Array::from(vec![0]))]
    }

    fn changed(journal: &mut Journal) -> Option<(Vec<u32>, usize)> {
        match journal.take() {
            Changes::Everything => None,
            Changes::Some { removed, changed } => Some((changed, removed.len())),
        }
    }

    #[test]
    fn notes_what_changed_since() {
        let mut journal = Journal::new();
        journal.changed(1, 3);
        assert_eq!(changed(&mut journal), None);
        journal.all_saved([0, 1].into_iter(), 3);
        journal.changed(1, 3);
        journal.changed(1, 3);
        journal.changed(2, 3);
        assert!(!journal.forget(2), "no checkpoint has it");
        assert!(journal.forget(0));
        journal.removed(key(), 1, 3);
        journal.changed(2, 3);
        assert_eq!(changed(&mut journal), Some((vec![1, 2], 1)));
        assert_eq!(changed(&mut journal), Some((vec![], 0)));
        assert!(journal.forget(2), "now it has");
        // What was gone again when the checkpoint was made is not in it.
        journal.changed(0, 3);
        journal.forget(0);
        assert_eq!(changed(&mut journal), Some((vec![], 0)));
        assert!(!journal.forget(0));
    }

    #[test]
    fn gives_up_when_notes_outgrow_the_table() {
        let mut journal = Journal::new();
        journal.all_saved(std::iter::empty(), 1);
        (0..2000).for_each(|_| journal.removed(key(), 1, 1));
        assert_eq!(changed(&mut journal), None);
    }
}
