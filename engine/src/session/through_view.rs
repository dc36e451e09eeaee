//! INSERT, UPDATE and DELETE through a view that shows rows of one table: its columns are those of the table, or computed of
//! its row. The rows are found by the view's query, beside which the table's own columns are kept.
//!
//! ```text
//!   CREATE VIEW v AS SELECT a AS x, upper(s) AS y FROM t WHERE a > 0
//!
//!   UPDATE v SET x = 1 WHERE y = 'B'   ──►   UPDATE t SET a = 1, of the rows that are found by
//!     SELECT "mr base 0", "mr base 1" FROM
//!       (SELECT "mr base 0", "mr base 1", a AS x, upper(s) AS y FROM
//!         (SELECT a AS "mr base 0", s AS "mr base 1", a, s FROM t) AS t WHERE a > 0) AS v WHERE y = 'B'
//! ```

use std::ops::ControlFlow;
use std::sync::Arc;

use arrow::array::RecordBatch;
use sqlparser::ast;

use super::Session;
use super::dml::{full_name, named_columns, quoted};
use super::returning::{RETURNED_ROW, numbered};
use crate::catalog::{Catalog, Relation, RelationId, RelationKind};
use crate::error::{Error, Result};
use crate::sql::calls::returns_set;
use crate::sql::grouped::is_aggregate;
use crate::sql::outside::visit_outside;
use crate::sql::parse::{fold, name_of};
use crate::sql::statement::{Name, OnConflict};
use crate::sql::visit;

/// The option of a view that WITH CHECK OPTION leaves.
pub(super) const CHECK_OPTION: &str = "check_option";
/// Stands for the table's rows where they are given.
const GIVEN: &str = "mr given rows";
/// As deep as views are looked into.
const DEPTH_MAX: usize = 64;

/// What a statement changes.
pub(super) struct Target {
    pub(super) table: Arc<Relation>,
    pub(super) through: Option<Through>,
}

/// A view, and the views below it, down to the table.
pub(super) struct Through {
    pub(super) view: Arc<Relation>,
    table: Arc<Relation>,
    /// The outermost first.
    levels: Vec<Level>,
}

struct Level {
    view: Arc<Relation>,
    /// What its FROM is called in its query.
    alias: String,
    /// One for each of its columns.
    items: Vec<ast::Expr>,
    condition: Option<ast::Expr>,
    /// The table's column that each of its columns is.
    columns: Vec<Option<usize>>,
}

impl Target {
    /// As what the rows are known in the statement.
    pub(super) fn shown(&self) -> &Arc<Relation> {
        self.through.as_ref().map_or(&self.table, |through| &through.view)
    }

    /// The columns of the table that these are, all of them where none is named. Errors: 42703, 42701, 0A000.
    pub(super) fn named(&self, names: &[String], what: &str) -> Result<Vec<usize>> {
        let named = named_columns(self.shown(), names)?;
        let Some(through) = &self.through else { return Ok(named) };
        if names.is_empty() {
            // As many as there are before one that is computed.
            return Ok(through.levels[0].columns.iter().map_while(|column| *column).collect());
        }
        let of_table = |column: usize| {
            through.levels[0].columns[column].ok_or_else(|| {
                let (name, view) = (&through.view.columns[column].name, &through.view.name);
                Error::new("0A000", format!("cannot {what} column \"{name}\" of view \"{view}\""))
                    .detail("View columns that are not columns of their base relation are not updatable.")
            })
        };
        named.into_iter().map(of_table).collect()
    }

    /// ON CONFLICT as it is to be asked of the table. Error: 0A000 for what would name the view's columns.
    pub(super) fn on_conflict(&self, of: Option<&OnConflict>) -> Result<Option<OnConflict>> {
        let (Some(on_conflict), Some(_)) = (of, &self.through) else { return Ok(of.cloned()) };
        if !on_conflict.assignments.is_empty() || on_conflict.filter.is_some() {
            return Err(Error::unsupported("ON CONFLICT DO UPDATE through a view"));
        }
        let target = match on_conflict.target.is_empty() {
            true => Vec::new(),
            false => self.named(&on_conflict.target, "insert into")?,
        };
        let target = target.into_iter().map(|column| self.table.columns[column].name.clone()).collect();
        Ok(Some(OnConflict { target, ..on_conflict.clone() }))
    }

