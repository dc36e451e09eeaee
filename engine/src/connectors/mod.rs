//! The edges: sources, from which a stream's rows come, and sinks, to which a relation's changes go.
//!
//! In: a [`Relation`] whose `WITH (connector = '…', …)` options say what to open. Out: Arrow batches
//! with the position after them (sources), or what became of an epoch's deltas (sinks). A connector knows
//! nothing of the log, of epochs being made or of dataflows; it reads no clock: time comes in.
//!
//! | connector   | is a   | gives                                                    |
//! | ----------- | ------ | -------------------------------------------------------- |
//! | `nexmark`   | source | persons, auctions and bids of the Nexmark benchmark      |
//! | `datagen`   | source | rows of any schema, random or in sequence                |
//! | `blackhole` | sink   | nothing: counts rows and drops them                      |
//!
//! Options are checked twice: their names when the statement is bound ([`check_options`]), and their
//! values against the columns when the connector is opened, before any row is taken.

mod blackhole;
pub mod copy;
mod datagen;
pub mod nexmark;
pub mod options;
mod pace;
mod random;

use std::collections::BTreeMap;
use std::time::Duration;

use arrow::array::RecordBatch;

use crate::catalog::{Column, Relation, RelationKind};
use crate::delta::Delta;
use crate::error::{Error, Result};
use crate::time::Epoch;

/// Where rows come from. Deterministic from its position, so that it goes on after a crash exactly where
/// the log ends.
pub trait Source: Send {
    /// Up to `rows_max` rows that are due at `now_us`; never blocks. A batch is never empty.
    fn poll(&mut self, now_us: i64, rows_max: usize) -> Result<Polled>;
    /// The position after the last row that `poll` returned: opaque bytes, logged with the rows.
    fn position(&self) -> Vec<u8>;
}

#[derive(Debug)]
pub enum Polled {
    Rows(RecordBatch),
    /// Nothing is due for this long.
    Wait(Duration),
    /// The source has ended: nothing will ever come again.
    End,
}

/// Where changes go: each epoch's, in order. After a crash the last epochs may come again; `epoch` tells.
pub trait Sink: Send {
    fn write(&mut self, epoch: Epoch, changes: &[Delta]) -> Result<()>;
    fn status(&self) -> SinkStatus;
}

/// What a sink has taken since it was opened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SinkStatus {
    /// The last epoch written; 0 before the first.
    pub epoch: Epoch,
    /// Rows with a positive weight, each counted as often as its weight says.
    pub inserted: u64,
    /// The same for negative weights.
    pub retracted: u64,
}

const SOURCES: &[&str] = &["datagen", "nexmark"];
const SINKS: &[&str] = &["blackhole"];
/// Options of a stream that is written to (`state/versions.rs`).
const VERSION_OPTIONS: &[&str] = &["version_key", "version_column"];
/// Options of a stream that are not its connector's.
const STREAM_OPTIONS: &[&str] = &["connector", "retention", "max_future", "compaction_key", "compaction_lag"];
/// Options of a sink that are not its connector's.
const SINK_OPTIONS: &[&str] = &["connector"];

/// Opens a source where it stood after `position`, or at its beginning. All options, columns and types
/// are checked before any data is taken.
pub fn open_source(relation: &Relation, position: Option<&[u8]>, now_us: i64) -> Result<Box<dyn Source>> {
    check_options(RelationKind::Stream, &relation.options)?;
    let schema = relation.arrow_schema();
    match connector(&relation.options)? {
        "nexmark" => Ok(Box::new(nexmark::Nexmark::open(schema, &relation.options, position, now_us)?)),
        "datagen" => Ok(Box::new(datagen::Datagen::open(schema, &relation.options, position, now_us)?)),
        other => Err(unknown_connector("source", other, SOURCES)),
    }
}

/// Opens a sink; `relation` is the sink itself, its columns those of its input.
pub fn open_sink(relation: &Relation) -> Result<Box<dyn Sink>> {
    check_options(RelationKind::Sink, &relation.options)?;
    match connector(&relation.options)? {
        "blackhole" => Ok(Box::new(blackhole::Blackhole::default())),
        other => Err(unknown_connector("sink", other, SINKS)),
    }
}

/// The columns that a connector defines when CREATE STREAM gives none; `None` when it defines none.
pub fn default_columns(options: &BTreeMap<String, String>) -> Result<Option<Vec<Column>>> {
    match options.get("connector").map(String::as_str) {
        Some("nexmark") => nexmark::default_columns(options).map(Some),
        _ => Ok(None),
    }
}

