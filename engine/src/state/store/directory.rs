//! The data directory: whose it is, which format it has, and how far it had been acknowledged.
//!
//! ```text
//!   <dir>/MILLRACE        text: format and state; its presence makes the directory ours
//!   <dir>/acknowledged    16 bytes: the last epoch that was acknowledged as synced
//!   <dir>/db/             RocksDB
//! ```
//!
//! `acknowledged` is written after each synced append and never synced itself, so it costs a microsecond
//! and can only be behind. A log that ends before it has lost acknowledged epochs: RocksDB stops reading
//! its write-ahead log at the first damaged record, which after a power loss is right and after a flipped
//! bit would be silent.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::FORMAT;
use super::frame::xxh64;
use crate::catalog::RelationId;
use crate::error::{Error, Result};
use crate::time::Epoch;

const MARKER: &str = "MILLRACE";
const MARKER_TITLE: &str = "Millrace data directory; made by Millrace, do not edit";

pub(super) struct Directory {
    path: PathBuf,
    /// Made just now, or its making was interrupted: the database may be created.
    fresh: bool,
    acknowledged: File,
}

impl Directory {
    /// Decides whether `path` may be opened; makes it where that is allowed.
    pub fn prepare(path: &Path, create: bool) -> Result<Directory> {
        let fresh = match read_marker(path)? {
            Some(state) => state == State::Creating,
            None => {
                check_vacant(path, create)?;
                fs::create_dir_all(path).map_err(|e| cannot("create", path, e))?;
                write_marker(path, State::Creating)?;
                true
            }
        };
        let file = path.join("acknowledged");
        let acknowledged = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&file);
        Ok(Directory {
            path: path.to_path_buf(),
            fresh,
            acknowledged: acknowledged.map_err(|e| cannot("open", &file, e))?,
        })
    }

    /// To be read only: whole, and nobody else's at the moment.
    pub fn look_at(path: &Path) -> Result<Directory> {
        match read_marker(path)? {
            Some(State::Ready) => {}
            Some(State::Creating) => {
                let message = format!("the making of data directory \"{}\" was interrupted", path.display());
                return Err(Error::corrupt(message).hint("The next start finishes it; nothing is in it."));
            }
            None => {
                check_vacant(path, false)?;
                unreachable!("what is vacant may not be looked at");
            }
        }
        if is_locked(&path.join("db/LOCK")) {
            return Err(Error::new("55006", format!("data directory \"{}\" is in use", path.display())));
        }
        let file = path.join("acknowledged");
        // Without the note nothing is known to be missing.
        let acknowledged =
            File::open(&file).or_else(|_| File::open("/dev/null")).map_err(|e| cannot("open", &file, e))?;
        Ok(Directory { path: path.to_path_buf(), fresh: false, acknowledged })
    }

    /// A new one that is filled by copying; it is no data directory before it is marked ready.
    pub fn for_backup(path: &Path) -> Result<Directory> {
        if read_marker(path)?.is_some() {
            return Err(Error::new("58P02", format!("\"{}\" holds Millrace data already", path.display())));
        }
        check_vacant(path, true)?;
        fs::create_dir_all(path).map_err(|e| cannot("create", path, e))?;
        let file = path.join("acknowledged");
        let acknowledged = File::create(&file).map_err(|e| cannot("create", &file, e))?;
        Ok(Directory { path: path.to_path_buf(), fresh: true, acknowledged })
    }

    pub fn is_fresh(&self) -> bool {
        self.fresh
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn database(&self) -> PathBuf {
        self.path.join("db")
    }

    pub fn mark_ready(&self) -> Result<()> {
        write_marker(&self.path, State::Ready)
    }

    /// Notes that `epoch` is about to be acknowledged. A failure is harmless: the note stays behind.
    pub fn acknowledge(&self, epoch: Epoch) {
        if let Err(e) = self.acknowledged.write_all_at(&acknowledgement(epoch), 0) {
            tracing::warn!("cannot note the acknowledged epoch {epoch}: {e}");
        }
    }

    /// Takes acknowledgements after `epoch` back, durably, before those epochs are discarded.
    pub fn retreat(&self, epoch: Epoch) -> Result<()> {
        self.acknowledged.write_all_at(&acknowledgement(epoch), 0)?;
        Ok(self.acknowledged.sync_data()?)
    }

    /// The log must reach at least as far as was acknowledged. A torn or missing note proves nothing.
    pub fn check_acknowledged(&self, last_epoch: Epoch) -> Result<()> {
        let mut bytes = [0; 16];
        if self.acknowledged.read_exact_at(&mut bytes, 0).is_err() {
            return Ok(());
        }
        let epoch = Epoch::from_be_bytes(bytes[..8].try_into().expect("eight bytes"));
        if bytes == acknowledgement(epoch) && epoch > last_epoch {
            return Err(Error::corrupt(format!(
                "data directory \"{}\" is damaged: its log ends at epoch {last_epoch}, but epoch {epoch} had been acknowledged",
                self.path.display()
            ))
            .hint("Restore the directory from a copy. To go on without the lost epochs, remove its file \"acknowledged\"."));
        }
        Ok(())
    }

    /// Views by whose fault an earlier start failed: `suspect`, an id a line.
    pub fn suspects(&self) -> BTreeSet<RelationId> {
        let text = fs::read_to_string(self.path.join("suspect")).unwrap_or_default();
        text.lines().filter_map(|line| line.trim().parse().ok()).collect()
    }

    pub fn write_suspects(&self, views: &BTreeSet<RelationId>) -> Result<()> {
        let (file, next) = (self.path.join("suspect"), self.path.join("suspect.next"));
        let write = || -> std::io::Result<()> {
            let mut text = File::create(&next)?;
            views.iter().try_for_each(|view| writeln!(text, "{view}"))?;
            text.sync_all()?;
            fs::rename(&next, &file)?;
            File::open(&self.path)?.sync_all()
        };
        write().map_err(|e| cannot("write to", &file, e))
    }

    pub fn bytes(&self) -> u64 {
        fn walk(path: &Path) -> u64 {
            let Ok(entries) = fs::read_dir(path) else { return 0 };
            let size = |entry: fs::DirEntry| match entry.metadata() {
                Ok(m) if m.is_dir() => walk(&entry.path()),
                Ok(m) => m.len(),
                Err(_) => 0, // deleted meanwhile
            };
            entries.flatten().map(size).sum()
        }
        walk(&self.path)
    }
}

