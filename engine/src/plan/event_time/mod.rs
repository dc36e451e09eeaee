//! What watermarks promise of the nodes of a plan, and what follows: state that can be let go.
//!
//! ```text
//!   Aggregate by window_end, k     window_end > W     a group whose window_end is W or before is let go
//!     Map: TUMBLE                  window_end > W     for ts is in the window: window_end > ts >= W
//!       Import bids                ts >= W            earlier rows are late, and not among the stream's rows
//! ```
//!
//! A [`TimeBound`] speaks of all changes that are to come, insertions and retractions, in one column. It is found node by
//! node, from the imports up. Two bounds meet where rows of two inputs must: in the lowest watermark of both.

mod expressions;

use super::{Node, NodeKind};
use crate::catalog::{LateRows, Relation, RelationId};

use crate::operators::join::{JoinKind, JoinSpec};
use crate::operators::map::MapStep;
use crate::operators::session;
use crate::operators::temporal::Condition;
use crate::time::TimeBound;

pub use crate::operators::expiry::is_time;
pub use expressions::{Line, line};

/// What is promised of a relation's columns.
pub fn of_relation(relation: &Relation) -> Vec<TimeBound> {
    match &relation.watermark {
        // Late rows that are let in break every promise.
        Some(w) if w.late != LateRows::Update => {
            vec![TimeBound { column: w.column, streams: vec![relation.id], offset_us: 0 }]
        }
        _ => relation.bounds.clone(),
    }
}

/// The bounds of each node's columns. `imported`: those of a relation's columns.
pub fn bounds(nodes: &[Node], imported: &dyn Fn(RelationId) -> Vec<TimeBound>) -> Vec<Vec<TimeBound>> {
    let mut all: Vec<Vec<TimeBound>> = Vec::new();
    for node in nodes {
        let inputs: Vec<&[TimeBound]> = node.inputs.iter().map(|&i| &all[i][..]).collect();
        let mut own = of_node(node, &inputs, imported);
        own.retain(|bound| is_time(node.schema.field(bound.column).data_type()) || is_list(node, bound.column));
        all.push(own);
    }
    all
}

fn is_list(node: &Node, column: usize) -> bool {
    matches!(node.schema.field(column).data_type(), arrow::datatypes::DataType::List(of) if is_time(of.data_type()))
}

fn of_column(bounds: &[TimeBound], column: usize) -> Option<&TimeBound> {
    bounds.iter().filter(|bound| bound.column == column).max_by_key(|bound| bound.offset_us)
}

/// What holds where rows of two inputs meet: of both streams, by the lower offset.
fn both(a: &TimeBound, b: &TimeBound, column: usize) -> TimeBound {
    let mut streams = [&a.streams[..], &b.streams[..]].concat();
    streams.sort_unstable();
    streams.dedup();
    TimeBound { column, streams, offset_us: a.offset_us.min(b.offset_us) }
}

fn moved(bound: &TimeBound, by_us: i64) -> TimeBound {
    TimeBound { offset_us: bound.offset_us.saturating_add(by_us), ..bound.clone() }
}

fn of_node(node: &Node, inputs: &[&[TimeBound]], imported: &dyn Fn(RelationId) -> Vec<TimeBound>) -> Vec<TimeBound> {
    // Columns of the input under another number.
    let at = |column: usize, bound: &TimeBound| TimeBound { column, ..bound.clone() };
    let kept = |columns: &[usize]| -> Vec<TimeBound> {
        let own = columns.iter().enumerate().filter_map(|(i, &c)| Some(at(i, of_column(inputs[0], c)?)));
        own.collect()
    };
    match &node.kind {
        NodeKind::Import { relation, columns, .. } => {
            let of = imported(*relation);
            columns.iter().enumerate().filter_map(|(i, &c)| Some(at(i, of_column(&of, c)?))).collect()
        }
        NodeKind::Constant(_) | NodeKind::Arranged { .. } => vec![],
        NodeKind::Exchange { .. } => inputs[0].to_vec(),
        NodeKind::Map(steps) => of_steps(steps, inputs[0]),
        NodeKind::Unnest(spec) => kept(&spec.columns),
        NodeKind::Union => {
            let (first, rest) = inputs.split_first().expect("a union has inputs");
            let joint = |bound: &TimeBound| {
                rest.iter().try_fold(bound.clone(), |bound, other| {
                    Some(both(&bound, of_column(other, bound.column)?, bound.column))
                })
            };
            first.iter().filter_map(joint).collect()
        }
        NodeKind::Aggregate(spec) => kept(&spec.group),
        // A list changes with the partition.
        NodeKind::TopK(spec) => spec.partition.iter().filter_map(|&c| of_column(inputs[0], c).cloned()).collect(),
        NodeKind::Recompute(spec) => {
            let [input] = &spec.inputs[..] else { return vec![] };
            // A change touches all of its key, or what comes after it.
            let touched = |column: &usize| input.key.contains(column) || spec.later == Some(*column);
            let passed = spec.passed.iter().filter(|(from, _)| touched(from));
            passed.filter_map(|(from, to)| Some(at(*to, of_column(inputs[0], *from)?))).collect()
        }
        NodeKind::Session(spec) => {
            // A session that has ended is the same for ever, whatever is in it.
            let Some(bound) = of_column(inputs[0], spec.time) else { return vec![] };
            let width = node.schema.fields().len() - spec.bounds.len();
            let ends = spec.bounds.iter().enumerate().filter(|(_, b)| **b == session::Bound::End);
            let mut of: Vec<TimeBound> = ends.map(|(i, _)| at(width + i, &moved(bound, 1))).collect();
            let shown = spec.key.iter().filter(|c| **c < width);
            of.extend(shown.filter_map(|&c| of_column(inputs[0], c).cloned()));
            of
        }
        // An order that was only computed for the join is no column of its result.
        NodeKind::AsOf(spec) if spec.sides[0].order < spec.sides[0].width => as_of(spec, inputs).into_iter().collect(),
        NodeKind::AsOf(_) => vec![],
        NodeKind::Join(spec) => of_join(spec, inputs),
        NodeKind::Temporal(spec) => match &spec.condition {
            // What is held back comes when the watermark has passed it, and not before.
            Condition::Closed(bound) => vec![bound.clone()],
            // Rows leave whenever their time has come.
            Condition::Clock { .. } => vec![],
        },
    }
}

