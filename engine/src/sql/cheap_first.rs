//! Conditions that take long are asked only of the rows of which quick ones leave it open.
//!
//! ```text
//!   Filter regexp_like(url, '…') OR channel = 'apple'
//!     ─►  Filter CASE WHEN channel = 'apple' THEN true ELSE regexp_like(url, '…') END
//! ```
//! An OR computes both its sides of all rows. In a condition NULL is as good as false, so what the quick ones say NULL of is
//! what the others say. Only comparisons that cannot fail change places: one that can may stand behind what shields it.
//! It is done last, since the optimizer would make an OR of it again, and for views and queries alike: which rows an
//! expression is computed of shows when it fails.

use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::error::Result;
use datafusion::logical_expr::utils::{conjunction, disjunction, split_binary, split_conjunction};
use datafusion::logical_expr::{Case, Expr, Filter, LogicalPlan, Operator, lit};

use crate::sql::functions::declared;

pub fn cheap_first(plan: LogicalPlan) -> Result<LogicalPlan> {
    let in_plan = |plan: LogicalPlan| match plan {
        LogicalPlan::Filter(filter) => {
            let parts = split_conjunction(&filter.predicate);
            let changed: Vec<Option<Expr>> = parts.iter().map(|part| quick_first(part)).collect();
            if changed.iter().all(Option::is_none) {
                return Ok(Transformed::no(LogicalPlan::Filter(filter)));
            }
            let parts = changed.into_iter().zip(parts).map(|(changed, part)| changed.unwrap_or_else(|| part.clone()));
            let all = conjunction(parts).expect("of at least one part");
            Ok(Transformed::yes(LogicalPlan::Filter(Filter::try_new(all, filter.input)?)))
        }
        other => Ok(Transformed::no(other)),
    };
    plan.transform_up_with_subqueries(in_plan).map(|done| done.data)
}

/// An OR of quick and slow conditions as a CASE.
fn quick_first(condition: &Expr) -> Option<Expr> {
    let parts = split_binary(condition, Operator::Or).into_iter().cloned();
    let (quick, others): (Vec<Expr>, Vec<Expr>) = parts.partition(is_quick);
    if !others.iter().any(is_slow) {
        return None;
    }
    let when = vec![(Box::new(disjunction(quick)?), Box::new(lit(true)))];
    Some(Expr::Case(Case::new(None, when, Some(Box::new(disjunction(others)?)))))
}

/// Takes no time to speak of, and cannot fail.
fn is_quick(expr: &Expr) -> bool {
    let mut quick = true;
    let look = expr.apply(|e| {
        quick &= match e {
            Expr::BinaryExpr(binary) => {
                use Operator::*;
                matches!(binary.op, And | Or | Eq | NotEq | Lt | LtEq | Gt | GtEq | IsDistinctFrom | IsNotDistinctFrom)
            }
            Expr::ScalarFunction(call) => matches!(call.name(), "lower" | "upper"),
            Expr::Column(_) | Expr::Literal(..) | Expr::InList(_) | Expr::Not(_) => true,
            Expr::IsNull(_) | Expr::IsNotNull(_) => true,
            _ => false,
        };
        Ok(if quick { TreeNodeRecursion::Continue } else { TreeNodeRecursion::Stop })
    });
    look.is_ok() && quick
}

fn is_slow(expr: &Expr) -> bool {
    let is_slow = |expr: &Expr| match expr {
        Expr::ScalarFunction(call) => declared::is_slow(call.name()),
        _ => false,
    };
    expr.exists(|expr| Ok(is_slow(expr))).unwrap_or(false)
}
