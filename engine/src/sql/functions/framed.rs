//! Functions over frames that DataFusion has not: those with EXCLUDE, those that are always empty, and RANGE of days over
//! timestamptz, where a day has as many hours as the session's clock gives it. `sql/frames.rs` says when.
//!
//! ```text
//!   sum(x) FILTER (WHERE f) OVER (ORDER BY k ROWS BETWEEN 2 PRECEDING AND CURRENT ROW EXCLUDE TIES)
//!     arguments: x, f, k                        per row: the frame's rows without those excluded, at most three pieces
//!   … RANGE BETWEEN '1 day' PRECEDING AND CURRENT ROW EXCLUDE TIES
//!     arguments: x, f, k, k, k - '1 day'        the value that is ordered by, and that at which each row's frame begins
//! ```

use std::cmp::Ordering;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::make_comparator;
use arrow::array::{Array, ArrayRef, AsArray, UInt64Array};
use arrow::compute::{SortOptions, filter, partition, take};
use arrow::datatypes::{DataType, Field, FieldRef, Int64Type, Schema};
use datafusion::common::ScalarValue;
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::function::{AccumulatorArgs, PartitionEvaluatorArgs, WindowUDFFieldArgs};
use datafusion::logical_expr::{Accumulator, AggregateUDF, PartitionEvaluator, Signature, Volatility, WindowUDFImpl};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::{Column, Literal};

