//! The type that several values share, as Postgres chooses it for UNION, VALUES, CASE, COALESCE and comparisons.
//!
//! ```text
//!   integer, bigint            bigint          date, timestamp       timestamp
//!   integer, numeric           numeric         text, integer         none: an error
//!   numeric, double precision  double          literal, integer      integer: a literal has no type of its own
//! ```

use arrow::datatypes::DataType;
use std::sync::Arc;

use crate::sql::types::{NUMERIC_PRECISION_MAX, is_padded};

/// Types of different kinds have no common one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Boolean,
    Number,
    Text,
    Moment,
    Time,
    Interval,
    Bytes,
    List,
}

/// `None` for types that no SQL type is, and for NULL.
pub fn kind(data_type: &DataType) -> Option<Kind> {
    use DataType as D;
    Some(match data_type {
        D::Boolean => Kind::Boolean,
        D::Utf8 | D::LargeUtf8 | D::Utf8View => Kind::Text,
        D::Date32 | D::Date64 | D::Timestamp(..) => Kind::Moment,
        D::Time32(_) | D::Time64(_) => Kind::Time,
        D::Interval(_) | D::Duration(_) => Kind::Interval,
        D::Binary | D::LargeBinary | D::BinaryView | D::FixedSizeBinary(_) => Kind::Bytes,
        D::List(_) | D::LargeList(_) | D::FixedSizeList(..) => Kind::List,
        number if number.is_numeric() => Kind::Number,
        _ => return None,
    })
}

/// The common type of two; `None` where they have none.
pub fn common_type(left: &DataType, right: &DataType) -> Option<DataType> {
    use DataType as D;
    if left == right {
        return Some(left.clone());
    }
    match (left, right) {
        (D::Null, other) | (other, D::Null) => return Some(other.clone()),
        (D::List(a), D::List(b)) => {
            let item = common_type(a.data_type(), b.data_type())?;
            let field = if item == *b.data_type() { b.as_ref().clone() } else { a.as_ref().clone() };
            return Some(D::List(Arc::new(field.with_data_type(item))));
        }
        _ => {}
    }
    if kind(left)? != kind(right)? {
        return None;
    }
    Some(match (left, right) {
        (D::Decimal128(p1, s1), D::Decimal128(p2, s2)) => {
            let (scale, whole) = (*s1.max(s2), (*p1 as i8 - s1).max(*p2 as i8 - s2));
            let precision = (i16::from(whole) + i16::from(scale)).min(NUMERIC_PRECISION_MAX.into());
            D::Decimal128(precision as u8, scale)
        }
        (D::Decimal128(precision, scale), integer) | (integer, D::Decimal128(precision, scale))
            if integer.is_integer() =>
        {
            common_type(&D::Decimal128(*precision, *scale), &D::Decimal128(digits(integer), 0))?
        }
        _ => {
            let rank = |t: &D| match t {
                D::Int8 | D::UInt8 => 0,
                D::Int16 => 1,
                D::UInt16 | D::Int32 => 2,
                D::UInt32 | D::Int64 => 3,
                D::UInt64 => 4,
                D::Decimal128(..) => 5,
                D::Float16 | D::Float32 => 6,
                D::Float64 => 7,
                D::Date32 => 10,
                D::Date64 => 11,
                D::Timestamp(_, None) => 12,
                D::Timestamp(_, Some(_)) => 13,
                D::Utf8 => 20,
                _ => 0,
            };
            if rank(left) >= rank(right) { left.clone() } else { right.clone() }
        }
    })
}

/// Digits that a value of an integer type may have.
fn digits(integer: &DataType) -> u8 {
    match integer {
        DataType::Int8 | DataType::UInt8 => 3,
        DataType::Int16 | DataType::UInt16 => 5,
        DataType::Int32 | DataType::UInt32 => 10,
        DataType::Int64 => 19,
        _ => 20,
    }
}

/// The type that a literal without one takes beside values of this type: a numeric takes as many digits as are
/// written.
pub fn literal_type(beside: &DataType, literal: &str) -> DataType {
    match beside {
        DataType::Decimal128(..) => {
            let (mantissa, exponent) = literal.trim().split_once(['e', 'E']).unwrap_or((literal.trim(), "0"));
            let written = mantissa.split_once('.').map_or(0, |(_, fraction)| fraction.len() as i64);
            let scale = (written - exponent.parse::<i64>().unwrap_or(0)).clamp(0, 28) as i8;
            let DataType::Decimal128(_, own) = beside else { unreachable!("matched above") };
            DataType::Decimal128(NUMERIC_PRECISION_MAX, scale.max(*own))
        }
        other => other.clone(),
    }
}

/// What becomes of the padding of char(n) where it meets other texts in UNION, CASE and the like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Padding {
    /// There is none, or all are of one length.
    Kept,
    /// The common type is text or varchar, which it is not part of.
    Cut,
    /// The common type is a char of any length, in which `'a'` equals `'a '`.
    Loose,
}

/// Of these SQL types, literals left out: the first one's counts.
pub fn padding<'a>(types: impl Iterator<Item = &'a str> + Clone) -> Padding {
    let padded = is_padded;
    let mut all = types.clone();
    let Some(first) = all.next() else { return Padding::Kept };
    if !types.clone().any(padded) || all.all(|t| t == first) {
        Padding::Kept
    } else if padded(first) {
        Padding::Loose
    } else {
        Padding::Cut
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::datatypes::TimeUnit;

    #[test]
    fn paddings() {
        let of = |types: &[&str]| padding(types.iter().copied());
        assert_eq!(of(&["character(4)", "character(4)"]), Padding::Kept);
        assert_eq!(of(&["text", "character varying(4)"]), Padding::Kept);
        assert_eq!(of(&["text", "character(4)"]), Padding::Cut);
        assert_eq!(of(&["character(4)", "text"]), Padding::Loose);
        assert_eq!(of(&["character varying", "character(4)"]), Padding::Cut);
        assert_eq!(of(&["character(4)", "character varying(9)"]), Padding::Loose);
        assert_eq!(of(&["character(4)", "character(5)"]), Padding::Loose);
    }

    #[test]
    fn common_types() {
        use DataType as D;
        let timestamp = D::Timestamp(TimeUnit::Microsecond, None);
        for (left, right, common) in [
            (D::Int32, D::Int64, Some(D::Int64)),
            (D::Int64, D::Int16, Some(D::Int64)),
            (D::Int32, D::Float32, Some(D::Float32)),
            (D::Float64, D::Decimal128(5, 2), Some(D::Float64)),
            (D::Int32, D::Decimal128(5, 2), Some(D::Decimal128(12, 2))),
            (D::Decimal128(38, 10), D::Decimal128(38, 16), Some(D::Decimal128(38, 16))),
            (D::Date32, timestamp.clone(), Some(timestamp.clone())),
            (D::Null, D::Boolean, Some(D::Boolean)),
            (D::Utf8, D::Int32, None),
            (D::Boolean, D::Int32, None),
            (D::Date32, D::Time64(TimeUnit::Microsecond), None),
        ] {
            assert_eq!(common_type(&left, &right), common, "{left} and {right}");
            assert_eq!(common_type(&right, &left), common, "{right} and {left}");
        }
        assert_eq!(literal_type(&D::Decimal128(5, 2), "1.005"), D::Decimal128(38, 3));
        assert_eq!(literal_type(&D::Decimal128(5, 2), "1e3"), D::Decimal128(38, 2));
    }
}
