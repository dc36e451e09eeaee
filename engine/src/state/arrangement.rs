//! A relation's rows, summed up, kept in arrival order and readable as of an epoch.
//!
//! ```text
//!   position   0        1        2        3 | 4        5        6
//!   rows       (1,'a')  (2,'b')  (2,'b')  …  | (7,'x')  …              segments, immutable
//!   died       –        12       –        –  | –        –       15     epoch of the retraction
//!   births     epoch 9 up to 3,  epoch 12 up to 5,  epoch 15 up to 7   marks
//! ```
//!
//! A row is in the picture of epoch E when it was born at or before E and has not died by E. Multiplicity
//! n is n rows. One writer, the worker (or the commit path) that owns it; any number of readers, who take
//! the list of segments under a lock held for the copy of that list alone, and never wait for a step.
//!
//! Rows come in batches. A batch of [`SEGMENT_ROWS_MIN`] rows is taken by reference; smaller ones are
//! merged, sixteen of a kind at a time, so that a row is copied a few times at most however small the
//! epochs are. A retraction looks its row up by the hash of the whole row. Dead rows that nobody can see
//! any more (died at or before the *horizon*) are dropped once they are half of all.
//!
//! Cost: appending by reference is constant per batch; an index entry costs 20 to 30 ns a row; a
//! retraction one probe, one gather and one compare.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex};

mod readers;
mod saved;
mod segment;

use arrow::array::{Array, ArrayRef, RecordBatch, RecordBatchOptions, UInt32Array};
use arrow::compute::concat_batches;
use arrow::datatypes::SchemaRef;

pub use self::readers::{Picture, Pin, Shared, Size};
use self::readers::{State, births_end};
use self::saved::SavedUpTo;
use self::segment::{ALIVE, Segment, deaths};
use crate::delta::Delta;
use crate::state::gather::{Place, gather};
use crate::state::row_index::RowIndex;
use crate::time::Epoch;

/// Batches of at least so many rows become segments as they are.
pub const SEGMENT_ROWS_MIN: usize = 4096;
/// Larger batches are cut, so that a segment is a good unit of work for readers.
pub const SEGMENT_ROWS_MAX: usize = 65536;
/// So many neighbouring small segments of one size class are merged into one.
const MERGE_FAN_IN: usize = 16;
/// Wide rows stay in small segments: those that are merged are in memory twice.
const MERGE_BYTES_MAX: usize = 32 << 20;
const DIRECTORY_SHIFT: u32 = 10;

/// The writer's side.
pub struct Arrangement {
    shared: Arc<Shared>,
    segments: Vec<Arc<Segment>>,
    batches: Vec<Arc<RecordBatch>>,
    /// For each 2^DIRECTORY_SHIFT positions, the first segment that holds one of them.
    directory: Vec<u32>,
    end: u32,
    live_rows: u64,
    dead_rows: u64,
    rows_by_hash: Option<RowIndex>,
    new_deaths: Vec<(Epoch, u32)>,
    /// So many segments, from the first on, readers have as they are here.
    published: usize,
    /// After a rewrite: the old positions of the rows that stayed, in their new order.
    rewritten: Option<Vec<u32>>,
    saved: SavedUpTo,
}

impl Arrangement {
    /// `retractable`: keep the index by whole row, which retractions need.
    pub fn new(schema: SchemaRef, retractable: bool) -> Self {
        let state = State {
            segments: Vec::new(),
            births: VecDeque::from([(0, 0)]),
            deaths: VecDeque::new(),
            horizon: 0,
            closed: 0,
            live_rows: 0,
        };
        Arrangement {
            shared: Arc::new(Shared { schema, state: Mutex::new(state), pins: Mutex::new(BTreeMap::new()) }),
            segments: Vec::new(),
            batches: Vec::new(),
            directory: Vec::new(),
            end: 0,
            live_rows: 0,
            dead_rows: 0,
            rows_by_hash: retractable.then(RowIndex::new),
            new_deaths: Vec::new(),
            published: 0,
            rewritten: None,
            saved: SavedUpTo { whole: true, ..SavedUpTo::default() },
        }
    }

