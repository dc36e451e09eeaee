//! The messages of the Postgres protocol, version 3, as a server reads and writes them.
//!
//! ```text
//!   'Q' 0000000d  S E L E C T _ 1 0      a type byte, the length (itself included), the body
//! ```
//!
//! A message is read whole before it is taken apart, and never beyond its own length: a broken one is an
//! error 08P01 and cannot disturb what follows it. Messages to the client are appended to a plain `Vec`,
//! rows straight from the columns' bytes.
//! (Source: PostgreSQL 15 documentation, 55.7 Message Formats.)

use arrow::datatypes::Field;
use bytes::{Buf, Bytes, BytesMut};
use millrace_engine::Error;
use millrace_engine::error::Result;
use millrace_engine::notifications::Notification;
use millrace_engine::session::origins::origin_of;
use millrace_engine::session::{Notice, TransactionStatus};
use millrace_engine::sql::text::PgType;

/// A startup packet may not be longer: Postgres' own limit.
pub const STARTUP_BYTES_MAX: usize = 10_000;

pub fn violation(message: impl Into<String>) -> Error {
    Error::new("08P01", message)
}

/// The first packet of a connection.
#[derive(Debug, PartialEq)]
pub enum Startup {
    /// SSLRequest or GSSENCRequest: answered `N`.
    Encryption,
    Cancel {
        pid: i32,
        secret: Vec<u8>,
    },
    Session {
        minor: u16,
        parameters: Vec<(String, String)>,
    },
}

/// What a client sends in a session.
#[derive(Debug, PartialEq)]
pub enum Message {
    Query(String),
    /// A Query that cannot be read. It ends as others do, since its client sends no Sync.
    BadQuery(Error),
    Parse {
        name: String,
        query: String,
        types: Vec<u32>,
    },
    Bind(Bind),
    Describe(Target),
    Execute {
        portal: String,
        rows_max: i32,
    },
    Close(Target),
    Flush,
    Sync,
    CopyData(Bytes),
    CopyDone,
    CopyFail(String),
    Terminate,
}

#[derive(Debug, PartialEq)]
pub struct Bind {
    pub portal: String,
    pub statement: String,
    pub parameter_formats: Vec<i16>,
    pub parameters: Vec<Option<Bytes>>,
    pub result_formats: Vec<i16>,
}

#[derive(Debug, PartialEq)]
pub enum Target {
    Statement(String),
    Portal(String),
}

/// A packet without type byte, if all of it has come.
pub fn take_startup(buffer: &mut BytesMut) -> Result<Option<Startup>> {
    let Some(length) = length_at(buffer, 0) else { return Ok(None) };
    if !(8..=STARTUP_BYTES_MAX).contains(&length) {
        return Err(violation("invalid length of startup packet"));
    }
    if buffer.len() < length {
        return Ok(None);
    }
    let mut body = Body(buffer.split_to(length).freeze());
    body.i32()?;
    let code = body.i32()? as u32;
    const CANCEL: u32 = 80_877_102;
    const SSL: u32 = 80_877_103;
    const GSS: u32 = 80_877_104;
    match code {
        SSL | GSS => Ok(Some(Startup::Encryption)),
        CANCEL => Ok(Some(Startup::Cancel { pid: body.i32()?, secret: body.0.to_vec() })),
        _ if code >> 16 == 3 => {
            let mut parameters = Vec::new();
            loop {
                let name = body.string()?;
                if name.is_empty() {
                    break;
                }
                parameters.push((name, body.string()?));
            }
            Ok(Some(Startup::Session { minor: code as u16, parameters }))
        }
        _ => Err(Error::unsupported(format!("frontend protocol {}.{}", code >> 16, code & 0xffff))
            .detail("The server speaks protocol 3.0.")),
    }
}

