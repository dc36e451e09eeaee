//! Functions of dates and times that are made of their parts.

use arrow::datatypes::IntervalMonthDayNano;
use datafusion::error::Result;

use super::Type::*;
use super::{Declared, Row, Value, fail, function, of};
use crate::sql::text::calendar::{Civil, days_from_civil, days_in_month};

/// Arithmetic of dates that may be infinite (`functions/arithmetic.rs`).
pub const DATE_ADD: &str = "mr_date_add";
pub const DATE_SUBTRACT: &str = "mr_date_subtract";
pub const DATE_DIFFERENCE: &str = "mr_date_difference";

pub fn all() -> Vec<Declared> {
    vec![
        function(DATE_ADD, &[of(&[Date, Integer], Date, |r| moved(r, 1))]),
        function(DATE_SUBTRACT, &[of(&[Date, Integer], Date, |r| moved(r, -1))]),
        function(DATE_DIFFERENCE, &[of(&[Date, Date], Integer, difference)]),
        function("make_date", &[of(&[Integer, Integer, Integer], Date, make_date)]),
        function(
            "make_time",
            &[of(&[Integer, Integer, Double], Time, |r| {
                let (hour, minute, second) = (r.integer(0), r.integer(1), r.double(2));
                let within = (0..=24).contains(&hour) && (0..60).contains(&minute) && (0.0..=60.0).contains(&second);
                let us = (hour * 60 + minute) * 60_000_000 + (second * 1e6).round_ties_even() as i64;
                match within && us <= 86_400_000_000 {
                    true => Ok(Value::Moment(us)),
                    false => fail("22008", format!("time field value out of range: {hour}:{minute:02}:{second:02}")),
                }
            })],
        ),
        function(
            "make_interval",
            &[of(&[Integer, Integer, Integer, Integer, Integer, Integer, Double], Interval, |r| {
                let part = |i: usize| r.integer_or(i, 0);
                let seconds = if r.len() > 6 { r.double(6) } else { 0.0 };
                let months = part(0) * 12 + part(1);
                let days = part(2) * 7 + part(3);
                let us =
                    (part(4) * 3600 + part(5) * 60) as i128 * 1_000_000 + (seconds * 1e6).round_ties_even() as i128;
                match (i32::try_from(months), i32::try_from(days), i64::try_from(us * 1000)) {
                    (Ok(months), Ok(days), Ok(ns)) if seconds.is_finite() => {
                        Ok(Value::Interval(IntervalMonthDayNano::new(months, days, ns)))
                    }
                    _ => fail("22008", "interval out of range"),
                }
            })
            .least(0)],
        ),
    ]
}

/// A date moved by days. Infinity stays where it is.
fn moved<'a>(r: &Row<'a>, sign: i64) -> Result<Value<'a>> {
    let date = r.date(0);
    let (first, last) = (
        days_from_civil(Civil { year: -4713, month: 11, day: 24 }),
        days_from_civil(Civil { year: 5_874_897, month: 12, day: 31 }),
    );
    match date {
        INFINITE | MINUS_INFINITE => Ok(Value::Moment(date)),
        _ => match date + sign * r.integer(1) {
            moved if (first..=last).contains(&moved) => Ok(Value::Moment(moved)),
            _ => fail("22008", "date out of range"),
        },
    }
}

const INFINITE: i64 = i32::MAX as i64;
const MINUS_INFINITE: i64 = i32::MIN as i64;

fn difference<'a>(r: &Row<'a>) -> Result<Value<'a>> {
    let (left, right) = (r.date(0), r.date(1));
    match [left, right].iter().any(|date| matches!(*date, INFINITE | MINUS_INFINITE)) {
        true => fail("22008", "cannot subtract infinite dates"),
        false => Ok((left - right).into()),
    }
}

fn make_date<'a>(r: &Row<'a>) -> Result<Value<'a>> {
    let (year, month, day) = (r.integer(0), r.integer(1), r.integer(2));
    // There is no year 0: −1 is 1 BC.
    let civil_year = if year < 0 { year + 1 } else { year };
    let valid = year != 0
        && (-4713..=5_874_897).contains(&civil_year)
        && (1..=12).contains(&month)
        && (1..=i64::from(days_in_month(civil_year, month as u32))).contains(&day);
    match valid {
        true => Ok(Value::Moment(days_from_civil(Civil { year: civil_year, month: month as u32, day: day as u32 }))),
        false => fail("22008", format!("date field value out of range: {year}-{month:02}-{day:02}")),
    }
}
