//! COPY TO: record batches into bytes, and bytes into the rows that clients want one by one.

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;

use super::BINARY_HEADER;
use crate::error::{Error, Result};
use crate::sql::copy::CopyFormat;
use crate::sql::text::{Cells, PgType, Style, binary, write};

pub struct CopyEncoder {
    schema: SchemaRef,
    types: Vec<PgType>,
    format: CopyFormat,
    style: Style,
    latin1: bool,
    /// By column, whether its values stand in quotes in any case.
    quoted: Vec<bool>,
    /// One per column, kept for their memory.
    columns: Vec<Cells>,
}

impl CopyEncoder {
    pub fn new(schema: SchemaRef, format: &CopyFormat) -> CopyEncoder {
        let types: Vec<PgType> = schema.fields().iter().map(|f| PgType::of(f)).collect();
        let columns = types.iter().map(|_| Cells::default()).collect();
        let quoted = vec![false; types.len()];
        CopyEncoder { schema, types, format: format.clone(), style: Style::default(), latin1: false, quoted, columns }
    }

    /// The session's time zone.
    pub fn with_style(mut self, style: Style) -> CopyEncoder {
        self.style = style;
        self
    }

    pub fn in_latin1(mut self, latin1: bool) -> CopyEncoder {
        self.latin1 = latin1;
        self
    }
    /// Of CSV, by column: whether its values stand in quotes in any case.
    pub fn quoting(mut self, quoted: Vec<bool>) -> CopyEncoder {
        self.quoted = quoted;
        self
    }

    /// What comes before the first row. Errors: 22P05.
    pub fn header(&self) -> Result<Vec<u8>> {
        let mut out = self.names();
        self.to_encoding(&mut out, 0)?;
        Ok(out)
    }

    fn names(&self) -> Vec<u8> {
        let names = |encode: &dyn Fn(&[u8], &mut Vec<u8>), delimiter: u8| {
            let mut out = Vec::new();
            for (i, field) in self.schema.fields().iter().enumerate() {
                if i > 0 {
                    out.push(delimiter);
                }
                encode(field.name().as_bytes(), &mut out);
            }
            out.push(b'\n');
            out
        };
        match &self.format {
            CopyFormat::Binary => BINARY_HEADER.to_vec(),
            CopyFormat::Text { delimiter, header: true, .. } => {
                names(&|name, out| escape_text(name, *delimiter, out), *delimiter)
            }
            CopyFormat::Csv { delimiter, null, header: true, quote, escape } => {
                let single = self.types.len() == 1;
                let csv = Csv { delimiter: *delimiter, null, quote: *quote, escape: *escape, single };
                names(&|name, out| csv.cell(name, false, out), *delimiter)
            }
            _ => Vec::new(),
        }
    }

    /// Appends the batch's rows.
    pub fn encode(&mut self, batch: &RecordBatch, out: &mut Vec<u8>) -> Result<()> {
        for ((ty, array), cells) in self.types.iter().zip(batch.columns()).zip(&mut self.columns) {
            cells.clear();
            match self.format {
                CopyFormat::Binary => binary::write(ty, array, cells)?,
                _ => write::write(ty, array, &self.style, cells),
            }
        }
        let start = out.len();
        let single = self.columns.len() == 1;
        for row in 0..batch.num_rows() {
            match &self.format {
                CopyFormat::Binary => {
                    out.extend_from_slice(&(self.columns.len() as i16).to_be_bytes());
                    self.columns.iter().for_each(|cells| binary::write_counted(cells.get(row), out));
                }
                CopyFormat::Text { delimiter, null, .. } => {
                    join(&self.columns, row, *delimiter, null, out, |_, cell, out| escape_text(cell, *delimiter, out));
                }
                CopyFormat::Csv { delimiter, null, quote, escape, .. } => {
                    let csv = Csv { delimiter: *delimiter, null, quote: *quote, escape: *escape, single };
                    let quoted = &self.quoted;
                    join(&self.columns, row, *delimiter, null, out, |column, cell, out| {
                        csv.cell(cell, quoted[column], out);
                    });
                }
            }
        }
        self.to_encoding(out, start)
    }

    /// Brings what begins at `start` into the encoding asked for.
    fn to_encoding(&self, out: &mut Vec<u8>, start: usize) -> Result<()> {
        if !self.latin1 || self.format == CopyFormat::Binary {
            return Ok(());
        }
        let text = String::from_utf8(out.split_off(start)).expect("columns are written in UTF-8");
        for c in text.chars() {
            out.push(u8::try_from(u32::from(c)).map_err(|_| {
                let bytes: Vec<String> = c.to_string().bytes().map(|byte| format!("0x{byte:02x}")).collect();
                let message = format!(
                    "character with byte sequence {} in encoding \"UTF8\" has no equivalent in encoding \"LATIN1\"",
                    bytes.join(" ")
                );
                Error::new("22P05", message)
            })?);
        }
        Ok(())
    }

