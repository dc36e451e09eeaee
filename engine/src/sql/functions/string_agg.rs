//! `string_agg` of texts and of bytea, with a separator that may differ from row to row; it replaces DataFusion's, which has
//! constant separators alone. Under GROUP BY it becomes a function of an array (`sql/string_agg.rs`); this is it as a window
//! function, and its types.
//!
//! ```text
//!   x     separator
//!   a     -                the first one's is left out: a+b
//!   b     +
//!   NULL  *                NULL does not count, nor its separator
//! ```

use std::collections::VecDeque;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BinaryArray, ListArray, StringArray};
use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::ScalarValue;
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::{
    Accumulator, AggregateUDFImpl, ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
    Volatility,
};

use super::measured::Made;
use crate::error::Error;
use crate::sql::common::{Kind, kind};
use crate::sql::types::sql_type_of_arrow;

#[derive(Debug, PartialEq, Eq, Hash)]
pub struct StringAgg {
    signature: Signature,
}

impl Default for StringAgg {
    fn default() -> Self {
        StringAgg { signature: Signature::user_defined(Volatility::Immutable) }
    }
}

fn external(error: Error) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}

impl AggregateUDFImpl for StringAgg {
    fn name(&self) -> &str {
        "string_agg"
    }
    fn signature(&self) -> &Signature {
        &self.signature
    }
    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        let known = |t: &DataType| (*t != DataType::Null).then(|| kind(t));
        let one_of = |t: &DataType, kinds: &[Kind]| known(t).is_none_or(|k| k.is_some_and(|k| kinds.contains(&k)));
        match types {
            // A literal in quotes has no type of its own, and is bytes beside bytes.
            [value, separator] if known(value) == Some(Some(Kind::Bytes)) => {
                if one_of(separator, &[Kind::Bytes, Kind::Text]) {
                    return Ok(vec![DataType::Binary; 2]);
                }
            }
            [value, separator] if one_of(value, &[Kind::Text]) && one_of(separator, &[Kind::Text]) => {
                return Ok(vec![DataType::Utf8; 2]);
            }
            _ => {}
        }
        let types: Vec<String> = types.iter().map(sql_type_of_arrow).collect();
        let message = format!("function string_agg({}) does not exist", types.join(", "));
        Err(external(Error::new("42883", message)))
    }
    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        Ok(types[0].clone())
    }
    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        let list = |field: &FieldRef, part: &str| {
            let item = Field::new_list_field(field.data_type().clone(), true);
            Arc::new(Field::new(format!("{}[{part}]", args.name), DataType::List(Arc::new(item)), false))
        };
        Ok(vec![list(&args.input_fields[0], "values"), list(&args.input_fields[1], "separators")])
    }
    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        if args.is_distinct {
            return Err(external(Error::unsupported("DISTINCT in string_agg() as a window function")));
        }
        Ok(Box::new(Joined {
            of: args.expr_fields[0].data_type().clone(),
            rows: VecDeque::new(),
            made: Made::default(),
        }))
    }
}

type Bytes = Vec<u8>;

#[derive(Debug)]
struct Joined {
    of: DataType,
    /// Values, each with the separator before it.
    rows: VecDeque<(Bytes, Option<Bytes>)>,
    made: Made,
}

fn bytes(array: &ArrayRef, row: usize) -> Option<&[u8]> {
    match array.data_type() {
        _ if array.is_null(row) => None,
        DataType::Utf8 => Some(array.as_string::<i32>().value(row).as_bytes()),
        DataType::Binary => Some(array.as_binary::<i32>().value(row)),
        _ => None,
    }
}

fn join<'a>(rows: impl Iterator<Item = (&'a [u8], Option<&'a [u8]>)>) -> Option<Bytes> {
    let mut out: Option<Bytes> = None;
    for (value, separator) in rows {
        match &mut out {
            None => out = Some(value.to_vec()),
            Some(out) => {
                out.extend_from_slice(separator.unwrap_or_default());
                out.extend_from_slice(value);
            }
        }
    }
    out
}

fn text(joined: Bytes) -> Result<String> {
    String::from_utf8(joined).map_err(|_| DataFusionError::Internal("texts joined are no text".into()))
}

