//! `to_char(time, format)` with Postgres' template patterns, and texts read by them.
//!
//! ```text
//!   to_char(timestamp '2024-01-02 15:04:05', 'FMDay, DDth "of" Mon YYYY HH12:MI:SS.MS AM')
//!   Tuesday, 02nd of Jan 2024 03:04:05.000 PM
//! ```
//!
//! A timestamptz is written in the session's zone. Of formats for numbers only those that are made of digits, signs and
//! separators are known.

use std::sync::Arc;

use arrow::array::{Array, AsArray, StringArray};
use arrow::datatypes::{
    DataType, Decimal128Type, Float64Type, IntervalMonthDayNano, IntervalMonthDayNanoType, IntervalUnit,
    Time64MicrosecondType, TimeUnit, TimestampMicrosecondType,
};
use datafusion::common::{ScalarValue, plan_err};
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility};

use super::casts::style;
use super::fields::iso_week;
use crate::error::Error;
use crate::sql::common::{Kind, kind};
use crate::sql::text::calendar::{Civil, DAY_US, civil_from_days, days_from_civil, days_in_month};
use crate::sql::types::{UTC, sql_type_of_arrow};

const SECOND_US: i64 = 1_000_000;
const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const DAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];
const ROMAN: [&str; 12] = ["I", "II", "III", "IV", "V", "VI", "VII", "VIII", "IX", "X", "XI", "XII"];

fn external(error: Error) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}

/// A moment or an interval, taken apart.
struct Fields {
    /// Of an interval whatever its years are; year 0 is 1 BC.
    year: i64,
    month: i64,
    day: i64,
    /// Days since 1970, of a moment.
    days: Option<i64>,
    hour: i64,
    us: i64,
    /// Seconds east of UTC.
    offset: Option<i32>,
}

impl Fields {
    fn of_local(local: i64, offset: Option<i32>) -> Fields {
        let days = local.div_euclid(DAY_US);
        let Civil { year, month, day } = civil_from_days(days);
        let time = local.rem_euclid(DAY_US);
        let hour = time / (3600 * SECOND_US);
        Fields {
            year,
            month: month.into(),
            day: day.into(),
            days: Some(days),
            hour,
            us: time % (3600 * SECOND_US),
            offset,
        }
    }

    fn minute(&self) -> i64 {
        self.us / (60 * SECOND_US)
    }
    fn second(&self) -> i64 {
        self.us / SECOND_US % 60
    }
    fn fraction(&self) -> i64 {
        self.us % SECOND_US
    }
    /// As people count: 1 BC is 1.
    fn counted_year(&self) -> i64 {
        if self.days.is_some() && self.year <= 0 { 1 - self.year } else { self.year }
    }
}

/// Patterns, the longest of several first.
const PATTERNS: &[&str] = &[
    "Y,YYY", "YYYY", "YYY", "YY", "Y", "IYYY", "IYY", "IY", "IDDD", "ID", "IW", "I", "MONTH", "Month", "month", "MON",
    "Mon", "mon", "MM", "MI", "MS", "DAY", "Day", "day", "DY", "Dy", "dy", "DDD", "DD", "D", "HH24", "HH12", "HH",
    "SSSSS", "SSSS", "SS", "US", "FF1", "FF2", "FF3", "FF4", "FF5", "FF6", "A.M.", "P.M.", "AM", "PM", "a.m.", "p.m.",
    "am", "pm", "B.C.", "A.D.", "BC", "AD", "b.c.", "a.d.", "bc", "ad", "TZH", "TZM", "TZ", "tz", "OF", "WW", "W",
    "CC", "J", "Q", "RM", "rm",
];

/// The pattern that a format begins with. Patterns of figures may be written small.
fn pattern_at(format: &str) -> Option<&'static str> {
    let begins = |pattern: &str, fold: bool| match format.get(..pattern.len()) {
        Some(start) if fold => start.eq_ignore_ascii_case(pattern),
        Some(start) => start == pattern,
        None => false,
    };
    PATTERNS.iter().copied().find(|p| begins(p, false)).or_else(|| {
        let cased = ["MON", "DAY", "DY", "AM", "PM", "A.M.", "P.M.", "BC", "AD", "B.C.", "A.D.", "TZ", "RM"];
        PATTERNS
            .iter()
            .copied()
            .filter(|p| p.chars().all(|c| !c.is_ascii_lowercase()) && (!cased.contains(p)))
            .find(|p| begins(p, true))
    })
}

