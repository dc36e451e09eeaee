//! What the commit path, the sessions and the sources of one engine share.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::{AtomicI32, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, RwLock};

use tokio::sync::mpsc;

use crate::advisory::AdvisoryLocks;
use crate::backup::Backups;
use crate::catalog::{Catalog, RelationId};
use crate::commit::{Committing, Request};
use crate::cuts::Cuts;
use crate::dataflow::status::ViewStatus;
use crate::dataflow::worker::Progress;
use crate::error::{Error, Result};
use crate::memory::QueryMemory;
use crate::notifications::Notifications;
use crate::past::Past;
use crate::row_locks::RowLocks;
use crate::sequences::Sequences;
use crate::sql::system::SystemCatalog;
use crate::state::arrangement::Shared;
use crate::state::store::Store;
use crate::subscriptions::Subscriptions;
use crate::time::EpochHeader;
use crate::waits::Waits;

pub struct Core {
    pub store: Arc<Store>,
    catalog: RwLock<Arc<Catalog>>,
    /// The tables' rows.
    pub tables: RwLock<HashMap<RelationId, Arc<Shared>>>,
    pub views: RwLock<BTreeMap<RelationId, Arc<ViewStatus>>>,
    pub progress: Arc<Progress>,
    pub cuts: Cuts,
    /// The last epoch that is logged and synced.
    pub committed: AtomicU64,
    /// Its header.
    header: RwLock<Arc<EpochHeader>>,
    /// For tests: what the clock says, once it is not 0.
    test_clock: Option<Arc<AtomicI64>>,
    pub requests: mpsc::Sender<Request>,
    /// For each view the streams and tables that it rests on.
    bases: RwLock<BTreeMap<RelationId, BTreeSet<RelationId>>>,
    /// Views under construction, with what they read: those cannot be dropped.
    pub creating: Mutex<BTreeMap<RelationId, Vec<RelationId>>>,
    /// Held by UPDATE, DELETE and ON CONFLICT from reading to commit, so that they do not fail one another.
    locks: Mutex<HashMap<RelationId, Arc<tokio::sync::Mutex<()>>>>,
    /// Tables whose rows are being written anew: what only inserts waits for their locks too.
    altering: Mutex<BTreeSet<RelationId>>,
    /// Rows that open transactions have changed or locked.
    pub row_locks: RowLocks,
    /// Locked by a SERIALIZABLE transaction while it looks whether what it has read is still so: those that have looked, and
    /// are being committed.
    pub serializable: Arc<tokio::sync::Mutex<Vec<Committing>>>,
    failure: RwLock<Option<Error>>,
    /// Numbers for columns that count their rows.
    pub sequences: Sequences,
    /// How much of the past is kept.
    pub past: Past,
    /// Backups to object stores, under way and ended.
    pub backups: Backups,
    /// Sessions that are open, by process id: user, database.
    pub sessions: Mutex<BTreeMap<i32, (String, String)>>,
    /// Locks that sessions hold by agreement.
    pub advisory: AdvisoryLocks,
    /// What sessions tell one another.
    pub notifications: Notifications,
    /// Subscriptions under way.
    pub subscriptions: Arc<Subscriptions>,
    /// Who waits for what.
    pub waits: Waits,
    pub next_pid: AtomicI32,
    pub system: RwLock<Option<Arc<dyn SystemCatalog>>>,
    /// What ad-hoc queries may take.
    pub memory: QueryMemory,
    pub workers: usize,
}

impl Core {
    pub fn new(
        store: Arc<Store>,
        catalog: Catalog,
        progress: Arc<Progress>,
        header: Arc<EpochHeader>,
        requests: mpsc::Sender<Request>,
        workers: usize,
        test_clock: Option<Arc<AtomicI64>>,
        memory: QueryMemory,
    ) -> Self {
        crate::sql::enums::know(&catalog);
        Core {
            store,
            catalog: RwLock::new(Arc::new(catalog)),
            tables: RwLock::default(),
            views: RwLock::default(),
            progress,
            cuts: Cuts::default(),
            committed: AtomicU64::new(header.epoch),
            header: RwLock::new(header),
            test_clock,
            requests,
            bases: RwLock::default(),
            creating: Mutex::default(),
            locks: Mutex::default(),
            altering: Mutex::default(),
            row_locks: RowLocks::default(),
            serializable: Arc::default(),
            failure: RwLock::new(None),
            sequences: Sequences::default(),
            past: Past::default(),
            backups: Backups::default(),
            sessions: Mutex::default(),
            advisory: AdvisoryLocks::default(),
            notifications: Notifications::default(),
            subscriptions: Arc::default(),
            waits: Waits::default(),
            next_pid: AtomicI32::new(1),
            system: RwLock::new(None),
            memory,
            workers,
        }
    }

