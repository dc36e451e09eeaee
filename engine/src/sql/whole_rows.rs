//! The name of a table, subquery or function in FROM as a value. Postgres looks for a column of that name, and then for a row
//! of a table or function: of a function that returns values it is the value, though the column has a name of its own.
//!
//! ```text
//!   SELECT x FROM t, jsonb_array_elements(t.j) x      SELECT x.value AS x FROM …
//!   SELECT to_jsonb(t) FROM t                         SELECT to_jsonb(named_struct('a', t.a, 'b', t.b)) FROM t
//!   FROM t, LATERAL (SELECT t.*)                      FROM t, LATERAL (SELECT t.a AS a, t.b AS b)
//! ```
//!
//! Which columns there are is known when names are bound: so this is done where that has failed.

use std::ops::ControlFlow;

use sqlparser::ast::{
    self, AccessExpr, Cte, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, Ident, JoinOperator, Query,
    Select, SelectItem, SelectItemQualifiedWildcardKind, SetExpr, TableFactor, TableWithJoins, Value, Visitor,
    VisitorMut, With,
};

use crate::sql::calls::column_in_from;
use crate::sql::grouped::names_of;
use crate::sql::item_names::{name_of_expr, plain_name};
use crate::sql::parse::{fold, query as parsed};
use crate::sql::rewrite::{binary, call};
use crate::sql::visit::{self, Walk, WalkMut};

/// Spells out the rows and values in a query; whether there were any. `columns` names the columns of a query, with the marks
/// that tell those of one name apart.
pub fn spell_out(query: &mut Query, columns: &mut dyn FnMut(&Query) -> Option<Vec<String>>) -> bool {
    let mut rewriter = Rewriter { changed: false, ctes: Vec::new(), ends: Vec::new(), columns };
    let _ = query.walk_mut(&mut rewriter);
    rewriter.changed
}

/// Whether a query says `f(t.*)` or `(t).a`, which nothing but this knows.
pub fn gives_rows(query: &Query) -> bool {
    let given = visit::visit_expressions(query, |expr| match expr {
        Expr::Function(function) if !is_count(function) && !rows_given(&function.args).is_empty() => {
            ControlFlow::Break(())
        }
        Expr::CompoundFieldAccess { root, access_chain } if field_of_row(root, access_chain).is_some() => {
            ControlFlow::Break(())
        }
        _ => ControlFlow::Continue(()),
    });
    given.is_break()
}

/// The names in `(t).a`.
fn field_of_row<'a>(root: &'a Expr, chain: &'a [AccessExpr]) -> Option<(&'a Ident, &'a Ident)> {
    match (root, chain) {
        (Expr::Nested(inner), [AccessExpr::Dot(Expr::Identifier(field))]) => match inner.as_ref() {
            Expr::Identifier(row) => Some((row, field)),
            _ => None,
        },
        _ => None,
    }
}

fn is_count(function: &Function) -> bool {
    function.name.to_string().eq_ignore_ascii_case("count")
}

struct Rewriter<'a> {
    changed: bool,
    /// The WITH queries in scope, and for each query around how many there were before it.
    ctes: Vec<(bool, Cte)>,
    ends: Vec<usize>,
    columns: &'a mut dyn FnMut(&Query) -> Option<Vec<String>>,
}

