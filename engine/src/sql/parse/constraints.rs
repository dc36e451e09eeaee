//! PRIMARY KEY, UNIQUE, CHECK and FOREIGN KEY, of a column and of the table; what is refused by name.

use sqlparser::tokenizer::Token;

use super::cursor::Cursor;
use crate::error::{Error, Result};
use crate::sql::statement::{Constraint, ConstraintKind, CreateRelation};

impl Cursor<'_> {
    /// `[CONSTRAINT name] PRIMARY KEY (a, b) | UNIQUE (a, b) | CHECK (condition) | FOREIGN KEY (a, b) REFERENCES t`, if it comes
    /// next.
    pub fn table_constraint(&mut self) -> Result<Option<Constraint>> {
        let name = if self.accept("constraint") { Some(self.identifier()?) } else { None };
        let parenthesis = |c: &Self, n: usize| c.parser.peek_nth_token_ref(n).token == Token::LParen;
        let kind = if self.accept("primary key") {
            ConstraintKind::PrimaryKey(self.identifiers()?)
        } else if self.sees("unique") && (parenthesis(self, 1) || self.sees("unique nulls")) {
            self.expect("unique")?;
            self.nulls_distinct()?;
            ConstraintKind::Unique(self.identifiers()?)
        } else if self.sees("check") && parenthesis(self, 1) {
            self.check()?
        } else if self.accept("foreign key") {
            let columns = self.identifiers()?;
            return Ok(Some(Constraint { name, kind: self.references(columns)? }));
        } else {
            if self.sees("exclude") && (parenthesis(self, 1) || self.sees("exclude using")) {
                return Err(self.error_here(Error::unsupported("an EXCLUDE constraint")));
            }
            return if name.is_some() { self.unexpected() } else { Ok(None) };
        };
        self.constraint_attributes()?;
        Ok(Some(Constraint { name, kind }))
    }

    /// `PRIMARY KEY | UNIQUE | CHECK (condition) | REFERENCES t` after a column's type, if it comes next.
    pub fn column_constraint(&mut self, name: Option<String>, column: &str) -> Result<Option<Constraint>> {
        let own = || vec![column.to_string()];
        let kind = if self.accept("primary key") {
            ConstraintKind::PrimaryKey(own())
        } else if self.accept("unique") {
            self.nulls_distinct()?;
            ConstraintKind::Unique(own())
        } else if self.sees("check") {
            self.check()?
        } else if self.sees("references") {
            return Ok(Some(Constraint { name, kind: self.references(own())? }));
        } else {
            return Ok(None);
        };
        self.constraint_attributes()?;
        Ok(Some(Constraint { name, kind }))
    }

    fn check(&mut self) -> Result<ConstraintKind> {
        self.expect("check")?;
        let condition = self.parenthesised(Self::expression)?;
        if self.sees("no inherit") {
            self.expect("no inherit")?;
        }
        Ok(ConstraintKind::Check(condition.to_string()))
    }

    fn nulls_distinct(&mut self) -> Result<()> {
        if self.sees("nulls not distinct") {
            return Err(self.error_here(Error::unsupported("NULLS NOT DISTINCT")));
        }
        let _ = self.accept("nulls distinct");
        Ok(())
    }

    /// Constraints are checked by each statement.
    fn constraint_attributes(&mut self) -> Result<()> {
        self.storage_parameters()?;
        // Rows that there are are checked all the same.
        let _ = self.accept("not valid");
        for words in ["deferrable", "initially deferred", "include", "using index"] {
            if self.sees(words) {
                let what = format!("a constraint that is {}", words.to_uppercase());
                return Err(self.error_here(Error::unsupported(what)).hint("Each statement checks constraints."));
            }
        }
        while self.accept("not deferrable") || self.accept("initially immediate") {}
        Ok(())
    }

    pub fn add_constraint(&self, relation: &mut CreateRelation, constraint: Constraint) -> Result<()> {
        let ConstraintKind::PrimaryKey(key) = constraint.kind else {
            relation.constraints.push(constraint);
            return Ok(());
        };
        if !relation.primary_key.is_empty() {
            let message = format!("multiple primary keys for table \"{}\" are not allowed", relation.name.name);
            return Err(Error::new("42P16", message));
        }
        (relation.primary_key, relation.primary_key_name) = (key, constraint.name);
        Ok(())
    }
}
