//! Who is connected, and how to stop what they run.
//!
//! A CancelRequest comes on a connection of its own, with the process id and the secret that its session was
//! given. It reaches the statement through the engine's handle, and the rows that are being sent through
//! [`Running::cancelled`]: a stream that no longer asks the engine anything ends too. Between statements a
//! request does nothing, as in Postgres.

use std::collections::HashMap;
use std::io::Read;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use millrace_engine::session::CancelHandle;
use millrace_engine::{Error, Result};
use tokio::sync::Notify;

/// One session's statement under way.
pub struct Running {
    handle: CancelHandle,
    is_running: AtomicBool,
    is_cancelled: AtomicBool,
    is_terminated: AtomicBool,
    wake: Notify,
}

impl Running {
    fn new(handle: CancelHandle) -> Running {
        Running {
            handle,
            is_running: AtomicBool::new(false),
            is_cancelled: AtomicBool::new(false),
            is_terminated: AtomicBool::new(false),
            wake: Notify::new(),
        }
    }
    pub fn begin(&self) {
        self.is_cancelled.store(false, Ordering::SeqCst);
        self.is_running.store(true, Ordering::SeqCst);
    }
    pub fn end(&self) {
        self.is_running.store(false, Ordering::SeqCst);
    }
    pub fn cancel(&self) {
        if self.is_running.load(Ordering::SeqCst) {
            self.is_cancelled.store(true, Ordering::SeqCst);
            self.handle.cancel();
            self.wake.notify_one();
        }
    }
    /// Ends the engine's part without marking the statement as cancelled by the user.
    pub fn stop(&self) {
        self.handle.cancel();
    }
    pub fn was_cancelled(&self) -> bool {
        self.is_cancelled.load(Ordering::SeqCst)
    }
    /// Returns once the statement is cancelled.
    pub async fn cancelled(&self) {
        while !self.was_cancelled() {
            self.wake.notified().await;
        }
    }
    /// Returns once the session is to end.
    pub async fn terminated(&self) {
        while !self.is_terminated.load(Ordering::SeqCst) {
            self.wake.notified().await;
        }
    }
    pub fn was_terminated(&self) -> bool {
        self.is_terminated.load(Ordering::SeqCst)
    }
}

struct Entry {
    secret: [u8; 4],
    running: Arc<Running>,
}

/// All sessions, by process id.
#[derive(Default)]
pub struct Sessions {
    entries: Mutex<HashMap<i32, Entry>>,
}

/// A session's place among them; it is given up when this is dropped.
pub struct Registration {
    shared: Arc<super::Shared>,
    pub pid: i32,
    pub secret: [u8; 4],
    pub running: Arc<Running>,
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.shared.sessions.entries().remove(&self.pid);
        metrics::gauge!("millrace_connections").decrement(1);
    }
}

impl Sessions {
    fn entries(&self) -> std::sync::MutexGuard<'_, HashMap<i32, Entry>> {
        self.entries.lock().expect("nothing panics while it is held")
    }
    pub fn len(&self) -> usize {
        self.entries().len()
    }
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Refuses with 53300 when all places are taken.
    pub fn register(shared: &Arc<super::Shared>, pid: i32, handle: CancelHandle) -> Result<Registration> {
        let mut secret = [0u8; 4];
        std::fs::File::open("/dev/urandom").and_then(|mut f| f.read_exact(&mut secret))?;
        let running = Arc::new(Running::new(handle));
        let mut entries = shared.sessions.entries();
        if entries.len() >= shared.limits.connections_max {
            return Err(Error::new("53300", "sorry, too many clients already")
                .hint(format!("The limit is {} connections (max_connections).", shared.limits.connections_max)));
        }
        entries.insert(pid, Entry { secret, running: running.clone() });
        metrics::gauge!("millrace_connections").increment(1);
        Ok(Registration { shared: shared.clone(), pid, secret, running })
    }

    /// A CancelRequest; a wrong secret is ignored, so that nothing can be learned from it.
    pub fn cancel_request(&self, pid: i32, secret: &[u8]) {
        let running = self.entries().get(&pid).filter(|e| e.secret == secret).map(|e| e.running.clone());
        match running {
            Some(running) => running.cancel(),
            None => tracing::info!(pid, "cancel request with a wrong key"),
        }
    }

    /// pg_cancel_backend: whether there is such a session.
    pub fn cancel(&self, pid: i32) -> bool {
        let running = self.entries().get(&pid).map(|e| e.running.clone());
        running.map(|r| r.cancel()).is_some()
    }

    /// pg_terminate_backend: whether there is such a session.
    pub fn terminate(&self, pid: i32) -> bool {
        let running = self.entries().get(&pid).map(|e| e.running.clone());
        let Some(running) = running else { return false };
        running.is_terminated.store(true, Ordering::SeqCst);
        running.cancel();
        running.wake.notify_one();
        true
    }

    pub fn cancel_all(&self) {
        let all: Vec<Arc<Running>> = self.entries().values().map(|e| e.running.clone()).collect();
        all.iter().for_each(|r| r.cancel());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_a_running_statement_is_cancelled() {
        let running = Running::new(CancelHandle::default());
        running.cancel();
        assert!(!running.was_cancelled());
        running.begin();
        running.cancel();
        running.cancelled().await;
        running.end();
        running.begin();
        assert!(!running.was_cancelled(), "the next statement starts afresh");
    }
}
