//! Arithmetic as in Postgres where DataFusion's differs: integer overflow is an error (22003), so is division of
//! floats by zero (22012); numeric division has at least 16 digits after the point; dates and timestamps subtract to
//! days and intervals; intervals can be multiplied and divided.
//!
//! Operators whose type differs from DataFusion's are planned here, when the query is bound ([`Operators`]); those that
//! only check more are put in once types are settled (`settle.rs`), so that they reach every expression.

use std::fmt::Write;
use std::ops::{BitXor, Div};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, ArrowPrimitiveType, AsArray, Decimal128Array, Float64Array, PrimitiveArray};
use arrow::compute::binary;
use arrow::compute::kernels::{cast::cast, numeric};
use arrow::datatypes::{
    DataType, Decimal128Type, Float32Type, Float64Type, Int16Type, Int32Type, Int64Type, IntervalMonthDayNano,
    IntervalMonthDayNanoType, IntervalUnit, TimeUnit, TimestampMicrosecondType, i256,
};
use arrow::error::ArrowError;
use datafusion::common::{DFSchema, ScalarValue, plan_err};
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::planner::{ExprPlanner, PlannerResult, RawBinaryExpr};
use datafusion::logical_expr::{
    BinaryExpr, Cast, ColumnarValue, Expr, ExprSchemable, Operator, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl,
    Signature, Volatility, lit,
};
use sqlparser::ast::BinaryOperator;

use super::casts::check_literal;
use super::declared;
use super::declared::moments::{DATE_ADD, DATE_DIFFERENCE, DATE_SUBTRACT};
use super::fields::Part;
use super::totals::divide_rounded;
use crate::error::Error;
use crate::sql::bounds::check_in_plan;
use crate::sql::common::{Kind, kind, literal_type};
use crate::sql::interval::DAY_US;
use crate::sql::types::{NUMERIC_PRECISION_MAX, UTC, sql_type_of_arrow};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Arithmetic {
    /// Of integers of one type.
    Add,
    Subtract,
    Multiply,
    Xor,
    /// Of floats, or of numerics.
    Divide,
    /// timestamp − timestamp: days and a time.
    TimestampDifference,
    /// interval · number, interval / number.
    ScaleInterval,
    DivideInterval,
}

#[derive(Debug, PartialEq, Eq, Hash)]
pub struct ArithmeticFunction {
    operation: Arithmetic,
    signature: Signature,
}

impl ArithmeticFunction {
    fn new(operation: Arithmetic) -> Self {
        ArithmeticFunction { operation, signature: Signature::user_defined(Volatility::Immutable) }
    }
    fn sign(&self) -> &'static str {
        match self.operation {
            Arithmetic::Add => "+",
            Arithmetic::Subtract | Arithmetic::TimestampDifference => "-",
            Arithmetic::Multiply | Arithmetic::ScaleInterval => "*",
            Arithmetic::Xor => "#",
            Arithmetic::Divide | Arithmetic::DivideInterval => "/",
        }
    }
}

impl ArithmeticFunction {
    /// This call, the one that is its left side, the one that is that one's, ….
    fn chain<'a>(&'a self, args: &'a [Expr]) -> Vec<(&'a ArithmeticFunction, &'a [Expr])> {
        let mut chain = vec![(self, args)];
        let mut left = &args[0];
        while let Expr::ScalarFunction(call) = left
            && let Some(function) = call.func.inner().downcast_ref::<ArithmeticFunction>()
        {
            chain.push((function, &call.args));
            left = &call.args[0];
        }
        chain
    }
}

/// `left operation right`.
pub fn call(operation: Arithmetic, left: Expr, right: Expr) -> Expr {
    ScalarUDF::from(ArithmeticFunction::new(operation)).call(vec![left, right])
}

fn external(error: Error) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}
fn division_by_zero() -> DataFusionError {
    external(Error::new("22012", "division by zero"))
}
fn interval_out_of_range() -> DataFusionError {
    external(Error::new("22008", "interval out of range"))
}

fn is_integer(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Int16 | DataType::Int32 | DataType::Int64)
}

/// Digits that an integer may have.
fn integer_digits(data_type: &DataType) -> u8 {
    match data_type {
        DataType::Int16 => 5,
        DataType::Int32 => 10,
        _ => 19,
    }
}

