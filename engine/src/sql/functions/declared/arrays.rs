//! Functions of arrays. An array of arrays is Postgres' array of more dimensions; lower bounds are always 1.

use std::sync::Arc;

use arrow::array::{
    Array as _, ArrayRef, AsArray, ListArray, UInt32Array, make_comparator, new_empty_array, new_null_array,
};
use arrow::buffer::OffsetBuffer;
use arrow::compute::{SortColumn, SortOptions, concat, lexsort_to_indices, take};
use arrow::datatypes::DataType;
use datafusion::error::Result;

use super::Type::*;
use super::{Declared, Row, Value, fail, function, of};
use crate::sql::bounds::check_value;
use crate::sql::functions::order_key;
use crate::sql::text::value_to_text;

pub fn all() -> Vec<Declared> {
    vec![
        function("array_length", &[of(&[AnyArray, Integer], Integer, |r| Ok(length(r).into()))]),
        function("array_upper", &[of(&[AnyArray, Integer], Integer, |r| Ok(length(r).into()))]),
        function("array_lower", &[of(&[AnyArray, Integer], Integer, |r| Ok(length(r).map(|_| 1).into()))]),
        function(
            "array_ndims",
            &[of(&[AnyArray], Integer, |r| Ok(Some(dimensions(&r.items(0)).len() as i64).filter(|n| *n > 0).into()))],
        ),
        function(
            "array_dims",
            &[of(&[AnyArray], Text, |r| {
                let dims: String = dimensions(&r.items(0)).iter().map(|n| format!("[1:{n}]")).collect();
                Ok(Some(dims).filter(|dims| !dims.is_empty()).into())
            })],
        ),
        // What ARRAY (SELECT …) gives.
        function(
            "mr_or_empty",
            &[of(&[AnyArray], SameAs(0), |r| {
                Ok(Value::Items(match r.is_null(0) {
                    true => new_empty_array(r.item_field(0).data_type()),
                    false => r.items(0),
                }))
            })
            .nullable()],
        ),
        function("cardinality", &[of(&[AnyArray], Integer, |r| Ok((flat(&r.items(0)).len() as i64).into()))]),
        function(
            "array_position",
            &[of(&[AnyArray, ElementOf(0), Integer], Integer, |r| {
                let from = match r.is_null(2) && r.len() > 2 {
                    true => return fail("22004", "initial position must not be null"),
                    false => r.integer_or(2, 1).max(1) as usize - 1,
                };
                if r.is_null(0) {
                    return Ok(Value::Null);
                }
                let found = equal(r)?.into_iter().enumerate().skip(from).find(|(_, same)| *same);
                Ok(found.map(|(at, _)| at as i64 + 1).into())
            })
            .least(2)
            .nullable()],
        ),
        function(
            "array_positions",
            &[of(&[AnyArray, ElementOf(0)], Array("integer"), |r| {
                if r.is_null(0) {
                    return Ok(Value::Null);
                }
                let found = equal(r)?.into_iter().enumerate().filter(|(_, same)| *same).map(|(at, _)| at as i32 + 1);
                Ok(Value::Items(Arc::new(found.collect::<arrow::array::Int32Array>())))
            })
            .nullable()],
        ),
        function(
            "array_remove",
            &[of(&[AnyArray, ElementOf(0)], SameAs(0), |r| {
                if r.is_null(0) {
                    return Ok(Value::Null);
                }
                let kept: UInt32Array =
                    equal(r)?.into_iter().enumerate().filter(|(_, same)| !same).map(|(at, _)| at as u32).collect();
                Ok(Value::Items(take(&r.items(0), &kept, None)?))
            })
            .nullable()],
        ),
        function(
            "array_replace",
            &[of(&[AnyArray, ElementOf(0), ElementOf(0)], SameAs(0), |r| {
                if r.is_null(0) {
                    return Ok(Value::Null);
                }
                let items = r.items(0);
                let both = concat(&[items.as_ref(), r.one(2).as_ref()])?;
                let places: UInt32Array = equal(r)?
                    .into_iter()
                    .enumerate()
                    .map(|(at, same)| if same { items.len() } else { at } as u32)
                    .collect();
                Ok(Value::Items(take(&both, &places, None)?))
            })
            .nullable()],
        ),
        function(
            "array_append",
            &[of(&[AnyArray, ElementOf(0)], SameAs(0), |r| {
                let items = if r.is_null(0) { new_empty_array(r.item_field(0).data_type()) } else { r.items(0) };
                Ok(Value::Items(concat(&[items.as_ref(), r.one(1).as_ref()])?))
            })
            .nullable()],
        ),
        function(
            "array_prepend",
            &[of(&[ElementOf(1), AnyArray], SameAs(1), |r| {
                let items = if r.is_null(1) { new_empty_array(r.item_field(1).data_type()) } else { r.items(1) };
                Ok(Value::Items(concat(&[r.one(0).as_ref(), items.as_ref()])?))
            })
            .nullable()],
        ),
        function(
            "array_cat",
            &[
                of(&[AnyArray, SameAs(0)], SameAs(0), |r| joined(r, r.items(0), r.items(1))).nullable(),
                // An array of one dimension less is one of the other's elements.
                of(&[AnyArray, SliceOf(0)], SameAs(0), |r| joined(r, r.items(0), as_element(r, 1))).nullable(),
                of(&[SliceOf(1), AnyArray], SameAs(1), |r| joined(r, as_element(r, 0), r.items(1))).nullable(),
            ],
        ),
        // A NULL is like nothing, not even like another.
        function(
            "mr_array_contains",
            &[of(&[AnyArray, SameAs(0)], Boolean, |r| Ok(contains(&flat(&r.items(0)), &flat(&r.items(1)))?.into()))],
        ),
        function(
            "mr_array_overlaps",
            &[of(&[AnyArray, SameAs(0)], Boolean, |r| {
                let (a, b) = (flat(&r.items(0)), flat(&r.items(1)));
                let same = make_comparator(&a, &b, SortOptions::default())?;
                let any =
                    (0..a.len()).any(|i| a.is_valid(i) && (0..b.len()).any(|j| b.is_valid(j) && same(i, j).is_eq()));
                Ok(any.into())
            })],
        ),
        // With whether it is descending and whether NULLs come first.
        function(
            "mr_array_sort",
            &[of(&[AnyArray, Boolean, Boolean], SameAs(0), |r| {
                let items = r.items(0);
                let options = SortOptions { descending: r.boolean(1), nulls_first: r.boolean(2) };
                let keys = order_key::of_items(&items, &r.fields[0])?;
                // What has the same key is put in some order all the same.
                let columns = [keys.unwrap_or_else(|| items.clone()), items.clone()];
                let columns = columns.map(|values| SortColumn { values, options: Some(options) });
                Ok(Value::Items(take(&items, &lexsort_to_indices(&columns, None)?, None)?))
            })],
        ),
        function(
            "trim_array",
            &[of(&[AnyArray, Integer], SameAs(0), |r| {
                let (items, n) = (r.items(0), r.integer(1));
                match usize::try_from(n) {
                    Ok(n) if n <= items.len() => Ok(Value::Items(items.slice(0, items.len() - n))),
                    _ => fail("2202E", format!("number of elements to trim must be between 0 and {}", items.len())),
                }
            })],
        ),
        function(
            "array_fill",
            &[of(&[Any, Array("integer")], ArrayOf(0), |r| {
                if r.is_null(1) {
                    return fail("22004", "dimension array or low bound array cannot be null");
                }
                let dims = r.items(1);
                let dims = dims.as_primitive::<arrow::datatypes::Int32Type>();
                match dims.len() {
                    0 => Ok(Value::Items(new_empty_array(r.one(0).data_type()))),
                    1 if dims.is_null(0) => fail("22004", "dimension values cannot be null"),
                    1 if dims.value(0) < 0 || dims.value(0) > ITEMS_MAX => {
                        fail("54000", "array size exceeds the maximum allowed")
                    }
                    // Nothing, however often.
                    1 if is_empty_array(&r.one(0)) => Ok(Value::Items(r.one(0).slice(0, 0))),
                    1 => {
                        let places = UInt32Array::from(vec![0; dims.value(0) as usize]);
                        Ok(Value::Items(take(&r.one(0), &places, None)?))
                    }
                    _ => fail("0A000", "array_fill of several dimensions is not supported"),
                }
            })
            .nullable()],
        ),
        function(
            "array_to_string",
            &[of(&[AnyArray, Text, Text], Text, |r| {
                if r.is_null(0) || r.is_null(1) {
                    return Ok(Value::Null);
                }
                let items = flat(&r.items(0));
                let mut item = r.item_field(0);
                while let DataType::List(inner) = item.data_type() {
                    item = inner.clone();
                }
                let null = (r.len() > 2 && !r.is_null(2)).then(|| r.text(2).to_string());
                let texts = (0..items.len()).filter_map(|i| match items.is_null(i) {
                    true => null.clone(),
                    false => value_to_text(&item, &items, i, r.style),
                });
                let mut out = String::new();
                for (n, text) in texts.enumerate() {
                    let between = if n == 0 { "" } else { r.text(1) };
                    check_value(out.len() + between.len() + text.len())?;
                    out.push_str(between);
                    out.push_str(&text);
                }
                Ok(out.into())
            })
            .least(2)
            .nullable()],
        ),
        // a[low:high], with both bounds for each dimension.
        function(
            "mr_array_slice",
            &[of(&[AnyArray, Integer, Integer], SameAs(0), |r| {
                let bounds: Vec<(i64, i64)> =
                    (1..r.len()).step_by(2).map(|i| (r.integer(i), r.integer(i + 1))).collect();
                let items = r.items(0);
                Ok(Value::Items(match slice(&items, &bounds) {
                    Some(part) => part,
                    None => items.slice(0, 0),
                }))
            })
            .rest(Integer)],
        ),
        // a[i], a[i][j]: with fewer subscripts than dimensions it is NULL.
        function(
            "mr_subscript",
            &[
                of(&[AnyArray, Integer], InnermostOf(0), |r| {
                    let mut items = r.items(0);
                    for i in 1..r.len() {
                        let at = match usize::try_from(r.integer(i) - 1) {
                            Ok(at) if at < items.len() && items.is_valid(at) => at,
                            _ => return Ok(Value::Null),
                        };
                        match (items.data_type(), i + 1 == r.len()) {
                            (DataType::List(_), false) => items = items.as_list::<i32>().value(at),
                            (DataType::List(_), true) => return Ok(Value::Null),
                            (_, true) => return Ok(Value::Items(items.slice(at, 1))),
                            (_, false) => return Ok(Value::Null),
                        }
                    }
                    Ok(Value::Null)
                })
                .rest(Integer),
                of(&[Jsonb], Jsonb, crate::sql::functions::json::subscript).rest(Any),
            ],
        ),
        // a with x at i, for `SET a[i] = x`; NULLs fill what is between its end and i.
        function(
            "mr_array_set",
            &[of(&[AnyArray, Integer, ElementOf(0)], SameAs(0), |r| {
                let at = match r.is_null(1) {
                    true => return fail("22004", "array subscript in assignment must not be null"),
                    false => r.integer(1),
                };
                if at > ITEMS_MAX.into() {
                    return fail("54000", "array size exceeds the maximum allowed");
                }
                let Some(at) = usize::try_from(at).ok().and_then(|at| at.checked_sub(1)) else {
                    return fail("0A000", "assignment below the first element of an array is not supported");
                };
                let items = if r.is_null(0) { new_empty_array(r.item_field(0).data_type()) } else { r.items(0) };
                let count = items.len();
                let both =
                    concat(&[&items, &r.one(2), &new_null_array(items.data_type(), 1)].map(|part| part.as_ref()))?;
                let place = |i: usize| {
                    if i == at {
                        count
                    } else if i < count {
                        i
                    } else {
                        count + 1
                    }
                };
                let places: UInt32Array = (0..count.max(at + 1)).map(|i| place(i) as u32).collect();
                Ok(Value::Items(take(&both, &places, None)?))
            })
            .nullable()],
        ),
        function(
            "mr_array_subscripts",
            &[of(&[AnyArray, Integer, Boolean], Array("integer"), |r| {
                let count = length(r).unwrap_or(0) as i32;
                let places: Vec<i32> = match r.len() > 2 && r.boolean(2) {
                    true => (1..=count).rev().collect(),
                    false => (1..=count).collect(),
                };
                Ok(Value::Items(Arc::new(arrow::array::Int32Array::from(places))))
            })
            .least(2)],
        ),
    ]
}

