//! The functions that make DataFusion answer as Postgres does, and where they are put in: one function to register
//! them all, one list of planners, one list of analyzer rules.

mod arithmetic;
mod array_agg;
mod bins;
mod bytes;
mod cast_table;
mod casts;
mod dates;
pub mod declared;
mod doubles;
mod fields;
mod fixed;
mod framed;
mod intervals;
mod joined;
mod json;
mod labels;
mod length;
mod lenient;
mod math;
mod measured;
mod min_max;
mod named_row;
mod now;
mod operators;
mod order_key;
mod ranks;
mod regression;
pub mod session;
mod settle;
mod shift;
mod sleep;
mod steadiness;
mod steady;
mod string_agg;
mod sum_avg;
mod tags;
mod time_format;
mod timezone;
mod to_char;
mod totals;
mod uniform;
mod unite;
mod variance;
mod weighed;
pub mod windows;

pub use array_agg::array_agg;
pub use cast_table::listed as listed_casts;
pub use casts::names_of_catalog;
pub use declared::likes::LIKE_EACH;
pub use declared::patterns::like_escaped;
pub use framed::{Bound, Exclusion, Frame, Framed, Inner, Sort, Units};
pub use joined::joined_within_bounds;
pub use settle::days_differ;
pub use steadiness::is_steady;
pub use unite::compares;

use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::datatypes::Field;
use datafusion::common::DFSchema;
use datafusion::common::config::ConfigOptions;
use datafusion::error::Result;
use datafusion::execution::{FunctionRegistry, SessionState};
use datafusion::logical_expr::planner::ExprPlanner;
use datafusion::logical_expr::{AggregateUDF, Expr, ScalarUDF, WindowUDF, lit};
use datafusion::optimizer::AnalyzerRule;
use datafusion::optimizer::analyzer::Analyzer;

use crate::sql::bind::error_from;
use crate::sql::text::Style;

pub use intervals::span;
use string_agg::StringAgg;
pub use string_agg::join_pairs;

/// The rows of a series of whole numbers.
pub const SERIES_ROWS: &str = "mr_series_rows";

/// Puts all functions in; those of the same name as DataFusion's replace them.
pub fn register(state: &mut SessionState) {
    let full = "the registry takes any function";
    let mut scalars: Vec<ScalarUDF> = vec![
        now::Now::default().into(),
        sleep::Sleep::default().into(),
        timezone::Timezone::default().into(),
        fields::Part::extract().into(),
        fields::Part::date_part().into(),
        fields::Trunc::default().into(),
        to_char::ToChar::default().into(),
        named_row::NamedRow::default().into(),
        crate::sql::as_of::Mark::default().into(),
        crate::sql::frames::Mark::default().into(),
        crate::sql::system_time::AtArrival::default().into(),
    ];
    scalars.extend(windows::all().into_iter().map(ScalarUDF::from));
    scalars.extend(dates::all().into_iter().map(ScalarUDF::from));
    scalars.extend(bins::all().map(ScalarUDF::from));
    scalars.extend(labels::all().map(ScalarUDF::from));
    scalars.extend(length::all().into_iter().map(ScalarUDF::from));
    scalars.extend(math::all().into_iter().map(ScalarUDF::from));
    scalars.extend(declared::all().into_iter().map(ScalarUDF::from));
    for function in scalars {
        state.register_udf(Arc::new(function)).expect(full);
    }
    let library = lenient::NAMES.iter().filter_map(|name| state.scalar_functions().get(*name).cloned());
    for function in library.collect::<Vec<_>>() {
        state.register_udf(Arc::new(lenient::Lenient::new(function).into())).expect(full);
    }
    weighed::register(state).expect(full);
    uniform::register(state).expect(full);
    doubles::register(state).expect(full);
    bytes::register(state).expect(full);
    // The rows of a series under a name of their own: `generate_series` is planned as that, or as an array.
    if let Some(series) = state.table_functions().get("generate_series").cloned() {
        state.register_udtf(SERIES_ROWS, series.function().clone());
    }
    let sums = [sum_avg::SumOrAvg::sum(), sum_avg::SumOrAvg::avg()].map(AggregateUDF::from);
    let best = min_max::MinOrMax::of_any().into_iter().chain([min_max::MinOrMax::min(), min_max::MinOrMax::max()]);
    let best = best.map(AggregateUDF::from);
    let others = variance::all().into_iter().map(AggregateUDF::from);
    let others = others.chain(regression::all().into_iter().map(AggregateUDF::from));
    for function in
        sums.into_iter().chain(best).chain([StringAgg::default().into(), array_agg::ArrayAgg::default().into()])
    {
        state.register_udaf(Arc::new(function)).expect(full);
    }
    let library = steady::NAMES.iter().filter_map(|name| state.aggregate_functions().get(*name).cloned());
    for function in library.collect::<Vec<_>>().into_iter().chain(others.map(Arc::new)) {
        state.register_udaf(Arc::new(steady::Steady::new(function).into())).expect(full);
    }
    let windows = session::all().map(WindowUDF::from).into_iter().chain(ranks::all().map(WindowUDF::from));
    for function in windows.chain(shift::all().map(WindowUDF::from)) {
        state.register_udwf(Arc::new(function)).expect(full);
    }
}

