//! What DataFusion and Arrow report, in Postgres' words and with its SQLSTATEs.
//!
//! Our own functions raise [`Error`]s, which pass through DataFusion as external errors and come out as they are. For
//! the rest the kind of the error decides where it can, and its text where it must; [`TEXTS`] is the table. What nothing
//! matches is XX000 only if DataFusion itself calls it internal.

use arrow::error::ArrowError;
use datafusion::common::{Column, SchemaError, Span};
use datafusion::error::DataFusionError;

use crate::error::Error;
use crate::sql::bind::nearest;
use crate::sql::item_names::plain_name;

/// The user's view of a DataFusion error.
pub fn error_from(error: DataFusionError) -> Error {
    from_reference(&error)
}

fn from_reference(error: &DataFusionError) -> Error {
    match error {
        DataFusionError::External(inner) => match inner.downcast_ref::<Error>() {
            Some(error) => error.clone(),
            None => match inner.downcast_ref::<DataFusionError>() {
                Some(inner) => from_reference(inner),
                None => match inner.downcast_ref::<ArrowError>() {
                    Some(inner) => from_arrow(inner),
                    None => from_text(&inner.to_string(), "58000"),
                },
            },
        },
        DataFusionError::Context(_, inner) => from_reference(inner),
        DataFusionError::Diagnostic(diagnostic, inner) => {
            let mut error = from_reference(inner);
            // Of other errors it marks a whole clause, or something else than Postgres does.
            if ["42703", "42702", "42P01", "42883", "42803"].contains(&error.code) {
                error.place = error.place.or(diagnostic.span.as_ref().map(start_of));
            }
            error
        }
        DataFusionError::Shared(inner) => from_reference(inner),
        DataFusionError::Collection(errors) => match errors.first() {
            Some(first) => from_reference(first),
            None => Error::internal("an empty collection of errors"),
        },
        DataFusionError::ArrowError(inner, _) => from_arrow(inner),
        DataFusionError::SchemaError(inner, _) => from_schema(inner),
        DataFusionError::SQL(inner, _) => Error::syntax(inner.to_string()),
        DataFusionError::NotImplemented(text) => not_implemented(text),
        DataFusionError::ResourcesExhausted(text) => exhausted(text),
        DataFusionError::IoError(inner) => from_text(&inner.to_string(), "58030"),
        DataFusionError::Plan(text) | DataFusionError::Configuration(text) => from_text(text, "42601"),
        DataFusionError::Execution(text) => from_text(text, "22000"),
        DataFusionError::ExecutionJoin(inner) => from_text(&inner.to_string(), "XX000"),
        DataFusionError::Internal(text) => from_text(text, "XX000"),
        other => from_text(&other.to_string(), "XX000"),
    }
}

/// What ad-hoc queries may have of memory is used up.
fn exhausted(text: &str) -> Error {
    let text = text.lines().next().unwrap_or_default();
    Error::new("53200", "out of memory: what ad-hoc queries may take (memory) is used up")
        .detail(text)
        .hint("Let the query read, group or sort less, or start the server with more --memory (MILLRACE_MEMORY).")
}

fn from_arrow(error: &ArrowError) -> Error {
    match error {
        ArrowError::DivideByZero => division_by_zero(),
        ArrowError::ArithmeticOverflow(text) => overflow(text),
        ArrowError::ExternalError(inner) => match inner.downcast_ref::<DataFusionError>() {
            Some(inner) => from_reference(inner),
            None => match inner.downcast_ref::<Error>() {
                Some(inner) => inner.clone(),
                None => from_text(&inner.to_string(), "22000"),
            },
        },
        ArrowError::NotYetImplemented(text) => not_implemented(text),
        ArrowError::CastError(text) | ArrowError::ParseError(text) => from_text(text, "22P02"),
        ArrowError::ComputeError(text) | ArrowError::InvalidArgumentError(text) => from_text(text, "22000"),
        ArrowError::MemoryError(text) => Error::new("53200", "out of memory").detail(text),
        ArrowError::DictionaryKeyOverflowError
        | ArrowError::RunEndIndexOverflowError
        | ArrowError::OffsetOverflowError(_) => Error::new("54000", "a column of one batch is larger than 2 GB"),
        other => from_text(&other.to_string(), "22000"),
    }
}

