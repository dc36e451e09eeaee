//! Conditions on `now()`, and rows that are held back until they are final.
//!
//! ```text
//!   WHERE ts > now() - INTERVAL '1 hour' AND k = 1      Temporal: ts > clock - 1 hour
//!                                                         Map: filter k = 1
//! ```
//!
//! A condition is maintained when each comparison in it that names the clock changes its answer at most once as time
//! passes (twice for an equality): when its sides rise or fall with the clock.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, TimeUnit};
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Column, DFSchema, Result as DataFusionResult, ScalarValue};
use datafusion::logical_expr::expr::{Between, InList};
use datafusion::logical_expr::utils::{conjunction, split_conjunction};
use datafusion::logical_expr::{BinaryExpr, Cast, Expr, Filter, LogicalPlan, Operator, lit};
use datafusion::physical_expr::expressions::BinaryExpr as PhysicalBinary;

use super::{Lowering, in_view, unsupported_in};
use crate::error::{Error, Result};
use crate::operators::evaluate::Expression;
use crate::operators::map::MapStep;
use crate::operators::temporal::{Condition, Flip, TemporalSpec};
use crate::plan::{NodeKind, event_time};
use crate::sql::bind::error_from;
use crate::sql::types::UTC;
use crate::time::{EpochHeader, TimeBound};

const CLOCK: &str = "clock";
const DAY_US: i64 = 86_400_000_000;

fn is_clock(expr: &Expr) -> bool {
    matches!(expr, Expr::ScalarFunction(f) if matches!(f.func.name(), "now" | "current_date" | "current_time" | "today"))
}

pub(super) fn reads_clock(expr: &Expr) -> bool {
    expr.exists(|e| Ok(is_clock(e))).expect("looking does not fail")
}

/// The text of a cast that means another moment each time.
pub(super) fn word_of_today(expr: &Expr) -> Option<&str> {
    let text = match expr {
        Expr::Cast(cast) => &*cast.expr,
        Expr::ScalarFunction(f) if f.func.name() == "mr_cast" => f.args.first()?,
        _ => return None,
    };
    let Expr::Literal(ScalarValue::Utf8(Some(text)), _) = text else { return None };
    let word = text.trim();
    let is_one = ["now", "today", "tomorrow", "yesterday"].iter().any(|w| w.eq_ignore_ascii_case(word));
    let to_time = match expr {
        Expr::Cast(cast) => matches!(cast.field.data_type(), DataType::Date32 | DataType::Timestamp(..)),
        // Text stays text.
        Expr::ScalarFunction(f) => !matches!(f.func.return_type(&[]), Ok(DataType::Utf8)),
        _ => false,
    };
    (is_one && to_time).then_some(word)
}

pub(super) fn misplaced() -> Error {
    Error::unsupported("now() in a materialized view outside of a condition in WHERE").hint(
        "Compare a time column with it: WHERE ts > now() - INTERVAL '1 hour'. Or store the time with the row: a column DEFAULT now().",
    )
}

/// The parts of a condition that name the clock, and the rest.
pub(super) fn split(condition: Option<&Expr>) -> (Vec<Expr>, Option<Expr>) {
    let parts = condition.into_iter().flat_map(split_conjunction).cloned();
    let (temporal, lasting): (Vec<Expr>, Vec<Expr>) = parts.partition(reads_clock);
    (temporal, conjunction(lasting))
}

/// How a value goes as time passes.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Way {
    Still,
    Up,
    Down,
}

impl Way {
    fn back(self) -> Way {
        match self {
            Way::Still => Way::Still,
            Way::Up => Way::Down,
            Way::Down => Way::Up,
        }
    }
    fn and(self, other: Way) -> Option<Way> {
        match (self, other) {
            (Way::Still, way) | (way, Way::Still) => Some(way),
            (a, b) if a == b => Some(a),
            _ => None,
        }
    }
}

