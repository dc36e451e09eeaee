//! Numbers as Postgres reads and writes them.
//!
//! Integers: optional spaces and sign around digits; out of range is 22003, anything else 22P02.
//! Floats: the shortest digits that read back the same, `1e+20`, `1e-05`, `Infinity`, `NaN`.
//! Numeric: digits and scale as stored; reading rounds half away from zero to the column's scale.

use std::io::Write;

use crate::error::{Error, Result};

const PAIRS: &[u8; 200] =
    b"0001020304050607080910111213141516171819202122232425262728293031323334353637383940414243444546474849\
5051525354555657585960616263646566676869707172737475767778798081828384858687888990919293949596979899";

pub fn write_u64(mut v: u64, out: &mut Vec<u8>) {
    let mut buffer = [0u8; 20];
    let mut at = buffer.len();
    while v >= 100 {
        let pair = (v % 100) as usize * 2;
        v /= 100;
        at -= 2;
        buffer[at..at + 2].copy_from_slice(&PAIRS[pair..pair + 2]);
    }
    if v >= 10 {
        at -= 2;
        buffer[at..at + 2].copy_from_slice(&PAIRS[v as usize * 2..v as usize * 2 + 2]);
    } else {
        at -= 1;
        buffer[at] = b'0' + v as u8;
    }
    out.extend_from_slice(&buffer[at..]);
}

pub fn write_i64(v: i64, out: &mut Vec<u8>) {
    if v < 0 {
        out.push(b'-');
    }
    write_u64(v.unsigned_abs(), out);
}

/// At least `width` digits, with zeros before.
pub fn write_padded(v: u64, width: usize, out: &mut Vec<u8>) {
    let digits = v.checked_ilog10().unwrap_or(0) as usize + 1;
    out.extend(std::iter::repeat_n(b'0', width.saturating_sub(digits)));
    write_u64(v, out);
}

pub fn write_f64(v: f64, out: &mut Vec<u8>) {
    if v.is_finite() && v.trunc() == v && v.abs() < 1e15 && (v != 0.0 || v.is_sign_positive()) {
        return write_i64(v as i64, out);
    }
    // The largest shortest form has 17 digits, sign, point and exponent.
    let mut buffer = [0u8; 32];
    let mut rest = &mut buffer[..];
    write!(rest, "{v:e}").expect("fits 32 bytes");
    let left = rest.len();
    let text = &mut buffer[..32 - left];
    if let Some(even) = even_of_two(text, 15, v) {
        text[even.0] = even.1;
    }
    layout_float(v.is_finite(), v.is_nan(), v.is_sign_negative(), text, 15, out)
}

pub fn write_f32(v: f32, out: &mut Vec<u8>) {
    let mut buffer = [0u8; 32];
    let mut rest = &mut buffer[..];
    write!(rest, "{v:e}").expect("fits 32 bytes");
    let left = rest.len();
    let text = &mut buffer[..32 - left];
    // Each real is a double precision.
    if let Some(even) = even_of_two(text, 6, v.into()).filter(|even| reads_as(text, *even, v)) {
        text[even.0] = even.1;
    }
    layout_float(v.is_finite(), v.is_nan(), v.is_sign_negative(), text, 6, out)
}

/// Where a value lies in the middle of two shortest forms, Postgres writes the one whose last digit is even: 1234568.25 as
/// a real is 1.2345682e+06. The place of that digit and what it is, if it is another one. Values of fewer than `least`
/// digits are exact.
fn even_of_two(text: &[u8], least: usize, v: f64) -> Option<(usize, u8)> {
    let e = text.iter().position(|b| *b == b'e')?;
    let digits = text[..e].iter().filter(|b| b.is_ascii_digit()).count();
    if digits < least || text[e - 1] % 2 == 0 {
        return None;
    }
    // All digits of a double precision are no more than these.
    let exact = format!("{v:.780e}");
    let (same, rest) = exact.as_bytes().split_at(e);
    let end = rest.iter().position(|b| *b == b'e')?;
    let half = rest[0] == b'5' && rest[1..end].iter().all(|b| *b == b'0');
    let even = match same[e - 1] {
        lower if lower % 2 == 0 => lower,
        b'9' => return None,
        odd => odd + 1,
    };
    let changed = (e - 1, even);
    (half && (least < 15 || reads_as(text, changed, v))).then_some(changed)
}

