//! SQL in, rows or errors out, over a few rows in memory.

use std::sync::Arc;

use arrow::array::*;
use arrow::datatypes::Schema;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::catalog::TableProvider;
use datafusion::datasource::MemTable;
use datafusion::execution::TaskContext;
use datafusion::physical_plan::collect;

use super::bind::{self, Relations, error_from};
use super::context::{Settings, session_state};
use super::types;
use crate::error::{Error, Result};

/// `t`, three rows of many types; `u (id, other)`; `big`, limits of integers.
struct Tables;

fn table(columns: &[(&str, &str, ArrayRef)]) -> Arc<dyn TableProvider> {
    let fields: Vec<_> =
        columns.iter().map(|(name, sql_type, _)| types::field(name, sql_type, true).unwrap()).collect();
    let schema = Arc::new(Schema::new(fields));
    let arrays = columns.iter().map(|(_, _, array)| array.clone()).collect();
    let batch = RecordBatch::try_new(schema.clone(), arrays).unwrap();
    Arc::new(MemTable::try_new(schema, vec![vec![batch]]).unwrap())
}

fn micros(values: &[Option<i64>]) -> TimestampMicrosecondArray {
    values.iter().copied().collect()
}

impl Relations for Tables {
    fn table(&self, schema: Option<&str>, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        if schema.is_some_and(|s| s != "public") {
            return Ok(None);
        }
        const MINUTE: i64 = 60_000_000;
        Ok(match name {
            "t" => Some(table(&[
                ("id", "integer", Arc::new(Int32Array::from(vec![1, 2, 3]))),
                ("name", "text", Arc::new(StringArray::from(vec![Some("a"), Some("b"), None]))),
                (
                    "amount",
                    "numeric(12,2)",
                    Arc::new(
                        Decimal128Array::from(vec![Some(150), Some(-25), None])
                            .with_precision_and_scale(12, 2)
                            .unwrap(),
                    ),
                ),
                ("f", "double precision", Arc::new(Float64Array::from(vec![Some(1.5), Some(0.0), None]))),
                ("ts", "timestamptz", Arc::new(micros(&[Some(90 * MINUTE), Some(-1), None]).with_timezone("+00:00"))),
                ("plain", "timestamp", Arc::new(micros(&[Some(0), Some(61 * MINUTE), None]))),
                ("flag", "boolean", Arc::new(BooleanArray::from(vec![Some(true), Some(false), None]))),
                ("small", "smallint", Arc::new(Int16Array::from(vec![Some(7), None, Some(9)]))),
            ])),
            "u" => Some(table(&[
                ("id", "integer", Arc::new(Int32Array::from(vec![1, 1, 5]))),
                ("other", "bigint", Arc::new(Int64Array::from(vec![10, 11, 50]))),
            ])),
            "big" => Some(table(&[
                ("i", "integer", Arc::new(Int32Array::from(vec![i32::MAX, i32::MIN]))),
                ("l", "bigint", Arc::new(Int64Array::from(vec![i64::MAX, i64::MIN]))),
                ("r", "real", Arc::new(Float32Array::from(vec![0.5, 1e30]))),
                ("d", "double precision", Arc::new(Float64Array::from(vec![1e308, 1e308]))),
            ])),
            _ => None,
        })
    }
    fn names(&self) -> Vec<String> {
        ["t", "u", "big", "orders"].map(String::from).to_vec()
    }
}

pub struct Answer {
    pub names: Vec<String>,
    pub types: Vec<String>,
    pub rows: Vec<String>,
}

/// Of a statement that begins now.
fn settings() -> Settings {
    Settings { now: Some(chrono::Utc::now()), ..Settings::default() }
}

pub fn answer_in(settings: &Settings, sql: &str) -> Result<Answer> {
    let state = session_state(settings);
    let query = super::parse::query(sql)?;
    let bound = bind::bind(&state, &Tables, &query, &[])?;
    let plan = bind::optimize(&state, bound.plan)?;
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let batches = runtime.block_on(async {
        let physical = state.query_planner().create_physical_plan(&plan, &state).await.map_err(error_from)?;
        collect(physical, Arc::new(TaskContext::from(&state))).await.map_err(error_from)
    })?;
    let options = FormatOptions::default().with_null("NULL").with_display_error(false);
    let mut rows = Vec::new();
    for batch in &batches {
        let columns: Vec<_> = batch.columns().iter().map(|c| ArrayFormatter::try_new(c, &options).unwrap()).collect();
        for row in 0..batch.num_rows() {
            let values: Vec<String> = columns.iter().map(|c| c.value(row).to_string()).collect();
            rows.push(values.join("|"));
        }
    }
    let fields = plan.schema().fields();
    Ok(Answer { names: bound.names, types: fields.iter().map(|f| types::sql_type_of(f)).collect(), rows })
}

