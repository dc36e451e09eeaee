//! Do two results hold the same rows? Compared without order and in little memory: by the number of rows
//! and a sum per column (numbers and times: their values; text: its length and a sum of its bytes).
//!
//! ```text
//!   auction | extra          rows 2, sums [2003, 5000495]
//!   1001    | ab     ──►     (97 + 98, 99 + 100 + 101 for the bytes, 1,000,000 per character)
//!   1002    | cde
//! ```

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type, Int64Type};
use arrow::error::ArrowError;

#[derive(Debug, Clone, Default, PartialEq)]
pub struct Sums {
    pub rows: u64,
    pub columns: Vec<f64>,
}

impl Sums {
    pub fn add(&mut self, batch: &RecordBatch) -> Result<(), ArrowError> {
        self.rows += batch.num_rows() as u64;
        self.columns.resize(batch.num_columns(), 0.0);
        for (sum, column) in self.columns.iter_mut().zip(batch.columns()) {
            *sum += column_sum(column)?;
        }
        Ok(())
    }

    /// Equal but for the order in which floats were added.
    pub fn agrees(&self, other: &Sums) -> bool {
        let near = |(a, b): (&f64, &f64)| (a - b).abs() <= 1e-9 * a.abs().max(b.abs());
        self.rows == other.rows
            && self.columns.len() == other.columns.len()
            && self.columns.iter().zip(&other.columns).all(near)
    }
}

fn column_sum(column: &dyn Array) -> Result<f64, ArrowError> {
    match column.data_type() {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => {
            let texts = cast(column, &DataType::Utf8)?;
            let texts = texts.as_string::<i32>().iter().flatten();
            Ok(texts.map(|t| t.bytes().map(f64::from).sum::<f64>() + 1e6 * t.len() as f64).sum())
        }
        DataType::Timestamp(..) => {
            let times = cast(
                &cast(column, &DataType::Timestamp(arrow::datatypes::TimeUnit::Microsecond, None))?,
                &DataType::Int64,
            )?;
            Ok(times.as_primitive::<Int64Type>().iter().flatten().map(|t| t as f64).sum())
        }
        _ => Ok(cast(column, &DataType::Float64)?.as_primitive::<Float64Type>().iter().flatten().sum()),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Int64Array, StringArray};

    use super::*;

    fn sums(numbers: Vec<i64>, texts: Vec<&str>) -> Sums {
        let columns =
            [("n", Arc::new(Int64Array::from(numbers)) as ArrayRef), ("t", Arc::new(StringArray::from(texts)) as _)];
        let mut sums = Sums::default();
        sums.add(&RecordBatch::try_from_iter(columns).unwrap()).unwrap();
        sums
    }

    #[test]
    fn order_does_not_matter_and_values_do() {
        let one = sums(vec![1001, 1002], vec!["ab", "cde"]);
        assert_eq!(one, Sums { rows: 2, columns: vec![2003.0, 5_000_495.0] });
        assert!(one.agrees(&sums(vec![1002, 1001], vec!["cde", "ab"])));
        assert!(!one.agrees(&sums(vec![1002, 1002], vec!["cde", "ab"])));
        assert!(!one.agrees(&sums(vec![1002, 1001], vec!["cdf", "ab"])));
        assert!(!one.agrees(&sums(vec![2003], vec!["abcde"])));
    }
}
