//! Style as a test: who may import whom, one home per big dependency, nothing left unfinished, no file that
//! has outgrown its idea. It reads the text of our sources and needs nothing beside.
//!
//! ```text
//!   engine/src/plan/lower.rs:24   crate::serve::table::RelationTable
//!   plan may import: operators           → a violation, were it not among EXCEPTIONS with its reason
//! ```
//!
//! Comments, the contents of strings, and test code do not count. An exception that nothing needs any more
//! fails too: take it out.

use std::fs;
use std::path::{Path, PathBuf};

/// What every module may import.
const VOCABULARY: &[&str] = &["catalog", "error", "time"];

/// The modules of `engine/src`, with what each may import beside itself and the vocabulary. Folders first, in
/// the order in which data flows; then the files that tie them together.
const IMPORTS: &[(&str, &[&str])] = &[
    ("error", &[]),
    ("time", &[]),
    ("catalog", &[]),
    ("delta", &[]),
    ("advisory", &[]),
    ("allocator", &[]),
    ("memory", &[]),
    ("notifications", &[]),
    ("blocking", &[]),
    ("cuts", &[]),
    ("priority", &[]),
    ("backup", &["state"]),
    ("budget", &["allocator", "core", "memory", "state"]),
    ("sql", &["advisory"]),
    ("state", &["delta"]),
    ("operators", &["delta", "priority", "state"]),
    ("plan", &["blocking"]),
    ("dataflow", &["cuts", "delta", "operators", "plan", "priority", "state"]),
    ("serve", &["cuts", "delta", "state"]),
    ("connectors", &["delta"]),
    ("checkpoint", &["commit", "core", "dataflow", "state"]),
    ("watermark", &["delta"]),
    ("past", &["compaction", "connectors", "core", "state"]),
    ("compaction", &["connectors", "core", "state"]),
    ("subscriptions", &["core", "state"]),
    ("waits", &[]),
    ("sequences", &[]),
    ("row_locks", &[]),
    ("commit", &["checkpoint", "core", "dataflow", "delta", "plan", "state", "waits", "watermark"]),
    (
        "core",
        &[
            "advisory",
            "backup",
            "commit",
            "cuts",
            "dataflow",
            "memory",
            "notifications",
            "past",
            "row_locks",
            "sequences",
            "sql",
            "state",
            "subscriptions",
            "waits",
        ],
    ),
    ("ttl", &["commit", "connectors", "core", "delta", "serve", "waits"]),
    ("sources", &["commit", "connectors", "core", "delta", "serve", "ttl", "waits"]),
    (
        "session",
        &[
            "advisory",
            "backup",
            "blocking",
            "commit",
            "compaction",
            "connectors",
            "core",
            "delta",
            "engine",
            "notifications",
            "plan",
            "row_locks",
            "sequences",
            "serve",
            "sql",
            "ttl",
            "waits",
        ],
    ),
    // The only file that knows every module.
    (
        "engine",
        &[
            "allocator",
            "budget",
            "checkpoint",
            "commit",
            "connectors",
            "core",
            "dataflow",
            "delta",
            "memory",
            "operators",
            "plan",
            "sequences",
            "serve",
            "session",
            "sources",
            "sql",
            "state",
            "subscriptions",
        ],
    ),
    // Declares them all.
    ("tools", &["backup", "state"]),
    ("lib", &["engine", "session", "subscriptions"]),
];

