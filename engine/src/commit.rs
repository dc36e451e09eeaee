//! The commit path: one thread that makes epochs.
//!
//! Requests that wait are taken together: each is checked against the tables as they stand, then all are
//! logged as one epoch with one sync, answered, and handed to the workers. So concurrent writers share a
//! sync, and what is acknowledged is durable. Definitions and checkpoints come through here too, which
//! puts them at a definite place between two epochs.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::mpsc::{Sender as JobSender, channel as job_channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use arrow::array::{RecordBatch, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, FieldRef, Schema, TimeUnit};
use tokio::sync::{mpsc, oneshot};

use crate::catalog::{Catalog, LateRows, RelationId, RelationKind, StreamStart, Watermark};
use crate::checkpoint::{Checkpoints, Job, Work};
use crate::core::Core;
use crate::dataflow::feed::join_small;
use crate::dataflow::status::ViewStatus;
use crate::dataflow::view::{Start, ViewOptions, ViewSetup};
use crate::dataflow::worker::{Command, EPOCHS_AHEAD_MAX, Workers};
use crate::delta::Delta;
use crate::error::{Error, Result};
use crate::plan::Plan;
use crate::state::store::{CatalogChange, LogEntry};
use crate::state::table::Table;
use crate::state::versions::Versions;
use crate::time::{CLOCK, Epoch, EpochHeader};
use crate::waits::{Reason, Waiter};
use crate::watermark::{Admitted, Partition, admit, pass_time, times_of};

/// Rows that one epoch takes from waiting requests (a single request may be larger).
const EPOCH_ROWS_MAX: usize = 1 << 20;
const EPOCH_REQUESTS_MAX: usize = 1024;
/// What a checkpoint needs at most, as a rule.
const CHECKPOINT_ROOM_BYTES: u64 = 64 << 20;
/// Requests that may wait.
pub const REQUESTS_MAX: usize = 1024;
/// While a view looks at the time, it passes this often.
const TICK_INTERVAL: Duration = Duration::from_secs(1);

/// The last column of late rows that are kept.
const WATERMARK_MISSED: &str = "\u{1}watermark";

pub type Reply<T> = oneshot::Sender<Result<T>>;

/// Changes to streams and tables that become visible together.
#[derive(Default, Clone)]
pub struct Writes {
    pub changes: BTreeMap<RelationId, Vec<Delta>>,
    /// Rows of tables that must be there still.
    pub expected: BTreeMap<RelationId, Vec<RecordBatch>>,
    /// How far a source connector has been read with these rows.
    pub positions: Vec<(RelationId, Vec<u8>)>,
    /// The part of the source from which they come.
    pub partition: Partition,
}

impl Writes {
    fn rows(&self) -> usize {
        self.changes.values().flatten().map(Delta::len).sum()
    }

    /// In memory; in the log they take less.
    fn bytes(&self) -> u64 {
        self.changes.values().flatten().map(|delta| delta.bytes() as u64).sum()
    }
}

/// What is asked of all views at each epoch.
#[derive(Clone, Copy)]
struct Traits {
    /// One looks at the clock, or reads a stream whose watermark goes with it.
    looks_at_time: bool,
    /// One looks up rows as they are when others come.
    looks_up: bool,
}

/// A check of the catalog as it stands, giving the changes to be made.
pub type CatalogEdit = Box<dyn FnOnce(&Catalog) -> Result<Vec<CatalogChange>> + Send>;

pub enum Request {
    Write {
        writes: Writes,
        reply: Reply<Epoch>,
    },
    /// Fails when one of these rows has values of a unique key, by its number, that are taken.
    CheckFree {
        relation: RelationId,
        rows: Vec<(usize, RecordBatch)>,
        reply: Reply<()>,
    },
    /// Changes the catalog; `rows` are those of the table that it makes, in the same epoch.
    Catalog {
        edit: CatalogEdit,
        rows: Vec<(RelationId, Vec<Delta>)>,
        reply: Reply<Epoch>,
    },
    /// Starts to fill a view; it is in no catalog yet.
    Hydrate {
        id: RelationId,
        plan: Arc<Plan>,
        options: ViewOptions,
        reply: Reply<Arc<ViewStatus>>,
    },
    /// Lets it catch up to this epoch and then, with `join`, go live.
    CatchUp {
        id: RelationId,
        join: bool,
        reply: Reply<Epoch>,
    },
    /// Takes back a view that never came into the catalog.
    Abandon(RelationId),
    Checkpoint {
        reply: Reply<Epoch>,
    },
    /// Lets time pass for those who look at it, now.
    Tick {
        reply: Reply<Epoch>,
    },
    /// Ends the thread; with a checkpoint, or as a crash would.
    Stop {
        checkpoint: bool,
        reply: Reply<()>,
    },
}

