//! Transactions: writes are kept until COMMIT makes them one epoch; reads see one snapshot plus them.
//!
//! Savepoints are marks in the list of writes. Definitions take effect at once, whatever becomes of the
//! transaction.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard};

use arrow::array::ArrayRef;
use datafusion::execution::memory_pool::MemoryReservation;

use super::alter_own::Late;
use super::immediate::Timings;
use super::{Outcome, Session};
use crate::catalog::{Relation, RelationId};
use crate::commit::{Reply, Request, Writes};
use crate::core::stopped;
use crate::delta::Delta;
use crate::error::{Error, Result};
use crate::row_locks::Locks;
use crate::serve::own::Own;
use crate::serve::reads::Reads;
use crate::serve::snapshot::{Pins, Scan};
use crate::sql::statement::StatementKind;
use crate::state::arrangement::take;
use crate::state::key_table::KeyTable;
use crate::state::table::duplicate_key;
use crate::time::Epoch;
use crate::waits::Reason;

#[derive(Default)]
pub(super) struct Transaction {
    /// One message's several statements, not BEGIN.
    pub implicit: bool,
    pub failed: bool,
    pub read_only: bool,
    /// When it began: what now() is in all of it.
    pub now_us: Option<i64>,
    /// Fixed by the first read.
    pub epoch: Option<Epoch>,
    /// The relations that there were then.
    pub known: std::collections::HashSet<RelationId>,
    pub pictures: HashMap<RelationId, Scan>,
    /// Keep all relations readable at the epoch.
    pub pins: Pins,
    pub writes: Writes,
    /// The rows that it has changed or locked, once there are any.
    pub locks: Option<Locks>,
    /// What its statements have read, but for the last one.
    pub reads: Reads,
    /// When its foreign keys are checked.
    pub timings: Timings,
    /// What the last one has read so far.
    pub noted: Arc<Mutex<Reads>>,
    /// The changes among them, as far as statements have seen them.
    seen: HashMap<RelationId, Arc<Own>>,
    /// What they take of the memory of ad-hoc queries.
    pub held: Vec<MemoryReservation>,
    /// The unique keys in the writes, by table.
    keys: HashMap<RelationId, Vec<OwnKeys>>,
    /// By table and columns that refer: the keys in the writes, and how many of the changes are counted in.
    pub(super) referring: HashMap<(RelationId, Vec<usize>), (OwnKeys, usize)>,
    savepoints: Vec<Savepoint>,
    /// Constraints that come with COMMIT.
    pub late: Vec<Late>,
    /// Sequences that TRUNCATE … RESTART IDENTITY let begin anew, with the next number of each.
    pub restarted: HashMap<RelationId, i128>,
    /// To be put back: name, value before, also on commit.
    pub settings: Vec<(String, String, bool)>,
}

struct Savepoint {
    name: String,
    /// How many changes each relation had.
    marks: HashMap<RelationId, usize>,
    /// How many constraints were put off.
    late: usize,
}

impl Transaction {
    /// What it has changed in a relation.
    pub fn own_changes(&mut self, relation: RelationId) -> Option<Arc<Own>> {
        let changes = self.writes.changes.get(&relation).filter(|changes| !changes.is_empty())?;
        let own = self.seen.entry(relation).or_default();
        Arc::make_mut(own).follow(changes);
        Some(own.clone())
    }

    /// What was read until now is what the client has seen.
    pub fn settle_reads(&mut self) {
        let noted = self.noted.clone();
        self.reads.append(&mut noted.lock().expect("no panic while held"));
    }

