//! Filter and project: stateless, row by row.
//!
//! ```text
//!   out = { (f(row), weight) | (row, weight) in delta, p(row) }
//! ```
//! Cost: the expressions, vectorised. A chain of filters and projections is one operator, run as [`program`] says.

mod program;

use arrow::datatypes::SchemaRef;

use self::program::Program;
use super::evaluate::{Expression, apply};
use super::{Operator, Output, Port, Step};
use crate::delta::Delta;
use crate::error::Result;
use crate::state::durable::Durable;
use crate::time::EpochHeader;

#[derive(Clone, Debug, PartialEq)]
pub enum MapStep {
    Filter(Expression),
    Project(Vec<Expression>, SchemaRef),
    /// Columns only, no evaluation.
    Select(Vec<usize>, SchemaRef),
    /// Equal rows as one, where there are many.
    Merge,
}

pub struct Map {
    program: Program,
}

impl Map {
    pub fn new(steps: Vec<MapStep>) -> Self {
        Map { program: Program::new(steps) }
    }
}

impl Operator for Map {
    fn update(&mut self, _input: Port, delta: Delta, out: &mut Output) -> Result<Step> {
        if !delta.is_empty() {
            apply(&delta, out, &mut |d| self.program.run(d));
        }
        Ok(Step::Done)
    }
    fn finish_epoch(&mut self, _epoch: &EpochHeader, _out: &mut Output) -> Result<Step> {
        Ok(Step::Done)
    }
    fn durable(&mut self) -> Vec<&mut dyn Durable> {
        Vec::new()
    }
}
