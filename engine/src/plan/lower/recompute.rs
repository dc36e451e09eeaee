//! What is maintained by running it again: window functions by partition, aggregates that no accumulator keeps by
//! group, recursion as a whole. And what is made of parts that are maintained: GROUPING SETS, NOT IN.

use std::sync::Arc;

use arrow::datatypes::{Field, Schema, SchemaRef};
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema, ScalarValue, TableReference};
use datafusion::datasource::{provider_as_source, source_as_provider};
use datafusion::functions_aggregate::expr_fn::count;
use datafusion::logical_expr::expr::{NullTreatment, WindowFunction};
use datafusion::logical_expr::{
    Aggregate, Expr, GroupingSet, Join, LogicalPlan, LogicalPlanBuilder, TableScan, Window, WindowFrameBound,
    WindowFrameUnits, lit,
};

use super::{Lowering, UnaliasRef, in_view, relaxed, temporal};
use crate::blocking::wait_for;
use crate::error::Result;
use crate::operators::expiry::Lookback;
use crate::operators::recompute::{Fed, Query, RecomputeInput, RecomputeSpec};
use crate::plan::NodeKind;
use crate::plan::order::window_function;
use crate::serve::table::RelationTable;
use crate::sql::bind::error_from;
use crate::sql::grouping_sets::{one_set, sets_of};
use crate::sql::ordered::Ordered;

/// Aggregates that give the same answer whatever the order of rows, once [`crate::plan::order`] has closed theirs.
const RECOMPUTED_AGGREGATES: &[&str] = &[
    "array_agg",
    "string_agg",
    "first_value",
    "last_value",
    "nth_value",
    "median",
    "percentile_cont",
    "bit_and",
    "bit_or",
    "bit_xor",
    "approx_distinct",
    "count",
    "sum",
    "avg",
    "min",
    "max",
    "bool_and",
    "bool_or",
    "var_samp",
    "var_pop",
    "stddev_samp",
    "stddev_pop",
    "corr",
    "covar_pop",
    "covar_samp",
    "regr_avgx",
    "regr_avgy",
    "regr_count",
    "regr_intercept",
    "regr_r2",
    "regr_slope",
    "regr_sxx",
    "regr_sxy",
    "regr_syy",
];