    /// The unique keys of a table in its writes.
    pub fn own_keys(&mut self, relation: &Relation) -> Result<&mut Vec<OwnKeys>> {
        let keys = relation.unique_keys();
        let same = |own: &Vec<OwnKeys>| own.iter().map(|o| &o.columns).eq(keys.iter().map(|key| &key.columns));
        if !self.keys.get(&relation.id).is_some_and(same) {
            let own = keys.iter().map(|key| OwnKeys::new(relation, &key.columns));
            let mut own = own.collect::<Result<Vec<_>>>()?;
            for delta in self.writes.changes.get(&relation.id).into_iter().flatten() {
                own.iter_mut().for_each(|own| drop(own.add(delta)));
            }
            self.keys.insert(relation.id, own);
        }
        Ok(self.keys.get_mut(&relation.id).expect("just made"))
    }

    /// Its changes of a relation, for one that takes its place or has other columns now: up to each savepoint, and since.
    pub fn replace_changes(&mut self, old: RelationId, new: RelationId, parts: Vec<Vec<Delta>>) {
        let mut count = 0;
        for (savepoint, part) in self.savepoints.iter_mut().zip(&parts) {
            count += part.len();
            savepoint.marks.remove(&old);
            savepoint.marks.insert(new, count);
        }
        self.writes.changes.remove(&old);
        self.writes.changes.insert(new, parts.into_iter().flatten().collect());
        self.keys.remove(&old);
        self.referring.retain(|(child, _), _| *child != old);
        self.seen.remove(&old);
    }

    /// What it has changed in a relation up to its first savepoint, from each to the next, and since the last.
    pub fn own_parts(&self, relation: RelationId) -> Option<Vec<&[Delta]>> {
        let changes = self.writes.changes.get(&relation)?;
        let marks = self.savepoints.iter().map(|savepoint| savepoint.marks.get(&relation).copied().unwrap_or(0));
        let mut from = 0;
        let part = |to| &changes[std::mem::replace(&mut from, to)..to];
        Some(marks.chain([changes.len()]).map(part).collect())
    }

    /// What the last statement has read, it reads anew.
    pub fn forget_reads(&self) {
        self.reading().clear();
    }

    pub fn reading(&self) -> MutexGuard<'_, Reads> {
        self.noted.lock().expect("no panic while held")
    }

    /// The next read fixes another epoch.
    pub fn leave_snapshot(&mut self) {
        self.epoch = None;
        self.known.clear();
        self.pictures.clear();
        self.pins.clear();
    }
}

/// How often each value of a key stands in a transaction's own changes, retractions counted off.
pub(super) struct OwnKeys {
    columns: Vec<usize>,
    table: KeyTable,
    net: Vec<i64>,
}

impl OwnKeys {
    pub fn new(relation: &Relation, columns: &[usize]) -> Result<Self> {
        let schema = relation.arrow_schema();
        let types: Vec<_> = columns.iter().map(|&c| schema.field(c).data_type().clone()).collect();
        Ok(OwnKeys { columns: columns.to_vec(), table: KeyTable::new(&types)?, net: Vec::new() })
    }

    pub fn columns(&self) -> &[usize] {
        &self.columns
    }

    /// Of keys that come from another table.
    pub fn net_of(&self, keys: &[ArrayRef], rows: usize) -> Result<Vec<i64>> {
        let encoder = self.table.encoder();
        let encoded = encoder.encode_rows(&super::immediate::of_types(keys, encoder.types())?, rows);
        let mut ids = Vec::new();
        self.table.find(&encoded, &mut ids);
        Ok(ids.iter().map(|&id| self.net.get(id as usize).copied().unwrap_or(0)).collect())
    }

    /// Counts a change in; returns the ids of its rows' keys, none of keys with a NULL, which no other row can have.
    pub fn add(&mut self, delta: &Delta) -> Vec<Option<u32>> {
        let columns: Vec<_> = self.columns.iter().map(|&c| delta.rows.column(c).clone()).collect();
        let mut ids = Vec::new();
        let keys = self.table.encoder().encode_rows(&columns, delta.len());
        self.table.intern(&keys, &mut ids);
        self.net.resize(self.table.bound() as usize, 0);
        let is_null = |row: usize| keys.any_null.as_ref().is_some_and(|nulls| nulls.value(row));
        let ids: Vec<Option<u32>> = ids.iter().enumerate().map(|(row, &id)| (!is_null(row)).then_some(id)).collect();
        for (row, id) in ids.iter().enumerate() {
            if let Some(id) = id {
                self.net[*id as usize] += delta.weight(row);
            }
        }
        ids
    }

