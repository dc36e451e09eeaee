//! Assignment: a computed column as a column of a table, as INSERT and UPDATE do it.
//!
//! Unlike an arithmetic cast it reads text by the column's own input rules, rounds numbers to the column's
//! scale, and checks `varchar(n)`.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, StringArray};
use arrow::datatypes::{DataType, Field};

use crate::error::{Error, Result};
use crate::sql::functions::cast_array;
use crate::sql::text::read::read;
use crate::sql::text::{PgType, Style, precision};
use crate::sql::types::{TYPE_KEY, is_padded, is_read, moment_digits_of, plain_type, sql_type_of};

/// What Postgres says of a value that has a type of its own, a text, where a column is of another: 42804. A literal in
/// quotes has none, and is read.
pub fn check_typed(from: &DataType, field: &Field) -> Result<()> {
    let textual = matches!(from, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View);
    match (textual, field.data_type()) {
        (false, _) | (true, DataType::Utf8 | DataType::List(_) | DataType::Struct(_)) => Ok(()),
        // Those of the catalogs.
        _ if field.metadata().get(TYPE_KEY).is_some_and(|tag| tag != "numeric") && moment_digits(field).is_none() => {
            Ok(())
        }
        _ => Err(mismatch(&Field::new("", from.clone(), true), field)),
    }
}

fn moment_digits(field: &Field) -> Option<u32> {
    moment_digits_of(&sql_type_of(field))
}

fn mismatch(from: &Field, field: &Field) -> Error {
    let message = format!(
        "column \"{}\" is of type {} but expression is of type {}",
        field.name(),
        plain_type(&sql_type_of(field)),
        plain_type(&sql_type_of(from))
    );
    Error::new("42804", message).hint("You will need to rewrite or cast the expression.")
}

/// `values` of the type `given` as a column of `field`'s type; `style` says in which zone timestamps without one are, and
/// what `now` is.
pub fn assign(values: &ArrayRef, given: &Field, field: &Field, style: &Style) -> Result<ArrayRef> {
    let given = &given.clone().with_data_type(values.data_type().clone());
    let from = values.data_type();
    let to = field.data_type();
    let text = matches!(from, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View);
    let declared = field.metadata().get(TYPE_KEY);
    // The padding of a char(n) is no part of it as another text.
    let padded = |field: &Field| is_padded(&sql_type_of(field));
    let trimmed: ArrayRef;
    let values = match text && padded(given) && !padded(field) {
        true => {
            trimmed = without_padding(values);
            &trimmed
        }
        false => values,
    };
    if from == to && declared.is_none() {
        return Ok(values.clone());
    }
    if text && (to != &DataType::Utf8 || declared.is_some()) {
        return read_text(values, field, style);
    }
    if from == to {
        return match moment_digits(field) {
            Some(digits) => precision::round(values.clone(), digits),
            None => Ok(values.clone()),
        };
    }
    let own_form = declared.is_some_and(|tag| is_read(tag));
    if !assignable(from, to) || own_form && *from != DataType::Null {
        return Err(mismatch(given, field));
    }
    let cast = |to: &Field| cast_array(values, given, to, style);
    match to {
        // As text first: what is too long is refused, not cut.
        DataType::Utf8 if declared.is_some() => read_text(&cast(&Field::new("", DataType::Utf8, true))?, field, style),
        _ => cast(field),
    }
}

fn without_padding(values: &ArrayRef) -> ArrayRef {
    let texts = arrow::compute::cast(values, &DataType::Utf8).expect("text is text");
    let texts = texts.as_string::<i32>().iter().map(|text| text.map(|text| text.trim_end_matches(' ')));
    Arc::new(texts.collect::<StringArray>())
}

fn read_text(values: &ArrayRef, field: &Field, style: &Style) -> Result<ArrayRef> {
    let texts = arrow::compute::cast(values, &DataType::Utf8).expect("text is text");
    let texts = texts.as_string::<i32>();
    let cells: Vec<Option<&str>> = texts.iter().collect();
    read(&PgType::of(field), field.data_type(), &cells, style).map_err(|e| e.error)
}

fn assignable(from: &DataType, to: &DataType) -> bool {
    use DataType::*;
    let textual = |t: &DataType| matches!(t, Utf8 | LargeUtf8 | Utf8View);
    let moment = |t: &DataType| matches!(t, Timestamp(..) | Date32 | Date64);
    match (from, to) {
        (Null, _) => true,
        (a, b) if a.is_numeric() && b.is_numeric() => true,
        (a, b) if moment(a) && moment(b) => true,
        (Time64(_) | Time32(_), Time64(_)) => true,
        (Interval(_) | Duration(_), Interval(_)) => true,
        (Timestamp(..), Time64(_)) | (Time64(_), Interval(_)) | (Interval(_), Time64(_)) => true,
        (Binary | LargeBinary | BinaryView | FixedSizeBinary(_), Binary) => true,
        (_, b) if textual(b) => true,
        (List(a), List(b)) => assignable(a.data_type(), b.data_type()),
        (Struct(_), Struct(_)) => true,
        _ => false,
    }
}
