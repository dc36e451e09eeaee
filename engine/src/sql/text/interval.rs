//! Intervals as Postgres reads and writes them: months, days and a time, each with its own sign.
//!
//! Written in `postgres` style: `1 year 2 mons 3 days 04:05:06.007`, `-1 days +02:03:00`, `00:00:00`.
//! Read: units in words and short forms (`1.5 days`, `3h`, `@ 1 month ago`), SQL (`1-2`, `3 4:05:06`), ISO
//! 8601 (`P1Y2M3DT4H5M6.7S`, `P0001-02-03T04:05:06`), a bare number as seconds. A fraction of a month is
//! days, of a day is time; of a longer unit it is whole months.

use arrow::datatypes::IntervalMonthDayNano;

use super::datetime::{parse_fraction, write_fraction};
use super::number::{write_i64, write_padded};
use crate::error::{Error, Result};

const SECOND_US: i64 = 1_000_000;
const HOUR_US: i64 = 3600 * SECOND_US;
const DAY_US: i64 = 24 * HOUR_US;

pub fn write_interval(v: IntervalMonthDayNano, out: &mut Vec<u8>) {
    let start = out.len();
    // A part after a negative one shows its plus.
    let mut negative_before = false;
    let mut part = |value: i32, unit: &str, out: &mut Vec<u8>| {
        if value == 0 {
            return;
        }
        if out.len() > start {
            out.push(b' ');
        }
        if negative_before && value > 0 {
            out.push(b'+');
        }
        write_i64(value as i64, out);
        out.push(b' ');
        out.extend_from_slice(unit.as_bytes());
        if value != 1 {
            out.push(b's');
        }
        negative_before = value < 0;
    };
    part(v.months / 12, "year", out);
    part(v.months % 12, "mon", out);
    part(v.days, "day", out);
    let us = v.nanoseconds / 1000;
    if us == 0 && out.len() > start {
        return;
    }
    if out.len() > start {
        out.push(b' ');
    }
    if us < 0 {
        out.push(b'-');
    } else if negative_before {
        out.push(b'+');
    }
    let us = us.unsigned_abs();
    let seconds = us / SECOND_US as u64;
    write_padded(seconds / 3600, 2, out);
    out.push(b':');
    write_padded(seconds / 60 % 60, 2, out);
    out.push(b':');
    write_padded(seconds % 60, 2, out);
    write_fraction(us % SECOND_US as u64, out);
}

#[derive(Debug, Default)]
struct Sum {
    months: i64,
    days: i64,
    us: i64,
    /// Units seen, one bit each: none may come twice.
    seen: u32,
}

enum Bad {
    Syntax,
    Range,
}

type Parsed<T> = std::result::Result<T, Bad>;

pub fn parse_interval(text: &str) -> Result<IntervalMonthDayNano> {
    parse_counting(text, "second")
}

/// The same; a bare number at the end counts `unit`.
pub fn parse_counting(text: &str, unit: &str) -> Result<IntervalMonthDayNano> {
    let lower = text.trim().to_ascii_lowercase();
    let parsed = match lower.strip_prefix('p') {
        Some(rest) => parse_iso(rest),
        None => parse_words(&joined_signs(&lower), unit),
    };
    parsed.and_then(|sum| sum.finish()).map_err(|bad| match bad {
        Bad::Syntax => Error::new("22007", format!("invalid input syntax for type interval: \"{text}\"")),
        Bad::Range => Error::new("22015", format!("interval field value out of range: \"{text}\"")),
    })
}

/// Without the blanks between a sign and its number.
fn joined_signs(text: &str) -> String {
    let mut joined = String::with_capacity(text.len());
    for c in text.chars() {
        if !(c.is_ascii_whitespace() && joined.ends_with(['+', '-'])) {
            joined.push(c);
        }
    }
    joined
}

/// A number as written: sign and whole part, and the fraction with the same sign.
#[derive(Clone, Copy)]
struct Number {
    whole: i64,
    fraction: f64,
}

fn parse_number(text: &str) -> Parsed<Number> {
    let (negative, body) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    let (whole, fraction) = body.split_once('.').unwrap_or((body, ""));
    if whole.len() + fraction.len() == 0 || !whole.bytes().chain(fraction.bytes()).all(|b| b.is_ascii_digit()) {
        return Err(Bad::Syntax);
    }
    let whole: i64 = if whole.is_empty() { 0 } else { whole.parse().map_err(|_| Bad::Range)? };
    let fraction: f64 =
        if fraction.is_empty() { 0.0 } else { format!("0.{fraction}").parse().map_err(|_| Bad::Syntax)? };
    let sign = if negative { -1 } else { 1 };
    Ok(Number { whole: whole * sign, fraction: fraction * sign as f64 })
}

