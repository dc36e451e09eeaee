//! Nexmark's 23 queries against results that another database computed from the same events (`nexmark/golden/`;
//! docs/testing.md says how they are made).
//!
//! ```text
//!   generator ── 20,000 events ─┬─ 20 epochs, a crash in the middle ── views q0 … q22 ── rows ─┐
//!                               └─ files ── golden.py, duckdb/qN.sql ── golden/qN.txt ── count and hash: equal
//! ```
//!
//! One event a second, from 18:30 until past midnight: so there is more than one day, every kind of time of day, two
//! thousand windows, and bids exactly on the bounds of windows.

use std::fs;
use std::path::{Path, PathBuf};

use millrace_engine::connectors::nexmark::{Nexmark, Settings, Table};
use millrace_engine::connectors::{Polled, Source};
use millrace_engine::sql::text::{Style, value_to_text};
use millrace_sql_tests::answer::{Answer, Letter};
use millrace_sql_tests::millrace::{Database, run};

const EVENTS: u64 = 20_000;
const EPOCH_EVENTS: u64 = 1_000;
/// 2015-07-15 18:30:00.
const START_TIME_US: i64 = 1_436_985_000_000_000;
/// Epochs arrive so far from each other, the first one at 2015-07-16 12:00:00: what q12 counts by.
const EPOCH_SECONDS: u64 = 4;

/// q5, q7, q8 and q11 have windows that end: their final views hold what the watermarks have passed.
const FINAL: [usize; 4] = [5, 7, 8, 11];

const DEFINITIONS: [&str; 5] = [
    "CREATE STREAM person (id bigint, name text, email_address text, credit_card text, city text, state text, \
     date_time timestamp, extra text, WATERMARK FOR date_time AS date_time - INTERVAL '4 seconds')",
    "CREATE STREAM auction (id bigint, item_name text, description text, initial_bid bigint, reserve bigint, \
     date_time timestamp, expires timestamp, seller bigint, category bigint, extra text, \
     WATERMARK FOR date_time AS date_time - INTERVAL '4 seconds')",
    "CREATE STREAM bid (auction bigint, bidder bigint, price bigint, channel text, url text, date_time timestamp, \
     extra text, p_time timestamp DEFAULT PROCTIME(), WATERMARK FOR date_time AS date_time - INTERVAL '4 seconds')",
    "CREATE TABLE side (key bigint PRIMARY KEY, value text)",
    "INSERT INTO side SELECT n, 'value ' || n FROM generate_series(0, 9999) AS g(n)",
];

#[test]
fn one_worker_then_three() {
    views_are_the_golden_results(1, 3);
}

#[test]
fn three_workers_then_one() {
    views_are_the_golden_results(3, 1);
}

/// Writes the events for `golden.py`.
#[test]
#[ignore = "for golden.py; the directory is MILLRACE_NEXMARK_EVENTS"]
fn write_events() {
    let directory = PathBuf::from(std::env::var("MILLRACE_NEXMARK_EVENTS").expect("MILLRACE_NEXMARK_EVENTS is set"));
    fs::create_dir_all(&directory).expect("the directory can be made");
    for table in Table::ALL {
        let text: String = lines_of(table).iter().map(|line| format!("{line}\n")).collect();
        fs::write(directory.join(format!("{}.txt", table.name())), text).expect("the directory can be written");
    }
}

