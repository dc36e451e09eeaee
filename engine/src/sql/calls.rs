//! Calls that are spelt otherwise before they are bound: arguments with names get their places, functions that return a
//! set become arrays to be unnested, and aggregates that are a function of the array of their values become that.
//!
//! ```text
//!   make_interval(hours => 3)                       make_interval(0, 0, 0, 0, 3)
//!   jsonb_array_elements(j)                         unnest(mr_jsonb_elements(j)); in FROM see unnest.rs
//!   jsonb_agg(x ORDER BY y)                         mr_jsonb_join(array_agg(to_jsonb(x) ORDER BY y))
//!   json_agg(x)                                     mr_json_join(array_agg(mr_json_item(x)))
//!   mode() WITHIN GROUP (ORDER BY x)                mr_mode(array_agg(x ORDER BY x))
//!   a[2], a[2:3]                                    mr_subscript(a, 2), mr_array_slice(a, 2, 3)
//!   (regexp_match(a, p))[2]                         mr_regexp_group(a, p, '', 2)
//!   to_jsonb(ROW(a, b))                             to_jsonb(mr_jsonb_row(a, b))
//! ```

use std::collections::HashSet;
use std::ops::ControlFlow;
use std::sync::LazyLock;

use datafusion::functions_aggregate::all_default_aggregate_functions;
use sqlparser::ast::{
    self, AccessExpr, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArgumentClause, FunctionArguments, Ident,
    ObjectName, Query, Subscript, VisitorMut,
};

use crate::error::{Error, Result};
use crate::sql::outside::visit_outside;
use crate::sql::parse::fold;
use crate::sql::rewrite::{binary, call, cast, is_number, nested, number};
use crate::sql::unnest::{Array, Arrays};
use crate::sql::visit::WalkMut;
use crate::sql::{grouped::is_aggregate, hypothetical};

/// A function that returns a set of values.
struct Set {
    name: &'static str,
    /// The function that returns the same as an array.
    array: &'static str,
    /// The type of the items, where an array does not tell it.
    item: Option<ast::DataType>,
    /// The column's name in FROM, where it is not the function's or the alias'.
    column: Option<&'static str>,
}

const fn set(name: &'static str, array: &'static str) -> Set {
    Set { name, array, item: None, column: None }
}

const fn elements(name: &'static str, array: &'static str, item: Option<ast::DataType>) -> Set {
    Set { name, array, item, column: Some("value") }
}

const SETS: &[Set] = &[
    elements("jsonb_array_elements", "mr_jsonb_elements", Some(ast::DataType::JSONB)),
    elements("jsonb_array_elements_text", "mr_jsonb_elements_text", None),
    elements("json_array_elements", "mr_json_elements", Some(ast::DataType::JSON)),
    elements("json_array_elements_text", "mr_json_elements_text", None),
    set("jsonb_object_keys", "mr_jsonb_keys"),
    set("json_object_keys", "mr_json_keys"),
    Set { name: "jsonb_path_query", array: "mr_jsonb_path_items", item: Some(ast::DataType::JSONB), column: None },
    set("regexp_matches", "mr_regexp_matches"),
    set("regexp_split_to_table", "regexp_split_to_array"),
    set("string_to_table", "string_to_array"),
    set("generate_subscripts", "mr_array_subscripts"),
    set("generate_series", "mr_series"),
];

/// Functions that return the fields of an object, the functions that return keys and values as arrays, and the type of
/// the values where an array does not tell it.
const FIELDS: &[(&str, &str, &str, Option<ast::DataType>)] = &[
    ("jsonb_each", "mr_jsonb_each_keys", "mr_jsonb_values", Some(ast::DataType::JSONB)),
    ("jsonb_each_text", "mr_jsonb_each_keys", "mr_jsonb_values_text", None),
    ("json_each", "mr_json_each_keys", "mr_json_values", Some(ast::DataType::JSON)),
    ("json_each_text", "mr_json_each_keys", "mr_json_values_text", None),
];

