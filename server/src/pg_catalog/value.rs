//! One value of a system relation or a catalog function, and its way into and out of Arrow.
//!
//! Catalogs are small and irregular, so their functions work a value at a time: every integer is an
//! `Int`, every text a `Text`. Nothing here runs on the path of a user's data.

use std::sync::Arc;

use arrow::array::*;
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::datatypes::DataType;
use datafusion::common::{Result, ScalarValue, exec_err};

#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(String),
    List(Vec<Value>),
    /// Anything that the catalogs only pass on.
    Other(ScalarValue),
}

impl Value {
    pub fn int(&self) -> Option<i64> {
        match self {
            Value::Int(i) => Some(*i),
            // A literal of unknown type, as in `pg_get_userbyid('10')`.
            Value::Text(t) => t.trim().parse().ok(),
            _ => None,
        }
    }
    pub fn oid(&self) -> Option<u32> {
        self.int().and_then(|i| u32::try_from(i).ok())
    }
    pub fn text(&self) -> Option<&str> {
        match self {
            Value::Text(t) => Some(t),
            _ => None,
        }
    }
    pub fn list(&self) -> Option<&[Value]> {
        match self {
            Value::List(l) => Some(l),
            _ => None,
        }
    }
    /// As Postgres prints it; None for NULL.
    pub fn print(&self) -> Option<String> {
        Some(match self {
            Value::Null => return None,
            Value::Bool(b) => (if *b { "t" } else { "f" }).into(),
            Value::Int(i) => i.to_string(),
            Value::Float(f) => f.to_string(),
            Value::Text(t) => t.clone(),
            Value::List(l) => print_array(l),
            Value::Other(s) => s.to_string(),
        })
    }
}

/// `{a,"b c",NULL}`.
fn print_array(items: &[Value]) -> String {
    let quote = |t: String, nested: bool| {
        let plain = nested
            || !(t.is_empty()
                || t.eq_ignore_ascii_case("null")
                || t.contains(|c: char| c.is_whitespace() || "{}\",\\".contains(c)));
        if plain { t } else { format!("\"{}\"", t.replace('\\', "\\\\").replace('"', "\\\"")) }
    };
    let items: Vec<String> = items
        .iter()
        .map(|v| v.print().map_or_else(|| "NULL".to_string(), |t| quote(t, matches!(v, Value::List(_)))))
        .collect();
    format!("{{{}}}", items.join(","))
}

impl From<bool> for Value {
    fn from(v: bool) -> Self {
        Value::Bool(v)
    }
}
impl From<i64> for Value {
    fn from(v: i64) -> Self {
        Value::Int(v)
    }
}
impl From<i32> for Value {
    fn from(v: i32) -> Self {
        Value::Int(v.into())
    }
}
impl From<u32> for Value {
    fn from(v: u32) -> Self {
        Value::Int(v.into())
    }
}
impl From<&str> for Value {
    fn from(v: &str) -> Self {
        Value::Text(v.to_string())
    }
}
impl From<String> for Value {
    fn from(v: String) -> Self {
        Value::Text(v)
    }
}
impl<T: Into<Value>> From<Option<T>> for Value {
    fn from(v: Option<T>) -> Self {
        v.map_or(Value::Null, Into::into)
    }
}
impl<T: Into<Value>> From<Vec<T>> for Value {
    fn from(v: Vec<T>) -> Self {
        Value::List(v.into_iter().map(Into::into).collect())
    }
}

impl From<ScalarValue> for Value {
    fn from(scalar: ScalarValue) -> Self {
        if scalar.is_null() {
            return Value::Null;
        }
        match scalar {
            ScalarValue::Boolean(Some(b)) => Value::Bool(b),
            ScalarValue::Int8(Some(i)) => Value::Int(i.into()),
            ScalarValue::Int16(Some(i)) => Value::Int(i.into()),
            ScalarValue::Int32(Some(i)) => Value::Int(i.into()),
            ScalarValue::Int64(Some(i)) => Value::Int(i),
            ScalarValue::UInt8(Some(i)) => Value::Int(i.into()),
            ScalarValue::UInt16(Some(i)) => Value::Int(i.into()),
            ScalarValue::UInt32(Some(i)) => Value::Int(i.into()),
            ScalarValue::UInt64(Some(i)) => Value::Int(i as i64),
            ScalarValue::Float32(Some(f)) => Value::Float(f.into()),
            ScalarValue::Float64(Some(f)) => Value::Float(f),
            ScalarValue::Utf8(Some(t)) | ScalarValue::LargeUtf8(Some(t)) | ScalarValue::Utf8View(Some(t)) => {
                Value::Text(t)
            }
            ScalarValue::List(l) => Value::List(elements(&l.value(0))),
            ScalarValue::LargeList(l) => Value::List(elements(&l.value(0))),
            ScalarValue::FixedSizeList(l) => Value::List(elements(&l.value(0))),
            ScalarValue::Dictionary(_, v) => Value::from(*v),
            other => Value::Other(other),
        }
    }
}

