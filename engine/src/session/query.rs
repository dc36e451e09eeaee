//! SELECT: bind, take a snapshot of what is read, run as a DataFusion query over it.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};

use arrow::datatypes::{Field, FieldRef, Schema, SchemaRef};
use datafusion::catalog::TableProvider;
use datafusion::common::ScalarValue;
use datafusion::common::metadata::{FieldMetadata, ScalarAndMetadata};
use datafusion::datasource::ViewTable;
use datafusion::execution::SessionState;
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::{ExecutionPlan, execute_stream};
use futures::StreamExt;
use sqlparser::ast;

use super::cancel::CancelHandle;
use super::{RowStream, Session, patience};
use crate::catalog::{Catalog, Relation, RelationId, RelationKind};
use crate::core::Core;
use crate::error::{Error, Result};
use crate::plan::lower::relations_read;
use crate::serve::log::LogTable;
use crate::serve::lookup::by_key;
use crate::serve::snapshot::{Scan, Snapshot};
use crate::serve::table::{RelationTable, SnapshotSlot};
use crate::sql::bind::{self, Relations, error_from};
use crate::sql::bounds;
use crate::sql::context::{self, Settings as BindSettings};
use crate::sql::enums;
use crate::sql::functions::joined_within_bounds;
use crate::sql::system::{CatalogView, SystemCatalog};
use crate::sql::types::TYPE_KEY;
use crate::waits::Reason;

/// The relations that a statement's names mean.
pub struct Scope {
    pub core: Arc<Core>,
    pub catalog: Arc<Catalog>,
    pub slot: Arc<SnapshotSlot>,
    pub search_path: Vec<String>,
    /// Names that mean batches at hand: rows to be inserted, to be returned.
    pub extra: HashMap<String, Arc<dyn TableProvider>>,
    /// Names in WITH of what changes rows and returns none.
    pub silent: HashSet<String>,
    pub system: Option<(Arc<dyn SystemCatalog>, Arc<CatalogView>)>,
    /// How deep views are nested so far.
    pub depth: usize,
    /// The view whose query is bound: a name of its own WITH in it, as in that of a recursive view, is not the view's.
    pub within: Option<RelationId>,
    /// Views bound so far, so that each is bound once however often it is named.
    pub views: Arc<Mutex<HashMap<RelationId, LogicalPlan>>>,
    /// Of the statement that runs.
    pub cancel: CancelHandle,
}

const VIEW_DEPTH_MAX: usize = 64;

impl Scope {
    pub fn find(&self, schema: Option<&str>, name: &str) -> Option<Arc<Relation>> {
        match schema {
            Some(schema) => self.catalog.find(super::temporary::meant(schema, &self.search_path)?, name).cloned(),
            None => self.search_path.iter().find_map(|s| self.catalog.find(s, name).cloned()),
        }
    }

    fn log_of(&self, relation: Arc<Relation>) -> Result<Arc<dyn TableProvider>> {
        if relation.kind != RelationKind::Stream {
            let message = format!("\"{}\" is a {}: only streams have a LOG", relation.name, relation.kind.word());
            return Err(Error::new("42809", message));
        }
        if let Some(column) = relation.columns.iter().find(|c| ["_offset", "_epoch", "_time"].contains(&&*c.name)) {
            return Err(Error::new("42701", format!("column \"{}\" specified more than once", column.name)));
        }
        Ok(Arc::new(LogTable::new(relation, self.slot.clone(), self.core.store.clone())))
    }

