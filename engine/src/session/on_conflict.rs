//! INSERT … ON CONFLICT: rows whose key is taken are left out, or change the row that has it.

use std::ops::ControlFlow;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{DataType, Field, FieldRef, Int64Type, Schema};
use sqlparser::ast;

use super::Session;
use super::defaults::{check_assigned, is_default};
use super::dml::{as_batch, full_name, named_columns, quoted, relaxed, typed_parameter, with_parts};
use super::query::{Argument, bind_query};
use super::returning::no_rows;
use crate::catalog::{Column, Relation};
use crate::error::{Error, Result};
use crate::sql::statement::{Insert, OnConflict};
use crate::sql::visit;
use crate::state::arrangement::take;
use crate::state::key_table::KeyTable;

impl Session {
    pub(super) async fn resolve_conflicts(
        &mut self,
        relation: &Arc<Relation>,
        alias: &str,
        rows: RecordBatch,
        on_conflict: &OnConflict,
        parameters: &[Argument],
    ) -> Result<(RecordBatch, RecordBatch)> {
        let keys = arbiters(relation, on_conflict)?;
        let Some(key) = keys.first() else { return Ok((rows.slice(0, 0), rows)) };
        if keys.len() > 1 {
            // DO NOTHING, whichever key is taken.
            let taken = self.taken(relation, &keys, &rows).await?;
            let fresh = take(&rows, &first_of_keys(&keys, &rows, &taken)?);
            return Ok((rows.slice(0, 0), fresh));
        }
        // The first row of each key stands for it; DO UPDATE may not touch a row twice.
        let first = first_of_keys(&keys, &rows, &vec![false; rows.num_rows()])?;
        let twice = first.len() < rows.num_rows() && !on_conflict.assignments.is_empty();
        if twice && on_conflict.filter.is_none() {
            return Err(second_time());
        }
        let rows = if twice { rows } else { take(&rows, &first) };
        let width = relation.columns.len();
        let query = conflict_query(relation, alias, key, on_conflict, twice)?;
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
        let is_hit = |row: usize| there(row) && wanted.is_valid(row) && wanted.value(row);
        if twice {
            let columns: Vec<ArrayRef> = key.iter().map(|&k| found.column(1 + width + k).clone()).collect();
            let order = found.column(1 + 2 * width).as_primitive::<Int64Type>().values();
            check_once(&columns, order, is_hit, there)?;
        }
        let hit: Vec<u32> = (0..found.num_rows()).filter(|&row| is_hit(row)).map(|row| row as u32).collect();
        let old = part(1, &hit)?;
        let values_at = 1 + 2 * width + usize::from(twice);
        let mut columns = old.columns().to_vec();
        for (i, (column, expr)) in on_conflict.assignments.iter().enumerate() {
            let at = named_columns(relation, std::slice::from_ref(column))?[0];
            let values =
                arrow::compute::take(found.column(values_at + i), &arrow::array::UInt32Array::from(hit.clone()), None)
                    .map_err(Error::internal)?;
            let (found_schema, to) = (found.schema(), schema.field(at));
            let given = found_schema.field(values_at + i);
            if crate::sql::literals::is_typed(expr) {
                crate::sql::cast::check_typed(given.data_type(), to)?;
            }
            columns[at] = crate::sql::cast::assign(&values, given, to, &self.style()?)?;
        }
        let updated = self.checked(relation, columns, hit.len())?;
        Ok((old, as_batch(&schema, &[updated, fresh_rows])?))
    }

    /// Which of the proposed rows have a key that a row of the table has.
    async fn taken(&mut self, relation: &Relation, keys: &[Vec<usize>], rows: &RecordBatch) -> Result<Vec<bool>> {
        let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(0..rows.num_rows() as i64));
        let number = Arc::new(Field::new("__row", DataType::Int64, false));
        let fields: Vec<FieldRef> = rows.schema().fields().iter().cloned().chain([number]).collect();
        let columns = rows.columns().iter().cloned().chain([numbers]).collect();
        let proposed = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).map_err(Error::internal)?;
        let of_key = |key: &Vec<usize>| {
            let names = key.iter().map(|&k| quoted(&relation.columns[k].name));
            let on = names.map(|k| format!("there.{k} = proposed.{k}")).collect::<Vec<_>>().join(" AND ");
            format!("SELECT proposed.__row FROM proposed JOIN {} AS there ON {on}", full_name(relation))
        };
        let text = keys.iter().map(of_key).collect::<Vec<_>>().join(" UNION ALL ");
        let found = self.rows_of(&text, &[("proposed", proposed)], &[]).await?;
        let mut taken = vec![false; rows.num_rows()];
        found.column(0).as_primitive::<Int64Type>().values().iter().for_each(|&row| taken[row as usize] = true);
        Ok(taken)
    }

    /// The types of parameters that stand in ON CONFLICT, added to those known.
    pub(super) fn conflict_parameters(
        &self,
        insert: &Insert,
        known: Vec<Option<FieldRef>>,
    ) -> Result<Vec<Option<FieldRef>>> {
        let target = self.target(&insert.table, "insert into")?;
        let on_conflict = target.on_conflict(insert.on_conflict.as_ref())?;
        let Some(on_conflict) = &on_conflict else { return Ok(known) };
        let relation = target.table;
        let keys = arbiters(&relation, on_conflict)?;
        let Some(key) = keys.first() else { return Ok(known) };
        let alias = insert.alias.as_deref().unwrap_or(&relation.name);
        let query = conflict_query(&relation, alias, key, on_conflict, false)?;
        let mut scope = self.scope();
        scope.extra.insert("excluded".into(), no_rows(&relation)?);
        let state = self.state(&scope)?;
        let bound = bind_query(&state, &scope, &query, &known)?;
        crate::sql::bind::parameters_known(&bound.plan, &known)
    }
}

