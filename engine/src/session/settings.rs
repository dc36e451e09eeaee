//! Settings that clients of Postgres set and show, with Postgres' defaults where Millrace has no own.

use std::time::Duration;

use crate::error::{Error, Result};
use crate::sql::text::zone;

struct Setting {
    name: &'static str,
    default: &'static str,
    /// Told to the client when it changes (GUC_REPORT).
    reported: bool,
    read_only: bool,
    description: &'static str,
}

const fn s(name: &'static str, default: &'static str, description: &'static str) -> Setting {
    Setting { name, default, reported: false, read_only: false, description }
}
const fn r(name: &'static str, default: &'static str, description: &'static str) -> Setting {
    Setting { name, default, reported: true, read_only: false, description }
}
const fn fixed(name: &'static str, default: &'static str, reported: bool, description: &'static str) -> Setting {
    Setting { name, default, reported, read_only: true, description }
}

/// What Postgres' planner asks: there it changes plans, and no answer.
const fn planner(name: &'static str, default: &'static str) -> Setting {
    s(name, default, "Accepted for compatibility; it is Postgres' planner's.")
}

/// `lower case` names; spelled for reports as in [`reported_name`].
const SETTINGS: &[Setting] = &[
    r("application_name", "", "Sets the application name to be reported in statistics and logs."),
    fixed("block_size", "8192", false, "Shows the size of a disk block, which sizes are given in."),
    s("bytea_output", "hex", "Sets the output format for bytea."),
    s("check_function_bodies", "on", "Check routine bodies during CREATE FUNCTION."),
    r("client_encoding", "UTF8", "Sets the client's character set encoding."),
    s("client_min_messages", "notice", "Sets the message levels that are sent to the client."),
    s("compute_query_id", "auto", "Accepted for compatibility."),
    planner("constraint_exclusion", "partition"),
    planner("cpu_index_tuple_cost", "0.005"),
    planner("cpu_operator_cost", "0.0025"),
    planner("cpu_tuple_cost", "0.01"),
    planner("cursor_tuple_fraction", "0.1"),
    r("datestyle", "ISO, MDY", "Sets the display format for date and time values."),
    planner("default_statistics_target", "100"),
    s("default_table_access_method", "heap", "Accepted for compatibility."),
    s("default_tablespace", "", "Accepted for compatibility."),
    s("default_transaction_deferrable", "off", "Accepted for compatibility."),
    s("default_transaction_isolation", "read committed", "The isolation level of transactions that name none."),
    r("default_transaction_read_only", "off", "Sets the default read-only status of new transactions."),
    planner("effective_cache_size", "4GB"),
    planner("enable_async_append", "on"),
    planner("enable_bitmapscan", "on"),
    planner("enable_gathermerge", "on"),
    planner("enable_hashagg", "on"),
    planner("enable_hashjoin", "on"),
    planner("enable_incremental_sort", "on"),
    planner("enable_indexonlyscan", "on"),
    planner("enable_indexscan", "on"),
    planner("enable_material", "on"),
    planner("enable_memoize", "on"),
    planner("enable_mergejoin", "on"),
    planner("enable_nestloop", "on"),
    planner("enable_parallel_append", "on"),
    planner("enable_parallel_hash", "on"),
    planner("enable_partition_pruning", "on"),
    planner("enable_partitionwise_aggregate", "off"),
    planner("enable_partitionwise_join", "off"),
    planner("enable_seqscan", "on"),
    planner("enable_sort", "on"),
    planner("enable_tidscan", "on"),
    s("extra_float_digits", "1", "Sets the number of digits displayed for floating-point values."),
    planner("force_parallel_mode", "off"),
    planner("from_collapse_limit", "8"),
    s("geqo", "on", "Accepted for compatibility."),
    planner("geqo_threshold", "12"),
    planner("hash_mem_multiplier", "2"),
    s("idle_in_transaction_session_timeout", "0", "So long a client may be silent within a transaction; 0 is no end."),
    s("idle_session_timeout", "0", "So long a client may be silent outside of transactions; 0 is no end."),
    fixed("in_hot_standby", "off", true, "Whether hot standby is active."),
    fixed("integer_datetimes", "on", true, "Datetimes are integer based."),
    r("intervalstyle", "postgres", "Sets the display format for interval values."),
    fixed("is_superuser", "on", true, "Whether the current user is a superuser."),
    s("jit", "off", "Accepted for compatibility."),
    planner("jit_above_cost", "100000"),
    planner("join_collapse_limit", "8"),
    s("lc_collate", "C", "Shows the collation order locale."),
    s("lc_ctype", "C", "Shows the character classification locale."),
    s("lc_messages", "C", "Sets the language in which messages are displayed."),
    s("lc_monetary", "C", "Sets the locale for formatting monetary amounts."),
    s("lc_numeric", "C", "Sets the locale for formatting numbers."),
    s("lc_time", "C", "Sets the locale for formatting date and time values."),
    s("lock_timeout", "0", "So long a statement waits for a row or an advisory lock that others have; 0 is no end."),
    planner("maintenance_work_mem", "64MB"),
    fixed("max_identifier_length", "63", false, "Shows the maximum identifier length."),
    fixed("max_index_keys", "32", false, "Shows the maximum number of index keys."),
    planner("max_parallel_maintenance_workers", "2"),
    planner("max_parallel_workers", "8"),
    planner("max_parallel_workers_per_gather", "2"),
    fixed("max_replication_slots", "0", false, "There are none: nobody can follow the log."),
    fixed("max_wal_senders", "0", false, "There are none: nobody can follow the log."),
    planner("min_parallel_index_scan_size", "512kB"),
    planner("min_parallel_table_scan_size", "8MB"),
    planner("parallel_leader_participation", "on"),
    planner("parallel_setup_cost", "1000"),
    planner("parallel_tuple_cost", "0.1"),
    planner("plan_cache_mode", "auto"),
    s("quote_all_identifiers", "off", "Accepted for compatibility."),
    planner("random_page_cost", "4"),
    s("role", "none", "Accepted for compatibility; each role may do everything."),
    s("row_security", "on", "Accepted for compatibility."),
    r("search_path", "\"$user\", public", "Sets the schema search order for names that are not schema-qualified."),
    planner("seq_page_cost", "1"),
    fixed("server_encoding", "UTF8", true, "Shows the server's character set encoding."),
    fixed("server_version", "15.0", true, "Shows the server version."),
    fixed("server_version_num", "150000", false, "Shows the server version as an integer."),
    r("session_authorization", "", "The session's user."),
    r("standard_conforming_strings", "on", "Causes '...' strings to treat backslashes literally."),
    s("statement_timeout", "0", "Sets the maximum allowed duration of any statement, in milliseconds."),
    s("synchronize_seqscans", "on", "Accepted for compatibility."),
    s("synchronous_commit", "on", "Accepted; the server decides whether writes are synced."),
    planner("temp_buffers", "8MB"),
    r("timezone", "UTC", "Sets the time zone for displaying and interpreting time stamps."),
    s("transaction_deferrable", "off", "Accepted for compatibility."),
    s("transaction_isolation", "read committed", "The current transaction's isolation level."),
    s("transaction_read_only", "off", "The current transaction's read-only status."),
    fixed("wal_level", "minimal", false, "Nobody can follow the log as Postgres' replication would."),
    s("work_mem", "4096", "Accepted for compatibility."),
    s("xmloption", "content", "Accepted for compatibility."),
];

