//! CREATE, DROP, ALTER … RENAME, COMMENT: changes of the catalog, each one epoch.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::sync::Arc;

use sqlparser::ast::{self, VisitorMut};

use super::Session;
use super::definition::view_definition;
use super::query::{Scope, session_state};
use super::through_view::CHECK_OPTION;
use super::view::{bind_view, column_names, columns_of};
use crate::catalog::{Catalog, Column, LateRows, Relation, RelationId, RelationKind, Watermark};
use crate::commit::{CatalogEdit, Request};
use crate::delta::Delta;
use crate::error::{Error, Result};
use crate::sql::bind::relations_named;
use crate::sql::interval::Interval;
use crate::sql::statement::{CreateRelation, LateRowsDefinition, Name, Options, SinkInput};
use crate::sql::visit::{self, WalkMut};
use crate::state::store::CatalogChange;
use crate::state::versions::VersionColumns;

/// The relations that a query names, directly.
pub fn dependencies(scope: &Scope, query: &ast::Query) -> Result<Vec<RelationId>> {
    let named = relations_named(query);
    let found: Vec<_> = named.into_iter().filter_map(|name| scope.find(name.schema.as_deref(), &name.name)).collect();
    found.iter().try_for_each(|relation| super::temporary::refuse_temporary(relation))?;
    let ids: BTreeSet<RelationId> = found.iter().map(|r| r.id).collect();
    Ok(ids.into_iter().collect())
}

/// What is kept up to date from a view, directly or through other views.
fn maintained_above(catalog: &Catalog, id: RelationId) -> Option<Arc<Relation>> {
    let mut above = vec![id];
    while let Some(id) = above.pop() {
        for dependant in catalog.dependants(id) {
            if dependant.kind != RelationKind::View {
                return Some(dependant.clone());
            }
            above.push(dependant.id);
        }
    }
    None
}

/// A query as it is kept: joins with versions are spelt by the time that their stream has now.
pub(super) fn stored_text(scope: &Scope, query: &ast::Query) -> Result<String> {
    let mut query = query.clone();
    crate::sql::system_time::spell_as_of(&mut query, scope)?;
    Ok(crate::sql::parse::text_of(&query))
}

/// Gives a table in FROM that has no alias the name that it is found by: columns may be qualified by it.
struct Aliased<'a> {
    relation: &'a Relation,
    /// It stands where it cannot have one.
    without: bool,
}

impl VisitorMut for Aliased<'_> {
    type Break = ();
    fn post_visit_table_factor(&mut self, factor: &mut ast::TableFactor) -> ControlFlow<()> {
        match factor {
            ast::TableFactor::Table { name, alias: alias @ None, args: None, .. } => {
                if is_called(name, self.relation) {
                    let name = ast::Ident::with_quote('"', &self.relation.name);
                    *alias = Some(ast::TableAlias { explicit: true, name, columns: Vec::new(), at: None });
                }
            }
            ast::TableFactor::Table { args: None, .. } | ast::TableFactor::Derived { .. } => {}
            other => self.without |= other.to_string().to_lowercase().contains(&self.relation.name.to_lowercase()),
        }
        ControlFlow::Continue(())
    }
}

fn is_called(name: &ast::ObjectName, relation: &Relation) -> bool {
    crate::sql::parse::name_of(name).is_ok_and(|named| {
        named.name == relation.name && named.schema.as_ref().is_none_or(|schema| *schema == relation.schema_name)
    })
}

/// A stored query in which `relation` is called `new_name`.
fn with_new_name(query: &str, relation: &Relation, new_name: &str) -> Result<String> {
    let qualifies = |text: &str, by: &str| text.to_lowercase().contains(&format!("{}.", by.to_lowercase()));
    let mut query = crate::sql::parse::query(query)?;
    let mut hidden = false;
    if qualifies(&crate::sql::parse::text_of(&query).replace('"', ""), &relation.name) {
        let mut aliased = Aliased { relation, without: false };
        let _ = query.walk_mut(&mut aliased);
        hidden |= aliased.without;
    }
    let _ = visit::visit_relations_mut(&mut *query, |name| {
        if is_called(name, relation) {
            if let Some(last) = name.0.last_mut() {
                *last = ast::ObjectNamePart::Identifier(ast::Ident::with_quote('"', new_name));
            }
        }
        ControlFlow::<()>::Continue(())
    });
    if let Some(with) = &query.with {
        hidden |= with.cte_tables.iter().any(|c| c.alias.name.value.eq_ignore_ascii_case(&relation.name));
    }
    // A WITH of that name hides it; and a column that is qualified by the schema too would lose its relation.
    let text = crate::sql::parse::text_of(&query);
    let qualified = qualifies(&text.replace('"', ""), &format!("{}.{}", relation.schema_name, relation.name));
    if hidden || qualified {
        return Err(Error::new(
            "2BP01",
            format!("cannot rename \"{}\": a query that reads it uses its name for columns", relation.name),
        )
        .hint("Drop what depends on it first, or give the relation an alias in that query."));
    }
    Ok(text)
}

