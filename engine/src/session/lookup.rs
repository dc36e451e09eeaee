//! `SELECT … FROM t WHERE key = $1`, which needs no executor: the rows that the index of `t` finds, filtered and projected.
//! What serves pages, and most of what updates and deletes, is of this form, and making an executor for a row takes
//! ten times as long as finding it.

use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch, RecordBatchOptions};
use arrow::compute::{concat_batches, filter_record_batch};
use arrow::datatypes::{Field, FieldRef, Schema, SchemaRef};
use datafusion::common::DFSchemaRef;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::datasource::source_as_provider;
use datafusion::execution::SessionState;
use datafusion::logical_expr::expr::Placeholder;
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::logical_expr::{BinaryExpr, Expr, Filter, LogicalPlan, Operator, Projection};

use super::plans::Evaluate;
use super::query::Argument;
use crate::catalog::Relation;
use crate::error::{Error, Result};
use crate::serve::lookup::{is_exact, keys_of, wanted};
use crate::serve::snapshot::Snapshot;
use crate::serve::table::{RelationTable, found};
use crate::sql::bind::error_from;
use crate::sql::size::is_large;

/// More rows than this are an executor's business, which takes them in portions.
const ROWS_MAX: usize = 1024;
/// The same where columns are computed of them, each of which may be large.
const COMPUTED_ROWS_MAX: usize = 64;

/// A plan of that form, with its parameters.
pub struct Lookup {
    relation: Arc<Relation>,
    /// The columns of a key, and what they are to be equal to.
    key: Vec<(usize, Expr)>,
    predicate: Expr,
    /// Of the columns that are read.
    scanned: DFSchemaRef,
    projected: Option<Vec<usize>>,
    /// The columns computed, and of which; as they are when `None`.
    computed: Option<(Vec<Expr>, DFSchemaRef)>,
    fields: Vec<FieldRef>,
}

/// Whether a bound plan may come to one when it is optimized, which takes a while to find out.
pub fn may_be_lookup(plan: &LogicalPlan) -> bool {
    if is_large(plan) {
        return false;
    }
    // Columns that are to be equal to something; above a projection they may be called otherwise.
    let (mut plan, mut equal, mut renamed) = (plan, Vec::new(), false);
    loop {
        match plan {
            LogicalPlan::Projection(_) => renamed |= !equal.is_empty(),
            LogicalPlan::SubqueryAlias(_) => {}
            LogicalPlan::Filter(filter) => {
                let sides = split_conjunction(&filter.predicate).into_iter().filter_map(|e| match e {
                    Expr::BinaryExpr(BinaryExpr { left, op: Operator::Eq, right }) => Some([left, right]),
                    _ => None,
                });
                equal.extend(sides.flatten().filter_map(|side| side.try_as_col().map(|column| column.name.as_str())));
            }
            _ => break,
        }
        plan = plan.inputs()[0];
    }
    let LogicalPlan::TableScan(scan) = plan else { return false };
    let Ok(provider) = source_as_provider(&scan.source) else { return false };
    let Some(table) = provider.downcast_ref::<RelationTable>() else { return false };
    let relation = table.relation();
    let named = |key: &[usize]| key.iter().all(|&c| equal.contains(&relation.columns[c].name.as_str()));
    !equal.is_empty() && keys_of(relation).any(|key| renamed || named(key))
}

impl Lookup {
    /// Of an optimized plan.
    pub fn of(plan: &LogicalPlan) -> Option<Lookup> {
        let fields = plan.schema().fields().iter().cloned().collect();
        let (mut plan, computed) = match plan {
            LogicalPlan::Projection(Projection { expr, input, .. }) => {
                (input.as_ref(), Some((expr.clone(), input.schema().clone())))
            }
            plan => (plan, None),
        };
        while let LogicalPlan::SubqueryAlias(alias) = plan {
            plan = alias.input.as_ref();
        }
        let LogicalPlan::Filter(Filter { predicate, input, .. }) = plan else { return None };
        let LogicalPlan::TableScan(scan) = input.as_ref() else { return None };
        let provider = source_as_provider(&scan.source).ok()?;
        let relation = provider.downcast_ref::<RelationTable>()?.relation().clone();
        if scan.fetch.is_some() || !scan.filters.is_empty() {
            return None;
        }
        let schema = relation.arrow_schema();
        let conditions = split_conjunction(predicate).into_iter().filter_map(|e| equality(&schema, e));
        let conditions: Vec<(usize, &Expr)> = conditions.collect();
        let of = |column: &usize| conditions.iter().find(|(c, _)| c == column).map(|(c, value)| (*c, (*value).clone()));
        let key = keys_of(&relation).find_map(|key| key.iter().map(of).collect::<Option<Vec<_>>>())?;
        Some(Lookup {
            key,
            predicate: predicate.clone(),
            scanned: scan.projected_schema.clone(),
            projected: scan.projection.clone(),
            computed,
            fields,
            relation,
        })
    }

