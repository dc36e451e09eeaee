//! What workers are given of each epoch, and how much of it may wait for them.
//!
//! Epochs that come while all workers are busy are taken together, under the last one's header: what a step costs once
//! is then paid once for all of them, and a worker that is behind catches up. So that no answer is of an epoch in
//! between, which no view ever showed, whoever is about to read one says so first (`cuts.rs`).
//!
//! ```text
//!   committed      11 12 13 14 15 16 17
//!   given          11│12 13 14│15 16│17       15 and 16 were committed while 12 to 14 were being taken in
//!   cuts wanted             14                by a SELECT that began when 14 was the last
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Condvar, Mutex, OnceLock};

use arrow::array::Int64Array;
use arrow::compute::concat_batches;

use crate::catalog::RelationId;
use crate::delta::Delta;
use crate::time::{Epoch, EpochHeader};

/// Epochs are taken together as long as they have no more rows than this: beyond, there is little left to save.
const TOGETHER_ROWS_MAX: usize = 8192;
/// The changes of streams and tables in one epoch, or in several.
pub struct EpochInput {
    /// Changes of this epoch and of those that follow up to the header's are in it.
    pub first: Epoch,
    /// Of the last epoch; touched are the relations that any of them touched.
    pub header: Arc<EpochHeader>,
    pub changes: BTreeMap<RelationId, Vec<Delta>>,
    _backlog: Load,
}

/// An input that grows until the first worker takes it. It goes when all have: what is fed next must not keep it.
pub struct Slot {
    growing: Mutex<Option<Growing>>,
    taken: OnceLock<Arc<EpochInput>>,
}

struct Growing {
    first: Epoch,
    last: Arc<EpochHeader>,
    /// By any of them, where there are several.
    touched: BTreeSet<RelationId>,
    changes: BTreeMap<RelationId, Vec<Delta>>,
    rows: usize,
    backlog: Load,
}

impl Growing {
    fn into_input(mut self) -> EpochInput {
        let mut header = self.last;
        if self.first < header.epoch {
            self.changes.values_mut().for_each(join_small);
            header = Arc::new(EpochHeader { touched: self.touched.into_iter().collect(), ..(*header).clone() });
        }
        EpochInput { first: self.first, header, changes: self.changes, _backlog: self.backlog }
    }
}

impl Slot {
    pub fn new(header: Arc<EpochHeader>, changes: BTreeMap<RelationId, Vec<Delta>>, backlog: Load) -> Slot {
        let growing = Growing {
            first: header.epoch,
            touched: header.touched.iter().copied().collect(),
            last: header,
            rows: rows(&changes),
            changes,
            backlog,
        };
        Slot { growing: Mutex::new(Some(growing)), taken: OnceLock::new() }
    }

    /// The same to every worker.
    pub fn take(&self) -> Arc<EpochInput> {
        // Locked until it is there, so that whoever finds nothing growing finds it.
        let mut growing = self.growing.lock().expect("no panic while held");
        if let Some(growing) = growing.take() {
            let _ = self.taken.set(Arc::new(growing.into_input()));
        }
        self.taken.get().expect("a slot is filled when it is made").clone()
    }

    /// Adds the next epoch; returns the first that is in it. Error, with the changes: a worker has taken it already, or
    /// enough is in it. `backlog_bytes_max`: as in [`Load::add`].
    pub fn add(
        &self,
        header: &Arc<EpochHeader>,
        changes: BTreeMap<RelationId, Vec<Delta>>,
        backlog_bytes_max: usize,
    ) -> Result<Epoch, BTreeMap<RelationId, Vec<Delta>>> {
        let mut growing = self.growing.lock().expect("no panic while held");
        let Some(growing) = growing.as_mut() else { return Err(changes) };
        let more = rows(&changes);
        if growing.rows + more > TOGETHER_ROWS_MAX || !growing.backlog.grow(bytes(&changes), backlog_bytes_max) {
            return Err(changes);
        }
        growing.rows += more;
        growing.last = header.clone();
        growing.touched.extend(&header.touched);
        for (relation, deltas) in changes {
            growing.changes.entry(relation).or_default().extend(deltas);
        }
        Ok(growing.first)
    }
}

