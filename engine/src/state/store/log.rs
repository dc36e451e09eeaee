//! The log: one entry per epoch, written in one atomic batch with one sync.
//!
//! ```text
//!   (0, 7, 0)      {"header":{"epoch":7,"now_us":…,"touched":[16384]},"chunks":[[16384,1,2]]}  + positions
//!   (16384, 7, 0)  chunk: rows 40 and 41 of relation 16384
//! ```
//!
//! The header counts the chunks of each relation, so replay notices a missing one. Epochs only rise. An
//! entry is either there whole or not at all, also after a crash in the middle of the write.

use std::borrow::Cow;
use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, RwLock};

use arrow::datatypes::SchemaRef;
use serde::{Deserialize, Serialize};

use super::catalog::{self, CatalogChange};
use super::chunk::{self, ChunkHead};
use super::faults::Write;
use super::frame::{self, Frame, Reader, damaged, put_varint};
use super::keys::{DROPPED, HEADERS, LOG_END, log_key, log_range, meta_key, meta_range, parse_log_key, u32_at};
use super::readers::Readers;
use super::rocks::{Batch, Db, Family};
use super::schemas::StoredSchema;
use super::{Inner, Store};
use crate::catalog::RelationId;
use crate::delta::Delta;
use crate::error::{Error, Result};
use crate::time::{Epoch, EpochHeader};

/// All that one epoch makes durable.
#[derive(Debug, Clone)]
pub struct LogEntry {
    /// Its `touched` names at least the relations in `changes`.
    pub header: EpochHeader,
    /// Each relation once.
    pub changes: Vec<(RelationId, Vec<Delta>)>,
    /// How far each source connector has been read, in its own words.
    pub positions: Vec<(RelationId, Vec<u8>)>,
    pub catalog: Vec<CatalogChange>,
}

/// The header's value, positions aside.
#[derive(Serialize, Deserialize)]
pub(super) struct Record<'a> {
    pub header: Cow<'a, EpochHeader>,
    /// Relation, chunks, rows.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub chunks: Vec<(RelationId, u32, u64)>,
    #[serde(default, skip_serializing_if = "<[_]>::is_empty")]
    pub catalog: Cow<'a, [CatalogChange]>,
}

pub(super) struct LogState {
    tail: RwLock<Tail>,
    /// Held while an entry is written: there is one writer at a time.
    writer: Mutex<Writer>,
    /// What is gone of each relation's log, of those asked for so far.
    gone: RwLock<HashMap<RelationId, Gone>>,
    /// Through which epoch rows that are trimmed have really been deleted: those that someone reads stay for a while.
    /// Raised before the rows go, so that a reader who has read and then looks here knows whether it read all.
    deleted: RwLock<HashMap<RelationId, Epoch>>,
    /// Held while rows are deleted.
    pub trimming: Mutex<()>,
    /// Who keeps streams from being trimmed.
    pub readers: Readers,
}

/// What is no longer there of a relation's log.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Gone {
    /// All rows through this epoch. Nobody begins to read them any more.
    pub trimmed: Epoch,
    /// Rows through this epoch that have been superseded: those that have been taken out already.
    pub compacted: Epoch,
    /// How often it has been begun to take rows out.
    pub compactions: u64,
    /// Through this epoch all that were superseded by then have been taken out …
    pub cleaned: Epoch,
    /// … which left so many.
    pub kept_rows: u64,
}

struct Tail {
    last_epoch: Epoch,
    /// Rows ever logged, of the relations asked for so far.
    ends: HashMap<RelationId, u64>,
}

#[derive(Default)]
struct Writer {
    /// The schema that a relation's last rows had, to save comparing it again.
    schemas: HashMap<RelationId, (SchemaRef, Arc<StoredSchema>)>,
}

impl LogState {
    pub fn load(db: &Db) -> Result<LogState> {
        let (lower, upper) = log_range(HEADERS, 0, Epoch::MAX);
        let last_epoch = db.last(Family::Log, &lower, &upper)?.map_or(0, |(key, _)| parse_log_key(&key).1);
        Ok(LogState {
            tail: RwLock::new(Tail { last_epoch, ends: HashMap::new() }),
            writer: Mutex::default(),
            gone: RwLock::default(),
            deleted: RwLock::default(),
            trimming: Mutex::default(),
            readers: Readers::default(),
        })
    }
    pub fn last_epoch(&self) -> Epoch {
        self.tail.read().expect("no panic under this lock").last_epoch
    }
}