    /// Its rows; `None` where it takes an executor after all.
    pub fn run(
        &self,
        state: &SessionState,
        snapshot: &Snapshot,
        names: &[String],
        arguments: &[Argument],
    ) -> Result<Option<RecordBatch>> {
        let fields = self.fields.iter().zip(names).map(|(field, name)| field.as_ref().clone().with_name(name));
        let schema: SchemaRef = Arc::new(Schema::new(fields.collect::<Vec<Field>>()));
        let mut evaluate = Evaluate::new(state);
        let relation = self.relation.arrow_schema();
        let mut values = Vec::with_capacity(self.key.len());
        for (column, value) in &self.key {
            let Some(value) = evaluate.cell(&with_arguments(value, arguments)?)? else { return Ok(None) };
            if value.is_null() {
                return Ok(Some(RecordBatch::new_empty(schema)));
            }
            if value.data_type() != *relation.field(*column).data_type() {
                return Ok(None);
            }
            values.push(value);
        }
        let columns: Vec<usize> = self.key.iter().map(|(column, _)| *column).collect();
        let wanted = wanted(&columns, &values.iter().collect::<Vec<_>>());
        let scan = snapshot.relations.get(&self.relation.id);
        let (Some(wanted), Some(scan)) = (wanted, scan) else { return Ok(None) };
        let Some(found) = found(scan, &wanted) else { return Ok(None) };
        snapshot.note(self.relation.id, Some(&wanted));
        let predicate = with_arguments(&self.predicate, arguments)?;
        let predicate = state.create_physical_expr(predicate, &self.scanned).map_err(error_from)?;
        let mut rows = Vec::new();
        for batch in found {
            let mut batch = batch?;
            if let Some(projected) = &self.projected {
                batch = batch.project(projected).map_err(Error::internal)?;
            }
            if batch.num_rows() > ROWS_MAX {
                return Ok(None);
            }
            let holds = predicate.evaluate(&batch).and_then(|holds| holds.into_array(batch.num_rows()));
            let holds = holds.map_err(error_from)?;
            let Some(holds) = holds.as_boolean_opt() else { return Ok(None) };
            rows.push(filter_record_batch(&batch, holds).map_err(Error::internal)?);
        }
        let count = rows.iter().map(RecordBatch::num_rows).sum::<usize>();
        let computes = |(exprs, _): &(Vec<Expr>, _)| exprs.iter().any(|e| !matches!(e, Expr::Column(_)));
        let computes = self.computed.as_ref().is_some_and(computes);
        if count > if computes { COMPUTED_ROWS_MAX } else { ROWS_MAX } {
            return Ok(None);
        }
        let Some(first) = rows.first() else { return Ok(Some(RecordBatch::new_empty(schema))) };
        let rows = concat_batches(&first.schema(), &rows).map_err(Error::internal)?;
        let columns = match &self.computed {
            None => rows.columns().to_vec(),
            Some((exprs, input)) => {
                let mut columns = Vec::with_capacity(exprs.len());
                for expr in exprs {
                    let expr = with_arguments(expr, arguments)?;
                    let expr = state.create_physical_expr(expr, input).map_err(error_from)?;
                    let column = expr.evaluate(&rows).and_then(|column| column.into_array(count));
                    columns.push(column.map_err(error_from)?);
                }
                columns
            }
        };
        if columns.iter().zip(schema.fields()).any(|(column, field)| column.data_type() != field.data_type()) {
            return Ok(None);
        }
        let options = RecordBatchOptions::new().with_row_count(Some(count));
        RecordBatch::try_new_with_options(schema, columns, &options).map(Some).map_err(Error::internal)
    }
}

/// `column = something without columns`, where equal values are the same bytes.
fn equality<'a>(schema: &Schema, expr: &'a Expr) -> Option<(usize, &'a Expr)> {
    let Expr::BinaryExpr(BinaryExpr { left, op: Operator::Eq, right }) = expr else { return None };
    let (column, value) = match (left.as_ref(), right.as_ref()) {
        (Expr::Column(column), value) | (value, Expr::Column(column)) => (column, value),
        _ => return None,
    };
    let at = schema.index_of(&column.name).ok()?;
    let constant = value.column_refs().is_empty() && !value.is_volatile();
    (constant && is_exact(schema.field(at).data_type())).then_some((at, value))
}

/// The values of the parameters in their places.
fn with_arguments(expr: &Expr, arguments: &[Argument]) -> Result<Expr> {
    let value = |expr: Expr| match &expr {
        Expr::Placeholder(Placeholder { id, .. }) => {
            let number = id.trim_start_matches('$').parse::<usize>().ok();
            let argument = number.and_then(|number| arguments.get(number.checked_sub(1)?));
            let Some(argument) = argument.cloned() else {
                let error = Error::new("42P02", format!("there is no parameter {id}"));
                return Err(datafusion::error::DataFusionError::External(Box::new(error)));
            };
            Ok(Transformed::yes(Expr::Literal(argument.value, argument.metadata)))
        }
        _ => Ok(Transformed::no(expr)),
    };
    expr.clone().transform_up(value).map(|expr| expr.data).map_err(error_from)
}
