//! A case from a seed: a schema, then changes, transactions, new and dropped views, crashes and checks in
//! any order. Nothing is run here: the same seed gives the same text, whatever the engine answers.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::expression::{COLUMN_TYPES, Column, Type, expression, literal, one_in, pick, predicate, value};
use super::final_rows::final_rows;
use super::query::{Query, Relation, query};
use super::{Case, Step};

/// A table or stream, and what its statements need to know.
#[derive(Debug, Clone)]
struct Base {
    name: String,
    stream: bool,
    /// Its first column is the primary key.
    keyed: bool,
    columns: Vec<Column>,
    not_null: Vec<bool>,
    /// A key that was never used.
    next_key: i64,
    /// Of a stream with a watermark: its time column, and how far time has come, in seconds.
    time: Option<(usize, i64)>,
}

struct Generator {
    rng: StdRng,
    bases: Vec<Base>,
    /// What queries may read: bases and views.
    relations: Vec<Relation>,
    /// Views that may be dropped, with whether they are materialized.
    views: Vec<(String, bool, String)>,
    views_made: usize,
    steps: Vec<Step>,
}

/// What stands behind the query of a view that shows final rows only.
pub const FINAL: &str = " EMIT ON WINDOW CLOSE";

/// A moment as it stands in a VALUES list.
fn at(seconds: i64) -> String {
    let (minutes, hours, days) = (seconds / 60 % 60, seconds / 3600 % 24, seconds / 86_400);
    format!("'2024-01-{:02} {hours:02}:{minutes:02}:{:02}'", 1 + days.min(27), seconds % 60)
}

pub fn case(seed: u64) -> Case {
    let mut rng = StdRng::seed_from_u64(seed);
    let workers = rng.random_range(1..=4);
    let mut generator =
        Generator { rng, bases: vec![], relations: vec![], views: vec![], views_made: 0, steps: vec![] };
    generator.schema();
    generator.life();
    Case { workers, steps: generator.steps }
}

impl Generator {
    fn sql(&mut self, sql: String) {
        self.steps.push(Step::Sql(sql));
    }

    fn schema(&mut self) {
        for i in 0..self.rng.random_range(2..=4) {
            self.base(i);
        }
        for i in 0..self.bases.len() {
            if self.rng.random_bool(0.7) {
                self.insert(i);
            }
        }
        for _ in 0..self.rng.random_range(1..=3) {
            self.view();
        }
        self.steps.push(Step::Check);
    }

    fn life(&mut self) {
        for _ in 0..self.rng.random_range(12..=30) {
            match self.rng.random_range(0..100) {
                0..=64 => self.change(),
                65..=74 => self.view(),
                75..=78 => self.drop_view(),
                79..=86 => self.transaction(),
                87..=94 => self.steps.push(Step::Check),
                _ => self.crash(),
            }
        }
        self.steps.push(Step::Check);
        match one_in(&mut self.rng, 3) {
            true => self.restart(),
            false => self.crash(),
        }
        self.change();
        self.steps.push(Step::Check);
    }

    fn crash(&mut self) {
        let workers = self.rng.random_range(1..=4);
        self.steps.push(Step::Crash(workers));
    }

    fn restart(&mut self) {
        let workers = self.rng.random_range(1..=4);
        self.steps.push(Step::Restart(workers));
    }

    fn base(&mut self, i: usize) {
        let rng = &mut self.rng;
        let stream = one_in(rng, 3);
        let keyed = !stream && rng.random_bool(0.7);
        let mut columns = Vec::new();
        let mut not_null = Vec::new();
        let timed = stream && rng.random_bool(0.7);
        if timed {
            columns.push(Column { name: "ts".into(), ty: *pick(rng, &[Type::Timestamp, Type::Timestamptz]) });
            not_null.push(false);
        }
        for c in 0..rng.random_range(2..=5) {
            let ty = if keyed && c == 0 { Type::Int } else { *pick(rng, &COLUMN_TYPES) };
            columns.push(Column { name: format!("c{c}"), ty });
            not_null.push(keyed && c == 0 || one_in(rng, 10));
        }
        let list: Vec<String> = columns
            .iter()
            .zip(&not_null)
            .enumerate()
            .map(|(c, (column, not_null))| {
                let constraint = match (keyed && c == 0, not_null) {
                    (true, _) => " PRIMARY KEY",
                    (false, true) => " NOT NULL",
                    (false, false) => "",
                };
                format!("{} {}{constraint}", column.name, column.ty.sql())
            })
            .collect();
        let (word, name) = if stream { ("STREAM", format!("s{i}")) } else { ("TABLE", format!("t{i}")) };
        let mut list = list;
        if timed {
            let delay = pick(rng, &["0 seconds", "10 seconds", "1 minute"]);
            let late = pick(rng, &["", "", " LATE ROWS DROP", " LATE ROWS UPDATE"]);
            list.push(format!("WATERMARK FOR ts AS ts - INTERVAL '{delay}'{late}"));
        }
        let sql = format!("CREATE {word} {name} ({})", list.join(", "));
        self.relations.push(Relation { name: name.clone(), columns: columns.clone(), weight: 1 });
        let time = timed.then_some((0, 0));
        self.bases.push(Base { name, stream, keyed, columns, not_null, next_key: 5, time });
        self.sql(sql);
    }

