//! The rows of a segment by the hash of some columns: a segment never changes, so the index stays right, and rows that
//! died are left out by whoever reads.
//!
//! Cost: 12 bytes and the sorting of a hash per row, once per segment and set of columns. That is some twenty times what
//! reading the segment through costs, so of a large relation, as it is after a start, not everything is indexed by the
//! first look-up: each makes the indexes of a million rows more, and reads the others through.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::DataType;

use crate::delta::keys::KeyEncoder;

/// Smaller segments are rather read whole.
const INDEXED_ROWS_MIN: usize = 256;

/// The segments of so many rows are indexed by one look-up.
const INDEXED_ROWS_AT_ONCE: u32 = 1 << 20;
/// After so many look-ups a segment is indexed wherever it lies.
const ASKED_MAX: u32 = 64;

/// Rows whose columns have this hash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    pub columns: Vec<usize>,
    pub hash: u64,
}

/// Hashes, sorted, each with its row.
type Hashes = Arc<Vec<(u64, u32)>>;

#[derive(Default)]
pub struct SegmentIndex {
    known: Mutex<Vec<(Vec<usize>, Hashes)>>,
    asked: AtomicU32,
}

impl SegmentIndex {
    /// The rows that may be wanted, in order; `None`: any. `first`: the position of the first of them in its relation.
    pub fn rows(&self, rows: &RecordBatch, first: u32, wanted: &Wanted) -> Option<Vec<u32>> {
        if rows.num_rows() < INDEXED_ROWS_MIN {
            return None;
        }
        let turn = (first / INDEXED_ROWS_AT_ONCE).min(ASKED_MAX);
        if self.asked.load(Ordering::Relaxed) < turn {
            self.asked.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        let hashes = self.hashes(rows, &wanted.columns)?;
        let first = hashes.partition_point(|(hash, _)| *hash < wanted.hash);
        let found = hashes[first..].iter().take_while(|(hash, _)| *hash == wanted.hash);
        Some(found.map(|(_, row)| *row).collect())
    }

    fn hashes(&self, rows: &RecordBatch, columns: &[usize]) -> Option<Hashes> {
        let mut known = self.known.lock().expect("no panic while held");
        if let Some((_, hashes)) = known.iter().find(|(of, _)| of == columns) {
            return Some(hashes.clone());
        }
        let values: Vec<ArrayRef> = columns.iter().map(|&c| rows.column(c).clone()).collect();
        let types: Vec<DataType> = values.iter().map(|v| v.data_type().clone()).collect();
        let encoded = KeyEncoder::new(&types).ok()?.encode_rows(&values, rows.num_rows());
        let mut hashes: Vec<(u64, u32)> = encoded.hashes.iter().copied().zip(0..).collect();
        hashes.sort_unstable();
        let hashes = Arc::new(hashes);
        known.push((columns.to_vec(), hashes.clone()));
        Some(hashes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::Int64Array;
    use arrow::datatypes::{Field, Schema};

    #[test]
    fn finds_all_rows_of_a_key() {
        let schema = Arc::new(Schema::new(vec![Field::new("k", DataType::Int64, true)]));
        let keys: Int64Array = (0..1000).map(|i| (i % 7 != 3).then_some(i % 100)).collect();
        let rows = RecordBatch::try_new(schema, vec![Arc::new(keys.clone())]).unwrap();
        let index = SegmentIndex::default();
        let encoder = KeyEncoder::new(&[DataType::Int64]).unwrap();
        let wanted = |key: i64| {
            let key: ArrayRef = Arc::new(Int64Array::from(vec![key]));
            Wanted { columns: vec![0], hash: encoder.encode_rows(&[key], 1).hashes[0] }
        };
        let of =
            |key: i64| (0..1000u32).filter(|&r| keys.iter().nth(r as usize) == Some(Some(key))).collect::<Vec<_>>();
        assert_eq!(index.rows(&rows, 0, &wanted(42)), Some(of(42)));
        assert_eq!(index.rows(&rows, 0, &wanted(99)), Some(of(99)));
        assert_eq!(index.rows(&rows, 0, &wanted(1000)), Some(vec![]));
        // Its turn comes with the third look-up.
        let late = SegmentIndex::default();
        let found = (0..4).map(|_| late.rows(&rows, 2 * INDEXED_ROWS_AT_ONCE, &wanted(42))).collect::<Vec<_>>();
        assert_eq!(found, [None, None, Some(of(42)), Some(of(42))]);
        assert_eq!(index.rows(&rows.slice(0, 10), 0, &wanted(1)), None);
    }
}
