//! Conditions that keep others from failing: `b <> 0 AND a / b > 1`.
//!
//! SQL leaves the order of conditions open, but people rely on what Postgres does: those that may fail are asked last, and
//! only of rows that the others let through. DataFusion asks all of them of all rows of a batch.
//!
//! ```text
//!   Filter b <> 0 AND a / b > 1      ─►   Filter a / b > 1 over Filter b <> 0
//!   Filter b = 0 OR a / b > 1        ─►   asked of halves of a batch that fails, down to single rows: of one row the
//!                                         right side is asked only where the left one does not decide
//! ```

use std::fmt::{self, Display, Formatter};
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::compute::concat;
use arrow::datatypes::{DataType, FieldRef, Schema};
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::error::Result;
use datafusion::logical_expr::{ColumnarValue, Operator};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::{
    BinaryExpr, CaseExpr, Column, InListExpr, IsNotNullExpr, IsNullExpr, LikeExpr, Literal, NotExpr,
};
use datafusion::physical_expr::utils::{conjunction, split_conjunction};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::filter::{FilterExec, FilterExecBuilder};

use crate::sql::bounds::{check_in_plan, is_too_many_bytes};

/// Whether it may fail for some values.
fn may_fail(expr: &Arc<dyn PhysicalExpr>) -> bool {
    let mut fails = false;
    // The visitor itself does not fail.
    let _ = expr.apply(|expr| {
        let safe = expr.downcast_ref::<Column>().is_some()
            || expr.downcast_ref::<Literal>().is_some()
            || expr.downcast_ref::<IsNullExpr>().is_some()
            || expr.downcast_ref::<IsNotNullExpr>().is_some()
            || expr.downcast_ref::<NotExpr>().is_some()
            || expr.downcast_ref::<InListExpr>().is_some()
            || expr.downcast_ref::<LikeExpr>().is_some()
            || expr.downcast_ref::<CaseExpr>().is_some()
            || expr
                .downcast_ref::<BinaryExpr>()
                .is_some_and(|binary| !matches!(binary.op(), Operator::Divide | Operator::Modulo));
        fails |= !safe;
        Ok(if fails { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    });
    fails
}

/// Whether one part of it may decide that another is not asked.
fn decides(expr: &Arc<dyn PhysicalExpr>) -> bool {
    let mut decides = false;
    let _ = expr.apply(|expr| {
        decides |= expr.downcast_ref::<CaseExpr>().is_some()
            || expr
                .downcast_ref::<BinaryExpr>()
                .is_some_and(|binary| matches!(binary.op(), Operator::And | Operator::Or));
        Ok(if decides { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    });
    decides
}

/// The expression so that parts which others make needless cannot fail.
pub fn shield(expr: &Arc<dyn PhysicalExpr>) -> Arc<dyn PhysicalExpr> {
    match decides(expr) && may_fail(expr) {
        true => Arc::new(Shielded { inner: expr.clone() }),
        false => expr.clone(),
    }
}

/// A filter of which some conditions may fail: after the others.
pub fn filter(node: &FilterExec) -> Result<Option<Arc<dyn ExecutionPlan>>> {
    let all = split_conjunction(node.predicate());
    let (risky, safe): (Vec<_>, Vec<_>) = all.into_iter().cloned().partition(may_fail);
    if risky.is_empty() {
        return Ok(None);
    }
    let mut input = node.input().clone();
    if !safe.is_empty() {
        input = Arc::new(FilterExecBuilder::new(conjunction(safe), input).build()?);
    }
    // One after the other, as they are written.
    let last = risky.len() - 1;
    for (i, condition) in risky.into_iter().enumerate() {
        let mut next = FilterExecBuilder::new(shield(&condition), input);
        if i == last {
            let projection = node.projection().as_ref().map(|columns| columns.to_vec());
            next = next.apply_projection(projection)?.with_fetch(node.fetch()).with_batch_size(node.batch_size());
        }
        input = Arc::new(next.build()?);
    }
    Ok(Some(input))
}

#[derive(Debug)]
struct Shielded {
    inner: Arc<dyn PhysicalExpr>,
}

impl Shielded {
    fn of(&self, rows: &RecordBatch) -> Result<ArrayRef> {
        let count = rows.num_rows();
        match self.inner.evaluate(rows).and_then(|value| value.into_array(count)) {
            Err(error) if count > 1 && !is_too_many_bytes(&error) => {
                check_in_plan()?;
                let half = count / 2;
                let (first, second) = (self.of(&rows.slice(0, half))?, self.of(&rows.slice(half, count - half))?);
                Ok(concat(&[&first, &second])?)
            }
            result => result,
        }
    }
}

impl PhysicalExpr for Shielded {
    fn data_type(&self, schema: &Schema) -> Result<DataType> {
        self.inner.data_type(schema)
    }
    fn nullable(&self, schema: &Schema) -> Result<bool> {
        self.inner.nullable(schema)
    }
    fn return_field(&self, schema: &Schema) -> Result<FieldRef> {
        self.inner.return_field(schema)
    }
    fn evaluate(&self, rows: &RecordBatch) -> Result<ColumnarValue> {
        match self.inner.evaluate(rows) {
            Err(error) if rows.num_rows() > 1 && !is_too_many_bytes(&error) => {
                check_in_plan()?;
                self.of(rows).map(ColumnarValue::Array)
            }
            result => result,
        }
    }
    fn children(&self) -> Vec<&Arc<dyn PhysicalExpr>> {
        vec![&self.inner]
    }
    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn PhysicalExpr>>) -> Result<Arc<dyn PhysicalExpr>> {
        Ok(Arc::new(Shielded { inner: children[0].clone() }))
    }
    fn fmt_sql(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.inner.fmt_sql(f)
    }
}

impl Display for Shielded {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

impl PartialEq for Shielded {
    fn eq(&self, other: &Self) -> bool {
        self.inner.eq(&other.inner)
    }
}
impl Eq for Shielded {}
impl Hash for Shielded {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.inner.hash(state);
    }
}
