//! Looking at a data directory without changing it: is it whole, and what is in it.
//!
//! It is opened read-only: the write-ahead log is read into memory, and no file is made, changed or deleted. Nobody
//! else may have it open meanwhile, since files could go while they are read.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::{self, Write as Out};
use std::ops::ControlFlow;
use std::path::Path;

use super::chunk::{ChunkHead, Collector};
use super::directory::Directory;
use super::frame;
use super::keys::{
    DROPPED, HEADERS, LOG_END, NAMESPACE, PENDING_BLOCK, SETTING, log_range, meta_range, parse_log_key, u64_at,
};
use super::log::{name_chunk, read_record};
use super::rocks::{Db, Family};
use super::{Inner, RELATION_ROWS, Store};
use crate::catalog::{Catalog, RelationId, RelationKind};
use crate::delta::text;
use crate::error::{Error, Result};
use crate::time::Epoch;

/// What [`Store::check`] found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    pub last_epoch: Epoch,
    /// Of the newest checkpoint; 0 when there is none.
    pub checkpoint: Epoch,
    pub relations: usize,
    pub headers: u64,
    pub chunks: u64,
    pub rows: u64,
    pub blocks: u64,
    /// Each names what is wrong: empty when all is well.
    pub problems: Vec<String>,
}

const PROBLEMS_MAX: usize = 100;

impl Report {
    fn problem(&mut self, problem: impl Into<String>) {
        if self.problems.len() < PROBLEMS_MAX {
            self.problems.push(problem.into());
        }
    }
    fn note<T>(&mut self, result: Result<T>) -> Option<T> {
        result.map_err(|e| self.problem(e.message)).ok()
    }
}

impl Store {
    /// Opens a directory to be looked at. Errors as [`Store::open`].
    pub fn open_read_only(path: &Path) -> Result<Store> {
        let directory = Directory::look_at(path)?;
        let db = Db::open_read_only(&directory.database())
            .map_err(|e| Error { message: format!("data directory \"{}\": {}", path.display(), e.message), ..e })?;
        db.check_format()?;
        let schemas = super::schemas::Schemas::load(&db)?;
        let log = super::log::LogState::load(&db)?;
        let catalog = super::catalog::CatalogState::load(&db)?;
        let checkpoint = super::checkpoint::CheckpointState::load(&db)?;
        directory.check_acknowledged(log.last_epoch())?;
        let (sync, reserve_bytes, open) = (false, 0, tokio::sync::watch::Sender::new(()));
        let shapes = super::shapes::Shapes::default();
        let inner = Inner { db, schemas, shapes, log, catalog, checkpoint, directory, sync, reserve_bytes, open };
        Ok(Store { inner: std::sync::Arc::new(inner) })
    }

    /// Reads everything that is stored and holds it against everything that names it.
    pub fn check(&self) -> Report {
        let mut report = Report { last_epoch: self.last_epoch(), ..Report::default() };
        let catalog = report.note(self.load_catalog()).unwrap_or_default();
        report.relations = catalog.relations.len();
        self.check_catalog(&catalog, &mut report);
        self.check_log(&catalog, &mut report);
        self.check_checkpoint(&catalog, &mut report);
        report
    }

    fn check_catalog(&self, catalog: &Catalog, report: &mut Report) {
        for relation in catalog.relations.values() {
            let reads = relation.depends_on.iter().chain(&relation.arrangements);
            for id in reads.filter(|id| catalog.get(**id).is_none()) {
                report.problem(format!(
                    "{} \"{}\" names relation {id}: there is none",
                    relation.kind.word(),
                    relation.name
                ));
            }
            let named = relation.kind != RelationKind::Arrangement && relation.schema_name != "public";
            if named && !catalog.schemas.contains_key(&relation.schema_name) {
                report.problem(format!(
                    "relation \"{}\" is in schema \"{}\": there is none",
                    relation.name, relation.schema_name
                ));
            }
        }
        for letter in [NAMESPACE, SETTING, LOG_END] {
            report.note(self.inner.db.scan_letter(letter, |_, body| body.map(drop)));
        }
    }

