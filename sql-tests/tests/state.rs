//! State that can be trusted: directories of before, backups, trimmed streams, damage, and a write path that fails at
//! every point. What SQL alone can show is in `slt/time/`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use futures::StreamExt;
use millrace_engine::session::{Outcome, RowStream, Session};
use millrace_engine::{Config, Engine, SubscriptionLimits, tools};
use millrace_sql_tests::answer::{Answer, SqlError};
use millrace_sql_tests::millrace::{Database, run};
use tempfile::TempDir;

mod faults;

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.expect("threads can be started").block_on(future)
}

/// One statement in a session of its own.
async fn sql(database: &Database, text: &str) -> Result<Answer, SqlError> {
    run(&mut database.session(), text).await
}

async fn ok(database: &Database, text: &str) -> Vec<Vec<String>> {
    sql(database, text).await.unwrap_or_else(|e| panic!("{text}: {e}")).rows
}

async fn one(database: &Database, text: &str) -> String {
    ok(database, text).await.concat().join("|")
}

async fn restored(from: &Path, to: &Path) -> tools::Report {
    tools::restore(from.to_str().unwrap(), None, to).await.unwrap()
}

fn unpacked(fixture: &str) -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    let archive = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(fixture);
    let status = Command::new("tar").arg("-xzf").arg(archive).arg("-C").arg(directory.path()).status().unwrap();
    assert!(status.success());
    directory
}

/// A directory that was made by the first commits which had format 1, ended by kill -9: a checkpoint by two workers,
/// and a log after it with rows, updates, a dropped, a made and a renamed relation.
#[test]
fn a_directory_of_before_opens() {
    let directory = unpacked("format-1.tar.gz");
    let report = tools::check(directory.path()).unwrap();
    assert_eq!((report.problems, report.last_epoch, report.checkpoint), (vec![], 18, 12));
    block_on(async {
        for workers in [2, 1, 3] {
            let copy = tempfile::tempdir().unwrap();
            assert_eq!(restored(directory.path(), &copy.path().join("d")).await.problems, [""; 0]);
            let mut database = Database::open(copy, "d", workers, None).unwrap();
            for round in 0..2 {
                let per_country = one(
                    &database,
                    "SELECT string_agg(country || n || ' ' || total, ',' ORDER BY country) FROM per_country",
                )
                .await;
                assert_eq!(per_country, "FI75 14062.50,NO151 29406.25,SE75 13968.75");
                assert_eq!(one(&database, "SELECT count(*), sum(h) FROM other.halves").await, "301|332");
                assert_eq!(one(&database, "SELECT n, (SELECT count(*) FROM remarks) FROM late").await, "261|1");
                assert_eq!(one(&database, "SELECT message FROM mr_errors").await, "division by zero");
                assert_eq!(
                    one(&database, "SELECT count(*), sum(amount), max(_offset) FROM LOG(orders)").await,
                    "302|57437.50|301"
                );
                assert_eq!(one(&database, "SELECT count(*) FROM orders AS OF 13").await, "302");
                database.verify().await.unwrap();
                if round == 0 {
                    ok(&database, "INSERT INTO customers VALUES ('eve', 'IS')").await;
                    database.crash_and_reopen(workers).await.unwrap();
                }
            }
            ok(&database, "INSERT INTO orders VALUES (303, 'eve', 1, now(), NULL)").await;
            assert_eq!(one(&database, "SELECT n FROM per_country WHERE country = 'IS'").await, "1");
        }
    });
}

