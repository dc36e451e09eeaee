//! Postgres' built-in types: their OIDs, how they are spelled, and the Arrow type that carries each in a
//! system relation.
//!
//! `types.txt` is pg_type of PostgreSQL 15, one type per line. A user's column names its type as text
//! (`numeric(12,2)`); [`parse`] finds the OID and typmod for it and [`format`] goes back:
//!
//! ```text
//! "numeric(12,2)"             -> 1700, 786438
//! "character varying(20)[]"   -> 1015, 24
//! "timestamp with time zone"  -> 1184, -1
//! ```
//!
//! Arrow carries an oid as Int64 and a name as Utf8; the field's metadata says which of the types over
//! Int64 or Utf8 is meant (see [`TYPE_KEY`]).

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use arrow::datatypes::{DataType, Field, TimeUnit};
use millrace_engine::sql::types::{TYPE_KEY, UTC};

/// A row of pg_type.
pub struct Type {
    pub oid: u32,
    pub name: &'static str,
    /// Columns from typlen to typcollation, as in `types.txt`.
    pub attributes: Vec<&'static str>,
    pub element: u32,
    pub array: u32,
    /// As format_type spells it without a modifier.
    pub display: &'static str,
}

impl Type {
    pub fn length(&self) -> i64 {
        self.number(0)
    }
    pub fn by_value(&self) -> bool {
        self.attributes[1] == "t"
    }
    /// `b` base, `p` pseudo, `r` range, `m` multirange.
    pub fn kind(&self) -> &'static str {
        self.attributes[2]
    }
    pub fn category(&self) -> &'static str {
        self.attributes[3]
    }
    pub fn alignment(&self) -> &'static str {
        self.attributes[15]
    }
    pub fn storage(&self) -> &'static str {
        self.attributes[16]
    }
    pub fn collation(&self) -> u32 {
        self.number(17) as u32
    }
    /// Names of typsubscript (absent: `-`) and typinput … typmodout.
    pub fn functions(&self) -> impl Iterator<Item = &'static str> + '_ {
        std::iter::once(6).chain(9..15).map(|i| self.attributes[i])
    }
    fn number(&self, i: usize) -> i64 {
        self.attributes[i].parse().expect("types.txt holds numbers here")
    }
}

pub struct Types {
    pub all: Vec<Type>,
    by_oid: HashMap<u32, usize>,
    by_name: HashMap<&'static str, usize>,
}

pub static TYPES: LazyLock<Types> = LazyLock::new(|| {
    let mut types = Types { all: Vec::new(), by_oid: HashMap::new(), by_name: HashMap::new() };
    for line in include_str!("types.txt").lines().filter(|l| !l.starts_with('#')) {
        let words: Vec<&'static str> = line.splitn(21, ' ').collect();
        let number = |i: usize| words[i].parse().expect("types.txt holds an OID here");
        let index = types.all.len();
        types.by_oid.insert(number(0), index);
        // "char" and character share a spelling; the quoted name is found by `parse`.
        types.by_name.entry(words[20]).or_insert(index);
        if words[1] != "char" {
            types.by_name.insert(words[1], index);
        }
        types.all.push(Type {
            oid: number(0),
            name: words[1],
            attributes: words[2..20].to_vec(),
            element: number(9),
            array: number(10),
            display: words[20],
        });
    }
    for (alias, name) in
        [("decimal", "numeric"), ("int", "int4"), ("float", "float8"), ("char", "bpchar"), ("string", "text")]
    {
        let index = types.by_name[name];
        types.by_name.insert(alias, index);
    }
    types
});

pub fn by_oid(oid: u32) -> Option<&'static Type> {
    TYPES.by_oid.get(&oid).map(|i| &TYPES.all[*i])
}

/// By pg_type.typname (`int4`, `_text`, `char`).
pub fn by_typname(name: &str) -> Option<&'static Type> {
    if name == "char" {
        return by_oid(18);
    }
    TYPES.by_name.get(name).map(|i| &TYPES.all[*i]).filter(|t| t.name == name)
}

/// The type and typmod of a type written in SQL; None when there is no such type.
pub fn parse(sql: &str) -> Option<(&'static Type, i32)> {
    let text = sql.trim();
    let schema = ["pg_catalog.", "\"pg_catalog\"."].into_iter().find_map(|schema| text.strip_prefix(schema));
    let text = schema.unwrap_or(text);
    if let Some(element) = text.strip_suffix("[]") {
        let element = element.trim_end_matches("[]");
        let (element, typmod) = parse(element)?;
        return by_oid(element.array).map(|t| (t, typmod));
    }
    if text == "\"char\"" {
        return by_oid(18).map(|t| (t, -1));
    }
    let folded = text.trim_matches('"').to_lowercase();
    // `timestamp(3) with time zone` has its modifier in the middle.
    let (base, modifier) = match (folded.find('('), folded.find(')')) {
        (Some(open), Some(close)) if open < close => {
            let base = format!("{}{}", &folded[..open], &folded[close + 1..]);
            (base.split_whitespace().collect::<Vec<_>>().join(" "), Some(folded[open + 1..close].to_string()))
        }
        _ => (folded.split_whitespace().collect::<Vec<_>>().join(" "), None),
    };
    let found = &TYPES.all[*TYPES.by_name.get(base.as_str())?];
    let numbers: Option<Vec<i32>> =
        modifier.as_ref().map(|m| m.split(',').filter_map(|n| n.trim().parse().ok()).collect());
    let typmod = match (found.name, numbers.as_deref()) {
        ("numeric", Some([p])) => (p << 16) + 4,
        ("numeric", Some([p, s])) => ((p << 16) | (s & 0x7ff)) + 4,
        ("varchar" | "bpchar", Some([n])) => n + 4,
        ("bpchar", None) if base != "bpchar" => 5,
        ("timestamp" | "timestamptz" | "time" | "timetz" | "bit" | "varbit", Some([n])) => *n,
        // Beside the digits it says that the interval has all fields.
        ("interval", Some([n])) => (0x7fff << 16) | *n,
        _ => -1,
    };
    Some((found, typmod))
}

