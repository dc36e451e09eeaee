//! A JSON text as a tree over it: each node knows its part of the text, so that a value taken out of a document is as
//! it was written, and of a jsonb document in jsonb's normal form.

use std::borrow::Cow;
use std::cmp::Ordering;

use datafusion::error::Result;

use crate::error::Error;
use crate::sql::functions::declared::{external, fail};
use crate::sql::text::json;

#[derive(Debug, Clone)]
pub struct Node<'a> {
    /// As it stands in the text.
    pub raw: &'a str,
    pub kind: Kind<'a>,
}

#[derive(Debug, Clone)]
pub enum Kind<'a> {
    Null,
    Boolean,
    Number,
    Text(Cow<'a, str>),
    Array(Vec<Node<'a>>),
    Object(Vec<(Cow<'a, str>, Node<'a>)>),
}

/// Errors: 22P02 for what is no JSON, 54001 for what is nested too deeply.
pub fn parse(text: &str) -> Result<Node<'_>> {
    json::check(text).map_err(external)?;
    let mut reader = Reader { text, at: 0 };
    reader.node().ok_or_else(|| external(Error::new("22P02", "invalid input syntax for type json")))
}

/// In jsonb's normal form.
pub fn normal(text: &str) -> Result<String> {
    let mut out = Vec::with_capacity(text.len());
    json::write_jsonb(text, &mut out).map_err(external)?;
    String::from_utf8(out).or_else(|_| fail("22021", "invalid byte sequence for encoding \"UTF8\""))
}

/// Reads what has been checked.
struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Reader<'a> {
    fn peek(&mut self) -> Option<u8> {
        let rest = &self.text.as_bytes()[self.at..];
        self.at += rest.iter().take_while(|b| b.is_ascii_whitespace()).count();
        self.text.as_bytes().get(self.at).copied()
    }
    fn node(&mut self) -> Option<Node<'a>> {
        let first = self.peek()?;
        let start = self.at;
        let kind = match first {
            b'{' => Kind::Object(self.list(b'}', |reader| {
                reader.peek()?;
                let key = reader.string()?;
                reader.peek()?;
                reader.at += 1;
                Some((key, reader.node()?))
            })?),
            b'[' => Kind::Array(self.list(b']', Self::node)?),
            b'"' => Kind::Text(self.string()?),
            b't' | b'f' | b'n' => {
                self.at += if first == b'f' { 5 } else { 4 };
                if first == b'n' { Kind::Null } else { Kind::Boolean }
            }
            _ => {
                let rest = &self.text.as_bytes()[self.at..];
                self.at +=
                    rest.iter().take_while(|b| matches!(b, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E')).count();
                Kind::Number
            }
        };
        Some(Node { raw: self.text.get(start..self.at)?, kind })
    }
    fn list<T>(&mut self, end: u8, mut item: impl FnMut(&mut Self) -> Option<T>) -> Option<Vec<T>> {
        let mut items = Vec::new();
        self.at += 1;
        loop {
            match self.peek()? {
                b',' => self.at += 1,
                b if b == end => {
                    self.at += 1;
                    return Some(items);
                }
                _ => items.push(item(self)?),
            }
        }
    }
    fn string(&mut self) -> Option<Cow<'a, str>> {
        let (start, bytes) = (self.at, self.text.as_bytes());
        self.at += 1;
        let mut escapes = false;
        while *bytes.get(self.at)? != b'"' {
            let escape = bytes[self.at] == b'\\';
            escapes |= escape;
            self.at += 1 + usize::from(escape);
        }
        self.at += 1;
        match escapes {
            false => Some(Cow::Borrowed(&self.text[start + 1..self.at - 1])),
            true => serde_json::from_str::<String>(&self.text[start..self.at]).ok().map(Cow::Owned),
        }
    }
}

