//! Windows in FROM: TUMBLE, HOP, CUMULATE and SESSION become ordinary SQL over a derived table, before anything is bound, so
//! that ad-hoc SELECTs and views know nothing of them.
//!
//! ```text
//!   TUMBLE(t, ts, INTERVAL '1 minute') w
//!     (SELECT *, mr_window_start(ts, size, offset) AS window_start,
//!                mr_shift(mr_window_start(ts, size, offset), size) AS window_end FROM t WHERE ts IS NOT NULL) w
//!   HOP(t, ts, slide, size)
//!     (SELECT *, mr_shift(window_start, size) AS window_end FROM
//!        (SELECT *, unnest(mr_hop_starts(ts, slide, size, offset)) AS window_start FROM t WHERE ts IS NOT NULL) t) t
//!   CUMULATE(t, ts, step, size)
//!     (SELECT *, mr_window_start(ts, size, offset) AS window_start,
//!                unnest(mr_cumulate(ts, step, size, offset)) AS window_end FROM t WHERE ts IS NOT NULL) t
//!   SESSION(t PARTITION BY k, ts, gap)
//!     (SELECT *, mr_session_start(ts, gap) OVER (PARTITION BY k ORDER BY ts) AS window_start,
//!                mr_session_end(ts, gap) OVER (PARTITION BY k ORDER BY ts) AS window_end
//!      FROM t WHERE mr_shift(ts, gap) IS NOT NULL) t
//! ```
//!
//! `t` is a name or a subquery in parentheses; `TABLE t, DESCRIPTOR(ts)` and `DATA => …, TIMECOL => …, SIZE => …` say the
//! same. PARTITION BY comes from the parser as an argument `mr_partition(k)`. A session ends a gap after its last row,
//! and a row at that very moment begins another. Windows are half-open and aligned to 1970-01-01 UTC plus the offset, before 1970 too. A row without a time is
//! in no window. Lengths are literals of days and less, because months differ.

use sqlparser::ast::{self, Expr, FunctionArg, FunctionArgExpr, ObjectName, TableFactor};

use crate::error::{Error, Result};
use crate::sql::interval::Interval;
use crate::sql::parse::{fold, interval_literal, name_of, query};

/// Windows that one row may be in.
const WINDOWS_PER_ROW_MAX: i64 = 10_000;

/// Stands for PARTITION BY among the arguments.
pub const PARTITION: &str = "mr_partition";

