//! `generate_series` as an array, periods that overlap, and what ordered-set aggregates make of the array of their values.

use std::sync::Arc;

use arrow::array::{
    Array as _, ArrayRef, AsArray, Decimal128Array, Float64Array, Int32Array, Int64Array, TimestampMicrosecondArray,
    UInt32Array, make_comparator,
};
use arrow::compute::SortOptions;
use arrow::datatypes::{DataType, Date32Type, Float64Type, IntervalMonthDayNano, TimeUnit};
use datafusion::error::Result;

use super::Type::*;
use super::{Declared, Row, Value, fail, function, of};
use crate::sql::bounds::check_value;
use crate::sql::functions::order_key;
use crate::sql::text::Zone;
use crate::sql::text::calendar::{Civil, DAY_US, civil_from_days, days_from_civil, days_in_month};
use crate::sql::types::UTC;

pub fn all() -> Vec<Declared> {
    vec![
        function(
            "mr_series",
            &[
                of(&[Integer, Integer, Integer], Array("integer"), |r| {
                    let numbers = numbers(r.integer(0).into(), r.integer(1).into(), r.integer_or(2, 1).into())?;
                    Ok(Value::Items(Arc::new(numbers.into_iter().map(|v| v as i32).collect::<Int32Array>())))
                })
                .least(2),
                of(&[Bigint, Bigint, Bigint], Array("bigint"), |r| {
                    let numbers = numbers(r.integer(0).into(), r.integer(1).into(), r.integer_or(2, 1).into())?;
                    Ok(Value::Items(Arc::new(numbers.into_iter().map(|v| v as i64).collect::<Int64Array>())))
                })
                .least(2),
                of(&[Numeric, Numeric, Numeric], Array("numeric"), |r| {
                    let scale = crate::sql::types::NUMERIC_SCALE_DEFAULT;
                    let at = |i: usize| {
                        let (value, own) = r.numeric(i);
                        match scale - own {
                            up @ 0.. => value.checked_mul(10i128.pow(up as u32)),
                            down => Some(value / 10i128.pow(down.unsigned_abs().into())),
                        }
                    };
                    let step = if r.len() > 2 { at(2) } else { Some(10i128.pow(scale as u32)) };
                    let (Some(from), Some(to), Some(step)) = (at(0), at(1), step) else {
                        return fail("22003", "numeric field overflow");
                    };
                    let numbers = Decimal128Array::from(numbers(from, to, step)?);
                    Ok(Value::Items(Arc::new(numbers.with_precision_and_scale(38, scale)?)))
                })
                .least(2),
                // Of dates it is one of timestamps with time zone.
                of(&[Date, Date, Interval], Array("timestamptz"), |r| {
                    let midnight = |i: usize| {
                        let local = i64::from(r.arrays[i].as_primitive::<Date32Type>().value(r.place(i))) * DAY_US;
                        local - i64::from(r.style.zone.offset_at_local(local)) * 1_000_000
                    };
                    moments(r, midnight(0), midnight(1), Some(r.style.zone))
                }),
                of(&[Timestamp, Timestamp, Interval], Array("timestamp"), |r| {
                    moments(r, r.micros(0), r.micros(1), None)
                }),
                of(&[Timestamptz, Timestamptz, Interval], Array("timestamptz"), |r| {
                    moments(r, r.micros(0), r.micros(1), Some(r.style.zone))
                }),
            ],
        ),
        function(
            "overlaps",
            &[
                of(&[Timestamp, Timestamp, Timestamp, Timestamp], Boolean, overlaps).nullable(),
                of(&[Timestamptz, Timestamptz, Timestamptz, Timestamptz], Boolean, overlaps).nullable(),
                of(&[Time, Time, Time, Time], Boolean, overlaps).nullable(),
                of(&[Timestamp, Interval, Timestamp, Interval], Boolean, overlaps).nullable(),
                of(&[Timestamptz, Interval, Timestamptz, Interval], Boolean, overlaps).nullable(),
                of(&[Timestamp, Timestamp, Timestamp, Interval], Boolean, overlaps).nullable(),
                of(&[Timestamptz, Timestamptz, Timestamptz, Interval], Boolean, overlaps).nullable(),
                of(&[Timestamp, Interval, Timestamp, Timestamp], Boolean, overlaps).nullable(),
                of(&[Timestamptz, Interval, Timestamptz, Timestamptz], Boolean, overlaps).nullable(),
            ],
        ),
        // timestamptz + interval.
        function(
            "mr_move",
            &[of(&[Timestamptz, Interval], Timestamptz, |r| match r.micros(0) {
                infinite @ (i64::MAX | i64::MIN) => Ok(Value::Moment(infinite)),
                at => match plus(at, r.interval(1), Some(r.style.zone)) {
                    Some(moved) => Ok(Value::Moment(moved)),
                    None => fail("22008", "timestamp out of range"),
                },
            })],
        ),
        function(
            "mr_percentile_cont",
            &[
                of(&[Array("double precision"), Double], Double, |r| {
                    Ok(between(&in_order(r), r.double(1))?.map_or(Value::Null, Value::Double))
                }),
                of(&[Array("double precision"), Array("double precision")], Array("double precision"), |r| {
                    let values = in_order(r);
                    if values.is_empty() {
                        return Ok(Value::Null);
                    }
                    let fractions = r.items(1);
                    let fractions = fractions.as_primitive::<Float64Type>().iter();
                    let found =
                        fractions.map(|fraction| fraction.map_or(Ok(None), |fraction| between(&values, fraction)));
                    Ok(Value::Items(Arc::new(found.collect::<Result<Float64Array>>()?)))
                }),
            ],
        ),
        // Of the values in order the most frequent; of several the first.
        function(
            "mr_mode",
            &[of(&[AnyArray], ElementOf(0), |r| {
                let items = r.items(0);
                let keys = order_key::of_items(&items, &r.fields[0])?.unwrap_or_else(|| items.clone());
                let same = make_comparator(&keys, &keys, SortOptions::default())?;
                let (mut best, mut most, mut start) = (None, 0, 0);
                for i in (0..items.len()).filter(|i| items.is_valid(*i)) {
                    if !items.is_valid(start) || same(start, i).is_ne() {
                        start = i;
                    }
                    if i + 1 - start > most {
                        (best, most) = (Some(start), i + 1 - start);
                    }
                }
                Ok(best.map_or(Value::Null, |at| Value::Items(items.slice(at, 1))))
            })],
        ),
        function(
            "mr_percentile_disc",
            &[
                of(&[AnyArray, Double], ElementOf(0), |r| {
                    let items = r.items(0);
                    let at = first_at(&items, r.double(1))?;
                    Ok(at.map_or(Value::Null, |at| Value::Items(items.slice(at as usize, 1))))
                }),
                of(&[AnyArray, Array("double precision")], SameAs(0), |r| {
                    let (items, fractions) = (r.items(0), r.items(1));
                    if items.null_count() == items.len() {
                        return Ok(Value::Null);
                    }
                    let fractions = fractions.as_primitive::<Float64Type>().iter();
                    let found = fractions.map(|fraction| fraction.map_or(Ok(None), |f| first_at(&items, f)));
                    let found = found.collect::<Result<UInt32Array>>()?;
                    Ok(Value::Items(arrow::compute::take(&items, &found, None)?))
                }),
            ],
        ),
    ]
}