/// The next message, if all of it has come. The outer error means that the place of the next one is lost, the
/// inner that only this one is bad. `bytes_max` bounds what a client can make the server hold.
pub fn take_message(buffer: &mut BytesMut, bytes_max: usize) -> Result<Option<Result<Message>>> {
    let Some(length) = length_at(buffer, 1) else { return Ok(None) };
    if length < 4 {
        return Err(violation("invalid message length"));
    }
    if length > bytes_max {
        return Err(Error::new("54000", format!("message of {length} bytes is too long"))
            .detail(format!("The limit is {bytes_max} bytes (max_message_bytes).")));
    }
    if buffer.len() < 1 + length {
        return Ok(None);
    }
    let tag = buffer[0];
    buffer.advance(5);
    let body = Body(buffer.split_to(length - 4).freeze());
    if !b"QPBDCEHSdcfX".contains(&tag) {
        return Err(violation(format!("invalid frontend message type {tag}")));
    }
    Ok(Some(parse(tag, body)))
}

/// The type byte of the next message, if it has begun to come.
pub fn peek_tag(buffer: &BytesMut) -> Option<u8> {
    buffer.first().copied()
}

fn length_at(buffer: &BytesMut, at: usize) -> Option<usize> {
    let bytes: [u8; 4] = buffer.get(at..at + 4)?.try_into().expect("four bytes");
    Some(u32::from_be_bytes(bytes) as usize)
}

fn parse(tag: u8, body: Body) -> Result<Message> {
    match content(tag, body) {
        Err(error) if tag == b'Q' => Ok(Message::BadQuery(error)),
        message => message,
    }
}

fn content(tag: u8, mut body: Body) -> Result<Message> {
    let message = match tag {
        b'Q' => Message::Query(body.string()?),
        b'P' => Message::Parse {
            name: body.string()?,
            query: body.string()?,
            types: body.list(|b| b.i32().map(|oid| oid as u32))?,
        },
        b'B' => Message::Bind(Bind {
            portal: body.string()?,
            statement: body.string()?,
            parameter_formats: body.list(Body::i16)?,
            parameters: body.list(Body::counted)?,
            result_formats: body.list(Body::i16)?,
        }),
        b'D' => Message::Describe(body.target()?),
        b'C' => Message::Close(body.target()?),
        b'E' => Message::Execute { portal: body.string()?, rows_max: body.i32()? },
        b'H' => Message::Flush,
        b'S' => Message::Sync,
        b'd' => return Ok(Message::CopyData(body.0)),
        b'c' => Message::CopyDone,
        b'f' => Message::CopyFail(body.string()?),
        _ => return Ok(Message::Terminate),
    };
    if body.0.is_empty() { Ok(message) } else { Err(violation("invalid message format")) }
}

/// The rest of one message's body.
struct Body(Bytes);

impl Body {
    fn need(&self, n: usize) -> Result<()> {
        if self.0.len() >= n { Ok(()) } else { Err(violation("insufficient data left in message")) }
    }
    fn i16(&mut self) -> Result<i16> {
        self.need(2)?;
        Ok(self.0.get_i16())
    }
    fn i32(&mut self) -> Result<i32> {
        self.need(4)?;
        Ok(self.0.get_i32())
    }
    fn string(&mut self) -> Result<String> {
        let end = self.0.iter().position(|b| *b == 0).ok_or_else(|| violation("invalid string in message"))?;
        let bytes = self.0.split_to(end);
        self.0.advance(1);
        String::from_utf8(bytes.to_vec()).map_err(|e| {
            let bad = e.as_bytes()[e.utf8_error().valid_up_to()];
            Error::new("22021", format!("invalid byte sequence for encoding \"UTF8\": 0x{bad:02x}"))
        })
    }
    fn counted(&mut self) -> Result<Option<Bytes>> {
        let n = self.i32()?;
        if n == -1 {
            return Ok(None);
        }
        let n = usize::try_from(n).map_err(|_| violation("invalid message format"))?;
        self.need(n)?;
        Ok(Some(self.0.split_to(n)))
    }
    fn list<V>(&mut self, item: impl Fn(&mut Body) -> Result<V>) -> Result<Vec<V>> {
        let count = self.i16()? as u16;
        (0..count).map(|_| item(self)).collect()
    }
    fn target(&mut self) -> Result<Target> {
        self.need(1)?;
        match self.0.get_u8() {
            b'S' => Ok(Target::Statement(self.string()?)),
            b'P' => Ok(Target::Portal(self.string()?)),
            other => Err(violation(format!("invalid DESCRIBE or CLOSE message subtype {other}"))),
        }
    }
}

