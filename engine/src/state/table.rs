//! A table as the commit path keeps it: its rows now, by whole row and by primary key.
//!
//! A change is checked first, whole: every row that it retracts is there (else 40001: someone was faster),
//! every key that it inserts is free (else 23505). Then it is applied, and cannot fail.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::{DataType, SchemaRef};

use crate::catalog::Relation;
use crate::delta::Delta;
use crate::delta::consolidate::consolidate;
use crate::delta::keys::{KeyBatch, KeyEncoder};
use crate::error::{Error, Result};
use crate::state::arrangement::{Arrangement, Shared, split_weights, take};
use crate::state::durable::{Saved, Share};
use crate::state::key_index::{KeyIndex, NONE};
use crate::state::key_table::KeyTable;
use crate::time::Epoch;

/// A change that fits the table as it stands.
pub struct Checked {
    plus: RecordBatch,
    minus: RecordBatch,
}

impl Checked {
    /// Known to fit: each row of `minus` is there, and the keys of `plus` are free without them.
    pub fn new(plus: RecordBatch, minus: RecordBatch) -> Self {
        Checked { plus, minus }
    }
}

pub struct Table {
    relation: Arc<Relation>,
    rows: Arrangement,
    key: Option<KeyIndex>,
}

impl Table {
    pub fn new(relation: Arc<Relation>) -> Result<Self> {
        let schema = relation.arrow_schema();
        let types: Vec<DataType> = relation.primary_key.iter().map(|&k| schema.field(k).data_type().clone()).collect();
        let key = if types.is_empty() { None } else { Some(KeyIndex::new(&types, true, false)?) };
        Ok(Table { rows: Arrangement::new(schema, true), relation, key })
    }

    pub fn reader(&self) -> Arc<Shared> {
        self.rows.reader()
    }

    pub fn schema(&self) -> &SchemaRef {
        self.rows.schema()
    }

    /// Of a table with a primary key: where the row with the key of each of `rows` is, or `NONE`; and those keys.
    pub fn positions(&mut self, rows: &RecordBatch) -> (Vec<u32>, KeyBatch) {
        let keys = self.keys(rows).expect("it has a primary key");
        (self.key.as_mut().expect("has keys").heads(&keys), keys)
    }

    pub fn rows_at(&self, positions: &[u32]) -> RecordBatch {
        self.rows.rows_at(positions)
    }

    fn keys(&self, rows: &RecordBatch) -> Option<KeyBatch> {
        let index = self.key.as_ref()?;
        let columns: Vec<ArrayRef> = self.relation.primary_key.iter().map(|&k| rows.column(k).clone()).collect();
        Some(index.table().encoder().encode_rows(&columns, rows.num_rows()))
    }

    /// The insertions and retractions of a change, summed up.
    fn split(&self, change: &[Delta]) -> (RecordBatch, RecordBatch) {
        let schema = self.rows.schema();
        let (mut plus, mut minus) = (Vec::new(), Vec::new());
        let net = if change.iter().all(|d| d.weights.is_none()) { change.to_vec() } else { consolidate(change) };
        for delta in net {
            match &delta.weights {
                None => plus.push(delta.rows),
                Some(weights) => {
                    let (p, m) = split_weights(weights);
                    plus.push(take(&delta.rows, &p));
                    minus.push(take(&delta.rows, &m));
                }
            }
        }
        let concat = |parts: &[RecordBatch]| arrow::compute::concat_batches(schema, parts).expect("rows of the table");
        (concat(&plus), concat(&minus))
    }

    /// Whether a change can be made to the rows as they stand; changes nothing.
    pub fn check(&mut self, change: &[Delta]) -> Result<Checked> {
        let (plus, minus) = self.split(change);
        if minus.num_rows() > 0 && self.rows.contains(&minus).contains(&false) {
            return Err(Error::new("40001", "could not serialize access due to concurrent update"));
        }
        self.check_keys(&plus, &minus)?;
        Ok(Checked { plus, minus })
    }

    /// Makes a change that was just checked, as of `epoch`. Returns what is to be logged.
    pub fn change(&mut self, Checked { plus, minus }: Checked, epoch: Epoch) -> Vec<Delta> {
        self.apply(&plus, &minus, epoch);
        let mut logged = Vec::new();
        if minus.num_rows() > 0 {
            logged.push(Delta::retractions(minus));
        }
        if plus.num_rows() > 0 {
            logged.push(Delta::inserts(plus));
        }
        logged
    }

