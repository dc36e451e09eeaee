//! CREATE SEQUENCE, ALTER SEQUENCE, and the sequences that defaults of columns name. How numbers are given: see
//! [`crate::sequences`]. Which there are is in the catalog: each a relation of its own, or part of a column (`serial`).
//!
//! ```text
//!   CREATE SEQUENCE s;   CREATE TABLE t (id int DEFAULT nextval('s'))     the default is kept as nextval('public.s')
//! ```

use std::ops::ControlFlow;

use sqlparser::ast;

use super::Session;
use super::numbers::{next_after, sequence_of};
use crate::catalog::{Catalog, Column, Identity, IdentityKind, Relation, RelationId, RelationKind};
use crate::error::{Error, Result};
use crate::sequences::setting;
use crate::sql::statement::{IdentityDefinition, Name, SequenceOptions};
use crate::sql::visit;
use crate::state::store::CatalogChange;

/// What its column is called.
const COLUMN: &str = "last_value";

impl Session {
    pub(super) async fn create_sequence(
        &mut self,
        name: &Name,
        options: &SequenceOptions,
        if_not_exists: bool,
        text: &str,
    ) -> Result<()> {
        let sql_type = options.sql_type.clone().unwrap_or_else(|| "bigint".into());
        let definition = IdentityDefinition {
            start: options.start,
            increment: options.increment,
            min: options.min.flatten(),
            max: options.max.flatten(),
            cycle: options.cycle.unwrap_or(false),
            ..IdentityDefinition::of(IdentityKind::Serial)
        };
        let identity = Some(sequence_of(&definition, &sql_type, 0, name.name.clone()).map_err(for_sequence)?);
        let column = Column {
            name: COLUMN.into(),
            sql_type,
            nullable: false,
            default: None,
            identity,
            generated: None,
            absent: None,
        };
        let mut relation =
            Relation { kind: RelationKind::Sequence, columns: vec![column], ..self.new_relation(name, text)? };
        self.set_owner(&mut relation, options)?;
        self.create(relation, if_not_exists, false).await.map(|_| ())
    }

    fn set_owner(&self, sequence: &mut Relation, options: &SequenceOptions) -> Result<()> {
        let Some(owner) = &options.owned_by else { return Ok(()) };
        let Some((table, column)) = owner else {
            sequence.set_owned_by(None);
            return Ok(());
        };
        let table = self.relation(table)?;
        if !matches!(table.kind, RelationKind::Table | RelationKind::Stream) {
            let message = format!("sequence cannot be owned by relation \"{}\"", table.name);
            return Err(Error::new("42809", message).detail(format!("It is a {}.", table.kind.word())));
        }
        if table.schema_name != sequence.schema_name {
            return Err(Error::not_in_state("sequence must be in same schema as table it is linked to"));
        }
        if !table.columns.iter().any(|known| known.name == *column) {
            let message = format!("column \"{column}\" of relation \"{}\" does not exist", table.name);
            return Err(Error::new("42703", message));
        }
        sequence.set_owned_by(Some((table.id, column)));
        Ok(())
    }

    /// A sequence by its name: the relation that has it, and the column there.
    pub(super) fn sequence_found(&self, name: &Name) -> Result<(std::sync::Arc<Relation>, usize)> {
        let scope = self.scope();
        let schemas = match &name.schema {
            Some(schema) => vec![schema.clone()],
            None => scope.search_path.clone(),
        };
        if let Some((relation, at)) = schemas.iter().find_map(|schema| scope.catalog.sequence_named(schema, &name.name))
        {
            return Ok((relation.clone(), at));
        }
        match self.existing(name) {
            Some(other) => Err(Error::new("42809", format!("\"{}\" is not a sequence", other.name))),
            None => Err(Error::undefined_relation(name)),
        }
    }

