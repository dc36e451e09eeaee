//! Deltas as tables of text, for tests:
//!
//! ```text
//! +1 | 1 | a
//! -1 | 2 | NULL
//! ```
//!
//! One line per row: its weight, then its values as Arrow writes them. Lines that are blank or start
//! with `#` say nothing. A schema in text is `k: Int64, v: Utf8`, with Arrow's names of types. Text with
//! spaces at its ends, with `|`, or that reads NULL cannot be written.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, RecordBatchOptions, StringArray};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::util::display::{ArrayFormatter, FormatOptions};

use super::Delta;

/// A schema of nullable columns, e.g. `k: Int64, t: Timestamp(µs)`.
pub fn schema(text: &str) -> SchemaRef {
    let mut fields = Vec::new();
    let mut rest = text.trim();
    while !rest.is_empty() {
        let (name, types) = rest.split_once(':').expect("name: type");
        // A comma inside parentheses belongs to the type.
        let mut depth = 0;
        let end = types
            .char_indices()
            .find(|(_, c)| {
                depth += (*c == '(') as i32 - (*c == ')') as i32;
                *c == ',' && depth == 0
            })
            .map_or(types.len(), |(at, _)| at);
        let data_type: DataType = types[..end].trim().parse().expect("a type's name");
        fields.push(Field::new(name.trim(), data_type, true));
        rest = types[end..].trim_start_matches(',').trim();
    }
    Arc::new(Schema::new(fields))
}

pub fn parse(schema: &SchemaRef, text: &str) -> Delta {
    let lines: Vec<Vec<&str>> = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(|line| line.split('|').map(str::trim).collect())
        .collect();
    for line in &lines {
        assert_eq!(line.len(), schema.fields().len() + 1, "a weight and one value per column: {line:?}");
    }
    let weights: Vec<i64> = lines.iter().map(|line| line[0].parse().expect("a weight")).collect();
    let columns = schema.fields().iter().enumerate().map(|(i, field)| {
        let text: StringArray = lines.iter().map(|line| Some(line[i + 1]).filter(|v| *v != "NULL")).collect();
        let options = CastOptions { safe: false, ..CastOptions::default() };
        cast_with_options(&text, field.data_type(), &options).expect("values of the column's type")
    });
    let columns: Vec<ArrayRef> = columns.collect();
    let options = RecordBatchOptions::new().with_row_count(Some(lines.len()));
    let rows = RecordBatch::try_new_with_options(schema.clone(), columns, &options).expect("columns of the schema");
    let weights = weights.iter().any(|w| *w != 1).then(|| Int64Array::from(weights));
    Delta::new(rows, weights)
}

/// One line per row, sorted by the values, retractions of a row before its insertions.
pub fn format(deltas: &[Delta]) -> String {
    let mut lines = Vec::new();
    for delta in deltas {
        for row in 0..delta.len() {
            lines.push((format_row(&delta.rows, row, " | "), delta.weight(row)));
        }
    }
    lines.sort();
    lines
        .iter()
        .map(|(row, weight)| if row.is_empty() { format!("{weight:+}\n") } else { format!("{weight:+} | {row}\n") })
        .collect()
}

/// A row's values, e.g. for the message of what was set aside.
pub fn format_row(rows: &RecordBatch, row: usize, separator: &str) -> String {
    let options = FormatOptions::default().with_null("NULL");
    let values = rows.columns().iter().map(|column| match ArrayFormatter::try_new(column, &options) {
        Ok(formatter) => formatter.value(row).to_string(),
        Err(_) => "?".to_string(),
    });
    values.collect::<Vec<_>>().join(separator)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_and_back() {
        let schema = schema("k: Int64, v: Utf8, n: Decimal128(38, 2), t: Timestamp(µs), b: Boolean");
        assert_eq!(schema.fields().len(), 5);
        let text = "-2 | 1 | a water wheel | 1.50 | 2026-11-20T22:00:00 | true\n+1 | 2 | NULL | NULL | NULL | false\n";
        let delta = parse(&schema, text);
        assert_eq!(format(&[delta.slice(1, 1), delta.slice(0, 1)]), text);
        assert!(parse(&schema, "+1 | 1 | a | 1 | NULL | t").weights.is_none());
    }
}
