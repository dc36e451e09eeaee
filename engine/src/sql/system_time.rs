//! `JOIN r FOR SYSTEM_TIME AS OF l.ts`: each row of the left side meets the version of `r` that was valid at its time.
//!
//! The versions are the rows of a stream, each valid from its event time until the next of its key:
//!
//! ```text
//!   FROM orders o JOIN rates FOR SYSTEM_TIME AS OF o.ts AS r ON o.currency = r.currency
//!   FROM orders o ASOF JOIN rates AS r ON o.currency = r.currency AND o.ts >= r.<event time>
//! ```
//!
//! `FOR SYSTEM_TIME AS OF PROCTIME()` works with any relation: in a view each left row meets the rows that there are when it
//! comes (`operators/join.rs`, look-ups). In a SELECT that is an ordinary join.
//!
//! ```text
//!   FROM orders o JOIN products FOR SYSTEM_TIME AS OF PROCTIME() AS p ON o.product = p.id
//!   FROM orders o JOIN products AS p ON mr_at_arrival(o.product = p.id)
//!   join on o.product = p.id and mr_at_arrival(o.product, p.id)              bound: a function that is true
//! ```
//!
//! A table has no versions besides: it is as it is now.

use std::collections::HashSet;
use std::ops::ControlFlow;

use arrow::datatypes::DataType;
use datafusion::common::ScalarValue;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::error::{DataFusionError, Result as DataFusionResult};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::{
    ColumnarValue, Expr, Join, LogicalPlan, LogicalPlanBuilder, ScalarFunctionArgs, ScalarUDFImpl, Signature,
    Volatility,
};
use sqlparser::ast::{
    self, BinaryOperator, Ident, JoinConstraint, JoinOperator, Query, Select, TableFactor, TableVersion, VisitorMut,
};

use super::bind::Relations;
use super::statement::Name;
use crate::error::{Error, Result};
use crate::sql::visit::WalkMut;

/// Spells such joins as ASOF joins, as the parser does (see `rewrite.rs`).
pub fn spell_as_of(query: &mut Query, relations: &dyn Relations) -> Result<()> {
    match query.walk_mut(&mut Spell { relations, named: HashSet::new() }) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(error) => Err(*error),
    }
}

struct Spell<'a> {
    relations: &'a dyn Relations,
    /// What WITH names.
    named: HashSet<String>,
}

impl VisitorMut for Spell<'_> {
    type Break = Box<Error>;

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<Box<Error>> {
        let ctes = query.with.iter().flat_map(|with| &with.cte_tables);
        self.named.extend(ctes.map(|cte| crate::sql::parse::fold(&cte.alias.name)));
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<Box<Error>> {
        for join in select.from.iter_mut().flat_map(|from| &mut from.joins) {
            if let Err(error) = self.join(join) {
                return ControlFlow::Break(Box::new(error));
            }
        }
        ControlFlow::Continue(())
    }
}

impl Spell<'_> {
    fn join(&self, join: &mut ast::Join) -> Result<()> {
        match &mut join.relation {
            TableFactor::NestedJoin { table_with_joins, .. } => {
                table_with_joins.joins.iter_mut().try_for_each(|join| self.join(join))
            }
            TableFactor::Table { name, alias, version: version @ Some(TableVersion::ForSystemTimeAsOf(_)), .. } => {
                let Some(TableVersion::ForSystemTimeAsOf(at)) = version.take() else { unreachable!("matched above") };
                let table = crate::sql::parse::name_of(name)?;
                if is_now(&at) {
                    return mark_arrival(&mut join.join_operator);
                }
                let column = self.event_time(&table)?;
                let shown = match alias {
                    Some(alias) => alias.name.clone(),
                    None => Ident::with_quote('"', table.name.clone()),
                };
                let valid_from = ast::Expr::CompoundIdentifier(vec![shown, Ident::with_quote('"', column)]);
                let valid = binary(ast::Expr::Nested(Box::new(at)), BinaryOperator::GtEq, valid_from);
                join.global = true;
                match &mut join.join_operator {
                    JoinOperator::Join(JoinConstraint::On(on))
                    | JoinOperator::Inner(JoinConstraint::On(on))
                    | JoinOperator::Left(JoinConstraint::On(on))
                    | JoinOperator::LeftOuter(JoinConstraint::On(on)) => {
                        let keys = std::mem::replace(on, valid.clone());
                        *on = binary(ast::Expr::Nested(Box::new(keys)), BinaryOperator::And, valid);
                        Ok(())
                    }
                    _ => Err(Error::unsupported("FOR SYSTEM_TIME AS OF in this kind of join")
                        .hint("Write [LEFT] JOIN r FOR SYSTEM_TIME AS OF l.ts ON l.key = r.key.")),
                }
            }
            _ => Ok(()),
        }
    }

    fn event_time(&self, table: &Name) -> Result<String> {
        let is_cte = table.schema.is_none() && self.named.contains(&table.name);
        let column = if is_cte { None } else { self.relations.event_time(table.schema.as_deref(), &table.name)? };
        column.ok_or_else(|| {
            Error::unsupported(format!("FOR SYSTEM_TIME AS OF with \"{}\", which has no versions,", table.name)).hint(
                "Versions are the rows of a stream with a WATERMARK. AS OF PROCTIME() takes what there is when a row comes. For anything else that has a time write l ASOF JOIN r \
                 ON l.key = r.key AND l.ts >= r.ts.",
            )
        })
    }
}

