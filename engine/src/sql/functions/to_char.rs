//! `to_char(time, format)` with Postgres' template patterns, and texts read by them.
//!
//! ```text
//!   to_char(timestamp '2024-01-02 15:04:05', 'FMDay, DDth "of" Mon YYYY HH12:MI:SS.MS AM')
//!   Tuesday, 02nd of Jan 2024 03:04:05.000 PM
//! ```
//!
//! A timestamptz is written in the session's zone. Of formats for numbers only those that are made of digits, signs,
//! separators and EEEE are known.

use std::sync::Arc;

use arrow::array::{Array, AsArray, StringBuilder};
use arrow::datatypes::{
    DataType, Decimal128Type, Float64Type, IntervalMonthDayNano, IntervalMonthDayNanoType, IntervalUnit,
    Time64MicrosecondType, TimeUnit, TimestampMicrosecondType,
};
use datafusion::common::{ScalarValue, plan_err};
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility};

use super::casts::style;
use super::time_format::{DAYS, Fields, Format, MONTHS, SECOND_US, ordinal_of, pattern_at};
use crate::error::Error;
use crate::sql::common::{Kind, kind};
use crate::sql::text::calendar::{Civil, DAY_US, days_from_civil, days_in_month, partial_year};
use crate::sql::types::{UTC, sql_type_of_arrow};

fn external(error: Error) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}

