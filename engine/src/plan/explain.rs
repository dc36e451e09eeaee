//! The incremental plan as text: what each node does, the state that it keeps and whether that is bounded.
//!
//! ```text
//! Aggregate by category: sum(amount)          state: one row per group, unbounded
//!   Exchange by category
//!     Map: filter amount > 0
//!       Import orders (category, amount)      append-only
//! ```
//!
//! What is computed once for several users is written once: `#1 Aggregate …`, then `#1, as above`.

use std::fmt::Write;

use arrow::datatypes::SchemaRef;

use super::{Node, NodeKind, Plan, keys};
use crate::operators::map::MapStep;
use crate::operators::temporal::Condition;
use crate::operators::top_k::Bound;
use crate::time::TimeBound;

pub fn explain(plan: &Plan) -> String {
    explain_with(plan, &|_| Vec::new())
}

/// With what is known of the result as a whole.
pub fn explain_whole(plan: &Plan) -> String {
    let mut text = explain(plan);
    let keys: Vec<String> = keys::of_result(plan).iter().map(|key| format!("({})", key.join(", "))).collect();
    if !keys.is_empty() {
        writeln!(text, "Unique: {}", keys.join(", ")).expect("writing to a string");
    }
    text
}

/// `more`: lines below that of a node.
pub fn explain_with(plan: &Plan, more: &dyn Fn(usize) -> Vec<String>) -> String {
    let mut lines = Vec::new();
    let mut users = vec![0; plan.nodes.len()];
    plan.nodes.iter().flat_map(|node| &node.inputs).for_each(|&input| users[input] += 1);
    tree(plan, plan.nodes.len() - 1, 0, &users, more, &mut Vec::new(), &mut lines);
    let own = lines.iter().filter(|(_, note): &&(String, Option<String>)| note.is_some());
    let width = own.map(|(line, _)| line.chars().count()).max().unwrap_or(0).min(80);
    let mut text = String::new();
    for (line, note) in lines {
        let note = note.unwrap_or_default();
        let padding = if note.is_empty() { 0 } else { width.saturating_sub(line.chars().count()) + 2 };
        writeln!(text, "{line}{:padding$}{note}", "").expect("writing to a string");
    }
    text
}

/// `users`: of each node. `shared`: the nodes of several users that have been written. `lines`: each with its note; those of
/// `more` have none.
fn tree(
    plan: &Plan,
    index: usize,
    depth: usize,
    users: &[usize],
    more: &dyn Fn(usize) -> Vec<String>,
    shared: &mut Vec<usize>,
    lines: &mut Vec<(String, Option<String>)>,
) {
    let (node, indent) = (&plan.nodes[index], "  ".repeat(depth));
    if let Some(number) = shared.iter().position(|&written| written == index) {
        lines.push((format!("{indent}#{}, as above", number + 1), Some(String::new())));
        return;
    }
    let mut number = String::new();
    if users[index] > 1 {
        shared.push(index);
        number = format!("#{} ", shared.len());
    }
    lines.push((format!("{indent}{number}{}", describe(plan, node)), Some(note(plan, node))));
    lines.extend(more(index).into_iter().map(|line| (format!("{indent}    {line}"), None)));
    for &input in &node.inputs {
        tree(plan, input, depth + 1, users, more, shared, lines);
    }
}

fn names(node: &Node, columns: &[usize]) -> String {
    if columns.is_empty() {
        return "()".to_string();
    }
    columns.iter().map(|&c| node.schema.field(c).name().as_str()).collect::<Vec<_>>().join(", ")
}

