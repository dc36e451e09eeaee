//! Backups of this process as `mr_backups` shows them, and what is known of files from one to the next.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex};

use crate::error::Error;
use crate::state::store::MomentFile;
use crate::time::Epoch;

/// What is remembered of backups that have ended.
const RECORDS_MAX: usize = 100;

/// A backup under way, or one that has ended.
#[derive(Debug, Clone, Default)]
pub struct Record {
    pub location: String,
    pub started_us: i64,
    pub finished_us: Option<i64>,
    /// Its name in the prefix, once it counts.
    pub name: Option<String>,
    pub epoch: Option<Epoch>,
    pub files: u64,
    pub bytes: u64,
    /// Of these, what was not there already.
    pub sent_files: u64,
    pub sent_bytes: u64,
    pub error: Option<Error>,
}

impl Record {
    pub fn state(&self) -> &'static str {
        match (&self.error, self.finished_us) {
            (Some(error), _) if error.code == "57014" => "cancelled",
            (Some(_), _) => "failed",
            (None, Some(_)) => "done",
            (None, None) => "running",
        }
    }
}

/// One line of `mr_backups`. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Job(Arc<Mutex<Record>>);

impl Job {
    pub fn update(&self, change: impl FnOnce(&mut Record)) {
        change(&mut self.0.lock().expect("no panic while held"));
    }
    pub fn record(&self) -> Record {
        self.0.lock().expect("no panic while held").clone()
    }
}

#[derive(Default)]
pub(super) struct Jobs(Mutex<VecDeque<Job>>);

impl Jobs {
    pub fn begin(&self, location: String, started_us: i64) -> Job {
        let job = Job(Arc::new(Mutex::new(Record { location, started_us, ..Record::default() })));
        let mut jobs = self.0.lock().expect("no panic while held");
        jobs.push_back(job.clone());
        while jobs.len() > RECORDS_MAX {
            jobs.pop_front();
        }
        job
    }
    pub fn records(&self) -> Vec<Record> {
        self.0.lock().expect("no panic while held").iter().map(Job::record).collect()
    }
}

/// Checksums of files that were read before. A file is known by its inode, which its links share, size and time of change:
/// table files are never written again.
#[derive(Default)]
pub(super) struct KnownFiles(Mutex<HashMap<MomentFile, String>>);

impl KnownFiles {
    pub fn get(&self, file: &MomentFile) -> Option<String> {
        self.0.lock().expect("no panic while held").get(file).cloned()
    }
    /// Others are read again each time: the write-ahead log goes on being written.
    pub fn put(&self, file: &MomentFile, checksum: &str) {
        if file.name.ends_with(".sst") {
            self.0.lock().expect("no panic while held").insert(file.clone(), checksum.to_string());
        }
    }
    /// Forgets those that are no longer among `files`.
    pub fn retain(&self, files: &[MomentFile]) {
        let current: std::collections::HashSet<&MomentFile> = files.iter().collect();
        self.0.lock().expect("no panic while held").retain(|file, _| current.contains(file));
    }
}
