//! ASOF join: each left row meets the right row of its key that is nearest in an order.
//!
//! ```text
//!   left.ts >= right.ts
//!   in, epoch 1   left   +1 | k | 10       out   +1 | k | 10 | 5 | a
//!                 right  +1 | k | 5 | a
//!   in, epoch 2   right  +1 | k | 8 | b    out   -1 | k | 10 | 5 | a
//!                                                +1 | k | 10 | 8 | b
//! ```
//!
//! Formula: out = −meets(E−1) + meets(E) of the left rows that changed, and of those that a changed right row is or was
//! nearest to: from it to the next right row that was there and stays.
//!
//! State: both sides, in order per key. Cost: a search per changed row and per left row that it affects.
//!
//! A row without a key or an order meets nothing and is not kept.

use std::collections::BTreeSet;
use std::ops::Bound;

use arrow::array::{Array, ArrayRef, Int64Array, RecordBatch, RecordBatchOptions, UInt32Array, new_null_array};
use arrow::datatypes::SchemaRef;

use super::expiry::{EXPIRY_BYTES_MIN, Expiry};
use super::{Operator, Output, Port, Step};
use crate::delta::Delta;
use crate::error::{Error, Result};
use crate::state::durable::Durable;
use crate::state::ordered_rows::{Entry, OrderedRows, Place, Rows, number_of};
use crate::time::{EpochHeader, TimeBound};

/// Output batches have about this many rows.
const OUTPUT_ROWS: usize = 8192;

#[derive(Debug, Clone, PartialEq)]
pub struct AsOfSpec {
    pub sides: [AsOfSide; 2],
    /// The nearest right row lies before the left one in the order, or after it.
    pub back: bool,
    /// Or at the same place.
    pub takes_equal: bool,
    /// Left rows that meet nothing are kept.
    pub outer: bool,
    pub output: SchemaRef,
    /// Left rows before it change no more, and of the right ones only the last one before it is still met; its column is
    /// the left one's order.
    pub expiry: Option<TimeBound>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct AsOfSide {
    pub schema: SchemaRef,
    pub key: Vec<usize>,
    pub order: usize,
    /// The first columns, which go into the output.
    pub width: usize,
}

pub struct AsOf {
    spec: AsOfSpec,
    sides: [OrderedRows; 2],
    expiry: Option<Expiry>,
}

type Row<'a> = (&'a Place, &'a Entry);

/// Lines of the result that have come or gone.
#[derive(Default)]
struct Changes<'a> {
    left: Vec<Row<'a>>,
    right: Vec<Option<Row<'a>>>,
    weights: Vec<i64>,
}

impl AsOf {
    pub fn new(spec: AsOfSpec) -> Result<AsOf> {
        let side = |port: usize| {
            let side = &spec.sides[port];
            OrderedRows::new(&side.schema, &side.key, side.order)
        };
        let expiry = spec.expiry.as_ref().map(|bound| Expiry::new(bound, EXPIRY_BYTES_MIN));
        Ok(AsOf { sides: [side(0)?, side(1)?], spec, expiry })
    }

    fn expire(&mut self, epoch: &EpochHeader) {
        let Some(expiry) = &mut self.expiry else { return };
        let size = self.sides[0].bytes() + self.sides[1].bytes();
        let Some(before) = expiry.due(epoch, size) else { return };
        let earlier = |rows: &Rows| -> Vec<Place> {
            rows.keys().take_while(|place| number_of(place) < before).cloned().collect()
        };
        self.sides[0].forget(earlier);
        self.sides[1].forget(|rows| {
            let mut gone = earlier(rows);
            gone.pop();
            gone
        });
        expiry.swept(self.sides[0].bytes() + self.sides[1].bytes());
    }

    /// Where in the order of the right side the rows begin that a left row looks at or, going back, end.
    fn cut(&self, left: Row<'_>) -> Vec<u8> {
        let order = left.1.order(left.0);
        // Before the right rows with its own order, or behind them.
        if self.spec.back == self.spec.takes_equal { after(order) } else { order.to_vec() }
    }

    /// Where in the order of the left side those rows begin that are behind a right row or, going back, end: those that
    /// are before it.
    fn reach(&self, right: Row<'_>) -> Vec<u8> {
        let order = right.1.order(right.0);
        if self.spec.back == self.spec.takes_equal { order.to_vec() } else { after(order) }
    }

