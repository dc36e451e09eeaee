//! What a value is ordered by where its Arrow type has another order than Postgres' type: intervals by their span, jsonb by
//! what it says, arrays with NULL as the greatest of elements.
//!
//! ```text
//!   ORDER BY iv                     ORDER BY mr_span(iv)
//!   ORDER BY x DESC NULLS LAST      ORDER BY mr_array_key(x) DESC NULLS LAST         Arrow's {NULL} follows NULLS LAST
//!   x < y                           mr_array_key(x) < mr_array_key(y)                for arrays
//! ```

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BinaryArray, Int32Array, ListArray, new_null_array};
use arrow::buffer::OffsetBuffer;
use arrow::compute::{SortOptions, interleave};
use arrow::datatypes::{DataType, Field, FieldRef, Int32Type};
use arrow::row::{RowConverter, SortField};
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::error::Result;
use datafusion::logical_expr::{
    ColumnarValue, Expr, ExprSchemable, Operator, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl,
    Signature, Volatility,
};

use super::json::{self, JSONB_ARRAY_KEYS, JSONB_KEY};
use super::{declared, intervals, labels};
use crate::sql::enums;
use crate::sql::types::sql_type_of;

/// Puts the key in the place of an expression that needs one; whether it did.
pub fn take(expr: &mut Expr, schema: &DFSchema) -> Result<bool> {
    let Ok((_, field)) = expr.to_field(schema) else { return Ok(false) };
    let of = |expr: &mut Expr| std::mem::replace(expr, Expr::Literal(ScalarValue::Null, None));
    *expr = match field.data_type() {
        DataType::Interval(_) => intervals::span(of(expr)),
        DataType::Utf8 if sql_type_of(&field) == "jsonb" => declared::named(JSONB_KEY)?.call(vec![of(expr)]),
        DataType::Utf8 if enums::is_enum(&sql_type_of(&field)) => labels::rank(&sql_type_of(&field), of(expr)),
        DataType::List(_) if enums::is_enum(sql_type_of(&field).trim_end_matches("[]")) => {
            array_key(labels::ranks(sql_type_of(&field).trim_end_matches("[]"), of(expr)))
        }
        DataType::List(_) if sql_type_of(&field) == "jsonb[]" => {
            array_key(declared::named(JSONB_ARRAY_KEYS)?.call(vec![of(expr)]))
        }
        DataType::List(_) => array_key(of(expr)),
        _ => return Ok(false),
    };
    Ok(true)
}

/// Whether an operator asks which of two arrays is the greater.
pub fn compares_arrays(operator: &Operator, left: &Expr, right: &Expr, schema: &DFSchema) -> bool {
    let array = |e: &Expr| matches!(e.get_type(schema), Ok(DataType::List(_)));
    let order = matches!(operator, Operator::Lt | Operator::LtEq | Operator::Gt | Operator::GtEq);
    order && array(left) && array(right)
}

/// Bytes that compare as arrays do.
pub fn array_key(array: Expr) -> Expr {
    ScalarUDF::from(ArrayKey { signature: Signature::any(1, Volatility::Immutable) }).call(vec![array])
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct ArrayKey {
    signature: Signature,
}

impl ScalarUDFImpl for ArrayKey {
    fn name(&self) -> &str {
        "mr_array_key"
    }
    fn signature(&self) -> &Signature {
        &self.signature
    }
    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Binary)
    }
    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let scalar = matches!(args.args[0], ColumnarValue::Scalar(_));
        let keys: ArrayRef = Arc::new(keys(&args.args[0].to_array(if scalar { 1 } else { args.number_rows })?)?);
        match scalar {
            true => Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&keys, 0)?)),
            false => Ok(ColumnarValue::Array(keys)),
        }
    }
}

/// Whether values of this type are ordered by a key that their type tells.
pub fn of_type(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Interval(_) | DataType::List(_))
}

