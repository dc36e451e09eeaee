//! RETURNING: the changed rows, with what FROM or USING had beside them, through a query of their own.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use datafusion::datasource::MemTable;
use sqlparser::ast;

use super::dml::{quoted, relaxed, with_parts};
use super::query::{Argument, Scope, bind_query, fields_of, relations_of, with_parameters};
use super::{Outcome, Session};
use crate::catalog::Relation;
use crate::error::{Error, Result};
use crate::serve::snapshot::Snapshot;
use crate::sql::bind::error_from;
use crate::sql::calls::check_one_value;
use crate::sql::grouped::names_of;
use crate::sql::statement::Name;

impl Session {
    /// The tag, or RETURNING's rows. They are all computed before the change is made: an error in one is the
    /// statement's, and then nothing has changed.
    pub(super) async fn answer(
        &mut self,
        relation: &Arc<Relation>,
        alias: Option<&str>,
        tag: &'static str,
        rows: RecordBatch,
        returning: Option<&[ast::SelectItem]>,
        others: Vec<(Other, RecordBatch)>,
        parameters: &[Argument],
    ) -> Result<Outcome> {
        let Some(items) = returning else { return Ok(Outcome::Done(format!("{tag} {}", rows.num_rows()))) };
        let beside: Vec<Other> = others.iter().map(|(other, _)| other.clone()).collect();
        let query = returning_query(relation, alias, items, &beside)?;
        let mut scope = self.scope();
        let all = std::iter::once(rows).chain(others.into_iter().map(|(_, rows)| rows));
        for (i, rows) in all.enumerate() {
            let rows = if beside.is_empty() { rows } else { numbered(rows)? };
            let table = MemTable::try_new(rows.schema(), vec![vec![rows]]).map_err(error_from)?;
            scope.extra.insert(returned(i), Arc::new(table));
        }
        let state = self.state(&scope)?;
        let bound = bind_query(&state, &scope, &query, &fields_of(parameters))?;
        let plan = with_parameters(bound.plan, parameters)?;
        // Subqueries see what there was before the statement.
        let relations = relations_of(&scope.catalog, &plan)?;
        let snapshot = match relations.is_empty() {
            true => Arc::new(Snapshot::new(0, HashMap::new())),
            false => self.snapshot(&relations).await?,
        };
        let (schema, rows) = self.run_over(&state, plan, &bound.names, snapshot, Ok).await?;
        let batches = self.collected(rows).await?;
        Ok(Outcome::Rows { schema, rows: Box::pin(futures::stream::iter(batches.into_iter().map(Ok))), tag })
    }

    /// What FROM or USING has, name by name.
    pub(super) fn others(&self, with: &Option<ast::With>, from: &[ast::TableWithJoins]) -> Result<Vec<Other>> {
        let mut others = Vec::new();
        for name in names_of(from) {
            let query = with_parts("SELECT 1", |select| {
                select.projection = vec![all_of(&name)];
                select.from = from.to_vec();
            })?;
            let query = ast::Query { with: with.clone(), ..query };
            let scope = self.scope();
            let state = self.state(&scope)?;
            let bound = bind_query(&state, &scope, &query, &[])?;
            let schema = super::query::output_schema(&bound.plan, &bound.names);
            others.push(Other { name, schema });
        }
        Ok(others)
    }

    /// Their columns, where RETURNING may show them.
    pub(super) fn shown(
        &self,
        returning: &Option<Vec<ast::SelectItem>>,
        with: &Option<ast::With>,
        from: &[ast::TableWithJoins],
    ) -> Result<Vec<ast::SelectItem>> {
        if returning.is_none() {
            return Ok(Vec::new());
        }
        let mut shown = Vec::new();
        for (i, other) in self.others(with, from)?.iter().enumerate() {
            for (j, field) in other.schema.fields().iter().enumerate() {
                let ident = |name: &str| ast::Ident::with_quote('"', name);
                let expr = ast::Expr::CompoundIdentifier(vec![ident(&other.name), ident(field.name())]);
                shown.push(ast::SelectItem::ExprWithAlias { expr, alias: ident(&format!("__other_{i}_{j}")) });
            }
        }
        Ok(shown)
    }

    /// What RETURNING's rows look like.
    pub(super) fn returning_schema(
        &self,
        table: &Name,
        alias: Option<&str>,
        items: &[ast::SelectItem],
        with: &Option<ast::With>,
        from: &[ast::TableWithJoins],
    ) -> Result<SchemaRef> {
        let relation = self.relation(table)?;
        let others = self.others(with, from)?;
        let query = returning_query(&relation, alias, items, &others)?;
        let mut scope: Scope = self.scope();
        let all = std::iter::once(relation.arrow_schema()).chain(others.iter().map(|other| other.schema.clone()));
        for (i, schema) in all.enumerate() {
            let rows = RecordBatch::new_empty(schema);
            let rows = if others.is_empty() { rows } else { numbered(rows)? };
            let table = MemTable::try_new(rows.schema(), vec![vec![]]).map_err(error_from)?;
            scope.extra.insert(returned(i), Arc::new(table));
        }
        let state = self.state(&scope)?;
        let bound = bind_query(&state, &scope, &query, &[])?;
        Ok(super::query::output_schema(&bound.plan, &bound.names))
    }
}