fn ordinal(number: i64) -> &'static str {
    match (number.abs() % 100, number.abs() % 10) {
        (11..=13, _) => "th",
        (_, 1) => "st",
        (_, 2) => "nd",
        (_, 3) => "rd",
        _ => "th",
    }
}

/// A moment in a format. Patterns of days and zones have no meaning for an interval: 0A000 and 22007, as in Postgres.
fn format_time(fields: &Fields, format: &str) -> Result<String> {
    let mut out = String::with_capacity(format.len() + 8);
    let mut rest = format;
    while !rest.is_empty() {
        if let Some(quoted) = rest.strip_prefix('"') {
            let mut chars = quoted.char_indices();
            let mut end = quoted.len();
            while let Some((i, c)) = chars.next() {
                match c {
                    '\\' => out.extend(chars.next().map(|(_, c)| c)),
                    '"' => {
                        end = i;
                        break;
                    }
                    c => out.push(c),
                }
            }
            rest = quoted.get(end + 1..).unwrap_or("");
            continue;
        }
        let begins = |prefix: &str| rest.get(..2).is_some_and(|start| start.eq_ignore_ascii_case(prefix));
        let (mut filled, mut start) = (true, rest);
        if begins("FM") || begins("TM") {
            filled = false;
            start = &rest[2..];
        } else if begins("FX") {
            rest = &rest[2..];
            continue;
        }
        let Some(pattern) = pattern_at(start) else {
            let c = rest.chars().next().expect("not empty");
            if filled {
                out.push(c);
            }
            rest = &rest[if filled { c.len_utf8() } else { 2 }..];
            continue;
        };
        rest = &start[pattern.len()..];
        let (text, number) = written(fields, pattern, filled)?;
        out.push_str(&text);
        if let Some(number) = number {
            let suffix = rest.get(..2).unwrap_or("");
            if suffix == "TH" {
                out.push_str(&ordinal(number).to_uppercase());
                rest = &rest[2..];
            } else if suffix == "th" {
                out.push_str(ordinal(number));
                rest = &rest[2..];
            }
        }
    }
    Ok(out)
}

