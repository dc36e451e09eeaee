//! System relations of what is durable and who is connected.
//!
//! | relation | rows |
//! | --- | --- |
//! | `mr_epochs` | the newest epochs whose headers are kept: epoch, time, what it changed |
//! | `mr_checkpoints` | the newest checkpoint: epoch, time, workers, parts, blocks |
//! | `mr_sources` | streams: connector, retention, offsets, through where trimmed, bytes in files |
//! | `mr_sinks` | sinks: what of, connector |
//! | `mr_subscriptions` | SUBSCRIBEs and sinks under way: what of, epoch seen, epochs behind, rows kept for it |
//! | `mr_arrangements` | the rows of tables and views that can be read: live, dead and kept, since which epoch |
//! | `mr_waits` | who has waited for over 10 ms, and for what |
//! | `mr_sessions` | sessions: process id, user, database |
//! | `mr_backups` | backups to object stores since the start: where, state, what was sent |
//! | `mr_memory` | what `--memory` allows, what the process has, where the state of views and tables is |

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use datafusion::catalog::TableProvider;
use datafusion::datasource::MemTable;

use crate::catalog::{Catalog, RelationKind};
use crate::core::Core;
use crate::error::Result;
use crate::sql::bind::error_from;
use crate::state::arrangement::{Shared, Size};
use crate::state::spill;
use crate::waits::{Reason, Wait, Waiter};

/// Rows of mr_epochs.
const EPOCHS_MAX: usize = 1000;

/// A system relation of this name as it is now; `None` when there is none.
pub fn table(core: &Arc<Core>, name: &str) -> Option<Arc<dyn TableProvider>> {
    let catalog = core.catalog();
    let rows = match name {
        "mr_epochs" => epochs(core, &catalog),
        "mr_checkpoints" => checkpoints(core),
        "mr_sources" => sources(core, &catalog),
        "mr_sinks" => sinks(&catalog),
        "mr_subscriptions" => subscriptions(core, &catalog),
        "mr_arrangements" => arrangements(core, &catalog),
        "mr_waits" => waits(core, &catalog),
        "mr_sessions" => sessions(core),
        "mr_backups" => super::backup::backups(core),
        "mr_memory" => memory(core),
        _ => return None,
    };
    match rows.and_then(|rows| MemTable::try_new(rows.schema(), vec![vec![rows]]).map_err(error_from)) {
        Ok(table) => Some(Arc::new(table)),
        Err(error) => {
            tracing::error!(%error, name, "a system relation cannot be read");
            None
        }
    }
}

pub(super) fn batch(columns: Vec<(&str, ArrayRef)>) -> Result<RecordBatch> {
    let nullable = columns.into_iter().map(|(name, values)| (name, values, true));
    RecordBatch::try_from_iter_with_nullable(nullable).map_err(crate::error::Error::internal)
}

pub(super) fn texts(values: impl IntoIterator<Item = Option<String>>) -> ArrayRef {
    Arc::new(values.into_iter().collect::<StringArray>())
}

pub(super) fn numbers(values: impl IntoIterator<Item = u64>) -> ArrayRef {
    Arc::new(values.into_iter().map(|n| n as i64).collect::<Int64Array>())
}

pub(super) fn optional_numbers(values: impl IntoIterator<Item = Option<u64>>) -> ArrayRef {
    Arc::new(values.into_iter().map(|n| n.map(|n| n as i64)).collect::<Int64Array>())
}

pub(super) fn times(values: impl IntoIterator<Item = Option<i64>>) -> ArrayRef {
    Arc::new(values.into_iter().collect::<TimestampMicrosecondArray>().with_timezone("+00:00"))
}

fn epochs(core: &Core, catalog: &Catalog) -> Result<RecordBatch> {
    let last = core.store.last_epoch();
    let newest: Vec<u64> = (last.saturating_sub(EPOCHS_MAX as u64 - 1)..=last).collect();
    let headers = core.store.headers(&newest)?;
    let name = |id: &u32| catalog.get(*id).map_or(format!("#{id}"), |relation| relation.name.clone());
    batch(vec![
        ("epoch", numbers(headers.iter().map(|h| h.epoch))),
        ("time", times(headers.iter().map(|h| Some(h.now_us)))),
        ("changed", texts(headers.iter().map(|h| Some(h.touched.iter().map(name).collect::<Vec<_>>().join(", "))))),
    ])
}