/// Names of arguments that can be given by name.
const NAMED: &[(&str, &[&str], &[&str])] = &[
    (
        "make_interval",
        &["years", "months", "weeks", "days", "hours", "mins", "secs"],
        &["0", "0", "0", "0", "0", "0", "0.0"],
    ),
    ("make_date", &["year", "month", "day"], &[]),
    ("make_time", &["hour", "min", "sec"], &[]),
    ("make_timestamp", &["year", "month", "mday", "hour", "min", "sec"], &[]),
    ("make_timestamptz", &["year", "month", "mday", "hour", "min", "sec", "timezone"], &[]),
    ("jsonb_set", &["target", "path", "new_value", "create_if_missing"], &[]),
    ("jsonb_insert", &["target", "path", "new_value", "insert_after"], &[]),
];

fn name_of(function: &Function) -> String {
    match function.name.0.as_slice() {
        [part] => part.as_ident().map(fold).unwrap_or_default(),
        _ => String::new(),
    }
}

/// The set of that name.
fn set_named(name: &str) -> Option<&'static Set> {
    SETS.iter().find(|set| set.name == name)
}

pub fn returns_set(name: &str) -> bool {
    set_named(name).is_some()
}

/// Errors where one row has one value: 0A000 for calls that return sets, 42P20 for window functions, 42803 for aggregates. `place`:
/// as in "in UPDATE".
pub fn check_one_value(expr: &Expr, place: &str) -> Result<()> {
    let refused = visit_outside(expr, |expr| {
        let Expr::Function(function) = expr else { return ControlFlow::Continue(()) };
        let name = name_of(function);
        let (code, what) = match function.over {
            Some(_) => ("42P20", "window"),
            None if name == "unnest" || returns_set(&name) => ("0A000", "set-returning"),
            None if crate::sql::grouped::is_aggregate(expr) => ("42803", "aggregate"),
            None => return ControlFlow::Continue(()),
        };
        ControlFlow::Break(Error::new(code, format!("{what} functions are not allowed in {place}")))
    });
    match refused {
        ControlFlow::Break(error) => Err(error),
        ControlFlow::Continue(()) => Ok(()),
    }
}

/// A call in FROM that returns a set, as arrays.
pub fn set_in_from(name: &str, arguments: Vec<Expr>, ordinality: bool) -> Option<Arrays> {
    let columns = match set_named(name) {
        Some(set) => vec![Array { expr: array_of(set, arguments), item: set.item.clone(), name: set.column }],
        None => {
            let (_, keys, values, item) = FIELDS.iter().find(|(known, ..)| *known == name)?;
            let array = |function: &str, item, name| Array { expr: call(function, arguments.clone()), item, name };
            vec![array(keys, None, Some("key")), array(values, item.clone(), Some("value"))]
        }
    };
    let name =
        SETS.iter().map(|set| set.name).chain(FIELDS.iter().map(|fields| fields.0)).find(|known| *known == name)?;
    Some(Arrays { name, columns, ordinality })
}

fn array_of(set: &Set, arguments: Vec<Expr>) -> Expr {
    if set.name == "generate_series" { series(arguments) } else { call(set.array, arguments) }
}

/// A series as an array. Literals take the type of the start, or are timestamps with time zone where it is one too; the step
/// of a time is an interval.
pub fn series(mut arguments: Vec<Expr>) -> Expr {
    let quoted = |e: &Expr| crate::sql::values::quoted_text(e).is_some();
    let of_start = match arguments.as_slice() {
        [Expr::Cast { data_type, .. }, ..] => Some(data_type.clone()),
        [Expr::TypedString(typed), ..] => Some(typed.data_type.clone()),
        [start, end, _] if quoted(start) && quoted(end) => Some(ast::DataType::Timestamp(None, ast::TimezoneInfo::Tz)),
        _ => None,
    };
    let interval = ast::DataType::Interval { fields: None, precision: None };
    for (i, argument) in arguments.iter_mut().enumerate().filter(|(_, e)| quoted(e)) {
        if let Some(to) = if i == 2 { Some(interval.clone()) } else { of_start.clone() } {
            *argument = cast(argument.clone(), to);
        }
    }
    call("mr_series", arguments)
}

