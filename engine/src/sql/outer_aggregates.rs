//! Aggregates in a subquery all of whose columns are an outer query's: they are the outer query's own. `grouped.rs` computes
//! those there whose columns are named with their tables; where a bound plan shows that others are meant, they are named so.
//!
//! ```text
//!   SELECT (SELECT count(*) FILTER (WHERE x > 0) FROM u) FROM t            one row
//!   SELECT (SELECT count(*) FILTER (WHERE t.x > 0) FROM u) FROM t
//! ```

use std::collections::{BTreeMap, HashSet};
use std::ops::ControlFlow;

use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::error::Result as DataFusionResult;
use datafusion::logical_expr::{Expr as PlanExpr, LogicalPlan};
use sqlparser::ast::{Expr, Ident, Query};

use crate::error::{Error, Result};
use crate::sql::grouped::is_aggregate;
use crate::sql::item_names::plain_name;
use crate::sql::outside::{Within, walk};
use crate::sql::parse::fold;
use crate::sql::visit;

/// An aggregate in a plan that has no columns but an outer query's: its function and their names, with the tables' where they
/// have one.
pub struct Theirs {
    function: String,
    columns: BTreeMap<String, Option<String>>,
}

/// All such of a plan. Some of them may be of our own making.
pub fn in_plan(plan: &LogicalPlan) -> DataFusionResult<Vec<Theirs>> {
    let mut found = Vec::new();
    plan.apply_with_subqueries(|node| {
        let LogicalPlan::Aggregate(aggregate) = node else { return Ok(TreeNodeRecursion::Continue) };
        for expr in &aggregate.aggr_expr {
            let PlanExpr::AggregateFunction(call) = expr.clone().unalias() else { continue };
            let (mut columns, mut own) = (BTreeMap::new(), false);
            expr.apply(|expr| {
                match expr {
                    PlanExpr::OuterReferenceColumn(_, column) => {
                        let table = column.relation.as_ref().map(|relation| relation.table().to_string());
                        columns.insert(plain_name(&column.name).to_string(), table);
                    }
                    PlanExpr::Column(_) => own = true,
                    _ => {}
                }
                Ok(TreeNodeRecursion::Continue)
            })?;
            if !own && !columns.is_empty() {
                found.push(Theirs { function: call.func.name().to_string(), columns });
            }
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(found)
}

/// Names the tables of such aggregates in the query; `true` if there was something to name. Errors: 0A000 where it is open
/// which of several aggregates is meant.
pub fn name_tables(query: &mut Query, theirs: &[Theirs]) -> Result<bool> {
    let mut named = false;
    for one in theirs {
        let alike = theirs.iter().filter(|t| t.function == one.function && t.columns == one.columns).count();
        let mut search = Search { of: one, found: 0, bare: false, name: false };
        let _ = walk(query, &mut search);
        if !search.bare {
            continue;
        }
        if search.found != alike {
            let hint = "Name the columns of aggregates in subqueries with their tables.";
            return Err(Error::unsupported("an aggregate of an outer query beside one that looks like it").hint(hint));
        }
        search.name = true;
        let _ = walk(query, &mut search);
        named = true;
    }
    Ok(named)
}

/// Errors: 0A000 for GROUPING of an outer query's groups, which DataFusion takes for the subquery's.
pub fn check_grouping(theirs: &[Theirs]) -> Result<()> {
    match theirs.iter().any(|one| one.function == "grouping") {
        true => Err(Error::unsupported("GROUPING of an outer query's columns in a subquery")),
        false => Ok(()),
    }
}

/// Errors: 42803 if the query has one of these aggregates, where none of an outer query can be.
pub fn refuse(query: &mut Query, theirs: &[Theirs]) -> Result<()> {
    for one in theirs {
        let mut search = Search { of: one, found: 0, bare: false, name: false };
        let _ = walk(query, &mut search);
        if search.found > 0 {
            return Err(Error::new("42803", "aggregate functions of an outer query are not allowed in WHERE or FROM"));
        }
    }
    Ok(())
}

/// Looks for aggregates in subqueries with such columns.
struct Search<'a> {
    of: &'a Theirs,
    found: usize,
    /// Whether one of them has a column without its table's name.
    bare: bool,
    /// Whether such columns get it.
    name: bool,
}

impl Within for &mut Search<'_> {
    type Break = ();
    fn before(&mut self, expr: &mut Expr, around: usize) -> ControlFlow<()> {
        if around < 2 || !is_aggregate(expr) || !self.is_named(expr) {
            return ControlFlow::Continue(());
        }
        let (mut names, mut bare) = (HashSet::new(), false);
        let _ = visit::visit_expressions(expr, |expr| {
            match expr {
                Expr::Identifier(name) => {
                    bare = true;
                    names.insert(fold(name));
                }
                Expr::CompoundIdentifier(parts) => names.extend(parts.last().map(fold)),
                _ => {}
            }
            ControlFlow::<()>::Continue(())
        });
        if names.len() != self.of.columns.len() || !self.of.columns.keys().all(|name| names.contains(name)) {
            return ControlFlow::Continue(());
        }
        self.found += 1;
        self.bare |= bare;
        if self.name {
            let _ = visit::visit_expressions_mut(expr, |expr| {
                if let Expr::Identifier(name) = expr
                    && let Some(Some(table)) = self.of.columns.get(&fold(name))
                {
                    let table = Ident::with_quote('"', table);
                    *expr = Expr::CompoundIdentifier(vec![table, name.clone()]);
                }
                ControlFlow::<()>::Continue(())
            });
        }
        ControlFlow::Continue(())
    }
}

impl Search<'_> {
    fn is_named(&self, expr: &Expr) -> bool {
        let Expr::Function(function) = expr else { return false };
        let name = function.name.0.last().and_then(|part| part.as_ident()).map(fold).unwrap_or_default();
        let name = match name.as_str() {
            "every" => "bool_and",
            "variance" | "var_samp" => "var",
            "stddev_samp" => "stddev",
            "json_agg" | "jsonb_agg" | "mode" | "percentile_disc" => "array_agg",
            other => other,
        };
        name == self.of.function
    }
}