pub struct Commit {
    pub core: Arc<Core>,
    pub workers: Arc<Workers>,
    pub tables: BTreeMap<RelationId, Table>,
    /// Of the streams that have them.
    pub versions: BTreeMap<RelationId, Versions>,
    pub header: Arc<EpochHeader>,
    pub positions: BTreeMap<RelationId, Vec<u8>>,
    pub plans: BTreeMap<RelationId, Arc<Plan>>,
    /// What follows from the plans and the catalog; `None` after either has changed.
    traits: Option<Traits>,
    /// Views that recovery took from the checkpoint.
    pub restored: BTreeSet<RelationId>,
    pub checkpoint_interval: Option<Duration>,
    /// Rows are logged.
    log: bool,
    checkpointed: (Epoch, Instant),
    ticked: Instant,
    /// Committed, not yet handed to the workers: answers go first.
    unforwarded: Option<(Arc<EpochHeader>, BTreeMap<RelationId, Vec<Delta>>)>,
    jobs: JobSender<Work>,
    writer: Option<std::thread::JoinHandle<()>>,
    busy: Arc<Mutex<()>>,
}

impl Commit {
    pub fn new(
        core: Arc<Core>,
        workers: Arc<Workers>,
        tables: BTreeMap<RelationId, Table>,
        header: Arc<EpochHeader>,
        checkpoints: Checkpoints,
        checkpoint_interval: Option<Duration>,
        log: bool,
    ) -> Result<Self> {
        let (jobs, receiver) = job_channel::<Work>();
        let busy = Arc::new(Mutex::new(()));
        let writer = {
            let (core, busy) = (core.clone(), busy.clone());
            std::thread::Builder::new()
                .name("millrace-checkpoint".into())
                .spawn(move || checkpoints.run(&core, &receiver, &busy))?
        };
        Ok(Commit {
            checkpointed: (header.epoch, Instant::now()),
            ticked: Instant::now(),
            unforwarded: None,
            core,
            workers,
            tables,
            versions: BTreeMap::new(),
            header,
            positions: BTreeMap::new(),
            plans: BTreeMap::new(),
            traits: None,
            restored: BTreeSet::new(),
            checkpoint_interval,
            log,
            jobs,
            writer: Some(writer),
            busy,
        })
    }

    /// Serves requests until told to stop.
    pub fn run(mut self, mut requests: mpsc::Receiver<Request>) {
        // Only to wait with a time limit; the engine's own runtime may end before this thread.
        let clock =
            tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime without threads");
        loop {
            let request = match self.due() {
                None => requests.blocking_recv(),
                Some(due) => {
                    let due = due.max(Duration::from_millis(10));
                    match clock.block_on(async { tokio::time::timeout(due, requests.recv()).await }) {
                        Ok(request) => request,
                        Err(_) => {
                            self.tick_if_due();
                            self.checkpoint_if_due();
                            continue;
                        }
                    }
                }
            };
            let Some(mut request) = request else { break };
            // Writes that wait together share an epoch; whatever else comes keeps its place.
            let mut writes = Vec::new();
            let mut rows = 0;
            loop {
                match request {
                    Request::Write { writes: w, reply } => {
                        rows += w.rows();
                        writes.push((w, reply));
                    }
                    other => {
                        self.write(std::mem::take(&mut writes));
                        rows = 0;
                        if let Some(stopped) = self.handle(other) {
                            // Told last: then nothing of this thread holds the data directory any more.
                            drop(self);
                            let _ = stopped.send(Ok(()));
                            return;
                        }
                    }
                }
                if rows >= EPOCH_ROWS_MAX || writes.len() >= EPOCH_REQUESTS_MAX {
                    break;
                }
                match requests.try_recv() {
                    Ok(next) => request = next,
                    Err(_) => break,
                }
            }
            self.write(writes);
            self.tick_if_due();
            self.checkpoint_if_due();
        }
    }

    /// How long until there is something to be done without a request.
    fn due(&mut self) -> Option<Duration> {
        let checkpoint =
            self.checkpoint_interval.map(|interval| interval.saturating_sub(self.checkpointed.1.elapsed()));
        let tick = self.traits().looks_at_time.then(|| TICK_INTERVAL.saturating_sub(self.ticked.elapsed()));
        checkpoint.into_iter().chain(tick).min()
    }

