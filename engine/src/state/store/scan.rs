//! Reading a relation's rows from its log, lazily and in the order in which they were logged.
//!
//! One-row epochs come out gathered into batches of some thousand rows, large chunks one by one, so memory
//! is bounded by a chunk and cost per row does not depend on how small the commits were. A scan holds no
//! lock and no snapshot between batches; it notices, by the chunks' offsets, when rows that it was to
//! return have been trimmed under it.

use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::sync::Arc;

use arrow::array::RecordBatch;

use super::chunk::{ChunkHead, Collector};
use super::frame;
use super::keys::{LogKey, log_key, log_range, parse_log_key};
use super::log::{at_chunk, name_chunk};
use super::rocks::Family;
use super::{Inner, Store};
use crate::catalog::RelationId;
use crate::delta::Delta;
use crate::error::{Error, Result};
use crate::time::Epoch;

/// A gathered batch ends at whichever comes first.
const GATHER_ROWS: usize = 8_192;
const GATHER_BYTES: usize = 4 << 20;

impl Store {
    /// The rows of a stream that the epochs after `after` through `through` appended. `projection` picks
    /// columns by index. Batches have the schema under which they were written.
    pub fn stream_rows(
        &self,
        relation: RelationId,
        after: Epoch,
        through: Epoch,
        projection: Option<Vec<usize>>,
    ) -> StreamRows {
        StreamRows { deltas: self.deltas(relation, after, through, projection), relation }
    }

    /// The same for any relation, with weights.
    pub fn deltas(&self, relation: RelationId, after: Epoch, through: Epoch, projection: Option<Vec<usize>>) -> Deltas {
        let (lower, upper) = log_range(relation, after, through);
        Deltas { inner: self.inner.clone(), lower, upper, projection, next_offset: None, ready: VecDeque::new() }
    }
}

/// See [`Store::stream_rows`].
pub struct StreamRows {
    deltas: Deltas,
    relation: RelationId,
}

impl Iterator for StreamRows {
    type Item = Result<RecordBatch>;
    fn next(&mut self) -> Option<Result<RecordBatch>> {
        Some(self.deltas.next()?.and_then(|delta| match delta.weights {
            None => Ok(delta.rows),
            Some(_) => Err(Error::internal(format!("relation {} is read as a stream but has weights", self.relation))),
        }))
    }
}

/// See [`Store::deltas`]. Ends after the first error.
pub struct Deltas {
    inner: Arc<Inner>,
    /// What is yet to be read.
    lower: LogKey,
    upper: LogKey,
    projection: Option<Vec<usize>>,
    /// Offset that the next chunk must have; unknown before the first.
    next_offset: Option<u64>,
    ready: VecDeque<Delta>,
}

impl Iterator for Deltas {
    type Item = Result<Delta>;
    fn next(&mut self) -> Option<Result<Delta>> {
        if self.ready.is_empty()
            && let Err(e) = self.read()
        {
            self.lower = self.upper;
            return Some(Err(e));
        }
        self.ready.pop_front().map(Ok)
    }
}

impl Deltas {
    /// Reads on until a batch is full; `ready` then holds it, and a large chunk that ended it.
    fn read(&mut self) -> Result<()> {
        let Deltas { inner, lower, upper, projection, next_offset, ready } = self;
        let (from, to) = (*lower, *upper);
        let mut collector: Option<Collector> = None;
        *lower = to;
        inner.db.scan(Family::Log, &from, &to, |key, value| {
            let chunk = ChunkHead::read(frame::open(key, value, || name_chunk(key))?)?;
            if next_offset.is_some_and(|expected| expected != chunk.offset) {
                let (relation, epoch, _) = parse_log_key(key);
                let gap = format!("rows of relation {relation} before epoch {epoch} were trimmed while they were read");
                return Err(Error::not_in_state(gap));
            }
            let fits = collector.as_ref().is_some_and(|c| c.schema_id() == chunk.schema_id);
            if !fits {
                let next = Collector::new(&inner.schemas, chunk.schema_id, projection.clone())?;
                if let Some(mut full) = collector.replace(next).filter(|c| !c.is_empty()) {
                    ready.push_back(full.take()?);
                }
            }
            let gathering = collector.as_mut().expect("made above");
            *next_offset = Some(chunk.offset + chunk.rows as u64);
            let mut full = !ready.is_empty();
            if Collector::takes(&chunk) {
                gathering.add(&chunk).map_err(at_chunk(key))?;
                full |= gathering.len() >= GATHER_ROWS || gathering.bytes() >= GATHER_BYTES;
            } else {
                if !gathering.is_empty() {
                    ready.push_back(gathering.take()?);
                }
                ready.push_back(gathering.read(&chunk).map_err(at_chunk(key))?);
                full = true;
            }
            if !full {
                return Ok(ControlFlow::Continue(()));
            }
            let (relation, epoch, part) = parse_log_key(key);
            *lower = log_key(relation, epoch, part + 1);
            Ok(ControlFlow::Break(()))
        })?;
        if let Some(mut rest) = collector.filter(|c| !c.is_empty()) {
            ready.push_back(rest.take()?);
        }
        Ok(())
    }
}
