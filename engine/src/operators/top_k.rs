//! The first rows of an order, per partition: ORDER BY … LIMIT … OFFSET, DISTINCT ON, row_number() ≤ n.
//!
//! ```text
//!   SELECT * FROM bids ORDER BY price DESC LIMIT 2
//!
//!   in, epoch 1   +1 | a | 5      out   +1 | a | 5
//!                 +1 | b | 9            +1 | b | 9
//!   in, epoch 2   +1 | c | 7      out   -1 | a | 5
//!                                       +1 | c | 7
//!   in, epoch 3   -1 | b | 9      out   -1 | b | 9
//!                                       +1 | a | 5
//! ```
//!
//! Formula: out = −list(E−1) + list(E) for each partition that the epoch touched. Rows that the order leaves equal
//! are put in the order of the whole row, so the list is a function of the rows alone.
//!
//! State: an ordered multiset of each partition's rows; only those of the list where the input never retracts.
//! Cost: a search per changed row, and the length of the list per touched partition and epoch.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch, RecordBatchOptions};
use arrow::compute::{SortOptions, cast};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use arrow::row::{RowConverter, RowParser, Rows, SortField};

use super::expiry::{EXPIRY_BYTES_MIN, Expiry, stays};
use super::{Operator, Output, Port, Step};
use crate::delta::Delta;
use crate::delta::keys::KeyBatch;
use crate::error::{Error, Result};
use crate::state::arrangement::take;
use crate::state::durable::{Durable, Saved, Share};
use crate::state::key_table::KeyTable;
use crate::time::{EpochHeader, TimeBound};

/// Output batches have about this many rows.
const OUTPUT_ROWS: usize = 8192;
/// Rows that never were worth a block of their own are not counted as garbage.
const GARBAGE_ROWS_MIN: usize = 1024;

/// What is counted, and up to where a row is in the list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bound {
    /// The rows after the first `skip`, at most `fetch` of them.
    Rows {
        skip: u64,
        fetch: Option<u64>,
    },
    /// The rows numbered at most so; the number is the last column of the output.
    RowNumber(u64),
    Rank(u64),
    DenseRank(u64),
}