    /// One of the same kind, without rows.
    pub fn empty(&self) -> Self {
        Self::new(self.shared.schema.clone(), self.rows_by_hash.is_some())
    }
    pub fn schema(&self) -> &SchemaRef {
        &self.shared.schema
    }
    pub fn reader(&self) -> Arc<Shared> {
        self.shared.clone()
    }
    pub fn live_rows(&self) -> u64 {
        self.live_rows
    }
    /// Positions are below this.
    pub fn end(&self) -> u32 {
        self.end
    }

    /// Adds rows; they get the positions from [`Self::end`] on.
    pub fn append(&mut self, rows: &RecordBatch) {
        let total = rows.num_rows();
        if total == 0 {
            return;
        }
        if let Some(index) = &mut self.rows_by_hash {
            index.append(&row_hashes(rows));
        }
        let mut from = 0;
        while from < total {
            let length = (total - from).min(SEGMENT_ROWS_MAX);
            let piece = if length == total { rows.clone() } else { rows.slice(from, length) };
            self.push_segment(Segment::new(self.end, piece));
            from += length;
        }
        self.live_rows += total as u64;
        self.merge_tail();
    }

    fn push_segment(&mut self, segment: Segment) {
        let end = segment.end();
        assert!(end >= self.end && end < u32::MAX - SEGMENT_ROWS_MAX as u32, "fewer than 2^32 rows in an arrangement");
        let index = self.segments.len() as u32;
        while ((self.directory.len() as u64) << DIRECTORY_SHIFT) < end as u64 {
            self.directory.push(index);
        }
        self.end = end;
        self.batches.push(segment.rows.clone());
        self.segments.push(Arc::new(segment));
    }

    /// Merges small neighbours at the end, sixteen of a size class at a time.
    fn merge_tail(&mut self) {
        let mut class = MERGE_FAN_IN;
        while class <= SEGMENT_ROWS_MIN {
            // The run at the end whose segments are all smaller than this class's bound.
            let is_small = |s: &Segment| s.rows.num_rows() < class && s.bytes <= MERGE_BYTES_MAX / MERGE_FAN_IN;
            let run = self.segments.iter().rev().take_while(|segment| is_small(segment)).count();
            if run >= MERGE_FAN_IN {
                self.merge(self.segments.len() - run);
            }
            class *= MERGE_FAN_IN;
        }
    }

    fn merge(&mut self, start: usize) {
        let schema = self.shared.schema.clone();
        let merged = concat_batches(&schema, self.segments[start..].iter().map(|s| &*s.rows)).expect("one schema");
        let first = self.segments[start].first;
        let segment = Segment::new(first, merged);
        if self.segments[start..].iter().any(|s| s.died.get().is_some()) {
            let died = self.segments[start..].iter().flat_map(|s| (0..s.rows.num_rows()).map(|r| s.died_at(r)));
            assert!(segment.died.set(deaths(died)).is_ok(), "a new segment has none");
        }
        self.segments.truncate(start);
        self.batches.truncate(start);
        // Directory entries that named a merged segment now name the merged one.
        for entry in self.directory.iter_mut().rev() {
            if *entry <= start as u32 {
                break;
            }
            *entry = start as u32;
        }
        self.batches.push(segment.rows.clone());
        self.segments.push(Arc::new(segment));
        self.published = self.published.min(start);
    }

    fn place(&self, position: u32) -> Place {
        place(&self.segments, &self.directory, position)
    }

    /// The columns `columns` of the rows at `positions`, in that order.
    pub fn columns_at(&self, columns: &[usize], positions: &[u32]) -> Vec<ArrayRef> {
        if columns.is_empty() {
            return Vec::new();
        }
        let places: Vec<Place> = positions.iter().map(|&p| self.place(p)).collect();
        let schema = &self.shared.schema;
        columns.iter().map(|&c| gather(&self.batches, c, schema.field(c).data_type(), &places)).collect()
    }

    /// The rows at `positions`, in that order.
    pub fn rows_at(&self, positions: &[u32]) -> RecordBatch {
        gathered(&self.shared.schema, &self.batches, positions.iter().map(|&p| self.place(p)))
    }

    /// The rows as they are in this epoch, to be read elsewhere: positions stay valid there.
    pub fn picker(&self) -> Picker {
        Picker {
            schema: self.shared.schema.clone(),
            segments: self.segments.clone(),
            batches: self.batches.clone(),
            directory: self.directory.clone(),
        }
    }