impl Store {
    /// Makes one epoch durable: when this returns it is synced (unless the store was opened without).
    /// An `Err` with [`Store::failure`] unset refuses the entry, and nothing was written (0A000: types
    /// that cannot be stored). With it set the write or its sync failed: stop, and recover from the log.
    pub fn append(&self, entry: &LogEntry) -> Result<()> {
        self.append_all(std::slice::from_ref(entry))
    }

    /// Several epochs with one write and one sync; all or none.
    pub fn append_all(&self, entries: &[LogEntry]) -> Result<()> {
        self.inner.append(entries)
    }

    /// 0 when nothing was ever logged.
    pub fn last_epoch(&self) -> Epoch {
        self.inner.log.last_epoch()
    }

    pub fn last_header(&self) -> Result<Option<EpochHeader>> {
        match self.last_epoch() {
            0 => Ok(None),
            epoch => Ok(self.header(epoch)?),
        }
    }

    /// `None` when there is no such epoch, or its header has been trimmed.
    pub fn header(&self, epoch: Epoch) -> Result<Option<EpochHeader>> {
        let key = log_key(HEADERS, epoch, 0);
        let Some(value) = self.inner.db.get(Family::Log, &key)? else { return Ok(None) };
        Ok(Some(read_record(&key, &value)?.0.header.into_owned()))
    }

    /// Rows ever logged for `relation`, which is the offset of the next one. 0 for an unknown relation.
    pub fn stream_end(&self, relation: RelationId) -> Result<u64> {
        self.inner.log_end(relation)
    }

    /// Deletes a relation's rows through epoch `through`: those of a table that a checkpoint holds, those
    /// of a stream past its retention. Offsets go on.
    pub fn trim(&self, relation: RelationId, through: Epoch) -> Result<()> {
        self.trim_all(&[(relation, through)])
    }

    /// The same for several relations, with one sync. What is being read stays, for a while ([`super::readers`]).
    pub fn trim_all(&self, relations: &[(RelationId, Epoch)]) -> Result<()> {
        self.inner.trim(relations)
    }

    /// Deletes all rows of a relation that was dropped by a [`CatalogChange::Drop`], once no one reads them.
    /// If it is never called, [`Store::collect_garbage`] does it at the next start.
    pub fn drop_relation_log(&self, relation: RelationId) -> Result<()> {
        self.inner.drop_relation_log(relation)
    }

    /// At recovery: forgets the epochs after `epoch` as if they had never been (a commit of several epochs
    /// whose last one is missing). They must not have changed the catalog.
    pub fn discard_after(&self, epoch: Epoch) -> Result<()> {
        self.inner.discard_after(epoch)
    }
}

impl Inner {
    fn append(&self, entries: &[LogEntry]) -> Result<()> {
        let mut writer = self.log.writer.lock().expect("no panic under this lock");
        let mut batch = self.db.batch();
        let mut ends: HashMap<RelationId, u64> = HashMap::new();
        let mut last_epoch = self.log.last_epoch();
        for entry in entries {
            assert!(entry.header.epoch > last_epoch, "epoch {} after {last_epoch}", entry.header.epoch);
            last_epoch = entry.header.epoch;
            self.stage(&mut writer, &mut batch, &mut ends, entry)?;
        }
        self.db.write(Write::Append, batch, self.sync)?;
        let mut tail = self.log.tail.write().expect("no panic under this lock");
        tail.last_epoch = last_epoch;
        tail.ends.extend(ends);
        drop(tail);
        if self.sync && !entries.is_empty() {
            self.directory.acknowledge(last_epoch);
        }
        Ok(())
    }

