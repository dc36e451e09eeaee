//! NOT NULL, CHECK and UNIQUE: what is so of the rows of a table.
//!
//! A CHECK is held against each row that INSERT, UPDATE or COPY is about to write, here: it looks at that row alone, so
//! nobody else's commit can make it wrong. Keys are checked where all commits pass (`state/table.rs`).

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex};

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, RecordBatchOptions};
use arrow::datatypes::DataType;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Column, DFSchema};
use datafusion::logical_expr::{Expr, LogicalPlan};
use datafusion::physical_expr::PhysicalExpr;
use sqlparser::ast;

use super::Session;
use super::dml::quoted;
use super::query::{bind_query, session_state};
use super::returning::no_rows;
use crate::catalog::{Catalog, Check, Index, Relation, RelationId};
use crate::error::{Error, Result};
use crate::sql::bind::error_from;
use crate::sql::conditions::columns_named;
use crate::sql::context::Settings as BindSettings;
use crate::sql::functions::is_steady;
use crate::sql::parse::parse_expression;
use crate::sql::statement::{Constraint, ConstraintKind};
use crate::sql::text::value_to_text;
use crate::sql::visit;

/// An expression on the columns of one relation.
#[derive(Clone)]
pub(super) struct OnRow(Arc<dyn PhysicalExpr>);

/// A session's conditions, bound, by relation and check: neither's columns and text ever change under one id.
#[derive(Default)]
pub(super) struct Conditions(Mutex<HashMap<(RelationId, Part), OnRow>>);

/// What of a relation an expression on its rows is of.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Part {
    Check(RelationId),
    /// One that is generated.
    Column(usize),
}

/// A session that writes to more tables than that binds their conditions again.
const CONDITIONS_MAX: usize = 256;

impl OnRow {
    pub fn of(&self, rows: &RecordBatch) -> Result<ArrayRef> {
        let value = self.0.evaluate(rows).and_then(|value| value.into_array(rows.num_rows()));
        value.map_err(error_from)
    }
}

impl Session {
    /// Whole rows of these columns, if nothing that is so of the relation's rows is not so of one of them.
    pub(super) fn checked(&self, relation: &Relation, columns: Vec<ArrayRef>, rows: usize) -> Result<RecordBatch> {
        let columns = self.with_generated(relation, columns, rows)?;
        for (column, values) in relation.columns.iter().zip(&columns) {
            if !column.nullable && values.null_count() > 0 {
                let row = (0..rows).find(|&row| values.is_null(row)).expect("one is");
                let (name, table) = (&column.name, &relation.name);
                let message =
                    format!("null value in column \"{name}\" of relation \"{table}\" violates not-null constraint");
                let error = Error::new("23502", message).of_table(&relation.schema_name, table).of_column(name);
                return Err(error.detail(self.failing_row(relation, &columns, row)?));
            }
        }
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let rows = RecordBatch::try_new_with_options(relation.arrow_schema(), columns, &options);
        let rows = rows.map_err(Error::internal)?;
        if rows.num_rows() > 0 && !relation.checks.is_empty() {
            self.check_conditions(relation, &relation.checks, &rows, true)?;
        }
        Ok(rows)
    }

    /// Holds conditions against rows that are `new`, or there already.
    pub(super) fn check_conditions(
        &self,
        relation: &Relation,
        checks: &[Check],
        rows: &RecordBatch,
        new: bool,
    ) -> Result<()> {
        // In the order of their names, as in Postgres.
        let mut checks: Vec<&Check> = checks.iter().collect();
        checks.sort_by(|a, b| a.name.cmp(&b.name));
        let mut first: Option<(usize, &str)> = None;
        for check in checks {
            let holds = self.kept_on_row(relation, Part::Check(check.id), &check.expression)?.of(rows)?;
            let holds = holds.as_boolean();
            let wrong = (0..rows.num_rows()).find(|&row| holds.is_valid(row) && !holds.value(row));
            if let Some(row) = wrong.filter(|&row| first.is_none_or(|(before, _)| row < before)) {
                first = Some((row, &check.name));
            }
        }
        let Some((row, name)) = first else { return Ok(()) };
        let table = &relation.name;
        if !new {
            let message = format!("check constraint \"{name}\" of relation \"{table}\" is violated by some row");
            return Err(Error::new("23514", message).of_table(&relation.schema_name, table).of_constraint(name));
        }
        let message = format!("new row for relation \"{table}\" violates check constraint \"{name}\"");
        let error = Error::new("23514", message).of_table(&relation.schema_name, table).of_constraint(name);
        Err(error.detail(self.failing_row(relation, rows.columns(), row)?))
    }

