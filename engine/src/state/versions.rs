//! A stream's versions per key: an append says which version it makes, and fails when someone was faster.
//!
//! ```text
//!   CREATE STREAM events (account text, version bigint, …) WITH (version_key = 'account', version_column = 'version')
//!
//!   account | last version          append (a, 8), (a, 9), (b, 1)   ─► all follow: taken
//!   a       | 7                     append (a, 8) once more         ─► 40001
//! ```
//!
//! So a stream can be what an aggregate's history is kept in: who decides on what it was at version 7 appends version
//! 8, or learns that it has changed meanwhile. The first version of a key is 1, and none is left out. What is
//! remembered is the last version of each key, whatever becomes of the rows; it is part of checkpoints.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, RecordBatch};
use arrow::compute::{cast, concat_batches};
use arrow::datatypes::{DataType, Int64Type};

use crate::catalog::{Column, Relation};
use crate::delta::Delta;
use crate::error::{Error, Result};
use crate::state::arrangement::take;
use crate::state::durable::Saved;
use crate::state::key_index::NONE;
use crate::state::key_table::KeyTable;
use crate::state::table::{Checked, Table};
use crate::time::Epoch;

const KEY: &str = "version_key";
const COLUMN: &str = "version_column";

/// Columns by number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VersionColumns {
    pub key: Vec<usize>,
    pub version: usize,
}

impl VersionColumns {
    /// The options that name them.
    pub const OPTIONS: [&str; 2] = [KEY, COLUMN];

    /// What a stream's options say; `None`: it has no versions. Errors: 22023, 42703, 42804.
    pub fn of(columns: &[Column], options: &BTreeMap<String, String>) -> Result<Option<VersionColumns>> {
        let (key, version) = match (options.get(KEY), options.get(COLUMN)) {
            (None, None) => return Ok(None),
            (Some(key), Some(version)) => (key, version),
            (None, _) => return Err(missing(KEY)),
            (_, None) => return Err(missing(COLUMN)),
        };
        let number = |name: &str| {
            let found = columns.iter().position(|column| column.name == name.trim());
            found.ok_or_else(|| Error::new("42703", format!("column \"{}\" does not exist", name.trim())))
        };
        let version = number(version)?;
        if !matches!(&columns[version].sql_type[..], "bigint" | "integer" | "smallint") {
            return Err(Error::new("42804", format!("version column \"{}\" is no integer", columns[version].name)));
        }
        let key = key.split(',').map(number).collect::<Result<Vec<_>>>()?;
        if key.contains(&version) || (1..key.len()).any(|i| key[..i].contains(&key[i])) {
            return Err(Error::invalid_value("each column of version_key and version_column stands there once"));
        }
        Ok(Some(VersionColumns { key, version }))
    }

    fn all(&self) -> impl Iterator<Item = usize> {
        self.key.iter().copied().chain([self.version])
    }

    /// Neither key nor version is ever NULL.
    pub fn set_not_null(&self, columns: &mut [Column]) {
        self.all().for_each(|column| columns[column].nullable = false);
    }
}

fn missing(name: &str) -> Error {
    Error::invalid_value(format!("option \"{name}\" is missing"))
        .hint("version_key names the columns of the key, version_column the one that counts its versions.")
}

pub struct Versions {
    columns: VersionColumns,
    stream: Arc<Relation>,
    /// A row per key, with its last version.
    last: Table,
}

impl Versions {
    /// `None`: the stream has none.
    pub fn new(stream: &Arc<Relation>) -> Result<Option<Versions>> {
        let Some(columns) = VersionColumns::of(&stream.columns, &stream.options)? else { return Ok(None) };
        let kept = Relation {
            columns: columns.all().map(|column| stream.columns[column].clone()).collect(),
            primary_key: (0..columns.key.len()).collect(),
            options: BTreeMap::new(),
            watermark: None,
            schema: Default::default(),
            ..(**stream).clone()
        };
        Ok(Some(Versions { columns, stream: stream.clone(), last: Table::new(Arc::new(kept))? }))
    }

