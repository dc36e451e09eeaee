//! `SELECT … INTO t FROM …`, which is CREATE TABLE t AS SELECT … FROM ….

use sqlparser::ast::{Query, SelectInto, SetExpr};

use super::cursor::{fold, name_of_parts};
use crate::error::Result;
use crate::sql::statement::{CreateTableAs, StatementKind};

/// A query of a statement of its own, or the table that it makes. In the SELECT of a set operation that comes first INTO
/// stands for the whole; elsewhere it is refused when the query is bound.
pub fn apart(mut query: Box<Query>) -> Result<StatementKind> {
    let Some(into) = into_of(&mut query.body) else { return Ok(StatementKind::Query(query)) };
    let parts = into.name.0.iter().filter_map(|part| part.as_ident().map(fold)).collect();
    Ok(StatementKind::CreateTableAs(CreateTableAs {
        name: name_of_parts(parts)?,
        if_not_exists: false,
        columns: Vec::new(),
        query,
        temporary: into.temporary,
        no_data: false,
    }))
}

fn into_of(body: &mut SetExpr) -> Option<SelectInto> {
    match body {
        SetExpr::Select(select) => select.into.take(),
        SetExpr::SetOperation { left, .. } => into_of(left),
        _ => None,
    }
}
