//! The extended protocol: Parse, Bind, Describe, Execute, Close, Sync.
//!
//! ```text
//!   Parse "s" (SELECT … $1)   Bind "s" to portal "p", values, formats   Execute "p", at most 100 rows
//!   ParseComplete             BindComplete                              DataRow × 100, PortalSuspended
//! ```
//!
//! Statements live until closed or replaced; portals until their transaction ends. Executes before one Sync are
//! one implicit transaction; one alone, its Sync right behind it, needs none made for it.

use std::ops::ControlFlow;

use arrow::datatypes::{DataType, FieldRef, SchemaRef};
use millrace_engine::session::{self, Outcome, Room, TransactionStatus};
use millrace_engine::sql::statement::{Statement, StatementKind};
use millrace_engine::sql::text::PgType;
use millrace_engine::sql::text::parameter::{Parameter, Value};
use millrace_engine::sql::visit;
use millrace_engine::{Error, Result};
use sqlparser::ast;

use super::connection::{Connection, Failure, supervise};
use super::io::End;
use super::rows::{Cursor, command_tag};
use super::simple::Places;
use super::wire::{self, Bind, Target};
use crate::encoding::{RowEncoder, spread_formats};

fn is_nested(data_type: &DataType) -> bool {
    matches!(data_type, DataType::List(item) if matches!(item.data_type(), DataType::List(_)))
}

/// A prepared statement.
#[derive(Clone)]
pub struct Prepared {
    /// `None` is an empty query.
    statement: Option<session::Prepared>,
    parameters: Vec<Parameter>,
}

impl Prepared {
    fn columns(&self) -> Option<&SchemaRef> {
        self.statement.as_ref().and_then(|s| s.columns.as_ref())
    }
}

/// A prepared statement with its parameters, ready to run or running.
pub struct Portal {
    statement_name: String,
    prepared: Prepared,
    /// Per column: binary or text.
    formats: Vec<bool>,
    state: State,
}

enum State {
    Bound(Vec<Value>),
    /// With room for what its query keeps until it goes on.
    Open(Cursor, Room),
    /// Its rows have all been sent; with the tag's word.
    Drained(&'static str),
    /// It gave no rows, or failed.
    Done,
}

impl Connection {
    pub(super) async fn parse(&mut self, name: String, query: &str, types: Vec<u32>) -> Result<(), Failure> {
        if name.is_empty() {
            self.statements.remove("");
        } else if self.statements.contains_key(&name) {
            return Err(Error::new("42P05", format!("prepared statement \"{name}\" already exists")).into());
        }
        let mut statements = self.session.parse(query)?;
        statements.retain(|s| !matches!(s.kind, StatementKind::Empty));
        if statements.len() > 1 {
            return Err(Error::syntax("cannot insert multiple commands into a prepared statement").into());
        }
        let prepared = match statements.pop() {
            None => Prepared { statement: None, parameters: Vec::new() },
            Some(mut statement) => {
                self.check_not_failed(&statement)?;
                leave_out_void(&mut statement, &types);
                let types: Vec<u32> = types.iter().map(|oid| if *oid == VOID { 0 } else { *oid }).collect();
                let mut given = types.iter().map(|oid| Parameter::declared(*oid)).collect::<Result<Vec<_>>>()?;
                let before = Places::in_text(query).before(&statement);
                let (running, deadline) = (self.registration.running.clone(), self.deadline());
                running.begin();
                // An array's OID does not say how many dimensions it has: the statement may.
                let is_array = |given: &Option<FieldRef>| {
                    given.as_ref().is_some_and(|field| matches!(field.data_type(), DataType::List(_)))
                };
                if given.iter().any(is_array) && self.session.knows_nested_arrays(&statement) {
                    let open: Vec<_> = given.iter().map(|given| given.clone().filter(|_| !is_array(given))).collect();
                    let work = self.session.prepare(statement.clone(), &open);
                    if let Ok(inferred) = supervise(work, &mut self.io, &running, deadline).await {
                        for (given, inferred) in given.iter_mut().zip(&inferred.parameters) {
                            if is_array(given) && is_nested(inferred.data_type()) {
                                *given = Some(inferred.clone());
                            }
                        }
                    }
                }
                let work = self.session.prepare(statement, &given);
                let statement = supervise(work, &mut self.io, &running, deadline).await;
                running.end();
                let statement = statement.map_err(|e| e.moved(before))?;
                let declared = |i: usize| types.get(i).copied().unwrap_or(0);
                let parameters = statement.parameters.iter().enumerate();
                let parameters =
                    parameters.map(|(i, target)| Parameter::new(declared(i), target)).collect::<Result<_>>()?;
                Prepared { statement: Some(statement), parameters }
            }
        };
        self.statements.insert(name, prepared);
        wire::put_plain(&mut self.io.out, wire::PARSE_COMPLETE);
        Ok(())
    }

    fn statement(&self, name: &str) -> Result<&Prepared> {
        self.statements.get(name).ok_or_else(|| {
            Error::new(
                "26000",
                match name {
                    "" => "unnamed prepared statement does not exist".to_string(),
                    _ => format!("prepared statement \"{name}\" does not exist"),
                },
            )
        })
    }

