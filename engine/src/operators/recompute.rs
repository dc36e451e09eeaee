//! GROUP BY with functions of which nothing smaller than the rows can be kept, such as `string_agg`: what a change
//! touches is computed anew, by DataFusion's own accumulators.
//!
//! ```text
//!   SELECT k, string_agg(s, ',' ORDER BY s) FROM t GROUP BY k
//!
//!   in, epoch 1   +1 | a | x       out   +1 | a | x,y
//!                 +1 | a | y
//!   in, epoch 2   -1 | a | x       out   -1 | a | x,y
//!                                        +1 | a | y
//! ```
//!
//! Formula: the input is arranged by the group's key. At the end of an epoch each touched group is evaluated as it
//! was and as it is: −result(E−1) + result(E), unless they are equal. So no result is kept, and none may depend on
//! the order of rows; lowering closes the orders that the query leaves open.
//!
//! State: the input, whole. Cost: twice the touched groups' rows. A group that cannot be evaluated is set aside.

use std::collections::VecDeque;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, Int64Array, RecordBatch, RecordBatchOptions, UInt32Array};
use arrow::compute::{SortColumn, cast, lexsort_to_indices};
use arrow::datatypes::{DataType, Schema, SchemaRef};
use datafusion::common::{DataFusionError, ScalarValue};
use datafusion::physical_expr::aggregate::AggregateFunctionExpr;

use super::evaluate::{Expression, column, message, predicate};
use super::{ErrorChange, Operator, Output, Port, Step};
use crate::delta::consolidate::consolidate;
use crate::delta::keys::KeyBatch;
use crate::delta::{Delta, text};
use crate::error::{Error, Result};
use crate::state::arrangement::{Arrangement, split_weights, take};
use crate::state::durable::{Durable, Saved, Share};
use crate::state::key_index::{KeyIndex, NONE};
use crate::state::key_table::KeyTable;
use crate::time::EpochHeader;

/// After about so many rows were looked at others may run.
const ROWS_PER_STEP: usize = 1 << 16;

#[derive(Clone, Debug)]
pub struct RecomputeCall {
    /// Over the input's columns.
    pub function: Arc<AggregateFunctionExpr>,
    pub filter: Option<Expression>,
}

#[derive(Clone, Debug)]
pub struct RecomputeSpec {
    /// Columns of the input; none for one group of all rows.
    pub group: Vec<usize>,
    pub calls: Vec<RecomputeCall>,
    pub input: SchemaRef,
    /// The group's columns, then one per call.
    pub output: SchemaRef,
    /// This worker owns the empty key.
    pub owner: bool,
}

/// `None`: there is no such group. `Err`: it cannot be evaluated.
type GroupResult = Option<std::result::Result<Vec<ScalarValue>, String>>;

pub struct Recompute {
    spec: RecomputeSpec,
    rows: Arrangement,
    index: KeyIndex,
    /// The only group of an aggregate without GROUP BY has been shown.
    announced: bool,
    /// Changes of the open epoch.
    held: Vec<Delta>,
    finishing: Option<Finishing>,
}

/// The groups that the ending epoch touched.
struct Finishing {
    keys: Vec<ArrayRef>,
    groups: usize,
    /// Of the groups as they were, those already evaluated.
    old: VecDeque<GroupResult>,
    changes: Option<Vec<Delta>>,
    /// Groups that have been told.
    told: usize,
}

impl Recompute {
    pub fn new(spec: RecomputeSpec) -> Result<Self> {
        let types: Vec<DataType> = spec.group.iter().map(|&c| spec.input.field(c).data_type().clone()).collect();
        Ok(Recompute {
            rows: Arrangement::new(spec.input.clone(), true),
            index: KeyIndex::new(&types, true, false)?,
            announced: false,
            held: Vec::new(),
            finishing: None,
            spec,
        })
    }

    fn keys(&self, rows: &RecordBatch) -> KeyBatch {
        let columns: Vec<ArrayRef> = self.spec.group.iter().map(|&c| rows.column(c).clone()).collect();
        self.index.table().encoder().encode_rows(&columns, rows.num_rows())
    }

    fn index_of_rows(&self) -> KeyIndex {
        let mut index = self.index.empty();
        for rows in self.rows.segments() {
            index.append(&self.keys(&rows));
        }
        index
    }

