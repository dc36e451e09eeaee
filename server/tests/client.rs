//! What a real driver does: tokio-postgres, which prepares everything and speaks binary.

mod common;

use std::time::Duration;

use futures::{SinkExt, TryStreamExt, pin_mut};
use tokio_postgres::error::SqlState;
use tokio_postgres::types::private::BytesMut;
use tokio_postgres::types::{FromSql, FromSqlOwned, IsNull, Kind, ToSql, Type};
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

async fn connect(running: &common::Running) -> Client {
    try_connect(running, "user=me dbname=millrace").await.unwrap()
}

async fn try_connect(running: &common::Running, options: &str) -> Result<Client, tokio_postgres::Error> {
    let address = running.server.pg_addr;
    let options = format!("host={} port={} {options}", address.ip(), address.port());
    let (client, connection) = tokio_postgres::connect(&options, NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

async fn check_value<V: FromSqlOwned + ToSql + PartialEq + std::fmt::Debug + Sync>(
    client: &Client,
    sql_type: &str,
    value: V,
) {
    let row = client.query_one(&format!("SELECT $1::{sql_type}"), &[&value]).await;
    let row = row.unwrap_or_else(|e| panic!("{sql_type}: {e:?}"));
    assert_eq!(row.get::<_, V>(0), value, "{sql_type}");
    let row = client.query_one(&format!("SELECT $1::{sql_type}"), &[&None::<V>]).await.unwrap();
    assert_eq!(row.get::<_, Option<V>>(0), None, "{sql_type}");
}

#[tokio::test(flavor = "multi_thread")]
async fn values_in_binary_both_ways() {
    let running = common::start(|_| ()).await;
    let client = connect(&running).await;
    check_value(&client, "boolean", true).await;
    check_value(&client, "smallint", -7i16).await;
    check_value(&client, "int", i32::MIN).await;
    check_value(&client, "bigint", i64::MAX).await;
    check_value(&client, "real", 1.5f32).await;
    check_value(&client, "double precision", -0.1f64).await;
    check_value(&client, "text", "héllo".to_string()).await;
    check_value(&client, "bytea", vec![0u8, 255]).await;
    check_value(&client, "bigint[]", vec![1i64, -1]).await;
    check_value(&client, "text[]", vec![Some("a,b".to_string()), None]).await;
    running.server.shutdown().await.unwrap();
}

#[derive(Debug, PartialEq)]
struct Mood(String);

impl ToSql for Mood {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        out.extend_from_slice(self.0.as_bytes());
        Ok(IsNull::No)
    }
    fn accepts(sql_type: &Type) -> bool {
        matches!(sql_type.kind(), Kind::Enum(labels) if *labels == ["sad", "ok", "happy"])
    }
    tokio_postgres::types::to_sql_checked!();
}

impl<'a> FromSql<'a> for Mood {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        Ok(Mood(std::str::from_utf8(raw)?.to_string()))
    }
    fn accepts(sql_type: &Type) -> bool {
        <Mood as ToSql>::accepts(sql_type)
    }
}

