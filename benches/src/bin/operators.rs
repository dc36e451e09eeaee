//! What each operator costs per row that comes in: inserted, updated (which retracts a row and adds one) and deleted, with
//! few and with many rows in its state.
//!
//! Operators are no part of the engine's interface, so each is reached through the least SQL that needs it. Each statement
//! runs twice: on a table that nothing depends on, and on its twin, which the view reads. What the second costs above the
//! first is the view's, its result's arrangement included.
//!
//! ```text
//!   t, twin: id, k (ten rows each), g (a hundred), v, at       u: id, w (every other k)
//! ```

use clap::Parser;
use millrace_benches::embedded::{self, Embedded, Settings};
use millrace_benches::events::Error;
use millrace_benches::usage;
use millrace_engine::session::Session;

#[global_allocator]
static ALLOCATOR: millrace_engine::allocator::Allocator = millrace_engine::allocator::Allocator;

/// CPU nanoseconds per row, for each operator.
#[derive(Parser)]
struct Args {
    /// Only the operators whose names contain it.
    #[arg(long, default_value = "")]
    only: String,
    /// Rows that are there before the measured ones.
    #[arg(long, value_delimiter = ',', default_values_t = [100_000, 1_000_000])]
    rows: Vec<i64>,
    /// Rows of each measured statement.
    #[arg(long, default_value_t = 10_000)]
    statement_rows: i64,
    /// Statements of each kind, on either table; the median is told.
    #[arg(long, default_value_t = 9)]
    statements: i64,
}

const OPERATORS: &[(&str, &str)] = &[
    ("arrangement", "SELECT * FROM t"),
    ("filter", "SELECT id, v + 1 AS v FROM t WHERE v % 2 = 0"),
    ("inner join", "SELECT t.id, t.v, u.w FROM t JOIN u ON t.k = u.id"),
    ("left join", "SELECT t.id, t.v, u.w FROM t LEFT JOIN u ON t.k = u.id"),
    ("semi join", "SELECT id, v FROM t WHERE EXISTS (SELECT 1 FROM u WHERE u.id = t.k)"),
    ("count, sum", "SELECT k, count(*) AS n, sum(v) AS s FROM t GROUP BY k"),
    ("min, max", "SELECT k, min(v) AS least, max(v) AS most FROM t GROUP BY k"),
    ("count distinct", "SELECT g, count(DISTINCT k) AS n FROM t GROUP BY g"),
    ("top-k", "SELECT id, v FROM t ORDER BY v DESC, id LIMIT 10"),
    (
        "row_number",
        "SELECT id, k, v, place FROM \
         (SELECT id, k, v, row_number() OVER (PARTITION BY k ORDER BY v DESC, id) AS place FROM t) AS ranked \
         WHERE place <= 3",
    ),
    (
        "tumble",
        "SELECT window_start, count(*) AS n, sum(v) AS s FROM TUMBLE(t, at, INTERVAL '10 seconds') \
         GROUP BY window_start, window_end",
    ),
    ("union", "SELECT k FROM t UNION SELECT id FROM u"),
];

fn main() -> Result<(), Error> {
    let args = Args::parse();
    println!("{:<16} {:>10} {:>12} {:>12} {:>12}", "operator", "rows", "insert ns", "update ns", "delete ns");
    for rows in &args.rows {
        for (name, query) in OPERATORS.iter().filter(|(name, _)| name.contains(&args.only)) {
            let [insert, update, delete] = costs(query, *rows, &args)?;
            println!("{name:<16} {rows:>10} {insert:>12.0} {update:>12.0} {delete:>12.0}");
        }
    }
    Ok(())
}

/// CPU nanoseconds per row that the view of `query` takes while a row is inserted, updated, deleted.
fn costs(query: &str, rows: i64, args: &Args) -> Result<[f64; 3], Error> {
    let embedded = Embedded::open(Settings { workers: 1, log: true, sync: false, checkpoint: false })?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut session = embedded.session();
        let keys = rows / 10;
        let create = |name: &str| {
            format!("CREATE TABLE {name} (id bigint PRIMARY KEY, k bigint, g bigint, v bigint, at timestamp)")
        };
        // 7919 is prime: keys come in no order, and ten times each.
        let insert = |name: &str, from: i64, until: i64| {
            format!(
                "INSERT INTO {name} SELECT i, i * 7919 % {keys}, i % 100, i * 31 % 1009, \
                 TIMESTAMP '2026-01-01 00:00:00' + i * INTERVAL '1 millisecond' \
                 FROM generate_series({from}::bigint, {until} - 1) AS s(i)"
            )
        };
        let mut set_up = vec![
            "CREATE TABLE u (id bigint PRIMARY KEY, w bigint)".to_string(),
            format!("INSERT INTO u SELECT 2 * i, i FROM generate_series(0, {keys} / 2 - 1) AS s(i)"),
            create("t"),
            create("twin"),
            format!("CREATE MATERIALIZED VIEW result AS {query}"),
        ];
        for from in (0..rows).step_by(100_000) {
            set_up.extend(["t", "twin"].map(|name| insert(name, from, rows.min(from + 100_000))));
        }
        for sql in &set_up {
            cpu_s(&embedded, &mut session, sql).await?;
        }
        let range = |statement: i64| (statement * args.statement_rows, (statement + 1) * args.statement_rows);
        let kinds: [&dyn Fn(&str, i64) -> String; 3] = [
            &|name, n| insert(name, rows + range(n).0, rows + range(n).1),
            &|name, n| {
                let (from, until) = range(n);
                format!("UPDATE {name} SET v = (v + 500) % 1009 WHERE id >= {from} AND id < {until}")
            },
            &|name, n| format!("DELETE FROM {name} WHERE id >= {} AND id < {}", range(n).0, range(n).1),
        ];
        let mut costs = [0.0; 3];
        for (cost, statement) in costs.iter_mut().zip(kinds) {
            let mut times = Vec::new();
            for n in 0..args.statements {
                let without = cpu_s(&embedded, &mut session, &statement("twin", n)).await?;
                let with = cpu_s(&embedded, &mut session, &statement("t", n)).await?;
                times.push((with - without) * 1e9 / args.statement_rows as f64);
            }
            times.sort_by(f64::total_cmp);
            *cost = times[times.len() / 2];
        }
        drop(session);
        embedded.engine.shutdown().await?;
        Ok(costs)
    })
}

/// What a statement takes until the view has closed its epoch.
async fn cpu_s(embedded: &Embedded, session: &mut Session, sql: &str) -> Result<f64, Error> {
    let began = usage::process_cpu_s();
    embedded::run(session, sql).await?;
    embedded.engine.wait_closed(embedded.engine.status().epoch).await;
    Ok(usage::process_cpu_s() - began)
}
