//! One materialized view on one worker: its dataflow, what feeds it, and its rows.
//!
//! A view *hydrates* (`hydration`): it takes in its sources as of one epoch, piece by piece, then the net changes since,
//! at its own pace; then it *joins*: from an agreed epoch on it is fed each epoch with the others, *live*.
//! Both read the sources through cursors (a stream's log, an arrangement's changes between two epochs), so
//! nothing queues up between views. After a start a view is *restored* from the checkpoint first (`saved`); until then
//! what happens waits for it.

mod hydration;
mod publish;
mod saved;

pub use saved::Parts;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use arrow::datatypes::DataType;
use timely::worker::Worker;

use self::hydration::Hydration;
use self::publish::publish;
use super::driver::Context;
use super::packet::Packet;
use super::render::{Import, PacketInput, Rendered, render, split};
use super::status::{ViewStatus, WorkerStatus};
use crate::catalog::{RelationId, StreamStart};
use crate::delta::Delta;
use crate::delta::keys::KeyEncoder;
use crate::error::{Error, Result};
use crate::operators::{ErrorChange, Operator};
use crate::plan::{NodeKind, Plan};
use crate::state::arrangement::{Arrangement, Pin, Shared};
use crate::state::indexed_rows::{Arranged, IndexedRows};
use crate::state::store::Store;
use crate::time::{Epoch, EpochHeader};

/// Epochs of one view that may be under way at once.
const OPEN_EPOCHS_MAX: usize = 16;
/// Rows that may wait inside one dataflow before it is fed more.
const WAITING_ROWS_MAX: usize = 256 * 1024;

/// Rows set aside that each worker shows; all are counted.
const ERRORS_SHOWN_MAX: usize = 1000;

/// Epochs that are taken in together, under the last one's header: one, as a rule.
#[derive(Debug, Clone, Copy)]
pub struct Span {
    pub first: Epoch,
    pub last: Epoch,
}

/// What the workers need to know to make a view.
pub struct ViewSetup {
    pub id: RelationId,
    pub plan: Arc<Plan>,
    pub start: Start,
    pub status: Arc<ViewStatus>,
    /// Streams and tables that it rests on, directly or through other views.
    pub bases: BTreeSet<RelationId>,
    pub options: ViewOptions,
    /// For each table that it reads: the types of all its columns, and those by whose hash its rows are dealt.
    pub table_keys: BTreeMap<RelationId, (Vec<DataType>, Vec<usize>)>,
}

/// What its definition says of how it is kept.
#[derive(Debug, Clone, Default)]
pub struct ViewOptions {
    /// For each stream that it reads, from where on.
    pub starts: BTreeMap<RelationId, StreamStart>,
    /// Bytes that its state may take, on all workers together.
    pub memory_limit: Option<u64>,
    /// Of an arrangement: the columns that its rows are read by.
    pub arranged_by: Option<Vec<usize>>,
}

pub enum Start {
    /// From its sources as of the end of this epoch. For each worker the tables it reads, pinned there.
    Hydrate { header: Arc<EpochHeader>, tables: Vec<Mutex<BTreeMap<RelationId, Pin>>> },
    /// From a checkpoint of the end of this epoch.
    Restore { at: Epoch, parts: Arc<Parts> },
}

/// The result, as the dataflow's last operator keeps it.
struct Published {
    rows: Rc<RefCell<IndexedRows>>,
    append_only: bool,
    /// Epochs below this are closed.
    frontier: Epoch,
    /// The net change of each closed epoch, as long as a dependant may still want it.
    changes: BTreeMap<Epoch, Rc<Vec<Delta>>>,
    keep_changes: bool,
    /// Rows set aside: (message, row) -> how often.
    errors: BTreeMap<(String, String), i64>,
    errors_changed: bool,
}

enum Mode {
    Restoring(Restoring),
    Hydrating(Hydration),
    Live,
    /// Holds nothing back any more.
    Failed,
}

