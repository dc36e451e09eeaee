//! Opens a data directory, recovers it, and runs it.
//!
//! Recovery: the newest manifest gives each table's and view's state as of its epoch; views that it does
//! not hold are filled anew from what their sources held then; then the log after it is replayed through
//! the same dataflows. So every view is what its query says of the log, whatever happened before.
//!
//! It is lazy: the engine is open once its tables are there and the log has been read. Workers bring views back one
//! after the other, those that someone waits for first, and what is asked of a view meanwhile waits for that one.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::mpsc;

use crate::allocator;
use crate::budget;
use crate::catalog::{Catalog, Relation, RelationId, RelationKind};
use crate::checkpoint::Checkpoints;
use crate::commit::{CatalogEdit, Commit, REQUESTS_MAX, Request, Writes};
use crate::connectors::options::bytes;
use crate::core::Core;
use crate::dataflow::status::ViewStatus;
use crate::dataflow::view::{Parts, Start, ViewOptions};
use crate::dataflow::worker::{Command, Progress, Workers};
use crate::delta::Delta;
use crate::error::{Error, Result};
use crate::memory::{QueryMemory, memory_default};
use crate::plan::Plan;
use crate::sequences;
use crate::serve::table::SnapshotSlot;
use crate::session::Session;
use crate::sql::system::SystemCatalog;
use crate::state::spill::Passing;
use crate::state::store::{CatalogChange, Faults, LogEntry, Manifest, RELATION_ROWS, Store, StoreOptions};
use crate::state::table::Table;
use crate::state::versions::Versions;
use crate::subscriptions::{self, SubscriptionLimits};
use crate::time::{Epoch, EpochHeader};

/// Rows, and epochs, that replay hands to the dataflows at once.
const REPLAY_ROWS: usize = 65536;
const REPLAY_EPOCHS: usize = 1024;

#[derive(Debug, Clone)]
pub struct Config {
    pub data_dir: PathBuf,
    /// Worker threads, at least 1.
    pub workers: usize,
    /// Bytes that the process should use, half of them for ad-hoc queries; `None` is half of what the machine, or the
    /// container, has.
    pub memory: Option<u64>,
    /// Sync the log before a write is acknowledged.
    pub sync: bool,
    /// `None`: only at a graceful stop.
    pub checkpoint_interval: Option<Duration>,
    /// Log what is written. Without it rows live only in the views that exist when they come, streams hold
    /// nothing that could be read, and a restart finds the definitions alone: for measuring what the log costs.
    pub log: bool,
    /// What a subscription whose reader takes nothing may keep until it is ended.
    pub subscriptions: SubscriptionLimits,
    /// For tests: a clock that SET CLOCK drives, and that outlives this engine. The system's while it is 0.
    pub test_clock: Option<Arc<AtomicI64>>,
    /// Asked around each write to the disk, to make it fail: for tests.
    pub faults: Option<Arc<dyn Faults>>,
}

impl Config {
    pub fn new(data_dir: impl Into<PathBuf>) -> Self {
        let workers = std::thread::available_parallelism().map_or(1, |n| n.get());
        let checkpoint_interval = Some(Duration::from_secs(10));
        Config {
            data_dir: data_dir.into(),
            workers,
            memory: None,
            sync: true,
            checkpoint_interval,
            log: true,
            subscriptions: SubscriptionLimits::default(),
            test_clock: None,
            faults: None,
        }
    }
}

/// What has been told to end has so long.
const LEAVE_WAIT: Duration = Duration::from_secs(5);

pub struct Engine {
    core: Arc<Core>,
    runtime: Mutex<Option<tokio::runtime::Runtime>>,
    sources: crate::sources::SourceTasks,
}

/// How the engine is, for health checks and metrics.
#[derive(Debug, Clone)]
pub struct Status {
    /// The last epoch that is durable.
    pub epoch: Epoch,
    /// The last one that all views have closed.
    pub closed_epoch: Epoch,
    pub views: Vec<ViewInfo>,
    pub disk_bytes: u64,
    /// What ad-hoc queries have reserved.
    pub query_bytes: u64,
    pub failure: Option<Error>,
}

#[derive(Debug, Clone)]
pub struct ViewInfo {
    pub name: String,
    pub state_bytes: u64,
    pub state_rows: u64,
    pub rows: u64,
    pub errors: u64,
    pub failure: Option<Error>,
}

