//! From an accepted socket to a session: encryption is declined, cancel requests are passed on, the startup
//! packet's parameters become settings.
//!
//! ```text
//!   user=me database=millrace application_name=psql options='-c statement_timeout=5s'
//! ```

use std::sync::Arc;

use millrace_engine::session::Session;
use millrace_engine::{Error, Result};

use super::cancel::{Registration, Sessions};
use super::io::{End, Io};
use super::wire::{self, Startup};
use super::{DATABASES, Shared};

/// A session that has been told all that it needs to begin.
pub struct Started {
    pub session: Session,
    pub registration: Registration,
}

/// `Ok(None)`: there was nothing more to do than a cancel request.
pub async fn start(io: &mut Io, shared: &Arc<Shared>) -> Result<Option<Started>, End> {
    let (minor, parameters) = loop {
        match io.startup().await? {
            Startup::Encryption => {
                // A client that sent more without waiting for the answer may be talking to somebody in between.
                if io.has_input() {
                    let message = "received unencrypted data after an encryption request";
                    return Err(End::Fatal(wire::violation(message)));
                }
                io.out.push(b'N');
                io.flush().await?;
            }
            Startup::Cancel { pid, secret } => {
                shared.sessions.cancel_request(pid, &secret);
                return Ok(None);
            }
            Startup::Session { minor, parameters } => break (minor, parameters),
        }
    };
    let unknown: Vec<&str> = parameters.iter().map(|(n, _)| n.as_str()).filter(|n| n.starts_with("_pq_.")).collect();
    if minor > 0 || !unknown.is_empty() {
        wire::put_negotiate_version(&mut io.out, &unknown);
    }
    let started = open(&parameters, shared).map_err(End::Fatal)?;
    wire::put_authentication_ok(&mut io.out);
    Ok(Some(started))
}

fn open(parameters: &[(String, String)], shared: &Arc<Shared>) -> Result<Started> {
    let get = |name: &str| parameters.iter().find(|(n, v)| n == name && !v.is_empty()).map(|(_, v)| v.as_str());
    let no_user = || Error::new("28000", "no PostgreSQL user name specified in startup packet");
    let user = get("user").ok_or_else(no_user)?;
    let database = get("database").unwrap_or(DATABASES[0]);
    if !DATABASES.contains(&database) {
        return Err(Error::new("3D000", format!("database \"{database}\" does not exist"))
            .hint(format!("Connect to the database \"{}\".", DATABASES[0])));
    }
    if get("replication").is_some_and(|v| !matches!(v, "off" | "false" | "no" | "0")) {
        return Err(Error::unsupported("replication"));
    }
    let mut session = (shared.open_session)(user, database);
    let registration = Sessions::register(shared, session.pid(), session.cancel_handle())?;
    if let Some(options) = get("options") {
        for (name, value) in parse_options(options)? {
            session.set_startup(&name, &value)?;
        }
    }
    for (name, value) in parameters {
        let name = name.to_ascii_lowercase();
        match name.as_str() {
            "user" | "database" | "options" | "replication" => {}
            "client_encoding" => session.set_startup(&name, utf8_encoding(value)?)?,
            _ if name.starts_with("_pq_.") => {}
            _ => session.set_startup(&name, value)?,
        }
    }
    Ok(Started { session, registration })
}

/// The server speaks UTF-8 and nothing else. (asyncpg sends the name in quotes, psycopg in lower case.)
fn utf8_encoding(value: &str) -> Result<&'static str> {
    let plain: String = value.chars().filter(|c| c.is_ascii_alphanumeric()).map(|c| c.to_ascii_lowercase()).collect();
    match plain.as_str() {
        "utf8" | "unicode" => Ok("UTF8"),
        _ => Err(Error::invalid_value(format!("invalid value for parameter \"client_encoding\": \"{value}\""))
            .hint("The server supports UTF8.")),
    }
}

/// `-c name=value`, `-cname=value`, `--name=value`; a backslash keeps a space in a value.
fn parse_options(text: &str) -> Result<Vec<(String, String)>> {
    let mut words: Vec<String> = Vec::new();
    let mut word: Option<String> = None;
    let mut characters = text.chars();
    while let Some(c) = characters.next() {
        match c {
            '\\' => word.get_or_insert_default().extend(characters.next()),
            c if c.is_ascii_whitespace() => words.extend(word.take()),
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    let mut settings = Vec::new();
    let mut words = words.into_iter();
    while let Some(word) = words.next() {
        let assignment = if word == "-c" {
            words.next()
        } else {
            word.strip_prefix("--").or_else(|| word.strip_prefix("-c")).map(str::to_string)
        };
        let invalid = || Error::syntax(format!("invalid command-line argument for server process: {word}"));
        let assignment = assignment.ok_or_else(invalid)?;
        let (name, value) = assignment.split_once('=').ok_or_else(invalid)?;
        settings.push((name.replace('-', "_").to_ascii_lowercase(), value.to_string()));
    }
    Ok(settings)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options() {
        let parsed = parse_options(r"-c statement_timeout=5s  -cgeqo=off --search-path=a\ b").unwrap();
        let expected = [("statement_timeout", "5s"), ("geqo", "off"), ("search_path", "a b")];
        assert_eq!(parsed, expected.map(|(n, v)| (n.to_string(), v.to_string())));
        assert_eq!(parse_options("-c x").unwrap_err().code, "42601");
        assert_eq!(parse_options("-x").unwrap_err().code, "42601");
        assert_eq!(parse_options(" ").unwrap(), []);
    }

    #[test]
    fn encodings() {
        for name in ["UTF8", "utf-8", "'utf-8'", "Unicode"] {
            assert_eq!(utf8_encoding(name), Ok("UTF8"));
        }
        assert_eq!(utf8_encoding("LATIN1").unwrap_err().code, "22023");
    }
}
