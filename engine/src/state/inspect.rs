//! A store in readable words, for `millrace dump` and for people who look for a fault.
//!
//! ```text
//! format 1, log through epoch 3
//!
//! catalog
//!   16384 stream public.orders: 2 rows logged
//!     CREATE STREAM orders (id int, name text)
//!
//! checkpoint of epoch 1 by 2 workers
//!   relation 16385, own rows, worker 0, slot 0, plan 0000000000000007: 1 block, 1 row
//!     +1 | 1 | a
//!
//! log after it
//!   epoch 2 at 2026-11-20T22:00:00.000000Z
//!     16384: 1 row
//!       +1 | 1 | a
//! ```
//!
//! Rows have the form that tests use (`delta/text.rs`). Settings are named, their values are not shown:
//! they may be secrets.

use std::io::{self, Write};

use chrono::{DateTime, SecondsFormat};

use super::store::{CatalogChange, FORMAT, LogEntry, Part, RELATION_ROWS, Store};
use crate::delta::Delta;
use crate::delta::text::format_row;
use crate::error::Result;

/// Writes all of `store`; of each block and each change at most `rows_max` rows.
pub fn dump(store: &Store, rows_max: usize, out: &mut dyn Write) -> Result<()> {
    writeln!(out, "format {FORMAT}, log through epoch {}", store.last_epoch())?;
    dump_catalog(store, out)?;
    dump_checkpoint(store, rows_max, out)?;
    writeln!(out, "\nlog after it")?;
    let after = store.newest_manifest().map_or(0, |m| m.epoch);
    store.replay(after).try_for_each(|entry| dump_entry(&entry?, rows_max, out))
}

fn dump_catalog(store: &Store, out: &mut dyn Write) -> Result<()> {
    let catalog = store.load_catalog()?;
    writeln!(out, "\ncatalog")?;
    for (name, id) in &catalog.schemas {
        writeln!(out, "  {id} schema {name}")?;
    }
    for relation in catalog.relations.values() {
        let logged = match store.stream_end(relation.id)? {
            0 => String::new(),
            n => format!(": {} logged", count(n, "row")),
        };
        writeln!(out, "  {} {} {}.{}{logged}", relation.id, relation.kind.word(), relation.schema_name, relation.name)?;
        for line in relation.sql.lines() {
            writeln!(out, "    {line}")?;
        }
    }
    for name in store.load_meta()?.keys() {
        writeln!(out, "  setting {name}")?;
    }
    Ok(())
}

fn dump_checkpoint(store: &Store, rows_max: usize, out: &mut dyn Write) -> Result<()> {
    let Some(manifest) = store.newest_manifest() else { return Ok(writeln!(out, "\nno checkpoint")?) };
    writeln!(out, "\ncheckpoint of epoch {} by {}", manifest.epoch, count(manifest.workers as u64, "worker"))?;
    for (relation, position) in &manifest.positions {
        writeln!(out, "  source {relation} read through {}", position.escape_ascii())?;
    }
    manifest.parts.iter().try_for_each(|part| dump_part(store, part, rows_max, out))
}

fn dump_part(store: &Store, part: &Part, rows_max: usize, out: &mut dyn Write) -> Result<()> {
    let blocks = part.blocks.iter().map(|id| store.read_block(*id)).collect::<Result<Vec<_>>>()?;
    let rows: usize = blocks.iter().map(|b| b.num_rows()).sum();
    let node = match part.node {
        RELATION_ROWS => "own rows".to_string(),
        node => format!("node {node}"),
    };
    let Part { relation, worker, slot, fingerprint, .. } = part;
    let (count_blocks, count_rows) = (count(blocks.len() as u64, "block"), count(rows as u64, "row"));
    writeln!(
        out,
        "  relation {relation}, {node}, worker {worker}, slot {slot}, plan {fingerprint:016x}: {count_blocks}, {count_rows}"
    )?;
    blocks.into_iter().try_for_each(|block| dump_rows(&Delta::inserts(block), rows_max, "    ", out))
}

