//! The Nexmark benchmark's auction house: persons, auctions and bids, 1 : 3 : 46, from the crate `nexmark`.
//!
//! ```sql
//! CREATE STREAM bid WITH (connector = 'nexmark', table = 'bid', count = 1000000);
//! ```
//!
//! Event *n* is a pure function of its number and the settings, so several streams with the same settings
//! are slices of one sequence of events, and a source goes on anywhere.
//!
//! `rate` is that of the whole sequence and also how fast `date_time` advances (10,000 a second without
//! one); `count` is the number of events of all three tables. States are in upper case, as in Nexmark's SQL.

mod rows;
mod table;

use arrow::array::RecordBatch;
use arrow::compute::cast;
use arrow::datatypes::SchemaRef;

use self::rows::Rows;
pub use self::table::Table;
use super::options::{self, Options};
use super::pace::Pace;
use super::{Polled, Source};
use crate::catalog::Column;
use crate::error::{Error, Result};

/// 2015-07-15 00:00:00 UTC, the generator's customary first moment.
const START_TIME_US: i64 = 1_436_918_400_000_000;
const SEED_MAX: u64 = 1_000_000;

const OPTIONS: &[&str] = &["table", "rate", "count", "seed", "start_time"];
const ALIASES: &[(&str, &str)] =
    &[("nexmark.table.type", "table"), ("nexmark.event.num", "count"), ("nexmark.start_time", "start_time")];

pub(super) fn check_names(given: &Options, general: &[&str]) -> Result<()> {
    let aliases: Vec<&str> = ALIASES.iter().map(|(theirs, _)| *theirs).collect();
    options::check_names("nexmark source", given, &[OPTIONS, general, &aliases])
}

pub(super) fn default_columns(given: &Options) -> Result<Vec<Column>> {
    let options = options::canonical(given, ALIASES)?;
    let columns = named_table(&options)?.columns().iter().map(|(name, data_type)| Column {
        name: name.to_string(),
        sql_type: table::sql_type(data_type).to_string(),
        nullable: true,
        default: None,
        identity: None,
        generated: None,
        absent: None,
    });
    Ok(columns.collect())
}

fn named_table(options: &Options) -> Result<Table> {
    let hint = "One of person, auction, bid.";
    let name = options
        .get("table")
        .ok_or_else(|| Error::invalid_value("option \"table\" of connector \"nexmark\" is missing").hint(hint))?;
    let found = Table::ALL.into_iter().find(|t| t.name().eq_ignore_ascii_case(name));
    found.ok_or_else(|| options::invalid("table", name).hint(hint))
}

/// What makes one sequence of events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// Thousandths of an event per second, of all three tables together; `None` is as fast as possible.
    pub rate_milli: Option<u64>,
    /// Events of all three tables; `None` is without end.
    pub count: Option<u64>,
    pub seed: u64,
    pub start_time_us: i64,
}

impl Default for Settings {
    fn default() -> Self {
        Settings { rate_milli: None, count: None, seed: 0, start_time_us: START_TIME_US }
    }
}

/// One table of a sequence of events, from some row on.
pub struct Nexmark {
    table: Table,
    settings: Settings,
    schema: SchemaRef,
    /// For each column of `schema` its index in the table's columns.
    columns: Vec<usize>,
    rows: Rows,
    /// The next row of this table.
    row: u64,
    pace: Pace,
}

impl Nexmark {
    pub(super) fn open(schema: SchemaRef, given: &Options, position: Option<&[u8]>, now_us: i64) -> Result<Self> {
        let options = options::canonical(given, ALIASES)?;
        let mut settings = Settings {
            rate_milli: options::rate_milli(&options, "rate")?,
            count: options::whole(&options, "count")?,
            seed: options::whole(&options, "seed")?.unwrap_or(0),
            start_time_us: START_TIME_US,
        };
        if settings.seed > SEED_MAX {
            return Err(options::invalid("seed", &options["seed"]).hint(format!("At most {SEED_MAX}.")));
        }
        if let Some(text) = options.get("start_time") {
            settings.start_time_us = options::time_us("start_time", text, now_us)?;
            if settings.start_time_us < 0 {
                return Err(options::invalid("start_time", text).hint("Not before 1970."));
            }
        }
        let mut row = 0;
        if let Some(position) = position {
            (row, settings.start_time_us) = decode(position)?;
        }
        Nexmark::new(named_table(&options)?, settings, schema, row, now_us)
    }

