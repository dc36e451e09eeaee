//! SQL types over Arrow.
//!
//! A column's SQL type is a text in Postgres' own spelling (`integer`, `numeric(12,2)`, `timestamp with
//! time zone`, `text[]`). Where Arrow's type alone does not determine it, the field's metadata does, under
//! [`TYPE_KEY`]: `uuid`, `jsonb`, `json`, `character varying(n)`, `character(n)`, `name`, `oid`, `regclass`, … over
//! Utf8 or integers.
//!
//! ```text
//!   any spelling            canonical                      Arrow                     metadata
//!   int4, INT, integer      integer                        Int32
//!   decimal(12, 2)          numeric(12,2)                  Decimal128(12, 2)
//!   numeric                 numeric                        Decimal128(38, 10)        numeric
//!   varchar(20)             character varying(20)          Utf8                      character varying(20)
//!   timestamptz             timestamp with time zone       Timestamp(us, "+00:00")
//!   time(3)                 time(3) without time zone      Time64(us)                time(3) without time zone
//!   uuid[]                  uuid[]                         List(Utf8)                uuid[]
//!   mood (see enums.rs)     mr_enum(16390,17330…)          Utf8                      mr_enum(16390,17330…)
//! ```
//!
//! `normalise` and `sql_type_of` answer canonical spellings; `sql_type_of(field(_, t, _)) == normalise(t)`. Limits:
//! numeric has at most 38 digits, and 10 of them after the point where no scale is given. An oid is an Int64, so that all of Postgres' unsigned 32 bits fit.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, IntervalUnit, TimeUnit};
use sqlparser::ast::{self, ArrayElemTypeDef, CharacterLength, ExactNumberInfo, TimezoneInfo};
use sqlparser::parser::Parser;
use sqlparser::tokenizer::Token;

use super::dialect::{DIALECT, allow_attempts};
use super::enums;
use crate::error::{Error, Result};

/// Metadata key on an Arrow field that names the SQL type when Arrow's is ambiguous.
pub const TYPE_KEY: &str = "millrace.type";

/// Time zone of every stored `timestamp with time zone`.
pub const UTC: &str = "+00:00";

/// Digits of a numeric at most.
pub const NUMERIC_PRECISION_MAX: u8 = 38;
/// Scale of `numeric` without one.
pub const NUMERIC_SCALE_DEFAULT: i8 = 10;
/// Digits after the second that times and intervals have at most.
const MOMENT_DIGITS_MAX: u64 = 6;
/// Longest length of `varchar(n)` and `char(n)`, as in Postgres.
const LENGTH_MAX: u64 = 10_485_760;

/// The Arrow field for a column of SQL type `sql_type` (any spelling that Postgres accepts). Errors: 42704 for an
/// unknown type, 0A000 for one that Millrace lacks, 42601 for none at all, 22023 for bad lengths.
pub fn field(name: &str, sql_type: &str, nullable: bool) -> Result<Field> {
    canonical_field(name, &normalise(sql_type)?, nullable)
}

/// Postgres' canonical spelling.
pub fn normalise(sql_type: &str) -> Result<String> {
    sql_type_from_ast(&parse_type(sql_type)?)
}

/// A type's text, in sqlparser's form.
pub fn parse_type(sql_type: &str) -> Result<ast::DataType> {
    allow_attempts(0);
    let bad = || Error::syntax(format!("invalid type name \"{sql_type}\""));
    let mut parser = Parser::new(&DIALECT).try_with_sql(sql_type).map_err(|_| bad())?;
    let data_type = parser.parse_data_type().map_err(|_| bad())?;
    if parser.peek_token().token != Token::EOF {
        return Err(bad());
    }
    Ok(data_type)
}

/// The Arrow field for a type in sqlparser's form.
pub fn field_from_ast(name: &str, data_type: &ast::DataType, nullable: bool) -> Result<Field> {
    canonical_field(name, &sql_type_from_ast(data_type)?, nullable)
}

