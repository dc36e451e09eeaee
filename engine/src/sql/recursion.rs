//! WITH RECURSIVE: what the recursive term cannot have, and that its columns have the types of the other term's. DataFusion
//! casts them to those whatever they are, so that digits would be cut off and fractions lost.
//!
//! ```text
//!   WITH RECURSIVE t(n) AS (SELECT 1.0 UNION ALL SELECT n + 0.55 FROM t)     1.0 is a numeric, of any scale
//!   WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n * 0.5 FROM t)        42804
//! ```

use std::ops::ControlFlow;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::Column;
use datafusion::common::tree_node::Transformed;
use datafusion::error::{DataFusionError, Result as DataFusionResult};
use datafusion::logical_expr::{
    Cast, Expr as PlanExpr, ExprSchemable, LogicalPlan, LogicalPlanBuilder, RecursiveQuery,
};
use sqlparser::ast::{self, Cte, Expr, Query, SelectItem, SetExpr, Value};

use crate::error::{Error, Result};
use crate::sql::context::WRITTEN;
use crate::sql::parse::fold;
use crate::sql::rewrite::{cast, is_aggregate};
use crate::sql::types::{TYPE_KEY, sql_type_of};
use crate::sql::visit;

/// The recursive queries of a WITH and their recursive terms.
fn recursive(query: &mut Query) -> impl Iterator<Item = &mut Cte> {
    let with = query.with.as_mut().filter(|with| with.recursive);
    with.into_iter().flat_map(|with| &mut with.cte_tables).filter(|cte| term_of(cte).is_some())
}

/// The term of a query that reads the query itself.
fn term_of(cte: &Cte) -> Option<&SetExpr> {
    let SetExpr::SetOperation { op: ast::SetOperator::Union, right, .. } = cte.query.body.as_ref() else { return None };
    let name = fold(&cte.alias.name);
    let itself = visit::visit_relations(right, |relation| match relation.0.as_slice() {
        [part] if part.as_ident().is_some_and(|ident| fold(ident) == name) => ControlFlow::Break(()),
        _ => ControlFlow::Continue(()),
    });
    itself.is_break().then_some(right.as_ref())
}

/// Refuses what a recursion cannot have, the rows of a round not being all of them, and sees to it that what is written out in
/// its other term is of a type that has room for what comes. Errors: 42P19, 0A000.
pub fn prepare(query: &mut Query) -> Result<()> {
    for cte in recursive(query) {
        if cte.query.order_by.is_some() {
            return Err(Error::unsupported("ORDER BY in a recursive query"));
        }
        if cte.query.limit_clause.is_some() || cte.query.fetch.is_some() {
            return Err(Error::unsupported("LIMIT in a recursive query").hint("Limit the query that reads it."));
        }
        if let Some(SetExpr::Select(select)) = term_of(cte)
            && select.projection.iter().any(has_aggregate)
        {
            let message = "aggregate functions are not allowed in a recursive query's recursive term";
            return Err(Error::new("42P19", message));
        }
        if let SetExpr::SetOperation { left, .. } = cte.query.body.as_mut() {
            type_numerics(left);
        }
    }
    Ok(())
}

/// Those of subqueries are theirs.
fn has_aggregate(item: &SelectItem) -> bool {
    let (SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. }) = item else { return false };
    let subquery = |expr: &Expr| match expr {
        Expr::Subquery(_) | Expr::InSubquery { .. } | Expr::Exists { .. } => ControlFlow::Break(()),
        _ => ControlFlow::Continue(()),
    };
    let aggregate = |expr: &Expr| match expr {
        Expr::Function(call) if is_aggregate(call) => ControlFlow::Break(()),
        _ => ControlFlow::Continue(()),
    };
    visit::visit_expressions(expr, subquery).is_continue() && visit::visit_expressions(expr, aggregate).is_break()
}

fn type_numerics(body: &mut SetExpr) {
    match body {
        SetExpr::Select(select) => {
            for item in &mut select.projection {
                if let SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } = item {
                    type_numeric(expr);
                }
            }
        }
        SetExpr::Values(values) => {
            values.rows.iter_mut().flat_map(|row| row.iter_mut()).for_each(type_numeric);
        }
        SetExpr::SetOperation { left, right, .. } => {
            type_numerics(left);
            type_numerics(right);
        }
        SetExpr::Query(query) => type_numerics(&mut query.body),
        _ => {}
    }
}

