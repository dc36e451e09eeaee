//! The second half of ALTER TABLE: the altered definition takes its place, with its rows where those are written anew.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, Int64Array, RecordBatch};
use arrow::datatypes::Field;

use super::Session;
use super::alter::{Draft, Origin};
use super::query::{Scope, bind_query, session_state};
use super::view::columns_of;
use crate::catalog::{Catalog, Relation, RelationId, RelationKind};
use crate::delta::Delta;
use crate::error::{Error, Result};
use crate::sequences::setting;
use crate::serve::snapshot::Snapshot;
use crate::serve::table::scan;
use crate::sql::context::Settings as BindSettings;
use crate::state::store::CatalogChange;
use crate::time::Epoch;
use crate::waits::Reason;

impl Session {
    /// Changes what is said of the rows.
    pub(super) async fn redefine(&mut self, found: &Arc<Relation>, draft: &Draft) -> Result<()> {
        let mut epoch = Epoch::MAX;
        if !draft.new_checks.is_empty() {
            let snapshot = Snapshot::take(&self.core, std::slice::from_ref(found)).await?;
            epoch = snapshot.epoch;
            for rows in scan(&snapshot.relations[&found.id], found, &self.core.store) {
                self.check_conditions(&draft.relation, &draft.new_checks, &rows?, false)?;
            }
        }
        self.check_own(found, draft)?;
        let (core, found, new) = (self.core.clone(), found.clone(), draft.relation.clone());
        self.edit(move |catalog| {
            check_unchanged(&core, catalog, &found, epoch)?;
            check_names(catalog, &found, &new)?;
            let mut changes = forgotten_sequences(&found, &new);
            changes.push(CatalogChange::Put(Box::new(new)));
            Ok(changes)
        })
        .await
    }

    /// Writes the rows into a table of their own, which takes the place of `found`.
    pub(super) async fn write_anew(&mut self, found: &Arc<Relation>, draft: &mut Draft) -> Result<()> {
        // Writers wait rather than have it done again and again; only transactions, which hold no locks, do not.
        let lock = self.core.lock_of(found.id).lock_owned();
        let _held = self.core.waits.during(self.waiter(), Reason::Lock, Some(found.id), lock).await;
        let _altering = self.core.begin_altering(found.id);
        let catalog = self.core.catalog();
        draft.relation.id = self.core.store.next_id()?;
        let views = self.views_over(&catalog, found, draft)?;
        let snapshot = Snapshot::take(&self.core, std::slice::from_ref(found)).await?;
        let epoch = snapshot.epoch;
        let mut rows = Vec::new();
        for batch in scan(&snapshot.relations[&found.id], found, &self.core.store) {
            let batch = batch?;
            rows.push(Delta::inserts(self.written_anew(found, draft, &batch).await?));
        }
        draft.own = self.own_written_anew(found, draft).await?;
        rows.retain(|delta| !delta.is_empty());
        let rows = if rows.is_empty() { Vec::new() } else { vec![(draft.relation.id, rows)] };
        if views.iter().any(|(view, _)| view.kind == RelationKind::MaterializedView) {
            return self.write_anew_below(found, draft, rows, views, epoch).await;
        }
        let (core, old, new) = (self.core.clone(), found.clone(), draft.relation.clone());
        let numbers = std::mem::take(&mut draft.next_numbers);
        let came_from = draft.came_from();
        let made = Arc::new(new.clone());
        let edit = move |catalog: &Catalog| {
            check_unchanged(&core, catalog, &old, epoch)?;
            check_names(catalog, &old, &new)?;
            for (_, reads) in core.creating.lock().expect("no panic while held").iter() {
                if reads.contains(&old.id) {
                    return Err(Error::new("55006", "a materialized view that reads it is being created"));
                }
            }
            let known = |id| views.iter().any(|(before, _): &(Arc<Relation>, Relation)| before.id == id);
            let same = |before: &Arc<Relation>| catalog.get(before.id) == Some(before);
            if !catalog.dependants(old.id).all(|d| known(d.id)) || !views.iter().all(|(before, _)| same(before)) {
                return Err(changed_meanwhile(&old));
            }
            let mut changes = taken_place(&core, catalog, &old, new, &came_from, numbers)?;
            changes.extend(views.into_iter().map(|(_, view)| CatalogChange::Put(Box::new(view))));
            Ok(changes)
        };
        self.edit_with(rows, edit).await?;
        self.engine.sources().stop_one(found.id);
        self.engine.sources().start(&made, None)
    }

