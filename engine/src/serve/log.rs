//! `LOG(s)`: a stream's rows with where and when each was logged, read no further than the query asks.
//!
//! ```text
//!   SELECT * FROM LOG(orders) WHERE _offset >= 1000 AND _offset < 1100
//!   SELECT max(_offset) FROM LOG(orders) WHERE _time < '2026-05-01'
//! ```
//!
//! `_offset` counts the stream's rows from 0, `_epoch` is the epoch of the row's commit and `_time` that epoch's time.
//! Comparisons of these three with constants decide which part of the log is read at all; DataFusion looks at the
//! rows again. A time that is not known any more (its header is older than the rule that keeps it) is NULL.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, RecordBatchOptions, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::{DataFusionError, Result, ScalarValue};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{BinaryExpr, Expr, Operator, TableProviderFilterPushDown, TableType};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::{PartitionStream, StreamingTableExec};

use super::snapshot::{LogScan, Scan};
use super::table::SnapshotSlot;
use crate::catalog::Relation;
use crate::state::store::{Place, Store};
use crate::time::Epoch;

const OFFSET: &str = "_offset";
const EPOCH: &str = "_epoch";
const TIME: &str = "_time";
const ZONE: &str = "+00:00";
/// How many columns that makes.
const ADDED: usize = 3;

pub struct LogTable {
    relation: Arc<Relation>,
    schema: SchemaRef,
    slot: Arc<SnapshotSlot>,
    store: Arc<Store>,
}

impl LogTable {
    /// Of a stream.
    pub fn new(relation: Arc<Relation>, slot: Arc<SnapshotSlot>, store: Arc<Store>) -> Self {
        let time = DataType::Timestamp(TimeUnit::Microsecond, Some(ZONE.into()));
        let mut fields: Vec<Arc<Field>> = relation.arrow_schema().fields().iter().cloned().collect();
        fields.push(Arc::new(Field::new(OFFSET, DataType::Int64, true)));
        fields.push(Arc::new(Field::new(EPOCH, DataType::Int64, true)));
        fields.push(Arc::new(Field::new(TIME, time, true)));
        LogTable { relation, schema: Arc::new(Schema::new(fields)), slot, store }
    }

    pub fn relation(&self) -> &Arc<Relation> {
        &self.relation
    }

    /// The part of `log` in which rows can be that pass all of `filters`.
    fn part(&self, mut log: LogScan, filters: &[Expr]) -> crate::error::Result<LogScan> {
        let id = self.relation.id;
        for (column, operator, value) in filters.iter().filter_map(comparison) {
            // The least value that passes, and the least above all that do.
            let (from, below) = match operator {
                Operator::Eq => (Some(value), value.checked_add(1)),
                Operator::Gt => (value.checked_add(1), None),
                Operator::GtEq => (Some(value), None),
                Operator::Lt => (None, Some(value)),
                _ => (None, value.checked_add(1)),
            };
            let (after, through) = match column {
                EPOCH => {
                    let before = |value: i64| value.saturating_sub(1).max(0) as Epoch;
                    (from.map(before), below.map(before))
                }
                TIME => {
                    let before = |value: i64| -> crate::error::Result<Option<Epoch>> {
                        Ok(self.store.epoch_at(value.saturating_sub(1))?.map(|header| header.epoch))
                    };
                    (from.map(before).transpose()?.flatten(), below.map(before).transpose()?.flatten())
                }
                _ => {
                    let place = |value: i64| self.store.place_of_offset(id, value.max(0) as u64);
                    let from = from.map(place).transpose()?;
                    let below = below.map(place).transpose()?;
                    (from.map(|place| place.0), below.map(|(after, skip)| after + u64::from(skip > 0)))
                }
            };
            log.after = log.after.max(after.unwrap_or(0));
            log.through = log.through.min(through.unwrap_or(Epoch::MAX)).max(log.after);
        }
        Ok(log)
    }
}

/// One of the three columns compared with a whole number or a time.
fn comparison(filter: &Expr) -> Option<(&str, Operator, i64)> {
    let Expr::BinaryExpr(BinaryExpr { left, op, right }) = filter else { return None };
    let (column, op, value) = match (&**left, &**right) {
        (Expr::Column(column), Expr::Literal(value, _)) => (column, *op, value),
        (Expr::Literal(value, _), Expr::Column(column)) => (column, op.swap()?, value),
        _ => return None,
    };
    let known = [OFFSET, EPOCH, TIME].contains(&column.name.as_str());
    let ordered = matches!(op, Operator::Eq | Operator::Gt | Operator::GtEq | Operator::Lt | Operator::LtEq);
    let value = match value {
        ScalarValue::Int64(Some(value)) | ScalarValue::TimestampMicrosecond(Some(value), _) => *value,
        _ => return None,
    };
    (known && ordered).then_some((column.name.as_str(), op, value))
}

