//! Dates, times and timestamps as Postgres reads and writes them.
//!
//! Written in ISO style: `2024-02-29`, `01:02:03.5`, `2024-01-02 03:04:05.6+05:30`, `0044-03-15 BC`,
//! `infinity`. Read: the same by a short way, and every common form by a longer one: `Jan 2, 2024 3:04 pm
//! PST`, `20240102T030405Z`, `1/2/2024` (month first), `2024-01-02 03:04 Europe/Berlin`, `epoch`, `now`.
//!
//! In memory: dates are days since 1970, i32; times microseconds since midnight (24:00:00 included);
//! timestamps microseconds since 1970, i64. Infinity is the largest value, minus infinity the smallest.

use super::Style;
use super::calendar::{Civil, DAY_US, civil_from_days, days_from_civil, days_in_month};
use super::number::write_padded;
use super::zone::{self, Zone};
use crate::error::{Error, Result};

const SECOND_US: i64 = 1_000_000;
/// 4714-11-24 BC, the first day of Postgres' calendar.
const FIRST_DAY: i64 = -2_440_588;
/// 294247-01-10: timestamps lie before it, because microseconds since 1970 end there (Postgres, which counts
/// from 2000, goes on for thirty years).
const TIMESTAMP_DAYS_END: i64 = 106_751_991;
/// 5874898-01-01: dates lie before it.
const DATE_DAYS_END: i64 = 2_145_042_906;

fn write_civil(c: Civil, out: &mut Vec<u8>) {
    write_padded(if c.year > 0 { c.year } else { 1 - c.year } as u64, 4, out);
    out.push(b'-');
    write_padded(c.month as u64, 2, out);
    out.push(b'-');
    write_padded(c.day as u64, 2, out);
}

pub fn write_date(days: i32, out: &mut Vec<u8>) {
    match days {
        i32::MAX => return out.extend_from_slice(b"infinity"),
        i32::MIN => return out.extend_from_slice(b"-infinity"),
        _ => {}
    }
    let c = civil_from_days(days as i64);
    write_civil(c, out);
    if c.year <= 0 {
        out.extend_from_slice(b" BC");
    }
}

pub fn write_time(us: i64, out: &mut Vec<u8>) {
    let seconds = us / SECOND_US;
    write_padded((seconds / 3600) as u64, 2, out);
    out.push(b':');
    write_padded((seconds / 60 % 60) as u64, 2, out);
    out.push(b':');
    write_padded((seconds % 60) as u64, 2, out);
    write_fraction((us % SECOND_US) as u64, out);
}

/// `.5` for 500,000 microseconds; nothing for 0.
pub fn write_fraction(us: u64, out: &mut Vec<u8>) {
    if us == 0 {
        return;
    }
    out.push(b'.');
    write_padded(us, 6, out);
    while out.last() == Some(&b'0') {
        out.pop();
    }
}

/// `zone` is `None` for timestamp without time zone.
pub fn write_timestamp(us: i64, zone: Option<&Zone>, out: &mut Vec<u8>) {
    match us {
        i64::MAX => return out.extend_from_slice(b"infinity"),
        i64::MIN => return out.extend_from_slice(b"-infinity"),
        _ => {}
    }
    let offset = zone.map_or(0, |z| z.offset_at(us));
    let local = us.saturating_add(offset as i64 * SECOND_US);
    let c = civil_from_days(local.div_euclid(DAY_US));
    write_civil(c, out);
    out.push(b' ');
    write_time(local.rem_euclid(DAY_US), out);
    if zone.is_some() {
        write_offset(offset, out);
    }
    if c.year <= 0 {
        out.extend_from_slice(b" BC");
    }
}

fn write_offset(seconds: i32, out: &mut Vec<u8>) {
    out.push(if seconds < 0 { b'-' } else { b'+' });
    let s = seconds.unsigned_abs() as u64;
    write_padded(s / 3600, 2, out);
    if s % 3600 != 0 {
        out.push(b':');
        write_padded(s / 60 % 60, 2, out);
    }
    if s % 60 != 0 {
        out.push(b':');
        write_padded(s % 60, 2, out);
    }
}

