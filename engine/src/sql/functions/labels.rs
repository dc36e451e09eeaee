//! Labels of enums and what they are ordered by (see [`crate::sql::enums`]): `mr_enum_rank`, `mr_enum_label`, and Postgres' own
//! `enum_first`, `enum_last` and `enum_range`.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, ListArray, StringArray};
use arrow::buffer::OffsetBuffer;
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, FieldRef, Int64Type};
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Column, DFSchema, ScalarValue};
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::expr::{AggregateFunction, WindowFunction};
use datafusion::logical_expr::{
    Aggregate, Cast, ColumnarValue, Expr, ExprSchemable, LogicalPlan, Projection, ReturnFieldArgs, ScalarFunctionArgs,
    ScalarUDF, ScalarUDFImpl, Signature, Unnest, Volatility, Window, WindowFunctionDefinition,
};

use super::tags;
use crate::error::Error;
use crate::sql::enums::{self, EnumType};
use crate::sql::types::{sql_type_of, with_sql_type};

fn external(error: Error) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}

/// The canonical spelling of an expression's type, if that is an enum.
pub fn enum_of(expr: &Expr, schema: &DFSchema) -> Option<String> {
    let (_, field) = expr.to_field(schema).ok()?;
    Some(tags::sql_type(expr, &field, schema)).filter(|sql_type| enums::is_enum(sql_type))
}

/// The field of values of an enum.
pub fn field_of(canonical: &str) -> Field {
    with_sql_type(Field::new("cast", DataType::Utf8, true), canonical)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Direction {
    /// From a label to its rank.
    Rank,
    /// The same of each item of an array.
    Ranks,
    /// From a rank to its label.
    Label,
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Between {
    direction: Direction,
    canonical: String,
    signature: Signature,
}

fn call(direction: Direction, canonical: &str, expr: Expr) -> Expr {
    let signature = Signature::any(1, Volatility::Immutable);
    ScalarUDF::from(Between { direction, canonical: canonical.to_string(), signature }).call(vec![expr])
}

/// What values of the enum are ordered by.
pub fn rank(canonical: &str, expr: Expr) -> Expr {
    call(Direction::Rank, canonical, expr)
}
/// The same of an array's items.
pub fn ranks(canonical: &str, expr: Expr) -> Expr {
    call(Direction::Ranks, canonical, expr)
}
/// A value by what it is ordered by.
pub fn label(canonical: &str, expr: Expr) -> Expr {
    call(Direction::Label, canonical, expr)
}

/// Ranks of labels at hand.
pub fn ranks_of(labels: &ArrayRef, canonical: &str) -> Result<ArrayRef> {
    let of = enums::found(canonical).map_err(external)?;
    let texts = cast(labels, &DataType::Utf8)?;
    let rank = |text: Option<&str>| match text {
        Some(text) => of.check(text).map(|()| of.rank(text)).map_err(external),
        None => Ok(None),
    };
    Ok(Arc::new(texts.as_string::<i32>().iter().map(rank).collect::<Result<Int64Array>>()?))
}

fn labels_of(ranks: &ArrayRef, canonical: &str) -> Result<ArrayRef> {
    let of = enums::found(canonical).map_err(external)?;
    let ranks = cast(ranks, &DataType::Int64)?;
    let label = |rank: Option<i64>| match rank {
        Some(rank) => match of.label(rank) {
            Some(text) => Ok(Some(text.to_string())),
            None => Err(external(Error::internal(format!("enum {} has no label of rank {rank}", of.name)))),
        },
        None => Ok(None),
    };
    Ok(Arc::new(ranks.as_primitive::<Int64Type>().iter().map(label).collect::<Result<StringArray>>()?))
}

impl Between {
    fn of_array(&self, values: &ArrayRef) -> Result<ArrayRef> {
        match (self.direction, values.data_type()) {
            (Direction::Label, _) => labels_of(values, &self.canonical),
            (Direction::Rank, _) => ranks_of(values, &self.canonical),
            (Direction::Ranks, DataType::List(_)) => {
                let lists = values.as_list::<i32>();
                let ranks = match lists.values().data_type() {
                    DataType::List(_) => self.of_array(lists.values())?,
                    _ => ranks_of(lists.values(), &self.canonical)?,
                };
                let item = Arc::new(Field::new_list_field(ranks.data_type().clone(), true));
                Ok(Arc::new(ListArray::try_new(item, lists.offsets().clone(), ranks, lists.nulls().cloned())?))
            }
            (Direction::Ranks, other) => {
                Err(DataFusionError::Internal(format!("ranks are of an array's items, not of {other}")))
            }
        }
    }
}

impl ScalarUDFImpl for Between {
    fn name(&self) -> &str {
        match self.direction {
            Direction::Rank => "mr_enum_rank",
            Direction::Ranks => "mr_enum_ranks",
            Direction::Label => "mr_enum_label",
        }
    }
    fn signature(&self) -> &Signature {
        &self.signature
    }
    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        fn ranks(data_type: &DataType) -> DataType {
            match data_type {
                DataType::List(item) => DataType::List(Arc::new(Field::new_list_field(ranks(item.data_type()), true))),
                _ => DataType::Int64,
            }
        }
        Ok(match self.direction {
            Direction::Rank => DataType::Int64,
            Direction::Ranks => ranks(&types[0]),
            Direction::Label => DataType::Utf8,
        })
    }
    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        let types: Vec<DataType> = args.arg_fields.iter().map(|field| field.data_type().clone()).collect();
        let field = Field::new(self.name(), self.return_type(&types)?, true);
        Ok(Arc::new(match self.direction {
            Direction::Label => with_sql_type(field, &self.canonical),
            _ => field,
        }))
    }
    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        match &args.args[0] {
            ColumnarValue::Array(values) => Ok(ColumnarValue::Array(self.of_array(values)?)),
            ColumnarValue::Scalar(value) => {
                let result = self.of_array(&value.to_array()?)?;
                Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&result, 0)?))
            }
        }
    }
}

