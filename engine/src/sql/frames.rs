//! Frames of window functions that DataFusion has not: those with EXCLUDE, those that are always empty, and RANGE of days
//! over timestamptz. Their functions become others that find the frame's rows themselves (`functions/framed.rs`).
//!
//! ```text
//!   sum(x) OVER (PARTITION BY p ORDER BY k ROWS BETWEEN 2 PRECEDING AND CURRENT ROW EXCLUDE TIES)
//!   sum(x) OVER (PARTITION BY p, mr_frame('rows -2 0 ties') ORDER BY k ROWS BETWEEN 2 PRECEDING AND CURRENT ROW)
//!
//!   … ORDER BY k RANGE BETWEEN INTERVAL '1 day' PRECEDING AND CURRENT ROW
//!   PARTITION BY mr_frame('range 1 0 zone', k, k - INTERVAL '1 day') …
//! ```
//!
//! The mark stands among the columns of the partition until types are settled; then it goes again.

use std::cmp::Ordering;
use std::ops::ControlFlow;
use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::error::{DataFusionError, Result as DataFusionResult};
use datafusion::logical_expr::expr::{NullTreatment, WindowFunction};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::function::WindowUDFFieldArgs;
use datafusion::logical_expr::type_coercion::binary::comparison_coercion;
use datafusion::logical_expr::{
    Cast, ColumnarValue, Expr, ExprSchemable, LogicalPlan, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility,
    WindowFunctionDefinition, WindowUDF,
};
use sqlparser::ast::{self, BinaryOperator, Function, Value, WindowFrameBound, WindowFrameUnits};

use crate::error::{Error, Result};
use crate::sql::bind::error_from;
use crate::sql::calls;
use crate::sql::functions::{Bound, Exclusion, Frame, Framed, Inner, Sort, Units, days_differ, span as span_of};
use crate::sql::interval::Interval;
use crate::sql::parse::interval_literal;
use crate::sql::rewrite::{binary, call, interval_expr, number};
use crate::sql::visit;

/// The call in a frame's first bound that says what is excluded (`parse/exclusion.rs`).
pub const EXCLUDE: &str = "mr_exclude";
/// The name of the function that marks a partition.
const MARK: &str = "mr_frame";

