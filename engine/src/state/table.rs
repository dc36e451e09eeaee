//! A table as the commit path keeps it: its rows now, by whole row, by primary key and by every other unique key.
//!
//! A change is checked first, whole: every row that it retracts is there (else 40001: someone was faster),
//! every key that it inserts is free (else 23505). Then it is applied, and cannot fail. A key with a NULL in it is no one's.

pub mod references;

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::{DataType, SchemaRef};

use crate::catalog::{Relation, UniqueKey};
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
    pub plus: RecordBatch,
    pub minus: RecordBatch,
}

impl Checked {
    /// Known to fit: each row of `minus` is there, and the keys of `plus` are free without them.
    pub fn new(plus: RecordBatch, minus: RecordBatch) -> Self {
        Checked { plus, minus }
    }
}

/// Where the rows are, by the values of some columns.
pub struct KeyedBy {
    columns: Vec<usize>,
    index: KeyIndex,
}

impl KeyedBy {
    fn new(schema: &SchemaRef, columns: &[usize]) -> Result<Self> {
        let types: Vec<DataType> = columns.iter().map(|&k| schema.field(k).data_type().clone()).collect();
        Ok(KeyedBy { columns: columns.to_vec(), index: KeyIndex::new(&types, true, true)? })
    }

    fn keys(&self, rows: &RecordBatch) -> KeyBatch {
        let columns: Vec<ArrayRef> = self.columns.iter().map(|&k| rows.column(k).clone()).collect();
        self.index.table().encoder().encode_rows(&columns, rows.num_rows())
    }

    /// The first row of `plus` whose key is taken by another one of them, or by a row that `minus` does not have.
    fn taken(&mut self, plus: &RecordBatch, minus: &RecordBatch) -> Result<Option<usize>> {
        let (inserted, retracted) = (self.keys(plus), self.keys(minus));
        let taken = self.index.heads(&inserted);
        let types = self.index.table().encoder().types().to_vec();
        let (mut gone, mut new) = (KeyTable::new(&types)?, KeyTable::new(&types)?);
        let mut ids = Vec::new();
        gone.intern(&retracted, &mut ids);
        gone.find(&inserted, &mut ids);
        let freed: Vec<bool> = ids.iter().map(|&id| id != NONE).collect();
        new.intern(&inserted, &mut ids);
        let mut seen = vec![false; new.bound() as usize];
        let is_null = |row: usize| inserted.any_null.as_ref().is_some_and(|nulls| nulls.value(row));
        for row in (0..plus.num_rows()).filter(|&row| !is_null(row)) {
            let twice = std::mem::replace(&mut seen[ids[row] as usize], true);
            if twice || (taken[row] != NONE && !freed[row]) {
                return Ok(Some(row));
            }
        }
        Ok(None)
    }
}

pub struct Table {
    relation: Arc<Relation>,
    rows: Arrangement,
    /// As [`Relation::unique_keys`] has them.
    keyed: Vec<KeyedBy>,
    /// By what they refer to, for each foreign key.
    referring: Vec<KeyedBy>,
}

impl Table {
    pub fn new(relation: Arc<Relation>) -> Result<Self> {
        let schema = relation.arrow_schema();
        let keys = relation.unique_keys();
        let keyed = keys.iter().map(|key| KeyedBy::new(&schema, &key.columns)).collect::<Result<_>>()?;
        let referring =
            relation.foreign_keys.iter().map(|key| KeyedBy::new(&schema, &key.columns)).collect::<Result<_>>()?;
        Ok(Table { rows: Arrangement::new(schema, true), relation, keyed, referring })
    }

    /// What [`Self::become_relation`] needs: the rows by the unique keys that `relation` has more than now. 23505 where
    /// two rows share one.
    pub fn keyed_as(&self, relation: &Relation) -> Result<Vec<KeyedBy>> {
        let known = self.relation.unique_keys();
        let new = relation.unique_keys().into_iter().filter(|key| !known.iter().any(|k| k.columns == key.columns));
        let keyed = new.map(|key| {
            let mut keyed = KeyedBy::new(self.rows.schema(), &key.columns)?;
            self.index(&mut keyed);
            if let Some(row) = self.first_twice(&mut keyed) {
                let columns = columns_of_key(relation, &key.columns, &row, 0);
                let message = format!("could not create unique index \"{}\"", key.name);
                let error = Error::new("23505", message).of_table(&relation.schema_name, &relation.name);
                return Err(error.of_constraint(&key.name).detail(format!("Key {columns} is duplicated.")));
            }
            Ok(keyed)
        });
        keyed.collect()
    }

    /// It has other keys from now on: those of before that `relation` still has, and `new`.
    pub fn become_relation(&mut self, relation: Arc<Relation>, new: Vec<KeyedBy>) -> Result<()> {
        if self.relation.foreign_keys != relation.foreign_keys {
            let mut referring = Vec::new();
            for key in &relation.foreign_keys {
                let mut keyed = KeyedBy::new(self.rows.schema(), &key.columns)?;
                self.index(&mut keyed);
                referring.push(keyed);
            }
            self.referring = referring;
        }
        let mut all: Vec<KeyedBy> = std::mem::take(&mut self.keyed).into_iter().chain(new).collect();
        let take = |key: UniqueKey| {
            let at = all.iter().position(|keyed| keyed.columns == key.columns);
            all.swap_remove(at.expect("either known or just made"))
        };
        self.keyed = relation.unique_keys().into_iter().map(take).collect();
        self.relation = relation;
        Ok(())
    }

