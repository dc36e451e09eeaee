//! CHECK conditions as they are kept, as SQL: which columns they speak of, and the same with a column of another name.

use std::ops::ControlFlow;

use sqlparser::ast;

use crate::catalog::Relation;
use crate::error::Result;
use crate::sql::parse::{fold, parse_expression};
use crate::sql::visit;

/// The names of columns in a condition, each once, in order.
fn names(condition: &str) -> Vec<String> {
    let Ok(parsed) = parse_expression(condition) else { return Vec::new() };
    let mut names: Vec<String> = Vec::new();
    let _ = visit::visit_expressions(&parsed, |e| {
        let name = match e {
            ast::Expr::Identifier(name) => Some(fold(name)),
            ast::Expr::CompoundIdentifier(parts) => parts.last().map(fold),
            _ => None,
        };
        names.extend(name.filter(|name| !names.contains(name)));
        ControlFlow::<()>::Continue(())
    });
    names
}

/// The columns of its relation that a condition speaks of.
pub fn columns_named(relation: &Relation, condition: &str) -> Vec<usize> {
    let names = names(condition);
    names.iter().filter_map(|name| relation.columns.iter().position(|column| column.name == *name)).collect()
}

/// Whether a condition speaks of a column.
pub fn names_column(condition: &str, column: &str) -> bool {
    names(condition).iter().any(|name| name == column)
}

/// A condition in which a column has another name.
pub fn renamed(condition: &str, old: &str, new: &str) -> Result<String> {
    let mut parsed = parse_expression(condition)?;
    let _ = visit::visit_expressions_mut(&mut parsed, |e| {
        let name = match e {
            ast::Expr::Identifier(name) => Some(name),
            ast::Expr::CompoundIdentifier(parts) => parts.last_mut(),
            _ => None,
        };
        if let Some(name) = name.filter(|name| fold(name) == old) {
            *name = ast::Ident::with_quote('"', new);
        }
        ControlFlow::<()>::Continue(())
    });
    Ok(parsed.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_found_and_renamed() {
        assert_eq!(names("a > 0 AND (t.b IS NULL OR lower(\"C\") = A)"), ["a", "b", "C"]);
        assert_eq!(renamed("a > 0 AND t.A < b", "a", "new").unwrap(), "\"new\" > 0 AND t.\"new\" < b");
    }
}
