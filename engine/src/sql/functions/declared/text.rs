//! Functions of texts and bytes that DataFusion lacks, or knows otherwise.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, StringArray};
use arrow::buffer::OffsetBuffer;

use super::Type::*;
use super::{Declared, Row, Value, fail, function, of};
use crate::error::Error;
use crate::sql::bounds::check_value;
use crate::sql::functions::declared::external;
use crate::sql::keywords::quote_ident;
use datafusion::error::Result;

pub fn all() -> Vec<Declared> {
    vec![
        function("quote_ident", &[of(&[Text], Text, |r| Ok(quote_ident(r.text(0)).into()))]),
        function(
            "quote_literal",
            &[
                // As a cast to text spells it.
                of(&[Boolean], Text, |r| Ok(if r.boolean(0) { "'true'" } else { "'false'" }.into())),
                of(&[Any], Text, |r| Ok(r.written(0).map(|text| quote_literal(&text)).into())),
            ],
        ),
        function("quote_nullable", &[of(&[Any], Text, |r| Ok(quote_nullable(r.written(0)).into())).nullable()]),
        function("format", &[of(&[Text], Text, format).rest(Any).nullable()]),
        function("mr_format_each", &[of(&[Text, AnyArray], Text, format_each).nullable()]),
        function("concat", &[of(&[], Text, |r| joined(r, 0, "").map(Value::from)).rest(Any).nullable()]),
        function(
            "concat_ws",
            &[of(&[Text], Text, |r| match r.is_null(0) {
                true => Ok(Value::Null),
                false => joined(r, 1, r.text(0)).map(Value::from),
            })
            .rest(Any)
            .nullable()],
        ),
        function(
            "string_to_array",
            &[of(&[Text, Text, Text], Array("text"), |r| {
                string_to_array(r).map(|texts| texts.map_or(Value::Null, Value::from))
            })
            .least(2)
            .nullable()],
        ),
        function(
            "chr",
            &[of(&[Integer], Text, |r| match u32::try_from(r.integer(0)) {
                Ok(0) => fail("54000", "null character not permitted"),
                Ok(code) => match char::from_u32(code) {
                    Some(c) => Ok(c.to_string().into()),
                    None => fail("54000", format!("requested character not valid for encoding: {code}")),
                },
                Err(_) => fail("22023", "character number must be positive"),
            })],
        ),
        function(
            "left",
            &[of(&[Text, Integer], Text, |r| {
                let count = r.text(0).chars().count() as i64;
                let taken = if r.integer(1) < 0 { count + r.integer(1) } else { r.integer(1) };
                Ok(r.text(0).chars().take(taken.max(0) as usize).collect::<String>().into())
            })],
        ),
        function(
            "right",
            &[of(&[Text, Integer], Text, |r| {
                let count = r.text(0).chars().count() as i64;
                let skipped = if r.integer(1) < 0 { -r.integer(1) } else { count - r.integer(1) };
                Ok(r.text(0).chars().skip(skipped.max(0) as usize).collect::<String>().into())
            })],
        ),
        function(
            "repeat",
            &[of(&[Text, Integer], Text, |r| {
                let times = r.integer(1).max(0) as usize;
                check_value(r.text(0).len().saturating_mul(times))?;
                Ok(r.text(0).repeat(times).into())
            })],
        ),
        function(
            "replace",
            &[of(&[Text, Text, Text], Text, |r| {
                let (text, from, to) = (r.text(0), r.text(1), r.text(2));
                if from.is_empty() {
                    return Ok(text.into());
                }
                if to.len() > from.len() {
                    let longer = text.matches(from).count().saturating_mul(to.len() - from.len());
                    check_value(text.len().saturating_add(longer))?;
                }
                Ok(text.replace(from, to).into())
            })],
        ),
        function("lpad", &[of(&[Text, Integer, Text], Text, |r| pad(r, true)).least(2)]),
        function("rpad", &[of(&[Text, Integer, Text], Text, |r| pad(r, false)).least(2)]),
        function(
            "split_part",
            &[of(&[Text, Text, Integer], Text, |r| {
                let (text, separator, n) = (r.text(0), r.text(1), r.integer(2));
                let nth = |n: i64| usize::try_from(n - 1).unwrap_or(usize::MAX);
                let part = match (n, separator.as_bytes()) {
                    (0, _) => return fail("22023", "field position must not be zero"),
                    (1 | -1, []) => Some(text),
                    (_, []) => None,
                    // A byte is found faster than a text.
                    (1.., [byte]) => {
                        let mut ends = memchr::memchr_iter(*byte, text.as_bytes());
                        let start = match nth(n) {
                            0 => Some(0),
                            n => ends.nth(n - 1).map(|end| end + 1),
                        };
                        start.map(|start| &text[start..ends.next().unwrap_or(text.len())])
                    }
                    (1.., _) => text.split(separator).nth(nth(n)),
                    (_, _) => {
                        let back = usize::try_from(n.unsigned_abs() - 1).unwrap_or(usize::MAX);
                        let parts: Vec<&str> = text.split(separator).collect();
                        parts.len().checked_sub(back.saturating_add(1)).map(|at| parts[at])
                    }
                };
                // Of nothing there is no part.
                Ok(part.unwrap_or_default().into())
            })],
        ),
        function(
            "initcap",
            &[of(&[Text], Text, |r| {
                let mut inside = false;
                let mut out = String::new();
                for c in r.text(0).chars() {
                    out.push(if inside { lower(c) } else { upper(c) });
                    inside = c.is_alphanumeric();
                }
                Ok(out.into())
            })],
        ),
        function(
            "upper",
            &[of(&[Text], Text, |r| Ok(r.text(0).chars().map(upper).collect::<String>().into()))
                .whole(|texts| by_bytes(texts, u8::to_ascii_uppercase))],
        ),
        function(
            "lower",
            &[of(&[Text], Text, |r| Ok(r.text(0).chars().map(lower).collect::<String>().into()))
                .whole(|texts| by_bytes(texts, u8::to_ascii_lowercase))],
        ),
        function(
            "translate",
            &[of(&[Text, Text, Text], Text, |r| {
                let (from, to): (Vec<char>, Vec<char>) = (r.text(1).chars().collect(), r.text(2).chars().collect());
                let changed = r.text(0).chars().filter_map(|c| match from.iter().position(|f| *f == c) {
                    Some(at) => to.get(at).copied(),
                    None => Some(c),
                });
                Ok(changed.collect::<String>().into())
            })],
        ),
        function(
            "overlay",
            &[
                of(&[Text, Text, Integer, Integer], Text, |r| {
                    let length = r.integer_or(3, r.text(1).chars().count() as i64);
                    let chars: Vec<char> = r.text(0).chars().collect();
                    let (before, after) = overlaid(chars.len(), r.integer(2), length)?;
                    Ok(chars[..before]
                        .iter()
                        .copied()
                        .chain(r.text(1).chars())
                        .chain(chars[after..].iter().copied())
                        .collect::<String>()
                        .into())
                })
                .least(3),
                of(&[Bytes, Bytes, Integer, Integer], Bytes, |r| {
                    let bytes = r.bytes(0);
                    let (before, after) =
                        overlaid(bytes.len(), r.integer(2), r.integer_or(3, r.bytes(1).len() as i64))?;
                    Ok(Value::Bytes([&bytes[..before], r.bytes(1), &bytes[after..]].concat()))
                })
                .least(3),
            ],
        ),
        function("btrim", &trims(true, true)).or("trim"),
        function("ltrim", &trims(true, false)),
        function("rtrim", &trims(false, true)),
        function(
            "encode",
            &[of(&[Bytes, Text], Text, |r| match r.text(1).to_ascii_lowercase().as_str() {
                "hex" => Ok(hex(r.bytes(0)).into()),
                "base64" => Ok(base64(r.bytes(0)).into()),
                "escape" => Ok(escaped(r.bytes(0)).into()),
                other => fail("22023", format!("unrecognized encoding: \"{other}\"")),
            })],
        ),
        function(
            "decode",
            &[of(&[Text, Text], Bytes, |r| match r.text(1).to_ascii_lowercase().as_str() {
                "hex" => unhex(r.text(0)).map(Value::Bytes),
                "base64" => unbase64(r.text(0)).map(Value::Bytes),
                "escape" => unescaped(r.text(0)).map(Value::Bytes),
                other => fail("22023", format!("unrecognized encoding: \"{other}\"")),
            })],
        ),
        function(
            "convert_from",
            &[of(&[Bytes, Text], Text, |r| {
                known_encoding(r.text(1))?;
                match std::str::from_utf8(r.bytes(0)) {
                    Ok(text) if !text.contains('\0') => Ok(text.into()),
                    _ => fail("22021", "invalid byte sequence for encoding \"UTF8\""),
                }
            })],
        ),
        function(
            "convert_to",
            &[of(&[Text, Text], Bytes, |r| {
                known_encoding(r.text(1))?;
                Ok(Value::Bytes(r.text(0).as_bytes().to_vec()))
            })],
        ),
        function(
            "get_byte",
            &[of(&[Bytes, Integer], Integer, |r| {
                let at = index(r.integer(1), r.bytes(0).len())?;
                Ok(i64::from(r.bytes(0)[at]).into())
            })],
        ),
        function(
            "set_byte",
            &[of(&[Bytes, Integer, Integer], Bytes, |r| {
                let mut bytes = r.bytes(0).to_vec();
                let at = index(r.integer(1), bytes.len())?;
                bytes[at] = r.integer(2) as u8;
                Ok(Value::Bytes(bytes))
            })],
        ),
        function(
            "get_bit",
            &[of(&[Bytes, Bigint], Integer, |r| {
                let at = index(r.integer(1), r.bytes(0).len() * 8)?;
                Ok(i64::from(r.bytes(0)[at / 8] >> (at % 8) & 1).into())
            })],
        ),
        function(
            "set_bit",
            &[of(&[Bytes, Bigint, Integer], Bytes, |r| {
                let mut bytes = r.bytes(0).to_vec();
                let at = index(r.integer(1), bytes.len() * 8)?;
                match r.integer(2) {
                    0 => bytes[at / 8] &= !(1 << (at % 8)),
                    1 => bytes[at / 8] |= 1 << (at % 8),
                    _ => return fail("22023", "new bit must be 0 or 1"),
                }
                Ok(Value::Bytes(bytes))
            })],
        ),
        function(
            "bit_length",
            &[
                of(&[Text], Integer, |r| Ok((r.text(0).len() as i64 * 8).into())),
                of(&[Bytes], Integer, |r| Ok((r.bytes(0).len() as i64 * 8).into())),
            ],
        ),
        function("reverse", &[of(&[Text], Text, |r| Ok(r.text(0).chars().rev().collect::<String>().into()))]),
        function(
            "bit_count",
            &[of(&[Bytes], Bigint, |r| {
                Ok(r.bytes(0).iter().map(|byte| i64::from(byte.count_ones())).sum::<i64>().into())
            })],
        ),
        function(
            "to_hex",
            &[
                of(&[Integer], Text, |r| Ok(format!("{:x}", r.integer(0) as i32).into())),
                of(&[Bigint], Text, |r| Ok(format!("{:x}", r.integer(0)).into())),
            ],
        ),
        function("starts_with", &[of(&[Text, Text], Boolean, |r| Ok(r.text(0).starts_with(r.text(1)).into()))]),
        function("unistr", &[of(&[Text], Text, |r| unistr(r.text(0)).map(Value::from))]),
    ]
}