    pub fn is_live(&self, position: u32) -> bool {
        self.died_at(position) == ALIVE
    }

    /// The epoch in which the row died; one that lives has not died in any.
    pub fn died_at(&self, position: u32) -> Epoch {
        let (segment, row) = self.place(position);
        self.segments[segment as usize].died_at(row as usize)
    }

    /// Rows that were born by the end of a published `epoch`, not before the horizon, have positions below this.
    pub fn end_at(&self, epoch: Epoch) -> u32 {
        births_end(&self.shared.state.lock().expect("no panic while held").births, epoch)
    }

    /// The rows that are dead and can still be seen, with the epoch in which each died, rising.
    pub fn dying(&self) -> VecDeque<(Epoch, u32)> {
        self.shared.state.lock().expect("no panic while held").deaths.clone()
    }

    /// Takes away one live row equal to each of `rows`, as of `epoch`; their positions, in order, or
    /// `None` for a row that is not there.
    pub fn retract(&mut self, rows: &RecordBatch, epoch: Epoch) -> Vec<Option<u32>> {
        if rows.num_rows() == 0 {
            return Vec::new();
        }
        let hashes = row_hashes(rows);
        let mut index = self.rows_by_hash.take().expect("a retractable arrangement");
        let mut found: Vec<Option<u32>> = hashes.iter().map(|&h| index.pop(h)).collect();
        // Nearly always the first row of that hash is the row; when it is not (two rows of one hash), search.
        let (ask, positions): (Vec<u32>, Vec<u32>) =
            found.iter().enumerate().filter_map(|(i, p)| p.map(|p| (i as u32, p))).unzip();
        let same = equal_rows(&take(rows, &ask), &self.rows_at(&positions));
        // All that were taken for another go back before any is searched for: it may be one of them.
        let others: Vec<usize> = (0..ask.len()).filter(|&n| !same[n]).collect();
        for &n in &others {
            index.put_back(hashes[ask[n] as usize], positions[n]);
        }
        for n in others {
            let i = ask[n] as usize;
            let wanted = rows.slice(i, 1);
            let hit = index.chain(hashes[i]).find(|&p| equal_rows(&wanted, &self.rows_at(&[p]))[0]);
            if let Some(p) = hit {
                index.remove(hashes[i], p);
            }
            found[i] = hit;
        }
        self.rows_by_hash = Some(index);
        found.iter().flatten().for_each(|&position| self.mark_died(position, epoch));
        found
    }

    /// Takes live rows away, as of `epoch`, of an arrangement that is not retractable.
    pub fn kill(&mut self, positions: &[u32], epoch: Epoch) {
        assert!(positions.is_empty() || self.rows_by_hash.is_none(), "the index would still lead to them");
        positions.iter().for_each(|&position| self.mark_died(position, epoch));
    }

    fn mark_died(&mut self, position: u32, epoch: Epoch) {
        let (segment, row) = self.place(position);
        self.segments[segment as usize].mark_died(row as usize, epoch);
        self.new_deaths.push((epoch, position));
        if position < self.saved.end {
            self.saved.deaths.push(position);
        }
        self.live_rows -= 1;
        self.dead_rows += 1;
    }

    /// Which of `rows` are there (for each, at least as many live ones as it occurs up to it in `rows`).
    pub fn contains(&self, rows: &RecordBatch) -> Vec<bool> {
        let index = self.rows_by_hash.as_ref().expect("a retractable arrangement");
        // The n-th row of a hash is held against the n-th position of its chain.
        let mut next: HashMap<u64, Option<u32>> = HashMap::with_capacity(rows.num_rows());
        let hashes = row_hashes(rows);
        let candidates: Vec<Option<u32>> = hashes
            .iter()
            .map(|&hash| {
                let at = next.entry(hash).or_insert_with(|| index.head(hash));
                let candidate = *at;
                *at = candidate.and_then(|p| index.older(p));
                candidate
            })
            .collect();
        let (ask, positions): (Vec<u32>, Vec<u32>) =
            candidates.iter().enumerate().filter_map(|(i, p)| p.map(|p| (i as u32, p))).unzip();
        let mut there = vec![false; rows.num_rows()];
        let mut shared = HashSet::new();
        for (&i, same) in ask.iter().zip(equal_rows(&take(rows, &ask), &self.rows_at(&positions))) {
            there[i as usize] = same;
            if !same {
                shared.insert(hashes[i as usize]);
            }
        }
        // Different rows of one hash: each of them takes a position that is its own.
        let mut taken = HashSet::new();
        for i in (0..rows.num_rows()).filter(|&i| shared.contains(&hashes[i])) {
            let wanted = rows.slice(i, 1);
            let own = index.chain(hashes[i]).filter(|p| !taken.contains(p));
            let hit = own.into_iter().find(|&p| equal_rows(&wanted, &self.rows_at(&[p]))[0]);
            taken.extend(hit);
            there[i] = hit.is_some();
        }
        there
    }