    fn provider(&self, relation: Arc<Relation>) -> Result<Arc<dyn TableProvider>> {
        match relation.kind {
            RelationKind::View => {
                if self.depth >= VIEW_DEPTH_MAX {
                    return Err(Error::new("54001", format!("view \"{}\" is nested too deep", relation.name)));
                }
                let bound = |plan, text: &str| Arc::new(ViewTable::new(plan, Some(text.to_string())));
                let known = self.views.lock().expect("no panic while held").get(&relation.id).cloned();
                let text = relation.query.as_deref().expect("a view has a query");
                if let Some(plan) = known {
                    return Ok(bound(plan, text));
                }
                let inner = Scope {
                    core: self.core.clone(),
                    catalog: self.catalog.clone(),
                    slot: self.slot.clone(),
                    search_path: relation.names_in(),
                    extra: HashMap::new(),
                    silent: HashSet::new(),
                    system: self.system.clone(),
                    depth: self.depth + 1,
                    within: Some(relation.id),
                    views: self.views.clone(),
                    cancel: self.cancel.clone(),
                };
                let settings = BindSettings { time_zone: relation.time_zone.clone(), ..BindSettings::default() };
                let state = session_state(&settings, self.system.as_ref())?;
                let names = relation.columns.iter().map(|c| c.name.clone()).collect::<Vec<_>>();
                // A place in its text is none in the statement's.
                let plan = bind_text(&state, &inner, text, &names).map_err(Error::nowhere)?;
                self.views.lock().expect("no panic while held").insert(relation.id, plan.clone());
                Ok(bound(plan, text))
            }
            RelationKind::Sequence => {
                Err(Error::new("42809", format!("\"{}\" is a sequence: it holds no rows", relation.name))
                    .hint("pg_sequences shows how far it has come."))
            }
            RelationKind::Sink => {
                Err(Error::new("42809", format!("\"{}\" is a sink: it holds no rows", relation.name)))
            }
            _ => {
                let append_only = match relation.kind {
                    RelationKind::Stream => true,
                    RelationKind::MaterializedView => relation.options.get("append_only").is_some_and(|v| v == "true"),
                    _ => false,
                };
                Ok(Arc::new(RelationTable::new(relation, append_only, self.slot.clone(), self.core.store.clone())))
            }
        }
    }
}

impl Relations for Scope {
    fn event_time(&self, schema: Option<&str>, name: &str) -> Result<Option<String>> {
        let relation = self.find(schema, name).ok_or_else(|| Error::undefined_relation(name))?;
        Ok(relation.watermark.as_ref().map(|w| relation.columns[w.column].name.clone()))
    }
    fn primary_key(&self, schema: Option<&str>, name: &str) -> Result<Option<Vec<String>>> {
        let relation = self.find(schema, name).filter(|relation| !relation.primary_key.is_empty());
        Ok(relation.map(|r| r.primary_key.iter().map(|&column| r.columns[column].name.clone()).collect()))
    }
    fn table(&self, schema: Option<&str>, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        if schema.is_none() {
            if let Some(table) = self.extra.get(name) {
                return Ok(Some(table.clone()));
            }
            if self.silent.contains(name) {
                return Err(Error::new("0A000", format!("WITH query \"{name}\" does not have a RETURNING clause")));
            }
        }
        if let Some(stream) = crate::sql::log::stream_of(name) {
            let relation = self.find(schema, stream).ok_or_else(|| Error::undefined_relation(stream))?;
            return self.log_of(relation).map(Some);
        }
        let readable =
            |relation: &Arc<Relation>| relation.kind != RelationKind::Type && self.within != Some(relation.id);
        if let Some(relation) = self.find(schema, name).filter(readable) {
            return self.provider(relation).map(Some);
        }
        if let Some(table) = super::system_tables::table(&self.core, schema, name) {
            return Ok(Some(table));
        }
        Ok(self.system.as_ref().and_then(|(system, view)| system.table(schema, name, view)))
    }
}

/// Functions, types and settings to bind with.
pub fn session_state(
    settings: &BindSettings,
    system: Option<&(Arc<dyn SystemCatalog>, Arc<CatalogView>)>,
) -> Result<SessionState> {
    let mut state = context::session_state(settings);
    if let Some((system, view)) = system {
        system.register(&mut state, view)?;
    }
    Ok(state)
}

/// Binds a stored query and gives its columns these names.
pub fn bind_text(state: &SessionState, scope: &Scope, text: &str, names: &[String]) -> Result<LogicalPlan> {
    let query = crate::sql::parse::query(text)?;
    let bound = bind_query(state, scope, &query, &[])?;
    rename(bound.plan, names)
}