    pub(super) fn bind(&mut self, bind: Bind) -> Result<(), Failure> {
        let prepared = self.statement(&bind.statement)?.clone();
        if let Some(statement) = &prepared.statement {
            self.check_not_failed(&statement.statement)?;
        }
        if bind.parameters.len() != prepared.parameters.len() {
            return Err(wire::violation(format!(
                "bind message supplies {} parameters, but prepared statement \"{}\" requires {}",
                bind.parameters.len(),
                bind.statement,
                prepared.parameters.len()
            ))
            .into());
        }
        if bind.portal.is_empty() {
            self.portals.remove("");
        } else if self.portals.contains_key(&bind.portal) {
            return Err(Error::new("42P03", format!("cursor \"{}\" already exists", bind.portal)).into());
        }
        let style = self.style();
        let formats = spread_formats(&bind.parameter_formats, bind.parameters.len(), "parameter")?;
        let mut values = Vec::with_capacity(bind.parameters.len());
        for ((parameter, bytes), is_binary) in prepared.parameters.iter().zip(&bind.parameters).zip(formats) {
            values.push(parameter.decode(bytes.as_deref(), is_binary, &style)?);
        }
        let columns = prepared.columns().map_or(0, |c| c.fields().len());
        // Formats for a statement without columns say nothing.
        let formats = if columns == 0 { Vec::new() } else { spread_formats(&bind.result_formats, columns, "result")? };
        let portal = Portal { statement_name: bind.statement, prepared, formats, state: State::Bound(values) };
        self.portals.insert(bind.portal, portal);
        wire::put_plain(&mut self.io.out, wire::BIND_COMPLETE);
        Ok(())
    }

    pub(super) fn describe(&mut self, target: &Target) -> Result<(), Failure> {
        let (prepared, formats) = match target {
            Target::Statement(name) => {
                let prepared = self.statement(name)?.clone();
                (prepared, None)
            }
            Target::Portal(name) => match self.portals.get(name) {
                Some(portal) => (portal.prepared.clone(), Some(portal.formats.clone())),
                // What DECLARE made is a portal too.
                None => {
                    let schema = self.session.cursor_columns(name).ok_or_else(|| no_portal(name))?;
                    let formats = vec![false; schema.fields().len()];
                    RowEncoder::new(schema, formats, self.style()).describe(&mut self.io.out);
                    return Ok(());
                }
            },
        };
        if let (Some(statement), Some(_)) = (&prepared.statement, prepared.columns()) {
            self.check_not_failed(&statement.statement)?;
        }
        if formats.is_none() {
            wire::put_parameter_description(&mut self.io.out, prepared.parameters.iter().map(Parameter::oid));
        }
        match prepared.columns() {
            Some(schema) => {
                let formats = formats.unwrap_or_else(|| vec![false; schema.fields().len()]);
                RowEncoder::new(schema.clone(), formats, self.style()).describe(&mut self.io.out);
            }
            None => wire::put_plain(&mut self.io.out, wire::NO_DATA),
        }
        Ok(())
    }

    pub(super) async fn execute_portal(&mut self, name: &str, rows_max: i32) -> Result<(), Failure> {
        let portal = self.portals.remove(name).ok_or_else(|| no_portal(name))?;
        let was = self.session.transaction_status();
        if was == TransactionStatus::Idle && (self.in_pipeline || !self.io.sync_is_next()) {
            self.session.begin_implicit().await;
            self.in_pipeline = true;
        }
        let running = self.registration.running.clone();
        running.begin();
        let result = self.run_portal(portal, usize::try_from(rows_max).unwrap_or(0)).await;
        running.end();
        let portal = result?;
        // All portals end with their transaction, also the one that ended it.
        if was != TransactionStatus::Idle && self.session.transaction_status() == TransactionStatus::Idle {
            self.portals.clear();
        } else {
            self.portals.insert(name.to_string(), portal);
        }
        Ok(())
    }

