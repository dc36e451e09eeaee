//! Sums of floats that are exact, so that they depend neither on order nor on how rows were batched, and a
//! retraction gives back the very state from before the insertion.
//!
//! A finite f64 is an integer below 2^53 times a power of two from 2^-1074 up, so any sum of them is an integer
//! times 2^-1074. That integer is kept in *limbs* of 32 bits, each in an i64 with room to spare: adding a float
//! touches three neighbouring limbs and carries nothing; carries are settled once in 2^30 additions (R. Neal, "Fast
//! exact summation using small and large superaccumulators", 2015). Only the limbs between the lowest and the
//! highest in use are stored: three to five for numbers of similar size, 67 at most.
//!
//! ```text
//!   1e308 + 1.0 - 1e308          = 1.0       (a float sum says 0.0)
//!   0.1 ten times                = 1.0       (a float sum says 0.9999999999999999)
//! ```
//!
//! Invariants: the exact value is Σ limbs[i] · 2^(32·(base+i) − 1074); |limbs[i]| < 2^63. NaN and the infinities are
//! counted apart, so that they too can be taken away again. The rounded value is never −0. A sum of finite numbers
//! beyond f64's range rounds to an infinity, as IEEE 754 says.

use crate::error::{Error, Result};

/// Additions that can be made before carries must be settled: each changes a limb by less than 2^32.
const PENDING_MAX: u32 = 1 << 30;
const LIMB_BITS: u32 = 32;
const LIMB_MASK: i64 = 0xffff_ffff;

#[derive(Debug, Clone, Default)]
pub struct ExactSum {
    /// Number of the first limb stored.
    base: u8,
    /// Additions since carries were settled last.
    pending: u32,
    limbs: Vec<i64>,
    /// NaN, +Inf, −Inf seen; most sums see none.
    specials: Option<Box<Specials>>,
}

/// Signed, because a retraction may come before the insertion it belongs to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Specials {
    nan: i64,
    positive_infinity: i64,
    negative_infinity: i64,
}

impl ExactSum {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn add(&mut self, value: f64) {
        self.add_signed(value, 1);
    }

    /// Takes back an earlier [`ExactSum::add`] of the same value.
    pub fn subtract(&mut self, value: f64) {
        self.add_signed(value, -1);
    }

    fn add_signed(&mut self, value: f64, sign: i64) {
        let bits = value.to_bits();
        let exponent = ((bits >> 52) & 0x7ff) as u32;
        let fraction = bits & ((1 << 52) - 1);
        if exponent == 0x7ff {
            let specials = self.specials.get_or_insert_default();
            match (fraction != 0, value > 0.0) {
                (true, _) => specials.nan += sign,
                (false, true) => specials.positive_infinity += sign,
                (false, false) => specials.negative_infinity += sign,
            }
            return;
        }
        // A subnormal has the same unit as the smallest normal number, and no hidden bit.
        let (mantissa, position) = if exponent == 0 { (fraction, 0) } else { (fraction | 1 << 52, exponent - 1) };
        if mantissa == 0 {
            return;
        }
        let wide = u128::from(mantissa) << (position % LIMB_BITS);
        let limb = (position / LIMB_BITS) as usize;
        let negative = (value < 0.0) != (sign < 0);
        let at = self.reserve(limb, limb + 3);
        for (i, slot) in self.limbs[at..at + 3].iter_mut().enumerate() {
            let part = ((wide >> (32 * i)) as i64) & LIMB_MASK;
            *slot += if negative { -part } else { part };
        }
        self.pending += 1;
        if self.pending >= PENDING_MAX {
            self.settle();
        }
    }

    /// Makes sure that limbs `from..to` are stored; returns the place of `from`.
    fn reserve(&mut self, from: usize, to: usize) -> usize {
        if self.limbs.is_empty() {
            self.base = from as u8;
            self.limbs.resize(to - from, 0);
            return 0;
        }
        let base = self.base as usize;
        if from < base {
            self.limbs.splice(0..0, std::iter::repeat_n(0, base - from));
            self.base = from as u8;
        }
        let base = self.base as usize;
        if to > base + self.limbs.len() {
            self.limbs.resize(to - base, 0);
        }
        from - base
    }

    /// Carries: afterwards all limbs but the last are in 0..2^32.
    fn settle(&mut self) {
        let mut carry = 0i64;
        for limb in &mut self.limbs {
            let sum = *limb + carry;
            *limb = sum & LIMB_MASK;
            carry = sum >> LIMB_BITS;
        }
        if carry != 0 {
            self.limbs.push(carry);
        }
        self.pending = 0;
    }

    /// Adds what another sum has seen.
    pub fn merge(&mut self, other: &ExactSum) {
        if let Some(theirs) = &other.specials {
            let ours = self.specials.get_or_insert_default();
            ours.nan += theirs.nan;
            ours.positive_infinity += theirs.positive_infinity;
            ours.negative_infinity += theirs.negative_infinity;
        }
        if other.limbs.is_empty() {
            return;
        }
        let mut other = other.clone();
        self.settle();
        other.settle();
        let from = other.base as usize;
        let at = self.reserve(from, from + other.limbs.len());
        for (slot, limb) in self.limbs[at..].iter_mut().zip(&other.limbs) {
            *slot += limb;
        }
        self.settle();
    }