/// From, what, why.
const EXCEPTIONS: &[(&str, &str, &str)] = &[
    ("catalog", "sql::types", "a column's Arrow field is made of the text of its SQL type"),
    ("operators", "sql::bind::error_from", "a row that is set aside carries the message that a SELECT would give"),
    ("operators", "sql::exact_float", "sums in views and in SELECTs are the same numbers, bit for bit"),
    ("operators", "sql::moments", "variances in views and in SELECTs are the same numbers, bit for bit"),
    ("plan", "operators", "a node holds its operator's specification, and render only hands it over"),
    ("plan", "serve::log::LogTable", "a scan in a logical plan is known by its provider"),
    ("plan", "serve::table::RelationTable", "a scan in a logical plan is known by its provider"),
    ("plan", "sql::bind::error_from", "DataFusion's errors as users see them"),
    ("plan", "sql::grouping_sets", "the sets are told apart as in a SELECT"),
    ("plan", "sql::system_time", "the mark of a look-up is a condition of the logical plan"),
    ("plan", "sql::as_of", "an ASOF join is a node of the logical plan that is lowered"),
    ("plan", "sql::ordered", "the order under a window function is a node of the logical plan"),
    ("plan", "sql::types::UTC", "the clock is a timestamptz"),
    ("plan", "sql::context::task_context", "a series is made once, as an ad-hoc query would make it"),
    ("plan", "sql::functions", "session windows are told by the names of their functions"),
    ("serve", "core::Core", "a snapshot needs the last committed epoch and the readers of tables and views"),
    ("serve", "subscriptions::Listed", "subscriptions are listed, and ended when they are too slow"),
    ("serve", "dataflow::status::ViewStatus", "how far a view is, for subscriptions"),
    ("connectors", "sql::copy::CopyFormat", "COPY's options as parsed"),
    ("connectors", "sql::copy::OnError", "COPY's options as parsed"),
    ("connectors", "sql::text", "values in Postgres' text and binary forms"),
    ("connectors", "sql::types", "made-up values obey char(n) and varchar(n)"),
    ("session", "state::spill", "mr_memory shows where state is"),
    ("session", "dataflow::status::ViewStatus", "mr_views and mr_errors show it"),
    ("session", "dataflow::meter::Reading", "EXPLAIN ANALYZE and mr_operators show it"),
    ("session", "dataflow::view::ViewOptions", "how a view is kept, as its definition says"),
    ("session", "dataflow::batch::run", "VERIFY's answer where rows were set aside"),
    ("session", "state::store::CatalogChange", "definitions are changes of the stored catalog"),
    ("session", "state::store::absent_text", "what earlier rows have in a new column"),
    ("session", "state::arrangement::take", "rows by number"),
    ("session", "state::arrangement::row_hashes", "a row without a key is locked by all that it has"),
    ("session", "state::arrangement::Shared", "mr_arrangements shows it"),
    ("session", "state::arrangement::Size", "mr_arrangements shows it"),
    ("session", "state::versions::VersionColumns", "CREATE STREAM says what is wrong with its options"),
    ("session", "state::key_table::KeyTable", "rows of one key: ON CONFLICT, UPDATE … FROM, a transaction's own keys"),
    ("session", "state::table::duplicate_key", "one message for a key that is taken, wherever it is found out"),
    ("session", "state::table::references", "keys that refer to others, as COMMIT looks at them"),
];

/// A dependency and the only folder that may name it.
const HOMES: &[(&str, &str)] = &[
    ("timely", "engine/src/dataflow/"),
    ("rocksdb", "engine/src/state/store/"),
    ("pgwire", "server/"),
    ("object_store", "engine/src/backup/"),
];

/// What is left for later, or was left from looking for a bug. Also in tests.
const UNFINISHED: &[&str] = &["todo!", "unimplemented!", "dbg!"];

const PRINTING: &[&str] = &["println!", "eprintln!", "print!", "eprint!"];
/// Library files that may print, and why.
const PRINTERS: &[(&str, &str)] = &[
    ("benches/src/report/mod.rs", "figures are what a benchmark is for"),
    ("benches/src/report/sections.rs", "the same"),
    ("benches/src/report/table.rs", "the same"),
    ("benches/src/sides.rs", "a side that failed or differs, beside them"),
    ("server/src/backup.rs", "what was made, or is there, is what these commands are for"),
    ("server/src/demo.rs", "the demo's panels are what it is for"),
    ("server/src/files.rs", "what was found is what these commands are for"),
    ("server/src/serve.rs", "the line that says where it listens, for people and scripts"),
];

const LINES_MAX: usize = 700;
/// Longer files, and why they are.
const LONG_FILES: &[(&str, &str)] =
    &[("engine/src/sql/text/datetime.rs", "reading and writing of all date and time types, one grammar")];

struct Source {
    /// From the repository's root.
    path: String,
    text: String,
    /// Without comments and what strings hold; lines stay where they were.
    code: String,
}