/// What a name in FROM is as a value.
enum Meaning {
    /// Its only column.
    Column(&'static str),
    /// Its columns; `maybe_missing` where an outer join may have no row of it.
    Row { columns: Vec<String>, maybe_missing: bool },
}

struct Named {
    name: Ident,
    meaning: Meaning,
}

impl VisitorMut for Rewriter<'_> {
    type Break = ();
    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
        self.ends.push(self.ctes.len());
        if let Some(with) = &query.with {
            self.ctes.extend(with.cte_tables.iter().map(|cte| (with.recursive, cte.clone())));
        }
        let SetExpr::Select(select) = query.body.as_ref() else { return ControlFlow::Continue(()) };
        let mut used = Vec::new();
        let _ = visit::visit_expressions(query, |expr| {
            match expr {
                Expr::Identifier(ident) => used.push(fold(ident)),
                Expr::Function(function) => used.extend(rows_given(&function.args)),
                _ => {}
            }
            ControlFlow::<()>::Continue(())
        });
        let mut stars = OuterStars(Vec::new());
        let _ = query.walk(&mut stars);
        used.append(&mut stars.0);
        let mut rows = Rows { named: self.named_in(select, &used), changed: false };
        if rows.named.is_empty() {
            return ControlFlow::Continue(());
        }
        if let SetExpr::Select(select) = query.body.as_mut() {
            // The column is still called after what is asked for.
            for item in &mut select.projection {
                if let SelectItem::UnnamedExpr(Expr::Identifier(ident)) = item {
                    let alias = ident.clone();
                    *item = SelectItem::ExprWithAlias { expr: Expr::Identifier(alias.clone()), alias };
                }
            }
        }
        let _ = query.walk_mut(&mut rows);
        self.changed |= rows.changed;
        ControlFlow::Continue(())
    }
    fn post_visit_query(&mut self, _: &mut Query) -> ControlFlow<()> {
        let end = self.ends.pop().unwrap_or_default();
        self.ctes.truncate(end);
        ControlFlow::Continue(())
    }
}

/// The tables of `f(t.*)`.
fn rows_given(arguments: &FunctionArguments) -> Vec<String> {
    let FunctionArguments::List(list) = arguments else { return Vec::new() };
    list.args.iter().filter_map(row_given).collect()
}

fn row_given(argument: &FunctionArg) -> Option<String> {
    match argument {
        FunctionArg::Unnamed(FunctionArgExpr::QualifiedWildcard(name)) => match name.0.as_slice() {
            [part] => part.as_ident().map(fold),
            _ => None,
        },
        _ => None,
    }
}

impl Rewriter<'_> {
    /// What is in FROM and is used as a value.
    fn named_in(&mut self, select: &Select, used: &[String]) -> Vec<Named> {
        fn factors(table: &TableWithJoins) -> Vec<&TableFactor> {
            let all = std::iter::once(&table.relation).chain(table.joins.iter().map(|join| &join.relation));
            all.flat_map(|factor| match factor {
                TableFactor::NestedJoin { table_with_joins, .. } => factors(table_with_joins),
                other => vec![other],
            })
            .collect()
        }
        fn outer(table: &TableWithJoins) -> bool {
            use JoinOperator as J;
            let nested = |factor: &TableFactor| match factor {
                TableFactor::NestedJoin { table_with_joins, .. } => outer(table_with_joins),
                _ => false,
            };
            nested(&table.relation)
                || table.joins.iter().any(|join| {
                    let keeps = matches!(
                        join.join_operator,
                        J::Left(_) | J::LeftOuter(_) | J::Right(_) | J::RightOuter(_) | J::FullOuter(_)
                    );
                    keeps || nested(&join.relation)
                })
        }
        let mut named = Vec::new();
        for table in &select.from {
            for factor in factors(table) {
                let function = function_in_from(factor);
                let (name, meaning) = match factor {
                    _ if function.is_some() => match function {
                        Some((name, column)) => (name, Some(Meaning::Column(column))),
                        None => continue,
                    },
                    TableFactor::Table { name, alias, args: None, .. } => {
                        let own = name.0.last().and_then(|part| part.as_ident()).cloned();
                        match alias.as_ref().map(|alias| alias.name.clone()).or(own) {
                            Some(name) => (name, None),
                            None => continue,
                        }
                    }
                    TableFactor::Derived { alias: Some(alias), .. } => (alias.name.clone(), None),
                    _ => continue,
                };
                if !used.contains(&fold(&name)) {
                    continue;
                }
                let meaning = meaning.or_else(|| {
                    let columns = self.columns_of(factor)?;
                    // A column of that name comes first.
                    let row = Meaning::Row { maybe_missing: outer(table), columns };
                    matches!(&row, Meaning::Row { columns, .. } if !columns.contains(&fold(&name))).then_some(row)
                });
                if let Some(meaning) = meaning {
                    named.push(Named { name, meaning });
                }
            }
        }
        named
    }

    fn columns_of(&mut self, factor: &TableFactor) -> Option<Vec<String>> {
        let mut query = *parsed("SELECT * FROM (SELECT 1) AS q").ok()?;
        let SetExpr::Select(select) = query.body.as_mut() else { return None };
        select.from.first_mut()?.relation = factor.clone();
        if let Some(first) = self.ctes.first() {
            let with_token = first.1.closing_paren_token.clone();
            let recursive = self.ctes.iter().any(|(recursive, _)| *recursive);
            let cte_tables = self.ctes.iter().map(|(_, cte)| cte.clone()).collect();
            query.with = Some(With { with_token, recursive, cte_tables });
        }
        (self.columns)(&query).or_else(|| written_columns(factor))
    }
}

