//! Subqueries in conditions and among values, as far as they are rewritten before anything is bound: IN, EXISTS, ANY and
//! ALL where DataFusion has no plan for them, or one that knows nothing of NULLs.
//!
//! ```text
//!   SELECT EXISTS (SELECT …)           SELECT (SELECT count(*) …) > 0
//!   SELECT x IN (SELECT …)             CASE WHEN rows equal to x > 0 THEN true WHEN rows = 0 THEN false
//!                                           WHEN x IS NULL OR a row is NULL THEN NULL ELSE false END
//!   x > ANY (SELECT …)                 the same of x > the least row
//!   x > ALL (SELECT …)                 NOT x <= ANY (SELECT …)
//!   WHERE (a, b) IN (SELECT …)         WHERE EXISTS (SELECT … WHERE c = a AND d = b)
//!   WHERE (a, b) NOT IN (SELECT …)     WHERE NOT EXISTS (SELECT … WHERE (c = a AND d = b) IS NOT FALSE)
//!   (a, b) = (SELECT c, d …)           (SELECT a = c AND b = d …)
//! ```

use std::ops::ControlFlow;

use sqlparser::ast::{self, BinaryOperator, Expr, Query, SelectItem, SetExpr, TableFactor, Value, VisitorMut};

use crate::error::Error;
use crate::sql::grouped::is_aggregate;
use crate::sql::outside::visit_outside_mut;
use crate::sql::parse::{parse_expression, query};
use crate::sql::quantified::{what_rows, without_match};
use crate::sql::rewrite::call_star;
use crate::sql::rows::{fields_of_row, is_row, rows_compared};
use crate::sql::visit::{Walk, WalkMut};

type Visit<T = ()> = ControlFlow<Box<Error>, T>;

/// In parentheses: it takes the place of something that binds tighter, and may become text again.
fn parsed(text: &str) -> Visit<Expr> {
    match parse_expression(&format!("({text})")) {
        Ok(expr) => ControlFlow::Continue(expr),
        Err(error) => ControlFlow::Break(Box::new(error)),
    }
}

/// DataFusion knows of NULLs in `x NOT IN (SELECT …)` where it is a condition of its own; under OR it marks rows, and a
/// mark is never NULL. There it becomes what makes it true: no row equals x; and there is no row, or x and all of them
/// are known.
pub fn spell_out_not_in(expr: &mut Expr) -> Visit {
    let (x, subquery) = match expr {
        Expr::BinaryOp { op: BinaryOperator::Or | BinaryOperator::And, left, right } => {
            spell_out_not_in(left)?;
            return spell_out_not_in(right);
        }
        Expr::Nested(inner) => return spell_out_not_in(inner),
        Expr::InSubquery { expr, subquery, negated: true } => (expr, subquery),
        Expr::UnaryOp { op: ast::UnaryOperator::Not, expr } => match expr.as_mut() {
            Expr::InSubquery { expr, subquery, negated: false } => (expr, subquery),
            _ => return ControlFlow::Continue(()),
        },
        _ => return ControlFlow::Continue(()),
    };
    let rows = format!("(SELECT 1 FROM ({subquery}) AS \"mr in\" (\"mr value\")");
    let text = format!(
        "(NOT EXISTS {rows} WHERE \"mr value\" = ({x})) AND (NOT EXISTS {rows}) OR ({x}) IS NOT NULL \
         AND NOT EXISTS {rows} WHERE \"mr value\" IS NULL)))"
    );
    *expr = parsed(&text)?;
    ControlFlow::Continue(())
}

/// `x IN (SELECT a … UNION …)` becomes `x IN (SELECT * FROM (…) AS "in")`: where DataFusion marks rows, under OR, it takes
/// a column without a qualifier for two.
pub fn name_in(subquery: &mut Query) -> Visit {
    if matches!(subquery.body.as_ref(), SetExpr::Select(_)) {
        return ControlFlow::Continue(());
    }
    match query("SELECT * FROM (SELECT 1) AS \"in\"") {
        Ok(mut named) => {
            if let SetExpr::Select(select) = named.body.as_mut()
                && let Some(TableFactor::Derived { subquery: inner, .. }) =
                    select.from.first_mut().map(|from| &mut from.relation)
            {
                std::mem::swap(inner.as_mut(), subquery);
                *subquery = *named;
            }
            ControlFlow::Continue(())
        }
        Err(error) => ControlFlow::Break(Box::new(error)),
    }
}

