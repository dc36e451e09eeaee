//! JSON: checking a text (json keeps it as written) and Postgres' jsonb form of it.
//!
//! ```text
//!   {"b":1, "a": [1,2],"b":2}   ->   {"a": [1, 2], "b": 2}
//! ```
//!
//! jsonb sorts keys by length and then by bytes, keeps the last of equal keys, puts a space after colons
//! and commas, and writes numbers as numeric does: exact, no exponent. Nesting is limited to [`DEPTH_MAX`].

use super::number::{DecimalText, layout_decimal, split_decimal};
use crate::error::{Error, Result};

const DEPTH_MAX: usize = 512;

fn invalid(detail: impl Into<String>) -> Error {
    Error::new("22P02", "invalid input syntax for type json").detail(detail)
}

/// Is this valid JSON? (RFC 8259)
pub fn check(text: &str) -> Result<()> {
    let mut parser = Parser { text, at: 0, out: None };
    parser.document()
}

/// Appends the jsonb form.
pub fn write_jsonb(text: &str, out: &mut Vec<u8>) -> Result<()> {
    let mut parser = Parser { text, at: 0, out: Some(std::mem::take(out)) };
    let result = parser.document();
    *out = parser.out.expect("given above");
    result
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
    /// The jsonb form so far; `None` when only checking.
    out: Option<Vec<u8>>,
}

