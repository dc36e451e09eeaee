//! GROUP BY: kept up to date from small sums where all its functions can be, else recomputed.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::Column;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::logical_expr::expr::{AggregateFunction as AggregateExpr, AggregateFunctionParams};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::logical_expr::{Aggregate, Expr, ExprSchemable, LogicalPlan};
use datafusion::physical_expr::aggregate::LoweredAggregateBuilder;

use super::{Lowering, in_view, relaxed};
use crate::error::Result;
use crate::operators::aggregate::{AggregateCall, AggregateFunction, AggregateSpec};
use crate::operators::recompute::{RecomputeCall, RecomputeSpec};
use crate::plan::NodeKind;
use crate::sql::bind::error_from;

impl Lowering<'_> {
    pub(super) fn aggregate(&mut self, aggregate: &Aggregate) -> Result<usize> {
        let input = self.node(&aggregate.input)?;
        let input_schema = aggregate.input.schema();
        // The columns that the operator reads, each expression once: groups first, then arguments and filters.
        let mut exprs: Vec<Expr> = Vec::new();
        let column = |e: &Expr, exprs: &mut Vec<Expr>| match exprs.iter().position(|x| x == e) {
            Some(i) => i,
            None => {
                exprs.push(e.clone());
                exprs.len() - 1
            }
        };
        for e in &aggregate.group_expr {
            if let Expr::GroupingSet(_) = e {
                return Err(in_view("GROUPING SETS, ROLLUP or CUBE"));
            }
        }
        let group: Vec<usize> =
            aggregate.group_expr.iter().map(|e| column(e.clone().unalias_ref(), &mut exprs)).collect();
        let mut calls = Vec::new();
        for e in &aggregate.aggr_expr {
            let Expr::AggregateFunction(AggregateExpr { func, params }) = e.unalias_ref() else {
                return Err(in_view("this aggregate expression"));
            };
            let AggregateFunctionParams { args, distinct, filter, .. } = params;
            if args.len() > 1 {
                return self.recompute(input, aggregate);
            }
            let argument = args.first().map(|a| a.get_type(input_schema.as_ref())).transpose().map_err(error_from)?;
            let Some(function) = kept_function(func.name(), argument.as_ref()) else {
                return self.recompute(input, aggregate);
            };
            let argument = match &args[..] {
                [Expr::Literal(value, _)] if function == AggregateFunction::Count && !value.is_null() && !distinct => {
                    None
                }
                args => args.first().map(|argument| column(argument, &mut exprs)),
            };
            let filter = filter.as_ref().map(|f| column(f, &mut exprs));
            calls.push(AggregateCall { function, argument, filter, distinct: *distinct });
        }
        let fields: Vec<Field> = exprs
            .iter()
            .enumerate()
            .map(|(i, e)| {
                let (_, field) = e.to_field(input_schema.as_ref()).map_err(error_from)?;
                let name = match e {
                    Expr::Column(Column { name, .. }) => name.clone(),
                    _ => format!("{}#{i}", e.schema_name()),
                };
                Ok(field.as_ref().clone().with_name(name).with_nullable(true))
            })
            .collect::<Result<_>>()?;
        let prepared = Arc::new(Schema::new(fields));
        let input = self.project(input, input_schema, &exprs, prepared)?;
        Ok(self.aggregate_node(input, group, calls, relaxed(&aggregate.schema)))
    }

    /// With functions of which nothing can be kept but their group's rows.
    fn recompute(&mut self, input: usize, aggregate: &Aggregate) -> Result<usize> {
        let input_schema = aggregate.input.schema();
        let group: Vec<&Expr> = aggregate.group_expr.iter().map(UnaliasRef::unalias_ref).collect();
        let physical = self.nodes[input].schema.clone();
        let calls = aggregate
            .aggr_expr
            .iter()
            .map(|e| {
                let Expr::AggregateFunction(call) = e.unalias_ref() else {
                    return Err(in_view("this aggregate expression"));
                };
                let name = call.func.name();
                if kept_function(name, None).is_none() && !RECOMPUTED.contains(&name) {
                    return Err(in_view(&format!("aggregate function {name}()")));
                }
                let context = PhysicalPlanningContext::default();
                let props = self.state.execution_props();
                let lowered = LoweredAggregateBuilder::new(e, input_schema, &physical, props, &context)
                    .with_name(e.schema_name().to_string())
                    .build()
                    .map_err(error_from)?;
                // What cannot be evaluated at all is refused now.
                lowered.aggregate.create_accumulator().map_err(error_from)?;
                Ok(RecomputeCall { function: lowered.aggregate, filter: lowered.filter })
            })
            .collect::<Result<Vec<_>>>()?;
        let (input, group) = self.key_columns(input, input_schema, &group)?;
        let input = self.exchange(input, group.clone());
        let output = relaxed(&aggregate.schema);
        let (groups, schema) = (group.len(), self.nodes[input].schema.clone());
        let spec = RecomputeSpec { group, calls, input: schema, output: output.clone(), owner: false };
        Ok(self.push(NodeKind::Recompute(Box::new(spec)), vec![input], output, false, Some((0..groups).collect())))
    }

    pub(super) fn aggregate_node(
        &mut self,
        input: usize,
        group: Vec<usize>,
        calls: Vec<AggregateCall>,
        output: SchemaRef,
    ) -> usize {
        let groups = group.len();
        let input = self.exchange(input, group.clone());
        let append_only_input = self.nodes[input].append_only;
        let schema = self.nodes[input].schema.clone();
        // A DISTINCT over rows that only come only grows.
        let append_only = calls.is_empty() && append_only_input;
        let spec = AggregateSpec {
            group,
            calls,
            input: schema,
            output: output.clone(),
            append_only: append_only_input,
            owner: false,
        };
        self.push(NodeKind::Aggregate(Box::new(spec)), vec![input], output, append_only, Some((0..groups).collect()))
    }
}

