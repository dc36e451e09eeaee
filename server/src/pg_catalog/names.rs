//! Which OID stands for what: schemas, relations, indexes, roles, by name and back.
//!
//! A relation's OID is its id in the catalog. What Postgres knows as objects of their own but Millrace
//! does not (the index and the constraint of a primary key, a default, a view's rule) gets an OID
//! derived from the relation's, so it is the same in every session and after a restart:
//!
//! ```text
//! 0x4000_0000 + id   index of the primary key        accounts_pkey (others have ids of their own)
//! 0x5000_0000 + id   constraint: of the primary key that of its relation, of others their own ids
//! 0x6000_0000 + id   rule of a view                  _RETURN
//! 0x7000_0000 + …    default of a column (id * 2048 + attnum, in 28 bits)
//! 0x3000_0000 + …    role (28 bits of the hash of its name; `millrace` is 10)
//! ```

use std::collections::BTreeSet;
use std::sync::Arc;

use millrace_engine::catalog::{Column, ForeignKey, Identity, IdentityKind, Relation, RelationKind};
use millrace_engine::sql::conditions::columns_named;
use millrace_engine::sql::keywords::quote_ident;

use super::{CatalogView, relations};

pub const PG_CATALOG: u32 = 11;
pub const INFORMATION_SCHEMA: u32 = 13207;
pub const PUBLIC: u32 = 2200;
/// The role that owns what every server has.
pub const BOOTSTRAP_ROLE: &str = "millrace";
pub const BOOTSTRAP_ROLE_OID: u32 = 10;
pub const DATABASE: u32 = 5;
pub const PG_CLASS: u32 = 1259;
pub const PG_ATTRDEF: u32 = 2604;
pub const PG_REWRITE: u32 = 2618;
pub const PG_CONSTRAINT: u32 = 2606;
pub const PG_NAMESPACE: u32 = 2615;

const INDEX: u32 = 0x4000_0000;
const CONSTRAINT: u32 = 0x5000_0000;
const RULE: u32 = 0x6000_0000;
const DEFAULT: u32 = 0x7000_0000;
const ROLE: u32 = 0x3000_0000;
const TAG: u32 = 0xf000_0000;

pub fn index_oid(relation: u32) -> u32 {
    INDEX | relation
}
pub fn constraint_oid(relation: u32) -> u32 {
    CONSTRAINT | relation
}
pub fn rule_oid(relation: u32) -> u32 {
    RULE | relation
}
pub fn default_oid(relation: u32, attnum: usize) -> u32 {
    DEFAULT | (relation.wrapping_mul(2048).wrapping_add(attnum as u32) & !TAG)
}

pub fn role_oid(name: &str) -> u32 {
    if name == BOOTSTRAP_ROLE {
        return BOOTSTRAP_ROLE_OID;
    }
    // FNV-1a: must never change, since clients may keep OIDs.
    let hash = name.bytes().fold(0x811c_9dc5u32, |h, b| (h ^ u32::from(b)).wrapping_mul(0x0100_0193));
    ROLE | (hash & !TAG)
}

/// `r`, `v`, `m`; None for what pg_class does not list.
pub fn relkind(kind: RelationKind) -> Option<&'static str> {
    match kind {
        RelationKind::Stream | RelationKind::Table => Some("r"),
        RelationKind::View => Some("v"),
        RelationKind::MaterializedView => Some("m"),
        // A sequence is listed by the number of what it counts.
        RelationKind::Sink | RelationKind::Sequence | RelationKind::Type | RelationKind::Arrangement => None,
    }
}

/// An index: of a primary key, of a UNIQUE constraint, or what CREATE INDEX made.
#[derive(Clone)]
pub struct Index {
    pub oid: u32,
    pub name: String,
    pub relation: Arc<Relation>,
    pub columns: Vec<usize>,
    pub is_primary: bool,
    pub is_unique: bool,
}

/// A relation's indexes.
pub fn indexes_of(relation: &Arc<Relation>) -> Vec<Index> {
    let made = |oid: u32, name: String, columns: &[usize], is_primary: bool, is_unique: bool| Index {
        oid,
        name,
        relation: relation.clone(),
        columns: columns.to_vec(),
        is_primary,
        is_unique,
    };
    let primary = Some(&relation.primary_key).filter(|key| !key.is_empty());
    let primary = primary.map(|key| made(index_oid(relation.id), relation.primary_key_name(), key, true, true));
    let others = relation.indexes.iter();
    let others = others.map(|index| made(index.id, index.name.clone(), &index.columns, false, index.unique));
    primary.into_iter().chain(others).collect()
}