/// Appends a message: type, length and what `body` writes.
pub fn put(out: &mut Vec<u8>, tag: u8, body: impl FnOnce(&mut Vec<u8>)) {
    out.push(tag);
    let start = out.len();
    out.extend_from_slice(&[0; 4]);
    body(out);
    let length = (out.len() - start) as u32;
    out[start..start + 4].copy_from_slice(&length.to_be_bytes());
}

pub fn put_string(out: &mut Vec<u8>, text: &str) {
    // A zero byte would end the string early; there is none in valid text.
    out.extend(text.bytes().filter(|b| *b != 0));
    out.push(0);
}

pub const PARSE_COMPLETE: u8 = b'1';
pub const BIND_COMPLETE: u8 = b'2';
pub const CLOSE_COMPLETE: u8 = b'3';
pub const NO_DATA: u8 = b'n';
pub const PORTAL_SUSPENDED: u8 = b's';
pub const EMPTY_QUERY: u8 = b'I';
pub const COPY_DONE: u8 = b'c';

/// A message that is only its type.
pub fn put_plain(out: &mut Vec<u8>, tag: u8) {
    put(out, tag, |_| ());
}

pub fn put_authentication_ok(out: &mut Vec<u8>) {
    put(out, b'R', |o| o.extend_from_slice(&0i32.to_be_bytes()));
}

pub fn put_negotiate_version(out: &mut Vec<u8>, unknown_options: &[&str]) {
    put(out, b'v', |o| {
        o.extend_from_slice(&0i32.to_be_bytes());
        o.extend_from_slice(&(unknown_options.len() as i32).to_be_bytes());
        unknown_options.iter().for_each(|name| put_string(o, name));
    });
}

pub fn put_parameter_status(out: &mut Vec<u8>, name: &str, value: &str) {
    put(out, b'S', |o| {
        put_string(o, name);
        put_string(o, value);
    });
}

pub fn put_key_data(out: &mut Vec<u8>, pid: i32, secret: &[u8]) {
    put(out, b'K', |o| {
        o.extend_from_slice(&pid.to_be_bytes());
        o.extend_from_slice(secret);
    });
}

pub fn put_ready(out: &mut Vec<u8>, status: TransactionStatus) {
    put(out, b'Z', |o| {
        o.push(match status {
            TransactionStatus::Idle => b'I',
            TransactionStatus::Open => b'T',
            TransactionStatus::Failed => b'E',
        })
    });
}

pub fn put_complete(out: &mut Vec<u8>, tag: &str) {
    put(out, b'C', |o| put_string(o, tag));
}

/// `severity` is `ERROR` or `FATAL`.
pub fn put_error(out: &mut Vec<u8>, severity: &str, error: &Error) {
    put(out, b'E', |o| {
        put_report(o, severity, error.code, &error.message);
        let position = error.position.map(|p| p.to_string());
        // By this drivers know that preparing the statement again will help.
        let stale = error.code == "0A000" && error.message.starts_with("cached plan");
        let routine = stale.then(|| "RevalidateCachedQuery".to_string());
        let about = error.about.as_deref();
        let fields = [
            (b'D', error.detail.as_ref()),
            (b'H', error.hint.as_ref()),
            (b'P', position.as_ref()),
            (b's', about.map(|about| &about.schema)),
            (b't', about.map(|about| &about.table)),
            (b'c', about.and_then(|about| about.column.as_ref())),
            (b'n', about.and_then(|about| about.constraint.as_ref())),
            (b'R', routine.as_ref()),
        ];
        for (field, text) in fields {
            if let Some(text) = text {
                o.push(field);
                put_string(o, text);
            }
        }
        o.push(0);
    });
}

