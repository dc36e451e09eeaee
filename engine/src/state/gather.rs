//! Rows at scattered positions, fetched column by column from many segments.
//!
//! Arrow's `interleave` costs time in the number of arrays at each call, so with thousands of segments it
//! would dominate. Here a position is resolved once per row to (segment, row) and each column is read
//! through its segments' raw slices, with one type dispatch per column and call.

use std::sync::Arc;

use arrow::array::downcast_primitive;
use arrow::array::{
    Array, ArrayRef, ArrowPrimitiveType, AsArray, BooleanArray, BooleanBufferBuilder, GenericStringArray,
    PrimitiveArray, RecordBatch, StringArray, new_empty_array,
};
use arrow::buffer::{NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::DataType;

/// Where a row is: the segment's index in the list given to [`gather`], and the row in it.
pub type Place = (u32, u32);

/// Column `column` of the rows at `places`, in that order.
pub fn gather(segments: &[Arc<RecordBatch>], column: usize, data_type: &DataType, places: &[Place]) -> ArrayRef {
    if places.is_empty() {
        return new_empty_array(data_type);
    }
    let nulls = gather_nulls(segments, column, places);
    macro_rules! primitive {
        ($t:ty) => {
            Arc::new(gather_primitive::<$t>(segments, column, data_type, places, nulls))
        };
    }
    downcast_primitive! {
        data_type => (primitive),
        DataType::Utf8 => Arc::new(gather_string(segments, column, places, nulls)),
        DataType::Boolean => Arc::new(gather_boolean(segments, column, places, nulls)),
        _ => gather_any(segments, column, places),
    }
}

fn gather_nulls(segments: &[Arc<RecordBatch>], column: usize, places: &[Place]) -> Option<NullBuffer> {
    if segments.iter().all(|s| s.column(column).null_count() == 0) {
        return None;
    }
    let mut bits = BooleanBufferBuilder::new(places.len());
    for &(segment, row) in places {
        bits.append(segments[segment as usize].column(column).is_valid(row as usize));
    }
    Some(NullBuffer::new(bits.finish()))
}

fn gather_primitive<T: ArrowPrimitiveType>(
    segments: &[Arc<RecordBatch>],
    column: usize,
    data_type: &DataType,
    places: &[Place],
    nulls: Option<NullBuffer>,
) -> PrimitiveArray<T> {
    let slices: Vec<&[T::Native]> =
        segments.iter().map(|s| s.column(column).as_primitive::<T>().values().as_ref()).collect();
    let values: Vec<T::Native> = places.iter().map(|&(s, r)| slices[s as usize][r as usize]).collect();
    PrimitiveArray::<T>::new(ScalarBuffer::from(values), nulls).with_data_type(data_type.clone())
}

fn gather_boolean(
    segments: &[Arc<RecordBatch>],
    column: usize,
    places: &[Place],
    nulls: Option<NullBuffer>,
) -> BooleanArray {
    let arrays: Vec<&BooleanArray> = segments.iter().map(|s| s.column(column).as_boolean()).collect();
    let mut bits = BooleanBufferBuilder::new(places.len());
    for &(s, r) in places {
        bits.append(arrays[s as usize].value(r as usize));
    }
    BooleanArray::new(bits.finish(), nulls)
}

fn gather_string(
    segments: &[Arc<RecordBatch>],
    column: usize,
    places: &[Place],
    nulls: Option<NullBuffer>,
) -> GenericStringArray<i32> {
    let arrays: Vec<&StringArray> = segments.iter().map(|s| s.column(column).as_string::<i32>()).collect();
    let mut offsets: Vec<i32> = Vec::with_capacity(places.len() + 1);
    let mut total = 0usize;
    offsets.push(0);
    for &(s, r) in places {
        total += arrays[s as usize].value_length(r as usize) as usize;
        offsets.push(i32::try_from(total).expect("a batch's strings stay under 2 GiB: batches are bounded"));
    }
    let mut bytes = Vec::with_capacity(total);
    for &(s, r) in places {
        let array = arrays[s as usize];
        let (from, to) = (array.value_offsets()[r as usize] as usize, array.value_offsets()[r as usize + 1] as usize);
        bytes.extend_from_slice(&array.value_data()[from..to]);
    }
    StringArray::new(OffsetBuffer::new(ScalarBuffer::from(offsets)), bytes.into(), nulls)
}

/// Nested and rare types: Arrow's own kernel, over only the segments that occur.
fn gather_any(segments: &[Arc<RecordBatch>], column: usize, places: &[Place]) -> ArrayRef {
    let mut used: Vec<u32> = places.iter().map(|p| p.0).collect();
    used.sort_unstable();
    used.dedup();
    let arrays: Vec<&dyn Array> = used.iter().map(|&s| segments[s as usize].column(column).as_ref()).collect();
    let indices: Vec<(usize, usize)> = places
        .iter()
        .map(|&(s, r)| (used.binary_search(&s).expect("collected from the same places"), r as usize))
        .collect();
    arrow::compute::interleave(&arrays, &indices).expect("columns of one schema")
}
