//! Rows by key, and in order within each key: a multiset that knows of each row how often it was there when the epoch
//! began and how often it is there now, so that an operator can look at both pictures.
//!
//! ```text
//!   key 7   10:00 a  1 → 1
//!           10:05 b  0 → 1      came in this epoch
//!           10:07 c  2 → 0      went; forgotten when the epoch ends
//! ```
//!
//! Rows that the order leaves equal are put in the order of the whole row. Durable as the rows with their counts.
//! Cost: a search per changed row.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry as MapEntry;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use arrow::row::{RowConverter, RowParser, SortField};
use hashbrown::HashMap;

use super::arrangement::take;
use super::durable::{Durable, Saved, Share};
use super::key_table::{ABSENT, KeyTable};
use crate::delta::keys::{KeyBatch, KeyEncoder};
use crate::error::{Error, Result};

/// Rows that never were worth a block of their own are not counted as garbage.
const GARBAGE_ROWS_MIN: usize = 1024;

/// A row as bytes that compare as the order does: the order's column, then all columns.
pub type Place = Arc<[u8]>;

#[derive(Debug)]
pub struct Entry {
    /// How often the row is there; below zero only within an epoch.
    count: i64,
    /// How often it was there before the epoch `touched_in`.
    before: i64,
    touched_in: u64,
    /// Where in the bytes the whole row begins.
    row_at: u32,
    saved: bool,
}

impl Entry {
    pub fn count(&self) -> i64 {
        self.count
    }
    /// The bytes of the order's column in this row's place.
    pub fn order<'a>(&self, place: &'a Place) -> &'a [u8] {
        &place[..self.row_at as usize]
    }
}

pub type Rows = BTreeMap<Place, Entry>;

/// A key that an epoch touched, and the places of its rows that it touched, in order.
pub type Touched = (u32, Vec<Place>);

/// The order's value of a row that is ordered by 64 bits: a byte that says that it is not NULL, then its bytes, the first
/// bit flipped.
pub fn number_of(place: &Place) -> i64 {
    let bytes = place[1..9].try_into().expect("eight bytes");
    i64::from_be_bytes(bytes) ^ i64::MIN
}

pub struct OrderedRows {
    schema: SchemaRef,
    key: Vec<usize>,
    /// Whether this worker owns a row, where the key does not say it.
    dealt_by: Option<(KeyEncoder, Vec<usize>)>,
    order: usize,
    of_order: RowConverter,
    of_row: RowConverter,
    parser: RowParser,
    keys: KeyTable,
    /// By key.
    lists: Vec<Rows>,
    /// Our own count of epochs.
    epoch: u64,
    /// What this epoch has touched, in the order in which it came, until it is asked for.
    touched_now: Vec<(u32, Place)>,
    touched: Vec<Touched>,
    /// Rows whose count has changed since the last save, with where the whole row begins.
    changed: HashMap<Place, u32>,
    /// Their bytes, of those that have gone.
    gone_bytes: usize,
    saved_rows: usize,
    save_whole: bool,
    bytes: usize,
    ids: Vec<u32>,
}

impl OrderedRows {
    /// `order`: the column by which rows are ordered. Error: 0A000 when a column cannot be ordered.
    pub fn new(schema: &SchemaRef, key: &[usize], order: usize) -> Result<Self> {
        let refused = |_| Error::unsupported("an order of rows with a column of this type in a materialized view");
        let types: Vec<DataType> = key.iter().map(|&c| schema.field(c).data_type().clone()).collect();
        let sort = |f: &Field| SortField::new(f.data_type().clone());
        let of_row = RowConverter::new(schema.fields().iter().map(|f| sort(f)).collect()).map_err(refused)?;
        Ok(OrderedRows {
            schema: schema.clone(),
            key: key.to_vec(),
            dealt_by: None,
            order,
            of_order: RowConverter::new(vec![sort(schema.field(order))]).map_err(refused)?,
            parser: of_row.parser(),
            of_row,
            keys: KeyTable::new(&types)?,
            lists: Vec::new(),
            epoch: 1,
            touched_now: Vec::new(),
            touched: Vec::new(),
            changed: HashMap::new(),
            gone_bytes: 0,
            saved_rows: 0,
            save_whole: true,
            bytes: 0,
            ids: Vec::new(),
        })
    }

