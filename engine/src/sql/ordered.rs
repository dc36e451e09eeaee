//! Rows in an order that stays: DataFusion sorts again, by fewer columns, where what is above needs no more, so that the
//! order among equal rows would be lost. This node asks for the whole order, and does nothing else.
//!
//! ```text
//!   WindowAggr: row_number() OVER (PARTITION BY k ORDER BY b)
//!     Ordered: k, b, a
//! ```

use std::fmt;
use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchemaRef, plan_err};
use datafusion::error::Result;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{Expr, Extension, LogicalPlan, SortExpr, UserDefinedLogicalNodeCore};
use datafusion::optimizer::{ApplyOrder, OptimizerConfig, OptimizerRule};
use datafusion::physical_expr::{
    Distribution, EquivalenceProperties, LexOrdering, OrderingRequirements, Partitioning, PhysicalExpr,
};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::{
    ChildrenPropertiesMode, DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties, ReplaceChildrenOptions,
};

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Hash)]
pub struct Ordered {
    pub expr: Vec<SortExpr>,
    pub input: LogicalPlan,
}

impl Ordered {
    pub fn plan(expr: Vec<SortExpr>, input: LogicalPlan) -> LogicalPlan {
        LogicalPlan::Extension(Extension { node: Arc::new(Ordered { expr, input }) })
    }

    /// The node, where a plan is one.
    pub fn of(plan: &LogicalPlan) -> Option<&Ordered> {
        match plan {
            LogicalPlan::Extension(extension) => extension.node.as_any().downcast_ref(),
            _ => None,
        }
    }
}

/// An order without what it names again: DataFusion drops that half-heartedly, and first_value(x ORDER BY t, t) panics.
pub fn without_repeats(order: Vec<SortExpr>) -> Vec<SortExpr> {
    let mut kept: Vec<SortExpr> = Vec::with_capacity(order.len());
    for by in order {
        let expr = by.expr.clone().unalias();
        if kept.iter().all(|k| k.expr.clone().unalias() != expr) {
            kept.push(by);
        }
    }
    kept
}

/// Does that to the orders of aggregates.
#[derive(Debug)]
pub struct WithoutRepeats;

impl OptimizerRule for WithoutRepeats {
    fn name(&self) -> &str {
        "aggregate_orders_without_repeats"
    }
    fn apply_order(&self) -> Option<ApplyOrder> {
        Some(ApplyOrder::BottomUp)
    }
    fn rewrite(&self, plan: LogicalPlan, _: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        let LogicalPlan::Aggregate(mut aggregate) = plan else { return Ok(Transformed::no(plan)) };
        let mut changed = false;
        for expr in &mut aggregate.aggr_expr {
            let name = expr.schema_name().to_string();
            let shorter = std::mem::take(expr).transform_up(|expr| match expr {
                Expr::AggregateFunction(mut call) => {
                    let before = call.params.order_by.len();
                    call.params.order_by = without_repeats(call.params.order_by);
                    let changed = call.params.order_by.len() < before;
                    let call = Expr::AggregateFunction(call);
                    Ok(if changed { Transformed::yes(call) } else { Transformed::no(call) })
                }
                other => Ok(Transformed::no(other)),
            })?;
            changed |= shorter.transformed;
            // What is above knows the result by its name.
            *expr = if shorter.transformed { shorter.data.unalias().alias(name) } else { shorter.data };
        }
        let plan = LogicalPlan::Aggregate(aggregate);
        Ok(if changed { Transformed::yes(plan) } else { Transformed::no(plan) })
    }
}

impl UserDefinedLogicalNodeCore for Ordered {
    fn name(&self) -> &str {
        "Ordered"
    }
    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.input]
    }
    fn schema(&self) -> &DFSchemaRef {
        self.input.schema()
    }
    fn expressions(&self) -> Vec<Expr> {
        self.expr.iter().map(|sort| sort.expr.clone()).collect()
    }
    fn fmt_for_explain(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let order: Vec<String> = self.expr.iter().map(ToString::to_string).collect();
        write!(f, "Ordered: {}", order.join(", "))
    }
    fn with_exprs_and_inputs(&self, exprs: Vec<Expr>, mut inputs: Vec<LogicalPlan>) -> Result<Self> {
        let Some(input) = inputs.pop() else { return plan_err!("an order of nothing") };
        let expr = self.expr.iter().zip(exprs).map(|(sort, expr)| SortExpr { expr, ..sort.clone() });
        Ok(Ordered { expr: expr.collect(), input })
    }
}

/// The same for DataFusion's executor.
#[derive(Debug)]
pub struct OrderedExec {
    input: Arc<dyn ExecutionPlan>,
    order: LexOrdering,
    properties: Arc<PlanProperties>,
}

impl OrderedExec {
    pub fn new(input: Arc<dyn ExecutionPlan>, order: LexOrdering) -> Self {
        let properties = PlanProperties::new(
            EquivalenceProperties::new_with_orderings(input.schema(), [order.clone()]),
            Partitioning::UnknownPartitioning(1),
            EmissionType::Incremental,
            Boundedness::Bounded,
        );
        OrderedExec { input, order, properties: Arc::new(properties) }
    }
}

impl DisplayAs for OrderedExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "OrderedExec: {}", self.order)
    }
}

impl ExecutionPlan for OrderedExec {
    fn name(&self) -> &str {
        "OrderedExec"
    }
    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }
    fn required_input_distribution(&self) -> Vec<Distribution> {
        vec![Distribution::SinglePartition]
    }
    fn required_input_ordering(&self) -> Vec<Option<OrderingRequirements>> {
        vec![Some(self.order.clone().into())]
    }
    fn maintains_input_order(&self) -> Vec<bool> {
        vec![true]
    }
    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }
    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }
    fn replace_children(
        self: Arc<Self>,
        mut children: Vec<Arc<dyn ExecutionPlan>>,
        _: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let Some(input) = children.pop() else { return plan_err!("an order of nothing") };
        Ok(Arc::new(OrderedExec::new(input, self.order.clone())))
    }
    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        self.replace_children(children, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))
    }
    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        self.input.execute(partition, context)
    }
}
