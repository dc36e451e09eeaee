//! What keeps a query that computes for long from holding up others, and lets it be cancelled.
//!
//! A query runs on the threads that serve all sessions, and gives way when it waits, or after some batches. A nested
//! loop join can do neither for minutes: it goes through all pairs of two batches within one poll. So its filter looks
//! now and then whether the statement is to end, and its polls tell the runtime to serve the others elsewhere.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use arrow::array::RecordBatch;
use arrow::datatypes::{FieldRef, Schema};
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::error::{DataFusionError, Result as DataFusionResult};
use datafusion::logical_expr::ColumnarValue;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::coop::CooperativeExec;
use datafusion::physical_plan::joins::utils::JoinFilter;
use datafusion::physical_plan::joins::{NestedLoopJoinExec, NestedLoopJoinExecBuilder};
use futures::Stream;
use tokio::runtime::{Handle, RuntimeFlavor};

use super::RowStream;
use super::cancel::CancelHandle;
use crate::error::Result;
use crate::sql::bind::error_from;

/// A join can make millions of rows of one batch, all within one poll; so that it can be cancelled, and others get
/// their turn, it gives way after some batches. (DataFusion itself does so at the leaves only.)
pub fn interruptible(plan: Arc<dyn ExecutionPlan>, cancel: &CancelHandle) -> Result<Arc<dyn ExecutionPlan>> {
    plan.transform_up(|node| {
        let node = match node.downcast_ref::<NestedLoopJoinExec>() {
            Some(join) => asking(join, cancel)?,
            None => node,
        };
        let grows = node.children().len() > 1 || node.name() == "UnnestExec";
        Ok(match grows {
            true => Transformed::yes(Arc::new(CooperativeExec::new(node)) as Arc<dyn ExecutionPlan>),
            false => Transformed::no(node),
        })
    })
    .map(|transformed| transformed.data)
    .map_err(error_from)
}

/// The join with a filter that asks whether to go on.
fn asking(join: &NestedLoopJoinExec, cancel: &CancelHandle) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
    let filter = join.filter().map(|filter| {
        let asking = Asking { inner: filter.expression().clone(), cancel: cancel.clone() };
        JoinFilter::new(Arc::new(asking), filter.column_indices().to_vec(), filter.schema().clone())
    });
    Ok(Arc::new(NestedLoopJoinExecBuilder::from(join).with_filter(filter).build()?))
}

/// Whether a poll of this plan may take long.
pub fn is_slow(plan: &Arc<dyn ExecutionPlan>) -> bool {
    let mut found = false;
    let look = plan.apply(|node| {
        found |= node.downcast_ref::<NestedLoopJoinExec>().is_some();
        Ok(if found { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    });
    found && look.is_ok()
}

/// Rows whose making may take long: meanwhile the runtime's other tasks are served by another thread.
pub struct Slow(pub RowStream);

impl Stream for Slow {
    type Item = Result<RecordBatch>;
    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        match Handle::try_current().map(|handle| handle.runtime_flavor()) {
            Ok(RuntimeFlavor::MultiThread) => tokio::task::block_in_place(|| self.0.as_mut().poll_next(context)),
            _ => self.0.as_mut().poll_next(context),
        }
    }
}

/// A condition that fails once its statement is to end.
#[derive(Debug)]
struct Asking {
    inner: Arc<dyn PhysicalExpr>,
    cancel: CancelHandle,
}

impl PartialEq for Asking {
    fn eq(&self, other: &Self) -> bool {
        self.inner.eq(&other.inner)
    }
}
impl Eq for Asking {}
impl Hash for Asking {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.inner.hash(state);
    }
}

impl fmt::Display for Asking {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.inner)
    }
}

impl PhysicalExpr for Asking {
    fn return_field(&self, schema: &Schema) -> DataFusionResult<FieldRef> {
        self.inner.return_field(schema)
    }
    fn evaluate(&self, batch: &RecordBatch) -> DataFusionResult<ColumnarValue> {
        self.cancel.check().map_err(|e| DataFusionError::External(Box::new(e)))?;
        self.inner.evaluate(batch)
    }
    fn children(&self) -> Vec<&Arc<dyn PhysicalExpr>> {
        vec![&self.inner]
    }
    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn PhysicalExpr>>,
    ) -> DataFusionResult<Arc<dyn PhysicalExpr>> {
        let inner = children.into_iter().next().expect("it has one child");
        Ok(Arc::new(Asking { inner, cancel: self.cancel.clone() }))
    }
    fn fmt_sql(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt_sql(f)
    }
}