    /// The left rows of a key that may meet another row than before, in order.
    fn affected<'a>(&'a self, left: u32, right: Option<u32>) -> BTreeSet<&'a Place> {
        let [lefts, rights] = &self.sides;
        let mut affected: BTreeSet<&Place> = BTreeSet::new();
        if let Some(places) = lefts.touched_of(left) {
            let rows = lefts.rows(left);
            affected.extend(places.iter().map(|place| rows.get_key_value(place).expect("touched rows are there").0));
        }
        let Some((rights_rows, places)) = right.and_then(|r| Some((rights.rows(r), rights.touched_of(r)?))) else {
            return affected;
        };
        let changed = places.iter().filter(|place| {
            let entry = &rights_rows[*place];
            (rights.before(entry) > 0) != (entry.count() > 0)
        });
        let stays = |(_, entry): &Row<'_>| rights.before(entry) > 0 && entry.count() > 0;
        let rows = lefts.rows(left);
        let changed: Vec<&Place> = if self.spec.back { changed.collect() } else { changed.rev().collect() };
        // The row that ended the last search: what changed on this side of it has been looked at.
        let mut end: Option<Option<&Place>> = None;
        for place in changed {
            let seen = match end {
                None => false,
                Some(None) => true,
                Some(Some(end)) => {
                    if self.spec.back {
                        place < end
                    } else {
                        place > end
                    }
                }
            };
            if seen {
                continue;
            }
            let own = self.reach((place, &rights_rows[place]));
            let next = match self.spec.back {
                true => rights_rows.range::<Place, _>(place..).find(stays),
                false => rights_rows.range::<Place, _>(..place).rev().find(stays),
            };
            end = Some(next.map(|(place, _)| place));
            let other = next.map(|next| self.reach(next));
            let (from, to) = if self.spec.back { (Some(own), other) } else { (other, Some(own)) };
            if let (Some(from), Some(to)) = (&from, &to)
                && from >= to
            {
                continue;
            }
            let from = from.as_deref().map_or(Bound::Unbounded, Bound::Included);
            let to = to.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
            affected.extend(rows.range::<[u8], _>((from, to)).map(|(place, _)| place));
        }
        affected
    }

    /// What each of these left rows meets, where only the right rows with a count are there. `lefts`: in order.
    fn meets<'a>(
        &'a self,
        lefts: &[Row<'_>],
        rights: Option<&'a Rows>,
        count: impl Fn(&Entry) -> i64,
    ) -> Vec<Option<Row<'a>>> {
        let mut found: Vec<Option<Row<'a>>> = vec![None; lefts.len()];
        let Some(rights) = rights else { return found };
        // Rows are passed over once: behind the last left row's cut lies what it met.
        let (mut last, mut met) = (None::<Vec<u8>>, None);
        let mut step = |i: usize| {
            let cut = self.cut(lefts[i]);
            let passed = last.as_deref();
            let near = match self.spec.back {
                true => {
                    let from = passed.map_or(Bound::Unbounded, Bound::Included);
                    rights.range::<[u8], _>((from, Bound::Excluded(&cut[..]))).rev().find(|(_, e)| count(e) > 0)
                }
                false => {
                    let to = passed.map_or(Bound::Unbounded, Bound::Excluded);
                    rights.range::<[u8], _>((Bound::Included(&cut[..]), to)).find(|(_, e)| count(e) > 0)
                }
            };
            met = near.or(met);
            found[i] = met;
            last = Some(cut);
        };
        match self.spec.back {
            true => (0..lefts.len()).for_each(&mut step),
            false => (0..lefts.len()).rev().for_each(&mut step),
        }
        found
    }

    fn emit(&self, changes: &mut Changes<'_>, out: &mut Output) -> Result<()> {
        if changes.left.is_empty() {
            return Ok(());
        }
        let [left, right] = &self.sides;
        let mut columns = left.decode(changes.left.drain(..))?;
        columns.truncate(self.spec.sides[0].width);
        let mut met = 0u32;
        let at = changes.right.iter().map(|row| {
            row.map(|_| {
                met += 1;
                met - 1
            })
        });
        let at: UInt32Array = at.collect();
        let rights = right.decode(changes.right.drain(..).flatten())?;
        for column in &rights[..self.spec.sides[1].width] {
            columns.push(arrow::compute::take(column, &at, None).map_err(Error::internal)?);
        }
        let weights = Int64Array::from(std::mem::take(&mut changes.weights));
        out.deltas.push(Delta::new(self.batch(columns, weights.len())?, Some(weights)));
        Ok(())
    }

    fn batch(&self, columns: Vec<ArrayRef>, rows: usize) -> Result<RecordBatch> {
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        RecordBatch::try_new_with_options(self.spec.output.clone(), columns, &options).map_err(Error::internal)
    }
}