/// The driver asks pg_type and pg_enum what the type is, and what its arrays are of.
#[tokio::test(flavor = "multi_thread")]
async fn enums_have_types_of_their_own() {
    let running = common::start(|_| ()).await;
    let client = connect(&running).await;
    client.batch_execute("CREATE TYPE mood AS ENUM ('sad', 'ok', 'happy')").await.unwrap();
    client.batch_execute("CREATE TABLE t (id int, m mood, ms mood[])").await.unwrap();
    let of = |text: &str| Mood(text.to_string());
    let insert = client.prepare("INSERT INTO t VALUES ($1, $2, $3)").await.unwrap();
    client.execute(&insert, &[&1, &of("sad"), &vec![of("ok"), of("happy")]]).await.unwrap();
    client.execute(&insert, &[&2, &of("happy"), &None::<Vec<Mood>>]).await.unwrap();
    let error = client.execute(&insert, &[&3, &of("angry"), &None::<Vec<Mood>>]).await.unwrap_err();
    assert_eq!(error.code(), Some(&SqlState::INVALID_TEXT_REPRESENTATION));
    let row = client.query_one("SELECT m, ms FROM t WHERE m < $1", &[&of("ok")]).await.unwrap();
    assert_eq!((row.get(0), row.get(1)), (of("sad"), vec![of("ok"), of("happy")]));
    let row = client.query_one("SELECT max(m) FROM t WHERE m = ANY ($1)", &[&vec![of("sad"), of("happy")]]).await;
    assert_eq!(row.unwrap().get::<_, Mood>(0), of("happy"));
    running.server.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn statements_transactions_portals() {
    let running = common::start(|_| ()).await;
    let mut client = connect(&running).await;
    client.batch_execute("CREATE TABLE t (id int PRIMARY KEY, v text)").await.unwrap();
    let insert = client.prepare("INSERT INTO t VALUES ($1, $2)").await.unwrap();
    for i in 0..10 {
        assert_eq!(client.execute(&insert, &[&i, &format!("v{i}")]).await.unwrap(), 1);
    }
    let duplicate = client.execute(&insert, &[&1, &"again"]).await.unwrap_err();
    assert_eq!(duplicate.code(), Some(&SqlState::UNIQUE_VIOLATION));

    let transaction = client.transaction().await.unwrap();
    assert_eq!(transaction.execute("DELETE FROM t WHERE id >= $1", &[&5]).await.unwrap(), 5);
    let count: i64 = transaction.query_one("SELECT count(*) FROM t", &[]).await.unwrap().get(0);
    assert_eq!(count, 5);
    transaction.rollback().await.unwrap();
    let count: i64 = client.query_one("SELECT count(*) FROM t", &[]).await.unwrap().get(0);
    assert_eq!(count, 10);

    let transaction = client.transaction().await.unwrap();
    let portal = transaction.bind("SELECT id FROM t ORDER BY id", &[]).await.unwrap();
    let other = transaction.bind("SELECT v FROM t ORDER BY id DESC", &[]).await.unwrap();
    let ids = |rows: Vec<tokio_postgres::Row>| rows.iter().map(|r| r.get::<_, i32>(0)).collect::<Vec<_>>();
    assert_eq!(ids(transaction.query_portal(&portal, 4).await.unwrap()), [0, 1, 2, 3]);
    assert_eq!(transaction.query_portal(&other, 1).await.unwrap()[0].get::<_, String>(0), "v9");
    assert_eq!(ids(transaction.query_portal(&portal, 4).await.unwrap()), [4, 5, 6, 7]);
    assert_eq!(ids(transaction.query_portal(&portal, 0).await.unwrap()), [8, 9]);
    transaction.commit().await.unwrap();

    let error = client.query("SELECT nosuch FROM t", &[]).await.unwrap_err();
    assert_eq!(error.code(), Some(&SqlState::UNDEFINED_COLUMN));
    running.server.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn copy_in_and_out() {
    let running = common::start(|_| ()).await;
    let client = connect(&running).await;
    client.batch_execute("CREATE TABLE c (id bigint PRIMARY KEY, v text)").await.unwrap();
    let sink = client.copy_in("COPY c FROM STDIN").await.unwrap();
    pin_mut!(sink);
    let rows = 20_000;
    for chunk in 0..rows / 100 {
        let text: String = (chunk * 100..(chunk + 1) * 100).map(|i| format!("{i}\tvalue {i}\n")).collect();
        sink.send(bytes::Bytes::from(text)).await.unwrap();
    }
    assert_eq!(sink.finish().await.unwrap(), rows);

    let stream = client.copy_out("COPY (SELECT id, v FROM c ORDER BY id) TO STDOUT").await.unwrap();
    let messages: Vec<bytes::Bytes> = stream.try_collect().await.unwrap();
    assert_eq!(messages.len() as u64, rows, "one message per row");
    assert_eq!(&messages[123][..], b"123\tvalue 123\n");

    // Dropped before its end, it leaves nothing.
    let sink = client.copy_in("COPY c FROM STDIN").await.unwrap();
    let mut sink = Box::pin(sink);
    sink.send(bytes::Bytes::from_static(b"99999\tnever\n")).await.unwrap();
    drop(sink);
    let count: i64 = client.query_one("SELECT count(*) FROM c", &[]).await.unwrap().get(0);
    assert_eq!(count as u64, rows);
    running.server.shutdown().await.unwrap();
}

/// A statement that would not end, its rows already on the way.
const ENDLESS: &str =
    "SELECT a.g + b.g FROM generate_series(1, 1000000) AS a(g) CROSS JOIN generate_series(1, 1000000) AS b(g)";

#[tokio::test(flavor = "multi_thread")]
async fn cancel_and_timeout_leave_the_connection_usable() {
    let running = common::start(|_| ()).await;
    let client = connect(&running).await;
    let cancel = client.cancel_token();
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(300)).await;
        cancel.cancel_query(NoTls).await.unwrap();
    });
    let stream = client.query_raw(ENDLESS, Vec::<i32>::new()).await.unwrap();
    pin_mut!(stream);
    let mut rows = 0u64;
    let error = loop {
        match stream.try_next().await {
            Ok(Some(_)) => rows += 1,
            Ok(None) => panic!("it ended after {rows} rows"),
            Err(error) => break error,
        }
    };
    assert!(rows > 0);
    assert_eq!(error.code(), Some(&SqlState::QUERY_CANCELED));
    client.batch_execute("SET statement_timeout = '200ms'").await.unwrap();
    let error = client.simple_query(ENDLESS).await.unwrap_err();
    assert_eq!(error.code(), Some(&SqlState::QUERY_CANCELED));
    assert_eq!(error.as_db_error().unwrap().message(), "canceling statement due to statement timeout");
    let answer = client.simple_query("SELECT 1").await.unwrap();
    assert!(answer.iter().any(|m| matches!(m, SimpleQueryMessage::Row(row) if row.get(0) == Some("1"))));
    running.server.shutdown().await.unwrap();
}

