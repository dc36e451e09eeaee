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
//! State: the rows, arranged; where the input never retracts only those of the lists. Beside them of each partition the
//! first rows in order, as prefixes of the order with positions:
//!
//! ```text
//!   partition 7   entries  ~9 → 0   ~8 → 5   ~8 → 2   │ behind them, in no order: 1  3  4  6 …
//! ```
//!
//! Entries are more than the bound needs, a sixteenth of the partition at least: when so many have been taken back that
//! they are too few, they are made anew from all of the partition's rows, which is then a constant cost per retraction.
//!
//! Cost: a search per changed row, and the length of the list per touched partition and epoch.

mod list;
mod order;
#[cfg(test)]
mod tests;

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch, RecordBatchOptions};
use arrow::compute::{SortOptions, cast};
use arrow::datatypes::{DataType, Int64Type, SchemaRef};
use arrow::row::{RowConverter, SortField};

pub use self::list::Bound;
use self::list::{Entry, Line, List, changes};
use self::order::{Order, Places};
use super::expiry::{EXPIRY_ROWS_MIN, Expiry, stays};
use super::{Operator, Output, Port, Step};
use crate::delta::Delta;
use crate::delta::consolidate::{consolidate, has_retractions};
use crate::delta::keys::KeyBatch;
use crate::error::{Error, Result};
use crate::state::arrangement::{Arrangement, split_weights, take};
use crate::state::durable::{Durable, Saved, Share};
use crate::state::key_table::{ABSENT, KeyTable};
use crate::state::spill::{Passing, Spillable, StateVec, fixed_bytes_of};
use crate::time::{EpochHeader, TimeBound};

/// Output batches have about this many rows.
const OUTPUT_ROWS: usize = 8192;
/// Rows that are output between two chances for others to run.
const ROWS_PER_STEP: usize = 2 * OUTPUT_ROWS;
/// No row.
const NONE: u32 = u32::MAX;
/// Entries beyond what the bound needs, as a part of the partition, and at least.
const SPARE_PART: usize = 16;
const SPARE_MIN: usize = 16;
/// From so many retractions in a list on it is looked through once.
const RETRACTIONS_FEW: usize = 8;

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

pub struct TopK {
    spec: TopKSpec,
    order: Order,
    rows: Arrangement,
    partitions: KeyTable,
    /// By partition.
    lists: StateVec<List>,
    /// Where rows can be taken back.
    links: Option<Links>,
    /// Changes of the open epoch, where they may be retractions.
    held: Vec<Delta>,
    passing: Passing,
    /// What the epoch has changed in the lists, and how much of that has been output.
    changed: Option<(Vec<(Line, i64)>, usize)>,
    /// The partitions that the epoch has touched, each with where the lines of before end in `before`.
    touched: Vec<(u32, usize)>,
    before: Vec<Line>,
    /// Rows that have fallen out of a list for good.
    dying: Vec<u32>,
    scratch: Vec<Line>,
    ids: Vec<u32>,
    expiry: Option<Expiry>,
}

/// By position: the next older and the next newer row of the same partition.
struct Links {
    older: StateVec<u32>,
    newer: StateVec<u32>,
}

impl Links {
    fn new() -> Links {
        Links { older: StateVec::new_in(Spillable), newer: StateVec::new_in(Spillable) }
    }

    /// The next position is a row of `list`.
    fn push(&mut self, list: &mut List) {
        let position = self.older.len() as u32;
        self.older.push(list.head);
        self.newer.push(NONE);
        if list.head != NONE {
            self.newer[list.head as usize] = position;
        }
        list.head = position;
    }

    fn remove(&mut self, list: &mut List, position: u32) {
        let (older, newer) = (self.older[position as usize], self.newer[position as usize]);
        if older != NONE {
            self.newer[older as usize] = newer;
        }
        match newer {
            NONE => list.head = older,
            newer => self.older[newer as usize] = older,
        }
    }

    fn of(&self, list: &List) -> Vec<u32> {
        let next = |position: &u32| Some(self.older[*position as usize]).filter(|older| *older != NONE);
        std::iter::successors(Some(list.head).filter(|head| *head != NONE), next).collect()
    }

