//! Rows that come into a result, or leave it, because time has passed: conditions on `now()`, and rows that are held back
//! until the watermark has passed their window.
//!
//! ```text
//!   WHERE ts > now() - INTERVAL '10 seconds'            EMIT ON WINDOW CLOSE, by window_end
//!
//!   now 10:00:05   +1 | 10:00:01   out  +1 | 10:00:01   watermark 10:00   +1 | 10:01 | a   out  –
//!   now 10:00:11                   out  -1 | 10:00:01             10:01                    out  +1 | 10:01 | a
//! ```
//!
//! Formula: out(E) = rows of which the condition holds at the clock of E. For each row the condition changes at a few
//! moments, which are known when the row comes. A row for which one is yet to come waits, in the order of moments; all
//! others are forgotten.
//!
//! State: the rows that wait. Cost: a search per row, once more at each of its moments.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Int64Array, RecordBatch, RecordBatchOptions, TimestampMicrosecondArray,
};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};

use super::evaluate::{Expression, predicate, predicate_or_set_aside};
use super::expiry::times;
use super::{Operator, Output, Port, Step};
use crate::delta::Delta;
use crate::error::{Error, Result};
use crate::state::durable::Durable;
use crate::state::ordered_rows::{OrderedRows, number_of};
use crate::time::{EpochHeader, TimeBound};

/// No condition changes after the year 9999.
const LAST_MOMENT: i64 = 253_402_300_799_999_999;
const OUTPUT_ROWS: usize = 8192;

#[derive(Debug, Clone, PartialEq)]
pub struct TemporalSpec {
    pub input: SchemaRef,
    /// Columns by whose hash a row's worker is known.
    pub key: Vec<usize>,
    /// The type of the clock's column.
    pub clock: DataType,
    pub condition: Condition,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Condition {
    /// Nothing changes any more before what has been reached in the column, and the row lies there.
    Closed(TimeBound),
    /// `holds`: over the input's columns and, behind them, the clock. It can change only where one of `flips` does.
    Clock { holds: Expression, flips: Vec<Flip> },
}

/// A comparison whose answer changes at most once as time passes.
#[derive(Debug, Clone, PartialEq)]
pub enum Flip {
    /// At the column's time and so many microseconds.
    At { column: usize, offset_us: i64 },
    /// To be searched for: over the input's columns and the clock.
    Somewhere(Expression),
}

pub struct Temporal {
    spec: TemporalSpec,
    /// With the clock behind the input's columns.
    clocked: SchemaRef,
    /// Rows with their next moment behind them.
    waiting: OrderedRows,
    waiting_schema: SchemaRef,
    /// Of the epoch at hand.
    clock: i64,
}

impl Temporal {
    pub fn new(spec: TemporalSpec) -> Result<Temporal> {
        let with = |field: Field| {
            let fields = spec.input.fields().iter().map(|f| f.as_ref().clone()).chain([field]);
            Arc::new(Schema::new(fields.collect::<Vec<_>>()))
        };
        let clocked = with(Field::new("clock", spec.clock.clone(), true));
        let waiting_schema = with(Field::new("moment", DataType::Int64, true));
        let moment = spec.input.fields().len();
        let waiting = OrderedRows::in_one_order(&waiting_schema, &spec.key, moment)?;
        Ok(Temporal { spec, clocked, waiting, waiting_schema, clock: i64::MIN })
    }

    /// The rows at these values of the clock.
    fn clocked(&self, rows: &RecordBatch, clock: ArrayRef) -> RecordBatch {
        let columns = rows.columns().iter().cloned().chain([clock]).collect();
        RecordBatch::try_new(self.clocked.clone(), columns).expect("the input's columns and a clock")
    }

    fn at(&self, rows: &RecordBatch, clock: i64) -> RecordBatch {
        let clock = TimestampMicrosecondArray::from_value(clock, rows.num_rows());
        self.clocked(rows, Arc::new(clock.with_data_type(self.spec.clock.clone())))
    }

    /// Where the condition holds now. What cannot be evaluated is set aside with its weight.
    fn holds(&self, delta: &Delta, out: &mut Output) -> BooleanArray {
        match &self.spec.condition {
            Condition::Closed(_) => unreachable!("held back rows wait"),
            Condition::Clock { holds, .. } => {
                let rows = self.at(&delta.rows, self.clock);
                match predicate(holds, &rows) {
                    Ok(mask) => mask,
                    Err(_) => {
                        let one = |row: usize| {
                            let row_at = rows.slice(row, 1);
                            predicate_or_set_aside(holds, &row_at, delta.weight(row), out).iter().next().flatten()
                        };
                        (0..delta.len()).map(one).collect()
                    }
                }
            }
        }
    }

