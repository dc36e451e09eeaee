//! Locks that mean what their users agree on: each is named by a number, and held by a session.
//!
//! ```text
//!   session 7   lock(4711)           has it
//!   session 8   lock(4711)           waits
//!   session 9   lock_shared(4711)    waits behind 8, so that 8 gets its turn
//!   session 7   unlock(4711)         8 has it
//! ```
//!
//! A lock is counted per session and mode: it is free when it has been released as often as it was taken. A session is never
//! in its own way. Whoever would wait for itself, through others, is refused (40P01). Nothing of this outlives the process.
//! What they are in SQL: PostgreSQL's chapter "Advisory Locks".

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use crate::error::{Error, Result};

/// A waiting session looks so often whether its statement is to end.
const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(20);

/// One number of 64 bits, or two of 32: names of the two kinds are never the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LockName {
    Whole(i64),
    Pair(i32, i32),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LockMode {
    Shared,
    Exclusive,
}

impl LockMode {
    /// As pg_locks and messages call it.
    pub fn word(self) -> &'static str {
        match self {
            LockMode::Shared => "ShareLock",
            LockMode::Exclusive => "ExclusiveLock",
        }
    }
    fn conflicts_with(self, other: LockMode) -> bool {
        self == LockMode::Exclusive || other == LockMode::Exclusive
    }
}

/// A lock that somebody holds, or waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListedLock {
    pub name: LockName,
    pub mode: LockMode,
    pub pid: i32,
    pub is_granted: bool,
}

#[derive(Default)]
struct Lock {
    /// By session and mode: how often.
    holders: BTreeMap<(i32, LockMode), u64>,
    /// By the order in which they came.
    waiters: BTreeMap<u64, (i32, LockMode)>,
}

impl Lock {
    /// The sessions that one who comes with this ticket waits for.
    fn in_the_way(&self, pid: i32, mode: LockMode, ticket: u64) -> BTreeSet<i32> {
        let holders = self.holders.keys().filter(|(holder, held)| *holder != pid && mode.conflicts_with(*held));
        let mut all: BTreeSet<i32> = holders.map(|(holder, _)| *holder).collect();
        // Who has the lock already does not queue for it: those who wait do so for him.
        if !self.holders.keys().any(|(holder, _)| *holder == pid) {
            let before = self.waiters.range(..ticket).map(|(_, waiter)| waiter);
            all.extend(before.filter(|(w, m)| *w != pid && mode.conflicts_with(*m)).map(|(w, _)| *w));
        }
        all
    }
}

#[derive(Default)]
struct State {
    locks: BTreeMap<LockName, Lock>,
    last_ticket: u64,
}

impl State {
    /// Whether `pid`, which waits, waits for itself.
    fn is_deadlock(&self, pid: i32) -> bool {
        let mut seen = BTreeSet::new();
        let mut ahead = vec![pid];
        while let Some(next) = ahead.pop() {
            for lock in self.locks.values() {
                for (ticket, (_, mode)) in lock.waiters.iter().filter(|(_, (waiter, _))| *waiter == next) {
                    let others = lock.in_the_way(next, *mode, *ticket);
                    if others.contains(&pid) {
                        return true;
                    }
                    ahead.extend(others.into_iter().filter(|other| seen.insert(*other)));
                }
            }
        }
        false
    }

    fn grant(&mut self, name: LockName, mode: LockMode, pid: i32) {
        *self.locks.entry(name).or_default().holders.entry((pid, mode)).or_default() += 1;
    }

    fn leave(&mut self, name: LockName, ticket: u64) {
        let lock = self.locks.get_mut(&name).expect("it has a waiter");
        lock.waiters.remove(&ticket);
        if lock.waiters.is_empty() && lock.holders.is_empty() {
            self.locks.remove(&name);
        }
    }
}

#[derive(Default)]
pub struct AdvisoryLocks {
    state: Mutex<State>,
    changed: Condvar,
}