    /// `kept`: the old positions of the rows that stay, in their new order. `moved`: the new ones by the old ones.
    fn follow(&mut self, kept: &[u32], moved: &[u32]) {
        let follow = |links: &StateVec<u32>| {
            let mut followed = StateVec::with_capacity_in(kept.len(), Spillable);
            followed.extend(kept.iter().map(|&old| match links[old as usize] {
                NONE => NONE,
                other => moved[other as usize],
            }));
            followed
        };
        *self = Links { older: follow(&self.older), newer: follow(&self.newer) };
    }
}

impl TopK {
    /// Error: 0A000 when a column cannot be ordered.
    pub fn new(spec: TopKSpec) -> Result<TopK> {
        let types: Vec<DataType> = spec.partition.iter().map(|&c| spec.input.field(c).data_type().clone()).collect();
        Ok(TopK {
            order: Order::new(&spec.order, &spec.input)?,
            rows: Arrangement::new(spec.input.clone(), !spec.append_only),
            partitions: KeyTable::new(&types)?,
            lists: StateVec::new_in(Spillable),
            links: (!spec.append_only).then(Links::new),
            held: Vec::new(),
            passing: Passing::default(),
            changed: None,
            touched: Vec::new(),
            before: Vec::new(),
            dying: Vec::new(),
            scratch: Vec::new(),
            ids: Vec::new(),
            expiry: spec.expiry.as_ref().map(|bound| Expiry::new(bound, EXPIRY_ROWS_MIN)),
            spec,
        })
    }

    fn partition_keys(&self, rows: &RecordBatch) -> KeyBatch {
        let columns: Vec<ArrayRef> = self.spec.partition.iter().map(|&c| rows.column(c).clone()).collect();
        self.partitions.encoder().encode_rows(&columns, rows.num_rows())
    }

    /// Before a list changes: keeps what it says.
    fn touch(&mut self, id: u32) -> Result<()> {
        if !std::mem::replace(&mut self.lists[id as usize].is_touched, true) {
            let mut before = std::mem::take(&mut self.before);
            let done = self.lines(id, &mut before);
            self.before = before;
            self.touched.push((id, self.before.len()));
            done?;
        }
        Ok(())
    }

    /// What a list says, as it stands.
    fn lines(&self, id: u32, out: &mut Vec<Line>) -> Result<list::Reach> {
        let entries = &self.lists[id as usize].entries[..];
        if !self.spec.bound.has_peers() {
            return Ok(self.spec.bound.lines(entries, |_| false, out));
        }
        let positions: Vec<u32> = entries.iter().map(|entry| entry.position).collect();
        let prefixes: Vec<_> = entries.iter().map(|entry| entry.prefix).collect();
        let peers = self.order.peers(&self.rows, &positions, &prefixes)?;
        Ok(self.spec.bound.lines(entries, |i| peers[i], out))
    }

    /// Takes rows in.
    fn insert(&mut self, rows: &RecordBatch) -> Result<()> {
        let mut ids = std::mem::take(&mut self.ids);
        self.partitions.intern(&self.partition_keys(rows), &mut ids);
        self.lists.resize_with(self.partitions.bound() as usize, List::new);
        let prefixes = self.order.prefixes(rows);
        // Rows that come in, and the partitions that they come to.
        let (mut coming, mut to) = (Vec::with_capacity(ids.len()), Vec::new());
        let first = self.rows.end();
        // By the row of `coming`: the one before it of the same partition.
        let mut earlier: Vec<u32> = Vec::with_capacity(ids.len());
        for (row, &id) in ids.iter().enumerate() {
            let list = &self.lists[id as usize];
            if list.is_closed && list.entries.last().is_none_or(|last| prefixes[row] > last.prefix) {
                continue;
            }
            if !list.is_touched {
                self.touch(id)?;
            }
            let list = &mut self.lists[id as usize];
            if list.coming == NONE {
                to.push(id);
            }
            earlier.push(std::mem::replace(&mut list.coming, coming.len() as u32));
            coming.push(row as u32);
        }
        self.rows.append(&if coming.len() == rows.num_rows() { rows.clone() } else { take(rows, &coming) });
        if let Some(links) = &mut self.links {
            coming.iter().for_each(|&row| links.push(&mut self.lists[ids[row as usize] as usize]));
        }
        self.ids = ids;

        let come = |mut at: u32, entries: &mut Vec<Entry>| {
            while at != NONE {
                entries.push(Entry { prefix: prefixes[coming[at as usize] as usize], position: first + at });
                at = earlier[at as usize];
            }
        };
        // One buffer for all: mostly a partition gets a row or two.
        let (mut new, mut merged, mut unsure, mut tied) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for id in to {
            let list = &mut self.lists[id as usize];
            new.clear();
            come(std::mem::replace(&mut list.coming, NONE), &mut new);
            new.sort_unstable_by_key(|entry| (entry.prefix, entry.position));
            let known = unsure.len();
            add_ties(&list.entries, &new, &mut unsure);
            match unsure.len() > known {
                true => tied.push((id, new.clone())),
                false => self.merge(id, &new, None, &mut merged)?,
            }
        }
        if !tied.is_empty() {
            let places = self.places(unsure)?;
            for (id, mut new) in tied {
                new.sort_unstable_by(|a, b| compare(a, b, Some(&places)));
                self.merge(id, &new, Some(&places), &mut merged)?;
            }
        }
        Ok(())
    }