/// A number as `9.99EEEE` asks for it, with so many digits behind the point: ` 1.23e+04`.
fn scientific(value: &str, behind: usize) -> String {
    let (sign, unsigned) = match value.strip_prefix('-') {
        Some(rest) => ("-", rest),
        None => (" ", value),
    };
    let (mantissa, power) = unsigned.split_once(['e', 'E']).unwrap_or((unsigned, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let all: Vec<u8> = whole.bytes().chain(fraction.bytes()).collect();
    let zeros = all.iter().take_while(|&&digit| digit == b'0').count();
    let mut digits = all[zeros..].to_vec();
    let mut exponent = match digits.is_empty() {
        true => 0,
        false => whole.len() as i64 - zeros as i64 - 1 + power.parse::<i64>().unwrap_or(0),
    };
    let up = digits.get(behind + 1).is_some_and(|&digit| digit >= b'5');
    digits.resize(behind + 1, b'0');
    if up {
        match digits.iter().rposition(|&digit| digit != b'9') {
            Some(place) => {
                digits[place] += 1;
                digits[place + 1..].fill(b'0');
            }
            None => {
                digits.fill(b'0');
                digits[0] = b'1';
                exponent += 1;
            }
        }
    }
    let digits = String::from_utf8_lossy(&digits);
    let point = if behind > 0 { "." } else { "" };
    let direction = if exponent < 0 { '-' } else { '+' };
    format!("{sign}{}{point}{}e{direction}{:02}", &digits[..1], &digits[1..], exponent.abs())
}

/// A number in a format: `9` and `0` are its digits, `,` and `G` part thousands, `.` and `D` are the point; `S`, `MI`,
/// `PL`, `SG` and `PR` say where the sign stands, `FM` leaves blanks and zeros off.
fn format_number(value: &str, format: &str) -> Result<String> {
    if let Some(mantissa) = format.to_ascii_uppercase().strip_suffix("EEEE") {
        if mantissa.bytes().any(|b| !matches!(b, b'9' | b'0' | b'.' | b'D')) {
            let error = Error::syntax("\"EEEE\" is incompatible with other formats");
            return Err(external(error.detail("It goes with patterns of digits and of the decimal point alone.")));
        }
        let digits = |text: &str| text.bytes().filter(|b| matches!(b, b'9' | b'0')).count();
        let behind = mantissa.split_once(['.', 'D']).map_or(0, |(_, behind)| digits(behind));
        if !value.bytes().any(|b| b.is_ascii_digit()) {
            let before = digits(mantissa) - behind;
            return Ok(format!(" {}.{}", "#".repeat(before), "#".repeat(behind + 4)));
        }
        return Ok(scientific(value, behind));
    }
    let plain = format.to_ascii_uppercase();
    if let Some(compact) = match plain.as_str() {
        "RN" => Some(false),
        "FMRN" | "RNFM" => Some(true),
        _ => None,
    } {
        let roman = roman(value, !format.contains(['R', 'N']));
        return Ok(if compact { roman } else { format!("{roman:>15}") });
    }
    // What is behind V are further digits before the point: the number is that many times ten.
    if let Some(at) = plain.find('V').filter(|_| !format.contains('"')) {
        if plain.contains(['.', 'D']) {
            return Err(external(Error::syntax("cannot use \"V\" and decimal point together")));
        }
        let digits = plain[at..].bytes().filter(|b| matches!(b, b'9' | b'0')).count();
        let without = format!("{}{}", &format[..at], &format[at + 1..]);
        return format_number(&times_ten(value, digits), &without);
    }
    enum Item<'a> {
        Ordinal { capital: bool },
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
            (_, "TH") => (Item::Ordinal { capital: rest.starts_with('T') }, 2),
            (_, "RN") | ("V" | "E", _) => {
                return Err(external(Error::unsupported(format!("the number format \"{format}\""))));
            }
            ("S", _) => (Item::Sign(&rest[..1]), 1),
            ("9" | "0", _) => (Item::Digit { zero: rest.starts_with('0') }, 1),
            (_, "\\\"") => (Item::Text("\""), 2),
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
    // A point with nothing behind it is not written.
    if point < items.len() && !items[point..].iter().any(|i| matches!(i, Item::Digit { .. })) {
        items.remove(point);
    }
    let point = items.iter().position(|i| matches!(i, Item::Point)).unwrap_or(items.len());
    let digits = |items: &[Item]| items.iter().filter(|i| matches!(i, Item::Digit { .. })).count();
    let (whole, fraction) = (digits(&items[..point]), digits(&items[point..]));
    let negative = value.starts_with('-');
    let rounded = round_text(value.trim_start_matches('-'), fraction);
    let (integer, decimals) = rounded.split_once('.').unwrap_or((&rounded, ""));
    let negative = negative && rounded.bytes().any(|b| matches!(b, b'1'..=b'9'));
    // Zeros at the end that FM leaves off: those of `9`.
    let zeros = items[point..].iter().filter_map(|item| match item {
        Item::Digit { zero } => Some(*zero),
        _ => None,
    });
    let last_zero = zeros.enumerate().filter(|(_, zero)| *zero).map(|(place, _)| place).last();
    let kept = decimals.trim_end_matches('0').len().max(last_zero.map_or(0, |p| p + 1));
    let integer = match integer.trim_start_matches('0') {
        // Zero is one digit at least, also where FM leaves nothing of its fraction.
        "" if whole > 0 && (fraction == 0 || compact && kept == 0) => "0",
        significant => significant,
    };
    let overflow = integer.len() > whole;
    // PL is a plus alone: a minus stands where it does without.
    let has_sign = items.iter().any(|i| matches!(i, Item::Sign(s) if !s.eq_ignore_ascii_case("pl")));
    // The first digit that is shown: a significant one or the first `0`.
    let first_zero = items[..point]
        .iter()
        .filter(|i| matches!(i, Item::Digit { .. }))
        .position(|i| matches!(i, Item::Digit { zero: true }));
    let shown = first_zero.unwrap_or(whole).min(whole - integer.len().min(whole));
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
            // Neither of what is less than nothing nor of what has a fraction.
            Item::Ordinal { capital } if !negative && point == items.len() => {
                let last: i64 = integer[integer.len().saturating_sub(2)..].parse().unwrap_or(0);
                let letters = ordinal_of(last);
                out.push_str(&if *capital { letters.to_ascii_uppercase() } else { letters.to_ascii_lowercase() });
            }
            Item::Ordinal { .. } => {}
        }
    }
    if anchored && matches!(items.first(), Some(Item::Sign(_))) {
        // S in front stands next to the first digit.
        let first = out.find(|c: char| c != ' ').unwrap_or(out.len());
        out.insert(first, if negative { '-' } else { '+' });
    }
    Ok(out)
}

/// A number from 1 to 3999 in Roman letters; for others there are none.
fn roman(value: &str, small: bool) -> String {
    const LETTERS: [(usize, &str); 13] = [
        (1000, "M"),
        (900, "CM"),
        (500, "D"),
        (400, "CD"),
        (100, "C"),
        (90, "XC"),
        (50, "L"),
        (40, "XL"),
        (10, "X"),
        (9, "IX"),
        (5, "V"),
        (4, "IV"),
        (1, "I"),
    ];
    let mut left: usize = round_text(value, 0).parse().unwrap_or(0);
    if !(1..4000).contains(&left) {
        return "#".repeat(15);
    }
    let mut out = String::new();
    for (value, letters) in LETTERS {
        out.push_str(&letters.repeat(left / value));
        left %= value;
    }
    if small { out.to_ascii_lowercase() } else { out }
}