/// What a node does, in a line.
pub fn describe(plan: &Plan, node: &Node) -> String {
    let input = |i: usize| &plan.nodes[node.inputs[i]];
    match &node.kind {
        NodeKind::Import { name, .. } => {
            let all: Vec<usize> = (0..node.schema.fields().len()).collect();
            format!("Import {name} ({})", if all.is_empty() { String::new() } else { names(node, &all) })
        }
        NodeKind::Arranged { name, .. } => {
            let all: Vec<usize> = (0..node.schema.fields().len()).collect();
            format!("Arranged {name} ({})", names(node, &all))
        }
        NodeKind::Constant(rows) => format!("Constant: {} rows", rows.num_rows()),
        NodeKind::Map(steps) => {
            let steps: Vec<String> = steps
                .iter()
                .map(|s| match s {
                    MapStep::Filter(e) => format!("filter {e}"),
                    MapStep::Project(e, schema) => {
                        let list: Vec<String> = e
                            .iter()
                            .zip(schema.fields())
                            .map(|(e, f)| {
                                let text = e.to_string();
                                let plain = text.split('@').next() == Some(f.name());
                                if plain { f.name().clone() } else { format!("{text} AS {}", f.name()) }
                            })
                            .collect();
                        format!("project {}", list.join(", "))
                    }
                    MapStep::Merge => "merge equal rows".to_string(),
                    MapStep::Select(_, schema) => {
                        format!(
                            "select {}",
                            schema.fields().iter().map(|f| f.name().as_str()).collect::<Vec<_>>().join(", ")
                        )
                    }
                })
                .collect();
            format!("Map: {}", steps.join("; "))
        }
        NodeKind::Unnest(spec) => format!("Unnest {}", names(input(0), &spec.lists)),
        NodeKind::Exchange { key } => format!("Exchange by {}", names(node, key)),
        NodeKind::Join(spec) => {
            let kind = format!("{:?}", spec.kind);
            let keys: Vec<String> = spec.sides[0]
                .key
                .iter()
                .zip(&spec.sides[1].key)
                .map(|(&l, &r)| {
                    format!("{} = {}", spec.sides[0].schema.field(l).name(), spec.sides[1].schema.field(r).name())
                })
                .collect();
            let on = if keys.is_empty() { "no key (cross product)".to_string() } else { keys.join(" and ") };
            let filter = spec.filter.as_ref().map_or(String::new(), |f| format!(", where {f}"));
            format!("{kind} join on {on}{filter}")
        }
        NodeKind::AsOf(spec) => {
            let [left, right] = &spec.sides;
            let keys = left.key.iter().zip(&right.key);
            let keys =
                keys.map(|(&l, &r)| format!("{} = {}", left.schema.field(l).name(), right.schema.field(r).name()));
            let comparison = match (spec.back, spec.takes_equal) {
                (true, true) => ">=",
                (true, false) => ">",
                (false, true) => "<=",
                (false, false) => "<",
            };
            let order = [left, right].map(|side| side.schema.field(side.order).name().as_str());
            let on: Vec<String> = keys.chain([format!("{} {comparison} {}", order[0], order[1])]).collect();
            format!("{} as-of join on {}", if spec.outer { "Left" } else { "Inner" }, on.join(" and "))
        }
        NodeKind::Aggregate(spec) => {
            let calls: Vec<String> = spec
                .calls
                .iter()
                .map(|c| {
                    let argument = c.argument.map_or("*".to_string(), |a| spec.input.field(a).name().clone());
                    let distinct = if c.distinct { "distinct " } else { "" };
                    let filter = if c.filter.is_some() { " filtered" } else { "" };
                    format!("{:?}({distinct}{argument}){filter}", c.function).to_lowercase()
                })
                .collect();
            let by = names(input(0), &spec.group);
            if calls.is_empty() {
                format!("Distinct by {by}")
            } else {
                format!("Aggregate by {by}: {}", calls.join(", "))
            }
        }
        NodeKind::TopK(spec) => {
            let order: Vec<String> = spec
                .order
                .iter()
                .map(|(c, o)| {
                    let nulls = if o.nulls_first == o.descending {
                        ""
                    } else if o.nulls_first {
                        " nulls first"
                    } else {
                        " nulls last"
                    };
                    format!("{}{}{nulls}", spec.input.field(*c).name(), if o.descending { " desc" } else { "" })
                })
                .collect();
            let bound = match spec.bound {
                Bound::Rows { skip: 0, fetch } => {
                    fetch.map_or("all rows".to_string(), |fetch| format!("first {fetch}"))
                }
                Bound::Rows { skip, fetch } => {
                    format!("{} after {skip}", fetch.map_or("all rows".to_string(), |fetch| format!("first {fetch}")))
                }
                Bound::RowNumber(last) => format!("row number up to {last}"),
                Bound::Rank(last) => format!("rank up to {last}"),
                Bound::DenseRank(last) => format!("dense rank up to {last}"),
            };
            let order = if order.is_empty() { "the whole row".to_string() } else { order.join(", ") };
            let per = if spec.partition.is_empty() {
                String::new()
            } else {
                format!(" per {}", names(input(0), &spec.partition))
            };
            format!("Top-k: {bound}{per} by {order}")
        }
        NodeKind::Session(spec) => {
            let per = if spec.key.is_empty() { String::new() } else { format!(" per {}", names(input(0), &spec.key)) };
            let bounds: Vec<String> = spec.bounds.iter().map(|bound| format!("{bound:?}").to_lowercase()).collect();
            let (time, gap) = (spec.input.field(spec.time).name(), spec.gap_us);
            format!("Session: {}{per} by {time}, gap {gap} microseconds", bounds.join(", "))
        }
        NodeKind::Recompute(spec) => {
            let key = spec.inputs.first().map_or(String::new(), |first| names(input(0), &first.key));
            let key = if key.is_empty() || key == "()" { "everything".to_string() } else { key };
            format!("Recompute by {key}: {}", spec.query)
        }
        NodeKind::Temporal(spec) => match &spec.condition {
            Condition::Closed(bound) => {
                format!("Hold back until the watermark has passed {}", names(node, &[bound.column]))
            }
            Condition::Clock { holds, .. } => format!("Temporal filter {holds}"),
        },
        NodeKind::Union => "Union".to_string(),
    }
}

