//! JOIN … USING and NATURAL JOIN, spelt out as joins with ON.
//!
//! DataFusion takes the joined columns from one side, leaves them where they stand, and in a subquery takes their names for
//! columns from outside. In Postgres `*` shows them first and once, and under RIGHT and FULL JOIN they are the other side's,
//! or whichever is not NULL:
//!
//! ```text
//!   SELECT * FROM a NATURAL JOIN b             SELECT a.k, a.x, b.y FROM a JOIN b USING (k)
//!   SELECT k, x FROM a FULL JOIN b USING (k)   SELECT coalesce(a.k, b.k) AS k, x FROM a FULL JOIN b ON a.k = b.k
//! ```
//!
//! Columns of two types make one of the type that both are compared as. `SELECT *, *` is spelt out here as well.
//! Where FROM gives fewer names than there are columns, the others keep theirs: `t AS x (p)` becomes `t AS x (p, b, c)`.

mod ambiguous;
mod stars;

use std::ops::ControlFlow;

use arrow::datatypes::DataType;
use datafusion::common::JoinConstraint as PlannedConstraint;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::logical_expr::LogicalPlan;
use sqlparser::ast::{
    self, BinaryOperator, Cte, Expr, Ident, JoinConstraint, JoinOperator, ObjectName, OrderByKind, Query, Select,
    SelectItem, SelectItemQualifiedWildcardKind, SetExpr, TableAlias, TableAliasColumnDef, TableFactor, TableWithJoins,
    Value, VisitorMut, With,
};

use crate::error::{Error, Result};
use crate::sql::errors::error_from;
use crate::sql::item_names::name_of_expr;
use crate::sql::parse::fold;
use crate::sql::rewrite::{binary, call};
use crate::sql::visit::{self, Walk, WalkMut};
use crate::sql::window::{self, window_kind};

pub use self::ambiguous::check_ambiguous;
pub use self::stars::{has_stars, spell_out_stars};

/// A column's name and type.
pub type Shown = (String, DataType);

/// Rewrites every such join in a query. `columns` says what the columns of a query are, rewritten already, that it binds;
/// `None` where it cannot, and then the join stays as it is.
pub fn merge_columns(query: &mut Query, columns: &mut dyn FnMut(&Query) -> Option<Vec<Shown>>) -> Result<()> {
    struct Search;
    impl ast::Visitor for Search {
        type Break = ();
        fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
            let mut ctes = query.with.iter().flat_map(|with| &with.cte_tables);
            match ctes.any(|cte| names_too_few(&cte.alias, Some(&cte.query))) {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            }
        }
        fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<()> {
            match renamed(factor).is_some() {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            }
        }
        fn pre_visit_select(&mut self, select: &Select) -> ControlFlow<()> {
            match select.from.iter().any(merges) || stars_twice(select) {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            }
        }
    }
    if query.walk(&mut Search).is_continue() {
        return Ok(());
    }
    match query.walk_mut(&mut Joins { ctes: Vec::new(), ends: Vec::new(), columns }) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(error) => Err(*error),
    }
}

fn merges(from: &TableWithJoins) -> bool {
    let nested = |factor: &TableFactor| match factor {
        TableFactor::NestedJoin { table_with_joins, .. } => merges(table_with_joins),
        _ => false,
    };
    nested(&from.relation)
        || from.joins.iter().any(|join| {
            nested(&join.relation)
                || matches!(
                    constraint_of(&join.join_operator),
                    Some(JoinConstraint::Using(_) | JoinConstraint::Natural)
                )
        })
}