    /// Applies a change as of `epoch`: insertions first, then retractions. Returns the retracted rows that
    /// were not there (none, unless an invariant is broken upstream).
    pub fn apply(&mut self, delta: &Delta, epoch: Epoch) -> usize {
        let Some(weights) = &delta.weights else {
            self.append(&delta.rows);
            return 0;
        };
        let (plus, minus) = split_weights(weights);
        self.append(&take(&delta.rows, &plus));
        self.retract(&take(&delta.rows, &minus), epoch).iter().filter(|p| p.is_none()).count()
    }

    /// Makes everything up to `epoch` visible to readers, and forgets what nobody can read any more.
    pub fn publish(&mut self, epoch: Epoch) {
        if self.publish_in_place(epoch) {
            self.rewrite();
        }
    }

    /// The same, but positions stay what they are. True: there is enough to be forgotten that they should not.
    pub fn publish_in_place(&mut self, epoch: Epoch) -> bool {
        // Held until the horizon is written, so that no one pins an epoch that is just being forgotten.
        let pins = self.shared.pins.lock().expect("no panic while held");
        let horizon = pins.keys().next().copied().unwrap_or(epoch).min(epoch);
        let mut state = self.shared.state.lock().expect("no panic while held");
        assert!(epoch >= state.closed, "epochs into an arrangement rise");
        state.segments.truncate(self.published);
        state.segments.extend_from_slice(&self.segments[self.published..]);
        self.published = self.segments.len();
        if state.births.back().is_some_and(|b| b.0 == epoch) {
            state.births.pop_back();
        }
        state.births.push_back((epoch, self.end));
        state.deaths.extend(self.new_deaths.drain(..));
        state.closed = epoch;
        state.live_rows = self.live_rows;
        if horizon > state.horizon {
            state.horizon = horizon;
        }
        let horizon = state.horizon;
        while state.births.len() > 1 && state.births[1].0 <= horizon {
            state.births.pop_front();
        }
        while state.deaths.front().is_some_and(|d| d.0 <= horizon) {
            state.deaths.pop_front();
        }
        let garbage = self.dead_rows - state.deaths.len() as u64;
        garbage > 1024 && garbage * 2 > self.end as u64
    }