#[derive(Clone, Copy, PartialEq)]
enum Unit {
    /// So many microseconds.
    Time(i64),
    Days(i64),
    Months(i64),
}

fn unit_of(word: &str) -> Option<(Unit, u32)> {
    use Unit::*;
    Some(match word {
        "us" | "usec" | "usecs" | "usecond" | "useconds" | "microsecond" | "microseconds" | "microsecon" => {
            (Time(1), 0)
        }
        "ms" | "msec" | "msecs" | "msecond" | "mseconds" | "millisecond" | "milliseconds" | "millisecon" => {
            (Time(1000), 1)
        }
        "s" | "sec" | "secs" | "second" | "seconds" => (Time(SECOND_US), 2),
        "m" | "min" | "mins" | "minute" | "minutes" => (Time(60 * SECOND_US), 3),
        "h" | "hr" | "hrs" | "hour" | "hours" => (Time(HOUR_US), 4),
        "d" | "day" | "days" => (Days(1), 5),
        "w" | "week" | "weeks" => (Days(7), 6),
        "mon" | "mons" | "month" | "months" => (Months(1), 7),
        "y" | "yr" | "yrs" | "year" | "years" => (Months(12), 8),
        "dec" | "decs" | "decade" | "decades" => (Months(120), 9),
        "c" | "cent" | "century" | "centuries" => (Months(1200), 10),
        "mil" | "mils" | "millennium" | "millennia" => (Months(12_000), 11),
        _ => return None,
    })
}

impl Sum {
    fn add(&mut self, n: Number, unit: Unit, bit: u32) -> Parsed<()> {
        if self.seen & (1 << bit) != 0 {
            return Err(Bad::Syntax);
        }
        self.seen |= 1 << bit;
        match unit {
            Unit::Time(scale) => {
                self.add_us(n.whole.checked_mul(scale).ok_or(Bad::Range)?)?;
                self.add_fraction_of_time(n.fraction, scale)
            }
            Unit::Days(scale) => {
                self.add_days(n.whole.checked_mul(scale).ok_or(Bad::Range)?)?;
                self.add_fraction_of_days(n.fraction * scale as f64)
            }
            Unit::Months(scale) => {
                self.add_months(n.whole.checked_mul(scale).ok_or(Bad::Range)?)?;
                if scale == 1 {
                    self.add_fraction_of_days(n.fraction * 30.0)
                } else {
                    self.add_months((n.fraction * (scale / 12) as f64 * 12.0).round_ties_even() as i64)
                }
            }
        }
    }
    fn add_us(&mut self, us: i64) -> Parsed<()> {
        self.us = self.us.checked_add(us).ok_or(Bad::Range)?;
        Ok(())
    }
    fn add_days(&mut self, days: i64) -> Parsed<()> {
        self.days = self.days.checked_add(days).ok_or(Bad::Range)?;
        Ok(())
    }
    fn add_months(&mut self, months: i64) -> Parsed<()> {
        self.months = self.months.checked_add(months).ok_or(Bad::Range)?;
        Ok(())
    }
    fn add_fraction_of_days(&mut self, days: f64) -> Parsed<()> {
        self.add_days(days.trunc() as i64)?;
        self.add_fraction_of_time(days.fract(), DAY_US)
    }
    fn add_fraction_of_time(&mut self, fraction: f64, scale: i64) -> Parsed<()> {
        let us = fraction * scale as f64;
        // Half a microsecond is none.
        let up = if us.fract().abs() > 0.5 { us.signum() as i64 } else { 0 };
        self.add_us(us.trunc() as i64 + up)
    }
    fn negate(&mut self) {
        self.months = -self.months;
        self.days = -self.days;
        self.us = -self.us;
    }
    fn finish(self) -> Parsed<IntervalMonthDayNano> {
        Ok(IntervalMonthDayNano {
            months: i32::try_from(self.months).map_err(|_| Bad::Range)?,
            days: i32::try_from(self.days).map_err(|_| Bad::Range)?,
            nanoseconds: self.us.checked_mul(1000).ok_or(Bad::Range)?,
        })
    }
    /// `[+-]h:mm[:ss[.fraction]]`, or `mm:ss.fraction`.
    fn add_clock(&mut self, text: &str) -> Parsed<()> {
        if self.seen & 0b11100 != 0 {
            return Err(Bad::Syntax);
        }
        self.seen |= 0b11100;
        let negative = text.starts_with('-');
        let fields: Vec<&str> = text.trim_start_matches(['+', '-']).split(':').collect();
        let (hour, minute, second) = match fields[..] {
            [m, s] if s.contains('.') => ("0", m, s),
            [h, m] => (h, m, "0"),
            [h, m, s] => (h, m, s),
            _ => return Err(Bad::Syntax),
        };
        let whole = |t: &str| t.parse::<i64>().map_err(|_| Bad::Syntax);
        let (second, fraction) = second.split_once('.').unwrap_or((second, ""));
        let (hour, minute, second) = (whole(hour)?, whole(minute)?, whole(second)?);
        if minute > 59 || second > 60 {
            return Err(Bad::Range);
        }
        let us = hour.checked_mul(HOUR_US).ok_or(Bad::Range)?
            + (minute * 60 + second) * SECOND_US
            + parse_fraction(fraction).ok_or(Bad::Syntax)?;
        self.add_us(if negative { -us } else { us })
    }
    /// `[+-]y-m`
    fn add_years_months(&mut self, text: &str) -> Parsed<()> {
        let negative = text.starts_with('-');
        let (years, months) = text.trim_start_matches(['+', '-']).split_once('-').ok_or(Bad::Syntax)?;
        let (years, months) = (parse_number(years)?.whole, parse_number(months)?.whole);
        if months > 11 {
            return Err(Bad::Range);
        }
        let total = years.checked_mul(12).ok_or(Bad::Range)? + months;
        self.add(Number { whole: if negative { -total } else { total }, fraction: 0.0 }, Unit::Months(1), 7)
    }
}

