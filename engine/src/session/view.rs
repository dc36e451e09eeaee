//! CREATE MATERIALIZED VIEW: bound, lowered, filled beside everything else, then put into the catalog.

use std::borrow::Cow;
use std::collections::btree_map::Entry;
use std::sync::Arc;

use arrow::datatypes::{FieldRef, Fields};
use datafusion::execution::SessionState;
use datafusion::logical_expr::LogicalPlan;
use sqlparser::ast;

use super::arrangements::{self, Arrangements, NewArrangement};
use super::definition::view_definition;
use super::dml::quoted;
use super::query::{Bound, Scope, bind_query, bind_text, rename, session_state};
use super::{Outcome, Session};
use crate::catalog::{Column, Relation, RelationId, RelationKind};
use crate::commit::Request;
use crate::core::Core;
use crate::dataflow::view::ViewOptions;
use crate::engine::view_options;
use crate::error::{Error, Result};
use crate::plan::Plan;
use crate::plan::arranged::Offers;
use crate::plan::lower::{Showing, check_deterministic, lower};
use crate::plan::order::close_orders;
use crate::serve::table::SnapshotSlot;
use crate::sql::bind;
use crate::sql::context::Settings as BindSettings;
use crate::sql::joins::{has_stars, spell_out_stars};
use crate::sql::statement::{Emit, Name, Options};
use crate::sql::types::sql_type_of;
use crate::state::store::CatalogChange;
use crate::ttl::{TTL, TTL_COLUMN, Ttl};
use crate::waits::Reason;

/// The incremental plan of a stored materialized view.
pub fn plan_query(core: &Arc<Core>, slot: &Arc<SnapshotSlot>, relation: &Relation) -> Result<Plan> {
    let settings = BindSettings { time_zone: relation.time_zone.clone(), ..BindSettings::default() };
    let state = session_state(&settings, None)?;
    let scope = Scope {
        core: core.clone(),
        catalog: core.catalog(),
        slot: slot.clone(),
        search_path: relation.names_in(),
        extra: Default::default(),
        silent: Default::default(),
        system: None,
        depth: 0,
        within: None,
        views: Default::default(),
        cancel: Default::default(),
    };
    let names: Vec<String> = relation.columns.iter().map(|c| c.name.clone()).collect();
    let plan = bind_text(&state, &scope, relation.query.as_deref().expect("a view has a query"), &names)?;
    // Those it was made with: what rests on the view relies on them.
    let types: Vec<_> = relation.arrow_schema().fields().iter().map(|f| f.data_type().clone()).collect();
    let offers = |_: &LogicalPlan| Ok(arrangements::read_by(relation, &scope.catalog));
    lower_bound(&state, bind::with_types(plan, &types)?, showing(relation), offers)
}

/// The option that says it in the catalog.
const EMIT: &str = "emit";
const FINAL: &str = "on window close";

pub(super) fn showing(relation: &Relation) -> Showing {
    match relation.options.get(EMIT).map(String::as_str) {
        Some(FINAL) => Showing::Final,
        _ => Showing::Changes,
    }
}

/// `offers`: the arrangements that the optimized plan may read.
pub(super) fn lower_bound(
    state: &SessionState,
    plan: LogicalPlan,
    showing: Showing,
    offers: impl FnOnce(&LogicalPlan) -> Result<Offers>,
) -> Result<Plan> {
    check_deterministic(&plan)?;
    let optimized = close_orders(bind::optimize(state, plan)?)?;
    let offers = offers(&optimized)?;
    lower(state, &optimized, showing, &offers)
}

/// A view that is so many epochs behind may go live.
const CATCH_UP_EPOCHS: u64 = 64;

/// Options of a materialized view.
const OPTIONS: &[&str] = &["background", "history", "memory_limit", "on_error", "start", TTL, TTL_COLUMN];

/// A view that is being made: taken back unless it is finished.
pub(super) struct Making {
    core: Arc<Core>,
    id: RelationId,
    finished: bool,
}

