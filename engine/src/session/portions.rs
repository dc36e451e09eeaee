//! Columns computed by as many rows at once as are not too much: `repeat(t, 1000000)` of a batch of 8,192 rows would take
//! 8 GB, and a constant of a megabyte as much.
//!
//! ```text
//!   8192 rows ─► too many bytes ─► 4096 ─► … ─► 64 rows ─► a batch of 64 MB, then the next
//! ```
//!
//! What of it is kept somewhere is accounted there; what flows by is accounted by the arrays themselves
//! (`sql/bounds.rs`).

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use arrow::array::{Array, RecordBatch, RecordBatchOptions};
use arrow::datatypes::SchemaRef;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::memory_pool::MemoryConsumer;
use datafusion::execution::{RecordBatchStream, SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::{Column, Literal};
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    ChildrenPropertiesMode, DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties, ReplaceChildrenOptions,
};
use futures::{Stream, StreamExt};

use super::shielded;
use crate::sql::bounds::{Bounds, dividing, is_too_many_bytes};

/// What the constants of a projection may take in one batch.
const CONSTANTS_BYTES_MAX: usize = 64 << 20;

/// A projection that computes something, portion by portion.
#[derive(Debug)]
pub struct Portioned {
    projection: Arc<dyn ExecutionPlan>,
    columns: Arc<[Arc<dyn PhysicalExpr>]>,
    input: Arc<dyn ExecutionPlan>,
    /// Rows at once, as far as the constants tell.
    rows_max: usize,
}

impl Portioned {
    pub fn of(node: &Arc<dyn ExecutionPlan>) -> Option<Portioned> {
        let projection = node.downcast_ref::<ProjectionExec>()?;
        let columns: Arc<[_]> = projection.expr().iter().map(|column| shielded::shield(&column.expr)).collect();
        if columns.iter().all(|column| column.downcast_ref::<Column>().is_some()) {
            return None;
        }
        let mut bytes = 1;
        for column in columns.iter() {
            let add = column.apply(|expr| {
                bytes += expr.downcast_ref::<Literal>().map_or(0, |literal| literal.value().size());
                Ok(TreeNodeRecursion::Continue)
            });
            add.ok()?;
        }
        let rows_max = (CONSTANTS_BYTES_MAX / bytes).max(1);
        Some(Portioned { projection: node.clone(), columns, input: projection.input().clone(), rows_max })
    }
}

struct Portions {
    columns: Arc<[Arc<dyn PhysicalExpr>]>,
    schema: SchemaRef,
    input: SendableRecordBatchStream,
    rows_max: usize,
    /// What is left of the batch at hand, and how many rows of it at once.
    rest: Option<(RecordBatch, usize)>,
}

impl Portions {
    fn project(&self, rows: &RecordBatch) -> Result<RecordBatch> {
        let count = rows.num_rows();
        let columns = self.columns.iter().map(|column| column.evaluate(rows)?.into_array(count));
        let columns = columns.collect::<Result<Vec<_>>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(count));
        Ok(RecordBatch::try_new_with_options(self.schema.clone(), columns, &options)?)
    }

    fn portion(&mut self, batch: RecordBatch, at_once: usize) -> Result<RecordBatch> {
        let mut rows = at_once.clamp(1, batch.num_rows().max(1)).min(batch.num_rows());
        loop {
            let projected = dividing(|| self.project(&batch.slice(0, rows)));
            match projected {
                Err(error) if rows > 1 && is_too_many_bytes(&error) => rows /= 2,
                Err(error) => return Err(error),
                Ok(projected) => {
                    if rows < batch.num_rows() {
                        self.rest = Some((batch.slice(rows, batch.num_rows() - rows), rows));
                    }
                    return Ok(projected);
                }
            }
        }
    }
}

impl Stream for Portions {
    type Item = Result<RecordBatch>;
    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<RecordBatch>>> {
        let (batch, at_once) = match self.rest.take() {
            Some(rest) => rest,
            None => match ready!(self.input.poll_next_unpin(context)) {
                Some(Ok(batch)) => (batch, self.rows_max),
                end => return Poll::Ready(end),
            },
        };
        Poll::Ready(Some(self.portion(batch, at_once)))
    }
}

impl RecordBatchStream for Portions {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }
}