/// The arguments from one on, as texts, those that are not NULL.
/// A letter that is one letter in capitals too: `ß` stays.
/// Texts of ASCII alone, changed byte by byte.
fn by_bytes(texts: &ArrayRef, change: fn(&u8) -> u8) -> Option<ArrayRef> {
    let texts = texts.as_string_opt::<i32>().filter(|texts| texts.is_ascii())?;
    let offsets = texts.offsets();
    let (from, to) = (*offsets.first()? as usize, *offsets.last()? as usize);
    let bytes: Vec<u8> = texts.values()[from..to].iter().map(change).collect();
    let lengths = OffsetBuffer::from_lengths(offsets.lengths());
    Some(Arc::new(StringArray::try_new(lengths, bytes.into(), texts.nulls().cloned()).ok()?))
}

fn upper(c: char) -> char {
    let mut capitals = c.to_uppercase();
    if capitals.len() == 1 { capitals.next().unwrap_or(c) } else { c }
}

fn lower(c: char) -> char {
    let mut small = c.to_lowercase();
    if small.len() == 1 { small.next().unwrap_or(c) } else { c }
}

fn joined(r: &Row, from: usize, between: &str) -> Result<String> {
    let mut out = String::new();
    for (n, text) in (from..r.len()).filter_map(|i| r.written(i)).enumerate() {
        let between = if n == 0 { "" } else { between };
        check_value(out.len() + between.len() + text.len())?;
        out.push_str(between);
        out.push_str(&text);
    }
    Ok(out)
}

