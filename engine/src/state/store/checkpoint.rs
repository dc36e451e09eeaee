//! Checkpoints: blocks of rows, and the manifest that makes them count.
//!
//! ```text
//!   write_block … write_block      unsynced, from any thread; each block is marked as pending
//!   commit_manifest                one synced batch: the parts that changed, the epoch; takes the marks off
//!                                  blocks it names, deletes blocks that only the manifest before named
//!   crash before it                the old manifest stands; pending blocks are garbage, found by their marks
//! ```
//!
//! Blocks are durable when the manifest is: they precede it in the same write-ahead log. A part is stored
//! under a key of its own, and only parts that changed are written, so a manifest costs what changed.

use std::collections::{BTreeMap, HashSet};
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use arrow::array::RecordBatch;
use serde::{Deserialize, Serialize};

use super::chunk::{self, ChunkHead, Collector};
use super::faults::Write;
use super::frame::{self, Frame, Reader, damaged, put_varint, put_zigzag};
use super::keys::{MANIFEST, PART, PENDING_BLOCK, meta_key, meta_range, u32_at, u64_at};
use super::rocks::{Db, Family};
use super::{Inner, Store};
use crate::catalog::RelationId;
use crate::delta::Delta;
use crate::error::{Error, Result};
use crate::time::Epoch;

/// Numbers rise and are not given out twice while anything names them.
pub type BlockId = u64;

/// `Part::node` of a relation's own rows.
pub const RELATION_ROWS: u32 = u32::MAX;

/// A whole checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Manifest {
    /// The state is as of the end of this epoch; replay starts after it.
    pub epoch: Epoch,
    pub workers: usize,
    /// How far each source connector had been read.
    pub positions: Vec<(RelationId, Vec<u8>)>,
    /// Sorted by what identifies them: relation, worker, node, slot.
    #[serde(skip)]
    pub parts: Vec<Part>,
}

/// The state of one plan node on one worker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    pub relation: RelationId,
    pub worker: usize,
    /// Node of the relation's plan, or [`RELATION_ROWS`].
    pub node: u32,
    /// Which of the node's arrangements or cells.
    pub slot: u32,
    /// Of the plan that the state belongs to.
    pub fingerprint: u64,
    pub blocks: Vec<BlockId>,
}

type PartKey = (RelationId, usize, u32, u32);

impl Part {
    fn key(&self) -> PartKey {
        (self.relation, self.worker, self.node, self.slot)
    }
}

/// What is stored under `M`; parts lie beside it.
#[derive(Serialize, Deserialize)]
struct Head {
    #[serde(flatten)]
    manifest: Manifest,
    parts: usize,
}

pub(super) struct CheckpointState {
    next_block: AtomicU64,
    /// The newest manifest. Held while the next one is written.
    newest: Mutex<Option<Arc<Manifest>>>,
}

impl CheckpointState {
    pub fn load(db: &Db) -> Result<CheckpointState> {
        let newest = load_manifest(db)?;
        let named = newest.iter().flat_map(|m| &m.parts).flat_map(|p| &p.blocks).max();
        let stored = db.last(Family::Blocks, &[], &[0xff; 9])?.map_or(0, |(key, _)| u64_at(&key, 0));
        let next = stored.max(named.copied().unwrap_or(0)) + 1;
        Ok(CheckpointState { next_block: AtomicU64::new(next), newest: Mutex::new(newest.map(Arc::new)) })
    }
}

impl Store {
    /// Stores rows of any number as blocks of a good size, in order.
    pub fn write_blocks(&self, rows: &RecordBatch) -> Result<Vec<BlockId>> {
        chunk::split(&Delta::inserts(rows.clone())).iter().map(|piece| self.write_block(&piece.rows)).collect()
    }

