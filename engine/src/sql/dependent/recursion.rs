//! WITH RECURSIVE in a correlated subquery: each of its rows carries the outer values that it is for, from round to round.
//!
//! ```text
//!   FROM l, LATERAL (WITH RECURSIVE t (y) AS (SELECT l.x UNION ALL SELECT y + l.d FROM t WHERE y < 9) SELECT y FROM t) s
//!
//!   the recursion is t (key, x, d, y): SELECT key, x, d, x FROM o UNION ALL SELECT key, x, d, y + d FROM t WHERE y < 9,
//!   where o are the distinct values of l
//! ```

use std::sync::Arc;

use arrow::datatypes::Schema;
use datafusion::catalog::cte_worktable::CteWorkTable;
use datafusion::common::Column;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::datasource::provider_as_source;
use datafusion::error::Result;
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, RecursiveQuery, TableScan};

use super::{Unnested, Unnesting, outside, refused};

/// The rows of the last round, with the outer values before them.
#[derive(Clone)]
pub struct LastRound {
    name: String,
    rows: LogicalPlan,
}

impl LastRound {
    fn is_read_by(&self, scan: &TableScan) -> bool {
        scan.table_name.table() == self.name
    }

    fn is_within(&self, plan: &LogicalPlan, and_subqueries: bool) -> Result<bool> {
        let mut found = false;
        let mut look = |node: &LogicalPlan| {
            found |= matches!(node, LogicalPlan::TableScan(scan) if self.is_read_by(scan));
            Ok(if found { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
        };
        match and_subqueries {
            true => plan.apply_with_subqueries(&mut look)?,
            false => plan.apply(&mut look)?,
        };
        Ok(found)
    }
}

impl Unnesting {
    /// Whether a plan has other rows for other outer values.
    pub(super) fn depends(&self, plan: &LogicalPlan) -> Result<bool> {
        let reads = |round: &LastRound| round.is_within(plan, false);
        Ok(outside::mentions(plan, &self.outer)? || self.last_round.as_ref().map_or(Ok(false), reads)?)
    }

    /// The rows of the last round; any other table as it is.
    pub(super) fn scan(&mut self, scan: &TableScan) -> Result<Unnested> {
        let Some(round) = self.last_round.as_ref().filter(|round| round.is_read_by(scan)) else {
            return Err(refused(&scan.table_name.to_string()));
        };
        let columns = round.rows.schema().columns();
        let outer = columns.into_iter().take(self.outer.len() + 1).collect();
        Ok((round.rows.clone(), outer))
    }

    pub(super) fn recursion(&mut self, query: &RecursiveQuery) -> Result<Unnested> {
        let (first, outer) = self.unnest(&query.static_term)?;
        // All rounds have the columns of the first one.
        let names: Vec<_> = first.schema().columns();
        let qualified = outer.iter().chain(&query.schema.columns()).cloned().collect::<Vec<_>>();
        let first = renamed(first, &names, &qualified)?;
        let fields = first.schema().fields().iter().map(|field| field.as_ref().clone().with_nullable(true));
        let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
        let source = provider_as_source(Arc::new(CteWorkTable::new(&query.name, schema)));
        let rows = LogicalPlanBuilder::scan(query.name.clone(), source, None)?.build()?;
        let round = LastRound { name: query.name.clone(), rows };
        let within = round.is_within(&query.recursive_term, true)? && !round.is_within(&query.recursive_term, false)?;
        if within {
            return Err(refused("a recursion in a subquery"));
        }
        let before = self.last_round.replace(round);
        let next = self.unnest(&query.recursive_term);
        self.last_round = before;
        let next = next?.0;
        let columns = next.schema().columns();
        let next = renamed(next, &columns, &qualified)?;
        let (first, next) = (Arc::new(first), Arc::new(next));
        let recursion = RecursiveQuery::try_new(query.name.clone(), first, next, query.is_distinct)?;
        Ok((LogicalPlan::RecursiveQuery(recursion), outer))
    }
}

fn renamed(plan: LogicalPlan, columns: &[Column], names: &[Column]) -> Result<LogicalPlan> {
    let columns = columns.iter().zip(names).map(|(column, name)| match column == name {
        true => Expr::Column(column.clone()),
        false => Expr::Column(column.clone()).alias_qualified(name.relation.clone(), name.name.clone()),
    });
    LogicalPlanBuilder::from(plan).project(columns.collect::<Vec<_>>())?.build()
}