/// One pattern's text, and its number if it is one.
fn written(fields: &Fields, pattern: &str, filled: bool) -> Result<(String, Option<i64>)> {
    let number = |value: i64, width: usize| {
        let text = match (filled, value < 0) {
            (false, _) => value.to_string(),
            (true, true) => format!("-{:0width$}", -value),
            (true, false) => format!("{value:0width$}"),
        };
        Ok((text, Some(value)))
    };
    let cased = |name: &str, like: &str, width: usize| {
        let text = match like.chars().nth(1).map(char::is_uppercase) {
            Some(true) => name.to_uppercase(),
            _ if like.starts_with(char::is_uppercase) => name.to_string(),
            _ => name.to_lowercase(),
        };
        Ok((if filled && width > 0 { format!("{text:width$}") } else { text }, None))
    };
    let invalid = || external(Error::new("22007", "invalid format specification for an interval value"));
    let day = || fields.days.ok_or_else(invalid);
    let year = fields.counted_year();
    let month_name = || match fields.month {
        1..=12 => MONTHS[fields.month as usize - 1],
        _ => "",
    };
    let twelve = |hour: i64| if hour % 12 == 0 { 12 } else { hour % 12 };
    match pattern {
        "Y,YYY" => Ok((format!("{},{:03}", year / 1000, year % 1000), Some(year))),
        "YYYY" => number(year, 4),
        "YYY" => number(year % 1000, 3),
        "YY" => number(year % 100, 2),
        "Y" => number(year % 10, 1),
        "IYYY" => number(iso_week(day()?).0, 4),
        "IYY" => number(iso_week(day()?).0 % 1000, 3),
        "IY" => number(iso_week(day()?).0 % 100, 2),
        "I" => number(iso_week(day()?).0 % 10, 1),
        "IW" => number(iso_week(day()?).1, 2),
        "IDDD" => number((iso_week(day()?).1 - 1) * 7 + (day()? + 3).rem_euclid(7) + 1, 3),
        "ID" => number((day()? + 3).rem_euclid(7) + 1, 1),
        "MONTH" | "Month" | "month" => {
            day()?;
            cased(month_name(), pattern, 9)
        }
        "MON" | "Mon" | "mon" => {
            day()?;
            cased(month_name().get(..3).unwrap_or(""), pattern, 0)
        }
        "MM" => number(fields.month, 2),
        "RM" | "rm" => {
            let roman = if (1..=12).contains(&fields.month) { ROMAN[fields.month as usize - 1] } else { "" };
            cased(roman, pattern, 4)
        }
        "DAY" | "Day" | "day" => cased(DAYS[(day()? + 4).rem_euclid(7) as usize], pattern, 9),
        "DY" | "Dy" | "dy" => cased(&DAYS[(day()? + 4).rem_euclid(7) as usize][..3], pattern, 0),
        "DDD" => match fields.days {
            Some(days) => number(days - days_from_civil(Civil { year: fields.year, month: 1, day: 1 }) + 1, 3),
            None => number(fields.year * 360 + fields.month * 30 + fields.day, 3),
        },
        "DD" => number(fields.day, 2),
        "D" => number((day()? + 4).rem_euclid(7) + 1, 1),
        "HH24" => number(fields.hour, 2),
        "HH12" | "HH" => number(twelve(fields.hour), 2),
        "MI" => number(fields.minute(), 2),
        "SS" => number(fields.second(), 2),
        "SSSSS" | "SSSS" => {
            let seconds = fields.hour * 3600 + fields.us / SECOND_US;
            Ok((seconds.to_string(), Some(seconds)))
        }
        "MS" | "FF3" => number(fields.fraction() / 1000, 3),
        "US" | "FF6" => number(fields.fraction(), 6),
        "FF1" => number(fields.fraction() / 100_000, 1),
        "FF2" => number(fields.fraction() / 10_000, 2),
        "FF4" => number(fields.fraction() / 100, 4),
        "FF5" => number(fields.fraction() / 10, 5),
        "AM" | "PM" => Ok((if fields.hour % 24 >= 12 { "PM" } else { "AM" }.into(), None)),
        "am" | "pm" => Ok((if fields.hour % 24 >= 12 { "pm" } else { "am" }.into(), None)),
        "A.M." | "P.M." => Ok((if fields.hour % 24 >= 12 { "P.M." } else { "A.M." }.into(), None)),
        "a.m." | "p.m." => Ok((if fields.hour % 24 >= 12 { "p.m." } else { "a.m." }.into(), None)),
        "BC" | "AD" | "bc" | "ad" | "B.C." | "A.D." | "b.c." | "a.d." => {
            day()?;
            let name = match (fields.year <= 0, pattern.contains('.')) {
                (true, false) => "BC",
                (true, true) => "B.C.",
                (false, false) => "AD",
                (false, true) => "A.D.",
            };
            let small = pattern.starts_with(char::is_lowercase);
            Ok((if small { name.to_lowercase() } else { name.into() }, None))
        }
        "TZ" | "tz" | "OF" | "TZH" | "TZM" => {
            day()?;
            let Some(offset) = fields.offset else {
                let none = if matches!(pattern, "TZ" | "tz") { "" } else { "+00" };
                return Ok((if pattern == "TZM" { "00".into() } else { none.into() }, None));
            };
            let (sign, seconds) = (if offset < 0 { '-' } else { '+' }, offset.abs());
            let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
            Ok((
                match pattern {
                    "TZH" => format!("{sign}{hours:02}"),
                    "TZM" => format!("{minutes:02}"),
                    "TZ" if offset == 0 => "UTC".into(),
                    "tz" if offset == 0 => "utc".into(),
                    _ if minutes == 0 => format!("{sign}{hours:02}"),
                    _ => format!("{sign}{hours:02}:{minutes:02}"),
                },
                None,
            ))
        }
        "WW" => {
            let first = days_from_civil(Civil { year: fields.year, month: 1, day: 1 });
            number((day()? - first) / 7 + 1, 2)
        }
        "W" => number((fields.day - 1) / 7 + 1, 1),
        "CC" => match fields.year {
            year if year > 0 => number((year + 99) / 100, 2),
            year => number(-(99 - (year - 1)) / 100, 2),
        },
        "J" => {
            let julian = day()? + 2_440_588;
            Ok((julian.to_string(), Some(julian)))
        }
        "Q" => {
            day()?;
            number((fields.month - 1) / 3 + 1, 1)
        }
        other => unreachable!("{other} is not among the patterns"),
    }
}

