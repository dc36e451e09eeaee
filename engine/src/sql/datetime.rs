//! Dates and times as Postgres reads and writes them (ISO style), and time zones.
//!
//! ```text
//!   2024-01-02 03:04:05.678   20240102T030405   2024-01-02T03:04:05Z   2024-01-02 03:04+02:30   … Europe/Berlin
//! ```
//!
//! What is no date is 22007, a date that does not exist 22008. A timestamp without a zone takes a zone in its text for
//! noise, as in Postgres. Local times that a clock change skips or repeats are taken as in standard time.

use arrow::array::timezone::Tz;
use chrono::{DateTime, Datelike, Days, NaiveDate, NaiveDateTime, NaiveTime, Offset, TimeDelta, TimeZone, Timelike};

use crate::error::{Error, Result};

/// A zone's name or offset. Postgres writes `UTC+2` the other way round; only ISO offsets and names are read here.
pub fn zone(name: &str) -> Result<Tz> {
    let upper = name.to_ascii_uppercase();
    let plain = match upper.as_str() {
        "UTC" | "GMT" | "Z" | "ZULU" | "UCT" | "ETC/UTC" | "ETC/GMT" | "0" => "+00:00",
        _ => name,
    };
    if let Ok(hours) = plain.parse::<i32>()
        && (-15..=15).contains(&hours)
    {
        let sign = if hours < 0 { '-' } else { '+' };
        return zone(&format!("{sign}{:02}:00", hours.abs()));
    }
    plain.parse().map_err(|_| Error::invalid_value(format!("time zone \"{name}\" not recognized")))
}

/// Microseconds since 1970 of a local time in a zone.
pub fn local_to_utc(local: NaiveDateTime, zone: &Tz) -> i64 {
    let utc = match zone.from_local_datetime(&local) {
        chrono::LocalResult::Single(time) => time.naive_utc(),
        chrono::LocalResult::Ambiguous(_, standard) => standard.naive_utc(),
        // Skipped: as if the clock had not been changed yet.
        chrono::LocalResult::None => {
            let before = local - TimeDelta::hours(3);
            let offset = zone.offset_from_local_datetime(&before).earliest().map_or(0, |o| o.fix().local_minus_utc());
            local - TimeDelta::seconds(offset.into())
        }
    };
    utc.and_utc().timestamp_micros()
}

/// The local time in a zone of a moment; `None` beyond chrono's range.
pub fn utc_to_local(us: i64, zone: &Tz) -> Option<NaiveDateTime> {
    Some(DateTime::from_timestamp_micros(us)?.with_timezone(zone).naive_local())
}

/// A text taken apart.
struct Parsed {
    date: NaiveDate,
    time: Option<NaiveTime>,
    /// 24:00 is the next day's midnight.
    next_day: bool,
    zone: Option<Tz>,
}

/// The day of a text; a time in it is left off.
pub fn parse_date(text: &str) -> Result<NaiveDate> {
    parse(text, "date").map(|p| p.date)
}

/// Local microseconds of a timestamp without time zone.
pub fn parse_timestamp(text: &str) -> Result<i64> {
    let parsed = parse(text, "timestamp")?;
    local(&parsed, text).map(|local| local.and_utc().timestamp_micros())
}

/// Microseconds since 1970 UTC; a text without a zone is local time in `session`.
pub fn parse_timestamptz(text: &str, session: &Tz) -> Result<i64> {
    let parsed = parse(text, "timestamp with time zone")?;
    let local = local(&parsed, text)?;
    Ok(local_to_utc(local, parsed.zone.as_ref().unwrap_or(session)))
}

/// Microseconds since midnight.
pub fn parse_time(text: &str) -> Result<i64> {
    let trimmed = text.trim();
    let syntax = || Error::new("22007", format!("invalid input syntax for type time: \"{text}\""));
    // `2024-01-02 03:04` has a time in it too.
    let clock = trimmed.rsplit([' ', 'T']).next().unwrap_or(trimmed);
    let (time, next_day) =
        clock_of(clock.trim_end_matches(['Z', 'z'])).ok_or_else(syntax)?.ok_or_else(|| field_error(text))?;
    let us = i64::from(time.num_seconds_from_midnight()) * 1_000_000 + i64::from(time.nanosecond() / 1000);
    Ok(if next_day { 86_400_000_000 } else { us })
}

fn field_error(text: &str) -> Error {
    Error::new("22008", format!("date/time field value out of range: \"{text}\""))
}

fn local(parsed: &Parsed, text: &str) -> Result<NaiveDateTime> {
    let date = match parsed.next_day {
        true => parsed.date.checked_add_days(Days::new(1)).ok_or_else(|| field_error(text))?,
        false => parsed.date,
    };
    Ok(date.and_time(parsed.time.unwrap_or_default()))
}

