//! Where and when figures were made: from the system and from git, as far as they tell.

use std::process::Command;

/// "Intel Xeon, 2 cores, 24 GiB of memory".
pub fn machine() -> String {
    let value = |path: &str, name: &str| {
        let text = std::fs::read_to_string(path).ok()?;
        let line = text.lines().find(|line| line.starts_with(name))?;
        Some(line.split_once(':')?.1.trim().to_string())
    };
    let cpu = value("/proc/cpuinfo", "model name").unwrap_or_else(|| "unknown CPU".into());
    let cores = std::thread::available_parallelism().map_or(0, |n| n.get());
    let memory_kib = value("/proc/meminfo", "MemTotal").and_then(|text| text.split(' ').next()?.parse::<f64>().ok());
    let memory_gib = memory_kib.map_or("unknown".into(), |kib| format!("{:.0} GiB", kib / f64::from(1 << 20)));
    format!("{cpu}, {cores} cores, {memory_gib} of memory")
}

/// How many processes ran or waited to, on average over the last minute: well above 0, and times are not to be trusted.
pub fn load() -> String {
    let averages = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    averages.split(' ').next().filter(|text| !text.is_empty()).unwrap_or("unknown").to_string()
}

pub fn date() -> String {
    output("date", &["-u", "+%Y-%m-%d"]).unwrap_or_else(|| "unknown".into())
}

/// The commit that is checked out, and whether what is measured differs from it.
pub fn commit() -> String {
    match output("git", &["rev-parse", "--short=10", "HEAD"]) {
        None => "unknown".into(),
        Some(commit) => {
            let changed = output("git", &["status", "--porcelain", "--", "*.rs", "*.sql", "*.toml", "Cargo.lock"]);
            let changed = changed.is_some_and(|files| !files.is_empty());
            format!("{commit}{}", if changed { " with changes" } else { "" })
        }
    }
}

fn output(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_string())
}