fn division_by_zero() -> Error {
    Error::new("22012", "division by zero")
}

/// `Overflow happened on: 2147483647 + 1` does not say the type; Postgres says `integer out of range`.
fn overflow(text: &str) -> Error {
    if text.to_lowercase().contains("decimal") {
        return Error::new("22003", "numeric field overflow").detail(text);
    }
    Error::new("22003", "value out of range").detail(text)
}

fn not_implemented(text: &str) -> Error {
    let line = text.lines().next().unwrap_or_default().trim_start_matches("Unsupported ");
    if line.to_lowercase().contains("not supported") || line.contains("not implemented") || line.contains("not yet") {
        return Error::new("0A000", sql_types(line));
    }
    Error::unsupported(sql_types(line))
}

fn start_of(span: &Span) -> (u64, u64) {
    (span.start.line, span.start.column)
}

fn from_schema(error: &SchemaError) -> Error {
    match error {
        SchemaError::FieldNotFound { field, valid_fields } => {
            let mut error = column_not_found(field, valid_fields);
            error.place = field.spans().first().as_ref().map(start_of);
            error
        }
        SchemaError::AmbiguousReference { field } => {
            Error::new("42702", format!("column reference \"{}\" is ambiguous", plain_name(&field.name)))
        }
        SchemaError::DuplicateQualifiedField { name, .. } | SchemaError::DuplicateUnqualifiedField { name } => {
            Error::new("42701", format!("column \"{}\" specified more than once", plain_name(name)))
        }
    }
}

fn column_not_found(field: &Column, valid: &[Column]) -> Error {
    let name = plain_name(&field.name);
    let Some(relation) = &field.relation else {
        let error = Error::undefined_column(name);
        let candidates = valid.iter().map(|c| c.name.as_str()).filter(|c| !c.contains('\u{1}'));
        return match nearest(name, candidates) {
            Some(near) => {
                let qualified = valid.iter().find(|c| c.name == near).and_then(|c| c.relation.as_ref());
                let near = qualified.map_or_else(|| near.to_string(), |r| format!("{}.{near}", r.table()));
                error.hint(format!("Perhaps you meant to reference the column \"{near}\"."))
            }
            None => error,
        };
    };
    let table = relation.table();
    let known = valid.iter().any(|c| c.relation.as_ref().is_some_and(|r| r.table() == table));
    if !known {
        return Error::new("42P01", format!("missing FROM-clause entry for table \"{table}\""));
    }
    let error = Error::new("42703", format!("column {table}.{name} does not exist"));
    let candidates =
        valid.iter().filter(|c| c.relation.as_ref().is_some_and(|r| r.table() == table)).map(|c| c.name.as_str());
    match nearest(name, candidates) {
        Some(near) => error.hint(format!("Perhaps you meant to reference the column \"{table}.{near}\".")),
        None => error,
    }
}

/// A text that contains the first part is an error with this code; the message is made by the function, from the text.
type Rule = (&'static str, &'static str, fn(&str) -> String);

fn same(text: &str) -> String {
    sql_types(text.lines().next().unwrap_or_default())
}

/// What stands between the first `before` and the next `after`.
fn between<'a>(text: &'a str, before: &str, after: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(before)?;
    rest.split_once(after).map(|(found, _)| found)
}

fn operator(text: &str) -> String {
    let rest = text.split(" operation ").nth(1).or_else(|| between(text, "arithmetic expression ", " to valid types"));
    let rest = rest.map(|r| r.split(" to valid types").next().unwrap_or(r)).unwrap_or(text);
    format!("operator does not exist: {}", sql_types(rest.lines().next().unwrap_or_default()))
}

fn function_of_types(text: &str) -> String {
    if let Some(ours) = between(text, "failed with: External error: ", ". No function") {
        return ours.to_string();
    }
    let quoted = || between(text, "call to '", "'").or_else(|| between(text, "unction '", "'")).unwrap_or("");
    let name = quoted();
    let types = between(text, "coercion from ", " to the signature").unwrap_or_default();
    match types.is_empty() {
        true => format!("function {name}: {}", same(text)),
        false => format!("function {name}({}) does not exist", sql_types(types)),
    }
}

fn invalid_function(text: &str) -> String {
    format!("function {}() does not exist", between(text, "Invalid function '", "'").unwrap_or("?"))
}

