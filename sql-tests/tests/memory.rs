//! State beyond the memory that the process may use: in a process of its own, since memory is the process's.

use millrace_sql_tests::millrace::{Database, number, one};

const MEMORY: u64 = 192 << 20;
const ROUNDS: u64 = 12;
const ROWS: u64 = 100_000;
const KEYS: u64 = 700_001;

/// Joins, aggregates and a window over many keys, with retractions, whose state is many times what may stay in memory.
#[test]
fn state_beyond_memory_is_right_and_survives() {
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.worker_threads(2).thread_stack_size(16 << 20).enable_all().build();
    runtime.expect("threads can be started").block_on(async {
        let mut database = Database::with_memory(MEMORY).expect("it opens");
        for text in [
            "CREATE STREAM a (k bigint, v bigint, note text)",
            "CREATE STREAM b (k bigint, w bigint)",
            "CREATE TABLE t (k bigint PRIMARY KEY, v bigint, note text)",
            "CREATE TABLE w (k bigint PRIMARY KEY, part bigint, v bigint, note text)",
            "CREATE MATERIALIZED VIEW sums AS SELECT k, count(*) AS n, sum(v) AS s, min(v) AS low FROM a GROUP BY k",
            "CREATE MATERIALIZED VIEW pairs AS SELECT a.k, a.v, a.note, b.w FROM a JOIN b ON a.k = b.k AND a.v % 10 = b.w",
            "CREATE MATERIALIZED VIEW kept AS SELECT t.k % 1000 AS part, count(*) AS n, sum(t.v) AS s, count(b.w) AS w \
             FROM t LEFT JOIN b ON t.k = b.k GROUP BY 1",
            // All of a group's values are kept, those of a text with the text.
            "CREATE MATERIALIZED VIEW ends AS SELECT k % 3 AS part, min(note) AS low, max(note) AS high, max(v) AS most \
             FROM t GROUP BY 1",
            // Partitions are looked at some at a time.
            "CREATE MATERIALIZED VIEW sums_so_far AS SELECT k, part, sum(v) OVER (PARTITION BY part ORDER BY k) AS s, note \
             FROM w",
        ] {
            one(&database, text).await;
        }
        for round in 0..ROUNDS {
            let key = |seed: u64| format!("(x::bigint * {} + {}) % {KEYS}", seed, round * 104_729);
            let from = format!("generate_series(1, {ROWS}) g(x)");
            one(&database, &format!("INSERT INTO a SELECT {}, x, 'note ' || x FROM {from}", key(7919))).await;
            one(&database, &format!("INSERT INTO b SELECT {}, x % 10 FROM {from}", key(6007))).await;
            let k = format!("{} + x", round * ROWS);
            let note = format!("md5(({k})::text) || ' is what this row says, and ' || md5(x::text) || ' what it means'");
            one(&database, &format!("INSERT INTO t SELECT {k}, x, {note} FROM {from}")).await;
            if round < 2 {
                one(&database, &format!("INSERT INTO w SELECT {k}, ({k}) % 20000, x, {note} FROM {from}")).await;
                one(&database, "UPDATE w SET v = v + 1 WHERE k <= 20000").await;
                one(&database, "DELETE FROM w WHERE k % 20000 = 7 AND v < 60000").await;
            }
            if round % 4 == 3 {
                one(&database, &format!("UPDATE t SET v = v + 1 WHERE k % 7 = {}", round % 7)).await;
                one(&database, &format!("DELETE FROM t WHERE k % 11 = {} AND v % 2 = 0", round % 11)).await;
                one(&database, "DELETE FROM t WHERE note < '01' OR note > 'fe' OR v > 99000").await;
            }
            if round == ROUNDS / 2 {
                one(&database, "CHECKPOINT").await;
            }
        }
        // Each answer beside one that needs no state.
        let checks = [
            ("SELECT count(*), sum(n), sum(s), min(low), max(low) FROM sums", ""),
            ("SELECT sum(n), sum(s) FROM sums", "SELECT count(*), sum(v) FROM a"),
            ("SELECT n, s, low FROM sums WHERE k = 4711", "SELECT count(*), sum(v), min(v) FROM a WHERE k = 4711"),
            (
                "SELECT count(*), sum(v), sum(w) FROM pairs WHERE k % 50 = 3",
                "SELECT count(*), sum(v), sum(w) FROM (SELECT * FROM a WHERE k % 50 = 3) a \
                 JOIN (SELECT * FROM b WHERE k % 50 = 3) b ON a.k = b.k AND a.v % 10 = b.w",
            ),
            ("SELECT count(*), sum(v), min(note) FROM pairs", ""),
            (
                "SELECT n, s, w FROM kept WHERE part = 77",
                "SELECT count(*), sum(t.v), count(b.w) FROM (SELECT * FROM t WHERE k % 1000 = 77) t \
                 LEFT JOIN (SELECT * FROM b WHERE k % 1000 = 77) b ON t.k = b.k",
            ),
            ("SELECT count(*), sum(n), sum(s), sum(w) FROM kept", ""),
            (
                "SELECT * FROM ends ORDER BY part",
                "SELECT k % 3 AS part, min(note), max(note), max(v) FROM t GROUP BY 1 ORDER BY 1",
            ),
            ("SELECT count(*), sum(s), sum(s * part), max(note) FROM sums_so_far", ""),
            (
                "SELECT count(*), sum(s), sum(s * part), min(note), max(note) FROM sums_so_far WHERE part % 20 = 7",
                "SELECT count(*), sum(s), sum(s * part), min(note), max(note) \
                 FROM (SELECT *, sum(v) OVER (PARTITION BY part ORDER BY k) AS s FROM w WHERE part % 20 = 7)",
            ),
        ];
        let mut answers = Vec::new();
        for (view, batch) in checks {
            let answer = one(&database, view).await;
            if !batch.is_empty() {
                assert_eq!(answer, one(&database, batch).await, "{view}");
            }
            answers.push(answer);
        }
        assert_eq!(one(&database, "SELECT count(*) FROM mr_views WHERE state = 'live'").await, "5");
        let state = number(&database, "SELECT sum(state_bytes)::bigint FROM mr_views").await;
        let in_file = number(&database, "SELECT state_file_bytes FROM mr_memory").await;
        let in_memory = number(&database, "SELECT state_bytes FROM mr_memory").await;
        println!("state {} MB, in memory {} MB, in the file {} MB", state >> 20, in_memory >> 20, in_file >> 20);
        println!("{}", one(&database, "SELECT * FROM mr_memory").await);
        assert!(state > 4 * (MEMORY / 4) && in_file > state / 2, "{state} {in_file}");
        assert!(in_memory < MEMORY / 2, "{in_memory}");

        // Nothing of a few groups with many values need stay in memory.
        let fixed = "SELECT sum(fixed_bytes)::bigint FROM mr_operators WHERE view = 'ends'";
        let fixed = number(&database, fixed).await;
        assert!(fixed < 1 << 20, "{fixed}");

        // What was saved of it, and what was logged after that.
        database.crash_and_reopen(1).await.expect("it opens again");
        for ((view, _), answer) in checks.iter().zip(&answers) {
            assert_eq!(one(&database, view).await, *answer, "{view}");
        }
        one(&database, "INSERT INTO a VALUES (4711, 1, 'a'), (-1, 2, 'b')").await;
        one(&database, "DELETE FROM t WHERE k < 100").await;
        for (view, batch) in checks.iter().filter(|check| !check.1.is_empty()) {
            assert_eq!(one(&database, view).await, one(&database, batch).await, "{view}");
        }
        // All of it goes again.
        for view in ["sums", "pairs", "kept", "ends", "sums_so_far"] {
            one(&database, &format!("DROP MATERIALIZED VIEW {view}")).await;
        }
        one(&database, "DROP TABLE t, w").await;
        let mut left = u64::MAX;
        for _ in 0..100 {
            left = number(&database, "SELECT state_file_bytes FROM mr_memory").await;
            if left == 0 {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
        assert_eq!(left, 0);
    });
}