/// The name that the one column of a set has in FROM, whatever its alias.
pub fn column_in_from(name: &str) -> Option<&'static str> {
    set_named(name)?.column
}

/// No function has a longer name. DataFusion would hold it against all that there are, letter by letter.
const NAME_BYTES_MAX: usize = 1_000;

/// Errors: 42809 for `count()`, 22016 for the value before the first, 42883 for names that are too long for any function.
pub fn check_arguments(function: &Function) -> Result<()> {
    if function.name.0.iter().filter_map(|part| part.as_ident()).any(|part| part.value.len() > NAME_BYTES_MAX) {
        return Err(Error::new("42883", format!("function {} does not exist", function.name)));
    }
    let FunctionArguments::List(list) = &function.args else { return Ok(()) };
    match (name_of(function).as_str(), list.args.as_slice()) {
        ("count", []) => Err(Error::new("42809", "count(*) must be used to call a parameterless aggregate function")),
        ("nth_value", [_, FunctionArg::Unnamed(FunctionArgExpr::Expr(n))])
            if crate::sql::rewrite::whole_number(n) == Some(0) || matches!(n, Expr::UnaryOp { .. }) =>
        {
            Err(Error::new("22016", "argument of nth_value must be greater than zero"))
        }
        _ => Ok(()),
    }
}

/// Whether a call yields one value for each row, of that row alone.
pub fn is_of_one_row(function: &Function) -> bool {
    static AGGREGATES: LazyLock<HashSet<String>> = LazyLock::new(|| {
        let mut names = HashSet::new();
        for function in all_default_aggregate_functions() {
            names.insert(function.name().to_string());
            names.extend(function.aliases().iter().cloned());
        }
        names
    });
    let name = name_of(function);
    function.over.is_none()
        && function.within_group.is_empty()
        && !name.is_empty()
        && !AGGREGATES.contains(&name)
        && !is_aggregate(&Expr::Function(function.clone()))
        && name != "unnest"
        && !returns_set(&name)
}

/// Makes arrays to be unnested of the calls in an item of the select list that return sets, those in subqueries not being
/// of it. Errors: 0A000 where one of the values would be wanted, or all of them.
pub fn unnest_sets(item: &mut Expr) -> Result<()> {
    struct Sets {
        depth: usize,
        /// Whether they are made arrays, or only looked for.
        change: bool,
        found: bool,
    }
    impl VisitorMut for Sets {
        type Break = Error;
        fn pre_visit_query(&mut self, _: &mut Query) -> ControlFlow<Error> {
            self.depth += 1;
            ControlFlow::Continue(())
        }
        fn post_visit_query(&mut self, _: &mut Query) -> ControlFlow<Error> {
            self.depth -= 1;
            ControlFlow::Continue(())
        }
        fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<Error> {
            let name = if let Expr::Function(function) = expr { name_of(function) } else { String::new() };
            let outside = self.depth == 0;
            self.depth += usize::from(is_of_catalog(expr));
            if !outside {
                return ControlFlow::Continue(());
            }
            self.found |= name == "unnest" || returns_set(&name);
            let message = match expr {
                Expr::Case { .. } => "set-returning functions are not allowed in CASE",
                _ if name == "coalesce" => "set-returning functions are not allowed in COALESCE",
                _ if is_aggregate(expr) => "aggregate function calls cannot contain set-returning function calls",
                _ => return ControlFlow::Continue(()),
            };
            if self.change && found_in(expr) {
                let hint = "You might be able to move the set-returning function into a LATERAL FROM item.";
                return ControlFlow::Break(Error::new("0A000", message).hint(hint));
            }
            ControlFlow::Continue(())
        }
        fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<Error> {
            self.depth -= usize::from(is_of_catalog(expr));
            if self.depth == 0
                && self.change
                && let Some(items) = unnested(expr)
            {
                *expr = items;
            }
            ControlFlow::Continue(())
        }
    }
    fn found_in(expr: &mut Expr) -> bool {
        let mut within = Sets { depth: 0, change: false, found: false };
        let _ = expr.walk_mut(&mut within);
        within.found
    }
    match item.walk_mut(&mut Sets { depth: 0, change: true, found: false }) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(error) => Err(error),
    }
}

