//! What is changed in a bound plan before types are settled, so that it means what it means in Postgres:
//!
//! - in UNION, INTERSECT and EXCEPT a literal takes the type of the other side, and types of different kinds are an
//!   error;
//! - joins that are marked ASOF become nodes of their own;
//! - INTERSECT ALL and EXCEPT ALL count duplicates, which DataFusion's joins do not;
//! - correlated subqueries that no rule of DataFusion's makes a join of become joins (`dependent.rs`);
//! - UNNEST of arrays of several dimensions gives what is in them (`flat_arrays.rs`);
//! - a subquery used as a value is an error when it has several rows, where DataFusion joins all of them.
//!
//! ```text
//!   a EXCEPT ALL b      each row of a and b once, with how often it stands in a (l) and in b (r); l − r times, if positive
//!   (SELECT v FROM t)   mr_single((SELECT {n: count(*), value: max(v)} FROM t))
//! ```

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::nullif;
use arrow::datatypes::{DataType, Field, FieldRef, Int64Type};
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, NullEquality, ScalarValue, exec_err};
use datafusion::error::{DataFusionError, Result};
use datafusion::functions_aggregate::count::count_udaf;
use datafusion::functions_aggregate::first_last::first_value_udaf;
use datafusion::functions_aggregate::min_max::max_udaf;
use datafusion::logical_expr::expr::{AggregateFunction, Alias, InSubquery};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::{
    AggregateUDF, Cast, ColumnarValue, Distinct, Expr, FetchType, JoinType, LogicalPlan, LogicalPlanBuilder,
    Projection, RecursiveQuery, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, SkipType,
    SortExpr, Subquery, Union, Volatility, lit, when,
};

use crate::error::Error;
use crate::sql::as_of;
use crate::sql::below;
use crate::sql::common::{Kind, Padding, common_type, kind, literal_type, padding};
use crate::sql::dependent;
use crate::sql::flat_arrays;
use crate::sql::functions::{array_repeat, sum, without_padding};
use crate::sql::repeated;
use crate::sql::system_time;
use crate::sql::types::{
    TYPE_KEY, character_length_of, is_padded, is_read, moment_digits_of, sql_type_of, sql_type_of_arrow, with_sql_type,
};
use crate::sql::window_subqueries::below_windows;

/// The plan with all of it done.
pub fn shape(plan: LogicalPlan) -> Result<LogicalPlan> {
    check_padding(&plan, true)?;
    let plan = below_windows(dependent::below_laterals(plan)?)?;
    let mut changed = false;
    let plan = plan.transform_up_with_subqueries(|plan| {
        let plan = match plan {
            LogicalPlan::Union(union) => {
                let inputs = union.inputs.iter().map(|input| input.as_ref().clone()).collect();
                match unite("UNION", inputs)? {
                    // A union below may have got other types.
                    (inputs, united) if united || changed => {
                        changed = true;
                        let inputs = inputs.into_iter().map(Arc::new).collect();
                        LogicalPlan::Union(Union::try_new_with_loose_types(inputs)?)
                    }
                    _ => LogicalPlan::Union(union),
                }
            }
            LogicalPlan::Join(join) => match as_of::marked(&join)?.or(system_time::marked(&join)?) {
                Some(node) => {
                    changed = true;
                    node
                }
                // Nothing else makes such a join before the optimizer.
                None if join.null_equality == NullEquality::NullEqualsNull
                    && matches!(join.join_type, JoinType::LeftSemi | JoinType::LeftAnti) =>
                {
                    match set_operation(&join.left, &join.right, join.join_type)? {
                        Some(plan) => {
                            changed = true;
                            plan
                        }
                        None => LogicalPlan::Join(join),
                    }
                }
                None => LogicalPlan::Join(join),
            },
            LogicalPlan::Unnest(unnest) => {
                let flat = flat_arrays::flat(&unnest)?;
                let LogicalPlan::Unnest(unnest) = flat.unwrap_or(LogicalPlan::Unnest(unnest)) else {
                    unreachable!("it stays one")
                };
                // The columns may have got other types below.
                changed = true;
                match repeated::without_keys(&unnest)? {
                    Some(plan) => plan,
                    None => LogicalPlan::Unnest(unnest),
                }
            }
            other => other,
        };
        let names = NamePreserver::new(&plan);
        let plan = plan.map_expressions(|expr| {
            let name = names.save(&expr);
            let single = expr.transform_up(|expr| match expr {
                Expr::ScalarSubquery(subquery) => single(dependent::note(subquery)?),
                Expr::InSubquery(InSubquery { expr, subquery, negated }) => {
                    let subquery = dependent::note(subquery)?;
                    Ok(Transformed::no(Expr::InSubquery(InSubquery { expr, subquery, negated })))
                }
                other => Ok(Transformed::no(other)),
            })?;
            Ok(single.update_data(|expr| name.restore(expr)))
        })?;
        changed |= plan.transformed;
        let plan = match (below::computed(&plan.data)?, &plan.data) {
            (Some(computed), _) => Transformed::yes(computed),
            (None, LogicalPlan::RecursiveQuery(recursive)) => match with_nulls(&recursive.static_term)? {
                Some(first) => {
                    let static_term = Arc::new(first);
                    Transformed::yes(LogicalPlan::RecursiveQuery(RecursiveQuery { static_term, ..recursive.clone() }))
                }
                None => plan,
            },
            (None, _) => plan,
        };
        changed |= plan.transformed;
        if let Some(joined) = dependent::joined(&plan.data)? {
            changed = true;
            return Ok(Transformed::yes(joined));
        }
        if changed { Ok(Transformed::yes(plan.data.recompute_schema()?)) } else { Ok(plan) }
    })?;
    dependent::named_apart(plan.data)
}

