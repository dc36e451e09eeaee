//! has_*_privilege: every role may do everything (see [`crate::pg_catalog::contents`]), so the answer is
//! true for what exists, an error for a name that does not, NULL for an OID that does not.

use datafusion::common::Result;
use millrace_engine::Error;

use super::{Call, Declaration, failed, strict};
use crate::pg_catalog::names::Names;
use crate::pg_catalog::value::Value;

pub const FUNCTIONS: &[Declaration] = &[
    strict("has_table_privilege", 2..=3, "bool", |c| relation(c, c.arguments.len() - 2)),
    strict("has_any_column_privilege", 2..=3, "bool", |c| relation(c, c.arguments.len() - 2)),
    strict("has_sequence_privilege", 2..=3, "bool", |c| relation(c, c.arguments.len() - 2)),
    strict("has_column_privilege", 3..=4, "bool", |c| relation(c, c.arguments.len() - 3)),
    strict("has_schema_privilege", 2..=3, "bool", schema),
    strict("has_database_privilege", 2..=3, "bool", granted),
    strict("has_function_privilege", 2..=3, "bool", granted),
    strict("has_type_privilege", 2..=3, "bool", granted),
    strict("has_tablespace_privilege", 2..=3, "bool", granted),
    strict("has_language_privilege", 2..=3, "bool", granted),
    strict("has_server_privilege", 2..=3, "bool", granted),
    strict("has_foreign_data_wrapper_privilege", 2..=3, "bool", granted),
    strict("has_parameter_privilege", 2..=3, "bool", granted),
    strict("pg_has_role", 2..=3, "bool", granted),
    strict("row_security_active", 1..=1, "bool", |_| Ok(false.into())),
];

fn granted(_: &Call) -> Result<Value> {
    Ok(true.into())
}

fn relation(c: &Call, position: usize) -> Result<Value> {
    match &c.arguments[position] {
        Value::Text(name) => match c.view.find_relation(name) {
            Some(_) => Ok(true.into()),
            None => failed(Error::undefined_relation(name)),
        },
        other => Ok(other.oid().and_then(|oid| c.view.named(oid)).map(|_| true).into()),
    }
}

fn schema(c: &Call) -> Result<Value> {
    match &c.arguments[c.arguments.len() - 2] {
        Value::Text(name) => match c.view.schema_oid(name) {
            Some(_) => Ok(true.into()),
            None => failed(Error::new("3F000", format!("schema \"{name}\" does not exist"))),
        },
        other => Ok(other.oid().and_then(|oid| c.view.schema_name(oid)).map(|_| true).into()),
    }
}
