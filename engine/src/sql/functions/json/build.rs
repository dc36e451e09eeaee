//! SQL values as JSON: numbers and booleans as they are, json as it is, arrays and rows piece by piece, moments in ISO
//! 8601, and all else as a string of its text.

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{DataType, Field};
use datafusion::error::Result;

use super::tree::{self, quoted};
use crate::sql::bounds::check_value;
use crate::sql::functions::declared::{Row, Value, fail};
use crate::sql::functions::named_row::NAMED;
use crate::sql::text::{Style, value_to_text};
use crate::sql::types::{sql_type_of, with_sql_type};

/// What is between the pieces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// `{"a": 1, "b": [1, 2]}`, keys in order
    Jsonb,
    /// `{"a":1,"b":[1,2]}`, keys as they come
    Json,
}

pub fn value(field: &Field, array: &ArrayRef, row: usize, form: Form, style: &Style) -> Result<String> {
    if array.is_null(row) || *array.data_type() == DataType::Null {
        return Ok("null".into());
    }
    let text = || value_to_text(field, array, row, style).unwrap_or_default();
    Ok(match array.data_type() {
        DataType::Boolean => array.as_boolean().value(row).to_string(),
        DataType::Float32 | DataType::Float64 => {
            let text = text();
            if text.parse::<f64>().is_ok_and(f64::is_finite) { number(text, form)? } else { quoted(&text) }
        }
        t if t.is_numeric() => text(),
        DataType::List(item) => {
            // The type of the items is told by that of the array.
            let tagged = sql_type_of(field).strip_suffix("[]").map(|of| with_sql_type(item.as_ref().clone(), of));
            let item = tagged.as_ref().unwrap_or(item);
            let items = array.as_list::<i32>().value(row);
            let pieces = (0..items.len()).map(|i| value(item, &items, i, form, style)).collect::<Result<Vec<_>>>()?;
            format!("[{}]", pieces.join(if form == Form::Jsonb { ", " } else { "," }))
        }
        DataType::Struct(fields) => {
            let columns = array.as_struct();
            let mut pieces = Vec::new();
            for (i, field) in fields.iter().enumerate() {
                // The fields of ROW(…) are called c0, c1 by DataFusion, f1, f2 by Postgres.
                let unnamed = !field.metadata().contains_key(NAMED)
                    && field.name().strip_prefix('c').is_some_and(|n| n.parse() == Ok(i));
                let name = if unnamed { format!("f{}", i + 1) } else { field.name().clone() };
                pieces.push((name, value(field, columns.column(i), row, form, style)?));
            }
            of_fields(pieces, form)
        }
        DataType::Timestamp(_, zone) => {
            let text = text().replacen(' ', "T", 1);
            // An offset has its minutes.
            let hours = zone.is_some() && text.rfind(['+', '-']).is_some_and(|at| at + 3 == text.len());
            quoted(&if hours { text + ":00" } else { text })
        }
        _ => match (sql_type_of(&field.clone().with_data_type(array.data_type().clone())).as_str(), form) {
            ("jsonb", _) | ("json", Form::Json) => text(),
            ("json", Form::Jsonb) => tree::normal(&text())?,
            _ => quoted(&text()),
        },
    })
}

/// A row from its fields.
fn of_fields(fields: Vec<(String, String)>, form: Form) -> String {
    match form {
        Form::Jsonb => tree::object(fields),
        Form::Json => {
            let fields: Vec<String> = fields.iter().map(|(key, value)| format!("{}:{value}", quoted(key))).collect();
            format!("{{{}}}", fields.join(","))
        }
    }
}

/// Without an exponent in jsonb.
fn number(text: String, form: Form) -> Result<String> {
    match form {
        Form::Jsonb => tree::normal(&text),
        Form::Json => Ok(text),
    }
}

/// An argument as JSON.
pub fn argument(r: &Row, i: usize, form: Form) -> Result<String> {
    value(&r.fields[i], &r.arrays[i], r.place(i), form, r.style)
}

/// An argument as the key of an object.
pub fn key(r: &Row, i: usize) -> Result<String> {
    key_text(&r.fields[i], &r.arrays[i], r.place(i), r.style)
}

