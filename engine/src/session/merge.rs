//! MERGE: the rows of a source, each with the row of the table that it matches or none, and for each what the first WHEN
//! that holds says.
//!
//! ```text
//!   source LEFT JOIN table ON condition
//!     ├─ matched      clause by condition ─► values of its SET ─► old rows out, new rows in
//!     └─ not matched  clause by condition ─► values of its row ─► rows in
//! ```
//!
//! Conditions and values are queries of their own over the rows that they are for: what an expression would say of other
//! rows, an error say, is nobody's. All of it reads one moment, and is written as one change of the table.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, RecordBatchOptions, UInt32Array};
use arrow::datatypes::{DataType, FieldRef, Int64Type, Schema};
use datafusion::datasource::MemTable;
use sqlparser::ast;

use super::defaults::{check_generated, is_default, without_given};
use super::dml::{assigned_values, cell_value, full_name, named_columns, quoted, relaxed, with_parts};
use super::query::{Argument, bind_query};
use super::referential::Happened;
use super::returning::{Other, RETURNED_ROW, numbered, returned, with_rows};
use super::{Outcome, Session};
use crate::catalog::Relation;
use crate::delta::Delta;
use crate::error::{Error, Result};
use crate::sql::bind::{self, error_from};
use crate::sql::literals::is_typed;
use crate::sql::statement::{Merge, MergeAction, MergeClause, Overriding};
use crate::state::arrangement::take;
use crate::state::key_table::KeyTable;

/// Columns of the pairs before those of the table: whether it has a row, and which one where it has no key.
const COLUMNS_BEFORE: usize = 2;

/// Rows that stand beside each other, each table's under its name.
type Beside = Vec<(Other, RecordBatch)>;

impl Session {
    pub(super) async fn merge(&mut self, merge: &Merge, parameters: &[Argument]) -> Result<Outcome> {
        let relation = self.writable(&merge.table, "merge into")?;
        if self.one_statement.is_some() {
            // A part of a statement that has begun already.
            return self.merge_rows(&relation, merge, parameters).await;
        }
        let held = self.begin_one_statement(&[relation.id].into()).await;
        let outcome = self.merge_rows(&relation, merge, parameters).await;
        let outcome = self.end_one_statement(outcome).await;
        drop(held);
        outcome
    }

    async fn merge_rows(
        &mut self,
        relation: &Arc<Relation>,
        merge: &Merge,
        parameters: &[Argument],
    ) -> Result<Outcome> {
        let all = self.sides(relation, merge)?;
        let found = self.rows_of_query(&pairs_query(relation, merge, &all)?, &[], parameters).await?;
        let beside = with_rows(all, &found, COLUMNS_BEFORE)?;
        let there = |row: u32| found.column(0).is_valid(row as usize);
        let (matched, fresh): (Vec<u32>, Vec<u32>) = (0..found.num_rows() as u32).partition(|&row| there(row));
        let (mut gone, mut old, mut new) = (Vec::new(), Vec::new(), Vec::new());
        let mut changed = 0;
        for (matches, rows) in [(true, matched), (false, fresh)] {
            // Of a row that matches nothing the source alone is there.
            let known = if matches { &beside[..] } else { &beside[1..] };
            let chosen = self.chosen(merge, matches, known, rows, parameters).await?;
            for (clause, rows) in merge.clauses.iter().zip(chosen).filter(|(_, rows)| !rows.is_empty()) {
                let taken = |batch: &RecordBatch| take(batch, &rows);
                let of_clause: Beside = known.iter().map(|(other, batch)| (other.clone(), taken(batch))).collect();
                match &clause.action {
                    MergeAction::Nothing => continue,
                    MergeAction::Delete => {
                        let rows = strict(relation, &of_clause[0].1)?;
                        self.note_one(relation, Happened::Deleted(rows.clone()));
                        old.push(rows);
                    }
                    MergeAction::Update(assignments) => {
                        let before = strict(relation, &of_clause[0].1)?;
                        let exprs = clause_values(relation, clause)?;
                        let values = self.values_beside(merge, of_clause, exprs, parameters).await?;
                        let after = self.assigned(relation, &before, assignments, &values, 0).await?;
                        self.note_one(relation, Happened::Updated(before.clone(), after.clone()));
                        new.push(after);
                        old.push(before);
                    }
                    MergeAction::Insert { columns, overriding, values } => {
                        let named = named_columns(relation, columns)?;
                        let values = values.as_deref();
                        let given = match values {
                            Some(_) => {
                                let exprs = clause_values(relation, clause)?;
                                self.values_beside(merge, of_clause, exprs, parameters).await?
                            }
                            None => nothing(rows.len()),
                        };
                        new.push(self.merged(relation, &named, *overriding, values.unwrap_or(&[]), given).await?);
                    }
                }
                changed += rows.len();
                if matches {
                    gone.extend_from_slice(&rows);
                }
            }
        }
        check_once(relation, &found, &gone)?;
        for rows in &old {
            self.lock_rows(relation, rows, None).await?;
        }
        let deltas = old.into_iter().map(Delta::retractions).chain(new.into_iter().map(Delta::inserts));
        self.write(relation.id, deltas.collect()).await?;
        Ok(Outcome::Done(format!("MERGE {changed}")))
    }

