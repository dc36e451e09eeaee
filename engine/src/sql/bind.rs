//! Names to columns: a parsed query becomes DataFusion's logical plan.
//!
//! Tables are found through [`Relations`] alone. The plan's columns have the Arrow types that SQL types have (never a
//! view of strings, nanoseconds or unsigned integers), so that what a SELECT yields can be a table's or view's column.
//! Their names may carry marks where the query repeats a name; [`Bound::names`] are those that the user sees.

use std::cell::Cell;
use std::collections::HashSet;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use datafusion::catalog::TableProvider;
use datafusion::catalog::cte_worktable::CteWorkTable;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, TableReference};
use datafusion::datasource::provider_as_source;
use datafusion::error::{DataFusionError, Result as DataFusionResult};
use datafusion::execution::SessionState;
use datafusion::logical_expr::expr::Placeholder;
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::planner::{ContextProvider, ExprPlanner, RelationPlanner, TypePlanner};
use datafusion::logical_expr::simplify::SimplifyContext;
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{
    AggregateUDF, Cast, Expr, ExprSchemable, HigherOrderUDF, LogicalPlan, LogicalPlanBuilder, ScalarUDF, TableSource,
    WindowUDF,
};
use datafusion::optimizer::simplify_expressions::ExprSimplifier;
use datafusion::sql::planner::{ParserOptions, PlannerContext, SqlToRel};
use sqlparser::ast;

use crate::error::{Error, Result};
use crate::sql::bounds;
use crate::sql::cheap_first::cheap_first;
use crate::sql::context::PostgresTypes;
use crate::sql::enums;
use crate::sql::item_names::plain_name;
use crate::sql::joins::Shown;
use crate::sql::lateral_scopes;
use crate::sql::named_casts::{NAMED_CAST, NamedCast, collide, groups_casts, name_casts, take_out};
use crate::sql::outer_aggregates;
use crate::sql::parse::name_of;
use crate::sql::recursion;
use crate::sql::repeated;
use crate::sql::rewrite::{cast_parameters, rewrite_expression, rewrite_query};
use crate::sql::size;
use crate::sql::statement::Name;
use crate::sql::types::{field, field_from_ast, sql_type_of};
use crate::sql::value_rows::select_values;
use crate::sql::visit::Walk;

pub use crate::sql::errors::error_from;

/// Where table names lead.
pub trait Relations: Send + Sync {
    /// `None` when there is no such relation.
    fn table(&self, schema: Option<&str>, name: &str) -> Result<Option<Arc<dyn TableProvider>>>;
    /// The column of a stream's WATERMARK.
    fn event_time(&self, _schema: Option<&str>, _name: &str) -> Result<Option<String>> {
        Ok(None)
    }
    /// The columns of a table's primary key.
    fn primary_key(&self, _schema: Option<&str>, _name: &str) -> Result<Option<Vec<String>>> {
        Ok(None)
    }
    /// Names to suggest for one that is not there.
    fn names(&self) -> Vec<String> {
        Vec::new()
    }
}

/// A bound query.
#[derive(Debug, Clone)]
pub struct Bound {
    pub plan: LogicalPlan,
    /// Names of its columns, as the user knows them; they may repeat.
    pub names: Vec<String>,
}

/// As many as a Bind message can carry.
const PARAMETERS_MAX: usize = 65_535;

/// Binds a query. `given[i]` is the type of `$i+1` where it is known; the others are inferred, see [`parameters`]. Errors: 42P01, 42703, 42702, 42883, 42804, 42803, 0A000 and others, as in Postgres.
pub fn bind(
    state: &SessionState,
    relations: &dyn Relations,
    query: &ast::Query,
    given: &[Option<FieldRef>],
) -> Result<Bound> {
    bind_finishing(state, relations, query, given, Ok)
}

