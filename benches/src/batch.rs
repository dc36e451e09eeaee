//! The other side of the comparison: one batch run of a query with DataFusion, on one thread, from the files
//! to the full result in memory.

use std::time::Instant;

use datafusion::prelude::{CsvReadOptions, ParquetReadOptions, SessionConfig, SessionContext};

use crate::events::{Error, Format, TableFile};
use crate::queries::Query;
use crate::sums::Sums;
use crate::usage;

#[derive(Debug)]
pub struct BatchRun {
    pub sums: Sums,
    pub wall_s: f64,
    pub cpu_s: f64,
    pub peak_rss_bytes: u64,
}

/// Runs `query` once. Measured: planning, reading the files, and everything until the rows are in memory.
pub fn run(query: &Query, files: &[TableFile]) -> Result<BatchRun, Error> {
    // Current-thread, so that one thread does it all; reading happens on a blocking thread, one at a time.
    let runtime = tokio::runtime::Builder::new_current_thread().max_blocking_threads(1).enable_all().build()?;
    runtime.block_on(async {
        let began = (Instant::now(), usage::process_cpu_s());
        let context = SessionContext::new_with_config(SessionConfig::new().with_target_partitions(1));
        for file in files {
            let path = file.path.to_str().ok_or("the path is not UTF-8")?;
            match file.format {
                Format::Parquet => {
                    context.register_parquet(file.table.name(), path, ParquetReadOptions::default()).await?
                }
                Format::Csv => {
                    let schema = file.table.schema();
                    let options = CsvReadOptions::new().has_header(true).schema(&schema);
                    context.register_csv(file.table.name(), path, options).await?
                }
            }
        }
        for file in files.iter().filter(|file| file.rows < file.rows_in_file) {
            let name = file.table.name();
            let head = context.table(name).await?.limit(0, Some(file.rows as usize))?.into_view();
            context.deregister_table(name)?;
            context.register_table(name, head)?;
        }
        let result = context.sql(query.batch_sql()).await?.collect().await?;
        let (wall_s, cpu_s) = (began.0.elapsed().as_secs_f64(), usage::process_cpu_s() - began.1);
        let peak_rss_bytes = usage::peak_rss_bytes();
        let mut sums = Sums::default();
        for batch in &result {
            sums.add(batch)?;
        }
        Ok(BatchRun { sums, wall_s, cpu_s, peak_rss_bytes })
    })
}

#[cfg(test)]
mod tests {
    use millrace_engine::connectors::nexmark::Table;

    use super::*;
    use crate::events;
    use crate::queries::named;

    #[test]
    fn every_query_gives_rows_from_both_formats() {
        let files = |format| {
            let directory = tempfile::tempdir().unwrap();
            events::write(directory.path(), 20_000, format).unwrap();
            let files = Table::ALL.map(|table| events::find(directory.path(), table).unwrap());
            (directory, files)
        };
        let ((_p, parquet), (_c, csv)) = (files(Format::Parquet), files(Format::Csv));
        for query in named("all").unwrap() {
            let [one, other] =
                [&parquet, &csv].map(|files| run(query, files).unwrap_or_else(|e| panic!("{}: {e}", query.name)));
            assert!(one.sums.rows > 0, "{} gives rows", query.name);
            assert!(one.sums.agrees(&other.sums), "{}: {:?} {:?}", query.name, one.sums, other.sums);
        }
    }
}
