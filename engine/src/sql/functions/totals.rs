//! What `sum` and `avg` keep per group: a total that does not depend on order, wide enough never to overflow on the
//! way, and how it ends.
//!
//! ```text
//!   values             total              sum                   avg
//!   int2, int4         i128               bigint                numeric(38,16)
//!   int8               i128               numeric(38,0)         numeric(38,16)
//!   numeric(p,s)       i256               numeric(38,s)         numeric(38,max(s,16))
//!   real, double       ExactSum           real, double          double
//!   interval           parts as i128      interval              interval
//! ```
//!
//! Only the end can be out of range: 22003. Averages of numbers round half away from zero.

use std::marker::PhantomData;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, ArrowPrimitiveType, Float32Array, Float64Array, Int64Array, PrimitiveArray};
use arrow::datatypes::{
    DataType, Decimal128Type, Float32Type, Float64Type, Int16Type, Int32Type, Int64Type, IntervalMonthDayNano,
    IntervalMonthDayNanoType, i256,
};

use super::arithmetic::scaled_interval;
use crate::error::{Error, Result};
use crate::sql::exact_float::ExactSum;
use crate::sql::types::NUMERIC_PRECISION_MAX;

/// How totals end: as a sum or an average, of which type.
#[derive(Debug, Clone)]
pub struct End {
    pub average: bool,
    pub output: DataType,
    /// Scale of the values, where they are numeric.
    pub scale: i8,
}

pub trait Total: Default + Send + Sync + std::fmt::Debug + 'static {
    type Input: ArrowPrimitiveType;
    fn add(&mut self, value: <Self::Input as ArrowPrimitiveType>::Native);
    fn subtract(&mut self, value: <Self::Input as ArrowPrimitiveType>::Native);
    fn merge(&mut self, bytes: &[u8]) -> Result<()>;
    fn to_bytes(&self) -> Vec<u8>;
    /// NULL where nothing was counted.
    fn end(totals: &[Self], counts: &[i64], end: &End) -> Result<ArrayRef>;
    fn heap_size(&self) -> usize {
        0
    }
}

fn damaged() -> Error {
    Error::corrupt("damaged state of an aggregate")
}

fn bytes_of<const N: usize>(bytes: &[u8]) -> Result<[u8; N]> {
    bytes.try_into().map_err(|_| damaged())
}

/// The largest magnitude of numeric(38, _).
fn decimal_limit() -> i256 {
    i256::from_i128(10i128.pow(u32::from(NUMERIC_PRECISION_MAX)))
}

fn decimal_array(values: impl Iterator<Item = Result<Option<i256>>>, output: &DataType) -> Result<ArrayRef> {
    let limit = decimal_limit();
    let values: Result<Vec<Option<i128>>> = values
        .map(|value| match value? {
            None => Ok(None),
            Some(value) if value < limit && value > limit.wrapping_neg() => Ok(value.to_i128()),
            Some(_) => Err(Error::new("22003", "numeric field overflow")),
        })
        .collect();
    Ok(Arc::new(PrimitiveArray::<Decimal128Type>::from(values?).with_data_type(output.clone())))
}

/// `total / count` with `digits` more digits, rounded half away from zero.
pub fn divide_rounded(total: i256, digits: u32, count: i256) -> Option<i256> {
    let scaled = total.checked_mul(i256::from_i128(10).checked_pow(digits)?)?;
    let (quotient, rest) = (scaled.checked_div(count)?, scaled.checked_rem(count)?);
    let magnitude = |x: i256| if x < i256::ZERO { x.wrapping_neg() } else { x };
    let rest = magnitude(rest);
    let away = rest.checked_add(rest)? >= magnitude(count);
    let negative = (scaled < i256::ZERO) != (count < i256::ZERO);
    match (away, negative) {
        (false, _) => Some(quotient),
        (true, false) => quotient.checked_add(i256::ONE),
        (true, true) => quotient.checked_sub(i256::ONE),
    }
}

