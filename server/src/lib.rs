//! Millrace's server: the engine behind Postgres' protocol and HTTP.
//!
//! `config` says how it is to run, `serve` runs it; `pg` speaks to Postgres clients, `encoding` turns Arrow into
//! their rows; `pg_catalog` is what they ask about the server itself; `http` answers health checks and metrics;
//! `demo` shows it all; `backup` asks a running server for one. This is the only crate that knows the wire.

pub mod backup;
pub mod config;
pub mod demo;
pub mod encoding;
pub mod files;
pub mod http;
pub mod logging;
pub mod pg;
pub mod pg_catalog;
pub mod serve;
