//! A worker: takes commands in their order, feeds its views, steps Timely, parks when there is nothing to do.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::sync::{Arc, Mutex, Weak};
use std::thread::Thread;
use std::time::{Duration, Instant};

use timely::worker::Worker;
use tokio::sync::Notify;

use super::feed::{Backlog, EpochInput, Load, Slot, bytes};
use super::view::{Sources, Span, View, ViewSetup};
use crate::catalog::RelationId;
use crate::cuts::Cuts;
use crate::delta::Delta;
use crate::error::{Error, Result};
use crate::state::arrangement::Shared;
use crate::state::durable::Saved;
use crate::state::indexed_rows::IndexedRows;
use crate::state::store::Store;
use crate::time::{Epoch, EpochHeader};

/// Epochs that workers may have been given before all live views have taken them in.
pub const EPOCHS_AHEAD_MAX: usize = 128;

/// How often views' memory is looked at.
const MEASURE_INTERVAL: Duration = Duration::from_millis(500);

/// A live view was given rows so lately that hydrations leave time to it.
const LIVE_LATELY: Duration = Duration::from_millis(100);
/// A hydration rests at most so long.
const REST_MAX: Duration = Duration::from_millis(5);

pub enum Command {
    Epoch(Arc<Slot>),
    Create(Arc<ViewSetup>),
    /// All views that a checkpoint has are made: bring them back.
    Restore,
    /// A hydrating view catches up to the epoch that was given last and then, with `join`, goes live.
    CatchUp {
        id: RelationId,
        join: bool,
    },
    Drop(RelationId),
    /// Save these views' state as of the epoch that was given last.
    Checkpoint(Arc<BTreeSet<RelationId>>, Sender<WorkerParts>),
    Stop,
}

impl Clone for Command {
    fn clone(&self) -> Self {
        match self {
            Command::Epoch(e) => Command::Epoch(e.clone()),
            Command::Create(s) => Command::Create(s.clone()),
            Command::Restore => Command::Restore,
            Command::CatchUp { id, join } => Command::CatchUp { id: *id, join: *join },
            Command::Drop(id) => Command::Drop(*id),
            Command::Checkpoint(views, reply) => Command::Checkpoint(views.clone(), reply.clone()),
            Command::Stop => Command::Stop,
        }
    }
}

/// What one worker has to save: per view its parts by (plan node, slot).
pub struct WorkerParts {
    pub worker: usize,
    pub views: Vec<(RelationId, Vec<((u32, u32), Saved)>)>,
}

/// How far the workers are, for those who wait.
pub struct Progress {
    processed: Vec<AtomicU64>,
    changed: Notify,
    /// Recovery is under way.
    starting: AtomicBool,
}

impl Progress {
    pub fn new(workers: usize, epoch: Epoch) -> Self {
        Progress {
            processed: (0..workers).map(|_| AtomicU64::new(epoch)).collect(),
            changed: Notify::new(),
            starting: AtomicBool::new(true),
        }
    }
    /// `worker` has been given everything up to this epoch.
    pub fn processed(&self, worker: usize) -> Epoch {
        self.processed[worker].load(Ordering::Acquire)
    }
    /// Recovery is over.
    pub fn started(&self) {
        self.starting.store(false, Ordering::Release);
        self.tick();
    }
    /// Recovery is under way: some view is not back yet.
    pub fn is_starting(&self) -> bool {
        self.starting.load(Ordering::Acquire)
    }
    pub fn tick(&self) {
        self.changed.notify_waiters();
    }
    /// Waits until `done`, which is asked again whenever a worker has moved.
    pub async fn wait_until(&self, mut done: impl FnMut() -> bool) {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if done() {
                return;
            }
            changed.await;
        }
    }
}

/// The running workers.
pub struct Workers {
    senders: Vec<Sender<Command>>,
    threads: Vec<Thread>,
    backlog: Arc<Backlog>,
    backlog_bytes_max: usize,
    /// What was sent last, if it is an epoch that some worker has yet to take: the next one may join it.
    last: Mutex<Weak<Slot>>,
    handle: Mutex<Option<std::thread::JoinHandle<()>>>,
}

