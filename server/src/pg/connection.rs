//! One client's connection: messages in, answers out, until one of them leaves.
//!
//! Invariants: a simple Query and a Sync are each answered by exactly one ReadyForQuery; after an error in the
//! extended protocol everything up to the next Sync is skipped; settings that clients watch (GUC_REPORT) are
//! reported before ReadyForQuery.

use std::collections::HashMap;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures::FutureExt;
use millrace_engine::notifications::Mailbox;
use millrace_engine::session::{Session, TransactionStatus};
use millrace_engine::sql::statement::{Statement, StatementKind};
use millrace_engine::sql::text::{Style, Zone};
use millrace_engine::{Error, Result};
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::Shared;
use super::cancel::{Registration, Running};
use super::extended::{Portal, Prepared};
use super::io::{End, Io};
use super::startup::{self, Started};
use super::wire::{self, Message};

pub struct Connection {
    pub(super) io: Io,
    pub(super) session: Session,
    /// What other sessions have sent to this one.
    mailbox: Arc<Mailbox>,
    pub(super) registration: Registration,
    /// Of the extended protocol, by name; the empty name is the unnamed one.
    pub(super) statements: HashMap<String, Prepared>,
    pub(super) portals: HashMap<String, Portal>,
    /// After an error in the extended protocol: until the next Sync.
    pub(super) skipping: bool,
    /// Several Executes before one Sync are one implicit transaction.
    pub(super) in_pipeline: bool,
}

/// Why a statement gave no result.
pub enum Failure {
    Error(Error),
    End(End),
}

impl Failure {
    /// The error's position, if it has one, counted from so many characters earlier.
    pub fn moved(self, characters: usize) -> Failure {
        match self {
            Failure::Error(mut error) => {
                error.position = error.position.map(|p| p + characters);
                Failure::Error(error)
            }
            end => end,
        }
    }
}

impl From<Error> for Failure {
    fn from(e: Error) -> Failure {
        Failure::Error(e)
    }
}
impl From<End> for Failure {
    fn from(e: End) -> Failure {
        Failure::End(e)
    }
}

pub async fn serve_connection(socket: TcpStream, shared: Arc<Shared>) {
    let mut io = Io::new(socket, shared.limits.message_bytes_max);
    let end = match tokio::time::timeout(shared.limits.startup_timeout, startup::start(&mut io, &shared)).await {
        Ok(Ok(Some(Started { session, registration }))) => {
            let mut connection = Connection {
                io,
                mailbox: session.mailbox(),
                session,
                registration,
                statements: HashMap::new(),
                portals: HashMap::new(),
                skipping: false,
                in_pipeline: false,
            };
            // A statement that panics costs its client the connection, and nobody else anything.
            let end = AssertUnwindSafe(connection.run(&shared)).catch_unwind().await;
            io = connection.io;
            end.unwrap_or_else(|_| End::Fatal(Error::internal("the session failed; see the server's log")))
        }
        // A cancel request gets no answer.
        Ok(Ok(None)) | Err(_) => End::Gone,
        Ok(Err(end)) => end,
    };
    if let End::Fatal(error) = end {
        tracing::info!(code = error.code, "connection refused or ended: {error}");
        wire::put_error(&mut io.out, "FATAL", &error);
        // The client may not be reading any more.
        let _ = tokio::time::timeout(Duration::from_secs(5), io.flush()).await;
    }
    io.close().await;
}

/// What a client is told that was silent for too long.
async fn after(limit: Option<(Duration, Error)>) -> Error {
    match limit {
        Some((time, error)) => {
            tokio::time::sleep(time).await;
            error
        }
        None => std::future::pending().await,
    }
}

