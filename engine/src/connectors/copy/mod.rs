//! COPY's three formats, as bytes that come in any pieces: text, csv and binary.
//!
//! ```text
//!   push("1\ta\n2\t\\"), push("N\n"), finish()   ->   | 1 | a    |
//!                                                     | 2 | NULL |
//! ```
//!
//! [`CopyDecoder`] takes bytes as they arrive, splits them into cells without keeping the input (`split`),
//! and reads the cells column by column once 8192 rows are there. [`CopyEncoder`] is the way back, and
//! [`CopyRows`] finds the rows in encoded bytes, because clients expect one row per message.
//!
//! A row that cannot be read ends it all or, where that was asked for, is put aside (`aside`).
//!
//! Errors name the line and column as Postgres does: `COPY t, line 3, column amount: "x"`.

mod aside;
mod decode;
mod encode;
mod split;
#[cfg(test)]
mod tests;

pub use aside::{Aside, Rejected};
pub use decode::CopyDecoder;
pub use encode::{CopyEncoder, CopyRows};

/// What a binary COPY begins with: the signature, no flags, no extension.
const BINARY_HEADER: &[u8; 19] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
