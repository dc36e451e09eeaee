//! What a user can say, parsed but not yet bound: Millrace's own statements beside those that
//! sqlparser already models. `parse.rs` makes these; `session.rs` runs them.

use std::collections::BTreeMap;

use sqlparser::ast;

use crate::catalog::{IdentityKind, OnReferenced, ReferenceTiming, RelationKind};
use crate::error::Error;
use crate::sql::copy::Copy;
use crate::sql::enums::TypeChange;
use crate::sql::locking::{Locking, LockingSubquery};

/// A name as written, folded: `schema.name` or `name`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name {
    pub schema: Option<String>,
    pub name: String,
}

impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.schema {
            Some(s) => write!(f, "{s}.{}", self.name),
            None => write!(f, "{}", self.name),
        }
    }
}

/// One statement and its source text (trimmed, without the semicolon).
#[derive(Debug, Clone)]
pub struct Statement {
    pub text: String,
    /// Line and column, from 1, at which it begins in the text that was parsed.
    pub start: (u64, u64),
    pub kind: StatementKind,
    /// What stood in it with FOR UPDATE: innermost first.
    pub locking: Vec<LockingSubquery>,
}

impl Statement {
    /// Gives an error of this statement its position in [`Statement::text`], where that is known.
    pub fn locate(&self, mut error: Error) -> Error {
        let place = error.place.take();
        if error.position.is_some() {
            return error;
        }
        error.position = match place {
            Some(place) => position_at(&self.text, self.start, place),
            None => self.position_of_target(&error),
        };
        error
    }

    /// INSERT, UPDATE and DELETE name their table and its columns where no planner sees them: there the name that the
    /// error speaks of is looked up in the text.
    fn position_of_target(&self, error: &Error) -> Option<usize> {
        use StatementKind::{Delete, Insert, Update};
        let names = matches!(error.code, "42P01" | "42703");
        if !names || !matches!(self.kind, Insert(_) | Update(_) | Delete(_)) {
            return None;
        }
        let name = error.message.split('"').nth(1)?.split('.').next()?;
        position_at(&self.text, (1, 1), crate::sql::parse::place_of_name(&self.text, name)?)
    }
}

/// The position in `text`, which begins at `start`, of a line and column.
fn position_at(text: &str, start: (u64, u64), (line, column): (u64, u64)) -> Option<usize> {
    let (below, column) = (line.checked_sub(start.0)? as usize, column as usize);
    if below == 0 {
        return (column + 1).checked_sub(start.1 as usize).filter(|&position| position > 0);
    }
    let (before, _) = text.match_indices('\n').nth(below - 1)?;
    Some(text[..=before].chars().count() + column)
}

pub type Options = BTreeMap<String, String>;