impl Connection {
    async fn run(&mut self, shared: &Shared) -> End {
        let mut stopping = shared.stopping.clone();
        let running = self.registration.running.clone();
        self.report_settings();
        wire::put_key_data(&mut self.io.out, self.registration.pid, &self.registration.secret);
        self.ready();
        loop {
            let silent = match self.skipping || self.in_pipeline {
                true => None,
                false => self.session.idle_limit(),
            };
            let message = tokio::select! {
                biased;
                _ = stopping.wait_for(|stop| *stop) => {
                    return End::Fatal(Error::new("57P01", "terminating connection due to administrator command"));
                }
                _ = running.terminated() => {
                    return End::Fatal(Error::new("57P01", "terminating connection due to administrator command"));
                }
                message = self.io.message() => Some(message),
                // Between transactions they are sent as they come.
                _ = self.mailbox.filled(), if self.is_idle() => None,
                error = after(silent) => return End::Fatal(error),
            };
            let result = match message {
                Some(Ok(message)) => self.handle(message).await,
                Some(Err(end)) => Err(end),
                None => {
                    self.put_notifications();
                    Ok(())
                }
            };
            if let Err(end) = result {
                return end;
            }
        }
    }

    /// Neither within a transaction nor within a series of messages that a Sync is to end.
    fn is_idle(&self) -> bool {
        let idle = self.session.transaction_status() == TransactionStatus::Idle;
        idle && !self.in_pipeline && !self.skipping
    }

    /// Answers one message. What is answered is sent when the client's next message has not come yet.
    async fn handle(&mut self, message: Result<Message>) -> Result<(), End> {
        if self.skipping {
            return match message {
                Ok(Message::Sync) => self.sync().await,
                Ok(Message::Terminate) => Err(End::Gone),
                _ => Ok(()),
            };
        }
        let result = match message {
            Ok(Message::Query(sql)) => return self.simple_query(&sql).await,
            Ok(Message::BadQuery(error)) => {
                self.fail(&error);
                self.ready();
                return Ok(());
            }
            Ok(Message::Sync) => return self.sync().await,
            Ok(Message::Terminate) => return Err(End::Gone),
            // What is left of a COPY that failed; and Flush, because nothing is held back anyway.
            Ok(Message::CopyData(_) | Message::CopyDone | Message::CopyFail(_) | Message::Flush) => Ok(()),
            Ok(Message::Parse { name, query, types }) => self.parse(name, &query, types).await,
            Ok(Message::Bind(bind)) => self.bind(bind),
            Ok(Message::Describe(target)) => self.describe(&target),
            Ok(Message::Execute { portal, rows_max }) => self.execute_portal(&portal, rows_max).await,
            Ok(Message::Close(target)) => {
                self.close(&target);
                Ok(())
            }
            Err(error) => Err(Failure::Error(error)),
        };
        match result {
            Ok(()) => Ok(()),
            Err(Failure::End(end)) => Err(end),
            Err(Failure::Error(error)) => {
                self.fail(&error);
                self.skipping = true;
                Ok(())
            }
        }
    }

    /// Tells the client of an error, and the engine that the transaction has failed.
    pub(super) fn fail(&mut self, error: &Error) {
        self.session.note_failure();
        self.put_notices();
        if error.code == "XX000" {
            tracing::error!("internal error: {error}");
        }
        metrics::counter!("millrace_errors_total", "code" => error.code).increment(1);
        wire::put_error(&mut self.io.out, "ERROR", error);
    }

    pub(super) fn put_notices(&mut self) {
        let notices = self.session.take_notices();
        if notices.is_empty() {
            return;
        }
        let least = self.session.setting("client_min_messages").unwrap_or_default();
        let wanted = |severity: &str| match severity {
            "NOTICE" => !matches!(least.as_str(), "warning" | "error"),
            "WARNING" => least != "error",
            _ => true,
        };
        for notice in notices.iter().filter(|n| wanted(n.severity)) {
            wire::put_notice(&mut self.io.out, notice);
        }
    }

    fn put_notifications(&mut self) {
        for notification in self.mailbox.take() {
            wire::put_notification(&mut self.io.out, &notification);
        }
    }

    fn report_settings(&mut self) {
        for (name, value) in self.session.take_reported_settings() {
            wire::put_parameter_status(&mut self.io.out, &name, &value);
        }
    }

    /// The end of a cycle: the client may send the next query.
    pub(super) fn ready(&mut self) {
        self.session.settle();
        self.put_notices();
        self.report_settings();
        let status = self.session.transaction_status();
        // Portals live as long as their transaction.
        if status == TransactionStatus::Idle {
            self.portals.clear();
            self.put_notifications();
        }
        wire::put_ready(&mut self.io.out, status);
    }

