//! Rows on the wire: from Arrow columns to DataRow messages.
//!
//! ```text
//!   | 1 | 'a' |      D 0000000f 0002  00000001 "1"  00000001 "a"
//!   | 2 | NULL|      D 0000000f 0002  00000001 "2"  ffffffff
//! ```
//!
//! Each column is encoded on its own, in text or binary as the client asked, into bytes that are kept from
//! batch to batch; then the rows are put together from them. A batch goes through in pieces of about
//! [`PIECE_BYTES`], so that a row of megabytes does not make thousands of them wait in memory.

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use millrace_engine::error::Result;
use millrace_engine::sql::text::{Cells, PgType, Style, binary, write};

use crate::pg::wire;

/// About so much of a batch is encoded before it is sent.
const PIECE_BYTES: usize = 256 << 10;

pub struct RowEncoder {
    schema: SchemaRef,
    types: Vec<PgType>,
    /// Per column: binary or text.
    binary: Vec<bool>,
    style: Style,
    cells: Vec<Cells>,
}

impl RowEncoder {
    /// `binary` has an entry per column.
    pub fn new(schema: SchemaRef, binary: Vec<bool>, style: Style) -> RowEncoder {
        let types: Vec<PgType> = schema.fields().iter().map(|f| PgType::of(f)).collect();
        let cells = types.iter().map(|_| Cells::default()).collect();
        assert_eq!(types.len(), binary.len(), "one format per column");
        RowEncoder { schema, types, binary, style, cells }
    }

    pub fn describe(&self, out: &mut Vec<u8>) {
        let columns = self.schema.fields().iter().zip(&self.types).zip(&self.binary);
        wire::put_row_description(out, columns.map(|((field, ty), is_binary)| (field.as_ref(), ty, *is_binary)));
    }

    /// How many of the batch's next rows make a piece.
    pub fn piece_rows(&self, batch: &RecordBatch) -> usize {
        let bytes = batch.columns().iter().map(|c| c.to_data().get_slice_memory_size().unwrap_or(0)).sum::<usize>();
        let rows = batch.num_rows().max(1);
        (PIECE_BYTES / (bytes / rows).max(1)).clamp(1, rows)
    }

    /// Appends a message per row.
    pub fn encode(&mut self, batch: &RecordBatch, out: &mut Vec<u8>) -> Result<()> {
        for (i, array) in batch.columns().iter().enumerate() {
            self.cells[i].clear();
            if self.binary[i] {
                binary::write(&self.types[i], array, &mut self.cells[i])?;
            } else {
                write::write(&self.types[i], array, &self.style, &mut self.cells[i]);
            }
        }
        for row in 0..batch.num_rows() {
            wire::put(out, b'D', |o| {
                o.extend_from_slice(&(self.cells.len() as u16).to_be_bytes());
                self.cells.iter().for_each(|cells| binary::write_counted(cells.get(row), o));
            });
        }
        Ok(())
    }
}

/// A client's format codes, spread over `count` columns: none means text, one is for all.
pub fn spread_formats(codes: &[i16], count: usize, what: &str) -> Result<Vec<bool>> {
    let one = |code: &i16| match code {
        0 => Ok(false),
        1 => Ok(true),
        other => Err(millrace_engine::Error::invalid_value(format!("unsupported format code: {other}"))),
    };
    match codes {
        [] => Ok(vec![false; count]),
        [code] => Ok(vec![one(code)?; count]),
        codes if codes.len() == count => codes.iter().map(one).collect(),
        codes => {
            Err(wire::violation(format!("bind message has {} {what} formats but {count} are needed", codes.len())))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Int32Array, StringArray};

    use super::*;

    #[test]
    fn rows_in_text_and_binary() {
        let columns: Vec<(&str, ArrayRef)> = vec![
            ("n", Arc::new(Int32Array::from(vec![Some(258), None]))),
            ("t", Arc::new(StringArray::from(vec![Some("ab"), Some("")]))),
        ];
        let batch = RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(n, c)| (n, c, true))).unwrap();
        let mut encoder = RowEncoder::new(batch.schema(), vec![true, false], Style::default());
        let mut out = Vec::new();
        encoder.encode(&batch, &mut out).unwrap();
        let mut expected = b"D\0\0\0\x14\0\x02\0\0\0\x04\0\0\x01\x02\0\0\0\x02ab".to_vec();
        expected.extend_from_slice(b"D\0\0\0\x0e\0\x02\xff\xff\xff\xff\0\0\0\0");
        assert_eq!(out, expected);
        out.clear();
        encoder.describe(&mut out);
        let mut expected = b"T\0\0\0\x2e\0\x02n\0\0\0\0\0\0\0\0\0\0\x17\0\x04\xff\xff\xff\xff\0\x01".to_vec();
        expected.extend_from_slice(b"t\0\0\0\0\0\0\0\0\0\0\x19\xff\xff\xff\xff\xff\xff\0\0");
        assert_eq!(out, expected);
    }

    #[test]
    fn formats() {
        assert_eq!(spread_formats(&[], 2, "result"), Ok(vec![false, false]));
        assert_eq!(spread_formats(&[1], 2, "result"), Ok(vec![true, true]));
        assert_eq!(spread_formats(&[0, 1], 2, "result"), Ok(vec![false, true]));
        assert_eq!(spread_formats(&[0, 1], 3, "result").unwrap_err().code, "08P01");
        assert_eq!(spread_formats(&[2], 1, "result").unwrap_err().code, "22023");
    }
}
