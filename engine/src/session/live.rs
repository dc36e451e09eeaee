//! What a session's functions see of the session and the server while a statement runs, and what
//! set_config() asks of it: that is applied before the session's next statement, since the rows of this
//! one are still being made.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use super::Session;
use super::numbers::{SharedSeen, next_after, next_numbers, set_next};
use super::settings::Settings;
use super::settling::Settling;
use crate::advisory::{ListedLock, LockMode, LockName};
use crate::blocking::wait_for;
use crate::catalog::{Identity, RelationId};
use crate::core::Core;
use crate::error::Result;
use crate::sql::system::{Live, RelationSize, SessionInfo};

/// Name, value, local: in the order of the calls.
pub type AskedSettings = Arc<Mutex<Vec<(String, Option<String>, bool)>>>;

pub struct SessionLive {
    core: Arc<Core>,
    own: SessionInfo,
    settings: Settings,
    asked: AskedSettings,
    seen: SharedSeen,
    settling: Arc<Settling>,
    sizes: Mutex<HashMap<RelationId, Option<RelationSize>>>,
}

impl SessionLive {
    pub fn new(session: &Session) -> SessionLive {
        SessionLive {
            core: session.core.clone(),
            own: SessionInfo {
                pid: session.pid,
                user: session.user.clone(),
                database: session.database.clone(),
                application_name: session.settings.value("application_name").to_string(),
                client_address: None,
                started_us: None,
                transaction_started_us: None,
                statement_started_us: None,
                state_changed_us: None,
                state: "active",
                statement: String::new(),
            },
            settings: session.settings.clone(),
            asked: session.asked_settings.clone(),
            seen: session.seen_numbers.clone(),
            settling: session.settling.clone(),
            sizes: Mutex::default(),
        }
    }
}

impl Live for SessionLive {
    fn sessions(&self) -> Vec<SessionInfo> {
        vec![self.own.clone()]
    }

    fn size(&self, relation: RelationId) -> Option<RelationSize> {
        let count = || {
            let table = self.core.tables.read().expect("no panic while held").get(&relation).cloned();
            let rows = match table {
                Some(table) => table.live_rows(),
                None => self.core.view(relation)?.readers().iter().map(|r| r.live_rows()).sum(),
            };
            Some(RelationSize { rows, bytes: 0 })
        };
        *self.sizes.lock().expect("no panic while held").entry(relation).or_insert_with(count)
    }

    fn set_config(&self, name: &str, value: Option<&str>, local: bool) -> Result<String> {
        let mut settings = self.settings.clone();
        settings.set(name, value)?;
        self.asked.lock().expect("no panic while held").push((name.to_string(), value.map(str::to_string), local));
        settings.get(name).map(str::to_string)
    }

    // A function cannot wait as a statement does. The commit thread answers without the help of this runtime, so
    // blocking the thread for as long as it takes to log an epoch holds nothing up but what else runs on it.
    fn next_number(&self, sequence: &Identity) -> Result<i64> {
        let next = next_numbers(&self.core, sequence, 1);
        let number = wait_for(next)?[0];
        self.seen.lock().expect("no panic while held").note(sequence.id, number);
        Ok(number)
    }

    fn set_number(&self, sequence: &Identity, value: i64, called: bool) -> Result<()> {
        let next = next_after(sequence, value, called)?;
        wait_for(set_next(&self.core, sequence.id, next))?;
        if called {
            self.seen.lock().expect("no panic while held").note(sequence.id, value);
        }
        Ok(())
    }

    fn seen_number(&self, sequence: Option<RelationId>) -> Option<i64> {
        let seen = self.seen.lock().expect("no panic while held");
        match sequence {
            Some(id) => seen.of(id),
            None => seen.last(),
        }
    }

    fn last_number(&self, sequence: &Identity) -> Option<i64> {
        self.core.sequences.last(sequence)
    }

    fn lock(&self, name: LockName, mode: LockMode, transaction: bool) -> Result<()> {
        let until = self.settings.lock_timeout().map(|timeout| std::time::Instant::now() + timeout);
        self.settling.lock(name, mode, transaction, until)
    }

    fn try_lock(&self, name: LockName, mode: LockMode, transaction: bool) -> Result<bool> {
        Ok(self.settling.try_lock(name, mode, transaction))
    }

    fn unlock(&self, name: LockName, mode: LockMode) -> Result<bool> {
        Ok(self.settling.unlock(name, mode))
    }

    fn unlock_all(&self) {
        self.settling.unlock_all();
    }

    fn locks(&self) -> Vec<ListedLock> {
        self.core.advisory.list()
    }

    fn notify(&self, channel: &str, payload: &str) -> Result<()> {
        self.settling.notify(channel, payload)
    }

    fn listening(&self) -> Vec<String> {
        self.settling.mailbox().channels()
    }
}

impl Session {
    pub(super) fn apply_asked_settings(&mut self) -> Result<()> {
        let asked = std::mem::take(&mut *self.asked_settings.lock().expect("no panic while held"));
        for (name, value, local) in asked {
            // Outside a transaction a local setting ends with the statement that asked for it.
            if !local || self.transaction.is_some() {
                self.set(local, &[(name, value)])?;
            }
        }
        Ok(())
    }
}
