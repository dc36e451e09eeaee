//! Statements that ask for more than there is: more nodes, more depth, more rows, more bytes, more time. Each must give
//! an answer or a clear error within about its time, the process must not grow without bound, and all goes on after it.
//!
//! `MILLRACE_HOSTILE=name` runs only the cases whose name contains that; with `--nocapture` each is shown with its
//! answer, its time and how far the process grew in it.

use std::fs;
use std::time::{Duration, Instant};

use futures::StreamExt;
use millrace_engine::session::{Outcome, Session};
use millrace_sql_tests::millrace::{Database, run};

/// What a statement may take, …
const TIMEOUT: Duration = Duration::from_millis(300);
/// … and until its error is there, on a busy machine and without optimization.
const SLACK: Duration = Duration::from_secs(6);
/// What the engine is told to use; queries may take half of it.
const MEMORY: u64 = 1 << 30;
/// The process may be so much larger than at first while one statement runs: what queries may take, what a few batches
/// that flow by take beside it, and what the allocator keeps of the statements before.
const GROWTH_BYTES_MAX: u64 = 2 * MEMORY;

/// What a case may end with.
const ANSWER: &str = "00000";
const TOO_COMPLEX: &str = "54001";
const LIMIT: &str = "54000";
const MEMORY_UP: &str = "53200";
const TIME_UP: &str = "57014";

struct Case {
    name: &'static str,
    sql: String,
    ends: &'static [&'static str],
}

