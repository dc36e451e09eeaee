//! Joins of every kind on equal keys, with any further condition.
//!
//! Both inputs are arranged by their key. A change of one side meets the other side as it stands and then
//! enters its own: ΔL ⋈ R + (L + ΔL) ⋈ ΔR, which is the change of L ⋈ R in whatever order batches come.
//!
//! The outer, semi, anti and mark kinds keep a count of matches per row of the side that they preserve. A
//! row whose count has left or reached 0 between the ends of two epochs changes its unmatched form:
//!
//! ```text
//!   LEFT JOIN   l: (1,'a')  no match       out  +1 | 1 | a | NULL
//!               r: +(1,'x')                out  -1 | 1 | a | NULL     count 0 -> 1
//!                                               +1 | 1 | a | x
//! ```
//!
//! That is output when the epoch ends and not as matches come and go: of each change that is taken back in the same epoch
//! the next outer join would make two, and a chain of them so many as no epoch can bear.
//!
//! State: both sides, whole (pruned to the columns that are used), but for a side that an arrangement keeps for several
//! joins (`join/kept.rs`). Cost: a probe per changed row, and a
//! gather per match. An update that has produced [`OUTPUT_ROWS_MAX`] rows pauses, so that one hot key
//! blocks nobody. Retractions wait for the end of their epoch, when all that they could take back is there, and so do
//! insertions on a side that retracts, unless they are very many. If both sides have changed, what comes and goes within
//! the epoch is first set off, and rows go before others come: otherwise a row that is replaced on both sides would be
//! output three times and taken back three times, and a chain of joins would double that with each.

mod kept;
mod kind;

use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use arrow::array::{Array, ArrayRef, BooleanArray, Int64Array, RecordBatch, RecordBatchOptions, new_null_array};
use arrow::datatypes::{Schema, SchemaRef};

pub use self::kept::KeptSpec;
use self::kept::{Kept, Seen};
pub use self::kind::JoinKind;
use super::evaluate::{Expression, predicate_or_set_aside};
use super::expiry::{EXPIRY_ROWS_MIN, Expiry, expire};
use super::{Operator, Output, Port, Step};
use crate::delta::Delta;
use crate::delta::consolidate::consolidate;
use crate::delta::keys::KeyBatch;
use crate::error::{Error, Result};
use crate::state::arrangement::{split_weights, take};
use crate::state::durable::{Durable, Saved, Share};
use crate::state::indexed_rows::Arranged;
use crate::state::key_index::NONE;
use crate::state::keyed_rows::KeyedRows;
use crate::state::spill::{Spillable, StateVec};
use crate::time::{EpochHeader, TimeBound};

/// Pairs looked at between two chances for others to run.
const OUTPUT_ROWS_MAX: usize = 16384;
const PAIRS_PER_BATCH: usize = 8192;
/// Insertions that wait for the end of their epoch.
const WAITING_ROWS_MAX: usize = 65536;

#[derive(Clone, Debug, PartialEq)]
pub struct JoinSpec {
    pub kind: JoinKind,
    pub sides: [SideSpec; 2],
    /// NULL keys match each other (IS NOT DISTINCT FROM, INTERSECT).
    pub nulls_equal: bool,
    /// A condition beside the keys, over the columns `filter_columns` of left ++ right.
    pub filter: Option<Expression>,
    pub filter_columns: Vec<usize>,
    /// The columns of left ++ right (one side's only for the semi, anti and mark kinds; then the mark).
    pub output: SchemaRef,
}

#[derive(Clone, Debug, PartialEq)]
pub struct SideSpec {
    pub schema: SchemaRef,
    pub key: Vec<usize>,
    pub append_only: bool,
    /// Rows that neither meet anything any more nor are taken back.
    pub expiry: Option<TimeBound>,
    /// Where its rows are, if not here. Only of a side whose matches are not counted.
    pub kept: Option<KeptSpec>,
}

/// Where the rows of a side are.
enum Rows {
    Own(KeyedRows),
    Kept(Kept),
}

