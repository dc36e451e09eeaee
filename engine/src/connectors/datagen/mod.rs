//! A source of made-up rows, for any schema: for trying out, demos and tests.
//!
//! ```sql
//! CREATE STREAM orders (id bigint, kind text, amount numeric(8,2), ts timestamptz) WITH (
//!   connector = 'datagen', rate = 100, count = 1000, seed = 7,
//!   fields.id.kind = 'sequence', fields.id.start = 1,
//!   fields.kind.choices = 'book,toy', fields.amount.min = 1, fields.amount.max = 99,
//!   fields.ts.max_past = '3 seconds')
//!
//!   1 | toy  | 17.20 | 10:00:00.000
//!   2 | book | 93.07 | 09:59:58.313
//! ```
//!
//! Row *i* is a function of the seed, of *i* and, in columns of dates and timestamps without `min` and
//! `max`, of the moment at which it is due. The source ends with `count` rows, or when a sequence reaches
//! its `end`. Without a rate it is as fast as the engine takes it. `values.rs` has the columns' options.

mod values;

use std::collections::BTreeMap;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;

use self::values::{Place, Values};
use super::options::{self, Options};
use super::pace::Pace;
use super::{Polled, Source};
use crate::error::{Error, Result};

const OPTIONS: &[&str] = &["rate", "count", "seed"];
/// As Flink and RisingWave spell them.
const ALIASES: &[(&str, &str)] = &[
    ("rows-per-second", "rate"),
    ("datagen.rows.per.second", "rate"),
    ("number-of-rows", "count"),
    ("datagen.number.of.rows", "count"),
];
const FIELD_PREFIX: &str = "fields.";

/// Names only: of options, and of the properties of `fields.<column>.<property>`.
pub(super) fn check_names(given: &Options, general: &[&str]) -> Result<()> {
    let (fields, rest): (Options, Options) =
        given.clone().into_iter().partition(|(name, _)| name.starts_with(FIELD_PREFIX));
    let aliases: Vec<&str> = ALIASES.iter().map(|(theirs, _)| *theirs).collect();
    options::check_names("datagen source", &rest, &[OPTIONS, general, &aliases])?;
    for name in fields.keys() {
        let property = name.rsplit('.').next().unwrap_or_default();
        if !values::PROPERTIES.contains(&values::canonical(property).as_str()) {
            return Err(options::unknown("column of a datagen source", name, values::PROPERTIES).hint(
                match options::nearest(property, values::PROPERTIES) {
                    Some(near) => {
                        format!("Did you mean \"{}{near}\"?", name.strip_suffix(property).unwrap_or_default())
                    }
                    None => format!("Write fields.<column>.<property>, properties: {}.", values::PROPERTIES.join(", ")),
                },
            ));
        }
    }
    Ok(())
}

pub struct Datagen {
    schema: SchemaRef,
    columns: Vec<Values>,
    seed: u64,
    /// The next row, and where it ends.
    row: u64,
    end: u64,
    pace: Pace,
}

impl Datagen {
    pub(super) fn open(schema: SchemaRef, given: &Options, position: Option<&[u8]>, now_us: i64) -> Result<Self> {
        let options = options::canonical(given, ALIASES)?;
        let mut properties = by_column(&schema, &options)?;
        let mut columns = Vec::with_capacity(schema.fields().len());
        for (index, field) in schema.fields().iter().enumerate() {
            columns.push(Values::new(field, index as u64, properties.remove(&index).unwrap_or_default())?);
        }
        let row = position.map_or(Ok(0), decode)?;
        let count = options::whole(&options, "count")?.unwrap_or(u64::MAX);
        let end = columns.iter().filter_map(Values::rows_max).fold(count, u64::min);
        let pace = Pace::new(options::rate_milli(&options, "rate")?, row, now_us);
        Ok(Datagen { schema, columns, seed: options::whole(&options, "seed")?.unwrap_or(0), row, end, pace })
    }
}