fn quote_literal(text: &str) -> String {
    let quoted = text.replace('\'', "''");
    match text.contains('\\') {
        true => format!("E'{}'", quoted.replace('\\', "\\\\")),
        false => format!("'{quoted}'"),
    }
}

fn quote_nullable(text: Option<String>) -> String {
    text.map_or("NULL".into(), |text| quote_literal(&text))
}

/// `format('%2$s %-5I %%', …)`: s as text, I as a name, L as a literal.
fn format<'a>(r: &Row<'a>) -> Result<Value<'a>> {
    if r.is_null(0) {
        return Ok(Value::Null);
    }
    let template = r.text(0);
    let mut out = String::new();
    let mut rest = template.chars().peekable();
    let mut next = 1;
    let unterminated = || external(Error::new("22023", "unterminated format() type specifier"));
    let too_few = || external(Error::new("22023", "too few arguments for format()"));
    while let Some(c) = rest.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        if rest.peek() == Some(&'%') {
            rest.next();
            out.push('%');
            continue;
        }
        let number = |rest: &mut std::iter::Peekable<std::str::Chars>| -> Result<Option<usize>> {
            let mut digits = String::new();
            while let Some(digit) = rest.next_if(char::is_ascii_digit) {
                digits.push(digit);
            }
            match digits.is_empty() {
                true => Ok(None),
                false => match digits.parse::<i32>() {
                    Ok(n) => Ok(Some(n as usize)),
                    Err(_) => fail("22003", "number is out of range"),
                },
            }
        };
        let first = number(&mut rest)?;
        let mut argument = None;
        let mut width = None;
        match first {
            Some(n) if rest.peek() == Some(&'$') => {
                rest.next();
                if n == 0 {
                    return fail("22023", "format specifies argument 0, but arguments are numbered from 1");
                }
                argument = Some(n);
            }
            Some(n) => width = Some(n as i64),
            None => {}
        }
        let mut left = false;
        if width.is_none() {
            while rest.next_if_eq(&'-').is_some() {
                left = true;
            }
            if rest.next_if_eq(&'*').is_some() {
                let at = match number(&mut rest)? {
                    Some(n) if rest.next_if_eq(&'$').is_some() => {
                        next = n + 1;
                        n
                    }
                    Some(_) => return fail("22023", "width argument position must be ended by \"$\""),
                    None => {
                        next += 1;
                        next - 1
                    }
                };
                if at == 0 {
                    return fail("22023", "format specifies argument 0, but arguments are numbered from 1");
                }
                if at >= r.len() {
                    return Err(too_few());
                }
                let text = r.written(at).unwrap_or_else(|| "0".into());
                let Ok(n) = text.parse::<i32>() else { return fail("22003", "number is out of range") };
                left |= n < 0;
                width = Some(i64::from(n).abs());
            } else {
                width = number(&mut rest)?.map(|n| n as i64);
            }
        }
        let kind = rest.next().ok_or_else(unterminated)?;
        if !matches!(kind, 's' | 'I' | 'L') {
            return fail("22023", format!("unrecognized format() type specifier \"{kind}\""));
        }
        let at = argument.unwrap_or(next);
        next = at + 1;
        if at >= r.len() {
            return Err(too_few());
        }
        let value = r.written(at);
        let text = match kind {
            's' => value.unwrap_or_default(),
            'L' => quote_nullable(value),
            _ => match value {
                Some(name) => quote_ident(&name),
                None => return fail("22004", "null values cannot be formatted as an SQL identifier"),
            },
        };
        let width = width.unwrap_or(0) as usize;
        check_value(out.len() + text.len().max(width))?;
        let padding = " ".repeat(width.saturating_sub(text.chars().count()));
        match left {
            true => out.extend([text, padding]),
            false => out.extend([padding, text]),
        }
    }
    Ok(out.into())
}