fn parse(text: &str, type_name: &str) -> Result<Parsed> {
    let syntax = || Error::new("22007", format!("invalid input syntax for type {type_name}: \"{text}\""));
    let trimmed = text.trim();
    if trimmed.eq_ignore_ascii_case("epoch") {
        let date = NaiveDate::from_ymd_opt(1970, 1, 1).expect("a day");
        return Ok(Parsed { date, time: None, next_day: false, zone: Some(zone("UTC")?) });
    }
    if trimmed.trim_start_matches(['-', '+']).eq_ignore_ascii_case("infinity") {
        return Err(Error::unsupported(format!("infinity as a {type_name}")));
    }
    let date_length = trimmed.find(|c: char| !(c.is_ascii_digit() || c == '-' || c == '/')).unwrap_or(trimmed.len());
    let (date, rest) = trimmed.split_at(date_length);
    let date = date_of(date).ok_or_else(syntax)?.ok_or_else(|| field_error(text))?;
    let rest = rest.strip_prefix(['T', 't']).unwrap_or(rest).trim_start();
    if rest.is_empty() {
        return Ok(Parsed { date, time: None, next_day: false, zone: None });
    }
    let clock_length = rest.find(|c: char| !(c.is_ascii_digit() || c == ':' || c == '.')).unwrap_or(rest.len());
    let (clock, rest) = rest.split_at(clock_length);
    let (time, next_day) = match clock.is_empty() {
        true => (NaiveTime::default(), false),
        false => clock_of(clock).ok_or_else(syntax)?.ok_or_else(|| field_error(text))?,
    };
    let zone = match rest.trim() {
        "" => None,
        offset if offset.starts_with(['+', '-']) => Some(offset_of(offset).ok_or_else(syntax)?),
        name if name.starts_with(|c: char| c.is_ascii_alphabetic()) => Some(zone(name).map_err(|_| syntax())?),
        _ => return Err(syntax()),
    };
    Ok(Parsed { date, time: Some(time), next_day, zone })
}

/// `None` is bad syntax, `Some(None)` a day that does not exist.
fn date_of(text: &str) -> Option<Option<NaiveDate>> {
    let (year, month, day) = if text.len() == 8 && text.bytes().all(|b| b.is_ascii_digit()) {
        (&text[..4], &text[4..6], &text[6..])
    } else {
        let separator = if text.contains('/') { '/' } else { '-' };
        let mut parts = text.split(separator);
        let parts = (parts.next()?, parts.next()?, parts.next()?, parts.next());
        match parts {
            (year, month, day, None) if year.len() >= 4 => (year, month, day),
            // Month first, as DateStyle MDY has it.
            (month, day, year, None) if year.len() == 4 => (year, month, day),
            _ => return None,
        }
    };
    Some(NaiveDate::from_ymd_opt(year.parse().ok()?, month.parse().ok()?, day.parse().ok()?))
}

/// A time, and whether it is 24:00; like [`date_of`].
fn clock_of(text: &str) -> Option<Option<(NaiveTime, bool)>> {
    let (clock, fraction) = text.split_once('.').unwrap_or((text, ""));
    let (hour, minute, second) = match clock.split(':').collect::<Vec<_>>().as_slice() {
        [hour, minute] => (*hour, *minute, "0"),
        [hour, minute, second] => (*hour, *minute, *second),
        [digits] if digits.len() == 6 => (&digits[..2], &digits[2..4], &digits[4..]),
        [digits] if digits.len() == 4 => (&digits[..2], &digits[2..], "0"),
        _ => return None,
    };
    let (hour, minute, second): (u32, u32, u32) = (hour.parse().ok()?, minute.parse().ok()?, second.parse().ok()?);
    // Rounded to microseconds, as in Postgres.
    let micros = match fraction {
        "" => 0,
        digits if digits.bytes().all(|b| b.is_ascii_digit()) => {
            (format!("0.{digits}").parse::<f64>().ok()? * 1e6).round() as i64
        }
        _ => return None,
    };
    if (hour, minute, second, micros) == (24, 0, 0, 0) {
        return Some(Some((NaiveTime::default(), true)));
    }
    // 23:59:60 is the next minute.
    let valid = hour < 24 && minute < 60 && second <= 60;
    let start = NaiveTime::from_hms_opt(hour.min(23), minute.min(59), 0).expect("within a day");
    let (time, carried) =
        start.overflowing_add_signed(TimeDelta::seconds(second.into()) + TimeDelta::microseconds(micros));
    Some(valid.then_some((time, carried != 0)))
}

/// `+02`, `+0230`, `+02:30`.
fn offset_of(text: &str) -> Option<Tz> {
    let (sign, digits) = text.split_at(1);
    let digits: String = digits.trim().chars().filter(|&c| c != ':').collect();
    if !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let padded = match digits.len() {
        1 => format!("0{digits}:00"),
        2 => format!("{digits}:00"),
        4 => format!("{}:{}", &digits[..2], &digits[2..]),
        _ => return None,
    };
    format!("{sign}{padded}").parse().ok()
}

