//! Do two results hold the same rows? Compared without order and in little memory: by the number of rows
//! and a sum per column, exact for integers, times and texts (of their bytes, by place), near for others.
//!
//! ```text
//!   auction | extra
//!   1001    | ab     ──►   rows 2, sums [2003, 97·1 + 98·2 + 99·1 + 100·2 + 101·3]
//!   1002    | cde
//! ```

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type, Int64Type, TimeUnit};
use arrow::error::ArrowError;
use serde_json::{Value, json};

#[derive(Debug, Clone, Default, PartialEq)]
pub struct Sums {
    pub rows: u64,
    pub columns: Vec<Sum>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Sum {
    Exact(i128),
    /// Of floats and decimals: two sides may add in another order, or keep another number of digits.
    Near(f64),
}

impl Sums {
    pub fn add(&mut self, batch: &RecordBatch) -> Result<(), ArrowError> {
        self.rows += batch.num_rows() as u64;
        self.columns.resize(batch.num_columns(), Sum::Exact(0));
        for (sum, column) in self.columns.iter_mut().zip(batch.columns()) {
            *sum = match (*sum, column_sum(column)?) {
                (Sum::Exact(a), Sum::Exact(b)) => Sum::Exact(a + b),
                (a, b) => Sum::Near(a.float() + b.float()),
            };
        }
        Ok(())
    }

    pub fn agrees(&self, other: &Sums) -> bool {
        self.rows == other.rows
            && self.columns.len() == other.columns.len()
            && self.columns.iter().zip(&other.columns).all(|(a, b)| a.agrees(b))
    }

    /// As it passes from a child process to its parent: exact sums as strings.
    pub fn to_json(&self) -> Value {
        let sum = |sum: &Sum| match sum {
            Sum::Exact(sum) => json!(sum.to_string()),
            Sum::Near(sum) => json!(sum),
        };
        json!({ "rows": self.rows, "columns": self.columns.iter().map(sum).collect::<Vec<_>>() })
    }

    pub fn from_json(value: &Value) -> Option<Self> {
        let sum = |value: &Value| match value {
            Value::String(text) => text.parse().ok().map(Sum::Exact),
            _ => value.as_f64().map(Sum::Near),
        };
        let columns = value["columns"].as_array()?.iter().map(sum).collect::<Option<_>>()?;
        Some(Sums { rows: value["rows"].as_u64()?, columns })
    }
}

impl Sum {
    fn float(self) -> f64 {
        match self {
            Sum::Exact(sum) => sum as f64,
            Sum::Near(sum) => sum,
        }
    }

    fn agrees(&self, other: &Sum) -> bool {
        match (self, other) {
            (Sum::Exact(a), Sum::Exact(b)) => a == b,
            _ => (self.float() - other.float()).abs() <= 1e-9 * self.float().abs().max(other.float().abs()),
        }
    }
}

fn column_sum(column: &dyn Array) -> Result<Sum, ArrowError> {
    match column.data_type() {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => {
            let texts = cast(column, &DataType::Utf8)?;
            let by_place =
                |text: &str| text.bytes().zip(1i128..).map(|(byte, place)| i128::from(byte) * place).sum::<i128>();
            Ok(Sum::Exact(texts.as_string::<i32>().iter().flatten().map(by_place).sum()))
        }
        DataType::Timestamp(..) => {
            let times = cast(column, &DataType::Timestamp(TimeUnit::Microsecond, None))?;
            Ok(Sum::Exact(integers(&cast(&times, &DataType::Int64)?)))
        }
        data_type if data_type.is_integer() => Ok(Sum::Exact(integers(&cast(column, &DataType::Int64)?))),
        _ => {
            let floats = cast(column, &DataType::Float64)?;
            Ok(Sum::Near(floats.as_primitive::<Float64Type>().iter().flatten().sum()))
        }
    }
}

fn integers(column: &dyn Array) -> i128 {
    column.as_primitive::<Int64Type>().iter().flatten().map(i128::from).sum()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Float64Array, Int64Array, StringArray};

    use super::*;

    fn sums(numbers: Vec<i64>, texts: Vec<&str>, floats: Vec<f64>) -> Sums {
        let columns = [
            ("n", Arc::new(Int64Array::from(numbers)) as ArrayRef),
            ("t", Arc::new(StringArray::from(texts)) as _),
            ("f", Arc::new(Float64Array::from(floats)) as _),
        ];
        let mut sums = Sums::default();
        sums.add(&RecordBatch::try_from_iter(columns).unwrap()).unwrap();
        sums
    }

    #[test]
    fn order_does_not_matter_and_values_do() {
        let one = sums(vec![1001, 1002], vec!["ab", "cde"], vec![0.1, 0.2]);
        assert_eq!(one.columns[..2], [Sum::Exact(2003), Sum::Exact(895)]);
        assert!(one.agrees(&sums(vec![1002, 1001], vec!["cde", "ab"], vec![0.2, 0.1])));
        assert!(!one.agrees(&sums(vec![1002, 1002], vec!["cde", "ab"], vec![0.2, 0.1])));
        assert!(!one.agrees(&sums(vec![1002, 1001], vec!["ced", "ab"], vec![0.2, 0.1])));
        assert!(!one.agrees(&sums(vec![1002, 1001], vec!["cde", "ab"], vec![0.2, 0.2])));
        assert!(!one.agrees(&sums(vec![2003], vec!["abcde"], vec![0.3])));
        assert_eq!(Sums::from_json(&one.to_json()), Some(one));
    }
}
