//! CREATE INDEX and DROP INDEX: which columns look-ups go by (`serve/lookup.rs`), and joins of views that are made later
//! (`arrangements.rs`). Segments index themselves when they are read, so an index costs nothing until it is used. A UNIQUE one is also kept where commits are checked
//! (`state/table.rs`).
//!
//! An index on expressions or with a condition finds rows by the columns that its expressions are of, of all rows:
//!
//! ```text
//!   CREATE INDEX ON t (a, lower(s)) WHERE b > 0   ──►   CREATE INDEX ON t (a, s)
//! ```

use std::sync::Arc;

use sqlparser::ast;

use super::Session;
use super::constraints::changes;
use super::ddl::already_exists;
use crate::catalog::{Index, Relation, RelationId, RelationKind};
use crate::error::{Error, Result};
use crate::sql::conditions::columns_named;
use crate::sql::statement::Name;
use crate::state::store::CatalogChange;

/// What an index is by, as it was written.
pub(super) struct By<'a> {
    pub(super) columns: &'a [String],
    pub(super) included: &'a [String],
    pub(super) computed: &'a [ast::Expr],
    pub(super) condition: Option<&'a ast::Expr>,
}

impl Session {
    pub(super) async fn create_index(
        &mut self,
        unique: bool,
        name: Option<&str>,
        on: &Name,
        by: By<'_>,
        if_not_exists: bool,
    ) -> Result<()> {
        let relation = self.relation(on)?;
        match relation.kind {
            RelationKind::Table | RelationKind::MaterializedView => {}
            RelationKind::Stream => {
                return Err(Error::unsupported("an index on a stream")
                    .hint("A stream is read from its log; a materialized view of it can have an index."));
            }
            RelationKind::View
            | RelationKind::Sink
            | RelationKind::Sequence
            | RelationKind::Type
            | RelationKind::Arrangement => {
                let message = format!("cannot create index on relation \"{}\"", relation.name);
                return Err(Error::new("42809", message)
                    .detail(format!("This operation is not supported for {}s.", relation.kind.word())));
            }
        }
        let at = |name: &String| {
            let found = relation.columns.iter().position(|column| column.name == *name);
            found.ok_or_else(|| Error::new("42703", format!("column \"{name}\" does not exist")))
        };
        by.included.iter().try_for_each(|name| at(name).map(|_| ()))?;
        let mut columns: Vec<usize> = by.columns.iter().map(at).collect::<Result<_>>()?;
        for column in self.columns_of_expressions(&relation, &by)? {
            if !columns.contains(&column) {
                columns.push(column);
            }
        }
        let catalog = self.core.catalog();
        if unique && relation.kind != RelationKind::Table {
            return Err(Error::unsupported(format!("a unique index on a {}", relation.kind.word()))
                .hint("GROUP BY keeps the rows of a view apart."));
        }
        if let Some(name) = name.filter(|name| if_not_exists && catalog.is_taken(&relation.schema_name, name)) {
            self.notice("NOTICE", "42P07", format!("relation \"{name}\" already exists, skipping"));
            return Ok(());
        }
        let name = self.index_name(&catalog, &relation, name, &columns, "idx")?;
        if !by.computed.is_empty() || by.condition.is_some() {
            let what = if by.computed.is_empty() { "a condition" } else { "expressions" };
            let message = format!("index \"{name}\" with {what} finds rows by its columns alone");
            self.notice("NOTICE", "00000", message);
        }
        let index = Index { id: self.core.store.next_id()?, name, columns, unique, constraint: false };
        self.edit(move |catalog| {
            let Some(found) = catalog.get(relation.id) else { return Err(Error::undefined_relation(&relation.name)) };
            if catalog.is_taken(&found.schema_name, &index.name) {
                return Err(already_exists(&index.name));
            }
            let mut changed = (**found).clone();
            changed.indexes.push(index);
            Ok(vec![CatalogChange::Put(Box::new(changed))])
        })
        .await
    }

