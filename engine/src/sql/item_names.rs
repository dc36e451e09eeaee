//! The names of a SELECT's columns. DataFusion wants different names in one SELECT, Postgres does not: what repeats a name
//! gets a mark and a number at its end, which [`plain_name`] takes off again.
//!
//! ```text
//!   SELECT count(*), 1, 1        SELECT count(*) AS count, 1 AS "?column?", 1 AS "?column?␁2"
//! ```

use std::collections::HashSet;

use sqlparser::ast::{self, Expr, Ident, Select, SelectItem, SelectItemQualifiedWildcardKind, SetExpr, Value};

use crate::sql::parse::fold;
use crate::sql::types;

/// Stands between a name and the number that makes it differ.
pub const MARK: char = '\u{1}';

/// A column's name as the user knows it.
pub fn plain_name(name: &str) -> &str {
    name.split(MARK).next().unwrap_or(name)
}

/// Gives each item of a SELECT the name that Postgres gives it, and a mark to one that repeats a name.
pub fn name_items(select: &mut Select) {
    let star = select.projection.iter().any(|item| matches!(item, SelectItem::Wildcard(_)));
    let starred: Vec<String> = select
        .projection
        .iter()
        .filter_map(|item| match item {
            SelectItem::QualifiedWildcard(SelectItemQualifiedWildcardKind::ObjectName(name), _) => {
                name.0.last().and_then(|part| part.as_ident()).map(fold)
            }
            _ => None,
        })
        .collect();
    let mut used = HashSet::new();
    for (i, item) in select.projection.iter_mut().enumerate() {
        let (name, in_star) = match item {
            SelectItem::UnnamedExpr(Expr::Identifier(ident)) => (fold(ident), star),
            SelectItem::UnnamedExpr(Expr::CompoundIdentifier(parts)) => {
                let qualifier = parts.iter().rev().nth(1).map(fold);
                let name = parts.last().map(fold).unwrap_or_default();
                (name, star || qualifier.is_some_and(|q| starred.contains(&q)))
            }
            SelectItem::UnnamedExpr(expr) => {
                let name = name_of_expr(expr).unwrap_or_else(|| "?column?".into());
                let given = if used.contains(&name) { marked(&name, i) } else { name.clone() };
                let expr = std::mem::replace(expr, Expr::Value(Value::Null.into()));
                *item = SelectItem::ExprWithAlias { expr, alias: Ident::with_quote('"', given) };
                used.insert(name);
                continue;
            }
            SelectItem::ExprWithAlias { alias, .. } => {
                let name = fold(alias);
                if !used.insert(name.clone()) && !name.contains(MARK) {
                    *alias = Ident::with_quote('"', marked(&name, i));
                }
                continue;
            }
            _ => continue,
        };
        if !used.insert(name.clone()) || in_star {
            mark(item, &name, i);
        }
    }
}

/// A name that differs from others by the number.
pub fn marked(name: &str, i: usize) -> String {
    format!("{name}{MARK}{i}")
}

fn mark(item: &mut SelectItem, name: &str, i: usize) {
    if let SelectItem::UnnamedExpr(expr) = item {
        let expr = std::mem::replace(expr, Expr::Value(Value::Null.into()));
        *item = SelectItem::ExprWithAlias { expr, alias: Ident::with_quote('"', marked(name, i)) };
    }
}

/// Says what the columns of a lateral subquery are called that are named only: DataFusion would call one of a query around it
/// otherwise.
pub fn name_columns(body: &mut SetExpr) {
    match body {
        SetExpr::Select(select) => {
            for item in &mut select.projection {
                let SelectItem::UnnamedExpr(expr) = item else { continue };
                let name = match &*expr {
                    Expr::Identifier(name) => name.clone(),
                    Expr::CompoundIdentifier(parts) => match parts.last() {
                        Some(name) => name.clone(),
                        None => continue,
                    },
                    _ => continue,
                };
                let expr = std::mem::replace(expr, Expr::Value(Value::Null.into()));
                *item = SelectItem::ExprWithAlias { expr, alias: name };
            }
        }
        SetExpr::SetOperation { left, .. } => name_columns(left),
        SetExpr::Query(query) => name_columns(&mut query.body),
        _ => {}
    }
}