fn elements(array: &ArrayRef) -> Vec<Value> {
    (0..array.len()).map(|i| value_at(array, i)).collect()
}

pub fn value_at(array: &ArrayRef, row: usize) -> Value {
    ScalarValue::try_from_array(array, row).map_or(Value::Null, Value::from)
}

/// The values as an Arrow array of `data_type`, one of those that [`super::types::carrier`] gives.
pub fn array_of(data_type: &DataType, values: Vec<Value>) -> Result<ArrayRef> {
    let n = values.len();
    Ok(match data_type {
        DataType::Boolean => {
            let bools = values.iter().map(|v| match v {
                Value::Bool(b) => Some(*b),
                _ => None,
            });
            Arc::new(bools.collect::<BooleanArray>())
        }
        DataType::Int16 => Arc::new(values.iter().map(|v| v.int().map(|i| i as i16)).collect::<Int16Array>()),
        DataType::Int32 => Arc::new(values.iter().map(|v| v.int().map(|i| i as i32)).collect::<Int32Array>()),
        DataType::Int64 => Arc::new(values.iter().map(Value::int).collect::<Int64Array>()),
        DataType::UInt32 => Arc::new(values.iter().map(|v| v.int().map(|i| i as u32)).collect::<UInt32Array>()),
        DataType::Float32 => Arc::new(values.iter().map(|v| float(v).map(|f| f as f32)).collect::<Float32Array>()),
        DataType::Float64 => Arc::new(values.iter().map(float).collect::<Float64Array>()),
        DataType::Timestamp(_, zone) => {
            let array: TimestampMicrosecondArray = values.iter().map(Value::int).collect();
            Arc::new(array.with_timezone_opt(zone.clone()))
        }
        DataType::Utf8 => Arc::new(values.iter().map(Value::print).collect::<StringArray>()),
        DataType::Binary => Arc::new(BinaryArray::from_iter(values.iter().map(|_| None::<&[u8]>))),
        DataType::List(element) => {
            let lengths: Vec<usize> = values.iter().map(|v| v.list().map_or(0, <[Value]>::len)).collect();
            let valid: Vec<bool> = values.iter().map(|v| matches!(v, Value::List(_))).collect();
            let inner: Vec<Value> = values
                .into_iter()
                .filter_map(|v| if let Value::List(l) = v { Some(l) } else { None })
                .flatten()
                .collect();
            let inner = array_of(element.data_type(), inner)?;
            let nulls = valid.contains(&false).then(|| NullBuffer::from(valid));
            Arc::new(ListArray::new(element.clone(), OffsetBuffer::from_lengths(lengths), inner, nulls))
        }
        DataType::Struct(fields) => {
            let mut columns: Vec<Vec<Value>> = fields.iter().map(|_| Vec::with_capacity(n)).collect();
            for value in &values {
                for (i, column) in columns.iter_mut().enumerate() {
                    column.push(value.list().map_or(Value::Null, |l| l[i].clone()));
                }
            }
            let columns: Result<Vec<ArrayRef>> =
                fields.iter().zip(columns).map(|(f, c)| array_of(f.data_type(), c)).collect();
            Arc::new(StructArray::new(fields.clone(), columns?, None))
        }
        DataType::Null => Arc::new(NullArray::new(n)),
        other => {
            let scalars: Result<Vec<ScalarValue>> = values.into_iter().map(|v| scalar(v, other)).collect();
            ScalarValue::iter_to_array(scalars?)?
        }
    })
}

/// A value of a type that no system relation has but a user's array may.
fn scalar(value: Value, data_type: &DataType) -> Result<ScalarValue> {
    match value {
        Value::Null => ScalarValue::try_from(data_type),
        Value::Bool(b) => ScalarValue::from(b).cast_to(data_type),
        Value::Int(i) => ScalarValue::from(i).cast_to(data_type),
        Value::Float(f) => ScalarValue::from(f).cast_to(data_type),
        Value::Text(t) => ScalarValue::from(t).cast_to(data_type),
        Value::Other(s) => s.cast_to(data_type),
        Value::List(_) => exec_err!("an array where {data_type} is expected"),
    }
}

fn float(value: &Value) -> Option<f64> {
    match value {
        Value::Float(f) => Some(*f),
        Value::Int(i) => Some(*i as f64),
        _ => None,
    }
}
