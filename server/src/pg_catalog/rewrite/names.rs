//! Names of output columns, as Postgres gives them (FigureColname in its parser), and columns of the same
//! name told apart.
//!
//! ```text
//! SELECT count(*), n.oid, n.oid::regclass, CASE … END       count, oid, oid, case
//! ```
//!
//! DataFusion wants distinct names, so the second `oid` becomes `oid` + MARK + `2`, as in the engine's binder, which
//! takes the marks off again.

use std::ops::ControlFlow;

use millrace_engine::sql::visit::visit_expressions;
use sqlparser::ast::{
    DataType, Expr, Ident, ObjectName, Query, Select, SelectItem, SelectItemQualifiedWildcardKind, SetExpr,
};

use super::{fold, from, parts};
use crate::pg_catalog::names::Names;
use crate::pg_catalog::{CatalogView, relations};

/// The engine's mark between a name and the number that makes it differ.
const MARK: char = '\u{1}';

/// Names the columns of the outermost query and tells equal ones apart.
pub fn name_columns(query: &mut Query, view: &CatalogView) {
    let mut body = &mut *query.body;
    loop {
        match body {
            SetExpr::Select(select) => return name_select(select, view),
            // A set operation has the names of its left side.
            SetExpr::SetOperation { left, .. } => body = left,
            SetExpr::Query(inner) => return name_columns(inner, view),
            _ => return,
        }
    }
}

fn name_select(select: &mut Select, view: &CatalogView) {
    let tables = from::tables(&select.from);
    let mut items: Vec<SelectItem> = Vec::new();
    let several = select.projection.len() > 1;
    for item in std::mem::take(&mut select.projection) {
        match &item {
            SelectItem::QualifiedWildcard(SelectItemQualifiedWildcardKind::ObjectName(name), _) if several => {
                let alias = parts(name).pop().unwrap_or_default();
                match tables.get(&alias).and_then(|t| columns_of(t, view)) {
                    Some(columns) => items.extend(columns.into_iter().map(|c| {
                        let qualified = vec![Ident::with_quote('"', &alias), Ident::with_quote('"', c)];
                        SelectItem::UnnamedExpr(Expr::CompoundIdentifier(qualified))
                    })),
                    None => items.push(item),
                }
            }
            _ => items.push(item),
        }
    }
    // Around unnest, DataFusion takes a name that an input column has too for that column.
    let sets = items.iter().any(returns_set);
    let mut seen: Vec<String> = Vec::new();
    for item in items {
        let named = matches!(item, SelectItem::ExprWithAlias { .. });
        let (expr, name, given) = match item {
            SelectItem::ExprWithAlias { expr, alias } => {
                let name = fold(&alias);
                (expr, name, true)
            }
            SelectItem::UnnamedExpr(expr) => {
                let name = column_name(&expr).unwrap_or_else(|| "?column?".into());
                let given = !matches!(expr, Expr::Identifier(_) | Expr::CompoundIdentifier(_)) || is_rewritten(&expr);
                (expr, name, given)
            }
            other => {
                select.projection.push(other);
                continue;
            }
        };
        let count = seen.iter().filter(|n| **n == name).count();
        seen.push(name.clone());
        select.projection.push(match (count, given) {
            (0, false) => SelectItem::UnnamedExpr(expr),
            (0, true) if sets && !named => {
                SelectItem::ExprWithAlias { expr, alias: Ident::with_quote('"', format!("{name}{MARK}")) }
            }
            (0, true) => SelectItem::ExprWithAlias { expr, alias: Ident::with_quote('"', name) },
            (n, _) => {
                SelectItem::ExprWithAlias { expr, alias: Ident::with_quote('"', format!("{name}{MARK}{}", n + 1)) }
            }
        });
    }
}

fn returns_set(item: &SelectItem) -> bool {
    let mut found = false;
    let _ = visit_expressions(item, |e| {
        if let Expr::Function(f) = e {
            found |= parts(&f.name).last().is_some_and(|n| n == "unnest" || super::expressions::returns_set(n));
        }
        ControlFlow::<()>::Continue(())
    });
    found
}