impl Source for Datagen {
    fn poll(&mut self, now_us: i64, rows_max: usize) -> Result<Polled> {
        if self.row >= self.end {
            return Ok(Polled::End);
        }
        let due = self.pace.due(now_us).min(self.end);
        if self.row >= due {
            return Ok(Polled::Wait(self.pace.wait(self.row, now_us)));
        }
        let rows = (due - self.row).min(rows_max.max(1) as u64);
        let due_us: Vec<i64> = match self.pace.is_limited() {
            true => (self.row..self.row + rows).map(|row| self.pace.due_at_us(row)).collect(),
            false => vec![now_us; rows as usize],
        };
        let place = Place { seed: self.seed, first_row: self.row, due_us: &due_us };
        let arrays = self.columns.iter().map(|values| values.array(&place)).collect();
        self.row += rows;
        RecordBatch::try_new(self.schema.clone(), arrays).map(Polled::Rows).map_err(Error::internal)
    }

    fn position(&self) -> Vec<u8> {
        [&[1u8][..], &self.row.to_le_bytes()].concat()
    }
}

/// A position is a version (1) and the next row, little endian.
fn decode(position: &[u8]) -> Result<u64> {
    match (position, position.get(1..).and_then(|b| b.try_into().ok())) {
        ([1, ..], Some(row)) => Ok(u64::from_le_bytes(row)),
        _ => Err(Error::corrupt("the position of a datagen source is not one that this version wrote")),
    }
}