    /// Returns whom to tell once stopped, when told to stop.
    fn handle(&mut self, request: Request) -> Option<Reply<()>> {
        match request {
            Request::Write { .. } => unreachable!("taken by the loop"),
            Request::CheckFree { relation, rows, reply } => {
                let result = match self.tables.get_mut(&relation) {
                    Some(table) => rows.iter().try_for_each(|(key, rows)| table.check_free(*key, rows)),
                    None => Err(Error::undefined_relation(format!("#{relation}"))),
                };
                let _ = reply.send(result);
            }
            Request::Catalog { edit, rows, reply } => {
                let result = self.edit_catalog(edit, rows);
                let _ = reply.send(result);
            }
            Request::Hydrate { id, plan, options, reply } => {
                // A suspended one is filled anew. Those that read it cannot go on from what it had: each is suspended too,
                // even if no worker has come to that yet.
                if let Some(reason) = self.core.view(id).and_then(|view| view.failure()) {
                    self.suspend_above(id, &reason);
                }
                self.workers.send(Command::Drop(id));
                // The clock may have stood still while nobody looked at it.
                let ticked = if plan.reads_clock() { self.tick().map(|_| ()) } else { Ok(()) };
                let result = ticked.and_then(|()| self.hydrate(id, plan, options));
                let _ = reply.send(result);
            }
            Request::CatchUp { id, join, reply } => {
                self.workers.send(Command::CatchUp { id, join });
                let _ = reply.send(Ok(self.header.epoch));
            }
            // A statement may be cancelled when its view is in the catalog already: then the view stays.
            Request::Abandon(id) if self.core.catalog().get(id).is_some() => {}
            Request::Abandon(id) => {
                self.plans.remove(&id);
                self.traits = None;
                self.core.views.write().expect("no panic while held").remove(&id);
                self.workers.send(Command::Drop(id));
            }
            Request::Tick { reply } => {
                let _ = reply.send(self.tick());
            }
            Request::Checkpoint { reply } => match self.core.failure() {
                Some(error) => _ = reply.send(Err(error)),
                None => match self.core.store.room(CHECKPOINT_ROOM_BYTES) {
                    Ok(()) => self.checkpoint(Some(reply)),
                    Err(error) => _ = reply.send(Err(error)),
                },
            },
            Request::Stop { checkpoint, reply } => {
                let room = self.core.store.room(CHECKPOINT_ROOM_BYTES).is_ok();
                // While it starts the log holds all there is to hold.
                if checkpoint
                    && !self.core.progress.is_starting()
                    && room
                    && self.log
                    && self.core.failure().is_none()
                    && self.header.epoch > self.checkpointed.0
                {
                    let (done, wait) = oneshot::channel();
                    self.checkpoint(Some(done));
                    let _ = wait.blocking_recv();
                }
                self.workers.stop();
                let (closed, _) = job_channel();
                self.jobs = closed;
                if let Some(writer) = self.writer.take() {
                    let _ = writer.join();
                }
                return Some(reply);
            }
        }
        None
    }

    fn suspend_above(&self, id: RelationId, reason: &Error) {
        let reason = Error::not_in_state(format!("a view that it reads is suspended: {}", reason.message));
        let above = self.plans.iter().filter(|(_, plan)| plan.imports().contains(&id));
        for view in above.filter_map(|(above, _)| self.core.view(*above)) {
            view.fail(reason.clone());
        }
    }

    /// The header of the next epoch, in which nothing has happened yet.
    fn next_header(&self) -> EpochHeader {
        EpochHeader {
            epoch: self.header.epoch + 1,
            now_us: self.core.clock_us().max(self.header.now_us),
            touched: Vec::new(),
            clock_us: self.header.clock_us,
            watermarks: self.header.watermarks.clone(),
        }
    }

    fn traits(&mut self) -> Traits {
        if let Some(traits) = self.traits {
            return traits;
        }
        let catalog = self.core.catalog();
        let idle = catalog.relations.values().filter(|r| r.watermark.as_ref().is_some_and(|w| w.idle_us.is_some()));
        let idle: BTreeSet<RelationId> = idle.map(|stream| stream.id).collect();
        let reads_idle = |plan: &Plan| !idle.is_empty() && plan.imports().iter().any(|id| idle.contains(id));
        let traits = Traits {
            looks_at_time: self.plans.values().any(|plan| plan.reads_clock() || reads_idle(plan)),
            looks_up: self.plans.values().any(|plan| plan.looks_up()),
        };
        *self.traits.insert(traits)
    }

