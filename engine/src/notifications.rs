//! NOTIFY: short texts from one session to all that LISTEN to a channel, when its transaction has committed.
//!
//! ```text
//!   session 7   LISTEN jobs
//!   session 8   BEGIN; INSERT …; NOTIFY jobs, '42'; COMMIT      7 is told jobs, 42, from 8, once the row is there to be seen
//! ```
//!
//! Each listener has a mailbox, which its session empties between transactions. All mailboxes get what is sent in one order.
//! They are in memory, and end with the process: who connects again has missed what came meanwhile.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex};

use tokio::sync::Notify;

use crate::error::{Error, Result};

/// Of one listener that takes nothing, and of what one transaction sends: then NOTIFY fails.
pub const MAILBOX_BYTES_MAX: usize = 16 << 20;
/// What each costs beside its texts.
const OVERHEAD_BYTES: usize = 64;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notification {
    /// Of the session that sent it.
    pub pid: i32,
    pub channel: Arc<str>,
    pub payload: Arc<str>,
}

impl Notification {
    pub fn bytes(&self) -> usize {
        OVERHEAD_BYTES + self.channel.len() + self.payload.len()
    }
}

#[derive(Default)]
struct Contents {
    channels: BTreeSet<String>,
    waiting: VecDeque<Notification>,
    bytes: usize,
}

/// What has come for a session, and what it listens to.
#[derive(Default)]
pub struct Mailbox {
    contents: Mutex<Contents>,
    came: Notify,
}

impl Mailbox {
    fn contents(&self) -> std::sync::MutexGuard<'_, Contents> {
        self.contents.lock().expect("no panic while held")
    }
    pub fn channels(&self) -> Vec<String> {
        self.contents().channels.iter().cloned().collect()
    }
    /// All that has come since the last time.
    pub fn take(&self) -> Vec<Notification> {
        let mut contents = self.contents();
        contents.bytes = 0;
        contents.waiting.drain(..).collect()
    }
    /// Returns once something is there. It may be abandoned and waited for again.
    pub async fn filled(&self) {
        loop {
            let came = self.came.notified();
            tokio::pin!(came);
            came.as_mut().enable();
            if !self.contents().waiting.is_empty() {
                return;
            }
            came.await;
        }
    }
}

/// The mailboxes of all sessions that listen, by process id.
#[derive(Default)]
pub struct Notifications(Mutex<BTreeMap<i32, Arc<Mailbox>>>);

impl Notifications {
    fn all(&self) -> std::sync::MutexGuard<'_, BTreeMap<i32, Arc<Mailbox>>> {
        self.0.lock().expect("no panic while held")
    }

    pub fn listen(&self, pid: i32, mailbox: &Arc<Mailbox>, channel: &str) {
        self.all().entry(pid).or_insert_with(|| mailbox.clone()).contents().channels.insert(channel.to_string());
    }

    /// `None`: to nothing any more. What has come stays.
    pub fn unlisten(&self, pid: i32, channel: Option<&str>) {
        let mut all = self.all();
        let Some(mailbox) = all.get(&pid) else { return };
        let none_left = {
            let channels = &mut mailbox.contents().channels;
            match channel {
                Some(channel) => drop(channels.remove(channel)),
                None => channels.clear(),
            }
            channels.is_empty()
        };
        if none_left {
            all.remove(&pid);
        }
    }

    pub fn send(&self, notifications: &[Notification]) {
        let all = self.all();
        for mailbox in all.values() {
            let mut contents = mailbox.contents();
            for sent in notifications {
                if contents.channels.contains(sent.channel.as_ref()) {
                    contents.bytes += sent.bytes();
                    contents.waiting.push_back(sent.clone());
                }
            }
            drop(contents);
            mailbox.came.notify_waiters();
        }
    }

    /// Fails while one who listens to the channel has too much that he has not taken.
    pub fn check_room(&self, channel: &str) -> Result<()> {
        let full = |mailbox: &Arc<Mailbox>| {
            let contents = mailbox.contents();
            contents.bytes >= MAILBOX_BYTES_MAX && contents.channels.contains(channel)
        };
        if self.all().values().any(full) { Err(too_many()) } else { Ok(()) }
    }
}

pub fn too_many() -> Error {
    Error::new("54000", "too many notifications in the NOTIFY queue")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(channel: &str, payload: &str) -> Notification {
        Notification { pid: 8, channel: channel.into(), payload: payload.into() }
    }

    #[test]
    fn who_listens_is_told() {
        let all = Notifications::default();
        let (one, two) = (Arc::new(Mailbox::default()), Arc::new(Mailbox::default()));
        all.listen(1, &one, "a");
        all.listen(2, &two, "b");
        all.listen(2, &two, "a");
        all.send(&[sent("a", "x"), sent("b", "y"), sent("c", "z")]);
        assert_eq!(one.take(), [sent("a", "x")]);
        assert_eq!(two.take(), [sent("a", "x"), sent("b", "y")]);
        all.unlisten(2, Some("a"));
        assert_eq!(two.channels(), ["b"]);
        all.unlisten(2, None);
        all.send(&[sent("a", "x"), sent("b", "y")]);
        assert_eq!((one.take().len(), two.take().len()), (1, 0));
    }

    #[test]
    fn a_full_mailbox_refuses_more() {
        let all = Notifications::default();
        let one = Arc::new(Mailbox::default());
        all.listen(1, &one, "a");
        let long = sent("a", &"x".repeat(7000));
        for _ in 0..MAILBOX_BYTES_MAX / long.bytes() + 1 {
            assert!(all.check_room("a").is_ok());
            all.send(std::slice::from_ref(&long));
        }
        assert_eq!(all.check_room("a").unwrap_err().code, "54000");
        assert!(all.check_room("b").is_ok());
        one.take();
        assert!(all.check_room("a").is_ok());
    }

    #[tokio::test]
    async fn waiting_ends_when_something_comes() {
        let all = Arc::new(Notifications::default());
        let one = Arc::new(Mailbox::default());
        all.listen(1, &one, "a");
        let waits = tokio::spawn({
            let one = one.clone();
            async move { one.filled().await }
        });
        tokio::task::yield_now().await;
        all.send(&[sent("a", "x")]);
        waits.await.unwrap();
    }
}
