//! Where two types meet, Postgres and DataFusion choose differently. This pass of the analyzer, before DataFusion's,
//! casts as Postgres chooses: in operators, BETWEEN, IN, CASE, COALESCE and the like.
//!
//! ```text
//!                            Postgres        DataFusion
//!   float, numeric           float           numeric(30,15)
//!   timestamp, date          timestamp       nanoseconds
//!   anything, a literal      anything        text, or nanoseconds
//!   text, integer            an error        text
//! ```

use std::sync::Arc;

use arrow::array::{ArrayRef, StringArray};
use arrow::datatypes::{DataType, Field, IntervalMonthDayNano, IntervalUnit, TimeUnit};
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::expr::{InList, InSubquery, WindowFunctionParams};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{
    Between, BinaryExpr, Cast, Distinct, DistinctOn, Expr, ExprSchemable, Like, LogicalPlan, LogicalPlanBuilder,
    Operator, WindowFrameBound, WindowFrameUnits, lit,
};
use datafusion::optimizer::AnalyzerRule;

use super::json::{JSONB_ARRAY_KEYS, JSONB_KEY};
use super::{bytes, casts, declared, intervals, labels, order_key, tags};
use crate::error::Error;
use crate::sql::common::{Kind, Padding, common_type, kind, literal_type, padding};
use crate::sql::text::Style;
use crate::sql::text::interval::parse_interval;
use crate::sql::types::{self, sql_type_of, sql_type_of_arrow, with_sql_type};

#[derive(Debug)]
pub struct Unite;

impl AnalyzerRule for Unite {
    fn name(&self) -> &str {
        "unite"
    }
    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        // Whether a column below has been told to be jsonb, so that the schemas above are to say so.
        let mut told = false;
        plan.transform_up_with_subqueries(|plan| {
            let plan = if told { plan.recompute_schema()? } else { plan };
            let schema = merge_schema(&plan.inputs());
            let names = NamePreserver::new(&plan);
            let plan = keys_of_join(distinct_on(plan, &schema)?)?;
            let sorts = matches!(plan, LogicalPlan::Sort(_));
            let shows = matches!(plan, LogicalPlan::Projection(_));
            let unnest = match &plan {
                LogicalPlan::Projection(projection) => match projection.input.as_ref() {
                    LogicalPlan::Unnest(unnest) => Some(unnest.clone()),
                    _ => None,
                },
                _ => None,
            };
            let plan = plan.map_expressions(|expr| {
                let name = names.save(&expr);
                let items = match &unnest {
                    Some(unnest) => labels::with_items(expr, unnest)?,
                    None => Transformed::no(expr),
                };
                told |= items.transformed;
                let mut united = expression(items.data, &schema)?;
                united.transformed |= items.transformed;
                if sorts && order_key::take(&mut united.data, &schema)? {
                    return Ok(Transformed::yes(united.data));
                }
                if shows && let Some(document) = document(&united.data, &schema) {
                    told = true;
                    return Ok(Transformed::yes(name.restore(document)));
                }
                Ok(united.update_data(|expr| name.restore(expr)))
            })?;
            let plan = if plan.transformed { plan.map_data(|plan| plan.recompute_schema())? } else { plan };
            let Some(labelled) = labels::extremes(&plan.data, &schema)? else { return Ok(plan) };
            told = true;
            Ok(Transformed::yes(labelled))
        })
        .map(|plan| plan.data)
    }
}

/// What EXCEPT and INTERSECT compare, which are joins here.
fn keys_of_join(plan: LogicalPlan) -> Result<LogicalPlan> {
    let LogicalPlan::Join(mut join) = plan else { return Ok(plan) };
    let (left, right) = (join.left.schema().clone(), join.right.schema().clone());
    for (a, b) in &mut join.on {
        if is_jsonb(a, &left) && is_jsonb(b, &right) || is_interval(a, &left) && is_interval(b, &right) {
            order_key::take(a, &left)?;
            order_key::take(b, &right)?;
        }
    }
    Ok(LogicalPlan::Join(join))
}

