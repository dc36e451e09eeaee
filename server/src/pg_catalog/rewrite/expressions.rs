//! Expressions: casts, functions, operators, arrays. Children have been rewritten when their parent is.

use millrace_engine::{Error, Result};
use sqlparser::ast::{
    AccessExpr, ArrayElemTypeDef, BinaryOperator, DataType, Expr, Function, FunctionArg, FunctionArgExpr,
    FunctionArguments, GroupByExpr, Ident, ObjectName, Query, SelectItem, SetExpr, Subscript, Value as Literal,
    ValueWithSpan,
};

use super::{Rewriter, call, fold, parse_expr, parse_query, parser, parts, text};
use crate::pg_catalog::names::Names;
use crate::pg_catalog::value::Value;
use crate::pg_catalog::{functions, relations, types};

/// Functions in SQL's syntax that take no parentheses and that sqlparser takes for columns.
const SESSION_WORDS: &[&str] =
    &["current_user", "session_user", "current_role", "current_catalog", "current_schema", "user", "system_user"];

pub fn is_session_word(word: &str) -> bool {
    SESSION_WORDS.iter().any(|w| w.eq_ignore_ascii_case(word))
}

pub fn is_system_column(word: &str) -> bool {
    ["xmin", "xmax", "cmin", "cmax", "ctid", "tableoid"].iter().any(|w| w.eq_ignore_ascii_case(word))
}

/// Types that DataFusion's planner does not know: those of pg_catalog by name, arrays of them, and any
/// that is qualified.
pub fn is_system_type(data_type: &DataType) -> bool {
    match data_type {
        DataType::Array(element) => element_type(element).is_some_and(is_system_type),
        DataType::Regclass | DataType::Custom(..) => true,
        _ => false,
    }
}

fn element_type(element: &ArrayElemTypeDef) -> Option<&DataType> {
    match element {
        ArrayElemTypeDef::SquareBracket(t, _)
        | ArrayElemTypeDef::AngleBracket(t)
        | ArrayElemTypeDef::Parenthesis(t) => Some(t),
        ArrayElemTypeDef::None => None,
    }
}

/// pg_type.typname of a type that is spelled in a way of its own.
fn typname(data_type: &DataType) -> Option<&'static str> {
    match data_type {
        DataType::Regclass => Some("regclass"),
        DataType::Custom(name, _) => {
            let parts: Vec<&Ident> = name.0.iter().filter_map(|p| p.as_ident()).collect();
            let word = fold(parts.last()?);
            // `"char"` and pg_catalog.char; an unquoted char is a key word and not here.
            if word == "char" { Some("char") } else { types::parse(&word).map(|(t, _)| t.name) }
        }
        _ => None,
    }
}

