//! A chunk: some rows of one schema as one value, in the log or as a checkpoint's block.
//!
//! ```text
//!   form:1  schema:varint  offset:varint  rows:varint  payload
//!
//!   form & 0x7f   1  packed: the bare values, for few rows (packed.rs)
//!                 2  Arrow IPC stream without its schema message, buffers compressed with LZ4
//!   form & 0x80   with weights: zigzag varints before the packed values, or a last Int64 column
//!   form & 0x40   rows have been taken out (compact.rs): before the payload stand a varint, how many runs of rows are
//!                 left, and for each two more, the rows gone before it (none before the first) and its length
//!   offset        how many rows of the relation were logged before these (0 in blocks)
//! ```
//!
//! Few rows are packed because IPC costs some 500 bytes and several microseconds however few they are;
//! many rows are IPC because its buffers compress and a column can be skipped. A chunk holds at most
//! [`CHUNK_ROWS_MAX`] rows and about [`CHUNK_BYTES_MAX`] bytes before compression.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{DataType, Int64Type, SchemaRef};
use arrow::ipc::CompressionType;
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::{IpcWriteOptions, StreamWriter};

use super::frame::{Frame, Reader, put_varint, put_zigzag};
use super::packed::{self, Rows};
use super::schemas::{Schemas, StoredSchema};
use super::shapes::{Shape, Widening};
use crate::delta::Delta;
use crate::error::{Error, Result};

pub(super) const CHUNK_ROWS_MAX: usize = 65_536;
pub(super) const CHUNK_BYTES_MAX: usize = 16 << 20;
/// Up to here the packed form is the smaller and the faster one (measured: `tests/speed.rs`).
pub(super) const PACKED_ROWS_MAX: usize = 128;

const PACKED: u8 = 1;
const IPC: u8 = 2;
const WEIGHTED: u8 = 0x80;
const SPARSE: u8 = 0x40;

/// Rows that follow one another in the log: the offset of the first one, and how many.
pub(super) type Run = (u64, u64);

/// `delta` as a value to be sealed. It must fit one chunk (see [`split`]) and have the stored schema's types.
pub(super) fn encode(stored: &StoredSchema, delta: &Delta, offset: u64) -> Result<Frame> {
    encode_runs(stored, delta, &[(offset, delta.len() as u64)])
}

/// The same for rows that do not all follow one another. `runs` rise, and have as many rows as there are.
pub(super) fn encode_runs(stored: &StoredSchema, delta: &Delta, runs: &[Run]) -> Result<Frame> {
    assert_eq!(runs.iter().map(|run| run.1).sum::<u64>(), delta.len() as u64, "each row is in one run");
    let packed = stored.packable && delta.len() <= PACKED_ROWS_MAX;
    let sparse = runs.len() > 1;
    let mut frame = Frame::new();
    let out = frame.body();
    let weighted = if delta.weights.is_some() { WEIGHTED } else { 0 };
    out.push(if packed { PACKED } else { IPC } | weighted | if sparse { SPARSE } else { 0 });
    put_varint(out, u64::from(stored.id));
    put_varint(out, runs[0].0);
    put_varint(out, delta.len() as u64);
    if sparse {
        put_varint(out, runs.len() as u64);
        let mut end = runs[0].0;
        for &(first, rows) in runs {
            put_varint(out, first - end);
            put_varint(out, rows);
            end = first + rows;
        }
    }
    if packed {
        if let Some(weights) = &delta.weights {
            weights.values().iter().for_each(|w| put_zigzag(out, *w));
        }
        packed::write(&delta.rows, out);
    } else {
        write_ipc(stored, delta, out)?;
    }
    Ok(frame)
}

fn write_ipc(stored: &StoredSchema, delta: &Delta, out: &mut Vec<u8>) -> Result<()> {
    let mut columns: Vec<ArrayRef> = delta.rows.columns().iter().map(without_foreign_views).collect();
    let (schema, message) = match &delta.weights {
        None => (&stored.schema, &stored.message),
        Some(weights) => {
            columns.push(Arc::new(weights.clone()));
            (&stored.weighted, &stored.weighted_message)
        }
    };
    let unsupported = |e| Error::unsupported(format!("storing these rows ({e})"));
    let options = RecordBatchOptions::new().with_row_count(Some(delta.len()));
    let batch = RecordBatch::try_new_with_options(schema.clone(), columns, &options).map_err(unsupported)?;
    let compression = IpcWriteOptions::default().try_with_compression(Some(CompressionType::LZ4_FRAME));
    let mut writer =
        StreamWriter::try_new_with_options(Vec::new(), schema, compression.expect("the current version compresses"))
            .map_err(unsupported)?;
    let head = writer.get_ref().len();
    assert_eq!(head, message.len(), "a schema has one message");
    writer.write(&batch).map_err(unsupported)?;
    writer.finish().map_err(unsupported)?;
    out.extend_from_slice(&writer.get_ref()[head..]);
    Ok(())
}

