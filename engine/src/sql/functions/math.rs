//! Functions of numbers where DataFusion's types or errors are not Postgres': those of numerics stay numerics, whole
//! numbers are rounded as doubles, and what has no result is an error.
//!
//! ```text
//!   round(2.567, 2)    2.57         round(2.5::float8)   2   (half to even)
//!   floor(-2.5)        -3           abs(-2147483648)     integer out of range
//!   sqrt(2.0)          1.414213562373095                 sqrt(-1): 2201F
//! ```

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, ArrowPrimitiveType, AsArray, Decimal128Array, Float64Array, PrimitiveArray};
use arrow::datatypes::{
    DataType, Decimal128Type, Field, FieldRef, Float32Type, Float64Type, Int16Type, Int32Type, Int64Type, i256,
};
use datafusion::common::{ScalarValue, plan_err};
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

use super::fixed;
use super::totals::divide_rounded;
use crate::error::Error;
use crate::sql::types::{NUMERIC_PRECISION_MAX, sql_type_of_arrow};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Operation {
    Round,
    Trunc,
    Floor,
    Ceil,
    Abs,
    Sign,
    /// The whole quotient.
    Div,
    Sqrt,
    Power,
    Exp,
    Ln,
    /// To base 10, or to the first argument.
    Log,
}

use Operation as O;

/// Digits after the point of a root, and of a power.
const ROOT_SCALE: i8 = 15;
const POWER_SCALE: i8 = 16;

#[derive(Debug, PartialEq, Eq, Hash)]
pub struct Math {
    operation: Operation,
    /// The type once it is settled: an argument that becomes a literal later must not change it.
    output: Option<DataType>,
    signature: Signature,
    aliases: Vec<String>,
}

pub fn all() -> Vec<Math> {
    let all =
        [O::Round, O::Trunc, O::Floor, O::Ceil, O::Abs, O::Sign, O::Div, O::Sqrt, O::Power, O::Exp, O::Ln, O::Log];
    all.map(|operation| Math::new(operation, None)).into()
}

/// The function with its type fixed; `None` when it is none of these, or its arguments' types say all.
pub fn settled(function: &ScalarUDF, output: DataType) -> Option<ScalarUDF> {
    let math = function.inner().downcast_ref::<Math>()?;
    let depends = matches!(math.operation, O::Round | O::Trunc) && math.output.is_none();
    depends.then(|| ScalarUDF::from(Math::new(math.operation, Some(output))))
}

fn external(error: Error) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}
fn numeric_overflow() -> DataFusionError {
    external(Error::new("22003", "value overflows numeric format"))
}

impl Math {
    fn new(operation: Operation, output: Option<DataType>) -> Self {
        let aliases = match operation {
            O::Ceil => vec!["ceiling".into()],
            O::Power => vec!["pow".into()],
            O::Sign => vec!["signum".into()],
            _ => Vec::new(),
        };
        Math { operation, output, signature: Signature::user_defined(Volatility::Immutable), aliases }
    }

    fn output(&self, types: &[DataType], digits: Option<&ScalarValue>) -> DataType {
        if let Some(output) = &self.output {
            return output.clone();
        }
        let DataType::Decimal128(_, scale) = &types[0] else { return types[0].clone() };
        let scale = match (self.operation, types.len()) {
            (O::Round | O::Trunc, 2) => match digits {
                Some(ScalarValue::Int64(Some(digits))) => (*digits).clamp(0, 37) as i8,
                _ => *scale,
            },
            (O::Abs, _) => return types[0].clone(),
            (O::Sqrt, _) => ROOT_SCALE,
            (O::Power | O::Exp | O::Ln | O::Log, _) => POWER_SCALE,
            _ => 0,
        };
        DataType::Decimal128(NUMERIC_PRECISION_MAX, scale)
    }
}

