//! DataFusion set up as Millrace's binder, optimizer and ad-hoc executor: one set of functions, types and rules for
//! SELECTs and views, so that a SELECT is the oracle for a view of the same text.
//!
//! What differs from DataFusion's defaults, and why:
//! - microseconds, Utf8 rather than views of it, `7.0` a numeric: as stored and as in Postgres;
//! - no pushing or removing of limits: a limit is a top-k that the incremental plan must see;
//! - uncorrelated scalar subqueries are joins, because an incremental plan has joins;
//! - NULL keys are filtered before inner joins, so that they do not fill join state;
//! - integer overflow and division by zero are errors, casts are Postgres' (`functions/`).

use std::sync::{Arc, Mutex};

use arrow::datatypes::{FieldRef, Fields};
use chrono::{DateTime, Utc};
use datafusion::common::config::Dialect;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::error::{DataFusionError, Result as DataFusionResult};
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::execution::session_state::SessionStateBuilder;
use datafusion::execution::{SessionState, SessionStateDefaults, TaskContext};
use datafusion::logical_expr::planner::TypePlanner;
use datafusion::logical_expr::{Expr, LogicalPlan};
use datafusion::optimizer::{ApplyOrder, Optimizer, OptimizerConfig, OptimizerRule};
use datafusion::physical_optimizer::optimizer::PhysicalOptimizer;
use datafusion::prelude::SessionConfig;
use sqlparser::ast;

use crate::sql::distinct_arrays::DistinctArrays;
use crate::sql::filters_first::{ColumnsFirst, FiltersFirst};
use crate::sql::grouping_sets::{EmptyGroupingSet, PushDownFilter};
use crate::sql::kept_keys::{KeptKeys, KeysOfOneKind};
use crate::sql::keyed_groups::KeyedGroups;
use crate::sql::ordered::WithoutRepeats;
use crate::sql::sorts::{MissingSorts, PlanCheck, SANITY_CHECK};
use crate::sql::string_agg::StringAgg;
use crate::sql::{functions, rules, types};

/// What of a session bears on the meaning of a statement.
#[derive(Debug, Clone)]
pub struct Settings {
    /// An IANA name or an offset such as `+02:00`.
    pub time_zone: String,
    pub search_path: Vec<String>,
    /// What `now()` answers; without one it is an error.
    pub now: Option<DateTime<Utc>>,
    /// Partitions of an ad-hoc query.
    pub target_partitions: usize,
    /// What a sort sets aside for merging what it has spilled; DataFusion's choice when `None`.
    pub sort_reserve_bytes: Option<usize>,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            time_zone: "UTC".into(),
            search_path: vec!["public".into()],
            now: None,
            target_partitions: 1,
            sort_reserve_bytes: None,
        }
    }
}

/// Optimizer rules left out.
const RULES_OFF: &[&str] = &["push_down_limit", "eliminate_limit"];
/// The same of physical plans: the logical plan's filters are where they belong, and this rule takes a column of one side of
/// an outer join for one of the same name of the other (DataFusion 55; `slt/select/filters_on_outer_joins.slt`).
const PHYSICAL_RULES_OFF: &[&str] = &["FilterPushdown", "FilterPushdown(Post)"];

/// So many are kept, of different time zones: their making takes longer than what most statements take.
const STATES_MAX: usize = 16;

/// What to bind, optimize and plan with. Its own memory is not bounded: see [`task_context`].
pub fn session_state(settings: &Settings) -> SessionState {
    let mut state = SessionState::clone(&shared_state(settings));
    if let Some(now) = settings.now {
        let props = state.execution_props_mut();
        *props = std::mem::take(props).with_query_execution_start_time(now);
    }
    state
}

/// What a plan made with a state runs in; `environment` bounds its memory. Plans hold their functions themselves.
pub fn task_context(state: &SessionState, environment: Arc<RuntimeEnv>) -> Arc<TaskContext> {
    let (id, config) = (state.session_id().to_string(), state.config().clone());
    let (scalar, higher_order) = (Default::default(), Default::default());
    let (aggregate, window) = (Default::default(), Default::default());
    Arc::new(TaskContext::new(None, id, config, scalar, higher_order, aggregate, window, environment))
}