/// The least bytes behind all that begin with these.
fn after(prefix: &[u8]) -> Vec<u8> {
    let mut bytes = prefix.to_vec();
    while let Some(last) = bytes.pop() {
        if last < u8::MAX {
            bytes.push(last + 1);
            break;
        }
    }
    bytes
}

impl Operator for AsOf {
    fn update(&mut self, port: Port, delta: Delta, out: &mut Output) -> Result<Step> {
        let side = &self.spec.sides[port];
        let known = |row: usize| side.key.iter().chain([&side.order]).all(|&c| delta.rows.column(c).is_valid(row));
        let (with, without): (Vec<u32>, Vec<u32>) = (0..delta.len() as u32).partition(|&row| known(row as usize));
        if port == 0 && self.spec.outer && !without.is_empty() {
            let alone = delta.take(&without.into());
            let mut columns = alone.rows.columns()[..side.width].to_vec();
            let fields = self.spec.output.fields();
            columns.extend(fields[side.width..].iter().map(|f| new_null_array(f.data_type(), alone.len())));
            out.deltas.push(alone.with_columns(self.spec.output.clone(), columns));
        }
        if !with.is_empty() {
            let delta = if with.len() == delta.len() { delta } else { delta.take(&with.into()) };
            self.sides[port].change(&delta.rows, delta.weights.as_ref())?;
        }
        Ok(Step::Done)
    }

    fn finish_epoch(&mut self, epoch: &EpochHeader, out: &mut Output) -> Result<Step> {
        self.sides.iter_mut().for_each(OrderedRows::settle);
        let [left, right] = &self.sides;
        // The touched keys, as they are known on each side.
        let of_left: Vec<u32> = left.touched().iter().map(|(key, _)| *key).collect();
        let of_right: Vec<u32> = right.touched().iter().map(|(key, _)| *key).collect();
        let mut keys: BTreeSet<(u32, Option<u32>)> = BTreeSet::new();
        keys.extend(of_left.iter().copied().zip(right.ids_of(left, &of_left)));
        keys.extend(left.ids_of(right, &of_right).into_iter().zip(&of_right).filter_map(|(l, r)| Some((l?, Some(*r)))));

        let mut changes = Changes::default();
        for (key, of_right) in keys {
            let rows = left.rows(key);
            let affected = self.affected(key, of_right);
            let affected: Vec<Row<'_>> = affected.into_iter().map(|place| (place, &rows[place])).collect();
            let rights = of_right.map(|key| right.rows(key));
            let old = self.meets(&affected, rights, |entry| right.before(entry));
            let new = self.meets(&affected, rights, Entry::count);
            for ((row, old), new) in affected.into_iter().zip(old).zip(new) {
                let (before, now) = (left.before(row.1), row.1.count());
                let same = old.map(|(place, _)| place) == new.map(|(place, _)| place);
                let lines = if same { [(None, 0), (new, now - before)] } else { [(old, -before), (new, now)] };
                for (met, weight) in lines {
                    if weight != 0 && (met.is_some() || self.spec.outer) {
                        changes.left.push(row);
                        changes.right.push(met);
                        changes.weights.push(weight);
                    }
                }
            }
            if changes.left.len() >= OUTPUT_ROWS {
                self.emit(&mut changes, out)?;
            }
        }
        self.emit(&mut changes, out)?;
        self.sides.iter_mut().try_for_each(OrderedRows::finish_epoch)?;
        self.expire(epoch);
        Ok(Step::Done)
    }

