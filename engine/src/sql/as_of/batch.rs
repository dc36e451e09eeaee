//! An ASOF join run once: the right side sorted by key, order and whole row, and searched for each left row.

use std::fmt;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch, RecordBatchOptions, UInt32Array};
use arrow::compute::{concat_batches, take};
use arrow::datatypes::{DataType, SchemaRef};
use arrow::row::{RowConverter, Rows, SortField};
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::error::Result;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::{Distribution, EquivalenceProperties, Partitioning, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    ChildrenPropertiesMode, DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties, ReplaceChildrenOptions,
    common, execute_stream,
};

use super::{Nearest, check_types};

#[derive(Debug)]
pub struct AsOfExec {
    inputs: [Arc<dyn ExecutionPlan>; 2],
    /// Of each side the keys, then the order.
    by: [Vec<Arc<dyn PhysicalExpr>>; 2],
    nearest: Nearest,
    outer: bool,
    schema: SchemaRef,
    properties: Arc<PlanProperties>,
}

impl AsOfExec {
    pub fn new(
        inputs: [Arc<dyn ExecutionPlan>; 2],
        by: [Vec<Arc<dyn PhysicalExpr>>; 2],
        nearest: Nearest,
        outer: bool,
        schema: SchemaRef,
    ) -> Self {
        let properties = PlanProperties::new(
            EquivalenceProperties::new(schema.clone()),
            Partitioning::UnknownPartitioning(1),
            EmissionType::Final,
            Boundedness::Bounded,
        );
        AsOfExec { inputs, by, nearest, outer, schema, properties: Arc::new(properties) }
    }
}

impl DisplayAs for AsOfExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter) -> fmt::Result {
        let by = |side: usize| self.by[side].iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        write!(f, "AsOfExec: {:?}, outer={}, left=[{}], right=[{}]", self.nearest, self.outer, by(0), by(1))
    }
}

impl ExecutionPlan for AsOfExec {
    fn name(&self) -> &str {
        "AsOfExec"
    }
    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }
    fn required_input_distribution(&self) -> Vec<Distribution> {
        vec![Distribution::SinglePartition; 2]
    }
    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        self.inputs.iter().collect()
    }
    fn apply_expressions(
        &self,
        f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        for expr in self.by.iter().flatten() {
            if f(expr)? == TreeNodeRecursion::Stop {
                return Ok(TreeNodeRecursion::Stop);
            }
        }
        Ok(TreeNodeRecursion::Continue)
    }
    fn replace_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
        _: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let inputs = <[Arc<dyn ExecutionPlan>; 2]>::try_from(children).expect("two inputs");
        Ok(Arc::new(AsOfExec::new(inputs, self.by.clone(), self.nearest, self.outer, self.schema.clone())))
    }
    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        self.replace_children(children, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))
    }
    fn execute(&self, _: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let streams = [0, 1].map(|side| execute_stream(self.inputs[side].clone(), context.clone()));
        let [left, right] = streams;
        let (left, right) = (left?, right?);
        let (by, nearest, outer, schema) = (self.by.clone(), self.nearest, self.outer, self.schema.clone());
        let joined = async move {
            let (schemas, sides) = ([left.schema(), right.schema()], [left, right]);
            let mut rows = Vec::new();
            for (stream, schema) in sides.into_iter().zip(&schemas) {
                rows.push(concat_batches(schema, &common::collect(stream).await?)?);
            }
            join(&rows[0], &rows[1], &by, nearest, outer, &schema)
        };
        let stream = futures::stream::once(joined);
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema.clone(), stream)))
    }
}

fn join(
    left: &RecordBatch,
    right: &RecordBatch,
    by: &[Vec<Arc<dyn PhysicalExpr>>; 2],
    nearest: Nearest,
    outer: bool,
    schema: &SchemaRef,
) -> Result<RecordBatch> {
    let values = |side: usize, rows: &RecordBatch| -> Result<Vec<ArrayRef>> {
        by[side].iter().map(|e| e.evaluate(rows)?.into_array(rows.num_rows())).collect()
    };
    let (of_left, of_right) = (values(0, left)?, values(1, right)?);
    let types: Vec<DataType> = of_left.iter().map(|column| column.data_type().clone()).collect();
    check_types(&types)?;
    let last = types.len() - 1;
    let mut of_keys = converter(types[..last].iter())?;
    let mut of_order = converter([&types[last]])?;
    let bytes = |converter: &mut Option<RowConverter>, columns: &[ArrayRef]| -> Result<Option<Rows>> {
        Ok(converter.as_mut().map(|converter| converter.convert_columns(columns)).transpose()?)
    };
    let keys = [bytes(&mut of_keys, &of_left[..last])?, bytes(&mut of_keys, &of_right[..last])?];
    let order = [bytes(&mut of_order, &of_left[last..])?, bytes(&mut of_order, &of_right[last..])?];
    let place = |side: usize, row: usize| {
        let part = |rows: &Option<Rows>| rows.as_ref().map_or(Vec::new(), |rows| rows.row(row).data().to_vec());
        (part(&keys[side]), part(&order[side]))
    };
    let known = |columns: &[ArrayRef], row: usize| columns.iter().all(|column| column.is_valid(row));

    let whole = converter(right.schema().fields().iter().map(|f| f.data_type()))?;
    let whole = whole.map(|whole| whole.convert_columns(right.columns())).transpose()?;
    let mut sorted: Vec<_> = (0..right.num_rows())
        .filter(|&row| known(&of_right, row))
        .map(|row| (place(1, row), whole.as_ref().map(|rows| rows.row(row)), row as u32))
        .collect();
    sorted.sort();
    let (mut lefts, mut rights) = (Vec::new(), Vec::new());
    for row in 0..left.num_rows() {
        let found = known(&of_left, row).then(|| place(0, row)).and_then(|wanted| {
            // Before it lie those that come before the left row in the order: with its equals for these two.
            let with_equals = matches!(nearest, Nearest::NotAfter | Nearest::After);
            let cut = sorted.partition_point(|(at, ..)| if with_equals { *at <= wanted } else { *at < wanted });
            let near = if nearest.is_back() { cut.checked_sub(1)? } else { cut };
            sorted.get(near).filter(|((key, _), ..)| *key == wanted.0).map(|(.., row)| *row)
        });
        if found.is_some() || outer {
            lefts.push(row as u32);
            rights.push(found);
        }
    }
    let (lefts, rights) = (UInt32Array::from(lefts), UInt32Array::from(rights));
    let of = |rows: &RecordBatch, at: &UInt32Array| -> Result<Vec<ArrayRef>> {
        Ok(rows.columns().iter().map(|column| take(column, at, None)).collect::<arrow::error::Result<_>>()?)
    };
    let columns = of(left, &lefts)?.into_iter().chain(of(right, &rights)?).collect();
    let options = RecordBatchOptions::new().with_row_count(Some(lefts.len()));
    Ok(RecordBatch::try_new_with_options(schema.clone(), columns, &options)?)
}

/// `None` for no columns.
fn converter<'a>(types: impl IntoIterator<Item = &'a DataType>) -> Result<Option<RowConverter>> {
    let fields: Vec<SortField> = types.into_iter().map(|t| SortField::new(t.clone())).collect();
    Ok(if fields.is_empty() { None } else { Some(RowConverter::new(fields)?) })
}
