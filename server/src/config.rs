//! How the server is to run: flags before environment before file before defaults.
//!
//! ```text
//!   millrace serve --workers 4          MILLRACE_MEMORY=2GB        millrace.toml: data_dir = "/var/lib/millrace"
//! ```
//!
//! A file's keys are the long flags' names, with dashes or underscores. It listens on loopback only: there are no
//! passwords yet, and an open database is an open machine.

use std::net::{SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use serde::Deserialize;

use crate::pg::Limits;

/// Everything can be given as a flag, in the environment, or in the file; `None` is not given.
#[derive(Debug, Clone, Default, Args, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// Where everything is kept [default: ./millrace-data]
    #[arg(long, env = "MILLRACE_DATA_DIR", value_name = "DIRECTORY")]
    pub data_dir: Option<PathBuf>,
    /// Where Postgres clients connect; port 0 picks a free one [default: 127.0.0.1:7432]
    #[arg(long, env = "MILLRACE_PG_ADDR", value_name = "HOST:PORT")]
    pub pg_addr: Option<String>,
    /// Where /health, /ready and /metrics are [default: 127.0.0.1:7433]
    #[arg(long, env = "MILLRACE_HTTP_ADDR", value_name = "HOST:PORT")]
    pub http_addr: Option<String>,
    /// Threads that maintain views [default: the number of cores]
    #[arg(long, env = "MILLRACE_WORKERS", value_name = "N")]
    pub workers: Option<usize>,
    /// Memory to use, such as 512MB or 4GB: half of it for ad-hoc queries, a quarter for state before that goes to a file [default: half of the machine's]
    #[arg(long, env = "MILLRACE_MEMORY", value_name = "SIZE")]
    pub memory: Option<String>,
    /// Acknowledge writes before they are synced to disk: a power failure can lose the last of them
    #[arg(long, env = "MILLRACE_NO_SYNC", num_args = 0..=1, default_missing_value = "true", value_name = "BOOL")]
    pub no_sync: Option<bool>,
    /// Seconds between checkpoints; 0 is only at the end [default: 10]
    #[arg(long, env = "MILLRACE_CHECKPOINT_SECONDS", value_name = "N")]
    pub checkpoint_seconds: Option<u64>,
    /// Clients at the same time [default: 100]
    #[arg(long, env = "MILLRACE_MAX_CONNECTIONS", value_name = "N")]
    pub max_connections: Option<usize>,
    /// The longest message a client may send, such as 64MB [default: 256MB]
    #[arg(long, env = "MILLRACE_MAX_MESSAGE", value_name = "SIZE")]
    pub max_message: Option<String>,
    /// What is logged, such as `info` or `warn,millrace_engine=debug` [default: info]
    #[arg(long, env = "MILLRACE_LOG", value_name = "FILTER")]
    pub log: Option<String>,
    /// `text` or `json` [default: text]
    #[arg(long, env = "MILLRACE_LOG_FORMAT", value_name = "FORMAT")]
    pub log_format: Option<String>,
}

#[derive(Debug, Clone, PartialEq)]
pub enum LogFormat {
    Text,
    Json,
}

/// The options with every choice made.
#[derive(Debug, Clone)]
pub struct Config {
    pub data_dir: PathBuf,
    pub pg_addr: SocketAddr,
    pub http_addr: SocketAddr,
    pub workers: usize,
    pub memory: Option<u64>,
    pub sync: bool,
    pub checkpoint_interval: Option<Duration>,
    pub limits: Limits,
    pub log: String,
    pub log_format: LogFormat,
}

impl Options {
    pub fn from_file(path: &Path) -> Result<Options, String> {
        let text = std::fs::read_to_string(path).map_err(|e| format!("cannot read {}: {e}", path.display()))?;
        Self::from_toml(&text).map_err(|e| format!("{}: {e}", path.display()))
    }

    fn from_toml(text: &str) -> Result<Options, String> {
        let table: toml::Table = text.parse().map_err(|e: toml::de::Error| e.to_string())?;
        let table: toml::Table = table.into_iter().map(|(key, value)| (key.replace('-', "_"), value)).collect();
        table.try_into().map_err(|e: toml::de::Error| e.to_string())
    }

    /// What `self` leaves open, `other` says.
    pub fn or(self, other: Options) -> Options {
        Options {
            data_dir: self.data_dir.or(other.data_dir),
            pg_addr: self.pg_addr.or(other.pg_addr),
            http_addr: self.http_addr.or(other.http_addr),
            workers: self.workers.or(other.workers),
            memory: self.memory.or(other.memory),
            no_sync: self.no_sync.or(other.no_sync),
            checkpoint_seconds: self.checkpoint_seconds.or(other.checkpoint_seconds),
            max_connections: self.max_connections.or(other.max_connections),
            max_message: self.max_message.or(other.max_message),
            log: self.log.or(other.log),
            log_format: self.log_format.or(other.log_format),
        }
    }

