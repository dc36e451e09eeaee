//! What binding a statement gave, kept with the prepared statement: running it again needs neither its text nor the
//! names in it.
//!
//! ```text
//!   Parse ─► bind ─► Planned ─┐          Execute ─► same catalog, settings, types? ─► values in, optimize, run
//!                             └─ kept ─────────────────────────┘        no: bind again
//! ```
//!
//! A plan that holds something of its moment (the system catalog's rows, what `current_setting` says) is good for the
//! statement that it was bound for, and not for the next. So is one with now(), which the optimizer makes a constant of the
//! time that the state knows.

use std::borrow::Cow;
use std::sync::{Arc, Mutex, OnceLock};

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{Field, FieldRef, Schema, SchemaRef};
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::datasource::source_as_provider;
use datafusion::execution::SessionState;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::logical_expr::simplify::SimplifyContext;
use datafusion::logical_expr::{Expr, LogicalPlan, Volatility};
use datafusion::optimizer::simplify_expressions::ExprSimplifier;
use sqlparser::ast;

use super::lookup::{Lookup, may_be_lookup};
use super::origins::{Origin, origins};
use super::query::{Argument, bind_query, fields_of, relations_of, with_parameters};
use super::{RowStream, Session};
use crate::catalog::Catalog;
use crate::error::{Error, Result};
use crate::serve::log::LogTable;
use crate::serve::table::RelationTable;
use crate::sql::bind::{self, error_from};
use crate::sql::bounds::planning;
use crate::sql::context;
use crate::sql::statement::Statement;

/// What a prepared statement takes, about: as measured of short ones with their plan, and more of longer ones.
const PREPARED_BYTES: usize = 16 << 10;
const PREPARED_BYTES_PER_BYTE: usize = 32;
/// What a query that has begun takes at least: its plan, and a batch or two that flow by.
const OPEN_ROWS_BYTES: usize = 64 << 10;

/// Some of the memory that statements may take, until it is dropped.
pub type Room = MemoryReservation;

/// A query bound to what it reads.
pub struct Planned {
    key: Key,
    pub state: Arc<SessionState>,
    pub plan: LogicalPlan,
    /// Of its columns.
    pub names: Vec<String>,
    pub origins: Vec<Option<Origin>>,
    /// Good for later executions too.
    lasting: bool,
    /// Found out when it first runs.
    lookup: OnceLock<Option<Lookup>>,
}

/// What a plan follows from, besides the text.
struct Key {
    catalog: Arc<Catalog>,
    /// [`super::settings::Settings::version`].
    settings: u64,
    parameters: Vec<Option<FieldRef>>,
}

impl Planned {
    pub fn catalog(&self) -> &Catalog {
        &self.key.catalog
    }

    /// The same as a look-up, if it is one.
    fn lookup(&self) -> Option<&Lookup> {
        let find = || {
            let may_be = may_be_lookup(&self.plan);
            // With parameters it may be what cannot be optimized: then running it will say what is wrong.
            let optimized = may_be.then(|| bind::optimize(&self.state, self.plan.clone()).ok());
            Lookup::of(&optimized.flatten()?)
        };
        self.lookup.get_or_init(find).as_ref()
    }
}

/// A statement's plan, if one is known. Clones share it.
#[derive(Clone, Default)]
pub struct Plans(Arc<Mutex<Option<Arc<Planned>>>>);

impl Plans {
    fn get(&self) -> Option<Arc<Planned>> {
        self.0.lock().expect("no panic while held").clone()
    }
    fn set(&self, planned: Option<Arc<Planned>>) {
        *self.0.lock().expect("no panic while held") = planned;
    }
    /// Which tables' columns its columns are.
    pub fn origins(&self) -> Vec<Option<Origin>> {
        self.get().map(|planned| planned.origins.clone()).unwrap_or_default()
    }
    /// Another execution begins.
    pub fn keep_lasting(&self) {
        self.0.lock().expect("no panic while held").take_if(|planned| !planned.lasting);
    }
}

impl Session {
    /// For a statement that stays prepared, as long as that is held. Error: 53200.
    pub(super) fn room_for(&self, statement: &Statement) -> Result<Arc<MemoryReservation>> {
        let bytes = PREPARED_BYTES + PREPARED_BYTES_PER_BYTE * statement.text.len();
        self.room("a prepared statement", bytes).map(Arc::new)
    }

