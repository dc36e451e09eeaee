//! Runs the server: open the engine, listen, serve until told to stop, stop in order.
//!
//! ```text
//!   bind both ports ─► HTTP (not ready) ─► open the engine ─► Postgres ─► `listening on …`
//!   SIGTERM, Ctrl-C ─► no new statements ─► running ones get some seconds ─► checkpoint ─► exit
//! ```

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use millrace_engine::Error;
use millrace_engine::engine::{Config as EngineConfig, Engine};
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::config::Config;
use crate::http::{self, Pages};
use crate::pg::{self, Sessions, Shared};
use crate::pg_catalog::PgCatalog;

/// Running statements may take so long to end once the server stops …
const STOP_GRACE: Duration = Duration::from_secs(5);
/// … and, cancelled then, so much longer.
const CANCEL_GRACE: Duration = Duration::from_secs(2);

/// Why the server could not run; each kind has an exit code of its own.
#[derive(Debug)]
pub enum Problem {
    Usage(String),
    AddressInUse(String),
    DirectoryInUse(String),
    DirectoryDamaged(String),
    Other(String),
}

impl Problem {
    pub fn exit_code(&self) -> u8 {
        match self {
            Problem::Other(_) => 1,
            Problem::Usage(_) => 2,
            Problem::AddressInUse(_) => 3,
            Problem::DirectoryInUse(_) => 4,
            Problem::DirectoryDamaged(_) => 5,
        }
    }
    pub fn message(&self) -> &str {
        match self {
            Problem::Usage(m)
            | Problem::AddressInUse(m)
            | Problem::DirectoryInUse(m)
            | Problem::DirectoryDamaged(m)
            | Problem::Other(m) => m,
        }
    }
    pub fn of_engine(error: Error) -> Problem {
        let detail = error.detail.as_deref().map(|d| format!("\n{d}")).unwrap_or_default();
        let hint = error.hint.as_deref().map(|h| format!("\n{h}")).unwrap_or_default();
        let message = format!("{}{detail}{hint}", error.message);
        match error.code {
            "55006" => Problem::DirectoryInUse(message),
            code if code.starts_with("XX") => Problem::DirectoryDamaged(message),
            _ => Problem::Other(message),
        }
    }
}

/// A server under way, for whoever started it in this process.
pub struct Server {
    pub pg_addr: SocketAddr,
    pub http_addr: SocketAddr,
    engine: Arc<Engine>,
    shared: Arc<Shared>,
    stop: watch::Sender<bool>,
}

impl Server {
    /// Listens and opens the engine; returns when clients are served.
    pub async fn start(config: &Config) -> Result<Server, Problem> {
        // Ports first: they fail at once, while recovery may take its time.
        let (pg_listener, pg_addr) = bind(config.pg_addr).await?;
        let (http_listener, http_addr) = bind(config.http_addr).await?;
        let (stop, stopping) = watch::channel(false);
        let opened: Arc<OnceLock<Arc<Engine>>> = Arc::default();
        tokio::spawn(http::serve(http_listener, Arc::new(pages(opened.clone())?), stopped(stopping.clone())));

        let engine_config = EngineConfig {
            workers: config.workers,
            memory: config.memory,
            sync: config.sync,
            checkpoint_interval: config.checkpoint_interval,
            ..EngineConfig::new(&config.data_dir)
        };
        let opening = tokio::task::spawn_blocking(move || Engine::open(engine_config)).await;
        let engine = opening.map_err(|e| Problem::Other(e.to_string()))?.map_err(Problem::of_engine)?;
        engine.set_system_catalog(Arc::new(PgCatalog));
        let shared = Arc::new(Shared {
            open_session: {
                let engine = engine.clone();
                Box::new(move |user, database| engine.session(user, database))
            },
            sessions: Sessions::default(),
            limits: config.limits.clone(),
            stopping,
        });
        let _ = opened.set(engine.clone());
        tokio::spawn(pg::accept(pg_listener, shared.clone()));
        Ok(Server { pg_addr, http_addr, engine, shared, stop })
    }

    pub fn engine(&self) -> &Arc<Engine> {
        &self.engine
    }

