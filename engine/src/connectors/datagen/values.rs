//! The values of one column: what its options and type ask for, as Arrow arrays.
//!
//! | property              | for                       | means                                                |
//! | --------------------- | ------------------------- | ---------------------------------------------------- |
//! | `kind`                | numbers, times, text      | `random` (default) or `sequence`                     |
//! | `start`, `step`, `end`| sequences                 | from `start` (0) by `step` (1; a second; a day)      |
//! | `min`, `max`          | numbers, times, intervals | both inclusive; numbers default to 0 and 1000        |
//! | `max_past`            | dates, timestamps         | up to this long before the row is due (default: 0)   |
//! | `length`              | text, bytea, arrays       | characters (10), bytes (10), elements (3)            |
//! | `choices`             | all but arrays, records   | one of these, divided by commas                      |
//! | `null_ratio`          | all                       | how many of 1 are NULL (0)                           |
//!
//! An array's elements take theirs as `fields.<column>._.min`, a record's fields as `fields.<column>.<field>.min`.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::*;
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::compute::{cast, nullif, take};
use arrow::datatypes::*;

use crate::connectors::options::{self, Options};
use crate::connectors::random::Random;
use crate::error::{Error, Result};
use crate::sql::types::{TYPE_KEY, is_read, sql_type_of_arrow};

pub const PROPERTIES: &[&str] =
    &["kind", "start", "step", "end", "min", "max", "max_past", "length", "choices", "null_ratio"];

const DAY_US: i128 = 86_400_000_000;

/// A property as we spell it: Flink writes `max-past` and `null-rate`.
pub fn canonical(property: &str) -> String {
    let property = property.replace('-', "_");
    match property.strip_suffix("null_rate") {
        Some(nested) => format!("{nested}null_ratio"),
        None => property,
    }
}

/// Which rows to make: as many as there are in `due_us`, which has the moment at which each is due.
pub struct Place<'a> {
    pub seed: u64,
    pub first_row: u64,
    pub due_us: &'a [i64],
}

pub struct Values {
    data_type: DataType,
    kind: Kind,
    null_ratio: f64,
    /// Tells this column's random numbers from those of others.
    stream: u64,
}

/// Numbers, and dates and times, which are numbers, in the units that Arrow stores.
enum Kind {
    Sequence { start: i128, step: i128, end: Option<i128> },
    Choices(ArrayRef),
    Between { min: i128, max: i128 },
    Floats { min: f64, max: f64 },
    Past { max_us: i128 },
    Boolean,
    Text { length: usize },
    Bytes { length: usize },
    Uuid,
    Json,
    List { length: usize, element: Box<Values> },
    Record(Vec<Values>),
}

impl Values {
    pub fn new(field: &Field, stream: u64, given: Options) -> Result<Self> {
        let tag = field.metadata().get(TYPE_KEY).map_or("", String::as_str);
        let mut given = Given { column: field.name().clone(), properties: given };
        let null_ratio = given.null_ratio(field.is_nullable())?;
        let kind = given.kind(field.data_type(), tag, stream)?;
        given.nothing_left(field.data_type())?;
        Ok(Values { data_type: field.data_type().clone(), kind, null_ratio, stream })
    }

    /// How many rows there are before a sequence ends; `None` without end.
    pub fn rows_max(&self) -> Option<u64> {
        match self.kind {
            Kind::Sequence { start, step, end: Some(end) } => Some(((end - start) / step + 1).max(0) as u64),
            _ => None,
        }
    }

    pub fn array(&self, place: &Place) -> ArrayRef {
        let array = self.values(place);
        if self.null_ratio == 0.0 {
            return array;
        }
        let nulls: BooleanArray =
            place.rows().map(|row| Some(Random::at(place.seed, !self.stream, row).unit() < self.null_ratio)).collect();
        match &self.data_type {
            // `nullif` leaves nested types alone.
            DataType::List(_) | DataType::Struct(_) => with_nulls(&array, &nulls),
            _ => nullif(&array, &nulls).expect("one flag per row"),
        }
    }

