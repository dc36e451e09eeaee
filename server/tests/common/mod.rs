//! A server in this process, on free ports and a fresh directory.

use millrace_server::config::Options;
use millrace_server::serve::Server;
use tempfile::TempDir;

pub struct Running {
    pub server: Server,
    /// Removed when dropped.
    pub directory: TempDir,
}

pub async fn start(change: impl FnOnce(&mut Options)) -> Running {
    let directory = tempfile::tempdir().expect("the temporary directory is writable");
    let mut options = Options {
        data_dir: Some(directory.path().to_path_buf()),
        pg_addr: Some("127.0.0.1:0".into()),
        http_addr: Some("127.0.0.1:0".into()),
        workers: Some(1),
        no_sync: Some(true),
        ..Options::default()
    };
    change(&mut options);
    let config = options.into_config().expect("the options are good");
    let server = Server::start(&config).await.unwrap_or_else(|p| panic!("{}", p.message()));
    Running { server, directory }
}