    fn places(&self, mut positions: Vec<u32>) -> Result<Places> {
        positions.sort_unstable();
        positions.dedup();
        self.order.places(&self.rows, &positions)
    }

    /// Puts new rows, which are in order, into a list. `places`: of rows that have one prefix.
    fn merge(&mut self, id: u32, new: &[Entry], places: Option<&Places>, merged: &mut Vec<Entry>) -> Result<()> {
        let list = &mut self.lists[id as usize];
        let is_whole = list.is_whole();
        list.rows += new.len() as u32;
        merged.clear();
        let (mut old, mut new) = (list.entries.iter().peekable(), new.iter().peekable());
        while let (Some(a), Some(b)) = (old.peek(), new.peek()) {
            let next = if compare(a, b, places).is_lt() { old.next() } else { new.next() };
            merged.extend(next);
        }
        merged.extend(old);
        if is_whole {
            // Else there may be rows behind the last entry that are before these.
            merged.extend(new);
        }
        list.entries.clear();
        list.entries.reserve_exact(merged.len());
        list.entries.extend_from_slice(merged);
        if self.spec.append_only {
            self.close(id)?;
        }
        Ok(())
    }

    /// Lets go of what has no part in a list that can only get better.
    fn close(&mut self, id: u32) -> Result<()> {
        let mut lines = std::mem::take(&mut self.scratch);
        let reach = self.lines(id, &mut lines);
        lines.clear();
        self.scratch = lines;
        let (reach, list) = (reach?, &mut self.lists[id as usize]);
        self.dying.extend(list.entries[reach.used..].iter().map(|entry| entry.position));
        list.entries.truncate(reach.used);
        list.rows = reach.used as u32;
        list.is_closed = reach.is_closed;
        Ok(())
    }

    /// Takes rows out as of `epoch`.
    fn retract(&mut self, rows: &RecordBatch, epoch: u64) -> Result<()> {
        let missing = || Error::internal("a top-k was told to retract a row that it does not have");
        let mut ids = Vec::new();
        self.partitions.find(&self.partition_keys(rows), &mut ids);
        if ids.contains(&ABSENT) {
            return Err(missing());
        }
        ids.iter().try_for_each(|&id| self.touch(id))?;
        let positions: Option<Vec<u32>> = self.rows.retract(rows, epoch).into_iter().collect();
        let positions = positions.ok_or_else(missing)?;
        let prefixes = self.order.prefixes(rows);
        let mut going: Vec<(u32, Entry)> =
            (0..ids.len()).map(|i| (ids[i], Entry { prefix: prefixes[i], position: positions[i] })).collect();
        going.sort_unstable_by_key(|(id, entry)| (*id, entry.position));
        let links = self.links.as_mut().expect("rows can be taken back");
        for going in going.chunk_by(|a, b| a.0 == b.0) {
            let list = &mut self.lists[going[0].0 as usize];
            list.rows -= going.len() as u32;
            going.iter().for_each(|(_, entry)| links.remove(list, entry.position));
            if going.len() > RETRACTIONS_FEW {
                let goes = |position: u32| going.binary_search_by_key(&position, |(_, gone)| gone.position).is_ok();
                list.entries.retain(|entry| !goes(entry.position));
                continue;
            }
            for (_, gone) in going {
                let from = list.entries.partition_point(|entry| entry.prefix < gone.prefix);
                let alike = list.entries[from..].iter().take_while(|entry| entry.prefix == gone.prefix);
                if let Some(at) = alike.map(|entry| entry.position).position(|position| position == gone.position) {
                    list.entries.remove(from + at);
                }
            }
        }
        Ok(())
    }