    fn tick_if_due(&mut self) {
        if self.ticked.elapsed() >= TICK_INTERVAL && self.traits().looks_at_time {
            // Said where it was found out.
            let _ = self.tick();
        }
    }

    /// Lets time pass, in an epoch without rows. Returns the last epoch.
    fn tick(&mut self) -> Result<Epoch> {
        self.ticked = Instant::now();
        if let Some(error) = self.core.failure() {
            return Err(error);
        }
        let mut header = self.next_header();
        if header.now_us > header.clock_us {
            header.clock_us = header.now_us;
            header.touched.push(CLOCK);
        }
        let catalog = self.core.catalog();
        for time in &mut header.watermarks {
            let Some(w) = catalog.get(time.stream).and_then(|r| r.watermark.as_ref()) else { continue };
            if w.idle_us.is_some() && pass_time(time, w, header.now_us) {
                header.touched.push(time.stream);
            }
        }
        if header.touched.is_empty() {
            return Ok(self.header.epoch);
        }
        let epoch = self.commit(LogEntry { header, changes: vec![], positions: vec![], catalog: vec![] })?;
        self.forward();
        Ok(epoch)
    }

    fn write(&mut self, requests: Vec<(Writes, Reply<Epoch>)>) {
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
            let gone = |rows: &RecordBatch| self.tables.get(id).is_none_or(|table| !table.has_all(rows));
            if rows.iter().any(gone) {
                return Err(Error::new("40001", "could not serialize access due to concurrent update"));
            }
        }
        let mut checked = Vec::new();
        for (&id, deltas) in &writes.changes {
            checked.push(match (self.tables.get_mut(&id), self.versions.get_mut(&id)) {
                (Some(table), _) => (id, Some(table.check(deltas)?)),
                (None, Some(versions)) => (id, Some(versions.check(deltas)?)),
                (None, None) => (id, None),
            });
        }
        let mut logged: Vec<(RelationId, Vec<Delta>)> = Vec::new();
        for (id, checked) in checked {
            let deltas = match (checked, self.tables.get_mut(&id)) {
                (None, _) => writes.changes[&id].clone(),
                (Some(checked), Some(table)) => table.change(checked, epoch),
                (Some(checked), None) => {
                    self.versions.get_mut(&id).expect("checked just now").change(checked, epoch);
                    writes.changes[&id].clone()
                }
            };
            logged.push((id, deltas));
        }
        logged.retain(|(_, deltas)| deltas.iter().any(|d| !d.is_empty()));
        Ok(logged)
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

    /// Logs an epoch and shows it.
    fn commit(&mut self, entry: LogEntry) -> Result<Epoch> {
        let logged = if self.log || !entry.catalog.is_empty() { self.core.store.append(&entry) } else { Ok(()) };
        if let Err(error) = logged {
            tracing::error!(%error, "the log cannot be written; no more writes are taken");
            self.core.fail(error.clone());
            return Err(error);
        }
        self.header = Arc::new(entry.header.clone());
        let epoch = self.header.epoch;
        for (id, _) in &entry.changes {
            if let Some(table) = self.tables.get_mut(id) {
                table.publish(epoch);
            }
        }
        self.unforwarded = Some((self.header.clone(), entry.changes.into_iter().collect()));
        self.core.set_committed(self.header.clone());
        self.core.progress.tick();
        Ok(epoch)
    }

    /// Hands the epoch just committed to the workers; waits when they are behind.
    fn forward(&mut self) {
        if let Some((header, changes)) = self.unforwarded.take() {
            let together = !self.core.past.keeps_views() && !self.traits().looks_up;
            let _waiting = self.core.waits.begin(Waiter::Commit, Reason::Workers, None);
            self.workers.feed(header, changes, EPOCHS_AHEAD_MAX, &self.core.cuts, together);
        }
    }

