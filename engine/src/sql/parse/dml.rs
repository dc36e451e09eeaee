//! INSERT, UPDATE, DELETE, TRUNCATE.

use sqlparser::ast;
use sqlparser::tokenizer::Token;

use super::cursor::Cursor;
use crate::error::{Error, Result};
use crate::sql::statement::{Delete, Insert, OnConflict, StatementKind, Update};

impl Cursor<'_> {
    pub fn insert(&mut self) -> Result<StatementKind> {
        self.expect("insert into")?;
        let table = self.name()?;
        let alias = if self.accept("as") { Some(self.identifier()?) } else { None };
        // `(` starts a column list, or a query in parentheses.
        let queries = ["select", "with", "values", "table"];
        let word = |n: usize| super::source::unquoted(&self.parser.peek_nth_token_ref(n).token).to_lowercase();
        let nested = queries.contains(&word(1).as_str()) || self.parser.peek_nth_token_ref(1).token == Token::LParen;
        let columns = if *self.token() == Token::LParen && !nested { self.identifiers()? } else { Vec::new() };
        if self.sees("overriding") {
            return Err(self.error_here(Error::unsupported("OVERRIDING")));
        }
        let source = if self.accept("default values") { None } else { Some(self.query()?) };
        let on_conflict = if self.accept("on conflict") { Some(self.on_conflict()?) } else { None };
        let returning = self.returning()?;
        Ok(StatementKind::Insert(Insert { table, alias, columns, source, on_conflict, returning }))
    }

    fn on_conflict(&mut self) -> Result<OnConflict> {
        let mut target = Vec::new();
        if *self.token() == Token::LParen {
            target = self.identifiers()?;
            if self.sees("where") {
                return Err(self.error_here(Error::unsupported("WHERE in a conflict target")));
            }
        } else if self.sees("on constraint") {
            return Err(self
                .error_here(Error::unsupported("ON CONFLICT ON CONSTRAINT"))
                .hint("Name the key's columns instead."));
        }
        if self.accept("do nothing") {
            return Ok(OnConflict { target, assignments: Vec::new(), filter: None });
        }
        self.expect("do update set")?;
        let assignments = self.assignments()?;
        let filter = self.filter()?;
        Ok(OnConflict { target, assignments, filter })
    }

    fn returning(&mut self) -> Result<Option<Vec<ast::SelectItem>>> {
        if !self.accept("returning") {
            return Ok(None);
        }
        self.comma_separated(|c| c.sqlparser(|p| p.parse_select_item())).map(Some)
    }

    fn filter(&mut self) -> Result<Option<ast::Expr>> {
        if !self.accept("where") {
            return Ok(None);
        }
        if self.sees("current of") {
            return Err(self.error_here(Error::unsupported("WHERE CURRENT OF")));
        }
        self.expression().map(Some)
    }

    /// `a = 1, (b, c) = (2, 3)`.
    fn assignments(&mut self) -> Result<Vec<(String, ast::Expr)>> {
        let groups = self.comma_separated(|c| {
            if *c.token() != Token::LParen {
                let column = c.identifier()?;
                if matches!(c.token(), Token::Period | Token::LBracket) {
                    return Err(c.error_here(Error::unsupported("assignment to a part of a column")));
                }
                c.expect_token(&Token::Eq)?;
                return Ok(vec![(column, c.expression()?)]);
            }
            let columns = c.identifiers()?;
            c.expect_token(&Token::Eq)?;
            let _ = c.accept("row");
            let values = match c.expression()? {
                ast::Expr::Tuple(values) => values,
                ast::Expr::Nested(value) => vec![*value],
                _ => return Err(Error::unsupported("assignment of a row other than a list of values")),
            };
            if values.len() != columns.len() {
                return Err(Error::syntax("number of columns does not match number of values"));
            }
            Ok(columns.into_iter().zip(values).collect())
        })?;
        let assignments: Vec<(String, ast::Expr)> = groups.into_iter().flatten().collect();
        for (i, (column, _)) in assignments.iter().enumerate() {
            if assignments[..i].iter().any(|(other, _)| other == column) {
                return Err(Error::syntax(format!("multiple assignments to same column \"{column}\"")));
            }
        }
        Ok(assignments)
    }

    /// `[AS] alias`, unless one of `stops` comes.
    fn alias(&mut self, stops: &[&str]) -> Result<Option<String>> {
        if self.accept("as") {
            return self.identifier().map(Some);
        }
        let word = matches!(self.token(), Token::Word(_));
        if word && !stops.iter().any(|stop| self.sees(stop)) {
            return self.identifier().map(Some);
        }
        Ok(None)
    }

    fn from_items(&mut self) -> Result<Vec<ast::TableWithJoins>> {
        self.comma_separated(|c| c.sqlparser(|p| p.parse_table_and_joins()))
    }

    pub fn update(&mut self) -> Result<StatementKind> {
        self.expect("update")?;
        let _ = self.accept("only");
        let table = self.name()?;
        let alias = self.alias(&["set"])?;
        self.expect("set")?;
        let assignments = self.assignments()?;
        let from = if self.accept("from") { self.from_items()? } else { Vec::new() };
        let filter = self.filter()?;
        let returning = self.returning()?;
        Ok(StatementKind::Update(Update { table, alias, assignments, from, filter, returning }))
    }

    pub fn delete(&mut self) -> Result<StatementKind> {
        self.expect("delete from")?;
        let _ = self.accept("only");
        let table = self.name()?;
        let alias = self.alias(&["using", "where", "returning"])?;
        let using = if self.accept("using") { self.from_items()? } else { Vec::new() };
        let filter = self.filter()?;
        let returning = self.returning()?;
        Ok(StatementKind::Delete(Delete { table, alias, using, filter, returning }))
    }

    pub fn truncate(&mut self) -> Result<StatementKind> {
        self.expect("truncate")?;
        let _ = self.accept("table");
        let names = self.comma_separated(|c| {
            let _ = c.accept("only");
            c.name()
        })?;
        let _ = self.accept("continue identity") || self.accept("restart identity");
        self.cascade();
        Ok(StatementKind::Truncate { names })
    }
}
