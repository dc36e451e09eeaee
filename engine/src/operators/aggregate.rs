//! GROUP BY, kept up to date.
//!
//! ```text
//!   SELECT k, count(*), sum(x) FROM t GROUP BY k
//!
//!   in, epoch 1   +1 | a | 5       out   +1 | a | 2 | 12
//!                 +1 | a | 7
//!   in, epoch 2   -1 | a | 5       out   -1 | a | 2 | 12
//!                                        +1 | a | 1 | 7
//! ```
//!
//! Formula: every function is computed from sums over the group's rows of weight · f(row), so a delta
//! adds its own sums: state(E) = state(E−1) + Σ delta. Output at the end of an epoch, for each group
//! that it touched: −result(E−1) + result(E), unless they are equal. min, max and DISTINCT keep the
//! group's values (see [`values`]); where the input never retracts, min and max keep the best one only.
//!
//! Cost: one hash and look-up per row, one pass over the batch per accumulator; the result of each group
//! touched in an epoch is computed twice. State: one record per group, one entry per distinct value.
//!
//! A group whose result does not fit its type is set aside as an error until it fits again. A group
//! without rows has no result, except where there is no GROUP BY: that one row always exists, from the
//! first epoch on, on the worker that owns the empty key.
//!
//! Equality is that of keys: NULLs are one group, −0 is 0, NaN is NaN.

mod accumulator;
mod cells;
mod journal;
mod kept;
mod moments;
mod order;
mod save;
mod sums;
#[cfg(test)]
mod tests;
mod values;

use std::collections::VecDeque;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, Int64Array, RecordBatch, RecordBatchOptions, UInt32Array};
use arrow::buffer::BooleanBuffer;
use arrow::compute::kernels::cmp::not_distinct;
use arrow::compute::{concat, interleave, take};
use arrow::datatypes::{DataType, SchemaRef};

use self::accumulator::{Accumulator, Booleans, Counter, Fault, Rows, counts};
use self::cells::{Cells, ROWS, TOUCHED};
use self::journal::Journal;
use self::kept::{KeptBytes, KeptNumber};
use self::moments::Moments;
use self::order::Order;
use self::sums::{DECIMAL_SUM_WORDS, DecimalSum, FloatSum, INTEGER_SUM_WORDS, IntegerSum};
use self::values::{HEAPS_MAX, Values, passing};
use super::{ErrorChange, Operator, Output, Port, Step};
use crate::delta::{Delta, text};
use crate::error::{Error, Result};
use crate::state::durable::Durable;
use crate::state::key_table::KeyTable;
use crate::time::EpochHeader;

/// Output batches have about this many rows.
const OUTPUT_ROWS: usize = 8192;
/// After this many rows others may run.
const OUTPUT_ROWS_PER_STEP: usize = 1 << 16;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AggregateFunction {
    Count,
    Sum,
    Avg,
    Min,
    Max,
    BoolAnd,
    BoolOr,
    VarPop,
    VarSamp,
    StddevPop,
    StddevSamp,
}

#[derive(Debug, Clone)]
pub struct AggregateCall {
    pub function: AggregateFunction,
    /// Column of the input; `None` for count(*).
    pub argument: Option<usize>,
    /// Boolean column of the input; a row counts where it is true.
    pub filter: Option<usize>,
    pub distinct: bool,
}

#[derive(Debug, Clone)]
pub struct AggregateSpec {
    /// Columns of the input; none for one group of all rows.
    pub group: Vec<usize>,
    /// None: DISTINCT.
    pub calls: Vec<AggregateCall>,
    pub input: SchemaRef,
    /// The group's columns, then one per call.
    pub output: SchemaRef,
    /// The input never retracts.
    pub append_only: bool,
    /// This worker owns the empty key.
    pub owner: bool,
}

/// The type of a call's result.
pub fn output_type(function: AggregateFunction, argument: Option<&DataType>) -> Result<DataType> {
    use AggregateFunction::*;
    let argument = || argument.ok_or_else(|| Error::syntax(format!("{function:?} needs an argument")));
    Ok(match function {
        Count => DataType::Int64,
        Sum => sums::output_types(argument()?)?.0,
        Avg => sums::output_types(argument()?)?.1,
        Min | Max => argument()?.clone(),
        BoolAnd | BoolOr => DataType::Boolean,
        VarPop | VarSamp | StddevPop | StddevSamp => {
            moments::check_argument(argument()?)?;
            DataType::Float64
        }
    })
}