/// As many items as `array_fill` makes.
const ITEMS_MAX: i32 = 10_000_000;

/// How long an array is in each of its dimensions; an empty one has none.
fn dimensions(items: &ArrayRef) -> Vec<usize> {
    if items.is_empty() {
        return Vec::new();
    }
    let mut dims = vec![items.len()];
    if let DataType::List(_) = items.data_type()
        && items.is_valid(0)
    {
        dims.extend(dimensions(&items.as_list::<i32>().value(0)));
    }
    dims
}

/// Two arrays one after the other; of a NULL and an array it is the array, and so it is of an empty one.
fn joined<'a>(r: &Row, left: ArrayRef, right: ArrayRef) -> Result<Value<'a>> {
    match (r.is_null(0), r.is_null(1)) {
        (true, true) => return Ok(Value::Null),
        (false, true) => return Ok(Value::Items(left)),
        (true, false) => return Ok(Value::Items(right)),
        (false, false) => {}
    }
    let (a, b) = (dimensions(&left), dimensions(&right));
    match (a.is_empty(), b.is_empty()) {
        (_, true) => Ok(Value::Items(left)),
        (true, _) => Ok(Value::Items(right)),
        _ if a[1..] != b[1..] => fail("2202E", "cannot concatenate incompatible arrays"),
        _ => Ok(Value::Items(concat(&[left.as_ref(), right.as_ref()])?)),
    }
}

