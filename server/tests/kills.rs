//! The server under load, killed again and again (SIGKILL), and started on the same directory. Every fifth time it is
//! stopped in order instead, and `millrace check` reads the whole directory.
//!
//! Writers keep count of what was acknowledged to them. After each start, while views are still being brought back:
//! what was acknowledged is there once, what was not is there wholly or not at all, and every view equals its query.
//!
//! | variable | meaning |
//! | --- | --- |
//! | `MILLRACE_KILLS` | how often (6); `make kills KILLS=500` |
//! | `MILLRACE_KILLS_SEED` | of the pauses between kills (1); what a writer has reached by then differs from run to run |

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

const KEYS: i64 = 13;
const VIEWS: [&str; 4] = ["per_k", "joined", "latest", "above"];

struct Server {
    process: Child,
    address: String,
}

impl Server {
    /// Answers when it listens, which is before all views are back.
    fn start(directory: &Path, workers: u64) -> Server {
        let mut process = Command::new(env!("CARGO_BIN_EXE_millrace"))
            .args([
                "serve",
                "--pg-addr",
                "127.0.0.1:0",
                "--http-addr",
                "127.0.0.1:0",
                "--workers",
                &workers.to_string(),
            ])
            .arg("--data-dir")
            .arg(directory)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("cargo has built the server");
        let mut lines = BufReader::new(process.stdout.take().expect("it is piped")).lines();
        let address = lines.find_map(|line| {
            let line = line.expect("text");
            Some(line.strip_prefix("listening on ")?.split(' ').next()?.to_string())
        });
        Server { address: address.expect("it listens"), process }
    }

    async fn connect(&self) -> Result<Client, tokio_postgres::Error> {
        let (host, port) = self.address.rsplit_once(':').expect("an address");
        let (client, connection) =
            tokio_postgres::connect(&format!("host={host} port={port} user=me dbname=millrace"), NoTls).await?;
        tokio::spawn(connection);
        Ok(client)
    }

    /// SIGKILL.
    fn kill(mut self) {
        self.process.kill().expect("it runs");
        self.process.wait().expect("it has been killed");
    }

    /// SIGTERM.
    fn stop(mut self) {
        let told = Command::new("kill").args(["-TERM", &self.process.id().to_string()]).status();
        assert!(told.expect("every Unix has it").success());
        let ended = self.process.wait().expect("it runs");
        assert!(ended.success(), "the server ended with {ended}");
    }
}

