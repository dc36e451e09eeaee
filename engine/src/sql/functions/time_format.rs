//! Templates of times, as `to_char` has them: a format taken apart once, then written for each moment.
//!
//! ```text
//!   FMDay, DDth "of" Mon   →   Day (not filled) | ", " | DD with "th" | " of " | Mon
//! ```

use datafusion::error::{DataFusionError, Result};

use super::fields::iso_week;
use crate::error::Error;
use crate::sql::text::calendar::{Civil, DAY_US, civil_from_days, days_from_civil};

pub const SECOND_US: i64 = 1_000_000;
const MINUTE_US: i64 = 60 * SECOND_US;
const HOUR_US: i64 = 60 * MINUTE_US;
pub const MONTHS: [&str; 12] = [
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
pub const DAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];
const ROMAN: [&str; 12] = ["I", "II", "III", "IV", "V", "VI", "VII", "VIII", "IX", "X", "XI", "XII"];

/// A moment or an interval, taken apart.
pub struct Fields {
    /// Of an interval whatever its years are; year 0 is 1 BC.
    pub year: i64,
    pub month: i64,
    pub day: i64,
    /// Days since 1970, of a moment.
    pub days: Option<i64>,
    pub hour: i64,
    /// Within the hour.
    pub us: i64,
    /// Seconds east of UTC.
    pub offset: Option<i32>,
}

impl Fields {
    pub fn of_local(local: i64, offset: Option<i32>) -> Fields {
        let days = local.div_euclid(DAY_US);
        let Civil { year, month, day } = civil_from_days(days);
        let time = local.rem_euclid(DAY_US);
        let (month, day) = (month.into(), day.into());
        Fields { year, month, day, days: Some(days), hour: time / HOUR_US, us: time % HOUR_US, offset }
    }

    fn minute(&self) -> i64 {
        self.us / MINUTE_US
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
    /// Of a moment. Error: 22007, an interval has none.
    fn days(&self) -> Result<i64> {
        let invalid = || Error::new("22007", "invalid format specification for an interval value");
        self.days.ok_or_else(|| DataFusionError::External(Box::new(invalid())))
    }
    fn weekday(&self) -> Result<i64> {
        Ok((self.days()? + 4).rem_euclid(7))
    }
    fn day_of_year(&self, days: i64) -> i64 {
        days - days_from_civil(Civil { year: self.year, month: 1, day: 1 }) + 1
    }
}

/// How a name is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Case {
    Upper,
    Title,
    Lower,
}

/// What a pattern stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    YearWithComma,
    /// The last so many digits of the year.
    Year(u32),
    IsoYear(u32),
    IsoWeek,
    IsoDayOfYear,
    IsoWeekday,
    Month,
    MonthName(Case),
    MonthShort(Case),
    MonthRoman(Case),
    DayName(Case),
    DayShort(Case),
    DayOfYear,
    Day,
    Weekday,
    Hour24,
    Hour12,
    Minute,
    Second,
    SecondOfDay,
    /// So many digits of the second's fraction.
    Fraction(u32),
    /// Morning or afternoon, then what they are called.
    Half(&'static str, &'static str),
    Era(&'static str, &'static str),
    ZoneHour,
    ZoneMinute,
    Zone(Case),
    Offset,
    WeekOfYear,
    WeekOfMonth,
    Century,
    Julian,
    Quarter,
}

use Case::*;
use Part::*;

