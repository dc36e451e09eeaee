//! Sorts that DataFusion's physical optimizer takes for superfluous and that are not.
//!
//! Below a join it knows that a column is constant (`SELECT 1 AS one FROM t`), and leaves it out of an order that it pushes
//! down there, or leaves out the whole order; above the join it knows nothing of it any more, and refuses its own plan as
//! one that is not in order.

use std::sync::Arc;

use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::error::Result;
use datafusion::physical_expr::{LexOrdering, PhysicalSortExpr};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::sorts::sort::SortExec;
use datafusion::physical_plan::{
    ChildrenPropertiesMode, ExecutionPlan, ExecutionPlanProperties, ReplaceChildrenOptions,
};

/// Puts a sort where a node wants an order that its input is not known to have. It comes last before the plan is checked.
#[derive(Debug)]
pub struct MissingSorts;

impl PhysicalOptimizerRule for MissingSorts {
    fn name(&self) -> &str {
        "missing_sorts"
    }
    fn schema_check(&self) -> bool {
        true
    }
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        plan.transform_up(|node| {
            let wanted = node.required_input_ordering();
            let mut changed = false;
            let mut inputs = Vec::new();
            for (input, wanted) in node.children().into_iter().zip(wanted) {
                let wanted = wanted.map(|wanted| wanted.into_single());
                let sorted = match wanted {
                    Some(wanted) if !input.equivalence_properties().ordering_satisfy_requirement(wanted.clone())? => {
                        LexOrdering::new(wanted.into_iter().map(PhysicalSortExpr::from))
                    }
                    _ => None,
                };
                inputs.push(match sorted {
                    Some(order) => {
                        changed = true;
                        let several = input.output_partitioning().partition_count() > 1;
                        let sort = SortExec::new(order, input.clone()).with_preserve_partitioning(several);
                        Arc::new(sort) as Arc<dyn ExecutionPlan>
                    }
                    None => input.clone(),
                });
            }
            if !changed {
                return Ok(Transformed::no(node));
            }
            let options = ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute);
            Ok(Transformed::yes(node.replace_children(inputs, options)?))
        })
        .map(|plan| plan.data)
    }
}
