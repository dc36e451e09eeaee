//! pg_catalog and information_schema: what Postgres' clients ask a server about itself.
//!
//! In comes a [`CatalogView`], one session's picture of the catalog and of itself; out go the tables,
//! functions and rewrites with which DataFusion answers the queries that psql, JDBC, SQLAlchemy, BI tools
//! send. Nothing in here knows how the engine plans or runs a query.
//!
//! The way of a query, `SELECT c.oid::regclass, a.* FROM pg_class c JOIN pg_attribute a ON …`:
//!
//! 1. [`SystemCatalog::rewrite`] brings the syntax tree to what DataFusion can plan.
//! 2. Binding asks [`SystemCatalog::table`] for each name and has [`SystemCatalog::functions`].
//! 3. [`SystemCatalog::finish_plan`] does on the bound plan what needs types: reg* values print as names,
//!    correlated subqueries that DataFusion cannot decorrelate are evaluated row by row.
//! 4. Output columns may carry a suffix that kept them apart; [`output_name`] takes it off.

mod contents;
mod functions;
mod keywords;
mod names;
mod plan;
mod relations;
mod rewrite;
mod types;
mod value;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use datafusion::catalog::TableProvider;
use datafusion::logical_expr::{AggregateUDF, LogicalPlan, ScalarUDF};
use millrace_engine::catalog::{Catalog, RelationId};
use millrace_engine::{Error, Result};
use sqlparser::ast;

pub use rewrite::output_name;

/// Names that clients of Postgres expect to find: tables of pg_catalog and information_schema,
/// functions, rewrites.
pub trait SystemCatalog: Send + Sync {
    /// The system relation of that name. `schema_name` is None for an unqualified name, which is looked
    /// for in pg_catalog.
    fn table(&self, schema_name: Option<&str>, name: &str, view: &Arc<CatalogView>) -> Option<Arc<dyn TableProvider>>;

    /// The functions, bound to this session. They go before DataFusion's own of the same name.
    fn functions(&self, view: &Arc<CatalogView>) -> (Vec<Arc<ScalarUDF>>, Vec<Arc<AggregateUDF>>);

    /// Whether the query names anything of the system, so that the other methods are needed for it.
    fn concerns(&self, query: &ast::Query, view: &CatalogView) -> bool;

    /// Rewrites a query that [`SystemCatalog::concerns`] into one that DataFusion can bind.
    fn rewrite(&self, query: &mut ast::Query, view: &CatalogView) -> Result<()>;

    /// What has to be done to the bound, not yet optimized plan of a rewritten query.
    fn finish_plan(&self, plan: LogicalPlan, view: &Arc<CatalogView>) -> Result<LogicalPlan>;

    /// The text of a reg* value (`kind` is the field's type name, e.g. `regproc`).
    fn reg_text(&self, kind: &str, oid: u32, view: &CatalogView) -> String;
}

/// One session's picture of what exists. Made anew for a statement that needs it; cheap.
pub struct CatalogView {
    pub catalog: Arc<Catalog>,
    pub user: String,
    pub database: String,
    pub pid: i32,
    /// Name, value, description; in the order in which SHOW ALL lists them.
    pub settings: Vec<(String, String, String)>,
    pub search_path: Vec<String>,
    pub sessions: Vec<SessionInfo>,
    /// Sizes, of those relations for which they are known.
    pub status: BTreeMap<RelationId, RelationStatus>,
    pub server_address: Option<SocketAddr>,
    pub server_started_us: i64,
    /// set_config(name, value, is_local): sets, and returns the value as set.
    pub set_config: Option<Box<SetConfig>>,
    /// pg_cancel_backend(pid), or with `true` pg_terminate_backend(pid): whether there is such a session.
    pub signal: Option<Box<Signal>>,
}

pub type SetConfig = dyn Fn(&str, Option<&str>, bool) -> Result<String> + Send + Sync;
pub type Signal = dyn Fn(i32, bool) -> bool + Send + Sync;

/// A row of pg_stat_activity. Times are microseconds since 1970-01-01 UTC.
#[derive(Debug, Clone)]
pub struct SessionInfo {
    pub pid: i32,
    pub user: String,
    pub database: String,
    pub application_name: String,
    pub client_address: Option<SocketAddr>,
    pub started_us: i64,
    pub transaction_started_us: Option<i64>,
    pub statement_started_us: Option<i64>,
    pub state_changed_us: Option<i64>,
    /// `active`, `idle`, `idle in transaction`, `idle in transaction (aborted)`.
    pub state: &'static str,
    /// The statement that runs, or the last one.
    pub statement: String,
}

#[derive(Debug, Clone, Copy)]
pub struct RelationStatus {
    pub rows: u64,
    pub bytes: u64,
}

/// The catalogs of this server.
pub struct PgCatalog;

impl SystemCatalog for PgCatalog {
    fn table(&self, schema_name: Option<&str>, name: &str, view: &Arc<CatalogView>) -> Option<Arc<dyn TableProvider>> {
        let relation = relations::find(schema_name, name)?;
        Some(Arc::new(relations::SystemTable::new(relation, view.clone())))
    }

    fn functions(&self, view: &Arc<CatalogView>) -> (Vec<Arc<ScalarUDF>>, Vec<Arc<AggregateUDF>>) {
        (functions::bind(view), Vec::new())
    }

    fn concerns(&self, query: &ast::Query, _view: &CatalogView) -> bool {
        rewrite::concerns(query)
    }

    fn rewrite(&self, query: &mut ast::Query, view: &CatalogView) -> Result<()> {
        rewrite::rewrite(query, view)
    }

    fn finish_plan(&self, plan: LogicalPlan, view: &Arc<CatalogView>) -> Result<LogicalPlan> {
        plan::finish(plan, view).map_err(|e| match e.find_root() {
            datafusion::error::DataFusionError::External(inner) => match inner.downcast_ref::<Error>() {
                Some(error) => error.clone(),
                None => Error::internal(inner),
            },
            other => Error::internal(other),
        })
    }

    fn reg_text(&self, kind: &str, oid: u32, view: &CatalogView) -> String {
        functions::print_reg(view, kind, oid)
    }
}