#[derive(Debug, Clone)]
pub enum StatementKind {
    /// Nothing but white space and comments.
    Empty,
    /// SELECT, VALUES, WITH, TABLE t.
    Query(Box<ast::Query>),
    /// SELECT … AS OF epoch or time.
    QueryAsOf {
        query: Box<ast::Query>,
        at: ast::Expr,
    },
    /// SELECT … FOR UPDATE or one of its kin, apart from that.
    QueryLocking {
        query: Box<ast::Query>,
        locking: Locking,
    },
    CreateStream(CreateRelation),
    CreateTable(CreateRelation),
    CreateTableAs(CreateTableAs),
    CreateView {
        name: Name,
        or_replace: bool,
        if_not_exists: bool,
        columns: Vec<String>,
        query: Box<ast::Query>,
        /// WITH [LOCAL | CASCADED] CHECK OPTION: which.
        check: Option<&'static str>,
    },
    CreateMaterializedView {
        name: Name,
        or_replace: bool,
        if_not_exists: bool,
        columns: Vec<String>,
        query: Box<ast::Query>,
        options: Options,
        emit: Emit,
    },
    CreateSink {
        name: Name,
        if_not_exists: bool,
        input: SinkInput,
        options: Options,
    },
    CreateIndex {
        unique: bool,
        /// Named after what it is on, without one.
        name: Option<String>,
        on: Name,
        columns: Vec<String>,
        /// INCLUDE: columns that need only be there.
        included: Vec<String>,
        /// What is indexed beside columns.
        computed: Vec<ast::Expr>,
        /// WHERE
        condition: Option<ast::Expr>,
        if_not_exists: bool,
    },
    DropIndex {
        names: Vec<Name>,
        if_exists: bool,
    },
    CreateSchema {
        name: String,
        if_not_exists: bool,
    },
    DropSchema {
        names: Vec<String>,
        if_exists: bool,
        cascade: bool,
    },
    Drop {
        kind: RelationKind,
        names: Vec<Name>,
        if_exists: bool,
        cascade: bool,
    },
    /// ALTER {TABLE|VIEW|MATERIALIZED VIEW|STREAM|SINK} … RENAME TO …
    Rename {
        kind: RelationKind,
        name: Name,
        new_name: String,
        if_exists: bool,
    },
    /// ALTER {TABLE|STREAM} name action, …
    AlterTable {
        kind: RelationKind,
        name: Name,
        if_exists: bool,
        actions: Vec<AlterAction>,
    },
    /// ALTER MATERIALIZED VIEW v RESUME
    Resume(Name),
    /// REPLAY [TABLE | STREAM] name: reads again what COPY has set aside.
    Replay(Name),
    /// COMMENT ON {kind} name | COLUMN name.column IS 'text' | NULL.
    Comment {
        name: Name,
        column: Option<String>,
        text: Option<String>,
    },
    Insert(Insert),
    Update(Update),
    Delete(Delete),
    Merge(Merge),
    /// WITH whose queries change rows.
    ChangeWith(ChangeWith),
    Truncate {
        names: Vec<Name>,
        /// RESTART IDENTITY: columns that count their rows begin anew.
        restart: bool,
    },
    Copy(Copy),
    Begin {
        read_only: bool,
        /// As SHOW transaction_isolation gives it back.
        isolation: Option<String>,
    },
    Commit,
    Rollback,
    Savepoint(String),
    ReleaseSavepoint(String),
    RollbackToSavepoint(String),
    /// SET [SESSION|LOCAL] name = value; `None` is DEFAULT. Names are lower case; `TIME ZONE x` is
    /// `timezone`, `SESSION CHARACTERISTICS AS TRANSACTION …` and `TRANSACTION …` are
    /// `transaction_isolation` / `transaction_read_only` …
    Set {
        local: bool,
        assignments: Vec<(String, Option<String>)>,
    },
    Reset(Option<String>),
    /// SET CLOCK 'time', for tests.
    SetClock(String),
    Show(Show),
    Explain(Explain),
    /// VERIFY MATERIALIZED VIEW v
    Verify(Name),
    Subscribe(Subscribe),
    Prepare {
        name: String,
        types: Vec<String>,
        statement: Box<Statement>,
    },
    Execute {
        name: String,
        arguments: Vec<ast::Expr>,
    },
    /// `None` is ALL.
    Deallocate(Option<String>),
    DeclareCursor {
        name: String,
        hold: bool,
        /// SCROLL, NO SCROLL or neither.
        scroll: Option<bool>,
        statement: Box<Statement>,
    },
    Fetch {
        cursor: String,
        count: FetchCount,
        is_move: bool,
    },
    /// CLOSE name; `None` is ALL.
    CloseCursor(Option<String>),
    DiscardAll,
    DiscardTemporary,
    CreateSequence {
        name: Name,
        if_not_exists: bool,
        options: SequenceOptions,
    },
    AlterSequence {
        name: Name,
        if_exists: bool,
        options: SequenceOptions,
    },
    /// REFRESH MATERIALIZED VIEW, which is always up to date.
    Refresh(Name),
    /// SET CONSTRAINTS; no names are ALL.
    SetConstraints {
        names: Vec<Name>,
        deferred: bool,
    },
    /// CREATE TYPE, ALTER TYPE.
    Type(TypeChange),
    /// BACKUP TO 'directory' | 'url' [KEEP n]
    Backup {
        to: String,
        keep: Option<u64>,
    },
    /// CHECKPOINT: writes one, and deletes what need not be kept.
    Checkpoint,
    /// TRUNCATE … CASCADE
    TruncateCascade {
        names: Vec<Name>,
        restart: bool,
    },
    Listen(String),
    /// `None` is *.
    Unlisten(Option<String>),
    Notify {
        channel: String,
        payload: String,
    },
    Do(Block),
    /// Accepted and answered with its tag, without effect: VACUUM, ANALYZE, LOCK TABLE.
    NoOp {
        tag: &'static str,
    },
}