fn group_by(text: &str) -> String {
    let column =
        between(text, "column \"", "\"").or_else(|| between(text, "references: ", " must appear")).unwrap_or("?");
    let column = column.split(": ").next().unwrap_or(column);
    format!(
        "column \"{}\" must appear in the GROUP BY clause or be used in an aggregate function",
        plain_name(column).trim_matches('"')
    )
}

fn bad_input(text: &str) -> String {
    // Cannot cast string 'abc' to value of Int32 type
    if let (Some(value), Some(target)) =
        (between(text, "Cannot cast string '", "' to value of"), between(text, "value of ", " type"))
    {
        return format!("invalid input syntax for type {}: \"{value}\"", sql_types(target));
    }
    same(text)
}

fn out_of_range(text: &str) -> String {
    // Can't cast value 99999 to type Int16
    match text.split(" to type ").nth(1) {
        Some(target) => format!("{} out of range", sql_types(target.trim())),
        None => same(text),
    }
}

fn position_in_list(text: &str) -> String {
    let position =
        between(text, "position ", " in SELECT").or_else(|| between(text, "specified: ", ",")).unwrap_or("0");
    format!("position {position} is not in select list")
}

const TEXTS: &[Rule] = &[
    ("LIMIT must be >=", "2201W", |_| "LIMIT must not be negative".into()),
    ("OFFSET must be >=", "2201X", |_| "OFFSET must not be negative".into()),
    ("Expected LIMIT to be an integer", "42804", |_| "argument of LIMIT must be type bigint".into()),
    ("Expected OFFSET to be an integer", "42804", |_| "argument of OFFSET must be type bigint".into()),
    ("logical expression WindowFunction", "42P20", |_| "window functions are not allowed in WHERE".into()),
    ("logical expression Wildcard", "42883", |_| "function does not exist: * stands for no argument of it".into()),
    ("calls cannot be nested", "42803", |_| "aggregate function calls cannot be nested".into()),
    ("DISTINCT ON expressions must match", "42P10", |_| {
        "SELECT DISTINCT ON expressions must match initial ORDER BY expressions".into()
    }),
    ("negative count not allowed", "22011", |_| "negative substring length not allowed".into()),
    ("field position must not be zero", "22023", |_| "field position must not be zero".into()),
    ("Step cannot be zero", "22023", |_| "step size cannot equal zero".into()),
    ("Unable to parse date from", "22008", |t| {
        let date = t.split("Unable to parse date from ").nth(1).unwrap_or_default();
        format!("date field value out of range: {}", date.trim())
    }),
    ("regex parse error", "2201B", |t| format!("invalid regular expression: {}", t.lines().last().unwrap_or_default())),
    ("CAST from ", "42846", |t| match (between(t, "CAST from ", " to "), between(t, " to ", " is not supported")) {
        (Some(from), Some(to)) => format!("cannot cast type {} to {}", sql_types(from), sql_types(to)),
        _ => same(t),
    }),
    ("ivide by zero", "22012", |_| "division by zero".into()),
    ("division by zero", "22012", |_| "division by zero".into()),
    ("Overflow happened on", "22003", |t| overflow(t).message),
    ("Can't cast value", "22003", out_of_range),
    ("is too large to store in a Decimal", "22003", |_| "numeric field overflow".into()),
    ("is too small to store in a Decimal", "22003", |_| "numeric field overflow".into()),
    ("Cannot cast to Decimal", "22003", |_| "numeric field overflow".into()),
    ("out of range", "22003", same),
    ("verflow", "22003", |_| "value out of range".into()),
    ("Cannot cast string", "22P02", bad_input),
    ("Error parsing timestamp", "22007", |t| {
        let value = between(t, "timestamp from '", "'").unwrap_or_default();
        format!("invalid input syntax for type timestamp: \"{value}\"")
    }),
    ("Invalid timezone", "22023", |t| {
        format!("time zone {} not recognized", t.split("Invalid timezone ").nth(1).unwrap_or("").trim())
    }),
    ("Function 'coalesce' user-defined coercion", "42804", |_| "COALESCE types cannot be matched".into()),
    ("Function 'make_array' user-defined coercion", "42804", |_| "ARRAY types cannot be matched".into()),
    ("Invalid function '", "42883", invalid_function),
    ("Failed to coerce arguments", "42883", function_of_types),
    ("No function matches", "42883", function_of_types),
    ("Cannot coerce arithmetic", "42883", operator),
    ("Cannot get result type", "42883", operator),
    ("Cannot infer common", "42883", operator),
    ("does not exist in FROM", "42883", same),
    ("expected at least one argument", "42883", function_of_types),
    ("expects ", "42883", function_of_types),
    ("arguments but received", "42883", function_of_types),
    ("does not support zero arguments", "42883", function_of_types),
    ("has signature", "42883", function_of_types),
    ("Function '", "42883", function_of_types),
    ("Unary operator '-'", "42883", same),
    ("Negation only supports", "42883", |_| "operator does not exist: - on this type".into()),
    ("Unary operator 'NOT'", "42804", |_| "argument of NOT must be type boolean".into()),
    ("must appear in the GROUP BY clause", "42803", group_by),
    ("must be in GROUP BY", "42803", group_by),
    ("could not be resolved from available columns", "42803", group_by),
    ("to grouping function is not in grouping columns", "42803", |_| {
        "arguments to GROUPING must be grouping expressions of the associated query level".into()
    }),
    ("Aggregate functions are not allowed", "42803", |_| "aggregate functions are not allowed in WHERE".into()),
    ("Window functions are not allowed", "42P20", same),
    ("Cannot find column with position", "42P10", position_in_list),
    ("Order by column out of bounds", "42P10", position_in_list),
    ("Order by index starts at 1", "42P10", |_| "ORDER BY position 0 is not in select list".into()),
    ("In an aggregate with DISTINCT, ORDER BY", "42P10", |_| {
        "in an aggregate with DISTINCT, ORDER BY expressions must appear in argument list".into()
    }),
    ("For SELECT DISTINCT, ORDER BY expressions", "42P10", |_| {
        "for SELECT DISTINCT, ORDER BY expressions must appear in select list".into()
    }),
    ("Projections require unique expression names", "42701", |_| "a column name is specified more than once".into()),
    ("have the same name", "42701", |_| "a column name is specified more than once".into()),
    ("Scalar subquery should only return one column", "42601", |_| "subquery must return only one column".into()),
    ("should only return one column", "42601", |_| "subquery has too many columns".into()),
    ("Union schemas have different number", "42601", |_| {
        "each UNION query must have the same number of columns".into()
    }),
    ("UNION queries have different number", "42601", |_| {
        "each UNION query must have the same number of columns".into()
    }),
    ("INTERSECT/EXCEPT query must have the same", "42601", |_| {
        "each INTERSECT or EXCEPT query must have the same number of columns".into()
    }),
    ("have the same number of columns", "42601", same),
    ("Incompatible inputs for Union", "42804", |_| "UNION types cannot be matched".into()),
    ("Inconsistent data length across values", "42601", |_| "VALUES lists must all be the same length".into()),
    ("Inconsistent data type across values", "42804", |_| "VALUES types cannot be matched".into()),
    ("isn't a common type", "42804", same),
    ("Failed to coerce", "42804", same),
    ("can't cast to", "42804", same),
    ("Can not find compatible types", "42804", same),
    ("Cannot automatically convert", "42804", same),
    ("Cannot create filter with non-boolean predicate", "42804", |t| {
        let found = t.split(" returning ").nth(1).map(|f| sql_types(f.trim())).unwrap_or_default();
        format!("argument of WHERE must be type boolean, not type {found}")
    }),
    ("Invalid qualifier ", "42P01", |t| {
        let name = t.split("Invalid qualifier ").nth(1).unwrap_or_default();
        format!("missing FROM-clause entry for table \"{}\"", name.trim())
    }),
    ("trying to unnest on invalid data type", "42883", |t| {
        let of = t.split("invalid data type ").nth(1).unwrap_or_default();
        format!("function unnest({}) does not exist", sql_types(of.trim()))
    }),
    ("specified more than once", "42712", same),
    ("is defined multiple times", "42P20", same),
    ("columns specified, but result has", "42P10", same),
    ("Source table contains", "42P10", |_| "table has a different number of columns than its alias names".into()),
    ("Correlated scalar subquery must be aggregated", "0A000", |_| {
        "a correlated subquery used as a value must be an aggregate, so that it returns one row".into()
    }),
    ("orrelated scalar subquery", "0A000", same),
    ("subquery can only be used in", "0A000", same),
    ("returned more than one row", "21000", |_| {
        "more than one row returned by a subquery used as an expression".into()
    }),
    ("more than one row", "21000", |_| "more than one row returned by a subquery used as an expression".into()),
    ("Physical plan does not support logical expression", "0A000", |_| {
        "a subquery in this place is not supported".into()
    }),
    ("ot implemented", "0A000", same),
    ("not supported", "0A000", same),
    ("nsupported", "0A000", same),
    ("laceholder", "42P02", same),
    ("Regular expression did not compile", "2201B", |t| format!("invalid regular expression: {}", same(t))),
    ("recursion limit", "54001", |_| "stack depth limit exceeded".into()),
    ("exceeds size limit", "54000", |_| "a pattern is too large".into()),
    ("used disk space", "53100", |_| SPILLED_TOO_MUCH.into()),
    ("No space left on device", "53100", |_| SPILLED_TOO_MUCH.into()),
    ("Resources exhausted", "53200", |_| "out of memory: what ad-hoc queries may take (memory) is used up".into()),
    ("canceled", "57014", |_| "canceling statement due to user request".into()),
    ("cancelled", "57014", |_| "canceling statement due to user request".into()),
    ("timestamp before ", "22008", |_| "timestamp out of range".into()),
];

