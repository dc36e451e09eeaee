//! Text and binary forms against what PostgreSQL 15.18 answers, session time zone Europe/Berlin.
//!
//! A line of the file is `["type", "input", "output", "binary in hex"]`, or with an SQLSTATE for output and the
//! message after it: `["integer", "x", "22P02", null, "invalid input syntax …"]`.

use arrow::array::ArrayRef;

use super::*;
use crate::sql::types;

struct Case {
    sql_type: String,
    input: String,
    output: String,
    /// `None`: `output` is an SQLSTATE.
    binary: Option<Vec<u8>>,
    message: String,
}

fn cases() -> Vec<Case> {
    let parse = |line: &str| {
        let fields: Vec<Option<String>> = serde_json::from_str(line).unwrap();
        let get = |i: usize| fields.get(i).cloned().flatten();
        let bytes = |hex: String| {
            hex.as_bytes().chunks(2).map(|h| u8::from_str_radix(std::str::from_utf8(h).unwrap(), 16).unwrap()).collect()
        };
        Case {
            sql_type: get(0).unwrap(),
            input: get(1).unwrap(),
            output: get(2).unwrap(),
            binary: get(3).map(bytes),
            message: get(4).unwrap_or_default(),
        }
    };
    include_str!("testdata/postgres15.jsonl").lines().map(parse).collect()
}

/// Where Millrace answers otherwise, on purpose.
fn differs(case: &Case) -> Option<&'static str> {
    let is = |sql_type: &str, inputs: &[&str]| case.sql_type == sql_type && inputs.contains(&case.input.as_str());
    if is("text[]", &["{{a}}"]) {
        return Some("arrays of one dimension only: 0A000");
    }
    if is("double precision", &["100000000000000000000000"]) {
        return Some("1e+23 is shorter and reads back the same");
    }
    if is("interval", &["P1"]) {
        return Some("a number without a unit is no year");
    }
    None
}

#[test]
fn as_postgres_15() {
    let style = Style::in_zone(Zone::parse("Europe/Berlin").unwrap());
    let mut wrong = Vec::new();
    for case in cases() {
        let field = types::field("c", &case.sql_type, true).unwrap();
        let ty = PgType::of(&field);
        let label = format!("{} '{}'", case.sql_type, case.input);
        let read = read::read(&ty, field.data_type(), &[Some(&case.input)], &style);
        if differs(&case).is_some() {
            let same = read.is_ok_and(|array| text_of(&ty, &array, &style) == case.output);
            assert!(!same, "{label} agrees now: take it off the list");
            continue;
        }
        match (read, &case.binary) {
            (Ok(array), Some(binary)) => {
                let text = text_of(&ty, &array, &style);
                if text != case.output {
                    wrong.push(format!("{label}: {text} instead of {}", case.output));
                }
                let mut cells = Cells::default();
                binary::write(&ty, &array, &mut cells).unwrap();
                if cells.get(0) != Some(binary) {
                    wrong.push(format!("{label}: binary {:02x?} instead of {binary:02x?}", cells.get(0).unwrap()));
                }
                match binary::read(&ty, field.data_type(), &[Some(binary)]) {
                    Ok(back) if back == array => {}
                    back => wrong.push(format!("{label}: from binary {back:?}")),
                }
            }
            (Err(e), None) => {
                if e.error.code != case.output || e.error.message != case.message {
                    wrong.push(format!(
                        "{label}: {} {} instead of {} {}",
                        e.error.code, e.error.message, case.output, case.message
                    ));
                }
            }
            (Ok(array), None) => {
                wrong.push(format!(
                    "{label}: {} instead of {} {}",
                    text_of(&ty, &array, &style),
                    case.output,
                    case.message
                ));
            }
            (Err(e), Some(_)) => {
                wrong.push(format!("{label}: {} {} instead of {}", e.error.code, e.error.message, case.output))
            }
        }
    }
    assert!(wrong.is_empty(), "{} differ:\n{}", wrong.len(), wrong.join("\n"));
}

fn text_of(ty: &PgType, array: &ArrayRef, style: &Style) -> String {
    let mut cells = Cells::default();
    write::write(ty, array, style, &mut cells);
    String::from_utf8(cells.get(0).unwrap().to_vec()).unwrap()
}

#[test]
fn nulls_stay_null() {
    for case in cases().into_iter().filter(|c| c.binary.is_some()) {
        let field = types::field("c", &case.sql_type, true).unwrap();
        let ty = PgType::of(&field);
        let style = Style::in_zone(Zone::parse("Europe/Berlin").unwrap());
        let cells = [None, Some(case.input.as_str()), None];
        let Ok(array) = read::read(&ty, field.data_type(), &cells, &style) else { continue };
        assert_eq!(array.null_count(), 2, "{}", case.sql_type);
        // A slice, so that offsets are not forgotten.
        let tail = array.slice(1, 2);
        let (mut text, mut binary) = (Cells::default(), Cells::default());
        write::write(&ty, &tail, &style, &mut text);
        binary::write(&ty, &tail, &mut binary).unwrap();
        assert!(text.get(0).is_some() && text.get(1).is_none(), "{}", case.sql_type);
        assert!(binary.get(0).is_some() && binary.get(1).is_none(), "{}", case.sql_type);
    }
}

