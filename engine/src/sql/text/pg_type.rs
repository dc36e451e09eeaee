//! Which Postgres type a column has: the OID and modifier that clients see, and the [`Rule`] by which its
//! values are written and read.
//!
//! ```text
//!   Arrow                metadata         OID   modifier   rule
//!   Int32                -                  23        -1   Int4
//!   Decimal128(12, 2)    -                1700    786438   Numeric
//!   Utf8                 uuid             2950        -1   Uuid
//!   List(Utf8)           varchar(3)[]     1015         7   Array(Text, at most 3)
//! ```
//!
//! The name under [`TYPE_KEY`] decides where it says something; otherwise Arrow's type does. Arrow types
//! that Postgres has not become the next larger one (UInt32 is bigint, UInt64 numeric).

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, IntervalUnit};

use crate::sql::enums::{self, EnumType};
use crate::sql::types::TYPE_KEY;

#[derive(Debug, Clone, PartialEq)]
pub struct PgType {
    pub oid: u32,
    /// As in pg_attribute.atttypmod; -1 is none.
    pub modifier: i32,
    pub rule: Rule,
}

/// How values are written and read.
#[derive(Debug, Clone, PartialEq)]
pub enum Rule {
    Bool,
    Int2,
    Int4,
    Int8,
    /// Unsigned 32-bit: oid, xid, and reg* types kept as numbers.
    Oid,
    Float4,
    Float8,
    /// `trim`: the column is `numeric` without precision, so trailing zeros of the storage's scale say nothing.
    Numeric {
        trim: bool,
    },
    Text(Length),
    /// reg* types kept as names; in binary they are numbers, 0 if the name is none.
    RegName,
    Json,
    Jsonb,
    Uuid,
    /// A text that is one of the labels.
    Enum(Arc<EnumType>),
    Bytea,
    Date,
    Time,
    Timestamp,
    Timestamptz,
    Interval,
    Array(Box<PgType>),
    /// int2vector and oidvector: `1 2 3`; in binary an array whose first index is 0.
    Vector(Box<PgType>),
    Record(Vec<PgType>),
}

/// Limit of a character type.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Length {
    Any,
    /// varchar(n)
    AtMost(usize),
    /// char(n), padded with spaces.
    Padded(usize),
    /// bpchar, without spaces at its end.
    Trimmed,
}

/// name, OID, OID of its array (0 when there is none), length in bytes (-1 varying, -2 C string).
const TYPES: &[(&str, u32, u32, i16)] = &[
    ("boolean", 16, 1000, 1),
    ("bytea", 17, 1001, -1),
    ("\"char\"", 18, 1002, 1),
    ("name", 19, 1003, 64),
    ("bigint", 20, 1016, 8),
    ("smallint", 21, 1005, 2),
    ("int2vector", 22, 1006, -1),
    ("integer", 23, 1007, 4),
    ("regproc", 24, 1008, 4),
    ("text", 25, 1009, -1),
    ("oid", 26, 1028, 4),
    ("tid", 27, 1010, 6),
    ("xid", 28, 1011, 4),
    ("cid", 29, 1012, 4),
    ("oidvector", 30, 1013, -1),
    ("json", 114, 199, -1),
    ("xml", 142, 143, -1),
    ("pg_node_tree", 194, 0, -1),
    ("real", 700, 1021, 4),
    ("double precision", 701, 1022, 8),
    ("unknown", 705, 0, -2),
    ("inet", 869, 1041, -1),
    ("aclitem", 1033, 1034, 12),
    ("character", 1042, 1014, -1),
    ("character varying", 1043, 1015, -1),
    ("date", 1082, 1182, 4),
    ("time without time zone", 1083, 1183, 8),
    ("timestamp without time zone", 1114, 1115, 8),
    ("timestamp with time zone", 1184, 1185, 8),
    ("interval", 1186, 1187, 16),
    ("time with time zone", 1266, 1270, 12),
    ("numeric", 1700, 1231, -1),
    ("regprocedure", 2202, 2207, 4),
    ("regoper", 2203, 2208, 4),
    ("regoperator", 2204, 2209, 4),
    ("regclass", 2205, 2210, 4),
    ("regtype", 2206, 2211, 4),
    ("record", 2249, 2287, -1),
    ("cstring", 2275, 1263, -2),
    ("anyarray", 2277, 0, -1),
    ("void", 2278, 0, 4),
    ("uuid", 2950, 2951, 16),
    ("pg_lsn", 3220, 3221, 8),
    ("regconfig", 3734, 3735, 4),
    ("jsonb", 3802, 3807, -1),
    ("regnamespace", 4089, 4090, 4),
    ("regrole", 4096, 4097, 4),
    ("xid8", 5069, 271, 8),
];