    /// Which groups the held changes touch.
    fn begin(&mut self) -> Result<Finishing> {
        let held = std::mem::take(&mut self.held);
        let changes = if held.is_empty() { Vec::new() } else { consolidate(&held) };
        let mut touched = KeyTable::new(self.index.table().encoder().types())?;
        let mut ids = Vec::new();
        for delta in &changes {
            touched.intern(&self.keys(&delta.rows), &mut ids);
        }
        let global = self.spec.group.is_empty();
        if global && self.spec.owner && !self.announced {
            touched.intern(&touched.encoder().encode_rows(&[], 1), &mut ids);
        }
        let all: Vec<u32> = (0..touched.bound()).collect();
        Ok(Finishing {
            keys: touched.keys(&all),
            groups: all.len(),
            old: VecDeque::new(),
            changes: Some(changes),
            told: 0,
        })
    }

    fn apply(&mut self, changes: Vec<Delta>, epoch: u64) -> Result<()> {
        for delta in changes {
            let (plus, minus) = match &delta.weights {
                None => (delta.rows.clone(), delta.rows.slice(0, 0)),
                Some(weights) => {
                    let (plus, minus) = split_weights(weights);
                    (take(&delta.rows, &plus), take(&delta.rows, &minus))
                }
            };
            if minus.num_rows() > 0 {
                let keys = self.keys(&minus);
                let missing = || Error::internal("an aggregate was told to retract a row that it does not have");
                let positions = self.rows.retract(&minus, epoch).into_iter();
                let positions: Vec<u32> = positions.map(|p| p.ok_or_else(missing)).collect::<Result<_>>()?;
                self.index.remove(&keys, &positions);
            }
            if plus.num_rows() > 0 {
                let keys = self.keys(&plus);
                self.rows.append(&plus);
                self.index.append(&keys);
            }
        }
        Ok(())
    }

    /// One group as it stands, and of how many rows it is.
    fn evaluate(&mut self, keys: &[ArrayRef], group: usize, announced: bool) -> (GroupResult, usize) {
        let key: Vec<ArrayRef> = keys.iter().map(|k| k.slice(group, 1)).collect();
        let key = self.index.table().encoder().encode_rows(&key, 1);
        let mut positions = Vec::new();
        let mut at = self.index.heads(&key)[0];
        while at != NONE {
            positions.push(at);
            at = self.index.next(at);
        }
        if positions.is_empty() && !(self.spec.group.is_empty() && self.spec.owner && announced) {
            return (None, 0);
        }
        let rows = self.rows.rows_at(&positions);
        let values = self.spec.calls.iter().map(|call| value(call, &rows)).collect::<std::result::Result<_, _>>();
        (Some(values.map_err(|e| message(&e))), positions.len())
    }

    fn tell(&self, keys: &[ArrayRef], changes: Vec<(usize, i64, Vec<ScalarValue>)>, out: &mut Output) -> Result<()> {
        if changes.is_empty() {
            return Ok(());
        }
        let groups = UInt32Array::from_iter_values(changes.iter().map(|c| c.0 as u32));
        let mut columns: Vec<ArrayRef> =
            keys.iter().map(|k| arrow::compute::take(k, &groups, None).expect("groups that there are")).collect();
        for call in 0..self.spec.calls.len() {
            let values =
                ScalarValue::iter_to_array(changes.iter().map(|c| c.2[call].clone())).map_err(Error::internal)?;
            let data_type = self.spec.output.field(self.spec.group.len() + call).data_type();
            columns.push(if values.data_type() == data_type {
                values
            } else {
                cast(&values, data_type).map_err(Error::internal)?
            });
        }
        let options = RecordBatchOptions::new().with_row_count(Some(changes.len()));
        let rows =
            RecordBatch::try_new_with_options(self.spec.output.clone(), columns, &options).map_err(Error::internal)?;
        let weights = changes.iter().any(|c| c.1 != 1).then(|| changes.iter().map(|c| c.1).collect::<Int64Array>());
        out.deltas.push(Delta::new(rows, weights));
        Ok(())
    }

    fn tell_fault(&self, keys: &[ArrayRef], group: usize, message: String, weight: i64, out: &mut Output) {
        let options = RecordBatchOptions::new().with_row_count(Some(1));
        let schema = Schema::new(self.spec.output.fields()[..keys.len()].to_vec());
        let keys = keys.iter().map(|k| k.slice(group, 1)).collect();
        let row =
            RecordBatch::try_new_with_options(Arc::new(schema), keys, &options).expect("keys of the group's types");
        out.errors.push(ErrorChange { message, row: text::format_row(&row, 0, ", "), weight });
    }
}

