//! Which columns of an INSERT's rows are literals in quotes, which have no type of their own: they are read as what the
//! column is, where a text would have to be cast.

use sqlparser::ast::{Expr, Query, SelectItem, SetExpr, Value};

/// Whether an expression has a type of its own.
pub fn is_typed(expr: &Expr) -> bool {
    match expr {
        Expr::Nested(inner) => is_typed(inner),
        Expr::Value(value) => !matches!(
            value.value,
            Value::SingleQuotedString(_)
                | Value::EscapedStringLiteral(_)
                | Value::UnicodeStringLiteral(_)
                | Value::DollarQuotedString(_)
                | Value::Null
                | Value::Placeholder(_)
        ),
        Expr::Identifier(name) => name.quote_style.is_some() || !name.value.eq_ignore_ascii_case("default"),
        _ => true,
    }
}

/// For each column of a query whether its values have a type of their own; nothing where that cannot be told from its text.
pub fn typed_columns(query: &Query) -> Vec<bool> {
    of_body(&query.body)
}

fn of_body(body: &SetExpr) -> Vec<bool> {
    match body {
        SetExpr::Query(query) => typed_columns(query),
        SetExpr::Values(values) => {
            let width = values.rows.first().map_or(0, |row| row.len());
            (0..width).map(|i| values.rows.iter().filter_map(|row| row.get(i)).any(is_typed)).collect()
        }
        SetExpr::Select(select) => {
            let typed = select.projection.iter().map(|item| match item {
                SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } => Some(is_typed(expr)),
                _ => None,
            });
            typed.collect::<Option<_>>().unwrap_or_default()
        }
        _ => Vec::new(),
    }
}
