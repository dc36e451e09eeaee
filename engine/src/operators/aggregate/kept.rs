//! min and max of an argument that never retracts: the best value so far is all there is to keep.

use arrow::array::{Array, ArrayRef, AsArray, BinaryArray};
use arrow::datatypes::DataType;

use super::AggregateFunction;
use super::accumulator::{Accumulator, Fault, Rows, nulls_where_empty};
use super::cells::Cells;
use super::order::{self, Order};
use crate::error::Result;

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
    pub best: Vec<Option<Box<[u8]>>>,
}

impl KeptBytes {
    fn grow(&mut self, ids: &[u32]) {
        let bound = ids.iter().max().map_or(0, |id| *id as usize + 1);
        if self.best.len() < bound {
            self.best.resize(bound, None);
        }
    }
    fn get(&self, id: u32) -> Option<&[u8]> {
        self.best.get(id as usize)?.as_deref()
    }
}

impl Accumulator for KeptBytes {
    fn add(&mut self, _: &mut Cells, rows: &Rows) {
        self.grow(rows.ids);
        let values = order::to_bytes(rows.argument());
        rows.each(|row, id, _| {
            let (value, best) = (values.get(row), &mut self.best[id as usize]);
            if best.as_deref().is_none_or(|best| if self.max { value > best } else { value < best }) {
                *best = Some(value.into());
            }
        });
    }
    fn results(&self, _: AggregateFunction, output: &DataType, _: &Cells, ids: &[u32], _: &mut Vec<Fault>) -> ArrayRef {
        order::from_bytes(output, ids.iter().map(|id| self.get(*id)))
    }
    fn clear(&mut self, id: u32) {
        if let Some(best) = self.best.get_mut(id as usize) {
            *best = None;
        }
    }
    fn save(&self, ids: &[u32]) -> Option<ArrayRef> {
        Some(std::sync::Arc::new(ids.iter().map(|id| self.get(*id)).collect::<BinaryArray>()))
    }
    fn load(&mut self, ids: &[u32], column: &ArrayRef) -> Result<()> {
        self.grow(ids);
        let column = column.as_binary::<i32>();
        for (row, id) in ids.iter().enumerate() {
            self.best[*id as usize] = column.is_valid(row).then(|| column.value(row).into());
        }
        Ok(())
    }
    fn side_bytes(&self) -> usize {
        self.best.capacity() * size_of::<Option<Box<[u8]>>>()
            + self.best.iter().flatten().map(|b| b.len()).sum::<usize>()
    }
}