/// What WHEN asks is a boolean; a literal in quotes is read as one.
fn check_condition(when: &Expr, schema: &DFSchema) -> Result<()> {
    match when.get_type(schema) {
        Ok(DataType::Boolean | DataType::Null) | Err(_) => Ok(()),
        Ok(_) if matches!(when, Expr::Literal(ScalarValue::Utf8(_), _) | Expr::Placeholder(_)) => Ok(()),
        Ok(other) => {
            let message = format!("argument of CASE/WHEN must be type boolean, not type {}", sql_type_of_arrow(&other));
            Err(DataFusionError::External(Box::new(Error::new("42804", message))))
        }
    }
}

/// What DISTINCT ON is of, and its order, which begins with that.
fn distinct_on(plan: LogicalPlan, schema: &DFSchema) -> Result<LogicalPlan> {
    let LogicalPlan::Distinct(Distinct::On(mut on)) = plan else { return Ok(plan) };
    let DistinctOn { on_expr, sort_expr, .. } = &mut on;
    let sorts = sort_expr.iter_mut().flatten().map(|sort| &mut sort.expr);
    for expr in on_expr.iter_mut().chain(sorts) {
        order_key::take(expr, schema)?;
    }
    Ok(LogicalPlan::Distinct(Distinct::On(on)))
}

/// Functions whose arguments have one type.
const UNIFORM: &[&str] = &["coalesce", "nullif", "greatest", "least", "make_array"];