/// The canonical spelling of a type in sqlparser's form.
pub fn sql_type_from_ast(data_type: &ast::DataType) -> Result<String> {
    use ast::DataType as T;
    let fixed = match data_type {
        T::Boolean | T::Bool => "boolean",
        T::SmallInt(None) | T::Int2(None) => "smallint",
        T::Int(None) | T::Integer(None) | T::Int4(None) => "integer",
        T::BigInt(None) | T::Int8(None) => "bigint",
        T::Real | T::Float4 => "real",
        T::DoublePrecision | T::Float8 | T::Float(ExactNumberInfo::None) => "double precision",
        T::Float(ExactNumberInfo::Precision(bits)) => match bits {
            1..=24 => "real",
            25..=53 => "double precision",
            _ => return Err(Error::invalid_value("precision for type float must be between 1 and 53 bits")),
        },
        T::Numeric(info) | T::Decimal(info) | T::Dec(info) => return numeric(info),
        T::Text => "text",
        T::Varchar(length) | T::CharacterVarying(length) | T::CharVarying(length) => {
            return Ok(match character_length("varchar", length)? {
                None => "character varying".into(),
                Some(n) => format!("character varying({n})"),
            });
        }
        T::Char(length) | T::Character(length) => {
            return Ok(format!("character({})", character_length("char", length)?.unwrap_or(1)));
        }
        T::Bytea => "bytea",
        T::Date => "date",
        T::Time(digits, TimezoneInfo::None | TimezoneInfo::WithoutTimeZone) => {
            return Ok(moment("time", *digits, " without time zone"));
        }
        T::Time(..) => return Err(Error::unsupported("type time with time zone")),
        T::Timestamp(digits, TimezoneInfo::None | TimezoneInfo::WithoutTimeZone) => {
            return Ok(moment("timestamp", *digits, " without time zone"));
        }
        T::Timestamp(digits, _) => return Ok(moment("timestamp", *digits, " with time zone")),
        T::Interval { precision, .. } => return Ok(moment("interval", *precision, "")),
        T::Uuid => "uuid",
        T::JSON => "json",
        T::JSONB => "jsonb",
        T::Regclass => "regclass",
        T::Array(ArrayElemTypeDef::SquareBracket(inner, _) | ArrayElemTypeDef::AngleBracket(inner)) => {
            return Ok(format!("{}[]", sql_type_from_ast(inner)?));
        }
        T::Custom(name, modifiers) => return custom(name, modifiers),
        other => return Err(undefined(&other.to_string().to_lowercase())),
    };
    Ok(fixed.to_string())
}

/// Types that are no keywords to sqlparser: those of the system catalogs, and any with a schema or in quotes.
fn custom(name: &ast::ObjectName, modifiers: &[String]) -> Result<String> {
    let parts: Vec<&ast::Ident> = name.0.iter().filter_map(|part| part.as_ident()).collect();
    let (schema, ident) = match parts.as_slice() {
        [ident] => (None, ident),
        [schema, ident] => (Some(schema), ident),
        _ => return Err(undefined(&name.to_string())),
    };
    let quoted = ident.quote_style.is_some();
    let word = if quoted { ident.value.clone() } else { ident.value.to_lowercase() };
    if schema.is_none() && word == enums::WORD && modifiers.len() == 2 {
        return Ok(format!("{word}({})", modifiers.join(",")));
    }
    if schema.is_some_and(|s| !s.value.eq_ignore_ascii_case("pg_catalog")) {
        return Err(undefined(&name.to_string()));
    }
    // `"char"` is a type of its own, one byte; so is pg_catalog.char.
    if word == "char" {
        return Ok("\"char\"".into());
    }
    if let Some((canonical, ..)) = CATALOG_TYPES.iter().find(|(canonical, ..)| *canonical == word) {
        return Ok(canonical.to_string());
    }
    if let Some(element) = word.strip_prefix('_') {
        return Ok(format!("{}[]", normalise(element)?));
    }
    // Of any length, unlike `character`.
    if word == "bpchar" && modifiers.is_empty() {
        return Ok(word);
    }
    let word = match word.as_str() {
        "bpchar" => "character",
        "timetz" | "money" | "bit" | "varbit" | "xml" | "inet" | "cidr" | "macaddr" | "macaddr8" | "point" | "line"
        | "lseg" | "box" | "path" | "polygon" | "circle" | "tsvector" | "tsquery" | "hstore" | "int4range"
        | "int8range" | "numrange" | "tsrange" | "tstzrange" | "daterange" => {
            return Err(Error::unsupported(format!("type {word}")));
        }
        other => other,
    };
    // `pg_catalog.int4`, `"int4"`: the plain word names the same type. (A plain unquoted word has been here before.)
    if schema.is_some() || quoted || word == "character" {
        let plain = if modifiers.is_empty() { word.to_string() } else { format!("{word}({})", modifiers.join(",")) };
        if plain.chars().all(|c| c.is_ascii_alphanumeric() || "_(),".contains(c)) {
            let parsed = Parser::new(&DIALECT).try_with_sql(&plain).and_then(|mut p| p.parse_data_type());
            if let Ok(parsed) = parsed
                && !matches!(parsed, ast::DataType::Custom(..))
            {
                return sql_type_from_ast(&parsed);
            }
        }
    }
    Err(undefined(word))
}

