//! What is changed in a parsed query before DataFusion sees it, so that it means what it means in Postgres.
//!
//! ```text
//!   SELECT count(*)              SELECT count(*) AS count (item_names.rs)
//!   TUMBLE(t, ts, …) in FROM     a derived table (window.rs)
//!   a = ANY (SELECT …)           a IN (SELECT …); see subqueries.rs for others
//!   l, unnest(l.a) u             a lateral subquery (unnest.rs)
//!   TABLE t                      SELECT * FROM t
//!   ts AT TIME ZONE 'x'          timezone('x', ts)
//!   INTERVAL '1:30'              INTERVAL '0 months 0 days 5400000000 microseconds'
//! ```

use std::ops::ControlFlow;

use sqlparser::ast::{
    self, BinaryOperator, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArgumentList, FunctionArguments, Ident,
    ObjectName, Query, Select, SelectItem, SetExpr, TableFactor, Value, VisitorMut,
};

use crate::error::{Error, Result};
use crate::sql::array_literals::{any_of, cast_items, each, filled, is_empty_literal, literal_items, quoted_items};
use crate::sql::groups::{distinct_sets, flatten_groups, resolve_positions};
use crate::sql::item_names::{mark_outermost, name_columns, name_items};
use crate::sql::join_conditions::{check_condition, each_join, mark_as_of, nest_cross_joins, settle_condition};
use crate::sql::outside::visit_outside_mut;
use crate::sql::parse::{fold, interval_literal, is_reserved};
use crate::sql::rows::{each_field, is_row, row_in, rows_compared};
use crate::sql::small_literals::{type_literal, type_literals_within, type_values, without_exponent};
use crate::sql::subqueries::{self, Values};
use crate::sql::value_rows::select_subqueries;
use crate::sql::visit::{self, Walk, WalkMut};
use crate::sql::{
    aggregate_input, calls, counted_rows, distinct_on, flat_arrays, frames, from_functions, grouped, hypothetical,
    like, limits, literal_casts, log, named_windows, order_names, order_subqueries, ordered_sets, quantified,
    quoted_numbers, records, recursion, set_items, unnest, variadic, window,
};

/// Rewrites a query in place. With `mark_all`, every item beside a wildcard in the outermost SELECT gets a name of its
/// own, as the last resort against repeated names.
pub fn rewrite_query(query: &mut Query, mark_all: bool) -> Result<()> {
    if mark_all {
        mark_outermost(&mut query.body);
    }
    match query.walk_mut(&mut Rewriter) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(error) => Err(*error),
    }
}

pub fn rewrite_expression(expr: &mut Expr) -> Result<()> {
    match expr.walk_mut(&mut Rewriter) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(error) => Err(*error),
    }
}

struct Rewriter;