impl Workers {
    /// `backlog_bytes_max`: what may wait for live views before whoever gives more waits too.
    pub fn start(
        count: usize,
        store: Arc<Store>,
        progress: Arc<Progress>,
        backlog_bytes_max: usize,
    ) -> Result<Workers> {
        let (senders, receivers): (Vec<_>, Vec<_>) = (0..count).map(|_| channel()).unzip();
        let receivers: Vec<Mutex<Option<Receiver<Command>>>> =
            receivers.into_iter().map(|r| Mutex::new(Some(r))).collect();
        let (ready, threads) = std::sync::mpsc::channel();
        let ready = Mutex::new(ready);
        let config = match count {
            1 => timely::Config::thread(),
            n => timely::Config::process(n),
        };
        let guards = timely::execute(config, move |worker| {
            let _abort = AbortOnPanic { store: store.clone(), progress: progress.clone() };
            let index = worker.index();
            let receiver = receivers[index].lock().expect("taken once").take().expect("taken once");
            ready
                .lock()
                .expect("no panic while held")
                .send((index, std::thread::current()))
                .expect("the starter waits");
            run(worker, receiver, store.clone(), progress.clone());
        })
        .map_err(Error::internal)?;
        let mut found: Vec<(usize, Thread)> = threads.iter().take(count).collect();
        found.sort_by_key(|t| t.0);
        // Dropping the guards waits for the workers to end; a thread does that.
        let handle = std::thread::Builder::new().name("millrace-workers".into()).spawn(move || drop(guards))?;
        Ok(Workers {
            senders,
            threads: found.into_iter().map(|t| t.1).collect(),
            backlog: Arc::default(),
            backlog_bytes_max,
            last: Mutex::default(),
            handle: Mutex::new(Some(handle)),
        })
    }

    pub fn count(&self) -> usize {
        self.senders.len()
    }

    /// Gives an epoch to all workers, `together` with those before it that they have not taken yet; waits while `epochs_max`
    /// or too many bytes are before them.
    pub fn feed(
        &self,
        header: Arc<EpochHeader>,
        mut changes: BTreeMap<RelationId, Vec<Delta>>,
        epochs_max: usize,
        cuts: &Cuts,
        together: bool,
    ) {
        let last = self.last.lock().expect("no panic while held").upgrade();
        let mut joined = false;
        cuts.pass(header.epoch, || {
            let slot = last.as_ref().filter(|_| together)?;
            match slot.add(&header, std::mem::take(&mut changes), self.backlog_bytes_max) {
                Ok(first) => {
                    joined = true;
                    Some(first)
                }
                Err(back) => {
                    changes = back;
                    None
                }
            }
        });
        if joined {
            return;
        }
        // What is waited for below may be in it.
        drop(last);
        let load = Load::add(&self.backlog, bytes(&changes), epochs_max, self.backlog_bytes_max);
        let slot = Arc::new(Slot::new(header, changes, load));
        *self.last.lock().expect("no panic while held") = Arc::downgrade(&slot);
        self.send_to_all(&Command::Epoch(slot));
    }

    /// To all workers.
    pub fn send(&self, command: Command) {
        *self.last.lock().expect("no panic while held") = Weak::new();
        self.send_to_all(&command);
    }

    fn send_to_all(&self, command: &Command) {
        for (sender, thread) in self.senders.iter().zip(&self.threads) {
            // A worker that is gone has brought the process down or has been stopped.
            let _ = sender.send(command.clone());
            thread.unpark();
        }
    }

    /// Ends the workers and waits for them.
    pub fn stop(&self) {
        self.send(Command::Stop);
        if let Some(handle) = self.handle.lock().expect("no panic while held").take() {
            let _ = handle.join();
        }
    }
}

/// Better down than wrong: what a worker leaves behind by a panic cannot be trusted.
struct AbortOnPanic {
    store: Arc<Store>,
    progress: Arc<Progress>,
}
impl Drop for AbortOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let view = RUNNING.get();
            tracing::error!(view, "a worker panicked; the process ends and will recover from its log");
            // The next start would end the same way: there it starts suspended.
            if let Some(view) = view.filter(|_| self.progress.is_starting()) {
                self.store.suspect(view);
            }
            std::process::abort();
        }
    }
}