    fn edit_catalog(&mut self, edit: CatalogEdit, rows: Vec<(RelationId, Vec<Delta>)>) -> Result<Epoch> {
        if let Some(error) = self.core.failure() {
            return Err(error);
        }
        let before = self.core.catalog();
        let changes = edit(&before)?;
        let made_only = |change: &CatalogChange| !matches!(change, CatalogChange::Drop(_));
        if changes.iter().all(made_only) {
            // Dropping makes room.
            self.core.store.room(rows.iter().flat_map(|r| &r.1).map(|delta| delta.bytes() as u64).sum())?;
        }
        if changes.is_empty() {
            return Ok(self.header.epoch);
        }
        let mut after = (*before).clone();
        for change in &changes {
            match change {
                CatalogChange::Put(relation) => {
                    after.relations.insert(relation.id, Arc::new((**relation).clone()));
                }
                CatalogChange::Drop(id) => {
                    after.relations.remove(id);
                }
                CatalogChange::PutSchema { name, id } => {
                    after.schemas.insert(name.clone(), *id);
                }
                CatalogChange::DropSchema { name } => {
                    after.schemas.remove(name);
                }
                CatalogChange::Meta { .. } => {}
            }
        }
        // Tables are made before anyone can see them.
        let (mut made, mut versions) = (Vec::new(), Vec::new());
        // A table whose definition changes keeps its columns, and may have other keys.
        let mut changed = Vec::new();
        for change in &changes {
            if let CatalogChange::Put(relation) = change
                && let Some(table) = self.tables.get(&relation.id)
            {
                changed.push((after.relations[&relation.id].clone(), table.keyed_as(relation)?));
            }
        }
        for (id, relation) in &after.relations {
            if relation.kind == RelationKind::Table && !self.tables.contains_key(id) {
                made.push((*id, Table::new(relation.clone())?));
            }
            if relation.kind == RelationKind::Stream && !self.versions.contains_key(id) {
                versions.extend(Versions::new(relation)?.map(|versions| (*id, versions)));
            }
        }
        let mut header = self.next_header();
        header.touched = rows.iter().map(|(id, _)| *id).collect();
        header.watermarks.retain(|time| after.relations.contains_key(&time.stream));
        let mut filled = Vec::new();
        for (id, deltas) in rows {
            let (_, table) =
                made.iter_mut().find(|(made, _)| *made == id).expect("rows come with the table that has them");
            let checked = table.check(&deltas)?;
            filled.push((id, table.change(checked, header.epoch)));
        }
        let entry = LogEntry { header, changes: filled, positions: vec![], catalog: changes.clone() };
        for (id, mut table) in made {
            table.publish(entry.header.epoch);
            self.core.tables.write().expect("no panic while held").insert(id, table.reader());
            self.tables.insert(id, table);
        }
        self.versions.extend(versions);
        let epoch = self.commit(entry)?;
        for (relation, keyed) in changed {
            self.tables.get_mut(&relation.id).expect("seen just now").become_relation(relation, keyed);
        }
        let after = Arc::new(after);
        // Plans are good as long as the catalog is the same one: numbers that are reserved change nothing in it.
        if !changes.iter().all(|change| matches!(change, CatalogChange::Meta { .. })) {
            self.core.set_catalog(after.clone());
            self.traits = None;
        }
        for id in after.relations.keys().filter(|id| !self.core.past.knows(**id)) {
            self.core.past.note(&self.core, &after.relations[id], epoch);
        }
        self.forward();
        for change in &changes {
            if let CatalogChange::Drop(id) = change {
                self.forget(*id);
            }
        }
        Ok(epoch)
    }

    fn forget(&mut self, id: RelationId) {
        if self.plans.remove(&id).is_some() {
            self.traits = None;
            self.workers.send(Command::Drop(id));
        }
        if let Some(view) = self.core.views.write().expect("no panic while held").remove(&id) {
            // Whoever waits for it waits in vain.
            view.fail(Error::new("57P05", "it has been dropped"));
        }
        self.core.absolve(id);
        self.core.tables.write().expect("no panic while held").remove(&id);
        self.tables.remove(&id);
        self.versions.remove(&id);
        self.positions.remove(&id);
        self.core.past.forget(id);
        if let Err(error) = self.core.store.drop_relation_log(id) {
            tracing::warn!(%error, id, "the log of a dropped relation could not be deleted; the next start does it");
        }
    }