#[derive(Clone)]
pub struct Settings {
    values: Vec<String>,
    /// Changed since last reported.
    unreported: Vec<bool>,
    /// Counts changes.
    pub version: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            values: SETTINGS.iter().map(|s| s.default.to_string()).collect(),
            unreported: SETTINGS.iter().map(|s| s.reported).collect(),
            version: 0,
        }
    }
}

/// As Postgres spells it in ParameterStatus.
fn reported_name(name: &str) -> &str {
    match name {
        "datestyle" => "DateStyle",
        "intervalstyle" => "IntervalStyle",
        "timezone" => "TimeZone",
        other => other,
    }
}

fn find(name: &str) -> Result<usize> {
    let lower = name.to_ascii_lowercase();
    SETTINGS
        .iter()
        .position(|s| s.name == lower)
        .ok_or_else(|| Error::undefined_object(format!("unrecognized configuration parameter \"{name}\"")))
}

impl Settings {
    pub fn get(&self, name: &str) -> Result<&str> {
        Ok(&self.values[find(name)?])
    }
    /// Of a setting that is known to exist.
    pub fn value(&self, name: &str) -> &str {
        self.get(name).expect("a setting of the list")
    }

    /// `None` is DEFAULT.
    pub fn set(&mut self, name: &str, value: Option<&str>) -> Result<()> {
        let at = find(name)?;
        let setting = &SETTINGS[at];
        if setting.read_only {
            return Err(Error::new("55P02", format!("parameter \"{name}\" cannot be changed")));
        }
        let value = normalised(setting.name, value.unwrap_or(setting.default))?;
        if self.values[at] != value {
            self.values[at] = value;
            self.unreported[at] = setting.reported;
            self.version += 1;
        }
        Ok(())
    }