impl Parser<'_> {
    fn document(&mut self) -> Result<()> {
        self.value(0)?;
        self.spaces();
        if self.at < self.text.len() { Err(self.unexpected("end of input")) } else { Ok(()) }
    }
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }
    fn spaces(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }
    fn emit(&mut self, bytes: &[u8]) {
        if let Some(out) = &mut self.out {
            out.extend_from_slice(bytes);
        }
    }
    fn unexpected(&self, expected: &str) -> Error {
        if self.at >= self.text.len() {
            return invalid("The input string ended unexpectedly.");
        }
        let token: String = self.text[self.at..].chars().take_while(|c| c.is_alphanumeric()).take(40).collect();
        let token = if token.is_empty() { self.text[self.at..].chars().take(1).collect() } else { token };
        if expected == "value" && token.chars().all(char::is_alphanumeric) {
            return invalid(format!("Token \"{token}\" is invalid."));
        }
        invalid(format!("Expected {expected}, but found \"{token}\"."))
    }

    fn value(&mut self, depth: usize) -> Result<()> {
        if depth > DEPTH_MAX {
            return Err(
                Error::new("54001", "JSON is nested too deeply").detail(format!("The limit is {DEPTH_MAX} levels."))
            );
        }
        self.spaces();
        match self.peek() {
            Some(b'{') => self.object(depth),
            Some(b'[') => self.array(depth),
            Some(b'"') => {
                let s = self.string()?;
                if self.out.is_some() {
                    self.emit(&quote(&s));
                }
                Ok(())
            }
            Some(b'-' | b'0'..=b'9') => self.number(),
            _ => {
                for word in ["true", "false", "null"] {
                    let rest = &self.text[self.at..];
                    let ends = |c: char| !c.is_alphanumeric();
                    if rest.starts_with(word) && rest[word.len()..].chars().next().is_none_or(ends) {
                        self.at += word.len();
                        self.emit(word.as_bytes());
                        return Ok(());
                    }
                }
                Err(self.unexpected("value"))
            }
        }
    }

    fn array(&mut self, depth: usize) -> Result<()> {
        self.at += 1;
        self.emit(b"[");
        self.spaces();
        if self.peek() == Some(b']') {
            self.at += 1;
            self.emit(b"]");
            return Ok(());
        }
        loop {
            self.value(depth + 1)?;
            self.spaces();
            match self.peek() {
                Some(b',') => self.emit(b", "),
                Some(b']') => {
                    self.at += 1;
                    self.emit(b"]");
                    return Ok(());
                }
                _ => return Err(self.unexpected("\",\" or \"]\"")),
            }
            self.at += 1;
        }
    }

    /// Members are written aside, because they are to be sorted.
    fn object(&mut self, depth: usize) -> Result<()> {
        self.at += 1;
        let mut members: Vec<(String, Vec<u8>)> = Vec::new();
        self.spaces();
        if self.peek() == Some(b'}') {
            self.at += 1;
            self.emit(b"{}");
            return Ok(());
        }
        loop {
            self.spaces();
            if self.peek() != Some(b'"') {
                return Err(self.unexpected("string or \"}\""));
            }
            let key = self.string()?;
            self.spaces();
            if self.peek() != Some(b':') {
                return Err(self.unexpected("\":\""));
            }
            self.at += 1;
            let outer = self.out.as_mut().map(std::mem::take);
            let result = self.value(depth + 1);
            if let Some(outer) = outer {
                members.push((key, self.out.replace(outer).expect("taken above")));
            }
            result?;
            self.spaces();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b'}') => break,
                _ => return Err(self.unexpected("\",\" or \"}\"")),
            }
        }
        self.at += 1;
        let Some(out) = &mut self.out else { return Ok(()) };
        // Stable, so the last of equal keys stays last.
        members.sort_by(|(a, _), (b, _)| (a.len(), a.as_bytes()).cmp(&(b.len(), b.as_bytes())));
        out.push(b'{');
        let mut first = true;
        for (i, (key, value)) in members.iter().enumerate() {
            if members.get(i + 1).is_some_and(|(next, _)| next == key) {
                continue;
            }
            if !std::mem::replace(&mut first, false) {
                out.extend_from_slice(b", ");
            }
            out.extend_from_slice(&quote(key));
            out.extend_from_slice(b": ");
            out.extend_from_slice(value);
        }
        out.push(b'}');
        Ok(())
    }

    fn string(&mut self) -> Result<String> {
        self.at += 1;
        let mut s = String::new();
        loop {
            let rest = &self.text[self.at..];
            let plain = rest.bytes().position(|b| matches!(b, b'"' | b'\\') || b < 0x20).unwrap_or(rest.len());
            s.push_str(&rest[..plain]);
            self.at += plain;
            match self.peek() {
                None => return Err(self.unexpected("string")),
                Some(b'"') => {
                    self.at += 1;
                    return Ok(s);
                }
                Some(b'\\') => {
                    self.at += 1;
                    self.escape(&mut s)?;
                }
                Some(control) => {
                    return Err(invalid(format!("Character with value 0x{control:02x} must be escaped.")));
                }
            }
        }
    }

    fn escape(&mut self, s: &mut String) -> Result<()> {
        let Some(c) = self.peek() else { return Err(self.unexpected("string")) };
        self.at += 1;
        s.push(match c {
            b'"' | b'\\' | b'/' => c as char,
            b'b' => '\x08',
            b'f' => '\x0c',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                let high = self.hex4()?;
                let code = match high {
                    0xd800..=0xdbff => {
                        if !self.text[self.at..].starts_with("\\u") {
                            return Err(invalid("Unicode low surrogate must follow a high surrogate."));
                        }
                        self.at += 2;
                        let low = self.hex4()?;
                        if !(0xdc00..=0xdfff).contains(&low) {
                            return Err(invalid("Unicode low surrogate must follow a high surrogate."));
                        }
                        0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00)
                    }
                    0 if self.out.is_some() => {
                        let detail = "\\u0000 cannot be converted to text.";
                        return Err(Error::new("22P05", "unsupported Unicode escape sequence").detail(detail));
                    }
                    _ => high,
                };
                char::from_u32(code).ok_or_else(|| invalid("Unicode low surrogate must follow a high surrogate."))?
            }
            _ => {
                let c = self.text[self.at - 1..].chars().next().expect("a character starts here");
                return Err(invalid(format!("Escape sequence \"\\{c}\" is invalid.")));
            }
        });
        Ok(())
    }

    fn hex4(&mut self) -> Result<u32> {
        let digits = self.text.as_bytes().get(self.at..self.at + 4);
        let digits = digits.filter(|d| d.iter().all(u8::is_ascii_hexdigit));
        let digits = digits.ok_or_else(|| invalid("\"\\u\" must be followed by four hexadecimal digits."))?;
        self.at += 4;
        Ok(digits.iter().fold(0, |v, d| v * 16 + (*d as char).to_digit(16).expect("checked")))
    }

    fn number(&mut self) -> Result<()> {
        let start = self.at;
        let digits = |p: &mut Self| {
            let from = p.at;
            while matches!(p.peek(), Some(b'0'..=b'9')) {
                p.at += 1;
            }
            p.at - from
        };
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        let leading_zero = self.peek() == Some(b'0');
        let whole = digits(self);
        let mut good = whole == 1 || (whole > 1 && !leading_zero);
        if self.peek() == Some(b'.') {
            self.at += 1;
            good &= digits(self) > 0;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            good &= digits(self) > 0;
        }
        let token = &self.text[start..self.at];
        if !good || self.text[self.at..].starts_with(|c: char| c.is_alphanumeric()) {
            return Err(invalid(format!("Token \"{token}\" is invalid.")));
        }
        if let Some(out) = &mut self.out {
            let DecimalText { negative, mut digits, scale } = split_decimal(token)?;
            if digits.is_empty() {
                digits.push(b'0');
            }
            // A positive exponent is written out as zeros.
            digits.extend(std::iter::repeat_n(b'0', (-scale).max(0) as usize));
            let negative = negative && digits.iter().any(|d| *d != b'0');
            let scale =
                i8::try_from(scale.max(0)).map_err(|_| Error::unsupported("a JSON number of so many digits"))?;
            layout_decimal(negative, &digits, scale, false, out);
        }
        Ok(())
    }
}