/// `SELECT *, *`, `SELECT *, t.*`: columns that are shown twice.
fn stars_twice(select: &Select) -> bool {
    let stars = select.projection.iter().filter_map(|item| match item {
        SelectItem::Wildcard(_) => Some(None),
        SelectItem::QualifiedWildcard(SelectItemQualifiedWildcardKind::ObjectName(name), _) => Some(Some(name)),
        _ => None,
    });
    let stars: Vec<_> = stars.collect();
    stars.len() > 1 && (0..stars.len()).any(|i| stars[i].is_none() || stars[..i].contains(&stars[i]))
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Kept {
    Left,
    Right,
    Both,
}

fn constraint_of(operator: &JoinOperator) -> Option<&JoinConstraint> {
    use JoinOperator as J;
    match operator {
        J::Join(c) | J::Inner(c) | J::Left(c) | J::LeftOuter(c) | J::Right(c) | J::RightOuter(c) | J::FullOuter(c) => {
            Some(c)
        }
        _ => None,
    }
}

/// The constraint, and which side's rows are all kept.
fn parts_of(operator: &mut JoinOperator) -> Option<(&mut JoinConstraint, Kept)> {
    use JoinOperator as J;
    match operator {
        J::Join(c) | J::Inner(c) | J::Left(c) | J::LeftOuter(c) => Some((c, Kept::Left)),
        J::Right(c) | J::RightOuter(c) => Some((c, Kept::Right)),
        J::FullOuter(c) => Some((c, Kept::Both)),
        _ => None,
    }
}

/// A column of FROM as `*` shows it.
#[derive(Clone)]
struct Column {
    name: String,
    expr: Expr,
    merged: bool,
    /// `None` where it is made of columns of several types.
    data_type: Option<DataType>,
}

impl Column {
    /// Whether it is of the same type as another, as far as USING is concerned: numerics are of one.
    fn is_like(&self, other: &Column) -> bool {
        match (&self.data_type, &other.data_type) {
            (Some(DataType::Decimal128(..)), Some(DataType::Decimal128(..))) => true,
            (Some(own), Some(other)) => own == other,
            _ => false,
        }
    }

    fn is_of(&self, table: &Ident) -> bool {
        matches!(&self.expr, Expr::CompoundIdentifier(parts) if fold(&parts[0]) == fold(table))
    }
}

struct Joins<'a> {
    /// The WITH queries in scope, rewritten.
    ctes: Vec<Cte>,
    /// For each query around, how many there were before it, and its WITH, rewritten.
    ends: Vec<(usize, Option<With>)>,
    columns: &'a mut dyn FnMut(&Query) -> Option<Vec<Shown>>,
}

type Visit = ControlFlow<Box<Error>>;

impl VisitorMut for Joins<'_> {
    type Break = Box<Error>;

    fn pre_visit_query(&mut self, query: &mut Query) -> Visit {
        // Taken off, so that the walk does not come to it a second time, when its own names are in scope.
        let mut with = query.with.take();
        let before = self.ctes.len();
        for cte in with.iter_mut().flat_map(|with| &mut with.cte_tables) {
            cte.query.walk_mut(self)?;
            if names_too_few(&cte.alias, Some(&cte.query)) {
                let mut query = cte.query.clone();
                query.with = self.in_scope(query.with.take());
                if let Some(columns) = (self.columns)(&query) {
                    name_all(&mut cte.alias, columns.into_iter().map(|(name, _)| name).collect());
                }
            }
            self.ctes.push(cte.clone());
        }
        self.ends.push((before, with));
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> Visit {
        // Joins under one name are a subquery.
        if let TableFactor::NestedJoin { table_with_joins, alias: alias @ Some(_) } = factor
            && merges(table_with_joins)
            && let Ok(mut subquery) = crate::sql::parse::query("SELECT * FROM t")
            && let SetExpr::Select(select) = subquery.body.as_mut()
        {
            select.from = vec![table_with_joins.as_ref().clone()];
            *factor = TableFactor::Derived { lateral: false, subquery, alias: alias.take(), sample: None };
        }
        ControlFlow::Continue(())
    }

    fn post_visit_table_factor(&mut self, factor: &mut TableFactor) -> Visit {
        if renamed(factor).is_some() {
            let mut plain = factor.clone();
            if let TableFactor::Table { alias: Some(alias), .. } | TableFactor::Derived { alias: Some(alias), .. } =
                &mut plain
            {
                alias.columns.clear();
            }
            let names = match self.factor(&plain, &[]) {
                Ok(Some(columns)) => Some(columns.into_iter().map(|column| column.name).collect()),
                // Those of a LATERAL are told as it is written.
                Ok(None) => match &plain {
                    TableFactor::Derived { lateral: true, subquery, .. } => written_names(&subquery.body),
                    _ => None,
                },
                Err(error) => return ControlFlow::Break(Box::new(error)),
            };
            if let (
                Some(names),
                TableFactor::Table { alias: Some(alias), .. } | TableFactor::Derived { alias: Some(alias), .. },
            ) = (names, factor)
            {
                name_all(alias, names);
            }
        }
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, query: &mut Query) -> Visit {
        let rewritten = match query.body.as_mut() {
            SetExpr::Select(select) => self.select(select, Some(&mut query.order_by)),
            body => self.body(body),
        };
        let (before, with) = self.ends.pop().expect("pushed before");
        self.ctes.truncate(before);
        query.with = with;
        match rewritten {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => ControlFlow::Break(Box::new(error)),
        }
    }
}

