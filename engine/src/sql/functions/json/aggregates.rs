//! What `jsonb_agg` and `jsonb_object_agg` make of the array of their values, each value being JSON already (`calls.rs`).

use arrow::array::{Array as _, AsArray};
use arrow::datatypes::{DataType, Field};
use datafusion::error::Result;

use super::build::{self, Form, key_text};
use super::tree::{self, Kind, quoted};
use crate::sql::functions::declared::Type::*;
use crate::sql::functions::declared::{Declared, Row, Value, fail, function, of};
use crate::sql::types::{sql_type_of, with_sql_type};

pub fn all() -> Vec<Declared> {
    vec![
        function("mr_jsonb_join", &[of(&[Array("text")], Jsonb, |r| Ok(tree::array(values(r)).into()))]),
        function(
            "mr_json_join",
            &[of(&[Array("text")], Json, |r| {
                let mut out = String::from("[");
                for (i, value) in values(r).into_iter().enumerate() {
                    let (value, line) = value.strip_prefix(LINE).map_or((value.as_str(), false), |rest| (rest, true));
                    push_item(&mut out, i, value, line);
                }
                Ok((out + "]").into())
            })],
        ),
        function(
            "mr_json_item",
            &[of(&[Any], Text, |r| {
                let text = build::argument(r, 0, Form::Json)?;
                Ok(if begins_line(r.arrays[0].data_type()) { format!("{LINE}{text}").into() } else { text.into() })
            })],
        ),
        function(
            "mr_json_line",
            &[of(&[Any], Text, |r| Ok(format!("{LINE}{}", build::argument(r, 0, Form::Json)?).into()))],
        ),
        function("mr_json_items", &[of(&[Any], Json, |r| items(r).map(Value::from))]),
        function("mr_jsonb_pair", &[of(&[Any, Any], Text, |r| pair(r, Form::Jsonb)).nullable()]),
        function("mr_json_pair", &[of(&[Any, Any], Text, |r| pair(r, Form::Json)).nullable()]),
        function("mr_jsonb_object_join", &[of(&[Array("text")], Jsonb, |r| Ok(tree::object(pairs(r)?).into()))]),
        function(
            "mr_json_object_join",
            &[of(&[Array("text")], Json, |r| {
                let fields: Vec<String> =
                    pairs(r)?.iter().map(|(key, value)| format!("{} : {value}", quoted(key))).collect();
                Ok(format!("{{ {} }}", fields.join(", ")).into())
            })],
        ),
    ]
}

/// Before a value of `json_agg` that begins a line: nothing that JSON begins with.
const LINE: char = '\u{1}';

/// Arrays and rows do, but not what is JSON already.
fn begins_line(data_type: &DataType) -> bool {
    matches!(data_type, DataType::List(_) | DataType::Struct(_))
}

fn push_item(out: &mut String, place: usize, value: &str, line: bool) {
    match place {
        0 => {}
        _ if line => out.push_str(", \n "),
        _ => out.push_str(", "),
    }
    out.push_str(value);
}

/// The items of an array as `json_agg` writes them.
fn items(r: &Row) -> Result<String> {
    let items = r.items(0);
    let item = match r.arrays[0].data_type() {
        DataType::List(item) => item.as_ref().clone(),
        other => Field::new("", other.clone(), true),
    };
    let item = match sql_type_of(&r.fields[0]).strip_suffix("[]") {
        Some(of) => with_sql_type(item, of),
        None => item,
    };
    let line = begins_line(items.data_type());
    let mut out = String::from("[");
    for i in 0..items.len() {
        let value = build::value(&item, &items, i, Form::Json, r.style)?;
        push_item(&mut out, i, &value, line && items.is_valid(i));
    }
    Ok(out + "]")
}

/// The values of an array, where NULL is null.
fn values(r: &Row) -> Vec<String> {
    let items = r.items(0);
    items.as_string::<i32>().iter().map(|value| value.unwrap_or("null").to_string()).collect()
}

/// A key and a value as a JSON array of the two.
fn pair<'a>(r: &Row<'a>, form: Form) -> Result<Value<'a>> {
    if r.is_null(0) {
        return fail("22023", "field name must not be null");
    }
    let key = key_text(&r.fields[0], &r.arrays[0], r.place(0), r.style)?;
    Ok(format!("[{}, {}]", quoted(&key), build::argument(r, 1, form)?).into())
}

fn pairs(r: &Row) -> Result<Vec<(String, String)>> {
    let mut pairs = Vec::new();
    for text in r.texts(0).into_iter().flatten() {
        if let Kind::Array(items) = tree::parse(&text)?.kind
            && let [key, value] = items.as_slice()
        {
            pairs.push((key.as_text().unwrap_or_default(), value.raw.to_string()));
        }
    }
    Ok(pairs)
}
