//! What is the same in every database: built-in types, their functions, access methods, and the system
//! relations' own rows in pg_class and pg_attribute.

use std::collections::HashMap;
use std::sync::LazyLock;

use arrow::array::RecordBatch;
use datafusion::common::Result;

use super::declared;
use crate::pg_catalog::names::{BOOTSTRAP_ROLE_OID, INFORMATION_SCHEMA, PG_CATALOG};
use crate::pg_catalog::relations::{RELATIONS, Rows};
use crate::pg_catalog::types::{self, TYPES, Type};
use crate::pg_catalog::value::Value;

const CHECKED: &str = "rows fit the declarations that they are tested against";

/// A built-in function of `functions.txt`.
pub struct Function {
    pub oid: u32,
    pub name: &'static str,
    words: Vec<&'static str>,
    arguments: Vec<u32>,
}

pub static FUNCTIONS: LazyLock<Vec<Function>> = LazyLock::new(|| {
    let lines = include_str!("../functions.txt").lines().filter(|l| !l.starts_with('#'));
    lines
        .map(|line| {
            let words: Vec<&'static str> = line.split_whitespace().collect();
            let number = |w: &str| w.parse().expect("functions.txt holds an OID here");
            Function {
                oid: number(words[0]),
                name: words[1],
                arguments: words[10..].iter().map(|w| number(w)).collect(),
                words,
            }
        })
        .collect()
});

/// The OID of the first function of that name; 0 for `-`.
pub fn function_oid(name: &str) -> Option<u32> {
    static OIDS: LazyLock<HashMap<&'static str, u32>> =
        LazyLock::new(|| FUNCTIONS.iter().rev().map(|f| (f.name, f.oid)).collect());
    if name == "-" { Some(0) } else { OIDS.get(name).copied() }
}

pub fn function(oid: u32) -> Option<&'static Function> {
    static BY_OID: LazyLock<HashMap<u32, &'static Function>> =
        LazyLock::new(|| FUNCTIONS.iter().map(|f| (f.oid, f)).collect());
    BY_OID.get(&oid).copied()
}

pub fn function_name(oid: u32) -> Option<&'static str> {
    if oid == 0 { Some("-") } else { function(oid).map(|f| f.name) }
}

pub fn functions() -> &'static RecordBatch {
    static ROWS: LazyLock<RecordBatch> = LazyLock::new(|| {
        let mut rows = Rows::new(
            declared("pg_proc"),
            "oid proname pronamespace proowner prolang procost prokind proisstrict proretset provolatile proparallel \
             prorettype pronargdefaults provariadic pronargs proargtypes prosrc prorows",
        );
        for f in FUNCTIONS.iter() {
            let w = &f.words;
            let number = |i: usize| Value::from(w[i].parse::<i64>().expect("functions.txt holds a number here"));
            rows.add([
                f.oid.into(),
                f.name.into(),
                PG_CATALOG.into(),
                BOOTSTRAP_ROLE_OID.into(),
                12.into(),
                Value::Float(1.0),
                w[2].into(),
                (w[3] == "t").into(),
                (w[4] == "t").into(),
                w[5].into(),
                w[6].into(),
                number(7),
                number(8),
                number(9),
                (f.arguments.len() as i64).into(),
                f.arguments.clone().into(),
                f.name.into(),
                Value::Float(if w[4] == "t" { 1000.0 } else { 0.0 }),
            ]);
        }
        rows.finish().expect(CHECKED)
    });
    &ROWS
}

pub fn types() -> &'static RecordBatch {
    static ROWS: LazyLock<RecordBatch> = LazyLock::new(|| {
        let mut rows = type_rows();
        for t in &TYPES.all {
            add_type(&mut rows, t, PG_CATALOG, BOOTSTRAP_ROLE_OID);
        }
        rows.finish().expect(CHECKED)
    });
    &ROWS
}

pub fn type_rows() -> Rows {
    Rows::new(
        declared("pg_type"),
        "oid typname typnamespace typowner typlen typbyval typtype typcategory typispreferred typisdefined typdelim \
         typsubscript typelem typarray typinput typoutput typreceive typsend typmodin typmodout typalign typstorage \
         typtypmod typcollation",
    )
}

pub fn add_type(rows: &mut Rows, t: &Type, namespace: u32, owner: u32) {
    let f: Vec<u32> =
        t.functions().map(|n| function_oid(n).expect("functions.txt has every type's functions")).collect();
    let flag = |i: usize| Value::Bool(t.attributes[i] == "t");
    rows.add([
        t.oid.into(),
        t.name.into(),
        namespace.into(),
        owner.into(),
        t.length().into(),
        t.by_value().into(),
        t.kind().into(),
        t.category().into(),
        flag(4),
        true.into(),
        t.attributes[5].into(),
        f[0].into(),
        t.element.into(),
        t.array.into(),
        f[1].into(),
        f[2].into(),
        f[3].into(),
        f[4].into(),
        f[5].into(),
        f[6].into(),
        t.alignment().into(),
        t.storage().into(),
        (-1).into(),
        t.collation().into(),
    ]);
}

