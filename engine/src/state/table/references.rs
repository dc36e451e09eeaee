//! Foreign keys, as the commit path asks after them: is there a row with this key, and does a row refer to it, once a change
//! that was checked has been made?
//!
//! ```text
//!   orders.customer ──► customers.id
//!   has_keys      of customers: by their unique key            for orders that come
//!   refers        of orders: by an index of their own          for customers that go
//! ```
//!
//! Rows that refer are kept by their key too, as many as there are of each. A key with a NULL in it refers to nothing.

use arrow::array::{Array, ArrayRef, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::DataType;

use super::{Checked, KeyedBy, Table};
use crate::catalog::ForeignKey;
use crate::delta::keys::KeyBatch;
use crate::error::{Error, Result};
use crate::state::arrangement::take;
use crate::state::key_index::NONE;
use crate::state::key_table::KeyTable;

pub fn columns_of(rows: &RecordBatch, columns: &[usize]) -> Vec<ArrayRef> {
    columns.iter().map(|&column| rows.column(column).clone()).collect()
}

/// For each row whether one of these is NULL.
pub fn any_null(keys: &[ArrayRef], rows: usize) -> Vec<bool> {
    (0..rows).map(|row| keys.iter().any(|key| key.is_null(row))).collect()
}

impl KeyedBy {
    fn types(&self) -> Vec<DataType> {
        self.index.table().encoder().types().to_vec()
    }

    /// Keys that come from another table, whose whole numbers may be of another width: what does not fit is NULL.
    fn encoded(&self, keys: &[ArrayRef], rows: usize) -> Result<KeyBatch> {
        let own = keys.iter().zip(self.types()).map(|(key, to)| cast(key, &to).map_err(Error::internal));
        Ok(self.index.table().encoder().encode_rows(&own.collect::<Result<Vec<_>>>()?, rows))
    }
}

/// How often each key is among others.
struct Counted {
    ids: KeyTable,
    counts: Vec<u32>,
}

impl Counted {
    fn of(types: &[DataType], keys: &KeyBatch) -> Result<Counted> {
        let (mut table, mut ids) = (KeyTable::new(types)?, Vec::new());
        table.intern(keys, &mut ids);
        let mut counts = vec![0; table.bound() as usize];
        ids.iter().for_each(|&id| counts[id as usize] += 1);
        Ok(Counted { ids: table, counts })
    }

    fn count(&self, keys: &KeyBatch) -> Vec<u32> {
        let mut ids = Vec::new();
        self.ids.find(keys, &mut ids);
        ids.iter().map(|&id| if id == NONE { 0 } else { self.counts[id as usize] }).collect()
    }
}

impl Table {
    /// Whether a row has each of these keys, values of `columns`, which are a unique key. A NULL is no row's.
    pub fn has_keys(&mut self, columns: &[usize], keys: &[ArrayRef], change: Option<&Checked>) -> Result<Vec<bool>> {
        let rows = keys.first().map_or(0, |key| key.len());
        let same = |keyed: &&mut KeyedBy| {
            keyed.columns.len() == columns.len() && keyed.columns.iter().all(|column| columns.contains(column))
        };
        let Some(keyed) = self.keyed.iter_mut().find(same) else {
            return Err(Error::internal("a foreign key refers to columns that are no unique key"));
        };
        let place = |column: &usize| columns.iter().position(|c| c == column).expect("the same columns");
        let keys: Vec<ArrayRef> = keyed.columns.iter().map(|column| keys[place(column)].clone()).collect();
        let encoded = keyed.encoded(&keys, rows)?;
        let heads = keyed.index.heads(&encoded);
        let mut there: Vec<bool> = heads.iter().map(|&head| head != NONE).collect();
        if let Some(change) = change {
            let types = keyed.types();
            let gone = Counted::of(&types, &keyed.keys(&change.minus))?.count(&encoded);
            let new = Counted::of(&types, &keyed.keys(&change.plus))?.count(&encoded);
            for (row, there) in there.iter_mut().enumerate() {
                *there = *there && gone[row] == 0 || new[row] > 0;
            }
        }
        let null = |row: usize| encoded.any_null.as_ref().is_some_and(|nulls| nulls.value(row));
        Ok(there.into_iter().enumerate().map(|(row, there)| there && !null(row)).collect())
    }

    /// Whether a row that was there before `change`, and is there after it, refers to each of these keys.
    pub fn refers(&mut self, key: &ForeignKey, keys: &[ArrayRef], change: Option<&Checked>) -> Result<Vec<bool>> {
        let rows = keys.first().map_or(0, |key| key.len());
        let keyed = self.referring_by(key)?;
        let gone = match change {
            Some(change) => Counted::of(&keyed.types(), &keyed.keys(&change.minus))?.count(&keyed.encoded(keys, rows)?),
            None => vec![0; rows],
        };
        self.refers_more(key, keys, gone)
    }

    fn referring_by(&mut self, key: &ForeignKey) -> Result<&mut KeyedBy> {
        let at = self.relation.foreign_keys.iter().position(|own| own.id == key.id);
        let keyed = at.and_then(|at| self.referring.get_mut(at));
        keyed.ok_or_else(|| Error::internal("a foreign key without an index"))
    }

    /// Whether more rows than so many refer to each of these keys.
    pub fn refers_more(&mut self, key: &ForeignKey, keys: &[ArrayRef], gone: Vec<u32>) -> Result<Vec<bool>> {
        let rows = keys.first().map_or(0, |key| key.len());
        let keyed = self.referring_by(key)?;
        let encoded = keyed.encoded(keys, rows)?;
        let heads = keyed.index.heads(&encoded);
        // More of them than go.
        let stays = |(head, mut gone): (u32, u32)| {
            let mut position = head;
            while position != NONE {
                if gone == 0 {
                    return true;
                }
                gone -= 1;
                position = keyed.index.next(position);
            }
            false
        };
        Ok(heads.into_iter().zip(gone).map(stays).collect())
    }

    /// All its rows.
    pub fn rows_now(&self) -> Vec<RecordBatch> {
        let mut position = 0;
        let mut all = Vec::new();
        for rows in self.rows.segments() {
            let live = self.live(&rows, position);
            position += rows.num_rows() as u32;
            all.push(take(&rows, &live));
        }
        all
    }
}