impl Making {
    pub(super) fn id(&self) -> RelationId {
        self.id
    }
    /// It is in the catalog.
    pub(super) fn finish(mut self) {
        self.finished = true;
    }
}

impl Drop for Making {
    fn drop(&mut self) {
        self.core.creating.lock().expect("no panic while held").remove(&self.id);
        if !self.finished {
            let core = self.core.clone();
            let id = self.id;
            // From a cancelled statement there is no waiting; a full queue is emptied soon.
            if core.requests.try_send(Request::Abandon(id)).is_err() {
                std::thread::spawn(move || core.requests.blocking_send(Request::Abandon(id)));
            }
        }
    }
}

pub(super) struct Definition<'a> {
    pub name: &'a Name,
    pub columns: &'a [String],
    pub query: &'a ast::Query,
    pub options: &'a Options,
    pub emit: Emit,
    pub text: &'a str,
}

/// A view that may be made.
pub(super) struct Defined {
    pub relation: Relation,
    pub plan: Plan,
    pub logical: LogicalPlan,
    /// What has to be made with it.
    pub arrangements: Vec<NewArrangement>,
}

/// A view's query as it is kept, and bound: as in Postgres a star in it is the columns that there are now.
pub(super) fn bind_view<'a>(
    state: &SessionState,
    scope: &Scope,
    query: &'a ast::Query,
) -> Result<(Cow<'a, ast::Query>, Bound)> {
    let bound = bind_query(state, scope, query, &[])?;
    if !has_stars(query) {
        return Ok((Cow::Borrowed(query), bound));
    }
    let mut spelt_out = query.clone();
    spell_out_stars(&mut spelt_out, &mut |query| {
        let bound = bind_query(state, scope, query, &[]).ok()?;
        let types = bound.plan.schema().fields().iter().map(|field| field.data_type().clone());
        Some(bound.names.iter().cloned().zip(types).collect())
    })?;
    let types = |bound: &Bound| -> Vec<_> { bound.plan.schema().fields().iter().map(|f| sql_type_of(f)).collect() };
    match bind_query(state, scope, &spelt_out, &[]) {
        Ok(again) if spelt_out != *query && again.names == bound.names && types(&again) == types(&bound) => {
            Ok((Cow::Owned(spelt_out), again))
        }
        // Where the columns cannot be named apart.
        _ => Ok((Cow::Borrowed(query), bound)),
    }
}

impl Session {
    /// Binds and lowers, without making anything.
    pub(super) fn define_view(&self, d: &Definition) -> Result<Defined> {
        check_options(d.options)?;
        let scope = Scope { system: None, ..self.scope() };
        // What the time is, each epoch says; and what the view will run is no statement's.
        let settings = BindSettings { now: None, sort_reserve_bytes: None, ..self.bind_settings() };
        let state = session_state(&settings, None)?;
        let (mut query, mut bound) = bind_view(&state, &scope, d.query)?;
        let spelt_out = matches!(query, Cow::Owned(_));
        let names = column_names(&bound.names, d.columns)?;
        if d.options.contains_key(TTL) || d.options.contains_key(TTL_COLUMN) {
            query = Cow::Owned(living(&scope, d, columns_of(&bound.plan, &names)?)?);
            bound = bind_query(&state, &scope, &query, &[])?;
        }
        let logical = rename(bound.plan, &names)?;
        let showing = if d.emit == Emit::OnWindowClose { Showing::Final } else { Showing::Changes };
        let mut arrangements = Arrangements::default();
        let plan = lower_bound(&state, logical.clone(), showing, |plan| arrangements.offer(&self.core, &scope, plan))?;
        let arrangements = arrangements.read_by(&plan);
        let columns = columns_of(&logical, &names)?;
        let depends_on = crate::session::ddl::dependencies(&scope, &query)?;
        let mut options = d.options.clone();
        if plan.output().append_only {
            options.insert("append_only".into(), "true".into());
        }
        if showing == Showing::Final {
            options.insert(EMIT.into(), FINAL.into());
        }
        let mut relation = Relation {
            kind: RelationKind::MaterializedView,
            columns,
            query: Some(crate::session::ddl::stored_text(&scope, &query)?),
            options,
            depends_on,
            bounds: plan.bounds.clone(),
            dealt_by: plan.output_key.clone().unwrap_or_default(),
            arrangements: arrangements::of(&plan),
            ..self.new_relation(d.name, d.text)?
        };
        if spelt_out {
            let end = if showing == Showing::Final { " EMIT ON WINDOW CLOSE" } else { "" };
            relation.sql = view_definition(&relation, d.columns, d.options, end);
        }
        Ok(Defined { relation, plan, logical, arrangements })
    }