/// The same of the elements of an array, of which NULL has none.
fn format_each<'a>(r: &Row<'a>) -> Result<Value<'a>> {
    let items = if r.is_null(1) { None } else { Some(r.items(1)) };
    let mut arrays = vec![r.one(0)];
    arrays.extend(items.iter().flat_map(|items| (0..items.len()).map(|at| items.slice(at, 1))));
    let mut fields = vec![r.fields[0].clone()];
    fields.resize(arrays.len(), r.item_field(1));
    let each = Row { arrays: &arrays, fields: &fields, row: 0, ..*r };
    Ok(match format(&each)? {
        Value::Text(text) => text.into_owned().into(),
        _ => Value::Null,
    })
}

/// Parts between delimiters; without one the characters. What equals the third argument is NULL.
fn string_to_array(r: &Row) -> Result<Option<Vec<Option<String>>>> {
    if r.is_null(0) {
        return Ok(None);
    }
    let text = r.text(0);
    let null = (r.len() > 2 && !r.is_null(2)).then(|| r.text(2));
    let parts: Vec<String> = match r.is_null(1) {
        true => text.chars().map(String::from).collect(),
        false if text.is_empty() => Vec::new(),
        false if r.text(1).is_empty() => vec![text.to_string()],
        false => text.split(r.text(1)).map(str::to_string).collect(),
    };
    Ok(Some(parts.into_iter().map(|part| Some(part).filter(|part| Some(part.as_str()) != null)).collect()))
}