/// `2024-01-02 03:04:05.678`; `None` beyond chrono's range.
pub fn format_timestamp(local_us: i64) -> Option<String> {
    let local = DateTime::from_timestamp_micros(local_us)?.naive_utc();
    Some(format_local(&local))
}

pub fn format_date(date: NaiveDate) -> String {
    match date.year() {
        year if year > 0 => format!("{year:04}-{:02}-{:02}", date.month(), date.day()),
        year => format!("{:04}-{:02}-{:02} BC", 1 - year, date.month(), date.day()),
    }
}

fn format_local(local: &NaiveDateTime) -> String {
    let (date, time) = (format_date(local.date()), format_time(local.time()));
    match date.strip_suffix(" BC") {
        Some(date) => format!("{date} {time} BC"),
        None => format!("{date} {time}"),
    }
}

/// `03:04:05.678`, the fraction without zeros at its end.
pub fn format_time(time: NaiveTime) -> String {
    let clock = format!("{:02}:{:02}:{:02}", time.hour(), time.minute(), time.second());
    match time.nanosecond() / 1000 {
        0 => clock,
        micros => format!("{clock}.{}", format!("{micros:06}").trim_end_matches('0')),
    }
}

/// With the zone's offset: `2024-01-02 03:04:05+01`.
pub fn format_timestamptz(us: i64, zone: &Tz) -> Option<String> {
    let time = DateTime::from_timestamp_micros(us)?.with_timezone(zone);
    let seconds = time.offset().fix().local_minus_utc();
    let sign = if seconds < 0 { '-' } else { '+' };
    let (hours, minutes) = (seconds.abs() / 3600, seconds.abs() / 60 % 60);
    let offset = if minutes == 0 { format!("{sign}{hours:02}") } else { format!("{sign}{hours:02}:{minutes:02}") };
    let local = format_local(&time.naive_local());
    Some(match local.strip_suffix(" BC") {
        Some(local) => format!("{local}{offset} BC"),
        None => format!("{local}{offset}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_and_writes() {
        let utc = zone("UTC").unwrap();
        let berlin = zone("Europe/Berlin").unwrap();
        for (text, session, written) in [
            ("2024-01-02 03:04:05.678", &utc, "2024-01-02 03:04:05.678+00"),
            ("2024-01-02T03:04:05Z", &berlin, "2024-01-02 04:04:05+01"),
            ("2024-01-02 03:04", &berlin, "2024-01-02 03:04:00+01"),
            ("2024-07-02 03:04:05+02:30", &berlin, "2024-07-02 02:34:05+02"),
            ("2024-01-02", &utc, "2024-01-02 00:00:00+00"),
            ("20240102T030405-0130", &utc, "2024-01-02 04:34:05+00"),
            ("2024-01-02 00:00:00 Europe/Berlin", &utc, "2024-01-01 23:00:00+00"),
            ("2024-01-02 24:00", &utc, "2024-01-03 00:00:00+00"),
            ("1/2/2024 10:00", &utc, "2024-01-02 10:00:00+00"),
            ("epoch", &utc, "1970-01-01 00:00:00+00"),
            ("2024-03-31 02:30", &berlin, "2024-03-31 03:30:00+02"),
            ("2024-10-27 02:30", &berlin, "2024-10-27 02:30:00+01"),
            ("2024-01-02 03:04:05.1234567", &utc, "2024-01-02 03:04:05.123457+00"),
        ] {
            let us = parse_timestamptz(text, session).unwrap_or_else(|e| panic!("{text}: {e}"));
            assert_eq!(format_timestamptz(us, session).unwrap(), written, "{text}");
        }
        assert_eq!(format_timestamp(parse_timestamp("2024-01-02 03:04+05").unwrap()).unwrap(), "2024-01-02 03:04:00");
        assert_eq!(parse_time("03:04:05.5").unwrap(), 11_045_500_000);
        assert_eq!(format_date(parse_date("2024-02-29 10:00").unwrap()), "2024-02-29");
    }

    #[test]
    fn refusals() {
        for (text, code) in [
            ("2024-13-45", "22008"),
            ("2024-02-30", "22008"),
            ("2024-01-01 25:00", "22008"),
            ("abc", "22007"),
            ("", "22007"),
            ("2024-01", "22007"),
            ("2024-01-01 10:00 Nowhere/Land", "22007"),
            ("2024-01-01 10:00:00:00", "22007"),
            ("infinity", "0A000"),
        ] {
            assert_eq!(parse_timestamp(text).unwrap_err().code, code, "{text}");
        }
        assert_eq!(zone("Nowhere").unwrap_err().code, "22023");
    }
}