/// Programs tell constraints apart by these fields.
/// A client that begins and then says nothing keeps nobody waiting for ever, where it is told not to.
#[tokio::test(flavor = "multi_thread")]
async fn clients_that_fall_silent() {
    let running = common::start(|_| ()).await;
    let client = connect(&running).await;
    client.batch_execute("CREATE TABLE t (k int PRIMARY KEY, v int); INSERT INTO t VALUES (1, 0)").await.unwrap();
    let silent = connect(&running).await;
    silent.batch_execute("SET idle_in_transaction_session_timeout = '100ms'").await.unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    silent.batch_execute("BEGIN; UPDATE t SET v = 9 WHERE k = 1").await.unwrap();
    // Its row is free when it has been ended.
    let began = std::time::Instant::now();
    client.batch_execute("UPDATE t SET v = v + 1 WHERE k = 1").await.unwrap();
    assert!(began.elapsed() < Duration::from_secs(1));
    assert!(silent.batch_execute("COMMIT").await.is_err());
    assert_eq!(client.query_one("SELECT v FROM t", &[]).await.unwrap().get::<_, i32>(0), 1);
    let idle = connect(&running).await;
    idle.batch_execute("SET idle_session_timeout = 50").await.unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(idle.batch_execute("SELECT 1").await.is_err());
    running.server.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_say_what_they_are_about() {
    let running = common::start(|_| ()).await;
    let client = connect(&running).await;
    let text = "CREATE SCHEMA s; CREATE TABLE s.t (id int PRIMARY KEY, a int NOT NULL CONSTRAINT small CHECK (a < 10), UNIQUE (a)); \
                INSERT INTO s.t VALUES (1, 1)";
    client.batch_execute(text).await.unwrap();
    for (text, code, column, constraint) in [
        ("INSERT INTO s.t VALUES (1, 2)", SqlState::UNIQUE_VIOLATION, None, Some("t_pkey")),
        ("INSERT INTO s.t VALUES (2, 1)", SqlState::UNIQUE_VIOLATION, None, Some("t_a_key")),
        ("INSERT INTO s.t VALUES (2, 11)", SqlState::CHECK_VIOLATION, None, Some("small")),
        ("UPDATE s.t SET a = NULL", SqlState::NOT_NULL_VIOLATION, Some("a"), None),
        ("ALTER TABLE s.t ADD CONSTRAINT none CHECK (a > 1)", SqlState::CHECK_VIOLATION, None, Some("none")),
    ] {
        let error = client.batch_execute(text).await.unwrap_err();
        let error = error.as_db_error().unwrap();
        assert_eq!(error.code(), &code, "{text}");
        assert_eq!((error.schema(), error.table()), (Some("s"), Some("t")), "{text}");
        assert_eq!((error.column(), error.constraint()), (column, constraint), "{text}");
    }
    running.server.shutdown().await.unwrap();
}

/// Another session's notifications come while this one does nothing; within a transaction they wait for its end.
#[tokio::test(flavor = "multi_thread")]
async fn notifications_come_by_themselves() {
    let running = common::start(|_| ()).await;
    let address = running.server.pg_addr;
    let options = format!("host={} port={} user=me dbname=millrace", address.ip(), address.port());
    let (listener, mut connection) = tokio_postgres::connect(&options, NoTls).await.unwrap();
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Some(Ok(message)) = std::future::poll_fn(|context| connection.poll_message(context)).await {
            if let tokio_postgres::AsyncMessage::Notification(n) = message {
                let _ = tell.send((n.channel().to_string(), n.payload().to_string()));
            }
        }
    });
    let other = connect(&running).await;
    let sent = |payload: &str| ("jobs".to_string(), payload.to_string());
    let mut soon = async || tokio::time::timeout(Duration::from_secs(20), told.recv()).await.unwrap().unwrap();
    listener.batch_execute("LISTEN jobs").await.unwrap();
    other.execute("SELECT pg_notify($1, $2)", &[&"jobs", &"1"]).await.unwrap();
    assert_eq!(soon().await, sent("1"));
    other.batch_execute("BEGIN; NOTIFY jobs, '2'; NOTIFY other, 'x'; ROLLBACK; NOTIFY jobs, '3'").await.unwrap();
    assert_eq!(soon().await, sent("3"));
    listener.batch_execute("BEGIN; SELECT 1").await.unwrap();
    other.batch_execute("NOTIFY jobs, '4'").await.unwrap();
    listener.batch_execute("NOTIFY jobs, '5'; COMMIT").await.unwrap();
    assert_eq!((soon().await, soon().await), (sent("4"), sent("5")));
    running.server.shutdown().await.unwrap();
}

