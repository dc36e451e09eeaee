//! The user's relations as Postgres' base catalogs show them.
//!
//! ```text
//! CREATE TABLE accounts (id int PRIMARY KEY, owner text DEFAULT 'x')        id 16389
//!   pg_class       16389 accounts r          1073758213 accounts_pkey i
//!   pg_attribute   16389 id 1, owner 2       1073758213 id 1
//!   pg_index       1073758213 on 16389, indkey 1, indisprimary
//!   pg_constraint  accounts_pkey p on 16389, conkey {1}
//!   pg_attrdef     16389, 2, 'x'
//! ```
//!
//! A stream is a table (relkind `r`) whose description says that it is a stream. A sink holds no rows and
//! is not listed.

use std::sync::Arc;

use arrow::array::RecordBatch;
use datafusion::common::Result;
use millrace_engine::catalog::{
    Column, ForeignKey, IdentityKind, OnReferenced, ReferenceTiming, Relation, RelationKind,
};

use super::declared;
use super::statics::{OPERATOR_CLASSES, add_attribute, attribute_rows};
use crate::pg_catalog::CatalogView;
use crate::pg_catalog::enums;
use crate::pg_catalog::names::*;
use crate::pg_catalog::relations::Rows;
use crate::pg_catalog::types::{self, Type};
use crate::pg_catalog::value::Value;
use millrace_engine::session::through_view::written_to;
use millrace_engine::sql::keywords::quote_ident;
use millrace_engine::sql::qualified::with_schemas;

/// A column's type; text for what Postgres has no type for (a composite).
pub fn type_of(column: &Column) -> (&'static Type, i32) {
    if let Some(of) = enums::of_column(&column.sql_type) {
        return (of, -1);
    }
    types::parse(&column.sql_type).or_else(|| types::parse("text")).expect("text is a type")
}

/// Whether pg_attrdef has a default of it: an identity column has none there.
fn has_default(column: &Column) -> bool {
    column.default.is_some()
        || column.generated.is_some()
        || column.identity.as_ref().is_some_and(|s| s.kind == IdentityKind::Serial)
}

/// pg_attribute.attgenerated
fn generated_of(column: &Column) -> &'static str {
    if column.generated.is_some() { "s" } else { "" }
}

/// pg_attribute.attidentity
pub fn identity_of(column: &Column) -> &'static str {
    match column.identity.as_ref().map(|sequence| sequence.kind) {
        Some(IdentityKind::Always) => "a",
        Some(IdentityKind::ByDefault) => "d",
        Some(IdentityKind::Serial) | None => "",
    }
}

pub fn not_null(relation: &Relation, column: usize) -> bool {
    !relation.columns[column].nullable || relation.primary_key.contains(&column)
}

/// The query of a view or materialized view, as pg_get_viewdef gives it: what the session does not find by its name alone is
/// named with its schema.
pub fn definition(relation: &Relation, view: &CatalogView) -> Option<String> {
    let query = relation.query.as_ref().filter(|_| has_definition(relation))?;
    let schema_of = |name: &str| {
        let found = relation.names_in().iter().find_map(|schema| view.catalog.find(schema, name).cloned())?;
        let visible = view.is_visible(found.id) || enums::is_visible(view, found.id);
        (!visible).then(|| quote_ident(&found.schema_name))
    };
    let query = with_schemas(query, &schema_of).unwrap_or_else(|_| query.clone());
    Some(format!(" {};", query.trim().trim_end_matches(';').trim_end()))
}

fn has_definition(relation: &Relation) -> bool {
    matches!(relation.kind, RelationKind::View | RelationKind::MaterializedView)
}

