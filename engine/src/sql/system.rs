//! The names that Postgres' clients expect to find: `pg_catalog`, `information_schema`, functions such as
//! `version()`. The server provides them, since what clients ask is its business; the engine calls it when
//! it binds a query.

use std::net::SocketAddr;
use std::sync::Arc;

use datafusion::catalog::TableProvider;
use datafusion::execution::SessionState;
use datafusion::logical_expr::LogicalPlan;
use sqlparser::ast;

use crate::advisory::{ListedLock, LockMode, LockName};
use crate::catalog::{Catalog, Identity, RelationId};
use crate::error::{Error, Result};

/// What a session looks like to the system catalog.
pub struct CatalogView {
    pub catalog: Arc<Catalog>,
    pub user: String,
    pub database: String,
    pub pid: i32,
    /// Name, value, description.
    pub settings: Vec<(String, String, String)>,
    pub search_path: Vec<String>,
    pub live: Arc<dyn Live>,
}

/// What changes while a statement runs; asked for only where it is needed.
pub trait Live: Send + Sync {
    fn sessions(&self) -> Vec<SessionInfo> {
        Vec::new()
    }
    /// None where nobody counts.
    fn size(&self, _relation: RelationId) -> Option<RelationSize> {
        None
    }
    fn server_address(&self) -> Option<SocketAddr> {
        None
    }
    /// Microseconds since 1970-01-01 UTC.
    fn server_started_us(&self) -> Option<i64> {
        None
    }
    /// set_config(name, value, is_local): takes effect after the statement; gives the value as set.
    fn set_config(&self, _name: &str, _value: Option<&str>, _local: bool) -> Result<String> {
        Err(Error::unsupported("set_config() here"))
    }
    /// nextval(sequence)
    fn next_number(&self, _sequence: &Identity) -> Result<i64> {
        Err(Error::unsupported("nextval() here"))
    }
    /// setval(sequence, value, called): the next number is the one after it or, not `called`, itself.
    fn set_number(&self, _sequence: &Identity, _value: i64, _called: bool) -> Result<()> {
        Err(Error::unsupported("setval() here"))
    }
    /// What nextval() gave this session last; `None` asks for any sequence's.
    fn seen_number(&self, _sequence: Option<RelationId>) -> Option<i64> {
        None
    }
    /// The number that the sequence gave last, to anyone.
    fn last_number(&self, _sequence: &Identity) -> Option<i64> {
        None
    }
    /// Takes an advisory lock, of the session or the transaction; blocks the thread until it has it.
    fn lock(&self, _name: LockName, _mode: LockMode, _transaction: bool) -> Result<()> {
        Err(Error::unsupported("advisory locks here"))
    }
    /// Takes it if it is free; whether it did.
    fn try_lock(&self, _name: LockName, _mode: LockMode, _transaction: bool) -> Result<bool> {
        Err(Error::unsupported("advisory locks here"))
    }
    /// Whether the session held it.
    fn unlock(&self, _name: LockName, _mode: LockMode) -> Result<bool> {
        Err(Error::unsupported("advisory locks here"))
    }
    fn unlock_all(&self) {}
    /// All advisory locks of all sessions.
    fn locks(&self) -> Vec<ListedLock> {
        Vec::new()
    }
    /// pg_notify(channel, payload)
    fn notify(&self, _channel: &str, _payload: &str) -> Result<()> {
        Err(Error::unsupported("pg_notify() here"))
    }
    /// The channels that the session listens to.
    fn listening(&self) -> Vec<String> {
        Vec::new()
    }
    /// pg_cancel_backend(pid), with `terminate` pg_terminate_backend(pid): whether there is such a session.
    fn signal(&self, _pid: i32, _terminate: bool) -> Result<bool> {
        Err(Error::unsupported("signalling a session here"))
    }
}

/// A row of pg_stat_activity. Times are microseconds since 1970-01-01 UTC.
#[derive(Debug, Clone)]
pub struct SessionInfo {
    pub pid: i32,
    pub user: String,
    pub database: String,
    pub application_name: String,
    pub client_address: Option<SocketAddr>,
    pub started_us: Option<i64>,
    pub transaction_started_us: Option<i64>,
    pub statement_started_us: Option<i64>,
    pub state_changed_us: Option<i64>,
    /// `active`, `idle`, `idle in transaction`, `idle in transaction (aborted)`.
    pub state: &'static str,
    /// The statement that runs, or the last one.
    pub statement: String,
}

#[derive(Debug, Clone, Copy)]
pub struct RelationSize {
    pub rows: u64,
    pub bytes: u64,
}

pub trait SystemCatalog: Send + Sync {
    /// `schema` is `None` for an unqualified name.
    fn table(&self, schema: Option<&str>, name: &str, view: &Arc<CatalogView>) -> Option<Arc<dyn TableProvider>>;
    /// Adds the functions, bound to this session's view.
    fn register(&self, state: &mut SessionState, view: &Arc<CatalogView>) -> Result<()>;
    /// Rewrites a query that uses what DataFusion cannot say, before it is bound. Answers whether it concerns
    /// the system: then its plan goes through [`SystemCatalog::finish`].
    fn rewrite(&self, query: &mut ast::Query, view: &CatalogView) -> Result<bool>;
    /// Does to the bound plan of such a query what needs the types of its columns, before they are settled: the
    /// analyzer would refuse or change what is to be replaced.
    fn finish(&self, plan: LogicalPlan, view: &Arc<CatalogView>) -> Result<LogicalPlan>;
}
