//! Correlated subqueries, evaluated per row of the outer query, as Postgres' SubPlan does.
//!
//! DataFusion decorrelates only what it can turn into a join: not a scalar subquery without an aggregate,
//! not EXISTS in a select list, not LATERAL over unnest. Over the catalogs, where an outer query has tens
//! or hundreds of rows, evaluating is as good:
//!
//! ```text
//! (SELECT adbin FROM pg_attrdef d WHERE d.adrelid = a.attrelid)   -> subquery(a.attrelid)
//! x IN (SELECT … outer …)                                         -> any_of('=', x, subquery(…))
//! FROM c, LATERAL (SELECT … c.x …) l                              -> unnest(subquery(c.x)) as l's columns
//! ```
//!
//! The function holds the subquery's plan, optimized once, with a placeholder for each outer column, and
//! runs it once per distinct tuple of arguments of a batch. Cost: about a millisecond per such tuple.
//! Subqueries are replaced innermost first; a reference to a query further out stays one, in the argument.

use std::collections::HashMap;
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, OnceLock};

use arrow::array::{Array, ArrayRef, RecordBatch, StructArray, new_empty_array};
use arrow::compute::{concat, concat_batches};
use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::catalog::cte_worktable::CteWorkTable;
use datafusion::common::metadata::{FieldMetadata, ScalarAndMetadata};
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::utils::SingleRowListArrayBuilder;
use datafusion::common::{Column, DFSchema, DataFusionError, ParamValues, Result, ScalarValue, UnnestOptions};
use datafusion::datasource::source_as_provider;
use datafusion::execution::SessionState;
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use datafusion::logical_expr::expr::{Exists, InSubquery, Placeholder, SetComparison, SetQuantifier};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::utils::split_conjunction_owned;
use datafusion::logical_expr::{
    ColumnarValue, Expr, Join, JoinType, LogicalPlan, LogicalPlanBuilder, ReturnFieldArgs, ScalarFunctionArgs,
    ScalarUDF, ScalarUDFImpl, Signature, Subquery, SubqueryAlias, Volatility, lit,
};
use datafusion::physical_plan::execute_stream;
use millrace_engine::Error;
use millrace_engine::sql::bounds::{self, Bounds, Tally};
use millrace_engine::sql::context::{self, Settings};

use super::{Context, input_schema};
use crate::pg_catalog::functions;
use crate::pg_catalog::relations::SystemTable;

/// Replaces the correlated subqueries among a node's expressions, and a lateral input.
pub fn replace(node: LogicalPlan, context: &Context) -> Result<Transformed<LogicalPlan>> {
    let beside_user = has_subqueries(&node)? && !of_system(&node);
    if let LogicalPlan::Join(join) = &node
        && let Some((subquery, alias)) = lateral(&join.right)
        && is_ours(&subquery.subquery, beside_user)
        && let Some(replaced) = replace_lateral(join, subquery, alias)?
    {
        return Ok(Transformed::yes(replaced));
    }
    let schema = input_schema(&node);
    let in_filter = matches!(node, LogicalPlan::Filter(_));
    let names = NamePreserver::new(&node);
    let changed = node.map_expressions(|e| {
        let name = names.save(&e);
        let changed = if in_filter {
            replace_in_filter(e, &schema, context, beside_user)?
        } else {
            e.transform_up(|e| replace_expression(e, &schema, context, beside_user))?
        };
        Ok(if changed.transformed { changed.update_data(|e| name.restore(e)) } else { changed })
    })?;
    changed.transform_data(|node| node.recompute_schema().map(Transformed::yes))
}

/// DataFusion makes semi and anti joins of the EXISTS and IN that a condition consists of.
fn replace_in_filter(
    condition: Expr,
    schema: &DFSchema,
    context: &Context,
    beside_user: bool,
) -> Result<Transformed<Expr>> {
    let known = |s: &Subquery| {
        s.subquery
            .all_out_ref_exprs()
            .iter()
            .all(|e| matches!(e, Expr::OuterReferenceColumn(_, c) if schema.has_column(c)))
    };
    let is_join = |e: &Expr| match e {
        Expr::Exists(exists) => known(&exists.subquery),
        Expr::InSubquery(inside) => known(&inside.subquery),
        _ => false,
    };
    let mut changed = false;
    let mut conjuncts = Vec::new();
    for e in split_conjunction_owned(condition) {
        let joins = is_join(&e) || matches!(&e, Expr::Not(inner) if is_join(inner));
        let e = match joins {
            true => Transformed::no(e),
            false => e.transform_up(|e| replace_expression(e, schema, context, beside_user))?,
        };
        changed |= e.transformed;
        conjuncts.push(e.data);
    }
    let condition = conjuncts.into_iter().reduce(Expr::and).expect("a condition has a conjunct");
    Ok(Transformed::new_transformed(condition, changed))
}