    fn stage(
        &self,
        writer: &mut Writer,
        batch: &mut Batch<'_>,
        ends: &mut HashMap<RelationId, u64>,
        entry: &LogEntry,
    ) -> Result<()> {
        let epoch = entry.header.epoch;
        let mut chunks: Vec<(RelationId, u32, u64)> = Vec::with_capacity(entry.changes.len());
        for (relation, deltas) in &entry.changes {
            assert!(entry.header.touched.contains(relation), "epoch {epoch} changes {relation} but does not say so");
            assert!(chunks.iter().all(|(r, ..)| r != relation), "epoch {epoch} names relation {relation} twice");
            let start = match ends.get(relation) {
                Some(end) => *end,
                None => self.log_end(*relation)?,
            };
            let mut offset = start;
            let mut part = 0;
            for delta in chunk::coalesce(deltas)? {
                let stored = self.stored_schema(writer, *relation, &delta.schema())?;
                for piece in chunk::split(&delta) {
                    let key = log_key(*relation, epoch, part);
                    batch.put(Family::Log, &key, &chunk::encode(&stored, &piece, offset)?.seal(&key));
                    part += 1;
                    offset += piece.len() as u64;
                }
            }
            if part > 0 {
                chunks.push((*relation, part, offset - start));
                ends.insert(*relation, offset);
            }
        }
        let key = log_key(HEADERS, epoch, 0);
        let record = Record { header: Cow::Borrowed(&entry.header), chunks, catalog: Cow::Borrowed(&entry.catalog) };
        batch.put(Family::Log, &key, &write_record(&record, &entry.positions).seal(&key));
        entry.catalog.iter().for_each(|change| catalog::stage(batch, change));
        Ok(())
    }

    fn stored_schema(
        &self,
        writer: &mut Writer,
        relation: RelationId,
        schema: &SchemaRef,
    ) -> Result<Arc<StoredSchema>> {
        if let Some((last, stored)) = writer.schemas.get(&relation)
            && Arc::ptr_eq(last, schema)
        {
            return Ok(stored.clone());
        }
        let stored = self.schemas.intern(&self.db, schema)?;
        writer.schemas.insert(relation, (schema.clone(), stored.clone()));
        Ok(stored)
    }

    fn log_end(&self, relation: RelationId) -> Result<u64> {
        if let Some(end) = self.log.tail.read().expect("no panic under this lock").ends.get(&relation) {
            return Ok(*end);
        }
        let (lower, upper) = log_range(relation, 0, Epoch::MAX);
        let logged = match self.db.last(Family::Log, &lower, &upper)? {
            None => 0,
            Some((key, value)) => {
                let head = ChunkHead::read(frame::open(&key, &value, || name_chunk(&key))?)?;
                head.end()
            }
        };
        let trimmed = self.read_gone(relation)?.0;
        // An append may have published a later end meanwhile: keep that.
        let mut tail = self.log.tail.write().expect("no panic under this lock");
        Ok(*tail.ends.entry(relation).or_insert(logged.max(trimmed)))
    }

    /// What is noted when rows of a relation's log go: its end, and what is gone.
    fn read_gone(&self, relation: RelationId) -> Result<(u64, Gone)> {
        let key = meta_key(LOG_END, &relation.to_be_bytes());
        let Some(value) = self.db.get(Family::Meta, &key)? else { return Ok((0, Gone::default())) };
        let mut note = Reader::new(frame::open(&key, &value, || format!("the end of relation {relation}'s log"))?);
        let end = note.varint()?;
        // Earlier versions noted less: of tables nothing more, of streams how far they were trimmed.
        let mut next = || if note.is_empty() { Ok(0) } else { note.varint() };
        let gone =
            Gone { trimmed: next()?, compacted: next()?, compactions: next()?, cleaned: next()?, kept_rows: next()? };
        Ok((end, gone))
    }

    pub(super) fn gone(&self, relation: RelationId) -> Result<Gone> {
        if let Some(gone) = self.log.gone.read().expect("no panic under this lock").get(&relation) {
            return Ok(*gone);
        }
        let noted = self.read_gone(relation)?.1;
        Ok(*self.log.gone.write().expect("no panic under this lock").entry(relation).or_insert(noted))
    }

    /// Under the lock `trimming`. The batch must be synced before the rows go, so that the note outlives them.
    pub(super) fn note_gone(&self, batch: &mut Batch<'_>, relation: RelationId, gone: Gone) -> Result<()> {
        let key = meta_key(LOG_END, &relation.to_be_bytes());
        let mut note = Frame::new();
        let fields = [gone.trimmed, gone.compacted, gone.compactions, gone.cleaned, gone.kept_rows];
        put_varint(note.body(), self.log_end(relation)?);
        fields.into_iter().for_each(|field| put_varint(note.body(), field));
        batch.put(Family::Meta, &key, &note.seal(&key));
        self.log.gone.write().expect("no panic under this lock").insert(relation, gone);
        Ok(())
    }