fn case(name: &'static str, sql: impl Into<String>, ends: &'static [&'static str]) -> Case {
    Case { name, sql: sql.into(), ends }
}

/// `inner` within so many pairs.
fn nested(before: &str, inner: &str, after: &str, times: usize) -> String {
    format!("{}{inner}{}", before.repeat(times), after.repeat(times))
}

fn list(times: usize, between: &str, item: impl Fn(usize) -> String) -> String {
    (0..times).map(item).collect::<Vec<_>>().join(between)
}

/// Subqueries in each other, each of which takes columns of all around it.
fn correlated(levels: usize, begins: &str) -> String {
    let level = |i: usize| {
        let outer = list(i + 1, " + ", |of| format!("t{of}.a"));
        format!(" AND {begins} t{} WHERE t{}.a <> {outer}", i + 1, i + 1)
    };
    format!("SELECT count(*) FROM t t0 WHERE true{}{}", list(levels, "", level), ")".repeat(levels))
}

/// Texts that are large, and texts that mean large plans.
fn plans() -> Vec<Case> {
    let any: &[&str] = &[ANSWER, TOO_COMPLEX, TIME_UP];
    let deep: &[&str] = &[TOO_COMPLEX];
    let select = |expr: String| format!("SELECT {expr}");
    vec![
        case("in", format!("SELECT count(*) FROM t WHERE a IN ({})", list(200_000, ",", |i| i.to_string())), any),
        case(
            "in texts",
            format!("SELECT count(*) FROM t WHERE b IN ({})", list(50_000, ",", |i| format!("'{i}'"))),
            any,
        ),
        case(
            "not in",
            format!("SELECT count(*) FROM t WHERE a NOT IN ({})", list(50_000, ",", |i| i.to_string())),
            any,
        ),
        case(
            "in of terms",
            format!("SELECT count(*) FROM t WHERE a IN ({})", list(20_000, ",", |i| format!("a+{i}"))),
            any,
        ),
        case(
            "any",
            format!("SELECT count(*) FROM t WHERE a = ANY(ARRAY[{}])", list(100_000, ",", |i| i.to_string())),
            any,
        ),
        case("or", format!("SELECT count(*) FROM t WHERE {}", list(20_000, " OR ", |i| format!("a = {i}"))), deep),
        case("or of 900", format!("SELECT count(*) FROM t WHERE {}", list(480, " OR ", |i| format!("a = {i}"))), any),
        case("plus", select(list(20_000, "+", |i| i.to_string())), deep),
        case("plus of 900", select(list(900, "+", |i| if i == 0 { "a".into() } else { "1".into() })) + " FROM t", any),
        case("joined", select(list(20_000, "||", |_| "'x'".into())), deep),
        case("not", select(format!("{}true", "NOT ".repeat(20_000))), deep),
        case("minus", select(format!("{}1", "- ".repeat(20_000))), deep),
        case("parentheses", select(nested("(", "1", ")", 10_000)), deep),
        case("functions", select(nested("abs(", "1", ")", 10_000)), deep),
        case("concat", select(nested("concat('a', ", "'b'", ")", 5_000)), deep),
        case("concat of 140", select(format!("length({})", nested("concat(b, b, ", "b", ")", 140))) + " FROM t", any),
        case("case", select(nested("CASE WHEN true THEN ", "1", " END", 5_000)), deep),
        case("arrays", select(nested("ARRAY[", "1", "]", 5_000)), deep),
        case("casts", select(format!("1{}", "::text".repeat(20_000))), deep),
        case("subqueries", nested("SELECT * FROM (", "SELECT 1 AS a", ") x", 400), deep),
        case("exists, of all levels", correlated(30, "EXISTS (SELECT 1 FROM t"), any),
        case("values, of all levels", correlated(30, "0 < (SELECT count(*) FROM t"), any),
        case(
            "laterals, of all levels",
            {
                let joined = |i: usize| {
                    let outer = list(i + 1, " + ", |of| format!("t{of}.a"));
                    format!(", LATERAL (SELECT a FROM t WHERE t.a <> {outer} ORDER BY a LIMIT 2) t{}", i + 1)
                };
                format!("SELECT count(*) FROM t t0 {}", list(40, " ", joined))
            },
            any,
        ),
        case("exists", nested("SELECT 1 WHERE EXISTS (", "SELECT 1", ")", 400), deep),
        case(
            "branches",
            select(format!("CASE {} END FROM t", list(20_000, " ", |i| format!("WHEN a = {i} THEN {i}")))),
            any,
        ),
        case("columns", select(list(50_000, ",", |i| i.to_string())), &["54011"]),
        case("same columns", select(list(1_600, ",", |_| "a".into())) + " FROM t", any),
        case("values", format!("VALUES {}", list(100_000, ",", |i| format!("({i})"))), any),
        case("union", list(5_000, " UNION ALL ", |i| format!("SELECT {i}")), deep),
        case("union of 290", list(290, " UNION ALL ", |i| format!("SELECT {i}")), any),
        case(
            "joins",
            format!("SELECT count(*) FROM t {}", list(5_000, " ", |i| format!("JOIN t t{i} USING (a)"))),
            deep,
        ),
        case(
            "joins of 60",
            format!("SELECT count(*) FROM t {}", list(60, " ", |i| format!("JOIN t t{i} ON t.a = t{i}.a"))),
            any,
        ),
        case(
            "natural joins",
            format!("SELECT count(*) FROM t {}", list(250, " ", |i| format!("NATURAL JOIN (SELECT a FROM t) t{i}"))),
            &[ANSWER, TOO_COMPLEX, TIME_UP, "42702"],
        ),
        case("with", format!("WITH {} SELECT 1", list(8_000, ",", |i| format!("c{i} AS (SELECT {i} AS a)"))), deep),
        case(
            "with, doubled",
            format!("WITH c0 AS (SELECT 1 AS a) {} SELECT * FROM c30", {
                list(30, " ", |i| format!(", c{} AS (SELECT x.a FROM c{i} x, c{i} y)", i + 1))
            }),
            deep,
        ),
        case(
            "with, a chain",
            format!("WITH c0 AS (SELECT 1 AS a) {} SELECT * FROM c400", {
                list(400, " ", |i| format!(", c{} AS (SELECT a + 1 AS a FROM c{i})", i + 1))
            }),
            any,
        ),
        case(
            "terms, doubled",
            format!("WITH c0 AS (SELECT b FROM t) {} SELECT count(*) FROM c60 WHERE length(b) > 5", {
                list(60, " ", |i| format!(", c{} AS (SELECT b || b AS b FROM c{i})", i + 1))
            }),
            &[TOO_COMPLEX, TIME_UP],
        ),
        case("cube", "SELECT count(*) FROM wide GROUP BY CUBE (c0, c1, c2, c3, c4, c5, c6, c7, c8, c9, c10, c11)", any),
        case(
            "cube of 25",
            format!("SELECT count(*) FROM wide GROUP BY CUBE ({})", list(25, ",", |i| format!("c{i}"))),
            &[LIMIT],
        ),
        case(
            "rollup",
            format!("SELECT count(*) FROM wide GROUP BY ROLLUP ({})", list(500, ",", |i| format!("c{i}"))),
            any,
        ),
        case(
            "sets",
            format!(
                "SELECT count(*) FROM t GROUP BY {}",
                list(8, ",", |_| "GROUPING SETS ((a), (b), (a, b), ())".into())
            ),
            &[ANSWER, TOO_COMPLEX, TIME_UP, LIMIT, "42601"],
        ),
        case("windows", select(list(150, ",", |i| format!("sum(a) OVER (ORDER BY a + {i})"))) + " FROM t", any),
        case("order", format!("SELECT a FROM t ORDER BY {}", list(5_000, ",", |i| format!("a + {i}"))), &["54011"]),
        case("order of 400", format!("SELECT a FROM t ORDER BY {}", list(400, ",", |i| format!("a + {i}"))), any),
        case("columns of 1600", format!("SELECT {} FROM t", list(1_600, ",", |i| format!("a + {i}"))), any),
        case(
            "columns of joins",
            format!("SELECT * FROM wide {}", list(100, " ", |i| format!("CROSS JOIN wide w{i}"))),
            &["54011", TOO_COMPLEX, TIME_UP],
        ),
        case(
            "wide joins",
            format!(
                "SELECT count(*) FROM wide {}",
                list(40, " ", |i| format!("JOIN wide w{i} ON wide.c1 = w{i}.c{i}"))
            ),
            any,
        ),
        case("regex", "SELECT 'aaa' ~ '(((a{1000}){1000}){1000}){1000}'", &["2201B"]),
        case(
            "long regex",
            format!("SELECT count(*) FROM t WHERE b ~ '{}'", "(a|b)*c".repeat(20_000)),
            &[ANSWER, LIMIT, "2201B", TIME_UP],
        ),
        case(
            "like",
            format!("SELECT count(*) FROM t WHERE b LIKE '{}'", "%a".repeat(20_000)),
            &[ANSWER, LIMIT, "2201B", TIME_UP],
        ),
        case(
            "long text",
            format!("SELECT '{}' FROM generate_series(1, 100000)", "x".repeat(4 << 20)),
            &[TIME_UP, MEMORY_UP],
        ),
        case(
            "long text, matched",
            format!("SELECT count(*) FROM t WHERE b ~ '{}'", "x".repeat(1 << 20)),
            &[ANSWER, LIMIT, "2201B", TIME_UP],
        ),
        case("json", format!("SELECT '{}'::jsonb", nested("[", "1", "]", 100_000)), deep),
        case("statements", "; SELECT 1 ".repeat(100), &[ANSWER, TIME_UP]),
        case("long name", select(format!("{}(1)", "f".repeat(200_000))), &["42883"]),
        case("nothing", ";".repeat(1_000_000), &[ANSWER, TIME_UP]),
        case("view, doubled", "SELECT count(*) FROM d", any),
        case("view, deep", "SELECT count(*) FROM e WHERE a > 5", any),
        case("view, wide", "SELECT count(*) FROM f", any),
        case("views", "SELECT count(*) FROM d x JOIN d y ON x.a = y.a JOIN e ON x.a = e.a", any),
        case("explain", "EXPLAIN SELECT * FROM e a JOIN e b ON a.a = b.a", any),
    ]
}

/// Short texts that mean many rows or large values.
fn rows() -> Vec<Case> {
    let endless: &[&str] = &[TIME_UP, MEMORY_UP];
    let large: &[&str] = &[ANSWER, TIME_UP, MEMORY_UP, LIMIT];
    let joined = "generate_series(1, 1000000) a(a), generate_series(1, 1000000) b(b)";
    let one = |name, sql: &str, ends| case(name, sql, ends);
    vec![
        one("series", "SELECT * FROM generate_series(1, 1000000000000)", endless),
        one("series, counted", "SELECT count(*) FROM generate_series(1, 1000000000000)", endless),
        one("series, limited", "SELECT * FROM generate_series(1, 1000000000000) LIMIT 3", &[ANSWER]),
        one("series, sorted", "SELECT * FROM generate_series(1, 1000000000000) i ORDER BY -i", endless),
        one("series, grouped", "SELECT i, count(*) FROM generate_series(1, 1000000000000) i GROUP BY i", endless),
        one("series, distinct", "SELECT count(DISTINCT i) FROM generate_series(1, 1000000000000) i", endless),
        one("series as values", "SELECT generate_series(1, 1000000000000)", &[LIMIT]),
        one(
            "series of series",
            "SELECT count(*) FROM (SELECT generate_series(1, 1000000) FROM generate_series(1, 1000000)) x",
            endless,
        ),
        one(
            "series, lateral",
            "SELECT count(*) FROM generate_series(1, 10000000) i, LATERAL generate_series(1, i + 1000000) j",
            endless,
        ),
        one("series as arrays", "SELECT array_agg(ARRAY[i, i, i]) FROM generate_series(1, 1000000000000) i", endless),
        one("cross join", &format!("SELECT count(*) FROM {joined}"), endless),
        one("cross join, all", &format!("SELECT * FROM {joined}"), endless),
        one("cross join, sorted", &format!("SELECT * FROM {joined} ORDER BY a + b"), endless),
        one("cross join, limited", &format!("SELECT * FROM {joined} LIMIT 5"), &[ANSWER]),
        one("cross join, grouped", &format!("SELECT a, b, count(*) FROM {joined} GROUP BY a, b"), endless),
        one("cross join, distinct", &format!("SELECT DISTINCT a * 1000000 + b FROM {joined}"), endless),
        one("cross join, windows", &format!("SELECT sum(a) OVER (ORDER BY b) FROM {joined}"), endless),
        one("cross join, texts", &format!("SELECT string_agg(a::text, ',') FROM {joined}"), endless),
        one("cross join, json", &format!("SELECT jsonb_agg(a) FROM {joined}"), endless),
        one("loop", &format!("SELECT count(*) FROM {joined} WHERE a * b < 0 AND a + b < 0"), endless),
        one(
            "hash join",
            "SELECT count(*) FROM generate_series(1, 100000000) a(a) JOIN generate_series(1, 100000000) b(b) ON a = b",
            endless,
        ),
        one("hash join of one key", &format!("SELECT count(*) FROM {joined} WHERE a % 2 = b % 2"), endless),
        one(
            "in subquery",
            "SELECT count(*) FROM t WHERE a NOT IN (SELECT i FROM generate_series(1, 1000000000) i)",
            endless,
        ),
        one(
            "correlated",
            "SELECT sum((SELECT count(*) FROM generate_series(1, 1000000) j WHERE j > i)) FROM generate_series(1, 1000000) i",
            &[TIME_UP, MEMORY_UP, "0A000"],
        ),
        one("except all", "SELECT 1 FROM generate_series(1, 300000000) EXCEPT ALL SELECT 2", large),
        one(
            "union",
            "SELECT * FROM generate_series(1, 1000000000000) UNION SELECT * FROM generate_series(1, 1000000000000)",
            endless,
        ),
        one("recursion", "WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n FROM r) SELECT count(*) FROM r", endless),
        one(
            "recursion, all",
            "WITH RECURSIVE r(n) AS (SELECT 1::bigint UNION ALL SELECT n + 1 FROM r) SELECT * FROM r",
            endless,
        ),
        one(
            "recursion, distinct",
            "WITH RECURSIVE r(n) AS (SELECT 1::bigint UNION SELECT n + 1 FROM r) SELECT count(*) FROM r",
            endless,
        ),
        one(
            "recursion, doubled",
            "WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n FROM r, (VALUES (1), (2)) v(x)) SELECT count(*) FROM r",
            endless,
        ),
        one(
            "recursion, text",
            "WITH RECURSIVE r(x) AS (SELECT 'x' UNION ALL SELECT x || x FROM r) SELECT max(length(x)) FROM r",
            large,
        ),
        one(
            "recursion, array",
            "WITH RECURSIVE r(x) AS (SELECT ARRAY[1, 2] UNION ALL SELECT x || x FROM r) SELECT max(cardinality(x)) FROM r",
            large,
        ),
        one(
            "recursion, json",
            "WITH RECURSIVE r(x) AS (SELECT '[1]'::jsonb UNION ALL SELECT jsonb_build_array(x, x) FROM r) SELECT max(length(x::text)) FROM r",
            &[TIME_UP, MEMORY_UP, LIMIT, TOO_COMPLEX],
        ),
        one("repeat", "SELECT repeat('x', 1000000000)", &[LIMIT]),
        one("repeat, counted", "SELECT length(repeat('x', 200000000))", large),
        one("repeat of repeat", "SELECT length(repeat(repeat('x', 100000), 100000))", &[LIMIT]),
        one("repeat of rows", "SELECT repeat('x', 1000000) FROM generate_series(1, 1000000)", endless),
        one(
            "repeat of rows, counted",
            "SELECT sum(length(repeat(i::text, 100000))) FROM generate_series(1, 1000000) i",
            endless,
        ),
        one(
            "repeat, filtered",
            "SELECT count(*) FROM generate_series(1, 100000) i WHERE length(repeat(i::text, 100000)) > 0",
            large,
        ),
        one("repeat, kept", "SELECT array_agg(repeat(i::text, 10000)) FROM generate_series(1, 1000000) i", endless),
        one(
            "repeat, sorted",
            "SELECT repeat(i::text, 10000) AS x FROM generate_series(1, 1000000) i ORDER BY x",
            endless,
        ),
        one("repeat, distinct", "SELECT DISTINCT repeat(i::text, 10000) FROM generate_series(1, 1000000) i", endless),
        case("repeats", format!("SELECT {}", list(200, ",", |i| format!("repeat('x', {})", 100_000_000 + i))), large),
        case(
            "repeats, united",
            list(200, " UNION ALL ", |i| format!("SELECT repeat('x', {})", 100_000_000 + i)),
            large,
        ),
        case(
            "repeats, joined",
            format!("SELECT length({})", list(400, " || ", |_| "repeat('x', 10000000)".into())),
            large,
        ),
        one("lpad", "SELECT lpad('x', 1000000000)", &[LIMIT]),
        one("rpad", "SELECT length(rpad('x', 2147483647, 'ab'))", &[LIMIT]),
        one("format", "SELECT format('%2147483647s', 'x')", &[LIMIT]),
        case(
            "formats",
            format!("SELECT length(format('{}', repeat('x', 1000000)))", "%1$s".repeat(10_000)),
            &[LIMIT, MEMORY_UP, TIME_UP],
        ),
        case(
            "concat",
            format!(
                "SELECT length(concat({})) FROM (SELECT repeat('x', 10000000) AS b) x",
                list(1_000, ",", |_| "b".into())
            ),
            &[LIMIT, MEMORY_UP, TIME_UP],
        ),
        one("replace", "SELECT length(replace(repeat('x', 10000000), 'x', repeat('y', 10000000)))", &[LIMIT]),
        one(
            "regexp_replace",
            "SELECT length(regexp_replace(repeat('x', 1000), 'x', repeat('y', 10000000), 'g'))",
            &[LIMIT, TIME_UP],
        ),
        one("translate", "SELECT length(translate(repeat('x', 10000000), 'x', 'yyyyyyyyyyyyy'))", large),
        one(
            "to_char",
            "SELECT length(to_char(1, repeat('9', 1000000)))",
            &[ANSWER, TIME_UP, MEMORY_UP, LIMIT, "22023", "22P02", "22003"],
        ),
        one(
            "elements of a large value",
            "CREATE TABLE large AS SELECT 1 AS id, jsonb_agg(repeat('x', 800)) AS j FROM generate_series(1, 10000); \
             CREATE MATERIALIZED VIEW elements AS SELECT id, e FROM large, jsonb_array_elements(j) e; \
             CREATE MATERIALIZED VIEW repeated AS SELECT j, e FROM large, jsonb_array_elements(j) e; \
             DROP TABLE large CASCADE",
            &[ANSWER],
        ),
        one("array_fill", "SELECT array_fill(1, ARRAY[2147483647])", &[LIMIT]),
        one(
            "array_fills",
            "SELECT count(array_fill('abc'::text, ARRAY[10000000])) FROM generate_series(1, 1000)",
            large,
        ),
        one("array_repeat", "SELECT array_repeat(1, 2000000000)", large),
        one(
            "array_to_string",
            "SELECT length(array_to_string(array_fill(1, ARRAY[1000000]), repeat('x', 1000)))",
            &[LIMIT, MEMORY_UP, TIME_UP],
        ),
        one("string_to_array", "SELECT cardinality(string_to_array(repeat('x,', 2000000), ','))", large),
        case(
            "json of json",
            format!("SELECT length({}::text)", nested("jsonb_build_array(", "'1'::jsonb", ", 1)", 120)),
            &[ANSWER, TOO_COMPLEX, TIME_UP],
        ),
        case(
            "json of texts",
            format!(
                "SELECT length(jsonb_build_array({})::text) FROM (SELECT repeat('x', 3000000) AS b) x",
                list(100, ",", |_| "b".into())
            ),
            &[LIMIT, MEMORY_UP, TIME_UP],
        ),
        one("insert", "INSERT INTO t SELECT i FROM generate_series(1, 1000000000000) i", endless),
        one("create table as", "CREATE TABLE big AS SELECT i FROM generate_series(1, 1000000000000) i", endless),
        one("update", "UPDATE t SET b = repeat('x', 10000000)", large),
        one(
            "returning",
            "INSERT INTO t SELECT i, 'x' FROM generate_series(1, 1000) i RETURNING repeat('x', 10000000)",
            large,
        ),
        one("copy", "COPY (SELECT * FROM generate_series(1, 1000000000000)) TO STDOUT", endless),
        one(
            "cursor",
            "BEGIN; DECLARE c CURSOR FOR SELECT * FROM generate_series(1, 1000000000000); FETCH ALL FROM c",
            endless,
        ),
        one("analyze", "EXPLAIN ANALYZE SELECT count(*) FROM generate_series(1, 1000000000000)", endless),
        one(
            "default",
            "CREATE TABLE defaults (a int, b text DEFAULT repeat('x', 200000000)); INSERT INTO defaults SELECT i FROM generate_series(1, 1000) i",
            large,
        ),
        // Last, since the allocator keeps what these leave.
        one(
            "window of growing texts",
            "SELECT max(length(x)) FROM (SELECT string_agg(i::text, ',') OVER (ORDER BY i) FROM generate_series(1, 100000) i) s(x)",
            &[TIME_UP, MEMORY_UP, LIMIT],
        ),
        one(
            "window of growing arrays",
            "SELECT max(cardinality(x)) FROM (SELECT array_agg(i) OVER (ORDER BY i) FROM generate_series(1, 100000) i) s(x)",
            &[TIME_UP, MEMORY_UP, LIMIT],
        ),
        one(
            "window over all",
            "SELECT max(x) FROM (SELECT sum(i) OVER () FROM generate_series(1, 1000000000000) i) s(x)",
            endless,
        ),
        one("array in order", "SELECT cardinality(array_agg(i ORDER BY -i)) FROM generate_series(1, 1000000) i", large),
        one("array of distinct", "SELECT cardinality(array_agg(DISTINCT i)) FROM generate_series(1, 1000000) i", large),
        one(
            "regexp_matches",
            "SELECT count(*) FROM (SELECT regexp_matches(repeat('a', 50000000), 'a', 'g')) x",
            &[LIMIT, MEMORY_UP, TIME_UP],
        ),
    ]
}

fn limit(time: Duration) -> String {
    format!("SET statement_timeout = {}", time.as_millis())
}

/// What a case may take: one that must give its answer has all the time that a busy machine may need.
fn time_of(ends: &[&str]) -> Duration {
    if ends == [ANSWER] { SLACK } else { TIMEOUT }
}

/// What the cases read. That a view cannot be made may be the answer already.
async fn prepare(session: &mut Session) {
    let wide = format!("CREATE TABLE wide ({})", list(500, ",", |i| format!("c{i} int")));
    let rows = "INSERT INTO t SELECT i, 'text ' || i FROM generate_series(1, 20) i";
    for sql in ["CREATE TABLE t (a int, b text)", rows, &wide] {
        run(session, sql).await.unwrap_or_else(|e| panic!("{sql}: {e}"));
    }
    let chains: [(&str, usize, fn(&str, usize) -> String); 3] = [
        ("d", 40, |below, _| format!("SELECT x.a FROM {below} x JOIN {below} y ON x.a = y.a")),
        ("e", 60, |below, _| format!("SELECT a{} AS a FROM {below}", " + 1".repeat(60))),
        ("f", 12, |below, i| match i {
            1 => "SELECT a AS c0, b AS c1 FROM t".into(),
            _ => {
                let half = 1 << (i - 1);
                let columns = list(half, ", ", |c| format!("x.c{c}, y.c{c} AS c{}", half + c));
                format!("SELECT {columns} FROM {below} x JOIN {below} y ON x.c0 = y.c0")
            }
        }),
    ];
    for (name, length, query) in chains {
        let mut below = "t".to_string();
        for i in 1..=length {
            let start = Instant::now();
            run(session, &limit(TIMEOUT)).await.expect("a setting");
            let made = run(session, &format!("CREATE VIEW {name}{i} AS {}", query(&below, i))).await;
            assert!(start.elapsed() < TIMEOUT + SLACK, "view {name}{i}: {:?}", start.elapsed());
            match made {
                Ok(_) => below = format!("{name}{i}"),
                Err(e) => {
                    assert!([TOO_COMPLEX, TIME_UP, "42701", "54011"].contains(&e.code.as_str()), "view {name}{i}: {e}");
                    break;
                }
            }
        }
        // The rest is ours, and may take longer on a busy machine.
        run(session, "RESET statement_timeout").await.expect("a setting");
        println!("views {name}: the last is {below}");
        assert_ne!(below, "t", "no view {name} could be made");
        run(session, &format!("ALTER VIEW {below} RENAME TO {name}")).await.expect("a name");
    }
}

/// Runs a text and drops its rows as they come. The error's code and message.
async fn end_of(session: &mut Session, sql: &str) -> Result<(), millrace_engine::Error> {
    for statement in session.parse(sql)? {
        let (_, outcome) = session.prepare_and_execute(statement).await?;
        match outcome {
            Outcome::Rows { mut rows, .. } => {
                while let Some(batch) = rows.next().await {
                    batch?;
                }
            }
            Outcome::CopyOut { mut data, .. } => {
                // Whoever copies looks at the time; the server does.
                let start = Instant::now();
                while let Some(bytes) = data.next().await {
                    bytes?;
                    if start.elapsed() > TIMEOUT {
                        return Err(millrace_engine::Error::new(TIME_UP, "copying takes long"));
                    }
                }
            }
            _ => {}
        }
    }
    Ok(())
}

/// The most memory that this process had since it was last asked, where the system tells.
fn peak_bytes() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let peak = line.trim().trim_end_matches("kB").trim().parse::<u64>().ok()? << 10;
    fs::write("/proc/self/clear_refs", "5").ok()?;
    Some(peak)
}