impl ScalarUDFImpl for Math {
    fn name(&self) -> &str {
        match self.operation {
            O::Round => "round",
            O::Trunc => "trunc",
            O::Floor => "floor",
            O::Ceil => "ceil",
            O::Abs => "abs",
            O::Sign => "sign",
            O::Div => "div",
            O::Sqrt => "sqrt",
            O::Power => "power",
            O::Exp => "exp",
            O::Ln => "ln",
            O::Log => "log",
        }
    }
    fn aliases(&self) -> &[String] {
        &self.aliases
    }
    fn signature(&self) -> &Signature {
        &self.signature
    }
    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        let wrong = || {
            let types: Vec<String> = types.iter().map(sql_type_of_arrow).collect();
            let message = format!("function {}({}) does not exist", self.name(), types.join(", "));
            Err(external(Error::new("42883", message)))
        };
        let numeric = |t: &DataType| matches!(t, DataType::Decimal128(..));
        // A text beside a number is a literal in quotes, which is what the number is.
        let types: Vec<DataType> = match (self.operation, types) {
            (O::Power, [DataType::Utf8, other] | [other, DataType::Utf8]) if other.is_numeric() => {
                let read = if numeric(other) { other.clone() } else { DataType::Float64 };
                types.iter().map(|t| if *t == DataType::Utf8 { read.clone() } else { t.clone() }).collect()
            }
            _ => types.to_vec(),
        };
        let types = &types[..];
        let arguments = match self.operation {
            O::Round | O::Trunc | O::Log => 1..=2,
            O::Div | O::Power => 2..=2,
            _ => 1..=1,
        };
        if !arguments.contains(&types.len()) || types.iter().any(|t| !t.is_numeric() && *t != DataType::Null) {
            return wrong();
        }
        let whole = |t: &DataType| match t {
            DataType::Int16 | DataType::Int32 => DataType::Decimal128(10, 0),
            t if t.is_integer() => DataType::Decimal128(20, 0),
            other => other.clone(),
        };
        let all = |t: DataType| vec![t; types.len()];
        Ok(match (self.operation, types) {
            (O::Round | O::Trunc, [x, _]) => {
                // Digits are those of a numeric.
                if x.is_floating() {
                    return wrong();
                }
                let x = if *x == DataType::Null { DataType::Float64 } else { whole(x) };
                vec![x, DataType::Int64]
            }
            (O::Abs, [x @ (DataType::Int16 | DataType::Int32 | DataType::Int64 | DataType::Float32)]) => {
                vec![x.clone()]
            }
            (O::Div, _) if !types.iter().any(DataType::is_floating) => types.iter().map(whole).collect(),
            (O::Power | O::Exp | O::Ln | O::Log, _)
                if types.iter().any(numeric) && !types.iter().any(DataType::is_floating) =>
            {
                types.iter().map(whole).collect()
            }
            // To a base there are those of numerics alone.
            (O::Log, [_, _]) if !types.iter().any(DataType::is_floating) => types.iter().map(whole).collect(),
            (O::Round | O::Trunc | O::Floor | O::Ceil | O::Abs | O::Sign | O::Sqrt, [x]) if numeric(x) => {
                vec![x.clone()]
            }
            _ => all(DataType::Float64),
        })
    }
    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        Ok(self.output(types, None))
    }
    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        let types: Vec<DataType> = args.arg_fields.iter().map(|f| f.data_type().clone()).collect();
        let digits = args.scalar_arguments.get(1).copied().flatten();
        Ok(Arc::new(Field::new(self.name(), self.output(&types, digits), true)))
    }
    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let scalar = args.args.iter().all(|a| matches!(a, ColumnarValue::Scalar(_)));
        let rows = if scalar { 1 } else { args.number_rows };
        let arrays = args.args.iter().map(|a| a.to_array(rows)).collect::<Result<Vec<_>>>()?;
        let result = match (arrays[0].data_type(), args.return_type()) {
            (DataType::Int16, _) => absolute::<Int16Type>(&arrays[0], i16::checked_abs)?,
            (DataType::Int32, _) => absolute::<Int32Type>(&arrays[0], i32::checked_abs)?,
            (DataType::Int64, _) => absolute::<Int64Type>(&arrays[0], i64::checked_abs)?,
            (DataType::Float32, _) => absolute::<Float32Type>(&arrays[0], |v| Some(v.abs()))?,
            (DataType::Float64, _) => self.of_floats(&arrays)?,
            (DataType::Decimal128(..), DataType::Decimal128(precision, scale)) => {
                self.of_numerics(&arrays, *precision, *scale)?
            }
            (other, _) => return plan_err!("no {} of {other}", self.name()),
        };
        match scalar {
            true => Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&result, 0)?)),
            false => Ok(ColumnarValue::Array(result)),
        }
    }
}

