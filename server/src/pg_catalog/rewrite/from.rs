//! FROM: functions become derived tables, since DataFusion's table functions take constants only.
//!
//! ```text
//! FROM unnest(a.x) WITH ORDINALITY AS t(v, n)
//!   -> LATERAL (SELECT get_field(unnest(with_ordinality(a.x)), 'x') AS v,
//!                      get_field(unnest(with_ordinality(a.x)), 'n') AS n) AS t
//! FROM pg_get_keywords() k          -> LATERAL (SELECT get_field(unnest(pg_get_keywords()), 'word') AS word, …) AS k
//! FROM current_schema()             -> LATERAL (SELECT current_schema() AS current_schema) AS current_schema
//! ```

use std::collections::HashMap;

use millrace_engine::{Error, Result};
use sqlparser::ast::{FunctionArg, FunctionArgExpr, Ident, ObjectName, TableAlias, TableFactor, TableWithJoins};

use super::{fold, parse_query, parts};
use crate::pg_catalog::functions;
use millrace_engine::sql::keywords::quote_ident;

/// The tables of a FROM clause by alias.
pub fn tables(from: &[TableWithJoins]) -> HashMap<String, ObjectName> {
    let mut found = HashMap::new();
    for item in from {
        for factor in std::iter::once(&item.relation).chain(item.joins.iter().map(|j| &j.relation)) {
            if let TableFactor::Table { name, alias, args: None, .. } = factor {
                let alias = alias.as_ref().map(|a| fold(&a.name)).or_else(|| parts(name).pop());
                found.extend(alias.map(|a| (a, name.clone())));
            } else if let TableFactor::NestedJoin { table_with_joins, .. } = factor {
                found.extend(tables(std::slice::from_ref(table_with_joins)));
            }
        }
    }
    found
}

/// Functions that the engine has in FROM.
const OF_ENGINE: &[&str] = &["unnest", "generate_series", "generate_subscripts"];

/// `of_system`: the query reads a system relation, so that these too are ours, over its arrays.
pub fn rewrite(factor: &mut TableFactor, of_system: bool) -> Result<()> {
    let of_engine = match factor {
        TableFactor::UNNEST { .. } => true,
        TableFactor::Function { name, .. } | TableFactor::Table { name, args: Some(_), .. } => {
            OF_ENGINE.contains(&function_name(name).as_str())
        }
        _ => false,
    };
    if of_engine && !of_system {
        return Ok(());
    }
    let replacement = match factor {
        TableFactor::Function { name, args, with_ordinality, alias, .. } => {
            derived(&function_name(name), arguments(args)?, *with_ordinality, alias)?
        }
        TableFactor::Table { name, args: Some(args), with_ordinality, alias, .. } => {
            derived(&function_name(name), arguments(&args.args)?, *with_ordinality, alias)?
        }
        TableFactor::UNNEST { alias, array_exprs, with_ordinality, .. } => {
            derived("unnest", array_exprs.iter().map(ToString::to_string).collect(), *with_ordinality, alias)?
        }
        TableFactor::TableFunction { .. } => return Ok(()),
        _ => return Ok(()),
    };
    if let Some(replacement) = replacement {
        *factor = replacement;
    }
    Ok(())
}

fn function_name(name: &ObjectName) -> String {
    parts(name).pop().unwrap_or_default()
}

fn arguments(args: &[FunctionArg]) -> Result<Vec<String>> {
    args.iter()
        .map(|a| match a {
            FunctionArg::Unnamed(FunctionArgExpr::Expr(e)) => Ok(e.to_string()),
            other => Err(Error::unsupported(format!("argument {other} in FROM"))),
        })
        .collect()
}

/// The derived table for a function; None for one that is the engine's own.
fn derived(
    name: &str,
    arguments: Vec<String>,
    ordinality: bool,
    alias: &Option<TableAlias>,
) -> Result<Option<TableFactor>> {
    let declared = functions::find(name);
    let list = arguments.join(", ");
    // Expressions of the columns, with the names that they have unless the alias says otherwise.
    let mut columns: Vec<(String, String)> = match (name, declared) {
        // As many numbers as the longest of them has elements.
        ("unnest", _) if ordinality && arguments.len() > 1 => {
            let lengths: Vec<String> = arguments.iter().map(|a| format!("coalesce(cardinality({a}), 0)")).collect();
            let numbers = format!("unnest(series(1, greatest({})))", lengths.join(", "));
            let arrays = arguments.iter().map(|a| (format!("unnest({a})"), "unnest".into()));
            arrays.chain([(numbers, "ordinality".into())]).collect()
        }
        ("unnest", _) if ordinality => {
            let array = &list;
            let rows = format!("unnest(with_ordinality({array}))");
            vec![
                (format!("get_field({rows}, 'x')"), "unnest".into()),
                (format!("get_field({rows}, 'n')"), "ordinality".into()),
            ]
        }
        ("unnest", _) => arguments.iter().map(|a| (format!("unnest({a})"), "unnest".into())).collect(),
        ("generate_series", _) => vec![(format!("unnest(series({list}))"), name.into())],
        ("generate_subscripts", _) => vec![(format!("unnest({name}({list}))"), name.into())],
        (_, Some(declaration)) => match functions::row_columns(declaration) {
            Some(columns) => {
                let field = |c: &str| (format!("get_field(unnest({name}({list})), '{c}')"), c.to_string());
                columns.into_iter().map(field).collect()
            }
            None => vec![(format!("{name}({list})"), name.into())],
        },
        _ => return Ok(None),
    };
    if ordinality && name == "pg_partition_ancestors" {
        // Nothing has another one than itself.
        columns.push(("CAST(1 AS bigint)".into(), "ordinality".into()));
    } else if ordinality && name != "unnest" {
        return Err(Error::unsupported(format!("{name} WITH ORDINALITY")));
    }
    let single = columns.len() == 1;
    let alias_name = alias.as_ref().map_or_else(|| name.to_string(), |a| fold(&a.name));
    for (i, column) in columns.iter_mut().enumerate() {
        match alias.as_ref().and_then(|a| a.columns.get(i)) {
            Some(given) => column.1 = fold(&given.name),
            // The column of a function of one column has the name of the table.
            None if single => column.1 = alias_name.clone(),
            None => {}
        }
    }
    let items: Vec<String> = columns.iter().map(|(e, n)| format!("{e} AS {}", quote_ident(n))).collect();
    let subquery = parse_query(&format!("SELECT {}", items.join(", ")))?;
    Ok(Some(TableFactor::Derived {
        lateral: true,
        subquery: Box::new(subquery),
        alias: Some(TableAlias {
            explicit: true,
            name: Ident::with_quote('"', alias_name),
            columns: Vec::new(),
            at: None,
        }),
        sample: None,
    }))
}
