//! SELECT … FOR { UPDATE | NO KEY UPDATE | SHARE | KEY SHARE } [OF t] [NOWAIT | SKIP LOCKED]: the clauses apart from the query.

use std::ops::ControlFlow;

use sqlparser::ast::{self, VisitorMut};

use super::cursor::fold;
use crate::error::{Error, Result};
use crate::sql::locking::{Locking, LockingSubquery, WhenLocked};
use crate::sql::statement::StatementKind;
use crate::sql::visit::WalkMut;

/// Of the statement's own query. In views and cursors the clause is refused when they are bound.
pub fn apart(kind: StatementKind) -> Result<StatementKind> {
    let StatementKind::Query(mut query) = kind else { return Ok(kind) };
    if query.locks.is_empty() {
        return Ok(StatementKind::Query(query));
    }
    let locking = locking_of(std::mem::take(&mut query.locks))?;
    Ok(StatementKind::QueryLocking { query, locking })
}

/// What several clauses say together: the strictest lock, on all tables that any of them names.
fn locking_of(clauses: Vec<ast::LockClause>) -> Result<Locking> {
    let mut locking = Locking { of: Vec::new(), shared: true, when_locked: WhenLocked::Wait };
    let mut all = false;
    for (i, lock) in clauses.into_iter().enumerate() {
        locking.shared &= lock.lock_type == ast::LockType::Share;
        let when_locked = match lock.nonblock {
            None => WhenLocked::Wait,
            Some(ast::NonBlock::Nowait) => WhenLocked::Fail,
            Some(ast::NonBlock::SkipLocked) => WhenLocked::Skip,
        };
        if i > 0 && when_locked != locking.when_locked {
            return Err(Error::unsupported("FOR UPDATE clauses that differ in NOWAIT or SKIP LOCKED"));
        }
        locking.when_locked = when_locked;
        match lock.of.as_ref().and_then(|name| name.0.last()?.as_ident().map(fold)) {
            Some(name) => locking.of.push(name),
            None => all = true,
        }
    }
    if all {
        locking.of.clear();
    }
    Ok(locking)
}

/// Takes the clauses out of the subqueries of what reads or changes rows, innermost first. `text`: the statement's.
pub fn of_subqueries(kind: &mut StatementKind, text: &str) -> Result<Vec<LockingSubquery>> {
    // Most statements are seen to have none without a walk through all that they say.
    let says_for = |at: usize| text.as_bytes()[at..].get(..3).is_some_and(|word| word.eq_ignore_ascii_case(b"for"));
    if !memchr::memchr2_iter(b'f', b'F', text.as_bytes()).any(says_for) {
        return Ok(Vec::new());
    }
    let mut visitor = Subqueries { depth: 0, found: Vec::new() };
    match visit(kind, &mut visitor) {
        ControlFlow::Continue(()) => Ok(visitor.found),
        ControlFlow::Break(error) => Err(*error),
    }
}

type Visit = ControlFlow<Box<Error>>;

fn visit(kind: &mut StatementKind, visitor: &mut Subqueries) -> Visit {
    match kind {
        StatementKind::Query(query) => {
            // Its own clauses are the statement's.
            visitor.depth = -1;
            query.walk_mut(visitor)
        }
        StatementKind::Insert(insert) => {
            insert.source.walk_mut(visitor)?;
            insert.returning.walk_mut(visitor)
        }
        StatementKind::Update(update) => {
            update.with.walk_mut(visitor)?;
            update.assignments.iter_mut().try_for_each(|(_, value)| value.walk_mut(visitor))?;
            update.from.walk_mut(visitor)?;
            update.filter.walk_mut(visitor)
        }
        StatementKind::Delete(delete) => {
            delete.with.walk_mut(visitor)?;
            delete.using.walk_mut(visitor)?;
            delete.filter.walk_mut(visitor)
        }
        StatementKind::Merge(merge) => {
            merge.with.walk_mut(visitor)?;
            merge.source.walk_mut(visitor)
        }
        StatementKind::ChangeWith(change) => {
            let parts = change.parts.iter_mut().map(|part| &mut part.kind).chain([change.main.as_mut()]);
            for kind in parts {
                match kind {
                    StatementKind::Query(query) => query.walk_mut(visitor)?,
                    kind => visit(kind, visitor)?,
                }
            }
            ControlFlow::Continue(())
        }
        _ => ControlFlow::Continue(()),
    }
}

struct Subqueries {
    /// How many queries the visitor is in; of the statement's own there is none.
    depth: isize,
    found: Vec<LockingSubquery>,
}

impl VisitorMut for Subqueries {
    type Break = Box<Error>;

    fn pre_visit_query(&mut self, _: &mut ast::Query) -> Visit {
        self.depth += 1;
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, query: &mut ast::Query) -> Visit {
        self.depth -= 1;
        if query.locks.is_empty() || self.depth < 0 {
            return ControlFlow::Continue(());
        }
        match locking_of(std::mem::take(&mut query.locks)) {
            Ok(locking) => self.found.push(LockingSubquery { query: query.clone(), locking }),
            Err(error) => return ControlFlow::Break(Box::new(error)),
        }
        ControlFlow::Continue(())
    }
}
