//! Days and civil dates: the proleptic Gregorian calendar, both ways, for any year that fits.
//!
//! Day 0 is 1970-01-01; year 0 is 1 BC. The arithmetic counts years from March, so that the leap day is
//! the last of its year (Howard Hinnant, "chrono-compatible low-level date algorithms").

pub const DAY_US: i64 = 86_400_000_000;
/// Days from 1970-01-01 to 2000-01-01, Postgres' own day 0.
pub const DAYS_TO_2000: i32 = 10_957;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Civil {
    pub year: i64,
    pub month: u32,
    pub day: u32,
}

pub fn days_from_civil(c: Civil) -> i64 {
    let year = if c.month <= 2 { c.year - 1 } else { c.year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let from_march = (c.month as i64 + 9) % 12;
    let day_of_year = (153 * from_march + 2) / 5 + c.day as i64 - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

pub fn civil_from_days(days: i64) -> Civil {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * day_of_year + 2) / 153;
    let day = (day_of_year - (153 * from_march + 2) / 5 + 1) as u32;
    let month = (if from_march < 10 { from_march + 3 } else { from_march - 9 }) as u32;
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    Civil { year, month, day }
}

pub fn days_in_month(year: i64, month: u32) -> u32 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if year.rem_euclid(4) == 0 && (year.rem_euclid(100) != 0 || year.rem_euclid(400) == 0) => 29,
        2 => 28,
        _ => 31,
    }
}

/// The year nearest to 2020 that ends so.
pub fn partial_year(short: i64) -> i64 {
    match short {
        0..70 | 100..520 => short + 2000,
        70..100 => short + 1900,
        520..1000 => short + 1000,
        _ => short,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_days_and_round_trips() {
        let day = |year, month, day| days_from_civil(Civil { year, month, day });
        assert_eq!(day(1970, 1, 1), 0);
        assert_eq!(day(2000, 1, 1), DAYS_TO_2000 as i64);
        assert_eq!(day(2024, 2, 29), 19_782);
        for days in (-2_500_000..2_500_000).step_by(997) {
            let c = civil_from_days(days);
            assert_eq!(days_from_civil(c), days);
            assert!(c.day >= 1 && c.day <= days_in_month(c.year, c.month));
        }
    }
}