    /// Assignments to columns of the table.
    pub(super) fn assignments(&self, of: &[(String, ast::Expr)]) -> Result<Vec<(String, ast::Expr)>> {
        let assigned = of.iter().map(|(name, expr)| {
            let column = self.named(std::slice::from_ref(name), "update")?[0];
            Ok((self.table.columns[column].name.clone(), expr.clone()))
        });
        assigned.collect()
    }
}

impl Through {
    /// The view's rows, and before them, as [`base`], the columns of the table, which is called `from`. Where rows are given
    /// they are all shown, numbered, unless they are `checked`.
    fn query(&self, from: &str, given: bool, checked: bool) -> String {
        let own = (0..self.table.columns.len()).map(|i| quoted(&base(i)));
        let own: Vec<String> = own.chain(given.then(|| quoted(RETURNED_ROW))).collect();
        let columns = self.table.columns.iter().map(|column| quoted(&column.name));
        let hidden = columns.clone().enumerate().map(|(i, name)| format!("{name} AS {}", quoted(&base(i))));
        let first: Vec<String> = hidden.chain(columns).chain(given.then(|| quoted(RETURNED_ROW))).collect();
        let mut text = format!("SELECT {} FROM {from}", first.join(", "));
        let cascaded = |above: &[Level]| {
            above.iter().any(|level| level.view.options.get(CHECK_OPTION).is_some_and(|option| option == "cascaded"))
        };
        for (i, level) in self.levels.iter().enumerate().rev() {
            let names = level.view.columns.iter().map(|column| quoted(&column.name));
            let items = level.items.iter().zip(names).map(|(item, name)| format!("{item} AS {name}"));
            let items: Vec<String> = own.iter().cloned().chain(items).collect();
            text = format!("SELECT {} FROM ({text}) AS {}", items.join(", "), quoted(&level.alias));
            let asked = match (given, checked) {
                (false, _) => true,
                (true, checked) => {
                    checked && (level.view.options.contains_key(CHECK_OPTION) || cascaded(&self.levels[..i]))
                }
            };
            if let Some(condition) = level.condition.as_ref().filter(|_| asked) {
                text = format!("{text} WHERE {condition}");
            }
        }
        text
    }

    /// What a statement finds its rows in.
    pub(super) fn source(&self) -> String {
        format!("({})", self.query(&full_name(&self.table), false, false))
    }

    fn is_checked(&self) -> bool {
        self.levels.iter().any(|level| level.view.options.contains_key(CHECK_OPTION))
    }
}

/// What the i-th column of the table is called beside the columns of a view.
pub(super) fn base(i: usize) -> String {
    format!("mr base {i}")
}

fn not_updatable(view: &Relation, what: &str, why: &str) -> Error {
    let doing = what.split(' ').next().unwrap_or(what);
    Error::new("55000", format!("cannot {what} view \"{}\"", view.name))
        .detail(why)
        .hint(format!("To {doing} rows of it, {doing} those of the table that it shows."))
}

impl Session {
    /// The relation itself, or the table that a view shows rows of.
    pub(super) fn target(&self, name: &Name, what: &str) -> Result<Target> {
        let relation = self.relation(name)?;
        if relation.kind != RelationKind::View {
            return Ok(Target { table: self.writable(name, what)?, through: None });
        }
        let (levels, below) = levels_of(&relation, &self.core.catalog(), what)?;
        let table = self.writable(&Name { schema: Some(below.schema_name.clone()), name: below.name.clone() }, what)?;
        Ok(Target { table: table.clone(), through: Some(Through { view: relation, table, levels }) })
    }

    /// Whether rows can be written through a view that is to check them.
    pub(super) fn check_updatable(&self, view: &Relation) -> Result<()> {
        match level_of(&Arc::new(view.clone()), &self.core.catalog(), "update") {
            Ok(_) => Ok(()),
            Err(error) => {
                let message = "WITH CHECK OPTION is supported only on automatically updatable views";
                Err(Error::new("0A000", message).hint(error.detail.unwrap_or_default()))
            }
        }
    }

