//! Every value's envelope: `format:1 checksum:4 body`, and the small integers inside bodies.
//!
//! The checksum is the low half of XXH64 over key, format and body, so it also tells when a value lies
//! under a wrong key. RocksDB checks its files' blocks as well; this one spans the whole way from
//! memory to memory. Varints are little-endian base 128.

use crate::error::{Error, Result};

/// Version of the envelope and of the bodies.
const VALUE_FORMAT: u8 = 1;
const HEAD: usize = 5;

/// A value under construction.
pub(super) struct Frame {
    bytes: Vec<u8>,
}

impl Frame {
    pub fn new() -> Frame {
        Frame { bytes: vec![VALUE_FORMAT, 0, 0, 0, 0] }
    }
    pub fn body(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }
    /// The finished value, to be stored under `key`.
    pub fn seal(mut self, key: &[u8]) -> Vec<u8> {
        let checksum = checksum(key, &self.bytes);
        self.bytes[1..HEAD].copy_from_slice(&checksum.to_le_bytes());
        self.bytes
    }
}

pub(super) fn seal(key: &[u8], body: &[u8]) -> Vec<u8> {
    let mut frame = Frame::new();
    frame.body().extend_from_slice(body);
    frame.seal(key)
}

/// The body of a value read under `key`; `what` names it for the error.
pub(super) fn open<'a>(key: &[u8], value: &'a [u8], what: impl FnOnce() -> String) -> Result<&'a [u8]> {
    let fault = match value.first() {
        _ if value.len() < HEAD => "it is cut short",
        Some(&VALUE_FORMAT) if value[1..HEAD] == checksum(key, value).to_le_bytes() => return Ok(&value[HEAD..]),
        Some(&VALUE_FORMAT) => "its checksum does not match",
        _ => "its format is unknown",
    };
    Err(damaged(what(), fault))
}

pub(super) fn damaged(what: impl std::fmt::Display, fault: impl std::fmt::Display) -> Error {
    Error::corrupt(format!("the data directory is damaged: {what}: {fault}"))
}

fn checksum(key: &[u8], value: &[u8]) -> u32 {
    xxh64(&value[HEAD..], xxh64(key, u64::from(value[0]))) as u32
}

pub(super) fn put_varint(out: &mut Vec<u8>, mut n: u64) {
    while n >= 0x80 {
        out.push(n as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
}

/// Small numbers of either sign stay small: 0, -1, 1, -2 … become 0, 1, 2, 3 …
pub(super) fn put_zigzag(out: &mut Vec<u8>, n: i64) {
    put_varint(out, ((n << 1) ^ (n >> 63)) as u64);
}

/// Reads a body from front to back; whatever ends too early is an error, never a panic.
pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub fn new(body: &'a [u8]) -> Reader<'a> {
        Reader { rest: body }
    }
    pub fn bytes(&mut self, n: usize) -> Result<&'a [u8]> {
        let (taken, rest) =
            self.rest.split_at_checked(n).ok_or_else(|| Error::corrupt("a stored value ends too early"))?;
        self.rest = rest;
        Ok(taken)
    }
    pub fn byte(&mut self) -> Result<u8> {
        Ok(self.bytes(1)?[0])
    }
    pub fn varint(&mut self) -> Result<u64> {
        let mut n = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            n |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(n);
            }
        }
        Err(Error::corrupt("a stored number is too long"))
    }
    pub fn length(&mut self) -> Result<usize> {
        usize::try_from(self.varint()?).map_err(|_| Error::corrupt("a stored length is too large"))
    }
    pub fn zigzag(&mut self) -> Result<i64> {
        let n = self.varint()?;
        Ok((n >> 1) as i64 ^ -((n & 1) as i64))
    }
    pub fn rest(self) -> &'a [u8] {
        self.rest
    }
    pub fn remaining(&self) -> usize {
        self.rest.len()
    }
    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }
}

const P1: u64 = 0x9E3779B185EBCA87;
const P2: u64 = 0xC2B2AE3D27D4EB4F;
const P3: u64 = 0x165667B19E3779F9;
const P4: u64 = 0x85EBCA77C2B2AE63;
const P5: u64 = 0x27D4EB2F165667C5;