/// The columns of a projection that are items of arrays of an enum: unnesting says of them that they are texts.
pub fn with_items(expr: Expr, unnest: &Unnest) -> Result<Transformed<Expr>> {
    expr.transform_up(|expr| {
        let Expr::Column(column) = &expr else { return Ok(Transformed::no(expr)) };
        let Some(at) = unnest.schema.maybe_index_of_column(column) else { return Ok(Transformed::no(expr)) };
        let from = unnest.dependency_indices[at];
        let unnested = unnest.list_type_columns.iter().any(|(list, _)| *list == from);
        let sql_type = sql_type_of(unnest.input.schema().field(from));
        let canonical = sql_type.trim_end_matches("[]");
        match unnested && enums::is_enum(canonical) && *unnest.schema.field(at).data_type() == DataType::Utf8 {
            true => {
                let field = Arc::new(field_of(canonical));
                Ok(Transformed::yes(Expr::Cast(Cast { expr: Box::new(expr), field })))
            }
            false => Ok(Transformed::no(expr)),
        }
    })
}

/// Puts ranks in the place of expressions that are to be compared by order, when they are of one enum, beside literals and
/// parameters; whether they were. Other types have no order with an enum: 42883.
pub fn by_rank(exprs: Vec<&mut Expr>, schema: &DFSchema, operator: &str) -> Result<bool> {
    let untyped =
        |e: &Expr| matches!(e, Expr::Literal(ScalarValue::Utf8(_) | ScalarValue::Null, _) | Expr::Placeholder(_));
    let typed: Vec<&Expr> = exprs.iter().map(|e| &**e).filter(|e| !untyped(e)).collect();
    let Some(canonical) = typed.iter().find_map(|e| enum_of(e, schema)) else { return Ok(false) };
    for other in typed {
        let (_, field) = other.to_field(schema)?;
        let sql_type = tags::sql_type(other, &field, schema);
        if sql_type != canonical && *field.data_type() != DataType::Null {
            let (left, right) = (enums::shown(&canonical), enums::shown(&sql_type));
            let message = format!("operator does not exist: {left} {operator} {right}");
            let hint =
                "No operator matches the given name and argument types. You might need to add explicit type casts.";
            return Err(external(Error::new("42883", message).hint(hint)));
        }
    }
    for expr in exprs {
        let taken = std::mem::replace(expr, Expr::Literal(ScalarValue::Null, None));
        if let Expr::Literal(ScalarValue::Utf8(Some(text)), _) = &taken {
            enums::found(&canonical).and_then(|of| of.check(text)).map_err(external)?;
        }
        let taken = match untyped(&taken) {
            true => Expr::Cast(Cast { expr: Box::new(taken), field: Arc::new(field_of(&canonical)) }),
            false => taken,
        };
        *expr = rank(&canonical, taken);
    }
    Ok(true)
}

