//! Walks that know how many subqueries are around what they come to: there names, aggregates and sets are others'.

use std::ops::ControlFlow;

use sqlparser::ast::{Expr, Query, Select, Visit, VisitMut, Visitor, VisitorMut};

use crate::sql::visit::{Walk, WalkMut};

/// Calls a function for an expression and for each within it, outside of subqueries; it may end the walk.
pub fn visit_outside<B>(node: &impl Visit, each: impl FnMut(&Expr) -> ControlFlow<B>) -> ControlFlow<B> {
    node.walk(&mut Outside { depth: 0, each, ends: std::marker::PhantomData })
}

/// The same with each expression after those within it, which the function may change.
pub fn visit_outside_mut<B>(node: &mut impl VisitMut, each: impl FnMut(&mut Expr) -> ControlFlow<B>) -> ControlFlow<B> {
    struct Outermost<F, B>(F, std::marker::PhantomData<B>);
    impl<B, F: FnMut(&mut Expr) -> ControlFlow<B>> Within for Outermost<F, B> {
        type Break = B;
        fn after(&mut self, expr: &mut Expr, around: usize) -> ControlFlow<B> {
            if around == 0 { (self.0)(expr) } else { ControlFlow::Continue(()) }
        }
    }
    walk(node, Outermost(each, std::marker::PhantomData))
}

/// What is to be done at the places of a walk; `around` is how many queries of what is walked over they stand in.
pub trait Within {
    type Break;
    /// An expression, before those within it.
    fn before(&mut self, _expr: &mut Expr, _around: usize) -> ControlFlow<Self::Break> {
        ControlFlow::Continue(())
    }
    /// An expression, after those within it.
    fn after(&mut self, _expr: &mut Expr, _around: usize) -> ControlFlow<Self::Break> {
        ControlFlow::Continue(())
    }
    /// A SELECT, after all that is within it.
    fn select(&mut self, _select: &mut Select, _around: usize) -> ControlFlow<Self::Break> {
        ControlFlow::Continue(())
    }
}

/// Goes through all of it, subqueries too.
pub fn walk<W: Within>(node: &mut impl VisitMut, each: W) -> ControlFlow<W::Break> {
    node.walk_mut(&mut Around { around: 0, each })
}

struct Around<W> {
    around: usize,
    each: W,
}

impl<W: Within> VisitorMut for Around<W> {
    type Break = W::Break;
    fn pre_visit_query(&mut self, _: &mut Query) -> ControlFlow<W::Break> {
        self.around += 1;
        ControlFlow::Continue(())
    }
    fn post_visit_query(&mut self, _: &mut Query) -> ControlFlow<W::Break> {
        self.around -= 1;
        ControlFlow::Continue(())
    }
    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<W::Break> {
        self.each.before(expr, self.around)
    }
    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<W::Break> {
        self.each.after(expr, self.around)
    }
    fn post_visit_select(&mut self, select: &mut Select) -> ControlFlow<W::Break> {
        self.each.select(select, self.around)
    }
}

struct Outside<F, B> {
    /// Of subqueries around.
    depth: usize,
    each: F,
    ends: std::marker::PhantomData<B>,
}

impl<B, F: FnMut(&Expr) -> ControlFlow<B>> Visitor for Outside<F, B> {
    type Break = B;
    fn pre_visit_query(&mut self, _: &Query) -> ControlFlow<B> {
        self.depth += 1;
        ControlFlow::Continue(())
    }
    fn post_visit_query(&mut self, _: &Query) -> ControlFlow<B> {
        self.depth -= 1;
        ControlFlow::Continue(())
    }
    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<B> {
        if self.depth == 0 { (self.each)(expr) } else { ControlFlow::Continue(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subqueries_are_left_out() {
        let mut expr = crate::sql::parse::parse_expression("a + (SELECT b FROM t WHERE c IN (SELECT d)) + e").unwrap();
        let mut seen = Vec::new();
        let _ = visit_outside(&expr, |expr| {
            seen.extend(matches!(expr, Expr::Identifier(_)).then(|| expr.to_string()));
            ControlFlow::<()>::Continue(())
        });
        assert_eq!(seen, ["a", "e"]);
        let _ = visit_outside_mut(&mut expr, |expr| {
            if let Expr::Identifier(name) = expr {
                name.value.push('2');
            }
            ControlFlow::<()>::Continue(())
        });
        assert_eq!(expr.to_string(), "a2 + (SELECT b FROM t WHERE c IN (SELECT d)) + e2");
    }
}