/// A bound query and the names of its columns, which need not differ.
pub struct Bound {
    pub plan: LogicalPlan,
    pub names: Vec<String>,
    /// Whether it asks the system catalog.
    pub system: bool,
}

/// A parameter's value, with what its type is called.
pub type Argument = ScalarAndMetadata;

pub fn arguments(fields: &[FieldRef], values: Vec<ScalarValue>) -> Vec<Argument> {
    let metadata = |field: &FieldRef| Some(FieldMetadata::from(field.as_ref())).filter(|m| !m.is_empty());
    values.into_iter().zip(fields).map(|(value, field)| Argument::new(value, metadata(field))).collect()
}

/// What arguments say of their parameters.
pub fn fields_of(arguments: &[Argument]) -> Vec<Option<FieldRef>> {
    let field = |argument: &Argument| {
        let field = Field::new("", argument.value.data_type(), true);
        let metadata = argument.metadata.as_ref().map(FieldMetadata::to_hashmap);
        Some(Arc::new(field.with_metadata(metadata.unwrap_or_default())))
    };
    arguments.iter().map(field).collect()
}

pub fn bind_query(
    state: &SessionState,
    scope: &Scope,
    query: &ast::Query,
    parameters: &[Option<FieldRef>],
) -> Result<Bound> {
    let mut query = query.clone();
    if scope.catalog.relations.values().any(|relation| relation.kind == RelationKind::Type) {
        enums::name_types(&mut query, &|schema, name| scope.find(schema, name));
    }
    let system = match &scope.system {
        Some((system, view)) if system.rewrite(&mut query, view)? => Some((system, view)),
        _ => None,
    };
    let bound = bind::bind_finishing(state, scope, &query, parameters, |plan| match system {
        Some((system, view)) => system.finish(plan, view),
        None => Ok(plan),
    })?;
    Ok(Bound { plan: bound.plan, names: bound.names, system: system.is_some() })
}

/// The same rows under other column names.
pub fn rename(plan: LogicalPlan, names: &[String]) -> Result<LogicalPlan> {
    use datafusion::logical_expr::{Expr, LogicalPlanBuilder};
    let columns = plan.schema().columns();
    if columns.iter().zip(names).all(|(c, n)| c.name == *n) {
        return Ok(plan);
    }
    let exprs: Vec<Expr> = columns.into_iter().zip(names).map(|(c, n)| Expr::Column(c).alias(n)).collect();
    LogicalPlanBuilder::from(plan).project(exprs).and_then(|b| b.build()).map_err(error_from)
}

/// The schema of a bound query as clients see it.
pub fn output_schema(plan: &LogicalPlan, names: &[String]) -> SchemaRef {
    let fields = plan.schema().fields().iter().zip(names);
    Arc::new(Schema::new(fields.map(|(f, n)| f.as_ref().clone().with_name(n)).collect::<Vec<_>>()))
}

/// The relations that a plan reads, as the catalog has them.
pub fn relations_of(catalog: &Catalog, plan: &LogicalPlan) -> Result<Vec<Arc<Relation>>> {
    relations_read(plan)?
        .into_iter()
        .map(|id| catalog.get(id).cloned().ok_or_else(|| Error::undefined_relation(format!("#{id}"))))
        .collect()
}

impl Session {
    pub(super) fn scope(&self) -> Scope {
        self.scope_of(self.core.catalog())
    }

    pub(super) fn scope_of(&self, catalog: Arc<Catalog>) -> Scope {
        let system = self.core.system.read().expect("no panic while held").clone();
        let system = system.map(|system| (system, Arc::new(self.catalog_view(catalog.clone()))));
        let search_path = self.lookup_path(&catalog);
        Scope {
            core: self.core.clone(),
            catalog,
            slot: self.slot.clone(),
            search_path,
            extra: self.one_statement.as_ref().map(|one| one.rows.clone()).unwrap_or_default(),
            silent: self.one_statement.as_ref().map(|one| one.silent.clone()).unwrap_or_default(),
            system,
            depth: 0,
            within: None,
            views: Arc::default(),
            cancel: self.cancel.clone(),
        }
    }