fn is_now(at: &ast::Expr) -> bool {
    let now = |name: &str| ["proctime", "now", "current_timestamp"].contains(&name);
    match at {
        ast::Expr::Function(f) => crate::sql::parse::name_of(&f.name).is_ok_and(|name| now(&name.name)),
        _ => false,
    }
}

fn mark_arrival(operator: &mut JoinOperator) -> Result<()> {
    match operator {
        JoinOperator::Join(JoinConstraint::On(on))
        | JoinOperator::Inner(JoinConstraint::On(on))
        | JoinOperator::Left(JoinConstraint::On(on))
        | JoinOperator::LeftOuter(JoinConstraint::On(on)) => {
            let condition = std::mem::replace(on, ast::Expr::Value(ast::Value::Null.into()));
            *on = crate::sql::rewrite::call(AT_ARRIVAL, vec![condition]);
            Ok(())
        }
        _ => Err(Error::unsupported("FOR SYSTEM_TIME AS OF PROCTIME() in this kind of join")
            .hint("Write [LEFT] JOIN r FOR SYSTEM_TIME AS OF PROCTIME() AS r ON l.key = r.key.")),
    }
}

/// The name of the function that marks the condition.
pub const AT_ARRIVAL: &str = "mr_at_arrival";

/// A join whose condition is marked, with the mark as a condition of its own over a column of each side, so that it stays
/// with the join; `None` for any other join.
pub fn marked(join: &Join) -> DataFusionResult<Option<LogicalPlan>> {
    let Some(Expr::ScalarFunction(ScalarFunction { func, args })) = &join.filter else { return Ok(None) };
    let ([condition], true) = (&args[..], func.name() == AT_ARRIVAL) else { return Ok(None) };
    let of = |plan: &LogicalPlan| {
        let columns = condition.column_refs().into_iter().filter(|column| plan.schema().has_column(column));
        columns.min().cloned().map(Expr::Column)
    };
    let (Some(left), Some(right)) = (of(&join.left), of(&join.right)) else {
        let error = Error::unsupported("FOR SYSTEM_TIME AS OF PROCTIME() without an equality between the sides");
        return Err(DataFusionError::External(Box::new(error)));
    };
    let mark = func.call(vec![left, right]);
    LogicalPlanBuilder::from(join.left.as_ref().clone())
        .join_on(join.right.as_ref().clone(), join.join_type, [condition.clone(), mark])?
        .build()
        .map(Some)
}

/// Whether a view's rows depend on when they came.
pub fn reads_arrival(plan: &LogicalPlan) -> DataFusionResult<bool> {
    let mut found = false;
    plan.apply_with_subqueries(|node| {
        node.apply_expressions(|expr| {
            found |= expr.exists(|expr| Ok(matches!(expr, Expr::ScalarFunction(call) if call.name() == AT_ARRIVAL)))?;
            Ok(TreeNodeRecursion::Continue)
        })
    })?;
    Ok(found)
}

/// `mr_at_arrival(…)`: true of all rows that there are now.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct AtArrival {
    signature: Signature,
}

impl Default for AtArrival {
    fn default() -> Self {
        AtArrival { signature: Signature::variadic_any(Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for AtArrival {
    fn name(&self) -> &str {
        AT_ARRIVAL
    }
    fn signature(&self) -> &Signature {
        &self.signature
    }
    fn return_type(&self, _: &[DataType]) -> DataFusionResult<DataType> {
        Ok(DataType::Boolean)
    }
    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DataFusionResult<ColumnarValue> {
        match args.args.len() {
            2 => Ok(ColumnarValue::Scalar(ScalarValue::Boolean(Some(true)))),
            _ => {
                let error = Error::unsupported("FOR SYSTEM_TIME AS OF PROCTIME() in this place");
                Err(DataFusionError::External(Box::new(error)))
            }
        }
    }
}

fn binary(left: ast::Expr, op: BinaryOperator, right: ast::Expr) -> ast::Expr {
    ast::Expr::BinaryOp { left: Box::new(left), op, right: Box::new(right) }
}
