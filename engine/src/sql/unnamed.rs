//! Subqueries in FROM that have no name, as PostgreSQL has them since 16: they get one, or their columns would be the same
//! to DataFusion as those of a table beside them.
//!
//! ```text
//!   SELECT * FROM t, (SELECT * FROM t)      SELECT * FROM t, (SELECT * FROM t) AS "unnamed_subquery␁1"
//! ```

use std::ops::ControlFlow;

use sqlparser::ast::{Ident, Query, TableAlias, TableFactor, VisitorMut};

use crate::sql::item_names::MARK;
use crate::sql::visit::WalkMut;

pub fn name_subqueries(query: &mut Query) {
    let _ = query.walk_mut(&mut Naming { named: 0 });
}

struct Naming {
    named: usize,
}

impl VisitorMut for Naming {
    type Break = ();
    fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<()> {
        if let TableFactor::Derived { alias: alias @ None, .. } = factor {
            self.named += 1;
            let name = Ident::with_quote('"', format!("unnamed_subquery{MARK}{}", self.named));
            *alias = Some(TableAlias { explicit: true, name, columns: Vec::new(), at: None });
        }
        ControlFlow::Continue(())
    }
}