    pub(super) fn search_path(&self) -> Vec<String> {
        let user = self.user.clone();
        self.settings.search_path().into_iter().map(|p| if p == "$user" { user.clone() } else { p }).collect()
    }

    /// When the transaction began or, outside of one, now.
    pub(super) fn now_us(&self) -> i64 {
        self.transaction.as_ref().and_then(|t| t.now_us).unwrap_or_else(|| self.core.clock_us())
    }

    pub(super) fn bind_settings(&self) -> BindSettings {
        BindSettings {
            time_zone: self.settings.zone(),
            search_path: self.search_path(),
            now: chrono::DateTime::from_timestamp_micros(self.now_us()),
            sort_reserve_bytes: Some(self.core.memory.sort_reserve_bytes()),
            ..BindSettings::default()
        }
    }

    pub(super) fn state(&self, scope: &Scope) -> Result<SessionState> {
        session_state(&self.bind_settings(), scope.system.as_ref())
    }

    /// Runs a bound query over a snapshot: the transaction's, or one of now.
    pub(super) async fn run_plan(
        &mut self,
        catalog: &Catalog,
        state: &SessionState,
        plan: LogicalPlan,
        names: &[String],
    ) -> Result<(SchemaRef, RowStream)> {
        let relations = relations_of(catalog, &plan)?;
        let snapshot = self.snapshot(&relations).await?;
        self.warn_of_errors(catalog, &relations);
        self.run_over(state, plan, names, snapshot, Ok).await
    }

    /// Runs a bound query over a snapshot; `finish` sees the optimized plan.
    pub(super) async fn run_over(
        &self,
        state: &SessionState,
        plan: LogicalPlan,
        names: &[String],
        snapshot: Arc<Snapshot>,
        finish: impl FnOnce(LogicalPlan) -> Result<LogicalPlan>,
    ) -> Result<(SchemaRef, RowStream)> {
        self.slot.set(Some(snapshot));
        let told: Vec<FieldRef> = plan.schema().fields().iter().cloned().collect();
        let planned = physical_plan(state, plan, self.transaction.is_some(), finish).await;
        self.slot.set(None);
        let physical = patience::interruptible(planned?, &self.cancel, &self.bounds())?;
        let is_slow = patience::is_slow(&physical);
        let fields = physical.schema();
        // A constant that a column has become does not say what its SQL type was.
        let named = |(i, (field, name)): (usize, (&FieldRef, &String))| {
            let field = field.as_ref().clone().with_name(name);
            // Of a numeric it has the digits that are shown.
            let lost = !field.metadata().contains_key(TYPE_KEY) && !field.data_type().is_decimal();
            match told.get(i).filter(|told| lost && told.data_type() == field.data_type()) {
                Some(told) => field.with_metadata(told.metadata().clone()),
                None => field,
            }
        };
        let fields = fields.fields().iter().zip(names).enumerate().map(named);
        let schema: SchemaRef = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
        let context = context::task_context(state, self.environment.clone());
        let rows = execute_stream(physical, context).map_err(error_from)?;
        let out = schema.clone();
        let rows = rows.map(move |batch| {
            let batch = batch.map_err(error_from)?;
            let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
            arrow::array::RecordBatch::try_new_with_options(out.clone(), batch.columns().to_vec(), &options)
                .map_err(|e| Error::internal(e))
        });
        let rows: RowStream = Box::pin(rows);
        Ok((schema, if is_slow { Box::pin(patience::Slow(rows)) } else { rows }))
    }

    pub(super) async fn snapshot(&mut self, relations: &[Arc<Relation>]) -> Result<Arc<Snapshot>> {
        // What reads nothing fixes no moment: BEGIN; SELECT pg_advisory_xact_lock(1); and then what others have left.
        if relations.is_empty() {
            return Ok(Arc::new(Snapshot::new(0, HashMap::new())));
        }
        let (core, waiter) = (self.core.clone(), self.waiter());
        let awaited = relations.iter().find(|relation| relation.kind == RelationKind::MaterializedView);
        let awaited = awaited.map(|relation| relation.id);
        core.waits.during(waiter, Reason::Epoch, awaited, self.snapshot_of(relations)).await
    }