/// An integer as a numeric.
fn as_decimal(data_type: &DataType) -> Option<(u8, i8)> {
    match data_type {
        DataType::Decimal128(precision, scale) => Some((*precision, *scale)),
        integer if is_integer(integer) => Some((integer_digits(integer), 0)),
        _ => None,
    }
}

impl ScalarUDFImpl for ArithmeticFunction {
    fn name(&self) -> &str {
        match self.operation {
            Arithmetic::Add => "mr_add",
            Arithmetic::Subtract => "mr_subtract",
            Arithmetic::Multiply => "mr_multiply",
            Arithmetic::Xor => "mr_xor",
            Arithmetic::Divide => "mr_divide",
            Arithmetic::TimestampDifference => "mr_timestamp_difference",
            Arithmetic::ScaleInterval => "mr_scale_interval",
            Arithmetic::DivideInterval => "mr_divide_interval",
        }
    }
    fn display_name(&self, args: &[Expr]) -> Result<String> {
        Ok(format!("{} {} {}", args[0], self.sign(), args[1]))
    }
    // As by default, but without copying at each level of a chain: DataFusion asks for it at each, again and again.
    fn schema_name(&self, args: &[Expr]) -> Result<String> {
        let chain = self.chain(args);
        let (_, innermost) = chain[chain.len() - 1];
        let mut name: String = chain.iter().flat_map(|(function, _)| [function.name(), "("]).collect();
        write!(name, "{}", innermost[0].schema_name())?;
        for (_, args) in chain.iter().rev() {
            write!(name, ",{})", args[1].schema_name())?;
        }
        Ok(name)
    }
    fn signature(&self) -> &Signature {
        &self.signature
    }
    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        let [left, right] = types else { return plan_err!("Function '{}' expects 2 arguments", self.name()) };
        let wrong = || {
            let (left, right) = (sql_type_of_arrow(left), sql_type_of_arrow(right));
            Err(external(Error::new("42883", format!("operator does not exist: {left} {} {right}", self.sign()))))
        };
        match self.operation {
            Arithmetic::Add | Arithmetic::Subtract | Arithmetic::Multiply | Arithmetic::Xor => {
                let float = self.operation != Arithmetic::Xor && left.is_floating();
                if (is_integer(left) || float) && left == right { Ok(types.to_vec()) } else { wrong() }
            }
            Arithmetic::Divide => match (as_decimal(left), as_decimal(right)) {
                (Some((p1, s1)), Some((p2, s2))) => {
                    Ok(vec![DataType::Decimal128(p1, s1), DataType::Decimal128(p2, s2)])
                }
                _ if left == right && left.is_floating() => Ok(types.to_vec()),
                _ => Ok(vec![DataType::Float64, DataType::Float64]),
            },
            Arithmetic::TimestampDifference => match (left, right) {
                (DataType::Timestamp(_, _) | DataType::Date32, DataType::Timestamp(_, _) | DataType::Date32) => {
                    let zoned = [left, right].iter().any(|t| matches!(t, DataType::Timestamp(_, Some(_))));
                    let common = DataType::Timestamp(TimeUnit::Microsecond, zoned.then(|| UTC.into()));
                    Ok(vec![common.clone(), common])
                }
                _ => wrong(),
            },
            Arithmetic::ScaleInterval | Arithmetic::DivideInterval => {
                Ok(vec![DataType::Interval(IntervalUnit::MonthDayNano), DataType::Float64])
            }
        }
    }
    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        check_in_plan()?;
        Ok(match (self.operation, &types[0], &types[1]) {
            (Arithmetic::Add | Arithmetic::Subtract | Arithmetic::Multiply | Arithmetic::Xor, left, _) => left.clone(),
            (Arithmetic::Divide, DataType::Decimal128(_, s1), DataType::Decimal128(_, s2)) => {
                DataType::Decimal128(NUMERIC_PRECISION_MAX, (*s1).max(*s2).max(16))
            }
            (Arithmetic::Divide, left, _) => left.clone(),
            _ => DataType::Interval(IntervalUnit::MonthDayNano),
        })
    }
    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let scalar = args.args.iter().all(|a| matches!(a, ColumnarValue::Scalar(_)));
        let result = match self.operation {
            // The kernels take a scalar beside an array without spreading it.
            Arithmetic::Add => checked_floats(&args, datum(&args, numeric::add)?, false)?,
            Arithmetic::Subtract => checked_floats(&args, datum(&args, numeric::sub)?, false)?,
            Arithmetic::Multiply => checked_floats(&args, datum(&args, numeric::mul)?, true)?,
            Arithmetic::Xor => xor(&args)?,
            operation => {
                let rows = if scalar { 1 } else { args.number_rows };
                let (left, right) = (args.args[0].to_array(rows)?, args.args[1].to_array(rows)?);
                match operation {
                    Arithmetic::Divide => divide(&left, &right, args.return_type())?,
                    Arithmetic::TimestampDifference => difference(&left, &right)?,
                    _ => scale_interval(&left, &right, operation == Arithmetic::DivideInterval)?,
                }
            }
        };
        match scalar {
            true => Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&result, 0)?)),
            false => Ok(ColumnarValue::Array(result)),
        }
    }
}