    fn values(&self, place: &Place) -> ArrayRef {
        let randoms = || place.rows().map(|row| Random::at(place.seed, self.stream, row));
        match &self.kind {
            Kind::Sequence { start, step, .. } => {
                numbers(&self.data_type, place.rows().map(|row| start + step * i128::from(row)))
            }
            Kind::Choices(choices) => {
                let picks = UInt64Array::from_iter_values(randoms().map(|mut r| r.below(choices.len() as u64)));
                take(choices, &picks, None).expect("picks are among the choices")
            }
            Kind::Between { min, max } => numbers(&self.data_type, randoms().map(|mut r| r.between(*min, *max))),
            Kind::Floats { min, max } => {
                let floats = Float64Array::from_iter_values(randoms().map(|mut r| min + (max - min) * r.unit()));
                cast(&floats, &self.data_type).expect("a float")
            }
            Kind::Past { max_us } => {
                let times = randoms().zip(place.due_us).map(|(mut r, due)| i128::from(*due) - r.between(0, *max_us));
                match self.data_type {
                    DataType::Date32 => numbers(&self.data_type, times.map(|us| us.div_euclid(DAY_US))),
                    _ => numbers(&self.data_type, times),
                }
            }
            Kind::Boolean => Arc::new(randoms().map(|mut r| Some(r.next() >> 63 == 1)).collect::<BooleanArray>()),
            Kind::Text { length } => texts(randoms().map(|mut r| letters(&mut r, *length))),
            Kind::Bytes { length } => Arc::new(BinaryArray::from_iter_values(
                randoms().map(|mut r| (0..*length).map(|_| r.below(256) as u8).collect::<Vec<u8>>()),
            )),
            Kind::Uuid => texts(randoms().map(|mut r| {
                let bytes = (u128::from(r.next()) << 64) | u128::from(r.next());
                uuid::Builder::from_random_bytes(bytes.to_be_bytes()).into_uuid().to_string()
            })),
            Kind::Json => texts(place.rows().zip(randoms()).map(|(row, mut r)| {
                format!(r#"{{"id": {row}, "name": "{}", "value": {}}}"#, letters(&mut r, 5), r.below(1001))
            })),
            Kind::List { length, element } => list(&self.data_type, *length, element, place),
            Kind::Record(fields) => {
                let DataType::Struct(types) = &self.data_type else { unreachable!("records are structs") };
                let arrays = fields.iter().map(|field| field.array(place)).collect();
                Arc::new(StructArray::new(types.clone(), arrays, None))
            }
        }
    }
}

impl Place<'_> {
    fn rows(&self) -> std::ops::Range<u64> {
        self.first_row..self.first_row + self.due_us.len() as u64
    }
}

/// The options of one column, taken out as they are understood.
struct Given {
    column: String,
    properties: Options,
}

impl Given {
    fn take(&mut self, property: &str) -> Option<String> {
        self.properties.remove(property)
    }
    fn option(&self, property: &str) -> String {
        format!("fields.{}.{property}", self.column)
    }

    fn null_ratio(&mut self, nullable: bool) -> Result<f64> {
        let Some(text) = self.take("null_ratio") else { return Ok(0.0) };
        match text.trim().parse::<f64>() {
            Ok(ratio) if ratio > 0.0 && !nullable => Err(Error::invalid_value(format!(
                "column \"{}\" is NOT NULL and cannot have a null_ratio",
                self.column
            ))),
            Ok(ratio) if (0.0..=1.0).contains(&ratio) => Ok(ratio),
            _ => Err(options::invalid(&self.option("null_ratio"), &text).hint("A number from 0 to 1.")),
        }
    }