    /// For rows that a client has begun to take and may leave, as long as that is held. Error: 53200.
    pub fn room_for_rows(&self) -> Result<Room> {
        self.room("rows that have not been taken", OPEN_ROWS_BYTES)
    }

    /// For what grows, and lasts longer than a statement.
    pub(super) fn kept_reservation(&self, what: &str) -> MemoryReservation {
        MemoryConsumer::new(what).register(&self.kept)
    }

    fn room(&self, what: &str, bytes: usize) -> Result<MemoryReservation> {
        let held = MemoryConsumer::new(what).register(&self.kept);
        held.try_grow(bytes).map_err(error_from)?;
        Ok(held)
    }

    /// The plan of the statement's query, bound now unless that is known. `query` makes it of the statement.
    pub(super) fn planned<'a>(
        &self,
        plans: &Plans,
        parameters: &[Option<FieldRef>],
        query: impl FnOnce() -> Result<Cow<'a, ast::Query>>,
    ) -> Result<Arc<Planned>> {
        let catalog = self.core.catalog();
        let same = |planned: &Arc<Planned>| {
            let Key { catalog: its, settings, parameters: of } = &planned.key;
            Arc::ptr_eq(its, &catalog) && *settings == self.settings.version && of == parameters
        };
        if let Some(planned) = plans.get().filter(same) {
            return Ok(planned);
        }
        let scope = self.scope_of(catalog.clone());
        let state = self.state(&scope)?;
        let bound = bind_query(&state, &scope, &*query()?, parameters)?;
        // Many statements may stay prepared: those whose plans last share one state.
        let shared = context::shared_state(&self.bind_settings());
        let lasting = !bound.system && lasts(&state, &shared, &bound.plan)?;
        let state = if lasting { shared } else { Arc::new(state) };
        let key = Key { catalog, settings: self.settings.version, parameters: parameters.to_vec() };
        let lookup = OnceLock::new();
        // What a view shows is the view's.
        let over_views = !scope.views.lock().expect("no panic while held").is_empty();
        let origins = if over_views { Vec::new() } else { origins(&bound.plan) };
        let planned = Arc::new(Planned { key, state, plan: bound.plan, names: bound.names, origins, lasting, lookup });
        plans.set(Some(planned.clone()));
        Ok(planned)
    }

    /// All its rows, for these values of its parameters.
    pub(super) async fn rows_of_planned(&mut self, planned: &Planned, parameters: &[Argument]) -> Result<RecordBatch> {
        if let LogicalPlan::Values(_) = &planned.plan {
            let plan = with_parameters(planned.plan.clone(), parameters)?;
            if let Some(rows) = evaluated(&planned.state, &plan, &planned.names)? {
                return Ok(rows);
            }
        }
        let (schema, rows) = self.run_planned(planned, parameters).await?;
        let batches = self.collected(rows).await?;
        arrow::compute::concat_batches(&schema, &batches).map_err(Error::internal)
    }

    /// Its rows as they come, for these values of its parameters.
    pub(super) async fn run_planned(
        &mut self,
        planned: &Planned,
        parameters: &[Argument],
    ) -> Result<(SchemaRef, RowStream)> {
        let (state, names) = (&planned.state, &planned.names);
        let relations = relations_of(planned.catalog(), &planned.plan)?;
        let snapshot = self.snapshot(&relations).await?;
        self.warn_of_errors(planned.catalog(), &relations);
        if let Some(lookup) = planned.lookup()
            && let Some(rows) = lookup.run(state, &snapshot, names, parameters)?
        {
            return Ok((rows.schema(), Box::pin(futures::stream::iter([Ok(rows)]))));
        }
        let plan = with_parameters(planned.plan.clone(), parameters)?;
        self.run_over(state, plan, names, snapshot, Ok).await
    }

    /// The same of the statement's query.
    pub(super) async fn rows_of_statement<'a>(
        &mut self,
        plans: &Plans,
        parameters: &[Argument],
        query: impl FnOnce() -> Result<Cow<'a, ast::Query>>,
    ) -> Result<RecordBatch> {
        let planned = self.planned(plans, &fields_of(parameters), query)?;
        self.rows_of_planned(&planned, parameters).await
    }
}

