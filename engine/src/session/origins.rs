//! Which column of which table a result's column is: clients ask, to write back what a user has edited.
//!
//! ```text
//!   SELECT o.id, upper(c.name), c.city FROM orders o JOIN customers c …      orders.id, –, customers.city
//! ```
//!
//! As in Postgres it is found through subqueries, joins and groups. Columns of views are no table's.

use std::sync::Arc;

use arrow::datatypes::{Field, Schema, SchemaRef};
use datafusion::datasource::source_as_provider;
use datafusion::logical_expr::{Distinct, Expr, JoinType, LogicalPlan};

use crate::catalog::RelationId;
use crate::serve::table::RelationTable;

/// In the metadata of a result's field: `16390.2`, the relation and the column, counted from 1.
const ORIGIN_KEY: &str = "millrace.origin";

/// A relation, and the place of one of its columns, from 0.
pub type Origin = (RelationId, usize);

/// The relation of a result's column, and the column's number there, from 1.
pub fn origin_of(field: &Field) -> Option<(u32, i16)> {
    let (relation, column) = field.metadata().get(ORIGIN_KEY)?.split_once('.')?;
    Some((relation.parse().ok()?, column.parse().ok()?))
}

pub(super) fn origins(plan: &LogicalPlan) -> Vec<Option<Origin>> {
    (0..plan.schema().fields().len()).map(|column| find(plan, column)).collect()
}

pub(super) fn with_origins(schema: SchemaRef, origins: &[Option<Origin>]) -> SchemaRef {
    if origins.len() != schema.fields().len() || origins.iter().all(Option::is_none) {
        return schema;
    }
    let marked = schema.fields().iter().zip(origins).map(|(field, origin)| {
        let mut field = field.as_ref().clone();
        if let Some((relation, column)) = origin {
            let mut metadata = field.metadata().clone();
            metadata.insert(ORIGIN_KEY.into(), format!("{relation}.{}", column + 1));
            field.set_metadata(metadata);
        }
        field
    });
    Arc::new(Schema::new(marked.collect::<Vec<_>>()))
}

fn find(plan: &LogicalPlan, column: usize) -> Option<Origin> {
    let named = |input: &LogicalPlan, expr: &Expr| {
        let mut expr = expr;
        while let Expr::Alias(alias) = expr {
            expr = &alias.expr;
        }
        let Expr::Column(name) = expr else { return None };
        find(input, input.schema().maybe_index_of_column(name)?)
    };
    match plan {
        LogicalPlan::TableScan(scan) => {
            let provider = source_as_provider(&scan.source).ok()?;
            let table = provider.downcast_ref::<RelationTable>()?;
            let column = scan.projection.as_ref().map_or(Some(column), |kept| kept.get(column).copied())?;
            // What is behind them is not to be seen.
            (column < table.relation().columns.len()).then_some((table.relation().id, column))
        }
        LogicalPlan::Projection(projection) => named(&projection.input, projection.expr.get(column)?),
        LogicalPlan::Aggregate(aggregate) => named(&aggregate.input, aggregate.group_expr.get(column)?),
        LogicalPlan::Join(join) => {
            let left = join.left.schema().fields().len();
            match join.join_type {
                JoinType::RightSemi | JoinType::RightAnti | JoinType::RightMark => find(&join.right, column),
                JoinType::LeftSemi | JoinType::LeftAnti | JoinType::LeftMark if column >= left => None,
                _ if column < left => find(&join.left, column),
                _ => find(&join.right, column - left),
            }
        }
        LogicalPlan::Window(window) if column >= window.input.schema().fields().len() => None,
        LogicalPlan::Window(_)
        | LogicalPlan::SubqueryAlias(_)
        | LogicalPlan::Filter(_)
        | LogicalPlan::Sort(_)
        | LogicalPlan::Limit(_)
        | LogicalPlan::Distinct(Distinct::All(_)) => find(plan.inputs().first()?, column),
        _ => None,
    }
}