/// The arrays that an item of the select list unnests; `None` where it has windows or aggregates, or sets of sets.
pub fn arrays_within(item: &Expr) -> Option<Vec<Expr>> {
    let (mut arrays, mut other) = (Vec::new(), false);
    let _ = visit_outside(item, |expr| {
        let Expr::Function(function) = expr else { return ControlFlow::<()>::Continue(()) };
        let name = name_of(function);
        match (set_named(&name), arguments(function)) {
            (Some(set), Some(arguments)) => arrays.push(array_of(set, arguments)),
            (None, Some(mut arguments)) if name == "unnest" && arguments.len() == 1 => {
                other |= is_of_catalog(expr);
                arrays.push(arguments.remove(0));
            }
            _ => other |= !is_of_one_row(function),
        }
        ControlFlow::Continue(())
    });
    (!other && arrays.len() <= 1).then_some(arrays)
}

/// `unnest(generate_subscripts(…))`, which the server writes: the function is that of the catalog, and gives an array.
fn is_of_catalog(expr: &Expr) -> bool {
    let Expr::Function(function) = expr else { return false };
    let of_one_value = |argument: &Expr| {
        matches!(argument, Expr::Function(inner)
            if matches!(name_of(inner).as_str(), "generate_subscripts" | "generate_series"))
    };
    name_of(function) == "unnest" && arguments(function).is_some_and(|all| all.iter().any(of_one_value))
}

/// A call in the select list that returns a set.
fn unnested(expr: &Expr) -> Option<Expr> {
    let Expr::Function(function) = expr else { return None };
    let set = set_named(&name_of(function))?;
    let items = call("unnest", vec![array_of(set, arguments(function)?)]);
    Some(match &set.item {
        Some(data_type) => cast(items, data_type.clone()),
        None => items,
    })
}

/// The arguments of a call that has nothing but them.
pub fn arguments(function: &Function) -> Option<Vec<Expr>> {
    let FunctionArguments::List(list) = &function.args else { return None };
    let plain = list.duplicate_treatment.is_none() && list.clauses.is_empty() && function.over.is_none();
    let arguments = list.args.iter().map(|argument| match argument {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => Some(expr.clone()),
        _ => None,
    });
    if plain { arguments.collect() } else { None }
}

