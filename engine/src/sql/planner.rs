//! DataFusion's physical planner, which knows our own plan nodes too.

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::catalog::Session;
use datafusion::common::DFSchema;
use datafusion::error::Result;
use datafusion::execution::context::QueryPlanner;
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::logical_expr::{Expr, LogicalPlan, UserDefinedLogicalNode};
use datafusion::physical_expr::{LexOrdering, PhysicalExpr, PhysicalSortExpr};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_planner::{DefaultPhysicalPlanner, ExtensionPlanner, PhysicalPlanner};

use crate::sql::as_of::AsOf;
use crate::sql::as_of::batch::AsOfExec;
use crate::sql::ordered::{Ordered, OrderedExec};

#[derive(Debug)]
pub struct Planner;

#[async_trait]
impl QueryPlanner for Planner {
    async fn create_physical_plan(&self, plan: &LogicalPlan, session: &dyn Session) -> Result<Arc<dyn ExecutionPlan>> {
        let planner = DefaultPhysicalPlanner::with_extension_planners(vec![Arc::new(Planner)]);
        planner.create_physical_plan(plan, session).await
    }
}

#[async_trait]
impl ExtensionPlanner for Planner {
    async fn plan_extension(
        &self,
        planner: &dyn PhysicalPlanner,
        node: &dyn UserDefinedLogicalNode,
        _: &[&LogicalPlan],
        inputs: &[Arc<dyn ExecutionPlan>],
        session: &dyn Session,
        context: &PhysicalPlanningContext,
    ) -> Result<Option<Arc<dyn ExecutionPlan>>> {
        let compile = |expr: &Expr, schema: &DFSchema| planner.create_physical_expr(expr, schema, session, context);
        if let Some(ordered) = node.as_any().downcast_ref::<Ordered>() {
            let order = ordered.expr.iter().map(|sort| {
                let options = arrow::compute::SortOptions::new(!sort.asc, sort.nulls_first);
                Ok(PhysicalSortExpr::new(compile(&sort.expr, ordered.input.schema())?, options))
            });
            let input = inputs[0].clone();
            return Ok(Some(match LexOrdering::new(order.collect::<Result<Vec<_>>>()?) {
                Some(order) => Arc::new(OrderedExec::new(input, order)),
                None => input,
            }));
        }
        let Some(node) = node.as_any().downcast_ref::<AsOf>() else { return Ok(None) };
        let sides = node.sides()?;
        let compile = |exprs: Vec<&Expr>, schema: &DFSchema| -> Result<Vec<Arc<dyn PhysicalExpr>>> {
            exprs.into_iter().map(|e| compile(e, schema)).collect()
        };
        let left = sides.keys.iter().map(|(l, _)| *l).chain([sides.order.0]).collect();
        let right = sides.keys.iter().map(|(_, r)| *r).chain([sides.order.1]).collect();
        let by = [compile(left, node.left.schema())?, compile(right, node.right.schema())?];
        let schema = Arc::new(node.join_schema().as_arrow().clone());
        let exec = AsOfExec::new([inputs[0].clone(), inputs[1].clone()], by, sides.nearest, node.outer, schema);
        Ok(Some(Arc::new(exec)))
    }
}