/// The values that are there, which come in order.
fn in_order(r: &Row) -> Vec<f64> {
    r.items(0).as_primitive::<Float64Type>().iter().flatten().collect()
}

/// Where in the values in order the first is that has a fraction of them up to it.
fn first_at(items: &ArrayRef, fraction: f64) -> Result<Option<u32>> {
    check_fraction(fraction)?;
    let valid: Vec<usize> = (0..items.len()).filter(|i| items.is_valid(*i)).collect();
    let nth = (fraction * valid.len() as f64).ceil() as usize;
    Ok(valid.get(nth.max(1) - 1).map(|at| *at as u32))
}

fn check_fraction(fraction: f64) -> Result<()> {
    match (0.0..=1.0).contains(&fraction) {
        true => Ok(()),
        false => fail("22003", format!("percentile value {fraction} is not between 0 and 1")),
    }
}

/// What lies at a fraction of the way through them, between its two neighbours.
fn between(values: &[f64], fraction: f64) -> Result<Option<f64>> {
    check_fraction(fraction)?;
    let Some(last) = values.len().checked_sub(1) else { return Ok(None) };
    let place = fraction * last as f64;
    let (low, high) = (values[place.floor() as usize], values[place.ceil() as usize]);
    Ok(Some(if low == high { low } else { low + (place - place.floor()) * (high - low) }))
}

/// As many items as an array of a series has.
const ITEMS_MAX: usize = 10_000_000;

fn too_many<T>() -> Result<T> {
    fail("54000", format!("a series of more than {ITEMS_MAX} values is not supported here"))
}

fn numbers(from: i128, to: i128, step: i128) -> Result<Vec<i128>> {
    if step == 0 {
        return fail("22023", "step size cannot equal zero");
    }
    let count = if (step > 0) == (to >= from) || to == from { (to - from) / step + 1 } else { 0 };
    match count > ITEMS_MAX as i128 {
        true => too_many(),
        false => {
            check_value(count.max(0) as usize * size_of::<i128>())?;
            Ok((0..count.max(0)).map(|i| from + i * step).collect())
        }
    }
}