pub struct Aggregate {
    spec: AggregateSpec,
    calls: Vec<Source>,
    accumulators: Vec<Box<dyn Accumulator>>,
    /// What each accumulator is fed.
    feeds: Vec<Feed>,
    values: Vec<Values>,

    groups: KeyTable,
    cells: Cells,
    journal: Journal,
    /// Rows that checkpoints hold since the last whole one.
    saved_rows: usize,
    /// The only group of an aggregate without GROUP BY has been shown.
    announced: bool,

    /// Our own count of epochs, for the records' `TOUCHED`.
    epoch: u64,
    touched: Touched,
    /// The epoch has ended and not all has been said.
    finishing: bool,
    dead: Vec<u32>,
    pending: Pending,
}

/// Where a call's result comes from.
enum Source {
    /// A word of the record.
    Count {
        offset: usize,
    },
    Accumulator(usize),
    Heap {
        values: usize,
        heap: usize,
    },
}

/// Which rows an accumulator sees; with `distinct` not those but the values that come and go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Feed {
    kind: Kind,
    argument: Option<usize>,
    filter: Option<usize>,
    distinct: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Count,
    Sum,
    Booleans,
    Moments,
    Min,
    Max,
}

/// Groups touched in an epoch.
#[derive(Default)]
struct Touched {
    /// Those that were there before it, with what they showed.
    old: VecDeque<Old>,
    /// The others.
    new: VecDeque<Vec<u32>>,
}

struct Old {
    ids: Vec<u32>,
    columns: Vec<ArrayRef>,
    faults: Vec<Fault>,
}

/// Output that is not yet worth a batch.
#[derive(Default)]
struct Pending {
    pieces: Vec<Vec<ArrayRef>>,
    weights: Vec<i64>,
}

impl Aggregate {
    /// Errors: 42883 or 0A000 for arguments that a function cannot take.
    pub fn new(spec: AggregateSpec) -> Result<Aggregate> {
        let types: Vec<DataType> =
            spec.group.iter().map(|column| spec.input.field(*column).data_type().clone()).collect();
        let mut aggregate = Aggregate {
            calls: Vec::new(),
            accumulators: Vec::new(),
            feeds: Vec::new(),
            values: Vec::new(),
            groups: KeyTable::new(&types)?,
            cells: Cells::new(),
            journal: Journal::new(),
            saved_rows: 0,
            announced: false,
            epoch: 1,
            touched: Touched::default(),
            finishing: false,
            dead: Vec::new(),
            pending: Pending::default(),
            spec,
        };
        aggregate.calls = aggregate.sources()?;
        if aggregate.is_global() && aggregate.spec.owner {
            let empty_key = aggregate.groups.encoder().encode_rows(&[], 1);
            aggregate.groups.intern(&empty_key, &mut Vec::new());
            aggregate.cells.grow(1);
        }
        Ok(aggregate)
    }

    fn is_global(&self) -> bool {
        self.spec.group.is_empty()
    }

    /// Makes what the calls need, once for calls that can share.
    fn sources(&mut self) -> Result<Vec<Source>> {
        let calls = self.spec.calls.clone();
        for (i, call) in calls.iter().enumerate() {
            let argument = call.argument.map(|column| self.spec.input.field(column).data_type());
            let expected = output_type(call.function, argument)?;
            let given = self.spec.output.field(self.spec.group.len() + i).data_type();
            if *given != expected {
                return Err(Error::internal(format!("{:?} gives {expected}, not {given}", call.function)));
            }
        }
        // Counts come last: a sum counts its values anyway.
        let mut order: Vec<usize> = (0..calls.len()).collect();
        order.sort_by_key(|i| calls[*i].function == AggregateFunction::Count);
        let mut sources: Vec<Option<Source>> = (0..calls.len()).map(|_| None).collect();
        for i in order {
            sources[i] = Some(self.source(&calls[i])?);
        }
        Ok(sources.into_iter().map(|source| source.expect("one for each")).collect())
    }

