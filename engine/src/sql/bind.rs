use std::sync::Arc;
use arrow::datatypes::DataType;
use datafusion::catalog::TableProvider;
use datafusion::common::{DFSchema, DataFusionError};
use datafusion::execution::SessionState;
use datafusion::logical_expr::{Expr, LogicalPlan};
use sqlparser::ast;
use crate::error::{Error, Result};
use crate::sql::statement::Name;
pub trait Relations: Send + Sync { fn table(&self, schema: Option<&str>, name: &str) -> Result<Option<Arc<dyn TableProvider>>>; }
pub struct Bound { pub plan: LogicalPlan, pub names: Vec<String> }
pub fn bind(_: &SessionState, _: &dyn Relations, _: &ast::Query, _: &[Option<DataType>]) -> Result<Bound> { todo!() }
pub fn optimize(_: &SessionState, _: LogicalPlan) -> Result<LogicalPlan> { todo!() }
pub fn relations_named(_: &ast::Query) -> Vec<Name> { todo!() }
pub fn bind_expression(_: &SessionState, _: &DFSchema, _: &ast::Expr) -> Result<Expr> { todo!() }
pub fn error_from(_: DataFusionError) -> Error { todo!() }
pub fn parameter_types(_: &LogicalPlan, _: &[Option<DataType>]) -> Result<Vec<DataType>> { todo!() }