pub fn key_text(field: &Field, array: &ArrayRef, row: usize, style: &Style) -> Result<String> {
    match (array.data_type(), value_to_text(field, array, row, style)) {
        (_, None) => fail("22023", "null value not allowed for object key"),
        (DataType::Boolean, Some(_)) => Ok(array.as_boolean().value(row).to_string()),
        (DataType::List(_) | DataType::Struct(_), _) => {
            fail("22023", "key value must be scalar, not array, composite, or json")
        }
        (_, Some(text)) => Ok(text),
    }
}

pub fn build_object<'a>(r: &Row<'a>, form: Form) -> Result<Value<'a>> {
    object_of(r.len(), form, |i| if r.is_null(i) { Ok(None) } else { key(r, i).map(Some) }, |i| argument(r, i, form))
}

/// An object of keys, at even places from 0, and the values behind them.
fn object_of<'a>(
    count: usize,
    form: Form,
    key: impl Fn(usize) -> Result<Option<String>>,
    value: impl Fn(usize) -> Result<String>,
) -> Result<Value<'a>> {
    if count % 2 == 1 {
        return fail("22023", "argument list must have even number of elements");
    }
    let (mut fields, mut bytes) = (Vec::new(), 0);
    for i in (0..count).step_by(2) {
        let key = match (key(i)?, form) {
            (Some(key), _) => key,
            (None, Form::Jsonb) => return fail("22023", format!("argument {}: key must not be null", i + 1)),
            (None, Form::Json) => return fail("22023", "null value not allowed for object key"),
        };
        let value = value(i + 1)?;
        bytes += key.len() + value.len();
        check_value(bytes)?;
        fields.push((key, value));
    }
    Ok(match form {
        Form::Jsonb => tree::object(fields),
        Form::Json => {
            let fields: Vec<String> = fields.iter().map(|(key, value)| format!("{} : {value}", quoted(key))).collect();
            format!("{{{}}}", fields.join(", "))
        }
    }
    .into())
}

/// An item's field, which the type of the array may tell more of.
fn field_of_items(r: &Row) -> Field {
    let item = r.item_field(0);
    match sql_type_of(&r.fields[0]).strip_suffix("[]") {
        Some(of) => with_sql_type(item.as_ref().clone(), of),
        None => item.as_ref().clone(),
    }
}

/// The same of the items of an array.
pub fn object_of_items<'a>(r: &Row<'a>, form: Form) -> Result<Value<'a>> {
    let (items, field) = (r.items(0), field_of_items(r));
    let key = |i| if items.is_null(i) { Ok(None) } else { key_text(&field, &items, i, r.style).map(Some) };
    object_of(items.len(), form, key, |i| value(&field, &items, i, form, r.style))
}

/// `ROW(…)`, whose arguments tell their types.
pub fn build_row<'a>(r: &Row<'a>, form: Form) -> Result<Value<'a>> {
    let mut bytes = 0;
    let field = |i| {
        let value = argument(r, i, form)?;
        bytes += value.len();
        check_value(bytes)?;
        Ok((format!("f{}", i + 1), value))
    };
    let fields = (0..r.len()).map(field).collect::<Result<Vec<_>>>()?;
    Ok(of_fields(fields, form).into())
}

pub fn build_array<'a>(r: &Row<'a>, form: Form) -> Result<Value<'a>> {
    array_of(r.len(), |i| argument(r, i, form))
}

/// The same of the items of an array.
pub fn array_of_items<'a>(r: &Row<'a>, form: Form) -> Result<Value<'a>> {
    let (items, field) = (r.items(0), field_of_items(r));
    array_of(items.len(), |i| value(&field, &items, i, form, r.style))
}

fn array_of<'a>(count: usize, item: impl Fn(usize) -> Result<String>) -> Result<Value<'a>> {
    let mut bytes = 0;
    let item = |i| {
        let item = item(i)?;
        bytes += item.len();
        check_value(bytes)?;
        Ok(item)
    };
    let items = (0..count).map(item).collect::<Result<Vec<_>>>()?;
    Ok(tree::array(items).into())
}
