//! What the operators of a materialized view have done, since the view was made or the process started: EXPLAIN ANALYZE
//! MATERIALIZED VIEW, and the same as a relation.
//!
//! | relation | rows |
//! | --- | --- |
//! | `mr_operators` | per view, node of its plan and worker: what the node does, rows in and out, time, state |

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use arrow::array::{ArrayRef, Int64Array, StringArray};
use arrow::datatypes::DataType;

use super::Session;
use super::system_tables::views_in;
use crate::catalog::{Catalog, RelationKind};
use crate::core::Core;
use crate::dataflow::meter::Reading;
use crate::dataflow::status::ViewStatus;
use crate::error::{Error, Result};
use crate::plan::explain::{describe, explain, explain_with};
use crate::plan::{NodeKind, Plan};
use crate::sql::statement::{Explain, ExplainStage, Name};

pub const OPERATORS: &[(&str, DataType)] = &[
    ("view", DataType::Utf8),
    ("node", DataType::Int64),
    ("worker", DataType::Int64),
    ("operator", DataType::Utf8),
    ("rows_in", DataType::Int64),
    ("rows_out", DataType::Int64),
    ("busy_us", DataType::Int64),
    ("state_rows", DataType::Int64),
    ("state_bytes", DataType::Int64),
    ("fixed_bytes", DataType::Int64),
];

impl Session {
    /// EXPLAIN [ANALYZE] MATERIALIZED VIEW.
    pub(super) fn explained_view(&self, name: &Name, how: &Explain) -> Result<String> {
        let relation = self.relation(name)?;
        if relation.kind != RelationKind::MaterializedView {
            return Err(Error::new("42809", format!("\"{}\" is not a materialized view", relation.name)));
        }
        if !matches!(how.stage, ExplainStage::Default | ExplainStage::Incremental) {
            return Err(Error::unsupported("this stage of a materialized view that exists")
                .hint("EXPLAIN (LOGICAL), (OPTIMIZED) and the like take the CREATE MATERIALIZED VIEW statement."));
        }
        let Some(status) = self.core.view(relation.id) else {
            return Err(Error::not_in_state(format!("\"{}\" is being made or dropped", relation.name)));
        };
        let Some(plan) = &status.plan else {
            let reason = status.failure().map_or("it has no plan".to_string(), |error| error.message);
            return Err(Error::not_in_state(format!("\"{}\" is suspended: {reason}", relation.name)));
        };
        if !how.analyze {
            return Ok(explain(plan));
        }
        let of_node = |node: usize| {
            let is_import = matches!(plan.nodes[node].kind, NodeKind::Import { .. } | NodeKind::Arranged { .. });
            readings(&status, plan, node).map(|(worker, r)| line(worker, is_import, &r)).collect()
        };
        let mut text = explain_with(plan, &of_node);
        let sum = |of: &dyn Fn(usize) -> u64| (0..status.workers.len()).map(of).sum::<u64>();
        let bytes = sum(&|w| status.workers[w].state_bytes.load(Relaxed));
        text += &format!("All state with the result: {bytes} bytes\n");
        if let errors @ 1.. = status.errors() {
            text += &format!("Rows set aside: {errors}\n");
        }
        if let Some(error) = status.failure() {
            text += &format!("Suspended: {}\n", error.message);
        }
        Ok(text)
    }
}

/// What there is to say of a node, by worker.
fn readings<'a>(
    status: &'a ViewStatus,
    plan: &'a Plan,
    node: usize,
) -> impl Iterator<Item = (usize, Reading)> + use<'a> {
    // Rows that are dealt to workers are counted where they arrive.
    let counted = !matches!(plan.nodes[node].kind, NodeKind::Exchange { .. } | NodeKind::Constant(_));
    let workers = status.workers.iter().enumerate().filter(move |_| counted);
    workers.filter_map(move |(worker, status)| Some((worker, status.meters.get(node)?.read())))
}

fn line(worker: usize, is_import: bool, r: &Reading) -> String {
    if is_import {
        return format!("worker {worker}: {} rows", r.rows_out);
    }
    let mut line = format!(
        "worker {worker}: {} rows in, {} rows out, {:.3} ms",
        r.rows_in,
        r.rows_out,
        r.busy.as_secs_f64() * 1000.0
    );
    if r.state_bytes > 0 {
        line += &format!(", state: {} rows, {} bytes", r.state_rows, r.state_bytes);
    }
    line
}

pub fn operators(core: &Core, catalog: &Catalog) -> Vec<ArrayRef> {
    let views: Vec<(&str, Arc<ViewStatus>)> = views_in(core, catalog).collect();
    let (mut names, mut operators) = (Vec::new(), Vec::new());
    let mut numbers: [Vec<i64>; 8] = Default::default();
    for (name, status) in &views {
        let Some(plan) = &status.plan else { continue };
        for node in 0..plan.nodes.len() {
            for (worker, r) in readings(status, plan, node) {
                names.push(*name);
                operators.push(describe(plan, &plan.nodes[node]));
                let (place, busy) = ([node as u64, worker as u64], r.busy.as_micros() as u64);
                let figures = [r.rows_in, r.rows_out, busy, r.state_rows, r.state_bytes, r.fixed_bytes];
                let all = place.into_iter().chain(figures);
                numbers.iter_mut().zip(all).for_each(|(column, figure)| column.push(figure as i64));
            }
        }
    }
    let [node, worker, figures @ ..] = numbers.map(|column| Arc::new(Int64Array::from(column)) as ArrayRef);
    let names: ArrayRef = Arc::new(StringArray::from(names));
    let operators: ArrayRef = Arc::new(StringArray::from(operators));
    [names, node, worker, operators].into_iter().chain(figures).collect()
}