    /// Some rows as they are to be, if all that is so of them then is so.
    pub(super) async fn written_anew(
        &mut self,
        found: &Relation,
        draft: &mut Draft,
        rows: &RecordBatch,
    ) -> Result<RecordBatch> {
        let relation = &draft.relation;
        let schema = relation.arrow_schema();
        let mut columns: Vec<ArrayRef> = Vec::with_capacity(draft.origins.len());
        for (at, origin) in draft.origins.iter().enumerate() {
            columns.push(match origin {
                Origin::Kept(from) => rows.column(*from).clone(),
                Origin::New => match &relation.columns[at].identity {
                    None => self.default_value(relation, at, rows.num_rows()).await?,
                    Some(sequence) => {
                        let next = draft.next_numbers.get_mut(&sequence.id).expect("noted with the column");
                        let numbers = Int64Array::from(super::numbers::numbers_from(sequence, next, rows.num_rows())?);
                        arrow::compute::cast(&numbers, schema.field(at).data_type()).map_err(Error::internal)?
                    }
                },
                Origin::Changed(from, using) => {
                    let (values, given) = match using {
                        None => (rows.column(*from).clone(), rows.schema().field(*from).clone()),
                        Some(expression) => {
                            let values = self.on_row(found, expression)?.of(rows)?;
                            let given = Field::new("", values.data_type().clone(), true);
                            (values, given)
                        }
                    };
                    crate::sql::cast::assign(&values, &given, schema.field(at), &self.style()?)?
                }
            });
        }
        let columns = self.with_generated_anew(relation, columns, rows.num_rows())?;
        for (column, values) in relation.columns.iter().zip(&columns) {
            if !column.nullable && values.null_count() > 0 {
                let (name, table) = (&column.name, &relation.name);
                let message = format!("column \"{name}\" of relation \"{table}\" contains null values");
                return Err(Error::new("23502", message).of_table(&relation.schema_name, table).of_column(name));
            }
        }
        let rows = RecordBatch::try_new(schema, columns).map_err(Error::internal)?;
        self.check_conditions(relation, &draft.new_checks, &rows, false)?;
        Ok(rows)
    }

    /// The views over a table, before and as they are over the altered one: each must still show the same columns. That it
    /// would with another column of the same name is not enough, so it must with those alone that stay.
    pub(super) fn views_over(
        &self,
        catalog: &Catalog,
        old: &Arc<Relation>,
        draft: &Draft,
    ) -> Result<Vec<(Arc<Relation>, Relation)>> {
        let new = &draft.relation;
        let above = super::replace::all_dependants(catalog, old.id);
        let kind = old.kind.word();
        let depends = |d: &Arc<Relation>| format!("{} {} depends on {kind} {}", d.kind.word(), d.name, old.name);
        let refused = |names: Vec<String>, why: String| {
            let message = format!("cannot alter {kind} {} because other objects depend on it", old.name);
            Error::new("2BP01", message).detail(names.join("\n")).hint(why)
        };
        let kept: Vec<String> = above.iter().filter(|d| d.kind == RelationKind::Sink).map(depends).collect();
        if !kept.is_empty() {
            return Err(refused(kept, "Drop the sink first, and make it again afterwards.".into()));
        }
        let moved = |view: &Arc<Relation>| {
            let mut view = view.as_ref().clone();
            view.depends_on.iter_mut().filter(|id| **id == old.id).for_each(|id| *id = new.id);
            view
        };
        let views: Vec<(Arc<Relation>, Relation)> = above.iter().map(|view| (view.clone(), moved(view))).collect();
        let over = |table: &Relation| {
            let mut catalog = catalog.clone();
            catalog.relations.remove(&old.id);
            catalog.relations.insert(table.id, Arc::new(table.clone()));
            for (_, view) in views.iter().filter(|_| table.id == new.id) {
                catalog.relations.insert(view.id, Arc::new(view.clone()));
            }
            Arc::new(catalog)
        };
        let stay: Vec<usize> = (0..new.columns.len()).filter(|&at| !matches!(draft.origins[at], Origin::New)).collect();
        let columns = stay.iter().map(|&at| new.columns[at].clone()).collect();
        let key = new.primary_key.iter().map(|key| stay.iter().position(|at| at == key));
        let primary_key = key.collect::<Option<Vec<_>>>().unwrap_or_default();
        let kept = Relation { columns, primary_key, schema: Default::default(), ..new.clone() };
        let (before, kept, after) = (over(old), over(&kept), over(new));
        let adds = stay.len() < new.columns.len();
        let mut broken = Vec::new();
        let mut why = String::new();
        for (view, _) in &views {
            let shown = self.shown_by(view, &before)?;
            for catalog in [&kept, &after] {
                let reason = match self.shown_by(view, catalog) {
                    Ok(now) if now == shown && !(adds && joins_naturally(view)) => continue,
                    Ok(now) if now == shown => "A NATURAL JOIN goes by the columns that there are.".to_string(),
                    Ok(_) => "It would show other columns: name those that it shows in its query.".to_string(),
                    Err(error) => format!("{}: drop the view first.", error.message),
                };
                broken.push(depends(view));
                why = reason;
                break;
            }
        }
        if broken.is_empty() { Ok(views) } else { Err(refused(broken, why)) }
    }

