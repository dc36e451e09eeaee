//! Reading `WITH (key = value, …)`: names against the known ones, values as the types they stand for.
//!
//! ```text
//!   WITH (rat = 5)        22023  unrecognized parameter "rat"      Hint: Did you mean "rate"?
//!   WITH (rate = 'fast')  22023  invalid value for option "rate": "fast"
//! ```

use std::collections::BTreeMap;

use arrow::array::{Array, ArrayRef, AsArray, StringArray};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, IntervalMonthDayNano, IntervalMonthDayNanoType, IntervalUnit, TimeUnit};

use crate::error::{Error, Result};
use crate::sql::types::sql_type_of_arrow;

pub type Options = BTreeMap<String, String>;

/// The known name that `name` most likely means, if any is near.
pub fn nearest<'a>(name: &str, known: &[&'a str]) -> Option<&'a str> {
    let best = known.iter().map(|k| (distance(name, k), *k)).min()?;
    (best.0 <= (name.len() / 3).max(1) + 1).then_some(best.1)
}

/// Levenshtein's distance: the fewest insertions, deletions and replacements of a character.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

/// Refuses the first name that is in none of `known`.
pub fn check_names(what: &str, given: &Options, known: &[&[&str]]) -> Result<()> {
    let known = known.concat();
    match given.keys().find(|name| !known.contains(&name.as_str())) {
        Some(name) => Err(unknown(what, name, &known)),
        None => Ok(()),
    }
}

pub fn unknown(what: &str, name: &str, known: &[&str]) -> Error {
    let hint = match nearest(name, known) {
        Some(near) => format!("Did you mean \"{near}\"?"),
        None => format!("Options of a {what}: {}.", known.join(", ")),
    };
    Error::invalid_value(format!("unrecognized parameter \"{name}\"")).hint(hint)
}

/// The same options with other systems' spellings replaced by ours; `aliases` are (theirs, ours).
pub fn canonical(given: &Options, aliases: &[(&str, &str)]) -> Result<Options> {
    let mut options = Options::new();
    for (name, value) in given {
        let ours = aliases.iter().find(|(theirs, _)| theirs == name).map_or(name.as_str(), |(_, ours)| ours);
        if options.insert(ours.to_string(), value.clone()).is_some() {
            return Err(Error::invalid_value(format!("option \"{ours}\" is given twice")));
        }
    }
    Ok(options)
}

pub fn invalid(name: &str, value: &str) -> Error {
    Error::invalid_value(format!("invalid value for option \"{name}\": \"{value}\""))
}

/// A whole number ≥ 0; `1_000_000` may have underscores.
pub fn whole(options: &Options, name: &str) -> Result<Option<u64>> {
    let Some(value) = options.get(name) else { return Ok(None) };
    match value.trim().replace('_', "").parse() {
        Ok(number) => Ok(Some(number)),
        Err(_) => Err(invalid(name, value).hint("A whole number, 0 or more.")),
    }
}

/// Thousandths of a rate per second; `None` when absent or 0, which is without limit.
pub fn rate_milli(options: &Options, name: &str) -> Result<Option<u64>> {
    let Some(value) = options.get(name) else { return Ok(None) };
    match value.trim().replace('_', "").parse::<f64>() {
        Ok(0.0) => Ok(None),
        Ok(rate) if (0.001..=1e12).contains(&rate) => Ok(Some((rate * 1000.0).round() as u64)),
        _ => Err(invalid(name, value).hint("A number of events per second; 0 is as fast as possible.")),
    }
}

/// A value of any type, in the text form that a cast from text takes: an array of one.
pub fn value(name: &str, text: &str, data_type: &DataType) -> Result<ArrayRef> {
    parse(&[text.trim()], data_type)
        .map_err(|_| invalid(name, text).hint(format!("A value of type {}.", sql_type_of_arrow(data_type))))
}

/// Texts as values of `data_type`.
pub fn parse(texts: &[&str], data_type: &DataType) -> Result<ArrayRef> {
    let strict = CastOptions { safe: false, ..Default::default() };
    let parsed = cast_with_options(&StringArray::from(texts.to_vec()), data_type, &strict)
        .map_err(|e| Error::invalid_value(e.to_string()))?;
    match parsed.null_count() {
        0 => Ok(parsed),
        _ => Err(Error::invalid_value(format!("not of type {}", sql_type_of_arrow(data_type)))),
    }
}

/// How much of a stream is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retention {
    All,
    /// Rows that are younger, in microseconds.
    Age(i64),
    /// As many of the newest rows as take about so many bytes on disk.
    Bytes(u64),
}