    /// Makes the view's dataflow at this epoch, to be filled.
    pub fn hydrate(&mut self, id: RelationId, plan: Arc<Plan>, mut options: ViewOptions) -> Result<Arc<ViewStatus>> {
        for source in plan.imports() {
            let trimmed = self.core.past.settle(&self.core, source)?.trimmed;
            let start = options.starts.entry(source).or_default();
            // Nothing of a table is read from the log here.
            if trimmed > start.after {
                *start = StreamStart::after(trimmed);
            }
        }
        let tables = (0..self.workers.count())
            .map(|_| {
                let pins = plan.imports().into_iter().filter_map(|id| {
                    let pin = self.tables.get(&id)?.reader().pin(self.header.epoch);
                    Some((id, pin.expect("the tables' last published epoch is not later")))
                });
                Mutex::new(pins.collect())
            })
            .collect();
        let start = Start::Hydrate { header: self.header.clone(), tables };
        self.start_view(id, plan, start, options)
    }

    pub fn start_view(
        &mut self,
        id: RelationId,
        plan: Arc<Plan>,
        start: Start,
        options: ViewOptions,
    ) -> Result<Arc<ViewStatus>> {
        let catalog = self.core.catalog();
        let mut bases = BTreeSet::new();
        let mut table_keys = BTreeMap::new();
        for source in plan.imports() {
            let Some(relation) = catalog.get(source) else {
                // A view that is being made with this one.
                if !self.plans.contains_key(&source) {
                    return Err(Error::undefined_relation(format!("#{source}")));
                }
                bases.extend(self.core.bases_of(source));
                continue;
            };
            match relation.kind {
                RelationKind::MaterializedView => bases.extend(self.core.bases_of(source)),
                RelationKind::Table => {
                    let schema = relation.arrow_schema();
                    let types = schema.fields().iter().map(|f| f.data_type().clone()).collect();
                    let key = match &relation.primary_key[..] {
                        [] => (0..schema.fields().len()).collect(),
                        key => key.to_vec(),
                    };
                    table_keys.insert(source, (types, key));
                    bases.insert(source);
                }
                _ => {
                    bases.insert(source);
                }
            }
        }
        if plan.reads_clock() {
            bases.insert(CLOCK);
        }
        let status = Arc::new(ViewStatus::new(self.workers.count(), Some(plan.clone())));
        self.core.set_bases(id, bases.clone());
        self.core.views.write().expect("no panic while held").insert(id, status.clone());
        self.plans.insert(id, plan.clone());
        self.traits = None;
        let setup = ViewSetup { id, plan, start, status: status.clone(), bases, options, table_keys };
        self.workers.send(Command::Create(Arc::new(setup)));
        Ok(status)
    }

    fn checkpoint_if_due(&mut self) {
        let Some(interval) = self.checkpoint_interval else { return };
        // Workers take nothing in while one is due, and cannot give theirs before all views are back.
        if self.checkpointed.1.elapsed() < interval || self.core.progress.is_starting() {
            return;
        }
        // One at a time; nothing to do when nothing has happened.
        let writing = self.busy.try_lock().is_err();
        let nothing_new = self.header.epoch == self.checkpointed.0;
        // Not begun: what is saved once must be written, or memory and disk part.
        let no_room = self.core.store.room(CHECKPOINT_ROOM_BYTES).is_err();
        if writing || nothing_new || no_room || self.core.failure().is_some() {
            self.checkpointed.1 = Instant::now();
            if !writing && nothing_new {
                let _ = self.jobs.send(Work::Tidy);
            }
            return;
        }
        self.checkpoint(None);
    }

    fn checkpoint(&mut self, reply: Option<Reply<Epoch>>) {
        let (sender, receiver) = job_channel();
        let catalog = self.core.catalog();
        // A view that is not in the catalog yet keeps what it has to save.
        let views =
            catalog.relations.values().filter(|r| r.kind == RelationKind::MaterializedView).map(|r| r.id).collect();
        self.workers.send(Command::Checkpoint(Arc::new(views), sender));
        let tables = self.tables.iter_mut().map(|(id, table)| (*id, table.save())).collect();
        let mut fingerprints: BTreeMap<RelationId, u64> = BTreeMap::new();
        for relation in catalog.relations.values() {
            match self.plans.get(&relation.id) {
                Some(plan) => fingerprints.insert(relation.id, plan.fingerprint()),
                None => fingerprints.insert(relation.id, 0),
            };
        }
        let positions = self.positions.iter().map(|(id, p)| (*id, p.clone())).collect();
        let versions = self.versions.iter_mut().map(|(id, versions)| (*id, versions.save())).collect();
        let job = Job { epoch: self.header.epoch, tables, versions, workers: receiver, positions, fingerprints };
        self.checkpointed = (self.header.epoch, Instant::now());
        if self.jobs.send(Work::Checkpoint(job, reply)).is_err() {
            tracing::error!("the checkpoint writer is gone");
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