/// Patterns, the longest of several first.
const PATTERNS: &[(&str, Part)] = &[
    ("Y,YYY", YearWithComma),
    ("YYYY", Year(4)),
    ("YYY", Year(3)),
    ("YY", Year(2)),
    ("Y", Year(1)),
    ("IYYY", IsoYear(4)),
    ("IYY", IsoYear(3)),
    ("IY", IsoYear(2)),
    ("IDDD", IsoDayOfYear),
    ("ID", IsoWeekday),
    ("IW", IsoWeek),
    ("I", IsoYear(1)),
    ("MONTH", MonthName(Upper)),
    ("Month", MonthName(Title)),
    ("month", MonthName(Lower)),
    ("MON", MonthShort(Upper)),
    ("Mon", MonthShort(Title)),
    ("mon", MonthShort(Lower)),
    ("MM", Month),
    ("MI", Minute),
    ("MS", Fraction(3)),
    ("DAY", DayName(Upper)),
    ("Day", DayName(Title)),
    ("day", DayName(Lower)),
    ("DY", DayShort(Upper)),
    ("Dy", DayShort(Title)),
    ("dy", DayShort(Lower)),
    ("DDD", DayOfYear),
    ("DD", Day),
    ("D", Weekday),
    ("HH24", Hour24),
    ("HH12", Hour12),
    ("HH", Hour12),
    ("SSSSS", SecondOfDay),
    ("SSSS", SecondOfDay),
    ("SS", Second),
    ("US", Fraction(6)),
    ("FF1", Fraction(1)),
    ("FF2", Fraction(2)),
    ("FF3", Fraction(3)),
    ("FF4", Fraction(4)),
    ("FF5", Fraction(5)),
    ("FF6", Fraction(6)),
    ("A.M.", Half("A.M.", "P.M.")),
    ("P.M.", Half("A.M.", "P.M.")),
    ("AM", Half("AM", "PM")),
    ("PM", Half("AM", "PM")),
    ("a.m.", Half("a.m.", "p.m.")),
    ("p.m.", Half("a.m.", "p.m.")),
    ("am", Half("am", "pm")),
    ("pm", Half("am", "pm")),
    ("B.C.", Era("B.C.", "A.D.")),
    ("A.D.", Era("B.C.", "A.D.")),
    ("BC", Era("BC", "AD")),
    ("AD", Era("BC", "AD")),
    ("b.c.", Era("b.c.", "a.d.")),
    ("a.d.", Era("b.c.", "a.d.")),
    ("bc", Era("bc", "ad")),
    ("ad", Era("bc", "ad")),
    ("TZH", ZoneHour),
    ("TZM", ZoneMinute),
    ("TZ", Zone(Upper)),
    ("tz", Zone(Lower)),
    ("OF", Offset),
    ("WW", WeekOfYear),
    ("W", WeekOfMonth),
    ("CC", Century),
    ("J", Julian),
    ("Q", Quarter),
    ("RM", MonthRoman(Upper)),
    ("rm", MonthRoman(Lower)),
];

/// Patterns that mean something else, or nothing, when they are written small.
const CASED: &[&str] = &["MON", "DAY", "DY", "AM", "PM", "A.M.", "P.M.", "BC", "AD", "B.C.", "A.D.", "TZ", "RM"];

/// The pattern that a format begins with. Patterns of figures may be written small.
fn part_at(format: &str) -> Option<(&'static str, Part)> {
    let start = |pattern: &str| format.get(..pattern.len());
    PATTERNS.iter().copied().find(|(pattern, _)| start(pattern) == Some(pattern)).or_else(|| {
        let folds = |p: &str| p.chars().all(|c| !c.is_ascii_lowercase()) && !CASED.contains(&p);
        let mut folding = PATTERNS.iter().copied().filter(|(pattern, _)| folds(pattern));
        folding.find(|(pattern, _)| start(pattern).is_some_and(|start| start.eq_ignore_ascii_case(pattern)))
    })
}

/// The same, as it is spelt.
pub fn pattern_at(format: &str) -> Option<&'static str> {
    part_at(format).map(|(pattern, _)| pattern)
}

enum Piece {
    Text(String),
    /// `filled`: to its whole width. `ordinal`: "th" after a number, in that case.
    Part {
        part: Part,
        filled: bool,
        ordinal: Option<Case>,
    },
}

/// A format taken apart.
pub struct Format(Vec<Piece>);

impl Format {
    pub fn new(format: &str) -> Format {
        let (mut pieces, mut text) = (Vec::new(), String::new());
        let mut rest = format;
        while !rest.is_empty() {
            if let Some(quoted) = rest.strip_prefix('"') {
                let mut chars = quoted.char_indices();
                let mut end = quoted.len();
                while let Some((i, c)) = chars.next() {
                    match c {
                        '\\' => text.extend(chars.next().map(|(_, c)| c)),
                        '"' => {
                            end = i;
                            break;
                        }
                        c => text.push(c),
                    }
                }
                rest = quoted.get(end + 1..).unwrap_or("");
                continue;
            }
            // A quote that is no quote.
            if let Some(behind) = rest.strip_prefix("\\\"") {
                text.push('"');
                rest = behind;
                continue;
            }
            let begins = |prefix: &str| rest.starts_with(prefix) || rest.starts_with(&prefix.to_ascii_lowercase());
            let (mut filled, mut start) = (true, rest);
            if begins("FM") || begins("TM") {
                filled = false;
                start = &rest[2..];
            } else if begins("FX") {
                rest = &rest[2..];
                continue;
            }
            let Some((pattern, part)) = part_at(start) else {
                let c = rest.chars().next().expect("not empty");
                if filled {
                    text.push(c);
                }
                rest = &rest[if filled { c.len_utf8() } else { 2 }..];
                continue;
            };
            rest = &start[pattern.len()..];
            let ordinal = match (part.is_number(), rest.get(..2)) {
                (true, Some("TH")) => Some(Upper),
                (true, Some("th")) => Some(Lower),
                _ => None,
            };
            rest = if ordinal.is_some() { &rest[2..] } else { rest };
            if !text.is_empty() {
                pieces.push(Piece::Text(std::mem::take(&mut text)));
            }
            pieces.push(Piece::Part { part, filled, ordinal });
        }
        if !text.is_empty() {
            pieces.push(Piece::Text(text));
        }
        Format(pieces)
    }