/// The rows that a recursion begins with; later ones may have NULL where these have none.
fn with_nulls(plan: &LogicalPlan) -> Result<Option<LogicalPlan>> {
    if plan.schema().fields().iter().all(|field| field.is_nullable()) {
        return Ok(None);
    }
    // Something that is no constant: those are computed, and seen not to be NULL.
    let one = LogicalPlanBuilder::values(vec![vec![lit(1)]])?
        .project([Expr::Column(Column::new_unqualified("column1")).alias("mr one")])?;
    let unknown = Expr::Column(Column::new_unqualified("mr one"));
    let nullable = |((qualifier, field), column): ((Option<&_>, &FieldRef), Column)| match field.is_nullable() {
        true => Expr::Column(column),
        false => ScalarUDF::from(MaybeNull::default())
            .call(vec![Expr::Column(column), unknown.clone()])
            .alias_qualified(qualifier.cloned(), field.name()),
    };
    let columns: Vec<Expr> = plan.schema().iter().zip(plan.schema().columns()).map(nullable).collect();
    LogicalPlanBuilder::from(plan.clone()).cross_join(one.build()?)?.project(columns)?.build().map(Some)
}

/// `mr_maybe_null(x, y)`: x, of which nobody may think that it is never NULL.
#[derive(Debug, PartialEq, Eq, Hash)]
struct MaybeNull {
    signature: Signature,
}

