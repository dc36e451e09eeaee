//! COPY FROM: bytes into record batches.

use std::ops::Range;

use arrow::array::{Array, ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::datatypes::SchemaRef;

use super::BINARY_HEADER;
use super::aside::Aside;
use super::split::{Bad, Cell, Rows, Splitter};
use crate::error::{Error, Result};
use crate::sql::copy::CopyFormat;
use crate::sql::text::{CellError, PgType, Style, binary, first_by_row, read};

/// A batch is read when it has so many rows …
const BATCH_ROWS_MAX: usize = 8192;
/// … or so many bytes of cells.
const BATCH_BYTES_MAX: usize = 8 << 20;
/// After a bad row so many are read at a time.
const PIECE_ROWS: usize = 64;

pub struct CopyDecoder {
    schema: SchemaRef,
    types: Vec<PgType>,
    style: Style,
    relation: String,
    latin1: bool,
    input: Input,
    rows: Rows,
    aside: Option<Aside>,
}

enum Input {
    Text(Splitter),
    Binary(Binary),
}

impl CopyDecoder {
    pub fn new(schema: SchemaRef, format: &CopyFormat) -> CopyDecoder {
        let types: Vec<PgType> = schema.fields().iter().map(|f| PgType::of(f)).collect();
        let input = match format {
            CopyFormat::Binary => Input::Binary(Binary { pending: Vec::new(), started: false, ended: false, row: 0 }),
            _ => Input::Text(Splitter::new(format, types.len())),
        };
        let (style, relation) = (Style::default(), String::new());
        CopyDecoder { schema, types, style, relation, latin1: false, input, rows: Rows::default(), aside: None }
    }

    /// The session's time zone and clock.
    pub fn with_style(mut self, style: Style) -> CopyDecoder {
        self.style = style;
        self
    }
    /// The relation's name, for messages.
    pub fn for_relation(mut self, name: &str) -> CopyDecoder {
        self.relation = name.to_string();
        self
    }

    pub fn in_latin1(mut self, latin1: bool) -> CopyDecoder {
        self.latin1 = latin1;
        self
    }

    /// Rows of text or csv that cannot be read are put there.
    pub fn with_aside(mut self, aside: Option<Aside>) -> CopyDecoder {
        if let (Input::Text(splitter), true) = (&mut self.input, aside.is_some()) {
            splitter.by_row();
            self.aside = aside;
        }
        self
    }

    /// What has been put aside so far.
    pub fn aside(&self) -> Option<&Aside> {
        self.aside.as_ref()
    }

    /// The first row is on this line of the text or csv.
    pub fn from_line(mut self, line: u64) -> CopyDecoder {
        if let Input::Text(splitter) = &mut self.input {
            splitter.begin_at(line);
        }
        self
    }

    /// Takes more input; returns the batches that became full by it.
    pub fn push(&mut self, bytes: &[u8]) -> Result<Vec<RecordBatch>> {
        match (self.latin1, &self.input) {
            // Its characters are the first 256 of Unicode.
            (true, Input::Text(_)) => {
                self.push_utf8(bytes.iter().map(|b| char::from(*b)).collect::<String>().as_bytes())
            }
            _ => self.push_utf8(bytes),
        }
    }

    fn push_utf8(&mut self, mut bytes: &[u8]) -> Result<Vec<RecordBatch>> {
        let mut batches = Vec::new();
        while !bytes.is_empty() {
            let used = match &mut self.input {
                Input::Text(splitter) => splitter.push(bytes, &mut self.rows, BATCH_ROWS_MAX, BATCH_BYTES_MAX),
                Input::Binary(input) => input.push(bytes, &mut self.rows, self.types.len()),
            };
            let used = match (used, &mut self.aside) {
                (Ok(used), None) => used,
                (Ok(used), Some(aside)) => {
                    let within_row = matches!(&self.input, Input::Text(splitter) if splitter.is_within_row());
                    aside.took(&bytes[..used], (!within_row).then_some(self.rows.lines.len()));
                    used
                }
                (Err(bad), None) => return Err(self.refuse(bad)),
                (Err(bad), Some(_)) => {
                    let Input::Text(splitter) = &self.input else { unreachable!("of rows as text alone") };
                    let used = splitter.stopped_at();
                    self.put_aside(bad, &bytes[..used])?;
                    used
                }
            };
            bytes = &bytes[used..];
            let is_full = self.rows.lines.len() >= BATCH_ROWS_MAX || self.rows.bytes.len() >= BATCH_BYTES_MAX;
            // The input may have ended within a row; then the batch waits for the rest of it.
            let within_row = matches!(&self.input, Input::Text(splitter) if splitter.is_within_row());
            if is_full && !within_row {
                self.flush(&mut batches)?;
            }
        }
        Ok(batches)
    }

    /// Bytes taken in that are in no batch yet.
    pub fn pending_bytes(&self) -> usize {
        let kept = match &self.input {
            Input::Text(_) => 0,
            Input::Binary(input) => input.pending.len(),
        };
        self.rows.bytes.len() + kept + self.aside.as_ref().map_or(0, Aside::bytes)
    }

    /// The input has ended; returns what is left.
    pub fn finish(mut self) -> Result<(Vec<RecordBatch>, Option<Aside>)> {
        let ended = match &mut self.input {
            Input::Text(splitter) => splitter.finish(&mut self.rows),
            Input::Binary(input) => input.finish(),
        };
        match (ended, &mut self.aside) {
            (Ok(()), None) => {}
            (Ok(()), Some(aside)) => aside.took(&[], Some(self.rows.lines.len())),
            (Err(bad), None) => return Err(self.refuse(bad)),
            (Err(bad), Some(_)) => self.put_aside(bad, &[])?,
        }
        let mut batches = Vec::new();
        self.flush(&mut batches)?;
        Ok((batches, self.aside))
    }

    fn flush(&mut self, batches: &mut Vec<RecordBatch>) -> Result<()> {
        if !self.rows.lines.is_empty() {
            match &self.aside {
                None => batches.push(self.read_rows(0..self.rows.lines.len()).map_err(|bad| bad.error)?),
                Some(_) => self.read_good_rows(batches)?,
            }
            self.rows.clear();
            if let Input::Text(splitter) = &mut self.input {
                splitter.restart(&self.rows);
            }
        }
        Ok(())
    }

    /// The rows that can be read; the others are put aside.
    fn read_good_rows(&mut self, batches: &mut Vec<RecordBatch>) -> Result<()> {
        let count = self.rows.lines.len();
        let (mut from, mut piece) = (0, count);
        while from < count {
            let (mut to, mut first_bad) = (count.min(from + piece), None);
            while from < to {
                match self.read_rows(from..to) {
                    Ok(rows) => {
                        batches.push(rows);
                        from = to;
                    }
                    Err(bad) => {
                        to = bad.row;
                        first_bad = Some(bad.error);
                    }
                }
            }
            if let Some(error) = first_bad {
                let line = self.rows.lines[to];
                self.aside.as_mut().expect("asked only then").put_row(to, line, error)?;
                // What comes after it may have to be read again, as often as there are bad rows in a piece.
                (from, piece) = (to + 1, PIECE_ROWS);
            }
        }
        self.aside.as_mut().expect("asked only then").forget_rows();
        Ok(())
    }

    /// A row that cannot be split, the last bytes of which are `input`.
    fn put_aside(&mut self, bad: Bad, input: &[u8]) -> Result<()> {
        let (line, error) = self.describe(bad);
        self.aside.as_mut().expect("asked only then").put(input, line, error)
    }

    fn read_rows(&self, range: Range<usize>) -> Result<RecordBatch, CellError> {
        let columns = match &self.input {
            Input::Text(_) => {
                let (begin, end) = self.bytes_of(&range);
                let bytes = &self.rows.bytes[begin..end];
                let text = std::str::from_utf8(bytes).map_err(|e| self.not_utf8(&range, begin + e.valid_up_to()))?;
                self.read_columns(&range, |i, field| {
                    let mut cells = Vec::with_capacity(range.len());
                    for (row, cell) in self.column(i, &range).enumerate() {
                        // A character can begin in one cell and end in the next only by escapes.
                        let part = |(start, end)| text.get(start - begin..end - begin).ok_or(row);
                        let cell = cell.map(part).transpose();
                        cells.push(cell.map_err(|row| CellError { row, error: invalid_utf8(bytes[0]) })?);
                    }
                    read::read(&self.types[i], field, &cells, &self.style)
                })?
            }
            Input::Binary(_) => self.read_columns(&range, |i, field| {
                let cells: Vec<Option<&[u8]>> =
                    self.column(i, &range).map(|c| c.map(|(start, end)| &self.rows.bytes[start..end])).collect();
                binary::read(&self.types[i], field, &cells)
            })?,
        };
        let options = RecordBatchOptions::new().with_row_count(Some(range.len()));
        Ok(RecordBatch::try_new_with_options(self.schema.clone(), columns, &options).expect("columns fit the schema"))
    }

    fn cells_of(&self, rows: &Range<usize>) -> &[Cell] {
        &self.rows.cells[rows.start * self.types.len()..rows.end * self.types.len()]
    }

    /// Where the bytes of these rows begin and end.
    fn bytes_of(&self, rows: &Range<usize>) -> (usize, usize) {
        let mut there = self.cells_of(rows).iter().flatten();
        let first = there.next();
        let last = there.next_back().or(first);
        (first.map_or(0, |cell| cell.0), last.map_or(0, |cell| cell.1))
    }

    fn column(&self, i: usize, rows: &Range<usize>) -> impl Iterator<Item = Cell> {
        self.cells_of(rows).iter().skip(i).step_by(self.types.len().max(1)).copied()
    }

    /// Errors: of the first of the rows that cannot be read.
    fn read_columns(
        &self,
        rows: &Range<usize>,
        read: impl Fn(usize, &arrow::datatypes::DataType) -> Result<ArrayRef, CellError>,
    ) -> Result<Vec<ArrayRef>, CellError> {
        let read_checked = |(i, field): (usize, &std::sync::Arc<arrow::datatypes::Field>)| {
            let array = read(i, field.data_type())?;
            if !field.is_nullable()
                && let Some(row) = (0..array.len()).find(|row| array.is_null(*row))
            {
                let message = format!(
                    "null value in column \"{}\" of relation \"{}\" violates not-null constraint",
                    field.name(),
                    self.relation
                );
                return Err(CellError { row, error: Error::new("23502", message) });
            }
            Ok(array)
        };
        let results = self.schema.fields().iter().enumerate().map(read_checked).collect();
        first_by_row(results).map_err(|(column, CellError { row, error })| {
            let row = rows.start + row;
            let cell = self.rows.cells[row * self.types.len() + column];
            let value = match (&self.input, cell) {
                (_, None) => ": null input".to_string(),
                (Input::Binary(_), _) => String::new(),
                (_, Some((start, end))) => {
                    let text = String::from_utf8_lossy(&self.rows.bytes[start..end]);
                    let short: String = text.chars().take(100).collect();
                    format!(": \"{short}{}\"", if short.len() < text.len() { "..." } else { "" })
                }
            };
            let place = format!("column {}{value}", self.schema.field(column).name());
            CellError { row, error: self.at_line(error, self.rows.lines[row], &place) }
        })
    }

    /// Adds Postgres' CONTEXT line, after the error's own detail.
    fn at_line(&self, error: Error, line: u64, place: &str) -> Error {
        let place = if place.is_empty() { String::new() } else { format!(", {place}") };
        let context = format!("COPY {}, line {line}{place}", self.relation);
        let detail = match &error.detail {
            Some(detail) => format!("{detail}\n{context}"),
            None => context,
        };
        error.detail(detail)
    }

    /// An error of splitting, unless an earlier row has one of its own.
    fn refuse(&self, bad: Bad) -> Error {
        match self.read_rows(0..self.rows.lines.len()) {
            Err(earlier) => earlier.error,
            Ok(_) => self.describe(bad).1,
        }
    }

    /// The line of a row that cannot be split, and why.
    fn describe(&self, bad: Bad) -> (u64, Error) {
        let (line, error) = match bad {
            Bad::Count { line, found } => {
                let message = match self.schema.fields().get(found) {
                    Some(missing) => format!("missing data for column \"{}\"", missing.name()),
                    None => "extra data after last expected column".to_string(),
                };
                (line, Error::new("22P04", message))
            }
            Bad::At { line, error } => (line, error),
            Bad::Other(error) => {
                let line = match &self.input {
                    Input::Text(splitter) => splitter.line(),
                    Input::Binary(input) => input.row + 1,
                };
                (line, error)
            }
        };
        (line, self.at_line(error, line, ""))
    }

    fn not_utf8(&self, rows: &Range<usize>, at: usize) -> CellError {
        let is_there = |c: &Cell| c.is_some_and(|(start, end)| (start..end).contains(&at));
        let cell = self.cells_of(rows).iter().position(is_there).unwrap_or(0);
        let row = rows.start + cell / self.types.len();
        CellError { row, error: self.at_line(invalid_utf8(self.rows.bytes[at]), self.rows.lines[row], "") }
    }
}

fn invalid_utf8(byte: u8) -> Error {
    Error::new("22021", format!("invalid byte sequence for encoding \"UTF8\": 0x{byte:02x}"))
}

/// Binary rows: a count of cells, then each with its length. Input is kept until a row is whole.
struct Binary {
    pending: Vec<u8>,
    started: bool,
    ended: bool,
    row: u64,
}

impl Binary {
    fn push(&mut self, bytes: &[u8], rows: &mut Rows, columns: usize) -> Result<usize, Bad> {
        self.pending.extend_from_slice(bytes);
        let mut at = 0;
        if !self.started {
            match self.header()? {
                Some(length) => at = length,
                None => return Ok(bytes.len()),
            }
            self.started = true;
        }
        while !self.ended {
            match self.tuple(at, rows, columns)? {
                Some(end) => at = end,
                None => break,
            }
        }
        self.pending.drain(..at);
        if self.ended {
            self.pending.clear();
        }
        Ok(bytes.len())
    }

    /// The header's length, once it is there.
    fn header(&self) -> Result<Option<usize>, Bad> {
        let signature = &BINARY_HEADER[..11];
        let seen = self.pending.len().min(signature.len());
        if self.pending[..seen] != signature[..seen] {
            return Err(Error::new("22P04", "COPY file signature not recognized").into());
        }
        if self.pending.len() < BINARY_HEADER.len() {
            return Ok(None);
        }
        let word = |at: usize| i32::from_be_bytes(self.pending[at..at + 4].try_into().expect("four bytes"));
        if word(11) & !0xffff != 0 {
            return Err(Error::new("22P04", "unrecognized critical flags in COPY file header").into());
        }
        let extension = usize::try_from(word(15)).map_err(|_| Error::new("22P04", "invalid COPY file header"))?;
        let length = BINARY_HEADER.len() + extension;
        Ok((self.pending.len() >= length).then_some(length))
    }

    /// One row that begins at `at`; where it ends, or `None` if it has not all come yet.
    fn tuple(&mut self, at: usize, rows: &mut Rows, columns: usize) -> Result<Option<usize>, Bad> {
        let Some(count) = self.pending.get(at..at + 2) else { return Ok(None) };
        let count = i16::from_be_bytes(count.try_into().expect("two bytes"));
        if count == -1 {
            self.ended = true;
            return Ok(Some(at + 2));
        }
        if count != columns as i16 {
            let message = format!("row field count is {count}, expected {columns}");
            return Err(Error::new("22P04", message).into());
        }
        let mut end = at + 2;
        for _ in 0..count {
            let Some(length) = self.pending.get(end..end + 4) else { return Ok(None) };
            let length = i32::from_be_bytes(length.try_into().expect("four bytes"));
            if length < -1 {
                return Err(Error::new("22P04", "invalid field size").into());
            }
            end += 4 + length.max(0) as usize;
        }
        if self.pending.len() < end {
            return Ok(None);
        }
        let mut from = at + 2;
        for _ in 0..count {
            let length = i32::from_be_bytes(self.pending[from..from + 4].try_into().expect("seen above"));
            from += 4;
            if length < 0 {
                rows.cells.push(None);
                continue;
            }
            let start = rows.bytes.len();
            rows.bytes.extend_from_slice(&self.pending[from..from + length as usize]);
            rows.cells.push(Some((start, rows.bytes.len())));
            from += length as usize;
        }
        self.row += 1;
        rows.lines.push(self.row);
        Ok(Some(end))
    }

    fn finish(&self) -> Result<(), Bad> {
        if self.started && self.pending.is_empty() {
            return Ok(());
        }
        Err(Error::new("22P04", "unexpected EOF in COPY data").into())
    }
}