impl Source {
    /// `engine/src/state/store/log.rs` → `["state", "store", "log"]`.
    fn module(&self) -> Vec<&str> {
        let Some(path) = self.path.strip_prefix("engine/src/").and_then(|p| p.strip_suffix(".rs")) else {
            return vec![];
        };
        let mut parts: Vec<&str> = path.split('/').collect();
        if parts.len() > 1 && parts.last() == Some(&"mod") {
            parts.pop();
        }
        parts
    }

    fn is_test(&self) -> bool {
        self.path.split('/').any(|part| part == "tests" || part == "tests.rs")
    }
    /// A library's or the server's own, not a program's and not a test's.
    fn is_library(&self) -> bool {
        self.path.contains("/src/")
            && !self.path.contains("/src/bin/")
            && !self.path.ends_with("/main.rs")
            && !self.is_test()
    }

    fn line(&self, at: usize) -> usize {
        self.code[..at].matches('\n').count() + 1
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the engine lies in the repository").to_path_buf()
}

fn sources() -> Vec<Source> {
    let mut paths = Vec::new();
    for folder in ["engine", "server", "sql-tests", "benches"] {
        collect(&root().join(folder), &mut paths);
    }
    paths.sort();
    let read = |path: PathBuf| {
        let text = fs::read_to_string(&path).expect("a source file can be read");
        let name = path.strip_prefix(root()).expect("found below it").to_string_lossy().replace('\\', "/");
        Source { path: name, code: bare(&text), text }
    };
    let sources: Vec<Source> = paths.into_iter().map(read).collect();
    assert!(sources.len() > 100, "only {} source files were found", sources.len());
    sources
}

fn collect(folder: &Path, paths: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for path in entries.map(|entry| entry.expect("a folder can be listed").path()) {
        if path.is_dir() && path.file_name().is_some_and(|name| name != "target") {
            collect(&path, paths);
        } else if path.extension().is_some_and(|e| e == "rs") {
            paths.push(path);
        }
    }
}

/// Blanks out comments and the contents of strings and characters.
fn bare(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = bytes.to_vec();
    let mut blank = |from: usize, to: usize| out[from..to].iter_mut().filter(|b| **b != b'\n').for_each(|b| *b = b' ');
    let mut at = 0;
    while at < bytes.len() {
        let rest = &bytes[at..];
        let name_before = at > 0 && (bytes[at - 1].is_ascii_alphanumeric() || bytes[at - 1] == b'_');
        let length = if rest.starts_with(b"//") {
            rest.iter().position(|b| *b == b'\n').unwrap_or(rest.len())
        } else if rest.starts_with(b"/*") {
            block_comment(rest)
        } else if let Some(length) = raw_string(rest).filter(|_| !name_before) {
            length
        } else if rest[0] == b'"' {
            1 + until_quote(&rest[1..], b'"')
        } else if rest[0] == b'\'' && rest.len() > 2 && (rest[1] == b'\\' || character(rest)) {
            1 + until_quote(&rest[1..], b'\'')
        } else {
            at += 1;
            continue;
        };
        blank(at, at + length);
        at += length;
    }
    String::from_utf8(out).expect("whole characters were blanked out")
}

/// They nest.
fn block_comment(rest: &[u8]) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < rest.len() {
        if rest[at..].starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if rest[at..].starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    at
}

/// The length of `r"…"` or `r#"…"#` (also with a `b` before) where one begins.
fn raw_string(rest: &[u8]) -> Option<usize> {
    let start = 1 + usize::from(rest.starts_with(b"br"));
    if rest.get(start - 1) != Some(&b'r') {
        return None;
    }
    let hashes = rest[start..].iter().take_while(|b| **b == b'#').count();
    if rest.get(start + hashes) != Some(&b'"') {
        return None;
    }
    let end = [b"\"".as_slice(), &vec![b'#'; hashes]].concat();
    let body = start + hashes + 1;
    let found = rest[body..].windows(end.len()).position(|w| w == end)?;
    Some(body + found + end.len())
}

/// Bytes up to the closing quote and with it.
fn until_quote(rest: &[u8], quote: u8) -> usize {
    let mut at = 0;
    while at < rest.len() && rest[at] != quote {
        at += if rest[at] == b'\\' { 2 } else { 1 };
    }
    (at + 1).min(rest.len())
}

/// `'x'` rather than a lifetime: one character, of up to four bytes, and a quote.
fn character(rest: &[u8]) -> bool {
    let width = match rest[1] {
        0..=0x7f => 1,
        0..=0xdf => 2,
        0..=0xef => 3,
        _ => 4,
    };
    rest.get(1 + width) == Some(&b'\'')
}

/// The code without modules that are only for tests.
fn without_tests(code: &str) -> String {
    let mut out = code.to_string();
    for (at, mark) in code.match_indices("#[cfg(test)]") {
        let after = &code[at + mark.len()..];
        let Some(open) = after.find(['{', ';']).filter(|&i| after.as_bytes()[i] == b'{') else { continue };
        let mut depth = 0;
        let length = after[open..].bytes().position(|b| {
            depth += i32::from(b == b'{') - i32::from(b == b'}');
            depth == 0
        });
        let end = at + mark.len() + open + length.map_or(after.len() - open, |l| l + 1);
        let blanked: String = code[at..end].chars().map(|c| if c == '\n' { '\n' } else { ' ' }).collect();
        if blanked.len() == end - at {
            out.replace_range(at..end, &blanked);
        }
    }
    out
}

fn is_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

/// Places of `word` that are not part of a longer name.
fn places<'a>(code: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    code.match_indices(word).map(|(at, _)| at).filter(move |at| !code[..*at].ends_with(is_name))
}