/// From a checkpoint, in two steps: its rows, which can be read then if nothing has happened since; its operators.
struct Restoring {
    at: Epoch,
    parts: Arc<Parts>,
    rows_there: bool,
}

pub struct View {
    id: RelationId,
    pub status: Arc<ViewStatus>,
    pub bases: BTreeSet<RelationId>,
    pub sources: Vec<RelationId>,
    options: ViewOptions,
    table_keys: BTreeMap<RelationId, (KeyEncoder, Vec<usize>)>,
    /// `None` when it has been dropped, as that of a suspended view.
    dataflow: Option<usize>,
    imports: Vec<Import>,
    /// Inputs that never change, with what has yet to be sent.
    constants: Vec<(PacketInput, Option<Delta>)>,
    operators: Vec<(u32, Rc<RefCell<Box<dyn Operator>>>)>,
    /// The arrangements that its joins read.
    arranged: BTreeMap<RelationId, Rc<Arranged>>,
    context: Rc<Context>,
    published: Rc<RefCell<Published>>,
    mode: Mode,
    /// Epochs to be fed, and those fed but not closed.
    pending: VecDeque<Span>,
    open: VecDeque<Span>,
    output_key: Vec<usize>,
    worker: usize,
    workers: usize,
}

/// What a view asks of its worker to feed itself.
pub trait Sources {
    /// This worker has been given everything up to this epoch.
    fn processed(&self) -> Epoch;
    /// The first epoch of a view that is not closed here; `None` when the id is no view.
    fn view_open(&self, id: RelationId) -> Option<Epoch>;
    /// The net change of a view in an epoch, as far as this worker holds it.
    fn view_changes(&self, id: RelationId, epoch: Epoch) -> Rc<Vec<Delta>>;
    fn view_reader(&self, id: RelationId) -> Option<Arc<Shared>>;
    fn view_rows(&self, id: RelationId) -> Option<Rc<RefCell<IndexedRows>>>;
    /// Why a view goes no further.
    fn view_failure(&self, id: RelationId) -> Option<Error>;
    /// The change of a stream or table in an epoch.
    fn base_changes(&self, id: RelationId, epoch: Epoch) -> Vec<Delta>;
    fn store(&self) -> &Arc<Store>;
}

