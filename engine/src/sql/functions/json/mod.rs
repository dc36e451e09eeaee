//! json and jsonb: taking documents apart, comparing, changing and building them.
//!
//! A document is its text; what is taken out of it is a piece of the text (`tree.rs`). In jsonb's normal form a piece is
//! in normal form as well, so values are put together without being written anew. The operators are planned as
//! functions with `mr_` names (`operators.rs`).

mod aggregates;
mod build;
mod change;
mod order;
mod path;
mod tree;

use std::borrow::Cow;

use arrow::array::Array as _;
use arrow::array::AsArray;
use datafusion::error::Result;

use self::build::Form;
pub use self::order::keys_of as order_keys;
use self::tree::{Kind, Node};
use super::declared::Type::*;
use super::declared::{Declared, Row, Value, fail, function, of};
use crate::sql::types::TYPE_KEY;

/// What jsonb is compared by, and the same of each item of an array.
pub const JSONB_KEY: &str = "mr_jsonb_key";
pub const JSONB_ARRAY_KEYS: &str = "mr_jsonb_array_keys";

pub fn all() -> Vec<Declared> {
    let mut all = change::all();
    all.extend(aggregates::all());
    all.extend(path::all());
    all.extend([
        function(
            "mr_json_get",
            &[
                of(&[Json, Bigint], SameAs(0), |r| piece(r, |node| item(r, node))),
                of(&[Json, Text], SameAs(0), |r| piece(r, |node| node.field(r.text(1)))),
            ],
        ),
        function(
            "mr_json_get_text",
            &[
                of(&[Json, Bigint], Text, |r| piece_text(r, |node| item(r, node))),
                of(&[Json, Text], Text, |r| piece_text(r, |node| node.field(r.text(1)))),
            ],
        ),
        function(
            "mr_json_path",
            &[of(&[Json, Array("text")], SameAs(0), |r| {
                let steps = r.texts(1);
                piece(r, |node| follow(node, &steps))
            })],
        ),
        function(
            "mr_json_path_text",
            &[of(&[Json, Array("text")], Text, |r| {
                let steps = r.texts(1);
                piece_text(r, |node| follow(node, &steps))
            })],
        ),
        extract("jsonb_extract_path", Jsonb),
        extract("json_extract_path", Json),
        extract_text("jsonb_extract_path_text"),
        extract_text("json_extract_path_text"),
        function("jsonb_typeof", &[of(&[Jsonb], Text, type_name)]),
        function("json_typeof", &[of(&[Json], Text, type_name)]),
        function("jsonb_array_length", &[of(&[Jsonb], Integer, array_length)]),
        function("json_array_length", &[of(&[Json], Integer, array_length)]),
        function(JSONB_KEY, &[of(&[Jsonb], Bytes, order::key)]),
        function(JSONB_ARRAY_KEYS, &[of(&[Array("text")], Array("bytea"), order::keys)]),
        function(
            "mr_jsonb_contains",
            &[of(&[Jsonb, Jsonb], Boolean, |r| {
                let (all, some) = (document(r, 0)?, document(r, 1)?);
                let (all, some) = (tree::parse(&all)?, tree::parse(&some)?);
                // An array contains a value that is one of its items.
                let item = match (&all.kind, &some.kind) {
                    (Kind::Array(items), Kind::Null | Kind::Boolean | Kind::Number | Kind::Text(_)) => {
                        items.iter().any(|item| item.equals(&some))
                    }
                    _ => false,
                };
                Ok((item || all.contains(&some)).into())
            })],
        ),
        function(
            "mr_jsonb_exists",
            &[of(&[Jsonb, Text], Boolean, |r| {
                let text = document(r, 0)?;
                Ok(has(&tree::parse(&text)?, r.text(1)).into())
            })],
        ),
        function(
            "mr_jsonb_exists_any",
            &[of(&[Jsonb, Array("text")], Boolean, |r| {
                let text = document(r, 0)?;
                let node = tree::parse(&text)?;
                Ok(r.texts(1).iter().flatten().any(|key| has(&node, key)).into())
            })],
        ),
        function(
            "mr_jsonb_exists_all",
            &[of(&[Jsonb, Array("text")], Boolean, |r| {
                let text = document(r, 0)?;
                let node = tree::parse(&text)?;
                Ok(r.texts(1).iter().flatten().all(|key| has(&node, key)).into())
            })],
        ),
        function(
            "mr_jsonb_elements",
            &[of(&[Jsonb], Array("jsonb"), |r| elements(r, |node| Some(node.raw.to_string())))],
        ),
        function("mr_json_elements", &[of(&[Json], Array("json"), |r| elements(r, |node| Some(node.raw.to_string())))]),
        function("mr_json_elements_text", &[of(&[Json], Array("text"), |r| elements(r, |node| node.as_text()))]),
        function("mr_jsonb_elements_text", &[of(&[Jsonb], Array("text"), |r| elements(r, |node| node.as_text()))]),
        function("mr_json_keys", &[of(&[Json], Array("text"), keys)]),
        function("mr_jsonb_keys", &[of(&[Jsonb], Array("text"), keys)]),
        // Of `each`, which has errors of its own.
        function("mr_json_each_keys", &[of(&[Json], Array("text"), keys)]),
        function("mr_jsonb_each_keys", &[of(&[Jsonb], Array("text"), keys)]),
        // The values, in the order of the keys.
        function("mr_json_values", &[of(&[Json], Array("json"), |r| values(r, |node| Some(node.raw.to_string())))]),
        function("mr_json_values_text", &[of(&[Json], Array("text"), |r| values(r, |node| node.as_text()))]),
        function("mr_jsonb_values", &[of(&[Jsonb], Array("jsonb"), |r| values(r, |node| Some(node.raw.to_string())))]),
        function("mr_jsonb_values_text", &[of(&[Jsonb], Array("text"), |r| values(r, |node| node.as_text()))]),
        function("to_jsonb", &[of(&[Any], Jsonb, |r| Ok(build::argument(r, 0, Form::Jsonb)?.into()))]),
        function("to_json", &[of(&[Any], Json, |r| Ok(build::argument(r, 0, Form::Json)?.into()))]),
        function("row_to_json", &[of(&[Any], Json, |r| Ok(build::argument(r, 0, Form::Json)?.into()))]),
        function("array_to_json", &[of(&[AnyArray], Json, |r| Ok(build::argument(r, 0, Form::Json)?.into()))]),
        function("jsonb_build_object", &[of(&[], Jsonb, |r| build::build_object(r, Form::Jsonb)).rest(Any).nullable()]),
        function("json_build_object", &[of(&[], Json, |r| build::build_object(r, Form::Json)).rest(Any).nullable()]),
        function("jsonb_build_array", &[of(&[], Jsonb, |r| build::build_array(r, Form::Jsonb)).rest(Any).nullable()]),
        function("json_build_array", &[of(&[], Json, |r| build::build_array(r, Form::Json)).rest(Any).nullable()]),
        // Of the elements of an array, which VARIADIC makes the arguments.
        function("mr_jsonb_build_object_each", &[of(&[AnyArray], Jsonb, |r| build::object_of_items(r, Form::Jsonb))]),
        function("mr_json_build_object_each", &[of(&[AnyArray], Json, |r| build::object_of_items(r, Form::Json))]),
        function("mr_jsonb_build_array_each", &[of(&[AnyArray], Jsonb, |r| build::array_of_items(r, Form::Jsonb))]),
        function("mr_json_build_array_each", &[of(&[AnyArray], Json, |r| build::array_of_items(r, Form::Json))]),
        function("mr_jsonb_row", &[of(&[], Jsonb, |r| build::build_row(r, Form::Jsonb)).rest(Any).nullable()]),
        function("mr_json_row", &[of(&[], Json, |r| build::build_row(r, Form::Json)).rest(Any).nullable()]),
        function(
            "json_object",
            &[
                of(&[Array("text")], Json, |r| Ok(written(pairs(r)?).into())),
                of(&[Array("text"), Array("text")], Json, |r| Ok(written(zipped(r)?).into())),
            ],
        ),
        function(
            "jsonb_object",
            &[
                of(&[Array("text")], Jsonb, |r| Ok(tree::object(pairs(r)?).into())),
                of(&[Array("text"), Array("text")], Jsonb, |r| Ok(tree::object(zipped(r)?).into())),
            ],
        ),
    ]);
    all
}