/// `greatest` and `least` of an enum's values.
pub fn best_of(expr: Expr, schema: &DFSchema) -> Result<Expr> {
    let Expr::ScalarFunction(mut function) = expr else { return Ok(expr) };
    let best = matches!(function.name(), "greatest" | "least");
    match function.args.iter().filter(|_| best).find_map(|e| enum_of(e, schema)) {
        Some(canonical) => {
            by_rank(function.args.iter_mut().collect(), schema, ">")?;
            Ok(label(&canonical, Expr::ScalarFunction(function)))
        }
        None => Ok(Expr::ScalarFunction(function)),
    }
}

/// The least and the greatest of an enum's values, in groups and in windows: those of their ranks, and above them what leads back
/// to labels. `None` where there are none.
pub fn extremes(plan: &LogicalPlan, schema: &DFSchema) -> Result<Option<LogicalPlan>> {
    let mut found: Vec<(usize, String)> = Vec::new();
    let ranked = |expr: &Expr| -> Result<(Expr, Option<String>)> {
        let mut of = None;
        let ranked = expr.clone().transform_down(|expr| match expr {
            Expr::AggregateFunction(mut call) if is_extreme(&call) => {
                of = call.params.args.first().and_then(|argument| enum_of(argument, schema));
                if let (Some(canonical), Some(argument)) = (&of, call.params.args.first_mut()) {
                    let taken = std::mem::replace(argument, Expr::Literal(ScalarValue::Null, None));
                    *argument = rank(canonical, taken);
                }
                Ok(Transformed::yes(Expr::AggregateFunction(call)))
            }
            Expr::WindowFunction(mut call) if is_extreme_window(&call) => {
                of = call.params.args.first().and_then(|argument| enum_of(argument, schema));
                if let (Some(canonical), Some(argument)) = (&of, call.params.args.first_mut()) {
                    let taken = std::mem::replace(argument, Expr::Literal(ScalarValue::Null, None));
                    *argument = rank(canonical, taken);
                }
                Ok(Transformed::yes(Expr::WindowFunction(call)))
            }
            other => Ok(Transformed::no(other)),
        })?;
        Ok((ranked.data, of))
    };
    let mut all = |exprs: &[Expr], first: usize| -> Result<Vec<Expr>> {
        let mut new = Vec::new();
        for (at, expr) in exprs.iter().enumerate() {
            let (expr, of) = ranked(expr)?;
            found.extend(of.map(|canonical| (first + at, canonical)));
            new.push(expr);
        }
        Ok(new)
    };
    let below = match plan {
        LogicalPlan::Aggregate(aggregate) => {
            let first = plan.schema().fields().len() - aggregate.aggr_expr.len();
            let exprs = all(&aggregate.aggr_expr, first)?;
            LogicalPlan::Aggregate(Aggregate::try_new(aggregate.input.clone(), aggregate.group_expr.clone(), exprs)?)
        }
        LogicalPlan::Window(window) => {
            let exprs = all(&window.window_expr, plan.schema().fields().len() - window.window_expr.len())?;
            LogicalPlan::Window(Window::try_new(exprs, window.input.clone())?)
        }
        _ => return Ok(None),
    };
    if found.is_empty() {
        return Ok(None);
    }
    let columns = below.schema().columns();
    // Where `grouping` is yet to be said by the number of the grouping set, nothing above names that, and it will not be there.
    let calls = matches!(plan, LogicalPlan::Aggregate(aggregate) if aggregate.aggr_expr.iter().any(is_grouping));
    let shown = |field: &Field| !(calls && field.name() == Aggregate::INTERNAL_GROUPING_ID);
    let above = plan.schema().iter().zip(columns).enumerate().filter(|(_, ((_, field), _))| shown(field));
    let above = above.map(|(at, ((qualifier, field), column))| match found.iter().find(|(place, _)| *place == at) {
        Some((_, canonical)) => {
            label(canonical, Expr::Column(column)).alias_qualified(qualifier.cloned(), field.name())
        }
        None => Expr::Column(Column::from((qualifier, field))),
    });
    let above = above.collect::<Vec<_>>();
    Ok(Some(LogicalPlan::Projection(Projection::try_new(above, Arc::new(below))?)))
}