impl View {
    pub fn new(
        worker: &mut Worker,
        setup: &ViewSetup,
        headers: Rc<RefCell<BTreeMap<Epoch, Arc<EpochHeader>>>>,
        given: Rc<Cell<Epoch>>,
        sources: &dyn Sources,
    ) -> Result<View> {
        let (index, workers) = (worker.index(), worker.peers());
        let plan = &setup.plan;
        let output = plan.output();
        let rows = Arrangement::new(output.schema.clone(), !output.append_only);
        let rows = IndexedRows::new(rows, setup.options.arranged_by.as_deref())?;
        let published = Rc::new(RefCell::new(Published {
            rows: Rc::new(RefCell::new(rows)),
            append_only: output.append_only,
            frontier: 0,
            changes: BTreeMap::new(),
            keep_changes: false,
            errors: BTreeMap::new(),
            // The first checkpoint of this view says that there are none.
            errors_changed: true,
        }));
        let (start, as_of) = match &setup.start {
            Start::Hydrate { header, .. } => (Some(header.epoch), header.epoch),
            Start::Restore { at, .. } => (None, *at),
        };
        let mut arranged = BTreeMap::new();
        for node in &plan.nodes {
            if let NodeKind::Arranged { arrangement, name, .. } = &node.kind {
                let rows = sources.view_rows(*arrangement);
                let rows = rows.ok_or_else(|| Error::internal(format!("the arrangement {name} is not there")))?;
                let pin = rows.borrow().rows.reader().pin(as_of);
                let pin = pin.ok_or_else(|| Error::internal(format!("the arrangement {name} is further")))?;
                arranged.insert(*arrangement, Rc::new(Arranged::new(rows, pin)));
            }
        }
        let context = Rc::new(Context {
            headers,
            given,
            hold: Cell::new(Epoch::MAX),
            start,
            fed: RefCell::new(start.into_iter().collect()),
            view: setup.id,
            status: setup.status.clone(),
            worker: index,
            waiting_rows: Cell::new(0),
            errors: RefCell::new(Vec::new()),
            failure: RefCell::new(None),
        });
        let dataflow = worker.next_dataflow_index();
        let rendered = worker.dataflow_named(&format!("view {}", setup.id), |scope| -> Result<_> {
            let Rendered { imports, constants, operators, output } =
                render(scope, plan, &context, &|id| arranged.get(&id).cloned())?;
            publish(output, published.clone(), context.clone());
            Ok((imports, constants, operators))
        });
        let (imports, constants, operators) = rendered?;
        let mut table_keys = BTreeMap::new();
        for (&id, (types, key)) in &setup.table_keys {
            let types: Vec<DataType> = key.iter().map(|&k| types[k].clone()).collect();
            table_keys.insert(id, (KeyEncoder::new(&types)?, key.clone()));
        }
        let mut view = View {
            id: setup.id,
            status: setup.status.clone(),
            bases: setup.bases.clone(),
            sources: plan.imports(),
            options: setup.options.clone(),
            table_keys,
            dataflow: Some(dataflow),
            imports,
            constants: constants.into_iter().map(|(handle, rows)| (handle, Some(rows))).collect(),
            operators,
            arranged,
            context,
            published,
            mode: Mode::Live,
            pending: VecDeque::new(),
            open: VecDeque::new(),
            output_key: plan.output_key.clone().unwrap_or_else(|| (0..output.schema.fields().len()).collect()),
            worker: index,
            workers,
        };
        view.status.workers[index].reader.set(view.reader()).ok().expect("one view, one reader");
        match &setup.start {
            Start::Hydrate { header, tables } => {
                let mut pins = std::mem::take(&mut *tables[index].lock().expect("no panic while held"));
                for &source in &view.sources {
                    if let Some(reader) = sources.view_reader(source) {
                        let pin = reader.pin(header.epoch).expect("this worker has not been given a later epoch");
                        pins.insert(source, pin);
                    }
                }
                view.mode = Mode::Hydrating(Hydration {
                    pins,
                    fed: header.epoch,
                    feed: None,
                    first: true,
                    closed_below: 0,
                    target: None,
                    join: false,
                });
            }
            Start::Restore { at, parts } => {
                view.published.borrow().rows.borrow_mut().rows.begin_at(*at);
                view.mode = Mode::Restoring(Restoring { at: *at, parts: parts.clone(), rows_there: false });
                let status = view.my_status();
                status.live_from.store(*at, Ordering::Release);
                // Nothing is closed before its rows are there.
                status.first_open.store(0, Ordering::Release);
                status.restoring.store(true, Ordering::Release);
                status.live.store(true, Ordering::Release);
            }
        }
        Ok(view)
    }

    fn advance_inputs(&mut self, epoch: Epoch) {
        for import in &mut self.imports {
            import.handle.advance_to(epoch);
        }
        for (handle, _) in &mut self.constants {
            handle.advance_to(epoch);
        }
    }