thread_local! {
    /// The view whose code runs on this worker.
    pub static RUNNING: Cell<Option<RelationId>> = const { Cell::new(None) };
}

struct State {
    store: Arc<Store>,
    progress: Arc<Progress>,
    index: usize,
    /// The last epoch taken in; the views' operators look at it too.
    processed: Rc<Cell<Epoch>>,
    /// Views are brought back from the checkpoint.
    restoring: bool,
    /// In order of their ids, which is an order of dependency.
    views: BTreeMap<RelationId, Rc<RefCell<View>>>,
    headers: Rc<RefCell<BTreeMap<Epoch, Arc<EpochHeader>>>>,
    /// Epochs that some live view has yet to take in, with the number of those.
    inputs: BTreeMap<Epoch, (Arc<EpochInput>, usize)>,
    /// When a live view was given rows last.
    given_at: Option<Instant>,
    /// Hydrations are not fed before.
    rest_until: Option<Instant>,
    /// One was fed in this turn.
    filled: bool,
}

impl Sources for State {
    fn processed(&self) -> Epoch {
        self.processed.get()
    }
    fn view_open(&self, id: RelationId) -> Option<Epoch> {
        self.views.get(&id).map(|v| v.borrow().first_open(self.processed.get()))
    }
    fn view_changes(&self, id: RelationId, epoch: Epoch) -> Rc<Vec<Delta>> {
        self.views[&id].borrow().changes(epoch)
    }
    fn view_reader(&self, id: RelationId) -> Option<Arc<Shared>> {
        self.views.get(&id).map(|v| v.borrow().reader())
    }
    fn view_rows(&self, id: RelationId) -> Option<Rc<RefCell<IndexedRows>>> {
        self.views.get(&id).map(|v| v.borrow().rows())
    }
    fn view_failure(&self, id: RelationId) -> Option<Error> {
        self.views.get(&id).and_then(|v| v.borrow().failure())
    }
    fn base_changes(&self, id: RelationId, epoch: Epoch) -> Vec<Delta> {
        self.inputs.get(&epoch).and_then(|(input, _)| input.changes.get(&id)).cloned().unwrap_or_default()
    }
    fn store(&self) -> &Arc<Store> {
        &self.store
    }
}

fn run(worker: &mut Worker, commands: Receiver<Command>, store: Arc<Store>, progress: Arc<Progress>) {
    let index = worker.index();
    let mut state = State {
        store,
        processed: Rc::new(Cell::new(progress.processed(index))),
        progress,
        index,
        restoring: false,
        views: BTreeMap::new(),
        headers: Rc::new(RefCell::new(BTreeMap::new())),
        inputs: BTreeMap::new(),
        given_at: None,
        rest_until: None,
        filled: false,
    };
    let mut saving: Option<Saving> = None;
    // One more checkpoint: it is of what has been given by now, so nothing more is taken.
    let mut next = None;
    let mut measured = Instant::now();
    'running: loop {
        let began = Instant::now();
        while next.is_none() {
            match commands.try_recv() {
                Ok(Command::Stop) | Err(TryRecvError::Disconnected) => break 'running,
                Ok(Command::Checkpoint(views, reply)) => next = Some((views, reply)),
                Ok(command) => state.take(command, worker),
                Err(TryRecvError::Empty) => break,
            }
        }
        let mut moved = state.pump();
        moved |= state.restore_next();
        if let Some(under_way) = &mut saving {
            moved |= state.save_settled(under_way);
        }
        if let Some(done) = saving.take_if(|saving| saving.waits_for.is_empty()) {
            done.answer(index);
        }
        if saving.is_none()
            && let Some((views, reply)) = next.take()
        {
            saving = Some(state.begin_saving(&views, reply));
            moved = true;
        }
        if measured.elapsed() >= MEASURE_INTERVAL {
            moved |= state.measure(worker);
            measured = Instant::now();
        }
        if moved {
            state.progress.tick();
        }
        worker.step_or_park(Some(if moved { Duration::ZERO } else { state.rest().min(Duration::from_millis(100)) }));
        state.rest_after(began);
    }
    for view in state.views.values() {
        view.borrow_mut().take_dataflow().into_iter().for_each(|dataflow| worker.drop_dataflow(dataflow));
    }
    state.views.clear();
}