/// `PRIMARY KEY (order_id, line)`, `CHECK ((price > 0))`, `FOREIGN KEY (order_id) REFERENCES orders(id) ON DELETE CASCADE`;
/// `pretty` with no more parentheses than needed.
pub fn constraint_definition(constraint: &Constraint, view: &CatalogView, pretty: bool) -> String {
    let expression = constraint.expression.as_ref().map(|text| enums::with_schemas_of_types(view, text));
    match &expression {
        Some(expression) if pretty => format!("CHECK ({expression})"),
        Some(expression) => format!("CHECK (({expression}))"),
        None => {
            let columns = names_of(&constraint.relation, &constraint.columns);
            let mut text = format!("{} ({columns})", constraint.kind_in_full());
            if let Some(key) = &constraint.foreign_key {
                text.push_str(&reference_definition(key, view));
            }
            text
        }
    }
}

/// ` REFERENCES orders(id) ON UPDATE CASCADE DEFERRABLE`
fn reference_definition(key: &ForeignKey, view: &CatalogView) -> String {
    let Some(to) = view.catalog.get(key.references) else { return String::new() };
    let name = view.print_relation(to.id).unwrap_or_default();
    let mut text = format!(" REFERENCES {name}({})", names_of(to, &key.referenced));
    for (event, action) in [("UPDATE", key.on_update), ("DELETE", key.on_delete)] {
        if action != OnReferenced::NoAction {
            text.push_str(&format!(" ON {event} {}", action.words()));
        }
    }
    text.push_str(match key.timing {
        ReferenceTiming::Immediate => "",
        ReferenceTiming::Deferrable => " DEFERRABLE",
        ReferenceTiming::Deferred => " DEFERRABLE INITIALLY DEFERRED",
    });
    text
}

/// pg_constraint.confupdtype and confdeltype
fn action_letter(action: OnReferenced) -> &'static str {
    match action {
        OnReferenced::NoAction => "a",
        OnReferenced::Restrict => "r",
        OnReferenced::Cascade => "c",
        OnReferenced::SetNull => "n",
        OnReferenced::SetDefault => "d",
    }
}

/// `CREATE UNIQUE INDEX items_pkey ON sales.items USING btree (order_id, line)`; `table` where the
/// table's name is to be written otherwise than in full.
pub fn index_definition(index: &Index, table: Option<&str>) -> String {
    let relation = &index.relation;
    let full = format!("{}.{}", quote_ident(&relation.schema_name), quote_ident(&relation.name));
    let (name, table) = (quote_ident(&index.name), table.unwrap_or(&full));
    let unique = if index.is_unique { "UNIQUE " } else { "" };
    format!("CREATE {unique}INDEX {name} ON {table} USING btree ({})", names_of(relation, &index.columns))
}

fn names_of(relation: &Relation, columns: &[usize]) -> String {
    columns.iter().map(|i| quote_ident(&relation.columns[*i].name)).collect::<Vec<_>>().join(", ")
}

fn all_indexes(view: &CatalogView) -> impl Iterator<Item = Index> {
    view.user_relations().flat_map(indexes_of)
}

fn all_constraints(view: &CatalogView) -> impl Iterator<Item = Constraint> {
    view.user_relations().flat_map(constraints_of)
}

fn schema_oid(view: &CatalogView, relation: &Relation) -> Value {
    view.schema_oid(&relation.schema_name).unwrap_or(PUBLIC).into()
}

/// What can be done with rows of a relation, as in pg_relation_is_updatable: 4 UPDATE, 8 INSERT, 16 DELETE.
pub fn writable_by(relation: &Arc<Relation>, view: &CatalogView) -> i64 {
    match relation.kind {
        RelationKind::Table => 28,
        RelationKind::Stream => 8,
        RelationKind::View => written_to(relation, &view.catalog).map_or(0, |(below, _)| writable_by(&below, view)),
        _ => 0,
    }
}

/// Whether UPDATE may set a column.
pub fn can_be_set(relation: &Arc<Relation>, column: usize, view: &CatalogView) -> bool {
    match relation.kind {
        RelationKind::Table => true,
        RelationKind::View => written_to(relation, &view.catalog).is_some_and(|(below, columns)| {
            below.kind == RelationKind::Table && columns.get(column).is_some_and(|at| at.is_some())
        }),
        _ => false,
    }
}

