//! What a bound plan needs before DataFusion's optimizer sees it: what depends on types, which the
//! syntax tree does not have, and subqueries that DataFusion cannot decorrelate.
//!
//! ```text
//! CAST(conrelid::regclass AS text)     -> CAST(regout(…) AS text)          prints the name
//! typreceive = 'array_recv'            -> typreceive = regproc('array_recv')
//! CAST(indkey AS text)                 -> array_text(indkey)               prints `1 2`
//! (SELECT … WHERE adrelid = a.attrelid) -> subquery(a.attrelid)             see dependent.rs
//! output columns of a reg* type        -> text
//! ```

mod dependent;

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::metadata::FieldMetadata;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Column, DFSchema, Result, ScalarValue};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{BinaryExpr, Expr, ExprSchemable, LogicalPlan, LogicalPlanBuilder, Operator, ScalarUDF};

use millrace_engine::sql::types::{TYPE_KEY, with_sql_type};

use super::{CatalogView, functions, types};

pub fn finish(plan: LogicalPlan, view: &Arc<CatalogView>) -> Result<LogicalPlan> {
    let context = Context { functions: functions::bind(view).into_iter().map(|f| (f.name().to_string(), f)).collect() };
    let plan = plan.transform_up_with_subqueries(|node| {
        let node = context.types(oids_together(node)?)?;
        node.transform_data(|node| dependent::replace(node, &context))
    })?;
    context.print_output(plan.data)
}

/// An oid and a reg* value together are an oid.
fn oids_together(node: LogicalPlan) -> Result<LogicalPlan> {
    let LogicalPlan::Union(mut union) = node else { return Ok(node) };
    let meaning = |input: &LogicalPlan, at: usize| functions::meaning(input.schema().field(at)).map(str::to_string);
    let mixed: Vec<usize> = (0..union.schema.fields().len())
        .filter(|&at| {
            let all: Vec<_> = union.inputs.iter().map(|input| meaning(input, at)).collect();
            let reg = |of: &Option<String>| of.as_deref().is_some_and(functions::is_reg);
            all.iter().any(reg) && all.iter().any(|of| *of != all[0])
        })
        .collect();
    if mixed.is_empty() {
        return Ok(LogicalPlan::Union(union));
    }
    for input in &mut union.inputs {
        let columns = input.schema().iter().enumerate().map(|(at, (qualifier, field))| {
            let column = Expr::Column(Column::from((qualifier, field)));
            match reg(field).filter(|_| mixed.contains(&at)) {
                Some(_) => {
                    let metadata = FieldMetadata::from(HashMap::from([(TYPE_KEY.to_string(), "oid".to_string())]));
                    column.alias_qualified_with_metadata(qualifier.cloned(), field.name(), Some(metadata))
                }
                None => column,
            }
        });
        let columns = columns.collect::<Vec<_>>();
        *input = Arc::new(LogicalPlanBuilder::new(input.as_ref().clone()).project(columns)?.build()?);
    }
    LogicalPlan::Union(union).recompute_schema()
}

struct Context {
    functions: HashMap<String, Arc<ScalarUDF>>,
}

impl Context {
    fn call(&self, name: &str, arguments: Vec<Expr>) -> Expr {
        self.functions.get(name).expect("a function of this folder").call(arguments)
    }

    /// Reg* columns of the result print as names.
    fn print_output(&self, plan: LogicalPlan) -> Result<LogicalPlan> {
        if matches!(plan, LogicalPlan::Explain(_)) || !plan.schema().fields().iter().any(|f| reg(f).is_some()) {
            return Ok(plan);
        }
        let columns: Vec<Expr> = plan
            .schema()
            .iter()
            .map(|(qualifier, field)| {
                let column = Expr::Column(Column::from((qualifier, field)));
                match reg(field) {
                    Some(_) => {
                        self.call(functions::REG_OUT, vec![column]).alias_qualified(qualifier.cloned(), field.name())
                    }
                    None => column,
                }
            })
            .collect();
        LogicalPlanBuilder::new(plan).project(columns)?.build()
    }

