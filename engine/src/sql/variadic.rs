//! `f(…, VARIADIC array)`: a call whose last arguments are the elements of an array. The parser reads it as an argument with a
//! name (`parse/spellings.rs`).
//!
//! ```text
//!   concat(VARIADIC a)                 array_to_string(a, '')
//!   concat_ws(',', VARIADIC a)         array_to_string(a, ',')
//!   format('%s-%s', VARIADIC a)        mr_format_each('%s-%s', a)
//!   jsonb_extract_path(j, VARIADIC a)  j #> a
//!   jsonb_build_object(VARIADIC a)     mr_jsonb_build_object_each(a)
//! ```

use sqlparser::ast::{BinaryOperator, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, Value};

use crate::error::{Error, Result};
use crate::sql::parse::fold;
use crate::sql::rewrite::{binary, call, nested};

/// The name that the parser gives the argument.
pub const MARK: &str = "mr_variadic";

/// The call without it; `None` where it is not there. Errors: 0A000 for other functions.
pub fn respell(function: &Function) -> Result<Option<Expr>> {
    let FunctionArguments::List(list) = &function.args else { return Ok(None) };
    let Some((last, before)) = list.args.split_last() else { return Ok(None) };
    let FunctionArg::Named { name, arg: FunctionArgExpr::Expr(array), .. } = last else { return Ok(None) };
    if fold(name) != MARK {
        return Ok(None);
    }
    let of = function.name.0.last().and_then(|part| part.as_ident()).map(fold).unwrap_or_default();
    let before: Vec<Expr> = before
        .iter()
        .map(|argument| match argument {
            FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => Ok(expr.clone()),
            _ => Err(unsupported(&of)),
        })
        .collect::<Result<_>>()?;
    let array = array.clone();
    let path = |op: BinaryOperator, json: &Expr, array: Expr| binary(nested(json), op, nested(&array));
    Ok(Some(match (of.as_str(), before.as_slice()) {
        ("concat", []) => {
            let nothing = Expr::Value(Value::SingleQuotedString(String::new()).into());
            call("array_to_string", vec![array, nothing])
        }
        ("concat_ws", [between]) => call("array_to_string", vec![array, between.clone()]),
        ("format", [template]) => call("mr_format_each", vec![template.clone(), array]),
        ("jsonb_build_array" | "json_build_array" | "jsonb_build_object" | "json_build_object", []) => {
            call(&format!("mr_{of}_each"), vec![array])
        }
        ("jsonb_extract_path" | "json_extract_path", [json]) => path(BinaryOperator::HashArrow, json, array),
        ("jsonb_extract_path_text" | "json_extract_path_text", [json]) => {
            path(BinaryOperator::HashLongArrow, json, array)
        }
        _ => return Err(unsupported(&of)),
    }))
}

fn unsupported(function: &str) -> Error {
    Error::unsupported(format!("VARIADIC in a call of {function}()"))
}