/// A number in a format: `9` and `0` are its digits, `,` and `G` part thousands, `.` and `D` are the point; `S`, `MI`,
/// `PL`, `SG` and `PR` say where the sign stands, `FM` leaves blanks and zeros off.
fn format_number(value: &str, format: &str) -> Result<String> {
    enum Item<'a> {
        Digit { zero: bool },
        Part,
        Point,
        Sign(&'a str),
        Text(&'a str),
    }
    let (mut items, mut rest, mut compact) = (Vec::new(), format, false);
    while !rest.is_empty() {
        let word = |n: usize| rest.get(..n).unwrap_or("").to_ascii_uppercase();
        let (item, length) = match (word(1).as_str(), word(2).as_str()) {
            (_, "FM") => {
                compact = true;
                rest = &rest[2..];
                continue;
            }
            (_, "MI" | "PL" | "SG" | "PR") => (Item::Sign(&rest[..2]), 2),
            (_, "TH" | "RN") | ("V" | "E", _) => {
                return Err(external(Error::unsupported(format!("the number format \"{format}\""))));
            }
            ("S", _) => (Item::Sign(&rest[..1]), 1),
            ("9", _) => (Item::Digit { zero: false }, 1),
            ("0", _) => (Item::Digit { zero: true }, 1),
            ("," | "G", _) => (Item::Part, 1),
            ("." | "D", _) => (Item::Point, 1),
            ("L", _) => (Item::Text(" "), 1),
            ("\"", _) => {
                let end = rest[1..].find('"').map_or(rest.len(), |i| i + 2);
                (Item::Text(rest[1..end].trim_end_matches('"')), end)
            }
            _ => {
                let length = rest.chars().next().map_or(1, char::len_utf8);
                (Item::Text(&rest[..length]), length)
            }
        };
        items.push(item);
        rest = &rest[length..];
    }
    let point = items.iter().position(|i| matches!(i, Item::Point)).unwrap_or(items.len());
    let digits = |items: &[Item]| items.iter().filter(|i| matches!(i, Item::Digit { .. })).count();
    let (whole, fraction) = (digits(&items[..point]), digits(&items[point..]));
    let negative = value.starts_with('-');
    let rounded = round_text(value.trim_start_matches('-'), fraction);
    let (integer, decimals) = rounded.split_once('.').unwrap_or((&rounded, ""));
    let integer = match integer.trim_start_matches('0') {
        // Zero is one digit at least.
        "" if fraction == 0 && whole > 0 => "0",
        significant => significant,
    };
    let negative = negative && rounded.bytes().any(|b| matches!(b, b'1'..=b'9'));
    let overflow = integer.len() > whole;
    let has_sign = items.iter().any(|i| matches!(i, Item::Sign(_)));
    // The first digit that is shown: a significant one or the first `0`.
    let first_zero = items[..point]
        .iter()
        .filter(|i| matches!(i, Item::Digit { .. }))
        .position(|i| matches!(i, Item::Digit { zero: true }));
    let shown = first_zero.unwrap_or(whole).min(whole - integer.len().min(whole));
    // Zeros at the end that FM leaves off: those of `9`.
    let zeros = items[point..].iter().filter_map(|item| match item {
        Item::Digit { zero } => Some(*zero),
        _ => None,
    });
    let last_zero = zeros.enumerate().filter(|(_, zero)| *zero).map(|(place, _)| place).last();
    let kept = decimals.trim_end_matches('0').len().max(last_zero.map_or(0, |p| p + 1));
    let (mut out, mut place, mut after, mut signed) = (String::new(), 0, 0, false);
    let sign = if negative { '-' } else { ' ' };
    let anchored = items.iter().any(|i| matches!(i, Item::Sign(s) if s.eq_ignore_ascii_case("s")));
    let angled = items.iter().any(|i| matches!(i, Item::Sign(s) if s.eq_ignore_ascii_case("pr")));
    let put_sign = |out: &mut String, signed: &mut bool| {
        if *signed || (has_sign && !angled) {
            return;
        }
        *signed = true;
        match (angled, negative) {
            (true, true) => out.push('<'),
            (true, false) if !compact => out.push(' '),
            (false, true) => out.push(sign),
            (false, false) if !compact => out.push(sign),
            _ => {}
        }
    };
    for (at, item) in items.iter().enumerate() {
        match item {
            Item::Digit { .. } if at < point => {
                if place >= shown {
                    put_sign(&mut out, &mut signed);
                }
                let digit = match place + integer.len() >= whole {
                    _ if overflow => Some('#'),
                    true => integer.as_bytes().get(place + integer.len() - whole).map(|b| *b as char),
                    false if place >= shown => Some('0'),
                    false => None,
                };
                match digit {
                    Some(digit) => out.push(digit),
                    None if !compact => out.push(' '),
                    None => {}
                }
                place += 1;
            }
            Item::Digit { .. } => {
                if overflow {
                    out.push('#');
                } else if !compact || after < kept {
                    out.push(decimals.as_bytes().get(after).map_or('0', |b| *b as char));
                }
                after += 1;
            }
            Item::Part if place > shown => out.push(','),
            Item::Part if !compact => out.push(' '),
            Item::Part => {}
            Item::Point => {
                put_sign(&mut out, &mut signed);
                out.push('.');
            }
            Item::Sign(word) => match word.to_ascii_uppercase().as_str() {
                "S" if at == 0 => signed = false,
                "S" => out.push(if negative { '-' } else { '+' }),
                "SG" => out.push(if negative { '-' } else { '+' }),
                "MI" if negative => out.push('-'),
                "PL" if !negative => out.push('+'),
                "PR" if negative => out.push('>'),
                _ if !compact => out.push(' '),
                _ => {}
            },
            Item::Text(text) => out.push_str(text),
        }
    }
    if anchored && matches!(items.first(), Some(Item::Sign(_))) {
        // S in front stands next to the first digit.
        let first = out.find(|c: char| c != ' ').unwrap_or(out.len());
        out.insert(first, if negative { '-' } else { '+' });
    }
    Ok(out)
}

/// A decimal text rounded to so many digits after the point, half away from zero.
fn round_text(text: &str, digits: usize) -> String {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let mut all: Vec<u8> = whole.bytes().chain(fraction.bytes().chain(std::iter::repeat(b'0')).take(digits)).collect();
    if fraction.as_bytes().get(digits).is_some_and(|d| *d >= b'5') {
        let mut at = all.len();
        loop {
            match at.checked_sub(1) {
                None => {
                    all.insert(0, b'1');
                    break;
                }
                Some(before) if all[before] == b'9' => {
                    all[before] = b'0';
                    at = before;
                }
                Some(before) => {
                    all[before] += 1;
                    break;
                }
            }
        }
    }
    let split = all.len() - digits;
    let text = String::from_utf8(all).expect("digits");
    if digits == 0 { text } else { format!("{}.{}", &text[..split], &text[split..]) }
}

#[derive(Debug, PartialEq, Eq, Hash)]
pub struct ToChar {
    signature: Signature,
}

impl Default for ToChar {
    fn default() -> Self {
        ToChar { signature: Signature::user_defined(Volatility::Stable) }
    }
}

impl ScalarUDFImpl for ToChar {
    fn name(&self) -> &str {
        "to_char"
    }
    fn signature(&self) -> &Signature {
        &self.signature
    }
    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        let [value, _] = types else {
            return plan_err!("Function 'to_char' expects 2 arguments but received {}", types.len());
        };
        let zoned = DataType::Timestamp(TimeUnit::Microsecond, Some(UTC.into()));
        let value = match kind(value) {
            Some(Kind::Moment) => match value {
                DataType::Timestamp(_, None) => DataType::Timestamp(TimeUnit::Microsecond, None),
                _ => zoned,
            },
            Some(Kind::Time) => DataType::Time64(TimeUnit::Microsecond),
            Some(Kind::Interval) => DataType::Interval(IntervalUnit::MonthDayNano),
            Some(Kind::Number) => match value {
                DataType::Float16 | DataType::Float32 | DataType::Float64 => DataType::Float64,
                DataType::Decimal128(..) => value.clone(),
                _ => DataType::Decimal128(20, 0),
            },
            None if *value == DataType::Null => zoned,
            _ => {
                let message = format!("function to_char({}, text) does not exist", sql_type_of_arrow(value));
                return Err(external(Error::new("42883", message)));
            }
        };
        Ok(vec![value, DataType::Utf8])
    }
    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8)
    }
    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let scalar = args.args.iter().all(|a| matches!(a, ColumnarValue::Scalar(_)));
        let rows = if scalar { 1 } else { args.number_rows };
        let (values, formats) = (args.args[0].to_array(rows)?, args.args[1].to_array(rows)?);
        let formats = formats.as_string::<i32>();
        let zone = style(&args.config_options)?.zone;
        let mut out: Vec<Option<String>> = Vec::with_capacity(rows);
        for row in 0..rows {
            if values.is_null(row) || formats.is_null(row) || formats.value(row).is_empty() {
                out.push(None);
                continue;
            }
            let format = formats.value(row);
            out.push(match values.data_type() {
                DataType::Timestamp(_, zoned) => {
                    let us = values.as_primitive::<TimestampMicrosecondType>().value(row);
                    match us {
                        i64::MAX | i64::MIN => None,
                        _ => {
                            let offset = zoned.as_ref().map(|_| zone.offset_at(us));
                            let local = us + i64::from(offset.unwrap_or(0)) * SECOND_US;
                            Some(format_time(&Fields::of_local(local, offset), format)?)
                        }
                    }
                }
                DataType::Interval(_) | DataType::Time64(_) => {
                    let interval = match values.data_type() {
                        DataType::Interval(_) => values.as_primitive::<IntervalMonthDayNanoType>().value(row),
                        _ => {
                            let us = values.as_primitive::<Time64MicrosecondType>().value(row);
                            IntervalMonthDayNano::new(0, 0, us * 1000)
                        }
                    };
                    let us = interval.nanoseconds / 1000;
                    let fields = Fields {
                        year: (interval.months / 12).into(),
                        month: (interval.months % 12).into(),
                        day: interval.days.into(),
                        days: None,
                        hour: us / (3600 * SECOND_US),
                        us: us % (3600 * SECOND_US),
                        offset: None,
                    };
                    Some(format_time(&fields, format)?)
                }
                DataType::Float64 => {
                    let value = values.as_primitive::<Float64Type>().value(row);
                    match value.is_finite() {
                        true => Some(format_number(&format!("{value}"), format)?),
                        false => Some(value.to_string()),
                    }
                }
                _ => Some(format_number(&values.as_primitive::<Decimal128Type>().value_as_string(row), format)?),
            });
        }
        match scalar {
            true => Ok(ColumnarValue::Scalar(ScalarValue::Utf8(out.pop().flatten()))),
            false => Ok(ColumnarValue::Array(Arc::new(StringArray::from(out)))),
        }
    }
}

