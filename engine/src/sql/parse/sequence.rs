//! CREATE SEQUENCE and what ALTER SEQUENCE changes: `AS bigint START WITH 10 INCREMENT BY 5 NO MAXVALUE OWNED BY t.id`.

use super::cursor::{Cursor, name_of_parts};
use crate::error::{Error, Result};
use crate::sql::statement::{Name, SequenceOptions, StatementKind};
use crate::sql::types::sql_type_from_ast;
use sqlparser::tokenizer::Token;

impl Cursor<'_> {
    /// After CREATE SEQUENCE.
    pub fn create_sequence(&mut self) -> Result<StatementKind> {
        let if_not_exists = self.if_not_exists();
        let name = self.name()?;
        let options = self.sequence_options()?;
        if options.restart.is_some() {
            return Err(Error::syntax("RESTART is for ALTER SEQUENCE: a new one begins at its START"));
        }
        Ok(StatementKind::CreateSequence { name, if_not_exists, options })
    }

    pub fn sequence_options(&mut self) -> Result<SequenceOptions> {
        let mut options = SequenceOptions::default();
        while self.sequence_option(&mut options)? {}
        Ok(options)
    }

    /// One of them; whether there was one.
    pub fn sequence_option(&mut self, options: &mut SequenceOptions) -> Result<bool> {
        let words = [
            "as",
            "start with",
            "start",
            "increment by",
            "increment",
            "minvalue",
            "maxvalue",
            "no minvalue",
            "no maxvalue",
            "cache",
            "no cycle",
            "cycle",
            "owned by",
            "restart with",
            "restart",
        ];
        let Some(option) = self.accept_one(&words) else { return Ok(false) };
        let fresh = match option {
            "as" => {
                let here = self.parser.peek_token();
                let data_type = self.sqlparser(|p| p.parse_data_type())?;
                let sql_type = sql_type_from_ast(&data_type).map_err(|e| self.source.at(e, &here))?;
                options.sql_type.replace(sql_type).is_none()
            }
            "start with" | "start" => options.start.replace(self.whole_number()?).is_none(),
            "increment by" | "increment" => options.increment.replace(self.whole_number()?).is_none(),
            "minvalue" => options.min.replace(Some(self.whole_number()?)).is_none(),
            "maxvalue" => options.max.replace(Some(self.whole_number()?)).is_none(),
            "no minvalue" => options.min.replace(None).is_none(),
            "no maxvalue" => options.max.replace(None).is_none(),
            // Each session of PostgreSQL caches numbers; here the runs that are reserved do that.
            "cache" => {
                if self.whole_number()? < 1 {
                    return Err(Error::invalid_value("CACHE must be greater than zero"));
                }
                true
            }
            "cycle" => options.cycle.replace(true).is_none(),
            "no cycle" => options.cycle.replace(false).is_none(),
            "owned by" => {
                let owner = if self.accept("none") { None } else { Some(self.column_of_table()?) };
                options.owned_by.replace(owner).is_none()
            }
            "restart with" => options.restart.replace(Some(self.whole_number()?)).is_none(),
            _ => {
                let with = if matches!(self.token(), Token::Number(..) | Token::Minus) {
                    Some(self.whole_number()?)
                } else {
                    None
                };
                options.restart.replace(with).is_none()
            }
        };
        if !fresh {
            return Err(self.error_here(Error::syntax("conflicting or redundant options")));
        }
        Ok(true)
    }

    /// `t.c`, `s.t.c`
    fn column_of_table(&mut self) -> Result<(Name, String)> {
        let mut parts = vec![self.identifier()?];
        while self.accept_token(&Token::Period) {
            parts.push(self.identifier()?);
        }
        let column = parts.pop().expect("at least one");
        match parts.is_empty() {
            false => Ok((name_of_parts(parts)?, column)),
            true => {
                Err(Error::syntax("invalid OWNED BY option").hint("Specify OWNED BY table.column or OWNED BY NONE."))
            }
        }
    }
}