    async fn snapshot_of(&mut self, relations: &[Arc<Relation>]) -> Result<Arc<Snapshot>> {
        let contention = &self.contention;
        let skipping = |relation: &Arc<Relation>, scan: Scan| match contention.skipped(relation.id) {
            Some(skipped) => Scan::WithOwn(Box::new(scan), skipped),
            None => scan,
        };
        let Some(transaction) = &mut self.transaction else {
            let mut snapshot = Snapshot::take(&self.core, relations).await?;
            for relation in relations.iter().filter(|relation| contention.skipped(relation.id).is_some()) {
                let scan = snapshot.relations.remove(&relation.id).expect("it was asked for");
                snapshot.relations.insert(relation.id, skipping(relation, scan));
            }
            return Ok(Arc::new(snapshot));
        };
        // The first read fixes the epoch, and pins it in all relations for those that are read later.
        let missing: Vec<Arc<Relation>> =
            relations.iter().filter(|r| !transaction.pictures.contains_key(&r.id)).cloned().collect();
        let snapshot = match transaction.epoch {
            None => {
                let (snapshot, pins) = Snapshot::take_and_pin(&self.core, &missing).await?;
                transaction.epoch = Some(snapshot.epoch);
                transaction.pins = pins;
                transaction.known = self.core.catalog().relations.keys().copied().collect();
                snapshot
            }
            Some(epoch) => {
                // What was made after the first read is seen as it is now.
                let (new, old): (Vec<_>, Vec<_>) =
                    missing.into_iter().partition(|r| !transaction.known.contains(&r.id));
                let mut snapshot = Snapshot::at(&self.core, &old, epoch).await?.ok_or_else(|| {
                    Error::new(
                        "40001",
                        "could not serialize access: a relation was made anew since this transaction's first read",
                    )
                })?;
                if !new.is_empty() {
                    snapshot.relations.extend(Snapshot::take(&self.core, &new).await?.relations);
                }
                snapshot
            }
        };
        transaction.pictures.extend(snapshot.relations);
        let mut seen = HashMap::new();
        for relation in relations {
            let scan = transaction.pictures[&relation.id].clone();
            let scan = match transaction.own_changes(relation.id) {
                Some(own) => Scan::WithOwn(Box::new(scan), own),
                None => scan,
            };
            seen.insert(relation.id, skipping(relation, scan));
        }
        let reads = Some(transaction.noted.clone());
        Ok(Arc::new(Snapshot { epoch: snapshot.epoch, relations: seen, reads }))
    }

    /// A view with rows set aside says so when it is read.
    pub(super) fn warn_of_errors(&mut self, catalog: &Catalog, relations: &[Arc<Relation>]) {
        let mut above: Vec<Arc<Relation>> = relations.to_vec();
        while let Some(relation) = above.pop() {
            if relation.kind != RelationKind::MaterializedView {
                continue;
            }
            let count = self.core.view(relation.id).map_or(0, |v| v.errors());
            if count > 0 {
                let message =
                    format!("{count} rows are set aside in materialized view \"{}\"; see mr_errors", relation.name);
                self.notice("WARNING", "01000", message);
            }
            above.extend(relation.depends_on.iter().filter_map(|id| catalog.get(*id).cloned()));
        }
    }
}

/// The plan of an ad-hoc query, of which DataFusion makes a stream; `finish` sees the optimized one.
async fn physical_plan(
    state: &SessionState,
    plan: LogicalPlan,
    in_transaction: bool,
    finish: impl FnOnce(LogicalPlan) -> Result<LogicalPlan>,
) -> Result<Arc<dyn ExecutionPlan>> {
    let large = crate::sql::size::is_large(&plan);
    let optimize = || {
        let plan = limited_sorts(without_empty_limits(finish(bind::optimize(state, plan)?)?)?)?;
        by_key(plan, in_transaction).and_then(joined_within_bounds).map_err(error_from)
    };
    let plan = if large { patience::aside(optimize) } else { optimize() }?;
    bounds::planning_future(state.query_planner().create_physical_plan(&plan, state)).await.map_err(error_from)
}

