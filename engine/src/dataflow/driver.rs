//! Feeds an operator its lowest open epoch, and knows everything about time so that the operator need not.
//!
//! Deltas of later epochs wait in a queue with their capability. An epoch is *finished* when the frontier
//! has passed it; then its capability goes, and the next one opens. A timed operator holds a capability all the time, and
//! opens every epoch that the view is fed, with data or without.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use timely::container::CapacityContainerBuilder;
use timely::dataflow::channels::pact::{Exchange, Pipeline};
use timely::dataflow::operators::Capability;
use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;
use timely::dataflow::{Scope, Stream};

use super::meter::Meter;
use super::packet::Packet;
use super::status::ViewStatus;
use super::worker::RUNNING;
use crate::catalog::RelationId;
use crate::delta::Delta;
use crate::error::Error;
use crate::operators::{ErrorChange, LATER, Operator, Output, Port, Step};
use crate::time::{Epoch, EpochHeader};

pub type Packets<'scope> = Stream<'scope, Epoch, Vec<Packet>>;

/// What the operators of one dataflow on one worker share.
pub struct Context {
    /// Headers of the epochs that are open somewhere.
    pub headers: Rc<RefCell<BTreeMap<Epoch, Arc<EpochHeader>>>>,
    /// The last epoch that this worker has been given. Another worker may be further and send what belongs to a later
    /// one: that waits, or else it would be in what this worker saves of the epochs before it.
    pub given: Rc<Cell<Epoch>>,
    /// Nothing later is taken in until the view has been saved as of the end of this epoch.
    pub hold: Cell<Epoch>,
    /// The first epoch: finished by every operator even if it brings nothing. `None` after a restore.
    pub start: Option<Epoch>,
    /// Epochs that this view has been fed and has not closed: timed operators see each of them.
    pub fed: RefCell<BTreeSet<Epoch>>,
    pub view: RelationId,
    pub status: Arc<ViewStatus>,
    /// Which worker this is.
    pub worker: usize,
    /// Rows that wait in front of operators.
    pub waiting_rows: Cell<usize>,
    /// Rows set aside since last looked, by epoch.
    pub errors: RefCell<Vec<ErrorChange>>,
    /// Why the dataflow can go no further.
    pub failure: RefCell<Option<Error>>,
}

impl Context {
    fn header(&self, epoch: Epoch) -> Arc<EpochHeader> {
        self.headers.borrow().get(&epoch).expect("the header comes before its epoch's data").clone()
    }
    /// The last epoch that may be taken in.
    pub fn given(&self) -> Epoch {
        self.given.get().min(self.hold.get())
    }
    /// Of a node of the plan.
    pub fn meter(&self, node: usize) -> &Meter {
        &self.status.workers[self.worker].meters[node]
    }
    pub fn fail(&self, error: Error) {
        self.failure.borrow_mut().get_or_insert(error);
    }
}

struct OpenEpoch {
    capability: Capability<Epoch>,
    queue: VecDeque<(Port, Delta)>,
}

type Pull = Box<dyn FnMut(&mut dyn FnMut(Epoch, &mut dyn FnMut() -> Capability<Epoch>, Vec<Packet>))>;

