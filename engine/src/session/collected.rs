//! Rows that a statement has to have all before it goes on: what INSERT writes, what UPDATE finds, what FETCH returns.
//! They are held against the statement's memory like what DataFusion keeps.

use arrow::array::{Array, RecordBatch};
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use futures::StreamExt;

use super::{RowStream, Session};
use crate::error::Result;
use crate::sql::bind::error_from;

/// All rows. Error: 53200.
pub(super) async fn collect(mut rows: RowStream, held: &MemoryReservation) -> Result<Vec<RecordBatch>> {
    let mut all = Vec::new();
    while let Some(batch) = rows.next().await {
        let batch = batch?;
        hold(held, &batch)?;
        all.push(batch);
    }
    Ok(all)
}

pub(super) fn hold(held: &MemoryReservation, batch: &RecordBatch) -> Result<()> {
    // A batch may be a piece of a larger one, of which the others are counted too.
    let bytes = batch.columns().iter().map(|column| column.to_data().get_slice_memory_size().unwrap_or(0)).sum();
    held.try_grow(bytes).map_err(error_from)
}

impl Session {
    /// Memory of the statement that runs, given back when this is dropped.
    pub(super) fn reservation(&self, what: &str) -> MemoryReservation {
        MemoryConsumer::new(what).register(&self.environment.memory_pool)
    }

    /// All rows, which are held until the statement ends, or its transaction.
    pub(super) async fn collected(&mut self, rows: RowStream) -> Result<Vec<RecordBatch>> {
        let held = self.reservation("the rows of a statement");
        let rows = collect(rows, &held).await?;
        // Once more where they become one batch.
        held.try_grow(held.size()).map_err(error_from)?;
        self.held.push(held);
        Ok(rows)
    }

    /// The statement has ended; what it leaves to its transaction stays held.
    pub(super) fn release(&mut self) {
        match &mut self.transaction {
            Some(transaction) if transaction.writes.changes.is_empty() => self.held.clear(),
            Some(transaction) => transaction.held.append(&mut self.held),
            None => self.held.clear(),
        }
    }
}