impl Lowering<'_> {
    pub(super) fn window(&mut self, window: &Window) -> Result<usize> {
        if let Some(sessions) = self.sessions(window)? {
            return Ok(sessions);
        }
        // As `order` left it: over a sort that closes the order of rows.
        let Some(sort) = Ordered::of(&window.input) else { return Err(in_view("this window function")) };
        let functions =
            window.window_expr.iter().map(|e| window_function(e).ok_or_else(|| in_view("this window function")));
        let functions = functions.collect::<Result<Vec<_>>>()?;
        // Functions of one order can differ in what of it is their partition: rows belong together that any puts together.
        let in_all = |e: &&Expr| functions.iter().all(|f| f.params.partition_by.contains(e));
        let partition: Vec<&Expr> = functions.iter().flat_map(|f| &f.params.partition_by).filter(in_all).collect();
        let partition: Vec<&Expr> =
            partition.iter().enumerate().filter(|(i, e)| !partition[..*i].contains(e)).map(|(_, e)| *e).collect();
        let input_schema = sort.input.schema();
        let input = self.node(&sort.input)?;
        let (input, key) = self.key_columns(input, input_schema, &partition)?;
        let fed = self.fed(input, 0, input_schema)?;
        let plan = Window { input: Arc::new(Ordered::plan(sort.expr.clone(), fed)), ..window.clone() };
        // Partitioned by columns that pass through.
        let dealt_by = key.iter().all(|&k| k < input_schema.fields().len()).then(|| key.clone());
        let passed = (0..input_schema.fields().len()).map(|column| (column, column)).collect();
        let later = order_of_appearance(&functions, input_schema);
        let same_partition = functions.iter().all(|f| f.params.partition_by.iter().all(|e| partition.contains(&e)));
        let lookback = if same_partition { lookback(&functions, input_schema) } else { None };
        let node = self.recompute(vec![(input, key)], LogicalPlan::Window(plan), dealt_by, passed, later)?;
        if let NodeKind::Recompute(spec) = &mut self.nodes[node].kind {
            spec.inputs[0].lookback = lookback;
        }
        Ok(node)
    }

    pub(super) fn recomputed_aggregate(&mut self, aggregate: &Aggregate) -> Result<usize> {
        for expr in &aggregate.aggr_expr {
            let Expr::AggregateFunction(call) = expr.unalias_ref() else {
                return Err(in_view("this aggregate expression"));
            };
            if !RECOMPUTED_AGGREGATES.contains(&call.func.name()) {
                return Err(in_view(&format!("aggregate function {}()", call.func.name())));
            }
        }
        let input_schema = aggregate.input.schema();
        let input = self.node(&aggregate.input)?;
        let group: Vec<&Expr> = aggregate.group_expr.iter().map(|e| e.unalias_ref()).collect();
        let (input, key) = self.key_columns(input, input_schema, &group)?;
        let fed = self.fed(input, 0, input_schema)?;
        let mut plan = aggregate.clone();
        plan.input = Arc::new(fed);
        let dealt_by = Some((0..group.len()).collect());
        let passed = key.iter().enumerate().map(|(i, &column)| (column, i)).collect();
        self.recompute(vec![(input, key)], LogicalPlan::Aggregate(plan), dealt_by, passed, None)
    }

    /// A plan that is run anew as a whole when something below it has changed.
    pub(super) fn whole(&mut self, plan: &LogicalPlan) -> Result<usize> {
        let mut inputs = Vec::new();
        let mut failed = None;
        let fed = plan.clone().transform_up_with_subqueries(|node| {
            let LogicalPlan::TableScan(scan) = &node else { return Ok(Transformed::no(node)) };
            if !is_relation(scan) {
                return Ok(Transformed::no(node));
            }
            let made = self.scan(scan).and_then(|input| {
                let fed = self.fed(input, inputs.len(), &scan.projected_schema)?;
                inputs.push((input, vec![]));
                Ok(fed)
            });
            made.map_or_else(
                |error| {
                    failed = Some(error);
                    Ok(Transformed::no(node))
                },
                |fed| Ok(Transformed::yes(fed)),
            )
        });
        let fed = fed.map_err(error_from)?.data;
        match failed {
            Some(error) => Err(error),
            None => self.recompute(inputs, fed, Some(vec![]), vec![], None),
        }
    }

    /// The `index`-th input as a table with the names and qualifiers of `schema`, its first columns.
    fn fed(&self, input: usize, index: usize, schema: &DFSchema) -> Result<LogicalPlan> {
        let fields = self.nodes[input].schema.fields().iter().enumerate();
        let fields: Vec<Field> = fields.map(|(i, f)| f.as_ref().clone().with_name(format!("c{i}"))).collect();
        let table = Fed { index, schema: Arc::new(Schema::new(fields)) };
        let name = format!("input{index}");
        let columns = schema.iter().enumerate().map(|(i, (qualifier, field))| {
            let column = Expr::Column(Column::new(Some(TableReference::bare(name.clone())), format!("c{i}")));
            column.alias_qualified(qualifier.cloned(), field.name())
        });
        LogicalPlanBuilder::scan(name.clone(), provider_as_source(Arc::new(table)), None)
            .and_then(|scan| scan.project(columns.collect::<Vec<_>>()))
            .and_then(|plan| plan.build())
            .map_err(error_from)
    }

    /// `inputs`: each with its key. `dealt_by`: columns of the result that hold the key. `passed`, `later`: as in
    /// [`RecomputeSpec`].
    fn recompute(
        &mut self,
        inputs: Vec<(usize, Vec<usize>)>,
        plan: LogicalPlan,
        dealt_by: Option<Vec<usize>>,
        passed: Vec<(usize, usize)>,
        later: Option<usize>,
    ) -> Result<usize> {
        let mut reads_clock = false;
        plan.apply_with_subqueries(|node| {
            node.apply_expressions(|expr| {
                reads_clock |= temporal::reads_clock(expr);
                Ok(TreeNodeRecursion::Continue)
            })
        })
        .map_err(error_from)?;
        if reads_clock {
            return Err(temporal::misplaced());
        }
        let inputs: Vec<(usize, Vec<usize>)> =
            inputs.into_iter().map(|(input, key)| (self.exchange(input, key.clone()), key)).collect();
        let output = relaxed(plan.schema());
        let physical = self.state.query_planner().create_physical_plan(&plan, self.state);
        let physical = wait_for(physical).map_err(error_from)?;
        let mut recursive = false;
        plan.apply(|node| {
            recursive |= matches!(node, LogicalPlan::RecursiveQuery(_));
            Ok(TreeNodeRecursion::Continue)
        })
        .map_err(error_from)?;
        let (config, environment) = (self.state.config().clone(), self.state.runtime_env().clone());
        let text = match recursive {
            false => plan.display().to_string(),
            true => plan.display_indent().to_string().split('\n').map(str::trim).collect::<Vec<_>>().join(" < "),
        };
        let query = Query::new(physical, Arc::new(plan), config, environment, text, recursive);
        let spec_inputs = inputs.iter().map(|(input, key)| RecomputeInput {
            schema: self.nodes[*input].schema.clone(),
            key: key.clone(),
            append_only: self.nodes[*input].append_only,
            expiry: None,
            lookback: None,
        });
        let inputs_of = spec_inputs.collect();
        let spec = RecomputeSpec { inputs: inputs_of, query, passed, later, output: output.clone(), owner: false };
        let inputs = inputs.into_iter().map(|(input, _)| input).collect();
        Ok(self.push(NodeKind::Recompute(Box::new(spec)), inputs, output, false, dealt_by))
    }

    /// Each set is a GROUP BY of its own; together they are the result.
    pub(super) fn grouping_sets(&mut self, aggregate: &Aggregate, sets: &GroupingSet) -> Result<usize> {
        let columns: Vec<Expr> = sets.distinct_expr().into_iter().cloned().collect();
        let schema: SchemaRef = relaxed(&aggregate.schema);
        let mut inputs = Vec::new();
        let mut seen: Vec<Vec<bool>> = Vec::new();
        for set in sets_of(sets).map_err(error_from)? {
            let present: Vec<bool> = columns.iter().map(|c| set.contains(c)).collect();
            let ordinal = seen.iter().filter(|s| **s == present).count() as u64;
            seen.push(present);
            let part = one_set(aggregate, &columns, &set, ordinal).map_err(error_from)?;
            let LogicalPlan::Aggregate(grouped) = part.input.as_ref() else { unreachable!("a set is an aggregate") };
            let node = self.aggregate(grouped)?;
            inputs.push(self.project(node, &grouped.schema, &part.expr, schema.clone())?);
        }
        Ok(self.push(NodeKind::Union, inputs, schema, false, None))
    }

    /// `l NOT IN (SELECT r …)`: the rows of the left without a match, if the right is empty, or if it holds no NULL
    /// and theirs is not NULL.
    pub(super) fn not_in(&mut self, join: &Join) -> Result<usize> {
        let [(left, right)] = &join.on[..] else { return Err(in_view("NOT IN (subquery) of several columns")) };
        if join.filter.is_some() {
            return Err(in_view("NOT IN (correlated subquery)")
                .hint("NOT EXISTS says the same without the special case of NULL"));
        }
        let build = || -> datafusion::error::Result<LogicalPlan> {
            let mut plain = join.clone();
            plain.null_aware = false;
            let facts = LogicalPlanBuilder::from(join.right.as_ref().clone())
                .aggregate(
                    Vec::<Expr>::new(),
                    vec![count(lit(1)).alias("__rows"), count(right.clone()).alias("__values")],
                )?
                .project(vec![
                    Expr::Column(Column::from_name("__rows")).eq(lit(0i64)).alias("__empty"),
                    Expr::Column(Column::from_name("__rows"))
                        .eq(Expr::Column(Column::from_name("__values")))
                        .alias("__no_null"),
                ])?
                // Joined only when they change, not whenever the counts do.
                .distinct()?
                .alias("__not_in")?
                .build()?;
            let column = |name: &str| Expr::Column(Column::new(Some("__not_in"), name));
            let kept = join.left.schema().columns().into_iter().map(Expr::Column);
            LogicalPlanBuilder::from(LogicalPlan::Join(plain))
                .cross_join(facts)?
                .filter(column("__empty").or(column("__no_null").and(left.clone().is_not_null())))?
                .project(kept.collect::<Vec<_>>())?
                .build()
        };
        let plan = build().map_err(error_from)?;
        self.node(&plan)
    }
}