pub fn namespaces(view: &CatalogView) -> Result<RecordBatch> {
    let mut rows = Rows::new(declared("pg_namespace"), "oid nspname nspowner");
    for (oid, name) in view.schemas() {
        rows.add([oid.into(), name.into(), BOOTSTRAP_ROLE_OID.into()]);
    }
    rows.finish()
}

pub fn classes(view: &CatalogView) -> Result<RecordBatch> {
    let mut rows = Rows::new(
        declared("pg_class"),
        "oid relname relnamespace relowner relam relfilenode reltuples relpages relhasindex relpersistence relkind relnatts \
         relchecks relhasrules relispopulated relreplident relhastriggers",
    );
    for r in view.user_relations() {
        let kind = relkind(r.kind).expect("user_relations gives those that have one");
        let stored = kind != "v";
        let status = view.live.size(r.id);
        rows.add([
            r.id.into(),
            r.name.as_str().into(),
            schema_oid(view, r),
            view.owner_oid(r).into(),
            (if stored { 2 } else { 0 }).into(),
            (if stored { r.id } else { 0 }).into(),
            Value::Float(status.map_or(if stored { -1.0 } else { 0.0 }, |s| s.rows as f64)),
            status.map_or(0, |s| s.bytes.div_ceil(8192) as i64).into(),
            (!indexes_of(r).is_empty()).into(),
            persistence(r).into(),
            kind.into(),
            (r.columns.len() as i64).into(),
            (r.checks.len() as i64).into(),
            (kind != "r").into(),
            true.into(),
            (if kind == "v" { "n" } else { "d" }).into(),
            // There are none, but pg_dump looks for foreign keys only where there are.
            (!r.foreign_keys.is_empty() || view.catalog.referring(r.id).next().is_some()).into(),
        ]);
    }
    for index in all_indexes(view) {
        rows.add([
            index.oid.into(),
            index.name.as_str().into(),
            schema_oid(view, &index.relation),
            view.owner_oid(&index.relation).into(),
            403.into(),
            index.oid.into(),
            Value::Float(0.0),
            1.into(),
            false.into(),
            persistence(&index.relation).into(),
            "i".into(),
            (index.columns.len() as i64).into(),
            0.into(),
            false.into(),
            true.into(),
            "n".into(),
            false.into(),
        ]);
    }
    for Sequence { identity, relation, .. } in view.sequences() {
        rows.add([
            identity.id.into(),
            identity.name.as_str().into(),
            schema_oid(view, &relation),
            view.owner_oid(&relation).into(),
            0.into(),
            identity.id.into(),
            Value::Float(1.0),
            1.into(),
            false.into(),
            persistence(&relation).into(),
            "S".into(),
            3.into(),
            0.into(),
            false.into(),
            true.into(),
            "n".into(),
            false.into(),
        ]);
    }
    rows.finish()
}

pub fn attributes(view: &CatalogView) -> Result<RecordBatch> {
    let mut rows = attribute_rows();
    for r in view.user_relations() {
        for (i, c) in r.columns.iter().enumerate() {
            let (type_, typmod) = type_of(c);
            add_attribute(
                &mut rows,
                r.id,
                i,
                &c.name,
                type_,
                typmod,
                not_null(r, i),
                has_default(c),
                identity_of(c),
                generated_of(c),
            );
        }
    }
    for Index { oid, relation: r, columns, .. } in all_indexes(view) {
        for (i, key) in columns.iter().enumerate() {
            let (type_, typmod) = type_of(&r.columns[*key]);
            add_attribute(&mut rows, oid, i, &r.columns[*key].name, type_, typmod, false, false, "", "");
        }
    }
    rows.finish()
}

/// Positions of columns, from 1.
fn positions(columns: &[usize]) -> Value {
    columns.iter().map(|i| *i as i64 + 1).collect::<Vec<_>>().into()
}