/// What holds behind steps of a Map.
pub fn of_steps(steps: &[MapStep], input: &[TimeBound]) -> Vec<TimeBound> {
    let mut of = input.to_vec();
    for step in steps {
        of = match step {
            MapStep::Filter(_) | MapStep::Merge => of,
            MapStep::Select(columns, _) => {
                let kept = columns.iter().enumerate();
                kept.filter_map(|(i, &c)| Some(TimeBound { column: i, ..of_column(&of, c)?.clone() })).collect()
            }
            MapStep::Project(expressions, _) => {
                let computed = expressions.iter().enumerate();
                computed.filter_map(|(i, e)| Some(TimeBound { column: i, ..expressions::bound(e, &of)? })).collect()
            }
        };
    }
    of
}

/// Of the left rows' order, where the nearest right row before it is taken.
fn as_of(spec: &crate::operators::as_of::AsOfSpec, inputs: &[&[TimeBound]]) -> Option<TimeBound> {
    let [left, right] = [0, 1].map(|side| of_column(inputs[side], spec.sides[side].order));
    if spec.back { Some(both(left?, right?, spec.sides[0].order)) } else { None }
}

/// A condition of a join that bounds a time of one side by one of the other: l + low <= r <= l + high.
#[derive(Debug, Clone, PartialEq)]
struct Band {
    left: usize,
    right: usize,
    low: Option<i64>,
    high: Option<i64>,
}

fn bands(spec: &JoinSpec) -> Vec<Band> {
    let width = spec.sides[0].schema.fields().len();
    let mut bands: Vec<Band> = Vec::new();
    let Some(filter) = &spec.filter else { return bands };
    // a is at most b: b - a >= least.
    for (a, b, least) in expressions::at_most(filter) {
        let of = |line: &Line| {
            let column = *spec.filter_columns.get(line.column)?;
            Some((column, line.offset_us))
        };
        let (Some((a, a_offset)), Some((b, b_offset))) = (of(&a), of(&b)) else { continue };
        let strict = i64::from(least);
        let mut add = |left, right, low: Option<i64>, high: Option<i64>| {
            let known = bands.iter_mut().find(|band| band.left == left && band.right == right);
            match known {
                Some(band) => {
                    band.low = band.low.max(low);
                    band.high = [band.high, high].into_iter().flatten().min();
                }
                None => bands.push(Band { left, right, low, high }),
            }
        };
        match (a < width, b < width) {
            // l + a_offset <= r + b_offset
            (true, false) => {
                let low = a_offset.checked_sub(b_offset).and_then(|low| low.checked_add(strict));
                add(a, b - width, low, None)
            }
            // r + a_offset <= l + b_offset
            (false, true) => {
                let high = b_offset.checked_sub(a_offset).and_then(|high| high.checked_sub(strict));
                add(b, a - width, None, high)
            }
            _ => {}
        }
    }
    bands
}