fn is_grouping(expr: &Expr) -> bool {
    expr.exists(|expr| Ok(matches!(expr, Expr::AggregateFunction(call) if call.func.name() == "grouping")))
        .unwrap_or(false)
}

fn is_extreme(call: &AggregateFunction) -> bool {
    matches!(call.func.name(), "min" | "max")
}

fn is_extreme_window(call: &WindowFunction) -> bool {
    matches!(&call.fun, WindowFunctionDefinition::AggregateUDF(function) if matches!(function.name(), "min" | "max"))
}

/// What an enum's type says of itself, whatever the value: NULL will do.
pub fn all() -> [Bound; 3] {
    ["enum_first", "enum_last", "enum_range"].map(|name| {
        // Labels are added: what these say of a type is not the same for good.
        let volatility = Volatility::Volatile;
        let signature = match name {
            "enum_range" => Signature::variadic_any(volatility),
            _ => Signature::any(1, volatility),
        };
        Bound { name, signature }
    })
}

#[derive(Debug, PartialEq, Eq, Hash)]
pub struct Bound {
    name: &'static str,
    signature: Signature,
}

impl Bound {
    fn of(&self, fields: &[FieldRef]) -> Result<Arc<EnumType>> {
        let found = fields.iter().find_map(|field| enums::of(&sql_type_of(field)));
        found.filter(|_| fields.len() <= 2).ok_or_else(|| {
            let given: Vec<String> = fields.iter().map(|field| sql_type_of(field)).collect();
            external(Error::new("42883", format!("function {}({}) does not exist", self.name, given.join(", "))))
        })
    }
}

impl ScalarUDFImpl for Bound {
    fn name(&self) -> &str {
        self.name
    }
    fn signature(&self) -> &Signature {
        &self.signature
    }
    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(match self.name {
            "enum_range" => DataType::List(Arc::new(Field::new_list_field(DataType::Utf8, true))),
            _ => DataType::Utf8,
        })
    }
    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        let canonical = self.of(args.arg_fields)?.canonical();
        let sql_type = if self.name == "enum_range" { format!("{canonical}[]") } else { canonical };
        Ok(Arc::new(with_sql_type(Field::new(self.name, self.return_type(&[])?, true), &sql_type)))
    }
    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let of = self.of(&args.arg_fields)?;
        let texts: Vec<&str> = of.labels.iter().map(|label| label.text.as_str()).collect();
        let end = |text: Option<&&str>| Ok(ColumnarValue::Scalar(ScalarValue::Utf8(text.map(|text| text.to_string()))));
        match (self.name, &args.args[..]) {
            ("enum_first", _) => end(texts.first()),
            ("enum_last", _) => end(texts.last()),
            (_, [from, to]) => {
                let bounds = [from, to].map(|bound| bound.to_array(args.number_rows));
                let [from, to] = bounds;
                let (from, to) = (cast(&from?, &DataType::Utf8)?, cast(&to?, &DataType::Utf8)?);
                let (from, to) = (from.as_string::<i32>(), to.as_string::<i32>());
                let (mut items, mut lengths) = (Vec::new(), Vec::new());
                for row in 0..args.number_rows {
                    let rank = |bound: &StringArray| bound.is_valid(row).then(|| of.rank(bound.value(row))).flatten();
                    let (lower, upper) = (rank(from).unwrap_or(i64::MIN), rank(to).unwrap_or(i64::MAX));
                    let within = of.labels.iter().filter(|label| (lower..=upper).contains(&label.rank));
                    let before = items.len();
                    items.extend(within.map(|label| label.text.as_str()));
                    lengths.push(items.len() - before);
                }
                let item = Arc::new(Field::new_list_field(DataType::Utf8, true));
                let items: ArrayRef = Arc::new(StringArray::from(items));
                let lists = ListArray::try_new(item, OffsetBuffer::from_lengths(lengths), items, None)?;
                Ok(ColumnarValue::Array(Arc::new(lists)))
            }
            _ => {
                let item = Arc::new(Field::new_list_field(DataType::Utf8, true));
                let count = texts.len();
                let items: ArrayRef = Arc::new(StringArray::from(texts));
                let list = ListArray::try_new(item, OffsetBuffer::from_lengths([count]), items, None)?;
                Ok(ColumnarValue::Scalar(ScalarValue::List(Arc::new(list))))
            }
        }
    }
}