impl Bound {
    /// Whether a row lies past `last`, the last one of a full list.
    fn is_past(self, place: &[u8], row_at: u32, last: &Place, last_at: u32) -> bool {
        match self {
            Bound::Rows { .. } | Bound::RowNumber(_) => place > &last[..],
            // Its peers share its rank.
            Bound::Rank(_) | Bound::DenseRank(_) => place[..row_at as usize] > last[..last_at as usize],
        }
    }
    fn numbers(self) -> bool {
        !matches!(self, Bound::Rows { .. })
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct TopKSpec {
    /// Columns of the input: a list for each of their values.
    pub partition: Vec<usize>,
    /// Columns of the input.
    pub order: Vec<(usize, SortOptions)>,
    pub bound: Bound,
    pub input: SchemaRef,
    /// The input's columns; one more for the numbered bounds.
    pub output: SchemaRef,
    /// The input never retracts.
    pub append_only: bool,
    /// Lists that change no more, by a column of the partition.
    pub expiry: Option<TimeBound>,
}

/// A row as bytes that compare as the order does: the order's columns, then all columns.
type Place = Arc<[u8]>;

struct Entry {
    /// How often the row is there; below zero only within an epoch.
    count: i64,
    /// Where in the bytes the whole row begins.
    row_at: u32,
    saved: bool,
}

/// A line of a list: a row, its number (0 where none is asked for), and how often.
#[derive(Clone)]
struct Line {
    place: Place,
    row_at: u32,
    number: i64,
    copies: i64,
}

pub struct TopK {
    spec: TopKSpec,
    order: RowConverter,
    whole: RowConverter,
    parser: RowParser,
    partitions: KeyTable,
    /// By partition.
    lists: Vec<Ordered>,
    /// Our own count of epochs.
    epoch: u64,
    /// The lists as they were before the epoch, of the partitions that it touched.
    before: Vec<(u32, Vec<Line>)>,
    /// Rows whose count fell to nothing or below it in this epoch.
    low: Vec<(u32, Place)>,
    /// Rows whose count has changed since the last save, with where the whole row begins.
    changed: BTreeMap<Place, u32>,
    saved_rows: usize,
    save_whole: bool,
    bytes: usize,
    ids: Vec<u32>,
    expiry: Option<Expiry>,
}

/// The rows of a partition.
#[derive(Default)]
struct Ordered {
    rows: BTreeMap<Place, Entry>,
    /// The last epoch that touched it.
    touched_in: u64,
    /// Where the input never retracts: nothing past this row can come into the list any more.
    last: Option<(Place, u32)>,
}

/// The rows of a batch as places.
struct Places {
    order: Option<Rows>,
    whole: Option<Rows>,
}

impl Places {
    /// Writes the bytes of a row; returns where the whole row begins.
    fn write(&self, row: usize, place: &mut Vec<u8>) -> u32 {
        place.clear();
        if let Some(order) = &self.order {
            place.extend_from_slice(order.row(row).data());
        }
        let row_at = place.len() as u32;
        if let Some(whole) = &self.whole {
            place.extend_from_slice(whole.row(row).data());
        }
        row_at
    }
}

impl TopK {
    /// Error: 0A000 when a column cannot be ordered.
    pub fn new(spec: TopKSpec) -> Result<TopK> {
        let refused = |_| Error::unsupported("an order of rows with a column of this type in a materialized view");
        let field = |column: usize| spec.input.field(column).data_type().clone();
        let order = spec.order.iter().map(|(c, options)| SortField::new_with_options(field(*c), *options)).collect();
        let whole: Vec<SortField> = spec.input.fields().iter().map(|f| SortField::new(f.data_type().clone())).collect();
        let whole = RowConverter::new(whole).map_err(refused)?;
        let types: Vec<DataType> = spec.partition.iter().map(|&c| field(c)).collect();
        Ok(TopK {
            order: RowConverter::new(order).map_err(refused)?,
            parser: whole.parser(),
            whole,
            partitions: KeyTable::new(&types)?,
            lists: Vec::new(),
            epoch: 1,
            before: Vec::new(),
            low: Vec::new(),
            changed: BTreeMap::new(),
            saved_rows: 0,
            save_whole: true,
            bytes: 0,
            ids: Vec::new(),
            expiry: spec.expiry.as_ref().map(|bound| Expiry::new(bound, EXPIRY_BYTES_MIN)),
            spec,
        })
    }

    fn partition_keys(&self, rows: &RecordBatch) -> KeyBatch {
        let columns: Vec<ArrayRef> = self.spec.partition.iter().map(|&c| rows.column(c).clone()).collect();
        self.partitions.encoder().encode_rows(&columns, rows.num_rows())
    }

    fn places(&self, rows: &RecordBatch) -> Result<Places> {
        let convert = |converter: &RowConverter, columns: &[ArrayRef]| match columns {
            [] => Ok(None),
            columns => converter.convert_columns(columns).map(Some).map_err(Error::internal),
        };
        let order: Vec<ArrayRef> = self.spec.order.iter().map(|(c, _)| rows.column(*c).clone()).collect();
        Ok(Places { order: convert(&self.order, &order)?, whole: convert(&self.whole, rows.columns())? })
    }

    /// Puts the rows in their places and lets `set` change the count of each.
    fn put(&mut self, rows: &RecordBatch, live: bool, mut set: impl FnMut(&mut i64, usize)) -> Result<()> {
        let mut ids = std::mem::take(&mut self.ids);
        self.partitions.intern(&self.partition_keys(rows), &mut ids);
        self.lists.resize_with(self.partitions.bound() as usize, Ordered::default);
        let places = self.places(rows)?;
        let mut bytes = Vec::new();
        for (row, &id) in ids.iter().enumerate() {
            if live && self.lists[id as usize].touched_in != self.epoch {
                let list = self.list(id);
                self.lists[id as usize].touched_in = self.epoch;
                self.before.push((id, list));
            }
            let row_at = places.write(row, &mut bytes);
            let list = &mut self.lists[id as usize];
            if list.last.as_ref().is_some_and(|(last, last_at)| self.spec.bound.is_past(&bytes, row_at, last, *last_at))
            {
                continue;
            }
            let place: Place = match list.rows.get_key_value(&bytes[..]) {
                Some((known, _)) => known.clone(),
                None => {
                    self.bytes += entry_bytes(bytes.len());
                    bytes[..].into()
                }
            };
            let entry = list.rows.entry(place.clone()).or_insert(Entry { count: 0, row_at, saved: !live });
            set(&mut entry.count, row);
            if live {
                if entry.count <= 0 {
                    self.low.push((id, place.clone()));
                }
                self.changed.insert(place, row_at);
            }
        }
        self.ids = ids;
        Ok(())
    }

    /// The lines of a partition's list, as it stands.
    fn list(&self, id: u32) -> Vec<Line> {
        let mut lines = Vec::new();
        // Rows before the one at hand; rows before its peers; orders before its own.
        let (mut before, mut before_peers, mut orders) = (0i64, 0i64, 0i64);
        let mut peers: Option<&[u8]> = None;
        for (place, entry) in &self.lists[id as usize].rows {
            let line = |number, copies| Line { place: place.clone(), row_at: entry.row_at, number, copies };
            let order = &place[..entry.row_at as usize];
            if peers != Some(order) {
                peers = Some(order);
                before_peers = before;
                orders += 1;
            }
            match self.spec.bound {
                Bound::Rows { skip, fetch } => {
                    let skip = skip.min(i64::MAX as u64) as i64;
                    let end = fetch.map_or(i64::MAX, |fetch| skip.saturating_add(fetch.min(i64::MAX as u64) as i64));
                    if before >= end {
                        break;
                    }
                    let copies = (before + entry.count).min(end) - before.max(skip);
                    if copies > 0 {
                        lines.push(line(0, copies));
                    }
                }
                Bound::RowNumber(last) => {
                    let end = (before + entry.count).min(last as i64);
                    if before >= last as i64 {
                        break;
                    }
                    lines.extend((before..end).map(|n| line(n + 1, 1)));
                }
                Bound::Rank(last) => {
                    if before_peers >= last as i64 {
                        break;
                    }
                    lines.push(line(before_peers + 1, entry.count));
                }
                Bound::DenseRank(last) => {
                    if orders > last as i64 {
                        break;
                    }
                    lines.push(line(orders, entry.count));
                }
            }
            before += entry.count;
        }
        lines
    }

    /// Forgets what is past a list that can only get better.
    fn trim(&mut self, id: u32, list: &[Line]) {
        let rows = &self.lists[id as usize].rows;
        let last = match self.spec.bound {
            Bound::Rows { fetch: None, .. } => return,
            // Rows that are skipped must stay.
            Bound::Rows { skip, fetch: Some(fetch) } => {
                let end = skip.saturating_add(fetch).min(i64::MAX as u64) as i64;
                let mut before = 0;
                let mut within = rows.iter().filter(|(_, entry)| {
                    before += entry.count;
                    before >= end
                });
                within.next().map(|(place, entry)| (place.clone(), entry.row_at))
            }
            Bound::RowNumber(last) if list.len() < last as usize => return,
            Bound::Rank(last) | Bound::DenseRank(last) if list.last().is_none_or(|line| line.number < last as i64) => {
                // A better rank is still free: a row with another order may come in.
                let taken: i64 = list.iter().map(|line| line.copies).sum();
                if matches!(self.spec.bound, Bound::DenseRank(_)) || taken < last as i64 {
                    return;
                }
                list.last().map(|line| (line.place.clone(), line.row_at))
            }
            _ => list.last().map(|line| (line.place.clone(), line.row_at)),
        };
        let Some(last) = last else { return };
        use std::ops::Bound::{Excluded, Unbounded};
        let past: Vec<Place> =
            rows.range::<Place, _>((Excluded(&last.0), Unbounded)).map(|(place, _)| place.clone()).collect();
        self.lists[id as usize].last = Some(last);
        for place in past {
            self.remove(id, &place);
        }
    }

    fn remove(&mut self, id: u32, place: &Place) {
        let Some(entry) = self.lists[id as usize].rows.remove(place) else { return };
        self.bytes -= entry_bytes(place.len());
        if entry.saved {
            self.changed.insert(place.clone(), entry.row_at);
        } else {
            self.changed.remove(place);
        }
    }

    /// Forgets the lists that no row can come to any more; what they say stands.
    fn expire(&mut self, epoch: &EpochHeader) {
        let Some(expiry) = &self.expiry else { return };
        let Some(before) = expiry.due(epoch, self.bytes) else { return };
        let column = self.spec.partition.iter().position(|c| *c == expiry.column()).expect("one of the partition's");
        let filled: Vec<u32> =
            (0..self.lists.len() as u32).filter(|&id| !self.lists[id as usize].rows.is_empty()).collect();
        let stays = stays(&self.partitions.keys(&filled)[column], before);
        for (id, _) in filled.into_iter().zip(stays).filter(|(_, stays)| !stays) {
            let places: Vec<Place> = self.lists[id as usize].rows.keys().cloned().collect();
            places.iter().for_each(|place| self.remove(id, place));
            self.forget_if_empty(id);
        }
        let left = self.bytes;
        self.expiry.as_mut().expect("looked at above").swept(left);
    }

    /// Takes away a partition that has no rows.
    fn forget_if_empty(&mut self, id: u32) {
        if self.lists[id as usize].rows.is_empty() {
            self.lists[id as usize] = Ordered { touched_in: self.epoch, ..Ordered::default() };
            self.partitions.remove(id);
        }
    }

    /// The rows of `lines` under the input's schema.
    fn decode<'a>(&self, lines: impl Iterator<Item = (&'a Place, u32)>) -> Result<Vec<ArrayRef>> {
        if self.spec.input.fields().is_empty() {
            return Ok(Vec::new());
        }
        let rows = lines.map(|(place, row_at)| self.parser.parse(&place[row_at as usize..]));
        self.whole.convert_rows(rows).map_err(Error::internal)
    }