impl Engine {
    /// Opens (or creates) the data directory, recovers, and starts the workers. Blocks until all tables are there;
    /// views follow (see [`Engine::wait_started`]).
    pub fn open(config: Config) -> Result<Arc<Engine>> {
        let workers = config.workers.max(1);
        let cache_bytes = config.memory.map_or(128 << 20, |m| (m as usize / 8).clamp(16 << 20, 1 << 30));
        let options = StoreOptions { create: true, sync: config.sync, cache_bytes };
        let store = Arc::new(Store::open_with_faults(&config.data_dir, options, config.faults.clone())?);
        store.collect_garbage()?;
        let catalog = store.load_catalog()?;
        let manifest = store.newest_manifest();
        let start = manifest.as_ref().map_or(0, |m| m.epoch);
        let header = match store.header(start)? {
            Some(header) => Arc::new(header),
            None if start == 0 => Arc::new(EpochHeader::default()),
            None => return Err(Error::corrupt(format!("the header of the checkpoint's epoch {start} is missing"))),
        };
        // The engine's own thread pool, so that nothing it does depends on who calls it.
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("millrace-engine")
            .enable_all()
            .build()?;
        let progress = Arc::new(Progress::new(workers, start));
        let (requests, receiver) = mpsc::channel(REQUESTS_MAX);
        let clock = config.test_clock.clone();
        let memory_bytes = config.memory.unwrap_or_else(memory_default);
        let memory = QueryMemory::new(memory_bytes, &config.data_dir, store.free_bytes())?;
        allocator::begin();
        budget::begin(memory_bytes, &config.data_dir, store.free_bytes());
        let core =
            Core::new(store.clone(), catalog, progress.clone(), header.clone(), requests, workers, clock, memory);
        core.sequences.load(&store.load_meta()?)?;
        let core = Arc::new(core);
        let backlog = budget::backlog_bytes_max(memory_bytes);
        let threads = Arc::new(Workers::start(workers, store.clone(), progress.clone(), backlog)?);
        let checkpoints = Checkpoints::new(store.clone(), workers, manifest.as_deref());
        let mut commit = Commit::new(
            core.clone(),
            threads,
            BTreeMap::new(),
            header,
            checkpoints,
            config.checkpoint_interval.filter(|_| config.log),
            config.log,
        )?;
        core.past.begin(start);
        runtime.spawn(budget::keep(Arc::downgrade(&core), memory_bytes));
        runtime.spawn(subscriptions::keep(Arc::downgrade(&core), config.subscriptions));
        if let Err(error) = recover(&mut commit, manifest.as_deref()) {
            commit.workers.stop();
            return Err(error);
        }
        let positions = commit.positions.clone();
        for relation in core.catalog().relations.values() {
            core.past.note(&core, relation, commit.header.epoch);
        }
        runtime.spawn(finish_start(core.clone(), commit.restored.clone(), commit.header.epoch));
        std::thread::Builder::new().name("millrace-commit".into()).spawn(move || {
            let _abort = AbortOnPanic;
            commit.run(receiver)
        })?;
        if let Err(error) = crate::session::temporary::clear_all(&core) {
            tracing::warn!(%error, "temporary tables that a crash left could not be dropped");
        }
        let sources = crate::sources::SourceTasks::new(core.clone(), runtime.handle().clone());
        let engine = Arc::new(Engine { core, runtime: Mutex::new(Some(runtime)), sources });
        for relation in engine.core.catalog().relations.values() {
            engine.sources.start(relation, positions.get(&relation.id).map(Vec::as_slice))?;
        }
        Ok(engine)
    }

    pub fn session(self: &Arc<Self>, user: &str, database: &str) -> Session {
        Session::new(self.clone(), user, database)
    }

    pub fn core(&self) -> &Arc<Core> {
        &self.core
    }

    pub(crate) fn sources(&self) -> &crate::sources::SourceTasks {
        &self.sources
    }

    pub fn catalog(&self) -> Arc<Catalog> {
        self.core.catalog()
    }

    pub fn set_system_catalog(&self, system: Arc<dyn SystemCatalog>) {
        *self.core.system.write().expect("no panic while held") = Some(system);
    }