/// Keys of values of such a type, as bytes; of values that are equal but not the same they differ.
pub fn distinct_keys(values: &ArrayRef) -> Result<BinaryArray> {
    let key: ArrayRef = match values.data_type() {
        DataType::Interval(_) => intervals::spans(values)?,
        _ => Arc::new(keys(values)?),
    };
    let columns = [key, values.clone()];
    let fields = columns.iter().map(|c| SortField::new(c.data_type().clone())).collect();
    let bytes = RowConverter::new(fields)?.convert_columns(&columns)?.try_into_binary()?;
    let (offsets, bytes, _) = bytes.into_parts();
    Ok(BinaryArray::try_new(offsets, bytes, values.logical_nulls())?)
}

/// `greatest` or `least` of values that are ordered by a key.
pub fn best_of(greatest: bool, values: Vec<Expr>) -> Expr {
    let signature = Signature::variadic_any(Volatility::Immutable);
    ScalarUDF::from(BestOf { greatest, signature }).call(values)
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct BestOf {
    greatest: bool,
    signature: Signature,
}

impl ScalarUDFImpl for BestOf {
    fn name(&self) -> &str {
        if self.greatest { "mr_greatest" } else { "mr_least" }
    }
    fn signature(&self) -> &Signature {
        &self.signature
    }
    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        Ok(types[0].clone())
    }
    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        Ok(Arc::new(args.arg_fields[0].as_ref().clone().with_name(self.name()).with_nullable(true)))
    }
    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let scalar = args.args.iter().all(|a| matches!(a, ColumnarValue::Scalar(_)));
        let rows = if scalar { 1 } else { args.number_rows };
        let arrays = args.args.iter().map(|arg| arg.to_array(rows)).collect::<Result<Vec<_>>>()?;
        let keys = arrays.iter().map(distinct_keys).collect::<Result<Vec<_>>>()?;
        let best = (0..rows).map(|row| {
            let there = keys.iter().enumerate().filter(|(_, keys)| keys.is_valid(row));
            let best = match self.greatest {
                true => there.max_by_key(|(_, keys)| keys.value(row)),
                false => there.min_by_key(|(_, keys)| keys.value(row)),
            };
            // NULL where all are.
            (best.map_or(0, |(argument, _)| argument), row)
        });
        let arrays: Vec<&dyn Array> = arrays.iter().map(|array| array.as_ref()).collect();
        let result = interleave(&arrays, &best.collect::<Vec<_>>())?;
        match scalar {
            true => Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&result, 0)?)),
            false => Ok(ColumnarValue::Array(result)),
        }
    }
}

/// What the items of an array of that field are ordered by, where it is not the items.
pub fn of_items(items: &ArrayRef, array: &Field) -> Result<Option<ArrayRef>> {
    Ok(match items.data_type() {
        DataType::Interval(_) => Some(intervals::spans(items)?),
        DataType::List(_) => Some(Arc::new(keys(items)?)),
        DataType::Utf8 if sql_type_of(array) == "jsonb[]" => Some(json::order_keys(items)?),
        DataType::Utf8 if enums::is_enum(sql_type_of(array).trim_end_matches("[]")) => {
            Some(labels::ranks_of(items, sql_type_of(array).trim_end_matches("[]"))?)
        }
        _ => None,
    })
}

/// Arrays are compared element by element, whatever their dimensions, then by these.
fn keys(arrays: &ArrayRef) -> Result<BinaryArray> {
    let DataType::List(item) = arrays.data_type() else {
        return Ok(BinaryArray::from(vec![None; arrays.len()]));
    };
    let lists = arrays.as_list::<i32>();
    let mut columns: Vec<ArrayRef> = Vec::new();
    match item.data_type() {
        DataType::List(_) => {
            let (flat, dimensions) = flat(lists)?;
            let count = dimensions.iter().map(|list| list.map(|list| list.len() as i32));
            let count: Int32Array = count.collect();
            columns.push(Arc::new(with_spans(&flat)?));
            columns.push(Arc::new(count));
            columns.push(Arc::new(dimensions));
        }
        _ => columns.push(Arc::new(with_spans(lists)?)),
    }
    // Of elements too.
    let nulls_last = SortOptions { descending: false, nulls_first: false };
    let fields = columns.iter().map(|c| SortField::new_with_options(c.data_type().clone(), nulls_last)).collect();
    let bytes = RowConverter::new(fields)?.convert_columns(&columns)?.try_into_binary()?;
    let (offsets, values, _) = bytes.into_parts();
    Ok(BinaryArray::try_new(offsets, values, arrays.logical_nulls())?)
}