#[test]
fn a_backup_of_a_running_database_is_one_moment_of_it() {
    block_on(async {
        let database = Database::create(2).unwrap();
        ok(&database, "CREATE TABLE t (id int PRIMARY KEY, v int)").await;
        ok(&database, "CREATE STREAM s (id int)").await;
        ok(
            &database,
            "CREATE MATERIALIZED VIEW both_ AS SELECT count(*) AS n, sum(v) AS s FROM s JOIN t ON s.id = t.id",
        )
        .await;
        let target = tempfile::tempdir().unwrap();
        let (mut written, mut backups) = (0, Vec::new());
        while written < 60 {
            // Both in one transaction: a moment has both or neither.
            ok(
                &database,
                &format!("BEGIN; INSERT INTO t VALUES ({written}, 1); INSERT INTO s VALUES ({written}); COMMIT"),
            )
            .await;
            written += 1;
            if written % 20 == 0 {
                let path = target.path().join(format!("backup {written}"));
                let mut session = database.session();
                let backup = format!("BACKUP TO '{}'", path.display());
                let during = async {
                    for id in written..written + 3 {
                        ok(
                            &database,
                            &format!("BEGIN; INSERT INTO t VALUES ({id}, 1); INSERT INTO s VALUES ({id}); COMMIT"),
                        )
                        .await;
                    }
                };
                let (done, ()) = tokio::join!(run(&mut session, &backup), during);
                done.unwrap();
                backups.push((path.clone(), written));
                written += 3;
                assert_eq!(run(&mut session, &backup).await.unwrap_err().code, "58P02");
            }
        }
        let relative = sql(&database, "BACKUP TO 'here'").await.unwrap_err();
        assert_eq!(relative.code, "22023");
        for (path, at_least) in backups {
            assert_eq!(tools::check(&path).unwrap().problems, [""; 0]);
            let name = path.file_name().unwrap().to_str().unwrap().to_string();
            let place = tempfile::tempdir().unwrap();
            restored(&path, &place.path().join(&name)).await;
            let restored = Database::open(place, &name, 3, None).unwrap();
            restored.verify().await.unwrap();
            let counts =
                ok(&restored, "SELECT count(*), (SELECT count(*) FROM t), (SELECT n FROM both_) FROM s").await.concat();
            assert!(counts.iter().all(|n| *n == counts[0]), "{counts:?}");
            let n: i32 = counts[0].parse().unwrap();
            assert!((at_least..=at_least + 3).contains(&n), "{n} rows, {at_least} acknowledged before");
        }
        assert_eq!(one(&database, "SELECT count(*) FROM t").await, written.to_string());
    });
}

/// What it has taken in of a stream is gone: a view above an altered table could only be made anew with less.
#[test]
fn a_view_of_rows_that_are_gone_keeps_its_table_as_it_is() {
    block_on(async {
        let database = Database::create(2).unwrap();
        ok(&database, "SET CLOCK '2030-01-01 00:00:00'").await;
        ok(&database, "CREATE TABLE t (name text)").await;
        ok(&database, "CREATE STREAM s (name text) WITH (retention = '1 hour')").await;
        let view = "CREATE MATERIALIZED VIEW v AS SELECT t.name, count(*) AS n FROM t JOIN s ON s.name = t.name GROUP BY t.name";
        ok(&database, view).await;
        ok(&database, "INSERT INTO t VALUES ('a')").await;
        ok(&database, "INSERT INTO s VALUES ('a')").await;
        ok(&database, "ALTER TABLE t ADD COLUMN x int").await;
        assert_eq!(one(&database, "SELECT * FROM v").await, "a|1");
        ok(&database, "SET CLOCK '2030-01-02 00:00:00'").await;
        ok(&database, "INSERT INTO s VALUES ('a')").await;
        ok(&database, "CHECKPOINT").await;
        assert_eq!(one(&database, "SELECT count(*) FROM LOG(s)").await, "1");
        let refused = sql(&database, "ALTER TABLE t ADD COLUMN y int").await.unwrap_err();
        assert_eq!(refused.code, "2BP01", "{refused}");
        assert_eq!(one(&database, "SELECT * FROM v").await, "a|2");
        assert_eq!(one(&database, "SELECT count(*) FROM pg_class WHERE relname = 't'").await, "1");
    });
}

#[test]
fn a_check_knows_the_late_rows_that_streams_keep() {
    block_on(async {
        let place = tempfile::tempdir().unwrap();
        let database = Database::open(place, "late", 2, None).unwrap();
        for name in ["s", "gone"] {
            ok(&database, &format!("CREATE STREAM {name} (ts timestamptz, WATERMARK FOR ts AS ts)")).await;
            ok(&database, &format!("INSERT INTO {name} VALUES ('2024-01-01 00:01Z'), ('2024-01-01 00:00Z')")).await;
        }
        assert_eq!(one(&database, "SELECT count(*) FROM mr_late_rows").await, "2");
        ok(&database, "DROP STREAM gone").await;
        let path = database.path().to_path_buf();
        let problems = database.close_and(|| tools::check(&path).unwrap().problems).await;
        assert_eq!(problems, [""; 0]);
    });
}

