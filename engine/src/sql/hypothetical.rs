//! Hypothetical-set aggregates, which say where a row would stand among those of a group: counts of the rows before it.
//!
//! ```text
//!   rank(5) WITHIN GROUP (ORDER BY v)    count(*) FILTER (WHERE v < 5) + 1
//! ```

use std::ops::ControlFlow;

use sqlparser::ast::{self, Expr, Function, OrderByExpr, Select};

use crate::error::{Error, Result};
use crate::sql::calls::arguments;
use crate::sql::outside::visit_outside;
use crate::sql::parse::parse_expression;
use crate::sql::visit;

pub const NAMES: &[&str] = &["rank", "dense_rank", "percent_rank", "cume_dist"];

/// The row of such a call is one for a group: its columns are those of groups. Errors: 42803 where there are none, 0A000 where
/// some group does not have them.
pub fn check(select: &Select) -> Result<()> {
    let mut column = None;
    let mut find = |expr: &Expr| {
        let Expr::Function(function) = expr else { return ControlFlow::<()>::Continue(()) };
        let name = function.name.to_string().to_lowercase();
        if !function.within_group.is_empty() && NAMES.contains(&name.as_str()) {
            let _ = visit::visit_expressions(&function.args, |expr| {
                if matches!(expr, Expr::Identifier(_) | Expr::CompoundIdentifier(_)) {
                    column = Some(expr.to_string());
                }
                ControlFlow::<()>::Continue(())
            });
        }
        ControlFlow::Continue(())
    };
    let _ = visit_outside(&select.projection, &mut find);
    let _ = visit_outside(&select.having, &mut find);
    let (Some(column), ast::GroupByExpr::Expressions(groups, _)) = (column, &select.group_by) else {
        return Ok(());
    };
    let sets = |group: &Expr| matches!(group, Expr::GroupingSets(_) | Expr::Rollup(_) | Expr::Cube(_));
    if groups.iter().any(sets) {
        return Err(Error::unsupported("a column as the row of a hypothetical-set aggregate beside GROUPING SETS"));
    }
    if groups.is_empty() {
        let message =
            format!("column \"{column}\" must appear in the GROUP BY clause or be used in an aggregate function");
        return Err(Error::new("42803", message));
    }
    Ok(())
}

/// Such a call, `name` being what it calls.
pub fn counted(mut function: Function, name: &str) -> Result<Expr> {
    let order = std::mem::take(&mut function.within_group);
    let filter = function.filter.take();
    let given = arguments(&function).unwrap_or_default();
    if given.len() != order.len() {
        let message = format!("function {name} does not exist with as many arguments and orders");
        return Err(Error::new("42883", message));
    }
    let mut before = String::new();
    let mut equal = String::from("true");
    for (item, value) in order.iter().zip(&given).rev() {
        let own = comes_before(item, value);
        let same = format!("(({}) IS NOT DISTINCT FROM ({value}))", item.expr);
        before = if before.is_empty() { own } else { format!("({own} OR ({same} AND {before}))") };
        equal = format!("({same} AND {equal})");
    }
    let count = |what: &str, condition: Option<&str>| {
        let all: Vec<String> =
            condition.map(str::to_string).into_iter().chain(filter.iter().map(|f| format!("({f})"))).collect();
        match all.is_empty() {
            true => format!("count({what})"),
            false => format!("count({what}) FILTER (WHERE {})", all.join(" AND ")),
        }
    };
    let (all, first) = (count("*", None), count("*", Some(&before)));
    let text = match (name, order.as_slice()) {
        ("rank", _) => format!("({first} + 1)"),
        // NULLs are one value more.
        ("dense_rank", [item]) => {
            let v = item.expr.to_string();
            let known = count(&format!("DISTINCT {v}"), Some(&before));
            let nulls = count(&format!("DISTINCT ({v}) IS NULL"), Some(&format!("{before} AND ({v}) IS NULL")));
            format!("({known} + {nulls} + 1)")
        }
        ("dense_rank", _) => return Err(Error::unsupported("dense_rank WITHIN GROUP of several orders")),
        ("percent_rank", _) => {
            format!("(CASE WHEN {all} = 0 THEN 0::double precision ELSE {first}::double precision / {all} END)")
        }
        _ => {
            let up_to = count("*", Some(&format!("({before} OR {equal})")));
            format!("(({up_to} + 1)::double precision / ({all} + 1))")
        }
    };
    parse_expression(&text)
}

/// Whether a row stands before the hypothetical one, by one item of the order alone.
fn comes_before(item: &OrderByExpr, value: &Expr) -> String {
    let ascending = item.options.asc.unwrap_or(true);
    let nulls_first = item.options.nulls_first.unwrap_or(!ascending);
    let (v, op) = (&item.expr, if ascending { "<" } else { ">" });
    let (null, known) = if nulls_first { ("IS NULL", "IS NOT NULL") } else { ("IS NOT NULL", "IS NULL") };
    format!("(({v}) {op} ({value}) OR (({v}) {null} AND ({value}) {known}))")
}