/// Whether a function is one of those whose arguments are Postgres', so that a whole number is an integer among them.
pub fn is_declared(name: &str) -> bool {
    declared::named(name).is_ok()
}

/// `array_repeat` as it is registered.
pub fn array_repeat() -> ScalarUDF {
    weighed::repeat()
}

/// `sum` as it is registered.
pub fn sum() -> sum_avg::SumOrAvg {
    sum_avg::SumOrAvg::sum()
}

/// A char(n) as a text: without its padding.
pub fn without_padding(expr: Expr) -> Result<Expr> {
    Ok(declared::named("rtrim")?.call(vec![expr]))
}

/// An array with its items in order.
pub fn sorted_array(array: Expr, descending: bool, nulls_first: bool) -> Result<Expr> {
    Ok(declared::named("mr_array_sort")?.call(vec![array, lit(descending), lit(nulls_first)]))
}

/// Bytes that are the same of jsonb that says the same.
pub fn jsonb_key(expr: Expr) -> Result<Expr> {
    Ok(declared::named(json::JSONB_KEY)?.call(vec![expr]))
}

/// `min` as it is registered.
pub fn min() -> Arc<AggregateUDF> {
    Arc::new(min_max::MinOrMax::min().into())
}

/// `row_number` as it is registered.
pub fn row_number() -> WindowUDF {
    ranks::number().into()
}

/// Values of one field's type as values of another's, as an explicit cast makes them.
pub fn cast_array(values: &ArrayRef, from: &Field, to: &Field, style: &Style) -> crate::error::Result<ArrayRef> {
    casts::apply(values, from, to, style).map_err(error_from)
}

/// Planners of operators, to be asked before DataFusion's.
pub fn planners() -> Vec<Arc<dyn ExprPlanner>> {
    vec![Arc::new(operators::Operators), Arc::new(arithmetic::Operators)]
}

/// DataFusion's analyzer; before it what decides types otherwise, after it what needs the types that it settled.
pub fn analyzer_rules() -> Vec<Arc<dyn AnalyzerRule + Send + Sync>> {
    let mut rules: Vec<Arc<dyn AnalyzerRule + Send + Sync>> = vec![Arc::new(unite::Unite)];
    rules.extend(Analyzer::new().rules);
    rules.push(Arc::new(settle::Settle));
    rules
}

/// What is to be done to an expression that stands alone before DataFusion settles its types.
pub fn prepare(expr: Expr, schema: &DFSchema) -> Result<Expr> {
    unite::expression(expr, schema).map(|expr| expr.data)
}

/// What the analyzer's rules do to an expression that stands alone, its types being settled.
pub fn settle(expr: Expr, schema: &DFSchema, options: &ConfigOptions) -> Result<Expr> {
    settle::expression(expr, schema, days_differ(options)).map(|expr| expr.data)
}