    /// At the end of an epoch: makes a list long enough, and not much longer; `lines` is what it says.
    fn settle(&mut self, id: u32, lines: &mut Vec<Line>) -> Result<()> {
        let Some(needed) = self.spec.bound.needs() else { return self.lines(id, lines).map(|_| ()) };
        let rows = self.lists[id as usize].rows as usize;
        let enough = needed.saturating_mul(2).saturating_add(SPARE_MIN.max(rows / SPARE_PART));
        let mut made = enough;
        loop {
            lines.clear();
            let reach = self.lines(id, lines)?;
            let list = &mut self.lists[id as usize];
            if reach.is_enough || list.is_whole() {
                if list.entries.len() > enough.saturating_mul(2) {
                    list.entries.truncate(enough.max(reach.used + 1));
                    list.entries.shrink_to_fit();
                }
                return Ok(());
            }
            self.make_entries(id, made)?;
            // Peers may be many.
            made = made.saturating_mul(4);
        }
    }

    /// The first `most` entries of a list, from all rows of its partition.
    fn make_entries(&mut self, id: u32, most: usize) -> Result<()> {
        let positions = self.links.as_ref().expect("rows can be taken back").of(&self.lists[id as usize]);
        let columns = self.rows.columns_at(&self.order.columns(), &positions);
        let prefixes = self.order.prefixes_of(&columns, positions.len());
        let entries = prefixes.into_iter().zip(&positions);
        let mut entries: Vec<Entry> = entries.map(|(prefix, &position)| Entry { prefix, position }).collect();
        if most < entries.len() {
            let (_, last, _) = entries.select_nth_unstable_by_key(most, |entry| entry.prefix);
            let last = last.prefix;
            entries.retain(|entry| entry.prefix <= last);
        }
        self.sort(&mut entries)?;
        entries.truncate(most);
        let list = &mut self.lists[id as usize];
        list.entries = StateVec::with_capacity_in(entries.len(), Spillable);
        list.entries.extend_from_slice(&entries);
        Ok(())
    }

    fn sort(&self, entries: &mut [Entry]) -> Result<()> {
        entries.sort_unstable_by_key(|entry| (entry.prefix, entry.position));
        let mut unsure = Vec::new();
        add_ties(&[], entries, &mut unsure);
        if !unsure.is_empty() {
            let places = self.places(unsure)?;
            entries.sort_unstable_by(|a, b| compare(a, b, Some(&places)));
        }
        Ok(())
    }

    /// Forgets the lists that no row can come to any more; what they say stands.
    fn expire(&mut self, epoch: &EpochHeader) {
        let Some(expiry) = &self.expiry else { return };
        let Some(before) = expiry.due(epoch, self.rows.live_rows() as usize) else { return };
        let column = self.spec.partition.iter().position(|c| *c == expiry.column()).expect("one of the partition's");
        let filled: Vec<u32> = (0..self.lists.len() as u32).filter(|&id| self.lists[id as usize].rows > 0).collect();
        let own = stays(&self.partitions.keys(&filled)[column], before);
        for (id, _) in filled.into_iter().zip(own).filter(|(_, stays)| !stays) {
            self.lists[id as usize] = List::new();
            self.partitions.remove(id);
        }
        let kept = self.rows.keep(epoch.epoch, |rows| stays(rows.column(expiry.column()), before));
        self.expiry.as_mut().expect("looked at above").swept(kept.len());
        self.follow(&kept);
    }

    /// Rows have got other positions. `kept`: the old ones, in their new order.
    fn follow(&mut self, kept: &[u32]) {
        let mut moved = vec![NONE; kept.iter().max().map_or(0, |last| *last as usize + 1)];
        kept.iter().zip(0..).for_each(|(&old, new)| moved[old as usize] = new);
        for list in &mut self.lists {
            list.entries.iter_mut().for_each(|entry| entry.position = moved[entry.position as usize]);
            if list.head != NONE {
                list.head = moved[list.head as usize];
            }
        }
        if let Some(links) = &mut self.links {
            links.follow(kept, &moved);
        }
    }

