//! Writes that wait together, as one epoch: checked one after the other against the tables as they stand.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{RecordBatch, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, FieldRef, Schema, TimeUnit};

use super::{Commit, Reply, Writes};
use crate::catalog::{Catalog, LateRows, RelationId, RelationKind, Watermark};
use crate::dataflow::feed::join_small;
use crate::delta::Delta;
use crate::error::{Error, Result};
use crate::state::store::LogEntry;
use crate::time::{Epoch, EpochHeader};
use crate::watermark::{Admitted, Partition, admit, times_of};

/// The last column of late rows that are kept.
const WATERMARK_MISSED: &str = "\u{1}watermark";

impl Commit {
    pub(super) fn write(&mut self, requests: Vec<(Writes, Reply<Epoch>)>) {
        if requests.is_empty() {
            return;
        }
        if let Some(error) = self.core.failure() {
            for (_, reply) in requests {
                let _ = reply.send(Err(error.clone()));
            }
            return;
        }
        // Before tables change: what is refused here has not happened, and may be tried again.
        let bytes = requests.iter().map(|(writes, _)| writes.bytes()).sum();
        if let Err(error) = self.core.store.room(bytes) {
            for (_, reply) in requests {
                let _ = reply.send(Err(error.clone()));
            }
            return;
        }
        let mut header = self.next_header();
        let catalog = self.core.catalog();
        let mut changes: BTreeMap<RelationId, Vec<Delta>> = BTreeMap::new();
        let mut accepted = Vec::new();
        let mut positions = Vec::new();
        for (writes, reply) in requests {
            match self.check(&catalog, &writes, header.epoch) {
                Ok(logged) => {
                    for (relation, deltas) in logged {
                        match catalog.get(relation).and_then(|r| r.watermark.as_ref()) {
                            None => changes.entry(relation).or_default().extend(deltas),
                            Some(w) => self.admit(&mut header, relation, w, writes.partition, deltas, &mut changes),
                        }
                    }
                    positions.extend(writes.positions);
                    accepted.push(reply);
                }
                Err(error) => {
                    let _ = reply.send(Err(error));
                }
            }
        }
        changes.retain(|_, deltas| deltas.iter().any(|d| !d.is_empty()));
        if changes.is_empty() && positions.is_empty() && header.watermarks == self.header.watermarks {
            for reply in accepted {
                let _ = reply.send(Ok(self.header.epoch));
            }
            return;
        }
        for deltas in changes.values_mut() {
            join_small(deltas);
        }
        self.positions.extend(positions.iter().cloned());
        header.touched = changes.keys().copied().collect();
        let entry = LogEntry { header, changes: changes.into_iter().collect(), positions, catalog: vec![] };
        let result = self.commit(entry);
        for reply in accepted {
            let _ = reply.send(result.clone());
        }
        if result.is_ok() {
            self.forward();
        }
    }

    /// Applies a request to the tables; on an error none of them has changed.
    fn check(&mut self, catalog: &Catalog, writes: &Writes, epoch: Epoch) -> Result<Vec<(RelationId, Vec<Delta>)>> {
        for id in writes.changes.keys() {
            let Some(relation) = catalog.get(*id) else { return Err(Error::undefined_relation(format!("#{id}"))) };
            assert!(matches!(relation.kind, RelationKind::Stream | RelationKind::Table), "only these are written");
        }
        // All are checked before any is changed.
        for (id, rows) in &writes.expected {
            self.check_there(*id, rows)?;
        }
        let mut checked = Vec::new();
        for (&id, deltas) in &writes.changes {
            checked.push(match (self.tables.get_mut(&id), self.versions.get_mut(&id)) {
                (Some(table), _) => (id, Some(table.check(deltas)?)),
                (None, Some(versions)) => (id, Some(versions.check(deltas)?)),
                (None, None) => (id, None),
            });
        }
        self.check_references(catalog, &checked)?;
        let mut logged: Vec<(RelationId, Vec<Delta>)> = Vec::new();
        for (id, checked) in checked {
            let deltas = match (checked, self.tables.get_mut(&id)) {
                (None, _) => self.with_all_columns(id, &writes.changes[&id])?,
                (Some(checked), Some(table)) => table.change(checked, epoch),
                (Some(checked), None) => {
                    let deltas = self.with_all_columns(id, &writes.changes[&id])?;
                    self.versions.get_mut(&id).expect("checked just now").change(checked, epoch);
                    deltas
                }
            };
            logged.push((id, deltas));
        }
        logged.retain(|(_, deltas)| deltas.iter().any(|d| !d.is_empty()));
        Ok(logged)
    }

    /// Rows of a stream that were made before it got a column have there what those have that are in its log.
    fn with_all_columns(&self, stream: RelationId, deltas: &[Delta]) -> Result<Vec<Delta>> {
        deltas.iter().map(|delta| self.core.store.widened(stream, delta.clone())).collect()
    }

    /// 40001 unless a table has all of these rows.
    pub(super) fn check_there(&self, id: RelationId, rows: &[RecordBatch]) -> Result<()> {
        let gone = |rows: &RecordBatch| self.tables.get(&id).is_none_or(|table| !table.has_all(rows));
        match rows.iter().any(gone) {
            true => Err(Error::new("40001", "could not serialize access due to concurrent update")),
            false => Ok(()),
        }
    }

    /// Rows of a stream with a watermark: those in time are its change, the others go where late rows go.
    fn admit(
        &mut self,
        header: &mut EpochHeader,
        stream: RelationId,
        watermark: &Watermark,
        partition: Partition,
        deltas: Vec<Delta>,
        changes: &mut BTreeMap<RelationId, Vec<Delta>>,
    ) {
        let time = times_of(&mut header.watermarks, stream);
        for delta in deltas {
            let Admitted { in_time, late } = admit(time, watermark, partition, header.now_us, &delta);
            changes.entry(stream).or_default().push(in_time);
            let Some((late, missed)) = late else { continue };
            match watermark.late {
                LateRows::Drop | LateRows::Update => {}
                LateRows::Keep(id) => changes.entry(id).or_default().push(with_watermarks(&late, missed)),
                LateRows::Into(id) => {
                    let target = self.core.catalog().get(id).cloned().expect("it cannot be dropped before the stream");
                    let late = late.with_columns(target.arrow_schema(), late.rows.columns().to_vec());
                    let late = match self.tables.get_mut(&id) {
                        None => vec![late],
                        Some(table) => {
                            let checked = table.check(&[late]).expect("inserts into a table without a key");
                            table.change(checked, header.epoch)
                        }
                    };
                    changes.entry(id).or_default().extend(late);
                }
            }
        }
    }
}

/// Late rows beside the watermark that each missed, as they are kept.
fn with_watermarks(late: &Delta, missed: Vec<i64>) -> Delta {
    let mut fields: Vec<FieldRef> = late.schema().fields().iter().cloned().collect();
    let of = DataType::Timestamp(TimeUnit::Microsecond, None);
    fields.push(Arc::new(Field::new(WATERMARK_MISSED, of, true)));
    let mut columns = late.rows.columns().to_vec();
    columns.push(Arc::new(TimestampMicrosecondArray::from(missed)));
    late.with_columns(Arc::new(Schema::new(fields)), columns)
}
