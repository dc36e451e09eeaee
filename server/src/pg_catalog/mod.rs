//! pg_catalog and information_schema: what Postgres' clients ask a server about itself.
//!
//! In comes a [`CatalogView`], one session's picture of the catalog and of itself; out go the tables,
//! functions and rewrites with which DataFusion answers the queries that psql, JDBC, SQLAlchemy, BI tools
//! send. Nothing in here knows how the engine plans or runs a query.
//!
//! The way of a query, `SELECT c.oid::regclass, a.* FROM pg_class c JOIN pg_attribute a ON …`:
//!
//! 1. `rewrite` brings the syntax tree to what DataFusion can plan.
//! 2. Binding asks `table` for each name and has the functions that `register` put in.
//! 3. `finish` does on the bound plan what needs types: reg* values print as names, correlated subqueries
//!    that DataFusion cannot decorrelate are evaluated row by row.

mod contents;
mod defaults;
mod enums;
mod functions;
mod names;
mod plan;
mod relations;
mod rewrite;
mod types;
mod value;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use datafusion::catalog::TableProvider;
use datafusion::execution::{FunctionRegistry, SessionState};
use datafusion::logical_expr::LogicalPlan;
use millrace_engine::sql::bind::error_from;
pub use millrace_engine::sql::system::{CatalogView, SystemCatalog};
use millrace_engine::{Error, Result};
use sqlparser::ast;

/// The catalogs of this server.
pub struct PgCatalog;

impl SystemCatalog for PgCatalog {
    fn table(&self, schema: Option<&str>, name: &str, view: &Arc<CatalogView>) -> Option<Arc<dyn TableProvider>> {
        let relation = relations::find(schema, name)?;
        Some(Arc::new(relations::SystemTable::new(relation, view.clone())))
    }

    fn register(&self, state: &mut SessionState, view: &Arc<CatalogView>) -> Result<()> {
        for function in functions::bind(view) {
            state.register_udf(function).map_err(Error::internal)?;
        }
        Ok(())
    }

    fn rewrite(&self, query: &mut ast::Query, view: &CatalogView) -> Result<bool> {
        let concerns = rewrite::concerns(query, view);
        if concerns {
            rewrite::rewrite(query, view)?;
        }
        Ok(concerns)
    }

    fn finish(&self, plan: LogicalPlan, view: &Arc<CatalogView>) -> Result<LogicalPlan> {
        plan::finish(plan, view).map_err(error_from)
    }
}