/// All paths into the crate that a file names, from the crate's root, with where they stand.
fn crate_paths(source: &Source) -> Vec<(usize, String)> {
    let code = without_tests(&source.code);
    let mut found = Vec::new();
    for at in places(&code, "crate::") {
        expand(&code[at + "crate::".len()..], "", at, &mut found);
    }
    // `super::super::x` may climb as far as the root.
    let depth = source.module().len();
    for at in places(&code, "super::").filter(|at| !code[..*at].ends_with("super::")) {
        let mut rest = &code[at..];
        let mut climbed = 0;
        while let Some(next) = rest.strip_prefix("super::") {
            (rest, climbed) = (next, climbed + 1);
        }
        if climbed >= depth {
            expand(rest, "", at, &mut found);
        }
    }
    found
}

/// `a::{b, c::d}` → `a::b`, `a::c::d`.
fn expand(rest: &str, before: &str, at: usize, found: &mut Vec<(usize, String)>) {
    let end = rest.find(|c| !is_name(c) && c != ':').unwrap_or(rest.len());
    let path = format!("{before}{}", &rest[..end]);
    let opens = path.is_empty() || path.ends_with("::");
    if !opens || !rest[end..].starts_with('{') {
        found.push((at, path.trim_end_matches(':').to_string()));
        return;
    }
    let mut depth = 0;
    let mut start = end + 1;
    for (i, c) in rest[end..].char_indices().map(|(i, c)| (end + i, c)) {
        depth += i32::from(c == '{') - i32::from(c == '}');
        if (c == ',' && depth == 1) || (c == '}' && depth == 0) {
            let item = rest[start..i].trim();
            if !item.is_empty() {
                expand(item, &path, at, found);
            }
            start = i + 1;
        }
        if depth == 0 {
            return;
        }
    }
}

fn check(faults: Vec<String>) {
    assert!(faults.is_empty(), "\n{}\n", faults.join("\n"));
}

#[test]
fn modules_import_what_they_may() {
    let mut faults = Vec::new();
    let mut used = vec![false; EXCEPTIONS.len()];
    for source in sources().iter().filter(|s| !s.is_test()) {
        let Some(&from) = source.module().first() else { continue };
        let Some((_, allowed)) = IMPORTS.iter().find(|(module, _)| *module == from) else {
            faults.push(format!("{}: module {from} is not in IMPORTS; say what it may import", source.path));
            continue;
        };
        for (at, path) in crate_paths(source) {
            let to = path.split("::").next().unwrap_or_default();
            // The crate's own re-exports (`crate::Error`) begin in upper case.
            let known = IMPORTS.iter().any(|(module, _)| *module == to);
            if to == from || !known || VOCABULARY.contains(&to) || allowed.contains(&to) {
                continue;
            }
            let inside = |prefix: &str| path == prefix || path.starts_with(&format!("{prefix}::"));
            match EXCEPTIONS.iter().position(|(f, prefix, _)| *f == from && inside(prefix)) {
                Some(exception) => used[exception] = true,
                None => {
                    faults.push(format!("{}:{}: {from} may not import crate::{path}", source.path, source.line(at)))
                }
            }
        }
    }
    for ((from, prefix, _), _) in EXCEPTIONS.iter().zip(&used).filter(|(_, used)| !**used) {
        faults.push(format!("{from} no longer imports crate::{prefix}: take the exception out"));
    }
    check(faults);
}

