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
    ObjectName, Query, Select, SelectItem, SetExpr, TableFactor, Value, VisitMut, VisitorMut,
};

use crate::error::{Error, Result};
use crate::sql::groups::{flatten_groups, resolve_positions};
use crate::sql::item_names::{mark_outermost, name_columns, name_items};
use crate::sql::parse::{fold, interval_literal, is_reserved};
use crate::sql::rows::{each_field, is_row, row_in, rows_compared};
use crate::sql::subqueries::{self, Values};
use crate::sql::{
    aggregate_input, calls, counted_rows, frames, from_functions, functions, grouped, hypothetical, limits, log,
    named_windows, ordered_sets, quantified, records, recursion, types, unnest, variadic, window,
};

/// Rewrites a query in place. With `mark_all`, every item beside a wildcard in the outermost SELECT gets a name of its
/// own, as the last resort against repeated names.
pub fn rewrite_query(query: &mut Query, mark_all: bool) -> Result<()> {
    if mark_all {
        mark_outermost(&mut query.body);
    }
    match query.visit(&mut Rewriter) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(error) => Err(*error),
    }
}

pub fn rewrite_expression(expr: &mut Expr) -> Result<()> {
    match expr.visit(&mut Rewriter) {
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
        type_values(&mut query.body);
        replace_table_command(&mut query.body)
    }

    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<Box<Error>> {
        if select.into.is_some() {
            return ControlFlow::Break(Box::new(
                Error::unsupported("SELECT INTO").hint("Use CREATE TABLE … AS or CREATE MATERIALIZED VIEW."),
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
        if let Err(error) = check_names(&select.from) {
            return ControlFlow::Break(Box::new(error));
        }
        for join in select.from.iter_mut().flat_map(|from| &mut from.joins) {
            mark_as_of(join)?;
        }
        if let Err(error) = hypothetical::check(select).and_then(|()| grouped::derive(select)) {
            return ControlFlow::Break(Box::new(error));
        }
        select.selection.iter_mut().try_for_each(subqueries::row_conditions)?;
        select.selection.iter_mut().chain(&mut select.having).try_for_each(subqueries::keep_conditions)?;
        select.from.iter().flat_map(|from| &from.joins).try_for_each(check_condition)?;
        flatten_groups(select);
        counted_rows::mark(select);
        aggregate_input::take_order(select);
        if let Err(error) = resolve_positions(select) {
            return ControlFlow::Break(Box::new(error));
        }
        for join in select.from.iter_mut().flat_map(|from| &mut from.joins) {
            if let Some(on) = condition_of_outer(join) {
                spell_out_subqueries(on)?;
            } else if let ast::JoinOperator::Join(ast::JoinConstraint::On(on))
            | ast::JoinOperator::Inner(ast::JoinConstraint::On(on)) = &mut join.join_operator
            {
                subqueries::keep_conditions_of_join(on)?;
            }
        }
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
                if let Err(error) = calls::unnest_sets(expr) {
                    return ControlFlow::Break(Box::new(error));
                }
                spell_out_subqueries(expr)?;
            }
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<Box<Error>> {
        if let TableFactor::Derived { lateral: true, subquery, .. } = factor {
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

/// A join that the parser took for GLOBAL is an ASOF join (`parse/source.rs`): its condition is marked.
fn mark_as_of(join: &mut ast::Join) -> ControlFlow<Box<Error>> {
    use ast::{JoinConstraint, JoinOperator as J};
    if let TableFactor::NestedJoin { table_with_joins, .. } = &mut join.relation {
        table_with_joins.joins.iter_mut().try_for_each(mark_as_of)?;
    }
    if !std::mem::take(&mut join.global) {
        return ControlFlow::Continue(());
    }
    match &mut join.join_operator {
        J::Join(JoinConstraint::On(on))
        | J::Inner(JoinConstraint::On(on))
        | J::Left(JoinConstraint::On(on))
        | J::LeftOuter(JoinConstraint::On(on)) => {
            let condition = std::mem::replace(on, Expr::Value(Value::Null.into()));
            *on = call(crate::sql::as_of::MARK, vec![condition]);
            ControlFlow::Continue(())
        }
        J::Join(_) | J::Inner(_) | J::Left(_) | J::LeftOuter(_) => {
            let error = Error::syntax("ASOF JOIN needs ON with a condition");
            ControlFlow::Break(Box::new(error.hint("Write ON l.key = r.key AND l.time >= r.time.")))
        }
        _ => refuse("ASOF JOIN that keeps the rows of its right side"),
    }
}

/// The condition of a join that keeps rows without a match.
fn condition_of_outer(join: &mut ast::Join) -> Option<&mut Expr> {
    use ast::{JoinConstraint, JoinOperator as J};
    match &mut join.join_operator {
        J::Left(JoinConstraint::On(on))
        | J::LeftOuter(JoinConstraint::On(on))
        | J::Right(JoinConstraint::On(on))
        | J::RightOuter(JoinConstraint::On(on))
        | J::FullOuter(JoinConstraint::On(on)) => Some(on),
        _ => None,
    }
}

/// IN, EXISTS, ANY and ALL as values.
fn spell_out_subqueries(expr: &mut Expr) -> ControlFlow<Box<Error>> {
    expr.visit(&mut Values)?;
    match quantified::spell_out_in(expr) {
        Ok(()) => ControlFlow::Continue(()),
        Err(error) => ControlFlow::Break(Box::new(error)),
    }
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

/// A join without a condition is a forgotten one.
fn check_condition(join: &ast::Join) -> ControlFlow<Box<Error>> {
    use ast::{JoinConstraint, JoinOperator as J};
    if let TableFactor::NestedJoin { table_with_joins, .. } = &join.relation {
        table_with_joins.joins.iter().try_for_each(check_condition)?;
    }
    match &join.join_operator {
        J::Join(JoinConstraint::None)
        | J::Inner(JoinConstraint::None)
        | J::Left(JoinConstraint::None)
        | J::LeftOuter(JoinConstraint::None)
        | J::Right(JoinConstraint::None)
        | J::RightOuter(JoinConstraint::None)
        | J::FullOuter(JoinConstraint::None) => {
            let error = Error::syntax("a join needs ON or USING").hint("Write CROSS JOIN for all pairs of rows.");
            ControlFlow::Break(Box::new(error))
        }
        _ => ControlFlow::Continue(()),
    }
}

fn refuse(what: &str) -> ControlFlow<Box<Error>> {
    ControlFlow::Break(Box::new(Error::unsupported(what)))
}

fn rewrite_expr(expr: Expr) -> Result<Expr> {
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
            Some(found) if negated => Expr::UnaryOp { op: ast::UnaryOperator::Not, expr: Box::new(found) },
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
            quantified::spell_out_in(&mut expr)?;
            expr
        }
        // By a pattern it is the first match, or what its parentheses matched.
        Expr::Substring { expr, substring_from: Some(pattern), substring_for, .. }
            if crate::sql::values::quoted_text(&pattern).is_some() =>
        {
            calls::substring(*expr, *pattern, substring_for.map(|escape| *escape))
        }
        Expr::UnaryOp { op, expr } => match op {
            ast::UnaryOperator::PGSquareRoot => call("sqrt", vec![*expr]),
            ast::UnaryOperator::PGCubeRoot => call("cbrt", vec![*expr]),
            ast::UnaryOperator::PGAbs => call("abs", vec![*expr]),
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
                *base = rewrite_expr(Expr::UnaryOp { op, expr: Box::new(number) })?;
                power
            }
            // The least bigint, of which the digits alone are none.
            ast::UnaryOperator::Minus if is_digits(&expr, "9223372036854775808.") => {
                let least = Expr::Value(Value::SingleQuotedString(i64::MIN.to_string()).into());
                cast(least, ast::DataType::BigInt(None))
            }
            ast::UnaryOperator::BitwiseNot => {
                let ones = Expr::UnaryOp { op: ast::UnaryOperator::Minus, expr: Box::new(number("1")) };
                binary(*expr, BinaryOperator::PGBitwiseXor, ones)
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
            if name == "gen_random_uuid" {
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
        Expr::TypedString(typed) if has_digits(&typed.data_type) => cast(Expr::Value(typed.value), typed.data_type),
        Expr::Cast { data_type: ast::DataType::Interval { fields: Some(fields), .. }, .. }
            if !fields.to_string().ends_with("SECOND") =>
        {
            return Err(Error::unsupported(format!("a cast to interval {fields}")).hint("Cast to interval."));
        }
        // Of its own digits, more than the type numeric has here.
        Expr::Cast { expr, data_type, .. } if is_numeric(&data_type) && long_fraction(&expr).is_some() => {
            long_fraction(&expr).map_or(Expr::Value(Value::Null.into()), |digits| number(&digits))
        }
        Expr::Cast { expr, data_type, kind, array, format } if is_blank_padded(&data_type) => {
            let data_type = match crate::sql::values::quoted_text(&expr) {
                Some(text) => as_long_as(text),
                None => data_type,
            };
            Expr::Cast { expr, data_type, kind, array, format }
        }
        Expr::Like { any: true, .. } | Expr::ILike { any: true, .. } => like_each(expr, BinaryOperator::Or)?,
        // Read as a call of a function.
        Expr::Like { ref pattern, .. } | Expr::ILike { ref pattern, .. } if array_of(pattern, "all").is_some() => {
            like_each(expr, BinaryOperator::And)?
        }
        Expr::Like { ref pattern, .. } | Expr::ILike { ref pattern, .. } if array_of(pattern, "some").is_some() => {
            like_each(expr, BinaryOperator::Or)?
        }
        Expr::Like { negated, any, expr, pattern, escape_char } => {
            let (pattern, escape_char) = escaped(pattern, escape_char)?;
            Expr::Like { negated, any, expr, pattern, escape_char }
        }
        Expr::ILike { negated, any, expr, pattern, escape_char } => {
            let (pattern, escape_char) = escaped(pattern, escape_char)?;
            Expr::ILike { negated, any, expr, pattern, escape_char }
        }
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

/// `bpchar`, a char of any length: PostgreSQL shows `c = 'x'` as `c = 'x'::bpchar`.
fn is_blank_padded(data_type: &ast::DataType) -> bool {
    matches!(data_type, ast::DataType::Custom(name, modifiers) if modifiers.is_empty()
        && name.0.last().and_then(|part| part.as_ident()).is_some_and(|word| word.value.eq_ignore_ascii_case("bpchar")))
}

fn as_long_as(text: &str) -> ast::DataType {
    let length = (text.chars().count() as u64).max(1);
    ast::DataType::Char(Some(ast::CharacterLength::IntegerLength { length, unit: None }))
}

fn is_numeric(data_type: &ast::DataType) -> bool {
    use ast::DataType as T;
    let (T::Numeric(info) | T::Decimal(info) | T::Dec(info)) = data_type else { return false };
    *info == ast::ExactNumberInfo::None
}

/// A literal's digits, with or without quotes, if there are more after the point than `numeric` has.
fn long_fraction(expr: &Expr) -> Option<String> {
    let text = match expr {
        Expr::Nested(inner) => return long_fraction(inner),
        Expr::Value(value) => match &value.value {
            Value::Number(digits, _) => digits.as_str(),
            _ => crate::sql::values::quoted_text(expr)?.trim(),
        },
        _ => return None,
    };
    let (whole, fraction) = text.split_once('.')?;
    let digits = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
    let long = fraction.len() > types::NUMERIC_SCALE_DEFAULT as usize && whole.len() + fraction.len() <= 38;
    (long && digits(whole) && digits(fraction)).then(|| text.to_string())
}

/// `timestamp(2)` and the like, whose literals DataFusion reads with all their digits.
fn has_digits(data_type: &ast::DataType) -> bool {
    types::sql_type_from_ast(data_type).is_ok_and(|canonical| types::moment_digits_of(&canonical).is_some())
}

/// A whole number that fits is an integer in Postgres, and a bigint to DataFusion. That shows where it is a column of
/// its own or decides the type of one: in a SELECT list, in VALUES, in CASE, and in the arguments of some functions. In
/// arithmetic the planner of operators sees to it.
fn type_literal(expr: &mut Expr) {
    fn is_small(expr: &Expr) -> bool {
        match expr {
            Expr::Value(value) => matches!(&value.value, Value::Number(digits, _) if digits.parse::<i32>().is_ok()),
            Expr::UnaryOp { op: ast::UnaryOperator::Minus | ast::UnaryOperator::Plus, expr } | Expr::Nested(expr) => {
                is_small(expr)
            }
            _ => false,
        }
    }
    if is_small(expr) {
        let literal = std::mem::replace(expr, Expr::Value(Value::Null.into()));
        *expr = cast(literal, ast::DataType::Integer(None));
    }
}

/// The same in VALUES.
fn type_values(body: &mut SetExpr) {
    match body {
        SetExpr::Values(values) => values.rows.iter_mut().flat_map(|row| row.iter_mut()).for_each(type_literal),
        SetExpr::SetOperation { left, right, .. } => {
            type_values(left);
            type_values(right);
        }
        _ => {}
    }
}

fn type_literals_within(expr: &mut Expr) {
    match expr {
        Expr::Case { conditions, else_result, .. } => {
            conditions.iter_mut().for_each(|when| type_literal(&mut when.result));
            else_result.iter_mut().for_each(|otherwise| type_literal(otherwise));
        }
        Expr::Array(array) => array.elem.iter_mut().for_each(type_literal),
        Expr::Function(function) => {
            let name = function.name.0.last().and_then(|part| part.as_ident()).map(fold).unwrap_or_default();
            let typed = [
                "coalesce",
                "nullif",
                "greatest",
                "least",
                "abs",
                "sum",
                "avg",
                "min",
                "max",
                "array_agg",
                "first_value",
                "last_value",
                "pg_typeof",
            ];
            let typed = typed.contains(&name.as_str()) || functions::is_declared(&name);
            if let (true, FunctionArguments::List(list)) = (typed, &mut function.args) {
                for argument in &mut list.args {
                    if let FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) = argument {
                        type_literal(expr);
                    }
                }
            }
        }
        _ => {}
    }
}

/// Whether a call is one of the aggregates that are asked for by name here.
pub fn is_aggregate(call: &Function) -> bool {
    const AGGREGATES: &[&str] =
        &["count", "sum", "avg", "min", "max", "array_agg", "string_agg", "bool_and", "bool_or", "every"];
    let name = call.name.0.last().and_then(|part| part.as_ident());
    call.over.is_none() && name.is_some_and(|name| AGGREGATES.contains(&fold(name).as_str()))
}

/// `VALUES (1, (SELECT 2)), …` is `SELECT 1 AS column1, (SELECT 2) AS column2 UNION ALL …`.
fn select_subqueries(body: &mut SetExpr) -> Result<()> {
    if let SetExpr::SetOperation { left, right, .. } = body {
        select_subqueries(left)?;
        return select_subqueries(right);
    }
    let SetExpr::Values(values) = body else { return Ok(()) };
    let is_subquery = |expr: &Expr| match expr {
        Expr::Subquery(_) | Expr::InSubquery { .. } | Expr::Exists { .. } => ControlFlow::Break(()),
        _ => ControlFlow::Continue(()),
    };
    if ast::visit_expressions(values, is_subquery).is_continue() {
        return Ok(());
    }
    select_rows(body)
}

/// The same of all VALUES in a query that take columns from around them; whether there were any.
pub fn select_values(query: &mut Query) -> Result<bool> {
    struct Values(bool);
    impl VisitorMut for Values {
        type Break = Box<Error>;
        fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<Box<Error>> {
            let SetExpr::Values(values) = query.body.as_ref() else { return ControlFlow::Continue(()) };
            if !values.rows.iter().any(|row| row.iter().any(has_columns)) {
                return ControlFlow::Continue(());
            }
            self.0 = true;
            match select_rows(&mut query.body) {
                Ok(()) => ControlFlow::Continue(()),
                Err(error) => ControlFlow::Break(Box::new(error)),
            }
        }
    }
    let mut values = Values(false);
    match query.visit(&mut values) {
        ControlFlow::Continue(()) => Ok(values.0),
        ControlFlow::Break(error) => Err(*error),
    }
}

/// Rows that are written out, each as a SELECT.
fn select_rows(body: &mut SetExpr) -> Result<()> {
    let SetExpr::Values(values) = body else { return Ok(()) };
    let mut selects = Vec::new();
    for mut row in std::mem::take(&mut values.rows) {
        let mut query = crate::sql::parse::query("SELECT 1")?;
        if let SetExpr::Select(select) = query.body.as_mut() {
            select.projection = std::mem::take(&mut *row)
                .into_iter()
                .enumerate()
                .map(|(i, expr)| SelectItem::ExprWithAlias { expr, alias: Ident::new(format!("column{}", i + 1)) })
                .collect();
        }
        selects.push(query.body);
    }
    let all = selects.into_iter().reduce(|left, right| {
        let (op, set_quantifier) = (ast::SetOperator::Union, ast::SetQuantifier::All);
        Box::new(SetExpr::SetOperation { op, set_quantifier, left, right })
    });
    if let Some(all) = all {
        *body = *all;
    }
    Ok(())
}

fn has_columns(expr: &Expr) -> bool {
    let found = ast::visit_expressions(expr, |expr| match expr {
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

/// The array of `LIKE ALL (array)`, or of SOME.
fn array_of(pattern: &Expr, word: &str) -> Option<Expr> {
    match pattern {
        Expr::Function(function) if function.name.to_string().eq_ignore_ascii_case(word) => match &function.args {
            FunctionArguments::Subquery(query) => Some(aggregate_input::array_of(query.as_ref().clone())),
            _ => calls::arguments(function).filter(|arguments| arguments.len() == 1).map(|mut all| all.remove(0)),
        },
        _ => None,
    }
}

/// `x LIKE ANY (array)`, the patterns being written out: one LIKE for each. NOT is of each too.
fn like_each(expr: Expr, and: BinaryOperator) -> Result<Expr> {
    let one = |item: Expr| match &expr {
        Expr::Like { negated, expr, escape_char, .. } => Some(Expr::Like {
            negated: *negated,
            any: false,
            expr: expr.clone(),
            pattern: Box::new(item),
            escape_char: escape_char.clone(),
        }),
        Expr::ILike { negated, expr, escape_char, .. } => Some(Expr::ILike {
            negated: *negated,
            any: false,
            expr: expr.clone(),
            pattern: Box::new(item),
            escape_char: escape_char.clone(),
        }),
        _ => None,
    };
    let (x, pattern, escape, negated, fold) = match &expr {
        Expr::Like { expr, pattern, escape_char, negated, .. } => (expr, pattern, escape_char, *negated, false),
        Expr::ILike { expr, pattern, escape_char, negated, .. } => (expr, pattern, escape_char, *negated, true),
        _ => return Ok(expr),
    };
    let mut array = array_of(pattern, "all").or_else(|| array_of(pattern, "some")).unwrap_or(pattern.as_ref().clone());
    while let Expr::Nested(inner) = array {
        array = *inner;
    }
    let Some(patterns) = literal_items(&array) else {
        if escape.is_some() {
            return Err(Error::unsupported("ESCAPE beside LIKE ANY and ALL"));
        }
        if let Expr::Subquery(query) = array {
            array = aggregate_input::array_of(*query);
        }
        let flag = |value: bool| Expr::Value(Value::Boolean(value).into());
        let all = flag(and == BinaryOperator::And);
        return Ok(call(functions::LIKE_EACH, vec![x.as_ref().clone(), array, all, flag(negated), flag(fold)]));
    };
    let each = patterns.into_iter().filter_map(one).map(rewrite_expr).collect::<Result<Vec<_>>>()?;
    let all = each.into_iter().reduce(|a, b| binary(a, and.clone(), b));
    let of_none = Expr::Value(Value::Boolean(and == BinaryOperator::And).into());
    Ok(Expr::Nested(Box::new(all.unwrap_or(of_none))))
}

/// `LIKE 'a#%' ESCAPE '#'` is `LIKE 'a\%'`, as DataFusion knows it.
fn escaped(pattern: Box<Expr>, escape: Option<ast::ValueWithSpan>) -> Result<(Box<Expr>, Option<ast::ValueWithSpan>)> {
    let escaping = escape.as_ref().and_then(|escape| match &escape.value {
        Value::SingleQuotedString(escape) if escape != "\\" => Some(escape.clone()),
        _ => None,
    });
    let Some(escaping) = escaping else { return Ok((pattern, escape)) };
    let Some(text) = crate::sql::values::quoted_text(&pattern) else {
        let escape = Expr::Value(Value::SingleQuotedString(escaping).into());
        return Ok((Box::new(call("mr_like_escape", vec![*pattern, escape])), None));
    };
    let spelt = functions::like_escaped(text, &escaping)?;
    // That it was escaped is told on, for bytea.
    let backslash = Value::SingleQuotedString("\\".into()).into();
    Ok((Box::new(Expr::Value(Value::SingleQuotedString(spelt).into())), Some(backslash)))
}

fn is_power(expr: &Expr) -> bool {
    matches!(expr, Expr::BinaryOp { op: BinaryOperator::PGExp, .. })
}

/// The elements of an array in quotes, if the other side may be repeated for each.
fn quoted_items(left: &Expr, right: &Expr) -> Option<Vec<Expr>> {
    let simple = matches!(left, Expr::Identifier(_) | Expr::CompoundIdentifier(_) | Expr::Value(_));
    (simple && !matches!(right, Expr::Array(_))).then(|| literal_items(right)).flatten()
}

/// `x op a AND x op b …`
fn each(left: &Expr, op: &BinaryOperator, items: Vec<Expr>, and: BinaryOperator) -> Expr {
    let all = items.into_iter().map(|item| binary(left.clone(), op.clone(), item));
    let all = all.reduce(|a, b| binary(a, and.clone(), b)).unwrap_or(Expr::Value(Value::Null.into()));
    Expr::Nested(Box::new(all))
}

/// `x op ANY (array)`: DataFusion knows of NULLs in the array only for ALL. (A parameter gets its type from the shorter
/// form.)
fn any_of(left: Box<Expr>, compare_op: BinaryOperator, right: Expr, is_some: bool) -> Expr {
    let placeholder = |expr: &Expr| match expr {
        Expr::Value(value) if matches!(value.value, Value::Placeholder(_)) => ControlFlow::Break(()),
        _ => ControlFlow::Continue(()),
    };
    let typed = ast::visit_expressions(&right, placeholder).is_continue()
        && ast::visit_expressions(left.as_ref(), placeholder).is_continue();
    match quantified::opposite(&compare_op) {
        Some(opposite) if typed => {
            let all = Expr::AllOp { left, compare_op: opposite, right: Box::new(right) };
            Expr::UnaryOp { op: ast::UnaryOperator::Not, expr: Box::new(Expr::Nested(Box::new(all))) }
        }
        _ => Expr::AnyOp { left, compare_op, right: Box::new(right), is_some },
    }
}

/// The elements of an array written out or in quotes.
fn literal_items(expr: &Expr) -> Option<Vec<Expr>> {
    if let Expr::Array(array) = expr {
        let flat = |item: &Expr| !matches!(item, Expr::Array(_) | Expr::Subquery(_)) && !has_columns(item);
        let plain = !array.elem.is_empty() && array.elem.iter().all(flat);
        return plain.then(|| array.elem.clone());
    }
    let items = crate::sql::text::nested::split_array(crate::sql::values::quoted_text(expr)?, false).ok()?;
    let literal = |item: Option<String>| Expr::Value(item.map_or(Value::Null, Value::SingleQuotedString).into());
    if items.is_empty() { None } else { Some(items.into_iter().map(literal).collect()) }
}

/// `'{}'`, an array of whatever it is compared with.
fn is_empty_literal(expr: &Expr) -> bool {
    let items = crate::sql::values::quoted_text(expr).map(|text| crate::sql::text::nested::split_array(text, false));
    matches!(items, Some(Ok(items)) if items.is_empty())
}

/// `ARRAY[a, b]::int[]` is `ARRAY[a::int, b::int]::int[]`: each element is cast from what it is. The type is one of as many
/// dimensions as are written out.
fn cast_items(expr: &mut Expr) {
    use ast::ArrayElemTypeDef::{AngleBracket, SquareBracket};
    let Expr::Cast { expr: array, data_type, kind: ast::CastKind::Cast | ast::CastKind::DoubleColon, .. } = expr else {
        return;
    };
    let (Expr::Array(array), ast::DataType::Array(SquareBracket(item, _) | AngleBracket(item))) =
        (array.as_mut(), &mut *data_type)
    else {
        return;
    };
    let dimensions = |mut data_type: &ast::DataType| {
        let mut dimensions = 0;
        while let ast::DataType::Array(SquareBracket(item, _) | AngleBracket(item)) = data_type {
            (data_type, dimensions) = (item, dimensions + 1);
        }
        dimensions
    };
    let nested = array.elem.iter().map(written_dimensions).max().unwrap_or(0);
    // How many there are, the type need not say.
    for _ in nested..dimensions(item) {
        if let ast::DataType::Array(SquareBracket(inner, _) | AngleBracket(inner)) = item.as_ref() {
            *item = inner.clone();
        }
    }
    for _ in dimensions(item)..nested {
        **item = ast::DataType::Array(SquareBracket(item.clone(), None));
    }
    for element in &mut array.elem {
        let taken = std::mem::replace(element, Expr::Value(Value::Null.into()));
        *element = cast(taken, item.as_ref().clone());
    }
}

/// Of `ARRAY[[…]]`.
fn written_dimensions(expr: &Expr) -> usize {
    match expr {
        Expr::Array(array) => 1 + array.elem.first().map_or(0, written_dimensions),
        _ => 0,
    }
}

/// Each table in FROM has a name of its own: 42712.
fn check_names(from: &[ast::TableWithJoins]) -> Result<()> {
    fn collect(factor: &TableFactor, names: &mut Vec<(String, Option<String>)>) {
        match factor {
            TableFactor::NestedJoin { table_with_joins, alias: None } => of_joins(table_with_joins, names),
            TableFactor::Table { alias: Some(alias), .. }
            | TableFactor::Derived { alias: Some(alias), .. }
            | TableFactor::UNNEST { alias: Some(alias), .. }
            | TableFactor::NestedJoin { alias: Some(alias), .. } => names.push((fold(&alias.name), None)),
            TableFactor::Table { name, args: None, .. } => {
                let parts: Vec<String> = name.0.iter().filter_map(|part| part.as_ident()).map(fold).collect();
                if let Some(last) = parts.last() {
                    names.push((last.clone(), Some(parts.join("."))));
                }
            }
            _ => {}
        }
    }
    fn of_joins(table: &ast::TableWithJoins, names: &mut Vec<(String, Option<String>)>) {
        collect(&table.relation, names);
        table.joins.iter().for_each(|join| collect(&join.relation, names));
    }
    let mut names = Vec::new();
    from.iter().for_each(|table| of_joins(table, &mut names));
    for (i, (name, full)) in names.iter().enumerate() {
        if let Some((_, its)) = names[..i].iter().find(|(other, _)| other == name) {
            let error = Error::new("42712", format!("table name \"{name}\" specified more than once"));
            // In Postgres they differ by their schemas; here a column would be taken for the other's.
            let differ = full.is_some() && its.is_some() && full != its;
            return Err(if differ { error.hint("Give tables of one name in several schemas aliases.") } else { error });
        }
    }
    Ok(())
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

/// `1e3` is the numeric 1000 where its digits can be held, a double precision otherwise.
fn without_exponent(number: &str) -> Option<Expr> {
    let (mantissa, exponent) = number.split_once(['e', 'E'])?;
    let exponent: i32 = exponent.parse().ok()?;
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let point = whole.len() as i32 + exponent;
    let digits = format!("{whole}{fraction}");
    let len = digits.len() as i32;
    if point > 38 || len - point > 38 || len.max(point).max(len - point) > 38 {
        let text = Expr::Value(Value::SingleQuotedString(number.to_string()).into());
        return Some(cast(text, ast::DataType::DoublePrecision));
    }
    let plain = match point {
        _ if point >= len => format!("{digits}{}", "0".repeat((point - len) as usize)),
        1.. => format!("{}.{}", &digits[..point as usize], &digits[point as usize..]),
        _ => format!("0.{}{digits}", "0".repeat(-point as usize)),
    };
    // A point keeps it numeric: `1e3` is no integer in Postgres.
    let plain = if plain.contains('.') { plain } else { format!("{plain}.") };
    Some(Expr::Value(Value::Number(plain, false).into()))
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
    let _ = ast::Visit::visit(query, &mut casts);
    casts.0
}