fn note(plan: &Plan, node: &Node) -> String {
    match &node.kind {
        NodeKind::Import { .. } if node.append_only => "append-only".into(),
        NodeKind::Arranged { .. } => "kept once for all views that read it".into(),
        NodeKind::Join(spec) => {
            let sides: Vec<&str> = node
                .inputs
                .iter()
                .map(|&i| if plan.nodes[i].append_only { "append-only" } else { "retractable" })
                .collect();
            let ends: Vec<String> = (0..2)
                .filter_map(|side| {
                    let bound = spec.sides[side].expiry.as_ref()?;
                    let name = spec.sides[side].schema.field(bound.column).name();
                    Some(format!("{} until the watermark has passed {name}{}", ["left", "right"][side], moved(bound)))
                })
                .collect();
            let ends = if ends.is_empty() { "unbounded".to_string() } else { ends.join(", ") };
            if spec.kind.is_lookup() {
                return format!("incremental, as of the row's arrival; state: the right side ({}), {ends}", sides[1]);
            }
            match [0, 1].map(|side| spec.sides[side].kept.is_some()) {
                [true, _] => format!("incremental; state: the right side ({}), {ends}", sides[1]),
                [false, true] => format!("incremental; state: the left side ({}), {ends}", sides[0]),
                [false, false] => {
                    format!("incremental; state: both sides whole ({} left, {} right), {ends}", sides[0], sides[1])
                }
            }
        }
        NodeKind::Aggregate(spec) if spec.group.is_empty() => "incremental; state: one row, bounded".into(),
        NodeKind::Aggregate(spec) => {
            format!("incremental; state: accumulators per group, {}", until(&spec.input, &spec.expiry))
        }
        NodeKind::TopK(spec) if spec.append_only => match &spec.expiry {
            None => "incremental; state: the listed rows".into(),
            expiry => format!("incremental; state: the listed rows, {}", until(&spec.input, expiry)),
        },
        NodeKind::TopK(spec) => format!("incremental; state: all rows, in order, {}", until(&spec.input, &spec.expiry)),
        NodeKind::AsOf(spec) => {
            let ends = until(&spec.sides[0].schema, &spec.expiry);
            format!("incremental; state: both sides, in order per key, {ends}")
        }
        NodeKind::Session(spec) => {
            let ends = if spec.expiry.is_some() { "until the watermark has passed their end" } else { "unbounded" };
            format!("incremental by session; state: all rows, in order per key, {ends}")
        }
        NodeKind::Temporal(spec) => match &spec.condition {
            Condition::Closed(_) => "state: rows that are not final".into(),
            Condition::Clock { .. } => "by the clock; state: rows that will come or go".into(),
        },
        NodeKind::Recompute(spec) if spec.inputs.iter().all(|input| input.key.is_empty()) => {
            "recomputed as a whole at each change of it; state: its inputs, unbounded".into()
        }
        NodeKind::Recompute(spec) => {
            let ends = spec.inputs.first().map_or("unbounded".into(), |input| until(&input.schema, &input.expiry));
            let lookback = spec.inputs.first().and_then(|input| input.lookback);
            let stays = match lookback.map(|lookback| (lookback.rows, lookback.us)) {
                None => String::new(),
                Some((rows, 0)) => format!(", the last {rows} rows before longer"),
                Some((0, us)) => format!(", longer by {} s", us.unsigned_abs().div_ceil(1_000_000)),
                Some((rows, us)) => {
                    format!(", the last {rows} rows before, and {} s, longer", us.unsigned_abs().div_ceil(1_000_000))
                }
            };
            format!("touched keys recomputed; state: its input by key, {ends}{stays}")
        }
        _ => String::new(),
    }
}

/// How long state is kept.
fn until(schema: &SchemaRef, expiry: &Option<TimeBound>) -> String {
    match expiry {
        None => "unbounded".into(),
        Some(bound) => format!("until the watermark has passed {}{}", schema.field(bound.column).name(), moved(bound)),
    }
}

/// By how much the watermark must have passed it.
fn moved(bound: &TimeBound) -> String {
    let whole = |us: i64| us % 1_000_000 == 0;
    match -bound.offset_us {
        ..=0 => String::new(),
        us if whole(us) => format!(" by {} s", us / 1_000_000),
        // A moment more or less is none.
        us if whole(us + 1) => format!(" by {} s", (us + 1) / 1_000_000),
        us => format!(" by {us} us"),
    }
}