    pub(super) fn trimmed_through(&self, relation: RelationId) -> Result<Epoch> {
        Ok(self.gone(relation)?.trimmed)
    }

    /// Through which epoch a relation's rows may be missing; through [`Gone::trimmed`] at a start ([`Self::collect_log`]).
    pub(super) fn deleted_through(&self, relation: RelationId) -> Result<Epoch> {
        if let Some(epoch) = self.log.deleted.read().expect("no panic under this lock").get(&relation) {
            return Ok(*epoch);
        }
        let trimmed = self.trimmed_through(relation)?;
        Ok(*self.log.deleted.write().expect("no panic under this lock").entry(relation).or_insert(trimmed))
    }

    /// Who begins to read from here on begins after `through`; what is being read goes when that has ended, with a later
    /// call.
    fn trim(&self, relations: &[(RelationId, Epoch)]) -> Result<()> {
        let _trimming = self.log.trimming.lock().expect("no panic under this lock");
        let mut batch = self.db.batch();
        let mut ranges = Vec::new();
        let readers = self.log.readers.hold();
        for &(relation, through) in relations {
            let (gone, deleted) = (self.gone(relation)?, self.deleted_through(relation)?);
            let trimmed = gone.trimmed.max(through);
            let unread = trimmed.min(readers.unread_through(relation));
            if unread > deleted {
                self.log.deleted.write().expect("no panic under this lock").insert(relation, unread);
                let (lower, upper) = log_range(relation, deleted, unread);
                batch.delete_range(Family::Log, &lower, &upper);
                ranges.push((lower, upper));
            }
            if unread > deleted || trimmed > gone.trimmed {
                self.note_gone(&mut batch, relation, Gone { trimmed, ..gone })?;
            }
        }
        drop(readers);
        if batch.is_empty() {
            return Ok(());
        }
        self.db.write(Write::Delete, batch, self.sync)?;
        ranges.iter().for_each(|(lower, upper)| self.db.drop_files(Family::Log, lower, upper));
        Ok(())
    }

    fn drop_relation_log(&self, relation: RelationId) -> Result<()> {
        let _trimming = self.log.trimming.lock().expect("no panic under this lock");
        let (lower, upper) = log_range(relation, 0, Epoch::MAX);
        let mut batch = self.db.batch();
        batch.delete_range(Family::Log, &lower, &upper);
        batch.delete(Family::Meta, &meta_key(LOG_END, &relation.to_be_bytes()));
        batch.delete(Family::Meta, &meta_key(DROPPED, &relation.to_be_bytes()));
        self.db.write(Write::Delete, batch, false)?;
        self.db.drop_files(Family::Log, &lower, &upper);
        self.log.tail.write().expect("no panic under this lock").ends.remove(&relation);
        self.log.gone.write().expect("no panic under this lock").remove(&relation);
        self.log.deleted.write().expect("no panic under this lock").remove(&relation);
        self.shapes.forget(relation);
        Ok(())
    }

    fn discard_after(&self, epoch: Epoch) -> Result<()> {
        let _writer = self.log.writer.lock().expect("no panic under this lock");
        let mut batch = self.db.batch();
        let mut relations = vec![HEADERS];
        let (lower, upper) = log_range(HEADERS, epoch, Epoch::MAX);
        self.db.scan(Family::Log, &lower, &upper, |key, value| {
            let (record, _) = read_record(key, value)?;
            if !record.catalog.is_empty() {
                return Err(damaged(format!("epoch {}", record.header.epoch), "it changed the catalog but has no end"));
            }
            relations.extend(record.chunks.iter().map(|(relation, ..)| *relation));
            Ok(ControlFlow::Continue(()))
        })?;
        relations.sort_unstable();
        relations.dedup();
        for relation in &relations {
            let (lower, upper) = log_range(*relation, epoch, Epoch::MAX);
            batch.delete_range(Family::Log, &lower, &upper);
        }
        self.directory.retreat(epoch.min(self.log.last_epoch()))?;
        self.db.write(Write::Delete, batch, self.sync)?;
        let mut tail = self.log.tail.write().expect("no panic under this lock");
        tail.last_epoch = tail.last_epoch.min(epoch);
        tail.ends.retain(|relation, _| !relations.contains(relation));
        Ok(())
    }

