//! SELECT … FOR { UPDATE | SHARE } [OF t] [NOWAIT]: the clauses apart from the query.

use sqlparser::ast;

use super::cursor::fold;
use crate::error::{Error, Result};
use crate::sql::statement::StatementKind;

/// Only of a statement of its own: in subqueries, views and cursors the clause is refused when they are bound.
pub fn apart(kind: StatementKind) -> Result<StatementKind> {
    let StatementKind::Query(mut query) = kind else { return Ok(kind) };
    if query.locks.is_empty() {
        return Ok(StatementKind::Query(query));
    }
    let mut of = Vec::new();
    for lock in std::mem::take(&mut query.locks) {
        if matches!(lock.nonblock, Some(ast::NonBlock::SkipLocked)) {
            return Err(Error::unsupported("SKIP LOCKED")
                .hint("Nobody waits for rows that are locked: who commits second gets 40001, and tries again."));
        }
        if let Some(name) = lock.of.as_ref().and_then(|name| name.0.last()?.as_ident().map(fold)) {
            of.push(name);
        }
    }
    Ok(StatementKind::QueryLocking { query, of })
}
