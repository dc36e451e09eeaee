//! Functions about the session and the server: who, where, which settings.

use std::sync::atomic::{AtomicI64, Ordering};

use datafusion::common::Result;
use millrace_engine::Error;

use super::{Call, Declaration, called_on_null, failed, rows, strict};
use crate::pg_catalog::contents::{UTF8, setting_rows};
use crate::pg_catalog::names::Names;
use crate::pg_catalog::value::Value;
use millrace_engine::sql::keywords::KEYWORDS;

/// What version() says; clients parse the number and choose their catalog queries by it.
pub const VERSION: &str = concat!("PostgreSQL 15.0 (Millrace ", env!("CARGO_PKG_VERSION"), ")");

pub const FUNCTIONS: &[Declaration] = &[
    strict("version", 0..=0, "text", |_| Ok(VERSION.into())),
    strict("current_database", 0..=0, "name", |c| Ok(c.view.database.as_str().into())),
    strict("current_catalog", 0..=0, "name", |c| Ok(c.view.database.as_str().into())),
    strict("current_schema", 0..=0, "name", |c| Ok(c.view.current_schemas().first().copied().into())),
    strict("current_schemas", 1..=1, "_name", |c| {
        let implicit = c.arguments[0] == Value::Bool(true);
        let there = c.view.current_schemas();
        let searched = c.view.search_schemas().filter(|name| *name == "pg_catalog" || there.contains(name));
        Ok(if implicit { searched.collect::<Vec<_>>() } else { there.clone() }.into())
    }),
    strict("current_user", 0..=0, "name", user),
    strict("session_user", 0..=0, "name", user),
    strict("current_role", 0..=0, "name", user),
    strict("user", 0..=0, "name", user),
    strict("system_user", 0..=0, "text", user),
    strict("pg_backend_pid", 0..=0, "int4", |c| Ok(c.view.pid.into())),
    strict("pg_is_in_recovery", 0..=0, "bool", |_| Ok(false.into())),
    strict("txid_current", 0..=0, "int8", transaction_id),
    strict("pg_current_xact_id", 0..=0, "int8", transaction_id),
    strict("txid_current_if_assigned", 0..=0, "int8", |_| Ok(Value::Null)),
    strict("pg_current_xact_id_if_assigned", 0..=0, "int8", |_| Ok(Value::Null)),
    // Nothing is ever frozen or wraps around, so every transaction id is of age 0.
    strict("xid_age", 1..=1, "int4", |_| Ok(0.into())),
    strict("mxid_age", 1..=1, "int4", |_| Ok(0.into())),
    strict("inet_server_addr", 0..=0, "text", |c| Ok(c.view.live.server_address().map(|a| a.ip().to_string()).into())),
    strict("inet_server_port", 0..=0, "int4", |c| Ok(c.view.live.server_address().map(|a| i64::from(a.port())).into())),
    strict("inet_client_addr", 0..=0, "text", |c| {
        Ok(own(c).and_then(|s| s.client_address).map(|a| a.ip().to_string()).into())
    }),
    strict("inet_client_port", 0..=0, "int4", |c| {
        Ok(own(c).and_then(|s| s.client_address).map(|a| i64::from(a.port())).into())
    }),
    strict("pg_postmaster_start_time", 0..=0, "timestamptz", |c| Ok(c.view.live.server_started_us().into())),
    strict("pg_conf_load_time", 0..=0, "timestamptz", |c| Ok(c.view.live.server_started_us().into())),
    strict("current_setting", 1..=2, "text", current_setting),
    called_on_null("set_config", 3..=3, "text", set_config),
    rows(
        "pg_show_all_settings",
        0..=0,
        "name:text setting:text unit:text category:text short_desc:text extra_desc:text context:text vartype:text \
         source:text min_val:text max_val:text enumvals:_text boot_val:text reset_val:text sourcefile:text sourceline:int4 \
         pending_restart:bool",
        |c| Ok(setting_rows(c.view).into_iter().map(Vec::from).collect::<Vec<_>>().into()),
    ),
    // Who holds what somebody waits for is not kept where it could be told.
    strict("pg_blocking_pids", 1..=1, "_int4", |_| Ok(Vec::<i64>::new().into())),
    strict("pg_safe_snapshot_blocking_pids", 1..=1, "_int4", |_| Ok(Vec::<i64>::new().into())),
    // There is no write-ahead log that others follow.
    strict("pg_is_wal_replay_paused", 0..=0, "bool", |_| Ok(false.into())),
    strict("pg_last_wal_receive_lsn", 0..=0, "text", |_| Ok(Value::Null)),
    strict("pg_last_wal_replay_lsn", 0..=0, "text", |_| Ok(Value::Null)),
    strict("pg_last_xact_replay_timestamp", 0..=0, "timestamptz", |_| Ok(Value::Null)),
    rows("pg_available_extensions", 0..=0, "name:name default_version:text comment:text", |_| {
        Ok(Vec::<Vec<Value>>::new().into())
    }),
    rows("pg_get_keywords", 0..=0, "word:text catcode:char barelabel:bool catdesc:text baredesc:text", |_| {
        let mut words: Vec<_> = KEYWORDS.iter().collect();
        words.sort_by_key(|(word, _)| **word);
        let bare = |yes: bool| if yes { "can be bare label" } else { "requires AS" };
        let row = |(word, k): (&&'static str, &millrace_engine::sql::keywords::Keyword)| -> Vec<Value> {
            vec![
                (*word).into(),
                k.category.into(),
                k.bare_label.into(),
                k.description().into(),
                bare(k.bare_label).into(),
            ]
        };
        Ok(words.into_iter().map(row).collect::<Vec<_>>().into())
    }),
    strict("pg_cancel_backend", 1..=1, "bool", |c| signal(c, false)),
    strict("pg_terminate_backend", 1..=2, "bool", |c| signal(c, true)),
    strict("pg_encoding_to_char", 1..=1, "name", |c| Ok(encoding_name(c.int(0)).into())),
    strict("pg_char_to_encoding", 1..=1, "int4", |c| {
        let utf8 = c.text(0).is_some_and(|t| t.eq_ignore_ascii_case("utf8") || t.eq_ignore_ascii_case("utf-8"));
        Ok((if utf8 { UTF8 } else { -1 }).into())
    }),
    strict("pg_encoding_max_length", 1..=1, "int4", |c| Ok((if c.int(0) == Some(UTF8) { 4 } else { 1 }).into())),
    strict("pg_client_encoding", 0..=0, "name", |_| Ok("UTF8".into())),
    strict("getdatabaseencoding", 0..=0, "name", |_| Ok("UTF8".into())),
    strict("pg_jit_available", 0..=0, "bool", |_| Ok(false.into())),
    strict("pg_trigger_depth", 0..=0, "int4", |_| Ok(0.into())),
    strict("pg_my_temp_schema", 0..=0, "oid", |_| Ok(0.into())),
    strict("pg_is_other_temp_schema", 1..=1, "bool", |_| Ok(false.into())),
];