/// The names that a subquery gives its columns itself: one that takes columns from outside cannot be bound alone.
fn written_columns(factor: &TableFactor) -> Option<Vec<String>> {
    let TableFactor::Derived { subquery, alias, .. } = factor else { return None };
    let SetExpr::Select(select) = subquery.body.as_ref() else { return None };
    let mut names = Vec::new();
    for item in &select.projection {
        names.push(match item {
            SelectItem::ExprWithAlias { alias, .. } => fold(alias),
            SelectItem::UnnamedExpr(expr) => name_of_expr(expr).unwrap_or_else(|| "?column?".into()),
            _ => return None,
        });
    }
    let given = alias.iter().flat_map(|alias| &alias.columns);
    names.iter_mut().zip(given).for_each(|(name, given)| *name = fold(&given.name));
    Some(names)
}

/// A function in FROM that returns values: its alias, and its column.
fn function_in_from(factor: &TableFactor) -> Option<(Ident, &'static str)> {
    let (name, alias) = match factor {
        TableFactor::Table { name, alias: Some(alias), args: Some(_), .. } => (name, alias),
        TableFactor::Function { name, alias: Some(alias), .. } => (name, alias),
        _ => return None,
    };
    let column = column_in_from(&name.0.last().and_then(|part| part.as_ident()).map(fold)?)?;
    alias.columns.is_empty().then(|| (alias.name.clone(), column))
}

/// Of which tables a SELECT has all columns that are not in its FROM.
struct OuterStars(Vec<String>);

impl Visitor for OuterStars {
    type Break = ();
    fn pre_visit_select(&mut self, select: &Select) -> ControlFlow<()> {
        let own = names_of(&select.from);
        self.0.extend(select.projection.iter().filter_map(star_of).filter(|name| !own.contains(name)));
        ControlFlow::Continue(())
    }
}

/// The table of `t.*`.
fn star_of(item: &SelectItem) -> Option<String> {
    match item {
        SelectItem::QualifiedWildcard(SelectItemQualifiedWildcardKind::ObjectName(name), _) => {
            match name.0.as_slice() {
                [part] => part.as_ident().map(fold),
                _ => None,
            }
        }
        _ => None,
    }
}

struct Rows {
    named: Vec<Named>,
    changed: bool,
}

impl Rows {
    /// What a name in parentheses or without is.
    fn named_by(&self, expr: &Expr) -> Option<&Named> {
        match expr {
            Expr::Nested(inner) => self.named_by(inner),
            Expr::Identifier(ident) => self.named(&fold(ident)),
            _ => None,
        }
    }
    fn named(&self, name: &str) -> Option<&Named> {
        self.named.iter().find(|named| fold(&named.name) == name)
    }
}

impl Named {
    fn column(&self, column: &str) -> Expr {
        Expr::CompoundIdentifier(vec![self.name.clone(), Ident::with_quote('"', column)])
    }