fn rows(changes: &BTreeMap<RelationId, Vec<Delta>>) -> usize {
    changes.values().flatten().map(Delta::len).sum()
}

pub fn bytes(changes: &BTreeMap<RelationId, Vec<Delta>>) -> usize {
    changes.values().flatten().map(Delta::bytes).sum()
}

/// Many small changes of one relation become one.
pub fn join_small(deltas: &mut Vec<Delta>) {
    if deltas.len() < 2 || deltas.iter().map(Delta::len).sum::<usize>() / deltas.len() > 4096 {
        return;
    }
    let schema = deltas[0].schema();
    let rows = concat_batches(&schema, deltas.iter().map(|d| &d.rows)).expect("one relation's rows");
    let weights = deltas
        .iter()
        .any(|d| d.weights.is_some())
        .then(|| deltas.iter().flat_map(|d| (0..d.len()).map(|row| d.weight(row))).collect::<Int64Array>());
    *deltas = vec![Delta::new(rows, weights)];
}

/// Epochs that workers have been given and that some live view has yet to take in.
#[derive(Default)]
pub struct Backlog {
    size: Mutex<BacklogSize>,
    less: Condvar,
}

#[derive(Default)]
struct BacklogSize {
    epochs: usize,
    bytes: usize,
}

/// An epoch's part of it.
pub struct Load {
    backlog: Arc<Backlog>,
    bytes: usize,
}

impl Load {
    /// Waits while there would be more than `epochs_max` or `bytes_max` with this; one epoch alone may be larger.
    pub fn add(backlog: &Arc<Backlog>, bytes: usize, epochs_max: usize, bytes_max: usize) -> Load {
        let waiting = backlog.size.lock().expect("no panic while held");
        let full =
            |now: &mut BacklogSize| now.epochs > 0 && (now.epochs >= epochs_max || now.bytes + bytes > bytes_max);
        let mut size = backlog.less.wait_while(waiting, full).expect("no panic while held");
        size.epochs += 1;
        size.bytes += bytes;
        Load { backlog: backlog.clone(), bytes }
    }