    /// The table that a statement's name means, for what is asked of it before it runs.
    pub(super) fn target_table(&self, name: &Name) -> Option<Arc<Relation>> {
        match self.existing(name)? {
            view if view.kind == RelationKind::View => self.target(name, "update").ok().map(|target| target.table),
            other => Some(other),
        }
    }

    /// Rows of the table as the view shows them, in their order.
    async fn as_shown(&mut self, through: &Through, rows: RecordBatch) -> Result<RecordBatch> {
        let columns: Vec<String> = through.view.columns.iter().map(|column| quoted(&column.name)).collect();
        let (columns, row) = (columns.join(", "), quoted(RETURNED_ROW));
        let query = through.query(&quoted(GIVEN), true, false);
        let text = format!("SELECT {columns} FROM ({query}) AS shown ORDER BY {row}");
        self.rows_of(&text, &[(GIVEN, numbered(rows)?)], &[]).await
    }

    /// What RETURNING is asked of: changed rows of the table as the statement knows them.
    pub(super) async fn as_returned(
        &mut self,
        target: &Target,
        returning: &Option<Vec<ast::SelectItem>>,
        rows: RecordBatch,
    ) -> Result<RecordBatch> {
        match &target.through {
            Some(through) if returning.is_some() => self.as_shown(through, rows).await,
            _ => Ok(rows),
        }
    }

    /// Checks new rows of the table by what WITH CHECK OPTION says. Error: 44000.
    pub(super) async fn check_option(&mut self, through: Option<&Through>, rows: &RecordBatch) -> Result<()> {
        let Some(through) = through.filter(|through| through.is_checked()) else { return Ok(()) };
        let query = through.query(&quoted(GIVEN), true, true);
        let shown = self.rows_of(&query, &[(GIVEN, numbered(rows.clone())?)], &[]).await?;
        if shown.num_rows() == rows.num_rows() {
            return Ok(());
        }
        Err(Error::new("44000", format!("new row violates check option for view \"{}\"", through.view.name)))
    }
}

/// The table or stream that rows of a view can be written to, and which of its columns each of the view's is; `None` where they
/// cannot be.
pub fn written_to(view: &Arc<Relation>, catalog: &Catalog) -> Option<(Arc<Relation>, Vec<Option<usize>>)> {
    let (mut levels, below) = levels_of(view, catalog, "update").ok()?;
    let writable = matches!(below.kind, RelationKind::Table | RelationKind::Stream);
    (writable && !levels.is_empty()).then(|| (below, levels.swap_remove(0).columns))
}

/// A view, the views below it, and what is below them. Error: 55000.
fn levels_of(view: &Arc<Relation>, catalog: &Catalog, what: &str) -> Result<(Vec<Level>, Arc<Relation>)> {
    let mut levels: Vec<Level> = Vec::new();
    let mut below = view.clone();
    while below.kind == RelationKind::View {
        if levels.len() >= DEPTH_MAX {
            return Err(not_updatable(view, what, "Too many views lie between it and its table."));
        }
        let (level, next) = level_of(&below, catalog, what)?;
        levels.push(level);
        below = next;
    }
    // From the table up: which of its columns each one is.
    let mut known: Vec<(String, Option<usize>)> =
        below.columns.iter().enumerate().map(|(i, column)| (column.name.clone(), Some(i))).collect();
    for level in levels.iter_mut().rev() {
        level.columns = level
            .items
            .iter()
            .map(|item| {
                let name = match item {
                    ast::Expr::Identifier(name) => fold(name),
                    ast::Expr::CompoundIdentifier(parts) => parts.last().map(fold)?,
                    _ => return None,
                };
                known.iter().find(|(known, _)| *known == name)?.1
            })
            .collect();
        let names = level.view.columns.iter().map(|column| column.name.clone());
        known = names.zip(level.columns.iter().copied()).collect();
    }
    Ok((levels, below))
}

