//! Types that CREATE TYPE … AS ENUM makes: a list of labels, in an order of their own.
//!
//! A value is kept as its label, a text. What it is ordered by is its label's *rank*, a number that a label has for good: a label
//! that is added takes one between those of its neighbours, so that no row and no view is changed by it.
//!
//! ```text
//!   CREATE TYPE mood AS ENUM ('sad', 'happy')        sad 0, happy 2^32
//!   ALTER TYPE mood ADD VALUE 'ok' BEFORE 'happy'    sad 0, ok 2^31, happy 2^32
//!   ORDER BY m                                       ORDER BY mr_enum_rank(m)
//!   max(m)                                           mr_enum_label(max(mr_enum_rank(m)))
//! ```
//!
//! The canonical spelling of the type is `mr_enum(16390,1733000000000000)`: the id of its relation in the catalog and the time when
//! it was made, so that it stays the same when the type is renamed, and no other type of any catalog has it. What reads and writes
//! values knows that spelling alone; it finds the labels here, where each change of a catalog is made [`known`](know).

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::{Arc, RwLock};

use serde::{Deserialize, Serialize};
use sqlparser::ast;

use super::statement::Name;
use super::types::sql_type_from_ast;
use crate::catalog::{Catalog, Relation, RelationId, RelationKind};
use crate::error::{Error, Result};
use crate::sql::visit;

/// The word of canonical spellings.
pub const WORD: &str = "mr_enum";
/// The distance of ranks of labels that are one after the other: as many can be put between them as it can be halved.
const STEP: i64 = 1 << 32;
/// Longest label, in bytes, as in Postgres.
const LABEL_MAX: usize = 63;

const LABELS: &str = "labels";
const ARRAY: &str = "array";
const STAMP: &str = "stamp";

/// What CREATE TYPE and ALTER TYPE say.
#[derive(Debug, Clone)]
pub enum TypeChange {
    Create {
        name: Name,
        labels: Vec<String>,
    },
    AddValue {
        name: Name,
        label: String,
        if_not_exists: bool,
        /// Another label, and whether it comes before that.
        beside: Option<(String, bool)>,
    },
    RenameValue {
        name: Name,
        from: String,
        to: String,
    },
}