/// It may have been dropped since the name was looked up.
pub(super) fn check_schema(catalog: &Catalog, schema: &str) -> Result<()> {
    match schema == "public" || catalog.schemas.contains_key(schema) {
        true => Ok(()),
        false => Err(Error::new("3F000", format!("schema \"{schema}\" does not exist"))),
    }
}

/// The stream's option `max_future`, or one hour.
fn max_future(options: &Options) -> Result<i64> {
    let Some(text) = options.get("max_future") else { return Ok(Watermark::MAX_FUTURE_US) };
    let interval = Interval::parse(text, None)?;
    let bad = || Error::invalid_value(format!("max_future must be a positive length, not {text}"));
    interval.fixed_us().filter(|&us| us > 0).ok_or_else(bad)
}

pub(super) fn already_exists(name: &str) -> Error {
    Error::new("42P07", format!("relation \"{name}\" already exists"))
}

impl Session {
    pub(super) async fn edit(
        &self,
        edit: impl FnOnce(&Catalog) -> Result<Vec<CatalogChange>> + Send + 'static,
    ) -> Result<()> {
        self.edit_with(Vec::new(), edit).await
    }

    pub(super) async fn edit_with(
        &self,
        rows: Vec<(RelationId, Vec<Delta>)>,
        edit: impl FnOnce(&Catalog) -> Result<Vec<CatalogChange>> + Send + 'static,
    ) -> Result<()> {
        let edit: CatalogEdit = Box::new(edit);
        self.decide(|reply| Request::Catalog { edit, rows, reply }).await.map(|_| ())
    }

    /// The relation of this name, if there is one.
    pub(super) fn existing(&self, name: &Name) -> Option<Arc<Relation>> {
        self.scope().find(name.schema.as_deref(), &name.name)
    }

    pub(super) fn relation(&self, name: &Name) -> Result<Arc<Relation>> {
        self.existing(name).ok_or_else(|| Error::undefined_relation(name))
    }

    /// The schema that a new relation goes to.
    fn schema_for(&self, name: &Name) -> Result<String> {
        let catalog = self.core.catalog();
        let exists = |s: &str| s == "public" || catalog.schemas.contains_key(s);
        match &name.schema {
            Some(schema) if matches!(schema.as_str(), "pg_catalog" | "information_schema") => {
                Err(Error::new("42501", format!("permission denied for schema {schema}")))
            }
            Some(schema) if exists(schema) => Ok(schema.clone()),
            Some(schema) => Err(Error::new("3F000", format!("schema \"{schema}\" does not exist"))),
            None => self
                .search_path()
                .into_iter()
                .find(|s| exists(s))
                .ok_or_else(|| Error::new("3F000", "no schema has been selected to create in")),
        }
    }

    /// A relation of this session's making, to be filled in; its id is given last.
    pub(super) fn new_relation(&self, name: &Name, text: &str) -> Result<Relation> {
        Ok(Relation {
            id: 0,
            schema_name: self.schema_for(name)?,
            name: name.name.clone(),
            kind: RelationKind::Table,
            columns: vec![],
            primary_key: vec![],
            primary_key_name: None,
            indexes: vec![],
            checks: vec![],
            foreign_keys: vec![],
            sql: text.to_string(),
            query: None,
            options: Options::new(),
            watermark: None,
            depends_on: vec![],
            arrangements: vec![],
            time_zone: self.settings.zone(),
            search_path: self.search_path(),
            starts: Default::default(),
            bounds: Vec::new(),
            dealt_by: Vec::new(),
            owner: self.user.clone(),
            comment: None,
            column_comments: Default::default(),
            schema: Default::default(),
        })
    }

    /// Puts a new relation into the catalog. Returns it, or nothing when it was there already.
    pub(super) async fn create(
        &mut self,
        relation: Relation,
        if_not_exists: bool,
        or_replace: bool,
    ) -> Result<Option<Arc<Relation>>> {
        self.create_with(relation, Vec::new(), if_not_exists, or_replace).await
    }