    /// Stores some rows as one block, which should not be larger than some megabytes. They count once a
    /// manifest names them.
    pub fn write_block(&self, block: &RecordBatch) -> Result<BlockId> {
        let inner = &self.inner;
        let stored = inner.schemas.intern(&inner.db, &block.schema())?;
        let id = inner.checkpoint.next_block.fetch_add(1, Ordering::Relaxed);
        let key = id.to_be_bytes();
        let mut batch = inner.db.batch();
        batch.put(Family::Blocks, &key, &chunk::encode(&stored, &Delta::inserts(block.clone()), 0)?.seal(&key));
        batch.put(Family::Meta, &meta_key(PENDING_BLOCK, &key), b"");
        inner.db.write(Write::Block, batch, false)?;
        Ok(id)
    }

    pub fn read_block(&self, id: BlockId) -> Result<RecordBatch> {
        let key = id.to_be_bytes();
        let what = || format!("block {id}");
        let value = self.inner.db.get(Family::Blocks, &key)?.ok_or_else(|| damaged(what(), "it is missing"))?;
        let head = ChunkHead::read(frame::open(&key, &value, what)?)?;
        let delta = Collector::new(&self.inner.schemas, head.schema_id, None).and_then(|mut c| c.decode(&head));
        Ok(delta.map_err(|e| damaged(what(), e))?.rows)
    }

    /// Deletes blocks that were written for a checkpoint that will not be.
    pub fn discard_blocks(&self, ids: &[BlockId]) -> Result<()> {
        let mut batch = self.inner.db.batch();
        for id in ids {
            batch.delete(Family::Blocks, &id.to_be_bytes());
            batch.delete(Family::Meta, &meta_key(PENDING_BLOCK, &id.to_be_bytes()));
        }
        self.inner.db.write(Write::Delete, batch, false)
    }

    /// Makes a checkpoint: durable when this returns. Blocks that the one before named and this one does
    /// not are gone. Parts may come in any order; each names blocks of its own.
    pub fn commit_manifest(&self, manifest: &Manifest) -> Result<()> {
        self.inner.commit_manifest(manifest)
    }

    pub fn newest_manifest(&self) -> Option<Arc<Manifest>> {
        self.inner.checkpoint.newest.lock().expect("no panic under this lock").clone()
    }
}

/// What one manifest changes against the one before.
struct Difference<'a> {
    put: Vec<&'a Part>,
    delete: Vec<PartKey>,
    /// Blocks newly named, and no longer named.
    born: Vec<BlockId>,
    dead: Vec<BlockId>,
}

fn difference<'a>(old: &'a [Part], new: &'a [Part]) -> Difference<'a> {
    let by_key = |parts: &'a [Part]| parts.iter().map(|p| (p.key(), p)).collect::<BTreeMap<_, _>>();
    let (old_parts, new_parts) = (by_key(old), by_key(new));
    assert_eq!(new_parts.len(), new.len(), "a manifest names each part once");
    let put: Vec<&Part> = new.iter().filter(|p| old_parts.get(&p.key()) != Some(p)).collect();
    let left: Vec<&Part> = old.iter().filter(|p| new_parts.get(&p.key()) != Some(p)).collect();
    let delete = left.iter().map(|p| p.key()).filter(|key| !new_parts.contains_key(key)).collect();
    let blocks = |parts: &[&Part]| parts.iter().flat_map(|p| p.blocks.iter().copied()).collect::<HashSet<_>>();
    let (before, after) = (blocks(&left), blocks(&put));
    let born = after.difference(&before).copied().collect();
    let dead = before.difference(&after).copied().collect();
    Difference { put, delete, born, dead }
}

