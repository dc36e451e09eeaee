//! A row's arguments as values, and a column of results from values.

use std::borrow::Cow;
use std::cell::OnceCell;
use std::rc::Rc;
use std::sync::Arc;

use arrow::array::*;
use arrow::compute::concat;
use arrow::datatypes::*;
use datafusion::error::{DataFusionError, Result};

use super::patterns::Pattern;
use super::{external, fail};
use crate::error::Error;
use crate::sql::bounds::Tally;
use crate::sql::text::{Style, value_to_text};

/// The arguments of one call.
pub struct Row<'a> {
    /// The function's.
    pub name: &'static str,
    /// A constant is an array of one.
    pub arrays: &'a [ArrayRef],
    pub fields: &'a [FieldRef],
    pub row: usize,
    pub style: &'a Style,
    /// The pattern of a call that has the same one for all rows.
    pub pattern: &'a OnceCell<Rc<Pattern>>,
}

impl<'a> Row<'a> {
    pub fn len(&self) -> usize {
        self.arrays.len()
    }
    /// Where the argument's value is in its array.
    pub fn place(&self, i: usize) -> usize {
        if self.arrays[i].len() == 1 { 0 } else { self.row }
    }
    /// Whether the arguments from there on are the same for all rows.
    pub fn is_constant_from(&self, i: usize) -> bool {
        self.arrays[i..].iter().all(|array| array.len() == 1)
    }
    pub fn is_null(&self, i: usize) -> bool {
        self.arrays.get(i).is_none_or(|array| array.is_null(self.place(i)))
    }
    pub fn boolean(&self, i: usize) -> bool {
        self.arrays[i].as_boolean().value(self.place(i))
    }
    pub fn integer(&self, i: usize) -> i64 {
        match self.arrays[i].data_type() {
            DataType::Int32 => self.arrays[i].as_primitive::<Int32Type>().value(self.place(i)).into(),
            _ => self.arrays[i].as_primitive::<Int64Type>().value(self.place(i)),
        }
    }
    /// An argument that may be left out.
    pub fn integer_or(&self, i: usize, otherwise: i64) -> i64 {
        if i < self.len() { self.integer(i) } else { otherwise }
    }
    pub fn double(&self, i: usize) -> f64 {
        self.arrays[i].as_primitive::<Float64Type>().value(self.place(i))
    }
    /// Its digits, and how many of them are after the point.
    pub fn numeric(&self, i: usize) -> (i128, i8) {
        let DataType::Decimal128(_, scale) = *self.arrays[i].data_type() else { return (0, 0) };
        (self.arrays[i].as_primitive::<Decimal128Type>().value(self.place(i)), scale)
    }
    pub fn text(&self, i: usize) -> &'a str {
        self.arrays[i].as_string::<i32>().value(self.place(i))
    }
    pub fn text_or(&self, i: usize, otherwise: &'a str) -> &'a str {
        if i < self.len() { self.text(i) } else { otherwise }
    }
    pub fn bytes(&self, i: usize) -> &'a [u8] {
        self.arrays[i].as_binary::<i32>().value(self.place(i))
    }
    /// Days since 1970.
    pub fn date(&self, i: usize) -> i64 {
        self.arrays[i].as_primitive::<Date32Type>().value(self.place(i)).into()
    }
    /// Of a timestamp or a time.
    pub fn micros(&self, i: usize) -> i64 {
        match self.arrays[i].data_type() {
            DataType::Time64(_) => self.arrays[i].as_primitive::<Time64MicrosecondType>().value(self.place(i)),
            _ => self.arrays[i].as_primitive::<TimestampMicrosecondType>().value(self.place(i)),
        }
    }
    pub fn interval(&self, i: usize) -> IntervalMonthDayNano {
        self.arrays[i].as_primitive::<IntervalMonthDayNanoType>().value(self.place(i))
    }
    /// The items of an array.
    pub fn items(&self, i: usize) -> ArrayRef {
        self.arrays[i].as_list::<i32>().value(self.place(i))
    }
    /// The field of an array's items.
    pub fn item_field(&self, i: usize) -> FieldRef {
        match self.arrays[i].data_type() {
            DataType::List(item) => item.clone(),
            _ => Arc::new(Field::new_list_field(DataType::Utf8, true)),
        }
    }
    /// The items of an array of texts.
    pub fn texts(&self, i: usize) -> Vec<Option<String>> {
        self.items(i).as_string::<i32>().iter().map(|text| text.map(str::to_string)).collect()
    }
    /// One value, as an array of one.
    pub fn one(&self, i: usize) -> ArrayRef {
        self.arrays[i].slice(self.place(i), 1)
    }
    /// Any value as Postgres writes it to a client.
    pub fn written(&self, i: usize) -> Option<String> {
        value_to_text(
            &self.fields[i].as_ref().clone().with_data_type(self.arrays[i].data_type().clone()),
            &self.arrays[i],
            self.place(i),
            self.style,
        )
    }
}

