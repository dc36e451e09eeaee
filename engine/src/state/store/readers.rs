//! Who reads streams, so that no rows go while they are read.
//!
//! A scan holds nothing of the log between its batches. What was kept when it began stays until it ends, or for
//! [`KEPT_MAX`]: a reader that takes longer finds out, and fails.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use super::{Inner, Store};
use crate::catalog::RelationId;
use crate::error::Result;
use crate::time::Epoch;

/// So long a reader, such as a transaction that is left open, keeps a stream from being trimmed.
const KEPT_MAX: Duration = Duration::from_secs(600);

struct Reader {
    relation: RelationId,
    after: Epoch,
    through: Epoch,
    since: Instant,
}

/// By number.
#[derive(Default)]
pub struct Readers(Mutex<BTreeMap<u64, Reader>>);

/// No reader comes or goes meanwhile.
pub struct Held<'a>(MutexGuard<'a, BTreeMap<u64, Reader>>);

impl Readers {
    pub fn hold(&self) -> Held<'_> {
        Held(self.0.lock().expect("no panic under this lock"))
    }
}

impl Held<'_> {
    /// The epoch through which nobody reads a relation any more.
    pub fn unread_through(&self, relation: RelationId) -> Epoch {
        let of_it = self.0.values().filter(|reader| reader.relation == relation && reader.since.elapsed() < KEPT_MAX);
        of_it.map(|reader| reader.after).min().unwrap_or(Epoch::MAX)
    }
    /// The oldest epoch as of which somebody reads a relation.
    pub fn read_through(&self, relation: RelationId) -> Option<Epoch> {
        let of_it = self.0.values().filter(|reader| reader.relation == relation && reader.since.elapsed() < KEPT_MAX);
        of_it.map(|reader| reader.through).min()
    }
}

/// Keeps a stream's rows for as long as it lives; cheap to clone.
#[derive(Clone)]
pub struct LogPin(Arc<Place>);

struct Place {
    inner: Arc<Inner>,
    number: u64,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.inner.log.readers.hold().0.remove(&self.number);
    }
}

impl fmt::Debug for LogPin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LogPin({})", self.0.number)
    }
}

impl Store {
    /// Keeps what there is of a stream as of epoch `through`: its rows after the epoch that is returned. `None`: rows that
    /// were there then have been taken out since.
    pub fn pin_log(&self, relation: RelationId, through: Epoch) -> Result<Option<(Epoch, LogPin)>> {
        // Under the lock that trimming holds while it decides.
        let mut held = self.inner.log.readers.hold();
        let gone = self.inner.gone(relation)?;
        if gone.compacted > through {
            return Ok(None);
        }
        let after = gone.trimmed;
        let number = held.0.last_key_value().map_or(1, |(number, _)| number + 1);
        held.0.insert(number, Reader { relation, after, through, since: Instant::now() });
        drop(held);
        Ok(Some((after, LogPin(Arc::new(Place { inner: self.inner.clone(), number })))))
    }
}
