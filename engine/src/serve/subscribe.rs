//! The changes of a relation as they happen: first its rows at one epoch, then the net change from one
//! closed epoch to the next.
//!
//! A subscription is a cursor, not a queue: it pins the epoch that it has seen and asks for what came
//! since. A slow reader gets larger steps, and nothing piles up for it but what its pins keep (see `subscriptions.rs`).

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::catalog::{Relation, RelationKind};
use crate::core::Core;
use crate::cuts::EachEpoch;
use crate::dataflow::status::ViewStatus;
use crate::delta::Delta;
use crate::delta::consolidate::consolidate;
use crate::error::{Error, Result};
use crate::serve::snapshot::want;
use crate::state::arrangement::Pin;
use crate::subscriptions::Listed;
use crate::time::Epoch;

pub struct Subscription {
    relation: Arc<Relation>,
    view: Option<Arc<ViewStatus>>,
    /// What has been seen, kept readable.
    line: Listed,
    /// The rows at `seen` have yet to be given.
    snapshot: bool,
    up_to: Option<Epoch>,
    _each: Option<EachEpoch>,
}

impl Subscription {
    /// From epoch `as_of` on, or else from the last committed one. `snapshot`: the rows at that epoch come first.
    pub async fn start(
        core: &Core,
        relation: &Arc<Relation>,
        snapshot: bool,
        as_of: Option<Epoch>,
        up_to: Option<Epoch>,
    ) -> Result<Subscription> {
        // So that one of them ends there.
        let each = up_to.filter(|_| relation.kind == RelationKind::MaterializedView).map(|_| core.cuts.each());
        loop {
            let view = core.view(relation.id);
            let live_from = match &view {
                None => Some(0),
                Some(view) => {
                    if view.live_from().is_none() {
                        want(core, relation.id);
                    }
                    view.live(&core.progress).await
                }
            };
            let seen = as_of.unwrap_or_else(|| core.header_to_read().epoch);
            let readers = match (&view, relation.kind) {
                (Some(view), _) => view.readers(),
                (None, RelationKind::Table) => core.table(relation.id).into_iter().collect(),
                _ => Vec::new(),
            };
            let pins: Option<Vec<Pin>> = readers.iter().map(|r| r.pin(seen)).collect();
            // Of a suspended one the first look at its rows says that it is.
            if let Some(pins) = pins.filter(|_| live_from.is_none_or(|from| from <= seen)) {
                let line = core.subscriptions.add(relation.id, seen, pins);
                return Ok(Subscription { relation: relation.clone(), view, line, snapshot, up_to, _each: each });
            }
            if as_of.is_some() {
                return Err(Error::not_in_state(format!(
                    "epoch {seen} of \"{}\" can no longer be read",
                    relation.name
                )));
            }
            tokio::task::yield_now().await;
        }
    }

    /// Everything up to the last wanted epoch has been given.
    pub fn ended(&self) -> bool {
        !self.snapshot && self.up_to.is_some_and(|up_to| self.line.seen() >= up_to)
    }

    /// The next change, and the epoch at whose end it holds. Waits for one; empty when epochs passed that
    /// did not touch the relation.
    pub async fn next(&mut self, core: &Core) -> Result<(Epoch, Vec<Delta>)> {
        let closed = |epoch: Epoch| match &self.view {
            None => core.committed.load(Ordering::Acquire) >= epoch,
            Some(view) => {
                view.failure().is_some()
                    || (0..core.workers).all(|w| core.progress.processed(w) >= epoch && view.closed(w, epoch))
            }
        };
        let seen = self.line.seen();
        if self.snapshot {
            core.progress.wait_until(|| closed(seen)).await;
            self.check(core)?;
            self.snapshot = false;
            let rows = match self.relation.kind {
                RelationKind::Stream => {
                    let kept = core.store.pin_log(self.relation.id, Epoch::MAX)?;
                    let after = kept.as_ref().map_or(0, |(after, _)| *after);
                    let rows = core.store.stream_rows(self.relation.id, after, seen, Some(self.columns())).following();
                    rows.map(|r| r.map(Delta::inserts)).collect::<Result<Vec<_>>>()?
                }
                _ => self.line.with_pins(|pins| {
                    pins.iter().flat_map(|p| p.picture().batches().map(Delta::inserts).collect::<Vec<_>>()).collect()
                })?,
            };
            return Ok((seen, rows));
        }
        let mut target = seen;
        core.progress
            .wait_until(|| {
                target = core.committed.load(Ordering::Acquire).min(self.up_to.unwrap_or(Epoch::MAX));
                // The view may be some epochs behind: whatever it has closed is worth giving.
                if let Some(view) = &self.view {
                    if view.failure().is_some() {
                        return true;
                    }
                    target = view.closed_through(&core.progress, target);
                }
                target > seen
            })
            .await;
        self.check(core)?;
        let changes = match self.relation.kind {
            RelationKind::Stream => {
                let rows = core.store.stream_rows(self.relation.id, seen, target, Some(self.columns())).following();
                rows.map(|r| r.map(Delta::inserts)).collect::<Result<Vec<_>>>()?
            }
            _ => {
                let deltas: Vec<Delta> = self.line.with_pins(|pins| {
                    let deltas = pins.iter().flat_map(|p| p.changes(target)).collect();
                    pins.iter_mut().for_each(|pin| pin.advance(target));
                    deltas
                })?;
                if deltas.iter().any(|d| d.weights.is_some()) { consolidate(&deltas) } else { deltas }
            }
        };
        self.line.advance(target);
        Ok((target, changes))
    }

    /// Not those that a stream has got since.
    fn columns(&self) -> Vec<usize> {
        (0..self.relation.columns.len()).collect()
    }

    fn check(&self, core: &Core) -> Result<()> {
        if let Some(error) = self.view.as_ref().and_then(|v| v.failure()) {
            return Err(Error::not_in_state(format!(
                "materialized view \"{}\" is suspended: {}",
                self.relation.name, error.message
            )));
        }
        if core.catalog().get(self.relation.id).is_none() {
            return Err(Error::new("57P05", format!("relation \"{}\" has been dropped", self.relation.name)));
        }
        Ok(())
    }
}
