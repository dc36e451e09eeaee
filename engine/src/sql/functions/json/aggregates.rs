//! What `jsonb_agg` and `jsonb_object_agg` make of the array of their values, each value being JSON already (`calls.rs`).

use arrow::array::AsArray;
use datafusion::error::Result;

use super::build::{self, Form, key_text};
use super::tree::{self, Kind, quoted};
use crate::sql::functions::declared::Type::*;
use crate::sql::functions::declared::{Declared, Row, Value, fail, function, of};

pub fn all() -> Vec<Declared> {
    vec![
        function("mr_jsonb_join", &[of(&[Array("text")], Jsonb, |r| Ok(tree::array(values(r)).into()))]),
        function(
            "mr_json_join",
            &[of(&[Array("text")], Json, |r| {
                let mut out = String::from("[");
                for (i, value) in values(r).into_iter().enumerate() {
                    // Arrays and rows begin a line.
                    let line = value.starts_with(['[', '{']);
                    out.push_str(if i == 0 {
                        ""
                    } else if line {
                        ", \n "
                    } else {
                        ", "
                    });
                    out.push_str(&value);
                }
                Ok((out + "]").into())
            })],
        ),
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