fn parse_words(text: &str, last_unit: &str) -> Parsed<Sum> {
    let mut sum = Sum::default();
    let mut rest = text.trim_start_matches(['@', ' ']);
    let mut empty = true;
    while !rest.is_empty() {
        let first = rest.chars().next().expect("not empty");
        if first.is_ascii_whitespace() {
            rest = &rest[1..];
            continue;
        }
        if rest == "ago" && !empty {
            sum.negate();
            return Ok(sum);
        }
        let sign = usize::from(matches!(first, '+' | '-'));
        let digits = |from: usize, extra: &[char]| {
            rest[from..].find(|c: char| !(c.is_ascii_digit() || extra.contains(&c))).map_or(rest.len(), |i| from + i)
        };
        let end = digits(sign, &['.']);
        if end == sign {
            return Err(Bad::Syntax);
        }
        empty = false;
        let next = rest[end..].chars().next();
        if next == Some(':') {
            let end = digits(sign, &['.', ':']);
            sum.add_clock(&rest[..end])?;
            rest = &rest[end..];
        } else if next == Some('-') && rest[end + 1..].starts_with(|c: char| c.is_ascii_digit()) {
            let end = digits(end + 1, &[]);
            sum.add_years_months(&rest[..end])?;
            rest = &rest[end..];
            // `2020-01-01` is a date.
            if rest.starts_with('-') {
                return Err(Bad::Syntax);
            }
        } else {
            let number = parse_number(&rest[..end])?;
            let after = rest[end..].trim_start();
            let word_end = after.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(after.len());
            let word = &after[..word_end];
            if word.is_empty() || word == "ago" {
                // Days before a time of day, seconds at the end, nothing else.
                let ends = after.is_empty() || word == "ago";
                if !(ends || after.contains(':')) {
                    return Err(Bad::Syntax);
                }
                let unit = if ends { last_unit } else { "day" };
                let (unit, bit) = unit_of(unit).ok_or(Bad::Syntax)?;
                sum.add(number, unit, bit)?;
                rest = after;
            } else {
                let (unit, bit) = unit_of(word).ok_or(Bad::Syntax)?;
                sum.add(number, unit, bit)?;
                rest = &after[word_end..];
            }
        }
    }
    if empty { Err(Bad::Syntax) } else { Ok(sum) }
}