    /// Drops the dead rows that nobody can see. Positions change.
    fn rewrite(&mut self) {
        let shared = self.shared.clone();
        let mut state = shared.state.lock().expect("no panic while held");
        let horizon = state.horizon;
        let mut moved: Vec<u32> = Vec::with_capacity(self.end as usize + 1);
        let mut batches: Vec<(RecordBatch, Vec<Epoch>)> = Vec::new();
        let mut kept: Vec<u32> = Vec::with_capacity(self.live_rows as usize);
        let mut next = 0u32;
        for segment in &self.segments {
            let mut keep = Vec::new();
            let mut died = Vec::new();
            for row in 0..segment.rows.num_rows() {
                moved.push(next);
                let at = segment.died_at(row);
                if at > horizon {
                    keep.push(row as u32);
                    died.push(at);
                    kept.push(segment.first + row as u32);
                    next += 1;
                }
            }
            if !keep.is_empty() {
                batches.push((take(&segment.rows, &keep), died));
            }
        }
        moved.push(next);
        let retractable = self.rows_by_hash.is_some();
        self.segments.clear();
        self.batches.clear();
        self.directory.clear();
        self.end = 0;
        self.rows_by_hash = retractable.then(|| RowIndex::with_capacity(kept.len()));
        // Neighbours are joined until a segment is worth its while.
        let mut group: Vec<(RecordBatch, Vec<Epoch>)> = Vec::new();
        let mut pieces = batches.into_iter().peekable();
        while let Some(piece) = pieces.next() {
            group.push(piece);
            let rows: usize = group.iter().map(|g| g.0.num_rows()).sum();
            if rows >= SEGMENT_ROWS_MIN * 4 || pieces.peek().is_none() {
                let merged = concat_batches(&self.shared.schema, group.iter().map(|g| &g.0)).expect("one schema");
                let died: Vec<Epoch> = group.drain(..).flat_map(|g| g.1).collect();
                if let Some(index) = &mut self.rows_by_hash {
                    index.append_live(&row_hashes(&merged), |row| died[row] == ALIVE);
                }
                let segment = Segment::new(self.end, merged);
                if died.iter().any(|&d| d != ALIVE) {
                    assert!(segment.died.set(deaths(died.into_iter())).is_ok(), "a new segment has none");
                }
                self.push_segment(segment);
            }
        }
        for birth in state.births.iter_mut() {
            birth.1 = moved[birth.1 as usize];
        }
        for death in state.deaths.iter_mut() {
            death.1 = moved[death.1 as usize];
        }
        self.dead_rows = state.deaths.len() as u64;
        state.segments.clone_from(&self.segments);
        self.published = self.segments.len();
        self.rewritten = Some(kept);
        self.saved = SavedUpTo { whole: true, ..SavedUpTo::default() };
    }

    /// If positions have changed since the last call: the old positions of the rows that are there, in the
    /// order of the new ones. What is indexed by position must follow.
    pub fn take_rewritten(&mut self) -> Option<Vec<u32>> {
        self.rewritten.take()
    }

    /// Between two epochs: only the live rows that `stays` names, batch by batch, are left, published as of `epoch`. Their
    /// old positions, in their new order.
    pub fn keep(&mut self, epoch: Epoch, stays: impl Fn(&RecordBatch) -> Vec<bool>) -> Vec<u32> {
        let (mut rows, mut kept) = (self.empty(), Vec::new());
        for segment in &self.segments {
            let stays = stays(&segment.rows);
            let own = (0..segment.rows.num_rows()).filter(|&row| stays[row] && segment.died_at(row) == ALIVE);
            let own: Vec<u32> = own.map(|row| row as u32).collect();
            let is_whole = own.len() == segment.rows.num_rows();
            rows.append(&if is_whole { (*segment.rows).clone() } else { take(&segment.rows, &own) });
            kept.extend(own.iter().map(|row| segment.first + row));
        }
        rows.publish(epoch);
        *self = rows;
        kept
    }

    /// The rows of each segment, dead ones too, in order of position.
    pub fn segments(&self) -> Vec<Arc<RecordBatch>> {
        self.batches.clone()
    }

    /// The same, each with its first position.
    pub fn segments_with_positions(&self) -> Vec<(Arc<RecordBatch>, u32)> {
        self.segments.iter().map(|segment| (segment.rows.clone(), segment.first)).collect()
    }

    /// About how many bytes a row takes, without what leads to it.
    pub fn row_bytes(&self) -> usize {
        self.rows_bytes().div_ceil(self.end.max(1) as usize)
    }

    fn rows_bytes(&self) -> usize {
        self.segments.iter().map(|segment| segment.bytes).sum()
    }

    pub fn state_bytes(&self) -> usize {
        let index = self.rows_by_hash.as_ref().map_or(0, RowIndex::state_bytes);
        self.rows_bytes() + index + self.directory.len() * 4
    }
}

/// See [`Arrangement::picker`].
pub struct Picker {
    schema: SchemaRef,
    segments: Vec<Arc<Segment>>,
    batches: Vec<Arc<RecordBatch>>,
    directory: Vec<u32>,
}

impl Picker {
    /// The rows at `positions`, in that order.
    pub fn rows_at(&self, positions: &[u32]) -> RecordBatch {
        let places = positions.iter().map(|&p| place(&self.segments, &self.directory, p));
        gathered(&self.schema, &self.batches, places)
    }
}