const SPILLED_TOO_MUCH: &str = "a query's temporary files take too much room on the data directory's disk";

/// What wrappers put before a message.
const PREFIXES: &[&str] = &[
    "Error during planning: ",
    "External error: ",
    "Arrow error: ",
    "Execution error: ",
    "Optimizer rule ",
    "Cast error: ",
    "Compute error: ",
    "Parser error: ",
    "Arithmetic overflow: ",
    "Divide by zero error",
    "Invalid argument error: ",
];

fn from_text(text: &str, otherwise: &'static str) -> Error {
    let mut text = text;
    let mut code = otherwise;
    while let Some(rest) = PREFIXES.iter().find_map(|prefix| text.strip_prefix(prefix)) {
        if rest.is_empty() {
            break;
        }
        if text.starts_with("Cast error") {
            code = "22P02";
        }
        text = rest;
    }
    for (contains, code, message) in TEXTS {
        if text.contains(contains) {
            let error = Error::new(code, message(text));
            let error = match between(text, "Did you mean '", "'") {
                Some(near) => error.hint(format!("Perhaps you meant {near}().")),
                None => error,
            };
            return match text.contains("mz_now") {
                true => error.hint("The time of the statement is now()."),
                false => error,
            };
        }
    }
    Error::new(code, same(text))
}

