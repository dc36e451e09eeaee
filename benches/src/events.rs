//! Nexmark's events in files: `person`, `auction` and `bid`, each as Parquet or CSV with a header, in the
//! order in which they happened.
//!
//! An epoch of *n* events is cut from each table in proportion to its rows, which for the generator's events
//! (1 : 3 : 46) is exactly events `e·n .. (e+1)·n`:
//!
//! ```text
//!   100,000 events, epochs of 10,000      person 0..200   200..400   …
//!                                         bid    0..9200  9200..18400 …
//! ```

use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::{cast, concat_batches};
use arrow::datatypes::SchemaRef;
use millrace_engine::connectors::nexmark::{Nexmark, Settings, Table};
use millrace_engine::connectors::{Polled, Source};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::arrow::{ArrowWriter, ProjectionMask};
use parquet::basic::Compression;
use parquet::file::properties::WriterProperties;

pub type Error = Box<dyn std::error::Error + Send + Sync>;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    Parquet,
    Csv,
}

/// Where a table's rows are, and which of them to take.
#[derive(Debug, Clone)]
pub struct TableFile {
    pub table: Table,
    pub path: PathBuf,
    pub format: Format,
    pub rows_in_file: u64,
    /// How many of them to take, from the first on.
    pub rows: u64,
    /// The columns to take: all of the table's, or some.
    pub schema: SchemaRef,
}

/// Writes the first `events` events, all three tables.
pub fn write(directory: &Path, events: u64, format: Format) -> Result<(), Error> {
    std::fs::create_dir_all(directory)?;
    for table in Table::ALL {
        let settings = Settings { count: Some(events), ..Settings::default() };
        let mut source = Nexmark::new(table, settings, table.schema(), 0, 0)?;
        let extension = match format {
            Format::Parquet => "parquet",
            Format::Csv => "csv",
        };
        let file = File::create(directory.join(format!("{}.{extension}", table.name())))?;
        let mut next = || -> Result<Option<RecordBatch>, Error> {
            match source.poll(0, 16_384)? {
                Polled::Rows(batch) => Ok(Some(batch)),
                Polled::Wait(_) | Polled::End => Ok(None),
            }
        };
        match format {
            Format::Parquet => {
                let properties = WriterProperties::builder()
                    .set_compression(Compression::SNAPPY)
                    .set_max_row_group_row_count(Some(131_072))
                    .build();
                let mut writer = ArrowWriter::try_new(file, table.schema(), Some(properties))?;
                while let Some(batch) = next()? {
                    writer.write(&batch)?;
                }
                writer.close()?;
            }
            Format::Csv => {
                let mut writer = arrow::csv::Writer::new(std::io::BufWriter::new(file));
                while let Some(batch) = next()? {
                    writer.write(&batch)?;
                }
            }
        }
    }
    Ok(())
}

/// The file of `table` in `directory`: Parquet if there is one, else CSV.
pub fn find(directory: &Path, table: Table) -> Result<TableFile, Error> {
    let parquet = directory.join(format!("{}.parquet", table.name()));
    if parquet.exists() {
        let rows =
            ParquetRecordBatchReaderBuilder::try_new(File::open(&parquet)?)?.metadata().file_metadata().num_rows();
        return Ok(TableFile {
            table,
            path: parquet,
            format: Format::Parquet,
            rows_in_file: rows as u64,
            rows: rows as u64,
            schema: table.schema(),
        });
    }
    let csv = directory.join(format!("{}.csv", table.name()));
    if csv.exists() {
        let mut rows = 0;
        for batch in open_csv(&csv, table, None, 65_536)? {
            rows += batch?.num_rows() as u64;
        }
        return Ok(TableFile {
            table,
            path: csv,
            format: Format::Csv,
            rows_in_file: rows,
            rows,
            schema: table.schema(),
        });
    }
    Err(format!("{} has neither {}.parquet nor {}.csv", directory.display(), table.name(), table.name()).into())
}

type Batches = Box<dyn Iterator<Item = Result<RecordBatch, arrow::error::ArrowError>> + Send>;

fn open_csv(path: &Path, table: Table, columns: Option<Vec<usize>>, batch_rows: usize) -> Result<Batches, Error> {
    let builder = arrow::csv::ReaderBuilder::new(table.schema()).with_header(true).with_batch_size(batch_rows);
    let builder = match columns {
        Some(columns) => builder.with_projection(columns),
        None => builder,
    };
    Ok(Box::new(builder.build(BufReader::with_capacity(1 << 20, File::open(path)?))?))
}

/// A table's rows, in the chunks in which epochs take them.
pub struct Rows {
    schema: SchemaRef,
    batches: Batches,
    /// What is left of the last batch that was read.
    rest: Option<RecordBatch>,
}