fn checkpoints(core: &Core) -> Result<RecordBatch> {
    let newest: Vec<_> = core.store.newest_manifest().into_iter().collect();
    let time = |epoch| -> Result<Option<i64>> { Ok(core.store.header(epoch)?.map(|header| header.now_us)) };
    let all = newest.iter().map(|m| time(m.epoch)).collect::<Result<Vec<_>>>()?;
    batch(vec![
        ("epoch", numbers(newest.iter().map(|m| m.epoch))),
        ("time", times(all)),
        ("workers", numbers(newest.iter().map(|m| m.workers as u64))),
        ("parts", numbers(newest.iter().map(|m| m.parts.len() as u64))),
        ("blocks", numbers(newest.iter().map(|m| m.parts.iter().map(|p| p.blocks.len() as u64).sum()))),
    ])
}

fn sources(core: &Core, catalog: &Catalog) -> Result<RecordBatch> {
    let store = &core.store;
    let streams: Vec<_> = catalog.relations.values().filter(|r| r.kind == RelationKind::Stream).collect();
    let each = |f: &dyn Fn(u32) -> Result<u64>| -> Result<ArrayRef> {
        Ok(numbers(streams.iter().map(|r| f(r.id)).collect::<Result<Vec<_>>>()?))
    };
    batch(vec![
        ("name", texts(streams.iter().map(|r| Some(r.name.clone())))),
        ("connector", texts(streams.iter().map(|r| r.options.get("connector").cloned()))),
        ("retention", texts(streams.iter().map(|r| r.options.get("retention").cloned()))),
        ("first_offset", each(&|id| store.stream_first(id))?),
        ("next_offset", each(&|id| store.stream_end(id))?),
        ("trimmed_through", each(&|id| store.trimmed_through(id))?),
        ("compacted_through", each(&|id| Ok(store.gone(id)?.compacted))?),
        ("file_bytes", each(&|id| Ok(store.log_bytes(id, 0)))?),
    ])
}

fn sinks(catalog: &Catalog) -> Result<RecordBatch> {
    let sinks: Vec<_> = catalog.relations.values().filter(|r| r.kind == RelationKind::Sink).collect();
    let input = |id: Option<&u32>| id.and_then(|id| catalog.get(*id)).map(|relation| relation.name.clone());
    batch(vec![
        ("name", texts(sinks.iter().map(|r| Some(r.name.clone())))),
        ("input", texts(sinks.iter().map(|r| input(r.depends_on.first())))),
        ("connector", texts(sinks.iter().map(|r| r.options.get("connector").cloned()))),
    ])
}

fn subscriptions(core: &Core, catalog: &Catalog) -> Result<RecordBatch> {
    let committed = core.committed.load(Relaxed);
    let lines = core.subscriptions.lines();
    let name = |id: u32| catalog.get(id).map(|relation| relation.name.clone());
    batch(vec![
        ("relation", texts(lines.iter().map(|(_, line)| name(line.relation)))),
        ("seen_epoch", numbers(lines.iter().map(|(_, line)| line.seen()))),
        ("behind", numbers(lines.iter().map(|(_, line)| committed.saturating_sub(line.seen())))),
        ("kept_rows", numbers(lines.iter().map(|(_, line)| line.kept_rows()))),
    ])
}