/// A primary key, UNIQUE, CHECK or foreign key.
#[derive(Clone)]
pub struct Constraint {
    pub oid: u32,
    pub name: String,
    pub relation: Arc<Relation>,
    /// pg_constraint.contype: `p`, `u`, `c`, `f`.
    pub kind: &'static str,
    /// Those that it is on, or speaks of.
    pub columns: Vec<usize>,
    /// The OID of its index, or 0.
    pub index: u32,
    /// Of a CHECK.
    pub expression: Option<String>,
    pub foreign_key: Option<ForeignKey>,
}

impl Constraint {
    /// As information_schema has it.
    pub fn kind_in_full(&self) -> &'static str {
        match self.kind {
            "p" => "PRIMARY KEY",
            "u" => "UNIQUE",
            "f" => "FOREIGN KEY",
            _ => "CHECK",
        }
    }
}

/// A relation's constraints.
pub fn constraints_of(relation: &Arc<Relation>) -> Vec<Constraint> {
    let of_index = |kind: &'static str, id: u32, index: u32, name: String, columns: &[usize]| Constraint {
        oid: constraint_oid(id),
        name,
        relation: relation.clone(),
        kind,
        columns: columns.to_vec(),
        index,
        expression: None,
        foreign_key: None,
    };
    let key = &relation.primary_key;
    let primary =
        (!key.is_empty()).then(|| of_index("p", relation.id, index_oid(relation.id), relation.primary_key_name(), key));
    let unique = relation.indexes.iter().filter(|index| index.constraint);
    let unique = unique.map(|index| of_index("u", index.id, index.id, index.name.clone(), &index.columns));
    let checks = relation.checks.iter().map(|check| Constraint {
        oid: constraint_oid(check.id),
        name: check.name.clone(),
        relation: relation.clone(),
        kind: "c",
        columns: columns_named(relation, &check.expression),
        index: 0,
        expression: Some(check.expression.clone()),
        foreign_key: None,
    });
    let keys = relation.foreign_keys.iter().map(|key| Constraint {
        foreign_key: Some(key.clone()),
        ..of_index("f", key.id, 0, key.name.clone(), &key.columns)
    });
    primary.into_iter().chain(unique).chain(checks).chain(keys).collect()
}

/// The sequence of a column that counts its rows.
#[derive(Clone)]
pub struct Sequence {
    pub identity: Identity,
    pub relation: Arc<Relation>,
    pub column: usize,
}

/// pg_class.relpersistence
pub fn persistence(relation: &Relation) -> &'static str {
    if relation.schema_name.starts_with("pg_temp_") { "t" } else { "p" }
}

/// The sequences of a relation's columns.
pub fn sequences_of(relation: &Arc<Relation>) -> Vec<Sequence> {
    let columns = relation.columns.iter().enumerate();
    let counting = columns
        .filter_map(|(column, c)| Some(Sequence { identity: c.identity.clone()?, relation: relation.clone(), column }));
    counting.collect()
}