impl Rows {
    fn own(&self) -> &KeyedRows {
        match self {
            Rows::Own(rows) => rows,
            Rows::Kept(_) => unreachable!("only of sides whose matches are not counted"),
        }
    }
    fn own_mut(&mut self) -> &mut KeyedRows {
        match self {
            Rows::Own(rows) => rows,
            Rows::Kept(_) => unreachable!("only of sides whose matches are not counted"),
        }
    }
    fn keys(&self, rows: &RecordBatch) -> KeyBatch {
        match self {
            Rows::Own(own) => own.keys(rows),
            Rows::Kept(kept) => kept.keys(rows),
        }
    }
    fn columns_at(&self, columns: &[usize], positions: &[u32]) -> Vec<ArrayRef> {
        match self {
            Rows::Own(own) => own.rows.columns_at(columns, positions),
            Rows::Kept(kept) => kept.columns_at(columns, positions),
        }
    }
    /// Where the chains of keys begin, and what is seen on the way.
    fn heads(&mut self, keys: &KeyBatch, nulls_equal: bool) -> (Vec<u32>, Option<Seen>) {
        match self {
            Rows::Own(own) => (own.index.heads(keys), None),
            Rows::Kept(kept) => (kept.heads(keys, nulls_equal), Some(kept.see())),
        }
    }
}

struct Side {
    rows: Rows,
    /// The positions from here on are of the open epoch, once it has rows.
    first_new: Option<u32>,
    /// Of a counted side: the rows from before the epoch that it has touched, and whether they had matches.
    touched: BTreeMap<u32, bool>,
    /// By position, where the kind counts matches of this side.
    matches: Option<StateVec<u32>>,
    /// Just restored: the counts have to be made.
    restored: bool,
    expiry: Option<Expiry>,
}

/// Changes of one side in the open epoch.
#[derive(Default)]
struct Waits {
    deltas: Vec<Delta>,
    rows: usize,
    retracts: bool,
    /// There were some, whatever has become of them.
    changed: bool,
}

/// Rows of one sign on their way through the other side.
struct Work {
    side: Port,
    sign: i64,
    rows: RecordBatch,
    keys: KeyBatch,
    /// Where each row's chain in the other side goes on, or NONE.
    chain: Vec<u32>,
    /// Of another side that is kept elsewhere.
    seen: Option<Seen>,
    next_row: usize,
    /// Matches found so far, per row.
    found: Vec<u32>,
    /// For retractions: where the rows were.
    positions: Vec<u32>,
}

pub struct Join {
    spec: JoinSpec,
    filter_schema: SchemaRef,
    sides: [Side; 2],
    work: VecDeque<Work>,
    /// What waits for the end of the open epoch, by side.
    waits: [Waits; 2],
    /// Rows with their sign that come to be `work` one after the other: what is retracted leaves its side at once.
    next: VecDeque<(Port, i64, RecordBatch)>,
    /// Retractions of the open epoch, of a look-up.
    held: Vec<(Port, RecordBatch)>,
    /// Left rows of the open epoch, of a look-up.
    waiting: Vec<RecordBatch>,
}

impl Join {
    /// `arranged`: for each side that is kept elsewhere, where.
    pub fn new(spec: JoinSpec, arranged: [Option<Rc<Arranged>>; 2]) -> Result<Self> {
        let fields: Vec<_> = spec.sides.iter().flat_map(|s| s.schema.fields().iter().cloned()).collect();
        let filter_schema = Schema::new(spec.filter_columns.iter().map(|&c| fields[c].clone()).collect::<Vec<_>>());
        let [left, right] = arranged;
        let side = |port: Port, arranged: Option<Rc<Arranged>>| -> Result<Side> {
            let s = &spec.sides[port];
            let rows = match (&s.kept, arranged) {
                (Some(kept), Some(arranged)) => Rows::Kept(Kept::new(s, kept, arranged)?),
                (None, None) => Rows::Own(KeyedRows::new(&s.schema, &s.key, !s.append_only, !spec.nulls_equal)?),
                _ => return Err(Error::internal("a join without the arrangement of a side")),
            };
            Ok(Side {
                rows,
                first_new: None,
                touched: BTreeMap::new(),
                matches: (spec.kind.counts(port) && !spec.kind.is_lookup()).then(|| StateVec::new_in(Spillable)),
                restored: false,
                expiry: s.expiry.as_ref().map(|bound| Expiry::new(bound, EXPIRY_ROWS_MIN)),
            })
        };
        let sides = [side(0, left)?, side(1, right)?];
        Ok(Join {
            filter_schema: filter_schema.into(),
            sides,
            spec,
            work: VecDeque::new(),
            waits: Default::default(),
            next: VecDeque::new(),
            held: Vec::new(),
            waiting: Vec::new(),
        })
    }

