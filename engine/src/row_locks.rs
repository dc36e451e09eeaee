//! Rows that open transactions have changed or locked: whoever else wants to change them waits, so that two of them come
//! one after the other instead of failing one another.
//!
//! ```text
//!   A: UPDATE accounts … WHERE id = 1     takes (accounts, 1)
//!   B: UPDATE accounts … WHERE id = 1     blocked by A ─ waits ─ A commits ─ reads what A left, takes (accounts, 1)
//! ```
//!
//! A row is known by hashes: of its unique keys, or of all of it where the table has none. Two rows of one hash are taken for
//! one, which costs a wait that was not needed. Locks are a courtesy: what is right is checked at commit, whoever holds
//! them. So nobody has to wait for ever, and connectors, expiring rows and definitions take no notice of them.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::sync::watch;

use crate::catalog::RelationId;
use crate::error::{Error, Result};

/// A transaction, by a number that is never given again.
pub type Holder = u64;

/// More rows of a table than these are not kept one by one: all of it is locked.
const ROWS_MAX: usize = 100_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// FOR SHARE: several may have it.
    Shared,
    Exclusive,
}

#[derive(Default)]
pub struct RowLocks(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    last: Holder,
    holders: HashMap<Holder, Held>,
    tables: HashMap<RelationId, Locked>,
    /// Who waits for whom.
    waits: HashMap<Holder, Holder>,
}

struct Held {
    /// Closed when the holder ends.
    ended: watch::Sender<()>,
    rows: HashMap<RelationId, HashSet<u64>>,
}

/// Of one table.
#[derive(Default)]
struct Locked {
    rows: HashMap<u64, Lock>,
    /// Those that have all rows which nobody else had before.
    whole: Vec<Holder>,
}

enum Lock {
    Exclusive(Holder),
    Shared(Vec<Holder>),
}

impl Lock {
    /// Another one than `me` in whose way it stands.
    fn other(&self, me: Option<Holder>, mode: Mode, ignored: &[Holder]) -> Option<Holder> {
        let counts = |holder: &&Holder| Some(**holder) != me && !ignored.contains(holder);
        match (self, mode) {
            (Lock::Exclusive(holder), _) => Some(holder).filter(counts).copied(),
            (Lock::Shared(_), Mode::Shared) => None,
            (Lock::Shared(holders), Mode::Exclusive) => holders.iter().find(counts).copied(),
        }
    }
}

/// Who is in the way.
#[derive(Debug, Clone)]
pub struct Blocker {
    pub holder: Holder,
    pub relation: RelationId,
    ended: watch::Receiver<()>,
}

impl Blocker {
    /// Waits until that transaction has ended.
    pub async fn ended(mut self) {
        // Nothing is ever sent: an error says that the sender is gone.
        while self.ended.changed().await.is_ok() {}
    }
}

impl State {
    fn other(
        &self,
        relation: RelationId,
        key: u64,
        me: Option<Holder>,
        mode: Mode,
        ignored: &[Holder],
    ) -> Option<Holder> {
        let locked = self.tables.get(&relation)?;
        let row = locked.rows.get(&key).and_then(|lock| lock.other(me, mode, ignored));
        row.or_else(|| locked.whole.iter().find(|h| Some(**h) != me && !ignored.contains(h)).copied())
    }

    fn blocker(&self, relation: RelationId, holder: Holder) -> Blocker {
        Blocker { holder, relation, ended: self.holders[&holder].ended.subscribe() }
    }

    /// Whether `holder`, or one for whom it waits, waits for `me`.
    fn waits_for(&self, mut holder: Holder, me: Holder) -> bool {
        while let Some(next) = self.waits.get(&holder) {
            if *next == me {
                return true;
            }
            holder = *next;
        }
        false
    }