fn dump_entry(entry: &LogEntry, rows_max: usize, out: &mut dyn Write) -> Result<()> {
    let header = &entry.header;
    let now = DateTime::from_timestamp_micros(header.now_us)
        .map_or_else(|| format!("{} us", header.now_us), |t| t.to_rfc3339_opts(SecondsFormat::Micros, true));
    writeln!(out, "  epoch {} at {now}", header.epoch)?;
    for change in &entry.catalog {
        match change {
            CatalogChange::Put(r) => writeln!(out, "    put {} {} {}.{}", r.id, r.kind.word(), r.schema_name, r.name)?,
            CatalogChange::Drop(id) => writeln!(out, "    drop {id}")?,
            CatalogChange::PutSchema { name, id } => writeln!(out, "    put {id} schema {name}")?,
            CatalogChange::DropSchema { name } => writeln!(out, "    drop schema {name}")?,
            CatalogChange::Meta { key, value: Some(_) } => writeln!(out, "    put setting {key}")?,
            CatalogChange::Meta { key, value: None } => writeln!(out, "    drop setting {key}")?,
        }
    }
    for (relation, position) in &entry.positions {
        writeln!(out, "    source {relation} read through {}", position.escape_ascii())?;
    }
    for (relation, deltas) in &entry.changes {
        let rows: usize = deltas.iter().map(Delta::len).sum();
        writeln!(out, "    {relation}: {}", count(rows as u64, "row"))?;
        deltas.iter().try_for_each(|delta| dump_rows(delta, rows_max, "      ", out))?;
    }
    Ok(())
}

fn dump_rows(delta: &Delta, rows_max: usize, indent: &str, out: &mut dyn Write) -> Result<()> {
    for row in 0..delta.len().min(rows_max) {
        writeln!(out, "{indent}{:+} | {}", delta.weight(row), format_row(&delta.rows, row, " | "))?;
    }
    match delta.len().saturating_sub(rows_max) {
        0 => Ok(()),
        _ if rows_max == 0 => Ok(()),
        more => Ok(writeln!(out, "{indent}and {} more", count(more as u64, "row"))?),
    }
}

fn count(n: u64, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}

/// What `dump` writes, as text.
pub fn dump_text(store: &Store, rows_max: usize) -> Result<String> {
    let mut out = io::Cursor::new(Vec::new());
    dump(store, rows_max, &mut out)?;
    Ok(String::from_utf8(out.into_inner()).expect("only text is written"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delta::text;
    use crate::state::store::{Manifest, StoreOptions};
    use crate::time::EpochHeader;

    #[test]
    fn a_store_reads_like_this() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), StoreOptions::default()).unwrap();
        let schema = text::schema("id: Int32, name: Utf8");
        let delta = text::parse(&schema, "+1 | 1 | a\n-1 | 2 | NULL\n+1 | 3 | c");
        let entry = |epoch, catalog| LogEntry {
            header: EpochHeader { epoch, now_us: 1_700_000_000_000_000, touched: vec![16384] },
            changes: vec![(16384, vec![delta.clone()])],
            positions: vec![(16384, b"offset 7".to_vec())],
            catalog,
        };
        let setting = |value: Option<&str>| CatalogChange::Meta { key: "token".into(), value: value.map(Into::into) };
        let put = CatalogChange::PutSchema { name: "sales".into(), id: 16390 };
        store.append(&entry(1, vec![])).unwrap();
        store.append(&entry(2, vec![put, setting(Some("canary"))])).unwrap();
        let blocks = vec![store.write_block(&delta.rows).unwrap()];
        let part = Part { relation: 16384, worker: 0, node: RELATION_ROWS, slot: 0, fingerprint: 255, blocks };
        store.commit_manifest(&Manifest { epoch: 1, workers: 2, positions: vec![], parts: vec![part] }).unwrap();
        let expected = "\
format 1, log through epoch 2

catalog
  16390 schema sales
  setting token

checkpoint of epoch 1 by 2 workers
  relation 16384, own rows, worker 0, slot 0, plan 00000000000000ff: 1 block, 3 rows
    +1 | 1 | a
    +1 | 2 | NULL
    and 1 row more

log after it
  epoch 2 at 2023-11-14T22:13:20.000000Z
    put 16390 schema sales
    put setting token
    source 16384 read through offset 7
    16384: 3 rows
      +1 | 1 | a
      -1 | 2 | NULL
      and 1 row more
";
        assert_eq!(dump_text(&store, 2).unwrap(), expected);
        assert!(!dump_text(&store, 99).unwrap().contains("canary"));
    }
}
