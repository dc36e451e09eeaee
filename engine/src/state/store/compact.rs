//! Taking rows out of a stream's log that later rows have superseded.
//!
//! ```text
//!   epoch     3: (a,1) (b,1) (a,2)      7: (a,3)      8: (c,1)        before
//!   epoch     3:       (b,1)            7: (a,3)      8: (c,1)        after: offset 1, 3 and 4
//! ```
//!
//! Rows keep their epochs and offsets; a chunk of which nothing is left goes, one of which some is left is written
//! anew under its key. What stands in the note of what is gone ([`Gone`]) is durable before the first row goes, so
//! readers know that gaps through that epoch are meant. It is done in steps of some megabytes: between two of them
//! everything else goes on, and after a crash what has not been done yet simply is still there.

use std::ops::ControlFlow;

use arrow::array::{BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;

use super::Store;
use super::chunk::{self, ChunkHead, Collector, Run};
use super::faults::Write;
use super::frame;
use super::keys::{LogKey, RELATION, log_key, log_range, meta_key, parse_log_key};
use super::log::{Gone, at_chunk, name_chunk};
use super::rocks::Family;
use crate::catalog::RelationId;
use crate::delta::Delta;
use crate::error::Result;
use crate::time::Epoch;

/// A step ends after so many bytes, as they are stored …
const STEP_BYTES: usize = 4 << 20;
/// … or so many chunks, which may be of a row each.
const STEP_CHUNKS: usize = 16_384;

/// How far the rows of a stream have been looked through.
#[derive(Debug, Clone, Copy)]
pub struct Cursor {
    lower: LogKey,
    upper: LogKey,
    /// So many have stayed.
    pub kept_rows: u64,
    /// So many have gone.
    pub gone_rows: u64,
}

impl Store {
    /// What is no longer there of a relation's log.
    pub fn gone(&self, relation: RelationId) -> Result<Gone> {
        self.inner.gone(relation)
    }

    /// Rows logged after epoch `after` through `through`, those that are gone by now included.
    pub fn rows_between(&self, relation: RelationId, after: Epoch, through: Epoch) -> Result<u64> {
        Ok(self.offset_after(relation, through)?.saturating_sub(self.offset_after(relation, after)?))
    }

    /// From now on rows through `through` may go. `None`: the stream is read as of an earlier epoch.
    pub fn begin_compaction(&self, relation: RelationId, through: Epoch) -> Result<Option<Cursor>> {
        let inner = &self.inner;
        let _trimming = inner.log.trimming.lock().expect("no panic under this lock");
        let readers = inner.log.readers.hold();
        if readers.read_through(relation).is_some_and(|epoch| epoch < through) {
            return Ok(None);
        }
        let gone = inner.gone(relation)?;
        let begun = Gone { compacted: through.max(gone.compacted), compactions: gone.compactions + 1, ..gone };
        let mut batch = inner.db.batch();
        inner.note_gone(&mut batch, relation, begun)?;
        drop(readers);
        inner.db.write(Write::Delete, batch, inner.sync)?;
        let (lower, upper) = log_range(relation, gone.trimmed, through);
        Ok(Some(Cursor { lower, upper, kept_rows: 0, gone_rows: 0 }))
    }

    /// Looks some more rows through and takes out those for which `stays` says no, given rows and where they stand.
    /// Whether there are more.
    pub fn compact_step(
        &self,
        cursor: &mut Cursor,
        mut stays: impl FnMut(&RecordBatch, &[Run]) -> BooleanArray,
    ) -> Result<bool> {
        let inner = &self.inner;
        let _trimming = inner.log.trimming.lock().expect("no panic under this lock");
        let (relation, ..) = parse_log_key(&cursor.lower);
        if inner.db.get(Family::Meta, &meta_key(RELATION, &relation.to_be_bytes()))?.is_none() {
            return Ok(false);
        }
        // What has been trimmed meanwhile must not come back.
        let from = cursor.lower.max(log_key(relation, inner.gone(relation)?.trimmed + 1, 0));
        let mut batch = inner.db.batch();
        let (mut bytes, mut chunks) = (0, 0);
        let mut more = false;
        inner.db.scan(Family::Log, &from.min(cursor.upper), &cursor.upper, |key, value| {
            let head = ChunkHead::read(frame::open(key, value, || name_chunk(key))?)?;
            let stored = inner.schemas.get(head.schema_id)?;
            let delta = Collector::new(&inner.schemas, head.schema_id, None)?.decode(&head).map_err(at_chunk(key))?;
            let runs = head.runs();
            let mask = stays(&delta.rows, &runs);
            let kept = mask.true_count();
            if kept == 0 {
                batch.delete(Family::Log, key);
            } else if kept < delta.len() {
                let rows = filter_record_batch(&delta.rows, &mask).expect("mask is as long as the rows");
                let runs = runs_left(&runs, &mask);
                batch.put(Family::Log, key, &chunk::encode_runs(&stored, &Delta::inserts(rows), &runs)?.seal(key));
            }
            cursor.kept_rows += kept as u64;
            cursor.gone_rows += (delta.len() - kept) as u64;
            (bytes, chunks) = (bytes + value.len(), chunks + 1);
            let (_, epoch, part) = parse_log_key(key);
            cursor.lower = log_key(relation, epoch, part + 1);
            more = bytes >= STEP_BYTES || chunks >= STEP_CHUNKS;
            Ok(if more { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
        })?;
        // Not synced: the log's next sync takes it along, and until then nothing depends on it.
        inner.db.write(Write::Delete, batch, false)?;
        Ok(more)
    }

    /// All that was superseded through `through` is gone.
    pub fn end_compaction(&self, relation: RelationId, through: Epoch, kept_rows: u64) -> Result<()> {
        let inner = &self.inner;
        let _trimming = inner.log.trimming.lock().expect("no panic under this lock");
        let cleaned = Gone { cleaned: through, kept_rows, ..inner.gone(relation)? };
        let mut batch = inner.db.batch();
        inner.note_gone(&mut batch, relation, cleaned)?;
        inner.db.write(Write::Delete, batch, false)
    }
}

/// Where the rows stand that stay.
fn runs_left(runs: &[Run], stays: &BooleanArray) -> Vec<Run> {
    let mut left: Vec<Run> = Vec::new();
    let offsets = runs.iter().flat_map(|&(first, rows)| first..first + rows);
    for (offset, _) in offsets.zip(stays.values()).filter(|(_, stays)| *stays) {
        match left.last_mut() {
            Some((first, rows)) if *first + *rows == offset => *rows += 1,
            _ => left.push((offset, 1)),
        }
    }
    left
}
