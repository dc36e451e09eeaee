//! Session windows: told from other window functions by the functions' names.

use datafusion::common::ScalarValue;
use datafusion::logical_expr::expr::WindowFunction;
use datafusion::logical_expr::{Expr, Window, WindowFunctionDefinition};

use super::{Lowering, relaxed};
use crate::error::Result;
use crate::operators::session::{Bound, SessionSpec};
use crate::plan::NodeKind;
use crate::plan::order::window_function;
use crate::sql::functions::session::{SESSION_END, SESSION_START};
use crate::sql::functions::windows::window_length;
use crate::sql::ordered::Ordered;

impl Lowering<'_> {
    /// `None` when there is another function among those of the window.
    pub(super) fn sessions(&mut self, window: &Window) -> Result<Option<usize>> {
        let Some(ordered) = Ordered::of(&window.input) else { return Ok(None) };
        let calls: Option<Vec<Call>> = window.window_expr.iter().map(|e| window_function(e).and_then(call)).collect();
        let Some(calls) = calls else { return Ok(None) };
        let first = calls[0];
        if calls.iter().any(|c| (c.time, c.gap_us, c.partition) != (first.time, first.gap_us, first.partition)) {
            return Ok(None);
        }
        let schema = ordered.input.schema();
        let input = self.node(&ordered.input)?;
        let exprs: Vec<&Expr> = first.partition.iter().chain([first.time]).collect();
        let (input, mut key) = self.key_columns(input, schema, &exprs)?;
        let time = key.pop().expect("the time is the last");
        let input = self.exchange(input, key.clone());
        let output = relaxed(&window.schema);
        let dealt_by = key.iter().all(|&k| k < schema.fields().len()).then(|| key.clone());
        let spec = SessionSpec {
            input: self.nodes[input].schema.clone(),
            key,
            time,
            gap_us: first.gap_us,
            bounds: calls.iter().map(|call| call.bound).collect(),
            output: output.clone(),
            expiry: None,
        };
        Ok(Some(self.push(NodeKind::Session(Box::new(spec)), vec![input], output, false, dealt_by)))
    }
}

#[derive(Clone, Copy)]
struct Call<'a> {
    bound: Bound,
    time: &'a Expr,
    gap_us: i64,
    partition: &'a [Expr],
}

fn call(function: &WindowFunction) -> Option<Call<'_>> {
    let WindowFunctionDefinition::WindowUDF(udf) = &function.fun else { return None };
    let bound = match udf.name() {
        SESSION_START => Bound::Start,
        SESSION_END => Bound::End,
        _ => return None,
    };
    let [time, Expr::Literal(ScalarValue::IntervalMonthDayNano(Some(gap)), _)] = &function.params.args[..] else {
        return None;
    };
    let gap_us = window_length(*gap).ok()?;
    Some(Call { bound, time, gap_us, partition: &function.params.partition_by })
}