type Kernel = fn(&dyn arrow::array::Datum, &dyn arrow::array::Datum) -> std::result::Result<ArrayRef, ArrowError>;

fn datum(args: &ScalarFunctionArgs, kernel: Kernel) -> Result<ArrayRef> {
    let integer = sql_type_of_arrow(args.return_type());
    let result = match (&args.args[0], &args.args[1]) {
        (ColumnarValue::Array(left), ColumnarValue::Array(right)) => kernel(left, right),
        (ColumnarValue::Array(left), ColumnarValue::Scalar(right)) => kernel(left, &right.to_scalar()?),
        (ColumnarValue::Scalar(left), ColumnarValue::Array(right)) => kernel(&left.to_scalar()?, right),
        (ColumnarValue::Scalar(left), ColumnarValue::Scalar(right)) => kernel(&left.to_array()?, &right.to_array()?),
    };
    result.map_err(|error| match error {
        ArrowError::ArithmeticOverflow(_) => external(Error::new("22003", format!("{integer} out of range"))),
        ArrowError::DivideByZero => division_by_zero(),
        other => other.into(),
    })
}

/// Sums, differences and products of floats, others as they are. NaN has one form, which is greater than all numbers. Errors:
/// 22003 where a result is too large to be a number and no operand is, or a product too small.
fn checked_floats(args: &ScalarFunctionArgs, result: ArrayRef, product: bool) -> Result<ArrayRef> {
    match result.data_type() {
        DataType::Float32 => checked_floats_of::<Float32Type>(args, result, product),
        DataType::Float64 => checked_floats_of::<Float64Type>(args, result, product),
        _ => Ok(result),
    }
}

fn checked_floats_of<T: ArrowPrimitiveType<Native: Real>>(
    args: &ScalarFunctionArgs,
    result: ArrayRef,
    product: bool,
) -> Result<ArrayRef> {
    let values = result.as_primitive::<T>();
    let suspect = |value: &T::Native| {
        let value: f64 = (*value).into();
        !value.is_finite() || product && value == 0.0
    };
    if !values.values().iter().any(suspect) {
        return Ok(result);
    }
    let operands = [args.args[0].to_array(values.len())?, args.args[1].to_array(values.len())?];
    let [left, right] = operands.each_ref().map(|operand| operand.as_primitive::<T>());
    for row in (0..values.len()).filter(|row| values.is_valid(*row)) {
        let [value, a, b]: [f64; 3] = [values, left, right].map(|array| array.value(row).into());
        if value.is_infinite() && !a.is_infinite() && !b.is_infinite() {
            return Err(overflow());
        }
        if product && value == 0.0 && a != 0.0 && b != 0.0 {
            return Err(underflow());
        }
    }
    let plain: PrimitiveArray<T> = values.unary(one_nan);
    Ok(Arc::new(plain))
}

fn overflow() -> DataFusionError {
    external(Error::new("22003", "value out of range: overflow"))
}
fn underflow() -> DataFusionError {
    external(Error::new("22003", "value out of range: underflow"))
}

/// The floating-point numbers.
trait Real: Copy + Into<f64> + Div<Output = Self> {
    const NAN: Self;
}
impl Real for f32 {
    const NAN: f32 = f32::NAN;
}
impl Real for f64 {
    const NAN: f64 = f64::NAN;
}

/// A processor gives NaN a sign, by which it would be less than all numbers.
fn one_nan<R: Real>(value: R) -> R {
    if Into::<f64>::into(value).is_nan() { R::NAN } else { value }
}