    fn emit(&self, changes: &mut Vec<(Line, i64)>, out: &mut Output) -> Result<()> {
        if changes.is_empty() {
            return Ok(());
        }
        let mut columns = self.decode(changes.iter().map(|(line, _)| (&line.place, line.row_at)))?;
        if self.spec.bound.numbers() {
            let numbers: Int64Array = changes.iter().map(|(line, _)| Some(line.number)).collect();
            let number = self.spec.output.fields().last().expect("the number");
            columns.push(cast(&numbers, number.data_type()).map_err(Error::internal)?);
        }
        let options = RecordBatchOptions::new().with_row_count(Some(changes.len()));
        let rows =
            RecordBatch::try_new_with_options(self.spec.output.clone(), columns, &options).map_err(Error::internal)?;
        let weights: Int64Array = changes.iter().map(|(_, weight)| Some(*weight)).collect();
        out.deltas.push(Delta::new(rows, Some(weights)));
        changes.clear();
        Ok(())
    }
}

/// Says the difference between two lists, each in the order of place and number.
fn compare(old: &[Line], new: &[Line], changes: &mut Vec<(Line, i64)>) {
    let (mut o, mut n) = (old.iter().peekable(), new.iter().peekable());
    loop {
        let order = match (o.peek(), n.peek()) {
            (None, None) => return,
            (Some(_), None) => std::cmp::Ordering::Less,
            (None, Some(_)) => std::cmp::Ordering::Greater,
            (Some(a), Some(b)) => a.place.cmp(&b.place).then(a.number.cmp(&b.number)),
        };
        match order {
            std::cmp::Ordering::Less => {
                let line = o.next().expect("peeked");
                changes.push((line.clone(), -line.copies));
            }
            std::cmp::Ordering::Greater => {
                let line = n.next().expect("peeked");
                changes.push((line.clone(), line.copies));
            }
            std::cmp::Ordering::Equal => {
                let (a, b) = (o.next().expect("peeked"), n.next().expect("peeked"));
                if a.copies != b.copies {
                    changes.push((b.clone(), b.copies - a.copies));
                }
            }
        }
    }
}

