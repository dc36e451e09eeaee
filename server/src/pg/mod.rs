//! Postgres' protocol: one engine session per connection.
//!
//! ```text
//!   socket ──► io ──► wire ──► connection ──► simple | extended | copy ──► Session (engine)
//!                                                  │ rows
//!   socket ◄── io ◄────────── encoding ◄───────────┘
//! ```
//!
//! The state machine is our own, because exactness is the point: what is answered to which message in which
//! state is Postgres' protocol chapter and what its drivers were seen to rely on. Results are streamed:
//! at most a piece of a batch waits in memory, and a slow client slows the query down.

mod cancel;
mod connection;
mod copy;
mod extended;
mod io;
mod rows;
mod simple;
mod startup;
pub(crate) mod wire;

use std::sync::Arc;
use std::time::Duration;

use millrace_engine::session::Session;
use tokio::net::TcpListener;
use tokio::sync::watch;

pub use cancel::Sessions;
pub use connection::serve_connection;

/// The databases that one can connect to: one, by two names.
pub const DATABASES: [&str; 2] = ["millrace", "postgres"];

#[derive(Debug, Clone)]
pub struct Limits {
    pub connections_max: usize,
    /// Of one message from a client.
    pub message_bytes_max: usize,
    /// From accept to the startup packet.
    pub startup_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { connections_max: 100, message_bytes_max: 256 << 20, startup_timeout: Duration::from_secs(60) }
    }
}

/// What all connections share.
pub struct Shared {
    /// Opens a session for a user and a database.
    pub open_session: Box<dyn Fn(&str, &str) -> Session + Send + Sync>,
    pub sessions: Sessions,
    pub limits: Limits,
    /// True once the server stops: idle connections end, busy ones after their statement.
    pub stopping: watch::Receiver<bool>,
}

/// Accepts until the server stops. Errors of one connection end only that one.
pub async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let mut stopping = shared.stopping.clone();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stopping.wait_for(|stop| *stop) => return,
        };
        match accepted {
            Ok((socket, address)) => {
                tracing::debug!(%address, "connection");
                let _ = socket.set_nodelay(true);
                tokio::spawn(serve_connection(socket, shared.clone()));
            }
            Err(error) => {
                // Out of file descriptors, usually: waiting is all that helps.
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}
