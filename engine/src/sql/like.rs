//! LIKE and ILIKE with ESCAPE, and of several patterns.
//!
//! ```text
//!   x LIKE 'a#%' ESCAPE '#'          x LIKE 'a\%'
//!   x LIKE ANY (ARRAY['a%', 'b%'])   (x LIKE 'a%' OR x LIKE 'b%')
//!   x NOT LIKE ALL (SELECT p …)      mr_like_each(x, array of p, all, not, fold)
//! ```

use sqlparser::ast::{self, BinaryOperator, Expr, FunctionArguments, Value};

use crate::error::{Error, Result};
use crate::sql::array_literals::literal_items;
use crate::sql::rewrite::{binary, call};
use crate::sql::{aggregate_input, calls, functions};

/// A LIKE or ILIKE, as DataFusion knows them.
pub fn respell(expr: Expr) -> Result<Expr> {
    match expr {
        Expr::Like { any: true, .. } | Expr::ILike { any: true, .. } => like_each(expr, BinaryOperator::Or),
        // Read as a call of a function.
        Expr::Like { ref pattern, .. } | Expr::ILike { ref pattern, .. } if array_of(pattern, "all").is_some() => {
            like_each(expr, BinaryOperator::And)
        }
        Expr::Like { ref pattern, .. } | Expr::ILike { ref pattern, .. } if array_of(pattern, "some").is_some() => {
            like_each(expr, BinaryOperator::Or)
        }
        Expr::Like { negated, any, expr, pattern, escape_char } => {
            let (pattern, escape_char) = escaped(pattern, escape_char)?;
            Ok(Expr::Like { negated, any, expr, pattern, escape_char })
        }
        Expr::ILike { negated, any, expr, pattern, escape_char } => {
            let (pattern, escape_char) = escaped(pattern, escape_char)?;
            Ok(Expr::ILike { negated, any, expr, pattern, escape_char })
        }
        other => Ok(other),
    }
}

/// The array of `LIKE ALL (array)`, or of SOME.
fn array_of(pattern: &Expr, word: &str) -> Option<Expr> {
    match pattern {
        Expr::Function(function) if function.name.to_string().eq_ignore_ascii_case(word) => match &function.args {
            FunctionArguments::Subquery(query) => Some(aggregate_input::array_of(query.as_ref().clone())),
            _ => calls::arguments(function).filter(|arguments| arguments.len() == 1).map(|mut all| all.remove(0)),
        },
        _ => None,
    }
}

/// `x LIKE ANY (array)`, the patterns being written out: one LIKE for each. NOT is of each too.
fn like_each(expr: Expr, and: BinaryOperator) -> Result<Expr> {
    let one = |item: Expr| match &expr {
        Expr::Like { negated, expr, escape_char, .. } => Some(Expr::Like {
            negated: *negated,
            any: false,
            expr: expr.clone(),
            pattern: Box::new(item),
            escape_char: escape_char.clone(),
        }),
        Expr::ILike { negated, expr, escape_char, .. } => Some(Expr::ILike {
            negated: *negated,
            any: false,
            expr: expr.clone(),
            pattern: Box::new(item),
            escape_char: escape_char.clone(),
        }),
        _ => None,
    };
    let (x, pattern, escape, negated, fold) = match &expr {
        Expr::Like { expr, pattern, escape_char, negated, .. } => (expr, pattern, escape_char, *negated, false),
        Expr::ILike { expr, pattern, escape_char, negated, .. } => (expr, pattern, escape_char, *negated, true),
        _ => return Ok(expr),
    };
    let mut array = array_of(pattern, "all").or_else(|| array_of(pattern, "some")).unwrap_or(pattern.as_ref().clone());
    while let Expr::Nested(inner) = array {
        array = *inner;
    }
    let Some(patterns) = literal_items(&array) else {
        if escape.is_some() {
            return Err(Error::unsupported("ESCAPE beside LIKE ANY and ALL"));
        }
        if let Expr::Subquery(query) = array {
            array = aggregate_input::array_of(*query);
        }
        let flag = |value: bool| Expr::Value(Value::Boolean(value).into());
        let all = flag(and == BinaryOperator::And);
        return Ok(call(functions::LIKE_EACH, vec![x.as_ref().clone(), array, all, flag(negated), flag(fold)]));
    };
    let each = patterns.into_iter().filter_map(one).map(respell).collect::<Result<Vec<_>>>()?;
    let all = each.into_iter().reduce(|a, b| binary(a, and.clone(), b));
    let of_none = Expr::Value(Value::Boolean(and == BinaryOperator::And).into());
    Ok(Expr::Nested(Box::new(all.unwrap_or(of_none))))
}

/// `LIKE 'a#%' ESCAPE '#'` is `LIKE 'a\%'`, as DataFusion knows it.
fn escaped(pattern: Box<Expr>, escape: Option<ast::ValueWithSpan>) -> Result<(Box<Expr>, Option<ast::ValueWithSpan>)> {
    let escaping = escape.as_ref().and_then(|escape| match &escape.value {
        Value::SingleQuotedString(escape) if escape != "\\" => Some(escape.clone()),
        _ => None,
    });
    let Some(escaping) = escaping else { return Ok((pattern, escape)) };
    let Some(text) = crate::sql::values::quoted_text(&pattern) else {
        let escape = Expr::Value(Value::SingleQuotedString(escaping).into());
        return Ok((Box::new(call("mr_like_escape", vec![*pattern, escape])), None));
    };
    let spelt = functions::like_escaped(text, &escaping)?;
    // That it was escaped is told on, for bytea.
    let backslash = Value::SingleQuotedString("\\".into()).into();
    Ok((Box::new(Expr::Value(Value::SingleQuotedString(spelt).into())), Some(backslash)))
}
