//! A relation as a table for DataFusion: to bind against always, to scan once a snapshot has been taken.

use std::fmt;
use std::sync::{Arc, Mutex};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::{DFSchema, DataFusionError, Result, TableReference};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{Expr, TableType};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::{PartitionStream, StreamingTableExec};
use futures::StreamExt;

use super::snapshot::{Scan, Snapshot};
use crate::catalog::{Relation, RelationKind};
use crate::delta::Delta;
use crate::state::segment_index::Wanted;
use crate::state::store::Store;

/// Where the snapshot of the statement at hand lies while it is planned.
#[derive(Default)]
pub struct SnapshotSlot(Mutex<Option<Arc<Snapshot>>>);

impl SnapshotSlot {
    pub fn set(&self, snapshot: Option<Arc<Snapshot>>) {
        *self.0.lock().expect("no panic while held") = snapshot;
    }
    pub fn get(&self) -> Option<Arc<Snapshot>> {
        self.0.lock().expect("no panic while held").clone()
    }
}

pub struct RelationTable {
    relation: Arc<Relation>,
    append_only: bool,
    slot: Arc<SnapshotSlot>,
    store: Arc<Store>,
    /// Only rows that may have this key are wanted.
    wanted: Option<Wanted>,
    /// Of what is read only rows that fulfil this are looked at, by columns of a table of that name.
    condition: Option<(Expr, TableReference)>,
}

impl RelationTable {
    pub fn new(relation: Arc<Relation>, append_only: bool, slot: Arc<SnapshotSlot>, store: Arc<Store>) -> Self {
        RelationTable { relation, append_only, slot, store, wanted: None, condition: None }
    }
    /// The same relation, of which only rows that may have this key are wanted.
    pub fn looking_up(&self, wanted: Wanted) -> Self {
        RelationTable { wanted: Some(wanted), ..self.same() }
    }
    /// The same relation, all of which is scanned under a condition.
    pub fn under(&self, condition: Expr, name: &TableReference) -> Self {
        RelationTable { condition: Some((condition, name.clone())), ..self.same() }
    }
    fn same(&self) -> Self {
        let (relation, slot, store) = (self.relation.clone(), self.slot.clone(), self.store.clone());
        RelationTable { relation, append_only: self.append_only, slot, store, wanted: None, condition: None }
    }
    pub fn relation(&self) -> &Arc<Relation> {
        &self.relation
    }
    /// Whether its rows never change.
    pub fn append_only(&self) -> bool {
        self.append_only
    }
}

impl fmt::Debug for RelationTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.relation.kind.word(), self.relation.name)
    }
}

#[async_trait]
impl TableProvider for RelationTable {
    fn schema(&self) -> SchemaRef {
        self.relation.arrow_schema()
    }
    fn table_type(&self) -> TableType {
        TableType::Base
    }
    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        _filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let snapshot = self
            .slot
            .get()
            .ok_or_else(|| DataFusionError::Internal(format!("no snapshot of {} was taken", self.relation.name)))?;
        let scan = snapshot
            .relations
            .get(&self.relation.id)
            .ok_or_else(|| DataFusionError::Internal(format!("{} is not in the snapshot", self.relation.name)))?;
        // A log has no index to ask.
        let wanted = self.wanted.as_ref().filter(|_| !matches!(scan.base(), Scan::Log(_)));
        match &self.condition {
            Some((condition, name)) => snapshot.note_under(self.relation.id, || {
                let schema = DFSchema::try_from_qualified_schema(name.clone(), &self.schema())?;
                state.create_physical_expr(condition.clone(), &schema)
            }),
            None => snapshot.note(self.relation.id, wanted),
        }
        let rows = Rows {
            relation: self.relation.clone(),
            schema: self.schema(),
            scan: scan.clone(),
            store: self.store.clone(),
            wanted: self.wanted.clone(),
        };
        let exec = StreamingTableExec::try_new(self.schema(), vec![Arc::new(rows)], projection, None, false, limit)?;
        Ok(Arc::new(exec))
    }
}

struct Rows {
    relation: Arc<Relation>,
    schema: SchemaRef,
    scan: Scan,
    store: Arc<Store>,
    wanted: Option<Wanted>,
}

impl fmt::Debug for Rows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.wanted {
            None => write!(f, "rows of {}", self.relation.name),
            Some(_) => write!(f, "rows of {} by key", self.relation.name),
        }
    }
}

impl PartitionStream for Rows {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }
    fn execute(&self, _context: Arc<TaskContext>) -> SendableRecordBatchStream {
        let found = self.wanted.as_ref().and_then(|wanted| found(&self.scan, wanted));
        let batches = found.unwrap_or_else(|| scan(&self.scan, &self.relation, &self.store));
        let schema = self.schema.clone();
        let stream = futures::stream::iter(batches).map(move |batch| {
            let batch = batch.map_err(|e| DataFusionError::External(Box::new(e)))?;
            // Chunks may have been written under a schema that says the same in other words.
            if *batch.schema() == *schema {
                Ok(batch)
            } else {
                Ok(RecordBatch::try_new(schema.clone(), batch.columns().to_vec())?)
            }
        });
        Box::pin(RecordBatchStreamAdapter::new(self.schema.clone(), stream))
    }
}

pub type Batches = Box<dyn Iterator<Item = crate::error::Result<RecordBatch>> + Send>;

/// The rows that may have a key; `None` where there is no index to ask.
pub fn found(scan: &Scan, wanted: &Wanted) -> Option<Batches> {
    let pictures = match scan {
        Scan::Rows(pictures) => pictures,
        Scan::Log(_) => return None,
        Scan::WithOwn(base, own) => return own.found_over(found(base, wanted)?, wanted),
    };
    let wanted = wanted.clone();
    let pictures = pictures.to_vec().into_iter();
    Some(Box::new(pictures.flat_map(move |p| {
        let wanted = wanted.clone();
        (0..p.segments()).filter_map(move |i| p.found(i, &wanted)).map(Ok)
    })))
}

/// The rows of a scan, batch by batch as they are asked for.
pub fn scan(scan: &Scan, relation: &Relation, store: &Arc<Store>) -> Batches {
    match scan {
        Scan::Rows(pictures) => Box::new(
            pictures.clone().into_iter().flat_map(|p| (0..p.segments()).filter_map(move |i| p.batch(i))).map(Ok),
        ),
        Scan::Log(log) => {
            let kept = log.kept.clone();
            // Not what the stream has got since.
            let columns = (0..relation.columns.len()).collect();
            let rows = store.stream_rows(relation.id, log.after, log.through, Some(columns)).from_offset(log.first);
            Box::new(rows.inspect(move |_| _ = &kept))
        }
        Scan::WithOwn(base, own) => {
            let rows = own.over(self::scan(base, relation, store));
            if relation.kind != RelationKind::Stream {
                return rows;
            }
            // The transaction's own rows may be from before the stream got a column.
            let (store, id) = (store.clone(), relation.id);
            Box::new(rows.map(move |rows| Ok(store.widened(id, Delta::inserts(rows?))?.rows)))
        }
    }
}
