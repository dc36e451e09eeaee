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
mod calls;
mod cells;
mod heaps;
mod journal;
mod kept;
mod moments;
mod order;
mod output;
mod save;
mod sums;
#[cfg(test)]
mod tests;
mod values;

use arrow::array::{Array, ArrayRef};
use arrow::buffer::BooleanBuffer;
use arrow::datatypes::{DataType, SchemaRef};

use self::accumulator::{Accumulator, Rows};
use self::calls::{Feed, Source};
use self::cells::{Cells, ROWS};
use self::journal::Journal;
use self::output::{Pending, Touched};
use self::values::{Values, passing};
use super::expiry::{EXPIRY_ROWS_MIN, Expiry, stays};
use super::{Operator, Output, Port, Step};
use crate::delta::Delta;
use crate::error::{Error, Result};
use crate::state::durable::Durable;
use crate::state::key_table::KeyTable;
use crate::time::{EpochHeader, TimeBound};

/// Output batches have about this many rows. After each others may run: it costs what follows it a millisecond or two.
const OUTPUT_ROWS: usize = 8192;

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

#[derive(Debug, Clone, PartialEq)]
pub struct AggregateCall {
    pub function: AggregateFunction,
    /// Column of the input; `None` for count(*).
    pub argument: Option<usize>,
    /// Boolean column of the input; a row counts where it is true.
    pub filter: Option<usize>,
    pub distinct: bool,
}

#[derive(Debug, Clone, PartialEq)]
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
    /// Groups that change no more, by a column of the input that is one of the group's.
    pub expiry: Option<TimeBound>,
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
    expiry: Option<Expiry>,
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
            expiry: spec.expiry.as_ref().map(|bound| Expiry::new(bound, EXPIRY_ROWS_MIN)),
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

    /// Forgets the groups that no row can come to any more; what they say stands.
    fn expire(&mut self, epoch: &EpochHeader) {
        let Some(expiry) = &self.expiry else { return };
        let Some(before) = expiry.due(epoch, self.state_rows()) else { return };
        let column = self.spec.group.iter().position(|column| *column == expiry.column()).expect("one of the group's");
        let groups = self.live_groups();
        let stays = stays(&self.groups.keys(&groups)[column], before);
        self.dead = groups.into_iter().zip(stays).filter(|(_, stays)| !stays).map(|(id, _)| id).collect();
        self.values.iter_mut().for_each(|values| values.empty_groups(&self.dead, &self.groups));
        self.forget_dead();
        let left = self.state_rows();
        self.expiry.as_mut().expect("looked at above").swept(left);
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

    fn finish_epoch(&mut self, epoch: &EpochHeader, out: &mut Output) -> Result<Step> {
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
        while rows < OUTPUT_ROWS {
            if let Some(old) = self.touched.old.pop_front() {
                self.emit(&old.ids, Some(&old), out);
                rows += old.ids.len();
            } else if let Some(ids) = self.touched.new.pop_front() {
                self.emit(&ids, None, out);
                rows += ids.len();
            } else {
                self.flush(out);
                self.forget_dead();
                self.expire(epoch);
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