/// Types of the system catalogs: name, Arrow type of a value, whether it is a list of them.
const CATALOG_TYPES: &[(&str, DataType, bool)] = &[
    ("name", DataType::Utf8, false),
    ("oid", DataType::Int64, false),
    ("xid", DataType::Int64, false),
    ("cid", DataType::Int64, false),
    ("regclass", DataType::Int64, false),
    ("regtype", DataType::Int64, false),
    ("regproc", DataType::Int64, false),
    ("regprocedure", DataType::Int64, false),
    ("regoper", DataType::Int64, false),
    ("regoperator", DataType::Int64, false),
    ("regnamespace", DataType::Int64, false),
    ("regrole", DataType::Int64, false),
    ("pg_node_tree", DataType::Utf8, false),
    ("aclitem", DataType::Utf8, false),
    ("unknown", DataType::Utf8, false),
    ("int2vector", DataType::Int16, true),
    ("oidvector", DataType::Int64, true),
];

fn undefined(name: &str) -> Error {
    let error = Error::undefined_object(format!("type \"{name}\" does not exist"));
    match name {
        "string" | "clob" | "varchar2" | "nvarchar" | "longtext" => error.hint("The type is called text."),
        "datetime" | "timestamp_ntz" => error.hint("The type is called timestamp."),
        "int64" | "long" => error.hint("The type is called bigint."),
        "int32" => error.hint("The type is called integer."),
        "int16" | "tinyint" => error.hint("The type is called smallint."),
        "double" | "float64" => error.hint("The type is called double precision."),
        "float32" => error.hint("The type is called real."),
        "blob" | "bytes" | "binary" | "varbinary" => error.hint("The type is called bytea."),
        _ => error,
    }
}

fn numeric(info: &ExactNumberInfo) -> Result<String> {
    let (precision, scale) = match *info {
        ExactNumberInfo::None => return Ok("numeric".into()),
        ExactNumberInfo::Precision(precision) => (precision, 0),
        ExactNumberInfo::PrecisionAndScale(precision, scale) => (precision, scale),
    };
    if precision == 0 || precision > 1000 {
        return Err(Error::invalid_value(format!("NUMERIC precision {precision} must be between 1 and 1000")));
    }
    if precision > u64::from(NUMERIC_PRECISION_MAX) {
        return Err(Error::unsupported(format!("numeric with {precision} digits"))
            .hint(format!("At most {NUMERIC_PRECISION_MAX} digits.")));
    }
    if scale < 0 || scale as u64 > precision {
        return Err(Error::unsupported(format!("numeric({precision},{scale})"))
            .hint("The scale must be between 0 and the precision."));
    }
    Ok(format!("numeric({precision},{scale})"))
}

/// `timestamp(3) without time zone`; beyond microseconds there are no digits.
fn moment(name: &str, digits: Option<u64>, zone: &str) -> String {
    match digits {
        Some(digits) => format!("{name}({}){zone}", digits.min(MOMENT_DIGITS_MAX)),
        None => format!("{name}{zone}"),
    }
}