impl Inner {
    fn commit_manifest(&self, manifest: &Manifest) -> Result<()> {
        let mut newest = self.checkpoint.newest.lock().expect("no panic under this lock");
        assert!(newest.as_ref().is_none_or(|n| n.epoch <= manifest.epoch), "checkpoints only go forward");
        let mut manifest = manifest.clone();
        manifest.parts.sort_by_key(Part::key);
        let change = difference(newest.as_ref().map_or(&[], |n| &n.parts), &manifest.parts);
        let mut batch = self.db.batch();
        for part in change.put {
            let key = part_key(part.key());
            batch.put(Family::Meta, &key, &write_part(part).seal(&key));
        }
        change.delete.iter().for_each(|key| batch.delete(Family::Meta, &part_key(*key)));
        change.born.iter().for_each(|id| batch.delete(Family::Meta, &meta_key(PENDING_BLOCK, &id.to_be_bytes())));
        change.dead.iter().for_each(|id| batch.delete(Family::Blocks, &id.to_be_bytes()));
        let head = Head { parts: manifest.parts.len(), manifest: manifest.clone() };
        let json = serde_json::to_vec(&head).expect("a manifest is plain data");
        batch.put(Family::Meta, MANIFEST, &frame::seal(MANIFEST, &json));
        self.db.write(Write::Manifest, batch, self.sync)?;
        *newest = Some(Arc::new(manifest));
        Ok(())
    }

    /// See [`Store::collect_garbage`].
    pub(super) fn collect_blocks(&self) -> Result<()> {
        let mut batch = self.db.batch();
        let mut blocks = 0;
        let (lower, upper) = meta_range(PENDING_BLOCK);
        self.db.scan(Family::Meta, &lower, &upper, |key, _| {
            batch.delete(Family::Blocks, &key[1..]);
            batch.delete(Family::Meta, key);
            blocks += 1;
            Ok(ControlFlow::Continue(()))
        })?;
        if blocks > 0 {
            tracing::info!("deleting {blocks} blocks of an unfinished checkpoint");
            self.db.write(Write::Delete, batch, false)?;
        }
        Ok(())
    }
}

fn load_manifest(db: &Db) -> Result<Option<Manifest>> {
    let Some(value) = db.get(Family::Meta, MANIFEST)? else { return Ok(None) };
    let what = "the manifest";
    let head: Head =
        serde_json::from_slice(frame::open(MANIFEST, &value, || what.into())?).map_err(|e| damaged(what, e))?;
    let mut manifest = head.manifest;
    let (lower, upper) = meta_range(PART);
    db.scan(Family::Meta, &lower, &upper, |key, value| {
        manifest.parts.push(read_part(key, value)?);
        Ok(ControlFlow::Continue(()))
    })?;
    match manifest.parts.len() == head.parts {
        true => Ok(Some(manifest)),
        false => Err(damaged(what, format!("{} of its {} parts are there", manifest.parts.len(), head.parts))),
    }
}

fn part_key((relation, worker, node, slot): PartKey) -> Vec<u8> {
    let worker = u32::try_from(worker).expect("fewer workers than 2^32");
    let numbers = [relation, worker, node, slot].map(u32::to_be_bytes);
    meta_key(PART, &numbers.concat())
}

/// Fingerprint, then each block id as its distance from the one before.
fn write_part(part: &Part) -> Frame {
    let mut frame = Frame::new();
    let out = frame.body();
    out.extend_from_slice(&part.fingerprint.to_le_bytes());
    put_varint(out, part.blocks.len() as u64);
    let mut last = 0;
    for id in &part.blocks {
        put_zigzag(out, id.wrapping_sub(last) as i64);
        last = *id;
    }
    frame
}

fn read_part(key: &[u8], value: &[u8]) -> Result<Part> {
    let [relation, worker, node, slot] = [1, 5, 9, 13].map(|at| u32_at(key, at));
    let what = || format!("part {relation}/{worker}/{node}/{slot} of the manifest");
    let read = || -> Result<Part> {
        let mut reader = Reader::new(frame::open(key, value, || "its record".into())?);
        let fingerprint = u64::from_le_bytes(reader.bytes(8)?.try_into().expect("eight bytes"));
        let count = reader.length()?;
        let mut blocks = Vec::new();
        let mut last = 0u64;
        for _ in 0..count {
            last = last.wrapping_add(reader.zigzag()? as u64);
            blocks.push(last);
        }
        Ok(Part { relation, worker: worker as usize, node, slot, fingerprint, blocks })
    };
    read().map_err(|e: Error| damaged(what(), e))
}
