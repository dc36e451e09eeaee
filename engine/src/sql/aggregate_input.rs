//! What aggregates are given, where Postgres says more of it than DataFusion.
//!
//! ```text
//!   SELECT array_agg(a) FROM (SELECT a FROM t ORDER BY b) s     in the subquery's order:
//!   SELECT array_agg(a ORDER BY s."mr order 1") FROM (SELECT a, b AS "mr order 1" FROM t ORDER BY b) s
//!
//!   sum(x::int) FILTER (WHERE x ~ '^\d+$')                      computed only for rows that pass:
//!   sum(CASE WHEN x ~ '^\d+$' THEN x::int END) FILTER (WHERE x ~ '^\d+$')
//! ```

use std::ops::ControlFlow;

use sqlparser::ast::{
    self, BinaryOperator, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArgumentClause, FunctionArguments,
    Ident, OrderByExpr, OrderByKind, Query, Select, SelectItem, SetExpr, TableFactor, Value, VisitMut, VisitorMut,
};

use crate::sql::parse::fold;

/// Aggregates whose result is in the order of their rows.
const ORDERED: &[&str] = &[
    "array_agg",
    "string_agg",
    "json_agg",
    "jsonb_agg",
    "json_object_agg",
    "jsonb_object_agg",
    "first_value",
    "last_value",
];

/// Aggregates without an order of their own take the one of the only subquery that they read.
pub fn take_order(select: &mut Select) {
    let wildcard = select
        .projection
        .iter()
        .any(|item| matches!(item, SelectItem::Wildcard(_) | SelectItem::QualifiedWildcard(..)));
    let mut wanted = Ordered { by: None, found: false };
    wanted.visit(select);
    if !wanted.found {
        return;
    }
    let [from] = select.from.as_mut_slice() else { return };
    let TableFactor::Derived { subquery, alias: Some(alias), .. } = &mut from.relation else { return };
    if !from.joins.is_empty() || !alias.columns.is_empty() {
        return;
    }
    let name = alias.name.clone();
    if let Some(by) = order_of(subquery, &name, wildcard) {
        Ordered { by: Some(by), found: false }.visit(select);
    }
}

/// The order of a subquery's rows by its columns; it gets more of them where an expression is none of them.
fn order_of(query: &mut Query, alias: &Ident, wildcard: bool) -> Option<Vec<OrderByExpr>> {
    let OrderByKind::Expressions(items) = &query.order_by.as_ref()?.kind else { return None };
    let SetExpr::Select(select) = query.body.as_mut() else { return None };
    let name_of = |item: &SelectItem| match item {
        SelectItem::ExprWithAlias { alias, .. } => Some(alias.clone()),
        SelectItem::UnnamedExpr(Expr::Identifier(name)) => Some(name.clone()),
        SelectItem::UnnamedExpr(Expr::CompoundIdentifier(parts)) => parts.last().cloned(),
        _ => None,
    };
    let (mut order, mut more) = (Vec::new(), Vec::new());
    for item in items {
        let shown = match &item.expr {
            Expr::Value(value) => match &value.value {
                Value::Number(place, _) => {
                    let place = place.parse::<usize>().ok()?.checked_sub(1)?;
                    if select.projection[..=place.min(select.projection.len().checked_sub(1)?)]
                        .iter()
                        .any(|item| matches!(item, SelectItem::Wildcard(_) | SelectItem::QualifiedWildcard(..)))
                    {
                        return None;
                    }
                    Some(select.projection.get(place).and_then(name_of)?)
                }
                _ => return None,
            },
            Expr::Identifier(name) => select.projection.iter().filter_map(name_of).find(|n| fold(n) == fold(name)),
            _ => None,
        };
        let column = match shown {
            Some(column) => column,
            None if wildcard || select.distinct.is_some() => return None,
            None => {
                let column = Ident::with_quote('"', format!("mr order {}", more.len() + 1));
                more.push(SelectItem::ExprWithAlias { expr: item.expr.clone(), alias: column.clone() });
                column
            }
        };
        order.push(OrderByExpr { expr: Expr::CompoundIdentifier(vec![alias.clone(), column]), ..item.clone() });
    }
    select.projection.extend(more);
    Some(order)
}

