//! Functions as Postgres' catalog lists them: a name, and overloads of it, each with its argument types, its result and
//! what it does with one row. What is added to the dialect as a plain function is a line of a table here.
//!
//! ```text
//!   function("chr", &[of(&[Integer], Text, |r| …)])
//! ```
//!
//! An overload takes what it declares, what Postgres casts to that implicitly (integer to bigint to numeric to double
//! precision, date to timestamp), and NULL. A literal in quotes has no type of its own, and DataFusion calls it text:
//! so text is taken for anything that text is read as. `json` and `jsonb` are text to Arrow; a function that must know
//! asks [`Row::sql_type`].

mod arrays;
pub mod bytes;
pub mod likes;
pub mod moments;
mod numbers;
pub mod patterns;
mod row;
mod series;
mod text;
mod to_number;

use std::cell::OnceCell;
use std::hash::{Hash, Hasher};
use std::sync::{Arc, LazyLock};

use arrow::array::{Array as _, ArrayRef};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{DataType, Field, FieldRef, IntervalUnit, TimeUnit};
use datafusion::common::ScalarValue;
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

pub use row::{Row, Value};

use super::casts::style;
use super::tags::plain_numeric;
use crate::error::Error;
use crate::sql::bounds::{Tally, check_in_plan};
use crate::sql::common::common_type;
use crate::sql::types::{self, TYPE_KEY, UTC, sql_type_of_arrow, with_sql_type};

/// What an overload takes or gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Type {
    Boolean,
    Integer,
    Bigint,
    Double,
    /// Of any digits, as it comes; as a result of the scale of the first argument.
    Numeric,
    /// A result with so many digits after the point.
    NumericOf(i8),
    /// A result of the type `numeric`.
    PlainNumeric,
    Text,
    Json,
    Jsonb,
    Bytes,
    Date,
    Time,
    Timestamp,
    Timestamptz,
    Interval,
    /// Arrays of the type that the text names.
    Array(&'static str),
    AnyArray,
    Any,
    /// What that argument is, an element of it, an array of it. As arguments the first two are brought to one type with
    /// it; the others are results.
    SameAs(usize),
    ElementOf(usize),
    /// An element of it that is an array itself.
    SliceOf(usize),
    ArrayOf(usize),
    /// An element of an array of any dimensions, or jsonb.
    InnermostOf(usize),
}

/// What a function does with one row.
pub type Eval = for<'a> fn(&Row<'a>) -> Result<Value<'a>>;

/// What a function does with a whole column; `None` where it must be done row by row.
pub type Whole = fn(&ArrayRef) -> Option<ArrayRef>;

/// One way to call a function.
#[derive(Clone)]
pub struct Overload {
    takes: &'static [Type],
    /// How many of them must be there; the others have defaults.
    least: usize,
    /// Any number more of these.
    rest: Option<Type>,
    gives: Type,
    /// NULL when an argument is.
    strict: bool,
    eval: Eval,
    /// The same for all rows at once, of a function of one argument: where it can be done faster.
    whole: Option<Whole>,
}

pub fn of(takes: &'static [Type], gives: Type, eval: Eval) -> Overload {
    Overload { takes, least: takes.len(), rest: None, gives, strict: true, eval, whole: None }
}

impl Overload {
    pub fn nullable(self) -> Self {
        Overload { strict: false, ..self }
    }
    pub fn whole(self, whole: Whole) -> Self {
        Overload { whole: Some(whole), ..self }
    }
    pub fn least(self, least: usize) -> Self {
        Overload { least, ..self }
    }
    pub fn rest(self, rest: Type) -> Self {
        Overload { rest: Some(rest), ..self }
    }
}

