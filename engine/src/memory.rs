//! The memory that ad-hoc queries may take, and the disk that they spill to.
//!
//! ```text
//!   --memory 8GB ──► all ad-hoc queries together 4 GB ──► one statement 3 GB
//!                    beyond that: sorts, joins and groups that can spill do, the others end with 53200
//! ```
//!
//! What DataFusion accounts is held against this, and what our own code reserves in the same pool. What views and tables
//! hold is not: they are the data, not the work on it.

use std::fmt;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use datafusion::common::DataFusionError;
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::memory_pool::{MemoryLimit, MemoryPool, MemoryReservation};
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};

use crate::error::{Error, Result};

/// Files that queries spill to, and the state's (`state/spill.rs`), lie here, below the data directory; what an earlier process left is removed at start.
pub const SPILL_DIRECTORY: &str = "spill";
/// What they may take on the disk, unless that is more than half of what is free.
const SPILL_BYTES_MAX: u64 = 64 << 30;
/// What a statement may have in any case, so that small ones go on while a large one holds all the rest.
const SMALL_BYTES_MAX: usize = 16 << 20;
/// What a sort or a grouping holds before it spills: sorting and writing it takes about a second.
const SPILLED_BYTES_MAX: usize = 128 << 20;
/// Where the system does not say what it has.
const MEMORY_BYTES_UNKNOWN: u64 = 4 << 30;

/// What all ad-hoc queries of an engine share.
pub struct QueryMemory {
    shared: Arc<Shared>,
    process_bytes: u64,
    /// With the disk to spill to; its memory is not bounded.
    environment: RuntimeEnv,
}

impl fmt::Debug for QueryMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.shared)
    }
}

#[derive(Debug)]
struct Shared {
    bytes_max: usize,
    used: AtomicUsize,
}

impl QueryMemory {
    /// Of a process that should use `memory` bytes; queries may take half of them. `free_bytes` is what the disk has.
    pub fn new(memory: u64, data_dir: &Path, free_bytes: Option<u64>) -> Result<QueryMemory> {
        let directory = data_dir.join(SPILL_DIRECTORY);
        match fs::remove_dir_all(&directory) {
            Err(e) if e.kind() != ErrorKind::NotFound => {
                return Err(Error::io(format!("cannot clear \"{}\": {e}", directory.display())));
            }
            _ => {}
        }
        // A disk that is full must not keep the engine from starting: then nothing can be spilled.
        let mode = match fs::create_dir(&directory) {
            Ok(()) => DiskManagerMode::Directories(vec![directory]),
            Err(error) => {
                tracing::warn!(%error, directory = %directory.display(), "queries cannot spill to disk");
                DiskManagerMode::Disabled
            }
        };
        let disk_bytes = free_bytes.map_or(SPILL_BYTES_MAX, |free| SPILL_BYTES_MAX.min(free / 2));
        let disk = DiskManagerBuilder::default().with_mode(mode).with_max_temp_directory_size(disk_bytes);
        let environment = RuntimeEnvBuilder::new().with_disk_manager_builder(disk).build().map_err(Error::io)?;
        let bytes_max = usize::try_from(memory / 2).unwrap_or(usize::MAX);
        let shared = Arc::new(Shared { bytes_max, used: AtomicUsize::new(0) });
        Ok(QueryMemory { shared, process_bytes: memory, environment })
    }

    /// What the process should use, with all that is not queries.
    pub fn process_bytes(&self) -> u64 {
        self.process_bytes
    }

    /// What one statement runs in.
    pub fn of_statement(&self) -> Arc<RuntimeEnv> {
        let pool = StatementPool { shared: self.shared.clone(), used: AtomicUsize::new(0) };
        Arc::new(RuntimeEnv { memory_pool: Arc::new(pool), ..self.environment.clone() })
    }

    /// What a sort sets aside for merging what it has spilled: less than what each statement has in any case.
    pub fn sort_reserve_bytes(&self) -> usize {
        (self.shared.small_bytes_max() / 2).min(10 << 20)
    }

    pub fn used_bytes(&self) -> usize {
        self.shared.used.load(Ordering::Relaxed)
    }
}

impl Shared {
    fn statement_bytes_max(&self) -> usize {
        self.bytes_max / 4 * 3
    }
    fn spilled_bytes_max(&self) -> usize {
        (self.bytes_max / 8).clamp(self.small_bytes_max(), SPILLED_BYTES_MAX)
    }
    fn small_bytes_max(&self) -> usize {
        (self.bytes_max / 32).min(SMALL_BYTES_MAX)
    }
}

/// One statement's share. It ends with the statement and with the rows that it returned.
struct StatementPool {
    shared: Arc<Shared>,
    used: AtomicUsize,
}

impl StatementPool {
    fn refusal(&self, reservation: &MemoryReservation, additional: usize) -> DataFusionError {
        let mb = |bytes: usize| bytes.div_ceil(1 << 20);
        DataFusionError::ResourcesExhausted(format!(
            "The statement has {} MB and wants {} MB more for {}; one may have {} MB, all together {} MB, of which {} \
             MB are taken.",
            mb(self.reserved()),
            mb(additional),
            reservation.consumer().name(),
            mb(self.shared.statement_bytes_max()),
            mb(self.shared.bytes_max),
            mb(self.shared.used.load(Ordering::Relaxed)),
        ))
    }
}