/// The same call in the way in which it is bound.
pub fn respell(mut function: Function) -> Result<Expr> {
    place_named(&mut function)?;
    let name = name_of(&function);
    match name.as_str() {
        "jsonb_agg" | "json_agg" => {
            let jsonb = name == "jsonb_agg";
            // What DISTINCT compares and its order are those of the values.
            let distinct =
                matches!(&function.args, FunctionArguments::List(list) if list.duplicate_treatment.is_some());
            if distinct {
                sort_distinct(&mut function);
                let to = if jsonb { "to_jsonb" } else { "mr_json_items" };
                return Ok(call(to, vec![renamed(function, "array_agg")]));
            }
            over_array(function, if jsonb { "mr_jsonb_join" } else { "mr_json_join" }, |values| match values {
                [value] if jsonb => Some(call("to_jsonb", vec![value.clone()])),
                [value] => {
                    Some(call(if is_json_row(value) { "mr_json_line" } else { "mr_json_item" }, vec![value.clone()]))
                }
                _ => None,
            })
        }
        "jsonb_object_agg" | "json_object_agg" => {
            let join = if name == "jsonb_object_agg" { "mr_jsonb_object_join" } else { "mr_json_object_join" };
            let pair = if name == "jsonb_object_agg" { "mr_jsonb_pair" } else { "mr_json_pair" };
            over_array(function, join, |values| match values {
                [key, value] => Some(call(pair, vec![key.clone(), value.clone()])),
                _ => None,
            })
        }
        "lag" | "lead" if function.over.is_some() => match with_default(&function) {
            Some(either) => Ok(either),
            None if has_literal_offset(&function) => Ok(Expr::Function(function)),
            None => Ok(renamed(function, if name == "lag" { "mr_lag" } else { "mr_lead" })),
        },
        "nth_value" if function.over.is_some() => Ok(match nth_of_row(&function) {
            Some(element) => element,
            None => Expr::Function(function),
        }),
        "array_agg" => {
            sort_distinct(&mut function);
            Ok(Expr::Function(function))
        }
        "mode" if !function.within_group.is_empty() => ordered_set(function, "mr_mode"),
        "percentile_cont" if !function.within_group.is_empty() => {
            let list = list_of_doubles();
            ordered_set(with_fractions(function), "mr_percentile_cont").map(|call| typed_argument(call, 0, list))
        }
        name if hypothetical::NAMES.contains(&name) && !function.within_group.is_empty() => {
            hypothetical::counted(function, name)
        }
        "percentile_disc" if !function.within_group.is_empty() => {
            ordered_set(with_fractions(function), "mr_percentile_disc")
        }
        _ => Ok(Expr::Function(function)),
    }
}

/// `lag(x, 1, d) OVER w` is `CASE WHEN lag(1, 1) OVER w IS NULL THEN d ELSE lag(x, 1) OVER w END` where d is computed or may
/// be of another type than x: they are brought to one type.
fn with_default(function: &Function) -> Option<Expr> {
    let FunctionArguments::List(list) = &function.args else { return None };
    let [
        FunctionArg::Unnamed(FunctionArgExpr::Expr(_)),
        offset @ FunctionArg::Unnamed(FunctionArgExpr::Expr(rows)),
        FunctionArg::Unnamed(FunctionArgExpr::Expr(default)),
    ] = list.args.as_slice()
    else {
        return None;
    };
    let of_its_type = match default {
        Expr::Value(value) => match &value.value {
            ast::Value::Number(digits, _) => digits.bytes().all(|b| b.is_ascii_digit()),
            _ => true,
        },
        Expr::UnaryOp { expr, .. } => crate::sql::rewrite::whole_number(expr).is_some(),
        _ => false,
    };
    if of_its_type || function.null_treatment.is_some() {
        return None;
    }
    let shifted = |arguments: Vec<FunctionArg>| {
        let mut shifted = function.clone();
        if let FunctionArguments::List(list) = &mut shifted.args {
            list.args = arguments;
        }
        let name = if name_of(function) == "lag" { "mr_lag" } else { "mr_lead" };
        if has_literal_offset(&shifted) { Expr::Function(shifted) } else { renamed(shifted, name) }
    };
    let one = FunctionArg::Unnamed(FunctionArgExpr::Expr(number("1")));
    let mut missing = Expr::IsNull(Box::new(shifted(vec![one, offset.clone()])));
    if !has_literal_offset(function) {
        // By an unknown number of rows it is unknown.
        let known = Expr::IsNotNull(Box::new(nested(rows)));
        missing = binary(missing, ast::BinaryOperator::And, known);
    }
    Some(Expr::Case {
        case_token: ast::helpers::attached_token::AttachedToken::empty(),
        end_token: ast::helpers::attached_token::AttachedToken::empty(),
        operand: None,
        conditions: vec![ast::CaseWhen { condition: missing, result: default.clone() }],
        else_result: Some(Box::new(shifted(vec![list.args[0].clone(), offset.clone()]))),
    })
}

