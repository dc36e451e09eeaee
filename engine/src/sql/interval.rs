//! Intervals as Postgres reads them: months, days and microseconds, each with its own sign.
//!
//! ```text
//!   '1 day 02:03:04.5'   '5 minutes'   '-1 mon'   '1.5 hours'   '1-2'   '@ 3 days ago'   'P1DT2H'   '10' SECOND
//! ```
//!
//! A fraction of a unit goes to the next smaller kind, as in Postgres: `1.5 months` is 1 month 15 days, `1.5 days` is 1
//! day 12 hours.

use crate::error::{Error, Result};

const SECOND_US: f64 = 1_000_000.0;
const HOUR_US: f64 = 3600.0 * SECOND_US;
pub const DAY_US: i64 = 86_400_000_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Interval {
    pub months: i32,
    pub days: i32,
    pub microseconds: i64,
}

impl Interval {
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
        let mut parts = Parts::default();
        let bad = || Error::new("22007", format!("invalid input syntax for type interval: \"{text}\""));
        let trimmed = text.trim();
        if let Some(iso) = trimmed.strip_prefix('P') {
            parts.iso(iso).ok_or_else(bad)?;
        } else {
            parts.words(trimmed, unit.unwrap_or("second")).ok_or_else(bad)?;
        }
        parts.interval().ok_or_else(|| Error::new("22015", format!("interval field value out of range: \"{text}\"")))
    }
}

impl std::fmt::Display for Interval {
    /// In words that this parser, Postgres and Arrow all read.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} months {} days {} microseconds", self.months, self.days, self.microseconds)
    }
}

/// Amounts by kind, not yet rounded. Microseconds are exact in an f64 up to some 285 years of them, and whole
/// amounts are added as integers.
#[derive(Default)]
struct Parts {
    months: f64,
    days: f64,
    microseconds: i128,
}

impl Parts {
    fn interval(&self) -> Option<Interval> {
        let whole = |x: f64| (x.abs() <= f64::from(i32::MAX)).then_some(x.trunc() as i32);
        let days_of_months = (self.months.fract() * 30.0 * 1e6).round() / 1e6;
        let days = self.days + days_of_months;
        let rest_us = (days.fract() * 24.0 * HOUR_US).round() as i128;
        Some(Interval {
            months: whole(self.months)?,
            days: whole(days)?,
            microseconds: i64::try_from(self.microseconds + rest_us).ok()?,
        })
    }

    fn add(&mut self, amount: &str, unit: &str) -> Option<()> {
        let number: f64 = amount.parse().ok().filter(|n: &f64| n.is_finite())?;
        let unit = unit.to_ascii_lowercase();
        let us_per = match unit.strip_suffix('s').filter(|u| u.len() > 1).unwrap_or(&unit) {
            "microsecond" | "usec" | "usecond" | "us" => 1.0,
            "millisecond" | "msec" | "msecond" | "ms" => 1_000.0,
            "second" | "sec" | "s" => SECOND_US,
            "minute" | "min" | "m" => 60.0 * SECOND_US,
            "hour" | "hr" | "h" => HOUR_US,
            "day" | "d" => {
                self.days += number;
                return Some(());
            }
            "week" | "w" => {
                self.days += number * 7.0;
                return Some(());
            }
            "month" | "mon" => {
                self.months += number;
                return Some(());
            }
            "quarter" => {
                self.months += number * 3.0;
                return Some(());
            }
            "year" | "yr" | "y" => {
                self.months += number * 12.0;
                return Some(());
            }
            "decade" => {
                self.months += number * 120.0;
                return Some(());
            }
            "century" | "centurie" | "cent" | "c" => {
                self.months += number * 1200.0;
                return Some(());
            }
            "millennium" | "millennia" | "mil" => {
                self.months += number * 12000.0;
                return Some(());
            }
            _ => return None,
        };
        self.microseconds += match amount.parse::<i64>() {
            Ok(whole) => i128::from(whole) * us_per as i128,
            Err(_) if (number * us_per).abs() < 1e27 => (number * us_per).round() as i128,
            Err(_) => return None,
        };
        Some(())
    }

