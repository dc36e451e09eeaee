//! An accumulator that is asked for its size after each batch, and would count all that it keeps each time.
//!
//! DataFusion's lists of ordered and of distinct values walk over all values to tell their size: of a million values, in
//! batches of 8,192, that is sixty million. Here they are counted anew when they have grown by an eighth; what has come since
//! then is estimated, as scalars, which is what they keep.
//!
//! As window functions they are asked for a value for each row, which may be as large as all that they keep: [`Made`].

use arrow::array::{Array, ArrayRef};
use datafusion::common::ScalarValue;
use datafusion::error::Result;
use datafusion::logical_expr::Accumulator;

use crate::sql::bounds::Tally;

/// What an accumulator made that is asked more than once. So many values are about what is there of them at one time.
const VALUES_AT_ONCE: usize = 8192;

/// What an accumulator has made for the rows of a window: held against the statement's memory, and a place to end it.
#[derive(Debug, Default)]
pub struct Made {
    values: usize,
    tally: Tally,
}

impl Made {
    /// Errors: 54000, 53200, 57014.
    pub fn add(&mut self, bytes: usize) -> Result<()> {
        self.values += 1;
        // The only value of a group is accounted with what it was made of.
        if self.values == 1 {
            return Ok(());
        }
        if self.values % VALUES_AT_ONCE == 0 {
            self.tally = Tally::default();
        }
        self.tally.add(bytes)
    }
}

#[derive(Debug)]
pub struct Measured {
    inner: Box<dyn Accumulator>,
    /// Bytes when it was last counted, and rows that had come by then.
    counted: usize,
    counted_rows: usize,
    /// Estimated of what has come since.
    since: usize,
    since_rows: usize,
    made: Made,
}

impl Measured {
    pub fn new(inner: Box<dyn Accumulator>) -> Measured {
        let counted = inner.size();
        Measured { inner, counted, counted_rows: 0, since: 0, since_rows: 0, made: Made::default() }
    }

    fn grown(&mut self, values: &[ArrayRef]) {
        let rows = values.first().map_or(0, |column| column.len());
        self.since_rows += rows;
        if self.since_rows > self.counted_rows / 8 {
            self.counted = self.inner.size();
            self.counted_rows += self.since_rows;
            (self.since, self.since_rows) = (0, 0);
            return;
        }
        let cells = rows * size_of::<ScalarValue>() * values.len();
        let content: usize = values.iter().map(|c| c.to_data().get_slice_memory_size().unwrap_or(0)).sum();
        self.since += cells + content + rows * size_of::<Vec<ScalarValue>>();
    }
}

impl Accumulator for Measured {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.inner.update_batch(values)?;
        self.grown(values);
        Ok(())
    }
    fn evaluate(&mut self) -> Result<ScalarValue> {
        let value = self.inner.evaluate()?;
        self.made.add(value.size())?;
        Ok(value)
    }
    fn size(&self) -> usize {
        size_of_val(self) + self.counted + self.since
    }
    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        self.inner.state()
    }
    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        self.inner.merge_batch(states)?;
        self.counted = self.inner.size();
        Ok(())
    }
    fn retract_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.inner.retract_batch(values)
    }
    fn supports_retract_batch(&self) -> bool {
        self.inner.supports_retract_batch()
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::sync::Arc;

    use arrow::array::Int64Array;
    use datafusion::common::exec_err;

    use super::*;

    thread_local! {
        /// Values that were looked at to tell a size.
        static LOOKED_AT: Cell<usize> = const { Cell::new(0) };
    }

    #[derive(Debug, Default)]
    struct Kept(Vec<ScalarValue>);

    impl Accumulator for Kept {
        fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
            for row in 0..values[0].len() {
                self.0.push(ScalarValue::try_from_array(&values[0], row)?);
            }
            Ok(())
        }
        fn evaluate(&mut self) -> Result<ScalarValue> {
            exec_err!("not asked")
        }
        fn size(&self) -> usize {
            LOOKED_AT.set(LOOKED_AT.get() + self.0.len());
            self.0.iter().map(ScalarValue::size).sum()
        }
        fn state(&mut self) -> Result<Vec<ScalarValue>> {
            exec_err!("not asked")
        }
        fn merge_batch(&mut self, _: &[ArrayRef]) -> Result<()> {
            exec_err!("not asked")
        }
    }

    #[test]
    fn sizes_are_near_and_cost_no_walk_over_all_each_time() {
        let mut measured = Measured::new(Box::new(Kept::default()));
        let batch: ArrayRef = Arc::new(Int64Array::from_iter_values(0..100));
        for batches in 1..=1_000 {
            measured.update_batch(std::slice::from_ref(&batch)).unwrap();
            let exact = batches * 100 * ScalarValue::Int64(Some(1)).size();
            assert!((exact..exact * 5 / 4 + 1_000).contains(&measured.size()), "{} of {exact}", measured.size());
        }
        // Each time of all of them it would be fifty million.
        assert!(LOOKED_AT.get() < 2_000_000, "{}", LOOKED_AT.get());
    }
}