/// A document in the form of its type: what is not jsonb already is brought into its form where that is wanted.
fn document<'a>(r: &Row<'a>, i: usize) -> Result<Cow<'a, str>> {
    let text = r.text(i);
    let wants_json = r.name.starts_with("json_") || r.name.starts_with("mr_json_");
    match r.fields[i].metadata().get(TYPE_KEY).map(String::as_str) {
        Some("jsonb") => Ok(Cow::Borrowed(text)),
        _ if wants_json => Ok(Cow::Borrowed(text)),
        _ => tree::normal(text).map(Cow::Owned),
    }
}

fn piece<'a>(r: &Row<'a>, of: impl for<'n, 'b> Fn(&'n Node<'b>) -> Option<&'n Node<'b>>) -> Result<Value<'a>> {
    let text = document(r, 0)?;
    Ok(of(&tree::parse(&text)?).map(|node| node.raw.to_string()).into())
}

fn piece_text<'a>(r: &Row<'a>, of: impl for<'n, 'b> Fn(&'n Node<'b>) -> Option<&'n Node<'b>>) -> Result<Value<'a>> {
    let text = document(r, 0)?;
    Ok(of(&tree::parse(&text)?).and_then(Node::as_text).into())
}

/// What `->` with an index gives: to it a scalar in jsonb is an array of one.
fn item<'n, 'b>(r: &Row, node: &'n Node<'b>) -> Option<&'n Node<'b>> {
    let at = r.integer(1);
    let jsonb = r.fields[0].metadata().get(TYPE_KEY).is_some_and(|t| t == "jsonb");
    match node.kind {
        Kind::Array(_) | Kind::Object(_) => node.item(at),
        _ => (jsonb && matches!(at, 0 | -1)).then_some(node),
    }
}