/// The same for whom now() and a session's own functions do not matter; many hold one.
pub fn shared_state(settings: &Settings) -> Arc<SessionState> {
    // Functions take the time zone when they are registered.
    type Key = (String, usize, Option<usize>);
    static KEPT: Mutex<Vec<(Key, Arc<SessionState>)>> = Mutex::new(Vec::new());
    let is = |(zone, partitions, reserve): &Key| {
        *zone == settings.time_zone
            && *partitions == settings.target_partitions
            && *reserve == settings.sort_reserve_bytes
    };
    let kept = || KEPT.lock().expect("no panic while held");
    if let Some((_, state)) = kept().iter().find(|(key, _)| is(key)) {
        return state.clone();
    }
    let state = Arc::new(new_state(settings));
    let mut kept = kept();
    if kept.len() == STATES_MAX {
        kept.remove(0);
    }
    kept.push(((settings.time_zone.clone(), settings.target_partitions, settings.sort_reserve_bytes), state.clone()));
    state
}

fn new_state(settings: &Settings) -> SessionState {
    let mut config = SessionConfig::new()
        .with_target_partitions(settings.target_partitions)
        .with_round_robin_repartition(settings.target_partitions > 1)
        .with_batch_size(8192)
        .with_information_schema(false)
        .with_create_default_catalog_and_schema(false);
    let options = config.options_mut();
    options.execution.time_zone = Some(settings.time_zone.clone());
    if let Some(bytes) = settings.sort_reserve_bytes {
        options.execution.sort_spill_reservation_bytes = bytes;
    }
    options.sql_parser.dialect = Dialect::PostgreSQL;
    options.sql_parser.parse_float_as_decimal = true;
    options.sql_parser.map_string_types_to_utf8view = false;
    // What it compares may differ in whether a column can be NULL, which nothing here relies on.
    options.execution.skip_physical_aggregate_schema_check = true;
    options.optimizer.filter_null_join_keys = true;
    options.optimizer.enable_physical_uncorrelated_scalar_subquery = false;
    options.optimizer.enable_leaf_expression_pushdown = false;

    let mut rules: Vec<Arc<dyn OptimizerRule + Send + Sync>> =
        vec![Arc::new(EmptyGroupingSet), Arc::new(WithoutRepeats), Arc::new(StringAgg), Arc::new(DistinctArrays)];
    let stock = Optimizer::new().rules.into_iter();
    let stock = stock.filter(|rule| !RULES_OFF.contains(&rule.name()));
    for rule in stock {
        // Where DISTINCT has become GROUP BY.
        let then = (rule.name() == "replace_distinct_aggregate").then_some(KeyedGroups);
        let rule: Arc<dyn OptimizerRule + Send + Sync> = match rule.name() {
            "single_distinct_aggregation_to_group_by" => Arc::new(SingleDistinct(rule)),
            "common_sub_expression_eliminate" => Arc::new(CommonParts(rule)),
            "push_down_filter" => Arc::new(PushDownFilter(rule)),
            "extract_equijoin_predicate" => Arc::new(KeysOfOneKind(rule)),
            "eliminate_cross_join" => Arc::new(KeptKeys(rule)),
            _ => rule,
        };
        rules.push(rule);
        rules.extend(then.map(|rule| -> Arc<dyn OptimizerRule + Send + Sync> { Arc::new(rule) }));
    }
    let physical = PhysicalOptimizer::new().rules.into_iter();
    let mut physical: Vec<rules::Physical> =
        physical.filter(|rule| !PHYSICAL_RULES_OFF.contains(&rule.name())).collect();
    let check = physical.iter().position(|rule| rule.name() == SANITY_CHECK).unwrap_or(physical.len());
    let ours: [rules::Physical; 3] = [Arc::new(FiltersFirst), Arc::new(MissingSorts), Arc::new(PlanCheck)];
    physical.splice(check..(check + 1).min(physical.len()), ours);
    physical.insert(0, Arc::new(ColumnsFirst));
    let mut state = SessionStateBuilder::new()
        .with_config(config)
        .with_optimizer_rules(rules::optimizing(rules))
        .with_analyzer_rules(rules::analyzing(functions::analyzer_rules()))
        .with_physical_optimizer_rules(rules::physical(physical))
        .with_expr_planners(
            functions::planners().into_iter().chain(SessionStateDefaults::default_expr_planners()).collect(),
        )
        .with_type_planner(Arc::new(PostgresTypes))
        .with_query_planner(Arc::new(crate::sql::planner::Planner))
        .with_scalar_functions(SessionStateDefaults::default_scalar_functions())
        .with_higher_order_functions(SessionStateDefaults::default_higher_order_functions())
        .with_aggregate_functions(SessionStateDefaults::default_aggregate_functions())
        .with_window_functions(SessionStateDefaults::default_window_functions())
        .with_table_function_list(SessionStateDefaults::default_table_functions())
        .build();
    functions::register(&mut state);
    // What functions see of the session; without it they would see the defaults.
    let options = state.config_options().clone();
    state.execution_props_mut().config_options = Some(options);
    state
}

