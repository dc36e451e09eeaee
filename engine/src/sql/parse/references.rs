//! FOREIGN KEY: `REFERENCES t (a, b) [ON DELETE …] [ON UPDATE …] [DEFERRABLE] [INITIALLY DEFERRED]`.

use super::cursor::Cursor;
use crate::catalog::{OnReferenced, ReferenceTiming};
use crate::error::{Error, Result};
use crate::sql::statement::{ConstraintKind, ForeignKeyDefinition};

impl Cursor<'_> {
    /// What comes from REFERENCES on; `columns` are those that refer.
    pub fn references(&mut self, columns: Vec<String>) -> Result<ConstraintKind> {
        self.expect("references")?;
        let table = self.name()?;
        let referenced =
            if *self.token() == sqlparser::tokenizer::Token::LParen { self.identifiers()? } else { vec![] };
        let mut key = ForeignKeyDefinition {
            columns,
            table,
            referenced,
            on_delete: OnReferenced::NoAction,
            on_update: OnReferenced::NoAction,
            timing: ReferenceTiming::Immediate,
        };
        loop {
            if self.accept("on delete") {
                key.on_delete = self.on_referenced()?;
            } else if self.accept("on update") {
                key.on_update = self.on_referenced()?;
            } else if self.sees("match full") || self.sees("match partial") {
                return Err(self.error_here(Error::unsupported("MATCH FULL and MATCH PARTIAL")));
            } else if !self.accept("match simple") {
                break;
            }
        }
        loop {
            if self.accept("not deferrable") {
                key.timing = ReferenceTiming::Immediate;
            } else if self.accept("initially deferred") {
                key.timing = ReferenceTiming::Deferred;
            } else if self.accept("deferrable") {
                key.timing = key.timing.max(ReferenceTiming::Deferrable);
            } else if !self.accept("initially immediate") && !self.accept("not valid") {
                return Ok(ConstraintKind::ForeignKey(key));
            }
        }
    }

    fn on_referenced(&mut self) -> Result<OnReferenced> {
        let choices = ["no action", "restrict", "cascade", "set null", "set default"];
        Ok(match self.accept_one(&choices) {
            Some("no action") => OnReferenced::NoAction,
            Some("restrict") => OnReferenced::Restrict,
            Some("cascade") => OnReferenced::Cascade,
            Some("set null") => OnReferenced::SetNull,
            Some(_) => OnReferenced::SetDefault,
            None => return self.unexpected(),
        })
    }
}