/// A call's value over the rows of a group.
fn value(call: &RecomputeCall, rows: &RecordBatch) -> std::result::Result<ScalarValue, DataFusionError> {
    let rows = match &call.filter {
        None => rows.clone(),
        Some(filter) => arrow::compute::filter_record_batch(rows, &predicate(filter, rows)?)?,
    };
    let function = &call.function;
    let mut arguments =
        function.expressions().iter().map(|e| column(e, &rows)).collect::<std::result::Result<Vec<_>, _>>()?;
    let order = function.order_bys();
    for by in order {
        arguments.push(column(&by.expr, &rows)?);
    }
    if !order.is_empty() && rows.num_rows() > 1 {
        let by = arguments[arguments.len() - order.len()..].iter().zip(order);
        let by: Vec<SortColumn> =
            by.map(|(values, by)| SortColumn { values: values.clone(), options: Some(by.options) }).collect();
        let sorted = lexsort_to_indices(&by, None)?;
        arguments =
            arguments.iter().map(|a| arrow::compute::take(a, &sorted, None)).collect::<std::result::Result<_, _>>()?;
    }
    let mut accumulator = function.create_accumulator()?;
    accumulator.update_batch(&arguments)?;
    accumulator.evaluate()
}

impl Operator for Recompute {
    fn update(&mut self, _: Port, delta: Delta, _: &mut Output) -> Result<Step> {
        if !delta.is_empty() {
            self.held.push(delta);
        }
        Ok(Step::Done)
    }

    fn finish_epoch(&mut self, epoch: &EpochHeader, out: &mut Output) -> Result<Step> {
        let mut finishing = match self.finishing.take() {
            Some(finishing) => finishing,
            None => self.begin()?,
        };
        let mut budget = ROWS_PER_STEP;
        while finishing.old.len() + finishing.told < finishing.groups && finishing.changes.is_some() {
            if budget == 0 {
                self.finishing = Some(finishing);
                return Ok(Step::Again);
            }
            let (old, rows) = self.evaluate(&finishing.keys, finishing.old.len(), self.announced);
            finishing.old.push_back(old);
            budget = budget.saturating_sub(rows + 1);
        }
        if let Some(changes) = finishing.changes.take() {
            self.apply(changes, epoch.epoch)?;
        }
        let mut changes = Vec::new();
        while let Some(old) = finishing.old.pop_front() {
            if budget == 0 {
                finishing.old.push_front(old);
                break;
            }
            let group = finishing.told;
            let (new, rows) = self.evaluate(&finishing.keys, group, true);
            finishing.told += 1;
            budget = budget.saturating_sub(rows + 1);
            if old == new {
                continue;
            }
            for (result, weight) in [(old, -1), (new, 1)] {
                match result {
                    None => {}
                    Some(Ok(values)) => changes.push((group, weight, values)),
                    Some(Err(message)) => self.tell_fault(&finishing.keys, group, message, weight, out),
                }
            }
        }
        self.tell(&finishing.keys, changes, out)?;
        if finishing.told < finishing.groups {
            self.finishing = Some(finishing);
            return Ok(Step::Again);
        }
        self.announced = true;
        self.rows.publish(epoch.epoch);
        if self.rows.take_rewritten().is_some() {
            self.index = self.index_of_rows();
        }
        Ok(Step::Done)
    }

    fn durable(&mut self) -> Vec<&mut dyn Durable> {
        vec![self]
    }
}

/// The rows are saved; the index is made anew from them.
impl Durable for Recompute {
    fn save(&mut self) -> Saved {
        self.rows.save()
    }
    fn restore(&mut self, parts: &[Vec<RecordBatch>], share: &Share) -> Result<()> {
        self.rows.restore(parts, self.index.table().encoder(), &self.spec.group, share, 0);
        self.index = self.index_of_rows();
        self.announced = true;
        Ok(())
    }
    fn state_bytes(&self) -> usize {
        self.rows.state_bytes() + self.index.state_bytes()
    }
    fn state_rows(&self) -> usize {
        self.rows.live_rows() as usize
    }
}