impl Overload {
    /// The types of arguments, those that belong together having become one.
    fn united(&self, mut types: Vec<DataType>) -> Option<Vec<DataType>> {
        for (i, declared) in self.takes.iter().enumerate().take(types.len()) {
            let (Type::ElementOf(of) | Type::SliceOf(of) | Type::SameAs(of)) = *declared else { continue };
            let (DataType::List(item), element) = (types[of].clone(), *declared != Type::SameAs(of)) else {
                return None;
            };
            let own = match (element, &types[i]) {
                (true, own) => own.clone(),
                // A text among these would be taken for a literal.
                (false, DataType::List(own))
                    if matches!(item.data_type(), DataType::List(_)) && *own.data_type() == DataType::Utf8 =>
                {
                    return None;
                }
                (false, DataType::List(own)) => own.data_type().clone(),
                // An array in quotes.
                (false, _) => DataType::Utf8,
            };
            let common = match (item.data_type(), own) {
                (DataType::Null, own) => own,
                (item, DataType::Utf8 | DataType::Null) if *item != DataType::Utf8 => item.clone(),
                (item, own) => common_type(item, &own)?,
            };
            let list = DataType::List(Arc::new(item.as_ref().clone().with_data_type(common.clone())));
            types[i] = if element { common } else { list.clone() };
            types[of] = list;
        }
        Some(types)
    }
}

pub struct Declared {
    name: &'static str,
    aliases: Vec<String>,
    overloads: Vec<Overload>,
    signature: Signature,
}

/// All of them.
pub fn all() -> Vec<Declared> {
    let own = [
        text::all(),
        bytes::all(),
        likes::all(),
        patterns::all(),
        numbers::all(),
        to_number::all(),
        moments::all(),
        arrays::all(),
    ];
    own.into_iter().chain([series::all(), super::json::all()]).flatten().collect()
}

/// The function of a name. Errors: there is none.
pub fn named(name: &str) -> Result<Arc<ScalarUDF>> {
    static ALL: LazyLock<Vec<Arc<ScalarUDF>>> =
        LazyLock::new(|| all().into_iter().map(|f| Arc::new(f.into())).collect());
    let found = ALL.iter().find(|function| function.name() == name).cloned();
    found.ok_or_else(|| DataFusionError::Internal(format!("no function {name}")))
}

/// Whether a call takes much longer than a comparison.
pub fn is_slow(name: &str) -> bool {
    static SLOW: LazyLock<Vec<&str>> = LazyLock::new(|| patterns::all().iter().map(|slow| slow.name).collect());
    SLOW.contains(&name)
}

/// A function with its overloads, in the order in which they are preferred.
pub fn function(name: &'static str, overloads: &[Overload]) -> Declared {
    let signature = Signature::user_defined(Volatility::Stable);
    Declared { name, aliases: Vec::new(), overloads: overloads.to_vec(), signature }
}

impl Declared {
    pub fn or(mut self, alias: &str) -> Self {
        self.aliases.push(alias.to_string());
        self
    }

    fn choose(&self, types: &[DataType]) -> Option<(&Overload, Vec<DataType>)> {
        let mut best: Option<(usize, &Overload, Vec<DataType>)> = None;
        for overload in &self.overloads {
            let extra = types.len().saturating_sub(overload.takes.len());
            if types.len() < overload.least || (extra > 0 && overload.rest.is_none()) {
                continue;
            }
            let declared = overload.takes.iter().copied().chain(overload.rest.into_iter().cycle());
            let Some(taken) = types.iter().zip(declared).map(|(t, d)| d.take(t)).collect::<Option<Vec<_>>>() else {
                continue;
            };
            let cost = taken.iter().map(|(cost, _)| cost).sum::<usize>();
            let taken = taken.into_iter().map(|(_, data_type)| data_type).collect();
            let Some(taken) = overload.united(taken) else { continue };
            if best.as_ref().is_none_or(|(least, ..)| cost < *least) {
                best = Some((cost, overload, taken));
            }
        }
        best.map(|(_, overload, types)| (overload, types))
    }