    pub fn reader(&self) -> Arc<Shared> {
        self.published.borrow().rows.borrow().rows.reader()
    }
    pub fn rows(&self) -> Rc<RefCell<IndexedRows>> {
        self.published.borrow().rows.clone()
    }
    pub fn failure(&self) -> Option<Error> {
        match self.mode {
            Mode::Failed => self.status.failure(),
            _ => None,
        }
    }
    /// Its dataflow, to be dropped.
    pub fn take_dataflow(&mut self) -> Option<usize> {
        self.operators.clear();
        self.arranged.clear();
        self.dataflow.take()
    }
    pub fn id(&self) -> RelationId {
        self.id
    }
    /// It will be suspended when it is pumped next.
    pub fn has_failed(&self) -> bool {
        self.context.failure.borrow().is_some()
    }
    pub fn is_live(&self) -> bool {
        matches!(self.mode, Mode::Live)
    }
    /// Rows that were there before it are fed to it.
    pub fn is_filling(&self) -> bool {
        matches!(&self.mode, Mode::Hydrating(h) if h.feed.is_some())
    }
    /// From now on nothing of epochs after `through` is taken in, so that it can be saved as of then.
    pub fn hold_at(&self, through: Epoch) {
        self.context.hold.set(through);
    }
    /// It goes on.
    pub fn release(&self) {
        self.context.hold.set(Epoch::MAX);
    }
    /// It is live, and has closed all that it was given up to the epoch at which it is held.
    pub fn is_settled(&self) -> bool {
        let through = self.context.hold.get();
        self.is_live() && self.open.is_empty() && self.pending.front().is_none_or(|next| next.last > through)
    }
    /// Nothing is under way or to be done.
    pub fn is_idle(&self) -> bool {
        match &self.mode {
            Mode::Live => self.pending.is_empty() && self.open.is_empty(),
            Mode::Hydrating(_) | Mode::Restoring(_) => false,
            Mode::Failed => true,
        }
    }
    /// The first epoch that is not closed here, when the worker has been given those up to `processed`.
    pub fn first_open(&self, processed: Epoch) -> Epoch {
        match &self.mode {
            Mode::Hydrating(h) if h.first || h.feed.is_some() => h.closed_below,
            Mode::Hydrating(h) => self.open.front().map_or(h.fed + 1, |_| h.closed_below),
            // Its rows can be read before its index is there.
            Mode::Restoring(r) if !r.rows_there || self.options.arranged_by.is_some() => r.at,
            Mode::Live | Mode::Restoring(_) => self.first_span().map_or(processed + 1, |span| span.first),
            Mode::Failed => processed + 1,
        }
    }
    /// The first epoch whose header may still be asked for.
    pub fn first_header(&self, processed: Epoch) -> Epoch {
        match &self.mode {
            Mode::Hydrating(h) => h.fed.min(self.open.front().map_or(h.fed, |span| span.last)),
            Mode::Live | Mode::Restoring(_) | Mode::Failed => self.first_open(processed).min(processed),
        }
    }
    pub fn keep_changes(&mut self, keep: bool) {
        let mut published = self.published.borrow_mut();
        published.keep_changes = keep;
        if !keep {
            published.changes.clear();
        }
    }
    pub fn changes(&self, epoch: Epoch) -> Rc<Vec<Delta>> {
        self.published.borrow().changes.get(&epoch).cloned().unwrap_or_default()
    }
    pub fn forget_changes(&mut self, before: Epoch) {
        let mut published = self.published.borrow_mut();
        published.changes = published.changes.split_off(&before);
    }
    /// The next epoch to be fed, for which sources must keep their changes.
    pub fn next_wanted(&self) -> Option<Epoch> {
        match &self.mode {
            Mode::Hydrating(h) => h.target.filter(|_| h.join).map(|t| t + 1),
            _ => self.pending.front().map(|span| span.last),
        }
    }

    /// The first epochs that are not closed here, where it is live.
    fn first_span(&self) -> Option<&Span> {
        self.open.front().or(self.pending.front())
    }

    /// Epochs that touch its sources have come. Returns whether their data will be asked for.
    pub fn announce(&mut self, span: Span) -> bool {
        let wanted = match &self.mode {
            Mode::Live | Mode::Restoring(_) => true,
            Mode::Hydrating(h) => h.join,
            Mode::Failed => false,
        };
        if wanted {
            let rows_there = !matches!(&self.mode, Mode::Restoring(r) if !r.rows_there);
            if rows_there && self.pending.is_empty() && self.open.is_empty() {
                self.my_status().first_open.store(span.first, Ordering::Release);
            }
            self.pending.push_back(span);
        }
        wanted
    }