/// `nth_value(x, n) OVER w` with an `n` of each row: that element of all values of the frame.
fn nth_of_row(function: &Function) -> Option<Expr> {
    let FunctionArguments::List(list) = &function.args else { return None };
    let [value, FunctionArg::Unnamed(FunctionArgExpr::Expr(n))] = list.args.as_slice() else { return None };
    if is_number(n) || function.null_treatment.is_some() {
        return None;
    }
    let mut values = function.clone();
    if let FunctionArguments::List(list) = &mut values.args {
        list.args = vec![value.clone()];
    }
    let index = call("mr_nth", vec![n.clone()]);
    let access = AccessExpr::Subscript(ast::Subscript::Index { index });
    Some(respell_access(Box::new(Expr::Nested(Box::new(renamed(values, "array_agg")))), vec![access]))
}

/// The type that a call of a function of its name casts to.
pub fn cast_named(function: &str) -> Option<ast::DataType> {
    Some(match function {
        "int2" => ast::DataType::SmallInt(None),
        "int4" => ast::DataType::Integer(None),
        "int8" => ast::DataType::BigInt(None),
        "float4" => ast::DataType::Real,
        "float8" => ast::DataType::DoublePrecision,
        "bool" => ast::DataType::Boolean,
        "text" => ast::DataType::Text,
        "date" => ast::DataType::Date,
        "timestamptz" => ast::DataType::Timestamp(None, ast::TimezoneInfo::Tz),
        _ => return None,
    })
}

/// Of lag and lead: none, or one that is written out.
fn has_literal_offset(function: &Function) -> bool {
    let FunctionArguments::List(list) = &function.args else { return true };
    match list.args.get(1) {
        Some(FunctionArg::Unnamed(FunctionArgExpr::Expr(offset))) => match offset {
            Expr::UnaryOp { op: ast::UnaryOperator::Minus | ast::UnaryOperator::Plus, expr } => is_number(expr),
            // An offset that is NULL is not none.
            Expr::Value(value) => value.value != ast::Value::Null,
            Expr::Cast { expr, .. } => is_number(expr),
            _ => false,
        },
        _ => true,
    }
}

fn list_of_doubles() -> ast::DataType {
    ast::DataType::Array(ast::ArrayElemTypeDef::SquareBracket(Box::new(ast::DataType::DoublePrecision), None))
}

/// A percentile's fractions that are written out as an array are doubles.
fn with_fractions(mut function: Function) -> Function {
    if let FunctionArguments::List(list) = &mut function.args
        && let [FunctionArg::Unnamed(FunctionArgExpr::Expr(fractions @ Expr::Array(_)))] = list.args.as_mut_slice()
    {
        *fractions = cast(fractions.clone(), list_of_doubles());
    }
    function
}

fn typed_argument(mut call: Expr, number: usize, data_type: ast::DataType) -> Expr {
    if let Expr::Function(function) = &mut call
        && let FunctionArguments::List(list) = &mut function.args
        && let Some(FunctionArg::Unnamed(FunctionArgExpr::Expr(argument))) = list.args.get_mut(number)
    {
        *argument = cast(argument.clone(), data_type);
    }
    call
}

/// DISTINCT values come in their order, where none is asked for.
fn sort_distinct(function: &mut Function) {
    let FunctionArguments::List(list) = &mut function.args else { return };
    let distinct = matches!(list.duplicate_treatment, Some(ast::DuplicateTreatment::Distinct));
    let ordered = list.clauses.iter().any(|clause| matches!(clause, FunctionArgumentClause::OrderBy(_)));
    if let (true, false, [FunctionArg::Unnamed(FunctionArgExpr::Expr(value))]) =
        (distinct, ordered, list.args.as_slice())
    {
        let options = ast::OrderByOptions { asc: None, nulls_first: None };
        let item = ast::OrderByExpr { expr: value.clone(), options, with_fill: None };
        list.clauses.push(FunctionArgumentClause::OrderBy(vec![item]));
    }
}

fn renamed(mut function: Function, name: &str) -> Expr {
    function.name = ObjectName::from(vec![Ident::new(name)]);
    Expr::Function(function)
}