fn absolute<T: ArrowPrimitiveType>(
    values: &ArrayRef,
    abs: impl Fn(T::Native) -> Option<T::Native>,
) -> Result<ArrayRef> {
    let out_of_range = || external(Error::new("22003", format!("{} out of range", sql_type_of_arrow(&T::DATA_TYPE))));
    let values: PrimitiveArray<T> = values.as_primitive::<T>().try_unary(|v| abs(v).ok_or_else(out_of_range))?;
    Ok(Arc::new(values))
}

fn no_power(message: &str) -> DataFusionError {
    external(Error::new("2201F", message))
}

fn no_logarithm(of: f64) -> DataFusionError {
    let what = if of == 0.0 { "zero" } else { "a negative number" };
    external(Error::new("2201E", format!("cannot take logarithm of {what}")))
}

fn check_power(base: f64, exponent: f64) -> Result<()> {
    if base == 0.0 && exponent < 0.0 {
        return Err(no_power("zero raised to a negative power is undefined"));
    }
    if base < 0.0 && base.is_finite() && exponent.is_finite() && exponent.fract() != 0.0 {
        return Err(no_power("a negative number raised to a non-integer power yields a complex result"));
    }
    Ok(())
}

impl Math {
    fn of_floats(&self, arrays: &[ArrayRef]) -> Result<ArrayRef> {
        let first = arrays[0].as_primitive::<Float64Type>();
        let log = |v: f64| if v <= 0.0 { Err(no_logarithm(v)) } else { Ok(v.ln()) };
        // A result is infinite, or zero, only where an argument is.
        let checked = |result: f64, given: &[f64]| match result {
            r if r.is_infinite() && given.iter().all(|v| v.is_finite()) => {
                Err(external(Error::new("22003", "value out of range: overflow")))
            }
            r => Ok(r),
        };
        let values: Float64Array = match arrays.get(1) {
            None => first.try_unary(|v| {
                Ok(match self.operation {
                    O::Round => v.round_ties_even(),
                    O::Trunc => v.trunc(),
                    O::Floor => v.floor(),
                    O::Ceil => v.ceil(),
                    O::Abs => v.abs(),
                    // Of NaN too.
                    O::Sign if v == 0.0 || v.is_nan() => 0.0,
                    O::Sign => v.signum(),
                    O::Sqrt if v < 0.0 => return Err(no_power("cannot take square root of a negative number")),
                    O::Sqrt => v.sqrt(),
                    O::Exp => checked(v.exp(), &[v])?,
                    O::Ln => log(v)?,
                    O::Log => {
                        log(v)?;
                        v.log10()
                    }
                    O::Div | O::Power => return plan_err!("{} of one number", self.name()),
                })
            })?,
            Some(second) => {
                let second: Vec<Option<f64>> = match second.data_type() {
                    DataType::Int64 => second.as_primitive::<Int64Type>().iter().map(|v| v.map(|v| v as f64)).collect(),
                    _ => second.as_primitive::<Float64Type>().iter().collect(),
                };
                let pairs = first.iter().zip(second).map(|(a, b)| match (a, b) {
                    (Some(a), Some(b)) => Ok(Some(match self.operation {
                        O::Power => {
                            check_power(a, b)?;
                            checked(a.powf(b), &[a, b])?
                        }
                        O::Div if b == 0.0 => return Err(external(Error::new("22012", "division by zero"))),
                        O::Div => (a / b).trunc(),
                        O::Log => {
                            let base = log(a)?;
                            if base == 0.0 {
                                return Err(external(Error::new("22012", "division by zero")));
                            }
                            log(b)? / base
                        }
                        // The shortest text of the double is what is rounded.
                        _ => {
                            let unit = 10f64.powf(b.abs());
                            let scaled = if b < 0.0 { a / unit } else { a * unit };
                            let cut = if self.operation == O::Trunc { scaled.trunc() } else { scaled.round() };
                            let result = if b < 0.0 { cut * unit } else { cut / unit };
                            if result.is_finite() { result } else { a }
                        }
                    })),
                    _ => Ok(None),
                });
                pairs.collect::<Result<Float64Array>>()?
            }
        };
        Ok(Arc::new(values))
    }

