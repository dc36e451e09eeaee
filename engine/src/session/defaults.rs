//! What columns get that INSERT does not name: their defaults, and the numbers of those that count their rows.

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, Int64Array, RecordBatch, RecordBatchOptions, new_null_array};
use arrow::compute::cast;
use arrow::datatypes::Schema;
use sqlparser::ast;

use super::Session;
use super::query::bind_query;
use crate::catalog::{Column, Identity, IdentityKind, Relation};
use crate::error::{Error, Result};
use crate::sql::statement::Overriding;

impl Session {
    /// The rows of a query as whole rows of the relation: cast, columns that were not named by default.
    pub(super) async fn conform(
        &mut self,
        relation: &Arc<Relation>,
        named: &[usize],
        rows: RecordBatch,
        defaulted: &[Vec<bool>],
    ) -> Result<RecordBatch> {
        let schema = relation.arrow_schema();
        let mut columns: Vec<ArrayRef> = Vec::with_capacity(schema.fields().len());
        for (i, field) in schema.fields().iter().enumerate() {
            let column = match named.iter().position(|&n| n == i) {
                Some(given) => {
                    let style = self.style()?;
                    let cast = crate::sql::cast::assign(rows.column(given), rows.schema().field(given), field, &style)
                        .map_err(|e| e.detail(format!("Column \"{}\".", field.name())))?;
                    match defaulted.get(given).filter(|d| d.contains(&true)) {
                        None => cast,
                        Some(mask) => {
                            let default = self.default_where(relation, i, mask).await?;
                            let mask = BooleanArray::from(mask.clone());
                            arrow::compute::kernels::zip::zip(&mask, &default, &cast).map_err(Error::internal)?
                        }
                    }
                }
                None => self.default_value(relation, i, rows.num_rows()).await?,
            };
            columns.push(column);
        }
        self.checked(relation, columns, rows.num_rows())
    }

    /// A column's default, once for each of `rows` rows.
    pub(super) async fn default_value(&mut self, relation: &Relation, column: usize, rows: usize) -> Result<ArrayRef> {
        let schema = relation.arrow_schema();
        let field = schema.field(column);
        if let Some(sequence) = &relation.columns[column].identity {
            let numbers = self.numbers_of(sequence, rows).await?;
            return cast(&Int64Array::from(numbers), field.data_type()).map_err(Error::internal);
        }
        let Some(default) = relation.columns[column].default.clone() else {
            return Ok(new_null_array(field.data_type(), rows));
        };
        // A volatile default has a value for each row.
        let one = RecordBatch::try_new_with_options(
            Arc::new(Schema::empty()),
            vec![],
            &RecordBatchOptions::new().with_row_count(Some(rows)),
        )
        .expect("no columns");
        let text = format!("SELECT CAST(({default}) AS {}) AS v FROM __rows", relation.columns[column].sql_type);
        let values = self.rows_of(&text, &[("__rows", one)], &[]).await?;
        crate::sql::cast::assign(values.column(0), values.schema().field(0), field, &self.style()?)
    }

    /// A column's default where `mask` says so, anything elsewhere: no number is used up for a row that has one.
    async fn default_where(&mut self, relation: &Relation, column: usize, mask: &[bool]) -> Result<ArrayRef> {
        if relation.columns[column].identity.is_none() {
            return self.default_value(relation, column, mask.len()).await;
        }
        let numbers = self.default_value(relation, column, mask.iter().filter(|wanted| **wanted).count()).await?;
        let mut next = 0u32..;
        let places = mask.iter().map(|wanted| if *wanted { next.next() } else { None });
        let places: arrow::array::UInt32Array = places.collect();
        arrow::compute::take(&numbers, &places, None).map_err(Error::internal)
    }
}

