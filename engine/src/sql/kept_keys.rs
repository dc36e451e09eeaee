//! Join keys that DataFusion's rule for cross joins would lose.
//!
//! `eliminate_cross_join` takes chains of inner joins apart and puts them together anew. Of a join that has keys already, those
//! are lost of which one side names columns of several tables: no two tables have such a key between them.
//!
//! ```text
//!   a × b JOIN c ON f(a.x, b.y) = c.key     b × (a JOIN c)
//! ```
//!
//! As conditions they stay, and become keys again afterwards.

use std::sync::Arc;

use datafusion::common::NullEquality;
use datafusion::common::tree_node::Transformed;
use datafusion::error::Result;
use datafusion::logical_expr::utils::conjunction;
use datafusion::logical_expr::{Expr, Join, JoinType, LogicalPlan, Operator, binary_expr};
use datafusion::optimizer::{ApplyOrder, OptimizerConfig, OptimizerRule};

/// That rule, after such keys have become conditions.
#[derive(Debug)]
pub struct KeptKeys(pub Arc<dyn OptimizerRule + Send + Sync>);

impl OptimizerRule for KeptKeys {
    fn name(&self) -> &str {
        self.0.name()
    }
    fn apply_order(&self) -> Option<ApplyOrder> {
        self.0.apply_order()
    }
    fn rewrite(&self, plan: LogicalPlan, config: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        let kept = plan.transform_up_with_subqueries(|plan| match plan {
            LogicalPlan::Join(join) if join.join_type == JoinType::Inner => Ok(with_conditions(join)),
            other => Ok(Transformed::no(other)),
        })?;
        let changed = kept.transformed;
        let mut rewritten = self.0.rewrite(kept.data, config)?;
        rewritten.transformed |= changed;
        Ok(rewritten)
    }
}

fn with_conditions(join: Join) -> Transformed<LogicalPlan> {
    let (mut left, mut right) = (Vec::new(), Vec::new());
    flattened(&join.left, &mut left);
    flattened(&join.right, &mut right);
    let kept: Vec<bool> = join.on.iter().map(|(l, r)| of_one(l, &left) && of_one(r, &right)).collect();
    if kept.iter().all(|kept| *kept) {
        return Transformed::no(LogicalPlan::Join(join));
    }
    let equal = match join.null_equality {
        NullEquality::NullEqualsNothing => Operator::Eq,
        NullEquality::NullEqualsNull => Operator::IsNotDistinctFrom,
    };
    let (mut on, mut conditions) = (Vec::new(), Vec::from_iter(join.filter.clone()));
    for ((l, r), kept) in join.on.iter().cloned().zip(kept) {
        match kept {
            true => on.push((l, r)),
            false => conditions.push(binary_expr(l, equal, r)),
        }
    }
    Transformed::yes(LogicalPlan::Join(Join { on, filter: conjunction(conditions), ..join }))
}

/// What a chain of inner joins joins.
fn flattened<'a>(plan: &'a LogicalPlan, inputs: &mut Vec<&'a LogicalPlan>) {
    match plan {
        LogicalPlan::Join(join) if join.join_type == JoinType::Inner => {
            flattened(&join.left, inputs);
            flattened(&join.right, inputs);
        }
        other => inputs.push(other),
    }
}

/// Whether an expression is one of a single input's columns.
fn of_one(expr: &Expr, inputs: &[&LogicalPlan]) -> bool {
    let columns = expr.column_refs();
    !columns.is_empty() && inputs.iter().any(|input| columns.iter().all(|column| input.schema().has_column(column)))
}
