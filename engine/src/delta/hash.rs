//! Hashes of keys. They decide which worker owns a key and are therefore part of what is on disk: the
//! same key has the same hash in every process, version and restart. So the functions are our own and
//! their constants never change (foldhash, which they resemble, promises no such thing).
//!
//! Multiply two 64-bit words to 128 bits and fold the halves together: the middle bits of the product
//! depend on all bits of both. About 1 ns for an integer.
//!
//! One hash serves two masters, who must not see the same bits: [`route`] takes the LOW 32 bits, hash
//! tables the HIGH ones. Otherwise the keys of one worker would crowd in one part of its tables.

/// Digits of e, after the 2; odd where they are multipliers.
const SEED: u64 = 0xb7e1_5162_8aed_2a6a;
const MULTIPLIER_1: u64 = 0xbf71_5880_9cf4_f3c7;
const MULTIPLIER_2: u64 = 0x62e7_160f_38b4_da57;

#[inline(always)]
fn fold(a: u64, b: u64) -> u64 {
    let product = a as u128 * b as u128;
    product as u64 ^ (product >> 64) as u64
}

#[inline(always)]
pub fn hash_u64(value: u64) -> u64 {
    fold(value ^ SEED, MULTIPLIER_1)
}

#[inline(always)]
pub fn hash_u128(value: u128) -> u64 {
    fold(hash_u64(value as u64) ^ (value >> 64) as u64, MULTIPLIER_2)
}

/// Sixteen bytes a step; the rest is filled up with zeros, and the length tells it from real zeros.
#[inline]
pub fn hash_bytes(bytes: &[u8]) -> u64 {
    let mut hash = SEED ^ bytes.len() as u64;
    let mut steps = bytes.chunks_exact(16);
    for step in &mut steps {
        hash = fold(hash ^ word(&step[..8]), MULTIPLIER_1 ^ word(&step[8..]));
    }
    let rest = steps.remainder();
    let (low, high) = if rest.len() >= 8 {
        // The last eight bytes overlap the first eight; equal lengths overlap equally.
        (word(&rest[..8]), word(&rest[rest.len() - 8..]))
    } else if rest.len() >= 4 {
        (half_word(&rest[..4]), half_word(&rest[rest.len() - 4..]))
    } else {
        (rest.iter().fold(0, |word, byte| word << 8 | *byte as u64), 0)
    };
    fold(fold(hash ^ low, MULTIPLIER_1 ^ high), MULTIPLIER_2)
}

#[inline(always)]
fn word(bytes: &[u8]) -> u64 {
    u64::from_le_bytes(bytes.try_into().expect("eight bytes"))
}
#[inline(always)]
fn half_word(bytes: &[u8]) -> u64 {
    u32::from_le_bytes(bytes.try_into().expect("four bytes")) as u64
}

/// The hash of a key some of whose columns are NULL: bit i of `mask` says that column i is. `hash` is
/// that of the key with zeros in their place. The HIGH 32 bits of the results differ for every two
/// masks, so that (high bits, value) says which columns are NULL.
#[inline(always)]
pub fn hash_with_nulls(hash: u64, mask: u8) -> u64 {
    hash ^ (mask as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// The worker that owns the keys with this hash: each owns one range of the low 32 bits.
#[inline(always)]
pub fn route(hash: u64, workers: usize) -> usize {
    (((hash & 0xffff_ffff) * workers as u64) >> 32) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    /// Keys on disk were dealt by these very numbers.
    #[test]
    fn hashes_never_change() {
        let all = [
            hash_u64(1),
            hash_u128(1 << 64 | 2),
            hash_bytes(b""),
            hash_bytes(b"mill"),
            hash_bytes(b"a longer text, 26 bytes..."),
        ];
        assert_eq!(
            all.map(|h| format!("{h:016x}")),
            ["73e23f61f81d9fe2", "06ea50d23011aef3", "677338213acbdcc3", "670d07710232dd57", "712d38551bf26b28"]
        );
    }

    #[test]
    fn masks_differ_in_the_high_bits() {
        let high: HashSet<u32> = (0..=255).map(|mask| (hash_with_nulls(0, mask) >> 32) as u32).collect();
        assert_eq!(high.len(), 256);
    }

    #[test]
    fn bytes_of_every_length_differ_and_spread() {
        let long = vec![0u8; 100];
        let hashes: HashSet<u64> = (0..=100).map(|n| hash_bytes(&long[..n])).collect();
        assert_eq!(hashes.len(), 101);
        for workers in [1, 2, 3, 7] {
            for values in [1u64, 1 << 20, 1 << 50] {
                let mut share = vec![0; workers];
                (0..10_000).for_each(|i| share[route(hash_u64(i * values), workers)] += 1);
                let fair = 10_000 / workers;
                assert!(share.iter().all(|n| (fair * 8 / 10..=fair * 12 / 10).contains(n)), "{values} {share:?}");
            }
        }
    }
}