fn moments<'a>(r: &Row<'a>, from: i64, to: i64, zone: Option<Zone>) -> Result<Value<'a>> {
    let (mut at, step) = (from, r.interval(2));
    // A month counts 30 days here.
    let length = (i128::from(step.months) * 30 + i128::from(step.days)) * i128::from(DAY_US) * 1000
        + i128::from(step.nanoseconds);
    if length == 0 {
        return fail("22023", "step size cannot equal zero");
    }
    let mut items = Vec::new();
    while if length > 0 { at <= to } else { at >= to } {
        if items.len() == ITEMS_MAX {
            return too_many();
        }
        items.push(at);
        at = match plus(at, step, zone) {
            Some(next) => next,
            None => return fail("22008", "timestamp out of range"),
        };
    }
    let items = TimestampMicrosecondArray::from(items);
    let data_type = DataType::Timestamp(TimeUnit::Microsecond, zone.map(|_| UTC.into()));
    Ok(Value::Items(Arc::new(items.with_data_type(data_type)) as ArrayRef))
}

/// A moment moved by months, then days, then a time: months and days by the clock of a zone.
pub fn plus(us: i64, by: IntervalMonthDayNano, zone: Option<Zone>) -> Option<i64> {
    let offset = |us: i64| zone.map_or(0, |zone| i64::from(zone.offset_at(us)) * 1_000_000);
    let mut at = us;
    if by.months != 0 || by.days != 0 {
        let local = us.checked_add(offset(us))?;
        let (mut day, time) = (local.div_euclid(DAY_US), local.rem_euclid(DAY_US));
        if by.months != 0 {
            let civil = civil_from_days(day);
            let months = civil.year * 12 + i64::from(civil.month) - 1 + i64::from(by.months);
            let (year, month) = (months.div_euclid(12), months.rem_euclid(12) as u32 + 1);
            day = days_from_civil(Civil { year, month, day: civil.day.min(days_in_month(year, month)) });
        }
        let local = (day + i64::from(by.days)).checked_mul(DAY_US)?.checked_add(time)?;
        at = local.checked_sub(zone.map_or(0, |zone| i64::from(zone.offset_at_local(local)) * 1_000_000))?;
    }
    at.checked_add(by.nanoseconds / 1000)
}

/// Of two periods, each from its earlier to its later end, which is not in it unless it is the only moment. A NULL end
/// leaves open what it decides.
fn overlaps<'a>(r: &Row<'a>) -> Result<Value<'a>> {
    let zone = matches!(r.arrays[0].data_type(), DataType::Timestamp(_, Some(_))).then_some(r.style.zone);
    let at = |i: usize| -> Option<i64> {
        match r.is_null(i) || matches!(r.arrays[i].data_type(), DataType::Interval(_)) && r.is_null(i - 1) {
            true => None,
            false if matches!(r.arrays[i].data_type(), DataType::Interval(_)) => match r.micros(i - 1) {
                infinite @ (i64::MAX | i64::MIN) => Some(infinite),
                start => plus(start, r.interval(i), zone),
            },
            false => Some(r.micros(i)),
        }
    };
    // A period with one known end begins there.
    let period = |start: Option<i64>, end: Option<i64>| match (start, end) {
        (Some(a), Some(b)) => Some((a.min(b), Some(a.max(b)))),
        (Some(a), None) | (None, Some(a)) => Some((a, None)),
        (None, None) => None,
    };
    let (Some(first), Some(second)) = (period(at(0), at(1)), period(at(2), at(3))) else { return Ok(Value::Null) };
    let (first, second) = if first.0 <= second.0 { (first, second) } else { (second, first) };
    Ok(match (first.0 == second.0, first.1) {
        (true, end) => match (end, second.1) {
            (Some(_), Some(_)) => true.into(),
            _ => Value::Null,
        },
        (false, Some(end)) if second.0 < end => true.into(),
        (false, Some(_)) if second.1.is_some() => false.into(),
        (false, _) => Value::Null,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series() {
        assert_eq!(numbers(1, 6, 2).unwrap(), [1, 3, 5]);
        assert_eq!(numbers(3, 1, -1).unwrap(), [3, 2, 1]);
        assert!(numbers(3, 1, 1).unwrap().is_empty());
        assert!(numbers(1, 1_000_000_000_000, 1).is_err());
    }

    #[test]
    fn months_end_where_they_end() {
        let at = |year, month, day| days_from_civil(Civil { year, month, day }) * DAY_US;
        assert_eq!(plus(at(2024, 1, 31), IntervalMonthDayNano::new(1, 0, 0), None), Some(at(2024, 2, 29)));
    }
}