impl VisitorMut for Rewriter {
    type Break = Box<Error>;

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<Box<Error>> {
        if !query.locks.is_empty() {
            return refuse("FOR UPDATE or FOR SHARE");
        }
        order_names::uncover(query);
        order_subqueries::compute(query);
        order_names::uncover(query);
        order_subqueries::compute(query);
        if let Err(error) = limits::settle(query) {
            return ControlFlow::Break(Box::new(error));
        }
        if let Some(ast::OrderBy { kind: ast::OrderByKind::Expressions(items), .. }) = &query.order_by {
            for item in items {
                match &item.expr {
                    Expr::Value(value) if matches!(value.value, Value::SingleQuotedString(_)) => {
                        return ControlFlow::Break(Box::new(Error::syntax("non-integer constant in ORDER BY")));
                    }
                    Expr::UnaryOp { op: ast::UnaryOperator::Minus, expr: inner } if is_number(inner) => {
                        let message = format!("ORDER BY position {} is not in select list", item.expr);
                        return ControlFlow::Break(Box::new(Error::new("42P10", message)));
                    }
                    _ => {}
                }
            }
        }
        if let Some(ast::OrderBy { kind: ast::OrderByKind::Expressions(items), .. }) = &mut query.order_by {
            items.iter_mut().try_for_each(|item| spell_out_subqueries(&mut item.expr))?;
        }
        distinct_on::agree(query);
        if let Err(error) = named_windows::resolve_order(query) {
            return ControlFlow::Break(Box::new(error));
        }
        aggregate_input::keep_order(query);
        ordered_sets::rewrite(query);
        if let Err(error) = recursion::prepare(query) {
            return ControlFlow::Break(Box::new(error));
        }
        if let Err(error) = select_subqueries(&mut query.body) {
            return ControlFlow::Break(Box::new(error));
        }
        if let Err(error) = set_items::name_apart(query) {
            return ControlFlow::Break(Box::new(error));
        }
        type_values(&mut query.body);
        replace_table_command(&mut query.body)
    }

    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<Box<Error>> {
        if select.into.is_some() {
            return ControlFlow::Break(Box::new(
                Error::syntax("SELECT ... INTO is not allowed here")
                    .hint("It makes a table, as CREATE TABLE … AS does."),
            ));
        }
        for item in &select.projection {
            if let SelectItem::ExprWithAlias { alias, .. } = item
                && alias.quote_style == Some('\'')
            {
                let error = Error::syntax(format!("syntax error at or near \"'{}'\"", alias.value));
                return ControlFlow::Break(Box::new(error));
            }
        }
        select.from.iter_mut().try_for_each(nest_cross_joins)?;
        select.from.iter_mut().try_for_each(|from| each_join(from, &mut mark_as_of))?;
        distinct_sets(select);
        if let Err(error) = hypothetical::check(select)
            .and_then(|()| grouped::grouping_of_all(select))
            .and_then(|()| grouped::derive(select))
        {
            return ControlFlow::Break(Box::new(error));
        }
        // A text alone is what a boolean may be written as.
        for condition in select.selection.iter_mut().chain(&mut select.having) {
            if crate::sql::values::quoted_text(condition).is_some() {
                *condition = cast(condition.clone(), ast::DataType::Boolean);
            }
        }
        select.selection.iter_mut().try_for_each(subqueries::row_conditions)?;
        select.selection.iter_mut().chain(&mut select.having).try_for_each(subqueries::keep_conditions)?;
        if let Some(having) = &mut select.having {
            visit_outside_mut(having, |expr| match expr {
                Expr::Function(call) if is_aggregate(call) => spell_out_subqueries(expr),
                _ => ControlFlow::Continue(()),
            })?;
        }
        select.from.iter_mut().try_for_each(|from| each_join(from, &mut check_condition))?;
        flatten_groups(select);
        counted_rows::mark(select);
        aggregate_input::take_order(select);
        if let Err(error) = resolve_positions(select) {
            return ControlFlow::Break(Box::new(error));
        }
        select.from.iter_mut().try_for_each(|from| each_join(from, &mut settle_condition))?;
        if let ast::GroupByExpr::Expressions(groups, _) = &mut select.group_by {
            groups.iter_mut().try_for_each(spell_out_subqueries)?;
        }
        name_items(select);
        if let Err(error) = named_windows::resolve(select) {
            return ControlFlow::Break(Box::new(error));
        }
        for item in &mut select.projection {
            if let SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } = item {
                type_literal(expr);
                flat_arrays::flatten_matches(expr);
                if let Err(error) = calls::unnest_sets(expr) {
                    return ControlFlow::Break(Box::new(error));
                }
                spell_out_subqueries(expr)?;
            }
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<Box<Error>> {
        if let TableFactor::Derived { lateral, subquery, .. } = factor
            && (*lateral || matches!(subquery.body.as_ref(), SetExpr::SetOperation { .. }))
        {
            name_columns(&mut subquery.body);
        }
        match log::rewrite(factor) {
            Ok(Some(marked)) => *factor = marked,
            Ok(None) => {}
            Err(error) => return ControlFlow::Break(Box::new(error)),
        }
        match records::rewrite(factor) {
            Ok(Some(derived)) => *factor = derived,
            Ok(None) => {}
            Err(error) => return ControlFlow::Break(Box::new(error)),
        }
        match window::rewrite(factor) {
            Ok(Some(derived)) => *factor = derived,
            Ok(None) => {}
            Err(error) => return ControlFlow::Break(Box::new(error)),
        }
        if let Err(error) = from_functions::of_session(factor) {
            return ControlFlow::Break(Box::new(error));
        }
        match factor {
            TableFactor::Table { name, args: None, .. } if matches!(name.0.as_slice(), [part] if part.as_ident().is_some_and(is_reserved)) =>
            {
                return ControlFlow::Break(Box::new(Error::syntax(format!("syntax error at or near \"{name}\""))));
            }
            TableFactor::Table { version: Some(_), .. } => {
                let error = Error::unsupported("FOR SYSTEM_TIME AS OF of anything but the right side of a join");
                return ControlFlow::Break(Box::new(error.hint("SELECT … AS OF reads all relations as they were.")));
            }
            TableFactor::Table { sample: Some(_), .. } => return refuse("TABLESAMPLE"),
            _ => {}
        }
        if let Err(error) = from_functions::rewrite(factor) {
            return ControlFlow::Break(Box::new(error));
        }
        unnest::rewrite(factor)?;
        match from_functions::of_one_row(factor) {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => ControlFlow::Break(Box::new(error)),
        }
    }

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<Box<Error>> {
        cast_items(expr);
        if let Expr::Function(function) = expr {
            if let Err(error) = calls::check_arguments(function).and_then(|()| frames::mark(function)) {
                return ControlFlow::Break(Box::new(error));
            }
            calls::rows_as_json(function);
            aggregate_input::keep_constants(function);
        }
        type_literals_within(expr);
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<Box<Error>> {
        if let Expr::Interval(_) = expr {
            return match interval_literal(expr) {
                Some(Ok(interval)) => {
                    *expr = interval_expr(&interval.to_string());
                    ControlFlow::Continue(())
                }
                Some(Err(error)) => ControlFlow::Break(Box::new(error)),
                None => refuse("INTERVAL of anything but a literal"),
            };
        }
        if let Some(value) = subqueries::rows_in(expr)? {
            *expr = value;
            return ControlFlow::Continue(());
        }
        let taken = std::mem::replace(expr, Expr::Value(Value::Null.into()));
        match rewrite_expr(taken) {
            Ok(rewritten) => *expr = rewritten,
            Err(error) => return ControlFlow::Break(Box::new(error)),
        }
        match expr {
            Expr::InSubquery { subquery, .. } => subqueries::name_in(subquery),
            Expr::BinaryOp { op: BinaryOperator::Or, .. } => subqueries::spell_out_not_in(expr),
            _ => ControlFlow::Continue(()),
        }
    }
}

/// IN, EXISTS, ANY and ALL as values.
pub(super) fn spell_out_subqueries(expr: &mut Expr) -> ControlFlow<Box<Error>> {
    expr.walk_mut(&mut Values)
}

/// What the clock's words with a number of digits after the second are.
fn of_clock(name: &str) -> Option<fn(Option<u64>) -> ast::DataType> {
    match name {
        "current_timestamp" => Some(|digits| ast::DataType::Timestamp(digits, ast::TimezoneInfo::Tz)),
        "localtimestamp" => Some(|digits| ast::DataType::Timestamp(digits, ast::TimezoneInfo::None)),
        "localtime" => Some(|digits| ast::DataType::Time(digits, ast::TimezoneInfo::None)),
        _ => None,
    }
}

pub(super) fn refuse(what: &str) -> ControlFlow<Box<Error>> {
    ControlFlow::Break(Box::new(Error::unsupported(what)))
}

fn rewrite_expr(expr: Expr) -> Result<Expr> {
    let expr = quoted_numbers::settle(expr);
    Ok(match expr {
        Expr::Value(value) => match &value.value {
            Value::Number(digits, _) if digits.bytes().all(|b| b.is_ascii_digit()) => {
                // Beyond a bigint it is a numeric.
                let large = digits.len() >= 19 && digits.parse::<i64>().is_err() && digits.len() <= 38;
                if large { number(&format!("{digits}.")) } else { Expr::Value(value) }
            }
            Value::Number(number, _) => without_exponent(number).unwrap_or(Expr::Value(value)),
            Value::UnicodeStringLiteral(text) => Expr::Value(Value::SingleQuotedString(text.clone()).into()),
            _ => Expr::Value(value),
        },
        Expr::InList { expr, list, negated } => match row_in(&expr, &list) {
            Some(found) if negated => {
                Expr::Nested(Box::new(Expr::UnaryOp { op: ast::UnaryOperator::Not, expr: Box::new(found) }))
            }
            Some(found) => found,
            None => Expr::InList { expr, list, negated },
        },
        // Of no elements none is equal, and all are.
        Expr::AnyOp { left, right, .. } if is_empty_literal(&right) => {
            let known = Expr::Value(Value::Boolean(false).into());
            Expr::Nested(Box::new(binary(Expr::IsNull(left), BinaryOperator::And, known)))
        }
        Expr::AllOp { left, right, .. } if is_empty_literal(&right) => {
            let known = Expr::Value(Value::Boolean(true).into());
            Expr::Nested(Box::new(binary(Expr::IsNull(left), BinaryOperator::Or, known)))
        }
        // `x = ANY (ARRAY[1, 2])` and `x = ANY ('{1,2}')`, whose items are of what x is.
        Expr::AnyOp { left, compare_op: BinaryOperator::Eq, right, is_some } => match literal_items(&right) {
            Some(list) => Expr::InList { expr: left, list, negated: false },
            None => match *right {
                Expr::Subquery(subquery) => Expr::InSubquery { expr: left, subquery, negated: false },
                right => any_of(left, BinaryOperator::Eq, right, is_some),
            },
        },
        Expr::AllOp { left, compare_op: BinaryOperator::NotEq, right } => match literal_items(&right) {
            Some(list) => Expr::InList { expr: left, list, negated: true },
            None => match *right {
                Expr::Subquery(subquery) => Expr::InSubquery { expr: left, subquery, negated: true },
                right => Expr::AllOp { left, compare_op: BinaryOperator::NotEq, right: Box::new(right) },
            },
        },
        Expr::AnyOp { left, compare_op, right, is_some } => match right.as_ref() {
            Expr::Subquery(subquery) => match quantified::any(&left, &compare_op, subquery)? {
                Some(spelt_out) => spelt_out,
                None => Expr::AnyOp { left, compare_op, right, is_some },
            },
            _ => match quoted_items(&left, &right) {
                Some(items) => each(&left, &compare_op, items, BinaryOperator::Or),
                None => any_of(left, compare_op, *right, is_some),
            },
        },
        Expr::AllOp { left, compare_op, right } => match right.as_ref() {
            Expr::Subquery(subquery) => match quantified::all(&left, &compare_op, subquery)? {
                Some(spelt_out) => spelt_out,
                None => Expr::AllOp { left, compare_op, right },
            },
            _ => match quoted_items(&left, &right) {
                Some(items) => each(&left, &compare_op, items, BinaryOperator::And),
                None => Expr::AllOp { left, compare_op, right },
            },
        },
        // A row is NULL where all of its fields are, and not NULL where none is.
        Expr::IsNull(row) if is_row(&row) => each_field(&row, Expr::IsNull),
        Expr::IsNotNull(row) if is_row(&row) => each_field(&row, Expr::IsNotNull),
        // Whether it is known, and not only whether it is true.
        Expr::IsNull(_)
        | Expr::IsNotNull(_)
        | Expr::IsUnknown(_)
        | Expr::IsNotUnknown(_)
        | Expr::IsFalse(_)
        | Expr::IsNotFalse(_)
        | Expr::IsNotTrue(_) => {
            let mut expr = expr;
            if let ControlFlow::Break(error) = subqueries::spell_out_in(&mut expr) {
                return Err(*error);
            }
            expr
        }
        // By a pattern it is the first match, or what its parentheses matched.
        Expr::Substring { expr, substring_from: Some(pattern), substring_for, .. }
            if crate::sql::values::quoted_text(&pattern).is_some()
                || (is_null(&pattern)
                    && substring_for
                        .as_deref()
                        .is_some_and(|escape| crate::sql::values::quoted_text(escape).is_some())) =>
        {
            calls::substring(*expr, *pattern, substring_for.map(|escape| *escape))
        }
        Expr::UnaryOp { op, expr } => match op {
            ast::UnaryOperator::PGSquareRoot => call("sqrt", vec![*expr]),
            ast::UnaryOperator::PGCubeRoot => call("cbrt", vec![*expr]),
            ast::UnaryOperator::PGAbs => {
                let mut expr = *expr;
                type_literal(&mut expr);
                call("abs", vec![expr])
            }
            // Not the sign of its first part, as DataFusion reads it.
            ast::UnaryOperator::Minus if matches!(interval_literal(&expr), Some(Ok(_))) => {
                match interval_literal(&expr) {
                    Some(interval) => interval_expr(&interval?.negated().to_string()),
                    None => Expr::UnaryOp { op, expr },
                }
            }
            // A sign binds tighter than a power.
            ast::UnaryOperator::Minus if is_power(&expr) => {
                let mut power = *expr;
                let mut base = &mut power;
                while let Expr::BinaryOp { left, op: BinaryOperator::PGExp, .. } = base {
                    base = left;
                }
                let number = std::mem::replace(base, Expr::Value(Value::Null.into()));
                *base = nested(&rewrite_expr(Expr::UnaryOp { op, expr: Box::new(number) })?);
                power
            }
            // The least bigint, of which the digits alone are none.
            ast::UnaryOperator::Minus if is_digits(&expr, "9223372036854775808.") => {
                let least = Expr::Value(Value::SingleQuotedString(i64::MIN.to_string()).into());
                cast(least, ast::DataType::BigInt(None))
            }
            ast::UnaryOperator::BitwiseNot => {
                let ones = Expr::UnaryOp { op: ast::UnaryOperator::Minus, expr: Box::new(number("1")) };
                let ones = cast(Expr::Nested(Box::new(ones)), ast::DataType::SmallInt(None));
                Expr::Nested(Box::new(binary(nested(&expr), BinaryOperator::PGBitwiseXor, ones)))
            }
            op => Expr::UnaryOp { op, expr },
        },
        // DataFusion plans an array without what is around it, such as columns from outside a subquery.
        Expr::Array(array) if !array.elem.is_empty() && array.elem.iter().any(has_columns) => {
            call("make_array", array.elem)
        }
        Expr::AtTimeZone { timestamp, time_zone } => call("timezone", vec![*time_zone, *timestamp]),
        Expr::Function(mut function) => {
            if let Some(call) = variadic::respell(&function)? {
                return rewrite_expr(call);
            }
            // pg_catalog.lower(x) is lower(x).
            if let [schema, _] = function.name.0.as_slice()
                && schema.as_ident().is_some_and(|s| fold(s) == "pg_catalog")
            {
                function.name.0.remove(0);
            }
            if let FunctionArguments::Subquery(query) = &function.args
                && function.name.0.last().and_then(|part| part.as_ident()).is_some_and(|name| fold(name) == "array")
            {
                return Ok(aggregate_input::array_of(query.as_ref().clone()));
            }
            aggregate_input::guard_by_filter(&mut function);
            let name = function.name.to_string().to_lowercase();
            if let ("mod", Some([left, right])) = (name.as_str(), calls::arguments(&function).as_deref()) {
                return Ok(Expr::Nested(Box::new(binary(nested(left), BinaryOperator::Modulo, nested(right)))));
            }
            if let Some(filled) = calls::arguments(&function).and_then(|all| filled(&name, &all)) {
                return Ok(filled);
            }
            if let ("values", Some(row)) = (name.as_str(), calls::arguments(&function)) {
                let mut query = crate::sql::parse::query("VALUES (1)")?;
                if let SetExpr::Values(values) = query.body.as_mut() {
                    *values.rows[0] = row.to_vec();
                }
                type_values(&mut query.body);
                return Ok(Expr::Subquery(query));
            }
            if let (Some(kind), Some([Expr::Value(digits)])) = (of_clock(&name), calls::arguments(&function).as_deref())
                && let Value::Number(digits, _) = &digits.value
            {
                return Ok(cast(call("now", Vec::new()), kind(digits.parse().ok())));
            }
            if let (Some(to), Some([value])) = (calls::cast_named(&name), calls::arguments(&function).as_deref()) {
                return Ok(cast(value.clone(), to));
            }
            if let ("age", Some([moment])) = (name.as_str(), calls::arguments(&function).as_deref()) {
                let today = cast(call("now", Vec::new()), ast::DataType::Date);
                return Ok(call("age", vec![today, moment.clone()]));
            }
            if matches!(name.as_str(), "gen_random_uuid" | "uuid_generate_v4") {
                return Ok(cast(call("uuid", Vec::new()), ast::DataType::Uuid));
            }
            let renamed = [("every", "bool_and"), ("variance", "var_samp"), ("proctime", "now"), ("log10", "log")];
            if let Some((_, to)) = renamed.iter().find(|(from, _)| *from == name) {
                function.name = ObjectName::from(vec![Ident::new(*to)]);
            }
            if matches!(name.as_str(), "localtimestamp" | "localtime" | "current_date")
                && matches!(function.args, FunctionArguments::None)
            {
                let data_type = match name.as_str() {
                    "localtimestamp" => ast::DataType::Timestamp(None, ast::TimezoneInfo::None),
                    "current_date" => ast::DataType::Date,
                    _ => ast::DataType::Time(None, ast::TimezoneInfo::None),
                };
                return Ok(cast(call("now", Vec::new()), data_type));
            }
            return calls::respell(function);
        }
        Expr::TypedString(_) | Expr::Cast { .. } => literal_casts::respell(expr)?,
        Expr::Like { .. } | Expr::ILike { .. } => like::respell(expr)?,
        Expr::Overlay { expr, overlay_what, overlay_from, overlay_for } => {
            let all = [Some(expr), Some(overlay_what), Some(overlay_from), overlay_for];
            call("overlay", all.into_iter().flatten().map(|expr| *expr).collect())
        }
        Expr::CompoundFieldAccess { root, access_chain } => calls::respell_access(root, access_chain),
        Expr::BinaryOp { left, op, right } if op != BinaryOperator::Overlaps && is_row(&left) && is_row(&right) => {
            match rows_compared(&left, &op, &right) {
                Some(compared) => Expr::Nested(Box::new(compared)),
                None => Expr::BinaryOp { left, op, right },
            }
        }
        Expr::SimilarTo { negated, expr, pattern, escape_char } => {
            calls::similar(negated, *expr, *pattern, escape_char)
        }
        Expr::BinaryOp { left, op: BinaryOperator::Overlaps, right } => match calls::overlaps(&left, &right) {
            Some(call) => call,
            None => return Err(Error::syntax("wrong number of parameters on a side of OVERLAPS expression")),
        },
        other => other,
    })
}

/// Whether a call is one of the aggregates that are asked for by name here.
pub fn is_aggregate(call: &Function) -> bool {
    const AGGREGATES: &[&str] =
        &["count", "sum", "avg", "min", "max", "array_agg", "string_agg", "bool_and", "bool_or", "every"];
    let name = call.name.0.last().and_then(|part| part.as_ident());
    call.over.is_none() && name.is_some_and(|name| AGGREGATES.contains(&fold(name).as_str()))
}

pub fn has_columns(expr: &Expr) -> bool {
    let found = visit::visit_expressions(expr, |expr| match expr {
        Expr::Identifier(_) | Expr::CompoundIdentifier(_) => ControlFlow::Break(()),
        _ => ControlFlow::Continue(()),
    });
    found.is_break()
}

pub fn is_number(expr: &Expr) -> bool {
    matches!(expr, Expr::Value(value) if matches!(value.value, Value::Number(..)))
}

fn is_digits(expr: &Expr, digits: &str) -> bool {
    matches!(expr, Expr::Value(value) if matches!(&value.value, Value::Number(number, _) if number == digits))
}

fn is_null(expr: &Expr) -> bool {
    matches!(expr, Expr::Value(value) if value.value == Value::Null)
}

fn is_power(expr: &Expr) -> bool {
    matches!(expr, Expr::BinaryOp { op: BinaryOperator::PGExp, .. })
}

pub fn whole_number(expr: &Expr) -> Option<i64> {
    match expr {
        Expr::Value(value) => match &value.value {
            Value::Number(digits, _) if digits.bytes().all(|b| b.is_ascii_digit()) => digits.parse().ok(),
            _ => None,
        },
        _ => None,
    }
}

pub fn nested(expr: &Expr) -> Expr {
    Expr::Nested(Box::new(expr.clone()))
}

pub fn number(digits: &str) -> Expr {
    Expr::Value(Value::Number(digits.into(), false).into())
}

pub fn binary(left: Expr, op: BinaryOperator, right: Expr) -> Expr {
    Expr::BinaryOp { left: Box::new(left), op, right: Box::new(right) }
}

pub fn cast(expr: Expr, data_type: ast::DataType) -> Expr {
    Expr::Cast { kind: ast::CastKind::DoubleColon, expr: Box::new(expr), data_type, array: false, format: None }
}

pub fn interval_expr(text: &str) -> Expr {
    Expr::Interval(ast::Interval {
        value: Box::new(Expr::Value(Value::SingleQuotedString(text.to_string()).into())),
        leading_field: None,
        leading_precision: None,
        last_field: None,
        fractional_seconds_precision: None,
    })
}

pub fn call(name: &str, arguments: Vec<Expr>) -> Expr {
    let args = arguments.into_iter().map(|e| FunctionArg::Unnamed(FunctionArgExpr::Expr(e))).collect();
    Expr::Function(Function {
        name: ObjectName::from(vec![Ident::new(name)]),
        uses_odbc_syntax: false,
        parameters: FunctionArguments::None,
        args: FunctionArguments::List(FunctionArgumentList { duplicate_treatment: None, args, clauses: Vec::new() }),
        filter: None,
        null_treatment: None,
        over: None,
        within_group: Vec::new(),
    })
}

pub fn call_star(name: &str) -> Expr {
    match call(name, Vec::new()) {
        Expr::Function(mut function) => {
            if let FunctionArguments::List(list) = &mut function.args {
                list.args.push(FunctionArg::Unnamed(FunctionArgExpr::Wildcard));
            }
            Expr::Function(function)
        }
        other => other,
    }
}

fn replace_table_command(body: &mut SetExpr) -> ControlFlow<Box<Error>> {
    match body {
        SetExpr::Table(table) => {
            let name = [table.schema_name.as_deref(), table.table_name.as_deref()]
                .into_iter()
                .flatten()
                .collect::<Vec<_>>()
                .join(".");
            match crate::sql::parse::query(&format!("SELECT * FROM {name}")) {
                Ok(query) => *body = *query.body,
                Err(error) => return ControlFlow::Break(Box::new(error)),
            }
        }
        SetExpr::SetOperation { left, right, .. } => {
            replace_table_command(left)?;
            replace_table_command(right)?;
        }
        SetExpr::Insert(_) | SetExpr::Update(_) | SetExpr::Delete(_) | SetExpr::Merge(_) => {
            return refuse("INSERT, UPDATE or DELETE in WITH or as a subquery");
        }
        SetExpr::Select(_) | SetExpr::Query(_) | SetExpr::Values(_) => {}
    }
    ControlFlow::Continue(())
}

fn placeholder(expr: &Expr) -> Option<usize> {
    match expr {
        Expr::Value(value) => match &value.value {
            Value::Placeholder(name) => name.strip_prefix('$')?.parse().ok(),
            _ => None,
        },
        _ => None,
    }
}

/// The types that casts and LIMIT give to parameters: `$2::bigint` says that `$2` is one.
pub fn cast_parameters(query: &Query) -> Vec<(usize, ast::DataType)> {
    struct Casts(Vec<(usize, ast::DataType)>);
    impl ast::Visitor for Casts {
        type Break = ();
        fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
            if let Some(ast::LimitClause::LimitOffset { limit, offset, .. }) = &query.limit_clause {
                let counts = limit.iter().chain(offset.iter().map(|offset| &offset.value));
                self.0.extend(counts.filter_map(placeholder).map(|number| (number, ast::DataType::BigInt(None))));
            }
            ControlFlow::Continue(())
        }
        fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
            if let Expr::Cast { expr, data_type, .. } = expr
                && let Some(number) = placeholder(expr)
            {
                self.0.push((number, data_type.clone()));
            }
            ControlFlow::Continue(())
        }
    }
    let mut casts = Casts(Vec::new());
    let _ = query.walk(&mut casts);
    casts.0
}
