//! Steps as they are run: what several of them compute is computed once, and a filter copies only what is read after it.
//!
//! ```text
//!   filter lower(c) = 'x' OR …   ─►   select a, c            what the steps read
//!   project a, lower(c)               compute lower(c)       as a column behind the others
//!                                     filter #2 = 'x' OR …   keeping a and lower(c)
//!                                     project a, #1
//! ```
//! An expression is computed ahead only of rows for which the steps would compute it anyway, since it may fail or take long;
//! of all rows only where it does neither.

use std::cell::OnceCell;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use arrow::datatypes::{FieldRef, Schema, SchemaRef};
use datafusion::common::DataFusionError;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::{Operator, Volatility};
use datafusion::physical_expr::ScalarFunctionExpr;
use datafusion::physical_expr::expressions::{BinaryExpr, CaseExpr, Column};

use super::MapStep;
use crate::delta::Delta;
use crate::delta::merge::merge;
use crate::operators::evaluate::{Expression, column, predicate};

pub struct Program {
    ops: Vec<Op>,
}

enum Op {
    /// Those columns alone.
    Select(Vec<usize>, Schemas),
    /// One more column.
    Compute(Expression, Schemas),
    /// The rows that fulfil it; of them those columns.
    Filter(Expression, Option<Vec<usize>>, Schemas),
    Project(Vec<Expression>, SchemaRef),
    Merge,
}

/// The schema behind a step that the plan does not give, known with the first rows.
type Schemas = OnceCell<SchemaRef>;

impl Program {
    pub fn new(steps: Vec<MapStep>) -> Program {
        let mut ops = Vec::new();
        let mut filters = Vec::new();
        for step in steps {
            let (results, schema) = match step {
                MapStep::Filter(condition) => {
                    filters.push(condition);
                    continue;
                }
                MapStep::Merge => {
                    ops.extend(filters.drain(..).map(|f| Op::Filter(f, None, Schemas::new())));
                    ops.push(Op::Merge);
                    continue;
                }
                MapStep::Project(expressions, schema) => (expressions, schema),
                MapStep::Select(columns, schema) => (columns.into_iter().map(at).collect(), schema),
            };
            segment(std::mem::take(&mut filters), results, schema, &mut ops);
        }
        ops.extend(filters.into_iter().map(|f| Op::Filter(f, None, Schemas::new())));
        Program { ops }
    }

    pub fn run(&self, delta: &Delta) -> Result<Delta, DataFusionError> {
        let mut delta = delta.clone();
        for op in &self.ops {
            if delta.is_empty() {
                break;
            }
            delta = match op {
                Op::Select(columns, schema) => select(&delta, columns, schema),
                Op::Compute(expression, schema) => {
                    let mut columns = delta.rows.columns().to_vec();
                    columns.push(column(expression, &delta.rows)?);
                    let before = delta.schema();
                    let schema = match schema.get() {
                        Some(schema) => schema,
                        None => {
                            let field = expression.return_field(&before)?;
                            let fields = before.fields().iter().cloned().chain([nullable(&field)]);
                            schema.get_or_init(|| Arc::new(Schema::new(fields.collect::<Vec<_>>())))
                        }
                    };
                    delta.with_columns(schema.clone(), columns)
                }
                Op::Filter(condition, kept, schema) => {
                    let mask = predicate(condition, &delta.rows)?;
                    if let Some(columns) = kept {
                        delta = select(&delta, columns, schema);
                    }
                    match mask.true_count() {
                        0 => delta.slice(0, 0),
                        n if n == mask.len() => delta,
                        _ => delta.filter(&mask),
                    }
                }
                Op::Project(expressions, schema) => {
                    let columns = expressions.iter().map(|e| column(e, &delta.rows)).collect::<Result<_, _>>()?;
                    delta.with_columns(schema.clone(), columns)
                }
                Op::Merge => merge(delta),
            };
        }
        Ok(delta)
    }
}