/// Arrow's names of types, in Postgres' words.
fn sql_types(text: &str) -> String {
    const WORDS: &[(&str, &str)] = &[
        ("Timestamp(µs, \"+00:00\")", "timestamp with time zone"),
        ("Timestamp(ns, \"+00:00\")", "timestamp with time zone"),
        ("Timestamp(µs)", "timestamp without time zone"),
        ("Timestamp(ns)", "timestamp without time zone"),
        ("Interval(MonthDayNano)", "interval"),
        ("Time64(µs)", "time without time zone"),
        ("Time64(ns)", "time without time zone"),
        ("Utf8View", "text"),
        ("LargeUtf8", "text"),
        ("Utf8", "text"),
        ("Boolean", "boolean"),
        ("Float64", "double precision"),
        ("Float32", "real"),
        ("UInt64", "bigint"),
        ("UInt32", "bigint"),
        ("Int64", "bigint"),
        ("Int32", "integer"),
        ("Int16", "smallint"),
        ("Int8", "smallint"),
        ("Date32", "date"),
        ("Binary", "bytea"),
    ];
    let mut out = text.to_string();
    for (arrow, sql) in WORDS {
        out = out.replace(arrow, sql);
    }
    // Decimal128(38, 10) is numeric, whatever its digits.
    while let Some(start) = out.find("Decimal128(") {
        match out[start..].find(')') {
            Some(end) => out.replace_range(start..start + end + 1, "numeric"),
            None => break,
        }
    }
    out.trim_end_matches('.').to_string()
}