    /// In a failed transaction only its end is accepted. The engine says so too; here it is said before a
    /// statement is bound, whose error would otherwise hide it.
    pub(super) fn check_not_failed(&self, statement: &Statement) -> Result<()> {
        let ends = matches!(
            statement.kind,
            StatementKind::Commit
                | StatementKind::Rollback
                | StatementKind::RollbackToSavepoint(_)
                | StatementKind::Empty
        );
        if self.session.transaction_status() == TransactionStatus::Failed && !ends {
            let message = "current transaction is aborted, commands ignored until end of transaction block";
            return Err(Error::new("25P02", message));
        }
        Ok(())
    }

    /// How values look in this session now.
    pub(super) fn style(&self) -> Style {
        let zone = self.session.setting("timezone").and_then(|name| Zone::parse(&name).ok()).unwrap_or_default();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Style { zone, now_us: Some(now.as_micros() as i64) }
    }

    /// When the statement that begins now must have ended.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let timeout = self.session.setting("statement_timeout").and_then(|t| parse_duration(&t))?;
        (!timeout.is_zero()).then(|| Instant::now() + timeout)
    }

    /// What the protocol's own statements have to forget along with the engine's.
    pub(super) fn forget(&mut self, kind: &StatementKind) {
        match kind {
            StatementKind::DiscardAll => {
                self.statements.clear();
                self.portals.clear();
            }
            StatementKind::Deallocate(None) => self.statements.clear(),
            StatementKind::CloseCursor(None) => self.portals.clear(),
            _ => {}
        }
    }
}

/// Waits for the engine, and meanwhile for reasons to stop it: the client gone, the time up. A cancel request
/// reaches the engine by itself. The engine is always waited for, so that no commit is cut in two.
pub async fn supervise<T>(
    work: impl Future<Output = Result<T>>,
    io: &mut Io,
    running: &Running,
    deadline: Option<Instant>,
) -> Result<T, Failure> {
    let mut work = std::pin::pin!(work);
    let mut reason: Option<Failure> = None;
    loop {
        tokio::select! {
            biased;
            result = &mut work => {
                return match (result, reason) {
                    (Ok(value), None | Some(Failure::Error(_))) => Ok(value),
                    (Err(e), Some(Failure::Error(timeout))) if e.code == "57014" => Err(Failure::Error(timeout)),
                    (Err(e), None | Some(Failure::Error(_))) => Err(Failure::Error(e)),
                    (_, Some(gone)) => Err(gone),
                };
            }
            _ = io.closed(), if reason.is_none() => {
                running.stop();
                reason = Some(Failure::End(End::Gone));
            }
            _ = until(deadline), if reason.is_none() => {
                running.stop();
                reason = Some(Failure::Error(timeout_error()));
            }
        }
    }
}

pub fn timeout_error() -> Error {
    Error::canceled("canceling statement due to statement timeout")
}

pub fn cancel_error() -> Error {
    Error::canceled("canceling statement due to user request")
}

/// Never, without a deadline.
pub async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

/// `5000` (milliseconds), `5s`, `1min`, `2h`, `1d`.
fn parse_duration(text: &str) -> Option<Duration> {
    let text = text.trim();
    let digits = text.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(text.len());
    let value: f64 = text[..digits].parse().ok()?;
    let milliseconds = match text[digits..].trim() {
        "" | "ms" => 1.0,
        "us" => 0.001,
        "s" => 1000.0,
        "min" => 60_000.0,
        "h" => 3_600_000.0,
        "d" => 86_400_000.0,
        _ => return None,
    };
    Duration::try_from_secs_f64(value * milliseconds / 1000.0).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (text, ms) in [("0", 0), ("5000", 5000), ("5s", 5000), ("1min", 60_000), ("1.5s", 1500), ("2 h", 7_200_000)]
        {
            assert_eq!(parse_duration(text), Some(Duration::from_millis(ms)), "{text}");
        }
        assert_eq!(parse_duration("soon"), None);
    }
}