fn replace_expression(
    expr: Expr,
    schema: &DFSchema,
    context: &Context,
    beside_user: bool,
) -> Result<Transformed<Expr>> {
    let of_system = |plan: &LogicalPlan| is_ours(plan, beside_user);
    let is_correlated = |s: &Subquery| !s.subquery.all_out_ref_exprs().is_empty() && of_system(&s.subquery);
    Ok(match expr {
        Expr::ScalarSubquery(s) if is_correlated(&s) => Transformed::yes(dependent(&s, Shape::Scalar, schema)?),
        Expr::Exists(Exists { subquery, negated }) if of_system(&subquery.subquery) => {
            let exists = dependent(&subquery, Shape::Exists, schema)?;
            Transformed::yes(if negated { !exists } else { exists })
        }
        Expr::InSubquery(InSubquery { expr, subquery, negated }) if of_system(&subquery.subquery) => {
            let values = dependent(&subquery, Shape::Column, schema)?;
            let found = context.call(functions::ANY_OF, vec![lit("="), *expr, values]);
            Transformed::yes(if negated { !found } else { found })
        }
        Expr::SetComparison(SetComparison { expr, subquery, op, quantifier }) if of_system(&subquery.subquery) => {
            let values = dependent(&subquery, Shape::Column, schema)?;
            let function = if quantifier == SetQuantifier::Any { functions::ANY_OF } else { functions::ALL_OF };
            Transformed::yes(context.call(function, vec![lit(op.to_string()), *expr, values]))
        }
        other => Transformed::no(other),
    })
}

