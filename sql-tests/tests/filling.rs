//! Views that are filled with more than may be in memory: no rows wait there until all have come. In a process of its own,
//! since memory is the process's.

use std::sync::atomic::{AtomicBool, Ordering};

use millrace_sql_tests::millrace::{Database, number, one};

const MEMORY: u64 = 256 << 20;
const ROUNDS: u64 = 20;
const ROWS: u64 = 100_000;
const KEYS: u64 = 700_001;

/// Of the process, without what it has of files.
fn anonymous_bytes() -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").expect("Linux says");
    let line = text.lines().find_map(|line| line.strip_prefix("RssAnon:")).expect("the kernel is of this century");
    line.trim().trim_end_matches("kB").trim().parse::<u64>().expect("a number") << 10
}

#[test]
fn filling_a_view_takes_no_memory_by_its_size() {
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.worker_threads(2).thread_stack_size(16 << 20).enable_all().build();
    runtime.expect("threads can be started").block_on(async {
        let database = Database::with_memory(MEMORY).expect("it opens");
        one(&database, "CREATE STREAM a (k bigint, v bigint, note text)").await;
        for round in 0..ROUNDS {
            let rows = format!("SELECT (x::bigint * 7919 + {}) % {KEYS}, x, 'note ' || x", round * 104_729);
            one(&database, &format!("INSERT INTO a {rows} FROM generate_series(1, {ROWS}) g(x)")).await;
        }
        one(&database, "CREATE TABLE names (part bigint PRIMARY KEY, name text)").await;
        one(&database, "INSERT INTO names SELECT x, 'part ' || x FROM generate_series(0, 99) g(x)").await;
        for (name, query) in [
            ("wide", "SELECT a.k, a.v, name, repeat(note, 20) AS note FROM a LEFT JOIN names ON a.k % 100 = part"),
            ("least", "SELECT k, min(repeat(note, 20)) AS low, max(note || repeat(' ', 90)) AS high FROM a GROUP BY k"),
            ("ranges", "SELECT part, min(note || md5(note)), max(md5(note)) FROM a JOIN names ON k % 100 = part GROUP BY 1"),
            (
                "latest",
                "SELECT * FROM (SELECT k, repeat(note, 20) AS note, row_number() OVER (PARTITION BY k % 50000 ORDER BY v DESC) AS n
                 FROM a LEFT JOIN names ON a.k % 100 = part) WHERE n <= 20",
            ),
            ("joined", "SELECT k % 5000 AS part, string_agg(note || md5(note), ',' ORDER BY v) FROM a GROUP BY 1"),
        ] {
            let done = AtomicBool::new(false);
            let watch = async {
                let mut most = 0;
                while !done.load(Ordering::Relaxed) {
                    most = most.max(anonymous_bytes());
                    tokio::time::sleep(std::time::Duration::from_millis(20)).await;
                }
                most
            };
            let fill = async {
                one(&database, &format!("CREATE MATERIALIZED VIEW {name} AS {query}")).await;
                done.store(true, Ordering::Relaxed);
            };
            let (most, ()) = tokio::join!(watch, fill);
            let in_file = number(&database, "SELECT state_file_bytes FROM mr_memory").await;
            println!("{name}: {} MB in the file, {} MB of memory", in_file >> 20, most >> 20);
            assert!(in_file > MEMORY / 2, "{name} {in_file}");
            // Half as much again: memory that is free but not given back yet is in it.
            assert!(most < MEMORY / 2 * 3, "{name} {most}");
            if name != "wide" {
                one(&database, &format!("DROP MATERIALIZED VIEW {name}")).await;
            }
        }
        assert_eq!(
            one(&database, "SELECT count(*), sum(v), sum(length(note)), min(name) FROM wide").await,
            one(&database, "SELECT count(*), sum(v), sum(length(note) * 20), 'part 0' FROM a").await
        );
    });
}