    fn source(&mut self, call: &AggregateCall) -> Result<Source> {
        use AggregateFunction::*;
        let AggregateCall { function, argument, filter, distinct } = *call;
        let kind = match function {
            Count if argument.is_none() && filter.is_none() => return Ok(Source::Count { offset: ROWS }),
            Count => {
                let feed = Feed { kind: Kind::Sum, argument, filter, distinct };
                let sum = self.feeds.iter().position(|known| *known == feed);
                if let Some(offset) = sum.and_then(|sum| self.accumulators[sum].values_offset()) {
                    return Ok(Source::Count { offset });
                }
                Kind::Count
            }
            Sum | Avg => Kind::Sum,
            BoolAnd | BoolOr => Kind::Booleans,
            VarPop | VarSamp | StddevPop | StddevSamp => Kind::Moments,
            Min if self.spec.append_only => Kind::Min,
            Max if self.spec.append_only => Kind::Max,
            Min | Max => {
                let values = self.values_of(argument.expect("min and max have an argument"), true)?;
                let filter = self.values[values].filter(filter);
                let heap = self.values[values].heap(filter, function == Max)?;
                return Ok(Source::Heap { values, heap });
            }
        };
        // To the others it makes no difference whether a value occurs once or twice.
        let distinct = distinct && matches!(kind, Kind::Count | Kind::Sum | Kind::Moments) && argument.is_some();
        let feed = Feed { kind, argument, filter, distinct };
        let accumulator = match self.feeds.iter().position(|known| *known == feed) {
            Some(known) => known,
            None => self.add_accumulator(feed)?,
        };
        Ok(match self.accumulators[accumulator].values_offset() {
            Some(offset) if kind == Kind::Count => Source::Count { offset },
            _ => Source::Accumulator(accumulator),
        })
    }

    fn add_accumulator(&mut self, feed: Feed) -> Result<usize> {
        let number = self.accumulators.len();
        if feed.distinct {
            let values = self.values_of(feed.argument.expect("DISTINCT has an argument"), false)?;
            let filter = self.values[values].filter(feed.filter);
            self.values[values].feeds.push((filter, number));
        }
        let data_type =
            feed.argument.map_or(DataType::Null, |column| self.spec.input.field(column).data_type().clone());
        let cells = &mut self.cells;
        self.accumulators.push(match (feed.kind, &data_type) {
            (Kind::Count, _) => Box::new(Counter { offset: cells.reserve(1) }),
            (Kind::Booleans, _) => Box::new(Booleans { offset: cells.reserve(2) }),
            (Kind::Moments, _) => Box::new(Moments { offset: cells.reserve(1), sums: Vec::new() }),
            (Kind::Sum, DataType::Float32 | DataType::Float64) => {
                Box::new(FloatSum { offset: cells.reserve(1), sums: Vec::new() })
            }
            (Kind::Sum, DataType::Decimal128(_, scale)) => {
                Box::new(DecimalSum { offset: cells.reserve(DECIMAL_SUM_WORDS), scale: *scale })
            }
            (Kind::Sum, _) => Box::new(IntegerSum { offset: cells.reserve(INTEGER_SUM_WORDS) }),
            (Kind::Min | Kind::Max, data_type) => {
                let max = feed.kind == Kind::Max;
                match order::order_of(data_type)? {
                    Order::Bytes => Box::new(KeptBytes { max, best: Vec::new() }),
                    order => Box::new(KeptNumber { offset: cells.reserve(KeptNumber::words(order)), max, order }),
                }
            }
        });
        self.feeds.push(feed);
        Ok(number)
    }

    /// The table of this argument's values.
    fn values_of(&mut self, argument: usize, for_heap: bool) -> Result<usize> {
        let free = |values: &Values| !for_heap || values.heaps.len() < HEAPS_MAX;
        if let Some(known) = self.values.iter().position(|values| values.argument == argument && free(values)) {
            return Ok(known);
        }
        self.values.push(Values::new(argument, self.spec.input.field(argument).data_type())?);
        Ok(self.values.len() - 1)
    }

    /// Notes which groups a batch touches, and what those showed before that were there.
    fn touch(&mut self, ids: &[u32]) {
        let (mut old, mut new) = (Vec::new(), Vec::new());
        let (global, bound) = (self.is_global(), self.groups.bound());
        for id in ids {
            let [rows, touched] = self.cells.at_mut::<2>(*id, ROWS);
            debug_assert_eq!((ROWS, TOUCHED), (0, 1));
            if *touched != self.epoch {
                *touched = self.epoch;
                let was_there = if global { self.announced } else { *rows as i64 > 0 };
                if was_there {
                    old.push(*id)
                } else {
                    new.push(*id)
                }
                self.journal.changed(*id, bound);
            }
        }
        for ids in old.chunks(OUTPUT_ROWS) {
            let (columns, faults) = self.results(ids);
            self.touched.old.push_back(Old { ids: ids.to_vec(), columns, faults });
        }
        self.touched.new.extend(new.chunks(OUTPUT_ROWS).map(<[u32]>::to_vec));
    }

