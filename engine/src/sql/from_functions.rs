//! Functions in FROM: series, and those that return one value, which are a table of one row.
//!
//! ```text
//!   generate_series(1, 3) i     (SELECT CAST(value AS integer) AS generate_series FROM mr_series_rows(1, 3)) i (i)
//!   t, upper(t.a) u             t, LATERAL (SELECT upper(t.a) AS u) u
//!   ROWS FROM (f(), g()) r      LATERAL (SELECT f() AS f, g() AS g) r: both go on as long as one does
//!   current_date d              (SELECT current_date AS d) d
//! ```

use sqlparser::ast::{
    self, Expr, FunctionArg, FunctionArgExpr, Ident, ObjectName, TableAlias, TableAliasColumnDef, TableFactor,
};

use crate::error::{Error, Result};
use crate::sql::functions::SERIES_ROWS;
use crate::sql::parse::{fold, query};
use crate::sql::rewrite::whole_number;
use crate::sql::{calls, unnest};

/// Functions that are called without parentheses, and stand in FROM as others do.
const OF_SESSION: &[&str] = &[
    "current_date",
    "current_time",
    "current_timestamp",
    "localtime",
    "localtimestamp",
    "current_user",
    "current_role",
    "session_user",
    "current_catalog",
    "current_schema",
];

/// `SELECT * FROM current_date`: one row of it.
pub fn of_session(factor: &mut TableFactor) -> Result<()> {
    let TableFactor::Table { name, alias, args: None, version: None, .. } = factor else { return Ok(()) };
    let [part] = name.0.as_slice() else { return Ok(()) };
    let Some(ident) = part.as_ident().filter(|ident| ident.quote_style.is_none()) else { return Ok(()) };
    let function = fold(ident);
    if !OF_SESSION.contains(&function.as_str()) {
        return Ok(());
    }
    let own = alias.as_ref().map_or(function.clone(), |alias| fold(&alias.name));
    let columns = alias.take().map(|alias| alias.columns).unwrap_or_default();
    let name = Ident::with_quote('"', own);
    let row = query(&format!("SELECT {function} AS {name}"))?;
    let alias = TableAlias { explicit: true, name, columns, at: None };
    *factor = TableFactor::Derived { lateral: false, subquery: row, alias: Some(alias), sample: None };
    Ok(())
}

/// What the parser makes of ROWS FROM.
pub const ROWS_FROM: &str = "mr_rows_from";

/// Sets beside each other. Errors: 42601 for what is no call, 0A000 for the numbers of rows of sets within sets.
fn rows_from(args: &[FunctionArg], alias: &Option<TableAlias>, with_ordinality: bool) -> Result<TableFactor> {
    let items = args.iter().map(|argument| match argument {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::Function(call))) => {
            let name = call.name.0.last().and_then(|part| part.as_ident()).map(fold).unwrap_or_default();
            // What is no set is one value, and then none.
            let set = if name == "unnest" || calls::returns_set(&name) {
                call.to_string()
            } else {
                format!("unnest(ARRAY[{call}])")
            };
            Ok(format!("{set} AS {}", Ident::with_quote('"', name)))
        }
        other => Err(Error::syntax(format!("syntax error at or near \"{other}\""))),
    });
    let mut items: Vec<String> = items.collect::<Result<_>>()?;
    if with_ordinality {
        items.push(format!("generate_series(CAST(1 AS bigint), {}) AS ordinality", longest(&items)?));
    }
    let subquery = query(&format!("SELECT {}", items.join(", ")))?;
    Ok(TableFactor::Derived { lateral: true, subquery, alias: alias.clone(), sample: None })
}

/// How many rows the longest of these sets has.
fn longest(items: &[String]) -> Result<String> {
    let mut lengths = Vec::new();
    for item in items {
        let refused = || Error::unsupported(format!("ROWS FROM … WITH ORDINALITY of {item}"));
        let parsed = query(&format!("SELECT {item}"))?;
        let ast::SetExpr::Select(select) = parsed.body.as_ref() else { return Err(refused()) };
        let [ast::SelectItem::ExprWithAlias { expr, .. }] = &select.projection[..] else { return Err(refused()) };
        let arrays = calls::arrays_within(expr).ok_or_else(refused)?;
        lengths.extend(arrays.iter().map(|array| format!("cardinality({array})")));
    }
    Ok(format!("CAST(greatest({}) AS bigint)", lengths.join(", ")))
}

