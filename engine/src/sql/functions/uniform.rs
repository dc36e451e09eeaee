//! Functions whose arguments have one type, beside which a literal has none of its own: `ARRAY[iv, '1 day']`,
//! `greatest(x, '{1}')`. DataFusion would not bind them; the literals are cast in `unite.rs`.

use std::sync::Arc;

use arrow::datatypes::{DataType, FieldRef};
use datafusion::common::plan_err;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::{FunctionRegistry, SessionState};
use datafusion::functions_nested::make_array::make_array_udf;
use datafusion::logical_expr::simplify::{ExprSimplifyResult, SimplifyContext};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

use crate::error::Error;
use crate::sql::common::common_type;
use crate::sql::types::{TYPE_KEY, sql_type_of, sql_type_of_arrow, with_sql_type};

const NAMES: &[&str] = &["make_array", "greatest", "least", "coalesce", "nullif"];

pub fn register(state: &mut SessionState) -> Result<()> {
    for name in NAMES {
        let inner = state.udf(name)?;
        state.register_udf(Arc::new(Uniform::new(inner).into()))?;
    }
    Ok(())
}

/// `ARRAY[…]`
pub fn array() -> ScalarUDF {
    Uniform::new(make_array_udf()).into()
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Uniform {
    inner: Arc<ScalarUDF>,
    signature: Signature,
}

impl Uniform {
    fn new(inner: Arc<ScalarUDF>) -> Self {
        Uniform { inner, signature: Signature::user_defined(Volatility::Immutable) }
    }
}

/// The type of all but the texts among them, which are literals; `None` where there is nothing else, or no text.
fn beside_literals(types: &[DataType]) -> Option<DataType> {
    let (texts, others): (Vec<&DataType>, Vec<&DataType>) = types.iter().partition(|t| **t == DataType::Utf8);
    if texts.is_empty() {
        return None;
    }
    let mut others = others.into_iter().filter(|t| **t != DataType::Null);
    let first = others.next()?.clone();
    others.try_fold(first, |common, t| common_type(&common, t))
}

/// Two types of whole numbers, or of floats.
fn keeps_first(left: &DataType, right: &DataType) -> bool {
    left != right && (left.is_integer() && right.is_integer() || left.is_floating() && right.is_floating())
}

impl ScalarUDFImpl for Uniform {
    fn name(&self) -> &str {
        self.inner.name()
    }
    fn aliases(&self) -> &[String] {
        self.inner.aliases()
    }
    fn signature(&self) -> &Signature {
        &self.signature
    }
    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        match beside_literals(types) {
            Some(common) => Ok(vec![common; types.len()]),
            // It compares two, and has no types of its own.
            None if self.name() == "nullif" => match types {
                // It is of the first one's type, where numbers of both can be compared as they are.
                [left, right] if keeps_first(left, right) => Ok(vec![left.clone(), right.clone()]),
                [left, right] => match common_type(left, right) {
                    Some(common) => Ok(vec![common; 2]),
                    None => {
                        let (left, right) = (sql_type_of_arrow(left), sql_type_of_arrow(right));
                        let error = Error::new("42883", format!("operator does not exist: {left} = {right}"));
                        Err(DataFusionError::External(Box::new(error)))
                    }
                },
                _ => plan_err!("nullif() takes two arguments"),
            },
            None => self.inner.coerce_types(types),
        }
    }
    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        match (self.name(), types) {
            ("nullif", [left, right]) if keeps_first(left, right) => Ok(left.clone()),
            _ => self.inner.return_type(types),
        }
    }
    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        let tag = |field: &FieldRef| field.metadata().get(TYPE_KEY).map(|_| sql_type_of(field));
        let tag = args.arg_fields.first().and_then(tag).filter(|first| {
            self.name() == "make_array" && args.arg_fields.iter().all(|field| tag(field).as_ref() == Some(first))
        });
        let field = self.inner.return_field_from_args(args)?;
        Ok(match tag {
            // What an array is of, where Arrow's type does not tell it.
            Some(tag) if !tag.ends_with("[]") => Arc::new(with_sql_type(field.as_ref().clone(), &format!("{tag}[]"))),
            _ => field,
        })
    }
    fn simplify(&self, args: Vec<Expr>, info: &SimplifyContext) -> Result<ExprSimplifyResult> {
        // Its comparison would be of the two as they are.
        if self.name() == "nullif" {
            return Ok(ExprSimplifyResult::Original(args));
        }
        self.inner.inner().simplify(args, info)
    }
    fn short_circuits(&self) -> bool {
        self.inner.inner().short_circuits()
    }
    fn conditional_arguments<'a>(&self, args: &'a [Expr]) -> Option<(Vec<&'a Expr>, Vec<&'a Expr>)> {
        self.inner.inner().conditional_arguments(args)
    }
    fn invoke_with_args(&self, mut args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        if let ("nullif", [left, right]) = (self.name(), &args.args[..])
            && keeps_first(&left.data_type(), &right.data_type())
            && let Some(common) = common_type(&left.data_type(), &right.data_type())
        {
            let own = left.data_type();
            args.args = vec![left.cast_to(&common, None)?, right.cast_to(&common, None)?];
            return self.inner.invoke_with_args(args)?.cast_to(&own, None);
        }
        self.inner.invoke_with_args(args)
    }
}