fn has_subqueries(node: &LogicalPlan) -> Result<bool> {
    let mut found = matches!(node, LogicalPlan::Join(join) if lateral(&join.right).is_some());
    node.apply_expressions(|e| {
        e.apply(|e| {
            found |=
                matches!(e, Expr::ScalarSubquery(_) | Expr::Exists(_) | Expr::InSubquery(_) | Expr::SetComparison(_));
            Ok(if found { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
        })
    })?;
    Ok(found)
}

/// One that reads no relation at all is the engine's beside a user's relations, of which there may be many rows.
fn is_ours(subquery: &LogicalPlan, beside_user: bool) -> bool {
    let mut reads = false;
    let _ = subquery.apply_with_subqueries(|node| {
        reads |= matches!(node, LogicalPlan::TableScan(_));
        Ok(if reads { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    });
    (reads || !beside_user) && of_system(subquery)
}

/// Reads nothing but system relations: a user's are read at a snapshot, which a function does not have.
fn of_system(plan: &LogicalPlan) -> bool {
    let is_user_table = |node: &LogicalPlan| match node {
        LogicalPlan::TableScan(scan) => source_as_provider(&scan.source)
            .is_ok_and(|p| p.downcast_ref::<SystemTable>().is_none() && p.downcast_ref::<CteWorkTable>().is_none()),
        _ => false,
    };
    let mut system = true;
    plan.apply_with_subqueries(|node| {
        system &= !is_user_table(node);
        Ok(TreeNodeRecursion::Continue)
    })
    .expect("looking at nodes does not fail");
    system
}

fn lateral(plan: &LogicalPlan) -> Option<(&Subquery, Option<&SubqueryAlias>)> {
    match plan {
        LogicalPlan::Subquery(s) => Some((s, None)),
        LogicalPlan::SubqueryAlias(alias) => match &*alias.input {
            LogicalPlan::Subquery(s) => Some((s, Some(alias))),
            _ => None,
        },
        _ => None,
    }
}

/// left JOIN LATERAL (subquery): the rows of the subquery as one list per row of the left, unnested; `None` for an outer
/// join with a condition, which the engine makes an ordinary join of.
fn replace_lateral(join: &Join, subquery: &Subquery, alias: Option<&SubqueryAlias>) -> Result<Option<LogicalPlan>> {
    let outer = join.join_type == JoinType::Left;
    let conditions = join.on.iter().map(|(l, r)| l.clone().eq(r.clone())).chain(join.filter.clone());
    let condition = conditions.reduce(Expr::and).filter(|c| *c != lit(true));
    if !(join.join_type == JoinType::Inner || outer && condition.is_none()) {
        return Ok(None);
    }
    const ROWS: &str = "lateral rows";
    let left = join.left.as_ref().clone();
    let rows = dependent(subquery, Shape::Rows, left.schema())?.alias(ROWS);
    let columns =
        |plan: &LogicalPlan| plan.schema().iter().map(|(q, f)| Expr::Column(Column::from((q, f)))).collect::<Vec<_>>();
    let mut with_rows = columns(&left);
    with_rows.push(rows);
    let get_field = datafusion::functions::core::get_field();
    let mut output = columns(&left);
    let schema = alias.map_or_else(|| subquery.subquery.schema().clone(), |a| a.schema.clone());
    for (i, (qualifier, field)) in schema.iter().enumerate() {
        let row = Expr::Column(Column::new_unqualified(ROWS));
        output.push(get_field.call(vec![row, lit(position_name(i))]).alias_qualified(qualifier.cloned(), field.name()));
    }
    let options = UnnestOptions::new().with_preserve_nulls(outer);
    let mut builder = LogicalPlanBuilder::new(left)
        .project(with_rows)?
        .unnest_column_with_options(Column::new_unqualified(ROWS), options)?
        .project(output)?;
    if let Some(condition) = condition {
        builder = builder.filter(condition)?;
    }
    builder.build().map(Some)
}

/// Fields of a row are named by position: a subquery may give one name twice.
fn position_name(i: usize) -> String {
    format!("c{i}")
}

/// Planning recurses, and a subquery may be planned within one that is.
const STACK_BYTES: usize = 8 << 20;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Shape {
    /// The one value of at most one row.
    Scalar,
    Exists,
    /// All values of the one column, as a list.
    Column,
    /// All rows, as a list of structs; NULL where there is none.
    Rows,
}

/// The call that stands for the subquery in a node with input `schema`.
fn dependent(subquery: &Subquery, shape: Shape, schema: &DFSchema) -> Result<Expr> {
    let outer = subquery.subquery.all_out_ref_exprs();
    let mut arguments = Vec::new();
    let mut meanings = Vec::new();
    let mut placeholders: HashMap<Expr, Expr> = HashMap::new();
    for reference in &outer {
        let Expr::OuterReferenceColumn(field, column) = reference else { continue };
        let id = format!("$outer{}", arguments.len());
        meanings.push(meaning_of(field));
        let known = schema.has_column(column);
        arguments.push(if known { Expr::Column(column.clone()) } else { reference.clone() });
        placeholders.insert(reference.clone(), Expr::Placeholder(Placeholder { id, field: Some(field.clone()) }));
    }
    // The statement's own parameters are arguments too: their values come when the statement runs.
    for parameter in parameters(&subquery.subquery) {
        let id = format!("$outer{}", arguments.len());
        let text = || Arc::new(Field::new("", DataType::Utf8, true));
        let field = parameter.field.clone().unwrap_or_else(text);
        meanings.push(meaning_of(&field));
        arguments.push(Expr::Placeholder(parameter.clone()));
        placeholders.insert(Expr::Placeholder(parameter), Expr::Placeholder(Placeholder { id, field: Some(field) }));
    }
    let plan = subquery.subquery.as_ref().clone().transform_up_with_subqueries(|node| {
        // LATERAL that looked out of this subquery only: with its references gone, an ordinary input.
        if let LogicalPlan::Subquery(inner) = &node
            && inner.subquery.all_out_ref_exprs().is_empty()
        {
            return Ok(Transformed::yes(inner.subquery.as_ref().clone()));
        }
        let names = NamePreserver::new(&node);
        let changed = node.map_expressions(|e| {
            let name = names.save(&e);
            let changed = e.transform_up(|e| {
                Ok(match placeholders.get(&e) {
                    Some(placeholder) => Transformed::yes(placeholder.clone()),
                    None => Transformed::no(e),
                })
            })?;
            Ok(if changed.transformed { changed.update_data(|e| name.restore(e)) } else { changed })
        })?;
        changed.transform_data(|node| node.recompute_schema().map(Transformed::yes))
    })?;
    let function = Dependent::new(plan.data, meanings, shape)?;
    Ok(ScalarUDF::new_from_impl(function).call(arguments))
}

/// What says which of Postgres' types a value is of: an array that is a vector counts from 0.
fn meaning_of(field: &FieldRef) -> Option<FieldMetadata> {
    (!field.metadata().is_empty()).then(|| FieldMetadata::from(field.as_ref()))
}

/// $1, $2 … of the statement in a subquery. Those of subqueries within it are arguments there by now.
fn parameters(plan: &LogicalPlan) -> Vec<Placeholder> {
    let mut found: Vec<Placeholder> = Vec::new();
    plan.apply_with_subqueries(|node| {
        node.apply_expressions(|e| {
            e.apply(|e| {
                if let Expr::Placeholder(p) = e
                    && !p.id.starts_with("$outer")
                    && !found.iter().any(|f| f.id == p.id)
                {
                    found.push(p.clone());
                }
                Ok(TreeNodeRecursion::Continue)
            })
        })
    })
    .expect("looking at expressions does not fail");
    found
}

struct Dependent {
    /// Of different subqueries different: what has one name is taken for the same by who goes by the names of expressions.
    name: String,
    plan: LogicalPlan,
    shape: Shape,
    /// Of its arguments.
    meanings: Vec<Option<FieldMetadata>>,
    returns: FieldRef,
    signature: Signature,
    /// The plan as optimized, at the first call.
    optimized: OnceLock<LogicalPlan>,
}

impl Dependent {
    fn new(plan: LogicalPlan, meanings: Vec<Option<FieldMetadata>>, shape: Shape) -> Result<Self> {
        let arguments = meanings.len();
        let fields = plan.schema().fields();
        let first = || {
            fields
                .first()
                .map(|f| f.as_ref().clone())
                .ok_or_else(|| DataFusionError::Plan("subquery without columns".into()))
        };
        let returns = match shape {
            Shape::Scalar => first()?.with_nullable(true),
            Shape::Exists => Field::new("exists", DataType::Boolean, false),
            Shape::Column => Field::new_list("values", Field::new_list_field(first()?.data_type().clone(), true), true),
            Shape::Rows => {
                let fields: Vec<Field> = fields
                    .iter()
                    .enumerate()
                    .map(|(i, f)| f.as_ref().clone().with_name(position_name(i)).with_nullable(true))
                    .collect();
                Field::new_list("rows", Field::new_list_field(DataType::Struct(fields.into()), true), true)
            }
        };
        let signature = if arguments == 0 {
            Signature::nullary(Volatility::Stable)
        } else {
            Signature::any(arguments, Volatility::Stable)
        };
        let mut hasher = DefaultHasher::new();
        plan.display_indent_schema().to_string().hash(&mut hasher);
        Ok(Dependent {
            name: format!("subquery_{:016x}", hasher.finish()),
            plan,
            shape,
            meanings,
            returns: Arc::new(returns.with_name("subquery")),
            signature,
            optimized: OnceLock::new(),
        })
    }

    /// The subquery's value for one tuple of outer values.
    async fn evaluate(
        &self,
        key: &[ScalarValue],
        state: &SessionState,
        environment: &Arc<RuntimeEnv>,
    ) -> Result<ScalarValue> {
        let optimized = match self.optimized.get() {
            Some(plan) => plan,
            None => {
                let plan = state.optimize(&self.plan)?;
                self.optimized.get_or_init(|| plan)
            }
        };
        let meant = |(i, value): (usize, &ScalarValue)| {
            (format!("outer{i}"), ScalarAndMetadata::new(value.clone(), self.meanings[i].clone()))
        };
        let values = key.iter().enumerate().map(meant);
        let plan = optimized.clone().replace_params_with_values(&ParamValues::Map(values.collect()))?;
        let physical = state.query_planner().create_physical_plan(&plan, state).await?;
        let schema = physical.schema();
        let context = context::task_context(state, environment.clone());
        let batches = bounds::collect(execute_stream(physical, context)?).await?;
        self.value(&concat_batches(&schema, &batches)?)
    }

    fn value(&self, rows: &RecordBatch) -> Result<ScalarValue> {
        let data_type = self.returns.data_type();
        match self.shape {
            Shape::Exists => Ok(ScalarValue::Boolean(Some(rows.num_rows() > 0))),
            Shape::Scalar => match rows.num_rows() {
                0 => ScalarValue::try_from(data_type),
                1 => ScalarValue::try_from_array(rows.column(0), 0)?.cast_to(data_type),
                _ => functions::failed(Error::new(
                    "21000",
                    "more than one row returned by a subquery used as an expression",
                )),
            },
            Shape::Column => list(rows.column(0).clone(), data_type),
            Shape::Rows if rows.num_rows() == 0 => ScalarValue::try_from(data_type),
            Shape::Rows => {
                let DataType::List(element) = data_type else { unreachable!("rows come as a list") };
                let DataType::Struct(fields) = element.data_type() else { unreachable!("of structs") };
                let columns: std::result::Result<Vec<ArrayRef>, _> =
                    rows.columns().iter().zip(fields).map(|(c, f)| arrow::compute::cast(c, f.data_type())).collect();
                list(Arc::new(StructArray::new(fields.clone(), columns?, None)), data_type)
            }
        }
    }
}

fn list(values: ArrayRef, data_type: &DataType) -> Result<ScalarValue> {
    let DataType::List(element) = data_type else { unreachable!("a list is asked for") };
    let values = arrow::compute::cast(&values, element.data_type())?;
    Ok(SingleRowListArrayBuilder::new(values).with_field(element).build_list_scalar())
}

impl fmt::Debug for Dependent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} subquery", self.shape)
    }
}
impl PartialEq for Dependent {
    fn eq(&self, other: &Self) -> bool {
        self.shape == other.shape && self.plan == other.plan
    }
}
impl Eq for Dependent {}
impl Hash for Dependent {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.shape.hash(state);
    }
}

