//! Operators: each turns the changes of its inputs into the changes of its result, and remembers what it
//! needs for that in arrangements and cells (`state`). One file each.
//!
//! In come deltas and epoch headers, out go deltas. An operator knows neither Timely nor workers nor
//! plans nor a clock but the header's: the driver feeds it its lowest open epoch, `dataflow::render` makes it.
//!
//! ```text
//!            update(port, delta)*          finish_epoch(header)
//!   epoch 7  ───────────────────────────►  ──────────────────►  epoch 8 …
//!            out: deltas of epoch 7        out: the rest of them
//! ```

pub mod aggregate;
pub mod as_of;
#[cfg(test)]
pub mod check;
pub mod evaluate;
pub mod expiry;
pub mod join;
pub mod map;
pub mod recompute;
pub mod session;
pub mod temporal;
pub mod top_k;
pub mod union;
pub mod unnest;

use std::time::Duration;

use crate::delta::Delta;
use crate::error::Result;
use crate::state::durable::Durable;
use crate::time::EpochHeader;

/// Which of an operator's inputs, from 0.
pub type Port = usize;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    Done,
    /// There is more to say, but others should run first. The operator has kept the rest of the input;
    /// the driver calls the same method again, `update` with an empty delta of the same port, before it
    /// does anything else with this operator.
    Again,
    /// The same, but not at once: a thread of its own is at work.
    Later,
}

/// How long to wait when an operator says [`Step::Later`].
pub const LATER: Duration = Duration::from_micros(500);

/// Finishes an epoch when there is nothing else to do meanwhile.
pub fn finish(operator: &mut (impl Operator + ?Sized), epoch: &EpochHeader, out: &mut Output) -> Result<()> {
    loop {
        match operator.finish_epoch(epoch, out)? {
            Step::Done => return Ok(()),
            Step::Again => {}
            Step::Later => std::thread::sleep(LATER),
        }
    }
}

/// What an operator says.
#[derive(Debug, Default)]
pub struct Output {
    pub deltas: Vec<Delta>,
    pub errors: Vec<ErrorChange>,
}

/// Something that could not be evaluated was set aside (weight 1), or no longer is (−1).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ErrorChange {
    /// As Postgres says it, e.g. `bigint out of range`.
    pub message: String,
    /// What was set aside: a row, or a group's key.
    pub row: String,
    pub weight: i64,
}

/// Turns input deltas into output deltas, one epoch (or group of epochs) at a time. The output is the
/// exact change of the operator's result between the end of the epoch before and the end of this one.
/// Batches of an epoch come in any order, a retraction perhaps before the insertion that it undoes;
/// epochs come in order.
///
/// An `Err` stops the dataflow. A row that cannot be evaluated is no `Err` but an [`ErrorChange`].
pub trait Operator: 'static {
    /// An epoch begins. Called for every epoch where [`Operator::is_timed`], and for no others.
    fn begin_epoch(&mut self, _: &EpochHeader, _: &mut Output) -> Result<()> {
        Ok(())
    }

    /// Its result changes with the header alone, without any row.
    fn is_timed(&self) -> bool {
        false
    }

    fn update(&mut self, input: Port, delta: Delta, out: &mut Output) -> Result<Step>;

    /// All of the epoch has been seen.
    fn finish_epoch(&mut self, epoch: &EpochHeader, out: &mut Output) -> Result<Step>;

    /// What it remembers between epochs, always the same pieces in the same order.
    fn durable(&mut self) -> Vec<&mut dyn Durable> {
        Vec::new()
    }
}