/// The changed rows, apart from their table, which RETURNING may read too; and what FROM or USING had beside them.
pub(super) fn returned(i: usize) -> String {
    format!("mr returned {i}")
}

/// The column that says which rows belong together.
pub(super) const RETURNED_ROW: &str = "mr returned row";

pub(super) fn numbered(rows: RecordBatch) -> Result<RecordBatch> {
    let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(0..rows.num_rows() as i64));
    let number = Arc::new(Field::new(RETURNED_ROW, DataType::Int64, false));
    let fields: Vec<FieldRef> = rows.schema().fields().iter().cloned().chain([number]).collect();
    let columns = rows.columns().iter().cloned().chain([numbers]).collect();
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).map_err(Error::internal)
}

/// What stands under one name in FROM or USING.
#[derive(Clone)]
pub(super) struct Other {
    pub name: String,
    pub schema: SchemaRef,
}

/// Each with its rows among those that were found, in which their columns begin at `at`.
pub(super) fn with_rows(others: Vec<Other>, found: &RecordBatch, mut at: usize) -> Result<Vec<(Other, RecordBatch)>> {
    let options = RecordBatchOptions::new().with_row_count(Some(found.num_rows()));
    let rows = others.into_iter().map(|other| {
        let width = other.schema.fields().len();
        let columns = found.columns()[at..at + width].to_vec();
        at += width;
        let rows = RecordBatch::try_new_with_options(relaxed(&other.schema), columns, &options);
        Ok((other, rows.map_err(Error::internal)?))
    });
    rows.collect()
}

fn returning_query(
    relation: &Relation,
    alias: Option<&str>,
    items: &[ast::SelectItem],
    others: &[Other],
) -> Result<ast::Query> {
    for item in items {
        if let ast::SelectItem::UnnamedExpr(expr) | ast::SelectItem::ExprWithAlias { expr, .. } = item {
            check_one_value(expr, "RETURNING")?;
        }
    }
    let own = alias.unwrap_or(&relation.name);
    let mut text = format!("SELECT 1 FROM {} AS {}", quoted(&returned(0)), quoted(own));
    let row = quoted(RETURNED_ROW);
    for (i, other) in others.iter().enumerate() {
        let (table, name) = (quoted(&returned(i + 1)), quoted(&other.name));
        text.push_str(&format!(" JOIN {table} AS {name} ON {name}.{row} = {}.{row}", quoted(own)));
    }
    // All columns but those numbers.
    let schemas = std::iter::once((own, relation.arrow_schema()))
        .chain(others.iter().map(|other| (other.name.as_str(), other.schema.clone())));
    let columns = |of: Option<&str>| -> Vec<ast::SelectItem> {
        let wanted = schemas.clone().filter(|(name, _)| of.is_none_or(|of| of == *name));
        let all = wanted.flat_map(|(name, schema)| {
            let column = |field: &FieldRef| {
                let ident = |name: &str| ast::Ident::with_quote('"', name);
                ast::SelectItem::UnnamedExpr(ast::Expr::CompoundIdentifier(vec![ident(name), ident(field.name())]))
            };
            schema.fields().iter().map(column).collect::<Vec<_>>()
        });
        all.collect()
    };
    let items = items.iter().flat_map(|item| match item {
        _ if others.is_empty() => vec![item.clone()],
        ast::SelectItem::Wildcard(_) => columns(None),
        ast::SelectItem::QualifiedWildcard(ast::SelectItemQualifiedWildcardKind::ObjectName(name), _) => {
            match crate::sql::parse::name_of(name) {
                Ok(name) if schemas.clone().any(|(known, _)| known == name.name) => columns(Some(&name.name)),
                _ => vec![item.clone()],
            }
        }
        other => vec![other.clone()],
    });
    let items = items.collect();
    with_parts(&text, |select| select.projection = items)
}

/// `t.*`
fn all_of(name: &str) -> ast::SelectItem {
    let name = ast::ObjectName::from(vec![ast::Ident::with_quote('"', name)]);
    let kind = ast::SelectItemQualifiedWildcardKind::ObjectName(name);
    ast::SelectItem::QualifiedWildcard(kind, ast::WildcardAdditionalOptions::default())
}

/// A relation's columns, to bind against.
pub(super) fn no_rows(relation: &Relation) -> Result<Arc<MemTable>> {
    MemTable::try_new(relation.arrow_schema(), vec![vec![]]).map(Arc::new).map_err(error_from)
}
