//! What a session has with other sessions: advisory locks that it holds, and what it will tell and hear of by NOTIFY and
//! LISTEN. Each of these is its own at once or from COMMIT on, and goes back with savepoints as rows do.
//!
//! ```text
//!   BEGIN;  SELECT pg_advisory_xact_lock(1);  LISTEN a;
//!           SAVEPOINT s;  SELECT pg_advisory_xact_lock(2);  NOTIFY a, 'x';
//!           ROLLBACK TO s;                    2 is free, x will not be sent
//!   COMMIT                                    1 is free, and the session listens to a
//! ```
//!
//! Outside a transaction a statement is one: it has ended when the next one begins, or the server says so by
//! [`Session::settle`]. Functions ask for these things while rows are made, so they are behind a mutex.

use std::sync::{Arc, Mutex};
use std::time::Instant;

use super::{Notice, Session};
use crate::advisory::{LockMode, LockName};
use crate::core::Core;
use crate::error::{Error, Result};
use crate::notifications::{MAILBOX_BYTES_MAX, Mailbox, Notification, too_many};
use crate::sql::bounds;
use crate::waits::{Reason, Waiter};

/// As PostgreSQL has them, in bytes.
const CHANNEL_BYTES_MAX: usize = 63;
const PAYLOAD_BYTES_MAX: usize = 7999;

enum Listening {
    To(String),
    NoMore(Option<String>),
}

#[derive(Default)]
struct Unsettled {
    /// Held until they are released, or the session ends.
    session_locks: Vec<(LockName, LockMode)>,
    /// Held until the transaction ends.
    transaction_locks: Vec<(LockName, LockMode)>,
    notifications: Vec<Notification>,
    notification_bytes: usize,
    listening: Vec<Listening>,
    /// Savepoint, with how much of the last three there was.
    marks: Vec<(String, [usize; 3])>,
    notices: Vec<Notice>,
    /// What the transaction says has failed, if it is one statement.
    failed: bool,
}

pub struct Settling {
    core: Arc<Core>,
    pid: i32,
    mailbox: Arc<Mailbox>,
    unsettled: Mutex<Unsettled>,
}

impl Settling {
    pub fn new(core: Arc<Core>, pid: i32) -> Settling {
        Settling { core, pid, mailbox: Arc::default(), unsettled: Mutex::default() }
    }

