//! What is to be seen of event time: SHOW WATERMARKS, `mr_late_rows`; and SET CLOCK, for tests.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, TimestampMicrosecondType};

use super::Session;
use crate::catalog::{Catalog, Column, LateRows};
use crate::commit::Request;
use crate::core::Core;
use crate::error::{Error, Result};
use crate::sql::text::{Style, value_to_text};

pub const WATERMARK_COLUMNS: [&str; 6] = ["relation", "column", "delay", "watermark", "late_rows", "ahead_rows"];

/// The rows of SHOW WATERMARKS.
pub fn watermarks(core: &Core, catalog: &Catalog) -> Vec<Vec<String>> {
    let header = core.header();
    let streams = catalog.relations.values().filter_map(|r| Some((r, r.watermark.as_ref()?)));
    let row = |(r, w): (&Arc<crate::catalog::Relation>, &crate::catalog::Watermark)| {
        let time = header.watermarks.iter().find(|time| time.stream == r.id);
        let column = &r.columns[w.column];
        vec![
            r.name.clone(),
            column.name.clone(),
            format!("{} seconds", w.delay_us as f64 / 1e6),
            time.and_then(|t| t.watermark_us).map_or("NULL".into(), |us| as_text(column, us)),
            time.map_or(0, |t| t.late).to_string(),
            time.map_or(0, |t| t.ahead).to_string(),
        ]
    };
    streams.map(row).collect()
}

/// A time as a value of an event-time column.
fn as_text(column: &Column, us: i64) -> String {
    let field = crate::sql::types::field(&column.name, &column.sql_type, true).expect("checked when it was made");
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
                let values =
                    schema.fields().iter().zip(rows.columns()).map(|(field, values)| shown(field, values, row));
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
        self.decide(|reply| Request::Tick { reply }).await.map(|_| ())
    }
}
