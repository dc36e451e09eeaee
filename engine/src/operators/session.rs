//! Session windows: rows of a key that lie less than a gap apart are one session, which ends a gap after its last row.
//!
//! ```text
//!   gap 10, key k
//!   in, epoch 1   +1 | k | 0       out   +1 | k | 0  | 0 | 10
//!                 +1 | k | 15            +1 | k | 15 | 15 | 25
//!   in, epoch 2   +1 | k | 8       out   -1 | k | 0  | 0 | 10
//!                                        -1 | k | 15 | 15 | 25
//!                                        +1 | k | 0  | 0 | 25      merged
//!                                        +1 | k | 8  | 0 | 25
//!                                        +1 | k | 15 | 0 | 25
//! ```
//!
//! Formula: out = −sessions(E−1) + sessions(E) of the rows around each row that changed: the rows of both pictures that
//! hang together by less than the gap hold whole sessions of either.
//!
//! State: all rows, in order of time per key. Cost: a search per changed row, and the rows of the sessions that are
//! touched, since each of them shows its session's bounds.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, RecordBatchOptions, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, SchemaRef};

use super::expiry::{EXPIRY_BYTES_MIN, Expiry};
use super::{Operator, Output, Port, Step};
use crate::delta::Delta;
use crate::error::{Error, Result};
use crate::state::durable::Durable;
use crate::state::ordered_rows::{Entry, OrderedRows, Place, Rows, number_of};
use crate::time::{EpochHeader, TimeBound};

/// Output batches have about this many rows.
const OUTPUT_ROWS: usize = 8192;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bound {
    Start,
    End,
}

#[derive(Debug, Clone, PartialEq)]
pub struct SessionSpec {
    pub input: SchemaRef,
    pub key: Vec<usize>,
    /// A timestamp in microseconds, never NULL.
    pub time: usize,
    pub gap_us: i64,
    pub bounds: Vec<Bound>,
    /// The first columns of the input, then the bounds.
    pub output: SchemaRef,
    /// Sessions that have ended before it change no more; its column is the time.
    pub expiry: Option<TimeBound>,
}

pub struct Session {
    spec: SessionSpec,
    rows: OrderedRows,
    expiry: Option<Expiry>,
}

/// A session's bounds.
type Bounds = (i64, i64);

/// Lines of the result that have come or gone.
#[derive(Default)]
struct Changes<'a> {
    rows: Vec<(&'a Place, &'a Entry)>,
    bounds: Vec<Bounds>,
    weights: Vec<i64>,
}

impl<'a> Changes<'a> {
    fn add(&mut self, row: (&'a Place, &'a Entry), bounds: Option<Bounds>, weight: i64) {
        if let (Some(bounds), true) = (bounds, weight != 0) {
            self.rows.push(row);
            self.bounds.push(bounds);
            self.weights.push(weight);
        }
    }
}

impl Session {
    pub fn new(spec: SessionSpec) -> Result<Session> {
        let rows = OrderedRows::new(&spec.input, &spec.key, spec.time)?;
        let expiry = spec.expiry.as_ref().map(|bound| Expiry::new(bound, EXPIRY_BYTES_MIN));
        Ok(Session { spec, rows, expiry })
    }

    /// Forgets the sessions that no row can come to any more: those that have ended before that moment.
    fn expire(&mut self, epoch: &EpochHeader) {
        let Some(expiry) = &mut self.expiry else { return };
        let Some(before) = expiry.due(epoch, self.rows.bytes()) else { return };
        let gap = self.spec.gap_us;
        self.rows.forget(|rows| {
            let mut gone = Vec::new();
            let mut session: Vec<&Place> = Vec::new();
            for place in rows.keys() {
                let last = session.last().map(|last| number_of(last));
                if last.is_some_and(|last| number_of(place).abs_diff(last) >= gap.unsigned_abs()) {
                    gone.extend(session.drain(..).cloned());
                }
                // In order: no later session has ended before.
                if number_of(place).saturating_add(gap) > before {
                    session.clear();
                    break;
                }
                session.push(place);
            }
            gone.extend(session.into_iter().cloned());
            gone
        });
        expiry.swept(self.rows.bytes());
    }