    /// The table and what the source has, as expressions name them.
    fn sides(&self, relation: &Relation, merge: &Merge) -> Result<Vec<Other>> {
        let mut sides = vec![Other { name: own_name(relation, merge).to_string(), schema: relation.arrow_schema() }];
        sides.extend(self.others(&merge.with, std::slice::from_ref(&merge.source))?);
        Ok(sides)
    }

    /// For each clause those of the rows, all matched or all not, that it is for.
    async fn chosen(
        &mut self,
        merge: &Merge,
        matched: bool,
        known: &[(Other, RecordBatch)],
        rows: Vec<u32>,
        parameters: &[Argument],
    ) -> Result<Vec<Vec<u32>>> {
        let mut chosen = vec![Vec::new(); merge.clauses.len()];
        let first = merge.clauses.iter().position(|clause| clause.matched == matched);
        let Some(first) = first.filter(|_| !rows.is_empty()) else { return Ok(chosen) };
        if merge.clauses[first].condition.is_none() {
            chosen[first] = rows;
            return Ok(chosen);
        }
        let beside = known.iter().map(|(other, batch)| (other.clone(), take(batch, &rows))).collect();
        let choice = self.values_beside(merge, beside, vec![choice(merge, matched)?], parameters).await?;
        let choice = choice.column(0).as_primitive::<Int64Type>();
        for (row, clause) in rows.into_iter().zip(choice) {
            if let Some(clause) = clause {
                chosen[clause as usize].push(row);
            }
        }
        Ok(chosen)
    }

    /// What expressions are for each of some rows, a column each.
    async fn values_beside(
        &mut self,
        merge: &Merge,
        beside: Beside,
        exprs: Vec<ast::Expr>,
        parameters: &[Argument],
    ) -> Result<RecordBatch> {
        let names: Vec<&str> = beside.iter().map(|(other, _)| other.name.as_str()).collect();
        let query = beside_query(merge, &names, exprs)?;
        let tables: Vec<String> = (0..beside.len()).map(returned).collect();
        let rows = beside.into_iter().map(|(_, rows)| numbered(rows)).collect::<Result<Vec<_>>>()?;
        let extra: Vec<(&str, RecordBatch)> = tables.iter().map(String::as_str).zip(rows).collect();
        let values = self.rows_of_query(&query, &extra, parameters).await?;
        // In the order of the rows, which a join need not keep.
        let at = values.column(values.num_columns() - 1).as_primitive::<Int64Type>();
        let mut order = vec![0u32; values.num_rows()];
        at.values().iter().enumerate().for_each(|(row, &at)| order[at as usize] = row as u32);
        Ok(take(&values, &order))
    }

    /// New rows, of which `given` are the values.
    async fn merged(
        &mut self,
        relation: &Arc<Relation>,
        named: &[usize],
        overriding: Option<Overriding>,
        values: &[ast::Expr],
        given: RecordBatch,
    ) -> Result<RecordBatch> {
        let (to, from, count) = (relation.arrow_schema(), given.schema(), given.num_rows());
        let named = &named[..values.len()];
        for (i, _) in values.iter().enumerate().filter(|(_, value)| is_typed(value)) {
            crate::sql::cast::check_typed(from.field(i).data_type(), to.field(named[i]))?;
        }
        let mut defaulted = defaulted(values, count);
        if overriding == Some(Overriding::User) {
            without_given(relation, named, count, &mut defaulted);
        }
        self.conform(relation, named, given, &defaulted).await
    }

