//! Columns that count their rows: `serial`, `GENERATED { ALWAYS | BY DEFAULT } AS IDENTITY (START WITH 10 …)`.

use super::cursor::Cursor;
use crate::catalog::IdentityKind;
use crate::error::{Error, Result};
use crate::sql::statement::IdentityDefinition;
use sqlparser::tokenizer::Token;

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

    /// After GENERATED: `ALWAYS AS IDENTITY [(…)]` or `BY DEFAULT AS IDENTITY [(…)]`.
    pub fn identity(&mut self) -> Result<IdentityDefinition> {
        let kind = match self.accept_one(&["always", "by default"]) {
            Some("always") => IdentityKind::Always,
            Some(_) => IdentityKind::ByDefault,
            None => return self.unexpected(),
        };
        self.expect("as")?;
        if !self.accept("identity") {
            let refused = Error::unsupported("a generated column").hint("A view can have columns that are computed.");
            return Err(self.error_here(refused));
        }
        let mut identity = IdentityDefinition::of(kind);
        if self.accept_token(&Token::LParen) {
            while !self.accept_token(&Token::RParen) {
                self.sequence_option(&mut identity)?;
            }
        }
        Ok(identity)
    }

    fn sequence_option(&mut self, identity: &mut IdentityDefinition) -> Result<()> {
        let words = [
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
            "sequence name",
        ];
        let Some(option) = self.accept_one(&words) else { return self.unexpected() };
        let slot = match option {
            "no minvalue" | "no maxvalue" => return Ok(()),
            "no cycle" => {
                identity.cycle = false;
                return Ok(());
            }
            "cycle" => {
                identity.cycle = true;
                return Ok(());
            }
            "sequence name" => {
                identity.name = Some(self.name()?.name);
                return Ok(());
            }
            "cache" => {
                self.whole_number()?;
                return Ok(());
            }
            "start with" | "start" => &mut identity.start,
            "increment by" | "increment" => &mut identity.increment,
            "minvalue" => &mut identity.min,
            _ => &mut identity.max,
        };
        if slot.is_some() {
            return Err(self.error_here(Error::syntax("conflicting or redundant options")));
        }
        *slot = Some(self.whole_number()?);
        Ok(())
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
