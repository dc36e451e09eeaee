//! How large a plan may be. A short text can mean one without end: views that join themselves, columns that are
//! doubled and doubled again. And trees are walked, copied and dropped by recursion, so that deep ones cost stack.
//!
//! ```text
//!   v1 = t JOIN t, v2 = v1 JOIN v1, …                            2^n nodes
//!   SELECT a || a AS a FROM (SELECT a || a AS a FROM (…)) …      2^n terms, once a filter is pushed through
//!   v1 = SELECT a + 1 + 1 + … FROM t, v2 = SELECT a + 1 + 1 + … FROM v1, …     merged, a term of any depth
//! ```

use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion, TreeNodeVisitor};
use datafusion::error::{DataFusionError, Result as DataFusionResult};
use datafusion::logical_expr::{Expr, LogicalPlan};

use crate::error::{Error, Result};
use crate::sql::bind::error_from;
use crate::sql::bounds;
use crate::sql::expansion;

/// Nodes of a plan, those of its subqueries included, and how deep they may lie in one another.
const NODES_MAX: usize = 20_000;
const DEPTH_MAX: usize = 2_500;
/// From here on planning takes some hundredths of a second.
const LARGE_NODES: usize = 100;
/// Columns of all nodes together: each node has a schema of its own.
const COLUMNS_MAX: usize = 10_000_000;
/// Terms of a plan. A constant is one too, so that this also bounds lists of them.
const TERMS_MAX: usize = 2_000_000;
/// How deep terms may lie in one another, those of nodes in one another added up: optimizing may merge them.
const TERM_DEPTH_MAX: usize = 3_000;

/// For a plan as it was bound. Errors: 54001 when it is too large, 54011 for a list of too many columns, and 57014.
pub fn check(plan: &LogicalPlan) -> Result<()> {
    check_size(plan)?;
    let wide = plan.apply_with_subqueries(|node| match node {
        LogicalPlan::Projection(list) if list.expr.len() > expansion::COLUMNS_MAX => {
            Err(DataFusionError::External(Box::new(expansion::too_wide())))
        }
        _ => Ok(TreeNodeRecursion::Continue),
    });
    wide.map(|_| ()).map_err(error_from)
}

/// For any plan. Errors: 54001 and 57014.
pub fn check_size(plan: &LogicalPlan) -> Result<()> {
    let mut size = Size::default();
    plan.visit_with_subqueries(&mut size).map(|_| ()).map_err(error_from)
}

/// The same for the nodes of a plan alone, while it grows.
pub fn check_nodes(plan: &LogicalPlan) -> DataFusionResult<()> {
    let mut nodes = 0;
    plan.apply_with_subqueries(|_| {
        nodes += 1;
        bounds::check_in_plan()?;
        if nodes > NODES_MAX { too_large() } else { Ok(TreeNodeRecursion::Continue) }
    })
    .map(|_| ())
}

/// The same for the terms of one node, while a plan is optimized.
pub fn check_terms(plan: &LogicalPlan) -> DataFusionResult<()> {
    let mut terms = Terms::default();
    plan.apply_expressions(|expr| expr.visit(&mut terms)).map(|_| ())
}

/// Whether to plan it takes so long that others should not wait for it.
pub fn is_large(plan: &LogicalPlan) -> bool {
    let mut nodes = 0;
    let look = plan.apply_with_subqueries(|_| {
        nodes += 1;
        Ok(if nodes > LARGE_NODES { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    });
    look.is_err() || nodes > LARGE_NODES
}

/// For so many tables with so many columns together, each of which may be in the schema of each join.
pub fn check_join((tables, columns): (usize, usize)) -> DataFusionResult<()> {
    if tables.saturating_mul(columns) > 2 * COLUMNS_MAX { too_large() } else { Ok(()) }
}

fn too_large<T>() -> DataFusionResult<T> {
    let error = Error::new("54001", "statement too complex")
        .hint("Views and WITH queries are copied to each place that names them; the whole is too large or too deep.");
    Err(DataFusionError::External(Box::new(error)))
}

#[derive(Default)]
struct Size {
    nodes: usize,
    columns: usize,
    /// The depth of the terms of each node around what is visited.
    around: Vec<usize>,
    /// Their sum.
    depth: usize,
    terms: Terms,
}

impl<'n> TreeNodeVisitor<'n> for Size {
    type Node = LogicalPlan;

    fn f_down(&mut self, node: &'n LogicalPlan) -> DataFusionResult<TreeNodeRecursion> {
        bounds::check_in_plan()?;
        self.nodes += 1;
        self.columns += node.schema().fields().len();
        self.terms.deepest = 0;
        let terms = &mut self.terms;
        node.apply_expressions(|expr| expr.visit(terms))?;
        self.around.push(self.terms.deepest);
        self.depth += self.terms.deepest;
        let fine = self.nodes <= NODES_MAX
            && self.columns <= COLUMNS_MAX
            && self.around.len() <= DEPTH_MAX
            && self.depth <= TERM_DEPTH_MAX;
        if fine { Ok(TreeNodeRecursion::Continue) } else { too_large() }
    }
    fn f_up(&mut self, _: &'n LogicalPlan) -> DataFusionResult<TreeNodeRecursion> {
        self.depth -= self.around.pop().unwrap_or_default();
        Ok(TreeNodeRecursion::Continue)
    }
}

#[derive(Default)]
struct Terms {
    count: usize,
    depth: usize,
    deepest: usize,
}

impl<'n> TreeNodeVisitor<'n> for Terms {
    type Node = Expr;

    fn f_down(&mut self, _: &'n Expr) -> DataFusionResult<TreeNodeRecursion> {
        self.count += 1;
        self.depth += 1;
        self.deepest = self.deepest.max(self.depth);
        let fine = self.count <= TERMS_MAX && self.depth <= TERM_DEPTH_MAX;
        if fine { Ok(TreeNodeRecursion::Continue) } else { too_large() }
    }
    fn f_up(&mut self, _: &'n Expr) -> DataFusionResult<TreeNodeRecursion> {
        self.depth -= 1;
        Ok(TreeNodeRecursion::Continue)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::logical_expr::{LogicalPlanBuilder, lit};

    fn code(plan: &LogicalPlan) -> Option<&'static str> {
        check(plan).err().map(|error| error.code)
    }

    #[test]
    fn doubling_and_depth_end() {
        let mut plan = LogicalPlanBuilder::empty(true).build().unwrap();
        let deep = (0..900).fold(lit(1), |sum, _| sum + lit(1));
        let one = LogicalPlanBuilder::from(plan.clone()).project([deep.clone().alias("a")]).unwrap().build().unwrap();
        assert_eq!(code(&one), None);
        let mut deeper = one;
        for _ in 0..3 {
            deeper = LogicalPlanBuilder::from(deeper).project([deep.clone().alias("a")]).unwrap().build().unwrap();
        }
        assert_eq!(code(&deeper), Some("54001"));
        for doubled in 0..20 {
            assert_eq!(code(&plan), if doubled < 14 { None } else { Some("54001") }, "{doubled}");
            plan = LogicalPlanBuilder::from(plan.clone()).union(plan).unwrap().build().unwrap();
        }
    }
}