/// As Postgres quotes JSON strings.
fn quote(s: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(s.len() + 2);
    out.push(b'"');
    for b in s.bytes() {
        match b {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            0x08 => out.extend_from_slice(b"\\b"),
            0x0c => out.extend_from_slice(b"\\f"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            0..0x20 => out.extend_from_slice(format!("\\u{b:04x}").as_bytes()),
            _ => out.push(b),
        }
    }
    out.push(b'"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn jsonb(t: &str) -> Result<String> {
        let mut out = Vec::new();
        write_jsonb(t, &mut out)?;
        Ok(String::from_utf8(out).unwrap())
    }

    #[test]
    fn jsonb_form() {
        for (t, expected) in [
            (r#"{"b":1, "a": [1,2],"b":2}"#, r#"{"a": [1, 2], "b": 2}"#),
            (r#"{"aa":1,"b":2,"":3}"#, r#"{"": 3, "b": 2, "aa": 1}"#),
            (" [ ] ", "[]"),
            ("{}", "{}"),
            ("[true,false,null]", "[true, false, null]"),
            ("1.50", "1.50"),
            ("1e3", "1000"),
            ("-0", "0"),
            ("15e-3", "0.015"),
            ("12345678901234567890.123", "12345678901234567890.123"),
            (r#""a\u00e9\n\u0001\/""#, "\"aé\\n\\u0001/\""),
            (r#""\ud83d\ude00""#, "\"😀\""),
            (r#"{"a":{"d":[{"z":1,"y":2}],"c":null}}"#, r#"{"a": {"c": null, "d": [{"y": 2, "z": 1}]}}"#),
        ] {
            assert_eq!(jsonb(t).as_deref(), Ok(expected), "{t}");
            assert_eq!(check(t), Ok(()), "{t}");
        }
    }

    #[test]
    fn malformed() {
        for t in [
            "",
            "{",
            "[1,]",
            "{\"a\"}",
            "{a:1}",
            "01",
            "1.",
            "+1",
            "tru",
            "nullx",
            "\"\n\"",
            "\"\\x\"",
            "\"\\u12\"",
            "1 2",
            "\"\\ud83d\"",
            "'a'",
        ] {
            let e = check(t).unwrap_err();
            assert_eq!((e.code, e.message.as_str()), ("22P02", "invalid input syntax for type json"), "{t}");
            assert!(jsonb(t).is_err(), "{t}");
        }
        assert_eq!(check("nope").unwrap_err().detail.as_deref(), Some("Token \"nope\" is invalid."));
        assert_eq!(check(&"[".repeat(100_000)).unwrap_err().code, "54001");
        assert_eq!(check("\"\\u0000\""), Ok(()));
        assert_eq!(jsonb("\"\\u0000\"").unwrap_err().code, "22P05");
    }
}
