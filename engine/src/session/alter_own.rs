//! ALTER TABLE of a table that the same transaction has changed: what it has changed so far are changes of the table as it is
//! then.
//!
//! ```text
//!   BEGIN;  INSERT INTO t VALUES (1)          +1 | 1           of t (id), to be committed
//!           ALTER TABLE t ADD COLUMN n int    +1 | 1 | NULL    of t (id, n), to be committed
//!   ROLLBACK                                  t has its column, and not the row: definitions take effect at once
//! ```
//!
//! Rows that there are must fulfil what is new as they were last committed, and the transaction's own as they are now. A
//! constraint that rows fulfil with what the transaction has changed, and not without, waits for COMMIT (`late.rs`).

mod late;

pub(super) use late::Late;

use super::Session;
use super::alter::{Draft, Origin};
use crate::catalog::Relation;
use crate::delta::Delta;
use crate::delta::consolidate::consolidate;
use crate::error::{Error, Result};
use crate::state::arrangement::take;

impl Session {
    /// What the transaction has changed in a table, in the sum.
    fn own_net(&self, table: &Relation) -> Option<Vec<Delta>> {
        let changes = self.transaction.as_ref()?.writes.changes.get(&table.id)?;
        Some(consolidate(changes))
    }

    /// Its own rows must fulfil what is new too.
    pub(super) fn check_own(&self, table: &Relation, draft: &Draft) -> Result<()> {
        for delta in self.own_net(table).into_iter().flatten() {
            let (added, _) = parted(&delta);
            self.check_conditions(&draft.relation, &draft.new_checks, &added.rows, false)?;
        }
        Ok(())
    }

    /// What it has changed, as changes of the table that is written anew. Errors: as for rows that there are; 55006 where it
    /// cannot be told what they become.
    pub(super) async fn own_written_anew(
        &mut self,
        table: &Relation,
        draft: &mut Draft,
    ) -> Result<Option<Vec<Vec<Delta>>>> {
        let parts = self.transaction.as_ref().and_then(|t| t.own_parts(table.id));
        let Some(parts) = parts else { return Ok(None) };
        let parts: Vec<Vec<Delta>> = parts.into_iter().map(consolidate).collect();
        let refused = |why: &str| {
            let message =
                format!("cannot ALTER TABLE \"{}\" because this transaction has changed its rows", table.name);
            Err(Error::new("55006", message).detail(why).hint("Definitions take effect at once: commit first."))
        };
        let transaction = self.transaction.as_ref().expect("it has changed something");
        if transaction.writes.expected.contains_key(&table.id) {
            return refused("It has locked rows of it.");
        }
        let takes = parts.iter().flatten().any(|delta| (0..delta.len()).any(|row| delta.weight(row) < 0));
        if takes && self.differs_by_row(draft).await? {
            return refused("What a row has in the new column differs from row to row.");
        }
        let mut own = Vec::new();
        for net in &parts {
            let mut anew = Vec::new();
            for delta in net {
                let (added, taken) = parted(delta);
                for part in [taken, added].into_iter().filter(|part| !part.is_empty()) {
                    let rows = self.written_anew(table, draft, &part.rows).await?;
                    anew.push(Delta::new(rows, part.weights));
                }
            }
            own.push(anew);
        }
        Ok(Some(own))
    }

    /// Whether a new column has another value in each row.
    async fn differs_by_row(&mut self, draft: &Draft) -> Result<bool> {
        for (at, _) in draft.origins.iter().enumerate().filter(|(_, origin)| matches!(origin, Origin::New)) {
            if draft.relation.columns[at].identity.is_some() {
                return Ok(true);
            }
            let values = self.default_value(&draft.relation, at, 2).await?;
            if values.slice(0, 1).to_data() != values.slice(1, 1).to_data() {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// The rows that a change adds, and those that it takes away.
fn parted(delta: &Delta) -> (Delta, Delta) {
    let of = |is: fn(i64) -> bool| {
        let rows: Vec<u32> = (0..delta.len()).filter(|&row| is(delta.weight(row))).map(|row| row as u32).collect();
        let weights = rows.iter().map(|&row| delta.weight(row as usize)).collect::<Vec<_>>();
        Delta::new(take(&delta.rows, &rows), Some(weights.into()))
    };
    (of(|weight| weight > 0), of(|weight| weight < 0))
}
