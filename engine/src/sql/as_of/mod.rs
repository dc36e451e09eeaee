//! ASOF joins: each left row meets the one right row of its key that is nearest in an order.
//!
//! ```text
//!   trades t ASOF JOIN quotes q ON t.sym = q.sym AND t.ts >= q.ts
//!     the last quote of the symbol that is not after the trade
//! ```
//!
//! sqlparser reads `ASOF JOIN` as `GLOBAL JOIN` (`parse/source.rs`); `rewrite.rs` marks its condition with `mr_asof`, and
//! here, once names are bound, the marked join becomes a plan node of its own. DataFusion runs it by sorting
//! (`batch.rs`), views by an operator.
//!
//! The condition is equalities and one of `>=`, `>`, `<=`, `<`, each between a left and a right expression. Of right rows
//! that are equally near the one nearest in the order of the whole row (its columns that are read) is taken: the last
//! one for `>=` and `>`, the first one for `<=` and `<`.

pub mod batch;

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::common::{DFSchemaRef, JoinType};
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::logical_plan::builder::build_join_schema;
use datafusion::logical_expr::utils::split_conjunction_owned;
use datafusion::logical_expr::{
    BinaryExpr, ColumnarValue, Expr, Extension, Join, LogicalPlan, Operator, ScalarFunctionArgs, ScalarUDFImpl,
    Signature, UserDefinedLogicalNodeCore, Volatility,
};

use crate::error::Error;

/// The name of the function that marks the condition.
pub const MARK: &str = "mr_asof";

/// The logical plan's node. Its schema is that of a left or inner join.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AsOf {
    pub left: LogicalPlan,
    pub right: LogicalPlan,
    /// Equalities and one inequality.
    pub conditions: Vec<Expr>,
    /// Left rows that meet none are kept.
    pub outer: bool,
    schema: DFSchemaRef,
}

/// The condition by side.
pub struct Sides<'a> {
    /// Pairs of equal expressions, left and right.
    pub keys: Vec<(&'a Expr, &'a Expr)>,
    pub order: (&'a Expr, &'a Expr),
    /// Between the order's left and right.
    pub nearest: Nearest,
}

/// Which right row is the nearest: the left one's order compared with the right one's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Nearest {
    NotAfter,
    Before,
    NotBefore,
    After,
}

impl Nearest {
    /// `left operator right`.
    fn of(operator: Operator) -> Option<Nearest> {
        match operator {
            Operator::GtEq => Some(Nearest::NotAfter),
            Operator::Gt => Some(Nearest::Before),
            Operator::LtEq => Some(Nearest::NotBefore),
            Operator::Lt => Some(Nearest::After),
            _ => None,
        }
    }
    /// It is looked for backwards.
    pub fn is_back(self) -> bool {
        matches!(self, Nearest::NotAfter | Nearest::Before)
    }
    /// An equal order is near, too.
    pub fn takes_equal(self) -> bool {
        matches!(self, Nearest::NotAfter | Nearest::NotBefore)
    }
}

impl AsOf {
    fn new(left: LogicalPlan, right: LogicalPlan, conditions: Vec<Expr>, outer: bool) -> Result<Self> {
        let kind = if outer { JoinType::Left } else { JoinType::Inner };
        let schema = Arc::new(build_join_schema(left.schema(), right.schema(), &kind)?);
        Ok(AsOf { left, right, conditions, outer, schema })
    }

    pub fn join_schema(&self) -> &DFSchemaRef {
        &self.schema
    }

    /// Errors: 0A000 for a condition of another form.
    pub fn sides(&self) -> Result<Sides<'_>> {
        let of = |expr: &Expr, plan: &LogicalPlan| {
            let columns = expr.column_refs();
            !columns.is_empty() && columns.iter().all(|column| plan.schema().has_column(column))
        };
        let (mut keys, mut order) = (Vec::new(), None);
        for condition in &self.conditions {
            let Expr::BinaryExpr(BinaryExpr { left, op, right }) = condition else { return Err(refused(condition)) };
            let (l, op, r) = match () {
                _ if of(left, &self.left) && of(right, &self.right) => (left.as_ref(), *op, right.as_ref()),
                _ if of(right, &self.left) && of(left, &self.right) => {
                    (right.as_ref(), op.swap().unwrap_or(*op), left.as_ref())
                }
                _ => return Err(refused(condition)),
            };
            match (op, Nearest::of(op), &order) {
                (Operator::Eq, ..) => keys.push((l, r)),
                (_, Some(nearest), None) => order = Some(((l, r), nearest)),
                _ => return Err(refused(condition)),
            }
        }
        let Some((order, nearest)) = order else {
            let error = Error::syntax("ASOF JOIN needs a condition with >=, >, <= or <");
            return Err(external(error.hint("Write ON l.key = r.key AND l.time >= r.time.")));
        };
        Ok(Sides { keys, order, nearest })
    }
}