use crate::error::Error;
use crate::sql::bounds;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Units {
    Rows,
    /// Of equal order.
    Groups,
    Range,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Bound {
    Unbounded,
    /// So many rows or groups after the current one; for RANGE only 0, which is the current row's group.
    Offset(i64),
    /// Of RANGE: where the value of this argument is, counted among those that come after the keys.
    Value(usize),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Exclusion {
    Nothing,
    CurrentRow,
    Group,
    Ties,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Frame {
    pub units: Units,
    pub start: Bound,
    pub end: Bound,
    pub exclusion: Exclusion,
}

/// Which function it is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Inner {
    Aggregate(Arc<AggregateUDF>),
    First,
    Last,
    Nth,
}

#[derive(Debug, PartialEq, Eq, Hash)]
pub struct Framed {
    /// As EXPLAIN shows it.
    pub name: String,
    pub inner: Inner,
    pub result: FieldRef,
    pub frame: Frame,
    /// Of the function; after them come its filter, the keys of the order, and what the bounds of RANGE say.
    pub arguments: usize,
    pub filtered: bool,
    pub keys: usize,
    /// Of the value that RANGE goes by.
    pub sort: Sort,
    pub signature: Signature,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Sort {
    pub descending: bool,
    pub nulls_first: bool,
}

impl Framed {
    pub fn signature() -> Signature {
        Signature::variadic_any(Volatility::Immutable)
    }
}

impl WindowUDFImpl for Framed {
    fn name(&self) -> &str {
        &self.name
    }
    fn signature(&self) -> &Signature {
        &self.signature
    }
    fn field(&self, arguments: WindowUDFFieldArgs) -> Result<FieldRef> {
        Ok(Arc::new(self.result.as_ref().clone().with_name(arguments.name())))
    }
    fn partition_evaluator(&self, arguments: PartitionEvaluatorArgs) -> Result<Box<dyn PartitionEvaluator>> {
        let fields: Vec<FieldRef> = arguments.input_fields().iter().take(self.arguments).cloned().collect();
        let column = |(i, expr): (usize, &Arc<dyn PhysicalExpr>)| -> Arc<dyn PhysicalExpr> {
            match expr.downcast_ref::<Literal>() {
                Some(_) => expr.clone(),
                None => Arc::new(Column::new(&i.to_string(), i)),
            }
        };
        let exprs = arguments.input_exprs().iter().take(self.arguments).enumerate().map(column).collect();
        let named = |(i, field): (usize, &FieldRef)| field.as_ref().clone().with_name(i.to_string());
        let schema = Schema::new(fields.iter().enumerate().map(named).collect::<Vec<Field>>());
        Ok(Box::new(Evaluator {
            inner: self.inner.clone(),
            result: self.result.clone(),
            frame: self.frame.clone(),
            filtered: self.filtered,
            keys: self.keys,
            sort: self.sort,
            ignore_nulls: arguments.ignore_nulls(),
            exprs,
            fields,
            schema,
        }))
    }
}

#[derive(Debug)]
struct Evaluator {
    inner: Inner,
    result: FieldRef,
    frame: Frame,
    filtered: bool,
    keys: usize,
    sort: Sort,
    ignore_nulls: bool,
    exprs: Vec<Arc<dyn PhysicalExpr>>,
    fields: Vec<FieldRef>,
    schema: Schema,
}

impl PartitionEvaluator for Evaluator {
    fn evaluate_all(&mut self, values: &[ArrayRef], rows: usize) -> Result<ArrayRef> {
        let (arguments, rest) = values.split_at(self.fields.len());
        let (kept, rest) = rest.split_at(usize::from(self.filtered));
        let (keys, ranged) = rest.split_at(self.keys);
        let groups = if keys.is_empty() { vec![0..rows] } else { partition(keys)?.ranges() };
        let frames = Frames::new(&self.frame, self.sort, rows, groups, ranged)?;
        match self.inner.clone() {
            Inner::Aggregate(function) => self.aggregates(&function, arguments, kept.first(), frames),
            inner => values_at(&inner, arguments, frames),
        }
    }
}

impl Evaluator {
    fn accumulator(&self, function: &AggregateUDF, sliding: bool) -> Result<Box<dyn Accumulator>> {
        let args = AccumulatorArgs {
            return_field: self.result.clone(),
            schema: &self.schema,
            ignore_nulls: self.ignore_nulls,
            order_bys: &[],
            is_reversed: false,
            name: function.name(),
            is_distinct: false,
            exprs: &self.exprs,
            expr_fields: &self.fields,
        };
        if sliding { function.create_sliding_accumulator(args) } else { function.accumulator(args) }
    }

    fn aggregates(
        &self,
        function: &AggregateUDF,
        arguments: &[ArrayRef],
        kept: Option<&ArrayRef>,
        mut frames: Frames,
    ) -> Result<ArrayRef> {
        // Of each row how many before it pass the filter, and the arguments of those that do.
        let (arguments, before) = match kept {
            None => (arguments.to_vec(), None),
            Some(kept) => {
                let kept = kept.as_boolean();
                let mut before = vec![0; kept.len() + 1];
                for row in 0..kept.len() {
                    before[row + 1] = before[row] + usize::from(kept.is_valid(row) && kept.value(row));
                }
                (arguments.iter().map(|a| filter(a, kept)).collect::<Result<Vec<_>, _>>()?, Some(before))
            }
        };
        let place = |row: usize| before.as_ref().map_or(row, |before| before[row]);
        let slice = |range: Range<usize>| -> Vec<ArrayRef> {
            arguments.iter().map(|a| a.slice(range.start, range.len())).collect()
        };
        let moves = self.frame.exclusion == Exclusion::Nothing;
        let mut sliding = if moves { Some(self.accumulator(function, true)?) } else { None };
        sliding = sliding.filter(|accumulator| accumulator.supports_retract_batch());
        let mut held = 0..0;
        let mut results = Vec::with_capacity(frames.rows);
        for row in 0..frames.rows {
            let pieces = frames.pieces(row)?.map(|piece| place(piece.start)..place(piece.end));
            match &mut sliding {
                // A frame moves on; the accumulator takes the rows back that it has left.
                Some(accumulator) => {
                    let next = pieces[0].clone();
                    if next.start >= held.end || next.is_empty() {
                        if !held.is_empty() {
                            accumulator.retract_batch(&slice(held.clone()))?;
                        }
                        held = next.start..next.start;
                    } else if next.start > held.start {
                        accumulator.retract_batch(&slice(held.start..next.start))?;
                        held.start = next.start;
                    }
                    if next.end > held.end {
                        accumulator.update_batch(&slice(held.end..next.end))?;
                        held.end = next.end;
                    }
                    results.push(accumulator.evaluate()?);
                }
                None => {
                    let mut accumulator = self.accumulator(function, false)?;
                    for piece in pieces.into_iter().filter(|piece| !piece.is_empty()) {
                        accumulator.update_batch(&slice(piece))?;
                    }
                    results.push(accumulator.evaluate()?);
                }
            }
        }
        ScalarValue::iter_to_array(results)
    }
}

/// `first_value`, `last_value` and `nth_value`.
fn values_at(inner: &Inner, arguments: &[ArrayRef], mut frames: Frames) -> Result<ArrayRef> {
    let mut places = Vec::with_capacity(frames.rows);
    for row in 0..frames.rows {
        let pieces = frames.pieces(row)?;
        let mut there = pieces.iter().filter(|piece| !piece.is_empty());
        places.push(match inner {
            Inner::Last => there.next_back().map(|piece| piece.end as u64 - 1),
            Inner::Nth => {
                let nth = arguments[1].as_primitive::<Int64Type>();
                if nth.is_valid(row) && nth.value(row) <= 0 {
                    let error = Error::new("22016", "argument of nth_value must be greater than zero");
                    return Err(DataFusionError::External(Box::new(error)));
                }
                let mut left = if nth.is_valid(row) { nth.value(row) as usize } else { usize::MAX };
                there.find_map(|piece| match left.checked_sub(piece.len()) {
                    None | Some(0) => Some((piece.start + left - 1) as u64),
                    Some(further) => {
                        left = further;
                        None
                    }
                })
            }
            _ => there.next().map(|piece| piece.start as u64),
        });
    }
    Ok(take(&arguments[0], &UInt64Array::from(places), None)?)
}

/// The frames of a partition's rows, to be asked for in their order.
struct Frames<'a> {
    frame: &'a Frame,
    rows: usize,
    /// Rows of equal order, and of each row which they are.
    groups: Vec<Range<usize>>,
    group_of: Vec<usize>,
    start: Option<Edge>,
    end: Option<Edge>,
}

/// A bound of RANGE, which moves on from row to row.
struct Edge {
    at: usize,
    /// Whether the first row's value is within the bound that the second row has.
    within: Box<dyn Fn(usize, usize) -> bool>,
}

impl<'a> Frames<'a> {
    fn new(
        frame: &'a Frame,
        sort: Sort,
        rows: usize,
        groups: Vec<Range<usize>>,
        ranged: &[ArrayRef],
    ) -> Result<Frames<'a>> {
        let mut group_of = vec![0; rows];
        for (group, range) in groups.iter().enumerate() {
            group_of[range.clone()].fill(group);
        }
        let edge = |bound: Bound, is_start: bool| -> Result<Option<Edge>> {
            let Bound::Value(argument) = bound else { return Ok(None) };
            let (key, limit) = (ranged[0].clone(), ranged[argument].clone());
            let compare = make_comparator(&key, &limit, SortOptions::default())?;
            let from_below = is_start != sort.descending;
            let within = move |row: usize, current: usize| match (key.is_null(row), key.is_null(current)) {
                (false, false) => {
                    let order = compare(row, current);
                    order == Ordering::Equal || (order == Ordering::Greater) == from_below
                }
                // NULLs are equal to each other, and beyond everything else.
                (row, current) => row == current || (row == sort.nulls_first) != is_start,
            };
            Ok(Some(Edge { at: 0, within: Box::new(within) }))
        };
        let (start, end) = (edge(frame.start, true)?, edge(frame.end, false)?);
        Ok(Frames { frame, rows, groups, group_of, start, end })
    }

    /// The rows of a frame, in order; pieces may be empty.
    fn pieces(&mut self, row: usize) -> Result<[Range<usize>; 3]> {
        if row.is_multiple_of(1024) {
            bounds::check_in_plan()?;
        }
        let rows = self.rows;
        let group = self.groups[self.group_of[row]].clone();
        let frame = self.start_of(row)..self.end_of(row);
        let frame = if frame.start < frame.end { frame } else { frame.start..frame.start };
        let excluded = match self.frame.exclusion {
            Exclusion::Nothing => return Ok([frame, rows..rows, rows..rows]),
            Exclusion::CurrentRow => row..row + 1,
            Exclusion::Group | Exclusion::Ties => group,
        };
        let within = |range: Range<usize>| {
            let (start, end) = (range.start.max(frame.start), range.end.min(frame.end));
            if start < end { start..end } else { start..start }
        };
        let own = if self.frame.exclusion == Exclusion::Ties { row..row + 1 } else { row..row };
        Ok([within(0..excluded.start), within(own), within(excluded.end..rows)])
    }

    fn start_of(&mut self, row: usize) -> usize {
        match (self.frame.start, self.frame.units) {
            (Bound::Unbounded, _) => 0,
            (Bound::Offset(by), Units::Rows) => moved(row, by).map_or(0, |row| row.min(self.rows)),
            (Bound::Offset(by), _) => match moved(self.group_of[row], by) {
                None => 0,
                Some(group) => self.groups.get(group).map_or(self.rows, |group| group.start),
            },
            (Bound::Value(_), _) => {
                let edge = self.start.as_mut().expect("made for the bound");
                while edge.at < self.rows && !(edge.within)(edge.at, row) {
                    edge.at += 1;
                }
                edge.at
            }
        }
    }

    fn end_of(&mut self, row: usize) -> usize {
        match (self.frame.end, self.frame.units) {
            (Bound::Unbounded, _) => self.rows,
            (Bound::Offset(by), Units::Rows) => moved(row, by).map_or(0, |row| row.saturating_add(1).min(self.rows)),
            (Bound::Offset(by), _) => match moved(self.group_of[row], by) {
                None => 0,
                Some(group) => self.groups.get(group).map_or(self.rows, |group| group.end),
            },
            (Bound::Value(_), _) => {
                let edge = self.end.as_mut().expect("made for the bound");
                while edge.at < self.rows && (edge.within)(edge.at, row) {
                    edge.at += 1;
                }
                edge.at
            }
        }
    }
}

/// `None` before the first.
fn moved(from: usize, by: i64) -> Option<usize> {
    usize::try_from((from as i64).saturating_add(by)).ok()
}

impl Inner {
    /// The function of DataFusion's that has a frame, by its name.
    pub fn of_window(name: &str) -> Option<Inner> {
        match name {
            "first_value" => Some(Inner::First),
            "last_value" => Some(Inner::Last),
            "nth_value" => Some(Inner::Nth),
            _ => None,
        }
    }

    /// The type that an argument has to be of, where the function's own signature leaves it open.
    pub fn argument_type(&self, argument: usize) -> Option<DataType> {
        (*self == Inner::Nth && argument == 1).then_some(DataType::Int64)
    }
}
