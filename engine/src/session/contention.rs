//! Writers that meet: rows that a transaction changes are locked for the others, who wait, and then run on what it left.
//!
//! ```text
//!   find the old rows ─► lock them ─► are they still so? ─► write
//!          ▲               │ another has one    │ no
//!          │               ▼ wait for its end   ▼
//!          └──────── the transaction's snapshot moves on
//! ```
//!
//! The snapshot moves on if nothing has changed that the statements before this one have read (`serve/reads.rs`): then the
//! transaction sees what it would have seen had it begun later. Otherwise 40001. A statement of its own holds the table's
//! lock, has no snapshot to keep, and only waits for the transactions that have its rows.
//!
//! Nobody waits for one transaction longer than [`PATIENCE`]: its client may have gone for a cup of tea. Then both go on,
//! and whoever commits first has the row; with lock_timeout the statement fails instead, as in PostgreSQL.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{ArrayRef, RecordBatch};

use super::Session;
use super::transaction::Transaction;
use crate::catalog::{Relation, RelationId, RelationKind};
use crate::commit::{Committing, Request, Writes};
use crate::core::Core;
use crate::delta::Delta;
use crate::delta::consolidate::consolidate;
use crate::delta::keys::KeyEncoder;
use crate::error::{Error, Result};
use crate::row_locks::{Blocker, Holder, Mode};
use crate::serve::own::Own;
use crate::serve::snapshot::{Pins, Snapshot};
use crate::state::arrangement::{row_hashes, take};
use crate::waits::Reason;

/// How long a statement waits for one transaction, without lock_timeout.
const PATIENCE: Duration = Duration::from_secs(2);

/// Of the statement that runs.
#[derive(Default)]
pub(super) struct Contention {
    /// Why it has just failed.
    blocked: Option<Blocker>,
    /// Waited for long enough.
    ignored: Vec<Holder>,
    /// SKIP LOCKED: rows that it does not see.
    skipped: HashMap<RelationId, Arc<Own>>,
}

impl Contention {
    pub fn skipped(&self, relation: RelationId) -> Option<Arc<Own>> {
        self.skipped.get(&relation).cloned()
    }

    /// Rows found that another one has: they are not to be found again.
    pub fn skip(&mut self, relation: RelationId, rows: RecordBatch) {
        Arc::make_mut(self.skipped.entry(relation).or_default()).add(Delta::retractions(rows));
    }

    pub fn is_blocked(&self) -> bool {
        self.blocked.is_some()
    }
}

fn in_the_way() -> Error {
    Error::new("40001", "could not serialize access due to concurrent update")
}

/// What a row is known by to those that lock it: its place among `rows`, and a hash.
pub(super) fn lock_keys(relation: &Relation, rows: &RecordBatch) -> Result<Vec<(u32, u64)>> {
    let mut keys = Vec::with_capacity(rows.num_rows());
    let mut known = vec![false; rows.num_rows()];
    for (number, key) in relation.unique_keys().into_iter().enumerate() {
        let columns: Vec<ArrayRef> = key.columns.iter().map(|&c| rows.column(c).clone()).collect();
        let types: Vec<_> = columns.iter().map(|c| c.data_type().clone()).collect();
        let encoded = KeyEncoder::new(&types)?.encode_rows(&columns, rows.num_rows());
        for (row, hash) in encoded.hashes.iter().enumerate() {
            // A key with a NULL is no one's.
            if encoded.any_null.as_ref().is_some_and(|nulls| nulls.value(row)) {
                continue;
            }
            known[row] = true;
            keys.push((row as u32, hash.rotate_left(number as u32)));
        }
    }
    if known.contains(&false) && rows.num_columns() > 0 {
        let hashes = row_hashes(rows).into_iter().enumerate();
        keys.extend(hashes.filter(|(row, _)| !known[*row]).map(|(row, hash)| (row as u32, hash)));
    }
    Ok(keys)
}