/// A default must be an expression of the column's type.
pub(super) fn check_default(session: &Session, column: &Column, default: &str) -> Result<()> {
    let text = format!("SELECT CAST(({default}) AS {})", column.sql_type);
    let scope = session.scope();
    let state = session.state(&scope)?;
    bind_query(&state, &scope, &*crate::sql::parse::query(&text)?, &[]).map(|_| ())
}

pub(super) fn is_default(expr: &ast::Expr) -> bool {
    matches!(expr, ast::Expr::Identifier(i) if i.quote_style.is_none() && i.value.eq_ignore_ascii_case("default"))
}

/// DEFAULT in VALUES becomes NULL.
pub(super) fn without_defaults(source: &ast::Query) -> ast::Query {
    let mut query = source.clone();
    if let ast::SetExpr::Values(values) = query.body.as_mut() {
        for cell in values.rows.iter_mut().flat_map(|row| row.iter_mut()).filter(|cell| is_default(cell)) {
            *cell = ast::Expr::Value(ast::Value::Null.into());
        }
    }
    query
}

/// Where DEFAULT stands in VALUES, by column and row; nothing where it stands nowhere.
pub(super) fn defaulted_cells(source: &ast::Query) -> Vec<Vec<bool>> {
    let ast::SetExpr::Values(values) = source.body.as_ref() else { return Vec::new() };
    if !values.rows.iter().any(|row| row.iter().any(is_default)) {
        return Vec::new();
    }
    let width = values.rows.iter().map(|row| row.len()).max().unwrap_or(0);
    let defaulted = |column: usize| values.rows.iter().map(|row| row.get(column).is_some_and(is_default)).collect();
    (0..width).map(defaulted).collect()
}

/// The columns of GENERATED ALWAYS among `named`, whose values are given and not to be: `defaulted` as of
/// [`defaulted_cells`].
pub(super) fn check_generated(
    relation: &Relation,
    named: &[usize],
    defaulted: &[Vec<bool>],
    overriding: Option<Overriding>,
) -> Result<()> {
    for (i, &at) in named.iter().enumerate() {
        let column = &relation.columns[at];
        let given = || !defaulted.get(i).is_some_and(|mask| mask.iter().all(|is_default| *is_default));
        let generated = column.generated.is_some();
        if (generated || overriding.is_none() && is_always(column)) && given() {
            let message = format!("cannot insert a non-DEFAULT value into column \"{}\"", column.name);
            let error = Error::new("428C9", message).detail(always_detail(column));
            return Err(if generated { error } else { error.hint("Use OVERRIDING SYSTEM VALUE to override.") });
        }
    }
    Ok(())
}

/// `SET id = 5` of a column GENERATED ALWAYS, as an identity or as an expression.
pub(super) fn check_assigned(column: &Column, expr: &ast::Expr) -> Result<()> {
    if is_default(expr) || !is_always(column) && column.generated.is_none() {
        return Ok(());
    }
    Err(Error::new("428C9", format!("column \"{}\" can only be updated to DEFAULT", column.name))
        .detail(always_detail(column)))
}

fn is_always(column: &Column) -> bool {
    matches!(column.identity, Some(Identity { kind: IdentityKind::Always, .. }))
}

fn always_detail(column: &Column) -> String {
    if column.generated.is_some() {
        return format!("Column \"{}\" is a generated column.", column.name);
    }
    format!("Column \"{}\" is an identity column defined as GENERATED ALWAYS.", column.name)
}

/// Values that are given for identity columns are not taken with OVERRIDING USER VALUE.
pub(super) fn without_given(relation: &Relation, named: &[usize], rows: usize, defaulted: &mut Vec<Vec<bool>>) {
    defaulted.resize(named.len(), vec![false; rows]);
    for (mask, &at) in defaulted.iter_mut().zip(named) {
        let kind = relation.columns[at].identity.as_ref().map(|identity| identity.kind);
        if matches!(kind, Some(IdentityKind::Always | IdentityKind::ByDefault)) {
            *mask = vec![true; rows];
        }
    }
}