/// Whether what it assigns has subqueries.
pub(super) fn has_subqueries(on_conflict: &OnConflict) -> bool {
    let asks = |expr: &ast::Expr| match expr {
        ast::Expr::Subquery(_) | ast::Expr::Exists { .. } | ast::Expr::InSubquery { .. } => ControlFlow::Break(()),
        _ => ControlFlow::Continue(()),
    };
    let has = |expr: &ast::Expr| visit::visit_expressions(expr, asks).is_break();
    on_conflict.assignments.iter().map(|(_, value)| value).chain(&on_conflict.filter).any(has)
}

/// The unique keys that ON CONFLICT speaks of; none where the table has none, and nothing can conflict.
fn arbiters(relation: &Relation, on_conflict: &OnConflict) -> Result<Vec<Vec<usize>>> {
    let keys = relation.unique_keys();
    if let Some(name) = &on_conflict.constraint {
        let found = keys.into_iter().find(|key| key.name == *name && relation.has_constraint(name));
        return found.map(|key| vec![key.columns]).ok_or_else(|| {
            Error::undefined_object(format!("constraint \"{name}\" for table \"{}\" does not exist", relation.name))
        });
    }
    let mut target = named_columns(relation, &on_conflict.target)?;
    if on_conflict.target.is_empty() {
        if !on_conflict.assignments.is_empty() {
            let message = "ON CONFLICT DO UPDATE requires inference specification or constraint name";
            return Err(Error::syntax(message).hint("For example, ON CONFLICT (column_name)."));
        }
        return Ok(keys.into_iter().map(|key| key.columns).collect());
    }
    target.sort_unstable();
    let same = |columns: &Vec<usize>| {
        let mut sorted = columns.clone();
        sorted.sort_unstable();
        sorted == target
    };
    match keys.into_iter().map(|key| key.columns).find(same) {
        Some(columns) => Ok(vec![columns]),
        None => Err(Error::new(
            "42P10",
            "there is no unique or exclusion constraint matching the ON CONFLICT specification",
        )),
    }
}

/// Row by row those that are not `taken` and share no key with one before them that was picked.
fn first_of_keys(keys: &[Vec<usize>], rows: &RecordBatch, taken: &[bool]) -> Result<Vec<u32>> {
    let mut known = Vec::new();
    for key in keys {
        let columns: Vec<ArrayRef> = key.iter().map(|&k| rows.column(k).clone()).collect();
        let types: Vec<DataType> = columns.iter().map(|c| c.data_type().clone()).collect();
        let mut table = KeyTable::new(&types)?;
        let batch = table.encoder().encode_rows(&columns, rows.num_rows());
        let mut ids = Vec::new();
        table.intern(&batch, &mut ids);
        // A key with a NULL is no other row's.
        let is_null = |row: usize| batch.any_null.as_ref().is_some_and(|nulls| nulls.value(row));
        let ids: Vec<Option<u32>> = ids.iter().enumerate().map(|(row, &id)| (!is_null(row)).then_some(id)).collect();
        known.push((ids, vec![false; table.bound() as usize]));
    }
    let mut picked = Vec::new();
    for row in (0..rows.num_rows()).filter(|&row| !taken[row]) {
        if known.iter().any(|(ids, seen)| ids[row].is_some_and(|id| seen[id as usize])) {
            continue;
        }
        for (ids, seen) in &mut known {
            if let Some(id) = ids[row] {
                seen[id as usize] = true;
            }
        }
        picked.push(row as u32);
    }
    Ok(picked)
}

/// Rows of one key come one after the other: none may come after one that was inserted or updated. `columns`: of the key.
fn check_once(
    columns: &[ArrayRef],
    order: &[i64],
    is_hit: impl Fn(usize) -> bool,
    there: impl Fn(usize) -> bool,
) -> Result<()> {
    let types: Vec<DataType> = columns.iter().map(|c| c.data_type().clone()).collect();
    let mut table = KeyTable::new(&types)?;
    let batch = table.encoder().encode_rows(columns, order.len());
    let mut ids = Vec::new();
    table.intern(&batch, &mut ids);
    let mut changed = vec![false; table.bound() as usize];
    let mut rows: Vec<usize> = (0..order.len()).collect();
    rows.sort_unstable_by_key(|&row| order[row]);
    for row in rows {
        // A key with a NULL is no other row's.
        if batch.any_null.as_ref().is_some_and(|nulls| nulls.value(row)) {
            continue;
        }
        let changed = &mut changed[ids[row] as usize];
        if *changed {
            return Err(second_time());
        }
        *changed = is_hit(row) || !there(row);
    }
    Ok(())
}

