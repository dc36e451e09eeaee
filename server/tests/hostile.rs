//! Clients that ask the server itself for more than there is: each gets an error or an answer in time, and the others go on.

mod common;

use std::time::{Duration, Instant};

use futures::{SinkExt, TryStreamExt};
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, NoTls};

const MEMORY: &str = "256MB";

async fn connect(running: &common::Running) -> Client {
    let address = running.server.pg_addr;
    let options = format!("host={} port={} user=me dbname=millrace", address.ip(), address.port());
    let (client, connection) = tokio_postgres::connect(&options, NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

/// What is kept for clients counts as what statements take.
#[tokio::test(flavor = "multi_thread")]
async fn what_clients_leave_is_bounded() {
    let running = common::start(|options| options.memory = Some(MEMORY.into())).await;
    let client = connect(&running).await;
    client.batch_execute("CREATE TABLE t (id bigint, v text)").await.unwrap();

    let mut kept = Vec::new();
    let refused = loop {
        // Long ones, so that it takes fewer of them.
        let text = format!("SELECT {}, '{}'", kept.len(), "x".repeat(50_000));
        match client.prepare(&text).await {
            Ok(statement) => kept.push(statement),
            Err(error) => break error,
        }
        assert!(kept.len() < 1_000, "statements are kept without end");
    };
    assert_eq!(refused.code(), Some(&SqlState::OUT_OF_MEMORY), "{refused:?}");
    assert_eq!(client.query_one(&kept[7], &[]).await.unwrap().get::<_, i32>(0), 7);
    // What is closed makes room again.
    kept.clear();
    client.batch_execute("SELECT 1").await.unwrap();
    client.prepare(&format!("SELECT '{}'", "x".repeat(50_000))).await.unwrap();

    // Rows that were begun and left.
    let refused = async {
        client.batch_execute("BEGIN").await?;
        for n in 0..10_000 {
            client.batch_execute(&format!("DECLARE c{n} CURSOR FOR SELECT 1")).await?;
        }
        Ok::<(), tokio_postgres::Error>(())
    };
    let refused = refused.await.expect_err("cursors are kept without end");
    assert_eq!(refused.code(), Some(&SqlState::OUT_OF_MEMORY), "{refused:?}");
    for text in ["ROLLBACK", "BEGIN; DECLARE c CURSOR FOR SELECT 1", "COMMIT"] {
        client.batch_execute(text).await.unwrap();
    }

    // A line that does not end, and rows that do.
    for piece in [b"x".repeat(1 << 20), [b"1\t", &b"x".repeat((1 << 20) - 3)[..], b"\n"].concat()] {
        let mut sink = Box::pin(client.copy_in("COPY t FROM STDIN").await.unwrap());
        let piece = bytes::Bytes::from(piece);
        for _ in 0..200 {
            if sink.send(piece.clone()).await.is_err() {
                break;
            }
        }
        let error = sink.as_mut().finish().await.expect_err("it is more than statements may take");
        assert_eq!(error.code(), Some(&SqlState::OUT_OF_MEMORY), "{error:?}");
    }
    let count: i64 = client.query_one("SELECT count(*) FROM t", &[]).await.unwrap().get(0);
    assert_eq!(count, 0);
    running.server.shutdown().await.unwrap();
    running.directory.close().expect("nothing uses it any more");
}

/// Rows of many pieces are not looked at, nor copied, again for each piece.
#[tokio::test(flavor = "multi_thread")]
async fn a_wide_row_is_copied_out_in_time() {
    let running = common::start(|_| ()).await;
    let client = connect(&running).await;
    let (wide, start) = (100_000_000, Instant::now());
    for format in ["text", "csv", "binary"] {
        let text = format!("COPY (SELECT repeat('x', {wide}) UNION ALL SELECT 'y') TO STDOUT (FORMAT {format})");
        let rows: Vec<bytes::Bytes> = client.copy_out(&text).await.unwrap().try_collect().await.unwrap();
        assert!(rows.iter().any(|row| row.len() >= wide), "{format}");
    }
    // For each piece anew it would be five minutes.
    assert!(start.elapsed() < Duration::from_secs(60), "{:?}", start.elapsed());
    running.server.shutdown().await.unwrap();
    running.directory.close().expect("nothing uses it any more");
}

/// Parts of one segment, each of which counts as the whole of it, would be six times what a statement may take.
#[tokio::test(flavor = "multi_thread")]
async fn parts_of_a_table_count_once() {
    let running = common::start(|options| options.memory = Some(MEMORY.into())).await;
    let client = connect(&running).await;
    for text in [
        "CREATE TABLE many (id int, v text)",
        "CREATE TABLE few (a int)",
        "INSERT INTO few VALUES (1), (2)",
        "INSERT INTO many SELECT i, repeat('x', 50) || i FROM generate_series(1, 400000) i",
    ] {
        client.batch_execute(text).await.unwrap();
    }
    let rows = client.query("SELECT v, a FROM many CROSS JOIN few LIMIT 3", &[]).await.unwrap();
    assert_eq!(rows.len(), 3);
    // So many first rows do not stay in memory.
    let rows = client.query("SELECT id FROM many ORDER BY v DESC LIMIT 1 OFFSET 399999", &[]).await.unwrap();
    assert_eq!(rows[0].get::<_, i32>(0), 1);
    running.server.shutdown().await.unwrap();
    running.directory.close().expect("nothing uses it any more");
}