    /// The types of its parameters.
    pub(super) fn merge_parameters(&self, merge: &Merge, given: &[Option<FieldRef>]) -> Result<Vec<Option<FieldRef>>> {
        let relation = self.writable(&merge.table, "merge into")?;
        let sides = self.sides(&relation, merge)?;
        let mut known = given.to_vec();
        let mut bind = |query: &ast::Query, tables: &[Other]| -> Result<()> {
            let mut scope = self.scope();
            for (i, table) in tables.iter().enumerate() {
                let rows = numbered(RecordBatch::new_empty(relaxed(&table.schema)))?;
                let rows = MemTable::try_new(rows.schema(), vec![vec![rows]]).map_err(error_from)?;
                scope.extra.insert(returned(i), Arc::new(rows));
            }
            let state = self.state(&scope)?;
            let bound = bind_query(&state, &scope, query, &known)?;
            known = bind::parameters_known(&bound.plan, &known)?;
            Ok(())
        };
        bind(&pairs_query(&relation, merge, &sides)?, &[])?;
        for clause in &merge.clauses {
            let tables = if clause.matched { &sides[..] } else { &sides[1..] };
            let names: Vec<&str> = tables.iter().map(|table| table.name.as_str()).collect();
            let mut exprs = clause_values(&relation, clause)?;
            exprs.extend(clause.condition.clone());
            if !exprs.is_empty() {
                bind(&beside_query(merge, &names, exprs)?, tables)?;
            }
        }
        Ok(known)
    }
}

fn own_name<'a>(relation: &'a Relation, merge: &'a Merge) -> &'a str {
    merge.alias.as_deref().unwrap_or(&relation.name)
}

/// Each row of the source beside those of the table that it matches: whether there is one, its number where the table has
/// no key, and then all columns of both.
fn pairs_query(relation: &Relation, merge: &Merge, sides: &[Other]) -> Result<ast::Query> {
    let own = quoted(own_name(relation, merge));
    let (number, row) = match relation.primary_key.is_empty() {
        true => (", row_number() OVER () AS __row", format!("{own}.__row")),
        false => ("", "CAST(NULL AS bigint)".to_string()),
    };
    let outer = if merge.clauses.iter().any(|clause| !clause.matched) { "LEFT" } else { "INNER" };
    let full = full_name(relation);
    let text = format!(
        "SELECT {own}.__there, {row} AS __row FROM s {outer} JOIN (SELECT *, true AS __there{number} FROM {full}) AS {own} ON true"
    );
    let query = with_parts(&text, |select| {
        for (i, side) in sides.iter().enumerate() {
            for (j, field) in side.schema.fields().iter().enumerate() {
                let ident = |name: &str| ast::Ident::with_quote('"', name);
                let expr = ast::Expr::CompoundIdentifier(vec![ident(&side.name), ident(field.name())]);
                let alias = ast::Ident::new(format!("__c{i}_{j}"));
                select.projection.push(ast::SelectItem::ExprWithAlias { expr, alias });
            }
        }
        let mut join = select.from[0].joins.remove(0);
        if let ast::JoinOperator::Left(ast::JoinConstraint::On(on))
        | ast::JoinOperator::LeftOuter(ast::JoinConstraint::On(on))
        | ast::JoinOperator::Inner(ast::JoinConstraint::On(on)) = &mut join.join_operator
        {
            *on = merge.on.clone();
        }
        select.from[0] = merge.source.clone();
        select.from[0].joins.push(join);
    })?;
    Ok(ast::Query { with: merge.with.clone(), ..query })
}

/// Expressions over rows at hand, and last the number of the row.
fn beside_query(merge: &Merge, names: &[&str], exprs: Vec<ast::Expr>) -> Result<ast::Query> {
    let row = quoted(RETURNED_ROW);
    let mut text = format!("SELECT 1 FROM {} AS {}", quoted(&returned(0)), quoted(names[0]));
    for (i, name) in names.iter().enumerate().skip(1) {
        let (table, name, first) = (quoted(&returned(i)), quoted(name), quoted(names[0]));
        text.push_str(&format!(" JOIN {table} AS {name} ON {name}.{row} = {first}.{row}"));
    }
    let number =
        ast::Expr::CompoundIdentifier([names[0], RETURNED_ROW].map(|n| ast::Ident::with_quote('"', n)).to_vec());
    let query = with_parts(&text, |select| {
        let items = exprs.into_iter().chain([number]).enumerate();
        let named = |(i, expr)| ast::SelectItem::ExprWithAlias { expr, alias: ast::Ident::new(format!("__v{i}")) };
        select.projection = items.map(named).collect();
    })?;
    Ok(ast::Query { with: merge.with.clone(), ..query })
}