impl Session {
    /// A statement begins that may have to be run again.
    pub(super) fn begin_contention(&mut self) {
        self.contention = Contention::default();
        if let Some(transaction) = &mut self.transaction {
            transaction.settle_reads();
        }
    }

    /// Outside of a transaction, or in one that is there for this statement alone: the table's lock is held.
    pub(super) fn is_alone(&self) -> bool {
        self.transaction.is_none() || self.one_statement.as_ref().is_some_and(|one| one.own_transaction)
    }

    /// Before rows of a table are changed: `old` are those that go, `new` those that come by ON CONFLICT. Fails with 40001,
    /// see [`Session::after_conflict`], where another transaction has one of them or where one of `old` is no longer there.
    pub(super) async fn lock_rows(
        &mut self,
        relation: &Arc<Relation>,
        old: &RecordBatch,
        new: Option<&RecordBatch>,
    ) -> Result<()> {
        let alone = self.is_alone();
        if alone && self.core.row_locks.is_free(relation.id) {
            return Ok(());
        }
        let mut keys = lock_keys(relation, old)?;
        if let Some(new) = new.filter(|_| !relation.unique_keys().is_empty()) {
            keys.extend(lock_keys(relation, new)?);
        }
        if keys.is_empty() {
            return Ok(());
        }
        let keys: Vec<u64> = keys.into_iter().map(|(_, key)| key).collect();
        if alone {
            return self.wait_unless_free(relation, &keys, Mode::Exclusive);
        }
        // Statements of their own have read what they change, and not written it yet.
        let held = self.core.lock_of(relation.id).lock_owned();
        let _held = self.core.waits.during(self.waiter(), Reason::Lock, Some(relation.id), held).await;
        self.lock_keys(relation, &keys, Mode::Exclusive)?;
        self.check_current(relation, old).await
    }

    /// Rows that go or change because of what they refer to. Some may be what the statement itself has made of them, so COMMIT
    /// alone looks whether they are still there.
    pub(super) fn lock_followed(&mut self, relation: &Relation, rows: &RecordBatch) -> Result<()> {
        let alone = self.is_alone();
        if alone && self.core.row_locks.is_free(relation.id) {
            return Ok(());
        }
        let keys: Vec<u64> = lock_keys(relation, rows)?.into_iter().map(|(_, key)| key).collect();
        match alone {
            true => self.wait_unless_free(relation, &keys, Mode::Exclusive),
            false => self.lock_keys(relation, &keys, Mode::Exclusive),
        }
    }

    /// Outside of a transaction: fails where one has one of these rows.
    pub(super) fn wait_unless_free(&mut self, relation: &Relation, keys: &[u64], mode: Mode) -> Result<()> {
        let blocker = self.core.row_locks.blocker(relation.id, keys, None, mode, &self.contention.ignored);
        if blocker.is_none() {
            return Ok(());
        }
        self.contention.blocked = blocker;
        Err(in_the_way())
    }

    /// The keys of rows that are inserted: whoever inserts one that an open transaction has waits for that.
    pub(super) fn lock_inserted(&mut self, relation: &Relation, rows: &RecordBatch) -> Result<()> {
        let alone = self.is_alone();
        if rows.num_rows() > INSERTED_MAX
            || relation.unique_keys().is_empty()
            || alone && self.core.row_locks.is_free(relation.id)
        {
            return Ok(());
        }
        let keys: Vec<u64> = lock_keys(relation, rows)?.into_iter().map(|(_, key)| key).collect();
        match alone {
            true => self.wait_unless_free(relation, &keys, Mode::Exclusive),
            false => self.lock_keys(relation, &keys, Mode::Exclusive),
        }
    }

    /// Locks rows for the transaction.
    pub(super) fn lock_keys(&mut self, relation: &Relation, keys: &[u64], mode: Mode) -> Result<()> {
        let transaction = self.transaction.as_mut().expect("only in a transaction");
        let locks = transaction.locks.get_or_insert_with(|| self.core.row_locks.begin());
        locks.lock(relation.id, keys, mode, &self.contention.ignored).map_err(|blocker| {
            self.contention.blocked = Some(blocker);
            in_the_way()
        })
    }