impl MemoryPool for StatementPool {
    fn name(&self) -> &str {
        "statement"
    }
    fn grow(&self, _: &MemoryReservation, additional: usize) {
        self.used.fetch_add(additional, Ordering::Relaxed);
        self.shared.used.fetch_add(additional, Ordering::Relaxed);
    }
    fn shrink(&self, _: &MemoryReservation, shrink: usize) {
        self.used.fetch_sub(shrink, Ordering::Relaxed);
        self.shared.used.fetch_sub(shrink, Ordering::Relaxed);
    }
    fn try_grow(&self, reservation: &MemoryReservation, additional: usize) -> Result<(), DataFusionError> {
        let own_max = self.shared.statement_bytes_max();
        // Once it holds so much it writes that to the disk, in one go that nothing can interrupt.
        if reservation.consumer().can_spill() && reservation.size() + additional > self.shared.spilled_bytes_max() {
            return Err(self.refusal(reservation, additional));
        }
        let within = |used: usize, max: usize| used.checked_add(additional).filter(|sum| *sum <= max);
        let add = |to: &AtomicUsize, max: usize| {
            to.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| within(used, max))
        };
        let Ok(before) = add(&self.used, own_max) else { return Err(self.refusal(reservation, additional)) };
        let small = before + additional <= self.shared.small_bytes_max();
        if add(&self.shared.used, if small { usize::MAX } else { self.shared.bytes_max }).is_err() {
            self.used.fetch_sub(additional, Ordering::Relaxed);
            return Err(self.refusal(reservation, additional));
        }
        Ok(())
    }
    fn reserved(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }
    fn memory_limit(&self) -> MemoryLimit {
        MemoryLimit::Finite(self.shared.statement_bytes_max())
    }
}

impl fmt::Debug for StatementPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {:?}", self.reserved(), self.shared)
    }
}
impl fmt::Display for StatementPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

/// Half of the memory that the machine has, or the container that this process is in.
pub fn memory_default() -> u64 {
    let number = |text: String| text.trim().parse::<u64>().ok();
    let machine = fs::read_to_string("/proc/meminfo").ok().and_then(|text| {
        let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
        Some(line.trim().trim_end_matches("kB").trim().parse::<u64>().ok()? << 10)
    });
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let limits = groups.lines().flat_map(limit_files).filter_map(|file| fs::read_to_string(file).ok().and_then(number));
    machine.into_iter().chain(limits).min().unwrap_or(MEMORY_BYTES_UNKNOWN) / 2
}

/// The files that may bound the memory of a control group and of those around it, of both versions of control groups:
/// of a line such as `0::/user.slice/a.scope` or `4:memory:/docker/1f`.
fn limit_files(group: &str) -> Vec<PathBuf> {
    let mut parts = group.splitn(3, ':');
    let (Some(number), Some(controllers), Some(path)) = (parts.next(), parts.next(), parts.next()) else {
        return Vec::new();
    };
    let (root, file) = match controllers {
        "" if number == "0" => ("/sys/fs/cgroup", "memory.max"),
        _ if controllers.split(',').any(|c| c == "memory") => ("/sys/fs/cgroup/memory", "memory.limit_in_bytes"),
        _ => return Vec::new(),
    };
    Path::new(path)
        .ancestors()
        .map(|group| Path::new(root).join(group.strip_prefix("/").unwrap_or(group)).join(file))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::execution::memory_pool::MemoryConsumer;

    fn memory(bytes: u64) -> (tempfile::TempDir, QueryMemory) {
        let place = tempfile::tempdir().unwrap();
        fs::create_dir(place.path().join(SPILL_DIRECTORY)).unwrap();
        fs::write(place.path().join(SPILL_DIRECTORY).join("left"), "over").unwrap();
        let memory = QueryMemory::new(bytes, place.path(), None).unwrap();
        assert!(!place.path().join(SPILL_DIRECTORY).join("left").exists());
        (place, memory)
    }

    #[test]
    fn a_statement_leaves_some_to_the_others() {
        let (_place, memory) = memory(256 << 20);
        let reserve = || MemoryConsumer::new("test").register(&memory.of_statement().memory_pool);
        let (first, second, small) = (reserve(), reserve(), reserve());
        assert!(first.try_grow(97 << 20).is_err());
        first.try_grow(96 << 20).unwrap();
        assert!(second.try_grow(33 << 20).is_err());
        second.try_grow(32 << 20).unwrap();
        assert!(second.try_grow(1).is_err());
        small.try_grow(4 << 20).unwrap();
        assert!(small.try_grow(1).is_err());
        drop(first);
        second.try_grow(50 << 20).unwrap();
        drop((second, small));
        assert_eq!(memory.used_bytes(), 0);
    }

    #[test]
    fn limits_of_containers() {
        let files = |line: &str| limit_files(line).iter().map(|p| p.display().to_string()).collect::<Vec<_>>();
        assert_eq!(files("0::/a/b").len(), 3);
        assert_eq!(files("0::/"), ["/sys/fs/cgroup/memory.max"]);
        assert_eq!(files("4:cpu,memory:/x")[0], "/sys/fs/cgroup/memory/x/memory.limit_in_bytes");
        assert_eq!(files("4:memory:/x")[1], "/sys/fs/cgroup/memory/memory.limit_in_bytes");
        assert!(files("5:pids:/x").is_empty());
        assert!(memory_default() > 1 << 20);
    }
}