/// An argument as an array of it alone; none of an empty one.
fn as_element(r: &Row, i: usize) -> ArrayRef {
    let one = r.one(i);
    if one.is_null(0) || is_empty_array(&one) { one.slice(0, 0) } else { one }
}

fn is_empty_array(one: &ArrayRef) -> bool {
    matches!(one.data_type(), DataType::List(_)) && one.is_valid(0) && one.as_list::<i32>().value(0).is_empty()
}

/// What lies within bounds, the first of which are those of the outermost dimension; `None` where nothing does.
fn slice(items: &ArrayRef, bounds: &[(i64, i64)]) -> Option<ArrayRef> {
    let Some(((low, high), inner)) = bounds.split_first() else { return Some(items.clone()) };
    let (low, high) = ((*low).max(1), (*high).min(items.len() as i64));
    if low > high {
        return None;
    }
    let part = items.slice(low as usize - 1, (high - low + 1) as usize);
    if inner.is_empty() {
        return Some(part);
    }
    let DataType::List(item) = part.data_type() else { return None };
    let lists = part.as_list::<i32>();
    let parts: Vec<ArrayRef> = (0..lists.len()).map(|i| slice(&lists.value(i), inner)).collect::<Option<_>>()?;
    let offsets = OffsetBuffer::from_lengths(parts.iter().map(|part| part.len()));
    let parts: Vec<&dyn arrow::array::Array> = parts.iter().map(|part| part.as_ref()).collect();
    Some(Arc::new(ListArray::new(item.clone(), offsets, concat(&parts).ok()?, None)))
}

