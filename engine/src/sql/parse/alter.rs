//! ALTER: RENAME, RESUME, and what changes the columns and constraints of a table.

use super::cursor::Cursor;
use super::identity::Generated;
use crate::catalog::RelationKind;
use crate::error::{Error, Result};
use crate::sql::enums;
use crate::sql::statement::{AlterAction, CreateRelation, Name, SequenceOptions, StatementKind};

impl Cursor<'_> {
    pub fn alter(&mut self) -> Result<StatementKind> {
        self.expect("alter")?;
        if self.accept("schema") {
            self.identifier()?;
            if self.accept("owner to") {
                self.word()?;
                return Ok(StatementKind::NoOp { tag: "ALTER SCHEMA" });
            }
            return Err(self.error_here(Error::unsupported("ALTER SCHEMA")));
        }
        if self.accept("default privileges") {
            while !self.at_end() && !self.sees("grant") && !self.sees("revoke") {
                self.parser.advance_token();
            }
            return match self.sees("grant") {
                true => self.no_op("ALTER DEFAULT PRIVILEGES"),
                false => Err(self.error_here(Error::unsupported("ALTER DEFAULT PRIVILEGES … REVOKE"))),
            };
        }
        if self.accept("index") {
            let if_exists = self.if_exists();
            let name = self.name()?;
            self.expect("rename to")?;
            return Ok(StatementKind::Rename {
                kind: RelationKind::Table,
                name,
                new_name: self.identifier()?,
                if_exists,
            });
        }
        let Some(kind) = self.relation_kind() else { return self.unsupported_object("ALTER") };
        let if_exists = self.if_exists();
        let _ = self.accept("only");
        let name = self.name()?;
        if kind == RelationKind::Sequence && !self.sees("rename") && !self.sees("owner") {
            let options = self.sequence_options()?;
            if options == SequenceOptions::default() {
                return self.unexpected();
            }
            return Ok(StatementKind::AlterSequence { name, if_exists, options });
        }
        if kind == RelationKind::Type
            && let Some(change) = self.alter_type(&name)?
        {
            return Ok(StatementKind::Type(change));
        }
        if self.accept("rename to") {
            return Ok(StatementKind::Rename { kind, name, new_name: self.identifier()?, if_exists });
        }
        if kind == RelationKind::MaterializedView && self.accept("resume") {
            return Ok(StatementKind::Resume(name));
        }
        if self.accept("owner to") {
            self.word()?;
            let tag = if kind == RelationKind::Type { "ALTER TYPE" } else { "ALTER TABLE" };
            return Ok(StatementKind::NoOp { tag });
        }
        if self.set_or_reset_storage()? {
            return Ok(StatementKind::NoOp { tag: "ALTER TABLE" });
        }
        if self.at_end() {
            return self.unexpected();
        }
        let mut actions = Vec::new();
        if matches!(kind, RelationKind::Table | RelationKind::Stream) {
            actions = self.comma_separated(|c| c.alter_action(kind, &name))?;
            let renames = |action: &AlterAction| {
                matches!(action, AlterAction::RenameColumn { .. } | AlterAction::RenameConstraint { .. })
            };
            if actions.len() > 1 && actions.iter().any(renames) {
                return Err(Error::syntax("RENAME stands alone in ALTER TABLE"));
            }
        } else {
            self.refuse_action(kind)?;
        }
        Ok(StatementKind::AlterTable { kind, name, if_exists, actions })
    }

    /// `SET (fillfactor = 70)`, `RESET (fillfactor)`, if it comes next.
    fn set_or_reset_storage(&mut self) -> Result<bool> {
        let is_next = (self.sees("set") || self.sees("reset"))
            && self.parser.peek_nth_token_ref(1).token == sqlparser::tokenizer::Token::LParen;
        if is_next {
            self.word()?;
            self.only_storage(|c| c.options())?;
        }
        Ok(is_next)
    }

    fn refuse_action<T>(&mut self, kind: RelationKind) -> Result<T> {
        let (first, second) = (self.word()?, self.word().unwrap_or_default());
        let what = format!("ALTER {} … {first} {second}", kind.word()).to_uppercase();
        Err(Error::unsupported(what.trim_end()))
    }

    fn alter_action(&mut self, kind: RelationKind, name: &Name) -> Result<AlterAction> {
        match self.accept_one(&["add", "drop", "alter", "rename", "validate constraint"]) {
            Some("validate constraint") => Ok(AlterAction::ValidateConstraint { name: self.identifier()? }),
            Some("add") => self.add(name),
            Some("drop") => self.drop_part(),
            Some("alter") => {
                let _ = self.accept("column");
                self.alter_column()
            }
            Some(_) if self.accept("constraint") => {
                let name = self.identifier()?;
                self.expect("to")?;
                Ok(AlterAction::RenameConstraint { name, new_name: self.identifier()? })
            }
            Some(_) => {
                let _ = self.accept("column");
                let column = self.identifier()?;
                self.expect("to")?;
                Ok(AlterAction::RenameColumn { column, new_name: self.identifier()? })
            }
            None => self.refuse_action(kind),
        }
    }

    fn add(&mut self, name: &Name) -> Result<AlterAction> {
        if !self.sees("column")
            && let Some(constraint) = self.table_constraint()?
        {
            return Ok(AlterAction::AddConstraint(constraint));
        }
        let _ = self.accept("column");
        let if_not_exists = self.if_not_exists();
        let mut definition = CreateRelation::new(name.clone(), false, false);
        self.column(&mut definition)?;
        Ok(AlterAction::AddColumn { definition, if_not_exists })
    }

    fn drop_part(&mut self) -> Result<AlterAction> {
        let constraint = self.accept("constraint");
        let _ = !constraint && self.accept("column");
        let if_exists = self.if_exists();
        let name = self.identifier()?;
        // Drivers write CASCADE whether or not there is something. Where there is, the change is refused (2BP01).
        self.cascade();
        Ok(match constraint {
            true => AlterAction::DropConstraint { name, if_exists },
            false => AlterAction::DropColumn { column: name, if_exists },
        })
    }

    fn alter_column(&mut self) -> Result<AlterAction> {
        let column = self.identifier()?;
        let actions = [
            "set default",
            "drop default",
            "set not null",
            "drop not null",
            "set data type",
            "type",
            "restart with",
            "restart",
            "add generated",
        ];
        Ok(match self.accept_one(&actions) {
            Some("set default") => {
                let default = Some(self.expression()?.to_string());
                AlterAction::SetDefault { column, default }
            }
            Some("add generated") => match self.generated()? {
                Generated::Identity(identity) => AlterAction::AddIdentity { column, identity },
                Generated::Expression(_) => return self.unexpected(),
            },
            Some("drop default") => AlterAction::SetDefault { column, default: None },
            Some("set not null") => AlterAction::SetNotNull { column, not_null: true },
            Some("drop not null") => AlterAction::SetNotNull { column, not_null: false },
            Some("restart with") => AlterAction::Restart { column, with: Some(self.whole_number()?) },
            Some("restart") => AlterAction::Restart { column, with: None },
            Some(_) => {
                let here = self.parser.peek_token();
                let data_type = self.data_type()?;
                let sql_type = enums::spelling(&data_type).map_err(|e| self.source.at(e, &here))?;
                let using = if self.accept("using") { Some(self.expression()?) } else { None };
                AlterAction::SetType { column, sql_type, using }
            }
            None => {
                let (first, second) = (self.word()?, self.word().unwrap_or_default());
                let what = format!("ALTER TABLE … ALTER COLUMN … {first} {second}").to_uppercase();
                return Err(Error::unsupported(what.trim_end()));
            }
        })
    }
}