pub fn put_notification(out: &mut Vec<u8>, notification: &Notification) {
    put(out, b'A', |o| {
        o.extend_from_slice(&notification.pid.to_be_bytes());
        put_string(o, &notification.channel);
        put_string(o, &notification.payload);
    });
}

pub fn put_notice(out: &mut Vec<u8>, notice: &Notice) {
    put(out, b'N', |o| {
        put_report(o, notice.severity, notice.code, &notice.message);
        o.push(0);
    });
}

fn put_report(out: &mut Vec<u8>, severity: &str, code: &str, message: &str) {
    for (field, text) in [(b'S', severity), (b'V', severity), (b'C', code), (b'M', message)] {
        out.push(field);
        put_string(out, text);
    }
}

pub fn put_parameter_description(out: &mut Vec<u8>, oids: impl ExactSizeIterator<Item = u32>) {
    put(out, b't', |o| {
        o.extend_from_slice(&(oids.len() as u16).to_be_bytes());
        oids.for_each(|oid| o.extend_from_slice(&oid.to_be_bytes()));
    });
}

/// `columns`: field, type, binary or not.
pub fn put_row_description<'a>(
    out: &mut Vec<u8>,
    columns: impl ExactSizeIterator<Item = (&'a Field, &'a PgType, bool)>,
) {
    put(out, b'T', |o| {
        o.extend_from_slice(&(columns.len() as u16).to_be_bytes());
        for (field, ty, is_binary) in columns {
            put_string(o, field.name());
            let (relation, column) = origin_of(field).unwrap_or_default();
            o.extend_from_slice(&relation.to_be_bytes());
            o.extend_from_slice(&column.to_be_bytes());
            o.extend_from_slice(&ty.oid.to_be_bytes());
            o.extend_from_slice(&ty.length().to_be_bytes());
            o.extend_from_slice(&ty.modifier.to_be_bytes());
            o.extend_from_slice(&i16::from(is_binary).to_be_bytes());
        }
    });
}