fn quotient<R: Real>(dividend: R, divisor: R) -> Result<R> {
    let (a, b): (f64, f64) = (dividend.into(), divisor.into());
    if b == 0.0 && !a.is_nan() {
        return Err(division_by_zero());
    }
    let quotient = dividend / divisor;
    match quotient.into() {
        value if value.is_infinite() && !a.is_infinite() => Err(overflow()),
        value if value == 0.0 && a != 0.0 && !b.is_infinite() => Err(underflow()),
        _ => Ok(one_nan(quotient)),
    }
}

/// DataFusion's `x # x` is 0, also of NULL.
fn xor(args: &ScalarFunctionArgs) -> Result<ArrayRef> {
    fn of<T: ArrowPrimitiveType<Native: BitXor<Output = T::Native>>>(a: &ArrayRef, b: &ArrayRef) -> Result<ArrayRef> {
        let xor: PrimitiveArray<T> = binary(a.as_primitive::<T>(), b.as_primitive::<T>(), |a, b| a ^ b)?;
        Ok(Arc::new(xor))
    }
    let arrays = ColumnarValue::values_to_arrays(&args.args)?;
    match args.return_type() {
        DataType::Int16 => of::<Int16Type>(&arrays[0], &arrays[1]),
        DataType::Int32 => of::<Int32Type>(&arrays[0], &arrays[1]),
        _ => of::<Int64Type>(&arrays[0], &arrays[1]),
    }
}

fn floats<T: ArrowPrimitiveType>(
    left: &ArrayRef,
    right: &ArrayRef,
    op: impl Fn(T::Native, T::Native) -> Result<T::Native>,
) -> Result<ArrayRef> {
    let (left, right) = (left.as_primitive::<T>(), right.as_primitive::<T>());
    let quotients: Result<PrimitiveArray<T>> = left
        .iter()
        .zip(right.iter())
        .map(|pair| match pair {
            (Some(a), Some(b)) => op(a, b).map(Some),
            _ => Ok(None),
        })
        .collect();
    Ok(Arc::new(quotients?))
}

fn divide(left: &ArrayRef, right: &ArrayRef, output: &DataType) -> Result<ArrayRef> {
    match (left.data_type(), right.data_type(), output) {
        (DataType::Float32, ..) => floats::<Float32Type>(left, right, quotient),
        (DataType::Float64, ..) => floats::<Float64Type>(left, right, quotient),
        (DataType::Decimal128(_, s1), DataType::Decimal128(_, s2), DataType::Decimal128(precision, scale)) => {
            // a·10^-s1 / b·10^-s2 at the output's scale is a·10^(scale − s1 + s2) / b, rounded.
            let digits = (i16::from(*scale) - i16::from(*s1) + i16::from(*s2)) as u32;
            let limit = 10i128.pow(u32::from(*precision));
            let (a, b) = (left.as_primitive::<Decimal128Type>(), right.as_primitive::<Decimal128Type>());
            let quotients: Result<Decimal128Array> = a
                .iter()
                .zip(b.iter())
                .map(|pair| match pair {
                    (Some(_), Some(0)) => Err(division_by_zero()),
                    (Some(a), Some(b)) => divide_rounded(i256::from_i128(a), digits, i256::from_i128(b))
                        .and_then(|q| q.to_i128())
                        .filter(|q| q.abs() < limit)
                        .map(Some)
                        .ok_or_else(|| external(Error::new("22003", "numeric field overflow"))),
                    _ => Ok(None),
                })
                .collect();
            Ok(Arc::new(quotients?.with_precision_and_scale(*precision, *scale)?))
        }
        (other, ..) => plan_err!("no division of {other}"),
    }
}

/// Days and the rest, both of the same sign.
fn difference(left: &ArrayRef, right: &ArrayRef) -> Result<ArrayRef> {
    let (left, right) =
        (left.as_primitive::<TimestampMicrosecondType>(), right.as_primitive::<TimestampMicrosecondType>());
    let differences: Result<PrimitiveArray<IntervalMonthDayNanoType>> = left
        .iter()
        .zip(right.iter())
        .map(|pair| match pair {
            (Some(a), Some(b)) => {
                let us = a.checked_sub(b).ok_or_else(interval_out_of_range)?;
                let days = i32::try_from(us / DAY_US).map_err(|_| interval_out_of_range())?;
                Ok(Some(IntervalMonthDayNano::new(0, days, us % DAY_US * 1000)))
            }
            _ => Ok(None),
        })
        .collect();
    Ok(Arc::new(differences?))
}

