//! MERGE INTO t USING s ON condition WHEN [NOT] MATCHED [AND condition] THEN …

use sqlparser::ast;
use sqlparser::tokenizer::Token;

use super::cursor::Cursor;
use crate::error::{Error, Result};
use crate::sql::statement::{Merge, MergeAction, MergeClause, StatementKind};

impl Cursor<'_> {
    pub fn merge(&mut self) -> Result<StatementKind> {
        self.expect("merge into")?;
        let _ = self.accept("only");
        let table = self.name()?;
        let alias = self.alias(&["using"])?;
        self.expect("using")?;
        let source = self.sqlparser(|p| p.parse_table_and_joins())?;
        self.expect("on")?;
        let on = self.expression()?;
        let own = alias.as_deref().unwrap_or(&table.name).to_string();
        let mut clauses = vec![self.merge_clause(&own)?];
        while self.sees("when") {
            let clause = self.merge_clause(&own)?;
            if clauses.iter().any(|before| before.matched == clause.matched && before.condition.is_none()) {
                return Err(Error::syntax("unreachable WHEN clause specified after unconditional WHEN clause"));
            }
            clauses.push(clause);
        }
        Ok(StatementKind::Merge(Merge { with: None, table, alias, source, on, clauses }))
    }

    fn merge_clause(&mut self, own: &str) -> Result<MergeClause> {
        self.expect("when")?;
        let matched = !self.accept("not");
        self.expect("matched")?;
        let condition = if self.accept("and") { Some(self.expression()?) } else { None };
        self.expect("then")?;
        let action = match matched {
            _ if self.accept("do nothing") => MergeAction::Nothing,
            true if self.accept("delete") => MergeAction::Delete,
            true if self.accept("update set") => MergeAction::Update(self.assignments(Some(own))?),
            false if self.accept("insert") => self.merged_row()?,
            _ => return self.unexpected(),
        };
        Ok(MergeClause { matched, condition, action })
    }

    /// `[(a, b)] [OVERRIDING …] VALUES (1, DEFAULT)`, behind INSERT.
    fn merged_row(&mut self) -> Result<MergeAction> {
        let columns = if *self.token() == Token::LParen { self.identifiers()? } else { Vec::new() };
        let overriding = self.overriding();
        let values: Option<Vec<ast::Expr>> = if self.accept("default values") {
            None
        } else {
            self.expect("values")?;
            Some(self.parenthesised(|c| c.comma_separated(Self::expression))?)
        };
        Ok(MergeAction::Insert { columns, overriding, values })
    }
}