    /// The first moment after now at which the condition may change, row by row.
    fn moments(&self, rows: &RecordBatch) -> Vec<Option<i64>> {
        let after = |moment: i64| (moment > self.clock && moment <= LAST_MOMENT).then_some(moment);
        match &self.spec.condition {
            Condition::Closed(bound) => {
                let times = times(rows.column(bound.column));
                times.iter().map(|time| time.map(|time| time.saturating_add(1))).collect()
            }
            Condition::Clock { flips, .. } => {
                let mut first: Vec<Option<i64>> = vec![None; rows.num_rows()];
                for flip in flips {
                    let moments = match flip {
                        Flip::At { column, offset_us } => times(rows.column(*column))
                            .iter()
                            .map(|time| time.and_then(|time| time.checked_add(*offset_us)).and_then(after))
                            .collect(),
                        Flip::Somewhere(comparison) => self.search(comparison, rows),
                    };
                    for (first, moment) in first.iter_mut().zip(moments) {
                        *first = first.iter().copied().chain(moment).min();
                    }
                }
                first
            }
        }
    }

    /// The moment after now at which the comparison's answer changes, row by row. What fails changes nothing.
    fn search(&self, comparison: &Expression, rows: &RecordBatch) -> Vec<Option<i64>> {
        let is_true = |rows: &RecordBatch| -> Option<Vec<bool>> {
            let mask = predicate(comparison, rows).ok()?;
            Some(mask.iter().map(|value| value == Some(true)).collect())
        };
        let (Some(now), Some(last)) = (is_true(&self.at(rows, self.clock)), is_true(&self.at(rows, LAST_MOMENT)))
        else {
            return match rows.num_rows() {
                0 | 1 => vec![None; rows.num_rows()],
                count => {
                    let half = count / 2;
                    let mut found = self.search(comparison, &rows.slice(0, half));
                    found.extend(self.search(comparison, &rows.slice(half, count - half)));
                    found
                }
            };
        };
        let changing: Vec<u32> = (0..now.len()).filter(|&row| now[row] != last[row]).map(|row| row as u32).collect();
        let mut found = vec![None; rows.num_rows()];
        if changing.is_empty() {
            return found;
        }
        let rows = crate::state::arrangement::take(rows, &changing);
        let start = self.clock.max(0);
        let (mut low, mut high) = (vec![start; changing.len()], vec![LAST_MOMENT; changing.len()]);
        while low.iter().zip(&high).any(|(low, high)| high - low > 1) {
            let middle: Vec<i64> = low.iter().zip(&high).map(|(low, high)| low + (high - low) / 2).collect();
            let clock = TimestampMicrosecondArray::from(middle.clone()).with_data_type(self.spec.clock.clone());
            let Some(answers) = is_true(&self.clocked(&rows, Arc::new(clock))) else { return found };
            for (i, answer) in answers.into_iter().enumerate() {
                let side = if answer == now[changing[i] as usize] { &mut low } else { &mut high };
                side[i] = middle[i];
            }
        }
        changing.iter().zip(high).for_each(|(&row, moment)| found[row as usize] = Some(moment));
        found
    }

    /// Rows for which a moment is to come wait for it.
    fn keep(&mut self, rows: &RecordBatch, weights: Option<&Int64Array>) -> Result<()> {
        let moments = self.moments(rows);
        let waiting: Vec<u32> = (0..moments.len()).filter(|&row| moments[row].is_some()).map(|r| r as u32).collect();
        if waiting.is_empty() {
            return Ok(());
        }
        let moments: ArrayRef = Arc::new(waiting.iter().map(|&row| moments[row as usize]).collect::<Int64Array>());
        let rows = crate::state::arrangement::take(rows, &waiting);
        let columns = rows.columns().iter().cloned().chain([moments]).collect();
        let rows = RecordBatch::try_new(self.waiting_schema.clone(), columns).map_err(Error::internal)?;
        let weights = weights.map(|weights| waiting.iter().map(|&r| weights.value(r as usize)).collect::<Int64Array>());
        self.waiting.change(&rows, weights.as_ref())
    }

