//! Functions about the objects of the catalog: how they are named, defined, described, how large they are.

use datafusion::common::Result;

use super::{Call, Declaration, called_on_null, rows, strict};
use crate::pg_catalog::contents::{
    can_be_set, constraint_definition, definition, description, function, function_name, index_definition, writable_by,
};
use crate::pg_catalog::enums;
use crate::pg_catalog::names::*;
use crate::pg_catalog::types;
use crate::pg_catalog::value::Value;
use millrace_engine::sql::keywords::quote_ident;

pub const FUNCTIONS: &[Declaration] = &[
    strict("pg_table_is_visible", 1..=1, "bool", |c| Ok(c.oid(0).is_some_and(|oid| c.view.is_visible(oid)).into())),
    strict("pg_type_is_visible", 1..=1, "bool", |c| {
        Ok(c.oid(0).is_some_and(|oid| types::by_oid(oid).is_some() || enums::is_visible(c.view, oid)).into())
    }),
    strict("pg_function_is_visible", 1..=1, "bool", |c| Ok(c.oid(0).and_then(function_name).is_some().into())),
    strict("pg_operator_is_visible", 1..=1, "bool", built_in),
    strict("pg_opclass_is_visible", 1..=1, "bool", built_in),
    strict("pg_opfamily_is_visible", 1..=1, "bool", built_in),
    strict("pg_collation_is_visible", 1..=1, "bool", built_in),
    strict("pg_conversion_is_visible", 1..=1, "bool", built_in),
    strict("pg_ts_config_is_visible", 1..=1, "bool", built_in),
    strict("pg_ts_dict_is_visible", 1..=1, "bool", built_in),
    strict("pg_ts_parser_is_visible", 1..=1, "bool", built_in),
    strict("pg_ts_template_is_visible", 1..=1, "bool", built_in),
    strict("pg_statistics_obj_is_visible", 1..=1, "bool", built_in),
    called_on_null("format_type", 2..=2, "text", |c| {
        let typmod = c.int(1).and_then(|m| i32::try_from(m).ok()).unwrap_or(-1);
        Ok(c.oid(0).map(|oid| enums::format(c.view, oid, typmod)).into())
    }),
    strict("pg_get_userbyid", 1..=1, "name", |c| {
        let oid = c.oid(0).unwrap_or_default();
        Ok(c.view.role_name(oid).unwrap_or_else(|| format!("unknown (OID={oid})")).into())
    }),
    strict("pg_get_viewdef", 1..=2, "text", |c| {
        let oid = match &c.arguments[0] {
            Value::Text(name) => c.view.find_relation(name),
            other => other.oid(),
        };
        Ok(oid.and_then(|oid| c.view.catalog.get(oid)).and_then(|r| definition(r, c.view)).into())
    }),
    strict("pg_get_ruledef", 1..=2, "text", |c| {
        let view = c.view.user_relations().find(|r| Some(rule_oid(r.id)) == c.oid(0));
        Ok(view
            .and_then(|r| {
                let name = format!("{}.{}", quote_ident(&r.schema_name), quote_ident(&r.name));
                definition(r, c.view)
                    .map(|d| format!("CREATE RULE \"_RETURN\" AS\n    ON SELECT TO {name} DO INSTEAD {d}"))
            })
            .into())
    }),
    strict("pg_get_indexdef", 1..=3, "text", |c| {
        let Some(Named::Index(index)) = c.oid(0).and_then(|oid| c.view.named(oid)) else { return Ok(Value::Null) };
        Ok(match c.int(1) {
            Some(n) if n > 0 => {
                let column = usize::try_from(n - 1).ok().and_then(|i| index.columns.get(i));
                column.map(|i| quote_ident(&index.relation.columns[*i].name)).into()
            }
            // Pretty: the table's name is qualified only where it has to be.
            _ => {
                let pretty = c.arguments.get(2) == Some(&Value::Bool(true));
                let table = pretty.then(|| c.view.print_relation(index.relation.id)).flatten();
                index_definition(&index, table.as_deref()).into()
            }
        })
    }),
    strict("pg_get_constraintdef", 1..=2, "text", |c| {
        let pretty = c.arguments.get(1) == Some(&Value::Bool(true));
        let constraint = c.oid(0).and_then(|oid| c.view.constraint(oid));
        Ok(constraint.map(|constraint| constraint_definition(&constraint, c.view, pretty)).into())
    }),
    // Expressions are kept as the SQL text that they were written as.
    strict("pg_get_expr", 2..=3, "text", |c| Ok(c.arguments[0].clone())),
    strict("pg_get_triggerdef", 1..=2, "text", nothing),
    strict("pg_get_partkeydef", 1..=1, "text", nothing),
    strict("pg_get_partition_constraintdef", 1..=1, "text", nothing),
    strict("pg_get_statisticsobjdef", 1..=1, "text", nothing),
    strict("pg_get_statisticsobjdef_columns", 1..=1, "text", nothing),
    strict("pg_get_replica_identity_index", 1..=1, "regclass", nothing),
    strict("pg_get_functiondef", 1..=1, "text", nothing),
    strict("pg_get_function_sqlbody", 1..=1, "text", nothing),
    strict("pg_get_function_arguments", 1..=1, "text", function_arguments),
    strict("pg_get_function_identity_arguments", 1..=1, "text", function_arguments),
    strict("pg_get_function_result", 1..=1, "text", |c| Ok(c.oid(0).and_then(function).map(|f| f.result()).into())),
    strict("oidvectortypes", 1..=1, "text", |c| {
        let types = c.list(0).unwrap_or_default().iter().filter_map(Value::oid);
        let names: Vec<String> = types.map(|oid| enums::format(c.view, oid, -1)).collect();
        Ok(names.join(", ").into())
    }),
    strict("pg_relation_is_publishable", 1..=1, "bool", |_| Ok(false.into())),
    strict("pg_relation_is_updatable", 2..=2, "int4", |c| {
        let relation = c.oid(0).and_then(|oid| c.view.catalog.get(oid));
        Ok(relation.map_or(0, |r| writable_by(r, c.view)).into())
    }),
    strict("pg_column_is_updatable", 3..=3, "bool", |c| {
        let column = c.int(1).and_then(|n| usize::try_from(n - 1).ok());
        let relation = c.oid(0).and_then(|oid| c.view.catalog.get(oid));
        Ok(relation.zip(column).is_some_and(|(r, at)| can_be_set(r, at, c.view)).into())
    }),
    strict("obj_description", 1..=2, "text", |c| {
        let catalog = c.text(1).unwrap_or("pg_class");
        let text = match (catalog.trim_start_matches("pg_catalog."), c.oid(0)) {
            ("pg_class", Some(oid)) => c.view.catalog.get(oid).and_then(|r| description(r)),
            ("pg_namespace", Some(PUBLIC)) => Some("standard public schema"),
            ("pg_namespace", Some(PG_CATALOG)) => Some("system catalog schema"),
            _ => None,
        };
        Ok(text.into())
    }),
    strict("col_description", 2..=2, "text", |c| {
        let column = c.int(1).and_then(|n| usize::try_from(n - 1).ok());
        let relation = c.oid(0).and_then(|oid| c.view.catalog.get(oid));
        Ok(relation.zip(column).and_then(|(r, i)| r.column_comments.get(&i)).map(String::as_str).into())
    }),
    strict("pg_describe_object", 3..=3, "text", |c| {
        Ok(c.oid(1).and_then(|oid| c.view.named(oid)).map(|n| format!("table {}", n.name())).into())
    }),
    strict("shobj_description", 2..=2, "text", nothing),
    strict("pg_relation_size", 1..=2, "int8", size),
    strict("pg_table_size", 1..=1, "int8", size),
    strict("pg_total_relation_size", 1..=1, "int8", size),
    // The index of a key is part of its relation.
    strict("pg_indexes_size", 1..=1, "int8", |_| Ok(0.into())),
    strict("pg_database_size", 1..=1, "int8", |c| Ok((total(c)).into())),
    strict("pg_tablespace_size", 1..=1, "int8", |c| Ok((total(c)).into())),
    strict("pg_size_pretty", 1..=1, "text", |c| Ok(c.int(0).map(pretty_size).into())),
    strict("pg_relation_filenode", 1..=1, "oid", |c| Ok(c.oid(0).into())),
    strict("pg_relation_filepath", 1..=1, "text", nothing),
    strict("pg_tablespace_location", 1..=1, "text", |_| Ok("".into())),
    strict("pg_stat_get_numscans", 1..=1, "int8", |_| Ok(0.into())),
    strict("pg_stat_get_live_tuples", 1..=1, "int8", |c| {
        Ok(c.oid(0).and_then(|oid| c.view.live.size(oid)).map_or(0, |s| s.rows as i64).into())
    }),
    strict("pg_index_column_has_property", 3..=3, "bool", |c| {
        let ascending = matches!(c.text(2), Some("asc" | "nulls_last" | "orderable" | "returnable"));
        Ok(ascending.into())
    }),
    strict("acldefault", 2..=2, "_text", nothing),
    rows("aclexplode", 1..=1, "grantor:oid grantee:oid privilege_type:text is_grantable:bool", no_rows),
    rows("pg_options_to_table", 1..=1, "option_name:text option_value:text", no_rows),
    rows("pg_partition_ancestors", 1..=1, "relid:regclass", |c| {
        Ok(Value::List(vec![Value::List(vec![c.arguments[0].clone()])]))
    }),
    rows("pg_partition_tree", 1..=1, "relid:regclass parentrelid:regclass isleaf:bool level:int4", no_rows),
    rows("pg_get_publication_tables", 1..=1, "relid:oid attrs:int2vector qual:text", no_rows),
    rows("pg_tablespace_databases", 1..=1, "pg_tablespace_databases:oid", no_rows),
];