    fn emit(&self, changes: &[(Line, i64)], out: &mut Output) -> Result<()> {
        if changes.is_empty() {
            return Ok(());
        }
        let positions: Vec<u32> = changes.iter().map(|(line, _)| line.position).collect();
        let mut columns = self.rows.rows_at(&positions).columns().to_vec();
        if self.spec.bound.numbers() {
            let numbers: Int64Array = changes.iter().map(|(line, _)| Some(i64::from(line.number))).collect();
            let number = self.spec.output.fields().last().expect("the number");
            columns.push(cast(&numbers, number.data_type()).map_err(Error::internal)?);
        }
        let options = RecordBatchOptions::new().with_row_count(Some(changes.len()));
        let rows =
            RecordBatch::try_new_with_options(self.spec.output.clone(), columns, &options).map_err(Error::internal)?;
        let weights: Int64Array = changes.iter().map(|(_, weight)| Some(*weight)).collect();
        out.deltas.push(Delta::new(rows, Some(weights)));
        Ok(())
    }

    /// The lists from the rows, which have just been restored.
    fn restore_lists(&mut self) -> Result<()> {
        let mut ids = Vec::new();
        for (segment, first) in self.rows.segments_with_positions() {
            self.partitions.intern(&self.partition_keys(&segment), &mut ids);
            self.lists.resize_with(self.partitions.bound() as usize, List::new);
            for ((&id, prefix), position) in ids.iter().zip(self.order.prefixes(&segment)).zip(first..) {
                let list = &mut self.lists[id as usize];
                list.rows += 1;
                list.entries.push(Entry { prefix, position });
                if let Some(links) = &mut self.links {
                    links.push(list);
                }
            }
        }
        for id in 0..self.lists.len() as u32 {
            let mut entries = self.lists[id as usize].entries.to_vec();
            self.sort(&mut entries)?;
            self.lists[id as usize].entries.copy_from_slice(&entries);
            self.lists[id as usize].entries.shrink_to_fit();
            match self.spec.append_only {
                true => self.close(id)?,
                false => self.settle(id, &mut Vec::new())?,
            }
        }
        Ok(())
    }
}

/// Positions of entries that have a prefix in common with a new one. Both lists are in the order of prefixes.
fn add_ties(old: &[Entry], new: &[Entry], unsure: &mut Vec<u32>) {
    for (i, entry) in new.iter().enumerate() {
        let same = |other: Option<&Entry>| other.is_some_and(|other| other.prefix == entry.prefix);
        let from = old.partition_point(|other| other.prefix < entry.prefix);
        let beside = i > 0 && same(new.get(i - 1)) || same(new.get(i + 1));
        if beside || same(old.get(from)) {
            unsure.push(entry.position);
            if i == 0 || !same(new.get(i - 1)) {
                let alike = old[from..].iter().take_while(|other| same(Some(other)));
                unsure.extend(alike.map(|other| other.position));
            }
        }
    }
}

/// The order of two rows, the whole row and at last the position deciding. `places`: of those that have one prefix.
fn compare(a: &Entry, b: &Entry, places: Option<&Places>) -> std::cmp::Ordering {
    a.prefix.cmp(&b.prefix).then_with(|| {
        let by_row =
            places.map_or(std::cmp::Ordering::Equal, |places| places.of(a.position).cmp(places.of(b.position)));
        by_row.then(a.position.cmp(&b.position))
    })
}

impl Operator for TopK {
    fn update(&mut self, _: Port, delta: Delta, _: &mut Output) -> Result<Step> {
        if delta.is_empty() {
            return Ok(Step::Done);
        }
        match (&delta.weights, self.spec.append_only) {
            (None, true) => self.insert(&delta.rows)?,
            (Some(weights), true) => self.insert(&take(&delta.rows, &split_weights(weights).0))?,
            (_, false) => self.held.push(delta.map_rows(|rows| self.passing.take(rows))),
        }
        Ok(Step::Done)
    }

    fn finish_epoch(&mut self, epoch: &EpochHeader, out: &mut Output) -> Result<Step> {
        let (changed, from) = match self.changed.take() {
            Some(under_way) => under_way,
            None => (self.take_in(epoch)?, 0),
        };
        let to = changed.len().min(from + ROWS_PER_STEP);
        changed[from..to].chunks(OUTPUT_ROWS).try_for_each(|changed| self.emit(changed, out))?;
        if to < changed.len() {
            self.changed = Some((changed, to));
            return Ok(Step::Again);
        }
        self.rows.kill(&std::mem::take(&mut self.dying), epoch.epoch);
        self.rows.publish(epoch.epoch);
        if let Some(kept) = self.rows.take_rewritten() {
            self.follow(&kept);
        }
        self.expire(epoch);
        Ok(Step::Done)
    }

    fn durable(&mut self) -> Vec<&mut dyn Durable> {
        vec![self]
    }
}