    /// One column per call, and the groups that have no result to show.
    fn results(&self, ids: &[u32]) -> (Vec<ArrayRef>, Vec<Fault>) {
        let mut faults = Vec::new();
        let types = self.spec.output.fields()[self.spec.group.len()..].iter().map(|field| field.data_type());
        let column = |((source, call), output): ((&Source, &AggregateCall), &DataType)| match source {
            Source::Count { offset } => counts(&self.cells, *offset, ids),
            Source::Accumulator(number) => {
                self.accumulators[*number].results(call.function, output, &self.cells, ids, &mut faults)
            }
            Source::Heap { values, heap } => self.values[*values].heaps[*heap].results(output, ids),
        };
        let columns = self.calls.iter().zip(&self.spec.calls).zip(types).map(column).collect();
        (columns, faults)
    }

    /// Says how the results of some touched groups changed.
    fn emit(&mut self, ids: &[u32], old: Option<&Old>, out: &mut Output) {
        let (columns, faults) = self.results(ids);
        let fault_at = |faults: &[Fault]| {
            let mut by_place: Vec<Option<&'static str>> = vec![None; if faults.is_empty() { 0 } else { ids.len() }];
            faults.iter().rev().for_each(|(place, message)| by_place[*place] = Some(message));
            by_place
        };
        let (old_faults, new_faults) = (fault_at(old.map_or(&[], |old| &old.faults)), fault_at(&faults));
        let same = old.filter(|_| !columns.is_empty()).map(|old| {
            let pairs = old.columns.iter().zip(&columns);
            let same = pairs.map(|(old, new)| not_distinct(old, new).expect("columns of one comparable type"));
            same.map(|same| same.values().clone()).reduce(|a, b| &a & &b).expect("at least one column")
        });

        // Which row of which column set, 0 the old and 1 the new.
        let mut places: Vec<(usize, usize)> = Vec::new();
        for (i, id) in ids.iter().enumerate() {
            let rows = self.cells.count(*id, ROWS);
            let there = self.is_global() || rows > 0;
            if rows == 0 && !self.is_global() {
                self.dead.push(*id);
            }
            let (old_fault, new_fault) = (old_faults.get(i).copied().flatten(), new_faults.get(i).copied().flatten());
            let new_fault = new_fault.filter(|_| there);
            if old_fault != new_fault {
                self.tell_faults(*id, old_fault, new_fault, out);
            }
            let before = old.is_some() && old_fault.is_none();
            let now = there && new_fault.is_none();
            if before && now && same.as_ref().is_none_or(|same: &BooleanBuffer| same.value(i)) {
                continue;
            }
            if before {
                places.push((0, i));
            }
            if now {
                places.push((1, i));
            }
        }
        if places.is_empty() {
            return;
        }
        let shown: Vec<u32> = places.iter().map(|(_, i)| ids[*i]).collect();
        let mut piece = self.groups.keys(&shown);
        for (i, new) in columns.iter().enumerate() {
            piece.push(match old {
                Some(old) => interleave(&[&old.columns[i], new], &places).expect("columns of one type"),
                None if places.len() == ids.len() => new.clone(),
                None => {
                    let rows = UInt32Array::from_iter_values(places.iter().map(|(_, i)| *i as u32));
                    take(new, &rows, None).expect("rows of this column")
                }
            });
        }
        self.pending.pieces.push(piece);
        self.pending.weights.extend(places.iter().map(|(set, _)| if *set == 0 { -1 } else { 1 }));
        if self.pending.weights.len() >= OUTPUT_ROWS {
            self.flush(out);
        }
    }

    #[cold]
    fn tell_faults(&self, id: u32, old: Option<&str>, new: Option<&str>, out: &mut Output) {
        let options = RecordBatchOptions::new().with_row_count(Some(1));
        let fields = self.spec.output.fields()[..self.spec.group.len()].to_vec();
        let schema = Arc::new(arrow::datatypes::Schema::new(fields));
        let keys = RecordBatch::try_new_with_options(schema, self.groups.keys(&[id]), &options);
        let row = text::format_row(&keys.expect("keys of the group's types"), 0, ", ");
        for (message, weight) in [(old, -1), (new, 1)] {
            let Some(message) = message else { continue };
            out.errors.push(ErrorChange { message: message.to_string(), row: row.clone(), weight });
        }
    }

    /// Makes one delta of what is pending.
    fn flush(&mut self, out: &mut Output) {
        let Pending { pieces, weights } = std::mem::take(&mut self.pending);
        if weights.is_empty() {
            return;
        }
        let columns = (0..self.spec.output.fields().len()).map(|i| match &pieces[..] {
            [piece] => piece[i].clone(),
            pieces => {
                let columns: Vec<&dyn Array> = pieces.iter().map(|piece| piece[i].as_ref()).collect();
                concat(&columns).expect("columns of one type")
            }
        });
        let options = RecordBatchOptions::new().with_row_count(Some(weights.len()));
        let rows = RecordBatch::try_new_with_options(self.spec.output.clone(), columns.collect(), &options);
        let weights = weights.iter().any(|w| *w != 1).then(|| Int64Array::from(weights));
        out.deltas.push(Delta::new(rows.expect("columns of the output's types"), weights));
    }