    /// The same for a table that has rows from the start.
    pub(super) async fn create_with(
        &mut self,
        mut relation: Relation,
        rows: Vec<Delta>,
        if_not_exists: bool,
        or_replace: bool,
    ) -> Result<Option<Arc<Relation>>> {
        let catalog = self.core.catalog();
        let existing = catalog.find(&relation.schema_name, &relation.name).cloned();
        if let Some(existing) = &existing {
            if if_not_exists {
                self.notice("NOTICE", "42P07", format!("relation \"{}\" already exists, skipping", relation.name));
                return Ok(None);
            }
            if !or_replace {
                return Err(already_exists(&relation.name));
            }
            if existing.kind != relation.kind {
                return Err(Error::new("42809", format!("\"{}\" is not a {}", existing.name, relation.kind.word())));
            }
            // A view in use keeps its columns, as in Postgres.
            relation.id = existing.id;
            let kept = existing.columns.len() <= relation.columns.len()
                && existing
                    .columns
                    .iter()
                    .zip(&relation.columns)
                    .all(|(a, b)| a.name == b.name && a.sql_type == b.sql_type);
            if !kept {
                return Err(Error::new("42P16", format!("cannot change the columns of view \"{}\"", existing.name))
                    .hint("New columns can be added at the end; for others drop the view first."));
            }
            if let Some(dependant) = maintained_above(&catalog, existing.id) {
                return Err(Error::new(
                    "2BP01",
                    format!(
                        "cannot replace view \"{}\": {} \"{}\" depends on it",
                        existing.name,
                        dependant.kind.word(),
                        dependant.name
                    ),
                ));
            }
            if relation.depends_on.contains(&existing.id) {
                return Err(Error::new("42P17", format!("view \"{}\" cannot read itself", existing.name)));
            }
            self.check_views_over(&catalog, existing, &relation)?;
        } else {
            relation.id = self.core.store.next_id()?;
            // A sequence that is a relation of its own.
            let own = relation.columns.iter_mut().filter_map(|column| column.identity.as_mut()).find(|s| s.id == 0);
            own.into_iter().for_each(|sequence| sequence.id = relation.id);
            let own = relation.foreign_keys.iter_mut().filter(|key| key.references == 0);
            own.for_each(|key| key.references = relation.id);
        }
        let (made, known) = (Arc::new(relation.clone()), catalog.clone());
        let replaced = existing.map(|e| e.id);
        let rows = if rows.is_empty() { Vec::new() } else { vec![(made.id, rows)] };
        self.edit_with(rows, move |catalog| {
            if catalog.find(&relation.schema_name, &relation.name).is_some_and(|r| Some(r.id) != replaced) {
                return Err(already_exists(&relation.name));
            }
            let beside = relation.names_beside();
            let mut made = std::iter::once(&relation.name).chain(&beside);
            let taken = |name: &&String| replaced.is_none() && catalog.is_taken(&relation.schema_name, name);
            if let Some(name) = made.find(taken) {
                return Err(already_exists(name));
            }
            check_schema(catalog, &relation.schema_name)?;
            for id in &relation.depends_on {
                if catalog.get(*id).is_none() {
                    return Err(Error::undefined_relation(format!("#{id}")));
                }
            }
            super::alter_stream::check_columns(&known, catalog, &relation.depends_on)?;
            Ok(vec![CatalogChange::Put(Box::new(relation))])
        })
        .await?;
        Ok(Some(made))
    }