    /// The names and types of the columns of a view's query.
    pub(super) fn shown_by(&self, view: &Relation, catalog: &Arc<Catalog>) -> Result<Vec<(String, String)>> {
        let scope = Scope { catalog: catalog.clone(), search_path: view.names_in(), ..self.scope() };
        let settings = BindSettings { time_zone: view.time_zone.clone(), ..BindSettings::default() };
        let state = session_state(&settings, scope.system.as_ref())?;
        let query = crate::sql::parse::query(view.query.as_deref().expect("a view has a query"))?;
        let bound = bind_query(&state, &scope, &query, &[])?;
        let columns = columns_of(&bound.plan, &bound.names)?;
        Ok(columns.into_iter().map(|column| (column.name, column.sql_type)).collect())
    }
}

fn joins_naturally(view: &Relation) -> bool {
    view.query.as_deref().is_some_and(|query| query.to_ascii_lowercase().contains("natural"))
}

pub(super) fn changed_meanwhile(relation: &Relation) -> Error {
    let (kind, name) = (relation.kind.word(), &relation.name);
    Error::new("40001", format!("{kind} \"{name}\" changed while it was being altered"))
}

/// Neither the definition nor, after `epoch`, the rows have changed.
pub(super) fn check_unchanged(
    core: &crate::core::Core,
    catalog: &Catalog,
    found: &Arc<Relation>,
    epoch: Epoch,
) -> Result<()> {
    // The commit thread publishes a table in the epochs alone that change its rows.
    let rows = core.table(found.id).is_some_and(|table| table.closed() <= epoch);
    if catalog.get(found.id) == Some(found) && rows { Ok(()) } else { Err(changed_meanwhile(found)) }
}

/// The names of indexes and sequences that are new must be free.
pub(super) fn check_names(catalog: &Catalog, old: &Relation, new: &Relation) -> Result<()> {
    let known = old.names_beside();
    match new.names_beside().iter().find(|name| !known.contains(name) && catalog.is_taken(&new.schema_name, name)) {
        Some(name) => Err(super::ddl::already_exists(name)),
        None => Ok(()),
    }
}

/// The altered table takes the place of the old one, with the sequences of both, and for those that refer to it. `came_from`: for
/// each of its columns the one of the old table that it was.
pub(super) fn taken_place(
    core: &crate::core::Core,
    catalog: &Catalog,
    old: &Relation,
    mut new: Relation,
    came_from: &[Option<usize>],
    numbers: BTreeMap<RelationId, i128>,
) -> Result<Vec<CatalogChange>> {
    let mut changes = forgotten_sequences(old, &new);
    for (sequence, next) in numbers {
        let mark = core.sequences.set(sequence, next);
        changes.push(CatalogChange::Meta { key: setting(sequence), value: Some(mark) });
    }
    for sequence in catalog.owned_sequences(old.id) {
        let mut moved = (**sequence).clone();
        moved.set_owned_by(sequence.owned_by().map(|(_, column)| (new.id, column)));
        changes.push(CatalogChange::Put(Box::new(moved)));
    }
    changes.extend(super::references::following(catalog, old, &mut new, came_from)?);
    changes.push(CatalogChange::Drop(old.id));
    changes.push(CatalogChange::Put(Box::new(new)));
    Ok(changes)
}

/// Sequences of columns that are no more.
fn forgotten_sequences(old: &Relation, new: &Relation) -> Vec<CatalogChange> {
    let gone = old.sequences().filter(|sequence| !new.sequences().any(|kept| kept.id == sequence.id));
    gone.map(|sequence| CatalogChange::Meta { key: setting(sequence.id), value: None }).collect()
}