    /// An expression on a relation's columns, bound once.
    pub(super) fn kept_on_row(&self, relation: &Relation, part: Part, expression: &str) -> Result<OnRow> {
        let key = (relation.id, part);
        if let Some(known) = self.conditions.0.lock().expect("no panic while held").get(&key) {
            return Ok(known.clone());
        }
        let bound = self.on_row(relation, expression)?;
        let mut known = self.conditions.0.lock().expect("no panic while held");
        if known.len() >= CONDITIONS_MAX {
            known.clear();
        }
        known.insert(key, bound.clone());
        Ok(bound)
    }

    fn failing_row(&self, relation: &Relation, columns: &[ArrayRef], row: usize) -> Result<String> {
        /// As many characters of a value Postgres shows.
        const SHOWN_MAX: usize = 64;
        let (schema, style) = (relation.arrow_schema(), self.style()?);
        let values = schema.fields().iter().zip(columns).map(|(field, column)| {
            match value_to_text(field, column, row, &style) {
                None => "null".to_string(),
                Some(text) if text.chars().count() > SHOWN_MAX => {
                    text.chars().take(SHOWN_MAX).chain("...".chars()).collect()
                }
                Some(text) => text,
            }
        });
        Ok(format!("Failing row contains ({}).", values.collect::<Vec<_>>().join(", ")))
    }

    /// Binds an expression on a relation's columns, as a SELECT from it would. It may look at nothing else.
    pub(super) fn on_row(&self, relation: &Relation, expression: &str) -> Result<OnRow> {
        self.bound_on_row(relation, expression).map(|(on_row, _)| on_row)
    }

    pub(super) fn bound_on_row(&self, relation: &Relation, expression: &str) -> Result<(OnRow, Expr)> {
        let settings = BindSettings { time_zone: relation.time_zone.clone(), ..self.bind_settings() };
        let mut scope = self.scope();
        scope.extra.insert(relation.name.clone(), no_rows(relation)?);
        let state = session_state(&settings, scope.system.as_ref())?;
        let text = format!("SELECT ({expression}) AS v FROM {}", quoted(&relation.name));
        let query = crate::sql::parse::query(&text)?;
        let bound = bind_query(&state, &scope, &query, &[]).map_err(Error::nowhere)?;
        let LogicalPlan::Projection(projection) = &bound.plan else { return Err(not_a_row_s(&bound.plan)) };
        let mut input = projection.input.as_ref();
        while let LogicalPlan::SubqueryAlias(alias) = input {
            input = alias.input.as_ref();
        }
        if !matches!(input, LogicalPlan::TableScan(_)) {
            return Err(not_a_row_s(input));
        }
        let expr = projection.expr[0].clone().unalias();
        let subquery = |e: &Expr| Ok(matches!(e, Expr::ScalarSubquery(_) | Expr::Exists(_) | Expr::InSubquery(_)));
        if expr.exists(subquery).map_err(error_from)? {
            return Err(Error::unsupported("a subquery here"));
        }
        let physical = state.create_physical_expr(expr.clone(), projection.input.schema()).map_err(error_from)?;
        Ok((OnRow(physical), expr))
    }

    /// Checks what CHECK says: a condition that is the same of a row at any time.
    fn check_condition(&self, relation: &Relation, expression: &str) -> Result<()> {
        let parsed = parse_expression(expression)?;
        let subquery = visit::visit_expressions(&parsed, |e| match e {
            ast::Expr::Subquery(_) | ast::Expr::Exists { .. } | ast::Expr::InSubquery { .. } => ControlFlow::Break(()),
            _ => ControlFlow::Continue(()),
        });
        if subquery.is_break() {
            return Err(Error::unsupported("a subquery in a check constraint"));
        }
        let (_, expr) = self.bound_on_row(relation, expression)?;
        if changes(&expr, relation)? {
            return Err(Error::new("42P17", "functions in check constraint must be immutable"));
        }
        let none = RecordBatch::new_empty(relation.arrow_schema());
        match self.on_row(relation, expression)?.of(&none)?.data_type() {
            DataType::Boolean => Ok(()),
            other => {
                let sql_type = crate::sql::types::sql_type_of(&arrow::datatypes::Field::new("", other.clone(), true));
                let message = format!("argument of CHECK must be type boolean, not type {sql_type}");
                Err(Error::new("42804", message))
            }
        }
    }

