//! Subscriptions and sinks under way, and the end of those that take nothing.
//!
//! A subscription keeps its last epoch readable by pins, so that it can be given what has changed since. While its
//! reader is away, rows that have been replaced meanwhile cannot go. Nothing else piles up; but of a relation that
//! changes much this is without end, so past a limit the pins are taken away, and the reader gets an error when it
//! comes back.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use crate::catalog::RelationId;
use crate::core::Core;
use crate::error::{Error, Result};
use crate::state::arrangement::Pin;
use crate::time::Epoch;

/// What a subscription may keep.
#[derive(Debug, Clone, Copy)]
pub struct SubscriptionLimits {
    /// So long a reader may stay away, whatever is kept for it.
    pub patience: Duration,
    /// So many replaced rows may be kept for it, and in any case as many as the relation has.
    pub dead_rows: u64,
}

impl Default for SubscriptionLimits {
    fn default() -> Self {
        SubscriptionLimits { patience: Duration::from_secs(10), dead_rows: 1_000_000 }
    }
}

/// One of them.
pub struct Line {
    pub relation: RelationId,
    /// What it has been given.
    seen: AtomicU64,
    held: Mutex<Held>,
}

enum Held {
    Pins(Vec<Pin>),
    /// They have been taken away.
    Ended(Error),
}

impl Line {
    pub fn seen(&self) -> Epoch {
        self.seen.load(Ordering::Relaxed)
    }

    /// What `read` makes of the pins. Error: 53400 once the subscription has been ended.
    pub fn with_pins<T>(&self, read: impl FnOnce(&mut [Pin]) -> T) -> Result<T> {
        match &mut *self.held.lock().expect("no panic while held") {
            Held::Pins(pins) => Ok(read(pins)),
            Held::Ended(error) => Err(error.clone()),
        }
    }

    /// It has been given everything up to `epoch`.
    pub fn advance(&self, epoch: Epoch) {
        self.seen.store(epoch, Ordering::Relaxed);
    }

    /// Rows that are dead and are kept for this subscription alone, or for it and later readers.
    pub fn kept_rows(&self) -> u64 {
        self.with_pins(|pins| pins.iter().map(Pin::kept_rows).sum()).unwrap_or(0)
    }

    /// Ends it if it keeps too much; says how many rows that were.
    fn end(&self, limits: &SubscriptionLimits) -> Option<u64> {
        let mut held = self.held.lock().expect("no panic while held");
        let Held::Pins(pins) = &*held else { return None };
        let kept: u64 = pins.iter().map(Pin::kept_rows).sum();
        let live: u64 = pins.iter().map(|pin| pin.reader().live_rows()).sum();
        if kept <= limits.dead_rows.max(live) {
            return None;
        }
        let seconds = limits.patience.as_secs_f64();
        let message = format!(
            "the subscription was ended: it took nothing for over {seconds} s while {kept} rows that have been \
             replaced were kept for it"
        );
        *held = Held::Ended(
            Error::new("53400", message).hint("Subscribe again; the rows as they are now come first then."),
        );
        Some(kept)
    }
}

#[derive(Default)]
pub struct Subscriptions(Mutex<BTreeMap<u64, Arc<Line>>>);

/// A line for as long as its subscription lives.
pub struct Listed {
    all: Arc<Subscriptions>,
    number: u64,
    line: Arc<Line>,
}

impl std::ops::Deref for Listed {
    type Target = Line;
    fn deref(&self) -> &Line {
        &self.line
    }
}

impl Drop for Listed {
    fn drop(&mut self) {
        self.all.0.lock().expect("no panic while held").remove(&self.number);
    }
}

impl Subscriptions {
    pub fn add(self: &Arc<Self>, relation: RelationId, seen: Epoch, pins: Vec<Pin>) -> Listed {
        let line = Arc::new(Line { relation, seen: AtomicU64::new(seen), held: Mutex::new(Held::Pins(pins)) });
        let mut lines = self.0.lock().expect("no panic while held");
        let number = lines.last_key_value().map_or(1, |(number, _)| number + 1);
        lines.insert(number, line.clone());
        Listed { all: self.clone(), number, line }
    }

    /// All by number, as they are now.
    pub fn lines(&self) -> Vec<(u64, Arc<Line>)> {
        let lines = self.0.lock().expect("no panic while held");
        lines.iter().map(|(number, line)| (*number, line.clone())).collect()
    }
}

/// Runs as long as the engine.
pub async fn keep(core: Weak<Core>, limits: SubscriptionLimits) {
    // By number: where it was, and since when.
    let mut standing: BTreeMap<u64, (Epoch, Instant)> = BTreeMap::new();
    loop {
        tokio::time::sleep((limits.patience / 10).max(Duration::from_millis(10))).await;
        let Some(core) = core.upgrade() else { return };
        let lines = core.subscriptions.lines();
        standing.retain(|number, _| lines.iter().any(|(other, _)| other == number));
        for (number, line) in lines {
            let (seen, now) = (line.seen(), Instant::now());
            let since = standing.entry(number).or_insert((seen, now));
            if since.0 != seen {
                *since = (seen, now);
            }
            if since.1.elapsed() < limits.patience {
                continue;
            }
            if let Some(kept_rows) = line.end(&limits) {
                let name = core.catalog().get(line.relation).map(|relation| relation.name.clone());
                tracing::warn!(relation = name, kept_rows, "a subscription that takes nothing is ended");
            }
        }
    }
}