impl State {
    /// Brings back more of one view; afterwards it is seen whether something has come meanwhile. Returns whether there was one.
    fn restore_next(&mut self) -> bool {
        if !self.restoring {
            return false;
        }
        let next = self.views.values().filter_map(|v| v.borrow().restore_order().map(|order| (order, v)));
        let Some((_, view)) = next.min_by_key(|(order, _)| *order) else {
            self.restoring = false;
            return false;
        };
        let mut view = view.borrow_mut();
        RUNNING.set(Some(view.id()));
        view.restore_next(&self.store);
        RUNNING.set(None);
        true
    }

    /// Looks how much memory each view takes, and lets go of what suspended ones have. Returns whether one is new.
    fn measure(&mut self, worker: &mut Worker) -> bool {
        let mut suspended = false;
        for view in self.views.values() {
            let mut view = view.borrow_mut();
            if view.failure().is_none() {
                view.measure();
                suspended |= view.has_failed();
            } else {
                view.take_dataflow().into_iter().for_each(|dataflow| worker.drop_dataflow(dataflow));
            }
        }
        if suspended {
            self.pump_all();
        }
        suspended
    }

    fn take(&mut self, command: Command, worker: &mut Worker) {
        match command {
            Command::Epoch(slot) => {
                let input = slot.take();
                let span = Span { first: input.first, last: input.header.epoch };
                let epoch = span.last;
                assert!(span.first > self.processed.get(), "epochs come in order");
                self.headers.borrow_mut().insert(epoch, input.header.clone());
                let mut wanted = 0;
                for view in self.views.values() {
                    let mut view = view.borrow_mut();
                    if input.header.touched.iter().any(|id| view.bases.contains(id)) && view.announce(span) {
                        wanted += 1;
                    }
                }
                if wanted > 0 {
                    self.given_at = Some(Instant::now());
                    self.inputs.insert(epoch, (input, wanted));
                }
                self.processed.set(epoch);
                self.progress.processed[self.index].store(epoch, Ordering::Release);
            }
            Command::Create(setup) => {
                if let super::view::Start::Hydrate { header, .. } = &setup.start {
                    self.headers.borrow_mut().insert(header.epoch, header.clone());
                }
                match View::new(worker, &setup, self.headers.clone(), self.processed.clone(), self) {
                    Ok(view) => {
                        for source in &view.sources {
                            if let Some(source) = self.views.get(source) {
                                source.borrow_mut().keep_changes(true);
                            }
                        }
                        self.views.insert(setup.id, Rc::new(RefCell::new(view)));
                    }
                    Err(error) => setup.status.fail(error),
                }
            }
            Command::Restore => self.restoring = true,
            Command::CatchUp { id, join } => {
                if let Some(view) = self.views.get(&id) {
                    view.borrow_mut().catch_up(self.processed.get(), join);
                }
            }
            Command::Drop(id) => self.drop_view(id, worker),
            Command::Checkpoint(..) | Command::Stop => unreachable!("taken by the loop"),
        }
        self.progress.tick();
    }

    fn drop_view(&mut self, id: RelationId, worker: &mut Worker) {
        let Some(view) = self.views.remove(&id) else { return };
        view.borrow_mut().take_dataflow().into_iter().for_each(|dataflow| worker.drop_dataflow(dataflow));
        let sources = view.borrow().sources.clone();
        while let Some(epoch) = view.borrow_mut().abandon() {
            self.release(epoch);
        }
        for source in sources {
            let still_read = self.views.values().any(|v| v.borrow().sources.contains(&source));
            if let (false, Some(source)) = (still_read, self.views.get(&source)) {
                source.borrow_mut().keep_changes(false);
            }
        }
    }

    fn release(&mut self, epoch: Epoch) {
        if let Some(entry) = self.inputs.get_mut(&epoch) {
            entry.1 -= 1;
            if entry.1 == 0 {
                self.inputs.remove(&epoch);
            }
        }
    }

