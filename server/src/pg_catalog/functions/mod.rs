//! The functions that Postgres' clients call on its catalogs, bound to one session's view.
//!
//! Each is a [`Declaration`]: name, number of arguments, result type and a body over [`Value`]s, in one
//! of the tables of this folder. A function that returns a set is declared as one that returns an array;
//! the rewrite puts `unnest` around it.
//!
//! A `strict` function gives NULL when an argument is NULL, without being called.

mod agreements;
mod arrays;
mod casts;
mod objects;
mod privileges;
mod sequences;
mod session;
mod text;

use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::RangeInclusive;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::{DataFusionError, Result, ScalarValue};
use datafusion::logical_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, TypeSignature, Volatility,
};
use millrace_engine::sql::types::TYPE_KEY;

use super::value::{Value, array_of, value_at};
use super::{CatalogView, types};

pub use arrays::{ALL_OF, ANY_OF, ARRAY_TEXT, SUBSCRIPT, parse_array};
pub use casts::{REG_OUT, is_reg, is_type_cast};

/// What a body is called with.
pub struct Call<'a> {
    pub view: &'a CatalogView,
    pub arguments: &'a [Value],
    /// The arguments' fields: their metadata says what an integer or an array means.
    pub fields: &'a [FieldRef],
}

impl Call<'_> {
    pub fn text(&self, i: usize) -> Option<&str> {
        self.arguments.get(i).and_then(Value::text)
    }
    pub fn oid(&self, i: usize) -> Option<u32> {
        self.arguments.get(i).and_then(Value::oid)
    }
    pub fn int(&self, i: usize) -> Option<i64> {
        self.arguments.get(i).and_then(Value::int)
    }
    pub fn list(&self, i: usize) -> Option<&[Value]> {
        self.arguments.get(i).and_then(Value::list)
    }
    /// int2vector and oidvector count from 0, every other array from 1.
    pub fn lower_bound(&self, i: usize) -> i64 {
        let vector = |f: &FieldRef| meaning(f).is_some_and(|m| m.ends_with("vector"));
        if self.fields.get(i).is_some_and(vector) { 0 } else { 1 }
    }
}

pub fn meaning(field: &Field) -> Option<&str> {
    field.metadata().get(TYPE_KEY).map(String::as_str)
}

pub type Body = fn(&Call<'_>) -> Result<Value>;

pub struct Declaration {
    pub name: &'static str,
    pub arguments: RangeInclusive<usize>,
    pub returns: Returns,
    pub strict: bool,
    /// Called for each row, whatever its arguments are.
    pub volatile: bool,
    pub body: Body,
}

#[derive(Clone, Copy)]
pub enum Returns {
    /// A type by pg_type.typname.
    Type(&'static str),
    /// A set of rows with these columns, `name:type` as in `relations.txt`.
    Rows(&'static str),
    /// The field of the first argument.
    Same,
    /// The elements' type of the first argument.
    Element,
    /// An array of the first argument's type.
    ListOf,
    /// A set of rows (x, n), x of the element type of the first argument.
    Expanded,
}

pub const fn strict(
    name: &'static str,
    arguments: RangeInclusive<usize>,
    returns: &'static str,
    body: Body,
) -> Declaration {
    Declaration { name, arguments, returns: Returns::Type(returns), strict: true, volatile: false, body }
}

/// A strict function that changes something, or whose answer changes from row to row.
pub const fn volatile(
    name: &'static str,
    arguments: RangeInclusive<usize>,
    returns: &'static str,
    body: Body,
) -> Declaration {
    Declaration { name, arguments, returns: Returns::Type(returns), strict: true, volatile: true, body }
}

pub const fn called_on_null(
    name: &'static str,
    arguments: RangeInclusive<usize>,
    returns: &'static str,
    body: Body,
) -> Declaration {
    Declaration { name, arguments, returns: Returns::Type(returns), strict: false, volatile: false, body }
}

pub const fn rows(
    name: &'static str,
    arguments: RangeInclusive<usize>,
    columns: &'static str,
    body: Body,
) -> Declaration {
    Declaration { name, arguments, returns: Returns::Rows(columns), strict: true, volatile: false, body }
}

fn declarations() -> impl Iterator<Item = &'static Declaration> {
    [
        agreements::FUNCTIONS,
        session::FUNCTIONS,
        objects::FUNCTIONS,
        privileges::FUNCTIONS,
        sequences::FUNCTIONS,
        text::FUNCTIONS,
        arrays::FUNCTIONS,
        casts::FUNCTIONS,
    ]
    .into_iter()
    .flatten()
}

pub fn find(name: &str) -> Option<&'static Declaration> {
    declarations().find(|d| d.name == name)
}

/// The columns of a function that returns rows.
pub fn row_columns(declaration: &Declaration) -> Option<Vec<&'static str>> {
    match declaration.returns {
        Returns::Rows(columns) => Some(columns.split(' ').map(|c| c.split(':').next().unwrap_or(c)).collect()),
        Returns::Expanded => Some(vec!["x", "n"]),
        _ => None,
    }
}