    fn view(&mut self) {
        let timed: Vec<Relation> = self
            .relations
            .iter()
            .filter(|r| self.bases.iter().any(|b| b.name == r.name && b.time.is_some()))
            .cloned()
            .collect();
        let is_final = !timed.is_empty() && one_in(&mut self.rng, 3);
        let Query { mut sql, columns, weight } = match is_final && self.rng.random_bool(0.7) {
            true => final_rows(&mut self.rng, &timed),
            false => query(&mut self.rng, &self.relations),
        };
        let materialized = is_final || self.rng.random_bool(0.85);
        if is_final {
            sql.push_str(FINAL);
        }
        let name = format!("v{}", self.views_made);
        self.views_made += 1;
        let word = if materialized { "MATERIALIZED VIEW" } else { "VIEW" };
        self.views.push((name.clone(), materialized, sql.clone()));
        self.relations.push(Relation { name: name.clone(), columns, weight });
        self.sql(format!("CREATE {word} {name} AS {sql}"));
    }

    /// Drops a view that no other reads.
    fn drop_view(&mut self) {
        let unread: Vec<usize> = (0..self.views.len())
            .filter(|i| {
                let name = format!("{} ", self.views[*i].0);
                let called = format!("({},", self.views[*i].0);
                self.views.iter().all(|(_, _, sql)| !format!("{sql} ").contains(&name) && !sql.contains(&called))
            })
            .collect();
        if unread.is_empty() {
            return;
        }
        let (name, materialized, _) = self.views.remove(*pick(&mut self.rng, &unread));
        self.relations.retain(|r| r.name != name);
        self.sql(format!("DROP {}VIEW {name}", if materialized { "MATERIALIZED " } else { "" }));
    }

    fn transaction(&mut self) {
        self.sql("BEGIN".into());
        for _ in 0..self.rng.random_range(2..=4) {
            if one_in(&mut self.rng, 5) {
                self.sql("SAVEPOINT p".into());
                self.change();
                self.sql("ROLLBACK TO SAVEPOINT p".into());
            } else {
                self.change();
            }
            if one_in(&mut self.rng, 4) {
                let name = pick(&mut self.rng, &self.bases).name.clone();
                self.sql(format!("SELECT * FROM {name}"));
            }
        }
        let end = if one_in(&mut self.rng, 4) { "ROLLBACK" } else { "COMMIT" };
        self.sql(end.into());
    }

    fn change(&mut self) {
        let i = self.rng.random_range(0..self.bases.len());
        if self.bases[i].stream {
            return if one_in(&mut self.rng, 6) { self.insert_select(i) } else { self.insert(i) };
        }
        match self.rng.random_range(0..20) {
            0..=6 => self.insert(i),
            7 | 8 => self.insert_select(i),
            9..=13 => self.update(i),
            14..=17 => self.delete(i),
            18 if self.bases[i].keyed => self.move_key(i),
            18 => self.insert(i),
            _ if one_in(&mut self.rng, 3) => {
                let name = &self.bases[i].name;
                let sql =
                    if self.rng.random_bool(0.5) { format!("TRUNCATE {name}") } else { format!("DELETE FROM {name}") };
                self.sql(sql);
            }
            _ => self.update(i),
        }
    }

    fn cell(&mut self, i: usize, c: usize) -> String {
        if let Some((time, now)) = &mut self.bases[i].time
            && *time == c
        {
            // Out of order, by and large forward.
            *now += self.rng.random_range(0..=8);
            let seconds = (*now + self.rng.random_range(-30..=15)).max(0);
            return if one_in(&mut self.rng, 20) { "NULL".into() } else { at(seconds) };
        }
        let base = &self.bases[i];
        if !base.not_null[c] && self.rng.random_bool(0.15) {
            return "NULL".into();
        }
        value(&mut self.rng, base.columns[c].ty)
    }