fn pad<'a>(r: &Row<'a>, before: bool) -> Result<Value<'a>> {
    let (text, fill) = (r.text(0), r.text_or(2, " "));
    let length = r.integer(1).max(0) as usize;
    check_value(length.saturating_mul(fill.chars().map(char::len_utf8).max().unwrap_or(0)))?;
    let count = text.chars().count();
    if length <= count || fill.is_empty() {
        return Ok(text.chars().take(length).collect::<String>().into());
    }
    let padding: String = fill.chars().cycle().take(length - count).collect();
    Ok(if before { padding + text } else { text.to_string() + &padding }.into())
}

/// Where a part begins and ends that is replaced.
fn overlaid(length: usize, start: i64, count: i64) -> Result<(usize, usize)> {
    if start <= 0 {
        return fail("22011", "negative substring length not allowed");
    }
    let end = start.saturating_add(count) - 1;
    Ok(((start as usize - 1).min(length), end.clamp(0, length as i64) as usize))
}

fn trims(left: bool, right: bool) -> [super::Overload; 2] {
    fn text<'a>(r: &Row<'a>, left: bool, right: bool) -> Result<Value<'a>> {
        let (mut text, set) = (r.text(0), r.text_or(1, " "));
        let within = |c: char| set.contains(c);
        if left {
            text = text.trim_start_matches(within);
        }
        if right {
            text = text.trim_end_matches(within);
        }
        Ok(text.into())
    }
    fn bytes<'a>(r: &Row<'a>, left: bool, right: bool) -> Result<Value<'a>> {
        let (mut bytes, set) = (r.bytes(0), r.bytes(1));
        while left && bytes.first().is_some_and(|b| set.contains(b)) {
            bytes = &bytes[1..];
        }
        while right && bytes.last().is_some_and(|b| set.contains(b)) {
            bytes = &bytes[..bytes.len() - 1];
        }
        Ok(Value::Bytes(bytes.to_vec()))
    }
    match (left, right) {
        (true, true) => [
            of(&[Text, Text], Text, |r| text(r, true, true)).least(1),
            of(&[Bytes, Bytes], Bytes, |r| bytes(r, true, true)),
        ],
        (true, false) => [
            of(&[Text, Text], Text, |r| text(r, true, false)).least(1),
            of(&[Bytes, Bytes], Bytes, |r| bytes(r, true, false)),
        ],
        _ => [
            of(&[Text, Text], Text, |r| text(r, false, true)).least(1),
            of(&[Bytes, Bytes], Bytes, |r| bytes(r, false, true)),
        ],
    }
}

fn known_encoding(name: &str) -> Result<()> {
    match name.to_ascii_lowercase().replace(['-', '_'], "").as_str() {
        "utf8" | "unicode" => Ok(()),
        _ => fail("0A000", format!("conversion between UTF8 and {name} is not supported")),
    }
}