    /// Queues rows; retractions are taken out of their side first, so that they meet only the other one.
    fn enqueue(&mut self, side: Port, sign: i64, rows: RecordBatch, epoch: u64) -> Result<()> {
        if self.sides.iter().any(|s| s.restored) {
            for side in 0..2 {
                self.sides[side].restored = false;
                self.count_matches(side);
            }
        }
        if rows.num_rows() == 0 {
            return Ok(());
        }
        for side in &mut self.sides {
            if let Rows::Own(own) = &side.rows {
                side.first_new.get_or_insert(own.rows.end());
            }
        }
        let keys = self.sides[side].rows.keys(&rows);
        let positions = match &mut self.sides[side].rows {
            Rows::Own(own) if sign < 0 => own.retract(&rows, &keys, epoch)?,
            Rows::Kept(kept) if sign < 0 => {
                kept.has_gone(epoch);
                Vec::new()
            }
            _ => Vec::new(),
        };
        let found = vec![0; rows.num_rows()];
        let (chain, seen) = (Vec::new(), None);
        self.work.push_back(Work { side, sign, rows, keys, chain, seen, next_row: 0, found, positions });
        Ok(())
    }

    fn run(&mut self, out: &mut Output) -> Step {
        let mut budget = OUTPUT_ROWS_MAX;
        while let Some(mut work) = self.work.pop_front() {
            if work.chain.is_empty() {
                (work.chain, work.seen) = self.sides[1 - work.side].rows.heads(&work.keys, self.spec.nulls_equal);
            }
            while work.next_row < work.rows.num_rows() {
                if budget == 0 {
                    self.work.push_front(work);
                    return Step::Again;
                }
                budget = budget.saturating_sub(self.probe(&mut work, out));
            }
            self.settle(work, out);
        }
        Step::Done
    }

    /// One batch of pairs; returns how many were looked at.
    fn probe(&mut self, work: &mut Work, out: &mut Output) -> usize {
        let Work { side, chain, seen, next_row, .. } = work;
        let (mut rows, mut positions, looked_at) = self.pairs(1 - *side, chain, seen.as_ref(), next_row);
        if rows.is_empty() {
            return looked_at;
        }
        if let Some(filter) = &self.spec.filter {
            let pairs = self.columns(work.side, &work.rows, &rows, &positions, &self.spec.filter_columns);
            let options = RecordBatchOptions::new().with_row_count(Some(rows.len()));
            let pairs =
                RecordBatch::try_new_with_options(self.filter_schema.clone(), pairs, &options).expect("by the schema");
            let mask = predicate_or_set_aside(filter, &pairs, work.sign, out);
            let keep = |i: &usize| mask.is_valid(*i) && mask.value(*i);
            rows = (0..rows.len()).filter(keep).map(|i| rows[i]).collect();
            positions = (0..positions.len()).filter(keep).map(|i| positions[i]).collect();
        }
        if self.spec.kind.counts(work.side) {
            for &row in &rows {
                work.found[row as usize] += 1;
            }
        }
        if self.spec.kind.pairs() && !rows.is_empty() {
            let all: Vec<usize> = (0..self.spec.output.fields().len()).collect();
            let columns = self.columns(work.side, &work.rows, &rows, &positions, &all);
            self.emit(columns, rows.len(), work.sign, out);
        }
        if self.spec.kind.counts(1 - work.side) {
            self.recount(1 - work.side, &positions, work.sign);
        }
        looked_at
    }

