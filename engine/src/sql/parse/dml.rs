//! INSERT, UPDATE, DELETE, TRUNCATE.

use sqlparser::ast;
use sqlparser::tokenizer::Token;

use super::cursor::Cursor;
use super::parse_expression;
use crate::error::{Error, Result};
use crate::sql::rewrite::call;
use crate::sql::statement::{Delete, Insert, OnConflict, Overriding, StatementKind, Update};
use crate::sql::value_rows::select_sets;

/// The columns of a subquery that has one row, each as a value.
fn columns_of_row(query: &ast::Query, width: usize) -> Result<Vec<ast::Expr>> {
    let shown = |item: &ast::SelectItem| {
        matches!(item, ast::SelectItem::UnnamedExpr(_) | ast::SelectItem::ExprWithAlias { .. })
    };
    if let ast::SetExpr::Select(select) = query.body.as_ref()
        && select.projection.iter().all(shown)
        && select.projection.len() != width
    {
        return Err(Error::syntax("number of columns does not match number of values"));
    }
    let name = |i: usize| format!("\"mr value {i}\"");
    let names: Vec<String> = (1..=width).map(name).collect();
    let column = |name: &String| {
        parse_expression(&format!("(SELECT {name} FROM ({query}) AS \"mr row\" ({}))", names.join(", ")))
    };
    names.iter().map(column).collect()
}

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
        let overriding = self.overriding();
        let mut source = if self.accept("default values") { None } else { Some(self.query()?) };
        source.iter_mut().try_for_each(|source| select_sets(source))?;
        let on_conflict = if self.accept("on conflict") { Some(self.on_conflict()?) } else { None };
        let returning = self.returning()?;
        Ok(StatementKind::Insert(Insert { table, alias, columns, overriding, source, on_conflict, returning }))
    }

    pub(super) fn overriding(&mut self) -> Option<Overriding> {
        match self.accept_one(&["overriding system value", "overriding user value"]) {
            Some("overriding system value") => Some(Overriding::System),
            Some(_) => Some(Overriding::User),
            None => None,
        }
    }

    fn on_conflict(&mut self) -> Result<OnConflict> {
        let mut target = Vec::new();
        if *self.token() == Token::LParen {
            target = self.identifiers()?;
            if self.sees("where") {
                return Err(self.error_here(Error::unsupported("WHERE in a conflict target")));
            }
        }
        let constraint = if self.accept("on constraint") { Some(self.identifier()?) } else { None };
        if self.accept("do nothing") {
            return Ok(OnConflict { target, constraint, assignments: Vec::new(), filter: None });
        }
        self.expect("do update set")?;
        let assignments = self.assignments(None)?;
        let filter = self.filter()?;
        Ok(OnConflict { target, constraint, assignments, filter })
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

    /// `a = 1, (b, c) = (2, 3), d[1] = 4`; in an expression a column of `table` is one that is qualified with it.
    pub(super) fn assignments(&mut self, table: Option<&str>) -> Result<Vec<(String, ast::Expr)>> {
        let mut elements: Vec<(String, ast::Expr)> = Vec::new();
        let groups = self.comma_separated(|c| {
            if *c.token() != Token::LParen {
                let column = c.identifier()?;
                let element = *c.token() == Token::LBracket;
                let index = if element { Some(c.subscript()?) } else { None };
                if matches!(c.token(), Token::Period | Token::LBracket) {
                    return Err(c.error_here(Error::unsupported("assignment to a part of a column")));
                }
                c.expect_token(&Token::Eq)?;
                let value = c.expression()?;
                let Some(index) = index else { return Ok(vec![(column, value)]) };
                // Of several elements of an array each is set in what the one before has left.
                let before = elements.iter().position(|(known, _)| *known == column);
                let array = match before {
                    Some(before) => elements.swap_remove(before).1,
                    None => {
                        let names = table.into_iter().chain([column.as_str()]);
                        let parts = names.map(|name| ast::Ident::with_quote('"', name)).collect();
                        match table {
                            Some(_) => ast::Expr::CompoundIdentifier(parts),
                            None => ast::Expr::Identifier(ast::Ident::with_quote('"', column.as_str())),
                        }
                    }
                };
                elements.push((column, call("mr_array_set", vec![array, index, value])));
                return Ok(Vec::new());
            }
            let columns = c.identifiers()?;
            c.expect_token(&Token::Eq)?;
            let _ = c.accept("row");
            let values = match c.expression()? {
                ast::Expr::Tuple(values) => values,
                ast::Expr::Nested(value) => vec![*value],
                ast::Expr::Subquery(query) => columns_of_row(&query, columns.len())?,
                _ => return Err(Error::unsupported("assignment of a row other than a list of values")),
            };
            if values.len() != columns.len() {
                return Err(Error::syntax("number of columns does not match number of values"));
            }
            Ok(columns.into_iter().zip(values).collect())
        })?;
        let assignments: Vec<(String, ast::Expr)> = groups.into_iter().flatten().chain(elements).collect();
        for (i, (column, _)) in assignments.iter().enumerate() {
            if assignments[..i].iter().any(|(other, _)| other == column) {
                return Err(Error::syntax(format!("multiple assignments to same column \"{column}\"")));
            }
        }
        Ok(assignments)
    }

    /// `[i]`
    fn subscript(&mut self) -> Result<ast::Expr> {
        self.expect_token(&Token::LBracket)?;
        let index = self.expression()?;
        if *self.token() == Token::Colon {
            return Err(self.error_here(Error::unsupported("assignment to a slice of an array")));
        }
        self.expect_token(&Token::RBracket)?;
        Ok(index)
    }

    /// `[AS] alias`, unless one of `stops` comes.
    pub(super) fn alias(&mut self, stops: &[&str]) -> Result<Option<String>> {
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
        let assignments = self.assignments(Some(alias.as_deref().unwrap_or(&table.name)))?;
        let from = if self.accept("from") { self.from_items()? } else { Vec::new() };
        let filter = self.filter()?;
        let returning = self.returning()?;
        Ok(StatementKind::Update(Update { with: None, table, alias, assignments, from, filter, returning }))
    }

    pub fn delete(&mut self) -> Result<StatementKind> {
        self.expect("delete from")?;
        let _ = self.accept("only");
        let table = self.name()?;
        let alias = self.alias(&["using", "where", "returning"])?;
        let using = if self.accept("using") { self.from_items()? } else { Vec::new() };
        let filter = self.filter()?;
        let returning = self.returning()?;
        Ok(StatementKind::Delete(Delete { with: None, table, alias, using, filter, returning }))
    }

    pub fn truncate(&mut self) -> Result<StatementKind> {
        self.expect("truncate")?;
        let _ = self.accept("table");
        let names = self.comma_separated(|c| {
            let _ = c.accept("only");
            c.name()
        })?;
        let restart = self.accept_one(&["continue identity", "restart identity"]) == Some("restart identity");
        Ok(match self.cascade() {
            true => StatementKind::TruncateCascade { names, restart },
            false => StatementKind::Truncate { names, restart },
        })
    }
}
