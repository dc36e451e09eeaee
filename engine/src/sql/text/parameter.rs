//! Parameters of a statement: from the bytes of a Bind message to the value that the engine expects.
//!
//! ```text
//!   declared 2950 (uuid), engine wants text, 16 bytes   ->  Utf8 "0f7e…"
//!   not declared, engine wants integer, text "42"       ->  Int32 42
//! ```
//!
//! The client's declaration decides how bytes are read; the engine's type what they become.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::ScalarValue;

use super::pg_type::{PgType, name_of_oid};
use super::{Style, binary, read};
use crate::error::{Error, Result};
use crate::sql::{enums, types};

/// The value of a parameter, as [`crate::session::Session::execute`] takes it.
pub type Value = ScalarValue;

#[derive(Debug, Clone)]
pub struct Parameter {
    ty: PgType,
    /// The Arrow type in which `ty` is kept.
    storage: DataType,
    target: DataType,
}

impl Parameter {
    /// The field that a client's declaration stands for; `None` for 0 and `unknown`. Types that are not known are
    /// 42704.
    pub fn declared(oid: u32) -> Result<Option<FieldRef>> {
        const UNKNOWN: u32 = 705;
        if oid == 0 || oid == UNKNOWN {
            return Ok(None);
        }
        Self::of_oid(oid).map(|(_, field)| Some(Arc::new(field)))
    }

    fn of_oid(oid: u32) -> Result<(PgType, Field)> {
        let no_such = || Error::undefined_object(format!("type with OID {oid} does not exist"));
        let name = name_of_oid(oid).or_else(|| enums::canonical_of_oid(oid)).ok_or_else(no_such)?;
        // A length is not part of a parameter's type: `character` alone would mean one character.
        let name = if name == "character" { "text".to_string() } else { name };
        let field = types::field("parameter", &name, true)?;
        Ok((PgType { oid, ..PgType::of(&field) }, field))
    }

    /// `declared` is the client's OID, 0 if it left the type to us; `target` what the engine wants.
    pub fn new(declared: u32, target: &Field) -> Result<Parameter> {
        let (ty, storage) = match Self::declared(declared)? {
            Some(_) => Self::of_oid(declared).map(|(ty, field)| match depth(target.data_type()) {
                // An OID does not say how deep an array is.
                wanted @ 2.. if depth(field.data_type()) == 1 => {
                    let list = |storage: DataType| DataType::List(Arc::new(Field::new("item", storage, true)));
                    let storage = (1..wanted).fold(field.data_type().clone(), |storage, _| list(storage));
                    let nested = PgType::of(&Field::new("", storage.clone(), true));
                    (PgType { oid: declared, ..nested }, storage)
                }
                _ => (ty, field.data_type().clone()),
            })?,
            None => (PgType::of(target), target.data_type().clone()),
        };
        Ok(Parameter { ty, storage, target: target.data_type().clone() })
    }

    pub fn oid(&self) -> u32 {
        self.ty.oid
    }

    pub fn decode(&self, bytes: Option<&[u8]>, is_binary: bool, style: &Style) -> Result<Value> {
        let array = if is_binary {
            binary::read(&self.ty, &self.storage, &[bytes])
        } else {
            let text = bytes.map(std::str::from_utf8).transpose();
            let text = text.map_err(|_| Error::new("22021", "invalid byte sequence for encoding \"UTF8\""))?;
            read::read(&self.ty, &self.storage, &[text], style)
        };
        let array = array.map_err(|e| e.error)?;
        let value = ScalarValue::try_from_array(&array, 0).map_err(Error::internal)?;
        if self.storage == self.target {
            return Ok(value);
        }
        value.cast_to(&self.target).map_err(|e| Error::new("22003", e.to_string()))
    }
}

/// How many arrays are in one another.
fn depth(data_type: &DataType) -> usize {
    match data_type {
        DataType::List(item) => 1 + depth(item.data_type()),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(declared: u32, target: DataType, bytes: &[u8], is_binary: bool) -> Result<ScalarValue> {
        let target = Field::new("", target, true);
        Parameter::new(declared, &target)?.decode(Some(bytes), is_binary, &Style::default())
    }

    #[test]
    fn declared_types_read_and_engine_types_come_out() {
        let uuid = [0xab; 16];
        for (declared, target, bytes, is_binary, value) in [
            (0, DataType::Int32, &b"42"[..], false, ScalarValue::Int32(Some(42))),
            (23, DataType::Int64, &[0, 0, 0, 42], true, ScalarValue::Int64(Some(42))),
            (705, DataType::Utf8, b"x", false, ScalarValue::Utf8(Some("x".into()))),
            (2950, DataType::Utf8, &uuid, true, ScalarValue::Utf8(Some("abababab-abab-abab-abab-abababababab".into()))),
            (1042, DataType::Utf8, b"long", true, ScalarValue::Utf8(Some("long".into()))),
        ] {
            assert_eq!(decode(declared, target, bytes, is_binary), Ok(value), "{declared}");
        }
        assert_eq!(decode(0, DataType::Int32, b"x", false).unwrap_err().code, "22P02");
        assert_eq!(decode(23, DataType::Int32, &[1], true).unwrap_err().code, "22P03");
        assert_eq!(decode(99_999, DataType::Utf8, b"x", false).unwrap_err().code, "42704");
        // An array of two dimensions, declared as int2[].
        let nested = types::field("", "integer[][]", true).unwrap();
        let words = |words: &[u32]| words.iter().flat_map(|word| word.to_be_bytes()).collect::<Vec<u8>>();
        let mut bytes = words(&[2, 0, 21, 2, 1, 1, 1]);
        bytes.extend([0, 0, 0, 2, 0, 7, 0xff, 0xff, 0xff, 0xff]);
        let read = |bytes: &[u8], is_binary| decode(1005, nested.data_type().clone(), bytes, is_binary);
        assert_eq!(read(&bytes, true), read(b"{{7},{NULL}}", false));
        assert_eq!(read(&bytes, true).unwrap().to_string(), "[[7], []]");
        assert_eq!(read(&words(&[0, 0, 21]), true), read(b"{}", false));
        assert_eq!(read(&words(&[2, 0, 21, 1 << 30, 1, 0, 1]), true).unwrap_err().code, "22P03");
        assert_eq!(read(&words(&[2, 0, 21, 1 << 30, 1, 1 << 30, 1]), true).unwrap_err().code, "22P03");
        let oid =
            |declared, sql_type| Parameter::new(declared, &types::field("", sql_type, true).unwrap()).unwrap().oid();
        assert_eq!(oid(2950, "text"), 2950);
        for (sql_type, expected) in [("bigint", 20), ("uuid", 2950), ("jsonb", 3802), ("uuid[]", 2951), ("oid", 26)] {
            assert_eq!(oid(0, sql_type), expected, "{sql_type}");
        }
    }
}
