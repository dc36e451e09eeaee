//! Numbers in quotes as arguments of functions that are there for several types: of these PostgreSQL prefers double precision.
//! And booleans in quotes where nothing but a boolean can stand.
//!
//! ```text
//!   sqrt('4')            sqrt('4'::double precision), and so var_pop('4')
//!   round('2.5', 0)      round('2.5'::numeric, 0), which there is for numeric alone
//!   '4' ^ '2'            '4'::double precision ^ '2'::double precision
//!   bool_or('t')         bool_or('t'::boolean)
//!   NOT 'f', a AND 't'   NOT 'f'::boolean, a AND 't'::boolean
//!   'f' IS UNKNOWN       'f'::boolean IS UNKNOWN, and so IS TRUE and the others
//!   min(NULL)            min(NULL::text), as of all that has no type
//! ```

use sqlparser::ast::{self, BinaryOperator, Expr, FunctionArg, FunctionArgExpr, FunctionArguments, UnaryOperator};

use crate::sql::parse::fold;
use crate::sql::rewrite::cast;
use crate::sql::values::quoted_text;

/// Functions of one number.
const OF_ONE: &[&str] = &["abs", "ceil", "ceiling", "exp", "floor", "ln", "log", "log10", "round", "sign", "sqrt"];

/// Aggregates of one number, which `sum` and `avg` are not: of these Postgres cannot choose one.
const VARIANCES: &[&str] = &["stddev", "stddev_pop", "stddev_samp", "var_pop", "var_samp", "variance"];

/// Aggregates of booleans.
const OF_BOOLEANS: &[&str] = &["bool_and", "bool_or", "every"];

/// The same with casts of what is in quotes.
pub fn settle(expr: Expr) -> Expr {
    let quoted = |expr: &Expr| quoted_text(expr).is_some();
    match expr {
        Expr::Ceil { expr, field } if quoted(&expr) => Expr::Ceil { expr: double(expr), field },
        Expr::Floor { expr, field } if quoted(&expr) => Expr::Floor { expr: double(expr), field },
        Expr::UnaryOp { op: op @ UnaryOperator::PGSquareRoot, expr } if quoted(&expr) => {
            Expr::UnaryOp { op, expr: double(expr) }
        }
        Expr::BinaryOp { left, op: op @ BinaryOperator::PGExp, right } if quoted(&left) && quoted(&right) => {
            Expr::BinaryOp { left: double(left), op, right: double(right) }
        }
        Expr::UnaryOp { op: op @ UnaryOperator::Not, expr } if quoted(&expr) => {
            Expr::UnaryOp { op, expr: boolean(expr) }
        }
        Expr::BinaryOp { left, op: op @ (BinaryOperator::And | BinaryOperator::Or), right }
            if quoted(&left) || quoted(&right) =>
        {
            let settled = |side: Box<Expr>| if quoted(&side) { boolean(side) } else { side };
            Expr::BinaryOp { left: settled(left), op, right: settled(right) }
        }
        Expr::IsTrue(expr) if quoted(&expr) => Expr::IsTrue(boolean(expr)),
        Expr::IsNotTrue(expr) if quoted(&expr) => Expr::IsNotTrue(boolean(expr)),
        Expr::IsFalse(expr) if quoted(&expr) => Expr::IsFalse(boolean(expr)),
        Expr::IsNotFalse(expr) if quoted(&expr) => Expr::IsNotFalse(boolean(expr)),
        Expr::IsUnknown(expr) if quoted(&expr) => Expr::IsUnknown(boolean(expr)),
        Expr::IsNotUnknown(expr) if quoted(&expr) => Expr::IsNotUnknown(boolean(expr)),
        Expr::Function(mut function) => {
            let name = function.name.0.last().and_then(|part| part.as_ident()).map(fold).unwrap_or_default();
            if let FunctionArguments::List(list) = &mut function.args {
                if let [FunctionArg::Unnamed(FunctionArgExpr::Expr(argument))] = &mut list.args[..] {
                    let no_type = is_null(argument) && matches!(name.as_str(), "min" | "max");
                    let to = match OF_BOOLEANS.contains(&name.as_str()) && quoted(argument) {
                        true => Some(ast::DataType::Boolean),
                        false => no_type.then_some(ast::DataType::Text),
                    };
                    if let Some(to) = to {
                        let literal = std::mem::replace(argument, Expr::Value(ast::Value::Null.into()));
                        *argument = cast(literal, to);
                    }
                }
                let to_numeric = name == "round" && list.args.len() == 2;
                let all = match list.args.len() {
                    1 => [OF_ONE, VARIANCES].iter().any(|names| names.contains(&name.as_str())),
                    2 => {
                        matches!(name.as_str(), "power" | "pow") && list.args.iter().all(|argument| is_quoted(argument))
                    }
                    _ => false,
                };
                let settled = if to_numeric { 1 } else { list.args.len() };
                for argument in list.args.iter_mut().take(settled).filter(|_| all || to_numeric) {
                    if let FunctionArg::Unnamed(FunctionArgExpr::Expr(argument)) = argument
                        && quoted(argument)
                    {
                        let text = std::mem::replace(argument, Expr::Value(ast::Value::Null.into()));
                        *argument = match to_numeric {
                            true => cast(text, ast::DataType::Numeric(ast::ExactNumberInfo::None)),
                            false => *double(Box::new(text)),
                        };
                    }
                }
            }
            Expr::Function(function)
        }
        other => other,
    }
}

fn is_quoted(argument: &FunctionArg) -> bool {
    matches!(argument, FunctionArg::Unnamed(FunctionArgExpr::Expr(argument)) if quoted_text(argument).is_some())
}

fn is_null(argument: &Expr) -> bool {
    matches!(argument, Expr::Value(value) if value.value == ast::Value::Null)
}

fn boolean(text: Box<Expr>) -> Box<Expr> {
    Box::new(cast(*text, ast::DataType::Boolean))
}

fn double(text: Box<Expr>) -> Box<Expr> {
    Box::new(cast(*text, ast::DataType::DoublePrecision))
}
