//! A table or stream as the statement that makes it: what SHOW CREATE gives once it has been altered.

use std::borrow::Cow;

use super::Session;
use super::dml::quoted;
use super::references::spelled;
use crate::catalog::{Catalog, IdentityKind, LateRows, Relation, RelationKind, Watermark};
use crate::sql::parse::{cut, cut_names};
use crate::sql::statement::{Options, Statement};

/// The statement that makes a table or stream as it is.
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
    if let Some(watermark) = &relation.watermark {
        parts.push(spelled_watermark(relation, watermark, catalog));
    }
    let kind = if relation.kind == RelationKind::Stream { "STREAM" } else { "TABLE" };
    let (name, options) = (shown_in_schema(relation), spelled_options(&relation.options));
    format!("CREATE {kind} {name} ({}){options}", parts.join(", "))
}

fn spelled_watermark(stream: &Relation, watermark: &Watermark, catalog: &Catalog) -> String {
    let length = |us: i64| match us % 1_000_000 {
        0 => format!("INTERVAL '{} seconds'", us / 1_000_000),
        _ => format!("INTERVAL '{us} microseconds'"),
    };
    let column = shown(&stream.columns[watermark.column].name);
    let mut text = format!("WATERMARK FOR {column} AS {column}");
    if watermark.delay_us != 0 {
        text.push_str(&format!(" - {}", length(watermark.delay_us)));
    }
    if let Some(idle_us) = watermark.idle_us {
        text.push_str(&format!(" IDLE TIMEOUT {}", length(idle_us)));
    }
    match watermark.late {
        LateRows::Keep(_) => {}
        LateRows::Drop => text.push_str(" LATE ROWS DROP"),
        LateRows::Update => text.push_str(" LATE ROWS UPDATE"),
        LateRows::Into(id) => {
            if let Some(target) = catalog.get(id) {
                text.push_str(&format!(" LATE ROWS INTO {}", super::dml::full_name(target)));
            }
        }
    }
    text
}

/// A query as the statement that makes a view of it, with what stands before AS and after it.
pub(super) fn view_definition(view: &Relation, columns: &[String], options: &Options, end: &str) -> String {
    let mut text = format!("CREATE {} {}", view.kind.word().to_uppercase(), shown_in_schema(view));
    if !columns.is_empty() {
        let names: Vec<String> = columns.iter().map(|name| shown(name)).collect();
        text.push_str(&format!(" ({})", names.join(", ")));
    }
    text.push_str(&spelled_options(options));
    format!("{text} AS {}{end}", view.query.as_deref().unwrap_or_default())
}

fn spelled_options(options: &Options) -> String {
    if options.is_empty() {
        return String::new();
    }
    let option = |(key, value): (&String, &String)| format!("{} = '{}'", quoted(key), value.replace('\'', "''"));
    let options: Vec<String> = options.iter().map(option).collect();
    format!(" WITH ({})", options.join(", "))
}

fn shown_in_schema(relation: &Relation) -> String {
    match relation.schema_name.as_str() {
        "public" => shown(&relation.name),
        schema => format!("{}.{}", shown(schema), shown(&relation.name)),
    }
}

impl Session {
    /// Whether a statement may have to do with arrays of arrays.
    pub fn knows_nested_arrays(&self, statement: &Statement) -> bool {
        let nested = |text: &str| text.contains("[][]");
        let catalog = self.core.catalog();
        let mut columns = catalog.relations.values().flat_map(|relation| &relation.columns);
        nested(&statement.text) || columns.any(|column| nested(&column.sql_type))
    }

    /// A statement's text with its names cut to the length that there is, and a NOTICE of each.
    pub(super) fn with_names_cut<'a>(&mut self, text: &'a str) -> Cow<'a, str> {
        let catalog = self.core.catalog();
        let known = |name: &str| {
            let mut relations = catalog.relations.values();
            relations.any(|r| r.name == name || r.columns.iter().any(|column| column.name == name))
        };
        let Some((text, names)) = cut_names(text, known) else { return Cow::Borrowed(text) };
        for name in names {
            let message = format!("identifier \"{name}\" will be truncated to \"{}\"", cut(&name));
            self.notice("NOTICE", "42622", message);
        }
        Cow::Owned(text)
    }
}

/// A name as it needs to be written.
pub(super) fn shown(name: &str) -> String {
    if crate::sql::parse::is_plain_name(name) { name.to_string() } else { quoted(name) }
}