    /// All rows in one list, though they are dealt to workers by the columns `dealt_by`.
    pub fn in_one_order(schema: &SchemaRef, dealt_by: &[usize], order: usize) -> Result<Self> {
        let types: Vec<DataType> = dealt_by.iter().map(|&c| schema.field(c).data_type().clone()).collect();
        let dealt_by = Some((KeyEncoder::new(&types)?, dealt_by.to_vec()));
        Ok(OrderedRows { dealt_by, ..Self::new(schema, &[], order)? })
    }

    /// All rows of a structure without a key.
    pub fn in_order(&self) -> impl Iterator<Item = (&Place, &Entry)> {
        self.lists.iter().take(1).flatten()
    }

    /// About how much memory the rows take.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Between two epochs: forgets the rows that `choose` names of each key's rows.
    pub fn forget(&mut self, choose: impl Fn(&Rows) -> Vec<Place>) {
        for id in 0..self.lists.len() as u32 {
            let gone = choose(&self.lists[id as usize]);
            if !gone.is_empty() {
                gone.iter().for_each(|place| self.remove(id, place));
                self.forget_if_empty(id);
            }
        }
    }

    fn keys_of(&self, rows: &RecordBatch) -> KeyBatch {
        let columns: Vec<ArrayRef> = self.key.iter().map(|&c| rows.column(c).clone()).collect();
        self.keys.encoder().encode_rows(&columns, rows.num_rows())
    }

    /// Changes the count of each row by its weight, 1 where there are none.
    pub fn change(&mut self, rows: &RecordBatch, weights: Option<&Int64Array>) -> Result<()> {
        self.put(rows, true, |entry, row| entry.count += weights.map_or(1, |weights| weights.value(row)))
    }

    fn put(&mut self, rows: &RecordBatch, live: bool, mut set: impl FnMut(&mut Entry, usize)) -> Result<()> {
        let mut ids = std::mem::take(&mut self.ids);
        self.keys.intern(&self.keys_of(rows), &mut ids);
        self.lists.resize_with(self.keys.bound() as usize, Rows::new);
        let order = self.of_order.convert_columns(&[rows.column(self.order).clone()]).map_err(Error::internal)?;
        let whole = self.of_row.convert_columns(rows.columns()).map_err(Error::internal)?;
        let mut bytes = Vec::new();
        for (row, &id) in ids.iter().enumerate() {
            bytes.clear();
            bytes.extend_from_slice(order.row(row).data());
            let row_at = bytes.len() as u32;
            bytes.extend_from_slice(whole.row(row).data());
            let (place, entry) = match self.lists[id as usize].entry(bytes[..].into()) {
                MapEntry::Occupied(known) => (known.key().clone(), known.into_mut()),
                MapEntry::Vacant(new) => {
                    self.bytes += entry_bytes(bytes.len());
                    // One that went since the last save is on disk still: should it go again, that must be said all the same.
                    let saved = !live || self.changed.contains_key(&bytes[..]);
                    let place = new.key().clone();
                    (place, new.insert(Entry { count: 0, before: 0, touched_in: 0, row_at, saved }))
                }
            };
            if live {
                if entry.touched_in != self.epoch {
                    (entry.touched_in, entry.before) = (self.epoch, entry.count);
                    self.touched_now.push((id, place.clone()));
                }
                self.changed.insert(place, row_at);
            }
            set(entry, row);
        }
        self.ids = ids;
        Ok(())
    }

