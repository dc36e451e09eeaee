//! Functions of numbers that DataFusion lacks: angles in degrees that are exact where they can be, whole numbers'
//! divisors and factorials, digits of numerics, buckets of a histogram.

use std::cmp::Ordering;

use arrow::array::{Array as _, ArrayRef, make_comparator};
use arrow::compute::SortOptions;
use arrow::datatypes::DataType;
use datafusion::error::Result;

use super::Type::*;
use super::{Declared, Row, Value, fail, function, of};
use crate::sql::functions::order_key;

pub fn all() -> Vec<Declared> {
    vec![
        function(
            "mr_nth",
            &[of(&[Bigint], Bigint, |r| match r.integer(0) {
                n @ 1.. => Ok(n.into()),
                _ => fail("22016", "argument of nth_value must be greater than zero"),
            })],
        ),
        function("sind", &[of(&[Double], Double, |r| finite(r, |x| sind(x)))]),
        function("cosd", &[of(&[Double], Double, |r| finite(r, cosd))]),
        function("tand", &[of(&[Double], Double, |r| finite(r, |x| sind(x) / cosd(x)).map(|v| plain_zero(v)))]),
        function("cotd", &[of(&[Double], Double, |r| finite(r, |x| cosd(x) / sind(x)).map(|v| plain_zero(v)))]),
        function("asind", &[of(&[Double], Double, |r| within_one(r, |x| asind(x)))]),
        function("acosd", &[of(&[Double], Double, |r| within_one(r, |x| 90.0 - asind(x)))]),
        function("atand", &[of(&[Double], Double, |r| Ok(atand(r.double(0)).into()))]),
        function(
            "atan2d",
            &[of(&[Double, Double], Double, |r| Ok((r.double(0).atan2(r.double(1)) / 1f64.atan2(1.0) * 45.0).into()))],
        ),
        function("asin", &[of(&[Double], Double, |r| within_one(r, f64::asin))]),
        function("acos", &[of(&[Double], Double, |r| within_one(r, f64::acos))]),
        function("sin", &[of(&[Double], Double, |r| finite(r, f64::sin))]),
        function("cos", &[of(&[Double], Double, |r| finite(r, f64::cos))]),
        function("tan", &[of(&[Double], Double, |r| finite(r, f64::tan))]),
        function("cot", &[of(&[Double], Double, |r| finite(r, |x| 1.0 / x.tan()))]),
        function("atanh", &[of(&[Double], Double, |r| within_one(r, f64::atanh))]),
        function(
            "acosh",
            &[of(&[Double], Double, |r| match r.double(0) < 1.0 {
                true => fail("22003", "input is out of range"),
                false => Ok(r.double(0).acosh().into()),
            })],
        ),
        function(
            "factorial",
            &[of(&[Bigint], NumericOf(0), |r| {
                let n = r.integer(0);
                if n < 0 {
                    return fail("22003", "factorial of a negative number is undefined");
                }
                let product = (1..=n.min(40)).try_fold(1i128, |product, k| product.checked_mul(k.into()));
                product.map_or_else(|| fail("22003", "value overflows numeric format"), |v| Ok(Value::Numeric(v)))
            })],
        ),
        function(
            "gcd",
            &[
                of(&[Integer, Integer], Integer, |r| Ok((gcd(r.integer(0).into(), r.integer(1).into()) as i64).into())),
                of(&[Bigint, Bigint], Bigint, |r| match i64::try_from(gcd(r.integer(0).into(), r.integer(1).into())) {
                    Ok(v) => Ok(v.into()),
                    Err(_) => fail("22003", "bigint out of range"),
                }),
                of(&[Numeric, Numeric], Numeric, |r| whole_pair(r, gcd)),
            ],
        ),
        function(
            "lcm",
            &[
                of(&[Integer, Integer], Integer, |r| Ok((lcm(r.integer(0).into(), r.integer(1).into()) as i64).into())),
                of(&[Bigint, Bigint], Bigint, |r| match i64::try_from(lcm(r.integer(0).into(), r.integer(1).into())) {
                    Ok(v) => Ok(v.into()),
                    Err(_) => fail("22003", "bigint out of range"),
                }),
                of(&[Numeric, Numeric], Numeric, |r| whole_pair(r, lcm)),
            ],
        ),
        function("scale", &[of(&[Numeric], Integer, |r| Ok(i64::from(r.numeric(0).1).into()))]),
        function(
            "min_scale",
            &[of(&[Numeric], Integer, |r| {
                let (mut value, mut scale) = r.numeric(0);
                while scale > 0 && value % 10 == 0 {
                    (value, scale) = (value / 10, scale - 1);
                }
                Ok(i64::from(scale).into())
            })],
        ),
        function("num_nulls", &[of(&[], Integer, |r| Ok(nulls(r).into())).rest(Any).nullable()]),
        function("num_nonnulls", &[of(&[], Integer, |r| Ok((r.len() as i64 - nulls(r)).into())).rest(Any).nullable()]),
        // Of the type whose values are shown without zeros at their end.
        function(
            "trim_scale",
            &[of(&[Numeric], PlainNumeric, |r| {
                let (value, own) = r.numeric(0);
                let scaled = match crate::sql::types::NUMERIC_SCALE_DEFAULT - own {
                    up @ 0.. => value.checked_mul(10i128.pow(up as u32)),
                    down => {
                        let unit = 10i128.pow(down.unsigned_abs().into());
                        (value % unit == 0).then_some(value / unit)
                    }
                };
                scaled.map_or_else(|| fail("22003", "value overflows numeric format"), |v| Ok(Value::Numeric(v)))
            })],
        ),
        // What a subquery says in LIMIT or OFFSET.
        function(
            "mr_limit",
            &[of(&[Bigint], Bigint, |r| match r.integer(0) {
                ..0 => fail("2201W", "LIMIT must not be negative"),
                rows => Ok(rows.into()),
            })],
        ),
        function(
            "mr_offset",
            &[of(&[Bigint], Bigint, |r| match r.integer(0) {
                ..0 => fail("2201X", "OFFSET must not be negative"),
                rows => Ok(rows.into()),
            })],
        ),
        function(
            "width_bucket",
            &[
                // How many lower bounds, in order, are not above it.
                of(&[ElementOf(1), AnyArray], Integer, |r| {
                    let bounds = r.items(1);
                    if bounds.null_count() > 0 {
                        return fail("22004", "thresholds array must not contain NULLs");
                    }
                    if matches!(bounds.data_type(), DataType::List(_)) {
                        return fail("2202E", "thresholds must be one-dimensional array");
                    }
                    let keyed = |items: ArrayRef| -> Result<ArrayRef> {
                        Ok(order_key::of_items(&items, &r.fields[1])?.unwrap_or(items))
                    };
                    let compare = make_comparator(&keyed(bounds.clone())?, &keyed(r.one(0))?, SortOptions::default())?;
                    // As they are searched: bounds out of order give what that finds.
                    let (mut low, mut high) = (0, bounds.len());
                    while low < high {
                        let middle = (low + high) / 2;
                        match compare(middle, 0) {
                            Ordering::Greater => high = middle,
                            _ => low = middle + 1,
                        }
                    }
                    Ok((low as i64).into())
                }),
                of(&[Numeric, Numeric, Numeric, Integer], Integer, |r| {
                    let scale = (0..3).map(|i| r.numeric(i).1).max().unwrap_or(0);
                    let at = |i: usize| {
                        let (value, own) = r.numeric(i);
                        value.checked_mul(10i128.pow((scale - own) as u32))
                    };
                    let (Some(value), Some(low), Some(high)) = (at(0), at(1), at(2)) else {
                        return fail("22003", "numeric field overflow");
                    };
                    let count = i128::from(buckets(r)?);
                    if low == high {
                        return fail("2201G", "lower bound cannot equal upper bound");
                    }
                    let (past, span) = if low < high { (value - low, high - low) } else { (low - value, low - high) };
                    let bucket = match past {
                        ..0 => 0,
                        past if past >= span => count + 1,
                        past => match past.checked_mul(count) {
                            Some(product) => product / span + 1,
                            None => past / (span / count).max(1) + 1,
                        },
                    };
                    Ok((bucket as i64).into())
                }),
                of(&[Double, Double, Double, Integer], Integer, |r| {
                    let (value, low, high, count) = (r.double(0), r.double(1), r.double(2), buckets(r)?);
                    if value.is_nan() || low.is_nan() || high.is_nan() {
                        return fail("2201G", "operand, lower bound, and upper bound cannot be NaN");
                    }
                    if !low.is_finite() || !high.is_finite() {
                        return fail("2201G", "lower and upper bounds must be finite");
                    }
                    if low == high {
                        return fail("2201G", "lower bound cannot equal upper bound");
                    }
                    let part = (value - low) / (high - low);
                    Ok(match part {
                        ..0.0 => 0,
                        1.0.. => count + 1,
                        part => ((part * count as f64) as i64).min(count - 1) + 1,
                    }
                    .into())
                }),
            ],
        ),
    ]
}

