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
    if forgotten(join).is_none() {
        return ControlFlow::Continue(());
    }
    let error = Error::syntax("a join needs ON or USING").hint("Write CROSS JOIN for all pairs of rows.");
    ControlFlow::Break(Box::new(error))
}

/// Joins within others without parentheses, where the parser leaves the ON of the outer one at a CROSS JOIN:
/// `a LEFT JOIN b CROSS JOIN c ON x` is `a LEFT JOIN (b CROSS JOIN c) ON x`.
pub fn nest_cross_joins(from: &mut TableWithJoins) -> Visit {
    let mut factors = vec![&mut from.relation];
    factors.extend(from.joins.iter_mut().map(|join| &mut join.relation));
    for factor in factors {
        if let TableFactor::NestedJoin { table_with_joins, .. } = factor {
            nest_cross_joins(table_with_joins)?;
        }
    }
    let mut nested: Vec<ast::Join> = Vec::new();
    for mut join in std::mem::take(&mut from.joins) {
        let ast::JoinOperator::CrossJoin(constraint) = &mut join.join_operator else {
            nested.push(join);
            continue;
        };
        let constraint = std::mem::replace(constraint, ast::JoinConstraint::None);
        if constraint == ast::JoinConstraint::None {
            nested.push(join);
            continue;
        }
        let Some(outer) = nested.iter_mut().rposition(|outer| forgotten(outer).is_some()) else {
            let word = if matches!(constraint, ast::JoinConstraint::On(_)) { "on" } else { "using" };
            return ControlFlow::Break(Box::new(Error::syntax(format!("syntax error at or near \"{word}\""))));
        };
        let mut joins = nested.split_off(outer + 1);
        joins.push(join);
        if let Some(outer) = nested.last_mut() {
            let table_with_joins = Box::new(TableWithJoins { relation: outer.relation.clone(), joins });
            outer.relation = TableFactor::NestedJoin { table_with_joins, alias: None };
            if let Some(condition) = forgotten(outer) {
                *condition = constraint;
            }
        }
    }
    from.joins = nested;
    ControlFlow::Continue(())
}

/// The place of a condition that a join has not.
fn forgotten(join: &mut ast::Join) -> Option<&mut ast::JoinConstraint> {
    use ast::JoinOperator as J;
    match &mut join.join_operator {
        J::Join(on)
        | J::Inner(on)
        | J::Left(on)
        | J::LeftOuter(on)
        | J::Right(on)
        | J::RightOuter(on)
        | J::FullOuter(on)
            if *on == ast::JoinConstraint::None =>
        {
            Some(on)
        }
        _ => None,
    }
}