pub fn classes() -> &'static RecordBatch {
    static ROWS: LazyLock<RecordBatch> = LazyLock::new(|| {
        let mut rows = Rows::new(
            declared("pg_class"),
            "oid relname relnamespace relowner relam relkind relnatts relhasrules relpersistence relispopulated relreplident \
             reltuples",
        );
        for r in &RELATIONS.all {
            let namespace = if r.schema_name == "pg_catalog" { PG_CATALOG } else { INFORMATION_SCHEMA };
            let table = r.kind == "r";
            rows.add([
                r.oid.into(),
                r.name.into(),
                namespace.into(),
                BOOTSTRAP_ROLE_OID.into(),
                (if table { 2 } else { 0 }).into(),
                r.kind.into(),
                (r.columns.len() as i64).into(),
                (!table).into(),
                "p".into(),
                true.into(),
                "n".into(),
                Value::Float(-1.0),
            ]);
        }
        rows.finish().expect(CHECKED)
    });
    &ROWS
}

pub fn attributes() -> &'static RecordBatch {
    static ROWS: LazyLock<RecordBatch> = LazyLock::new(|| {
        let mut rows = attribute_rows();
        for r in &RELATIONS.all {
            for (i, c) in r.columns.iter().enumerate() {
                add_attribute(&mut rows, r.oid, i, c.name, c.type_, -1, c.not_null, false, "", "");
            }
        }
        rows.finish().expect(CHECKED)
    });
    &ROWS
}

pub fn attribute_rows() -> Rows {
    Rows::new(
        declared("pg_attribute"),
        "attrelid attname atttypid attstattarget attlen attnum attndims attcacheoff atttypmod attbyval attalign attstorage \
         attnotnull atthasdef attidentity attgenerated attislocal attcollation",
    )
}

#[allow(clippy::too_many_arguments)]
pub fn add_attribute(
    rows: &mut Rows,
    relation: u32,
    position: usize,
    name: &str,
    type_: &crate::pg_catalog::types::Type,
    typmod: i32,
    not_null: bool,
    has_default: bool,
    identity: &'static str,
    generated: &'static str,
) {
    let dimensions = if type_.name.starts_with('_') { 1 } else { 0 };
    rows.add([
        relation.into(),
        name.into(),
        type_.oid.into(),
        (-1).into(),
        type_.length().into(),
        (position as i64 + 1).into(),
        dimensions.into(),
        (-1).into(),
        typmod.into(),
        type_.by_value().into(),
        type_.alignment().into(),
        type_.storage().into(),
        not_null.into(),
        has_default.into(),
        identity.into(),
        generated.into(),
        true.into(),
        type_.collation().into(),
    ]);
}

pub fn ranges() -> &'static RecordBatch {
    static ROWS: LazyLock<RecordBatch> = LazyLock::new(|| {
        let mut rows = Rows::new(declared("pg_range"), "rngtypid rngsubtype rngmultitypid rngcollation rngsubopc");
        for line in include_str!("../ranges.txt").lines() {
            let mut words = line.split(' ').map(|w| Value::from(w.parse::<i64>().unwrap_or(0)));
            rows.add::<5>(std::array::from_fn(|_| words.next().expect("ranges.txt: five OIDs")));
        }
        rows.finish().expect(CHECKED)
    });
    &ROWS
}

/// OID, name, family and input type of each default B-tree operator class.
pub static OPERATOR_CLASSES: LazyLock<Vec<(u32, &'static str, u32, u32)>> = LazyLock::new(|| {
    let lines = include_str!("../operator_classes.txt").lines().filter(|l| !l.starts_with('#'));
    lines
        .map(|line| {
            let w: Vec<&str> = line.split(' ').collect();
            let number = |i: usize| w[i].parse().expect("operator_classes.txt holds an OID here");
            (number(0), w[1], number(2), number(3))
        })
        .collect()
});

/// A built-in operator of `operators.txt`.
pub struct OperatorRow {
    pub name: &'static str,
    words: Vec<&'static str>,
}

pub static OPERATORS: LazyLock<Vec<OperatorRow>> = LazyLock::new(|| {
    let lines = include_str!("../operators.txt").lines().filter(|l| !l.starts_with('#'));
    lines
        .map(|line| {
            let words: Vec<&'static str> = line.split(' ').collect();
            OperatorRow { name: words[1], words }
        })
        .collect()
});

impl OperatorRow {
    fn number(&self, i: usize) -> u32 {
        self.words[i].parse().expect("operators.txt holds an OID here")
    }
    /// The types of its operands and of its result; 0 on the left of a prefix operator.
    #[cfg(test)]
    pub fn types(&self) -> [u32; 3] {
        [self.number(5), self.number(6), self.number(7)]
    }
}