/// The rows of a subquery under a name of their own, with these columns.
fn rows(subquery: &Query, columns: usize) -> String {
    let names: Vec<String> = (1..=columns).map(column).collect();
    format!("({subquery}) AS \"mr in\" ({})", names.join(", "))
}

fn column(number: usize) -> String {
    format!("\"mr value {number}\"")
}

/// `x op ANY (…)` from the subquery's value that makes it true if any does; `matches` is true where one does.
fn among(x: &Expr, subquery: &Query, matches: &str) -> Visit<Expr> {
    let what_rows = format!("(SELECT {} FROM {})", what_rows(&column(1)), rows(subquery, 1));
    let others = without_match(x, &what_rows, false);
    parsed(&format!("(CASE WHEN {matches} THEN 1 ELSE {others} END) = 1"))
}

/// Spells out `IN (SELECT …)` as a value wherever it stands in an expression, but not of rows.
pub fn spell_out_in(expr: &mut Expr) -> Visit {
    struct Spell;
    impl VisitorMut for Spell {
        type Break = Box<Error>;
        fn post_visit_expr(&mut self, expr: &mut Expr) -> Visit {
            if let Expr::InSubquery { expr: x, subquery, negated } = expr
                && !is_row(x)
            {
                *expr = value_of_in(x, subquery, *negated)?;
            }
            ControlFlow::Continue(())
        }
    }
    expr.walk_mut(&mut Spell)
}

/// `x IN (…)` as a value.
fn value_of_in(x: &Expr, subquery: &Query, negated: bool) -> Visit<Expr> {
    if let Some(items) = fields_of_row(x) {
        return value_of_row(&items, subquery, negated);
    }
    let matches = format!("(SELECT count(*) FROM {} WHERE {} = ({x})) > 0", rows(subquery, 1), column(1));
    let value = among(x, subquery, &matches)?;
    if negated { parsed(&format!("NOT ({value})")) } else { ControlFlow::Continue(value) }
}

/// `(a, b) IN (…)` as a value.
fn value_of_row(items: &[Expr], subquery: &Query, negated: bool) -> Visit<Expr> {
    let equal = rows_equal(items);
    let best = format!(
        "(SELECT max(CASE WHEN {equal} THEN 2 WHEN ({equal}) IS NULL THEN 1 ELSE 0 END) FROM {})",
        rows(subquery, items.len())
    );
    let not = if negated { "NOT " } else { "" };
    parsed(&format!("{not}CASE {best} WHEN 2 THEN true WHEN 1 THEN NULL ELSE false END"))
}

fn rows_equal(items: &[Expr]) -> String {
    let pairs = items.iter().enumerate().map(|(i, item)| format!("{} = ({item})", column(i + 1)));
    pairs.collect::<Vec<_>>().join(" AND ")
}

pub fn without_parentheses(expr: &Expr) -> &Expr {
    match expr {
        Expr::Nested(inner) => without_parentheses(inner),
        other => other,
    }
}

/// Rows in a subquery, or beside one, as a value.
pub fn rows_in(expr: &Expr) -> Visit<Option<Expr>> {
    match expr {
        Expr::InSubquery { expr, subquery, negated } if is_row(expr) => {
            value_of_in(expr, subquery, *negated).map_continue(Some)
        }
        Expr::BinaryOp { left, op, right } => match (fields_of_row(left), without_parentheses(right)) {
            (Some(items), Expr::Subquery(subquery)) => {
                let Some(compared) = rows_compared_to(&items, op) else { return ControlFlow::Continue(None) };
                parsed(&format!("(SELECT {compared} FROM {})", rows(subquery, items.len()))).map_continue(Some)
            }
            _ => ControlFlow::Continue(None),
        },
        Expr::AnyOp { left, compare_op, right, .. } => row_beside_any(left, compare_op, right, "max", [2, 1]),
        Expr::AllOp { left, compare_op, right } => row_beside_any(left, compare_op, right, "min", [0, 1]),
        _ => ControlFlow::Continue(None),
    }
}