fn follow<'n, 'a>(node: &'n Node<'a>, steps: &[Option<String>]) -> Option<&'n Node<'a>> {
    steps.iter().try_fold(node, |node, step| node.step(step.as_deref()?))
}

/// `j['a'][0]`
pub fn subscript<'a>(r: &Row<'a>) -> Result<Value<'a>> {
    match r.fields[0].metadata().get(TYPE_KEY).map(String::as_str) {
        Some("jsonb") => {}
        other => {
            let message =
                format!("cannot subscript type {} because it does not support subscripting", other.unwrap_or("text"));
            return fail("42804", message);
        }
    }
    let steps: Vec<Option<String>> = (1..r.len()).map(|i| r.written(i)).collect();
    piece(r, |node| follow(node, &steps))
}

fn extract(name: &'static str, gives: super::declared::Type) -> Declared {
    function(
        name,
        &[of(&[Json], gives, |r| {
            let steps: Vec<Option<String>> = (1..r.len()).map(|i| Some(r.text(i).to_string())).collect();
            piece(r, |node| follow(node, &steps))
        })
        .rest(Text)],
    )
}

fn extract_text(name: &'static str) -> Declared {
    function(
        name,
        &[of(&[Json], Text, |r| {
            let steps: Vec<Option<String>> = (1..r.len()).map(|i| Some(r.text(i).to_string())).collect();
            piece_text(r, |node| follow(node, &steps))
        })
        .rest(Text)],
    )
}

fn type_name<'a>(r: &Row<'a>) -> Result<Value<'a>> {
    Ok(tree::parse(r.text(0))?.type_name().into())
}

