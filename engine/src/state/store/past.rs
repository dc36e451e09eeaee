//! Places in the log: by time, by offset and by size. All of them are found by seeking, a few dozen times at
//! most, however long the log is.
//!
//! ```text
//!   headers   epoch 3 12:00:01 │ epoch 7 12:00:05 │ epoch 8 12:00:05     epoch_at(12:00:04) = 3
//!   a stream  epoch 3 offset 0 │ epoch 8 offset 40                       place_of_offset(45) = after 7, skip 5
//! ```
//!
//! Headers of epochs whose rows are all gone go as well ([`Store::prune_headers`]), so a time is exact wherever
//! there is something to be read as of it.

use std::ops::ControlFlow;

use super::Store;
use super::chunk::ChunkHead;
use super::faults::Write;
use super::frame;
use super::keys::{HEADERS, log_key, log_range, parse_log_key};
use super::log::{name_chunk, read_record};
use super::rocks::Family;
use crate::catalog::{RelationId, StreamStart};
use crate::error::Result;
use crate::time::{Epoch, EpochHeader};

/// Deletions that go into one batch.
const PRUNE_BATCH: usize = 8192;

impl Store {
    /// The epoch through which a relation's log has been trimmed; 0 when it never was.
    pub fn trimmed_through(&self, relation: RelationId) -> Result<Epoch> {
        self.inner.trimmed_through(relation)
    }

    /// Rows that were trimmed while someone read them are still there.
    pub fn has_rows_to_delete(&self, relation: RelationId) -> Result<bool> {
        Ok(self.inner.deleted_through(relation)? < self.trimmed_through(relation)?)
    }

    /// The first header of epoch `from` or later.
    fn header_from(&self, from: Epoch) -> Result<Option<EpochHeader>> {
        let (lower, upper) = log_range(HEADERS, from.saturating_sub(1), Epoch::MAX);
        let mut found = None;
        self.inner.db.scan(Family::Log, &lower, &upper, |key, value| {
            found = Some(read_record(key, value)?.0.header.into_owned());
            Ok(ControlFlow::Break(()))
        })?;
        Ok(found)
    }

    /// The oldest header that is kept.
    pub fn first_header(&self) -> Result<Option<EpochHeader>> {
        self.header_from(0)
    }

    /// The last epoch that was committed at `time_us` or before; `None` when the oldest header is later.
    pub fn epoch_at(&self, time_us: i64) -> Result<Option<EpochHeader>> {
        let Some(mut found) = self.first_header()?.filter(|first| first.now_us <= time_us) else { return Ok(None) };
        let mut high = self.last_epoch();
        while found.epoch < high {
            let middle = found.epoch + (high - found.epoch).div_ceil(2);
            match self.header_from(middle)? {
                Some(header) if header.now_us <= time_us => found = header,
                _ => high = middle - 1,
            }
        }
        Ok(Some(found))
    }

