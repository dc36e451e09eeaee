//! `millrace demo`: a shop's orders and payments, made up as they go, and four views that follow them.
//!
//! ```text
//!   orders ──┬── revenue_per_minute     TUMBLE, GROUP BY
//!            ├── top_customers          GROUP BY, ORDER BY … LIMIT: rows come in as they rise
//!            ├──┬ paid_orders           JOIN
//!   payments ───┴ unpaid_orders         LEFT JOIN … IS NULL: a row leaves when its payment comes
//! ```
//!
//! It is the whole server, on a fresh directory: psql can connect meanwhile. On a terminal the views are
//! redrawn twice a second; elsewhere their last state is printed as plain text. At the end every view is
//! compared with the batch answer to its query, and the views with each other; the exit code says whether
//! all was right.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::io::{IsTerminal, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use arrow::array::RecordBatch;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use futures::TryStreamExt;
use millrace_engine::session::{Outcome, Session};
use millrace_engine::{Error, Result};

use crate::config::Options;
use crate::serve::{Problem, Server};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// A few seconds of events, then the views as they stand, and an end.
    #[arg(long)]
    once: bool,
    /// For how many seconds orders come (with --once 5, else until Ctrl-C).
    #[arg(long)]
    seconds: Option<u64>,
    /// Orders per second.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    rate: u64,
    /// The port for psql; 0 takes a free one.
    #[arg(long, default_value_t = 0)]
    port: u16,
    /// Keep the data directory and print where it is.
    #[arg(long)]
    keep: bool,
}

/// A view and how a panel shows it.
struct Panel {
    title: &'static str,
    /// The view, as VERIFY names it.
    view: &'static str,
    definition: &'static str,
    show: &'static str,
}

const PANELS: [Panel; 4] = [
    Panel {
        title: "Revenue per minute and category",
        view: "revenue_per_minute",
        definition: "SELECT window_start AS minute, category, count(*) AS orders, sum(amount) AS revenue \
                     FROM TUMBLE(orders, ts, INTERVAL '1 minute') GROUP BY window_start, category",
        show: "SELECT minute, category, orders, revenue FROM revenue_per_minute ORDER BY minute DESC, category LIMIT 5",
    },
    Panel {
        title: "Top customers",
        view: "top_customers",
        definition: "SELECT customer, count(*) AS orders, sum(amount) AS spent \
                     FROM orders GROUP BY customer ORDER BY sum(amount) DESC, customer LIMIT 5",
        show: "SELECT customer, orders, spent FROM top_customers ORDER BY spent DESC, customer",
    },
    Panel {
        title: "Paid orders, the newest",
        view: "paid_orders",
        definition: "SELECT o.id, o.customer, o.category, o.amount, p.method, p.ts AS paid_at \
                     FROM orders o JOIN payments p ON p.order_id = o.id",
        show: "SELECT id, category, amount, method FROM paid_orders ORDER BY id DESC LIMIT 5",
    },
    Panel {
        title: "Unpaid orders, the oldest",
        view: "unpaid_orders",
        definition: "SELECT o.id, o.customer, o.amount, o.ts \
                     FROM orders o LEFT JOIN payments p ON p.order_id = o.id WHERE p.order_id IS NULL",
        show: "SELECT id, customer, amount FROM unpaid_orders ORDER BY id LIMIT 5",
    },
];

/// Nine orders of ten are paid while it runs; the tenth payment is late.
fn streams(rate: u64, seconds: Option<u64>) -> [String; 2] {
    let bounded = |rate: f64| match seconds {
        Some(seconds) => format!("rate = {rate}, count = {}", (rate * seconds as f64) as u64),
        None => format!("rate = {rate}"),
    };
    [
        format!(
            "CREATE STREAM orders (id bigint, customer bigint, category text, amount numeric(10,2), ts timestamptz) \
             WITH (connector = 'datagen', {}, seed = 1, fields.id.kind = 'sequence', fields.id.start = 1, \
             fields.customer.min = 1, fields.customer.max = 40, \
             fields.category.choices = 'books,games,garden,music,tools', fields.amount.min = 5, fields.amount.max = 250)",
            bounded(rate as f64)
        ),
        format!(
            "CREATE STREAM payments (order_id bigint, method text, ts timestamptz) \
             WITH (connector = 'datagen', {}, seed = 2, fields.order_id.kind = 'sequence', fields.order_id.start = 1, \
             fields.method.choices = 'card,transfer,voucher')",
            bounded(rate as f64 * 0.9)
        ),
    ]
}

