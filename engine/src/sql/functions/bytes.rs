//! bytea where DataFusion thinks of texts: LIKE, `substr`, `position`, `||`, and hashes, which Postgres has of bytea alone.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::DFSchema;
use datafusion::error::Result;
use datafusion::execution::{FunctionRegistry, SessionState};
use datafusion::logical_expr::type_coercion::functions::fields_with_udf;
use datafusion::logical_expr::{
    ColumnarValue, Expr, ExprSchemable, Like, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
    Volatility,
};

use super::declared::{self, bytes, external};
use crate::error::Error;
use crate::sql::common::{Kind, kind};
use crate::sql::types::sql_type_of_arrow;

/// Functions of text, and what takes their place for bytea.
const OF_BOTH: &[(&str, &str)] = &[("substr", bytes::SUBSTR), ("strpos", bytes::POSITION)];
/// Functions of bytea, which DataFusion has of texts too.
const HASHES: &[&str] = &["sha224", "sha256", "sha384", "sha512"];

pub fn register(state: &mut SessionState) -> Result<()> {
    for (name, of_bytes) in OF_BOTH {
        state.register_udf(Arc::new(of_both(state.udf(name)?, of_bytes)?))?;
    }
    for name in HASHES {
        let signature = Signature::user_defined(Volatility::Immutable);
        state.register_udf(Arc::new(Hash { inner: state.udf(name)?, signature }.into()))?;
    }
    Ok(())
}

fn of_bytes(data_type: &DataType) -> bool {
    kind(data_type) == Some(Kind::Bytes)
}

fn is_bytes(expr: &Expr, schema: &DFSchema) -> bool {
    expr.get_type(schema).is_ok_and(|data_type| of_bytes(&data_type))
}

/// Whether LIKE is of bytea.
pub fn is_like(like: &Like, schema: &DFSchema) -> bool {
    is_bytes(&like.expr, schema) || is_bytes(&like.pattern, schema)
}

/// LIKE of bytea. Errors: 42883 beside a text, 0A000 with ESCAPE, which is known no more from what a literal says.
pub fn like(like: Like, schema: &DFSchema) -> Result<Expr> {
    let Like { negated, expr, pattern, escape_char, case_insensitive } = like;
    let literal = |expr: &Expr| matches!(expr, Expr::Literal(..) | Expr::Placeholder(_));
    let other = [&expr, &pattern].into_iter().find(|side| !is_bytes(side, schema) && !literal(side));
    if case_insensitive || other.is_some() {
        let operator = if case_insensitive { "~~*" } else { "~~" };
        let side = |expr: &Expr| expr.get_type(schema).map_or("unknown".into(), |t| sql_type_of_arrow(&t));
        let message = format!("operator does not exist: {} {operator} {}", side(&expr), side(&pattern));
        return Err(external(Error::new("42883", message)));
    }
    if escape_char.is_some() {
        return Err(external(Error::unsupported("LIKE … ESCAPE of bytea")));
    }
    let matches = declared::named(bytes::LIKE)?.call(vec![*expr, *pattern]);
    Ok(if negated { !matches } else { matches })
}

/// `b || b`, also beside a literal; `None` for others.
pub fn concat(left: &Expr, right: &Expr, a: &Field, b: &Field, literal: fn(&Expr) -> bool) -> Option<Result<Expr>> {
    let both = match (of_bytes(a.data_type()), of_bytes(b.data_type())) {
        (true, true) => true,
        (true, false) => literal(right),
        (false, true) => literal(left),
        (false, false) => false,
    };
    both.then(|| Ok(declared::named(bytes::CONCAT)?.call(vec![left.clone(), right.clone()])))
}

/// `substring(b FROM 2)`, for which DataFusion does not ask what is registered.
pub fn substring(arguments: Vec<Expr>) -> Result<Expr> {
    Ok(of_both(datafusion::functions::unicode::substr(), bytes::SUBSTR)?.call(arguments))
}

pub fn position(arguments: Vec<Expr>) -> Result<Expr> {
    Ok(of_both(datafusion::functions::unicode::strpos(), bytes::POSITION)?.call(arguments))
}

fn of_both(of_text: Arc<ScalarUDF>, of_bytes: &str) -> Result<ScalarUDF> {
    let signature = Signature::user_defined(Volatility::Immutable);
    Ok(OfBoth { of_text, of_bytes: declared::named(of_bytes)?, signature }.into())
}

/// Of text, or of bytea if one of the arguments is.
#[derive(Debug, PartialEq, Eq, Hash)]
struct OfBoth {
    of_text: Arc<ScalarUDF>,
    of_bytes: Arc<ScalarUDF>,
    signature: Signature,
}

impl OfBoth {
    fn of<'a>(&self, mut types: impl Iterator<Item = &'a DataType>) -> &ScalarUDF {
        if types.any(of_bytes) { &self.of_bytes } else { &self.of_text }
    }
}

impl ScalarUDFImpl for OfBoth {
    fn name(&self) -> &str {
        self.of_text.name()
    }
    fn aliases(&self) -> &[String] {
        self.of_text.aliases()
    }
    fn signature(&self) -> &Signature {
        &self.signature
    }
    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        let wide = |t: &DataType| if *t == DataType::Int16 { DataType::Int32 } else { t.clone() };
        let fields: Vec<FieldRef> = types.iter().map(|t| Arc::new(Field::new("", wide(t), true))).collect();
        let fields = fields_with_udf(&fields, self.of(types.iter()))?;
        Ok(fields.iter().map(|field| field.data_type().clone()).collect())
    }
    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        self.of(types.iter()).return_type(types)
    }
    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        self.of(args.arg_fields.iter().map(|field| field.data_type())).return_field_from_args(args)
    }
    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let types: Vec<DataType> = args.args.iter().map(ColumnarValue::data_type).collect();
        self.of(types.iter()).invoke_with_args(args)
    }
}

/// A hash of bytea. Of a literal it is of the bytes that it says.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Hash {
    inner: Arc<ScalarUDF>,
    signature: Signature,
}

impl ScalarUDFImpl for Hash {
    fn name(&self) -> &str {
        self.inner.name()
    }
    fn signature(&self) -> &Signature {
        &self.signature
    }
    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        match types {
            [given] if of_bytes(given) || matches!(given, DataType::Utf8 | DataType::Null) => {
                Ok(vec![DataType::Binary])
            }
            _ => {
                let types: Vec<String> = types.iter().map(sql_type_of_arrow).collect();
                let message = format!("function {}({}) does not exist", self.name(), types.join(", "));
                Err(external(Error::new("42883", message)))
            }
        }
    }
    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Binary)
    }
    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        self.inner.invoke_with_args(args)
    }
}

pub fn is_hash(function: &ScalarUDF) -> bool {
    HASHES.contains(&function.name())
}

/// Errors: 42883 for a hash of a text that is no literal.
pub fn check_hash(function: &ScalarUDF, arguments: &[Expr], schema: &DFSchema) -> Result<()> {
    let text = |expr: &Expr| {
        !matches!(expr, Expr::Literal(..) | Expr::Placeholder(_))
            && expr.get_type(schema).is_ok_and(|data_type| kind(&data_type) == Some(Kind::Text))
    };
    if arguments.iter().any(text) {
        let message = format!("function {}(text) does not exist", function.name());
        return Err(external(Error::new("42883", message)));
    }
    Ok(())
}
