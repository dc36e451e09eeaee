//! CREATE TYPE … AS ENUM, and ALTER TYPE … ADD VALUE and RENAME VALUE. Other kinds of types are not there.

use sqlparser::tokenizer::Token;

use super::cursor::Cursor;
use crate::error::{Error, Result};
use crate::sql::enums::TypeChange;
use crate::sql::statement::{Name, StatementKind};

impl Cursor<'_> {
    /// After CREATE TYPE.
    pub fn create_type(&mut self) -> Result<StatementKind> {
        let name = self.name()?;
        if !self.accept("as enum") {
            return Err(self.error_here(Error::unsupported("CREATE TYPE of another kind than AS ENUM")));
        }
        let labels = self.parenthesised(|c| match c.token() {
            Token::RParen => Ok(Vec::new()),
            _ => c.comma_separated(Self::string),
        })?;
        Ok(StatementKind::Type(TypeChange::Create { name, labels }))
    }

    /// After ALTER TYPE and the name; `None` where it says something that is said of other things too.
    pub fn alter_type(&mut self, name: &Name) -> Result<Option<TypeChange>> {
        let name = name.clone();
        if self.accept("add value") {
            let if_not_exists = self.if_not_exists();
            let label = self.string()?;
            let beside = match self.accept_one(&["before", "after"]) {
                Some(word) => Some((self.string()?, word == "before")),
                None => None,
            };
            return Ok(Some(TypeChange::AddValue { name, label, if_not_exists, beside }));
        }
        if self.accept("rename value") {
            let from = self.string()?;
            self.expect("to")?;
            return Ok(Some(TypeChange::RenameValue { name, from, to: self.string()? }));
        }
        Ok(None)
    }
}