    /// Those rows of a change that was just added whose keys the transaction has more often than before; an error's row
    /// where it has one twice.
    fn inserted(&self, delta: &Delta, ids: &[Option<u32>]) -> std::result::Result<Vec<u32>, usize> {
        let net = |row: &usize| ids[*row].map_or(0, |id| self.net[id as usize]);
        let new: Vec<usize> = (0..delta.len()).filter(|row| delta.weight(*row) > 0 && net(row) > 0).collect();
        match new.iter().find(|row| net(row) > 1) {
            Some(&row) => Err(row),
            None => Ok(new.into_iter().map(|row| row as u32).collect()),
        }
    }
}

pub(super) fn allowed_when_failed(kind: &StatementKind) -> bool {
    use StatementKind::*;
    matches!(kind, Commit | Rollback | RollbackToSavepoint(_) | Empty)
}

impl Session {
    pub(super) fn check_writable(&self, tag: &str) -> Result<()> {
        let read_only = match &self.transaction {
            Some(t) => t.read_only,
            None => self.settings.value("default_transaction_read_only") == "on",
        };
        if read_only {
            return Err(Error::new("25006", format!("cannot execute {tag} in a read-only transaction")));
        }
        Ok(())
    }

    /// Whatever isolation is asked for, a transaction reads one snapshot; SERIALIZABLE is checked at COMMIT besides.
    pub(super) fn begin(&mut self, read_only: bool, isolation: Option<&str>) -> Result<Outcome> {
        let read_only = read_only || self.settings.value("default_transaction_read_only") == "on";
        match &mut self.transaction {
            // BEGIN inside a message's implicit transaction makes it explicit.
            Some(t) if t.implicit => {
                t.implicit = false;
                t.read_only = read_only;
            }
            Some(_) => self.notice("WARNING", "25001", "there is already a transaction in progress".into()),
            None => {
                self.transaction =
                    Some(Transaction { read_only, now_us: Some(self.core.clock_us()), ..Transaction::default() })
            }
        }
        if read_only {
            self.set(true, &[("transaction_read_only".to_string(), Some("on".to_string()))])?;
        }
        let usual = self.settings.value("default_transaction_isolation").to_string();
        let usual = Some(usual).filter(|level| isolation.is_none() && level != "read committed");
        if let Some(level) = isolation.or(usual.as_deref()) {
            self.set(true, &[("transaction_isolation".to_string(), Some(level.to_string()))])?;
        }
        Ok(Outcome::Done("BEGIN".into()))
    }

    pub(super) async fn commit(&mut self) -> Result<Outcome> {
        if self.transaction.as_ref().is_some_and(|t| !t.failed && !t.late.is_empty())
            && let Err(error) = Box::pin(self.check_late()).await
        {
            self.rollback()?;
            return Err(error);
        }
        match self.transaction.take() {
            None => {
                self.notice("WARNING", "25P01", "there is no transaction in progress".into());
                Ok(Outcome::Done("COMMIT".into()))
            }
            Some(t) if t.failed => {
                self.restore_settings(t, false);
                Ok(Outcome::Done("ROLLBACK".into()))
            }
            Some(mut t) => {
                let writes = std::mem::take(&mut t.writes);
                let restarted = std::mem::take(&mut t.restarted);
                let late = std::mem::take(&mut t.late);
                // Until all has been written.
                let locks = t.locks.take();
                let core = self.core.clone();
                let looked = match self.settings.value("transaction_isolation") {
                    "serializable" if !writes.changes.is_empty() => Some(t.check_serializable(&core, &writes).await),
                    _ => None,
                };
                self.restore_settings(t, looked.as_ref().is_none_or(Result::is_ok));
                let (committing, _until_it_ends) = match looked.transpose()? {
                    Some(looked) => (Some(looked.committing), Some(looked.until_it_ends)),
                    None => (None, None),
                };
                if !writes.changes.is_empty() {
                    self.decide_holding(committing, |reply| Request::Write { writes, reply }).await?;
                }
                for (sequence, next) in restarted {
                    super::numbers::set_next(&self.core, sequence, next).await?;
                }
                drop(locks);
                Box::pin(self.add_late(late)).await?;
                Ok(Outcome::Done("COMMIT".into()))
            }
        }
    }