impl Drop for Server {
    /// When a check has failed; else it has ended already.
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Rows of one statement, their columns joined by a bar.
async fn rows(client: &Client, text: &str) -> Vec<String> {
    let answer = client.simple_query(text).await.unwrap_or_else(|error| panic!("{text}: {error:?}"));
    let rows = answer.into_iter().filter_map(|message| match message {
        SimpleQueryMessage::Row(row) => {
            let cells = (0..row.len()).map(|i| row.get(i).unwrap_or("NULL").to_string());
            Some(cells.collect::<Vec<_>>().join("|"))
        }
        _ => None,
    });
    rows.collect()
}

/// What a writer knows.
#[derive(Default, Clone)]
struct Known {
    /// The last number that was acknowledged; the next one may be there too.
    inserted: i64,
    /// Pairs of rows with a change of two rows of the table, each in one transaction.
    pairs: i64,
    /// Views that there are, and one that may have been made or dropped just now.
    extra: BTreeSet<i64>,
    in_doubt: Option<i64>,
    made: i64,
}

/// One row after the other, until the server is gone.
async fn insert(client: Client, from: i64) -> i64 {
    let mut n = from;
    let insert = |n: i64| format!("INSERT INTO s VALUES (1, {n}, {})", n % KEYS);
    while client.simple_query(&insert(n + 1)).await.is_ok() {
        n += 1;
    }
    n
}

/// Two rows and two updates that leave the sum as it is, in one transaction.
async fn move_amounts(client: Client, from: i64) -> i64 {
    let mut n = from;
    loop {
        let (next, from, to) = (n + 1, n % KEYS, (n * 5 + 1) % KEYS);
        let text = format!(
            "BEGIN; INSERT INTO s VALUES (2, {next}, {from}); UPDATE t SET v = v - 3 WHERE k = {from};
             UPDATE t SET v = v + 3 WHERE k = {to}; INSERT INTO s VALUES (3, {next}, {to}); COMMIT"
        );
        match client.simple_query(&text).await {
            Ok(_) => n = next,
            Err(error) if error.code().is_some_and(|code| code.code() == "40001") => {
                if client.simple_query("ROLLBACK").await.is_err() {
                    return n;
                }
            }
            Err(_) => return n,
        }
    }
}

/// Views come and go, and checkpoints are taken.
async fn define(client: Client, mut known: Known) -> Known {
    loop {
        known.made += 1;
        let (id, old) = (known.made, known.extra.first().copied());
        let text = match old {
            Some(old) if known.extra.len() > 2 => {
                known.in_doubt = Some(old);
                format!("DROP MATERIALIZED VIEW extra_{old}")
            }
            _ => {
                known.in_doubt = Some(id);
                format!(
                    "CREATE MATERIALIZED VIEW extra_{id} AS SELECT k, max(n) AS n FROM s WHERE k <> {id} GROUP BY k"
                )
            }
        };
        if client.simple_query(&text).await.is_err() {
            return known;
        }
        let changed = known.in_doubt.take().expect("just set");
        if !known.extra.remove(&changed) {
            known.extra.insert(changed);
        }
        if id % 5 == 0 && client.simple_query("CHECKPOINT").await.is_err() {
            return known;
        }
    }
}

/// Holds what the server says against what its writers know; what was in doubt is known afterwards.
async fn check(client: &Client, known: &mut Known, round: u64) {
    let seen =
        rows(client, "SELECT writer, count(*), count(DISTINCT n), max(n) FROM s GROUP BY writer ORDER BY writer").await;
    let counts: Vec<i64> = seen.iter().flat_map(|row| row.split('|').skip(1)).map(|n| n.parse().unwrap()).collect();
    let one_each = counts.chunks(3).all(|c| c[0] == c[1] && c[1] == c[2]);
    assert!(one_each, "round {round}: a row was lost or doubled: {seen:?}");
    let of = |writer: usize| counts.get(3 * writer).copied().unwrap_or(0);
    assert!((0..=1).contains(&(of(0) - known.inserted)), "round {round}: {} acknowledged, {seen:?}", known.inserted);
    assert!((0..=1).contains(&(of(1) - known.pairs)), "round {round}: {} acknowledged, {seen:?}", known.pairs);
    assert_eq!(of(1), of(2), "round {round}: half a transaction");
    (known.inserted, known.pairs) = (of(0), of(1));
    let total = rows(client, "SELECT sum(v), count(*) FROM t").await;
    assert_eq!(total, [format!("0|{KEYS}")], "round {round}");
    // The table is what the stream's rows say of it.
    let wrong =
        "SELECT t.k, t.v, d.v FROM t LEFT JOIN (SELECT k, sum(CASE writer WHEN 2 THEN -3 WHEN 3 THEN 3 ELSE 0 END) AS v
                 FROM s GROUP BY k) AS d USING (k) WHERE t.v <> coalesce(d.v, 0)";
    assert_eq!(rows(client, wrong).await, [String::new(); 0], "round {round}");
    let extra = rows(client, "SELECT name FROM mr_views WHERE name LIKE 'extra_%'").await;
    let extra: BTreeSet<i64> = extra.iter().map(|name| name["extra_".len()..].parse().unwrap()).collect();
    let differ: Vec<i64> = extra.symmetric_difference(&known.extra).copied().collect();
    assert!(differ.iter().all(|id| known.in_doubt == Some(*id)), "round {round}: {extra:?} for {:?}", known.extra);
    (known.extra, known.in_doubt) = (extra, None);
    let named = known.extra.iter().map(|id| format!("extra_{id}"));
    for view in VIEWS.iter().map(|view| view.to_string()).chain(named) {
        let wrong = rows(client, &format!("VERIFY MATERIALIZED VIEW {view}")).await;
        assert_eq!(wrong, [String::new(); 0], "round {round}: {view}");
    }
    let n = rows(client, "SELECT coalesce(sum(n), 0) FROM per_k").await;
    assert_eq!(n, [(of(0) + 2 * of(1)).to_string()], "round {round}");
}

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |text| text.parse().expect("a number"))
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_acknowledged_is_lost_when_the_server_is_killed() {
    let directory = tempfile::tempdir().unwrap();
    let (kills, mut random) = (number("MILLRACE_KILLS", 6), number("MILLRACE_KILLS_SEED", 1));
    let mut known = Known::default();
    for round in 0..=kills {
        let server = Server::start(directory.path(), 1 + round % 3);
        let client = server.connect().await.unwrap();
        if round == 0 {
            let text = format!(
                "CREATE STREAM s (writer int, n bigint, k int); CREATE TABLE t (k int PRIMARY KEY, v bigint);
                 INSERT INTO t SELECT g, 0 FROM generate_series(0, {KEYS} - 1) AS t(g);
                 CREATE MATERIALIZED VIEW per_k AS SELECT k, count(*) AS n, sum(n) AS total FROM s GROUP BY k;
                 CREATE MATERIALIZED VIEW joined AS SELECT t.k, t.v, p.n FROM t LEFT JOIN per_k AS p ON t.k = p.k;
                 CREATE MATERIALIZED VIEW latest AS SELECT * FROM s ORDER BY n DESC, writer LIMIT 5;
                 CREATE MATERIALIZED VIEW above AS SELECT k, v FROM t WHERE v > (SELECT avg(v) FROM t)"
            );
            client.batch_execute(&text).await.unwrap();
        }
        check(&client, &mut known, round).await;
        if round == kills {
            server.kill();
            break;
        }
        let (one, two, three) =
            (server.connect().await.unwrap(), server.connect().await.unwrap(), server.connect().await.unwrap());
        let inserting = tokio::spawn(insert(one, known.inserted));
        let moving = tokio::spawn(move_amounts(two, known.pairs));
        let defining = tokio::spawn(define(three, known.clone()));
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        tokio::time::sleep(Duration::from_millis(20 + (random >> 33) % 700)).await;
        if round % 5 == 4 {
            server.stop();
            let check =
                Command::new(env!("CARGO_BIN_EXE_millrace")).arg("check").arg(directory.path()).output().unwrap();
            assert!(check.status.success(), "round {round}: {}", String::from_utf8_lossy(&check.stdout));
        } else {
            server.kill();
        }
        known = defining.await.unwrap();
        (known.inserted, known.pairs) = (inserting.await.unwrap(), moving.await.unwrap());
    }
    assert!(kills == 0 || known.inserted > 0 && known.pairs > 0, "the writers got nowhere");
}
