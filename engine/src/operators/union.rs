//! UNION ALL: what comes goes on, from however many inputs. Stateless, without a copy.

use super::{Operator, Output, Port, Step};
use crate::delta::Delta;
use crate::error::Result;
use crate::state::durable::Durable;
use crate::time::EpochHeader;

pub struct Union;

impl Operator for Union {
    fn update(&mut self, _input: Port, delta: Delta, out: &mut Output) -> Result<Step> {
        if !delta.is_empty() {
            out.deltas.push(delta);
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