pub fn operators() -> &'static RecordBatch {
    static ROWS: LazyLock<RecordBatch> = LazyLock::new(|| {
        let mut rows = Rows::new(
            declared("pg_operator"),
            "oid oprname oprnamespace oprowner oprkind oprcanmerge oprcanhash oprleft oprright oprresult oprcom oprnegate \
             oprcode oprrest oprjoin",
        );
        for operator in OPERATORS.iter() {
            let (w, number) = (&operator.words, |i: usize| Value::from(operator.number(i)));
            rows.add([
                number(0),
                operator.name.into(),
                PG_CATALOG.into(),
                BOOTSTRAP_ROLE_OID.into(),
                w[2].into(),
                (w[3] == "t").into(),
                (w[4] == "t").into(),
                number(5),
                number(6),
                number(7),
                number(8),
                number(9),
                number(10),
                number(11),
                number(12),
            ]);
        }
        rows.finish().expect(CHECKED)
    });
    &ROWS
}

pub fn casts() -> &'static RecordBatch {
    static ROWS: LazyLock<RecordBatch> = LazyLock::new(|| {
        let mut rows = Rows::new(declared("pg_cast"), "oid castsource casttarget castfunc castcontext castmethod");
        for (i, (from, to, context)) in millrace_engine::sql::functions::listed_casts().enumerate() {
            let of = |name| types::parse(name).expect("the types of casts are there").0;
            let (from, to) = (of(from), of(to));
            // Called as the type that it gives.
            let function = FUNCTIONS.iter().find(|f| f.name == to.name && f.arguments.first() == Some(&from.oid));
            // A document is written and read again.
            let method = if from.category() == "U" && to.category() == "U" { "i" } else { "f" };
            let function = function.map_or(0, |f| f.oid);
            // From 10035 on, where those of PostgreSQL's begin.
            let oid = Value::from(10035 + i as i64);
            rows.add([oid, from.oid.into(), to.oid.into(), function.into(), context.into(), method.into()]);
        }
        rows.finish().expect(CHECKED)
    });
    &ROWS
}

/// The aggregates among the functions.
pub fn aggregates() -> &'static RecordBatch {
    static ROWS: LazyLock<RecordBatch> = LazyLock::new(|| {
        let mut rows = Rows::new(declared("pg_aggregate"), "aggfnoid aggkind aggnumdirectargs");
        for f in FUNCTIONS.iter().filter(|f| f.words[2] == "a") {
            // Ordinary ones, those of rows in order, and those of a row that is not there.
            let (kind, direct) = match f.name {
                "mode" => ("o", 0),
                name if name.starts_with("percentile_") => ("o", 1),
                "rank" | "dense_rank" | "percent_rank" | "cume_dist" => ("h", 1),
                _ => ("n", 0),
            };
            rows.add([f.oid.into(), kind.into(), direct.into()]);
        }
        rows.finish().expect(CHECKED)
    });
    &ROWS
}

pub fn operator_classes() -> &'static RecordBatch {
    static ROWS: LazyLock<RecordBatch> = LazyLock::new(|| {
        let mut rows = Rows::new(
            declared("pg_opclass"),
            "oid opcmethod opcname opcnamespace opcowner opcfamily opcintype opcdefault",
        );
        for (oid, name, family, input) in OPERATOR_CLASSES.iter() {
            rows.add([
                (*oid).into(),
                403.into(),
                (*name).into(),
                PG_CATALOG.into(),
                BOOTSTRAP_ROLE_OID.into(),
                (*family).into(),
                (*input).into(),
                true.into(),
            ]);
        }
        rows.finish().expect(CHECKED)
    });
    &ROWS
}

pub fn access_methods() -> Result<RecordBatch> {
    let mut rows = Rows::new(declared("pg_am"), "oid amname amtype");
    rows.add([2.into(), "heap".into(), "t".into()]);
    rows.add([403.into(), "btree".into(), "i".into()]);
    rows.finish()
}

pub fn collations() -> Result<RecordBatch> {
    let mut rows = Rows::new(
        declared("pg_collation"),
        "oid collname collnamespace collowner collprovider collisdeterministic collencoding collcollate collctype",
    );
    for (oid, name, provider, locale) in
        [(100, "default", "d", None), (950, "C", "c", Some("C")), (951, "POSIX", "c", Some("POSIX"))]
    {
        rows.add([
            oid.into(),
            name.into(),
            PG_CATALOG.into(),
            BOOTSTRAP_ROLE_OID.into(),
            provider.into(),
            true.into(),
            (-1).into(),
            locale.into(),
            locale.into(),
        ]);
    }
    rows.finish()
}

pub fn languages() -> Result<RecordBatch> {
    let mut rows = Rows::new(declared("pg_language"), "oid lanname lanowner lanispl lanpltrusted");
    for (oid, name, trusted) in [(12, "internal", false), (14, "sql", true)] {
        rows.add([oid.into(), name.into(), BOOTSTRAP_ROLE_OID.into(), false.into(), trusted.into()]);
    }
    rows.finish()
}

impl Function {
    /// The result's type, as pg_get_function_result prints it.
    pub fn result(&self) -> String {
        let oid = self.words[7].parse().expect("functions.txt holds an OID here");
        let set = if self.words[4] == "t" { "SETOF " } else { "" };
        format!("{set}{}", crate::pg_catalog::types::format(oid, -1))
    }
    pub fn arguments(&self) -> &[u32] {
        &self.arguments
    }
}
