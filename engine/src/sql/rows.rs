//! Rows that are written out, `(a, b)` and `ROW(a, b)`: what is asked of one is asked of its fields.

use sqlparser::ast::{BinaryOperator, Expr, Value};

use crate::sql::calls;
use crate::sql::parse::fold;
use crate::sql::rewrite::{binary, nested};

/// What a row is written of.
pub fn fields_of_row(expr: &Expr) -> Option<Vec<Expr>> {
    match expr {
        Expr::Tuple(fields) => Some(fields.clone()),
        Expr::Function(function)
            if function.name.0.last().and_then(|p| p.as_ident()).is_some_and(|n| fold(n) == "row") =>
        {
            calls::arguments(function)
        }
        Expr::Nested(inner) => fields_of_row(inner),
        _ => None,
    }
}

pub fn is_row(expr: &Expr) -> bool {
    fields_of_row(expr).is_some()
}

/// Rows are compared field by field, and what is not known of one may leave the whole unknown.
pub fn rows_compared(left: &Expr, op: &BinaryOperator, right: &Expr) -> Option<Expr> {
    use BinaryOperator as O;
    let (left, right) = (fields_of_row(left)?, fields_of_row(right)?);
    if left.len() != right.len() || left.is_empty() {
        return None;
    }
    let pairs = || left.iter().cloned().zip(right.iter().cloned());
    let each = |op: O, and: O| {
        let all = pairs().map(|(l, r)| binary(Expr::Nested(Box::new(l)), op.clone(), Expr::Nested(Box::new(r))));
        all.reduce(|a, b| binary(a, and.clone(), b))
    };
    let (strict, last) = match op {
        O::Eq => return each(O::Eq, O::And),
        O::NotEq => return each(O::NotEq, O::Or),
        O::Lt => (O::Lt, O::Lt),
        O::LtEq => (O::Lt, O::LtEq),
        O::Gt => (O::Gt, O::Gt),
        O::GtEq => (O::Gt, O::GtEq),
        _ => return None,
    };
    let mut all = pairs().rev();
    let (l, r) = all.next()?;
    let mut compared = binary(nested(&l), last, nested(&r));
    for (l, r) in all {
        let equal = binary(nested(&l), O::Eq, nested(&r));
        let further = binary(equal, O::And, Expr::Nested(Box::new(compared)));
        compared = binary(binary(nested(&l), strict.clone(), nested(&r)), O::Or, further);
    }
    Some(compared)
}

/// `(a, b) IN ((c, d), …)`: equal to one of them, field by field.
pub fn row_in(row: &Expr, list: &[Expr]) -> Option<Expr> {
    fn any(mut rows: Vec<Expr>) -> Option<Expr> {
        // Not deeper than it must be.
        let right = rows.split_off(rows.len() / 2);
        match rows.is_empty() {
            true => right.into_iter().next(),
            false => Some(Expr::Nested(Box::new(binary(any(rows)?, BinaryOperator::Or, any(right)?)))),
        }
    }
    let equal = |item| rows_compared(row, &BinaryOperator::Eq, item).map(|equal| Expr::Nested(Box::new(equal)));
    any(list.iter().map(equal).collect::<Option<Vec<_>>>()?)
}

/// A row of which each field is asked.
pub fn each_field(row: &Expr, ask: fn(Box<Expr>) -> Expr) -> Expr {
    let fields = fields_of_row(row).unwrap_or_default().into_iter();
    let all = fields.map(|field| ask(Box::new(Expr::Nested(Box::new(field)))));
    let all = all.reduce(|a, b| binary(a, BinaryOperator::And, b));
    Expr::Nested(Box::new(all.unwrap_or(Expr::Value(Value::Boolean(true).into()))))
}