    /// Applies what was logged before.
    pub fn replay(&mut self, change: &[Delta], epoch: Epoch) -> Result<()> {
        let (plus, minus) = self.split(change);
        if minus.num_rows() > 0 && self.rows.contains(&minus).contains(&false) {
            return Err(Error::corrupt(format!(
                "the log retracts rows of table \"{}\" in epoch {epoch} that it does not have",
                self.relation.name
            )));
        }
        self.apply(&plus, &minus, epoch);
        Ok(())
    }

    fn apply(&mut self, plus: &RecordBatch, minus: &RecordBatch, epoch: Epoch) {
        if minus.num_rows() > 0 {
            let keys = self.keys(minus);
            let positions: Vec<u32> =
                self.rows.retract(minus, epoch).into_iter().map(|p| p.expect("checked before")).collect();
            if let (Some(index), Some(keys)) = (&mut self.key, keys) {
                index.remove(&keys, &positions);
            }
        }
        if plus.num_rows() > 0 {
            let keys = self.keys(plus);
            self.rows.append(plus);
            if let (Some(index), Some(keys)) = (&mut self.key, keys) {
                index.append(&keys);
            }
        }
    }

    fn check_keys(&mut self, plus: &RecordBatch, minus: &RecordBatch) -> Result<()> {
        let (Some(inserted), Some(retracted)) = (self.keys(plus), self.keys(minus)) else { return Ok(()) };
        let index = self.key.as_mut().expect("has keys");
        let taken = index.heads(&inserted);
        let types = index.table().encoder().types().to_vec();
        let (mut gone, mut new) = (KeyTable::new(&types)?, KeyTable::new(&types)?);
        let mut ids = Vec::new();
        gone.intern(&retracted, &mut ids);
        gone.find(&inserted, &mut ids);
        let freed: Vec<bool> = ids.iter().map(|&id| id != NONE).collect();
        new.intern(&inserted, &mut ids);
        let mut seen = vec![false; new.bound() as usize];
        for row in 0..plus.num_rows() {
            let twice = std::mem::replace(&mut seen[ids[row] as usize], true);
            if twice || (taken[row] != NONE && !freed[row]) {
                return Err(duplicate_key(&self.relation, plus, row));
            }
        }
        Ok(())
    }

    /// Whether the keys of these rows are free.
    pub fn check_free(&mut self, rows: &RecordBatch) -> Result<()> {
        let Some(keys) = self.keys(rows) else { return Ok(()) };
        let taken = self.key.as_mut().expect("has keys").heads(&keys);
        match taken.iter().position(|&head| head != NONE) {
            Some(row) => Err(duplicate_key(&self.relation, rows, row)),
            None => Ok(()),
        }
    }

    pub fn publish(&mut self, epoch: Epoch) {
        self.rows.publish(epoch);
        if self.rows.take_rewritten().is_some() {
            self.reindex();
        }
    }

    fn reindex(&mut self) {
        let Some(index) = &self.key else { return };
        let mut index = index.empty();
        let mut position = 0;
        for rows in self.rows.segments() {
            let keys = self.keys(&rows).expect("has keys");
            index.append(&keys);
            // Dead rows that are still kept for readers are no one's key.
            let dead: Vec<u32> =
                (position..position + rows.num_rows() as u32).filter(|&p| !self.rows.is_live(p)).collect();
            if !dead.is_empty() {
                let local: Vec<u32> = dead.iter().map(|p| p - position).collect();
                let keys = self.keys(&take(&rows, &local)).expect("has keys");
                index.remove(&keys, &dead);
            }
            position += rows.num_rows() as u32;
        }
        self.key = Some(index);
    }

    pub fn save(&mut self) -> Saved {
        self.rows.save()
    }

    pub fn restore(&mut self, blocks: Vec<RecordBatch>, epoch: Epoch) -> Result<()> {
        let encoder = KeyEncoder::new(&[])?;
        self.rows.restore(&[blocks], &encoder, &[], &Share::ALL, epoch);
        self.reindex();
        Ok(())
    }
}

pub fn duplicate_key(relation: &Relation, rows: &RecordBatch, row: usize) -> Error {
    let key = || relation.primary_key.iter();
    let names: Vec<&str> = key().map(|&k| relation.columns[k].name.as_str()).collect();
    let values: Vec<String> =
        key().map(|&k| arrow::util::display::array_value_to_string(rows.column(k), row).unwrap_or_default()).collect();
    Error::new("23505", format!("duplicate key value violates unique constraint \"{}_pkey\"", relation.name))
        .detail(format!("Key ({})=({}) already exists.", names.join(", "), values.join(", ")))
}