    /// 40001 unless all of these rows, but those that the transaction has made, are in the table as last committed.
    pub(super) async fn check_current(&mut self, relation: &Relation, rows: &RecordBatch) -> Result<()> {
        let rows = self.of_others(relation.id, rows);
        if rows.is_empty() {
            return Ok(());
        }
        self.core.ask(|reply| Request::CheckThere { relation: relation.id, rows, reply }).await
    }

    /// Rows without those that the transaction itself has made.
    pub(super) fn of_others(&self, relation: RelationId, rows: &RecordBatch) -> Vec<RecordBatch> {
        let own = self.transaction.as_ref().and_then(|t| t.writes.changes.get(&relation));
        let own = own.filter(|own| !own.is_empty() && rows.num_rows() > 0);
        let Some(own) = own else { return if rows.num_rows() > 0 { vec![rows.clone()] } else { Vec::new() } };
        let with = |delta: &Delta, is: fn(i64) -> bool| -> Vec<u32> {
            (0..delta.len()).filter(|&row| is(delta.weight(row))).map(|row| row as u32).collect()
        };
        let mut all = vec![Delta::inserts(rows.clone())];
        all.extend(own.iter().map(|delta| Delta::retractions(take(&delta.rows, &with(delta, |weight| weight > 0)))));
        all.retain(|delta| !delta.is_empty());
        let net = consolidate(&all);
        let others = net.iter().map(|delta| take(&delta.rows, &with(delta, |weight| weight > 0)));
        others.filter(|rows| rows.num_rows() > 0).collect()
    }

    /// Makes ready for running a statement again that others were in the way of; the error where that is of no use.
    pub(super) async fn after_conflict(&mut self, error: Error) -> Result<()> {
        if let Some(blocker) = self.contention.blocked.take() {
            self.wait_for(blocker).await?;
            // Most likely it has changed what was read. Where the snapshot stays, the rows are looked at.
            self.move_on().await?;
            return Ok(());
        }
        match self.transaction.is_none() || self.move_on().await? {
            true => Ok(()),
            false => Err(error),
        }
    }

    async fn wait_for(&mut self, blocker: Blocker) -> Result<()> {
        let core = self.core.clone();
        let me = self.transaction.as_ref().and_then(|t| t.locks.as_ref()).map(|locks| locks.holder);
        let _waiting = me.map(|me| core.row_locks.wait(me, blocker.holder)).transpose()?;
        let timeout = self.settings.lock_timeout();
        let (holder, relation) = (blocker.holder, blocker.relation);
        let ended = tokio::time::timeout(timeout.unwrap_or(PATIENCE), blocker.ended());
        match core.waits.during(self.waiter(), Reason::Lock, Some(relation), ended).await {
            Ok(()) => Ok(()),
            Err(_) if timeout.is_some() => Err(Error::new("55P03", "canceling statement due to lock timeout")),
            Err(_) => {
                self.contention.ignored.push(holder);
                Ok(())
            }
        }
    }

    /// Gives the transaction a snapshot of now. `false`, and nothing has changed, where what its statements before this one
    /// have read is another there.
    async fn move_on(&mut self) -> Result<bool> {
        let core = self.core.clone();
        let Some(transaction) = &mut self.transaction else { return Ok(true) };
        transaction.forget_reads();
        let Some(now) = transaction.reads_now(&core).await? else { return Ok(false) };
        transaction.leave_snapshot();
        if let Some((snapshot, pins)) = now {
            transaction.epoch = Some(snapshot.epoch);
            transaction.known = core.catalog().relations.keys().copied().collect();
            transaction.pictures = snapshot.relations;
            transaction.pins = pins;
        }
        Ok(true)
    }
}

