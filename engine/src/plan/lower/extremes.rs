//! A join back to the MIN or MAX of itself: the rows at the extreme are those of rank 1.
//!
//! ```text
//!   SELECT t.* FROM t JOIN (SELECT k, max(v) AS m FROM t GROUP BY k) x ON t.k = x.k AND t.v = x.m
//!   SELECT * FROM t WHERE v = (SELECT max(v) FROM t AS o WHERE o.k = t.k)
//!
//!   =  SELECT * FROM (SELECT *, rank() OVER (PARTITION BY k ORDER BY v DESC) AS r FROM t WHERE k, v are not NULL) WHERE r = 1
//! ```
//!
//! A join would keep the rows twice (by key and value), and all values of each key; this keeps them once.

use arrow::datatypes::{DataType, Field};
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Column, DFSchema, DataFusionError, JoinType, NullEquality};
use datafusion::datasource::source_as_provider;
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::logical_expr::{Aggregate, Expr, Join, LogicalPlan, SortExpr};

use super::{Lowering, UnaliasRef, at_arrival, relaxed};
use crate::catalog::RelationId;
use crate::error::Result;
use crate::operators::map::MapStep;
use crate::operators::top_k::Bound;
use crate::serve::table::RelationTable;

/// Rows of a relation that meet some conditions, and of which of its columns a plan's columns are.
#[derive(PartialEq)]
struct Stretch {
    relation: RelationId,
    /// Over columns named by their places in the relation; in no order.
    conditions: Vec<Expr>,
    columns: Vec<usize>,
}

impl Lowering<'_> {
    /// `None`: the join is of another kind.
    pub(super) fn rows_at_extreme(&mut self, join: &Join) -> Result<Option<usize>> {
        // Rows that meet others as those are when they come do not follow them.
        if at_arrival(join.filter.clone()).0 {
            return Ok(None);
        }
        let Some(extreme) = extreme_of(join) else { return Ok(None) };
        let (left, columns) = (join.left.as_ref(), join.left.schema().columns());
        let column = |place: usize| Expr::Column(columns[place].clone());
        let mut input = self.node(left)?;
        for place in extreme.keys.iter().chain([&extreme.value]) {
            input = self.filter(input, left.schema(), &column(*place).is_not_null())?;
        }
        let keys: Vec<Expr> = extreme.keys.iter().map(|key| column(*key)).collect();
        let order = [SortExpr::new(column(extreme.value), !extreme.is_max, false)];
        let number = Field::new("rank", DataType::UInt64, true);
        let ranked = self.top_k(input, left.schema(), &keys, &order, Bound::Rank(1), Some(number))?;
        let schema = relaxed(&join.schema);
        let both = (0..columns.len()).chain(extreme.right).collect();
        let mut node = self.map(ranked, MapStep::Select(both, schema.clone()), schema);
        for condition in join.filter.iter().flat_map(split_conjunction) {
            node = self.filter(node, &join.schema, condition)?;
        }
        Ok(Some(node))
    }
}

/// Places among the left side's columns.
struct Extreme {
    keys: Vec<usize>,
    value: usize,
    is_max: bool,
    /// What the right side's columns are equal to.
    right: Vec<usize>,
}

fn extreme_of(join: &Join) -> Option<Extreme> {
    let kind = matches!(join.join_type, JoinType::Inner | JoinType::LeftSemi);
    if !kind || join.null_equality != NullEquality::NullEqualsNothing || join.null_aware {
        return None;
    }
    let (aggregate, shown) = aggregate_below(&join.right)?;
    let (argument, is_max) = extreme_call(aggregate)?;
    let of = stretch(&aggregate.input)?;
    let inner = |e: &Expr| match e.unalias_ref() {
        Expr::Column(column) => Some(of.columns[place(aggregate.input.schema(), column)?]),
        _ => None,
    };
    // What each column of the aggregate is of the relation: its keys, then the extreme.
    let mut facts = aggregate.group_expr.iter().map(inner).collect::<Option<Vec<_>>>()?;
    facts.push(inner(argument)?);

    let rows = stretch(&join.left)?;
    // Neither a key nor a value that is NULL is equal to anything, nor does it matter to an extreme.
    let matters = |condition: &&Expr| match condition {
        Expr::IsNotNull(of) => !facts.iter().any(|fact| **of == placed_column(*fact)),
        _ => true,
    };
    let [theirs, own] = [&of, &rows].map(|stretch| stretch.conditions.iter().filter(matters).collect::<Vec<_>>());
    let same = rows.relation == of.relation
        && theirs.len() == own.len()
        && own.iter().all(|condition| theirs.contains(condition));
    if !same || join.on.len() != facts.len() {
        return None;
    }
    // Each column of the aggregate is compared with the same column of the rows.
    let mut compared: Vec<Option<usize>> = vec![None; facts.len()];
    for (left, right) in &join.on {
        let (Expr::Column(left), Expr::Column(right)) = (left, right) else { return None };
        let (left, right) = (place(join.left.schema(), left)?, shown[place(join.right.schema(), right)?]);
        if rows.columns[left] != facts[right] || !is_exact(join.left.schema().field(left).data_type()) {
            return None;
        }
        compared[right] = Some(left);
    }
    let mut keys = compared.into_iter().collect::<Option<Vec<_>>>()?;
    let shown = if join.join_type == JoinType::Inner { shown } else { vec![] };
    let right = shown.iter().map(|column| keys[*column]).collect();
    let value = keys.pop()?;
    Some(Extreme { keys, value, is_max, right })
}

