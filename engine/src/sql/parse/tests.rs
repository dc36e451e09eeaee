use super::*;
use crate::sql::copy::CopySource;
use crate::sql::statement::*;

fn one(text: &str) -> StatementKind {
    parse_one(text).unwrap_or_else(|e| panic!("{text}: {e:?}")).kind
}

/// Each line `input => part of the debug form`.
fn check(cases: &str) {
    for case in cases.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let (text, expected) = case.split_once(" => ").expect("a case has an arrow");
        let debug = format!("{:?}", one(text));
        assert!(debug.contains(expected), "{text}\n  has   {debug}\n  wants {expected}");
    }
}

/// Each line `input => code message`; the message's beginning is enough.
fn check_errors(cases: &str) {
    for case in cases.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let (text, expected) = case.split_once(" => ").expect("a case has an arrow");
        let error = parse(text).expect_err(text);
        let got = format!("{} {}", error.code, error.message);
        assert!(got.starts_with(expected), "{text}\n  has   {got}\n  wants {expected}");
    }
}

#[test]
fn splits_and_slices() {
    let text = "/* a;b */ SELECT ';', $$;$$ ; ;\n-- c;\n  insert INTO t VALUES (1) -- d\n;";
    let statements = parse(text).unwrap();
    let texts: Vec<&str> = statements.iter().map(|s| s.text.as_str()).collect();
    assert_eq!(texts, ["SELECT ';', $$;$$", "insert INTO t VALUES (1)"]);
    for empty in ["", " ; ;", "-- only", "/* a */"] {
        let statements = parse(empty).unwrap();
        assert!(matches!(statements.as_slice(), [Statement { kind: StatementKind::Empty, .. }]), "{empty}");
    }
}

#[test]
fn inner_statements_have_their_own_text() {
    let StatementKind::Explain(explain) = one("EXPLAIN (ANALYZE, FORMAT json)  select  1 ") else { panic!() };
    assert_eq!((explain.statement.text.as_str(), explain.analyze, explain.json), ("select  1", true, true));
    let StatementKind::Copy(copy) = one("COPY (SELECT a FROM t) TO STDOUT") else { panic!() };
    let CopySource::Statement(inner) = copy.source else { panic!() };
    assert_eq!(inner.text, "SELECT a FROM t");
    let StatementKind::DeclareCursor { statement, hold, .. } = one("declare c cursor with hold for subscribe v") else {
        panic!()
    };
    assert!(hold && statement.text == "subscribe v" && matches!(statement.kind, StatementKind::Subscribe(_)));
}

#[test]
fn streams() {
    let StatementKind::CreateStream(s) = one(
        "CREATE STREAM IF NOT EXISTS Orders (id bigint PRIMARY KEY, \"Amount\" numeric(12,2) NOT NULL DEFAULT 1 + 2, ts timestamptz, \
         WATERMARK FOR ts AS ts - INTERVAL '5 seconds') WITH (connector = 'kafka', a.b.c = x, \"q\" = 3, n = -1.5, r = INTERVAL '1 day')",
    ) else {
        panic!()
    };
    assert_eq!(s.name.to_string(), "orders");
    assert!(s.if_not_exists && !s.columns[0].nullable && !s.columns[1].nullable && s.columns[2].nullable);
    assert_eq!((s.columns[1].name.as_str(), s.columns[1].default.as_deref()), ("Amount", Some("1 + 2")));
    assert_eq!(s.columns[2].sql_type, "timestamp with time zone");
    assert_eq!(s.primary_key, ["id"]);
    let late = LateRowsDefinition::Keep;
    assert_eq!(
        s.watermark,
        Some(WatermarkDefinition { column: "ts".into(), delay_us: 5_000_000, idle_us: None, late })
    );
    let options: Vec<_> = s.options.iter().map(|(k, v)| format!("{k}={v}")).collect();
    assert_eq!(options, ["a.b.c=x", "connector=kafka", "n=-1.5", "q=3", "r=0 months 1 days 0 microseconds"]);
    let StatementKind::CreateStream(s) = one(
        "create stream s (a int, ts timestamp, watermark for ts as ts idle timeout interval '30 seconds' late rows into b.c)",
    ) else {
        panic!()
    };
    let w = s.watermark.expect("a watermark");
    let LateRowsDefinition::Into(name) = &w.late else { panic!() };
    assert_eq!((w.delay_us, w.idle_us, name.to_string().as_str()), (0, Some(30_000_000), "b.c"));
    let StatementKind::CreateStream(s) =
        one("create source s (a int) with (connector = datagen) format plain encode json (k = 1)")
    else {
        panic!()
    };
    let options: Vec<_> = s.options.iter().map(|(k, v)| format!("{k}={v}")).collect();
    assert_eq!(options, ["connector=datagen", "encode=json", "format=plain", "k=1", "retention=none"]);
}