/// Puts the parameters' values in their places.
pub fn with_parameters(plan: LogicalPlan, arguments: &[Argument]) -> Result<LogicalPlan> {
    if arguments.is_empty() {
        return Ok(plan);
    }
    plan.replace_params_with_values(&datafusion::common::ParamValues::List(arguments.to_vec())).map_err(error_from)
}

/// A sort under a LIMIT says how many rows of it are wanted: one that does not is taken out by DataFusion below whatever
/// needs no order, and the LIMIT takes any rows.
fn limited_sorts(plan: LogicalPlan) -> Result<LogicalPlan> {
    use datafusion::common::tree_node::Transformed;
    use datafusion::logical_expr::{FetchType, Limit, SkipType, Sort};

    fn limited(plan: &Arc<LogicalPlan>, rows: usize) -> datafusion::error::Result<Option<Arc<LogicalPlan>>> {
        Ok(match plan.as_ref() {
            LogicalPlan::Sort(sort) => {
                let fetch = Some(sort.fetch.map_or(rows, |fetch| fetch.min(rows)));
                Some(Arc::new(LogicalPlan::Sort(Sort { fetch, ..sort.clone() })))
            }
            LogicalPlan::Projection(_) | LogicalPlan::SubqueryAlias(_) => {
                match limited(&Arc::new(plan.inputs()[0].clone()), rows)? {
                    Some(input) => {
                        let input = Arc::unwrap_or_clone(input);
                        Some(Arc::new(plan.with_new_exprs(plan.expressions(), vec![input])?))
                    }
                    None => None,
                }
            }
            _ => None,
        })
    }
    // The order of what is shown stays in any case, and without a bound a sort may spill.
    if let LogicalPlan::Limit(limit) = &plan
        && !matches!(limit.get_fetch_type(), Ok(FetchType::Literal(Some(rows))) if rows <= TOP_ROWS_MAX)
    {
        let input = Arc::new(limited_sorts(limit.input.as_ref().clone())?);
        return Ok(LogicalPlan::Limit(Limit { input, ..limit.clone() }));
    }
    let plan = plan.transform_down_with_subqueries(|node| {
        let LogicalPlan::Limit(limit) = &node else { return Ok(Transformed::no(node)) };
        let (SkipType::Literal(skip), FetchType::Literal(fetch)) = (limit.get_skip_type()?, limit.get_fetch_type()?)
        else {
            return Ok(Transformed::no(node));
        };
        // Without a FETCH all of them, but the first ones.
        let rows = fetch.map_or(ROWS_OF_SORT_MAX, |fetch| fetch.saturating_add(skip)).min(ROWS_OF_SORT_MAX);
        match limited(&limit.input, rows)? {
            Some(input) if rows > 0 => Ok(Transformed::yes(LogicalPlan::Limit(Limit { input, ..limit.clone() }))),
            _ => Ok(Transformed::no(node)),
        }
    });
    plan.map(|p| p.data).map_err(error_from)
}

/// So many first rows are found without sorting all.
const TOP_ROWS_MAX: usize = 100_000;
/// More than any statement sorts.
const ROWS_OF_SORT_MAX: usize = 1 << 40;

/// LIMIT 0 gives nothing; DataFusion's sort would panic on it.
fn without_empty_limits(plan: LogicalPlan) -> Result<LogicalPlan> {
    use datafusion::common::tree_node::{Transformed, TreeNode};
    use datafusion::logical_expr::{EmptyRelation, FetchType};
    let plan = plan.transform_down(|node| {
        let nothing = match &node {
            LogicalPlan::Limit(limit) => matches!(limit.get_fetch_type()?, FetchType::Literal(Some(0))),
            LogicalPlan::Sort(sort) => sort.fetch == Some(0),
            _ => false,
        };
        if !nothing {
            return Ok(Transformed::no(node));
        }
        let schema = node.schema().clone();
        Ok(Transformed::yes(LogicalPlan::EmptyRelation(EmptyRelation { produce_one_row: false, schema })))
    });
    plan.map(|p| p.data).map_err(error_from)
}
