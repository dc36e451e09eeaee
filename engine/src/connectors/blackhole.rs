//! The sink that counts and drops: what a view's changes cost without anybody taking them.

use super::{Sink, SinkStatus};
use crate::delta::Delta;
use crate::error::Result;
use crate::time::Epoch;

#[derive(Default)]
pub struct Blackhole(SinkStatus);

impl Sink for Blackhole {
    fn write(&mut self, epoch: Epoch, changes: &[Delta]) -> Result<()> {
        for delta in changes {
            match &delta.weights {
                None => self.0.inserted += delta.len() as u64,
                Some(weights) => {
                    for weight in weights.values() {
                        match weight.signum() {
                            1 => self.0.inserted += weight.unsigned_abs(),
                            _ => self.0.retracted += weight.unsigned_abs(),
                        }
                    }
                }
            }
        }
        self.0.epoch = epoch;
        Ok(())
    }

    fn status(&self) -> SinkStatus {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Int64Array, RecordBatch};

    use super::*;

    #[test]
    fn counts_by_weight() {
        let column = Arc::new(Int64Array::from(vec![1, 2, 3]));
        let rows = RecordBatch::try_from_iter([("a", column as _)]).unwrap();
        let mut sink = Blackhole::default();
        let weighted = Delta::new(rows.clone(), Some(vec![2, -1, -3].into()));
        sink.write(5, &[Delta::inserts(rows), weighted]).unwrap();
        assert_eq!(sink.status(), SinkStatus { epoch: 5, inserted: 5, retracted: 4 });
    }
}
