//! nextval() and its kin, on the sequences of columns that count their rows.

use datafusion::common::Result;
use millrace_engine::Error;

use super::{Call, Declaration, failed, strict, volatile};
use crate::pg_catalog::names::{Named, Names, Sequence};
use crate::pg_catalog::value::Value;
use millrace_engine::sql::keywords::quote_ident;

pub const FUNCTIONS: &[Declaration] = &[
    volatile("nextval", 1..=1, "int8", |c| {
        let sequence = match sequence(c) {
            Ok(sequence) => sequence,
            Err(error) => return failed(error),
        };
        answer(c.view.live.next_number(&sequence.identity))
    }),
    volatile("setval", 2..=3, "int8", |c| {
        let sequence = match sequence(c) {
            Ok(sequence) => sequence,
            Err(error) => return failed(error),
        };
        let value = c.int(1).unwrap_or_default();
        let called = c.arguments.get(2) != Some(&Value::Bool(false));
        answer(c.view.live.set_number(&sequence.identity, value, called).map(|()| value))
    }),
    volatile("currval", 1..=1, "int8", |c| {
        let sequence = match sequence(c) {
            Ok(sequence) => sequence,
            Err(error) => return failed(error),
        };
        let undefined = || {
            let name = &sequence.identity.name;
            Error::new("55000", format!("currval of sequence \"{name}\" is not yet defined in this session"))
        };
        answer(c.view.live.seen_number(Some(sequence.identity.id)).ok_or_else(undefined))
    }),
    volatile("lastval", 0..=0, "int8", |c| {
        let undefined = || Error::new("55000", "lastval is not yet defined in this session");
        answer(c.view.live.seen_number(None).ok_or_else(undefined))
    }),
    volatile("pg_sequence_last_value", 1..=1, "int8", |c| match sequence(c) {
        Ok(sequence) => Ok(c.view.live.last_number(&sequence.identity).into()),
        Err(error) => failed(error),
    }),
    strict("pg_get_serial_sequence", 2..=2, "text", serial_sequence),
];

fn answer(number: millrace_engine::error::Result<i64>) -> Result<Value> {
    match number {
        Ok(number) => Ok(number.into()),
        Err(error) => failed(error),
    }
}

/// The sequence that the first argument names, or is the OID of.
fn sequence(c: &Call) -> millrace_engine::error::Result<Sequence> {
    let (oid, name) = match &c.arguments[0] {
        Value::Text(name) => (c.view.find_relation(name), name.clone()),
        other => (other.oid(), other.print().unwrap_or_default()),
    };
    match oid.and_then(|oid| c.view.named(oid)) {
        Some(Named::Sequence(sequence)) => Ok(sequence),
        Some(named) => Err(Error::new("42809", format!("\"{}\" is not a sequence", named.name()))),
        None => Err(Error::undefined_relation(name)),
    }
}

/// pg_get_serial_sequence('accounts', 'id'): `public.accounts_id_seq`. The column's name is taken as it is.
fn serial_sequence(c: &Call) -> Result<Value> {
    let (table, column) = (c.text(0).unwrap_or_default(), c.text(1).unwrap_or_default());
    let relation = c.view.find_relation(table).and_then(|oid| c.view.catalog.get(oid));
    let Some(relation) = relation else { return failed(Error::undefined_relation(table)) };
    match relation.columns.iter().find(|known| known.name == column) {
        None => {
            failed(Error::new("42703", format!("column \"{column}\" of relation \"{}\" does not exist", relation.name)))
        }
        Some(column) => {
            let name = |name: &str| format!("{}.{}", quote_ident(&relation.schema_name), quote_ident(name));
            let owned = || {
                let mut owned = c.view.catalog.owned_sequences(relation.id);
                let sequence = owned.find(|r| r.owned_by().is_some_and(|(_, owns)| owns == column.name));
                sequence.map(|sequence| name(&sequence.name))
            };
            Ok(column.identity.as_ref().map(|sequence| name(&sequence.name)).or_else(owned).into())
        }
    }
}