fn character_length(type_name: &str, length: &Option<CharacterLength>) -> Result<Option<u64>> {
    match length {
        None => Ok(None),
        Some(CharacterLength::IntegerLength { length: 0, .. }) => {
            Err(Error::invalid_value(format!("length for type {type_name} must be at least 1")))
        }
        Some(CharacterLength::IntegerLength { length, .. }) if *length > LENGTH_MAX => {
            Err(Error::invalid_value(format!("length for type {type_name} cannot exceed {LENGTH_MAX}")))
        }
        Some(CharacterLength::IntegerLength { length, .. }) => Ok(Some(*length)),
        Some(CharacterLength::Max) => Err(Error::syntax("syntax error at or near \"max\"")),
    }
}

fn canonical_field(name: &str, canonical: &str, nullable: bool) -> Result<Field> {
    let (data_type, told_by_arrow) = arrow_type(canonical)?;
    let field = Field::new(name, data_type, nullable);
    Ok(if told_by_arrow { field } else { with_sql_type(field, canonical) })
}

/// The field with its SQL type in the metadata.
pub fn with_sql_type(field: Field, canonical: &str) -> Field {
    let mut metadata = field.metadata().clone();
    metadata.insert(TYPE_KEY.to_string(), canonical.to_string());
    field.with_metadata(metadata)
}

/// The Arrow type of a canonical SQL type, and whether it tells the SQL type by itself.
fn arrow_type(canonical: &str) -> Result<(DataType, bool)> {
    if let Some(element) = canonical.strip_suffix("[]") {
        let (element, told) = arrow_type(element)?;
        return Ok((DataType::List(Arc::new(Field::new_list_field(element, true))), told));
    }
    if let Some((_, data_type, list)) = CATALOG_TYPES.iter().find(|(name, ..)| *name == canonical) {
        let data_type = if *list {
            DataType::List(Arc::new(Field::new_list_field(data_type.clone(), true)))
        } else {
            data_type.clone()
        };
        return Ok((data_type, false));
    }
    Ok(match canonical {
        "boolean" => (DataType::Boolean, true),
        "smallint" => (DataType::Int16, true),
        "integer" => (DataType::Int32, true),
        "bigint" => (DataType::Int64, true),
        "real" => (DataType::Float32, true),
        "double precision" => (DataType::Float64, true),
        "numeric" => (DataType::Decimal128(NUMERIC_PRECISION_MAX, NUMERIC_SCALE_DEFAULT), false),
        "text" => (DataType::Utf8, true),
        "bytea" => (DataType::Binary, true),
        "date" => (DataType::Date32, true),
        "time without time zone" => (DataType::Time64(TimeUnit::Microsecond), true),
        "timestamp without time zone" => (DataType::Timestamp(TimeUnit::Microsecond, None), true),
        "timestamp with time zone" => (DataType::Timestamp(TimeUnit::Microsecond, Some(UTC.into())), true),
        "interval" => (DataType::Interval(IntervalUnit::MonthDayNano), true),
        "uuid" | "json" | "jsonb" | "\"char\"" | "character varying" | "bpchar" => (DataType::Utf8, false),
        _ if enums::is_enum(canonical) => (DataType::Utf8, false),
        _ if canonical.starts_with("character varying(") || canonical.starts_with("character(") => {
            (DataType::Utf8, false)
        }
        _ => match canonical.strip_prefix("numeric(").and_then(|rest| rest.strip_suffix(')')?.split_once(',')) {
            Some((precision, scale)) => {
                let bad = |_| undefined(canonical);
                (DataType::Decimal128(precision.parse().map_err(bad)?, scale.parse().map_err(bad)?), true)
            }
            None if is_moment(canonical) && canonical.contains('(') => (arrow_type(&plain_type(canonical))?.0, false),
            None => return Err(undefined(canonical)),
        },
    })
}

fn is_moment(canonical: &str) -> bool {
    ["timestamp", "time", "interval"].iter().any(|name| {
        canonical.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with(['(', ' ', '[']))
    })
}