/// The column in whose order a row's result depends on rows that are not after it, for all of these functions.
fn order_of_appearance(functions: &[&WindowFunction], schema: &DFSchema) -> Option<usize> {
    let of_one = |function: &&WindowFunction| {
        let params = &function.params;
        let first = params.order_by.first().filter(|sort| sort.asc && !sort.nulls_first)?;
        let Expr::Column(column) = &first.expr else { return None };
        let frame_ends = matches!(params.window_frame.end_bound, WindowFrameBound::CurrentRow)
            || matches!(&params.window_frame.end_bound, WindowFrameBound::Preceding(by) if !by.is_null());
        let looks_back = match function.fun.name() {
            "row_number" | "rank" | "dense_rank" => true,
            "lag" => match params.args.get(1) {
                None => true,
                Some(Expr::Literal(ScalarValue::Int64(Some(by)), _)) => *by >= 0,
                Some(_) => false,
            },
            "lead" | "ntile" | "percent_rank" | "cume_dist" => false,
            _ => frame_ends,
        };
        if looks_back { schema.index_of_column(column).ok() } else { None }
    };
    let columns: Option<Vec<usize>> = functions.iter().map(of_one).collect();
    columns.filter(|columns| columns.iter().all(|c| *c == columns[0])).and_then(|columns| columns.first().copied())
}