/// What brings values together, for the error where they do not go.
#[derive(Clone, Copy)]
enum Place<'a> {
    Operator(&'a Operator),
    /// CASE, COALESCE and the like, whose results are of one type.
    Result(&'a str),
}

/// The same for an expression over these columns.
pub fn expression(expr: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
    expr.transform_up(|mut expr| {
        if let Expr::Like(like) = &expr
            && bytes::is_like(like, schema)
        {
            return bytes::like(like.clone(), schema).map(Transformed::yes);
        }
        if let Expr::Like(Like { escape_char: escape @ Some('\\'), .. }) = &mut expr {
            *escape = None;
            return Ok(Transformed::yes(expr));
        }
        let mut expr = labels::best_of(comparisons_of_arrays(expr, schema)?, schema)?;
        let mixed = match &mut expr {
            // `ts + '1 day'` is no sum of two timestamps.
            Expr::Between(Between { expr, low, high, .. })
                if [expr.as_ref(), low, high].into_iter().any(|e| is_padded(e, schema)) =>
            {
                [expr.as_mut(), low, high].into_iter().try_for_each(without_padding)?;
                true
            }
            Expr::BinaryExpr(BinaryExpr {
                left,
                op: Operator::IsDistinctFrom | Operator::IsNotDistinctFrom,
                right,
            }) if is_padded(left, schema) || is_padded(right, schema) => {
                [left.as_mut(), right.as_mut()].into_iter().try_for_each(without_padding)?;
                true
            }
            Expr::BinaryExpr(BinaryExpr { left, op, right }) => {
                (orders(op) && labels::by_rank(vec![left.as_mut(), right.as_mut()], schema, &op.to_string())?)
                    || (compares(op) && by_key(vec![left.as_mut(), right.as_mut()], schema)?)
                    || unite_numbers(vec![left.as_mut(), right.as_mut()], schema)
                    || (compares(op) && unite(vec![left.as_mut(), right.as_mut()], schema, Place::Operator(op))?)
            }
            Expr::Between(Between { expr, low, high, .. }) => {
                labels::by_rank(vec![expr.as_mut(), low.as_mut(), high.as_mut()], schema, ">=")?
                    || by_key(vec![expr.as_mut(), low.as_mut(), high.as_mut()], schema)?
                    || unite(
                        vec![expr.as_mut(), low.as_mut(), high.as_mut()],
                        schema,
                        Place::Operator(&Operator::GtEq),
                    )?
            }
            Expr::InList(InList { expr, list, .. })
                if std::iter::once(expr.as_ref()).chain(list.iter()).any(|e| is_padded(e, schema)) =>
            {
                std::iter::once(expr.as_mut()).chain(list).try_for_each(without_padding)?;
                true
            }
            Expr::InSubquery(InSubquery { expr, subquery, .. })
                if is_padded(expr, schema) || types::is_padded(&sql_type_of(subquery.subquery.schema().field(0))) =>
            {
                let mut column = Expr::Column(subquery.subquery.schema().columns().remove(0));
                without_padding(&mut column)?;
                let plan = LogicalPlanBuilder::from(subquery.subquery.as_ref().clone()).project([column])?.build()?;
                subquery.subquery = Arc::new(plan);
                without_padding(expr)?;
                true
            }
            Expr::InList(InList { expr, list, .. }) => {
                let keyed = by_key(std::iter::once(expr.as_mut()).chain(list.iter_mut()).collect(), schema)?;
                let all = std::iter::once(expr.as_mut()).chain(list).collect();
                keyed || unite(all, schema, Place::Operator(&Operator::Eq))?
            }
            Expr::Case(case) => {
                let whens = case.when_then_expr.iter_mut();
                let (mut compared, mut results): (Vec<&mut Expr>, Vec<&mut Expr>) =
                    whens.map(|(when, then)| (when.as_mut(), then.as_mut())).unzip();
                results.extend(case.else_expr.as_deref_mut());
                let united = unite(results, schema, Place::Result("CASE"))?;
                match case.expr.as_deref_mut() {
                    Some(operand) => {
                        let keyed = {
                            let all = compared.iter_mut().map(|when| &mut **when).chain([&mut *operand]).collect();
                            by_key(all, schema)?
                        };
                        compared.push(operand);
                        keyed || unite(compared, schema, Place::Operator(&Operator::Eq))? || united
                    }
                    None => {
                        compared.iter().try_for_each(|when| check_condition(when, schema))?;
                        united
                    }
                }
            }
            Expr::ScalarFunction(function) if UNIFORM.contains(&function.func.name()) => {
                let name = match function.func.name() {
                    "make_array" => "ARRAY".to_string(),
                    name => name.to_uppercase(),
                };
                let place = if name == "NULLIF" { Place::Operator(&Operator::Eq) } else { Place::Result(&name) };
                unite(function.args.iter_mut().collect(), schema, place)?
            }
            Expr::ScalarFunction(function) if bytes::is_hash(&function.func) => {
                bytes::check_hash(&function.func, &function.args, schema)?;
                false
            }
            Expr::ScalarFunction(function) if function.name() == "array_has" && function.args.len() == 2 => {
                // `j = ANY (array)`
                let of_jsonb = function.args[0].to_field(schema).is_ok_and(|(_, list)| sql_type_of(&list) == "jsonb[]");
                if of_jsonb {
                    let list = std::mem::replace(&mut function.args[0], Expr::Literal(ScalarValue::Null, None));
                    function.args[0] = declared::named(JSONB_ARRAY_KEYS)?.call(vec![list]);
                    take_jsonb_key(&mut function.args[1])?;
                }
                of_jsonb
            }
            Expr::InSubquery(InSubquery { expr, subquery, .. }) => {
                let plan = subquery.subquery.as_ref();
                let column = Expr::Column(plan.schema().columns().remove(0));
                let own = plan.schema();
                let types = (expr.get_type(schema)?, column.get_type(own)?);
                let kinds = kind(&types.0).is_some() && kind(&types.1).is_some();
                if kinds && literal_text(expr).is_none() && common_type(&types.0, &types.1).is_none() {
                    return Err(mismatch(&types.0, &types.1, Place::Operator(&Operator::Eq)));
                }
                let keyed = is_jsonb(expr, schema) && is_jsonb(&column, own)
                    || is_interval(expr, schema) && is_interval(&column, own);
                if keyed {
                    let mut column = column;
                    order_key::take(&mut column, own)?;
                    let keys = LogicalPlanBuilder::from(plan.clone()).project([column])?.build()?;
                    subquery.subquery = Arc::new(keys);
                    order_key::take(expr, schema)?;
                }
                keyed
            }
            // The order of rows under a window function.
            Expr::WindowFunction(function) => {
                let params = &mut function.params;
                spans_in_frame(params, schema)?;
                let mut keyed = false;
                for sort in &mut params.order_by {
                    keyed |= order_key::take(&mut sort.expr, schema)?;
                    // DataFusion has frames over texts and numbers, not over bytes and times.
                    let framed: fn(Expr) -> Result<Expr> = match sort.expr.get_type(schema) {
                        Ok(DataType::Binary) => |bytes| Ok(declared::named("encode")?.call(vec![bytes, lit("hex")])),
                        Ok(DataType::Time64(_)) => |time| Ok(Expr::Cast(Cast::new(Box::new(time), DataType::Int64))),
                        _ => continue,
                    };
                    sort.expr = framed(std::mem::replace(&mut sort.expr, Expr::Literal(ScalarValue::Null, None)))?;
                    keyed = true;
                }
                // Arrays are grouped as they are.
                for expr in params.partition_by.iter_mut().filter(|e| is_jsonb(e, schema) || is_interval(e, schema)) {
                    keyed |= order_key::take(expr, schema)?;
                }
                keyed
            }
            Expr::AggregateFunction(call)
                if call.func.name() == "count"
                    && call.params.distinct
                    && call.params.args.iter().any(|e| is_interval(e, schema) || is_jsonb(e, schema)) =>
            {
                let keyed = |e: &&mut Expr| is_interval(e, schema) || is_jsonb(e, schema);
                for argument in call.params.args.iter_mut().filter(keyed) {
                    order_key::take(argument, schema)?;
                }
                true
            }
            // What is DISTINCT is put into its order afterwards (`sql/distinct_arrays.rs`).
            Expr::AggregateFunction(call) if !call.params.distinct => {
                let mut keyed = false;
                for sort in &mut call.params.order_by {
                    keyed |= order_key::take(&mut sort.expr, schema)?;
                }
                keyed
            }
            _ => false,
        };
        Ok(if mixed { Transformed::yes(expr) } else { Transformed::no(expr) })
    })
}

/// Distances in a frame over rows that are in the order of an interval, which is that of its span, or of a time, which is
/// that of its microseconds.
fn spans_in_frame(params: &mut WindowFunctionParams, schema: &DFSchema) -> Result<()> {
    let [sort] = &params.order_by[..] else { return Ok(()) };
    let frame = &mut params.window_frame;
    let sorted = sort.expr.get_type(schema);
    if let Ok(of @ (DataType::Date32 | DataType::Timestamp(..) | DataType::Time64(_) | DataType::Interval(_))) = sorted
        && frame.units == WindowFrameUnits::Range
    {
        for bound in [&frame.start_bound, &frame.end_bound] {
            if let WindowFrameBound::Preceding(distance) | WindowFrameBound::Following(distance) = bound
                && matches!(distance, ScalarValue::Utf8(Some(number)) if number.trim().parse::<f64>().is_ok())
            {
                let message = format!(
                    "RANGE with offset PRECEDING/FOLLOWING is not supported for column type {} and offset type integer",
                    sql_type_of_arrow(&of)
                );
                let hint = "Cast the offset value to an appropriate type.";
                return Err(DataFusionError::External(Box::new(Error::new("0A000", message).hint(hint))));
            }
        }
    }
    let distance_of = match sort.expr.get_type(schema) {
        Ok(DataType::Interval(_)) => intervals::nanoseconds,
        // Of an interval nothing but its time counts.
        Ok(DataType::Time64(_)) => |interval: IntervalMonthDayNano| i128::from(interval.nanoseconds / 1000),
        _ => return Ok(()),
    };
    if frame.units != WindowFrameUnits::Range {
        return Ok(());
    }
    for bound in [&mut frame.start_bound, &mut frame.end_bound] {
        let (WindowFrameBound::Preceding(distance) | WindowFrameBound::Following(distance)) = bound else { continue };
        if let ScalarValue::Utf8(Some(text)) = distance {
            let interval = parse_interval(text).map_err(|e| DataFusionError::External(Box::new(e)))?;
            *distance = ScalarValue::Utf8(Some(distance_of(interval).to_string()));
        }
    }
    Ok(())
}

/// BETWEEN of arrays as two comparisons, which know their order.
fn comparisons_of_arrays(expr: Expr, schema: &DFSchema) -> Result<Expr> {
    let array = |e: &Expr| matches!(e.get_type(schema), Ok(DataType::List(_)));
    match expr {
        Expr::Between(Between { expr, negated, mut low, mut high })
            if [&expr, &low, &high].into_iter().any(|e| array(e)) =>
        {
            let (mut above, mut below) = (expr.clone(), expr);
            unite(vec![above.as_mut(), low.as_mut()], schema, Place::Operator(&Operator::GtEq))?;
            unite(vec![below.as_mut(), high.as_mut()], schema, Place::Operator(&Operator::LtEq))?;
            let both = above.gt_eq(*low).and(below.lt_eq(*high));
            Ok(if negated { Expr::Not(Box::new(both)) } else { both })
        }
        other => Ok(other),
    }
}

/// Whether these are jsonb, or intervals, beside literals, to be compared with one another: then by what they say, not by
/// their text or parts.
fn by_key(exprs: Vec<&mut Expr>, schema: &DFSchema) -> Result<bool> {
    let untyped = |e: &Expr| matches!(e, Expr::Literal(ScalarValue::Utf8(_) | ScalarValue::Null, _));
    let typed: Vec<&&mut Expr> = exprs.iter().filter(|e| !untyped(e)).collect();
    if typed.is_empty() {
        return Ok(false);
    }
    if typed.iter().all(|e| is_jsonb(e, schema)) {
        exprs.into_iter().try_for_each(take_jsonb_key)?;
        return Ok(true);
    }
    if !typed.iter().all(|e| is_interval(e, schema)) {
        return Ok(false);
    }
    let interval = DataType::Interval(IntervalUnit::MonthDayNano);
    for expr in exprs {
        if let Some(text) = literal_text(expr) {
            casts::check_literal(text, &interval)?;
        }
        if untyped(expr) {
            cast(expr, &interval);
        }
        let taken = std::mem::replace(expr, Expr::Literal(ScalarValue::Null, None));
        *expr = intervals::span(taken);
    }
    Ok(true)
}

fn is_interval(expr: &Expr, schema: &DFSchema) -> bool {
    matches!(expr.get_type(schema), Ok(DataType::Interval(IntervalUnit::MonthDayNano)))
}

fn is_padded(expr: &Expr, schema: &DFSchema) -> bool {
    expr.to_field(schema).is_ok_and(|(_, field)| types::is_padded(&sql_type_of(&field)))
}

/// The blanks at the end of a char(n), and of what it is compared with, count for nothing.
fn without_padding(expr: &mut Expr) -> Result<()> {
    let text = std::mem::replace(expr, Expr::Literal(ScalarValue::Null, None));
    *expr = super::without_padding(text)?;
    Ok(())
}

fn is_jsonb(expr: &Expr, schema: &DFSchema) -> bool {
    expr.to_field(schema).is_ok_and(|(_, field)| tags::sql_type(expr, &field, schema) == "jsonb")
}

/// A column that is computed of jsonb, by CASE and the like, of which Arrow says only that it is a text: what is above has to
/// know, to compare it by what it says.
fn document(expr: &Expr, schema: &DFSchema) -> Option<Expr> {
    let own = expr.clone().unalias();
    let (_, field) = own.to_field(schema).ok()?;
    (sql_type_of(&field) != "jsonb" && tags::sql_type(&own, &field, schema) == "jsonb")
        .then(|| tags::tagged(own, schema))
}

fn take_jsonb_key(expr: &mut Expr) -> Result<()> {
    let document = std::mem::replace(expr, Expr::Literal(ScalarValue::Null, None));
    *expr = declared::named(JSONB_KEY)?.call(vec![document]);
    Ok(())
}

pub fn compares(operator: &Operator) -> bool {
    use Operator as O;
    matches!(operator, O::Eq | O::NotEq | O::Lt | O::LtEq | O::Gt | O::GtEq | O::IsDistinctFrom | O::IsNotDistinctFrom)
}

fn orders(operator: &Operator) -> bool {
    matches!(operator, Operator::Lt | Operator::LtEq | Operator::Gt | Operator::GtEq)
}

fn is_float(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Float32 | DataType::Float64)
}
fn is_numeric(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Decimal128(..) | DataType::Decimal256(..))
}
fn types(exprs: &[&mut Expr], schema: &DFSchema) -> Vec<Option<DataType>> {
    exprs.iter().map(|e| e.get_type(schema).ok()).collect()
}