    /// The rows that hang together with one, in order.
    fn around<'a>(&self, rows: &'a Rows, place: &Place) -> Vec<(&'a Place, &'a Entry)> {
        let near = |a: i64, b: i64| a.abs_diff(b) < self.spec.gap_us.unsigned_abs();
        let mut found = Vec::new();
        let mut time = number_of(place);
        for (before, entry) in rows.range::<Place, _>(..place).rev() {
            if !near(time, number_of(before)) {
                break;
            }
            time = number_of(before);
            found.push((before, entry));
        }
        found.reverse();
        time = number_of(place);
        for (after, entry) in rows.range::<Place, _>(place..) {
            if !near(time, number_of(after)) {
                break;
            }
            time = number_of(after);
            found.push((after, entry));
        }
        found
    }

    /// The bounds of each row's session, where only the rows with a count are there.
    fn sessions(&self, rows: &[(&Place, &Entry)], count: impl Fn(&Entry) -> i64) -> Vec<Option<Bounds>> {
        let mut bounds: Vec<Option<Bounds>> = vec![None; rows.len()];
        let mut session: Vec<usize> = Vec::new();
        let mut end = |session: &mut Vec<usize>| {
            if let (Some(&first), Some(&last)) = (session.first(), session.last()) {
                let of = (number_of(rows[first].0), number_of(rows[last].0).saturating_add(self.spec.gap_us));
                session.drain(..).for_each(|row| bounds[row] = Some(of));
            }
        };
        for (row, (place, entry)) in rows.iter().enumerate() {
            if count(entry) <= 0 {
                continue;
            }
            let last = session.last().map(|&last| number_of(rows[last].0));
            if last.is_some_and(|last| number_of(place).abs_diff(last) >= self.spec.gap_us.unsigned_abs()) {
                end(&mut session);
            }
            session.push(row);
        }
        end(&mut session);
        bounds
    }

    fn emit(&self, changes: &mut Changes<'_>, out: &mut Output) -> Result<()> {
        if changes.rows.is_empty() {
            return Ok(());
        }
        let mut columns = self.rows.decode(changes.rows.drain(..))?;
        columns.truncate(self.spec.output.fields().len() - self.spec.bounds.len());
        for bound in &self.spec.bounds {
            let values = changes.bounds.iter().map(|(start, end)| if *bound == Bound::Start { *start } else { *end });
            let values = TimestampMicrosecondArray::from_iter_values(values);
            let DataType::Timestamp(_, zone) = self.spec.output.field(columns.len()).data_type() else {
                return Err(Error::internal("a session's bound is no timestamp"));
            };
            columns.push(Arc::new(values.with_timezone_opt(zone.clone())) as ArrayRef);
        }
        let options = RecordBatchOptions::new().with_row_count(Some(changes.weights.len()));
        let rows =
            RecordBatch::try_new_with_options(self.spec.output.clone(), columns, &options).map_err(Error::internal)?;
        changes.bounds.clear();
        out.deltas.push(Delta::new(rows, Some(Int64Array::from(std::mem::take(&mut changes.weights)))));
        Ok(())
    }
}

impl Operator for Session {
    fn update(&mut self, _: Port, delta: Delta, _: &mut Output) -> Result<Step> {
        if !delta.is_empty() {
            self.rows.change(&delta.rows, delta.weights.as_ref())?;
        }
        Ok(Step::Done)
    }

    fn finish_epoch(&mut self, epoch: &EpochHeader, out: &mut Output) -> Result<Step> {
        self.rows.settle();
        let mut changes = Changes::default();
        for (key, places) in self.rows.touched() {
            let mut seen: Option<&Place> = None;
            for place in places {
                if seen.is_some_and(|last| place <= last) {
                    continue;
                }
                let rows = self.around(self.rows.rows(*key), place);
                let old = self.sessions(&rows, |entry| self.rows.before(entry));
                let new = self.sessions(&rows, Entry::count);
                seen = rows.last().map(|(place, _)| *place);
                for (row, (old, new)) in rows.into_iter().zip(old.into_iter().zip(new)) {
                    let (before, now) = (self.rows.before(row.1), row.1.count());
                    match old == new {
                        true => changes.add(row, new, now - before),
                        false => {
                            changes.add(row, old, -before);
                            changes.add(row, new, now);
                        }
                    }
                }
                if changes.rows.len() >= OUTPUT_ROWS {
                    self.emit(&mut changes, out)?;
                }
            }
        }
        self.emit(&mut changes, out)?;
        self.rows.finish_epoch()?;
        self.expire(epoch);
        Ok(Step::Done)
    }

