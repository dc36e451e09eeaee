//! Sending the rows of a result, as many as are asked for, as fast as the client takes them.

use arrow::array::RecordBatch;
use futures::{Stream, StreamExt};
use millrace_engine::error::Result;
use millrace_engine::session::RowStream;
use tokio::time::{Duration, Instant};

use super::cancel::Running;
use super::connection::{Failure, cancel_error, timeout_error, until};
use super::io::{End, Io};
use crate::encoding::RowEncoder;

/// Rows that wait in the buffer are sent when the next ones take longer than this.
const LINGER: Duration = Duration::from_millis(5);

/// A result that is being sent, perhaps in several goes.
pub struct Cursor {
    rows: RowStream,
    pub encoder: RowEncoder,
    /// What is left of the batch at hand.
    pending: Option<RecordBatch>,
    /// The command tag's word.
    pub tag: &'static str,
}

impl Cursor {
    pub fn new(rows: RowStream, encoder: RowEncoder, tag: &'static str) -> Cursor {
        Cursor { rows, encoder, pending: None, tag }
    }

    /// Sends at most `rows_max` rows (0: all). Returns how many, and whether the result has ended; if exactly as
    /// many were sent as asked for, nobody knows, and Postgres says no.
    pub async fn send(
        &mut self,
        rows_max: usize,
        io: &mut Io,
        running: &Running,
        deadline: Option<Instant>,
    ) -> Result<(usize, bool), Failure> {
        let mut sent = 0;
        loop {
            let batch = match self.pending.take() {
                Some(batch) => batch,
                None => match next(&mut self.rows, io, running, deadline).await? {
                    Some(batch) => batch,
                    None => return Ok((sent, true)),
                },
            };
            if batch.num_rows() == 0 {
                continue;
            }
            let piece = self.encoder.piece_rows(&batch);
            let wanted = if rows_max == 0 { piece } else { piece.min(rows_max - sent) };
            let now = batch.slice(0, wanted);
            if wanted < batch.num_rows() {
                self.pending = Some(batch.slice(wanted, batch.num_rows() - wanted));
            }
            self.encoder.encode(&now, &mut io.out)?;
            sent += wanted;
            if io.is_full() {
                flush(io, running, deadline).await?;
            }
            if rows_max > 0 && sent == rows_max {
                return Ok((sent, false));
            }
        }
    }

    /// The tag for CommandComplete after `count` rows.
    pub fn command_tag(&self, count: usize) -> String {
        command_tag(self.tag, count)
    }
}

/// SHOW and EXPLAIN do not count.
pub fn command_tag(tag: &str, count: usize) -> String {
    match tag {
        "SHOW" | "EXPLAIN" => tag.to_string(),
        _ => format!("{tag} {count}"),
    }
}

/// The stream's next item, unless the statement is cancelled, its time is up or its client gone.
pub async fn next<T, S: Stream<Item = Result<T>> + Unpin>(
    stream: &mut S,
    io: &mut Io,
    running: &Running,
    deadline: Option<Instant>,
) -> Result<Option<T>, Failure> {
    let mut item = stream.next();
    let linger = Instant::now() + LINGER;
    loop {
        tokio::select! {
            biased;
            _ = running.cancelled() => return Err(cancel_error().into()),
            item = &mut item => return Ok(item.transpose()?),
            _ = until(deadline) => {
                running.stop();
                return Err(timeout_error().into());
            }
            _ = io.closed() => {
                running.stop();
                return Err(End::Gone.into());
            }
            _ = tokio::time::sleep_until(linger), if !io.out.is_empty() => flush(io, running, deadline).await?,
        }
    }
}

/// Sends what waits. A client that does not read cannot keep its statement from being cancelled.
pub async fn flush(io: &mut Io, running: &Running, deadline: Option<Instant>) -> Result<(), Failure> {
    tokio::select! {
        biased;
        _ = running.cancelled() => Err(cancel_error().into()),
        _ = until(deadline) => {
            running.stop();
            Err(timeout_error().into())
        }
        flushed = io.flush() => flushed.map_err(Failure::End),
    }
}
