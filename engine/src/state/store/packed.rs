//! The packed form of few rows: their bare values, column after column, nothing aligned or padded.
//!
//! ```text
//!   rows (1, 'ab'), (2, NULL)       00 01000000 02000000   01 01 02 6162
//!                                   |  |                   |  |  |  '--- the bytes
//!                                   |  '- int4 values      |  |  '------ lengths (varint, of valid ones)
//!                                   '- no NULL             |  '--------- validity bits
//!                                                          '------------ some NULL
//!
//!   column   nulls:1 (0 none, 1 some, 2 all), bits if some, then if not all:
//!     booleans             bits
//!     fixed width          the values, little-endian as in Arrow (a NULL's is arbitrary)
//!     strings, bytes       a length per valid row, then all bytes
//!     lists                a length per valid row, then the elements as a column
//!     fixed-size lists     the elements as a column
//!     structs              the fields as columns
//! ```
//!
//! There is no size limit, but it is meant for a hundred rows. Reading appends to growing columns, so that
//! thousands of one-row chunks become one batch.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayData, ArrayDataBuilder, ArrayRef, BooleanBufferBuilder, NullBufferBuilder, RecordBatch,
};
use arrow::array::{RecordBatchOptions, make_array};
use arrow::buffer::{Buffer, MutableBuffer, NullBuffer};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Schema, SchemaRef};

use super::frame::{Reader, put_varint};
use crate::error::{Error, Result};

const NO_NULLS: u8 = 0;
const SOME_NULLS: u8 = 1;
const ALL_NULLS: u8 = 2;

/// How a type's values are laid out.
enum Layout<'a> {
    Empty,
    Bits,
    Fixed(usize),
    /// Offsets of four or eight bytes.
    Bytes {
        wide: bool,
    },
    /// Stored as the plain type, made views when read.
    View(DataType),
    List {
        wide: bool,
        child: &'a DataType,
    },
    FixedList {
        size: usize,
        child: &'a DataType,
    },
    Struct(Vec<&'a DataType>),
}

/// `None`: rows with such a column are stored as IPC, however few.
fn layout(data_type: &DataType) -> Option<Layout<'_>> {
    Some(match data_type {
        DataType::Null => Layout::Empty,
        DataType::Boolean => Layout::Bits,
        DataType::FixedSizeBinary(width) => Layout::Fixed(*width as usize),
        DataType::Utf8 | DataType::Binary => Layout::Bytes { wide: false },
        DataType::LargeUtf8 | DataType::LargeBinary => Layout::Bytes { wide: true },
        DataType::Utf8View => Layout::View(DataType::Utf8),
        DataType::BinaryView => Layout::View(DataType::Binary),
        DataType::List(field) => Layout::List { wide: false, child: field.data_type() },
        DataType::LargeList(field) => Layout::List { wide: true, child: field.data_type() },
        DataType::FixedSizeList(field, size) => Layout::FixedList { size: *size as usize, child: field.data_type() },
        DataType::Struct(fields) => Layout::Struct(fields.iter().map(|f| f.data_type()).collect()),
        other => Layout::Fixed(other.primitive_width()?),
    })
}

pub(super) fn can_pack(data_type: &DataType) -> bool {
    match layout(data_type) {
        None => false,
        Some(Layout::List { child, .. } | Layout::FixedList { child, .. }) => can_pack(child),
        Some(Layout::Struct(fields)) => fields.into_iter().all(can_pack),
        Some(_) => true,
    }
}

/// Appends the rows of `batch`, whose types can all be packed.
pub(super) fn write(batch: &RecordBatch, out: &mut Vec<u8>) {
    batch.columns().iter().for_each(|column| write_column(&column.to_data(), out));
}