    /// Adds constraints, as they were declared, to a relation.
    pub(super) fn add_constraints(&self, relation: &mut Relation, constraints: &[Constraint]) -> Result<()> {
        let catalog = self.core.catalog();
        // A foreign key may be to a key of the same table.
        let (references, others): (Vec<_>, Vec<_>) =
            constraints.iter().partition(|constraint| matches!(constraint.kind, ConstraintKind::ForeignKey(_)));
        for Constraint { name, kind } in others.into_iter().chain(references) {
            if let Some(name) = name.as_ref().filter(|name| relation.has_constraint(name)) {
                let message = format!("constraint \"{name}\" for relation \"{}\" already exists", relation.name);
                return Err(Error::new("42710", message));
            }
            match kind {
                ConstraintKind::ForeignKey(key) => {
                    let key = self.foreign_key(relation, name.as_deref(), key)?;
                    relation.foreign_keys.push(key);
                }
                ConstraintKind::PrimaryKey(_) => unreachable!("a part of the relation itself"),
                ConstraintKind::Unique(columns) => {
                    let columns = key_columns(relation, columns)?;
                    let name = self.index_name(&catalog, relation, name.as_deref(), &columns, "key")?;
                    let id = self.core.store.next_id()?;
                    relation.indexes.push(Index { id, name, columns, unique: true, constraint: true });
                }
                ConstraintKind::Check(expression) => {
                    self.check_condition(relation, expression)?;
                    let name = name.clone().unwrap_or_else(|| check_name(relation, expression));
                    let id = self.core.store.next_id()?;
                    relation.checks.push(Check { id, name, expression: expression.clone() });
                }
            }
        }
        Ok(())
    }

    /// The name of an index: as given, which must be free, or made of its columns.
    pub(super) fn index_name(
        &self,
        catalog: &Catalog,
        relation: &Relation,
        name: Option<&str>,
        columns: &[usize],
        suffix: &str,
    ) -> Result<String> {
        let taken = |name: &str| {
            catalog.is_taken(&relation.schema_name, name)
                || relation.name == name
                || relation.has_constraint(name)
                || relation.indexes.iter().any(|index| index.name == name)
        };
        if let Some(name) = name {
            return if taken(name) { Err(super::ddl::already_exists(name)) } else { Ok(name.to_string()) };
        }
        let columns: Vec<&str> = columns.iter().map(|&c| relation.columns[c].name.as_str()).collect();
        let plain = crate::catalog::made_name(&relation.name, Some(&columns.join("_")), suffix);
        Ok(free(plain, taken))
    }
}

/// Whether an expression on a relation's rows may be another of the same row at another time.
pub(super) fn changes(expr: &Expr, relation: &Relation) -> Result<bool> {
    let schema = DFSchema::try_from(relation.arrow_schema().as_ref().clone()).map_err(error_from)?;
    // Its columns are all the relation's.
    let unqualified = |e: Expr| match e {
        Expr::Column(column) => Transformed::yes(Expr::Column(Column::new_unqualified(column.name))),
        other => Transformed::no(other),
    };
    let expr = expr.clone().transform_up(|e| Ok(unqualified(e))).map_err(error_from)?.data;
    let changes = |e: &Expr| {
        Ok(match e {
            Expr::ScalarFunction(f) => !is_steady(f, &schema),
            Expr::ScalarVariable(..) => true,
            _ => false,
        })
    };
    expr.exists(changes).map_err(error_from)
}

/// The name itself, or with the first number that makes it free.
pub(super) fn free(plain: String, taken: impl Fn(&str) -> bool) -> String {
    let numbered = (1..).map(|n| format!("{plain}{n}"));
    let mut names = std::iter::once(plain.clone()).chain(numbered);
    names.find(|name| !taken(name)).expect("numbers do not end")
}

/// `t_a_check` of a condition on one column, else `t_check`.
fn check_name(relation: &Relation, expression: &str) -> String {
    let plain = match &columns_named(relation, expression)[..] {
        [column] => crate::catalog::made_name(&relation.name, Some(&relation.columns[*column].name), "check"),
        _ => crate::catalog::made_name(&relation.name, None, "check"),
    };
    free(plain, |name| relation.has_constraint(name))
}

/// The columns of a key, by name.
pub(super) fn key_columns(relation: &Relation, names: &[String]) -> Result<Vec<usize>> {
    let mut columns = Vec::new();
    for name in names {
        let at = relation.columns.iter().position(|c| c.name == *name);
        let at = at.ok_or_else(|| Error::new("42703", format!("column \"{name}\" named in key does not exist")))?;
        if columns.contains(&at) {
            return Err(Error::new("42701", format!("column \"{name}\" appears twice in unique constraint")));
        }
        columns.push(at);
    }
    Ok(columns)
}

fn not_a_row_s(plan: &LogicalPlan) -> Error {
    match plan {
        LogicalPlan::Aggregate(_) => Error::new("42803", "aggregate functions are not allowed in check constraints"),
        LogicalPlan::Window(_) => Error::new("42P20", "window functions are not allowed in check constraints"),
        _ => Error::unsupported("an expression here that looks at more than one row"),
    }
}