/// What an OID of pg_class stands for.
pub enum Named {
    User(Arc<Relation>),
    Index(Index),
    Sequence(Sequence),
    System(&'static relations::SystemRelation),
}

impl Named {
    pub fn schema_name(&self) -> &str {
        match self {
            Named::User(r)
            | Named::Index(Index { relation: r, .. })
            | Named::Sequence(Sequence { relation: r, .. }) => &r.schema_name,
            Named::System(s) => s.schema_name,
        }
    }
    pub fn name(&self) -> String {
        match self {
            Named::User(r) => r.name.clone(),
            Named::Index(index) => index.name.clone(),
            Named::Sequence(sequence) => sequence.identity.name.clone(),
            Named::System(s) => s.name.to_string(),
        }
    }
}

/// Look-ups in a session's view.
pub trait Names {
    /// The relations that pg_class lists.
    fn user_relations(&self) -> impl Iterator<Item = &Arc<Relation>>;
    fn named(&self, oid: u32) -> Option<Named>;
    /// The sequence of this OID.
    fn sequence(&self, oid: u32) -> Option<Sequence>;
    /// Those of columns, and those that stand alone.
    fn sequences(&self) -> impl Iterator<Item = Sequence>;
    /// The default of a column as SQL text: of a serial column `nextval('accounts_id_seq'::regclass)`.
    fn default_of(&self, column: &Column) -> Option<String>;
    fn constraint(&self, oid: u32) -> Option<Constraint>;
    /// The table that a foreign key refers to, and its unique key there.
    fn referenced(&self, key: &ForeignKey) -> Option<(Arc<Relation>, Index)>;
    fn find_in(&self, schema_name: &str, name: &str) -> Option<u32>;
    /// pg_catalog first unless the path names it, then the path.
    fn search_schemas(&self) -> impl Iterator<Item = &str>;
    /// The schemas of the path that exist, without the implicit pg_catalog.
    fn current_schemas(&self) -> Vec<&str>;
    /// The OID of a relation named as in SQL: `t`, `s.t`, `"Odd name"`, or its OID as digits.
    fn find_relation(&self, text: &str) -> Option<u32>;
    fn is_visible(&self, oid: u32) -> bool;
    /// As regclass prints it: qualified only when not visible.
    fn print_relation(&self, oid: u32) -> Option<String>;
    fn schemas(&self) -> Vec<(u32, String)>;
    fn schema_oid(&self, name: &str) -> Option<u32>;
    fn schema_name(&self, oid: u32) -> Option<String>;
    /// The roles that are known: the session's, the owners of relations and the one that owns the system.
    fn roles(&self) -> BTreeSet<String>;
    fn role_name(&self, oid: u32) -> Option<String>;
    fn owner_oid(&self, relation: &Relation) -> u32;
}

impl Names for CatalogView {
    fn user_relations(&self) -> impl Iterator<Item = &Arc<Relation>> {
        self.catalog.relations.values().filter(|r| relkind(r.kind).is_some())
    }

    fn named(&self, oid: u32) -> Option<Named> {
        let user = |id: u32| self.catalog.get(id).filter(|r| relkind(r.kind).is_some()).cloned();
        match oid & TAG {
            INDEX => user(oid & !TAG).and_then(|r| indexes_of(&r).into_iter().find(|i| i.is_primary)).map(Named::Index),
            _ => {
                let index = || self.user_relations().flat_map(indexes_of).find(|index| index.oid == oid);
                let system = || relations::by_oid(oid).map(Named::System);
                let sequence = || self.sequence(oid).map(Named::Sequence);
                user(oid).map(Named::User).or_else(system).or_else(|| index().map(Named::Index)).or_else(sequence)
            }
        }
    }

    fn sequence(&self, oid: u32) -> Option<Sequence> {
        let (relation, column) = self.catalog.sequence(oid)?;
        let identity = relation.columns[column].identity.clone()?;
        Some(Sequence { identity, relation: relation.clone(), column })
    }

    fn sequences(&self) -> impl Iterator<Item = Sequence> {
        let with = |r: &&Arc<Relation>| relkind(r.kind).is_some() || r.kind == RelationKind::Sequence;
        self.catalog.relations.values().filter(with).flat_map(sequences_of)
    }

    fn default_of(&self, column: &Column) -> Option<String> {
        match &column.identity {
            Some(sequence) if sequence.kind == IdentityKind::Serial => {
                let name = self.print_relation(sequence.id)?.replace('\'', "''");
                Some(format!("nextval('{name}'::regclass)"))
            }
            _ => match (&column.generated, &column.default) {
                (Some(generated), _) => Some(super::enums::with_schemas_of_types(self, &format!("({generated})"))),
                (None, Some(default)) => Some(super::defaults::spelt(self, column, default)),
                (None, None) => None,
            },
        }
    }

    fn constraint(&self, oid: u32) -> Option<Constraint> {
        (oid & TAG == CONSTRAINT)
            .then(|| self.user_relations().flat_map(constraints_of).find(|c| c.oid == oid))
            .flatten()
    }

    fn referenced(&self, key: &ForeignKey) -> Option<(Arc<Relation>, Index)> {
        let relation = self.catalog.get(key.references)?.clone();
        let unique = relation.unique_key_over(&key.referenced)?;
        let index =
            indexes_of(&relation).into_iter().find(|index| index.is_unique && index.columns == unique.columns)?;
        Some((relation, index))
    }