const SYNONYMS: &[(&str, &str)] = &[
    ("bool", "boolean"),
    ("int2", "smallint"),
    ("int4", "integer"),
    ("int", "integer"),
    ("int8", "bigint"),
    ("float4", "real"),
    ("float8", "double precision"),
    ("float", "double precision"),
    ("decimal", "numeric"),
    ("varchar", "character varying"),
    ("char", "character"),
    ("bpchar", "character"),
    ("time", "time without time zone"),
    ("timetz", "time with time zone"),
    ("timestamp", "timestamp without time zone"),
    ("timestamptz", "timestamp with time zone"),
    ("string", "text"),
];

pub const TEXT_OID: u32 = 25;

/// The OID of a type's name, in any spelling, without modifier; `None` if there is no such type.
pub fn oid_of_name(name: &str) -> Option<u32> {
    if let Some(element) = name.strip_suffix("[]") {
        return array_oid(oid_of_name(element)?);
    }
    let name = SYNONYMS.iter().find(|(short, _)| *short == name).map_or(name, |(_, full)| full);
    TYPES.iter().find(|t| t.0 == name).map(|t| t.1)
}

/// The SQL name of a built-in type: 23 is `integer`, 1007 `integer[]`.
pub fn name_of_oid(oid: u32) -> Option<String> {
    if let Some(t) = TYPES.iter().find(|t| t.1 == oid) {
        return Some(t.0.to_string());
    }
    TYPES.iter().find(|t| t.2 == oid && oid != 0).map(|t| format!("{}[]", t.0))
}

pub fn array_oid(element: u32) -> Option<u32> {
    TYPES.iter().find(|t| t.1 == element && t.2 != 0).map(|t| t.2)
}

/// Splits `numeric(12,2)` into `numeric` and `[12, 2]`, `timestamp(3) with time zone` alike.
fn split_modifier(sql_type: &str) -> (String, Vec<i32>) {
    let Some(open) = sql_type.find('(') else { return (sql_type.trim().to_string(), Vec::new()) };
    let close = sql_type[open..].find(')').map_or(sql_type.len(), |i| open + i);
    let arguments = sql_type[open + 1..close].split(',').filter_map(|a| a.trim().parse().ok()).collect();
    let rest = sql_type.get(close + 1..).unwrap_or("").trim();
    let base = sql_type[..open].trim();
    (if rest.is_empty() { base.to_string() } else { format!("{base} {rest}") }, arguments)
}

fn digits_or_none(arguments: &[i32]) -> i32 {
    arguments.first().copied().unwrap_or(-1)
}

impl PgType {
    pub fn of(field: &Field) -> PgType {
        Self::named(field.metadata().get(TYPE_KEY).map(String::as_str), field.data_type())
    }

