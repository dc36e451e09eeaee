//! What becomes a top-k: ORDER BY … LIMIT, DISTINCT ON, and row_number(), rank() or dense_rank() up to a number.

use std::sync::Arc;

use arrow::compute::SortOptions;
use arrow::datatypes::{Field, Schema, SchemaRef};
use datafusion::common::{Column, DFSchema, ScalarValue};
use datafusion::logical_expr::expr::Sort as SortExpr;
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::logical_expr::{
    Aggregate, BinaryExpr, Expr, FetchType, Filter, Limit, LogicalPlan, Operator, SkipType,
};

use super::{Lowering, UnaliasRef, in_view, relax, relaxed};
use crate::error::Result;
use crate::operators::map::MapStep;
use crate::operators::top_k::{Bound, TopKSpec};
use crate::plan::NodeKind;
use crate::plan::order::window_function;
use crate::sql::bind::error_from;
use crate::sql::ordered::Ordered;

impl Lowering<'_> {
    pub(super) fn limit(&mut self, limit: &Limit) -> Result<usize> {
        let not_a_number = || in_view("LIMIT or OFFSET of something else than a number");
        let SkipType::Literal(skip) = limit.get_skip_type().map_err(error_from)? else { return Err(not_a_number()) };
        let FetchType::Literal(fetch) = limit.get_fetch_type().map_err(error_from)? else { return Err(not_a_number()) };
        let bound = Bound::Rows { skip: skip as u64, fetch: fetch.map(|fetch| fetch as u64) };
        self.first_rows(&limit.input, bound)
    }

    /// The first rows of a plan, in the order of the sort that it is over.
    fn first_rows(&mut self, plan: &LogicalPlan, bound: Bound) -> Result<usize> {
        match plan {
            LogicalPlan::SubqueryAlias(alias) => self.first_rows(&alias.input, bound),
            LogicalPlan::Projection(projection) if crate::plan::order::has_sort(plan) => {
                let input = self.first_rows(&projection.input, bound)?;
                self.project(input, projection.input.schema(), &projection.expr, relaxed(&projection.schema))
            }
            LogicalPlan::Sort(sort) if sort.fetch.is_none() => {
                let input = self.node(&sort.input)?;
                self.top_k(input, sort.input.schema(), &[], &sort.expr, bound, None)
            }
            other => {
                let input = self.node(other)?;
                self.top_k(input, other.schema(), &[], &[], bound, None)
            }
        }
    }

    /// `number`: the field of the number that the bound gives, behind the input's columns.
    pub(super) fn top_k(
        &mut self,
        input: usize,
        schema: &DFSchema,
        partition: &[Expr],
        order: &[SortExpr],
        bound: Bound,
        number: Option<Field>,
    ) -> Result<usize> {
        let own = self.nodes[input].schema.clone();
        let exprs: Vec<&Expr> = partition.iter().chain(order.iter().map(|sort| &sort.expr)).collect();
        let (input, columns) = self.key_columns(input, schema, &exprs)?;
        let (partition, ordered) = columns.split_at(partition.len());
        let input = self.exchange(input, partition.to_vec());
        let options = |sort: &SortExpr| SortOptions { descending: !sort.asc, nulls_first: sort.nulls_first };
        let mut order_columns: Vec<(usize, SortOptions)> = Vec::new();
        for (&column, sort) in ordered.iter().zip(order) {
            // What stands in the order already, or is one value in each partition, decides nothing.
            if !partition.contains(&column) && order_columns.iter().all(|(known, _)| *known != column) {
                order_columns.push((column, options(sort)));
            }
        }
        let width = own.fields().len();
        // Peers are those that are equal in all of it.
        if !bound.has_peers()
            && let Some(length) = (0..=order_columns.len()).find(|&n| closes(&order_columns, n, width))
        {
            order_columns.truncate(length);
        }
        let input_schema = self.nodes[input].schema.clone();
        let append_only = self.nodes[input].append_only;
        let output: SchemaRef = match &number {
            None => input_schema.clone(),
            Some(number) => {
                let fields = input_schema.fields().iter().map(|f| f.as_ref().clone()).chain([number.clone()]);
                Arc::new(Schema::new(fields.collect::<Vec<_>>()))
            }
        };
        let spec = TopKSpec {
            partition: partition.to_vec(),
            order: order_columns,
            bound,
            input: input_schema.clone(),
            output: output.clone(),
            append_only,
            expiry: None,
        };
        let node =
            self.push(NodeKind::TopK(Box::new(spec)), vec![input], output.clone(), false, Some(partition.to_vec()));
        if input_schema.fields().len() == own.fields().len() {
            return Ok(node);
        }
        // Without the columns that were only computed for the order.
        let mut kept: Vec<usize> = (0..own.fields().len()).collect();
        kept.extend(number.is_some().then_some(input_schema.fields().len()));
        let schema = Arc::new(output.project(&kept).expect("columns of the output"));
        Ok(self.map(node, MapStep::Select(kept, schema.clone()), schema))
    }

    /// `row_number() OVER (PARTITION BY … ORDER BY …) <= n`, and the like: only the rows up to n are kept.
    pub(super) fn numbered_rows(&mut self, filter: &Filter) -> Result<Option<usize>> {
        // Columns that nobody reads may have been left out in between.
        let (selection, below) = match filter.input.as_ref() {
            LogicalPlan::Projection(projection) if projection.expr.iter().all(|e| matches!(e, Expr::Column(_))) => {
                (Some(projection), projection.input.as_ref())
            }
            other => (None, other),
        };
        let LogicalPlan::Window(window) = below else { return Ok(None) };
        let [expr] = &window.window_expr[..] else { return Ok(None) };
        let Some(function) = window_function(expr) else { return Ok(None) };
        let schema = &window.schema;
        let last = schema.fields().len() - 1;
        let (qualifier, field) = schema.qualified_field(last);
        let mut number = Column::new(qualifier.cloned(), field.name());
        if let Some(selection) = selection {
            let shown = selection.expr.iter().position(|e| matches!(e, Expr::Column(column) if *column == number));
            let Some(shown) = shown else { return Ok(None) };
            number = selection.schema.columns().swap_remove(shown);
        }
        let bounds = split_conjunction(&filter.predicate);
        let Some(bound) = bounds.into_iter().filter_map(|e| upper_bound(e, &number)).min() else { return Ok(None) };
        let bound = match function.fun.name() {
            "row_number" => Bound::RowNumber(bound),
            "rank" => Bound::Rank(bound),
            "dense_rank" => Bound::DenseRank(bound),
            _ => return Ok(None),
        };
        // Rows come ordered to a window; what orders them beyond its own order is the whole row.
        let Some(sort) = Ordered::of(&window.input) else { return Ok(None) };
        let input = self.node(&sort.input)?;
        let params = &function.params;
        let field = relax(&Schema::new(vec![field.as_ref().clone()])).field(0).clone();
        let node =
            self.top_k(input, sort.input.schema(), &params.partition_by, &params.order_by, bound, Some(field))?;
        let node = match selection {
            Some(selection) => self.project(node, schema, &selection.expr, relaxed(&selection.schema))?,
            None => node,
        };
        let condition = self.expression(&filter.predicate, filter.input.schema())?;
        let schema = self.nodes[node].schema.clone();
        Ok(Some(self.map(node, MapStep::Filter(condition), schema)))
    }

    /// DISTINCT ON as the optimizer writes it: the first value of each column in one order, per group.
    pub(super) fn first_of_each(&mut self, aggregate: &Aggregate) -> Result<Option<usize>> {
        let mut arguments = Vec::new();
        let mut order: Option<&Vec<SortExpr>> = None;
        for expr in &aggregate.aggr_expr {
            let Expr::AggregateFunction(call) = expr.unalias_ref() else { return Ok(None) };
            let params = &call.params;
            let [argument] = &params.args[..] else { return Ok(None) };
            let plain = !params.distinct && params.filter.is_none() && params.null_treatment.is_none();
            if call.func.name() != "first_value" || !plain || order.is_some_and(|order| *order != params.order_by) {
                return Ok(None);
            }
            order = Some(&params.order_by);
            arguments.push(argument);
        }
        let Some(order) = order else { return Ok(None) };
        if aggregate.group_expr.is_empty() || aggregate.group_expr.iter().any(|e| matches!(e, Expr::GroupingSet(_))) {
            return Ok(None);
        }
        let input_schema = aggregate.input.schema();
        let input = self.node(&aggregate.input)?;
        let bound = Bound::Rows { skip: 0, fetch: Some(1) };
        let group: Vec<Expr> = aggregate.group_expr.iter().map(|e| e.unalias_ref().clone()).collect();
        let node = self.top_k(input, input_schema, &group, order, bound, None)?;
        let exprs: Vec<Expr> = group.into_iter().chain(arguments.into_iter().cloned()).collect();
        self.project(node, input_schema, &exprs, relaxed(&aggregate.schema)).map(Some)
    }
}