/// Per table or view and worker what readers can see.
fn arrangements(core: &Core, catalog: &Catalog) -> Result<RecordBatch> {
    let mut rows: Vec<(String, Option<u64>, Arc<Shared>)> = Vec::new();
    for relation in catalog.relations.values() {
        rows.extend(core.table(relation.id).map(|reader| (relation.name.clone(), None, reader)));
        let view = core.view(relation.id).filter(|view| view.failure().is_none());
        let readers = view.map(|view| view.readers()).unwrap_or_default();
        let by_worker = readers.into_iter().enumerate();
        rows.extend(by_worker.map(|(worker, reader)| (relation.name.clone(), Some(worker as u64), reader)));
    }
    let sizes: Vec<Size> = rows.iter().map(|(_, _, reader)| reader.size()).collect();
    batch(vec![
        ("relation", texts(rows.iter().map(|(name, ..)| Some(name.clone())))),
        ("worker", Arc::new(rows.iter().map(|(_, worker, _)| worker.map(|w| w as i64)).collect::<Int64Array>())),
        ("rows", numbers(sizes.iter().map(|size| size.live_rows))),
        ("kept_rows", numbers(sizes.iter().map(|size| size.kept_rows))),
        ("segments", numbers(sizes.iter().map(|size| size.segments))),
        ("bytes", numbers(sizes.iter().map(|size| size.bytes))),
        ("file_bytes", numbers(sizes.iter().map(|size| size.file_bytes))),
        ("horizon", numbers(sizes.iter().map(|size| size.horizon))),
        ("closed", numbers(sizes.iter().map(|size| size.closed))),
    ])
}

fn waits(core: &Core, catalog: &Catalog) -> Result<RecordBatch> {
    let waits = core.waits.list();
    // Whom workers are too far ahead of.
    let slowest = || {
        let views = core.views.read().expect("no panic while held");
        let live = views.iter().filter(|(_, view)| view.failure().is_none());
        let closed = live.map(|(id, view)| (view.closed_through(&core.progress, core.committed.load(Relaxed)), *id));
        closed.min().map(|(_, id)| id)
    };
    let name = |id: Option<u32>| id.and_then(|id| catalog.get(id)).map(|relation| relation.name.clone());
    let waiter = |wait: &Wait| match wait.waiter {
        Waiter::Session(_) => "session".to_string(),
        Waiter::Connector(id) => name(Some(id)).unwrap_or_else(|| "connector".to_string()),
        Waiter::Commit => "commit".to_string(),
    };
    let pid = |wait: &Wait| match wait.waiter {
        Waiter::Session(pid) => Some(i64::from(pid)),
        _ => None,
    };
    let relation = |wait: &Wait| match wait.reason {
        Reason::Workers => name(slowest()),
        _ => name(wait.relation),
    };
    batch(vec![
        ("waiter", texts(waits.iter().map(|wait| Some(waiter(wait))))),
        ("pid", Arc::new(waits.iter().map(pid).collect::<Int64Array>())),
        ("waits_for", texts(waits.iter().map(|wait| Some(wait.reason.word().to_string())))),
        ("relation", texts(waits.iter().map(relation))),
        ("waited_ms", numbers(waits.iter().map(|wait| wait.since.elapsed().as_millis() as u64))),
    ])
}

fn sessions(core: &Core) -> Result<RecordBatch> {
    let sessions = core.sessions.lock().expect("no panic while held").clone();
    batch(vec![
        ("pid", numbers(sessions.keys().map(|pid| *pid as u64))),
        ("user", texts(sessions.values().map(|(user, _)| Some(user.clone())))),
        ("database", texts(sessions.values().map(|(_, database)| Some(database.clone())))),
    ])
}

fn memory(core: &Core) -> Result<RecordBatch> {
    let (resident, fixed) = spill::resident_bytes().unzip();
    let (in_memory, in_file) = spill::used_bytes();
    let one = |bytes: Option<u64>| -> ArrayRef { Arc::new(Int64Array::from(vec![bytes.map(|n| n as i64)])) };
    batch(vec![
        ("memory_bytes", one(Some(core.memory.process_bytes()))),
        ("resident_bytes", one(resident)),
        ("fixed_bytes", one(fixed)),
        ("query_bytes", one(Some(core.memory.used_bytes() as u64))),
        ("state_bytes", one(Some(in_memory as u64))),
        ("state_file_bytes", one(Some(in_file as u64))),
    ])
}
