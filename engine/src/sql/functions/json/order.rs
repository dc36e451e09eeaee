//! jsonb's order, as bytes that compare as the documents do: `mr_jsonb_key(j)`. Documents that differ only in how they
//! are written, `1.0` and `1`, have the same bytes.
//!
//! ```text
//!   null < string < number < boolean < array < object      and below all of them an empty array that is the document
//!   arrays by their length, then item by item; objects by their number of keys, then key, value, key, value, …
//! ```
//!
//! Each value is a byte for its kind and then, for what can be of any length, bytes that end with 0:
//!
//! ```text
//!   "ab"      1 a b 0                              (no string has a 0 in it)
//!   1250      2 2 exponent+2^31 1 2 5 0            0.1250·10^4; the digits without zeros at the end
//!   -1250     2 0 and the complement of the rest   0 is 2 1
//!   [x, y]    4 length x y
//! ```

use std::cmp::Ordering;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BinaryArray};
use datafusion::error::Result;

use super::tree::{self, Kind, Node, key_order};
use crate::sql::functions::declared::{Row, Value};

const EMPTY_DOCUMENT: u8 = 0;
const NULL: u8 = 1;
const STRING: u8 = 2;
const NUMBER: u8 = 3;
const BOOLEAN: u8 = 4;
const ARRAY: u8 = 5;
const OBJECT: u8 = 6;

pub fn key<'a>(r: &Row<'a>) -> Result<Value<'a>> {
    let text = super::document(r, 0)?;
    Ok(Value::Bytes(bytes(&tree::parse(&text)?)))
}

/// Of each item of an array.
pub fn keys<'a>(r: &Row<'a>) -> Result<Value<'a>> {
    Ok(Value::Items(keys_of(&r.items(0))?))
}

/// Of each document.
pub fn keys_of(documents: &ArrayRef) -> Result<ArrayRef> {
    let key = |text: Option<&str>| text.map(|text| Ok(bytes(&tree::parse(&tree::normal(text)?)?))).transpose();
    let keys = documents.as_string::<i32>().iter().map(key).collect::<Result<Vec<_>>>()?;
    Ok(Arc::new(keys.iter().map(|key| key.as_deref()).collect::<BinaryArray>()))
}

fn bytes(node: &Node) -> Vec<u8> {
    let mut out = Vec::new();
    match &node.kind {
        Kind::Array(items) if items.is_empty() => out.push(EMPTY_DOCUMENT),
        _ => write(node, &mut out),
    }
    out
}

fn write(node: &Node, out: &mut Vec<u8>) {
    match &node.kind {
        Kind::Null => out.push(NULL),
        Kind::Text(text) => {
            out.push(STRING);
            string(text, out);
        }
        Kind::Number => {
            out.push(NUMBER);
            number(node.raw, out);
        }
        Kind::Boolean => out.extend([BOOLEAN, u8::from(node.raw == "true")]),
        Kind::Array(items) => {
            out.push(ARRAY);
            out.extend((items.len() as u32).to_be_bytes());
            items.iter().for_each(|item| write(item, out));
        }
        Kind::Object(fields) => {
            out.push(OBJECT);
            out.extend((fields.len() as u32).to_be_bytes());
            // As in the normal form.
            let mut fields: Vec<_> = fields.iter().collect();
            fields.sort_by(|(a, _), (b, _)| key_order(a, b));
            for (key, value) in fields {
                string(key, out);
                write(value, out);
            }
        }
    }
}

fn string(text: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(text.as_bytes());
    out.push(0);
}

/// How two numbers of jsonb's form stand to each other.
pub fn numbers(left: &str, right: &str) -> Ordering {
    let key = |text: &str| {
        let mut key = Vec::new();
        number(text, &mut key);
        key
    };
    key(left).cmp(&key(right))
}

fn number(text: &str, out: &mut Vec<u8>) {
    let (negative, text) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    // The normal form has no exponents.
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let whole = whole.trim_start_matches('0');
    let (exponent, digits) = match whole.is_empty() {
        true => {
            let digits = fraction.trim_start_matches('0');
            (digits.len() as i64 - fraction.len() as i64, digits.to_string())
        }
        false => (whole.len() as i64, format!("{whole}{fraction}")),
    };
    let digits = digits.trim_end_matches('0');
    if digits.is_empty() {
        return out.push(1);
    }
    let start = out.len();
    out.push(2);
    out.extend(((exponent + (1 << 31)) as u32).to_be_bytes());
    string(digits, out);
    if negative {
        out[start] = 0;
        out[start + 1..].iter_mut().for_each(|byte| *byte = !*byte);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> Vec<u8> {
        bytes(&tree::parse(&tree::normal(text).unwrap()).unwrap())
    }

    #[test]
    fn equal_where_only_the_writing_differs() {
        for (a, b) in [
            ("1", "1.0"),
            ("1e2", "100.00"),
            ("0", "-0.0"),
            ("-0.5", "-0.50"),
            (r#"{"a":1,"b":[2.0]}"#, r#"{"b": [2], "a": 1.00}"#),
            (r#""é""#, r#""\u00e9""#),
        ] {
            assert_eq!(key(a), key(b), "{a} {b}");
        }
    }

    #[test]
    fn ordered_as_in_postgres() {
        let scalars =
            r#"[] ; null ; "" ; "a" ; "ab" ; "b" ; -100 ; -99.5 ; -1 ; -0.5 ; -0.05 ; 0 ; 0.05 ; 0.5 ; 0.51 ; 1"#;
        let numbers = "9 ; 10 ; 10.5 ; 11 ; 100 ; 1e30 ; false ; true ; [null] ; [1] ; [[]] ; [1, 2] ; {}";
        let objects = r#"{"a": 1} ; {"a": 2} ; {"aa": 0} ; {"b": 0} ; {"a": 1, "b": 1}"#;
        let ordered: Vec<&str> = [scalars, numbers, objects].iter().flat_map(|list| list.split(" ; ")).collect();
        for pair in ordered.windows(2) {
            assert!(key(pair[0]) < key(pair[1]), "{} {}", pair[0], pair[1]);
        }
    }
}