/// The text of a literal, which has no type of its own.
fn literal_text(expr: &Expr) -> Option<&str> {
    match expr {
        Expr::Literal(ScalarValue::Utf8(Some(text)), _) => Some(text),
        _ => None,
    }
}

fn mismatch(left: &DataType, right: &DataType, place: Place) -> DataFusionError {
    let (left, right) = (sql_type_of_arrow(left), sql_type_of_arrow(right));
    DataFusionError::External(Box::new(match place {
        Place::Operator(operator) => Error::new("42883", format!("operator does not exist: {left} {operator} {right}"))
            .hint("No operator matches the given name and argument types. You might need to add explicit type casts."),
        Place::Result(name) => Error::new("42804", format!("{name} types {left} and {right} cannot be matched")),
    }))
}

/// Casts expressions of several types as Postgres would; whether any were.
fn unite(mut exprs: Vec<&mut Expr>, schema: &DFSchema, place: Place) -> Result<bool> {
    let types_before = types(&exprs, schema);
    let mut wanted: Option<DataType> = None;
    for (expr, data_type) in exprs.iter().zip(&types_before) {
        let Some(data_type) = data_type else { continue };
        if literal_text(expr).is_some() || *data_type == DataType::Null {
            continue;
        }
        wanted = match wanted {
            None => Some(data_type.clone()),
            Some(before) => match common_type(&before, data_type) {
                Some(common) => Some(common),
                None if kind(&before).is_some() && kind(data_type).is_some() => {
                    return Err(mismatch(&before, data_type, place));
                }
                None => Some(before),
            },
        };
    }
    let mut changed = cut_padding(&mut exprs, schema, place)? | read_literals(&mut exprs, schema)?;
    if let Some(wanted) = wanted {
        let timestamp = matches!(wanted, DataType::Timestamp(TimeUnit::Microsecond, _));
        for (expr, data_type) in exprs.iter_mut().zip(&types_before) {
            let to = match literal_text(expr) {
                Some(text) if kind(&wanted).is_some_and(|kind| kind != Kind::Text) => {
                    let to = literal_type(&wanted, text);
                    casts::check_literal(text, &to)?;
                    to
                }
                _ if timestamp && *data_type == Some(DataType::Date32) => wanted.clone(),
                // Numbers beside a real are reals, as results.
                _ if matches!(place, Place::Result(_))
                    && wanted.is_floating()
                    && data_type.as_ref().is_some_and(|t| t.is_numeric() && *t != wanted) =>
                {
                    wanted.clone()
                }
                _ => continue,
            };
            cast(expr, &to);
            changed = true;
        }
    }
    Ok(unite_numbers(exprs, schema) || changed)
}

