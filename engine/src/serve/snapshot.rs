//! A picture of some relations at one closed epoch.
//!
//! The epoch is the last committed one when the statement begins, so it holds everything that was
//! acknowledged to anyone before; views are waited for until they have closed it. After a start that may take a while:
//! a view is brought back when its turn comes, and those that are waited for come first.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use datafusion::physical_plan::PhysicalExpr;

use super::own::Own;
use super::reads::Reads;
use crate::catalog::{Relation, RelationId, RelationKind};
use crate::core::Core;
use crate::error::{Error, Result};
use crate::state::arrangement::{Picture, Pin};
use crate::state::segment_index::Wanted;
use crate::state::store::LogPin;
use crate::time::{Epoch, EpochHeader};

/// Keep relations readable at an epoch for as long as they live.
pub type Pins = Vec<Pin>;

pub struct Snapshot {
    pub epoch: Epoch,
    pub relations: HashMap<RelationId, Scan>,
    /// Of a transaction: where it notes what is read of them.
    pub reads: Option<Arc<Mutex<Reads>>>,
}

/// What a relation held.
#[derive(Clone)]
pub enum Scan {
    Rows(Vec<Picture>),
    /// A stretch of the stream's log.
    Log(LogScan),
    /// With a transaction's own changes, which nobody else sees yet.
    WithOwn(Box<Scan>, Arc<Own>),
}

impl Scan {
    /// What was committed.
    pub fn base(&self) -> &Scan {
        match self {
            Scan::WithOwn(base, _) => base.base(),
            base => base,
        }
    }
}

/// The rows of a stream of the epochs after `after` through epoch `through`, those of offset `first` and later.
#[derive(Debug, Clone)]
pub struct LogScan {
    pub after: Epoch,
    pub first: u64,
    pub through: Epoch,
    /// Nothing of it is trimmed meanwhile.
    pub kept: LogPin,
}

impl Snapshot {
    pub fn new(epoch: Epoch, relations: HashMap<RelationId, Scan>) -> Snapshot {
        Snapshot { epoch, relations, reads: None }
    }

    /// All rows of a relation are about to be read, and those that fulfil a condition to be looked at.
    pub fn note_under(
        &self,
        relation: RelationId,
        condition: impl FnOnce() -> datafusion::error::Result<Arc<dyn PhysicalExpr>>,
    ) {
        let Some(reads) = &self.reads else { return };
        let mut reads = reads.lock().expect("no panic while held");
        match condition() {
            Ok(condition) => reads.under(relation, condition),
            // Of a subquery, say.
            Err(_) => reads.all_of(relation),
        }
    }

    /// Rows of a relation are about to be read: all of them, or those that may be wanted.
    pub fn note(&self, relation: RelationId, wanted: Option<&Wanted>) {
        let Some(reads) = &self.reads else { return };
        let mut reads = reads.lock().expect("no panic while held");
        match wanted {
            Some(wanted) => reads.key_of(relation, wanted),
            None => reads.all_of(relation),
        }
    }

    /// Of `relations`, at the last committed epoch.
    pub async fn take(core: &Core, relations: &[Arc<Relation>]) -> Result<Snapshot> {
        loop {
            let views = relations.iter().any(|relation| relation.kind == RelationKind::MaterializedView);
            let epoch = if views { core.header_to_read().epoch } else { core.header().epoch };
            if let Some(snapshot) = Self::at(core, relations, epoch).await? {
                return Ok(snapshot);
            }
            // A later epoch was published between the two looks.
            tokio::task::yield_now().await;
        }
    }

    /// Of `relations` at the last committed epoch, with its header.
    pub async fn take_with_header(core: &Core, relations: &[Arc<Relation>]) -> Result<(Snapshot, Arc<EpochHeader>)> {
        loop {
            let header = core.header_to_read();
            if let Some(snapshot) = Self::at(core, relations, header.epoch).await? {
                return Ok((snapshot, header));
            }
            tokio::task::yield_now().await;
        }
    }

    /// Of `relations` at the last committed epoch, with pins by which all other relations stay readable there.
    pub async fn take_and_pin(core: &Core, relations: &[Arc<Relation>]) -> Result<(Snapshot, Pins)> {
        loop {
            let epoch = core.header_to_read().epoch;
            if let Some(pins) = pin_all(core, epoch) {
                if let Some(snapshot) = Self::at(core, relations, epoch).await? {
                    return Ok((snapshot, pins));
                }
            }
            tokio::task::yield_now().await;
        }
    }

