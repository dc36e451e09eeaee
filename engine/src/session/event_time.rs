//! What is to be seen of event time: SHOW WATERMARKS, `mr_late_rows`; and SET CLOCK, for tests.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array, IntervalMonthDayNanoArray, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, IntervalMonthDayNano, IntervalUnit, TimeUnit, TimestampMicrosecondType};

use super::Session;
use crate::catalog::{Catalog, Column, LateRows, Relation, RelationId, RelationKind, Watermark};
use crate::commit::Request;
use crate::core::Core;
use crate::error::{Error, Result};
use crate::sql::text::{Style, value_to_text};
use crate::ttl::Ttl;

pub const WATERMARK_COLUMNS: [&str; 8] =
    ["relation", "column", "watermark", "behind", "held_back_by", "delay", "late_rows", "ahead_rows"];

/// The rows of SHOW WATERMARKS: streams with a watermark, and views with columns of which one promises something.
pub fn watermarks(core: &Core, catalog: &Catalog) -> Vec<Vec<String>> {
    let (header, now_us) = (core.header(), core.clock_us());
    let null = || "NULL".to_string();
    let behind = |us: Option<i64>| {
        let interval = us.map(|us| IntervalMonthDayNano::new(0, 0, now_us.saturating_sub(us).saturating_mul(1000)));
        interval.map_or_else(null, |interval| {
            let field = Field::new("", DataType::Interval(IntervalUnit::MonthDayNano), true);
            let value: ArrayRef = Arc::new(IntervalMonthDayNanoArray::from(vec![interval]));
            shown(&field, &value, 0)
        })
    };
    let of = |id: RelationId| header.watermarks.iter().find(|time| time.stream == id);
    let stream = |r: &Relation, w: &Watermark| {
        let time = of(r.id);
        let column = &r.columns[w.column];
        let watermark = time.and_then(|t| t.watermark_us);
        // Of several partitions the slowest.
        let slowest = time.filter(|time| time.partitions.len() > 1).and_then(|time| {
            let slowest = time.partitions.iter().min_by_key(|p| p.latest_us)?;
            let silent = if slowest.latest_us.is_none() { ", without a row so far" } else { "" };
            Some(format!("partition {}{silent}", slowest.partition))
        });
        vec![
            r.name.clone(),
            column.name.clone(),
            watermark.map_or_else(null, |us| as_text(column, us)),
            behind(watermark),
            slowest.unwrap_or_else(null),
            format!("{} seconds", w.delay_us as f64 / 1e6),
            time.map_or(0, |t| t.late).to_string(),
            time.map_or(0, |t| t.ahead).to_string(),
        ]
    };
    let view = |r: &Relation| {
        let mut columns: Vec<&str> = r.bounds.iter().map(|b| r.columns[b.column].name.as_str()).collect();
        columns.dedup();
        let mut streams: Vec<RelationId> = r.bounds.iter().flat_map(|b| b.streams.iter().copied()).collect();
        streams.sort_unstable();
        streams.dedup();
        let slowest = streams.iter().min_by_key(|id| of(**id).and_then(|time| time.watermark_us));
        let name = slowest.and_then(|id| catalog.get(*id)).map_or_else(null, |r| r.name.clone());
        let watermark = header.watermark(&streams);
        let first = &r.columns[r.bounds[0].column];
        let shown = watermark.map_or_else(null, |us| as_text(first, us));
        vec![r.name.clone(), columns.join(", "), shown, behind(watermark), name, null(), null(), null()]
    };
    let row = |r: &Arc<Relation>| match &r.watermark {
        Some(w) => Some(stream(r, w)),
        None => (!r.bounds.is_empty()).then(|| view(r)),
    };
    catalog.relations.values().filter_map(row).collect()
}

/// A time as a value of an event-time column.
fn as_text(column: &Column, us: i64) -> String {
    let mut field = crate::sql::types::field(&column.name, &column.sql_type, true).expect("checked when it was made");
    if !matches!(field.data_type(), DataType::Timestamp(..)) {
        field = Field::new("", DataType::Timestamp(TimeUnit::Microsecond, None), true);
    }
    let array: ArrayRef = Arc::new(TimestampMicrosecondArray::from(vec![us]).with_data_type(field.data_type().clone()));
    value_to_text(&field, &array, 0, &Style::default()).unwrap_or_default()
}

pub const LATE_ROWS: &[(&str, DataType)] =
    &[("stream", DataType::Utf8), ("reason", DataType::Utf8), ("row", DataType::Utf8), ("count", DataType::Int64)];

/// The rows of `mr_late_rows`: what came too late for its stream, and was kept.
pub fn late_rows(core: &Core, catalog: &Catalog) -> Vec<ArrayRef> {
    let through = core.header().epoch;
    let mut counts: std::collections::BTreeMap<(String, String, String), i64> = Default::default();
    for relation in catalog.relations.values() {
        let Some(w) = &relation.watermark else { continue };
        let LateRows::Keep(id) = w.late else { continue };
        // What cannot be read is in the log of the process; there is nobody else to tell.
        for rows in core.store.stream_rows(id, 0, through, None).map_while(Result::ok) {
            let missed = rows.column(rows.num_columns() - 1).as_primitive::<TimestampMicrosecondType>();
            let times = rows.column(w.column).as_primitive::<TimestampMicrosecondType>();
            let column = &relation.columns[w.column];
            let schema = relation.arrow_schema();
            for row in 0..rows.num_rows() {
                let (time, missed) = (as_text(column, times.value(row)), as_text(column, missed.value(row)));
                let reason = format!("{} {time} is before the watermark {missed}", column.name);
                // Earlier rows lack what the stream has got since.
                let columns = &rows.columns()[..rows.num_columns() - 1];
                let values = schema.fields().iter().zip(columns).map(|(field, values)| shown(field, values, row));
                let text = format!("({})", values.collect::<Vec<_>>().join(", "));
                *counts.entry((relation.name.clone(), reason, text)).or_insert(0) += 1;
            }
        }
    }
    let text = |f: fn(&(String, String, String)) -> &String| -> ArrayRef {
        Arc::new(counts.keys().map(|key| Some(f(key).as_str())).collect::<StringArray>())
    };
    let numbers: ArrayRef = Arc::new(counts.values().copied().collect::<Int64Array>());
    vec![text(|k| &k.0), text(|k| &k.1), text(|k| &k.2), numbers]
}

fn shown(field: &Field, values: &ArrayRef, row: usize) -> String {
    value_to_text(field, values, row, &Style::default()).unwrap_or_else(|| "NULL".into())
}

impl Session {
    /// For tests: time stands still at `text`, and passes for the views that look at it.
    pub(super) async fn set_clock(&mut self, text: &str) -> Result<()> {
        let bad = |_| Error::new("22007", format!("invalid input syntax for type timestamp: \"{text}\""));
        let time = chrono::NaiveDateTime::parse_from_str(text, "%Y-%m-%d %H:%M:%S%.f").map_err(bad)?;
        self.core.set_clock(time.and_utc().timestamp_micros())?;
        self.decide(|reply| Request::Tick { reply }).await?;
        for relation in self.core.catalog().relations.values().filter(|r| r.kind == RelationKind::Table) {
            if let Some(ttl) = Ttl::of(&relation.columns, &relation.options)? {
                crate::ttl::expire(&self.core, relation, ttl).await?;
            }
        }
        Ok(())
    }
}