/// Every function, bound to `view`.
pub fn bind(view: &Arc<CatalogView>) -> Vec<Arc<ScalarUDF>> {
    declarations().map(|d| Arc::new(ScalarUDF::new_from_impl(Bound::new(d, view.clone())))).collect()
}

/// A user's error, with its SQLSTATE.
pub fn failed<T>(error: millrace_engine::Error) -> Result<T> {
    Err(DataFusionError::External(Box::new(error)))
}

struct Bound {
    declaration: &'static Declaration,
    view: Arc<CatalogView>,
    signature: Signature,
}

impl Bound {
    fn new(declaration: &'static Declaration, view: Arc<CatalogView>) -> Self {
        let (least, most) = (*declaration.arguments.start(), *declaration.arguments.end());
        let counts =
            (least..=most.min(least + 8)).map(|n| if n == 0 { TypeSignature::Nullary } else { TypeSignature::Any(n) });
        let mut choices: Vec<TypeSignature> = counts.collect();
        if most == usize::MAX {
            choices.push(TypeSignature::VariadicAny);
        }
        let volatility = if declaration.volatile { Volatility::Volatile } else { Volatility::Stable };
        Bound { declaration, view, signature: Signature::one_of(choices, volatility) }
    }

    fn return_field(&self, fields: &[FieldRef]) -> Field {
        let name = self.declaration.name;
        match self.declaration.returns {
            Returns::Type(typname) => types::field(name, typname, true),
            Returns::Rows(columns) => {
                let fields: Vec<Field> = columns
                    .split(' ')
                    .map(|c| c.split_once(':').expect("declared as name:type"))
                    .map(|(name, typname)| types::field(name, typname, true))
                    .collect();
                Field::new(name, types::list(DataType::Struct(fields.into())), true)
            }
            Returns::Same => fields[0].as_ref().clone().with_name(name).with_nullable(true),
            Returns::Element => Field::new(name, element_of(&fields[0]), true),
            Returns::ListOf => Field::new(name, types::list(fields[0].data_type().clone()), true),
            Returns::Expanded => {
                let fields =
                    vec![Field::new("x", element_of(&fields[0]), true), Field::new("n", DataType::Int32, true)];
                Field::new(name, types::list(DataType::Struct(fields.into())), true)
            }
        }
    }
}

fn element_of(field: &Field) -> DataType {
    match field.data_type() {
        DataType::List(e) | DataType::LargeList(e) | DataType::FixedSizeList(e, _) => e.data_type().clone(),
        // A name's letter.
        DataType::Utf8 | DataType::Utf8View => DataType::Utf8,
        _ => DataType::Null,
    }
}

impl fmt::Debug for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.declaration.name)
    }
}
impl PartialEq for Bound {
    fn eq(&self, other: &Self) -> bool {
        self.declaration.name == other.declaration.name && Arc::ptr_eq(&self.view, &other.view)
    }
}
impl Eq for Bound {}
impl Hash for Bound {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.declaration.name.hash(state);
    }
}

impl ScalarUDFImpl for Bound {
    fn name(&self) -> &str {
        self.declaration.name
    }
    fn signature(&self) -> &Signature {
        &self.signature
    }
    fn return_type(&self, arg_types: &[DataType]) -> Result<DataType> {
        let fields: Vec<FieldRef> = arg_types.iter().map(|t| Arc::new(Field::new("", t.clone(), true))).collect();
        Ok(self.return_field(&fields).data_type().clone())
    }
    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        Ok(Arc::new(self.return_field(args.arg_fields)))
    }
    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let constant = !self.declaration.volatile && args.args.iter().all(|a| matches!(a, ColumnarValue::Scalar(_)));
        let count = if constant { 1 } else { args.number_rows };
        let mut values = Vec::with_capacity(count);
        for row in 0..count {
            let arguments: Vec<Value> = args
                .args
                .iter()
                .map(|a| match a {
                    ColumnarValue::Scalar(s) => Value::from(s.clone()),
                    ColumnarValue::Array(a) => value_at(a, row),
                })
                .collect();
            let null = self.declaration.strict && arguments.contains(&Value::Null);
            let call = Call { view: &self.view, arguments: &arguments, fields: &args.arg_fields };
            values.push(if null { Value::Null } else { (self.declaration.body)(&call)? });
        }
        let array = array_of(args.return_field.data_type(), values)?;
        Ok(if constant {
            ColumnarValue::Scalar(ScalarValue::try_from_array(&array, 0)?)
        } else {
            ColumnarValue::Array(array)
        })
    }
}