/// The block of a DO.
#[derive(Debug, Clone)]
pub struct Block {
    /// Gives no row where nothing is to be done.
    pub condition: Option<ast::Query>,
    pub statements: Vec<Statement>,
    /// SQLSTATEs of errors that are none then; an empty one is all of them.
    pub ignored: Vec<&'static str>,
}

impl StatementKind {
    /// Makes, changes or drops something of the catalog.
    pub fn is_definition(&self) -> bool {
        use StatementKind::*;
        matches!(
            self,
            CreateTable(_)
                | CreateView { .. }
                | CreateMaterializedView { .. }
                | CreateIndex { .. }
                | CreateSequence { .. }
                | CreateSchema { .. }
                | Drop { .. }
                | DropIndex { .. }
                | Rename { .. }
                | AlterTable { .. }
                | AlterSequence { .. }
                | Type(_)
                | Comment { .. }
                | NoOp { .. }
        )
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Emit {
    Changes,
    OnWindowClose,
}

#[derive(Debug, Clone)]
pub struct CreateRelation {
    pub name: Name,
    pub if_not_exists: bool,
    pub columns: Vec<ColumnDefinition>,
    /// Column names, in key order.
    pub primary_key: Vec<String>,
    /// What the primary key is to be called.
    pub primary_key_name: Option<String>,
    /// UNIQUE and CHECK, of columns and of the table.
    pub constraints: Vec<Constraint>,
    pub watermark: Option<WatermarkDefinition>,
    pub options: Options,
    pub temporary: bool,
}

impl CreateRelation {
    pub fn new(name: Name, if_not_exists: bool, temporary: bool) -> Self {
        CreateRelation {
            name,
            if_not_exists,
            columns: Vec::new(),
            primary_key: Vec::new(),
            primary_key_name: None,
            constraints: Vec::new(),
            watermark: None,
            options: Options::new(),
            temporary,
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct Constraint {
    pub name: Option<String>,
    pub kind: ConstraintKind,
}

#[derive(Debug, Clone, PartialEq)]
pub enum ConstraintKind {
    PrimaryKey(Vec<String>),
    Unique(Vec<String>),
    /// The condition as SQL.
    Check(String),
    ForeignKey(ForeignKeyDefinition),
}

#[derive(Debug, Clone, PartialEq)]
pub struct ForeignKeyDefinition {
    pub columns: Vec<String>,
    pub table: Name,
    /// Empty: the primary key.
    pub referenced: Vec<String>,
    pub on_delete: OnReferenced,
    pub on_update: OnReferenced,
    pub timing: ReferenceTiming,
}

/// A part of ALTER TABLE.
#[derive(Debug, Clone)]
pub enum AlterAction {
    /// The column and its constraints, as in CREATE TABLE.
    AddColumn {
        definition: CreateRelation,
        if_not_exists: bool,
    },
    DropColumn {
        column: String,
        if_exists: bool,
    },
    RenameColumn {
        column: String,
        new_name: String,
    },
    /// `None` is DROP DEFAULT.
    SetDefault {
        column: String,
        default: Option<String>,
    },
    SetNotNull {
        column: String,
        not_null: bool,
    },
    SetType {
        column: String,
        sql_type: String,
        using: Option<ast::Expr>,
    },
    AddConstraint(Constraint),
    DropConstraint {
        name: String,
        if_exists: bool,
    },
    RenameConstraint {
        name: String,
        new_name: String,
    },
    /// Whatever is declared has been checked.
    ValidateConstraint {
        name: String,
    },
    /// RESTART [WITH n] of a column that counts its rows.
    /// ALTER COLUMN … ADD GENERATED … AS IDENTITY
    AddIdentity {
        column: String,
        identity: IdentityDefinition,
    },
    Restart {
        column: String,
        with: Option<i64>,
    },
}

#[derive(Debug, Clone, PartialEq)]
pub struct ColumnDefinition {
    pub name: String,
    /// Normalised SQL type (see `types.rs`).
    pub sql_type: String,
    pub nullable: bool,
    /// SQL text of the default expression.
    pub default: Option<String>,
    pub identity: Option<IdentityDefinition>,
    /// SQL text of what a generated column is.
    pub generated: Option<String>,
}

/// What is said of the sequence of a column that counts its rows; what is not follows from the column's type.
#[derive(Debug, Clone, PartialEq)]
pub struct IdentityDefinition {
    pub kind: IdentityKind,
    pub start: Option<i64>,
    pub increment: Option<i64>,
    pub min: Option<i64>,
    pub max: Option<i64>,
    pub cycle: bool,
    pub name: Option<String>,
}

impl IdentityDefinition {
    pub fn of(kind: IdentityKind) -> Self {
        let (start, increment, min, max) = (None, None, None, None);
        IdentityDefinition { kind, start, increment, min, max, cycle: false, name: None }
    }
}

/// CREATE TABLE … AS query.
#[derive(Debug, Clone)]
pub struct CreateTableAs {
    pub name: Name,
    pub if_not_exists: bool,
    /// Names of the first columns, in the place of the query's.
    pub columns: Vec<String>,
    pub query: Box<ast::Query>,
    pub temporary: bool,
    /// WITH NO DATA: the columns alone.
    pub no_data: bool,
}

/// CREATE SEQUENCE and ALTER SEQUENCE: what is said, and nothing of what is not.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct SequenceOptions {
    pub sql_type: Option<String>,
    pub start: Option<i64>,
    pub increment: Option<i64>,
    /// `Some(None)` is NO MINVALUE.
    pub min: Option<Option<i64>>,
    pub max: Option<Option<i64>>,
    pub cycle: Option<bool>,
    /// `Some(None)` is OWNED BY NONE; else the table and its column.
    pub owned_by: Option<Option<(Name, String)>>,
    /// `Some(None)` begins at the start.
    pub restart: Option<Option<i64>>,
}

/// OVERRIDING SYSTEM VALUE or USER VALUE: whether values that are given for identity columns count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Overriding {
    System,
    User,
}

#[derive(Debug, Clone, PartialEq)]
pub struct WatermarkDefinition {
    pub column: String,
    /// Microseconds: `ts - INTERVAL '5 seconds'` is 5,000,000.
    pub delay_us: i64,
    pub idle_us: Option<i64>,
    pub late: LateRowsDefinition,
}

#[derive(Debug, Clone, PartialEq)]
pub enum LateRowsDefinition {
    Keep,
    Drop,
    Update,
    Into(Name),
}

#[derive(Debug, Clone)]
pub enum SinkInput {
    From(Name),
    Query(Box<ast::Query>),
}

#[derive(Debug, Clone)]
pub struct Insert {
    pub table: Name,
    /// INSERT INTO t AS alias: the name of the table's own row in ON CONFLICT and RETURNING.
    pub alias: Option<String>,
    /// Empty means all, in order.
    pub columns: Vec<String>,
    pub overriding: Option<Overriding>,
    /// `None` is DEFAULT VALUES. A VALUES list is a query too; `DEFAULT` in it is the identifier
    /// expression `DEFAULT` as sqlparser gives it.
    pub source: Option<Box<ast::Query>>,
    pub on_conflict: Option<OnConflict>,
    pub returning: Option<Vec<ast::SelectItem>>,
}

#[derive(Debug, Clone)]
pub struct OnConflict {
    /// Column names of the conflict target; empty when none was given.
    pub target: Vec<String>,
    /// ON CONFLICT ON CONSTRAINT name.
    pub constraint: Option<String>,
    /// Empty is DO NOTHING. Expressions may name `excluded.x` and the table's own columns.
    pub assignments: Vec<(String, ast::Expr)>,
    pub filter: Option<ast::Expr>,
}

#[derive(Debug, Clone)]
pub struct Update {
    /// WITH before it.
    pub with: Option<ast::With>,
    pub table: Name,
    pub alias: Option<String>,
    pub assignments: Vec<(String, ast::Expr)>,
    /// UPDATE … FROM.
    pub from: Vec<ast::TableWithJoins>,
    pub filter: Option<ast::Expr>,
    pub returning: Option<Vec<ast::SelectItem>>,
}

#[derive(Debug, Clone)]
pub struct Delete {
    /// WITH before it.
    pub with: Option<ast::With>,
    pub table: Name,
    pub alias: Option<String>,
    /// DELETE … USING.
    pub using: Vec<ast::TableWithJoins>,
    pub filter: Option<ast::Expr>,
    pub returning: Option<Vec<ast::SelectItem>>,
}

/// MERGE INTO table USING source ON condition WHEN … THEN …
#[derive(Debug, Clone)]
pub struct Merge {
    /// WITH before it.
    pub with: Option<ast::With>,
    pub table: Name,
    pub alias: Option<String>,
    pub source: ast::TableWithJoins,
    pub on: ast::Expr,
    /// In order: of each row the first that holds is done.
    pub clauses: Vec<MergeClause>,
}

/// WHEN [NOT] MATCHED [AND condition] THEN action.
#[derive(Debug, Clone)]
pub struct MergeClause {
    pub matched: bool,
    pub condition: Option<ast::Expr>,
    pub action: MergeAction,
}

#[derive(Debug, Clone)]
pub enum MergeAction {
    Nothing,
    Delete,
    Update(Vec<(String, ast::Expr)>),
    Insert {
        /// Empty means all, in order.
        columns: Vec<String>,
        overriding: Option<Overriding>,
        /// `None` is DEFAULT VALUES.
        values: Option<Vec<ast::Expr>>,
    },
}

/// `WITH d AS (DELETE … RETURNING …), q AS (SELECT …) INSERT …`: all of it is one statement.
#[derive(Debug, Clone)]
pub struct ChangeWith {
    pub recursive: bool,
    pub parts: Vec<WithPart>,
    /// What WITH stands before, and its text.
    pub main: Box<StatementKind>,
    pub main_text: String,
}

#[derive(Debug, Clone)]
pub struct WithPart {
    pub name: String,
    /// Names of its first columns, in the place of its own.
    pub columns: Vec<String>,
    /// A query, or what changes rows.
    pub kind: StatementKind,
    pub text: String,
}

#[derive(Debug, Clone)]
pub enum Show {
    /// SHOW STREAMS | TABLES | VIEWS | MATERIALIZED VIEWS | SINKS.
    Relations(RelationKind),
    CreateStatement(Name),
    Watermarks,
    /// SHOW name; `None` is ALL.
    Setting(Option<String>),
}

#[derive(Debug, Clone)]
pub struct Explain {
    pub stage: ExplainStage,
    pub analyze: bool,
    /// FORMAT JSON.
    pub json: bool,
    /// MATERIALIZED VIEW name, in place of a statement.
    pub view: Option<Name>,
    pub statement: Box<Statement>,
}

/// EXPLAIN (PARSED | LOGICAL | OPTIMIZED | PHYSICAL | INCREMENTAL) …; plain EXPLAIN picks PHYSICAL for a
/// query and INCREMENTAL for CREATE MATERIALIZED VIEW.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExplainStage {
    Default,
    Parsed,
    Logical,
    Optimized,
    Physical,
    Incremental,
}

#[derive(Debug, Clone)]
pub struct Subscribe {
    pub input: SinkInput,
    /// Default true: first the rows as they stand.
    pub snapshot: bool,
    pub progress: bool,
    pub as_of: Option<u64>,
    pub up_to: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FetchCount {
    Rows(u64),
    All,
    Back(u64),
    BackAll,
    /// The row of this number, from 1; counted from the last one where it is negative.
    Absolute(i64),
    Relative(i64),
}