    fn types(&self, node: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
        let schema = input_schema(&node);
        let names = NamePreserver::new(&node);
        let makes_columns = matches!(node, LogicalPlan::Projection(_) | LogicalPlan::Aggregate(_));
        let changed = node.map_expressions(|e| {
            let name = names.save(&e);
            let mut changed = e.transform_up(|e| self.type_of_expression(e, &schema))?;
            if changed.transformed {
                changed = changed.update_data(|e| name.restore(e));
            }
            if makes_columns
                && changed.data.to_field(&schema).is_ok_and(|(_, f)| functions::meaning(&f).is_none())
                && let Some(meaning) = meaning_of(&changed.data, &schema)
            {
                let (qualifier, name) = changed.data.qualified_name();
                let metadata = FieldMetadata::from(HashMap::from([(TYPE_KEY.to_string(), meaning)]));
                changed = Transformed::yes(changed.data.alias_qualified_with_metadata(qualifier, name, Some(metadata)));
            }
            Ok(changed)
        })?;
        changed.transform_data(|node| node.recompute_schema().map(Transformed::yes))
    }

    fn type_of_expression(&self, expr: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
        let field = |e: &Expr| e.to_field(schema).ok().map(|(_, f)| f);
        Ok(match expr {
            Expr::Cast(mut cast) if is_text(cast.field.data_type()) => {
                let Some(inner) = field(&cast.expr) else { return Ok(Transformed::no(Expr::Cast(cast))) };
                let print = if reg(&inner).is_some() {
                    functions::REG_OUT
                } else if matches!(inner.data_type(), DataType::List(_)) {
                    functions::ARRAY_TEXT
                } else {
                    return Ok(Transformed::no(Expr::Cast(cast)));
                };
                cast.expr = Box::new(self.call(print, vec![*cast.expr]));
                Transformed::yes(Expr::Cast(cast))
            }
            Expr::BinaryExpr(BinaryExpr { left, op: Operator::StringConcat, right }) => {
                let mut changed = false;
                let mut side = |e: Box<Expr>| match field(&e) {
                    Some(f) if reg(&f).is_some() => {
                        changed = true;
                        Box::new(self.call(functions::REG_OUT, vec![*e]))
                    }
                    _ => e,
                };
                let binary = BinaryExpr { left: side(left), op: Operator::StringConcat, right: side(right) };
                Transformed::new_transformed(Expr::BinaryExpr(binary), changed)
            }
            Expr::BinaryExpr(BinaryExpr { left, op, right }) if matches!(op, Operator::Eq | Operator::NotEq) => {
                // conkey = '{1}': arrays are compared as they are written.
                let list = |e: &Expr| field(e).is_some_and(|f| matches!(f.data_type(), DataType::List(_)));
                if is_text_literal(&right) && list(&left) {
                    let left = Box::new(self.call(functions::ARRAY_TEXT, vec![*left]));
                    return Ok(Transformed::yes(Expr::BinaryExpr(BinaryExpr { left, op, right })));
                }
                let kind = |e: &Expr| field(e).and_then(|f| reg(&f).map(str::to_string));
                let (left, right, changed) = match (kind(&left), kind(&right)) {
                    (Some(kind), None) if is_text_literal(&right) => {
                        (left, Box::new(self.call(&kind, vec![*right])), true)
                    }
                    (None, Some(kind)) if is_text_literal(&left) => {
                        (Box::new(self.call(&kind, vec![*left])), right, true)
                    }
                    _ => (left, right, false),
                };
                Transformed::new_transformed(Expr::BinaryExpr(BinaryExpr { left, op, right }), changed)
            }
            Expr::InList(mut list) => {
                let kind = field(&list.expr).and_then(|f| reg(&f).map(str::to_string));
                let Some(kind) = kind.filter(|_| list.list.iter().any(is_text_literal)) else {
                    return Ok(Transformed::no(Expr::InList(list)));
                };
                let cast = |e: Expr| if is_text_literal(&e) { self.call(&kind, vec![e]) } else { e };
                list.list = list.list.into_iter().map(cast).collect();
                Transformed::yes(Expr::InList(list))
            }
            Expr::ScalarFunction(mut function) if function.args.iter().any(is_untyped_parameter) => {
                let of = function.args.iter().map(field).collect::<Vec<_>>();
                let name = function.name().to_string();
                for (i, argument) in function.args.iter_mut().enumerate() {
                    if let (Expr::Placeholder(parameter), Some(f)) = (argument, parameter_field(&name, i, &of)) {
                        parameter.field = parameter.field.take().or(Some(f));
                    }
                }
                Transformed::yes(Expr::ScalarFunction(function))
            }
            Expr::ScalarFunction(mut function) if takes_text(function.name()) => {
                let mut changed = false;
                let print = |e: Expr| match field(&e) {
                    Some(f) if reg(&f).is_some() => {
                        changed = true;
                        self.call(functions::REG_OUT, vec![e])
                    }
                    _ => e,
                };
                function.args = function.args.into_iter().map(print).collect();
                Transformed::new_transformed(Expr::ScalarFunction(function), changed)
            }
            other => Transformed::no(other),
        })
    }
}

