//! The walk over parsed SQL that all visitors share.
//!
//! sqlparser's own `visit` is generic over the visitor: for each type of visitor, and each closure is one, the compiler
//! makes the walk anew, some five hundred functions. With a hundred and fifty visitors that was half of the program.
//! Here the walk is made once, over visitors behind a pointer.

use std::ops::ControlFlow;

use sqlparser::ast::{Expr, ObjectName, Query, Select, Statement, TableFactor, ValueWithSpan};
use sqlparser::ast::{Visit, VisitMut, Visitor, VisitorMut};

/// A part of a parsed statement, to be walked over.
pub trait Walk {
    fn walk<V: Visitor>(&self, visitor: &mut V) -> ControlFlow<V::Break>;
}

/// The same for visitors that change it.
pub trait WalkMut {
    fn walk_mut<V: VisitorMut>(&mut self, visitor: &mut V) -> ControlFlow<V::Break>;
}

/// A visitor, and what it broke off with.
struct Broken<'v, V, B> {
    visitor: &'v mut V,
    with: Option<B>,
}

impl<V, B> Broken<'_, V, B> {
    fn keep(&mut self, flow: impl FnOnce(&mut V) -> ControlFlow<B>) -> ControlFlow<()> {
        flow(self.visitor).map_break(|with| self.with = Some(with))
    }
}

/// What sqlparser's walk is compiled for.
struct Shared<'v>(&'v mut dyn Visitor<Break = ()>);
struct SharedMut<'v>(&'v mut dyn VisitorMut<Break = ()>);

macro_rules! pass_on {
    ($($hook:ident: $node:ty),+ $(,)?) => {
        impl<V: Visitor> Visitor for Broken<'_, V, V::Break> {
            type Break = ();
            $(fn $hook(&mut self, node: &$node) -> ControlFlow<()> {
                self.keep(|visitor| visitor.$hook(node))
            })+
        }
        impl<V: VisitorMut> VisitorMut for Broken<'_, V, V::Break> {
            type Break = ();
            $(fn $hook(&mut self, node: &mut $node) -> ControlFlow<()> {
                self.keep(|visitor| visitor.$hook(node))
            })+
        }
        impl Visitor for Shared<'_> {
            type Break = ();
            $(fn $hook(&mut self, node: &$node) -> ControlFlow<()> {
                self.0.$hook(node)
            })+
        }
        impl VisitorMut for SharedMut<'_> {
            type Break = ();
            $(fn $hook(&mut self, node: &mut $node) -> ControlFlow<()> {
                self.0.$hook(node)
            })+
        }
    };
}

pass_on! {
    pre_visit_query: Query,
    post_visit_query: Query,
    pre_visit_select: Select,
    post_visit_select: Select,
    pre_visit_relation: ObjectName,
    post_visit_relation: ObjectName,
    pre_visit_table_factor: TableFactor,
    post_visit_table_factor: TableFactor,
    pre_visit_expr: Expr,
    post_visit_expr: Expr,
    pre_visit_statement: Statement,
    post_visit_statement: Statement,
    pre_visit_value: ValueWithSpan,
    post_visit_value: ValueWithSpan,
}

/// The walk ends early only with what the visitor broke off with.
fn outcome<B>(flow: ControlFlow<()>, with: Option<B>) -> ControlFlow<B> {
    debug_assert_eq!(flow.is_break(), with.is_some());
    with.map_or(ControlFlow::Continue(()), ControlFlow::Break)
}

impl<N: Visit> Walk for N {
    fn walk<V: Visitor>(&self, visitor: &mut V) -> ControlFlow<V::Break> {
        let mut kept = Broken { visitor, with: None };
        let flow = self.visit(&mut Shared(&mut kept));
        outcome(flow, kept.with)
    }
}

impl<N: VisitMut> WalkMut for N {
    fn walk_mut<V: VisitorMut>(&mut self, visitor: &mut V) -> ControlFlow<V::Break> {
        let mut kept = Broken { visitor, with: None };
        let flow = self.visit(&mut SharedMut(&mut kept));
        outcome(flow, kept.with)
    }
}

/// A visitor of one kind of node by a function.
struct Each<F>(F);
struct EachRelation<F>(F);

impl<B, F: FnMut(&Expr) -> ControlFlow<B>> Visitor for Each<F> {
    type Break = B;
    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<B> {
        self.0(expr)
    }
}

impl<B, F: FnMut(&mut Expr) -> ControlFlow<B>> VisitorMut for Each<F> {
    type Break = B;
    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<B> {
        self.0(expr)
    }
}

impl<B, F: FnMut(&ObjectName) -> ControlFlow<B>> Visitor for EachRelation<F> {
    type Break = B;
    fn pre_visit_relation(&mut self, relation: &ObjectName) -> ControlFlow<B> {
        self.0(relation)
    }
}

impl<B, F: FnMut(&mut ObjectName) -> ControlFlow<B>> VisitorMut for EachRelation<F> {
    type Break = B;
    fn post_visit_relation(&mut self, relation: &mut ObjectName) -> ControlFlow<B> {
        self.0(relation)
    }
}

/// Each expression, before those within it, subqueries' too.
pub fn visit_expressions<B>(node: &impl Visit, each: impl FnMut(&Expr) -> ControlFlow<B>) -> ControlFlow<B> {
    node.walk(&mut Each(each))
}

/// Each expression, after those within it, subqueries' too.
pub fn visit_expressions_mut<B>(
    node: &mut impl VisitMut,
    each: impl FnMut(&mut Expr) -> ControlFlow<B>,
) -> ControlFlow<B> {
    node.walk_mut(&mut Each(each))
}

/// Each name of a relation.
pub fn visit_relations<B>(node: &impl Visit, each: impl FnMut(&ObjectName) -> ControlFlow<B>) -> ControlFlow<B> {
    node.walk(&mut EachRelation(each))
}

/// Each name of a relation, to be changed.
pub fn visit_relations_mut<B>(
    node: &mut impl VisitMut,
    each: impl FnMut(&mut ObjectName) -> ControlFlow<B>,
) -> ControlFlow<B> {
    node.walk_mut(&mut EachRelation(each))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_walk_ends_with_what_its_visitor_breaks_off_with() {
        let mut expr =
            crate::sql::parse::parse_expression("a + (SELECT b FROM t WHERE c IN (SELECT d FROM u))").unwrap();
        let name = |expr: &Expr| match expr {
            Expr::Identifier(name) if name.value == "c" => ControlFlow::Break(name.value.clone()),
            _ => ControlFlow::Continue(()),
        };
        assert_eq!(visit_expressions(&expr, name), ControlFlow::Break("c".to_string()));
        let mut relations = Vec::new();
        let all = visit_relations(&expr, |relation| {
            relations.push(relation.to_string());
            ControlFlow::<()>::Continue(())
        });
        assert_eq!((all, relations), (ControlFlow::Continue(()), vec!["t".to_string(), "u".to_string()]));
        // The innermost come first when they may be changed.
        let mut seen = 0;
        let found = visit_expressions_mut(&mut expr, |expr| {
            seen += 1;
            if matches!(expr, Expr::Subquery(_)) {
                ControlFlow::Break(expr.to_string())
            } else {
                ControlFlow::Continue(())
            }
        });
        assert_eq!(found, ControlFlow::Break("(SELECT b FROM t WHERE c IN (SELECT d FROM u))".to_string()));
        assert_eq!(seen, 6, "a, b, d, c, IN and the subquery");
    }
}