    pub(super) async fn create_materialized_view(
        &mut self,
        d: Definition<'_>,
        or_replace: bool,
        if_not_exists: bool,
    ) -> Result<()> {
        let existing = self.existing(d.name);
        if let Some(existing) = &existing {
            if if_not_exists {
                self.notice("NOTICE", "42P07", format!("relation \"{}\" already exists, skipping", existing.name));
                return Ok(());
            }
            if !or_replace {
                return Err(Error::new("42P07", format!("relation \"{}\" already exists", existing.name)));
            }
            if existing.kind != RelationKind::MaterializedView {
                return Err(Error::new("42809", format!("\"{}\" is not a materialized view", existing.name)));
            }
        }
        let known = self.core.catalog();
        let mut defined = self.define_view(&d)?;
        if let Some(old) = existing {
            return self.replace_view(old, defined).await;
        }
        let (relation, arrangements, making, looks_up) = loop {
            let Defined { mut relation, plan, arrangements, .. } = defined;
            let looks_up = plan.looks_up();
            // The last one made is the first to be taken back.
            let mut making: Vec<Making> = Vec::new();
            let arrangements = self.make_arrangements(arrangements, &mut making).await?;
            relation.id = self.core.store.next_id()?;
            match self.make_live(&mut relation, Arc::new(plan)).await {
                Ok(made) => making.insert(0, made),
                // The last view that read an arrangement was dropped just now.
                Err(_) if arrangements::are_gone(&self.core.catalog(), &relation, &arrangements) => {
                    defined = self.define_view(&d)?;
                    continue;
                }
                Err(error) => return Err(error),
            }
            break (relation, arrangements, making, looks_up);
        };
        let edit = move |catalog: &crate::catalog::Catalog| {
            if catalog.find(&relation.schema_name, &relation.name).is_some() {
                return Err(Error::new("42P07", format!("relation \"{}\" already exists", relation.name)));
            }
            super::ddl::check_schema(catalog, &relation.schema_name)?;
            let made = |id: &RelationId| arrangements.iter().any(|made| made.id == *id);
            for id in relation.depends_on.iter().chain(relation.arrangements.iter().filter(|id| !made(id))) {
                if catalog.get(*id).is_none() {
                    return Err(Error::undefined_relation(format!("#{id}"))
                        .detail("It was dropped while the view was being made."));
                }
            }
            super::alter_stream::check_columns(&known, catalog, &relation.depends_on)?;
            Ok(arrangements.into_iter().chain([relation]).map(|r| CatalogChange::Put(Box::new(r))).collect())
        };
        self.decide(|reply| Request::Catalog { edit: Box::new(edit), rows: vec![], reply }).await?;
        making.into_iter().for_each(Making::finish);
        if looks_up {
            self.save_look_ups().await;
        }
        Ok(())
    }

    /// What rows looked up when they came is in no log: it is saved before anyone relies on it.
    pub(super) async fn save_look_ups(&mut self) {
        if let Err(error) = self.core.ask(|reply| Request::Checkpoint { reply }).await {
            let message = format!(
                "the view will be filled anew if the server ends before its next checkpoint: {}",
                error.message
            );
            self.notice("WARNING", "01000", message);
        }
    }