    /// Whether there is room for so much more, which is then taken.
    fn grow(&mut self, bytes: usize, bytes_max: usize) -> bool {
        let mut size = self.backlog.size.lock().expect("no panic while held");
        let room = size.bytes + bytes <= bytes_max;
        if room {
            size.bytes += bytes;
            self.bytes += bytes;
        }
        room
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        let mut size = self.backlog.size.lock().expect("no panic while held");
        size.epochs -= 1;
        size.bytes -= self.bytes;
        self.backlog.less.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{Int32Array, RecordBatch};
    use arrow::datatypes::{DataType, Field, Schema};
    use futures::TryStreamExt;

    use super::*;
    use crate::engine::{Config, Engine};
    use crate::session::Outcome;

    async fn rows(engine: &Arc<Engine>, text: &str) -> crate::error::Result<Vec<RecordBatch>> {
        let mut session = engine.session("tester", "millrace");
        let mut seen = Vec::new();
        for statement in session.parse(text)? {
            if let (_, Outcome::Rows { rows, .. }) = session.prepare_and_execute(statement).await? {
                seen = rows.try_collect::<Vec<_>>().await?;
            }
        }
        Ok(seen)
    }

    async fn count(engine: &Arc<Engine>, text: &str) -> usize {
        let seen = rows(engine, text).await.unwrap_or_else(|error| panic!("{text}: {error}"));
        seen.iter().map(RecordBatch::num_rows).sum()
    }

    /// While a view keeps the workers busy, small epochs pile up before them. Whatever is read meanwhile is right, of one
    /// epoch, and holds all that was acknowledged.
    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn what_is_read_between_epochs_that_are_taken_together_is_of_one_epoch() {
        for workers in [1, 3] {
            let place = tempfile::tempdir().unwrap();
            // Not synced, so that commits are fast whatever the disk is busy with.
            let config = Config { workers, sync: false, checkpoint_interval: None, ..Config::new(place.path()) };
            let engine = tokio::task::block_in_place(|| Engine::open(config)).unwrap();
            count(
                &engine,
                "CREATE STREAM s (k int, v int); CREATE TABLE t (k int PRIMARY KEY, v int);
                 CREATE MATERIALIZED VIEW per_k AS SELECT k, count(*) AS n FROM s GROUP BY k;
                 CREATE MATERIALIZED VIEW total AS SELECT coalesce(sum(n), 0) AS n FROM per_k;
                 CREATE MATERIALIZED VIEW kept AS SELECT count(*) AS n FROM t;
                 CREATE TABLE f (k int); INSERT INTO f SELECT g % 2 FROM generate_series(1, 100000) AS t(g);
                 CREATE MATERIALIZED VIEW busy AS SELECT count(*) FROM s JOIN f ON s.k % 2 = f.k",
            )
            .await;
            let stream = engine.catalog().find("public", "s").unwrap().id;
            let schema = Arc::new(Schema::new(vec![
                Field::new("k", DataType::Int32, true),
                Field::new("v", DataType::Int32, true),
            ]));
            let put = async |k: i32, v: i32| {
                let columns: Vec<arrow::array::ArrayRef> =
                    vec![Arc::new(Int32Array::from(vec![k])), Arc::new(Int32Array::from(vec![v]))];
                engine.ingest(stream, vec![RecordBatch::try_new(schema.clone(), columns).unwrap()]).await.unwrap()
            };
            for v in 1..=300 {
                put(v % 7, -v).await;
            }
            // Epochs were taken together, and what was between them is not shown.
            let run = engine.core().cuts.last_run();
            let (first, last) = run.expect("committing a row is faster than joining it with 50,000");
            assert!(!engine.core().cuts.holds(first) && engine.core().cuts.holds(last));
            let between = rows(&engine, &format!("SELECT * FROM total AS OF {first}")).await.unwrap_err();
            assert_eq!(between.code, "55000", "{between}");
            assert_eq!(count(&engine, "SELECT * FROM total WHERE n = 300").await, 1);

            let writers = (0..3).map(|writer| {
                let (engine, schema) = (engine.clone(), schema.clone());
                tokio::spawn(async move {
                    for round in 0..300 {
                        let k = Arc::new(Int32Array::from(vec![round % 7]));
                        let v = Arc::new(Int32Array::from(vec![writer * 1000 + round]));
                        let row = RecordBatch::try_new(schema.clone(), vec![k, v]).unwrap();
                        let committed = engine.ingest(stream, vec![row]).await.unwrap();
                        if round % 30 == 0 {
                            let put = format!("INSERT INTO t VALUES ({}, 1)", writer * 1000 + round);
                            count(&engine, &put).await;
                        }
                        if round % 50 == 49 {
                            // One that comes right after has all of it.
                            let at_least = writer_rows(&engine, writer).await;
                            assert_eq!(at_least, round as usize + 1, "acknowledged in epoch {committed}");
                        }
                    }
                })
            });
            let writers: Vec<_> = writers.collect();
            let subscribed = {
                let engine = engine.clone();
                tokio::spawn(async move { rows(&engine, "SUBSCRIBE per_k UP TO 700").await.unwrap() })
            };
            let mut looks = 0;
            while !writers.iter().all(|writer| writer.is_finished()) {
                let torn = "SELECT * FROM total, kept
                     WHERE total.n <> (SELECT count(*) FROM s) OR kept.n <> (SELECT count(*) FROM t)";
                assert_eq!(count(&engine, torn).await, 0, "views and what they are of are of one epoch");
                let twice = "BEGIN; SELECT n FROM total; SELECT * FROM total
                     WHERE n <> (SELECT count(*) FROM s) OR n <> (SELECT sum(n) FROM per_k); COMMIT";
                assert_eq!(count(&engine, twice).await, 0, "also later in a transaction");
                for view in ["per_k", "total", "kept"] {
                    assert_eq!(count(&engine, &format!("VERIFY MATERIALIZED VIEW {view}")).await, 0);
                }
                looks += 1;
                // Each look is a cut.
                tokio::time::sleep(std::time::Duration::from_millis(looks % 5 * 5)).await;
            }
            for writer in writers {
                writer.await.unwrap();
            }
            // Writes that wait together are one epoch: there may be few.
            let mut rows_in = 1200;
            while engine.core().header().epoch < 700 {
                put(1, rows_in).await;
                rows_in += 1;
            }
            assert_eq!(count(&engine, &format!("SELECT * FROM total WHERE n = {rows_in}")).await, 1);
            // Changes up to an epoch are all those up to it.
            let changes = subscribed.await.unwrap();
            let of = |column: &str, batch: &RecordBatch| {
                let column = batch.column_by_name(column).unwrap();
                arrow::compute::cast(column, &DataType::Int64).unwrap().to_data()
            };
            let sum: i64 = changes
                .iter()
                .map(|batch| {
                    let (diff, n) = (Int64Array::from(of("_diff", batch)), Int64Array::from(of("n", batch)));
                    (0..batch.num_rows()).map(|row| diff.value(row) * n.value(row)).sum::<i64>()
                })
                .sum();
            assert_eq!(count(&engine, &format!("SELECT * FROM s OFFSET {sum} AS OF 700")).await, 0);
            assert_ne!(count(&engine, &format!("SELECT * FROM s OFFSET {sum} - 1 AS OF 700")).await, 0);
            engine.shutdown().await.unwrap();
            engine.release().await;
        }
    }

    /// Each is more than half of what may wait for views.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn large_epochs_do_not_wait_for_one_another() {
        let place = tempfile::tempdir().unwrap();
        let memory = Some(256 << 20);
        let config = Config { workers: 2, sync: false, memory, checkpoint_interval: None, ..Config::new(place.path()) };
        let engine = tokio::task::block_in_place(|| Engine::open(config)).unwrap();
        count(&engine, "CREATE STREAM s (v text); CREATE MATERIALIZED VIEW n AS SELECT count(*) AS n FROM s").await;
        for _ in 0..3 {
            let insert = "INSERT INTO s SELECT repeat('x', 200) FROM generate_series(1, 60000)";
            let done = tokio::time::timeout(std::time::Duration::from_secs(60), count(&engine, insert)).await;
            done.expect("nothing is before it that views have not taken in");
        }
        assert_eq!(count(&engine, "SELECT * FROM n WHERE n = 180000").await, 1);
        engine.shutdown().await.unwrap();
    }