    fn lock(&mut self, me: Holder, relation: RelationId, keys: &[u64], mode: Mode) {
        let locked = self.tables.entry(relation).or_default();
        if locked.whole.contains(&me) {
            return;
        }
        let held = self.holders.get_mut(&me).expect("it has begun").rows.entry(relation).or_default();
        for &key in keys {
            let lock = locked.rows.entry(key).or_insert_with(|| Lock::Shared(Vec::new()));
            match lock {
                // Another one's, of whom no notice is taken.
                Lock::Exclusive(_) => continue,
                Lock::Shared(holders) if mode == Mode::Shared => {
                    if !holders.contains(&me) {
                        holders.push(me);
                    }
                }
                Lock::Shared(holders) if holders.iter().all(|h| *h == me) => *lock = Lock::Exclusive(me),
                Lock::Shared(_) => continue,
            }
            held.insert(key);
        }
        if held.len() > ROWS_MAX {
            let held = std::mem::take(held);
            locked.whole.push(me);
            held.iter().for_each(|key| unlock(&mut locked.rows, *key, me));
        }
    }

    fn end(&mut self, me: Holder) {
        let Some(held) = self.holders.remove(&me) else { return };
        self.waits.remove(&me);
        for (relation, keys) in held.rows {
            let Some(locked) = self.tables.get_mut(&relation) else { continue };
            locked.whole.retain(|holder| *holder != me);
            keys.into_iter().for_each(|key| unlock(&mut locked.rows, key, me));
            if locked.rows.is_empty() && locked.whole.is_empty() {
                self.tables.remove(&relation);
            }
        }
    }
}

fn unlock(rows: &mut HashMap<u64, Lock>, key: u64, me: Holder) {
    let gone = match rows.get_mut(&key) {
        Some(Lock::Exclusive(holder)) => *holder == me,
        Some(Lock::Shared(holders)) => {
            holders.retain(|holder| *holder != me);
            holders.is_empty()
        }
        None => false,
    };
    if gone {
        rows.remove(&key);
    }
}

impl RowLocks {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("no panic while held")
    }

    /// A transaction that may lock rows.
    pub fn begin(&self) -> Locks {
        let mut state = self.state();
        state.last += 1;
        let holder = state.last;
        state.holders.insert(holder, Held { ended: watch::Sender::new(()), rows: HashMap::new() });
        Locks { state: self.0.clone(), holder }
    }

    /// Whether no row of a table is locked.
    pub fn is_free(&self, relation: RelationId) -> bool {
        !self.state().tables.contains_key(&relation)
    }

    /// Who, other than `me`, has locked one of these rows. Of no notice: `ignored`.
    pub fn blocker(
        &self,
        relation: RelationId,
        keys: &[u64],
        me: Option<Holder>,
        mode: Mode,
        ignored: &[Holder],
    ) -> Option<Blocker> {
        let state = self.state();
        let other = keys.iter().find_map(|&key| state.other(relation, key, me, mode, ignored))?;
        Some(state.blocker(relation, other))
    }

    /// From here on until what is returned is dropped `me` waits for `other`. 40P01 where that one waits for `me`.
    pub fn wait(&self, me: Holder, other: Holder) -> Result<Waiting> {
        let mut state = self.state();
        if state.waits_for(other, me) {
            return Err(Error::new("40P01", "deadlock detected")
                .detail("Each of these transactions waits for a row that the next one has changed or locked."));
        }
        state.waits.insert(me, other);
        Ok(Waiting { state: self.0.clone(), me })
    }
}

pub struct Waiting {
    state: Arc<Mutex<State>>,
    me: Holder,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.state.lock().expect("no panic while held").waits.remove(&self.me);
    }
}

/// A transaction's locks; they end with it.
pub struct Locks {
    state: Arc<Mutex<State>>,
    pub holder: Holder,
}

impl Locks {
    /// Locks all of these rows, or none of them when another one has one.
    pub fn lock(
        &self,
        relation: RelationId,
        keys: &[u64],
        mode: Mode,
        ignored: &[Holder],
    ) -> std::result::Result<(), Blocker> {
        let mut state = self.state.lock().expect("no panic while held");
        let other = keys.iter().find_map(|&key| state.other(relation, key, Some(self.holder), mode, ignored));
        match other {
            Some(other) => Err(state.blocker(relation, other)),
            None => {
                state.lock(self.holder, relation, keys, mode);
                Ok(())
            }
        }
    }
}