    /// The type called `sql_type` over `storage`; without a name, the one that Arrow's type implies.
    pub fn named(sql_type: Option<&str>, storage: &DataType) -> PgType {
        let element_storage = match storage {
            DataType::List(e)
            | DataType::LargeList(e)
            | DataType::FixedSizeList(e, _)
            | DataType::ListView(e)
            | DataType::LargeListView(e) => Some(e),
            DataType::Map(entries, _) => Some(entries),
            DataType::Dictionary(_, values) => return Self::named(sql_type, values),
            DataType::RunEndEncoded(_, values) => return Self::named(sql_type, values.data_type()),
            _ => None,
        };
        if let Some(field) = element_storage {
            if let Some(vector @ ("int2vector" | "oidvector")) = sql_type {
                let element = if vector == "oidvector" { PgType::oid() } else { PgType::simple(21, Rule::Int2) };
                let oid = oid_of_name(vector).expect("in the table");
                return PgType::simple(oid, Rule::Vector(Box::new(element)));
            }
            let element = match sql_type.and_then(|t| t.strip_suffix("[]")) {
                Some(name) => Self::named(Some(name), field.data_type()),
                None => Self::of(field),
            };
            // Arrays of arrays have the type of their innermost element's array.
            let oid = match &element.rule {
                Rule::Array(_) => element.oid,
                Rule::Enum(of) => of.array,
                _ => array_oid(element.oid).unwrap_or(1009),
            };
            return PgType { oid, modifier: element.modifier, rule: Rule::Array(Box::new(element)) };
        }
        let implied = Self::implied(storage);
        let Some(sql_type) = sql_type else { return implied };
        if let (Some(of), Rule::Text(_)) = (enums::of(sql_type), &implied.rule) {
            return PgType::simple(of.id, Rule::Enum(of));
        }
        let (name, arguments) = split_modifier(sql_type);
        let Some(oid) = oid_of_name(&name) else { return implied };
        let text = implied.rule == Rule::Text(Length::Any);
        let number = |rule: &Rule| matches!(rule, Rule::Int2 | Rule::Int4 | Rule::Int8 | Rule::Oid);
        let length = arguments.first().copied().filter(|n| *n > 0);
        match oid {
            1042 | 1043 if text => {
                // char without a length is char(1) in SQL; bpchar is not.
                let n = if name == "character" || name == "char" { length.or(Some(1)) } else { length };
                let rule = match n {
                    None if oid == 1042 => Length::Trimmed,
                    None => Length::Any,
                    Some(n) if oid == 1043 => Length::AtMost(n as usize),
                    Some(n) => Length::Padded(n as usize),
                };
                PgType { oid, modifier: n.map_or(-1, |n| n + 4), rule: Rule::Text(rule) }
            }
            2950 if text || matches!(storage, DataType::FixedSizeBinary(16)) => PgType::simple(oid, Rule::Uuid),
            114 if text => PgType::simple(oid, Rule::Json),
            3802 if text => PgType::simple(oid, Rule::Jsonb),
            26 | 28 | 29 | 24 | 2202..=2206 | 3734 | 4089 | 4096 if number(&implied.rule) => {
                PgType::simple(oid, Rule::Oid)
            }
            24 | 2202..=2206 | 3734 | 4089 | 4096 if text => PgType::simple(oid, Rule::RegName),
            22 | 30 if text => PgType::simple(oid, Rule::Text(Length::Any)),
            1700 => match arguments[..] {
                [] if matches!(implied.rule, Rule::Numeric { .. }) => PgType::simple(oid, Rule::Numeric { trim: true }),
                [p] if matches!(implied.rule, Rule::Numeric { .. }) => PgType { modifier: (p << 16) + 4, ..implied },
                [p, s] if matches!(implied.rule, Rule::Numeric { .. }) => {
                    PgType { modifier: ((p << 16) | (s & 0x7ff)) + 4, ..implied }
                }
                _ => implied,
            },
            1083 | 1114 | 1184 if implied.oid == oid => PgType { modifier: digits_or_none(&arguments), ..implied },
            // Beside the digits it says that the interval has all fields.
            1186 if implied.oid == oid => match digits_or_none(&arguments) {
                -1 => implied,
                digits => PgType { modifier: (0x7fff << 16) | digits, ..implied },
            },
            // Every other type that is kept as text keeps its text form: name, "char", xml, inet, aclitem, …
            _ if text && !matches!(oid, 16 | 17 | 20 | 21 | 23 | 700 | 701 | 1082 | 1083 | 1114 | 1184 | 1186) => {
                PgType::simple(oid, Rule::Text(Length::Any))
            }
            _ => implied,
        }
    }

    fn implied(storage: &DataType) -> PgType {
        use DataType::*;
        let (oid, rule) = match storage {
            Boolean => (16, Rule::Bool),
            Int8 | UInt8 | Int16 => (21, Rule::Int2),
            UInt16 | Int32 => (23, Rule::Int4),
            UInt32 | Int64 => (20, Rule::Int8),
            UInt64 => (1700, Rule::Numeric { trim: false }),
            Float16 | Float32 => (700, Rule::Float4),
            Float64 => (701, Rule::Float8),
            Decimal32(p, s) | Decimal64(p, s) | Decimal128(p, s) | Decimal256(p, s) => {
                // 38 digits is what arithmetic widens to: Postgres shows such results without a modifier.
                let modifier = if *p < 38 && *s >= 0 { (((*p as i32) << 16) | *s as i32) + 4 } else { -1 };
                return PgType { oid: 1700, modifier, rule: Rule::Numeric { trim: false } };
            }
            Binary | LargeBinary | BinaryView | FixedSizeBinary(_) => (17, Rule::Bytea),
            Date32 | Date64 => (1082, Rule::Date),
            Time32(_) | Time64(_) => (1083, Rule::Time),
            Timestamp(_, None) => (1114, Rule::Timestamp),
            Timestamp(_, Some(_)) => (1184, Rule::Timestamptz),
            Interval(IntervalUnit::YearMonth | IntervalUnit::DayTime | IntervalUnit::MonthDayNano) | Duration(_) => {
                (1186, Rule::Interval)
            }
            Struct(fields) => (2249, Rule::Record(fields.iter().map(|f| PgType::of(f)).collect())),
            _ => (TEXT_OID, Rule::Text(Length::Any)),
        };
        PgType::simple(oid, rule)
    }

