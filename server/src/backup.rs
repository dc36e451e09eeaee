//! `millrace backup` and `millrace backups`.
//!
//! ```text
//!   millrace backup --to s3://bucket/prefix --keep 7          asks the server at --server for it, by SQL
//!   millrace backup --to s3://bucket/prefix --data-dir DIR    does it, where no server runs
//! ```
//!
//! As with pg_basebackup a running server is the usual case. Unlike there the server itself sends the files, with the
//! credentials in its own environment; they never come through this connection.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args as ClapArgs;
use millrace_engine::tools;
use tokio_postgres::{NoTls, SimpleQueryMessage};

use crate::serve::Problem;

#[derive(Debug, ClapArgs)]
pub struct Args {
    /// Where to: s3://bucket/prefix (credentials and endpoint from AWS_… in the server's environment), file:///directory
    #[arg(long, value_name = "URL")]
    to: String,
    /// Then delete all but the newest N backups there
    #[arg(long, value_name = "N")]
    keep: Option<u64>,
    /// The running server
    #[arg(long, env = "MILLRACE_PG_ADDR", value_name = "HOST:PORT", default_value = "127.0.0.1:7432")]
    server: String,
    /// Not a running server, but a data directory that none has open
    #[arg(long, value_name = "DIRECTORY")]
    data_dir: Option<PathBuf>,
}

/// Makes a backup and prints what it consists of.
pub async fn run(args: Args) -> Result<ExitCode, Problem> {
    match &args.data_dir {
        Some(directory) => {
            let clock = || chrono::Utc::now().timestamp_micros();
            let made = tools::backup(directory, &args.to, args.keep, clock).await.map_err(Problem::of_engine)?;
            let name = made.name.unwrap_or_default();
            println!("{}: backup {name} of epoch {}", args.to, made.epoch.unwrap_or_default());
            println!("{} files of {} bytes", made.files, made.bytes);
            println!("{} files of {} bytes sent", made.sent_files, made.sent_bytes);
        }
        None => ask(&args).await?,
    }
    Ok(ExitCode::SUCCESS)
}

async fn ask(args: &Args) -> Result<(), Problem> {
    let (host, port) = args
        .server
        .rsplit_once(':')
        .ok_or_else(|| Problem::Usage(format!("\"{}\" is no address: write HOST:PORT", args.server)))?;
    let port = port.parse().map_err(|_| Problem::Usage(format!("\"{port}\" is no port")))?;
    let mut config = tokio_postgres::Config::new();
    config.host(host.trim_matches(['[', ']'])).port(port).user("millrace").dbname("millrace");
    config.application_name("millrace backup");
    let (client, connection) = config.connect(NoTls).await.map_err(|e| {
        let address = &args.server;
        Problem::Other(format!(
            "cannot reach a server at {address}: {e}\nA data directory that none has open is backed up with --data-dir."
        ))
    })?;
    let connection = tokio::spawn(connection);
    let keep = args.keep.map(|n| format!(" KEEP {n}")).unwrap_or_default();
    let statement = format!("BACKUP TO '{}'{keep}", args.to.replace('\'', "''"));
    client.batch_execute(&statement).await.map_err(of_server)?;
    let newest = "SELECT name, epoch, files, bytes, sent_files, sent_bytes FROM mr_backups \
                  WHERE state = 'done' ORDER BY started DESC LIMIT 1";
    for message in client.simple_query(newest).await.map_err(of_server)? {
        if let SimpleQueryMessage::Row(row) = message {
            let value = |i| row.get(i).unwrap_or_default();
            println!("{}: backup {} of epoch {}", args.to, value(0), value(1));
            println!("{} files of {} bytes", value(2), value(3));
            println!("{} files of {} bytes sent", value(4), value(5));
        }
    }
    drop(client);
    let _ = connection.await;
    Ok(())
}

fn of_server(error: tokio_postgres::Error) -> Problem {
    Problem::Other(match error.as_db_error() {
        None => error.to_string(),
        Some(db) => {
            let line = |text: Option<&str>| text.map(|text| format!("\n{text}")).unwrap_or_default();
            format!("{}{}{}", db.message(), line(db.detail()), line(db.hint()))
        }
    })
}

/// Prints the backups at a URL, the oldest first; the exit code is 5 when one is damaged.
pub async fn list(url: &str) -> Result<ExitCode, Problem> {
    let mut damaged = false;
    for backup in tools::backups(url).await.map_err(Problem::of_engine)? {
        match backup {
            Ok(b) => println!("{}  epoch {}, {} files of {} bytes", b.name, b.epoch, b.files, b.bytes),
            Err(error) => {
                damaged = true;
                println!("damaged: {error}");
            }
        }
    }
    Ok(if damaged { ExitCode::from(5) } else { ExitCode::SUCCESS })
}
