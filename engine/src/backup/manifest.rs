//! What a backup consists of. It is written last, so a backup is there whole or not at all.
//!
//! ```text
//!   <prefix>/backups/20261129T182600.000001Z-e4711      the manifest, a JSON text; names sort by time
//!   <prefix>/files/9f86d081…                            a file of the database, named by its checksum
//!   <prefix>/running/0c9d…                              who writes here at the moment
//!
//!   { "checksum": "e3b0…", "backup": { "format": 1, "time_us": 1780000000000000, "epoch": 4711,
//!     "files": [ { "name": "000012.sst", "bytes": 4096, "checksum": "9f86d081…" } ] } }
//! ```
//!
//! Files are named by what is in them (BLAKE3): those of equal content are one, and those of equal name but other
//! content, as a restored database makes them, are two.

use serde::{Deserialize, Serialize};

use super::location::Location;
use crate::error::{Error, Result};
use crate::time::Epoch;

pub(super) const BACKUPS: &str = "backups";
pub(super) const FILES: &str = "files";
pub(super) const RUNNING: &str = "running";

const TIME: &str = "%Y%m%dT%H%M%S%.6fZ";

/// Version of the manifest and of what lies around it.
const FORMAT: u32 = 1;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    format: u32,
    /// Microseconds since 1970-01-01 UTC.
    pub time_us: i64,
    /// All that was acknowledged by this epoch is in it.
    pub epoch: Epoch,
    pub files: Vec<FileEntry>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileEntry {
    pub name: String,
    pub bytes: u64,
    /// BLAKE3, in hexadecimal.
    pub checksum: String,
}

#[derive(Serialize, Deserialize)]
struct Sealed {
    checksum: String,
    backup: Manifest,
}

impl Manifest {
    pub fn new(time_us: i64, epoch: Epoch, files: Vec<FileEntry>) -> Manifest {
        Manifest { format: FORMAT, time_us, epoch, files }
    }

    pub fn name(&self) -> String {
        let time = chrono::DateTime::from_timestamp_micros(self.time_us).unwrap_or_default();
        format!("{}-e{}", time.format(TIME), self.epoch)
    }

    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).sum()
    }

    pub(super) fn seal(self) -> Vec<u8> {
        let sealed = Sealed { checksum: checksum_of(&self), backup: self };
        serde_json::to_vec(&sealed).expect("text and numbers are JSON")
    }

    fn open(text: &[u8]) -> Result<Manifest, &'static str> {
        #[derive(Deserialize)]
        struct Format {
            format: u32,
        }
        #[derive(Deserialize)]
        struct Head {
            backup: Format,
        }
        let head: Head = serde_json::from_slice(text).map_err(|_| "it is no manifest")?;
        if head.backup.format != FORMAT {
            return Err("it is of another version of Millrace");
        }
        let sealed: Sealed = serde_json::from_slice(text).map_err(|_| "it is no manifest")?;
        if sealed.checksum != checksum_of(&sealed.backup) {
            return Err("its checksum does not match");
        }
        let plain = |name: &str| {
            !name.is_empty()
                && !name.starts_with('.')
                && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
        };
        if sealed.backup.files.iter().any(|file| !plain(&file.name) || !plain(&file.checksum)) {
            return Err("it names files that are none of a database");
        }
        Ok(sealed.backup)
    }

    /// Errors: 58P01 when there is no such backup, XX001 when its manifest is damaged.
    pub async fn read(location: &Location, name: &str) -> Result<Manifest> {
        let text = location.get(BACKUPS, name).await?;
        let text =
            text.ok_or_else(|| Error::new("58P01", format!("there is no backup \"{name}\" in \"{location}\"")))?;
        Self::open(&text)
            .map_err(|fault| Error::corrupt(format!("backup \"{name}\" in \"{location}\" is damaged: {fault}")))
    }
}

fn checksum_of(manifest: &Manifest) -> String {
    let text = serde_json::to_vec(manifest).expect("text and numbers are JSON");
    blake3::hash(&text).to_hex().to_string()
}

/// The time in a backup's name, in microseconds since 1970-01-01 UTC.
pub(super) fn time_of(name: &str) -> Option<i64> {
    let (time, _) = name.split_once("-e")?;
    Some(chrono::NaiveDateTime::parse_from_str(time, TIME).ok()?.and_utc().timestamp_micros())
}

/// The names of the backups there are, the oldest first.
pub async fn names(location: &Location) -> Result<Vec<String>> {
    let mut names: Vec<String> = location.list(BACKUPS).await?.into_iter().map(|(name, _)| name).collect();
    names.sort();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(name: &str) -> Manifest {
        let file = FileEntry { name: name.into(), bytes: 3, checksum: "aa".into() };
        Manifest::new(1_780_000_000_000_001, 7, vec![file])
    }

    #[test]
    fn what_is_read_is_what_was_written() {
        let manifest = sample("000012.sst");
        assert_eq!(manifest.name(), "20260528T202640.000001Z-e7");
        assert_eq!(time_of(&manifest.name()), Some(manifest.time_us));
        assert_eq!(time_of("mine"), None);
        let text = manifest.clone().seal();
        assert_eq!(Manifest::open(&text), Ok(manifest));
        let changed = String::from_utf8(text).unwrap().replace("\"epoch\":7", "\"epoch\":8");
        assert_eq!(Manifest::open(changed.as_bytes()), Err("its checksum does not match"));
        let newer = changed.replace("\"format\":1", "\"format\":2");
        assert_eq!(Manifest::open(newer.as_bytes()), Err("it is of another version of Millrace"));
    }

    #[test]
    fn a_manifest_names_no_file_elsewhere() {
        for name in ["../MILLRACE", "a/b", "", ".."] {
            assert!(Manifest::open(&sample(name).seal()).is_err(), "{name}");
        }
    }
}
