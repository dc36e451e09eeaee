//! Functions of bytea that go by the names of functions of text (`functions/bytes.rs`), and LIKE of bytea.

use datafusion::error::Result;

use super::Type::*;
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

/// `%` is any bytes, `_` any one, and what follows a backslash is itself. Errors: 22025 where nothing follows it.
fn like(bytes: &[u8], pattern: &[u8]) -> Result<bool> {
    // Where to go on when what followed the last % does not match: with one byte more for that %.
    let (mut at, mut of, mut again) = (0, 0, None);
    loop {
        let (step, matches) = match (pattern.get(of), bytes.get(at)) {
            (None, rest) => (0, rest.is_none()),
            (Some(b'%'), _) => {
                again = Some((at, of + 1));
                of += 1;
                continue;
            }
            (Some(b'\\'), byte) => match pattern.get(of + 1) {
                Some(escaped) => (2, byte == Some(escaped)),
                None if byte.is_none() => return Ok(false),
                None => return fail("22025", "LIKE pattern must not end with escape character"),
            },
            (Some(b'_'), byte) => (1, byte.is_some()),
            (Some(other), byte) => (1, byte == Some(other)),
        };
        match (matches, step, again) {
            (true, 0, _) => return Ok(true),
            (true, _, _) => (at, of) = (at + 1, of + step),
            (false, _, Some((start, after))) if start < bytes.len() => {
                again = Some((start + 1, after));
                (at, of) = (start + 1, after);
            }
            _ => return Ok(false),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        for (bytes, pattern, matches) in [
            ("abc", "a%", true),
            ("abc", "a_", false),
            ("abc", "%c", true),
            ("abcabc", "%b_a%c", true),
            ("abc", "%%", true),
            ("", "%", true),
            ("", "_", false),
            ("a%c", r"a\%c", true),
            ("abc", r"a\%c", false),
            (r"a\", r"a\\", true),
            ("aab", "%ab", true),
        ] {
            assert_eq!(like(bytes.as_bytes(), pattern.as_bytes()).unwrap(), matches, "{bytes} LIKE {pattern}");
        }
        assert!(like(b"ab", br"a\").is_err());
    }
}