/// Marks a window function whose frame DataFusion cannot find. Errors: those of Postgres for frames that make no sense
/// (42P20, 22013, 22004, 42P10).
pub fn mark(function: &mut Function) -> Result<()> {
    let of_values = ["first_value", "last_value", "nth_value", "lag", "lead", "ntile"];
    let of_ranks = ["row_number", "rank", "dense_rank", "percent_rank", "cume_dist"];
    let name = function.name.to_string().to_lowercase();
    if function.over.is_some()
        && function.filter.is_some()
        && of_values.iter().chain(&of_ranks).any(|stock| *stock == name)
    {
        return Err(Error::unsupported("FILTER for a window function that is no aggregate"));
    }
    let Some(ast::WindowType::WindowSpec(spec)) = &mut function.over else { return Ok(()) };
    let Some(frame) = &mut spec.window_frame else { return Ok(()) };
    let excluded = take_exclusion(&mut frame.start_bound);
    let end_bound = frame.end_bound.get_or_insert(WindowFrameBound::CurrentRow);
    check_bounds(&frame.start_bound, end_bound)?;
    let units = frame.units;
    let offset = |bound: &WindowFrameBound| {
        matches!(bound, WindowFrameBound::Preceding(Some(_)) | WindowFrameBound::Following(Some(_)))
    };
    let windowed = |message: &str| Err(Error::new("42P20", message));
    if units == WindowFrameUnits::Groups && spec.order_by.is_empty() {
        return windowed("GROUPS mode requires an ORDER BY clause");
    }
    let ranged = units == WindowFrameUnits::Range && (offset(&frame.start_bound) || offset(end_bound));
    if ranged && spec.order_by.len() != 1 {
        return windowed("RANGE with offset PRECEDING/FOLLOWING requires exactly one ORDER BY column");
    }
    let start = settle_offset(&mut frame.start_bound, units, "starting")?;
    let end = settle_offset(end_bound, units, "ending")?;
    // Both of them before the row, or both after it.
    let empty = match (&frame.start_bound, &*end_bound, &start, &end) {
        (WindowFrameBound::Preceding(_), WindowFrameBound::Preceding(_), Some(start), Some(end)) => {
            start.compare(end) == Some(Ordering::Less)
        }
        (WindowFrameBound::Following(_), WindowFrameBound::Following(_), Some(start), Some(end)) => {
            start.compare(end) == Some(Ordering::Greater)
        }
        _ => false,
    };
    let by_days = [&start, &end].into_iter().flatten().any(Offset::has_days);
    let when = match (excluded.as_deref(), empty || by_days) {
        (None | Some("no others"), false) => return Ok(()),
        // Where it is of a timestamptz.
        (None | Some("no others"), true) if !empty => "zone",
        (None | Some("no others"), true) => "none",
        (Some(excluded), _) => excluded,
    };
    let mut values = Vec::new();
    let key = spec.order_by.first().filter(|_| ranged);
    let mut part = |bound: &WindowFrameBound, offset: &Option<Offset>| -> String {
        let (expr, sign) = match bound {
            WindowFrameBound::CurrentRow => return "0".into(),
            WindowFrameBound::Preceding(None) | WindowFrameBound::Following(None) => return "all".into(),
            WindowFrameBound::Preceding(Some(expr)) => (expr, "-"),
            WindowFrameBound::Following(Some(expr)) => (expr, ""),
        };
        match (key, offset) {
            (Some(key), _) => {
                let descending = key.options.asc == Some(false);
                let op = if (sign == "-") != descending { BinaryOperator::Minus } else { BinaryOperator::Plus };
                let nested = |expr: &ast::Expr| ast::Expr::Nested(Box::new(expr.clone()));
                values.push(binary(nested(&key.expr), op, nested(expr)));
                values.len().to_string()
            }
            (None, Some(Offset::Number(by))) => format!("{sign}{by:.0}"),
            (None, _) => "0".into(),
        }
    };
    let text = format!("{units} {} {} {when}", part(&frame.start_bound, &start), part(end_bound, &end));
    let mut arguments = vec![ast::Expr::Value(Value::SingleQuotedString(text.to_lowercase()).into())];
    arguments.extend(key.map(|key| key.expr.clone()));
    arguments.extend(values);
    spec.partition_by.push(call(MARK, arguments));
    if empty {
        // What it depends on, to whoever asks the plan.
        *frame = ast::WindowFrame {
            units: WindowFrameUnits::Rows,
            start_bound: WindowFrameBound::Preceding(None),
            end_bound: Some(WindowFrameBound::Following(None)),
        };
    }
    Ok(())
}

/// What is excluded, if the bound says so.
fn take_exclusion(bound: &mut WindowFrameBound) -> Option<String> {
    let (WindowFrameBound::Preceding(Some(expr)) | WindowFrameBound::Following(Some(expr))) = bound else {
        return None;
    };
    let ast::Expr::Function(function) = expr.as_ref() else { return None };
    if !function.name.to_string().eq_ignore_ascii_case(EXCLUDE) {
        return None;
    }
    let arguments = calls::arguments(function)?;
    let text = |expr: &ast::Expr| crate::sql::values::quoted_text(expr).map(str::to_string);
    let excluded = text(arguments.first()?)?;
    match arguments.get(1) {
        None => match bound {
            WindowFrameBound::Preceding(rows) | WindowFrameBound::Following(rows) => *rows = None,
            WindowFrameBound::CurrentRow => {}
        },
        Some(current) if text(current).as_deref() == Some("current row") => *bound = WindowFrameBound::CurrentRow,
        Some(rows) => **expr = rows.clone(),
    }
    Some(excluded)
}

fn check_bounds(start: &WindowFrameBound, end: &WindowFrameBound) -> Result<()> {
    use WindowFrameBound::{CurrentRow, Following, Preceding};
    let message = match (start, end) {
        (Following(None), _) => "frame start cannot be UNBOUNDED FOLLOWING",
        (_, Preceding(None)) => "frame end cannot be UNBOUNDED PRECEDING",
        (CurrentRow, Preceding(_)) => "frame starting from current row cannot have preceding rows",
        (Following(_), Preceding(_)) => "frame starting from following row cannot have preceding rows",
        (Following(_), CurrentRow) => "frame starting from following row cannot end with current row",
        _ => return Ok(()),
    };
    Err(Error::new("42P20", message))
}