    /// Those that the expressions of an index are of. Errors: 42703, 42P17 and others of expressions that it cannot have.
    fn columns_of_expressions(&self, relation: &Relation, by: &By<'_>) -> Result<Vec<usize>> {
        let check = |expr: &ast::Expr, what: &str| {
            let text = expr.to_string();
            let (_, bound) = self.bound_on_row(relation, &text)?;
            match changes(&bound, relation)? {
                true => Err(Error::new("42P17", format!("functions in index {what} must be marked IMMUTABLE"))),
                false => Ok(columns_named(relation, &text)),
            }
        };
        if let Some(condition) = by.condition {
            check(condition, "predicate")?;
        }
        let mut columns = Vec::new();
        for expr in by.computed {
            columns.extend(check(expr, "expression")?);
        }
        if by.columns.is_empty() && columns.is_empty() {
            return Err(Error::unsupported("an index on no column"));
        }
        Ok(columns)
    }

    /// The index of this name, as a schema, the table and its id there; a name without a schema is looked for in the path.
    fn index_named(&self, name: &Name) -> Option<(Arc<Relation>, Index)> {
        let schemas = name.schema.clone().map_or_else(|| self.search_path(), |schema| vec![schema]);
        let catalog = self.core.catalog();
        let schemas = if schemas.is_empty() { vec!["public".to_string()] } else { schemas };
        schemas.iter().find_map(|schema| {
            let inside = catalog.relations.values().filter(|r| r.schema_name == *schema);
            let mut indexes = inside.flat_map(|r| r.indexes.iter().map(move |index| (r, index)));
            let (relation, index) = indexes.find(|(_, index)| index.name == name.name)?;
            Some((relation.clone(), index.clone()))
        })
    }

    /// Gives an index another name, and the constraint that it is of; returns whether there is one.
    pub(super) async fn rename_index(&mut self, name: &Name, new_name: &str) -> Result<bool> {
        let Some((relation, index)) = self.index_named(name) else { return Ok(false) };
        let new_name = new_name.to_string();
        self.edit(move |catalog| {
            let Some(found) = catalog.get(relation.id) else { return Err(Error::undefined_relation(&relation.name)) };
            if catalog.is_taken(&found.schema_name, &new_name) {
                return Err(already_exists(&new_name));
            }
            let mut changed = (**found).clone();
            changed.indexes.iter_mut().filter(|i| i.id == index.id).for_each(|i| i.name = new_name.clone());
            Ok(vec![CatalogChange::Put(Box::new(changed))])
        })
        .await?;
        Ok(true)
    }

    pub(super) async fn drop_indexes(&mut self, names: &[Name], if_exists: bool) -> Result<()> {
        let mut gone: Vec<RelationId> = Vec::new();
        for name in names {
            let found = self.index_named(name);
            let found = found.map(|(r, index)| (index.id, index.constraint.then(|| r.name.clone())));
            match found {
                Some((_, Some(table))) => {
                    let name = &name.name;
                    let needs = format!("constraint {name} on table {table} requires it");
                    return Err(Error::new("2BP01", format!("cannot drop index {name} because {needs}"))
                        .hint(format!("You can drop constraint {name} on table {table} instead.")));
                }
                Some((id, None)) => gone.push(id),
                None if if_exists => {
                    self.notice("NOTICE", "00000", format!("index \"{name}\" does not exist, skipping"));
                }
                None => return Err(Error::new("42704", format!("index \"{name}\" does not exist"))),
            }
        }
        self.edit(move |catalog| {
            let with = catalog.relations.values().filter(|r| r.indexes.iter().any(|index| gone.contains(&index.id)));
            let without = with.map(|r| {
                let mut changed = (**r).clone();
                changed.indexes.retain(|index| !gone.contains(&index.id));
                CatalogChange::Put(Box::new(changed))
            });
            Ok(without.collect())
        })
        .await
    }
}