/// A decimal text with its point so many digits further on.
fn times_ten(value: &str, digits: usize) -> String {
    let (whole, fraction) = value.split_once('.').unwrap_or((value, ""));
    let fraction = format!("{fraction}{}", "0".repeat(digits.saturating_sub(fraction.len())));
    format!("{whole}{}.{}", &fraction[..digits], &fraction[digits..])
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
        let mut out = StringBuilder::with_capacity(rows, rows * 12);
        let mut times = Times::default();
        for row in 0..rows {
            if values.is_null(row) || formats.is_null(row) || formats.value(row).is_empty() {
                out.append_null();
                continue;
            }
            let format = formats.value(row);
            match values.data_type() {
                DataType::Timestamp(_, zoned) => {
                    let us = values.as_primitive::<TimestampMicrosecondType>().value(row);
                    match us {
                        i64::MAX | i64::MIN => out.append_null(),
                        _ => {
                            let offset = zoned.as_ref().map(|_| zone.offset_at(us));
                            let local = us + i64::from(offset.unwrap_or(0)) * SECOND_US;
                            out.append_value(times.moment(format, local, offset)?);
                        }
                    }
                }
                DataType::Interval(_) => {
                    let interval = values.as_primitive::<IntervalMonthDayNanoType>().value(row);
                    out.append_value(times.interval(format, interval)?);
                }
                DataType::Time64(_) => {
                    let us = values.as_primitive::<Time64MicrosecondType>().value(row);
                    out.append_value(times.interval(format, IntervalMonthDayNano::new(0, 0, us * 1000))?);
                }
                DataType::Float64 => {
                    let value = values.as_primitive::<Float64Type>().value(row);
                    let scientific = format.to_ascii_uppercase().ends_with("EEEE");
                    out.append_value(match value.is_finite() || scientific {
                        true => format_number(&format!("{value}"), format)?,
                        false => value.to_string(),
                    });
                }
                _ => {
                    let value = values.as_primitive::<Decimal128Type>().value_as_string(row);
                    out.append_value(format_number(&value, format)?);
                }
            }
        }
        let out = out.finish();
        match scalar {
            true => Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&out, 0)?)),
            false => Ok(ColumnarValue::Array(Arc::new(out))),
        }
    }
}

/// Times written one after the other, mostly by one format and many of them of one text.
#[derive(Default)]
struct Times {
    /// As it is spelt, taken apart, and its grain.
    format: Option<(String, Format, i64)>,
    /// Which grain `text` was written for, and with which offset.
    written: Option<(i64, Option<i32>)>,
    text: String,
}

impl Times {
    fn format(&mut self, format: &str) -> (&Format, i64) {
        if self.format.as_ref().is_none_or(|(known, ..)| known != format) {
            let parsed = Format::new(format);
            let grain = parsed.grain_us();
            self.format = Some((format.to_string(), parsed, grain));
            self.written = None;
        }
        let (_, format, grain) = self.format.as_ref().expect("just set");
        (format, *grain)
    }

    fn moment(&mut self, spelt: &str, local: i64, offset: Option<i32>) -> Result<&str> {
        let grain = self.format(spelt).1;
        let at = Some((local.div_euclid(grain), offset));
        if self.written != at {
            let fields = Fields::of_local(local, offset);
            self.write(spelt, &fields)?;
            self.written = at;
        }
        Ok(&self.text)
    }

    fn interval(&mut self, spelt: &str, interval: IntervalMonthDayNano) -> Result<&str> {
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
        self.written = None;
        self.write(spelt, &fields)?;
        Ok(&self.text)
    }

    fn write(&mut self, spelt: &str, fields: &Fields) -> Result<()> {
        let mut text = std::mem::take(&mut self.text);
        text.clear();
        self.format(spelt).0.write(fields, &mut text)?;
        self.text = text;
        Ok(())
    }
}

/// A week as a template counts it.
enum Week {
    Iso(i64),
    OfYear(i64),
}

