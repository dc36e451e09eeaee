//! A plan over whole relations, in one epoch and on one thread: the answer that a view must have when rows were set
//! aside, for which DataFusion has no word. What the operators say at once must be what they said bit by bit.

use super::render::operator;
use crate::catalog::RelationId;
use crate::delta::Delta;
use crate::error::{Error, Result};
use crate::operators::{Output, Step, finish};
use crate::plan::{NodeKind, Plan};
use crate::time::EpochHeader;

/// `rows`: of each relation that the plan imports, whole, as of `epoch`.
pub fn run(plan: &Plan, epoch: &EpochHeader, rows: impl Fn(RelationId) -> Result<Vec<Delta>>) -> Result<Vec<Delta>> {
    let mut results: Vec<Vec<Delta>> = Vec::new();
    for node in &plan.nodes {
        let mut inputs = node.inputs.iter().map(|&i| results[i].clone()).collect::<Vec<_>>();
        results.push(match &node.kind {
            NodeKind::Import { relation, columns, .. } => {
                let project = |delta: Delta| {
                    let columns = columns.iter().map(|&c| delta.rows.column(c).clone()).collect();
                    delta.with_columns(node.schema.clone(), columns)
                };
                rows(*relation)?.into_iter().map(project).collect()
            }
            NodeKind::Arranged { .. } => {
                return Err(Error::internal("a plan that reads arrangements is run by workers"));
            }
            NodeKind::Constant(rows) => vec![Delta::inserts(rows.clone())],
            NodeKind::Exchange { .. } => inputs.pop().expect("one input"),
            kind => {
                let (_, mut operator) = operator(kind, true, &|_| None)?;
                let mut out = Output::default();
                operator.begin_epoch(epoch, &mut out)?;
                for (port, deltas) in inputs.into_iter().enumerate() {
                    for delta in deltas {
                        let empty = delta.slice(0, 0);
                        let mut step = operator.update(port, delta, &mut out)?;
                        while step == Step::Again {
                            step = operator.update(port, empty.clone(), &mut out)?;
                        }
                    }
                }
                finish(&mut *operator, epoch, &mut out)?;
                out.deltas
            }
        });
    }
    Ok(results.pop().expect("a plan has a node"))
}
