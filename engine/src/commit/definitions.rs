//! Definitions: the catalog's changes, each an epoch of its own, and the views that are made and dropped by them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use super::{CatalogEdit, Commit};
use crate::catalog::{RelationId, RelationKind, StreamStart};
use crate::dataflow::status::ViewStatus;
use crate::dataflow::view::{Start, ViewOptions, ViewSetup};
use crate::dataflow::worker::Command;
use crate::delta::Delta;
use crate::error::{Error, Result};
use crate::plan::Plan;
use crate::state::store::{CatalogChange, LogEntry};
use crate::state::table::Table;
use crate::state::versions::Versions;
use crate::time::{CLOCK, Epoch};

impl Commit {
    pub(super) fn edit_catalog(&mut self, edit: CatalogEdit, rows: Vec<(RelationId, Vec<Delta>)>) -> Result<Epoch> {
        if let Some(error) = self.core.failure() {
            return Err(error);
        }
        let before = self.core.catalog();
        let mut changes = edit(&before)?;
        let made_only = |change: &CatalogChange| !matches!(change, CatalogChange::Drop(_));
        if changes.iter().all(made_only) {
            // Dropping makes room.
            self.core.store.room(rows.iter().flat_map(|r| &r.1).map(|delta| delta.bytes() as u64).sum())?;
        }
        if changes.is_empty() {
            return Ok(self.header.epoch);
        }
        let mut after = (*before).clone();
        for change in &changes {
            match change {
                CatalogChange::Put(relation) => {
                    after.relations.insert(relation.id, Arc::new((**relation).clone()));
                }
                CatalogChange::Drop(id) => {
                    after.relations.remove(id);
                }
                CatalogChange::PutSchema { name, id } => {
                    after.schemas.insert(name.clone(), *id);
                }
                CatalogChange::DropSchema { name } => {
                    after.schemas.remove(name);
                }
                CatalogChange::Meta { .. } => {}
            }
        }
        if changes.iter().any(|change| matches!(change, CatalogChange::Drop(_))) {
            // Unless a view that is being made reads them.
            let creating = self.core.creating.lock().expect("no panic while held");
            let idle = after.idle_arrangements().into_iter().filter(|id| !creating.values().any(|r| r.contains(id)));
            for id in idle {
                after.relations.remove(&id);
                changes.push(CatalogChange::Drop(id));
            }
        }
        // Tables are made before anyone can see them.
        let (mut made, mut versions) = (Vec::new(), Vec::new());
        // A table whose definition changes keeps its columns, and may have other keys.
        let mut changed = Vec::new();
        for change in &changes {
            if let CatalogChange::Put(relation) = change
                && let Some(table) = self.tables.get(&relation.id)
            {
                changed.push((after.relations[&relation.id].clone(), table.keyed_as(relation)?));
            }
        }
        for (id, relation) in &after.relations {
            if relation.kind == RelationKind::Table && !self.tables.contains_key(id) {
                made.push((*id, Table::new(relation.clone())?));
            }
            if relation.kind == RelationKind::Stream && !self.versions.contains_key(id) {
                versions.extend(Versions::new(relation)?.map(|versions| (*id, versions)));
            }
        }
        let mut header = self.next_header();
        header.touched = rows.iter().map(|(id, _)| *id).collect();
        header.watermarks.retain(|time| after.relations.contains_key(&time.stream));
        let mut filled = Vec::new();
        for (id, deltas) in rows {
            let (_, table) =
                made.iter_mut().find(|(made, _)| *made == id).expect("rows come with the table that has them");
            let checked = table.check(&deltas)?;
            filled.push((id, table.change(checked, header.epoch)));
        }
        if changes.iter().any(|change| matches!(change, CatalogChange::Put(_) | CatalogChange::Drop(_))) {
            self.check_foreign_keys(&before, &after, &mut made)?;
        }
        let entry = LogEntry { header, changes: filled, positions: vec![], catalog: changes.clone() };
        for (id, mut table) in made {
            table.publish(entry.header.epoch);
            self.core.tables.write().expect("no panic while held").insert(id, table.reader());
            self.tables.insert(id, table);
        }
        self.versions.extend(versions);
        let epoch = self.commit(entry)?;
        for (relation, keyed) in changed {
            self.tables.get_mut(&relation.id).expect("seen just now").become_relation(relation, keyed)?;
        }
        for change in &changes {
            if let CatalogChange::Put(relation) = change {
                self.core.store.note_shape(relation)?;
            }
        }
        let after = Arc::new(after);
        // Plans are good as long as the catalog is the same one: numbers that are reserved change nothing in it.
        if !changes.iter().all(|change| matches!(change, CatalogChange::Meta { .. })) {
            self.core.set_catalog(after.clone());
            self.traits = None;
        }
        for id in after.relations.keys().filter(|id| !self.core.past.knows(**id)) {
            self.core.past.note(&self.core, &after.relations[id], epoch);
        }
        self.forward();
        for change in &changes {
            if let CatalogChange::Drop(id) = change {
                self.forget(*id);
            }
        }
        Ok(epoch)
    }