/// Reads the literals beside values whose type Arrow does not tell from text: `'A0EE…'` is the uuid `a0ee…`. Whether there
/// were any.
fn read_literals(exprs: &mut [&mut Expr], schema: &DFSchema) -> Result<bool> {
    let told = |e: &Expr| e.to_field(schema).ok().map(|(_, field)| sql_type_of(&field));
    let typed = exprs.iter().filter(|e| literal_text(e).is_none()).filter_map(|e| told(e));
    let Some(sql_type) = typed.into_iter().find(|t| types::is_read(t)) else {
        return Ok(false);
    };
    let field = with_sql_type(Field::new("", DataType::Utf8, true), &sql_type);
    let mut any = false;
    for expr in exprs {
        let Some(text) = literal_text(expr) else { continue };
        let literal: ArrayRef = Arc::new(StringArray::from(vec![text]));
        casts::apply(&literal, &Field::new("", DataType::Utf8, true), &field, &Style::default())?;
        let taken = std::mem::replace(*expr, Expr::Literal(ScalarValue::Null, None));
        **expr = Expr::Cast(Cast { expr: Box::new(taken), field: Arc::new(field.clone()) });
        any = true;
    }
    Ok(any)
}

/// Takes the padding off char(n) among results that are text; whether there was any. What is compared is looked at where
/// operators are planned.
fn cut_padding(exprs: &mut [&mut Expr], schema: &DFSchema, place: Place) -> Result<bool> {
    let Place::Result(_) = place else { return Ok(false) };
    let of_text = |e: &Expr| e.to_field(schema).ok().filter(|(_, f)| kind(f.data_type()) == Some(Kind::Text));
    let sql_type = |e: &Expr| of_text(e).filter(|_| literal_text(e).is_none()).map(|(_, field)| sql_type_of(&field));
    let types: Vec<Option<String>> = exprs.iter().map(|e| sql_type(e)).collect();
    if padding(types.iter().flatten().map(String::as_str)) != Padding::Cut {
        return Ok(false);
    }
    for (expr, sql_type) in exprs.iter_mut().zip(&types) {
        if sql_type.as_deref().is_some_and(types::is_padded) {
            let padded = std::mem::replace(*expr, Expr::Literal(ScalarValue::Null, None));
            **expr = super::without_padding(padded)?;
        }
    }
    Ok(true)
}

