//! Filters below what is computed. DataFusion's physical optimizer moves a projection that has fewer columns than its input
//! below a filter (`ProjectionPushdown`): then expressions fail for rows that the filter leaves out.
//!
//! ```text
//!   SELECT id, a / b FROM t WHERE id <> 3
//!
//!   Filter: id <> 3                      Projection: id, a / b
//!     Projection: id, a / b       ──►      Filter: id <> 3
//!       t                                    t
//! ```

use std::sync::Arc;

use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::error::Result;
use datafusion::logical_expr::Operator;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::{BinaryExpr, Column};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::filter::{FilterExec, FilterExecBuilder};
use datafusion::physical_plan::projection::{ProjectionExec, ProjectionExpr};

/// Moves a filter below a projection that computes something, if it is of columns that the projection hands on.
#[derive(Debug)]
pub struct FiltersFirst;

impl PhysicalOptimizerRule for FiltersFirst {
    fn name(&self) -> &str {
        "filters_first"
    }
    fn schema_check(&self) -> bool {
        true
    }
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        // From above, for a filter may pass several projections.
        plan.transform_down(|node| match swapped(&node)? {
            Some(swapped) => Ok(Transformed::yes(swapped)),
            None => Ok(Transformed::no(node)),
        })
        .map(|plan| plan.data)
    }
}

/// `upper(s) = s` as `s = upper(s)`. DataFusion lets the first side of a filter's equality stand for both in orders, and then
/// does not know a window's rows, which are sorted by `s`, for partitions by it.
#[derive(Debug)]
pub struct ColumnsFirst;

impl PhysicalOptimizerRule for ColumnsFirst {
    fn name(&self) -> &str {
        "columns_first"
    }
    fn schema_check(&self) -> bool {
        true
    }
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        plan.transform_up(|node| {
            let Some(filter) = node.downcast_ref::<FilterExec>() else { return Ok(Transformed::no(node)) };
            let predicate = filter.predicate().clone().transform_down(column_first)?;
            if !predicate.transformed {
                return Ok(Transformed::no(node));
            }
            let filter = FilterExecBuilder::from(filter).with_predicate(predicate.data).build()?;
            Ok(Transformed::yes(Arc::new(filter) as Arc<dyn ExecutionPlan>))
        })
        .map(|plan| plan.data)
    }
}

fn column_first(expr: Arc<dyn PhysicalExpr>) -> Result<Transformed<Arc<dyn PhysicalExpr>>> {
    Ok(match expr.downcast_ref::<BinaryExpr>() {
        Some(both) if *both.op() == Operator::And => Transformed::no(expr),
        Some(equal)
            if *equal.op() == Operator::Eq && column(equal.left()).is_none() && column(equal.right()).is_some() =>
        {
            let turned = BinaryExpr::new(equal.right().clone(), Operator::Eq, equal.left().clone());
            Transformed::new(Arc::new(turned), true, TreeNodeRecursion::Jump)
        }
        _ => Transformed::new(expr, false, TreeNodeRecursion::Jump),
    })
}

fn column(expr: &Arc<dyn PhysicalExpr>) -> Option<&Column> {
    expr.downcast_ref::<Column>()
}

fn swapped(node: &Arc<dyn ExecutionPlan>) -> Result<Option<Arc<dyn ExecutionPlan>>> {
    let Some(filter) = node.downcast_ref::<FilterExec>() else { return Ok(None) };
    let Some(projection) = filter.input().downcast_ref::<ProjectionExec>() else { return Ok(None) };
    let computed = projection.expr();
    if computed.iter().all(|computed| column(&computed.expr).is_some()) {
        return Ok(None);
    }
    let mut handed_on = true;
    let predicate = filter.predicate().clone().transform_up(|expr| {
        let Some(index) = column(&expr).map(Column::index) else { return Ok(Transformed::no(expr)) };
        match computed.get(index).filter(|computed| column(&computed.expr).is_some()) {
            Some(computed) => Ok(Transformed::yes(computed.expr.clone())),
            None => {
                handed_on = false;
                Ok(Transformed::no(expr))
            }
        }
    })?;
    if !handed_on {
        return Ok(None);
    }
    let shown: Vec<ProjectionExpr> = match filter.projection() {
        Some(columns) => columns.iter().map(|column| computed[*column].clone()).collect(),
        None => computed.to_vec(),
    };
    let below =
        FilterExecBuilder::new(predicate.data, projection.input().clone()).with_fetch(filter.fetch()).build()?;
    Ok(Some(Arc::new(ProjectionExec::try_new(shown, Arc::new(below))?)))
}