    fn forget(&mut self, id: RelationId) {
        if self.plans.remove(&id).is_some() {
            self.traits = None;
            self.workers.send(Command::Drop(id));
        }
        if let Some(view) = self.core.views.write().expect("no panic while held").remove(&id) {
            // Whoever waits for it waits in vain.
            view.fail(Error::new("57P05", "it has been dropped"));
        }
        self.core.absolve(id);
        self.core.tables.write().expect("no panic while held").remove(&id);
        self.tables.remove(&id);
        self.versions.remove(&id);
        self.positions.remove(&id);
        self.core.past.forget(id);
        if let Err(error) = self.core.store.drop_relation_log(id) {
            tracing::warn!(%error, id, "the log of a dropped relation could not be deleted; the next start does it");
        }
    }

    /// Makes the view's dataflow at this epoch, to be filled.
    pub fn hydrate(&mut self, id: RelationId, plan: Arc<Plan>, mut options: ViewOptions) -> Result<Arc<ViewStatus>> {
        for source in plan.imports() {
            let trimmed = self.core.past.settle(&self.core, source)?.trimmed;
            let start = options.starts.entry(source).or_default();
            // Nothing of a table is read from the log here.
            if trimmed > start.after {
                *start = StreamStart::after(trimmed);
            }
        }
        let tables = (0..self.workers.count())
            .map(|_| {
                let pins = plan.imports().into_iter().filter_map(|id| {
                    let pin = self.tables.get(&id)?.reader().pin(self.header.epoch);
                    Some((id, pin.expect("the tables' last published epoch is not later")))
                });
                Mutex::new(pins.collect())
            })
            .collect();
        let start = Start::Hydrate { header: self.header.clone(), tables };
        self.start_view(id, plan, start, options)
    }

    pub fn start_view(
        &mut self,
        id: RelationId,
        plan: Arc<Plan>,
        start: Start,
        options: ViewOptions,
    ) -> Result<Arc<ViewStatus>> {
        let catalog = self.core.catalog();
        let mut bases = BTreeSet::new();
        let mut table_keys = BTreeMap::new();
        for source in plan.imports() {
            let Some(relation) = catalog.get(source) else {
                // A view that is being made with this one.
                if !self.plans.contains_key(&source) {
                    return Err(Error::undefined_relation(format!("#{source}")));
                }
                bases.extend(self.core.bases_of(source));
                continue;
            };
            match relation.kind {
                RelationKind::MaterializedView | RelationKind::Arrangement => bases.extend(self.core.bases_of(source)),
                RelationKind::Table => {
                    let schema = relation.arrow_schema();
                    let types = schema.fields().iter().map(|f| f.data_type().clone()).collect();
                    let key = match &relation.primary_key[..] {
                        [] => (0..schema.fields().len()).collect(),
                        key => key.to_vec(),
                    };
                    table_keys.insert(source, (types, key));
                    bases.insert(source);
                }
                _ => {
                    bases.insert(source);
                }
            }
        }
        if plan.reads_clock() {
            bases.insert(CLOCK);
        }
        let status = Arc::new(ViewStatus::new(self.workers.count(), Some(plan.clone())));
        self.core.set_bases(id, bases.clone());
        self.core.views.write().expect("no panic while held").insert(id, status.clone());
        self.plans.insert(id, plan.clone());
        self.traits = None;
        let setup = ViewSetup { id, plan, start, status: status.clone(), bases, options, table_keys };
        self.workers.send(Command::Create(Arc::new(setup)));
        Ok(status)
    }

    pub(super) fn suspend_above(&self, id: RelationId, reason: &Error) {
        let reason = Error::not_in_state(format!("a view that it reads is suspended: {}", reason.message));
        let above = self.plans.iter().filter(|(_, plan)| plan.imports().contains(&id));
        for view in above.filter_map(|(above, _)| self.core.view(*above)) {
            view.fail(reason.clone());
        }
    }
}