impl Retention {
    /// `7 days`, `10 GB`, `all`.
    pub fn parse(text: &str) -> Result<Retention> {
        if text.trim().eq_ignore_ascii_case("all") {
            return Ok(Retention::All);
        }
        if let Some(bytes) = bytes(text) {
            return Ok(Retention::Bytes(bytes));
        }
        let hint = "For example '7 days', '10 GB' or 'all'.";
        match duration_us("retention", text).map_err(|e| e.hint(hint))? {
            age_us @ 0.. => Ok(Retention::Age(age_us)),
            _ => Err(invalid("retention", text).hint(hint)),
        }
    }
}

/// A size such as `512 MB`, in bytes; units are powers of 1024. `None` when there is no unit, or it is none.
pub fn bytes(text: &str) -> Option<u64> {
    let text = text.trim();
    let unit_at = text.find(|c: char| !(c.is_ascii_digit() || c == '.'))?;
    let shift = match text[unit_at..].trim().to_ascii_lowercase().as_str() {
        "b" | "bytes" => 0,
        "kb" | "kib" => 10,
        "mb" | "mib" => 20,
        "gb" | "gib" => 30,
        "tb" | "tib" => 40,
        _ => return None,
    };
    let number: f64 = text[..unit_at].parse().ok()?;
    Some((number * (1u64 << shift) as f64) as u64)
}

/// A span of time such as `5 minutes`, in microseconds; months count 30 days.
pub fn duration_us(name: &str, text: &str) -> Result<i64> {
    let array = value(name, text, &DataType::Interval(IntervalUnit::MonthDayNano))
        .map_err(|e| e.hint("For example '5 minutes'."))?;
    Ok(interval_us(array.as_primitive::<IntervalMonthDayNanoType>().value(0)))
}

fn interval_us(interval: IntervalMonthDayNano) -> i64 {
    const DAY_US: i64 = 86_400_000_000;
    (i64::from(interval.months) * 30 + i64::from(interval.days)) * DAY_US + interval.nanoseconds / 1000
}

/// A point in time such as `2026-01-31 12:00:00`, or `now`; microseconds since 1970.
pub fn time_us(name: &str, text: &str, now_us: i64) -> Result<i64> {
    if text.eq_ignore_ascii_case("now") || text.eq_ignore_ascii_case("now()") {
        return Ok(now_us);
    }
    let array = value(name, text, &DataType::Timestamp(TimeUnit::Microsecond, None))
        .map_err(|e| e.hint("For example '2026-01-31 12:00:00', or 'now'."))?;
    Ok(array.as_primitive::<arrow::datatypes::TimestampMicrosecondType>().value(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(name: &str, value: &str) -> Options {
        [(name.to_string(), value.to_string())].into()
    }

    #[test]
    fn distances() {
        assert_eq!(
            (distance("rate", "rate"), distance("rat", "rate"), distance("", "ab"), distance("kitten", "sitting")),
            (0, 1, 2, 3)
        );
        assert_eq!(nearest("conector", &["connector", "count"]), Some("connector"));
        assert_eq!(nearest("zzzzz", &["connector", "count"]), None);
    }

    #[test]
    fn numbers() {
        assert_eq!(whole(&one("count", "1_000"), "count"), Ok(Some(1000)));
        assert_eq!(whole(&one("count", "1"), "seed"), Ok(None));
        assert_eq!(whole(&one("count", "-1"), "count").unwrap_err().code, "22023");
        assert_eq!(rate_milli(&one("rate", "0"), "rate"), Ok(None));
        assert_eq!(rate_milli(&one("rate", "2.5"), "rate"), Ok(Some(2500)));
        assert!(rate_milli(&one("rate", "-3"), "rate").is_err());
        assert!(rate_milli(&one("rate", "NaN"), "rate").is_err());
    }

    #[test]
    fn times() {
        assert_eq!(duration_us("d", "1 day 2 seconds"), Ok(86_402_000_000));
        assert!(duration_us("d", "soon").is_err());
        assert_eq!(time_us("t", "1970-01-01 00:00:01", 7), Ok(1_000_000));
        assert_eq!(time_us("t", "now", 7), Ok(7));
        assert!(time_us("t", "yesterday-ish", 7).is_err());
    }

    #[test]
    fn aliases_give_our_name_and_no_option_counts_twice() {
        let aliases = [("theirs", "ours")];
        assert_eq!(canonical(&one("theirs", "1"), &aliases), Ok(one("ours", "1")));
        let both: Options = [("theirs".into(), "1".into()), ("ours".into(), "2".into())].into();
        assert_eq!(canonical(&both, &aliases).unwrap_err().message, "option \"ours\" is given twice");
    }
}
