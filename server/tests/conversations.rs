//! Conversations, message by message: what is sent, and all that must come back.
//!
//! ```text
//!   Q SELECT 1 AS n        what the client sends, as far as the answer
//!   > T n:23:0             RowDescription: name, type, format
//!   > D 1                  DataRow
//!   > C SELECT 1           CommandComplete
//!   > Z I                  ReadyForQuery
//!   X Q 73ff00             a Query of these bytes
//! ```
//!
//! `conversations.txt` holds what PostgreSQL 15 answers. With `MILLRACE_TEST_POSTGRES=host:port` the same file is
//! held against such a server.

use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

mod common;

struct Client {
    socket: TcpStream,
}

impl Client {
    fn connect(address: SocketAddr) -> Client {
        let socket = TcpStream::connect(address).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let mut client = Client { socket };
        let mut body = 196_608u32.to_be_bytes().to_vec();
        for (name, value) in [("user", "postgres"), ("database", "postgres"), ("TimeZone", "UTC")] {
            body.extend_from_slice(format!("{name}\0{value}\0").as_bytes());
        }
        body.push(0);
        client.socket.write_all(&((body.len() + 4) as u32).to_be_bytes()).unwrap();
        client.socket.write_all(&body).unwrap();
        client.answers(b"Z", false);
        client
    }

    /// The server's messages, up to one of `ends`; or, if `quiet`, until no more come.
    fn answers(&mut self, ends: &[u8], quiet: bool) -> Vec<String> {
        let mut lines = Vec::new();
        let wait = if quiet { Duration::from_millis(500) } else { Duration::from_secs(20) };
        self.socket.set_read_timeout(Some(wait)).unwrap();
        loop {
            let mut head = [0; 5];
            match self.socket.read_exact(&mut head) {
                Ok(()) => {}
                Err(_) if quiet => return lines,
                Err(e) => panic!("no answer after {lines:?}: {e}"),
            }
            let mut body = vec![0; u32::from_be_bytes(head[1..].try_into().unwrap()) as usize - 4];
            self.socket.read_exact(&mut body).unwrap();
            lines.push(show(head[0], &body));
            if ends.contains(&head[0]) {
                return lines;
            }
        }
    }
}

fn string(body: &mut &[u8]) -> String {
    let end = body.iter().position(|b| *b == 0).unwrap();
    let text = String::from_utf8(body[..end].to_vec()).unwrap();
    *body = &body[end + 1..];
    text
}
fn int(body: &mut &[u8], bytes: usize) -> i64 {
    let (now, rest) = body.split_at(bytes);
    *body = rest;
    let negative = bytes < 8 && now[0] & 0x80 != 0;
    let value = now.iter().fold(0i64, |v, b| v << 8 | *b as i64);
    if negative { value - (1 << (8 * bytes)) } else { value }
}
fn escaped(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.contains('\0') => text.replace('\\', "\\\\").replace('\n', "\\n").replace('\t', "\\t"),
        _ => bytes.iter().fold("\\x".to_string(), |s, b| s + &format!("{b:02x}")),
    }
}

fn show(tag: u8, mut body: &[u8]) -> String {
    let body = &mut body;
    let mut line = String::from(tag as char);
    match tag {
        b'T' => {
            for _ in 0..int(body, 2) {
                let name = string(body);
                int(body, 6);
                let oid = int(body, 4);
                int(body, 6);
                write!(line, " {name}:{oid}:{}", int(body, 2)).unwrap();
            }
        }
        b't' => {
            for _ in 0..int(body, 2) {
                write!(line, " {}", int(body, 4)).unwrap();
            }
        }
        b'D' => {
            let values: Vec<String> = (0..int(body, 2))
                .map(|_| match int(body, 4) {
                    -1 => "NULL".to_string(),
                    n => {
                        let (value, rest) = body.split_at(n as usize);
                        *body = rest;
                        escaped(value)
                    }
                })
                .collect();
            write!(line, " {}", values.join(",")).unwrap();
        }
        // Process ids differ.
        b'A' => {
            int(body, 4);
            write!(line, " {} {}", string(body), string(body)).unwrap()
        }
        b'C' => write!(line, " {}", string(body)).unwrap(),
        b'S' => write!(line, " {}={}", string(body), string(body)).unwrap(),
        b'Z' => write!(line, " {}", body[0] as char).unwrap(),
        b'd' => write!(line, " {}", escaped(body)).unwrap(),
        b'G' | b'H' => write!(line, " {} {}", int(body, 1), int(body, 2)).unwrap(),
        b'E' | b'N' => {
            let mut fields = std::collections::BTreeMap::new();
            while body[0] != 0 {
                let field = body[0] as char;
                *body = &body[1..];
                fields.insert(field, string(body));
            }
            assert_eq!(fields[&'S'], fields[&'V'], "severities agree");
            if tag == b'N' {
                write!(line, " {}", fields[&'S']).unwrap();
            }
            write!(line, " {}", fields[&'C']).unwrap();
            // Syntax errors and names that mean nothing have a place; other errors need not.
            let placed = ["42601", "42703", "42P01", "42883"].contains(&fields[&'C'].as_str());
            if let Some(position) = fields.get(&'P').filter(|_| placed) {
                write!(line, " P{position}").unwrap();
            }
            write!(line, " {}", fields[&'M']).unwrap();
        }
        _ => {}
    }
    line
}