fn scale_interval(intervals: &ArrayRef, factors: &ArrayRef, divide: bool) -> Result<ArrayRef> {
    let factors = cast(factors, &DataType::Float64)?;
    let factors: &Float64Array = factors.as_primitive();
    let scaled: Result<PrimitiveArray<IntervalMonthDayNanoType>> = intervals
        .as_primitive::<IntervalMonthDayNanoType>()
        .iter()
        .zip(factors.iter())
        .map(|pair| match pair {
            (Some(_), Some(0.0)) if divide => Err(division_by_zero()),
            (Some(interval), Some(factor)) => {
                let scale = |part: f64| if divide { part / factor } else { part * factor };
                scaled_interval(interval, scale).map(Some).ok_or_else(interval_out_of_range)
            }
            _ => Ok(None),
        })
        .collect();
    Ok(Arc::new(scaled?))
}

/// What is left of a month goes to days of which it has 30, what is left of a day to its time; each rest is rounded to
/// microseconds, as in Postgres' `interval_mul`.
pub fn scaled_interval(interval: IntervalMonthDayNano, scale: impl Fn(f64) -> f64) -> Option<IntervalMonthDayNano> {
    const DAY_SECONDS: f64 = 86_400.0;
    let rounded = |x: f64| (x * 1e6).round_ties_even() / 1e6;
    let whole = |x: f64| (i32::MIN.into()..=i32::MAX.into()).contains(&x).then_some(x.trunc() as i32);
    let (months, days) = (scale(interval.months.into()), scale(interval.days.into()));
    let (whole_months, mut whole_days) = (whole(months)?, whole(days)?);
    let rest_days = rounded((months - f64::from(whole_months)) * 30.0);
    let mut rest = rounded((days - f64::from(whole_days) + rest_days - rest_days.trunc()) * DAY_SECONDS);
    if rest.abs() >= DAY_SECONDS {
        whole_days = whole_days.checked_add((rest / DAY_SECONDS) as i32)?;
        rest -= (rest / DAY_SECONDS).trunc() * DAY_SECONDS;
    }
    whole_days = whole_days.checked_add(rest_days as i32)?;
    let us = (scale((interval.nanoseconds / 1000) as f64) + rest * 1e6).round_ties_even();
    let nanoseconds = (us.abs() < 9.2e15).then_some(us as i64 * 1000)?;
    Some(IntervalMonthDayNano::new(whole_months, whole_days, nanoseconds))
}

/// Plans the operators whose types are not DataFusion's.
#[derive(Debug)]
pub struct Operators;

/// A smallint is shifted as an integer, of which its bits are kept.
fn shifted_smallint(left: Expr, to_left: bool, right: Expr) -> Expr {
    let binary =
        |left: Expr, op: Operator, right: Expr| Expr::BinaryExpr(BinaryExpr::new(Box::new(left), op, Box::new(right)));
    let shift = if to_left { Operator::BitwiseShiftLeft } else { Operator::BitwiseShiftRight };
    let shifted = binary(as_type(left, DataType::Int32), shift, as_type(right, DataType::Int32));
    // The highest bit is the sign.
    let low = binary(shifted, Operator::BitwiseAnd, lit(0xffff));
    let signed = binary(binary(low, Operator::BitwiseXor, lit(0x8000)), Operator::Minus, lit(0x8000));
    as_type(signed, DataType::Int16)
}

