//! The rows of each system relation, made from the catalog and the session.
//!
//! In comes a [`CatalogView`], out go Arrow batches in the declared order of columns. What does not
//! change while the server runs (the system's own rows of pg_attribute, pg_type, pg_proc …) is made once.

mod information;
mod objects;
mod sequences;
mod server;
mod statics;
mod usage;
mod views;

use std::sync::Arc;

use arrow::array::RecordBatch;
use datafusion::common::Result;

pub use objects::{can_be_set, constraint_definition, definition, description, index_definition, type_of, writable_by};
pub use server::{UTF8, setting_rows};
#[cfg(test)]
pub use statics::OPERATORS;
pub use statics::{add_type, function, function_name, function_oid, type_rows};

use super::CatalogView;
use super::enums;
use super::relations::{SystemRelation, find};

/// All rows of `relation` as `view` sees it.
pub fn rows(relation: &'static SystemRelation, view: &Arc<CatalogView>) -> Result<Vec<RecordBatch>> {
    let one = |batch: Result<RecordBatch>| batch.map(|b| vec![b]);
    if relation.schema_name == "information_schema" {
        return information::rows(relation, view).map(|b| b.into_iter().collect());
    }
    match relation.name {
        "pg_class" => Ok(vec![statics::classes().clone(), objects::classes(view)?]),
        "pg_attribute" => Ok(vec![statics::attributes().clone(), objects::attributes(view)?]),
        "pg_type" => Ok(vec![statics::types().clone(), enums::types(view)?]),
        "pg_enum" => one(enums::labels(view)),
        "pg_proc" => Ok(vec![statics::functions().clone()]),
        "pg_operator" => Ok(vec![statics::operators().clone()]),
        "pg_aggregate" => Ok(vec![statics::aggregates().clone()]),
        "pg_cast" => Ok(vec![statics::casts().clone()]),
        "pg_range" => Ok(vec![statics::ranges().clone()]),
        "pg_opclass" => Ok(vec![statics::operator_classes().clone()]),
        "pg_am" => one(statics::access_methods()),
        "pg_collation" => one(statics::collations()),
        "pg_language" => one(statics::languages()),
        "pg_namespace" => one(objects::namespaces(view)),
        "pg_index" => one(objects::indexes(view)),
        "pg_constraint" => one(objects::constraints(view)),
        "pg_sequence" => one(sequences::sequences(view)),
        "pg_sequences" => one(sequences::shown(view)),
        "pg_attrdef" => one(objects::defaults(view)),
        "pg_description" => one(objects::descriptions(view)),
        "pg_rewrite" => one(objects::rules(view)),
        "pg_depend" => one(objects::dependencies(view)),
        "pg_tables" => one(views::tables(view)),
        "pg_views" => one(views::views(view)),
        "pg_matviews" => one(views::materialized_views(view)),
        "pg_indexes" => one(views::indexes(view)),
        "pg_stat_user_tables" | "pg_stat_all_tables" | "pg_stat_xact_user_tables" | "pg_stat_xact_all_tables" => {
            one(views::table_statistics(relation, view))
        }
        "pg_statio_user_tables" | "pg_statio_all_tables" => one(views::table_io(relation, view)),
        "pg_database" => one(server::databases(view)),
        "pg_stat_database" => one(server::database_statistics(view)),
        "pg_tablespace" => one(server::tablespaces()),
        "pg_authid" | "pg_roles" => one(server::roles(relation, view)),
        "pg_user" | "pg_shadow" => one(server::users(relation, view)),
        "pg_settings" => one(server::settings(view)),
        "pg_stat_activity" => one(server::activity(view)),
        "pg_locks" => one(server::locks(view)),
        "pg_stat_ssl" | "pg_stat_gssapi" => one(server::encryption(relation, view)),
        _ => Ok(Vec::new()),
    }
}

/// The declaration of a relation of pg_catalog that this folder fills.
fn declared(name: &'static str) -> &'static SystemRelation {
    find(None, name).expect("the relation is in relations.txt")
}