fn finite<'a>(r: &Row<'a>, of: impl Fn(f64) -> f64) -> Result<Value<'a>> {
    match r.double(0).is_infinite() {
        true => fail("22003", "input is out of range"),
        false => Ok(of(r.double(0)).into()),
    }
}

fn within_one<'a>(r: &Row<'a>, of: impl Fn(f64) -> f64) -> Result<Value<'a>> {
    match r.double(0).abs() > 1.0 {
        true => fail("22003", "input is out of range"),
        false => Ok(of(r.double(0)).into()),
    }
}

fn nulls(r: &Row) -> i64 {
    (0..r.len()).filter(|i| r.is_null(*i)).count() as i64
}

/// Without its sign, which a quotient of zeros may have.
fn plain_zero(value: Value) -> Value {
    match value {
        Value::Double(v) => Value::Double(v + 0.0),
        other => other,
    }
}

fn cosd(x: f64) -> f64 {
    sind(90.0 - x.abs() % 360.0) + 0.0
}

/// Exact at multiples of 30 and 90 degrees.
fn sind(x: f64) -> f64 {
    if x.is_nan() {
        return x;
    }
    let (x, sign) = if x < 0.0 { (-x, -1.0) } else { (x, 1.0) };
    let x = x % 360.0;
    let (x, sign) = if x > 180.0 { (360.0 - x, -sign) } else { (x, sign) };
    let x = if x > 90.0 { 180.0 - x } else { x };
    // Scaled so that what is exact comes out exact.
    let value = match x <= 30.0 {
        true => x.to_radians().sin() / 30f64.to_radians().sin() / 2.0,
        false => 1.0 - (1.0 - (90.0 - x).to_radians().cos()) / (1.0 - 60f64.to_radians().cos()) / 2.0,
    };
    sign * value
}

