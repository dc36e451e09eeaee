//! What comes in and what goes out, in every format, however the bytes are cut.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{Schema, SchemaRef};

use super::{Aside, CopyDecoder, CopyEncoder, CopyRows};
use crate::error::{Error, Result};
use crate::sql::copy::{CopyFormat, OnError};
use crate::sql::text::{Style, value_to_text};
use crate::sql::types;

fn schema(columns: &[(&str, &str)]) -> SchemaRef {
    Arc::new(Schema::new(columns.iter().map(|(name, ty)| types::field(name, ty, true).unwrap()).collect::<Vec<_>>()))
}

fn text() -> CopyFormat {
    CopyFormat::Text { delimiter: b'\t', null: "\\N".into(), header: false }
}
fn csv() -> CopyFormat {
    CopyFormat::Csv { delimiter: b',', null: String::new(), header: false, quote: b'"', escape: b'"' }
}

fn decode(schema: &SchemaRef, format: &CopyFormat, pieces: &[&[u8]]) -> Result<Vec<RecordBatch>> {
    let mut decoder = CopyDecoder::new(schema.clone(), format).for_relation("t");
    let mut batches = Vec::new();
    for piece in pieces {
        batches.extend(decoder.push(piece)?);
    }
    batches.extend(decoder.finish()?.0);
    Ok(batches)
}

/// Rows as `a|b;c|NULL`.
fn show(batches: &[RecordBatch]) -> String {
    let mut rows = Vec::new();
    for batch in batches {
        for row in 0..batch.num_rows() {
            let cell = |i: usize| {
                value_to_text(batch.schema().field(i), batch.column(i), row, &Style::default()).unwrap_or("NULL".into())
            };
            rows.push((0..batch.num_columns()).map(cell).collect::<Vec<_>>().join("|"));
        }
    }
    rows.join(";")
}

/// The same rows must come out whole, byte by byte, and cut anywhere in two.
fn check(columns: &[(&str, &str)], format: &CopyFormat, input: &[u8], expected: &str) {
    let schema = schema(columns);
    let whole = show(&decode(&schema, format, &[input]).unwrap());
    assert_eq!(whole, expected, "{}", String::from_utf8_lossy(input));
    let bytes: Vec<&[u8]> = input.chunks(1).collect();
    assert_eq!(show(&decode(&schema, format, &bytes).unwrap()), expected, "byte by byte");
    for cut in 0..input.len() {
        let (a, b) = input.split_at(cut);
        assert_eq!(show(&decode(&schema, format, &[a, b]).unwrap()), expected, "cut at {cut}");
    }
}

fn refuse(columns: &[(&str, &str)], format: &CopyFormat, input: &[u8]) -> Error {
    let schema = schema(columns);
    let e = decode(&schema, format, &[input]).unwrap_err();
    let bytes: Vec<&[u8]> = input.chunks(1).collect();
    assert_eq!(decode(&schema, format, &bytes).unwrap_err(), e, "byte by byte");
    e
}

const TWO: &[(&str, &str)] = &[("n", "integer"), ("t", "text")];
const ONE: &[(&str, &str)] = &[("t", "text")];

#[test]
fn text_format() {
    for (input, expected) in [
        (&b""[..], ""),
        (b"1\ta\n2\t\\N\n", "1|a;2|NULL"),
        (b"1\ta\n2\tb", "1|a;2|b"),
        (b"1\ta\r\n2\tb\r\n", "1|a;2|b"),
        (b"1\t\n", "1|"),
        (b"\\N\t\\N\n", "NULL|NULL"),
        (b"1\ta\\tb\\nc\\\\d\\be\\ff\\rg\\vh\n", "1|a\tb\nc\\d\x08e\x0cf\rg\x0bh"),
        (b"1\t\\101\\x41\\60z\\x4\\q\n", "1|AA0z\x04q"),
        (b"1\ta\\\nb\n", "1|a\nb"),
        (b"1\t\\Nx\n", "1|Nx"),
        (b"1\ta\n\\.\nthis is not read", "1|a"),
        (b"1\t\\.\n", "1|."),
        (b"1\t\xc3\xa9\\xc3\\xa9\n", "1|\u{e9}\u{e9}"),
    ] {
        check(TWO, &text(), input, expected);
    }
    check(ONE, &text(), b"\n\na\n", ";;a");
    let bars = CopyFormat::Text { delimiter: b'|', null: "nil".into(), header: true };
    check(TWO, &bars, b"x|y\n1|a\\|b\n2|nil\n3|\\nil\n", "1|a|b;2|NULL;3|\nil");
}

