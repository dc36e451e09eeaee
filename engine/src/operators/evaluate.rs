//! Expressions over deltas, and what becomes of rows for which they fail.
//!
//! A bad row never stops the mill: when a batch fails, it is halved until the rows that fail alone are
//! found; those are set aside with their message, the others go on. The cost is paid only when something
//! fails.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BooleanArray, RecordBatch};
use datafusion::common::DataFusionError;
use datafusion::physical_expr::PhysicalExpr;

use crate::delta::Delta;
use crate::operators::{ErrorChange, Output};

pub type Expression = Arc<dyn PhysicalExpr>;

pub fn column(expression: &Expression, rows: &RecordBatch) -> Result<ArrayRef, DataFusionError> {
    expression.evaluate(rows)?.into_array(rows.num_rows())
}

pub fn predicate(expression: &Expression, rows: &RecordBatch) -> Result<BooleanArray, DataFusionError> {
    let values = column(expression, rows)?;
    Ok(match values.data_type() {
        arrow::datatypes::DataType::Boolean => values.as_boolean().clone(),
        // WHERE NULL
        _ => BooleanArray::from(vec![false; rows.num_rows()]),
    })
}

/// Runs `step` over the delta; the rows for which it fails alone become `out.errors`, the results of the
/// others `out.deltas`.
pub fn apply(delta: &Delta, out: &mut Output, step: &mut dyn FnMut(&Delta) -> Result<Delta, DataFusionError>) {
    match step(delta) {
        Ok(result) => {
            if !result.is_empty() {
                out.deltas.push(result);
            }
        }
        Err(error) if delta.len() == 1 => out.errors.push(set_aside(&error, &delta.rows, 0, delta.weight(0))),
        Err(_) => {
            let half = delta.len() / 2;
            apply(&delta.slice(0, half), out, step);
            apply(&delta.slice(half, delta.len() - half), out, step);
        }
    }
}

/// `expression` over `rows`; where it fails for a row alone, that row counts as false and is set aside
/// with `weight`.
pub fn predicate_or_set_aside(
    expression: &Expression,
    rows: &RecordBatch,
    weight: i64,
    out: &mut Output,
) -> BooleanArray {
    match predicate(expression, rows) {
        Ok(mask) => mask,
        Err(error) if rows.num_rows() <= 1 => {
            if rows.num_rows() == 1 {
                out.errors.push(set_aside(&error, rows, 0, weight));
            }
            BooleanArray::from(vec![false; rows.num_rows()])
        }
        Err(_) => {
            let half = rows.num_rows() / 2;
            let left = predicate_or_set_aside(expression, &rows.slice(0, half), weight, out);
            let right = predicate_or_set_aside(expression, &rows.slice(half, rows.num_rows() - half), weight, out);
            left.iter().chain(right.iter()).collect()
        }
    }
}

/// Row `row` of `rows`, as something that was set aside (`weight` 1) or no longer is (−1).
pub fn set_aside(error: &DataFusionError, rows: &RecordBatch, row: usize, weight: i64) -> ErrorChange {
    let options = arrow::util::display::FormatOptions::default().with_null("NULL");
    let values: Vec<String> = rows
        .columns()
        .iter()
        .map(|c| {
            arrow::util::display::ArrayFormatter::try_new(c, &options)
                .map_or_else(|_| "?".to_string(), |f| f.value(row).to_string())
        })
        .collect();
    ErrorChange { message: message(error), row: format!("({})", values.join(", ")), weight }
}

/// As a SELECT would say it.
pub fn message(error: &DataFusionError) -> String {
    crate::sql::bind::error_from(error.find_root_ref()).message
}

trait RootRef {
    fn find_root_ref(&self) -> DataFusionError;
}
impl RootRef for DataFusionError {
    fn find_root_ref(&self) -> DataFusionError {
        DataFusionError::Execution(self.find_root().strip_backtrace())
    }
}
