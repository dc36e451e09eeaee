//! Consolidation: adds the weights of equal rows and drops the rows that come to zero.
//!
//! ```text
//!   +1 | 1 | a          +1 | 2 | b
//!   -1 | 2 | b    ──►   +2 | 1 | a      (in the order and batches of the rows' first appearance)
//!   +2 | 2 | b
//!   +1 | 1 | a
//! ```
//!
//! Each column is hashed by itself and the hashes are combined; a table finds rows of equal hashes; only
//! these are compared, as keys (NULL equals NULL, −0 equals 0). Where nothing cancels this costs about
//! 50 ns a row, which can be more than the operator that made the rows: whoever knows that nothing can
//! cancel, e.g. since [`has_retractions`] says no and equal rows do no harm, does not call it.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, UInt32Array};
use arrow::compute::{concat_batches, take};
use arrow::datatypes::{DataType, Schema};

use super::Delta;
use super::hash::hash_u64;
use super::keys::{KeyBatch, KeyEncoder, KeyValues};

/// Smaller batches than this are put together first: the work per batch would be more than that per row.
const ROWS_MIN: usize = 1024;

pub fn has_retractions(deltas: &[Delta]) -> bool {
    deltas.iter().any(|delta| delta.weights.as_ref().is_some_and(|w| w.values().iter().any(|w| *w < 0)))
}

/// The same Z-set with each row at most once, and no row of weight 0. All deltas have one schema.
///
/// # Panics
/// If a column's type cannot be a key (see [`KeyEncoder`]); no SQL type is such.
pub fn consolidate(deltas: &[Delta]) -> Vec<Delta> {
    let rows: usize = deltas.iter().map(Delta::len).sum();
    if rows < ROWS_MIN * deltas.len() && deltas.len() > 1 {
        return consolidate(&[concat(deltas)]);
    }
    if rows == 0 {
        return Vec::new();
    }
    assert!(rows < u32::MAX as usize, "rows are counted in 32 bits");
    let encoder = |types: &[DataType]| KeyEncoder::new(types).expect("every SQL type can be a key");
    let schema = deltas[0].schema();
    let types: Vec<DataType> = schema.fields().iter().map(|field| field.data_type().clone()).collect();
    let by_column: Vec<KeyEncoder> = types.iter().map(|t| encoder(std::slice::from_ref(t))).collect();
    let mut hashes = vec![0u64; rows];
    let mut start = 0;
    for delta in deltas {
        let part = &mut hashes[start..start + delta.len()];
        for (encoder, column) in by_column.iter().zip(delta.rows.columns()) {
            let keys = encoder.encode(std::slice::from_ref(column));
            part.iter_mut().zip(&keys.hashes).for_each(|(hash, column)| *hash = hash_u64(hash.rotate_left(5) ^ column));
        }
        start += delta.len();
    }

    let (leaders, followers) = first_of_each(&hashes);
    if followers.is_empty() {
        return deltas.iter().filter(|delta| !delta.is_empty()).cloned().collect();
    }
    let weights: Vec<i64> = deltas.iter().flat_map(|delta| (0..delta.len()).map(|row| delta.weight(row))).collect();
    let all_equal = {
        let encoder = encoder(&types);
        let a = encoder.encode_rows(&take_rows(deltas, &followers), followers.len());
        let b = encoder.encode_rows(
            &take_rows(deltas, &followers.iter().map(|row| leaders[*row as usize]).collect::<Vec<_>>()),
            followers.len(),
        );
        same_keys(&a, &b)
    };
    let leaders = if all_equal { leaders } else { first_of_each_exactly(deltas, &encoder(&types), rows) };

    let mut sums = vec![0i64; rows];
    for (leader, weight) in leaders.iter().zip(&weights) {
        let sum = &mut sums[*leader as usize];
        *sum = sum.checked_add(*weight).expect("weights of one row add up to less than 2^63");
    }
    let mut start = 0;
    let mut result = Vec::new();
    for delta in deltas {
        let sums = &sums[start..start + delta.len()];
        start += delta.len();
        let kept: Vec<u32> = (0..delta.len() as u32).filter(|row| sums[*row as usize] != 0).collect();
        if kept.is_empty() {
            continue;
        }
        let weights: Vec<i64> = kept.iter().map(|row| sums[*row as usize]).collect();
        let weights = weights.iter().any(|w| *w != 1).then(|| Int64Array::from(weights));
        let bare = Delta::inserts(delta.rows.clone());
        let rows = if kept.len() == delta.len() { bare.rows } else { bare.take(&UInt32Array::from(kept)).rows };
        result.push(Delta::new(rows, weights));
    }
    result
}

