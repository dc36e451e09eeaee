//! SQL types over Arrow.
//!
//! A column's SQL type is a text in Postgres' own spelling (`integer`, `numeric(12,2)`, `timestamp with
//! time zone`, `text[]`). Where Arrow's type alone does not determine it, the field's metadata does, under
//! [`TYPE_KEY`]: `uuid`, `jsonb`, `json`, `varchar(n)`, `character(n)`, `name`, `oid`, `regclass`, … over
//! Utf8 or integers.

use arrow::datatypes::Field;

use crate::error::{Error, Result};

/// Metadata key on an Arrow field that names the SQL type when Arrow's is ambiguous.
pub const TYPE_KEY: &str = "millrace.type";

/// The Arrow field for a column of SQL type `sql_type` (any spelling that Postgres accepts).
pub fn field(_name: &str, sql_type: &str, _nullable: bool) -> Result<Field> {
    Err(Error::undefined_object(format!("type \"{sql_type}\" does not exist")))
}
