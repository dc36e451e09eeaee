//! Filter and project: stateless, row by row.
//!
//! ```text
//!   out = { (f(row), weight) | (row, weight) in delta, p(row) }
//! ```
//! Cost: the expressions, vectorised. A chain of filters and projections is one operator.

use arrow::datatypes::SchemaRef;
use datafusion::common::DataFusionError;

use super::evaluate::{Expression, apply, column, predicate};
use super::{Operator, Output, Port, Step};
use crate::delta::Delta;
use crate::delta::merge::merge;
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
    steps: Vec<MapStep>,
}

impl Map {
    pub fn new(steps: Vec<MapStep>) -> Self {
        Map { steps }
    }
}

/// The steps over one delta.
pub fn run(steps: &[MapStep], delta: &Delta) -> Result<Delta, DataFusionError> {
    let mut delta = delta.clone();
    for step in steps {
        if delta.is_empty() {
            break;
        }
        delta = match step {
            MapStep::Filter(condition) => {
                let mask = predicate(condition, &delta.rows)?;
                match mask.true_count() {
                    0 => delta.slice(0, 0),
                    n if n == mask.len() => delta,
                    _ => delta.filter(&mask),
                }
            }
            MapStep::Project(expressions, schema) => {
                let columns = expressions.iter().map(|e| column(e, &delta.rows)).collect::<Result<_, _>>()?;
                delta.with_columns(schema.clone(), columns)
            }
            MapStep::Select(columns, schema) => {
                let columns = columns.iter().map(|&c| delta.rows.column(c).clone()).collect();
                delta.with_columns(schema.clone(), columns)
            }
            MapStep::Merge => merge(delta),
        };
    }
    Ok(delta)
}

impl Operator for Map {
    fn update(&mut self, _input: Port, delta: Delta, out: &mut Output) -> Result<Step> {
        if !delta.is_empty() {
            apply(&delta, out, &mut |d| run(&self.steps, d));
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