/// Whether a text reads as a value with another digit.
fn reads_as<T: std::str::FromStr + PartialEq>(text: &[u8], (at, digit): (usize, u8), v: T) -> bool {
    let mut text = text.to_vec();
    text[at] = digit;
    String::from_utf8(text).is_ok_and(|text| text.parse::<T>().is_ok_and(|read| read == v))
}

/// Turns `-1.25e-7` into Postgres' form; plain digits while -4 <= exponent < `plain_below`.
fn layout_float(finite: bool, nan: bool, negative: bool, text: &[u8], plain_below: i32, out: &mut Vec<u8>) {
    if nan {
        return out.extend_from_slice(b"NaN");
    }
    if negative {
        out.push(b'-');
    }
    if !finite {
        return out.extend_from_slice(b"Infinity");
    }
    let text = text.strip_prefix(b"-").unwrap_or(text);
    let e = text.iter().position(|b| *b == b'e').expect("the format {:e} has an exponent");
    let exponent: i32 = std::str::from_utf8(&text[e + 1..]).expect("ASCII").parse().expect("an integer");
    let (whole, fraction) = (text[0], if e > 2 { &text[2..e] } else { &[][..] });
    if exponent < -4 || exponent >= plain_below {
        out.push(whole);
        if !fraction.is_empty() {
            out.push(b'.');
            out.extend_from_slice(fraction);
        }
        out.extend_from_slice(if exponent < 0 { b"e-" } else { b"e+" });
        return write_padded(exponent.unsigned_abs() as u64, 2, out);
    }
    if exponent < 0 {
        out.extend_from_slice(b"0.");
        out.extend(std::iter::repeat_n(b'0', (-exponent - 1) as usize));
        out.push(whole);
        return out.extend_from_slice(fraction);
    }
    out.push(whole);
    let split = (exponent as usize).min(fraction.len());
    out.extend_from_slice(&fraction[..split]);
    out.extend(std::iter::repeat_n(b'0', exponent as usize - split));
    if split < fraction.len() {
        out.push(b'.');
        out.extend_from_slice(&fraction[split..]);
    }
}

/// `v / 10^scale`. `trim` leaves out zeros at the end of the fraction.
pub fn write_decimal(v: i128, scale: i8, trim: bool, out: &mut Vec<u8>) {
    let magnitude = v.unsigned_abs();
    let mut buffer = [0u8; 40];
    let mut rest = &mut buffer[..];
    let digits = match u64::try_from(magnitude) {
        Ok(small) => {
            let mut text = Vec::with_capacity(20);
            write_u64(small, &mut text);
            buffer[..text.len()].copy_from_slice(&text);
            &buffer[..text.len()]
        }
        Err(_) => {
            write!(rest, "{magnitude}").expect("39 digits at most");
            let left = rest.len();
            &buffer[..40 - left]
        }
    };
    layout_decimal(v < 0, digits, scale, trim, out);
}

/// Places the point into a number's digits.
pub fn layout_decimal(negative: bool, digits: &[u8], scale: i8, trim: bool, out: &mut Vec<u8>) {
    if negative {
        out.push(b'-');
    }
    if scale <= 0 {
        out.extend_from_slice(digits);
        if digits != b"0" {
            out.extend(std::iter::repeat_n(b'0', -(scale as i32) as usize));
        }
        return;
    }
    let scale = scale as usize;
    let whole = digits.len().saturating_sub(scale);
    if whole == 0 {
        out.push(b'0');
    }
    out.extend_from_slice(&digits[..whole]);
    let point = out.len();
    out.push(b'.');
    out.extend(std::iter::repeat_n(b'0', scale.saturating_sub(digits.len())));
    out.extend_from_slice(&digits[whole..]);
    if trim {
        while out.last() == Some(&b'0') {
            out.pop();
        }
        if out.len() == point + 1 {
            out.pop();
        }
    }
}

