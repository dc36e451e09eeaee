//! `BACKUP TO 'file:///…'`: the way of object stores, without one. What goes wrong in one is tested beside the code
//! (`engine/src/backup/tests.rs`).

use std::path::Path;

use millrace_engine::tools;
use millrace_sql_tests::answer::{Answer, SqlError};
use millrace_sql_tests::millrace::{Database, run};

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.expect("threads can be started").block_on(future)
}

async fn sql(database: &Database, text: &str) -> Result<Answer, SqlError> {
    run(&mut database.session(), text).await
}

async fn ok(database: &Database, text: &str) -> String {
    sql(database, text).await.unwrap_or_else(|e| panic!("{text}: {e}")).rows.concat().join("|")
}

async fn restored(url: &str, name: Option<&str>) -> Database {
    let place = tempfile::tempdir().unwrap();
    let report = tools::restore(url, name, &place.path().join("d")).await.unwrap();
    assert_eq!(report.problems, [""; 0]);
    Database::open(place, "d", 3, None).unwrap()
}

#[test]
fn a_running_database_is_backed_up_again_and_again() {
    block_on(async {
        let database = Database::create(2).unwrap();
        ok(&database, "CREATE TABLE t (id int PRIMARY KEY, v int)").await;
        ok(&database, "CREATE STREAM s (id int)").await;
        let view = "CREATE MATERIALIZED VIEW both_ AS SELECT count(*) AS n, sum(v) AS s FROM s JOIN t ON s.id = t.id";
        ok(&database, view).await;
        let target = tempfile::tempdir().unwrap();
        let url = format!("file://{}", target.path().join("a/b").display());
        let (mut written, mut at_least) = (0, Vec::new());
        for _ in 0..4 {
            let insert =
                |id: i32| format!("BEGIN; INSERT INTO t VALUES ({id}, 1); INSERT INTO s VALUES ({id}); COMMIT");
            for _ in 0..20 {
                ok(&database, &insert(written)).await;
                written += 1;
            }
            at_least.push(written);
            let mut session = database.session();
            let backup = format!("BACKUP TO '{url}'");
            let during = async {
                for id in written..written + 3 {
                    ok(&database, &insert(id)).await;
                }
            };
            let (done, ()) = tokio::join!(run(&mut session, &backup), during);
            done.unwrap();
            written += 3;
            ok(&database, "CHECKPOINT").await;
        }
        let listed: Vec<String> = tools::backups(&url).await.unwrap().into_iter().map(|b| b.unwrap().name).collect();
        assert_eq!(
            ok(&database, "SELECT name FROM mr_backups WHERE state = 'done' ORDER BY started").await,
            listed.join("|")
        );
        for (name, at_least) in listed.iter().zip(at_least) {
            let copy = restored(&url, Some(name)).await;
            copy.verify().await.unwrap();
            let counts = ok(&copy, "SELECT count(*), (SELECT count(*) FROM t), (SELECT n FROM both_) FROM s").await;
            let counts: Vec<i32> = counts.split('|').map(|n| n.parse().unwrap()).collect();
            assert!(counts.iter().all(|n| *n == counts[0]), "{counts:?}");
            assert!((at_least..=at_least + 3).contains(&counts[0]), "{counts:?}, {at_least} acknowledged before");
        }
        // What a restored database goes on with hides nothing of the first's.
        let copy = restored(&url, None).await;
        ok(&copy, "INSERT INTO t VALUES (-1, 1)").await;
        ok(&copy, &format!("BACKUP TO '{url}'")).await;
        ok(&database, "INSERT INTO t VALUES (-2, 1)").await;
        ok(&database, &format!("BACKUP TO '{url}' KEEP 2")).await;
        let listed: Vec<String> = tools::backups(&url).await.unwrap().into_iter().map(|b| b.unwrap().name).collect();
        assert_eq!(listed.len(), 2);
        for (name, id) in listed.iter().zip(["-1", "-2"]) {
            let copy = restored(&url, Some(name)).await;
            assert_eq!(ok(&copy, "SELECT id FROM t WHERE id < 0").await, id);
            copy.verify().await.unwrap();
        }
    });
}

#[test]
fn what_is_refused_and_what_a_crash_leaves() {
    block_on(async {
        let mut database = Database::create(1).unwrap();
        ok(&database, "CREATE TABLE t (id int)").await;
        for (statement, code) in [
            ("BACKUP TO 'ftp://a/b'", "22023"),
            ("BACKUP TO 's3://'", "22023"),
            ("BACKUP TO 's3://key:secret@bucket/b'", "22023"),
            ("BACKUP TO 'file://relative'", "22023"),
            ("BACKUP TO 'file:///tmp/x' KEEP 0", "22023"),
            ("BACKUP TO 'file:///tmp/x' KEEP", "42601"),
            ("BACKUP TO '/tmp/x' KEEP 3", "0A000"),
            ("BACKUP TO 'file:///proc/nothing/here'", "58030"),
        ] {
            let error = sql(&database, statement).await.unwrap_err();
            assert_eq!(error.code, code, "{statement}: {error}");
            assert!(!error.to_string().contains("secret"), "{error}");
        }
        let failed = "SELECT state, name IS NULL, finished >= started, error FROM mr_backups";
        let failed = ok(&database, failed).await;
        assert!(failed.starts_with("failed|t|t|cannot create"), "{failed}");
        let left = database.path().join("backup.tmp-7");
        database
            .crash_harm_and_reopen(1, |directory: &Path| {
                std::fs::create_dir(directory.join("backup.tmp-7")).unwrap();
                std::fs::write(directory.join("backup.tmp-7/000001.sst"), "x").unwrap();
            })
            .await
            .unwrap();
        assert!(!left.exists());

        // Not a running one, but a directory.
        let target = tempfile::tempdir().unwrap();
        let url = format!("file://{}", target.path().display());
        ok(&database, "INSERT INTO t VALUES (1), (2)").await;
        let directory = database.path().to_path_buf();
        let error = tools::backup(&directory, &url, None, || 1).await.unwrap_err();
        assert_eq!(error.code, "55006");
        database.stop_and_reopen(1).await.unwrap();
        let copy = tempfile::tempdir().unwrap();
        let stopped = copy.path().join("stopped");
        ok(&database, &format!("BACKUP TO '{}'", stopped.display())).await;
        let made = tools::backup(&stopped, &url, Some(1), || 1).await.unwrap();
        assert_eq!((made.state(), made.sent_files), ("done", made.files));
        assert_eq!(ok(&restored(&url, None).await, "SELECT count(*) FROM t").await, "2");
        assert_eq!(tools::check(&stopped).unwrap().problems, [""; 0]);
        let error = tools::restore(&url, Some("none"), &copy.path().join("d")).await.unwrap_err();
        assert_eq!(error.code, "58P01");
        let error = tools::restore("/nowhere", Some("none"), &copy.path().join("d")).await.unwrap_err();
        assert_eq!(error.code, "22023");
    });
}
