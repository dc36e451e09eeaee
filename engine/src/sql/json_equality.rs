//! json has no equality and no order in Postgres, only jsonb has: `json = json`, and json in GROUP BY, DISTINCT, UNION and
//! ORDER BY are refused, where Arrow would compare texts.

use arrow::datatypes::Field;
use datafusion::common::DFSchema;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::error::Result;
use datafusion::logical_expr::expr::{AggregateFunction, InList, InSubquery, WindowFunction};
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{Between, BinaryExpr, Distinct, Expr, ExprSchemable, LogicalPlan};

use crate::error::Error;
use crate::sql::functions::compares;
use crate::sql::functions::declared::external;
use crate::sql::types::sql_type_of;

/// Of a plan as it was bound, before anything is put into it that groups rows by all of their columns. Errors: 42883.
///
/// With `grouped`, GROUP BY may have json in it: its columns were added behind a primary key (`primary_keys.rs`).
pub fn check(plan: &LogicalPlan, grouped: bool) -> Result<()> {
    plan.apply_with_subqueries(|node| {
        let columns = merge_schema(&node.inputs());
        let is_json = |expr: &Expr| expr.to_field(&columns).is_ok_and(|(_, field)| is_json_field(&field));
        match node {
            LogicalPlan::Aggregate(aggregate) if !grouped && aggregate.group_expr.iter().any(is_json) => {
                return none("equality");
            }
            LogicalPlan::Distinct(Distinct::All(input)) if any_json(input.schema()) => return none("equality"),
            LogicalPlan::Distinct(Distinct::On(on)) if on.on_expr.iter().any(is_json) => return none("equality"),
            LogicalPlan::Join(join) if join.on.iter().any(|(left, right)| is_json(left) || is_json(right)) => {
                return compared("=");
            }
            LogicalPlan::Sort(sort) if sort.expr.iter().any(|sort| is_json(&sort.expr)) => return none("ordering"),
            _ => {}
        }
        node.apply_expressions(|expr| {
            expr.apply(|expr| {
                match expr {
                    Expr::BinaryExpr(BinaryExpr { left, op, right })
                        if compares(op) && (is_json(left) || is_json(right)) =>
                    {
                        return compared(&op.to_string());
                    }
                    Expr::InList(InList { expr, .. }) | Expr::InSubquery(InSubquery { expr, .. }) if is_json(expr) => {
                        return compared("=");
                    }
                    Expr::Between(Between { expr, .. }) if is_json(expr) => return compared(">="),
                    Expr::Case(case) if case.expr.as_ref().is_some_and(|expr| is_json(expr)) => return compared("="),
                    Expr::ScalarFunction(call) if call.name() == "nullif" && call.args.first().is_some_and(is_json) => {
                        return compared("=");
                    }
                    Expr::AggregateFunction(AggregateFunction { params, .. }) => {
                        if params.distinct && params.args.iter().any(is_json) {
                            return none("equality");
                        }
                        if params.order_by.iter().any(|sort| is_json(&sort.expr)) {
                            return none("ordering");
                        }
                    }
                    Expr::WindowFunction(window) => {
                        let WindowFunction { params, .. } = window.as_ref();
                        if params.partition_by.iter().any(is_json) {
                            return none("equality");
                        }
                        if params.order_by.iter().any(|sort| is_json(&sort.expr)) {
                            return none("ordering");
                        }
                    }
                    _ => {}
                }
                Ok(TreeNodeRecursion::Continue)
            })
        })
    })
    .map(|_| ())
}

fn is_json_field(field: &Field) -> bool {
    sql_type_of(field) == "json"
}

fn any_json(schema: &DFSchema) -> bool {
    schema.fields().iter().any(|field| is_json_field(field))
}

fn none(what: &str) -> Result<TreeNodeRecursion> {
    let article = if what == "equality" { "an equality" } else { "an ordering" };
    let error = Error::new("42883", format!("could not identify {article} operator for type json"));
    Err(external(error.hint("Cast it to jsonb.")))
}

fn compared(operator: &str) -> Result<TreeNodeRecursion> {
    let error = Error::new("42883", format!("operator does not exist: json {operator} json"));
    Err(external(error.hint("Cast both to jsonb.")))
}
