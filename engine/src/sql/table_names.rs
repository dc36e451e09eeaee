//! The names that tables in FROM are known by.

use sqlparser::ast::{self, TableFactor};

use crate::error::{Error, Result};
use crate::sql::parse::fold;

/// Each table in FROM has a name of its own: 42712.
pub fn check_names(from: &[ast::TableWithJoins]) -> Result<()> {
    fn collect(factor: &TableFactor, names: &mut Vec<(String, Option<String>)>) {
        match factor {
            TableFactor::NestedJoin { table_with_joins, alias: None } => of_joins(table_with_joins, names),
            TableFactor::Table { alias: Some(alias), .. }
            | TableFactor::Derived { alias: Some(alias), .. }
            | TableFactor::UNNEST { alias: Some(alias), .. }
            | TableFactor::NestedJoin { alias: Some(alias), .. } => names.push((fold(&alias.name), None)),
            TableFactor::Table { name, args: None, .. } => {
                let parts: Vec<String> = name.0.iter().filter_map(|part| part.as_ident()).map(fold).collect();
                if let Some(last) = parts.last() {
                    names.push((last.clone(), Some(parts.join("."))));
                }
            }
            _ => {}
        }
    }
    fn of_joins(table: &ast::TableWithJoins, names: &mut Vec<(String, Option<String>)>) {
        collect(&table.relation, names);
        table.joins.iter().for_each(|join| collect(&join.relation, names));
    }
    let mut names = Vec::new();
    from.iter().for_each(|table| of_joins(table, &mut names));
    for (i, (name, full)) in names.iter().enumerate() {
        if let Some((_, its)) = names[..i].iter().find(|(other, _)| other == name) {
            let error = Error::new("42712", format!("table name \"{name}\" specified more than once"));
            // In Postgres they differ by their schemas; here a column would be taken for the other's.
            let differ = full.is_some() && its.is_some() && full != its;
            return Err(if differ { error.hint("Give tables of one name in several schemas aliases.") } else { error });
        }
    }
    Ok(())
}
