//! What can be done to a data directory besides running it: check, dump, back up, restore. Nobody may have it open
//! meanwhile; a running one is backed up by SQL, `BACKUP TO`.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use crate::backup::{self, Backups, Location};
use crate::error::{Error, Result};
use crate::state::store::{Store, StoreOptions};

pub use crate::backup::{Keep, Record};
pub use crate::state::store::{Faults, Report, Write as WriteKind};

/// Reads everything in a data directory and tells what is wrong. Changes nothing.
pub fn check(directory: &Path) -> Result<Report> {
    Ok(Store::open_read_only(directory)?.check())
}

/// Backs up a data directory to an object store or a `file://` URL. It is opened as by a server, so that none starts on
/// it meanwhile. `clock` gives microseconds since 1970.
pub async fn backup(directory: &Path, to: &str, keep: Keep, clock: fn() -> i64) -> Result<Record> {
    let to = Location::parse(to)?;
    let store = Store::open(directory, StoreOptions { create: false, ..StoreOptions::default() })?;
    Backups::default().run(Arc::new(store), to, keep, clock).await
}

/// Makes a data directory of a backup, and checks it: of a directory by its path, or from an object store or a `file://`
/// URL, there the newest or the one of this name.
pub async fn restore(from: &str, name: Option<&str>, to: &Path) -> Result<Report> {
    match (backup::is_url(from), name) {
        (true, name) => backup::restore(&Location::parse(from)?, name, to).await,
        (false, None) => crate::state::store::restore(Path::new(from), to),
        (false, Some(_)) => Err(Error::invalid_value(format!("\"{from}\" is one backup, without a name"))),
    }
}

/// What is known of a backup in an object store.
pub struct Listed {
    pub name: String,
    pub epoch: u64,
    pub files: usize,
    pub bytes: u64,
}

/// The backups at a URL, the oldest first; of those that are damaged, the names and what is wrong.
pub async fn backups(at: &str) -> Result<Vec<Result<Listed>>> {
    let at = Location::parse(at)?;
    let mut listed = Vec::new();
    for name in backup::names(&at).await? {
        listed.push(match backup::Manifest::read(&at, &name).await {
            Ok(m) => Ok(Listed { name, epoch: m.epoch, files: m.files.len(), bytes: m.bytes() }),
            Err(error) if error.code == "XX001" => Err(error),
            Err(error) => return Err(error),
        });
    }
    Ok(listed)
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