    /// Appends batches to a stream as one epoch, as it is; the rows must have the stream's schema.
    pub async fn ingest(&self, relation: RelationId, rows: Vec<arrow::array::RecordBatch>) -> Result<Epoch> {
        let catalog = self.core.catalog();
        let stream = catalog.get(relation).filter(|r| r.kind == RelationKind::Stream);
        let stream = stream.ok_or_else(|| Error::undefined_relation(format!("#{relation}")))?;
        let schema = stream.arrow_schema();
        let rows: Vec<Delta> = rows
            .into_iter()
            .map(|batch| {
                let columns = batch.columns().to_vec();
                arrow::array::RecordBatch::try_new(schema.clone(), columns)
                    .map(Delta::inserts)
                    .map_err(|e| Error::new("42804", e.to_string()))
            })
            .collect::<Result<_>>()?;
        let writes = Writes { changes: [(relation, rows)].into(), ..Writes::default() };
        self.core.ask(|reply| Request::Write { writes, reply }).await
    }

    /// Waits until recovery is over: every view that is not suspended is live.
    pub async fn wait_started(&self) {
        self.core.progress.wait_until(|| !self.core.progress.is_starting()).await
    }

    /// Waits until every live view has closed all epochs up to `epoch`.
    pub async fn wait_closed(&self, epoch: Epoch) {
        let core = &self.core;
        core.progress.wait_until(|| closed(core, epoch)).await
    }

    /// Writes a checkpoint now; returns its epoch.
    pub async fn checkpoint(&self) -> Result<Epoch> {
        self.core.ask(|reply| Request::Checkpoint { reply }).await
    }

    pub fn status(&self) -> Status {
        let core = &self.core;
        let epoch = core.committed.load(Ordering::Acquire);
        let catalog = core.catalog();
        let views = core.views.read().expect("no panic while held").clone();
        let views = views
            .iter()
            .filter_map(|(id, status)| {
                let relation = catalog.get(*id)?;
                let sum = |f: fn(&crate::dataflow::status::WorkerStatus) -> u64| status.workers.iter().map(f).sum();
                Some(ViewInfo {
                    name: relation.name.clone(),
                    state_bytes: sum(|w| w.state_bytes.load(Ordering::Relaxed)),
                    state_rows: sum(|w| w.state_rows.load(Ordering::Relaxed)),
                    rows: status.readers().iter().map(|r| r.live_rows()).sum(),
                    errors: status.errors(),
                    failure: status.failure(),
                })
            })
            .collect();
        let processed = (0..core.workers).map(|w| core.progress.processed(w)).min().unwrap_or(epoch);
        let closed_epoch = if closed(core, epoch) { epoch } else { processed.saturating_sub(1).min(epoch) };
        let query_bytes = core.memory.used_bytes() as u64;
        Status { epoch, closed_epoch, views, disk_bytes: core.store.disk_bytes(), query_bytes, failure: core.failure() }
    }

    /// Stops in order, with a checkpoint.
    pub async fn shutdown(&self) -> Result<()> {
        self.sources.stop().await;
        self.give_back_numbers().await;
        let result = self.core.ask(|reply| Request::Stop { checkpoint: true, reply }).await;
        self.await_tasks().await;
        result
    }

    /// After its end: waits until nothing that it left behind, such as the last batches of a query, reads the data
    /// directory any more. Sessions must have been dropped.
    pub async fn release(self: Arc<Self>) {
        let mut open = self.core.store.open_until();
        drop(self);
        let closed = async { while open.changed().await.is_ok() {} };
        if tokio::time::timeout(LEAVE_WAIT, closed).await.is_err() {
            tracing::warn!("the data directory is still being read");
        }
    }

    /// Numbers that were reserved for columns that count their rows and not given: otherwise they would be skipped.
    async fn give_back_numbers(&self) {
        let core = self.core.clone();
        let edit: CatalogEdit = Box::new(move |catalog| {
            let all = catalog.relations.values().flat_map(|relation| relation.sequences());
            let given = all.filter_map(|s| Some((s.id, core.sequences.give_back(s)?)));
            let mark = |(id, mark)| CatalogChange::Meta { key: sequences::setting(id), value: Some(mark) };
            Ok(given.map(mark).collect())
        });
        if let Err(error) = self.core.ask(|reply| Request::Catalog { edit, rows: Vec::new(), reply }).await {
            tracing::warn!(%error, "numbers that columns have reserved will be skipped");
        }
    }