impl Default for MaybeNull {
    fn default() -> Self {
        MaybeNull { signature: Signature::any(2, Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for MaybeNull {
    fn name(&self) -> &str {
        "mr_maybe_null"
    }
    fn signature(&self) -> &Signature {
        &self.signature
    }
    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        Ok(types[0].clone())
    }
    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        Ok(Arc::new(args.arg_fields[0].as_ref().clone().with_name(self.name()).with_nullable(true)))
    }
    fn invoke_with_args(&self, mut args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        Ok(args.args.remove(0))
    }
}

/// The value of a literal that stands for a column of a SELECT.
fn literal_of(plan: &LogicalPlan, column: usize) -> Option<&ScalarValue> {
    let projection = match plan {
        LogicalPlan::Projection(projection) => projection,
        // The sides of INTERSECT and EXCEPT are told apart by names where their columns have one.
        LogicalPlan::SubqueryAlias(alias) => return literal_of(&alias.input, column),
        _ => return None,
    };
    match projection.expr.get(column)? {
        Expr::Literal(value, _) => Some(value),
        Expr::Alias(Alias { expr, .. }) => match expr.as_ref() {
            Expr::Literal(value, _) => Some(value),
            _ => None,
        },
        _ => None,
    }
}

/// What is done to a column of an input, so that it is of the type of the whole.
#[derive(Clone)]
enum Change {
    Cast(Field),
    CutPadding,
}

/// Of columns of which some are char(n).
fn pad(operation: &str, inputs: &[LogicalPlan], column: usize, changes: &mut [Vec<Option<Change>>]) -> Result<()> {
    let literal = |input: &LogicalPlan| match literal_of(input, column) {
        Some(ScalarValue::Utf8(text)) => Some(text.clone()),
        _ => None,
    };
    let fields: Vec<&FieldRef> =
        inputs.iter().filter(|i| literal(i).is_none()).map(|i| &i.schema().fields()[column]).collect();
    let types: Vec<String> = fields.iter().map(|field| sql_type_of(field)).collect();
    match padding(types.iter().map(String::as_str)) {
        Padding::Kept => {
            let Some((length, field)) = types.first().and_then(|t| character_length_of(t)).zip(fields.first()) else {
                return Ok(());
            };
            if !types[0].starts_with("character(") {
                return Ok(());
            }
            for (input, changes) in inputs.iter().zip(changes) {
                match literal(input) {
                    Some(Some(text)) if text.trim_end_matches(' ').chars().count() > length => return loose(operation),
                    Some(_) => changes[column] = Some(Change::Cast(field.as_ref().clone().with_name(""))),
                    None => {}
                }
            }
            Ok(())
        }
        Padding::Cut => {
            for (input, changes) in inputs.iter().zip(changes) {
                if literal(input).is_none() && is_padded(&sql_type_of(input.schema().field(column))) {
                    changes[column] = Some(Change::CutPadding);
                }
            }
            Ok(())
        }
        Padding::Loose => loose(operation),
    }
}

/// A UNION of text and char(n) is text; but it was a char(n) to the expressions over it, which have been planned. So it is
/// refused but where nothing is over it: `shown`.
fn check_padding(plan: &LogicalPlan, shown: bool) -> Result<()> {
    let shows = match plan {
        LogicalPlan::Union(union) => {
            // An ORDER BY above may have got a column of its own from one of them.
            let width = union.schema.fields().len();
            if union.inputs.iter().any(|input| input.schema().fields().len() != width) {
                let error = Error::unsupported("ORDER BY of a UNION by anything but its columns");
                return Err(DataFusionError::External(Box::new(error.hint("Only result column names can be used."))));
            }
            for column in 0..union.schema.fields().len() {
                let fields = union.inputs.iter().map(|input| &input.schema().fields()[column]);
                let types: Vec<String> = fields.map(|field| sql_type_of(field)).collect();
                let cut = padding(types.iter().map(String::as_str)) == Padding::Cut;
                if !shown && cut && types[0] == "text" && literal_of(&union.inputs[0], column).is_none() {
                    return loose("UNION");
                }
            }
            true
        }
        LogicalPlan::Projection(projection) => {
            projection.expr.iter().all(|expr| matches!(expr.clone().unalias(), Expr::Column(_)))
        }
        LogicalPlan::Sort(_) | LogicalPlan::Limit(_) | LogicalPlan::Distinct(_) | LogicalPlan::SubqueryAlias(_) => true,
        _ => false,
    };
    plan.inputs().into_iter().try_for_each(|input| check_padding(input, shown && shows))?;
    plan.apply_subqueries(|subquery| {
        check_padding(subquery, false)?;
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(())
}

/// Values of which some are padded and others are not, though they are equal.
fn loose(operation: &str) -> Result<()> {
    let error = Error::unsupported(format!("{operation} of char(n) and texts of other lengths"));
    Err(DataFusionError::External(Box::new(error.hint("Cast the columns to text."))))
}

/// Of `timestamp(2)` and `timestamp(3)`, or times with and without such, the type is the one without.
fn all_digits(inputs: &[LogicalPlan], column: usize, wanted: &DataType, changes: &mut [Vec<Option<Change>>]) {
    let digits = |input: &LogicalPlan| moment_digits_of(&sql_type_of(input.schema().field(column)));
    let first = digits(&inputs[0]);
    if inputs.iter().all(|input| digits(input) == first) {
        return;
    }
    for (input, changes) in inputs.iter().zip(changes) {
        if digits(input).is_some() && input.schema().field(column).data_type() == wanted {
            let plain = with_sql_type(Field::new("", wanted.clone(), true), &sql_type_of_arrow(wanted));
            changes[column] = Some(Change::Cast(plain));
        }
    }
}

/// Of varchar and text the type is the first one's, of varchar of several lengths, or beside a literal, varchar of any.
fn one_type_of_text(inputs: &[LogicalPlan], column: usize, changes: &mut [Vec<Option<Change>>]) {
    let has_type = |input: &LogicalPlan| {
        *input.schema().field(column).data_type() != DataType::Null
            && !matches!(literal_of(input, column), Some(ScalarValue::Utf8(_)))
    };
    let types: Vec<Option<String>> =
        inputs.iter().map(|input| has_type(input).then(|| sql_type_of(input.schema().field(column)))).collect();
    let known = || types.iter().flatten().map(String::as_str);
    let is_varchar = |t: &str| t.starts_with("character varying");
    if !known().any(is_varchar) || !known().all(|t| is_varchar(t) || t == "text") {
        return;
    }
    let first = known().next().unwrap_or_default();
    if types.iter().all(|t| t.as_deref() == Some(first)) {
        return;
    }
    let wanted = if is_varchar(first) { "character varying" } else { "text" };
    for (own, changes) in types.iter().zip(changes) {
        if own.as_deref() != Some(wanted) {
            let field = Field::new("", DataType::Utf8, true);
            changes[column] = Some(Change::Cast(with_sql_type(field, wanted)));
        }
    }
}

/// Casts the literals among the columns of a set operation's inputs; whether there were any to cast.
fn unite(operation: &str, mut inputs: Vec<LogicalPlan>) -> Result<(Vec<LogicalPlan>, bool)> {
    let width = inputs[0].schema().fields().len();
    if inputs.iter().any(|input| input.schema().fields().len() != width) {
        return Ok((inputs, false));
    }
    let mut casts: Vec<Vec<Option<Change>>> = vec![vec![None; width]; inputs.len()];
    for column in 0..width {
        pad(operation, &inputs, column, &mut casts)?;
        let mut wanted: Option<DataType> = None;
        for input in &inputs {
            let data_type = input.schema().field(column).data_type();
            if *data_type == DataType::Null || matches!(literal_of(input, column), Some(ScalarValue::Utf8(_))) {
                continue;
            }
            wanted = match wanted {
                None => Some(data_type.clone()),
                Some(before) => match common_type(&before, data_type) {
                    None if kind(&before).is_some() && kind(data_type).is_some() => {
                        let (left, right) = (sql_type_of_arrow(&before), sql_type_of_arrow(data_type));
                        let message = format!("{operation} types {left} and {right} cannot be matched");
                        return Err(DataFusionError::External(Box::new(Error::new("42804", message))));
                    }
                    common => common.or(Some(before)),
                },
            };
        }
        let Some(wanted) = wanted else { continue };
        all_digits(&inputs, column, &wanted, &mut casts);
        if wanted == DataType::Utf8 {
            one_type_of_text(&inputs, column, &mut casts);
        }
        // A type of text that Arrow does not tell: a literal is read as it.
        let types = inputs.iter().filter(|i| !matches!(literal_of(i, column), Some(ScalarValue::Utf8(_))));
        let mut types = types.map(|input| sql_type_of(input.schema().field(column)));
        let told = types.find(|t| is_read(t));
        for (input, casts) in inputs.iter().zip(&mut casts) {
            casts[column] = match literal_of(input, column) {
                Some(ScalarValue::Utf8(Some(_))) if told.is_some() => {
                    let field = Field::new("", DataType::Utf8, true);
                    told.as_ref().map(|told| Change::Cast(with_sql_type(field, told)))
                }
                Some(ScalarValue::Utf8(Some(text))) if kind(&wanted).is_some_and(|kind| kind != Kind::Text) => {
                    Some(Change::Cast(Field::new("", literal_type(&wanted, text), true)))
                }
                // A numeric literal beside others of another scale does not give them its zeros.
                Some(ScalarValue::Decimal128(_, precision, scale))
                    if matches!(wanted, DataType::Decimal128(..))
                        && inputs.iter().any(|i| !has_scale(i.schema().field(column), *scale)) =>
                {
                    let own = DataType::Decimal128(*precision, *scale);
                    Some(Change::Cast(with_sql_type(Field::new("", own, true), "numeric")))
                }
                // To DataFusion an exact number is the better one; and what is an integer here may be a UNION with numerics.
                _ if wanted.is_floating()
                    && input.schema().field(column).data_type().is_numeric()
                    && *input.schema().field(column).data_type() != wanted =>
                {
                    Some(Change::Cast(Field::new("", wanted.clone(), true)))
                }
                // To DataFusion the first zone is as good as none.
                _ if matches!(wanted, DataType::Timestamp(_, Some(_)))
                    && kind(input.schema().field(column).data_type()) == Some(Kind::Moment)
                    && *input.schema().field(column).data_type() != wanted =>
                {
                    Some(Change::Cast(Field::new("", wanted.clone(), true)))
                }
                _ => casts[column].take(),
            };
        }
    }
    let mut changed = false;
    for (input, casts) in inputs.iter_mut().zip(casts) {
        if casts.iter().all(Option::is_none) {
            continue;
        }
        changed = true;
        let columns = input.schema().iter().map(|(qualifier, field)| (qualifier.cloned(), field.name().clone()));
        let exprs: Vec<Expr> = columns
            .zip(casts)
            .map(|((qualifier, name), change)| {
                let column = Expr::Column(Column::new(qualifier.clone(), &name));
                Ok(match change {
                    None => column,
                    Some(Change::Cast(field)) => Expr::Cast(Cast { expr: Box::new(column), field: Arc::new(field) })
                        .alias_qualified(qualifier, name),
                    Some(Change::CutPadding) => without_padding(column)?.alias_qualified(qualifier, name),
                })
            })
            .collect::<Result<_>>()?;
        *input = LogicalPlanBuilder::from(input.clone()).project(exprs)?.build()?;
    }
    Ok((inputs, changed))
}

fn has_scale(field: &Field, scale: i8) -> bool {
    match field.data_type() {
        DataType::Decimal128(_, own) => *own == scale && !field.metadata().contains_key(TYPE_KEY),
        _ => false,
    }
}

/// INTERSECT and EXCEPT, told from DataFusion's join for it; `None` where the join is right.
fn set_operation(left: &LogicalPlan, right: &LogicalPlan, join_type: JoinType) -> Result<Option<LogicalPlan>> {
    let intersect = join_type == JoinType::LeftSemi;
    // Of a SELECT DISTINCT with ALL the result is the same.
    let (distinct, inner) = match left {
        LogicalPlan::Distinct(Distinct::All(inner)) => (true, inner.as_ref()),
        other => (false, other),
    };
    let operation = if intersect { "INTERSECT" } else { "EXCEPT" };
    let (inputs, united) = unite(operation, vec![inner.clone(), right.clone()])?;
    let types = |plan: &LogicalPlan| plan.schema().fields().iter().map(|f| f.data_type().clone()).collect::<Vec<_>>();
    // A join would compare intervals by their parts.
    let by_span = types(inner).iter().any(|t| matches!(t, DataType::Interval(_)));
    if distinct && !united && !by_span && types(inner) == types(right) {
        return Ok(None);
    }
    let [left, right]: [LogicalPlan; 2] = inputs.try_into().expect("as many as went in");
    let width = left.schema().fields().len();
    let names: Vec<String> = (0..width).map(|i| format!("c{i}")).collect();
    let side = |plan: &LogicalPlan, l: i32, r: i32| -> Result<LogicalPlan> {
        let columns = plan.schema().columns().into_iter().zip(&names);
        let columns = columns.map(|(column, name)| Expr::Column(column).alias(name));
        let exprs: Vec<Expr> = columns.chain([lit(l).alias("l"), lit(r).alias("r")]).collect();
        LogicalPlanBuilder::from(plan.clone()).project(exprs)?.build()
    };
    let column = |name: &str| Expr::Column(Column::new_unqualified(name));
    let groups: Vec<Expr> = names.iter().map(|name| column(name)).collect();
    let sum = Arc::new(AggregateUDF::from(sum()));
    let (l, r) = (column("l"), column("r"));
    let counted = LogicalPlanBuilder::from(side(&left, 1, 0)?).union(side(&right, 0, 1)?)?.aggregate(
        groups.clone(),
        [
            aggregate(sum.clone(), vec![l.clone()], Vec::new()).alias("l"),
            aggregate(sum, vec![r.clone()], Vec::new()).alias("r"),
        ],
    )?;
    let zero = || lit(0i64);
    let counted: LogicalPlanBuilder = match (distinct, intersect) {
        (true, true) => counted.filter(l.gt(zero()).and(r.gt(zero())))?,
        (true, false) => counted.filter(l.gt(zero()).and(r.eq(zero())))?,
        (false, _) => {
            let copies = if intersect { when(l.clone().lt(r.clone()), l).otherwise(r)? } else { l - r };
            let list = array_repeat().call(vec![lit(true), column("n")]).alias("copies");
            let with = |last: Expr| groups.iter().cloned().chain([last]).collect::<Vec<_>>();
            let copied = counted
                .project(with(copies.alias("n")))?
                .filter(column("n").gt(zero()))?
                .project(with(list))?
                .unnest_column(Column::new_unqualified("copies"))?
                .build()?;
            repeated::unnested(copied)?.into()
        }
    };
    let named: Vec<Expr> = left
        .schema()
        .iter()
        .zip(groups)
        .map(|((qualifier, field), group)| group.alias_qualified(qualifier.cloned(), field.name()))
        .collect();
    counted.project(named)?.build().map(Some)
}

fn aggregate(function: Arc<AggregateUDF>, arguments: Vec<Expr>, order: Vec<SortExpr>) -> Expr {
    Expr::AggregateFunction(AggregateFunction::new_udf(function, arguments, false, None, order, None))
}

/// What a subquery's value is called: DataFusion puts columns beside it by which it is joined, which may have its name.
const VALUE: &str = "mr_value";

/// A SELECT of one item that was given a name, with another one.
fn renamed(plan: &LogicalPlan) -> Result<Option<LogicalPlan>> {
    let LogicalPlan::Projection(projection) = plan else { return Ok(None) };
    let [Expr::Alias(item)] = &projection.expr[..] else { return Ok(None) };
    let item = Alias { relation: None, name: VALUE.into(), ..item.clone() };
    Projection::try_new(vec![Expr::Alias(item)], projection.input.clone()).map(LogicalPlan::Projection).map(Some)
}

/// A subquery used as a value, with the check that it has one row at most.
fn single(subquery: Subquery) -> Result<Transformed<Expr>> {
    let with = |plan: LogicalPlan, subquery: &Subquery| {
        Expr::ScalarSubquery(Subquery { subquery: Arc::new(plan), ..subquery.clone() })
    };
    let plan = subquery.subquery.as_ref();
    if plan.schema().fields().len() != 1 {
        return Ok(Transformed::no(Expr::ScalarSubquery(subquery)));
    }
    let field = plan.schema().field(0).clone();
    let correlated = !subquery.outer_ref_columns.is_empty();
    if plan.max_rows().is_some_and(|rows| rows <= 1) {
        return Ok(match first_row(plan, correlated)? {
            Some(first) => Transformed::yes(with(first, &subquery)),
            None if !field.is_nullable() && !has_a_row(plan) => {
                // Without a row it is NULL, whatever its column is.
                let value = Expr::Column(plan.schema().columns().remove(0));
                let value = aggregate(max_udaf(), vec![value], Vec::new()).alias(VALUE);
                let plan = LogicalPlanBuilder::from(plan.clone()).aggregate(Vec::<Expr>::new(), [value])?.build()?;
                Transformed::yes(with(plan, &subquery))
            }
            None => match renamed(plan)?.filter(|_| correlated) {
                Some(renamed) => Transformed::yes(with(renamed, &subquery)),
                None => Transformed::no(Expr::ScalarSubquery(subquery)),
            },
        });
    }
    let column = Expr::Column(plan.schema().columns().remove(0));
    let value = |name: &str| Expr::Column(Column::new_unqualified(name));
    let row = datafusion::functions::core::named_struct();
    let row = row.call(vec![lit("n"), value("n"), lit("value"), value("value")]).alias(VALUE);
    let plan = LogicalPlanBuilder::from(plan.clone())
        .aggregate(
            Vec::<Expr>::new(),
            [
                aggregate(count_udaf(), vec![lit(1i64)], Vec::new()).alias("n"),
                aggregate(max_udaf(), vec![column], Vec::new()).alias("value"),
            ],
        )?
        .project([row])?
        .build()?;
    let check = Single { field, signature: Signature::any(1, Volatility::Immutable) };
    Ok(Transformed::yes(ScalarUDF::from(check).call(vec![with(plan, &subquery)])))
}

/// Whether it has a row whatever its inputs are.
fn has_a_row(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::Projection(_) | LogicalPlan::SubqueryAlias(_) | LogicalPlan::Sort(_) => {
            plan.inputs().into_iter().all(has_a_row)
        }
        LogicalPlan::Aggregate(aggregate) => aggregate.group_expr.is_empty(),
        LogicalPlan::EmptyRelation(empty) => empty.produce_one_row,
        _ => false,
    }
}

/// The first row of a correlated `SELECT v … ORDER BY w LIMIT 1` as an aggregate, which can be decorrelated.
fn first_row(plan: &LogicalPlan, correlated: bool) -> Result<Option<LogicalPlan>> {
    let LogicalPlan::Limit(limit) = plan else { return Ok(None) };
    let one = matches!(limit.get_fetch_type()?, FetchType::Literal(Some(1)));
    let from_first = matches!(limit.get_skip_type()?, SkipType::Literal(0));
    if !(correlated && one && from_first) {
        return Ok(None);
    }
    let (value, below) = match limit.input.as_ref() {
        LogicalPlan::Projection(projection) if matches!(projection.input.as_ref(), LogicalPlan::Sort(_)) => {
            (projection.expr[0].clone().unalias(), projection.input.as_ref())
        }
        other => (Expr::Column(other.schema().columns().remove(0)), other),
    };
    let (function, order, below) = match below {
        LogicalPlan::Sort(sort) if sort.fetch.is_none() => (first_value_udaf(), sort.expr.clone(), sort.input.as_ref()),
        // Any row will do: the largest can be maintained.
        other => (max_udaf(), Vec::new(), other),
    };
    let first = aggregate(function, vec![value], order).alias(VALUE);
    LogicalPlanBuilder::from(below.clone()).aggregate(Vec::<Expr>::new(), [first])?.build().map(Some)
}

/// `mr_single({n, value})`: the value, which must be the only one.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Single {
    /// The subquery's column: the value's type is known by its metadata too.
    field: FieldRef,
    signature: Signature,
}

impl ScalarUDFImpl for Single {
    fn name(&self) -> &str {
        "mr_single"
    }
    fn signature(&self) -> &Signature {
        &self.signature
    }
    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        match &types[0] {
            DataType::Struct(fields) if fields.len() == 2 => Ok(fields[1].data_type().clone()),
            other => exec_err!("mr_single of {other}"),
        }
    }
    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        let data_type = self.return_type(&[args.arg_fields[0].data_type().clone()])?;
        Ok(Arc::new(Field::new(self.name(), data_type, true).with_metadata(self.field.metadata().clone())))
    }
    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let scalar = matches!(args.args[0], ColumnarValue::Scalar(_));
        let rows = args.args[0].to_array(if scalar { 1 } else { args.number_rows })?;
        if rows.data_type() == &DataType::Null {
            return Ok(ColumnarValue::Scalar(ScalarValue::try_from(args.return_type())?));
        }
        let rows = rows.as_struct();
        let counts = rows.column(0).as_primitive::<Int64Type>();
        if (0..rows.len()).any(|row| rows.is_valid(row) && counts.is_valid(row) && counts.value(row) > 1) {
            let message = "more than one row returned by a subquery used as an expression";
            return Err(DataFusionError::External(Box::new(Error::new("21000", message))));
        }
        let values: ArrayRef = match rows.nulls() {
            Some(_) => nullif(rows.column(1), &arrow::compute::is_null(rows)?)?,
            None => rows.column(1).clone(),
        };
        match scalar {
            true => Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&values, 0)?)),
            false => Ok(ColumnarValue::Array(values)),
        }
    }
}