/// The same; `finish` sees the plan when names are bound and before types are settled.
pub fn bind_finishing(
    state: &SessionState,
    relations: &dyn Relations,
    query: &ast::Query,
    given: &[Option<FieldRef>],
    finish: impl Fn(LogicalPlan) -> Result<LogicalPlan>,
) -> Result<Bound> {
    let grouped_by_key = Cell::new(false);
    let attempt = |query: &ast::Query, mark_all| {
        let plan = finish(bind_once(state, relations, query, given, mark_all)?)?;
        crate::sql::json_equality::check(&plan, grouped_by_key.get()).map_err(error_from)?;
        size::check(&plan)?;
        let plan = crate::sql::shape::shape(plan).map_err(error_from)?;
        bounds::check()?;
        canonical_types(crate::sql::frames::find(analyze(state, plan)?, state.config_options())?)
    };
    let marked = |query: &ast::Query| match attempt(query, false) {
        Err(error) if error.code == "42701" || error.code == "42702" => attempt(query, true).map_err(|_| error),
        other => other,
    };
    let spelt_out = |query: &ast::Query| {
        let mut columns = |query: &ast::Query| {
            let plan = bind_once(state, relations, query, given, false).ok()?;
            Some(plan.schema().fields().iter().map(|f| f.name().to_string()).collect())
        };
        let mut query = query.clone();
        crate::sql::whole_rows::spell_out(&mut query, &mut columns).then_some(query)
    };
    let given_rows = if crate::sql::whole_rows::gives_rows(query) { spelt_out(query) } else { None };
    let query = given_rows.as_ref().unwrap_or(query);
    // What Postgres allows and DataFusion does not is spelt out where binding has failed for want of it, each kind once.
    let spell_out = |query: &ast::Query, error: &Error| match error.code {
        "42703" => spelt_out(query),
        // `t.*` of a query around it.
        "42P01" if error.message.starts_with("missing FROM-clause entry") => spelt_out(query),
        "42803" => {
            let mut grouped = query.clone();
            let named = crate::sql::primary_keys::name_columns(&mut grouped, relations);
            grouped_by_key.set(grouped_by_key.get() || named);
            named.then_some(grouped)
        }
        _ if error.message.contains("Inconsistent metadata across values") => {
            let mut selected = query.clone();
            select_values(&mut selected).ok()?.then_some(selected)
        }
        _ if error.message.contains("Cannot access field") => {
            let mut named = query.clone();
            crate::sql::one_name::mark_tables(&mut named);
            Some(named)
        }
        _ => None,
    };
    let plan = bounds::planning(|| {
        let first = match marked(query) {
            Ok(plan) => return Ok(plan),
            Err(error) => error,
        };
        let (mut error, mut query, mut seen) = (first.clone(), query.clone(), Vec::new());
        while !seen.contains(&error.code) {
            seen.push(error.code);
            let Some(spelt_out) = spell_out(&query, &error) else { break };
            error = match marked(&spelt_out) {
                Ok(plan) => return Ok(plan),
                Err(error) => error,
            };
            query = spelt_out;
        }
        Err(first)
    })?;
    let names = plan.schema().fields().iter().map(|f| plain_name(f.name()).to_string()).collect();
    Ok(Bound { plan, names })
}

/// Settles types, so that those of columns are final; a parameter that nothing gives a type is text.
fn analyze(state: &SessionState, plan: LogicalPlan) -> Result<LogicalPlan> {
    let typed = plan
        .transform_up_with_subqueries(|plan| {
            let names = NamePreserver::new(&plan);
            let columns = merge_schema(&plan.inputs());
            plan.map_expressions(|expr| {
                let name = names.save(&expr);
                let expr = expr.transform_down(|expr| Ok(type_any(expr, &columns)))?.data;
                let expr = expr.transform_up(|expr| match expr {
                    Expr::Placeholder(Placeholder { id, field: None }) => {
                        let text = Arc::new(Field::new("", DataType::Utf8, true));
                        Ok(Transformed::yes(Expr::Placeholder(Placeholder::new_with_field(id, Some(text)))))
                    }
                    other => Ok(Transformed::no(other)),
                })?;
                Ok(expr.update_data(|expr| name.restore(expr)))
            })?
            .map_data(|plan| plan.recompute_schema())
        })
        .map_err(error_from)?;
    state.analyzer().execute_and_check(typed.data, state.config_options(), |_, _| {}).map_err(error_from)
}