fn built_in(_: &Call) -> Result<Value> {
    Ok(true.into())
}

fn nothing(_: &Call) -> Result<Value> {
    Ok(Value::Null)
}

fn no_rows(_: &Call) -> Result<Value> {
    Ok(Value::List(Vec::new()))
}

fn function_arguments(c: &Call) -> Result<Value> {
    let names = |arguments: &[u32]| arguments.iter().map(|oid| types::format(*oid, -1)).collect::<Vec<_>>().join(", ");
    Ok(c.oid(0).and_then(function).map(|f| names(f.arguments())).into())
}

fn size(c: &Call) -> Result<Value> {
    let oid = match &c.arguments[0] {
        Value::Text(name) => c.view.find_relation(name),
        other => other.oid(),
    };
    let known = |oid: u32| c.view.named(oid).map(|_| c.view.live.size(oid).map_or(0, |s| s.bytes as i64));
    Ok(oid.and_then(known).into())
}

fn total(c: &Call) -> i64 {
    c.view.user_relations().filter_map(|r| c.view.live.size(r.id)).map(|s| s.bytes as i64).sum()
}

/// As Postgres rounds: `9990 bytes`, `10 kB`, `1024 kB`, `10 MB`.
fn pretty_size(bytes: i64) -> String {
    const UNITS: [&str; 6] = ["bytes", "kB", "MB", "GB", "TB", "PB"];
    let (mut size, mut unit) = (bytes, 0);
    // One bit more than the unit is kept, for rounding half away from zero at the end.
    let limit = |half: bool| if half { 20 * 1024 - 1 } else { 10 * 1024 };
    let mut half = false;
    while size.abs() >= limit(half) && unit + 1 < UNITS.len() {
        size = if half { size / 1024 } else { size / 512 };
        half = true;
        unit += 1;
    }
    if half {
        size = (size + size.signum()) / 2;
    }
    format!("{size} {}", UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_rounded_as_in_postgres() {
        for (bytes, text) in [
            (0, "0 bytes"),
            (10239, "10239 bytes"),
            (10240, "10 kB"),
            (16384, "16 kB"),
            (10485247, "10239 kB"),
            (10485248, "10 MB"),
        ] {
            assert_eq!(pretty_size(bytes), text);
        }
    }
}
