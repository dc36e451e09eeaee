//! The functions that make DataFusion answer as Postgres does, and where they are put in: one function to register
//! them all, one list of planners, one list of analyzer rules.

mod now;
mod sum_avg;
mod totals;
mod windows;

use std::sync::Arc;

use datafusion::common::DFSchema;
use datafusion::error::Result;
use datafusion::execution::{FunctionRegistry, SessionState};
use datafusion::logical_expr::planner::ExprPlanner;
use datafusion::logical_expr::{AggregateUDF, Expr, ScalarUDF};
use datafusion::optimizer::AnalyzerRule;
use datafusion::optimizer::analyzer::Analyzer;

/// Puts all functions in; those of the same name as DataFusion's replace them.
pub fn register(state: &mut SessionState) {
    let full = "the registry takes any function";
    datafusion_functions_json::register_all(state).expect(full);
    let mut scalars: Vec<ScalarUDF> = vec![now::Now::default().into()];
    scalars.extend(windows::all().into_iter().map(ScalarUDF::from));
    for function in scalars {
        state.register_udf(Arc::new(function)).expect(full);
    }
    for function in [sum_avg::SumOrAvg::sum(), sum_avg::SumOrAvg::avg()] {
        state.register_udaf(Arc::new(AggregateUDF::from(function))).expect(full);
    }
}

/// Planners of operators, to be asked before DataFusion's.
pub fn planners() -> Vec<Arc<dyn ExprPlanner>> {
    Vec::new()
}

/// DataFusion's analyzer, and after it what needs the types that it settled.
pub fn analyzer_rules() -> Vec<Arc<dyn AnalyzerRule + Send + Sync>> {
    Analyzer::new().rules
}

/// What the analyzer's rules do to an expression that stands alone, its types being settled.
pub fn settle(expr: Expr, _schema: &DFSchema) -> Result<Expr> {
    Ok(expr)
}
