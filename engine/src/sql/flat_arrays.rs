//! UNNEST of an array of several dimensions gives what is in it, not the arrays of which it is made.
//!
//! ```text
//!   unnest('{{1,2},{3,4}}'::int[])     1, 2, 3, 4
//! ```
//!
//! Functions that return a set of arrays are unnested too, and give those.
//!
//! ```text
//!   unnest(regexp_matches(s, p, 'g'))  unnest(flatten(mr_regexp_matches(s, p, 'g'))): all that matched, not sets within a set
//! ```

use std::ops::ControlFlow;

use arrow::datatypes::DataType;
use datafusion::error::Result;
use datafusion::functions_nested::flatten::flatten_udf;
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, Unnest};
use sqlparser::ast;

use crate::sql::calls::arguments;
use crate::sql::outside::visit_outside_mut;
use crate::sql::rewrite::call;

/// `regexp_matches`, whose rows are arrays.
const SET_OF_ARRAYS: &str = "mr_regexp_matches";

/// Makes one set of those that are unnested of `regexp_matches` in an item of the select list.
pub fn flatten_matches(item: &mut ast::Expr) {
    let _ = visit_outside_mut::<()>(item, |expr| {
        if let ast::Expr::Function(function) = expr
            && function.name.to_string().eq_ignore_ascii_case("unnest")
            && let Some([ast::Expr::Function(matches)]) = arguments(function).as_deref()
            && matches.name.to_string().eq_ignore_ascii_case("regexp_matches")
            && let Some(of) = arguments(matches)
        {
            *expr = call("unnest", vec![call("flatten", vec![call(SET_OF_ARRAYS, of)])]);
        }
        ControlFlow::Continue(())
    });
}

/// The same UNNEST over arrays of one dimension; `None` where all are.
pub fn flat(unnest: &Unnest) -> Result<Option<LogicalPlan>> {
    let schema = unnest.input.schema();
    let mut changed = false;
    let columns = schema.columns().into_iter().zip(schema.iter()).map(|(column, (qualifier, field))| {
        let mut expr = Expr::Column(column.clone());
        if unnest.exec_columns.contains(&column) && !is_set_of_arrays(&unnest.input, field.name()) {
            let mut data_type = item_of(field.data_type());
            while let Some(DataType::List(item)) = data_type {
                expr = flatten_udf().call(vec![expr]);
                data_type = Some(item.data_type());
                changed = true;
            }
            expr = expr.alias_qualified(qualifier.cloned(), field.name());
        }
        expr
    });
    let columns: Vec<Expr> = columns.collect();
    if !changed {
        return Ok(None);
    }
    LogicalPlanBuilder::from(unnest.input.as_ref().clone())
        .project(columns)?
        .unnest_columns_with_options(unnest.exec_columns.clone(), unnest.options.clone())?
        .build()
        .map(Some)
}

fn item_of(data_type: &DataType) -> Option<&DataType> {
    match data_type {
        DataType::List(item) => Some(item.data_type()),
        _ => None,
    }
}

fn is_set_of_arrays(input: &LogicalPlan, name: &str) -> bool {
    let LogicalPlan::Projection(projection) = input else { return false };
    projection.schema.fields().iter().zip(&projection.expr).any(|(field, expr)| {
        field.name() == name
            && matches!(expr.clone().unalias(), Expr::ScalarFunction(function)
                if function.func.name() == SET_OF_ARRAYS)
    })
}