/// Looks for such aggregates of a SELECT itself, and gives them an order.
struct Ordered {
    by: Option<Vec<OrderByExpr>>,
    found: bool,
}

impl Ordered {
    fn visit(&mut self, select: &mut Select) {
        for item in &mut select.projection {
            if let SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } = item {
                let _ = VisitMut::visit(expr, &mut InSelect { of: self, depth: 0 });
            }
        }
        if let Some(having) = &mut select.having {
            let _ = VisitMut::visit(having, &mut InSelect { of: self, depth: 0 });
        }
    }

    fn function(&mut self, function: &mut Function) {
        let name = function.name.0.last().and_then(|part| part.as_ident()).map(fold).unwrap_or_default();
        let FunctionArguments::List(list) = &mut function.args else { return };
        let has_order = list.clauses.iter().any(|clause| matches!(clause, FunctionArgumentClause::OrderBy(_)));
        let distinct = list.duplicate_treatment == Some(ast::DuplicateTreatment::Distinct);
        if has_order || distinct || function.over.is_some() || !ORDERED.contains(&name.as_str()) {
            return;
        }
        self.found = true;
        if let Some(by) = &self.by {
            list.clauses.push(FunctionArgumentClause::OrderBy(by.clone()));
        }
    }
}

struct InSelect<'a> {
    of: &'a mut Ordered,
    depth: usize,
}

impl VisitorMut for InSelect<'_> {
    type Break = ();
    fn pre_visit_query(&mut self, _: &mut Query) -> ControlFlow<()> {
        self.depth += 1;
        ControlFlow::Continue(())
    }
    fn post_visit_query(&mut self, _: &mut Query) -> ControlFlow<()> {
        self.depth -= 1;
        ControlFlow::Continue(())
    }
    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        if let (0, Expr::Function(function)) = (self.depth, expr) {
            self.of.function(function);
        }
        ControlFlow::Continue(())
    }
}

/// Arguments that may fail are computed only for rows that pass the filter.
pub fn guard_by_filter(function: &mut Function) {
    let Some(condition) = function.filter.as_deref() else { return };
    let FunctionArguments::List(list) = &mut function.args else { return };
    let has_subquery = ast::visit_expressions(condition, |expr| match expr {
        Expr::Subquery(_) | Expr::InSubquery { .. } | Expr::Exists { .. } => ControlFlow::Break(()),
        _ => ControlFlow::Continue(()),
    });
    if has_subquery.is_break() {
        return;
    }
    for argument in &mut list.args {
        if let FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) = argument
            && may_fail(expr)
        {
            let result = std::mem::replace(expr, Expr::Value(Value::Null.into()));
            *expr = Expr::Case {
                case_token: ast::helpers::attached_token::AttachedToken::empty(),
                end_token: ast::helpers::attached_token::AttachedToken::empty(),
                operand: None,
                conditions: vec![ast::CaseWhen { condition: condition.clone(), result }],
                else_result: None,
            };
        }
    }
}

/// Of literals nothing is said: they are computed when the query is planned.
fn may_fail(expr: &Expr) -> bool {
    let columns = ast::visit_expressions(expr, |expr| match expr {
        Expr::Identifier(_) | Expr::CompoundIdentifier(_) => ControlFlow::Break(()),
        _ => ControlFlow::Continue(()),
    });
    let fails = ast::visit_expressions(expr, |expr| match expr {
        Expr::Cast { .. } | Expr::Function(_) => ControlFlow::Break(()),
        Expr::BinaryOp { op: BinaryOperator::Divide | BinaryOperator::Modulo | BinaryOperator::PGExp, .. } => {
            ControlFlow::Break(())
        }
        _ => ControlFlow::Continue(()),
    });
    columns.is_break() && fails.is_break()
}