/// A view's query apart, and the relation that it shows rows of. Error: 55000.
fn level_of(view: &Arc<Relation>, catalog: &Catalog, what: &str) -> Result<(Level, Arc<Relation>)> {
    let refuse = |why: &str| Err(not_updatable(view, what, why));
    let mut query = crate::sql::parse::query(view.query.as_deref().unwrap_or_default())?;
    qualify(&mut query, view, catalog);
    if query.with.is_some() {
        return refuse("Views containing WITH are not automatically updatable.");
    }
    if query.limit_clause.is_some() || query.fetch.is_some() {
        return refuse("Views containing LIMIT or OFFSET are not automatically updatable.");
    }
    let ast::SetExpr::Select(select) = query.body.as_mut() else {
        return refuse("Views containing UNION, INTERSECT, or EXCEPT are not automatically updatable.");
    };
    let groups = !matches!(&select.group_by, ast::GroupByExpr::Expressions(groups, _) if groups.is_empty());
    if select.distinct.is_some() {
        return refuse("Views containing DISTINCT are not automatically updatable.");
    }
    if groups {
        return refuse("Views containing GROUP BY are not automatically updatable.");
    }
    if select.having.is_some() {
        return refuse("Views containing HAVING are not automatically updatable.");
    }
    let [ast::TableWithJoins { relation: ast::TableFactor::Table { name, alias, args: None, .. }, joins }] =
        &select.from[..]
    else {
        return refuse("Views that do not select from a single table or view are not automatically updatable.");
    };
    let named = name_of(name)?;
    let find = |id: &RelationId| catalog.get(*id).filter(|r| r.name == named.name).cloned();
    let renames = alias.as_ref().is_some_and(|alias| !alias.columns.is_empty());
    let Some(below) = view.depends_on.iter().find_map(find).filter(|_| joins.is_empty() && !renames) else {
        return refuse("Views that do not select from a single table or view are not automatically updatable.");
    };
    let alias = alias.as_ref().map_or(named.name, |alias| fold(&alias.name));
    let mut items = Vec::new();
    for item in &select.projection {
        match item {
            ast::SelectItem::UnnamedExpr(expr) | ast::SelectItem::ExprWithAlias { expr, .. } => {
                items.push(expr.clone());
            }
            _ => items.extend(below.columns.iter().map(|column| {
                ast::Expr::CompoundIdentifier(vec![
                    ast::Ident::with_quote('"', &alias),
                    ast::Ident::with_quote('"', &column.name),
                ])
            })),
        }
    }
    let of_rows = |expr: &ast::Expr| match expr {
        ast::Expr::Function(call) => {
            let name = call.name.0.last().and_then(|part| part.as_ident()).map(fold).unwrap_or_default();
            let is = call.over.is_some() || is_aggregate(expr) || returns_set(&name) || name == "unnest";
            if is { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        }
        _ => ControlFlow::Continue(()),
    };
    if items.iter().any(|item| visit_outside(item, of_rows).is_break()) {
        return refuse("Views that return aggregate functions are not automatically updatable.");
    }
    if items.len() != view.columns.len() {
        return refuse("Its query does not say which columns it has.");
    }
    let level = Level { view: view.clone(), alias, items, condition: select.selection.clone(), columns: Vec::new() };
    Ok((level, below))
}

/// Names the relations of a view's query with their schemas, wherever it is run.
fn qualify(query: &mut ast::Query, view: &Relation, catalog: &Catalog) {
    let known: Vec<&Arc<Relation>> = view.depends_on.iter().filter_map(|id| catalog.get(*id)).collect();
    let _ = visit::visit_relations_mut(query, |name| {
        if let [ast::ObjectNamePart::Identifier(own)] = name.0.as_slice()
            && let Some(relation) = known.iter().find(|relation| relation.name == fold(own))
        {
            let schema = ast::Ident::with_quote('"', &relation.schema_name);
            name.0.insert(0, ast::ObjectNamePart::Identifier(schema));
        }
        ControlFlow::<()>::Continue(())
    });
}