    /// Brings what the epoch has touched by now into order, for [`OrderedRows::touched`].
    pub fn settle(&mut self) {
        if self.touched_now.is_empty() {
            return;
        }
        let mut now = std::mem::take(&mut self.touched_now);
        now.extend(self.touched.drain(..).flat_map(|(key, places)| places.into_iter().map(move |place| (key, place))));
        now.sort_unstable();
        for (key, place) in now.drain(..) {
            match self.touched.last_mut() {
                Some((last, places)) if *last == key => places.push(place),
                _ => self.touched.push((key, vec![place])),
            }
        }
        self.touched_now = now;
    }

    /// The keys that the epoch touched until it was settled, in order.
    pub fn touched(&self) -> &[Touched] {
        &self.touched
    }

    /// The places of a key's rows that it touched, in order.
    pub fn touched_of(&self, key: u32) -> Option<&[Place]> {
        let at = self.touched.binary_search_by_key(&key, |(key, _)| *key).ok()?;
        Some(&self.touched[at].1)
    }

    /// A key's rows in order, those that the epoch took away included.
    pub fn rows(&self, key: u32) -> &Rows {
        &self.lists[key as usize]
    }

    /// How often a row was there before the epoch.
    pub fn before(&self, entry: &Entry) -> i64 {
        if entry.touched_in == self.epoch { entry.before } else { entry.count }
    }

    /// The ids here of keys of another such structure; `None` for those that have no rows here.
    pub fn ids_of(&self, other: &OrderedRows, keys: &[u32]) -> Vec<Option<u32>> {
        let columns = other.keys.keys(keys);
        let mut ids = Vec::new();
        self.keys.find(&self.keys.encoder().encode_rows(&columns, keys.len()), &mut ids);
        ids.into_iter().map(|id| (id != ABSENT).then_some(id)).collect()
    }

    /// The columns of these rows.
    pub fn decode<'a>(&self, rows: impl Iterator<Item = (&'a Place, &'a Entry)>) -> Result<Vec<ArrayRef>> {
        self.decode_at(rows.map(|(place, entry)| (place, entry.row_at)))
    }

    fn decode_at<'a>(&self, rows: impl Iterator<Item = (&'a Place, u32)>) -> Result<Vec<ArrayRef>> {
        let rows = rows.map(|(place, row_at)| self.parser.parse(&place[row_at as usize..]));
        self.of_row.convert_rows(rows).map_err(Error::internal)
    }

    /// Ends the epoch: forgets the rows that are gone. Error: a row was retracted that was not there.
    pub fn finish_epoch(&mut self) -> Result<()> {
        self.settle();
        for (id, places) in std::mem::take(&mut self.touched) {
            for place in places {
                match self.lists[id as usize].get(&place).map(|entry| entry.count) {
                    Some(0) => self.remove(id, &place),
                    Some(..0) => {
                        return Err(Error::internal("an operator was told to retract a row that it does not have"));
                    }
                    _ => {}
                }
            }
            self.forget_if_empty(id);
        }
        self.epoch += 1;
        Ok(())
    }

    fn remove(&mut self, id: u32, place: &Place) {
        let Some(entry) = self.lists[id as usize].remove(place) else { return };
        self.bytes -= entry_bytes(place.len());
        match entry.saved {
            true => {
                self.changed.insert(place.clone(), entry.row_at);
                self.gone_bytes += place.len();
            }
            false => _ = self.changed.remove(place),
        }
    }

    fn forget_if_empty(&mut self, id: u32) {
        if self.lists[id as usize].is_empty() {
            self.keys.remove(id);
        }
    }
}

/// A map's entry beside its bytes: two counts before them, and a slot of a node.
fn entry_bytes(place: usize) -> usize {
    place + 16 + SLOT_BYTES
}

const SLOT_BYTES: usize = 64;
/// A node has 11 slots, of which six are filled where rows come in order.
const NODE_BYTES: usize = 640;
const NODE_ROWS: usize = 6;