    /// Sign, and the magnitude as limbs of 32 bits without zeros at either end, with the number of the first. This
    /// form is unique to the value.
    fn canonical(&self) -> (bool, usize, Vec<u32>) {
        let mut settled = ExactSum { specials: None, ..self.clone() };
        settled.settle();
        let negative = settled.limbs.last().is_some_and(|&top| top < 0);
        if negative {
            settled.limbs.iter_mut().for_each(|limb| *limb = -*limb);
            settled.settle();
        }
        // A top limb can hold more than 32 bits only while carries are pending.
        let mut limbs: Vec<u32> = Vec::with_capacity(settled.limbs.len() + 1);
        for limb in &settled.limbs {
            debug_assert!((0..=LIMB_MASK).contains(limb), "settled and not negative");
            limbs.push(*limb as u32);
        }
        while limbs.last() == Some(&0) {
            limbs.pop();
        }
        let zeros = limbs.iter().take_while(|&&limb| limb == 0).count();
        limbs.drain(..zeros);
        if limbs.is_empty() {
            return (false, 0, limbs);
        }
        (negative, settled.base as usize + zeros, limbs)
    }

    /// The sum, rounded once to the nearest f64, ties to even.
    pub fn value(&self) -> f64 {
        if let Some(specials) = &self.specials {
            let (up, down) = (specials.positive_infinity > 0, specials.negative_infinity > 0);
            if specials.nan > 0 || (up && down) {
                return f64::NAN;
            }
            if up {
                return f64::INFINITY;
            }
            if down {
                return f64::NEG_INFINITY;
            }
        }
        let (negative, base, limbs) = self.canonical();
        let Some(top) = limbs.last() else { return 0.0 };
        let length = 32 * limbs.len() as u32 - top.leading_zeros();
        let bit = |i: u32| limbs[(i / 32) as usize] >> (i % 32) & 1;
        // Bits of the magnitude that an f64 can hold: 53, and none below 2^-1074, which is bit 0 of limb 0.
        let dropped = length.saturating_sub(53);
        let mut mantissa = (dropped..length).fold(0u64, |m, i| m | u64::from(bit(i)) << (i - dropped));
        let mut exponent = 32 * base as i64 + i64::from(dropped);
        if dropped > 0 && bit(dropped - 1) == 1 {
            let tie = (0..dropped - 1).all(|i| bit(i) == 0);
            if !tie || mantissa & 1 == 1 {
                mantissa += 1;
            }
        }
        // mantissa · 2^(exponent − 1074), where mantissa ≤ 2^53, is exact from here on. Bring it to 53 bits, or to
        // exponent 0, where the subnormal numbers are.
        if mantissa == 1 << 53 {
            mantissa >>= 1;
            exponent += 1;
        }
        while mantissa < 1 << 52 && exponent > 0 {
            mantissa <<= 1;
            exponent -= 1;
        }
        let bits = if mantissa < 1 << 52 {
            mantissa
        } else if exponent + 1 >= 0x7ff {
            f64::INFINITY.to_bits()
        } else {
            ((exponent + 1) as u64) << 52 | (mantissa & ((1 << 52) - 1))
        };
        let magnitude = f64::from_bits(bits);
        if negative { -magnitude } else { magnitude }
    }

    /// A form that is equal for equal sums: flags, first limb, specials if any, limbs; all little-endian.
    pub fn to_bytes(&self) -> Vec<u8> {
        let (negative, base, limbs) = self.canonical();
        let specials = self.specials.as_ref().filter(|s| ***s != Specials::default());
        let mut bytes = Vec::with_capacity(2 + 24 + 4 * limbs.len());
        bytes.push(u8::from(negative) | u8::from(specials.is_some()) << 1);
        bytes.push(base as u8);
        if let Some(s) = specials {
            for count in [s.nan, s.positive_infinity, s.negative_infinity] {
                bytes.extend(count.to_le_bytes());
            }
        }
        for limb in limbs {
            bytes.extend(limb.to_le_bytes());
        }
        bytes
    }

    /// Errors: XX001 when these are not the bytes of a sum.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let damaged = || Error::corrupt("damaged float sum");
        let [flags, base, rest @ ..] = bytes else { return Err(damaged()) };
        let (specials, rest) = if flags & 2 == 0 {
            (None, rest)
        } else {
            let (counts, rest) = rest.split_at_checked(24).ok_or_else(damaged)?;
            let count = |i: usize| i64::from_le_bytes(counts[8 * i..8 * i + 8].try_into().expect("eight bytes"));
            let specials = Specials { nan: count(0), positive_infinity: count(1), negative_infinity: count(2) };
            (Some(Box::new(specials)), rest)
        };
        if *flags > 3 || rest.len() % 4 != 0 || rest.len() > 4 * 70 {
            return Err(damaged());
        }
        let sign = if flags & 1 == 1 { -1 } else { 1 };
        let limbs =
            rest.chunks_exact(4).map(|limb| sign * i64::from(u32::from_le_bytes(limb.try_into().expect("four bytes"))));
        Ok(ExactSum { base: *base, pending: 1, limbs: limbs.collect(), specials })
    }

    /// Bytes on the heap.
    pub fn heap_size(&self) -> usize {
        self.limbs.capacity() * 8 + self.specials.as_ref().map_or(0, |_| size_of::<Specials>())
    }
}

