//! CREATE OR REPLACE MATERIALIZED VIEW where others read the view: those that do are made anew beside the old ones, over
//! the new view, and all change places in one epoch.
//!
//! ```text
//!   a ──► v ──► w ──► x        a ──► v' ──► w' ──► x'     then v, w, x go, and v', w', x' have their names
//! ```
//!
//! What reads the view must still be a query over it, with columns of the same types: else nothing is made.

use std::sync::Arc;

use datafusion::logical_expr::LogicalPlan;

use super::Session;
use super::arrangements;
use super::query::{Scope, bind_text, session_state};
use super::view::{Defined, Making, columns_of, lower_bound, showing};
use crate::catalog::{Catalog, Relation, RelationId, RelationKind};
use crate::error::{Error, Result};
use crate::plan::Plan;
use crate::sql::context::Settings as BindSettings;
use crate::state::store::CatalogChange;

/// A relation that reads the replaced one, as it is to be.
pub(super) struct Dependant {
    pub old: Arc<Relation>,
    pub new: Relation,
    /// Of a materialized view.
    pub plan: Option<Arc<Plan>>,
}

impl Session {
    /// Makes `new` and what reads `old` live, and puts them in their places.
    pub(super) async fn replace_view(&mut self, old: Arc<Relation>, defined: Defined) -> Result<()> {
        let Defined { relation: mut new, plan, arrangements, .. } = defined;
        let catalog = self.core.catalog();
        if reaches(&catalog, &new.depends_on, old.id) {
            return Err(Error::new("42P17", format!("materialized view \"{}\" cannot read itself", old.name)));
        }
        let looks_up = plan.looks_up();
        let mut making: Vec<Making> = Vec::new();
        let arrangements = self.make_arrangements(arrangements, &mut making).await?;
        new.id = self.core.store.next_id()?;
        (new.comment, new.owner) = (old.comment.clone(), old.owner.clone());
        let mut dependants = self.dependants_over(&catalog, &old, &new)?;
        let live = self.make_live(&mut new, Arc::new(plan)).await;
        if live.is_err() && arrangements::are_gone(&self.core.catalog(), &new, &arrangements) {
            return Err(changed_meanwhile(&old));
        }
        making.insert(0, live?);
        for dependant in &mut dependants {
            if let Some(plan) = &dependant.plan {
                // The last one made is the first to be taken back.
                making.insert(0, self.make_live(&mut dependant.new, plan.clone()).await?);
            }
        }
        let mut plans = dependants.iter().filter_map(|dependant| dependant.plan.as_ref());
        let looks_up = looks_up || plans.any(|plan| plan.looks_up());
        let (core, own) = (self.core.clone(), making.iter().map(Making::id).collect::<Vec<_>>());
        let edit = move |catalog: &Catalog| {
            let changed = || changed_meanwhile(&old);
            let same = |known: &Arc<Relation>| catalog.get(known.id).is_some_and(|now| now == known);
            let others = all_dependants(catalog, old.id).len();
            if !same(&old) || others != dependants.len() || !dependants.iter().all(|d| same(&d.old)) {
                return Err(changed());
            }
            for (id, reads) in core.creating.lock().expect("no panic while held").iter() {
                let gone = |read: &RelationId| {
                    *read == old.id || dependants.iter().any(|d| d.plan.is_some() && d.old.id == *read)
                };
                if !own.contains(id) && reads.iter().any(gone) {
                    return Err(changed());
                }
            }
            let outside = |id: &RelationId| !own.contains(id) && catalog.get(*id).is_none();
            let made = dependants.iter().map(|d| &d.new).chain([&new]);
            if made.flat_map(|r| r.depends_on.iter().chain(&r.arrangements)).any(outside) {
                return Err(changed());
            }
            // Dependants go first.
            let gone = dependants.iter().rev().filter(|d| d.plan.is_some()).map(|d| d.old.id).chain([old.id]);
            let mut changes: Vec<CatalogChange> = gone.map(CatalogChange::Drop).collect();
            changes.extend(arrangements.into_iter().chain([new]).map(|r| CatalogChange::Put(Box::new(r))));
            changes.extend(dependants.into_iter().map(|d| CatalogChange::Put(Box::new(d.new))));
            Ok(changes)
        };
        self.edit(edit).await?;
        making.into_iter().for_each(Making::finish);
        if looks_up {
            self.save_look_ups().await;
        }
        Ok(())
    }