    /// A row whose key another live row has too.
    fn first_twice(&self, keyed: &mut KeyedBy) -> Option<RecordBatch> {
        let mut position = 0;
        for rows in self.rows.segments() {
            let live = self.live(&rows, position);
            position += rows.num_rows() as u32;
            let rows = take(&rows, &live);
            let heads = keyed.index.heads(&keyed.keys(&rows));
            let twice = heads.iter().position(|&head| head != NONE && keyed.index.next(head) != NONE);
            if let Some(row) = twice {
                return Some(rows.slice(row, 1));
            }
        }
        None
    }

    /// Of a segment that begins at `position` the rows that live.
    fn live(&self, rows: &RecordBatch, position: u32) -> Vec<u32> {
        (0..rows.num_rows() as u32).filter(|row| self.rows.is_live(position + row)).collect()
    }

    pub fn reader(&self) -> Arc<Shared> {
        self.rows.reader()
    }

    pub fn schema(&self) -> &SchemaRef {
        self.rows.schema()
    }

    /// Of a table with a primary key: where the row with the key of each of `rows` is, or `NONE`; and those keys.
    pub fn positions(&mut self, rows: &RecordBatch) -> (Vec<u32>, KeyBatch) {
        let primary = self.keyed.first_mut().expect("it has a primary key");
        let keys = primary.keys(rows);
        (primary.index.heads(&keys), keys)
    }

    pub fn rows_at(&self, positions: &[u32]) -> RecordBatch {
        self.rows.rows_at(positions)
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

    /// Whether all of these rows are there.
    pub fn has_all(&self, rows: &RecordBatch) -> bool {
        !self.rows.contains(rows).contains(&false)
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
            let positions: Vec<u32> =
                self.rows.retract(minus, epoch).into_iter().map(|p| p.expect("checked before")).collect();
            for keyed in self.keyed.iter_mut().chain(&mut self.referring) {
                let keys = keyed.keys(minus);
                keyed.index.remove(&keys, &positions);
            }
        }
        if plus.num_rows() > 0 {
            self.rows.append(plus);
            for keyed in self.keyed.iter_mut().chain(&mut self.referring) {
                let keys = keyed.keys(plus);
                keyed.index.append(&keys);
            }
        }
    }

    fn check_keys(&mut self, plus: &RecordBatch, minus: &RecordBatch) -> Result<()> {
        for (n, keyed) in self.keyed.iter_mut().enumerate() {
            if let Some(row) = keyed.taken(plus, minus)? {
                return Err(duplicate_key(&self.relation, n, plus, row));
            }
        }
        Ok(())
    }

    /// Whether these rows' values of the `key`-th unique key are free.
    pub fn check_free(&mut self, key: usize, rows: &RecordBatch) -> Result<()> {
        // Gone meanwhile: then nothing is taken.
        let Some(keyed) = self.keyed.get_mut(key) else { return Ok(()) };
        let keys = keyed.keys(rows);
        match keyed.index.heads(&keys).iter().position(|&head| head != NONE) {
            Some(row) => Err(duplicate_key(&self.relation, key, rows, row)),
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
        let (mut keyed, mut referring) = (std::mem::take(&mut self.keyed), std::mem::take(&mut self.referring));
        for keyed in keyed.iter_mut().chain(&mut referring) {
            keyed.index = keyed.index.empty();
            self.index(keyed);
        }
        (self.keyed, self.referring) = (keyed, referring);
    }

    /// Fills an empty index.
    fn index(&self, keyed: &mut KeyedBy) {
        let mut position = 0;
        for rows in self.rows.segments() {
            let keys = keyed.keys(&rows);
            keyed.index.append(&keys);
            // Dead rows that are still kept for readers are no one's key.
            let dead: Vec<u32> =
                (position..position + rows.num_rows() as u32).filter(|&p| !self.rows.is_live(p)).collect();
            if !dead.is_empty() {
                let local: Vec<u32> = dead.iter().map(|p| p - position).collect();
                let keys = keyed.keys(&take(&rows, &local));
                keyed.index.remove(&keys, &dead);
            }
            position += rows.num_rows() as u32;
        }
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

/// The `key`-th of [`Relation::unique_keys`] is taken.
pub fn duplicate_key(relation: &Relation, key: usize, rows: &RecordBatch, row: usize) -> Error {
    let UniqueKey { name, columns } = relation.unique_keys().swap_remove(key);
    let columns = columns_of_key(relation, &columns, rows, row);
    Error::new("23505", format!("duplicate key value violates unique constraint \"{name}\""))
        .detail(format!("Key {columns} already exists."))
        .of_table(&relation.schema_name, &relation.name)
        .of_constraint(name)
}

/// `(a, b)=(1, x)`
pub fn columns_of_key(relation: &Relation, columns: &[usize], rows: &RecordBatch, row: usize) -> String {
    let names: Vec<&str> = columns.iter().map(|&k| relation.columns[k].name.as_str()).collect();
    let value = |&k: &usize| arrow::util::display::array_value_to_string(rows.column(k), row).unwrap_or_default();
    let values: Vec<String> = columns.iter().map(value).collect();
    format!("({})=({})", names.join(", "), values.join(", "))
}
