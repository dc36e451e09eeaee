//! information_schema, as the SQL standard and Postgres have it: the user's relations and the system's.
//!
//! Materialized views are in `tables` and `columns` (Postgres leaves them out), because tools that know
//! only the standard's views would not see them; their table_type is `BASE TABLE` for the same reason.
//! Streams are base tables too.

use arrow::array::RecordBatch;
use datafusion::common::Result;
use millrace_engine::catalog::{Identity, IdentityKind, ReferenceTiming, RelationKind};

use super::objects;
use super::sequences;
use super::usage;
use super::views::owner;
use crate::pg_catalog::CatalogView;
use crate::pg_catalog::enums;
use crate::pg_catalog::names::{BOOTSTRAP_ROLE, Constraint, Names, constraints_of};
use crate::pg_catalog::relations::{RELATIONS, Rows, SystemRelation};
use crate::pg_catalog::types::Type;
use crate::pg_catalog::value::Value;

pub fn rows(relation: &'static SystemRelation, view: &CatalogView) -> Result<Option<RecordBatch>> {
    let make = |fields: &str| Rows::new(relation, fields);
    let database = || Value::from(view.database.as_str());
    let constraints = || view.user_relations().flat_map(constraints_of);
    let rows = match relation.name {
        "information_schema_catalog_name" => {
            let mut rows = make("catalog_name");
            rows.add([database()]);
            rows
        }
        "schemata" => {
            let mut rows = make("catalog_name schema_name schema_owner");
            for (_, name) in view.schemas() {
                rows.add([database(), name.into(), BOOTSTRAP_ROLE.into()]);
            }
            rows
        }
        "tables" => {
            let mut rows = make("table_catalog table_schema table_name table_type is_insertable_into is_typed");
            for r in view.user_relations() {
                let type_ = if r.kind == RelationKind::View { "VIEW" } else { "BASE TABLE" };
                rows.add([
                    database(),
                    r.schema_name.as_str().into(),
                    r.name.as_str().into(),
                    type_.into(),
                    yes_or_no(objects::writable_by(r, view) & 8 != 0),
                    "NO".into(),
                ]);
            }
            for r in &RELATIONS.all {
                let type_ = if r.kind == "v" { "VIEW" } else { "BASE TABLE" };
                rows.add([database(), r.schema_name.into(), r.name.into(), type_.into(), "NO".into(), "NO".into()]);
            }
            rows
        }
        "views" => {
            let mut rows = make(
                "table_catalog table_schema table_name view_definition check_option is_updatable is_insertable_into \
                 is_trigger_updatable is_trigger_deletable is_trigger_insertable_into",
            );
            let no = || Value::from("NO");
            for r in view.user_relations().filter(|r| r.kind == RelationKind::View) {
                rows.add([
                    database(),
                    r.schema_name.as_str().into(),
                    r.name.as_str().into(),
                    objects::definition(r, view).into(),
                    "NONE".into(),
                    yes_or_no(objects::writable_by(r, view) & 20 == 20),
                    yes_or_no(objects::writable_by(r, view) & 8 != 0),
                    no(),
                    no(),
                    no(),
                ]);
            }
            rows
        }
        "columns" => columns(relation, view),
        "sequences" => sequences::standard(relation, view),
        "table_constraints" => {
            let mut rows = make(
                "constraint_catalog constraint_schema constraint_name table_catalog table_schema table_name constraint_type \
                 is_deferrable initially_deferred enforced nulls_distinct",
            );
            for constraint in constraints() {
                let r = &constraint.relation;
                rows.add([
                    database(),
                    r.schema_name.as_str().into(),
                    constraint.name.as_str().into(),
                    database(),
                    r.schema_name.as_str().into(),
                    r.name.as_str().into(),
                    constraint.kind_in_full().into(),
                    yes_or_no(timing_of(&constraint) >= ReferenceTiming::Deferrable),
                    yes_or_no(timing_of(&constraint) == ReferenceTiming::Deferred),
                    "YES".into(),
                    if constraint.kind == "u" { "YES".into() } else { Value::Null },
                ]);
            }
            rows
        }
        "key_column_usage" | "constraint_column_usage" => {
            let ordered = relation.name == "key_column_usage";
            let mut rows = make(&format!(
                "constraint_catalog constraint_schema constraint_name table_catalog table_schema table_name column_name {}",
                if ordered { "ordinal_position position_in_unique_constraint" } else { "" }
            ));
            for constraint in constraints().filter(|c| !ordered || c.kind != "c") {
                let referenced = constraint.foreign_key.as_ref().and_then(|key| Some((key, view.referenced(key)?)));
                // The other view has what a foreign key refers to.
                let (r, columns) = match &referenced {
                    Some((key, (other, _))) if !ordered => (other, &key.referenced),
                    _ => (&constraint.relation, &constraint.columns),
                };
                let of = constraint.relation.schema_name.as_str();
                for (i, column) in columns.iter().enumerate() {
                    let schema = || Value::from(r.schema_name.as_str());
                    let in_unique = referenced.as_ref().and_then(|(key, (_, index))| {
                        index.columns.iter().position(|c| *c == key.referenced[i]).map(|at| at as i64 + 1)
                    });
                    let column = Value::from(r.columns[*column].name.as_str());
                    let (name, key) = (Value::from(r.name.as_str()), Value::from(constraint.name.as_str()));
                    if ordered {
                        rows.add([
                            database(),
                            of.into(),
                            key,
                            database(),
                            schema(),
                            name,
                            column,
                            (i as i64 + 1).into(),
                            in_unique.into(),
                        ]);
                    } else {
                        rows.add([database(), of.into(), key, database(), schema(), name, column]);
                    }
                }
            }
            rows
        }
        "constraint_table_usage" => {
            let mut rows =
                make("table_catalog table_schema table_name constraint_catalog constraint_schema constraint_name");
            for Constraint { relation: r, name, foreign_key: key, .. } in constraints().filter(|c| c.kind != "c") {
                let other = key.and_then(|key| view.referenced(&key)).map_or_else(|| r.clone(), |(other, _)| other);
                let (schema, of) = (Value::from(other.schema_name.as_str()), Value::from(r.schema_name.as_str()));
                rows.add([database(), schema, other.name.as_str().into(), database(), of, name.into()]);
            }
            rows
        }
        "referential_constraints" => {
            let mut rows = make(
                "constraint_catalog constraint_schema constraint_name unique_constraint_catalog unique_constraint_schema \
                 unique_constraint_name match_option update_rule delete_rule",
            );
            for Constraint { relation: r, name, foreign_key: key, .. } in constraints() {
                let Some(key) = key else { continue };
                let Some((other, index)) = view.referenced(&key) else { continue };
                rows.add([
                    database(),
                    r.schema_name.as_str().into(),
                    name.into(),
                    database(),
                    other.schema_name.as_str().into(),
                    index.name.into(),
                    "NONE".into(),
                    key.on_update.words().into(),
                    key.on_delete.words().into(),
                ]);
            }
            rows
        }
        "check_constraints" => {
            let mut rows = make("constraint_catalog constraint_schema constraint_name check_clause");
            for Constraint { relation, name, expression, .. } in constraints().filter(|c| c.kind == "c") {
                let clause = expression.map(|expression| format!("({expression})"));
                rows.add([database(), relation.schema_name.as_str().into(), name.into(), clause.into()]);
            }
            rows
        }
        "view_table_usage" => {
            let mut rows = make("view_catalog view_schema view_name table_catalog table_schema table_name");
            for r in view.user_relations().filter(|r| r.kind == RelationKind::View) {
                for on in r.depends_on.iter().filter_map(|id| view.catalog.get(*id)) {
                    rows.add([
                        database(),
                        r.schema_name.as_str().into(),
                        r.name.as_str().into(),
                        database(),
                        on.schema_name.as_str().into(),
                        on.name.as_str().into(),
                    ]);
                }
            }
            rows
        }
        "character_sets" => {
            let mut rows = make(
                "character_set_name character_repertoire form_of_use default_collate_catalog default_collate_schema \
                 default_collate_name",
            );
            rows.add(["UTF8".into(), "UCS".into(), "UTF8".into(), database(), "pg_catalog".into(), "C".into()]);
            rows
        }
        "collations" => {
            let mut rows = make("collation_catalog collation_schema collation_name pad_attribute");
            for name in ["default", "C", "POSIX"] {
                rows.add([database(), "pg_catalog".into(), name.into(), "NO PAD".into()]);
            }
            rows
        }
        "table_privileges" | "role_table_grants" => {
            let mut rows = make(
                "grantor grantee table_catalog table_schema table_name privilege_type is_grantable with_hierarchy",
            );
            for r in view.user_relations() {
                for privilege in ["INSERT", "SELECT", "UPDATE", "DELETE"] {
                    rows.add([
                        owner(r).into(),
                        owner(r).into(),
                        database(),
                        r.schema_name.as_str().into(),
                        r.name.as_str().into(),
                        privilege.into(),
                        "YES".into(),
                        yes_or_no(privilege == "SELECT"),
                    ]);
                }
            }
            rows
        }
        "enabled_roles" => {
            let mut rows = make("role_name");
            for role in view.roles() {
                rows.add([role.into()]);
            }
            rows
        }
        _ => match usage::rows(relation, view) {
            Some(rows) => rows,
            None => return Ok(None),
        },
    };
    rows.finish().map(Some)
}