#[test]
fn trimming_is_no_retraction() {
    block_on(async {
        let mut database = Database::create(2).unwrap();
        ok(&database, "CREATE STREAM s (id int) WITH (retention = '0 seconds')").await;
        ok(&database, "CREATE STREAM kept (id int) WITH (retention = '10 GB')").await;
        ok(&database, "CREATE MATERIALIZED VIEW v AS SELECT count(*) AS n, sum(id) AS total FROM s").await;
        ok(&database, "INSERT INTO kept VALUES (1)").await;
        ok(&database, "INSERT INTO s SELECT * FROM generate_series(1, 100)").await;
        let before: u64 = one(&database, "SELECT max(_epoch) FROM LOG(s)").await.parse().unwrap_or(0);
        ok(&database, "CHECKPOINT").await;
        assert_eq!(one(&database, "SELECT count(*) FROM s").await, "0");
        assert_eq!(one(&database, "SELECT n, total FROM v").await, "100|5050");
        for workers in [2, 3] {
            // An offset is never given twice.
            ok(&database, "INSERT INTO s VALUES (7)").await;
            let log = ok(&database, "SELECT _offset FROM LOG(s)").await;
            assert!(log.concat().iter().all(|offset| offset.parse::<u64>().unwrap() >= 100), "{log:?}");
            database.crash_and_reopen(workers).await.unwrap();
            ok(&database, "CHECKPOINT").await;
        }
        assert_eq!(one(&database, "SELECT count(*) FROM s").await, "0");
        assert_eq!(one(&database, "SELECT n, total FROM v").await, "102|5064");
        assert_eq!(sql(&database, "VERIFY MATERIALIZED VIEW v").await.unwrap_err().code, "55000");
        let error = sql(&database, &format!("SELECT * FROM s AS OF {}", before.max(5))).await.unwrap_err();
        assert_eq!(error.code, "55000");
        assert!(error.message.contains("the oldest epoch kept of it is"), "{error}");
        // One that is made now begins with what there is.
        ok(&database, "CREATE MATERIALIZED VIEW w AS SELECT count(*) AS n FROM s").await;
        ok(&database, "INSERT INTO s VALUES (8), (9)").await;
        assert_eq!(one(&database, "SELECT n FROM w").await, "2");
        assert_eq!(one(&database, "SELECT count(*) FROM kept").await, "1");
        database.stop_and_reopen(1).await.unwrap();
        assert_eq!(one(&database, "SELECT n FROM w").await, "2");
    });
}

#[test]
fn compaction_keeps_the_last_row_of_each_key() {
    block_on(async {
        let mut database = Database::create(2).unwrap();
        ok(&database, "CREATE STREAM s (k text, v int, w int) WITH (compaction_key = 'k')").await;
        ok(&database, "CREATE STREAM lagging (k int) WITH (compaction_key = 'k', compaction_lag = '1 hour')").await;
        ok(&database, "CREATE MATERIALIZED VIEW v AS SELECT count(*) AS n, sum(v) AS total FROM s").await;
        let rows = |from: i32, to: i32| {
            format!("INSERT INTO s SELECT 'key ' || i % 10, i, i FROM generate_series({from}, {to}) g(i)")
        };
        ok(&database, &rows(0, 299)).await;
        ok(&database, "INSERT INTO s VALUES (NULL, 1, 1), (NULL, 2, 2)").await;
        ok(&database, "INSERT INTO lagging SELECT 1 FROM generate_series(1, 2000)").await;
        ok(&database, "CHECKPOINT").await;
        // Too few to be worth it.
        assert_eq!(one(&database, "SELECT count(*) FROM s").await, "302");
        ok(&database, &rows(300, 1499)).await;
        let before = one(&database, "SELECT max(_epoch) - 1 FROM LOG(s)").await;
        ok(&database, "INSERT INTO s VALUES ('new', 7, 7)").await;
        ok(&database, "CHECKPOINT").await;
        let log = "SELECT string_agg(coalesce(k, '-') || ' ' || v || ' ' || _offset, ',' ORDER BY _offset) FROM LOG(s)";
        let kept: Vec<String> = (1490..1500).map(|i| format!("key {} {i} {}", i % 10, i + 2)).collect();
        let left = format!("- 1 300,- 2 301,{},new 7 1502", kept.join(","));
        for workers in [3, 1] {
            assert_eq!(one(&database, log).await, left);
            assert_eq!(one(&database, "SELECT count(*) FROM lagging").await, "2000");
            assert_eq!(one(&database, "SELECT n, total FROM v").await, "1503|1124260");
            let error = sql(&database, "VERIFY MATERIALIZED VIEW v").await.unwrap_err();
            assert_eq!((error.code.as_str(), error.message.contains("superseded")), ("55000", true), "{error}");
            assert_eq!(sql(&database, &format!("SELECT * FROM s AS OF {before}")).await.unwrap_err().code, "55000");
            database.crash_and_reopen(workers).await.unwrap();
        }
        // One that is made now begins with what there is, and can be compared until rows go again.
        ok(&database, "CREATE MATERIALIZED VIEW w AS SELECT k, count(*) AS n FROM s GROUP BY k").await;
        ok(&database, "CREATE MATERIALIZED VIEW late WITH (start = 1400) AS SELECT count(*) AS n FROM s").await;
        ok(&database, "INSERT INTO s VALUES ('key 3', 1, 1)").await;
        ok(&database, "CHECKPOINT").await;
        ok(&database, "VERIFY MATERIALIZED VIEW w").await;
        ok(&database, "VERIFY MATERIALIZED VIEW late").await;
        assert_eq!(one(&database, "SELECT n FROM late").await, "12");
        assert_eq!(one(&database, "SELECT n FROM w WHERE k = 'key 3'").await, "2");
        ok(&database, &rows(0, 999)).await;
        ok(&database, "CHECKPOINT").await;
        assert_eq!(one(&database, "SELECT count(*) FROM s").await, "13");
        assert_eq!(one(&database, "SELECT sum(n) FROM w").await, "1014");
        assert_eq!(sql(&database, "VERIFY MATERIALIZED VIEW w").await.unwrap_err().code, "55000");
        database.crash_and_reopen(2).await.unwrap();
        assert_eq!(one(&database, "SELECT sum(n) FROM w").await, "1014");
        let path = database.path().to_path_buf();
        let problems = database.close_and(|| tools::check(&path).unwrap().problems).await;
        assert_eq!(problems, [""; 0]);
    });
}