/// Casts the numerics among expressions of which some are floats; whether there were any.
fn unite_numbers(exprs: Vec<&mut Expr>, schema: &DFSchema) -> bool {
    let types = types(&exprs, schema);
    let any = |is: fn(&DataType) -> bool| types.iter().flatten().any(is);
    if !(any(is_float) && any(is_numeric)) {
        return false;
    }
    for (expr, data_type) in exprs.into_iter().zip(&types) {
        if data_type.as_ref().is_some_and(is_numeric) {
            cast(expr, &DataType::Float64);
        }
    }
    true
}

fn cast(expr: &mut Expr, to: &DataType) {
    let taken = std::mem::replace(expr, Expr::Literal(ScalarValue::Null, None));
    *expr = match taken {
        // A number's literal stays one, for what looks for literals.
        Expr::Literal(value, metadata) if is_float(to) && is_numeric(&value.data_type()) => {
            match nearest_float(&value, to) {
                Ok(float) => Expr::Literal(float, metadata),
                Err(_) => Expr::Cast(Cast::new(Box::new(Expr::Literal(value, metadata)), to.clone())),
            }
        }
        other => Expr::Cast(Cast::new(Box::new(other), to.clone())),
    };
}

fn nearest_float(value: &ScalarValue, to: &DataType) -> Result<ScalarValue> {
    let (from, to) = (Field::new("", value.data_type(), true), Field::new("", to.clone(), true));
    let float = casts::apply(&value.to_array()?, &from, &to, &Style::default())?;
    ScalarValue::try_from_array(&float, 0)
}
