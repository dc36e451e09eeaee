//! Rows of a COPY that cannot be read, as they came, and why.
//!
//! ```text
//!   1\ta          read
//!   x\tb          line 2: 22P02, as it came: "x\tb"
//!   3             line 3: 22P04
//!   4\td          read
//! ```

use crate::error::{Error, Result};
use crate::sql::copy::OnError;

/// One row.
#[derive(Debug)]
pub struct Rejected {
    /// On which it ended, from 1.
    pub line: u64,
    /// Its detail ends with Postgres' CONTEXT line.
    pub error: Error,
    /// Without its line end.
    pub input: Vec<u8>,
}

pub struct Aside {
    on_error: OnError,
    /// Of rows that are split but not read yet, and of the row that is being split.
    input: Vec<u8>,
    /// Where each row's input ends.
    ends: Vec<usize>,
    rejected: Vec<Rejected>,
    rejected_bytes: usize,
    count: u64,
}

impl Aside {
    /// Nothing, where the first bad row is to end it all.
    pub fn new(on_error: OnError) -> Option<Aside> {
        (on_error != OnError::Stop).then(|| Aside {
            on_error,
            input: Vec::new(),
            ends: Vec::new(),
            rejected: Vec::new(),
            rejected_bytes: 0,
            count: 0,
        })
    }

    /// How many rows were bad.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Those that are to be kept, in the order of their lines.
    pub fn rejected(mut self) -> Vec<Rejected> {
        self.rejected.sort_by_key(|rejected| rejected.line);
        self.rejected
    }

    pub(super) fn bytes(&self) -> usize {
        self.input.len() + self.rejected_bytes
    }

    /// Input has been split. `rows`: unless it ended within a row, how many there are that have yet to be read.
    pub(super) fn took(&mut self, input: &[u8], rows: Option<usize>) {
        self.input.extend_from_slice(input);
        match rows {
            None => {}
            Some(rows) if rows > self.ends.len() => self.ends.push(self.input.len()),
            // A header, or what comes after the end.
            Some(_) => self.forget_begun(),
        }
    }

    /// The row that is being split, whose last bytes are `input`, is bad.
    pub(super) fn put(&mut self, input: &[u8], line: u64, error: Error) -> Result<()> {
        self.input.extend_from_slice(input);
        let whole = self.input.split_off(self.ends.last().copied().unwrap_or(0));
        self.keep(whole, line, error)
    }

    /// A row that has been split cannot be read.
    pub(super) fn put_row(&mut self, row: usize, line: u64, error: Error) -> Result<()> {
        let begin = row.checked_sub(1).map_or(0, |before| self.ends[before]);
        let whole = self.input[begin..self.ends[row]].to_vec();
        self.keep(whole, line, error)
    }

    /// The rows that were split have been read.
    pub(super) fn forget_rows(&mut self) {
        self.input.drain(..self.ends.last().copied().unwrap_or(0));
        self.ends.clear();
    }

    fn forget_begun(&mut self) {
        self.input.truncate(self.ends.last().copied().unwrap_or(0));
    }

    fn keep(&mut self, mut input: Vec<u8>, line: u64, error: Error) -> Result<()> {
        // As in Postgres, that is for values which a column cannot have.
        let is_value = error.code.starts_with("22") && !matches!(error.code, "22P04" | "22021");
        if matches!(self.on_error, OnError::Ignore { .. }) && !is_value {
            return Err(error);
        }
        self.count += 1;
        if let Some(limit) = self.on_error.limit().filter(|limit| self.count > *limit) {
            let message = format!("skipped more than REJECT_LIMIT ({limit}) rows due to data type incompatibility");
            let last = error.detail.unwrap_or_default();
            return Err(Error::new("22P02", message).detail(format!("The last one: {}\n{last}", error.message)));
        }
        if matches!(self.on_error, OnError::SetAside { .. }) {
            let ends = [b"\r\n".as_slice(), b"\n"].into_iter().find(|end| input.ends_with(end));
            input.truncate(input.len() - ends.map_or(0, <[u8]>::len));
            self.rejected_bytes += input.len() + size_of::<Rejected>() + error.message.len();
            self.rejected.push(Rejected { line, error, input });
        }
        Ok(())
    }
}