impl ScalarUDFImpl for Dependent {
    fn name(&self) -> &str {
        &self.name
    }
    fn signature(&self) -> &Signature {
        &self.signature
    }
    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(self.returns.data_type().clone())
    }
    fn return_field_from_args(&self, _: ReturnFieldArgs) -> Result<FieldRef> {
        Ok(self.returns.clone())
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let mut keys: Vec<Vec<ScalarValue>> = Vec::new();
        let mut known: HashMap<Vec<ScalarValue>, usize> = HashMap::new();
        let mut of_row = Vec::with_capacity(args.number_rows);
        for row in 0..args.number_rows {
            let key: Result<Vec<ScalarValue>> = args
                .args
                .iter()
                .map(|a| match a {
                    ColumnarValue::Scalar(s) => Ok(s.clone()),
                    ColumnarValue::Array(a) => ScalarValue::try_from_array(a, row),
                })
                .collect();
            let key = key?;
            of_row.push(*known.entry(key.clone()).or_insert_with(|| {
                keys.push(key);
                keys.len() - 1
            }));
        }
        if keys.is_empty() {
            return Ok(ColumnarValue::Array(new_empty_array(self.returns.data_type())));
        }
        let values: Vec<ArrayRef> =
            self.evaluate_all(&keys)?.into_iter().map(|v| v.to_array()).collect::<Result<_>>()?;
        let values: Vec<&dyn Array> = of_row.into_iter().map(|i| values[i].as_ref()).collect();
        Ok(ColumnarValue::Array(concat(&values)?))
    }
}

