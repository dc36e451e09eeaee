//! Splits text and csv into cells: a state machine that can stop at any byte and go on with the next piece.
//!
//! ```text
//!   a\tb\\n     text: unescaped while it is copied into `bytes`; a cell is a range of them
//!   a,"b,""c"   csv: quoted pieces keep delimiters and line ends
//! ```
//!
//! A cell is NULL if it was written exactly as the NULL marker: in text before unescaping, in csv without
//! quotes. A line `\.` ends the data.

use crate::error::Error;
use crate::sql::copy::CopyFormat;

/// Where a cell lies in `bytes`; `None` is NULL.
pub type Cell = Option<(usize, usize)>;

/// Why the input cannot be split.
pub enum Bad {
    /// A row with another number of cells than there are columns.
    Count {
        line: u64,
        found: usize,
    },
    /// On this line.
    At {
        line: u64,
        error: Error,
    },
    Other(Error),
}

impl From<Error> for Bad {
    fn from(e: Error) -> Bad {
        Bad::Other(e)
    }
}

/// Rows split but not yet read.
#[derive(Default)]
pub struct Rows {
    pub bytes: Vec<u8>,
    /// Row after row, as many per row as there are columns.
    pub cells: Vec<Cell>,
    /// The number of the line on which each row ended.
    pub lines: Vec<u64>,
}

impl Rows {
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.cells.clear();
        self.lines.clear();
    }
}

#[derive(Clone, Copy, PartialEq)]
enum State {
    Plain,
    /// After a carriage return outside quotes: a line feed must follow.
    Return,
    /// text: after a backslash.
    Escape,
    /// text: so many digits of `\ooo` were read, and this is their value.
    Octal(u8, u8),
    /// text: likewise of `\xhh`.
    Hex(u8, u8),
    /// csv: inside quotes.
    Quoted,
    /// csv: after the escape character inside quotes.
    QuotedEscape,
    /// Up to the end of a line that cannot be split.
    Skip,
}

pub struct Splitter {
    state: State,
    columns: usize,
    delimiter: u8,
    null: Vec<u8>,
    /// csv; `None` is text.
    quote: Option<(u8, u8)>,
    skip_header: bool,
    /// Bytes that end a run of ordinary ones, outside quotes.
    special: [bool; 256],
    /// Cells of the row so far, and where the current cell begins.
    row_start: usize,
    /// Where its bytes begin.
    row_bytes: usize,
    cell_start: usize,
    /// The current cell as written, as far as that matters: to know NULL and `\.`. Kept only once it
    /// differs from the bytes that were copied.
    raw: Vec<u8>,
    /// text: it had a backslash; csv: it had quotes.
    marked: bool,
    line: u64,
    ended: bool,
    /// Whether anything of the current line was seen.
    in_line: bool,
    /// One row at a time; after one that is bad the next one can be read.
    by_row: bool,
    /// Why the row that is being skipped is bad.
    skipped: Option<Bad>,
    /// What was used of the input when a row was found bad.
    stopped_at: usize,
}

impl Splitter {
    /// `columns` is how many cells a row must have.
    pub fn new(format: &CopyFormat, columns: usize) -> Splitter {
        let (delimiter, null, header, quote) = match format {
            CopyFormat::Text { delimiter, null, header } => (*delimiter, null, *header, None),
            CopyFormat::Csv { delimiter, null, header, quote, escape } => {
                (*delimiter, null, *header, Some((*quote, *escape)))
            }
            CopyFormat::Binary => unreachable!("binary rows carry their own lengths"),
        };
        let mut special = [false; 256];
        for b in [delimiter, b'\n', b'\r', quote.map_or(b'\\', |(q, _)| q)] {
            special[b as usize] = true;
        }
        Splitter {
            state: State::Plain,
            columns,
            delimiter,
            null: null.clone().into_bytes(),
            quote,
            skip_header: header,
            special,
            row_start: 0,
            row_bytes: 0,
            cell_start: 0,
            raw: Vec::new(),
            marked: false,
            line: 1,
            ended: false,
            in_line: false,
            by_row: false,
            skipped: None,
            stopped_at: 0,
        }
    }

    /// From now on [`Splitter::push`] returns after each row. An error too is at the end of its row, which
    /// [`Splitter::stopped_at`] tells, and the rows after it can be read.
    pub fn by_row(&mut self) {
        self.by_row = true;
    }

    /// How many bytes of the last input an error comes after.
    pub fn stopped_at(&self) -> usize {
        self.stopped_at
    }

