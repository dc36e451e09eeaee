//! How large a query is once its WITH queries stand where they are named: each name is a copy of its query, so that a
//! short text can mean a plan without end.
//!
//! ```text
//!   WITH a AS (…), b AS (SELECT … FROM a, a), c AS (SELECT … FROM b, b), …     2, 4, 8, …
//! ```

use std::ops::ControlFlow;

use sqlparser::ast::{Query, Select, TableFactor, Visit, Visitor};

use crate::error::{Error, Result};
use crate::sql::parse::fold;

/// SELECTs in one query, those of WITH queries as often as they are named.
const SELECTS_MAX: usize = 2_000;

/// Errors: 54001 for a query that is too large.
pub fn check(query: &Query) -> Result<()> {
    let mut expansion = Expansion { known: Vec::new(), around: Vec::new() };
    match query.visit(&mut expansion) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(()) => Err(Error::new("54001", "stack depth limit exceeded")
            .hint("The WITH queries name one another so often that the whole is too large.")),
    }
}

struct Expansion {
    /// The WITH queries in scope, and how many SELECTs each is.
    known: Vec<(String, usize)>,
    /// The queries around what is visited, the innermost last.
    around: Vec<Around>,
}

struct Around {
    /// Names of its WITH queries that are still to be visited, the first one last: they come before all else in it.
    with: Vec<String>,
    selects: usize,
    /// How many were known before it.
    known: usize,
}

impl Expansion {
    fn add(&mut self, selects: usize) -> ControlFlow<()> {
        let Some(query) = self.around.last_mut() else { return ControlFlow::Continue(()) };
        query.selects = query.selects.saturating_add(selects);
        if query.selects > SELECTS_MAX { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}

impl Visitor for Expansion {
    type Break = ();

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
        let names = query.with.iter().flat_map(|with| &with.cte_tables).map(|cte| fold(&cte.alias.name));
        let mut with: Vec<String> = names.collect();
        with.reverse();
        self.around.push(Around { with, selects: 0, known: self.known.len() });
        ControlFlow::Continue(())
    }
    fn post_visit_query(&mut self, _: &Query) -> ControlFlow<()> {
        let Some(Around { selects, known, .. }) = self.around.pop() else { return ControlFlow::Continue(()) };
        self.known.truncate(known);
        match self.around.last_mut().and_then(|query| query.with.pop()) {
            Some(name) => {
                self.known.push((name, selects));
                ControlFlow::Continue(())
            }
            None => self.add(selects),
        }
    }
    fn pre_visit_select(&mut self, _: &Select) -> ControlFlow<()> {
        self.add(1)
    }
    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<()> {
        let TableFactor::Table { name, args: None, .. } = factor else { return ControlFlow::Continue(()) };
        let [part] = name.0.as_slice() else { return ControlFlow::Continue(()) };
        let name = part.as_ident().map(fold).unwrap_or_default();
        let selects = self.known.iter().rev().find(|(known, _)| *known == name).map_or(0, |(_, selects)| *selects);
        self.add(selects)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubling_ends() {
        let doubled = |depth: usize| {
            let steps: String =
                (1..depth).map(|i| format!(", c{i} AS (SELECT 1 FROM c{} a, c{} b)", i - 1, i - 1)).collect();
            format!("WITH c0 AS (SELECT 1){steps} SELECT * FROM c{}", depth - 1)
        };
        let check = |text: &str| check(&crate::sql::parse::query(text).unwrap()).map_err(|error| error.code);
        assert_eq!(check(&doubled(5)), Ok(()));
        let chain: String = (1..400).map(|i| format!(", c{i} AS (SELECT 1 FROM c{})", i - 1)).collect();
        assert_eq!(check(&format!("WITH c0 AS (SELECT 1){chain} SELECT * FROM c399")), Ok(()));
        assert_eq!(check(&doubled(40)), Err("54001"));
    }
}
