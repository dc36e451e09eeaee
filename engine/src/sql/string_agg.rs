//! `string_agg` by way of `array_agg`: DataFusion sorts the input for the one and inside the other, so that several of the
//! latter, each in an order of its own, can stand side by side.
//!
//! ```text
//!   string_agg(x, ', ' ORDER BY y)   ──►   array_to_string(array_agg(x ORDER BY y) FILTER (WHERE x IS NOT NULL), ', ')
//!   string_agg(x, s ORDER BY y)      ──►   mr_join_pairs(array_agg([x, s] ORDER BY y) FILTER (WHERE x IS NOT NULL))
//! ```
//!
//! The second where the separator is no constant, and of bytea. Over no values all are NULL.

use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::common::Result;
use datafusion::common::tree_node::Transformed;
use datafusion::error::DataFusionError;
use datafusion::functions_nested::make_array::make_array;
use datafusion::functions_nested::string::array_to_string;
use datafusion::logical_expr::expr::AggregateFunction;
use datafusion::logical_expr::{Aggregate, Cast, Expr, LogicalPlan, Projection, SortExpr};
use datafusion::optimizer::{ApplyOrder, OptimizerConfig, OptimizerRule};

use crate::error::Error;
use crate::sql::functions::{array_agg, join_pairs};

#[derive(Debug)]
pub struct StringAgg;

impl OptimizerRule for StringAgg {
    fn name(&self) -> &str {
        "string_agg_by_array_agg"
    }
    fn apply_order(&self) -> Option<ApplyOrder> {
        Some(ApplyOrder::TopDown)
    }
    fn rewrite(&self, plan: LogicalPlan, _: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        let LogicalPlan::Aggregate(aggregate) = &plan else { return Ok(Transformed::no(plan)) };
        let first = aggregate.schema.fields().len() - aggregate.aggr_expr.len();
        let own = aggregate.aggr_expr.iter().enumerate();
        let own = own.map(|(i, expr)| string_agg(expr, aggregate.schema.field(first + i).data_type()));
        let own: Vec<Option<Joined>> = own.collect::<Result<_>>()?;
        if own.iter().all(Option::is_none) {
            return Ok(Transformed::no(plan));
        }
        let calls = aggregate.aggr_expr.iter().zip(&own).map(|(expr, own)| match own {
            // The name tells apart what differs in the separator alone.
            Some(own) => own.values.clone().alias(expr.schema_name().to_string()),
            None => expr.clone(),
        });
        let calls = calls.collect();
        let lists = Aggregate::try_new(aggregate.input.clone(), aggregate.group_expr.clone(), calls)?;
        let columns = lists.schema.columns().into_iter().map(Expr::Column).enumerate();
        let exprs = columns.zip(aggregate.schema.iter()).map(|((i, column), (qualifier, field))| {
            let expr = match i.checked_sub(first).and_then(|call| own[call].as_ref()) {
                Some(own) => {
                    let joined = match &own.way {
                        Way::Constant(separator) => array_to_string(column, separator.clone()),
                        Way::Pairs { sorted } => join_pairs(column, *sorted),
                    };
                    Expr::Cast(Cast::new(Box::new(joined), field.data_type().clone()))
                }
                None => column,
            };
            expr.alias_qualified(qualifier.cloned(), field.name())
        });
        let exprs = exprs.collect();
        let joined = Projection::try_new(exprs, Arc::new(LogicalPlan::Aggregate(lists)))?;
        Ok(Transformed::yes(LogicalPlan::Projection(joined)))
    }
}

/// A `string_agg` as a list and what is done with it.
struct Joined {
    values: Expr,
    way: Way,
}

enum Way {
    Constant(Expr),
    Pairs {
        /// In the order of values and separators.
        sorted: bool,
    },
}

fn string_agg(expr: &Expr, gives: &DataType) -> Result<Option<Joined>> {
    let call = match expr {
        Expr::Alias(alias) => return string_agg(&alias.expr, gives),
        Expr::AggregateFunction(call) if call.func.name() == "string_agg" => call,
        _ => return Ok(None),
    };
    let [value, separator] = &call.params.args[..] else { return Ok(None) };
    let known = value.clone().is_not_null();
    let mut params = call.params.clone();
    params.filter = Some(Box::new(match params.filter {
        Some(filter) => filter.and(known),
        None => known,
    }));
    let way = match separator {
        Expr::Literal(constant, _) if !constant.is_null() && *gives != DataType::Binary => {
            params.args.truncate(1);
            // DISTINCT values come in their order.
            if params.distinct && params.order_by.is_empty() {
                params.order_by.push(value.clone().sort(true, false));
            }
            Way::Constant(separator.clone())
        }
        _ => {
            params.args = vec![make_array(vec![value.clone(), separator.clone()])];
            let sorted = params.distinct;
            // Of DISTINCT pairs the order is among them: by the values, and else by the separators.
            let ordered = |by: &[SortExpr]| {
                let own = [value, separator];
                by.len() <= 2 && by.iter().zip(own).all(|(by, own)| by.expr == *own && by.asc && !by.nulls_first)
            };
            if sorted && !ordered(&params.order_by) {
                let error = Error::unsupported("string_agg(DISTINCT) in another order than that of its values");
                return Err(DataFusionError::External(Box::new(error)));
            }
            if sorted {
                params.order_by.clear();
            }
            Way::Pairs { sorted }
        }
    };
    Ok(Some(Joined { values: Expr::AggregateFunction(AggregateFunction { func: array_agg(), params }), way }))
}