/// Whether a plan means the same at another moment.
fn lasts(state: &SessionState, shared: &SessionState, plan: &LogicalPlan) -> Result<bool> {
    let mut lasts = true;
    plan.apply_with_subqueries(|node| {
        lasts &= match node {
            LogicalPlan::TableScan(scan) => source_as_provider(&scan.source).is_ok_and(|provider| {
                provider.downcast_ref::<RelationTable>().is_some() || provider.downcast_ref::<LogTable>().is_some()
            }),
            LogicalPlan::Extension(_) => false,
            _ => true,
        };
        node.apply_expressions(|expr| {
            expr.apply(|expr| {
                lasts &= match expr {
                    Expr::ScalarFunction(f) => {
                        f.func.signature().volatility != Volatility::Stable
                            && !context::is_sessions_own(state, shared, f.func.name())
                    }
                    Expr::ScalarVariable(..) => false,
                    _ => true,
                };
                Ok(if lasts { TreeNodeRecursion::Continue } else { TreeNodeRecursion::Stop })
            })
        })?;
        Ok(if lasts { TreeNodeRecursion::Continue } else { TreeNodeRecursion::Stop })
    })
    .map_err(error_from)?;
    Ok(lasts)
}

/// The rows of `VALUES …`, which need no plan. `None` for anything else.
fn evaluated(state: &SessionState, plan: &LogicalPlan, names: &[String]) -> Result<Option<RecordBatch>> {
    let LogicalPlan::Values(values) = plan else { return Ok(None) };
    let fields = values.schema.fields().iter().zip(names);
    let fields: Vec<Field> = fields.map(|(field, name)| field.as_ref().clone().with_name(name)).collect();
    let mut evaluate = Evaluate::new(state);
    let mut columns: Vec<ArrayRef> = Vec::with_capacity(fields.len());
    for (at, field) in fields.iter().enumerate() {
        let mut cells = Vec::with_capacity(values.values.len());
        for row in &values.values {
            let Some(cell) = evaluate.cell(&row[at])? else { return Ok(None) };
            cells.push(cell);
        }
        let column = ScalarValue::iter_to_array(cells).map_err(error_from)?;
        if column.data_type() != field.data_type() {
            return Ok(None);
        }
        columns.push(column);
    }
    let options = RecordBatchOptions::new().with_row_count(Some(values.values.len()));
    let schema = Arc::new(Schema::new(fields));
    RecordBatch::try_new_with_options(schema, columns, &options).map(Some).map_err(Error::internal)
}

/// Computes what needs no rows.
pub(super) struct Evaluate<'a> {
    state: &'a SessionState,
    /// One row without columns.
    one: RecordBatch,
    simplifier: Option<ExprSimplifier>,
}

impl Evaluate<'_> {
    pub fn new(state: &SessionState) -> Evaluate<'_> {
        let options = RecordBatchOptions::new().with_row_count(Some(1));
        let one = RecordBatch::try_new_with_options(Arc::new(Schema::empty()), vec![], &options).expect("no columns");
        Evaluate { state, one, simplifier: None }
    }

    /// `None` where it takes a plan.
    pub fn cell(&mut self, expr: &Expr) -> Result<Option<ScalarValue>> {
        let expr = match expr {
            Expr::Literal(value, _) => return Ok(Some(value.clone())),
            Expr::Alias(alias) => alias.expr.as_ref(),
            expr => expr,
        };
        let subquery = |e: &Expr| Ok(matches!(e, Expr::ScalarSubquery(_) | Expr::Exists(_) | Expr::InSubquery(_)));
        if expr.exists(subquery).map_err(error_from)? {
            return Ok(None);
        }
        let nothing = DFSchema::empty();
        let state = self.state;
        let simplifier = self.simplifier.get_or_insert_with(|| {
            let info = SimplifyContext::builder()
                .with_schema(Arc::new(DFSchema::empty()))
                .with_config_options(state.config_options().clone())
                .with_query_execution_start_time(state.execution_props().query_execution_start_time);
            ExprSimplifier::new(info.build())
        });
        let expr = match planning(|| simplifier.simplify(expr.clone())).map_err(error_from)? {
            Expr::Literal(value, _) => return Ok(Some(value)),
            expr => expr,
        };
        let physical = state.create_physical_expr(expr, &nothing).map_err(error_from)?;
        let value = physical.evaluate(&self.one).and_then(|value| value.into_array(1)).map_err(error_from)?;
        ScalarValue::try_from_array(&value, 0).map(Some).map_err(error_from)
    }
}
