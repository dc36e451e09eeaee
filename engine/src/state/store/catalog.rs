//! The stored catalog: relations, schema names and settings as of the log's end, and the ids given out.
//!
//! Changes ride in a log entry, so a statement that makes an object is durable whole or not at all. Ids are
//! reserved sixteen at a time, and the mark is written before any of them is used: after a crash some are
//! skipped and none is given out twice.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex};

use serde::{Deserialize, Serialize};

use super::faults::Write;
use super::frame::{self, damaged};
use super::keys::{DROPPED, NAMESPACE, NEXT_ID, RELATION, SETTING, meta_key, meta_range, u32_at};
use super::rocks::{Batch, Db, Family};
use super::{Inner, Store};
use crate::catalog::{Catalog, FIRST_USER_ID, Relation, RelationId};
use crate::error::{Error, Result};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum CatalogChange {
    /// Makes or replaces the relation of this id.
    Put(Box<Relation>),
    /// Its log goes later: see [`Store::drop_relation_log`].
    Drop(RelationId),
    PutSchema {
        name: String,
        id: u32,
    },
    DropSchema {
        name: String,
    },
    /// Anything else worth keeping, by name; `None` removes it.
    Meta {
        key: String,
        value: Option<String>,
    },
}

const IDS_RESERVED: u32 = 16;

pub(super) struct CatalogState {
    ids: Mutex<Ids>,
}

struct Ids {
    next: RelationId,
    /// Ids below may have been given out.
    reserved: RelationId,
}

impl CatalogState {
    pub fn load(db: &Db) -> Result<CatalogState> {
        let next = match db.get(Family::Meta, NEXT_ID)? {
            None => FIRST_USER_ID,
            Some(value) => match frame::open(NEXT_ID, &value, || "the id mark".into())? {
                body if body.len() == 4 => u32_at(body, 0),
                _ => return Err(damaged("the id mark", "it is cut short")),
            },
        };
        Ok(CatalogState { ids: Mutex::new(Ids { next, reserved: next }) })
    }
}

impl Store {
    /// An id that no object ever had or will have, for relations, schemas and whatever else shares their
    /// number space. Not synced by itself: whatever durably uses the id makes it so.
    pub fn next_id(&self) -> Result<RelationId> {
        self.inner.next_id()
    }

    pub fn load_catalog(&self) -> Result<Catalog> {
        self.inner.load_catalog()
    }

    /// The values of [`CatalogChange::Meta`].
    pub fn load_meta(&self) -> Result<BTreeMap<String, String>> {
        let mut values = BTreeMap::new();
        self.inner.db.scan_letter(SETTING, |name, body| {
            let name = text(name)?;
            let value = text(body?)?;
            values.insert(name, value);
            Ok(())
        })?;
        Ok(values)
    }
}

impl Inner {
    fn next_id(&self) -> Result<RelationId> {
        let mut ids = self.catalog.ids.lock().expect("no panic under this lock");
        if ids.next == ids.reserved {
            let reserved = ids.reserved.checked_add(IDS_RESERVED);
            let reserved = reserved.ok_or_else(|| Error::new("54000", "all object ids have been used"))?;
            let mut batch = self.db.batch();
            batch.put(Family::Meta, NEXT_ID, &frame::seal(NEXT_ID, &reserved.to_be_bytes()));
            self.db.write(Write::Meta, batch, false)?;
            ids.reserved = reserved;
        }
        ids.next += 1;
        Ok(ids.next - 1)
    }

    fn load_catalog(&self) -> Result<Catalog> {
        let mut catalog = Catalog::default();
        self.db.scan_letter(RELATION, |name, body| {
            let id = u32_at(name, 0);
            let relation: Relation =
                serde_json::from_slice(body?).map_err(|e| damaged(format!("relation {id} in the catalog"), e))?;
            self.shapes.note(&relation)?;
            catalog.relations.insert(id, Arc::new(relation));
            Ok(())
        })?;
        self.db.scan_letter(NAMESPACE, |name, body| {
            let name = text(name)?;
            let body = body?;
            if body.len() != 4 {
                return Err(damaged(format!("schema \"{name}\" in the catalog"), "it is cut short"));
            }
            catalog.schemas.insert(name, u32_at(body, 0));
            Ok(())
        })?;
        Ok(catalog)
    }
}

impl Db {
    /// Visits all meta entries of one letter: the key without it, and the body.
    pub(super) fn scan_letter(
        &self,
        letter: u8,
        mut visit: impl FnMut(&[u8], Result<&[u8]>) -> Result<()>,
    ) -> Result<()> {
        let (lower, upper) = meta_range(letter);
        self.scan(Family::Meta, &lower, &upper, |key, value| {
            let what = || format!("the catalog entry {}", key.escape_ascii());
            visit(&key[1..], frame::open(key, value, what))?;
            Ok(ControlFlow::Continue(()))
        })
    }
}

/// Adds `change` to the batch of its epoch.
pub(super) fn stage(batch: &mut Batch<'_>, change: &CatalogChange) {
    let mut put = |key: Vec<u8>, body: &[u8]| batch.put(Family::Meta, &key, &frame::seal(&key, body));
    match change {
        CatalogChange::Put(relation) => {
            let body = serde_json::to_vec(relation).expect("a relation is plain data");
            put(meta_key(RELATION, &relation.id.to_be_bytes()), &body);
        }
        CatalogChange::Drop(id) => {
            put(meta_key(DROPPED, &id.to_be_bytes()), b"");
            batch.delete(Family::Meta, &meta_key(RELATION, &id.to_be_bytes()));
        }
        CatalogChange::PutSchema { name, id } => put(meta_key(NAMESPACE, name.as_bytes()), &id.to_be_bytes()),
        CatalogChange::DropSchema { name } => batch.delete(Family::Meta, &meta_key(NAMESPACE, name.as_bytes())),
        CatalogChange::Meta { key, value: Some(value) } => put(meta_key(SETTING, key.as_bytes()), value.as_bytes()),
        CatalogChange::Meta { key, value: None } => batch.delete(Family::Meta, &meta_key(SETTING, key.as_bytes())),
    }
}

fn text(bytes: &[u8]) -> Result<String> {
    String::from_utf8(bytes.to_vec()).map_err(|e| damaged("a name in the catalog", e))
}