    /// The next pairs of rows, from `next_row` on, with positions on the side `port`, and how many were looked at.
    fn pairs(
        &self,
        port: Port,
        chain: &mut [u32],
        seen: Option<&Seen>,
        next_row: &mut usize,
    ) -> (Vec<u32>, Vec<u32>, usize) {
        match (&self.sides[port].rows, seen) {
            (Rows::Own(own), _) => pairs(chain, next_row, |at| own.index.next(at), |_| true),
            (Rows::Kept(kept), Some(seen)) => {
                let rows = kept.rows();
                pairs(chain, next_row, |at| rows.next(at), |at| rows.sees(&seen.version, at))
            }
            (Rows::Kept(_), None) => unreachable!("seen when the chains were looked up"),
        }
    }

    /// Columns `wanted` of left ++ right for the pairs of `rows` of `batch` (a delta of `side`) with `positions`.
    fn columns(
        &self,
        side: Port,
        batch: &RecordBatch,
        rows: &[u32],
        positions: &[u32],
        wanted: &[usize],
    ) -> Vec<ArrayRef> {
        let left_columns = self.spec.sides[0].schema.fields().len();
        let indices = arrow::array::UInt32Array::from(rows.to_vec());
        let in_left = |c: usize| c < left_columns;
        let (own, theirs): (Vec<usize>, Vec<usize>) = wanted.iter().partition(|&&c| in_left(c) == (side == 0));
        let local = |c: usize| if in_left(c) { c } else { c - left_columns };
        let fetched =
            self.sides[1 - side].rows.columns_at(&theirs.iter().map(|&c| local(c)).collect::<Vec<_>>(), positions);
        let mut fetched = fetched.into_iter();
        let identity = rows.len() == batch.num_rows() && rows.iter().enumerate().all(|(i, &r)| i as u32 == r);
        let mut taken = own.iter().map(|&c| {
            let column = batch.column(local(c));
            if identity {
                column.clone()
            } else {
                arrow::compute::take(column, &indices, None).expect("rows of the batch")
            }
        });
        wanted
            .iter()
            .map(|&c| if in_left(c) == (side == 0) { taken.next() } else { fetched.next() }.expect("one column each"))
            .collect()
    }

    fn emit(&self, columns: Vec<ArrayRef>, rows: usize, sign: i64, out: &mut Output) {
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let batch = RecordBatch::try_new_with_options(self.spec.output.clone(), columns, &options)
            .expect("by the output's schema");
        out.deltas.push(Delta::new(batch, (sign < 0).then(|| Int64Array::from_value(sign, rows))));
    }

    /// Outputs rows of `side` by themselves, the other side's columns NULL.
    fn emit_alone(&self, side: Port, rows: &RecordBatch, marks: Option<bool>, sign: i64, out: &mut Output) {
        let count = rows.num_rows();
        if count == 0 {
            return;
        }
        let mut columns = Vec::new();
        for port in 0..2 {
            if !self.spec.kind.keeps(port) {
                continue;
            }
            if port == side {
                columns.extend(rows.columns().iter().cloned());
            } else {
                columns
                    .extend(self.spec.sides[port].schema.fields().iter().map(|f| new_null_array(f.data_type(), count)));
            }
        }
        if self.spec.kind.mark() {
            columns.push(std::sync::Arc::new(BooleanArray::from(vec![marks.expect("a mark join"); count])));
        }
        self.emit(columns, count, sign, out);
    }

    /// Rows of `side` at `positions` won (`sign` +1) or lost a match each.
    fn recount(&mut self, side: Port, positions: &[u32], sign: i64) {
        let Side { matches, touched, first_new, .. } = &mut self.sides[side];
        let matches = matches.as_mut().expect("a counted side");
        let first_new = first_new.unwrap_or_default();
        for &position in positions {
            let count = &mut matches[position as usize];
            if position < first_new {
                touched.entry(position).or_insert(*count > 0);
            }
            if sign > 0 {
                *count += 1;
            } else {
                *count -= 1;
            }
        }
    }