/// `x = ANY ($1)`: the parameter is an array of what `x` is.
fn type_any(expr: Expr, columns: &DFSchema) -> Transformed<Expr> {
    match expr {
        Expr::ScalarFunction(mut function) if function.name() == "array_has" => {
            let array = function
                .args
                .get(1)
                .and_then(|needle| needle.to_field(columns).ok())
                .and_then(|(_, needle)| field("", &format!("{}[]", sql_type_of(&needle)), true).ok());
            if let (Some(array), [Expr::Placeholder(Placeholder { field: untyped @ None, .. }), _]) =
                (array, &mut function.args[..])
            {
                *untyped = Some(Arc::new(array));
                return Transformed::yes(Expr::ScalarFunction(function));
            }
            Transformed::no(Expr::ScalarFunction(function))
        }
        other => Transformed::no(other),
    }
}

fn bind_once(
    state: &SessionState,
    relations: &dyn Relations,
    query: &ast::Query,
    given: &[Option<FieldRef>],
    mark_all: bool,
) -> Result<LogicalPlan> {
    crate::sql::expansion::check(query)?;
    bounds::check()?;
    let mut query = query.clone();
    crate::sql::unnamed::name_subqueries(&mut query);
    crate::sql::shadowing::name_apart(&mut query);
    crate::sql::table_names::settle(&mut query)?;
    crate::sql::system_time::spell_as_of(&mut query, relations)?;
    crate::sql::joins::merge_columns(&mut query, &mut |query| {
        Some(shown(&bind_merged(state, relations, query.clone(), given, false).ok()?))
    })?;
    let merged = query.clone();
    let plan = bind_merged(state, relations, query, given, mark_all)?;
    let (merged, plan) =
        with_outer_aggregates(merged, plan, |query| bind_merged(state, relations, query.clone(), given, mark_all))?;
    crate::sql::joins::check_merged(&plan)?;
    let outer = names_from_outside(&plan).map_err(error_from)?;
    if !outer.is_empty() {
        crate::sql::joins::check_ambiguous(merged, &outer, &mut |query| {
            Some(shown(&bind_merged(state, relations, query.clone(), given, false).ok()?))
        })?;
    }
    Ok(plan)
}

/// The names and types of a plan's columns.
fn shown(plan: &LogicalPlan) -> Vec<Shown> {
    plan.schema().fields().iter().map(|f| (plain_name(f.name()).to_string(), f.data_type().clone())).collect()
}

/// The query, and its plan, whose subqueries have no aggregate of an outer query.
fn with_outer_aggregates(
    mut query: ast::Query,
    plan: LogicalPlan,
    bind: impl FnOnce(&ast::Query) -> Result<LogicalPlan>,
) -> Result<(ast::Query, LogicalPlan)> {
    let theirs = outer_aggregates::in_plan(&plan).map_err(error_from)?;
    if theirs.is_empty() {
        return Ok((query, plan));
    }
    outer_aggregates::check_grouping(&theirs)?;
    if !outer_aggregates::name_tables(&mut query, &theirs)? {
        outer_aggregates::refuse(&mut query, &theirs)?;
        return Ok((query, plan));
    }
    let plan = bind(&query)?;
    let left = outer_aggregates::in_plan(&plan).map_err(error_from)?;
    outer_aggregates::refuse(&mut query, &left)?;
    Ok((query, plan))
}

/// The names of columns that subqueries take from around them.
fn names_from_outside(plan: &LogicalPlan) -> DataFusionResult<HashSet<String>> {
    let mut names = HashSet::new();
    plan.apply_with_subqueries(|node| {
        node.apply_expressions(|expr| {
            expr.apply(|expr| {
                if let Expr::OuterReferenceColumn(_, column) = expr {
                    names.insert(plain_name(&column.name).to_string());
                }
                Ok(TreeNodeRecursion::Continue)
            })
        })
    })?;
    Ok(names)
}