/// One result; a text may be a part of an argument.
pub enum Value<'a> {
    Null,
    Boolean(bool),
    Integer(i64),
    Double(f64),
    /// At the result's scale.
    Numeric(i128),
    Text(Cow<'a, str>),
    Bytes(Vec<u8>),
    /// Days of a date, microseconds of a time or timestamp.
    Moment(i64),
    Interval(IntervalMonthDayNano),
    Texts(Vec<Option<Cow<'a, str>>>),
    /// The items of an array, or one value as an array of one.
    Items(ArrayRef),
}

impl From<String> for Value<'_> {
    fn from(text: String) -> Self {
        Value::Text(text.into())
    }
}
impl<'a> From<&'a str> for Value<'a> {
    fn from(text: &'a str) -> Self {
        Value::Text(text.into())
    }
}
impl From<Vec<Option<String>>> for Value<'_> {
    fn from(texts: Vec<Option<String>>) -> Self {
        Value::Texts(texts.into_iter().map(|text| text.map(Cow::from)).collect())
    }
}
impl From<bool> for Value<'_> {
    fn from(value: bool) -> Self {
        Value::Boolean(value)
    }
}
impl From<i64> for Value<'_> {
    fn from(value: i64) -> Self {
        Value::Integer(value)
    }
}
impl From<f64> for Value<'_> {
    fn from(value: f64) -> Self {
        Value::Double(value)
    }
}
impl<'a, T: Into<Value<'a>>> From<Option<T>> for Value<'a> {
    fn from(value: Option<T>) -> Self {
        value.map_or(Value::Null, Into::into)
    }
}

impl Value<'_> {
    /// What it takes beside itself.
    fn bytes(&self) -> usize {
        match self {
            Value::Text(text) => text.len(),
            Value::Bytes(bytes) => bytes.len(),
            Value::Texts(texts) => texts.iter().flatten().map(|text| text.len() + size_of::<Option<String>>()).sum(),
            Value::Items(items) => items.to_data().get_slice_memory_size().unwrap_or(0),
            _ => 0,
        }
    }
}

/// The column of a type from its values.
pub fn collect<'a>(
    data_type: &DataType,
    values: impl Iterator<Item = Result<Value<'a>>>,
    tally: &mut Tally,
) -> Result<ArrayRef> {
    let values = values.map(|value| {
        let value = value?;
        tally.add(value.bytes())?;
        Ok(value)
    });
    // Texts go at once where they stay.
    if *data_type == DataType::Utf8 {
        let mut texts = StringBuilder::with_capacity(values.size_hint().0, 0);
        for value in values {
            match value? {
                Value::Null => texts.append_null(),
                Value::Text(text) => texts.append_value(text),
                Value::Items(one) if one.data_type() == data_type => {
                    texts.append_option(one.as_string::<i32>().iter().next().flatten())
                }
                _ => return wrong(data_type),
            }
        }
        return Ok(Arc::new(texts.finish()));
    }
    array_of(data_type, values.collect::<Result<Vec<_>>>()?)
}