    /// What comes begins on this line.
    pub fn begin_at(&mut self, line: u64) {
        self.line = line;
    }

    /// The line being read, from 1.
    pub fn line(&self) -> u64 {
        self.line
    }

    /// Whether a part of a row is there that has not ended.
    pub fn is_within_row(&self) -> bool {
        self.in_line
    }

    /// Call when `rows` has been cleared between two rows.
    pub fn restart(&mut self, rows: &Rows) {
        debug_assert!(!self.in_line, "rows are taken away whole");
        self.row_start = rows.cells.len();
        self.row_bytes = rows.bytes.len();
        self.cell_start = rows.bytes.len();
    }

    /// Nothing of the row that has been read last is kept.
    fn drop_row(&mut self, rows: &mut Rows) {
        rows.cells.truncate(self.row_start);
        rows.bytes.truncate(self.row_bytes);
        self.cell_start = self.row_bytes;
        self.marked = false;
    }

    /// Splits `input` until it ends or `rows_max` rows are there; returns how many bytes were used.
    pub fn push(&mut self, input: &[u8], rows: &mut Rows, rows_max: usize, bytes_max: usize) -> Result<usize, Bad> {
        let mut at = 0;
        while at < input.len() {
            if self.ended {
                return Ok(input.len());
            }
            let b = input[at];
            match self.state {
                State::Plain => {
                    let run = input[at..].iter().position(|b| self.special[*b as usize]).unwrap_or(input.len() - at);
                    if run > 0 {
                        self.copy(&input[at..at + run], rows);
                        at += run;
                        continue;
                    }
                    at += 1;
                    self.in_line = true;
                    if b == b'\n' {
                        self.stopped_at = at;
                        self.end_row(rows)?;
                        if self.by_row || rows.lines.len() >= rows_max || rows.bytes.len() >= bytes_max {
                            return Ok(at);
                        }
                    } else if b == self.delimiter {
                        self.end_cell(rows);
                    } else if b == b'\r' {
                        self.state = State::Return;
                    } else if self.quote.is_some() {
                        self.mark(rows);
                        self.state = State::Quoted;
                    } else {
                        self.mark(rows);
                        self.raw.push(b);
                        self.state = State::Escape;
                    }
                    continue;
                }
                State::Return => {
                    if b != b'\n' {
                        let what =
                            if self.quote.is_some() { "unquoted carriage return" } else { "literal carriage return" };
                        let error = Error::new("22P04", format!("{what} found in data"));
                        if !self.by_row {
                            return Err(error.into());
                        }
                        self.skipped = Some(Bad::At { line: self.line, error });
                        self.state = State::Skip;
                        continue;
                    }
                    self.state = State::Plain;
                    continue;
                }
                State::Escape => {
                    self.state = State::Plain;
                    self.keep_raw(b);
                    match b {
                        b'b' => rows.bytes.push(0x08),
                        b'f' => rows.bytes.push(0x0c),
                        b'n' => rows.bytes.push(b'\n'),
                        b'r' => rows.bytes.push(b'\r'),
                        b't' => rows.bytes.push(b'\t'),
                        b'v' => rows.bytes.push(0x0b),
                        b'0'..=b'7' => self.state = State::Octal(1, b - b'0'),
                        b'x' => self.state = State::Hex(0, 0),
                        b'\n' => {
                            self.line += 1;
                            rows.bytes.push(b);
                        }
                        _ => rows.bytes.push(b),
                    }
                }
                State::Octal(count, value) => {
                    if !(b'0'..=b'7').contains(&b) || count == 3 {
                        rows.bytes.push(value);
                        self.state = State::Plain;
                        continue;
                    }
                    self.keep_raw(b);
                    self.state = State::Octal(count + 1, value << 3 | (b - b'0'));
                }
                State::Hex(count, value) => match (b as char).to_digit(16) {
                    Some(digit) if count < 2 => {
                        self.keep_raw(b);
                        self.state = State::Hex(count + 1, value << 4 | digit as u8);
                    }
                    _ => {
                        rows.bytes.push(if count == 0 { b'x' } else { value });
                        self.state = State::Plain;
                        continue;
                    }
                },
                State::Skip => {
                    let Some(end) = input[at..].iter().position(|b| *b == b'\n') else { return Ok(input.len()) };
                    self.stopped_at = at + end + 1;
                    return Err(self.end_skipped(rows));
                }
                State::Quoted => {
                    let (quote, escape) = self.quote.expect("only csv has quotes");
                    let end = |b: &u8| *b == quote || *b == escape;
                    let run = input[at..].iter().position(end).unwrap_or(input.len() - at);
                    let piece = &input[at..at + run];
                    self.line += piece.iter().filter(|b| **b == b'\n').count() as u64;
                    rows.bytes.extend_from_slice(piece);
                    at += run;
                    match input.get(at) {
                        None => continue,
                        Some(b) if *b == escape => self.state = State::QuotedEscape,
                        Some(_) => self.state = State::Plain,
                    }
                }
                State::QuotedEscape => {
                    let (quote, escape) = self.quote.expect("only csv has quotes");
                    if b == quote || b == escape {
                        rows.bytes.push(b);
                        self.state = State::Quoted;
                    } else if quote == escape {
                        // The escape was the closing quote.
                        self.state = State::Plain;
                        continue;
                    } else {
                        rows.bytes.push(escape);
                        self.state = State::Quoted;
                        continue;
                    }
                }
            }
            at += 1;
        }
        Ok(at)
    }