impl TypeChange {
    pub fn tag(&self) -> &'static str {
        match self {
            TypeChange::Create { .. } => "CREATE TYPE",
            _ => "ALTER TYPE",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Label {
    pub id: RelationId,
    pub text: String,
    pub rank: i64,
}

#[derive(Debug, Clone, PartialEq)]
pub struct EnumType {
    pub id: RelationId,
    /// The OID of arrays of it.
    pub array: RelationId,
    pub schema: String,
    pub name: String,
    /// When it was made.
    pub stamp: i64,
    /// In order.
    pub labels: Vec<Label>,
}

impl EnumType {
    /// What a relation of the kind `Type` says; `None` of any other.
    pub fn of(relation: &Relation) -> Option<EnumType> {
        if relation.kind != RelationKind::Type {
            return None;
        }
        let option = |name: &str| relation.options.get(name);
        Some(EnumType {
            id: relation.id,
            array: option(ARRAY)?.parse().ok()?,
            schema: relation.schema_name.clone(),
            name: relation.name.clone(),
            stamp: option(STAMP)?.parse().ok()?,
            labels: serde_json::from_str(option(LABELS)?).ok()?,
        })
    }

    /// Writes it into its relation.
    pub fn put_into(&self, relation: &mut Relation) {
        let labels = serde_json::to_string(&self.labels).expect("texts and numbers are JSON");
        for (name, value) in [(LABELS, labels), (ARRAY, self.array.to_string()), (STAMP, self.stamp.to_string())] {
            relation.options.insert(name.into(), value);
        }
    }

    pub fn canonical(&self) -> String {
        format!("{WORD}({},{})", self.id, self.stamp)
    }

    pub fn rank(&self, text: &str) -> Option<i64> {
        self.labels.iter().find(|label| label.text == text).map(|label| label.rank)
    }

    pub fn label(&self, rank: i64) -> Option<&str> {
        let at = self.labels.binary_search_by_key(&rank, |label| label.rank).ok()?;
        Some(&self.labels[at].text)
    }

    /// 22P02 for what is no label.
    pub fn check(&self, text: &str) -> Result<()> {
        match self.rank(text) {
            Some(_) => Ok(()),
            None => Err(Error::new("22P02", format!("invalid input value for enum {}: \"{text}\"", self.name))),
        }
    }

    /// Adds a label at its end, or beside another one. The caller has seen that it is new.
    pub fn add(&mut self, id: RelationId, text: &str, beside: Option<(&str, bool)>) -> Result<()> {
        check_label(text)?;
        let at = match beside {
            None => self.labels.len(),
            Some((other, before)) => {
                let found = self.labels.iter().position(|label| label.text == other);
                let missing = || Error::new("22023", format!("\"{other}\" is not an existing enum label"));
                found.ok_or_else(missing)? + usize::from(!before)
            }
        };
        let lower = at.checked_sub(1).map(|below| self.labels[below].rank);
        let upper = self.labels.get(at).map(|label| label.rank);
        let rank = match (lower, upper) {
            (None, None) => Some(0),
            (Some(lower), None) => lower.checked_add(STEP),
            (None, Some(upper)) => upper.checked_sub(STEP),
            (Some(lower), Some(upper)) => Some(lower + (upper - lower) / 2).filter(|rank| *rank > lower),
        };
        let full = || Error::new("54000", format!("enum {} has no room for another label at this place", self.name));
        let rank = rank.ok_or_else(full)?;
        self.labels.insert(at, Label { id, text: text.to_string(), rank });
        Ok(())
    }

    /// As in pg_enum.enumsortorder.
    pub fn sort_order(label: &Label) -> f32 {
        (label.rank as f64 / STEP as f64 + 1.0) as f32
    }
}

pub fn check_label(text: &str) -> Result<()> {
    match text.len() > LABEL_MAX {
        true => Err(Error::new("42602", format!("invalid enum label \"{text}\""))
            .detail(format!("Labels must be {LABEL_MAX} bytes or less."))),
        false => Ok(()),
    }
}

/// The types of all catalogs of this process, by their canonical spelling.
static KNOWN: RwLock<BTreeMap<String, Arc<EnumType>>> = RwLock::new(BTreeMap::new());

/// Takes note of a catalog's types as they are by now. One that is dropped stays known to whoever still reads its values.
pub fn know(catalog: &Catalog) {
    let types: Vec<EnumType> = catalog.relations.values().filter_map(|relation| EnumType::of(relation)).collect();
    if types.is_empty() {
        return;
    }
    let mut known = KNOWN.write().expect("no panic while held");
    for of in types {
        known.insert(of.canonical(), Arc::new(of));
    }
}

/// Whether the canonical spelling of a type is that of an enum.
pub fn is_enum(canonical: &str) -> bool {
    canonical.starts_with(WORD) && canonical.ends_with(')')
}

/// The type of this canonical spelling, with the labels that it has by now.
pub fn of(canonical: &str) -> Option<Arc<EnumType>> {
    if !is_enum(canonical) {
        return None;
    }
    KNOWN.read().expect("no panic while held").get(canonical).cloned()
}

/// The same; 42704 when there is none.
pub fn found(canonical: &str) -> Result<Arc<EnumType>> {
    of(canonical).ok_or_else(|| Error::undefined_object(format!("type \"{canonical}\" does not exist")))
}

/// The canonical spelling of the type, or of the array of one, with this OID; the youngest if several catalogs have one.
pub fn canonical_of_oid(oid: u32) -> Option<String> {
    let known = KNOWN.read().expect("no panic while held");
    let with = |of: &&Arc<EnumType>| of.id == oid || of.array == oid;
    let youngest = known.values().filter(with).max_by_key(|of| of.stamp)?;
    Some(if youngest.id == oid { youngest.canonical() } else { format!("{}[]", youngest.canonical()) })
}

/// What a type is called in messages: an enum by its name, any other as it is spelt.
pub fn shown(canonical: &str) -> String {
    let element = canonical.trim_end_matches("[]");
    match of(element) {
        Some(of) => format!("{}{}", of.name, &canonical[element.len()..]),
        None => canonical.to_string(),
    }
}

/// Puts canonical spellings in the place of types' names in what casts of a query are to; `find` leads from a schema and a name to
/// the relation.
pub fn name_types<V: ast::VisitMut>(query: &mut V, find: &dyn Fn(Option<&str>, &str) -> Option<Arc<Relation>>) {
    let _ = visit::visit_expressions_mut(query, |expr| {
        if let ast::Expr::Cast { data_type, .. } = expr {
            name_type(data_type, find);
        }
        ControlFlow::<()>::Continue(())
    });
}

fn name_type(data_type: &mut ast::DataType, find: &dyn Fn(Option<&str>, &str) -> Option<Arc<Relation>>) {
    match data_type {
        ast::DataType::Array(
            ast::ArrayElemTypeDef::SquareBracket(element, _) | ast::ArrayElemTypeDef::AngleBracket(element),
        ) => name_type(element, find),
        ast::DataType::Custom(name, modifiers) if modifiers.is_empty() => {
            if sql_type_from_ast(&ast::DataType::Custom(name.clone(), Vec::new())).is_ok() {
                return;
            }
            let Ok(named) = super::parse::name_of(name) else { return };
            if let Some(of) = find(named.schema.as_deref(), &named.name).and_then(|relation| EnumType::of(&relation)) {
                *data_type = ast::DataType::Custom(
                    ast::ObjectName::from(vec![ast::Ident::new(WORD)]),
                    vec![of.id.to_string(), of.stamp.to_string()],
                );
            }
        }
        _ => {}
    }
}

/// The canonical spelling of a type in a definition, which may be an enum's name.
pub fn resolved(sql_type: &str, find: &dyn Fn(Option<&str>, &str) -> Option<Arc<Relation>>) -> Result<String> {
    let Some(text) = sql_type.strip_prefix(UNRESOLVED) else { return Ok(sql_type.to_string()) };
    let mut data_type = super::types::parse_type(text)?;
    name_type(&mut data_type, find);
    sql_type_from_ast(&data_type)
}

/// Marks the name of a type that no built-in one has, until the catalog is asked.
const UNRESOLVED: char = '?';

/// The canonical spelling of a type, or its name if it has none of its own: [`resolved`] tells what that is.
pub fn spelling(data_type: &ast::DataType) -> Result<String> {
    fn element(data_type: &ast::DataType) -> &ast::DataType {
        match data_type {
            ast::DataType::Array(
                ast::ArrayElemTypeDef::SquareBracket(inner, _) | ast::ArrayElemTypeDef::AngleBracket(inner),
            ) => element(inner),
            other => other,
        }
    }
    match sql_type_from_ast(data_type) {
        Err(error) if error.code == "42704" => match element(data_type) {
            ast::DataType::Custom(name, modifiers) if modifiers.is_empty() && name.0.len() <= 2 => {
                Ok(format!("{UNRESOLVED}{data_type}"))
            }
            _ => Err(error),
        },
        other => other,
    }
}

/// Whether a query casts to the type, by its name.
pub fn is_named(query: &ast::Query, of: &EnumType) -> bool {
    let mut found = false;
    let _ = visit::visit_expressions(query, |expr| {
        if let ast::Expr::Cast { data_type, .. } = expr {
            let mut data_type = data_type;
            while let ast::DataType::Array(ast::ArrayElemTypeDef::SquareBracket(inner, _)) = data_type {
                data_type = inner;
            }
            if let ast::DataType::Custom(name, _) = data_type
                && let Ok(name) = super::parse::name_of(name)
            {
                found |= name.name == of.name && name.schema.is_none_or(|schema| schema == of.schema);
            }
        }
        ControlFlow::<()>::Continue(())
    });
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_stay_and_labels_have_an_order() {
        let mut mood =
            EnumType { id: 1, array: 2, schema: "public".into(), name: "mood".into(), stamp: 3, labels: Vec::new() };
        mood.add(3, "sad", None).unwrap();
        mood.add(4, "happy", None).unwrap();
        let before = (mood.rank("sad"), mood.rank("happy"));
        mood.add(5, "ok", Some(("happy", true))).unwrap();
        mood.add(6, "awful", Some(("sad", true))).unwrap();
        mood.add(7, "great", Some(("happy", false))).unwrap();
        assert_eq!((mood.rank("sad"), mood.rank("happy")), before);
        let texts: Vec<&str> = mood.labels.iter().map(|label| label.text.as_str()).collect();
        assert_eq!(texts, ["awful", "sad", "ok", "happy", "great"]);
        assert!(mood.labels.is_sorted_by_key(|label| label.rank));
        for label in &mood.labels {
            assert_eq!(mood.label(label.rank), Some(label.text.as_str()));
        }
        assert_eq!(mood.add(8, "x", Some(("nosuch", true))).unwrap_err().code, "22023");
        assert_eq!(mood.check("x").unwrap_err().code, "22P02");
    }

    #[test]
    fn a_place_is_full_before_ranks_meet() {
        let mut of = EnumType { id: 1, array: 2, schema: "s".into(), name: "t".into(), stamp: 3, labels: Vec::new() };
        of.add(3, "a", None).unwrap();
        of.add(4, "b", None).unwrap();
        let added = (0..).take_while(|i| of.add(5, &format!("x{i}"), Some(("b", true))).is_ok()).count();
        assert_eq!(added, 32);
        assert!(of.labels.is_sorted_by(|a, b| a.rank < b.rank));
    }
}