/// A map's entry beside its bytes: two counts and a length behind a pointer, a slot of a node.
fn entry_bytes(place: usize) -> usize {
    place + 64
}

impl Operator for TopK {
    fn update(&mut self, _: Port, delta: Delta, _: &mut Output) -> Result<Step> {
        if !delta.is_empty() {
            match &delta.weights {
                None => self.put(&delta.rows, true, |count, _| *count += 1)?,
                Some(weights) => self.put(&delta.rows, true, |count, row| *count += weights.value(row))?,
            }
        }
        Ok(Step::Done)
    }

    fn finish_epoch(&mut self, epoch: &EpochHeader, out: &mut Output) -> Result<Step> {
        for (id, place) in std::mem::take(&mut self.low) {
            match self.lists[id as usize].rows.get(&place).map(|entry| entry.count) {
                Some(0) => self.remove(id, &place),
                Some(..0) => return Err(Error::internal("a top-k was told to retract a row that it does not have")),
                _ => {}
            }
        }
        let mut changes = Vec::new();
        for (id, old) in std::mem::take(&mut self.before) {
            let new = self.list(id);
            compare(&old, &new, &mut changes);
            if self.spec.append_only {
                self.trim(id, &new);
            }
            self.forget_if_empty(id);
            if changes.len() >= OUTPUT_ROWS {
                self.emit(&mut changes, out)?;
            }
        }
        self.emit(&mut changes, out)?;
        // Within the epoch: a list that is let go counts as touched in it.
        self.expire(epoch);
        self.epoch += 1;
        Ok(Step::Done)
    }

