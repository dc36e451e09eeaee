//! Postgres' external forms of values, text and binary, and back: what COPY moves, what clients send and
//! receive, and what casts from and to text mean.
//!
//! Everything goes by column, so that the type is looked at once per batch and not once per value:
//!
//! ```text
//!   write   array + PgType ──► Cells    | 1 | NULL | 250 |  ->  "1" · "250"
//!   read    cells + PgType ──► array    ["1", NULL, "x"]    ->  row 2: invalid input syntax for type integer: "x"
//! ```
//!
//! [`write::write`] and [`read::read`] are the text forms, [`binary::write`] and [`binary::read`] the binary
//! ones. Text is in Postgres' default styles: ISO dates, `postgres` intervals, shortest floats, hex bytea.
//! Limits: numeric has no NaN and no infinity; `timetz` is text.

pub mod binary;
pub mod calendar;
pub mod datetime;
pub mod interval;
pub mod json;
pub mod nested;
pub mod number;
pub mod parameter;
pub mod pg_type;
pub mod precision;
pub mod read;
#[cfg(test)]
mod tests;
pub mod write;
pub mod zone;

use arrow::array::{Array, ArrayRef};
use arrow::datatypes::Field;
use datafusion::common::ScalarValue;

pub use pg_type::PgType;
pub use zone::{Zone, parse_offset};

use crate::error::{Error, Result};

/// The session settings on which text forms depend.
#[derive(Debug, Clone, Default)]
pub struct Style {
    /// In which timestamptz is written, and read where the text names no zone.
    pub zone: Zone,
    /// What `now`, `today` … mean, in microseconds since 1970 UTC; without it they are errors.
    pub now_us: Option<i64>,
}

impl Style {
    pub fn in_zone(zone: Zone) -> Style {
        Style { zone, now_us: None }
    }
}

/// A value that could not be read, and its place in the column.
#[derive(Debug, Clone, PartialEq)]
pub struct CellError {
    pub row: usize,
    pub error: Error,
}

/// The external forms of one column's values: bytes end to end, and where each value lies in them.
#[derive(Debug, Default)]
pub struct Cells {
    data: Vec<u8>,
    /// `None` is NULL.
    ranges: Vec<Option<(usize, usize)>>,
}

impl Cells {
    pub fn clear(&mut self) {
        self.data.clear();
        self.ranges.clear();
    }
    pub fn len(&self) -> usize {
        self.ranges.len()
    }
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }
    pub fn get(&self, row: usize) -> Option<&[u8]> {
        self.ranges[row].map(|(start, end)| &self.data[start..end])
    }
    pub fn push_null(&mut self) {
        self.ranges.push(None);
    }
    pub fn push_with(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        let start = self.data.len();
        write(&mut self.data);
        self.ranges.push(Some((start, self.data.len())));
    }
}

/// One value from its text. For many, [`read::read`] is faster.
pub fn parse_scalar(field: &Field, text: &str, style: &Style) -> Result<ScalarValue> {
    let array = read::read(&PgType::of(field), field.data_type(), &[Some(text)], style).map_err(|e| e.error)?;
    ScalarValue::try_from_array(&array, 0).map_err(Error::internal)
}

/// One value as text; `None` is NULL. For many, [`write::write`] is faster.
pub fn value_to_text(field: &Field, array: &ArrayRef, row: usize, style: &Style) -> Option<String> {
    let mut cells = Cells::default();
    write::write(&PgType::of(field), &array.slice(row, 1), style, &mut cells);
    cells.get(0).map(|bytes| String::from_utf8_lossy(bytes).into_owned())
}

/// The place of the first error by row: columns are read one after the other, but a user expects to hear
/// of the first bad row.
pub fn first_by_row<T>(results: Vec<Result<T, CellError>>) -> Result<Vec<T>, (usize, CellError)> {
    let mut first: Option<(usize, CellError)> = None;
    let mut values = Vec::with_capacity(results.len());
    for (column, result) in results.into_iter().enumerate() {
        match result {
            Ok(value) => values.push(value),
            Err(e) if first.as_ref().is_none_or(|(_, f)| e.row < f.row) => first = Some((column, e)),
            Err(_) => {}
        }
    }
    match first {
        None => Ok(values),
        Some(first) => Err(first),
    }
}