    /// Ends as a crash would: nothing is flushed. For tests.
    pub async fn crash(&self) {
        self.sources.stop().await;
        // Whatever the answer, the engine is gone.
        let _ = self.core.ask(|reply| Request::Stop { checkpoint: false, reply }).await;
        self.await_tasks().await;
    }

    fn take_runtime(&self) -> Option<tokio::runtime::Runtime> {
        self.runtime.lock().expect("no panic while held").take()
    }

    /// The process may end after this: then none of its threads may be at work in the store.
    async fn await_tasks(&self) {
        if let Some(runtime) = self.take_runtime() {
            let _ = tokio::task::spawn_blocking(move || runtime.shutdown_timeout(LEAVE_WAIT)).await;
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.sources.abort();
        let (reply, _) = tokio::sync::oneshot::channel();
        let _ = self.core.requests.try_send(Request::Stop { checkpoint: false, reply });
        if let Some(runtime) = self.take_runtime() {
            runtime.shutdown_background();
        }
    }
}

struct AbortOnPanic;
impl Drop for AbortOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            tracing::error!("the commit path panicked; the process ends and will recover from its log");
            std::process::abort();
        }
    }
}

fn closed(core: &Core, epoch: Epoch) -> bool {
    let views = core.views.read().expect("no panic while held");
    (0..core.workers).all(|w| {
        core.progress.processed(w) >= epoch
            && views
                .values()
                .all(|v| v.closed(w, epoch) || v.failure().is_some() || !v.workers[w].live.load(Ordering::Acquire))
    })
}

/// Plans a view's query again, as it was when it was made.
fn plan_view(core: &Arc<Core>, relation: &Relation) -> Result<Arc<Plan>> {
    if relation.kind == RelationKind::Arrangement {
        return crate::session::arrangements::plan_of(relation, &core.catalog()).map(Arc::new);
    }
    let slot = Arc::new(SnapshotSlot::default());
    let plan = std::panic::AssertUnwindSafe(|| crate::session::view::plan_query(core, &slot, relation));
    // One bad query must not keep everything else from starting.
    match std::panic::catch_unwind(plan) {
        Ok(planned) => planned.map(Arc::new),
        Err(_) => Err(Error::internal("planning its query panicked")),
    }
}

/// What a view's definition says of how it is kept.
pub fn view_options(relation: &Relation) -> ViewOptions {
    let memory_limit = relation.options.get("memory_limit").and_then(|text| bytes(text));
    let arranged_by = (relation.kind == RelationKind::Arrangement).then(|| relation.dealt_by.clone());
    ViewOptions { starts: relation.starts.clone(), memory_limit, arranged_by }
}

