//! Arrays that are written out, as `ARRAY[a, b]` or in quotes: their elements, compared one by one and cast one by one.

use std::ops::ControlFlow;

use sqlparser::ast::{self, BinaryOperator, Expr, Value};

use crate::sql::rewrite::{binary, call, cast, has_columns};
use crate::sql::visit;
use crate::sql::{calls, quantified};

/// The elements of an array written out or in quotes.
pub fn literal_items(expr: &Expr) -> Option<Vec<Expr>> {
    if let Expr::Array(array) = expr {
        let flat = |item: &Expr| !matches!(item, Expr::Array(_) | Expr::Subquery(_)) && !has_columns(item);
        let plain = !array.elem.is_empty() && array.elem.iter().all(flat);
        return plain.then(|| array.elem.clone());
    }
    let items = crate::sql::text::nested::split_array(crate::sql::values::quoted_text(expr)?, false).ok()?;
    let literal = |item: Option<String>| Expr::Value(item.map_or(Value::Null, Value::SingleQuotedString).into());
    if items.is_empty() { None } else { Some(items.into_iter().map(literal).collect()) }
}

/// The elements of an array in quotes, if the other side may be repeated for each.
pub fn quoted_items(left: &Expr, right: &Expr) -> Option<Vec<Expr>> {
    let simple = matches!(left, Expr::Identifier(_) | Expr::CompoundIdentifier(_) | Expr::Value(_));
    (simple && !matches!(right, Expr::Array(_))).then(|| literal_items(right)).flatten()
}

/// `x op a AND x op b …`
pub fn each(left: &Expr, op: &BinaryOperator, items: Vec<Expr>, and: BinaryOperator) -> Expr {
    let all = items.into_iter().map(|item| binary(left.clone(), op.clone(), item));
    let all = all.reduce(|a, b| binary(a, and.clone(), b)).unwrap_or(Expr::Value(Value::Null.into()));
    Expr::Nested(Box::new(all))
}

/// `x op ANY (array)`: DataFusion knows of NULLs in the array only for ALL. (A parameter gets its type from the shorter
/// form.)
pub fn any_of(left: Box<Expr>, compare_op: BinaryOperator, right: Expr, is_some: bool) -> Expr {
    let placeholder = |expr: &Expr| match expr {
        Expr::Value(value) if matches!(value.value, Value::Placeholder(_)) => ControlFlow::Break(()),
        _ => ControlFlow::Continue(()),
    };
    let typed = visit::visit_expressions(&right, placeholder).is_continue()
        && visit::visit_expressions(left.as_ref(), placeholder).is_continue();
    match quantified::opposite(&compare_op) {
        Some(opposite) if typed => {
            let all = Expr::AllOp { left, compare_op: opposite, right: Box::new(right) };
            let not_all = Expr::UnaryOp { op: ast::UnaryOperator::Not, expr: Box::new(Expr::Nested(Box::new(all))) };
            Expr::Nested(Box::new(not_all))
        }
        _ => Expr::AnyOp { left, compare_op, right: Box::new(right), is_some },
    }
}

/// `'{}'`, an array of whatever it is compared with.
pub fn is_empty_literal(expr: &Expr) -> bool {
    let items = crate::sql::values::quoted_text(expr).map(|text| crate::sql::text::nested::split_array(text, false));
    matches!(items, Some(Ok(items)) if items.is_empty())
}

/// `ARRAY[a, b]::int[]` is `ARRAY[a::int, b::int]::int[]`: each element is cast from what it is. The type is one of as many
/// dimensions as are written out.
pub fn cast_items(expr: &mut Expr) {
    use ast::ArrayElemTypeDef::{AngleBracket, SquareBracket};
    let Expr::Cast { expr: array, data_type, kind: ast::CastKind::Cast | ast::CastKind::DoubleColon, .. } = expr else {
        return;
    };
    let (Expr::Array(array), ast::DataType::Array(SquareBracket(item, _) | AngleBracket(item))) =
        (array.as_mut(), &mut *data_type)
    else {
        return;
    };
    let dimensions = |mut data_type: &ast::DataType| {
        let mut dimensions = 0;
        while let ast::DataType::Array(SquareBracket(item, _) | AngleBracket(item)) = data_type {
            (data_type, dimensions) = (item, dimensions + 1);
        }
        dimensions
    };
    let nested = array.elem.iter().map(written_dimensions).max().unwrap_or(0);
    // How many there are, the type need not say.
    for _ in nested..dimensions(item) {
        if let ast::DataType::Array(SquareBracket(inner, _) | AngleBracket(inner)) = item.as_ref() {
            *item = inner.clone();
        }
    }
    for _ in dimensions(item)..nested {
        **item = ast::DataType::Array(SquareBracket(item.clone(), None));
    }
    for element in &mut array.elem {
        let taken = std::mem::replace(element, Expr::Value(Value::Null.into()));
        *element = cast(taken, item.as_ref().clone());
    }
}

/// Of `ARRAY[[…]]`.
fn written_dimensions(expr: &Expr) -> usize {
    match expr {
        Expr::Array(array) => 1 + array.elem.first().map_or(0, written_dimensions),
        _ => 0,
    }
}

/// `array_fill(x, ARRAY[2, 3])`, whose result has as many dimensions as are written out: filled from within.
pub fn filled(name: &str, arguments: &[Expr]) -> Option<Expr> {
    let ("array_fill", [value, dims]) = (name, arguments) else { return None };
    let dims = match dims {
        Expr::Array(array) => array.elem.clone(),
        Expr::Function(made) if made.name.to_string() == "make_array" => calls::arguments(made)?,
        _ => return None,
    };
    if dims.len() < 2 {
        return None;
    }
    let fill = |value: Expr, dim: Expr| {
        let dims = match has_columns(&dim) {
            true => call("make_array", vec![dim]),
            false => Expr::Array(ast::Array { elem: vec![dim], named: true }),
        };
        call("array_fill", vec![value, dims])
    };
    Some(dims.into_iter().rev().fold(value.clone(), fill))
}