impl Joins<'_> {
    fn body(&mut self, body: &mut SetExpr) -> Result<()> {
        match body {
            SetExpr::Select(select) => self.select(select, None),
            SetExpr::SetOperation { left, right, .. } => {
                self.body(left)?;
                self.body(right)
            }
            _ => Ok(()),
        }
    }

    fn select(&mut self, select: &mut Select, order_by: Option<&mut Option<ast::OrderBy>>) -> Result<()> {
        let merging = select.from.iter().any(merges);
        if !merging && !stars_twice(select) {
            return Ok(());
        }
        // Made on a copy, so that a join of which something is not known stays as it is.
        let (mut from, mut columns) = (Vec::new(), Vec::new());
        for mut table in select.from.iter().cloned() {
            match self.joined(&mut table, &from, &columns)? {
                Some(more) => columns.extend(more),
                None => return Ok(()),
            }
            from.push(table);
        }
        select.from = from;
        let items = std::mem::take(&mut select.projection);
        for item in items {
            match item {
                SelectItem::Wildcard(options) if options == ast::WildcardAdditionalOptions::default() => {
                    select.projection.extend(columns.iter().map(|column| match column.merged {
                        true => named(column.expr.clone(), &column.name),
                        false => SelectItem::UnnamedExpr(column.expr.clone()),
                    }));
                }
                SelectItem::QualifiedWildcard(SelectItemQualifiedWildcardKind::ObjectName(ref name), ref options)
                    if !merging && *options == ast::WildcardAdditionalOptions::default() =>
                {
                    let table = match name.0.as_slice() {
                        [part] => part.as_ident().cloned(),
                        _ => None,
                    };
                    let own: Vec<SelectItem> = columns
                        .iter()
                        .filter(|column| table.as_ref().is_some_and(|table| column.is_of(table)))
                        .map(|column| SelectItem::UnnamedExpr(column.expr.clone()))
                        .collect();
                    if own.is_empty() { select.projection.push(item) } else { select.projection.extend(own) }
                }
                SelectItem::UnnamedExpr(Expr::Identifier(ident)) => {
                    select.projection.push(match merged(&columns, &ident) {
                        Some(expr) => named(expr, &fold(&ident)),
                        None => SelectItem::UnnamedExpr(Expr::Identifier(ident)),
                    });
                }
                other => select.projection.push(other),
            }
        }
        self.replace_names(select, order_by, &columns);
        Ok(())
    }

    /// The columns of a chain of joins, whose conditions are rewritten; `None` where they are not known. What is LATERAL in
    /// it may name the columns `known` of what stands before it.
    fn joined(
        &mut self,
        table: &mut TableWithJoins,
        before: &[TableWithJoins],
        known: &[Column],
    ) -> Result<Option<Vec<Column>>> {
        let Some(mut left) = self.beside(&mut table.relation, before, known)? else { return Ok(None) };
        for i in 0..table.joins.len() {
            let chain = TableWithJoins { relation: table.relation.clone(), joins: table.joins[..i].to_vec() };
            let join = &mut table.joins[i];
            let before: Vec<TableWithJoins> = before.iter().cloned().chain([chain]).collect();
            let known: Vec<Column> = known.iter().chain(&left).cloned().collect();
            let Some(mut right) = self.beside(&mut join.relation, &before, &known)? else { return Ok(None) };
            let shared: Vec<String> = match constraint_of(&join.join_operator) {
                Some(JoinConstraint::Using(names)) => {
                    names.iter().filter_map(|n| n.0.last().and_then(|part| part.as_ident())).map(fold).collect()
                }
                Some(JoinConstraint::Natural) => {
                    let right: Vec<&str> = right.iter().map(|c| c.name.as_str()).collect();
                    left.iter().map(|c| &c.name).filter(|name| right.contains(&name.as_str())).cloned().collect()
                }
                _ => {
                    left.append(&mut right);
                    if let Some((JoinConstraint::On(on), _)) = parts_of(&mut join.join_operator) {
                        let _ = on.walk_mut(&mut Replace { joins: self, columns: &left, scopes: Vec::new() });
                    }
                    continue;
                }
            };
            let Some((constraint, kept)) = parts_of(&mut join.join_operator) else { return Ok(None) };
            let mut out = Vec::new();
            let mut conditions: Vec<Expr> = Vec::new();
            for name in &shared {
                let (l, r) = (take(&mut left, name, "left")?, take(&mut right, name, "right")?);
                conditions.push(binary(l.expr.clone(), BinaryOperator::Eq, r.expr.clone()));
                let alike = l.is_like(&r);
                let data_type = if alike { l.data_type } else { None };
                // Of several joins the first one that is known: one in the other would be looked at twice each.
                let first_known = |first: Expr, second: Expr| match &first {
                    Expr::Function(before) if before.name.to_string() == "coalesce" => {
                        let sides = crate::sql::calls::arguments(before).unwrap_or_default();
                        call("coalesce", sides.into_iter().chain([second]).collect())
                    }
                    _ => call("coalesce", vec![first, second]),
                };
                let expr = match kept {
                    Kept::Left if alike => l.expr,
                    Kept::Right if alike => r.expr,
                    // The other one is not looked at, but makes the type.
                    Kept::Right => first_known(r.expr, l.expr),
                    Kept::Left | Kept::Both => first_known(l.expr, r.expr),
                };
                out.push(Column { name: name.clone(), expr, merged: true, data_type });
            }
            let condition = conditions.into_iter().reduce(|a, b| binary(a, BinaryOperator::And, b));
            *constraint = match condition {
                None => JoinConstraint::On(Expr::Value(Value::Boolean(true).into())),
                Some(condition) => JoinConstraint::On(condition),
            };
            out.append(&mut left);
            out.append(&mut right);
            left = out;
        }
        Ok(Some(left))
    }

    /// The columns of what stands behind others in FROM.
    fn beside(
        &mut self,
        factor: &mut TableFactor,
        before: &[TableWithJoins],
        known: &[Column],
    ) -> Result<Option<Vec<Column>>> {
        if let TableFactor::NestedJoin { table_with_joins, alias: None } = factor {
            return self.joined(table_with_joins, before, known);
        }
        if !is_lateral(factor) {
            return self.factor(factor, &[]);
        }
        let _ = factor.walk_mut(&mut Replace { joins: self, columns: known, scopes: Vec::new() });
        match self.factor(factor, &[])? {
            None if !before.is_empty() => self.factor(factor, before),
            columns => Ok(columns),
        }
    }

    /// The columns of a table or subquery, which may name what stands `before` it.
    fn factor(&mut self, factor: &TableFactor, before: &[TableWithJoins]) -> Result<Option<Vec<Column>>> {
        let qualifier = match factor {
            TableFactor::Table { alias: Some(alias), .. }
            | TableFactor::Derived { alias: Some(alias), .. }
            | TableFactor::Function { alias: Some(alias), .. }
            | TableFactor::UNNEST { alias: Some(alias), .. } => alias.name.clone(),
            TableFactor::Table { name, args: Some(_), .. } if window_kind(name).is_some() => {
                match window::rewrite(factor)? {
                    Some(TableFactor::Derived { alias: Some(alias), .. }) => alias.name,
                    _ => return Ok(None),
                }
            }
            TableFactor::Table { name, .. } | TableFactor::Function { name, .. } => {
                match name.0.last().and_then(|part| part.as_ident()) {
                    Some(ident) => ident.clone(),
                    None => return Ok(None),
                }
            }
            _ => return Ok(None),
        };
        let Ok(mut query) = crate::sql::parse::query("SELECT * FROM t") else { return Ok(None) };
        if let SetExpr::Select(select) = query.body.as_mut() {
            let own = TableWithJoins { relation: factor.clone(), joins: Vec::new() };
            select.from = before.iter().cloned().chain([own]).collect();
            if !before.is_empty() {
                let table = SelectItemQualifiedWildcardKind::ObjectName(ObjectName::from(vec![qualifier.clone()]));
                select.projection = vec![SelectItem::QualifiedWildcard(table, Default::default())];
            }
        }
        query.with = self.in_scope(None);
        let shown = (self.columns)(query.as_ref());
        Ok(shown.map(|shown| {
            let column = |(name, data_type): Shown| {
                let parts = vec![Ident::with_quote('"', fold(&qualifier)), Ident::with_quote('"', &name)];
                Column { expr: Expr::CompoundIdentifier(parts), name, merged: false, data_type: Some(data_type) }
            };
            shown.into_iter().map(column).collect()
        }))
    }

    /// `own`, after the WITH queries around it.
    fn in_scope(&self, own: Option<With>) -> Option<With> {
        let mut cte_tables = self.visible();
        cte_tables.extend(own.into_iter().flat_map(|with| with.cte_tables));
        let with_token = ast::helpers::attached_token::AttachedToken::empty();
        (!cte_tables.is_empty()).then_some(With { with_token, recursive: true, cte_tables })
    }

    /// The WITH queries in scope, without those that an inner one of the same name hides.
    fn visible(&self) -> Vec<Cte> {
        let hidden =
            |i: usize, cte: &Cte| self.ctes[i + 1..].iter().any(|c| fold(&c.alias.name) == fold(&cte.alias.name));
        self.ctes.iter().enumerate().filter(|(i, cte)| !hidden(*i, cte)).map(|(_, cte)| cte.clone()).collect()
    }
}