/// A row compared to the columns of a subquery.
fn rows_compared_to(items: &[Expr], op: &BinaryOperator) -> Option<Expr> {
    let columns = (1..=items.len()).map(|i| Expr::Identifier(ast::Ident::with_quote('"', format!("mr value {i}"))));
    rows_compared(&Expr::Tuple(items.to_vec()), op, &Expr::Tuple(columns.collect()))
}

/// `(a, b) op ANY (SELECT …)`: of the rows' answers (2 true, 1 NULL, 0 false) the one that decides.
fn row_beside_any(
    left: &Expr,
    op: &BinaryOperator,
    right: &Expr,
    decides: &str,
    [decided, unknown]: [u8; 2],
) -> Visit<Option<Expr>> {
    let (Some(items), Expr::Subquery(subquery)) = (fields_of_row(left), without_parentheses(right)) else {
        return ControlFlow::Continue(None);
    };
    let Some(compared) = rows_compared_to(&items, op) else { return ControlFlow::Continue(None) };
    let rows = rows(subquery, items.len());
    parsed(&format!(
        "CASE (SELECT {decides}(CASE WHEN {compared} THEN 2 WHEN ({compared}) IS NULL THEN 1 ELSE 0 END) FROM {rows}) \
         WHEN {decided} THEN {} WHEN {unknown} THEN NULL ELSE {} END",
        decided == 2,
        decided != 2
    ))
    .map_continue(Some)
}

/// ANY and ALL with a subquery, as a value; `None` for the two that are IN and NOT IN.
fn compared_to_rows(expr: &Expr) -> Visit<Option<Expr>> {
    let (x, op, subquery, all) = match expr {
        Expr::AnyOp { left, compare_op, right, .. } => match without_parentheses(right) {
            Expr::Subquery(subquery) => (left, compare_op.clone(), subquery, false),
            _ => return ControlFlow::Continue(None),
        },
        Expr::AllOp { left, compare_op, right } => match (without_parentheses(right), negated(compare_op)) {
            (Expr::Subquery(subquery), Some(op)) => (left, op, subquery, true),
            _ => return ControlFlow::Continue(None),
        },
        _ => return ControlFlow::Continue(None),
    };
    let best = |function: &str| format!("(SELECT {function}({}) FROM {})", column(1), rows(subquery, 1));
    let matches = match op {
        BinaryOperator::Gt | BinaryOperator::GtEq => format!("({x}) {op} {}", best("mr_min")),
        BinaryOperator::Lt | BinaryOperator::LtEq => format!("({x}) {op} {}", best("mr_max")),
        BinaryOperator::NotEq => format!("({x}) <> {} OR ({x}) <> {}", best("mr_min"), best("mr_max")),
        _ => return ControlFlow::Continue(None),
    };
    let value = among(x, subquery, &matches)?;
    if all { parsed(&format!("NOT ({value})")) } else { ControlFlow::Continue(value) }.map_continue(Some)
}

fn negated(op: &BinaryOperator) -> Option<BinaryOperator> {
    Some(match op {
        BinaryOperator::Gt => BinaryOperator::LtEq,
        BinaryOperator::GtEq => BinaryOperator::Lt,
        BinaryOperator::Lt => BinaryOperator::GtEq,
        BinaryOperator::LtEq => BinaryOperator::Gt,
        BinaryOperator::Eq => BinaryOperator::NotEq,
        _ => return None,
    })
}

