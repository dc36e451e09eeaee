//! Keys: fixed width, big-endian, so that order of bytes is order of numbers and what belongs together
//! lies together.
//!
//! ```text
//!   log      relation:4 epoch:8 part:4      a relation's rows are one range; relation 0 holds the headers
//!   blocks   block:8
//!   meta     one letter, then what it names:
//!              F format    I next id     S schema:4   C relation:4 (catalog)   N schema name
//!              K setting   E relation:4 (rows ever logged and trimmed through, when trimmed)   D relation:4 (dropped, log to go)
//!              M manifest  P relation:4 worker:4 node:4 slot:4 (its parts)     B block:8 (not in a manifest yet)
//! ```

use crate::catalog::RelationId;
use crate::time::Epoch;

/// The log's pseudo-relation for headers; user relations start at 16384.
pub(super) const HEADERS: RelationId = 0;

pub(super) const FORMAT_KEY: &[u8] = b"F";
pub(super) const NEXT_ID: &[u8] = b"I";
pub(super) const MANIFEST: &[u8] = b"M";
pub(super) const SCHEMA: u8 = b'S';
pub(super) const RELATION: u8 = b'C';
pub(super) const NAMESPACE: u8 = b'N';
pub(super) const SETTING: u8 = b'K';
pub(super) const LOG_END: u8 = b'E';
pub(super) const DROPPED: u8 = b'D';
pub(super) const PART: u8 = b'P';
pub(super) const PENDING_BLOCK: u8 = b'B';

pub(super) type LogKey = [u8; 16];

pub(super) fn log_key(relation: RelationId, epoch: Epoch, part: u32) -> LogKey {
    let mut key = [0; 16];
    key[..4].copy_from_slice(&relation.to_be_bytes());
    key[4..12].copy_from_slice(&epoch.to_be_bytes());
    key[12..].copy_from_slice(&part.to_be_bytes());
    key
}

/// The log of `relation` after epoch `after`, through epoch `through`, as a half-open range.
pub(super) fn log_range(relation: RelationId, after: Epoch, through: Epoch) -> (LogKey, LogKey) {
    let upper = match through.checked_add(1) {
        Some(next) => log_key(relation, next, 0),
        None => log_key(relation + 1, 0, 0),
    };
    let lower = match after.checked_add(1) {
        Some(next) => log_key(relation, next, 0),
        None => upper,
    };
    (lower, upper)
}

pub(super) fn parse_log_key(key: &[u8]) -> (RelationId, Epoch, u32) {
    assert_eq!(key.len(), 16, "the log holds only 16-byte keys");
    (u32_at(key, 0), u64_at(key, 4), u32_at(key, 12))
}

pub(super) fn meta_key(letter: u8, name: &[u8]) -> Vec<u8> {
    let mut key = Vec::with_capacity(1 + name.len());
    key.push(letter);
    key.extend_from_slice(name);
    key
}

/// All keys of one letter, as a half-open range.
pub(super) fn meta_range(letter: u8) -> ([u8; 1], [u8; 1]) {
    ([letter], [letter + 1])
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

pub(super) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_be_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}