/// Whether it may name columns of what stands before it.
fn is_lateral(factor: &TableFactor) -> bool {
    match factor {
        TableFactor::Derived { lateral, .. } => *lateral,
        TableFactor::Table { name, args: Some(_), .. } => window_kind(name).is_none(),
        TableFactor::Function { .. } | TableFactor::UNNEST { .. } => true,
        _ => false,
    }
}

/// Error: 0A000 for a join of a bound plan that has kept its USING.
pub fn check_merged(plan: &LogicalPlan) -> Result<()> {
    let mut kept = false;
    let looked = plan.apply_with_subqueries(|node| {
        kept |= matches!(node, LogicalPlan::Join(join) if join.join_constraint == PlannedConstraint::Using);
        Ok(if kept { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    });
    looked.map_err(error_from)?;
    match kept {
        true => Err(Error::unsupported("USING beside a LATERAL that names columns of a query around it")
            .hint("Write ON instead of USING.")),
        false => Ok(()),
    }
}

/// The names of a factor that may be fewer than its columns.
fn renamed(factor: &TableFactor) -> Option<&TableAlias> {
    match factor {
        TableFactor::Table { alias: Some(alias), args: None, .. } if names_too_few(alias, None) => Some(alias),
        TableFactor::Derived { alias: Some(alias), subquery, .. } if names_too_few(alias, Some(subquery)) => {
            Some(alias)
        }
        _ => None,
    }
}

/// True too where it cannot be seen.
fn names_too_few(alias: &TableAlias, query: Option<&Query>) -> bool {
    let columns = query.and_then(|query| match query.body.as_ref() {
        SetExpr::Values(values) => values.rows.first().map(|row| row.len()),
        SetExpr::Select(select) => {
            let plain =
                |item: &SelectItem| matches!(item, SelectItem::UnnamedExpr(_) | SelectItem::ExprWithAlias { .. });
            select.projection.iter().all(plain).then_some(select.projection.len())
        }
        _ => None,
    });
    !alias.columns.is_empty() && columns.is_none_or(|columns| alias.columns.len() < columns)
}

/// The names of a query's columns, where each is written and no two are the same.
fn written_names(body: &SetExpr) -> Option<Vec<String>> {
    let names: Vec<String> = match body {
        SetExpr::Select(select) => {
            let name = |item: &SelectItem| match item {
                SelectItem::UnnamedExpr(expr) => Some(name_of_expr(expr).unwrap_or_else(|| "?column?".into())),
                SelectItem::ExprWithAlias { alias, .. } => Some(fold(alias)),
                _ => None,
            };
            select.projection.iter().map(name).collect::<Option<_>>()?
        }
        SetExpr::Values(values) => (1..=values.rows.first()?.len()).map(|n| format!("column{n}")).collect(),
        SetExpr::SetOperation { left, .. } => return written_names(left),
        SetExpr::Query(query) => return written_names(&query.body),
        _ => return None,
    };
    let repeated = names.iter().enumerate().any(|(at, name)| names[..at].contains(name));
    (!repeated).then_some(names)
}

fn name_all(alias: &mut TableAlias, names: Vec<String>) {
    let more = names.into_iter().skip(alias.columns.len());
    alias.columns.extend(more.map(|name| TableAliasColumnDef { name: Ident::with_quote('"', name), data_type: None }));
}

/// Takes the one column of this name.
fn take(columns: &mut Vec<Column>, name: &str, side: &str) -> Result<Column> {
    let mut places = (0..columns.len()).filter(|&i| columns[i].name == name);
    match (places.next(), places.next()) {
        (Some(place), None) => Ok(columns.remove(place)),
        (None, _) => Err(Error::new(
            "42703",
            format!("column \"{name}\" specified in USING clause does not exist in {side} table"),
        )),
        (Some(_), Some(_)) => {
            Err(Error::new("42702", format!("common column name \"{name}\" appears more than once in {side} table")))
        }
    }
}

fn named(expr: Expr, name: &str) -> SelectItem {
    SelectItem::ExprWithAlias { expr, alias: Ident::with_quote('"', name) }
}

/// What an unqualified name means, if it is a joined column.
fn merged(columns: &[Column], ident: &Ident) -> Option<Expr> {
    let name = fold(ident);
    let mut found = columns.iter().filter(|column| column.name == name);
    match (found.next(), found.next()) {
        (Some(column), None) if column.merged => Some(column.expr.clone()),
        _ => None,
    }
}

/// Puts what they mean in place of the joined columns' unqualified names.
struct Replace<'a, 'b> {
    joins: &'a mut Joins<'b>,
    columns: &'a [Column],
    /// For each subquery around: how many WITH queries there were before it, and the names that its own FROM has; `None`
    /// where they are not known.
    scopes: Vec<(usize, Option<Vec<String>>)>,
}

impl VisitorMut for Replace<'_, '_> {
    type Break = ();

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
        let before = self.joins.ctes.len();
        self.joins.ctes.extend(query.with.iter().flat_map(|with| with.cte_tables.iter().cloned()));
        let columns = self.columns;
        let named = visit::visit_expressions(query, |expr| match expr {
            Expr::Identifier(ident) if merged(columns, ident).is_some() => ControlFlow::Break(()),
            _ => ControlFlow::Continue(()),
        });
        // Without such a name it does not matter what there is.
        let names = if named.is_break() { self.joins.names_in(&query.body) } else { None };
        self.scopes.push((before, names));
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _: &mut Query) -> ControlFlow<()> {
        let (before, _) = self.scopes.pop().expect("pushed before");
        self.joins.ctes.truncate(before);
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        if let Expr::Identifier(ident) = &*expr
            && let Some(meant) = merged(self.columns, ident)
        {
            let name = fold(ident);
            let inner = |(_, names): &(usize, Option<Vec<String>>)| names.as_ref().is_none_or(|n| n.contains(&name));
            if !self.scopes.iter().any(inner) {
                *expr = meant;
            }
        }
        ControlFlow::Continue(())
    }
}

impl Joins<'_> {
    /// The names of all columns in FROM of a query's SELECTs.
    fn names_in(&mut self, body: &SetExpr) -> Option<Vec<String>> {
        match body {
            SetExpr::Select(select) => {
                let mut names = Vec::new();
                for mut table in select.from.iter().cloned() {
                    names.extend(self.joined(&mut table, &[], &[]).ok()??.into_iter().map(|column| column.name));
                }
                Some(names)
            }
            SetExpr::SetOperation { left, right, .. } => {
                let mut names = self.names_in(left)?;
                names.extend(self.names_in(right)?);
                Some(names)
            }
            SetExpr::Query(query) => self.names_in(&query.body),
            SetExpr::Values(_) => Some(Vec::new()),
            _ => None,
        }
    }

    /// Not where ORDER BY names a column of the result.
    fn replace_names(&mut self, select: &mut Select, order_by: Option<&mut Option<ast::OrderBy>>, columns: &[Column]) {
        let mut replace = Replace { joins: self, columns, scopes: Vec::new() };

        let shown: Vec<String> = select
            .projection
            .iter()
            .filter_map(|item| match item {
                SelectItem::ExprWithAlias { alias, .. } => Some(fold(alias)),
                SelectItem::UnnamedExpr(Expr::CompoundIdentifier(parts)) => parts.last().map(fold),
                _ => None,
            })
            .collect();
        let from = std::mem::take(&mut select.from);
        let _ = select.walk_mut(&mut replace);
        select.from = from;
        let Some(Some(order_by)) = order_by else { return };
        let OrderByKind::Expressions(exprs) = &mut order_by.kind else { return };
        for item in exprs {
            if !matches!(&item.expr, Expr::Identifier(ident) if shown.contains(&fold(ident))) {
                let _ = item.walk_mut(&mut replace);
            }
        }
    }
}
