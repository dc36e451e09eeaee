//! Numbers that are written out: whole ones are of type integer where they fit, those with an exponent numeric.

use sqlparser::ast::{self, Expr, FunctionArg, FunctionArgExpr, FunctionArguments, SetExpr, Value};

use crate::sql::functions;
use crate::sql::parse::fold;
use crate::sql::rewrite::cast;

/// A whole number that fits is an integer in Postgres, and a bigint to DataFusion. That shows where it is a column of
/// its own or decides the type of one: in a SELECT list, in VALUES, in CASE, and in the arguments of some functions. In
/// arithmetic the planner of operators sees to it.
pub fn type_literal(expr: &mut Expr) {
    fn is_small(expr: &Expr) -> bool {
        match expr {
            Expr::Value(value) => matches!(&value.value, Value::Number(digits, _) if digits.parse::<i32>().is_ok()),
            Expr::UnaryOp { op: ast::UnaryOperator::Minus | ast::UnaryOperator::Plus, expr } | Expr::Nested(expr) => {
                is_small(expr)
            }
            _ => false,
        }
    }
    if is_small(expr) {
        let literal = std::mem::replace(expr, Expr::Value(Value::Null.into()));
        *expr = cast(literal, ast::DataType::Integer(None));
    }
}

/// The same in VALUES.
pub fn type_values(body: &mut SetExpr) {
    match body {
        SetExpr::Values(values) => values.rows.iter_mut().flat_map(|row| row.iter_mut()).for_each(type_literal),
        SetExpr::SetOperation { left, right, .. } => {
            type_values(left);
            type_values(right);
        }
        _ => {}
    }
}

pub fn type_literals_within(expr: &mut Expr) {
    match expr {
        Expr::Case { conditions, else_result, .. } => {
            conditions.iter_mut().for_each(|when| type_literal(&mut when.result));
            else_result.iter_mut().for_each(|otherwise| type_literal(otherwise));
        }
        Expr::Array(array) => array.elem.iter_mut().for_each(type_literal),
        Expr::Function(function) => {
            let name = function.name.0.last().and_then(|part| part.as_ident()).map(fold).unwrap_or_default();
            let typed = [
                "coalesce",
                "nullif",
                "greatest",
                "least",
                "abs",
                "sum",
                "avg",
                "min",
                "max",
                "array_agg",
                "first_value",
                "last_value",
                "pg_typeof",
                "bit_and",
                "bit_or",
                "bit_xor",
            ];
            let typed = typed.contains(&name.as_str()) || functions::is_declared(&name);
            // What these count by stays as it is.
            let first = matches!(name.as_str(), "nth_value" | "lag" | "lead");
            if let (true, FunctionArguments::List(list)) = (typed || first, &mut function.args) {
                for argument in list.args.iter_mut().take(if first { 1 } else { usize::MAX }) {
                    if let FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) = argument {
                        type_literal(expr);
                    }
                }
            }
            function.within_group.iter_mut().for_each(|by| type_literal(&mut by.expr));
        }
        _ => {}
    }
}

/// `1e3` is the numeric 1000 where its digits can be held, a double precision otherwise.
pub fn without_exponent(number: &str) -> Option<Expr> {
    let (mantissa, exponent) = number.split_once(['e', 'E'])?;
    let exponent: i32 = exponent.parse().ok()?;
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let point = whole.len() as i32 + exponent;
    let digits = format!("{whole}{fraction}");
    let len = digits.len() as i32;
    if point > 38 || len - point > 38 || len.max(point).max(len - point) > 38 {
        let text = Expr::Value(Value::SingleQuotedString(number.to_string()).into());
        return Some(cast(text, ast::DataType::DoublePrecision));
    }
    let plain = match point {
        _ if point >= len => format!("{digits}{}", "0".repeat((point - len) as usize)),
        1.. => format!("{}.{}", &digits[..point as usize], &digits[point as usize..]),
        _ => format!("0.{}{digits}", "0".repeat(-point as usize)),
    };
    // A point keeps it numeric: `1e3` is no integer in Postgres.
    let plain = if plain.contains('.') { plain } else { format!("{plain}.") };
    Some(Expr::Value(Value::Number(plain, false).into()))
}
