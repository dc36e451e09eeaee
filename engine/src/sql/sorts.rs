//! Sorts that DataFusion's physical optimizer takes for superfluous and that are not.
//!
//! Below a join it knows that a column is constant (`SELECT 1 AS one FROM t`), and leaves it out of an order that it pushes
//! down there, or leaves out the whole order; above the join it knows nothing of it any more, and refuses its own plan as
//! one that is not in order. Of an order by what compares a function's value (`abs(x) > 1`) it never knows that rows have it,
//! not even of those that have just been sorted: the check of the plan is done here as well.

use std::sync::Arc;

use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::error::Result;
use datafusion::physical_expr::{LexOrdering, LexRequirement, PhysicalSortExpr};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_optimizer::sanity_checker::{check_finiteness_requirements, check_plan_sanity};
use datafusion::physical_plan::execution_plan::InvariantLevel;
use datafusion::physical_plan::sorts::sort::SortExec;
use datafusion::physical_plan::{
    ChildSatisfactionOptions, ChildrenPropertiesMode, ExecutionPlan, ExecutionPlanProperties, ReplaceChildrenOptions,
};

/// The name of DataFusion's check, which is the last rule.
pub const SANITY_CHECK: &str = "SanityCheckPlan";

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
                    Some(wanted) if !in_order(input, &wanted)? => {
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

/// Whether an input is known to have an order, from what it is said to have or from what it is sorted by.
fn in_order(input: &Arc<dyn ExecutionPlan>, wanted: &LexRequirement) -> Result<bool> {
    if input.equivalence_properties().ordering_satisfy_requirement(wanted.clone())? {
        return Ok(true);
    }
    let Some(order) = input.output_ordering() else { return Ok(false) };
    let mut order = order.iter();
    Ok(wanted.iter().all(|wanted| {
        order.next().is_some_and(|by| by.expr.eq(&wanted.expr) && wanted.options.is_none_or(|o| o == by.options))
    }))
}

/// DataFusion's check of a physical plan, which knows more of orders.
#[derive(Debug)]
pub struct PlanCheck;

impl PhysicalOptimizerRule for PlanCheck {
    fn name(&self) -> &str {
        SANITY_CHECK
    }
    fn schema_check(&self) -> bool {
        true
    }
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, config: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        plan.apply(|node| {
            let distributions = node.input_distribution_requirements();
            let wanted = node.required_input_ordering();
            let mut sane = true;
            for (i, (input, wanted)) in node.children().into_iter().zip(wanted).enumerate() {
                let options = ChildSatisfactionOptions::new().with_allow_subset(true);
                sane &= distributions.child_satisfaction(i, input.as_ref(), options)?.is_satisfied();
                if let Some(wanted) = wanted {
                    sane &= in_order(input, &wanted.into_single())?;
                }
            }
            if !sane {
                // It says in what way.
                check_plan_sanity(node, &config.optimizer)?;
            }
            check_finiteness_requirements(node.as_ref(), &config.optimizer)?;
            node.check_invariants(InvariantLevel::Executable)?;
            Ok(TreeNodeRecursion::Continue)
        })?;
        Ok(plan)
    }
}
