//! Temporary tables: a session's own, gone with it.
//!
//! They are tables like any other, in a schema of the session's (`pg_temp_7`) that its names are looked up in first and
//! nobody else's are. Their rows are logged as well: a crash leaves them, and the next start drops them. Nothing that
//! stays can be made from one.

use super::Session;
use crate::blocking::wait_for;
use crate::catalog::{Catalog, Relation, RelationId};
use crate::commit::{CatalogEdit, Request};
use crate::core::Core;
use crate::error::{Error, Result};
use crate::sequences::setting;
use crate::sql::statement::Name;
use crate::state::store::CatalogChange;

const PREFIX: &str = "pg_temp_";
/// What a statement calls its session's schema.
const OWN: &str = "pg_temp";

/// Whether this is some session's schema.
pub(super) fn is_temporary(schema: &str) -> bool {
    schema.starts_with(PREFIX)
}

/// The schema that a name means, for a session that looks in `search_path`.
pub(super) fn meant<'a>(schema: &'a str, search_path: &'a [String]) -> Option<&'a str> {
    let own = search_path.first().map(String::as_str).filter(|first| is_temporary(first));
    match schema {
        OWN => own,
        other if is_temporary(other) => own.filter(|own| *own == other),
        other => Some(other),
    }
}

/// 0A000 when what stays would read what does not.
pub(super) fn refuse_temporary(relation: &Relation) -> Result<()> {
    match is_temporary(&relation.schema_name) {
        true => Err(Error::unsupported(format!("reading temporary table \"{}\" in what stays", relation.name))
            .hint("It is gone with its session. Make it without TEMPORARY.")),
        false => Ok(()),
    }
}

/// Drops all temporary tables, or those of one session.
fn clear(core: &std::sync::Arc<Core>, only: Option<String>) -> CatalogEdit {
    let core = core.clone();
    Box::new(move |catalog: &Catalog| {
        let meant = |schema: &str| only.as_ref().map_or(is_temporary(schema), |only| only == schema);
        let mut changes = Vec::new();
        for relation in catalog.relations.values().filter(|r| meant(&r.schema_name)) {
            changes.push(CatalogChange::Drop(relation.id));
            for sequence in relation.sequences() {
                core.sequences.forget(sequence.id);
                changes.push(CatalogChange::Meta { key: setting(sequence.id), value: None });
            }
        }
        let schemas = catalog.schemas.keys().filter(|schema| meant(schema));
        changes.extend(schemas.map(|name| CatalogChange::DropSchema { name: name.clone() }));
        Ok(changes)
    })
}

/// At start: what sessions of before left.
pub(crate) fn clear_all(core: &std::sync::Arc<Core>) -> Result<()> {
    let catalog = core.catalog();
    let mut schemas = catalog.schemas.keys().chain(catalog.relations.values().map(|r| &r.schema_name));
    if !schemas.any(|schema| is_temporary(schema)) {
        return Ok(());
    }
    let (edit, rows) = (clear(core, None), Vec::new());
    wait_for(core.ask(|reply| Request::Catalog { edit, rows, reply })).map(|_| ())
}

impl Session {
    fn temporary_schema(&self) -> String {
        format!("{PREFIX}{}", self.pid)
    }

    /// Not another session's.
    pub(super) fn may_see(&self, relation: &Relation) -> bool {
        !is_temporary(&relation.schema_name) || relation.schema_name == self.temporary_schema()
    }

    /// Where relations are looked up: the search path, before it the session's temporary ones.
    pub(super) fn lookup_path(&self, catalog: &Catalog) -> Vec<String> {
        let own = self.temporary_schema();
        let own = (self.has_temporary && catalog.schemas.contains_key(&own)).then_some(own);
        own.into_iter().chain(self.search_path()).collect()
    }

    /// The full name of a table that is to be made, temporary if it says so. 42P16 for a temporary one elsewhere.
    pub(super) async fn placed(&mut self, name: &Name, temporary: bool) -> Result<Name> {
        let says = name.schema.as_deref().is_some_and(|schema| schema == OWN || schema == self.temporary_schema());
        if !temporary && !says {
            return Ok(name.clone());
        }
        if name.schema.is_some() && !says {
            return Err(Error::new("42P16", "cannot create temporary relation in non-temporary schema"));
        }
        let schema = self.temporary_schema();
        if !self.has_temporary {
            let (id, made) = (self.core.store.next_id()?, schema.clone());
            self.has_temporary = true;
            self.edit(move |catalog| match catalog.schemas.contains_key(&made) {
                true => Ok(Vec::new()),
                false => Ok(vec![CatalogChange::PutSchema { name: made, id }]),
            })
            .await?;
        }
        Ok(Name { schema: Some(schema), name: name.name.clone() })
    }

    fn stop_temporary(&self, schema: &str) {
        let catalog = self.core.catalog();
        let own: Vec<RelationId> =
            catalog.relations.values().filter(|r| r.schema_name == schema).map(|r| r.id).collect();
        own.into_iter().for_each(|id| self.engine.sources().stop_one(id));
    }

    /// DISCARD TEMP
    pub(super) async fn drop_temporary(&mut self) -> Result<()> {
        if !std::mem::take(&mut self.has_temporary) {
            return Ok(());
        }
        let schema = self.temporary_schema();
        self.stop_temporary(&schema);
        let (edit, rows) = (clear(&self.core, Some(schema)), Vec::new());
        self.core.ask(|reply| Request::Catalog { edit, rows, reply }).await.map(|_| ())
    }

    /// The session is going, and cannot wait.
    pub(super) fn leave_temporary(&mut self) {
        if !std::mem::take(&mut self.has_temporary) {
            return;
        }
        let schema = self.temporary_schema();
        self.stop_temporary(&schema);
        let (reply, _) = tokio::sync::oneshot::channel();
        let request = Request::Catalog { edit: clear(&self.core, Some(schema)), rows: Vec::new(), reply };
        if let Err(tokio::sync::mpsc::error::TrySendError::Full(request)) = self.core.requests.try_send(request) {
            let core = self.core.clone();
            // A full queue is emptied soon.
            std::thread::spawn(move || core.requests.blocking_send(request));
        }
    }
}
