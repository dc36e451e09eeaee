//! Arrangements that views share: which there could be for a query, and making those that its plan reads.

use std::sync::Arc;

use datafusion::logical_expr::LogicalPlan;

use super::Session;
use super::query::Scope;
use super::view::Making;
use crate::catalog::{Catalog, Column, Relation, RelationId, RelationKind};
use crate::core::Core;
use crate::error::Result;
use crate::plan::arranged::{Offer, Offers};
use crate::plan::lower::relations_read;
use crate::plan::{NodeKind, Plan, arranged};

/// The schema that arrangements are in: nobody looks there.
const SCHEMA: &str = "pg_arranged";

/// One that is to be made.
pub(super) struct NewArrangement {
    pub relation: Relation,
    pub plan: Plan,
}

/// The arrangements that a view which is being defined may read.
#[derive(Default)]
pub(super) struct Arrangements(Vec<NewArrangement>);

impl Arrangements {
    /// Of each table that the plan reads those that there are, and those by its primary key and its indexes.
    pub(super) fn offer(&mut self, core: &Arc<Core>, scope: &Scope, plan: &LogicalPlan) -> Result<Offers> {
        let mut offers = Offers::default();
        for id in relations_read(plan)? {
            let Some(table) = scope.catalog.get(id).filter(|r| r.kind == RelationKind::Table) else { continue };
            offers.0.extend(there(&scope.catalog, id));
            let indexes = table.indexes.iter().map(|index| &index.columns);
            for key in [&table.primary_key].into_iter().chain(indexes).filter(|key| !key.is_empty()) {
                if offers.find(id, key).is_some() {
                    continue;
                }
                let new = NewArrangement {
                    relation: relation(core.store.next_id()?, table, key),
                    plan: arranged::plan(table, key),
                };
                offers.0.push(Offer { id: new.relation.id, table: id, key: key.clone() });
                self.0.push(new);
            }
        }
        Ok(offers)
    }

    /// What has to be made for this plan.
    pub(super) fn read_by(self, plan: &Plan) -> Vec<NewArrangement> {
        let read = of(plan);
        self.0.into_iter().filter(|new| read.contains(&new.relation.id)).collect()
    }
}

/// The arrangements that a plan reads.
pub(super) fn of(plan: &Plan) -> Vec<RelationId> {
    let read = plan.nodes.iter().filter_map(|node| match node.kind {
        NodeKind::Arranged { arrangement, .. } => Some(arrangement),
        _ => None,
    });
    let mut read: Vec<RelationId> = read.collect();
    read.sort_unstable();
    read.dedup();
    read
}

/// Those of a table that there are.
fn there(catalog: &Catalog, table: RelationId) -> impl Iterator<Item = Offer> {
    catalog.arrangements_of(table).map(move |r| Offer { id: r.id, table, key: r.dealt_by.clone() })
}

/// Those that there are of any table of a plan.
pub(super) fn there_for(catalog: &Catalog, plan: &LogicalPlan) -> Result<Offers> {
    Ok(Offers(relations_read(plan)?.into_iter().flat_map(|id| there(catalog, id)).collect()))
}

/// Those that a view was made with.
pub(super) fn read_by(view: &Relation, catalog: &Catalog) -> Offers {
    let relations = view.arrangements.iter().filter_map(|id| catalog.get(*id));
    Offers(relations.map(|r| Offer { id: r.id, table: r.depends_on[0], key: r.dealt_by.clone() }).collect())
}

/// The plan of an arrangement that exists.
pub fn plan_of(arrangement: &Relation, catalog: &Catalog) -> Result<Plan> {
    let table = catalog.get(arrangement.depends_on[0]);
    let table = table.ok_or_else(|| crate::error::Error::undefined_relation(&arrangement.name))?;
    Ok(arranged::plan(table, &arrangement.dealt_by))
}

/// Those of a view that are suspended, with their plans.
pub(super) fn suspended(core: &Arc<Core>, view: &Relation) -> Vec<(Arc<Relation>, Plan)> {
    let catalog = core.catalog();
    let failed = |id: &&RelationId| core.view(**id).is_none_or(|status| status.failure().is_some());
    let relations = view.arrangements.iter().filter(failed).filter_map(|id| catalog.get(*id));
    relations.filter_map(|r| Some((r.clone(), plan_of(r, &catalog).ok()?))).collect()
}

fn relation(id: RelationId, table: &Relation, key: &[usize]) -> Relation {
    let plain = |c: &Column| Column { default: None, identity: None, generated: None, ..c.clone() };
    let names: Vec<&str> = key.iter().map(|&c| table.columns[c].name.as_str()).collect();
    Relation {
        id,
        schema_name: SCHEMA.into(),
        name: format!("{} by {}", table.name, names.join(", ")),
        kind: RelationKind::Arrangement,
        columns: table.columns.iter().map(plain).collect(),
        primary_key: Vec::new(),
        primary_key_name: None,
        indexes: Vec::new(),
        checks: Vec::new(),
        sql: String::new(),
        query: None,
        options: Default::default(),
        watermark: None,
        depends_on: vec![table.id],
        arrangements: Vec::new(),
        starts: Default::default(),
        bounds: Vec::new(),
        dealt_by: key.to_vec(),
        comment: None,
        column_comments: Default::default(),
        schema: Default::default(),
        ..table.clone()
    }
}

impl Session {
    /// Makes them live; they are in no catalog yet.
    pub(super) async fn make_arrangements(
        &self,
        new: Vec<NewArrangement>,
        making: &mut Vec<Making>,
    ) -> Result<Vec<Relation>> {
        let mut made = Vec::new();
        for NewArrangement { mut relation, plan } in new {
            making.insert(0, self.make_live(&mut relation, Arc::new(plan)).await?);
            made.push(relation);
        }
        Ok(made)
    }
}