    fn of_numerics(&self, arrays: &[ArrayRef], precision: u8, scale: i8) -> Result<ArrayRef> {
        let first = arrays[0].as_primitive::<Decimal128Type>();
        let DataType::Decimal128(_, own) = *first.data_type() else { return plan_err!("no numeric") };
        let limit = 10i128.pow(precision.into());
        let value = |row: usize| -> Result<Option<i128>> {
            if arrays.iter().any(|array| array.is_null(row)) {
                return Ok(None);
            }
            let v = first.value(row);
            let result = match (self.operation, arrays.get(1)) {
                (O::Round | O::Trunc, digits) => {
                    let digits = digits.map_or(0, |d| d.as_primitive::<Int64Type>().value(row)).clamp(-40, 40);
                    rounded(v, own, digits as i8, self.operation == O::Round).and_then(|v| rescaled(v, own, scale))
                }
                (O::Floor, _) => Some(v.div_euclid(10i128.pow(own as u32))),
                (O::Ceil, _) => Some(-(-v).div_euclid(10i128.pow(own as u32))),
                (O::Abs, _) => Some(v.abs()),
                (O::Sign, _) => Some(v.signum()),
                (O::Sqrt, _) if v < 0 => return Err(no_power("cannot take square root of a negative number")),
                // √(v·10^−own) at the scale is √(v·10^(2·scale − own)).
                (O::Sqrt, _) => {
                    let shift = i32::from(scale) * 2 - i32::from(own);
                    let shifted = match u8::try_from(shift) {
                        Ok(shift) => i256::from_i128(v).checked_mul(i256::from_i128(10).wrapping_pow(shift.into())),
                        Err(_) => Some(i256::from_i128(v / 10i128.pow(shift.unsigned_abs()))),
                    };
                    shifted.and_then(root)
                }
                (O::Div, Some(by)) => {
                    let by = by.as_primitive::<Decimal128Type>();
                    let DataType::Decimal128(_, its) = *by.data_type() else { return plan_err!("no numeric") };
                    let (a, b) = (i256::from_i128(v), i256::from_i128(by.value(row)));
                    if b == i256::ZERO {
                        return Err(external(Error::new("22012", "division by zero")));
                    }
                    let ten = |n: i8| i256::from_i128(10).wrapping_pow(n.max(0) as u32);
                    a.checked_mul(ten(its - own))
                        .zip(b.checked_mul(ten(own - its)))
                        .and_then(|(a, b)| a.checked_div(b)?.to_i128())
                }
                (O::Power, Some(by)) => {
                    let by = by.as_primitive::<Decimal128Type>();
                    let DataType::Decimal128(_, its) = *by.data_type() else { return plan_err!("no numeric") };
                    power(v, own, by.value(row), its)?
                }
                (O::Exp, _) => fixed::exponential(v, own, POWER_SCALE as u32),
                (O::Ln | O::Log, _) if v <= 0 => return Err(no_logarithm(v as f64)),
                (O::Ln, _) => fixed::logarithm(v, own, POWER_SCALE as u32),
                (O::Log, None) => fixed::logarithm_to((10, 0), (v, own), POWER_SCALE as u32),
                (O::Log, Some(of)) => {
                    let of = of.as_primitive::<Decimal128Type>();
                    let DataType::Decimal128(_, its) = *of.data_type() else { return plan_err!("no numeric") };
                    if of.value(row) <= 0 {
                        return Err(no_logarithm(of.value(row) as f64));
                    }
                    if v == 10i128.pow(own as u32) {
                        return Err(external(Error::new("22012", "division by zero")));
                    }
                    fixed::logarithm_to((v, own), (of.value(row), its), POWER_SCALE as u32)
                }
                _ => return plan_err!("no {} of numerics", self.name()),
            };
            result.filter(|v| v.abs() < limit).map(Some).ok_or_else(numeric_overflow)
        };
        let values: Decimal128Array = (0..first.len()).map(value).collect::<Result<_>>()?;
        Ok(Arc::new(values.with_precision_and_scale(precision, scale)?))
    }
}