pub fn rewrite(expr: &mut Expr, rewriter: &Rewriter) -> Result<()> {
    match expr {
        Expr::Cast { expr: inner, data_type, .. } => {
            if let Some(replacement) = cast(inner, data_type)? {
                *expr = replacement;
            }
        }
        Expr::TypedString(typed) => {
            let literal = Expr::value(typed.value.value.clone());
            if let Some(replacement) = cast(&literal, &mut typed.data_type)? {
                *expr = replacement;
            }
        }
        Expr::Function(function) => {
            if let Some(replacement) = function_call(function, rewriter.of_system)? {
                *expr = replacement;
            }
        }
        Expr::Identifier(ident) if ident.quote_style.is_none() => {
            if is_session_word(&ident.value) {
                *expr = call(&ident.value.to_lowercase(), Vec::new());
            } else if is_system_column(&ident.value) {
                *expr = system_column(&ident.value.to_lowercase(), None, rewriter);
            }
        }
        Expr::CompoundIdentifier(idents) => {
            if let [.., qualifier, column] = idents.as_slice()
                && is_system_column(&column.value)
            {
                *expr = system_column(&column.value.to_lowercase(), Some(&fold(qualifier)), rewriter);
            }
        }
        Expr::BinaryOp { left, op, right } => {
            plain_operator(op)?;
            if let (Expr::Tuple(a), Expr::Tuple(b)) = (&**left, &**right)
                && *op != BinaryOperator::Overlaps
            {
                *expr = row_comparison(a, op, b)?;
            }
        }
        Expr::InList { expr: row, list, negated } if matches!(**row, Expr::Tuple(_)) => {
            let Expr::Tuple(row) = &**row else { unreachable!("the guard") };
            let mut alternatives = Vec::new();
            for item in list {
                match item {
                    Expr::Tuple(item) => {
                        alternatives.push(format!("({})", row_comparison(row, &BinaryOperator::Eq, item)?))
                    }
                    _ => return Err(Error::new("42804", "a row is compared with something that is no row")),
                }
            }
            *expr = parse_expr(&format!("{}({})", if *negated { "NOT " } else { "" }, alternatives.join(" OR ")))?;
        }
        Expr::Like { pattern, escape_char, .. } | Expr::ILike { pattern, escape_char, .. } => {
            plain_escape(pattern, escape_char);
        }
        Expr::Collate { expr: inner, .. } => *expr = (**inner).clone(),
        Expr::AnyOp { left, compare_op, right, .. } => {
            plain_operator(compare_op)?;
            if let Some(replacement) = any(left, compare_op, right, functions::ANY_OF, rewriter) {
                *expr = replacement;
            }
        }
        Expr::AllOp { left, compare_op, right } => {
            plain_operator(compare_op)?;
            if let Some(replacement) = any(left, compare_op, right, functions::ALL_OF, rewriter) {
                *expr = replacement;
            }
        }
        Expr::CompoundFieldAccess { root, access_chain } => {
            if let Some(replacement) = field_access(root, access_chain, rewriter) {
                *expr = replacement;
            }
        }
        _ => {}
    }
    Ok(())
}

/// None where the cast can stay.
fn cast(inner: &Expr, data_type: &mut DataType) -> Result<Option<Expr>> {
    if let DataType::Array(element) = data_type {
        let Some(element) = element_type(element) else { return Ok(None) };
        return array_cast(inner, element);
    }
    let Some(typname) = typname(data_type) else { return Ok(None) };
    if functions::is_type_cast(typname) {
        return Ok(Some(call(typname, vec![inner.clone()])));
    }
    if let Some(element) = typname.strip_prefix('_').and_then(types::by_typname) {
        return array_cast(inner, &parser(element.display)?.parse_data_type().map_err(Error::internal)?);
    }
    match typname {
        // Of any length, which its spelling in words is not.
        "bpchar" => Ok(None),
        // The vectors are arrays, and arrays are what is cast to them.
        "int2vector" | "oidvector" | "aclitem" | "pg_node_tree" | "unknown" => Ok(Some(inner.clone())),
        _ => {
            let display = types::by_typname(typname).map_or(typname, |t| t.display);
            let modifiers = match data_type {
                DataType::Custom(_, modifiers) => modifiers.join(","),
                _ => String::new(),
            };
            // `timestamp(3) with time zone`
            let display = match (modifiers.as_str(), display.split_once(" with")) {
                ("", _) => display.to_string(),
                (modifiers, Some((base, zone))) => format!("{base}({modifiers}) with{zone}"),
                (modifiers, None) => format!("{display}({modifiers})"),
            };
            *data_type = parser(&display)?.parse_data_type().map_err(Error::internal)?;
            Ok(None)
        }
    }
}