/// `after` workers go on after the crash.
fn views_are_the_golden_results(before: usize, after: usize) {
    let events = Table::ALL.map(|table| (table, lines_of(table)));
    for (table, lines) in &events {
        let golden = golden(table.name());
        assert_eq!(summary("all", lines), golden[0], "the generator's events are no longer those of golden.py");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.expect("threads can be started").block_on(async {
        let mut database = Database::create(before).expect("an empty directory opens");
        ok(&database, "SET CLOCK '2015-07-16 12:00:00'").await;
        for definition in DEFINITIONS {
            ok(&database, definition).await;
        }
        for number in 0..=22 {
            let query = query(number);
            ok(&database, &format!("CREATE MATERIALIZED VIEW q{number} AS {query}")).await;
            if FINAL.contains(&number) {
                ok(&database, &format!("CREATE MATERIALIZED VIEW q{number}_final AS {query} EMIT ON WINDOW CLOSE"))
                    .await;
            }
        }
        let epochs = EVENTS / EPOCH_EVENTS;
        for epoch in 0..epochs {
            feed(&database, &events, epoch).await;
            if epoch == epochs / 2 {
                database.crash_and_reopen(after).await.expect("a killed engine opens again");
            }
        }
        database.verify().await.unwrap();
        let mut faults = Vec::new();
        for number in 0..=22 {
            let golden = golden(&format!("q{number}"));
            faults.extend(difference(&database, &format!("q{number}"), "all", &golden[0]).await);
            if FINAL.contains(&number) {
                faults.extend(difference(&database, &format!("q{number}_final"), "final", &golden[1]).await);
            }
        }
        assert!(faults.is_empty(), "\n{}", faults.join("\n"));
    });
}

/// All rows of a table, in COPY's text form, which is also that of the files for `golden.py`.
fn lines_of(table: Table) -> Vec<String> {
    let settings =
        Settings { rate_milli: Some(1_000), count: Some(EVENTS), start_time_us: START_TIME_US, ..Settings::default() };
    let mut source = Nexmark::new(table, settings, table.schema(), 0, 0).expect("the table's own columns");
    let (mut lines, style) = (Vec::new(), Style::default());
    while let Polled::Rows(batch) = source.poll(i64::MAX / 4, 4096).expect("the generator has no way to fail") {
        let schema = batch.schema();
        for row in 0..batch.num_rows() {
            let cells = schema.fields().iter().zip(batch.columns());
            let cells = cells.map(|(field, array)| value_to_text(field, array, row, &style).expect("no NULLs"));
            lines.push(cells.collect::<Vec<_>>().join("\t"));
        }
    }
    assert!(lines.iter().all(|line| !line.contains('\\')), "nothing that COPY would read otherwise");
    lines
}

/// One epoch's events, all three tables in one transaction.
async fn feed(database: &Database, events: &[(Table, Vec<String>); 3], epoch: u64) {
    let mut session = database.session();
    let seconds = epoch * EPOCH_SECONDS;
    let mut steps = vec![format!("SET CLOCK '2015-07-16 12:{:02}:{:02}'", seconds / 60, seconds % 60), "BEGIN".into()];
    for (table, lines) in events {
        let rows = [epoch, epoch + 1].map(|epoch| table.rows_before(epoch * EPOCH_EVENTS) as usize);
        let schema = table.schema();
        let columns: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
        let data = lines[rows[0]..rows[1]].join("\n");
        steps.push(format!("COPY {} ({}) FROM STDIN\n{data}", table.name(), columns.join(", ")));
    }
    steps.push("COMMIT".into());
    for step in steps {
        run(&mut session, &step).await.unwrap_or_else(|e| panic!("epoch {epoch}, {:.60}: {e}", step));
    }
}

async fn ok(database: &Database, text: &str) -> Answer {
    run(&mut database.session(), text).await.unwrap_or_else(|e| panic!("{text}: {e}"))
}

/// What is wrong with a view, if its rows are not those of `golden`.
async fn difference(database: &Database, view: &str, which: &str, golden: &str) -> Option<String> {
    let answer = ok(database, &format!("SELECT * FROM {view}")).await;
    let letters = answer.columns.expect("a SELECT has columns");
    let canonical = |cells: Vec<String>| {
        let cells = cells.into_iter().zip(&letters).map(|(cell, letter)| match cell.parse::<f64>() {
            // An average has more places here than there.
            Ok(number) if *letter == Letter::Real && cell.contains('.') => format!("{number:.4}"),
            _ => cell,
        });
        cells.collect::<Vec<_>>().join("\t")
    };
    let mut lines: Vec<String> = answer.rows.into_iter().map(canonical).collect();
    lines.sort_unstable();
    let summary = summary(which, &lines);
    if summary == golden {
        return None;
    }
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{view}-{}.rows", database.workers()));
    fs::write(&path, lines.join("\n") + "\n").expect("the target directory can be written");
    Some(format!("{view} has    {summary}\nit should {golden}\nits rows are in {}", path.display()))
}

/// The count of lines, and FNV-1a's 64 bits over them, each with its end: as in `golden.py`.
fn summary(which: &str, lines: &[String]) -> String {
    let bytes = lines.iter().flat_map(|line| line.bytes().chain([b'\n']));
    let hash = bytes
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
    format!("{which}: {} rows, hash {hash:016x}", lines.len())
}

fn golden(name: &str) -> Vec<String> {
    read(&format!("nexmark/golden/{name}.txt")).lines().map(str::to_string).collect()
}

/// The text that the benchmark runs, and here those which need more than the three streams.
fn query(number: usize) -> String {
    let folder = if [12, 13].contains(&number) { "nexmark" } else { "../benches/queries" };
    read(&format!("{folder}/q{number}.sql"))
}

fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}