    fn durable(&mut self) -> Vec<&mut dyn Durable> {
        vec![&mut self.rows]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::datatypes::{Field, Schema, TimeUnit};

    use crate::operators::check::{Checker, Disk};
    use crate::state::durable::Share;

    fn spec() -> SessionSpec {
        let time = |name: &str| Field::new(name, DataType::Timestamp(TimeUnit::Microsecond, None), true);
        let input = vec![Field::new("k", DataType::Utf8, true), time("ts")];
        let output = input.iter().cloned().chain([time("start"), time("end")]).collect::<Vec<_>>();
        SessionSpec {
            input: Arc::new(Schema::new(input)),
            key: vec![0],
            time: 1,
            gap_us: 10_000_000,
            bounds: vec![Bound::Start, Bound::End],
            output: Arc::new(Schema::new(output)),
            expiry: None,
        }
    }

    /// Rows of key k at these seconds, as text; with bounds where they are given.
    fn rows(lines: &[(i64, i64, Option<(i64, i64)>)]) -> String {
        let at = |s: i64| match s {
            ..0 => format!("1969-12-31T23:59:{:02}", 60 + s),
            _ => format!("1970-01-01T00:{:02}:{:02}", s / 60, s % 60),
        };
        let line = |(weight, ts, bounds): &(i64, i64, Option<(i64, i64)>)| {
            let bounds = bounds.map_or(String::new(), |(start, end)| format!(" | {} | {}", at(start), at(end)));
            format!("{weight:+} | k | {}{bounds}\n", at(*ts))
        };
        lines.iter().map(line).collect()
    }

    #[test]
    fn sessions_merge_and_split() {
        let mut checker = Checker::new(Session::new(spec()).unwrap(), &[spec().input]);
        let mut epoch = |changes: &[(i64, i64)], expected: &[(i64, i64, Option<(i64, i64)>)]| {
            let changes: Vec<_> = changes.iter().map(|(weight, ts)| (*weight, *ts, None)).collect();
            checker.epoch(&[(0, &rows(&changes))], &rows(expected));
        };
        epoch(&[(1, 0), (1, 15)], &[(1, 0, Some((0, 10))), (1, 15, Some((15, 25)))]);
        epoch(
            &[(1, 8)],
            &[
                (-1, 0, Some((0, 10))),
                (-1, 15, Some((15, 25))),
                (1, 0, Some((0, 25))),
                (1, 8, Some((0, 25))),
                (1, 15, Some((0, 25))),
            ],
        );
        // A second copy changes no session; exactly a gap later is another one.
        epoch(&[(1, 8), (1, 25)], &[(1, 8, Some((0, 25))), (1, 25, Some((25, 35)))]);
        epoch(&[(-1, 8)], &[(-1, 8, Some((0, 25)))]);
        epoch(
            &[(-1, 8), (1, -9)],
            &[
                (-1, 0, Some((0, 25))),
                (-1, 8, Some((0, 25))),
                (-1, 15, Some((0, 25))),
                (1, -9, Some((-9, 10))),
                (1, 0, Some((-9, 10))),
                (1, 15, Some((15, 25))),
            ],
        );
        epoch(&[(1, 40), (-1, 40)], &[]);
    }

    #[test]
    fn goes_on_from_a_checkpoint() {
        let mut checker = Checker::new(Session::new(spec()).unwrap(), &[spec().input]);
        let mut disk = Disk::default();
        checker.epoch(
            &[(0, &rows(&[(1, 0, None), (1, 5, None)]))],
            &rows(&[(1, 0, Some((0, 15))), (1, 5, Some((0, 15)))]),
        );
        disk.save(&mut checker.operator);
        checker.epoch(
            &[(0, &rows(&[(-1, 5, None)]))],
            &rows(&[(-1, 0, Some((0, 15))), (-1, 5, Some((0, 15))), (1, 0, Some((0, 10)))]),
        );
        disk.save(&mut checker.operator);
        let mut restored = Checker::new(Session::new(spec()).unwrap(), &[spec().input]);
        Disk::restore(&[disk], &mut restored.operator, Share::ALL);
        restored.epoch(
            &[(0, &rows(&[(1, 9, None)]))],
            &rows(&[(-1, 0, Some((0, 10))), (1, 0, Some((0, 19))), (1, 9, Some((0, 19)))]),
        );
    }
}
