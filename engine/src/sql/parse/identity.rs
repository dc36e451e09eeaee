//! Columns that count their rows, `serial`, `GENERATED { ALWAYS | BY DEFAULT } AS IDENTITY (START WITH 10 …)`, and those that
//! are computed, `GENERATED ALWAYS AS (…) STORED`.

use super::cursor::Cursor;
use crate::catalog::IdentityKind;
use crate::error::{Error, Result};
use crate::sql::statement::{IdentityDefinition, SequenceOptions};
use sqlparser::tokenizer::Token;

/// What a column is generated as.
pub enum Generated {
    Identity(IdentityDefinition),
    /// Its SQL text.
    Expression(String),
}

impl Cursor<'_> {
    /// `serial`, `bigserial`, … in the place of a type: the type that it stands for.
    pub fn serial(&mut self) -> Option<&'static str> {
        let words = ["serial", "serial4", "bigserial", "serial8", "smallserial", "serial2"];
        Some(match self.accept_one(&words)? {
            "bigserial" | "serial8" => "bigint",
            "smallserial" | "serial2" => "smallint",
            _ => "integer",
        })
    }

    /// After GENERATED: `ALWAYS AS IDENTITY [(…)]`, `BY DEFAULT AS IDENTITY [(…)]` or `ALWAYS AS (…) STORED`.
    pub fn generated(&mut self) -> Result<Generated> {
        let kind = match self.accept_one(&["always", "by default"]) {
            Some("always") => IdentityKind::Always,
            Some(_) => IdentityKind::ByDefault,
            None => return self.unexpected(),
        };
        self.expect("as")?;
        if kind == IdentityKind::Always && self.accept_token(&Token::LParen) {
            let expression = self.expression()?.to_string();
            if !self.accept_token(&Token::RParen) {
                return self.unexpected();
            }
            self.expect("stored")?;
            return Ok(Generated::Expression(expression));
        }
        if !self.accept("identity") {
            return self.unexpected();
        }
        let mut identity = IdentityDefinition::of(kind);
        if self.accept_token(&Token::LParen) {
            let mut options = SequenceOptions::default();
            while !self.accept_token(&Token::RParen) {
                if self.accept_one(&["sequence name"]).is_some() {
                    identity.name = Some(self.name()?.name);
                } else if !self.sequence_option(&mut options)? {
                    return self.unexpected();
                }
            }
            let SequenceOptions { sql_type, start, increment, min, max, cycle, owned_by, restart } = options;
            if sql_type.is_some() || owned_by.is_some() || restart.is_some() {
                return Err(self.error_here(Error::unsupported("AS, OWNED BY or RESTART of an identity column")));
            }
            (identity.start, identity.increment, identity.cycle) = (start, increment, cycle.unwrap_or(false));
            (identity.min, identity.max) = (min.flatten(), max.flatten());
        }
        Ok(Generated::Identity(identity))
    }

    /// `10`, `-10`.
    pub fn whole_number(&mut self) -> Result<i64> {
        let minus = self.accept_token(&Token::Minus);
        let Token::Number(digits, _) = self.token() else { return self.unexpected() };
        let text = if minus { format!("-{digits}") } else { digits.clone() };
        let Ok(number) = text.parse() else { return self.unexpected() };
        self.parser.advance_token();
        Ok(number)
    }
}