/// XXH64 as its specification has it (github.com/Cyan4973/xxHash, doc/xxhash_spec.md).
pub(super) fn xxh64(input: &[u8], seed: u64) -> u64 {
    fn word(b: &[u8]) -> u64 {
        u64::from_le_bytes(b.try_into().expect("eight bytes"))
    }
    fn round(acc: u64, lane: u64) -> u64 {
        acc.wrapping_add(lane.wrapping_mul(P2)).rotate_left(31).wrapping_mul(P1)
    }
    let mut stripes = input.chunks_exact(32);
    let mut hash = if input.len() >= 32 {
        let mut acc = [seed.wrapping_add(P1).wrapping_add(P2), seed.wrapping_add(P2), seed, seed.wrapping_sub(P1)];
        for stripe in &mut stripes {
            for (acc, lane) in acc.iter_mut().zip(stripe.chunks_exact(8)) {
                *acc = round(*acc, word(lane));
            }
        }
        let turns = [1, 7, 12, 18];
        let sum = acc.iter().zip(turns).fold(0u64, |sum, (acc, turn)| sum.wrapping_add(acc.rotate_left(turn)));
        acc.iter().fold(sum, |hash, acc| (hash ^ round(0, *acc)).wrapping_mul(P1).wrapping_add(P4))
    } else {
        seed.wrapping_add(P5)
    };
    hash = hash.wrapping_add(input.len() as u64);
    let mut words = stripes.remainder().chunks_exact(8);
    for lane in &mut words {
        hash = (hash ^ round(0, word(lane))).rotate_left(27).wrapping_mul(P1).wrapping_add(P4);
    }
    let mut tail = words.remainder();
    if let Some((half, rest)) = tail.split_at_checked(4) {
        let lane = u64::from(u32::from_le_bytes(half.try_into().expect("four bytes")));
        hash = (hash ^ lane.wrapping_mul(P1)).rotate_left(23).wrapping_mul(P2).wrapping_add(P3);
        tail = rest;
    }
    for byte in tail {
        hash = (hash ^ u64::from(*byte).wrapping_mul(P5)).rotate_left(11).wrapping_mul(P1);
    }
    hash = (hash ^ (hash >> 33)).wrapping_mul(P2);
    hash = (hash ^ (hash >> 29)).wrapping_mul(P3);
    hash ^ (hash >> 32)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The specification's own values, and the lengths at which the algorithm takes another way.
    #[test]
    fn xxh64_matches_its_specification() {
        assert_eq!(xxh64(b"", 0), 0xEF46DB3751D8E999);
        assert_eq!(xxh64(b"a", 0), 0xD24EC4F1A98C6E5B);
        assert_eq!(xxh64(b"abc", 0), 0x44BC2CF5AD770999);
        assert_eq!(xxh64(b"Nobody inspects the spammish repetition", 0), 0xFBCEA83C8A378BF1);
    }

    #[test]
    fn numbers_round_trip() {
        let mut out = Vec::new();
        let numbers = [0, 1, 127, 128, 16_384, u64::from(u32::MAX), u64::MAX];
        let signed = [0, -1, 1, 63, -64, 64, i64::MIN, i64::MAX];
        numbers.iter().for_each(|n| put_varint(&mut out, *n));
        signed.iter().for_each(|n| put_zigzag(&mut out, *n));
        let mut reader = Reader::new(&out);
        numbers.iter().for_each(|n| assert_eq!(reader.varint().unwrap(), *n));
        signed.iter().for_each(|n| assert_eq!(reader.zigzag().unwrap(), *n));
        assert!(reader.is_empty() && reader.byte().is_err());
    }

    #[test]
    fn every_flipped_bit_and_a_wrong_key_are_noticed() {
        let value = seal(b"key", b"the body");
        assert_eq!(open(b"key", &value, String::new).unwrap(), b"the body");
        assert!(open(b"kex", &value, String::new).is_err());
        for bit in 0..value.len() * 8 {
            let mut flipped = value.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(open(b"key", &flipped, || "epoch 3".into()).unwrap_err().code, "XX001");
        }
        for length in 0..value.len() {
            assert!(open(b"key", &value[..length], String::new).is_err());
        }
    }
}