/// How far a bound is from the row.
enum Offset {
    Number(f64),
    Interval(Interval),
    /// Nothing that is known when the query is read.
    Open,
}

impl Offset {
    fn compare(&self, other: &Offset) -> Option<Ordering> {
        match (self, other) {
            (Offset::Number(a), Offset::Number(b)) => a.partial_cmp(b),
            (Offset::Interval(a), Offset::Interval(b)) => Some(span(a).cmp(&span(b))),
            _ => None,
        }
    }
    fn has_days(&self) -> bool {
        matches!(self, Offset::Interval(by) if by.days != 0 || by.months != 0)
    }
}

/// As intervals are compared.
fn span(interval: &Interval) -> i128 {
    let days = i128::from(interval.months) * 30 + i128::from(interval.days);
    days * i128::from(crate::sql::interval::DAY_US) + i128::from(interval.microseconds)
}

/// The offset of a bound that has one; written out as a number or an interval, as DataFusion wants it.
fn settle_offset(bound: &mut WindowFrameBound, units: WindowFrameUnits, which: &str) -> Result<Option<Offset>> {
    let (WindowFrameBound::Preceding(Some(expr)) | WindowFrameBound::Following(Some(expr))) = bound else {
        return Ok(None);
    };
    let variable = |expr: &ast::Expr| match expr {
        ast::Expr::Identifier(_) | ast::Expr::CompoundIdentifier(_) => ControlFlow::Break(()),
        _ => ControlFlow::Continue(()),
    };
    if let (WindowFrameUnits::Range, Some(text)) = (units, crate::sql::values::quoted_text(expr)) {
        **expr = interval_expr(text);
    }
    let subquery = matches!(expr.as_ref(), ast::Expr::Subquery(_));
    if !subquery && visit::visit_expressions(expr.as_ref(), variable).is_break() {
        return Err(Error::new("42P10", format!("argument of {units} must not contain variables")));
    }
    let (offset, negative) = match (units, interval_literal(expr)) {
        // In quotes it was taken for an interval.
        (WindowFrameUnits::Range, Some(interval)) => {
            let interval = interval?;
            **expr = interval_expr(&interval.to_string());
            (Offset::Interval(interval), span(&interval) < 0)
        }
        _ => match constant(expr) {
            Constant::Null => {
                return Err(Error::new("22004", format!("frame {which} offset must not be null")));
            }
            Constant::Number(value) => {
                let value = if units == WindowFrameUnits::Range { value } else { value.round() };
                let plain = matches!(expr.as_ref(), ast::Expr::Value(_));
                if value >= 0.0 && (units != WindowFrameUnits::Range || !plain && value.fract() == 0.0) {
                    **expr = number(&format!("{value:.0}"));
                }
                (Offset::Number(value), value < 0.0)
            }
            Constant::Open if units == WindowFrameUnits::Range => (Offset::Open, false),
            Constant::Open => return Err(Error::unsupported(format!("{expr} as the offset of a frame"))),
        },
    };
    match units {
        _ if !negative => Ok(Some(offset)),
        WindowFrameUnits::Range => Err(Error::new("22013", "invalid preceding or following size in window function")),
        _ => Err(Error::new("22013", format!("frame {which} offset must not be negative"))),
    }
}

enum Constant {
    Null,
    Number(f64),
    Open,
}

/// The value of arithmetic with literals.
fn constant(expr: &ast::Expr) -> Constant {
    match expr {
        ast::Expr::Value(value) => match &value.value {
            Value::Null => Constant::Null,
            Value::Number(digits, _) | Value::SingleQuotedString(digits) => {
                digits.trim().parse().map_or(Constant::Open, Constant::Number)
            }
            _ => Constant::Open,
        },
        ast::Expr::Interval(interval) => constant(&interval.value),
        ast::Expr::Nested(inner) | ast::Expr::UnaryOp { op: ast::UnaryOperator::Plus, expr: inner } => constant(inner),
        ast::Expr::Cast { expr: inner, data_type, .. } => match (constant(inner), data_type) {
            (
                Constant::Number(value),
                ast::DataType::SmallInt(_)
                | ast::DataType::Int(_)
                | ast::DataType::Integer(_)
                | ast::DataType::BigInt(_),
            ) => Constant::Number(value.round()),
            (value, _) => value,
        },
        ast::Expr::UnaryOp { op: ast::UnaryOperator::Minus, expr: inner } => match constant(inner) {
            Constant::Number(value) => Constant::Number(-value),
            other => other,
        },
        ast::Expr::BinaryOp { left, op, right } => match (constant(left), constant(right)) {
            (Constant::Number(a), Constant::Number(b)) => match op {
                BinaryOperator::Plus => Constant::Number(a + b),
                BinaryOperator::Minus => Constant::Number(a - b),
                BinaryOperator::Multiply => Constant::Number(a * b),
                _ => Constant::Open,
            },
            _ => Constant::Open,
        },
        _ => Constant::Open,
    }
}