/// A message of bytes that no text is, given in hexadecimal.
fn raw(tag: u8, hex: &str) -> Vec<u8> {
    let digits = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).expect("two digits");
    let body: Vec<u8> = (0..hex.len()).step_by(2).map(digits).collect();
    [&[tag], &((body.len() + 4) as u32).to_be_bytes()[..], &body].concat()
}

/// A line of the file as a message.
fn message(line: &str) -> Vec<u8> {
    if let Some(hex) = line.strip_prefix("X Q ") {
        return raw(b'Q', hex);
    }
    let (tag, rest) = line.split_at(1);
    let rest = rest.strip_prefix(' ').unwrap_or(rest);
    let name = |word: &str| if word == "-" { "\0".to_string() } else { format!("{word}\0") };
    let unescape = |text: &str| {
        let mut out = String::new();
        let mut characters = text.chars();
        while let Some(c) = characters.next() {
            match c {
                '\\' => out.push(match characters.next().unwrap() {
                    'n' => '\n',
                    't' => '\t',
                    other => other,
                }),
                c => out.push(c),
            }
        }
        out
    };
    let mut body: Vec<u8> = Vec::new();
    match tag {
        "Q" => body.extend(format!("{rest}\0").bytes()),
        "P" => {
            let (word, sql) = rest.split_once(' ').unwrap_or((rest, ""));
            body.extend(name(word).bytes());
            body.extend(format!("{}\0", unescape(sql)).bytes());
            body.extend([0, 0]);
        }
        "B" => {
            let (rest, formats) = rest.split_once(" / ").unwrap_or((rest, ""));
            let mut words = rest.splitn(3, ' ');
            body.extend(name(words.next().unwrap()).bytes());
            body.extend(name(words.next().unwrap()).bytes());
            let values: Vec<&str> = words.next().map_or(vec![], |v| v.split(',').collect());
            body.extend([0, 0]);
            body.extend((values.len() as u16).to_be_bytes());
            for value in values {
                if value == "NULL" {
                    body.extend((-1i32).to_be_bytes());
                } else {
                    body.extend((value.len() as i32).to_be_bytes());
                    body.extend(value.bytes());
                }
            }
            let formats: Vec<u16> = formats.split_whitespace().map(|f| f.parse().unwrap()).collect();
            body.extend((formats.len() as u16).to_be_bytes());
            formats.iter().for_each(|f| body.extend(f.to_be_bytes()));
        }
        "D" | "C" => {
            let (kind, word) = rest.split_once(' ').unwrap();
            body.extend(kind.bytes());
            body.extend(name(word).bytes());
        }
        "E" => {
            let (word, max) = rest.split_once(' ').unwrap();
            body.extend(name(word).bytes());
            body.extend(max.parse::<i32>().unwrap().to_be_bytes());
        }
        "d" => body.extend(unescape(rest).bytes()),
        "f" => body.extend(format!("{rest}\0").bytes()),
        "S" | "H" | "c" => {}
        other => panic!("no such message: {other}"),
    }
    let mut out = tag.as_bytes().to_vec();
    out.extend(((body.len() + 4) as u32).to_be_bytes());
    out.extend(body);
    out
}

/// Runs the file; returns what went otherwise than written.
fn differences(client: &mut Client, text: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut title = "";
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        if let Some(new) = line.strip_prefix("# ") {
            title = new;
            continue;
        }
        if line.is_empty() {
            continue;
        }
        let mut sent = vec![line];
        while let Some(next) = lines.next_if(|l| !l.starts_with('>')) {
            sent.push(next);
        }
        let mut expected = Vec::new();
        while let Some(next) = lines.next_if(|l| l.starts_with('>')) {
            expected.push(next.strip_prefix("> ").unwrap());
        }
        let bytes: Vec<u8> = sent.iter().flat_map(|l| message(l)).collect();
        client.socket.write_all(&bytes).unwrap();
        let copying = sent.iter().any(|l| l.starts_with(['c', 'f']));
        let got = client.answers(if copying { b"Z" } else { b"ZG" }, sent.last() == Some(&"H"));
        if got != expected {
            wrong.push(format!(
                "{title}\n{}\n  expected:\n    {}\n  got:\n    {}",
                sent.join("\n"),
                expected.join("\n    "),
                got.join("\n    ")
            ));
        }
    }
    wrong
}

#[tokio::test(flavor = "multi_thread")]
async fn conversations() {
    let text = include_str!("conversations.txt");
    let wrong = if let Ok(address) = std::env::var("MILLRACE_TEST_POSTGRES") {
        let mut client = Client::connect(address.parse().unwrap());
        differences(&mut client, text)
    } else {
        let common::Running { server, directory: _directory } = common::start(|_| ()).await;
        let address = server.pg_addr;
        let wrong =
            tokio::task::spawn_blocking(move || differences(&mut Client::connect(address), text)).await.unwrap();
        server.shutdown().await.unwrap();
        wrong
    };
    assert!(wrong.is_empty(), "{} differ:\n\n{}", wrong.len(), wrong.join("\n\n"));
}
