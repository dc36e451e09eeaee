//! What sessions have with one another: advisory locks, and channels to listen to.
//!
//! A lock is named by one bigint or two integers; `_shared`, `_xact` and `try_` make the eight functions of PostgreSQL, and two
//! more give back what a session holds.

use datafusion::common::Result;
use millrace_engine::Error;
use millrace_engine::advisory::{LockMode, LockName};

use super::{Call, Declaration, Returns, failed, rows, volatile};
use crate::pg_catalog::value::Value;

use LockMode::{Exclusive, Shared};

pub const FUNCTIONS: &[Declaration] = &[
    volatile("pg_advisory_lock", 1..=2, "void", |c| lock(c, Exclusive, false)),
    volatile("pg_advisory_lock_shared", 1..=2, "void", |c| lock(c, Shared, false)),
    volatile("pg_advisory_xact_lock", 1..=2, "void", |c| lock(c, Exclusive, true)),
    volatile("pg_advisory_xact_lock_shared", 1..=2, "void", |c| lock(c, Shared, true)),
    volatile("pg_try_advisory_lock", 1..=2, "bool", |c| try_lock(c, Exclusive, false)),
    volatile("pg_try_advisory_lock_shared", 1..=2, "bool", |c| try_lock(c, Shared, false)),
    volatile("pg_try_advisory_xact_lock", 1..=2, "bool", |c| try_lock(c, Exclusive, true)),
    volatile("pg_try_advisory_xact_lock_shared", 1..=2, "bool", |c| try_lock(c, Shared, true)),
    volatile("pg_advisory_unlock", 1..=2, "bool", |c| unlock(c, Exclusive)),
    volatile("pg_advisory_unlock_shared", 1..=2, "bool", |c| unlock(c, Shared)),
    volatile("pg_advisory_unlock_all", 0..=0, "void", |c| {
        c.view.live.unlock_all();
        Ok(void())
    }),
    Declaration {
        name: "pg_notify",
        arguments: 2..=2,
        returns: Returns::Type("void"),
        strict: false,
        volatile: true,
        body: |c| {
            let (channel, payload) = (c.text(0).unwrap_or_default(), c.text(1).unwrap_or_default());
            answer(c.view.live.notify(channel, payload).map(|()| void()))
        },
    },
    rows("pg_listening_channels", 0..=0, "pg_listening_channels:text", |c| {
        Ok(c.view.live.listening().into_iter().map(|channel| vec![Value::from(channel)]).collect::<Vec<_>>().into())
    }),
];

fn void() -> Value {
    "".into()
}

fn answer(result: millrace_engine::error::Result<Value>) -> Result<Value> {
    match result {
        Ok(value) => Ok(value),
        Err(error) => failed(error),
    }
}

fn name(c: &Call) -> millrace_engine::error::Result<LockName> {
    let number = |i: usize| {
        c.int(i)
            .or_else(|| c.text(i)?.trim().parse().ok())
            .ok_or_else(|| Error::new("22P02", "an advisory lock is named by one bigint or two integers"))
    };
    let half = |i: usize| {
        let number = number(i)?;
        i32::try_from(number)
            .map_err(|_| Error::new("22003", format!("value \"{number}\" is out of range for type integer")))
    };
    match c.arguments.len() {
        1 => Ok(LockName::Whole(number(0)?)),
        _ => Ok(LockName::Pair(half(0)?, half(1)?)),
    }
}

fn lock(c: &Call, mode: LockMode, transaction: bool) -> Result<Value> {
    answer(name(c).and_then(|name| c.view.live.lock(name, mode, transaction)).map(|()| void()))
}

fn try_lock(c: &Call, mode: LockMode, transaction: bool) -> Result<Value> {
    answer(name(c).and_then(|name| c.view.live.try_lock(name, mode, transaction)).map(Value::from))
}

fn unlock(c: &Call, mode: LockMode) -> Result<Value> {
    answer(name(c).and_then(|name| c.view.live.unlock(name, mode)).map(Value::from))
}
