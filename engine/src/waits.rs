//! Who waits for what, as `mr_waits` shows it.
//!
//! ```text
//!   session 12   commit     –         its write is to be logged         ┐ a flood of COPY: the commit path waits
//!   commit       workers    slow_v    a view is too far behind          ┘ for a view, and the writers for it
//!   session 14   lock       accounts  another statement changes the table
//! ```
//!
//! Every queue is bounded, so whoever is too fast waits here; nobody has to guess for what.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::pin;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::catalog::RelationId;

/// Shorter waits are no news.
const SHOWN_AFTER: Duration = Duration::from_millis(10);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waiter {
    /// By process id.
    Session(i32),
    /// A stream's connector, or the task that lets a table's rows expire.
    Connector(RelationId),
    /// The thread that makes epochs, and with it all writers.
    Commit,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// A write or a definition to become an epoch, and the log to be synced.
    Commit,
    /// Other statements that change the same table.
    Lock,
    /// A view to be as far as the last commit.
    Epoch,
    /// A view to be filled.
    Hydration,
    /// Workers that have too much before them.
    Workers,
    /// Room on the disk.
    Disk,
}

impl Reason {
    pub fn word(self) -> &'static str {
        match self {
            Reason::Commit => "commit",
            Reason::Lock => "lock",
            Reason::Epoch => "epoch",
            Reason::Hydration => "hydration",
            Reason::Workers => "workers",
            Reason::Disk => "disk",
        }
    }
}

#[derive(Clone, Copy, Debug)]
pub struct Wait {
    pub waiter: Waiter,
    pub reason: Reason,
    /// The table that is locked, the view that is awaited.
    pub relation: Option<RelationId>,
    pub since: Instant,
}

#[derive(Default)]
pub struct Waits(Mutex<BTreeMap<u64, Wait>>);

/// A wait, until it is over or given up.
pub struct Waiting<'a> {
    all: &'a Waits,
    number: u64,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.all.0.lock().expect("no panic while held").remove(&self.number);
    }
}

impl Waits {
    pub fn begin(&self, waiter: Waiter, reason: Reason, relation: Option<RelationId>) -> Waiting<'_> {
        let mut all = self.0.lock().expect("no panic while held");
        let number = all.last_key_value().map_or(1, |(number, _)| number + 1);
        all.insert(number, Wait { waiter, reason, relation, since: Instant::now() });
        Waiting { all: self, number }
    }

    /// What comes of `work`, whose waiting is listed. What is there at once costs nothing.
    pub async fn during<T>(
        &self,
        waiter: Waiter,
        reason: Reason,
        relation: Option<RelationId>,
        work: impl Future<Output = T>,
    ) -> T {
        let mut work = pin!(work);
        match futures::poll!(work.as_mut()) {
            std::task::Poll::Ready(result) => result,
            std::task::Poll::Pending => {
                let _waiting = self.begin(waiter, reason, relation);
                work.await
            }
        }
    }

    /// Those that are not just a moment old.
    pub fn list(&self) -> Vec<Wait> {
        let all = self.0.lock().expect("no panic while held");
        all.values().filter(|wait| wait.since.elapsed() >= SHOWN_AFTER).copied().collect()
    }
}
