//! INSERT … ON CONFLICT: rows whose key is taken are left out, or change the row that has it.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{DataType, FieldRef};
use datafusion::datasource::MemTable;
use sqlparser::ast;

use super::Session;
use super::defaults::{check_assigned, check_not_null, is_default};
use super::dml::{as_batch, full_name, named_columns, quoted, relaxed, typed_parameter, with_parts};
use super::query::{Argument, bind_query};
use crate::catalog::Relation;
use crate::error::{Error, Result};
use crate::sql::bind::error_from;
use crate::sql::statement::{Insert, OnConflict};
use crate::state::arrangement::take;

impl Session {
    pub(super) async fn resolve_conflicts(
        &mut self,
        relation: &Arc<Relation>,
        alias: &str,
        rows: RecordBatch,
        on_conflict: &OnConflict,
        parameters: &[Argument],
    ) -> Result<(RecordBatch, RecordBatch)> {
        named_columns(relation, &on_conflict.target)?;
        let key: Vec<&str> = relation.primary_key.iter().map(|&k| relation.columns[k].name.as_str()).collect();
        let mut target: Vec<&str> = on_conflict.target.iter().map(String::as_str).collect();
        let mut sorted = key.clone();
        sorted.sort_unstable();
        target.sort_unstable();
        if (key.is_empty() && !on_conflict.target.is_empty()) || (!target.is_empty() && target != sorted) {
            return Err(Error::new(
                "42P10",
                "there is no unique or exclusion constraint matching the ON CONFLICT specification",
            ));
        }
        if key.is_empty() {
            return Ok((rows.slice(0, 0), rows));
        }
        // The first row of each key stands for it; DO UPDATE may not touch a row twice.
        let key_columns: Vec<ArrayRef> = relation.primary_key.iter().map(|&k| rows.column(k).clone()).collect();
        let types: Vec<DataType> = key_columns.iter().map(|c| c.data_type().clone()).collect();
        let mut table = crate::state::key_table::KeyTable::new(&types)?;
        let keys = table.encoder().encode_rows(&key_columns, rows.num_rows());
        let mut ids = Vec::new();
        table.intern(&keys, &mut ids);
        let mut seen = vec![false; table.bound() as usize];
        let first: Vec<u32> = (0..rows.num_rows() as u32)
            .filter(|&r| !std::mem::replace(&mut seen[ids[r as usize] as usize], true))
            .collect();
        if first.len() < rows.num_rows() && !on_conflict.assignments.is_empty() {
            return Err(Error::new("21000", "ON CONFLICT DO UPDATE command cannot affect row a second time").hint(
                "Ensure that no rows proposed for insertion within the same command have duplicate constrained values.",
            ));
        }
        let rows = take(&rows, &first);
        let width = relation.columns.len();
        let query = conflict_query(relation, alias, on_conflict)?;
        let found = self.rows_of_query(&query, &[("excluded", rows)], parameters).await?;
        let schema = relation.arrow_schema();
        let part = |from: usize, indices: &[u32]| -> Result<RecordBatch> {
            let columns = found.columns()[from..from + width].to_vec();
            let options = RecordBatchOptions::new().with_row_count(Some(found.num_rows()));
            let batch =
                RecordBatch::try_new_with_options(relaxed(&schema), columns, &options).map_err(Error::internal)?;
            let taken = take(&batch, indices);
            RecordBatch::try_new_with_options(
                schema.clone(),
                taken.columns().to_vec(),
                &RecordBatchOptions::new().with_row_count(Some(indices.len())),
            )
            .map_err(Error::internal)
        };
        let there = |row: usize| found.column(0).is_valid(row);
        let fresh: Vec<u32> = (0..found.num_rows()).filter(|&r| !there(r)).map(|r| r as u32).collect();
        let fresh_rows = part(1 + width, &fresh)?;
        if on_conflict.assignments.is_empty() {
            return Ok((fresh_rows.slice(0, 0), fresh_rows));
        }
        let wanted = found.column(found.num_columns() - 1).as_boolean().clone();
        let hit: Vec<u32> = (0..found.num_rows())
            .filter(|&r| there(r) && wanted.is_valid(r) && wanted.value(r))
            .map(|r| r as u32)
            .collect();
        let old = part(1, &hit)?;
        let mut columns = old.columns().to_vec();
        for (i, (column, _)) in on_conflict.assignments.iter().enumerate() {
            let at = named_columns(relation, std::slice::from_ref(column))?[0];
            let values = arrow::compute::take(
                found.column(1 + 2 * width + i),
                &arrow::array::UInt32Array::from(hit.clone()),
                None,
            )
            .map_err(Error::internal)?;
            columns[at] = crate::sql::cast::assign(&values, schema.field(at), &self.settings.zone())?;
        }
        check_not_null(relation, &columns)?;
        let options = RecordBatchOptions::new().with_row_count(Some(hit.len()));
        let updated = RecordBatch::try_new_with_options(schema.clone(), columns, &options).map_err(Error::internal)?;
        Ok((old, as_batch(&schema, &[updated, fresh_rows])?))
    }

