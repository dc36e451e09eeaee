//! A DataFusion query over rows at hand, to be run again and again.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::{DataFusionError, Result};
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{Expr, LogicalPlan, TableType};
use datafusion::physical_plan::execution_plan::reset_plan_states;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::{PartitionStream, StreamingTableExec};
use datafusion::physical_plan::{ExecutionPlan, execute_stream};
use datafusion::prelude::SessionConfig;
use futures::StreamExt;
use tokio::runtime::{Builder, Runtime};

use crate::error::Error;

thread_local! {
    /// Plans are asynchronous; each worker's thread runs its own to their end.
    static RUNTIME: Runtime = Builder::new_current_thread().build().expect("a runtime without threads");
}

/// A plan over [`Fed`] tables. Clones share the plan; runs do not disturb each other.
#[derive(Clone)]
pub struct Query {
    plan: Arc<dyn ExecutionPlan>,
    /// What `plan` was made of.
    logical: Arc<LogicalPlan>,
    config: SessionConfig,
    environment: Arc<RuntimeEnv>,
    /// What it does, for people; the same in every process.
    text: String,
    /// It may never end by itself: its answer is bounded.
    recursive: bool,
}

/// What an answer may come to where it could be without end.
const RECURSION_ROWS_MAX: usize = 10_000_000;
/// A round makes at least one batch.
const RECURSION_BATCHES_MAX: usize = 100_000;

/// Of more rows batches are larger than usual.
const MANY_ROWS: usize = 1 << 16;
const BATCH_ROWS_MAX: usize = 1 << 20;

/// The rows of one run, by table.
struct Rows(Vec<RecordBatch>);

impl Query {
    pub fn new(
        plan: Arc<dyn ExecutionPlan>,
        logical: Arc<LogicalPlan>,
        config: SessionConfig,
        environment: Arc<RuntimeEnv>,
        text: String,
        recursive: bool,
    ) -> Self {
        Query { plan, logical, config, environment, text, recursive }
    }

    /// Runs the query over `rows`, one batch for each of its tables. Blocks; not to be called from async code.
    pub fn run(&self, rows: Vec<RecordBatch>, output: &SchemaRef) -> Result<Vec<RecordBatch>> {
        let count = rows.iter().map(RecordBatch::num_rows).max().unwrap_or_default();
        let mut config = self.config.clone().with_extension(Arc::new(Rows(rows)));
        if count > MANY_ROWS {
            // Aggregates with an ORDER BY look at all that they hold with each batch.
            config = config.with_batch_size(count.min(BATCH_ROWS_MAX));
        }
        // A physical plan holds its functions; only its rows are looked up.
        let context = TaskContext::new(
            None,
            String::new(),
            config,
            HashMap::new(),
            HashMap::new(),
            HashMap::new(),
            HashMap::new(),
            self.environment.clone(),
        );
        let plan = reset_plan_states(self.plan.clone())?;
        let stream = execute_stream(plan, Arc::new(context))?;
        let batches = RUNTIME.with(|runtime| runtime.block_on(self.collect(stream)))?;
        let named = batches.into_iter().map(|batch| {
            let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
            Ok(RecordBatch::try_new_with_options(output.clone(), batch.columns().to_vec(), &options)?)
        });
        named.collect()
    }
}

impl Query {
    async fn collect(&self, mut stream: SendableRecordBatchStream) -> Result<Vec<RecordBatch>> {
        let (mut batches, mut rows) = (Vec::new(), 0);
        while let Some(batch) = stream.next().await {
            let batch = batch?;
            rows += batch.num_rows();
            batches.push(batch);
            if self.recursive && (rows > RECURSION_ROWS_MAX || batches.len() > RECURSION_BATCHES_MAX) {
                let message = format!(
                    "a recursive query went on past {RECURSION_ROWS_MAX} rows or {RECURSION_BATCHES_MAX} rounds"
                );
                return Err(DataFusionError::External(Box::new(Error::new("54000", message))));
            }
        }
        Ok(batches)
    }
}

/// Of one statement: they have one configuration.
impl PartialEq for Query {
    fn eq(&self, other: &Self) -> bool {
        self.logical == other.logical && self.recursive == other.recursive
    }
}

impl fmt::Debug for Query {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Display for Query {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// A table whose rows are given to each run.
#[derive(Debug)]
pub struct Fed {
    /// Which of the run's batches.
    pub index: usize,
    pub schema: SchemaRef,
}

#[async_trait]
impl TableProvider for Fed {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }
    fn table_type(&self) -> TableType {
        TableType::Base
    }
    async fn scan(
        &self,
        _state: &dyn Session,
        projection: Option<&Vec<usize>>,
        _filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let rows: Arc<dyn PartitionStream> = Arc::new(Fed { index: self.index, schema: self.schema.clone() });
        Ok(Arc::new(StreamingTableExec::try_new(self.schema.clone(), vec![rows], projection, None, false, limit)?))
    }
}

impl PartitionStream for Fed {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }
    fn execute(&self, context: Arc<TaskContext>) -> SendableRecordBatchStream {
        let rows = context.session_config().get_extension::<Rows>();
        let batch = rows
            .and_then(|rows| rows.0.get(self.index).cloned())
            .ok_or_else(|| DataFusionError::Internal("a query was run without its rows".into()));
        Box::pin(RecordBatchStreamAdapter::new(self.schema.clone(), futures::stream::iter([batch])))
    }
}