/// Binds a query whose joins with USING are spelt out.
fn bind_merged(
    state: &SessionState,
    relations: &dyn Relations,
    mut query: ast::Query,
    given: &[Option<FieldRef>],
    mark_all: bool,
) -> Result<LogicalPlan> {
    rewrite_query(&mut query, mark_all)?;
    let named_casts = mark_all || groups_casts(&query);
    if named_casts {
        name_casts(&mut query);
    }
    let planners: Vec<Arc<dyn RelationPlanner>> = vec![Arc::new(crate::sql::repeated::Relations::default())];
    let context = BindContext { state, relations, planners, named: Cell::default() };
    let planner = SqlToRel::new_with_options(&context, parser_options());
    let mut parameters = given.to_vec();
    for (number, data_type) in cast_parameters(&query) {
        if !(1..=PARAMETERS_MAX).contains(&number) {
            continue;
        }
        if parameters.len() < number {
            parameters.resize(number, None);
        }
        if parameters[number - 1].is_none() {
            parameters[number - 1] = Some(parameter(&field_from_ast("", &data_type, true)?)?);
        }
    }
    let mut planner_context = PlannerContext::new().with_prepare_param_data_types(parameters);
    crate::sql::values::unite_columns(&mut query, |expr| {
        let schema = DFSchema::empty();
        let bound = planner.sql_to_expr(expr.clone(), &schema, &mut planner_context.clone()).ok()?;
        bound.to_field(&schema).ok().map(|(_, field)| field.as_ref().clone())
    })?;
    lateral_scopes::begin(&mut query);
    let statement = ast::Statement::Query(Box::new(query));
    let plan = planner.sql_statement_to_plan_with_context(statement, &mut planner_context).map_err(error_from)?;
    let plan = lateral_scopes::end(plan).map_err(error_from)?;
    let plan = recursion::settle_types(plan).map_err(error_from)?;
    let plan = crate::sql::grouping_sets::over_columns(plan).map_err(error_from)?;
    if named_casts {
        take_out(plan).map_err(error_from)
    } else if collide(&plan).map_err(error_from)? {
        Err(Error::new("42701", "a column name is specified more than once"))
    } else {
        Ok(plan)
    }
}

fn parser_options() -> ParserOptions {
    ParserOptions::new()
        .with_parse_float_as_decimal(true)
        .with_map_string_types_to_utf8view(false)
        .with_collect_spans(true)
}

/// The types of `$1, $2, …` in a bound plan: those given, those inferred, and text where nothing says more.
pub fn parameters(plan: &LogicalPlan, given: &[Option<FieldRef>]) -> Result<Vec<FieldRef>> {
    Ok(text_if_unknown(parameters_known(plan, given)?))
}

pub fn text_if_unknown(parameters: Vec<Option<FieldRef>>) -> Vec<FieldRef> {
    let text: FieldRef = Arc::new(Field::new("", DataType::Utf8, true));
    parameters.into_iter().map(|p| p.unwrap_or_else(|| text.clone())).collect()
}

/// Those given, and those that the plan says something of.
pub fn parameters_known(plan: &LogicalPlan, given: &[Option<FieldRef>]) -> Result<Vec<Option<FieldRef>>> {
    let mut parameters = given.to_vec();
    plan.apply_with_subqueries(|plan| {
        plan.apply_expressions(|expr| {
            expr.apply(|expr| {
                if let Expr::Placeholder(Placeholder { id, field }) = expr {
                    let number: Option<usize> = id.trim_start_matches('$').parse().ok();
                    let number = number
                        .filter(|n| (1..=PARAMETERS_MAX).contains(n))
                        .ok_or_else(|| external(Error::new("42P02", format!("there is no parameter {id}"))))?;
                    if parameters.len() < number {
                        parameters.resize(number, None);
                    }
                    // Where several places want several types, the first one's counts.
                    if let (slot @ None, Some(field)) = (&mut parameters[number - 1], field) {
                        *slot = Some(parameter(field).map_err(external)?);
                    }
                }
                Ok(TreeNodeRecursion::Continue)
            })
        })
    })
    .map_err(error_from)?;
    Ok(parameters)
}