#[test]
fn csv_format() {
    for (input, expected) in [
        (&b"1,a\n2,\n3,\"\"\n"[..], "1|a;2|NULL;3|"),
        (b"1,\"a,b\"\n2,\"a\nb\"\n3,\"a\"\"b\"\n", "1|a,b;2|a\nb;3|a\"b"),
        (b"1,a\r\n2,\"b\r\nc\"\r\n", "1|a;2|b\r\nc"),
        (b"1,ab\"cd, e\"f\n", "1|abcd, ef"),
        (b"1, a \n", "1| a "),
        (b"\"1\",\"a\"", "1|a"),
        (b"1,a\n\\.\n2,b\n", "1|a"),
        (b"1,\\N\n", "1|\\N"),
        (b"1,\"\\.\"\n", "1|\\."),
    ] {
        check(TWO, &csv(), input, expected);
    }
    check(ONE, &csv(), b"\"\\.\"\n\nx\n", "\\.;NULL;x");
    let odd = CopyFormat::Csv { delimiter: b';', null: "-".into(), header: true, quote: b'\'', escape: b'\\' };
    check(TWO, &odd, b"a;b\n1;'x\\'y\\\\z\\w'\n2;-\n3;'-'\n", "1|x'y\\z\\w;2|NULL;3|-");
}

#[test]
fn errors_name_line_and_column() {
    let columns = &[("id", "integer"), ("amount", "numeric(5,2)"), ("at", "date")];
    for (input, code, message, detail) in [
        (
            &b"1\t2\t2024-01-01\nx\t2\t2024-01-01\n"[..],
            "22P02",
            "invalid input syntax for type integer: \"x\"",
            "COPY t, line 2, column id: \"x\"",
        ),
        (
            b"1\t12345\t2024-01-01\n",
            "22003",
            "numeric field overflow",
            "A field with precision 5, scale 2 must round to an absolute value less than 10^3.\nCOPY t, line 1, column amount: \"12345\"",
        ),
        (b"1\t2\n", "22P04", "missing data for column \"at\"", "COPY t, line 1"),
        (b"1\t2\t2024-01-01\t4\n", "22P04", "extra data after last expected column", "COPY t, line 1"),
        // The first bad row, though a later column and a later error are found before.
        (
            b"1\t2\tsoon\ny\t2\t2024-01-01\n1\n",
            "22007",
            "invalid input syntax for type date: \"soon\"",
            "COPY t, line 1, column at: \"soon\"",
        ),
        (
            b"1\t2\t2024-01-01\n\xff\t2\t2024-01-01\n",
            "22021",
            "invalid byte sequence for encoding \"UTF8\": 0xff",
            "COPY t, line 2",
        ),
        (b"1\r2\n", "22P04", "literal carriage return found in data", "COPY t, line 1"),
    ] {
        let e = refuse(columns, &text(), input);
        assert_eq!((e.code, e.message.as_str(), e.detail.as_deref()), (code, message, Some(detail)));
    }
    let e = refuse(TWO, &csv(), b"1,\"a\n\nb\"\n2,\"open\n");
    assert_eq!((e.message.as_str(), e.detail.as_deref()), ("unterminated CSV quoted field", Some("COPY t, line 5")));
    let e = refuse(TWO, &csv(), b"1,\"a\n\nb\"\nx,b\n");
    assert_eq!(e.detail.as_deref(), Some("COPY t, line 4, column n: \"x\""));
    // Half a character in one cell and half in the next is no text, though the bytes together would be.
    let e = refuse(&[("a", "text"), ("b", "text")], &text(), b"x\\xc3\t\\xa9\n");
    assert_eq!(e.code, "22021");
}

#[test]
fn not_null_columns() {
    let field = types::field("n", "integer", false).unwrap();
    let schema: SchemaRef = Arc::new(Schema::new(vec![field]));
    let e = decode(&schema, &text(), &[b"1\n\\N\n"]).unwrap_err();
    let message = "null value in column \"n\" of relation \"t\" violates not-null constraint";
    assert_eq!((e.code, e.message.as_str()), ("23502", message));
    assert_eq!(e.detail.as_deref(), Some("COPY t, line 2, column n: null input"));
}

