//! The views of pg_catalog that tools read instead of the base catalogs: pg_tables, pg_views,
//! pg_matviews, pg_indexes and the statistics per table.

use std::sync::Arc;

use arrow::array::RecordBatch;
use datafusion::common::Result;
use millrace_engine::catalog::{Relation, RelationKind};

use super::{declared, objects};
use crate::pg_catalog::CatalogView;
use crate::pg_catalog::names::Names;
use crate::pg_catalog::names::{BOOTSTRAP_ROLE, indexes_of, relkind};
use crate::pg_catalog::relations::{RELATIONS, Rows, SystemRelation};
use crate::pg_catalog::value::Value;

pub fn owner(relation: &Relation) -> &str {
    if relation.owner.is_empty() { BOOTSTRAP_ROLE } else { &relation.owner }
}

fn of_kind<'a>(view: &'a CatalogView, kind: &'a str) -> impl Iterator<Item = &'a Arc<Relation>> {
    view.user_relations().filter(move |r| relkind(r.kind) == Some(kind))
}

pub fn tables(view: &CatalogView) -> Result<RecordBatch> {
    let mut rows =
        Rows::new(declared("pg_tables"), "schemaname tablename tableowner hasindexes hasrules hastriggers rowsecurity");
    let none = || Value::Bool(false);
    for r in of_kind(view, "r") {
        rows.add([
            r.schema_name.as_str().into(),
            r.name.as_str().into(),
            owner(r).into(),
            (!r.primary_key.is_empty()).into(),
            none(),
            none(),
            none(),
        ]);
    }
    for r in RELATIONS.all.iter().filter(|r| r.kind == "r") {
        rows.add([r.schema_name.into(), r.name.into(), BOOTSTRAP_ROLE.into(), none(), none(), none(), none()]);
    }
    rows.finish()
}

pub fn views(view: &CatalogView) -> Result<RecordBatch> {
    let mut rows = Rows::new(declared("pg_views"), "schemaname viewname viewowner definition");
    for r in of_kind(view, "v") {
        rows.add([
            r.schema_name.as_str().into(),
            r.name.as_str().into(),
            owner(r).into(),
            objects::definition(r, view).into(),
        ]);
    }
    for r in RELATIONS.all.iter().filter(|r| r.kind == "v") {
        rows.add([r.schema_name.into(), r.name.into(), BOOTSTRAP_ROLE.into(), Value::Null]);
    }
    rows.finish()
}

pub fn materialized_views(view: &CatalogView) -> Result<RecordBatch> {
    let mut rows =
        Rows::new(declared("pg_matviews"), "schemaname matviewname matviewowner hasindexes ispopulated definition");
    for r in of_kind(view, "m") {
        rows.add([
            r.schema_name.as_str().into(),
            r.name.as_str().into(),
            owner(r).into(),
            (!indexes_of(r).is_empty()).into(),
            true.into(),
            objects::definition(r, view).into(),
        ]);
    }
    rows.finish()
}

pub fn indexes(view: &CatalogView) -> Result<RecordBatch> {
    let mut rows = Rows::new(declared("pg_indexes"), "schemaname tablename indexname indexdef");
    for index in view.user_relations().flat_map(indexes_of) {
        let (r, definition) = (&index.relation, objects::index_definition(&index, None));
        rows.add([
            r.schema_name.as_str().into(),
            r.name.as_str().into(),
            index.name.as_str().into(),
            definition.into(),
        ]);
    }
    rows.finish()
}

/// What Postgres counts per table; of that Millrace knows the live rows.
fn counted(view: &CatalogView) -> impl Iterator<Item = (&Arc<Relation>, i64)> {
    let stored = |r: &&Arc<Relation>| r.kind != RelationKind::View;
    view.user_relations().filter(stored).map(|r| (r, view.live.size(r.id).map_or(0, |s| s.rows as i64)))
}

pub fn table_statistics(relation: &'static SystemRelation, view: &CatalogView) -> Result<RecordBatch> {
    let zeros = "seq_scan seq_tup_read n_tup_ins n_tup_upd n_tup_del n_tup_hot_upd";
    if relation.name.contains("xact") {
        let mut rows = Rows::new(relation, &format!("relid schemaname relname {zeros}"));
        for (r, _) in counted(view) {
            let zero = || Value::Int(0);
            rows.add([
                r.id.into(),
                r.schema_name.as_str().into(),
                r.name.as_str().into(),
                zero(),
                zero(),
                zero(),
                zero(),
                zero(),
                zero(),
            ]);
        }
        return rows.finish();
    }
    let mut rows = Rows::new(
        relation,
        &format!(
            "relid schemaname relname n_live_tup {zeros} n_dead_tup n_mod_since_analyze n_ins_since_vacuum vacuum_count \
             autovacuum_count analyze_count autoanalyze_count"
        ),
    );
    for (r, live) in counted(view) {
        let zero = || Value::Int(0);
        rows.add([
            r.id.into(),
            r.schema_name.as_str().into(),
            r.name.as_str().into(),
            live.into(),
            zero(),
            zero(),
            zero(),
            zero(),
            zero(),
            zero(),
            zero(),
            zero(),
            zero(),
            zero(),
            zero(),
            zero(),
            zero(),
        ]);
    }
    rows.finish()
}

pub fn table_io(relation: &'static SystemRelation, view: &CatalogView) -> Result<RecordBatch> {
    let mut rows = Rows::new(relation, "relid schemaname relname heap_blks_read heap_blks_hit");
    for (r, _) in counted(view) {
        rows.add([r.id.into(), r.schema_name.as_str().into(), r.name.as_str().into(), 0.into(), 0.into()]);
    }
    rows.finish()
}