    fn insert(&mut self, i: usize) {
        if one_in(&mut self.rng, 8) {
            return self.insert_series(i);
        }
        let keyed = self.bases[i].keyed;
        // Known keys need ON CONFLICT; else only new ones are used, and now and then one that is there.
        let upsert = keyed && self.rng.random_bool(0.5);
        let mut keys = Vec::new();
        let mut rows = Vec::new();
        for _ in 0..self.rng.random_range(1..=6) {
            let mut cells: Vec<String> = (0..self.bases[i].columns.len()).map(|c| self.cell(i, c)).collect();
            if keyed {
                let key = if upsert || one_in(&mut self.rng, 15) {
                    self.rng.random_range(0..self.bases[i].next_key)
                } else {
                    self.bases[i].next_key += 1;
                    self.bases[i].next_key - 1
                };
                if keys.contains(&key) {
                    continue;
                }
                keys.push(key);
                cells[0] = key.to_string();
            }
            rows.push(format!("({})", cells.join(", ")));
        }
        let conflict = if upsert { self.on_conflict(i) } else { String::new() };
        let sql = format!("INSERT INTO {} VALUES {}{conflict}", self.bases[i].name, rows.join(", "));
        self.sql(sql);
    }

    fn on_conflict(&mut self, i: usize) -> String {
        let base = &self.bases[i];
        if one_in(&mut self.rng, 3) || base.columns.len() < 2 {
            return " ON CONFLICT (c0) DO NOTHING".into();
        }
        let c = self.rng.random_range(1..base.columns.len());
        let column = &base.columns[c].name;
        let filter = if one_in(&mut self.rng, 4) {
            format!(" WHERE {}.{column} IS DISTINCT FROM excluded.{column}", base.name)
        } else {
            String::new()
        };
        format!(" ON CONFLICT (c0) DO UPDATE SET {column} = excluded.{column}{filter}")
    }

    /// Some dozens of rows at once.
    fn insert_series(&mut self, i: usize) {
        let rows = self.rng.random_range(10..=40);
        let base = &mut self.bases[i];
        let first = base.next_key;
        let mut items = Vec::new();
        for (c, column) in base.columns.iter().enumerate() {
            if base.keyed && c == 0 {
                items.push(format!("{first} + i"));
                continue;
            }
            if let Some((time, now)) = &mut base.time
                && *time == c
            {
                items.push(format!("{}::{} + i * INTERVAL '2 seconds'", at(*now), column.ty.sql()));
                *now += 2 * rows;
                continue;
            }
            let (a, b) = (literal(&mut self.rng, column.ty), literal(&mut self.rng, column.ty));
            let third = if base.not_null[c] { a.clone() } else { "NULL".into() };
            items.push(format!("CASE i % 3 WHEN 0 THEN {a} WHEN 1 THEN {b} ELSE {third} END"));
        }
        if base.keyed {
            base.next_key += rows + 1;
        }
        let sql =
            format!("INSERT INTO {} SELECT {} FROM generate_series(1, {rows}) AS g(i)", base.name, items.join(", "));
        self.sql(sql);
    }

    /// Rows of another relation, a few at most.
    fn insert_select(&mut self, i: usize) {
        let from = pick(&mut self.rng, &self.bases).clone();
        let base = self.bases[i].clone();
        let filter = predicate(&mut self.rng, &from.columns, 1);
        let sql = if base.keyed {
            // One row, so that it does not matter which the order would take first.
            let key = self.rng.random_range(0..base.next_key);
            let rest: Vec<String> = base
                .columns
                .iter()
                .enumerate()
                .skip(1)
                .map(|(c, column)| match from.columns.iter().find(|f| f.ty == column.ty && f.ty.ordered()) {
                    Some(f) if !base.not_null[c] => format!("max({})", f.name),
                    _ => literal(&mut self.rng, column.ty),
                })
                .collect();
            let list: Vec<String> = std::iter::once(key.to_string()).chain(rest).collect();
            let conflict = self.on_conflict(i);
            format!(
                "INSERT INTO {} SELECT {} FROM {} WHERE {filter} HAVING count(*) > 0{conflict}",
                base.name,
                list.join(", "),
                from.name
            )
        } else {
            let items: Vec<String> = base
                .columns
                .iter()
                .zip(&base.not_null)
                .map(|(column, not_null)| {
                    let value = expression(&mut self.rng, &from.columns, column.ty, 1);
                    let fallback = literal(&mut self.rng, column.ty);
                    if *not_null { format!("coalesce({value}, {fallback})") } else { value }
                })
                .collect();
            // The condition keeps a relation that feeds itself from doubling for ever.
            format!(
                "INSERT INTO {} SELECT {} FROM {} WHERE {filter} AND (SELECT count(*) FROM {}) < 60",
                base.name,
                items.join(", "),
                from.name,
                base.name
            )
        };
        self.sql(sql);
    }