pub fn indexes(view: &CatalogView) -> Result<RecordBatch> {
    let mut rows = Rows::new(
        declared("pg_index"),
        "indexrelid indrelid indnatts indnkeyatts indisunique indisprimary indimmediate indisvalid indisready indislive indkey \
         indcollation indclass indoption",
    );
    for Index { oid, relation: r, columns, is_primary, is_unique, .. } in all_indexes(view) {
        let n = columns.len();
        let key_types: Vec<&Type> = columns.iter().map(|i| type_of(&r.columns[*i]).0).collect();
        let class = |t: &&Type| {
            let found = OPERATOR_CLASSES.iter().find(|(_, _, _, input)| *input == t.oid);
            let text = || OPERATOR_CLASSES.iter().find(|(_, name, _, _)| *name == "text_ops");
            found.or_else(text).map_or(0, |c| c.0)
        };
        rows.add([
            oid.into(),
            r.id.into(),
            (n as i64).into(),
            (n as i64).into(),
            is_unique.into(),
            is_primary.into(),
            true.into(),
            true.into(),
            true.into(),
            true.into(),
            positions(&columns),
            key_types.iter().map(|t| t.collation()).collect::<Vec<_>>().into(),
            key_types.iter().map(class).collect::<Vec<_>>().into(),
            vec![0; n].into(),
        ]);
    }
    rows.finish()
}

pub fn constraints(view: &CatalogView) -> Result<RecordBatch> {
    let mut rows = Rows::new(
        declared("pg_constraint"),
        "oid conname connamespace contype condeferrable condeferred convalidated conrelid conindid confrelid confupdtype \
         confdeltype confmatchtype conislocal connoinherit conkey confkey conbin",
    );
    for constraint in all_constraints(view) {
        let Constraint { oid, name, relation, kind, columns, index, expression, foreign_key: key } = constraint;
        let index = match &key {
            Some(key) => view.referenced(key).map_or(0, |(_, index)| index.oid),
            None => index,
        };
        let timing = key.as_ref().map_or(ReferenceTiming::Immediate, |key| key.timing);
        rows.add([
            oid.into(),
            name.into(),
            schema_oid(view, &relation),
            kind.into(),
            (timing >= ReferenceTiming::Deferrable).into(),
            (timing == ReferenceTiming::Deferred).into(),
            true.into(),
            relation.id.into(),
            index.into(),
            key.as_ref().map_or(0, |key| key.references).into(),
            key.as_ref().map_or(" ", |key| action_letter(key.on_update)).into(),
            key.as_ref().map_or(" ", |key| action_letter(key.on_delete)).into(),
            (if key.is_some() { "s" } else { " " }).into(),
            true.into(),
            (kind != "c").into(),
            positions(&columns),
            key.map(|key| positions(&key.referenced)).unwrap_or(Value::Null),
            expression.into(),
        ]);
    }
    rows.finish()
}

pub fn defaults(view: &CatalogView) -> Result<RecordBatch> {
    let mut rows = Rows::new(declared("pg_attrdef"), "oid adrelid adnum adbin");
    for r in view.user_relations() {
        for (i, c) in r.columns.iter().enumerate() {
            if let Some(default) = view.default_of(c) {
                rows.add([
                    default_oid(r.id, i + 1).into(),
                    r.id.into(),
                    (i as i64 + 1).into(),
                    default.as_str().into(),
                ]);
            }
        }
    }
    rows.finish()
}

/// The comment; for a stream without one, what it is, since its relkind says table.
pub fn description(relation: &Relation) -> Option<&str> {
    match (&relation.comment, relation.kind) {
        (Some(comment), _) => Some(comment),
        (None, RelationKind::Stream) => Some("stream"),
        _ => None,
    }
}

pub fn descriptions(view: &CatalogView) -> Result<RecordBatch> {
    let mut rows = Rows::new(declared("pg_description"), "objoid classoid objsubid description");
    for r in view.user_relations() {
        if let Some(text) = description(r) {
            rows.add([r.id.into(), PG_CLASS.into(), 0.into(), text.into()]);
        }
        for (column, text) in &r.column_comments {
            rows.add([r.id.into(), PG_CLASS.into(), (*column as i64 + 1).into(), text.as_str().into()]);
        }
    }
    rows.add([PUBLIC.into(), PG_NAMESPACE.into(), 0.into(), "standard public schema".into()]);
    rows.add([PG_CATALOG.into(), PG_NAMESPACE.into(), 0.into(), "system catalog schema".into()]);
    rows.finish()
}

