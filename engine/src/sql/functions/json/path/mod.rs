//! SQL/JSON path language, as PostgreSQL 15 has it: `'$.items[*] ? (@.price > 10)'`.
//!
//! ```text
//!   jsonb_path_query('{"a": [1, 2, 3]}', '$.a[*] ? (@ > 1)')     2, 3
//!   '{"a": [1, 2, 3]}' @? '$.a[*] ? (@ > 2)'                     true
//! ```
//!
//! `parse.rs` reads a path, `eval.rs` walks it over a document, `numbers.rs` computes with its numbers. `datetime()` is
//! refused (0A000).

mod eval;
mod numbers;
mod parse;
mod value;

use std::borrow::Cow;

use datafusion::error::Result;

use self::eval::Walk;
use self::value::Json;
use super::super::declared::Type::*;
use super::super::declared::{Declared, Row, Value, external, function, of};
use super::{document, tree};
use crate::error::Error;

pub fn all() -> Vec<Declared> {
    vec![
        function(
            "jsonb_path_exists",
            &[of(&[Jsonb, Text, Jsonb, Boolean], Boolean, |r| exists(r, silent(r))).least(2)],
        ),
        function(
            "jsonb_path_match",
            &[of(&[Jsonb, Text, Jsonb, Boolean], Boolean, |r| matches(r, silent(r))).least(2)],
        ),
        function(
            "jsonb_path_query_array",
            &[of(&[Jsonb, Text, Jsonb, Boolean], Jsonb, |r| {
                let found = found(r, silent(r))?.unwrap_or_default();
                Ok(tree::array(found.iter().map(Json::to_string)).into())
            })
            .least(2)],
        ),
        function(
            "jsonb_path_query_first",
            &[of(&[Jsonb, Text, Jsonb, Boolean], Jsonb, |r| {
                Ok(found(r, silent(r))?.and_then(|found| found.first().map(Json::to_string)).into())
            })
            .least(2)],
        ),
        // The set that jsonb_path_query returns, as an array.
        function(
            "mr_jsonb_path_items",
            &[of(&[Jsonb, Text, Jsonb, Boolean], Array("jsonb"), |r| {
                let found = found(r, silent(r))?.unwrap_or_default();
                Ok(Value::Texts(found.iter().map(|item| Some(Cow::from(item.to_string()))).collect()))
            })
            .least(2)],
        ),
        // @? and @@
        function("mr_jsonb_path_exists", &[of(&[Jsonb, Text], Boolean, |r| exists(r, true))]),
        function("mr_jsonb_path_match", &[of(&[Jsonb, Text], Boolean, |r| matches(r, true))]),
    ]
}

fn silent(r: &Row) -> bool {
    r.len() > 3 && r.boolean(3)
}

/// What the path leads to. `None` after an error that is not to be told.
fn found(r: &Row, silent: bool) -> Result<Option<Vec<Json>>> {
    let text = document(r, 0)?;
    let root = Json::of(&tree::parse(&text)?);
    let variables = match r.len() > 2 {
        true => match Json::of(&tree::parse(&document(r, 2)?)?) {
            Json::Object(fields) => Json::Object(fields),
            _ => {
                let error = Error::new("22023", "\"vars\" argument is not an object");
                return Err(external(
                    error.detail("Jsonpath parameters should be encoded as key-value pairs of \"vars\" object."),
                ));
            }
        },
        false => Json::Object(Default::default()),
    };
    let path = parse::parse(r.text(1)).map_err(external)?;
    match Walk::new(&path, root, variables).run() {
        Ok(found) => Ok(Some(found)),
        Err(error) if silent && eval::may_be_silent(&error) => Ok(None),
        Err(error) => Err(external(error)),
    }
}

fn exists<'a>(r: &Row<'a>, silent: bool) -> Result<Value<'a>> {
    Ok(match found(r, silent)? {
        Some(found) => (!found.is_empty()).into(),
        None => Value::Null,
    })
}

fn matches<'a>(r: &Row<'a>, silent: bool) -> Result<Value<'a>> {
    Ok(match found(r, silent)?.as_deref() {
        Some([Json::Boolean(value)]) => (*value).into(),
        Some([Json::Null]) => Value::Null,
        Some(_) if !silent => {
            return Err(external(Error::new("22038", "single boolean result is expected")));
        }
        _ => Value::Null,
    })
}