/// `'{a,b}'::text[]` becomes an array of casts, as does ARRAY[…]::oid[]. Another array stays what it is
/// when its elements' type is of the catalogs only.
fn array_cast(inner: &Expr, element: &DataType) -> Result<Option<Expr>> {
    let items: Vec<Expr> = match inner {
        Expr::Value(v) if !matches!(v.value, Literal::Placeholder(_)) => match &v.value {
            Literal::SingleQuotedString(s) => functions::parse_array(s)
                .iter()
                .map(|item| match item {
                    Value::Text(t) => text(t),
                    _ => Expr::value(Literal::Null),
                })
                .collect(),
            _ => return Ok(None),
        },
        Expr::Array(array) => array.elem.clone(),
        other => {
            return Ok(match typname(element) {
                Some("oid" | "xid" | "cid") => Some(call("oid_array", vec![other.clone()])),
                Some("name") => Some(call("name_array", vec![other.clone()])),
                Some("char") => Some(call("char_array", vec![other.clone()])),
                Some(_) => Some(other.clone()),
                None => None,
            });
        }
    };
    let mut element = element.clone();
    let casts: Result<Vec<String>> = items
        .iter()
        .map(|item| match cast(item, &mut element)? {
            Some(call) => Ok(call.to_string()),
            None => Ok(format!("CAST({item} AS {element})")),
        })
        .collect();
    let casts = casts?;
    if casts.is_empty() {
        let empty = cast(&Expr::value(Literal::Null), &mut element)?;
        let one = empty.map_or_else(|| format!("CAST(NULL AS {element})"), |e| e.to_string());
        return parse_expr(&format!("empty_of({one})")).map(Some);
    }
    parse_expr(&format!("make_array({})", casts.join(", "))).map(Some)
}

fn function_call(function: &mut Function, of_system: bool) -> Result<Option<Expr>> {
    let mut parts = parts(&function.name);
    let name = parts.pop().unwrap_or_default();
    let qualified = matches!(parts.last().map(String::as_str), Some("pg_catalog" | "information_schema"));
    if qualified {
        function.name = ObjectName::from(vec![Ident::new(&name)]);
    }
    if let FunctionArguments::Subquery(query) = &function.args
        && name == "array"
    {
        return array_of_query(query).map(Some);
    }
    if is_session_word(&name) || name == "current_schema" {
        return Ok(Some(call(&name, Vec::new())));
    }
    let FunctionArguments::List(list) = &mut function.args else { return Ok(None) };
    match name.as_str() {
        // Called by its name in full: with a pattern it is what SQL has a syntax for.
        "substring" => return parse_expr(&format!("substring({list})")).map(Some),
        "bpchar" if list.args.len() == 1 => {
            let argument = &list.args[0];
            return parse_expr(&format!("CAST({argument} AS bpchar)")).map(Some);
        }
        "generate_series" if of_system => {
            function.name = ObjectName::from(vec![Ident::new("series")]);
            return Ok(Some(call("unnest", vec![Expr::Function(function.clone())])));
        }
        // The engine knows these itself, and better.
        "generate_series" | "generate_subscripts" if !of_system => return Ok(None),
        "age" => {
            if let [FunctionArg::Unnamed(FunctionArgExpr::Expr(argument))] = list.args.as_slice()
                && is_transaction_id(argument)
            {
                function.name = ObjectName::from(vec![Ident::new("xid_age")]);
            }
        }
        _ => {}
    }
    if returns_set(&name) {
        let rows = call("unnest", vec![Expr::Function(function.clone())]);
        // Rows of one column are its values.
        return Ok(Some(match functions::find(&name).and_then(functions::row_columns).as_deref() {
            Some([column]) => call("get_field", vec![rows, text(column)]),
            _ => rows,
        }));
    }
    Ok(None)
}

/// Functions of ours that stand in a select list for many rows.
pub fn returns_set(name: &str) -> bool {
    matches!(name, "generate_subscripts" | "generate_series")
        || functions::find(name).is_some_and(|d| functions::row_columns(d).is_some())
}

fn is_transaction_id(argument: &Expr) -> bool {
    let column = match argument {
        Expr::Identifier(i) => fold(i),
        Expr::CompoundIdentifier(i) => i.last().map(fold).unwrap_or_default(),
        // What xmin has become.
        Expr::Function(f) => return parts(&f.name) == ["xid"],
        Expr::Nested(inner) => return is_transaction_id(inner),
        _ => return false,
    };
    matches!(
        column.as_str(),
        "xmin" | "relfrozenxid" | "datfrozenxid" | "backend_xmin" | "backend_xid" | "transactionid"
    )
}

