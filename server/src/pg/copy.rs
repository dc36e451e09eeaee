//! COPY's part of the protocol.
//!
//! In: the client's bytes go to the engine as they come; CopyDone commits, CopyFail and a lost connection
//! abandon all. Out: one CopyData message per row, as drivers expect.

use millrace_engine::Error;
use millrace_engine::connectors::copy::CopyRows;
use millrace_engine::error::Result;
use millrace_engine::session::{ByteStream, CopyIn};
use millrace_engine::sql::copy::CopyFormat;
use tokio::time::Instant;

use super::connection::{Connection, Failure, cancel_error, supervise, timeout_error, until};
use super::rows;
use super::wire::{self, Message};

impl Connection {
    /// Returns the command tag.
    pub(super) async fn copy_in(&mut self, mut copy: CopyIn, deadline: Option<Instant>) -> Result<String, Failure> {
        let running = self.registration.running.clone();
        wire::put_copy_response(&mut self.io.out, b'G', copy.format == CopyFormat::Binary, copy.columns);
        loop {
            let message = tokio::select! {
                biased;
                _ = running.cancelled() => return Err(cancel_error().into()),
                _ = until(deadline) => return Err(timeout_error().into()),
                message = self.io.message() => message??,
            };
            match message {
                Message::CopyData(bytes) => copy.push(bytes)?,
                Message::CopyDone => break,
                Message::CopyFail(reason) => {
                    return Err(Error::canceled(format!("COPY from stdin failed: {reason}")).into());
                }
                // A client may have sent these before it knew that it was to copy.
                Message::Flush | Message::Sync => {}
                Message::Terminate => return Err(super::io::End::Gone.into()),
                _ => return Err(wire::violation("unexpected message type during COPY from stdin").into()),
            }
        }
        let count = supervise(self.session.finish_copy(copy), &mut self.io, &running, deadline).await?;
        Ok(format!("COPY {count}"))
    }

    /// Returns the command tag.
    pub(super) async fn copy_out(
        &mut self,
        columns: usize,
        format: &CopyFormat,
        mut data: ByteStream,
        deadline: Option<Instant>,
    ) -> Result<String, Failure> {
        let running = self.registration.running.clone();
        wire::put_copy_response(&mut self.io.out, b'H', *format == CopyFormat::Binary, columns);
        let header = matches!(format, CopyFormat::Text { header: true, .. } | CopyFormat::Csv { header: true, .. });
        let mut splitter = CopyRows::new(format);
        let mut rest: Vec<u8> = Vec::new();
        let mut count = 0usize;
        while let Some(bytes) = rows::next(&mut data, &mut self.io, &running, deadline).await? {
            // Rows that lie whole in the new piece are not copied twice, and those of many pieces once.
            let joined = !rest.is_empty();
            if joined {
                rest.extend_from_slice(&bytes);
            }
            let all: &[u8] = if joined { &rest } else { &bytes };
            let mut sent = 0;
            while let Some(length) = splitter.next_row(&all[sent..]) {
                wire::put(&mut self.io.out, b'd', |o| o.extend_from_slice(&all[sent..sent + length]));
                sent += length;
                count += 1;
                if self.io.is_full() {
                    rows::flush(&mut self.io, &running, deadline).await?;
                }
            }
            match joined {
                true => drop(rest.drain(..sent)),
                false => rest.extend_from_slice(&bytes[sent..]),
            }
        }
        // A binary trailer is a message, but no row; an empty binary result has its header in it.
        if !rest.is_empty() {
            wire::put(&mut self.io.out, b'd', |o| o.extend_from_slice(&rest));
        }
        wire::put_plain(&mut self.io.out, wire::COPY_DONE);
        Ok(format!("COPY {}", count - usize::from(header && count > 0)))
    }
}