/// As Postgres' format_type: `???` for an unknown OID, `-` for none.
pub fn format(oid: u32, typmod: i32) -> String {
    if oid == 0 {
        return "-".into();
    }
    let Some(found) = by_oid(oid) else { return "???".into() };
    if found.category() == "A" && found.element != 0 && found.name.starts_with('_') {
        return format!("{}[]", format(found.element, typmod));
    }
    let modifier = match found.name {
        _ if typmod < 0 => String::new(),
        "numeric" => {
            let (p, s) = ((typmod - 4) >> 16, ((typmod - 4) & 0x7ff ^ 1024) - 1024);
            format!("({p},{s})")
        }
        "varchar" | "bpchar" => format!("({})", typmod - 4),
        "timestamp" | "timestamptz" | "time" | "timetz" | "bit" | "varbit" => format!("({typmod})"),
        "interval" if typmod & 0xffff != 0xffff => format!("({})", typmod & 0xffff),
        _ => String::new(),
    };
    match found.display.split_once(' ') {
        Some((first, rest)) if first.starts_with("time") => format!("{first}{modifier} {rest}"),
        _ => format!("{}{modifier}", found.display),
    }
}

/// The Arrow field for a column of type `typname` (as pg_type.typname) in a system relation.
pub fn field(name: &str, typname: &str, nullable: bool) -> Field {
    let (data_type, meaning) = carrier(typname);
    let field = Field::new(name, data_type, nullable);
    match meaning {
        Some(m) => field.with_metadata(HashMap::from([(TYPE_KEY.to_string(), m)])),
        None => field,
    }
}

/// The Arrow type for `typname`, and the metadata that it needs.
pub fn carrier(typname: &str) -> (DataType, Option<String>) {
    let named = |t| (t, Some(typname.to_string()));
    match typname {
        "bool" => (DataType::Boolean, None),
        "int2" => (DataType::Int16, None),
        "int4" => (DataType::Int32, None),
        "int8" => (DataType::Int64, None),
        "float4" => (DataType::Float32, None),
        "float8" => (DataType::Float64, None),
        "timestamptz" => (DataType::Timestamp(TimeUnit::Microsecond, Some(UTC.into())), None),
        "bytea" => (DataType::Binary, None),
        "text" => (DataType::Utf8, None),
        "oid" | "xid" | "cid" | "regproc" | "regclass" | "regtype" | "regnamespace" | "regrole" | "regoper"
        | "regoperator" | "regprocedure" | "regcollation" | "regconfig" | "regdictionary" => named(DataType::Int64),
        "int2vector" => named(list(DataType::Int16)),
        "oidvector" => named(list(DataType::Int64)),
        "varchar" => (DataType::Utf8, Some("character varying".into())),
        "char" => (DataType::Utf8, Some("\"char\"".into())),
        _ => match typname.strip_prefix('_') {
            Some(element) => {
                let (data_type, meaning) = carrier(element);
                (list(data_type), meaning.map(|m| format!("{m}[]")))
            }
            None if matches!(typname, "name" | "json" | "jsonb" | "void") => named(DataType::Utf8),
            // pg_node_tree, aclitem, inet, pg_lsn, numeric …: shown as text.
            None => (DataType::Utf8, None),
        },
    }
}

pub fn list(element: DataType) -> DataType {
    DataType::List(Arc::new(Field::new_list_field(element, true)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_round_trip() {
        for text in [
            "integer",
            "bigint",
            "numeric",
            "numeric(12,2)",
            "numeric(5,-2)",
            "character varying(20)",
            "character varying",
            "character(3)",
            "text[]",
            "character varying(20)[]",
            "timestamp with time zone",
            "timestamp(3) with time zone",
            "timestamp without time zone",
            "time without time zone",
            "interval",
            "uuid",
            "jsonb",
            "\"char\"",
            "name",
            "oid",
            "double precision",
            "double precision[]",
            "boolean",
            "bytea",
            "regclass",
            "int2vector",
        ] {
            let (found, typmod) = parse(text).unwrap_or_else(|| panic!("no type {text}"));
            assert_eq!(format(found.oid, typmod), text);
        }
        assert_eq!(parse("numeric(12,2)").map(|(t, m)| (t.oid, m)), Some((1700, 786438)));
        assert_eq!(parse("int4").map(|(t, m)| (t.oid, m)), Some((23, -1)));
        assert_eq!(parse("_text").map(|(t, _)| t.oid), Some(1009));
        assert_eq!(parse("pg_catalog.oid").map(|(t, _)| t.oid), Some(26));
        assert!(parse("nonsense").is_none());
        assert_eq!(format(99999, -1), "???");
    }
}
