//! What a LATERAL names is found in the FROM that it stands in, before those around.
//!
//! DataFusion keeps one list of the columns that a LATERAL may name, and adds to it from FROM to FROM: within a subquery in
//! FROM, what stands before that subquery hides what has the same name inside, and can be named although it must not. A comma
//! begins the list anew, so that a relation of one row without columns comes before; it is taken out of the plan again.
//!
//! ```text
//!   FROM a AS r JOIN (SELECT … FROM b AS r, LATERAL f(r.x)) ON …
//!   FROM a AS r JOIN (SELECT … FROM (SELECT), b AS r, LATERAL f(r.x)) ON …
//! ```

use std::ops::ControlFlow;

use datafusion::common::tree_node::Transformed;
use datafusion::error::Result;
use datafusion::logical_expr::{EmptyRelation, JoinType, LogicalPlan};
use sqlparser::ast::{Query, Select, SetExpr, TableFactor, TableWithJoins};

use crate::sql::outside::{Within, walk};
use crate::sql::parse::query;

/// Puts such a relation into the FROM of each subquery that has a LATERAL in it.
pub fn begin(whole: &mut Query) {
    let _ = walk(whole, Scopes);
}

struct Scopes;

impl Within for Scopes {
    type Break = ();
    fn select(&mut self, select: &mut Select, around: usize) -> ControlFlow<()> {
        if around > 1 && select.from.iter().any(has_lateral) {
            select.from.insert(0, nothing());
        }
        ControlFlow::Continue(())
    }
}

fn has_lateral(from: &TableWithJoins) -> bool {
    [&from.relation].into_iter().chain(from.joins.iter().map(|join| &join.relation)).any(|factor| match factor {
        TableFactor::Derived { lateral, .. } | TableFactor::Function { lateral, .. } => *lateral,
        TableFactor::UNNEST { .. } => true,
        TableFactor::NestedJoin { table_with_joins, .. } => has_lateral(table_with_joins),
        _ => false,
    })
}

/// One row without columns.
fn nothing() -> TableWithJoins {
    let mut subquery = query("SELECT 1").expect("it is one");
    if let SetExpr::Select(select) = subquery.body.as_mut() {
        select.projection.clear();
    }
    let relation = TableFactor::Derived { lateral: false, subquery, alias: None, sample: None };
    TableWithJoins { relation, joins: Vec::new() }
}

/// Takes the relations out again that [`begin`] has put in.
pub fn end(plan: LogicalPlan) -> Result<LogicalPlan> {
    plan.transform_up_with_subqueries(|plan| match plan {
        LogicalPlan::Join(join)
            if join.join_type == JoinType::Inner
                && join.on.is_empty()
                && join.filter.is_none()
                && is_nothing(&join.left) =>
        {
            Ok(Transformed::yes(join.right.as_ref().clone()))
        }
        other => Ok(Transformed::no(other)),
    })
    .map(|plan| plan.data)
}

fn is_nothing(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::Projection(projection) => projection.expr.is_empty() && is_nothing(&projection.input),
        LogicalPlan::EmptyRelation(EmptyRelation { produce_one_row, schema }) => {
            *produce_one_row && schema.fields().is_empty()
        }
        _ => false,
    }
}
