//! The punctuation of arrays and rows: `{a,"b,c",NULL}` and `(1,"a b",)`. What stands between it is the
//! elements' own text.

use crate::error::{Error, Result};

fn malformed(what: &str, text: &str, detail: &str) -> Error {
    Error::new("22P02", format!("malformed {what} literal: \"{text}\"")).detail(detail)
}

/// The elements of an array's text. An inner array comes as its own text, if `inner_arrays` are expected.
pub fn split_array(text: &str, inner_arrays: bool) -> Result<Vec<Option<String>>> {
    let trimmed = text.trim();
    let mut body = trimmed;
    // Explicit bounds, as in `[1:3]={1,2,3}`, say nothing that is kept where they begin at 1.
    if body.starts_with('[') {
        let detail = "Missing \"=\" after array dimensions.";
        let (bounds, rest) = body.split_once('=').ok_or_else(|| malformed("array", text, detail))?;
        let lower = |part: &str| part.split_once(':').is_some_and(|(lower, _)| lower.trim() != "1");
        if bounds.split('[').any(lower) {
            return Err(Error::unsupported("an array that does not begin at 1"));
        }
        body = rest.trim_start();
    }
    let Some(mut rest) = body.strip_prefix('{') else {
        let detail = "Array value must start with \"{\" or dimension information.";
        return Err(malformed("array", text, detail));
    };
    let end_of_input = || malformed("array", text, "Unexpected end of input.");
    let mut elements = Vec::new();
    rest = rest.trim_start();
    if let Some(after) = rest.strip_prefix('}') {
        return if after.is_empty() {
            Ok(elements)
        } else {
            Err(malformed("array", text, "Junk after closing right brace."))
        };
    }
    loop {
        rest = rest.trim_start();
        match rest.chars().next().ok_or_else(end_of_input)? {
            '{' => {
                if !inner_arrays {
                    return Err(Error::unsupported("a multidimensional array in a column of one-dimensional arrays"));
                }
                let length = inner_length(rest).ok_or_else(end_of_input)?;
                elements.push(Some(rest[..length].to_string()));
                rest = &rest[length..];
            }
            '"' => {
                let (value, after) = unquote(&rest[1..], false).ok_or_else(end_of_input)?;
                elements.push(Some(value));
                rest = after;
            }
            ',' | '}' => {
                let found = &rest[..1];
                return Err(malformed("array", text, &format!("Unexpected \"{found}\" character.")));
            }
            _ => {
                let mut value = String::new();
                // Trailing spaces do not count, escaped ones do.
                let mut kept = 0;
                let mut escaped = false;
                let mut characters = rest.char_indices();
                let end = loop {
                    let (i, c) = characters.next().ok_or_else(end_of_input)?;
                    match c {
                        ',' | '}' => break i,
                        '{' | '"' => {
                            return Err(malformed("array", text, &format!("Unexpected \"{c}\" character.")));
                        }
                        '\\' => {
                            value.push(characters.next().ok_or_else(end_of_input)?.1);
                            kept = value.len();
                            escaped = true;
                        }
                        _ => {
                            value.push(c);
                            if !c.is_whitespace() {
                                kept = value.len();
                            }
                        }
                    }
                };
                value.truncate(kept);
                elements.push(if !escaped && value.eq_ignore_ascii_case("null") { None } else { Some(value) });
                rest = &rest[end..];
            }
        }
        rest = rest.trim_start();
        if let Some(after) = rest.strip_prefix(',') {
            rest = after;
        } else if let Some(after) = rest.strip_prefix('}') {
            if !after.is_empty() {
                return Err(malformed("array", text, "Junk after closing right brace."));
            }
            return Ok(elements);
        } else if rest.is_empty() {
            return Err(end_of_input());
        } else {
            return Err(malformed("array", text, "Unexpected array element."));
        }
    }
}

/// An array of several dimensions has arrays of one length in each of them.
pub fn check_shape(text: &str, dimensions: usize) -> Result<()> {
    shape_of(text, text, dimensions).map(|_| ())
}

/// The lengths of an array's dimensions from `part` of it on; none of an empty one.
fn shape_of(text: &str, part: &str, dimensions: usize) -> Result<Vec<usize>> {
    let elements = split_array(part, dimensions > 1)?;
    let mut lengths = vec![elements.len()];
    if dimensions == 1 {
        return Ok(lengths);
    }
    let is_array = |element: &Option<String>| element.as_ref().is_some_and(|e| e.starts_with('{'));
    if !elements.is_empty() && !elements.iter().any(is_array) {
        return Err(Error::unsupported("a one-dimensional array in a column of multidimensional arrays"));
    }
    let mismatch =
        || malformed("array", text, "Multidimensional arrays must have sub-arrays with matching dimensions.");
    let mut inner: Option<Vec<usize>> = None;
    for element in elements {
        let element = element.filter(|e| e.starts_with('{')).ok_or_else(mismatch)?;
        let shape = shape_of(text, &element, dimensions - 1)?;
        if shape.contains(&0) || inner.as_ref().is_some_and(|inner| *inner != shape) {
            return Err(mismatch());
        }
        inner = Some(shape);
    }
    lengths.extend(inner.unwrap_or_default());
    Ok(lengths)
}