/// CopyInResponse (`G`) or CopyOutResponse (`H`): all columns in one format.
pub fn put_copy_response(out: &mut Vec<u8>, tag: u8, is_binary: bool, columns: usize) {
    put(out, tag, |o| {
        o.push(is_binary as u8);
        o.extend_from_slice(&(columns as u16).to_be_bytes());
        (0..columns).for_each(|_| o.extend_from_slice(&i16::from(is_binary).to_be_bytes()));
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn framed(tag: u8, body: &[u8]) -> BytesMut {
        let mut out = Vec::new();
        put(&mut out, tag, |o| o.extend_from_slice(body));
        BytesMut::from(&out[..])
    }

    #[test]
    fn messages_come_whole_or_not_at_all() {
        let whole = framed(b'Q', b"SELECT 1\0");
        for cut in 0..whole.len() {
            let mut part = BytesMut::from(&whole[..cut]);
            assert_eq!(take_message(&mut part, 1000), Ok(None));
            assert_eq!(part.len(), cut, "nothing is taken of a part");
        }
        let mut two = whole.clone();
        two.extend_from_slice(&framed(b'S', b""));
        assert_eq!(take_message(&mut two, 1000), Ok(Some(Ok(Message::Query("SELECT 1".into())))));
        assert_eq!(peek_tag(&two), Some(b'S'));
        assert_eq!(take_message(&mut two, 1000), Ok(Some(Ok(Message::Sync))));
        assert!(two.is_empty());
    }

    #[test]
    fn bind() {
        let mut body = b"p\0s\0".to_vec();
        body.extend_from_slice(&[0, 1, 0, 1, 0, 2, 0, 0, 0, 2, b'a', b'b', 0xff, 0xff, 0xff, 0xff, 0, 0]);
        let bind = Bind {
            portal: "p".into(),
            statement: "s".into(),
            parameter_formats: vec![1],
            parameters: vec![Some(Bytes::from_static(b"ab")), None],
            result_formats: vec![],
        };
        assert_eq!(take_message(&mut framed(b'B', &body), 1000), Ok(Some(Ok(Message::Bind(bind)))));
    }

    /// A broken Query is a message of its own, since it is answered otherwise.
    fn error_of(tag: u8, broken: Result<Message>) -> Error {
        match broken {
            Ok(Message::BadQuery(error)) if tag == b'Q' => error,
            Err(error) if tag != b'Q' => error,
            other => panic!("{}: {other:?}", tag as char),
        }
    }

    #[test]
    fn broken_messages_are_errors_and_do_not_reach_their_neighbours() {
        for (tag, body) in [
            (b'Q', &b"no end"[..]),
            (b'Q', b"SELECT '\0';\0"),
            (b'P', b"s\0SELECT\0\0\x02\0\0\0\x17"),
            (b'B', b"\0\0\0\0\0\x01\x7f\xff\xff\xffx\0\0"),
            (b'B', b"\0\0\0\0\0\x01\x80\0\0\0x\0\0"),
            (b'D', b"Xname\0"),
            (b'D', b""),
            (b'E', b"\0\0"),
            (b'S', b"more"),
        ] {
            let mut buffer = framed(tag, body);
            buffer.extend_from_slice(&framed(b'S', b""));
            let bad = take_message(&mut buffer, 1000).unwrap().unwrap();
            assert_eq!(error_of(tag, bad).code, "08P01", "{}", tag as char);
            assert_eq!(take_message(&mut buffer, 1000), Ok(Some(Ok(Message::Sync))));
        }
        let bad = take_message(&mut framed(b'Q', b"\xff\0"), 1000).unwrap().unwrap();
        assert_eq!(error_of(b'Q', bad).code, "22021");
        assert_eq!(take_message(&mut framed(b'?', b""), 1000).unwrap_err().code, "08P01");
        assert_eq!(take_message(&mut framed(b'd', &[0; 2000]), 1000).unwrap_err().code, "54000");
        assert_eq!(take_message(&mut BytesMut::from(&b"Q\0\0\0\x03"[..]), 1000).unwrap_err().code, "08P01");
    }

    #[test]
    fn startup_packets() {
        let packet = |code: u32, rest: &[u8]| {
            let mut out = ((8 + rest.len()) as u32).to_be_bytes().to_vec();
            out.extend_from_slice(&code.to_be_bytes());
            out.extend_from_slice(rest);
            BytesMut::from(&out[..])
        };
        assert_eq!(take_startup(&mut packet(80_877_103, b"")), Ok(Some(Startup::Encryption)));
        assert_eq!(
            take_startup(&mut packet(80_877_102, &[0, 0, 0, 7, 1, 2, 3, 4])),
            Ok(Some(Startup::Cancel { pid: 7, secret: vec![1, 2, 3, 4] }))
        );
        let parameters = vec![("user".to_string(), "me".to_string())];
        assert_eq!(
            take_startup(&mut packet(196_610, b"user\0me\0\0")),
            Ok(Some(Startup::Session { minor: 2, parameters }))
        );
        assert_eq!(take_startup(&mut packet(2 << 16, b"")).unwrap_err().code, "0A000");
        assert_eq!(take_startup(&mut packet(196_608, b"user\0me")).unwrap_err().code, "08P01");
        assert_eq!(take_startup(&mut BytesMut::from(&[0xff; 8][..])).unwrap_err().code, "08P01");
    }
}