/// What a text said, before it is known to fit the calendar.
#[derive(Debug, Default)]
struct Parts {
    special: Option<Special>,
    date: Option<(i64, u32, u32)>,
    /// The year had two digits at most, so its century is to be guessed.
    short_year: bool,
    julian_day: Option<i64>,
    /// Microseconds since midnight.
    time: Option<i64>,
    zone: Option<Zone>,
    /// `Some(true)` is BC.
    era: Option<bool>,
    /// `Some(true)` is pm.
    pm: Option<bool>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Special {
    Infinity,
    MinusInfinity,
    Epoch,
    Now,
    /// Midnight, so many days from today.
    Day(i64),
}

/// Why a text is none: malformed (22007), outside the calendar (22008), or in a zone that does not exist.
#[derive(Debug)]
enum Bad {
    Syntax,
    Range,
    Displacement,
    Zone(String),
}

type Parsed<T> = std::result::Result<T, Bad>;

fn error_of(bad: Bad, type_name: &str, text: &str) -> Error {
    match bad {
        Bad::Syntax => Error::new("22007", format!("invalid input syntax for type {type_name}: \"{text}\"")),
        Bad::Range => Error::new("22008", format!("date/time field value out of range: \"{text}\"")),
        Bad::Displacement => Error::new("22009", format!("time zone displacement out of range: \"{text}\"")),
        Bad::Zone(name) => Error::invalid_value(format!("time zone \"{name}\" not recognized")),
    }
}

fn out_of_range(type_name: &str, text: &str) -> Error {
    Error::new("22008", format!("{type_name} out of range: \"{text}\""))
}

pub fn parse_date(text: &str, style: &Style) -> Result<i32> {
    if let Some((days, rest)) = iso_date(text.as_bytes())
        && rest.is_empty()
    {
        return Ok(days as i32);
    }
    let parts = scan(text).map_err(|bad| error_of(bad, "date", text))?;
    if let Some(special) = parts.special {
        return match special {
            Special::Infinity => Ok(i32::MAX),
            Special::MinusInfinity => Ok(i32::MIN),
            Special::Epoch => Ok(0),
            Special::Now => Ok(today(style, text)? as i32),
            Special::Day(n) => Ok((today(style, text)? + n) as i32),
        };
    }
    let days = days_of(&parts).map_err(|bad| error_of(bad, "date", text))?;
    if !(FIRST_DAY..DATE_DAYS_END).contains(&days) {
        return Err(out_of_range("date", text));
    }
    Ok(days as i32)
}

pub fn parse_time(text: &str) -> Result<i64> {
    if let Some((us, rest)) = iso_time(text.as_bytes())
        && rest.is_empty()
    {
        return Ok(us);
    }
    let syntax = || error_of(Bad::Syntax, "time", text);
    let parts = scan(text).map_err(|bad| error_of(bad, "time", text))?;
    time_of(&parts).map_err(|bad| error_of(bad, "time", text))?.ok_or_else(syntax)
}

/// Without time zone: a zone in the text is ignored, as in Postgres.
pub fn parse_timestamp(text: &str, style: &Style) -> Result<i64> {
    if let Some(us) = iso_timestamp(text.as_bytes(), None) {
        return Ok(us);
    }
    timestamp_of(text, style, false)
}

/// With time zone: without one in the text, the session's.
pub fn parse_timestamptz(text: &str, style: &Style) -> Result<i64> {
    if let Some(us) = iso_timestamp(text.as_bytes(), Some(&style.zone)) {
        return Ok(us);
    }
    timestamp_of(text, style, true)
}

#[cold]
fn timestamp_of(text: &str, style: &Style, with_zone: bool) -> Result<i64> {
    let type_name = if with_zone { "timestamp with time zone" } else { "timestamp" };
    let parts = scan(text).map_err(|bad| error_of(bad, type_name, text))?;
    let local = match parts.special {
        Some(Special::Infinity) => return Ok(i64::MAX),
        Some(Special::MinusInfinity) => return Ok(i64::MIN),
        Some(Special::Epoch) => return Ok(0),
        Some(Special::Now) => {
            let now = now(style, text)?;
            return Ok(if with_zone { now } else { now + style.zone.offset_at(now) as i64 * SECOND_US });
        }
        Some(Special::Day(n)) => {
            (today(style, text)? + n) * DAY_US
                + time_of(&parts).map_err(|bad| error_of(bad, type_name, text))?.unwrap_or(0)
        }
        None => {
            let days = days_of(&parts).map_err(|bad| error_of(bad, type_name, text))?;
            if !(FIRST_DAY..TIMESTAMP_DAYS_END).contains(&days) {
                return Err(out_of_range("timestamp", text));
            }
            days * DAY_US + time_of(&parts).map_err(|bad| error_of(bad, type_name, text))?.unwrap_or(0)
        }
    };
    if !with_zone {
        return Ok(local);
    }
    let offset = parts.zone.unwrap_or(style.zone).offset_at_local(local);
    local.checked_sub(offset as i64 * SECOND_US).ok_or_else(|| out_of_range("timestamp", text))
}

fn now(style: &Style, text: &str) -> Result<i64> {
    style.now_us.ok_or_else(|| Error::unsupported(format!("the date/time value \"{text}\" here")))
}

fn today(style: &Style, text: &str) -> Result<i64> {
    let now = now(style, text)?;
    Ok((now + style.zone.offset_at(now) as i64 * SECOND_US).div_euclid(DAY_US))
}

fn days_of(parts: &Parts) -> Parsed<i64> {
    if let Some(julian) = parts.julian_day {
        return Ok(julian + FIRST_DAY);
    }
    let (year, month, day) = parts.date.ok_or(Bad::Syntax)?;
    let bc = parts.era == Some(true);
    // There is no year 0 in a text: 1 BC is the year 0 of the calendar.
    if (year == 0 && !parts.short_year) || (bc && year < 0) {
        return Err(Bad::Range);
    }
    let year = match year {
        _ if bc => 1 - year,
        0..70 if parts.short_year => year + 2000,
        70..100 if parts.short_year => year + 1900,
        _ => year,
    };
    if !(1..=12).contains(&month) || day < 1 || day > days_in_month(year, month) || year > 10_000_000 {
        return Err(Bad::Range);
    }
    Ok(days_from_civil(Civil { year, month, day }))
}

fn time_of(parts: &Parts) -> Parsed<Option<i64>> {
    const HOUR_US: i64 = 3600 * SECOND_US;
    let Some(us) = parts.time else { return if parts.pm.is_some() { Err(Bad::Syntax) } else { Ok(None) } };
    match parts.pm {
        None => Ok(Some(us)),
        Some(_) if us >= 13 * HOUR_US => Err(Bad::Range),
        Some(true) if us < 12 * HOUR_US => Ok(Some(us + 12 * HOUR_US)),
        Some(false) if us >= 12 * HOUR_US => Ok(Some(us - 12 * HOUR_US)),
        Some(_) => Ok(Some(us)),
    }
}

// The short way: exactly the ISO form, no spaces around.

fn two_digits(b: &[u8]) -> Option<u32> {
    let (tens, ones) = (b[0].wrapping_sub(b'0'), b[1].wrapping_sub(b'0'));
    (tens <= 9 && ones <= 9).then_some(tens as u32 * 10 + ones as u32)
}

/// `YYYY-MM-DD`, valid; days since 1970 and what follows.
fn iso_date(b: &[u8]) -> Option<(i64, &[u8])> {
    if b.len() < 10 || b[4] != b'-' || b[7] != b'-' {
        return None;
    }
    let year = two_digits(b)? as i64 * 100 + two_digits(&b[2..])? as i64;
    let (month, day) = (two_digits(&b[5..])?, two_digits(&b[8..])?);
    if year == 0 || !(1..=12).contains(&month) || day < 1 || day > days_in_month(year, month) {
        return None;
    }
    Some((days_from_civil(Civil { year, month, day }), &b[10..]))
}

/// `HH:MM:SS[.ffffff]`, valid; microseconds and what follows.
fn iso_time(b: &[u8]) -> Option<(i64, &[u8])> {
    if b.len() < 8 || b[2] != b':' || b[5] != b':' {
        return None;
    }
    let (hour, minute, second) = (two_digits(b)?, two_digits(&b[3..])?, two_digits(&b[6..])?);
    if hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let mut us = (hour as i64 * 3600 + minute as i64 * 60 + second as i64) * SECOND_US;
    let mut rest = &b[8..];
    if let [b'.', fraction @ ..] = rest {
        let digits = fraction.iter().take_while(|d| d.is_ascii_digit()).count();
        if digits == 0 || digits > 6 {
            return None;
        }
        let v = fraction[..digits].iter().fold(0i64, |v, d| v * 10 + (d - b'0') as i64);
        us += v * 10i64.pow(6 - digits as u32);
        rest = &fraction[digits..];
    }
    Some((us, rest))
}

fn iso_timestamp(b: &[u8], session: Option<&Zone>) -> Option<i64> {
    let (days, rest) = iso_date(b)?;
    let (us, rest) = match rest {
        [] => (0, rest),
        [b' ' | b'T', rest @ ..] => iso_time(rest)?,
        _ => return None,
    };
    let local = days * DAY_US + us;
    let Some(session) = session else { return rest.is_empty().then_some(local) };
    let offset = match rest {
        [] => session.offset_at_local(local),
        [b'Z'] => 0,
        [b'+' | b'-', ..] => zone::parse_offset(std::str::from_utf8(rest).ok()?)?,
        _ => return None,
    };
    Some(local - offset as i64 * SECOND_US)
}

// The long way: words and numbers in nearly any order.

fn month_of(word: &str) -> Option<u32> {
    const MONTHS: [&str; 12] = [
        "january",
        "february",
        "march",
        "april",
        "may",
        "june",
        "july",
        "august",
        "september",
        "october",
        "november",
        "december",
    ];
    if word.len() < 3 {
        return None;
    }
    let word = if word == "sept" { "sep" } else { word };
    MONTHS.iter().position(|m| *m == word || m[..3] == *word).map(|i| i as u32 + 1)
}

fn is_weekday(word: &str) -> bool {
    const DAYS: [&str; 7] = ["sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday"];
    const SHORT: [&str; 5] = ["tues", "wednes", "thur", "thurs", "weds"];
    DAYS.iter().any(|d| *d == word || d[..3] == *word) || SHORT.contains(&word)
}

/// A number of a date that was written in pieces (`Jan 2 2024`), with its count of digits.
type Loose = (i64, usize);

fn scan(text: &str) -> Parsed<Parts> {
    let mut parts = Parts::default();
    let mut month = None;
    let mut loose: Vec<Loose> = Vec::new();
    let lower = text.trim().to_ascii_lowercase();
    if lower.is_empty() || !lower.is_ascii() {
        return Err(Bad::Syntax);
    }
    let mut rest = lower.as_str();
    while let Some(first) = rest.chars().next() {
        if first.is_ascii_whitespace() || first == ',' {
            rest = &rest[1..];
            continue;
        }
        let is_zone_sign = matches!(first, '+' | '-') && rest[1..].starts_with(|c: char| c.is_ascii_digit());
        if is_zone_sign && (parts.time.is_some() || parts.date.is_some()) {
            let end = rest[1..].find(|c: char| !(c.is_ascii_digit() || c == ':')).map_or(rest.len(), |i| i + 1);
            set(&mut parts.zone, Zone::fixed(zone::parse_offset(&rest[..end]).ok_or(Bad::Displacement)?))?;
            rest = &rest[end..];
        } else if first.is_ascii_digit() {
            rest = scan_number(rest, &mut parts, &mut month, &mut loose)?;
        } else if first.is_ascii_alphabetic() || (first == '-' && rest.starts_with("-infinity")) {
            let end = rest[1..]
                .find(|c: char| !(c.is_ascii_alphabetic() || c == '/' || c == '_'))
                .map_or(rest.len(), |i| i + 1);
            rest = scan_word(&rest[..end], &rest[end..], &mut parts, &mut month)?;
        } else {
            return Err(Bad::Syntax);
        }
    }
    if !loose.is_empty() || month.is_some() {
        if parts.date.is_some() {
            return Err(Bad::Syntax);
        }
        date_of_pieces(month, &loose, &mut parts)?;
    }
    Ok(parts)
}

fn set<T>(slot: &mut Option<T>, value: T) -> Parsed<()> {
    if slot.is_some() {
        return Err(Bad::Syntax);
    }
    *slot = Some(value);
    Ok(())
}

fn scan_word<'a>(word: &str, rest: &'a str, parts: &mut Parts, month: &mut Option<u32>) -> Parsed<&'a str> {
    match word {
        "infinity" | "inf" => set(&mut parts.special, Special::Infinity)?,
        "-infinity" => set(&mut parts.special, Special::MinusInfinity)?,
        "epoch" => set(&mut parts.special, Special::Epoch)?,
        "now" => set(&mut parts.special, Special::Now)?,
        "today" => set(&mut parts.special, Special::Day(0))?,
        "allballs" => set(&mut parts.time, 0)?,
        "tomorrow" => set(&mut parts.special, Special::Day(1))?,
        "yesterday" => set(&mut parts.special, Special::Day(-1))?,
        "ad" => set(&mut parts.era, false)?,
        "bc" => set(&mut parts.era, true)?,
        "am" => set(&mut parts.pm, false)?,
        "pm" => set(&mut parts.pm, true)?,
        "t" | "at" | "on" | "of" => {}
        "j" => {
            let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
            set(&mut parts.julian_day, rest[..end].parse().map_err(|_| Bad::Syntax)?)?;
            return Ok(&rest[end..]);
        }
        _ if month_of(word).is_some() => {
            set(month, month_of(word).expect("just seen"))?;
            // `Jan-08-1999`
            return Ok(rest.strip_prefix('-').unwrap_or(rest));
        }
        _ if is_weekday(word) => {}
        _ => {
            let zone = match zone::abbreviation(word) {
                Some(seconds) => Zone::fixed(seconds),
                None => Zone::by_name(word)
                    .ok_or_else(|| if word.contains('/') { Bad::Zone(word.to_string()) } else { Bad::Syntax })?,
            };
            // `UTC+3` is a POSIX zone: three hours west.
            let end = rest.find(|c: char| !matches!(c, '0'..='9' | '+' | '-' | ':')).unwrap_or(rest.len());
            if end > 0 && rest.starts_with(['+', '-']) {
                set(&mut parts.zone, Zone::fixed(-zone::parse_offset(&rest[..end]).ok_or(Bad::Syntax)?))?;
                return Ok(&rest[end..]);
            }
            set(&mut parts.zone, zone)?;
        }
    }
    Ok(rest)
}

