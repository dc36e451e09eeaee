//! The other side of the comparison: one batch run of a query with DataFusion, on one thread, from the files
//! to the full result in memory.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::datasource::MemTable;
use datafusion::logical_expr::LogicalPlan;
use datafusion::prelude::{CsvReadOptions, ParquetReadOptions, SessionConfig, SessionContext};

use millrace_engine::connectors::nexmark::Table;

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

/// For each table that `query` reads, the columns that it needs, in the table's order.
pub fn needed_columns(query: &Query, files: &[TableFile]) -> Result<Vec<(Table, BTreeSet<usize>)>, Error> {
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    runtime.block_on(async {
        let context = SessionContext::new();
        for file in files {
            let nothing = MemTable::try_new(file.table.schema(), vec![vec![]])?;
            context.register_table(file.table.name(), Arc::new(nothing))?;
        }
        let plan = context.state().optimize(context.sql(query.batch_sql()).await?.logical_plan())?;
        let mut needed: Vec<(Table, BTreeSet<usize>)> =
            files.iter().map(|file| (file.table, BTreeSet::new())).collect();
        plan.apply_with_subqueries(|node| {
            if let LogicalPlan::TableScan(scan) = node {
                let (table, columns) = needed
                    .iter_mut()
                    .find(|(table, _)| table.name() == scan.table_name.table())
                    .expect("registered above");
                match &scan.projection {
                    Some(projection) => columns.extend(projection),
                    None => columns.extend(0..table.schema().fields().len()),
                }
            }
            Ok(TreeNodeRecursion::Continue)
        })?;
        Ok(needed)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events;
    use crate::queries::named;

    #[test]
    fn columns_that_no_one_reads_are_known() {
        let directory = tempfile::tempdir().unwrap();
        events::write(directory.path(), 100, Format::Parquet).unwrap();
        let files = [Table::Auction, Table::Bid].map(|table| events::find(directory.path(), table).unwrap());
        let query = named("q4").unwrap()[0];
        let needed = needed_columns(query, &files).unwrap();
        assert_eq!(needed[0], (Table::Auction, [0, 5, 6, 8].into()), "id, date_time, expires, category");
        assert_eq!(needed[1], (Table::Bid, [0, 2, 5].into()), "auction, price, date_time");
    }

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