fn second_time() -> Error {
    Error::new("21000", "ON CONFLICT DO UPDATE command cannot affect row a second time")
        .hint("Ensure that no rows proposed for insertion within the same command have duplicate constrained values.")
}

/// For each row proposed, `excluded`: whether the table has its key, the row that has it, the row proposed (and its place among
/// them, where it is asked for), the values assigned, and whether the row is to be updated.
fn conflict_query(
    relation: &Relation,
    alias: &str,
    key: &[usize],
    on_conflict: &OnConflict,
    places: bool,
) -> Result<ast::Query> {
    let own = quoted(alias);
    let key = key.iter().map(|&k| relation.columns[k].name.as_str());
    let on = key
        .map(|k| format!("{own}.{} = excluded.{}", quoted(k), quoted(&proposed(k))))
        .collect::<Vec<_>>()
        .join(" AND ");
    let names = || relation.columns.iter().map(|c| c.name.as_str());
    let mut columns = vec![format!("{own}.__there")];
    columns.extend(names().map(|c| format!("{own}.{}", quoted(c))));
    columns.extend(names().map(|c| format!("excluded.{}", quoted(&proposed(c)))));
    let place = if places { ", CAST(row_number() OVER () AS bigint) AS __row" } else { "" };
    columns.extend(places.then(|| "excluded.__row".to_string()));
    let renamed = names().map(|c| format!("{} AS {}", quoted(c), quoted(&proposed(c)))).collect::<Vec<_>>().join(", ");
    let columns: Vec<String> = columns.iter().enumerate().map(|(i, c)| format!("{c} AS __c{i}")).collect();
    let mut values = Vec::new();
    for (column, expr) in &on_conflict.assignments {
        let column = &relation.columns[named_columns(relation, std::slice::from_ref(column))?[0]];
        check_assigned(column, expr)?;
        values.push(match expr {
            e if is_default(e) => crate::sql::parse::parse_expression(&default_text(column))?,
            e => typed_parameter(column, e)?.unwrap_or_else(|| qualified(e.clone(), relation)),
        });
    }
    values.push(match &on_conflict.filter {
        // So that it is a boolean: NULL by itself would be a text.
        Some(filter) => ast::Expr::IsTrue(Box::new(ast::Expr::Nested(Box::new(qualified(filter.clone(), relation))))),
        None => ast::Expr::Value(ast::Value::Boolean(true).into()),
    });
    let text = format!(
        "SELECT {} FROM (SELECT {renamed}{place} FROM excluded) AS excluded LEFT JOIN (SELECT *, true AS __there FROM {}) AS {own} ON {on}",
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

/// The name that a column of the proposed row has in the query: columns without a table's name are the table's own, or
/// those of a subquery that they stand in.
fn proposed(column: &str) -> String {
    format!("__excluded_{column}")
}

/// `excluded.c` by that name.
fn qualified(mut expr: ast::Expr, relation: &Relation) -> ast::Expr {
    let folded = |name: &ast::Ident| match name.quote_style {
        Some(_) => name.value.clone(),
        None => name.value.to_lowercase(),
    };
    let _ = visit::visit_expressions_mut(&mut expr, |e| {
        // `excluded.c[1]`, of which the name is taken apart.
        if let ast::Expr::CompoundFieldAccess { root, access_chain } = e
            && let ast::Expr::Identifier(table) = root.as_ref()
            && let Some(ast::AccessExpr::Dot(ast::Expr::Identifier(column))) = access_chain.first()
            && folded(table) == "excluded"
            && relation.columns.iter().any(|c| c.name == folded(column))
        {
            let column = ast::Ident::with_quote('"', proposed(&folded(column)));
            **root = ast::Expr::CompoundIdentifier(vec![table.clone(), column]);
            access_chain.remove(0);
        }
        if let ast::Expr::CompoundIdentifier(parts) = e
            && let [table, column] = &mut parts[..]
            && folded(table) == "excluded"
            && relation.columns.iter().any(|c| c.name == folded(column))
        {
            *column = ast::Ident::with_quote('"', proposed(&folded(column)));
        }
        std::ops::ControlFlow::<()>::Continue(())
    });
    expr
}

/// A column's default as an expression.
fn default_text(column: &Column) -> String {
    match (&column.default, &column.identity) {
        (Some(default), _) => default.clone(),
        (None, Some(sequence)) => format!("nextval({})", sequence.id),
        (None, None) => "NULL".into(),
    }
}