/// What a parameter is that stands where a value of this field is wanted: of its type, without length or precision,
/// so that `amount = $1` compares with what was sent and not with what the column could hold of it. (A numeric that
/// holds more than `numeric` does stays as it is.)
fn parameter(wanted: &Field) -> Result<FieldRef> {
    let wanted = canonical_type(wanted)?;
    let sql_type = sql_type_of(&wanted);
    let plain = match sql_type.split_once('(') {
        Some(("character", rest)) if rest.ends_with("[]") => "text[]".to_string(),
        Some(("character", _)) => "text".to_string(),
        Some(("numeric", _)) if !matches!(wanted.data_type(), DataType::Decimal128(p, 0..=10) if *p <= 28) => sql_type,
        Some((enums::WORD, _)) => sql_type,
        Some((name, rest)) => format!("{name}{}", rest.split_once(')').map_or("", |(_, after)| after)),
        None => sql_type,
    };
    match wanted.data_type() {
        DataType::Struct(_) | DataType::Map(..) | DataType::Union(..) => Ok(Arc::new(wanted)),
        _ => Ok(Arc::new(field("", &plain, true)?)),
    }
}

/// Optimizes a bound plan. Its columns keep their types: DataFusion may find another precision for a numeric once
/// it has folded constants.
pub fn optimize(state: &SessionState, plan: LogicalPlan) -> Result<LogicalPlan> {
    let types: Vec<DataType> = plan.schema().fields().iter().map(|f| f.data_type().clone()).collect();
    let plan = bounds::planning(|| repeated::shown(state.optimize(&plan)?)).map_err(error_from)?;
    size::check_size(&plan)?;
    with_types(cheap_first(plan).map_err(error_from)?, &types)
}

/// The same rows with columns of these types.
pub fn with_types(plan: LogicalPlan, types: &[DataType]) -> Result<LogicalPlan> {
    let columns = || plan.schema().iter().zip(types);
    if columns().all(|((_, column), data_type)| column.data_type() == data_type) {
        return Ok(plan);
    }
    let exprs: Vec<Expr> = columns()
        .map(|((qualifier, column), data_type)| {
            let expr = Expr::Column((qualifier, column).into());
            match column.data_type() == data_type {
                true => expr,
                false => Expr::Cast(Cast::new(Box::new(expr), data_type.clone()))
                    .alias_qualified(qualifier.cloned(), column.name()),
            }
        })
        .collect();
    LogicalPlanBuilder::from(plan).project(exprs).and_then(|b| b.build()).map_err(error_from)
}

/// Binds one expression over columns, its types settled: for DEFAULT, UPDATE SET, ON CONFLICT.
pub fn bind_expression(state: &SessionState, schema: &DFSchema, expr: &ast::Expr) -> Result<Expr> {
    let mut expr = expr.clone();
    rewrite_expression(&mut expr)?;
    let context = BindContext { state, relations: &NoRelations, planners: Vec::new(), named: Cell::default() };
    let planner = SqlToRel::new_with_options(&context, parser_options());
    let expr = planner.sql_to_expr(expr, schema, &mut PlannerContext::new()).map_err(error_from)?;
    let info = SimplifyContext::builder()
        .with_schema(Arc::new(schema.clone()))
        .with_config_options(state.config_options().clone())
        .with_query_execution_start_time(state.execution_props().query_execution_start_time)
        .build();
    let simplifier = ExprSimplifier::new(info);
    let expr = crate::sql::functions::prepare(expr, schema).map_err(error_from)?;
    let expr = simplifier.coerce(expr, schema).map_err(error_from)?;
    let expr = crate::sql::functions::settle(expr, schema, state.config_options()).map_err(error_from)?;
    bounds::planning(|| simplifier.simplify(expr)).map_err(error_from)
}