/// Gives every item beside a wildcard in the outermost SELECT a name of its own.
pub fn mark_outermost(body: &mut SetExpr) {
    match body {
        SetExpr::Select(select) => {
            for (i, item) in select.projection.iter_mut().enumerate() {
                match item {
                    SelectItem::UnnamedExpr(expr) => {
                        let name = name_of_expr(expr).unwrap_or_else(|| "?column?".into());
                        mark(item, &name, i);
                    }
                    SelectItem::ExprWithAlias { alias, .. } => *alias = Ident::with_quote('"', marked(&fold(alias), i)),
                    _ => {}
                }
            }
        }
        SetExpr::Query(query) => mark_outermost(&mut query.body),
        SetExpr::SetOperation { left, .. } => mark_outermost(left),
        _ => {}
    }
}

/// The name of a column or function within, which a type's name or `case` gives way to.
fn own_name(expr: &Expr) -> Option<String> {
    match expr {
        Expr::Nested(inner) | Expr::Collate { expr: inner, .. } | Expr::Cast { expr: inner, .. } => own_name(inner),
        Expr::Case { else_result, .. } => else_result.as_deref().and_then(own_name),
        Expr::TypedString(_) | Expr::Interval(_) | Expr::Value(_) => None,
        other => name_of_expr(other),
    }
}

/// The name that Postgres gives a column (`FigureColname`); `None` is `?column?`.
pub fn name_of_expr(expr: &Expr) -> Option<String> {
    let name = match expr {
        Expr::Identifier(ident) => return Some(fold(ident)),
        Expr::CompoundIdentifier(parts) => return parts.last().map(fold),
        Expr::CompoundFieldAccess { root, access_chain } => {
            let field = access_chain.iter().rev().find_map(|access| match access {
                ast::AccessExpr::Dot(Expr::Identifier(ident)) => Some(fold(ident)),
                _ => None,
            });
            return field.or_else(|| name_of_expr(root));
        }
        Expr::Nested(inner) | Expr::Collate { expr: inner, .. } => return name_of_expr(inner),
        // VALUES in parentheses are read as a call.
        Expr::Function(function) if function.name.to_string().eq_ignore_ascii_case("values") => "column1",
        Expr::Function(function) => return function.name.0.last().and_then(|part| part.as_ident()).map(fold),
        Expr::Cast { expr, data_type, .. } => {
            return own_name(expr).or_else(|| type_name(data_type));
        }
        Expr::TypedString(typed) => return type_name(&typed.data_type),
        Expr::Case { else_result, .. } => {
            return else_result.as_deref().and_then(own_name).or(Some("case".into()));
        }
        Expr::Subquery(query) => return name_of_subquery(&query.body),
        Expr::Exists { negated: false, .. } => "exists",
        Expr::Array(_) => "array",
        Expr::Interval(_) => "interval",
        Expr::Extract { .. } => "extract",
        Expr::Substring { shorthand: true, .. } => "substr",
        Expr::Substring { .. } => "substring",
        Expr::Position { .. } => "position",
        Expr::Overlay { .. } => "overlay",
        Expr::Ceil { .. } => "ceil",
        Expr::Floor { .. } => "floor",
        Expr::Trim { trim_where: Some(ast::TrimWhereField::Leading), .. } => "ltrim",
        Expr::Trim { trim_where: Some(ast::TrimWhereField::Trailing), .. } => "rtrim",
        Expr::Trim { .. } => "btrim",
        Expr::AtTimeZone { .. } => "timezone",
        Expr::Tuple(_) => "row",
        Expr::BinaryOp { op: ast::BinaryOperator::Overlaps, .. } => "overlaps",
        _ => return None,
    };
    Some(name.to_string())
}

fn name_of_subquery(body: &SetExpr) -> Option<String> {
    match body {
        SetExpr::Select(select) => match select.projection.as_slice() {
            [SelectItem::UnnamedExpr(expr)] => name_of_expr(expr),
            [SelectItem::ExprWithAlias { alias, .. }] => Some(fold(alias)),
            _ => None,
        },
        SetExpr::Query(query) => name_of_subquery(&query.body),
        SetExpr::SetOperation { left, .. } => name_of_subquery(left),
        SetExpr::Values(_) => Some("column1".into()),
        _ => None,
    }
}

/// Types as pg_type names them.
fn type_name(data_type: &ast::DataType) -> Option<String> {
    let canonical = types::sql_type_from_ast(data_type).ok()?;
    let plain = types::plain_type(&canonical);
    let name = match plain.trim_end_matches("[]") {
        "integer" => "int4",
        "bigint" => "int8",
        "smallint" => "int2",
        "real" => "float4",
        "double precision" => "float8",
        "boolean" => "bool",
        "timestamp with time zone" => "timestamptz",
        "timestamp without time zone" => "timestamp",
        "time without time zone" => "time",
        "character varying" => "varchar",
        "character" => "bpchar",
        other => other.trim_matches('"'),
    };
    Some(name.to_string())
}