    fn check_log(&self, catalog: &Catalog, report: &mut Report) {
        let mut promised: HashMap<(Epoch, RelationId), (u32, u64)> = HashMap::new();
        let (mut before_us, db) = (i64::MIN, &self.inner.db);
        let (lower, upper) = log_range(HEADERS, 0, Epoch::MAX);
        let scanned = db.scan(Family::Log, &lower, &upper, |key, value| {
            report.headers += 1;
            if let Some((record, _)) = report.note(read_record(key, value)) {
                let epoch = record.header.epoch;
                if epoch != parse_log_key(key).1 {
                    report.problem(format!(
                        "the header of epoch {} says that it is epoch {epoch}'s",
                        parse_log_key(key).1
                    ));
                }
                if record.header.now_us < before_us {
                    report.problem(format!("the time of epoch {epoch} is before that of the epoch before"));
                }
                before_us = record.header.now_us;
                promised.extend(
                    record.chunks.iter().map(|(relation, chunks, rows)| ((epoch, *relation), (*chunks, *rows))),
                );
            }
            Ok(ControlFlow::Continue(()))
        });
        report.note(scanned);
        let dropped = report.note(self.dropped()).unwrap_or_default();
        let mut found: HashMap<(Epoch, RelationId), (u32, u64)> = HashMap::new();
        let mut last: Option<(RelationId, u64)> = None;
        let (lower, _) = log_range(HEADERS, Epoch::MAX - 1, Epoch::MAX);
        let scanned = db.scan(Family::Log, &lower, &[0xff; 16], |key, value| {
            let (relation, epoch, _) = parse_log_key(key);
            if relation == HEADERS {
                return Ok(ControlFlow::Continue(()));
            }
            report.chunks += 1;
            if !catalog.has_log(relation) && !dropped.contains(&relation) {
                report.problem(format!("{}: there is no such relation", name_chunk(key)));
            }
            if epoch > report.last_epoch {
                // The next start deletes it: an epoch without its header never was.
                return Ok(ControlFlow::Continue(()));
            }
            let chunk = frame::open(key, value, || name_chunk(key)).and_then(|body| {
                let head = ChunkHead::read(body)?;
                Collector::new(&self.inner.schemas, head.schema_id, None)?.decode(&head)?;
                Ok((head.offset, head.rows as u64, head.end()))
            });
            if let Some((offset, rows, end)) = report.note(chunk.map_err(super::log::at_chunk(key))) {
                report.rows += rows;
                let count = found.entry((epoch, relation)).or_default();
                *count = (count.0 + 1, count.1 + rows);
                let compacted = report.note(self.gone(relation)).unwrap_or_default().compacted;
                if last.is_some_and(|(r, end)| r == relation && end != offset) && epoch > compacted {
                    report.problem(format!("{}: rows before it are missing", name_chunk(key)));
                }
                last = Some((relation, end));
            }
            Ok(ControlFlow::Continue(()))
        });
        report.note(scanned);
        let mut missing: Vec<_> = promised.iter().filter(|(key, count)| found.get(key) != Some(count)).collect();
        missing.sort();
        for ((epoch, relation), (chunks, rows)) in missing {
            let gone = report.note(self.gone(*relation)).unwrap_or_default();
            if *epoch > gone.trimmed.max(gone.compacted) && catalog.has_log(*relation) {
                let (has, of) = found.get(&(*epoch, *relation)).copied().unwrap_or_default();
                report.problem(format!(
                    "epoch {epoch} of relation {relation}: {has} chunks with {of} rows instead of {chunks} with {rows}"
                ));
            }
        }
    }

