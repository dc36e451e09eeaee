//! VALUES whose rows hold subqueries, or columns from around them: a SELECT for each row.

use std::ops::ControlFlow;

use sqlparser::ast::{self, Expr, Ident, Query, SelectItem, SetExpr, VisitorMut};

use crate::error::{Error, Result};
use crate::sql::calls;
use crate::sql::outside::visit_outside;
use crate::sql::parse::fold;
use crate::sql::rewrite::has_columns;
use crate::sql::visit::{self, WalkMut};

/// `VALUES (1, (SELECT 2)), …` is `SELECT 1 AS column1, (SELECT 2) AS column2 UNION ALL …`.
pub fn select_subqueries(body: &mut SetExpr) -> Result<()> {
    if let SetExpr::SetOperation { left, right, .. } = body {
        select_subqueries(left)?;
        return select_subqueries(right);
    }
    let SetExpr::Values(values) = body else { return Ok(()) };
    values.rows.iter().flat_map(|row| row.iter()).try_for_each(|value| check_no_set(value))?;
    let is_subquery = |expr: &Expr| match expr {
        Expr::Subquery(_) | Expr::InSubquery { .. } | Expr::Exists { .. } => ControlFlow::Break(()),
        _ => ControlFlow::Continue(()),
    };
    if visit::visit_expressions(values, is_subquery).is_continue() {
        return Ok(());
    }
    select_rows(body)
}

/// Error: 0A000 for a call that returns a set, which a row that is written out cannot have.
fn check_no_set(value: &Expr) -> Result<()> {
    match has_set(value) {
        true => Err(Error::new("0A000", "set-returning functions are not allowed in VALUES")),
        false => Ok(()),
    }
}

fn has_set(value: &Expr) -> bool {
    let found = visit_outside(value, |expr| match expr {
        Expr::Function(function) => match function.name.0.last().and_then(|part| part.as_ident()).map(fold) {
            Some(name) if name == "unnest" || calls::returns_set(&name) => ControlFlow::Break(()),
            _ => ControlFlow::Continue(()),
        },
        _ => ControlFlow::Continue(()),
    });
    found.is_break()
}

/// `INSERT … VALUES (generate_series(1, 3))`: one row alone may have sets, and then is a SELECT.
pub fn select_sets(query: &mut Query) -> Result<()> {
    let SetExpr::Values(values) = query.body.as_ref() else { return Ok(()) };
    match values.rows.as_slice() {
        [row] if row.iter().any(has_set) => select_rows(&mut query.body),
        _ => Ok(()),
    }
}

/// The same of all VALUES in a query that take columns from around them; whether there were any.
pub fn select_values(query: &mut Query) -> Result<bool> {
    struct Values(bool);
    impl VisitorMut for Values {
        type Break = Box<Error>;
        fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<Box<Error>> {
            let SetExpr::Values(values) = query.body.as_ref() else { return ControlFlow::Continue(()) };
            if !values.rows.iter().any(|row| row.iter().any(has_columns)) {
                return ControlFlow::Continue(());
            }
            self.0 = true;
            match select_rows(&mut query.body) {
                Ok(()) => ControlFlow::Continue(()),
                Err(error) => ControlFlow::Break(Box::new(error)),
            }
        }
    }
    let mut values = Values(false);
    match query.walk_mut(&mut values) {
        ControlFlow::Continue(()) => Ok(values.0),
        ControlFlow::Break(error) => Err(*error),
    }
}

/// Rows that are written out, each as a SELECT.
fn select_rows(body: &mut SetExpr) -> Result<()> {
    let SetExpr::Values(values) = body else { return Ok(()) };
    let mut selects = Vec::new();
    for mut row in std::mem::take(&mut values.rows) {
        let mut query = crate::sql::parse::query("SELECT 1")?;
        if let SetExpr::Select(select) = query.body.as_mut() {
            select.projection = std::mem::take(&mut *row)
                .into_iter()
                .enumerate()
                .map(|(i, expr)| SelectItem::ExprWithAlias { expr, alias: Ident::new(format!("column{}", i + 1)) })
                .collect();
        }
        selects.push(query.body);
    }
    let all = selects.into_iter().reduce(|left, right| {
        let (op, set_quantifier) = (ast::SetOperator::Union, ast::SetQuantifier::All);
        Box::new(SetExpr::SetOperation { op, set_quantifier, left, right })
    });
    if let Some(all) = all {
        *body = *all;
    }
    Ok(())
}
