//! The three tables: their columns, and which events are theirs.
//!
//! ```text
//!   event    0       1..=3     4..=49   50      51..=53   54..=99
//!   table    person  auction   bid      person  auction   bid
//!   row      0       0..=2     0..=45   1       3..=5     46..=91
//! ```

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use nexmark::event::EventType;

use crate::error::{Error, Result};

/// Events come in rounds of 50: one person, three auctions, 46 bids.
pub(super) const ROUND: u64 = 50;
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Table {
    Person,
    Auction,
    Bid,
}

impl Table {
    pub const ALL: [Table; 3] = [Table::Person, Table::Auction, Table::Bid];

    pub fn name(self) -> &'static str {
        match self {
            Table::Person => "person",
            Table::Auction => "auction",
            Table::Bid => "bid",
        }
    }

    pub(super) fn columns(self) -> &'static [(&'static str, DataType)] {
        const INT: DataType = DataType::Int64;
        const TEXT: DataType = DataType::Utf8;
        const TIME: DataType = DataType::Timestamp(TimeUnit::Microsecond, None);
        match self {
            Table::Person => &[
                ("id", INT),
                ("name", TEXT),
                ("email_address", TEXT),
                ("credit_card", TEXT),
                ("city", TEXT),
                ("state", TEXT),
                ("date_time", TIME),
                ("extra", TEXT),
            ],
            Table::Auction => &[
                ("id", INT),
                ("item_name", TEXT),
                ("description", TEXT),
                ("initial_bid", INT),
                ("reserve", INT),
                ("date_time", TIME),
                ("expires", TIME),
                ("seller", INT),
                ("category", INT),
                ("extra", TEXT),
            ],
            Table::Bid => &[
                ("auction", INT),
                ("bidder", INT),
                ("price", INT),
                ("channel", TEXT),
                ("url", TEXT),
                ("date_time", TIME),
                ("extra", TEXT),
            ],
        }
    }

    /// All columns, as the benchmark has them.
    pub fn schema(self) -> SchemaRef {
        let fields = self.columns().iter().map(|(name, data_type)| Field::new(*name, data_type.clone(), true));
        Arc::new(Schema::new(fields.collect::<Vec<_>>()))
    }

    /// Its place in a round, and how many events of a round are its.
    fn share(self) -> (u64, u64) {
        match self {
            Table::Person => (0, 1),
            Table::Auction => (1, 3),
            Table::Bid => (4, 46),
        }
    }

    /// How many rows of this table are among the first `events` events.
    pub fn rows_before(self, events: u64) -> u64 {
        let (first, share) = self.share();
        events / ROUND * share + (events % ROUND).saturating_sub(first).min(share)
    }

    /// The number of the event that is this table's row `row`.
    pub fn event_of(self, row: u64) -> u64 {
        let (first, share) = self.share();
        row / share * ROUND + first + row % share
    }

    pub(super) fn event_type(self) -> EventType {
        match self {
            Table::Person => EventType::Person,
            Table::Auction => EventType::Auction,
            Table::Bid => EventType::Bid,
        }
    }
}

/// The index of `field` among the table's columns.
pub(super) fn column(table: Table, field: &Field) -> Result<usize> {
    let known: Vec<&str> = table.columns().iter().map(|(name, _)| *name).collect();
    let Some(index) = known.iter().position(|name| name == field.name()) else {
        let message = format!("column \"{}\" does not exist in the nexmark table \"{}\"", field.name(), table.name());
        return Err(Error::new("42703", message).hint(format!("Its columns: {}.", known.join(", "))));
    };
    let fits = match (&table.columns()[index].1, field.data_type()) {
        (DataType::Utf8, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View) => true,
        (DataType::Timestamp(..), DataType::Timestamp(TimeUnit::Microsecond, _)) => true,
        (have, want) => have == want,
    };
    if !fits {
        let sql_type = sql_type(&table.columns()[index].1);
        let message = format!("column \"{}\" of a nexmark source must be of type {sql_type}", field.name());
        return Err(Error::new("42804", message));
    }
    Ok(index)
}

pub(super) fn sql_type(data_type: &DataType) -> &'static str {
    match data_type {
        DataType::Int64 => "bigint",
        DataType::Utf8 => "text",
        _ => "timestamp without time zone",
    }
}
