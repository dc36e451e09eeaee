//! Batches for those who keep them: sorts, and cross joins of their left side.
//!
//! A batch of a table or of groups is mostly a part of a larger one, whose buffers count as the batch's own wherever it is
//! asked what it takes: 122 parts of a segment of 30 MB count as 3.6 GB. So a sort would write what it has to disk after
//! each of them, and a cross join be refused for want of memory. They get copies, which they would make anyway.
//!
//! The first rows of an order are kept in memory, with more beside each than the row is; when they are very many it is a
//! sort, which can go to disk, and then a limit.

use std::fmt;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayData, ArrayRef, AsArray, Capacities, MutableArrayData, RecordBatch, RecordBatchOptions, make_array,
};
use arrow::datatypes::DataType;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::error::Result;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::execution_plan::replace_children_if_necessary;
use datafusion::physical_plan::joins::CrossJoinExec;
use datafusion::physical_plan::limit::LocalLimitExec;
use datafusion::physical_plan::sorts::sort::SortExec;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    ChildrenPropertiesMode, DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties, ReplaceChildrenOptions,
};
use futures::StreamExt;

/// More first rows than this are found by sorting all.
const FIRST_ROWS_MAX: usize = 1 << 16;
/// Where less than this is shared nothing is copied.
const SHARED_BYTES_MIN: usize = 64 << 10;

/// A node that keeps batches, reading batches of its own; `None` for others.
pub fn keeping(node: &Arc<dyn ExecutionPlan>) -> Result<Option<Arc<dyn ExecutionPlan>>> {
    let owned =
        |input: &Arc<dyn ExecutionPlan>| Arc::new(OwnBatches { input: input.clone() }) as Arc<dyn ExecutionPlan>;
    if let Some(join) = node.downcast_ref::<CrossJoinExec>() {
        let inputs = vec![owned(join.left()), join.right().clone()];
        return replace_children_if_necessary(node.clone(), inputs).map(Some);
    }
    let Some(sort) = node.downcast_ref::<SortExec>() else { return Ok(None) };
    let input = owned(sort.input());
    match sort.fetch() {
        Some(fetch) if fetch > FIRST_ROWS_MAX => {
            let all = SortExec::new(sort.expr().clone(), input);
            let all = all.with_preserve_partitioning(sort.preserve_partitioning());
            Ok(Some(Arc::new(LocalLimitExec::new(Arc::new(all), fetch))))
        }
        _ => replace_children_if_necessary(node.clone(), vec![input]).map(Some),
    }
}

#[derive(Debug)]
struct OwnBatches {
    input: Arc<dyn ExecutionPlan>,
}

/// The batch, or a copy where it is a small part of what it shares.
fn owned(batch: RecordBatch) -> Result<RecordBatch> {
    let of =
        |column: &ArrayRef| column.to_data().get_slice_memory_size().unwrap_or_else(|_| column.get_array_memory_size());
    let own: usize = batch.columns().iter().map(of).sum();
    if batch.get_array_memory_size() <= own.saturating_mul(2) + SHARED_BYTES_MIN {
        return Ok(batch);
    }
    let columns = batch.columns().iter().map(|column| Ok(make_array(copy(column)?))).collect::<Result<_>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    Ok(RecordBatch::try_new_with_options(batch.schema(), columns, &options)?)
}

fn copy(column: &ArrayRef) -> Result<ArrayData> {
    let rows = column.len();
    let between = |offsets: &[i32]| (offsets[rows] - offsets[0]) as usize;
    let capacities = match column.data_type() {
        DataType::Utf8 => Capacities::Binary(rows, Some(between(column.as_string::<i32>().value_offsets()))),
        DataType::Binary => Capacities::Binary(rows, Some(between(column.as_binary::<i32>().value_offsets()))),
        _ => Capacities::Array(rows),
    };
    let data = column.to_data();
    let mut copy = MutableArrayData::with_capacities(vec![&data], false, capacities);
    copy.try_extend(0, 0, rows)?;
    Ok(copy.freeze())
}

impl DisplayAs for OwnBatches {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("OwnBatches")
    }
}

impl ExecutionPlan for OwnBatches {
    fn name(&self) -> &str {
        "OwnBatches"
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
        Ok(Arc::new(OwnBatches { input: children.pop().unwrap_or_else(|| self.input.clone()) }))
    }
    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        self.replace_children(children, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))
    }
    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let rows = self.input.execute(partition, context)?;
        let schema = rows.schema();
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, rows.map(|batch| batch.and_then(owned)))))
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{Int64Array, ListArray, StringArray};
    use arrow::datatypes::{Field, Int32Type, Schema};

    use super::*;

    #[test]
    fn a_part_of_a_batch_takes_no_more_than_its_rows() {
        let numbers: ArrayRef = Arc::new(Int64Array::from_iter((0..100_000).map(|i| (i % 7 != 0).then_some(i))));
        let texts: ArrayRef =
            Arc::new(StringArray::from_iter((0..100_000).map(|i| (i % 5 != 0).then(|| "x".repeat(i % 90)))));
        let lists = (0..100_000).map(|i| (i % 3 != 0).then(|| vec![Some(i); i as usize % 4]));
        let lists: ArrayRef = Arc::new(ListArray::from_iter_primitive::<Int32Type, _, _>(lists));
        let columns = vec![numbers, texts, lists];
        let fields = columns.iter().enumerate().map(|(i, c)| Field::new(i.to_string(), c.data_type().clone(), true));
        let whole = RecordBatch::try_new(Arc::new(Schema::new(fields.collect::<Vec<_>>())), columns).unwrap();
        assert_eq!(owned(whole.clone()).unwrap().get_array_memory_size(), whole.get_array_memory_size());
        let part = whole.slice(5_001, 1_000);
        let own = owned(part.clone()).unwrap();
        assert_eq!(own, part);
        assert!(own.get_array_memory_size() < whole.get_array_memory_size() / 50, "{}", own.get_array_memory_size());
    }
}
