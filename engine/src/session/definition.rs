//! A table as the statement that makes it: what SHOW CREATE gives once it has been altered.

use super::dml::quoted;
use super::references::spelled;
use crate::catalog::{Catalog, IdentityKind, Relation};

/// The statement that makes a table as it is.
pub(super) fn definition(relation: &Relation, catalog: &Catalog) -> String {
    let list = |columns: &[usize]| {
        let names = columns.iter().map(|&column| shown(&relation.columns[column].name));
        names.collect::<Vec<_>>().join(", ")
    };
    let mut parts: Vec<String> = Vec::new();
    for column in &relation.columns {
        let name = shown(&column.name);
        let serial = matches!(&column.identity, Some(sequence) if sequence.kind == IdentityKind::Serial);
        let mut part = match (serial, column.sql_type.as_str()) {
            (true, "bigint") => format!("{name} bigserial"),
            (true, "smallint") => format!("{name} smallserial"),
            (true, _) => format!("{name} serial"),
            (false, sql_type) => format!("{name} {}", crate::sql::enums::shown(sql_type)),
        };
        if !column.nullable && !serial {
            part.push_str(" NOT NULL");
        }
        if let Some(default) = &column.default {
            part.push_str(&format!(" DEFAULT {default}"));
        }
        if let Some(generated) = &column.generated {
            part.push_str(&format!(" GENERATED ALWAYS AS ({generated}) STORED"));
        }
        if let Some(s) = column.identity.as_ref().filter(|_| !serial) {
            let word = if s.kind == IdentityKind::Always { "ALWAYS" } else { "BY DEFAULT" };
            let (start, step, min, max) = (s.start, s.increment, s.min, s.max);
            let cycle = if s.cycle { " CYCLE" } else { "" };
            part.push_str(&format!(
                " GENERATED {word} AS IDENTITY (START {start} INCREMENT {step} MINVALUE {min} MAXVALUE {max}{cycle})"
            ));
        }
        parts.push(part);
    }
    if !relation.primary_key.is_empty() {
        let name = shown(&relation.primary_key_name());
        parts.push(format!("CONSTRAINT {name} PRIMARY KEY ({})", list(&relation.primary_key)));
    }
    for index in relation.indexes.iter().filter(|index| index.constraint) {
        parts.push(format!("CONSTRAINT {} UNIQUE ({})", shown(&index.name), list(&index.columns)));
    }
    for check in &relation.checks {
        parts.push(format!("CONSTRAINT {} CHECK ({})", shown(&check.name), check.expression));
    }
    for key in &relation.foreign_keys {
        parts.extend(spelled(relation, key, catalog));
    }
    let schema =
        if relation.schema_name == "public" { String::new() } else { format!("{}.", shown(&relation.schema_name)) };
    let mut text = format!("CREATE TABLE {schema}{} ({})", shown(&relation.name), parts.join(", "));
    if !relation.options.is_empty() {
        let option = |(key, value): (&String, &String)| format!("{} = '{}'", quoted(key), value.replace('\'', "''"));
        let options: Vec<String> = relation.options.iter().map(option).collect();
        text.push_str(&format!(" WITH ({})", options.join(", ")));
    }
    text
}

/// A name as it needs to be written.
pub(super) fn shown(name: &str) -> String {
    let plain = name.chars().all(|c| c.is_ascii_lowercase() || c == '_' || c.is_ascii_digit())
        && name.chars().next().is_some_and(|c| !c.is_ascii_digit())
        && !crate::sql::parse::is_reserved_word(name);
    if plain { name.to_string() } else { quoted(name) }
}
