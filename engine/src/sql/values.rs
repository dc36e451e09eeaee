//! The types of VALUES lists: each column has one, which Postgres finds over all rows, while to DataFusion a literal in
//! quotes is text and a column with another type beside it an error.
//!
//! ```text
//!   VALUES (1, '2024-01-01'), (2.5, now())
//!   VALUES (1::numeric, '2024-01-01'::timestamptz), (2.5::numeric, now())
//! ```

use arrow::datatypes::{DataType, Field};
use sqlparser::ast::{self, Expr, Query, SetExpr, UnaryOperator, Value};
use std::ops::ControlFlow;

use crate::error::{Error, Result};
use crate::sql::common::{common_type, literal_type};
use crate::sql::types::{
    NUMERIC_PRECISION_MAX, NUMERIC_SCALE_DEFAULT, TYPE_KEY, field_from_ast, moment_digits_of, plain_type, sql_type_of,
    sql_type_of_arrow,
};
use crate::sql::visit::WalkMut;

/// Casts the cells of VALUES anywhere in a query to the types of their columns. `type_of` binds an expression without
/// columns; `None` where that fails, and then the cells stay as they are.
pub fn unite_columns(query: &mut Query, type_of: impl FnMut(&Expr) -> Option<Field>) -> Result<()> {
    struct Unite<F>(F);
    impl<F: FnMut(&Expr) -> Option<Field>> ast::VisitorMut for Unite<F> {
        type Break = Box<Error>;
        fn post_visit_query(&mut self, query: &mut Query) -> ControlFlow<Box<Error>> {
            match body(&mut query.body, &mut self.0) {
                Ok(()) => ControlFlow::Continue(()),
                Err(error) => ControlFlow::Break(Box::new(error)),
            }
        }
    }
    match query.walk_mut(&mut Unite(type_of)) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(error) => Err(*error),
    }
}

fn body(expr: &mut SetExpr, type_of: &mut impl FnMut(&Expr) -> Option<Field>) -> Result<()> {
    match expr {
        SetExpr::SetOperation { left, right, .. } => {
            body(left, type_of)?;
            body(right, type_of)
        }
        SetExpr::Values(values) => {
            let width = values.rows.first().map_or(0, |row| row.content.len());
            if values.rows.len() < 2 || values.rows.iter().any(|row| row.content.len() != width) {
                return Ok(());
            }
            (0..width).try_for_each(|column| {
                unite(values.rows.iter_mut().map(|row| &mut row.content[column]).collect(), type_of)
            })
        }
        _ => Ok(()),
    }
}

/// What a cell says of its column's type.
enum Cell {
    /// A literal in quotes, NULL: nothing.
    Literal,
    Typed(Field),
}

/// A type beside literals, which have no length of their own: neither has the column then. (A `char` of any length there is
/// not.)
fn of_any_length(sql_type: String, cells: &[&mut Expr]) -> Result<String> {
    let mut literals = cells.iter().filter_map(|cell| quoted_text(cell)).peekable();
    if literals.peek().is_none() {
        return Ok(sql_type);
    }
    if let Some(rest) = sql_type.strip_prefix("character varying(") {
        return Ok(format!("character varying{}", rest.split_once(')').map_or("", |(_, after)| after)));
    }
    let length = sql_type.strip_prefix("character(").and_then(|rest| rest.strip_suffix(')')?.parse::<usize>().ok());
    match length {
        Some(length) if literals.any(|text| text.chars().count() > length) => {
            Err(Error::unsupported(format!("a longer literal beside {sql_type} in VALUES")).hint("Cast them to text."))
        }
        _ => Ok(sql_type),
    }
}

/// The text of a literal in quotes.
pub fn quoted_text(expr: &Expr) -> Option<&str> {
    match expr {
        Expr::Value(value) => match &value.value {
            Value::SingleQuotedString(text) | Value::EscapedStringLiteral(text) | Value::UnicodeStringLiteral(text) => {
                Some(text)
            }
            Value::DollarQuotedString(text) => Some(&text.value),
            _ => None,
        },
        Expr::Nested(inner) => quoted_text(inner),
        _ => None,
    }
}

/// Whether `numeric` has room for the digits of a numeric(precision, scale).
fn holds_any(precision: u8, scale: i8) -> bool {
    let whole = i16::from(precision) - i16::from(scale);
    // A precision that is full says nothing of the digits there are.
    scale <= NUMERIC_SCALE_DEFAULT
        && (precision == NUMERIC_PRECISION_MAX
            || whole <= i16::from(NUMERIC_PRECISION_MAX) - i16::from(NUMERIC_SCALE_DEFAULT))
}