    pub(super) async fn alter_sequence(
        &mut self,
        name: &Name,
        options: &SequenceOptions,
        if_exists: bool,
    ) -> Result<()> {
        let (found, at) = match self.sequence_found(name) {
            Err(error) if error.code == "42P01" && if_exists => {
                self.notice("NOTICE", "42P01", format!("{}, skipping", error.message));
                return Ok(());
            }
            other => other?,
        };
        let mut altered = (*found).clone();
        let own = found.kind == RelationKind::Sequence;
        if !own && (options.owned_by.is_some() || options.sql_type.is_some()) {
            return Err(Error::unsupported("changing the type or the owner of a column's sequence"));
        }
        let column = &mut altered.columns[at];
        let before = column.identity.clone().expect("it has been found by it");
        if let Some(sql_type) = &options.sql_type {
            column.sql_type = sql_type.clone();
        }
        let after = changed(&before, options, &found.columns[at].sql_type, &column.sql_type)?;
        column.identity = Some(after.clone());
        self.set_owner(&mut altered, options)?;
        let core = self.core.clone();
        let restart = options.restart;
        self.edit(move |catalog| {
            if catalog.get(found.id) != Some(&found) {
                return Err(Error::new("40001", format!("sequence \"{}\" changed meanwhile", before.name)));
            }
            // Runs that are reserved go: they may have another step, or lie beyond the bounds.
            let next = match (restart, core.sequences.last(&before)) {
                (Some(with), _) => next_after(&after, with.unwrap_or(after.start), false)?,
                (None, None) => i128::from(after.start),
                (None, Some(last)) => next_after(&after, last, true)?,
            };
            let mark = core.sequences.set(after.id, next);
            let mark = CatalogChange::Meta { key: setting(after.id), value: Some(mark) };
            Ok(vec![CatalogChange::Put(Box::new(altered)), mark])
        })
        .await
    }

    /// A default with the sequences that it names where they are now. 42P01 when there is none of that name.
    pub(super) fn with_sequences_found(&self, default: &str) -> Result<String> {
        if !default.to_ascii_lowercase().contains("nextval") {
            return Ok(default.to_string());
        }
        let mut missing = None;
        let text = with_sequences(default, &mut |name| match self.sequence_found(name) {
            Ok((relation, at)) => {
                let identity = relation.columns[at].identity.as_ref()?;
                Some(Name { schema: Some(relation.schema_name.clone()), name: identity.name.clone() })
            }
            Err(error) => {
                missing = Some(error);
                None
            }
        })?;
        match missing {
            Some(error) => Err(error),
            None => Ok(text),
        }
    }
}

/// The messages of columns' sequences, for one that stands alone.
fn for_sequence(error: Error) -> Error {
    let message = error.message.replace("identity column type", "sequence type");
    Error { message, ..error }
}

/// A sequence with what is said changed and all else as it was. Bounds of before that were the type's follow it.
fn changed(before: &Identity, options: &SequenceOptions, old_type: &str, new_type: &str) -> Result<Identity> {
    let increment = options.increment.unwrap_or(before.increment);
    let of_type = |sql_type: &str, increment: i64| {
        let definition = IdentityDefinition { increment: Some(increment), ..IdentityDefinition::of(before.kind) };
        sequence_of(&definition, sql_type, before.id, before.name.clone()).map_err(for_sequence)
    };
    let usual = of_type(old_type, before.increment)?;
    let kept = |bound: i64, usual: i64| (old_type == new_type || bound != usual).then_some(bound);
    let definition = IdentityDefinition {
        kind: before.kind,
        start: options.start.or(Some(before.start)),
        increment: Some(increment),
        min: options.min.unwrap_or(kept(before.min, usual.min)),
        max: options.max.unwrap_or(kept(before.max, usual.max)),
        cycle: options.cycle.unwrap_or(before.cycle),
        name: Some(before.name.clone()),
    };
    sequence_of(&definition, new_type, before.id, before.name.clone()).map_err(for_sequence)
}

/// A default in which `change` may put another name for each sequence that nextval() is given as a literal.
fn with_sequences(default: &str, change: &mut dyn FnMut(&Name) -> Option<Name>) -> Result<String> {
    let mut expression = crate::sql::parse::parse_expression(default)?;
    let _ = visit::visit_expressions_mut(&mut expression, |expression| {
        if let ast::Expr::Function(function) = expression
            && crate::sql::parse::name_of(&function.name).is_ok_and(|name| name.name == "nextval")
            && let ast::FunctionArguments::List(list) = &mut function.args
            && let [ast::FunctionArg::Unnamed(ast::FunctionArgExpr::Expr(argument))] = &mut list.args[..]
            && let Some(literal) = literal_of(argument)
            && let Ok(name) = crate::sql::parse::parse_name(literal)
            && let Some(new) = change(&name)
        {
            *literal = quoted(&new);
        }
        ControlFlow::<()>::Continue(())
    });
    Ok(expression.to_string())
}