/// As many rows as a partition may keep for those that come.
const LOOKBACK_ROWS_MAX: u64 = 10_000;

/// What functions, all of one partition, need of the rows before those that may still come, where all go by one time,
/// rising, and none looks back without end.
fn lookback(functions: &[&WindowFunction], schema: &DFSchema) -> Option<Lookback> {
    let mut column = None;
    // Rows before and after each, and times.
    let (mut rows, mut times) = ([0u64; 2], [0i64; 2]);
    for function in functions {
        let params = &function.params;
        let first = params.order_by.first().filter(|sort| sort.asc && !sort.nulls_first)?;
        let Expr::Column(by) = &first.expr else { return None };
        let by = schema.index_of_column(by).ok()?;
        if *column.get_or_insert(by) != by || params.null_treatment == Some(NullTreatment::IgnoreNulls) {
            return None;
        }
        let step = || match params.args.get(1) {
            None => Some(1),
            Some(Expr::Literal(ScalarValue::Int64(Some(by)), _)) => Some(*by),
            Some(_) => None,
        };
        let mut reach = |side: usize, by: u64| rows[side] = rows[side].max(by);
        match function.fun.name() {
            name @ ("lag" | "lead") => {
                let back = if name == "lag" { step()? } else { step()?.checked_neg()? };
                reach(usize::from(back < 0), back.unsigned_abs());
            }
            "row_number" | "rank" | "dense_rank" | "ntile" | "percent_rank" | "cume_dist" => return None,
            _ => {
                let frame = &params.window_frame;
                for (side, bound) in [(0, &frame.start_bound), (1, &frame.end_bound)] {
                    let by = match bound {
                        WindowFrameBound::CurrentRow => continue,
                        WindowFrameBound::Preceding(by) | WindowFrameBound::Following(by) if by.is_null() => {
                            return None;
                        }
                        WindowFrameBound::Preceding(by) if side == 0 => by,
                        WindowFrameBound::Following(by) if side == 1 => by,
                        // It begins after the row, or ends before it.
                        WindowFrameBound::Preceding(_) | WindowFrameBound::Following(_) => continue,
                    };
                    match (frame.units, by) {
                        (WindowFrameUnits::Rows, ScalarValue::UInt64(Some(by))) => reach(side, *by),
                        (WindowFrameUnits::Range, ScalarValue::IntervalMonthDayNano(Some(by))) if by.months == 0 => {
                            // A day is one of 25 hours at most.
                            let us = i64::from(by.days).checked_mul(25 * 3_600_000_000)?;
                            times[side] = times[side].max(us.checked_add(by.nanoseconds / 1000 + 1)?);
                        }
                        _ => return None,
                    }
                }
            }
        }
    }
    // A row that changes since a later one is among those after it needs those before it, of either kind.
    if rows[1] > 0 && times != [0; 2] || times[1] > 0 && rows != [0; 2] {
        return None;
    }
    let rows = rows[0].checked_add(rows[1]).filter(|rows| *rows <= LOOKBACK_ROWS_MAX)?;
    Some(Lookback { column: column?, rows: rows as usize, us: times[0].checked_add(times[1])? })
}

fn is_relation(scan: &TableScan) -> bool {
    source_as_provider(&scan.source).is_ok_and(|provider| provider.downcast_ref::<RelationTable>().is_some())
}
