//! A case from a seed: a schema, then changes, transactions, new and dropped views, crashes and checks in
//! any order. Nothing is run here: the same seed gives the same text, whatever the engine answers.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::expression::{COLUMN_TYPES, Column, Type, one_in, pick, predicate};
use super::final_rows::final_rows;
use super::query::{Query, Relation, query};
use super::{Case, Step};

/// A table or stream, and what its statements need to know.
#[derive(Debug, Clone)]
pub struct Base {
    pub name: String,
    pub stream: bool,
    /// Its first column is the primary key.
    pub keyed: bool,
    pub columns: Vec<Column>,
    pub not_null: Vec<bool>,
    /// A key that was never used.
    pub next_key: i64,
    /// Of a stream with a watermark: its time column, and how far time has come, in seconds.
    pub time: Option<(usize, i64)>,
}

pub struct Generator {
    pub rng: StdRng,
    pub bases: Vec<Base>,
    /// What queries may read: bases and views.
    pub relations: Vec<Relation>,
    /// Views that may be dropped, with whether they are materialized.
    pub views: Vec<(String, bool, String)>,
    pub views_made: usize,
    pub steps: Vec<Step>,
}

/// What stands behind the query of a view that shows final rows only.
pub const FINAL: &str = " EMIT ON WINDOW CLOSE";

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
    pub fn sql(&mut self, sql: String) {
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
                65..=73 => self.view(),
                74 => self.replace_view(),
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
        // Joins on its columns read what others keep of them.
        if !stream && one_in(&mut self.rng, 2) {
            let base = &self.bases[self.bases.len() - 1];
            let mut names: Vec<&str> = base.columns.iter().map(|column| column.name.as_str()).collect();
            let first = names.swap_remove(self.rng.random_range(0..names.len()));
            let second = one_in(&mut self.rng, 4).then(|| pick(&mut self.rng, &names));
            let more = second.map_or(String::new(), |second| format!(", {second}"));
            let sql = format!("CREATE INDEX ON {} ({first}{more})", base.name);
            self.sql(sql);
        }
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

    /// Puts another query of the same columns in the place of a view's, or its first one again.
    fn replace_view(&mut self) {
        let fitting: Vec<usize> =
            (0..self.views.len()).filter(|i| self.views[*i].1 && !self.views[*i].2.ends_with(FINAL)).collect();
        if fitting.is_empty() {
            return;
        }
        let (name, _, sql) = self.views[*pick(&mut self.rng, &fitting)].clone();
        let columns =
            self.relations.iter().find(|r| r.name == name).expect("it was made with the view").columns.clone();
        let columns: Vec<Column> =
            columns.into_iter().map(|c| Column { name: format!("q.{}", c.name), ty: c.ty }).collect();
        let query = match self.rng.random_range(0..3) {
            0 => sql,
            _ => format!("SELECT * FROM ({sql}) AS q WHERE {}", predicate(&mut self.rng, &columns, 1)),
        };
        self.sql(format!("CREATE OR REPLACE MATERIALIZED VIEW {name} AS {query}"));
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
                if one_in(&mut self.rng, 3) {
                    self.sql("SAVEPOINT q".into());
                    self.change();
                    self.sql("RELEASE SAVEPOINT q".into());
                }
                let keep = one_in(&mut self.rng, 4);
                self.sql(if keep { "RELEASE SAVEPOINT p" } else { "ROLLBACK TO SAVEPOINT p" }.into());
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
}