/// Whether what comes after the first `n` columns of an order is the rest of a row of `width` columns, as it comes after
/// any order.
fn closes(order: &[(usize, SortOptions)], n: usize, width: usize) -> bool {
    let options = SortOptions { descending: false, nulls_first: true };
    let (first, rest) = order.split_at(n);
    (0..width).filter(|c| first.iter().all(|(known, _)| known != c)).eq(rest.iter().map(|(c, _)| *c))
        && rest.iter().all(|(_, o)| *o == options)
}

/// The number that `expr` bounds the column by, from above.
fn upper_bound(expr: &Expr, column: &Column) -> Option<u64> {
    let Expr::BinaryExpr(BinaryExpr { left, op, right }) = expr else { return None };
    // To another type of integers, at most.
    let is_number = |e: &Expr| match e {
        Expr::Cast(cast) => matches!(cast.expr.as_ref(), Expr::Column(c) if c == column),
        e => matches!(e, Expr::Column(c) if c == column),
    };
    let (op, value) = match (left.as_ref(), right.as_ref()) {
        (e, Expr::Literal(value, _)) if is_number(e) => (*op, value),
        (Expr::Literal(value, _), e) if is_number(e) => (op.swap()?, value),
        _ => return None,
    };
    let value: i128 = match value {
        ScalarValue::UInt64(Some(v)) => i128::from(*v),
        ScalarValue::Int64(Some(v)) => i128::from(*v),
        ScalarValue::Int32(Some(v)) => i128::from(*v),
        ScalarValue::Int16(Some(v)) => i128::from(*v),
        ScalarValue::Decimal128(Some(v), _, 0) => *v,
        _ => return None,
    };
    let bound = match op {
        Operator::LtEq | Operator::Eq => value,
        Operator::Lt => value - 1,
        _ => return None,
    };
    // A list far too long to be kept in order is better filtered.
    u64::try_from(bound.max(0)).ok().filter(|bound| *bound <= i64::MAX as u64)
}