    /// Forgets the groups whose last row went.
    fn forget_dead(&mut self) {
        let dead = std::mem::take(&mut self.dead);
        if dead.is_empty() {
            return;
        }
        self.values.iter_mut().for_each(|values| values.drop_groups(&dead, &self.groups));
        let saved: Vec<u32> = dead.iter().copied().filter(|id| self.journal.forget(*id)).collect();
        if !saved.is_empty() {
            self.journal.removed(self.groups.keys(&saved), saved.len(), self.groups.bound());
        }
        for id in dead {
            self.cells.clear(id);
            self.accumulators.iter_mut().for_each(|accumulator| accumulator.clear(id));
            self.groups.remove(id);
        }
    }
}

impl Operator for Aggregate {
    fn update(&mut self, _: Port, delta: Delta, _: &mut Output) -> Result<Step> {
        if delta.is_empty() {
            return Ok(Step::Done);
        }
        let weights = delta.weights.as_ref().map(|weights| &weights.values()[..]);
        if self.spec.append_only {
            let positive = weights.is_none_or(|weights| weights.iter().all(|weight| *weight > 0));
            assert!(positive, "an input that never retracts has retracted");
        }
        let keys: Vec<ArrayRef> = self.spec.group.iter().map(|column| delta.rows.column(*column).clone()).collect();
        let mut ids = Vec::new();
        self.groups.intern(&self.groups.encoder().encode_rows(&keys, delta.len()), &mut ids);
        self.cells.grow(self.groups.bound());
        self.touch(&ids);
        match weights {
            None => ids.iter().for_each(|id| self.cells.add_count(*id, ROWS, 1)),
            Some(weights) => ids.iter().zip(weights).for_each(|(id, weight)| self.cells.add_count(*id, ROWS, *weight)),
        }
        let mut passing_by_filter: Vec<(usize, BooleanBuffer)> = Vec::new();
        let mut passes = |filter: Option<usize>| {
            let column = filter?;
            if let Some((_, known)) = passing_by_filter.iter().find(|(known, _)| *known == column) {
                return Some(known.clone());
            }
            let made = passing(delta.rows.column(column));
            passing_by_filter.push((column, made.clone()));
            Some(made)
        };
        for (accumulator, feed) in self.accumulators.iter_mut().zip(&self.feeds).filter(|(_, feed)| !feed.distinct) {
            let argument = feed.argument.map(|column| delta.rows.column(column));
            let valid = argument.and_then(|a| a.logical_nulls()).filter(|nulls| nulls.null_count() > 0);
            let selected = match (passes(feed.filter), valid) {
                (Some(passing), Some(valid)) => Some(&passing & valid.inner()),
                (passing, valid) => passing.or(valid.map(|valid| valid.inner().clone())),
            };
            accumulator.add(&mut self.cells, &Rows { ids: &ids, weights, selected, argument });
        }
        for values in &mut self.values {
            let passes: Vec<Option<BooleanBuffer>> = values.filters.iter().map(|filter| passes(*filter)).collect();
            values.add(&ids, delta.rows.column(values.argument), weights, &passes);
        }
        Ok(Step::Done)
    }

    fn finish_epoch(&mut self, _: &EpochHeader, out: &mut Output) -> Result<Step> {
        if !self.finishing {
            self.finishing = true;
            for values in &mut self.values {
                values.flush(&mut self.accumulators, &mut self.cells, &self.groups);
            }
            if self.is_global() && self.spec.owner && !self.announced {
                self.touch(&[0]);
                self.announced = true;
            }
        }
        let mut rows = 0;
        while rows < OUTPUT_ROWS_PER_STEP {
            if let Some(old) = self.touched.old.pop_front() {
                self.emit(&old.ids, Some(&old), out);
                rows += old.ids.len();
            } else if let Some(ids) = self.touched.new.pop_front() {
                self.emit(&ids, None, out);
                rows += ids.len();
            } else {
                self.flush(out);
                self.forget_dead();
                self.epoch += 1;
                self.finishing = false;
                return Ok(Step::Done);
            }
        }
        Ok(Step::Again)
    }

    fn durable(&mut self) -> Vec<&mut dyn Durable> {
        vec![self]
    }
}
