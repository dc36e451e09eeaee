//! What is known of a materialized view outside its workers: how far each is, what it takes, why it stands still.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use super::meter::Meter;
use super::worker::Progress;
use crate::error::Error;
use crate::plan::Plan;
use crate::state::arrangement::Shared;
use crate::time::Epoch;

/// A view's state as seen from outside its workers.
pub struct ViewStatus {
    pub workers: Vec<WorkerStatus>,
    /// What its workers keep up to date; `None` where it could not be planned.
    pub plan: Option<Arc<Plan>>,
    failure: Mutex<Option<Error>>,
    /// Someone waits for it: it is restored before others.
    pub wanted: AtomicBool,
}

#[derive(Default)]
pub struct WorkerStatus {
    /// The first epoch that is not yet closed here; `Epoch::MAX` when all that were given are; 0 until the rows of a
    /// checkpoint are back.
    pub(super) first_open: AtomicU64,
    /// While hydrating: 1 + the epoch up to which everything has been taken in and closed; 0 before that.
    pub hydrated: AtomicU64,
    pub live: AtomicBool,
    /// It is live, but its state is still being brought back from the checkpoint.
    pub(super) restoring: AtomicBool,
    /// Since it is live: what it is as of this epoch and later ones can be read.
    pub(super) live_from: AtomicU64,
    pub state_bytes: AtomicU64,
    /// What of the state can be in memory only.
    pub fixed_bytes: AtomicU64,
    pub state_rows: AtomicU64,
    /// Rows that are set aside; what one worker set aside another may take back, so only the sum counts.
    pub errors: AtomicI64,
    /// For each node of the plan what it has done.
    pub meters: Vec<Meter>,
    /// The first of them: message, row, how often.
    pub(super) error_rows: Mutex<Vec<(String, String, i64)>>,
    pub(super) reader: OnceLock<Arc<Shared>>,
}

impl ViewStatus {
    pub fn new(workers: usize, plan: Option<Arc<Plan>>) -> Self {
        let nodes = plan.as_ref().map_or(0, |plan| plan.nodes.len());
        let worker = || WorkerStatus {
            first_open: AtomicU64::new(Epoch::MAX),
            meters: (0..nodes).map(|_| Meter::default()).collect(),
            ..Default::default()
        };
        ViewStatus {
            workers: (0..workers).map(|_| worker()).collect(),
            plan,
            failure: Mutex::new(None),
            wanted: AtomicBool::new(false),
        }
    }
    pub fn failure(&self) -> Option<Error> {
        self.failure.lock().expect("no panic while held").clone()
    }
    pub fn fail(&self, error: Error) {
        self.failure.lock().expect("no panic while held").get_or_insert(error);
    }
    /// In a word, for who looks.
    pub fn state(&self) -> &'static str {
        match (self.failure(), self.live_from()) {
            (Some(_), _) => "suspended",
            (None, None) => "hydrating",
            (None, Some(_)) if self.is_restoring() => "restoring",
            (None, Some(_)) => "live",
        }
    }
    pub fn is_restoring(&self) -> bool {
        self.workers.iter().any(|w| w.restoring.load(Ordering::Acquire))
    }
    /// Once it is live on all workers: the first epoch as of which it can be read.
    pub fn live_from(&self) -> Option<Epoch> {
        let live = self.workers.iter().all(|w| w.live.load(Ordering::Acquire));
        live.then(|| self.workers.iter().map(|w| w.live_from.load(Ordering::Acquire)).max().unwrap_or(0))
    }
    /// Waits until it is; returns `None` if it is suspended instead.
    pub async fn live(&self, progress: &Progress) -> Option<Epoch> {
        progress.wait_until(|| self.failure().is_some() || self.live_from().is_some()).await;
        if self.failure().is_some() { None } else { self.live_from() }
    }
    /// Whether all epochs up to `epoch` are closed on `worker`, which has been given them.
    pub fn closed(&self, worker: usize, epoch: Epoch) -> bool {
        let w = &self.workers[worker];
        w.live.load(Ordering::Acquire) && w.first_open.load(Ordering::Acquire) > epoch
    }
    /// The last epoch not after `epoch` that all workers have closed.
    pub fn closed_through(&self, progress: &Progress, epoch: Epoch) -> Epoch {
        let closed = (0..self.workers.len()).map(|w| {
            // In this order: a worker notes an epoch as open before it counts it as given.
            let processed = progress.processed(w);
            processed.min(self.workers[w].first_open.load(Ordering::Acquire).saturating_sub(1))
        });
        closed.min().unwrap_or(epoch).min(epoch)
    }
    pub fn readers(&self) -> Vec<Arc<Shared>> {
        self.workers.iter().filter_map(|w| w.reader.get().cloned()).collect()
    }
    /// Rows that are set aside, the first thousand of each worker: message, row, how often.
    pub fn error_rows(&self) -> Vec<(String, String, i64)> {
        let mut sum: BTreeMap<(String, String), i64> = BTreeMap::new();
        for worker in &self.workers {
            for (message, row, count) in worker.error_rows.lock().expect("no panic while held").iter() {
                *sum.entry((message.clone(), row.clone())).or_insert(0) += count;
            }
        }
        sum.into_iter().filter(|(_, n)| *n > 0).map(|((message, row), n)| (message, row, n)).collect()
    }
    pub fn errors(&self) -> u64 {
        let total: i64 = self.workers.iter().map(|w| w.errors.load(Ordering::Relaxed)).sum();
        total.max(0) as u64
    }
    /// The epoch up to which all workers have taken everything in; `None` before the first.
    pub fn hydrated(&self) -> Option<Epoch> {
        self.workers.iter().map(|w| w.hydrated.load(Ordering::Acquire)).min().and_then(|h| h.checked_sub(1))
    }
}
