//! Values as Postgres writes them in text: floats, intervals, arrays.

use arrow::array::StringArray;
use arrow::datatypes::IntervalMonthDayNano;

/// From Rust's `{:e}` form, which has the fewest digits that read back the same; an exponent is written where it is
/// below −4 or at least `digits`.
pub fn format_float(scientific: &str, value: f64, digits: i32) -> String {
    if value.is_nan() {
        return "NaN".into();
    }
    if value.is_infinite() {
        return if value > 0.0 { "Infinity".into() } else { "-Infinity".into() };
    }
    let (mantissa, exponent) = scientific.split_once('e').expect("the form has an exponent");
    let exponent: i32 = exponent.parse().expect("the exponent is a number");
    if exponent < -4 || exponent >= digits {
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{mantissa}e{sign}{:02}", exponent.abs());
    }
    let (sign, mantissa) = match mantissa.strip_prefix('-') {
        Some(rest) => ("-", rest),
        None => ("", mantissa),
    };
    let all: String = mantissa.chars().filter(|c| *c != '.').collect();
    match exponent {
        e if e < 0 => format!("{sign}0.{}{all}", "0".repeat((-e - 1) as usize)),
        e if all.len() as i32 <= e + 1 => format!("{sign}{all}{}", "0".repeat((e + 1) as usize - all.len())),
        e => format!("{sign}{}.{}", &all[..(e + 1) as usize], &all[(e + 1) as usize..]),
    }
}

/// `1 year 2 mons 3 days 04:05:06.7`.
pub fn format_interval(interval: IntervalMonthDayNano) -> String {
    let (years, months) = (interval.months / 12, interval.months % 12);
    let us = interval.nanoseconds / 1000;
    let mut parts = Vec::new();
    let mut unit = |amount: i32, singular: &str| {
        if amount != 0 {
            parts.push(format!("{amount} {singular}{}", if amount == 1 { "" } else { "s" }));
        }
    };
    unit(years, "year");
    unit(months, "mon");
    unit(interval.days, "day");
    if us != 0 || parts.is_empty() {
        let magnitude = us.unsigned_abs();
        let (seconds, micros) = (magnitude / 1_000_000, magnitude % 1_000_000);
        let sign = if us < 0 { "-" } else { "" };
        let clock = format!("{sign}{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60);
        parts.push(match micros {
            0 => clock,
            _ => format!("{clock}.{}", format!("{micros:06}").trim_end_matches('0')),
        });
    }
    parts.join(" ")
}

/// `{1,NULL,"a b"}`; items that are arrays themselves stand as they are.
pub fn format_list(items: &StringArray, nested: bool) -> String {
    let quoted = |item: &str| {
        let plain = !item.is_empty()
            && !item.eq_ignore_ascii_case("null")
            && !item.contains(|c: char| matches!(c, '{' | '}' | ',' | '"' | '\\') || c.is_whitespace());
        match plain || nested {
            true => item.to_string(),
            false => format!("\"{}\"", item.replace('\\', "\\\\").replace('"', "\\\"")),
        }
    };
    let items: Vec<String> = items.iter().map(|item| item.map_or_else(|| "NULL".to_string(), quoted)).collect();
    format!("{{{}}}", items.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats() {
        for (value, text) in [
            (1.0, "1"),
            (-0.5, "-0.5"),
            (1e15, "1e+15"),
            (123456789012345.0, "123456789012345"),
            (1e-5, "1e-05"),
            (0.0001, "0.0001"),
            (1.5e300, "1.5e+300"),
            (0.1, "0.1"),
            (100.25, "100.25"),
            (f64::NEG_INFINITY, "-Infinity"),
        ] {
            assert_eq!(format_float(&format!("{value:e}"), value, 15), text);
        }
    }

    #[test]
    fn intervals() {
        for (months, days, us, text) in [
            (0, 0, 0, "00:00:00"),
            (14, 3, 14_706_700_000, "1 year 2 mons 3 days 04:05:06.7"),
            (0, 1, 0, "1 day"),
            (0, 0, -1_000_000, "-00:00:01"),
            (-1, 0, 0, "-1 mons"),
        ] {
            assert_eq!(format_interval(IntervalMonthDayNano::new(months, days, us * 1000)), text);
        }
    }
}