fn asind(x: f64) -> f64 {
    let of = |x: f64| match x <= 0.5 {
        true => x.asin() / 0.5f64.asin() * 30.0,
        false => 90.0 - x.acos() / 0.5f64.acos() * 60.0,
    };
    if x < 0.0 { -of(-x) } else { of(x) }
}

fn atand(x: f64) -> f64 {
    x.atan() / 1f64.atan() * 45.0
}

fn gcd(a: i128, b: i128) -> i128 {
    let (mut a, mut b) = (a.abs(), b.abs());
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

fn lcm(a: i128, b: i128) -> i128 {
    match gcd(a, b) {
        0 => 0,
        divisor => (a / divisor).saturating_mul(b).saturating_abs(),
    }
}

/// Of two numerics, at the scale of the first.
fn whole_pair<'a>(r: &Row<'a>, of: fn(i128, i128) -> i128) -> Result<Value<'a>> {
    let ((a, scale), (b, its)) = (r.numeric(0), r.numeric(1));
    let common = scale.max(its);
    let at = |value: i128, own: i8| value.checked_mul(10i128.pow((common - own) as u32));
    match (at(a, scale), at(b, its)) {
        (Some(a), Some(b)) => Ok(Value::Numeric(of(a, b) / 10i128.pow((common - scale) as u32))),
        _ => fail("22003", "numeric field overflow"),
    }
}

fn buckets(r: &Row) -> Result<i64> {
    match r.integer(3) {
        ..=0 => fail("2201G", "count must be greater than zero"),
        count => Ok(count),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn degrees() {
        assert_eq!([0.0, 30.0, 90.0, 150.0, 180.0, 270.0, -30.0].map(sind), [0.0, 0.5, 1.0, 0.5, 0.0, -1.0, -0.5]);
        assert_eq!([0.0, 0.5, 1.0, -1.0].map(asind), [0.0, 30.0, 90.0, -90.0]);
        assert_eq!(atand(1.0), 45.0);
    }

    #[test]
    fn divisors() {
        assert_eq!((gcd(330, -462), lcm(330, 462), lcm(0, 3)), (66, 2310, 0));
    }
}