    fn value(&self) -> Expr {
        match &self.meaning {
            Meaning::Column(column) => Expr::CompoundIdentifier(vec![self.name.clone(), Ident::new(*column)]),
            Meaning::Row { columns, maybe_missing } => {
                let text = |name: &String| Expr::Value(Value::SingleQuotedString(plain_name(name).into()).into());
                let fields = columns.iter().flat_map(|name| [text(name), self.column(name)]).collect();
                let row = call("named_struct", fields);
                let known = columns.iter().map(|name| Expr::IsNotNull(Box::new(self.column(name))));
                let known = known.reduce(|a, b| binary(a, ast::BinaryOperator::Or, b));
                match known.filter(|_| *maybe_missing) {
                    None => row,
                    Some(condition) => Expr::Case {
                        case_token: ast::helpers::attached_token::AttachedToken::empty(),
                        end_token: ast::helpers::attached_token::AttachedToken::empty(),
                        operand: None,
                        conditions: vec![ast::CaseWhen { condition, result: row }],
                        else_result: None,
                    },
                }
            }
        }
    }
}

impl VisitorMut for Rows {
    type Break = ();
    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<()> {
        let own = names_of(&select.from);
        let mut items = Vec::new();
        for item in std::mem::take(&mut select.projection) {
            let named = star_of(&item).filter(|name| !own.contains(name)).and_then(|name| self.named(&name));
            match named {
                Some(named @ Named { meaning: Meaning::Row { columns, .. }, .. }) => {
                    items.extend(columns.iter().map(|column| SelectItem::ExprWithAlias {
                        expr: named.column(column),
                        alias: Ident::with_quote('"', plain_name(column)),
                    }));
                    self.changed = true;
                }
                _ => items.push(item),
            }
        }
        select.projection = items;
        ControlFlow::Continue(())
    }
    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        // A row is NULL where all of its columns are, and not NULL where none is.
        if let Expr::IsNull(row) | Expr::IsNotNull(row) = expr
            && let Some(Named { name, meaning: Meaning::Row { columns, .. } }) = self.named_by(row)
            && !columns.is_empty()
        {
            let column = |column: &String| {
                Box::new(Expr::CompoundIdentifier(vec![name.clone(), Ident::with_quote('"', column)]))
            };
            let is_null = matches!(expr, Expr::IsNull(_));
            let ask = |of: &String| if is_null { Expr::IsNull(column(of)) } else { Expr::IsNotNull(column(of)) };
            let all = columns.iter().map(ask).reduce(|a, b| binary(a, ast::BinaryOperator::And, b));
            *expr = Expr::Nested(Box::new(all.unwrap_or(Expr::Value(Value::Null.into()))));
            self.changed = true;
        }
        // `(t).a` is `t.a`.
        if let Expr::CompoundFieldAccess { root, access_chain } = expr
            && let Some((ident, field)) = field_of_row(root, access_chain)
            && let Some(Named { name, meaning: Meaning::Row { .. } }) = self.named(&fold(ident))
        {
            *expr = Expr::CompoundIdentifier(vec![name.clone(), field.clone()]);
            self.changed = true;
        }
        if let Expr::Function(function) = expr
            && !is_count(function)
            && let is_row = function.name.to_string().eq_ignore_ascii_case("row")
            && let FunctionArguments::List(list) = &mut function.args
        {
            let mut arguments = Vec::new();
            for argument in std::mem::take(&mut list.args) {
                let Some(named) = row_given(&argument).and_then(|name| self.named(&name)) else {
                    arguments.push(argument);
                    continue;
                };
                let given = |expr| FunctionArg::Unnamed(FunctionArgExpr::Expr(expr));
                match &named.meaning {
                    // Its columns are fields of the row.
                    Meaning::Row { columns, .. } if is_row => {
                        arguments.extend(columns.iter().map(|column| given(named.column(column))));
                    }
                    _ => arguments.push(given(named.value())),
                }
                self.changed = true;
            }
            list.args = arguments;
        }
        ControlFlow::Continue(())
    }
    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        if let Expr::Identifier(ident) = expr
            && let Some(named) = self.named(&fold(ident))
        {
            *expr = named.value();
            self.changed = true;
        }
        ControlFlow::Continue(())
    }
}