impl ExprPlanner for Operators {
    fn plan_extract(&self, arguments: Vec<Expr>) -> Result<PlannerResult<Vec<Expr>>> {
        Ok(PlannerResult::Planned(ScalarUDF::from(Part::extract()).call(arguments)))
    }
    fn plan_binary_op(&self, raw: RawBinaryExpr, schema: &DFSchema) -> Result<PlannerResult<RawBinaryExpr>> {
        let RawBinaryExpr { op, left, right } = raw;
        // Where a type is not known yet (a parameter's), DataFusion's planning finds it.
        let (Ok(left_type), Ok(right_type)) = (left.get_type(schema), right.get_type(schema)) else {
            return Ok(PlannerResult::Original(RawBinaryExpr { op, left, right }));
        };
        let (left, right) = small_literals(left, right, &left_type, &right_type);
        let (left, right) = typed_literals(&op, left, right, &left_type, &right_type)?;
        let (left_type, right_type) = (left.get_type(schema)?, right.get_type(schema)?);
        if is_arithmetic(&op) {
            let wrong = |t: &DataType| matches!(kind(t), Some(Kind::Text | Kind::Boolean | Kind::Bytes));
            let literal = |e: &Expr| matches!(e, Expr::Literal(ScalarValue::Utf8(_) | ScalarValue::Null, _));
            if (wrong(&left_type) && !literal(&left)) || (wrong(&right_type) && !literal(&right)) {
                let (left, right) = (sql_type_of_arrow(&left_type), sql_type_of_arrow(&right_type));
                return Err(external(Error::new("42883", format!("operator does not exist: {left} {op} {right}"))));
            }
        }
        // A real beside a whole number makes a double precision.
        let (left, right) = match (&left_type, &right_type) {
            (DataType::Float32, t) | (t, DataType::Float32) if is_arithmetic(&op) && is_integer(t) => {
                (as_type(left, DataType::Float64), as_type(right, DataType::Float64))
            }
            _ => (left, right),
        };
        let day = |t: &DataType| *t == DataType::Date32;
        let timestamp = |t: &DataType| matches!(t, DataType::Timestamp(..));
        // A time that moves a timestamp, or is multiplied, is an interval.
        let time = |t: &DataType| matches!(t, DataType::Time64(_));
        let moves = matches!(op, BinaryOperator::Plus | BinaryOperator::Minus);
        if op == BinaryOperator::Plus && time(&left_type) && time(&right_type) {
            let message = "operator is not unique: time without time zone + time without time zone";
            return Err(external(Error::new("42725", message)));
        }
        let scales = matches!(op, BinaryOperator::Multiply | BinaryOperator::Divide);
        let (left, left_type, right, right_type) = match (time(&left_type), time(&right_type)) {
            (false, true) if moves && timestamp(&left_type) => (left, left_type, as_type(right, span()), span()),
            (true, false) if op == BinaryOperator::Plus && timestamp(&right_type) => {
                (as_type(left, span()), span(), right, right_type)
            }
            (true, false) if scales && right_type.is_numeric() => (as_type(left, span()), span(), right, right_type),
            (false, true) if op == BinaryOperator::Multiply && left_type.is_numeric() => {
                (left, left_type, as_type(right, span()), span())
            }
            _ => (left, left_type, right, right_type),
        };
        let interval = |t: &DataType| matches!(t, DataType::Interval(_));
        let number = |t: &DataType| t.is_numeric();
        let decimal = |t: &DataType| matches!(t, DataType::Decimal128(..));
        let exact = |t: &DataType| decimal(t) || is_integer(t);
        let planned = match op {
            BinaryOperator::And | BinaryOperator::Or => {
                let literal = |e: &Expr| matches!(e, Expr::Literal(ScalarValue::Utf8(Some(_)), _));
                let wrong = |e: &Expr, t: &DataType| !matches!(t, DataType::Boolean | DataType::Null) && !literal(e);
                for (side, data_type) in [(&left, &left_type), (&right, &right_type)] {
                    if wrong(side, data_type) {
                        let sql_type = sql_type_of_arrow(data_type);
                        let message = format!("argument of {op} must be type boolean, not type {sql_type}");
                        return Err(external(Error::new("42804", message)));
                    }
                }
                let boolean = |e: Expr| if literal(&e) { as_type(e, DataType::Boolean) } else { e };
                let operator = if op == BinaryOperator::And { Operator::And } else { Operator::Or };
                Expr::BinaryExpr(BinaryExpr::new(Box::new(boolean(left)), operator, Box::new(boolean(right))))
            }
            BinaryOperator::PGOverlap if kind(&left_type) == Some(Kind::List) => {
                datafusion::functions_nested::array_has::array_has_any_udf().call(vec![left, right])
            }
            BinaryOperator::Divide
                if (decimal(&left_type) && exact(&right_type)) || (is_integer(&left_type) && decimal(&right_type)) =>
            {
                call(Arithmetic::Divide, left, right)
            }
            BinaryOperator::Divide if interval(&left_type) && number(&right_type) => {
                call(Arithmetic::DivideInterval, left, right)
            }
            BinaryOperator::Multiply if interval(&left_type) && number(&right_type) => {
                call(Arithmetic::ScaleInterval, left, right)
            }
            BinaryOperator::Multiply if number(&left_type) && interval(&right_type) => {
                call(Arithmetic::ScaleInterval, right, left)
            }
            BinaryOperator::Minus
                if day(&left_type)
                    && day(&right_type)
                    && (may_be_infinite(&left, schema) || may_be_infinite(&right, schema)) =>
            {
                declared::named(DATE_DIFFERENCE)?.call(vec![left, right])
            }
            BinaryOperator::Minus if day(&left_type) && day(&right_type) => days(left).sub_checked(days(right)),
            BinaryOperator::Minus
                if (timestamp(&left_type) && (timestamp(&right_type) || day(&right_type)))
                    || (day(&left_type) && timestamp(&right_type)) =>
            {
                call(Arithmetic::TimestampDifference, left, right)
            }
            BinaryOperator::Plus if day(&left_type) && is_integer(&right_type) && may_be_infinite(&left, schema) => {
                declared::named(DATE_ADD)?.call(vec![left, as_type(right, DataType::Int32)])
            }
            BinaryOperator::Plus if is_integer(&left_type) && day(&right_type) && may_be_infinite(&right, schema) => {
                declared::named(DATE_ADD)?.call(vec![right, as_type(left, DataType::Int32)])
            }
            BinaryOperator::Minus if day(&left_type) && is_integer(&right_type) && may_be_infinite(&left, schema) => {
                declared::named(DATE_SUBTRACT)?.call(vec![left, as_type(right, DataType::Int32)])
            }
            BinaryOperator::Plus if day(&left_type) && is_integer(&right_type) => {
                date(call(Arithmetic::Add, days(left), as_type(right, DataType::Int32)))
            }
            BinaryOperator::Plus if is_integer(&left_type) && day(&right_type) => {
                date(call(Arithmetic::Add, as_type(left, DataType::Int32), days(right)))
            }
            BinaryOperator::Minus if day(&left_type) && is_integer(&right_type) => {
                date(call(Arithmetic::Subtract, days(left), as_type(right, DataType::Int32)))
            }
            BinaryOperator::Plus if interval(&left_type) && day(&right_type) => moved(right, Operator::Plus, left),
            BinaryOperator::Plus if day(&left_type) && interval(&right_type) => moved(left, Operator::Plus, right),
            BinaryOperator::Minus if day(&left_type) && interval(&right_type) => moved(left, Operator::Minus, right),
            BinaryOperator::PGBitwiseShiftLeft | BinaryOperator::PGBitwiseShiftRight
                if left_type == DataType::Int16 && is_integer(&right_type) =>
            {
                shifted_smallint(left, op == BinaryOperator::PGBitwiseShiftLeft, right)
            }
            op => return Ok(PlannerResult::Original(RawBinaryExpr { op, left, right })),
        };
        Ok(PlannerResult::Planned(planned))
    }
}