fn select(delta: &Delta, columns: &[usize], schema: &Schemas) -> Delta {
    let of = delta.schema();
    let schema = schema
        .get_or_init(|| Arc::new(Schema::new(columns.iter().map(|&c| nullable(&of.fields()[c])).collect::<Vec<_>>())));
    let columns = columns.iter().map(|&c| delta.rows.column(c).clone()).collect();
    delta.with_columns(schema.clone(), columns)
}

/// What holds of the first rows need not of later ones.
fn nullable(field: &FieldRef) -> FieldRef {
    if field.is_nullable() { field.clone() } else { Arc::new(field.as_ref().clone().with_nullable(true)) }
}

fn at(index: usize) -> Expression {
    Arc::new(Column::new("", index))
}

/// Filters and what becomes of the rows that they let through.
fn segment(filters: Vec<Expression>, results: Vec<Expression>, schema: SchemaRef, ops: &mut Vec<Op>) {
    let steps: Vec<Vec<Expression>> = filters.into_iter().map(|f| vec![f]).chain([results]).collect();
    // With the step before which it is computed.
    let ahead = ahead(&steps);
    if steps.len() == 1 && ahead.is_empty() {
        let mut steps = steps;
        ops.push(Op::Project(steps.pop().unwrap_or_default(), schema));
        return;
    }
    // Columns are numbered anew: those of the input, then the computed ones, by their place in `ahead`.
    let input = steps.iter().flatten().map(last_column).max().flatten().map_or(0, |last| last + 1);
    let shared: HashMap<&Expression, usize> = ahead.iter().enumerate().map(|(i, (_, e))| (e, input + i)).collect();
    let computed = ahead.iter().enumerate().map(|(i, (before, e))| {
        let smaller = shared.iter().filter(|(_, column)| **column < input + i);
        (*before, replaced(e, &smaller.map(|(e, column)| (*e, *column)).collect()))
    });
    let computed: Vec<(usize, Expression)> = computed.collect();
    let steps: Vec<Vec<Expression>> =
        steps.iter().map(|step| step.iter().map(|e| replaced(e, &shared)).collect()).collect();
    // What is read by a step or by one behind it.
    let read_from = |step: usize| -> BTreeSet<usize> {
        let ahead = computed.iter().filter(|(before, _)| *before >= step).map(|(_, e)| e);
        steps[step..].iter().flatten().chain(ahead).flat_map(columns_of).collect()
    };
    let mut present: Vec<usize> = read_from(0).into_iter().filter(|c| *c < input).collect();
    ops.push(Op::Select(present.clone(), Schemas::new()));
    for (i, step) in steps.iter().enumerate() {
        for (n, (_, expression)) in computed.iter().enumerate().filter(|(_, (before, _))| *before == i) {
            ops.push(Op::Compute(placed(expression, &present), Schemas::new()));
            present.push(input + n);
        }
        let all: Vec<Expression> = step.iter().map(|e| placed(e, &present)).collect();
        if i + 1 == steps.len() {
            ops.push(Op::Project(all, schema));
            return;
        }
        let later = read_from(i + 1);
        let kept: Vec<usize> = (0..present.len()).filter(|&p| later.contains(&present[p])).collect();
        present = kept.iter().map(|&p| present[p]).collect();
        ops.extend(all.into_iter().map(|f| Op::Filter(f, Some(kept.clone()), Schemas::new())));
    }
}

/// Columns alone of an expression.
fn columns_of(expression: &Expression) -> Vec<usize> {
    let mut columns = Vec::new();
    // The visitor itself does not fail.
    let _ = expression.apply(|e| {
        columns.extend(e.downcast_ref::<Column>().map(Column::index));
        Ok(TreeNodeRecursion::Continue)
    });
    columns
}

fn last_column(expression: &Expression) -> Option<usize> {
    columns_of(expression).into_iter().max()
}

