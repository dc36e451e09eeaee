//! From text to a bound plan: parse, bind, and the functions that Postgres has and DataFusion has not.

pub mod bind;
pub mod context;
mod dialect;
mod errors;
pub mod exact_float;
pub mod functions;
pub mod interval;
pub mod parse;
mod rewrite;
pub mod statement;
pub mod system;
#[cfg(test)]
mod tests;
pub mod types;
mod window;
pub mod cast;
pub mod text;
