//! Time zones: from the names that Postgres accepts to the offset at an instant, and back.
//!
//! ```text
//!   Europe/Berlin, utc      by name, in any case
//!   +02, -7.5, +05:30       hours east of UTC, as in SET TIME ZONE -7 and in Arrow's types
//!   <+02>-02, GMT-3         POSIX: after a name the number counts hours *west*
//! ```
//!
//! A wall time that a clock change skips, or that occurs twice, is read as standard time, as Postgres does.

use arrow::array::timezone::Tz;
use chrono::offset::{LocalResult, Offset, TimeZone};
use chrono::{DateTime, NaiveDateTime};

use crate::error::{Error, Result};

#[derive(Debug, Clone, Copy, Default)]
pub enum Zone {
    #[default]
    Utc,
    /// Seconds east of UTC.
    Fixed(i32),
    Named(Tz),
}

impl Zone {
    /// Any spelling that `SET TIME ZONE` accepts.
    pub fn parse(text: &str) -> Result<Zone> {
        let text = text.trim();
        if let Ok(hours) = text.parse::<f64>()
            && hours.abs() <= 168.0
        {
            return Ok(Self::fixed((hours * 3600.0).round() as i32));
        }
        let east = || text.starts_with(['+', '-']).then(|| parse_offset(text)).flatten().map(Self::fixed);
        Self::by_name(text)
            .or_else(east)
            .or_else(|| Self::posix(text))
            .ok_or_else(|| Error::invalid_value(format!("invalid value for parameter \"TimeZone\": \"{text}\"")))
    }

    /// A zone as AT TIME ZONE and functions name it: there an offset counts as in POSIX, west, unlike in SET TIME ZONE 2.
    pub fn in_query(text: &str) -> Result<Zone> {
        let text = text.trim();
        let abbreviated = || abbreviation(&text.to_ascii_lowercase()).map(Self::fixed);
        Self::by_name(text)
            .or_else(abbreviated)
            .or_else(|| Self::posix(text))
            .ok_or_else(|| Error::invalid_value(format!("time zone \"{text}\" not recognized")))
    }

    pub fn fixed(seconds_east: i32) -> Zone {
        if seconds_east == 0 { Zone::Utc } else { Zone::Fixed(seconds_east) }
    }

    pub fn by_name(name: &str) -> Option<Zone> {
        Self::known(name).map(|(_, zone)| zone)
    }

    /// The zone and its name as Arrow and Postgres spell it.
    fn known(name: &str) -> Option<(String, Zone)> {
        const UTC: &[&str] = &["UTC", "GMT", "Z", "Zulu", "Etc/UTC", "Universal", "Greenwich"];
        if let Some(name) = UTC.iter().find(|n| name.eq_ignore_ascii_case(n)) {
            return Some((name.to_string(), Zone::Utc));
        }
        // Arrow's parser also takes offsets, whose sign means the opposite here.
        if !name.starts_with(|c: char| c.is_ascii_alphabetic()) {
            return None;
        }
        let mut capitalised = String::with_capacity(name.len());
        let mut start = true;
        for c in name.chars() {
            capitalised.push(if start { c.to_ascii_uppercase() } else { c.to_ascii_lowercase() });
            start = matches!(c, '/' | '_' | '-');
        }
        [name, &capitalised, &name.to_ascii_uppercase()]
            .iter()
            .find_map(|n| n.parse::<Tz>().ok().map(|tz| (n.to_string(), Zone::Named(tz))))
            .or_else(|| Self::of_country(&capitalised))
    }

    /// `us/pacific`: `US/Pacific`.
    fn of_country(capitalised: &str) -> Option<(String, Zone)> {
        let (country, place) = capitalised.split_once('/')?;
        let name = format!("{}/{place}", country.to_ascii_uppercase());
        name.parse::<Tz>().ok().map(|tz| (name, Zone::Named(tz)))
    }

    /// `<+02>-02`, `ABC+3`: the offset counts west.
    fn posix(text: &str) -> Option<Zone> {
        let offset = match text.strip_prefix('<') {
            Some(rest) => rest.split_once('>')?.1,
            None => text.trim_start_matches(|c: char| c.is_ascii_alphabetic()),
        };
        parse_offset(offset).map(|west| Self::fixed(-west))
    }