/// What follows the P.
fn parse_iso(text: &str) -> Parsed<Sum> {
    let (date, time) = match text.split_once('t') {
        Some((date, time)) => (date, Some(time)),
        None => (text, None),
    };
    let mut sum = Sum::default();
    if date.is_empty() && time.is_none_or(str::is_empty) {
        return Err(Bad::Syntax);
    }
    let is_plain = |t: &str| !t.is_empty() && !t.contains(|c: char| c.is_ascii_alphabetic());
    if is_plain(date) {
        // The alternative form: yyyy-mm-dd or yyyymmdd.
        let fields: Vec<&str> = match date.contains('-') {
            true => date.split('-').collect(),
            false if date.len() == 8 => vec![&date[..4], &date[4..6], &date[6..]],
            false => return Err(Bad::Syntax),
        };
        for (field, (unit, bit)) in fields.iter().zip([(Unit::Months(12), 8), (Unit::Months(1), 7), (Unit::Days(1), 5)])
        {
            sum.add(parse_number(field)?, unit, bit)?;
        }
    } else {
        parse_designators(date, &mut sum, |c| match c {
            'y' => Some((Unit::Months(12), 8)),
            'm' => Some((Unit::Months(1), 7)),
            'w' => Some((Unit::Days(7), 6)),
            'd' => Some((Unit::Days(1), 5)),
            _ => None,
        })?;
    }
    match time {
        Some(time) if is_plain(time) => sum.add_clock(time)?,
        Some(time) => parse_designators(time, &mut sum, |c| match c {
            'h' => Some((Unit::Time(HOUR_US), 4)),
            'm' => Some((Unit::Time(60 * SECOND_US), 3)),
            's' => Some((Unit::Time(SECOND_US), 2)),
            _ => None,
        })?,
        None => {}
    }
    Ok(sum)
}

fn parse_designators(text: &str, sum: &mut Sum, unit: impl Fn(char) -> Option<(Unit, u32)>) -> Parsed<()> {
    let mut rest = text;
    while !rest.is_empty() {
        let end = rest.find(|c: char| c.is_ascii_alphabetic()).ok_or(Bad::Syntax)?;
        let (unit, bit) = unit(rest.as_bytes()[end] as char).ok_or(Bad::Syntax)?;
        sum.add(parse_number(&rest[..end])?, unit, bit)?;
        rest = &rest[end + 1..];
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round_trip(t: &str) -> Result<String> {
        let mut out = Vec::new();
        write_interval(parse_interval(t)?, &mut out);
        Ok(String::from_utf8(out).unwrap())
    }

    #[test]
    fn spellings_as_postgres_15_reads_them() {
        for (t, expected) in [
            ("1 year 2 mons 3 days 04:05:06.007", "1 year 2 mons 3 days 04:05:06.007"),
            ("1 year 2 months 3 days 4 hours 5 minutes 6 seconds", "1 year 2 mons 3 days 04:05:06"),
            ("-1 days -01:00:00", "-1 days -01:00:00"),
            ("-1 days +02:03", "-1 days +02:03:00"),
            ("-1 mons 2 days", "-1 mons +2 days"),
            ("@ 1 minute", "00:01:00"),
            ("@ 1 year 2 days ago", "-1 years -2 days"),
            ("1.5 days", "1 day 12:00:00"),
            ("1.5 months", "1 mon 15 days"),
            ("1.5 years", "1 year 6 mons"),
            ("1.5 weeks", "10 days 12:00:00"),
            ("3h", "03:00:00"),
            ("10", "00:00:10"),
            ("1.5", "00:00:01.5"),
            ("1-2", "1 year 2 mons"),
            ("-1-2", "-1 years -2 mons"),
            ("3 4:05:06", "3 days 04:05:06"),
            ("1-2 3 4:05:06", "1 year 2 mons 3 days 04:05:06"),
            ("12:34.5", "00:12:34.5"),
            ("100:00:00", "100:00:00"),
            ("P1Y2M3DT4H5M6.7S", "1 year 2 mons 3 days 04:05:06.7"),
            ("P0001-02-03T04:05:06", "1 year 2 mons 3 days 04:05:06"),
            ("P1W", "7 days"),
            ("PT36H", "36:00:00"),
            ("P-1DT1H", "-1 days +01:00:00"),
            ("1 century", "100 years"),
            ("5 ms", "00:00:00.005"),
            ("0", "00:00:00"),
            ("1 mon -1 day", "1 mon -1 days"),
            ("- 1 day", "-1 days"),
            ("0.0000005 seconds", "00:00:00"),
            ("0.99 years", "1 year"),
            ("0.0000015 s", "00:00:00.000001"),
        ] {
            assert_eq!(round_trip(t).as_deref(), Ok(expected), "{t}");
        }
        for t in ["", "x", "1 parsec", "1 day 2 days", "1 2", "day", "P", "P1", "1 day ago 2", "1e3 seconds"] {
            let e = round_trip(t).unwrap_err();
            assert_eq!((e.code, e.message), ("22007", format!("invalid input syntax for type interval: \"{t}\"")));
        }
        for t in ["3000000000 days", "1:60:00", "400 years 9223372036854775807 hours"] {
            assert_eq!(round_trip(t).unwrap_err().code, "22015", "{t}");
        }
    }
}