    /// The work has met all of the other side: its rows enter their own.
    fn settle(&mut self, work: Work, out: &mut Output) {
        let kind = self.spec.kind;
        if kind.is_lookup() {
            let rows: Vec<u32> = (0..work.found.len() as u32).filter(|&r| work.found[r as usize] == 0).collect();
            if kind.alone(work.side, false) {
                self.emit_alone(work.side, &take(&work.rows, &rows), None, work.sign, out);
            }
            return;
        }
        let side = &mut self.sides[work.side];
        let Rows::Own(own) = &mut side.rows else { return };
        if work.sign > 0 {
            own.append(&work.rows, &work.keys);
            if let Some(matches) = &mut side.matches {
                matches.extend_from_slice(&work.found);
            }
        } else if let Some(matches) = &side.matches {
            let first_new = side.first_new.unwrap_or_default();
            for &position in work.positions.iter().filter(|&&position| position < first_new) {
                side.touched.entry(position).or_insert(matches[position as usize] > 0);
            }
        }
    }

    /// What rows output by themselves, as it has changed in the epoch.
    fn settle_alone(&mut self, out: &mut Output) -> Step {
        let mut budget = OUTPUT_ROWS_MAX;
        for port in 0..2 {
            let kind = self.spec.kind;
            let side = &mut self.sides[port];
            let Some(matches) = &side.matches else { continue };
            let Some(first_new) = side.first_new else { continue };
            // By whether they had or have matches: rows that no longer, and that now stand for themselves.
            let mut before: [Vec<u32>; 2] = Default::default();
            let mut now: [Vec<u32>; 2] = Default::default();
            while budget > 0 {
                let Some((position, had)) = side.touched.pop_first() else { break };
                let has = side.rows.own().rows.is_live(position).then(|| matches[position as usize] > 0);
                if has != Some(had) {
                    before[usize::from(had)].push(position);
                    has.into_iter().for_each(|has| now[usize::from(has)].push(position));
                }
                budget -= 1;
            }
            let mut position = first_new;
            let rows = &side.rows.own().rows;
            while budget > 0 && position < rows.end() {
                if rows.is_live(position) {
                    now[usize::from(matches[position as usize] > 0)].push(position);
                }
                position += 1;
                budget -= 1;
            }
            side.first_new = Some(position);
            let more = !side.touched.is_empty() || position < rows.end();
            for (positions, sign) in [(before, -1), (now, 1)] {
                for (matched, positions) in [false, true].into_iter().zip(positions) {
                    if !kind.alone(port, matched) {
                        continue;
                    }
                    for positions in positions.chunks(PAIRS_PER_BATCH) {
                        let rows = self.sides[port].rows.own().rows.rows_at(positions);
                        self.emit_alone(port, &rows, Some(matched), sign, out);
                    }
                }
            }
            if more {
                return Step::Again;
            }
        }
        Step::Done
    }

    /// The epoch ends: puts what has waited in the order in which it is worked off.
    fn end_waiting(&mut self) {
        let both = self.waits.iter().all(|waits| waits.changed);
        let (mut coming, mut going) = (Vec::new(), Vec::new());
        // A side that is kept elsewhere comes last: it is read as of before what comes on it.
        let left_is_kept = self.spec.sides[0].kept.is_some();
        for side in if left_is_kept { [1, 0] } else { [0, 1] } {
            let waits = &mut self.waits[side];
            let Waits { deltas, retracts, .. } = std::mem::take(waits);
            // What is kept elsewhere changes by just these rows.
            let own = self.spec.sides[side].kept.is_none();
            let deltas = if retracts && both && own { consolidate(&deltas) } else { deltas };
            for delta in deltas {
                let (plus, minus) = signed(delta);
                coming.push((side, 1, plus));
                going.extend(minus.map(|minus| (side, -1, minus)));
            }
        }
        // What has not been set off may take back what comes in the same epoch.
        let (first, second) = if both { (going, coming) } else { (coming, going) };
        self.next.extend(first.into_iter().chain(second));
    }