/// The derived table for a window function in FROM; `None` when `factor` is none.
pub fn rewrite(factor: &TableFactor) -> Result<Option<TableFactor>> {
    let TableFactor::Table { name, args: Some(args), alias, .. } = factor else { return Ok(None) };
    let Some(kind) = window_kind(name) else { return Ok(None) };
    let (partition, rest): (Vec<_>, Vec<_>) = args.args.iter().partition(|argument| partition_of(argument).is_some());
    if !partition.is_empty() && kind != "session" {
        return Err(Error::unsupported(format!("PARTITION BY in {}", kind.to_uppercase()))
            .hint("Windows that are not sessions are the same for all rows; group by the column instead."));
    }
    let arguments = Arguments::read(kind, &rest)?;
    let (own_name, source) = source_of(kind, arguments.data)?;
    let ts = column_of(arguments.time)?;
    let size = length(kind, if kind == "session" { "gap" } else { "size" }, arguments.size)?;
    let offset = match arguments.offset {
        Some(offset) => interval(kind, "offset", offset)?,
        None => Interval::default(),
    };
    let alias = match alias {
        // Without its AS, which is written below.
        Some(alias) => ast::TableAlias { explicit: false, ..alias.clone() }.to_string(),
        None => quoted(&own_name),
    };
    let start = format!("mr_window_start({ts}, INTERVAL '{size}', INTERVAL '{offset}')");
    let from = format!("FROM {source} WHERE {ts} IS NOT NULL");
    let text = match kind {
        "tumble" => {
            format!("SELECT *, {start} AS window_start, mr_shift({start}, INTERVAL '{size}') AS window_end {from}")
        }
        "hop" => {
            let slide = length(kind, "slide", arguments.step.expect("read for hop"))?;
            check_count(kind, &size, &slide)?;
            format!(
                "SELECT *, mr_shift(window_start, INTERVAL '{size}') AS window_end FROM (SELECT *, \
                 unnest(mr_hop_starts({ts}, INTERVAL '{slide}', INTERVAL '{size}', INTERVAL '{offset}')) AS window_start {from}) AS {}",
                quoted(&own_name)
            )
        }
        "session" => {
            let columns = partition.into_iter().filter_map(partition_of).flatten();
            let columns = columns.map(partition_column).collect::<Result<Vec<_>>>()?;
            let by = if columns.is_empty() { String::new() } else { format!("PARTITION BY {} ", columns.join(", ")) };
            let bound = |which: &str| {
                format!("mr_session_{which}({ts}, INTERVAL '{size}') OVER ({by}ORDER BY {ts}) AS window_{which}")
            };
            let (start, end) = (bound("start"), bound("end"));
            format!("SELECT *, {start}, {end} FROM {source} WHERE mr_shift({ts}, INTERVAL '{size}') IS NOT NULL")
        }
        _ => {
            let step = length(kind, "step", arguments.step.expect("read for cumulate"))?;
            check_count(kind, &size, &step)?;
            if microseconds(&size) % microseconds(&step) != 0 {
                return Err(Error::invalid_value("the size of CUMULATE must be a multiple of its step"));
            }
            format!(
                "SELECT *, {start} AS window_start, \
                 unnest(mr_cumulate({ts}, INTERVAL '{step}', INTERVAL '{size}', INTERVAL '{offset}')) AS window_end {from}"
            )
        }
    };
    let query = query(&format!("SELECT * FROM ({text}) AS {alias}"))?;
    let ast::SetExpr::Select(mut select) = *query.body else { unreachable!("a SELECT was parsed") };
    Ok(Some(select.from.remove(0).relation))
}

pub fn window_kind(name: &ObjectName) -> Option<&'static str> {
    let [part] = name.0.as_slice() else { return None };
    let word = fold(part.as_ident()?);
    ["tumble", "hop", "cumulate", "session"].into_iter().find(|kind| *kind == word)
}

struct Arguments<'a> {
    data: &'a Expr,
    time: &'a Expr,
    /// Slide of HOP, step of CUMULATE.
    step: Option<&'a Expr>,
    size: &'a Expr,
    offset: Option<&'a Expr>,
}

impl<'a> Arguments<'a> {
    fn read(kind: &str, arguments: &[&'a FunctionArg]) -> Result<Self> {
        let names: &[&str] = match kind {
            "tumble" => &["data", "timecol", "size", "offset"],
            "hop" => &["data", "timecol", "slide", "size", "offset"],
            "cumulate" => &["data", "timecol", "step", "size", "offset"],
            _ => &["data", "timecol", "gap"],
        };
        let mut found: Vec<Option<&Expr>> = vec![None; names.len()];
        let usage = || {
            let usage =
                names.join(", ").replace("data, timecol", "table, time column").replace(", offset", " [, offset]");
            Error::new("42883", format!("{} takes other arguments", kind.to_uppercase()))
                .hint(format!("Write {}({usage}).", kind.to_uppercase()))
        };
        for (i, argument) in arguments.iter().enumerate() {
            let (place, value) = match argument {
                FunctionArg::Named { name, arg, .. } => (names.iter().position(|n| *n == fold(name)), arg),
                FunctionArg::ExprNamed { name: Expr::Identifier(name), arg, .. } => {
                    (names.iter().position(|n| *n == fold(name)), arg)
                }
                FunctionArg::Unnamed(arg) => (Some(i), arg),
                _ => return Err(usage()),
            };
            match (place.and_then(|place| found.get_mut(place)), value) {
                (Some(slot @ None), FunctionArgExpr::Expr(expr)) => *slot = Some(expr),
                _ => return Err(usage()),
            }
        }
        let get = |name: &str| names.iter().position(|n| *n == name).and_then(|place| found[place]);
        let step = get("slide").or(get("step"));
        if step.is_none() && matches!(kind, "hop" | "cumulate") {
            return Err(usage());
        }
        Ok(Arguments {
            data: get("data").ok_or_else(usage)?,
            time: get("timecol").ok_or_else(usage)?,
            step,
            size: get("size").or(get("gap")).ok_or_else(usage)?,
            offset: get("offset"),
        })
    }
}

/// What stands in the PARTITION BY of an argument that is one.
fn partition_of(argument: &FunctionArg) -> Option<&[FunctionArg]> {
    match argument {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::Function(function)))
            if function.name.to_string() == PARTITION =>
        {
            match &function.args {
                ast::FunctionArguments::List(list) => Some(&list.args),
                _ => None,
            }
        }
        _ => None,
    }
}

