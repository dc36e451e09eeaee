//! A transaction's own changes of one relation, as its statements see them over what was committed.
//!
//! ```text
//!   committed   (1,'a') (2,'b') (3,'c')
//!   own         -(2,'b') +(2,'x') +(4,'d')       seen   (1,'a') (3,'c') (2,'x') (4,'d')
//! ```
//!
//! Cost: a look-up by key looks at the changes of that key alone; reading everything costs the changes once, and a hash per
//! committed row.

use std::collections::HashMap;
use std::sync::Mutex;

use arrow::array::{ArrayRef, BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;

use super::table::Batches;
use crate::delta::Delta;
use crate::delta::consolidate::{concat, consolidate};
use crate::delta::keys::KeyEncoder;
use crate::state::arrangement::{equal_rows, row_hashes, split_weights, take};
use crate::state::segment_index::Wanted;

/// Changes of fewer rows, on average, are joined.
const SMALL_ROWS: usize = 1024;
/// A joined column of texts must stay under 2 GiB.
const JOINED_BYTES_MAX: usize = 256 << 20;

/// Changes in the order in which they were made.
#[derive(Default)]
pub struct Own {
    deltas: Vec<Delta>,
    by_key: Mutex<Vec<KeyHashes>>,
}

/// Where the rows are whose columns have a hash: change and row. Of the first `indexed` changes.
struct KeyHashes {
    columns: Vec<usize>,
    indexed: usize,
    places: HashMap<u64, Vec<(u32, u32)>>,
}

impl Clone for Own {
    /// Indexes are made anew where they are asked for.
    fn clone(&self) -> Self {
        Own { deltas: self.deltas.clone(), by_key: Mutex::default() }
    }
}

impl Own {
    /// Follows a list of changes that has grown.
    pub fn follow(&mut self, deltas: &[Delta]) {
        self.deltas.extend_from_slice(&deltas[self.deltas.len()..]);
    }

    /// One change more.
    pub fn add(&mut self, delta: Delta) {
        self.deltas.push(delta);
    }

    /// Changes of rows that may be wanted; `None` where columns have no hash.
    fn changes_of(&self, wanted: &Wanted) -> Option<Vec<Delta>> {
        let mut known = self.by_key.lock().expect("no panic while held");
        let at = known.iter().position(|hashes| hashes.columns == wanted.columns).unwrap_or_else(|| {
            known.push(KeyHashes { columns: wanted.columns.clone(), indexed: 0, places: HashMap::new() });
            known.len() - 1
        });
        let hashes = &mut known[at];
        for (n, delta) in self.deltas.iter().enumerate().skip(hashes.indexed) {
            let values: Vec<ArrayRef> = hashes.columns.iter().map(|&c| delta.rows.column(c).clone()).collect();
            let types: Vec<_> = values.iter().map(|v| v.data_type().clone()).collect();
            let encoded = KeyEncoder::new(&types).ok()?.encode_rows(&values, delta.len());
            for (row, hash) in encoded.hashes.iter().enumerate() {
                hashes.places.entry(*hash).or_default().push((n as u32, row as u32));
            }
        }
        hashes.indexed = self.deltas.len();
        let places = hashes.places.get(&wanted.hash).map(Vec::as_slice).unwrap_or_default();
        let of_one = places.chunk_by(|a, b| a.0 == b.0).map(|places| {
            let rows = places.iter().map(|place| place.1).collect::<Vec<u32>>();
            self.deltas[places[0].0 as usize].take(&rows.into())
        });
        Some(of_one.collect())
    }

    /// All rows that are seen, where `base` is what was committed.
    pub fn over(&self, base: Batches) -> Batches {
        over(&self.deltas, base)
    }

    /// The rows that may be wanted, where `base` is those of what was committed: other ones may be among them as they were.
    pub fn found_over(&self, base: Batches, wanted: &Wanted) -> Option<Batches> {
        Some(over(&self.changes_of(wanted)?, base))
    }
}

fn over(deltas: &[Delta], base: Batches) -> Batches {
    let net = if deltas.iter().all(|delta| delta.weights.is_none()) { joined(deltas) } else { consolidate(deltas) };
    let (mut made, mut gone) = (Vec::new(), Vec::new());
    for delta in net {
        let Some(weights) = &delta.weights else {
            made.push(delta.rows);
            continue;
        };
        let (plus, minus) = split_weights(weights);
        made.push(take(&delta.rows, &plus));
        gone.push(take(&delta.rows, &minus));
    }
    made.retain(|rows| rows.num_rows() > 0);
    gone.retain(|rows| rows.num_rows() > 0);
    let made = made.into_iter().map(Ok);
    if gone.is_empty() {
        return Box::new(base.chain(made));
    }
    let mut gone = Gone::new(gone);
    Box::new(base.map(move |rows| rows.map(|rows| gone.taken_from(rows))).chain(made))
}

/// Those of many small statements as one, so that whoever reads them does not pay for each.
fn joined(deltas: &[Delta]) -> Vec<Delta> {
    let small = deltas.len() > 1 && deltas.iter().map(Delta::len).sum::<usize>() < SMALL_ROWS * deltas.len();
    let fits = || deltas.iter().map(Delta::bytes).sum::<usize>() < JOINED_BYTES_MAX;
    if small && fits() { vec![concat(deltas)] } else { deltas.to_vec() }
}

/// Rows that a transaction has taken out of what was committed, each once, and that have not been met yet.
struct Gone {
    rows: Vec<RecordBatch>,
    by_hash: HashMap<u64, Vec<(u32, u32)>>,
}

impl Gone {
    fn new(rows: Vec<RecordBatch>) -> Self {
        let mut by_hash: HashMap<u64, Vec<(u32, u32)>> = HashMap::new();
        for (n, batch) in rows.iter().enumerate() {
            for (row, hash) in row_hashes(batch).into_iter().enumerate() {
                by_hash.entry(hash).or_default().push((n as u32, row as u32));
            }
        }
        Gone { rows, by_hash }
    }

    /// What is left of `batch`.
    fn taken_from(&mut self, batch: RecordBatch) -> RecordBatch {
        if self.by_hash.is_empty() {
            return batch;
        }
        let mut stays = vec![true; batch.num_rows()];
        for (row, hash) in row_hashes(&batch).into_iter().enumerate() {
            let Some(places) = self.by_hash.get_mut(&hash) else { continue };
            let own = batch.slice(row, 1);
            let same = |&(n, at): &(u32, u32)| equal_rows(&own, &self.rows[n as usize].slice(at as usize, 1))[0];
            let Some(met) = places.iter().rposition(same) else { continue };
            places.swap_remove(met);
            if places.is_empty() {
                self.by_hash.remove(&hash);
            }
            stays[row] = false;
        }
        if stays.iter().all(|stays| *stays) {
            return batch;
        }
        filter_record_batch(&batch, &BooleanArray::from(stays)).expect("a mask of the rows")
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::delta::text::{format, parse, schema};
    use arrow::datatypes::DataType;

    fn rows(batches: Batches) -> Vec<String> {
        let rows = batches.map(|rows| format(&[Delta::inserts(rows.unwrap())]));
        let mut lines: Vec<String> =
            rows.flat_map(|text| text.lines().map(str::to_owned).collect::<Vec<_>>()).collect();
        lines.sort();
        lines
    }

    #[test]
    fn what_a_transaction_sees() {
        let schema = schema("k: Int64, v: Utf8");
        let committed = || -> Batches {
            let parts = ["+1 | 1 | a\n+2 | 2 | b\n+1 | 2 | b", "+1 | 2 | b\n+1 | 3 | NULL"];
            let rows: Vec<_> = parts.iter().map(|text| parse(&schema, text)).collect();
            Box::new(rows.into_iter().map(|delta| match &delta.weights {
                None => Ok(delta.rows),
                Some(weights) => Ok(take(&delta.rows, &split_weights(weights).0)),
            }))
        };
        let mut own = Own::default();
        let mut changes = vec![parse(&schema, "-1 | 2 | b\n+1 | 2 | x\n-1 | 3 | NULL"), parse(&schema, "+1 | 4 | d")];
        own.follow(&changes);
        let encoder = KeyEncoder::new(&[DataType::Int64]).unwrap();
        let wanted = |key: i64| {
            let key: ArrayRef = Arc::new(arrow::array::Int64Array::from(vec![key]));
            Wanted { columns: vec![0], hash: encoder.encode_rows(&[key], 1).hashes[0] }
        };
        let of = |own: &Own, key: i64| {
            let mut lines = rows(own.found_over(committed(), &wanted(key)).unwrap());
            lines.retain(|line| line.contains(&format!("| {key} |")));
            lines
        };
        assert_eq!(
            rows(own.over(committed())),
            ["+1 | 1 | a", "+1 | 2 | b", "+1 | 2 | b", "+1 | 2 | b", "+1 | 2 | x", "+1 | 4 | d"]
        );
        assert_eq!(of(&own, 2), ["+1 | 2 | b", "+1 | 2 | b", "+1 | 2 | b", "+1 | 2 | x"]);
        assert_eq!(of(&own, 3), [""; 0]);
        assert_eq!(of(&own, 4), ["+1 | 4 | d"]);
        // What is made may be changed again; a copy has the same.
        changes.push(parse(&schema, "-1 | 2 | x\n-1 | 4 | d\n-3 | 2 | b\n+1 | 3 | NULL"));
        own.follow(&changes);
        assert_eq!(rows(own.over(committed())), ["+1 | 1 | a", "+1 | 3 | NULL"]);
        assert_eq!(of(&own.clone(), 2), [""; 0]);
        assert_eq!(of(&own, 2), [""; 0]);
        assert_eq!(of(&own, 3), ["+1 | 3 | NULL"]);
    }
}