#[inline]
fn place(segments: &[Arc<Segment>], directory: &[u32], position: u32) -> Place {
    let mut index = directory[(position >> DIRECTORY_SHIFT) as usize] as usize;
    if segments[index].end() <= position {
        index += 1;
        if segments[index].end() <= position {
            index += segments[index..].partition_point(|s| s.end() <= position);
        }
    }
    (index as u32, position - segments[index].first)
}

fn gathered(schema: &SchemaRef, batches: &[Arc<RecordBatch>], places: impl Iterator<Item = Place>) -> RecordBatch {
    let places: Vec<Place> = places.collect();
    let fields = schema.fields().iter().enumerate();
    let columns = fields.map(|(c, field)| gather(batches, c, field.data_type(), &places)).collect();
    let options = RecordBatchOptions::new().with_row_count(Some(places.len()));
    RecordBatch::try_new_with_options(schema.clone(), columns, &options).expect("gathered by the schema")
}

/// Row numbers of the insertions and of the retractions, each as often as its weight says.
pub fn split_weights(weights: &arrow::array::Int64Array) -> (Vec<u32>, Vec<u32>) {
    let (mut plus, mut minus) = (Vec::new(), Vec::new());
    for (row, &weight) in weights.values().iter().enumerate() {
        let list = if weight > 0 { &mut plus } else { &mut minus };
        for _ in 0..weight.unsigned_abs() {
            list.push(row as u32);
        }
    }
    (plus, minus)
}

pub fn take(rows: &RecordBatch, indices: &[u32]) -> RecordBatch {
    if rows.num_columns() == 0 {
        let options = RecordBatchOptions::new().with_row_count(Some(indices.len()));
        return RecordBatch::try_new_with_options(rows.schema(), vec![], &options).expect("no columns");
    }
    arrow::compute::take_record_batch(rows, &UInt32Array::from(indices.to_vec())).expect("indices are rows")
}

/// One hash per row over all columns, the same in every process.
pub fn row_hashes(rows: &RecordBatch) -> Vec<u64> {
    let mut hashes = vec![0; rows.num_rows()];
    let state = datafusion::common::hash_utils::RandomState::with_seed(0x6d69_6c6c);
    datafusion::common::hash_utils::create_hashes(rows.columns(), &state, &mut hashes).expect("hashable types");
    hashes
}

/// Row by row, NULL equal to NULL.
pub fn equal_rows(left: &RecordBatch, right: &RecordBatch) -> Vec<bool> {
    let mut equal = vec![true; left.num_rows()];
    for (l, r) in left.columns().iter().zip(right.columns()) {
        if l.data_type().is_nested() || matches!(l.data_type(), arrow::datatypes::DataType::Interval(_)) {
            let compare = arrow::array::make_comparator(l, r, Default::default());
            match compare {
                Ok(compare) => (0..equal.len()).for_each(|i| equal[i] &= compare(i, i).is_eq()),
                Err(_) => (0..equal.len()).for_each(|i| equal[i] &= l.slice(i, 1).to_data() == r.slice(i, 1).to_data()),
            }
        } else {
            let same = arrow::compute::kernels::cmp::not_distinct(l, r).expect("one type");
            (0..equal.len()).for_each(|i| equal[i] &= same.value(i));
        }
    }
    equal
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delta::keys::KeyEncoder;
    use crate::delta::text::{parse, schema};
    use crate::state::durable;

    #[test]
    fn a_row_can_die_in_epoch_0() {
        let schema = schema("k: Int64");
        let mut rows = Arrangement::new(schema.clone(), true);
        let missing = |rows: &mut Arrangement, text: &str, epoch| rows.apply(&parse(&schema, text), epoch);
        assert_eq!(missing(&mut rows, "+1 | NULL\n+1 | 2", 0), 0);
        assert_eq!(missing(&mut rows, "-1 | NULL", 0), 0);
        rows.publish(0);
        let seen: usize = rows.reader().pin(0).unwrap().picture().batches().map(|b| b.num_rows()).sum();
        assert_eq!((seen, rows.live_rows()), (1, 1));
        assert_eq!(missing(&mut rows, "-1 | NULL", 1), 1);
        let saved = rows.save().blocks;
        let encoder = KeyEncoder::new(&[]).unwrap();
        let mut again = Arrangement::new(schema.clone(), true);
        again.restore(&[saved], &encoder, &[], &durable::Share::ALL, 0);
        assert_eq!(again.live_rows(), 1);
    }
}