fn write_column(data: &ArrayData, out: &mut Vec<u8>) {
    let (len, offset) = (data.len(), data.offset());
    let nulls = data.nulls().filter(|n| n.null_count() > 0);
    match nulls {
        None => out.push(NO_NULLS),
        Some(n) if n.null_count() == len => return out.push(ALL_NULLS),
        Some(n) => {
            out.push(SOME_NULLS);
            write_bits(out, n.iter());
        }
    }
    let valid = |row: usize| nulls.is_none_or(|n| n.is_valid(row));
    match layout(data.data_type()).expect("checked by can_pack") {
        Layout::Empty => {}
        Layout::Bits => {
            let bits = &data.buffers()[0];
            write_bits(out, (offset..offset + len).map(|i| arrow::util::bit_util::get_bit(bits, i)));
        }
        Layout::Fixed(width) => out.extend_from_slice(&data.buffers()[0][offset * width..(offset + len) * width]),
        Layout::Bytes { wide } => {
            let ranges: Vec<_> = (0..len).filter(|row| valid(*row)).map(|row| range(data, wide, row)).collect();
            ranges.iter().for_each(|(start, end)| put_varint(out, (end - start) as u64));
            ranges.iter().for_each(|(start, end)| out.extend_from_slice(&data.buffers()[1][*start..*end]));
        }
        Layout::View(plain) => {
            let plain = cast(&make_array(data.clone()), &plain).expect("views and plain strings convert").to_data();
            write_bytes_after_nulls(&plain, out);
        }
        Layout::List { wide, .. } => {
            let ranges: Vec<_> = (0..len).filter(|row| valid(*row)).map(|row| range(data, wide, row)).collect();
            ranges.iter().for_each(|(start, end)| put_varint(out, (end - start) as u64));
            write_column(&elements(&data.child_data()[0], &ranges), out);
        }
        Layout::FixedList { size, .. } => write_column(&data.child_data()[0].slice(offset * size, len * size), out),
        Layout::Struct(_) => data.child_data().iter().for_each(|child| write_column(&child.slice(offset, len), out)),
    }
}

/// The body of a string column whose null mask is already written.
fn write_bytes_after_nulls(plain: &ArrayData, out: &mut Vec<u8>) {
    let rows = (0..plain.len()).filter(|row| plain.is_valid(*row));
    let ranges: Vec<_> = rows.map(|row| range(plain, false, row)).collect();
    ranges.iter().for_each(|(start, end)| put_varint(out, (end - start) as u64));
    ranges.iter().for_each(|(start, end)| out.extend_from_slice(&plain.buffers()[1][*start..*end]));
}

/// The elements of the valid lists, one after the other.
fn elements(child: &ArrayData, ranges: &[(usize, usize)]) -> ArrayData {
    match ranges {
        [] => child.slice(0, 0),
        [(start, end)] => child.slice(*start, end - start),
        [(first, _), .., (_, last)] if ranges.windows(2).all(|w| w[0].1 == w[1].0) => child.slice(*first, last - first),
        _ => {
            let mut copy = arrow::array::MutableArrayData::new(vec![child], false, 0);
            for (start, end) in ranges {
                copy.try_extend(0, *start, *end).expect("no longer than the array it copies from");
            }
            copy.freeze()
        }
    }
}

fn range(data: &ArrayData, wide: bool, row: usize) -> (usize, usize) {
    let at = data.offset() + row;
    if wide {
        let offsets = data.buffers()[0].typed_data::<i64>();
        (offsets[at] as usize, offsets[at + 1] as usize)
    } else {
        let offsets = data.buffers()[0].typed_data::<i32>();
        (offsets[at] as usize, offsets[at + 1] as usize)
    }
}

fn write_bits(out: &mut Vec<u8>, bits: impl Iterator<Item = bool>) {
    let mut byte = 0;
    let mut count = 0;
    for bit in bits {
        byte |= u8::from(bit) << (count % 8);
        count += 1;
        if count % 8 == 0 {
            out.push(byte);
            byte = 0;
        }
    }
    if count % 8 != 0 {
        out.push(byte);
    }
}

/// Rows as they are read, from any number of packed chunks of one schema.
pub(super) struct Rows {
    columns: Vec<Column>,
    /// Which of `columns` to give back, in this order; the others are read over.
    output: Vec<usize>,
    len: usize,
    bytes: usize,
}