fn array_of(data_type: &DataType, values: Vec<Value>) -> Result<ArrayRef> {
    use DataType as D;
    if !matches!(data_type, D::List(_)) && values.iter().any(|value| matches!(value, Value::Items(_))) {
        return ones(data_type, values);
    }
    let numbers = |values: Vec<Value>| -> Result<Int64Array> {
        let number = |value: Value| match value {
            Value::Null => Ok(None),
            Value::Integer(v) | Value::Moment(v) => Ok(Some(v)),
            _ => wrong(data_type),
        };
        values.into_iter().map(number).collect()
    };
    Ok(match data_type {
        D::Boolean => {
            let boolean = |value: Value| match value {
                Value::Null => Ok(None),
                Value::Boolean(v) => Ok(Some(v)),
                _ => wrong(data_type),
            };
            Arc::new(values.into_iter().map(boolean).collect::<Result<BooleanArray>>()?)
        }
        D::Int32 => {
            let narrow = |v: i64| i32::try_from(v).map_err(|_| external(Error::new("22003", "integer out of range")));
            Arc::new(numbers(values)?.try_unary::<_, Int32Type, _>(narrow)?)
        }
        D::Int64 => Arc::new(numbers(values)?),
        D::Float64 => {
            let double = |value: Value| match value {
                Value::Null => Ok(None),
                Value::Double(v) => Ok(Some(v)),
                _ => wrong(data_type),
            };
            Arc::new(values.into_iter().map(double).collect::<Result<Float64Array>>()?)
        }
        D::Decimal128(precision, scale) => {
            let limit = 10i128.pow((*precision).into());
            let numeric = |value: Value| match value {
                Value::Null => Ok(None),
                Value::Numeric(v) if v.abs() < limit => Ok(Some(v)),
                Value::Numeric(_) => fail("22003", "numeric field overflow"),
                _ => wrong(data_type),
            };
            let numerics = values.into_iter().map(numeric).collect::<Result<Decimal128Array>>()?;
            Arc::new(numerics.with_precision_and_scale(*precision, *scale)?)
        }
        D::Binary => {
            let bytes = |value: Value| match value {
                Value::Null => Ok(None),
                Value::Bytes(v) => Ok(Some(v)),
                _ => wrong(data_type),
            };
            Arc::new(
                values
                    .into_iter()
                    .map(bytes)
                    .collect::<Result<Vec<_>>>()?
                    .iter()
                    .map(|v| v.as_deref())
                    .collect::<BinaryArray>(),
            )
        }
        D::Date32 => {
            let day = |v: i64| i32::try_from(v).map_err(|_| external(Error::new("22008", "date out of range")));
            Arc::new(numbers(values)?.try_unary::<_, Date32Type, _>(day)?)
        }
        D::Time64(_) => Arc::new(numbers(values)?.unary::<_, Time64MicrosecondType>(|us| us)),
        D::Timestamp(..) => {
            let moments = numbers(values)?.unary::<_, TimestampMicrosecondType>(|us| us);
            Arc::new(moments.with_data_type(data_type.clone()))
        }
        D::Interval(_) => {
            let interval = |value: Value| match value {
                Value::Null => Ok(None),
                Value::Interval(v) => Ok(Some(v)),
                _ => wrong(data_type),
            };
            Arc::new(values.into_iter().map(interval).collect::<Result<IntervalMonthDayNanoArray>>()?)
        }
        D::List(item)
            if *item.data_type() == D::Utf8 && !values.iter().any(|value| matches!(value, Value::Items(_))) =>
        {
            let mut lists = ListBuilder::new(StringBuilder::new()).with_field(item.clone());
            for value in values {
                match value {
                    Value::Null => lists.append_null(),
                    Value::Texts(texts) => {
                        texts.iter().for_each(|text| lists.values().append_option(text.as_deref()));
                        lists.append(true);
                    }
                    _ => return wrong(data_type),
                }
            }
            Arc::new(lists.finish())
        }
        D::List(item) => {
            let (mut lengths, mut items) = (Vec::new(), Vec::new());
            for value in values {
                let list: Option<ArrayRef> = match value {
                    Value::Null => None,
                    Value::Texts(texts) => Some(Arc::new(texts.into_iter().collect::<StringArray>())),
                    // One array, as an array of one.
                    Value::Items(one) if dimensions(one.data_type()) > dimensions(item.data_type()) => {
                        one.as_list::<i32>().iter().next().flatten()
                    }
                    Value::Items(list) => Some(list),
                    _ => return wrong(data_type),
                };
                lengths.push(list.as_ref().map(|list| list.len()));
                items.extend(list);
            }
            let nulls = lengths.iter().map(Option::is_some).collect::<Vec<_>>();
            let offsets = arrow::buffer::OffsetBuffer::from_lengths(lengths.iter().map(|length| length.unwrap_or(0)));
            let items = match items.is_empty() {
                true => new_empty_array(item.data_type()),
                false => concat(&items.iter().map(|list| list.as_ref()).collect::<Vec<_>>())?,
            };
            Arc::new(ListArray::try_new(item.clone(), offsets, items, Some(nulls.into()))?)
        }
        other => ones(other, values)?,
    })
}

fn dimensions(data_type: &DataType) -> usize {
    match data_type {
        DataType::List(item) => 1 + dimensions(item.data_type()),
        _ => 0,
    }
}

/// Of values of any type, each an array of one.
fn ones(data_type: &DataType, values: Vec<Value>) -> Result<ArrayRef> {
    let ones = values.into_iter().map(|value| match value {
        Value::Null => Ok(new_null_array(data_type, 1)),
        Value::Items(one) => Ok(one),
        _ => wrong(data_type),
    });
    let ones = ones.collect::<Result<Vec<ArrayRef>>>()?;
    match ones.is_empty() {
        true => Ok(new_empty_array(data_type)),
        false => Ok(concat(&ones.iter().map(|one| one.as_ref()).collect::<Vec<_>>())?),
    }
}

fn wrong<T>(data_type: &DataType) -> Result<T> {
    Err(DataFusionError::Internal(format!("a result is no {data_type}")))
}
