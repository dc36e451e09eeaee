//! Cancelling a statement, by the client or by time.

use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use datafusion::execution::memory_pool::MemoryPool;
use futures::StreamExt;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::RowStream;
use crate::error::{Error, Result};
use crate::sql::bounds::Bounds;

/// Cancels the statement that its session is running, if any. Cheap to clone, usable from any thread.
#[derive(Clone, Default)]
pub struct CancelHandle(Arc<Inner>);

impl std::fmt::Debug for CancelHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "CancelHandle")
    }
}

fn by_user() -> Error {
    Error::canceled("canceling statement due to user request")
}
fn by_time() -> Error {
    Error::canceled("canceling statement due to statement timeout")
}

#[derive(Default)]
struct Inner {
    cancelled: AtomicBool,
    /// The statement's effect can no longer be stopped.
    too_late: AtomicBool,
    changed: Notify,
    deadline: Mutex<Option<Instant>>,
}

impl CancelHandle {
    pub fn cancel(&self) {
        self.0.cancelled.store(true, Ordering::Release);
        self.0.changed.notify_waiters();
    }
    /// A new statement begins.
    pub(super) fn reset(&self, deadline: Option<Instant>) {
        *self.0.deadline.lock().expect("no panic while held") = deadline;
        self.0.too_late.store(false, Ordering::Release);
        self.0.cancelled.store(false, Ordering::Release);
    }
    /// Until the next statement nothing is cancelled any more, neither by the client nor by time.
    pub(super) fn too_late(&self) {
        self.0.too_late.store(true, Ordering::Release);
    }
    async fn cancelled(&self) {
        loop {
            let changed = self.0.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if self.0.cancelled.load(Ordering::Acquire) {
                return self.unless_too_late().await;
            }
            changed.await;
        }
    }
    async fn timed_out(&self, deadline: Option<Instant>) {
        match deadline {
            Some(at) => tokio::time::sleep_until(at).await,
            None => std::future::pending().await,
        }
        self.unless_too_late().await
    }
    async fn unless_too_late(&self) {
        if self.0.too_late.load(Ordering::Acquire) {
            std::future::pending().await
        }
    }

    /// For what computes without waiting: whether it is to end.
    pub(super) fn check(&self) -> Result<()> {
        if self.0.too_late.load(Ordering::Acquire) {
            return Ok(());
        }
        if self.0.cancelled.load(Ordering::Acquire) {
            return Err(by_user());
        }
        let deadline = *self.0.deadline.lock().expect("no panic while held");
        if deadline.is_some_and(|at| at < Instant::now()) { Err(by_time()) } else { Ok(()) }
    }

    /// For what works for the statement without knowing of it.
    pub(super) fn bounds(&self, memory: Arc<dyn MemoryPool>) -> Bounds {
        let handle = self.clone();
        Bounds { ask: Arc::new(move || handle.check()), memory }
    }

    /// Runs until it ends, is cancelled, or its time is up.
    pub(super) async fn run<T>(&self, deadline: Option<Instant>, work: impl Future<Output = Result<T>>) -> Result<T> {
        tokio::select! {
            biased;
            () = self.cancelled() => Err(by_user()),
            () = self.timed_out(deadline) => Err(by_time()),
            result = work => result,
        }
    }

    /// The same for each step of a stream.
    pub(super) fn guard(&self, deadline: Option<Instant>, rows: RowStream) -> RowStream {
        let handle = self.clone();
        Box::pin(futures::stream::unfold(Some(rows), move |rows| {
            let handle = handle.clone();
            async move {
                let mut rows = rows?;
                match handle.run(deadline, async { Ok(rows.next().await) }).await {
                    Ok(None) => None,
                    Ok(Some(Ok(batch))) => Some((Ok(batch), Some(rows))),
                    Ok(Some(Err(error))) | Err(error) => Some((Err(error), None)),
                }
            }
        }))
    }
}

pub(super) fn deadline(timeout: Option<Duration>) -> Option<Instant> {
    timeout.map(|t| Instant::now() + t)
}