    /// Sets what no client may set.
    pub fn set_fixed(&mut self, name: &str, value: &str) {
        let at = find(name).expect("a setting of the list");
        self.values[at] = value.to_string();
        self.unreported[at] = SETTINGS[at].reported;
        self.version += 1;
    }

    pub fn reset_all(&mut self) {
        for setting in SETTINGS.iter().filter(|s| !s.read_only && s.name != "session_authorization") {
            self.set(setting.name, None).expect("defaults are valid");
        }
    }

    pub fn take_reported(&mut self) -> Vec<(String, String)> {
        let mut out = Vec::new();
        for (i, setting) in SETTINGS.iter().enumerate() {
            if std::mem::take(&mut self.unreported[i]) {
                out.push((reported_name(setting.name).to_string(), self.values[i].clone()));
            }
        }
        out
    }

    /// Name, value, description; sorted by name.
    pub fn all(&self) -> Vec<(String, String, String)> {
        let spelled = |s: &Setting| reported_name(s.name).to_string();
        SETTINGS.iter().zip(&self.values).map(|(s, v)| (spelled(s), v.clone(), s.description.to_string())).collect()
    }

    /// The name as SHOW heads its column with it.
    pub fn title(name: &str) -> String {
        reported_name(&name.to_ascii_lowercase()).to_string()
    }

    /// The time zone as plans name it.
    pub fn zone(&self) -> String {
        zone::name(self.value("timezone"))
    }

    pub fn search_path(&self) -> Vec<String> {
        self.value("search_path")
            .split(',')
            .map(|p| p.trim().trim_matches('"').to_string())
            .filter(|p| !p.is_empty())
            .collect()
    }

    pub fn statement_timeout(&self) -> Option<Duration> {
        self.timeout("statement_timeout")
    }

    /// How long a statement waits for a lock that others have.
    pub fn lock_timeout(&self) -> Option<Duration> {
        self.timeout("lock_timeout")
    }

    pub fn idle_timeout(&self, in_transaction: bool) -> Option<Duration> {
        self.timeout(if in_transaction { "idle_in_transaction_session_timeout" } else { "idle_session_timeout" })
    }

    fn timeout(&self, name: &str) -> Option<Duration> {
        duration_ms(self.value(name)).filter(|ms| *ms > 0).map(Duration::from_millis)
    }
}

/// `250`, `250ms`, `3s`, `1min`, `2h`.
fn duration_ms(text: &str) -> Option<u64> {
    let text = text.trim();
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let number: u64 = text[..digits].parse().ok()?;
    let unit = match text[digits..].trim() {
        "" | "ms" => 1,
        "s" => 1000,
        "min" => 60_000,
        "h" => 3_600_000,
        _ => return None,
    };
    number.checked_mul(unit)
}

