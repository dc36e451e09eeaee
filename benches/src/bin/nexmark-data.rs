//! Writes Nexmark's events to files: `nexmark-data --events 1000000 --csv DIR`.

use std::path::PathBuf;

use clap::Parser;
use millrace_benches::events::{self, Error, Format};

#[global_allocator]
static ALLOCATOR: millrace_engine::allocator::Allocator = millrace_engine::allocator::Allocator;

/// Writes person, auction and bid, as Parquet or as CSV with a header.
#[derive(Parser)]
struct Args {
    directory: PathBuf,
    /// Events of all three tables: 1 person, 3 auctions and 46 bids of every 50.
    #[arg(long, default_value_t = 1_000_000)]
    events: u64,
    /// CSV instead of Parquet.
    #[arg(long)]
    csv: bool,
}

fn main() -> Result<(), Error> {
    let args = Args::parse();
    events::write(&args.directory, args.events, if args.csv { Format::Csv } else { Format::Parquet })
}