    fn dropped(&self) -> Result<BTreeSet<RelationId>> {
        let (lower, upper) = meta_range(DROPPED);
        let mut dropped = BTreeSet::new();
        self.inner.db.scan(Family::Meta, &lower, &upper, |key, _| {
            dropped.insert(super::keys::u32_at(key, 1));
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(dropped)
    }

    fn check_checkpoint(&self, catalog: &Catalog, report: &mut Report) {
        let mut named: BTreeMap<u64, String> = BTreeMap::new();
        if let Some(manifest) = self.newest_manifest() {
            report.checkpoint = manifest.epoch;
            if manifest.epoch > report.last_epoch {
                report.problem(format!("the checkpoint is of epoch {}, the log ends before", manifest.epoch));
            }
            match self.header(manifest.epoch) {
                Ok(None) if manifest.epoch > 0 => {
                    report.problem(format!("the header of the checkpoint's epoch {} is missing", manifest.epoch));
                }
                other => _ = report.note(other),
            }
            for part in &manifest.parts {
                let place = format!("node {} of relation {} on worker {}", part.node, part.relation, part.worker);
                for block in &part.blocks {
                    if let Some(other) = named.insert(*block, place.clone()) {
                        report.problem(format!("block {block} belongs to {place} and to {other}"));
                    }
                }
                // A relation dropped after the checkpoint is in the manifest still.
                let dropped_since = catalog.get(part.relation).is_none() && manifest.epoch == report.last_epoch;
                if dropped_since {
                    report.problem(format!("the checkpoint has {place}: there is no such relation"));
                }
            }
        }
        for (block, place) in &named {
            if let Err(error) = self.read_block(*block) {
                report.problem(format!("{}, of {place}", error.message));
            }
        }
        let mut stored = BTreeSet::new();
        let mut pending = BTreeSet::new();
        let scanned = self.inner.db.scan(Family::Blocks, &[], &[0xff; 9], |key, _| {
            stored.insert(u64_at(key, 0));
            Ok(ControlFlow::Continue(()))
        });
        report.note(scanned);
        let (lower, upper) = meta_range(PENDING_BLOCK);
        let scanned = self.inner.db.scan(Family::Meta, &lower, &upper, |key, _| {
            pending.insert(u64_at(key, 1));
            Ok(ControlFlow::Continue(()))
        });
        report.note(scanned);
        report.blocks = stored.len() as u64;
        for block in stored.iter().filter(|block| !named.contains_key(block) && !pending.contains(block)) {
            report.problem(format!("block {block} is named by nothing"));
        }
    }

    /// Writes what is stored as text: the catalog, the checkpoint, and epoch by epoch what each changed; rows of
    /// `relation` only, if one is given. What is damaged is an error, after all before it.
    pub fn dump(&self, relation: Option<RelationId>, out: &mut dyn Out) -> Result<()> {
        let catalog = self.load_catalog()?;
        writeln!(out, "catalog")?;
        for (name, id) in &catalog.schemas {
            writeln!(out, "  {id} schema {name}")?;
        }
        for r in catalog.relations.values() {
            let (id, kind) = (r.id, r.kind.word());
            writeln!(out, "  {id} {kind} {}.{}", r.schema_name, r.name)?;
            if !r.sql.is_empty() {
                writeln!(out, "    {}", r.sql.replace('\n', "\n    "))?;
            }
            let gone = self.gone(id)?;
            if gone.trimmed > 0 {
                writeln!(out, "    trimmed through epoch {}", gone.trimmed)?;
            }
            if gone.compacted > 0 {
                writeln!(out, "    compacted through epoch {}", gone.compacted)?;
            }
        }
        for (key, value) in self.load_meta()? {
            writeln!(out, "  {key} = {value}")?;
        }
        if let Some(manifest) = self.newest_manifest() {
            writeln!(out, "checkpoint of epoch {} by {} workers", manifest.epoch, manifest.workers)?;
            for part in &manifest.parts {
                let node = if part.node == RELATION_ROWS { "rows".into() } else { format!("node {}", part.node) };
                let (id, worker, slot, blocks) = (part.relation, part.worker, part.slot, part.blocks.len());
                writeln!(out, "  {id} {node} slot {slot} worker {worker}: {blocks} blocks")?;
            }
        }
        self.dump_log(relation, out)
    }

    fn dump_log(&self, only: Option<RelationId>, out: &mut dyn Out) -> Result<()> {
        let (lower, upper) = log_range(HEADERS, 0, Epoch::MAX);
        self.inner.db.scan(Family::Log, &lower, &upper, |key, value| {
            let (record, positions) = read_record(key, value)?;
            let header = &record.header;
            writeln!(out, "epoch {} at {}", header.epoch, time_text(header.now_us))?;
            for change in record.catalog.iter() {
                writeln!(out, "  {}", serde_json::to_string(change).map_err(Error::internal)?)?;
            }
            for (relation, position) in &positions {
                writeln!(out, "  position of {relation}: {}", position.escape_ascii())?;
            }
            for (relation, _, rows) in record.chunks.iter().filter(|(r, ..)| only.is_none_or(|only| *r == only)) {
                writeln!(out, "  {relation}: {rows} rows")?;
                let deltas =
                    self.deltas(*relation, header.epoch - 1, header.epoch, None).collect::<Result<Vec<_>>>()?;
                let text = text::format(&deltas);
                text.lines().try_for_each(|line| writeln!(out, "    {line}"))?;
                if text.is_empty() {
                    writeln!(out, "    not kept any more")?;
                }
            }
            Ok(ControlFlow::Continue(()))
        })
    }

    /// Copies the store as it is now into a new directory, while it goes on being written; files that do not change
    /// any more are linked instead where the file system allows it.
    pub fn backup(&self, path: &Path) -> Result<Epoch> {
        let target = Directory::for_backup(path)?;
        // What is in the copy is at least this.
        let epoch = self.last_epoch();
        self.inner.db.copy_to(&target.database())?;
        target.acknowledge(epoch);
        target.mark_ready()?;
        Ok(epoch)
    }
}

fn time_text(us: i64) -> String {
    chrono::DateTime::from_timestamp_micros(us).map_or(us.to_string(), |time| time.to_rfc3339())
}

/// Copies a data directory that nobody has open, e.g. a backup, to a new place, and checks the copy.
pub fn restore(from: &Path, to: &Path) -> Result<Report> {
    let source = Directory::look_at(from)?;
    let target = Directory::for_backup(to)?;
    let copy = || -> io::Result<()> {
        std::fs::create_dir_all(target.database())?;
        for entry in std::fs::read_dir(source.database())? {
            let entry = entry?;
            let into = target.database().join(entry.file_name());
            std::fs::copy(entry.path(), &into)?;
            std::fs::File::open(&into)?.sync_all()?;
        }
        std::fs::File::open(target.database())?.sync_all()?;
        match std::fs::copy(from.join("acknowledged"), to.join("acknowledged")) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
            _ => Ok(()),
        }
    };
    copy().map_err(|e| Error::io(format!("cannot copy \"{}\" to \"{}\": {e}", from.display(), to.display())))?;
    target.mark_ready()?;
    Ok(Store::open_read_only(to)?.check())
}
