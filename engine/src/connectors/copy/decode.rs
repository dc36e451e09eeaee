//! COPY FROM: bytes into record batches.

use arrow::array::{Array, ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::datatypes::SchemaRef;

use super::BINARY_HEADER;
use super::split::{Bad, Rows, Splitter};
use crate::error::{Error, Result};
use crate::sql::statement::CopyFormat;
use crate::sql::text::{CellError, PgType, Style, binary, first_by_row, read};

/// A batch is read when it has so many rows …
const BATCH_ROWS_MAX: usize = 8192;
/// … or so many bytes of cells.
const BATCH_BYTES_MAX: usize = 8 << 20;

pub struct CopyDecoder {
    schema: SchemaRef,
    types: Vec<PgType>,
    style: Style,
    relation: String,
    latin1: bool,
    input: Input,
    rows: Rows,
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
        CopyDecoder { schema, types, style, relation, latin1: false, input, rows: Rows::default() }
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
            let used = used.map_err(|bad| self.refuse(bad))?;
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
        self.rows.bytes.len() + kept
    }

    /// The input has ended; returns what is left.
    pub fn finish(mut self) -> Result<Vec<RecordBatch>> {
        let ended = match &mut self.input {
            Input::Text(splitter) => splitter.finish(&mut self.rows),
            Input::Binary(input) => input.finish(),
        };
        ended.map_err(|bad| self.refuse(bad))?;
        let mut batches = Vec::new();
        self.flush(&mut batches)?;
        Ok(batches)
    }

    fn flush(&mut self, batches: &mut Vec<RecordBatch>) -> Result<()> {
        if !self.rows.lines.is_empty() {
            batches.push(self.read_rows()?);
            self.rows.clear();
            if let Input::Text(splitter) = &mut self.input {
                splitter.restart(&self.rows);
            }
        }
        Ok(())
    }

    fn read_rows(&self) -> Result<RecordBatch> {
        let count = self.rows.lines.len();
        let columns = match &self.input {
            Input::Text(_) => {
                let text = std::str::from_utf8(&self.rows.bytes).map_err(|e| self.not_utf8(e.valid_up_to()))?;
                self.read_columns(|i, field| {
                    let mut cells = Vec::with_capacity(count);
                    for (row, cell) in self.column(i).enumerate() {
                        // A character can begin in one cell and end in the next only by escapes.
                        let cell = cell.map(|(start, end)| text.get(start..end).ok_or(row)).transpose();
                        cells.push(cell.map_err(|row| CellError { row, error: invalid_utf8(self.rows.bytes[0]) })?);
                    }
                    read::read(&self.types[i], field, &cells, &self.style)
                })?
            }
            Input::Binary(_) => self.read_columns(|i, field| {
                let cells: Vec<Option<&[u8]>> =
                    self.column(i).map(|c| c.map(|(start, end)| &self.rows.bytes[start..end])).collect();
                binary::read(&self.types[i], field, &cells)
            })?,
        };
        let options = RecordBatchOptions::new().with_row_count(Some(count));
        Ok(RecordBatch::try_new_with_options(self.schema.clone(), columns, &options).expect("columns fit the schema"))
    }

    fn column(&self, i: usize) -> impl Iterator<Item = super::split::Cell> {
        self.rows.cells.iter().skip(i).step_by(self.types.len().max(1)).copied().take(self.rows.lines.len())
    }

    fn read_columns(
        &self,
        read: impl Fn(usize, &arrow::datatypes::DataType) -> Result<ArrayRef, CellError>,
    ) -> Result<Vec<ArrayRef>> {
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
            self.at_line(error, self.rows.lines[row], &place)
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
        if let Err(earlier) = self.read_rows() {
            return earlier;
        }
        match bad {
            Bad::Count { line, found } => {
                let message = match self.schema.fields().get(found) {
                    Some(missing) => format!("missing data for column \"{}\"", missing.name()),
                    None => "extra data after last expected column".to_string(),
                };
                self.at_line(Error::new("22P04", message), line, "")
            }
            Bad::Other(error) => {
                let line = match &self.input {
                    Input::Text(splitter) => splitter.line(),
                    Input::Binary(input) => input.row + 1,
                };
                self.at_line(error, line, "")
            }
        }
    }

    fn not_utf8(&self, at: usize) -> Error {
        let cell = self.rows.cells.iter().position(|c| c.is_some_and(|(start, end)| (start..end).contains(&at)));
        let line = cell.map_or(0, |c| self.rows.lines.get(c / self.types.len()).copied().unwrap_or(0));
        self.at_line(invalid_utf8(self.rows.bytes[at]), line, "")
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