    /// Of a look-up: right rows come at once, they go and left rows meet them when the epoch ends.
    fn look_up_later(&mut self, input: Port, delta: Delta) -> Result<()> {
        let (plus, minus) = signed(delta);
        match (input, minus) {
            (0, Some(_)) => return Err(Error::internal("a look-up was told to take a left row back")),
            (_, Some(minus)) => self.held.push((input, minus)),
            (_, None) => {}
        }
        if plus.num_rows() > 0 {
            match input {
                0 => self.waiting.push(plus),
                _ => {
                    let keyed = self.sides[input].rows.own_mut();
                    let keys = keyed.keys(&plus);
                    keyed.append(&plus, &keys);
                }
            }
        }
        Ok(())
    }

    /// Counts the matches of `side` anew, from what both sides hold.
    fn count_matches(&mut self, side: Port) {
        if !self.spec.kind.counts(side) || self.spec.kind.is_lookup() {
            return;
        }
        let mut counts = StateVec::with_capacity_in(self.sides[side].rows.own().rows.end() as usize, Spillable);
        let mut ignored = Output::default();
        for rows in self.sides[side].rows.own().rows.segments() {
            let keys = self.sides[side].rows.keys(&rows);
            let (mut chain, seen) = self.sides[1 - side].rows.heads(&keys, self.spec.nulls_equal);
            let mut found = vec![0u32; rows.num_rows()];
            let mut next_row = 0;
            while next_row < chain.len() {
                let (pair_rows, positions, _) = self.pairs(1 - side, &mut chain, seen.as_ref(), &mut next_row);
                let mask = self.spec.filter.as_ref().map(|filter| {
                    let pairs = self.columns(side, &rows, &pair_rows, &positions, &self.spec.filter_columns);
                    let options = RecordBatchOptions::new().with_row_count(Some(pair_rows.len()));
                    let pairs = RecordBatch::try_new_with_options(self.filter_schema.clone(), pairs, &options)
                        .expect("by the schema");
                    predicate_or_set_aside(filter, &pairs, 1, &mut ignored)
                });
                for (i, &row) in pair_rows.iter().enumerate() {
                    if mask.as_ref().is_none_or(|m| m.is_valid(i) && m.value(i)) {
                        found[row as usize] += 1;
                    }
                }
            }
            counts.extend(found);
        }
        self.sides[side].matches = Some(counts);
    }
}

impl Operator for Join {
    fn update(&mut self, input: Port, delta: Delta, out: &mut Output) -> Result<Step> {
        if self.spec.kind.is_lookup() {
            self.look_up_later(input, delta)?;
            return Ok(Step::Done);
        }
        if !delta.is_empty() {
            let waits = &mut self.waits[input];
            waits.changed = true;
            waits.rows += delta.len();
            waits.retracts |= delta.weights.as_ref().is_some_and(|w| w.values().iter().any(|w| *w < 0));
            waits.deltas.push(delta);
            let spec = &self.spec.sides[input];
            let comes_only = spec.append_only || spec.kept.is_none() && waits.rows > WAITING_ROWS_MAX;
            if comes_only && !waits.retracts {
                waits.rows = 0;
                for delta in std::mem::take(&mut waits.deltas) {
                    let (plus, _) = signed(delta);
                    self.enqueue(input, 1, plus, 0)?;
                }
            }
        }
        Ok(self.run(out))
    }

