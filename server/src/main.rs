//! `millrace`: the command line.

mod processor;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use millrace_server::config::{LogFormat, Options};
use millrace_server::serve::{self, Problem};
use millrace_server::{backup, demo, files, logging};

#[global_allocator]
static ALLOCATOR: millrace_engine::allocator::Allocator = millrace_engine::allocator::Allocator;

/// A streaming SQL database that speaks Postgres.
#[derive(Parser)]
#[command(name = "millrace", version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve Postgres clients from a data directory
    Serve {
        /// Read options from a TOML file
        #[arg(long, env = "MILLRACE_CONFIG", value_name = "FILE")]
        config: Option<PathBuf>,
        #[command(flatten)]
        options: Options,
    },
    /// Read a data directory whole and tell what is damaged; it must not be in use
    Check { directory: PathBuf },
    /// Print a data directory as text: catalog, checkpoint, epochs and rows; it must not be in use
    Dump {
        directory: PathBuf,
        /// Only this relation's rows
        #[arg(long, value_name = "NAME")]
        relation: Option<String>,
    },
    /// Back up a running server to s3://bucket/prefix or file:///directory, or a data directory that no server has open
    Backup(backup::Args),
    /// List the backups in s3://bucket/prefix or file:///directory
    Backups { url: String },
    /// Make a data directory of a backup: the newest in s3://bucket/prefix or file:///directory, or one in a directory
    Restore {
        #[arg(value_name = "URL|DIRECTORY")]
        from: String,
        directory: PathBuf,
        /// Not the newest in an object store, but this one
        #[arg(long, value_name = "NAME")]
        backup: Option<String>,
    },
    /// Watch views follow a made-up shop's orders and payments
    Demo(demo::Args),
}

/// Planning recurses, several times over for a chain of a thousand operators, and nobody survives the end of a stack.
/// Only what is used of it takes memory.
const STACK_BYTES: usize = 64 << 20;

/// Threads beyond one a processor. Statements compute on these threads, some for tens of milliseconds at a time: the
/// system shares the processors fairly among threads, a thread among its tasks only when they pause.
const SPARE_THREADS: usize = 2;

fn main() -> ExitCode {
    if let Some(instructions) = processor::missing() {
        eprintln!("millrace: this build needs a processor with {instructions}; README.md says how to build without");
        return ExitCode::FAILURE;
    }
    match run(Cli::parse()) {
        Ok(code) => code,
        Err(problem) => {
            eprintln!("millrace: {}", problem.message());
            ExitCode::from(problem.exit_code())
        }
    }
}

fn run(cli: Cli) -> Result<ExitCode, Problem> {
    let cores = std::thread::available_parallelism().map_or(1, |n| n.get());
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(cores + SPARE_THREADS)
        .thread_stack_size(STACK_BYTES)
        .enable_all()
        .build();
    let runtime = runtime.map_err(|e| Problem::Other(format!("cannot start threads: {e}")))?;
    match cli.command {
        Command::Serve { config, options } => {
            let file = config.map(|path| Options::from_file(&path)).transpose().map_err(Problem::Usage)?;
            let config = options.or(file.unwrap_or_default()).into_config().map_err(Problem::Usage)?;
            logging::start(&config.log, &config.log_format).map_err(Problem::Usage)?;
            runtime.block_on(serve::run(config))?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Check { directory } => files::check(&directory),
        Command::Dump { directory, relation } => files::dump(&directory, relation.as_deref()),
        Command::Backup(args) => runtime.block_on(backup::run(args)),
        Command::Backups { url } => runtime.block_on(backup::list(&url)),
        Command::Restore { from, directory, backup } => {
            runtime.block_on(files::restore(&from, backup.as_deref(), &directory))
        }
        Command::Demo(args) => {
            // What the demo prints is the point; the log only speaks up when something is wrong.
            let filter = std::env::var("MILLRACE_LOG").unwrap_or_else(|_| "warn".into());
            logging::start(&filter, &LogFormat::Text).map_err(Problem::Usage)?;
            runtime.block_on(demo::run(args))
        }
    }
}
