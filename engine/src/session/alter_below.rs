//! ALTER TABLE below materialized views: those that read the table are made anew beside the old ones, over the altered
//! table, and all change places in one epoch.
//!
//! ```text
//!   t ──► m ──► n        t' ──► m' ──► n'        then t, m, n go, and t', m', n' have their names
//! ```
//!
//! Until then `t'` is in a schema that nobody looks in, from which a start drops it after a crash. Writers of `t` wait for as
//! long as the views take. A view whose rows cannot all be had again is not made anew: the change is refused.

use std::sync::Arc;

use super::Session;
use super::alter::Draft;
use super::alter_rows::{changed_meanwhile, check_names, check_unchanged, taken_place};
use super::replace::all_dependants;
use super::view::Making;
use crate::catalog::{Catalog, Column, Relation, RelationId, RelationKind};
use crate::commit::{CatalogEdit, Request};
use crate::core::Core;
use crate::delta::Delta;
use crate::error::{Error, Result};
use crate::plan::Plan;
use crate::state::store::CatalogChange;
use crate::time::Epoch;

/// The schema of tables that wait for their place. No session has its number.
const WAITING: &str = "pg_temp_altered";

/// An altered table that has its rows and not yet its place: dropped unless it gets it.
struct Waiting {
    core: Arc<Core>,
    id: RelationId,
    placed: bool,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if self.placed {
            return;
        }
        let (core, id) = (self.core.clone(), self.id);
        let edit: CatalogEdit =
            Box::new(move |catalog| Ok(catalog.get(id).map(|_| CatalogChange::Drop(id)).into_iter().collect()));
        let (reply, _) = tokio::sync::oneshot::channel();
        let request = Request::Catalog { edit, rows: Vec::new(), reply };
        if let Err(tokio::sync::mpsc::error::TrySendError::Full(request)) = core.requests.try_send(request) {
            // A full queue is emptied soon.
            std::thread::spawn(move || core.requests.blocking_send(request));
        }
    }
}

impl Session {
    /// `rows` are those of `epoch`, as they are to be; `views` all that reads the table, which shows the same columns after.
    pub(super) async fn write_anew_below(
        &mut self,
        found: &Arc<Relation>,
        draft: &mut Draft,
        rows: Vec<(RelationId, Vec<Delta>)>,
        views: Vec<(Arc<Relation>, Relation)>,
        epoch: Epoch,
    ) -> Result<()> {
        let (core, new) = (self.core.clone(), draft.relation.clone());
        let mut dependants = self.dependants_over(&core.catalog(), found, &new)?;
        for dependant in &dependants {
            if let Some(plan) = &dependant.plan {
                self.check_made_anew(found, &dependant.old, plan)?;
            }
        }
        let mut waiting = Waiting { core: core.clone(), id: new.id, placed: false };
        let columns = new
            .columns
            .iter()
            .map(|c| Column { identity: None, default: None, generated: None, absent: None, ..c.clone() })
            .collect();
        // What its rows refer to is checked when it has its place.
        let hidden = Relation { schema_name: WAITING.into(), columns, foreign_keys: Vec::new(), ..new.clone() };
        let (old, at) = (found.clone(), core.clone());
        let edit: CatalogEdit = Box::new(move |catalog| {
            check_unchanged(&at, catalog, &old, epoch)?;
            Ok(vec![CatalogChange::Put(Box::new(hidden))])
        });
        // Not what cannot be taken back.
        core.ask(|reply| Request::Catalog { edit, rows, reply }).await?;
        let mut making: Vec<Making> = Vec::new();
        for dependant in &mut dependants {
            if let Some(plan) = &dependant.plan {
                // The last one made is the first to be taken back.
                making.insert(0, self.make_live(&mut dependant.new, plan.clone()).await?);
            }
        }
        let (old, at, made) = (found.clone(), core.clone(), Arc::new(new.clone()));
        let own: Vec<RelationId> = making.iter().map(Making::id).collect();
        let numbers = std::mem::take(&mut draft.next_numbers);
        let came_from = draft.came_from();
        let edit = move |catalog: &Catalog| {
            check_unchanged(&at, catalog, &old, epoch)?;
            check_names(catalog, &old, &new)?;
            let same = |before: &Arc<Relation>| catalog.get(before.id) == Some(before);
            if all_dependants(catalog, old.id).len() != views.len() || !views.iter().all(|(before, _)| same(before)) {
                return Err(changed_meanwhile(&old));
            }
            let gone = |id: &RelationId| *id == old.id || dependants.iter().any(|d| d.old.id == *id);
            for (id, reads) in at.creating.lock().expect("no panic while held").iter() {
                if !own.contains(id) && reads.iter().any(gone) {
                    return Err(Error::new("55006", "a materialized view that reads it is being created"));
                }
            }
            // Dependants go first.
            let gone = dependants.iter().rev().filter(|d| d.plan.is_some()).map(|d| d.old.id);
            let mut changes: Vec<CatalogChange> = gone.map(CatalogChange::Drop).collect();
            changes.extend(taken_place(&at, catalog, &old, new, &came_from, numbers)?);
            changes.extend(dependants.into_iter().map(|d| CatalogChange::Put(Box::new(d.new))));
            Ok(changes)
        };
        self.edit(edit).await?;
        waiting.placed = true;
        making.into_iter().for_each(Making::finish);
        self.engine.sources().stop_one(found.id);
        self.engine.sources().start(&made, None)
    }

    /// Whether a view that is made anew has all the rows that it has now.
    fn check_made_anew(&self, table: &Relation, view: &Relation, plan: &Plan) -> Result<()> {
        let refused = |why: String| {
            let message = format!("cannot alter table {} because other objects depend on it", table.name);
            let detail = format!("materialized view {} depends on table {}", view.name, table.name);
            Err(Error::new("2BP01", message).detail(detail).hint(why))
        };
        if plan.looks_up() {
            return refused(
                "What its rows looked up when they came cannot be found again: drop the view first.".into(),
            );
        }
        let catalog = self.core.catalog();
        for id in plan.imports() {
            let Some(stream) = catalog.get(id).filter(|r| r.kind == RelationKind::Stream) else { continue };
            let start = view.starts.get(&id).copied().unwrap_or_default();
            let gone = self.core.past.settle(&self.core, id)?;
            if gone.trimmed > start.after || gone.compacted > start.after && gone.compactions != start.compactions {
                let why =
                    format!("Rows of stream {} that it was made from are gone: drop the view first.", stream.name);
                return refused(why);
            }
        }
        Ok(())
    }
}