    /// Lets running statements end, then cancels them, then writes a checkpoint.
    pub async fn shutdown(self) -> Result<(), Problem> {
        let _ = self.stop.send(true);
        if tokio::time::timeout(STOP_GRACE, self.all_gone()).await.is_err() {
            tracing::warn!(connections = self.shared.sessions.len(), "cancelling what still runs");
            self.shared.sessions.cancel_all();
            let _ = tokio::time::timeout(CANCEL_GRACE, self.all_gone()).await;
        }
        self.engine.shutdown().await.map(|_| ()).map_err(Problem::of_engine)
    }

    async fn all_gone(&self) {
        while !self.shared.sessions.is_empty() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

/// `millrace serve`: runs until a signal comes.
pub async fn run(config: Config) -> Result<(), Problem> {
    let signals = Signals::new()?;
    let server = Server::start(&config).await?;
    if !config.sync {
        tracing::warn!("writes are acknowledged before they are on disk (no-sync): a power failure can lose them");
    }
    println!("listening on {} (Postgres), http://{} (health, metrics)", server.pg_addr, server.http_addr);
    tracing::info!(pg = %server.pg_addr, http = %server.http_addr, data = %config.data_dir.display(), "listening");
    let signal = signals.wait().await;
    tracing::info!(signal, "stopping");
    server.shutdown().await?;
    tracing::info!("stopped");
    Ok(())
}

/// Listened for from the start, so that a signal during recovery is not lost.
pub struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

impl Signals {
    pub fn new() -> Result<Signals, Problem> {
        use tokio::signal::unix::{SignalKind, signal};
        let listen = |kind| signal(kind).map_err(|e| Problem::Other(format!("cannot listen for signals: {e}")));
        Ok(Signals { terminate: listen(SignalKind::terminate())?, interrupt: listen(SignalKind::interrupt())? })
    }
    pub async fn wait(mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

async fn bind(address: SocketAddr) -> Result<(TcpListener, SocketAddr), Problem> {
    let problem = |e: std::io::Error| match e.kind() {
        std::io::ErrorKind::AddrInUse => Problem::AddressInUse(format!(
            "{address} is in use. Is another Millrace running? Choose another port, or 0."
        )),
        _ => Problem::Other(format!("cannot listen on {address}: {e}")),
    };
    let listener = TcpListener::bind(address).await.map_err(problem)?;
    let bound = listener.local_addr().map_err(problem)?;
    Ok((listener, bound))
}

async fn stopped(mut stopping: watch::Receiver<bool>) {
    // An error means that the server is gone, which is a stop too.
    let _ = stopping.wait_for(|stop| *stop).await;
}

/// Metrics belong to the process: the first server makes the recorder, later ones (in tests) share it.
fn recorder() -> Result<PrometheusHandle, Problem> {
    static RECORDER: OnceLock<Result<PrometheusHandle, String>> = OnceLock::new();
    let made = RECORDER.get_or_init(|| PrometheusBuilder::new().install_recorder().map_err(|e| e.to_string()));
    made.clone().map_err(Problem::Other)
}

fn pages(opened: Arc<OnceLock<Arc<Engine>>>) -> Result<Pages, Problem> {
    let metrics = recorder()?;
    let for_metrics = (opened.clone(), metrics.clone());
    Ok(Pages {
        not_ready: Box::new(move || match opened.get() {
            None => Some("opening the data directory".into()),
            Some(engine) => engine.status().failure.map(|e| e.message),
        }),
        refresh_metrics: Box::new(move || {
            let (opened, handle) = &for_metrics;
            handle.run_upkeep();
            if let Some(engine) = opened.get() {
                gauge_status(engine);
            }
        }),
        metrics,
    })
}

fn gauge_status(engine: &Engine) {
    let status = engine.status();
    metrics::gauge!("millrace_epoch").set(status.epoch as f64);
    metrics::gauge!("millrace_closed_epoch").set(status.closed_epoch as f64);
    metrics::gauge!("millrace_disk_bytes").set(status.disk_bytes as f64);
    metrics::gauge!("millrace_query_bytes").set(status.query_bytes as f64);
    for view in status.views {
        let name = view.name;
        metrics::gauge!("millrace_view_rows", "view" => name.clone()).set(view.rows as f64);
        metrics::gauge!("millrace_view_state_rows", "view" => name.clone()).set(view.state_rows as f64);
        metrics::gauge!("millrace_view_state_bytes", "view" => name.clone()).set(view.state_bytes as f64);
        metrics::gauge!("millrace_view_errors", "view" => name).set(view.errors as f64);
    }
}