/// `CASE WHEN condition THEN number of the clause …`, of those for rows that are matched or not.
fn choice(merge: &Merge, matched: bool) -> Result<ast::Expr> {
    let mut choice = crate::sql::parse::parse_expression("CASE WHEN true THEN 0 END")?;
    let ast::Expr::Case { conditions, .. } = &mut choice else { unreachable!("the text is a CASE") };
    conditions.clear();
    for (i, clause) in merge.clauses.iter().enumerate().filter(|(_, clause)| clause.matched == matched) {
        let always = || ast::Expr::Value(ast::Value::Boolean(true).into());
        let condition = clause.condition.clone().unwrap_or_else(always);
        let result = crate::sql::parse::parse_expression(&format!("CAST({i} AS bigint)"))?;
        conditions.push(ast::CaseWhen { condition, result });
    }
    Ok(choice)
}

/// What a clause computes for its rows: values of SET, or of the new row. Errors: as those of UPDATE and INSERT.
fn clause_values(relation: &Relation, clause: &MergeClause) -> Result<Vec<ast::Expr>> {
    match &clause.action {
        MergeAction::Nothing | MergeAction::Delete => Ok(Vec::new()),
        MergeAction::Update(assignments) => assigned_values(relation, assignments),
        MergeAction::Insert { columns, overriding, values } => {
            let named = named_columns(relation, columns)?;
            let Some(values) = values else { return Ok(Vec::new()) };
            if values.len() > named.len() {
                return Err(Error::syntax("INSERT has more expressions than target columns"));
            }
            if values.len() < named.len() && !columns.is_empty() {
                return Err(Error::syntax("INSERT has more target columns than expressions"));
            }
            check_generated(relation, &named[..values.len()], &defaulted(values, 1), *overriding)?;
            values.iter().zip(named).map(|(value, at)| cell_value(&relation.columns[at], value)).collect()
        }
    }
}

/// Where DEFAULT stands among values, by column and row; nothing where it stands nowhere.
fn defaulted(values: &[ast::Expr], rows: usize) -> Vec<Vec<bool>> {
    match values.iter().any(is_default) {
        true => values.iter().map(|value| vec![is_default(value); rows]).collect(),
        false => Vec::new(),
    }
}

/// Rows without columns.
fn nothing(rows: usize) -> RecordBatch {
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    RecordBatch::try_new_with_options(Arc::new(Schema::empty()), vec![], &options).expect("no columns")
}

/// The table's rows as the table has them.
fn strict(relation: &Relation, rows: &RecordBatch) -> Result<RecordBatch> {
    let options = RecordBatchOptions::new().with_row_count(Some(rows.num_rows()));
    RecordBatch::try_new_with_options(relation.arrow_schema(), rows.columns().to_vec(), &options)
        .map_err(Error::internal)
}

/// A row of the table is changed once: 21000.
fn check_once(relation: &Relation, found: &RecordBatch, rows: &[u32]) -> Result<()> {
    let key: Vec<ArrayRef> = match relation.primary_key.is_empty() {
        true => vec![found.column(1).clone()],
        false => relation.primary_key.iter().map(|&k| found.column(COLUMNS_BEFORE + k).clone()).collect(),
    };
    let indices = UInt32Array::from(rows.to_vec());
    let taken = |column: &ArrayRef| arrow::compute::take(column, &indices, None).map_err(Error::internal);
    let key = key.iter().map(taken).collect::<Result<Vec<_>>>()?;
    let types: Vec<DataType> = key.iter().map(|column| column.data_type().clone()).collect();
    let mut table = KeyTable::new(&types)?;
    let keys = table.encoder().encode_rows(&key, rows.len());
    let mut ids = Vec::new();
    table.intern(&keys, &mut ids);
    let mut seen = vec![false; table.bound() as usize];
    if ids.iter().any(|&id| std::mem::replace(&mut seen[id as usize], true)) {
        let error = Error::new("21000", "MERGE command cannot affect row a second time");
        return Err(error.hint("Ensure that not more than one source row matches any one target row."));
    }
    Ok(())
}