impl Rows {
    pub fn new(schema: &Schema, projection: Option<&[usize]>) -> Rows {
        let all = || (0..schema.fields().len()).collect::<Vec<_>>();
        let output = projection.map_or_else(all, <[usize]>::to_vec);
        let column =
            |(i, field): (usize, &Arc<arrow::datatypes::Field>)| Column::new(field.data_type(), output.contains(&i));
        Rows { columns: schema.fields().iter().enumerate().map(column).collect(), output, len: 0, bytes: 0 }
    }
    pub fn len(&self) -> usize {
        self.len
    }
    /// Bytes read so far.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
    /// Appends `rows` rows.
    pub fn add(&mut self, reader: &mut Reader, rows: usize) -> Result<()> {
        let before = reader.remaining();
        for column in &mut self.columns {
            column.read(reader, rows)?;
        }
        self.len += rows;
        self.bytes += before - reader.remaining();
        Ok(())
    }
    pub fn finish(self, schema: SchemaRef) -> Result<RecordBatch> {
        let mut columns: Vec<Option<Column>> = self.columns.into_iter().map(Some).collect();
        let mut done: Vec<Option<ArrayRef>> = vec![None; columns.len()];
        for i in &self.output {
            if let Some(column) = columns[*i].take() {
                done[*i] = Some(make_array(column.finish()?));
            }
        }
        let arrays = self.output.iter().map(|i| done[*i].clone().expect("finished above")).collect();
        let options = RecordBatchOptions::new().with_row_count(Some(self.len));
        RecordBatch::try_new_with_options(schema, arrays, &options)
            .map_err(|e| Error::corrupt(format!("stored rows do not fit their schema: {e}")))
    }
}

/// A growing column. With `keep` off it only finds where the column's bytes end.
struct Column {
    data_type: DataType,
    keep: bool,
    len: usize,
    nulls: NullBufferBuilder,
    values: Values,
}

enum Values {
    Empty,
    Bits(BooleanBufferBuilder),
    Fixed { width: usize, bytes: MutableBuffer },
    Bytes { wide: bool, offsets: MutableBuffer, bytes: MutableBuffer, end: usize },
    List { wide: bool, offsets: MutableBuffer, child: Box<Column>, end: usize },
    FixedList { size: usize, child: Box<Column> },
    Struct(Vec<Column>),
}

impl Column {
    fn new(data_type: &DataType, keep: bool) -> Column {
        let offsets = |wide| {
            let mut offsets = MutableBuffer::new(0);
            push_offset(&mut offsets, wide, 0);
            offsets
        };
        let bytes = || MutableBuffer::new(0);
        let values = match layout(data_type).expect("checked by can_pack") {
            Layout::Empty => Values::Empty,
            Layout::Bits => Values::Bits(BooleanBufferBuilder::new(0)),
            Layout::Fixed(width) => Values::Fixed { width, bytes: bytes() },
            Layout::Bytes { wide } => Values::Bytes { wide, offsets: offsets(wide), bytes: bytes(), end: 0 },
            Layout::View(_) => Values::Bytes { wide: false, offsets: offsets(false), bytes: bytes(), end: 0 },
            Layout::List { wide, child } => {
                Values::List { wide, offsets: offsets(wide), child: Box::new(Column::new(child, keep)), end: 0 }
            }
            Layout::FixedList { size, child } => Values::FixedList { size, child: Box::new(Column::new(child, keep)) },
            Layout::Struct(fields) => Values::Struct(fields.into_iter().map(|f| Column::new(f, keep)).collect()),
        };
        Column { data_type: data_type.clone(), keep, len: 0, nulls: NullBufferBuilder::new(0), values }
    }

