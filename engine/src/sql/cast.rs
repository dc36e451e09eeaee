//! Assignment: a computed column as a column of a table, as INSERT and UPDATE do it.
//!
//! Unlike an arithmetic cast it reads text by the column's own input rules, rounds numbers to the column's
//! scale, and checks `varchar(n)`.

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{DataType, Field};

use crate::error::{Error, Result};
use crate::sql::functions::cast_array;
use crate::sql::text::read::read;
use crate::sql::text::{PgType, Style, Zone};
use crate::sql::types::{TYPE_KEY, sql_type_of};

/// `values` as a column of `field`'s type; `time_zone` reads timestamps without one.
pub fn assign(values: &ArrayRef, field: &Field, time_zone: &str) -> Result<ArrayRef> {
    let from = values.data_type();
    let to = field.data_type();
    let text = matches!(from, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View);
    let declared = field.metadata().get(TYPE_KEY);
    if from == to && declared.is_none() {
        return Ok(values.clone());
    }
    if text && (to != &DataType::Utf8 || declared.is_some()) {
        return read_text(values, field, time_zone);
    }
    if from == to {
        return Ok(values.clone());
    }
    if !assignable(from, to) {
        return Err(Error::new(
            "42804",
            format!(
                "column \"{}\" is of type {} but expression is of type {}",
                field.name(),
                sql_type_of(field),
                sql_type_of(&Field::new("", from.clone(), true))
            ),
        )
        .hint("You will need to rewrite or cast the expression."));
    }
    let style = Style::in_zone(Zone::parse(time_zone)?);
    let cast = |to: &Field| cast_array(values, &Field::new("", from.clone(), true), to, &style);
    match to {
        // As text first: what is too long is refused, not cut.
        DataType::Utf8 if declared.is_some() => {
            read_text(&cast(&Field::new("", DataType::Utf8, true))?, field, time_zone)
        }
        _ => cast(field),
    }
}

fn read_text(values: &ArrayRef, field: &Field, time_zone: &str) -> Result<ArrayRef> {
    let texts = arrow::compute::cast(values, &DataType::Utf8).expect("text is text");
    let texts = texts.as_string::<i32>();
    let cells: Vec<Option<&str>> = texts.iter().collect();
    let style = Style { zone: Zone::parse(time_zone)?, now_us: None };
    read(&PgType::of(field), field.data_type(), &cells, &style).map_err(|e| e.error)
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
        (Timestamp(..), Time64(_)) => true,
        (Binary | LargeBinary | BinaryView | FixedSizeBinary(_), Binary) => true,
        (_, b) if textual(b) => true,
        (List(a), List(b)) => assignable(a.data_type(), b.data_type()),
        (Struct(_), Struct(_)) => true,
        _ => false,
    }
}
