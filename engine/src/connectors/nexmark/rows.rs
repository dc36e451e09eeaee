//! The crate's events as Arrow arrays, one per column of a table, in the order of [`Table`]'s columns.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, StringBuilder, TimestampMicrosecondArray};
use nexmark::EventGenerator;
use nexmark::config::NexmarkConfig;
use nexmark::event::Event;

use super::Settings;
use super::table::{ROUND, Table};

/// The ids of the first person and of the first auction.
const FIRST_ID: u64 = 1000;
/// A seed moves the sequence by this many rounds: further than any run goes.
const ROUNDS_PER_SEED: u64 = 1_000_000_000;

/// Makes a table's rows, one after the other from some row on.
pub(super) struct Rows {
    table: Table,
    events: EventGenerator,
    ids: Ids,
}

impl Rows {
    pub(super) fn new(table: Table, settings: &Settings, row: u64) -> Self {
        let events = EventGenerator::new(config(settings)).with_type_filter(table.event_type()).with_offset(row);
        Rows { table, events, ids: Ids { rounds_shifted: settings.seed * ROUNDS_PER_SEED } }
    }

    /// The next `rows` rows; the first is row `row`.
    pub(super) fn next(&mut self, row: u64, rows: usize) -> Vec<ArrayRef> {
        match self.table {
            Table::Person => self.persons(row, rows),
            Table::Auction => self.auctions(row, rows),
            Table::Bid => self.bids(row, rows),
        }
    }

    fn persons(&mut self, row: u64, rows: usize) -> Vec<ArrayRef> {
        let mut id = Vec::with_capacity(rows);
        let mut time = Vec::with_capacity(rows);
        let [mut name, mut email, mut card, mut city, mut state, mut extra] =
            [14, 18, 19, 12, 2, 130].map(|bytes| StringBuilder::with_capacity(rows, rows * bytes));
        let ids = self.ids;
        for (number, event) in (row..).zip(self.events.by_ref().take(rows)) {
            let Event::Person(person) = event else { unreachable!("the generator filters by type") };
            id.push(ids.person(person.id, self.table.event_of(number)));
            name.append_value(person.name);
            email.append_value(person.email_address);
            card.append_value(person.credit_card);
            city.append_value(person.city);
            state.append_value(person.state.to_ascii_uppercase());
            time.push(person.date_time as i64 * 1000);
            extra.append_value(person.extra);
        }
        vec![ints(id), text(name), text(email), text(card), text(city), text(state), times(time), text(extra)]
    }

    fn auctions(&mut self, row: u64, rows: usize) -> Vec<ArrayRef> {
        let [mut id, mut initial_bid, mut reserve, mut time, mut expires, mut seller, mut category] =
            [(); 7].map(|()| Vec::with_capacity(rows));
        let [mut name, mut description, mut extra] =
            [20, 100, 360].map(|bytes| StringBuilder::with_capacity(rows, rows * bytes));
        let ids = self.ids;
        for (number, event) in (row..).zip(self.events.by_ref().take(rows)) {
            let Event::Auction(auction) = event else { unreachable!("the generator filters by type") };
            let number = self.table.event_of(number);
            id.push(ids.auction(auction.id, number));
            name.append_value(auction.item_name);
            description.append_value(auction.description);
            initial_bid.push(auction.initial_bid as i64);
            reserve.push(auction.reserve as i64);
            time.push(auction.date_time as i64 * 1000);
            expires.push(auction.expires as i64 * 1000);
            seller.push(ids.person(auction.seller, number));
            category.push(auction.category as i64);
            extra.append_value(auction.extra);
        }
        let head = vec![ints(id), text(name), text(description), ints(initial_bid), ints(reserve)];
        [head, vec![times(time), times(expires), ints(seller), ints(category), text(extra)]].concat()
    }

    fn bids(&mut self, row: u64, rows: usize) -> Vec<ArrayRef> {
        let [mut auction, mut bidder, mut price, mut time] = [(); 4].map(|()| Vec::with_capacity(rows));
        let [mut channel, mut url, mut extra] =
            [12, 64, 70].map(|bytes| StringBuilder::with_capacity(rows, rows * bytes));
        let ids = self.ids;
        for (number, event) in (row..).zip(self.events.by_ref().take(rows)) {
            let Event::Bid(bid) = event else { unreachable!("the generator filters by type") };
            let number = self.table.event_of(number);
            auction.push(ids.auction(bid.auction, number));
            bidder.push(ids.person(bid.bidder, number));
            price.push(bid.price as i64);
            channel.append_value(bid.channel);
            url.append_value(bid.url);
            time.push(bid.date_time as i64 * 1000);
            extra.append_value(bid.extra);
        }
        vec![ints(auction), ints(bidder), ints(price), text(channel), text(url), times(time), text(extra)]
    }
}

pub(super) fn config(settings: &Settings) -> NexmarkConfig {
    let mut config = NexmarkConfig {
        base_time: (settings.start_time_us / 1000) as u64,
        first_event_id: (settings.seed * ROUNDS_PER_SEED * ROUND) as usize,
        ..NexmarkConfig::default()
    };
    if let Some(rate) = settings.rate_milli {
        // The crate's events are 1,000,000 / first_rate µs apart; a rate below one a second scales the million.
        let (rate, us_per_unit) = match rate {
            1000.. => ((rate + 500) / 1000, 1_000_000),
            _ => (1, 1_000_000_000 / rate),
        };
        (config.first_rate, config.next_rate) = (rate as usize, rate as usize);
        config.us_per_unit = us_per_unit as usize;
    }
    config
}

/// The crate takes an event's id as the seed of its random numbers, and makes persons' and auctions' ids
/// from it. So a seed is a shift of all ids, taken back here. What refers to before the first row (a
/// bidder among the 1,000 newest persons) is folded onto the rows that there are.
#[derive(Clone, Copy)]
struct Ids {
    rounds_shifted: u64,
}

impl Ids {
    fn person(self, id: usize, event: u64) -> i64 {
        Self::unshift(id, self.rounds_shifted, event / ROUND + 1)
    }
    fn auction(self, id: usize, event: u64) -> i64 {
        Self::unshift(id, self.rounds_shifted * 3, event / ROUND * 3 + 1)
    }
    fn unshift(id: usize, shift: u64, existing: u64) -> i64 {
        let index = id as u64 - FIRST_ID;
        let index = if index >= shift { index - shift } else { (shift - index) % existing };
        (index + FIRST_ID) as i64
    }
}

fn ints(values: Vec<i64>) -> ArrayRef {
    Arc::new(Int64Array::from(values))
}
fn times(values: Vec<i64>) -> ArrayRef {
    Arc::new(TimestampMicrosecondArray::from(values))
}
fn text(mut values: StringBuilder) -> ArrayRef {
    Arc::new(values.finish())
}
