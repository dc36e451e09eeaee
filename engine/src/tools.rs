//! What can be done to a data directory besides running it: check, dump, restore. Nobody may have it open meanwhile;
//! a running one is copied by SQL, `BACKUP TO 'directory'`.

use std::io::Write;
use std::path::Path;

use crate::error::{Error, Result};
use crate::state::store::Store;

pub use crate::state::store::{Faults, Report, Write as WriteKind, restore};

/// Reads everything in a data directory and tells what is wrong. Changes nothing.
pub fn check(directory: &Path) -> Result<Report> {
    Ok(Store::open_read_only(directory)?.check())
}

/// Writes a data directory as text; of one relation the rows only, if its name is given.
pub fn dump(directory: &Path, relation: Option<&str>, out: &mut dyn Write) -> Result<()> {
    let store = Store::open_read_only(directory)?;
    let id = match relation {
        None => None,
        Some(name) => {
            let catalog = store.load_catalog()?;
            let full = |r: &crate::catalog::Relation| format!("{}.{}", r.schema_name, r.name);
            let found = catalog.relations.values().find(|r| r.name == name || full(r) == name);
            Some(found.ok_or_else(|| Error::undefined_relation(name))?.id)
        }
    };
    store.dump(id, out)
}