impl Dependent {
    /// A function is called from within a running plan and may not wait there for another: so the
    /// subqueries run on a thread and a small runtime of their own.
    fn evaluate_all(&self, keys: &[Vec<ScalarValue>]) -> Result<Vec<ScalarValue>> {
        let working_for = bounds::current();
        std::thread::scope(|scope| {
            let run = || {
                let runtime =
                    tokio::runtime::Builder::new_current_thread().build().map_err(DataFusionError::IoError)?;
                // As the engine's, with one partition: what is read is small.
                let state = context::session_state(&Settings::default());
                let environment = environment(working_for.as_ref())?;
                let mut tally = Tally::default();
                let mut evaluate = |key: &Vec<ScalarValue>| {
                    let value = runtime.block_on(self.evaluate(key, &state, &environment))?;
                    tally.add(value.size())?;
                    Ok(value)
                };
                let mut evaluate_all = || keys.iter().map(&mut evaluate).collect();
                match &working_for {
                    Some(bounds) => bounds.within(evaluate_all),
                    None => evaluate_all(),
                }
            };
            let thread = std::thread::Builder::new().name("subquery".into()).stack_size(STACK_BYTES);
            thread.spawn_scoped(scope, run)?.join().expect("evaluating a subquery does not panic")
        })
    }
}

fn environment(working_for: Option<&Bounds>) -> Result<Arc<RuntimeEnv>> {
    let Some(bounds) = working_for else { return Ok(Arc::default()) };
    let no_disk = DiskManagerBuilder::default().with_mode(DiskManagerMode::Disabled);
    let environment = RuntimeEnvBuilder::new().with_disk_manager_builder(no_disk);
    environment.with_memory_pool(bounds.memory.clone()).build_arc()
}