pub async fn run(args: Args) -> Result<ExitCode, Problem> {
    let seconds = match (args.seconds, args.once) {
        (None, true) => Some(5),
        (given, _) => given,
    };
    let directory = std::env::temp_dir().join(format!("millrace-demo-{}", std::process::id()));
    std::fs::create_dir_all(&directory).map_err(|e| Problem::Other(e.to_string()))?;
    let outcome = play(&args, seconds, directory.clone()).await;
    if args.keep {
        println!("The data is kept in {}", directory.display());
    } else if let Err(error) = std::fs::remove_dir_all(&directory) {
        tracing::warn!(%error, directory = %directory.display(), "the demo's directory stays");
    }
    outcome
}

/// The whole server, with psql's port open, for as long as the shop is.
async fn play(args: &Args, seconds: Option<u64>, directory: PathBuf) -> Result<ExitCode, Problem> {
    let options = Options {
        data_dir: Some(directory),
        pg_addr: Some(format!("127.0.0.1:{}", args.port)),
        http_addr: Some("127.0.0.1:0".into()),
        ..Options::default()
    };
    let server = Server::start(&options.into_config().map_err(Problem::Usage)?).await?;
    let psql = format!("psql -h {} -p {} -U millrace millrace", server.pg_addr.ip(), server.pg_addr.port());
    let shop = Shop { session: server.engine().session("millrace", "millrace") };
    let played = sell(shop, args, seconds, &psql).await;
    server.shutdown().await?;
    played.map_err(|error| Problem::Other(error.message))
}