    pub fn into_config(self) -> Result<Config, String> {
        let limits = Limits::default();
        let message_bytes_max = match &self.max_message {
            Some(size) => parse_size(size)?.clamp(64 << 10, (1 << 30) - 1) as usize,
            None => limits.message_bytes_max,
        };
        let connections_max = at_least_one("max-connections", self.max_connections.unwrap_or(limits.connections_max))?;
        let cores = std::thread::available_parallelism().map_or(1, |n| n.get());
        let checkpoint_interval = match self.checkpoint_seconds.unwrap_or(10) {
            0 => None,
            seconds => Some(Duration::from_secs(seconds)),
        };
        Ok(Config {
            data_dir: self.data_dir.unwrap_or_else(|| "./millrace-data".into()),
            pg_addr: loopback(self.pg_addr.as_deref().unwrap_or("127.0.0.1:7432"))?,
            http_addr: loopback(self.http_addr.as_deref().unwrap_or("127.0.0.1:7433"))?,
            workers: at_least_one("workers", self.workers.unwrap_or(cores))?,
            memory: self.memory.as_deref().map(parse_size).transpose()?,
            sync: !self.no_sync.unwrap_or(false),
            checkpoint_interval,
            limits: Limits { connections_max, message_bytes_max, ..limits },
            log: self.log.unwrap_or_else(|| "info".into()),
            log_format: match self.log_format.as_deref() {
                None | Some("text") => LogFormat::Text,
                Some("json") => LogFormat::Json,
                Some(other) => return Err(format!("log-format is text or json, not \"{other}\"")),
            },
        })
    }
}

fn at_least_one(what: &str, n: usize) -> Result<usize, String> {
    if n > 0 { Ok(n) } else { Err(format!("{what} must be at least 1")) }
}

fn loopback(text: &str) -> Result<SocketAddr, String> {
    let mut addresses = text.to_socket_addrs().map_err(|e| format!("\"{text}\" is no address to listen on: {e}"))?;
    let address = addresses.next().ok_or_else(|| format!("\"{text}\" has no address"))?;
    if address.ip().is_loopback() {
        return Ok(address);
    }
    Err(format!(
        "refusing to listen on {address}: there are no passwords yet, so Millrace listens on loopback only \
         (127.0.0.1, ::1). Use an SSH tunnel to reach it from elsewhere."
    ))
}

/// `512MB`, `2GiB`, `100000`; units are powers of 1024.
fn parse_size(text: &str) -> Result<u64, String> {
    let text = text.trim();
    let digits = text.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(text.len());
    let unit = text[digits..].trim().to_ascii_lowercase();
    let shift = match unit.trim_end_matches('b').trim_end_matches('i') {
        "" => 0,
        "k" => 10,
        "m" => 20,
        "g" => 30,
        "t" => 40,
        _ => return Err(format!("\"{text}\" is no size; write 512MB or 4GB")),
    };
    let number: f64 = text[..digits].parse().map_err(|_| format!("\"{text}\" is no size; write 512MB or 4GB"))?;
    Ok((number * (1u64 << shift) as f64) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_before_file_before_defaults() {
        let file = Options::from_toml("data-dir = '/d'\nworkers = 3\nmemory = '1GB'\nno_sync = true").unwrap();
        let flags = Options { workers: Some(5), ..Options::default() };
        let config = flags.or(file).into_config().unwrap();
        assert_eq!(config.data_dir, PathBuf::from("/d"));
        assert_eq!((config.workers, config.memory, config.sync), (5, Some(1 << 30), false));
        assert_eq!(config.pg_addr.to_string(), "127.0.0.1:7432");
        assert_eq!(config.checkpoint_interval, Some(Duration::from_secs(10)));
    }

    #[test]
    fn what_is_refused() {
        let refused = |toml: &str| Options::from_toml(toml).and_then(Options::into_config).unwrap_err();
        assert!(refused("pg_addr = '0.0.0.0:7432'").contains("loopback only"));
        assert!(refused("http_addr = '10.1.2.3:80'").contains("loopback only"));
        assert!(refused("pg_addr = 'nonsense'").contains("no address"));
        assert!(refused("wrokers = 1").contains("wrokers"));
        assert!(refused("workers = 0").contains("at least 1"));
        assert!(refused("memory = 'much'").contains("no size"));
        assert!(refused("log_format = 'xml'").contains("text or json"));
    }

    #[test]
    fn sizes() {
        for (text, bytes) in [("100", 100), ("1kB", 1024), ("1.5 MiB", 3 << 19), ("2g", 2 << 30)] {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
    }
}