impl Durable for OrderedRows {
    /// Blocks of the rows' columns and a count, which is 0 for a row that has gone.
    fn save(&mut self) -> Saved {
        let whole = self.save_whole || self.saved_rows + self.changed.len() > 2 * self.state_rows() + GARBAGE_ROWS_MIN;
        let changed = std::mem::take(&mut self.changed);
        self.gone_bytes = 0;
        let mut changed: Vec<(Place, u32)> = match whole {
            true => self.lists.iter().flatten().map(|(place, entry)| (place.clone(), entry.row_at)).collect(),
            false => changed.into_iter().collect(),
        };
        // Rows that are alike lie together, and take less.
        changed.sort_unstable();
        self.save_whole = false;
        self.saved_rows = changed.len() + if whole { 0 } else { self.saved_rows };
        if changed.is_empty() && !whole {
            return Saved::default();
        }
        let columns =
            self.decode_at(changed.iter().map(|(place, at)| (place, *at))).expect("the bytes of this structure");
        let options = RecordBatchOptions::new().with_row_count(Some(changed.len()));
        let rows = RecordBatch::try_new_with_options(self.schema.clone(), columns.clone(), &options);
        let mut ids = Vec::new();
        self.keys.find(&self.keys_of(&rows.expect("decoded by the schema")), &mut ids);
        let counts = changed.iter().zip(ids).map(|((place, _), id)| {
            let entry = self.lists.get_mut(id as usize).and_then(|list| list.get_mut(place));
            entry.map_or(0, |entry| {
                entry.saved = true;
                entry.count
            })
        });
        let counts: ArrayRef = Arc::new(counts.collect::<Int64Array>());
        // Names may repeat in a plan; on disk they must not.
        let fields = columns.iter().enumerate().map(|(i, c)| Field::new(format!("c{i}"), c.data_type().clone(), true));
        let fields: Vec<Field> = fields.chain([Field::new("count", DataType::Int64, true)]).collect();
        let block = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns.into_iter().chain([counts]).collect());
        Saved { whole, blocks: vec![block.expect("a field for each column")] }
    }

    fn restore(&mut self, parts: &[Vec<RecordBatch>], share: &Share) -> Result<()> {
        let dealt_anew = parts.len() != share.workers;
        let parts = if dealt_anew { parts } else { &parts[share.worker..=share.worker] };
        let width = self.schema.fields().len();
        // Of a part each block says how often a row is there now; rows that are alike may be in several parts.
        let blocks = parts.iter().enumerate().flat_map(|(part, blocks)| blocks.iter().map(move |block| (part, block)));
        for (part, block) in blocks {
            let rows = RecordBatch::try_new(self.schema.clone(), block.columns()[..width].to_vec());
            let rows = rows.map_err(Error::internal)?;
            let counts = block.column(width).as_primitive_opt::<Int64Type>();
            let counts = counts.ok_or_else(|| Error::corrupt("a block of ordered rows holds no counts"))?;
            let keys = match &self.dealt_by {
                None => self.keys_of(&rows),
                Some((encoder, columns)) => {
                    let columns: Vec<ArrayRef> = columns.iter().map(|&c| rows.column(c).clone()).collect();
                    encoder.encode_rows(&columns, rows.num_rows())
                }
            };
            // What never retracts is not dealt by anything as it comes: this worker has its own, whatever they are.
            let is_own = |row: &u32| !dealt_anew || share.owns(keys.hashes[*row as usize]);
            let own: Vec<u32> = (0..rows.num_rows() as u32).filter(is_own).collect();
            self.saved_rows += own.len();
            // No epoch.
            let mark = u64::MAX - part as u64;
            self.put(&take(&rows, &own), false, |entry, row| {
                if entry.touched_in != mark {
                    (entry.touched_in, entry.before) = (mark, entry.count);
                }
                entry.count = entry.before + counts.value(own[row] as usize);
            })?;
        }
        self.save_whole = dealt_anew;
        for list in &mut self.lists {
            list.retain(|_, entry| entry.count != 0);
        }
        (0..self.lists.len() as u32).for_each(|id| self.forget_if_empty(id));
        self.bytes = self.lists.iter().flat_map(|list| list.keys()).map(|place| entry_bytes(place.len())).sum();
        Ok(())
    }

    fn state_bytes(&self) -> usize {
        self.fixed_bytes() + self.keys.state_bytes()
    }
    /// All but the keys.
    fn fixed_bytes(&self) -> usize {
        let unused = |list: &Rows| list.len().div_ceil(NODE_ROWS) * NODE_BYTES - list.len() * SLOT_BYTES;
        let unused: usize = self.lists.iter().map(unused).sum();
        let changed = self.changed.capacity() * (size_of::<(Place, u32)>() + 1) + self.gone_bytes;
        self.bytes + unused + changed + self.lists.capacity() * size_of::<Rows>()
    }
    fn state_rows(&self) -> usize {
        self.lists.iter().map(|list| list.len()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delta::text::{parse, schema};

    /// Rows that nothing deals to workers, alike on two of them: neither the same number of workers nor another loses any.
    #[test]
    fn what_is_anywhere_is_restored_wherever_it_was() {
        let schema = schema("t: Int64");
        let new = || OrderedRows::in_one_order(&schema, &[0], 0).unwrap();
        let rows = |text: &str| parse(&schema, text);
        let texts = ["+2 | 1\n+1 | 2\n+1 | 3\n+1 | 4", "+1 | 1\n+3 | 2\n+1 | 5\n+1 | 6"];
        let parts = texts.map(|text| {
            let mut of_worker = new();
            let mut blocks = Vec::new();
            // The second save overrides what the first one says of a row.
            for text in [text, "+1 | 2\n+1 | 7"] {
                let delta = rows(text);
                of_worker.change(&delta.rows, delta.weights.as_ref()).unwrap();
                of_worker.finish_epoch().unwrap();
                blocks.extend(of_worker.save().blocks);
            }
            blocks
        });
        let there = |workers: usize| {
            let mut counts = BTreeMap::new();
            for worker in 0..workers {
                let mut restored = new();
                restored.restore(&parts, &Share { worker, workers }).unwrap();
                for (place, entry) in restored.in_order() {
                    *counts.entry(number_of(place)).or_insert(0) += entry.count();
                }
            }
            counts
        };
        let expected = BTreeMap::from([(1, 3), (2, 6), (3, 1), (4, 1), (5, 1), (6, 1), (7, 2)]);
        for workers in 1..5 {
            assert_eq!(there(workers), expected, "{workers} workers");
        }
    }

    /// A row that a save has goes, comes and goes again before the next one.
    #[test]
    fn what_went_twice_is_gone() {
        let schema = schema("k: Int64, t: Int64");
        let new = || OrderedRows::new(&schema, &[0], 1).unwrap();
        let mut rows = new();
        let epoch = |rows: &mut OrderedRows, text: &str| {
            let delta = parse(&schema, text);
            rows.change(&delta.rows, delta.weights.as_ref()).unwrap();
            rows.finish_epoch().unwrap();
        };
        epoch(&mut rows, "+1 | 1 | 5\n+1 | 2 | 6");
        let mut disk = rows.save().blocks;
        for change in ["-1 | 1 | 5", "+1 | 1 | 5", "-1 | 1 | 5"] {
            epoch(&mut rows, change);
        }
        let saved = rows.save();
        assert!(!saved.whole);
        disk.extend(saved.blocks);
        let mut again = new();
        again.restore(&[disk], &Share::ALL).unwrap();
        assert_eq!((rows.state_rows(), again.state_rows()), (1, 1));
    }
}