/// A worker that is further than the others sends them rows of epochs that they have yet to begin: more of them than may wait.
#[test]
fn workers_that_are_further_do_not_stop_the_others() {
    block_on(async {
        let database = Database::create(2).unwrap();
        ok(&database, "CREATE TABLE t (id int PRIMARY KEY, v int)").await;
        let view = "CREATE MATERIALIZED VIEW middle AS \
            SELECT percentile_disc(0.5) WITHIN GROUP (ORDER BY v) AS middle, count(*) AS n FROM t";
        ok(&database, view).await;
        for from in (0..1_200_000).step_by(100_000) {
            let to = from + 99_999;
            ok(&database, &format!("INSERT INTO t SELECT i, i FROM generate_series({from}, {to}) g(i)")).await;
        }
        let look = one(&database, "SELECT middle, n FROM middle");
        let middle = tokio::time::timeout(Duration::from_secs(120), look).await.expect("the view follows");
        assert_eq!(middle, "599999|1200000");
    });
}

fn table_files(directory: &Path) -> Vec<PathBuf> {
    let files = fs::read_dir(directory.join("db")).unwrap().map(|entry| entry.unwrap().path());
    files.filter(|path| path.extension().is_some_and(|e| e == "sst")).collect()
}

#[test]
fn damage_is_found_and_named() {
    let directory = unpacked("format-1.tar.gz");
    let mut found = 0;
    for file in table_files(directory.path()) {
        let whole = fs::read(&file).unwrap();
        for at in (0..whole.len()).step_by(whole.len() / 12) {
            let mut bytes = whole.clone();
            bytes[at] ^= 0x20;
            fs::write(&file, &bytes).unwrap();
            match tools::check(directory.path()) {
                Err(error) => assert_eq!(error.code, "XX001", "{error}"),
                Ok(report) if report.problems.is_empty() => continue,
                Ok(report) => assert!(report.problems[0].contains("damaged"), "{:?}", report.problems),
            }
            found += 1;
        }
        fs::write(&file, &whole).unwrap();
    }
    assert!(found > 20, "only {found} of 36 flipped bytes were noticed");
    assert_eq!(tools::check(directory.path()).unwrap().problems, [""; 0]);
    let mut text = Vec::new();
    tools::dump(directory.path(), Some("orders"), &mut text).unwrap();
    let text = String::from_utf8(text).unwrap();
    assert!(text.contains("    +1 | 302 | NULL | NULL | NULL | [x]\n") && !text.contains("| cid |"), "{text}");
}

#[test]
fn a_directory_in_use_is_not_looked_at() {
    block_on(async {
        let database = Database::create(1).unwrap();
        assert_eq!(tools::check(database.path()).unwrap_err().code, "55006");
    });
}