    /// The rows of `table` from `row` on, opened at `now_us`; `schema` may leave columns out.
    pub fn new(table: Table, settings: Settings, schema: SchemaRef, row: u64, now_us: i64) -> Result<Self> {
        let columns = schema.fields().iter().map(|field| table::column(table, field)).collect::<Result<_>>()?;
        let pace = Pace::new(settings.rate_milli, table.event_of(row), now_us);
        Ok(Nexmark { table, settings, schema, columns, rows: Rows::new(table, &settings, row), row, pace })
    }

    /// The next `rows` rows, without regard to rate and count.
    fn next_rows(&mut self, rows: usize) -> Result<RecordBatch> {
        let made = self.rows.next(self.row, rows);
        self.row += rows as u64;
        let taken = self.columns.iter().zip(self.schema.fields());
        let arrays = taken.map(|(&column, field)| cast(&made[column], field.data_type()));
        let arrays = arrays.collect::<Result<Vec<_>, _>>().map_err(Error::internal)?;
        RecordBatch::try_new(self.schema.clone(), arrays).map_err(Error::internal)
    }
}

impl Source for Nexmark {
    fn poll(&mut self, now_us: i64, rows_max: usize) -> Result<Polled> {
        let end = self.settings.count.map_or(u64::MAX, |count| self.table.rows_before(count));
        if self.row >= end {
            return Ok(Polled::End);
        }
        let due = match self.settings.rate_milli {
            None => end,
            Some(_) => self.table.rows_before(self.pace.due(now_us)).min(end),
        };
        if self.row >= due {
            return Ok(Polled::Wait(self.pace.wait(self.table.event_of(self.row), now_us)));
        }
        let rows = (due - self.row).min(rows_max.max(1) as u64) as usize;
        self.next_rows(rows).map(Polled::Rows)
    }

    fn position(&self) -> Vec<u8> {
        [&[1u8][..], &self.row.to_le_bytes(), &self.settings.start_time_us.to_le_bytes()].concat()
    }
}