async fn sell(mut shop: Shop, args: &Args, seconds: Option<u64>, psql: &str) -> Result<ExitCode> {
    for sql in streams(args.rate, seconds) {
        shop.run(&sql).await?;
    }
    for panel in &PANELS {
        shop.run(&format!("CREATE MATERIALIZED VIEW {} AS {}", panel.view, panel.definition)).await?;
    }
    let total = seconds.map(|seconds| args.rate * seconds);
    if std::io::stdout().is_terminal() && !args.once {
        animate(&mut shop, total, psql).await?;
    } else {
        let span = seconds.map_or("until Ctrl-C".into(), |seconds| format!("for {seconds} seconds"));
        println!("Orders and payments come {span}. To look further meanwhile: {psql}");
        wait_for_end(&mut shop, total, seconds).await?;
    }
    let frame = shop.frame().await?;
    print!("{}", plain(&frame));
    let wrong = shop.check().await?;
    for message in &wrong {
        println!("WRONG: {message}");
    }
    if wrong.is_empty() {
        println!(
            "Every view equals the batch answer to its query (VERIFY MATERIALIZED VIEW), and they agree with each other."
        );
    }
    Ok(if wrong.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The four tables as text cells, and how much has come so far.
struct Frame {
    orders: u64,
    payments: u64,
    tables: Vec<Table>,
}

struct Table {
    title: &'static str,
    columns: Vec<String>,
    rows: Vec<Vec<String>>,
    /// Numbers stand at the right.
    right: Vec<bool>,
}

/// The engine, as a client sees it.
struct Shop {
    session: Session,
}

impl Shop {
    async fn run(&mut self, sql: &str) -> Result<Vec<RecordBatch>> {
        let statement = self.session.parse(sql)?.pop().ok_or_else(|| Error::internal("no statement"))?;
        let prepared = self.session.prepare(statement, &[]).await?;
        match self.session.execute(&prepared, vec![]).await? {
            Outcome::Rows { rows, .. } => rows.try_collect().await,
            _ => Ok(vec![]),
        }
    }

    /// The first row of a query that gives whole numbers.
    async fn numbers(&mut self, sql: &str) -> Result<Vec<u64>> {
        let batches = self.run(sql).await?;
        let table = table("", &batches)?;
        let row = table.rows.first().map(Vec::as_slice).unwrap_or_default();
        Ok(row.iter().map(|cell| cell.parse().unwrap_or(0)).collect())
    }

    async fn arrived(&mut self) -> Result<(u64, u64)> {
        let counts = "SELECT o.n, p.n FROM (SELECT count(*) AS n FROM orders) o CROSS JOIN (SELECT count(*) AS n FROM payments) p";
        let counts = self.numbers(counts).await?;
        Ok((counts[0], counts[1]))
    }

    async fn frame(&mut self) -> Result<Frame> {
        let (orders, payments) = self.arrived().await?;
        let mut tables = Vec::new();
        for panel in &PANELS {
            tables.push(table(panel.title, &self.run(panel.show).await?)?);
        }
        Ok(Frame { orders, payments, tables })
    }

    /// What is wrong, as messages: nothing, one hopes.
    async fn check(&mut self) -> Result<Vec<String>> {
        let mut wrong = Vec::new();
        for panel in &PANELS {
            let difference = self.run(&format!("VERIFY MATERIALIZED VIEW {}", panel.view)).await?;
            let rows: usize = difference.iter().map(RecordBatch::num_rows).sum();
            if rows > 0 {
                wrong.push(format!("{} differs from its query in {rows} rows", panel.view));
            }
        }
        // One statement reads one snapshot, whatever arrives meanwhile.
        let counts = "SELECT o.n, r.n, p.n + u.n, o.n - u.n, p.n FROM (SELECT count(*) AS n FROM orders) o \
                      CROSS JOIN (SELECT CAST(sum(orders) AS bigint) AS n FROM revenue_per_minute) r \
                      CROSS JOIN (SELECT count(*) AS n FROM paid_orders) p \
                      CROSS JOIN (SELECT count(*) AS n FROM unpaid_orders) u";
        let counts = self.numbers(counts).await?;
        if counts[0] == 0 {
            wrong.push("no orders came".into());
        }
        if counts[0] != counts[1] {
            wrong.push(format!("{} orders came, revenue_per_minute counts {}", counts[0], counts[1]));
        }
        if counts[2] != counts[0] || counts[3] != counts[4] {
            wrong.push(format!("{} orders came, {} are paid or unpaid", counts[0], counts[2]));
        }
        Ok(wrong)
    }
}

/// Waits until all has come that is to come.
async fn wait_for_end(shop: &mut Shop, total: Option<u64>, seconds: Option<u64>) -> Result<()> {
    let Some(total) = total else {
        tokio::signal::ctrl_c().await?;
        return Ok(());
    };
    let deadline = Instant::now() + Duration::from_secs(seconds.unwrap_or(0) + 60);
    while !ended(shop.arrived().await?, total) {
        if Instant::now() > deadline {
            return Err(Error::canceled("the demo's events did not all come in time"));
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

fn ended((orders, payments): (u64, u64), total: u64) -> bool {
    orders >= total && payments >= (total as f64 * 0.9) as u64
}

/// Redraws until the end or Ctrl-C, on the terminal's other screen.
async fn animate(shop: &mut Shop, total: Option<u64>, psql: &str) -> Result<()> {
    const ENTER: &str = "\x1b[?1049h\x1b[?25l";
    const LEAVE: &str = "\x1b[?25h\x1b[?1049l";
    print!("{ENTER}");
    let redraw = async {
        let (began, mut shown) = (Instant::now(), HashSet::new());
        loop {
            let frame = shop.frame().await?;
            let (text, rows) = colourful(&frame, &shown, began.elapsed(), psql);
            shown = rows;
            let mut out = std::io::stdout().lock();
            out.write_all(text.as_bytes())?;
            out.flush()?;
            drop(out);
            if total.is_some_and(|total| ended((frame.orders, frame.payments), total)) {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    };
    let result = tokio::select! {
        result = redraw => result,
        interrupted = tokio::signal::ctrl_c() => interrupted.map_err(Error::from),
    };
    print!("{LEAVE}");
    std::io::stdout().flush()?;
    result
}

const PANEL_WIDTH: usize = 38;

/// The screen: two panels beside each other, rows that are new since the last frame in colour. Answers the
/// rows too, for the next frame.
fn colourful(frame: &Frame, shown: &HashSet<String>, running: Duration, psql: &str) -> (String, HashSet<String>) {
    let (bold, dim, fresh, plain, line_end) = ("\x1b[1m", "\x1b[2m", "\x1b[32m", "\x1b[0m", "\x1b[K\r\n");
    let mut text = String::from("\x1b[H");
    let mut rows = HashSet::new();
    let seconds = running.as_secs();
    let _ = write!(
        text,
        "{bold}Millrace{plain}  {} orders, {} payments in {seconds} s{line_end}{line_end}",
        frame.orders, frame.payments
    );
    for pair in frame.tables.chunks(2) {
        let panels: Vec<Vec<String>> = pair
            .iter()
            .map(|table| {
                let lines = lines(table);
                let mut panel = vec![format!("{bold}{:<PANEL_WIDTH$}{plain}", table.title)];
                panel.push(format!("{dim}{:<PANEL_WIDTH$}{plain}", lines[0]));
                for line in &lines[1..] {
                    let key = format!("{} {line}", table.title);
                    let colour = if shown.contains(&key) || shown.is_empty() { "" } else { fresh };
                    panel.push(format!("{colour}{line:<PANEL_WIDTH$}{plain}"));
                    rows.insert(key);
                }
                panel.resize(7, " ".repeat(PANEL_WIDTH));
                panel
            })
            .collect();
        for line in 0..7 {
            let side_by_side: Vec<&str> = panels.iter().map(|panel| panel[line].as_str()).collect();
            let _ = write!(text, "{}{line_end}", side_by_side.join("   "));
        }
        text.push_str(line_end);
    }
    let _ = write!(text, "{dim}Look further:{plain} {psql}{line_end}{dim}Ctrl-C ends.{plain}\x1b[J");
    (text, rows)
}

fn plain(frame: &Frame) -> String {
    let mut text = format!("\n{} orders and {} payments came.\n", frame.orders, frame.payments);
    for table in &frame.tables {
        let _ = writeln!(text, "\n{}", table.title);
        for line in lines(table) {
            let _ = writeln!(text, "  {}", line.trim_end());
        }
    }
    text.push('\n');
    text
}

/// The heading and the rows, in columns.
fn lines(table: &Table) -> Vec<String> {
    let cells = || std::iter::once(&table.columns).chain(&table.rows);
    let widths: Vec<usize> =
        (0..table.columns.len()).map(|c| cells().map(|row| row[c].chars().count()).max().unwrap_or(0)).collect();
    let line = |row: &Vec<String>| {
        let aligned = row.iter().zip(&widths).zip(&table.right).map(|((cell, width), right)| match right {
            true => format!("{cell:>width$}"),
            false => format!("{cell:<width$}"),
        });
        aligned.collect::<Vec<_>>().join("  ")
    };
    cells().map(line).collect()
}

fn table(title: &'static str, batches: &[RecordBatch]) -> Result<Table> {
    let options = FormatOptions::default().with_timestamp_format(Some("%H:%M")).with_timestamp_tz_format(Some("%H:%M"));
    let mut table = Table { title, columns: vec![], rows: vec![], right: vec![] };
    for batch in batches {
        let schema = batch.schema();
        table.columns = schema.fields().iter().map(|f| f.name().clone()).collect();
        table.right = schema.fields().iter().map(|f| f.data_type().is_numeric()).collect();
        let columns = batch.columns().iter().map(|column| ArrayFormatter::try_new(column, &options));
        let columns = columns.collect::<std::result::Result<Vec<_>, _>>().map_err(Error::internal)?;
        for row in 0..batch.num_rows() {
            table.rows.push(columns.iter().map(|column| column.value(row).to_string()).collect());
        }
    }
    Ok(table)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame() -> Frame {
        let cells = |row: &[&str]| row.iter().map(|cell| cell.to_string()).collect::<Vec<_>>();
        let table = |title| Table {
            title,
            columns: cells(&["id", "category"]),
            rows: vec![cells(&["7", "books"]), cells(&["12", "tools"])],
            right: vec![true, false],
        };
        Frame { orders: 12, payments: 10, tables: PANELS.iter().map(|panel| table(panel.title)).collect() }
    }

    #[test]
    fn numbers_stand_at_the_right() {
        assert_eq!(lines(&frame().tables[0]), ["id  category", " 7  books   ", "12  tools   "]);
        assert!(plain(&frame()).contains("\nTop customers\n  id  category\n   7  books\n"));
    }

    #[test]
    fn only_new_rows_are_coloured() {
        let (first, shown) = colourful(&frame(), &HashSet::new(), Duration::ZERO, "psql");
        assert!(!first.contains("\x1b[32m"));
        let mut next = frame();
        next.tables[2].rows[1][0] = "13".into();
        let (second, _) = colourful(&next, &shown, Duration::ZERO, "psql");
        assert_eq!(second.matches("\x1b[32m").count(), 1);
        assert!(second.contains("\x1b[32m13  tools"));
    }

    #[test]
    fn an_end_is_known_by_its_counts() {
        let [orders, payments] = streams(200, Some(5));
        assert!(orders.contains("rate = 200, count = 1000,") && payments.contains("rate = 180, count = 900,"));
        assert!(!ended((1000, 899), 1000) && ended((1000, 900), 1000));
        assert!(!streams(200, None)[0].contains("count"));
    }
}