/// ARRAY(SELECT e FROM … ORDER BY o): the order goes into the aggregate, where it is kept.
fn array_of_query(query: &Query) -> Result<Expr> {
    let plain = match &*query.body {
        SetExpr::Select(select) if query.with.is_none() && query.limit_clause.is_none() && query.fetch.is_none() => {
            let grouped = !matches!(&select.group_by, GroupByExpr::Expressions(e, _) if e.is_empty());
            let unnests = select.projection.iter().any(|i| i.to_string().contains("unnest("));
            (select.distinct.is_none()
                && select.having.is_none()
                && !grouped
                && !unnests
                && select.projection.len() == 1)
                .then_some(select)
        }
        _ => None,
    };
    let sql = match plain {
        Some(select) => {
            let item = match &select.projection[0] {
                SelectItem::UnnamedExpr(e) | SelectItem::ExprWithAlias { expr: e, .. } => e.to_string(),
                other => return Err(Error::syntax(format!("ARRAY of {other}"))),
            };
            let order = query.order_by.as_ref().map(|o| o.to_string()).unwrap_or_default();
            // ORDER BY 1 and ORDER BY of the column's own name mean the item.
            let order = match (order.strip_prefix("ORDER BY ").map(str::trim), &select.projection[0]) {
                (Some("1"), _) => format!("ORDER BY {item}"),
                (Some(name), SelectItem::ExprWithAlias { alias, .. }) if name == alias.value => {
                    format!("ORDER BY {item}")
                }
                _ => order,
            };
            let mut outer = select.clone();
            outer.projection = vec![SelectItem::UnnamedExpr(parse_expr(&format!("array_agg({item} {order})"))?)];
            outer.to_string()
        }
        None => format!("SELECT array_agg(\"array\".\"item\") FROM ({query}) AS \"array\"(\"item\")"),
    };
    let subquery = Expr::Subquery(Box::new(parse_query(&sql)?));
    Ok(call("or_empty", vec![subquery]))
}

fn system_column(column: &str, qualifier: Option<&str>, rewriter: &Rewriter) -> Expr {
    match column {
        "ctid" => text("(0,0)"),
        "tableoid" => {
            let scopes = rewriter.scopes.iter().rev();
            let table = match qualifier {
                Some(alias) => scopes.clone().find_map(|s| s.get(alias)),
                None => scopes.clone().next().and_then(|s| s.values().next()),
            };
            let oid = table.and_then(|name| {
                let parts = parts(name);
                let schema = parts.len().checked_sub(2).map(|i| parts[i].as_str());
                relations::find(schema, parts.last()?)
                    .map(|r| r.oid)
                    .or_else(|| rewriter.view.find_relation(&name.to_string()))
            });
            call("oid", vec![Expr::value(Literal::Number(oid.unwrap_or(0).to_string(), false))])
        }
        _ => call("xid", vec![text("0")]),
    }
}

/// LIKE p ESCAPE '/' to LIKE like_escape(p, '/'), whose escape is the backslash, the one that DataFusion knows.
fn plain_escape(pattern: &mut Expr, escape: &mut Option<ValueWithSpan>) {
    if let Some(ValueWithSpan { value: Literal::SingleQuotedString(by), .. }) = escape
        && by != "\\"
    {
        *pattern = call("like_escape", vec![pattern.clone(), text(by)]);
        *escape = None;
    }
}

/// OPERATOR(pg_catalog.~) to ~.
fn plain_operator(op: &mut BinaryOperator) -> Result<()> {
    let BinaryOperator::PGCustomBinaryOperator(parts) = op else { return Ok(()) };
    let symbol = parts.last().map(String::as_str).unwrap_or_default();
    *op = match symbol {
        "=" => BinaryOperator::Eq,
        "<>" | "!=" => BinaryOperator::NotEq,
        "<" => BinaryOperator::Lt,
        "<=" => BinaryOperator::LtEq,
        ">" => BinaryOperator::Gt,
        ">=" => BinaryOperator::GtEq,
        "+" => BinaryOperator::Plus,
        "-" => BinaryOperator::Minus,
        "*" => BinaryOperator::Multiply,
        "/" => BinaryOperator::Divide,
        "%" => BinaryOperator::Modulo,
        "||" => BinaryOperator::StringConcat,
        "~" => BinaryOperator::PGRegexMatch,
        "~*" => BinaryOperator::PGRegexIMatch,
        "!~" => BinaryOperator::PGRegexNotMatch,
        "!~*" => BinaryOperator::PGRegexNotIMatch,
        "~~" => BinaryOperator::PGLikeMatch,
        "~~*" => BinaryOperator::PGILikeMatch,
        "!~~" => BinaryOperator::PGNotLikeMatch,
        "!~~*" => BinaryOperator::PGNotILikeMatch,
        other => return Err(Error::new("42883", format!("operator {other} does not exist"))),
    };
    Ok(())
}