/// Rows in a subquery, where only whether it is true counts: in the conditions of WHERE.
pub fn row_conditions(condition: &mut Expr) -> Visit {
    match condition {
        Expr::BinaryOp { op: BinaryOperator::Or | BinaryOperator::And, left, right } => {
            row_conditions(left)?;
            return row_conditions(right);
        }
        Expr::Nested(inner) => return row_conditions(inner),
        _ => {}
    }
    let (x, subquery, negated) = match &*condition {
        Expr::InSubquery { expr, subquery, negated } => (expr.as_ref(), subquery, *negated),
        Expr::UnaryOp { op: ast::UnaryOperator::Not, expr } => match without_parentheses(expr) {
            Expr::InSubquery { expr, subquery, negated } => (expr.as_ref(), subquery, !*negated),
            _ => return ControlFlow::Continue(()),
        },
        _ => return ControlFlow::Continue(()),
    };
    let Some(items) = fields_of_row(x) else { return ControlFlow::Continue(()) };
    let (equal, rows) = (rows_equal(&items), rows(subquery, items.len()));
    *condition = parsed(&match negated {
        false => format!("EXISTS (SELECT 1 FROM {rows} WHERE {equal})"),
        true => format!("NOT EXISTS (SELECT 1 FROM {rows} WHERE ({equal}) IS NOT FALSE)"),
    })?;
    ControlFlow::Continue(())
}

/// A condition of WHERE, HAVING or ON: `x IN (SELECT …)` stays where only whether it is true counts, under AND and OR, and
/// `x NOT IN (…)` under AND; for those DataFusion has joins. Elsewhere, as in `NOT (x IN (…) AND p)`, IN is a value, which may
/// be NULL.
pub fn keep_conditions(condition: &mut Expr) -> Visit {
    match condition {
        Expr::BinaryOp { op: BinaryOperator::Or | BinaryOperator::And, left, right } => {
            keep_conditions(left)?;
            return keep_conditions(right);
        }
        Expr::Nested(inner) => return keep_conditions(inner),
        _ => {}
    }
    let found = match &*condition {
        Expr::UnaryOp { op: ast::UnaryOperator::Not, expr } => {
            in_of(without_parentheses(expr)).map(|(x, subquery, negated)| (x, subquery, !negated))
        }
        other => in_of(other),
    };
    match found {
        Some((x, subquery, negated)) => {
            let constant = may_be_constant(x);
            let (expr, subquery) = (Box::new(x.clone()), Box::new(subquery.clone()));
            *condition = Expr::InSubquery { expr, subquery, negated };
            if negated && constant { spell_out_not_in(condition) } else { ControlFlow::Continue(()) }
        }
        // As values, but not in other subqueries.
        None => visit_outside_mut(condition, |expr| {
            if let Some((x, subquery, negated)) = in_of(expr) {
                *expr = value_of_in(x, subquery, negated)?;
            }
            ControlFlow::Continue(())
        }),
    }
}

/// The same for ON of an inner join. `x [NOT] IN (…)` under AND alone may stay as it is written.
pub fn keep_conditions_of_join(condition: &mut Expr) -> Visit {
    match condition {
        Expr::BinaryOp { op: BinaryOperator::And, left, right } => {
            keep_conditions_of_join(left)?;
            keep_conditions_of_join(right)
        }
        Expr::Nested(inner) => keep_conditions_of_join(inner),
        Expr::InSubquery { expr, negated, .. } => match *negated && may_be_constant(expr) {
            true => spell_out_not_in(condition),
            false => ControlFlow::Continue(()),
        },
        Expr::UnaryOp { op: ast::UnaryOperator::Not, expr } => match in_of(without_parentheses(expr)) {
            Some((x, _, false)) if !may_be_constant(x) => ControlFlow::Continue(()),
            _ => keep_conditions(condition),
        },
        _ => keep_conditions(condition),
    }
}

/// Whether what stands before NOT IN is the same for all rows, or may be simplified to that: DataFusion's join for it then has
/// no key, and knows nothing of NULLs.
fn may_be_constant(x: &Expr) -> bool {
    #[derive(Default)]
    struct Look {
        /// Of subqueries around, which are values here.
        depth: usize,
        columns: bool,
        folds: bool,
        /// One's value is that of a group, and has no place in a subquery.
        aggregates: bool,
    }
    impl ast::Visitor for Look {
        type Break = ();
        fn pre_visit_query(&mut self, _: &Query) -> ControlFlow<()> {
            self.folds = true;
            self.depth += 1;
            ControlFlow::Continue(())
        }
        fn post_visit_query(&mut self, _: &Query) -> ControlFlow<()> {
            self.depth -= 1;
            ControlFlow::Continue(())
        }
        fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
            match expr {
                _ if self.depth > 0 => {}
                _ if is_aggregate(expr) => self.aggregates = true,
                Expr::Identifier(_) | Expr::CompoundIdentifier(_) => self.columns = true,
                Expr::Case { .. } | Expr::BinaryOp { op: BinaryOperator::And | BinaryOperator::Or, .. } => {
                    self.folds = true;
                }
                Expr::Function(function) => {
                    let name = function.name.to_string().to_lowercase();
                    self.folds |= ["coalesce", "nullif", "greatest", "least"].contains(&name.as_str());
                }
                _ => {}
            }
            ControlFlow::Continue(())
        }
    }
    let mut look = Look::default();
    let _ = x.walk(&mut look);
    !look.aggregates && (!look.columns || look.folds)
}

