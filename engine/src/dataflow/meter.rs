//! What each node of a view's plan has done on one worker: counted by its driver, read by whoever asks.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Counted since the view was made or the process started. Only its worker writes.
#[derive(Debug, Default)]
pub struct Meter {
    /// Rows of changes, whatever their weights.
    rows_in: AtomicU64,
    rows_out: AtomicU64,
    busy_ns: AtomicU64,
    state_rows: AtomicU64,
    state_bytes: AtomicU64,
    fixed_bytes: AtomicU64,
}

/// What a meter says at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Reading {
    pub rows_in: u64,
    pub rows_out: u64,
    /// Time that the operator itself took.
    pub busy: Duration,
    /// Entries that it remembers: groups, rows.
    pub state_rows: u64,
    pub state_bytes: u64,
    /// What of the state can be in memory only.
    pub fixed_bytes: u64,
}

fn add(counter: &AtomicU64, more: u64) {
    counter.store(counter.load(Relaxed) + more, Relaxed);
}

impl Meter {
    pub fn took_in(&self, rows: usize) {
        add(&self.rows_in, rows as u64);
    }
    pub fn gave(&self, rows: usize) {
        add(&self.rows_out, rows as u64);
    }
    pub fn worked(&self, time: Duration) {
        add(&self.busy_ns, time.as_nanos() as u64);
    }
    pub fn holds(&self, rows: usize, bytes: usize, fixed_bytes: usize) {
        self.state_rows.store(rows as u64, Relaxed);
        self.state_bytes.store(bytes as u64, Relaxed);
        self.fixed_bytes.store(fixed_bytes as u64, Relaxed);
    }
    pub fn read(&self) -> Reading {
        Reading {
            rows_in: self.rows_in.load(Relaxed),
            rows_out: self.rows_out.load(Relaxed),
            busy: Duration::from_nanos(self.busy_ns.load(Relaxed)),
            state_rows: self.state_rows.load(Relaxed),
            state_bytes: self.state_bytes.load(Relaxed),
            fixed_bytes: self.fixed_bytes.load(Relaxed),
        }
    }
}