#[test]
fn full_batches_come_as_they_fill() {
    let schema = schema(&[("n", "bigint")]);
    let mut decoder = CopyDecoder::new(schema, &text());
    let mut input = String::new();
    (0..20_000).for_each(|i| input.push_str(&format!("{i}\n")));
    let batches = decoder.push(input.as_bytes()).unwrap();
    assert_eq!(batches.iter().map(RecordBatch::num_rows).collect::<Vec<_>>(), [8192, 8192]);
    let rest = decoder.finish().unwrap().0;
    assert_eq!(rest.iter().map(RecordBatch::num_rows).collect::<Vec<_>>(), [20_000 - 2 * 8192]);
}

/// Every type there and back, through each format.
#[test]
fn round_trips() {
    let columns = &[
        ("b", "boolean"),
        ("i", "bigint"),
        ("f", "double precision"),
        ("n", "numeric(12,2)"),
        ("t", "text"),
        ("y", "bytea"),
        ("d", "date"),
        ("z", "timestamptz"),
        ("v", "interval"),
        ("u", "uuid"),
        ("j", "jsonb"),
        ("a", "text[]"),
    ];
    let schema = schema(columns);
    let row = "t\t-5\t1e+20\t1.50\ta\\tb\\n\"c\",\\\\d\t\\\\xdead\t2024-02-29\t2024-01-02 03:04:05.6+00\t1 day 02:00:00\t\
               a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11\t{\"a\": [1, 2]}\t{a,NULL,\"x y\"}\n";
    let nulls = format!("{}\n", ["\\N"; 12].join("\t"));
    let input = format!("{row}{nulls}{row}");
    let batches = decode(&schema, &text(), &[input.as_bytes()]).unwrap();
    let header_csv = CopyFormat::Csv { delimiter: b',', null: String::new(), header: true, quote: b'"', escape: b'"' };
    for format in [text(), csv(), header_csv, CopyFormat::Binary] {
        let mut encoder = CopyEncoder::new(schema.clone(), &format);
        let mut out = encoder.header().unwrap();
        batches.iter().for_each(|b| encoder.encode(b, &mut out).unwrap());
        out.extend(encoder.trailer());
        let back = decode(&schema, &format, &[&out]).unwrap();
        assert_eq!(back, batches, "{format:?}");
        let pieces: Vec<&[u8]> = out.chunks(7).collect();
        assert_eq!(decode(&schema, &format, &pieces).unwrap(), batches, "{format:?} in pieces");
        if format == text() {
            assert_eq!(String::from_utf8(out.clone()).unwrap(), input);
        }
        // The rows are found again one by one.
        let mut rows = CopyRows::new(&format);
        let (mut rest, mut count) = (&out[..], 0);
        while let Some(length) = rows.next_row(rest) {
            rest = &rest[length..];
            count += 1;
        }
        let header = matches!(format, CopyFormat::Csv { header: true, .. });
        assert_eq!(count, 3 + usize::from(header), "{format:?}");
        assert_eq!(rest.len(), if format == CopyFormat::Binary { 2 } else { 0 });
        // The same rows where the bytes come one by one.
        let (mut rows, mut start, mut again) = (CopyRows::new(&format), 0, 0);
        for end in 1..=out.len() {
            while let Some(length) = rows.next_row(&out[start..end]) {
                (start, again) = (start + length, again + 1);
            }
        }
        assert_eq!((again, out.len() - start), (count, rest.len()), "{format:?}");
    }
}

#[test]
fn csv_quotes_what_would_be_misread() {
    let schema = schema(ONE);
    let batches = decode(&schema, &text(), &[b"plain\n\n\\N\n\\\\.\na,b\na\"b\na\\nb\n a \n"]).unwrap();
    let mut encoder = CopyEncoder::new(schema.clone(), &csv());
    let mut out = Vec::new();
    batches.iter().for_each(|b| encoder.encode(b, &mut out).unwrap());
    assert_eq!(String::from_utf8(out).unwrap(), "plain\n\"\"\n\n\"\\.\"\n\"a,b\"\n\"a\"\"b\"\n\"a\nb\"\n a \n");
}

#[test]
fn quotes_that_are_asked_for() {
    let schema = schema(TWO);
    let batches = decode(&schema, &text(), &[b"1\ta\n2\t\\N\n"]).unwrap();
    let mut encoder = CopyEncoder::new(schema.clone(), &csv()).quoting(vec![false, true]);
    let mut out = Vec::new();
    batches.iter().for_each(|b| encoder.encode(b, &mut out).unwrap());
    assert_eq!(String::from_utf8(out).unwrap(), "1,\"a\"\n2,\n");
}