/// What the two sides of a join promise each other: for each side the bounds of columns that both sides' changes keep to.
fn of_sides(spec: &JoinSpec, inputs: &[&[TimeBound]]) -> [Vec<TimeBound>; 2] {
    let mut of: [Vec<TimeBound>; 2] = [vec![], vec![]];
    for (&l, &r) in spec.sides[0].key.iter().zip(&spec.sides[1].key) {
        if let (Some(a), Some(b)) = (of_column(inputs[0], l), of_column(inputs[1], r)) {
            of[0].push(both(a, b, l));
            of[1].push(both(a, b, r));
        }
    }
    for band in bands(spec) {
        let (Some(a), Some(b)) = (of_column(inputs[0], band.left), of_column(inputs[1], band.right)) else { continue };
        if let Some(high) = band.high {
            of[0].push(both(a, &moved(b, high.saturating_neg()), band.left));
        }
        if let Some(low) = band.low {
            of[1].push(both(b, &moved(a, low), band.right));
        }
    }
    of
}

/// From when on the rows of each side can be let go: when nothing can meet them and they are taken back no more. Rows whose
/// matches are counted by the other side stay as long as what they matched, for after a restart it is counted anew.
fn useless(spec: &JoinSpec, inputs: &[&[TimeBound]]) -> [Vec<TimeBound>; 2] {
    let mut of = of_sides(spec, inputs);
    let bands = bands(spec);
    let by_band = |side: usize, column: usize| {
        bands.iter().find(|band| [band.left, band.right][side] == column && !spec.sides[side].key.contains(&column))
    };
    let sides = of.clone();
    for side in 0..2 {
        if !spec.kind.counts(1 - side) {
            continue;
        }
        let longer = |bound: TimeBound| {
            let Some(band) = by_band(side, bound.column) else { return Some(bound) };
            let (other, by) = match side {
                0 => (band.right, band.high?.checked_neg()?),
                _ => (band.left, band.low?),
            };
            let matched = of_column(&sides[1 - side], other)?;
            Some(both(&bound, &moved(matched, by), bound.column))
        };
        of[side] = std::mem::take(&mut of[side]).into_iter().filter_map(longer).collect();
    }
    of
}

fn of_join(spec: &JoinSpec, inputs: &[&[TimeBound]]) -> Vec<TimeBound> {
    if spec.kind.is_lookup() {
        // Only left rows make rows.
        return inputs[0].to_vec();
    }
    let sides = of_sides(spec, inputs);
    let mut of = Vec::new();
    let mut offset = 0;
    for (side, bounds) in sides.into_iter().enumerate() {
        if spec.kind.keeps(side) {
            // Rows that the join makes up have NULL there; of those nothing is said.
            let made_up = match spec.kind {
                JoinKind::Left => side == 1,
                JoinKind::Right => side == 0,
                JoinKind::Full => true,
                _ => false,
            };
            if !made_up {
                of.extend(bounds.into_iter().map(|bound| TimeBound { column: bound.column + offset, ..bound }));
            }
            offset += spec.sides[side].schema.fields().len();
        }
    }
    of
}

/// Tells each operator what of its state a watermark makes useless.
pub fn expire(nodes: &mut [Node], imported: &dyn Fn(RelationId) -> Vec<TimeBound>) {
    let all = bounds(nodes, imported);
    for node in nodes {
        let inputs: Vec<&[TimeBound]> = node.inputs.iter().map(|&i| &all[i][..]).collect();
        let soonest = |bounds: &[TimeBound]| bounds.iter().max_by_key(|bound| bound.offset_us).cloned();
        let of_key = |key: &[usize], bounds: &[TimeBound]| {
            soonest(&key.iter().filter_map(|&c| of_column(bounds, c).cloned()).collect::<Vec<_>>())
        };
        match &mut node.kind {
            NodeKind::Aggregate(spec) => spec.expiry = of_key(&spec.group, inputs[0]),
            NodeKind::TopK(spec) => spec.expiry = of_key(&spec.partition, inputs[0]),
            NodeKind::Recompute(spec) => {
                if let ([input], [bounds]) = (&mut spec.inputs[..], &inputs[..]) {
                    input.expiry = of_key(&input.key, bounds);
                    // Rows of a key that ends all end with it.
                    let lookback = input.lookback.take().filter(|_| input.expiry.is_none());
                    let behind = lookback.and_then(|lookback| of_column(bounds, lookback.column).cloned());
                    if behind.is_some() {
                        (input.expiry, input.lookback) = (behind, lookback);
                    }
                }
            }
            NodeKind::Session(spec) => spec.expiry = of_column(inputs[0], spec.time).cloned(),
            NodeKind::AsOf(spec) => {
                let order = spec.sides[0].schema.field(spec.sides[0].order).data_type();
                let is_timestamp = matches!(order, arrow::datatypes::DataType::Timestamp(..));
                spec.expiry = as_of(spec, &inputs).filter(|_| is_timestamp);
            }
            NodeKind::Join(spec) => {
                let [left, right] = useless(spec, &inputs);
                spec.sides[0].expiry = soonest(&left);
                spec.sides[1].expiry = soonest(&right);
            }
            _ => {}
        }
    }
}