    fn pump(&mut self) -> bool {
        let resting = !self.rest().is_zero() && self.rest_until.is_some();
        let busy = |view: &&Rc<RefCell<View>>| {
            let view = view.borrow();
            !view.is_idle() && !(resting && view.is_filling())
        };
        let busy: Vec<Rc<RefCell<View>>> = self.views.values().filter(busy).cloned().collect();
        self.pump_these(busy)
    }

    /// How long no hydration is fed.
    fn rest(&self) -> Duration {
        self.rest_until.map_or(Duration::MAX, |until| until.saturating_duration_since(Instant::now()))
    }

    /// While live views are given rows, hydrations take half of the time: what they leave is also for the threads that commit
    /// and answer, which would otherwise wait for a processor.
    fn rest_after(&mut self, began: Instant) {
        let filled = std::mem::take(&mut self.filled);
        if filled && self.given_at.is_some_and(|at| at.elapsed() < LIVE_LATELY) {
            self.rest_until = Some(Instant::now() + began.elapsed().min(REST_MAX));
        } else if self.rest().is_zero() {
            self.rest_until = None;
        }
    }

    /// Idle ones too, so that each takes note of what has failed.
    fn pump_all(&mut self) {
        let all = self.views.values().cloned().collect();
        self.pump_these(all);
    }

    fn pump_these(&mut self, busy: Vec<Rc<RefCell<View>>>) -> bool {
        let mut moved = false;
        for view in &busy {
            RUNNING.set(Some(view.borrow().id()));
            let filling = view.borrow().is_filling();
            let (progress, released) = view.borrow_mut().pump(self);
            moved |= progress;
            self.filled |= filling && progress;
            for epoch in released {
                self.release(epoch);
            }
        }
        RUNNING.set(None);
        if moved {
            self.forget();
        }
        moved
    }

    /// Lets go of changes and headers that nobody will ask for.
    fn forget(&mut self) {
        let mut first = self.processed.get();
        let mut wanted: BTreeMap<RelationId, Epoch> = BTreeMap::new();
        for view in self.views.values() {
            let view = view.borrow();
            first = first.min(view.first_header(self.processed.get()));
            if let Some(next) = view.next_wanted() {
                for &source in &view.sources {
                    let entry = wanted.entry(source).or_insert(next);
                    *entry = (*entry).min(next);
                }
            }
        }
        for (id, view) in &self.views {
            view.borrow_mut().forget_changes(wanted.get(id).copied().unwrap_or(self.processed.get() + 1));
        }
        let mut headers = self.headers.borrow_mut();
        while headers.first_key_value().is_some_and(|(&epoch, _)| epoch < first) {
            headers.pop_first();
        }
    }

    /// Holds each view where it is to be saved. Those that have come so far are saved one by one, and go on: none waits
    /// for a slower one.
    fn begin_saving(&mut self, wanted: &BTreeSet<RelationId>, reply: Sender<WorkerParts>) -> Saving {
        let mut waits_for = BTreeSet::new();
        for (id, view) in &self.views {
            let view = view.borrow();
            if wanted.contains(id) && (view.is_live() || view.restore_order().is_some()) {
                view.hold_at(self.processed.get());
                waits_for.insert(*id);
            }
        }
        Saving { waits_for, saved: Vec::new(), reply }
    }

    /// Saves what can be saved by now. Returns whether there was something.
    fn save_settled(&mut self, saving: &mut Saving) -> bool {
        let before = saving.waits_for.len();
        let saved = &mut saving.saved;
        saving.waits_for.retain(|id| {
            let Some(view) = self.views.get(id) else { return false };
            let mut view = view.borrow_mut();
            if view.is_settled() {
                saved.push((*id, view.save()));
                view.measure();
                view.release();
                return false;
            }
            view.failure().is_none()
        });
        saving.waits_for.len() < before
    }
}

/// A checkpoint that is being taken.
struct Saving {
    /// Views that have not come so far yet.
    waits_for: BTreeSet<RelationId>,
    saved: Vec<(RelationId, Vec<((u32, u32), Saved)>)>,
    reply: Sender<WorkerParts>,
}

impl Saving {
    fn answer(self, worker: usize) {
        // Whoever asked may have given up.
        let _ = self.reply.send(WorkerParts { worker, views: self.saved });
    }
}