/// Adds `value` · `weight`, exactly: once per bit of the weight, since powers of two only move the
/// exponent.
pub fn add_weighted(sum: &mut ExactSum, value: f64, weight: i64) {
    let mut add = |value: f64| if weight > 0 { sum.add(value) } else { sum.subtract(value) };
    let mut left = weight.unsigned_abs();
    if !value.is_finite() {
        // NaN and the infinities are counted.
        (0..left).for_each(|_| add(value));
        return;
    }
    while left != 0 {
        let mut power = left & left.wrapping_neg();
        left &= left - 1;
        // Near the end of the range in several steps.
        let mut steps = 1u64;
        while !(value * power as f64).is_finite() {
            power /= 2;
            steps *= 2;
        }
        (0..steps).for_each(|_| add(value * power as f64));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sum(values: &[f64]) -> ExactSum {
        let mut sum = ExactSum::new();
        values.iter().for_each(|&v| sum.add(v));
        sum
    }

    #[test]
    fn exact_where_floats_are_not() {
        assert_eq!(sum(&[]).value().to_bits(), 0.0f64.to_bits());
        assert_eq!(sum(&[-0.0, -0.0]).value().to_bits(), 0.0f64.to_bits());
        assert_eq!(sum(&[0.1; 10]).value(), 1.0);
        assert_eq!(sum(&[1e308, 1.0, -1e308]).value(), 1.0);
        assert_eq!(sum(&[1e308, 1e308, -1e308]).value(), 1e308);
        assert_eq!(sum(&[f64::MAX, f64::MAX]).value(), f64::INFINITY);
        assert_eq!(sum(&[-f64::MAX, -f64::MAX]).value(), f64::NEG_INFINITY);
        assert_eq!(sum(&[5e-324, 5e-324, -5e-324]).value(), 5e-324);
        assert_eq!(sum(&[2.2250738585072014e-308, -5e-324]).value(), 2.225073858507201e-308);
        // Ties go to even, and a sticky bit far below breaks them.
        assert_eq!(sum(&[9007199254740992.0, 1.0]).value(), 9007199254740992.0);
        assert_eq!(sum(&[9007199254740992.0, 1.0, 1e-300]).value(), 9007199254740994.0);
        assert_eq!(sum(&[-9007199254740992.0, -3.0]).value(), -9007199254740996.0);
    }

    #[test]
    fn specials_come_and_go() {
        let mut s = sum(&[1.5, f64::INFINITY]);
        assert_eq!(s.value(), f64::INFINITY);
        s.add(f64::NEG_INFINITY);
        assert!(s.value().is_nan());
        s.subtract(f64::INFINITY);
        assert_eq!(s.value(), f64::NEG_INFINITY);
        s.subtract(f64::NEG_INFINITY);
        s.add(f64::NAN);
        assert!(ExactSum::from_bytes(&s.to_bytes()).unwrap().value().is_nan());
        s.subtract(f64::NAN);
        assert_eq!(s.value(), 1.5);
        assert_eq!(s.to_bytes(), sum(&[1.5]).to_bytes());
    }

    #[test]
    fn damaged_bytes_are_refused() {
        for bytes in [&[][..], &[0], &[0, 0, 1], &[2, 0, 1, 1], &[9, 0]] {
            assert_eq!(ExactSum::from_bytes(bytes).unwrap_err().code, "XX001");
        }
    }

    fn finite() -> impl Strategy<Value = f64> {
        any::<u64>().prop_map(f64::from_bits).prop_filter("finite", |v| v.is_finite())
    }

    proptest! {
        #[test]
        fn of_two_rounds_as_the_machine_does(a in finite(), b in finite()) {
            prop_assert_eq!(sum(&[a, b]).value(), a + b);
        }

        #[test]
        fn neither_order_nor_split_nor_detour_matters(
            mut values in prop::collection::vec(finite(), 0..40), gone in prop::collection::vec(finite(), 0..10), cut in 0usize..40,
        ) {
            let straight = sum(&values);
            let mut detour = ExactSum::new();
            gone.iter().for_each(|&v| detour.subtract(v));
            values.reverse();
            let cut = cut.min(values.len());
            detour.merge(&ExactSum::from_bytes(&sum(&values[..cut]).to_bytes()).unwrap());
            values[cut..].iter().for_each(|&v| detour.add(v));
            gone.iter().for_each(|&v| detour.add(v));
            prop_assert_eq!(straight.to_bytes(), detour.to_bytes());
            prop_assert_eq!(straight.value().to_bits(), detour.value().to_bits());
        }
    }
}