fn recover(commit: &mut Commit, manifest: Option<&Manifest>) -> Result<()> {
    let core = commit.core.clone();
    let start = commit.header.epoch;
    let catalog = core.catalog();
    if let Some(manifest) = manifest {
        commit.positions = manifest.positions.iter().cloned().collect();
    }
    // What a row looked up when it came is found again if each epoch is replayed by itself.
    let mut epochs_at_once = REPLAY_EPOCHS;
    let blocks_of = |part: &crate::state::store::Part| -> Result<Vec<_>> {
        let mut passing = Passing::default();
        part.blocks.iter().map(|&b| Ok(passing.take(core.store.read_block(b)?))).collect()
    };
    let rows_of = |id: RelationId| {
        let parts = manifest.map_or(&[][..], |m| &m.parts);
        parts.iter().find(|p| p.relation == id && p.node == RELATION_ROWS && p.fingerprint == 0)
    };
    for relation in catalog.relations.values().filter(|r| r.kind == RelationKind::Table) {
        let mut table = Table::new(relation.clone())?;
        match rows_of(relation.id) {
            Some(part) => table.restore(blocks_of(part)?, start)?,
            None => table.publish(start),
        }
        core.tables.write().expect("no panic while held").insert(relation.id, table.reader());
        commit.tables.insert(relation.id, table);
    }
    for relation in catalog.relations.values().filter(|r| r.kind == RelationKind::Stream) {
        let Some(mut versions) = Versions::new(relation)? else { continue };
        if let Some(part) = rows_of(relation.id) {
            versions.restore(blocks_of(part)?, start)?;
        }
        commit.versions.insert(relation.id, versions);
    }
    let kept = |r: &&Arc<Relation>| matches!(r.kind, RelationKind::MaterializedView | RelationKind::Arrangement);
    for relation in catalog.relations.values().filter(kept) {
        // A view that cannot be planned any more, or that reads one, starts suspended: it can be seen and dropped.
        let mut reads = relation.depends_on.iter().chain(&relation.arrangements);
        let below = reads.find_map(|id| core.view(*id).and_then(|v| v.failure()));
        let suspect = core.store.suspects().contains(&relation.id);
        let plan = match below {
            _ if suspect => Err(Error::not_in_state("it brought the process down when it was started last")),
            Some(error) => Err(Error::not_in_state(format!("a view that it reads is suspended: {}", error.message))),
            None => plan_view(&core, relation),
        };
        let plan = match plan {
            Ok(plan) => plan,
            Err(error) => {
                tracing::error!(%error, view = relation.name, "a materialized view starts suspended");
                let status = ViewStatus::new(core.workers, None);
                status.fail(error);
                core.views.write().expect("no panic while held").insert(relation.id, Arc::new(status));
                continue;
            }
        };
        if plan.looks_up() {
            epochs_at_once = 1;
        }
        let fingerprint = plan.fingerprint();
        let own = manifest
            .map(|m| {
                m.parts.iter().filter(|p| p.relation == relation.id && p.fingerprint == fingerprint).collect::<Vec<_>>()
            })
            .unwrap_or_default();
        let saved_by = manifest.map_or(0, |m| m.workers);
        let sources_saved = plan.imports().iter().all(|id| match catalog.get(*id).map(|r| r.kind) {
            // A view that is still being filled cannot feed a live one epoch by epoch.
            Some(RelationKind::MaterializedView | RelationKind::Arrangement) => commit.restored.contains(id),
            _ => true,
        });
        if own.is_empty() || !sources_saved {
            commit.hydrate(relation.id, plan, view_options(relation))?;
            continue;
        }
        let mut parts = Parts::new();
        for part in own {
            let workers = parts.entry((part.node, part.slot)).or_insert_with(|| vec![Vec::new(); saved_by]);
            workers[part.worker] = part.blocks.clone();
        }
        commit.restored.insert(relation.id);
        let from = Start::Restore { at: start, parts: Arc::new(parts) };
        commit.start_view(relation.id, plan, from, view_options(relation))?;
    }
    // Not before all are known, so that the small ones need not wait for a large one.
    commit.workers.send(Command::Restore);
    // Replay, some epochs at a time.
    let mut group: Vec<LogEntry> = Vec::new();
    let mut rows = 0;
    for entry in core.store.replay(start) {
        let entry = entry?;
        rows += entry.changes.iter().flat_map(|c| &c.1).map(Delta::len).sum::<usize>();
        group.push(entry);
        if rows >= REPLAY_ROWS || group.len() >= epochs_at_once {
            replay(commit, std::mem::take(&mut group))?;
            rows = 0;
        }
    }
    replay(commit, group)
}

/// Hands a run of logged epochs to the tables and dataflows, under the last header.
fn replay(commit: &mut Commit, group: Vec<LogEntry>) -> Result<()> {
    let Some(last) = group.last() else { return Ok(()) };
    let mut header = last.header.clone();
    let epoch = header.epoch;
    let mut changes: BTreeMap<RelationId, Vec<Delta>> = BTreeMap::new();
    let mut touched = BTreeSet::new();
    for entry in group {
        touched.extend(entry.header.touched);
        for (id, position) in entry.positions {
            commit.positions.insert(id, position);
        }
        for (id, deltas) in entry.changes {
            if let Some(table) = commit.tables.get_mut(&id) {
                table.replay(&deltas, epoch)?;
            }
            if let Some(versions) = commit.versions.get_mut(&id) {
                versions.replay(&deltas, epoch)?;
            }
            changes.entry(id).or_default().extend(deltas);
        }
    }
    header.touched = touched.into_iter().collect();
    for (id, table) in &mut commit.tables {
        if changes.contains_key(id) {
            table.publish(epoch);
        }
    }
    commit.header = Arc::new(header);
    commit.core.set_committed(commit.header.clone());
    // All of it, so that tables and the server need not wait for views; its bytes are bounded still.
    commit.workers.feed(commit.header.clone(), changes, usize::MAX, &commit.core.cuts, false);
    Ok(())
}

