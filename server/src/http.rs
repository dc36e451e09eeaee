//! HTTP beside the database: `/health` (the process lives), `/ready` (it serves), `/metrics` (Prometheus).
//!
//! Requests must name this machine in their Host header: a web page elsewhere cannot make a browser here ask.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::http::header::{CONTENT_TYPE, HOST};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::net::TcpListener;

/// What the pages show.
pub struct Pages {
    /// `None` when ready; otherwise why not.
    pub not_ready: Box<dyn Fn() -> Option<String> + Send + Sync>,
    /// Brings gauges up to date before they are read.
    pub refresh_metrics: Box<dyn Fn() + Send + Sync>,
    pub metrics: PrometheusHandle,
}

/// Serves until `stop` resolves.
pub async fn serve(listener: TcpListener, pages: Arc<Pages>, stop: impl Future<Output = ()> + Send + 'static) {
    let router = Router::new()
        .route("/health", get(|| async { "ok\n" }))
        .route("/ready", get(ready))
        .route("/metrics", get(metrics_page))
        .layer(middleware::from_fn(check_host))
        .with_state(pages);
    if let Err(error) = axum::serve(listener, router).with_graceful_shutdown(stop).await {
        tracing::error!(%error, "HTTP ended");
    }
}

async fn ready(State(pages): State<Arc<Pages>>) -> Response {
    match (pages.not_ready)() {
        None => "ready\n".into_response(),
        Some(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")).into_response(),
    }
}

async fn metrics_page(State(pages): State<Arc<Pages>>) -> Response {
    (pages.refresh_metrics)();
    ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], pages.metrics.render()).into_response()
}

async fn check_host(request: Request, next: Next) -> Response {
    let host = request.headers().get(HOST).and_then(|h| h.to_str().ok()).unwrap_or("");
    if names_this_machine(host) {
        next.run(request).await
    } else {
        (StatusCode::FORBIDDEN, "this host is not served here\n").into_response()
    }
}

/// `localhost`, `127.0.0.1` or `[::1]`, with any port.
fn names_this_machine(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or(""),
        None => host.split(':').next().unwrap_or(""),
    };
    name.eq_ignore_ascii_case("localhost")
        || name.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts() {
        for good in ["localhost", "LOCALHOST:7433", "127.0.0.1:7433", "127.0.0.2", "[::1]:7433"] {
            assert!(names_this_machine(good), "{good}");
        }
        for bad in ["", "example.com", "localhost.example.com", "10.0.0.1:7433", "[::2]:7433", "0.0.0.0"] {
            assert!(!names_this_machine(bad), "{bad}");
        }
    }
}