    fn none_for(&self, types: &[DataType]) -> DataFusionError {
        let types: Vec<String> = types.iter().map(|t| types::plain_type(&sql_type_of_arrow(t))).collect();
        external(
            Error::new("42883", format!("function {}({}) does not exist", self.name, types.join(", "))).hint(
                "No function matches the given name and argument types. You might need to add explicit type casts.",
            ),
        )
    }
}

pub fn external(error: Error) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}

pub fn fail<T>(code: &'static str, message: impl Into<String>) -> Result<T> {
    Err(external(Error::new(code, message)))
}

impl Type {
    /// What an argument of a type is cast to, and how far that is; `None` where it is not taken.
    fn take(self, given: &DataType) -> Option<(usize, DataType)> {
        use DataType as D;
        let wanted = self.arrow();
        if let (Some(wanted), D::Null) = (&wanted, given) {
            return Some((1, wanted.clone()));
        }
        let rank = |t: &D| match t {
            D::Int8 | D::Int16 | D::UInt8 => Some(1),
            D::Int32 | D::UInt16 => Some(2),
            D::Int64 | D::UInt32 | D::UInt64 => Some(3),
            D::Decimal128(..) => Some(4),
            D::Float32 => Some(5),
            D::Float64 => Some(6),
            _ => None,
        };
        let moment = |t: &D| match t {
            D::Date32 => Some(1),
            D::Timestamp(_, None) => Some(2),
            D::Timestamp(_, Some(_)) => Some(3),
            _ => None,
        };
        match (self, wanted) {
            (Type::Any | Type::ElementOf(_) | Type::SameAs(_), _) => {
                Some((0, if *given == D::Null { D::Utf8 } else { given.clone() }))
            }
            (Type::SliceOf(_), _) => matches!(given, D::List(_)).then(|| (0, given.clone())),
            (Type::AnyArray, _) => match given {
                D::List(_) => Some((0, given.clone())),
                D::Null => Some((1, D::List(Arc::new(Field::new_list_field(D::Utf8, true))))),
                _ => None,
            },
            (Type::Numeric, _) => match given {
                D::Decimal128(..) => Some((0, given.clone())),
                D::Utf8 => Some((9, D::Decimal128(38, 10))),
                t if rank(t).is_some_and(|r| r < 4) => Some((4 - rank(t)?, D::Decimal128(20, 0))),
                D::Null => Some((1, D::Decimal128(38, 0))),
                _ => None,
            },
            (_, Some(wanted)) if wanted == *given => Some((0, wanted)),
            // An array's items may be called otherwise.
            (_, Some(D::List(item))) => match given {
                D::List(its) if its.data_type() == item.data_type() => Some((0, D::List(item))),
                D::List(its) if *its.data_type() == D::Null => Some((1, D::List(item))),
                D::Utf8 => Some((9, D::List(item))),
                _ => None,
            },
            (_, Some(wanted)) => match (given, &wanted) {
                (D::LargeUtf8 | D::Utf8View, D::Utf8) => Some((0, wanted)),
                (D::Utf8, D::Boolean | D::Binary | D::Interval(_) | D::Time64(_)) => Some((9, wanted)),
                (D::Utf8, to) if rank(to).is_some() || moment(to).is_some() => Some((9, wanted)),
                // An integer that is written out is a bigint to DataFusion.
                (D::Int64, D::Int32) => Some((6, wanted)),
                (from, to) => match (rank(from).or(moment(from)), rank(to).or(moment(to))) {
                    (Some(a), Some(b)) if a < b && rank(from).is_some() == rank(to).is_some() => Some((b - a, wanted)),
                    _ => None,
                },
            },
            (_, None) => None,
        }
    }

