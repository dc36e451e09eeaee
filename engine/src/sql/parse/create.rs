//! CREATE, DROP, ALTER, COMMENT: what makes and changes relations.

use sqlparser::ast;
use sqlparser::dialect::{Dialect, Precedence};
use sqlparser::tokenizer::Token;

use super::cursor::{Cursor, fold, interval_literal, name_of_parts};
use super::identity::Generated;
use crate::catalog::{IdentityKind, RelationKind};
use crate::error::{Error, Result};
use crate::sql::dialect::DIALECT;
use crate::sql::enums;
use crate::sql::statement::{
    ColumnDefinition, CreateRelation, CreateTableAs, Emit, IdentityDefinition, LateRowsDefinition, Name, Options,
    SinkInput, StatementKind, WatermarkDefinition,
};

impl Cursor<'_> {
    pub fn create(&mut self) -> Result<StatementKind> {
        self.expect("create")?;
        let or_replace = self.accept("or replace");
        let _ = self.accept("global") || self.accept("local");
        let temporary = self.accept("temporary") || self.accept("temp");
        let _ = self.accept("unlogged");
        let plain = |c: &Self, what: &str| match or_replace {
            true => Err(c.error_here(Error::unsupported(format!("CREATE OR REPLACE {what}")))),
            false => Ok(()),
        };
        if self.accept("stream") {
            plain(self, "STREAM")?;
            return Ok(StatementKind::CreateStream(self.create_stream()?));
        }
        if self.accept("source") {
            plain(self, "SOURCE")?;
            let mut stream = self.create_stream()?;
            stream.options.entry("retention".into()).or_insert_with(|| "none".into());
            return Ok(StatementKind::CreateStream(stream));
        }
        if self.accept("table") {
            plain(self, "TABLE")?;
            return self.create_table(temporary);
        }
        if self.accept("materialized view") {
            return self.create_materialized_view(or_replace);
        }
        if self.accept("recursive view") {
            return self.create_recursive_view(or_replace);
        }
        if self.accept("view") {
            return self.create_view(or_replace);
        }
        if self.accept("extension if not exists") {
            // What there is of these is built in.
            return match self.identifier()?.as_str() {
                "plpgsql" | "pgcrypto" | "uuid-ossp" => self.no_op("CREATE EXTENSION"),
                other => Err(self.error_here(Error::unsupported(format!("CREATE EXTENSION {other}")))),
            };
        }
        if self.accept("sequence") {
            plain(self, "SEQUENCE")?;
            if temporary {
                return Err(self.error_here(Error::unsupported("CREATE TEMPORARY SEQUENCE")));
            }
            return self.create_sequence();
        }
        if self.accept("type") {
            plain(self, "TYPE")?;
            return self.create_type();
        }
        if self.accept("sink") {
            plain(self, "SINK")?;
            return self.create_sink();
        }
        if let Some(words) = self.accept_one(&["unique index", "index"]) {
            return self.create_index(words == "unique index");
        }
        if self.accept("schema") {
            let if_not_exists = self.if_not_exists();
            let name = self.identifier()?;
            if self.sees("authorization") || self.sees("create") {
                return Err(self.error_here(Error::unsupported("CREATE SCHEMA with more than a name")));
            }
            return Ok(StatementKind::CreateSchema { name, if_not_exists });
        }
        self.unsupported_object("CREATE")
    }

    fn create_stream(&mut self) -> Result<CreateRelation> {
        let if_not_exists = self.if_not_exists();
        let name = self.name()?;
        let mut relation = CreateRelation::new(name, if_not_exists, false);
        if *self.token() == Token::LParen {
            self.relation_body(&mut relation)?;
        }
        if self.sees("include") {
            return Err(self.error_here(Error::unsupported("INCLUDE")));
        }
        relation.options = self.with_options()?;
        self.format_clause(&mut relation.options)?;
        Ok(relation)
    }

    /// `FORMAT PLAIN ENCODE JSON (key = value)`: the same as options `format`, `encode` and `key`.
    fn format_clause(&mut self, options: &mut Options) -> Result<()> {
        if !self.accept("format") {
            return Ok(());
        }
        let format = self.word()?;
        if self.sees("using") {
            let hint = format!("Write FORMAT PLAIN ENCODE {}, with the rest as options.", format.to_uppercase());
            return self.unexpected().map_err(|e: Error| e.hint(hint));
        }
        self.expect("encode")?;
        let encode = self.word()?;
        let more = if *self.token() == Token::LParen { self.options()? } else { Options::new() };
        for (key, value) in [("format".to_string(), format), ("encode".to_string(), encode)].into_iter().chain(more) {
            if options.insert(key.clone(), value).is_some() {
                return Err(Error::syntax(format!("option \"{key}\" is given more than once")));
            }
        }
        Ok(())
    }

    fn create_table(&mut self, temporary: bool) -> Result<StatementKind> {
        let if_not_exists = self.if_not_exists();
        let name = self.name()?;
        if self.sees("as") || self.sees("on commit") || self.sees("with") {
            return self.create_table_as(name, Vec::new(), if_not_exists, temporary);
        }
        // `CREATE TABLE t (a, b) AS …`: names without types.
        let next = |c: &Self, n| c.parser.peek_nth_token_ref(n).token.clone();
        if *self.token() == Token::LParen && matches!(next(self, 2), Token::Comma | Token::RParen) {
            let columns = self.identifiers()?;
            return self.create_table_as(name, columns, if_not_exists, temporary);
        }
        let mut relation = CreateRelation::new(name, if_not_exists, temporary);
        if *self.token() != Token::LParen {
            return self.unexpected();
        }
        self.relation_body(&mut relation)?;
        for words in ["inherits", "partition by", "using", "tablespace", "on commit drop", "on commit delete rows"] {
            if self.sees(words) {
                return Err(self.error_here(Error::unsupported(format!("CREATE TABLE … {}", words.to_uppercase()))));
            }
        }
        if self.sees("append only") {
            let refused = Error::unsupported("CREATE TABLE … APPEND ONLY").hint("CREATE STREAM makes what only grows.");
            return Err(self.error_here(refused));
        }
        let _ = self.accept("on commit preserve rows");
        relation.options = self.with_options_beside_storage()?;
        let _ = self.accept("without oids");
        Ok(StatementKind::CreateTable(relation))
    }

    fn create_table_as(
        &mut self,
        name: Name,
        columns: Vec<String>,
        if_not_exists: bool,
        temporary: bool,
    ) -> Result<StatementKind> {
        self.storage_parameters()?;
        let _ = self.accept("on commit preserve rows");
        self.expect("as")?;
        let query = self.query()?;
        let no_data = self.accept("with no data");
        let _ = no_data || self.accept("with data");
        Ok(StatementKind::CreateTableAs(CreateTableAs { name, if_not_exists, columns, query, temporary, no_data }))
    }

    /// `(column, …, PRIMARY KEY (…), WATERMARK FOR …)`.
    fn relation_body(&mut self, relation: &mut CreateRelation) -> Result<()> {
        self.expect_token(&Token::LParen)?;
        if self.accept_token(&Token::RParen) {
            return Ok(());
        }
        self.comma_separated(|c| c.relation_item(relation))?;
        self.expect_token(&Token::RParen)?;
        for (i, column) in relation.columns.iter().enumerate() {
            if relation.columns[..i].iter().any(|other| other.name == column.name) {
                return Err(Error::new("42701", format!("column \"{}\" specified more than once", column.name)));
            }
        }
        for (i, key) in relation.primary_key.iter().enumerate() {
            if relation.primary_key[..i].contains(key) {
                return Err(Error::new("42701", format!("column \"{key}\" appears twice in primary key constraint")));
            }
            match relation.columns.iter_mut().find(|c| c.name == *key) {
                Some(column) => column.nullable = false,
                None => return Err(Error::new("42703", format!("column \"{key}\" named in key does not exist"))),
            }
        }
        if let Some(watermark) = &relation.watermark
            && !relation.columns.iter().any(|c| c.name == watermark.column)
        {
            return Err(Error::undefined_column(&watermark.column));
        }
        Ok(())
    }

    fn relation_item(&mut self, relation: &mut CreateRelation) -> Result<()> {
        if self.accept("watermark for") {
            let watermark = self.watermark()?;
            if relation.watermark.replace(watermark).is_some() {
                return Err(Error::new("42P16", format!("stream \"{}\" has more than one watermark", relation.name)));
            }
            return Ok(());
        }
        if let Some(constraint) = self.table_constraint()? {
            return self.add_constraint(relation, constraint);
        }
        if self.sees("like") {
            return Err(self.error_here(Error::unsupported("LIKE in a column list")));
        }
        self.column(relation)
    }

    /// A type; `int ARRAY` and `int ARRAY[3]` are `int[]`.
    pub fn data_type(&mut self) -> Result<ast::DataType> {
        let element = self.sqlparser(|p| p.parse_data_type())?;
        if !self.accept("array") {
            return Ok(element);
        }
        if self.accept_token(&Token::LBracket) {
            self.unsigned()?;
            self.expect_token(&Token::RBracket)?;
        }
        Ok(ast::DataType::Array(ast::ArrayElemTypeDef::SquareBracket(Box::new(element), None)))
    }

    pub fn column(&mut self, relation: &mut CreateRelation) -> Result<()> {
        let name = self.identifier()?;
        if !matches!(self.token(), Token::Word(_)) {
            return self.unexpected();
        }
        let here = self.parser.peek_token();
        let serial = self.serial();
        let sql_type = match serial {
            Some(sql_type) => sql_type.to_string(),
            None => {
                let data_type = self.data_type()?;
                enums::spelling(&data_type).map_err(|e| self.source.at(e, &here))?
            }
        };
        let identity = serial.map(|_| IdentityDefinition::of(IdentityKind::Serial));
        let (default, generated) = (None, None);
        let mut column = ColumnDefinition { name, sql_type, nullable: serial.is_none(), default, identity, generated };
        loop {
            let name = if self.accept("constraint") { Some(self.identifier()?) } else { None };
            if let Some(constraint) = self.column_constraint(name, &column.name)? {
                self.add_constraint(relation, constraint)?;
                continue;
            }
            if self.accept("not null") {
                column.nullable = false;
            } else if self.accept("null") {
            } else if self.accept("default") {
                self.check_one_default(relation, &column, "default")?;
                // A NOT NULL after it is no part of it.
                let expression = self.sqlparser(|p| p.parse_subexpr(DIALECT.prec_value(Precedence::Is)))?;
                column.default = Some(expression.to_string());
            } else if self.accept("collate") {
                let collation = self.name()?;
                if !["C", "POSIX", "default", "c", "posix"].contains(&collation.name.as_str()) {
                    return Err(Error::unsupported(format!("collation \"{collation}\"")));
                }
            } else if self.accept("generated") {
                match self.generated()? {
                    Generated::Expression(expression) => {
                        self.check_one_default(relation, &column, "generation expression")?;
                        column.generated = Some(expression);
                    }
                    Generated::Identity(identity) => {
                        self.check_one_default(relation, &column, "identity")?;
                        column.nullable = false;
                        column.identity = Some(identity);
                    }
                }
            } else if self.sees("as") {
                return Err(self.error_here(Error::unsupported("a generated column")));
            } else {
                break;
            }
        }
        relation.columns.push(column);
        Ok(())
    }

    /// A column has one default, or counts its rows; `adding` is the word for what comes now.
    fn check_one_default(&self, relation: &CreateRelation, column: &ColumnDefinition, adding: &str) -> Result<()> {
        let (table, name) = (&relation.name.name, &column.name);
        let serial = column.identity.as_ref().is_some_and(|identity| identity.kind == IdentityKind::Serial);
        let what = match (&column.default, &column.identity) {
            (None, None) if column.generated.is_none() => return Ok(()),
            _ if column.generated.is_some() && adding == "generation expression" => "multiple generation clauses",
            (None, None) => match adding {
                "default" => "both default and generation expression",
                _ => "both identity and generation expression",
            },
            (Some(_), _) if adding == "generation expression" => "both default and generation expression",
            _ if adding == "generation expression" => "both identity and generation expression",
            (Some(_), _) if adding == "default" => "multiple default values",
            (_, Some(_)) if serial && adding == "default" => "multiple default values",
            (_, Some(_)) if !serial && adding == "identity" => "multiple identity specifications",
            _ => "both default and identity",
        };
        let message = match what {
            "multiple identity specifications" => format!("{what} for column \"{name}\" of table \"{table}\""),
            _ => format!("{what} specified for column \"{name}\" of table \"{table}\""),
        };
        Err(self.error_here(Error::syntax(message)))
    }

    /// After WATERMARK FOR: `ts AS ts - INTERVAL '5 seconds'` or `ts AS ts`.
    fn watermark(&mut self) -> Result<WatermarkDefinition> {
        let column = self.identifier()?;
        self.expect("as")?;
        let here = self.parser.peek_token();
        let expression = self.expression()?;
        let bad = || {
            let error = Error::unsupported(format!("watermark {expression}"));
            self.source
                .at(error.hint(format!("Write WATERMARK FOR {column} AS {column} - INTERVAL '5 seconds'.")), &here)
        };
        let is_column = |e: &ast::Expr| matches!(e, ast::Expr::Identifier(ident) if fold(ident) == column);
        let delay_us = match &expression {
            e if is_column(e) => 0,
            ast::Expr::BinaryOp { left, op: ast::BinaryOperator::Minus, right } if is_column(left) => {
                let interval = interval_literal(right).ok_or_else(bad)??;
                interval.fixed_us().filter(|&us| us >= 0).ok_or_else(bad)?
            }
            _ => return Err(bad()),
        };
        let idle_us = match self.accept("idle timeout") {
            false => None,
            true => {
                let here = self.parser.peek_token();
                let expression = self.expression()?;
                let bad = || {
                    let error =
                        Error::invalid_value(format!("IDLE TIMEOUT must be a positive length, not {expression}"));
                    self.source.at(error.hint("Write IDLE TIMEOUT INTERVAL '30 seconds'."), &here)
                };
                let interval = interval_literal(&expression).ok_or_else(bad)??;
                Some(interval.fixed_us().filter(|&us| us > 0).ok_or_else(bad)?)
            }
        };
        let late = match self.accept("late rows") {
            false => LateRowsDefinition::Keep,
            true => match self.accept_one(&["drop", "update", "into"]) {
                Some("drop") => LateRowsDefinition::Drop,
                Some("update") => LateRowsDefinition::Update,
                Some(_) => LateRowsDefinition::Into(self.name()?),
                None => return self.unexpected(),
            },
        };
        Ok(WatermarkDefinition { column, delay_us, idle_us, late })
    }

    fn create_view(&mut self, or_replace: bool) -> Result<StatementKind> {
        let if_not_exists = self.if_not_exists();
        let name = self.name()?;
        let columns = if *self.token() == Token::LParen { self.identifiers()? } else { Vec::new() };
        // security_barrier, security_invoker: no meaning here, and tools send them.
        self.with_options()?;
        self.expect("as")?;
        let query = self.query()?;
        let check =
            match self.accept_one(&["with local check option", "with cascaded check option", "with check option"]) {
                Some("with local check option") => Some("local"),
                other => other.map(|_| "cascaded"),
            };
        Ok(StatementKind::CreateView { name, or_replace, if_not_exists, columns, query, check })
    }

    /// `CREATE RECURSIVE VIEW v (a, b) AS q` is `CREATE VIEW v (a, b) AS WITH RECURSIVE v (a, b) AS (q) SELECT a, b FROM v`.
    fn create_recursive_view(&mut self, or_replace: bool) -> Result<StatementKind> {
        let name = self.name()?;
        if *self.token() != Token::LParen {
            return self.unexpected();
        }
        let columns = self.identifiers()?;
        self.with_options()?;
        self.expect("as")?;
        let recursive = self.query()?;
        if self.sees("with") {
            return Err(self.error_here(Error::new("0A000", "WITH CHECK OPTION not supported on recursive views")));
        }
        let shown = |name: &String| format!("\"{}\"", name.replace('"', "\"\""));
        let (own, list) = (shown(&name.name), columns.iter().map(shown).collect::<Vec<_>>().join(", "));
        let mut query = super::query(&format!("WITH RECURSIVE {own} ({list}) AS (SELECT 1) SELECT {list} FROM {own}"))?;
        if let Some(cte) = query.with.as_mut().and_then(|with| with.cte_tables.first_mut()) {
            cte.query = recursive;
        }
        Ok(StatementKind::CreateView { name, or_replace, if_not_exists: false, columns, query, check: None })
    }

    fn create_materialized_view(&mut self, or_replace: bool) -> Result<StatementKind> {
        let if_not_exists = self.if_not_exists();
        let name = self.name()?;
        let columns = if *self.token() == Token::LParen { self.identifiers()? } else { Vec::new() };
        let options = self.with_options_beside_storage()?;
        self.expect("as")?;
        let query = self.query()?;
        // It is always up to date: there is nothing to fill it with later.
        let _ = self.accept("with no data") || self.accept("with data");
        let emit = self.emit()?.unwrap_or(Emit::Changes);
        Ok(StatementKind::CreateMaterializedView { name, or_replace, if_not_exists, columns, query, options, emit })
    }

    /// `EMIT CHANGES | FINAL | ON WINDOW CLOSE`, if it comes next.
    pub fn emit(&mut self) -> Result<Option<Emit>> {
        if !self.accept("emit") {
            return Ok(None);
        }
        match self.accept_one(&["changes", "final", "on window close"]) {
            Some("changes") => Ok(Some(Emit::Changes)),
            Some(_) => Ok(Some(Emit::OnWindowClose)),
            None => self.unexpected(),
        }
    }

    fn create_sink(&mut self) -> Result<StatementKind> {
        let if_not_exists = self.if_not_exists();
        let name = self.name()?;
        if self.sees("into") {
            return Err(self.error_here(Error::unsupported("CREATE SINK … INTO")));
        }
        let input = if self.accept("from") {
            SinkInput::From(self.name()?)
        } else {
            self.expect("as")?;
            SinkInput::Query(self.query()?)
        };
        let mut options = self.with_options()?;
        self.format_clause(&mut options)?;
        Ok(StatementKind::CreateSink { name, if_not_exists, input, options })
    }

    pub fn relation_kind(&mut self) -> Option<RelationKind> {
        let word =
            self.accept_one(&["materialized view", "stream", "source", "table", "view", "sink", "sequence", "type"])?;
        Some(match word {
            "materialized view" => RelationKind::MaterializedView,
            "stream" | "source" => RelationKind::Stream,
            "table" => RelationKind::Table,
            "view" => RelationKind::View,
            "sequence" => RelationKind::Sequence,
            "type" => RelationKind::Type,
            _ => RelationKind::Sink,
        })
    }

    /// After INDEX: `[IF NOT EXISTS] [name] ON table [USING method] (column, …)`.
    fn create_index(&mut self, unique: bool) -> Result<StatementKind> {
        let _ = self.accept("concurrently");
        let if_not_exists = self.if_not_exists();
        let name = if self.sees("on") { None } else { Some(self.identifier()?) };
        self.expect("on")?;
        let _ = self.accept("only");
        let on = self.name()?;
        if self.accept("using") && self.accept_one(INDEX_METHODS).is_none() {
            return Err(self.error_here(Error::unsupported("this method of an index")));
        }
        self.expect_token(&Token::LParen)?;
        let mut computed = Vec::new();
        let columns = self.comma_separated(|c| {
            // A name alone, or a call, or anything in parentheses.
            let is_column = match (c.token(), &c.parser.peek_nth_token_ref(1).token) {
                (Token::LParen, _) => false,
                (_, next) => *next != Token::LParen,
            };
            let column = if is_column {
                Some(c.identifier()?)
            } else {
                if unique {
                    return Err(c.error_here(Error::unsupported("a unique index on an expression")));
                }
                computed.push(c.expression()?);
                None
            };
            // Of an operator class there is nothing to know: rows are looked up by equal values.
            if super::source::unquoted(c.token()).to_ascii_lowercase().ends_with("_ops") {
                c.word()?;
            }
            let _ = c.accept_one(&["asc", "desc"]);
            let _ = c.accept_one(&["nulls first", "nulls last"]);
            Ok(column)
        })?;
        self.expect_token(&Token::RParen)?;
        if self.sees("nulls not distinct") {
            return Err(self.error_here(Error::unsupported("NULLS NOT DISTINCT")));
        }
        let _ = self.accept("nulls distinct");
        // A look-up reads whole rows as it is.
        let included = if self.accept("include") { self.identifiers()? } else { Vec::new() };
        self.storage_parameters()?;
        if unique && self.sees("where") {
            return Err(self.error_here(Error::unsupported("a unique index with a condition")));
        }
        let condition = if self.accept("where") { Some(self.expression()?) } else { None };
        let columns: Vec<String> = columns.into_iter().flatten().collect();
        Ok(StatementKind::CreateIndex { unique, name, on, columns, included, computed, condition, if_not_exists })
    }

    pub fn drop_statement(&mut self) -> Result<StatementKind> {
        self.expect("drop")?;
        if self.accept("index") {
            let _ = self.accept("concurrently");
            let if_exists = self.if_exists();
            let names = self.comma_separated(Self::name)?;
            // Nothing depends on an index.
            let _ = self.cascade();
            return Ok(StatementKind::DropIndex { names, if_exists });
        }
        if self.accept("schema") {
            let if_exists = self.if_exists();
            let names = self.comma_separated(Self::identifier)?;
            let cascade = self.cascade();
            return Ok(StatementKind::DropSchema { names, if_exists, cascade });
        }
        let Some(kind) = self.relation_kind() else { return self.unsupported_object("DROP") };
        let if_exists = self.if_exists();
        let names = self.comma_separated(Self::name)?;
        let cascade = self.cascade();
        Ok(StatementKind::Drop { kind, names, if_exists, cascade })
    }

    /// Objects that Postgres has and Millrace has not; any other word is a mistake.
    pub fn unsupported_object<T>(&mut self, verb: &str) -> Result<T> {
        match self.token() {
            Token::Word(word) if OBJECTS.contains(&word.value.to_lowercase().as_str()) => {
                Err(self.error_here(Error::unsupported(format!("{verb} {}", word.value.to_uppercase()))))
            }
            _ => self.unexpected(),
        }
    }

    pub fn comment(&mut self) -> Result<StatementKind> {
        self.expect("comment on")?;
        let (name, column) = if self.accept("column") {
            let mut parts = vec![self.identifier()?];
            while self.accept_token(&Token::Period) {
                parts.push(self.identifier()?);
            }
            let column = parts.pop();
            if parts.is_empty() {
                return Err(Error::syntax("column name must be qualified"));
            }
            (name_of_parts(parts)?, column)
        } else if self.relation_kind().is_some() {
            (self.name()?, None)
        } else {
            return self.unsupported_object("COMMENT ON");
        };
        self.expect("is")?;
        let text = if self.accept("null") { None } else { Some(self.string()?) };
        Ok(StatementKind::Comment { name, column, text })
    }
}

/// Whichever it is, rows are looked up by equal values.
const INDEX_METHODS: &[&str] = &["btree", "hash", "gin", "gist", "spgist", "brin"];

const OBJECTS: &[&str] = &[
    "access",
    "aggregate",
    "cast",
    "collation",
    "connection",
    "conversion",
    "database",
    "default",
    "domain",
    "event",
    "extension",
    "foreign",
    "function",
    "group",
    "index",
    "language",
    "operator",
    "owned",
    "policy",
    "procedural",
    "procedure",
    "publication",
    "role",
    "routine",
    "rule",
    "secret",
    "server",
    "statistics",
    "subscription",
    "system",
    "tablespace",
    "text",
    "transform",
    "trigger",
    "type",
    "unique",
    "user",
    "constraint",
    "large",
];