    /// Whether rows can be appended as things stand; changes nothing. Error: 40001 when a version does not follow.
    pub fn check(&mut self, change: &[Delta]) -> Result<Checked> {
        let columns: Vec<usize> = self.columns.all().collect();
        let schema = self.last.schema().clone();
        let parts = change.iter().map(|delta| {
            let rows = columns.iter().map(|&column| delta.rows.column(column).clone()).collect();
            RecordBatch::try_new(schema.clone(), rows).map_err(|error| Error::new("23502", error.to_string()))
        });
        let rows = concat_batches(&schema, &parts.collect::<Result<Vec<_>>>()?).map_err(Error::internal)?;
        let version_column = self.columns.key.len();
        let versions = numbers(rows.column(version_column));
        let versions = versions.as_primitive::<Int64Type>();
        let (positions, keys) = self.last.positions(&rows);
        let types: Vec<DataType> = (0..version_column).map(|column| rows.column(column).data_type().clone()).collect();
        let mut table = KeyTable::new(&types)?;
        let mut ids = Vec::new();
        table.intern(&keys, &mut ids);
        // By key of this change: its last version before, then the newest one with its row.
        let keys = table.bound() as usize;
        let mut replaced = vec![NONE; keys];
        ids.iter().zip(&positions).for_each(|(&id, &position)| replaced[id as usize] = position);
        let known: Vec<u32> = replaced.iter().copied().filter(|&position| position != NONE).collect();
        let old = self.last.rows_at(&known);
        let old_versions = numbers(old.column(version_column));
        let mut old_versions = old_versions.as_primitive::<Int64Type>().values().iter().copied();
        let mut newest: Vec<(i64, u32)> = replaced
            .iter()
            .map(|&position| match position {
                NONE => (0, NONE),
                _ => (old_versions.next().expect("one for each that is known"), NONE),
            })
            .collect();
        for (row, &id) in ids.iter().enumerate() {
            let (newest, version) = (&mut newest[id as usize], versions.value(row));
            if newest.0.checked_add(1) != Some(version) {
                return Err(self.conflict(&rows, row, newest.0));
            }
            *newest = (version, row as u32);
        }
        let kept: Vec<u32> = newest.into_iter().map(|(_, row)| row).collect();
        Ok(Checked::new(take(&rows, &kept), old))
    }

    fn conflict(&self, rows: &RecordBatch, row: usize, last: i64) -> Error {
        let text =
            |column: usize| arrow::util::display::array_value_to_string(rows.column(column), row).unwrap_or_default();
        let names: Vec<&str> = self.columns.key.iter().map(|&k| self.stream.columns[k].name.as_str()).collect();
        let values: Vec<String> = (0..names.len()).map(text).collect();
        let message = format!(
            "version {} of ({})=({}) in stream \"{}\" does not follow its last one, {last}",
            text(names.len()),
            names.join(", "),
            values.join(", "),
            self.stream.name
        );
        Error::new("40001", message)
            .hint(format!("Read what has been appended since, and append version {}.", last + 1))
    }

    /// Makes a change that was just checked.
    pub fn change(&mut self, checked: Checked, epoch: Epoch) {
        self.last.change(checked, epoch);
        self.last.publish(epoch);
    }

    /// Applies what was logged before.
    pub fn replay(&mut self, change: &[Delta], epoch: Epoch) -> Result<()> {
        let checked = self.check(change).map_err(|error| Error::corrupt(error.message))?;
        self.change(checked, epoch);
        Ok(())
    }

    pub fn save(&mut self) -> Saved {
        self.last.save()
    }

    pub fn restore(&mut self, blocks: Vec<RecordBatch>, epoch: Epoch) -> Result<()> {
        self.last.restore(blocks, epoch)
    }
}

fn numbers(column: &ArrayRef) -> ArrayRef {
    cast(column, &DataType::Int64).expect("an integer column")
}