    /// The rows whose moment has come, with how often each is there; they no longer wait.
    fn due(&mut self) -> Result<Vec<(RecordBatch, Int64Array)>> {
        let mut due = Vec::new();
        let places: Vec<_> = self.waiting.in_order().take_while(|(place, _)| number_of(place) <= self.clock).collect();
        for some in places.chunks(OUTPUT_ROWS) {
            let columns = self.waiting.decode(some.iter().copied())?;
            let options = RecordBatchOptions::new().with_row_count(Some(some.len()));
            let rows = RecordBatch::try_new_with_options(self.waiting_schema.clone(), columns, &options);
            let counts: Int64Array = some.iter().map(|(_, entry)| Some(entry.count())).collect();
            due.push((rows.map_err(Error::internal)?, counts));
        }
        for (rows, counts) in &due {
            self.waiting.change(rows, Some(&counts.unary(|count: i64| -count)))?;
        }
        Ok(due)
    }

    fn holds_back(&self) -> bool {
        matches!(self.spec.condition, Condition::Closed(_))
    }

    /// Rows without the moment behind them.
    fn own(&self, rows: &RecordBatch) -> Result<RecordBatch> {
        let columns = rows.columns()[..self.spec.input.fields().len()].to_vec();
        let options = RecordBatchOptions::new().with_row_count(Some(rows.num_rows()));
        RecordBatch::try_new_with_options(self.spec.input.clone(), columns, &options).map_err(Error::internal)
    }

    /// What the rows whose moment has come change.
    fn turn(&mut self, rows: RecordBatch, counts: Int64Array, out: &mut Output) -> Result<()> {
        let moments = rows.column(rows.num_columns() - 1).as_primitive::<Int64Type>().clone();
        let rows = self.own(&rows)?;
        let Condition::Clock { holds, .. } = &self.spec.condition else { unreachable!("held back rows do not turn") };
        // Between its moments the condition stands as it did just before this one.
        let before = TimestampMicrosecondArray::from_iter_values(moments.values().iter().map(|moment| moment - 1));
        let before = self.clocked(&rows, Arc::new(before.with_data_type(self.spec.clock.clone())));
        let now = self.holds(&Delta::new(rows.clone(), Some(counts.clone())), out);
        let negated: Vec<i64> = counts.values().iter().map(|count| -count).collect();
        let was: Vec<Option<bool>> = match predicate(holds, &before) {
            Ok(mask) => mask.iter().collect(),
            Err(_) => (0..rows.num_rows())
                .map(|row| {
                    let row_at = before.slice(row, 1);
                    predicate_or_set_aside(holds, &row_at, negated[row], out).iter().next().flatten()
                })
                .collect(),
        };
        let weight = |row: usize| {
            let now = now.is_valid(row) && now.value(row);
            (i64::from(now) - i64::from(was[row] == Some(true))) * counts.value(row)
        };
        let turned: Vec<u32> = (0..rows.num_rows()).filter(|&row| weight(row) != 0).map(|row| row as u32).collect();
        if !turned.is_empty() {
            let weights: Int64Array = turned.iter().map(|&row| Some(weight(row as usize))).collect();
            out.deltas.push(Delta::new(crate::state::arrangement::take(&rows, &turned), Some(weights)));
        }
        self.keep(&rows, Some(&counts))
    }
}

impl Operator for Temporal {
    fn is_timed(&self) -> bool {
        true
    }

    fn begin_epoch(&mut self, epoch: &EpochHeader, out: &mut Output) -> Result<()> {
        let clock = match &self.spec.condition {
            Condition::Closed(bound) => bound.reached(epoch).unwrap_or(i64::MIN),
            Condition::Clock { .. } => epoch.clock_us,
        };
        if clock <= self.clock {
            return Ok(());
        }
        self.clock = clock;
        if !self.holds_back() {
            for (rows, counts) in self.due()? {
                self.turn(rows, counts, out)?;
            }
        }
        Ok(())
    }

    fn update(&mut self, _: Port, delta: Delta, out: &mut Output) -> Result<Step> {
        if delta.is_empty() {
            return Ok(Step::Done);
        }
        if self.holds_back() {
            self.keep(&delta.rows, delta.weights.as_ref())?;
            return Ok(Step::Done);
        }
        let mask = self.holds(&delta, out);
        match mask.true_count() {
            0 => {}
            count if count == delta.len() => out.deltas.push(delta.clone()),
            _ => out.deltas.push(delta.filter(&mask)),
        }
        self.keep(&delta.rows, delta.weights.as_ref())?;
        Ok(Step::Done)
    }

    fn finish_epoch(&mut self, _: &EpochHeader, out: &mut Output) -> Result<Step> {
        if self.holds_back() {
            // Summed up first: what comes out stays.
            for (rows, counts) in self.due()? {
                if counts.values().iter().any(|count| *count < 0) {
                    return Err(Error::internal("a final row was retracted"));
                }
                let is_there = counts.iter().map(|count| Some(count != Some(0))).collect();
                let delta = Delta::new(self.own(&rows)?, Some(counts)).filter(&is_there);
                if !delta.is_empty() {
                    out.deltas.push(delta);
                }
            }
        }
        self.waiting.finish_epoch()?;
        Ok(Step::Done)
    }

