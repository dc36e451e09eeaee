//! What clients send, answered as PostgreSQL answers it.
//!
//! `testdata/*.txt` holds statements recorded from clients and the answers of PostgreSQL 15 over the same
//! schema as [`sample`]'s:
//!
//! ```text
//! ### \d accounts                 what the client was asked to do
//! SELECT …                        the statement that it sent
//! ----
//! value|value                     a row; NULL is ∅
//! ```
//!
//! Instead of rows: `!many` (only planned and run), `!error …` (PostgreSQL's error), and `!ours` before rows
//! that are rightly different here.

use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::arrow::array::RecordBatch;
use datafusion::catalog::TableProvider;
use datafusion::datasource::MemTable;
use datafusion::execution::TaskContext;
use datafusion::physical_plan::collect;
use millrace_engine::catalog::{Catalog, Column, Relation, RelationKind};
use millrace_engine::sql::bind::{Relations, bind_finishing, error_from, optimize, parameters};
use millrace_engine::sql::context::{Settings, session_state};
use millrace_engine::sql::system::{Live, SessionInfo};

use super::value::{Value, value_at};
use super::*;

fn relation(id: u32, schema: &str, name: &str, kind: RelationKind, columns: &str, key: &[usize]) -> Relation {
    let columns = columns
        .split(", ")
        .map(|c| {
            let (c, default) = c.split_once(" default ").map_or((c, None), |(c, d)| (c, Some(d.to_string())));
            let (c, nullable) = c.strip_suffix(" not null").map_or((c, true), |c| (c, false));
            let (name, sql_type) = c.split_once(' ').expect("name and type");
            Column {
                name: name.into(),
                sql_type: sql_type.into(),
                nullable,
                default,
                identity: None,
                generated: None,
                absent: None,
            }
        })
        .collect();
    Relation {
        id,
        schema_name: schema.into(),
        name: name.into(),
        kind,
        columns,
        primary_key: key.to_vec(),
        primary_key_name: None,
        indexes: Vec::new(),
        checks: Vec::new(),
        foreign_keys: vec![],
        sql: String::new(),
        query: None,
        options: BTreeMap::new(),
        watermark: None,
        depends_on: Vec::new(),
        arrangements: Vec::new(),
        time_zone: "UTC".into(),
        search_path: vec![],
        starts: Default::default(),
        bounds: Vec::new(),
        dealt_by: Vec::new(),
        owner: "millrace".into(),
        comment: None,
        column_comments: BTreeMap::new(),
        schema: Default::default(),
    }
}

/// The schema of `testdata/schema.sql`, with the OIDs that PostgreSQL gave it.
fn sample() -> Catalog {
    let mut accounts = relation(
        16389,
        "public",
        "accounts",
        RelationKind::Table,
        "id integer not null, owner text not null, balance numeric(12,2) default 0, opened timestamp with time zone default now(), tags text[]",
        &[0],
    );
    accounts.comment = Some("who owes what".into());
    accounts.column_comments.insert(1, "full name".into());
    let orders = relation(
        16398,
        "public",
        "orders",
        RelationKind::Table,
        "id bigint, customer integer, amount numeric(12,2), note character varying(20), ts timestamp with time zone not null",
        &[],
    );
    let items = relation(
        16402,
        "sales",
        "items",
        RelationKind::Table,
        "order_id bigint not null, line integer not null, product text, price double precision",
        &[0, 1],
    );
    let mut big = relation(16409, "public", "big_orders", RelationKind::View, "id bigint, amount numeric(12,2)", &[]);
    big.query =
        Some("SELECT orders.id,\n    orders.amount\n   FROM orders\n  WHERE orders.amount > 100::numeric".into());
    big.depends_on = vec![16398];
    let mut totals =
        relation(16413, "public", "totals", RelationKind::MaterializedView, "customer integer, total numeric", &[]);
    totals.query = Some(
        "SELECT orders.customer,\n    sum(orders.amount) AS total\n   FROM orders\n  GROUP BY orders.customer".into(),
    );
    totals.depends_on = vec![16398];
    let relations = [accounts, orders, items, big, totals];
    Catalog {
        relations: relations.into_iter().map(|r| (r.id, Arc::new(r))).collect(),
        schemas: [("sales".to_string(), 16401)].into(),
    }
}

struct Sample;

impl Live for Sample {
    fn sessions(&self) -> Vec<SessionInfo> {
        vec![SessionInfo {
            pid: 4711,
            user: "millrace".into(),
            database: "millrace".into(),
            application_name: "psql".into(),
            client_address: Some("127.0.0.1:55555".parse().expect("an address")),
            started_us: Some(0),
            transaction_started_us: None,
            statement_started_us: Some(0),
            state_changed_us: Some(0),
            state: "active",
            statement: "SELECT 1".into(),
        }]
    }
    fn set_config(&self, _: &str, value: Option<&str>, _: bool) -> Result<String> {
        Ok(value.unwrap_or_default().to_string())
    }
}