    /// See [`Store::collect_garbage`].
    pub(super) fn collect_log(&self) -> Result<()> {
        let mut dropped = Vec::new();
        let (lower, upper) = meta_range(DROPPED);
        self.db.scan(Family::Meta, &lower, &upper, |key, _| {
            dropped.push(u32_at(key, 1));
            Ok(ControlFlow::Continue(()))
        })?;
        dropped.into_iter().try_for_each(|relation| self.drop_relation_log(relation))?;

        // Rows that were trimmed, and read at that time.
        let mut noted = Vec::new();
        let (lower, upper) = meta_range(LOG_END);
        self.db.scan(Family::Meta, &lower, &upper, |key, _| {
            noted.push(u32_at(key, 1));
            Ok(ControlFlow::Continue(()))
        })?;
        for relation in noted {
            let trimmed = self.trimmed_through(relation)?;
            if self.first_chunk(relation, 0)?.is_some_and(|(r, epoch)| r == relation && epoch <= trimmed) {
                let (lower, upper) = log_range(relation, 0, trimmed);
                let mut batch = self.db.batch();
                batch.delete_range(Family::Log, &lower, &upper);
                self.db.write(Write::Delete, batch, false)?;
            }
        }

        // One seek per relation: does it have chunks after the last header?
        let last_epoch = self.log.last_epoch();
        let mut relation = HEADERS + 1;
        while let Some((found, epoch)) = self.first_chunk(relation, 0)? {
            relation = found;
            if epoch > last_epoch || self.first_chunk(relation, last_epoch)?.is_some_and(|(r, _)| r == relation) {
                tracing::warn!("deleting rows of relation {relation} after the log's last epoch {last_epoch}");
                let (lower, upper) = log_range(relation, last_epoch, Epoch::MAX);
                let mut batch = self.db.batch();
                batch.delete_range(Family::Log, &lower, &upper);
                self.db.write(Write::Delete, batch, false)?;
            }
            relation += 1;
        }
        Ok(())
    }

    /// Relation and epoch of the first chunk after epoch `after` of `relation`, or of a later relation.
    fn first_chunk(&self, relation: RelationId, after: Epoch) -> Result<Option<(RelationId, Epoch)>> {
        let (lower, _) = log_range(relation, after, Epoch::MAX);
        let mut found = None;
        self.db.scan(Family::Log, &lower, &[0xff; 16], |key, _| {
            let (relation, epoch, _) = parse_log_key(key);
            found = Some((relation, epoch));
            Ok(ControlFlow::Break(()))
        })?;
        Ok(found)
    }
}

fn write_record(record: &Record, positions: &[(RelationId, Vec<u8>)]) -> Frame {
    let mut frame = Frame::new();
    let json = serde_json::to_vec(record).expect("headers and catalog changes are plain data");
    put_varint(frame.body(), json.len() as u64);
    frame.body().extend_from_slice(&json);
    for (relation, position) in positions {
        put_varint(frame.body(), u64::from(*relation));
        put_varint(frame.body(), position.len() as u64);
        frame.body().extend_from_slice(position);
    }
    frame
}

pub(super) type Positions = Vec<(RelationId, Vec<u8>)>;

pub(super) fn read_record(key: &[u8], value: &[u8]) -> Result<(Record<'static>, Positions)> {
    let what = || format!("the header of epoch {}", parse_log_key(key).1);
    let mut reader = Reader::new(frame::open(key, value, what)?);
    let json_bytes = reader.length()?;
    let record = serde_json::from_slice(reader.bytes(json_bytes)?).map_err(|e| damaged(what(), e))?;
    let mut positions = Vec::new();
    while !reader.is_empty() {
        let relation = reader.varint()? as RelationId;
        let bytes = reader.length()?;
        positions.push((relation, reader.bytes(bytes)?.to_vec()));
    }
    Ok((record, positions))
}

/// For errors: `epoch 7 of relation 16384 (chunk 0)`.
pub(super) fn name_chunk(key: &[u8]) -> String {
    let (relation, epoch, part) = parse_log_key(key);
    format!("epoch {epoch} of relation {relation} (chunk {part})")
}

/// Adds where it happened to an error about damage.
pub(super) fn at_chunk(key: &[u8]) -> impl FnOnce(Error) -> Error + '_ {
    |e| if e.code == "XX001" { damaged(name_chunk(key), e) } else { e }
}