fn replaced(expression: &Expression, shared: &HashMap<&Expression, usize>) -> Expression {
    let with = |e: Expression| {
        Ok(match shared.get(&e) {
            Some(&column) => Transformed::new(at(column), true, TreeNodeRecursion::Jump),
            None => Transformed::no(e),
        })
    };
    expression.clone().transform_down(with).map_or_else(|_| expression.clone(), |done| done.data)
}

/// Its columns where they are now.
fn placed(expression: &Expression, present: &[usize]) -> Expression {
    let with = |e: Expression| {
        let place = e.downcast_ref::<Column>().and_then(|c| present.iter().position(|p| *p == c.index()));
        Ok(match place {
            Some(place) => Transformed::yes(at(place)),
            None => Transformed::no(e),
        })
    };
    expression.clone().transform_up(with).map_or_else(|_| expression.clone(), |done| done.data)
}

/// Expressions that are computed ahead of a step, since it and others, or it alone, need them more than once.
fn ahead(steps: &[Vec<Expression>]) -> Vec<(usize, Expression)> {
    #[derive(Default)]
    struct Uses {
        count: usize,
        first: usize,
        /// Of every row that the first step sees.
        always: bool,
    }
    let mut uses: HashMap<Expression, Uses> = HashMap::new();
    let mut order = Vec::new();
    for (i, step) in steps.iter().enumerate() {
        for expression in step {
            each(expression, true, &mut |e, always| {
                let use_of = uses.entry(e.clone()).or_insert_with(|| {
                    order.push(e.clone());
                    Uses { first: i, ..Uses::default() }
                });
                use_of.count += 1;
                use_of.always |= always && use_of.first == i;
            });
        }
    }
    let mut wanted: Vec<(usize, Expression)> = Vec::new();
    for e in order {
        let of = &uses[&e];
        // A part of one that is taken is needed by itself only if it occurs more often.
        let within = wanted.iter().filter(|(_, w)| contains(w, &e)).map(|(_, w)| uses[w].count).sum::<usize>();
        if of.count - within.min(of.count) >= 2 && (of.always || is_quick(&e)) {
            wanted.push((of.first, e));
        }
    }
    // What is within another is computed before it: it is needed no later.
    wanted.sort_by_key(|(before, e)| (*before, size(e)));
    wanted
}

/// Every call of a function in it, those outside before those within. Whether it is computed of every row: what a CASE, an
/// AND or an OR may leave out is not.
fn each(expression: &Expression, always: bool, visit: &mut dyn FnMut(&Expression, bool)) {
    if is_worth_sharing(expression) {
        visit(expression, always);
    }
    let decides = expression.downcast_ref::<CaseExpr>().is_some()
        || expression
            .downcast_ref::<BinaryExpr>()
            .is_some_and(|binary| matches!(binary.op(), Operator::And | Operator::Or));
    for (i, child) in expression.children().into_iter().enumerate() {
        each(child, always && (i == 0 || !decides), visit);
    }
}

/// A call whose result is another for other rows, and the same for the same ones.
fn is_worth_sharing(expression: &Expression) -> bool {
    let volatile = |e: &Expression| {
        let call = e.downcast_ref::<ScalarFunctionExpr>();
        Ok(call.is_some_and(|call| call.fun().signature().volatility == Volatility::Volatile))
    };
    expression.downcast_ref::<ScalarFunctionExpr>().is_some()
        && !columns_of(expression).is_empty()
        && !expression.exists(volatile).unwrap_or(true)
}

/// Fails for no value and takes no longer than a copy.
fn is_quick(expression: &Expression) -> bool {
    expression.downcast_ref::<Column>().is_some()
        || expression
            .downcast_ref::<ScalarFunctionExpr>()
            .is_some_and(|call| matches!(call.name(), "lower" | "upper") && call.args().iter().all(is_quick))
}

/// How many expressions it is of.
fn size(expression: &Expression) -> usize {
    1 + expression.children().into_iter().map(size).sum::<usize>()
}