impl Lowering<'_> {
    /// The rows for which a condition holds, whether it changes with time or not.
    pub(super) fn filter(&mut self, input: usize, schema: &DFSchema, condition: &Expr) -> Result<usize> {
        let (temporal, lasting) = split(Some(condition));
        let mut node = input;
        if let Some(lasting) = lasting {
            let condition = self.expression(&lasting, schema)?;
            let own = self.nodes[node].schema.clone();
            node = self.map(node, MapStep::Filter(condition), own);
        }
        match conjunction(temporal) {
            None => Ok(node),
            Some(condition) => self.temporal(node, schema, condition),
        }
    }

    fn temporal(&mut self, input: usize, schema: &DFSchema, condition: Expr) -> Result<usize> {
        if let Some(name) = unsupported_in(&condition) {
            return Err(in_view(name));
        }
        let mut comparisons = Vec::new();
        self.comparisons(&condition, schema, &mut comparisons)?;
        let clock = DataType::Timestamp(TimeUnit::Microsecond, Some(UTC.into()));
        let field = Arc::new(Field::new(CLOCK, clock.clone(), false));
        let of_clock = DFSchema::new_with_metadata(vec![(None, field)], Default::default()).map_err(error_from)?;
        let clocked = schema.join(&of_clock).map_err(error_from)?;
        let column = schema.fields().len();
        let physical = |expr: Expr| -> Result<Expression> {
            let read = expr.transform_up(|e| {
                Ok(if is_clock(&e) {
                    Transformed::yes(Expr::Column(Column::new_unqualified(CLOCK)))
                } else {
                    Transformed::no(e)
                })
            });
            self.state.create_physical_expr(read.map_err(error_from)?.data, &clocked).map_err(error_from)
        };
        let holds = physical(condition)?;
        let flips = comparisons.into_iter().map(|comparison| {
            let comparison = physical(comparison)?;
            Ok(at_a_time(&comparison, column, &clocked).unwrap_or(Flip::Somewhere(comparison)))
        });
        let condition = Condition::Clock { holds, flips: flips.collect::<Result<_>>()? };
        let append_only = false;
        self.timed(input, condition, clock, append_only)
    }

    fn timed(&mut self, input: usize, condition: Condition, clock: DataType, append_only: bool) -> Result<usize> {
        let schema = self.nodes[input].schema.clone();
        let all: Vec<usize> = (0..schema.fields().len()).collect();
        // A row and its retraction wait on one worker, and leave from there.
        let input = match &self.dealt_by[input] {
            None if !append_only || !self.nodes[input].append_only => self.exchange(input, all.clone()),
            _ => input,
        };
        let dealt_by = self.dealt_by[input].clone();
        let key = dealt_by.clone().unwrap_or(all);
        let spec = TemporalSpec { input: schema.clone(), key, clock, condition };
        Ok(self.push(NodeKind::Temporal(Box::new(spec)), vec![input], schema, append_only, dealt_by))
    }

    /// The rows of a plan once no change can come to them any more; the time by which that is known, and below how many
    /// nodes of the plan it is a column.
    pub(super) fn held_back(&mut self, plan: &LogicalPlan) -> Result<(usize, TimeBound, usize)> {
        self.nodes.clear();
        self.dealt_by.clear();
        let node = self.node(plan)?;
        let imported = |relation| self.bounds.get(&relation).cloned().unwrap_or_default();
        let bounds = event_time::bounds(&self.nodes, &imported).pop().expect("one for each node");
        let of_columns =
            bounds.into_iter().filter(|b| event_time::is_time(self.nodes[node].schema.field(b.column).data_type()));
        if let Some(closing) = of_columns.max_by_key(|bound| (bound.offset_us, std::cmp::Reverse(bound.column))) {
            let clock = DataType::Timestamp(TimeUnit::Microsecond, Some(UTC.into()));
            let held = self.timed(node, Condition::Closed(closing.clone()), clock, true)?;
            return Ok((held, closing, 0));
        }
        match plan {
            LogicalPlan::Projection(projection) => {
                let (input, closing, depth) = self.held_back(&projection.input)?;
                let schema = super::relaxed(&projection.schema);
                let node = self.project(input, projection.input.schema(), &projection.expr, schema)?;
                Ok((node, closing, depth + 1))
            }
            LogicalPlan::SubqueryAlias(alias) => {
                let (node, closing, depth) = self.held_back(&alias.input)?;
                Ok((node, closing, depth + 1))
            }
            LogicalPlan::Sort(sort) if sort.fetch.is_none() => {
                let (node, closing, depth) = self.held_back(&sort.input)?;
                Ok((node, closing, depth + 1))
            }
            _ => Err(self.never_final()),
        }
    }

    fn never_final(&self) -> Error {
        let error = Error::unsupported("EMIT ON WINDOW CLOSE for this query");
        if self.bounds.values().all(Vec::is_empty) {
            return error
                .detail("Nothing that it reads has a watermark, so no row of it is ever final.")
                .hint("CREATE STREAM … (…, WATERMARK FOR ts AS ts - INTERVAL '5 seconds'), without LATE ROWS UPDATE.");
        }
        error
            .detail("A change may come to any row of its result, however far the watermark is.")
            .hint(
                "Group by the window (window_start, window_end) or by the time column; join streams on their windows; number or limit rows per window. A join with a table changes whenever the table does.",
            )
    }

    /// Adds the comparisons of a condition that name the clock. Error: 0A000 for what may change at any time.
    fn comparisons(&self, condition: &Expr, schema: &DFSchema, found: &mut Vec<Expr>) -> Result<()> {
        if !reads_clock(condition) {
            return Ok(());
        }
        match condition {
            Expr::Alias(alias) => self.comparisons(&alias.expr, schema, found),
            Expr::BinaryExpr(BinaryExpr { left, op: Operator::And | Operator::Or, right }) => {
                self.comparisons(left, schema, found)?;
                self.comparisons(right, schema, found)
            }
            Expr::Not(e)
            | Expr::IsTrue(e)
            | Expr::IsFalse(e)
            | Expr::IsNotTrue(e)
            | Expr::IsNotFalse(e)
            | Expr::IsUnknown(e)
            | Expr::IsNotUnknown(e) => self.comparisons(e, schema, found),
            // Whether there is a value does not depend on the time.
            Expr::IsNull(e) | Expr::IsNotNull(e) => self.way(e, schema).map(|_| ()).ok_or_else(unsteady),
            Expr::BinaryExpr(BinaryExpr { left, op, right }) => self.comparison(left, *op, right, schema, found),
            Expr::Between(Between { expr, low, high, .. }) => {
                self.comparison(expr, Operator::GtEq, low, schema, found)?;
                self.comparison(expr, Operator::LtEq, high, schema, found)
            }
            Expr::InList(InList { expr, list, .. }) => {
                list.iter().try_for_each(|item| self.comparison(expr, Operator::Eq, item, schema, found))
            }
            _ => Err(unsteady()),
        }
    }

    fn comparison(
        &self,
        left: &Expr,
        op: Operator,
        right: &Expr,
        schema: &DFSchema,
        found: &mut Vec<Expr>,
    ) -> Result<()> {
        let ways = (self.way(left, schema), self.way(right, schema));
        let (Some(l), Some(r)) = ways else { return Err(unsteady()) };
        l.and(r.back()).ok_or_else(unsteady)?;
        let ops: &[Operator] = match op {
            Operator::Lt | Operator::LtEq | Operator::Gt | Operator::GtEq => &[op],
            Operator::Eq | Operator::NotEq | Operator::IsDistinctFrom | Operator::IsNotDistinctFrom => {
                &[Operator::LtEq, Operator::GtEq]
            }
            _ => return Err(unsteady()),
        };
        for op in ops {
            found.push(Expr::BinaryExpr(BinaryExpr::new(Box::new(left.clone()), *op, Box::new(right.clone()))));
        }
        Ok(())
    }

    /// How an expression's value goes as time passes; `None` when it goes to and fro.
    fn way(&self, expr: &Expr, schema: &DFSchema) -> Option<Way> {
        if !reads_clock(expr) {
            return Some(Way::Still);
        }
        match expr {
            Expr::Alias(alias) => self.way(&alias.expr, schema),
            Expr::Negative(e) => Some(self.way(e, schema)?.back()),
            Expr::BinaryExpr(BinaryExpr { left, op: Operator::Plus, right }) => {
                self.way(left, schema)?.and(self.way(right, schema)?)
            }
            Expr::BinaryExpr(BinaryExpr { left, op: Operator::Minus, right }) => {
                self.way(left, schema)?.and(self.way(right, schema)?.back())
            }
            Expr::Cast(Cast { expr, field }) => self.way_of_cast(expr, field.data_type(), schema),
            Expr::ScalarFunction(f) => {
                let args = &f.args;
                match (f.func.name(), args.len()) {
                    (_, 0) if is_clock(expr) => Some(Way::Up),
                    ("mr_cast", 1) => {
                        use datafusion::logical_expr::ExprSchemable;
                        self.way_of_cast(&args[0], &expr.get_type(schema).ok()?, schema)
                    }
                    ("mr_span", 1) => self.way(&args[0], schema),
                    ("mr_shift" | "mr_add" | "mr_date_add", 2) => {
                        self.way(&args[0], schema)?.and(self.way(&args[1], schema)?)
                    }
                    ("mr_subtract" | "mr_timestamp_difference" | "mr_date_subtract" | "mr_date_difference", 2) => {
                        self.way(&args[0], schema)?.and(self.way(&args[1], schema)?.back())
                    }
                    ("date_trunc", 2) | ("date_bin" | "time_bucket", 2 | 3)
                        if matches!(args[0], Expr::Literal(..)) && !args.get(2).is_some_and(reads_clock) =>
                    {
                        self.way(&args[1], schema)
                    }
                    ("date_trunc", 3) if !reads_clock(&args[0]) && !reads_clock(&args[2]) => self.way(&args[1], schema),
                    ("extract" | "date_part", 2) => match &args[0] {
                        Expr::Literal(ScalarValue::Utf8(Some(unit)), _) if unit.eq_ignore_ascii_case("epoch") => {
                            self.way(&args[1], schema)
                        }
                        _ => None,
                    },
                    ("timezone", 2) => match &args[0] {
                        Expr::Literal(ScalarValue::Utf8(Some(zone)), _) if is_utc(zone) => self.way(&args[1], schema),
                        _ => None,
                    },
                    _ => None,
                }
            }
            _ => None,
        }
    }

    fn way_of_cast(&self, from: &Expr, to: &DataType, schema: &DFSchema) -> Option<Way> {
        let zone = self.state.config_options().execution.time_zone.clone();
        match to {
            DataType::Date32 | DataType::Date64 | DataType::Timestamp(_, Some(_)) => self.way(from, schema),
            // A wall's clock goes back once a year.
            DataType::Timestamp(_, None) if zone.as_deref().is_none_or(is_utc) => self.way(from, schema),
            _ => None,
        }
    }
}