    pub(super) fn rollback(&mut self) -> Result<Outcome> {
        match self.transaction.take() {
            None => self.notice("WARNING", "25P01", "there is no transaction in progress".into()),
            Some(t) => self.restore_settings(t, false),
        }
        Ok(Outcome::Done("ROLLBACK".into()))
    }

    fn restore_settings(&mut self, transaction: Transaction, committed: bool) {
        for (name, before, per_transaction) in transaction.settings.into_iter().rev() {
            if per_transaction || !committed {
                self.settings.set(&name, Some(&before)).expect("it was valid before");
            }
        }
        self.cursors.retain(|_, c| c.hold);
    }

    fn block(&mut self, what: &str) -> Result<&mut Transaction> {
        self.transaction
            .as_mut()
            .filter(|t| !t.implicit)
            .ok_or_else(|| Error::new("25P01", format!("{what} can only be used in transaction blocks")))
    }

    pub(super) fn savepoint(&mut self, name: &str) -> Result<Outcome> {
        let t = self.block("SAVEPOINT")?;
        let marks = t.writes.changes.iter().map(|(id, deltas)| (*id, deltas.len())).collect();
        t.savepoints.push(Savepoint { name: name.to_string(), marks, late: t.late.len() });
        Ok(Outcome::Done("SAVEPOINT".into()))
    }

    fn find_savepoint(&mut self, what: &str, name: &str) -> Result<usize> {
        let t = self.block(what)?;
        t.savepoints
            .iter()
            .rposition(|savepoint| savepoint.name == name)
            .ok_or_else(|| Error::new("3B001", format!("savepoint \"{name}\" does not exist")))
    }

    pub(super) fn release_savepoint(&mut self, name: &str) -> Result<Outcome> {
        let at = self.find_savepoint("RELEASE SAVEPOINT", name)?;
        self.block("RELEASE SAVEPOINT")?.savepoints.truncate(at);
        Ok(Outcome::Done("RELEASE".into()))
    }

    pub(super) fn rollback_to_savepoint(&mut self, name: &str) -> Result<Outcome> {
        let at = self.find_savepoint("ROLLBACK TO SAVEPOINT", name)?;
        let t = self.block("ROLLBACK TO SAVEPOINT")?;
        t.savepoints.truncate(at + 1);
        let marks = t.savepoints[at].marks.clone();
        t.late.truncate(t.savepoints[at].late);
        t.writes.changes.retain(|id, deltas| {
            deltas.truncate(marks.get(id).copied().unwrap_or(0));
            !deltas.is_empty()
        });
        t.keys.clear();
        t.referring.clear();
        t.seen.clear();
        // Some may have begun anew after the savepoint: then rows of before may be there again.
        t.restarted.clear();
        t.failed = false;
        Ok(Outcome::Done("ROLLBACK".into()))
    }

    /// Several statements in one simple query message are one implicit transaction: `begin_implicit`
    /// before the first (a no-op inside BEGIN), `end_implicit` after the last or the failed one.
    pub async fn begin_implicit(&mut self) {
        if self.transaction.is_none() {
            let read_only = self.settings.value("default_transaction_read_only") == "on";
            self.transaction = Some(Transaction {
                implicit: true,
                read_only,
                now_us: Some(self.core.clock_us()),
                ..Transaction::default()
            });
        }
    }

