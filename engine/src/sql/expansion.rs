//! How large a query is once its WITH queries stand where they are named: each name is a copy of its query, so that a
//! short text can mean a plan without end.
//!
//! ```text
//!   WITH a AS (…), b AS (SELECT … FROM a, a), c AS (SELECT … FROM b, b), …     2, 4, 8, …
//! ```

use std::ops::ControlFlow;

use sqlparser::ast::{GroupByExpr, OrderBy, OrderByKind, Query, Select, TableFactor, Visitor};

use crate::error::{Error, Result};
use crate::sql::parse::fold;
use crate::sql::visit::Walk;

/// SELECTs in one query, those of WITH queries as often as they are named.
const SELECTS_MAX: usize = 2_000;

/// Errors: 54001 for a query that is too large.
pub fn check(query: &Query) -> Result<()> {
    let mut expansion = Expansion { known: Vec::new(), around: Vec::new() };
    match query.walk(&mut expansion) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(Refusal::Large) => Err(Error::new("54001", "stack depth limit exceeded")
            .hint("The WITH queries name one another so often that the whole is too large.")),
        ControlFlow::Break(Refusal::Wide) => Err(too_wide()),
    }
}

/// Columns of one SELECT, terms that it groups by, or is ordered by: as in Postgres.
pub const COLUMNS_MAX: usize = 1_664;

pub fn too_wide() -> Error {
    Error::new("54011", format!("target lists can have at most {COLUMNS_MAX} entries"))
}

enum Refusal {
    Large,
    Wide,
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
    fn add(&mut self, selects: usize) -> ControlFlow<Refusal> {
        let Some(query) = self.around.last_mut() else { return ControlFlow::Continue(()) };
        query.selects = query.selects.saturating_add(selects);
        if query.selects > SELECTS_MAX { ControlFlow::Break(Refusal::Large) } else { ControlFlow::Continue(()) }
    }
}

impl Visitor for Expansion {
    type Break = Refusal;

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<Refusal> {
        if let Some(OrderBy { kind: OrderByKind::Expressions(terms), .. }) = &query.order_by
            && terms.len() > COLUMNS_MAX
        {
            return ControlFlow::Break(Refusal::Wide);
        }
        let names = query.with.iter().flat_map(|with| &with.cte_tables).map(|cte| fold(&cte.alias.name));
        let mut with: Vec<String> = names.collect();
        with.reverse();
        self.around.push(Around { with, selects: 0, known: self.known.len() });
        ControlFlow::Continue(())
    }
    fn post_visit_query(&mut self, _: &Query) -> ControlFlow<Refusal> {
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
    fn pre_visit_select(&mut self, select: &Select) -> ControlFlow<Refusal> {
        let groups = match &select.group_by {
            GroupByExpr::Expressions(exprs, _) => exprs.len(),
            GroupByExpr::All(_) => 0,
        };
        if select.projection.len().max(groups) > COLUMNS_MAX {
            return ControlFlow::Break(Refusal::Wide);
        }
        self.add(1)
    }
    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<Refusal> {
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
