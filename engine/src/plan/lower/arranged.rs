//! Joins whose one side is a table by columns for which there is an arrangement: they read it instead of keeping the rows.

use arrow::datatypes::SchemaRef;
use datafusion::common::NullEquality;
use datafusion::datasource::source_as_provider;
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::logical_expr::{Expr, Join, LogicalPlan, TableScan};

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
            let Some(side) = self.arranged(plan, &exprs, join.null_equality) else { continue };
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
    fn arranged(&self, plan: &LogicalPlan, exprs: &[&Expr], nulls: NullEquality) -> Option<ArrangedSide> {
        let Scanned { scan, columns, not_null } = scanned(plan)?;
        let provider = source_as_provider(&scan.source).ok()?;
        let table = provider.downcast_ref::<RelationTable>()?.relation();
        // What never takes a row back, or forgets rows by a watermark, promises more than an arrangement.
        if provider.downcast_ref::<RelationTable>()?.append_only() || !event_time::of_relation(table).is_empty() {
            return None;
        }
        let key: Vec<usize> = exprs.iter().map(|expr| place(plan, expr)).collect::<Option<_>>()?;
        let of_table: Vec<usize> = key.iter().map(|&c| columns[c]).collect();
        let offer = self.offers.find(table.id, &of_table)?.clone();
        // Where NULL equals nothing, rows with a NULL in the key meet nothing, whether they are left out or not.
        let left_out = not_null.iter().all(|column| offer.key.contains(column));
        if !left_out || !not_null.is_empty() && nulls == NullEquality::NullEqualsNull {
            return None;
        }
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

struct Scanned<'a> {
    scan: &'a TableScan,
    /// For each column which it is of the relation's.
    columns: Vec<usize>,
    /// Columns of the relation: rows with a NULL in one of them are left out.
    not_null: Vec<usize>,
}

/// The scan below a plan that does nothing but name columns of it and leave out NULLs.
fn scanned(plan: &LogicalPlan) -> Option<Scanned<'_>> {
    match plan {
        LogicalPlan::SubqueryAlias(alias) => scanned(&alias.input),
        LogicalPlan::Projection(projection) => {
            let below = scanned(&projection.input)?;
            let place = |expr: &Expr| place(&projection.input, expr).map(|at| below.columns[at]);
            let columns = projection.expr.iter().map(place).collect::<Option<_>>()?;
            Some(Scanned { columns, ..below })
        }
        LogicalPlan::Filter(filter) => {
            let mut below = scanned(&filter.input)?;
            for condition in split_conjunction(&filter.predicate) {
                let Expr::IsNotNull(of) = condition else { return None };
                below.not_null.push(below.columns[place(&filter.input, of)?]);
            }
            Some(below)
        }
        LogicalPlan::TableScan(scan) if scan.filters.is_empty() && scan.fetch.is_none() => {
            let all = || (0..scan.source.schema().fields().len()).collect();
            let columns = scan.projection.clone().unwrap_or_else(all);
            Some(Scanned { scan, columns, not_null: Vec::new() })
        }
        _ => None,
    }
}

/// Which column of a plan it is, if it is no more than that.
fn place(plan: &LogicalPlan, expr: &Expr) -> Option<usize> {
    match expr.unalias_ref() {
        Expr::Column(column) => plan.schema().maybe_index_of_column(column),
        _ => None,
    }
}
