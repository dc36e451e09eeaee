//! The socket, with what has come and not been taken, and what is to go and has not gone.
//!
//! Every wait in here may be abandoned at any moment (the statement was cancelled, say) and taken up again:
//! nothing is lost or sent twice.

use std::future::pending;

use bytes::BytesMut;
use millrace_engine::{Error, Result};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

use super::wire::{self, Message, Startup};

/// What is to go is sent when it is more than this.
const OUT_BYTES_MAX: usize = 64 << 10;
/// While a statement runs, so much may come in ahead of its turn.
const AHEAD_BYTES_MAX: usize = 64 << 10;

/// Why a connection ends.
#[derive(Debug)]
pub enum End {
    /// The client is gone, or said goodbye.
    Gone,
    /// The client is to be told, and then the connection closed.
    Fatal(Error),
}

impl From<std::io::Error> for End {
    fn from(_: std::io::Error) -> End {
        End::Gone
    }
}

pub struct Io {
    read: OwnedReadHalf,
    write: OwnedWriteHalf,
    input: BytesMut,
    /// Messages to the client; append to it, then [`Io::flush`].
    pub out: Vec<u8>,
    sent: usize,
    message_bytes_max: usize,
}

impl Io {
    pub fn new(socket: TcpStream, message_bytes_max: usize) -> Io {
        let (read, write) = socket.into_split();
        let (input, out) = (BytesMut::with_capacity(8 << 10), Vec::with_capacity(8 << 10));
        Io { read, write, input, out, sent: 0, message_bytes_max }
    }

    async fn fill(&mut self) -> Result<(), End> {
        match self.read.read_buf(&mut self.input).await {
            Ok(0) | Err(_) => Err(End::Gone),
            Ok(_) => Ok(()),
        }
    }

    pub async fn startup(&mut self) -> Result<Startup, End> {
        loop {
            if let Some(packet) = wire::take_startup(&mut self.input).map_err(End::Fatal)? {
                return Ok(packet);
            }
            self.fill().await?;
        }
    }

    /// Whether anything came after what was taken: before encryption is agreed there must be nothing.
    pub fn has_input(&self) -> bool {
        !self.input.is_empty()
    }

    /// The next message; the inner error is one that only concerns it. Answers wait in the buffer as long as
    /// there are messages, and are sent before waiting for more.
    pub async fn message(&mut self) -> Result<Result<Message>, End> {
        loop {
            if self.is_full() {
                self.flush().await?;
            }
            if let Some(message) = wire::take_message(&mut self.input, self.message_bytes_max).map_err(End::Fatal)? {
                return Ok(message);
            }
            self.flush().await?;
            self.fill().await?;
        }
    }

    /// Whether a Sync is the next message and already here.
    pub fn sync_is_next(&self) -> bool {
        wire::peek_tag(&self.input) == Some(b'S')
    }

    /// Returns when the client has closed the connection. What it sends ahead is kept.
    pub async fn closed(&mut self) {
        loop {
            if self.input.len() >= AHEAD_BYTES_MAX {
                pending::<()>().await;
            }
            if self.fill().await.is_err() {
                return;
            }
        }
    }

    pub async fn flush(&mut self) -> Result<(), End> {
        while self.sent < self.out.len() {
            match self.write.write(&self.out[self.sent..]).await {
                Ok(0) | Err(_) => return Err(End::Gone),
                Ok(n) => self.sent += n,
            }
        }
        self.out.clear();
        self.sent = 0;
        // One large row should not hold its memory for ever.
        if self.out.capacity() > 16 * OUT_BYTES_MAX {
            self.out = Vec::with_capacity(OUT_BYTES_MAX);
        }
        Ok(())
    }

    pub fn is_full(&self) -> bool {
        self.out.len() - self.sent > OUT_BYTES_MAX
    }

    pub async fn close(&mut self) {
        let _ = self.write.shutdown().await;
    }
}