/// Waits until a view is suspended; why it is.
async fn suspension(database: &Database, view: &str) -> String {
    for _ in 0..200 {
        let reason = one(database, &format!("SELECT coalesce(reason, '') FROM mr_views WHERE name = '{view}'")).await;
        if !reason.is_empty() && reason != "(empty)" {
            return reason;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    panic!("{view} is not suspended");
}

#[test]
fn a_view_past_its_memory_limit_is_suspended_and_resumed() {
    block_on(async {
        for workers in [1, 3] {
            let mut database = Database::create(workers).unwrap();
            ok(&database, "CREATE TABLE t (id int PRIMARY KEY, text text)").await;
            ok(&database, "CREATE MATERIALIZED VIEW small AS SELECT count(*) AS n FROM t").await;
            ok(&database, "CREATE MATERIALIZED VIEW large WITH (memory_limit = '1 MB') AS SELECT * FROM t").await;
            ok(&database, "CREATE MATERIALIZED VIEW above AS SELECT max(id) AS most FROM large").await;
            ok(&database, "INSERT INTO t SELECT i, repeat('x', 1000) FROM generate_series(1, 5000) g(i)").await;
            assert!(suspension(&database, "large").await.contains("more than its memory_limit of 1048576"));
            suspension(&database, "above").await;
            for read in ["SELECT * FROM large", "SELECT * FROM above"] {
                assert_eq!(sql(&database, read).await.unwrap_err().code, "55000");
            }
            // Everything else goes on, also for longer than anything may wait for it.
            for id in 5001..5201 {
                ok(&database, &format!("INSERT INTO t VALUES ({id}, '')")).await;
            }
            assert_eq!(one(&database, "SELECT n FROM small").await, "5200");
            ok(&database, "CHECKPOINT").await;
            let order = sql(&database, "ALTER MATERIALIZED VIEW above RESUME").await.unwrap_err();
            assert!(order.code == "55000" && order.message.contains("\"large\""), "{order}");
            ok(&database, "DELETE FROM t WHERE id > 100").await;
            ok(&database, "ALTER MATERIALIZED VIEW large RESUME").await;
            ok(&database, "ALTER MATERIALIZED VIEW above RESUME").await;
            assert_eq!(one(&database, "SELECT most, (SELECT count(*) FROM large) FROM above").await, "100|100");
            ok(&database, "INSERT INTO t VALUES (101, 'x')").await;
            database.verify().await.unwrap();
            database.crash_and_reopen(2).await.unwrap();
            assert_eq!(one(&database, "SELECT most FROM above").await, "101");
            database.verify().await.unwrap();
        }
    });
}

/// What a start leaves behind in which a view's code panicked: see `Store::suspect`.
#[test]
fn a_view_that_brought_the_process_down_starts_suspended() {
    block_on(async {
        let mut database = Database::create(2).unwrap();
        ok(&database, "CREATE STREAM s (id int)").await;
        ok(&database, "CREATE MATERIALIZED VIEW bad AS SELECT max(id) AS most FROM s").await;
        ok(&database, "CREATE MATERIALIZED VIEW good AS SELECT count(*) AS n FROM s").await;
        ok(&database, "INSERT INTO s VALUES (1), (2)").await;
        let id = database.relation_id("bad");
        let note = |directory: &Path| fs::write(directory.join("suspect"), format!("{id}\n")).unwrap();
        database.crash_harm_and_reopen(2, note).await.unwrap();
        assert!(suspension(&database, "bad").await.contains("brought the process down"));
        assert_eq!(one(&database, "SELECT n FROM good").await, "2");
        // Until it is told otherwise.
        database.stop_and_reopen(1).await.unwrap();
        suspension(&database, "bad").await;
        ok(&database, "INSERT INTO s VALUES (3)").await;
        ok(&database, "ALTER MATERIALIZED VIEW bad RESUME").await;
        assert_eq!(one(&database, "SELECT most FROM bad").await, "3");
        database.crash_and_reopen(3).await.unwrap();
        assert_eq!(one(&database, "SELECT most FROM bad").await, "3");
        database.verify().await.unwrap();
    });
}

/// Views over endless streams: what their operators remember stays as it is, and the answers are right.
#[test]
fn state_ends_with_the_watermark() {
    const VIEWS: &[&str] = &[
        "SELECT window_end, k, count(*) AS n, max(v) AS most, count(DISTINCT v) AS different \
         FROM TUMBLE(l, ts, INTERVAL '10 seconds') GROUP BY window_end, k",
        "SELECT window_end, sum(v) AS total FROM HOP(l, ts, INTERVAL '5 seconds', INTERVAL '10 seconds') \
         GROUP BY window_end EMIT ON WINDOW CLOSE",
        "SELECT l.k, l.v, r.v AS w FROM l LEFT JOIN r \
         ON l.k = r.k AND r.ts BETWEEN l.ts - INTERVAL '100 milliseconds' AND l.ts + INTERVAL '200 milliseconds'",
        "SELECT a.window_end, a.k, a.v, b.v AS w FROM TUMBLE(l, ts, INTERVAL '1 second') a \
         FULL JOIN TUMBLE(r, ts, INTERVAL '1 second') b ON a.window_end = b.window_end AND a.k = b.k AND a.v = b.v",
        "SELECT l.k, l.v, r.v AS w FROM l ASOF JOIN r ON l.k = r.k AND l.ts >= r.ts",
        "SELECT k, window_end, count(*) AS n FROM SESSION(l PARTITION BY s, ts, INTERVAL '2 seconds') \
         GROUP BY k, s, window_end",
        "SELECT window_end, k, v FROM (SELECT *, rank() OVER (PARTITION BY window_end ORDER BY v DESC) AS n \
         FROM TUMBLE(l, ts, INTERVAL '10 seconds')) t WHERE n <= 3",
        "SELECT window_end, string_agg(v::text, ',') AS all_of_them \
         FROM TUMBLE(l, ts, INTERVAL '1 second') GROUP BY window_end",
        "SELECT DISTINCT ts, k FROM l",
        "SELECT k, ts, v - lag(v, 2) OVER (PARTITION BY k ORDER BY ts) AS change, \
         avg(v) OVER (PARTITION BY k ORDER BY ts ROWS 9 PRECEDING) AS mean FROM l",
        "SELECT k, ts, sum(v) OVER (PARTITION BY k ORDER BY ts RANGE INTERVAL '2 seconds' PRECEDING) AS total FROM l",
    ];
    block_on(async {
        let mut database = Database::open(tempfile::tempdir().unwrap(), "d", 2, None).unwrap();
        for stream in ["l", "r"] {
            let columns = "k int, v bigint, s bigint, ts timestamp, WATERMARK FOR ts AS ts - INTERVAL '3 seconds'";
            ok(&database, &format!("CREATE STREAM {stream} ({columns}) WITH (max_future = '1000000 hours')")).await;
        }
        for (i, view) in VIEWS.iter().enumerate() {
            ok(&database, &format!("CREATE MATERIALIZED VIEW v{i} AS {view}")).await;
        }
        let mut highest: Vec<Vec<u64>> = vec![];
        for round in 0..16 {
            let (from, to) = (round * 2000, round * 2000 + 1999);
            for stream in ["l", "r"] {
                // Out of order by up to two seconds, 200 rows a second.
                let text = format!(
                    "INSERT INTO {stream} SELECT n % 10, n, n / 100, \
                     TIMESTAMP '2024-01-01 00:00:00' + (n * 5 - n % 3 * 600) * INTERVAL '1 millisecond' \
                     FROM generate_series({from}, {to}) AS g(n)"
                );
                ok(&database, &text).await;
            }
            if round == 7 {
                database.crash_and_reopen(3).await.unwrap();
            }
            // Memory is measured now and then.
            ok(&database, "CHECKPOINT").await;
            let rows = ok(&database, "SELECT state_rows FROM mr_views ORDER BY name").await.concat();
            highest.push(rows.iter().map(|n| n.parse().unwrap()).collect());
        }
        database.verify().await.unwrap();
        assert_eq!(one(&database, "SELECT count(*) FROM mr_late_rows").await, "0");
        for (i, view) in VIEWS.iter().enumerate() {
            let of = |rounds: std::ops::Range<usize>| highest[rounds].iter().map(|rows| rows[i]).max().unwrap();
            let (early, late) = (of(2..7), of(11..16));
            // Each worker looks through its state when there is more than about a thousand rows.
            assert!(late <= early + early / 2 + 3 * 1024, "{view}: {early} rows, later {late}");
            assert!(late < 16_000, "{view}: {late} rows of 32000");
        }
    });
}

/// What EXPLAIN ANALYZE and mr_operators count is what went through.
#[test]
fn operators_say_what_they_have_done() {
    block_on(async {
        for workers in [1, 2] {
            let database = Database::create(workers).unwrap();
            for text in [
                "CREATE TABLE t (id int PRIMARY KEY, k int)",
                "CREATE MATERIALIZED VIEW v AS SELECT k, count(*) AS n FROM t WHERE k <> 3 GROUP BY k",
                "INSERT INTO t SELECT g, g % 10 FROM generate_series(1, 1000) AS s(g)",
                // Otherwise busy workers may take both in as one.
                "SELECT count(*) FROM v",
                "DELETE FROM t WHERE id <= 100",
                "SELECT count(*) FROM v",
            ] {
                ok(&database, text).await;
            }
            let rows = |operator: &str| {
                format!(
                    "SELECT sum(rows_in), sum(rows_out) FROM mr_operators WHERE view = 'v' AND operator LIKE '{operator}%'"
                )
            };
            assert_eq!(one(&database, &rows("Import t")).await, "0|1100");
            assert_eq!(one(&database, &rows("Aggregate by k")).await, "990|27");
            let busy = "SELECT sum(busy_us) > 0, count(DISTINCT worker) FROM mr_operators WHERE view = 'v'";
            assert_eq!(one(&database, busy).await, format!("t|{workers}"));
            let plan = ok(&database, "EXPLAIN MATERIALIZED VIEW v").await.concat();
            let analyzed = ok(&database, "EXPLAIN ANALYZE MATERIALIZED VIEW v").await.concat();
            assert!(plan.iter().all(|line| analyzed.iter().any(|l| l.trim() == line.trim())), "{plan:?} {analyzed:?}");
            let per_worker = |line: &&String| line.trim_start().starts_with("worker 0: ");
            assert!(analyzed.iter().filter(per_worker).count() >= 2, "{analyzed:?}");
            let other = sql(&database, "EXPLAIN ANALYZE MATERIALIZED VIEW t").await.unwrap_err();
            assert_eq!(other.code, "42809");
        }
    });
}

/// A reader that takes nothing while rows are replaced over and over is ended; one that takes what there is goes on, and
/// so does one that only reads what never changes.
#[test]
fn a_subscription_that_takes_nothing_is_ended() {
    block_on(async {
        let place = tempfile::tempdir().unwrap();
        let limits = SubscriptionLimits { patience: Duration::from_millis(300), dead_rows: 500 };
        let config = Config { workers: 2, subscriptions: limits, ..Config::new(place.path()) };
        let engine = tokio::task::block_in_place(|| Engine::open(config)).unwrap();
        let session = || engine.session("tester", "millrace");
        let (mut writer, mut away, mut here, mut idle) = (session(), session(), session(), session());
        for text in [
            "CREATE TABLE t (id int PRIMARY KEY, v int)",
            "CREATE TABLE quiet (id int)",
            "CREATE MATERIALIZED VIEW doubled AS SELECT id, v * 2 AS v FROM t",
            "INSERT INTO t SELECT g, 0 FROM generate_series(1, 100) AS s(g)",
        ] {
            run(&mut writer, text).await.unwrap();
        }
        let subscribe = async |session: &mut Session, of: &str| {
            let statement = session.parse(&format!("SUBSCRIBE TO {of}")).unwrap().remove(0);
            match session.prepare_and_execute(statement).await.unwrap() {
                (_, Outcome::Rows { rows, .. }) => rows,
                _ => panic!("it gives rows"),
            }
        };
        let mut of_away = subscribe(&mut away, "doubled").await;
        let mut of_here = subscribe(&mut here, "doubled").await;
        let mut of_idle = subscribe(&mut idle, "quiet").await;
        let all_100 = async |of: &mut RowStream| {
            let mut rows = 0;
            // A batch of each worker.
            while rows < 100 {
                rows += of.next().await.unwrap().unwrap().num_rows();
            }
            assert_eq!(rows, 100);
        };
        all_100(&mut of_away).await;
        let reader = tokio::spawn(async move {
            let mut rows = 0;
            while let Some(batch) = of_here.next().await {
                rows += batch.unwrap().num_rows();
            }
            rows
        });
        let shown = "SELECT relation, max(kept_rows) FROM mr_subscriptions GROUP BY 1 ORDER BY 1";
        let mut kept_most: u64 = 0;
        let ended = async {
            loop {
                run(&mut writer, "UPDATE t SET v = v + 1").await.unwrap();
                let rows = run(&mut writer, shown).await.unwrap().rows;
                let kept = rows.iter().find(|row| row[0] == "doubled").expect("it has subscribers")[1].parse().unwrap();
                // What it keeps is shown, until it is ended and keeps nothing.
                if kept < kept_most && kept_most > 500 {
                    break;
                }
                kept_most = kept_most.max(kept);
            }
        };
        tokio::time::timeout(Duration::from_secs(60), ended).await.expect("it is ended");
        let error = of_away.next().await.unwrap().unwrap_err();
        assert_eq!(error.code, "53400", "{error}");
        assert!(of_away.next().await.is_none());
        assert!(!reader.is_finished(), "who takes what there is goes on");
        reader.abort();
        run(&mut writer, "INSERT INTO quiet VALUES (1)").await.unwrap();
        assert_eq!(of_idle.next().await.unwrap().unwrap().num_rows(), 1);
        // Whoever comes back has the rows as they are, first.
        all_100(&mut subscribe(&mut away, "doubled").await).await;
        drop((of_away, of_idle));
        drop((writer, away, here, idle));
        engine.shutdown().await.unwrap();
    });
}

/// What sessions and the commit path wait for can be seen while they do.
#[test]
fn waits_are_shown() {
    block_on(async {
        let database = Database::create(1).unwrap();
        let (mut first, mut second) = (database.session(), database.session());
        for text in [
            "CREATE TABLE t (id int PRIMARY KEY, v int)",
            "INSERT INTO t SELECT g, 0 FROM generate_series(1, 2000) AS s(g)",
        ] {
            run(&mut first, text).await.unwrap();
        }
        // Reads for a while with the table's lock held.
        let slow =
            "UPDATE t SET v = (SELECT count(*) FROM generate_series(1, 60000) AS a(i), t AS b WHERE i % 7 <> b.id % 5)";
        let fast = "UPDATE t SET v = 1 WHERE id = 1";
        let wanted = ["session", &second.pid().to_string(), "lock", "t"].map(String::from).to_vec();
        let mut shown = false;
        // On a busy machine the second one may come first, or too late.
        for attempt in 1..=20 {
            // In tasks of their own: a thread that computes looks after nothing else.
            let locks = tokio::spawn(async move {
                run(&mut first, slow).await.unwrap();
                first
            });
            tokio::time::sleep(Duration::from_millis(20 * attempt)).await;
            let waits = tokio::spawn(async move {
                run(&mut second, fast).await.unwrap();
                second
            });
            while !shown && !waits.is_finished() {
                let look = "SELECT waiter, pid, waits_for, relation FROM mr_waits WHERE waited_ms >= 10";
                shown = ok(&database, look).await.contains(&wanted);
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            (first, second) = (locks.await.unwrap(), waits.await.unwrap());
            if shown {
                break;
            }
        }
        assert!(shown, "the wait was shown");
        assert_eq!(one(&database, "SELECT count(*) FROM mr_waits WHERE waits_for = 'lock'").await, "0");
        assert_eq!(one(&database, "SELECT rows, kept_rows FROM mr_arrangements WHERE relation = 't'").await, "2000|0");
    });
}

/// Rows that a final view holds back are where they came to, whatever worker that is.
#[test]
fn rows_that_are_held_back_survive_with_any_number_of_workers() {
    block_on(async {
        for workers in [(2, 2), (3, 3), (3, 2), (1, 3)] {
            let mut database = Database::create(workers.0).unwrap();
            for text in [
                "CREATE STREAM s (ts timestamptz, v int, WATERMARK FOR ts AS ts - INTERVAL '1 minute')",
                "CREATE MATERIALIZED VIEW f AS SELECT ts, generate_series(v % 2, 2) AS n FROM s EMIT ON WINDOW CLOSE",
                "INSERT INTO s SELECT '2024-01-01 00:01'::timestamptz + x % 20 * interval '1 s', x FROM generate_series(1, 200) g(x)",
                "CHECKPOINT",
            ] {
                ok(&database, text).await;
            }
            for _ in 0..2 {
                database.crash_and_reopen(workers.1).await.unwrap();
                ok(&database, "CHECKPOINT").await;
            }
            ok(&database, "INSERT INTO s VALUES ('2024-01-01 00:05', 1)").await;
            assert_eq!(
                one(&database, "SELECT count(*), sum(n), count(DISTINCT ts) FROM f").await,
                "500|600|20",
                "{workers:?}"
            );
            assert_eq!(ok(&database, "VERIFY MATERIALIZED VIEW f").await.len(), 0, "{workers:?}");
        }
    });
}