fn average_of_numbers(total: i256, count: i64, scale: i8, output: &DataType) -> Result<Option<i256>> {
    let DataType::Decimal128(_, out) = output else { unreachable!("averages of exact numbers are numeric") };
    divide_rounded(total, (out - scale) as u32, i256::from(count))
        .map(Some)
        .ok_or_else(|| Error::new("22003", "numeric field overflow"))
}

/// Of smallint, integer and bigint.
#[derive(Debug)]
pub struct IntTotal<T>(i128, PhantomData<fn() -> T>);

impl<T> Default for IntTotal<T> {
    fn default() -> Self {
        IntTotal(0, PhantomData)
    }
}

impl<T: ArrowPrimitiveType + std::fmt::Debug> Total for IntTotal<T>
where
    T::Native: Into<i64>,
{
    type Input = T;
    fn add(&mut self, value: T::Native) {
        self.0 += i128::from(value.into());
    }
    fn subtract(&mut self, value: T::Native) {
        self.0 -= i128::from(value.into());
    }
    fn merge(&mut self, bytes: &[u8]) -> Result<()> {
        self.0 += i128::from_le_bytes(bytes_of(bytes)?);
        Ok(())
    }
    fn to_bytes(&self) -> Vec<u8> {
        self.0.to_le_bytes().to_vec()
    }
    fn end(totals: &[Self], counts: &[i64], end: &End) -> Result<ArrayRef> {
        let counted = totals.iter().zip(counts);
        if end.output == DataType::Int64 {
            let values: Result<Vec<Option<i64>>> = counted
                .map(|(total, &count)| match (count, i64::try_from(total.0)) {
                    (0, _) => Ok(None),
                    (_, Ok(value)) => Ok(Some(value)),
                    (_, Err(_)) => Err(Error::new("22003", "bigint out of range")),
                })
                .collect();
            return Ok(Arc::new(Int64Array::from(values?)));
        }
        let values = counted.map(|(total, &count)| {
            let wide = i256::from_i128(total.0);
            match (count, end.average) {
                (0, _) => Ok(None),
                (_, false) => Ok(Some(wide)),
                (_, true) => average_of_numbers(wide, count, 0, &end.output),
            }
        });
        decimal_array(values, &end.output)
    }
}

pub type SmallintTotal = IntTotal<Int16Type>;
pub type IntegerTotal = IntTotal<Int32Type>;
pub type BigintTotal = IntTotal<Int64Type>;

/// Of numeric. It wraps only beyond 10^76, which 2^63 values of 38 digits do not reach.
#[derive(Debug, Default)]
pub struct NumericTotal(i256);

impl Total for NumericTotal {
    type Input = Decimal128Type;
    fn add(&mut self, value: i128) {
        self.0 = self.0.wrapping_add(i256::from_i128(value));
    }
    fn subtract(&mut self, value: i128) {
        self.0 = self.0.wrapping_sub(i256::from_i128(value));
    }
    fn merge(&mut self, bytes: &[u8]) -> Result<()> {
        self.0 = self.0.wrapping_add(i256::from_le_bytes(bytes_of(bytes)?));
        Ok(())
    }
    fn to_bytes(&self) -> Vec<u8> {
        self.0.to_le_bytes().to_vec()
    }
    fn end(totals: &[Self], counts: &[i64], end: &End) -> Result<ArrayRef> {
        let values = totals.iter().zip(counts).map(|(total, &count)| match (count, end.average) {
            (0, _) => Ok(None),
            (_, false) => Ok(Some(total.0)),
            (_, true) => average_of_numbers(total.0, count, end.scale, &end.output),
        });
        decimal_array(values, &end.output)
    }
}

/// Of real and double precision.
#[derive(Debug)]
pub struct FloatTotal<T>(ExactSum, PhantomData<fn() -> T>);

impl<T> Default for FloatTotal<T> {
    fn default() -> Self {
        FloatTotal(ExactSum::new(), PhantomData)
    }
}