fn timing_of(constraint: &Constraint) -> ReferenceTiming {
    constraint.foreign_key.as_ref().map_or(ReferenceTiming::Immediate, |key| key.timing)
}

fn yes_or_no(yes: bool) -> Value {
    (if yes { "YES" } else { "NO" }).into()
}

fn columns(relation: &'static SystemRelation, view: &CatalogView) -> Rows {
    let mut rows = Rows::new(
        relation,
        "table_catalog table_schema table_name column_name ordinal_position column_default is_nullable data_type \
         character_maximum_length character_octet_length numeric_precision numeric_precision_radix numeric_scale \
         datetime_precision udt_catalog udt_schema udt_name dtd_identifier is_self_referencing is_identity \
         identity_generation identity_start identity_increment identity_maximum identity_minimum identity_cycle \
         is_generated generation_expression is_updatable",
    );
    let mut add = |schema: &str,
                   table: &str,
                   position: usize,
                   name: &str,
                   type_: &Type,
                   typmod: i32,
                   [default, generated]: [Option<&str>; 2],
                   identity: Option<&Identity>,
                   null: bool,
                   updatable: bool| {
        let measures = measures(type_, typmod);
        let udt_schema = enums::schema_of(view, type_.oid);
        let of_identity = |of: fn(&Identity) -> i64| Value::from(identity.map(|s| of(s).to_string()));
        let [length, octets, precision, radix, scale, datetime] = measures.map(Value::from);
        rows.add([
            view.database.as_str().into(),
            schema.into(),
            table.into(),
            name.into(),
            (position as i64 + 1).into(),
            default.into(),
            yes_or_no(null),
            data_type(type_).into(),
            length,
            octets,
            precision,
            radix,
            scale,
            datetime,
            view.database.as_str().into(),
            udt_schema.as_str().into(),
            type_.name.into(),
            (position + 1).to_string().into(),
            "NO".into(),
            yes_or_no(identity.is_some()),
            identity.map(|s| if s.kind == IdentityKind::Always { "ALWAYS" } else { "BY DEFAULT" }).into(),
            of_identity(|s| s.start),
            of_identity(|s| s.increment),
            of_identity(|s| s.max),
            of_identity(|s| s.min),
            yes_or_no(identity.is_some_and(|s| s.cycle)),
            (if generated.is_some() { "ALWAYS" } else { "NEVER" }).into(),
            generated.into(),
            yes_or_no(updatable),
        ]);
    };
    for r in view.user_relations() {
        for (i, c) in r.columns.iter().enumerate() {
            let (type_, typmod) = objects::type_of(c);
            let null = !objects::not_null(r, i);
            let updatable = objects::can_be_set(r, i, view);
            let default = view.default_of(c).filter(|_| c.generated.is_none());
            let generated = c.generated.as_ref().map(|of| format!("({of})"));
            let default = [default.as_deref(), generated.as_deref()];
            let identity = c.identity.as_ref().filter(|s| s.kind != IdentityKind::Serial);
            add(&r.schema_name, &r.name, i, &c.name, type_, typmod, default, identity, null, updatable);
        }
    }
    for r in &RELATIONS.all {
        for (i, c) in r.columns.iter().enumerate() {
            add(r.schema_name, r.name, i, c.name, c.type_, -1, [None; 2], None, !c.not_null, false);
        }
    }
    rows
}