    /// Hydrates a view that is in no catalog yet, until it is live.
    pub(super) async fn make_live(&self, relation: &mut Relation, plan: Arc<Plan>) -> Result<Making> {
        let (id, core) = (relation.id, self.core.clone());
        let making = Making { core: core.clone(), id, finished: false };
        let reads = relation.depends_on.iter().copied().chain(plan.imports()).collect();
        core.creating.lock().expect("no panic while held").insert(id, reads);
        // From here on nothing is trimmed of what it reads. A view that is made anew keeps where it started.
        if relation.starts.is_empty() {
            relation.starts = self.starts(&plan, &relation.options)?;
        }
        let filled = fill(&core, id, plan, view_options(relation));
        core.waits.during(self.waiter(), Reason::Hydration, Some(id), filled).await?;
        Ok(making)
    }
}

/// Fills a view and lets it go live.
async fn fill(core: &Arc<Core>, id: RelationId, plan: Arc<Plan>, options: ViewOptions) -> Result<()> {
    let status = core.ask(|reply| Request::Hydrate { id, plan, options, reply }).await?;
    core.progress.wait_until(|| status.failure().is_some() || status.hydrated().is_some()).await;
    // A long hydration leaves much to catch up with; the others wait only for the last step.
    while let Some(hydrated) = status.hydrated().filter(|_| status.failure().is_none()) {
        if core.committed.load(std::sync::atomic::Ordering::Acquire) - hydrated <= CATCH_UP_EPOCHS {
            break;
        }
        let epoch = core.ask(|reply| Request::CatchUp { id, join: false, reply }).await?;
        core.progress.wait_until(|| status.failure().is_some() || status.hydrated() >= Some(epoch)).await;
    }
    // Live from an epoch that all workers agree on.
    if status.failure().is_none() {
        let epoch = core.ask(|reply| Request::CatchUp { id, join: true, reply }).await?;
        core.progress
            .wait_until(|| {
                status.failure().is_some()
                    || (0..core.workers).all(|w| core.progress.processed(w) >= epoch && status.closed(w, epoch))
            })
            .await;
    }
    status.failure().map_or(Ok(()), Err)
}

impl Session {
    /// A view that is maintained has nothing to be refreshed.
    pub(super) fn refresh(&self, name: &Name) -> Result<Outcome> {
        let relation = self.relation(name)?;
        if relation.kind != RelationKind::MaterializedView {
            return Err(Error::new("42809", format!("\"{}\" is not a materialized view", relation.name)));
        }
        Ok(Outcome::Done("REFRESH MATERIALIZED VIEW".into()))
    }

    /// Fills a suspended view anew. It goes on when the statement is cancelled.
    pub(super) async fn resume(&mut self, name: &Name) -> Result<()> {
        let relation = self.relation(name)?;
        if relation.kind != RelationKind::MaterializedView {
            return Err(Error::new("42809", format!("\"{}\" is not a materialized view", relation.name)));
        }
        let (core, id) = (self.core.clone(), relation.id);
        if core.view(id).is_none_or(|view| view.failure().is_none()) {
            return Err(Error::not_in_state(format!("materialized view \"{}\" is not suspended", relation.name)));
        }
        let plan = Arc::new(plan_query(&core, &self.slot, &relation)?);
        let catalog = core.catalog();
        for source in plan.imports() {
            let is_view = |r: &&Arc<Relation>| r.kind == RelationKind::MaterializedView;
            let failure = core.view(source).and_then(|v| v.failure());
            if let (Some(source), Some(_)) = (catalog.get(source).filter(is_view), failure) {
                let message = format!("materialized view \"{}\", which it reads, is suspended", source.name);
                return Err(Error::not_in_state(message).hint("Resume that one first."));
            }
        }
        let looks_up = plan.looks_up();
        // Itself too: it cannot be dropped meanwhile.
        let reads = relation.depends_on.iter().copied().chain(plan.imports()).chain([id]).collect();
        let arrangements = arrangements::suspended(&core, &relation);
        match core.creating.lock().expect("no panic while held").entry(id) {
            Entry::Occupied(_) => return Err(Error::new("55006", "it is being resumed already")),
            Entry::Vacant(entry) => _ = entry.insert(reads),
        }
        let resumed = tokio::spawn(async move {
            let mut result = Ok(());
            for (arrangement, plan) in arrangements {
                result = fill(&core, arrangement.id, Arc::new(plan), view_options(&arrangement)).await;
                if result.is_err() {
                    break;
                }
            }
            core.absolve(id);
            if result.is_ok() {
                result = fill(&core, id, plan, view_options(&relation)).await;
            }
            core.creating.lock().expect("no panic while held").remove(&id);
            if result.is_ok() {
                core.past.note(&core, &relation, core.committed.load(std::sync::atomic::Ordering::Acquire));
            }
            result
        });
        let resumed = self.core.waits.during(self.waiter(), Reason::Hydration, Some(id), resumed).await;
        resumed.map_err(Error::internal)??;
        if looks_up {
            self.save_look_ups().await;
        }
        Ok(())
    }
}

