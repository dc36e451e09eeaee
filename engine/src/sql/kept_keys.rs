//! Join keys that DataFusion's rules for joins would lose, or take for others.
//!
//! `eliminate_cross_join` takes chains of inner joins apart and puts them together anew. Of a join that has keys already, those
//! are lost of which one side names columns of several tables: no two tables have such a key between them.
//!
//! ```text
//!   a × b JOIN c ON f(a.x, b.y) = c.key     b × (a JOIN c)
//! ```
//!
//! As conditions they stay, and become keys again afterwards.
//!
//! A join by `IS NOT DISTINCT FROM` says of all its keys that NULLs are equal. It neither shares a chain with joins by `=`
//! nor gets their keys: a projection of all columns keeps it apart.

use std::sync::Arc;

use datafusion::common::NullEquality;
use datafusion::common::tree_node::Transformed;
use datafusion::error::Result;
use datafusion::logical_expr::utils::conjunction;
use datafusion::logical_expr::{Expr, Filter, Join, JoinType, LogicalPlan, Operator, Projection, binary_expr};
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
            LogicalPlan::Join(join) if join.join_type == JoinType::Inner => {
                let equality = join.null_equality;
                let join = Join { left: apart(join.left, equality), right: apart(join.right, equality), ..join };
                Ok(with_conditions(join))
            }
            LogicalPlan::Filter(filter) => {
                let input = apart(filter.input, NullEquality::NullEqualsNothing);
                Ok(Transformed::no(LogicalPlan::Filter(Filter::try_new(filter.predicate, input)?)))
            }
            other => Ok(Transformed::no(other)),
        })?;
        let changed = kept.transformed;
        let mut rewritten = self.0.rewrite(kept.data, config)?;
        rewritten.transformed |= changed;
        Ok(rewritten)
    }
}

/// DataFusion's rule that makes keys of conditions, but none by `=` of a join by `IS NOT DISTINCT FROM`.
#[derive(Debug)]
pub struct KeysOfOneKind(pub Arc<dyn OptimizerRule + Send + Sync>);

impl OptimizerRule for KeysOfOneKind {
    fn name(&self) -> &str {
        self.0.name()
    }
    fn apply_order(&self) -> Option<ApplyOrder> {
        self.0.apply_order()
    }
    fn rewrite(&self, plan: LogicalPlan, config: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        match &plan {
            LogicalPlan::Join(join) if takes_nulls(join) && !join.on.is_empty() => Ok(Transformed::no(plan)),
            _ => self.0.rewrite(plan, config),
        }
    }
}

fn takes_nulls(join: &Join) -> bool {
    join.null_equality == NullEquality::NullEqualsNull
}

/// An inner join whose NULLs are equal where they are not around it, or the other way round, behind a projection of all columns.
fn apart(plan: Arc<LogicalPlan>, equality: NullEquality) -> Arc<LogicalPlan> {
    match plan.as_ref() {
        LogicalPlan::Join(join) if join.join_type == JoinType::Inner && join.null_equality != equality => {
            let schema = plan.schema().clone();
            Arc::new(LogicalPlan::Projection(Projection::new_from_schema(plan, schema)))
        }
        _ => plan,
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