pub fn invalid(type_name: &str, text: &str) -> Error {
    Error::new("22P02", format!("invalid input syntax for type {type_name}: \"{text}\""))
}
fn out_of_range(type_name: &str, text: &str) -> Error {
    Error::new("22003", format!("value \"{text}\" is out of range for type {type_name}"))
}

/// An integer between `min` and `max`.
#[inline]
pub fn parse_int(text: &str, min: i64, max: i64, type_name: &str) -> Result<i64> {
    let bytes = text.as_bytes();
    let (negative, digits) = match bytes.first() {
        Some(b'-') => (true, &bytes[1..]),
        _ => (false, bytes),
    };
    // Eighteen digits cannot overflow; all else takes the careful way.
    if !digits.is_empty() && digits.len() <= 18 {
        let mut v = 0i64;
        let mut good = true;
        for b in digits {
            let d = b.wrapping_sub(b'0');
            good &= d <= 9;
            v = v.wrapping_mul(10).wrapping_add(d as i64);
        }
        let v = if negative { -v } else { v };
        if good && v >= min && v <= max {
            return Ok(v);
        }
    }
    parse_int_carefully(text, min, max, type_name)
}

#[cold]
fn parse_int_carefully(text: &str, min: i64, max: i64, type_name: &str) -> Result<i64> {
    let trimmed = text.trim_matches(is_space);
    let digits = trimmed.strip_prefix(['+', '-']).unwrap_or(trimmed);
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(invalid(type_name, text));
    }
    match trimmed.parse::<i64>() {
        Ok(v) if v >= min && v <= max => Ok(v),
        _ => Err(out_of_range(type_name, text)),
    }
}

/// The characters that C's isspace accepts.
pub fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\r' | '\x0b' | '\x0c')
}

/// Is this text a number with a digit other than 0 before any exponent?
fn is_nonzero(text: &str) -> bool {
    text.bytes().take_while(|b| !matches!(b, b'e' | b'E')).any(|b| (b'1'..=b'9').contains(&b))
}

macro_rules! parse_float {
    ($name:ident, $type:ty, $type_name:literal) => {
        pub fn $name(text: &str) -> Result<$type> {
            let trimmed = text.trim_matches(is_space);
            let v: $type = trimmed.parse().map_err(|_| invalid($type_name, text))?;
            let digits = trimmed.bytes().any(|b| b.is_ascii_digit());
            if digits && (v.is_infinite() || (v == 0.0 && is_nonzero(trimmed))) {
                return Err(Error::new("22003", format!("\"{text}\" is out of range for type {}", $type_name)));
            }
            // Its sign is no part of it.
            Ok(if v.is_nan() { <$type>::NAN } else { v })
        }
    };
}
parse_float!(parse_f64, f64, "double precision");
parse_float!(parse_f32, f32, "real");

/// A decimal text taken apart: digits without leading zeros, and the place of the point counted from
/// their end (`1.50` is digits 150, scale 2; `1e3` is digits 1, scale -3).
pub struct DecimalText {
    pub negative: bool,
    pub digits: Vec<u8>,
    pub scale: i32,
}

