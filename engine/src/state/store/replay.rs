//! Replay: the log's entries again, as they were appended.
//!
//! Headers are read some thousand at a time, then each relation's chunks of those epochs in one range
//! scan, so a million one-row epochs cost a few scans and not a million look-ups.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::ops::ControlFlow;
use std::sync::Arc;

use super::chunk::{ChunkHead, Collector};
use super::frame::{self, damaged};
use super::keys::{HEADERS, RELATION, log_range, meta_key, parse_log_key};
use super::log::{LogEntry, Positions, Record, at_chunk, name_chunk, read_record};
use super::rocks::Family;
use super::{Inner, Store};
use crate::catalog::RelationId;
use crate::delta::Delta;
use crate::error::Result;
use crate::time::Epoch;

/// A window ends at whichever comes first.
const WINDOW_EPOCHS: usize = 4_096;
const WINDOW_ROWS: u64 = 262_144;

impl Store {
    /// The entries after epoch `after`, in order. Those whose rows have been trimmed must not be among
    /// them; rows of relations dropped since are left out.
    pub fn replay(&self, after: Epoch) -> Replay {
        Replay { inner: self.inner.clone(), after, done: false, ready: VecDeque::new() }
    }
}

/// See [`Store::replay`]. Ends after the first error.
pub struct Replay {
    inner: Arc<Inner>,
    /// The last epoch read.
    after: Epoch,
    done: bool,
    ready: VecDeque<LogEntry>,
}

impl Iterator for Replay {
    type Item = Result<LogEntry>;
    fn next(&mut self) -> Option<Result<LogEntry>> {
        if self.ready.is_empty() && !self.done {
            match self.read_window() {
                Ok(window) => self.ready = window.into(),
                Err(e) => {
                    self.done = true;
                    return Some(Err(e));
                }
            }
            self.done = self.ready.is_empty();
        }
        self.ready.pop_front().map(Ok)
    }
}

impl Replay {
    fn read_window(&mut self) -> Result<Vec<LogEntry>> {
        let headers = self.read_headers()?;
        let (Some(first), Some(last)) = (headers.first(), headers.last()) else { return Ok(Vec::new()) };
        let (before, through) = (first.0.header.epoch - 1, last.0.header.epoch);
        let relations: BTreeSet<RelationId> =
            headers.iter().flat_map(|(record, _)| record.chunks.iter().map(|(relation, ..)| *relation)).collect();
        let mut found: HashMap<(Epoch, RelationId), Vec<Delta>> = HashMap::new();
        for relation in relations {
            self.read_chunks(relation, before, through, &mut found)?;
        }
        self.after = through;
        headers.into_iter().map(|(record, positions)| self.entry(record, positions, &mut found)).collect()
    }

    fn read_headers(&self) -> Result<Vec<(Record<'static>, Positions)>> {
        let (lower, upper) = log_range(HEADERS, self.after, Epoch::MAX);
        let mut headers = Vec::new();
        let mut rows = 0;
        self.inner.db.scan(Family::Log, &lower, &upper, |key, value| {
            let header = read_record(key, value)?;
            rows += header.0.chunks.iter().map(|(_, _, rows)| rows).sum::<u64>();
            headers.push(header);
            Ok(match headers.len() >= WINDOW_EPOCHS || rows >= WINDOW_ROWS {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            })
        })?;
        Ok(headers)
    }

    fn read_chunks(
        &self,
        relation: RelationId,
        after: Epoch,
        through: Epoch,
        found: &mut HashMap<(Epoch, RelationId), Vec<Delta>>,
    ) -> Result<()> {
        let (lower, upper) = log_range(relation, after, through);
        let mut reader: Option<Collector> = None;
        let shape = self.inner.shape(relation);
        self.inner.db.scan(Family::Log, &lower, &upper, |key, value| {
            let head = ChunkHead::read(frame::open(key, value, || name_chunk(key))?)?;
            if reader.as_ref().is_none_or(|r| r.schema_id() != head.schema_id) {
                reader = Some(Collector::of(&self.inner.schemas, shape.as_ref(), head.schema_id, None)?);
            }
            let delta = reader.as_mut().expect("made above").decode(&head).map_err(at_chunk(key))?;
            found.entry((parse_log_key(key).1, relation)).or_default().push(delta);
            Ok(ControlFlow::Continue(()))
        })
    }

    fn entry(
        &self,
        record: Record<'static>,
        positions: Positions,
        found: &mut HashMap<(Epoch, RelationId), Vec<Delta>>,
    ) -> Result<LogEntry> {
        let epoch = record.header.epoch;
        let mut changes = Vec::with_capacity(record.chunks.len());
        for (relation, chunks, rows) in &record.chunks {
            let deltas = found.remove(&(epoch, *relation)).unwrap_or_default();
            let whole = deltas.len() == *chunks as usize && deltas.iter().map(|d| d.len() as u64).sum::<u64>() == *rows;
            if whole {
                changes.push((*relation, deltas));
            } else if self.inner.db.get(Family::Meta, &meta_key(RELATION, &relation.to_be_bytes()))?.is_some() {
                let fault = format!("{} of its {chunks} chunks are there", deltas.len());
                return Err(damaged(format!("epoch {epoch} of relation {relation}"), fault));
            }
        }
        Ok(LogEntry { header: record.header.into_owned(), changes, positions, catalog: record.catalog.into_owned() })
    }
}
