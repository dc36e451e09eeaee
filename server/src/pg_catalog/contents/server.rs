//! What belongs to the server rather than to a schema: the database, roles, settings, sessions.
//!
//! There is one database, the one that the session named when it connected. Roles are those that own
//! something or are connected; each of them may do everything, so each is shown as a superuser.

use arrow::array::RecordBatch;
use datafusion::common::Result;
use millrace_engine::advisory::LockName;

use super::declared;
use crate::pg_catalog::CatalogView;
use crate::pg_catalog::names::Names;
use crate::pg_catalog::names::{BOOTSTRAP_ROLE_OID, DATABASE, role_oid};
use crate::pg_catalog::relations::{Rows, SystemRelation};
use crate::pg_catalog::value::Value;

/// pg_encoding's number for UTF8.
pub const UTF8: i64 = 6;

pub fn databases(view: &CatalogView) -> Result<RecordBatch> {
    let mut rows = Rows::new(
        declared("pg_database"),
        "oid datname datdba encoding datlocprovider datallowconn datconnlimit datfrozenxid datminmxid dattablespace datcollate \
         datctype",
    );
    rows.add([
        DATABASE.into(),
        view.database.as_str().into(),
        BOOTSTRAP_ROLE_OID.into(),
        UTF8.into(),
        "c".into(),
        true.into(),
        (-1).into(),
        716.into(),
        1.into(),
        1663.into(),
        "C".into(),
        "C".into(),
    ]);
    rows.finish()
}

pub fn database_statistics(view: &CatalogView) -> Result<RecordBatch> {
    let mut rows = Rows::new(declared("pg_stat_database"), "datid datname numbackends deadlocks");
    rows.add([DATABASE.into(), view.database.as_str().into(), (view.live.sessions().len() as i64).into(), 0.into()]);
    rows.finish()
}

pub fn tablespaces() -> Result<RecordBatch> {
    let mut rows = Rows::new(declared("pg_tablespace"), "oid spcname spcowner");
    rows.add([1663.into(), "pg_default".into(), BOOTSTRAP_ROLE_OID.into()]);
    rows.add([1664.into(), "pg_global".into(), BOOTSTRAP_ROLE_OID.into()]);
    rows.finish()
}

pub fn roles(relation: &'static SystemRelation, view: &CatalogView) -> Result<RecordBatch> {
    let mut rows = Rows::new(
        relation,
        "oid rolname rolsuper rolinherit rolcreaterole rolcreatedb rolcanlogin rolreplication rolbypassrls rolconnlimit \
         rolpassword",
    );
    let password = if relation.name == "pg_roles" { Value::from("********") } else { Value::Null };
    for role in view.roles() {
        let yes = || Value::Bool(true);
        rows.add([
            role_oid(&role).into(),
            role.into(),
            yes(),
            yes(),
            yes(),
            yes(),
            yes(),
            yes(),
            yes(),
            (-1).into(),
            password.clone(),
        ]);
    }
    rows.finish()
}

pub fn users(relation: &'static SystemRelation, view: &CatalogView) -> Result<RecordBatch> {
    let mut rows = Rows::new(relation, "usename usesysid usecreatedb usesuper userepl usebypassrls passwd");
    for role in view.roles() {
        let yes = || Value::Bool(true);
        rows.add([role.as_str().into(), role_oid(&role).into(), yes(), yes(), yes(), yes(), "********".into()]);
    }
    rows.finish()
}

/// As pg_settings and pg_show_all_settings() have them.
pub fn setting_rows(view: &CatalogView) -> Vec<[Value; 17]> {
    let row = |(name, value, description): &(String, String, String)| {
        let kind = match value.as_str() {
            "on" | "off" => "bool",
            v if v.parse::<i64>().is_ok() => "integer",
            _ => "string",
        };
        let text = |text: &str| Value::from(text);
        [
            text(name),
            text(value),
            Value::Null,
            text("Millrace"),
            text(description),
            Value::Null,
            text("user"),
            text(kind),
            text("default"),
            Value::Null,
            Value::Null,
            Value::Null,
            text(value),
            text(value),
            Value::Null,
            Value::Null,
            false.into(),
        ]
    };
    view.settings.iter().map(row).collect()
}

pub fn settings(view: &CatalogView) -> Result<RecordBatch> {
    let mut rows = Rows::new(
        declared("pg_settings"),
        "name setting unit category short_desc extra_desc context vartype source min_val max_val enumvals boot_val reset_val \
         sourcefile sourceline pending_restart",
    );
    setting_rows(view).into_iter().for_each(|row| rows.add(row));
    rows.finish()
}

/// Advisory locks: no others are held by what a client could name.
pub fn locks(view: &CatalogView) -> Result<RecordBatch> {
    let mut rows = Rows::new(
        declared("pg_locks"),
        "locktype database classid objid objsubid virtualtransaction pid mode granted fastpath",
    );
    for lock in view.live.locks() {
        // As PostgreSQL shows them: the halves of one number, or the two numbers; all without sign.
        let (class, object, kind) = match lock.name {
            LockName::Whole(number) => ((number >> 32) as u32, number as u32, 1),
            LockName::Pair(class, object) => (class as u32, object as u32, 2),
        };
        rows.add([
            "advisory".into(),
            DATABASE.into(),
            class.into(),
            object.into(),
            kind.into(),
            format!("{}/0", lock.pid).into(),
            lock.pid.into(),
            lock.mode.word().into(),
            lock.is_granted.into(),
            false.into(),
        ]);
    }
    rows.finish()
}

pub fn activity(view: &CatalogView) -> Result<RecordBatch> {
    let mut rows = Rows::new(
        declared("pg_stat_activity"),
        "datid datname pid usesysid usename application_name client_addr client_port backend_start xact_start query_start \
         state_change state query backend_type",
    );
    for s in view.live.sessions() {
        rows.add([
            DATABASE.into(),
            s.database.as_str().into(),
            s.pid.into(),
            role_oid(&s.user).into(),
            s.user.as_str().into(),
            s.application_name.as_str().into(),
            s.client_address.map(|a| a.ip().to_string()).into(),
            s.client_address.map(|a| i64::from(a.port())).into(),
            s.started_us.into(),
            s.transaction_started_us.into(),
            s.statement_started_us.into(),
            s.state_changed_us.into(),
            s.state.into(),
            s.statement.as_str().into(),
            "client backend".into(),
        ]);
    }
    rows.finish()
}

/// pg_stat_ssl and pg_stat_gssapi: one row per session, nothing encrypted that the catalog knows of.
pub fn encryption(relation: &'static SystemRelation, view: &CatalogView) -> Result<RecordBatch> {
    let flags = if relation.name == "pg_stat_ssl" { "pid ssl" } else { "pid encrypted" };
    let mut rows = Rows::new(relation, flags);
    for s in view.live.sessions() {
        rows.add([s.pid.into(), false.into()]);
    }
    rows.finish()
}
