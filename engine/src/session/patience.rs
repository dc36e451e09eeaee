//! What keeps a query that computes for long from holding up others, and lets it be cancelled.
//!
//! A query runs on the threads that serve all sessions, and gives way when it waits, or after some batches. A nested
//! loop join can do neither for minutes: it goes through all pairs of two batches within one poll. So its filter looks
//! now and then whether the statement is to end, and its polls tell the runtime to serve the others elsewhere. So do those
//! of window functions, which compute a value for each row of a batch, and are given one batch at a time.

use std::fmt;
use std::future::Future;
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
use datafusion::physical_plan::execution_plan::replace_children_if_necessary;
use datafusion::physical_plan::filter::FilterExec;
use datafusion::physical_plan::joins::utils::JoinFilter;
use datafusion::physical_plan::joins::{
    HashJoinExec, HashJoinExecBuilder, NestedLoopJoinExec, NestedLoopJoinExecBuilder,
};
use datafusion::physical_plan::windows::{BoundedWindowAggExec, WindowAggExec};
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties};
use futures::Stream;
use tokio::runtime::{Handle, RuntimeFlavor};

use super::RowStream;
use super::cancel::CancelHandle;
use super::own_batches;
use super::portions::{Portioned, Within};
use super::shielded;
use crate::error::Result;
use crate::sql::bind::error_from;
use crate::sql::bounds::Bounds;

/// A join can make millions of rows of one batch, all within one poll; so that it can be cancelled, and others get
/// their turn, it gives way after each batch, over which whoever reads it may compute long. (DataFusion itself does so at
/// the leaves only, and after many.) What computes columns
/// does so by as many rows at once as are not too much, and what runs on threads of its own knows its bounds.
pub fn interruptible(
    plan: Arc<dyn ExecutionPlan>,
    cancel: &CancelHandle,
    bounds: &Bounds,
) -> Result<Arc<dyn ExecutionPlan>> {
    plan.transform_up(|node| {
        let grows = node.children().len() > 1 || node.name() == "UnnestExec";
        let alone = node.children().iter().any(|child| runs_alone(node.as_ref(), child.as_ref()));
        if let Some(join) = node.downcast_ref::<NestedLoopJoinExec>() {
            return Ok(Transformed::yes(in_turns(asking(join, cancel)?, bounds)));
        }
        if let Some(filter) = node.downcast_ref::<FilterExec>() {
            let shielded = shielded::filter(filter)?;
            return Ok(shielded.map_or_else(|| Transformed::no(node), Transformed::yes));
        }
        if let Some(join) = node.downcast_ref::<HashJoinExec>()
            && let Some(filter) = join.filter()
        {
            let shielded = shielded::shield(filter.expression());
            let filter = JoinFilter::new(shielded, filter.column_indices().to_vec(), filter.schema().clone());
            let join = HashJoinExecBuilder::from(join).with_filter(Some(filter)).build()?;
            return Ok(Transformed::yes(in_turns(Arc::new(join), bounds)));
        }
        if is_window(&node) {
            let all = node.downcast_ref::<WindowAggExec>().is_some();
            let inputs = node.children().into_iter().cloned();
            let inputs = inputs.map(|input| Arc::new(Within::of_window(input, bounds, all)) as _).collect();
            return replace_children_if_necessary(node, inputs).map(Transformed::yes);
        }
        if let Some(keeping) = own_batches::keeping(&node)? {
            return Ok(Transformed::yes(if grows { in_turns(keeping, bounds) } else { keeping }));
        }
        if let Some(portioned) = Portioned::of(&node) {
            return Ok(Transformed::yes(Arc::new(portioned)));
        }
        if alone {
            let inputs = node.children().into_iter().cloned();
            let inputs = inputs.map(|input| Arc::new(Within::new(input, bounds)) as Arc<dyn ExecutionPlan>).collect();
            return replace_children_if_necessary(node, inputs).map(Transformed::yes);
        }
        Ok(if grows { Transformed::yes(in_turns(node, bounds)) } else { Transformed::no(node) })
    })
    .map(|transformed| match transformed.data.output_partitioning().partition_count() {
        1 => transformed.data,
        // Whoever runs it brings them together.
        _ => Arc::new(Within::new(transformed.data, bounds)),
    })
    .map_err(error_from)
}

fn in_turns(node: Arc<dyn ExecutionPlan>, bounds: &Bounds) -> Arc<dyn ExecutionPlan> {
    Arc::new(Within::in_turns(node, bounds))
}

/// Whether a node lets its input run on threads of its own.
fn runs_alone(node: &dyn ExecutionPlan, input: &dyn ExecutionPlan) -> bool {
    input.output_partitioning().partition_count() > 1
        && ["CoalescePartitionsExec", "SortPreservingMergeExec", "RepartitionExec"].contains(&node.name())
}

/// A text whose parsing, binding and planning takes so long that others should not wait for it.
pub fn is_long(text: &str) -> bool {
    text.len() > LONG_TEXT_BYTES
}

const LONG_TEXT_BYTES: usize = 8 << 10;

/// Does something that takes long; meanwhile the runtime's other tasks are served by another thread.
pub fn aside<T>(work: impl FnOnce() -> T) -> T {
    match Handle::try_current().map(|handle| handle.runtime_flavor()) {
        Ok(RuntimeFlavor::MultiThread) => tokio::task::block_in_place(work),
        _ => work(),
    }
}

/// A future whose polls may take long.
pub struct Aside<F>(pub Pin<Box<F>>);

impl<F: Future> Future for Aside<F> {
    type Output = F::Output;
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        aside(|| self.0.as_mut().poll(context))
    }
}

/// The join with a filter that asks whether to go on.
fn asking(join: &NestedLoopJoinExec, cancel: &CancelHandle) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
    let filter = join.filter().map(|filter| {
        let asking = Asking { inner: shielded::shield(filter.expression()), cancel: cancel.clone() };
        JoinFilter::new(Arc::new(asking), filter.column_indices().to_vec(), filter.schema().clone())
    });
    Ok(Arc::new(NestedLoopJoinExecBuilder::from(join).with_filter(filter).build()?))
}

fn is_window(node: &Arc<dyn ExecutionPlan>) -> bool {
    node.downcast_ref::<WindowAggExec>().is_some() || node.downcast_ref::<BoundedWindowAggExec>().is_some()
}

/// Whether a poll of this plan may take long.
pub fn is_slow(plan: &Arc<dyn ExecutionPlan>) -> bool {
    let mut found = false;
    let look = plan.apply(|node| {
        found |= node.downcast_ref::<NestedLoopJoinExec>().is_some() || is_window(node);
        Ok(if found { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    });
    found && look.is_ok()
}

/// Rows whose making may take long: meanwhile the runtime's other tasks are served by another thread.
pub struct Slow(pub RowStream);

impl Stream for Slow {
    type Item = Result<RecordBatch>;
    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        aside(|| self.0.as_mut().poll_next(context))
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