/// A file is read in batches of this at least: what a smaller one costs is the reader's, not the engine's.
const READ_ROWS_MIN: usize = 8192;

impl Rows {
    /// `batch_rows` is a hint: how many rows are usually taken at once. Where that is few, they are slices of what was read.
    pub fn open(file: &TableFile, batch_rows: usize) -> Result<Self, Error> {
        let batch_rows = batch_rows.max(READ_ROWS_MIN);
        let schema = file.schema.clone();
        let names = || schema.fields().iter().map(|field| field.name().as_str());
        let batches: Batches = match file.format {
            Format::Csv => {
                let all = file.table.schema();
                let columns = names().map(|name| all.index_of(name)).collect::<Result<_, _>>()?;
                open_csv(&file.path, file.table, Some(columns), batch_rows)?
            }
            Format::Parquet => {
                let builder = ParquetRecordBatchReaderBuilder::try_new(File::open(&file.path)?)?;
                let columns = ProjectionMask::columns(builder.parquet_schema(), names());
                Box::new(builder.with_projection(columns).with_batch_size(batch_rows).build()?)
            }
        };
        Ok(Rows { schema, batches, rest: None })
    }

    /// The next `rows` rows, or as many as there are, as few batches.
    pub fn take(&mut self, rows: usize) -> Result<Vec<RecordBatch>, Error> {
        let (mut taken, mut missing) = (Vec::new(), rows);
        while missing > 0 {
            let batch = match self.rest.take() {
                Some(batch) => batch,
                None => match self.batches.next() {
                    Some(batch) => conform(batch?, &self.schema)?,
                    None => break,
                },
            };
            let now = missing.min(batch.num_rows());
            if now < batch.num_rows() {
                self.rest = Some(batch.slice(now, batch.num_rows() - now));
            }
            missing -= now;
            taken.push(batch.slice(0, now));
        }
        match taken.len() {
            0 | 1 => Ok(taken),
            _ => Ok(vec![concat_batches(&self.schema, &taken)?]),
        }
    }
}

/// The columns of `schema` by name, in its types (files from elsewhere may have milliseconds, or views).
fn conform(batch: RecordBatch, schema: &SchemaRef) -> Result<RecordBatch, Error> {
    if batch.schema_ref().fields() == schema.fields() {
        return Ok(batch);
    }
    let column = |name: &str| batch.column_by_name(name).ok_or_else(|| format!("a file lacks the column {name}"));
    let columns = schema.fields().iter().map(|field| Ok(cast(column(field.name())?, field.data_type())?));
    Ok(RecordBatch::try_new(Arc::clone(schema), columns.collect::<Result<_, Error>>()?)?)
}

/// How many of a table's rows are in the first `epochs` of `epochs_total`.
pub fn rows_until(rows: u64, epochs: u64, epochs_total: u64) -> u64 {
    (u128::from(rows) * u128::from(epochs) / u128::from(epochs_total.max(1))) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_in_any_steps() {
        for format in [Format::Parquet, Format::Csv] {
            let directory = tempfile::tempdir().unwrap();
            write(directory.path(), 5_000, format).unwrap();
            for table in Table::ALL {
                let file = find(directory.path(), table).unwrap();
                assert_eq!((file.format, file.rows), (format, table.rows_before(5_000)));
                let mut rows = Rows::open(&file, 64).unwrap();
                let mut parts = Vec::new();
                for step in 1.. {
                    match rows.take(step).unwrap().pop() {
                        Some(batch) => parts.push(batch),
                        None => break,
                    }
                }
                assert!(parts.iter().take(5).enumerate().all(|(i, batch)| batch.num_rows() == i + 1));
                let read = concat_batches(&table.schema(), &parts).unwrap();
                let some = Arc::new(table.schema().project(&[1, 4]).unwrap());
                let mut rows = Rows::open(&TableFile { schema: some, ..file.clone() }, 64).unwrap();
                assert_eq!(rows.take(3).unwrap(), [read.slice(0, 3).project(&[1, 4]).unwrap()]);
                let mut source = Nexmark::new(table, Settings::default(), table.schema(), 0, 0).unwrap();
                let Polled::Rows(made) = source.poll(0, file.rows as usize).unwrap() else {
                    panic!("without a rate all are due")
                };
                assert_eq!(read, made);
            }
        }
    }

    #[test]
    fn epochs_divide_the_rows() {
        assert_eq!([0, 1, 2, 10].map(|e| rows_until(92_000, e, 10)), [0, 9_200, 18_400, 92_000]);
        assert_eq!([0, 1, 2, 3].map(|e| rows_until(10, e, 3)), [0, 3, 6, 10]);
    }
}
