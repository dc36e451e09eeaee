//! GROUP BY: kept up to date from small sums where all its functions can be, else recomputed.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::{Column, DFSchema};
use datafusion::logical_expr::expr::{AggregateFunction as AggregateExpr, AggregateFunctionParams};
use datafusion::logical_expr::{Aggregate, Expr, ExprSchemable};
use datafusion::physical_expr::ScalarFunctionExpr;
use datafusion::physical_expr::expressions::{Column as PhysicalColumn, Literal};

use super::{Lowering, UnaliasRef, in_view, relaxed};
use crate::error::Result;
use crate::operators::aggregate::{AggregateCall, AggregateFunction, AggregateSpec};
use crate::operators::evaluate::Expression;
use crate::operators::map::MapStep;
use crate::plan::{NodeKind, keys};
use crate::sql::bind::error_from;

impl Lowering<'_> {
    pub(super) fn aggregate(&mut self, aggregate: &Aggregate) -> Result<usize> {
        if let Some(first) = self.first_of_each(aggregate)? {
            return Ok(first);
        }
        let input_schema = aggregate.input.schema();
        let functions = aggregate.aggr_expr.iter().map(|e| kept_function(e, input_schema));
        let Some(functions) = functions.collect::<Result<Option<Vec<_>>>>()? else {
            return self.recomputed_aggregate(aggregate);
        };
        let input = self.node(&aggregate.input)?;
        // The columns that the operator reads, each expression once: groups first, then arguments and filters.
        let mut exprs: Vec<Expr> = Vec::new();
        let column = |e: &Expr, exprs: &mut Vec<Expr>| match exprs.iter().position(|x| x == e) {
            Some(i) => i,
            None => {
                exprs.push(e.clone());
                exprs.len() - 1
            }
        };
        let group: Vec<usize> =
            aggregate.group_expr.iter().map(|e| column(e.clone().unalias_ref(), &mut exprs)).collect();
        let mut calls = Vec::new();
        for (function, params) in functions {
            let AggregateFunctionParams { args, distinct, filter, .. } = params;
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

    /// Columns of the key that follow from others are computed of the result: a key is looked up for every row.
    pub(super) fn aggregate_node(
        &mut self,
        input: usize,
        group: Vec<usize>,
        calls: Vec<AggregateCall>,
        output: SchemaRef,
    ) -> usize {
        let shifts = self.window_ends(input, &group);
        if shifts.iter().all(Option::is_none) {
            return self.aggregate_by(input, group, calls, output);
        }
        let kept: Vec<usize> = (0..group.len()).filter(|i| shifts[*i].is_none()).collect();
        let others = group.len()..output.fields().len();
        let computed: Vec<usize> = kept.iter().copied().chain(others).collect();
        let schema: SchemaRef = Arc::new(output.project(&computed).expect("columns of the result"));
        let place = |column: usize| computed.iter().position(|c| *c == column).expect("a kept column");
        let column =
            |column: usize| -> Expression { Arc::new(PhysicalColumn::new(output.field(column).name(), place(column))) };
        let all: Vec<Expression> = (0..output.fields().len())
            .map(|i| match shifts.get(i) {
                Some(Some((from, shift))) => {
                    let by = shift.children()[1].clone();
                    shift.clone().with_new_children(vec![column(*from), by]).expect("the same of another column")
                }
                _ => column(i),
            })
            .collect();
        let node = self.aggregate_by(input, kept.iter().map(|i| group[*i]).collect(), calls, schema);
        self.map(node, MapStep::Project(all, output.clone()), output)
    }

    /// Of the columns of a key those that are another one of them moved by a constant, as the end of a window is its start:
    /// which other one, and the call of `mr_shift`.
    fn window_ends(&self, input: usize, group: &[usize]) -> Vec<Option<(usize, Expression)>> {
        let nothing = || vec![None; group.len()];
        let NodeKind::Map(steps) = &self.nodes[input].kind else { return nothing() };
        let mut columns = group.to_vec();
        for step in steps.iter().rev() {
            let computed = match step {
                MapStep::Filter(_) | MapStep::Merge => continue,
                MapStep::Select(from, _) => {
                    columns.iter_mut().for_each(|column| *column = from[*column]);
                    continue;
                }
                MapStep::Project(computed, _) => computed,
            };
            let plain = |e: &Expression| e.downcast_ref::<PhysicalColumn>().map(PhysicalColumn::index);
            // The first that computes something says how they belong together.
            if let Some(plain) = columns.iter().map(|c| plain(&computed[*c])).collect::<Option<Vec<_>>>() {
                columns = plain;
                continue;
            }
            let shift_of = |column: usize| {
                let shift = computed[column].downcast_ref::<ScalarFunctionExpr>()?;
                let is_constant = |e: &Expression| e.downcast_ref::<Literal>().is_some();
                let is_shift = shift.fun().name() == "mr_shift" && is_constant(&shift.args()[1]);
                let from =
                    columns.iter().position(|c| is_shift && computed[*c].as_ref() == shift.args()[0].as_ref())?;
                Some((from, computed[column].clone()))
            };
            let shifts: Vec<Option<(usize, Expression)>> = columns.iter().map(|c| shift_of(*c)).collect();
            // Not from one that is left out itself.
            let from_kept =
                |shift: &Option<(usize, Expression)>| shift.clone().filter(|(from, _)| shifts[*from].is_none());
            return shifts.iter().map(from_kept).collect();
        }
        nothing()
    }

    fn aggregate_by(&mut self, input: usize, group: Vec<usize>, calls: Vec<AggregateCall>, output: SchemaRef) -> usize {
        let is_key = |key: &Vec<usize>| !key.is_empty() && key.iter().all(|column| group.contains(column));
        if calls.is_empty() && keys::of_node(&self.nodes, input, &self.primary_keys).iter().any(is_key) {
            // They are distinct already.
            return self.map(input, MapStep::Select(group, output.clone()), output);
        }
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
            expiry: None,
        };
        self.push(NodeKind::Aggregate(Box::new(spec)), vec![input], output, append_only, Some((0..groups).collect()))
    }
}

/// The function of a call that is kept up to date from small sums, with its parameters.
fn kept_function<'a>(
    call: &'a Expr,
    input: &DFSchema,
) -> Result<Option<(AggregateFunction, &'a AggregateFunctionParams)>> {
    let Expr::AggregateFunction(AggregateExpr { func, params }) = call.unalias_ref() else {
        return Err(in_view("this aggregate expression"));
    };
    if params.args.len() > 1 {
        return Ok(None);
    }
    let argument = params.args.first().map(|a| a.get_type(input)).transpose().map_err(error_from)?;
    // Of exact numbers Postgres' variance is a numeric.
    let float = argument.as_ref().is_some_and(|t| t.is_floating());
    let interval = matches!(argument, Some(DataType::Interval(_)));
    let list = matches!(argument, Some(DataType::List(_)));
    let function = match func.name() {
        "sum" | "avg" if interval => return Ok(None),
        "min" | "max" if interval || list => return Ok(None),
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
        _ => return Ok(None),
    };
    Ok(Some((function, params)))
}
