//! Operators' tests in text: deltas in, deltas out (see [`crate::delta::text`]).

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;

use super::{Operator, Output, Port, Step, finish};
use crate::delta::{Delta, text};
use crate::state::durable::Share;
use crate::time::EpochHeader;

/// An operator under test, epoch by epoch.
pub struct Checker<O> {
    pub operator: O,
    pub inputs: Vec<SchemaRef>,
    /// The header of the next epoch, but for its number and `now`.
    pub header: EpochHeader,
    epoch: u64,
}

/// Runs one epoch through a new operator and compares what it says, in any order.
pub fn check(operator: impl Operator, inputs: &[SchemaRef], changes: &[(Port, &str)], expected: &str) {
    Checker::new(operator, inputs).epoch(changes, expected);
}

impl<O: Operator> Checker<O> {
    pub fn new(operator: O, inputs: &[SchemaRef]) -> Self {
        Checker { operator, inputs: inputs.to_vec(), header: EpochHeader::default(), epoch: 0 }
    }

    /// One epoch of changes, each its own batch, and what must come of it: rows as text, what was set
    /// aside as `error +1 | message | row`.
    #[track_caller]
    pub fn epoch(&mut self, changes: &[(Port, &str)], expected: &str) {
        let changes: Vec<(Port, Delta)> =
            changes.iter().map(|(port, text)| (*port, text::parse(&self.inputs[*port], text))).collect();
        let out = self.run(changes);
        let mut lines: Vec<String> = text::format(&out.deltas).lines().map(str::to_string).collect();
        lines.extend(out.errors.iter().map(|e| format!("error {:+} | {} | {}", e.weight, e.message, e.row)));
        let mut expected: Vec<&str> = expected.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        lines.iter_mut().for_each(|line| line.truncate(line.trim_end().len()));
        lines.sort();
        expected.sort();
        assert_eq!(lines, expected, "epoch {}", self.epoch);
    }

    /// One epoch of changes; all that the operator says.
    pub fn run(&mut self, changes: Vec<(Port, Delta)>) -> Output {
        self.epoch += 1;
        let header = EpochHeader { epoch: self.epoch, now_us: self.epoch as i64 * 1_000_000, ..self.header.clone() };
        let mut out = Output::default();
        self.operator.begin_epoch(&header, &mut out).expect("begin_epoch");
        for (port, delta) in changes {
            let rest = delta.slice(0, 0);
            let mut step = self.operator.update(port, delta, &mut out).expect("update");
            while step == Step::Again {
                step = self.operator.update(port, rest.clone(), &mut out).expect("update");
            }
        }
        finish(&mut self.operator, &header, &mut out).expect("finish_epoch");
        out
    }
}

/// What checkpoints of an operator hold on disk: for each of its pieces of state the blocks since the
/// last whole save.
#[derive(Debug, Default, Clone)]
pub struct Disk {
    pub pieces: Vec<Vec<RecordBatch>>,
}

impl Disk {
    pub fn save(&mut self, operator: &mut impl Operator) {
        let pieces = operator.durable();
        self.pieces.resize(pieces.len(), Vec::new());
        for (piece, blocks) in pieces.into_iter().zip(&mut self.pieces) {
            let saved = piece.save();
            if saved.whole {
                blocks.clear();
            }
            blocks.extend(saved.blocks);
        }
    }

    /// Fills a new operator from what the workers of before saved.
    pub fn restore(disks: &[Disk], operator: &mut impl Operator, share: Share) {
        for (i, piece) in operator.durable().into_iter().enumerate() {
            let parts: Vec<Vec<RecordBatch>> = disks.iter().map(|disk| disk.pieces[i].clone()).collect();
            piece.restore(&parts, &share).expect("restore");
        }
    }
}
