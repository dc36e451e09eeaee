//! Writes checkpoints, off the commit path.
//!
//! The commit path asks the workers to save as of an epoch and goes on; here their parts are awaited,
//! written as blocks, and made to count by one manifest. A part is the blocks saved whole plus all saved
//! after; what no manifest names any more, the store deletes.

use std::collections::BTreeMap;
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex};

use crate::catalog::RelationId;
use crate::commit::Reply;
use crate::core::Core;
use crate::dataflow::worker::WorkerParts;
use crate::error::Result;
use crate::state::durable::Saved;
use crate::state::store::{Manifest, Part, RELATION_ROWS, Store};
use crate::time::Epoch;

/// What the writer's thread is asked for.
pub enum Work {
    Checkpoint(Job, Option<Reply<Epoch>>),
    /// Nothing has happened; but time has passed.
    Tidy,
}

type PartKey = (RelationId, usize, u32, u32);

/// What stands on disk, part by part.
pub struct Checkpoints {
    store: Arc<Store>,
    workers: usize,
    parts: BTreeMap<PartKey, Part>,
}

/// A checkpoint to be written.
pub struct Job {
    pub epoch: Epoch,
    pub tables: Vec<(RelationId, Saved)>,
    /// What is remembered of streams' versions; their log stays.
    pub versions: Vec<(RelationId, Saved)>,
    pub workers: Receiver<WorkerParts>,
    pub positions: Vec<(RelationId, Vec<u8>)>,
    /// The relations that exist as of the epoch, with their plans' fingerprints (0 for tables).
    pub fingerprints: BTreeMap<RelationId, u64>,
}

impl Checkpoints {
    /// The writer's thread. `busy` is held while it works.
    pub fn run(mut self, core: &Core, work: &Receiver<Work>, busy: &Mutex<()>) {
        while let Ok(work) = work.recv() {
            let _busy = busy.lock().expect("no panic while held");
            let (result, reply) = match work {
                Work::Checkpoint(job, reply) => (self.checkpoint(core, job), reply),
                Work::Tidy => (core.past.advance(core).map(|()| 0), None),
            };
            if let Err(error) = &result {
                tracing::error!(%error, "a checkpoint could not be written");
                core.fail(error.clone());
            }
            if let Some(reply) = reply {
                let _ = reply.send(result);
            }
        }
    }

    /// Writes one, and deletes what it makes superfluous.
    fn checkpoint(&mut self, core: &Core, job: Job) -> Result<Epoch> {
        let epoch = job.epoch;
        let tables: Vec<(RelationId, Epoch)> = job.tables.iter().map(|t| (t.0, epoch)).collect();
        if self.write(job)? {
            core.store.trim_all(&tables)?;
            core.past.advance(core)?;
        }
        Ok(epoch)
    }

    /// `before`: the newest manifest. Views' parts of another number of workers do not go on.
    pub fn new(store: Arc<Store>, workers: usize, before: Option<&Manifest>) -> Self {
        let mut parts = BTreeMap::new();
        if let Some(manifest) = before {
            for part in &manifest.parts {
                if manifest.workers == workers || part.node == RELATION_ROWS && part.fingerprint == 0 {
                    parts.insert((part.relation, part.worker, part.node, part.slot), part.clone());
                }
            }
        }
        Checkpoints { store, workers, parts }
    }

    /// Returns whether it counts: not when the workers were stopped meanwhile.
    fn write(&mut self, job: Job) -> Result<bool> {
        self.parts.retain(|key, part| job.fingerprints.get(&key.0) == Some(&part.fingerprint));
        for (relation, saved) in job.tables.into_iter().chain(job.versions) {
            self.add((relation, 0, RELATION_ROWS, 0), 0, saved)?;
        }
        let mut reported: BTreeMap<RelationId, usize> = BTreeMap::new();
        for _ in 0..self.workers {
            let Ok(from) = job.workers.recv() else {
                // The workers have been stopped; the checkpoint before this one stands.
                return Ok(false);
            };
            for (relation, parts) in from.views {
                *reported.entry(relation).or_insert(0) += 1;
                let Some(&fingerprint) = job.fingerprints.get(&relation) else { continue };
                for ((node, slot), saved) in parts {
                    self.add((relation, from.worker, node, slot), fingerprint, saved)?;
                }
            }
        }
        // A view that is suspended somewhere has no state as of this epoch.
        let workers = self.workers;
        self.parts.retain(|key, part| part.fingerprint == 0 || reported.get(&key.0) == Some(&workers));
        let manifest = Manifest {
            epoch: job.epoch,
            workers: self.workers,
            positions: job.positions,
            parts: self.parts.values().cloned().collect(),
        };
        self.store.commit_manifest(&manifest)?;
        Ok(true)
    }

    fn add(&mut self, key: PartKey, fingerprint: u64, saved: Saved) -> Result<()> {
        let mut blocks = Vec::with_capacity(saved.blocks.len());
        for block in &saved.blocks {
            blocks.extend(self.store.write_blocks(block)?);
        }
        let (relation, worker, node, slot) = key;
        let part = self.parts.entry(key).or_insert(Part { relation, worker, node, slot, fingerprint, blocks: vec![] });
        if saved.whole {
            part.blocks.clear();
        }
        part.blocks.extend(blocks);
        Ok(())
    }
}