impl Drop for Locks {
    fn drop(&mut self) {
        self.state.lock().expect("no panic while held").end(self.holder);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Mode::{Exclusive, Shared};

    #[test]
    fn rows_are_held_until_the_end() {
        let all = RowLocks::default();
        let (a, b) = (all.begin(), all.begin());
        assert!(a.lock(1, &[10, 11], Exclusive, &[]).is_ok());
        assert!(a.lock(1, &[10], Exclusive, &[]).is_ok());
        assert_eq!(b.lock(1, &[12, 11], Exclusive, &[]).unwrap_err().holder, a.holder);
        // None of them: 12 is free.
        assert!(all.blocker(1, &[12], None, Exclusive, &[]).is_none());
        assert_eq!(all.blocker(1, &[10], None, Shared, &[]).unwrap().holder, a.holder);
        assert!(all.blocker(1, &[10], Some(a.holder), Exclusive, &[]).is_none());
        assert!(all.blocker(1, &[10], None, Exclusive, &[a.holder]).is_none());
        assert!(all.is_free(2) && !all.is_free(1));
        // Taking no notice of one gives nothing that is its own.
        assert!(b.lock(1, &[10, 12], Exclusive, &[a.holder]).is_ok());
        drop(b);
        assert!(all.blocker(1, &[12], None, Exclusive, &[]).is_none());
        assert_eq!(all.blocker(1, &[10], None, Exclusive, &[]).unwrap().holder, a.holder);
        drop(a);
        assert!(all.is_free(1));
    }

    #[test]
    fn shares_and_upgrades() {
        let all = RowLocks::default();
        let (a, b) = (all.begin(), all.begin());
        assert!(a.lock(1, &[10], Shared, &[]).is_ok() && b.lock(1, &[10], Shared, &[]).is_ok());
        assert_eq!(a.lock(1, &[10], Exclusive, &[]).unwrap_err().holder, b.holder);
        drop(b);
        assert!(a.lock(1, &[10], Exclusive, &[]).is_ok() && a.lock(1, &[10], Shared, &[]).is_ok());
        let c = all.begin();
        assert_eq!(c.lock(1, &[10], Shared, &[]).unwrap_err().holder, a.holder);
    }

    #[test]
    fn very_many_rows_are_the_table() {
        let all = RowLocks::default();
        let (a, b) = (all.begin(), all.begin());
        assert!(b.lock(1, &[7_000_000], Exclusive, &[]).is_ok());
        let keys: Vec<u64> = (0..=ROWS_MAX as u64).collect();
        assert!(a.lock(1, &keys, Exclusive, &[]).is_ok());
        assert_eq!(all.blocker(1, &[8_000_000], None, Exclusive, &[]).unwrap().holder, a.holder);
        // What another one had before stays its own.
        assert_eq!(a.lock(1, &[7_000_000], Exclusive, &[]).unwrap_err().holder, b.holder);
        drop(a);
        assert!(all.blocker(1, &[8_000_000, 5], None, Exclusive, &[]).is_none());
        drop(b);
        assert!(all.is_free(1));
    }

    #[tokio::test]
    async fn waiting_and_deadlocks() {
        let all = RowLocks::default();
        let (a, b, c) = (all.begin(), all.begin(), all.begin());
        assert!(a.lock(1, &[1], Exclusive, &[]).is_ok() && b.lock(1, &[2], Exclusive, &[]).is_ok());
        let on_a = b.lock(1, &[1], Exclusive, &[]).unwrap_err();
        let waiting = all.wait(b.holder, a.holder).unwrap();
        let also = all.wait(c.holder, b.holder).unwrap();
        assert_eq!(all.wait(a.holder, c.holder).err().unwrap().code, "40P01");
        drop(also);
        assert!(all.wait(a.holder, c.holder).is_ok());
        drop(waiting);
        drop(a);
        on_a.ended().await;
        assert!(b.lock(1, &[1], Exclusive, &[]).is_ok());
    }
}
