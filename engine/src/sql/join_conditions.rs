//! The conditions of joins, of those in parentheses too: ASOF joins are marked by theirs, and subqueries in them are spelt out as
//! far as DataFusion has no join for them.

use std::ops::ControlFlow;

use sqlparser::ast::{self, Expr, TableFactor, TableWithJoins, Value};

use crate::error::Error;
use crate::sql::rewrite::{call, refuse, spell_out_subqueries};
use crate::sql::subqueries;

type Visit = ControlFlow<Box<Error>>;

/// Calls a function for each join of an item of FROM, those within others first.
pub fn each_join(from: &mut TableWithJoins, each: &mut dyn FnMut(&mut ast::Join) -> Visit) -> Visit {
    fn within(factor: &mut TableFactor, each: &mut dyn FnMut(&mut ast::Join) -> Visit) -> Visit {
        match factor {
            TableFactor::NestedJoin { table_with_joins, .. } => each_join(table_with_joins, each),
            _ => ControlFlow::Continue(()),
        }
    }
    within(&mut from.relation, each)?;
    for join in &mut from.joins {
        within(&mut join.relation, each)?;
        each(join)?;
    }
    ControlFlow::Continue(())
}

/// Subqueries in a condition: values in that of an outer join, and in that of an inner one where its join would be wrong.
pub fn settle_condition(join: &mut ast::Join) -> Visit {
    if let Some(on) = condition_of_outer(join) {
        return spell_out_subqueries(on);
    }
    match &mut join.join_operator {
        ast::JoinOperator::Join(ast::JoinConstraint::On(on))
        | ast::JoinOperator::Inner(ast::JoinConstraint::On(on)) => subqueries::keep_conditions_of_join(on),
        _ => ControlFlow::Continue(()),
    }
}

/// A join that the parser took for GLOBAL is an ASOF join (`parse/source.rs`): its condition is marked.
pub fn mark_as_of(join: &mut ast::Join) -> Visit {
    use ast::{JoinConstraint, JoinOperator as J};
    if !std::mem::take(&mut join.global) {
        return ControlFlow::Continue(());
    }
    match &mut join.join_operator {
        J::Join(JoinConstraint::On(on))
        | J::Inner(JoinConstraint::On(on))
        | J::Left(JoinConstraint::On(on))
        | J::LeftOuter(JoinConstraint::On(on)) => {
            let condition = std::mem::replace(on, Expr::Value(Value::Null.into()));
            *on = call(crate::sql::as_of::MARK, vec![condition]);
            ControlFlow::Continue(())
        }
        J::Join(_) | J::Inner(_) | J::Left(_) | J::LeftOuter(_) => {
            let error = Error::syntax("ASOF JOIN needs ON with a condition");
            ControlFlow::Break(Box::new(error.hint("Write ON l.key = r.key AND l.time >= r.time.")))
        }
        _ => refuse("ASOF JOIN that keeps the rows of its right side"),
    }
}

/// The condition of a join that keeps rows without a match.
fn condition_of_outer(join: &mut ast::Join) -> Option<&mut Expr> {
    use ast::{JoinConstraint, JoinOperator as J};
    match &mut join.join_operator {
        J::Left(JoinConstraint::On(on))
        | J::LeftOuter(JoinConstraint::On(on))
        | J::Right(JoinConstraint::On(on))
        | J::RightOuter(JoinConstraint::On(on))
        | J::FullOuter(JoinConstraint::On(on)) => Some(on),
        _ => None,
    }
}

/// A join without a condition is a forgotten one.
pub fn check_condition(join: &mut ast::Join) -> Visit {
    use ast::{JoinConstraint, JoinOperator as J};
    match &join.join_operator {
        J::Join(JoinConstraint::None)
        | J::Inner(JoinConstraint::None)
        | J::Left(JoinConstraint::None)
        | J::LeftOuter(JoinConstraint::None)
        | J::Right(JoinConstraint::None)
        | J::RightOuter(JoinConstraint::None)
        | J::FullOuter(JoinConstraint::None) => {
            let error = Error::syntax("a join needs ON or USING").hint("Write CROSS JOIN for all pairs of rows.");
            ControlFlow::Break(Box::new(error))
        }
        _ => ControlFlow::Continue(()),
    }
}