/// Whether a function is the session's own: registered in this state beside those that all states of its kind have.
pub fn is_sessions_own(state: &SessionState, shared: &SessionState, function: &str) -> bool {
    match (state.scalar_functions().get(function), shared.scalar_functions().get(function)) {
        (Some(here), Some(shared)) => !Arc::ptr_eq(here, shared),
        (here, _) => here.is_some(),
    }
}

/// DataFusion's rule that makes one DISTINCT aggregate a GROUP BY, except beside a plain sum: it would sum the sums,
/// which have another type than what they sum.
#[derive(Debug)]
struct SingleDistinct(Arc<dyn OptimizerRule + Send + Sync>);

impl OptimizerRule for SingleDistinct {
    fn name(&self) -> &str {
        self.0.name()
    }
    fn apply_order(&self) -> Option<ApplyOrder> {
        self.0.apply_order()
    }
    fn rewrite(&self, plan: LogicalPlan, config: &dyn OptimizerConfig) -> DataFusionResult<Transformed<LogicalPlan>> {
        fn plain_sum(expr: &Expr) -> bool {
            match expr {
                Expr::AggregateFunction(f) => f.func.name() == "sum" && !f.params.distinct,
                Expr::Alias(alias) => plain_sum(&alias.expr),
                _ => false,
            }
        }
        match &plan {
            LogicalPlan::Aggregate(aggregate) if aggregate.aggr_expr.iter().any(plain_sum) => Ok(Transformed::no(plan)),
            _ => self.0.rewrite(plan, config),
        }
    }
}

/// DataFusion's rule that computes equal parts of expressions once, except where the clock has no time yet: a condition of
/// a view that names it twice must stay a condition.
#[derive(Debug)]
struct CommonParts(Arc<dyn OptimizerRule + Send + Sync>);

impl OptimizerRule for CommonParts {
    fn name(&self) -> &str {
        self.0.name()
    }
    fn apply_order(&self) -> Option<ApplyOrder> {
        self.0.apply_order()
    }
    fn rewrite(&self, plan: LogicalPlan, config: &dyn OptimizerConfig) -> DataFusionResult<Transformed<LogicalPlan>> {
        let mut open = false;
        plan.apply_with_subqueries(|node| {
            node.apply_expressions(|expr| {
                open |= expr.exists(|e| Ok(matches!(e, Expr::ScalarFunction(f) if f.func.name() == "now")))?;
                Ok(TreeNodeRecursion::Continue)
            })
        })?;
        if open { Ok(Transformed::no(plan)) } else { self.0.rewrite(plan, config) }
    }
}

/// Names the field of a cast that stands in the query, to tell it from those that planning puts in.
pub const WRITTEN: &str = "cast";

/// SQL types in queries are those of columns.
#[derive(Debug)]
pub(crate) struct PostgresTypes;

impl TypePlanner for PostgresTypes {
    fn plan_type_field(&self, sql_type: &ast::DataType) -> DataFusionResult<Option<FieldRef>> {
        if let ast::DataType::Struct(fields, _) = sql_type {
            let fields: DataFusionResult<Fields> = fields
                .iter()
                .enumerate()
                .map(|(i, field)| {
                    let name = field.field_name.as_ref().map_or_else(|| format!("f{}", i + 1), crate::sql::parse::fold);
                    let inner = self.plan_type_field(&field.field_type)?.expect("always answers");
                    Ok(inner.as_ref().clone().with_name(name))
                })
                .collect();
            return Ok(Some(Arc::new(arrow::datatypes::Field::new(
                "",
                arrow::datatypes::DataType::Struct(fields?),
                true,
            ))));
        }
        // A field without a name would be taken for a bare Arrow type, and a cast to that keeps the metadata of
        // what is cast: uuid::text would still say uuid.
        types::field_from_ast(WRITTEN, sql_type, true)
            .map(|field| Some(Arc::new(field)))
            .map_err(|e| DataFusionError::External(Box::new(e)))
    }
}