fn view() -> Arc<CatalogView> {
    let setting = |n: &str, v: &str| (n.to_string(), v.to_string(), format!("The {n}."));
    Arc::new(CatalogView {
        catalog: Arc::new(sample()),
        user: "millrace".into(),
        database: "millrace".into(),
        pid: 4711,
        settings: vec![
            setting("search_path", "\"$user\", public"),
            setting("server_version_num", "150000"),
            setting("work_mem", "4MB"),
            setting("jit", "on"),
            setting("default_table_access_method", "heap"),
            setting("server_encoding", "UTF8"),
            setting("server_version", "15.0"),
            setting("max_index_keys", "32"),
            setting("max_replication_slots", "0"),
            setting("wal_level", "minimal"),
        ],
        search_path: vec!["public".into()],
        live: Arc::new(Sample),
    })
}

struct Scope(Arc<CatalogView>);

impl Relations for Scope {
    fn table(&self, schema: Option<&str>, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        if let Some(r) = self.0.catalog.find(schema.unwrap_or("public"), name) {
            let schema = r.arrow_schema();
            let rows = MemTable::try_new(schema.clone(), vec![vec![RecordBatch::new_empty(schema)]]);
            return rows.map(|t| Some(Arc::new(t) as Arc<dyn TableProvider>)).map_err(error_from);
        }
        Ok(PgCatalog.table(schema, name, &self.0))
    }
}

/// Names of the columns and the rows as text, or the error.
async fn answer(sql: &str, view: &Arc<CatalogView>) -> std::result::Result<(Vec<String>, Vec<String>), String> {
    let mut query = *millrace_engine::sql::parse::query(sql).map_err(|e| format!("parse: {e}"))?;
    let mut state = session_state(&Settings::default());
    PgCatalog.register(&mut state, view).map_err(|e| e.to_string())?;
    let concerned = PgCatalog.rewrite(&mut query, view).map_err(|e| format!("rewrite: {e}"))?;
    let rewritten = query.to_string();
    let fail = |stage: &str, e: Error| format!("{stage}: {} {e}\n   rewritten: {rewritten}", e.code);
    let finish = |plan| if concerned { PgCatalog.finish(plan, view) } else { Ok(plan) };
    let bound = bind_finishing(&state, &Scope(view.clone()), &query, &[], finish).map_err(|e| fail("bind", e))?;
    let plan = optimize(&state, bound.plan).map_err(|e| fail("optimize", e))?;
    let physical = state.query_planner().create_physical_plan(&plan, &state).await;
    let physical = physical.map_err(|e| fail("plan", error_from(e)))?;
    let batches =
        collect(physical, Arc::new(TaskContext::from(&state))).await.map_err(|e| fail("run", error_from(e)))?;
    let mut rows = Vec::new();
    for batch in &batches {
        for row in 0..batch.num_rows() {
            let values: Vec<String> = batch
                .columns()
                .iter()
                .zip(batch.schema().fields())
                .map(|(c, f)| {
                    let value = value_at(c, row);
                    let vector = functions::meaning(f).is_some_and(|m| m.ends_with("vector"));
                    match &value {
                        Value::List(l) if vector => l.iter().filter_map(Value::print).collect::<Vec<_>>().join(" "),
                        _ => value.print().unwrap_or_else(|| "∅".into()),
                    }
                })
                .collect();
            rows.push(values.join("|").replace('\\', "\\\\").replace('\n', "\\n"));
        }
    }
    Ok((bound.names, rows))
}

struct Case {
    title: String,
    sql: String,
    expected: Vec<String>,
}

fn cases(text: &str) -> Vec<Case> {
    text.split("### ")
        .skip(1)
        .map(|case| {
            let (title, rest) = case.split_once('\n').expect("a title");
            let (sql, rows) = rest.split_once("\n----\n").expect("a line of dashes");
            let rows = rows.strip_suffix('\n').unwrap_or(rows);
            let expected = rows.split('\n').filter(|r| !r.is_empty()).map(str::to_string).collect();
            Case { title: title.into(), sql: sql.into(), expected }
        })
        .collect()
}

/// Rows beyond which an answer of ours is only run, not recorded.
const RECORDED_ROWS_MAX: usize = 60;

