//! Queries over streams with watermarks whose rows become final: groups, distinct rows, lists and joins by window, running
//! window functions.

use rand::Rng;
use rand::rngs::StdRng;

use super::expression::{Column, Type, column, one_in, pick, predicate};
use super::query::{Query, Relation};

/// `timed`: streams with a watermark on `ts`.
pub fn final_rows(rng: &mut StdRng, timed: &[Relation]) -> Query {
    let stream = pick(rng, timed).clone();
    let ty = stream.columns.iter().find(|c| c.name == "ts").expect("it has a time").ty;
    let window = |rng: &mut StdRng, name: &str| match rng.random_range(0..4) {
        0 => format!("HOP({name}, ts, INTERVAL '10 seconds', INTERVAL '30 seconds')"),
        1 => format!("CUMULATE({name}, ts, INTERVAL '10 seconds', INTERVAL '1 minute')"),
        _ => format!("TUMBLE({name}, ts, INTERVAL '{}')", pick(rng, &["10 seconds", "30 seconds", "1 minute"])),
    };
    let others: Vec<Column> =
        stream.columns.iter().filter(|c| c.name != "ts" && c.ty != Type::Inexact).cloned().collect();
    let key = pick(rng, &others).clone();
    let filter = match one_in(rng, 3) {
        true => format!(" WHERE {}", predicate(rng, &stream.columns, 1)),
        false => String::new(),
    };
    let name = &stream.name;
    let time = |name: &str| Column { name: name.into(), ty };
    let count = |name: &str| Column { name: name.into(), ty: Type::Bigint };
    let (sql, columns) = match rng.random_range(0..7) {
        0 | 1 => {
            let from = window(rng, name);
            let number = column(rng, &stream.columns, Type::Int).unwrap_or_else(|| "length('a')".into());
            let calls = pick(
                rng,
                &[
                    "count(*) AS c2, min($) AS c3",
                    "count(DISTINCT $) AS c2, sum($) AS c3",
                    "max($) AS c2, bit_or($) AS c3",
                ],
            );
            let calls = calls.replace('$', &number);
            let sql = format!(
                "SELECT window_end AS c0, {} AS c1, {calls} FROM {from}{filter} GROUP BY window_end, {}",
                key.name, key.name
            );
            (sql, vec![time("c0"), Column { name: "c1".into(), ty: key.ty }])
        }
        2 => {
            let unit = pick(rng, &["minute", "second"]);
            let sql = format!("SELECT DISTINCT date_trunc('{unit}', ts) AS c0, {} AS c1 FROM {name}{filter}", key.name);
            (sql, vec![time("c0"), Column { name: "c1".into(), ty: key.ty }])
        }
        3 => {
            let from = window(rng, name);
            let list = stream.columns.iter().map(|c| c.name.clone()).collect::<Vec<_>>().join(", ");
            let sql = format!(
                "SELECT c0, c1, c2 FROM (SELECT window_end AS c0, ts AS c1, {} AS c2, \
                 row_number() OVER (PARTITION BY window_end ORDER BY {}, {list}) AS n FROM {from}{filter}) q WHERE n <= 2",
                key.name, key.name
            );
            (sql, vec![time("c0"), time("c1"), Column { name: "c2".into(), ty: key.ty }])
        }
        4 => {
            let sql = format!(
                "SELECT window_end AS c0, count(*) AS c1 FROM SESSION({name} PARTITION BY {}, ts, INTERVAL '7 seconds') \
                 GROUP BY {}, window_end",
                key.name, key.name
            );
            (sql, vec![time("c0"), count("c1")])
        }
        5 => {
            let sql = format!(
                "SELECT ts AS c0, count(*) OVER (PARTITION BY {} ORDER BY ts) AS c1 FROM {name}{filter}",
                key.name
            );
            (sql, vec![time("c0"), count("c1")])
        }
        _ => {
            let other = pick(rng, timed).clone();
            let shared = other.columns.iter().find(|c| c.name == "ts" && c.ty == ty);
            let kind = pick(rng, &["JOIN", "LEFT JOIN"]);
            let on = match shared {
                None => "a.ts::date = b.ts::date AND false".to_string(),
                Some(_) if one_in(rng, 2) => "a.ts = b.ts".to_string(),
                Some(_) => "b.ts BETWEEN a.ts - INTERVAL '4 seconds' AND a.ts + INTERVAL '6 seconds'".to_string(),
            };
            let sql = format!("SELECT a.ts AS c0, b.ts AS c1 FROM {name} AS a {kind} {} AS b ON {on}", other.name);
            (sql, vec![time("c0"), Column { name: "c1".into(), ty: other.columns[0].ty }])
        }
    };
    Query { sql, columns, weight: 2 }
}