impl AdvisoryLocks {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic while held")
    }

    /// Takes the lock if nobody is in the way; whether it did.
    pub fn try_take(&self, name: LockName, mode: LockMode, pid: i32) -> bool {
        let mut state = self.state();
        let free = state.locks.get(&name).is_none_or(|lock| lock.in_the_way(pid, mode, u64::MAX).is_empty());
        if free {
            state.grant(name, mode, pid);
        }
        free
    }

    /// Takes the lock, and blocks the thread until it has it. It waits as long as `go_on` does not fail, and at most until
    /// `deadline` (55P03).
    pub fn take(
        &self,
        name: LockName,
        mode: LockMode,
        pid: i32,
        deadline: Option<Instant>,
        go_on: impl Fn() -> Result<()>,
    ) -> Result<()> {
        let mut state = self.state();
        state.last_ticket += 1;
        let ticket = state.last_ticket;
        state.locks.entry(name).or_default().waiters.insert(ticket, (pid, mode));
        let result = loop {
            if state.locks[&name].in_the_way(pid, mode, ticket).is_empty() {
                state.grant(name, mode, pid);
                break Ok(());
            }
            if state.is_deadlock(pid) {
                break Err(Error::new("40P01", "deadlock detected"));
            }
            if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
                break Err(Error::new("55P03", "canceling statement due to lock timeout"));
            }
            if let Err(error) = go_on() {
                break Err(error);
            }
            state = self.changed.wait_timeout(state, LOOK_AGAIN_AFTER).expect("no panic while held").0;
        };
        state.leave(name, ticket);
        drop(state);
        self.changed.notify_all();
        result
    }

    /// Gives back what was taken once; whether it was held.
    pub fn release(&self, name: LockName, mode: LockMode, pid: i32) -> bool {
        let mut state = self.state();
        let Some(lock) = state.locks.get_mut(&name) else { return false };
        let Some(count) = lock.holders.get_mut(&(pid, mode)) else { return false };
        *count -= 1;
        if *count == 0 {
            lock.holders.remove(&(pid, mode));
            if lock.holders.is_empty() && lock.waiters.is_empty() {
                state.locks.remove(&name);
            }
            drop(state);
            self.changed.notify_all();
        }
        true
    }

    pub fn list(&self) -> Vec<ListedLock> {
        let state = self.state();
        let mut all = Vec::new();
        for (&name, lock) in &state.locks {
            let mut add = |&(pid, mode): &(i32, LockMode), is_granted| {
                all.push(ListedLock { name, mode, pid, is_granted });
            };
            lock.holders.keys().for_each(|holder| add(holder, true));
            lock.waiters.values().for_each(|waiter| add(waiter, false));
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::thread;

    use LockMode::{Exclusive, Shared};

    use super::*;

    const A: LockName = LockName::Whole(1);
    const B: LockName = LockName::Pair(0, 1);

    fn waiting(locks: &AdvisoryLocks, count: usize) {
        while locks.list().iter().filter(|lock| !lock.is_granted).count() != count {
            thread::sleep(Duration::from_millis(1));
        }
    }

    #[test]
    fn shared_ones_do_not_exclude_one_another() {
        let locks = AdvisoryLocks::default();
        assert!(locks.try_take(A, Shared, 1) && locks.try_take(A, Shared, 2));
        assert!(!locks.try_take(A, Exclusive, 1), "the other has it too");
        assert!(locks.release(A, Shared, 2));
        assert!(locks.try_take(A, Exclusive, 1), "nobody is in his own way");
        assert!(locks.try_take(B, Exclusive, 2), "another name");
        assert!(!locks.release(A, Shared, 2), "it has been given back");
    }

    #[test]
    fn it_is_released_as_often_as_it_was_taken() {
        let locks = AdvisoryLocks::default();
        assert!(locks.try_take(A, Exclusive, 1) && locks.try_take(A, Exclusive, 1));
        locks.release(A, Exclusive, 1);
        assert!(!locks.try_take(A, Exclusive, 2));
        locks.release(A, Exclusive, 1);
        assert!(locks.try_take(A, Exclusive, 2));
        locks.release(A, Exclusive, 2);
        assert!(locks.list().is_empty());
    }

    #[test]
    fn who_comes_first_is_served_first() {
        let locks = Arc::new(AdvisoryLocks::default());
        assert!(locks.try_take(A, Shared, 1));
        let writer = thread::spawn({
            let locks = locks.clone();
            move || locks.take(A, Exclusive, 2, None, || Ok(()))
        });
        waiting(&locks, 1);
        assert!(!locks.try_take(A, Shared, 3), "it would keep the writer waiting");
        assert!(locks.try_take(A, Shared, 1), "it has the lock already");
        locks.release(A, Shared, 1);
        locks.release(A, Shared, 1);
        writer.join().unwrap().unwrap();
        assert!(locks.release(A, Exclusive, 2));
    }

    #[test]
    fn who_would_wait_for_himself_is_refused() {
        let locks = Arc::new(AdvisoryLocks::default());
        assert!(locks.try_take(A, Exclusive, 1) && locks.try_take(B, Exclusive, 2));
        let first = thread::spawn({
            let locks = locks.clone();
            move || locks.take(B, Exclusive, 1, None, || Ok(()))
        });
        waiting(&locks, 1);
        assert_eq!(locks.take(A, Exclusive, 2, None, || Ok(())).unwrap_err().code, "40P01");
        locks.release(B, Exclusive, 2);
        first.join().unwrap().unwrap();
    }

    #[test]
    fn a_wait_ends_by_time_or_with_its_statement() {
        let locks = AdvisoryLocks::default();
        assert!(locks.try_take(A, Exclusive, 1));
        let soon = Some(Instant::now() + Duration::from_millis(5));
        assert_eq!(locks.take(A, Shared, 2, soon, || Ok(())).unwrap_err().code, "55P03");
        let cancelled = || Err(Error::canceled("canceling statement due to user request"));
        assert_eq!(locks.take(A, Shared, 2, None, cancelled).unwrap_err().code, "57014");
        assert_eq!(locks.list().len(), 1, "nobody waits any more");
    }
}