/// Equal values of it are the same one, and in one order everywhere.
fn is_exact(data_type: &DataType) -> bool {
    use DataType::*;
    data_type.is_integer()
        || matches!(data_type, Decimal128(..) | Decimal256(..) | Date32 | Timestamp(..) | Time64(_) | Utf8 | Utf8View)
}

fn place(schema: &DFSchema, column: &Column) -> Option<usize> {
    schema.maybe_index_of_column(column)
}

/// The aggregate below selections of its columns, and which those are. Rows with NULL in one of them may be left out.
fn aggregate_below(plan: &LogicalPlan) -> Option<(&Aggregate, Vec<usize>)> {
    match plan {
        LogicalPlan::SubqueryAlias(alias) => aggregate_below(&alias.input),
        LogicalPlan::Projection(projection) => {
            let (aggregate, below) = aggregate_below(&projection.input)?;
            let columns = projection.expr.iter().map(|e| match e.unalias_ref() {
                Expr::Column(column) => Some(below[place(projection.input.schema(), column)?]),
                _ => None,
            });
            Some((aggregate, columns.collect::<Option<Vec<_>>>()?))
        }
        LogicalPlan::Filter(filter) => {
            let is_some = |e: &&Expr| matches!(e, Expr::IsNotNull(of) if matches!(of.as_ref(), Expr::Column(_)));
            let all = split_conjunction(&filter.predicate).iter().all(is_some);
            aggregate_below(&filter.input).filter(|_| all)
        }
        LogicalPlan::Aggregate(aggregate) => Some((aggregate, (0..aggregate.schema.fields().len()).collect())),
        _ => None,
    }
}

/// The argument of the one call of an aggregate, and whether it is max.
fn extreme_call(aggregate: &Aggregate) -> Option<(&Expr, bool)> {
    let [call] = &aggregate.aggr_expr[..] else { return None };
    let Expr::AggregateFunction(call) = call.unalias_ref() else { return None };
    let ([argument], None, true) = (&call.params.args[..], &call.params.filter, call.params.order_by.is_empty()) else {
        return None;
    };
    match call.func.name() {
        "max" => Some((argument, true)),
        "min" => Some((argument, false)),
        _ => None,
    }
}

fn stretch(plan: &LogicalPlan) -> Option<Stretch> {
    match plan {
        LogicalPlan::SubqueryAlias(alias) => stretch(&alias.input),
        LogicalPlan::Projection(projection) => {
            let below = stretch(&projection.input)?;
            let columns = projection.expr.iter().map(|e| match e.unalias_ref() {
                Expr::Column(column) => Some(below.columns[place(projection.input.schema(), column)?]),
                _ => None,
            });
            Some(Stretch { columns: columns.collect::<Option<Vec<_>>>()?, ..below })
        }
        LogicalPlan::Filter(filter) => {
            let mut below = stretch(&filter.input)?;
            for condition in split_conjunction(&filter.predicate) {
                let of = |column: &Column| Some(below.columns[place(filter.input.schema(), column)?]);
                let condition = placed(condition, &of)?;
                if !below.conditions.contains(&condition) {
                    below.conditions.push(condition);
                }
            }
            Some(below)
        }
        LogicalPlan::TableScan(scan) if scan.fetch.is_none() => {
            let provider = source_as_provider(&scan.source).ok()?;
            let relation = provider.downcast_ref::<RelationTable>()?.relation();
            let schema = relation.arrow_schema();
            let columns = scan.projection.clone().unwrap_or_else(|| (0..schema.fields().len()).collect());
            let mut conditions = Vec::new();
            for condition in scan.filters.iter().flat_map(split_conjunction) {
                let condition = placed(condition, &|column| schema.index_of(&column.name).ok())?;
                if !conditions.contains(&condition) {
                    conditions.push(condition);
                }
            }
            Some(Stretch { relation: relation.id, conditions, columns })
        }
        _ => None,
    }
}

fn placed_column(place: usize) -> Expr {
    Expr::Column(Column::new_unqualified(format!("#{place}")))
}

/// A condition over columns that are named by their places in the relation. `None`: it is of more than that, or not the
/// same each time.
fn placed(condition: &Expr, of: &dyn Fn(&Column) -> Option<usize>) -> Option<Expr> {
    let moves = |e: &Expr| match e {
        Expr::ScalarFunction(call) => {
            call.func.signature().volatility != datafusion::logical_expr::Volatility::Immutable
        }
        Expr::ScalarSubquery(_) | Expr::Exists(_) | Expr::InSubquery(_) | Expr::OuterReferenceColumn(..) => true,
        _ => false,
    };
    if condition.exists(|e| Ok(moves(e))).ok()? {
        return None;
    }
    let rename = |e: Expr| match e {
        Expr::Column(column) => match of(&column) {
            Some(place) => Ok(Transformed::yes(placed_column(place))),
            None => Err(DataFusionError::Internal("a column of elsewhere".into())),
        },
        e => Ok(Transformed::no(e)),
    };
    condition.clone().transform(rename).ok().map(|renamed| renamed.data)
}