impl<T: ArrowPrimitiveType + std::fmt::Debug> Total for FloatTotal<T>
where
    T::Native: Into<f64>,
{
    type Input = T;
    fn add(&mut self, value: T::Native) {
        self.0.add(value.into());
    }
    fn subtract(&mut self, value: T::Native) {
        self.0.subtract(value.into());
    }
    fn merge(&mut self, bytes: &[u8]) -> Result<()> {
        self.0.merge(&ExactSum::from_bytes(bytes)?);
        Ok(())
    }
    fn to_bytes(&self) -> Vec<u8> {
        self.0.to_bytes()
    }
    fn end(totals: &[Self], counts: &[i64], end: &End) -> Result<ArrayRef> {
        let values = totals.iter().zip(counts).map(|(total, &count)| match (count, end.average) {
            (0, _) => None,
            (_, false) => Some(total.0.value()),
            (_, true) => Some(total.0.value() / count as f64),
        });
        Ok(match end.output {
            DataType::Float32 => Arc::new(values.map(|v| v.map(|v| v as f32)).collect::<Float32Array>()),
            _ => Arc::new(values.collect::<Float64Array>()),
        })
    }
    fn heap_size(&self) -> usize {
        self.0.heap_size()
    }
}

pub type RealTotal = FloatTotal<Float32Type>;
pub type DoubleTotal = FloatTotal<Float64Type>;

/// Of interval, kind by kind.
#[derive(Debug, Default)]
pub struct IntervalTotal {
    months: i128,
    days: i128,
    nanoseconds: i128,
}

impl Total for IntervalTotal {
    type Input = IntervalMonthDayNanoType;
    fn add(&mut self, value: IntervalMonthDayNano) {
        self.months += i128::from(value.months);
        self.days += i128::from(value.days);
        self.nanoseconds += i128::from(value.nanoseconds);
    }
    fn subtract(&mut self, value: IntervalMonthDayNano) {
        self.months -= i128::from(value.months);
        self.days -= i128::from(value.days);
        self.nanoseconds -= i128::from(value.nanoseconds);
    }
    fn merge(&mut self, bytes: &[u8]) -> Result<()> {
        let bytes: [u8; 48] = bytes_of(bytes)?;
        let part = |i: usize| i128::from_le_bytes(bytes[16 * i..16 * i + 16].try_into().expect("sixteen bytes"));
        self.months += part(0);
        self.days += part(1);
        self.nanoseconds += part(2);
        Ok(())
    }
    fn to_bytes(&self) -> Vec<u8> {
        [self.months, self.days, self.nanoseconds].iter().flat_map(|part| part.to_le_bytes()).collect()
    }
    fn end(totals: &[Self], counts: &[i64], end: &End) -> Result<ArrayRef> {
        let overflow = || Error::new("22008", "interval out of range");
        let values: Result<Vec<Option<IntervalMonthDayNano>>> = totals
            .iter()
            .zip(counts)
            .map(|(total, &count)| {
                if count == 0 {
                    return Ok(None);
                }
                let sum = IntervalMonthDayNano::new(
                    i32::try_from(total.months).map_err(|_| overflow())?,
                    i32::try_from(total.days).map_err(|_| overflow())?,
                    i64::try_from(total.nanoseconds).map_err(|_| overflow())?,
                );
                match end.average {
                    true => scaled_interval(sum, |part| part / count as f64).map(Some).ok_or_else(overflow),
                    false => Ok(Some(sum)),
                }
            })
            .collect();
        Ok(Arc::new(PrimitiveArray::<IntervalMonthDayNanoType>::from(values?)))
    }
}

/// The values that count, with their place: not NULL and, where there is a filter, kept by it.
pub fn each_value<T: ArrowPrimitiveType>(
    array: &PrimitiveArray<T>,
    filter: Option<&arrow::array::BooleanArray>,
    mut each: impl FnMut(usize, T::Native),
) {
    let kept = |i: usize| filter.is_none_or(|f| f.is_valid(i) && f.value(i));
    match (array.null_count(), filter) {
        (0, None) => array.values().iter().enumerate().for_each(|(i, &value)| each(i, value)),
        _ => (0..array.len()).filter(|&i| array.is_valid(i) && kept(i)).for_each(|i| each(i, array.value(i))),
    }
}