struct NoRelations;
impl Relations for NoRelations {
    fn table(&self, _: Option<&str>, _: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        Ok(None)
    }
}

/// The relations that a query names, anywhere in it, each once; names of its own WITH queries are left out.
pub fn relations_named(query: &ast::Query) -> Vec<Name> {
    use std::ops::ControlFlow;
    struct Names {
        found: Vec<Name>,
        with: Vec<String>,
    }
    impl ast::Visitor for Names {
        type Break = ();
        fn pre_visit_query(&mut self, query: &ast::Query) -> ControlFlow<()> {
            let tables = query.with.iter().flat_map(|with| &with.cte_tables);
            self.with.extend(tables.map(|cte| crate::sql::parse::fold(&cte.alias.name)));
            ControlFlow::Continue(())
        }
        fn pre_visit_table_factor(&mut self, factor: &ast::TableFactor) -> ControlFlow<()> {
            if let ast::TableFactor::Table { name, args: None, .. } = factor
                && let Ok(mut name) = name_of(name)
            {
                if let Some(stream) = crate::sql::log::stream_of(&name.name) {
                    name.name = stream.to_string();
                }
                if self.found.contains(&name) {
                    return ControlFlow::Continue(());
                }
                self.found.push(name);
            }
            ControlFlow::Continue(())
        }
    }
    let mut rewritten = query.clone();
    crate::sql::shadowing::name_all_apart(&mut rewritten);
    // Windows name their table in an argument; an error in one will come up when the query is bound.
    let _ = rewrite_query(&mut rewritten, false);
    let mut names = Names { found: Vec::new(), with: Vec::new() };
    let _ = rewritten.walk(&mut names);
    let Names { found, with } = names;
    found.into_iter().filter(|name| name.schema.is_some() || !with.contains(&name.name)).collect()
}

/// The field of the SQL type nearest to a field's.
fn canonical_type(of: &Field) -> Result<Field> {
    let sql_type = match of.data_type() {
        // row_number() and count over unsigned: bigint, as in Postgres.
        DataType::UInt64 => "bigint".to_string(),
        DataType::Struct(_) | DataType::Map(..) | DataType::Union(..) => return Ok(of.clone()),
        _ => sql_type_of(of),
    };
    if of.data_type() == &DataType::Null {
        return field(of.name(), "text", true);
    }
    match of.data_type() {
        // numeric(p,s) out of what columns can be, e.g. scale 40 of a Decimal256, is cut by sql_type_of.
        DataType::List(item) if matches!(item.data_type(), DataType::Struct(_)) => Ok(of.clone()),
        _ => field(of.name(), &sql_type, of.is_nullable()),
    }
}

/// Casts output columns whose Arrow type no SQL type has.
fn canonical_types(plan: LogicalPlan) -> Result<LogicalPlan> {
    let fields = plan.schema().fields().iter();
    let types: Vec<DataType> = fields.map(|f| Ok(canonical_type(f)?.data_type().clone())).collect::<Result<_>>()?;
    with_types(plan, &types)
}

/// DataFusion's view of a session while it binds: functions from the state, tables from [`Relations`].
struct BindContext<'a> {
    state: &'a SessionState,
    relations: &'a dyn Relations,
    planners: Vec<Arc<dyn RelationPlanner>>,
    /// Tables named so far, and their columns together.
    named: Cell<(usize, usize)>,
}

fn external(error: Error) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}