pub fn rules(view: &CatalogView) -> Result<RecordBatch> {
    let mut rows =
        Rows::new(declared("pg_rewrite"), "oid rulename ev_class ev_type ev_enabled is_instead ev_qual ev_action");
    for r in view.user_relations() {
        if let Some(text) = definition(r, view) {
            rows.add([
                rule_oid(r.id).into(),
                "_RETURN".into(),
                r.id.into(),
                "1".into(),
                "O".into(),
                true.into(),
                "<>".into(),
                text.into(),
            ]);
        }
    }
    rows.finish()
}

/// A view's rule depends on the relations that its query names; it belongs to the view; an index and
/// its constraint belong to their table, a sequence to its column, a default to its column, and it depends on the sequence that
/// it takes numbers of.
pub fn dependencies(view: &CatalogView) -> Result<RecordBatch> {
    let mut rows = Rows::new(declared("pg_depend"), "classid objid objsubid refclassid refobjid refobjsubid deptype");
    for Sequence { identity, relation, column } in view.user_relations().flat_map(sequences_of) {
        let kind = if identity.kind == IdentityKind::Serial { "a" } else { "i" };
        let (class, column) = (|| Value::from(PG_CLASS), column as i64 + 1);
        rows.add([class(), identity.id.into(), 0.into(), class(), relation.id.into(), column.into(), kind.into()]);
    }
    for r in view.catalog.relations.values() {
        let Some((table, column)) = r.owned_by() else { continue };
        let at = view.catalog.get(table).and_then(|t| t.columns.iter().position(|known| known.name == column));
        let (class, at) = (|| Value::from(PG_CLASS), at.map_or(0, |at| at as i64 + 1));
        rows.add([class(), r.id.into(), 0.into(), class(), table.into(), at.into(), "a".into()]);
    }
    for r in view.user_relations() {
        for (i, column) in r.columns.iter().enumerate() {
            let Some(default) = view.default_of(column) else { continue };
            let (oid, place) = (default_oid(r.id, i + 1), i as i64 + 1);
            let of = |on: u32, place: i64, kind: &str| -> [Value; 7] {
                [PG_ATTRDEF.into(), oid.into(), 0.into(), PG_CLASS.into(), on.into(), place.into(), kind.into()]
            };
            rows.add(of(r.id, place, "a"));
            let named = default.split_once("nextval('").and_then(|(_, rest)| rest.split_once('\''));
            if let Some(sequence) = named.and_then(|(name, _)| view.find_relation(name)) {
                rows.add(of(sequence, 0, "n"));
            }
        }
    }
    let mut add = |class: u32, object: u32, on_class: u32, on: u32, kind: &str| {
        rows.add([class.into(), object.into(), 0.into(), on_class.into(), on.into(), 0.into(), kind.into()])
    };
    for r in view.user_relations() {
        if has_definition(r) {
            add(PG_REWRITE, rule_oid(r.id), PG_CLASS, r.id, "i");
            add(PG_REWRITE, rule_oid(r.id), PG_CLASS, r.id, "n");
            for on in &r.depends_on {
                add(PG_REWRITE, rule_oid(r.id), PG_CLASS, *on, "n");
            }
        }
        for constraint in constraints_of(r) {
            add(PG_CONSTRAINT, constraint.oid, PG_CLASS, r.id, "a");
            if constraint.index != 0 {
                add(PG_CLASS, constraint.index, PG_CONSTRAINT, constraint.oid, "i");
            }
            if let Some((_, index)) = constraint.foreign_key.as_ref().and_then(|key| view.referenced(key)) {
                add(PG_CONSTRAINT, constraint.oid, PG_CLASS, index.oid, "n");
            }
        }
        if let Some(schema) = view.schema_oid(&r.schema_name) {
            add(PG_CLASS, r.id, PG_NAMESPACE, schema, "n");
        }
    }
    rows.finish()
}