    fn update(&mut self, i: usize) {
        let base = self.bases[i].clone();
        let first = usize::from(base.keyed);
        if base.columns.len() <= first {
            return self.delete(i);
        }
        let c = self.rng.random_range(first..base.columns.len());
        let column = &base.columns[c];
        let value = if base.not_null[c] {
            literal(&mut self.rng, column.ty)
        } else if one_in(&mut self.rng, 6) {
            "NULL".into()
        } else {
            // A sum or product of its own old value would grow with every update.
            let others: Vec<Column> = base.columns.iter().filter(|o| o.name != column.name).cloned().collect();
            if others.is_empty() || self.rng.random_bool(0.4) {
                literal(&mut self.rng, column.ty)
            } else {
                bounded(column.ty, expression(&mut self.rng, &others, column.ty, 1))
            }
        };
        let other = pick(&mut self.rng, &self.bases).clone();
        // By the other's key: of several rows that match any may be taken.
        if other.keyed && other.name != base.name && one_in(&mut self.rng, 4) {
            let int = base.columns.iter().skip(first).find(|b| b.ty == Type::Int);
            let theirs = other.columns.iter().find(|o| o.ty == column.ty);
            if let (Some(int), Some(theirs)) = (int, theirs) {
                let fallback = literal(&mut self.rng, column.ty);
                let (name, set, from) = (&base.name, &column.name, &other.name);
                let sql = format!(
                    "UPDATE {name} SET {set} = coalesce(x.{}, {fallback}) FROM {from} AS x WHERE {name}.{} = x.c0",
                    theirs.name, int.name
                );
                return self.sql(sql);
            }
        }
        let filter = self.which(&base);
        self.sql(format!("UPDATE {} SET {} = {value} WHERE {filter}", base.name, column.name));
    }

    fn delete(&mut self, i: usize) {
        let base = self.bases[i].clone();
        let other = pick(&mut self.rng, &self.bases).clone();
        let pair = base.columns.iter().find_map(|c| Some((c, other.columns.iter().find(|o| o.ty == c.ty)?)));
        if let Some((own, theirs)) = pair.filter(|_| other.name != base.name && one_in(&mut self.rng, 5)) {
            let filter = predicate(&mut self.rng, &other.columns, 1);
            let (name, theirs, from) = (&base.name, &theirs.name, &other.name);
            let sql = format!("DELETE FROM {name} WHERE {} IN (SELECT {theirs} FROM {from} WHERE {filter})", own.name);
            return self.sql(sql);
        }
        let filter = self.which(&base);
        self.sql(format!("DELETE FROM {} WHERE {filter}", base.name));
    }

    /// A row by its key, or rows by a condition.
    fn which(&mut self, base: &Base) -> String {
        if base.keyed && self.rng.random_bool(0.5) {
            let n = self.rng.random_range(1..=3);
            let keys: Vec<String> = (0..n).map(|_| self.rng.random_range(0..base.next_key).to_string()).collect();
            return format!("c0 IN ({})", keys.join(", "));
        }
        predicate(&mut self.rng, &base.columns, 1)
    }

    /// A key that leaves one group of rows for another, at times onto one that is there.
    fn move_key(&mut self, i: usize) {
        let next = self.bases[i].next_key;
        let old = self.rng.random_range(0..next);
        let new = if one_in(&mut self.rng, 4) { self.rng.random_range(0..next) } else { next };
        self.bases[i].next_key = self.bases[i].next_key.max(new + 1);
        self.sql(format!("UPDATE {} SET c0 = {new} WHERE c0 = {old}", self.bases[i].name));
    }
}

/// Keeps values that updates feed back within their domain.
fn bounded(ty: Type, expression: String) -> String {
    match ty {
        Type::Int | Type::Bigint => format!("({expression}) % 100"),
        Type::Numeric => format!("round(({expression}) % 100, 2)"),
        Type::Text => format!("substr({expression}, 1, 3)"),
        Type::Smallint => format!("(({expression}) % 100)::smallint"),
        Type::Double => format!("least({expression}, 1000)"),
        _ => expression,
    }
}
