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
    /// Of each table or view that the plan reads those that there are, and those by its primary key and its indexes.
    pub(super) fn offer(&mut self, core: &Arc<Core>, scope: &Scope, plan: &LogicalPlan) -> Result<Offers> {
        let mut offers = Offers::default();
        for id in relations_read(plan)? {
            let Some(table) = scope.catalog.get(id) else { continue };
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

/// Whether one of those that a view reads is neither there any more nor just made.
pub(super) fn are_gone(catalog: &Catalog, view: &Relation, made: &[Relation]) -> bool {
    let is_made = |id: &RelationId| made.iter().any(|relation| relation.id == *id);
    view.arrangements.iter().any(|id| catalog.get(*id).is_none() && !is_made(id))
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
    let plain = |c: &Column| Column { default: None, identity: None, generated: None, absent: None, ..c.clone() };
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
        foreign_keys: Vec::new(),
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::engine::tests::run;
    use crate::engine::{Config, Engine};
    use crate::state::store::{Store, StoreOptions};

    fn arrangements(engine: &Engine) -> Vec<RelationId> {
        let catalog = engine.catalog();
        catalog.relations.values().filter(|r| r.kind == RelationKind::Arrangement).map(|r| r.id).collect()
    }

    /// Views that read an arrangement whose state is gone are suspended with it; resuming one of them brings it back.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_lost_arrangement_is_made_anew_with_its_first_view() {
        let place = tempfile::tempdir().unwrap();
        let config = Config { workers: 2, checkpoint_interval: None, ..Config::new(place.path()) };
        let open = || tokio::task::block_in_place(|| Engine::open(config.clone()));
        let engine = open().unwrap();
        run(
            &engine,
            "CREATE TABLE t (id int PRIMARY KEY, name text); CREATE STREAM s (k int);
             INSERT INTO t SELECT g, 'n' || g FROM generate_series(1, 100) AS x(g);
             INSERT INTO s SELECT g % 120 FROM generate_series(1, 1000) AS x(g);
             CREATE MATERIALIZED VIEW a AS SELECT t.name, count(*) AS n FROM s JOIN t ON t.id = s.k GROUP BY t.name;
             CREATE MATERIALIZED VIEW b AS SELECT s.k, t.name FROM s LEFT JOIN t ON t.id = s.k;
             CREATE MATERIALIZED VIEW beside AS SELECT count(*) AS n FROM t",
        )
        .await
        .unwrap();
        let [arrangement] = arrangements(&engine)[..] else { panic!("one for both") };
        engine.shutdown().await.unwrap();
        engine.release().await;
        {
            let options = StoreOptions { create: false, sync: true, cache_bytes: 16 << 20 };
            let store = Store::open_with_faults(place.path(), options, None).unwrap();
            let manifest = store.newest_manifest().unwrap();
            let part = manifest.parts.iter().find(|p| p.relation == arrangement && !p.blocks.is_empty()).unwrap();
            store.discard_blocks(&part.blocks).unwrap();
        }
        let engine = open().unwrap();
        engine.wait_started().await;
        for view in ["a", "b"] {
            let error = tokio::time::timeout(Duration::from_secs(60), async {
                loop {
                    match run(&engine, &format!("SELECT * FROM {view}")).await {
                        Ok(_) => tokio::time::sleep(Duration::from_millis(5)).await,
                        Err(error) => return error,
                    }
                }
            });
            assert_eq!(error.await.expect("the view is suspended").code, "55000");
        }
        assert_eq!(run(&engine, "SELECT * FROM beside WHERE n = 100").await.unwrap(), 1);
        run(&engine, "UPDATE t SET name = 'new' WHERE id = 7; INSERT INTO s VALUES (7), (8)").await.unwrap();
        for view in ["b", "a"] {
            run(&engine, &format!("ALTER MATERIALIZED VIEW {view} RESUME")).await.unwrap();
            run(&engine, "UPDATE t SET name = 'newer' WHERE id = 8; DELETE FROM t WHERE id = 9").await.unwrap();
            assert_eq!(run(&engine, &format!("VERIFY MATERIALIZED VIEW {view}")).await.unwrap(), 0);
        }
        assert_eq!(run(&engine, "SELECT * FROM b WHERE name = 'newer'").await.unwrap(), 10);
        assert_eq!(arrangements(&engine), [arrangement]);
        run(&engine, "DROP MATERIALIZED VIEW a").await.unwrap();
        assert_eq!(arrangements(&engine), [arrangement]);
        run(&engine, "DROP MATERIALIZED VIEW b").await.unwrap();
        assert!(arrangements(&engine).is_empty());
        engine.shutdown().await.unwrap();
    }
}