/// Functions that are kept up to date from small sums.
fn kept_function(name: &str, argument: Option<&DataType>) -> Option<AggregateFunction> {
    let float = argument.is_some_and(DataType::is_floating);
    Some(match name {
        "var_pop" if float => AggregateFunction::VarPop,
        "var_samp" if float => AggregateFunction::VarSamp,
        "stddev_pop" if float => AggregateFunction::StddevPop,
        "stddev_samp" if float => AggregateFunction::StddevSamp,
        "count" => AggregateFunction::Count,
        "sum" => AggregateFunction::Sum,
        "avg" => AggregateFunction::Avg,
        "min" => AggregateFunction::Min,
        "max" => AggregateFunction::Max,
        "bool_and" => AggregateFunction::BoolAnd,
        "bool_or" => AggregateFunction::BoolOr,
        _ => return None,
    })
}

/// Functions that are computed anew from a group's rows; their values do not depend on the order of rows, once
/// [`close_orders`] has closed that.
const RECOMPUTED: &[&str] = &[
    "array_agg",
    "bit_and",
    "bit_or",
    "bit_xor",
    "first_value",
    "last_value",
    "median",
    "nth_value",
    "stddev_pop",
    "stddev_samp",
    "string_agg",
    "var_pop",
    "var_samp",
];

/// Functions whose value depends on the order of rows.
const ORDERED: &[&str] = &["array_agg", "first_value", "last_value", "nth_value", "string_agg"];

/// Where a query leaves open in which order an aggregate sees its rows, the order of the argument closes it, so that
/// neither replay nor the number of workers shows.
pub fn close_orders(plan: LogicalPlan) -> Result<LogicalPlan> {
    let closed = plan.transform_up_with_subqueries(|node| {
        let names = NamePreserver::new(&node);
        node.map_expressions(|expr| {
            let name = names.save(&expr);
            let expr = expr.transform_up(|expr| match expr {
                Expr::AggregateFunction(mut call) if ORDERED.contains(&call.func.name()) => {
                    let arguments = call.params.args.iter().filter(|a| !matches!(a, Expr::Literal(..)));
                    let known = |a: &&Expr| call.params.order_by.iter().all(|by| by.expr != **a);
                    let further: Vec<_> = arguments.filter(known).map(|a| a.clone().sort(true, false)).collect();
                    call.params.order_by.extend(further);
                    Ok(Transformed::yes(Expr::AggregateFunction(call)))
                }
                other => Ok(Transformed::no(other)),
            })?;
            Ok(expr.update_data(|expr| name.restore(expr)))
        })
    });
    closed.map(|plan| plan.data).map_err(error_from)
}

trait UnaliasRef {
    fn unalias_ref(&self) -> &Expr;
}
impl UnaliasRef for Expr {
    fn unalias_ref(&self) -> &Expr {
        match self {
            Expr::Alias(alias) => alias.expr.unalias_ref(),
            e => e,
        }
    }
}