    /// The Arrow type, where it is always the same.
    fn arrow(self) -> Option<DataType> {
        use DataType as D;
        Some(match self {
            Type::Boolean => D::Boolean,
            Type::Integer => D::Int32,
            Type::Bigint => D::Int64,
            Type::Double => D::Float64,
            Type::Text | Type::Json | Type::Jsonb => D::Utf8,
            Type::Bytes => D::Binary,
            Type::Date => D::Date32,
            Type::Time => D::Time64(TimeUnit::Microsecond),
            Type::Timestamp => D::Timestamp(TimeUnit::Microsecond, None),
            Type::Timestamptz => D::Timestamp(TimeUnit::Microsecond, Some(UTC.into())),
            Type::Interval => D::Interval(IntervalUnit::MonthDayNano),
            Type::NumericOf(scale) => D::Decimal128(38, scale),
            Type::Array(element) => types::field("", &format!("{element}[]"), true).ok()?.data_type().clone(),
            _ => return None,
        })
    }

    /// The field of a result.
    fn field(self, name: &str, arguments: &[FieldRef]) -> Result<Field> {
        let argument =
            |i: usize| arguments.get(i).cloned().unwrap_or_else(|| Arc::new(Field::new("", DataType::Utf8, true)));
        let item = |i: usize| match argument(i).data_type() {
            DataType::List(item) => item.as_ref().clone(),
            _ => Field::new_list_field(DataType::Utf8, true),
        };
        let like = |field: &Field| {
            let field =
                types::with_sql_type(Field::new(name, field.data_type().clone(), true), &types::sql_type_of(field));
            match types::field(name, &types::sql_type_of(&field), true) {
                Ok(canonical) if canonical.data_type() == field.data_type() => canonical,
                _ => Field::new(name, field.data_type().clone(), true),
            }
        };
        let named = |sql_type: &str| types::field(name, sql_type, true).map_err(external);
        match self {
            Type::Json => named("json"),
            Type::Jsonb => named("jsonb"),
            Type::PlainNumeric => named("numeric"),
            Type::Array(element) => named(&format!("{element}[]")),
            Type::SameAs(i) => Ok(like(&argument(i))),
            Type::ElementOf(i) => {
                // Of what the list itself does not tell, its field may.
                let list = types::sql_type_of(&argument(i));
                match list.strip_suffix("[]").map(|element| types::field(name, element, true)) {
                    Some(Ok(element)) if element.data_type() == item(i).data_type() => Ok(element),
                    _ => Ok(like(&item(i))),
                }
            }
            Type::InnermostOf(i) => {
                let mut field = argument(i).as_ref().clone();
                while let DataType::List(item) = field.data_type() {
                    field = item.as_ref().clone();
                }
                Ok(like(&field))
            }
            Type::ArrayOf(i) => named(&format!("{}[]", types::sql_type_of(&argument(i)))),
            Type::Numeric => {
                let scale = match arguments.first().map(|f| f.data_type()) {
                    Some(DataType::Decimal128(_, scale)) => *scale,
                    _ => 0,
                };
                match arguments.iter().any(|field| types::sql_type_of(field) == "numeric") {
                    true if scale == types::NUMERIC_SCALE_DEFAULT => named("numeric"),
                    _ => Ok(Field::new(name, DataType::Decimal128(38, scale), true)),
                }
            }
            other => match other.arrow() {
                Some(data_type) => Ok(Field::new(name, data_type, true)),
                None => Err(DataFusionError::Internal(format!("{name} gives no type"))),
            },
        }
    }
}

/// What constants may take once they are arrays.
const CONSTANTS_BYTES_MAX: usize = 16 << 20;

/// One value for all rows. A large one is made an array here, where what it takes is accounted.
pub(super) fn constant(one: ArrayRef, rows: usize) -> Result<ColumnarValue> {
    let bytes = one.to_data().get_slice_memory_size().unwrap_or(0);
    if bytes.saturating_mul(rows) <= CONSTANTS_BYTES_MAX {
        return Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&one, 0)?));
    }
    if rows == 1 {
        return Ok(ColumnarValue::Array(one));
    }
    let mut tally = Tally::default();
    (0..rows).try_for_each(|_| tally.add(bytes))?;
    let places = arrow::array::UInt32Array::from(vec![0; rows]);
    Ok(ColumnarValue::Array(tally.keep(arrow::compute::take(&one, &places, None)?)))
}