/// Are these the options of a stream or sink, by name? Without `connector` a stream is Millrace's own log.
pub fn check_options(kind: RelationKind, given: &BTreeMap<String, String>) -> Result<()> {
    if let Some(retention) = given.get("retention").filter(|_| kind == RelationKind::Stream) {
        options::Retention::parse(retention)?;
    }
    let connector = given.get("connector").map(String::as_str);
    match (kind, connector) {
        (RelationKind::Sink, Some("blackhole")) => options::check_names("sink", given, &[SINK_OPTIONS]),
        (RelationKind::Sink, Some(other)) => Err(unknown_connector("sink", other, SINKS)),
        (RelationKind::Sink, None) => Err(missing_connector(SINKS)),
        (RelationKind::Stream, None) => options::check_names("stream", given, &[STREAM_OPTIONS, VERSION_OPTIONS]),
        (RelationKind::Stream, Some("nexmark")) => nexmark::check_names(given, STREAM_OPTIONS),
        (RelationKind::Stream, Some("datagen")) => datagen::check_names(given, STREAM_OPTIONS),
        (RelationKind::Stream, Some(other)) => Err(unknown_connector("source", other, SOURCES)),
        (_, Some(_)) => Err(Error::unsupported(format!("a connector for a {}", kind.word()))),
        (RelationKind::Table, None) => {
            options::check_names("table", given, &[&["history", "ttl", "ttl_column"]])?;
            given.get("history").map_or(Ok(()), |text| options::duration_us("history", text).map(|_| ()))
        }
        (_, None) => Ok(()),
    }
}

fn connector(options: &BTreeMap<String, String>) -> Result<&str> {
    options.get("connector").map(String::as_str).ok_or_else(|| missing_connector(SOURCES))
}

fn missing_connector(known: &[&str]) -> Error {
    Error::invalid_value("option \"connector\" is missing").hint(format!("Connectors: {}.", known.join(", ")))
}

fn unknown_connector(what: &str, name: &str, known: &[&str]) -> Error {
    let hint = match options::nearest(name, known) {
        Some(near) => format!("Did you mean \"{near}\"?"),
        None => format!("Connectors: {}.", known.join(", ")),
    };
    Error::undefined_object(format!("{what} connector \"{name}\" does not exist")).hint(hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect()
    }

    #[test]
    fn unknown_names_are_refused_and_the_nearest_is_suggested() {
        let error = check_options(RelationKind::Stream, &options(&[("connector", "nexmak")])).unwrap_err();
        assert_eq!((error.code, error.hint.as_deref()), ("42704", Some("Did you mean \"nexmark\"?")));
        let error =
            check_options(RelationKind::Stream, &options(&[("connector", "nexmark"), ("table", "bid"), ("rat", "1")]));
        let error = error.unwrap_err();
        assert_eq!((error.code, error.hint.as_deref()), ("22023", Some("Did you mean \"rate\"?")));
        let error = check_options(RelationKind::Stream, &options(&[("retension", "1 day")])).unwrap_err();
        assert_eq!(error.hint.as_deref(), Some("Did you mean \"retention\"?"));
        let error =
            check_options(RelationKind::Sink, &options(&[("connector", "blackhole"), ("rate", "1")])).unwrap_err();
        assert_eq!(error.code, "22023");
        let error = check_options(RelationKind::Sink, &options(&[])).unwrap_err();
        assert_eq!(error.message, "option \"connector\" is missing");
    }

    #[test]
    fn known_names_pass() {
        check_options(RelationKind::Stream, &options(&[])).unwrap();
        check_options(RelationKind::Stream, &options(&[("connector", "datagen"), ("fields.id.kind", "sequence")]))
            .unwrap();
        check_options(RelationKind::Stream, &options(&[("connector", "nexmark"), ("nexmark.table.type", "Bid")]))
            .unwrap();
        check_options(RelationKind::Sink, &options(&[("connector", "blackhole")])).unwrap();
    }

    #[test]
    fn nexmark_brings_its_columns() {
        let columns = default_columns(&options(&[("connector", "nexmark"), ("table", "bid")])).unwrap().unwrap();
        let names: Vec<&str> = columns.iter().map(|c| c.name.as_str()).collect();
        assert_eq!(names, ["auction", "bidder", "price", "channel", "url", "date_time", "extra"]);
        assert_eq!(default_columns(&options(&[("connector", "datagen")])).unwrap(), None);
    }
}