    fn durable(&mut self) -> Vec<&mut dyn Durable> {
        vec![&mut self.waiting]
    }
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::TimeUnit;
    use datafusion::logical_expr::Operator as Comparison;
    use datafusion::physical_expr::expressions::{BinaryExpr, Column};

    use super::*;
    use crate::operators::check::{Checker, Disk};
    use crate::state::durable::Share;
    use crate::time::StreamTime;

    const SECOND: i64 = 1_000_000;

    fn time() -> DataType {
        DataType::Timestamp(TimeUnit::Microsecond, None)
    }

    fn schema() -> SchemaRef {
        Arc::new(Schema::new(vec![Field::new("k", DataType::Utf8, true), Field::new("ts", time(), true)]))
    }

    /// ts > now, by either way of finding its moment.
    fn to_come(flip: bool) -> Temporal {
        let column = |name: &str, index: usize| Arc::new(Column::new(name, index)) as Expression;
        let holds: Expression = Arc::new(BinaryExpr::new(column("ts", 1), Comparison::Gt, column("clock", 2)));
        let flips = match flip {
            true => vec![Flip::At { column: 1, offset_us: 0 }],
            false => vec![Flip::Somewhere(holds.clone())],
        };
        let condition = Condition::Clock { holds, flips };
        Temporal::new(TemporalSpec { input: schema(), key: vec![0], clock: time(), condition }).unwrap()
    }

    fn held_back() -> Temporal {
        let condition = Condition::Closed(TimeBound { column: 1, streams: vec![7], offset_us: 1 });
        Temporal::new(TemporalSpec { input: schema(), key: vec![0], clock: time(), condition }).unwrap()
    }

    fn row(weight: i64, key: &str, second: i64) -> String {
        format!("{weight:+} | {key} | 1970-01-01T00:00:{second:02}\n")
    }

    #[test]
    fn rows_leave_when_their_time_has_come() {
        for flip in [true, false] {
            let mut checker = Checker::new(to_come(flip), &[schema()]);
            checker.header.clock_us = 10 * SECOND;
            let all = row(2, "a", 20) + &row(1, "b", 30) + &row(1, "c", 10);
            checker.epoch(&[(0, &all)], &(row(2, "a", 20) + &row(1, "b", 30)));
            checker.header.clock_us = 15 * SECOND;
            checker.epoch(&[(0, &row(-1, "a", 20))], &row(-1, "a", 20));
            checker.header.clock_us = 20 * SECOND - 1;
            checker.epoch(&[], "");
            let mut disk = Disk::default();
            disk.save(&mut checker.operator);
            for share in [Share::ALL, Share { worker: 0, workers: 2 }] {
                let mut operator = to_come(flip);
                Disk::restore(&[disk.clone()], &mut operator, share);
                assert!(share == Share::ALL || operator.waiting.state_rows() < 2);
            }
            let mut operator = to_come(flip);
            Disk::restore(&[disk], &mut operator, Share::ALL);
            let mut checker = Checker::new(operator, &[schema()]);
            checker.header.clock_us = 20 * SECOND;
            checker.epoch(&[(0, &row(1, "d", 20))], &row(-1, "a", 20));
            checker.header.clock_us = 100 * SECOND;
            checker.epoch(&[(0, &row(-1, "b", 30))], &row(-1, "b", 30));
            assert_eq!(checker.operator.waiting.state_rows(), 0);
        }
    }

    #[test]
    fn final_rows_come_once() {
        let mut checker = Checker::new(held_back(), &[schema()]);
        let at =
            |second: i64| vec![StreamTime { stream: 7, watermark_us: Some(second * SECOND), ..StreamTime::default() }];
        checker.epoch(&[(0, &(row(1, "a", 10) + &row(1, "b", 20)))], "");
        checker.header.watermarks = at(9);
        checker.epoch(&[(0, &(row(-1, "a", 10) + &row(1, "c", 10) + "+1 | d | NULL"))], "");
        checker.header.watermarks = at(10);
        // What goes in the same epoch was never there.
        checker.epoch(
            &[(0, &(row(1, "e", 10) + &row(1, "f", 10))), (0, &row(-1, "e", 10))],
            &(row(1, "c", 10) + &row(1, "f", 10)),
        );
        checker.header.watermarks = at(30);
        checker.epoch(&[], &row(1, "b", 20));
        assert_eq!(checker.operator.waiting.state_rows(), 0);
    }
}
