//! `millrace serve` as a child process, on a free port and a fresh directory, ended with its owner.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::clients::Client;
use crate::events::Error;

pub struct Server {
    child: Child,
    pub port: u16,
    _directory: tempfile::TempDir,
}

/// The server's program: the one given, else `millrace` beside this program.
pub fn program(given: Option<PathBuf>) -> Result<PathBuf, Error> {
    let beside = || Ok::<_, Error>(std::env::current_exe()?.with_file_name("millrace"));
    let path = given.map_or_else(beside, Ok)?;
    match path.exists() {
        true => Ok(path),
        false => Err(format!("{} is not there; build it, or name it with --server", path.display()).into()),
    }
}

impl Server {
    pub async fn start(program: &Path, sync: bool) -> Result<Self, Error> {
        let directory = tempfile::tempdir()?;
        // Free now; the server takes it at once.
        let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let child = Command::new(program)
            .arg("serve")
            .arg("--data-dir")
            .arg(directory.path())
            .args(["--pg-addr", &format!("127.0.0.1:{port}"), "--http-addr", "127.0.0.1:0", "--log", "warn"])
            .args(if sync { None } else { Some("--no-sync") })
            .stdout(Stdio::null())
            .spawn()?;
        let mut server = Server { child, port, _directory: directory };
        let began = Instant::now();
        while let Err(error) = Client::connect(port).await {
            if let Some(status) = server.child.try_wait()? {
                return Err(format!("the server ended with {status}").into());
            }
            if began.elapsed() > Duration::from_secs(20) {
                return Err(error);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(server)
    }

    /// User and system time of the server so far, in seconds, to a hundredth.
    pub fn cpu_s(&self) -> Result<f64, Error> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        // The second field, the program's name in parentheses, may have spaces; utime and stime are fields 14 and 15.
        let fields: Vec<&str> = stat.rsplit(") ").next().unwrap_or_default().split(' ').collect();
        let ticks = |index: usize| fields.get(index).and_then(|f| f.parse::<f64>().ok()).ok_or("no CPU time in /proc");
        // SAFETY: sysconf has no preconditions.
        let ticks_per_s = unsafe { libc::sysconf(libc::_SC_CLK_TCK) } as f64;
        Ok((ticks(11)? + ticks(12)?) / ticks_per_s)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself, which is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