/// `(a, b) = (c, d)` and its like; the first difference decides which row is less.
fn row_comparison(left: &[Expr], op: &BinaryOperator, right: &[Expr]) -> Result<Expr> {
    if left.len() != right.len() {
        return Err(Error::syntax("unequal number of entries in row expressions"));
    }
    let pairs: Vec<String> = left.iter().zip(right).map(|(a, b)| format!("({a}) = ({b})")).collect();
    match op {
        BinaryOperator::Eq => parse_expr(&format!("({})", pairs.join(" AND "))),
        BinaryOperator::NotEq => parse_expr(&format!("(NOT ({}))", pairs.join(" AND "))),
        BinaryOperator::Lt | BinaryOperator::LtEq | BinaryOperator::Gt | BinaryOperator::GtEq => {
            let less = matches!(op, BinaryOperator::Lt | BinaryOperator::LtEq);
            let strict = if less { BinaryOperator::Lt } else { BinaryOperator::Gt };
            let mut decided = None;
            for (a, b) in left.iter().zip(right).rev() {
                decided = Some(match decided {
                    None => format!("({a}) {op} ({b})"),
                    Some(rest) => format!("(({a}) {strict} ({b}) OR (({a}) = ({b}) AND {rest}))"),
                });
            }
            parse_expr(&format!("({})", decided.unwrap_or_else(|| "true".into())))
        }
        other => Err(Error::unsupported(format!("operator {other} between rows"))),
    }
}

/// `x op ANY (array)`. A subquery of many rows stays, except as IN, which DataFusion plans better.
fn any(left: &Expr, op: &BinaryOperator, right: &Expr, function: &str, rewriter: &Rewriter) -> Option<Expr> {
    if let Expr::Subquery(query) = right {
        let negated = match (op, function) {
            (BinaryOperator::Eq, functions::ANY_OF) => false,
            (BinaryOperator::NotEq, functions::ALL_OF) => true,
            _ => return None,
        };
        return Some(Expr::InSubquery { expr: Box::new(left.clone()), subquery: query.clone(), negated });
    }
    if !rewriter.of_system {
        return None;
    }
    if let (Expr::Array(array), BinaryOperator::Eq, functions::ANY_OF) = (right, op, function)
        && !array.elem.is_empty()
    {
        return Some(Expr::InList { expr: Box::new(left.clone()), list: array.elem.clone(), negated: false });
    }
    Some(call(function, vec![text(&op.to_string()), left.clone(), right.clone()]))
}

/// `(keys).n` and `indkey[0]`; None for what is only a qualified column.
fn field_access(root: &Expr, chain: &[AccessExpr], rewriter: &Rewriter) -> Option<Expr> {
    let mut chain = chain.iter().peekable();
    let mut expr = match root {
        // a.b[1] has a as its root.
        Expr::Identifier(ident) => {
            let mut idents = vec![ident.clone()];
            while let Some(AccessExpr::Dot(Expr::Identifier(next))) = chain.peek() {
                idents.push(next.clone());
                chain.next();
            }
            if idents.len() == 1 { root.clone() } else { Expr::CompoundIdentifier(idents) }
        }
        other => other.clone(),
    };
    for access in chain {
        expr = match access {
            AccessExpr::Dot(Expr::Identifier(field)) => call("get_field", vec![expr, text(&fold(field))]),
            AccessExpr::Subscript(Subscript::Index { index }) if rewriter.of_system => {
                call(functions::SUBSCRIPT, vec![expr, index.clone()])
            }
            _ => return None,
        };
    }
    Some(expr)
}