/// How many digits after the second values of a type keep, where these are fewer than all, and of arrays of one.
pub fn moment_digits_of(canonical: &str) -> Option<u32> {
    let (_, rest) = canonical.split_once('(').filter(|_| is_moment(canonical))?;
    let digits: u64 = rest.split_once(')')?.0.parse().ok()?;
    (digits < MOMENT_DIGITS_MAX).then_some(digits as u32)
}

/// A type without its length or digits.
pub fn plain_type(canonical: &str) -> String {
    if canonical.starts_with(enums::WORD) {
        return enums::shown(canonical);
    }
    match (canonical.split_once('('), canonical.rsplit_once(')')) {
        (Some((before, _)), Some((_, after))) => format!("{before}{after}"),
        _ => canonical.to_string(),
    }
}

/// Whether blanks at the end of its values count for nothing: `character(n)`, and `bpchar`, a char of any length, whose values
/// are kept without them.
pub fn is_padded(canonical: &str) -> bool {
    canonical.starts_with("character(") || canonical == "bpchar"
}

/// Whether values of a type are kept as texts that are read by rules of their own: uuid, json, jsonb, enums.
pub fn is_read(canonical: &str) -> bool {
    matches!(canonical, "uuid" | "json" | "jsonb") || enums::is_enum(canonical)
}

/// The length of `character varying(n)` and `character(n)`, in characters.
pub fn character_length_of(canonical: &str) -> Option<usize> {
    let rest = canonical.strip_prefix("character varying(").or_else(|| canonical.strip_prefix("character("))?;
    rest.strip_suffix(')')?.parse().ok()
}

/// The SQL type of a field: what its metadata says, else the nearest to its Arrow type, whichever DataFusion yields.
pub fn sql_type_of(field: &Field) -> String {
    // DataFusion carries metadata through casts, where it no longer fits.
    let fits = |sql_type: &&String| arrow_type(sql_type).is_ok_and(|(data_type, _)| data_type == *field.data_type());
    match field.metadata().get(TYPE_KEY).filter(fits) {
        Some(sql_type) => sql_type.clone(),
        None => sql_type_of_arrow(field.data_type()),
    }
}