fn array_length<'a>(r: &Row<'a>) -> Result<Value<'a>> {
    match tree::parse(r.text(0))?.kind {
        Kind::Array(items) => Ok((items.len() as i64).into()),
        Kind::Object(_) => fail("22023", "cannot get array length of a non-array"),
        _ => fail("22023", "cannot get array length of a scalar"),
    }
}

fn has(node: &Node, key: &str) -> bool {
    let is = |node: &Node| matches!(&node.kind, Kind::Text(text) if text == key);
    match &node.kind {
        Kind::Object(_) => node.field(key).is_some(),
        Kind::Array(items) => items.iter().any(is),
        _ => is(node),
    }
}

fn elements<'a>(r: &Row<'a>, of: fn(&Node) -> Option<String>) -> Result<Value<'a>> {
    let text = document(r, 0)?;
    match tree::parse(&text)?.kind {
        Kind::Array(items) => Ok(Value::Texts(items.iter().map(|item| of(item).map(Cow::from)).collect())),
        Kind::Object(_) => fail("22023", "cannot extract elements from an object"),
        _ => fail("22023", "cannot extract elements from a scalar"),
    }
}

fn fields<'n, 'a>(r: &Row, node: &'n Node<'a>) -> Result<Vec<(&'n str, &'n Node<'a>)>> {
    match &node.kind {
        Kind::Object(fields) => Ok(fields.iter().map(|(key, value)| (key.as_ref(), value)).collect()),
        _ if matches!(r.name, "mr_jsonb_each_keys" | "mr_jsonb_values" | "mr_jsonb_values_text") => {
            fail("22023", "cannot call jsonb_each on a non-object")
        }
        Kind::Array(_) if r.name.ends_with("_keys") => fail("22023", "cannot call jsonb_object_keys on an array"),
        Kind::Array(_) => fail("22023", "cannot deconstruct an array as an object"),
        _ if r.name.ends_with("_keys") => fail("22023", "cannot call jsonb_object_keys on a scalar"),
        _ => fail("22023", "cannot deconstruct a scalar"),
    }
}

fn keys<'a>(r: &Row<'a>) -> Result<Value<'a>> {
    let text = document(r, 0)?;
    let node = tree::parse(&text)?;
    Ok(Value::Texts(fields(r, &node)?.into_iter().map(|(key, _)| Some(key.to_string().into())).collect()))
}

fn values<'a>(r: &Row<'a>, of: fn(&Node) -> Option<String>) -> Result<Value<'a>> {
    let text = document(r, 0)?;
    let node = tree::parse(&text)?;
    Ok(Value::Texts(fields(r, &node)?.into_iter().map(|(_, value)| of(value).map(Cow::from)).collect()))
}

/// The fields of an object from `{key, value, key, value}`.
fn pairs(r: &Row) -> Result<Vec<(String, String)>> {
    let texts = r.texts(0);
    if texts.len() % 2 == 1 {
        return fail("2202E", "array must have even number of elements");
    }
    texts.chunks(2).map(|pair| field(&pair[0], &pair[1])).collect()
}

fn zipped(r: &Row) -> Result<Vec<(String, String)>> {
    let (keys, values) = (r.texts(0), r.items(1));
    if keys.len() != values.len() {
        return fail("2202E", "mismatched array dimensions");
    }
    let values = values.as_string::<i32>().iter().map(|value| value.map(str::to_string));
    keys.iter().zip(values).map(|(key, value)| field(key, &value)).collect()
}

/// As `json_object` writes it: all fields, in their order.
fn written(fields: Vec<(String, String)>) -> String {
    let fields: Vec<String> = fields.iter().map(|(key, value)| format!("{} : {value}", tree::quoted(key))).collect();
    format!("{{{}}}", fields.join(", "))
}

fn field(key: &Option<String>, value: &Option<String>) -> Result<(String, String)> {
    match key {
        Some(key) => Ok((key.clone(), value.as_deref().map_or("null".into(), tree::quoted))),
        None => fail("22004", "null value not allowed for object key"),
    }
}