/// What an expression's values mean where DataFusion does not pass it on: through CASE and coalesce, and
/// from elements to their array.
fn meaning_of(expr: &Expr, schema: &DFSchema) -> Option<String> {
    match expr {
        Expr::Alias(alias) => meaning_of(&alias.expr, schema),
        Expr::Case(case) => case.when_then_expr.iter().find_map(|(_, then)| meaning_of(then, schema)),
        Expr::ScalarFunction(f) if matches!(f.name(), "coalesce" | "nullif") => meaning_of(f.args.first()?, schema),
        Expr::AggregateFunction(f) if f.func.name() == "array_agg" => {
            meaning_of(f.params.args.first()?, schema).map(|m| format!("{m}[]"))
        }
        Expr::AggregateFunction(f) if matches!(f.func.name(), "min" | "max") => {
            meaning_of(f.params.args.first()?, schema)
        }
        other => other.to_field(schema).ok().and_then(|(_, f)| functions::meaning(&f).map(str::to_string)),
    }
}

fn is_untyped_parameter(expr: &Expr) -> bool {
    matches!(expr, Expr::Placeholder(p) if p.field.is_none())
}

/// What a parameter is as argument `i` of one of our functions, where it is not text.
fn parameter_field(function: &str, i: usize, arguments: &[Option<FieldRef>]) -> Option<FieldRef> {
    let typname = match (function, i) {
        (functions::ANY_OF | functions::ALL_OF, 2) => {
            let of = arguments[1].as_ref()?;
            let item = Field::new_list_field(of.data_type().clone(), true);
            let item = match functions::meaning(of) {
                Some(meaning) => with_sql_type(item, meaning),
                None => item,
            };
            return Some(Arc::new(Field::new("", DataType::List(Arc::new(item)), true)));
        }
        (f, 0 | 1) if f.contains("_advisory_") => match arguments.len() {
            1 => "int8",
            _ => "int4",
        },
        ("oid" | "xid" | "name" | "oid_array" | "name_array" | "char_array", 0) => match function {
            "oid_array" => "_oid",
            "name_array" => "_name",
            "char_array" => "_char",
            other => other,
        },
        ("format_type" | "obj_description" | "col_description" | "shobj_description", 0) => "oid",
        (f, 0)
            if f.ends_with("_is_visible")
                || (f.starts_with("pg_get_") && f != "pg_get_expr" && f != "pg_get_serial_sequence") =>
        {
            "oid"
        }
        _ => return None,
    };
    let field = match typname.strip_prefix('_') {
        // The type of a parameter is told without its field: so the elements say what they are.
        Some(element) => {
            let item = types::field(Field::LIST_FIELD_DEFAULT_NAME, element, true);
            Field::new("", DataType::List(Arc::new(item)), true)
        }
        None => types::field("", typname, true),
    };
    Some(Arc::new(field))
}

/// What a node's expressions may name.
fn input_schema(node: &LogicalPlan) -> DFSchema {
    let inputs = node.inputs();
    if inputs.is_empty() { node.schema().as_ref().clone() } else { merge_schema(&inputs) }
}

fn reg(field: &FieldRef) -> Option<&str> {
    functions::meaning(field).filter(|m| functions::is_reg(m))
}

fn is_text(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Utf8 | DataType::Utf8View | DataType::LargeUtf8)
}

fn is_text_literal(expr: &Expr) -> bool {
    matches!(expr, Expr::Literal(ScalarValue::Utf8(_) | ScalarValue::Utf8View(_) | ScalarValue::LargeUtf8(_), _))
}

fn takes_text(function: &str) -> bool {
    matches!(
        function,
        "format"
            | "concat"
            | "concat_ws"
            | "quote_ident"
            | "quote_literal"
            | "quote_nullable"
            | "lower"
            | "upper"
            | "replace"
            | "split_part"
            | "substr"
            | "json_build_object"
            | "jsonb_build_object"
            | "json_build_array"
            | "jsonb_build_array"
    )
}
