//! Σ(x − mean)² from exact sums of x and x²: neither order nor retraction changes it, and equal values give exactly 0.
//!
//! With n values, a double c near their mean, R = Σx − n·c:
//!
//! ```text
//!   Σ(x − mean)² = Σx² − 2c·Σx + n·c² − R²/n
//! ```
//!
//! The first three terms nearly cancel, so they are added exactly; R²/n is tiny beside what they leave. Squares beyond
//! a double's range make the result infinite or NaN.

use crate::sql::exact_float::{ExactSum, add_weighted};

/// x² as a sum of two doubles.
pub fn square(x: f64) -> [f64; 2] {
    product(x, x)
}

/// x·y as a sum of two doubles.
pub fn product(x: f64, y: f64) -> [f64; 2] {
    let high = x * y;
    if high.is_finite() { [high, x.mul_add(y, -high)] } else { [high, 0.0] }
}

/// Subtracts `sum` · `factor`: the sum as doubles, each the rounding of what the ones before leave.
fn subtract_product(from: &mut ExactSum, sum: &ExactSum, factor: f64) {
    let mut rest = sum.clone();
    for _ in 0..4 {
        let part = rest.value();
        if part == 0.0 || !part.is_finite() {
            return;
        }
        rest.subtract(part);
        let high = part * factor;
        from.subtract(high);
        if high.is_finite() {
            from.subtract(part.mul_add(factor, -high));
        }
    }
}

/// Σ(x − mean)², from Σx and Σx².
pub fn squared_deviations(sum: &ExactSum, squares: &ExactSum, n: i64) -> f64 {
    let centre = sum.value() / n as f64;
    if !centre.is_finite() {
        return f64::NAN;
    }
    let mut total = squares.clone();
    subtract_product(&mut total, sum, 2.0 * centre);
    square(centre).into_iter().for_each(|part| add_weighted(&mut total, part, n));
    let mut rest = sum.clone();
    add_weighted(&mut rest, centre, -n);
    let rest = rest.value();
    (total.value() - rest * rest / n as f64).max(0.0)
}

/// Σ(x − mean x)(y − mean y), from Σx, Σy and Σx·y: as above, Σxy − c·Σy − d·Σx + n·c·d − RS/n with c near the mean of x, d
/// near that of y, R and S what they leave of the sums.
pub fn codeviations(x: &ExactSum, y: &ExactSum, products: &ExactSum, n: i64) -> f64 {
    let (c, d) = (x.value() / n as f64, y.value() / n as f64);
    if !(c.is_finite() && d.is_finite()) {
        return f64::NAN;
    }
    let mut total = products.clone();
    subtract_product(&mut total, y, c);
    subtract_product(&mut total, x, d);
    product(c, d).into_iter().for_each(|part| add_weighted(&mut total, part, n));
    let rest = |sum: &ExactSum, centre: f64| {
        let mut rest = sum.clone();
        add_weighted(&mut rest, centre, -n);
        rest.value()
    };
    total.value() - rest(x, c) * rest(y, d) / n as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_pairs() {
        let codeviations = |pairs: &[(f64, f64)]| {
            let (mut x, mut y, mut xy) = (ExactSum::new(), ExactSum::new(), ExactSum::new());
            for (a, b) in pairs {
                x.add(*a);
                y.add(*b);
                product(*a, *b).into_iter().for_each(|part| xy.add(part));
            }
            codeviations(&x, &y, &xy, pairs.len() as i64)
        };
        assert_eq!(codeviations(&[(1.0, 2.0), (2.0, 4.0), (3.0, 6.0)]), 4.0);
        assert_eq!(codeviations(&[(1e9 + 1.0, 1e9 + 6.0), (1e9 + 3.0, 1e9 + 2.0)]), -4.0);
        assert_eq!(codeviations(&[(0.1, 7.0), (0.1, 9.5), (0.1, -3.0)]), 0.0);
        assert!(codeviations(&[(f64::INFINITY, 1.0), (1.0, 2.0)]).is_nan());
    }

    fn deviations(values: &[f64]) -> f64 {
        let (mut sum, mut squares) = (ExactSum::new(), ExactSum::new());
        for value in values {
            sum.add(*value);
            square(*value).into_iter().for_each(|part| squares.add(part));
        }
        squared_deviations(&sum, &squares, values.len() as i64)
    }

    #[test]
    fn exact_where_the_textbook_is_not() {
        assert_eq!(deviations(&[0.1; 7]), 0.0);
        assert_eq!(deviations(&[1e15 + 0.5; 3]), 0.0);
        assert_eq!(deviations(&[2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0]), 32.0);
        assert_eq!(deviations(&[1e9 + 4.0, 1e9 + 7.0, 1e9 + 13.0, 1e9 + 16.0]), 90.0);
        assert_eq!(deviations(&[1e100, 1e100, 1.0, 1.0]), 1e200);
        assert!(deviations(&[f64::NAN, 1.0]).is_nan() && deviations(&[f64::INFINITY, 1.0]).is_nan());
    }
}
