//! Casts of literals, where the type that is written is not the one that DataFusion would read the literal by.
//!
//! ```text
//!   '1.123456789012'::numeric      1.123456789012, with all its digits: they are more than the type numeric has here
//!   'abc'::bpchar                  'abc'::char(3)
//!   timestamp(2) '… 10:00:00.123'  a cast, which rounds
//! ```

use sqlparser::ast::{self, Expr, Value};

use crate::error::{Error, Result};
use crate::sql::rewrite::{cast, number};
use crate::sql::types;

/// A cast, or a literal with its type before it, as it is to be planned.
pub fn respell(expr: Expr) -> Result<Expr> {
    let (inner, data_type) = match expr {
        Expr::TypedString(typed) if has_digits(&typed.data_type) => {
            return Ok(cast(Expr::Value(typed.value), typed.data_type));
        }
        Expr::Cast { ref expr, ref data_type, .. } => (expr, data_type),
        other => return Ok(other),
    };
    if let ast::DataType::Interval { fields: Some(fields), .. } = data_type
        && !fields.to_string().ends_with("SECOND")
    {
        return Err(Error::unsupported(format!("a cast to interval {fields}")).hint("Cast to interval."));
    }
    if is_numeric(data_type)
        && let Some(digits) = long_fraction(inner)
    {
        return Ok(number(&digits));
    }
    if is_blank_padded(data_type)
        && let Some(text) = crate::sql::values::quoted_text(inner)
    {
        return Ok(with_type(expr.clone(), as_long_as(text)));
    }
    Ok(expr)
}

fn with_type(expr: Expr, data_type: ast::DataType) -> Expr {
    match expr {
        Expr::Cast { expr, kind, array, format, .. } => Expr::Cast { expr, data_type, kind, array, format },
        other => other,
    }
}

/// `bpchar`, a char of any length: PostgreSQL shows `c = 'x'` as `c = 'x'::bpchar`.
fn is_blank_padded(data_type: &ast::DataType) -> bool {
    matches!(data_type, ast::DataType::Custom(name, modifiers) if modifiers.is_empty()
        && name.0.last().and_then(|part| part.as_ident()).is_some_and(|word| word.value.eq_ignore_ascii_case("bpchar")))
}

fn as_long_as(text: &str) -> ast::DataType {
    let length = (text.chars().count() as u64).max(1);
    ast::DataType::Char(Some(ast::CharacterLength::IntegerLength { length, unit: None }))
}

fn is_numeric(data_type: &ast::DataType) -> bool {
    use ast::DataType as T;
    let (T::Numeric(info) | T::Decimal(info) | T::Dec(info)) = data_type else { return false };
    *info == ast::ExactNumberInfo::None
}

/// A literal's digits, with or without quotes, if there are more after the point than `numeric` has.
fn long_fraction(expr: &Expr) -> Option<String> {
    let text = match expr {
        Expr::Nested(inner) => return long_fraction(inner),
        Expr::Value(value) => match &value.value {
            Value::Number(digits, _) => digits.as_str(),
            _ => crate::sql::values::quoted_text(expr)?.trim(),
        },
        _ => return None,
    };
    let (whole, fraction) = text.split_once('.')?;
    let digits = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
    let long = fraction.len() > types::NUMERIC_SCALE_DEFAULT as usize && whole.len() + fraction.len() <= 38;
    (long && digits(whole) && digits(fraction)).then(|| text.to_string())
}

/// `timestamp(2)` and the like, whose literals DataFusion reads with all their digits.
fn has_digits(data_type: &ast::DataType) -> bool {
    types::sql_type_from_ast(data_type).is_ok_and(|canonical| types::moment_digits_of(&canonical).is_some())
}