fn index(at: i64, length: usize) -> Result<usize> {
    match usize::try_from(at) {
        Ok(i) if i < length => Ok(i),
        _ => fail("2202E", format!("index {at} out of valid range, 0..{}", length as i64 - 1)),
    }
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Result<Vec<u8>> {
    let mut digits = Vec::new();
    for c in text.chars().filter(|c| !c.is_ascii_whitespace()) {
        match c.to_digit(16) {
            Some(digit) => digits.push(digit as u8),
            None => return fail("22023", format!("invalid hexadecimal digit: \"{c}\"")),
        }
    }
    match digits.len() % 2 {
        0 => Ok(digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()),
        _ => fail("22023", "invalid hexadecimal data: odd number of digits"),
    }
}

const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// In lines of 76.
fn base64(bytes: &[u8]) -> String {
    let mut out = String::new();
    for (i, chunk) in bytes.chunks(3).enumerate() {
        if i > 0 && i % 19 == 0 {
            out.push('\n');
        }
        let bits = chunk.iter().fold(0u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for at in 0..4 {
            match at <= chunk.len() {
                true => out.push(BASE64[(bits >> (18 - 6 * at) & 63) as usize].into()),
                false => out.push('='),
            }
        }
    }
    out
}

fn unbase64(text: &str) -> Result<Vec<u8>> {
    let (mut out, mut bits, mut count, mut padding) = (Vec::new(), 0u32, 0, 0);
    for c in text.chars().filter(|c| !c.is_ascii_whitespace()) {
        let value = match c {
            '=' if count >= 2 => {
                padding += 1;
                0
            }
            '=' => return fail("22023", "unexpected \"=\" while decoding base64 sequence"),
            _ => match BASE64.iter().position(|b| char::from(*b) == c) {
                Some(at) if padding == 0 => at as u32,
                _ => return fail("22023", format!("invalid symbol \"{c}\" found while decoding base64 sequence")),
            },
        };
        (bits, count) = (bits << 6 | value, count + 1);
        if count == 4 {
            out.extend(&bits.to_be_bytes()[1..4 - padding.min(2)]);
            (bits, count) = (0, 0);
        }
    }
    match count {
        0 => Ok(out),
        _ => fail("22023", "invalid base64 end sequence"),
    }
}

fn escaped(bytes: &[u8]) -> String {
    let mut out = String::new();
    for byte in bytes {
        match byte {
            b'\\' => out.push_str("\\\\"),
            0 | 0x80.. => out.push_str(&format!("\\{byte:03o}")),
            other => out.push(char::from(*other)),
        }
    }
    out
}

fn unescaped(text: &str) -> Result<Vec<u8>> {
    let (bytes, mut at, mut out) = (text.as_bytes(), 0, Vec::new());
    while at < bytes.len() {
        match &bytes[at..] {
            [b'\\', b'\\', ..] => {
                out.push(b'\\');
                at += 2;
            }
            [b'\\', a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', ..] => {
                out.push((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'));
                at += 4;
            }
            [b'\\', ..] => return fail("22P02", "invalid input syntax for type bytea"),
            [other, ..] => {
                out.push(*other);
                at += 1;
            }
            [] => break,
        }
    }
    Ok(out)
}

/// `\0061`, `\+000061`, `\u0061` and `\U00000061` as the characters that they name.
fn unistr(text: &str) -> Result<String> {
    let wrong = || {
        external(
            Error::syntax("invalid Unicode escape")
                .hint(r"Unicode escapes must be \XXXX, \+XXXXXX, \uXXXX, or \UXXXXXXXX."),
        )
    };
    let mut out = String::new();
    let mut rest = text;
    let mut high: Option<u32> = None;
    while let Some(at) = rest.find('\\') {
        if at > 0 && high.is_some() {
            return fail("42601", "invalid Unicode surrogate pair");
        }
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('\\') {
            out.push('\\');
            rest = after;
            continue;
        }
        let (skip, digits) = match rest.chars().next() {
            Some('+') => (1, 6),
            Some('u') => (1, 4),
            Some('U') => (1, 8),
            _ => (0, 4),
        };
        let code = rest.get(skip..skip + digits).and_then(|hex| u32::from_str_radix(hex, 16).ok()).ok_or_else(wrong)?;
        rest = &rest[skip + digits..];
        match (high.take(), code) {
            (None, 0xD800..=0xDBFF) => high = Some(code),
            (Some(first), 0xDC00..=0xDFFF) => {
                out.extend(char::from_u32(0x10000 + ((first - 0xD800) << 10) + (code - 0xDC00)));
            }
            (None, 1..) if char::from_u32(code).is_some() => out.extend(char::from_u32(code)),
            (None, 0xDC00..=0xDFFF) | (Some(_), _) => return fail("42601", "invalid Unicode surrogate pair"),
            _ => return fail("22023", format!("invalid Unicode code point: {code:04X}")),
        }
    }
    match high {
        None => Ok(out + rest),
        Some(_) => fail("42601", "invalid Unicode surrogate pair"),
    }
}