#[test]
fn latin1() {
    let schema = schema(ONE);
    let mut decoder = CopyDecoder::new(schema.clone(), &text()).in_latin1(true);
    let mut batches = decoder.push(b"caf\xe9\n\xff").unwrap();
    batches.extend(decoder.push(b"\xa3\n").unwrap());
    batches.extend(decoder.finish().unwrap().0);
    assert_eq!(show(&batches), "café;ÿ£");
    let mut encoder = CopyEncoder::new(schema.clone(), &text()).in_latin1(true);
    let mut out = b"x".to_vec();
    batches.iter().for_each(|b| encoder.encode(b, &mut out).unwrap());
    assert_eq!(out, b"xcaf\xe9\n\xff\xa3\n");
    let batches = decode(&schema, &text(), &["€\n".as_bytes()]).unwrap();
    let error = encoder.encode(&batches[0], &mut out).unwrap_err();
    assert_eq!((error.code, error.message.contains("0xe2 0x82 0xac")), ("22P05", true));
}

#[test]
fn broken_binary_input() {
    let schema = schema(TWO);
    let header = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
    let with = |rest: &[u8]| [&header[..], rest].concat();
    for (input, message) in [
        (b"PGCOPX\n\xff\r\n\0\0\0\0\0\0\0\0\0".to_vec(), "COPY file signature not recognized"),
        (b"PGCO".to_vec(), "unexpected EOF in COPY data"),
        (Vec::new(), "unexpected EOF in COPY data"),
        (with(b"\0\x03"), "row field count is 3, expected 2"),
        (with(b"\0\x02\0\0\0\x04\0\0"), "unexpected EOF in COPY data"),
        (with(b"\0\x02\0\0\0\x03\0\0\x01\xff\xff\xff\xff\xff\xff"), "incorrect binary data format"),
        (with(b"\0\x02\xff\xff\xff\xfe\0\0\0\0"), "invalid field size"),
        (with(b"\0\x02\xff\xff\xff\xff\0\0\0\x01\xff\xff\xff"), "invalid byte sequence for encoding \"UTF8\": 0xff"),
    ] {
        assert_eq!(decode(&schema, &CopyFormat::Binary, &[&input]).unwrap_err().message, message);
    }
    let empty = decode(&schema, &CopyFormat::Binary, &[&with(b"\xff\xff")]).unwrap();
    assert!(empty.is_empty());
}

#[test]
fn wide_rows_are_whole_though_batches_end_by_bytes() {
    let schema = schema(&[("n", "int"), ("t", "text")]);
    let mut input = Vec::new();
    for n in 0..7u8 {
        input.extend_from_slice(format!("{n}\t").as_bytes());
        input.extend(std::iter::repeat_n(b'a' + n, 3_000_000));
        input.push(b'\n');
    }
    let pieces: Vec<&[u8]> = input.chunks(1_000_003).collect();
    let batches = decode(&schema, &text(), &pieces).unwrap();
    assert!(batches.len() > 1, "they do not fit one batch");
    let rows = show(&batches);
    let expected: Vec<String> =
        (0..7u8).map(|n| format!("{n}|{}", ((b'a' + n) as char).to_string().repeat(3_000_000))).collect();
    assert!(rows == expected.join(";"), "each row as it was sent");
}

/// What is read, and `line code input` of what is put aside.
fn decode_with_aside(schema: &SchemaRef, format: &CopyFormat, on_error: OnError, pieces: &[&[u8]]) -> (String, String) {
    let decoder = CopyDecoder::new(schema.clone(), format).for_relation("t");
    let mut decoder = decoder.with_aside(Aside::new(on_error));
    let mut batches = Vec::new();
    for piece in pieces {
        batches.extend(decoder.push(piece).unwrap());
    }
    let (rest, aside) = decoder.finish().unwrap();
    batches.extend(rest);
    let aside = aside.unwrap().rejected();
    let shown = aside.iter().map(|r| format!("{} {} {}", r.line, r.error.code, String::from_utf8_lossy(&r.input)));
    (show(&batches), shown.collect::<Vec<_>>().join(";"))
}

const SET_ASIDE: OnError = OnError::SetAside { limit: None };

