//! Joins whose one side is a table by columns for which there is an arrangement: they read it instead of keeping the rows.

use datafusion::common::Column;
use datafusion::datasource::source_as_provider;
use datafusion::logical_expr::{Expr, Join, LogicalPlan};

use arrow::datatypes::SchemaRef;

use super::{Lowering, UnaliasRef, at_arrival, temporal};
use crate::operators::join::{JoinKind, KeptSpec};
use crate::plan::arranged::Offer;
use crate::plan::{NodeKind, event_time};
use crate::serve::table::RelationTable;

/// A side of a join that an arrangement keeps.
pub(super) struct ArrangedSide {
    offer: Offer,
    name: String,
    primary_key: Vec<usize>,
    /// For each column of the side which it is of the table's.
    columns: Vec<usize>,
    /// Columns of the side.
    key: Vec<usize>,
}

impl Lowering<'_> {
    /// The equalities of a join, in the order of the arrangement's key if a side is arranged, and the side that is. One of them
    /// at most: the other's rows, as they are fed, make the join's first result.
    pub(super) fn arranged_sides(&self, join: &Join, kind: JoinKind) -> (Vec<(Expr, Expr)>, [Option<ArrangedSide>; 2]) {
        let (_, lasting) = temporal::split(join.filter.as_ref());
        let mut sides = [None, None];
        for (port, plan) in [(1, &join.right), (0, &join.left)] {
            if self.offers.0.is_empty() || kind.counts(port) || at_arrival(lasting.clone()).0 {
                continue;
            }
            let exprs: Vec<&Expr> = join.on.iter().map(|(l, r)| if port == 0 { l } else { r }).collect();
            let Some(side) = self.arranged(plan, &exprs) else { continue };
            let place = |column| side.key.iter().position(|&key| side.columns[key] == column);
            let Some(order) = side.offer.key.iter().map(|&c| place(c)).collect::<Option<Vec<usize>>>() else {
                continue;
            };
            let key = order.iter().map(|&place| side.key[place]).collect();
            sides[port] = Some(ArrangedSide { key, ..side });
            return (order.into_iter().map(|place| join.on[place].clone()).collect(), sides);
        }
        (join.on.clone(), sides)
    }

    /// A plan that only names a table's columns, compared by `exprs`, where there is an arrangement by these.
    fn arranged(&self, plan: &LogicalPlan, exprs: &[&Expr]) -> Option<ArrangedSide> {
        let (scanned, columns) = scanned(plan)?;
        let LogicalPlan::TableScan(scan) = scanned else { return None };
        let provider = source_as_provider(&scan.source).ok()?;
        let table = provider.downcast_ref::<RelationTable>()?.relation();
        // What never takes a row back, or forgets rows by a watermark, promises more than an arrangement.
        if provider.downcast_ref::<RelationTable>()?.append_only() || !event_time::of_relation(table).is_empty() {
            return None;
        }
        let place = |expr: &&Expr| match expr.unalias_ref() {
            Expr::Column(column) => plan.schema().maybe_index_of_column(column),
            _ => None,
        };
        let key: Vec<usize> = exprs.iter().map(place).collect::<Option<_>>()?;
        let of_table: Vec<usize> = key.iter().map(|&c| columns[c]).collect();
        let offer = self.offers.find(table.id, &of_table)?.clone();
        let names: Vec<&str> = offer.key.iter().map(|&c| table.columns[c].name.as_str()).collect();
        let name = format!("{} by {}", table.name, names.join(", "));
        Some(ArrangedSide { offer, name, primary_key: table.primary_key.clone(), columns, key })
    }

    /// Its node, its key, and where its rows are.
    pub(super) fn arranged_side(&mut self, side: &ArrangedSide, schema: SchemaRef) -> (usize, Vec<usize>, KeptSpec) {
        let arrangement = side.offer.id;
        self.primary_keys.insert(arrangement, side.primary_key.clone());
        let kind = NodeKind::Arranged { arrangement, name: side.name.clone(), columns: side.columns.clone() };
        let node = self.push(kind, vec![], schema, false, Some(side.key.clone()));
        (node, side.key.clone(), KeptSpec { arrangement, columns: side.columns.clone() })
    }
}

/// The scan below a plan that does nothing but name columns of it, and which those are of the relation's.
fn scanned(plan: &LogicalPlan) -> Option<(&LogicalPlan, Vec<usize>)> {
    match plan {
        LogicalPlan::SubqueryAlias(alias) => scanned(&alias.input),
        LogicalPlan::Projection(projection) => {
            let (scan, below) = scanned(&projection.input)?;
            let place = |expr: &Expr| match expr.unalias_ref() {
                Expr::Column(column) => place(&projection.input, column).map(|at| below[at]),
                _ => None,
            };
            Some((scan, projection.expr.iter().map(place).collect::<Option<_>>()?))
        }
        LogicalPlan::TableScan(scan) if scan.filters.is_empty() && scan.fetch.is_none() => {
            let all = || (0..scan.source.schema().fields().len()).collect();
            Some((plan, scan.projection.clone().unwrap_or_else(all)))
        }
        _ => None,
    }
}

fn place(plan: &LogicalPlan, column: &Column) -> Option<usize> {
    plan.schema().maybe_index_of_column(column)
}