    /// Moments of one offset that are as many times this after 1970, in microseconds, have one text.
    pub fn grain_us(&self) -> i64 {
        let grains = self.0.iter().map(|piece| match piece {
            Piece::Part { part, .. } => part.grain_us(),
            Piece::Text(_) => DAY_US,
        });
        grains.min().unwrap_or(DAY_US)
    }

    /// Errors: 22007, a pattern of days or zones for an interval.
    pub fn write(&self, fields: &Fields, out: &mut String) -> Result<()> {
        for piece in &self.0 {
            match piece {
                Piece::Text(text) => out.push_str(text),
                Piece::Part { part, filled, ordinal } => {
                    let number = part.write(fields, *filled, out)?;
                    if let (Some(case), Some(number)) = (ordinal, number) {
                        push_cased(out, ordinal_of(number), *case);
                    }
                }
            }
        }
        Ok(())
    }
}

pub fn ordinal_of(number: i64) -> &'static str {
    match (number.abs() % 100, number.abs() % 10) {
        (11..=13, _) => "th",
        (_, 1) => "st",
        (_, 2) => "nd",
        (_, 3) => "rd",
        _ => "th",
    }
}

fn push_cased(out: &mut String, name: &str, case: Case) {
    match case {
        Upper => out.extend(name.chars().map(|c| c.to_ascii_uppercase())),
        Title => out.push_str(name),
        Lower => out.extend(name.chars().map(|c| c.to_ascii_lowercase())),
    }
}

/// A number of at least `width` digits.
fn push_number(out: &mut String, value: i64, width: usize) {
    let mut digits = [b'0'; 20];
    let (mut at, mut left) = (digits.len(), value.unsigned_abs());
    while left > 0 || at == digits.len() {
        at -= 1;
        digits[at] = b'0' + (left % 10) as u8;
        left /= 10;
    }
    if value < 0 {
        out.push('-');
    }
    let at = at.min(digits.len() - width.min(digits.len()));
    out.push_str(std::str::from_utf8(&digits[at..]).expect("digits"));
}

impl Part {
    /// Whether "th" may follow.
    fn is_number(self) -> bool {
        !matches!(
            self,
            MonthName(_)
                | MonthShort(_)
                | MonthRoman(_)
                | DayName(_)
                | DayShort(_)
                | Half(..)
                | Era(..)
                | ZoneHour
                | ZoneMinute
                | Zone(_)
                | Offset
        )
    }

    fn grain_us(self) -> i64 {
        match self {
            Fraction(_) => 1,
            Second | SecondOfDay => SECOND_US,
            Minute => MINUTE_US,
            Hour24 | Hour12 | Half(..) => HOUR_US,
            _ => DAY_US,
        }
    }

