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
    /// The rows of a stream that the epochs after `after` through `through` appended: all of them, or an error
    /// (55000) when some have been trimmed. `projection` picks columns by index. Batches have the schema under
    /// which they were written.
    pub fn stream_rows(
        &self,
        relation: RelationId,
        after: Epoch,
        through: Epoch,
        projection: Option<Vec<usize>>,
    ) -> StreamRows {
        StreamRows {
            deltas: self.deltas(relation, after, through, projection),
            relation,
            after,
            seen: after,
            failed: false,
        }
    }

    /// The same for any relation, with weights.
    pub fn deltas(&self, relation: RelationId, after: Epoch, through: Epoch, projection: Option<Vec<usize>>) -> Deltas {
        let (lower, upper) = log_range(relation, after, through);
        Deltas {
            inner: self.inner.clone(),
            lower,
            upper,
            through,
            projection,
            next_offset: None,
            ready: VecDeque::new(),
            places: VecDeque::new(),
            batches: 0,
        }
    }
}

/// See [`Store::stream_rows`].
pub struct StreamRows {
    deltas: Deltas,
    relation: RelationId,
    after: Epoch,
    /// The epoch of the last row given.
    seen: Epoch,
    failed: bool,
}

impl Iterator for StreamRows {
    type Item = Result<RecordBatch>;
    fn next(&mut self) -> Option<Result<RecordBatch>> {
        if self.failed {
            return None;
        }
        let read = self.deltas.next();
        self.failed = matches!(read, Some(Err(_)));
        // Read first, looked second: at the start and at the end. In between the chunks' offsets tell.
        if !self.failed && (self.deltas.batches <= 1 || read.is_none()) {
            let seen = if self.deltas.batches <= 1 { self.after } else { self.seen };
            if let Err(error) = self.whole(seen) {
                self.failed = true;
                return Some(Err(error));
            }
        }
        self.seen = self.deltas.places.front().and_then(|p| p.last()).map_or(self.seen, |place| place.epoch);
        Some(read?.and_then(|delta| match delta.weights {
            None => Ok(delta.rows),
            Some(_) => Err(Error::internal(format!("relation {} is read as a stream but has weights", self.relation))),
        }))
    }
}

impl StreamRows {
    /// Without the first `skip` rows.
    pub fn skipping_rows(self, mut skip: u64) -> impl Iterator<Item = Result<RecordBatch>> + Send {
        self.filter_map(move |batch| match batch {
            Ok(batch) if skip > 0 => {
                let gone = skip.min(batch.num_rows() as u64);
                skip -= gone;
                let rest = batch.num_rows() - gone as usize;
                (rest > 0).then(|| Ok(batch.slice(gone as usize, rest)))
            }
            other => Some(other),
        })
    }

    /// With each batch where its rows stand in the log.
    pub fn with_places(self) -> impl Iterator<Item = Result<(RecordBatch, Vec<Place>)>> {
        let mut rows = self;
        std::iter::from_fn(move || {
            let batch = rows.next()?;
            Some(batch.map(|batch| (batch, rows.deltas.places.pop_front().expect("each batch has its places"))))
        })
    }

    /// Nothing after `seen` that was to be read has been trimmed.
    fn whole(&self, seen: Epoch) -> Result<()> {
        let trimmed = self.deltas.inner.trimmed_through(self.relation)?;
        if trimmed.min(self.deltas.through) <= seen {
            return Ok(());
        }
        let what = format!("rows of relation {} through epoch {trimmed} have been trimmed", self.relation);
        Err(Error::not_in_state(what))
    }
}

/// A run of rows that one chunk holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    pub epoch: Epoch,
    /// Of the first row.
    pub offset: u64,
    pub rows: usize,
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
    /// Where the rows of each batch stand; of the batch given last too, until the next one is given.
    places: VecDeque<Vec<Place>>,
    through: Epoch,
    /// Batches given so far.
    batches: usize,
}

impl Iterator for Deltas {
    type Item = Result<Delta>;
    fn next(&mut self) -> Option<Result<Delta>> {
        if self.ready.is_empty()
            && let Err(e) = self.read()
        {
            self.end();
            return Some(Err(e));
        }
        while self.places.len() > self.ready.len() {
            self.places.pop_front();
        }
        self.batches += 1;
        self.ready.pop_front().map(Ok)
    }
}

impl Deltas {
    fn end(&mut self) {
        self.lower = self.upper;
        self.ready.clear();
    }

    /// Reads on until a batch is full; `ready` then holds it, and a large chunk that ended it.
    fn read(&mut self) -> Result<()> {
        let Deltas { inner, lower, upper, projection, next_offset, ready, places, .. } = self;
        let mut gathered: Vec<Place> = Vec::new();
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
                    places.push_back(std::mem::take(&mut gathered));
                }
            }
            let gathering = collector.as_mut().expect("made above");
            *next_offset = Some(chunk.offset + chunk.rows as u64);
            let mut full = !ready.is_empty();
            let place = Place { epoch: parse_log_key(key).1, offset: chunk.offset, rows: chunk.rows };
            if Collector::takes(&chunk) {
                gathering.add(&chunk).map_err(at_chunk(key))?;
                gathered.push(place);
                full |= gathering.len() >= GATHER_ROWS || gathering.bytes() >= GATHER_BYTES;
            } else {
                if !gathering.is_empty() {
                    ready.push_back(gathering.take()?);
                    places.push_back(std::mem::take(&mut gathered));
                }
                places.push_back(vec![place]);
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
            places.push_back(gathered);
        }
        Ok(())
    }
}