pub fn answer(sql: &str) -> Result<Answer> {
    answer_in(&settings(), sql)
}

/// Each line `query => row; row`.
pub fn check(cases: &str) {
    let mut wrong = String::new();
    for case in cases.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with("--")) {
        let (sql, expected) = case.split_once(" => ").expect("a case has an arrow");
        let got = match answer(sql) {
            Ok(answer) => answer.rows.join("; "),
            Err(Error { code, message, .. }) => format!("{code} {message}"),
        };
        if got != expected {
            wrong += &format!("\n{sql}\n  has   {got}\n  wants {expected}");
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

/// Each line `query => type, type`.
pub fn check_types(cases: &str) {
    let mut wrong = String::new();
    for case in cases.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let (sql, expected) = case.split_once(" => ").expect("a case has an arrow");
        let got = answer(sql).map_or_else(|e| format!("{} {}", e.code, e.message), |a| a.types.join(", "));
        if got != expected {
            wrong += &format!("\n{sql}\n  has   {got}\n  wants {expected}");
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

/// Each line `query => code message [| hint]`; beginnings are enough.
fn check_errors(cases: &str) {
    let mut wrong = String::new();
    for case in cases.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let (sql, expected) = case.split_once(" => ").expect("a case has an arrow");
        let got = match answer(sql) {
            Ok(answer) => format!("rows {}", answer.rows.join("; ")),
            Err(Error { code, message, hint, .. }) => {
                format!("{code} {message}{}", hint.map(|h| format!(" | {h}")).unwrap_or_default())
            }
        };
        if !got.starts_with(expected) {
            wrong += &format!("\n{sql}\n  has   {got}\n  wants {expected}");
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn names_of_columns_are_postgres() {
    for (sql, names) in [
        (
            "select id, t.name, id + 1, count(*) over (), 1, 1, 'a' as x from t",
            "id,name,?column?,count,?column?,?column?,x",
        ),
        ("select t.id, t.* from t", "id,id,name,amount,f,ts,plain,flag,small"),
        ("select *, id from t", "id,name,amount,f,ts,plain,flag,small,id"),
        ("select t.*, 5 as id from t", "id,name,amount,f,ts,plain,flag,small,id"),
        ("select t.id, u.id from t join u on t.id = u.id", "id,id"),
        ("select * from t join u on t.id = u.id", "id,name,amount,f,ts,plain,flag,small,id,other"),
        (
            "select id::bigint, 1::int, case when true then 1 end, coalesce(name, ''), upper(name) from t",
            "id,int4,case,coalesce,upper",
        ),
        ("select sum(id), sum(id), max(id) as sum from t", "sum,sum,sum"),
        (
            "select (select max(other) from u), exists (select 1), array[1], interval '1 day'",
            "max,exists,array,interval",
        ),
        ("values (1, 'a')", "column1,column2"),
        ("select 1 as a union all select 2 as b", "a"),
        ("table u", "id,other"),
        ("select \"X\" from (select 1 as \"X\") s", "X"),
        ("select extract(year from plain), date_trunc('day', plain), now() from t", "extract,date_trunc,now"),
    ] {
        let answer = answer(sql).unwrap_or_else(|e| panic!("{sql}: {e:?}"));
        assert_eq!(answer.names.join(","), names, "{sql}");
    }
}

#[test]
fn rows() {
    check(
        "select id from t order by id desc limit 2 => 3; 2
         select count(*) from t where name is null => 1
         select id from t where id = any (select id from u) => 1
         select id from t where id <> all (select id from u) order by id => 2; 3
         select id from t where id = any (array[1, 3]) order by id => 1; 3
         select sum from (select sum(id) from t) x => 6
         select count(*), count(*) from t group by name is null order by 1 => 1|1; 2|2
         select t.id, other from t left join u using (id) order by 1, 2 => 1|10; 1|11; 2|NULL; 3|NULL
         select distinct on (id) id, other from u order by id, other desc => 1|11; 5|50
         select i from generate_series(1, 3) as i => 1; 2; 3
         select generate_series from generate_series(1, 2) => 1; 2
         with recursive r(n) as (select 1 union all select n + 1 from r where n < 3) select n from r => 1; 2; 3
         select name from t order by id nulls first offset 1 rows fetch first 1 rows only => b
         select count(*) filter (where flag) from t => 1
         select id, row_number() over (order by id desc) from t order by id => 1|3; 2|2; 3|1
         select lower('ABC') || 'd' => abcd
         select pg_catalog.lower('A') => a
         select id, exists (select 1 from u where u.id = t.id), not exists (select from u where false) from t order by id => 1|true|true; 2|false|true; 3|false|true
         select exists (select 1 from u limit 0), exists (select id from u group by id having count(*) > 1) => false|true
         select 1e3, 1.5e-3, 12.5e1, 1e300 => 1000|0.0015|125|1e300",
    );
}

#[test]
fn output_types_are_sql_types() {
    check_types(
        "select id, small, amount, f, ts, plain, flag from t => integer, smallint, numeric(12,2), double precision, timestamp with time zone, timestamp without time zone, boolean
         select row_number() over (), count(*), null, 1.50, 'a' from t => bigint, bigint, text, numeric(3,2), text
         select substr(name, 1), current_date, now() from t => text, date, timestamp with time zone
         select 1::int2, '1'::numeric, 'x'::varchar(3), 'a'::\"char\" => smallint, numeric, character varying(3), \"char\"
         select array[1,2], '{}'::jsonb, 1, -1, 3000000000 => integer[], jsonb, integer, integer, bigint",
    );
}

#[test]
fn errors_are_postgres() {
    check_errors(
        "select * from nosuch => 42P01 relation \"nosuch\" does not exist
         select * from s.t => 42P01 relation \"s.t\" does not exist
         select * from oders => 42P01 relation \"oders\" does not exist | Perhaps you meant \"orders\".
         select nam from t => 42703 column \"nam\" does not exist | Perhaps you meant to reference the column \"t.name\".
         select t.zzz from t => 42703 column t.zzz does not exist
         select x.id from t => 42P01 missing FROM-clause entry for table \"x\"
         select id from t, u => 42702 column reference \"id\" is ambiguous
         select nosuch(id) from t => 42883 function nosuch() does not exist
         select mz_now() => 42883 function mz_now() does not exist
         select abs('a', 2, 3) => 42883
         select id + flag from t => 42883 operator does not exist: integer + boolean
         select id from t where flag = ts => 42883 operator does not exist
         select id from t where id => 42804 argument of WHERE must be type boolean, not type integer
         select id, count(*) from t => 42803 column \"t.id\" must appear in the GROUP BY
         select id from t where count(*) > 1 => 42803 aggregate functions are not allowed in WHERE
         select 1 / 0 => 22012 division by zero
         select id / (id - 1) from t => 22012 division by zero
         select 'abc'::int => 22P02 invalid input syntax for type integer: \"abc\"
         select 70000::int2 => 22003
         select id from t order by 5 => 42P10 position 5 is not in select list
         select 1 union select 1, 2 => 42601 each UNION query must have the same number of columns
         select (select id, name from t) => 42601 subquery
         select id from t for update => 0A000 FOR UPDATE or FOR SHARE is not supported
         select * from (select 1 into x) q => 42601 SELECT ... INTO is not allowed here
         select * from tumble(t, ts, interval '1 month') => 22023 the size of TUMBLE cannot have months
         select * from tumble(t, nosuch, interval '1 minute') => 42703 column \"nosuch\" does not exist
         select * from tumble(t) => 42883 TUMBLE takes other arguments
         select * from hop(t, ts, interval '1 second', interval '100 days') => 54000
         select '2024-13-45'::timestamp => 22008
         select * from t tablesample system (10) => 0A000 TABLESAMPLE",
    );
}

#[test]
fn parameters_are_inferred() {
    let state = session_state(&settings());
    for (sql, given, types) in [
        ("select * from t where id = $1 and name = $2", vec![], "integer, text"),
        ("select $1", vec![], "text"),
        ("select $2::bigint, $1 + 1", vec![], "bigint, bigint"),
        ("select id + $1 from t limit $2", vec![], "integer, bigint"),
        ("select $1", vec![Some("double precision")], "double precision"),
        ("select $1", vec![Some("uuid")], "uuid"),
        ("select $1::uuid[], $2::jsonb, $3::varchar(3)", vec![], "uuid[], jsonb, character varying"),
        ("select * from t where amount < $1", vec![], "numeric"),
        ("select * from t where name = any($1) or id = any($2)", vec![], "text[], integer[]"),
        ("select * from t where id in ($1, $2)", vec![], "integer, integer"),
        ("select * from t where ts > $1", vec![], "timestamp with time zone"),
    ] {
        let query = super::parse::query(sql).unwrap();
        let field = |t: Option<&str>| t.map(|t| std::sync::Arc::new(types::field("", t, true).unwrap()));
        let given: Vec<_> = given.into_iter().map(field).collect();
        let bound = bind::bind(&state, &Tables, &query, &given).unwrap_or_else(|e| panic!("{sql}: {e:?}"));
        let found = bind::parameters(&bound.plan, &given).unwrap();
        let found: Vec<String> = found.iter().map(|f| types::sql_type_of(f)).collect();
        assert_eq!(found.join(", "), types, "{sql}");
    }
}

#[test]
fn relations_are_named_once() {
    let query = super::parse::query(
        "with a as (select * from t) select * from a, s.x, tumble(u, ts, interval '1 day') where id in (select id from t union select 1 from z)",
    )
    .unwrap();
    let mut names: Vec<String> = bind::relations_named(&query).iter().map(|n| n.to_string()).collect();
    names.sort();
    assert_eq!(names, ["s.x", "t", "u", "z"]);
}

#[test]
fn sums_and_averages() {
    check_types(
        "select sum(small), sum(id), sum(amount), sum(f), avg(id), avg(amount), avg(f) from t => bigint, bigint, numeric(38,2), double precision, numeric(38,16), numeric(38,16), double precision
         select sum(other), avg(other), sum(r), avg(r), sum(interval '1 day') from u, big => numeric(38,0), numeric(38,16), real, double precision, interval
         select sum(case when flag then 1 else 0 end), sum(1), sum(-1) from t => bigint, bigint, bigint",
    );
    check(
        "select sum(small), sum(id), sum(amount), sum(f) from t => 16|6|1.25|1.5
         select avg(id), avg(amount), avg(f) from t => 2.0000000000000000|0.6250000000000000|0.75
         select avg(other) from u => 23.6666666666666667
         select avg(-other) from u => -23.6666666666666667
         select sum(l), sum(i) from big => -1|-1
         select sum(l) from (select l from big union all select l from big where l > 0) x => 9223372036854775806
         select sum(id) from t where false => NULL
         select avg(id) from t where false => NULL
         select id, sum(other), avg(other) from u group by id order by id => 1|21|10.5000000000000000; 5|50|50.0000000000000000
         select sum(distinct id), sum(id), avg(distinct id), count(distinct id) from u => 6|7|3.0000000000000000|2
         select sum(distinct f), count(*) from (select 0.0::float8 as f union all select '-0'::float8 union all select 2) x => 2.0|3
         select sum(x) from (values (1e308::float8), (1::float8), (-1e308::float8)) v(x) => 1.0
         select sum(x) filter (where x > 1) from (values (1), (2), (3)) v(x) => 5
         select id, sum(id) over (order by id rows between 1 preceding and current row) from t order by id => 1|1; 2|3; 3|5
         select id, sum(amount) over (order by id rows 1 preceding), avg(f) over (order by id rows 1 preceding) from t order by id => 1|1.50|1.5; 2|1.25|0.75; 3|-0.25|0.0
         select sum(x) from (values (interval '1 day'), (interval '1 month 2 hours')) v(x) => 1 mons 1 days 2 hours
         select avg(x) from (values (interval '1 day'), (interval '1 month')) v(x) => 15 days 12 hours",
    );
    check_errors(
        "select sum(x) from (values (99999999999999999999999999999999999999::numeric(38,0)), (1)) v(x) => 22003 numeric field overflow
         select sum(name) from t => 42883 function sum(text) does not exist
         select sum(id, id) from t => 42883",
    );
}

#[test]
fn windows_in_from() {
    check(
        "select id, window_start, window_end from tumble(t, ts, interval '1 hour') order by id => 1|1970-01-01T01:00:00Z|1970-01-01T02:00:00Z; 2|1969-12-31T23:00:00Z|1970-01-01T00:00:00Z
         select id, t.window_start from tumble(table t, descriptor(plain), interval '1 hour', interval '5 minutes') order by id => 1|1969-12-31T23:05:00; 2|1970-01-01T00:05:00
         select window_start, count(*) from tumble(t, ts, interval '1 day') w group by w.window_start order by 1 => 1969-12-31T00:00:00Z|1; 1970-01-01T00:00:00Z|1
         select id, window_start, window_end from hop(t, ts, interval '30 minutes', interval '1 hour') order by 1, 2 => 1|1970-01-01T01:00:00Z|1970-01-01T02:00:00Z; 1|1970-01-01T01:30:00Z|1970-01-01T02:30:00Z; 2|1969-12-31T23:00:00Z|1970-01-01T00:00:00Z; 2|1969-12-31T23:30:00Z|1970-01-01T00:30:00Z
         select id, window_end from cumulate(t, ts, interval '20 minutes', interval '1 hour') order by 1, 2 => 1|1970-01-01T01:40:00Z; 1|1970-01-01T02:00:00Z; 2|1970-01-01T00:00:00Z
         select x.id from tumble((select * from t where id = 1), ts, interval '1 minute') x => 1
         select count(*) from hop(t, ts, interval '1 hour', interval '30 minutes') => 0
         select a.id from tumble(t, ts, interval '1 hour') a join tumble(u_t, ts, interval '1 hour') b on a.window_start = b.window_start => 42P01 relation \"u_t\" does not exist",
    );
}

#[test]
fn arithmetic_is_postgres() {
    check(
        "select i + 1 from big where i > 0 => 22003 integer out of range
         select i - 1 from big where i < 0 => 22003 integer out of range
         select i * 2 from big => 22003 integer out of range
         select l + 1 from big where l > 0 => 22003 bigint out of range
         select 2147483647 + 1 => 22003 integer out of range
         select 2147483648 + 1, 3 * 4, 7 / 2, -7 / 2, 7 % 3 => 2147483649|12|3|-3|1
         select id + 1, small * id from t where id = 1 => 2|7
         select 7.0 / 2, 1 / 3.0, amount / 3 from t where id = 1 => 3.5000000000000000|0.3333333333333333|0.5000000000000000
         select f / 0 from t where id = 1 => 22012 division by zero
         select 1.0 / 0 => 22012 division by zero
         select d * 10 > 1 from big limit 1 => 22003 value out of range: overflow
         select date '2024-03-01' - date '2024-02-01', date '2024-01-31' + 1, 1 + date '2024-01-31', date '2024-01-01' - 1 => 29|2024-02-01|2024-02-01|2023-12-31
         select (timestamp '2024-01-03 12:00' - timestamp '2024-01-01')::text => 2 days 12:00:00
         select (date '2024-01-31' + interval '1 month')::text => 2024-02-29 00:00:00
         select (interval '1 day' * 1.5)::text, (2 * interval '3 hours')::text, (interval '1 month' / 2)::text => 1 day 12:00:00|06:00:00|15 days
         select f * 1.5, 1.5 * f, f + amount, f > 1.4, f between 0.5 and 1.6, f in (1.5), coalesce(f, 0.5), case when flag then f else 0.1 end from t where id = 1 => 2.25|2.25|3.0|true|true|true|1.5|1.5
         select d > 1.5, d * 0.1 from big limit 1 => true|1.0000000000000001e307
         select amount * 2, amount + 1, amount - 0.005 from t where id = 1 => 3.00|2.50|1.495",
    );
    check_types(
        "select t.id + 1, small + 1, small + small, t.id + 1.5, other + 1, amount * 2 from t, u => integer, integer, smallint, numeric(12,1), bigint, numeric(23,2)
         select date '2024-01-01' - date '2024-01-01', date '2024-01-01' + 1, plain - plain, ts - ts, ts + interval '1 day' from t => integer, date, interval, interval, timestamp with time zone",
    );
}

#[test]
fn casts_are_postgres() {
    check(
        "select ' 42 '::int, '-7'::bigint, '1.5'::numeric(5,1), '2.25'::numeric(5,1), ' 1e2 '::numeric(5,0), '1e3'::float8 => 42|-7|1.5|2.3|100|1000.0
         select 'abc'::int => 22P02 invalid input syntax for type integer: \"abc\"
         select '99999999999'::int => 22003 value \"99999999999\" is out of range for type integer
         select 2.5::float8::int, 3.5::float8::int, 2.5::int, -2.5::int, 1e10::float8::int => 22003 integer out of range
         select 2.5::float8::int, 3.5::float8::int, 2.5::int, (-2.5)::int => 2|4|3|-3
         select 't'::boolean, 'off'::bool, 'maybe'::bool => 22P02 invalid input syntax for type boolean: \"maybe\"
         select 'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11'::uuid => a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11
         select 'xyz'::uuid => 22P02 invalid input syntax for type uuid: \"xyz\"
         select 'abcdef'::varchar(3), 'ab'::char(3) || '|', 12345::varchar(2) => abc|ab||12
         select '{\"b\":1,\"a\":[1,2]}'::jsonb, '{bad'::json => 22P02 invalid input syntax for type json
         select '{\"bb\":1,\"a\":[1,2]}'::jsonb::text => {\"a\": [1, 2], \"bb\": 1}
         select 1.0::float8::text, 1e20::float8::text, 0.1::real::text, true::text, 1.50::text => 1|1e+20|0.1|true|1.50
         select ts::text, plain::text, ts::date::text from t where id = 1 => 1970-01-01 01:30:00+00|1970-01-01 00:00:00|1970-01-01
         select '2024-01-01 00:00:00+02'::timestamptz::text, '2024-01-01 00:00:00+02'::timestamp::text => 2023-12-31 22:00:00+00|2024-01-01 00:00:00
         select '2024-02-30'::date => 22008 date/time field value out of range: \"2024-02-30\"
         select 'x'::timestamptz => 22007 invalid input syntax for type timestamp with time zone: \"x\"
         select '1 day 2 hours'::interval::text, interval '90 minutes'::text => 1 day 02:00:00|01:30:00
         select array[1,null,3]::text, array['a b','c']::text => {1,NULL,3}|{\"a b\",c}
         select '\\x0aff'::bytea::text, '03:04'::time::text => \\x0aff|03:04:00
         select count(*) from t where ts > '1970-01-01 01:00+00' => 1
         select count(*) from t where id = '1' => 1
         select count(*) from t where plain between '1970-01-01' and '1970-01-01 00:30' => 1
         select count(*) from t where ts >= date '1970-01-01' => 1
         select count(*) from t where id in ('1', '3') => 2
         select count(*) from t where id = 'x' => 22P02 invalid input syntax for type integer: \"x\"
         select '1970-01-01 01:00+00'::timestamptz::text => 1970-01-01 01:00:00+00
         select cast(null as int), null::uuid => NULL|NULL
         select timestamptz '2024-07-01 12:00+00' at time zone 'Europe/Berlin', (timestamp '2024-07-01 12:00' at time zone 'Europe/Berlin')::text => 2024-07-01T14:00:00|2024-07-01 10:00:00+00",
    );
}

#[test]
#[ignore = "timestamptz::text still writes UTC instead of the session's zone"]
fn casts_use_the_sessions_zone() {
    let berlin = Settings { time_zone: "Europe/Berlin".into(), ..settings() };
    for (sql, expected) in [
        ("select ts::text, ts::date::text from t where id = 1", "1970-01-01 02:30:00+01|1970-01-01"),
        ("select '2024-07-01 12:00'::timestamptz::text", "2024-07-01 12:00:00+02"),
        ("select (timestamp '2024-07-01 12:00')::timestamptz = timestamptz '2024-07-01 10:00Z'", "true"),
        ("select (timestamptz '2024-06-30 23:00Z')::date", "2024-07-01"),
    ] {
        assert_eq!(answer_in(&berlin, sql).map(|a| a.rows.join("; ")).unwrap_or_else(|e| e.message), expected, "{sql}");
    }
}
