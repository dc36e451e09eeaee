//! The Nexmark queries, from `queries/*.sql`: in Millrace's dialect, and where DataFusion alone has no word
//! for something (TUMBLE, HOP) a second text for the batch run that gives the same rows; for DuckDB sometimes a third.

use millrace_engine::connectors::nexmark::Table;

#[derive(Debug)]
pub struct Query {
    pub name: &'static str,
    pub sql: &'static str,
    /// The text for DataFusion's batch run, where it differs.
    batch: Option<&'static str>,
    /// The text for DuckDB's, where it differs from DataFusion's.
    duckdb: Option<&'static str>,
    /// The tables that it reads; the others are not fed.
    pub tables: &'static [Table],
}

impl Query {
    pub fn batch_sql(&self) -> &'static str {
        self.batch.unwrap_or(self.sql)
    }

    /// Where DuckDB lacks a function, or gives the same rows in fewer CPU seconds when it is asked otherwise, this is
    /// the text that the tests use as a third opinion.
    pub fn duckdb_sql(&self) -> &'static str {
        self.duckdb.unwrap_or(self.batch_sql())
    }
}

const BID: &[Table] = &[Table::Bid];
const PERSON_AUCTION: &[Table] = &[Table::Person, Table::Auction];
const AUCTION_BID: &[Table] = &[Table::Auction, Table::Bid];

pub const QUERIES: &[Query] = &[
    Query { name: "q0", sql: include_str!("../queries/q0.sql"), batch: None, duckdb: None, tables: BID },
    Query { name: "q1", sql: include_str!("../queries/q1.sql"), batch: None, duckdb: None, tables: BID },
    Query { name: "q2", sql: include_str!("../queries/q2.sql"), batch: None, duckdb: None, tables: BID },
    Query { name: "q3", sql: include_str!("../queries/q3.sql"), batch: None, duckdb: None, tables: PERSON_AUCTION },
    Query { name: "q4", sql: include_str!("../queries/q4.sql"), batch: None, duckdb: None, tables: AUCTION_BID },
    Query {
        name: "q5",
        sql: include_str!("../queries/q5.sql"),
        batch: Some(include_str!("../queries/q5.batch.sql")),
        duckdb: Some(include_str!("../../sql-tests/nexmark/duckdb/q5.sql")),
        tables: BID,
    },
    Query { name: "q6", sql: include_str!("../queries/q6.sql"), batch: None, duckdb: None, tables: AUCTION_BID },
    Query {
        name: "q7",
        sql: include_str!("../queries/q7.sql"),
        batch: Some(include_str!("../queries/q7.batch.sql")),
        duckdb: Some(include_str!("../../sql-tests/nexmark/duckdb/q7.sql")),
        tables: BID,
    },
    Query {
        name: "q8",
        sql: include_str!("../queries/q8.sql"),
        batch: Some(include_str!("../queries/q8.batch.sql")),
        duckdb: Some(include_str!("../../sql-tests/nexmark/duckdb/q8.sql")),
        tables: PERSON_AUCTION,
    },
    Query {
        name: "q9",
        sql: include_str!("../queries/q9.sql"),
        batch: None,
        duckdb: Some(include_str!("../../sql-tests/nexmark/duckdb/q9.sql")),
        tables: AUCTION_BID,
    },
    Query {
        name: "q10",
        sql: include_str!("../queries/q10.sql"),
        batch: Some(include_str!("../queries/q10.batch.sql")),
        duckdb: Some(include_str!("../../sql-tests/nexmark/duckdb/q10.sql")),
        tables: BID,
    },
    Query {
        name: "q11",
        sql: include_str!("../queries/q11.sql"),
        batch: Some(include_str!("../queries/q11.batch.sql")),
        duckdb: None,
        tables: BID,
    },
    Query { name: "q14", sql: include_str!("../queries/q14.sql"), batch: None, duckdb: None, tables: BID },
    Query {
        name: "q15",
        sql: include_str!("../queries/q15.sql"),
        batch: None,
        duckdb: Some(include_str!("../../sql-tests/nexmark/duckdb/q15.sql")),
        tables: BID,
    },
    Query {
        name: "q16",
        sql: include_str!("../queries/q16.sql"),
        batch: None,
        duckdb: Some(include_str!("../../sql-tests/nexmark/duckdb/q16.sql")),
        tables: BID,
    },
    Query { name: "q17", sql: include_str!("../queries/q17.sql"), batch: None, duckdb: None, tables: BID },
    Query { name: "q18", sql: include_str!("../queries/q18.sql"), batch: None, duckdb: None, tables: BID },
    Query { name: "q19", sql: include_str!("../queries/q19.sql"), batch: None, duckdb: None, tables: BID },
    Query { name: "q20", sql: include_str!("../queries/q20.sql"), batch: None, duckdb: None, tables: AUCTION_BID },
    Query {
        name: "q21",
        sql: include_str!("../queries/q21.sql"),
        batch: None,
        duckdb: Some(include_str!("../../sql-tests/nexmark/duckdb/q21.sql")),
        tables: BID,
    },
    Query { name: "q22", sql: include_str!("../queries/q22.sql"), batch: None, duckdb: None, tables: BID },
];

/// The queries named in `q0,q3`, or all.
pub fn named(names: &str) -> Result<Vec<&'static Query>, String> {
    if names == "all" {
        return Ok(QUERIES.iter().collect());
    }
    let known = || QUERIES.iter().map(|q| q.name).collect::<Vec<_>>().join(", ");
    let find = |name: &str| {
        QUERIES.iter().find(|q| q.name == name).ok_or_else(|| format!("no query \"{name}\"; there are {}", known()))
    };
    names.split(',').map(|name| find(name.trim())).collect()
}
