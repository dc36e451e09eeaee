//! A walk over an expression that leaves out what stands in its subqueries: there names, aggregates and sets are others'.

use std::ops::ControlFlow;

use sqlparser::ast::{Expr, Query, Visit, VisitMut, Visitor, VisitorMut};

/// Calls a function for an expression and for each within it, outside of subqueries; it may end the walk.
pub fn visit_outside<B>(node: &impl Visit, each: impl FnMut(&Expr) -> ControlFlow<B>) -> ControlFlow<B> {
    node.visit(&mut Outside { depth: 0, each, ends: std::marker::PhantomData })
}

/// The same with each expression after those within it, which the function may change.
pub fn visit_outside_mut<B>(node: &mut impl VisitMut, each: impl FnMut(&mut Expr) -> ControlFlow<B>) -> ControlFlow<B> {
    node.visit(&mut Outside { depth: 0, each, ends: std::marker::PhantomData })
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

impl<B, F: FnMut(&mut Expr) -> ControlFlow<B>> VisitorMut for Outside<F, B> {
    type Break = B;
    fn pre_visit_query(&mut self, _: &mut Query) -> ControlFlow<B> {
        self.depth += 1;
        ControlFlow::Continue(())
    }
    fn post_visit_query(&mut self, _: &mut Query) -> ControlFlow<B> {
        self.depth -= 1;
        ControlFlow::Continue(())
    }
    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<B> {
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