fn type_numeric(expr: &mut Expr) {
    fn has_point(expr: &Expr) -> bool {
        match expr {
            Expr::Value(value) => matches!(&value.value, Value::Number(digits, _) if digits.contains('.')),
            Expr::UnaryOp { op: ast::UnaryOperator::Minus | ast::UnaryOperator::Plus, expr } | Expr::Nested(expr) => {
                has_point(expr)
            }
            _ => false,
        }
    }
    if has_point(expr) {
        let literal = std::mem::replace(expr, Expr::Value(Value::Null.into()));
        *expr = cast(literal, ast::DataType::Numeric(ast::ExactNumberInfo::None));
    }
}

/// The plan in which recursive terms say of what SQL types their columns are. Errors: 42804 where one gives what the other
/// term's type has no room for.
pub fn settle_types(plan: LogicalPlan) -> DataFusionResult<LogicalPlan> {
    let settled = plan.transform_up_with_subqueries(|node| {
        let LogicalPlan::RecursiveQuery(mut recursive) = node else { return Ok(Transformed::no(node)) };
        let term = settled_term(&recursive)?;
        let changed = term.is_some();
        if let Some(term) = term {
            recursive.recursive_term = Arc::new(term);
        }
        let plan = LogicalPlan::RecursiveQuery(recursive);
        Ok(if changed { Transformed::yes(plan) } else { Transformed::no(plan) })
    })?;
    Ok(settled.data)
}

fn settled_term(recursive: &RecursiveQuery) -> DataFusionResult<Option<LogicalPlan>> {
    let term = &recursive.recursive_term;
    let told = |field: &Field| field.metadata().get(TYPE_KEY).cloned();
    let columns = recursive.static_term.schema().fields().iter().zip(term.schema().iter());
    let (mut exprs, mut changed) = (Vec::new(), false);
    for (i, (wanted, (qualifier, field))) in columns.enumerate() {
        let given = uncast(term, i)?.unwrap_or_else(|| field.clone());
        if !holds(wanted, &given) {
            let message = format!(
                "recursive query \"{}\" column {} has type {} in non-recursive term but type {} overall",
                recursive.name,
                i + 1,
                sql_type_of(wanted),
                plain(&given),
            );
            let hint = "Cast the output of the non-recursive term to the correct type.";
            return Err(DataFusionError::External(Box::new(Error::new("42804", message).hint(hint))));
        }
        let column = PlanExpr::Column(Column::new(qualifier.cloned(), field.name()));
        // The rows of all rounds are of one schema.
        exprs.push(match told(wanted) == told(field) {
            true => column,
            false => {
                changed = true;
                let to =
                    Field::new("recursive", wanted.data_type().clone(), true).with_metadata(wanted.metadata().clone());
                PlanExpr::Cast(Cast { expr: Box::new(column), field: Arc::new(to) }).alias(field.name())
            }
        });
    }
    if !changed {
        return Ok(None);
    }
    LogicalPlanBuilder::from(term.as_ref().clone()).project(exprs)?.build().map(Some)
}

/// What DataFusion casts to a column of the recursive term. What the query casts itself it casts.
fn uncast(term: &LogicalPlan, i: usize) -> DataFusionResult<Option<FieldRef>> {
    let LogicalPlan::Projection(projection) = term else { return Ok(None) };
    let mut expr = &projection.expr[i];
    while let PlanExpr::Alias(alias) = expr {
        expr = &alias.expr;
    }
    match expr {
        PlanExpr::Cast(cast) if cast.field.name() != WRITTEN => {
            cast.expr.to_field(projection.input.schema()).map(|(_, field)| Some(field))
        }
        _ => Ok(None),
    }
}

fn plain(field: &Field) -> String {
    match field.data_type() {
        DataType::Decimal128(..) => "numeric".into(),
        _ => sql_type_of(field),
    }
}

/// Whether a column has room for all values of another type.
fn holds(wanted: &Field, given: &Field) -> bool {
    use DataType as D;
    match (wanted.data_type(), given.data_type()) {
        (integer, other) if integer.is_integer() => !(other.is_floating() || matches!(other, D::Decimal128(..))),
        (D::Decimal128(_, scale), D::Decimal128(_, other)) => {
            wanted.metadata().contains_key(TYPE_KEY) || other <= scale
        }
        (D::Decimal128(..), other) => !other.is_floating(),
        (D::Utf8, D::Utf8) => !sql_type_of(wanted).ends_with(')') || sql_type_of(wanted) == sql_type_of(given),
        (D::Float32, other) => *other != D::Float64,
        (D::Date32, other) => !matches!(other, D::Timestamp(..)),
        (D::Timestamp(_, zone), D::Timestamp(_, other)) => zone.is_some() == other.is_some(),
        _ => true,
    }
}