    /// Writes it; says the number if it is one.
    fn write(self, fields: &Fields, filled: bool, out: &mut String) -> Result<Option<i64>> {
        let number = |out: &mut String, value: i64, width: usize| {
            push_number(out, value, if filled { width } else { 1 });
            Ok(Some(value))
        };
        let name = |out: &mut String, name: &str, case: Case, width: usize| {
            push_cased(out, name, case);
            if filled {
                out.extend(std::iter::repeat_n(' ', width.saturating_sub(name.len())));
            }
            Ok(None)
        };
        let text = |out: &mut String, text: &str| {
            out.push_str(text);
            Ok(None)
        };
        let month_of = |names: [&'static str; 12]| match fields.month {
            1..=12 => names[fields.month as usize - 1],
            _ => "",
        };
        let year = fields.counted_year();
        match self {
            YearWithComma => {
                push_number(out, year / 1000, 1);
                out.push(',');
                push_number(out, year % 1000, 3);
                Ok(Some(year))
            }
            Year(4) => number(out, year, 4),
            Year(digits) => number(out, year % 10i64.pow(digits), digits as usize),
            IsoYear(4) => number(out, iso_week(fields.days()?).0, 4),
            IsoYear(digits) => number(out, iso_week(fields.days()?).0 % 10i64.pow(digits), digits as usize),
            IsoWeek => number(out, iso_week(fields.days()?).1, 2),
            IsoDayOfYear => {
                let days = fields.days()?;
                number(out, (iso_week(days).1 - 1) * 7 + (days + 3).rem_euclid(7) + 1, 3)
            }
            IsoWeekday => number(out, (fields.days()? + 3).rem_euclid(7) + 1, 1),
            MonthName(case) => {
                fields.days()?;
                name(out, month_of(MONTHS), case, 9)
            }
            MonthShort(case) => {
                fields.days()?;
                name(out, month_of(MONTHS).get(..3).unwrap_or(""), case, 0)
            }
            Month => number(out, fields.month, 2),
            MonthRoman(case) => name(out, month_of(ROMAN), case, 4),
            DayName(case) => name(out, DAYS[fields.weekday()? as usize], case, 9),
            DayShort(case) => name(out, &DAYS[fields.weekday()? as usize][..3], case, 0),
            DayOfYear => {
                let of_interval = fields.year * 360 + fields.month * 30 + fields.day;
                let day = fields.days.map_or(of_interval, |days| fields.day_of_year(days));
                number(out, day, if day < 0 { 2 } else { 3 })
            }
            // A sign is one of the digits.
            Day => number(out, fields.day, if fields.day < 0 { 1 } else { 2 }),
            Weekday => number(out, fields.weekday()? + 1, 1),
            Hour24 => number(out, fields.hour, 2),
            Hour12 => number(out, if fields.hour % 12 == 0 { 12 } else { fields.hour % 12 }, 2),
            Minute => number(out, fields.minute(), 2),
            Second => number(out, fields.second(), 2),
            SecondOfDay => {
                let seconds = fields.hour * 3600 + fields.us / SECOND_US;
                push_number(out, seconds, 1);
                Ok(Some(seconds))
            }
            Fraction(digits) => number(out, fields.fraction() / 10i64.pow(6 - digits), digits as usize),
            Half(morning, afternoon) => text(out, if fields.hour % 24 >= 12 { afternoon } else { morning }),
            Era(before, after) => {
                fields.days()?;
                text(out, if fields.year <= 0 { before } else { after })
            }
            ZoneHour | ZoneMinute | Zone(_) | Offset => {
                fields.days()?;
                self.write_zone(fields.offset, out);
                Ok(None)
            }
            WeekOfYear => number(out, (fields.day_of_year(fields.days()?) - 1) / 7 + 1, 2),
            WeekOfMonth => number(out, (fields.day - 1) / 7 + 1, 1),
            Century => match fields.year {
                year if year > 0 => number(out, (year + 99) / 100, 2),
                year => number(out, -(99 - (year - 1)) / 100, 2),
            },
            Julian => {
                let julian = fields.days()? + 2_440_588;
                push_number(out, julian, 1);
                Ok(Some(julian))
            }
            Quarter => {
                fields.days()?;
                number(out, (fields.month - 1) / 3 + 1, 1)
            }
        }
    }

    fn write_zone(self, offset: Option<i32>, out: &mut String) {
        let Some(offset) = offset else {
            out.push_str(match self {
                Zone(_) => "",
                ZoneMinute => "00",
                _ => "+00",
            });
            return;
        };
        let (hours, minutes) = (offset.abs() / 3600, offset.abs() / 60 % 60);
        match self {
            ZoneMinute => return push_number(out, minutes.into(), 2),
            Zone(case) if offset == 0 => return push_cased(out, "UTC", case),
            _ => {}
        }
        out.push(if offset < 0 { '-' } else { '+' });
        push_number(out, hours.into(), 2);
        if self != ZoneHour && minutes != 0 {
            out.push(':');
            push_number(out, minutes.into(), 2);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(local: i64, format: &str) -> String {
        let mut out = String::new();
        Format::new(format).write(&Fields::of_local(local, None), &mut out).unwrap();
        out
    }

    #[test]
    fn texts_between_patterns() {
        let noon = 19_724 * DAY_US + 12 * HOUR_US;
        assert_eq!(written(noon, "FMDay, DDth \"of Day\" Mon YYYY"), "Tuesday, 02nd of Day Jan 2024");
        assert_eq!(written(noon, "yyyy-mm-dd hh12:MI am"), "2024-01-02 12:00 pm");
        assert_eq!(written(noon, "Monat"), "Janat");
    }

    /// Two moments of one grain have one text, and some later moment has another.
    #[test]
    fn the_grain_is_what_the_text_shows() {
        for (pattern, part) in PATTERNS {
            let grain = Format::new(pattern).grain_us();
            for n in (0..2000).map(|n| n * 7919) {
                let from = n * grain;
                assert_eq!(written(from, pattern), written(from + grain - 1, pattern), "{pattern}");
            }
            let constant = matches!(part, Era(..) | ZoneHour | ZoneMinute | Zone(_) | Offset);
            let steps =
                std::iter::successors(Some(grain), |us| us.checked_mul(3)).take_while(|us| *us < 40_000 * DAY_US);
            let mut later = steps.flat_map(|us| (1..24).map(move |n| n * us));
            let changes = later.any(|us| written(0, pattern) != written(us, pattern));
            assert!(constant || changes, "{pattern}");
        }
    }
}