    /// Seconds east of UTC at an instant, given in microseconds since 1970 UTC.
    pub fn offset_at(&self, us: i64) -> i32 {
        match self {
            Zone::Utc => 0,
            Zone::Fixed(seconds) => *seconds,
            Zone::Named(tz) => tz.offset_from_utc_datetime(&naive(us)).fix().local_minus_utc(),
        }
    }

    /// Seconds east of UTC at a wall time, given in microseconds since 1970 on that wall's clock.
    pub fn offset_at_local(&self, us: i64) -> i32 {
        match self {
            Zone::Utc => 0,
            Zone::Fixed(seconds) => *seconds,
            Zone::Named(tz) => match tz.offset_from_local_datetime(&naive(us)) {
                LocalResult::Single(o) => o.fix().local_minus_utc(),
                // Occurs twice: the later one, after the clocks went back.
                LocalResult::Ambiguous(_, later) => later.fix().local_minus_utc(),
                // Skipped: go by the offset before the change.
                LocalResult::None => {
                    const HOUR: i64 = 3_600_000_000;
                    (1..48)
                        .find_map(|h| tz.offset_from_local_datetime(&naive(us - h * HOUR)).latest())
                        .map_or(0, |o| o.fix().local_minus_utc())
                }
            },
        }
    }
}

/// What SET makes of a spelling: the text that SHOW gives, which means the same when it is set again. Offsets are those
/// that Arrow can name: whole minutes, less than 16 hours.
pub fn setting(text: &str) -> Result<String> {
    let text = text.trim();
    let invalid = || Error::invalid_value(format!("invalid value for parameter \"TimeZone\": \"{text}\""));
    let posix = |seconds: i32| {
        let (sign, opposite) = if seconds < 0 { ('-', '+') } else { ('+', '-') };
        let (hours, minutes) = (seconds.abs() / 3600, seconds.abs() / 60 % 60);
        let clock = if minutes == 0 { format!("{hours:02}") } else { format!("{hours:02}:{minutes:02}") };
        format!("<{sign}{clock}>{opposite}{clock}")
    };
    if let Ok(hours) = text.parse::<f64>() {
        let seconds = (hours * 3600.0).round();
        let named = seconds % 60.0 == 0.0 && seconds.abs() < 16.0 * 3600.0 && (seconds != 0.0 || hours == 0.0);
        return if named { Ok(posix(seconds as i32)) } else { Err(invalid()) };
    }
    if let Some((name, _)) = Zone::known(text) {
        return Ok(name);
    }
    match Zone::posix(text) {
        _ if text.is_empty() => Err(invalid()),
        Some(zone) if zone.offset_at(0) % 60 != 0 => Err(invalid()),
        Some(zone) if text.starts_with(|c: char| c == '+' || c == '-' || c.is_ascii_digit()) => {
            Ok(posix(zone.offset_at(0)))
        }
        Some(_) => Ok(text.to_string()),
        None => Err(invalid()),
    }
}

/// A setting's zone as Arrow and the planner name it: `Europe/Berlin`, `+02:00`.
pub fn name(setting: &str) -> String {
    match Zone::parse(setting) {
        Ok(Zone::Fixed(seconds)) => {
            let sign = if seconds < 0 { '-' } else { '+' };
            format!("{sign}{:02}:{:02}", seconds.abs() / 3600, seconds.abs() / 60 % 60)
        }
        Ok(Zone::Named(_)) => setting.to_string(),
        Ok(Zone::Utc) | Err(_) => "UTC".to_string(),
    }
}

/// Zones are known for years that chrono can express; beyond them the nearest one counts.
fn naive(us: i64) -> NaiveDateTime {
    let limit = 8_000_000_000_000_000_000;
    DateTime::from_timestamp_micros(us.clamp(-limit, limit)).expect("within chrono's range").naive_utc()
}