fn scan_number<'a>(
    rest: &'a str,
    parts: &mut Parts,
    month: &mut Option<u32>,
    loose: &mut Vec<Loose>,
) -> Parsed<&'a str> {
    let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    let after = rest[digits..].chars().next();
    if after == Some(':') {
        let end = rest.find(|c: char| !(c.is_ascii_digit() || c == ':' || c == '.')).unwrap_or(rest.len());
        set(&mut parts.time, parse_clock(&rest[..end])?)?;
        return Ok(&rest[end..]);
    }
    let separator = after.filter(|c| matches!(c, '-' | '/' | '.'));
    if let Some(separator) = separator
        && parts.date.is_none()
        && month.is_none()
        && loose.is_empty()
    {
        if parts.time.is_some() {
            return Err(Bad::Syntax);
        }
        // Three fields joined by the separator; the middle one may be a month's name.
        let fields_end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == separator)).unwrap_or(rest.len());
        let whole = &rest[..fields_end];
        let mut fields = whole.splitn(3, separator);
        if let (Some(a), Some(b), Some(c)) = (fields.next(), fields.next(), fields.next()) {
            let c_end = c.find(|c: char| !c.is_ascii_digit()).unwrap_or(c.len());
            if c_end == 0 {
                return Err(Bad::Syntax);
            }
            let used = a.len() + b.len() + 2 + c_end;
            let c = &c[..c_end];
            let number = |t: &str| t.parse::<i64>().map(|v| (v, t.len())).map_err(|_| Bad::Syntax);
            if let Some(named) = month_of(b) {
                date_of_pieces(Some(named), &[number(a)?, number(c)?], parts)?;
            } else {
                date_of_pieces(None, &[number(a)?, number(b)?, number(c)?], parts)?;
            }
            return Ok(&rest[used..]);
        }
        // The day of the year: `2024-060`.
        let (year, day) = whole.split_once(separator).ok_or(Bad::Syntax)?;
        if day.len() != 3 || year.len() < 3 {
            return Err(Bad::Syntax);
        }
        let (year, day) = (year.parse().map_err(|_| Bad::Range)?, day.parse::<i64>().map_err(|_| Bad::Syntax)?);
        let in_year = days_from_civil(Civil { year, month: 1, day: 1 }) + day - 1;
        if day < 1 || civil_from_days(in_year).year != year {
            return Err(Bad::Range);
        }
        set(&mut parts.julian_day, in_year - FIRST_DAY)?;
        return Ok(&rest[fields_end..]);
    }
    let number: i64 = rest[..digits].parse().map_err(|_| Bad::Range)?;
    let has_date = parts.date.is_some() || parts.julian_day.is_some();
    match digits {
        8 if !has_date && loose.is_empty() && month.is_none() => {
            parts.date = Some((number / 10_000, (number / 100 % 100) as u32, (number % 100) as u32));
        }
        // hhmmss or hhmm after a date, with a fraction perhaps.
        4 | 6 if (has_date || rest.len() == digits && loose.is_empty() && month.is_none()) && parts.time.is_none() => {
            let text = &rest[..digits];
            let clock = match digits {
                4 => format!("{}:{}", &text[..2], &text[2..]),
                _ => format!("{}:{}:{}", &text[..2], &text[2..4], &text[4..]),
            };
            let mut end = digits;
            let mut clock = clock;
            if after == Some('.') {
                end = digits
                    + 1
                    + rest[digits + 1..].find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len() - digits - 1);
                clock.push_str(&rest[digits..end]);
            }
            parts.time = Some(parse_clock(&clock)?);
            return Ok(&rest[end..]);
        }
        9.. => return Err(Bad::Range),
        _ if has_date || loose.len() >= 3 => return Err(Bad::Syntax),
        _ => {
            loose.push((number, digits));
            // `2nd`, `3rd` are not Postgres; a hyphen joins the pieces of `Jan-02-2024`.
            return Ok(rest[digits..].strip_prefix('-').unwrap_or(&rest[digits..]));
        }
    }
    Ok(&rest[digits..])
}

