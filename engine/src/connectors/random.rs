//! Random numbers that are a function of where they are used: of (seed, column, row). So row 1,000,000
//! can be made without the rows before it, and made again after a crash.

/// SplitMix64 (Steele, Lea, Flood 2014), one sequence per (seed, stream, row).
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    pub fn at(seed: u64, stream: u64, row: u64) -> Self {
        Random(mix(mix(seed ^ 0x6d69_6c6c_7261_6365).wrapping_add(mix(stream.wrapping_add(1)))) ^ mix(row))
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// Uniform in `0..n`; `n` > 0. The bias of at most n / 2⁶⁴ is of no matter here.
    pub fn below(&mut self, n: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(n)) >> 64) as u64
    }

    /// Uniform in `min..=max`.
    pub fn between(&mut self, min: i128, max: i128) -> i128 {
        let span = max.wrapping_sub(min) as u128;
        if span < u128::from(u64::MAX) {
            return min + i128::from(self.below(span as u64 + 1));
        }
        let wide = (u128::from(self.next()) << 64) | u128::from(self.next());
        min.wrapping_add(if span == u128::MAX { wide } else { wide % (span + 1) } as i128)
    }

    /// Uniform in `0.0..1.0`, with 53 random bits.
    pub fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }
}

fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_place_gives_the_same_numbers_and_another_place_others() {
        let draw = |seed, stream, row| Random::at(seed, stream, row).next();
        assert_eq!(draw(1, 2, 3), draw(1, 2, 3));
        let all = [draw(1, 2, 3), draw(2, 2, 3), draw(1, 3, 3), draw(1, 2, 4), draw(0, 0, 0)];
        for (i, x) in all.iter().enumerate() {
            assert!(!all[i + 1..].contains(x));
        }
    }

    #[test]
    fn ranges_are_kept_and_reached() {
        let mut random = Random::at(7, 0, 0);
        let drawn: Vec<i128> = (0..2000).map(|_| random.between(-2, 3)).collect();
        assert_eq!((drawn.iter().min(), drawn.iter().max()), (Some(&-2), Some(&3)));
        for _ in 0..100 {
            assert!((0.0..1.0).contains(&random.unit()));
            assert!(random.between(i64::MIN.into(), i64::MAX.into()) >= i64::MIN.into());
        }
        let mean = (0..10_000).map(|row| Random::at(7, 1, row).unit()).sum::<f64>() / 10_000.0;
        assert!((mean - 0.5).abs() < 0.02, "first draws of neighbouring rows are uniform, mean {mean}");
    }
}
