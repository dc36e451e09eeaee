//! LIKE of many patterns, where they are not written out, and of anything that has parts.
//!
//! ```text
//!   x LIKE ANY (t.patterns)       mr_like_each(x, t.patterns, false, false, false)
//!   x NOT ILIKE ALL (t.patterns)  mr_like_each(x, t.patterns, true, true, true)
//! ```

use datafusion::error::Result;

use super::Type::*;
use super::{Declared, Row, Value, fail, function, of};

/// Text, patterns; whether all must hold, whether each is NOT, whether case counts for nothing.
pub const LIKE_EACH: &str = "mr_like_each";

pub fn all() -> Vec<Declared> {
    vec![function(LIKE_EACH, &[of(&[Text, Array("text"), Boolean, Boolean, Boolean], Boolean, like_each).nullable()])]
}

fn like_each<'a>(r: &Row<'a>) -> Result<Value<'a>> {
    if r.is_null(1) {
        return Ok(Value::Null);
    }
    let (all, negated, fold) = (r.boolean(2), r.boolean(3), r.boolean(4));
    let parts =
        |text: &str| -> Vec<char> { if fold { text.to_lowercase().chars().collect() } else { text.chars().collect() } };
    let text = (!r.is_null(0)).then(|| parts(r.text(0)));
    let mut unknown = false;
    for pattern in r.texts(1) {
        match (&text, pattern) {
            (Some(text), Some(pattern)) if (like(text, &parts(&pattern))? != negated) != all => {
                return Ok((!all).into());
            }
            (Some(_), Some(_)) => {}
            _ => unknown = true,
        }
    }
    Ok(if unknown { Value::Null } else { all.into() })
}

/// `%` is any of the parts, `_` any one, and what follows a backslash is itself. Errors: 22025 where nothing follows it.
pub fn like<T: Copy + PartialEq + From<u8>>(text: &[T], pattern: &[T]) -> Result<bool> {
    let is = |part: Option<&T>, sign: u8| part.is_some_and(|part| *part == T::from(sign));
    // Where to go on when what followed the last % does not match: with one more for that %.
    let (mut at, mut of, mut again) = (0, 0, None);
    loop {
        let (sign, part) = (pattern.get(of), text.get(at));
        let (step, matches) = if sign.is_none() {
            (0, part.is_none())
        } else if is(sign, b'%') {
            again = Some((at, of + 1));
            of += 1;
            continue;
        } else if is(sign, b'\\') {
            match pattern.get(of + 1) {
                Some(escaped) => (2, part == Some(escaped)),
                None if part.is_none() => return Ok(false),
                None => return fail("22025", "LIKE pattern must not end with escape character"),
            }
        } else {
            (1, part.is_some() && (is(sign, b'_') || part == sign))
        };
        match (matches, step, again) {
            (true, 0, _) => return Ok(true),
            (true, _, _) => (at, of) = (at + 1, of + step),
            (false, _, Some((start, after))) if start < text.len() => {
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
