//! min and max of an argument that never retracts: the best value so far is all there is to keep.

use std::ops::Range;

use arrow::array::{Array, ArrayRef, AsArray, BinaryArray};
use arrow::datatypes::DataType;

use super::AggregateFunction;
use super::accumulator::{Accumulator, Fault, Rows, nulls_where_empty};
use super::cells::Cells;
use super::order::{self, Order};
use crate::error::Result;
use crate::state::spill::{Spillable, StateVec, fixed_bytes_of};

/// Fewer dead bytes are not worth the copying.
const DEAD_BYTES_MIN: usize = 64 << 10;

/// Values that are integers in order. Record: whether there is a value, the value in one word or two.
pub struct KeptNumber {
    pub offset: usize,
    pub max: bool,
    pub order: Order,
}

impl KeptNumber {
    pub fn words(order: Order) -> usize {
        if order == Order::U64 { 2 } else { 3 }
    }
}

impl Accumulator for KeptNumber {
    fn add(&mut self, cells: &mut Cells, rows: &Rows) {
        match self.order {
            Order::U64 => {
                let values = order::to_u64(rows.argument());
                rows.each(|row, id, _| {
                    let [present, best] = cells.at_mut::<2>(id, self.offset);
                    let value = values[row];
                    if *present == 0 || (if self.max { value > *best } else { value < *best }) {
                        (*present, *best) = (1, value);
                    }
                });
            }
            _ => {
                let values = order::to_u128(rows.argument());
                rows.each(|row, id, _| {
                    let [present, low, high] = cells.at_mut::<3>(id, self.offset);
                    let (value, best) = (values[row], (*high as u128) << 64 | *low as u128);
                    if *present == 0 || (if self.max { value > best } else { value < best }) {
                        (*present, *low, *high) = (1, value as u64, (value >> 64) as u64);
                    }
                });
            }
        }
    }
    fn results(
        &self,
        _: AggregateFunction,
        output: &DataType,
        cells: &Cells,
        ids: &[u32],
        _: &mut Vec<Fault>,
    ) -> ArrayRef {
        let nulls = nulls_where_empty(ids, |id| cells.at::<1>(id, self.offset)[0] == 0);
        match self.order {
            Order::U64 => {
                let values: Vec<u64> = ids.iter().map(|id| cells.at::<2>(*id, self.offset)[1]).collect();
                order::from_u64(output, &values, nulls)
            }
            _ => {
                let value = |words: &[u64; 3]| (words[2] as u128) << 64 | words[1] as u128;
                let values: Vec<u128> = ids.iter().map(|id| value(cells.at::<3>(*id, self.offset))).collect();
                order::from_u128(output, &values, nulls)
            }
        }
    }
}

/// Texts and byte strings. Nothing in the record.
pub struct KeptBytes {
    pub max: bool,
    pub best: Texts,
}

impl KeptBytes {
    pub fn new(max: bool) -> KeptBytes {
        KeptBytes { max, best: Texts::new() }
    }
}

impl Accumulator for KeptBytes {
    fn add(&mut self, _: &mut Cells, rows: &Rows) {
        let values = order::to_bytes(rows.argument());
        rows.each(|row, id, _| {
            let value = values.get(row);
            if self.best.get(id).is_none_or(|best| if self.max { value > best } else { value < best }) {
                self.best.set(id, Some(value));
            }
        });
        self.best.make_dense();
    }
    fn results(&self, _: AggregateFunction, output: &DataType, _: &Cells, ids: &[u32], _: &mut Vec<Fault>) -> ArrayRef {
        order::from_bytes(output, ids.iter().map(|id| self.best.get(*id)))
    }
    fn clear(&mut self, id: u32) {
        self.best.set(id, None);
    }
    fn save(&self, ids: &[u32]) -> Option<ArrayRef> {
        Some(std::sync::Arc::new(ids.iter().map(|id| self.best.get(*id)).collect::<BinaryArray>()))
    }
    fn load(&mut self, ids: &[u32], column: &ArrayRef) -> Result<()> {
        let column = column.as_binary::<i32>();
        for (row, id) in ids.iter().enumerate() {
            self.best.set(*id, column.is_valid(row).then(|| column.value(row)));
        }
        Ok(())
    }
    fn side_bytes(&self) -> usize {
        self.best.bytes(|bytes| bytes)
    }
    fn side_fixed_bytes(&self) -> usize {
        self.best.bytes(fixed_bytes_of)
    }
}