#[test]
fn tables() {
    let StatementKind::CreateTable(t) =
        one("CREATE TEMP TABLE s.t (a int NOT NULL, b text, CONSTRAINT k PRIMARY KEY (b, a))")
    else {
        panic!()
    };
    assert_eq!((t.name.to_string().as_str(), t.temporary), ("s.t", true));
    assert_eq!(t.primary_key, ["b", "a"]);
    assert!(!t.columns[1].nullable, "a key's column is not null");
    check(
        "create table t as (select 1) => CreateTableAs { name: Name { schema: None, name: \"t\" }
         create table t as select 1 with data => CreateTableAs
         create table if not exists t (a int) => if_not_exists: true
         create table t (\"char\" \"char\", n name) => sql_type: \"\\\"char\\\"\"
         create table t (a bigserial) => sql_type: \"bigint\", nullable: false, default: None, identity: Some(IdentityDefinition { kind: Serial
         create table t (a int generated always as (b + 1) stored) => generated: Some(\"b + 1\")
         create table t (a int generated by default as identity (start 5 increment by -2 cycle)) => kind: ByDefault, start: Some(5), increment: Some(-2), min: None, max: None, cycle: true
         create table t (a int check (a > 0) not null) => nullable: false
         create table t (a int unique, constraint c check (a > 1)) => constraints: [Constraint { name: None, kind: Unique([\"a\"]) }, Constraint { name: Some(\"c\"), kind: Check(\"a > 1\") }]
         create table t (a timestamp default now() not null, b int default -1 + 2 null unique) => nullable: false, default: Some(\"now()\")
         create table t (a int constraint k primary key) => primary_key_name: Some(\"k\")
         create table t (a int) with (fillfactor=100, autovacuum_enabled = false, history = '1 day') => options: {\"history\": \"1 day\"}
         create table t (a int primary key with (fillfactor = 70)) => primary_key: [\"a\"]
         create table t with (fillfactor = 70) as select 1 => CreateTableAs
         alter table t set (fillfactor = 70) => NoOp
         alter table t reset (autovacuum_enabled, toast.autovacuum_enabled) => NoOp
         create index i on t (a) with (fillfactor = 70) => CreateIndex { unique: false
         create unique index i on t (a) => CreateIndex { unique: true
         create index on t (lower(a)) => computed: [Function
         create index i on t using btree (a varchar_pattern_ops desc, b) => columns: [\"a\", \"b\"]
         create table t (a int references u (b) on update cascade on delete set null deferrable initially deferred not null) => referenced: [\"b\"], on_delete: SetNull, on_update: Cascade, timing: Deferred
         create table t (a int, b int, constraint f foreign key (a, b) references s.u deferrable) => columns: [\"a\", \"b\"], table: Name { schema: Some(\"s\"), name: \"u\" }, referenced: [], on_delete: NoAction, on_update: NoAction, timing: Deferrable",
    );
    check_errors(
        "create table t (a int, a int) => 42701 column \"a\" specified
         create table t (a int references u match full) => 0A000 MATCH FULL
         create table t with (history = '1 day') as select 1 => 22023 unrecognized parameter \"history\"
         alter table t set (nosuch = 1) => 22023 unrecognized parameter \"nosuch\"
         create table t (a int unique deferrable) => 0A000 a constraint that is DEFERRABLE
         create table t (a int, unique nulls not distinct (a)) => 0A000 NULLS NOT DISTINCT
         create table t (a int, foreign key (a) references u on delete nothing) => 42601 syntax error
         create table t (a int primary key, b int primary key) => 42P16 multiple primary keys
         create table t (a int, primary key (c)) => 42703 column \"c\" named in key does not exist
         create table t (a int generated always as (b + 1)) => 42601 syntax error at or near \")\"
         create table t (a int generated by default as (b + 1) stored) => 42601 syntax error at or near \"(\"
         create table t (a int default 1 generated always as (b) stored) => 42601 both default and generation expression
         create table t (a serial default 1) => 42601 multiple default values
         create table t (a int default 1 generated always as identity) => 42601 both default and identity
         create table t (a int => 42601 syntax error at end of input
         create table => 42601 syntax error at end of input
         create stream s (a int, watermark for b as b) => 42703 column \"b\"
         create stream s (a timestamp, watermark for a as a - interval '1 month') => 0A000 watermark",
    );
}

#[test]
fn views_and_sinks() {
    let StatementKind::CreateMaterializedView { columns, options, emit, or_replace, query, .. } =
        one("CREATE OR REPLACE MATERIALIZED VIEW v (A, b) WITH (on_error = fail) AS SELECT 1, 2 FROM t EMIT FINAL")
    else {
        panic!()
    };
    assert_eq!((columns, emit, or_replace), (vec!["a".to_string(), "b".into()], Emit::OnWindowClose, true));
    assert_eq!((options["on_error"].as_str(), query.to_string().as_str()), ("fail", "SELECT 1, 2 FROM t"));
    check(
        "create materialized view v as select 1 => emit: Changes
         create materialized view v as select * from t emit changes => emit: Changes
         create materialized view v as select * from t group by a emit on window close => emit: OnWindowClose
         create materialized view if not exists v as select 1 with data => if_not_exists: true
         create view v (a) as select 1 => CreateView
         create sink k from v with (connector = 'kafka') => CreateSink { name: Name { schema: None, name: \"k\" }
         create sink k as select * from t with (connector = 'kafka') => options: {\"connector\": \"kafka\"}
         create sink k as select a from t where b > 1 with (connector = 'kafka') => options: {\"connector\": \"kafka\"}
         create schema if not exists s => CreateSchema { name: \"s\", if_not_exists: true }
         drop schema s cascade => DropSchema { names: [\"s\"], if_exists: false, cascade: true }
         drop materialized view if exists a, s.b cascade => kind: MaterializedView, names: [Name { schema: None, name: \"a\" }, Name { schema: Some(\"s\")
         drop source a restrict => kind: Stream
         alter table a rename to b => Rename { kind: Table
         alter materialized view if exists a rename to b => if_exists: true
         alter table t add a int not null default 5, drop column if exists b => AddColumn { definition: CreateRelation
         alter table only t add constraint p primary key (a) => AddConstraint(Constraint { name: Some(\"p\"), kind: PrimaryKey([\"a\"])
         alter table t alter a type bigint using a * 2 => SetType { column: \"a\", sql_type: \"bigint\", using: Some(
         alter table t rename a to b => RenameColumn { column: \"a\", new_name: \"b\" }
         alter schema public owner to x => NoOp { tag: \"ALTER SCHEMA\" }
         alter table only t alter column a add generated always as identity (sequence name s.q start with 5) => AddIdentity { column: \"a\"
         alter table t alter column a drop not null => SetNotNull { column: \"a\", not_null: false }
         comment on column s.t.c is 'x' => Comment { name: Name { schema: Some(\"s\"), name: \"t\" }, column: Some(\"c\"), text: Some(\"x\") }
         comment on materialized view v is null => text: None",
    );
    check_errors(
        "alter table t set schema s => 0A000 ALTER TABLE … SET SCHEMA is not supported
         alter table t alter column a drop expression => 0A000 ALTER TABLE … ALTER COLUMN … DROP EXPRESSION
         drop table => 42601 syntax error at end
         select 1 emit final => 0A000 EMIT ON WINDOW CLOSE in a SELECT",
    );
}

#[test]
fn dml() {
    let StatementKind::Insert(insert) = one(
        "INSERT INTO t AS x (a, B) VALUES (1, DEFAULT) ON CONFLICT (a) DO UPDATE SET b = excluded.b, (c, d) = (1, 2) WHERE x.b > 1 RETURNING a, *",
    ) else {
        panic!()
    };
    assert_eq!((insert.alias.as_deref(), insert.columns), (Some("x"), vec!["a".to_string(), "b".into()]));
    let on_conflict = insert.on_conflict.unwrap();
    let assigned: Vec<_> = on_conflict.assignments.iter().map(|(c, e)| format!("{c}={e}")).collect();
    assert_eq!(assigned, ["b=excluded.b", "c=1", "d=2"]);
    assert_eq!((on_conflict.target, insert.returning.unwrap().len()), (vec!["a".to_string()], 2));
    check(
        "insert into t default values => source: None
         insert into t select * from u on conflict do nothing => on_conflict: Some(OnConflict { target: [], constraint: None, assignments: [], filter: None })
         insert into t (select 1) => columns: []
         insert into t with x as (select 1) select * from x => columns: []
         update t x set a = a + 1 from u where x.a = u.a returning x.a => alias: Some(\"x\")
         update t set a = default => assignments: [(\"a\"
         delete from t using u where t.a = u.a => using: [TableWithJoins
         delete from only t as y => alias: Some(\"y\")
         insert into t values (1) on conflict on constraint k do nothing => constraint: Some(\"k\")
         insert into t (a) overriding system value values (1) => overriding: Some(System)
         truncate table a, b restart identity cascade => TruncateCascade { names: [Name
         values (1), (2) => Query
         table t => Query",
    );
    check_errors(
        "update t set a = 1, a = 2 => 42601 multiple assignments
         update t set (a, b) = (1, 2, 3) => 42601 number of columns
         delete from t where current of c => 0A000 WHERE CURRENT OF
         delete t => 42601 syntax error at or near \"t\"
         insert into select 1 => 42601 syntax error at or near \"select\"",
    );
}

#[test]
fn copy_spellings() {
    check(
        r#"copy t from stdin => Copy(Copy { source: Relation { name: Name { schema: None, name: "t" }, columns: [] }, direction: FromStdin, format: Text { delimiter: 9, null: "\\N", header: false }, latin1: false, force_quote: Columns([]), on_error: Stop })
         copy s.t (a, b) FROM STDIN WITH (FORMAT csv, HEADER, DELIMITER ';', NULL 'x', QUOTE '''', ESCAPE '\') => Csv { delimiter: 59, null: "x", header: true, quote: 39, escape: 92 }
         copy t from stdin with csv header => Csv { delimiter: 44, null: "", header: true, quote: 34, escape: 34 }
         COPY t FROM STDIN CSV DELIMITER AS '|' NULL AS 'NULL' => Csv { delimiter: 124, null: "NULL"
         COPY t FROM STDIN WITH DELIMITER ',' => Text { delimiter: 44
         COPY BINARY t TO STDOUT => direction: ToStdout, format: Binary
         COPY t TO STDOUT (FORMAT 'binary') => format: Binary
         COPY t TO STDOUT (FORMAT text, HEADER false, ENCODING 'utf-8') => header: false
         COPY t TO STDOUT (FORMAT csv, ENCODING 'latin1', FORCE_QUOTE (a, B)) => latin1: true, force_quote: Columns(["a", "b"])
         COPY t TO STDOUT CSV FORCE QUOTE * => force_quote: All
         COPY t FROM STDIN (ON_ERROR Ignore) => on_error: Ignore { limit: None }
         COPY t FROM STDIN (REJECT_LIMIT 5, ON_ERROR 'set_aside', LOG_VERBOSITY verbose) => on_error: SetAside { limit: Some(5) }
         REPLAY s.t => Replay(Name { schema: Some("s"), name: "t" })
         REPLAY TABLE t => Replay(Name { schema: None, name: "t" })
         replay stream => Replay(Name { schema: None, name: "stream" })
         COPY t TO STDOUT CSV FORCE QUOTE a, b HEADER => force_quote: Columns(["a", "b"])
         COPY (SUBSCRIBE v) TO STDOUT => Subscribe
         COPY (SELECT a FROM t EMIT CHANGES) TO STDOUT => Subscribe"#,
    );
    check_errors(
        "copy t from '/etc/passwd' => 0A000 COPY FROM a file
         copy (select 1) from stdin => 42601 COPY FROM needs a table
         copy t from stdin (format avro) => 22023 COPY format \"avro\"
         copy t from stdin (nosuch) => 42601 option \"nosuch\" not recognized
         copy t from stdin (format text, quote '\"') => 0A000 COPY QUOTE outside
         copy t to stdout (force_quote *) => 0A000 COPY FORCE_QUOTE outside
         copy t from stdin (format csv, force_quote *) => 0A000 COPY FORCE_QUOTE of
         copy t from stdin (encoding 'sjis') => 0A000 COPY in encoding
         copy t from stdin (delimiter 'ab') => 0A000 COPY delimiter other than",
    );
}

#[test]
fn sessions() {
    check(
        "begin => Begin { read_only: false, isolation: None }
         BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY => Begin { read_only: true, isolation: Some(\"repeatable read\") }
         start transaction read write not deferrable => Begin { read_only: false, isolation: None }
         commit work and no chain => Commit
         end => Commit
         abort => Rollback
         rollback to savepoint a => RollbackToSavepoint(\"a\")
         rollback transaction to a => RollbackToSavepoint(\"a\")
         release a => ReleaseSavepoint(\"a\")
         savepoint a => Savepoint(\"a\")
         set x = 1 => Set { local: false, assignments: [(\"x\", Some(\"1\"))] }
         SET LOCAL Statement_Timeout TO '5s' => Set { local: true, assignments: [(\"statement_timeout\", Some(\"5s\"))] }
         set session extra_float_digits = -3 => (\"extra_float_digits\", Some(\"-3\"))
         set my.thing to default => (\"my.thing\", None)
         set search_path to \"$user\", Public => (\"search_path\", Some(\"\\\"$user\\\", public\"))
         set datestyle = ISO, MDY => (\"datestyle\", Some(\"ISO, MDY\"))
         set time zone 'Europe/Berlin' => (\"timezone\", Some(\"Europe/Berlin\"))
         set time zone interval '+00:00' hour to minute => (\"timezone\", Some(\"0\"))
         set time zone local => (\"timezone\", None)
         set names 'utf8' => (\"client_encoding\", Some(\"utf8\"))
         set session characteristics as transaction isolation level read uncommitted => (\"transaction_isolation\", Some(\"read uncommitted\"))
         set transaction read only => Set { local: true, assignments: [(\"transaction_read_only\", Some(\"on\"))] }
         set session authorization default => (\"session_authorization\", None)
         reset all => Reset(None)
         reset Work_Mem => Reset(Some(\"work_mem\"))
         show transaction isolation level => Setting(Some(\"transaction_isolation\"))
         show time zone => Setting(Some(\"timezone\"))
         show all => Setting(None)
         show server_version => Setting(Some(\"server_version\"))
         show materialized views => Relations(MaterializedView)
         show create stream s.t => CreateStatement(Name { schema: Some(\"s\")
         show watermarks => Watermarks
         discard all => DiscardAll
         deallocate prepare all => Deallocate(None)
         deallocate p => Deallocate(Some(\"p\"))
         prepare p (int, text) as select $1, $2 => types: [\"integer\", \"text\"]
         execute p (1, 'a') => Execute { name: \"p\", arguments: [
         declare \"C\" no scroll cursor for select 1 => DeclareCursor { name: \"C\", hold: false
         fetch forward 100 from c => Fetch { cursor: \"c\", count: Rows(100), is_move: false }
         fetch all in c => count: All
         fetch c => count: Rows(1)
         move backward 5 in c => count: Back(5), is_move: true
         fetch -1 from c => count: Back(1)
         fetch last c => count: Absolute(-1)
         fetch backward -3 in c => count: Rows(3)
         move backward all in c => count: BackAll
         fetch relative -2 from c => count: Relative(-2)
         close all => CloseCursor(None)
         listen x => Listen(\"x\")
         unlisten * => Unlisten(None)
         notify x, 'it''s' => Notify { channel: \"x\", payload: \"it's\" }
         vacuum analyze t => NoOp { tag: \"VACUUM\" }
         lock table t in share mode => NoOp { tag: \"LOCK TABLE\" }
         explain select 1 => Explain(Explain { stage: Default, analyze: false, json: false
         explain (incremental) create materialized view v as select 1 => stage: Incremental
         explain analyze verbose select 1 => analyze: true
         explain (select 1) => stage: Default
         verify materialized view s.v => Verify(Name { schema: Some(\"s\"), name: \"v\" })
         subscribe v => Subscribe(Subscribe { input: From(Name { schema: None, name: \"v\" }), snapshot: true, progress: false, as_of: None, up_to: None })
         subscribe to (select 1) with (snapshot = false, progress) as of 5 up to 9 => snapshot: false, progress: true, as_of: Some(5), up_to: Some(9)
         select a from t emit changes => Subscribe(Subscribe { input: Query
         select a emit from t => Query",
    );
    check_errors(
        "set work_mem = 1, 2 => 22023 SET work_mem takes only one
         prepare transaction 'x' => 0A000 two-phase commit
         commit and chain => 0A000 AND CHAIN
         explain (nosuch) select 1 => 42601 unrecognized EXPLAIN option
         subscribe v with (nosuch) => 22023 unrecognized option \"nosuch\"
         subscribe v as of now() => 0A000 AS OF
         revoke all on t from u => 0A000 REVOKE is not supported",
    );
}

#[test]
fn windows() {
    for text in [
        "select * from tumble(table t, descriptor(ts), interval '1 minute')",
        "select * from hop(table t, descriptor(ts), interval '1 minute', interval '1 hour') as h",
        "select * from tumble(data => table t, timecol => descriptor(ts), size => interval '1 minute')",
        "select * from tumble((select * from t), ts, interval '1 minute')",
    ] {
        assert!(matches!(one(text), StatementKind::Query(_)), "{text}");
    }
    let session = "select * from session(table t partition by k, descriptor(ts), interval '1 minute')";
    assert!(matches!(one(session), StatementKind::Query(_)));
}

#[test]
fn syntax_errors_say_where() {
    for (text, message, position) in [
        ("selct 1", "syntax error at or near \"selct\"", 1),
        ("select * from", "syntax error at end of input", 14),
        ("select 1 from t where", "syntax error at end of input", 22),
        ("select 1;\n  drop tabel x", "syntax error at or near \"tabel\"", 18),
        ("select 'abc", "unterminated quoted string at or near \"'abc\"", 8),
        ("select /* abc", "unterminated /* comment at or near", 14),
        ("select (1", "syntax error at end of input", 10),
        ("select 'ä', foo bar baz", "syntax error at or near \"baz\"", 21),
        ("select 1 1", "syntax error at or near \"1\"", 10),
    ] {
        let error = parse(text).unwrap_err();
        assert_eq!((error.code, error.position), ("42601", Some(position)), "{text}: {error:?}");
        assert!(error.message.starts_with(message), "{text}: {error:?}");
    }
}

#[test]
fn neighbours_get_hints() {
    for (text, hint) in [
        ("select `a` from t", "double quotes"),
        ("select a, count(*) from t window tumbling (size 1 minute) group by a", "TUMBLE("),
        (
            "create source s (a int) with (connector = 'kafka') format avro using schema registry",
            "FORMAT PLAIN ENCODE AVRO",
        ),
        ("create table t (a datetime)", "timestamp"),
    ] {
        let error = parse(text).unwrap_err();
        assert!(error.hint.as_deref().is_some_and(|h| h.contains(hint)), "{text}: {error:?}");
    }
}

#[test]
fn depth_is_bounded() {
    let nested = format!("select {}1{}", "(".repeat(5_000), ")".repeat(5_000));
    let ors = format!("select 1 where {}", vec!["a = 1"; 20_000].join(" or "));
    let sum = format!("select {}", vec!["1"; 20_000].join(" + "));
    let unions = vec!["select 1"; 5_000].join(" union all ");
    let joins = format!("select 1 from t {}", "join t on true ".repeat(2_000));
    let nots = format!("select {} true", "not ".repeat(50_000));
    let minus = format!("select {} 1", "- ".repeat(50_000));
    let arrays = format!("select {}", "array[".repeat(5_000));
    for text in [nested, ors, sum, unions, joins, nots, minus, arrays] {
        let start = std::time::Instant::now();
        assert_eq!(parse(&text).unwrap_err().code, "54001", "{}", &text[..40]);
        assert!(start.elapsed().as_secs() < 60, "{}", &text[..40]);
    }
    let list = format!("select 1 where a in ({})", vec!["1"; 20_000].join(", "));
    let values = format!("insert into t values {}", vec!["(1, -2, 'a' || 'b')"; 20_000].join(", "));
    for text in [list, values, format!("select 1 where {}", vec!["a = 1"; 400].join(" or "))] {
        parse(&text).unwrap();
    }
}
/// sqlparser's time is exponential in the depth of some of these.
#[test]
fn nothing_takes_long() {
    for n in [16usize, 150, 3000] {
        for (name, text) in [
            ("nested", format!("select {}1{}", "(".repeat(n), ")".repeat(n))),
            ("nested unclosed", format!("select {}1", "(".repeat(n))),
            ("from", format!("select 1 from {}t{}", "(".repeat(n), ")".repeat(n))),
            ("in", format!("select 1 where {}1{}", "a in ((".repeat(n), "))".repeat(n))),
            ("query", format!("{}select 1{}", "(".repeat(n), ")".repeat(n))),
            ("subquery", format!("{}select 1{}", "select (".repeat(n), ")".repeat(n))),
            ("array", format!("select {}1{}", "array[".repeat(n), "]".repeat(n))),
            ("array<", format!("select {}1", "array<".repeat(n))),
            ("call", format!("select {}1{}", "f(".repeat(n), ")".repeat(n))),
            ("case", format!("select {}1{}", "case when ".repeat(n), "then 1 end ".repeat(n))),
            ("cast", format!("select {}1{}", "cast(".repeat(n), " as int)".repeat(n))),
            ("interval", format!("select {}1", "interval ".repeat(n))),
            ("notnot", format!("select {}1", "not ".repeat(n))),
            ("exists", format!("select {}1", "exists (".repeat(n))),
            ("position", format!("select {}1", "position(".repeat(n))),
            ("any", format!("select {}1", "1 = any(".repeat(n))),
            ("group", format!("select 1 group by {}1", "(".repeat(n))),
            ("values", format!("values {}1", "(".repeat(n))),
            ("fromq", format!("{}t{}", "select * from (".repeat(n), ") x".repeat(n))),
            ("fn arg", format!("select {}1", "f((".repeat(n))),
            ("with", format!("{}t", "with a as (".repeat(n))),
        ] {
            let start = std::time::Instant::now();
            let code = parse(&text).map_or_else(|e| e.code, |_| "00000");
            assert!(["00000", "42601", "54001"].contains(&code), "{n} {name}: {code}");
            // What grows exponentially takes longer than anyone waits.
            assert!(start.elapsed().as_secs() < 60, "{n} {name}");
        }
    }
}