    pub fn catalog(&self) -> Arc<Catalog> {
        self.catalog.read().expect("no panic while held").clone()
    }
    pub fn set_catalog(&self, catalog: Arc<Catalog>) {
        crate::sql::enums::know(&catalog);
        *self.catalog.write().expect("no panic while held") = catalog;
    }
    pub fn table(&self, id: RelationId) -> Option<Arc<Shared>> {
        self.tables.read().expect("no panic while held").get(&id).cloned()
    }
    pub fn view(&self, id: RelationId) -> Option<Arc<ViewStatus>> {
        self.views.read().expect("no panic while held").get(&id).cloned()
    }
    pub fn bases_of(&self, id: RelationId) -> BTreeSet<RelationId> {
        self.bases.read().expect("no panic while held").get(&id).cloned().unwrap_or_default()
    }
    pub fn set_bases(&self, id: RelationId, bases: BTreeSet<RelationId>) {
        self.bases.write().expect("no panic while held").insert(id, bases);
    }
    pub fn lock_of(&self, id: RelationId) -> Arc<tokio::sync::Mutex<()>> {
        self.locks.lock().expect("no panic while held").entry(id).or_default().clone()
    }
    pub fn is_altering(&self, id: RelationId) -> bool {
        self.altering.lock().expect("no panic while held").contains(&id)
    }
    /// From here on until what is returned is dropped.
    pub fn begin_altering(self: &Arc<Self>, id: RelationId) -> Altering {
        self.altering.lock().expect("no panic while held").insert(id);
        Altering { core: self.clone(), id }
    }
    /// Set when the log or a checkpoint could not be written: no more writes are taken.
    pub fn failure(&self) -> Option<Error> {
        self.failure.read().expect("no panic while held").clone()
    }
    pub fn fail(&self, error: Error) {
        self.failure.write().expect("no panic while held").get_or_insert(error);
    }
    /// The header of the last committed epoch.
    pub fn header(&self) -> Arc<EpochHeader> {
        self.header.read().expect("no panic while held").clone()
    }
    /// The same, where views are to be read as of the end of that epoch.
    pub fn header_to_read(&self) -> Arc<EpochHeader> {
        self.cuts.at_last(|| self.header())
    }
    /// This epoch is logged and synced: it may be seen.
    pub fn set_committed(&self, header: Arc<EpochHeader>) {
        let epoch = header.epoch;
        *self.header.write().expect("no panic while held") = header;
        self.committed.store(epoch, Ordering::Release);
    }
    /// A view is no longer held responsible for the end of an earlier process.
    pub fn absolve(&self, id: RelationId) {
        if let Err(error) = self.store.absolve(id) {
            tracing::warn!(%error, id, "the note of a suspended view could not be changed");
        }
    }
    /// The one place where the engine reads the clock: microseconds since 1970-01-01 UTC.
    pub fn clock_us(&self) -> i64 {
        let driven = self.test_clock.as_ref().map_or(0, |clock| clock.load(Ordering::Acquire));
        if driven != 0 { driven } else { chrono::Utc::now().timestamp_micros() }
    }
    /// Stops the clock at this time. Error: the engine was not opened for tests.
    pub fn set_clock(&self, now_us: i64) -> Result<()> {
        let refused =
            || Error::unsupported("SET CLOCK").hint("Only an engine that was opened for tests has such a clock.");
        self.test_clock.as_ref().ok_or_else(refused)?.store(now_us, Ordering::Release);
        Ok(())
    }
    pub async fn send(&self, request: Request) -> Result<()> {
        self.requests.send(request).await.map_err(|_| stopped())
    }
    /// Sends a request and waits for its answer.
    pub async fn ask<T>(&self, request: impl FnOnce(crate::commit::Reply<T>) -> Request) -> Result<T> {
        let (reply, answer) = tokio::sync::oneshot::channel();
        self.send(request(reply)).await?;
        answer.await.map_err(|_| stopped())?
    }
}

/// A table's rows are being written anew.
pub struct Altering {
    core: Arc<Core>,
    id: RelationId,
}

impl Drop for Altering {
    fn drop(&mut self) {
        self.core.altering.lock().expect("no panic while held").remove(&self.id);
    }
}

pub fn stopped() -> Error {
    Error::new("57P01", "the engine has been stopped")
}