fn is_null(expr: &Expr) -> bool {
    matches!(expr, Expr::Value(value) if value.value == Value::Null)
}

/// The type of what is most often in VALUES, without binding it.
fn quick_type(expr: &Expr) -> Option<Field> {
    let plain = |data_type| Some(Field::new("", data_type, true));
    match expr {
        Expr::Value(value) => match &value.value {
            Value::Boolean(_) => plain(DataType::Boolean),
            Value::Number(digits, _) => match digits.split_once('.') {
                None if digits.parse::<i64>().is_ok() => plain(DataType::Int64),
                None => None,
                Some((whole, fraction)) => {
                    let precision = (whole.len() + fraction.len()).max(1);
                    (precision <= NUMERIC_PRECISION_MAX.into())
                        .then(|| Field::new("", DataType::Decimal128(precision as u8, fraction.len() as i8), true))
                }
            },
            _ => None,
        },
        Expr::UnaryOp { op: UnaryOperator::Minus | UnaryOperator::Plus, expr } => quick_type(expr),
        Expr::Nested(inner) => quick_type(inner),
        Expr::Cast { data_type, .. } => field_from_ast("", data_type, true).ok(),
        _ => None,
    }
}

fn unite(cells: Vec<&mut Expr>, type_of: &mut impl FnMut(&Expr) -> Option<Field>) -> Result<()> {
    let mut known: Vec<Cell> = Vec::with_capacity(cells.len());
    for cell in &cells {
        known.push(match quoted_text(cell).is_some() || is_null(cell) {
            true => Cell::Literal,
            false => match quick_type(cell).or_else(|| type_of(cell)) {
                Some(field) => Cell::Typed(field),
                None => return Ok(()),
            },
        });
    }
    let told = |field: &Field| field.metadata().get(TYPE_KEY).cloned();
    let fields = || known.iter().filter_map(|cell| if let Cell::Typed(field) = cell { Some(field) } else { None });
    let Some(first) = fields().next() else { return Ok(()) };
    let same = fields().all(|f| f.data_type() == first.data_type() && told(f) == told(first));
    let bare = told(first).is_none() && cells.iter().all(|cell| quoted_text(cell).is_none());
    if same && (bare || fields().count() == cells.len()) {
        return Ok(());
    }
    let mut wanted = first.data_type().clone();
    for field in fields() {
        wanted = common_type(&wanted, field.data_type()).ok_or_else(|| {
            let (left, right) = (sql_type_of_arrow(&wanted), sql_type_of_arrow(field.data_type()));
            Error::new("42804", format!("VALUES types {left} and {right} cannot be matched"))
        })?;
    }
    // A value of many scales is a numeric without one.
    let scale = |t: &DataType| if let DataType::Decimal128(_, scale) = t { *scale } else { 0 };
    let mut mixed = fields().any(|f| scale(f.data_type()) != scale(&wanted));
    for text in cells.iter().filter_map(|cell| quoted_text(cell)) {
        let with = literal_type(&wanted, text);
        mixed |= matches!(wanted, DataType::Decimal128(..)) && scale(&with) != scale(&wanted);
        wanted = with;
    }
    let sql_type = match wanted {
        DataType::Decimal128(precision, scale) if mixed && holds_any(precision, scale) => "numeric".to_string(),
        _ => match fields().find(|f| *f.data_type() == wanted) {
            Some(field) if same || wanted != DataType::Utf8 => sql_type_of(field),
            _ => sql_type_of_arrow(&wanted),
        },
    };
    let digits = |f: &Field| moment_digits_of(&sql_type_of(f));
    let alike = cells.len() == fields().count() && fields().all(|f| digits(f) == digits(first));
    let sql_type = if alike || moment_digits_of(&sql_type).is_none() { sql_type } else { plain_type(&sql_type) };
    let sql_type = of_any_length(sql_type, &cells)?;
    let data_type = match crate::sql::parse::parse_expression(&format!("CAST(NULL AS {sql_type})")) {
        Ok(Expr::Cast { data_type, .. }) => data_type,
        // A type without a name, as a row's.
        _ => return Ok(()),
    };
    for cell in cells {
        let expr = std::mem::replace(cell, Expr::Value(Value::Null.into()));
        *cell = Expr::Cast {
            kind: ast::CastKind::Cast,
            expr: Box::new(expr),
            data_type: data_type.clone(),
            array: false,
            format: None,
        };
    }
    Ok(())
}