/// A value of this scale with no more than `digits` after the point, still at its scale.
fn rounded(value: i128, scale: i8, digits: i8, round: bool) -> Option<i128> {
    let cut = i32::from(scale) - i32::from(digits);
    if cut <= 0 {
        return Some(value);
    }
    if cut > 38 {
        return Some(0);
    }
    let unit = 10i128.pow(cut as u32);
    let rest = value % unit;
    let down = value - rest;
    match round && rest.abs() >= unit / 2 {
        true => down.checked_add(unit * value.signum()),
        false => Some(down),
    }
}

fn rescaled(value: i128, from: i8, to: i8) -> Option<i128> {
    match to - from {
        up @ 0.. => value.checked_mul(10i128.checked_pow(up as u32)?),
        down => Some(value / 10i128.pow(down.unsigned_abs().into())),
    }
}

/// The whole root, by Newton's method from above, rounded to the nearest.
fn root(square: i256) -> Option<i128> {
    if square == i256::ZERO {
        return Some(0);
    }
    let bits = 256 - square.leading_zeros();
    let mut x = i256::ONE << bits.div_ceil(2) as u8;
    loop {
        let next = x.wrapping_add(square.checked_div(x)?).checked_div(i256::from_i128(2))?;
        if next >= x {
            break;
        }
        x = next;
    }
    // x² ≤ square < (x + 1)²: up from x² + x + ¼.
    let up = square.wrapping_sub(x.wrapping_mul(x)) > x;
    x.to_i128().map(|x| x + i128::from(up))
}

/// At [`POWER_SCALE`]; exact steps for whole exponents, by logarithms for others, by doubles where those are large.
fn power(base: i128, scale: i8, exponent: i128, its: i8) -> Result<Option<i128>> {
    let float = |v: i128, scale: i8| v as f64 / 10f64.powi(scale.into());
    let (b, e) = (float(base, scale), float(exponent, its));
    check_power(b, e)?;
    // So many digits are kept on the way.
    const KEPT: u32 = 24;
    let unit = i256::from_i128(10).wrapping_pow(KEPT);
    let whole = exponent % 10i128.pow(its as u32) == 0;
    if !whole && base > 0 {
        return Ok(fixed::power((base, scale), (exponent, its), POWER_SCALE as u32));
    }
    if !whole || e.abs() > 1000.0 {
        let result = b.powf(e) * 10f64.powi(POWER_SCALE.into());
        return Ok((result.abs() < 1e37).then_some(result.round() as i128));
    }
    let exponent = e as i32;
    let start = i256::from_i128(base).checked_mul(i256::from_i128(10).wrapping_pow(KEPT - scale.clamp(0, 24) as u32));
    let Some(start) = start else { return Ok(None) };
    let multiplied = |a: i256, b: i256| a.checked_mul(b).and_then(|product| divide_rounded(product, 0, unit));
    let (mut result, mut square, mut left) = (Some(unit), Some(start), exponent.unsigned_abs());
    while left > 0 {
        if left & 1 == 1 {
            result = result.zip(square).and_then(|(a, b)| multiplied(a, b));
        }
        left >>= 1;
        if left > 0 {
            square = square.and_then(|s| multiplied(s, s));
        }
    }
    let result = match result {
        Some(result) if exponent < 0 => divide_rounded(unit.wrapping_mul(unit), 0, result),
        other => other,
    };
    let down = i256::from_i128(10).wrapping_pow(KEPT - POWER_SCALE as u32);
    Ok(result.and_then(|r| divide_rounded(r, 0, down)).and_then(|r| r.to_i128()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numerics() {
        assert_eq!(rounded(2567, 3, 2, true), Some(2570));
        assert_eq!(rounded(-25, 1, 0, true), Some(-30));
        assert_eq!(rounded(-25, 1, 0, false), Some(-20));
        assert_eq!(rounded(12_345, 1, -2, true), Some(12_000));
        assert_eq!(root(i256::from_i128(2 * 10i128.pow(30))), Some(1_414_213_562_373_095));
        assert_eq!(root(i256::from_i128(16)), Some(4));
        assert_eq!(power(20, 1, 3, 0).unwrap(), Some(8 * 10i128.pow(16)));
        assert_eq!(power(11, 1, 2, 0).unwrap(), Some(121 * 10i128.pow(14)));
        assert_eq!(power(20, 1, -1, 0).unwrap(), Some(5 * 10i128.pow(15)));
        assert!(power(0, 0, -1, 0).is_err());
    }
}