    fn finish_epoch(&mut self, epoch: &EpochHeader, out: &mut Output) -> Result<Step> {
        if self.spec.kind.is_lookup() {
            for (side, rows) in std::mem::take(&mut self.held) {
                let keyed = self.sides[side].rows.own_mut();
                let keys = keyed.keys(&rows);
                keyed.retract(&rows, &keys, epoch.epoch)?;
            }
            for rows in std::mem::take(&mut self.waiting) {
                self.enqueue(0, 1, rows, epoch.epoch)?;
            }
        }
        self.end_waiting();
        loop {
            if let Step::Again = self.run(out) {
                return Ok(Step::Again);
            }
            let Some((side, sign, rows)) = self.next.pop_front() else { break };
            self.enqueue(side, sign, rows, epoch.epoch)?;
        }
        if let Step::Again = self.settle_alone(out) {
            return Ok(Step::Again);
        }
        for side in &mut self.sides {
            side.first_new = None;
            let kept = match &mut side.rows {
                Rows::Own(own) => own.publish(epoch.epoch),
                Rows::Kept(kept) => {
                    kept.finish_epoch(epoch.epoch);
                    continue;
                }
            };
            if let (Some(kept), Some(matches)) = (kept, &mut side.matches) {
                *matches = kept_counts(&kept, matches);
            }
        }
        // The counts of what was restored are made from rows of both sides.
        if self.sides.iter().any(|side| side.restored) {
            return Ok(Step::Done);
        }
        for side in &mut self.sides {
            let Rows::Own(own) = &mut side.rows else { continue };
            let kept = expire(own, &mut side.expiry, epoch);
            if let (Some(kept), Some(matches)) = (kept, &mut side.matches) {
                *matches = kept_counts(&kept, matches);
            }
        }
        Ok(Step::Done)
    }

    fn durable(&mut self) -> Vec<&mut dyn Durable> {
        let own = self.sides.iter_mut().filter(|side| matches!(side.rows, Rows::Own(_)));
        own.map(|side| side as &mut dyn Durable).collect()
    }
}

/// From where the chains have come to: pairs of a row and a position that `sees` lets through, and how many were looked at.
fn pairs(
    chain: &mut [u32],
    next_row: &mut usize,
    next: impl Fn(u32) -> u32,
    sees: impl Fn(u32) -> bool,
) -> (Vec<u32>, Vec<u32>, usize) {
    let (mut rows, mut positions) = (Vec::new(), Vec::new());
    let mut looked_at = 0;
    while *next_row < chain.len() && looked_at < PAIRS_PER_BATCH {
        let mut at = chain[*next_row];
        while at != NONE && looked_at < PAIRS_PER_BATCH {
            if sees(at) {
                rows.push(*next_row as u32);
                positions.push(at);
            }
            looked_at += 1;
            at = next(at);
        }
        chain[*next_row] = at;
        if at == NONE {
            *next_row += 1;
        }
    }
    (rows, positions, looked_at.max(1))
}

/// The rows that come, and those that go, if there are any.
fn signed(delta: Delta) -> (RecordBatch, Option<RecordBatch>) {
    match &delta.weights {
        None => (delta.rows, None),
        Some(weights) => {
            let (plus, minus) = split_weights(weights);
            (take(&delta.rows, &plus), (!minus.is_empty()).then(|| take(&delta.rows, &minus)))
        }
    }
}

fn kept_counts(kept: &[u32], counts: &[u32]) -> StateVec<u32> {
    let mut stay = StateVec::with_capacity_in(kept.len(), Spillable);
    stay.extend(kept.iter().map(|&p| counts[p as usize]));
    stay
}

/// The rows are saved; the counts are made anew from them.
impl Durable for Side {
    fn save(&mut self) -> Saved {
        self.rows.own_mut().save()
    }
    fn restore(&mut self, parts: &[Vec<RecordBatch>], share: &Share) -> Result<()> {
        self.rows.own_mut().restore(parts, share)?;
        self.restored = true;
        Ok(())
    }
    fn state_bytes(&self) -> usize {
        self.rows.own().state_bytes() + self.matches.as_ref().map_or(0, |m| m.capacity() * 4)
    }
    fn fixed_bytes(&self) -> usize {
        self.rows.own().fixed_bytes()
    }
    fn state_rows(&self) -> usize {
        self.rows.own().state_rows()
    }
}
