//! Transactions that meet at the same rows: they come one after the other, none fails that need not, and nothing is lost.

use std::time::{Duration, Instant};

use millrace_engine::Session;
use millrace_sql_tests::millrace::{Database, must, run};

async fn tell(session: &mut Session, text: &str) -> Result<String, String> {
    run(session, text).await.map(|answer| answer.rows.concat().join("|")).map_err(|error| error.code.to_string())
}

/// Runs `client` so many times at once, each in a session of its own.
async fn at_once<F>(database: &Database, clients: u64, client: impl Fn(u64, Session) -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    let tasks: Vec<_> = (0..clients).map(|n| tokio::spawn(client(n, database.session()))).collect();
    for task in tasks {
        task.await.expect("no panic");
    }
}

/// Runs on a thread of its own, whose stack is as large as a server's.
fn with(work: impl AsyncFnOnce(Database, Session) + Send + 'static) {
    let run = move || {
        let mut runtime = tokio::runtime::Builder::new_multi_thread();
        let runtime = runtime.worker_threads(2).thread_stack_size(16 << 20).enable_all().build();
        runtime.expect("threads can be started").block_on(async {
            let database = Database::create(2).expect("it opens");
            let session = database.session();
            work(database, session).await;
        });
    };
    let thread = std::thread::Builder::new().stack_size(16 << 20).spawn(run).expect("threads can be started");
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

const CLIENTS: u64 = 4;
const TURNS: u64 = 25;

#[test]
fn updates_of_one_row_wait_for_one_another() {
    with(async |database, mut session| {
        must(&mut session, "CREATE TABLE counters (id int PRIMARY KEY, n bigint)").await;
        must(&mut session, "CREATE TABLE history (client bigint, turn bigint)").await;
        must(&mut session, "INSERT INTO counters VALUES (1, 0), (2, 0)").await;
        must(&mut session, "CREATE MATERIALIZED VIEW total AS SELECT sum(n) AS n FROM counters").await;
        at_once(&database, CLIENTS, |client, mut session| async move {
            for turn in 0..TURNS {
                // Every second client without a transaction.
                if client % 2 == 0 {
                    must(&mut session, "BEGIN").await;
                    must(&mut session, &format!("INSERT INTO history VALUES ({client}, {turn})")).await;
                    let other =
                        must(&mut session, &format!("SELECT count(*) FROM history WHERE client = {client}")).await;
                    assert_eq!(other, (turn + 1).to_string());
                }
                must(&mut session, "UPDATE counters SET n = n + 1 WHERE id = 1").await;
                if client % 2 == 0 {
                    must(&mut session, "UPDATE counters SET n = n + 1 WHERE id = 2").await;
                    must(&mut session, "COMMIT").await;
                }
            }
        })
        .await;
        let (all, half) = (CLIENTS * TURNS, CLIENTS * TURNS / 2);
        assert_eq!(must(&mut session, "SELECT n FROM counters ORDER BY id").await, format!("{all}|{half}"));
        assert_eq!(must(&mut session, "SELECT n FROM total").await, (all + half).to_string());
        assert_eq!(must(&mut session, "SELECT count(*) FROM history").await, half.to_string());
    });
}

#[test]
fn what_a_client_computes_of_what_it_read_is_not_lost() {
    with(async |database, mut session| {
        must(&mut session, "CREATE TABLE counters (id int PRIMARY KEY, n bigint)").await;
        must(&mut session, "INSERT INTO counters VALUES (1, 0), (2, 0)").await;
        at_once(&database, CLIENTS, |client, mut session| async move {
            let mut turn = 0;
            while turn < TURNS {
                // FOR UPDATE waits, so it never fails; without it 40001 says that somebody was faster.
                let locks = client % 2 == 0;
                must(&mut session, "BEGIN").await;
                let read = if locks { "FOR UPDATE" } else { "" };
                let n = must(&mut session, &format!("SELECT n FROM counters WHERE id = 1 {read}")).await;
                let n = n.parse::<u64>().unwrap() + 1;
                let updated = tell(&mut session, &format!("UPDATE counters SET n = {n} WHERE id = 1")).await;
                let ended = match updated {
                    Ok(_) => tell(&mut session, "COMMIT").await,
                    Err(code) => {
                        must(&mut session, "ROLLBACK").await;
                        Err(code)
                    }
                };
                match ended {
                    Ok(_) => turn += 1,
                    Err(code) => assert!(!locks && matches!(code.as_str(), "40001" | "40P01"), "{code}"),
                }
            }
        })
        .await;
        assert_eq!(must(&mut session, "SELECT n FROM counters WHERE id = 1").await, (CLIENTS * TURNS).to_string());
    });
}

#[test]
fn a_snapshot_moves_on_only_where_nothing_read_has_changed() {
    with(async |database, mut session| {
        must(&mut session, "CREATE TABLE t (id int PRIMARY KEY, v int)").await;
        must(&mut session, "CREATE MATERIALIZED VIEW total AS SELECT sum(v) AS v FROM t").await;
        must(&mut session, "CREATE STREAM log (x int)").await;
        must(&mut session, "INSERT INTO t VALUES (1, 10), (2, 20), (3, 30)").await;
        let mut other = database.session();
        // Read by its key, another row of the table: nothing of it has changed.
        for (read, moves) in [
            ("SELECT v FROM t WHERE id = 3", true),
            ("SELECT count(*) FROM log", true),
            ("SELECT count(*) FROM t WHERE v < 0 OR id = 2", true),
            ("SELECT v FROM t WHERE id = 1", false),
            ("SELECT v FROM t WHERE id IN (2, 3)", true),
            ("SELECT v FROM t WHERE v < 1000000", false),
            ("SELECT max(v) FROM t", false),
            ("SELECT v FROM total", false),
        ] {
            must(&mut session, "BEGIN").await;
            must(&mut session, read).await;
            let before = must(&mut other, "SELECT v FROM t WHERE id = 1").await.parse::<i64>().unwrap();
            must(&mut other, "UPDATE t SET v = v + 1 WHERE id = 1").await;
            let updated = tell(&mut session, "UPDATE t SET v = v * 10 WHERE id = 1 RETURNING v").await;
            match moves {
                true => assert_eq!(updated, Ok(((before + 1) * 10).to_string()), "{read}"),
                false => assert_eq!(updated, Err("40001".into()), "{read}"),
            }
            must(&mut session, "COMMIT").await;
        }
        // Its own changes are there wherever it moves.
        must(&mut session, "BEGIN").await;
        must(&mut session, "INSERT INTO log VALUES (1)").await;
        must(&mut session, "UPDATE t SET v = 0 WHERE id = 2").await;
        must(&mut other, "UPDATE t SET v = 7 WHERE id = 1").await;
        must(&mut session, "UPDATE t SET v = v + 1 WHERE id = 1").await;
        assert_eq!(must(&mut session, "SELECT v FROM t ORDER BY id").await, "8|0|30");
        assert_eq!(must(&mut session, "SELECT count(*) FROM log").await, "1");
        must(&mut session, "COMMIT").await;
        assert_eq!(must(&mut other, "SELECT v FROM total").await, "38");
    });
}

#[test]
fn a_queue_gives_each_job_once_and_nobody_waits() {
    const JOBS: u64 = 60;
    with(async |database, mut session| {
        must(&mut session, "CREATE TABLE jobs (id bigint PRIMARY KEY, done_by bigint)").await;
        must(&mut session, &format!("INSERT INTO jobs SELECT x, NULL FROM generate_series(1, {JOBS}) g(x)")).await;
        // One holds the first job all the time.
        must(&mut session, "BEGIN").await;
        let first = "SELECT id FROM jobs WHERE done_by IS NULL ORDER BY id LIMIT 1 FOR UPDATE";
        assert_eq!(must(&mut session, first).await, "1");
        at_once(&database, CLIENTS, |client, mut session| async move {
            loop {
                must(&mut session, "BEGIN").await;
                let job = "SELECT id FROM jobs WHERE done_by IS NULL ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED";
                let job = must(&mut session, job).await;
                if job.is_empty() {
                    must(&mut session, "ROLLBACK").await;
                    return;
                }
                must(&mut session, &format!("UPDATE jobs SET done_by = {client} WHERE id = {job}")).await;
                must(&mut session, "COMMIT").await;
            }
        })
        .await;
        let mut other = database.session();
        assert_eq!(must(&mut other, "SELECT count(done_by) FROM jobs").await, (JOBS - 1).to_string());
        assert_eq!(tell(&mut other, "SELECT id FROM jobs WHERE id = 1 FOR UPDATE NOWAIT").await, Err("55P03".into()));
        assert_eq!(tell(&mut other, "SELECT id FROM jobs WHERE id = 1 FOR UPDATE SKIP LOCKED").await, Ok("".into()));
        must(&mut session, "UPDATE jobs SET done_by = -1 WHERE id = 1").await;
        must(&mut session, "COMMIT").await;
        assert_eq!(must(&mut other, "SELECT count(done_by) FROM jobs").await, JOBS.to_string());
    });
}

#[test]
fn keys_that_several_insert() {
    with(async |database, mut session| {
        must(&mut session, "CREATE TABLE hits (page text PRIMARY KEY, n bigint)").await;
        at_once(&database, CLIENTS, |client, mut session| async move {
            for turn in 0..TURNS {
                let in_transaction = client % 2 == 0;
                if in_transaction {
                    must(&mut session, "BEGIN").await;
                }
                for page in [turn % 5, 5 + turn] {
                    let insert = format!("INSERT INTO hits VALUES ('p{page}', 1)");
                    must(&mut session, &format!("{insert} ON CONFLICT (page) DO UPDATE SET n = hits.n + 1")).await;
                }
                if in_transaction {
                    must(&mut session, "COMMIT").await;
                }
            }
        })
        .await;
        let all = must(&mut session, "SELECT count(*), sum(n) FROM hits").await;
        assert_eq!(all, format!("{}|{}", 5 + TURNS, 2 * CLIENTS * TURNS));
        // The second waits, and then knows.
        let mut other = database.session();
        must(&mut session, "BEGIN").await;
        must(&mut session, "INSERT INTO hits VALUES ('new', 1)").await;
        must(&mut other, "BEGIN").await;
        let (second, ()) = tokio::join!(tell(&mut other, "INSERT INTO hits VALUES ('new', 2)"), async {
            tokio::time::sleep(Duration::from_millis(50)).await;
            must(&mut session, "COMMIT").await;
        });
        assert_eq!(second, Err("23505".into()));
        must(&mut other, "ROLLBACK").await;
    });
}

#[test]
fn nobody_waits_for_ever() {
    with(async |database, mut session| {
        must(&mut session, "CREATE TABLE t (id int PRIMARY KEY, v int)").await;
        must(&mut session, "INSERT INTO t VALUES (1, 0), (2, 0)").await;
        let mut other = database.session();
        // Each has what the other one wants: one of them is told.
        must(&mut session, "BEGIN").await;
        must(&mut other, "BEGIN").await;
        must(&mut session, "UPDATE t SET v = v + 1 WHERE id = 1").await;
        must(&mut other, "UPDATE t SET v = v + 1 WHERE id = 2").await;
        let answers = tokio::join!(
            async {
                let told = tell(&mut session, "UPDATE t SET v = v + 1 WHERE id = 2").await;
                must(&mut session, if told.is_ok() { "COMMIT" } else { "ROLLBACK" }).await;
                told
            },
            async {
                let told = tell(&mut other, "UPDATE t SET v = v + 1 WHERE id = 1").await;
                must(&mut other, if told.is_ok() { "COMMIT" } else { "ROLLBACK" }).await;
                told
            }
        );
        let failed: Vec<_> = [answers.0, answers.1].into_iter().filter_map(|told| told.err()).collect();
        assert_eq!(failed, ["40P01"]);
        assert_eq!(must(&mut session, "SELECT v FROM t ORDER BY id").await, "1|1");
        // With a bound of its own a statement fails,
        must(&mut session, "BEGIN").await;
        must(&mut session, "UPDATE t SET v = v + 1 WHERE id = 1").await;
        must(&mut other, "SET lock_timeout = '50ms'").await;
        assert_eq!(tell(&mut other, "UPDATE t SET v = 9 WHERE id = 1").await, Err("55P03".into()));
        assert_eq!(must(&mut other, "UPDATE t SET v = 5 WHERE id = 2").await, "");
        // and else it goes on after a while: who commits first has the row.
        must(&mut other, "SET lock_timeout = 0").await;
        let began = Instant::now();
        must(&mut other, "UPDATE t SET v = 9 WHERE id = 1").await;
        assert!(began.elapsed() >= Duration::from_secs(1));
        assert_eq!(tell(&mut session, "COMMIT").await, Err("40001".into()));
        assert_eq!(must(&mut session, "SELECT v FROM t ORDER BY id").await, "9|5");
        // What was locked is free again, also of one that was left.
        must(&mut session, "BEGIN").await;
        must(&mut session, "UPDATE t SET v = v + 1 WHERE id = 1").await;
        drop(session);
        let began = Instant::now();
        must(&mut other, "UPDATE t SET v = v + 1 WHERE id = 1").await;
        assert!(began.elapsed() < Duration::from_secs(1));
        assert_eq!(must(&mut other, "SELECT v FROM t WHERE id = 1").await, "10");
    });
}

#[test]
fn a_plain_insert_waits_for_a_transaction_that_has_its_key() {
    with(async |database, mut first| {
        must(&mut first, "CREATE TABLE t (id int PRIMARY KEY, n int)").await;
        for (end, answer) in [("COMMIT", Err("23505".to_string())), ("ROLLBACK", Ok(String::new()))] {
            must(&mut first, "DELETE FROM t").await;
            must(&mut first, "BEGIN").await;
            must(&mut first, "INSERT INTO t VALUES (1, 1)").await;
            let mut second = database.session();
            let began = Instant::now();
            let waiting = tokio::spawn(async move {
                let other = tell(&mut second, "INSERT INTO t VALUES (2, 2)").await;
                assert_eq!(other, Ok(String::new()), "another key is nobody's");
                (tell(&mut second, "INSERT INTO t VALUES (1, 2)").await, began.elapsed())
            });
            tokio::time::sleep(Duration::from_millis(300)).await;
            must(&mut first, end).await;
            let (inserted, after) = waiting.await.expect("no panic");
            assert_eq!(inserted, answer, "after {end}");
            assert!(after >= Duration::from_millis(300), "it has waited {after:?}");
        }
    });
}

/// Each of two reads what the other writes: one of them must fail, or both have decided on what was no longer so.
#[test]
fn serializable_transactions_do_not_skew_what_they_write() {
    with(async |database, mut session| {
        must(&mut session, "CREATE TABLE doctors (name text PRIMARY KEY, on_call boolean)").await;
        must(&mut session, "CREATE TABLE other (n int)").await;
        for (level, second_ends) in [("SERIALIZABLE", Err("40001".to_string())), ("REPEATABLE READ", Ok(String::new()))]
        {
            must(&mut session, "DELETE FROM doctors").await;
            must(&mut session, "INSERT INTO doctors VALUES ('ada', true), ('bob', true)").await;
            let (mut a, mut b) = (database.session(), database.session());
            for session in [&mut a, &mut b] {
                must(session, &format!("BEGIN ISOLATION LEVEL {level}")).await;
                assert_eq!(must(session, "SELECT count(*) FROM doctors WHERE on_call").await, "2");
            }
            must(&mut a, "UPDATE doctors SET on_call = false WHERE name = 'ada'").await;
            must(&mut b, "UPDATE doctors SET on_call = false WHERE name = 'bob'").await;
            must(&mut a, "COMMIT").await;
            assert_eq!(tell(&mut b, "COMMIT").await, second_ends, "{level}");
        }
        // What others do elsewhere, and who only reads, stands in nobody's way.
        must(&mut session, "SET default_transaction_isolation = 'serializable'").await;
        must(&mut session, "BEGIN").await;
        assert_eq!(must(&mut session, "SHOW transaction_isolation").await, "serializable");
        must(&mut session, "SELECT * FROM doctors WHERE name = 'ada'").await;
        must(&mut session, "INSERT INTO other VALUES (1)").await;
        let mut beside = database.session();
        must(&mut beside, "UPDATE doctors SET on_call = true WHERE name = 'bob'").await;
        must(&mut session, "COMMIT").await;
        must(&mut session, "BEGIN").await;
        must(&mut session, "SELECT * FROM doctors").await;
        must(&mut beside, "DELETE FROM doctors").await;
        must(&mut session, "COMMIT").await;
    });
}