    fn unsettled(&self) -> std::sync::MutexGuard<'_, Unsettled> {
        self.unsettled.lock().expect("no panic while held")
    }

    pub fn mailbox(&self) -> &Arc<Mailbox> {
        &self.mailbox
    }

    /// Waits for the lock on this thread; whoever else runs on it is served by another one meanwhile.
    pub fn lock(&self, name: LockName, mode: LockMode, transaction: bool, until: Option<Instant>) -> Result<()> {
        let locks = &self.core.advisory;
        if !locks.try_take(name, mode, self.pid) {
            let _shown = self.core.waits.begin(Waiter::Session(self.pid), Reason::Lock, None);
            super::patience::aside(|| locks.take(name, mode, self.pid, until, bounds::check))?;
        }
        self.note_lock(name, mode, transaction);
        Ok(())
    }

    pub fn try_lock(&self, name: LockName, mode: LockMode, transaction: bool) -> bool {
        let taken = self.core.advisory.try_take(name, mode, self.pid);
        if taken {
            self.note_lock(name, mode, transaction);
        }
        taken
    }

    fn note_lock(&self, name: LockName, mode: LockMode, transaction: bool) {
        let mut unsettled = self.unsettled();
        match transaction {
            true => unsettled.transaction_locks.push((name, mode)),
            false => unsettled.session_locks.push((name, mode)),
        }
    }

    /// Whether the session held it. Locks of the transaction are not released by this.
    pub fn unlock(&self, name: LockName, mode: LockMode) -> bool {
        let mut unsettled = self.unsettled();
        match unsettled.session_locks.iter().rposition(|lock| *lock == (name, mode)) {
            Some(at) => {
                unsettled.session_locks.remove(at);
                self.core.advisory.release(name, mode, self.pid)
            }
            None => {
                let message = format!("you don't own a lock of type {}", mode.word());
                unsettled.notices.push(Notice { severity: "WARNING", code: "01000", message });
                false
            }
        }
    }

    pub fn unlock_all(&self) {
        let locks = std::mem::take(&mut self.unsettled().session_locks);
        self.release(&locks);
    }

    fn release(&self, locks: &[(LockName, LockMode)]) {
        for (name, mode) in locks {
            self.core.advisory.release(*name, *mode, self.pid);
        }
    }

    /// To be sent when the transaction commits; what it sends already is not sent twice.
    pub fn notify(&self, channel: &str, payload: &str) -> Result<()> {
        let invalid = |message: &str| Err(Error::new("22023", message));
        if channel.is_empty() {
            return invalid("channel name cannot be empty");
        }
        if channel.len() > CHANNEL_BYTES_MAX {
            return invalid("channel name too long");
        }
        if payload.len() > PAYLOAD_BYTES_MAX {
            return invalid("payload string too long");
        }
        self.core.notifications.check_room(channel)?;
        let sent = Notification { pid: self.pid, channel: channel.into(), payload: payload.into() };
        let mut unsettled = self.unsettled();
        if unsettled.notifications.contains(&sent) {
            return Ok(());
        }
        if unsettled.notification_bytes + sent.bytes() > MAILBOX_BYTES_MAX {
            return Err(too_many());
        }
        unsettled.notification_bytes += sent.bytes();
        unsettled.notifications.push(sent);
        Ok(())
    }

    pub fn mark(&self, savepoint: &str) {
        let mut unsettled = self.unsettled();
        let lengths = [unsettled.transaction_locks.len(), unsettled.notifications.len(), unsettled.listening.len()];
        unsettled.marks.push((savepoint.to_string(), lengths));
    }

    pub fn forget_mark(&self, savepoint: &str) {
        let mut unsettled = self.unsettled();
        if let Some(at) = unsettled.marks.iter().rposition(|(name, _)| name == savepoint) {
            unsettled.marks.truncate(at);
        }
    }

    pub fn back_to_mark(&self, savepoint: &str) {
        let mut unsettled = self.unsettled();
        let Some(at) = unsettled.marks.iter().rposition(|(name, _)| name == savepoint) else { return };
        unsettled.marks.truncate(at + 1);
        let [locks, notifications, listening] = unsettled.marks[at].1;
        unsettled.listening.truncate(listening);
        unsettled.notifications.truncate(notifications);
        unsettled.notification_bytes = unsettled.notifications.iter().map(Notification::bytes).sum();
        let later = unsettled.transaction_locks.split_off(locks);
        drop(unsettled);
        self.release(&later);
    }

    /// The transaction has ended, and all others can see what it wrote.
    pub fn end(&self, committed: bool) {
        let Unsettled { session_locks, transaction_locks, notifications, listening, notices, failed, .. } =
            std::mem::take(&mut *self.unsettled());
        {
            let mut unsettled = self.unsettled();
            unsettled.session_locks = session_locks;
            unsettled.notices = notices;
        }
        if committed && !failed {
            for change in listening {
                match change {
                    Listening::To(channel) => self.core.notifications.listen(self.pid, &self.mailbox, &channel),
                    Listening::NoMore(channel) => self.core.notifications.unlisten(self.pid, channel.as_deref()),
                }
            }
            if !notifications.is_empty() {
                self.core.notifications.send(&notifications);
            }
        }
        self.release(&transaction_locks);
    }

    pub fn fail(&self) {
        self.unsettled().failed = true;
    }

    pub fn take_notices(&self) -> Vec<Notice> {
        std::mem::take(&mut self.unsettled().notices)
    }
}

impl Settling {
    /// The session has ended.
    pub fn leave(&self) {
        self.end(false);
        self.unlock_all();
        self.core.notifications.unlisten(self.pid, None);
    }
}

// Rows that are still being made may take a lock after their session has ended.
impl Drop for Settling {
    fn drop(&mut self) {
        self.leave();
    }
}

impl Session {
    /// The server calls this when it has answered a statement, or several that are one transaction. Between transactions,
    /// all that waits for the end of one comes about.
    pub fn settle(&mut self) {
        if self.transaction.is_none() {
            self.settling.end(true);
        }
    }

    /// What others have sent to the channels that this session listens to; to be read between transactions.
    pub fn mailbox(&self) -> Arc<Mailbox> {
        self.settling.mailbox().clone()
    }

    pub(super) fn listen(&mut self, channel: &str) {
        self.settling.unsettled().listening.push(Listening::To(channel.to_string()));
    }

    pub(super) fn unlisten(&mut self, channel: Option<&str>) {
        self.settling.unsettled().listening.push(Listening::NoMore(channel.map(str::to_string)));
    }
}