    /// The digits after the second, if they are not all kept.
    pub fn moment_digits(&self) -> Option<u32> {
        match self.rule {
            Rule::Time | Rule::Timestamp | Rule::Timestamptz | Rule::Interval if self.modifier >= 0 => {
                Some((self.modifier & 0xffff) as u32).filter(|digits| *digits < 6)
            }
            _ => None,
        }
    }

    pub fn simple(oid: u32, rule: Rule) -> PgType {
        PgType { oid, modifier: -1, rule }
    }
    fn oid() -> PgType {
        PgType::simple(26, Rule::Oid)
    }

    /// pg_type.typlen.
    pub fn length(&self) -> i16 {
        const OF_ENUMS: i16 = 4;
        let varying = if matches!(self.rule, Rule::Enum(_)) { OF_ENUMS } else { -1 };
        TYPES.iter().find(|t| t.1 == self.oid).map_or(varying, |t| t.3)
    }

    /// As in messages: `integer`, `character varying(5)`, `integer[]`.
    pub fn name(&self) -> String {
        match &self.rule {
            Rule::Array(element) => format!("{}[]", element.name()),
            Rule::Enum(of) => of.name.clone(),
            Rule::Text(Length::AtMost(n)) => format!("character varying({n})"),
            Rule::Text(Length::Padded(n)) => format!("character({n})"),
            _ => name_of_oid(self.oid).unwrap_or_else(|| "text".into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(sql_type: &str, storage: DataType) -> (u32, i32) {
        let t = PgType::named(if sql_type.is_empty() { None } else { Some(sql_type) }, &storage);
        (t.oid, t.modifier)
    }

    #[test]
    fn oids_and_modifiers_are_postgres_own() {
        let list = |t| DataType::List(std::sync::Arc::new(Field::new("item", t, true)));
        assert_eq!(of("", DataType::Int32), (23, -1));
        assert_eq!(of("", DataType::UInt64), (1700, -1));
        assert_eq!(of("", DataType::Decimal128(12, 2)), (1700, 786438));
        assert_eq!(of("numeric", DataType::Decimal128(38, 10)), (1700, -1));
        assert_eq!(of("varchar(120)", DataType::Utf8), (1043, 124));
        assert_eq!(of("character varying(5)", DataType::Utf8), (1043, 9));
        assert_eq!(of("character(3)", DataType::Utf8), (1042, 7));
        assert_eq!(of("uuid", DataType::Utf8), (2950, -1));
        assert_eq!(of("jsonb", DataType::Utf8View), (3802, -1));
        assert_eq!(of("name", DataType::Utf8), (19, -1));
        assert_eq!(of("\"char\"", DataType::Utf8), (18, -1));
        assert_eq!(of("oid", DataType::Int64), (26, -1));
        assert_eq!(of("regclass", DataType::Utf8), (2205, -1));
        assert_eq!(of("varchar(3)[]", list(DataType::Utf8)), (1015, 7));
        assert_eq!(of("", list(list(DataType::Int32))), (1007, -1));
        assert_eq!(of("int2vector", list(DataType::Int16)), (22, -1));
        assert_eq!(of("timestamp(3) with time zone", DataType::Int32), (23, -1));
        let zoned = DataType::Timestamp(arrow::datatypes::TimeUnit::Microsecond, Some("+00:00".into()));
        assert_eq!(of("timestamp(3) with time zone", zoned), (1184, 3));
        assert_eq!(of("interval(2)", DataType::Interval(IntervalUnit::MonthDayNano)), (1186, 2147418114));
        assert_eq!(oid_of_name("timestamptz[]"), Some(1185));
        assert_eq!(name_of_oid(1185).as_deref(), Some("timestamp with time zone[]"));
        assert_eq!(oid_of_name("nosuch"), None);
    }
}
