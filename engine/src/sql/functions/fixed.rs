//! Logarithms and exponentials of numerics, in integers that count 10^-38: all digits that a numeric here can show are
//! those of the result, where a double would be off in the sixteenth.
//!
//! ```text
//!   ln x = k·ln 2 + 2·artanh((m − 1) / (m + 1)),   x = m·2^k, m about 1
//!   e^x  = 2^k · e^r,                              x = k·ln 2 + r, r about 0
//! ```

use arrow::datatypes::i256;

use super::totals::divide_rounded;

/// Digits that are kept on the way. Twice as many, and a little, fit into 256 bits.
const KEPT: u32 = 38;

const LN_2: i128 = 69_314_718_055_994_530_941_723_212_145_817_656_808;

fn ten(exponent: u32) -> i256 {
    i256::from_i128(10).wrapping_pow(exponent)
}

fn one() -> i256 {
    ten(KEPT)
}

fn times(a: i256, b: i256) -> Option<i256> {
    a.checked_mul(b)?.checked_div(one())
}

/// `units` × 10^-`scale` in units of 10^-38.
fn fixed(units: i128, scale: i8) -> Option<i256> {
    i256::from_i128(units).checked_mul(ten(KEPT.checked_sub(scale.try_into().ok()?)?))
}

/// Of a positive number, in units of 10^-38.
fn ln(units: i128, scale: i8) -> Option<i256> {
    let (mut m, mut k) = (fixed(units, scale)?, 0i64);
    // Between three quarters and one and a half.
    let high = one().wrapping_add(one().checked_div(i256::from_i128(2))?);
    let low = high.checked_div(i256::from_i128(2))?;
    while m >= high {
        (m, k) = (m.checked_div(i256::from_i128(2))?, k + 1);
    }
    while m < low {
        (m, k) = (m.checked_mul(i256::from_i128(2))?, k - 1);
    }
    let z = m.wrapping_sub(one()).checked_mul(one())?.checked_div(m.wrapping_add(one()))?;
    let square = times(z, z)?;
    let (mut power, mut sum, mut n) = (z, i256::ZERO, 1);
    while power != i256::ZERO {
        sum = sum.wrapping_add(power.checked_div(i256::from_i128(n))?);
        (power, n) = (times(power, square)?, n + 2);
    }
    let doubled = sum.wrapping_add(sum);
    Some(doubled.wrapping_add(i256::from_i128(LN_2).checked_mul(i256::from_i128(k.into()))?))
}

/// e^x with so many digits after the point; `None` where it is too large.
fn exp(x: i256, digits: u32) -> Option<i128> {
    let ln_2 = i256::from_i128(LN_2);
    let k = divide_rounded(x, 0, ln_2)?.to_i128()?;
    if k < -200 {
        return Some(0);
    }
    let r = x.wrapping_sub(ln_2.checked_mul(i256::from_i128(k))?);
    let (mut term, mut sum, mut n) = (one(), i256::ZERO, 1);
    while term != i256::ZERO {
        sum = sum.wrapping_add(term);
        (term, n) = (times(term, r)?.checked_div(i256::from_i128(n))?, n + 1);
    }
    let two = |exponent: i128| i256::from_i128(2).wrapping_pow(exponent as u32);
    let unit = ten(KEPT - digits);
    let result = match k {
        // More than fits anyway.
        126.. => return None,
        0.. => divide_rounded(sum.checked_mul(two(k))?, 0, unit)?,
        _ => divide_rounded(sum, 0, unit.checked_mul(two((-k).min(120)))?)?,
    };
    result.to_i128()
}

/// Natural logarithm of a positive number, with so many digits after the point.
pub fn logarithm(units: i128, scale: i8, digits: u32) -> Option<i128> {
    divide_rounded(ln(units, scale)?, 0, ten(KEPT - digits))?.to_i128()
}

/// That to a base which is positive and not one.
pub fn logarithm_to(base: (i128, i8), of: (i128, i8), digits: u32) -> Option<i128> {
    let (above, below) = (ln(of.0, of.1)?, ln(base.0, base.1)?);
    divide_rounded(above.checked_mul(ten(digits))?, 0, below)?.to_i128()
}

/// e to a number, with so many digits after the point.
pub fn exponential(units: i128, scale: i8, digits: u32) -> Option<i128> {
    match fixed(units, scale) {
        Some(x) => exp(x, digits),
        None => (units < 0).then_some(0),
    }
}

/// A positive number to a power that is no whole number, with so many digits after the point.
pub fn power(base: (i128, i8), exponent: (i128, i8), digits: u32) -> Option<i128> {
    let product = ln(base.0, base.1)?.checked_mul(i256::from_i128(exponent.0))?;
    exp(divide_rounded(product, 0, ten(exponent.1.try_into().ok()?))?, digits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_those_of_the_result() {
        assert_eq!(logarithm(20, 1, 16), Some(6_931_471_805_599_453));
        assert_eq!(logarithm(10, 0, 30), Some(2_302_585_092_994_045_684_017_991_454_684));
        assert_eq!(logarithm(1, 10, 16), Some(-230_258_509_299_404_568));
        assert_eq!(logarithm_to((10, 0), (1000, 1), 16), Some(2 * 10i128.pow(16)));
        assert_eq!(exponential(10, 1, 16), Some(27_182_818_284_590_452));
        assert_eq!(exponential(1, 0, 30), Some(2_718_281_828_459_045_235_360_287_471_353));
        assert_eq!(exponential(-5, 1, 16), Some(6_065_306_597_126_334));
        assert_eq!(exponential(-1000, 0, 16), Some(0));
        assert_eq!(exponential(1000, 0, 16), None);
        assert_eq!(power((20, 1), (5, 1), 16), Some(14_142_135_623_730_950));
    }
}
