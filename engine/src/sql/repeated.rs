//! Rows that UNNEST repeats are told apart by a key no more, though DataFusion thinks so: it hands on that the rows of a group
//! are of one key, drops a DISTINCT over them, and columns from a GROUP BY.
//!
//! ```text
//!   SELECT DISTINCT a FROM (SELECT a, unnest(l) FROM (SELECT a, array_agg(b) AS l FROM t GROUP BY a) …)
//! ```
//!
//! What passes through an UNNEST over groups is hidden from it for as long as it optimizes. Before that, when names are bound,
//! it adds to GROUP BY what would follow from the key: a subquery in FROM with an UNNEST has none there ([`Relations`]).
//!
//! ```text
//!   SELECT a, count(*) FROM (SELECT a, unnest(l) AS b FROM (…)) AS u GROUP BY a      it would be GROUP BY a, b
//! ```

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arrow::datatypes::{DataType, FieldRef};
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{DFSchemaRef, FunctionalDependencies};
use datafusion::error::Result;
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::planner::{PlannedRelation, RelationPlanner, RelationPlannerContext, RelationPlanning};
use datafusion::logical_expr::{
    ColumnarValue, Expr, LogicalPlan, LogicalPlanBuilder, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF,
    ScalarUDFImpl, Signature, Unnest, Volatility,
};
use sqlparser::ast::TableFactor;

/// Plans what stands in FROM as DataFusion does, and takes the keys off where it has an UNNEST.
#[derive(Debug, Default)]
pub struct Relations {
    /// Whether it has been asked, and DataFusion asks again what it makes of the same.
    asked: AtomicBool,
}

impl RelationPlanner for Relations {
    fn plan_relation(
        &self,
        relation: TableFactor,
        context: &mut dyn RelationPlannerContext,
    ) -> Result<RelationPlanning> {
        if self.asked.swap(false, Ordering::Relaxed) {
            return Ok(RelationPlanning::Original(Box::new(relation)));
        }
        self.asked.store(true, Ordering::Relaxed);
        let mut plan = context.plan(relation)?;
        if plan.exists(|plan| Ok(matches!(plan, LogicalPlan::Unnest(_))))? {
            match &mut plan {
                LogicalPlan::SubqueryAlias(alias) => alias.schema = keyless(&alias.schema)?,
                LogicalPlan::Projection(projection) => projection.schema = keyless(&projection.schema)?,
                _ => {}
            }
        }
        Ok(RelationPlanning::Planned(Box::new(PlannedRelation::new(plan, None))))
    }
}

fn keyless(schema: &DFSchemaRef) -> Result<DFSchemaRef> {
    let schema = schema.as_ref().clone();
    Ok(Arc::new(schema.with_functional_dependencies(FunctionalDependencies::empty())?))
}

/// The same UNNEST over hidden columns; `None` where there is no group below.
pub fn without_keys(unnest: &Unnest) -> Result<Option<LogicalPlan>> {
    let grouped = |plan: &LogicalPlan| Ok(matches!(plan, LogicalPlan::Aggregate(_) | LogicalPlan::Distinct(_)));
    if is_hidden(&unnest.input) || !unnest.input.exists(grouped)? {
        return Ok(None);
    }
    let hide = ScalarUDF::from(Hidden::default());
    let schema = unnest.input.schema();
    let columns = schema.columns().into_iter().zip(schema.iter());
    let columns = columns.map(|(column, (qualifier, field))| match unnest.exec_columns.contains(&column) {
        true => Expr::Column(column),
        false => hide.call(vec![Expr::Column(column)]).alias_qualified(qualifier.cloned(), field.name()),
    });
    LogicalPlanBuilder::from(unnest.input.as_ref().clone())
        .project(columns.collect::<Vec<_>>())?
        .unnest_columns_with_options(unnest.exec_columns.clone(), unnest.options.clone())?
        .build()
        .map(Some)
}

/// A plan that may be an UNNEST, in that way.
pub fn unnested(plan: LogicalPlan) -> Result<LogicalPlan> {
    let keyless = if let LogicalPlan::Unnest(unnest) = &plan { without_keys(unnest)? } else { None };
    Ok(keyless.unwrap_or(plan))
}

fn is_hidden(plan: &LogicalPlan) -> bool {
    let is_call = |expr: &Expr| match expr.clone().unalias() {
        Expr::ScalarFunction(function) => function.func.name() == HIDDEN,
        _ => false,
    };
    matches!(plan, LogicalPlan::Projection(projection) if projection.expr.iter().any(is_call))
}

/// An optimized plan with the columns as they are.
pub fn shown(plan: LogicalPlan) -> Result<LogicalPlan> {
    let shown = plan.transform_up_with_subqueries(|plan| {
        let names = NamePreserver::new(&plan);
        plan.map_expressions(|expr| {
            let name = names.save(&expr);
            let shown = expr.transform_up(|expr| match expr {
                Expr::ScalarFunction(mut function) if function.func.name() == HIDDEN => {
                    Ok(Transformed::yes(function.args.remove(0)))
                }
                other => Ok(Transformed::no(other)),
            })?;
            Ok(shown.update_data(|expr| name.restore(expr)))
        })
    })?;
    Ok(shown.data)
}

const HIDDEN: &str = "mr_hidden";

/// `mr_hidden(x)`: x.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Hidden {
    signature: Signature,
}

impl Default for Hidden {
    fn default() -> Self {
        Hidden { signature: Signature::any(1, Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for Hidden {
    fn name(&self) -> &str {
        HIDDEN
    }
    fn signature(&self) -> &Signature {
        &self.signature
    }
    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        Ok(types[0].clone())
    }
    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        Ok(Arc::new(args.arg_fields[0].as_ref().clone().with_name(self.name())))
    }
    fn invoke_with_args(&self, mut args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        Ok(args.args.remove(0))
    }
}