#[test]
fn bad_rows_are_put_aside_as_they_came_however_the_bytes_are_cut() {
    let columns = schema(&[("a", "int"), ("b", "text")]);
    let with_header = CopyFormat::Csv { delimiter: b',', null: String::new(), header: true, quote: b'"', escape: b'"' };
    let cases: [(&CopyFormat, &[u8], &str, &str); 6] = [
        (
            &text(),
            b"x\ta\n1\tb\n2\n3\tc\td\n4\te\nfive\tf",
            "1|b;4|e",
            "1 22P02 x\ta;3 22P04 2;4 22P04 3\tc\td;6 22P02 five\tf",
        ),
        (&text(), b"1\ta\rb\tc\n2\td\r\nz\te\r\n\\.\nrest", "2|d", "1 22P04 1\ta\rb\tc;3 22P02 z\te"),
        (&text(), b"1\t\xff\n2\tb\n\xc3\t\xa4\n", "2|b", "1 22021 1\t\u{fffd};3 22021 \u{fffd}\t\u{fffd}"),
        (&with_header, b"a,b\n1,\"p\nq\"\n\"x\ny\",r\n3,s,t\n4,u\n", "1|p\nq;4|u", "5 22P02 \"x\ny\",r;6 22P04 3,s,t"),
        (&csv(), b"1,a\n2,\"b\n3,c\n", "1|a", "4 22P04 2,\"b\n3,c"),
        (&csv(), b"", "", ""),
    ];
    for (format, input, good, bad) in cases {
        let expected = (good.to_string(), bad.to_string());
        let name = String::from_utf8_lossy(input);
        assert_eq!(decode_with_aside(&columns, format, SET_ASIDE, &[input]), expected, "{name}");
        let bytes: Vec<&[u8]> = input.chunks(1).collect();
        assert_eq!(decode_with_aside(&columns, format, SET_ASIDE, &bytes), expected, "{name} byte by byte");
        for cut in 0..input.len() {
            let (a, b) = input.split_at(cut);
            assert_eq!(decode_with_aside(&columns, format, SET_ASIDE, &[a, b]), expected, "{name} cut at {cut}");
        }
    }
}

#[test]
fn one_bad_row_among_many_takes_no_other_with_it_wherever_it_is() {
    let columns = schema(&[("a", "int"), ("b", "text")]);
    for bad in [0, 1, 63, 64, 4095, 8190, 8191, 8192, 8193, 9999] {
        for broken in ["x\tb", "1", "1\tb\tc", "1\ta\rb"] {
            let lines = (0..10_000).map(|row| if row == bad { format!("{broken}\n") } else { format!("{row}\tv\n") });
            let input: String = lines.collect();
            let (good, aside) = decode_with_aside(&columns, &text(), SET_ASIDE, &[input.as_bytes()]);
            let expected: Vec<String> = (0..10_000).filter(|row| *row != bad).map(|row| format!("{row}|v")).collect();
            assert!(good == expected.join(";"), "{broken} at {bad}");
            assert!(aside.starts_with(&format!("{} 22P0", bad + 1)) && aside.ends_with(broken), "{aside}");
        }
    }
    let all_bad = "x\ty\n".repeat(20_000);
    let (good, aside) = decode_with_aside(&columns, &text(), SET_ASIDE, &[all_bad.as_bytes()]);
    assert_eq!((good.as_str(), aside.split(';').count()), ("", 20_000));
}

#[test]
fn only_values_are_ignored_and_only_so_many() {
    let columns = schema(&[("a", "int"), ("b", "text")]);
    let run = |input: &str, on_error| {
        let decoder = CopyDecoder::new(columns.clone(), &text()).for_relation("t");
        let mut decoder = decoder.with_aside(Aside::new(on_error));
        decoder.push(input.as_bytes())?;
        let (rows, aside) = decoder.finish()?;
        let aside = aside.unwrap();
        Ok::<_, Error>((show(&rows), aside.count(), aside.rejected().len()))
    };
    let ignore = OnError::Ignore { limit: None };
    assert_eq!(run("x\ta\n1\tb\ny\tc\n", ignore).unwrap(), ("1|b".into(), 2, 0));
    let missing = run("x\ta\n1\n", ignore).unwrap_err();
    assert_eq!((missing.code, missing.message.as_str()), ("22P04", "missing data for column \"b\""));
    for limited in [OnError::Ignore { limit: Some(2) }, OnError::SetAside { limit: Some(2) }] {
        assert_eq!(run("x\ta\n1\tb\ny\tc\n", limited).unwrap().1, 2);
        let error = run("x\ta\n1\tb\ny\tc\nz\td\n", limited).unwrap_err();
        assert_eq!((error.code, error.message.contains("more than REJECT_LIMIT (2)")), ("22P02", true), "{error}");
    }
}