    pub(super) async fn create_base(&mut self, kind: RelationKind, d: &CreateRelation, text: &str) -> Result<()> {
        let placed = self.placed(&d.name, d.temporary).await?;
        let d = &self.with_types_found(CreateRelation { name: placed, ..d.clone() })?;
        let mut columns: Vec<Column> = d
            .columns
            .iter()
            .map(|c| Column {
                name: c.name.clone(),
                sql_type: c.sql_type.clone(),
                nullable: c.nullable && !d.primary_key.contains(&c.name),
                default: c.default.clone(),
                identity: None,
                generated: c.generated.clone(),
                absent: None,
            })
            .collect();
        crate::connectors::check_options(kind, &d.options)?;
        if columns.is_empty() {
            if let Some(defined) = crate::connectors::default_columns(&d.options)? {
                columns = defined;
            }
        }
        for (i, column) in columns.iter().enumerate() {
            if columns[..i].iter().any(|c| c.name == column.name) {
                return Err(Error::new("42701", format!("column \"{}\" specified more than once", column.name)));
            }
            crate::sql::types::field(&column.name, &column.sql_type, column.nullable)?;
            if let Some(default) = &column.default {
                super::defaults::check_default(self, column, default)?;
            }
        }
        for column in &mut columns {
            column.default = column.default.take().map(|default| self.with_sequences_found(&default)).transpose()?;
        }
        self.add_sequences(d, &mut columns)?;
        let index = |name: &String| {
            columns
                .iter()
                .position(|c| c.name == *name)
                .ok_or_else(|| Error::new("42703", format!("column \"{name}\" named in key does not exist")))
        };
        let primary_key = d.primary_key.iter().map(index).collect::<Result<Vec<_>>>()?;
        if kind == RelationKind::Stream && !primary_key.is_empty() {
            return Err(
                Error::unsupported("PRIMARY KEY on a stream").hint("A stream only grows; CREATE TABLE has keys.")
            );
        }
        let versions = match kind {
            RelationKind::Stream => VersionColumns::of(&columns, &d.options)?,
            _ => None,
        };
        if kind == RelationKind::Stream
            && crate::compaction::key_columns(&columns, &d.options)?.is_some()
            && versions.is_some()
        {
            return Err(Error::unsupported("compaction of a stream with versions")
                .hint("The versions of a key are its history."));
        }
        if versions.is_some() && d.watermark.is_some() {
            return Err(Error::unsupported("versions on a stream with a watermark").hint(
                "A late row would be a version that is missing. Views over the stream can have windows without it.",
            ));
        }
        let watermark = match &d.watermark {
            None => None,
            Some(w) => {
                let column = index(&w.column)?;
                if !columns[column].sql_type.starts_with("timestamp") {
                    return Err(Error::new("42804", format!("watermark column \"{}\" is not a timestamp", w.column)));
                }
                let max_future_us = max_future(&d.options)?;
                let late = match &w.late {
                    LateRowsDefinition::Keep => LateRows::Keep(self.core.store.next_id()?),
                    LateRowsDefinition::Drop => LateRows::Drop,
                    LateRowsDefinition::Update => LateRows::Update,
                    LateRowsDefinition::Into(name) => LateRows::Into(self.late_target(name, &columns)?),
                };
                Some(Watermark { column, delay_us: w.delay_us, idle_us: w.idle_us, max_future_us, late })
            }
        };
        let depends_on = match &watermark {
            Some(Watermark { late: LateRows::Into(target), .. }) => vec![*target],
            _ => vec![],
        };
        if let Some(versions) = versions {
            versions.set_not_null(&mut columns);
        }
        let mut relation = Relation {
            kind,
            columns,
            primary_key,
            primary_key_name: d.primary_key_name.clone(),
            options: d.options.clone(),
            watermark,
            depends_on,
            ..self.new_relation(&d.name, text)?
        };
        if kind == RelationKind::Stream && !d.constraints.is_empty() {
            return Err(
                Error::unsupported("UNIQUE, CHECK or a foreign key on a stream").hint("CREATE TABLE has constraints.")
            );
        }
        if self.core.catalog().find(&relation.schema_name, &relation.name).is_none() {
            self.add_constraints(&mut relation, &d.constraints)?;
            self.check_generated_columns(&relation)?;
        }
        if kind == RelationKind::Table {
            crate::ttl::Ttl::of(&relation.columns, &relation.options)?;
        }
        if kind == RelationKind::Stream {
            crate::compaction::check(&relation)?;
        }
        if kind == RelationKind::Stream && relation.options.contains_key("connector") {
            // Opened once, so that what is wrong is said before anything is made.
            crate::connectors::open_source(&relation, None, self.core.clock_us())?;
        }
        if let Some(made) = self.create(relation, d.if_not_exists, false).await? {
            self.engine.sources().start(&made, None)?;
        }
        Ok(())
    }

    fn add_sequences(&self, d: &CreateRelation, columns: &mut [Column]) -> Result<()> {
        let schema = self.schema_for(&d.name)?;
        let mut names = Vec::new();
        // Of a table that is there already none is made.
        if self.core.catalog().find(&schema, &d.name.name).is_some() {
            return Ok(());
        }
        for definition in &d.columns {
            let Some(identity) = &definition.identity else { continue };
            if d.options.contains_key("connector") {
                return Err(Error::unsupported("a column of a connector's stream that counts its rows")
                    .hint("LOG(stream) has a column _offset."));
            }
            let column = columns.iter_mut().find(|c| c.name == definition.name).expect("made of these definitions");
            let (table, name) = (&d.name.name, &column.name);
            let sequence = self.new_sequence(identity, &column.sql_type, &schema, table, name, &names)?;
            names.push(sequence.name.clone());
            column.identity = Some(sequence);
        }
        Ok(())
    }