/// `ARRAY` for arrays, as the standard says.
fn data_type(type_: &Type) -> &'static str {
    match type_.category() {
        "A" => "ARRAY",
        "E" => "USER-DEFINED",
        _ if type_.name.ends_with("vector") => "ARRAY",
        _ => type_.display,
    }
}

/// Length in characters and in octets, precision and its radix, scale, precision of a time.
fn measures(type_: &Type, typmod: i32) -> [Option<i64>; 6] {
    let modifier = (typmod >= 4).then(|| i64::from(typmod) - 4);
    match type_.name {
        "varchar" | "bpchar" => [modifier, modifier.map(|n| n * 4).or(Some(1 << 30)), None, None, None, None],
        "text" | "name" | "char" => {
            [None, if type_.name == "text" { Some(1 << 30) } else { None }, None, None, None, None]
        }
        "int2" => [None, None, Some(16), Some(2), Some(0), None],
        "int4" => [None, None, Some(32), Some(2), Some(0), None],
        "int8" => [None, None, Some(64), Some(2), Some(0), None],
        "float4" => [None, None, Some(24), Some(2), None, None],
        "float8" => [None, None, Some(53), Some(2), None, None],
        "numeric" => {
            [None, None, modifier.map(|m| m >> 16), Some(10), modifier.map(|m| ((m & 0x7ff) ^ 1024) - 1024), None]
        }
        "date" => [None, None, None, None, None, Some(0)],
        "time" | "timetz" | "timestamp" | "timestamptz" | "interval" => {
            [None, None, None, None, None, Some(if typmod < 0 { 6 } else { i64::from(typmod & 0xffff) })]
        }
        _ => [None; 6],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn precision_of_numbers_and_texts() {
        let of = |sql: &str| crate::pg_catalog::types::parse(sql).map(|(t, m)| measures(t, m)).expect("a type");
        assert_eq!(of("numeric(12,2)"), [None, None, Some(12), Some(10), Some(2), None]);
        assert_eq!(of("character varying(20)"), [Some(20), Some(80), None, None, None, None]);
        assert_eq!(of("timestamp with time zone")[5], Some(6));
    }
}