pub fn rewrite(factor: &mut TableFactor) -> Result<()> {
    let TableFactor::Table { name, alias, args: Some(args), with_ordinality, .. } = factor else { return Ok(()) };
    if name.0.last().and_then(|part| part.as_ident()).is_some_and(|ident| fold(ident) == ROWS_FROM) {
        *factor = rows_from(&args.args, alias, *with_ordinality)?;
        return Ok(());
    }
    name_function_column(name, alias);
    if let Some(set) = set_in_from(name, &args.args, alias, *with_ordinality)? {
        *factor = set;
    }
    Ok(())
}

/// A call of whatever is no table: one row of one value. The column is named as the table is.
pub fn of_one_row(factor: &mut TableFactor) -> Result<()> {
    let (name, args, alias, with_ordinality) = match factor {
        TableFactor::Table { name, args: Some(args), alias, with_ordinality, .. } => {
            (name, &args.args, alias, *with_ordinality)
        }
        TableFactor::Function { name, args, alias, with_ordinality, .. } => (name, &*args, alias, *with_ordinality),
        _ => return Ok(()),
    };
    let [.., part] = name.0.as_slice() else { return Ok(()) };
    let function = part.as_ident().map(fold).unwrap_or_default();
    let typed = |alias: &TableAlias| alias.columns.iter().any(|column| column.data_type.is_some());
    if function == SERIES_ROWS || function == "generate_series" || alias.as_ref().is_some_and(typed) {
        return Ok(());
    }
    let arguments: Vec<String> = args.iter().map(ToString::to_string).collect();
    let own = alias.as_ref().map_or(function, |alias| fold(&alias.name));
    let quoted = |name: &str| Ident::with_quote('"', name).to_string();
    let ordinality = if with_ordinality { ", CAST(1 AS bigint) AS ordinality" } else { "" };
    let row = format!("SELECT {name}({}) AS {}{ordinality}", arguments.join(", "), quoted(&own));
    let columns = alias.take().map(|alias| alias.columns).unwrap_or_default();
    let alias = TableAlias { explicit: true, name: Ident::with_quote('"', own), columns, at: None };
    *factor = TableFactor::Derived { lateral: true, subquery: query(&row)?, alias: Some(alias), sample: None };
    Ok(())
}

/// A function in FROM that returns a set, as an array to be unnested; a series of whole numbers that are written out is made
/// as it is read.
fn set_in_from(
    name: &ObjectName,
    args: &[FunctionArg],
    alias: &Option<TableAlias>,
    with_ordinality: bool,
) -> Result<Option<TableFactor>> {
    let [part] = name.0.as_slice() else { return Ok(None) };
    let name = part.as_ident().map(fold).unwrap_or_default();
    let mut exprs: Vec<Expr> = Vec::new();
    for arg in args {
        match arg {
            FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => exprs.push(expr.clone()),
            _ => return Ok(None),
        }
    }
    if name == "generate_series" {
        let whole = |e: &Expr| match e {
            Expr::UnaryOp { op: ast::UnaryOperator::Minus, expr } => whole_number(expr),
            other => whole_number(other),
        };
        if !with_ordinality && exprs.iter().all(|e| whole(e).is_some()) {
            let small = exprs.iter().all(|e| whole(e).is_some_and(|n| n <= i32::MAX.into()));
            let bounds: Vec<String> = exprs.iter().map(|e| e.to_string()).collect();
            let value = if small { "CAST(value AS integer)" } else { "value" };
            let rows = format!("SELECT {value} AS generate_series FROM {SERIES_ROWS}({})", bounds.join(", "));
            return Ok(Some(TableFactor::Derived {
                lateral: false,
                subquery: query(&rows)?,
                alias: alias.clone(),
                sample: None,
            }));
        }
    }
    let arrays = calls::set_in_from(&name, exprs, with_ordinality);
    arrays.map(|arrays| unnest::lateral(arrays, alias.clone())).transpose()
}

/// `generate_series(1, 3) AS i` has a column i; without an alias it has the function's name.
fn name_function_column(name: &ObjectName, alias: &mut Option<TableAlias>) {
    if name.0.len() != 1 {
        return;
    }
    let function = name.0[0].as_ident().map(fold).unwrap_or_default();
    if !calls::returns_set(&function) {
        return;
    }
    let column = calls::column_in_from(&function);
    let alias = alias.get_or_insert_with(|| TableAlias {
        explicit: true,
        name: Ident::new(function),
        columns: Vec::new(),
        at: None,
    });
    if alias.columns.is_empty() {
        let name = column.map_or_else(|| alias.name.clone(), Ident::new);
        alias.columns.push(TableAliasColumnDef { name, data_type: None });
    }
}