/// Whether a process holds RocksDB's lock, as far as the system tells.
fn is_locked(file: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let (Ok(metadata), Ok(locks)) = (fs::metadata(file), fs::read_to_string("/proc/locks")) else { return false };
    // `1: POSIX ADVISORY WRITE 4711 08:01:131090 0 EOF`
    locks.lines().filter(|line| line.contains("POSIX")).any(|line| {
        let inode = line.split_whitespace().find(|word| word.matches(':').count() == 2);
        inode.and_then(|word| word.rsplit(':').next()) == Some(&metadata.ino().to_string())
    })
}

fn acknowledgement(epoch: Epoch) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&epoch.to_be_bytes());
    let checksum = xxh64(&bytes[..8], 0);
    bytes[8..].copy_from_slice(&checksum.to_be_bytes());
    bytes
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Creating,
    Ready,
}

/// `None` when there is no marker, hence (so far) no directory of ours.
fn read_marker(path: &Path) -> Result<Option<State>> {
    let file = path.join(MARKER);
    let text = match fs::read_to_string(&file) {
        Ok(text) => text,
        Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return Ok(None),
        Err(e) if e.kind() == ErrorKind::InvalidData => String::new(),
        Err(e) => return Err(cannot("read", &file, e)),
    };
    let value = |key: &str| text.lines().find_map(|l| l.strip_prefix(key)).map(str::trim);
    let damaged = || Error::corrupt(format!("data directory \"{}\": its file {MARKER} is damaged", path.display()));
    if text.lines().next() != Some(MARKER_TITLE) {
        return Err(damaged());
    }
    let format: u32 = value("format ").and_then(|v| v.parse().ok()).ok_or_else(damaged)?;
    check_version(format)
        .map_err(|e| Error { message: format!("data directory \"{}\": {}", path.display(), e.message), ..e })?;
    match value("state ") {
        Some("ready") => Ok(Some(State::Ready)),
        Some("creating") => Ok(Some(State::Creating)),
        _ => Err(damaged()),
    }
}

/// There is one format so far, so there is nothing to migrate from.
pub(super) fn check_version(format: u32) -> Result<()> {
    if format == FORMAT {
        return Ok(());
    }
    let (than, use_) = if format > FORMAT { ("newer", "newer") } else { ("older", "older") };
    Err(Error::corrupt(format!("format version {format} is {than} than this program's, which is {FORMAT}"))
        .hint(format!("Use a {use_} Millrace for this directory. Nothing in it was changed.")))
}

fn write_marker(path: &Path, state: State) -> Result<()> {
    let state = match state {
        State::Creating => "creating",
        State::Ready => "ready",
    };
    let next = path.join(format!("{MARKER}.next"));
    let write = || -> std::io::Result<()> {
        let mut file = File::create(&next)?;
        write!(file, "{MARKER_TITLE}\nformat {FORMAT}\nstate {state}\n")?;
        file.sync_all()?;
        fs::rename(&next, path.join(MARKER))?;
        File::open(path)?.sync_all()
    };
    write().map_err(|e| cannot("write to", path, e))
}

/// A directory without our marker may be taken only if it is empty (or a new file system's root).
fn check_vacant(path: &Path, create: bool) -> Result<()> {
    let mut entries = match fs::read_dir(path) {
        Ok(entries) => entries,
        Err(e) if e.kind() == ErrorKind::NotFound && create => return Ok(()),
        Err(e) if e.kind() == ErrorKind::NotFound => {
            return Err(Error::corrupt(format!("data directory \"{}\" does not exist", path.display())));
        }
        Err(e) if e.kind() == ErrorKind::NotADirectory => {
            return Err(Error::corrupt(format!("\"{}\" is not a directory", path.display())));
        }
        Err(e) => return Err(cannot("read", path, e)),
    };
    // The marker of an interrupted creation is ours as well.
    let ours = |name: &std::ffi::OsStr| name == "lost+found" || name == format!("{MARKER}.next").as_str();
    let foreign = entries.find_map(|e| e.ok().map(|e| e.file_name()).filter(|name| !ours(name)));
    match foreign {
        Some(name) => Err(Error::corrupt(format!(
            "directory \"{}\" is not empty and not a Millrace data directory (it holds \"{}\")",
            path.display(),
            name.to_string_lossy()
        ))
        .hint("Name an empty or a new directory.")),
        None if create => Ok(()),
        None => Err(Error::corrupt(format!("directory \"{}\" holds no Millrace data", path.display()))),
    }
}

fn cannot(verb: &str, path: &Path, e: std::io::Error) -> Error {
    Error::io(format!("cannot {verb} \"{}\": {e}", path.display()))
}