    /// The headers of these epochs, which rise; of those that are kept.
    pub fn headers(&self, epochs: &[Epoch]) -> Result<Vec<EpochHeader>> {
        let (Some(first), Some(last)) = (epochs.first(), epochs.last()) else { return Ok(vec![]) };
        let (lower, upper) = log_range(HEADERS, first.saturating_sub(1), *last);
        let mut found = Vec::with_capacity(epochs.len());
        self.inner.db.scan(Family::Log, &lower, &upper, |key, value| {
            if epochs.binary_search(&parse_log_key(key).1).is_ok() {
                found.push(read_record(key, value)?.0.header.into_owned());
            }
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(found)
    }

    /// The epoch of the oldest row that is kept.
    pub fn first_epoch(&self, relation: RelationId) -> Result<Option<Epoch>> {
        Ok(self.row_from(relation, 0)?.map(|(epoch, _)| epoch))
    }

    /// Epoch and offset of the first row of `relation` in epoch `from` or later.
    pub(super) fn row_from(&self, relation: RelationId, from: Epoch) -> Result<Option<(Epoch, u64)>> {
        let after = from.saturating_sub(1).max(self.trimmed_through(relation)?);
        let (lower, upper) = log_range(relation, after, Epoch::MAX);
        let mut found = None;
        self.inner.db.scan(Family::Log, &lower, &upper, |key, value| {
            let head = ChunkHead::read(frame::open(key, value, || name_chunk(key))?)?;
            found = Some((parse_log_key(key).1, head.offset));
            Ok(ControlFlow::Break(()))
        })?;
        Ok(found)
    }

    /// Offset of the oldest row that is kept; the next one's when there is none.
    pub fn stream_first(&self, relation: RelationId) -> Result<u64> {
        self.offset_after(relation, 0)
    }

    /// The same of the epochs after `after`.
    pub fn offset_after(&self, relation: RelationId, after: Epoch) -> Result<u64> {
        match self.row_from(relation, after.saturating_add(1))? {
            Some((_, offset)) => Ok(offset),
            None => self.stream_end(relation),
        }
    }

    /// The offset of the first row that is taken in from `start` on, or a lower one.
    pub fn first_offset(&self, relation: RelationId, start: StreamStart) -> Result<u64> {
        match start.skip {
            0 => Ok(start.offset),
            skip => Ok(self.offset_after(relation, start.after)? + skip),
        }
    }

    /// Whether a relation has rows of an epoch.
    pub fn has_rows_of(&self, relation: RelationId, epoch: Epoch) -> Result<bool> {
        Ok(self.row_from(relation, epoch)?.is_some_and(|(found, _)| found == epoch))
    }

    /// Where the row of an offset stands: `(after, skip)` says that it is the one after `skip` rows of the epochs
    /// after `after`. An offset that is not kept any more stands where the oldest row does.
    pub fn place_of_offset(&self, relation: RelationId, offset: u64) -> Result<(Epoch, u64)> {
        let Some((mut epoch, mut first)) = self.row_from(relation, 0)? else { return Ok((self.last_epoch(), 0)) };
        let mut high = self.last_epoch();
        while epoch < high {
            let middle = epoch + (high - epoch).div_ceil(2);
            match self.row_from(relation, middle)? {
                Some((found, at)) if at <= offset => (epoch, first) = (found, at),
                _ => high = middle - 1,
            }
        }
        Ok((epoch - 1, offset.saturating_sub(first)))
    }

    /// About how many bytes of table files a relation's rows after epoch `after` take; what is still in a write
    /// buffer counts nothing.
    pub fn log_bytes(&self, relation: RelationId, after: Epoch) -> u64 {
        let (lower, upper) = log_range(relation, after, Epoch::MAX);
        self.inner.db.range_bytes(Family::Log, &lower, &upper)
    }

    /// The epoch through which a relation's log must be trimmed so that what stays takes about `bytes`.
    pub fn through_for_bytes(&self, relation: RelationId, bytes: u64) -> Epoch {
        if self.log_bytes(relation, 0) <= bytes {
            return 0;
        }
        let (mut low, mut high) = (0, self.last_epoch());
        while low < high {
            let middle = low + (high - low) / 2;
            if self.log_bytes(relation, middle) <= bytes { high = middle } else { low = middle + 1 }
        }
        low
    }

    /// Deletes the headers after epoch `after` through `through` for which `keep` says no; never the last one.
    pub fn prune_headers(
        &self,
        after: Epoch,
        through: Epoch,
        keep: impl Fn(&EpochHeader) -> Result<bool>,
    ) -> Result<()> {
        let db = &self.inner.db;
        let mut doomed: Vec<Epoch> = Vec::new();
        let (lower, upper) = log_range(HEADERS, after, through.min(self.last_epoch().saturating_sub(1)));
        db.scan(Family::Log, &lower, &upper, |key, value| {
            let header = read_record(key, value)?.0.header.into_owned();
            if !keep(&header)? {
                doomed.push(header.epoch);
            }
            Ok(ControlFlow::Continue(()))
        })?;
        for epochs in doomed.chunks(PRUNE_BATCH) {
            let mut batch = db.batch();
            epochs.iter().for_each(|epoch| batch.delete(Family::Log, &log_key(HEADERS, *epoch, 0)));
            db.write(Write::Delete, batch, false)?;
        }
        Ok(())
    }
}