/// Lists of intervals as lists of their spans.
fn with_spans(lists: &ListArray) -> Result<ListArray> {
    if !matches!(lists.values().data_type(), DataType::Interval(_)) {
        return Ok(lists.clone());
    }
    let spans = intervals::spans(lists.values())?;
    let item = Arc::new(Field::new_list_field(spans.data_type().clone(), true));
    Ok(ListArray::try_new(item, lists.offsets().clone(), spans, lists.nulls().cloned())?)
}

/// The elements of all dimensions in one, and how many each dimension has.
fn flat(lists: &ListArray) -> Result<(ListArray, ListArray)> {
    let mut dimensions = Vec::with_capacity(lists.len());
    let mut inner = lists.clone();
    let mut offsets: Vec<i32> = lists.offsets().to_vec();
    // The first list of each row at this depth.
    let mut first: Vec<Option<usize>> = (0..lists.len()).map(|row| lists.is_valid(row).then_some(row)).collect();
    let mut lengths: Vec<Vec<i32>> = vec![Vec::new(); lists.len()];
    loop {
        for (row, first) in first.iter_mut().enumerate() {
            let Some(at) = first.take().filter(|at| inner.is_valid(*at)) else { continue };
            let length = inner.value_length(at);
            if length > 0 {
                lengths[row].push(length);
                *first = Some(inner.value_offsets()[at] as usize);
            }
        }
        let DataType::List(_) = inner.values().data_type() else { break };
        let below = inner.values().as_list::<i32>().clone();
        offsets.iter_mut().for_each(|offset| *offset = below.value_offsets()[*offset as usize]);
        inner = below;
    }
    for (row, lengths) in lengths.into_iter().enumerate() {
        dimensions.push(lists.is_valid(row).then(|| lengths.into_iter().map(Some)));
    }
    let dimensions = ListArray::from_iter_primitive::<Int32Type, _, _>(dimensions);
    let item = Arc::new(Field::new_list_field(inner.values().data_type().clone(), true));
    let values = match inner.values().data_type() {
        DataType::Null => new_null_array(&DataType::Int32, inner.values().len()),
        _ => inner.values().clone(),
    };
    let item = if values.data_type() == item.data_type() {
        item
    } else {
        Arc::new(Field::new_list_field(DataType::Int32, true))
    };
    let flat = ListArray::try_new(item, OffsetBuffer::new(offsets.into()), values, lists.nulls().cloned())?;
    Ok((flat, dimensions))
}

#[cfg(test)]
mod tests {
    use arrow::array::{Int32Builder, ListBuilder};

    use super::*;

    #[test]
    fn null_is_the_greatest_element() {
        let ordered: Vec<Option<Vec<Option<i32>>>> = vec![
            Some(vec![]),
            Some(vec![Some(1)]),
            Some(vec![Some(1), Some(2)]),
            Some(vec![Some(1), None]),
            Some(vec![Some(2)]),
            Some(vec![None]),
            Some(vec![None, Some(-1)]),
        ];
        let lists: ArrayRef = Arc::new(ListArray::from_iter_primitive::<Int32Type, _, _>(ordered));
        let keys = keys(&lists).unwrap();
        for row in 1..keys.len() {
            assert!(keys.value(row - 1) < keys.value(row), "{row}");
        }
    }

    #[test]
    fn elements_of_all_dimensions_come_first() {
        let mut lists = ListBuilder::new(ListBuilder::new(Int32Builder::new()));
        for rows in [&[&[1, 2][..]][..], &[&[1], &[2]], &[&[1, 2], &[3, 4]], &[&[1], &[5]]] {
            for row in rows {
                row.iter().for_each(|item| lists.values().values().append_value(*item));
                lists.values().append(true);
            }
            lists.append(true);
        }
        lists.append_null();
        let lists: ArrayRef = Arc::new(lists.finish());
        let keys = keys(&lists).unwrap();
        for row in 1..4 {
            assert!(keys.value(row - 1) < keys.value(row), "{row}");
        }
        assert!(keys.is_null(4));
    }
}