/// More sessions wait for a lock than there are threads, and the one that has it can still give it back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn waiting_for_an_advisory_lock_holds_nobody_up() {
    let running = common::start(|_| ()).await;
    let first = connect(&running).await;
    first.execute("SELECT pg_advisory_lock($1)", &[&7i64]).await.unwrap();
    let mut waiters = Vec::new();
    for _ in 0..8 {
        let waiter = connect(&running).await;
        waiters.push(tokio::spawn(async move {
            waiter.batch_execute("BEGIN; SELECT pg_advisory_xact_lock(7); COMMIT").await.unwrap();
        }));
    }
    let waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted";
    while first.query_one(waiting, &[]).await.unwrap().get::<_, i64>(0) < 8 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // One that is cancelled waits no more, and the others still do.
    let impatient = connect(&running).await;
    let cancel = impatient.cancel_token();
    let cancelled = tokio::spawn(async move { impatient.batch_execute("SELECT pg_advisory_lock(7)").await });
    while first.query_one(waiting, &[]).await.unwrap().get::<_, i64>(0) < 9 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    cancel.cancel_query(NoTls).await.unwrap();
    assert_eq!(cancelled.await.unwrap().unwrap_err().code(), Some(&SqlState::QUERY_CANCELED));
    // It goes with its session.
    drop(first);
    for waiter in waiters {
        tokio::time::timeout(Duration::from_secs(20), waiter).await.unwrap().unwrap();
    }
    running.server.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn columns_say_whose_they_are() {
    let running = common::start(|_| ()).await;
    let client = connect(&running).await;
    client.batch_execute("CREATE TABLE t (id int, v text); CREATE VIEW w AS SELECT v FROM t").await.unwrap();
    let oid: u32 = client.query_one("SELECT 't'::regclass::oid", &[]).await.unwrap().get(0);
    for (query, expected) in [
        ("SELECT v, id + 1, id AS x FROM t", vec![Some(2), None, Some(1)]),
        ("SELECT q.v, count(*) FROM (SELECT * FROM t ORDER BY id LIMIT 3) q GROUP BY q.v", vec![Some(2), None]),
        ("SELECT a.id, b.v FROM t a LEFT JOIN t b ON a.id = b.id", vec![Some(1), Some(2)]),
        ("SELECT v FROM t UNION SELECT v FROM t", vec![None]),
        ("SELECT v FROM w", vec![None]),
    ] {
        let statement = client.prepare(query).await.unwrap();
        let columns: Vec<_> = statement.columns().iter().map(|c| (c.table_oid(), c.column_id())).collect();
        let expected: Vec<_> = expected.into_iter().map(|column| (column.map(|_| oid), column)).collect();
        assert_eq!(columns, expected, "{query}");
    }
    running.server.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_connect() {
    let running = common::start(|options| options.max_connections = Some(2)).await;
    let code = |result: Result<Client, tokio_postgres::Error>| result.err().and_then(|e| e.code().cloned());
    assert_eq!(code(try_connect(&running, "user=me dbname=nosuch").await), Some(SqlState::INVALID_CATALOG_NAME));
    let setting = "user=me dbname=postgres options='-c nosuch=1'";
    assert_eq!(code(try_connect(&running, setting).await), Some(SqlState::UNDEFINED_OBJECT));
    let first = try_connect(&running, "user=me dbname=postgres options='-c application_name=it'").await.unwrap();
    let row = first.query_one("SHOW application_name", &[]).await.unwrap();
    assert_eq!(row.get::<_, &str>(0), "it");
    let _second = connect(&running).await;
    assert_eq!(code(try_connect(&running, "user=me dbname=millrace").await), Some(SqlState::TOO_MANY_CONNECTIONS));
    drop(first);
    // The place is free once the server has seen that the client is gone.
    let mut third = try_connect(&running, "user=me dbname=millrace").await;
    for _ in 0..100 {
        if third.is_ok() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
        third = try_connect(&running, "user=me dbname=millrace").await;
    }
    third.unwrap();
    running.server.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_keeps_what_was_written() {
    let running = common::start(|_| ()).await;
    let client = connect(&running).await;
    client.batch_execute("CREATE TABLE kept (id int PRIMARY KEY); INSERT INTO kept VALUES (1), (2)").await.unwrap();
    let directory = running.directory;
    running.server.shutdown().await.unwrap();
    assert!(client.simple_query("SELECT 1").await.is_err(), "the connection was ended");
    let again = common::start(|options| options.data_dir = Some(directory.path().to_path_buf())).await;
    let client = connect(&again).await;
    let count: i64 = client.query_one("SELECT count(*) FROM kept", &[]).await.unwrap().get(0);
    assert_eq!(count, 2);
    again.server.shutdown().await.unwrap();
}