fn check_options(options: &Options) -> Result<()> {
    for (name, value) in options {
        if !OPTIONS.contains(&name.as_str()) {
            return Err(Error::undefined_object(format!("unrecognized option \"{name}\" of a materialized view"))
                .hint(format!("Options are {}.", OPTIONS.join(", "))));
        }
        let fine = match name.as_str() {
            "on_error" => value == "skip",
            "history" => crate::connectors::options::duration_us("history", value).map(|_| true)?,
            // What they say is looked at when the view's columns are known.
            "start" | TTL | TTL_COLUMN => true,
            "memory_limit" if crate::connectors::options::bytes(value).is_some() => true,
            "memory_limit" => {
                let error = Error::invalid_value(format!("invalid value for option \"memory_limit\": \"{value}\""));
                return Err(error.hint("A size such as '512 MB'."));
            }
            "background" => value == "false",
            _ => false,
        };
        if !fine {
            return Err(Error::unsupported(format!("{name} = {value} for a materialized view")));
        }
    }
    Ok(())
}

/// The query of a view whose rows have a time to live: they leave it as by a condition on the clock.
fn living(scope: &Scope, d: &Definition, columns: Vec<Column>) -> Result<ast::Query> {
    let names = columns.iter().map(|c| quoted(&c.name)).collect::<Vec<_>>().join(", ");
    let ttl = Ttl::of(&columns, d.options)?.expect("the options are there");
    let column = &columns[ttl.column];
    let now = match column.sql_type.contains("with time zone") {
        true => "now()",
        false => "(now() AT TIME ZONE 'UTC')",
    };
    let text = format!(
        "SELECT * FROM ({}) AS living({names}) WHERE {} > {now} - INTERVAL '{} microseconds'",
        crate::session::ddl::stored_text(scope, d.query)?,
        quoted(&column.name),
        ttl.age_us
    );
    crate::sql::parse::query(&text).map(|query| *query)
}

/// The names that the statement gives, or those of the query.
pub fn column_names(bound: &[String], given: &[String]) -> Result<Vec<String>> {
    if given.len() > bound.len() {
        return Err(Error::new(
            "42601",
            format!("{} column names were given for {} columns", given.len(), bound.len()),
        ));
    }
    let names: Vec<String> = given.iter().chain(&bound[given.len()..]).cloned().collect();
    for (i, name) in names.iter().enumerate() {
        if names[..i].contains(name) {
            return Err(Error::new("42701", format!("column \"{name}\" specified more than once")));
        }
    }
    Ok(names)
}

pub fn columns_of(plan: &LogicalPlan, names: &[String]) -> Result<Vec<Column>> {
    columns_of_fields(plan.schema().fields(), names)
}

/// Error: 42P16 for a column that none can be.
pub fn columns_of_fields(fields: &Fields, names: &[String]) -> Result<Vec<Column>> {
    let column = |(field, name): (&FieldRef, &String)| {
        let sql_type = sql_type_of(field);
        if crate::sql::types::field(name, &sql_type, true).is_err() {
            return Err(Error::new("42P16", format!("column \"{name}\" has pseudo-type {sql_type}")));
        }
        Ok(Column {
            name: name.clone(),
            sql_type,
            nullable: true,
            default: None,
            identity: None,
            generated: None,
            absent: None,
        })
    };
    fields.iter().zip(names).map(column).collect()
}