/// A position is a version (1), the next row and the first event's time, little endian.
fn decode(position: &[u8]) -> Result<(u64, i64)> {
    let eight = |at: usize| position.get(at..at + 8).and_then(|b| b.try_into().ok());
    match (position, eight(1), eight(9)) {
        ([1, ..], Some(row), Some(start)) if position.len() == 17 => {
            Ok((u64::from_le_bytes(row), i64::from_le_bytes(start)))
        }
        _ => Err(Error::corrupt("the position of a nexmark source is not one that this version wrote")),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use ::nexmark::EventGenerator;
    use ::nexmark::event::Event;
    use arrow::array::AsArray;
    use arrow::compute::concat_batches;
    use arrow::datatypes::{DataType, Field, Int64Type, Schema, TimeUnit, TimestampMicrosecondType};

    use super::rows::config;
    use super::*;

    fn open(table: Table, settings: Settings) -> Nexmark {
        Nexmark::new(table, settings, table.schema(), 0, 0).unwrap()
    }

    /// All rows of a bounded source, polled `rows_max` at a time.
    fn all(mut source: Nexmark, rows_max: usize) -> RecordBatch {
        let mut batches = Vec::new();
        while let Polled::Rows(batch) = source.poll(0, rows_max).unwrap() {
            batches.push(batch);
        }
        assert!(matches!(source.poll(0, rows_max).unwrap(), Polled::End));
        concat_batches(&source.schema, &batches).unwrap()
    }

    fn column<'a>(batch: &'a RecordBatch, name: &str) -> &'a [i64] {
        batch.column_by_name(name).unwrap().as_primitive::<Int64Type>().values()
    }

    #[test]
    fn tables_share_the_events_1_3_46() {
        let rows = |events| Table::ALL.map(|t| t.rows_before(events));
        assert_eq!((rows(0), rows(1), rows(3), rows(4)), ([0, 0, 0], [1, 0, 0], [1, 2, 0], [1, 3, 0]));
        assert_eq!((rows(50), rows(1_000_000)), ([1, 3, 46], [20_000, 60_000, 920_000]));
        for table in Table::ALL {
            for row in 0..200 {
                let event = table.event_of(row);
                assert_eq!((table.rows_before(event), table.rows_before(event + 1)), (row, row + 1));
            }
        }
    }

    #[test]
    fn rows_are_those_of_the_crate_with_states_in_upper_case() {
        let settings = Settings { count: Some(500), ..Settings::default() };
        let [persons, auctions, bids] = Table::ALL.map(|table| all(open(table, settings), 7));
        let (mut p, mut a, mut b) = (0, 0, 0);
        let text = |batch: &RecordBatch, name: &str, row| {
            batch.column_by_name(name).unwrap().as_string::<i32>().value(row).to_string()
        };
        let time = |batch: &RecordBatch, name: &str, row| {
            batch.column_by_name(name).unwrap().as_primitive::<TimestampMicrosecondType>().value(row) as u64 / 1000
        };
        for event in EventGenerator::new(config(&settings)).take(500) {
            match event {
                Event::Person(e) => {
                    assert_eq!(column(&persons, "id")[p], e.id as i64);
                    assert_eq!(
                        (text(&persons, "name", p), text(&persons, "state", p)),
                        (e.name, e.state.to_uppercase())
                    );
                    assert_eq!((text(&persons, "extra", p), time(&persons, "date_time", p)), (e.extra, e.date_time));
                    p += 1;
                }
                Event::Auction(e) => {
                    assert_eq!(
                        (column(&auctions, "id")[a], column(&auctions, "seller")[a]),
                        (e.id as i64, e.seller as i64)
                    );
                    assert_eq!(
                        (column(&auctions, "reserve")[a], column(&auctions, "category")[a]),
                        (e.reserve as i64, e.category as i64)
                    );
                    assert_eq!(
                        (text(&auctions, "item_name", a), time(&auctions, "expires", a)),
                        (e.item_name, e.expires)
                    );
                    a += 1;
                }
                Event::Bid(e) => {
                    assert_eq!(
                        (column(&bids, "auction")[b], column(&bids, "bidder")[b]),
                        (e.auction as i64, e.bidder as i64)
                    );
                    assert_eq!((column(&bids, "price")[b], time(&bids, "date_time", b)), (e.price as i64, e.date_time));
                    assert_eq!((text(&bids, "channel", b), text(&bids, "url", b)), (e.channel, e.url));
                    b += 1;
                }
            }
        }
        assert_eq!((p, a, b), (persons.num_rows(), auctions.num_rows(), bids.num_rows()));
    }

    #[test]
    fn goes_on_from_any_position_with_the_same_rows() {
        for table in Table::ALL {
            let options: Options = [("table", table.name()), ("count", "3000"), ("seed", "3"), ("start_time", "now")]
                .map(|(k, v)| (k.to_string(), v.to_string()))
                .into();
            let whole = all(Nexmark::open(table.schema(), &options, None, 1_000_000_000_000).unwrap(), 1000);
            let mut batches = Vec::new();
            let mut position = None;
            for step in 1.. {
                let now_us = 1_000_000_000_000 + i64::from(position.is_some()) * 5_000_000;
                let mut source = Nexmark::open(table.schema(), &options, position.as_deref(), now_us).unwrap();
                let Polled::Rows(batch) = source.poll(now_us, step).unwrap() else { break };
                batches.push(batch);
                position = Some(source.position());
            }
            assert_eq!(concat_batches(&whole.schema(), &batches).unwrap(), whole);
        }
        assert_eq!(decode(&[2; 17]).unwrap_err().code, "XX001");
        assert_eq!(decode(&[1; 16]).unwrap_err().code, "XX001");
    }

    #[test]
    fn a_seed_gives_other_events_with_ids_that_refer_to_each_other() {
        let of = |seed| {
            Table::ALL
                .map(|table| all(open(table, Settings { count: Some(20_000), seed, ..Settings::default() }), 4096))
        };
        let [persons, auctions, bids] = of(9);
        assert_ne!(persons, of(0)[0]);
        assert_eq!(persons, of(9)[0]);
        assert_eq!(column(&persons, "id"), (1000..1400).collect::<Vec<i64>>());
        assert_eq!(column(&auctions, "id"), (1000..2200).collect::<Vec<i64>>());
        // Up to ten ids run ahead, as in the benchmark.
        assert!(column(&auctions, "seller").iter().chain(column(&bids, "bidder")).all(|id| (1000..1410).contains(id)));
        assert!(column(&bids, "auction").iter().all(|id| (1000..2210).contains(id)));
    }

    #[test]
    fn a_rate_is_kept() {
        let mut source = open(Table::Bid, Settings { rate_milli: Some(100_000), ..Settings::default() });
        // The first bid is due at once, the 46th 0.45 s later, the 47th after a person and three auctions.
        let Polled::Rows(batch) = source.poll(0, 1000).unwrap() else { panic!("the first is due at once") };
        assert_eq!(batch.num_rows(), 1);
        let Polled::Wait(wait) = source.poll(0, 1000).unwrap() else { panic!("the second is not") };
        assert_eq!(wait, Duration::from_millis(10));
        let Polled::Rows(batch) = source.poll(450_000, 1000).unwrap() else { panic!("due") };
        assert_eq!(batch.num_rows(), 45);
        let Polled::Wait(wait) = source.poll(450_000, 1000).unwrap() else { panic!("not due") };
        assert_eq!(wait, Duration::from_millis(50));
        let mut rows = 46;
        for now_ms in (500..10_450).step_by(50) {
            while let Polled::Rows(batch) = source.poll(now_ms * 1000, 7).unwrap() {
                rows += batch.num_rows();
            }
        }
        // Ten seconds from the first bid, which is event 4, give events 4..=1004.
        assert_eq!(rows as u64, Table::Bid.rows_before(4 + 1040 + 1));
    }

    #[test]
    fn event_time_advances_at_the_rate() {
        let settings = Settings { rate_milli: Some(500), count: Some(200), ..Settings::default() };
        let mut source = open(Table::Person, settings);
        let Polled::Rows(batch) = source.poll(i64::MAX / 4, 3).unwrap() else { panic!("due") };
        let times = batch.column_by_name("date_time").unwrap().as_primitive::<TimestampMicrosecondType>();
        assert_eq!(times.value(1) - times.value(0), 100_000_000, "50 events at one every two seconds");
    }

    #[test]
    fn columns_may_be_left_out_but_not_invented() {
        let some = Arc::new(Schema::new(vec![
            Field::new("price", DataType::Int64, false),
            Field::new("date_time", DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())), true),
        ]));
        let mut source = Nexmark::new(Table::Bid, Settings::default(), some.clone(), 0, 0).unwrap();
        let Polled::Rows(batch) = source.poll(0, 10).unwrap() else { panic!("due") };
        assert_eq!((batch.schema(), batch.num_rows()), (some, 10));
        let error = |name: &str, data_type| {
            let schema = Arc::new(Schema::new(vec![Field::new(name, data_type, true)]));
            Nexmark::new(Table::Bid, Settings::default(), schema, 0, 0).err().unwrap().code
        };
        assert_eq!((error("seller", DataType::Int64), error("price", DataType::Utf8)), ("42703", "42804"));
    }
}