/// For each row the first one with its hash (itself, if there is none before), and the rows that have
/// another one before them.
fn first_of_each(hashes: &[u64]) -> (Vec<u32>, Vec<u32>) {
    const EMPTY: u32 = u32::MAX;
    let bits = (hashes.len() * 2).next_power_of_two().trailing_zeros().max(1);
    let mask = (1usize << bits) - 1;
    let mut slots = vec![EMPTY; 1 << bits];
    let mut leaders = Vec::with_capacity(hashes.len());
    let mut followers = Vec::new();
    for (row, hash) in hashes.iter().enumerate() {
        let mut at = (hash >> (64 - bits)) as usize;
        let leader = loop {
            match slots[at] {
                EMPTY => {
                    slots[at] = row as u32;
                    break row as u32;
                }
                other if hashes[other as usize] == *hash => {
                    followers.push(row as u32);
                    break other;
                }
                _ => at = (at + 1) & mask,
            }
        };
        leaders.push(leader);
    }
    (leaders, followers)
}

/// The same by the keys themselves, for when two different rows have one hash (never, as good as).
#[cold]
fn first_of_each_exactly(deltas: &[Delta], encoder: &KeyEncoder, rows: usize) -> Vec<u32> {
    let all: Vec<u32> = (0..rows as u32).collect();
    let keys = encoder.encode_rows(&take_rows(deltas, &all), rows);
    let mut first = std::collections::HashMap::new();
    all.iter().map(|row| *first.entry(key(&keys, *row as usize)).or_insert(*row)).collect()
}

/// A key's value and NULLs as bytes.
fn key(keys: &KeyBatch, row: usize) -> (Vec<u8>, u8) {
    let value = match &keys.values {
        KeyValues::U64(values) => values[row].to_le_bytes().to_vec(),
        KeyValues::U128(values) => values[row].to_le_bytes().to_vec(),
        KeyValues::Bytes(values) => values.get(row).to_vec(),
    };
    (value, keys.null_masks.as_ref().map_or(0, |masks| masks[row]))
}

fn same_keys(a: &KeyBatch, b: &KeyBatch) -> bool {
    let values = match (&a.values, &b.values) {
        (KeyValues::U64(a), KeyValues::U64(b)) => a == b,
        (KeyValues::U128(a), KeyValues::U128(b)) => a == b,
        (KeyValues::Bytes(a), KeyValues::Bytes(b)) => {
            a.offsets.lengths().eq(b.offsets.lengths()) && bytes(a) == bytes(b)
        }
        _ => unreachable!("one encoder makes keys of one form"),
    };
    // Hashes tell the NULLs apart where the values do not.
    values && a.hashes == b.hashes
}

fn bytes(keys: &super::keys::ByteKeys) -> &[u8] {
    let ends = (keys.offsets[0] as usize, keys.offsets[keys.offsets.len() - 1] as usize);
    &keys.data[ends.0..ends.1]
}

/// The columns of these rows, counted through all deltas.
fn take_rows(deltas: &[Delta], rows: &[u32]) -> Vec<ArrayRef> {
    if let [delta] = deltas {
        let rows = UInt32Array::from(rows.to_vec());
        return delta
            .rows
            .columns()
            .iter()
            .map(|column| take(column, &rows, None).expect("rows of this batch"))
            .collect();
    }
    let mut places = Vec::with_capacity(rows.len());
    let ends: Vec<usize> = deltas
        .iter()
        .scan(0, |end, delta| {
            *end += delta.len();
            Some(*end)
        })
        .collect();
    for row in rows {
        let batch = ends.partition_point(|end| *end <= *row as usize);
        places.push((batch, *row as usize - (ends[batch] - deltas[batch].len())));
    }
    (0..deltas[0].rows.num_columns())
        .map(|i| {
            let columns: Vec<&dyn arrow::array::Array> = deltas.iter().map(|d| d.rows.column(i).as_ref()).collect();
            arrow::compute::interleave(&columns, &places).expect("columns of one type")
        })
        .collect()
}

