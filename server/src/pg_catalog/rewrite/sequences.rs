//! Sequences in FROM: `SELECT last_value, is_called FROM s`, as pg_dump asks, reads a row of pg_sequences.

use millrace_engine::Result;
use millrace_engine::catalog::RelationKind;
use sqlparser::ast::{Ident, ObjectName, TableAlias, TableFactor};

use super::{parse_query, parts};
use crate::pg_catalog::CatalogView;
use crate::pg_catalog::names::Names;

/// Schema and name of the sequence that a name in FROM means; `None` for what else it may be.
pub fn named(name: &ObjectName, view: &CatalogView) -> Option<(String, String)> {
    let mut parts = parts(name);
    if parts.len() == 3 && parts[0] == view.database {
        parts.remove(0);
    }
    let (schemas, name): (Vec<&str>, &str) = match &parts[..] {
        [name] => (view.search_schemas().collect(), name),
        [schema, name] => (vec![schema], name),
        _ => return None,
    };
    for schema in schemas {
        match view.catalog.find(schema, name) {
            Some(relation) if relation.kind != RelationKind::Sequence => return None,
            _ if view.catalog.sequence_named(schema, name).is_some() => {
                return Some((schema.to_string(), name.to_string()));
            }
            _ => {}
        }
    }
    None
}

/// The row that a sequence is, in the place of its name.
pub fn rewrite(factor: &mut TableFactor, view: &CatalogView) -> Result<()> {
    let TableFactor::Table { name, alias, args: None, .. } = factor else { return Ok(()) };
    let Some((schema, name)) = named(name, view) else { return Ok(()) };
    let quoted = |text: &str| text.replace('\'', "''");
    let subquery = parse_query(&format!(
        "SELECT coalesce(last_value, start_value) AS last_value, CAST(0 AS bigint) AS log_cnt, \
         last_value IS NOT NULL AS is_called FROM pg_catalog.pg_sequences \
         WHERE schemaname = '{}' AND sequencename = '{}'",
        quoted(&schema),
        quoted(&name)
    ))?;
    let own = || TableAlias { explicit: true, name: Ident::with_quote('"', name), columns: Vec::new(), at: None };
    let alias = Some(alias.take().unwrap_or_else(own));
    *factor = TableFactor::Derived { lateral: false, subquery: Box::new(subquery), alias, sample: None };
    Ok(())
}
