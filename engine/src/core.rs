//! What the commit path, the sessions and the sources of one engine share.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::{AtomicI32, AtomicU64};
use std::sync::{Arc, Mutex, RwLock};

use tokio::sync::mpsc;

use crate::catalog::{Catalog, RelationId};
use crate::commit::Request;
use crate::dataflow::view::ViewStatus;
use crate::dataflow::worker::Progress;
use crate::error::{Error, Result};
use crate::past::Past;
use crate::sql::system::SystemCatalog;
use crate::state::arrangement::Shared;
use crate::state::store::Store;
use crate::time::Epoch;

pub struct Core {
    pub store: Arc<Store>,
    catalog: RwLock<Arc<Catalog>>,
    /// The tables' rows.
    pub tables: RwLock<HashMap<RelationId, Arc<Shared>>>,
    pub views: RwLock<BTreeMap<RelationId, Arc<ViewStatus>>>,
    pub progress: Arc<Progress>,
    /// The last epoch that is logged and synced.
    pub committed: AtomicU64,
    pub requests: mpsc::Sender<Request>,
    /// For each view the streams and tables that it rests on.
    bases: RwLock<BTreeMap<RelationId, BTreeSet<RelationId>>>,
    /// Views under construction, with what they read: those cannot be dropped.
    pub creating: Mutex<BTreeMap<RelationId, Vec<RelationId>>>,
    /// Held by UPDATE, DELETE and ON CONFLICT from reading to commit, so that they do not fail one another.
    locks: Mutex<HashMap<RelationId, Arc<tokio::sync::Mutex<()>>>>,
    failure: RwLock<Option<Error>>,
    /// How much of the past is kept.
    pub past: Past,
    pub next_pid: AtomicI32,
    pub system: RwLock<Option<Arc<dyn SystemCatalog>>>,
    pub workers: usize,
}

impl Core {
    pub fn new(
        store: Arc<Store>,
        catalog: Catalog,
        progress: Arc<Progress>,
        committed: Epoch,
        requests: mpsc::Sender<Request>,
        workers: usize,
    ) -> Self {
        Core {
            store,
            catalog: RwLock::new(Arc::new(catalog)),
            tables: RwLock::default(),
            views: RwLock::default(),
            progress,
            committed: AtomicU64::new(committed),
            requests,
            bases: RwLock::default(),
            creating: Mutex::default(),
            locks: Mutex::default(),
            failure: RwLock::new(None),
            past: Past::default(),
            next_pid: AtomicI32::new(1),
            system: RwLock::new(None),
            workers,
        }
    }

    pub fn catalog(&self) -> Arc<Catalog> {
        self.catalog.read().expect("no panic while held").clone()
    }
    pub fn set_catalog(&self, catalog: Arc<Catalog>) {
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
    /// Set when the log or a checkpoint could not be written: no more writes are taken.
    pub fn failure(&self) -> Option<Error> {
        self.failure.read().expect("no panic while held").clone()
    }
    pub fn fail(&self, error: Error) {
        self.failure.write().expect("no panic while held").get_or_insert(error);
    }
    /// The one place where the engine reads the clock: microseconds since 1970-01-01 UTC.
    pub fn clock_us(&self) -> i64 {
        chrono::Utc::now().timestamp_micros()
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

pub fn stopped() -> Error {
    Error::new("57P01", "the engine has been stopped")
}