    /// Catch up to `epoch` and then, with `join`, go live.
    pub fn catch_up(&mut self, epoch: Epoch, join: bool) {
        if let Mode::Hydrating(h) = &mut self.mode {
            h.target = Some(epoch);
            h.join = join;
        }
    }

    /// The view is dropped: one after the other the epochs that it had yet to take in.
    pub fn abandon(&mut self) -> Option<Epoch> {
        self.pending.pop_front().map(|span| span.last)
    }

    fn my_status(&self) -> &WorkerStatus {
        &self.status.workers[self.worker]
    }

    /// Feeds what can be fed, takes note of what has closed. Returns (something was done, epochs whose data
    /// is no longer wanted).
    pub fn pump(&mut self, sources: &dyn Sources) -> (bool, Vec<Epoch>) {
        let mut released = Vec::new();
        if let Some(error) = self.sources.iter().find_map(|&s| sources.view_failure(s)) {
            self.context.fail(Error::not_in_state(format!("a view that it reads is suspended: {}", error.message)));
        }
        if let Some(error) = self.context.failure.borrow().clone() {
            self.status.fail(error);
            released.extend(self.pending.drain(..).map(|span| span.last));
            self.open.clear();
            self.mode = Mode::Failed;
            self.imports.clear();
            self.constants.clear();
            self.my_status().first_open.store(Epoch::MAX, Ordering::Release);
            return (true, released);
        }
        let mut progress = self.retire();
        self.take_errors();
        match &mut self.mode {
            Mode::Failed | Mode::Restoring(_) | Mode::Live => {}
            Mode::Hydrating(_) => progress |= self.hydrate(sources),
        }
        if self.is_live() {
            while let Some(&span) = self.pending.front() {
                let epoch = span.last;
                let ready = self.sources.iter().all(|&s| sources.view_open(s).is_none_or(|open| open > epoch));
                // With nothing open, all that waits was sent by workers that are further, and waits for this very epoch.
                let full = self.open.len() >= OPEN_EPOCHS_MAX
                    || !self.open.is_empty() && self.context.waiting_rows.get() > WAITING_ROWS_MAX;
                if !ready || full || epoch > self.context.hold.get() {
                    break;
                }
                self.pending.pop_front();
                self.feed_epoch(epoch, sources);
                self.open.push_back(span);
                released.push(epoch);
                progress = true;
            }
        }
        (progress, released)
    }

    fn retire(&mut self) -> bool {
        let frontier = self.published.borrow().frontier;
        let mut closed = None;
        while let Some(Span { last: epoch, .. }) = self.open.pop_front_if(|span| span.last < frontier) {
            self.context.fed.borrow_mut().remove(&epoch);
            closed = Some(epoch);
        }
        if let Some(epoch) = closed {
            self.arranged.values().for_each(|arranged| arranged.reach(epoch));
            let first_open = self.first_span().map_or(Epoch::MAX, |span| span.first);
            self.my_status().first_open.store(first_open, Ordering::Release);
        }
        closed.is_some()
    }

    fn take_errors(&mut self) {
        let changes: Vec<ErrorChange> = std::mem::take(&mut *self.context.errors.borrow_mut());
        if changes.is_empty() {
            return;
        }
        let mut published = self.published.borrow_mut();
        for ErrorChange { message, row, weight } in changes {
            let key = (message, row);
            let count = published.errors.entry(key.clone()).or_insert(0);
            *count += weight;
            if *count == 0 {
                published.errors.remove(&key);
            }
        }
        published.errors_changed = true;
        self.show_errors(&published);
    }

    fn show_errors(&self, published: &Published) {
        let total: i64 = published.errors.values().sum();
        let first =
            published.errors.iter().take(ERRORS_SHOWN_MAX).map(|((m, r), n)| (m.clone(), r.clone(), *n)).collect();
        *self.my_status().error_rows.lock().expect("no panic while held") = first;
        self.my_status().errors.store(total, Ordering::Release);
    }