    async fn writer_rows(engine: &Arc<Engine>, writer: i32) -> usize {
        let own = format!("v >= {} AND v < {}", writer * 1000, (writer + 1) * 1000);
        let in_stream = count(engine, &format!("SELECT * FROM s WHERE {own}")).await;
        let torn = count(engine, "SELECT * FROM total WHERE n <> (SELECT count(*) FROM s)").await;
        assert_eq!(torn, 0);
        in_stream
    }

    #[test]
    fn a_slot_is_the_same_to_all_and_grows_until_it_is_taken() {
        let header = |epoch, touched: &[RelationId]| {
            Arc::new(EpochHeader { epoch, touched: touched.into(), ..Default::default() })
        };
        let one = |value: i32| {
            let schema = Arc::new(Schema::new(vec![Field::new("v", DataType::Int32, true)]));
            let row = RecordBatch::try_new(schema, vec![Arc::new(Int32Array::from(vec![value]))]).unwrap();
            BTreeMap::from([(7, vec![Delta::inserts(row)])])
        };
        let backlog = Arc::new(Backlog::default());
        let slot = Slot::new(header(5, &[7]), one(1), Load::add(&backlog, bytes(&one(1)), 10, 1000));
        assert_eq!(slot.add(&header(6, &[9]), BTreeMap::new(), 1000).unwrap(), 5);
        assert_eq!(slot.add(&header(7, &[7]), one(2), 1000).unwrap(), 5);
        assert!(slot.add(&header(8, &[7]), one(2), 1).is_err(), "too many bytes");
        let taken = slot.take();
        assert_eq!((taken.first, taken.header.epoch, &taken.header.touched[..]), (5, 7, &[7, 9][..]));
        assert_eq!(taken.changes[&7].iter().map(Delta::len).collect::<Vec<_>>(), [2]);
        assert!(slot.add(&header(8, &[7]), one(3), 1000).is_err(), "it has been taken");
        assert!(Arc::ptr_eq(&taken, &slot.take()));
        assert_eq!(backlog.size.lock().unwrap().bytes, bytes(&taken.changes).max(2 * bytes(&one(1))));
        drop((taken, slot));
        assert_eq!(backlog.size.lock().unwrap().bytes, 0);
    }
}
