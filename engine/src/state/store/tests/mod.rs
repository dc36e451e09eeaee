//! Tests of the store. What needs a process to die runs this test binary again as a child.

mod checkpoint;
mod compact;
mod crash;
mod damage;
mod directory;
mod format;
mod log;
mod past;
mod speed;
mod types;

use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};

use super::*;
use crate::catalog::{Relation, RelationId, RelationKind};
use crate::delta::Delta;
use crate::time::{Epoch, EpochHeader};

pub(super) const STREAM: RelationId = 16384;
pub(super) const TABLE: RelationId = 16385;

pub(super) fn open(path: &Path) -> Store {
    Store::open(path, small()).unwrap()
}

/// Small buffers, so that tests reach the files.
pub(super) fn small() -> StoreOptions {
    StoreOptions { create: true, sync: true, cache_bytes: 8 << 20 }
}

pub(super) fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new("id", DataType::Int64, false), Field::new("name", DataType::Utf8, true)]))
}

/// Rows `(id, 'name id')` for a range of ids; every seventh name is NULL.
pub(super) fn rows(ids: std::ops::Range<i64>) -> RecordBatch {
    let names: StringArray = ids.clone().map(|id| (id % 7 != 0).then(|| format!("name {id}"))).collect();
    let columns: Vec<ArrayRef> = vec![Arc::new(Int64Array::from_iter_values(ids)), Arc::new(names)];
    RecordBatch::try_new(schema(), columns).unwrap()
}

pub(super) fn header(epoch: Epoch, touched: &[RelationId]) -> EpochHeader {
    let now_us = 1_700_000_000_000_000 + epoch as i64;
    EpochHeader { epoch, now_us, touched: touched.to_vec(), ..EpochHeader::default() }
}

pub(super) fn entry(epoch: Epoch, changes: Vec<(RelationId, Vec<Delta>)>) -> LogEntry {
    let touched: Vec<RelationId> = changes.iter().map(|(relation, _)| *relation).collect();
    LogEntry { header: header(epoch, &touched), changes, positions: Vec::new(), catalog: Vec::new() }
}

/// An epoch that inserts rows `ids` into the stream.
pub(super) fn insert(epoch: Epoch, ids: std::ops::Range<i64>) -> LogEntry {
    entry(epoch, vec![(STREAM, vec![Delta::inserts(rows(ids))])])
}

pub(super) fn relation(id: RelationId, name: &str) -> Relation {
    Relation {
        id,
        schema_name: "public".into(),
        name: name.into(),
        kind: RelationKind::Stream,
        columns: Vec::new(),
        primary_key: Vec::new(),
        primary_key_name: None,
        indexes: Vec::new(),
        checks: Vec::new(),
        foreign_keys: Vec::new(),
        sql: format!("CREATE STREAM {name} ()"),
        query: None,
        options: Default::default(),
        watermark: None,
        depends_on: Vec::new(),
        arrangements: Vec::new(),
        time_zone: "UTC".into(),
        search_path: vec![],
        starts: Default::default(),
        bounds: Vec::new(),
        dealt_by: Vec::new(),
        owner: "millrace".into(),
        comment: None,
        column_comments: [(0, "of a column".to_string())].into(),
        schema: Default::default(),
    }
}

/// All rows as one batch.
pub(super) fn join(batches: impl IntoIterator<Item = RecordBatch>) -> RecordBatch {
    let batches: Vec<RecordBatch> = batches.into_iter().collect();
    arrow::compute::concat_batches(&batches[0].schema(), &batches).unwrap()
}

pub(super) fn stream(store: &Store, after: Epoch, through: Epoch) -> RecordBatch {
    let read: Vec<RecordBatch> = store.stream_rows(STREAM, after, through, None).map(Result::unwrap).collect();
    if read.is_empty() { RecordBatch::new_empty(schema()) } else { join(read) }
}

/// What an entry holds, in a form that compares: chunks joined.
pub(super) fn contents(entry: &LogEntry) -> Vec<(RelationId, RecordBatch, Vec<i64>)> {
    let mut contents = Vec::new();
    for (relation, deltas) in &entry.changes {
        if deltas.iter().any(|d| !d.is_empty()) {
            let weights = deltas.iter().flat_map(|d| (0..d.len()).map(|row| d.weight(row))).collect();
            contents.push((*relation, join(deltas.iter().map(|d| d.rows.clone())), weights));
        }
    }
    contents
}

/// Runs one test of this binary in a process of its own, with `MILLRACE_CHILD` set to `argument`.
pub(super) fn child(test: &str, argument: &str) -> std::process::Command {
    let mut command = std::process::Command::new(std::env::current_exe().unwrap());
    command.args([
        &format!("state::store::tests::{test}"),
        "--exact",
        "--nocapture",
        "--test-threads=1",
        "--include-ignored",
    ]);
    command.env("MILLRACE_CHILD", argument);
    command
}

/// The argument, in the child.
pub(super) fn child_argument() -> Option<String> {
    std::env::var("MILLRACE_CHILD").ok()
}