/// Views that are filled anew join the others; a view that fails stays, to be seen and dropped. `epoch`: the last one that
/// was logged.
async fn finish_start(core: Arc<Core>, restored: BTreeSet<RelationId>, epoch: Epoch) {
    let views = core.views.read().expect("no panic while held").clone();
    for (&id, status) in views.iter().filter(|(id, _)| !restored.contains(id)) {
        core.progress.wait_until(|| status.failure().is_some() || status.hydrated().is_some()).await;
        if let Some(error) = status.failure() {
            tracing::error!(%error, id, "a view could not be filled");
            continue;
        }
        if core.ask(|reply| Request::CatchUp { id, join: true, reply }).await.is_err() {
            // Stopped meanwhile.
            return;
        }
    }
    let closed = |v: &ViewStatus| {
        let closed = |w| core.progress.processed(w) >= epoch && v.closed(w, epoch);
        v.failure().is_some() || !v.is_restoring() && (0..core.workers).all(closed)
    };
    core.progress.wait_until(|| views.values().all(|v| closed(v))).await;
    // Now their rows can be pinned.
    for relation in core.catalog().relations.values().filter(|relation| views.contains_key(&relation.id)) {
        core.past.pin(&core, relation);
    }
    core.progress.started();
    tracing::info!(epoch, "all views are back");
}

#[cfg(test)]
pub(crate) mod tests {
    use futures::StreamExt;

    use super::*;
    use crate::session::Outcome;

    /// Runs statements; how many rows they answer.
    pub(crate) async fn run(engine: &Arc<Engine>, text: &str) -> Result<usize> {
        let mut session = engine.session("tester", "millrace");
        let mut rows_seen = 0;
        for statement in session.parse(text)? {
            if let (_, Outcome::Rows { mut rows, .. }) = session.prepare_and_execute(statement).await? {
                while let Some(batch) = rows.next().await {
                    rows_seen += batch?.num_rows();
                }
            }
        }
        Ok(rows_seen)
    }

    /// Views are brought back while the engine is open already: nobody sees one half, or as of an epoch of before.
    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn what_is_asked_right_after_a_start_is_right() {
        let place = tempfile::tempdir().unwrap();
        let config = Config { workers: 2, checkpoint_interval: None, ..Config::new(place.path()) };
        let open = || tokio::task::block_in_place(|| Engine::open(config.clone()));
        let engine = open().unwrap();
        run(
            &engine,
            "CREATE STREAM s (k int, v int); CREATE TABLE t (k int PRIMARY KEY, name text);
             INSERT INTO t SELECT g, 'name ' || g FROM generate_series(0, 49) AS t(g);
             CREATE MATERIALIZED VIEW per_k AS SELECT k, count(*) AS n, max(v) AS v FROM s GROUP BY k;
             CREATE MATERIALIZED VIEW named AS SELECT name, n FROM per_k JOIN t USING (k);
             INSERT INTO s SELECT g % 50, g FROM generate_series(1, 100000) AS t(g)",
        )
        .await
        .unwrap();
        engine.shutdown().await.unwrap();
        engine.release().await;
        for round in 1..=4 {
            // Not in the checkpoint: these are filled anew. Then there is a log to be replayed over both kinds.
            let engine = open().unwrap();
            run(
                &engine,
                &format!(
                    "CREATE MATERIALIZED VIEW new_{round} AS SELECT name, sum(n) AS n FROM named GROUP BY name;
                     INSERT INTO s SELECT g % 50, g FROM generate_series(1, 500) AS t(g);
                     INSERT INTO t VALUES ({round}00, 'more')"
                ),
            )
            .await
            .unwrap();
            for _ in 0..5 {
                run(&engine, "INSERT INTO s SELECT g, 7 FROM generate_series(0, 49) AS t(g)").await.unwrap();
            }
            engine.crash().await;
            engine.release().await;
            let engine = open().unwrap();
            let n = 2000 + round * 15;
            let asked = [
                (format!("SELECT * FROM new_{round} WHERE n = {n}"), 50),
                (format!("SELECT * FROM named WHERE n = {n}"), 50),
                (format!("SELECT * FROM per_k WHERE n = {n} AND k = 7"), 1),
                (format!("BEGIN; SELECT * FROM t; SELECT * FROM new_{round} WHERE n = {n}; COMMIT"), 100 + round),
                ("SELECT * FROM s WHERE v = 7 AND k = 8".to_string(), 5 * round),
                (format!("CREATE MATERIALIZED VIEW beside_{round} AS SELECT n FROM named WHERE n = {n}"), 0),
            ];
            let asked = asked.map(|(text, rows)| {
                let engine = engine.clone();
                tokio::spawn(async move { (run(&engine, &text).await, rows, text) })
            });
            for answer in asked {
                let (seen, rows, text) = answer.await.unwrap();
                // It was fixed at an epoch of before the view's.
                if !matches!(&seen, Err(error) if error.code == "40001" && text.starts_with("BEGIN")) {
                    assert_eq!(seen.unwrap(), rows as usize, "{text}");
                }
            }
            assert_eq!(run(&engine, &format!("SELECT * FROM beside_{round}")).await.unwrap(), 50);
            engine.wait_started().await;
            for view in ["per_k".into(), "named".into(), format!("new_{round}"), format!("beside_{round}")] {
                assert_eq!(run(&engine, &format!("VERIFY MATERIALIZED VIEW {view}")).await.unwrap(), 0, "{view}");
            }
            assert_eq!(run(&engine, "SELECT * FROM mr_views WHERE state <> 'live'").await.unwrap(), 0);
            run(&engine, &format!("DROP MATERIALIZED VIEW new_{round}; DROP MATERIALIZED VIEW beside_{round}"))
                .await
                .unwrap();
            engine.shutdown().await.unwrap();
            engine.release().await;
        }
    }