/// A text by group, end to end in one vector, which can leave memory. One that gets longer goes to the end.
pub struct Texts {
    bytes: StateVec<u8>,
    by_group: StateVec<Option<Place>>,
    /// Of `bytes`, what no group has any more.
    dead: usize,
}

#[derive(Clone, Copy)]
struct Place {
    start: u64,
    length: u64,
}

impl Place {
    fn range(self) -> Range<usize> {
        self.start as usize..(self.start + self.length) as usize
    }
}

impl Texts {
    fn new() -> Texts {
        Texts { bytes: StateVec::new_in(Spillable), by_group: StateVec::new_in(Spillable), dead: 0 }
    }

    fn get(&self, id: u32) -> Option<&[u8]> {
        let place = (*self.by_group.get(id as usize)?)?;
        Some(&self.bytes[place.range()])
    }

    fn set(&mut self, id: u32, text: Option<&[u8]>) {
        let id = id as usize;
        if self.by_group.len() <= id {
            self.by_group.resize(id + 1, None);
        }
        let before = self.by_group[id].take();
        let room = before.map_or(0, |place| place.length as usize);
        self.by_group[id] = text.map(|text| {
            let length = text.len() as u64;
            match before {
                Some(place) if text.len() <= room => {
                    self.dead += room - text.len();
                    let place = Place { start: place.start, length };
                    self.bytes[place.range()].copy_from_slice(text);
                    place
                }
                _ => {
                    self.dead += room;
                    let start = self.bytes.len() as u64;
                    self.bytes.extend_from_slice(text);
                    Place { start, length }
                }
            }
        });
        if text.is_none() {
            self.dead += room;
        }
    }

    /// Lets go of what is dead, once that is most of it.
    fn make_dense(&mut self) {
        if self.dead < DEAD_BYTES_MIN || self.dead * 2 < self.bytes.len() {
            return;
        }
        let mut dense = StateVec::with_capacity_in(self.bytes.len() - self.dead, Spillable);
        for place in self.by_group.iter_mut().flatten() {
            let start = dense.len() as u64;
            dense.extend_from_slice(&self.bytes[place.range()]);
            place.start = start;
        }
        (self.bytes, self.dead) = (dense, 0);
    }

    /// The sum of its vectors, of each of which `of` says what counts of its bytes.
    fn bytes(&self, of: impl Fn(usize) -> usize) -> usize {
        of(self.bytes.capacity()) + of(self.by_group.capacity() * size_of::<Option<Place>>())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Beside a map, with texts that get shorter, longer, go and come again.
    #[test]
    fn texts_are_those_that_were_set_last() {
        let (mut texts, mut expected) = (Texts::new(), std::collections::BTreeMap::new());
        for step in 0..20_000u32 {
            let id = step.wrapping_mul(2_654_435_761) >> 22;
            let text = (step % 7 != 0).then(|| vec![step as u8; (step.wrapping_mul(40_503) >> 4) as usize % 90]);
            texts.set(id, text.as_deref());
            expected.insert(id, text);
            if step % 100 == 0 {
                texts.make_dense();
                let live: usize = expected.values().flatten().map(Vec::len).sum();
                assert_eq!(texts.bytes.len() - texts.dead, live);
                assert!(texts.bytes.len() <= 2 * live + DEAD_BYTES_MIN + 100 * 90);
            }
        }
        assert!((0..2000).all(|id| texts.get(id) == expected.get(&id).and_then(|text| text.as_deref())));
    }
}