/// `mr_frame(what, …)`: the mark.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct Mark {
    signature: Signature,
}

impl Default for Mark {
    fn default() -> Self {
        Mark { signature: Signature::variadic_any(Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for Mark {
    fn name(&self) -> &str {
        MARK
    }
    fn signature(&self) -> &Signature {
        &self.signature
    }
    fn return_type(&self, _: &[DataType]) -> DataFusionResult<DataType> {
        Ok(DataType::Boolean)
    }
    fn invoke_with_args(&self, _: ScalarFunctionArgs) -> DataFusionResult<ColumnarValue> {
        Err(DataFusionError::External(Box::new(Error::unsupported("this frame in this place"))))
    }
}

fn marked(expr: &Expr) -> Option<&[Expr]> {
    match expr {
        Expr::Alias(alias) => marked(&alias.expr),
        Expr::ScalarFunction(function) if function.name() == MARK => Some(&function.args),
        _ => None,
    }
}

/// Puts the functions in for which windows are marked, in a plan whose types are settled.
pub fn find(plan: LogicalPlan, options: &ConfigOptions) -> Result<LogicalPlan> {
    let has_mark = |plan: &LogicalPlan| -> DataFusionResult<bool> {
        let mut found = false;
        plan.apply_with_subqueries(|node| {
            if let LogicalPlan::Window(window) = node {
                let mark = |e: &Expr| e.exists(|e| Ok(marked(e).is_some()));
                found |= window.window_expr.iter().map(mark).collect::<DataFusionResult<Vec<_>>>()?.contains(&true);
            }
            Ok(if found { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
        })?;
        Ok(found)
    };
    if !has_mark(&plan).map_err(error_from)? {
        return Ok(plan);
    }
    let found = plan.transform_up_with_subqueries(|plan| {
        let LogicalPlan::Window(window) = &plan else { return Ok(Transformed::no(plan)) };
        let schema = window.input.schema().clone();
        let names = NamePreserver::new(&plan);
        plan.map_expressions(|expr| {
            let name = names.save(&expr);
            let framed = expr.transform_up(|expr| match expr {
                Expr::WindowFunction(function) => framed(*function, &schema, options),
                other => Ok(Transformed::no(other)),
            })?;
            Ok(framed.update_data(|expr| name.restore(expr)))
        })?
        .map_data(|plan| plan.recompute_schema())
    });
    Ok(found.map_err(error_from)?.data)
}

fn framed(
    mut function: WindowFunction,
    schema: &DFSchema,
    options: &ConfigOptions,
) -> DataFusionResult<Transformed<Expr>> {
    let Some(mark) = function.params.partition_by.iter().position(|e| marked(e).is_some()) else {
        return Ok(Transformed::no(Expr::WindowFunction(Box::new(function))));
    };
    let mark = function.params.partition_by.remove(mark);
    let plain = |function: WindowFunction| Ok(Transformed::yes(Expr::WindowFunction(Box::new(function))));
    let (what, ranged) = marked(&mark).and_then(<[Expr]>::split_first).expect("it is one");
    let Expr::Literal(ScalarValue::Utf8(Some(what)), _) = what else { return plain(function) };
    let inner = match &function.fun {
        WindowFunctionDefinition::AggregateUDF(aggregate) => Some(Inner::Aggregate(aggregate.clone())),
        WindowFunctionDefinition::WindowUDF(stock) => Inner::of_window(stock.name()),
    };
    let Some(inner) = inner else { return plain(function) };
    let zoned = |expr: &Expr| matches!(expr.get_type(schema), Ok(DataType::Timestamp(_, Some(_))));
    if what.ends_with(" zone") && !(days_differ(options) && ranged.first().is_some_and(zoned)) {
        return plain(function);
    }
    let ranged = of_one_type(ranged, schema)?;
    let fields =
        function.params.args.iter().map(|arg| Ok(arg.to_field(schema)?.1)).collect::<DataFusionResult<Vec<_>>>()?;
    let result = match &function.fun {
        WindowFunctionDefinition::AggregateUDF(aggregate) => aggregate.return_field(&fields)?,
        WindowFunctionDefinition::WindowUDF(stock) => stock.field(WindowUDFFieldArgs::new(&fields, stock.name()))?,
    };
    let params = &mut function.params;
    if params.null_treatment == Some(NullTreatment::IgnoreNulls) && !matches!(inner, Inner::Aggregate(_)) {
        let error = Error::unsupported("IGNORE NULLS with EXCLUDE");
        return Err(DataFusionError::External(Box::new(error)));
    }
    let sort =
        params.order_by.first().map_or(Sort::default(), |by| Sort { descending: !by.asc, nulls_first: by.nulls_first });
    let (arguments, keys) = (params.args.len(), params.order_by.len());
    for (i, argument) in params.args.iter_mut().enumerate() {
        if let Some(data_type) = inner.argument_type(i) {
            *argument = Expr::Cast(Cast::new(Box::new(argument.clone()), data_type));
        }
    }
    let filter = params.filter.take();
    let filtered = filter.is_some();
    params.args.extend(filter.map(|filter| *filter));
    params.args.extend(params.order_by.iter().map(|by| by.expr.clone()));
    params.args.extend(ranged);
    let framed = Framed {
        name: format!("{} over {what}", function.fun.name()),
        inner,
        result,
        frame: frame_of(what),
        arguments,
        filtered,
        keys,
        sort,
        signature: Framed::signature(),
    };
    function.fun = WindowFunctionDefinition::WindowUDF(Arc::new(WindowUDF::from(framed)));
    plain(function)
}

/// The value that RANGE goes by and its bounds, so that they can be compared.
fn of_one_type(values: &[Expr], schema: &DFSchema) -> DataFusionResult<Vec<Expr>> {
    let types = values.iter().map(|e| e.get_type(schema)).collect::<DataFusionResult<Vec<_>>>()?;
    let Some(first) = types.first().cloned() else { return Ok(Vec::new()) };
    if matches!(first, DataType::Time64(_)) {
        // A time that is moved beyond midnight begins anew.
        let error = Error::unsupported("EXCLUDE in a frame with RANGE by a time of day");
        return Err(DataFusionError::External(Box::new(error)));
    }
    if matches!(first, DataType::Interval(_)) {
        return Ok(values.iter().cloned().map(span_of).collect());
    }
    let common = types.iter().try_fold(first.clone(), |common, next| match common == *next {
        true => Some(common),
        false => comparison_coercion(&common, next),
    });
    let common = common.unwrap_or(first);
    let cast = |(expr, data_type): (&Expr, &DataType)| match *data_type == common {
        true => expr.clone(),
        false => Expr::Cast(Cast::new(Box::new(expr.clone()), common.clone())),
    };
    Ok(values.iter().zip(&types).map(cast).collect())
}

/// The frame that a mark says.
fn frame_of(what: &str) -> Frame {
    let mut words = what.splitn(4, ' ');
    let units = match words.next() {
        Some("rows") => Units::Rows,
        Some("groups") => Units::Groups,
        _ => Units::Range,
    };
    let mut bound = || match words.next().map(|word| (word, word.parse())) {
        Some((_, Ok(0))) => Bound::Offset(0),
        Some((_, Ok(argument))) if units == Units::Range => Bound::Value(argument as usize),
        Some((_, Ok(by))) => Bound::Offset(by),
        _ => Bound::Unbounded,
    };
    let (start, end) = (bound(), bound());
    let exclusion = match words.next() {
        Some("current row") => Exclusion::CurrentRow,
        Some("group") => Exclusion::Group,
        Some("ties") => Exclusion::Ties,
        _ => Exclusion::Nothing,
    };
    Frame { units, start, end, exclusion }
}
