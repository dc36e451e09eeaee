//! The files of a data directory as of one moment, to be sent elsewhere; and a directory made of such files.
//!
//! ```text
//!   <dir>/backup.tmp-0/    links to table files, and copies of what goes on being written; gone when it has been sent
//!   <dir>/backup.owner     who this directory is among those that write to one place; made at the first backup
//! ```

use std::fs;
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use super::directory::Directory;
use super::inspect::Report;
use super::{Inner, Store};
use crate::error::{Error, Result};
use crate::time::Epoch;

const FOLDER: &str = "backup.tmp-";
const OWNER: &str = "backup.owner";

/// Taken down when it is dropped; after a crash by the next start.
pub struct Moment {
    /// All that was acknowledged by this epoch is in it.
    pub epoch: Epoch,
    path: PathBuf,
    /// The directory stays open.
    _store: Arc<Inner>,
}

/// One of its files; equal ones have the same content if they are table files.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct MomentFile {
    pub name: String,
    pub bytes: u64,
    inode: u64,
    changed: (i64, i64),
}

impl Moment {
    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn files(&self) -> Result<Vec<MomentFile>> {
        let list = || -> std::io::Result<Vec<MomentFile>> {
            let mut files = Vec::new();
            for entry in fs::read_dir(&self.path)? {
                let (entry, name) = entry.map(|e| (e.metadata(), e.file_name()))?;
                let entry = entry?;
                let name = name.to_string_lossy().into_owned();
                let changed = (entry.mtime(), entry.mtime_nsec());
                files.push(MomentFile { name, bytes: entry.len(), inode: entry.ino(), changed });
            }
            files.sort_by(|a, b| a.name.cmp(&b.name));
            Ok(files)
        };
        list().map_err(|e| Error::io(format!("cannot read \"{}\": {e}", self.path.display())))
    }
}

impl Drop for Moment {
    fn drop(&mut self) {
        if let Err(e) = fs::remove_dir_all(&self.path) {
            tracing::warn!("cannot delete \"{}\": {e}", self.path.display());
        }
    }
}

/// What a crash in the middle of a backup left.
pub(super) fn clear(directory: &Path) {
    let Ok(entries) = fs::read_dir(directory) else { return };
    let left = entries.flatten().filter(|entry| entry.file_name().to_string_lossy().starts_with(FOLDER));
    for folder in left.map(|entry| entry.path()) {
        if let Err(e) = fs::remove_dir_all(&folder) {
            tracing::warn!("cannot delete \"{}\", which an interrupted backup left: {e}", folder.display());
        }
    }
}

impl Store {
    /// The files as they are now.
    pub fn moment(&self) -> Result<Moment> {
        static TAKEN: AtomicU32 = AtomicU32::new(0);
        let folder = format!("{FOLDER}{}", TAKEN.fetch_add(1, Ordering::Relaxed));
        let path = self.inner.directory.path().join(folder);
        // What is in the copy is at least this.
        let moment = Moment { epoch: self.last_epoch(), path, _store: self.inner.clone() };
        self.inner.db.copy_to(&moment.path)?;
        Ok(moment)
    }

    /// A name that no other data directory has, copies of this one that were made by backup and restore among them.
    pub fn owner(&self) -> Result<String> {
        let file = self.inner.directory.path().join(OWNER);
        let failed = |e: std::io::Error| Error::io(format!("cannot write \"{}\": {e}", file.display()));
        match fs::read_to_string(&file) {
            Ok(text) if uuid::Uuid::try_parse(text.trim()).is_ok() => Ok(text.trim().to_string()),
            Err(e) if e.kind() != ErrorKind::NotFound => Err(failed(e)),
            // Missing, or half written.
            _ => {
                let name = uuid::Uuid::new_v4().to_string();
                let mut made = fs::File::create(&file).map_err(failed)?;
                made.write_all(name.as_bytes()).and_then(|()| made.sync_all()).map_err(failed)?;
                Ok(name)
            }
        }
    }
}

/// A data directory that is being filled with a backup's files. It cannot be started before it is finished; dropped
/// before, it is as it was.
pub struct Incoming {
    directory: Directory,
    /// It was not there.
    is_new: bool,
    finished: bool,
}

impl Incoming {
    /// Refuses what is not empty.
    pub fn begin(path: &Path) -> Result<Incoming> {
        let is_new = !path.exists();
        let incoming = Incoming { directory: Directory::for_backup(path)?, is_new, finished: false };
        let database = incoming.database();
        fs::create_dir(&database).map_err(|e| Error::io(format!("cannot create \"{}\": {e}", database.display())))?;
        Ok(incoming)
    }

    /// Where the files go.
    pub fn database(&self) -> PathBuf {
        self.directory.database()
    }

    /// All files are there: from now on it is a data directory, which is then read whole.
    pub fn finish(mut self, epoch: Epoch) -> Result<Report> {
        let database = self.database();
        let synced = fs::File::open(&database).and_then(|folder| folder.sync_all());
        synced.map_err(|e| Error::io(format!("cannot write to \"{}\": {e}", database.display())))?;
        self.directory.retreat(epoch)?;
        self.directory.mark_ready()?;
        self.finished = true;
        Ok(Store::open_read_only(self.directory.path())?.check())
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        if self.finished {
            return;
        }
        let path = self.directory.path();
        let _ = fs::remove_dir_all(self.database());
        let _ = fs::remove_file(path.join("acknowledged"));
        let _ = fs::remove_file(path.join("MILLRACE.next"));
        if self.is_new {
            let _ = fs::remove_dir(path);
        }
    }
}