    /// Runs or goes on with a portal; gives it back as it is then. A portal that fails is gone.
    async fn run_portal(&mut self, mut portal: Portal, rows_max: usize) -> Result<Portal, Failure> {
        let Some(prepared) = portal.prepared.statement.clone() else {
            wire::put_plain(&mut self.io.out, wire::EMPTY_QUERY);
            return Ok(portal);
        };
        self.check_not_failed(&prepared.statement)?;
        let (running, deadline) = (self.registration.running.clone(), self.deadline());
        let mut room = None;
        let mut cursor = match std::mem::replace(&mut portal.state, State::Done) {
            State::Open(cursor, its) => {
                room = Some(its);
                cursor
            }
            State::Drained(tag) => {
                self.complete_portal(&command_tag(tag, 0));
                portal.state = State::Drained(tag);
                return Ok(portal);
            }
            State::Done => return Err(Error::not_in_state("portal cannot be run").into()),
            State::Bound(values) => {
                metrics::counter!("millrace_statements_total").increment(1);
                if let Some(tag) = self.deallocate(&prepared.statement.kind) {
                    self.complete_portal(&tag);
                    return Ok(portal);
                }
                let work = self.session.execute(&prepared, values);
                let outcome = supervise(work, &mut self.io, &running, deadline).await?;
                self.forget(&prepared.statement.kind);
                match outcome {
                    Outcome::Rows { schema, rows, tag } => {
                        check_same_result(prepared.columns.as_ref(), &schema)?;
                        Cursor::new(rows, RowEncoder::new(schema, portal.formats.clone(), self.style()), tag)
                    }
                    Outcome::Empty => {
                        wire::put_plain(&mut self.io.out, wire::EMPTY_QUERY);
                        return Ok(portal);
                    }
                    Outcome::Done(tag) => {
                        self.complete_portal(&tag);
                        return Ok(portal);
                    }
                    Outcome::CopyIn(copy) => {
                        let tag = self.copy_in(copy, deadline).await?;
                        self.complete_portal(&tag);
                        return Ok(portal);
                    }
                    Outcome::CopyOut { columns, format, data } => {
                        let tag = self.copy_out(columns, &format, data, deadline).await?;
                        self.complete_portal(&tag);
                        return Ok(portal);
                    }
                }
            }
        };
        let (count, ended) = cursor.send(rows_max, &mut self.io, &running, deadline).await?;
        if ended {
            self.complete_portal(&cursor.command_tag(count));
            portal.state = State::Drained(cursor.tag);
        } else {
            let room = room.map_or_else(|| self.session.room_for_rows(), Ok)?;
            wire::put_plain(&mut self.io.out, wire::PORTAL_SUSPENDED);
            portal.state = State::Open(cursor, room);
        }
        Ok(portal)
    }

    fn complete_portal(&mut self, tag: &str) {
        self.put_notices();
        wire::put_complete(&mut self.io.out, tag);
    }

    /// DEALLOCATE of a statement that the protocol prepared, which the engine does not know.
    pub(super) fn deallocate(&mut self, kind: &StatementKind) -> Option<String> {
        let StatementKind::Deallocate(Some(name)) = kind else { return None };
        self.statements.remove(name).map(|_| "DEALLOCATE".to_string())
    }

    /// It is no error to close what does not exist.
    pub(super) fn close(&mut self, target: &Target) {
        match target {
            Target::Statement(name) => {
                self.statements.remove(name);
                self.portals.retain(|_, portal| portal.statement_name != *name);
            }
            Target::Portal(name) => {
                self.portals.remove(name);
            }
        }
        wire::put_plain(&mut self.io.out, wire::CLOSE_COMPLETE);
    }

    pub(super) async fn sync(&mut self) -> Result<(), End> {
        let good = !std::mem::take(&mut self.skipping);
        if std::mem::take(&mut self.in_pipeline)
            && let Err(error) = self.session.end_implicit(good).await
        {
            self.fail(&error);
        }
        self.ready();
        Ok(())
    }
}

const VOID: u32 = 2278;

/// `{? = call f(?)}` of JDBC: what a function gives is a parameter of type void, and no argument of the function.
fn leave_out_void(statement: &mut Statement, types: &[u32]) {
    let StatementKind::Query(query) = &mut statement.kind else { return };
    if !types.contains(&VOID) {
        return;
    }
    let is_void = |argument: &ast::FunctionArg| {
        let ast::FunctionArg::Unnamed(ast::FunctionArgExpr::Expr(ast::Expr::Value(value))) = argument else {
            return false;
        };
        let ast::Value::Placeholder(name) = &value.value else { return false };
        let number: Option<usize> = name.strip_prefix('$').and_then(|number| number.parse().ok());
        number.and_then(|number| types.get(number.checked_sub(1)?)) == Some(&VOID)
    };
    let _ = visit::visit_expressions_mut(query.as_mut(), |expr| {
        if let ast::Expr::Function(function) = expr
            && let ast::FunctionArguments::List(list) = &mut function.args
        {
            list.args.retain(|argument| !is_void(argument));
        }
        ControlFlow::<()>::Continue(())
    });
    if let ast::SetExpr::Select(select) = query.body.as_mut() {
        for from in &mut select.from {
            if let ast::TableFactor::Table { args: Some(called), .. } = &mut from.relation {
                called.args.retain(|argument| !is_void(argument));
            } else if let ast::TableFactor::Function { args, .. } = &mut from.relation {
                args.retain(|argument| !is_void(argument));
            }
        }
    }
}

fn no_portal(name: &str) -> Error {
    Error::new("34000", format!("portal \"{name}\" does not exist"))
}

/// Between Parse and Execute a relation may have been made anew; the client was promised other columns.
fn check_same_result(promised: Option<&SchemaRef>, given: &SchemaRef) -> Result<()> {
    let same = promised.is_some_and(|promised| {
        promised.fields().len() == given.fields().len()
            && promised.fields().iter().zip(given.fields()).all(|(a, b)| PgType::of(a).oid == PgType::of(b).oid)
    });
    if same { Ok(()) } else { Err(Error::new("0A000", "cached plan must not change result type")) }
}
