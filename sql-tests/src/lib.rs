//! What it takes to test Millrace by SQL (`docs/testing.md` says how to use it).
//!
//! Two kinds of test stand on this library:
//!
//! * `tests/slt.rs`: files of statements with their answers, run with one worker, with three, and with a
//!   crash after every statement ([`slt`]);
//! * `tests/random.rs`: random schemas, views and changes, checked against the batch answer ([`random`]).
//!
//! Both talk to a database through [`answer::Answer`]: rows as text, in Postgres' forms. The database is
//! either Millrace in this process ([`millrace`]) or a PostgreSQL server ([`postgres`]), which gives the
//! expected answers of everything that is standard SQL.

pub mod answer;
pub mod millrace;
pub mod postgres;
pub mod random;
pub mod slt;
