//! Millrace's side of the comparison: a query as a materialized view, maintained from the first event to the
//! last, epoch by epoch, from the files.

use std::collections::VecDeque;
use std::time::Instant;

use arrow::array::RecordBatch;
use arrow::datatypes::DataType;
use futures::TryStreamExt;
use futures::future::try_join_all;
use millrace_engine::session::Outcome;

use crate::embedded::{self, Embedded, Settings};
use crate::events::{Error, Rows, TableFile, rows_until};
use crate::queries::Query;
use crate::sums::Sums;
use crate::usage;

/// Epochs that may be under way. More would measure the queue; one at a time would measure waiting.
const IN_FLIGHT_MAX: usize = 16;

#[derive(Debug)]
pub struct MaintainRun {
    /// Of the view's rows at the end.
    pub sums: Sums,
    pub epochs: u64,
    pub wall_s: f64,
    /// All of it, reading and decoding the files too.
    pub cpu_s: f64,
    /// Of that, reading and decoding the files.
    pub read_cpu_s: f64,
    /// What an epoch took in each slice, without reading the files; empty if there is but one slice.
    pub slice_epoch_cpu_s: Vec<f64>,
    pub peak_rss_bytes: u64,
    pub state_bytes: u64,
}

/// The input's division in time: into epochs, and these into slices whose CPU time is told apart.
#[derive(Debug, Clone, Copy)]
pub struct Division {
    pub epochs: u64,
    pub slices: u64,
    /// All of it before the measured time.
    pub read_first: bool,
}

/// Maintains `query` over the rows of `files`. Measured: from the first row read, or ingested where all are read before,
/// until the view has closed the last epoch. Unless `checked`, that is all: the state's size and the sums stay zero.
pub fn run(
    query: &Query,
    files: &[TableFile],
    division: Division,
    settings: Settings,
    checked: bool,
) -> Result<MaintainRun, Error> {
    let Division { epochs, slices, read_first } = division;
    let embedded = Embedded::open(settings)?;
    // Without a driver for sockets, which it would ask each time that it waits.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    runtime.block_on(async {
        let engine = &embedded.engine;
        let mut session = embedded.session();
        for file in files {
            embedded::run(&mut session, &create_stream(file)).await?;
        }
        embedded::run(&mut session, &format!("CREATE MATERIALIZED VIEW result AS {}", query.sql)).await?;
        let catalog = engine.catalog();
        let relations =
            files.iter().map(|file| Ok(catalog.find("public", file.table.name()).ok_or("the stream is there")?.id));
        let relations = relations.collect::<Result<Vec<_>, Error>>()?;

        let batch_rows = |file: &TableFile| rows_until(file.rows, 1, epochs).max(1) as usize;
        let readers = files.iter().map(|file| Rows::open(file, batch_rows(file)));
        let mut readers = readers.collect::<Result<Vec<_>, _>>()?;
        // Of each table what is new in an epoch.
        let mut read = |epoch: u64| -> Result<Vec<Vec<RecordBatch>>, Error> {
            let rows =
                |file: &TableFile| rows_until(file.rows, epoch + 1, epochs) - rows_until(file.rows, epoch, epochs);
            files.iter().zip(&mut readers).map(|(file, reader)| reader.take(rows(file) as usize)).collect()
        };
        let mut before = match read_first {
            true => (0..epochs).map(&mut read).collect::<Result<VecDeque<_>, _>>()?,
            false => VecDeque::new(),
        };

        let began = (Instant::now(), usage::process_cpu_s());
        let mut read_cpu_s = 0.0;
        let mut slice_epoch_cpu_s = Vec::new();
        let mut slice_began = (0, began.1);
        let mut in_flight = VecDeque::new();
        for epoch in 0..epochs {
            let reading = usage::thread_cpu_s();
            let rows = match before.pop_front() {
                Some(rows) => rows,
                None => read(epoch)?,
            };
            let of_tables = relations.iter().zip(rows).filter(|(_, batches)| !batches.is_empty());
            let writes: Vec<_> = of_tables.map(|(relation, batches)| engine.ingest(*relation, batches)).collect();
            read_cpu_s += usage::thread_cpu_s() - reading;
            // Asked for together, so that the tables' rows can share an epoch.
            in_flight.extend(try_join_all(writes).await?.into_iter().max());
            if in_flight.len() > IN_FLIGHT_MAX {
                engine.wait_closed(in_flight.pop_front().expect("it has more than none")).await;
            }
            let slice_ends = rows_until(slices, epoch + 1, epochs) > slice_epoch_cpu_s.len() as u64;
            if slices > 1 && slice_ends {
                if let Some(last) = in_flight.drain(..).next_back() {
                    engine.wait_closed(last).await;
                }
                let now = (epoch + 1, usage::process_cpu_s() - read_cpu_s);
                slice_epoch_cpu_s.push((now.1 - slice_began.1) / (now.0 - slice_began.0) as f64);
                slice_began = now;
            }
        }
        if let Some(last) = in_flight.pop_back() {
            engine.wait_closed(last).await;
        }
        let (wall_s, cpu_s) = (began.0.elapsed().as_secs_f64(), usage::process_cpu_s() - began.1);
        let peak_rss_bytes = usage::peak_rss_bytes();
        let mut run = MaintainRun {
            sums: Sums::default(),
            epochs,
            wall_s,
            cpu_s,
            read_cpu_s,
            slice_epoch_cpu_s,
            peak_rss_bytes,
            state_bytes: 0,
        };
        if !checked {
            return Ok(run);
        }

        // State is counted when it is saved.
        engine.checkpoint().await?;
        let status = engine.status();
        let view = status.views.iter().find(|v| v.name == "result").ok_or("the view is there")?;
        if let Some(failure) = &view.failure {
            return Err(failure.message.clone().into());
        }
        run.state_bytes = view.state_bytes;
        let Outcome::Rows { mut rows, .. } = embedded::run(&mut session, "SELECT * FROM result").await? else {
            return Err("SELECT gives rows".into());
        };
        while let Some(batch) = rows.try_next().await? {
            run.sums.add(&batch)?;
        }
        drop(session);
        embedded.engine.shutdown().await?;
        Ok(run)
    })
}

/// The stream for a file's rows.
fn create_stream(file: &TableFile) -> String {
    let columns = file.schema.fields().iter().map(|field| {
        let sql_type = match field.data_type() {
            DataType::Int64 => "bigint",
            DataType::Utf8 => "text",
            _ => "timestamp",
        };
        format!("{} {sql_type}", field.name())
    });
    format!("CREATE STREAM {} ({})", file.table.name(), columns.collect::<Vec<_>>().join(", "))
}