    fn read(&mut self, reader: &mut Reader, rows: usize) -> Result<()> {
        let mask = match reader.byte()? {
            NO_NULLS => None,
            SOME_NULLS => Some(reader.bytes(rows.div_ceil(8))?),
            ALL_NULLS => {
                self.push_nulls(rows);
                return Ok(());
            }
            other => return Err(Error::corrupt(format!("stored rows have the unknown null mark {other}"))),
        };
        self.len += rows;
        let valid = |row: usize| mask.is_none_or(|m| m[row / 8] & (1 << (row % 8)) != 0);
        if self.keep {
            match mask {
                None => self.nulls.append_n_non_nulls(rows),
                Some(_) => (0..rows).for_each(|row| self.nulls.append(valid(row))),
            }
        }
        let keep = self.keep;
        match &mut self.values {
            Values::Empty => {}
            Values::Bits(bits) => {
                let stored = reader.bytes(rows.div_ceil(8))?;
                if keep {
                    bits.append_packed_range(0..rows, stored);
                }
            }
            Values::Fixed { width, bytes } => {
                let stored = reader.bytes(rows * *width)?;
                if keep {
                    bytes.extend_from_slice(stored);
                }
            }
            Values::Bytes { wide, offsets, bytes, end } => {
                let total = read_lengths(reader, rows, valid, *wide, offsets, end, keep)?;
                let stored = reader.bytes(total)?;
                if keep {
                    bytes.extend_from_slice(stored);
                }
            }
            Values::List { wide, offsets, child, end } => {
                let total = read_lengths(reader, rows, valid, *wide, offsets, end, keep)?;
                child.read(reader, total)?;
            }
            Values::FixedList { size, child } => child.read(reader, rows * *size)?,
            Values::Struct(fields) => fields.iter_mut().try_for_each(|field| field.read(reader, rows))?,
        }
        Ok(())
    }

    fn push_nulls(&mut self, rows: usize) {
        self.len += rows;
        if !self.keep {
            return;
        }
        self.nulls.append_n_nulls(rows);
        match &mut self.values {
            Values::Empty => {}
            Values::Bits(bits) => bits.append_n(rows, false),
            Values::Fixed { width, bytes } => bytes.extend_zeros(rows * *width),
            Values::Bytes { wide, offsets, end, .. } | Values::List { wide, offsets, end, .. } => {
                (0..rows).for_each(|_| push_offset(offsets, *wide, *end));
            }
            Values::FixedList { size, child } => child.push_nulls(rows * *size),
            Values::Struct(fields) => fields.iter_mut().for_each(|field| field.push_nulls(rows)),
        }
    }

    fn finish(mut self) -> Result<ArrayData> {
        let plain = match layout(&self.data_type).expect("checked by can_pack") {
            Layout::View(plain) => plain,
            _ => self.data_type.clone(),
        };
        let nulls: Option<NullBuffer> = if self.data_type == DataType::Null { None } else { self.nulls.finish() };
        let builder = ArrayDataBuilder::new(plain).len(self.len).nulls(nulls);
        let builder = match self.values {
            Values::Empty => builder,
            Values::Bits(mut bits) => builder.add_buffer(bits.finish().into_inner()),
            Values::Fixed { bytes, .. } => builder.add_buffer(bytes.into()),
            Values::Bytes { offsets, bytes, .. } => builder.add_buffer(offsets.into()).add_buffer(Buffer::from(bytes)),
            Values::List { offsets, child, .. } => builder.add_buffer(offsets.into()).add_child_data(child.finish()?),
            Values::FixedList { child, .. } => builder.add_child_data(child.finish()?),
            Values::Struct(fields) => {
                builder.child_data(fields.into_iter().map(Column::finish).collect::<Result<Vec<_>>>()?)
            }
        };
        let misfit = |e| Error::corrupt(format!("stored rows do not fit their types: {e}"));
        let data = builder.build().map_err(misfit)?;
        match data.data_type() == &self.data_type {
            true => Ok(data),
            false => Ok(cast(&make_array(data), &self.data_type).map_err(misfit)?.to_data()),
        }
    }
}

/// Reads a length per valid row and appends the offsets; returns their sum.
fn read_lengths(
    reader: &mut Reader,
    rows: usize,
    valid: impl Fn(usize) -> bool,
    wide: bool,
    offsets: &mut MutableBuffer,
    end: &mut usize,
    keep: bool,
) -> Result<usize> {
    let mut total = 0usize;
    for row in 0..rows {
        let length = if valid(row) { reader.length()? } else { 0 };
        total = total.checked_add(length).ok_or_else(|| Error::corrupt("a stored length is too large"))?;
        if keep {
            push_offset(offsets, wide, *end + total);
        }
    }
    *end += total;
    Ok(total)
}

fn push_offset(offsets: &mut MutableBuffer, wide: bool, offset: usize) {
    match wide {
        true => offsets.push(offset as i64),
        false => offsets.push(offset as i32),
    }
}
