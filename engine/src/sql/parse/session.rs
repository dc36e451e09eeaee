//! Statements about the session: transactions, settings, SHOW, cursors, prepared statements, EXPLAIN, SUBSCRIBE.

use sqlparser::parser::Parser;
use sqlparser::tokenizer::Token;

use super::cursor::{Cursor, DEPTH_MAX};
use super::source::unquoted;
use crate::catalog::RelationKind;
use crate::error::{Error, Result};
use crate::sql::dialect::DIALECT;
use crate::sql::interval::Interval;
use crate::sql::statement::{
    Emit, Explain, ExplainStage, FetchCount, Show, SinkInput, Statement, StatementKind, Subscribe,
};

/// Words with which the value of AS OF may begin.
const TIME_WORDS: &[&str] = &[
    "cast",
    "clock_timestamp",
    "current_date",
    "current_timestamp",
    "date",
    "date_trunc",
    "localtimestamp",
    "now",
    "null",
    "timestamp",
    "timestamptz",
    "to_timestamp",
    "transaction_timestamp",
];

/// Modes of a transaction, as settings.
type Modes = Vec<(String, Option<String>)>;

impl Cursor<'_> {
    pub fn begin(&mut self) -> Result<StatementKind> {
        if self.accept("start") {
            self.expect("transaction")?;
        } else {
            self.expect("begin")?;
            let _ = self.accept("work") || self.accept("transaction");
        }
        let modes = self.transaction_modes()?;
        let read_only =
            modes.iter().any(|(name, value)| name == "transaction_read_only" && value.as_deref() == Some("on"));
        let isolation =
            modes.into_iter().find(|(name, _)| name == "transaction_isolation").and_then(|(_, level)| level);
        Ok(StatementKind::Begin { read_only, isolation })
    }

    fn transaction_modes(&mut self) -> Result<Modes> {
        let mut modes = Modes::new();
        let mut mode = |name: &str, value: &str| modes.push((name.to_string(), Some(value.to_string())));
        loop {
            if self.accept("isolation level") {
                let levels = ["serializable", "repeatable read", "read committed", "read uncommitted"];
                let Some(level) = self.accept_one(&levels) else { return self.unexpected() };
                mode("transaction_isolation", level);
            } else if self.accept("read only") {
                mode("transaction_read_only", "on");
            } else if self.accept("read write") {
                mode("transaction_read_only", "off");
            } else if self.accept("not deferrable") {
                mode("transaction_deferrable", "off");
            } else if self.accept("deferrable") {
                mode("transaction_deferrable", "on");
            } else if !self.accept_token(&Token::Comma) {
                return Ok(modes);
            }
        }
    }

    pub fn commit(&mut self) -> Result<StatementKind> {
        if !self.accept("commit") {
            self.expect("end")?;
        }
        self.end_of_transaction()?;
        Ok(StatementKind::Commit)
    }

    fn end_of_transaction(&mut self) -> Result<()> {
        if self.sees("prepared") {
            return Err(self.error_here(Error::unsupported("two-phase commit")));
        }
        let _ = self.accept("work") || self.accept("transaction");
        let _ = self.accept("and no chain");
        if self.sees("and chain") {
            return Err(self.error_here(Error::unsupported("AND CHAIN")));
        }
        Ok(())
    }

    pub fn rollback(&mut self) -> Result<StatementKind> {
        if !self.accept("rollback") {
            self.expect("abort")?;
        }
        self.end_of_transaction()?;
        if self.accept("to") {
            let _ = self.accept("savepoint");
            return Ok(StatementKind::RollbackToSavepoint(self.identifier()?));
        }
        Ok(StatementKind::Rollback)
    }

    pub fn savepoint(&mut self) -> Result<StatementKind> {
        if self.accept("savepoint") {
            return Ok(StatementKind::Savepoint(self.identifier()?));
        }
        self.expect("release")?;
        let _ = self.accept("savepoint");
        Ok(StatementKind::ReleaseSavepoint(self.identifier()?))
    }

    pub fn set(&mut self) -> Result<StatementKind> {
        self.expect("set")?;
        if self.accept("session characteristics as transaction") {
            return Ok(StatementKind::Set { local: false, assignments: self.transaction_modes()? });
        }
        if self.accept("constraints") {
            let names = if self.accept("all") { Vec::new() } else { self.comma_separated(Self::name)? };
            return match self.accept_one(&["deferred", "immediate"]) {
                Some(word) => Ok(StatementKind::SetConstraints { names, deferred: word == "deferred" }),
                None => self.unexpected(),
            };
        }
        if self.accept("transaction") {
            if self.sees("snapshot") {
                return Err(self.error_here(Error::unsupported("SET TRANSACTION SNAPSHOT")));
            }
            return Ok(StatementKind::Set { local: true, assignments: self.transaction_modes()? });
        }
        if self.accept("clock") {
            let _ = self.accept("to");
            let value = self.value()?;
            return Ok(StatementKind::SetClock(value));
        }
        let local = self.accept("local");
        let scoped = local || (self.sees("session") && !self.sees("session authorization") && self.accept("session"));
        if scoped && self.accept("transaction") {
            return Ok(StatementKind::Set { local: true, assignments: self.transaction_modes()? });
        }
        let (name, value) = if self.accept("time zone") {
            ("timezone".to_string(), self.time_zone()?)
        } else if self.accept("names") {
            let value = if self.at_end() || self.accept("default") { None } else { Some(self.value()?) };
            ("client_encoding".to_string(), value)
        } else if self.accept("schema") {
            ("search_path".to_string(), Some(self.value()?))
        } else if self.accept("role") {
            ("role".to_string(), Some(self.value()?))
        } else if self.accept("session authorization") {
            let value = if self.accept("default") { None } else { Some(self.value()?) };
            ("session_authorization".to_string(), value)
        } else {
            let name = self.setting_name()?;
            if !self.accept_token(&Token::Eq) {
                self.expect("to")?;
            }
            let value = self.setting_value(&name)?;
            (name, value)
        };
        Ok(StatementKind::Set { local, assignments: vec![(name, value)] })
    }

    fn parser_to_end(&mut self) {
        while !self.at_end() {
            self.parser.advance_token();
        }
    }

    /// `name` or `custom.name`, in lower case.
    fn setting_name(&mut self) -> Result<String> {
        let mut name = self.word()?.to_lowercase();
        while self.accept_token(&Token::Period) {
            name = format!("{name}.{}", self.word()?.to_lowercase());
        }
        Ok(name)
    }

    /// `None` is DEFAULT. A list is joined by commas; in one, names keep their quotes, as SHOW prints them.
    fn setting_value(&mut self, name: &str) -> Result<Option<String>> {
        if self.accept("default") {
            return Ok(None);
        }
        let is_list = name == "search_path" || name == "datestyle" || name == "session_preload_libraries";
        let items = self.comma_separated(|c| {
            let quoted = matches!(c.token(), Token::Word(word) if word.quote_style.is_some());
            let literal = matches!(c.token(), Token::SingleQuotedString(_));
            let value = c.value()?;
            let plain = value.chars().all(|ch| ch.is_ascii_lowercase() || ch.is_ascii_digit() || ch == '_');
            Ok(match name {
                "search_path" if quoted && !plain => format!("\"{}\"", value.replace('"', "\"\"")),
                // `SET search_path TO 'a, b'` names one odd schema in Postgres, where every tool means two.
                "search_path" if !quoted && !literal => value.to_lowercase(),
                _ => value,
            })
        })?;
        if items.len() > 1 && !is_list {
            return Err(Error::invalid_value(format!("SET {name} takes only one argument")));
        }
        Ok(Some(items.join(", ")))
    }

    fn time_zone(&mut self) -> Result<Option<String>> {
        if self.accept("default") || self.accept("local") {
            return Ok(None);
        }
        if !self.sees("interval") {
            return self.value().map(Some);
        }
        // INTERVAL '+02:00' HOUR TO MINUTE: as the hours east of UTC that it means.
        self.expect("interval")?;
        let text = self.string()?;
        let unit = if self.accept("hour to minute") || !self.accept("hour") { None } else { Some("hour") };
        let interval = Interval::parse(&text, unit)?;
        if interval.months != 0 || interval.days != 0 {
            let what = if interval.months != 0 { "months" } else { "days" };
            return Err(Error::invalid_value(format!(
                "invalid value for parameter \"TimeZone\": \"INTERVAL '{text}'\""
            ))
            .detail(format!("Cannot specify {what} in time zone interval.")));
        }
        Ok(Some((interval.microseconds as f64 / 3.6e9).to_string()))
    }

    pub fn reset(&mut self) -> Result<StatementKind> {
        self.expect("reset")?;
        let name = match self.accept_one(&["all", "time zone", "session authorization", "transaction isolation level"])
        {
            Some("all") => None,
            Some("time zone") => Some("timezone".into()),
            Some("session authorization") => Some("session_authorization".into()),
            Some(_) => Some("transaction_isolation".into()),
            None => Some(self.setting_name()?),
        };
        Ok(StatementKind::Reset(name))
    }

    pub fn show(&mut self) -> Result<StatementKind> {
        self.expect("show")?;
        if self.accept("create") {
            let kinds = ["materialized view", "stream", "source", "table", "view", "sink"];
            if self.accept_one(&kinds).is_none() {
                return self.unexpected();
            }
            return Ok(StatementKind::Show(Show::CreateStatement(self.name()?)));
        }
        for (words, kind) in [
            ("streams", RelationKind::Stream),
            ("sources", RelationKind::Stream),
            ("tables", RelationKind::Table),
            ("views", RelationKind::View),
            ("materialized views", RelationKind::MaterializedView),
            ("sinks", RelationKind::Sink),
        ] {
            if self.accept(words) {
                return Ok(StatementKind::Show(Show::Relations(kind)));
            }
        }
        if self.accept("watermarks") {
            return Ok(StatementKind::Show(Show::Watermarks));
        }
        let setting =
            match self.accept_one(&["all", "time zone", "session authorization", "transaction isolation level"]) {
                Some("all") => None,
                Some("time zone") => Some("timezone".into()),
                Some("session authorization") => Some("session_authorization".into()),
                Some(_) => Some("transaction_isolation".into()),
                None => Some(self.setting_name()?),
            };
        Ok(StatementKind::Show(Show::Setting(setting)))
    }

    pub fn prepare_statement(&mut self) -> Result<StatementKind> {
        self.expect("prepare")?;
        if self.sees("transaction") {
            return Err(self.error_here(Error::unsupported("two-phase commit")));
        }
        let name = self.identifier()?;
        let types = if *self.token() == Token::LParen {
            self.parenthesised(|c| {
                c.comma_separated(|c| {
                    let data_type = c.sqlparser(|p| p.parse_data_type())?;
                    crate::sql::enums::spelling(&data_type)
                })
            })?
        } else {
            Vec::new()
        };
        self.expect("as")?;
        Ok(StatementKind::Prepare { name, types, statement: Box::new(self.statement()?) })
    }

    pub fn execute(&mut self) -> Result<StatementKind> {
        self.expect("execute")?;
        let name = self.identifier()?;
        let arguments = if *self.token() == Token::LParen {
            self.parenthesised(|c| c.comma_separated(Self::expression))?
        } else {
            Vec::new()
        };
        Ok(StatementKind::Execute { name, arguments })
    }

    pub fn deallocate(&mut self) -> Result<StatementKind> {
        self.expect("deallocate")?;
        let _ = self.accept("prepare");
        let name = if self.accept("all") { None } else { Some(self.identifier()?) };
        Ok(StatementKind::Deallocate(name))
    }

    pub fn discard(&mut self) -> Result<StatementKind> {
        self.expect("discard")?;
        Ok(match self.accept_one(&["all", "plans", "sequences", "temporary", "temp"]) {
            Some("all") => StatementKind::DiscardAll,
            Some("plans") => StatementKind::NoOp { tag: "DISCARD PLANS" },
            Some("sequences") => StatementKind::NoOp { tag: "DISCARD SEQUENCES" },
            Some(_) => StatementKind::DiscardTemporary,
            None => return self.unexpected(),
        })
    }

    pub fn declare(&mut self) -> Result<StatementKind> {
        self.expect("declare")?;
        let name = self.identifier()?;
        let mut scroll = None;
        while let Some(option) = self.accept_one(&["binary", "insensitive", "asensitive", "no scroll", "scroll"]) {
            match option {
                "binary" => return Err(Error::unsupported("BINARY CURSOR")),
                "scroll" => scroll = Some(true),
                "no scroll" => scroll = Some(false),
                _ => {}
            }
        }
        self.expect("cursor")?;
        let hold = self.accept("with hold");
        let _ = self.accept("without hold");
        self.expect("for")?;
        Ok(StatementKind::DeclareCursor { name, hold, scroll, statement: Box::new(self.row_statement()?) })
    }

    pub fn fetch(&mut self) -> Result<StatementKind> {
        let is_move = self.accept("move");
        if !is_move {
            self.expect("fetch")?;
        }
        let word =
            self.accept_one(&["next", "prior", "first", "last", "absolute", "relative", "forward", "backward", "all"]);
        let count = match word {
            Some("next") => FetchCount::Rows(1),
            Some("prior") => FetchCount::Back(1),
            Some("first") => FetchCount::Absolute(1),
            Some("last") => FetchCount::Absolute(-1),
            Some("all") => FetchCount::All,
            Some("absolute") => FetchCount::Absolute(self.signed()?),
            Some("relative") => FetchCount::Relative(self.signed()?),
            Some("backward") if self.accept("all") => FetchCount::BackAll,
            _ if self.accept("all") => FetchCount::All,
            direction => {
                let counted = *self.token() == Token::Minus || matches!(self.token(), Token::Number(..));
                let count = if counted { self.signed()? } else { 1 };
                match (direction == Some("backward")) == (count < 0) {
                    true => FetchCount::Rows(count.unsigned_abs()),
                    false => FetchCount::Back(count.unsigned_abs()),
                }
            }
        };
        let _ = self.accept("from") || self.accept("in");
        let cursor = self.identifier()?;
        if self.sees("with") {
            return Err(self.error_here(Error::unsupported("FETCH … WITH")));
        }
        Ok(StatementKind::Fetch { cursor, count, is_move })
    }

    fn signed(&mut self) -> Result<i64> {
        let negative = self.accept_token(&Token::Minus);
        let _ = !negative && self.accept_token(&Token::Plus);
        let number = i64::try_from(self.unsigned()?).unwrap_or(i64::MAX);
        Ok(if negative { -number } else { number })
    }

    pub fn close(&mut self) -> Result<StatementKind> {
        self.expect("close")?;
        Ok(StatementKind::CloseCursor(if self.accept("all") { None } else { Some(self.identifier()?) }))
    }

    pub fn explain(&mut self) -> Result<StatementKind> {
        self.expect("explain")?;
        let mut explain = Explain {
            stage: ExplainStage::Default,
            analyze: false,
            json: false,
            view: None,
            statement: Box::new(Statement {
                text: String::new(),
                start: (1, 1),
                kind: StatementKind::Empty,
                locking: Vec::new(),
            }),
        };
        // `EXPLAIN (SELECT 1)` is a query in parentheses, not a list of options.
        let queries = ["select", "with", "values", "table"];
        let second = super::source::unquoted(&self.parser.peek_nth_token_ref(1).token).to_lowercase();
        let options = *self.token() == Token::LParen
            && self.parser.peek_nth_token_ref(1).token != Token::LParen
            && !queries.contains(&second.as_str());
        if options {
            self.parenthesised(|c| c.comma_separated(|c| c.explain_option(&mut explain)))?;
        } else {
            explain.analyze = self.accept("analyze") || self.accept("analyse");
            let _ = self.accept("verbose");
        }
        if self.sees("materialized view") {
            explain.view = {
                self.expect("materialized view")?;
                Some(self.name()?)
            };
            return Ok(StatementKind::Explain(explain));
        }
        explain.statement = Box::new(self.statement()?);
        Ok(StatementKind::Explain(explain))
    }

    fn explain_option(&mut self, explain: &mut Explain) -> Result<()> {
        let option = self.word()?;
        let stage = match option.as_str() {
            "parsed" => Some(ExplainStage::Parsed),
            "logical" => Some(ExplainStage::Logical),
            "optimized" => Some(ExplainStage::Optimized),
            "physical" => Some(ExplainStage::Physical),
            "incremental" => Some(ExplainStage::Incremental),
            _ => None,
        };
        let value = match self.token() {
            Token::Comma | Token::RParen => None,
            _ => Some(self.value()?.to_lowercase()),
        };
        let on = || match value.as_deref() {
            None | Some("true" | "on" | "1") => Ok(true),
            Some("false" | "off" | "0") => Ok(false),
            Some(_) => Err(Error::syntax(format!("{option} requires a Boolean value"))),
        };
        match (stage, option.as_str()) {
            (Some(stage), _) => {
                if on()? {
                    explain.stage = stage;
                }
            }
            (None, "analyze" | "analyse") => explain.analyze = on()?,
            (None, "verbose" | "costs" | "buffers" | "timing" | "summary" | "settings" | "wal" | "generic_plan") => {
                on()?;
            }
            (None, "format") => match value.as_deref() {
                Some("text") => explain.json = false,
                Some("json") => explain.json = true,
                other => {
                    return Err(Error::invalid_value(format!(
                        "unrecognized value for EXPLAIN option \"format\": \"{}\"",
                        other.unwrap_or_default()
                    )));
                }
            },
            _ => return Err(Error::syntax(format!("unrecognized EXPLAIN option \"{option}\""))),
        }
        Ok(())
    }

    pub fn verify(&mut self) -> Result<StatementKind> {
        self.expect("verify materialized view")?;
        Ok(StatementKind::Verify(self.name()?))
    }

    pub fn replay(&mut self) -> Result<StatementKind> {
        self.expect("replay")?;
        // A relation may have such a name.
        if matches!(self.parser.peek_nth_token_ref(1).token, Token::Word(_)) {
            let _ = self.accept("table") || self.accept("stream");
        }
        Ok(StatementKind::Replay(self.name()?))
    }

    pub fn subscribe(&mut self) -> Result<StatementKind> {
        self.expect("subscribe")?;
        let _ = self.accept("to");
        let input = match *self.token() == Token::LParen {
            true => SinkInput::Query(self.parenthesised(|c| c.query())?),
            false => SinkInput::From(self.name()?),
        };
        let mut subscribe = Subscribe { input, snapshot: true, progress: false, as_of: None, up_to: None };
        if self.accept("with") {
            for (option, value) in self.options()? {
                let on = match value.to_lowercase().as_str() {
                    "true" | "on" => true,
                    "false" | "off" => false,
                    _ => {
                        return Err(Error::invalid_value(format!(
                            "option \"{option}\" needs true or false, not \"{value}\""
                        )));
                    }
                };
                match option.as_str() {
                    "snapshot" => subscribe.snapshot = on,
                    "progress" => subscribe.progress = on,
                    _ => {
                        let error = Error::invalid_value(format!("unrecognized option \"{option}\" of SUBSCRIBE"));
                        return Err(error.hint("The options are SNAPSHOT and PROGRESS."));
                    }
                }
            }
        }
        if self.accept("as of") {
            subscribe.as_of = Some(self.epoch()?);
        }
        if self.accept("up to") {
            subscribe.up_to = Some(self.epoch()?);
        }
        Ok(StatementKind::Subscribe(subscribe))
    }

    fn epoch(&mut self) -> Result<u64> {
        match self.token() {
            Token::Number(..) => self.unsigned(),
            Token::EOF => self.unexpected(),
            _ => Err(self.error_here(Error::unsupported("AS OF or UP TO other than the number of an epoch"))),
        }
    }

    /// SELECT …, and SELECT … EMIT CHANGES, which is a subscription.
    pub fn query_statement(&mut self) -> Result<StatementKind> {
        if let Some(statement) = self.query_as_of()? {
            return Ok(statement);
        }
        let query = self.query()?;
        let here = self.parser.peek_token();
        Ok(match self.emit()? {
            None => super::select_into::apart(query)?,
            Some(Emit::Changes) => {
                let input = SinkInput::Query(query);
                StatementKind::Subscribe(Subscribe { input, snapshot: true, progress: false, as_of: None, up_to: None })
            }
            Some(Emit::OnWindowClose) => {
                let error = Error::unsupported("EMIT ON WINDOW CLOSE in a SELECT");
                return Err(self.source.at(error.hint("Make a materialized view with it."), &here));
            }
        })
    }

    /// SELECT … AS OF value. sqlparser would take AS OF for an alias: so the query is read from the tokens before it.
    fn query_as_of(&mut self) -> Result<Option<StatementKind>> {
        // Read to there and back again: looking ahead counts from here each time.
        let (mut depth, mut read, mut after_system_time) = (0usize, 0, false);
        let found = loop {
            match self.token() {
                Token::EOF => break false,
                Token::LParen => depth += 1,
                Token::RParen if depth == 0 => break false,
                Token::RParen => depth -= 1,
                _ if depth == 0 && !after_system_time && self.as_of_here() => break true,
                _ => {}
            }
            after_system_time = unquoted(self.token()).eq_ignore_ascii_case("system_time");
            self.parser.advance_token();
            read += 1;
        };
        (0..read).for_each(|_| self.parser.prev_token());
        if !found {
            return Ok(None);
        }
        let tokens = (0..read).map(|_| self.parser.next_token()).collect();
        let parser = Parser::new(&DIALECT).with_recursion_limit(DEPTH_MAX).with_tokens_with_locations(tokens);
        let mut before = Cursor { source: self.source, parser };
        let query = before.query()?;
        if !before.at_end() {
            return before.unexpected();
        }
        self.expect("as of")?;
        Ok(Some(StatementKind::QueryAsOf { query, at: self.expression()? }))
    }

    /// Whether AS OF and a value come next; `x AS of` is an alias. (FOR SYSTEM_TIME AS OF is a join's.)
    fn as_of_here(&self) -> bool {
        if !self.sees("as of") {
            return false;
        }
        match &self.parser.peek_nth_token_ref(2).token {
            Token::Word(word) => TIME_WORDS.contains(&word.value.to_ascii_lowercase().as_str()),
            Token::Number(..) | Token::SingleQuotedString(_) | Token::Placeholder(_) | Token::LParen => true,
            _ => false,
        }
    }

    pub fn listen_or_notify(&mut self) -> Result<StatementKind> {
        if self.accept("listen") {
            return Ok(StatementKind::Listen(self.identifier()?));
        }
        if self.accept("unlisten") {
            let all = self.accept_token(&Token::Mul);
            return Ok(StatementKind::Unlisten(if all { None } else { Some(self.identifier()?) }));
        }
        self.expect("notify")?;
        let channel = self.identifier()?;
        let payload = if self.accept_token(&Token::Comma) { self.string()? } else { String::new() };
        Ok(StatementKind::Notify { channel, payload })
    }

    /// REFRESH MATERIALIZED VIEW [CONCURRENTLY] name [WITH [NO] DATA]
    pub fn refresh(&mut self) -> Result<StatementKind> {
        self.expect("refresh materialized view")?;
        let _ = self.accept("concurrently");
        let name = self.name()?;
        let _ = self.accept("with no data") || self.accept("with data");
        Ok(StatementKind::Refresh(name))
    }

    /// What VACUUM and others name, read and left.
    pub fn no_op(&mut self, tag: &'static str) -> Result<StatementKind> {
        self.parser_to_end();
        Ok(StatementKind::NoOp { tag })
    }
}
