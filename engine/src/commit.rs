//! The commit path: one thread that makes epochs.
//!
//! Requests that wait are taken together: each is checked against the tables as they stand, then all are
//! logged as one epoch with one sync, answered, and handed to the workers. So concurrent writers share a
//! sync, and what is acknowledged is durable. Definitions and checkpoints come through here too, which
//! puts them at a definite place between two epochs.

mod definitions;
pub(crate) mod references;
mod writes;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::mpsc::{Sender as JobSender, channel as job_channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use arrow::array::RecordBatch;
use tokio::sync::{mpsc, oneshot};

use crate::catalog::{Catalog, RelationId};
use crate::checkpoint::{Checkpoints, Job, Work};
use crate::core::Core;
use crate::dataflow::status::ViewStatus;
use crate::dataflow::view::ViewOptions;
use crate::dataflow::worker::{Command, EPOCHS_AHEAD_MAX, Workers};
use crate::delta::Delta;
use crate::error::{Error, Result};
use crate::plan::Plan;
use crate::state::store::{CatalogChange, LogEntry};
use crate::state::table::Table;
use crate::state::versions::Versions;
use crate::time::{CLOCK, Epoch, EpochHeader};
use crate::waits::{Reason, Waiter};
use crate::watermark::{Partition, pass_time};

/// Rows that one epoch takes from waiting requests (a single request may be larger).
const EPOCH_ROWS_MAX: usize = 1 << 20;
const EPOCH_REQUESTS_MAX: usize = 1024;
/// What a checkpoint needs at most, as a rule.
const CHECKPOINT_ROOM_BYTES: u64 = 64 << 20;
/// Requests that may wait.
pub const REQUESTS_MAX: usize = 1024;
/// While a view looks at the time, it passes this often.
const TICK_INTERVAL: Duration = Duration::from_secs(1);

pub use references::Question;

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

/// Of a SERIALIZABLE transaction that may be committed, and has not been yet.
pub struct Committing {
    pub changes: BTreeMap<RelationId, Vec<Delta>>,
    /// Locked until it has been.
    pub ended: Arc<tokio::sync::Mutex<()>>,
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
    /// What its foreign keys are to be checked against.
    Keys {
        questions: Vec<Question>,
        reply: Reply<Vec<Vec<bool>>>,
    },
    /// Fails with 40001 unless the table has all of these rows.
    CheckThere {
        relation: RelationId,
        rows: Vec<RecordBatch>,
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
            Request::Keys { questions, reply } => {
                let answers = questions.into_iter().map(|question| self.answer(question)).collect();
                let _ = reply.send(answers);
            }
            Request::CheckThere { relation, rows, reply } => {
                let _ = reply.send(match self.tables.contains_key(&relation) {
                    true => self.check_there(relation, &rows),
                    false => Err(Error::undefined_relation(format!("#{relation}"))),
                });
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
        let views = catalog.relations.values().filter(|r| self.plans.contains_key(&r.id)).map(|r| r.id).collect();
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
