//! Intervals that are written out in a statement: months, days and microseconds, each with its own sign.
//!
//! ```text
//!   '1 day 02:03:04.5'   '5 minutes'   '-1 mon'   '1.5 hours'   '1-2'   '@ 3 days ago'   'P1DT2H'   '10' SECOND
//! ```
//!
//! The text is read as that of any interval (`text/interval.rs`). The fields after it say what a bare number counts and
//! what is cut off: `'1.5' DAY` is a day.

use crate::error::Result;
use crate::sql::text::interval::parse_counting;

pub const DAY_US: i64 = 86_400_000_000;
const HOUR_US: i64 = 3_600_000_000;
const MINUTE_US: i64 = 60_000_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Interval {
    pub months: i32,
    pub days: i32,
    pub microseconds: i64,
}

/// What stands after a literal: `DAY TO SECOND (3)`.
#[derive(Debug, Clone, Default)]
pub struct Fields {
    /// Singular words in lower case; without a range both are the same.
    pub first: String,
    pub last: String,
    /// Digits of a second.
    pub precision: Option<u64>,
}

impl Interval {
    pub fn negated(&self) -> Interval {
        Interval { months: -self.months, days: -self.days, microseconds: -self.microseconds }
    }

    /// With so many digits after the second.
    pub fn rounded(&self, digits: u64) -> Interval {
        let unit = 10i64.pow(6u64.saturating_sub(digits) as u32);
        let half = self.microseconds.signum() * (unit / 2);
        Interval { microseconds: self.microseconds.saturating_add(half) / unit * unit, ..*self }
    }

    /// Its length in microseconds, a day being 24 hours; `None` when it has months or is out of range.
    pub fn fixed_us(&self) -> Option<i64> {
        if self.months != 0 {
            return None;
        }
        i64::from(self.days).checked_mul(DAY_US)?.checked_add(self.microseconds)
    }

    /// Reads `text`; a bare number counts `unit` (a singular word such as `second`), seconds where there is none.
    /// Errors: 22007, 22015 when out of range.
    pub fn parse(text: &str, unit: Option<&str>) -> Result<Interval> {
        let read = parse_counting(text, unit.unwrap_or("second"))?;
        Ok(Interval { months: read.months, days: read.days, microseconds: read.nanoseconds / 1000 })
    }

    /// A literal with fields. Errors: as those of [`Interval::parse`].
    pub fn of_fields(text: &str, fields: &Fields) -> Result<Interval> {
        // `'1:30' MINUTE TO SECOND` is a minute and a half; without it, it would be of hours and minutes.
        let clock = text.trim().trim_start_matches(['+', '-']);
        let minutes_first = fields.first == "minute" && clock.matches(':').count() == 1 && !clock.contains('.');
        let text = if minutes_first { format!("{}.0", text.trim_end()) } else { text.to_string() };
        let whole = Interval::parse(&text, Some(&fields.last))?;
        let cut = |us: i64| whole.microseconds / us * us;
        Ok(match fields.last.as_str() {
            "year" => Interval { months: whole.months / 12 * 12, days: 0, microseconds: 0 },
            "month" => Interval { days: 0, microseconds: 0, ..whole },
            "day" => Interval { microseconds: 0, ..whole },
            "hour" => Interval { microseconds: cut(HOUR_US), ..whole },
            "minute" => Interval { microseconds: cut(MINUTE_US), ..whole },
            "second" => match fields.precision {
                None => whole,
                Some(digits) => whole.rounded(digits),
            },
            // Not fields in Postgres: weeks, milliseconds.
            _ => whole,
        })
    }
}

impl std::fmt::Display for Interval {
    /// In words that this parser, Postgres and Arrow all read.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} months {} days {} microseconds", self.months, self.days, self.microseconds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms() {
        let day = DAY_US;
        for (text, unit, months, days, us) in [
            ("5 seconds", None, 0, 0, 5_000_000),
            ("5", None, 0, 0, 5_000_000),
            ("10", Some("minute"), 0, 0, 600_000_000),
            ("1 day 02:03:04.5", None, 0, 1, 7_384_500_000),
            ("1 02:00", None, 0, 1, 7_200_000_000),
            ("-00:00:01", None, 0, 0, -1_000_000),
            ("0.5", Some("month"), 0, 15, 0),
            ("1-2", None, 14, 0, 0),
            ("1 year 2 mons -3 days", None, 14, -3, 0),
            ("1.5 days", None, 0, 1, day / 2),
            ("1.5 months", None, 1, 15, 0),
            ("0.5 hours", None, 0, 0, 1_800_000_000),
            ("@ 3 days 1 hour ago", None, 0, -3, -3_600_000_000),
            ("5minutes", None, 0, 0, 300_000_000),
            ("100ms", None, 0, 0, 100_000),
            ("P1Y2M3DT4H5M6S", None, 14, 3, 14_706_000_000),
            ("PT0.5S", None, 0, 0, 500_000),
            ("2 weeks", None, 0, 14, 0),
        ] {
            let interval = Interval::parse(text, unit).unwrap();
            assert_eq!(interval, Interval { months, days, microseconds: us }, "{text}");
            assert_eq!(Interval::parse(&interval.to_string(), None).unwrap(), interval);
        }
    }

    #[test]
    fn of_fields() {
        for (text, first, last, precision, written) in [
            ("1.5", "day", "day", None, "0 months 1 days 0 microseconds"),
            ("2.5", "hour", "hour", None, "0 months 0 days 7200000000 microseconds"),
            ("1.7", "second", "second", None, "0 months 0 days 1700000 microseconds"),
            ("1.126", "second", "second", Some(2), "0 months 0 days 1130000 microseconds"),
            ("-1.126", "second", "second", Some(2), "0 months 0 days -1130000 microseconds"),
            ("1-2", "year", "year", None, "12 months 0 days 0 microseconds"),
            ("1:30", "minute", "second", None, "0 months 0 days 90000000 microseconds"),
            ("1:30", "hour", "minute", None, "0 months 0 days 5400000000 microseconds"),
            ("1 12:59:59", "day", "minute", None, "0 months 1 days 46740000000 microseconds"),
        ] {
            let fields = Fields { first: first.into(), last: last.into(), precision };
            assert_eq!(Interval::of_fields(text, &fields).unwrap().to_string(), written, "{text} {first} {last}");
        }
    }

    #[test]
    fn refusals() {
        for text in ["", "abc", "1 parsec", "1:2:3:4", "P", "day", "nan seconds"] {
            assert_eq!(Interval::parse(text, None).unwrap_err().code, "22007", "{text}");
        }
        for text in ["1:99", "999999999999 years"] {
            assert_eq!(Interval::parse(text, None).unwrap_err().code, "22015", "{text}");
        }
    }
}