/// A slice of string views refers to all the strings of its batch; keep only its own.
fn without_foreign_views(column: &ArrayRef) -> ArrayRef {
    match column.data_type() {
        DataType::Utf8View => Arc::new(column.as_string_view().gc()),
        DataType::BinaryView => Arc::new(column.as_binary_view().gc()),
        _ => column.clone(),
    }
}

/// What stands before the payload.
pub(super) struct ChunkHead<'a> {
    form: u8,
    pub schema_id: u32,
    pub offset: u64,
    pub rows: usize,
    /// What is left of it, when rows have been taken out of its middle.
    sparse: Vec<Run>,
    payload: &'a [u8],
}

impl<'a> ChunkHead<'a> {
    pub fn read(body: &'a [u8]) -> Result<ChunkHead<'a>> {
        let mut reader = Reader::new(body);
        let form = reader.byte()?;
        let schema_id = reader.varint()? as u32;
        let offset = reader.varint()?;
        let rows = reader.length()?;
        let mut sparse = Vec::new();
        if form & SPARSE != 0 {
            let (mut end, mut left) = (offset, rows as u64);
            for _ in 0..reader.varint()? {
                let first = end.checked_add(reader.varint()?);
                let length = reader.varint()?;
                let (Some(first), Some(after)) = (first, left.checked_sub(length)) else { break };
                sparse.push((first, length));
                (end, left) = (first.saturating_add(length), after);
            }
            if left != 0 || sparse.is_empty() {
                return Err(Error::corrupt("a stored chunk has not the rows it should"));
            }
        }
        Ok(ChunkHead { form, schema_id, offset, rows, sparse, payload: reader.rest() })
    }

    /// Where its rows stand.
    pub fn runs(&self) -> Vec<Run> {
        if self.sparse.is_empty() { vec![(self.offset, self.rows as u64)] } else { self.sparse.clone() }
    }

    /// The offset after its last row.
    pub fn end(&self) -> u64 {
        self.sparse.last().map_or(self.offset + self.rows as u64, |(first, rows)| first + rows)
    }
}

/// Collects chunks of one schema, as long as they are packed, into one delta of some thousand rows; IPC
/// chunks pass as they are.
pub(super) struct Collector {
    stored: Arc<StoredSchema>,
    projection: Option<Vec<usize>>,
    output: SchemaRef,
    /// `None` until the first packed chunk; not every schema has the packed form.
    rows: Option<Rows>,
    weights: Option<Vec<i64>>,
    /// The stream has columns that these chunks lack, or calls some otherwise.
    widening: Option<Widening>,
}

impl Collector {
    /// As [`Self::new`], of a relation that may have more columns now than the chunks, and other names for them.
    pub fn of(
        schemas: &Schemas,
        shape: Option<&Arc<Shape>>,
        schema_id: u32,
        projection: Option<Vec<usize>>,
    ) -> Result<Collector> {
        let stored = &schemas.get(schema_id)?.schema;
        let columns = stored.fields().len();
        let widening = match shape {
            None => None,
            Some(shape) => shape.widening(stored, projection.as_deref())?,
        };
        let projection = match (&widening, projection) {
            (Some(widening), _) => Some(widening.read()),
            // All of them are read more simply.
            (None, Some(wanted)) => Some(wanted).filter(|wanted| !wanted.iter().copied().eq(0..columns)),
            (None, None) => None,
        };
        Ok(Collector { widening, ..Collector::new(schemas, schema_id, projection)? })
    }

    /// Chunks as they were written. `projection` picks columns by index.
    pub fn new(schemas: &Schemas, schema_id: u32, projection: Option<Vec<usize>>) -> Result<Collector> {
        let stored = schemas.get(schema_id)?;
        let output = match &projection {
            None => stored.schema.clone(),
            Some(columns) => Arc::new(stored.schema.project(columns).map_err(Error::internal)?),
        };
        Ok(Collector { stored, projection, output, rows: None, weights: None, widening: None })
    }

    pub fn schema_id(&self) -> u32 {
        self.stored.id
    }
    pub fn len(&self) -> usize {
        self.rows.as_ref().map_or(0, Rows::len)
    }
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// About how much memory the collected rows take.
    pub fn bytes(&self) -> usize {
        self.rows.as_ref().map_or(0, Rows::bytes)
    }
    /// Whether a chunk can be added; otherwise it is read on its own.
    pub fn takes(chunk: &ChunkHead) -> bool {
        chunk.form & !(WEIGHTED | SPARSE) == PACKED
    }