    fn find_in(&self, schema_name: &str, name: &str) -> Option<u32> {
        if let Some(system) = relations::find(Some(schema_name), name) {
            return Some(system.oid);
        }
        let relation = self.user_relations().filter(|r| r.schema_name == schema_name).find_map(|r| {
            if r.name == name {
                Some(r.id)
            } else {
                indexes_of(r).into_iter().find(|index| index.name == name).map(|index| index.oid)
            }
        });
        let sequence = || {
            let (relation, column) = self.catalog.sequence_named(schema_name, name)?;
            relation.columns[column].identity.as_ref().map(|sequence| sequence.id)
        };
        relation.or_else(sequence)
    }

    fn search_schemas(&self) -> impl Iterator<Item = &str> {
        let implicit = (!self.search_path.iter().any(|s| s == "pg_catalog")).then_some("pg_catalog");
        implicit.into_iter().chain(self.search_path.iter().map(String::as_str))
    }

    fn current_schemas(&self) -> Vec<&str> {
        // Temporary tables are found first, and nothing else is made there.
        let path = self.search_path.iter().map(String::as_str).filter(|s| !s.starts_with("pg_temp_"));
        path.filter(|s| self.schema_oid(s).is_some()).collect()
    }

    fn find_relation(&self, text: &str) -> Option<u32> {
        if let Ok(oid) = text.trim().parse() {
            return Some(oid);
        }
        let parts = split_name(text);
        match parts.as_slice() {
            [name] => self.search_schemas().find_map(|s| self.find_in(s, name)),
            [.., schema, name] => self.find_in(schema, name),
            [] => None,
        }
    }

    fn is_visible(&self, oid: u32) -> bool {
        let Some(named) = self.named(oid) else { return false };
        let name = named.name();
        self.search_schemas().find_map(|s| self.find_in(s, &name)) == Some(oid)
    }

    fn print_relation(&self, oid: u32) -> Option<String> {
        let named = self.named(oid)?;
        let name = quote_ident(&named.name());
        if self.is_visible(oid) { Some(name) } else { Some(format!("{}.{name}", quote_ident(named.schema_name()))) }
    }

    fn schemas(&self) -> Vec<(u32, String)> {
        let mut all = vec![
            (PG_CATALOG, "pg_catalog".to_string()),
            (PUBLIC, "public".into()),
            (INFORMATION_SCHEMA, "information_schema".into()),
        ];
        all.extend(
            self.catalog.schemas.iter().filter(|(n, _)| n.as_str() != "public").map(|(n, oid)| (*oid, n.clone())),
        );
        all
    }
    fn schema_oid(&self, name: &str) -> Option<u32> {
        self.schemas().into_iter().find(|(_, n)| n == name).map(|(oid, _)| oid)
    }
    fn schema_name(&self, oid: u32) -> Option<String> {
        self.schemas().into_iter().find(|(o, _)| *o == oid).map(|(_, n)| n)
    }

    fn roles(&self) -> BTreeSet<String> {
        let owners = self.catalog.relations.values().map(|r| r.owner.clone()).filter(|o| !o.is_empty());
        owners.chain([self.user.clone(), BOOTSTRAP_ROLE.to_string()]).collect()
    }
    fn role_name(&self, oid: u32) -> Option<String> {
        self.roles().into_iter().find(|r| role_oid(r) == oid)
    }
    fn owner_oid(&self, relation: &Relation) -> u32 {
        role_oid(if relation.owner.is_empty() { BOOTSTRAP_ROLE } else { &relation.owner })
    }
}

/// `a."B c".d` to its parts, folded.
pub fn split_name(text: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut quoted = false;
    let mut chars = text.trim().chars().peekable();
    while let Some(c) = chars.next() {
        let part = parts.last_mut().expect("starts with one part");
        match c {
            '"' if quoted && chars.peek() == Some(&'"') => {
                chars.next();
                part.push('"');
            }
            '"' => quoted = !quoted,
            '.' if !quoted => parts.push(String::new()),
            c if quoted => part.push(c),
            c if c.is_whitespace() => {}
            c => part.extend(c.to_lowercase()),
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_split_and_quote() {
        assert_eq!(split_name("Public.\"Odd.\"\"Name\"\"\""), ["public", "Odd.\"Name\""]);
        assert_eq!(quote_ident("orders"), "orders");
        assert_eq!(quote_ident("Order"), "\"Order\"");
        assert_eq!(quote_ident("select"), "\"select\"");
    }

    #[test]
    fn roles_keep_their_oids() {
        assert_eq!(role_oid("millrace"), 10);
        assert_eq!(role_oid("alice"), role_oid("alice"));
        assert_ne!(role_oid("alice"), role_oid("bob"));
    }
}
