//! `text || text` in ad-hoc queries: Arrow's own takes what it takes, and panics beyond 2 GB.

use std::sync::{Arc, LazyLock};

use arrow::array::{Array, AsArray, StringArray};
use arrow::compute::kernels::concat_elements::concat_elements_utf8;
use arrow::datatypes::DataType;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::error::Result;
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{
    BinaryExpr, ColumnarValue, Expr, ExprSchemable, LogicalPlan, Operator, ScalarFunctionArgs, ScalarUDF,
    ScalarUDFImpl, Signature, Volatility,
};

use super::declared::constant;
use crate::sql::bounds::Tally;

/// The same plan, in which texts are joined within the statement's bounds.
pub fn joined_within_bounds(plan: LogicalPlan) -> Result<LogicalPlan> {
    let plan = plan.transform_up_with_subqueries(|node| {
        let mut joins = false;
        node.apply_expressions(|expr| {
            expr.apply(|expr| {
                joins |= matches!(expr, Expr::BinaryExpr(BinaryExpr { op: Operator::StringConcat, .. }));
                Ok(if joins { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
            })
        })?;
        if !joins {
            return Ok(Transformed::no(node));
        }
        let names = NamePreserver::new(&node);
        let inputs = merge_schema(&node.inputs());
        node.map_expressions(|expr| {
            let name = names.save(&expr);
            let joined = expr.transform_up(|expr| match expr {
                Expr::BinaryExpr(BinaryExpr { left, op: Operator::StringConcat, right })
                    if [&left, &right].iter().all(|e| e.get_type(&inputs).is_ok_and(|t| t == DataType::Utf8)) =>
                {
                    Ok(Transformed::yes(JOINED.call(vec![*left, *right])))
                }
                other => Ok(Transformed::no(other)),
            })?;
            Ok(if joined.transformed { joined.update_data(|expr| name.restore(expr)) } else { joined })
        })
    });
    plan.map(|plan| plan.data)
}

static JOINED: LazyLock<Arc<ScalarUDF>> = LazyLock::new(|| {
    let signature = Signature::exact(vec![DataType::Utf8, DataType::Utf8], Volatility::Immutable);
    Arc::new(Joined { signature }.into())
});

#[derive(Debug, PartialEq, Eq, Hash)]
struct Joined {
    signature: Signature,
}

impl ScalarUDFImpl for Joined {
    fn name(&self) -> &str {
        "||"
    }
    fn signature(&self) -> &Signature {
        &self.signature
    }
    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8)
    }
    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let bytes = |value: &ColumnarValue| match value {
            ColumnarValue::Scalar(scalar) => scalar.size() * args.number_rows,
            ColumnarValue::Array(array) => array.as_string_opt::<i32>().map_or(0, text_bytes),
        };
        let mut tally = Tally::default();
        tally.add_all(args.args.iter().map(bytes).sum(), args.number_rows)?;
        let texts = ColumnarValue::values_to_arrays(&args.args)?;
        let joined = Arc::new(concat_elements_utf8(texts[0].as_string::<i32>(), texts[1].as_string::<i32>())?);
        match args.args.iter().all(|value| matches!(value, ColumnarValue::Scalar(_))) {
            true => constant(joined, args.number_rows),
            false => Ok(ColumnarValue::Array(tally.keep(joined))),
        }
    }
}

fn text_bytes(texts: &StringArray) -> usize {
    let offsets = texts.value_offsets();
    (offsets[texts.len()] - offsets[0]) as usize
}