/// The SQL type nearest to an Arrow type.
pub fn sql_type_of_arrow(data_type: &DataType) -> String {
    let fixed = match data_type {
        DataType::Null | DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => "text",
        DataType::Boolean => "boolean",
        DataType::Int8 | DataType::Int16 | DataType::UInt8 => "smallint",
        DataType::Int32 | DataType::UInt16 => "integer",
        DataType::Int64 | DataType::UInt32 => "bigint",
        DataType::UInt64 => return "numeric(20,0)".into(),
        DataType::Float16 | DataType::Float32 => "real",
        DataType::Float64 => "double precision",
        DataType::Decimal32(precision, scale)
        | DataType::Decimal64(precision, scale)
        | DataType::Decimal128(precision, scale)
        | DataType::Decimal256(precision, scale) => {
            let precision = (*precision).min(NUMERIC_PRECISION_MAX);
            return format!("numeric({precision},{})", (*scale).clamp(0, precision as i8));
        }
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => "bytea",
        DataType::Date32 | DataType::Date64 => "date",
        DataType::Time32(_) | DataType::Time64(_) => "time without time zone",
        DataType::Timestamp(_, None) => "timestamp without time zone",
        DataType::Timestamp(_, Some(_)) => "timestamp with time zone",
        DataType::Interval(_) | DataType::Duration(_) => "interval",
        DataType::List(item)
        | DataType::LargeList(item)
        | DataType::ListView(item)
        | DataType::LargeListView(item)
        | DataType::FixedSizeList(item, _) => return format!("{}[]", sql_type_of(item)),
        DataType::Dictionary(_, value) => return sql_type_of_arrow(value),
        DataType::RunEndEncoded(_, value) => return sql_type_of(value),
        DataType::Struct(_) => "record",
        DataType::Map(..) => "jsonb",
        DataType::Union(..) => "json",
    };
    fixed.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings() {
        for (given, canonical, arrow) in [
            ("int", "integer", "Int32"),
            ("INT4", "integer", "Int32"),
            ("int2", "smallint", "Int16"),
            ("int8", "bigint", "Int64"),
            ("float", "double precision", "Float64"),
            ("float(24)", "real", "Float32"),
            ("float8", "double precision", "Float64"),
            ("decimal( 12 , 2 )", "numeric(12,2)", "Decimal128(12, 2)"),
            ("numeric(5)", "numeric(5,0)", "Decimal128(5, 0)"),
            ("numeric", "numeric", "Decimal128(38, 10)"),
            ("varchar", "character varying", "Utf8"),
            ("varchar(7)", "character varying(7)", "Utf8"),
            ("character varying(7)", "character varying(7)", "Utf8"),
            ("char", "character(1)", "Utf8"),
            ("bpchar", "bpchar", "Utf8"),
            ("bpchar(2)", "character(2)", "Utf8"),
            ("bpchar(3)", "character(3)", "Utf8"),
            ("\"char\"", "\"char\"", "Utf8"),
            ("pg_catalog.int4", "integer", "Int32"),
            ("pg_catalog.varchar", "character varying", "Utf8"),
            ("_int4", "integer[]", "List(Int32)"),
            ("timestamptz", "timestamp with time zone", "Timestamp(µs, \"+00:00\")"),
            ("timestamp(3) with time zone", "timestamp(3) with time zone", "Timestamp(µs, \"+00:00\")"),
            ("timestamp", "timestamp without time zone", "Timestamp(µs)"),
            ("time", "time without time zone", "Time64(µs)"),
            ("interval", "interval", "Interval(MonthDayNano)"),
            ("interval(0)", "interval(0)", "Interval(MonthDayNano)"),
            ("time(9)", "time(6) without time zone", "Time64(µs)"),
            ("timestamp(2)[]", "timestamp(2) without time zone[]", "List(Timestamp(µs))"),
            ("uuid", "uuid", "Utf8"),
            ("jsonb", "jsonb", "Utf8"),
            ("name", "name", "Utf8"),
            ("oid", "oid", "Int64"),
            ("regclass", "regclass", "Int64"),
            ("text[]", "text[]", "List(Utf8)"),
            ("uuid[]", "uuid[]", "List(Utf8)"),
            ("int[][]", "integer[][]", "List(List(Int32))"),
            ("bytea", "bytea", "Binary"),
            ("date", "date", "Date32"),
        ] {
            assert_eq!(normalise(given).unwrap(), canonical, "{given}");
            let field = field("c", given, true).unwrap();
            assert_eq!(field.data_type().to_string(), arrow, "{given}");
            assert_eq!(sql_type_of(&field), canonical, "{given}");
            assert_eq!(normalise(canonical).unwrap(), canonical, "canonical spellings are fixed points");
        }
    }

    #[test]
    fn refusals() {
        for (given, code) in [
            ("nosuch", "42704"),
            ("datetime", "42704"),
            ("other.int4", "42704"),
            ("numeric(39,2)", "0A000"),
            ("numeric(2,5)", "0A000"),
            ("numeric(0)", "22023"),
            ("serial", "42704"),
            ("timetz", "0A000"),
            ("varchar(0)", "22023"),
            ("float(60)", "22023"),
            ("", "42601"),
            ("int int", "42601"),
        ] {
            assert_eq!(normalise(given).unwrap_err().code, code, "{given}");
        }
    }

    #[test]
    fn what_datafusion_yields() {
        for (arrow, sql) in [
            (DataType::UInt64, "numeric(20,0)"),
            (DataType::Utf8View, "text"),
            (DataType::Null, "text"),
            (DataType::Timestamp(TimeUnit::Nanosecond, None), "timestamp without time zone"),
            (DataType::Decimal256(70, 40), "numeric(38,38)"),
            (DataType::List(Arc::new(Field::new_list_field(DataType::Int64, true))), "bigint[]"),
        ] {
            assert_eq!(sql_type_of(&Field::new("c", arrow, true)), sql);
        }
    }
}