impl TopK {
    /// The changes that the epoch's rows make to the lists.
    fn take_in(&mut self, epoch: &EpochHeader) -> Result<Vec<(Line, i64)>> {
        self.passing = Passing::default();
        let held = std::mem::take(&mut self.held);
        let held = if has_retractions(&held) { consolidate(&held) } else { held };
        let mut going = Vec::new();
        for delta in held.iter().filter(|delta| !delta.is_empty()) {
            match &delta.weights {
                None => self.insert(&delta.rows)?,
                Some(weights) => {
                    let (plus, minus) = split_weights(weights);
                    self.insert(&take(&delta.rows, &plus))?;
                    going.push(take(&delta.rows, &minus));
                }
            }
        }
        for rows in going.iter().filter(|rows| rows.num_rows() > 0) {
            self.retract(rows, epoch.epoch)?;
        }
        let (touched, before) = (std::mem::take(&mut self.touched), std::mem::take(&mut self.before));
        let (mut lines, mut changed, mut from) = (Vec::new(), Vec::new(), 0);
        for &(id, end) in &touched {
            lines.clear();
            match self.spec.append_only {
                true => _ = self.lines(id, &mut lines)?,
                false => self.settle(id, &mut lines)?,
            }
            changes(&before[from..end], &lines, &mut changed);
            from = end;
            self.lists[id as usize].is_touched = false;
            if self.lists[id as usize].rows == 0 {
                self.lists[id as usize] = List::new();
                self.partitions.remove(id);
            }
        }
        // Buffers are used again.
        (self.touched, self.before) = (touched, before);
        self.touched.clear();
        self.before.clear();
        Ok(changed)
    }
}

impl Durable for TopK {
    fn save(&mut self) -> Saved {
        self.rows.save()
    }

    fn restore(&mut self, parts: &[Vec<RecordBatch>], share: &Share) -> Result<()> {
        let width = self.spec.input.fields().len();
        let is_counted =
            |block: &RecordBatch| block.num_columns() == width + 1 && block.schema().field(width).name() == "count";
        let encoder = self.partitions.encoder();
        match parts.iter().flatten().any(is_counted) {
            false => self.rows.restore(parts, encoder, &self.spec.partition, share, 0),
            true => {
                let parts = parts.iter().map(|part| counted_rows(part, &self.spec.input));
                let parts = parts.collect::<Result<Vec<_>>>()?;
                self.rows.restore(&parts, encoder, &self.spec.partition, share, 0);
                self.rows.save_whole();
            }
        }
        self.restore_lists()
    }

    fn state_bytes(&self) -> usize {
        let links = self.links.as_ref().map_or(0, |links| links.older.capacity() * 8);
        let entries: usize = self.lists.iter().map(|list| list.entries.capacity() * size_of::<Entry>()).sum();
        self.rows.state_bytes() + self.partitions.state_bytes() + self.lists.len() * size_of::<List>() + entries + links
    }
    /// Short lists.
    fn fixed_bytes(&self) -> usize {
        self.lists.iter().map(|list| fixed_bytes_of(list.entries.capacity() * size_of::<Entry>())).sum()
    }
    fn state_rows(&self) -> usize {
        self.rows.live_rows() as usize
    }
}

/// What a part saved in the form of before: rows with a count each, the last of which counts.
fn counted_rows(blocks: &[RecordBatch], schema: &SchemaRef) -> Result<Vec<RecordBatch>> {
    let width = schema.fields().len();
    let corrupt = |_| Error::corrupt("a block of a top-k does not have its columns");
    let fields = schema.fields().iter().map(|field| SortField::new(field.data_type().clone())).collect();
    let converter = RowConverter::new(fields).map_err(corrupt)?;
    let mut counts = std::collections::BTreeMap::new();
    for block in blocks {
        let rows = converter.convert_columns(&block.columns()[..width]).map_err(corrupt)?;
        let count = block.column(width).as_primitive_opt::<Int64Type>();
        let count = count.ok_or_else(|| Error::corrupt("a block of a top-k holds no counts"))?;
        counts.extend(rows.iter().map(|row| row.owned()).zip(count.values().iter().copied()));
    }
    let copies = counts.iter().flat_map(|(row, count)| std::iter::repeat_n(row.row(), (*count).max(0) as usize));
    let columns = converter.convert_rows(copies).map_err(corrupt)?;
    Ok(vec![RecordBatch::try_new(schema.clone(), columns).map_err(corrupt)?])
}