/// `hh:mm[:ss[.fraction]]`; 24:00:00 and a sixtieth second are accepted.
fn parse_clock(text: &str) -> Parsed<i64> {
    let mut fields = text.split(':');
    let mut field = |required: bool| match fields.next() {
        Some(f) if !f.is_empty() => Ok(f),
        None if !required => Ok("0"),
        _ => Err(Bad::Syntax),
    };
    let (hour, minute, seconds) = (field(true)?, field(true)?, field(false)?);
    if fields.next().is_some() {
        return Err(Bad::Syntax);
    }
    let whole = |t: &str| t.parse::<i64>().map_err(|_| Bad::Syntax);
    let (hour, minute) = (whole(hour)?, whole(minute)?);
    let (second, fraction) = seconds.split_once('.').unwrap_or((seconds, ""));
    let second = whole(second)?;
    let us = parse_fraction(fraction).ok_or(Bad::Syntax)?;
    let total = (hour * 3600 + minute * 60 + second) * SECOND_US + us;
    if hour > 24 || minute > 59 || second > 60 || total > DAY_US {
        return Err(Bad::Range);
    }
    Ok(total)
}

/// Digits after a point in microseconds, rounded half to even.
pub fn parse_fraction(digits: &str) -> Option<i64> {
    if !digits.bytes().all(|d| d.is_ascii_digit()) {
        return None;
    }
    let (kept, cut) = digits.split_at(digits.len().min(6));
    let us = kept.bytes().fold(0i64, |v, d| v * 10 + (d - b'0') as i64) * 10i64.pow(6 - kept.len() as u32);
    let up = match cut.as_bytes() {
        [b'5', rest @ ..] if rest.iter().all(|d| *d == b'0') => us % 2 == 1,
        [first, ..] => *first >= b'5',
        [] => false,
    };
    Some(us + i64::from(up))
}