    /// What reads `old`, directly or not, over `new`; each after those that it reads.
    pub(super) fn dependants_over(
        &self,
        catalog: &Catalog,
        old: &Arc<Relation>,
        new: &Relation,
    ) -> Result<Vec<Dependant>> {
        let mut with_new = catalog.clone();
        with_new.relations.remove(&old.id);
        with_new.relations.insert(new.id, Arc::new(new.clone()));
        let before = Arc::new(catalog.clone());
        let mut ids = vec![(old.id, new.id)];
        let mut dependants = Vec::new();
        for found in all_dependants(catalog, old.id) {
            let cannot = |error: Error| {
                let (word, name) = (found.kind.word(), &found.name);
                let verb = if old.kind == RelationKind::Table { "alter" } else { "replace" };
                let message = format!(
                    "cannot {verb} {} \"{}\": {word} \"{name}\" could not go on: {}",
                    old.kind.word(),
                    old.name,
                    error.message
                );
                Error::new("2BP01", message).hint("Drop it first.")
            };
            if found.kind == RelationKind::Sink {
                return Err(cannot(Error::unsupported("moving a sink to another view")));
            }
            let scope = Scope {
                catalog: Arc::new(with_new.clone()),
                search_path: found.names_in(),
                system: None,
                ..self.scope()
            };
            let settings = BindSettings { time_zone: found.time_zone.clone(), ..BindSettings::default() };
            let state = session_state(&settings, None)?;
            let names: Vec<String> = found.columns.iter().map(|column| column.name.clone()).collect();
            let text = found.query.as_deref().expect("it reads another relation by a query");
            let bound = bind_text(&state, &scope, text, &names).map_err(|error| cannot(error.nowhere()))?;
            let columns = columns_of(&bound, &names)?;
            let others = "it would show other columns: name those that it shows in its query";
            if self.column_names_of(&found, &before)? != self.column_names_of(&found, &scope.catalog)? {
                return Err(cannot(Error::new("42P16", others)));
            }
            let differs = columns.iter().zip(&found.columns).find(|(now, before)| now.sql_type != before.sql_type);
            if let Some((now, before)) = differs {
                let types =
                    format!("its column \"{}\" would be {} instead of {}", now.name, now.sql_type, before.sql_type);
                return Err(cannot(Error::new("42804", types)));
            }
            let mut relation = found.as_ref().clone();
            for id in &mut relation.depends_on {
                *id = ids.iter().find(|(old, _)| old == id).map_or(*id, |(_, new)| *new);
            }
            let mut plan = None;
            if found.kind == RelationKind::MaterializedView {
                let there = |plan: &LogicalPlan| arrangements::there_for(&with_new, plan);
                let lowered = lower_bound(&state, bound, showing(&found), there).map_err(cannot)?;
                relation.arrangements = arrangements::of(&lowered);
                relation.options.remove("append_only");
                if lowered.output().append_only {
                    relation.options.insert("append_only".into(), "true".into());
                }
                relation.bounds = lowered.bounds.clone();
                relation.id = self.core.store.next_id()?;
                plan = Some(Arc::new(lowered));
            }
            ids.push((found.id, relation.id));
            with_new.relations.remove(&found.id);
            with_new.relations.insert(relation.id, Arc::new(relation.clone()));
            dependants.push(Dependant { old: found, new: relation, plan });
        }
        Ok(dependants)
    }
}

impl Session {
    fn column_names_of(&self, view: &Relation, catalog: &Arc<Catalog>) -> Result<Vec<String>> {
        Ok(self.shown_by(view, catalog)?.into_iter().map(|(name, _)| name).collect())
    }

    /// Views over a view that gets another query must go on to show what they show: `*` has the columns that there are when
    /// it is read. Errors: 2BP01.
    pub(super) fn check_views_over(&self, catalog: &Catalog, old: &Relation, new: &Relation) -> Result<()> {
        let mut with_new = catalog.clone();
        with_new.relations.insert(old.id, Arc::new(new.clone()));
        let (before, after) = (Arc::new(catalog.clone()), Arc::new(with_new));
        for view in all_dependants(catalog, old.id).iter().filter(|found| found.kind == RelationKind::View) {
            let why = match (self.shown_by(view, &before)?, self.shown_by(view, &after)) {
                (shown, Ok(now)) if shown == now => continue,
                (_, Ok(_)) => "It would show other columns: name those that it shows in its query.".to_string(),
                (_, Err(error)) => format!("{}: drop the view first.", error.message),
            };
            let message = format!("cannot replace view \"{}\" because view \"{}\" depends on it", old.name, view.name);
            return Err(Error::new("2BP01", message).hint(why));
        }
        Ok(())
    }
}

fn changed_meanwhile(old: &Relation) -> Error {
    let message = format!("what materialized view \"{}\" rests on, or what reads it, changed meanwhile", old.name);
    Error::new("40001", message).hint("Replace it again.")
}

/// Whether one of these relations is `id` or reads it.
fn reaches(catalog: &Catalog, from: &[RelationId], id: RelationId) -> bool {
    from.contains(&id) || all_dependants(catalog, id).iter().any(|dependant| from.contains(&dependant.id))
}

/// What reads a relation, directly or not; each after those that it reads.
pub(super) fn all_dependants(catalog: &Catalog, id: RelationId) -> Vec<Arc<Relation>> {
    let mut found: Vec<Arc<Relation>> = Vec::new();
    let mut next = vec![id];
    while let Some(id) = next.pop() {
        for dependant in catalog.dependants(id) {
            if found.iter().all(|known| known.id != dependant.id) {
                found.push(dependant.clone());
                next.push(dependant.id);
            }
        }
    }
    let mut sorted: Vec<Arc<Relation>> = Vec::new();
    while !found.is_empty() {
        let ready = |r: &Arc<Relation>| !found.iter().any(|other| r.depends_on.contains(&other.id));
        let at = found.iter().position(ready).expect("views do not read themselves");
        sorted.push(found.remove(at));
    }
    sorted
}
