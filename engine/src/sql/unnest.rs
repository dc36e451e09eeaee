//! UNNEST and generate_series in FROM, where their arguments are columns of what stands before them, where there are
//! several arrays, or WITH ORDINALITY: they become lateral subqueries.
//!
//! ```text
//!   l, unnest(l.a, l.b) WITH ORDINALITY u (x, y)
//!   l, LATERAL (SELECT unnest(l.a) AS x, unnest(l.b) AS y, unnest(generate_series(1, greatest(…))) AS ordinality) u
//! ```

use std::ops::ControlFlow;

use sqlparser::ast::{self, Expr, FunctionArg, FunctionArgExpr, Ident, ObjectName, TableAlias, TableFactor};

use crate::error::Error;
use crate::sql::parse::{fold, query};
use crate::sql::rewrite::{call, cast, is_number};

/// What of a table factor is to be unnested.
struct Arrays {
    /// The name without an alias.
    name: &'static str,
    exprs: Vec<Expr>,
    ordinality: bool,
}

pub fn rewrite(factor: &mut TableFactor) -> ControlFlow<Box<Error>> {
    let (arrays, alias) = match factor {
        TableFactor::UNNEST { alias, array_exprs, with_ordinality, .. } => {
            (Arrays { name: "unnest", exprs: array_exprs.clone(), ordinality: *with_ordinality }, alias)
        }
        TableFactor::Table { name, alias, args: Some(args), with_ordinality, .. } => {
            match called(name, &args.args, *with_ordinality) {
                Some(arrays) => (arrays, alias),
                None => return ControlFlow::Continue(()),
            }
        }
        TableFactor::Function { name, alias, args, with_ordinality, .. } => {
            match called(name, args, *with_ordinality) {
                Some(arrays) => (arrays, alias),
                None => return ControlFlow::Continue(()),
            }
        }
        _ => return ControlFlow::Continue(()),
    };
    let alias = alias.take();
    let name = alias.as_ref().map_or_else(|| arrays.name.to_string(), |alias| fold(&alias.name));
    let single = if arrays.exprs.len() == 1 { name.clone() } else { "unnest".to_string() };
    let given = alias.iter().flat_map(|alias| &alias.columns).map(|column| fold(&column.name));
    let mut names = given.map(Some).chain(std::iter::repeat(None));
    let mut items: Vec<String> = Vec::new();
    for array in &arrays.exprs {
        let name = names.next().flatten().unwrap_or_else(|| single.clone());
        items.push(format!("unnest({array}) AS {}", quoted(&name)));
    }
    if arrays.ordinality {
        let name = names.next().flatten().unwrap_or_else(|| "ordinality".into());
        let lengths: Vec<String> = arrays.exprs.iter().map(|array| format!("array_length({array}, 1)")).collect();
        items.push(format!(
            "unnest(mr_series(1::bigint, greatest({})::bigint)) AS {}",
            lengths.join(", "),
            quoted(&name)
        ));
    }
    let subquery = match query(&format!("SELECT {}", items.join(", "))) {
        Ok(subquery) => subquery,
        Err(error) => return ControlFlow::Break(Box::new(error)),
    };
    let alias = TableAlias { explicit: true, name: Ident::with_quote('"', name), columns: Vec::new(), at: None };
    *factor = TableFactor::Derived { lateral: true, subquery, alias: Some(alias), sample: None };
    ControlFlow::Continue(())
}

/// A call of unnest or generate_series; `None` for other functions, and for a series of numbers that are written out.
fn called(name: &ObjectName, args: &[FunctionArg], ordinality: bool) -> Option<Arrays> {
    let exprs = args.iter().map(|arg| match arg {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => Some(expr.clone()),
        _ => None,
    });
    let exprs = exprs.collect::<Option<Vec<Expr>>>()?;
    match name.to_string().to_lowercase().as_str() {
        "unnest" => Some(Arrays { name: "unnest", exprs, ordinality }),
        "generate_series" => {
            let plain = |e: &Expr| match e {
                Expr::UnaryOp { op: ast::UnaryOperator::Minus, expr } => is_number(expr),
                other => is_number(other),
            };
            if exprs.iter().all(plain) && !ordinality {
                return None;
            }
            Some(Arrays { name: "generate_series", exprs: vec![series(exprs)?], ordinality })
        }
        _ => None,
    }
}

/// A series as an array: literals take the type of the start; the step of a time is an interval.
fn series(mut exprs: Vec<Expr>) -> Option<Expr> {
    let of_start = match exprs.first()? {
        Expr::Cast { data_type, .. } => Some(data_type.clone()),
        Expr::TypedString(typed) => Some(typed.data_type.clone()),
        _ => None,
    };
    let quoted = |e: &Expr| crate::sql::values::quoted_text(e).is_some();
    for (i, expr) in exprs.iter_mut().enumerate().skip(1).filter(|(_, e)| quoted(e)) {
        let to =
            if i == 2 { Some(ast::DataType::Interval { fields: None, precision: None }) } else { of_start.clone() };
        if let Some(to) = to {
            *expr = cast(expr.clone(), to);
        }
    }
    Some(call("mr_series", exprs))
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
