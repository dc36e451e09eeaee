//! Equal rows of one delta as one row of the sum of their weights, where that makes much less of them.
//!
//! ```text
//!   +1 | 7 | 12:00          +3 | 7 | 12:00
//!   +1 | 7 | 12:00    ──►   +1 | 8 | 12:00
//!   +1 | 8 | 12:00
//!   +1 | 7 | 12:00
//! ```
//! Unlike [`consolidate`](super::consolidate) it need not find all equal rows: it pays before what multiplies rows. A sample
//! of the first ones says whether it will; where most of them differ, the delta stays as it is.

use arrow::array::{Int64Array, UInt32Array};
use arrow::datatypes::DataType;

use super::Delta;
use super::keys::{KeyBatch, KeyEncoder, KeyValues};

/// Fewer rows are not worth it.
const ROWS_MIN: usize = 64;
const SAMPLE_ROWS: usize = 512;

/// The same Z-set.
///
/// # Panics
/// If a column's type cannot be a key (see [`KeyEncoder`]); no SQL type is such.
pub fn merge(delta: Delta) -> Delta {
    if delta.len() < ROWS_MIN || delta.rows.num_columns() == 0 {
        return delta;
    }
    let types: Vec<DataType> = delta.schema().fields().iter().map(|field| field.data_type().clone()).collect();
    let encoder = KeyEncoder::new(&types).expect("every SQL type can be a key");
    let sample = delta.slice(0, SAMPLE_ROWS.min(delta.len()));
    let (_, firsts) = first_of_each(&encoder.encode(sample.rows.columns()));
    if firsts.len() * 2 > sample.len() {
        return delta;
    }
    let (group_of, firsts) = first_of_each(&encoder.encode(delta.rows.columns()));
    let mut sums = vec![0i64; firsts.len()];
    for (row, group) in group_of.iter().enumerate() {
        let sum = &mut sums[*group as usize];
        *sum = sum.checked_add(delta.weight(row)).expect("weights of one row add up to less than 2^63");
    }
    // What came to nothing is no row.
    if sums.contains(&0) {
        return delta;
    }
    let rows = Delta::inserts(delta.rows).take(&UInt32Array::from(firsts)).rows;
    Delta::new(rows, Some(Int64Array::from(sums)))
}

/// For each row the number of the group of equal rows that it is in, and the first row of each group.
fn first_of_each(keys: &KeyBatch) -> (Vec<u32>, Vec<u32>) {
    let hashes = &keys.hashes;
    // Keys are equal when their values and the high halves of their hashes are.
    match &keys.values {
        KeyValues::U64(values) => groups(hashes, |a, b| values[a] == values[b]),
        KeyValues::U128(values) => groups(hashes, |a, b| values[a] == values[b]),
        KeyValues::Bytes(values) => groups(hashes, |a, b| values.get(a) == values.get(b)),
    }
}

fn groups(hashes: &[u64], equal: impl Fn(usize, usize) -> bool) -> (Vec<u32>, Vec<u32>) {
    let bits = (hashes.len() * 2).next_power_of_two().trailing_zeros().max(1);
    let mask = (1usize << bits) - 1;
    // A group's number and one more; 0 is free.
    let mut slots = vec![0u32; 1 << bits];
    let (mut group_of, mut firsts) = (Vec::with_capacity(hashes.len()), Vec::<u32>::new());
    for (row, hash) in hashes.iter().enumerate() {
        let mut at = (hash >> (64 - bits)) as usize;
        let group = loop {
            match slots[at] {
                0 => {
                    firsts.push(row as u32);
                    slots[at] = firsts.len() as u32;
                    break firsts.len() as u32 - 1;
                }
                used => {
                    let first = firsts[used as usize - 1] as usize;
                    if hashes[first] >> 32 == hash >> 32 && equal(first, row) {
                        break used - 1;
                    }
                    at = (at + 1) & mask;
                }
            }
        };
        group_of.push(group);
    }
    (group_of, firsts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delta::consolidate::consolidate;
    use crate::delta::text::{format, parse, schema};

    #[test]
    fn equal_rows_are_one() {
        let schema = schema("k: Int64, v: Utf8");
        let lines = ["+1 | 1 | a", "+2 | NULL | a", "+1 | 0 | a", "-1 | 1 | NULL", "+1 | 1 | a"];
        let text: Vec<&str> = (0..200).map(|i| lines[i % 5]).collect();
        let delta = parse(&schema, &text.join("\n "));
        let merged = merge(delta.clone());
        assert_eq!(format(&[merged.clone()]), "+40 | 0 | a\n-40 | 1 | NULL\n+80 | 1 | a\n+80 | NULL | a\n");
        assert_eq!(format(&consolidate(&[delta.clone(), merged.negate()])), "");
        // Few rows stay as they are, and so do rows that differ, and rows that come to nothing.
        assert_eq!(merge(delta.slice(0, 60)).len(), 60);
        let different: Vec<String> = (0..200).map(|i| format!("+1 | {i} | a")).collect();
        assert_eq!(merge(parse(&schema, &different.join("\n "))).len(), 200);
        let nothing: Vec<&str> = (0..200).map(|i| if i % 2 == 0 { "+1 | 1 | a" } else { "-1 | 1 | a" }).collect();
        assert!(consolidate(&[merge(parse(&schema, &nothing.join("\n ")))]).is_empty());
    }
}