fn partition_column(argument: &FunctionArg) -> Result<String> {
    match argument {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::Nested(column))) => column_of(column),
        FunctionArg::Unnamed(FunctionArgExpr::Expr(column)) => column_of(column),
        other => Err(Error::syntax(format!("SESSION is partitioned by columns, not by {other}"))),
    }
}

/// The name that stands for the rows, and what follows FROM.
fn source_of(kind: &str, data: &Expr) -> Result<(String, String)> {
    match data {
        Expr::Identifier(ident) => Ok((fold(ident), ident.to_string())),
        Expr::CompoundIdentifier(parts) => {
            let name = name_of(&ObjectName::from(parts.clone()))?;
            Ok((name.name, data.to_string()))
        }
        Expr::Subquery(inner) => Ok((kind.to_string(), format!("({inner}) AS {kind}"))),
        Expr::Nested(inner) => source_of(kind, inner),
        _ => Err(Error::syntax(format!("{} needs a table or a subquery, not {data}", kind.to_uppercase()))),
    }
}

/// The time column, written plainly or as DESCRIPTOR(ts).
fn column_of(time: &Expr) -> Result<String> {
    match time {
        Expr::Identifier(_) => Ok(time.to_string()),
        Expr::CompoundIdentifier(parts) => Ok(parts.last().expect("a name has a part").to_string()),
        Expr::Function(function) if function.name.to_string().eq_ignore_ascii_case("descriptor") => {
            match &function.args {
                ast::FunctionArguments::List(list) => match list.args.as_slice() {
                    [FunctionArg::Unnamed(FunctionArgExpr::Expr(inner @ Expr::Identifier(_)))] => column_of(inner),
                    _ => Err(Error::syntax("DESCRIPTOR takes the name of one column")),
                },
                _ => Err(Error::syntax("DESCRIPTOR takes the name of one column")),
            }
        }
        _ => Err(Error::syntax(format!("the time of a window must be a column, not {time}"))),
    }
}

fn interval(kind: &str, what: &str, expr: &Expr) -> Result<Interval> {
    let interval = interval_literal(expr).ok_or_else(|| {
        let message = format!("the {what} of {} must be an INTERVAL literal, not {expr}", kind.to_uppercase());
        Error::invalid_value(message)
    })??;
    match interval.fixed_us() {
        Some(_) => Ok(interval),
        None => Err(Error::invalid_value(format!("the {what} of {} cannot have months", kind.to_uppercase()))
            .hint("Months differ in length; use days.")),
    }
}

fn length(kind: &str, what: &str, expr: &Expr) -> Result<Interval> {
    let interval = interval(kind, what, expr)?;
    match microseconds(&interval) {
        1.. => Ok(interval),
        _ => Err(Error::invalid_value(format!("the {what} of {} must be positive", kind.to_uppercase()))),
    }
}

fn microseconds(interval: &Interval) -> i64 {
    interval.fixed_us().expect("checked when it was read")
}

fn check_count(kind: &str, size: &Interval, step: &Interval) -> Result<()> {
    if microseconds(size) / microseconds(step) > WINDOWS_PER_ROW_MAX {
        return Err(Error::new(
            "54000",
            format!("{} puts a row into more than {WINDOWS_PER_ROW_MAX} windows", kind.to_uppercase()),
        ));
    }
    Ok(())
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