#[test]
fn the_first_bad_row_is_named() {
    let field = types::field("c", "integer[]", true).unwrap();
    let cells = [Some("{1,2}"), None, Some("{}"), Some("{3,x}"), Some("{y}")];
    let e = read::read(&PgType::of(&field), field.data_type(), &cells, &Style::default()).unwrap_err();
    assert_eq!((e.row, e.error.message.as_str()), (3, "invalid input syntax for type integer: \"x\""));
}

#[test]
fn nested_and_composite_values() {
    use std::sync::Arc;

    use arrow::array::{Int32Array, ListArray, StringArray, StructArray};
    use arrow::datatypes::{DataType, Field, Int32Type};

    let inner =
        ListArray::from_iter_primitive::<Int32Type, _, _>([Some(vec![Some(1), Some(2)]), Some(vec![Some(3), None])]);
    let field = Arc::new(Field::new_list_field(inner.data_type().clone(), true));
    let offsets = arrow::buffer::OffsetBuffer::from_lengths([2]);
    let outer: ArrayRef = Arc::new(ListArray::new(field, offsets, Arc::new(inner), None));
    let ty = PgType::named(None, outer.data_type());
    assert_eq!(text_of(&ty, &outer, &Style::default()), "{{1,2},{3,NULL}}");
    let mut cells = Cells::default();
    binary::write(&ty, &outer, &mut cells).unwrap();
    let mut expected = Vec::new();
    for word in [2, 1, 23, 2, 1, 2, 1, 4, 1, 4, 2, 4, 3, -1] {
        expected.extend_from_slice(&i32::to_be_bytes(word));
    }
    assert_eq!(cells.get(0), Some(&expected[..]));

    let fields = vec![Field::new("a", DataType::Int32, true), Field::new("b", DataType::Utf8, true)];
    let columns: Vec<ArrayRef> =
        vec![Arc::new(Int32Array::from(vec![1, 2])), Arc::new(StringArray::from(vec![Some("a \"b"), None]))];
    let rows: ArrayRef = Arc::new(StructArray::new(fields.into(), columns, None));
    let ty = PgType::named(None, rows.data_type());
    assert_eq!(text_of(&ty, &rows, &Style::default()), "(1,\"a \"\"b\")");
    assert_eq!(text_of(&ty, &rows.slice(1, 1), &Style::default()), "(2,)");
    let back = read::read(&ty, rows.data_type(), &[Some("(1,\"a \"\"b\")"), Some("(2,)")], &Style::default()).unwrap();
    assert_eq!(&back, &rows);
    let mut cells = Cells::default();
    binary::write(&ty, &rows, &mut cells).unwrap();
    assert_eq!(&binary::read(&ty, rows.data_type(), &[cells.get(0), cells.get(1)]).unwrap(), &rows);
}

/// Whatever Arrow type DataFusion makes of a value, it is written as the SQL type nearest to it.
#[test]
fn other_arrow_types() {
    use arrow::compute::cast;
    use arrow::datatypes::{DataType, TimeUnit};

    for (sql_type, text, arrow) in [
        ("text", "ab", DataType::Utf8View),
        ("text", "ab", DataType::LargeUtf8),
        ("text", "ab", DataType::Dictionary(Box::new(DataType::Int8), Box::new(DataType::Utf8))),
        ("bigint", "7", DataType::UInt64),
        ("bigint", "7", DataType::Int8),
        ("double precision", "1.5", DataType::Float16),
        ("timestamp without time zone", "2024-01-02 03:04:05", DataType::Timestamp(TimeUnit::Nanosecond, None)),
        ("timestamp without time zone", "2024-01-02 03:04:05", DataType::Timestamp(TimeUnit::Second, None)),
        ("date", "2024-01-02", DataType::Date64),
        ("numeric(12,2)", "1.50", DataType::Decimal256(50, 2)),
        ("bytea", "\\x00ff", DataType::BinaryView),
    ] {
        let field = types::field("c", sql_type, true).unwrap();
        let array = read::read(&PgType::of(&field), field.data_type(), &[Some(text)], &Style::default()).unwrap();
        let other = cast(&array, &arrow).unwrap();
        let ty = PgType::named(None, &arrow);
        assert_eq!(text_of(&ty, &other, &Style::default()), text, "{arrow}");
        binary::write(&ty, &other, &mut Cells::default()).unwrap();
    }
}