    /// The relation that takes a stream's late rows: it must be able to take any of them.
    fn late_target(&self, name: &Name, columns: &[Column]) -> Result<RelationId> {
        let target = self.relation(name)?;
        super::temporary::refuse_temporary(&target)?;
        let refuse = |why: &str| Err(Error::new("42809", format!("\"{}\" cannot take late rows: {why}", target.name)));
        match target.kind {
            RelationKind::Stream if target.watermark.is_some() => return refuse("it has a watermark of its own"),
            RelationKind::Stream if target.options.contains_key("connector") => return refuse("it has a connector"),
            RelationKind::Stream if VersionColumns::of(&target.columns, &target.options)?.is_some() => {
                return refuse("its rows have versions");
            }
            RelationKind::Table if !target.primary_key.is_empty() => return refuse("it has a primary key"),
            RelationKind::Table if !target.foreign_keys.is_empty() => return refuse("it has a foreign key"),
            _ if target.columns.iter().any(|c| c.generated.is_some()) => return refuse("it has generated columns"),
            RelationKind::Stream | RelationKind::Table => {}
            other => return refuse(&format!("it is a {}", other.word())),
        }
        let same = |a: &Column, b: &Column| a.sql_type == b.sql_type && (a.nullable || !b.nullable);
        let fits = target.columns.len() == columns.len()
            && target.columns.iter().zip(columns).all(|(theirs, ours)| same(theirs, ours));
        match fits {
            true => Ok(target.id),
            false => Err(Error::new("42804", format!("\"{}\" has other columns than the stream", target.name))
                .hint("LATE ROWS INTO needs the same types in the same order.")),
        }
    }

    pub(super) async fn create_view(
        &mut self,
        name: &Name,
        columns: &[String],
        query: &ast::Query,
        check: Option<&str>,
        text: &str,
        or_replace: bool,
        if_not_exists: bool,
    ) -> Result<()> {
        let scope = self.scope();
        let state = session_state(&self.bind_settings(), scope.system.as_ref())?;
        let (query, bound) = bind_view(&state, &scope, query)?;
        let names = column_names(&bound.names, columns)?;
        let mut relation = Relation {
            kind: RelationKind::View,
            columns: columns_of(&bound.plan, &names)?,
            query: Some(stored_text(&scope, &query)?),
            depends_on: dependencies(&scope, &query)?,
            options: check.map(|check| (CHECK_OPTION.to_string(), check.to_string())).into_iter().collect(),
            ..self.new_relation(name, text)?
        };
        if matches!(query, Cow::Owned(_)) {
            let end = check.map_or(String::new(), |check| format!(" WITH {} CHECK OPTION", check.to_uppercase()));
            relation.sql = view_definition(&relation, columns, &Options::new(), &end);
        }
        if check.is_some() {
            self.check_updatable(&relation)?;
        }
        self.create(relation, if_not_exists, or_replace).await.map(|_| ())
    }

    pub(super) async fn create_sink(
        &mut self,
        name: &Name,
        input: &SinkInput,
        options: &Options,
        text: &str,
        if_not_exists: bool,
    ) -> Result<()> {
        let SinkInput::From(from) = input else {
            return Err(
                Error::unsupported("CREATE SINK … AS SELECT").hint("Make a materialized view and a sink FROM it.")
            );
        };
        let input = self.relation(from)?;
        super::temporary::refuse_temporary(&input)?;
        if matches!(input.kind, RelationKind::View | RelationKind::Sink | RelationKind::Sequence | RelationKind::Type) {
            return Err(Error::new(
                "42809",
                format!(
                    "\"{}\" is a {}: a sink reads a stream, table or materialized view",
                    input.name,
                    input.kind.word()
                ),
            ));
        }
        crate::connectors::check_options(RelationKind::Sink, options)?;
        let relation = Relation {
            kind: RelationKind::Sink,
            // It makes no rows: what their columns count by is not its own.
            columns: input
                .columns
                .iter()
                .map(|c| Column { identity: None, default: None, generated: None, absent: None, ..c.clone() })
                .collect(),
            options: options.clone(),
            depends_on: vec![input.id],
            ..self.new_relation(name, text)?
        };
        crate::connectors::open_sink(&relation)?;
        if let Some(made) = self.create(relation, if_not_exists, false).await? {
            self.engine.sources().start(&made, None)?;
        }
        Ok(())
    }