/// `x IN (…)`, `x = ANY (…)`; negated `x NOT IN (…)`, `x <> ALL (…)`.
fn in_of(expr: &Expr) -> Option<(&Expr, &Query, bool)> {
    let (x, right, negated) = match expr {
        Expr::InSubquery { expr, subquery, negated } => return Some((expr, subquery, *negated)),
        Expr::AnyOp { left, compare_op: BinaryOperator::Eq, right, .. } => (left, right, false),
        Expr::AllOp { left, compare_op: BinaryOperator::NotEq, right } => (left, right, true),
        _ => return None,
    };
    match without_parentheses(right) {
        Expr::Subquery(subquery) => Some((x, subquery, negated)),
        _ => None,
    }
}

/// In a SELECT list, where IN, EXISTS, ANY and ALL are values; in conditions DataFusion has joins for ANY and ALL.
pub struct Values;

impl VisitorMut for Values {
    type Break = Box<Error>;

    fn post_visit_expr(&mut self, expr: &mut Expr) -> Visit {
        if let Some(value) = rows_in(expr)? {
            *expr = value;
            return ControlFlow::Continue(());
        }
        if let Some(value) = compared_to_rows(expr)? {
            *expr = value;
            return ControlFlow::Continue(());
        }
        let value = match expr {
            Expr::Exists { subquery, negated } => counted(subquery, *negated)?,
            Expr::InSubquery { expr: x, subquery, negated } => value_of_in(x, subquery, *negated)?,
            Expr::AnyOp { left, compare_op: BinaryOperator::Eq, right, .. } => match without_parentheses(right) {
                Expr::Subquery(subquery) => value_of_in(left, subquery, false)?,
                _ => return ControlFlow::Continue(()),
            },
            Expr::AllOp { left, compare_op: BinaryOperator::NotEq, right } => match without_parentheses(right) {
                Expr::Subquery(subquery) => value_of_in(left, subquery, true)?,
                _ => return ControlFlow::Continue(()),
            },
            _ => return ControlFlow::Continue(()),
        };
        *expr = value;
        ControlFlow::Continue(())
    }
}

/// EXISTS as a count, of which DataFusion makes a join.
fn counted(subquery: &Query, negated: bool) -> Visit<Expr> {
    let mut counting = subquery.clone();
    let plain = counting.with.is_none() && counting.limit_clause.is_none() && counting.fetch.is_none();
    match counting.body.as_mut() {
        SetExpr::Select(select)
            if plain
                && select.distinct.is_none()
                && select.having.is_none()
                && matches!(&select.group_by, ast::GroupByExpr::Expressions(exprs, _) if exprs.is_empty())
                && !select.projection.iter().any(|item| item.to_string().contains('(')) =>
        {
            select.projection = vec![SelectItem::UnnamedExpr(call_star("count"))];
            counting.order_by = None;
        }
        _ => match query(&format!("SELECT count(*) FROM ({subquery}) AS existing")) {
            Ok(counted) => counting = *counted,
            Err(error) => return ControlFlow::Break(Box::new(error)),
        },
    }
    let zero = Expr::Value(Value::Number("0".into(), false).into());
    let op = if negated { BinaryOperator::Eq } else { BinaryOperator::Gt };
    let value = Expr::BinaryOp { left: Box::new(Expr::Subquery(Box::new(counting))), op, right: Box::new(zero) };
    ControlFlow::Continue(Expr::Nested(Box::new(value)))
}