    pub async fn end_implicit(&mut self, ok: bool) -> Result<()> {
        if !self.transaction.as_ref().is_some_and(|t| t.implicit) {
            return Ok(());
        }
        match ok {
            true => self.commit().await.map(|_| ()),
            false => self.rollback().map(|_| ()),
        }
    }

    /// Makes changes durable now, or keeps them for COMMIT.
    pub(super) async fn write(&mut self, relation: RelationId, deltas: Vec<Delta>) -> Result<()> {
        self.write_all([(relation, deltas)].into()).await
    }

    /// The same for several relations: they change in one epoch.
    pub(super) async fn write_all(&mut self, mut changes: BTreeMap<RelationId, Vec<Delta>>) -> Result<()> {
        changes.retain(|_, deltas| !deltas.iter().all(Delta::is_empty));
        if changes.is_empty() {
            return Ok(());
        }
        if let Some(one) = &mut self.one_statement {
            changes.into_iter().for_each(|(relation, deltas)| one.changes.entry(relation).or_default().extend(deltas));
            return Ok(());
        }
        if self.transaction.is_some() {
            for (relation, deltas) in &changes {
                self.check_keys(*relation, deltas).await?;
            }
            let transaction = self.transaction.as_mut().expect("just seen");
            for (relation, deltas) in &changes {
                transaction.writes.changes.entry(*relation).or_default().extend(deltas.iter().cloned());
            }
            return self.check_references(&changes).await;
        }
        let writes = Writes { changes, ..Writes::default() };
        self.decide(|reply| Request::Write { writes, reply }).await.map(|_| ())
    }

    /// Has the commit path do something. Once it has been asked nobody can take that back, so from then on the
    /// statement cannot be cancelled: its client would hear of a failure, and find the rows.
    pub(super) async fn decide<T>(&self, request: impl FnOnce(Reply<T>) -> Request) -> Result<T> {
        self.decide_holding((), request).await
    }

    /// The same; `held` is let go when the commit path has been asked.
    async fn decide_holding<T, H>(&self, held: H, request: impl FnOnce(Reply<T>) -> Request) -> Result<T> {
        let decided = async {
            let place = self.core.requests.reserve().await.map_err(|_| stopped())?;
            self.cancel.too_late();
            let (reply, answer) = tokio::sync::oneshot::channel();
            place.send(request(reply));
            drop(held);
            answer.await.map_err(|_| stopped())?
        };
        self.core.waits.during(self.waiter(), Reason::Commit, None, decided).await
    }

    /// A key that a transaction inserts must be free now: among its own changes, and in the table as last committed.
    /// COMMIT checks again, against what others have done by then.
    async fn check_keys(&mut self, id: RelationId, deltas: &[Delta]) -> Result<()> {
        let catalog = self.core.catalog();
        let Some(relation) = catalog.get(id) else { return Ok(()) };
        if relation.unique_keys().is_empty() {
            return Ok(());
        }
        let transaction = self.transaction.as_mut().expect("only in a transaction");
        let mut inserted = Vec::new();
        let own = transaction.own_keys(relation)?;
        let mut twice = None;
        for (n, own) in own.iter_mut().enumerate() {
            let ids: Vec<_> = deltas.iter().map(|delta| own.add(delta)).collect();
            for (delta, ids) in deltas.iter().zip(&ids) {
                match own.inserted(delta, ids) {
                    Ok(rows) => inserted.push((n, take(&delta.rows, &rows))),
                    Err(row) => twice = twice.or(Some(duplicate_key(relation, n, &delta.rows, row))),
                }
            }
        }
        if let Some(error) = twice {
            transaction.keys.remove(&id);
            return Err(error);
        }
        inserted.retain(|(_, rows)| rows.num_rows() > 0);
        if inserted.is_empty() {
            return Ok(());
        }
        let checked = self.core.ask(|reply| Request::CheckFree { relation: id, rows: inserted, reply }).await;
        if checked.is_err() {
            // The change that was counted in does not come about.
            self.transaction.as_mut().expect("still there").keys.remove(&id);
        }
        checked
    }
}