    /// `hh:mm[:ss[.f]]`, or `mm:ss.f` where the unit says minutes to seconds.
    fn clock(&mut self, text: &str) -> Option<()> {
        let (sign, digits) = match text.strip_prefix('-') {
            Some(rest) => (-1, rest),
            None => (1, text.strip_prefix('+').unwrap_or(text)),
        };
        let mut fields = digits.split(':');
        let hours: i128 = fields.next()?.parse::<u32>().ok()?.into();
        let minutes = fields.next()?;
        let (minutes, seconds) = match fields.next() {
            Some(seconds) => (minutes.parse::<u32>().ok()?, seconds.parse::<f64>().ok()?),
            None if minutes.contains('.') => return None,
            None => (minutes.parse::<u32>().ok()?, 0.0),
        };
        if fields.next().is_some() || minutes > 59 || !(0.0..61.0).contains(&seconds) {
            return None;
        }
        let seconds_us = (seconds * SECOND_US).round() as i128;
        self.microseconds += sign * ((hours * 60 + i128::from(minutes)) * 60_000_000 + seconds_us);
        Some(())
    }

    fn words(&mut self, text: &str, default_unit: &str) -> Option<()> {
        let text = text.strip_prefix('@').unwrap_or(text);
        // `5minutes` is `5 minutes`: break where a number ends and a letter begins.
        let mut spaced = String::with_capacity(text.len() + 8);
        let mut last = ' ';
        for c in text.chars() {
            if c.is_ascii_alphabetic() && (last.is_ascii_digit() || last == '.') {
                spaced.push(' ');
            }
            spaced.push(c);
            last = c;
        }
        let mut words: Vec<&str> = spaced.split_whitespace().collect();
        let ago = words.last().is_some_and(|w| w.eq_ignore_ascii_case("ago"));
        if ago {
            words.pop();
        }
        if words.is_empty() {
            return None;
        }
        let mut i = 0;
        while i < words.len() {
            let word = words[i];
            i += 1;
            if word.contains(':') {
                self.clock(word)?;
            } else if let Some((years, months)) = year_month(word) {
                self.months += years * 12.0 + months;
            } else if let Some(unit) = words.get(i).filter(|w| w.starts_with(|c: char| c.is_ascii_alphabetic())) {
                self.add(word, unit)?;
                i += 1;
            } else if words.get(i).is_some_and(|w| w.contains(':')) {
                // `1 02:03:04`: days, then a time.
                self.add(word, "day")?;
            } else {
                self.add(word, default_unit)?;
            }
        }
        if ago {
            self.months = -self.months;
            self.days = -self.days;
            self.microseconds = -self.microseconds;
        }
        Some(())
    }

    /// ISO 8601 after the P: `1Y2M3W4DT5H6M7.8S`.
    fn iso(&mut self, text: &str) -> Option<()> {
        let mut number = String::new();
        let mut in_time = false;
        let mut any = false;
        for c in text.chars() {
            match c {
                'T' if number.is_empty() => in_time = true,
                '0'..='9' | '.' | '-' | '+' => number.push(c),
                letter => {
                    let unit = match (letter, in_time) {
                        ('Y', false) => "year",
                        ('M', false) => "month",
                        ('W', false) => "week",
                        ('D', false) => "day",
                        ('H', true) => "hour",
                        ('M', true) => "minute",
                        ('S', true) => "second",
                        _ => return None,
                    };
                    self.add(&number, unit)?;
                    number.clear();
                    any = true;
                }
            }
        }
        (any && number.is_empty()).then_some(())
    }
}

/// `1-2` is one year and two months.
fn year_month(word: &str) -> Option<(f64, f64)> {
    let (sign, digits) = match word.strip_prefix('-') {
        Some(rest) => (-1.0, rest),
        None => (1.0, word),
    };
    let (years, months) = digits.split_once('-')?;
    let (years, months) = (years.parse::<u32>().ok()?, months.parse::<u32>().ok()?);
    (months < 12).then_some((sign * f64::from(years), sign * f64::from(months)))
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
    fn refusals() {
        for text in ["", "abc", "1 parsec", "1:2:3:4", "P", "1:99", "day", "nan seconds"] {
            assert_eq!(Interval::parse(text, None).unwrap_err().code, "22007", "{text}");
        }
        assert_eq!(Interval::parse("999999999999 years", None).unwrap_err().code, "22015");
    }
}
