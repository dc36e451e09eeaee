//! Functions in FROM that return a set: arrays, and what is an array of their rows, become lateral subqueries.
//!
//! ```text
//!   l, unnest(l.a, l.b) WITH ORDINALITY u (x, y)
//!   l, LATERAL (SELECT unnest(l.a) AS x, unnest(l.b) AS y, unnest(generate_series(1, greatest(…))) AS ordinality) u
//!
//!   jsonb_each(j) e      LATERAL (SELECT unnest(mr_jsonb_each_keys(j)) AS key, unnest(mr_jsonb_values(j))::jsonb AS value) e
//! ```

use std::ops::ControlFlow;

use sqlparser::ast::{self, Expr, FunctionArg, FunctionArgExpr, Ident, ObjectName, TableAlias, TableFactor};

use crate::error::{Error, Result};
use crate::sql::calls;
use crate::sql::parse::{fold, query};
use crate::sql::rewrite::{call, cast, is_number};

/// What of a table factor is to be unnested.
pub struct Arrays {
    /// The name without an alias.
    pub name: &'static str,
    pub columns: Vec<Array>,
    pub ordinality: bool,
}

/// One of the arrays.
pub struct Array {
    pub expr: Expr,
    /// What its items are, where the array does not tell it.
    pub item: Option<ast::DataType>,
    /// The column's name, whatever the alias.
    pub name: Option<&'static str>,
}

impl From<Expr> for Array {
    fn from(expr: Expr) -> Self {
        Array { expr, item: None, name: None }
    }
}

pub fn rewrite(factor: &mut TableFactor) -> ControlFlow<Box<Error>> {
    let (arrays, alias) = match factor {
        TableFactor::UNNEST { alias, array_exprs, with_ordinality, .. } => {
            let columns = array_exprs.iter().cloned().map(Array::from).collect();
            (Arrays { name: "unnest", columns, ordinality: *with_ordinality }, alias)
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
    match lateral(arrays, alias) {
        Ok(derived) => *factor = derived,
        Err(error) => return ControlFlow::Break(Box::new(error)),
    }
    ControlFlow::Continue(())
}

/// The lateral subquery.
pub fn lateral(arrays: Arrays, alias: Option<TableAlias>) -> Result<TableFactor> {
    let name = alias.as_ref().map_or_else(|| arrays.name.to_string(), |alias| fold(&alias.name));
    let single = if arrays.columns.len() == 1 { name.clone() } else { "unnest".to_string() };
    let given = alias.iter().flat_map(|alias| &alias.columns).map(|column| fold(&column.name));
    let mut names = given.map(Some).chain(std::iter::repeat(None));
    let mut items: Vec<String> = Vec::new();
    for Array { expr, item, name } in &arrays.columns {
        let name = names.next().flatten().unwrap_or_else(|| name.map_or_else(|| single.clone(), str::to_string));
        let items_of = call("unnest", vec![expr.clone()]);
        let typed = item.iter().fold(items_of, |items, item| cast(items, item.clone()));
        items.push(format!("{typed} AS {}", quoted(&name)));
    }
    if arrays.ordinality {
        let name = names.next().flatten().unwrap_or_else(|| "ordinality".into());
        let lengths: Vec<String> = arrays.columns.iter().map(|array| format!("cardinality({})", array.expr)).collect();
        items.push(format!(
            "unnest(mr_series(1::bigint, greatest({})::bigint)) AS {}",
            lengths.join(", "),
            quoted(&name)
        ));
    }
    let subquery = query(&format!("SELECT {}", items.join(", ")))?;
    let alias = TableAlias { explicit: true, name: Ident::with_quote('"', name), columns: Vec::new(), at: None };
    Ok(TableFactor::Derived { lateral: true, subquery, alias: Some(alias), sample: None })
}

/// A call of a function that returns a set; `None` for other functions, and for a series of numbers that are written out.
fn called(name: &ObjectName, args: &[FunctionArg], ordinality: bool) -> Option<Arrays> {
    let exprs = args.iter().map(|arg| match arg {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => Some(expr.clone()),
        _ => None,
    });
    let exprs = exprs.collect::<Option<Vec<Expr>>>()?;
    let name = name.to_string().to_lowercase();
    match name.as_str() {
        "unnest" => Some(Arrays { name: "unnest", columns: exprs.into_iter().map(Array::from).collect(), ordinality }),
        "generate_series" => {
            let plain = |e: &Expr| match e {
                Expr::UnaryOp { op: ast::UnaryOperator::Minus, expr } => is_number(expr),
                other => is_number(other),
            };
            if exprs.iter().all(plain) && !ordinality {
                return None;
            }
            Some(Arrays { name: "generate_series", columns: vec![calls::series(exprs).into()], ordinality })
        }
        name => calls::set_in_from(name, exprs, ordinality),
    }
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