impl Accumulator for Joined {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        for row in 0..values[0].len() {
            if let Some(value) = bytes(&values[0], row) {
                self.rows.push_back((value.to_vec(), bytes(&values[1], row).map(<[u8]>::to_vec)));
            }
        }
        Ok(())
    }
    fn retract_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        // Frames leave the rows behind that came first.
        self.rows.drain(..values[0].len() - values[0].null_count());
        Ok(())
    }
    fn supports_retract_batch(&self) -> bool {
        true
    }
    fn evaluate(&mut self) -> Result<ScalarValue> {
        let joined = join(self.rows.iter().map(|(value, separator)| (value.as_slice(), separator.as_deref())));
        self.made.add(joined.as_ref().map_or(0, Vec::len))?;
        Ok(match self.of {
            DataType::Binary => ScalarValue::Binary(joined),
            _ => ScalarValue::Utf8(joined.map(text).transpose()?),
        })
    }
    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let scalar = |bytes: Option<&Bytes>| match self.of {
            DataType::Binary => Ok(ScalarValue::Binary(bytes.cloned())),
            _ => bytes.cloned().map(text).transpose().map(ScalarValue::Utf8),
        };
        let list = |values: Result<Vec<ScalarValue>>| -> Result<ScalarValue> {
            Ok(ScalarValue::List(ScalarValue::new_list_nullable(&values?, &self.of)))
        };
        let values = self.rows.iter().map(|(value, _)| scalar(Some(value))).collect();
        let separators = self.rows.iter().map(|(_, separator)| scalar(separator.as_ref())).collect();
        Ok(vec![list(values)?, list(separators)?])
    }
    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        let (values, separators) = (states[0].as_list::<i32>(), states[1].as_list::<i32>());
        (0..values.len()).try_for_each(|row| self.update_batch(&[values.value(row), separators.value(row)]))
    }
    fn size(&self) -> usize {
        let texts = self.rows.iter().map(|(value, separator)| value.len() + separator.as_ref().map_or(0, Vec::len));
        size_of::<Self>() + self.rows.capacity() * size_of::<(Bytes, Option<Bytes>)>() + texts.sum::<usize>()
    }
}

/// Joins a list of pairs `[value, separator]`, in its order or in that of the pairs.
pub fn join_pairs(pairs: Expr, sorted: bool) -> Expr {
    ScalarUDF::from(JoinPairs { sorted, signature: Signature::any(1, Volatility::Immutable) }).call(vec![pairs])
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct JoinPairs {
    sorted: bool,
    signature: Signature,
}

impl ScalarUDFImpl for JoinPairs {
    fn name(&self) -> &str {
        if self.sorted { "mr_join_sorted_pairs" } else { "mr_join_pairs" }
    }
    fn signature(&self) -> &Signature {
        &self.signature
    }
    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        let item = |t: &DataType| match t {
            DataType::List(item) => item.data_type().clone(),
            other => other.clone(),
        };
        Ok(item(&item(&types[0])))
    }
    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let scalar = matches!(args.args[0], ColumnarValue::Scalar(_));
        let lists = args.args[0].to_array(if scalar { 1 } else { args.number_rows })?;
        let lists = lists.as_list::<i32>();
        let joined: Vec<Option<Bytes>> = (0..lists.len()).map(|row| self.joined(lists, row)).collect();
        let result: ArrayRef = match args.return_type() {
            DataType::Binary => Arc::new(joined.iter().map(|bytes| bytes.as_deref()).collect::<BinaryArray>()),
            _ => {
                let texts = joined.into_iter().map(|bytes| bytes.map(text).transpose());
                Arc::new(texts.collect::<Result<StringArray>>()?)
            }
        };
        match scalar {
            true => Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&result, 0)?)),
            false => Ok(ColumnarValue::Array(result)),
        }
    }
}

impl JoinPairs {
    fn joined(&self, lists: &ListArray, row: usize) -> Option<Bytes> {
        if lists.is_null(row) {
            return None;
        }
        let pairs = lists.value(row);
        let items: Vec<ArrayRef> = pairs.as_list::<i32>().iter().flatten().collect();
        let mut pairs: Vec<_> = items.iter().filter_map(|pair| Some((bytes(pair, 0)?, bytes(pair, 1)))).collect();
        if self.sorted {
            // NULL comes last.
            pairs.sort_by_key(|(value, separator)| (*value, separator.is_none(), *separator));
        }
        join(pairs.into_iter())
    }
}