impl fmt::Debug for LogTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "log of {}", self.relation.name)
    }
}

#[async_trait]
impl TableProvider for LogTable {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }
    fn table_type(&self) -> TableType {
        TableType::Base
    }
    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        let use_of = |filter: &&Expr| match comparison(filter) {
            Some(_) => TableProviderFilterPushDown::Inexact,
            None => TableProviderFilterPushDown::Unsupported,
        };
        Ok(filters.iter().map(use_of).collect())
    }
    async fn scan(
        &self,
        _state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let missing = || DataFusionError::Internal(format!("{} is not in the snapshot", self.relation.name));
        let snapshot = self.slot.get().ok_or_else(missing)?;
        let scan = snapshot.relations.get(&self.relation.id).ok_or_else(missing)?;
        // A transaction's own rows have no place in the log yet.
        let Scan::Log(log) = scan.base() else { return Err(missing()) };
        snapshot.note(self.relation.id, None);
        let log = self.part(log.clone(), filters).map_err(|e| DataFusionError::External(Box::new(e)))?;
        let timed = projection.is_none_or(|columns| columns.contains(&(self.schema.fields().len() - 1)));
        let rows = Rows { id: self.relation.id, schema: self.schema.clone(), store: self.store.clone(), log, timed };
        let exec = StreamingTableExec::try_new(self.schema(), vec![Arc::new(rows)], projection, None, false, limit)?;
        Ok(Arc::new(exec))
    }
}

struct Rows {
    id: u32,
    schema: SchemaRef,
    store: Arc<Store>,
    log: LogScan,
    /// The times of the rows are asked for.
    timed: bool,
}

impl fmt::Debug for Rows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "log of {} after epoch {} through {}", self.id, self.log.after, self.log.through)
    }
}

impl Rows {
    fn with_places(
        schema: &SchemaRef,
        store: &Store,
        timed: bool,
        rows: RecordBatch,
        places: &[Place],
    ) -> crate::error::Result<RecordBatch> {
        let offsets = places.iter().flat_map(|p| p.offset as i64..(p.offset as i64 + p.rows as i64));
        let of_row = || places.iter().flat_map(|p| std::iter::repeat_n(p.epoch, p.rows));
        let mut times: HashMap<Epoch, i64> = HashMap::new();
        if timed {
            let mut epochs: Vec<Epoch> = places.iter().map(|p| p.epoch).collect();
            epochs.dedup();
            times.extend(store.headers(&epochs)?.into_iter().map(|header| (header.epoch, header.now_us)));
        }
        let mut columns = rows.columns().to_vec();
        let time = of_row().map(|epoch| times.get(&epoch).copied()).collect::<TimestampMicrosecondArray>();
        let added: [ArrayRef; ADDED] = [
            Arc::new(offsets.collect::<Int64Array>()),
            Arc::new(of_row().map(|epoch| epoch as i64).collect::<Int64Array>()),
            Arc::new(time.with_timezone(ZONE)),
        ];
        columns.extend(added);
        let options = RecordBatchOptions::new().with_row_count(Some(rows.num_rows()));
        RecordBatch::try_new_with_options(schema.clone(), columns, &options).map_err(crate::error::Error::internal)
    }
}

impl PartitionStream for Rows {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }
    fn execute(&self, _context: Arc<TaskContext>) -> SendableRecordBatchStream {
        let Rows { id, schema, store, log, timed } = self;
        let (schema, store, timed, kept) = (schema.clone(), store.clone(), *timed, log.kept.clone());
        let columns = (0..schema.fields().len() - ADDED).collect();
        let batches = store.stream_rows(*id, log.after, log.through, Some(columns)).with_places();
        let batches = batches.map(move |batch| {
            // Until the last one has been read.
            let _kept = &kept;
            batch
                .and_then(|(rows, places)| Rows::with_places(&schema, &store, timed, rows, &places))
                .map_err(|e| DataFusionError::External(Box::new(e)))
        });
        Box::pin(RecordBatchStreamAdapter::new(self.schema.clone(), futures::stream::iter(batches)))
    }
}