    /// A block that is gone costs its view, until it is made anew; nothing else.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_block_that_cannot_be_read_suspends_its_view() {
        let place = tempfile::tempdir().unwrap();
        let config = Config { workers: 2, checkpoint_interval: None, ..Config::new(place.path()) };
        let open = || tokio::task::block_in_place(|| Engine::open(config.clone()));
        let engine = open().unwrap();
        run(
            &engine,
            "CREATE STREAM s (k int, v int); CREATE MATERIALIZED VIEW per_k AS SELECT k, sum(v) AS v FROM s GROUP BY k;
             CREATE MATERIALIZED VIEW above AS SELECT count(*) AS n FROM per_k;
             CREATE MATERIALIZED VIEW beside AS SELECT count(*) AS n FROM s;
             INSERT INTO s SELECT g % 50, g FROM generate_series(1, 1000) AS t(g)",
        )
        .await
        .unwrap();
        let view = engine.catalog().find("public", "per_k").unwrap().id;
        engine.shutdown().await.unwrap();
        engine.release().await;
        {
            let options = StoreOptions { create: false, sync: true, cache_bytes: 16 << 20 };
            let store = Store::open_with_faults(place.path(), options, None).unwrap();
            let manifest = store.newest_manifest().unwrap();
            let part = manifest.parts.iter().find(|part| part.relation == view && !part.blocks.is_empty()).unwrap();
            store.discard_blocks(&part.blocks).unwrap();
        }
        let engine = open().unwrap();
        for view in ["per_k", "above"] {
            // Its rows may be there before the operators' state, of which the block is.
            let select = format!("SELECT * FROM {view}");
            let error = tokio::time::timeout(Duration::from_secs(60), async {
                loop {
                    match run(&engine, &select).await {
                        Ok(_) => tokio::time::sleep(Duration::from_millis(5)).await,
                        Err(error) => return error,
                    }
                }
            });
            let error = error.await.expect("the view is suspended");
            assert!(error.code == "55000" && error.message.contains("it is missing"), "{error}");
        }
        assert_eq!(run(&engine, "SELECT * FROM beside WHERE n = 1000").await.unwrap(), 1);
        run(&engine, "INSERT INTO s VALUES (51, 1)").await.unwrap();
        for view in ["per_k", "above"] {
            run(&engine, &format!("ALTER MATERIALIZED VIEW {view} RESUME")).await.unwrap();
        }
        assert_eq!(run(&engine, "SELECT * FROM per_k").await.unwrap(), 51);
        assert_eq!(run(&engine, "SELECT * FROM above WHERE n = 51").await.unwrap(), 1);
        assert_eq!(run(&engine, "VERIFY MATERIALIZED VIEW per_k").await.unwrap(), 0);
        engine.shutdown().await.unwrap();
    }
}