/// A text read by a template: local microseconds since 1970, and the offset if the template has one.
pub fn read_time(text: &str, format: &str) -> Result<(i64, Option<i32>)> {
    let invalid = |pattern: &str, rest: &str| {
        let found: String = rest.chars().take(pattern.len()).collect();
        external(Error::new("22007", format!("invalid value \"{found}\" for \"{pattern}\"")))
    };
    let (mut year, mut month, mut day, mut hour, mut minute, mut us) = (None::<i64>, 1i64, 1i64, 0i64, 0i64, 0i64);
    let (mut afternoon, mut before_christ, mut day_of_year, mut julian, mut offset) = (None, false, None, None, None);
    let (mut rest, mut left) = (text.trim_start(), format);
    while !left.is_empty() {
        let begins = |prefix: &str| left.get(..2).is_some_and(|start| start.eq_ignore_ascii_case(prefix));
        if begins("FM") || begins("TM") || begins("FX") {
            left = &left[2..];
            continue;
        }
        let Some(pattern) = pattern_at(left) else {
            // What stands between patterns is passed over; a separator may be another one, or none.
            let c = left.chars().next().expect("not empty");
            left = &left[c.len_utf8()..];
            let next = rest.chars().next();
            match (c.is_alphanumeric(), next) {
                (true, Some(next)) => rest = &rest[next.len_utf8()..],
                (false, Some(next)) if next == c || !(next.is_alphanumeric() || matches!(next, '-' | '+')) => {
                    rest = &rest[next.len_utf8()..];
                }
                _ => {}
            }
            continue;
        };
        left = &left[pattern.len()..];
        rest = rest.trim_start();
        if rest.is_empty() {
            break;
        }
        let word_at = |names: &[&str], least: usize| {
            let hit = names.iter().position(|name| {
                let length = if least == 0 { name.len() } else { least };
                rest.get(..length).is_some_and(|start| start.eq_ignore_ascii_case(&name[..length]))
            });
            hit.map(|at| (at, if least == 0 { names[at].len() } else { least }))
        };
        // As many digits as the pattern has, or all where no other digits follow.
        let adjacent = pattern_at(left).is_some_and(|p| p.starts_with(|c: char| "YMDHSIQJ".contains(c)));
        let mut number = |width: usize| -> Result<i64> {
            let signed = usize::from(rest.starts_with(['-', '+']));
            let digits = rest[signed..].find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len() - signed);
            let length = signed + if adjacent { digits.min(width) } else { digits };
            let value = rest[..length].parse().map_err(|_| invalid(pattern, rest))?;
            rest = &rest[length..];
            Ok(value)
        };
        match pattern {
            "YYYY" | "IYYY" => year = Some(number(4)?),
            "YYY" => year = Some(number(3)? + 2000),
            "YY" => {
                let short = number(2)?;
                year = Some(if short < 70 {
                    short + 2000
                } else if short < 100 {
                    short + 1900
                } else {
                    short
                });
            }
            "Y" => year = Some(number(1)? + 2020),
            "MM" => month = number(2)?,
            "DD" => day = number(2)?,
            "DDD" => day_of_year = Some(number(3)?),
            "J" => julian = Some(number(7)?),
            "HH24" | "HH12" | "HH" => hour = number(2)?,
            "MI" => minute = number(2)?,
            "SS" => us += number(2)? * SECOND_US,
            "SSSS" | "SSSSS" => us += number(5)? * SECOND_US,
            "MS" | "US" | "FF1" | "FF2" | "FF3" | "FF4" | "FF5" | "FF6" => {
                // A fraction: .5 is 500 ms.
                let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
                let fraction = format!("{:0<6}", &rest[..digits]);
                us += fraction[..6].parse::<i64>().map_err(|_| invalid(pattern, rest))?;
                rest = &rest[digits..];
            }
            "MONTH" | "Month" | "month" => {
                let (at, length) =
                    word_at(&MONTHS, 0).or_else(|| word_at(&MONTHS, 3)).ok_or_else(|| invalid(pattern, rest))?;
                (month, rest) = (at as i64 + 1, &rest[length..]);
            }
            "MON" | "Mon" | "mon" => {
                let (at, length) = word_at(&MONTHS, 3).ok_or_else(|| invalid(pattern, rest))?;
                (month, rest) = (at as i64 + 1, &rest[length..]);
            }
            "DAY" | "Day" | "day" | "DY" | "Dy" | "dy" => {
                let long = pattern.len() == 3;
                let (_, length) = word_at(&DAYS, if long { 0 } else { 3 }).ok_or_else(|| invalid(pattern, rest))?;
                rest = &rest[length..];
            }
            "AM" | "PM" | "am" | "pm" | "A.M." | "P.M." | "a.m." | "p.m." => {
                let (at, length) = word_at(&["AM", "PM", "A.M.", "P.M."], 0).ok_or_else(|| invalid(pattern, rest))?;
                (afternoon, rest) = (Some(at % 2 == 1), &rest[length..]);
            }
            "BC" | "AD" | "bc" | "ad" | "B.C." | "A.D." | "b.c." | "a.d." => {
                let (at, length) = word_at(&["AD", "BC", "A.D.", "B.C."], 0).ok_or_else(|| invalid(pattern, rest))?;
                (before_christ, rest) = (at % 2 == 1, &rest[length..]);
            }
            "TZH" => offset = Some(number(2)? as i32 * 3600),
            "TZM" => {
                let minutes = number(2)? as i32 * 60;
                offset = offset.map(|hours: i32| if hours < 0 { hours - minutes } else { hours + minutes });
            }
            other => return Err(external(Error::unsupported(format!("reading a time by \"{other}\"")))),
        }
    }
    let out_of_range = || external(Error::new("22008", format!("date/time field value out of range: \"{text}\"")));
    let twelve = afternoon.is_some();
    if let Some(afternoon) = afternoon {
        if !(1..=12).contains(&hour) {
            let message = format!("hour \"{hour}\" is invalid for the 12-hour clock");
            return Err(external(Error::new("22007", message)));
        }
        hour = hour % 12 + if afternoon { 12 } else { 0 };
    }
    let hours = if twelve { 0..24 } else { 0..25 };
    if !hours.contains(&hour) || !(0..60).contains(&minute) || !(0..86_400 * SECOND_US).contains(&us) {
        return Err(out_of_range());
    }
    // Without a year it is 1 BC.
    let year = match year.unwrap_or(0) {
        year if before_christ => 1 - year,
        year => year,
    };
    let days = match (julian, day_of_year) {
        (Some(julian), _) => julian - 2_440_588,
        (_, Some(day)) => days_from_civil(Civil { year, month: 1, day: 1 }) + day - 1,
        _ => {
            let valid = (1..=12).contains(&month)
                && (1..=i64::from(days_in_month(year, month as u32))).contains(&day)
                && (-4713..294_277).contains(&year);
            if !valid {
                return Err(out_of_range());
            }
            days_from_civil(Civil { year, month: month as u32, day: day as u32 })
        }
    };
    let time = (hour * 60 + minute) * 60 * SECOND_US + us;
    days.checked_mul(DAY_US).and_then(|us| us.checked_add(time)).map(|local| (local, offset)).ok_or_else(out_of_range)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_as_postgres_writes_them() {
        for (value, format, text) in [
            ("1234.5", "9,999.99", " 1,234.50"),
            ("-1234.5", "9,999.99", "-1,234.50"),
            ("12.3", "9999.99", "   12.30"),
            ("12.3", "FM9999.99", "12.3"),
            ("12.3", "FM9999.00", "12.30"),
            ("0.5", "0.99", " 0.50"),
            ("0.5", "9.99", "  .50"),
            ("5", "000", " 005"),
            ("-5", "000", "-005"),
            ("5", "FM000", "005"),
            ("0", "999", "   0"),
            ("0", "FM999", "0"),
            ("12345", "999", " ###"),
            ("12", "999MI", " 12 "),
            ("-12", "999MI", " 12-"),
            ("12", "S999", " +12"),
            ("-12", "999PR", " <12>"),
            ("1234567", "FM9,999,999", "1,234,567"),
            ("1.995", "9.99", " 2.00"),
        ] {
            assert_eq!(format_number(value, format).unwrap(), text, "{value} {format}");
        }
    }
}