/// Bytes from an opening brace to the one that closes it.
fn inner_length(text: &str) -> Option<usize> {
    let (mut depth, mut quoted, mut escaped) = (0, false, false);
    for (i, b) in text.bytes().enumerate() {
        match b {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => quoted = !quoted,
            b'{' if !quoted => depth += 1,
            b'}' if !quoted => {
                depth -= 1;
                if depth == 0 {
                    return Some(i + 1);
                }
            }
            _ => {}
        }
    }
    None
}

/// A quoted piece, after its opening quote, and what follows its closing one. A backslash takes the next
/// character as it is; in rows a doubled quote is a quote too.
fn unquote(text: &str, doubled: bool) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((i, c)) = characters.next() {
        match c {
            '\\' => value.push(characters.next()?.1),
            '"' if doubled && text[i + 1..].starts_with('"') => {
                characters.next();
                value.push('"');
            }
            '"' => return Some((value, &text[i + 1..])),
            _ => value.push(c),
        }
    }
    None
}

/// The fields of a row's text; an empty field is NULL.
pub fn split_record(text: &str) -> Result<Vec<Option<String>>> {
    let missing = |detail| malformed("record", text, detail);
    let mut rest = text.trim().strip_prefix('(').ok_or_else(|| missing("Missing left parenthesis."))?;
    let mut fields = Vec::new();
    let mut value: Option<String> = None;
    loop {
        let c = rest.chars().next().ok_or_else(|| missing("Unexpected end of input."))?;
        match c {
            ',' => fields.push(value.take()),
            ')' => {
                if !rest[1..].is_empty() {
                    return Err(missing("Junk after right parenthesis."));
                }
                fields.push(value);
                return Ok(fields);
            }
            '"' => {
                let (piece, after) = unquote(&rest[1..], true).ok_or_else(|| missing("Unexpected end of input."))?;
                value.get_or_insert_default().push_str(&piece);
                rest = after;
                continue;
            }
            '\\' => {
                let escaped = rest[1..].chars().next().ok_or_else(|| missing("Unexpected end of input."))?;
                value.get_or_insert_default().push(escaped);
                rest = &rest[1 + escaped.len_utf8()..];
                continue;
            }
            _ => value.get_or_insert_default().push(c),
        }
        rest = &rest[c.len_utf8()..];
    }
}

/// An element of an array, quoted if its text would be misread bare.
pub fn write_element(text: &[u8], out: &mut Vec<u8>) {
    let bare = !text.is_empty()
        && !text.eq_ignore_ascii_case(b"null")
        && !text.iter().any(|b| matches!(b, b'"' | b'\\' | b'{' | b'}' | b',') || is_space(*b));
    if bare {
        return out.extend_from_slice(text);
    }
    out.push(b'"');
    for b in text {
        if matches!(b, b'"' | b'\\') {
            out.push(b'\\');
        }
        out.push(*b);
    }
    out.push(b'"');
}

/// A field of a row, likewise; here quotes and backslashes are doubled.
pub fn write_field(text: &[u8], out: &mut Vec<u8>) {
    let bare = !text.is_empty() && !text.iter().any(|b| matches!(b, b'"' | b'\\' | b'(' | b')' | b',') || is_space(*b));
    if bare {
        return out.extend_from_slice(text);
    }
    out.push(b'"');
    for b in text {
        if matches!(b, b'"' | b'\\') {
            out.push(*b);
        }
        out.push(*b);
    }
    out.push(b'"');
}

fn is_space(b: u8) -> bool {
    matches!(b, b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn array(t: &str) -> Result<Vec<Option<String>>> {
        split_array(t, true)
    }
    fn some(v: &[&str]) -> Vec<Option<String>> {
        v.iter().map(|s| (*s != "NULL").then(|| s.to_string())).collect()
    }

    #[test]
    fn arrays() {
        for (t, expected) in [
            ("{}", vec![]),
            (" { } ", vec![]),
            ("{1,2,3}", some(&["1", "2", "3"])),
            ("{ 1 , 2 }", some(&["1", "2"])),
            (r#"{a,"b,c","q\"t",NULL,"","NULL"}"#, {
                let mut v = some(&["a", "b,c", "q\"t", "NULL", ""]);
                v.push(Some("NULL".into()));
                v
            }),
            (r"{a\,b,x y}", some(&["a,b", "x y"])),
            ("[1:2]={7,8}", some(&["7", "8"])),
            (r#"{{1,2},{"}",4}}"#, some(&["{1,2}", r#"{"}",4}"#])),
        ] {
            assert_eq!(array(t), Ok(expected), "{t}");
        }
        for t in ["", "1,2", "{1,2", "{1,,2}", "{1,}", "{\"a\"b}", "{1}2", "{a\"b\"}"] {
            let e = array(t).unwrap_err();
            assert_eq!((e.code, e.message), ("22P02", format!("malformed array literal: \"{t}\"")), "{t}");
        }
        assert_eq!(split_array("{{1}}", false).unwrap_err().code, "0A000");
    }

    #[test]
    fn records() {
        assert_eq!(split_record(r#"(1,"a b",)"#), Ok(some(&["1", "a b", "NULL"])));
        assert_eq!(split_record(r#"("a""b\"c",x\,y)"#), Ok(some(&["a\"b\"c", "x,y"])));
        assert_eq!(split_record("1,2").unwrap_err().code, "22P02");
        assert_eq!(split_record("(1,2").unwrap_err().code, "22P02");
    }
}