impl Transaction {
    /// What its settled statements have read, as of now; `None` where that is another than they have read. Nothing is as of now
    /// where they have read nothing.
    async fn reads_now(&self, core: &Arc<Core>) -> Result<Option<Option<(Snapshot, Pins)>>> {
        let Some(before) = self.epoch else { return Ok(Some(None)) };
        let catalog = core.catalog();
        let ids: Vec<RelationId> = self.reads.relations().collect();
        let Some(relations) = ids.iter().map(|id| catalog.get(*id).cloned()).collect::<Option<Vec<_>>>() else {
            return Ok(None);
        };
        if relations.is_empty() {
            return Ok(Some(None));
        }
        let (snapshot, pins) = Snapshot::take_and_pin(core, &relations).await?;
        for relation in &relations {
            let readers = match relation.kind {
                RelationKind::Table => core.table(relation.id).into_iter().collect(),
                RelationKind::MaterializedView => core.view(relation.id).map(|v| v.readers()).unwrap_or_default(),
                _ => {
                    let mut rows = core.store.stream_rows(relation.id, before, snapshot.epoch, None).following();
                    if rows.next().is_some() {
                        return Ok(None);
                    }
                    continue;
                }
            };
            for reader in readers {
                let pin = self.pins.iter().find(|pin| Arc::ptr_eq(pin.reader(), &reader));
                // Made anew meanwhile.
                let Some(pin) = pin else { return Ok(None) };
                if self.reads.may_see_since(relation.id, pin, snapshot.epoch)? {
                    return Ok(None);
                }
            }
        }
        Ok(Some(Some((snapshot, pins))))
    }

    /// Before a SERIALIZABLE transaction is committed: 40001 where others have changed what it has read. Then it is as if all of
    /// it had happened now, after all that has been committed and what those do that have looked before and are still at it. The
    /// lock that comes back is held until its own changes are on their way, so that they come after those.
    pub(super) async fn check_serializable(&mut self, core: &Arc<Core>, writes: &Writes) -> Result<Looked> {
        self.settle_reads();
        loop {
            let mut committing = core.serializable.clone().lock_owned().await;
            committing.retain(|other| other.ended.try_lock().is_err());
            let mut awaited = None;
            for other in committing.iter() {
                if self.may_have_read(core, other)? {
                    awaited = Some(other.ended.clone());
                    break;
                }
            }
            if let Some(ended) = awaited {
                drop(committing);
                drop(ended.lock().await);
                continue;
            }
            if self.reads_now(core).await?.is_none() {
                let message = "could not serialize access due to read/write dependencies among transactions";
                return Err(Error::new("40001", message).hint("The transaction might succeed if retried."));
            }
            let ended = Arc::new(tokio::sync::Mutex::new(()));
            let until_it_ends = ended.clone().try_lock_owned().expect("nobody else has it yet");
            committing.push(Committing { changes: writes.changes.clone(), ended });
            return Ok(Looked { committing, until_it_ends });
        }
    }

    /// Whether what another transaction is about to commit may be of what this one has read.
    fn may_have_read(&self, core: &Core, other: &Committing) -> Result<bool> {
        let catalog = core.catalog();
        for id in self.reads.relations() {
            // What a view will have then nobody knows before.
            if catalog.get(id).is_none_or(|relation| relation.kind != RelationKind::Table) {
                return Ok(true);
            }
            for delta in other.changes.get(&id).into_iter().flatten() {
                if self.reads.may_see(id, delta)? {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }
}

/// That nobody has changed what a transaction has read.
pub(super) struct Looked {
    /// Until its changes are on their way.
    pub committing: tokio::sync::OwnedMutexGuard<Vec<Committing>>,
    /// Until they have come about, or not.
    pub until_it_ends: tokio::sync::OwnedMutexGuard<()>,
}

/// Plain INSERTs of more rows lock none: a load is not a place to meet.
const INSERTED_MAX: usize = 1000;