fn unsteady() -> Error {
    in_view("now() in a condition that may change its answer at any time")
        .hint("Compare times: a column, or one moved by an interval, with now() or one moved by an interval, cut by date_trunc or cast to date.")
}

fn is_utc(zone: &str) -> bool {
    ["utc", "etc/utc", "gmt", "zulu", "z"].contains(&&*zone.to_lowercase())
}

/// A comparison of a column's time with the clock, each moved by a constant: when its answer changes.
fn at_a_time(comparison: &Expression, clock: usize, schema: &DFSchema) -> Option<Flip> {
    let binary = comparison.downcast_ref::<PhysicalBinary>()?;
    let (left, right) = (event_time::line(binary.left())?, event_time::line(binary.right())?);
    let (row, now, op) = match (left.column == clock, right.column == clock) {
        (false, true) => (left, right, *binary.op()),
        (true, false) => (right, left, binary.op().swap()?),
        _ => return None,
    };
    if !matches!(schema.field(row.column).data_type(), DataType::Timestamp(TimeUnit::Microsecond, Some(_))) {
        return None;
    }
    // The row's time against the clock: equal at this one.
    let equal = row.offset_us.checked_sub(now.offset_us)?;
    let offset_us = match op {
        Operator::Gt | Operator::LtEq => equal,
        Operator::GtEq | Operator::Lt => equal.checked_add(1)?,
        _ => return None,
    };
    Some(Flip::At { column: row.column, offset_us })
}