    fn kind(&mut self, data_type: &DataType, tag: &str, stream: u64) -> Result<Kind> {
        let nested = matches!(data_type, DataType::List(_) | DataType::Struct(_));
        let sequence = match self.take("kind").as_deref().map(str::trim) {
            None | Some("random") => false,
            Some("sequence") => true,
            Some(other) => return Err(options::invalid(&self.option("kind"), other).hint("One of random, sequence.")),
        };
        if sequence {
            return self.sequence(data_type, tag);
        }
        if !nested && let Some(text) = self.take("choices") {
            let texts: Vec<&str> = text.split(',').map(str::trim).collect();
            let choices = options::parse(&texts, data_type)
                .map_err(|e| options::invalid(&self.option("choices"), &text).detail(e.message))?;
            return Ok(Kind::Choices(choices));
        }
        match data_type {
            DataType::Boolean => Ok(Kind::Boolean),
            DataType::Int16 => self.between(data_type, i16::MAX.into()),
            DataType::Int32 => self.between(data_type, i32::MAX.into()),
            DataType::Int64 => self.between(data_type, i64::MAX.into()),
            DataType::Decimal128(precision, _) => self.between(data_type, 10i128.pow((*precision).into()) - 1),
            DataType::Float32 | DataType::Float64 => self.floats(),
            DataType::Date32 | DataType::Timestamp(TimeUnit::Microsecond, _) => self.moments(data_type),
            DataType::Time64(TimeUnit::Microsecond) => {
                let min = self.number("min", data_type)?.unwrap_or(0);
                let max = self.number("max", data_type)?.unwrap_or(DAY_US - 1);
                self.ordered(min, max)
            }
            DataType::Interval(IntervalUnit::MonthDayNano) => {
                let min = self.duration("min")?.unwrap_or(0);
                let max = self.duration("max")?.unwrap_or(min.max(DAY_US));
                self.ordered(min, max)
            }
            DataType::Binary => Ok(Kind::Bytes { length: self.length(10)? }),
            DataType::Utf8 if tag == "uuid" => Ok(Kind::Uuid),
            DataType::Utf8 if tag == "json" || tag == "jsonb" => Ok(Kind::Json),
            DataType::Utf8 if is_read(tag) => Err(Error::unsupported("a datagen column of an enum")),
            DataType::Utf8 => self.text(tag),
            DataType::List(item) => {
                let length = self.length(3)?;
                // The element's SQL type is told by the array's.
                let tag = tag.strip_suffix("[]").map(|tag| (TYPE_KEY.to_string(), tag.to_string()));
                let item = item.as_ref().clone().with_metadata(tag.into_iter().collect());
                let element = Box::new(Values::new(&item, stream ^ 1 << 32, self.nested("_"))?);
                match element.kind {
                    Kind::Sequence { .. } => Err(Error::unsupported("a sequence within an array")),
                    _ => Ok(Kind::List { length, element }),
                }
            }
            DataType::Struct(fields) => {
                let fields = fields
                    .iter()
                    .zip(1u64..)
                    .map(|(field, index)| Values::new(field, stream ^ index << 40, self.nested(field.name())));
                fields.collect::<Result<_>>().map(Kind::Record)
            }
            other => Err(Error::unsupported(format!("a datagen column of type {}", sql_type_of_arrow(other)))),
        }
    }

    fn sequence(&mut self, data_type: &DataType, tag: &str) -> Result<Kind> {
        // Text and floats count in whole numbers.
        let (counted, step) = match data_type {
            DataType::Utf8 if tag.is_empty() || tag.starts_with("char") => (DataType::Int64, 1),
            DataType::Float32 | DataType::Float64 => (DataType::Int64, 1),
            DataType::Int16 | DataType::Int32 | DataType::Int64 | DataType::Date32 => (data_type.clone(), 1),
            DataType::Decimal128(_, scale) => (data_type.clone(), 10i128.pow(*scale as u32)),
            DataType::Timestamp(TimeUnit::Microsecond, _) => (data_type.clone(), 1_000_000),
            other => {
                let sql_type = if tag.is_empty() { sql_type_of_arrow(other) } else { tag.to_string() };
                let message = format!("column \"{}\" of type {sql_type} cannot be a sequence", self.column);
                return Err(Error::invalid_value(message));
            }
        };
        let start = self.number("start", &counted)?.unwrap_or(0);
        let end = self.number("end", &counted)?;
        let step = match data_type {
            DataType::Timestamp(..) => self.duration("step")?,
            DataType::Date32 => self.duration("step")?.map(|us| us / DAY_US),
            _ => self.number("step", &counted)?,
        }
        .unwrap_or(step);
        match step {
            1.. => Ok(Kind::Sequence { start, step, end }),
            _ => Err(Error::invalid_value(format!("option \"{}\" must be positive", self.option("step")))),
        }
    }