/// Whether an array has become one of numerics by what is put to it: each has its own scale then.
fn mixes_numerics(field: &Field, given: &[FieldRef]) -> bool {
    let told = |field: &Field| field.metadata().get(TYPE_KEY).cloned();
    let numeric = |field: &FieldRef| told(field).is_some_and(|tag| matches!(tag.as_str(), "numeric" | "numeric[]"));
    let plain = matches!(field.data_type(), DataType::List(item) if *item.data_type() == plain_numeric());
    plain && told(field).is_none() && given.iter().any(numeric)
}

impl ScalarUDFImpl for Declared {
    fn name(&self) -> &str {
        self.name
    }
    fn aliases(&self) -> &[String] {
        &self.aliases
    }
    fn signature(&self) -> &Signature {
        &self.signature
    }
    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        self.choose(types).map(|(_, types)| types).ok_or_else(|| self.none_for(types))
    }
    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        let fields: Vec<FieldRef> = types.iter().map(|t| Arc::new(Field::new("", t.clone(), true))).collect();
        let (overload, _) = self.choose(types).ok_or_else(|| self.none_for(types))?;
        Ok(overload.gives.field(self.name, &fields)?.data_type().clone())
    }
    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        check_in_plan()?;
        let types: Vec<DataType> = args.arg_fields.iter().map(|f| f.data_type().clone()).collect();
        let (overload, _) = self.choose(&types).ok_or_else(|| self.none_for(&types))?;
        let field = overload.gives.field(self.name, args.arg_fields)?;
        Ok(Arc::new(if mixes_numerics(&field, args.arg_fields) { with_sql_type(field, "numeric[]") } else { field }))
    }
    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let scalar = args.args.iter().all(|a| matches!(a, ColumnarValue::Scalar(_)));
        let rows = if scalar { 1 } else { args.number_rows };
        let types: Vec<DataType> = args.args.iter().map(ColumnarValue::data_type).collect();
        let (overload, _) = self.choose(&types).ok_or_else(|| self.none_for(&types))?;
        let style = style(&args.config_options)?;
        let array = |argument: &ColumnarValue| match argument {
            ColumnarValue::Array(array) => Ok(array.clone()),
            ColumnarValue::Scalar(scalar) => scalar.to_array(),
        };
        let arrays = args.args.iter().map(array).collect::<Result<Vec<_>>>()?;
        let nulls = arrays.iter().map(|array| array.logical_nulls()).collect::<Vec<_>>();
        let mut tally = Tally::default();
        if let (Some(whole), [array]) = (overload.whole, &arrays[..])
            && let Some(result) = whole(array)
        {
            tally.add(result.get_array_memory_size())?;
            let result = tally.keep(result);
            return match scalar {
                true => constant(result, args.number_rows),
                false => Ok(ColumnarValue::Array(result)),
            };
        }
        let (name, fields, style, pattern) = (self.name, &args.arg_fields[..], &style, &OnceCell::new());
        let values = (0..rows).map(|row| {
            let call = Row { name, arrays: &arrays, fields, row, style, pattern };
            let is_null = |(i, nulls): (usize, &Option<NullBuffer>)| {
                nulls.as_ref().is_some_and(|nulls| nulls.is_null(call.place(i)))
            };
            match overload.strict && nulls.iter().enumerate().any(is_null) {
                true => Ok(Value::Null),
                false => (overload.eval)(&call),
            }
        });
        let result = row::collect(args.return_type(), values, &mut tally)?;
        let result = tally.keep(result);
        match scalar {
            true => constant(result, args.number_rows),
            false => Ok(ColumnarValue::Array(result)),
        }
    }
}

impl std::fmt::Debug for Declared {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.write_str(self.name)
    }
}
impl PartialEq for Declared {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}
impl Eq for Declared {}
impl Hash for Declared {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}