/// In Postgres a date moved by an interval is a timestamp.
fn moved(date: Expr, operator: Operator, by: Expr) -> Expr {
    let date = as_type(date, DataType::Timestamp(TimeUnit::Microsecond, None));
    Expr::BinaryExpr(BinaryExpr::new(Box::new(date), operator, Box::new(by)))
}

/// What is a timestamp's date never is infinite, and is known to what looks for times in plans.
fn may_be_infinite(date: &Expr, schema: &DFSchema) -> bool {
    match date {
        Expr::Cast(Cast { expr, .. }) => !matches!(expr.get_type(schema), Ok(DataType::Timestamp(..))),
        _ => true,
    }
}

fn is_arithmetic(op: &BinaryOperator) -> bool {
    use BinaryOperator as O;
    matches!(op, O::Plus | O::Minus | O::Multiply | O::Divide | O::Modulo)
}

/// A literal in quotes beside a number is a number, taken from a time a time, added to one an interval; compared with
/// anything it is of that type.
fn typed_literals(
    op: &BinaryOperator,
    left: Expr,
    right: Expr,
    left_type: &DataType,
    right_type: &DataType,
) -> Result<(Expr, Expr)> {
    use BinaryOperator as O;
    let compares = matches!(op, O::Eq | O::NotEq | O::Lt | O::LtEq | O::Gt | O::GtEq);
    let typed = |literal: Expr, beside: &DataType| -> Result<Expr> {
        // Nothing but an interval is added to a timestamp.
        if let (Expr::Literal(ScalarValue::Null, _), O::Plus, DataType::Timestamp(..)) = (&literal, op, beside) {
            return Ok(as_type(literal, span()));
        }
        let Expr::Literal(ScalarValue::Utf8(Some(text)), _) = &literal else { return Ok(literal) };
        let to = match (kind(beside), op) {
            (Some(Kind::Number), _) => literal_type(beside, text),
            (Some(kind), _) if compares && kind != Kind::Text => beside.clone(),
            (Some(Kind::Interval), O::Plus | O::Minus) => beside.clone(),
            (Some(Kind::Interval), O::Multiply | O::Divide) => DataType::Float64,
            (Some(Kind::Moment | Kind::Time), O::Minus) => beside.clone(),
            (Some(Kind::Moment | Kind::Time), O::Plus) if *beside != DataType::Date32 => {
                DataType::Interval(IntervalUnit::MonthDayNano)
            }
            _ => return Ok(literal),
        };
        // After a time, an interval may stand where a time could.
        match check_literal(text, &to) {
            Err(_) if matches!(kind(beside), Some(Kind::Moment | Kind::Time)) && *op == O::Minus => {
                Ok(as_type(literal, DataType::Interval(IntervalUnit::MonthDayNano)))
            }
            Err(error) => Err(error),
            Ok(()) => Ok(as_type(literal, to)),
        }
    };
    let bits = matches!(op, O::BitwiseAnd | O::BitwiseOr | O::PGBitwiseXor);
    if !(is_arithmetic(op) || compares || bits) {
        return Ok((left, right));
    }
    Ok((typed(left, right_type)?, typed(right, left_type)?))
}