    fn between(&mut self, data_type: &DataType, type_max: i128) -> Result<Kind> {
        let thousand = match data_type {
            DataType::Decimal128(_, scale) => 1000 * 10i128.pow(*scale as u32),
            _ => 1000,
        };
        let (min, max) = (self.number("min", data_type)?, self.number("max", data_type)?);
        let min = min.unwrap_or(max.unwrap_or(0).min(0));
        let max = max.unwrap_or(min.max(0).saturating_add(thousand).min(type_max));
        self.ordered(min, max)
    }

    fn floats(&mut self) -> Result<Kind> {
        let mut float = |property: &str| -> Result<Option<f64>> {
            let Some(text) = self.take(property) else { return Ok(None) };
            match text.trim().parse::<f64>() {
                Ok(float) if float.is_finite() => Ok(Some(float)),
                _ => Err(options::invalid(&self.option(property), &text).hint("A number.")),
            }
        };
        let (min, max) = (float("min")?, float("max")?);
        let min = min.unwrap_or(max.unwrap_or(0.0).min(0.0));
        let max = max.unwrap_or(min.max(0.0) + 1000.0);
        if min > max {
            return Err(self.reversed());
        }
        Ok(Kind::Floats { min, max })
    }

    fn moments(&mut self, data_type: &DataType) -> Result<Kind> {
        match (self.number("min", data_type)?, self.number("max", data_type)?) {
            (Some(min), Some(max)) => self.ordered(min, max),
            (None, None) => match self.duration("max_past")?.unwrap_or(0) {
                max_us @ 0.. => Ok(Kind::Past { max_us }),
                _ => Err(Error::invalid_value(format!("option \"{}\" must not be negative", self.option("max_past")))),
            },
            _ => {
                Err(Error::invalid_value(format!("column \"{}\" must have both min and max, or neither", self.column)))
            }
        }
    }

    fn text(&mut self, tag: &str) -> Result<Kind> {
        let declared = crate::sql::types::character_length_of(tag);
        let length = self.length(declared.map_or(10, |n| n.min(10)))?;
        if declared.is_some_and(|n| length > n) {
            return Err(Error::invalid_value(format!(
                "option \"{}\" is longer than type {tag}",
                self.option("length")
            )));
        }
        Ok(Kind::Text { length })
    }

    fn ordered(&self, min: i128, max: i128) -> Result<Kind> {
        if min > max {
            return Err(self.reversed());
        }
        Ok(Kind::Between { min, max })
    }

    fn reversed(&self) -> Error {
        Error::invalid_value(format!("option \"{}\" is above \"{}\"", self.option("min"), self.option("max")))
    }

    fn length(&mut self, default: usize) -> Result<usize> {
        const LENGTH_MAX: u64 = 1 << 20;
        let name = self.option("length");
        let Some(text) = self.take("length") else { return Ok(default) };
        match options::whole(&BTreeMap::from([(name.clone(), text.clone())]), &name)? {
            Some(length @ 0..=LENGTH_MAX) => Ok(length as usize),
            _ => Err(options::invalid(&name, &text).hint(format!("At most {LENGTH_MAX}."))),
        }
    }

    /// A value of the type, as the number that stores it.
    fn number(&mut self, property: &str, data_type: &DataType) -> Result<Option<i128>> {
        let Some(text) = self.take(property) else { return Ok(None) };
        let value = options::value(&self.option(property), &text, data_type)?;
        Ok(Some(match data_type {
            DataType::Decimal128(..) => value.as_primitive::<Decimal128Type>().value(0),
            DataType::Date32 => value.as_primitive::<Date32Type>().value(0).into(),
            _ => cast(&value, &DataType::Int64).map_err(Error::internal)?.as_primitive::<Int64Type>().value(0).into(),
        }))
    }

    fn duration(&mut self, property: &str) -> Result<Option<i128>> {
        let Some(text) = self.take(property) else { return Ok(None) };
        options::duration_us(&self.option(property), &text).map(|us| Some(us.into()))
    }

    /// The properties of an element or field.
    fn nested(&mut self, name: &str) -> Options {
        let prefix = format!("{name}.");
        let (inner, outer) =
            std::mem::take(&mut self.properties).into_iter().partition(|(key, _)| key.starts_with(&prefix));
        self.properties = outer;
        let inner: Options = inner;
        inner.into_iter().map(|(key, value)| (key[prefix.len()..].to_string(), value)).collect()
    }