    /// At `epoch`, a cut of views' epochs; `None` when that is no longer to be had.
    pub async fn at(core: &Core, relations: &[Arc<Relation>], epoch: Epoch) -> Result<Option<Snapshot>> {
        let mut pins: HashMap<RelationId, Vec<Pin>> = HashMap::new();
        let mut waited = Vec::new();
        let mut scans = HashMap::new();
        for relation in relations {
            let readers = match relation.kind {
                RelationKind::Stream => {
                    let Some((after, kept)) = core.store.pin_log(relation.id, epoch)? else { return Ok(None) };
                    scans.insert(relation.id, Scan::Log(LogScan { after, first: 0, through: epoch, kept }));
                    continue;
                }
                RelationKind::Table => {
                    vec![core.table(relation.id).ok_or_else(|| Error::undefined_relation(&relation.name))?]
                }
                RelationKind::MaterializedView => {
                    let status = core.view(relation.id).ok_or_else(|| Error::undefined_relation(&relation.name))?;
                    if status.live_from().is_none() {
                        want(core, relation.id);
                        status.live(&core.progress).await;
                    }
                    if let Some(reason) = status.failure() {
                        return Err(suspended(relation, &reason));
                    }
                    if status.live_from().is_none_or(|from| from > epoch) {
                        return Ok(None);
                    }
                    let readers = status.readers();
                    waited.push((relation.clone(), status));
                    readers
                }
                RelationKind::View
                | RelationKind::Sink
                | RelationKind::Sequence
                | RelationKind::Type
                | RelationKind::Arrangement => {
                    unreachable!(
                        "views are inlined, sinks, sequences and types hold no rows, arrangements have no name"
                    )
                }
            };
            let mut own = Vec::new();
            for reader in readers {
                let Some(pin) = reader.pin(epoch) else { return Ok(None) };
                own.push(pin);
            }
            pins.insert(relation.id, own);
        }
        if let Some(error) = suspended_below(core, relations) {
            return Err(error);
        }
        if !waited.is_empty() {
            if core.progress.is_starting() {
                waited.iter().for_each(|(relation, _)| want(core, relation.id));
            }
            let closed = || {
                waited.iter().all(|(_, v)| {
                    v.failure().is_some()
                        || (0..core.workers).all(|w| core.progress.processed(w) >= epoch && v.closed(w, epoch))
                })
            };
            core.progress.wait_until(closed).await;
            for (relation, status) in &waited {
                if let Some(reason) = status.failure() {
                    return Err(suspended(relation, &reason));
                }
            }
        }
        scans.extend(pins.into_iter().map(|(id, pins)| (id, Scan::Rows(pins.iter().map(Pin::picture).collect()))));
        Ok(Some(Snapshot::new(epoch, scans)))
    }
}

/// After a start: a view, and those that it reads, are brought back before others.
pub fn want(core: &Core, view: RelationId) {
    let catalog = core.catalog();
    let mut wanted = vec![view];
    while let Some(id) = wanted.pop() {
        let Some(status) = core.view(id) else { continue };
        if !status.wanted.swap(true, Ordering::AcqRel) {
            wanted.extend(catalog.get(id).into_iter().flat_map(|relation| relation.depends_on.iter().copied()));
        }
    }
}

/// Pins every table and view; `None` when one has moved past the epoch.
fn pin_all(core: &Core, epoch: Epoch) -> Option<Pins> {
    let mut readers = Vec::new();
    for id in core.catalog().relations.keys() {
        readers.extend(core.table(*id));
        readers.extend(core.view(*id).into_iter().flat_map(|view| view.readers()));
    }
    readers.iter().map(|reader| reader.pin(epoch)).collect()
}

/// A suspended view among the views that `relations` rest on: what is above it no longer follows.
fn suspended_below(core: &Core, relations: &[Arc<Relation>]) -> Option<Error> {
    let catalog = core.catalog();
    let mut below: Vec<Arc<Relation>> = relations.to_vec();
    while let Some(relation) = below.pop() {
        if relation.kind == RelationKind::MaterializedView {
            if let Some(reason) = core.view(relation.id).and_then(|v| v.failure()) {
                return Some(suspended(&relation, &reason));
            }
            below.extend(relation.depends_on.iter().filter_map(|id| catalog.get(*id).cloned()));
        }
    }
    None
}

fn suspended(relation: &Relation, reason: &Error) -> Error {
    Error::not_in_state(format!("materialized view \"{}\" is suspended: {}", relation.name, reason.message))
        .hint("ALTER MATERIALIZED VIEW … RESUME fills it anew.")
}