fn external(error: Error) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}

fn refused(condition: &Expr) -> DataFusionError {
    let error = Error::unsupported(format!("ASOF JOIN with the condition {condition}"));
    external(error.hint("It takes equalities and one of >=, >, <=, < between the left side and the right; filter the right side in a subquery."))
}

/// Values that are compared as their bytes are. Error: 0A000 for those that cannot be.
pub fn check_types<'a>(types: impl IntoIterator<Item = &'a DataType>) -> Result<()> {
    for data_type in types {
        if data_type.is_floating() || data_type.is_nested() {
            let sql_type = crate::sql::types::sql_type_of_arrow(data_type);
            return Err(external(Error::unsupported(format!("ASOF JOIN by a {sql_type}"))));
        }
    }
    Ok(())
}

/// A join whose condition is marked, as the node that it means; `None` for any other join.
pub fn marked(join: &Join) -> Result<Option<LogicalPlan>> {
    let Some(Expr::ScalarFunction(ScalarFunction { func, args })) = &join.filter else { return Ok(None) };
    let ([condition], true) = (&args[..], func.name() == MARK) else { return Ok(None) };
    let conditions = split_conjunction_owned(condition.clone());
    let (left, right) = (join.left.as_ref().clone(), join.right.as_ref().clone());
    let node = AsOf::new(left, right, conditions, join.join_type == JoinType::Left)?;
    node.sides()?;
    Ok(Some(LogicalPlan::Extension(Extension { node: Arc::new(node) })))
}

impl Hash for AsOf {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (&self.left, &self.right, &self.conditions, self.outer).hash(state);
    }
}

impl PartialOrd for AsOf {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        (self == other).then_some(Ordering::Equal)
    }
}

impl UserDefinedLogicalNodeCore for AsOf {
    fn name(&self) -> &str {
        "AsOfJoin"
    }
    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.left, &self.right]
    }
    fn schema(&self) -> &DFSchemaRef {
        &self.schema
    }
    fn expressions(&self) -> Vec<Expr> {
        self.conditions.clone()
    }
    fn fmt_for_explain(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let conditions: Vec<String> = self.conditions.iter().map(ToString::to_string).collect();
        write!(f, "{} AsOf Join: {}", if self.outer { "Left" } else { "Inner" }, conditions.join(" AND "))
    }
    fn with_exprs_and_inputs(&self, exprs: Vec<Expr>, inputs: Vec<LogicalPlan>) -> Result<Self> {
        let [left, right] = <[LogicalPlan; 2]>::try_from(inputs).expect("two inputs");
        // A rewritten condition may come under the name of the one before.
        AsOf::new(left, right, exprs.into_iter().map(Expr::unalias).collect(), self.outer)
    }
    fn necessary_children_exprs(&self, output_columns: &[usize]) -> Option<Vec<Vec<usize>>> {
        let width = self.left.schema().fields().len();
        let mut needed = [Vec::new(), Vec::new()];
        for &column in output_columns {
            if column < width { needed[0].push(column) } else { needed[1].push(column - width) }
        }
        for column in self.conditions.iter().flat_map(|condition| condition.column_refs()) {
            for (plan, needed) in [&self.left, &self.right].into_iter().zip(&mut needed) {
                needed.extend(plan.schema().maybe_index_of_column(column));
            }
        }
        for columns in &mut needed {
            columns.sort_unstable();
            columns.dedup();
        }
        Some(needed.into())
    }
}

/// `mr_asof(condition)`, which is gone before anything is evaluated.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct Mark {
    signature: Signature,
}

impl Default for Mark {
    fn default() -> Self {
        Mark { signature: Signature::exact(vec![DataType::Boolean], Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for Mark {
    fn name(&self) -> &str {
        MARK
    }
    fn signature(&self) -> &Signature {
        &self.signature
    }
    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Boolean)
    }
    fn invoke_with_args(&self, _: ScalarFunctionArgs) -> Result<ColumnarValue> {
        Err(external(Error::unsupported("ASOF JOIN in this place")))
    }
}