/// `join(array_agg(value …))`, the rest of the call being the inner one's.
fn over_array(mut function: Function, join: &str, value: impl Fn(&[Expr]) -> Option<Expr>) -> Result<Expr> {
    let name = name_of(&function);
    let wrong = || Error::new("42883", format!("function {name} does not exist with these arguments"));
    let FunctionArguments::List(list) = &mut function.args else { return Err(wrong()) };
    let given: Option<Vec<Expr>> = list
        .args
        .iter()
        .map(|argument| match argument {
            FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => Some(expr.clone()),
            _ => None,
        })
        .collect();
    let value = given.as_deref().and_then(value).ok_or_else(wrong)?;
    list.args = vec![FunctionArg::Unnamed(FunctionArgExpr::Expr(value))];
    Ok(call(join, vec![renamed(function, "array_agg")]))
}

/// `f(p) WITHIN GROUP (ORDER BY x)` as a function of the array of x in that order.
fn ordered_set(mut function: Function, name: &str) -> Result<Expr> {
    let parameters = arguments(&function).ok_or_else(|| Error::syntax(format!("wrong arguments of {name}")))?;
    let order = std::mem::take(&mut function.within_group);
    let [item] = order.as_slice() else {
        return Err(Error::new(
            "42883",
            format!("function {}() with several orders does not exist", name_of(&function)),
        ));
    };
    if let FunctionArguments::List(list) = &mut function.args {
        list.args = vec![FunctionArg::Unnamed(FunctionArgExpr::Expr(item.expr.clone()))];
        list.clauses.push(FunctionArgumentClause::OrderBy(order));
    }
    let mut all = vec![renamed(function, "array_agg")];
    all.extend(parameters);
    Ok(call(name, all))
}

/// Puts arguments with names where they belong.
fn place_named(function: &mut Function) -> Result<()> {
    let name = name_of(function);
    let FunctionArguments::List(list) = &mut function.args else { return Ok(()) };
    if !list.args.iter().any(|argument| matches!(argument, FunctionArg::Named { .. })) {
        return Ok(());
    }
    let unknown = || Error::new("42883", format!("function {name} does not exist with these arguments"));
    let (_, names, defaults) = NAMED.iter().find(|(known, ..)| *known == name).ok_or_else(unknown)?;
    let mut places: Vec<Option<FunctionArg>> = Vec::new();
    for argument in std::mem::take(&mut list.args) {
        match argument {
            FunctionArg::Named { name, arg, .. } => {
                let at = names.iter().position(|known| *known == fold(&name)).ok_or_else(unknown)?;
                places.resize(places.len().max(at + 1), None);
                if places[at].replace(FunctionArg::Unnamed(arg)).is_some() {
                    return Err(Error::syntax(format!("argument name \"{}\" used more than once", fold(&name))));
                }
            }
            other => places.push(Some(other)),
        }
    }
    let filled = places.into_iter().enumerate().map(|(i, place)| {
        place.or_else(|| defaults.get(i).map(|value| FunctionArg::Unnamed(FunctionArgExpr::Expr(number(value)))))
    });
    list.args = filled.collect::<Option<_>>().ok_or_else(unknown)?;
    Ok(())
}

/// Rows that become json: as such they know the types of their fields.
pub fn rows_as_json(function: &mut Function) {
    let row = match name_of(function).as_str() {
        "to_jsonb" | "jsonb_build_object" | "jsonb_build_array" | "jsonb_agg" | "jsonb_object_agg" | "mr_jsonb_row" => {
            "mr_jsonb_row"
        }
        "to_json" | "row_to_json" | "json_build_object" | "json_build_array" | "json_agg" | "json_object_agg"
        | "mr_json_row" => "mr_json_row",
        _ => return,
    };
    let FunctionArguments::List(list) = &mut function.args else { return };
    for argument in &mut list.args {
        let FunctionArg::Unnamed(FunctionArgExpr::Expr(argument)) = argument else { continue };
        let fields = match &*argument {
            Expr::Tuple(fields) => Some(fields.clone()),
            Expr::Function(inner) if name_of(inner) == "row" => arguments(inner),
            _ => None,
        };
        if let Some(fields) = fields {
            *argument = call(row, fields);
        }
    }
}