fn user(c: &Call) -> Result<Value> {
    Ok(c.view.user.as_str().into())
}

fn own(c: &Call) -> Option<millrace_engine::sql::system::SessionInfo> {
    c.view.live.sessions().into_iter().find(|s| s.pid == c.view.pid)
}

/// A number that never comes twice while the server runs: clients compare it, nothing more.
fn transaction_id(_: &Call) -> Result<Value> {
    static NEXT: AtomicI64 = AtomicI64::new(1000);
    Ok(NEXT.fetch_add(1, Ordering::Relaxed).into())
}

fn encoding_name(encoding: Option<i64>) -> &'static str {
    match encoding {
        Some(UTF8) => "UTF8",
        Some(0) => "SQL_ASCII",
        _ => "",
    }
}

fn current_setting(c: &Call) -> Result<Value> {
    let name = c.text(0).unwrap_or_default();
    match c.view.settings.iter().find(|(n, _, _)| n.eq_ignore_ascii_case(name)) {
        Some((_, value, _)) => Ok(value.as_str().into()),
        None if c.arguments.get(1) == Some(&Value::Bool(true)) => Ok(Value::Null),
        None => failed(Error::undefined_object(format!("unrecognized configuration parameter \"{name}\""))),
    }
}

fn set_config(c: &Call) -> Result<Value> {
    let Some(name) = c.text(0) else {
        return failed(Error::new("22004", "SET requires parameter name"));
    };
    match c.view.live.set_config(name, c.text(1), c.arguments[2] == Value::Bool(true)) {
        Ok(value) => Ok(value.into()),
        Err(error) => failed(error),
    }
}

fn signal(c: &Call, terminate: bool) -> Result<Value> {
    let Some(pid) = c.int(0).and_then(|pid| i32::try_from(pid).ok()) else { return Ok(false.into()) };
    match c.view.live.signal(pid, terminate) {
        Ok(found) => Ok(found.into()),
        Err(error) => failed(error),
    }
}