impl<'a> Node<'a> {
    pub fn type_name(&self) -> &'static str {
        match self.kind {
            Kind::Null => "null",
            Kind::Boolean => "boolean",
            Kind::Number => "number",
            Kind::Text(_) => "string",
            Kind::Array(_) => "array",
            Kind::Object(_) => "object",
        }
    }
    /// The value as text: a string without its quotes, null as NULL.
    pub fn as_text(&self) -> Option<String> {
        match &self.kind {
            Kind::Null => None,
            Kind::Text(text) => Some(text.to_string()),
            _ => Some(self.raw.to_string()),
        }
    }
    /// The value of a key; of equal keys the last one's.
    pub fn field(&self, key: &str) -> Option<&Node<'a>> {
        match &self.kind {
            Kind::Object(fields) => fields.iter().rev().find(|(name, _)| name == key).map(|(_, value)| value),
            _ => None,
        }
    }
    /// The item at an index, from the end where it is negative.
    pub fn item(&self, at: i64) -> Option<&Node<'a>> {
        match &self.kind {
            Kind::Array(items) => items.get(place(at, items.len())?),
            _ => None,
        }
    }
    /// What a step of a path leads to.
    pub fn step(&self, step: &str) -> Option<&Node<'a>> {
        match &self.kind {
            Kind::Object(_) => self.field(step),
            Kind::Array(_) => self.item(step.trim().parse().ok()?),
            _ => None,
        }
    }
    /// jsonb's `@>`.
    pub fn contains(&self, other: &Node) -> bool {
        match (&self.kind, &other.kind) {
            (Kind::Object(_), Kind::Object(fields)) => {
                fields.iter().all(|(key, value)| self.field(key).is_some_and(|own| own.contains(value)))
            }
            (Kind::Array(items), Kind::Array(others)) => {
                others.iter().all(|other| items.iter().any(|item| item.contains(other)))
            }
            _ => self.equals(other),
        }
    }
    pub fn equals(&self, other: &Node) -> bool {
        match (&self.kind, &other.kind) {
            (Kind::Number, Kind::Number) => plain(self.raw) == plain(other.raw),
            (Kind::Text(a), Kind::Text(b)) => a == b,
            (Kind::Array(a), Kind::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.equals(b)),
            (Kind::Object(a), Kind::Object(b)) => {
                a.len() == b.len() && a.iter().all(|(key, value)| other.field(key).is_some_and(|its| value.equals(its)))
            }
            (Kind::Null, Kind::Null) => true,
            (Kind::Boolean, Kind::Boolean) => self.raw == other.raw,
            _ => false,
        }
    }
}

/// A number of jsonb's form without what does not change it.
fn plain(number: &str) -> &str {
    match number.contains('.') {
        true => number.trim_end_matches('0').trim_end_matches('.'),
        false => number,
    }
}

/// An index into so many items, from the end where it is negative.
pub fn place(at: i64, count: usize) -> Option<usize> {
    let at = if at < 0 { at.checked_add(count as i64)? } else { at };
    usize::try_from(at).ok().filter(|at| *at < count)
}

/// A string as JSON writes it.
pub fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            c if c < ' ' => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// jsonb's order of keys.
pub fn key_order(a: &str, b: &str) -> Ordering {
    a.len().cmp(&b.len()).then_with(|| a.cmp(b))
}

/// An object in jsonb's form, of values in it; of equal keys the last one's counts.
pub fn object(fields: impl IntoIterator<Item = (String, String)>) -> String {
    let mut fields: Vec<(String, String)> = fields.into_iter().collect();
    fields.reverse();
    fields.sort_by(|(a, _), (b, _)| key_order(a, b));
    fields.dedup_by(|(a, _), (b, _)| a == b);
    let fields: Vec<String> = fields.iter().map(|(key, value)| format!("{}: {value}", quoted(key))).collect();
    format!("{{{}}}", fields.join(", "))
}

/// An array in jsonb's form, of values in it.
pub fn array(items: impl IntoIterator<Item = String>) -> String {
    format!("[{}]", items.into_iter().collect::<Vec<_>>().join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_as_written() {
        let node = parse(r#" {"a" : [1,  2.50, "x\ny"], "b": {"c":null}} "#).unwrap();
        assert_eq!(node.field("a").unwrap().raw, r#"[1,  2.50, "x\ny"]"#);
        assert_eq!(node.step("a").unwrap().step("-1").unwrap().as_text().unwrap(), "x\ny");
        assert_eq!(node.field("b").unwrap().raw, r#"{"c":null}"#);
        assert!(node.field("b").unwrap().field("c").unwrap().as_text().is_none());
        assert!(parse("{").is_err());
    }

    #[test]
    fn containment() {
        let contains = |a: &str, b: &str| parse(a).unwrap().contains(&parse(b).unwrap());
        assert!(contains(r#"{"a": [1, {"b": 2}], "c": 3}"#, r#"{"a": [{"b": 2.0}]}"#));
        assert!(!contains("[1, 2]", "[3]"));
        assert!(contains("[1, 2]", "[1, 1]"));
    }

    #[test]
    fn objects_are_in_order() {
        let fields = [("bb", "1"), ("a", "2"), ("bb", "3")].map(|(k, v)| (k.to_string(), v.to_string()));
        assert_eq!(object(fields), r#"{"a": 2, "bb": 3}"#);
    }
}