/// Runs the statements of a file. With `PG_CATALOG_UPDATE=1` in the environment, answers that differ are
/// recorded as ours: look at what changed.
async fn check(file: &str) {
    let path = format!("{}/src/pg_catalog/testdata/{file}.txt", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).expect("the file is there");
    let view = view();
    let (mut failures, mut updated) = (Vec::new(), String::new());
    for case in cases(&text) {
        let mark =
            case.expected.first().filter(|e| e.starts_with('!')).map_or("", |e| e.split(' ').next().unwrap_or(e));
        let expected = if mark == "!ours" { &case.expected[1..] } else { &case.expected[..] };
        let (mut recorded, question) = (case.expected.clone(), format!("### {}\n{}\n", case.title, case.sql));
        match answer(&case.sql, &view).await {
            Err(_) if mark == "!error" => {}
            Err(error) => failures.push(format!("{question}ERROR {error}\n")),
            Ok(_) if mark == "!error" => failures.push(format!("{question}no error\n")),
            Ok(_) if mark == "!many" => {}
            Ok((_, mut rows)) => {
                let mut expected = expected.to_vec();
                if !case.sql.to_uppercase().contains("ORDER BY") {
                    rows.sort();
                    expected.sort();
                }
                if rows != expected {
                    failures.push(format!(
                        "{question}---- expected\n{}\n---- got\n{}\n",
                        expected.join("\n"),
                        rows.join("\n")
                    ));
                    recorded = if rows.len() > RECORDED_ROWS_MAX {
                        vec!["!many".into()]
                    } else {
                        [vec!["!ours".into()], rows].concat()
                    };
                }
            }
        }
        updated += &format!("{question}----\n{}\n", recorded.iter().map(|r| format!("{r}\n")).collect::<String>());
    }
    if std::env::var_os("PG_CATALOG_UPDATE").is_some() {
        std::fs::write(&path, updated).expect("the file can be written");
    }
    assert!(failures.is_empty(), "{} statements fail:\n{}", failures.len(), failures.join("\n"));
}

#[tokio::test]
async fn psql() {
    check("psql").await;
}

#[tokio::test]
async fn completion() {
    check("completion").await;
}

#[tokio::test]
async fn sqlalchemy() {
    check("sqlalchemy").await;
}

#[tokio::test]
async fn jdbc() {
    check("jdbc").await;
}

#[tokio::test]
async fn asyncpg() {
    check("asyncpg").await;
}

#[tokio::test]
async fn tools() {
    check("tools").await;
}

#[tokio::test]
async fn operators_are_bound_to_their_types() {
    let view = view();
    for operator in contents::OPERATORS.iter() {
        let [left, right, result] = operator.types().map(|oid| match types::format(oid, -1).as_str() {
            "anyarray" | "anycompatiblearray" => "integer[]".to_string(),
            "anyelement" | "anycompatible" => "integer".to_string(),
            name => name.to_string(),
        });
        let operand = if operator.types()[0] == 0 { String::new() } else { format!("NULL::{left} ") };
        let sql = format!("SELECT pg_typeof({operand}{} NULL::{right})", operator.name);
        let (_, rows) = answer(&sql, &view).await.unwrap_or_else(|e| panic!("{sql}: {e}"));
        assert_eq!(rows, [result], "{sql}");
    }
}

#[tokio::test]
async fn names_of_columns() {
    let view = view();
    for (sql, names) in [
        ("SELECT n.oid, n.* FROM pg_namespace n", "oid,oid,nspname,nspowner,nspacl"),
        (
            "SELECT count(*), max(oid), oid::regclass, 1, current_user FROM pg_class GROUP BY oid",
            "count,max,oid,?column?,current_user",
        ),
        ("SELECT pg_catalog.version(), 'x'::name, CASE WHEN true THEN 1 END", "version,name,case"),
    ] {
        let (found, _) = answer(sql, &view).await.unwrap_or_else(|e| panic!("{sql}: {e}"));
        assert_eq!(found.join(","), names, "{sql}");
    }
}

#[test]
fn parameters_have_the_types_of_their_places() {
    let view = view();
    for (sql, types) in [
        ("SELECT 1 FROM pg_class WHERE oid = any($1::oid[])", "oid[]"),
        ("SELECT 1 FROM pg_class WHERE relname = any($1)", "name[]"),
        ("SELECT $1::int, $2::uuid[], $3::regclass", "integer, uuid[], text"),
        ("SELECT format_type($1, null), pg_table_is_visible($2), $3::name", "oid, oid, name"),
        (
            "SELECT (SELECT count(*) FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > $1) FROM pg_class c",
            "smallint",
        ),
    ] {
        let mut query = *millrace_engine::sql::parse::query(sql).expect(sql);
        let mut state = session_state(&Settings::default());
        PgCatalog.register(&mut state, &view).expect("functions register");
        assert!(PgCatalog.rewrite(&mut query, &view).expect(sql), "{sql} concerns the system");
        let finish = |plan| PgCatalog.finish(plan, &view);
        let bound = bind_finishing(&state, &Scope(view.clone()), &query, &[], finish).expect(sql);
        let found = parameters(&bound.plan, &[]).expect(sql);
        let found: Vec<String> = found.iter().map(|f| millrace_engine::sql::types::sql_type_of(f)).collect();
        assert_eq!(found.join(", "), types, "{sql}");
    }
}