    fn durable(&mut self) -> Vec<&mut dyn Durable> {
        vec![self]
    }
}

impl Durable for TopK {
    /// Blocks of the input's columns and a count, which is 0 for a row that has gone.
    fn save(&mut self) -> Saved {
        let whole = self.save_whole || self.saved_rows + self.changed.len() > 2 * self.state_rows() + GARBAGE_ROWS_MIN;
        let mut changed = std::mem::take(&mut self.changed);
        if whole {
            let entries = self.lists.iter().flat_map(|list| &list.rows);
            changed = entries.map(|(place, entry)| (place.clone(), entry.row_at)).collect();
        }
        self.save_whole = false;
        self.saved_rows = changed.len() + if whole { 0 } else { self.saved_rows };
        if changed.is_empty() && !whole {
            return Saved::default();
        }
        let columns = self.decode(changed.iter().map(|(place, at)| (place, *at))).expect("the bytes of this operator");
        let options = RecordBatchOptions::new().with_row_count(Some(changed.len()));
        let rows = RecordBatch::try_new_with_options(self.spec.input.clone(), columns.clone(), &options);
        let mut ids = Vec::new();
        self.partitions.find(&self.partition_keys(&rows.expect("decoded by the schema")), &mut ids);
        let counts = changed.keys().zip(ids).map(|(place, id)| {
            let entry = self.lists.get_mut(id as usize).and_then(|list| list.rows.get_mut(place));
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
        let width = self.spec.input.fields().len();
        for block in parts.iter().flatten() {
            let options = RecordBatchOptions::new().with_row_count(Some(block.num_rows()));
            let columns = block.columns()[..width].to_vec();
            let rows = RecordBatch::try_new_with_options(self.spec.input.clone(), columns, &options)
                .map_err(Error::internal)?;
            let counts = block.column(width).as_primitive_opt::<Int64Type>();
            let counts = counts.ok_or_else(|| Error::corrupt("a block of a top-k holds no counts"))?;
            let keys = self.partition_keys(&rows);
            let own: Vec<u32> = (0..rows.num_rows() as u32).filter(|&r| share.owns(keys.hashes[r as usize])).collect();
            self.saved_rows += own.len();
            self.put(&take(&rows, &own), false, |count, row| *count = counts.value(own[row] as usize))?;
        }
        self.save_whole = dealt_anew;
        for list in &mut self.lists {
            list.rows.retain(|_, entry| entry.count != 0);
        }
        (0..self.lists.len() as u32).for_each(|id| self.forget_if_empty(id));
        // What was just put in and forgotten was touched before the epochs to come.
        self.epoch += 1;
        self.bytes = self.lists.iter().flat_map(|list| list.rows.keys()).map(|place| entry_bytes(place.len())).sum();
        Ok(())
    }

    fn state_bytes(&self) -> usize {
        self.bytes + self.partitions.state_bytes() + self.lists.len() * size_of::<Ordered>()
    }
    fn fixed_bytes(&self) -> usize {
        self.bytes + self.lists.len() * size_of::<Ordered>()
    }
    fn state_rows(&self) -> usize {
        self.lists.iter().map(|list| list.rows.len()).sum()
    }
}
