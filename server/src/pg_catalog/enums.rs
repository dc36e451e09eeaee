//! Types that users made, CREATE TYPE … AS ENUM, beside the built-in ones: each with the type of its arrays.
//!
//! ```text
//! CREATE TYPE mood AS ENUM ('sad', 'happy')      id 16390
//!   pg_type    16390 mood e E, typarray 16391     16391 _mood b A, typelem 16390
//!   pg_enum    16392 16390 1 sad                  16393 16390 2 happy
//! ```

use std::collections::HashMap;
use std::sync::{Mutex, OnceLock};

use arrow::array::RecordBatch;
use datafusion::common::Result;
use millrace_engine::sql::enums::{self, EnumType};
use millrace_engine::sql::keywords::quote_ident;
use millrace_engine::sql::qualified::with_schemas;

use super::CatalogView;
use super::names::{Names, PUBLIC, split_name};
use super::relations::{Rows, find};
use super::types::{self, Type};
use super::value::Value;

/// pg_type's columns from typlen to typcollation.
const ENUM: [&str; 18] = [
    "4",
    "t",
    "e",
    "E",
    "f",
    ",",
    "-",
    "0",
    "0",
    "enum_in",
    "enum_out",
    "enum_recv",
    "enum_send",
    "-",
    "-",
    "i",
    "p",
    "0",
];
const ARRAY: [&str; 18] = [
    "-1",
    "f",
    "b",
    "A",
    "f",
    ",",
    "array_subscript_handler",
    "0",
    "0",
    "array_in",
    "array_out",
    "array_recv",
    "array_send",
    "-",
    "-",
    "i",
    "x",
    "0",
];

/// An enum and the type of its arrays, as built-in types are described. There is one description for each type and name that there
/// was, and it stays for good.
fn described(of: &EnumType) -> (&'static Type, &'static Type) {
    type Described = Mutex<HashMap<(u32, String), (&'static Type, &'static Type)>>;
    static ALL: OnceLock<Described> = OnceLock::new();
    let mut all = ALL.get_or_init(Mutex::default).lock().expect("no panic while held");
    *all.entry((of.id, of.name.clone())).or_insert_with(|| {
        let leak = |text: String| -> &'static str { Box::leak(text.into_boxed_str()) };
        let own = Type {
            oid: of.id,
            name: leak(of.name.clone()),
            attributes: ENUM.to_vec(),
            element: 0,
            array: of.array,
            display: leak(quote_ident(&of.name)),
        };
        let array = Type {
            oid: of.array,
            name: leak(format!("_{}", of.name)),
            attributes: ARRAY.to_vec(),
            element: of.id,
            array: 0,
            display: leak(format!("{}[]", quote_ident(&of.name))),
        };
        (Box::leak(Box::new(own)), Box::leak(Box::new(array)))
    })
}

/// The type that the canonical spelling of a column's type stands for, if that is an enum or an array of one.
pub fn of_column(sql_type: &str) -> Option<&'static Type> {
    let element = sql_type.trim_end_matches("[]");
    let (own, array) = described(&*enums::of(element)?);
    Some(if element.len() == sql_type.len() { own } else { array })
}

/// The enums of a catalog.
fn all(view: &CatalogView) -> impl Iterator<Item = EnumType> {
    view.catalog.relations.values().filter_map(|relation| EnumType::of(relation))
}

/// The enum with this OID, or whose arrays have it.
fn with_oid(view: &CatalogView, oid: u32) -> Option<EnumType> {
    all(view).find(|of| of.id == oid || of.array == oid)
}

/// The schema of a type.
pub fn schema_of(view: &CatalogView, oid: u32) -> String {
    with_oid(view, oid).map_or_else(|| "pg_catalog".into(), |of| of.schema)
}

/// Whether it is found without its schema.
pub fn is_visible(view: &CatalogView, oid: u32) -> bool {
    with_oid(view, oid).is_some_and(|of| {
        let first = view.search_schemas().find_map(|schema| view.catalog.find(schema, &of.name));
        first.is_some_and(|first| first.id == of.id)
    })
}

/// As Postgres' format_type, built-in types too: `public.mood[]` where `mood` alone is not found.
pub fn format(view: &CatalogView, oid: u32, typmod: i32) -> String {
    let Some(of) = with_oid(view, oid) else { return types::format(oid, typmod) };
    let mut name = quote_ident(&of.name);
    if !is_visible(view, of.id) {
        name = format!("{}.{name}", quote_ident(&of.schema));
    }
    if oid == of.array { format!("{name}[]") } else { name }
}

/// The OID of a type as it is written.
pub fn parse(view: &CatalogView, text: &str) -> Option<u32> {
    if let Some((built_in, _)) = types::parse(text) {
        return Some(built_in.oid);
    }
    let (text, array) = match text.trim().strip_suffix("[]") {
        Some(element) => (element, true),
        None => (text.trim(), false),
    };
    let mut parts = split_name(text);
    let name = parts.pop()?;
    let find = |name: &str| match parts.first() {
        Some(schema) => view.catalog.find(schema, name),
        None => view.search_schemas().find_map(|schema| view.catalog.find(schema, name)),
    };
    let (found, array) = match (find(&name), name.strip_prefix('_')) {
        (Some(found), _) => (found, array),
        (None, Some(element)) => (find(element)?, true),
        (None, None) => return None,
    };
    let of = EnumType::of(found)?;
    Some(if array { of.array } else { of.id })
}

/// An expression of a table's definition in which types that are not found by their names alone stand with their schemas.
pub fn with_schemas_of_types(view: &CatalogView, expression: &str) -> String {
    let schema_of = |name: &str| {
        let of = all(view).find(|of| of.name == name)?;
        (!is_visible(view, of.id)).then(|| quote_ident(&of.schema))
    };
    if all(view).next().is_none() {
        return expression.to_string();
    }
    let query = with_schemas(&format!("SELECT {expression}"), &schema_of);
    let query = query.ok().and_then(|query| query.strip_prefix("SELECT ").map(str::to_string));
    query.unwrap_or_else(|| expression.to_string())
}

/// Rows of pg_type.
pub fn types(view: &CatalogView) -> Result<RecordBatch> {
    let mut rows = super::contents::type_rows();
    for of in all(view) {
        let schema = view.schema_oid(&of.schema).unwrap_or(PUBLIC);
        let owner = view.catalog.get(of.id).map_or(0, |relation| view.owner_oid(relation));
        let (own, array) = described(&of);
        super::contents::add_type(&mut rows, own, schema, owner);
        super::contents::add_type(&mut rows, array, schema, owner);
    }
    rows.finish()
}

/// Rows of pg_enum.
pub fn labels(view: &CatalogView) -> Result<RecordBatch> {
    let declared = find(None, "pg_enum").expect("the relation is in relations.txt");
    let mut rows = Rows::new(declared, "oid enumtypid enumsortorder enumlabel");
    for of in all(view) {
        for label in &of.labels {
            let order = Value::Float(f64::from(EnumType::sort_order(label)));
            rows.add([label.id.into(), of.id.into(), order, label.text.as_str().into()]);
        }
    }
    rows.finish()
}
