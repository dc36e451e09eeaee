//! Reading a relation's rows from its log, lazily and in the order in which they were logged.
//!
//! One-row epochs come out gathered into batches of some thousand rows, large chunks one by one, so memory
//! is bounded by a chunk and cost per row does not depend on how small the commits were. A scan holds no
//! lock and no snapshot between batches; it notices, by the chunks' offsets, when rows that it was to
//! return have been trimmed under it. Of rows that are superseded ([`super::compact`]) those are returned that are
//! still there when it comes to them.

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
    /// The rows of a stream that the epochs after `after` through `through` appended: all of them, but for those that
    /// have been taken out as superseded, or an error (55000) when some have been trimmed. `projection` picks columns by index. Batches have the schema under
    /// which they were written; of a stream that has got columns since, all that it has now (`shapes.rs`).
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
            follows: false,
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
            dealing: None,
            next_offset: None,
            last_epoch: after,
            ready: VecDeque::new(),
            places: VecDeque::new(),
            batches: 0,
        }
    }
}

/// Is it known why rows are missing between `seen`, the epoch of the row before, and those of `epoch`?
fn are_superseded(inner: &Inner, relation: RelationId, seen: Epoch, epoch: Epoch) -> Result<bool> {
    Ok(epoch <= inner.gone(relation)?.compacted && inner.deleted_through(relation)? <= seen)
}

/// See [`Store::stream_rows`].
pub struct StreamRows {
    deltas: Deltas,
    relation: RelationId,
    after: Epoch,
    follows: bool,
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
            let seen = if self.deltas.batches <= 1 { self.after } else { self.deltas.last_epoch };
            if let Err(error) = self.whole(seen) {
                self.failed = true;
                return Some(Err(error));
            }
        }
        Some(read?.and_then(|delta| match delta.weights {
            None => Ok(delta.rows),
            Some(_) => Err(Error::internal(format!("relation {} is read as a stream but has weights", self.relation))),
        }))
    }
}

impl StreamRows {
    /// For a reader who takes what comes later next: what that supersedes may be missing already.
    pub fn following(self) -> StreamRows {
        StreamRows { follows: true, ..self }
    }

    /// Only what is dealt to reader `own` of `readers`. Together they give each row once, provided that all read the same
    /// epochs: a chunk goes to whoever has been dealt the fewest rows, and only that reader decodes it.
    pub fn dealt(mut self, own: usize, readers: usize) -> StreamRows {
        assert!(own < readers, "readers are counted from 0");
        self.deltas.dealing = (readers > 1).then(|| Dealing { own, rows: vec![0; readers] });
        self
    }

    /// Those of offset `first` and later.
    pub fn from_offset(self, first: u64) -> impl Iterator<Item = Result<RecordBatch>> + Send {
        self.with_places().filter_map(move |batch| match batch {
            Ok((batch, places)) => {
                let before = |place: &Place| first.saturating_sub(place.offset).min(place.rows as u64) as usize;
                let gone = if first == 0 { 0 } else { places.iter().map(before).sum() };
                let rest = batch.num_rows() - gone;
                (rest > 0).then(|| Ok(batch.slice(gone, rest)))
            }
            Err(error) => Some(Err(error)),
        })
    }

    /// With each batch where its rows stand in the log.
    pub fn with_places(self) -> impl Iterator<Item = Result<(RecordBatch, Vec<Place>)>> + Send {
        let mut rows = self;
        std::iter::from_fn(move || {
            let batch = rows.next()?;
            Some(batch.map(|batch| (batch, rows.deltas.places.pop_front().expect("each batch has its places"))))
        })
    }

    /// Nothing after `seen` that was to be read has been trimmed, or superseded by what is not read.
    fn whole(&self, seen: Epoch) -> Result<()> {
        let (inner, through) = (&self.deltas.inner, self.deltas.through);
        let (compacted, deleted) = (inner.gone(self.relation)?.compacted, inner.deleted_through(self.relation)?);
        let (epoch, what) = match deleted.min(through) <= seen {
            true if self.follows || compacted <= through => return Ok(()),
            true => (compacted, "superseded, and taken out"),
            false => (deleted, "trimmed"),
        };
        Err(Error::not_in_state(format!("rows of relation {} through epoch {epoch} have been {what}", self.relation)))
    }
}

/// Rows of one chunk that follow one another in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    pub epoch: Epoch,
    /// Of the first row.
    pub offset: u64,
    pub rows: usize,
}

/// Who of several readers has which chunk.
struct Dealing {
    own: usize,
    /// What each has been dealt.
    rows: Vec<usize>,
}

impl Dealing {
    /// Whether the next chunk, of so many rows, is the own one.
    fn deal(&mut self, rows: usize) -> bool {
        let to = (0..self.rows.len()).min_by_key(|&reader| self.rows[reader]).expect("there are readers");
        self.rows[to] += rows;
        to == self.own
    }
}

/// See [`Store::deltas`]. Ends after the first error.
pub struct Deltas {
    inner: Arc<Inner>,
    /// What is yet to be read.
    lower: LogKey,
    upper: LogKey,
    projection: Option<Vec<usize>>,
    dealing: Option<Dealing>,
    /// Offset that the next chunk must have; unknown before the first.
    next_offset: Option<u64>,
    /// Epoch of the chunk before.
    last_epoch: Epoch,
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
        let Deltas { inner, lower, upper, projection, dealing, next_offset, last_epoch, ready, places, .. } = self;
        let mut gathered: Vec<Place> = Vec::new();
        let (from, to) = (*lower, *upper);
        let mut collector: Option<Collector> = None;
        *lower = to;
        inner.db.scan(Family::Log, &from, &to, |key, value| {
            let chunk = ChunkHead::read(frame::open(key, value, || name_chunk(key))?)?;
            let (relation, epoch, part) = parse_log_key(key);
            if next_offset.is_some_and(|expected| expected != chunk.offset)
                && !are_superseded(inner, relation, *last_epoch, epoch)?
            {
                let gap = format!("rows of relation {relation} before epoch {epoch} were trimmed while they were read");
                return Err(Error::not_in_state(gap));
            }
            *next_offset = Some(chunk.end());
            *last_epoch = epoch;
            if dealing.as_mut().is_some_and(|dealing| !dealing.deal(chunk.rows)) {
                return Ok(ControlFlow::Continue(()));
            }
            let fits = collector.as_ref().is_some_and(|c| c.schema_id() == chunk.schema_id);
            if !fits {
                let shape = inner.shape(relation);
                let next = Collector::of(&inner.schemas, shape.as_ref(), chunk.schema_id, projection.clone())?;
                if let Some(mut full) = collector.replace(next).filter(|c| !c.is_empty()) {
                    ready.push_back(full.take()?);
                    places.push_back(std::mem::take(&mut gathered));
                }
            }
            let gathering = collector.as_mut().expect("made above");
            let mut full = !ready.is_empty();
            let places_of = chunk.runs().into_iter().map(|(offset, rows)| Place { epoch, offset, rows: rows as usize });
            if Collector::takes(&chunk) {
                gathering.add(&chunk).map_err(at_chunk(key))?;
                gathered.extend(places_of);
                full |= gathering.len() >= GATHER_ROWS || gathering.bytes() >= GATHER_BYTES;
            } else {
                if !gathering.is_empty() {
                    ready.push_back(gathering.take()?);
                    places.push_back(std::mem::take(&mut gathered));
                }
                places.push_back(places_of.collect());
                ready.push_back(gathering.read(&chunk).map_err(at_chunk(key))?);
                full = true;
            }
            if !full {
                return Ok(ControlFlow::Continue(()));
            }
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
