//! Arithmetic of a document's numbers: exact, each with its own digits after the point, as PostgreSQL's numeric.

use crate::error::{Error, Result};

/// `units` × 10^-`scale`.
#[derive(Debug, Clone, Copy)]
pub struct Number {
    units: i128,
    scale: u32,
}

fn overflow() -> Error {
    Error::new("22003", "value overflows numeric format")
}

fn power(exponent: u32) -> Result<i128> {
    10i128.checked_pow(exponent).ok_or_else(overflow)
}

impl Number {
    /// Digits of jsonb's form, which have no exponent, or of a path's, which may have one.
    pub fn parse(text: &str) -> Result<Number> {
        let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
        let exponent: i32 = exponent.parse().map_err(|_| overflow())?;
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let units: i128 = format!("{whole}{fraction}").parse().map_err(|_| overflow())?;
        let scale = fraction.len() as i32 - exponent;
        match scale {
            0.. => Ok(Number { units, scale: scale as u32 }),
            _ => Ok(Number { units: units.checked_mul(power(scale.unsigned_abs())?).ok_or_else(overflow)?, scale: 0 }),
        }
    }
    pub fn of(whole: i64) -> Number {
        Number { units: whole.into(), scale: 0 }
    }
    pub fn text(self) -> String {
        let digits = format!("{:0width$}", self.units.unsigned_abs(), width = self.scale as usize + 1);
        let (whole, fraction) = digits.split_at(digits.len() - self.scale as usize);
        let sign = if self.units < 0 { "-" } else { "" };
        let point = if fraction.is_empty() { "" } else { "." };
        format!("{sign}{whole}{point}{fraction}")
    }
    /// Towards zero.
    pub fn whole(self) -> Option<i64> {
        i64::try_from(self.units / 10i128.checked_pow(self.scale)?).ok()
    }
    pub fn negated(self) -> Number {
        Number { units: -self.units, ..self }
    }
    pub fn absolute(self) -> Number {
        Number { units: self.units.abs(), ..self }
    }
    pub fn floor(self) -> Result<Number> {
        Ok(Number { units: self.units.div_euclid(power(self.scale)?), scale: 0 })
    }
    pub fn ceiling(self) -> Result<Number> {
        Ok(self.negated().floor()?.negated())
    }
    fn at(self, scale: u32) -> Result<i128> {
        self.units.checked_mul(power(scale - self.scale)?).ok_or_else(overflow)
    }
    /// Both in the units of the finer one.
    fn same(self, other: Number) -> Result<(i128, i128, u32)> {
        let scale = self.scale.max(other.scale);
        Ok((self.at(scale)?, other.at(scale)?, scale))
    }
    pub fn plus(self, other: Number) -> Result<Number> {
        let (a, b, scale) = self.same(other)?;
        Ok(Number { units: a.checked_add(b).ok_or_else(overflow)?, scale })
    }
    pub fn times(self, other: Number) -> Result<Number> {
        let units = self.units.checked_mul(other.units).ok_or_else(overflow)?;
        Ok(Number { units, scale: self.scale + other.scale })
    }
    pub fn modulo(self, other: Number) -> Result<Number> {
        let (a, b, scale) = self.same(other)?;
        match b {
            0 => Err(Error::new("22012", "division by zero")),
            b => Ok(Number { units: a % b, scale }),
        }
    }
    /// With sixteen significant digits at least: PostgreSQL's select_div_scale, which counts them by fours.
    pub fn divided_by(self, other: Number) -> Result<Number> {
        if other.units == 0 {
            return Err(Error::new("22012", "division by zero"));
        }
        let ((weight, first), (other_weight, other_first)) = (self.leading(), other.leading());
        let weight = weight - other_weight - i32::from(first <= other_first);
        let scale = (16 - weight * 4).max(self.scale as i32).max(other.scale as i32).max(0) as u32;
        // units1 / 10^s1 / (units2 / 10^s2) * 10^scale, and one digit more to round by.
        let shift = scale as i32 + other.scale as i32 - self.scale as i32;
        let (mut above, mut below) = (self.units, other.units);
        match shift {
            0.. => above = above.checked_mul(power(shift as u32)?).ok_or_else(overflow)?,
            _ => below = below.checked_mul(power(shift.unsigned_abs())?).ok_or_else(overflow)?,
        }
        let (quotient, rest) = (above / below, above % below);
        let up = rest.unsigned_abs() >= below.unsigned_abs() - rest.unsigned_abs();
        let units = quotient + if !up { 0 } else { (above.signum() * below.signum()).max(-1) };
        Ok(Number { units, scale })
    }
    /// The power of 10,000 that its first digit of that base counts, and that digit.
    fn leading(self) -> (i32, i128) {
        if self.units == 0 {
            return (0, 0);
        }
        let digits = self.units.unsigned_abs().to_string();
        let before = digits.len() as i32 - self.scale as i32;
        // The place of the first digit, in powers of ten.
        let place = before - 1;
        let weight = place.div_euclid(4);
        let take = (place.rem_euclid(4) + 1) as usize;
        let first: String = digits.chars().chain(std::iter::repeat('0')).take(take).collect();
        (weight, first.parse().unwrap_or(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotients_have_postgres_digits() {
        for (a, b, quotient) in [
            ("1", "3", "0.33333333333333333333"),
            ("10", "3", "3.3333333333333333"),
            ("100000", "3", "33333.333333333333"),
            ("0.001", "3", "0.00033333333333333333"),
            ("-7", "2", "-3.5000000000000000"),
            ("2", "3", "0.66666666666666666667"),
        ] {
            let of = |text| Number::parse(text).unwrap();
            assert_eq!(of(a).divided_by(of(b)).unwrap().text(), quotient, "{a} / {b}");
        }
    }

    #[test]
    fn numbers_are_written_as_they_are() {
        for (text, written) in [("1.50", "1.50"), ("-0.05", "-0.05"), ("1e2", "100"), ("1.5e-3", "0.0015")] {
            assert_eq!(Number::parse(text).unwrap().text(), written);
        }
        assert_eq!(Number::parse("-1.5").unwrap().floor().unwrap().text(), "-2");
        assert_eq!(Number::parse("-1.5").unwrap().ceiling().unwrap().text(), "-1");
    }
}
