#[allow(dead_code)]
mod pg_catalog;
fn main() {}
