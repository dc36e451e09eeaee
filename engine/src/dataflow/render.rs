//! From a plan to a dataflow: one match, no conditions left to decide.

use std::cell::RefCell;
use std::rc::Rc;

use timely::container::CapacityContainerBuilder;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::Input as _;
use timely::dataflow::operators::generic::operator::Operator as _;
use timely::dataflow::{InputHandle, Scope};

use super::driver::{Context, Packets, drive};
use super::packet::Packet;
use crate::catalog::RelationId;
use crate::delta::Delta;
use crate::delta::keys::{KeyEncoder, route};
use crate::error::Result;
use crate::operators::Operator;
use crate::operators::aggregate::{Aggregate, AggregateSpec};
use crate::operators::as_of::AsOf;
use crate::operators::join::Join;
use crate::operators::map::Map;
use crate::operators::recompute::{Recompute, RecomputeSpec};
use crate::operators::session::Session;
use crate::operators::temporal::Temporal;
use crate::operators::top_k::TopK;
use crate::operators::union::Union;
use crate::operators::unnest::Unnest;
use crate::plan::{NodeKind, Plan};
use crate::state::indexed_rows::Arranged;
use crate::time::Epoch;

pub type PacketInput = InputHandle<Epoch, CapacityContainerBuilder<Vec<Packet>>>;

/// Where a view takes a relation's changes in.
pub struct Import {
    pub relation: RelationId,
    /// Of the plan.
    pub node: usize,
    pub columns: Vec<usize>,
    /// Of an arrangement: the rows themselves are read there.
    pub arranged: bool,
    pub handle: PacketInput,
}

/// Where the rows of an arrangement are on this worker.
pub type FindArranged<'a> = &'a dyn Fn(RelationId) -> Option<Rc<Arranged>>;

/// A rendered plan: its inputs and its stateful operators, by plan node.
pub struct Rendered<'scope> {
    pub imports: Vec<Import>,
    /// Rows that were always there, with the input that takes them in (at the first epoch, on one worker).
    pub constants: Vec<(PacketInput, Delta)>,
    pub operators: Vec<(u32, Rc<RefCell<Box<dyn Operator>>>)>,
    pub output: Packets<'scope>,
}

pub fn render<'scope>(
    scope: Scope<'scope, Epoch>,
    plan: &Plan,
    context: &Rc<Context>,
    arranged: FindArranged,
) -> Result<Rendered<'scope>> {
    let workers = scope.peers();
    let mut streams: Vec<(Packets<'scope>, bool)> = Vec::new();
    let (mut imports, mut constants, mut operators) = (Vec::new(), Vec::new(), Vec::new());
    for (index, node) in plan.nodes.iter().enumerate() {
        let input = |i: usize| streams[node.inputs[i]].clone();
        let (name, operator): (&str, Box<dyn Operator>) = match &node.kind {
            NodeKind::Import { relation, columns, .. } | NodeKind::Arranged { arrangement: relation, columns, .. } => {
                let (handle, stream) = scope.new_input::<Vec<Packet>>();
                let (relation, columns) = (*relation, columns.clone());
                let arranged = matches!(node.kind, NodeKind::Arranged { .. });
                imports.push(Import { relation, node: index, columns, arranged, handle });
                streams.push((stream, false));
                continue;
            }
            NodeKind::Constant(rows) => {
                let (handle, stream) = scope.new_input::<Vec<Packet>>();
                constants.push((handle, Delta::inserts(rows.clone())));
                streams.push((stream, false));
                continue;
            }
            NodeKind::Exchange { key } => {
                let (input, exchanged) = input(0);
                let stream = match workers {
                    1 => (input, exchanged),
                    _ => (deal(input, key, &node.schema, workers)?, true),
                };
                streams.push(stream);
                continue;
            }
            kind => operator(kind, owns_empty_key(scope.index(), workers)?, arranged)?,
        };
        let inputs = (0..node.inputs.len()).map(input).collect();
        let operator = Rc::new(RefCell::new(operator));
        operators.push((index as u32, operator.clone()));
        streams.push((drive(scope, name, index, inputs, operator, context.clone()), false));
    }
    let (output, exchanged) = streams.pop().expect("a plan has a result");
    let output = match exchanged {
        false => output,
        // An exchange is taken in by an operator.
        true => {
            let operator = Rc::new(RefCell::new(Box::new(Union) as Box<dyn Operator>));
            drive(scope, "Arrive", plan.nodes.len() - 1, vec![(output, true)], operator, context.clone())
        }
    };
    Ok(Rendered { imports, constants, operators, output })
}

