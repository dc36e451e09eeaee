//! `count(t.*)`: the rows of t, but not those that an outer join makes up. DataFusion counts all; so t gets a column that
//! is NULL in those.
//!
//! ```text
//!   SELECT count(y.*) FROM x LEFT JOIN y ON …
//!   SELECT count(y."mr row y") FROM x LEFT JOIN (SELECT *, true AS "mr row y" FROM y) AS y ON …
//! ```

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use sqlparser::ast::{
    self, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, Ident, ObjectName, Select, SelectItem,
    SelectItemQualifiedWildcardKind, TableAlias, TableFactor, TableWithJoins, Value,
};

use crate::sql::outside::visit_outside_mut;
use crate::sql::parse::{self, fold};

/// Does so for the tables that an outer join may have no row of, if their rows are counted.
pub fn mark(select: &mut Select) {
    if !select.from.iter().any(has_outer) {
        return;
    }
    // A star would show the column.
    let shown: Vec<&ObjectName> = select.projection.iter().filter_map(star_of).collect();
    if select.projection.iter().any(|item| matches!(item, SelectItem::Wildcard(_))) {
        return;
    }
    let mut tables = BTreeSet::new();
    for factor in select.from.iter().flat_map(factors) {
        let Some(alias) = alias_of(factor) else { continue };
        if !shown.iter().any(|name| last(name).is_some_and(|name| fold(name) == fold(&alias))) {
            tables.insert(fold(&alias));
        }
    }
    let mut counts = Counts { tables, counted: BTreeSet::new() };
    for item in &mut select.projection {
        if let SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } = item {
            let _ = visit_outside_mut(expr, |expr| counts.take(expr));
        }
    }
    if let Some(having) = &mut select.having {
        let _ = visit_outside_mut(having, |expr| counts.take(expr));
    }
    for from in &mut select.from {
        with_column(from, &counts.counted);
    }
}

fn star_of(item: &SelectItem) -> Option<&ObjectName> {
    match item {
        SelectItem::QualifiedWildcard(SelectItemQualifiedWildcardKind::ObjectName(name), _) => Some(name),
        _ => None,
    }
}

fn last(name: &ObjectName) -> Option<&Ident> {
    name.0.last().and_then(|part| part.as_ident())
}

fn has_outer(from: &TableWithJoins) -> bool {
    use ast::JoinOperator as J;
    let outer = |join: &ast::Join| {
        matches!(join.join_operator, J::Left(_) | J::LeftOuter(_) | J::Right(_) | J::RightOuter(_) | J::FullOuter(_))
    };
    let nested = |factor: &TableFactor| match factor {
        TableFactor::NestedJoin { table_with_joins, alias: None } => has_outer(table_with_joins),
        _ => false,
    };
    nested(&from.relation) || from.joins.iter().any(|join| outer(join) || nested(&join.relation))
}

fn factors(from: &TableWithJoins) -> Vec<&TableFactor> {
    let all = std::iter::once(&from.relation).chain(from.joins.iter().map(|join| &join.relation));
    all.flat_map(|factor| match factor {
        TableFactor::NestedJoin { table_with_joins, alias: None } => factors(table_with_joins),
        other => vec![other],
    })
    .collect()
}

/// What a table is called.
fn alias_of(factor: &TableFactor) -> Option<Ident> {
    match factor {
        TableFactor::Table { alias: Some(alias), args: None, .. }
        | TableFactor::Derived { alias: Some(alias), lateral: false, .. } => Some(alias.name.clone()),
        TableFactor::Table { name, alias: None, args: None, .. } => last(name).cloned(),
        _ => None,
    }
}

fn column(table: &str) -> Ident {
    Ident::with_quote('"', format!("mr row {table}"))
}

/// Counts of rows of these tables, of this SELECT.
struct Counts {
    tables: BTreeSet<String>,
    counted: BTreeSet<String>,
}

impl Counts {
    fn take(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        if let Expr::Function(Function { name, args: FunctionArguments::List(list), .. }) = expr
            && last(name).is_some_and(|name| fold(name) == "count")
            && let [FunctionArg::Unnamed(argument)] = list.args.as_mut_slice()
            && let FunctionArgExpr::QualifiedWildcard(table) = argument
            && let Some(table) = last(table)
            && self.tables.contains(&fold(table))
        {
            let counted = fold(table);
            *argument = FunctionArgExpr::Expr(Expr::CompoundIdentifier(vec![table.clone(), column(&counted)]));
            self.counted.insert(counted);
        }
        ControlFlow::Continue(())
    }
}

/// Gives these tables their column.
fn with_column(from: &mut TableWithJoins, counted: &BTreeSet<String>) {
    for factor in std::iter::once(&mut from.relation).chain(from.joins.iter_mut().map(|join| &mut join.relation)) {
        if let TableFactor::NestedJoin { table_with_joins, alias: None } = factor {
            with_column(table_with_joins, counted);
            continue;
        }
        let Some(alias) = alias_of(factor).filter(|alias| counted.contains(&fold(alias))) else { continue };
        let mut subquery = parse::query("SELECT * FROM t").expect("a query");
        if let ast::SetExpr::Select(select) = subquery.body.as_mut() {
            let expr = Expr::Value(Value::Boolean(true).into());
            select.projection.push(SelectItem::ExprWithAlias { expr, alias: column(&fold(&alias)) });
            select.from[0].relation = factor.clone();
        }
        let alias = TableAlias { explicit: true, name: alias, columns: Vec::new(), at: None };
        *factor = TableFactor::Derived { lateral: false, subquery, alias: Some(alias), sample: None };
    }
}