    pub fn add(&mut self, chunk: &ChunkHead) -> Result<()> {
        if chunk.rows > PACKED_ROWS_MAX || !self.stored.packable {
            return Err(Error::corrupt("a stored chunk is packed and should not be"));
        }
        let before = self.len();
        let mut reader = Reader::new(chunk.payload);
        if chunk.form & WEIGHTED != 0 {
            let weights = self.weights.get_or_insert_with(|| vec![1; before]);
            for _ in 0..chunk.rows {
                weights.push(reader.zigzag()?);
            }
        } else if let Some(weights) = &mut self.weights {
            weights.resize(weights.len() + chunk.rows, 1);
        }
        let rows = self.rows.get_or_insert_with(|| Rows::new(&self.stored.schema, self.projection.as_deref()));
        rows.add(&mut reader, chunk.rows)?;
        match reader.is_empty() {
            true => Ok(()),
            false => Err(Error::corrupt("a stored chunk is longer than its rows")),
        }
    }

    /// What was added since the last call: something, see [`Collector::is_empty`].
    pub fn take(&mut self) -> Result<Delta> {
        let rows = self.rows.take().expect("rows were added");
        let weights = self.weights.take().map(Int64Array::from);
        self.widened(Delta::new(rows.finish(self.output.clone())?, weights))
    }

    fn widened(&self, delta: Delta) -> Result<Delta> {
        match &self.widening {
            None => Ok(delta),
            Some(widening) => widening.widen(&delta),
        }
    }

    /// One chunk alone; nothing must have been added before.
    pub fn decode(&mut self, chunk: &ChunkHead) -> Result<Delta> {
        if Self::takes(chunk) {
            self.add(chunk)?;
            self.take()
        } else {
            self.read(chunk)
        }
    }

    /// An IPC chunk.
    pub fn read(&self, chunk: &ChunkHead) -> Result<Delta> {
        if chunk.form & !(WEIGHTED | SPARSE) != IPC {
            return Err(Error::corrupt(format!("a stored chunk has the unknown form {}", chunk.form)));
        }
        let weighted = chunk.form & WEIGHTED != 0;
        let message = if weighted { &self.stored.weighted_message } else { &self.stored.message };
        let mut columns = self.projection.clone();
        if let (Some(columns), true) = (&mut columns, weighted) {
            columns.push(self.stored.schema.fields().len());
        }
        let stream = std::io::Read::chain(message.as_slice(), chunk.payload);
        let batch = StreamReader::try_new(stream, columns)
            .and_then(|mut reader| reader.next().transpose())
            .map_err(|e| Error::corrupt(format!("a stored chunk cannot be read: {e}")))?
            .filter(|batch| batch.num_rows() == chunk.rows)
            .ok_or_else(|| Error::corrupt("a stored chunk has not the rows it should"))?;
        let mut columns = batch.columns().to_vec();
        let weights = weighted.then(|| columns.pop()).flatten().map(|w| w.as_primitive::<Int64Type>().clone());
        let options = RecordBatchOptions::new().with_row_count(Some(chunk.rows));
        let rows = RecordBatch::try_new_with_options(self.output.clone(), columns, &options)
            .map_err(|e| Error::corrupt(format!("a stored chunk does not fit its schema: {e}")))?;
        self.widened(Delta::new(rows, weights))
    }
}

/// Cuts `delta` into pieces that fit a chunk each.
pub(super) fn split(delta: &Delta) -> Vec<Delta> {
    let rows = match delta.bytes() / CHUNK_BYTES_MAX {
        0 => CHUNK_ROWS_MAX,
        n => (delta.len() / (n + 1)).clamp(1, CHUNK_ROWS_MAX),
    };
    (0..delta.len()).step_by(rows).map(|at| delta.slice(at, rows.min(delta.len() - at))).collect()
}

/// Few large deltas instead of many small ones: neighbours of one schema are joined until they fill a chunk.
pub(super) fn coalesce(deltas: &[Delta]) -> Result<Vec<Delta>> {
    const SMALL: usize = 4_096;
    let mut out: Vec<Delta> = Vec::with_capacity(deltas.len());
    let mut at = 0;
    while at < deltas.len() {
        let first = &deltas[at];
        let mut rows = first.len();
        let mut end = at + 1;
        while first.len() <= SMALL
            && end < deltas.len()
            && deltas[end].len() <= SMALL
            && rows + deltas[end].len() <= CHUNK_ROWS_MAX
            && deltas[end].schema() == first.schema()
        {
            rows += deltas[end].len();
            end += 1;
        }
        out.push(if end == at + 1 { first.clone() } else { concat(&deltas[at..end], rows)? });
        at = end;
    }
    out.retain(|d| !d.is_empty());
    Ok(out)
}

fn concat(deltas: &[Delta], rows: usize) -> Result<Delta> {
    let schema = deltas[0].schema();
    let batches = deltas.iter().map(|d| &d.rows);
    let batch = arrow::compute::concat_batches(&schema, batches)
        .map_err(|e| Error::unsupported(format!("joining rows ({e})")))?;
    let weights = deltas.iter().any(|d| d.weights.is_some()).then(|| {
        let mut weights = Vec::with_capacity(rows);
        deltas.iter().for_each(|d| (0..d.len()).for_each(|row| weights.push(d.weight(row))));
        Int64Array::from(weights)
    });
    Ok(Delta::new(batch, weights))
}
