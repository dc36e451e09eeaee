//! What SELECT … FOR UPDATE asks for.

use sqlparser::ast;

/// A query within a statement, without its own FOR UPDATE.
#[derive(Debug, Clone)]
pub struct LockingSubquery {
    pub query: ast::Query,
    pub locking: Locking,
}

/// FOR UPDATE or one of its kin.
#[derive(Debug, Clone)]
pub struct Locking {
    /// The names after OF; empty means all tables in FROM.
    pub of: Vec<String>,
    pub shared: bool,
    pub when_locked: WhenLocked,
}

/// What becomes of a row that another transaction has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhenLocked {
    Wait,
    /// NOWAIT
    Fail,
    /// SKIP LOCKED
    Skip,
}