    /// What comes after the last row.
    pub fn trailer(&self) -> Vec<u8> {
        match self.format {
            CopyFormat::Binary => (-1i16).to_be_bytes().to_vec(),
            _ => Vec::new(),
        }
    }
}

fn join(
    columns: &[Cells],
    row: usize,
    delimiter: u8,
    null: &str,
    out: &mut Vec<u8>,
    encode: impl Fn(usize, &[u8], &mut Vec<u8>),
) {
    for (i, cells) in columns.iter().enumerate() {
        if i > 0 {
            out.push(delimiter);
        }
        match cells.get(row) {
            Some(cell) => encode(i, cell, out),
            None => out.extend_from_slice(null.as_bytes()),
        }
    }
    out.push(b'\n');
}

fn escape_text(cell: &[u8], delimiter: u8, out: &mut Vec<u8>) {
    let mut rest = cell;
    while let Some(at) = rest.iter().position(|b| (0x08..=0x0d).contains(b) || *b == b'\\' || *b == delimiter) {
        out.extend_from_slice(&rest[..at]);
        out.push(b'\\');
        out.push(match rest[at] {
            0x08 => b'b',
            b'\t' => b't',
            b'\n' => b'n',
            0x0b => b'v',
            0x0c => b'f',
            b'\r' => b'r',
            other => other,
        });
        rest = &rest[at + 1..];
    }
    out.extend_from_slice(rest);
}

struct Csv<'a> {
    delimiter: u8,
    null: &'a str,
    quote: u8,
    escape: u8,
    /// The row has one column, where `\.` would end the data.
    single: bool,
}

impl Csv<'_> {
    fn cell(&self, cell: &[u8], quoted: bool, out: &mut Vec<u8>) {
        let special = |b: &u8| *b == self.delimiter || *b == self.quote || *b == b'\n' || *b == b'\r';
        let needed = cell == self.null.as_bytes() || cell.iter().any(special) || (self.single && cell == b"\\.");
        if !(quoted || needed) {
            return out.extend_from_slice(cell);
        }
        out.push(self.quote);
        for b in cell {
            if *b == self.quote || *b == self.escape {
                out.push(self.escape);
            }
            out.push(*b);
        }
        out.push(self.quote);
    }
}

/// Finds where rows end in encoded bytes. A binary header belongs to the row after it, as Postgres sends it.
pub struct CopyRows {
    binary: bool,
    quote: Option<(u8, u8)>,
    header_seen: bool,
    /// Of a row that has not ended: so many bytes have been looked at, the last of them between quotes.
    seen: usize,
    quoted: bool,
}

impl CopyRows {
    pub fn new(format: &CopyFormat) -> CopyRows {
        let quote = match format {
            CopyFormat::Csv { quote, escape, .. } => Some((*quote, *escape)),
            _ => None,
        };
        CopyRows { binary: *format == CopyFormat::Binary, quote, header_seen: false, seen: 0, quoted: false }
    }

    /// The length of the first row of `bytes`; `None` if it does not end there. Then it is asked again when there are more,
    /// from the same row on: what has been looked at is not looked at again.
    pub fn next_row(&mut self, bytes: &[u8]) -> Option<usize> {
        if self.binary {
            let start = if self.header_seen { 0 } else { BINARY_HEADER.len() };
            let end = binary_row_end(bytes, start)?;
            self.header_seen = true;
            return Some(end);
        }
        let mut at = std::mem::take(&mut self.seen);
        while at < bytes.len() {
            let b = bytes[at];
            match self.quote {
                Some((quote, escape)) if self.quoted && b == escape && escape != quote => {
                    // What is escaped has not come yet.
                    if at + 1 == bytes.len() {
                        break;
                    }
                    at += 1;
                }
                // A doubled quote toggles twice.
                Some((quote, _)) if b == quote => self.quoted = !self.quoted,
                _ if b == b'\n' && !self.quoted => return Some(at + 1),
                _ => {}
            }
            at += 1;
        }
        self.seen = at;
        None
    }
}

fn binary_row_end(bytes: &[u8], start: usize) -> Option<usize> {
    let count = i16::from_be_bytes(bytes.get(start..start + 2)?.try_into().expect("two bytes"));
    // The trailer's -1 is no row.
    if count < 0 {
        return None;
    }
    let mut end = start + 2;
    for _ in 0..count {
        let length = i32::from_be_bytes(bytes.get(end..end + 4)?.try_into().expect("four bytes"));
        end += 4 + length.max(0) as usize;
    }
    (end <= bytes.len()).then_some(end)
}