/// `fields.<column>.<property> = value`, as column index → property → value. A column's name may itself have
/// dots; the longest that fits is meant.
fn by_column(schema: &SchemaRef, options: &Options) -> Result<BTreeMap<usize, Options>> {
    let mut found: BTreeMap<usize, Options> = BTreeMap::new();
    for (option, value) in options {
        let Some(rest) = option.strip_prefix(FIELD_PREFIX) else { continue };
        let named = schema.fields().iter().enumerate().filter_map(|(index, field)| {
            let property = rest.strip_prefix(field.name().as_str())?.strip_prefix('.')?;
            Some((field.name().len(), index, property))
        });
        let Some((_, index, property)) = named.max() else {
            let column = rest.rsplit_once('.').map_or(rest, |(column, _)| column);
            let names: Vec<&str> = schema.fields().iter().map(|f| f.name().as_str()).collect();
            let error = Error::new("42703", format!("column \"{column}\" of option \"{option}\" does not exist"));
            return Err(match options::nearest(column, &names) {
                Some(near) => error.hint(format!("Did you mean \"{near}\"?")),
                None => error,
            });
        };
        let of_column = found.entry(index).or_default();
        if of_column.insert(values::canonical(property), value.clone()).is_some() {
            return Err(Error::invalid_value(format!("option \"{option}\" is given twice")));
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use arrow::array::{Array, AsArray};
    use arrow::compute::concat_batches;
    use arrow::datatypes::{
        DataType, Date32Type, Decimal128Type, Field, Int32Type, Int64Type, IntervalUnit, Schema, TimeUnit,
        TimestampMicrosecondType,
    };
    use arrow::util::pretty::pretty_format_batches;

    use super::*;
    use crate::sql::types::TYPE_KEY;

    /// 2026-11-20 12:00:00 UTC.
    const NOW_US: i64 = 1_795_176_000_000_000;

    fn tagged(name: &str, sql_type: &str) -> Field {
        Field::new(name, DataType::Utf8, true).with_metadata([(TYPE_KEY.to_string(), sql_type.to_string())].into())
    }

    /// One column of every type of the dialect.
    fn every_type() -> SchemaRef {
        let of = |name: &str, data_type| Field::new(name, data_type, true);
        Arc::new(Schema::new(vec![
            of("flag", DataType::Boolean),
            of("small", DataType::Int16),
            of("whole", DataType::Int32),
            of("big", DataType::Int64),
            of("single", DataType::Float32),
            of("double", DataType::Float64),
            of("price", DataType::Decimal128(5, 2)),
            of("words", DataType::Utf8),
            tagged("short", "character varying(3)"),
            of("bytes", DataType::Binary),
            of("day", DataType::Date32),
            of("clock", DataType::Time64(TimeUnit::Microsecond)),
            of("at", DataType::Timestamp(TimeUnit::Microsecond, None)),
            of("at_tz", DataType::Timestamp(TimeUnit::Microsecond, Some("+00:00".into()))),
            of("span", DataType::Interval(IntervalUnit::MonthDayNano)),
            tagged("key", "uuid"),
            tagged("doc", "jsonb"),
            of("list", DataType::List(Arc::new(Field::new_list_field(DataType::Int32, true)))),
            of("record", DataType::Struct(vec![of("x", DataType::Int64), of("y", DataType::Utf8)].into())),
        ]))
    }

    fn options(pairs: &[(&str, &str)]) -> Options {
        pairs.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect()
    }

    fn take(source: &mut Datagen, rows_max: usize) -> RecordBatch {
        match source.poll(NOW_US, rows_max).unwrap() {
            Polled::Rows(batch) => batch,
            other => panic!("rows are due, not {other:?}"),
        }
    }

    fn make(schema: Vec<Field>, pairs: &[(&str, &str)]) -> Result<Datagen> {
        let options = options(pairs);
        check_names(&options, &["connector"])?;
        Datagen::open(Arc::new(Schema::new(schema)), &options, None, NOW_US)
    }

    fn int(name: &str) -> Field {
        Field::new(name, DataType::Int64, true)
    }

    #[test]
    fn every_type_has_a_default_and_varies() {
        let mut source = Datagen::open(every_type(), &options(&[]), None, NOW_US).unwrap();
        let batch = take(&mut source, 100);
        assert_eq!(batch.num_rows(), 100);
        let steady = ["day", "at", "at_tz"];
        for (field, column) in batch.schema().fields().iter().zip(batch.columns()) {
            assert_eq!(column.null_count(), 0, "{}", field.name());
            let same = (1..100).all(|row| column.slice(row, 1).to_data() == column.slice(0, 1).to_data());
            assert_eq!(same, steady.contains(&field.name().as_str()), "{}", field.name());
        }
        let text = |name: &str, row| batch.column_by_name(name).unwrap().as_string::<i32>().value(row);
        assert_eq!((text("words", 0).len(), text("short", 0).len(), text("key", 0).len()), (10, 3, 36));
        assert!(serde_json::from_str::<serde_json::Value>(text("doc", 5)).unwrap().is_object());
        assert_eq!(batch.column_by_name("at").unwrap().as_primitive::<TimestampMicrosecondType>().value(0), NOW_US);
        let prices = batch.column_by_name("price").unwrap().as_primitive::<Decimal128Type>();
        assert!(prices.values().iter().all(|p| (0..=99_999).contains(p)));
        assert_eq!(batch.column_by_name("list").unwrap().as_list::<i32>().value_length(0), 3);
        assert!(pretty_format_batches(&[batch]).is_ok());
    }

    #[test]
    fn goes_on_from_any_position_with_the_same_rows() {
        let options = options(&[
            ("count", "300"),
            ("seed", "5"),
            ("fields.words.null_ratio", "0.5"),
            ("fields.big.kind", "sequence"),
        ]);
        let whole = take(&mut Datagen::open(every_type(), &options, None, NOW_US).unwrap(), 1000);
        assert_eq!(whole.num_rows(), 300);
        let (mut parts, mut position) = (Vec::new(), None);
        for step in 1.. {
            let mut source = Datagen::open(every_type(), &options, position.as_deref(), NOW_US).unwrap();
            let Polled::Rows(batch) = source.poll(NOW_US, step).unwrap() else { break };
            parts.push(batch);
            position = Some(source.position());
        }
        assert_eq!(concat_batches(&whole.schema(), &parts).unwrap(), whole);
        assert_eq!(decode(b"?").unwrap_err().code, "XX001");
    }

    #[test]
    fn seeds_and_columns_differ() {
        let of = |seed| take(&mut make(vec![int("a"), int("b")], &[("seed", seed)]).unwrap(), 50);
        assert_eq!(of("1"), of("1"));
        assert_ne!(of("1"), of("2"));
        assert_ne!(of("1").column(0), of("1").column(1));
    }

    #[test]
    fn sequences_count_and_end_the_source() {
        let day = Field::new("d", DataType::Date32, true);
        let text = Field::new("t", DataType::Utf8, true);
        let mut source = make(
            vec![int("a"), day, text, Field::new("n", DataType::Decimal128(6, 2), true)],
            &[
                ("fields.a.kind", "sequence"),
                ("fields.a.start", "10"),
                ("fields.a.end", "14"),
                ("fields.a.step", "2"),
                ("fields.d.kind", "sequence"),
                ("fields.d.start", "2026-02-27"),
                ("fields.t.kind", "sequence"),
                ("fields.n.kind", "sequence"),
                ("fields.n.start", "1.50"),
            ],
        )
        .unwrap();
        let batch = take(&mut source, 100);
        assert!(matches!(source.poll(NOW_US, 1).unwrap(), Polled::End));
        assert_eq!(batch.column(0).as_primitive::<Int64Type>().values(), &[10, 12, 14]);
        let days = batch.column(1).as_primitive::<Date32Type>();
        assert_eq!(
            (days.value_as_date(2).unwrap().to_string(), batch.column(2).as_string::<i32>().value(2)),
            ("2026-03-01".into(), "2")
        );
        assert_eq!(batch.column(3).as_primitive::<Decimal128Type>().values(), &[150, 250, 350]);
    }

    #[test]
    fn properties_are_kept() {
        let mut source = make(
            vec![
                int("a"),
                Field::new("c", DataType::Utf8, true),
                Field::new("t", DataType::Timestamp(TimeUnit::Microsecond, None), true),
                Field::new("l", DataType::List(Arc::new(Field::new_list_field(DataType::Int32, true))), true),
                Field::new("n", DataType::Float64, true),
                int("few"),
            ],
            &[
                ("fields.a.min", "-3"),
                ("fields.a.max", "3"),
                ("fields.c.choices", "red, green"),
                ("fields.t.max-past", "10 seconds"),
                ("fields.l.length", "2"),
                ("fields.l._.max", "1"),
                ("fields.n.null_ratio", "0.25"),
                ("fields.few.choices", "4,8"),
            ],
        )
        .unwrap();
        let batch = take(&mut source, 1000);
        let a = batch.column(0).as_primitive::<Int64Type>();
        assert_eq!((a.values().iter().min(), a.values().iter().max()), (Some(&-3), Some(&3)));
        assert!(batch.column(1).as_string::<i32>().iter().all(|c| matches!(c, Some("red" | "green"))));
        let t = batch.column(2).as_primitive::<TimestampMicrosecondType>();
        assert!(t.values().iter().all(|t| (NOW_US - 10_000_000..=NOW_US).contains(t)) && t.value(0) != t.value(1));
        let l = batch.column(3).as_list::<i32>();
        assert!(
            l.value_length(7) == 2
                && l.values().as_primitive::<Int32Type>().values().iter().all(|x| (0..=1).contains(x))
        );
        assert!((200..300).contains(&batch.column(4).null_count()));
        assert!(batch.column(5).as_primitive::<Int64Type>().values().iter().all(|x| [4, 8].contains(x)));
    }

    #[test]
    fn a_rate_is_kept_and_stamps_each_row_when_it_is_due() {
        let time = Field::new("t", DataType::Timestamp(TimeUnit::Microsecond, None), true);
        let mut source = make(vec![time], &[("rate", "4")]).unwrap();
        assert_eq!(take(&mut source, 10).num_rows(), 1);
        assert!(matches!(source.poll(NOW_US, 10).unwrap(), Polled::Wait(wait) if wait == Duration::from_millis(250)));
        let Polled::Rows(batch) = source.poll(NOW_US + 600_000, 10).unwrap() else { panic!("two are due") };
        let times = batch.column(0).as_primitive::<TimestampMicrosecondType>();
        assert_eq!(times.values(), &[NOW_US + 250_000, NOW_US + 500_000]);
    }

    #[test]
    fn what_does_not_fit_is_refused_before_any_row() {
        let code = |field: Field, pairs: &[(&str, &str)]| make(vec![field], pairs).err().unwrap();
        assert_eq!(code(int("id"), &[("fields.idd.kind", "random")]).hint.as_deref(), Some("Did you mean \"id\"?"));
        assert_eq!(
            code(int("id"), &[("fields.id.kinds", "random")]).hint.as_deref(),
            Some("Did you mean \"fields.id.kind\"?")
        );
        for pairs in [
            [("fields.id.length", "3")],
            [("fields.id.kind", "sorted")],
            [("fields.id.min", "x")],
            [("fields.id.null_ratio", "2")],
            [("fields.id.end", "5")],
            [("fields.id.choices", "1,x")],
        ] {
            assert_eq!(code(int("id"), &pairs).code, "22023", "{pairs:?}");
        }
        assert_eq!(code(int("id"), &[("fields.id.min", "5"), ("fields.id.max", "4")]).code, "22023");
        let not_null = Field::new("id", DataType::Int64, false);
        assert_eq!(code(not_null, &[("fields.id.null_ratio", "0.1")]).code, "22023");
    }
}