fn length(r: &Row) -> Option<i64> {
    let at = usize::try_from(r.integer(1)).ok()?.checked_sub(1)?;
    dimensions(&r.items(0)).get(at).map(|n| *n as i64)
}

/// The items of all dimensions in one row.
fn flat(items: &ArrayRef) -> ArrayRef {
    match items.data_type() {
        DataType::List(item) => {
            let lists = items.as_list::<i32>();
            let parts: Vec<ArrayRef> =
                (0..lists.len()).filter(|i| lists.is_valid(*i)).map(|i| lists.value(i)).collect();
            let parts: Vec<&dyn arrow::array::Array> = parts.iter().map(|part| part.as_ref()).collect();
            match concat(&parts) {
                Ok(all) => flat(&all),
                Err(_) => flat(&new_empty_array(item.data_type())),
            }
        }
        _ => items.clone(),
    }
}

/// Which items of the first argument the second is; two NULLs are the same.
fn equal(r: &Row) -> Result<Vec<bool>> {
    let (items, one) = (r.items(0), r.one(1));
    let one = if one.data_type() == items.data_type() { one } else { arrow::compute::cast(&one, items.data_type())? };
    let compare = make_comparator(&items, &one, SortOptions::default())?;
    Ok((0..items.len()).map(|i| compare(i, 0).is_eq()).collect())
}

fn contains(all: &ArrayRef, some: &ArrayRef) -> Result<bool> {
    let compare = make_comparator(all, some, SortOptions::default())?;
    let found = |j: usize| (0..all.len()).any(|i| all.is_valid(i) && compare(i, j).is_eq());
    Ok((0..some.len()).all(|j| some.is_valid(j) && found(j)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::Int32Array;

    #[test]
    fn containment() {
        let array = |items: &[Option<i32>]| -> ArrayRef { Arc::new(Int32Array::from(items.to_vec())) };
        let all = array(&[Some(1), Some(2), None]);
        assert!(contains(&all, &array(&[Some(2), Some(2)])).unwrap());
        assert!(contains(&all, &array(&[])).unwrap());
        assert!(!contains(&all, &array(&[None])).unwrap());
        assert_eq!(dimensions(&all), [3]);
        assert_eq!(slice(&all, &[(2, 9)]).unwrap().len(), 2);
        assert!(slice(&all, &[(4, 9)]).is_none());
        assert!(slice(&all, &[(1, 2), (1, 1)]).is_none());
    }
}