    /// The types of parameters that stand in ON CONFLICT, added to those known.
    pub(super) fn conflict_parameters(
        &self,
        insert: &Insert,
        known: Vec<Option<FieldRef>>,
    ) -> Result<Vec<Option<FieldRef>>> {
        let relation = self.relation(&insert.table)?;
        let Some(on_conflict) = insert.on_conflict.as_ref().filter(|_| !relation.primary_key.is_empty()) else {
            return Ok(known);
        };
        let query = conflict_query(&relation, insert.alias.as_deref().unwrap_or(&relation.name), on_conflict)?;
        let mut scope = self.scope();
        scope.extra.insert("excluded".into(), no_rows(&relation)?);
        let state = self.state(&scope)?;
        let bound = bind_query(&state, &scope, &query, &known)?;
        crate::sql::bind::parameters_known(&bound.plan, &known)
    }
}

/// For each row proposed, `excluded`: whether the table has its key, the row that has it, the row proposed, the values
/// assigned, and whether the row is to be updated.
fn conflict_query(relation: &Relation, alias: &str, on_conflict: &OnConflict) -> Result<ast::Query> {
    let own = quoted(alias);
    let key = relation.primary_key.iter().map(|&k| quoted(&relation.columns[k].name));
    let on = key.map(|k| format!("{own}.{k} = excluded.{k}")).collect::<Vec<_>>().join(" AND ");
    let mut columns = vec![format!("{own}.__there")];
    for side in [own.as_str(), "excluded"] {
        columns.extend(relation.columns.iter().map(|c| format!("{side}.{}", quoted(&c.name))));
    }
    let columns: Vec<String> = columns.iter().enumerate().map(|(i, c)| format!("{c} AS __c{i}")).collect();
    let mut values = Vec::new();
    for (column, expr) in &on_conflict.assignments {
        let column = &relation.columns[named_columns(relation, std::slice::from_ref(column))?[0]];
        check_assigned(column, expr)?;
        values.push(match expr {
            e if is_default(e) => crate::sql::parse::parse_expression(&default_text(column))?,
            e => typed_parameter(column, e)?.unwrap_or_else(|| qualified(e.clone(), relation, alias)),
        });
    }
    values.push(match &on_conflict.filter {
        Some(filter) => qualified(filter.clone(), relation, alias),
        None => ast::Expr::Value(ast::Value::Boolean(true).into()),
    });
    let text = format!(
        "SELECT {} FROM excluded LEFT JOIN (SELECT *, true AS __there FROM {}) AS {own} ON {on}",
        columns.join(", "),
        full_name(relation)
    );
    with_parts(&text, |select| {
        let values = values.into_iter().enumerate();
        select.projection.extend(values.map(|(i, expr)| ast::SelectItem::ExprWithAlias {
            expr: ast::Expr::Nested(Box::new(expr)),
            alias: ast::Ident::new(format!("__v{i}")),
        }));
    })
}

/// Unqualified columns in ON CONFLICT mean the table's own.
fn qualified(mut expr: ast::Expr, relation: &Relation, alias: &str) -> ast::Expr {
    let _ = ast::visit_expressions_mut(&mut expr, |e| {
        if let ast::Expr::Identifier(name) = e {
            let folded = if name.quote_style.is_some() { name.value.clone() } else { name.value.to_lowercase() };
            if relation.columns.iter().any(|c| c.name == folded) {
                *e = ast::Expr::CompoundIdentifier(vec![
                    ast::Ident::with_quote('"', alias),
                    ast::Ident::with_quote('"', folded),
                ]);
            }
        }
        std::ops::ControlFlow::<()>::Continue(())
    });
    expr
}

fn no_rows(relation: &Relation) -> Result<Arc<MemTable>> {
    MemTable::try_new(relation.arrow_schema(), vec![vec![]]).map(Arc::new).map_err(error_from)
}

/// A column's default as an expression.
fn default_text(column: &Column) -> String {
    match (&column.default, &column.identity) {
        (Some(default), _) => default.clone(),
        (None, Some(sequence)) => format!("nextval({})", sequence.id),
        (None, None) => "NULL".into(),
    }
}
