//! What information_schema says of columns beside `columns`: the types that they are of, the elements of those that are arrays,
//! and who may do what with them.

use std::sync::Arc;

use millrace_engine::catalog::Relation;

use super::objects::type_of;
use super::views::owner;
use crate::pg_catalog::CatalogView;
use crate::pg_catalog::enums;
use crate::pg_catalog::names::Names;
use crate::pg_catalog::relations::{Rows, SystemRelation};
use crate::pg_catalog::types::{self, Type};
use crate::pg_catalog::value::Value;

pub fn rows(relation: &'static SystemRelation, view: &CatalogView) -> Option<Rows> {
    let make = |fields: &str| Rows::new(relation, fields);
    let database = || Value::from(view.database.as_str());
    let columns = || view.user_relations().flat_map(|r| (0..r.columns.len()).map(move |at| (r, at)));
    let text = |text: &str| Value::from(text);
    let rows = match relation.name {
        "column_udt_usage" => {
            let mut rows = make("udt_catalog udt_schema udt_name table_catalog table_schema table_name column_name");
            for (r, at) in columns() {
                let (of, _) = type_of(&r.columns[at]);
                let schema = enums::schema_of(view, of.oid);
                let (table, column) = (text(&r.name), text(&r.columns[at].name));
                rows.add([database(), text(&schema), of.name.into(), database(), text(&r.schema_name), table, column]);
            }
            rows
        }
        "data_type_privileges" => {
            let mut rows = make("object_catalog object_schema object_name object_type dtd_identifier");
            for (r, at) in columns() {
                let identifier = (at + 1).to_string();
                rows.add([database(), text(&r.schema_name), text(&r.name), "TABLE".into(), identifier.into()]);
            }
            rows
        }
        "element_types" => {
            let mut rows = make(
                "object_catalog object_schema object_name object_type collection_type_identifier data_type udt_catalog \
                 udt_schema udt_name dtd_identifier",
            );
            for (r, at) in columns() {
                let Some((element, schema)) = element_of(r, at, view) else { continue };
                let data_type = if element.category() == "E" { "USER-DEFINED" } else { element.display };
                let place = (at + 1).to_string();
                rows.add([
                    database(),
                    text(&r.schema_name),
                    text(&r.name),
                    "TABLE".into(),
                    text(&place),
                    data_type.into(),
                    database(),
                    text(&schema),
                    element.name.into(),
                    format!("a{place}").into(),
                ]);
            }
            rows
        }
        "column_privileges" | "role_column_grants" => {
            let mut rows =
                make("grantor grantee table_catalog table_schema table_name column_name privilege_type is_grantable");
            for (r, at) in columns() {
                for privilege in ["INSERT", "REFERENCES", "SELECT", "UPDATE"] {
                    rows.add([
                        owner(r).into(),
                        owner(r).into(),
                        database(),
                        text(&r.schema_name),
                        text(&r.name),
                        text(&r.columns[at].name),
                        privilege.into(),
                        "YES".into(),
                    ]);
                }
            }
            rows
        }
        _ => return None,
    };
    Some(rows)
}

/// The type of an array's elements, and the schema of that.
fn element_of(relation: &Arc<Relation>, at: usize, view: &CatalogView) -> Option<(&'static Type, String)> {
    let element = relation.columns[at].sql_type.strip_suffix("[]")?;
    let (of, _) = enums::of_column(element).map(|of| (of, -1)).or_else(|| types::parse(element))?;
    Some((of, enums::schema_of(view, of.oid)))
}