    /// The input has ended, perhaps without a line end.
    pub fn finish(&mut self, rows: &mut Rows) -> Result<(), Bad> {
        match self.state {
            State::Quoted => return Err(Error::new("22P04", "unterminated CSV quoted field").into()),
            State::Skip => return Err(self.end_skipped(rows)),
            State::Escape => rows.bytes.push(b'\\'),
            State::Octal(_, value) => rows.bytes.push(value),
            State::Hex(count, value) => rows.bytes.push(if count == 0 { b'x' } else { value }),
            State::QuotedEscape | State::Plain | State::Return => {}
        }
        self.state = State::Plain;
        if self.in_line && !self.ended { self.end_row(rows) } else { Ok(()) }
    }

    fn end_skipped(&mut self, rows: &mut Rows) -> Bad {
        self.drop_row(rows);
        self.state = State::Plain;
        self.in_line = false;
        self.line += 1;
        self.skipped.take().expect("a row is skipped for a reason")
    }

    fn copy(&mut self, run: &[u8], rows: &mut Rows) {
        self.in_line = true;
        rows.bytes.extend_from_slice(run);
        if self.marked {
            run.iter().for_each(|b| self.keep_raw(*b));
        }
    }

    fn keep_raw(&mut self, b: u8) {
        if self.raw.len() <= self.null.len().max(2) {
            self.raw.push(b);
        }
    }

    /// From here on the cell's own bytes differ from what was written.
    fn mark(&mut self, rows: &Rows) {
        if !self.marked {
            self.marked = true;
            let copied = &rows.bytes[self.cell_start..];
            self.raw.clear();
            self.raw.extend_from_slice(&copied[..copied.len().min(self.null.len() + 3)]);
        }
    }

    fn end_cell(&mut self, rows: &mut Rows) {
        let range = (self.cell_start, rows.bytes.len());
        let is_null = match (self.marked, self.quote) {
            (false, _) => rows.bytes[range.0..] == self.null,
            (true, None) => self.raw == self.null,
            (true, Some(_)) => false,
        };
        rows.cells.push(if is_null { None } else { Some(range) });
        self.cell_start = rows.bytes.len();
        self.marked = false;
    }

    fn end_row(&mut self, rows: &mut Rows) -> Result<(), Bad> {
        let first = rows.cells.len() == self.row_start;
        let end_marker = first
            && match self.quote {
                None => self.marked && self.raw == b"\\.",
                Some(_) => !self.marked && rows.bytes[self.cell_start..] == *b"\\.",
            };
        if end_marker {
            self.ended = true;
            rows.bytes.truncate(self.cell_start);
            self.in_line = false;
            return Ok(());
        }
        self.end_cell(rows);
        self.in_line = false;
        let line = self.line;
        self.line += 1;
        if std::mem::take(&mut self.skip_header) {
            rows.cells.truncate(self.row_start);
            return Ok(());
        }
        let count = rows.cells.len() - self.row_start;
        // A table without columns has empty lines.
        if self.columns == 0 && count == 1 {
            rows.cells.truncate(self.row_start);
        } else if count != self.columns {
            self.drop_row(rows);
            return Err(Bad::Count { line, found: count });
        }
        rows.lines.push(line);
        self.row_start = rows.cells.len();
        self.row_bytes = rows.bytes.len();
        Ok(())
    }
}