fn owns_empty_key(worker: usize, workers: usize) -> Result<bool> {
    let nothing = KeyEncoder::new(&[])?.encode_rows(&[], 1);
    Ok(route(nothing.hashes[0], workers) == worker)
}

/// The operator of a node that has one, with its name. `owner`: of the group of an aggregate without GROUP BY.
pub fn operator(kind: &NodeKind, owner: bool, arranged: FindArranged) -> Result<(&'static str, Box<dyn Operator>)> {
    Ok(match kind {
        NodeKind::Map(steps) => ("Map", Box::new(Map::new(steps.clone()))),
        NodeKind::Unnest(spec) => ("Unnest", Box::new(Unnest::new(spec.clone()))),
        NodeKind::Union => ("Union", Box::new(Union)),
        NodeKind::Join(spec) => {
            let of_side = |side: usize| spec.sides[side].kept.as_ref().and_then(|kept| arranged(kept.arrangement));
            ("Join", Box::new(Join::new((**spec).clone(), [of_side(0), of_side(1)])?))
        }
        NodeKind::Aggregate(spec) => {
            ("Aggregate", Box::new(Aggregate::new(AggregateSpec { owner, ..(**spec).clone() })?))
        }
        NodeKind::TopK(spec) => ("TopK", Box::new(TopK::new((**spec).clone())?)),
        NodeKind::AsOf(spec) => ("AsOf", Box::new(AsOf::new((**spec).clone())?)),
        NodeKind::Session(spec) => ("Session", Box::new(Session::new((**spec).clone())?)),
        NodeKind::Recompute(spec) => {
            ("Recompute", Box::new(Recompute::new(RecomputeSpec { owner, ..(**spec).clone() })?))
        }
        NodeKind::Temporal(spec) => ("Temporal", Box::new(Temporal::new((**spec).clone())?)),
        NodeKind::Import { .. } | NodeKind::Arranged { .. } | NodeKind::Constant(_) | NodeKind::Exchange { .. } => {
            unreachable!("these only move rows")
        }
    })
}

/// Splits each delta by the hash of its key columns, and marks each part with the worker that it is for.
fn deal<'scope>(
    input: Packets<'scope>,
    key: &[usize],
    schema: &arrow::datatypes::SchemaRef,
    workers: usize,
) -> Result<Packets<'scope>> {
    let types: Vec<_> = key.iter().map(|&k| schema.field(k).data_type().clone()).collect();
    let encoder = KeyEncoder::new(&types)?;
    let key = key.to_vec();
    Ok(input.unary::<CapacityContainerBuilder<Vec<Packet>>, _, _, _>(Pipeline, "Deal", move |_, _| {
        move |input, output| {
            input.for_each(|capability, packets| {
                let mut session = output.session(&capability);
                for packet in packets.drain(..) {
                    for (worker, delta) in split(&encoder, &key, &packet.delta, workers) {
                        session.give(Packet { worker: worker as u32, delta });
                    }
                }
            });
        }
    }))
}

/// The rows of a delta, by the worker that owns their key.
pub fn split(encoder: &KeyEncoder, key: &[usize], delta: &Delta, workers: usize) -> Vec<(usize, Delta)> {
    if delta.is_empty() {
        return Vec::new();
    }
    let columns: Vec<_> = key.iter().map(|&k| delta.rows.column(k).clone()).collect();
    let hashes = encoder.encode_rows(&columns, delta.len()).hashes;
    let mut rows: Vec<Vec<u32>> = vec![Vec::new(); workers];
    for (row, &hash) in hashes.iter().enumerate() {
        rows[route(hash, workers)].push(row as u32);
    }
    rows.into_iter()
        .enumerate()
        .filter(|(_, rows)| !rows.is_empty())
        .map(|(worker, rows)| {
            let whole = rows.len() == delta.len();
            (worker, if whole { delta.clone() } else { delta.take(&rows.into()) })
        })
        .collect()
}