#[test]
fn big_dependencies_have_one_home() {
    let mut faults = Vec::new();
    for source in sources() {
        for (name, home) in HOMES {
            if source.path.starts_with(home) {
                continue;
            }
            for at in places(&source.code, name) {
                let after = source.code[at + name.len()..].trim_start();
                let before = source.code[..at].trim_end();
                let is_path = after.starts_with("::") && !before.ends_with("::");
                if is_path || before.ends_with("extern crate") {
                    faults.push(format!("{}:{}: only {home} knows {name}", source.path, source.line(at)));
                }
            }
        }
    }
    check(faults);
}

/// A visitor that sqlparser's own walk takes has five hundred functions compiled for it.
#[test]
fn parsed_sql_is_walked_over_by_one_walk() {
    let mut faults = Vec::new();
    for source in sources().iter().filter(|s| s.path != "engine/src/sql/visit.rs") {
        for word in ["ast::visit_", "Visit::visit", "VisitMut::visit"] {
            let found = source.code.match_indices(word);
            faults.extend(found.map(|(at, _)| format!("{}:{}: {word}, use sql::visit", source.path, source.line(at))));
        }
    }
    check(faults);
}

#[test]
fn nothing_is_left_unfinished() {
    let mut faults = Vec::new();
    for source in sources() {
        for word in UNFINISHED {
            faults.extend(places(&source.code, word).map(|at| format!("{}:{}: {word}", source.path, source.line(at))));
        }
    }
    check(faults);
}

#[test]
fn libraries_do_not_print() {
    let mut faults = Vec::new();
    for source in sources().iter().filter(|s| s.is_library()) {
        if PRINTERS.iter().any(|(path, _)| *path == source.path) {
            continue;
        }
        let code = without_tests(&source.code);
        for word in PRINTING {
            faults.extend(
                places(&code, word).map(|at| format!("{}:{}: {word}, use tracing", source.path, source.line(at))),
            );
        }
    }
    check(faults);
}

#[test]
fn files_stay_within_one_idea() {
    let mut faults = Vec::new();
    let sources = sources();
    let lines = |source: &Source| source.text.lines().count();
    for source in &sources {
        let (lines, listed) = (lines(source), LONG_FILES.iter().any(|(path, _)| *path == source.path));
        if lines > LINES_MAX && !listed {
            faults.push(format!("{} has {lines} lines: divide it, or list it with the reason", source.path));
        }
    }
    for (path, _) in LONG_FILES {
        if sources.iter().find(|s| s.path == *path).is_none_or(|s| lines(s) <= LINES_MAX) {
            faults.push(format!("{path} is no longer long: take it off the list"));
        }
    }
    check(faults);
}

/// The test's own eyes.
#[test]
fn comments_and_strings_do_not_count() {
    let text = "let a = \"todo!()\"; // todo!()\nlet b = r#\"say \"dbg!\"\"#; /* a /* b */ todo! */ let c = '\"'; todo!();\nfn f<'a>() {}";
    let code = bare(text);
    assert_eq!(code.len(), text.len());
    assert_eq!(places(&code, "todo!").count(), 1);
    assert_eq!(places(&code, "dbg!").count(), 0);
    assert!(code.contains("let c =") && code.contains("fn f<'a>() {}"));
    let tested = "use crate::a;\n#[cfg(test)]\nmod tests { use crate::b; fn f() { } }\nuse crate::c::{d::e, f};\nuse crate::{g, h::i};";
    let source = Source { path: "engine/src/x/y.rs".into(), text: String::new(), code: tested.into() };
    let paths: Vec<String> = crate_paths(&source).into_iter().map(|(_, path)| path).collect();
    assert_eq!(paths, ["a", "c::d::e", "c::f", "g", "h::i"]);
    let climbing = Source { code: "use super::z; use super::super::a::B;".into(), ..source };
    assert_eq!(crate_paths(&climbing).into_iter().map(|(_, path)| path).collect::<Vec<_>>(), ["a::B"]);
}