/// A plan that runs on other threads, which work for the statement all the same.
#[derive(Debug)]
pub struct Within {
    input: Arc<dyn ExecutionPlan>,
    bounds: Bounds,
    giving: Giving,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Giving {
    /// All that whoever reads it takes.
    Freely,
    /// A batch, and then others have their turn: for who computes long over each.
    InTurns,
    /// So to who keeps all of it, which is accounted here.
    ToBeKept,
}

impl Within {
    pub fn new(input: Arc<dyn ExecutionPlan>, bounds: &Bounds) -> Self {
        Within { input, bounds: bounds.clone(), giving: Giving::Freely }
    }

    /// Of what makes many rows at a time.
    pub fn in_turns(input: Arc<dyn ExecutionPlan>, bounds: &Bounds) -> Self {
        Within { input, bounds: bounds.clone(), giving: Giving::InTurns }
    }

    /// What a window function reads; with `all` of it at once, or as much as its frames need.
    pub fn of_window(input: Arc<dyn ExecutionPlan>, bounds: &Bounds, all: bool) -> Self {
        let giving = if all { Giving::ToBeKept } else { Giving::InTurns };
        Within { input, bounds: bounds.clone(), giving }
    }

    fn given(&self, mut rows: SendableRecordBatchStream) -> impl Stream<Item = Result<RecordBatch>> + Send + use<> {
        let (bounds, giving) = (self.bounds.clone(), self.giving);
        let held = MemoryConsumer::new("the rows of a window").register(&bounds.memory);
        let mut others = false;
        futures::stream::poll_fn(move |context| {
            if giving != Giving::Freely {
                if std::mem::take(&mut others) {
                    context.waker().wake_by_ref();
                    return Poll::Pending;
                }
                if let Err(error) = (bounds.ask)() {
                    return Poll::Ready(Some(Err(DataFusionError::External(Box::new(error)))));
                }
            }
            let next = bounds.within(|| rows.poll_next_unpin(context));
            others = next.is_ready();
            if let (Giving::ToBeKept, Poll::Ready(Some(Ok(batch)))) = (giving, &next) {
                let columns = batch.columns().iter();
                let bytes = columns.map(|c| c.to_data().get_slice_memory_size().unwrap_or(0)).sum();
                if let Err(error) = held.try_grow(bytes) {
                    return Poll::Ready(Some(Err(error)));
                }
            }
            next
        })
    }
}

impl DisplayAs for Portioned {
    fn fmt_as(&self, format: DisplayFormatType, f: &mut fmt::Formatter) -> fmt::Result {
        self.projection.fmt_as(format, f)
    }
}

impl DisplayAs for Within {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("Within")
    }
}

impl ExecutionPlan for Portioned {
    fn name(&self) -> &str {
        "Portioned"
    }
    fn properties(&self) -> &Arc<PlanProperties> {
        self.projection.properties()
    }
    fn maintains_input_order(&self) -> Vec<bool> {
        vec![true]
    }
    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }
    fn apply_expressions(
        &self,
        f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        self.projection.apply_expressions(f)
    }
    fn replace_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
        options: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let projection = self.projection.clone().replace_children(children, options)?;
        Ok(Portioned::of(&projection).map(|portioned| Arc::new(portioned) as _).unwrap_or(projection))
    }
    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        self.replace_children(children, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))
    }
    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        Ok(Box::pin(Portions {
            columns: self.columns.clone(),
            schema: self.projection.schema(),
            input: self.input.execute(partition, context)?,
            rows_max: self.rows_max,
            rest: None,
        }))
    }
}

impl ExecutionPlan for Within {
    fn name(&self) -> &str {
        "Within"
    }
    fn properties(&self) -> &Arc<PlanProperties> {
        self.input.properties()
    }
    fn maintains_input_order(&self) -> Vec<bool> {
        vec![true]
    }
    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }
    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }
    fn replace_children(
        self: Arc<Self>,
        mut children: Vec<Arc<dyn ExecutionPlan>>,
        _: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let input = children.pop().unwrap_or_else(|| self.input.clone());
        Ok(Arc::new(Within { input, bounds: self.bounds.clone(), giving: self.giving }))
    }
    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        self.replace_children(children, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))
    }
    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let rows = self.input.execute(partition, context)?;
        Ok(Box::pin(RecordBatchStreamAdapter::new(rows.schema(), self.given(rows))))
    }
}