/// An operator as a node of the dataflow, `node` of the plan. `inputs`: each with whether it comes from an exchange.
pub fn drive<'scope>(
    scope: Scope<'scope, Epoch>,
    name: &str,
    node: usize,
    inputs: Vec<(Packets<'scope>, bool)>,
    operator: Rc<RefCell<Box<dyn Operator>>>,
    context: Rc<Context>,
) -> Packets<'scope> {
    let mut builder = OperatorBuilder::new(name.to_owned(), scope);
    let (output, stream) = builder.new_output::<Vec<Packet>>();
    let mut output = OutputBuilder::<Epoch, CapacityContainerBuilder<Vec<Packet>>>::from(output);
    let mut pulls: Vec<Pull> = Vec::new();
    for (input, exchanged) in inputs {
        if exchanged {
            let mut handle = builder.new_input(input, Exchange::new(|p: &Packet| p.worker as u64));
            pulls.push(Box::new(move |take| {
                handle.for_each(|capability, packets| {
                    take(*capability.time(), &mut || capability.retain(0), std::mem::take(packets))
                })
            }));
        } else {
            let mut handle = builder.new_input(input, Pipeline);
            pulls.push(Box::new(move |take| {
                handle.for_each(|capability, packets| {
                    take(*capability.time(), &mut || capability.retain(0), std::mem::take(packets))
                })
            }));
        }
    }
    let activator = scope.activator_for(builder.operator_info().address);
    builder.build_reschedule(move |mut capabilities| {
        let initial = capabilities.pop().expect("one output");
        let mut open: BTreeMap<Epoch, OpenEpoch> = BTreeMap::new();
        if let Some(start) = context.start {
            open.insert(start, OpenEpoch { capability: initial.delayed(&start), queue: VecDeque::new() });
        }
        let mut standing = operator.borrow().is_timed().then(|| match context.start {
            Some(start) => initial.delayed(&(start + 1)),
            None => initial.clone(),
        });
        let mut begun = None;
        drop(initial);
        move |frontiers| {
            RUNNING.set(Some(context.view));
            let meter = context.meter(node);
            for (port, pull) in pulls.iter_mut().enumerate() {
                pull(&mut |epoch, retain, packets| {
                    let entry =
                        open.entry(epoch).or_insert_with(|| OpenEpoch { capability: retain(), queue: VecDeque::new() });
                    for packet in packets {
                        meter.took_in(packet.delta.len());
                        context.waiting_rows.set(context.waiting_rows.get() + packet.delta.len());
                        entry.queue.push_back((port, packet.delta));
                    }
                });
            }
            if context.failure.borrow().is_some() {
                open.clear();
                return false;
            }
            let frontier = frontiers
                .iter()
                .map(|f| f.frontier().first().copied().unwrap_or(Epoch::MAX))
                .min()
                .unwrap_or(Epoch::MAX);
            if let Some(capability) = &mut standing {
                let known = frontier.min(context.given() + 1);
                if known > *capability.time() {
                    for epoch in context.fed.borrow().range(*capability.time()..known) {
                        let entry = || OpenEpoch { capability: capability.delayed(epoch), queue: VecDeque::new() };
                        open.entry(*epoch).or_insert_with(entry);
                    }
                    capability.downgrade(&known);
                }
            }
            if frontier == Epoch::MAX {
                standing = None;
            }
            while let Some(mut entry) = open.first_entry() {
                let epoch = *entry.key();
                if frontier < epoch || context.given() < epoch {
                    break;
                }
                let mut out = Output::default();
                let started = Instant::now();
                let mut begin = Ok(());
                let is_new = begun.replace(epoch) != Some(epoch);
                if is_new && operator.borrow().is_timed() {
                    begin = operator.borrow_mut().begin_epoch(&context.header(epoch), &mut out);
                }
                let queue = &mut entry.get_mut().queue;
                let finish = (frontier > epoch).then_some(epoch);
                let mut next = || advance(&mut **operator.borrow_mut(), queue, finish, &context, &mut out);
                let step = begin.and_then(|()| next());
                meter.worked(started.elapsed());
                context.errors.borrow_mut().append(&mut out.errors);
                if !out.deltas.is_empty() {
                    let mut active = output.activate();
                    let mut session = active.session(&entry.get().capability);
                    for delta in out.deltas {
                        meter.gave(delta.len());
                        session.give(Packet { worker: 0, delta });
                    }
                }
                match step {
                    Ok(Advance::Finished) => {
                        entry.remove();
                    }
                    Ok(Advance::Waiting) => break,
                    Ok(Advance::Paused) => {
                        activator.activate();
                        break;
                    }
                    Ok(Advance::Elsewhere) => {
                        activator.activate_after(LATER);
                        break;
                    }
                    Err(error) => {
                        context.fail(error);
                        break;
                    }
                }
            }
            false
        }
    });
    stream
}

enum Advance {
    /// For more data or for the frontier.
    Waiting,
    /// The operator lets others run.
    Paused,
    /// For a thread.
    Elsewhere,
    Finished,
}

/// Feeds what is queued and, where `finish` names the epoch, finishes it.
fn advance(
    operator: &mut dyn Operator,
    queue: &mut VecDeque<(Port, Delta)>,
    finish: Option<Epoch>,
    context: &Context,
    out: &mut Output,
) -> crate::error::Result<Advance> {
    while let Some((port, delta)) = queue.pop_front() {
        context.waiting_rows.set(context.waiting_rows.get() - delta.len());
        let empty = delta.slice(0, 0);
        let pause = match operator.update(port, delta, out)? {
            Step::Done => continue,
            Step::Again => Advance::Paused,
            Step::Later => Advance::Elsewhere,
        };
        queue.push_front((port, empty));
        return Ok(pause);
    }
    let Some(epoch) = finish else { return Ok(Advance::Waiting) };
    Ok(match operator.finish_epoch(&context.header(epoch), out)? {
        Step::Done => Advance::Finished,
        Step::Again => Advance::Paused,
        Step::Later => Advance::Elsewhere,
    })
}