/// One delta of all, of which there is at least one.
pub fn concat(deltas: &[Delta]) -> Delta {
    let batches: Vec<&RecordBatch> = deltas.iter().map(|delta| &delta.rows).collect();
    let mut schema = deltas[0].schema();
    // The inputs of a union may differ in whether a column can be NULL.
    if deltas.iter().any(|delta| !Arc::ptr_eq(delta.rows.schema_ref(), &schema) && *delta.rows.schema_ref() != schema) {
        let fields = schema.fields().iter().map(|field| field.as_ref().clone().with_nullable(true));
        schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
    }
    let rows = concat_batches(&schema, batches).expect("deltas of one schema");
    let weights = deltas
        .iter()
        .any(|delta| delta.weights.is_some())
        .then(|| deltas.iter().flat_map(|delta| (0..delta.len()).map(|row| delta.weight(row))).collect());
    Delta::new(rows, weights)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delta::text::{format, parse, schema};

    #[test]
    fn equal_rows_add_up() {
        let schema = schema("k: Int64, v: Utf8, f: Float64");
        let a = parse(&schema, "+1 | 1 | a | 0\n -1 | 2 | b | NaN\n +1 | NULL | NULL | NULL");
        let b = parse(&schema, "+2 | 2 | b | NaN\n +1 | 1 | a | -0\n -1 | NULL | NULL | NULL\n +1 | NULL | NULL | 0");
        let expected = "+2 | 1 | a | 0.0\n+1 | 2 | b | NaN\n+1 | NULL | NULL | 0.0\n";
        assert_eq!(format(&consolidate(&[a.clone(), b.clone()])), expected);
        assert!(consolidate(&[a.clone(), b.clone(), b.negate(), a.negate()]).is_empty());
        assert!(consolidate(&[]).is_empty() && consolidate(&[a.slice(0, 0)]).is_empty());
        assert!(has_retractions(&[b.clone(), a]) && !has_retractions(&[b.slice(0, 2)]));
    }

    /// Large batches are not put together; rows stay in the batch of their first appearance.
    #[test]
    fn across_large_batches() {
        let schema = schema("k: Int64");
        let batch = |from: i64, weight: i64| {
            let rows = RecordBatch::try_new(
                schema.clone(),
                vec![std::sync::Arc::new(Int64Array::from_iter_values(from..from + 2000))],
            );
            Delta::new(rows.unwrap(), Some(Int64Array::from_value(weight, 2000)))
        };
        let result = consolidate(&[batch(0, 1), batch(1000, -1), batch(2000, 3)]);
        let lengths: Vec<usize> = result.iter().map(Delta::len).collect();
        // 0..1000 once; 1000..2000 gone; 2000..3000 −1 + 3; 3000..4000 three times.
        assert_eq!(lengths, [1000, 1000, 1000]);
        assert_eq!([result[0].weight(0), result[1].weight(0), result[2].weight(999)], [1, 2, 3]);
        assert!(result[0].weights.is_none());
    }

    #[test]
    fn a_column_that_can_be_null_beside_one_that_cannot() {
        let nullable = parse(&schema("k: Int64"), "+1 | NULL");
        let strict = Schema::new(vec![nullable.rows.schema().field(0).clone().with_nullable(false)]);
        let rows = RecordBatch::try_new(Arc::new(strict), vec![Arc::new(Int64Array::from(vec![1]))]).unwrap();
        let delta = consolidate(&[Delta::new(rows, None), nullable]);
        assert_eq!(format(&delta), "+1 | 1\n+1 | NULL\n");
    }

    #[test]
    fn rows_without_columns() {
        let schema = schema("");
        let delta = parse(&schema, "+1\n+1\n-1");
        assert_eq!(format(&consolidate(&[delta])), "+1\n");
    }

    #[test]
    fn different_rows_of_one_hash_stay_apart() {
        let schema = schema("k: Int64, v: Utf8");
        let delta = parse(&schema, "+1 | 1 | a\n+1 | 2 | b\n+1 | 1 | a\n+1 | 1 | NULL");
        let types = [DataType::Int64, DataType::Utf8];
        let leaders = first_of_each_exactly(&[delta], &KeyEncoder::new(&types).unwrap(), 4);
        assert_eq!(leaders, [0, 1, 0, 3]);
        assert_eq!(first_of_each(&[7, 9, 7, 7]), (vec![0, 1, 0, 0], vec![2, 3]));
    }
}