/// Year, month and day from numbers in the order given: the year is the one that cannot be a day, or the
/// last; between the others the month comes first.
fn date_of_pieces(month: Option<u32>, numbers: &[Loose], parts: &mut Parts) -> Parsed<()> {
    let small = |(v, _): Loose| u32::try_from(v).map_err(|_| Bad::Range);
    let is_year = |(_, digits): Loose| digits > 2;
    let (year, month, day) = match (month, numbers) {
        (Some(m), [a, b]) if is_year(*a) => (*a, m, small(*b)?),
        (Some(m), [a, b]) => (*b, m, small(*a)?),
        (None, [a, b, c]) if is_year(*a) => (*a, small(*b)?, small(*c)?),
        (None, [a, b, c]) => (*c, small(*a)?, small(*b)?),
        _ => return Err(Bad::Syntax),
    };
    parts.short_year = !is_year(year);
    parts.date = Some((year.0, month, day));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn style(zone: &str) -> Style {
        Style { zone: Zone::parse(zone).unwrap(), now_us: Some(1_700_000_000_000_000) }
    }
    fn date(t: &str) -> Result<String> {
        let mut out = Vec::new();
        write_date(parse_date(t, &style("UTC"))?, &mut out);
        Ok(String::from_utf8(out).unwrap())
    }
    fn timestamp(t: &str) -> Result<String> {
        let mut out = Vec::new();
        write_timestamp(parse_timestamp(t, &style("UTC"))?, None, &mut out);
        Ok(String::from_utf8(out).unwrap())
    }
    fn timestamptz(t: &str, zone: &str) -> Result<String> {
        let mut out = Vec::new();
        let style = style(zone);
        write_timestamp(parse_timestamptz(t, &style)?, Some(&style.zone), &mut out);
        Ok(String::from_utf8(out).unwrap())
    }

    #[test]
    fn dates() {
        for (t, expected) in [
            ("2024-02-29", "2024-02-29"),
            (" 2024-02-29 ", "2024-02-29"),
            ("20240229", "2024-02-29"),
            ("2024/02/29", "2024-02-29"),
            ("1/8/1999", "1999-01-08"),
            ("01-08-1999", "1999-01-08"),
            ("1999-Jan-08", "1999-01-08"),
            ("Jan-08-1999", "1999-01-08"),
            ("08-Jan-1999", "1999-01-08"),
            ("January 8, 1999", "1999-01-08"),
            ("8 January 1999", "1999-01-08"),
            ("Mon Jan 8 1999", "1999-01-08"),
            ("1/8/69", "2069-01-08"),
            ("1/8/70", "1970-01-08"),
            ("J2451187", "1999-01-08"),
            ("January 8, 99 BC", "0099-01-08 BC"),
            ("0044-03-15 BC", "0044-03-15 BC"),
            ("12345-01-02", "12345-01-02"),
            ("2024-02-29 13:14:15+02", "2024-02-29"),
            ("infinity", "infinity"),
            ("-infinity", "-infinity"),
            ("epoch", "1970-01-01"),
            ("today", "2023-11-14"),
            ("yesterday", "2023-11-13"),
        ] {
            assert_eq!(date(t).as_deref(), Ok(expected), "{t}");
        }
        for (t, code) in [
            ("2023-02-29", "22008"),
            ("2024-13-01", "22008"),
            ("2024-00-01", "22008"),
            ("0000-01-01", "22008"),
            ("x", "22007"),
            ("", "22007"),
            ("2024-01", "22007"),
        ] {
            assert_eq!(date(t).unwrap_err().code, code, "{t}");
        }
        assert_eq!(date("x").unwrap_err().message, "invalid input syntax for type date: \"x\"");
        let e = date("2024-13-01").unwrap_err();
        assert_eq!(e.message, "date/time field value out of range: \"2024-13-01\"");
    }

    #[test]
    fn times() {
        for (t, expected) in [
            ("04:05:06.789", "04:05:06.789"),
            ("04:05:06", "04:05:06"),
            ("04:05", "04:05:00"),
            ("040506", "04:05:06"),
            ("0405", "04:05:00"),
            ("04:05 AM", "04:05:00"),
            ("04:05 pm", "16:05:00"),
            ("12:00 am", "00:00:00"),
            ("24:00:00", "24:00:00"),
            ("23:59:60", "24:00:00"),
            ("04:05:06.123456789", "04:05:06.123457"),
            ("04:05:06-08", "04:05:06"),
            ("allballs", "00:00:00"),
        ] {
            let mut out = Vec::new();
            write_time(parse_time(t).unwrap_or_else(|e| panic!("{t}: {e}")), &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), expected, "{t}");
        }
        assert_eq!(parse_time("25:00").unwrap_err().code, "22008");
        assert_eq!(parse_time("noon").unwrap_err().message, "invalid input syntax for type time: \"noon\"");
    }

    #[test]
    fn timestamps() {
        for (t, expected) in [
            ("2024-01-02 03:04:05.6", "2024-01-02 03:04:05.6"),
            ("2024-01-02T03:04:05", "2024-01-02 03:04:05"),
            ("2024-01-02 03:04", "2024-01-02 03:04:00"),
            ("2024-01-02", "2024-01-02 00:00:00"),
            ("2024-01-02 24:00:00", "2024-01-03 00:00:00"),
            ("2024-01-02 03:04:05+02", "2024-01-02 03:04:05"),
            ("20240102T030405", "2024-01-02 03:04:05"),
            ("Jan 2, 2024 3:04 pm", "2024-01-02 15:04:00"),
            ("Tue Jan 02 03:04:05 2024 UTC", "2024-01-02 03:04:05"),
            ("1969-12-31 23:59:59.999999", "1969-12-31 23:59:59.999999"),
            ("0001-01-01 00:00:00 BC", "0001-01-01 00:00:00 BC"),
            ("294246-12-31 23:59:59.999999", "294246-12-31 23:59:59.999999"),
            ("infinity", "infinity"),
            ("-infinity", "-infinity"),
            ("now", "2023-11-14 22:13:20"),
        ] {
            assert_eq!(timestamp(t).as_deref(), Ok(expected), "{t}");
        }
        for t in ["294277-01-01", "2024-01-02 25:00:00", "2024-02-30 00:00:00", "5000-01-01 BC"] {
            assert_eq!(timestamp(t).unwrap_err().code, "22008", "{t}");
        }
        assert_eq!(timestamp("nonsense").unwrap_err().message, "invalid input syntax for type timestamp: \"nonsense\"");
    }

    #[test]
    fn timestamps_with_time_zone() {
        for (t, zone, expected) in [
            ("2024-01-02 03:04:05+00", "UTC", "2024-01-02 03:04:05+00"),
            ("2024-01-02 03:04:05+02", "UTC", "2024-01-02 01:04:05+00"),
            ("2024-01-02T03:04:05Z", "Asia/Kolkata", "2024-01-02 08:34:05+05:30"),
            ("2024-01-02 03:04:05", "Europe/Berlin", "2024-01-02 03:04:05+01"),
            ("2024-07-02 03:04:05", "Europe/Berlin", "2024-07-02 03:04:05+02"),
            ("2024-07-02 03:04:05 America/New_York", "UTC", "2024-07-02 07:04:05+00"),
            ("2024-07-02 03:04:05 PST", "UTC", "2024-07-02 11:04:05+00"),
            ("2024-07-02 03:04:05 -0530", "UTC", "2024-07-02 08:34:05+00"),
            ("1800-01-01 00:00:00+00", "Europe/Berlin", "1800-01-01 00:53:28+00:53:28"),
            ("0044-03-15 12:00:00+00 BC", "UTC", "0044-03-15 12:00:00+00 BC"),
            ("infinity", "UTC", "infinity"),
        ] {
            assert_eq!(timestamptz(t, zone).as_deref(), Ok(expected), "{t} in {zone}");
        }
        let e = timestamptz("2024-01-02 03:04:05 Nowhere/Else", "UTC").unwrap_err();
        assert_eq!(e.code, "22023");
    }
}