/// `[+-]h`, `hh`, `hhmm`, `hh:mm`, `hh:mm:ss` in seconds.
pub fn parse_offset(text: &str) -> Option<i32> {
    let (sign, body) = match text.as_bytes().first()? {
        b'+' => (1, &text[1..]),
        b'-' => (-1, &text[1..]),
        _ => (1, text),
    };
    if body.is_empty() || !body.bytes().all(|b| b.is_ascii_digit() || b == b':') {
        return None;
    }
    let mut parts: Vec<i32> = Vec::with_capacity(3);
    if body.contains(':') {
        for part in body.split(':') {
            parts.push(if part.len() <= 2 { part.parse().ok()? } else { return None });
        }
    } else {
        let v: i32 = if body.len() <= 6 { body.parse().ok()? } else { return None };
        match body.len() {
            1 | 2 => parts.push(v),
            3 | 4 => parts.extend([v / 100, v % 100]),
            _ => parts.extend([v / 10_000, v / 100 % 100, v % 100]),
        }
    }
    let get = |i: usize| parts.get(i).copied().unwrap_or(0);
    if parts.len() > 3 || get(0) > 15 || get(1) > 59 || get(2) > 59 {
        return None;
    }
    Some(sign * (get(0) * 3600 + get(1) * 60 + get(2)))
}

/// Seconds east of UTC of the usual abbreviations in timestamps (Postgres' `Default` set, the common part).
pub fn abbreviation(name: &str) -> Option<i32> {
    const ABBREVIATIONS: &[(&str, i32)] = &[
        ("utc", 0),
        ("gmt", 0),
        ("ut", 0),
        ("z", 0),
        ("zulu", 0),
        ("wet", 0),
        ("west", 3600),
        ("bst", 3600),
        ("cet", 3600),
        ("met", 3600),
        ("cest", 7200),
        ("mest", 7200),
        ("eet", 7200),
        ("sast", 7200),
        ("eest", 10_800),
        ("msk", 10_800),
        ("msd", 14_400),
        ("ist", 7200),
        ("hkt", 28_800),
        ("sgt", 28_800),
        ("awst", 28_800),
        ("jst", 32_400),
        ("kst", 32_400),
        ("aest", 36_000),
        ("aedt", 39_600),
        ("acst", 34_200),
        ("acdt", 37_800),
        ("nzst", 43_200),
        ("nzdt", 46_800),
        ("brt", -10_800),
        ("brst", -7200),
        ("art", -10_800),
        ("nst", -12_600),
        ("ndt", -9000),
        ("ast", -14_400),
        ("adt", -10_800),
        ("est", -18_000),
        ("edt", -14_400),
        ("cst", -21_600),
        ("cdt", -18_000),
        ("mst", -25_200),
        ("mdt", -21_600),
        ("pst", -28_800),
        ("pdt", -25_200),
        ("akst", -32_400),
        ("akdt", -28_800),
        ("hst", -36_000),
    ];
    ABBREVIATIONS.iter().find(|(n, _)| name.eq_ignore_ascii_case(n)).map(|(_, o)| *o)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3_600_000_000;

    #[test]
    fn spellings() {
        let offset = |t: &str| Zone::parse(t).unwrap().offset_at(0);
        for (t, seconds) in [
            ("UTC", 0),
            ("gmt", 0),
            ("+02", 7200),
            ("-7", -25_200),
            ("5.5", 19_800),
            ("<+02>-02", 7200),
            ("GMT-3", 10_800),
            ("+02:00", 7200),
            ("europe/berlin", 3600),
            ("AMERICA/NEW_YORK", -18_000),
            ("Asia/Kolkata", 19_800),
        ] {
            assert_eq!(offset(t), seconds, "{t}");
        }
        assert_eq!(Zone::parse("Mars/Olympus").unwrap_err().code, "22023");
        let in_query = |t: &str| Zone::in_query(t).unwrap().offset_at(0);
        assert_eq!(
            ["+2", "02:00", "-05:30", "UTC+2", "cest", "utc"].map(in_query),
            [-7200, -7200, 19800, -7200, 7200, 0]
        );
        assert_eq!(Zone::in_query("Mars/Olympus").unwrap_err().code, "22023");
    }

    #[test]
    fn clock_changes_are_read_as_standard_time() {
        let berlin = Zone::parse("Europe/Berlin").unwrap();
        // 2024-03-31 02:30 does not exist: the offset before, +01. 2024-10-27 02:30 occurs twice: +01.
        assert_eq!(berlin.offset_at_local(19_813 * 24 * HOUR + 2 * HOUR + HOUR / 2), 3600);
        assert_eq!(berlin.offset_at_local(20_023 * 24 * HOUR + 2 * HOUR + HOUR / 2), 3600);
        assert_eq!(berlin.offset_at(19_900 * 24 * HOUR), 7200);
    }
}
