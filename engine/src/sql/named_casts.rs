//! Casts that have a name of their own. DataFusion names a column after its expression without the casts, so
//! `min(x)` and `min(x::text)` of one SELECT, or `GROUP BY x, x::date`, have one name, which it refuses.
//!
//! Where names collide, each cast of the query is put in a call of [`NamedCast`] before names are bound; afterwards the
//! calls are taken out again, and the names stay.
//!
//! ```text
//!   min(x), min(x::text)      min(x), min(mr_named_cast(x::text, 'text'))      min(x), min(x::text) AS "min(mr_named_cast(…"
//! ```

use std::collections::HashSet;
use std::ops::ControlFlow;

use arrow::datatypes::{DataType, FieldRef};
use datafusion::common::exec_err;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::error::Result;
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::{
    Aggregate, ColumnarValue, Expr, LogicalPlan, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDFImpl, Signature,
    Volatility,
};
use sqlparser::ast::{self, Query, Value, VisitorMut};

use crate::sql::grouped::is_aggregate;
use crate::sql::rewrite::call;
use crate::sql::visit::{Walk, WalkMut};

pub const NAMED_CAST: &str = "mr_named_cast";

/// Puts each cast of a query in a call, except those of parameters, and of literals but where they are all that an
/// aggregate is of.
pub fn name_casts(query: &mut Query) {
    struct Casts;
    impl VisitorMut for Casts {
        type Break = ();
        fn post_visit_expr(&mut self, expr: &mut ast::Expr) -> ControlFlow<()> {
            match expr {
                ast::Expr::Cast { expr: inner, .. } if !matches!(inner.as_ref(), ast::Expr::Value(_)) => name(expr),
                expr if is_aggregate(expr) => {
                    if let ast::Expr::Function(function) = expr
                        && let ast::FunctionArguments::List(list) = &mut function.args
                        && let Some(ast::FunctionArg::Unnamed(ast::FunctionArgExpr::Expr(first))) =
                            list.args.first_mut()
                    {
                        name(first);
                    }
                }
                _ => {}
            }
            ControlFlow::Continue(())
        }
    }
    let _ = query.walk_mut(&mut Casts);
}

fn name(expr: &mut ast::Expr) {
    let ast::Expr::Cast { data_type, .. } = expr else { return };
    let name = ast::Expr::Value(Value::SingleQuotedString(data_type.to_string()).into());
    let cast = std::mem::replace(expr, ast::Expr::Value(Value::Null.into()));
    *expr = call(NAMED_CAST, vec![cast, name]);
}

/// Whether some GROUPING SETS, ROLLUP or CUBE is of casts, whose names are not looked at one by one.
pub fn groups_casts(query: &Query) -> bool {
    struct Groups(bool);
    impl ast::Visitor for Groups {
        type Break = ();
        fn pre_visit_expr(&mut self, expr: &ast::Expr) -> ControlFlow<()> {
            if let ast::Expr::Rollup(sets) | ast::Expr::Cube(sets) | ast::Expr::GroupingSets(sets) = expr {
                self.0 |= sets.iter().flatten().any(|item| matches!(item, ast::Expr::Cast { .. }));
            }
            ControlFlow::Continue(())
        }
    }
    let mut groups = Groups(false);
    let _ = query.walk(&mut groups);
    groups.0
}

/// Whether groups and aggregates of some node have one name.
pub fn collide(plan: &LogicalPlan) -> Result<bool> {
    let mut collide = false;
    plan.apply_with_subqueries(|plan| {
        if let LogicalPlan::Aggregate(Aggregate { group_expr, aggr_expr, .. }) = plan {
            let mut names = HashSet::new();
            collide |= group_expr.iter().chain(aggr_expr).any(|expr| !names.insert(expr.schema_name().to_string()));
        }
        Ok(if collide { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    })?;
    Ok(collide)
}

/// Takes the calls out of a bound plan.
pub fn take_out(plan: LogicalPlan) -> Result<LogicalPlan> {
    let plan = plan.transform_up_with_subqueries(|plan| {
        let names = NamePreserver::new(&plan);
        plan.map_expressions(|expr| {
            let name = names.save(&expr);
            let expr = expr.transform_up(|expr| match expr {
                Expr::ScalarFunction(mut function) if function.name() == NAMED_CAST && function.args.len() == 2 => {
                    Ok(Transformed::yes(function.args.swap_remove(0)))
                }
                other => Ok(Transformed::no(other)),
            })?;
            Ok(expr.update_data(|expr| name.restore(expr)))
        })?
        .map_data(|plan| plan.recompute_schema())
    })?;
    Ok(plan.data)
}

/// `mr_named_cast(value, text)`: the value. Known while names are bound, never evaluated.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct NamedCast {
    signature: Signature,
}

impl Default for NamedCast {
    fn default() -> Self {
        NamedCast { signature: Signature::any(2, Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for NamedCast {
    fn name(&self) -> &str {
        NAMED_CAST
    }
    fn signature(&self) -> &Signature {
        &self.signature
    }
    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        Ok(types[0].clone())
    }
    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        Ok(args.arg_fields[0].clone())
    }
    fn invoke_with_args(&self, _: ScalarFunctionArgs) -> Result<ColumnarValue> {
        exec_err!("{NAMED_CAST} is taken out when names are bound")
    }
}