    fn durable(&mut self) -> Vec<&mut dyn Durable> {
        self.sides.iter_mut().map(|side| side as &mut dyn Durable).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use arrow::datatypes::{DataType, Field, Schema};

    use crate::operators::check::{Checker, Disk};
    use crate::state::durable::Share;

    fn schema() -> SchemaRef {
        Arc::new(Schema::new(["k", "t", "v"].map(|name| Field::new(name, DataType::Int64, true)).to_vec()))
    }

    fn spec(back: bool, takes_equal: bool, outer: bool) -> AsOfSpec {
        let side = AsOfSide { schema: schema(), key: vec![0], order: 1, width: 3 };
        let output = ["k", "t", "v", "rk", "rt", "rv"].map(|name| Field::new(name, DataType::Int64, true));
        let output = Arc::new(Schema::new(output.to_vec()));
        AsOfSpec { sides: [side.clone(), side], back, takes_equal, outer, output, expiry: None }
    }

    fn checker(back: bool, takes_equal: bool, outer: bool) -> Checker<AsOf> {
        Checker::new(AsOf::new(spec(back, takes_equal, outer)).unwrap(), &[schema(), schema()])
    }

    #[test]
    fn the_last_one_not_after() {
        let mut join = checker(true, true, false);
        join.epoch(&[(0, "+1 | 1 | 10 | 0\n+1 | 1 | 20 | 0")], "");
        join.epoch(&[(1, "+1 | 1 | 5 | 1")], "+1 | 1 | 10 | 0 | 1 | 5 | 1\n+1 | 1 | 20 | 0 | 1 | 5 | 1");
        // Only what comes between.
        join.epoch(
            &[(1, "+1 | 1 | 12 | 2\n+1 | 2 | 1 | 9")],
            "-1 | 1 | 20 | 0 | 1 | 5 | 1\n+1 | 1 | 20 | 0 | 1 | 12 | 2",
        );
        // Ties go to the last in the order of the whole row; a copy changes nothing.
        join.epoch(&[(1, "+1 | 1 | 12 | 1\n+1 | 1 | 12 | 2")], "");
        join.epoch(&[(1, "-2 | 1 | 12 | 2")], "-1 | 1 | 20 | 0 | 1 | 12 | 2\n+1 | 1 | 20 | 0 | 1 | 12 | 1");
        join.epoch(
            &[(1, "-1 | 1 | 12 | 1\n-1 | 1 | 5 | 1"), (0, "+1 | 1 | 10 | 0")],
            "-1 | 1 | 10 | 0 | 1 | 5 | 1\n-1 | 1 | 20 | 0 | 1 | 12 | 1",
        );
        join.epoch(&[(1, "+1 | 1 | 10 | 3"), (0, "-1 | 1 | 20 | 0")], "+2 | 1 | 10 | 0 | 1 | 10 | 3");
    }

    #[test]
    fn the_other_comparisons() {
        let left = (0, "+1 | 1 | 5 | 0\n+1 | 1 | 7 | 0\n+1 | NULL | 7 | 0\n+1 | 1 | NULL | 0");
        let right = (1, "+1 | 1 | 5 | 1\n+1 | 1 | 5 | 2\n+1 | 1 | 8 | 3\n+1 | 1 | NULL | 4");
        let nothing = "+1 | NULL | 7 | 0 | NULL | NULL | NULL\n+1 | 1 | NULL | 0 | NULL | NULL | NULL\n";
        for (back, takes_equal, five, seven) in [
            (true, true, "1 | 5 | 2", "1 | 5 | 2"),
            (true, false, "NULL | NULL | NULL", "1 | 5 | 2"),
            (false, true, "1 | 5 | 1", "1 | 8 | 3"),
            (false, false, "1 | 8 | 3", "1 | 8 | 3"),
        ] {
            let expected = format!("{nothing}+1 | 1 | 5 | 0 | {five}\n+1 | 1 | 7 | 0 | {seven}");
            checker(back, takes_equal, true).epoch(&[left, right], &expected);
            // In epochs of their own, the right rows one by one.
            let mut join = checker(back, takes_equal, true);
            let mut sum = join.run(vec![(0, crate::delta::text::parse(&schema(), left.1))]).deltas;
            for line in right.1.lines() {
                sum.extend(join.run(vec![(1, crate::delta::text::parse(&schema(), line))]).deltas);
            }
            let text = crate::delta::text::format(&crate::delta::consolidate::consolidate(&sum));
            let (mut lines, mut wanted): (Vec<&str>, Vec<&str>) = (text.lines().collect(), expected.lines().collect());
            lines.sort();
            wanted.sort();
            assert_eq!(lines, wanted, "back {back}, takes equal {takes_equal}");
        }
    }

    #[test]
    fn goes_on_from_a_checkpoint() {
        let mut join = checker(true, true, true);
        let mut disk = Disk::default();
        join.epoch(&[(0, "+1 | 1 | 10 | 0"), (1, "+1 | 1 | 5 | 1")], "+1 | 1 | 10 | 0 | 1 | 5 | 1");
        disk.save(&mut join.operator);
        let mut restored = checker(true, true, true);
        Disk::restore(&[disk], &mut restored.operator, Share::ALL);
        restored.epoch(&[(1, "-1 | 1 | 5 | 1")], "-1 | 1 | 10 | 0 | 1 | 5 | 1\n+1 | 1 | 10 | 0 | NULL | NULL | NULL");
    }
}
