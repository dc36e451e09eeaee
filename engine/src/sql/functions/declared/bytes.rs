//! Functions of bytea that go by the names of functions of text (`functions/bytes.rs`), and LIKE of bytea.

use datafusion::error::Result;

use super::Type::*;
use super::likes::like;
use super::{Declared, Row, Value, fail, function, of};
use crate::sql::bounds::check_value;

pub const SUBSTR: &str = "mr_bytes_substr";
pub const POSITION: &str = "mr_bytes_position";
pub const LIKE: &str = "mr_bytes_like";
pub const CONCAT: &str = "mr_bytes_concat";

pub fn all() -> Vec<Declared> {
    vec![
        function(SUBSTR, &[of(&[Bytes, Integer, Integer], Bytes, substr).least(2)]),
        function(POSITION, &[of(&[Bytes, Bytes], Integer, |r| Ok((position(r.bytes(0), r.bytes(1)) as i64).into()))]),
        function(LIKE, &[of(&[Bytes, Bytes], Boolean, |r| like(r.bytes(0), r.bytes(1)).map(Value::Boolean))]),
        function(
            CONCAT,
            &[of(&[Bytes, Bytes], Bytes, |r| {
                check_value(r.bytes(0).len() + r.bytes(1).len())?;
                Ok(Value::Bytes([r.bytes(0), r.bytes(1)].concat()))
            })],
        ),
    ]
}

/// From a place, counted from 1, which may lie before the first byte: those places count too.
fn substr<'a>(r: &Row<'a>) -> Result<Value<'a>> {
    let (bytes, start) = (r.bytes(0), r.integer(1));
    let end = match r.len() {
        2 => i64::MAX,
        _ if r.integer(2) < 0 => return fail("22011", "negative substring length not allowed"),
        _ => start.saturating_add(r.integer(2)),
    };
    let place = |at: i64| (at.max(1) - 1).min(bytes.len() as i64) as usize;
    Ok(Value::Bytes(bytes[place(start)..place(end).max(place(start))].to_vec()))
}

/// Where some bytes first stand within others, counted from 1; 0 where they do not.
fn position(bytes: &[u8], what: &[u8]) -> usize {
    memchr::memmem::find(bytes, what).map_or(0, |at| at + 1)
}