fn contains(whole: &Expression, part: &Expression) -> bool {
    whole.exists(|e| Ok(e == part)).unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use arrow::array::{AsArray, Int64Array, RecordBatch, StringArray};
    use arrow::datatypes::{DataType, Field, Int64Type};
    use datafusion::config::ConfigOptions;
    use datafusion::logical_expr::ScalarUDF;
    use datafusion::physical_expr::expressions::{binary, case, lit};

    use super::*;
    use crate::sql::functions::declared;

    fn schema() -> SchemaRef {
        let field = |name: &str, t: DataType| Field::new(name, t, true);
        Arc::new(Schema::new(vec![
            field("wide", DataType::Utf8),
            field("name", DataType::Utf8),
            field("number", DataType::Int64),
        ]))
    }

    fn delta() -> Delta {
        let names = StringArray::from(vec![Some("Apple"), None, Some("pear"), Some("APPLE"), Some("Fig")]);
        let wide = StringArray::from(vec!["a", "b", "c", "d", "e"]);
        let numbers = Int64Array::from(vec![1, 2, 3, 4, 5]);
        let rows = RecordBatch::try_new(schema(), vec![Arc::new(wide), Arc::new(names), Arc::new(numbers)]);
        Delta::new(rows.expect("columns fit"), Some(Int64Array::from(vec![1, -1, 2, -2, 1])))
    }

    fn call(name: &str, arguments: Vec<Expression>) -> Expression {
        let function: Arc<ScalarUDF> = declared::named(name).expect("there is one");
        let call = ScalarFunctionExpr::try_new(function, arguments, &schema(), Arc::new(ConfigOptions::new()));
        Arc::new(call.expect("it takes these"))
    }

    fn column(name: &str) -> Expression {
        Arc::new(Column::new_with_schema(name, &schema()).expect("there is one"))
    }

    fn compared(left: Expression, op: Operator, right: Expression) -> Expression {
        binary(left, op, right, &schema()).expect("of one type")
    }

    /// The steps one by one, as they are written.
    fn plainly(steps: &[MapStep], mut delta: Delta) -> Delta {
        for step in steps {
            delta = match step {
                MapStep::Filter(condition) => delta.filter(&predicate(condition, &delta.rows).expect("no row fails")),
                MapStep::Project(all, schema) => {
                    let columns = all.iter().map(|e| super::column(e, &delta.rows).expect("no row fails")).collect();
                    delta.with_columns(schema.clone(), columns)
                }
                MapStep::Select(columns, schema) => {
                    let columns = columns.iter().map(|&c| delta.rows.column(c).clone()).collect();
                    delta.with_columns(schema.clone(), columns)
                }
                MapStep::Merge => merge(delta),
            };
        }
        delta
    }

    fn same(steps: Vec<MapStep>) -> (usize, Vec<usize>) {
        let program = Program::new(steps.clone());
        for rows in [delta(), delta().slice(1, 2), delta().slice(4, 1)] {
            let (ran, plain) = (program.run(&rows).expect("no row fails"), plainly(&steps, rows));
            // Nothing more is done to no rows.
            if !plain.is_empty() || !ran.is_empty() {
                assert_eq!((&ran.rows, &ran.weights), (&plain.rows, &plain.weights));
            }
        }
        let computed = program.ops.iter().filter(|op| matches!(op, Op::Compute(..))).count();
        let kept = program.ops.iter().filter_map(|op| match op {
            Op::Filter(_, kept, _) => Some(kept.as_ref().map_or(0, Vec::len)),
            _ => None,
        });
        (computed, kept.collect())
    }

    fn output(types: &[DataType]) -> SchemaRef {
        let fields = types.iter().enumerate().map(|(i, t)| Field::new(format!("c{i}"), t.clone(), true));
        Arc::new(Schema::new(fields.collect::<Vec<_>>()))
    }

    #[test]
    fn what_several_steps_call_is_computed_once_and_only_what_is_read_is_kept() {
        let lower = || call("lower", vec![column("name")]);
        let small = compared(lower(), Operator::Eq, lit("apple"));
        let or = compared(compared(column("number"), Operator::Gt, lit(4i64)), Operator::Or, small.clone());
        let steps = vec![
            MapStep::Filter(compared(column("number"), Operator::Gt, lit(0i64))),
            MapStep::Filter(or),
            MapStep::Project(
                vec![lower(), column("number"), small],
                output(&[DataType::Utf8, DataType::Int64, DataType::Boolean]),
            ),
        ];
        // The first filter keeps name and number, the second number and lower(name).
        assert_eq!(same(steps), (1, vec![2, 2]));
    }

    #[test]
    fn what_a_case_may_leave_out_is_not_computed_ahead_if_it_takes_long() {
        let slow = || call("regexp_like", vec![column("name"), lit("p+le")]);
        let guarded = case(None, vec![(compared(column("number"), Operator::Gt, lit(2i64)), slow())], Some(lit(false)));
        let guarded = guarded.expect("booleans");
        let project = |all: Vec<Expression>| {
            let types: Vec<DataType> = all.iter().map(|e| e.data_type(&schema()).expect("a type")).collect();
            MapStep::Project(all, output(&types))
        };
        let twice = vec![MapStep::Filter(guarded.clone()), project(vec![guarded.clone(), column("wide")])];
        assert_eq!(same(twice).0, 0);
        // Asked of every row in the first step, it is.
        let always = vec![MapStep::Filter(slow()), project(vec![guarded, slow()])];
        assert_eq!(same(always).0, 1);
    }

    #[test]
    fn a_call_within_another_is_computed_before_it() {
        let lower = || call("lower", vec![column("name")]);
        let parts = || call("split_part", vec![lower(), lit("p"), lit(1i32)]);
        let steps = vec![
            MapStep::Filter(compared(parts(), Operator::NotEq, lit("a"))),
            MapStep::Project(
                vec![parts(), lower(), lower()],
                output(&[DataType::Utf8, DataType::Utf8, DataType::Utf8]),
            ),
        ];
        assert_eq!(same(steps).0, 2);
    }

    #[test]
    fn the_first_rows_may_lie_in_columns_without_nulls() {
        let lower = || call("lower", vec![column("name")]);
        let steps = vec![
            MapStep::Filter(compared(lower(), Operator::NotEq, lit("x"))),
            MapStep::Project(vec![lower(), column("wide")], output(&[DataType::Utf8, DataType::Utf8])),
        ];
        let program = Program::new(steps);
        for (names, nullable) in [(vec![Some("A"), Some("B")], false), (vec![None, Some("C")], true)] {
            let mut fields: Vec<Field> = schema().fields().iter().map(|f| f.as_ref().clone()).collect();
            fields.iter_mut().for_each(|field| *field = field.clone().with_nullable(nullable));
            let text = |of: Vec<Option<&str>>| Arc::new(StringArray::from(of)) as _;
            let columns = vec![text(names.clone()), text(names.clone()), Arc::new(Int64Array::from(vec![1, 2])) as _];
            let rows = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).expect("columns fit");
            let ran = program.run(&Delta::inserts(rows)).expect("no row fails");
            assert_eq!(ran.len(), names.iter().flatten().count());
        }
    }

    #[test]
    fn columns_alone_without_any_and_after_merging() {
        let steps = vec![
            MapStep::Filter(compared(column("number"), Operator::Lt, lit(5i64))),
            MapStep::Merge,
            MapStep::Filter(compared(column("number"), Operator::Gt, lit(1i64))),
            MapStep::Select(vec![2], output(&[DataType::Int64])),
        ];
        assert_eq!(same(steps), (0, vec![0, 1]));
        let none = vec![
            MapStep::Filter(compared(column("number"), Operator::Gt, lit(1i64))),
            MapStep::Project(vec![lit(7i64)], output(&[DataType::Int64])),
        ];
        let ran = Program::new(none.clone()).run(&delta()).expect("no row fails");
        assert_eq!(ran.rows.column(0).as_primitive::<Int64Type>().values(), &[7; 4]);
        assert_eq!(same(none), (0, vec![0]));
    }
}
