//! `coalesce`, `nullif`, `greatest` and `least` beside literals in quotes, which have no type of their own.
//!
//! DataFusion asks a function for the types that it wants as soon as the call is planned, when `'1 day'` beside an interval is
//! still a text. It is cast later (`unite.rs`), where what is a literal and what is not can be told; texts that are none are
//! refused there.

use std::sync::Arc;

use arrow::datatypes::{DataType, FieldRef};
use datafusion::common::plan_err;
use datafusion::error::Result;
use datafusion::logical_expr::binary::comparison_coercion;
use datafusion::logical_expr::simplify::{ExprSimplifyResult, SimplifyContext};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, TypeSignature,
};

use crate::sql::common::{Kind, common_type, kind};

/// Those of the library's that are changed.
pub const NAMES: &[&str] = &["coalesce", "nullif", "greatest", "least"];

#[derive(Debug, PartialEq, Eq, Hash)]
pub struct Lenient {
    inner: Arc<ScalarUDF>,
    signature: Signature,
}

impl Lenient {
    pub fn new(inner: Arc<ScalarUDF>) -> Self {
        let signature = Signature::user_defined(inner.signature().volatility);
        Lenient { inner, signature }
    }
}

impl ScalarUDFImpl for Lenient {
    fn name(&self) -> &str {
        self.inner.name()
    }
    fn aliases(&self) -> &[String] {
        self.inner.aliases()
    }
    fn signature(&self) -> &Signature {
        &self.signature
    }
    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        self.inner.return_type(types)
    }
    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        self.inner.return_field_from_args(args)
    }
    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        let is_text = |data_type: &&DataType| kind(data_type) == Some(Kind::Text);
        let mut others = types.iter().filter(|t| !is_text(t) && **t != DataType::Null);
        let common = others
            .next()
            .cloned()
            .and_then(|first| others.try_fold(first, |common, data_type| common_type(&common, data_type)));
        match common {
            Some(common) if types.iter().any(|t| is_text(&t)) => Ok(vec![common; types.len()]),
            _ if matches!(self.inner.signature().type_signature, TypeSignature::UserDefined) => {
                self.inner.coerce_types(types)
            }
            // Those that are compared.
            _ => match types {
                [left, right] => match comparison_coercion(left, right) {
                    Some(common) => Ok(vec![common; 2]),
                    None => plan_err!("{left} and {right} are not comparable"),
                },
                _ => plan_err!("{} wants two arguments", self.name()),
            },
        }
    }
    fn simplify(&self, args: Vec<Expr>, info: &SimplifyContext) -> Result<ExprSimplifyResult> {
        self.inner.simplify(args, info)
    }
    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        self.inner.invoke_with_args(args)
    }
    fn conditional_arguments<'a>(&self, args: &'a [Expr]) -> Option<(Vec<&'a Expr>, Vec<&'a Expr>)> {
        self.inner.conditional_arguments(args)
    }
    fn short_circuits(&self) -> bool {
        self.inner.short_circuits()
    }
}
