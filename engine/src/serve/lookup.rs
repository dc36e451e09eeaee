//! Look-ups by key: `WHERE k = 5` reads the rows that may have the key, not the relation.
//!
//! Columns are known to be a key by a primary key, by a view's GROUP BY or by CREATE INDEX. Segments of arrangements index themselves when they
//! are first asked (`state/segment_index.rs`); streams are read from the log as before. What is found may be more than what
//! was asked for: the condition stays in the plan.

use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::common::ScalarValue;
use datafusion::common::tree_node::Transformed;
use datafusion::datasource::{provider_as_source, source_as_provider};
use datafusion::error::Result;
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::logical_expr::{BinaryExpr, Expr, LogicalPlan, Operator, TableScan};

use super::table::RelationTable;
use crate::catalog::Relation;
use crate::delta::keys::KeyEncoder;
use crate::state::segment_index::Wanted;

/// A plan whose scans under a condition on a whole key are look-ups. `noting`: the other ones are to know their condition.
pub fn by_key(plan: LogicalPlan, noting: bool) -> Result<LogicalPlan> {
    let plan = plan.transform_down_with_subqueries(|node| {
        let LogicalPlan::Filter(mut filter) = node else { return Ok(Transformed::no(node)) };
        let LogicalPlan::TableScan(scan) = filter.input.as_ref() else {
            return Ok(Transformed::no(LogicalPlan::Filter(filter)));
        };
        let found = looked_up(scan, &filter.predicate);
        match found.or_else(|| noting.then(|| conditioned(scan, &filter.predicate)).flatten()) {
            Some(scan) => {
                filter.input = Arc::new(LogicalPlan::TableScan(scan));
                Ok(Transformed::yes(LogicalPlan::Filter(filter)))
            }
            None => Ok(Transformed::no(LogicalPlan::Filter(filter))),
        }
    });
    Ok(plan?.data)
}

fn looked_up(scan: &TableScan, predicate: &Expr) -> Option<TableScan> {
    let provider = source_as_provider(&scan.source).ok()?;
    let table = provider.downcast_ref::<RelationTable>()?;
    let relation = table.relation();
    let conditions: Vec<(usize, &ScalarValue)> =
        split_conjunction(predicate).into_iter().filter_map(|e| equality(relation, e)).collect();
    let wanted = keys_of(relation).find_map(|key| {
        let values = key.iter().map(|column| conditions.iter().find(|(c, _)| c == column).map(|(_, value)| *value));
        wanted(key, &values.collect::<Option<Vec<_>>>()?)
    })?;
    Some(TableScan { source: provider_as_source(Arc::new(table.looking_up(wanted))), ..scan.clone() })
}

fn conditioned(scan: &TableScan, predicate: &Expr) -> Option<TableScan> {
    let provider = source_as_provider(&scan.source).ok()?;
    let table = provider.downcast_ref::<RelationTable>()?;
    let source = provider_as_source(Arc::new(table.under(predicate.clone(), &scan.table_name)));
    Some(TableScan { source, ..scan.clone() })
}

/// Rows with these values in these columns, which are of the columns' types and not NULL.
pub fn wanted(columns: &[usize], values: &[&ScalarValue]) -> Option<Wanted> {
    let arrays = values.iter().map(|value| value.to_array().ok()).collect::<Option<Vec<_>>>()?;
    let encoder = KeyEncoder::new(&arrays.iter().map(|a| a.data_type().clone()).collect::<Vec<_>>()).ok()?;
    Some(Wanted { columns: columns.to_vec(), hash: encoder.encode_rows(&arrays, 1).hashes[0] })
}

/// The columns by which a relation's rows can be looked up.
pub fn keys_of(relation: &Relation) -> impl Iterator<Item = &[usize]> {
    let own = [&relation.primary_key[..], &relation.dealt_by[..]].into_iter().filter(|key| !key.is_empty());
    own.chain(relation.indexes.iter().map(|index| &index.columns[..]))
}

/// `column = value`, where equal values are the same bytes.
fn equality<'a>(relation: &Relation, expr: &'a Expr) -> Option<(usize, &'a ScalarValue)> {
    let Expr::BinaryExpr(BinaryExpr { left, op: Operator::Eq, right }) = expr else { return None };
    let (column, value) = match (left.as_ref(), right.as_ref()) {
        (Expr::Column(column), Expr::Literal(value, _)) | (Expr::Literal(value, _), Expr::Column(column)) => {
            (column, value)
        }
        _ => return None,
    };
    let schema = relation.arrow_schema();
    let at = schema.index_of(&column.name).ok()?;
    let data_type = schema.field(at).data_type();
    (*data_type == value.data_type() && !value.is_null() && is_exact(data_type)).then_some((at, value))
}

/// Whether equal values of a type are the same bytes.
pub fn is_exact(data_type: &DataType) -> bool {
    !data_type.is_floating() && !data_type.is_nested()
}