/// A row that has become json.
fn is_json_row(value: &Expr) -> bool {
    matches!(value, Expr::Function(function) if name_of(function) == "mr_json_row")
}

/// Subscripts of arrays and of jsonb; fields of rows stay what they are.
pub fn respell_access(root: Box<Expr>, chain: Vec<AccessExpr>) -> Expr {
    let (root, chain) = super::table_access::with_table(root, chain);
    let subscripts: Option<Vec<&Subscript>> = chain
        .iter()
        .map(|access| match access {
            AccessExpr::Subscript(subscript) => Some(subscript),
            AccessExpr::Dot(_) => None,
        })
        .collect();
    let Some(subscripts) = subscripts else {
        // DataFusion wants a field's name in quotes.
        let field = |access| match access {
            AccessExpr::Dot(Expr::Identifier(name)) => {
                AccessExpr::Dot(Expr::Value(ast::Value::SingleQuotedString(fold(&name)).into()))
            }
            other => other,
        };
        return Expr::CompoundFieldAccess { root, access_chain: chain.into_iter().map(field).collect() };
    };
    if let [Subscript::Index { index }] = subscripts[..]
        && let Some(group) = group_of_match(&root, index)
    {
        return group;
    }
    let slices = subscripts.iter().any(|subscript| matches!(subscript, Subscript::Slice { .. }));
    let mut all = vec![*root];
    for subscript in subscripts {
        match subscript {
            Subscript::Index { index } if !slices => all.push(index.clone()),
            // Beside a slice an index is the slice from 1 to it.
            Subscript::Index { index } => all.extend([number("1"), index.clone()]),
            Subscript::Slice { lower_bound, upper_bound, .. } => {
                all.push(lower_bound.clone().unwrap_or_else(|| number("1")));
                all.push(upper_bound.clone().unwrap_or_else(|| number(&i32::MAX.to_string())));
            }
        }
    }
    call(if slices { "mr_array_slice" } else { "mr_subscript" }, all)
}

/// `(regexp_match(text, pattern, flags))[n]`, without the array.
fn group_of_match(root: &Expr, index: &Expr) -> Option<Expr> {
    let root = match root {
        Expr::Nested(inner) => inner,
        other => other,
    };
    let Expr::Function(function) = root else { return None };
    let mut args = arguments(function).filter(|args| (2..=3).contains(&args.len()))?;
    if name_of(function) != "regexp_match" {
        return None;
    }
    if args.len() == 2 {
        args.push(Expr::Value(ast::Value::SingleQuotedString(String::new()).into()));
    }
    args.push(index.clone());
    Some(call("mr_regexp_group", args))
}

/// `(a, b) OVERLAPS (c, d)`: periods of time that have a moment in common. Ends may come in any order, and the second may
/// be how long the period is.
pub fn overlaps(left: &Expr, right: &Expr) -> Option<Expr> {
    match (left, right) {
        (Expr::Tuple(left), Expr::Tuple(right)) if left.len() == 2 && right.len() == 2 => {
            Some(call("overlaps", left.iter().chain(right).cloned().collect()))
        }
        _ => None,
    }
}

/// A pattern of SIMILAR TO.
pub fn similar(negated: bool, expr: Expr, pattern: Expr, escape: Option<ast::ValueWithSpan>) -> Expr {
    let mut all = vec![expr, pattern];
    all.extend(escape.map(Expr::Value));
    let similar = call("mr_similar", all);
    match negated {
        true => Expr::UnaryOp { op: ast::UnaryOperator::Not, expr: Box::new(similar) },
        false => similar,
    }
}

/// `substring(x FROM 'pattern')`, and with `FOR` an escape character.
pub fn substring(expr: Expr, from: Expr, length: Option<Expr>) -> Expr {
    match length {
        None => call("mr_substring_match", vec![expr, from]),
        Some(escape) => call("mr_substring_similar", vec![expr, from, escape]),
    }
}