pub fn split_decimal(text: &str) -> Result<DecimalText> {
    let trimmed = text.trim_matches(is_space);
    let (negative, body) = match trimmed.as_bytes().first() {
        Some(b'-') => (true, &trimmed[1..]),
        Some(b'+') => (false, &trimmed[1..]),
        _ => (false, trimmed),
    };
    if body.eq_ignore_ascii_case("nan") || body.eq_ignore_ascii_case("infinity") || body.eq_ignore_ascii_case("inf") {
        return Err(Error::unsupported(format!("numeric value \"{trimmed}\"")));
    }
    let (number, exponent) = match body.find(['e', 'E']) {
        Some(e) => (&body[..e], body[e + 1..].parse::<i32>().map_err(|_| invalid("numeric", text))?),
        None => (body, 0),
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.len() + fraction.len() == 0 || !whole.bytes().chain(fraction.bytes()).all(|b| b.is_ascii_digit()) {
        return Err(invalid("numeric", text));
    }
    if exponent.unsigned_abs() > 20_000 {
        return Err(overflow());
    }
    let digits = whole.bytes().chain(fraction.bytes()).skip_while(|b| *b == b'0').collect();
    Ok(DecimalText { negative, digits, scale: fraction.len() as i32 - exponent })
}

pub fn overflow() -> Error {
    Error::new("22003", "value overflows numeric format")
}

/// The value times `10^scale`, rounded half away from zero, of at most `precision` digits.
pub fn parse_decimal(text: &str, precision: u8, scale: i8) -> Result<i128> {
    if let Some(v) = parse_decimal_quickly(text.as_bytes(), precision, scale) {
        return Ok(v);
    }
    let DecimalText { negative, digits, scale: given } = split_decimal(text)?;
    let shift = scale as i32 - given;
    // digits × 10^shift; a negative shift cuts digits off.
    let keep = digits.len() as i64 + (shift.min(0)) as i64;
    let too_large = || overflow_of(precision, scale);
    let mut v: i128 = 0;
    for d in digits.iter().take(keep.max(0) as usize) {
        v = v.checked_mul(10).and_then(|v| v.checked_add((d - b'0') as i128)).ok_or_else(too_large)?;
    }
    if shift < 0 && keep >= 0 && digits.get(keep as usize).is_some_and(|d| *d >= b'5') {
        v += 1;
    }
    if v != 0 {
        for _ in 0..shift.max(0) {
            v = v.checked_mul(10).ok_or_else(too_large)?;
        }
    }
    if v >= 10i128.checked_pow(precision as u32).unwrap_or(i128::MAX) {
        return Err(too_large());
    }
    Ok(if negative { -v } else { v })
}

pub fn overflow_of(precision: u8, scale: i8) -> Error {
    Error::new("22003", "numeric field overflow").detail(format!(
        "A field with precision {precision}, scale {scale} must round to an absolute value less than {}.",
        match precision as i32 - scale as i32 {
            0 => "1".to_string(),
            n => format!("10^{n}"),
        }
    ))
}

/// The common case: optional minus, at most 18 digits, no more fraction digits than the scale has.
fn parse_decimal_quickly(bytes: &[u8], precision: u8, scale: i8) -> Option<i128> {
    let (negative, body) = match bytes.first()? {
        b'-' => (true, &bytes[1..]),
        _ => (false, bytes),
    };
    if body.is_empty() || body.len() > 18 || scale < 0 {
        return None;
    }
    let mut v = 0i64;
    let mut digits = 0;
    let mut point = None;
    for (i, b) in body.iter().enumerate() {
        match b {
            b'0'..=b'9' => {
                v = v * 10 + (b - b'0') as i64;
                digits += 1;
            }
            b'.' if point.is_none() => point = Some(i),
            _ => return None,
        }
    }
    let fraction = point.map_or(0, |p| body.len() - p - 1);
    if digits == 0 || fraction > scale as usize || scale as usize - fraction > 18 {
        return None;
    }
    let v = v as i128 * 10i128.pow((scale as usize - fraction) as u32);
    let limit = 10i128.checked_pow(precision as u32)?;
    (v < limit).then_some(if negative { -v } else { v })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn integers() {
        for v in [0, 7, 10, 99, 100, 12345, -1, i64::MAX, i64::MIN] {
            assert_eq!(text(|o| write_i64(v, o)), v.to_string());
        }
        let int4 = |t| parse_int(t, i32::MIN as i64, i32::MAX as i64, "integer");
        for (t, v) in
            [("1", 1), ("-2147483648", -2147483648), (" +42 ", 42), ("0007", 7), ("00000000000000000000001", 1)]
        {
            assert_eq!(int4(t), Ok(v), "{t}");
        }
        for t in ["2147483648", "-2147483649", "99999999999999999999"] {
            let e = int4(t).unwrap_err();
            assert_eq!((e.code, e.message), ("22003", format!("value \"{t}\" is out of range for type integer")));
        }
        for t in ["", "x", "1.5", "1 2", "--1", "+", "1e3", "0x10"] {
            let e = int4(t).unwrap_err();
            assert_eq!((e.code, e.message), ("22P02", format!("invalid input syntax for type integer: \"{t}\"")));
        }
    }

    #[test]
    fn floats_as_postgres_15_prints_them() {
        for (v, t) in [
            (0.0, "0"),
            (-0.0, "-0"),
            (1.0, "1"),
            (1.5, "1.5"),
            (0.1 + 0.2, "0.30000000000000004"),
            (1e14, "100000000000000"),
            (1e15, "1e+15"),
            (1e20, "1e+20"),
            (123456789012345680.0, "1.2345678901234568e+17"),
            (123456.789, "123456.789"),
            (0.0001, "0.0001"),
            (0.00001, "1e-05"),
            (-1.25e-7, "-1.25e-07"),
            (1e300, "1e+300"),
            (5e-324, "5e-324"),
            (f64::INFINITY, "Infinity"),
            (f64::NEG_INFINITY, "-Infinity"),
            (f64::NAN, "NaN"),
        ] {
            assert_eq!(text(|o| write_f64(v, o)), t);
        }
        for (v, t) in [
            (1.1f32, "1.1"),
            (123456.0, "123456"),
            (1234567.0, "1.234567e+06"),
            (1e6, "1e+06"),
            (16777216.0, "1.6777216e+07"),
            (0.00001, "1e-05"),
            (f32::INFINITY, "Infinity"),
        ] {
            assert_eq!(text(|o| write_f32(v, o)), t);
        }
        assert_eq!(parse_f64(" 1e5 "), Ok(1e5));
        assert_eq!(parse_f64("-Infinity"), Ok(f64::NEG_INFINITY));
        assert!(parse_f64("nan").unwrap().is_nan());
        assert_eq!(parse_f64("1e400").unwrap_err().code, "22003");
        assert_eq!(parse_f64("1e-400").unwrap_err().code, "22003");
        assert_eq!(parse_f32("1e39").unwrap_err().message, "\"1e39\" is out of range for type real");
        assert_eq!(parse_f64("1,5").unwrap_err().message, "invalid input syntax for type double precision: \"1,5\"");
    }

    #[test]
    fn numeric() {
        for (v, scale, trim, t) in [
            (150, 2, false, "1.50"),
            (150, 2, true, "1.5"),
            (100, 2, true, "1"),
            (0, 2, false, "0.00"),
            (0, 2, true, "0"),
            (-5, 3, false, "-0.005"),
            (12, -2, false, "1200"),
            (i128::MAX, 0, false, "170141183460469231731687303715884105727"),
            (-99999999999999999999, 10, false, "-9999999999.9999999999"),
        ] {
            assert_eq!(text(|o| write_decimal(v, scale, trim, o)), t);
        }
        for (t, p, s, v) in [
            ("1.5", 12, 2, 150),
            ("1.555", 12, 2, 156),
            ("-1.555", 12, 2, -156),
            ("1.554999", 12, 2, 155),
            (".5", 12, 2, 50),
            ("5.", 12, 2, 500),
            ("1e3", 12, 2, 100_000),
            ("15e-1", 12, 2, 150),
            ("0.004", 12, 2, 0),
            ("0.0049", 2, 2, 0),
            (" 7 ", 12, 0, 7),
            ("1250", 5, -2, 13),
            ("0e100", 5, 2, 0),
            ("00000000000000000000000000000000000000000000001", 5, 0, 1),
        ] {
            assert_eq!(parse_decimal(t, p, s), Ok(v), "{t}");
        }
        let e = parse_decimal("1000", 5, 2).unwrap_err();
        assert_eq!((e.code, e.message.as_str()), ("22003", "numeric field overflow"));
        let detail = "A field with precision 5, scale 2 must round to an absolute value less than 10^3.";
        assert_eq!(e.detail.as_deref(), Some(detail));
        assert_eq!(parse_decimal("999.995", 5, 2).unwrap_err().code, "22003");
        for t in ["", "x", "1.2.3", ".", "1e", "- 1"] {
            assert_eq!(parse_decimal(t, 12, 2).unwrap_err().code, "22P02", "{t}");
        }
    }
}