    pub(super) async fn rename(
        &mut self,
        kind: RelationKind,
        name: &Name,
        new_name: &str,
        if_exists: bool,
    ) -> Result<()> {
        let Some(found) = self.existing(name) else {
            if kind == RelationKind::Table && self.rename_index(name, new_name).await? {
                return Ok(());
            }
            if if_exists {
                self.notice("NOTICE", "00000", format!("relation \"{name}\" does not exist, skipping"));
                return Ok(());
            }
            return Err(Error::undefined_relation(name));
        };
        // As in Postgres, ALTER TABLE renames any relation.
        if found.kind != kind && kind != RelationKind::Table {
            return Err(Error::new("42809", format!("\"{}\" is not a {}", found.name, kind.word())));
        }
        let (id, new_name) = (found.id, new_name.to_string());
        self.edit(move |catalog| {
            let found = catalog.get(id).ok_or_else(|| Error::undefined_relation(&new_name))?;
            if catalog.is_taken(&found.schema_name, &new_name) {
                return Err(already_exists(&new_name));
            }
            // Stored queries name what they read: they follow.
            let mut changes = Vec::new();
            for dependant in catalog.dependants(id).filter(|d| d.query.is_some()) {
                let mut changed = (**dependant).clone();
                let text = changed.query.as_deref().expect("just looked");
                changed.query = Some(with_new_name(text, found, &new_name)?);
                changes.push(CatalogChange::Put(Box::new(changed)));
            }
            super::types::check_renamed(catalog, found)?;
            let mut renamed = (**found).clone();
            if found.kind == RelationKind::Sequence {
                let others = super::sequence::with_sequence_renamed(catalog, found, &new_name)?;
                changes.extend(others.into_iter().map(|other| CatalogChange::Put(Box::new(other))));
                let sequences = renamed.columns.iter_mut().filter_map(|column| column.identity.as_mut());
                sequences.for_each(|sequence| sequence.name = new_name.clone());
            }
            renamed.name = new_name;
            changes.push(CatalogChange::Put(Box::new(renamed)));
            Ok(changes)
        })
        .await
    }

    pub(super) async fn comment(&mut self, name: &Name, column: Option<&str>, text: Option<&str>) -> Result<()> {
        let found = self.relation(name)?;
        let at = column.map(|column| {
            found.columns.iter().position(|c| c.name == column).ok_or_else(|| {
                Error::new("42703", format!("column \"{column}\" of relation \"{}\" does not exist", found.name))
            })
        });
        let (at, text) = (at.transpose()?, text.map(str::to_string));
        self.edit(move |catalog| {
            let mut changed = (**catalog.get(found.id).ok_or_else(|| Error::undefined_relation(&found.name))?).clone();
            match (at, text) {
                (None, text) => changed.comment = text,
                (Some(at), Some(text)) => _ = changed.column_comments.insert(at, text),
                (Some(at), None) => _ = changed.column_comments.remove(&at),
            }
            Ok(vec![CatalogChange::Put(Box::new(changed))])
        })
        .await
    }

    pub(super) async fn create_schema(&mut self, name: &str, if_not_exists: bool) -> Result<()> {
        let exists = matches!(name, "public" | "pg_catalog" | "information_schema")
            || self.core.catalog().schemas.contains_key(name);
        if exists {
            if if_not_exists {
                self.notice("NOTICE", "42P06", format!("schema \"{name}\" already exists, skipping"));
                return Ok(());
            }
            return Err(Error::new("42P06", format!("schema \"{name}\" already exists")));
        }
        // Temporary tables and shared arrangements are in such, and are dropped in other ways.
        if name.starts_with("pg_") {
            return Err(Error::new("42939", format!("unacceptable schema name \"{name}\""))
                .detail("The prefix \"pg_\" is reserved for system schemas."));
        }
        let id = self.core.store.next_id()?;
        let name = name.to_string();
        self.edit(move |catalog| match catalog.schemas.contains_key(&name) {
            true => Err(Error::new("42P06", format!("schema \"{name}\" already exists"))),
            false => Ok(vec![CatalogChange::PutSchema { name, id }]),
        })
        .await
    }
}