/// A text read by a template: local microseconds since 1970, and the offset if the template has one.
pub fn read_time(text: &str, format: &str) -> Result<(i64, Option<i32>)> {
    let invalid = |pattern: &str, rest: &str| {
        let found: String = rest.chars().take(pattern.len()).collect();
        external(Error::new("22007", format!("invalid value \"{found}\" for \"{pattern}\"")))
    };
    let (mut year, mut month, mut day, mut hour, mut minute, mut us) = (None::<i64>, 1i64, 1i64, 0i64, 0i64, 0i64);
    let (mut afternoon, mut before_christ, mut day_of_year, mut julian, mut offset) = (None, false, None, None, None);
    let (mut century, mut short_year, mut week, mut weekday) = (None::<i64>, false, None::<Week>, 1);
    let (mut rest, mut left) = (text.trim_start(), format);
    while !left.is_empty() {
        let begins = |prefix: &str| left.get(..2).is_some_and(|start| start.eq_ignore_ascii_case(prefix));
        if begins("FM") || begins("TM") || begins("FX") {
            left = &left[2..];
            continue;
        }
        // In quotes it is as many characters, whatever they are.
        if let Some(quoted) = left.strip_prefix('"') {
            let mut signs = quoted.chars();
            while let Some(c) = signs.next().filter(|c| *c != '"') {
                if c == '\\' {
                    signs.next();
                }
                rest = rest.chars().next().map_or("", |c| &rest[c.len_utf8()..]);
            }
            left = signs.as_str();
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
        let adjacent = pattern_at(left).is_some_and(|p| p.starts_with(|c: char| "YMDHSIQJT".contains(c)));
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
            "YYY" => year = Some(partial_year(number(3)?)),
            "YY" | "Y" => (year, short_year) = (Some(partial_year(number(pattern.len())?)), true),
            "CC" => century = Some(number(2)?),
            "IW" => week = Some(Week::Iso(number(2)?)),
            "WW" => week = Some(Week::OfYear(number(2)?)),
            "W" => day = (number(1)? - 1) * 7 + 1,
            "ID" => weekday = number(1)?,
            // What does not say which day it is.
            "D" | "Q" => drop(number(1)?),
            "MM" => month = number(2)?,
            "DD" => day = number(2)?,
            "DDD" => day_of_year = Some(number(3)?),
            "J" => julian = Some(number(7)?),
            "HH24" => hour = number(2)?,
            "HH12" | "HH" => (hour, afternoon) = (number(2)?, afternoon.or(Some(false))),
            "MI" => minute = number(2)?,
            "SS" => us += Some(number(2)?).filter(|second| *second < 60).unwrap_or(86_400) * SECOND_US,
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
    let year = match (year, century) {
        (Some(year), Some(century)) if short_year && !before_christ => match year % 100 {
            0 => century * 100,
            year => (century - 1) * 100 + year,
        },
        (None, Some(century)) if !before_christ => (century - 1) * 100 + 1,
        // A negative one is before Christ, or after where that is said.
        (Some(year), _) if year < 0 => {
            if before_christ {
                -year
            } else {
                year + 1
            }
        }
        (year, _) if before_christ => 1 - year.unwrap_or(0),
        (year, _) => year.unwrap_or(0),
    };
    let in_order = |number: i64, last: i64| if (1..=last).contains(&number) { Ok(()) } else { Err(out_of_range()) };
    if julian.is_none() && !(-4713..294_277).contains(&year) {
        return Err(out_of_range());
    }
    let days = match (julian, week, day_of_year) {
        (Some(julian), ..) => julian - 2_440_588,
        (_, Some(Week::Iso(week)), _) => {
            in_order(week, 53).and(in_order(weekday, 7))?;
            // The first one is that of the 4th of January.
            let fourth = days_from_civil(Civil { year, month: 1, day: 4 });
            fourth - (fourth + 3).rem_euclid(7) + (week - 1) * 7 + weekday - 1
        }
        (_, Some(Week::OfYear(week)), _) => {
            in_order(week, 53)?;
            days_from_civil(Civil { year, month: 1, day: 1 }) + (week - 1) * 7
        }
        (.., Some(day)) => {
            let first = |year| days_from_civil(Civil { year, month: 1, day: 1 });
            in_order(day, first(year + 1) - first(year))?;
            first(year) + day - 1
        }
        _ => {
            let valid = (1..=12).contains(&month) && (1..=i64::from(days_in_month(year, month as u32))).contains(&day);
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