impl ContextProvider for BindContext<'_> {
    fn get_table_source(&self, name: TableReference) -> DataFusionResult<Arc<dyn TableSource>> {
        bounds::check_in_plan()?;
        let (schema, table) = (name.schema(), name.table());
        let found = self.relations.table(schema, table).map_err(external)?;
        match found {
            Some(provider) => {
                let (tables, columns) = self.named.get();
                self.named.set((tables + 1, columns + provider.schema().fields().len()));
                size::check_join(self.named.get())?;
                Ok(provider_as_source(provider))
            }
            None => {
                let shown = schema.map_or_else(|| table.to_string(), |schema| format!("{schema}.{table}"));
                let error = Error::undefined_relation(shown);
                Err(external(match nearest(table, self.relations.names().iter().map(String::as_str)) {
                    Some(near) => error.hint(format!("Perhaps you meant \"{near}\".")),
                    None => error,
                }))
            }
        }
    }
    fn get_table_function_source(&self, name: &str, args: Vec<Expr>) -> DataFusionResult<Arc<dyn TableSource>> {
        bounds::check_in_plan()?;
        let function = self
            .state
            .table_functions()
            .get(name)
            .cloned()
            .ok_or_else(|| external(Error::new("42883", format!("function {name} does not exist in FROM"))))?;
        let info = SimplifyContext::builder()
            .with_config_options(self.state.config_options().clone())
            .with_query_execution_start_time(self.state.execution_props().query_execution_start_time)
            .build();
        let simplifier = ExprSimplifier::new(info);
        let schema = DFSchema::empty();
        let args = args
            .into_iter()
            .map(|arg| simplifier.coerce(arg, &schema).and_then(|arg| simplifier.simplify(arg)))
            .collect::<DataFusionResult<Vec<_>>>()?;
        let arguments = datafusion::catalog::TableFunctionArgs::new(&args, self.state);
        Ok(provider_as_source(function.create_table_provider_with_args(arguments)?))
    }
    fn create_cte_work_table(&self, name: &str, schema: SchemaRef) -> DataFusionResult<Arc<dyn TableSource>> {
        // Of later rows nothing is known.
        let fields = schema.fields().iter().map(|field| field.as_ref().clone().with_nullable(true));
        let schema = Arc::new(Schema::new_with_metadata(fields.collect::<Vec<_>>(), schema.metadata().clone()));
        Ok(provider_as_source(Arc::new(CteWorkTable::new(name, schema))))
    }
    fn get_expr_planners(&self) -> &[Arc<dyn ExprPlanner>] {
        self.state.expr_planners()
    }
    fn get_relation_planners(&self) -> &[Arc<dyn RelationPlanner>] {
        &self.planners
    }
    fn get_type_planner(&self) -> Option<Arc<dyn TypePlanner>> {
        Some(Arc::new(PostgresTypes))
    }
    fn get_function_meta(&self, name: &str) -> Option<Arc<ScalarUDF>> {
        if name == NAMED_CAST {
            return Some(Arc::new(NamedCast::default().into()));
        }
        self.state.scalar_functions().get(name).cloned()
    }
    fn get_higher_order_meta(&self, name: &str) -> Option<Arc<HigherOrderUDF>> {
        self.state.higher_order_functions().get(name).cloned()
    }
    fn get_aggregate_meta(&self, name: &str) -> Option<Arc<AggregateUDF>> {
        self.state.aggregate_functions().get(name).cloned()
    }
    fn get_window_meta(&self, name: &str) -> Option<Arc<WindowUDF>> {
        self.state.window_functions().get(name).cloned()
    }
    fn get_variable_type(&self, _: &[String]) -> Option<DataType> {
        None
    }
    fn options(&self) -> &ConfigOptions {
        self.state.config_options()
    }
    fn udf_names(&self) -> Vec<String> {
        self.state.scalar_functions().keys().cloned().collect()
    }
    fn higher_order_function_names(&self) -> Vec<String> {
        self.state.higher_order_functions().keys().cloned().collect()
    }
    fn udaf_names(&self) -> Vec<String> {
        self.state.aggregate_functions().keys().cloned().collect()
    }
    fn udwf_names(&self) -> Vec<String> {
        self.state.window_functions().keys().cloned().collect()
    }
}

/// The name that differs least from `name`, if it is near.
pub fn nearest<'a>(name: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    names
        .map(|candidate| (datafusion::common::utils::datafusion_strsim::levenshtein(name, candidate), candidate))
        .filter(|(distance, _)| *distance <= 1 + name.chars().count() / 4)
        .min()
        .map(|(_, candidate)| candidate)
}