trait SubChecked {
    fn sub_checked(self, other: Expr) -> Expr;
}
impl SubChecked for Expr {
    fn sub_checked(self, other: Expr) -> Expr {
        call(Arithmetic::Subtract, self, other)
    }
}

fn as_type(expr: Expr, data_type: DataType) -> Expr {
    Expr::Cast(Cast::new(Box::new(expr), data_type))
}
fn span() -> DataType {
    DataType::Interval(IntervalUnit::MonthDayNano)
}
fn days(expr: Expr) -> Expr {
    as_type(expr, DataType::Int32)
}
fn date(expr: Expr) -> Expr {
    as_type(expr, DataType::Date32)
}

/// A whole number that fits is an integer: beside an integer or smallint, or another literal, it must not make a
/// bigint of the whole.
fn small_literals(left: Expr, right: Expr, left_type: &DataType, right_type: &DataType) -> (Expr, Expr) {
    fn small(expr: &Expr) -> Option<i32> {
        match expr {
            // 2147483648 is a bigint before its sign makes it smaller.
            Expr::Literal(ScalarValue::Int64(Some(value)), _) => {
                i32::try_from(*value).ok().filter(|value| *value != i32::MIN)
            }
            Expr::Negative(of) => small(of).map(|value| -value),
            _ => None,
        }
    }
    let literal = |value: i32| Expr::Literal(ScalarValue::Int32(Some(value)), None);
    let narrow = |t: &DataType| matches!(t, DataType::Int16 | DataType::Int32 | DataType::Decimal128(..));
    match (small(&left), small(&right)) {
        (Some(a), Some(b)) => (literal(a), literal(b)),
        (Some(a), None) if narrow(right_type) => (literal(a), right),
        (None, Some(b)) if narrow(left_type) => (left, literal(b)),
        _ => (left, right),
    }
}

/// The checking form of an operator whose types are settled; `None` where DataFusion's is right.
pub fn checked(operator: Operator, left: &DataType, right: &DataType) -> Option<Arithmetic> {
    match operator {
        Operator::Plus if (is_integer(left) || left.is_floating()) && left == right => Some(Arithmetic::Add),
        Operator::Minus if (is_integer(left) || left.is_floating()) && left == right => Some(Arithmetic::Subtract),
        Operator::Multiply if (is_integer(left) || left.is_floating()) && left == right => Some(Arithmetic::Multiply),
        Operator::BitwiseXor if is_integer(left) && left == right => Some(Arithmetic::Xor),
        Operator::Divide if left.is_floating() && left == right => Some(Arithmetic::Divide),
        _ => None,
    }
}
