//! The names that Postgres' clients expect to find: `pg_catalog`, `information_schema`, functions such as
//! `version()`. The server provides them, since what clients ask is its business; the engine calls it when
//! it binds a query.

use std::sync::Arc;

use datafusion::catalog::TableProvider;
use datafusion::execution::SessionState;

use crate::catalog::Catalog;
use crate::error::Result;

/// What a session looks like to the system catalog.
#[derive(Clone)]
pub struct CatalogView {
    pub catalog: Arc<Catalog>,
    pub user: String,
    pub database: String,
    pub pid: i32,
    /// Name, value, description.
    pub settings: Vec<(String, String, String)>,
    pub search_path: Vec<String>,
}

pub trait SystemCatalog: Send + Sync {
    /// `schema` is `None` for an unqualified name.
    fn table(&self, schema: Option<&str>, name: &str, view: &CatalogView) -> Option<Arc<dyn TableProvider>>;
    /// Adds the functions, bound to this session's view.
    fn register(&self, state: &mut SessionState, view: &CatalogView) -> Result<()>;
    /// Rewrites a query that uses what DataFusion cannot say, before it is bound.
    fn rewrite(&self, query: &mut sqlparser::ast::Query, view: &CatalogView) -> Result<()>;
}