#[test]
fn nothing_takes_the_process_down() {
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.worker_threads(2).thread_stack_size(64 << 20).enable_all().build();
    let runtime = runtime.expect("threads can be started");
    // On a thread of the runtime's, as behind the server, whose stack is not the main thread's.
    runtime.block_on(runtime.spawn(all_cases())).expect("no panic");
}

async fn all_cases() {
    let wanted = std::env::var("MILLRACE_HOSTILE").unwrap_or_default();
    let database = Database::with_memory(MEMORY).expect("it opens");
    let mut session = database.session();
    prepare(&mut session).await;
    let _ = peak_bytes();
    let before = peak_bytes();
    let mut faults = Vec::new();
    for Case { name, sql, ends } in plans().into_iter().chain(rows()).filter(|case| case.name.contains(&wanted)) {
        let mut session = database.session();
        run(&mut session, &limit(time_of(ends))).await.expect("a setting");
        let start = Instant::now();
        let end = end_of(&mut session, &sql).await;
        let took = start.elapsed();
        let grown = peak_bytes().zip(before).map_or(0, |(peak, before)| peak.saturating_sub(before));
        let (code, message) = end.err().map_or((ANSWER, String::new()), |e| (e.code, e.message));
        println!("{name}: {code} {took:?} +{} MB {message}", grown >> 20);
        let mut fault = |what: String| faults.push(format!("{name}: {what}: {code} {message}"));
        // On a slow machine any error may come too late; an answer that is wanted may not.
        if !ends.contains(&code) && (code != TIME_UP || ends == [ANSWER]) {
            fault(format!("must end with one of {ends:?}"));
        }
        if took > TIMEOUT + SLACK {
            fault(format!("took {took:?}"));
        }
        if grown > GROWTH_BYTES_MAX {
            fault(format!("grew by {} MB", grown >> 20));
        }
        // In the session that failed, and in another one.
        let _ = run(&mut session, "ROLLBACK").await;
        run(&mut session, "RESET statement_timeout").await.expect("a setting");
        for session in [&mut session, &mut database.session()] {
            match run(session, "SELECT count(*) FROM (VALUES (1), (2)) v").await {
                Ok(answer) if answer.rows == [["2"]] => {}
                other => fault(format!("afterwards there is no answer: {other:?}")),
            }
        }
    }
    database.verify().await.expect("all views are right");
    assert!(faults.is_empty(), "\n{}\n", faults.join("\n"));
}