/// Columns that the rewrite turns into something else and that need their name kept.
fn is_rewritten(expr: &Expr) -> bool {
    let last = match expr {
        Expr::Identifier(i) => i,
        Expr::CompoundIdentifier(i) => match i.last() {
            Some(i) => i,
            None => return false,
        },
        _ => return false,
    };
    last.quote_style.is_none()
        && (super::expressions::is_session_word(&last.value) || super::expressions::is_system_column(&last.value))
}

fn columns_of(table: &ObjectName, view: &CatalogView) -> Option<Vec<String>> {
    let parts = parts(table);
    let schema = parts.len().checked_sub(2).map(|i| parts[i].as_str());
    if let Some(relation) = relations::find(schema, parts.last()?) {
        return Some(relation.columns.iter().map(|c| c.name.to_string()).collect());
    }
    let relation = view.find_relation(&table.to_string()).and_then(|oid| view.catalog.get(oid))?;
    Some(relation.columns.iter().map(|c| c.name.clone()).collect())
}

/// The name of an unnamed column; None is `?column?`.
fn column_name(expr: &Expr) -> Option<String> {
    match expr {
        Expr::Identifier(ident) => Some(fold(ident)),
        Expr::CompoundIdentifier(idents) => idents.last().map(fold),
        Expr::CompoundFieldAccess { root, access_chain } => {
            let field = access_chain.iter().rev().find_map(|a| match a {
                sqlparser::ast::AccessExpr::Dot(Expr::Identifier(i)) => Some(fold(i)),
                _ => None,
            });
            field.or_else(|| column_name(root))
        }
        Expr::Function(f) => parts(&f.name).pop(),
        // A cast has its operand's name, else its type's.
        Expr::Cast { expr, data_type, .. } => column_name(expr).or_else(|| type_name(data_type)),
        Expr::TypedString(t) => type_name(&t.data_type),
        Expr::Nested(inner) | Expr::Collate { expr: inner, .. } => column_name(inner),
        Expr::Case { else_result, .. } => else_result.as_deref().and_then(named_else).or(Some("case".into())),
        Expr::Exists { .. } => Some("exists".into()),
        Expr::Array(_) => Some("array".into()),
        Expr::Subquery(query) => match &*query.body {
            SetExpr::Select(select) => match select.projection.first()? {
                SelectItem::ExprWithAlias { alias, .. } => Some(fold(alias)),
                SelectItem::UnnamedExpr(e) => column_name(e),
                _ => None,
            },
            _ => None,
        },
        Expr::Extract { .. } => Some("extract".into()),
        Expr::Substring { .. } => Some("substring".into()),
        Expr::Position { .. } => Some("position".into()),
        Expr::Trim { .. } => Some("btrim".into()),
        Expr::Value(v) => match v.value {
            sqlparser::ast::Value::Boolean(_) => Some("bool".into()),
            _ => None,
        },
        _ => None,
    }
}

/// CASE has the name of its ELSE where that is a column or a call.
fn named_else(expr: &Expr) -> Option<String> {
    matches!(expr, Expr::Identifier(_) | Expr::CompoundIdentifier(_) | Expr::Function(_))
        .then(|| column_name(expr))
        .flatten()
}

fn type_name(data_type: &DataType) -> Option<String> {
    match data_type {
        DataType::Custom(name, _) => parts(name).pop(),
        DataType::Array(_) => None,
        other => crate::pg_catalog::types::parse(&other.to_string()).map(|(t, _)| t.name.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pg_catalog::rewrite::parse_expr;

    #[test]
    fn columns_are_named_as_in_postgres() {
        for (sql, name) in [
            ("count(*)", Some("count")),
            ("pg_catalog.version()", Some("version")),
            ("c.oid::regclass", Some("oid")),
            ("'x'::regclass", Some("regclass")),
            ("1 + 1", None),
            ("CASE WHEN true THEN 1 END", Some("case")),
            ("CASE WHEN true THEN 1 ELSE c.x END", Some("x")),
            ("(SELECT max(x) FROM t)", Some("max")),
            ("a.b[1]", Some("b")),
            ("current_user", Some("current_user")),
        ] {
            assert_eq!(column_name(&parse_expr(sql).expect(sql)).as_deref(), name, "{sql}");
        }
    }
}