/// The text of `'s'`, `'s'::regclass`, `CAST('s' AS regclass)`.
fn literal_of(expression: &mut ast::Expr) -> Option<&mut String> {
    match expression {
        ast::Expr::Value(ast::ValueWithSpan { value: ast::Value::SingleQuotedString(text), .. }) => Some(text),
        ast::Expr::Cast { expr, .. } | ast::Expr::Nested(expr) => literal_of(expr),
        _ => None,
    }
}

fn quoted(name: &Name) -> String {
    let quote = |part: &str| {
        let plain = part.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
            && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
        if plain { part.to_string() } else { format!("\"{}\"", part.replace('"', "\"\"")) }
    };
    let name_ = quote(&name.name);
    name.schema.as_deref().map_or(name_.clone(), |schema| format!("{}.{name_}", quote(schema)))
}

/// Whether the default of a column gives numbers of this sequence.
fn names_sequence(default: &str, schema: &str, name: &str) -> bool {
    let mut found = false;
    let _ = with_sequences(default, &mut |named| {
        found |= named.schema.as_deref() == Some(schema) && named.name == name;
        None
    });
    found
}

/// Relations besides those in `gone` with columns whose defaults give numbers of sequences in `gone`: as they are without
/// these defaults, each with such a column and its sequence.
pub(super) fn left_without(catalog: &Catalog, gone: &[RelationId]) -> Vec<(Relation, String, String)> {
    let going = gone.iter().filter_map(|id| catalog.get(*id));
    let sequences: Vec<(&str, &str)> =
        going.flat_map(|r| r.sequences().map(|s| (r.schema_name.as_str(), s.name.as_str()))).collect();
    let mut left = Vec::new();
    if sequences.is_empty() {
        return left;
    }
    for relation in catalog.relations.values().filter(|r| !gone.contains(&r.id)) {
        let mut without = None;
        for (at, column) in relation.columns.iter().enumerate() {
            let Some(default) = column.default.as_ref().filter(|d| d.contains("nextval")) else { continue };
            if let Some((_, name)) = sequences.iter().find(|(schema, name)| names_sequence(default, schema, name)) {
                let (changed, ..) =
                    without.get_or_insert_with(|| ((**relation).clone(), column.name.clone(), name.to_string()));
                changed.columns[at].default = None;
            }
        }
        left.extend(without);
    }
    left
}

/// Relations whose defaults name a sequence that is renamed, as they are afterwards.
pub(super) fn with_sequence_renamed(catalog: &Catalog, sequence: &Relation, new_name: &str) -> Result<Vec<Relation>> {
    let mut changed: Vec<Relation> = Vec::new();
    for relation in catalog.relations.values() {
        let mut new = (**relation).clone();
        for column in &mut new.columns {
            let Some(default) = column.default.as_ref().filter(|d| d.contains("nextval")) else { continue };
            column.default = Some(with_sequences(default, &mut |name| {
                let same = name.schema.as_ref() == Some(&sequence.schema_name) && name.name == sequence.name;
                same.then(|| Name { schema: name.schema.clone(), name: new_name.to_string() })
            })?);
        }
        if new.columns != relation.columns {
            changed.push(new);
        }
    }
    Ok(changed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_name_sequences() {
        let renamed = |default: &str| {
            let mut change =
                |name: &Name| (name.name == "s").then(|| Name { schema: Some("Odd".into()), name: "t".into() });
            with_sequences(default, &mut change).unwrap()
        };
        assert_eq!(renamed("nextval('s')"), "nextval('\"Odd\".t')");
        assert_eq!(renamed("'A' || nextval('public.s'::regclass)"), "'A' || nextval('\"Odd\".t'::REGCLASS)");
        assert_eq!(renamed("nextval('u') + length('s')"), "nextval('u') + length('s')");
        assert!(names_sequence("nextval('a.\"B c\"')", "a", "B c"));
        assert!(!names_sequence("nextval('a.b')", "b", "b"));
    }
}