/// Puts the condition that rows are final into a logical plan, below its first `depth` nodes.
pub(super) fn with_final_rows(
    plan: LogicalPlan,
    depth: usize,
    closing: &TimeBound,
    epoch: &EpochHeader,
) -> DataFusionResult<LogicalPlan> {
    if depth > 0 {
        let inputs = plan.inputs().into_iter().cloned().map(|input| with_final_rows(input, depth - 1, closing, epoch));
        let inputs = inputs.collect::<DataFusionResult<Vec<_>>>()?;
        return plan.with_new_exprs(plan.expressions(), inputs);
    }
    let (qualifier, field) = plan.schema().qualified_field(closing.column);
    let column = Expr::Column(Column::new(qualifier.cloned(), field.name()));
    let condition = match (closing.reached(epoch), field.data_type()) {
        (None, _) => lit(false),
        (Some(reached), DataType::Date32) => {
            let first_day = reached.div_euclid(DAY_US) + i64::from(reached.rem_euclid(DAY_US) > 0);
            column.lt(lit(ScalarValue::Date32(Some(first_day as i32))))
        }
        (Some(reached), DataType::Timestamp(_, zone)) => {
            column.lt(lit(ScalarValue::TimestampMicrosecond(Some(reached), zone.clone())))
        }
        (Some(_), other) => return datafusion::common::internal_err!("a window that closes by {other}"),
    };
    Ok(LogicalPlan::Filter(Filter::try_new(condition, Arc::new(plan))?))
}