    fn feed_epoch(&mut self, epoch: Epoch, sources: &dyn Sources) {
        self.context.fed.borrow_mut().insert(epoch);
        self.advance_inputs(epoch);
        for i in 0..self.imports.len() {
            let relation = self.imports[i].relation;
            if sources.view_open(relation).is_some() {
                for delta in sources.view_changes(relation, epoch).iter() {
                    self.send(i, delta.clone());
                }
            } else {
                for delta in sources.base_changes(relation, epoch) {
                    if let Some(delta) = self.share(relation, &delta, epoch) {
                        self.send(i, delta);
                    }
                }
            }
        }
        self.advance_inputs(epoch + 1);
    }

    fn send(&mut self, import: usize, delta: Delta) {
        let delta = of_columns(delta, &self.imports[import].columns);
        self.send_imported(import, delta);
    }

    /// What has only the columns that are imported.
    fn send_imported(&mut self, import: usize, delta: Delta) {
        let import = &mut self.imports[import];
        self.context.meter(import.node).gave(delta.len());
        import.handle.send(Packet { worker: 0, delta });
    }

    /// This worker's part of a change to a stream or table: of a table by its key, so that a row and its
    /// retraction meet; of a stream a slice.
    fn share(&self, relation: RelationId, delta: &Delta, epoch: Epoch) -> Option<Delta> {
        share_of(self.table_keys.get(&relation), delta, epoch, self.worker, self.workers)
    }

    /// Notes memory and rows for whoever asks.
    pub fn measure(&mut self) {
        let (mut bytes, mut fixed, mut rows) = (0, 0, 0);
        for (node, operator) in &self.operators {
            let (mut its_bytes, mut its_fixed, mut its_rows) = (0, 0, 0);
            for durable in operator.borrow_mut().durable() {
                its_bytes += durable.state_bytes();
                its_fixed += durable.fixed_bytes();
                its_rows += durable.state_rows();
            }
            self.context.meter(*node as usize).holds(its_rows, its_bytes, its_fixed);
            bytes += its_bytes;
            fixed += its_fixed;
            rows += its_rows;
        }
        bytes += self.published.borrow().rows.borrow().state_bytes();
        self.my_status().state_bytes.store(bytes as u64, Ordering::Relaxed);
        self.my_status().fixed_bytes.store(fixed as u64, Ordering::Relaxed);
        self.my_status().state_rows.store(rows as u64, Ordering::Relaxed);
        if let Some(error) = self.status.failure() {
            // Found by another worker.
            self.context.fail(error);
        }
        let all: u64 = self.status.workers.iter().map(|w| w.state_bytes.load(Ordering::Relaxed)).sum();
        if let Some(limit) = self.options.memory_limit.filter(|&limit| all > limit) {
            let message = format!("its state takes {all} bytes, more than its memory_limit of {limit}");
            self.context.fail(Error::new("53200", message));
        }
    }
}

fn of_columns(delta: Delta, columns: &[usize]) -> Delta {
    let all = columns.len() == delta.rows.num_columns() && columns.iter().enumerate().all(|(i, &c)| i == c);
    match all {
        true => delta,
        false => delta.map_rows(|rows| rows.project(columns).expect("columns of the relation")),
    }
}

fn share_of(
    table_key: Option<&(KeyEncoder, Vec<usize>)>,
    delta: &Delta,
    turn: u64,
    worker: usize,
    workers: usize,
) -> Option<Delta> {
    if workers == 1 {
        return (!delta.is_empty()).then(|| delta.clone());
    }
    match table_key {
        Some((encoder, key)) => {
            split(encoder, key, delta, workers).into_iter().find(|(w, _)| *w == worker).map(|(_, delta)| delta)
        }
        None => {
            let place = (worker + turn as usize) % workers;
            let (from, to) = (delta.len() * place / workers, delta.len() * (place + 1) / workers);
            (from < to).then(|| delta.slice(from, to - from))
        }
    }
}