    fn nothing_left(&self, data_type: &DataType) -> Result<()> {
        match self.properties.keys().next() {
            None => Ok(()),
            Some(property) => {
                let message = format!(
                    "option \"{}\" does not apply to a random column of type {}",
                    self.option(property),
                    sql_type_of_arrow(data_type)
                );
                let sequence = ["start", "end", "step"].contains(&property.as_str());
                Err(if sequence {
                    Error::invalid_value(message).hint(format!("Set {} = 'sequence'.", self.option("kind")))
                } else {
                    Error::invalid_value(message)
                })
            }
        }
    }
}

/// Numbers as the type stores them. They fit: `min`, `max` and `start` were parsed as of this type; a sequence
/// that runs past it saturates.
fn numbers(data_type: &DataType, values: impl Iterator<Item = i128>) -> ArrayRef {
    let longs = |values: &mut dyn Iterator<Item = i128>| -> Vec<i64> {
        values.map(|v| v.clamp(i64::MIN.into(), i64::MAX.into()) as i64).collect()
    };
    let mut values = values;
    match data_type {
        DataType::Int16 => {
            Arc::new(Int16Array::from_iter_values(values.map(|v| v.clamp(i16::MIN.into(), i16::MAX.into()) as i16)))
        }
        DataType::Int32 => {
            Arc::new(Int32Array::from_iter_values(values.map(|v| v.clamp(i32::MIN.into(), i32::MAX.into()) as i32)))
        }
        DataType::Int64 => Arc::new(Int64Array::from(longs(&mut values))),
        DataType::Float32 => Arc::new(Float32Array::from_iter_values(values.map(|v| v as f32))),
        DataType::Float64 => Arc::new(Float64Array::from_iter_values(values.map(|v| v as f64))),
        DataType::Decimal128(precision, scale) => {
            let limit = 10i128.pow((*precision).into()) - 1;
            let decimals = Decimal128Array::from_iter_values(values.map(|v| v.clamp(-limit, limit)));
            Arc::new(decimals.with_precision_and_scale(*precision, *scale).expect("a column's precision is valid"))
        }
        DataType::Date32 => {
            Arc::new(Date32Array::from_iter_values(values.map(|v| v.clamp(i32::MIN.into(), i32::MAX.into()) as i32)))
        }
        DataType::Time64(TimeUnit::Microsecond) => Arc::new(Time64MicrosecondArray::from(longs(&mut values))),
        DataType::Timestamp(TimeUnit::Microsecond, zone) => {
            Arc::new(TimestampMicrosecondArray::from(longs(&mut values)).with_timezone_opt(zone.clone()))
        }
        DataType::Interval(IntervalUnit::MonthDayNano) => Arc::new(IntervalMonthDayNanoArray::from_iter_values(
            values.map(|us| IntervalMonthDayNano::new(0, 0, (us as i64).saturating_mul(1000))),
        )),
        DataType::Utf8 => texts(values.map(|v| v.to_string())),
        other => unreachable!("{other} is not counted in numbers"),
    }
}

fn texts(values: impl Iterator<Item = String>) -> ArrayRef {
    Arc::new(StringArray::from_iter_values(values))
}

fn letters(random: &mut Random, length: usize) -> String {
    (0..length).map(|_| char::from(b'a' + random.below(26) as u8)).collect()
}

/// Element *j* of row *i* is made as row *i* × length + *j* of the elements.
fn list(data_type: &DataType, length: usize, element: &Values, place: &Place) -> ArrayRef {
    let DataType::List(item) = data_type else { unreachable!("only lists have elements") };
    let due_us: Vec<i64> = place.due_us.iter().flat_map(|due| std::iter::repeat_n(*due, length)).collect();
    let elements =
        element.array(&Place { seed: place.seed, first_row: place.first_row * length as u64, due_us: &due_us });
    let offsets = OffsetBuffer::from_lengths(place.due_us.iter().map(|_| length));
    Arc::new(ListArray::new(item.clone(), offsets, elements, None))
}

fn with_nulls(array: &ArrayRef, nulls: &BooleanArray) -> ArrayRef {
    let valid = NullBuffer::new(!nulls.values());
    let data = array.to_data().into_builder().nulls(Some(valid)).build().expect("as many flags as rows");
    make_array(data)
}