fn normalised(name: &str, value: &str) -> Result<String> {
    let invalid = || Error::invalid_value(format!("invalid value for parameter \"{name}\": \"{value}\""));
    Ok(match name {
        "client_encoding" => {
            match value.trim_matches(['\'', '"']).to_ascii_lowercase().replace(['-', '_'], "").as_str() {
                "utf8" | "unicode" | "auto" => "UTF8".into(),
                _ => return Err(invalid().hint("Millrace speaks UTF8.")),
            }
        }
        "datestyle" => date_style(value)?,
        "bytea_output" => match value.to_ascii_lowercase().as_str() {
            "hex" => "hex".into(),
            "escape" => return Err(Error::unsupported(format!("bytea_output \"{value}\""))),
            _ => return Err(invalid()),
        },
        "intervalstyle" if !value.eq_ignore_ascii_case("postgres") => {
            return Err(Error::unsupported(format!("IntervalStyle \"{value}\"")));
        }
        "timezone" if ["default", "local"].iter().any(|w| value.eq_ignore_ascii_case(w)) => "UTC".into(),
        "timezone" => zone::setting(value)?,
        "statement_timeout" | "lock_timeout" | "idle_in_transaction_session_timeout" | "idle_session_timeout" => {
            duration_ms(value).ok_or_else(invalid)?;
            value.to_string()
        }
        // Scripts of pg_dump set what is so already.
        "standard_conforming_strings" => match on_or_off(value).ok_or_else(invalid)? {
            "off" => return Err(Error::unsupported(format!("standard_conforming_strings \"{value}\""))),
            on => on.into(),
        },
        "default_transaction_read_only"
        | "transaction_read_only"
        | "row_security"
        | "jit"
        | "parallel_leader_participation" => on_or_off(value).ok_or_else(invalid)?.into(),
        _ if name.starts_with("enable_") => on_or_off(value).ok_or_else(invalid)?.into(),
        "transaction_isolation" | "default_transaction_isolation" => {
            let lower = value.to_ascii_lowercase();
            match lower.as_str() {
                "read uncommitted" | "read committed" | "repeatable read" | "serializable" => lower,
                _ => return Err(invalid()),
            }
        }
        _ => value.to_string(),
    })
}

/// A boolean as Postgres' settings are spelled, in any case and as short as it is clear.
fn on_or_off(value: &str) -> Option<&'static str> {
    let value = value.to_ascii_lowercase();
    let begins = |word: &str| !value.is_empty() && word.starts_with(&value);
    match value.as_str() {
        "1" | "on" => Some("on"),
        "0" | "of" | "off" => Some("off"),
        _ if begins("true") || begins("yes") => Some("on"),
        _ if begins("false") || begins("no") => Some("off"),
        _ => None,
    }
}

/// Dates are read month first and shown as ISO has them: another order that was only shown would be another date.
fn date_style(value: &str) -> Result<String> {
    for word in value.split(',').map(|w| w.trim().trim_matches('"').to_ascii_lowercase()) {
        match word.as_str() {
            "" | "iso" | "mdy" | "us" | "default" => {}
            w if w.starts_with("noneuro") => {}
            "sql" | "german" | "dmy" | "ymd" => return Err(Error::unsupported(format!("DateStyle \"{value}\""))),
            w if w.starts_with("postgres") || w.starts_with("euro") => {
                return Err(Error::unsupported(format!("DateStyle \"{value}\"")));
            }
            _ => return Err(Error::invalid_value(format!("invalid value for parameter \"DateStyle\": \"{value}\""))),
        }
    }
    Ok("ISO, MDY".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_zones_are_shown_as_postgres_shows_them() {
        let mut settings = Settings::default();
        for (set, shown, name) in [
            ("utc", "UTC", "UTC"),
            ("europe/berlin", "Europe/Berlin", "Europe/Berlin"),
            ("+02", "<+02>-02", "+02:00"),
            ("-7.5", "<-07:30>+07:30", "-07:30"),
            ("2.25", "<+02:15>-02:15", "+02:15"),
            ("UTC+3", "UTC+3", "-03:00"),
            ("ABC-3:30", "ABC-3:30", "+03:30"),
            ("<+02>-02", "<+02>-02", "+02:00"),
            // POSIX without a name: what follows counts west. Shown so that it can be read in one way only.
            ("-05:30", "<+05:30>-05:30", "+05:30"),
            ("EST5EDT", "EST5EDT", "EST5EDT"),
            ("0", "<+00>-00", "UTC"),
        ] {
            settings.set("TimeZone", Some(set)).unwrap_or_else(|e| panic!("{set}: {e}"));
            assert_eq!((settings.value("timezone"), settings.zone().as_str()), (shown, name), "{set}");
            settings.set("timezone", Some(shown)).unwrap_or_else(|e| panic!("{shown}: {e}"));
            assert_eq!(settings.value("timezone"), shown);
        }
        for bad in ["Foo/Bar", "", "MSK", "+0530", "168", "UTC+168", "0.0001"] {
            assert_eq!(settings.set("timezone", Some(bad)).unwrap_err().code, "22023", "{bad}");
        }
    }
}
