//! Random changes of tables and streams.

use rand::Rng;

use super::expression::{Column, Type, expression, literal, one_in, pick, predicate, value};
use super::generate::{Base, Generator};

/// A moment as it stands in a VALUES list.
fn at(seconds: i64) -> String {
    let (minutes, hours, days) = (seconds / 60 % 60, seconds / 3600 % 24, seconds / 86_400);
    format!("'2024-01-{:02} {hours:02}:{minutes:02}:{:02}'", 1 + days.min(27), seconds % 60)
}

impl Generator {
    pub fn change(&mut self) {
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

    pub fn insert(&mut self, i: usize) {
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
        let returning = if self.bases[i].stream { "" } else { self.returning() };
        let sql = format!("INSERT INTO {} VALUES {}{conflict}{returning}", self.bases[i].name, rows.join(", "));
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
        let set = match one_in(&mut self.rng, 4) {
            true => format!("coalesce(excluded.{column}, {}.{column})", base.name),
            false => format!("excluded.{column}"),
        };
        format!(" ON CONFLICT (c0) DO UPDATE SET {column} = {set}{filter}")
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
        let returning = self.returning();
        if one_in(&mut self.rng, 4) {
            if let Some(subquery) = self.newest_of(&base, column) {
                let sql = format!("UPDATE {} SET {} = {subquery} WHERE {filter}{returning}", base.name, column.name);
                return self.sql(sql);
            }
        }
        // Of two columns, each from the old row.
        let second = base.columns[first..].iter().zip(&base.not_null[first..]).find(|(s, _)| s.name != column.name);
        let (mut columns, mut values) = (column.name.clone(), value);
        if let Some((second, false)) = second.filter(|_| one_in(&mut self.rng, 4)) {
            let old = bounded(second.ty, expression(&mut self.rng, &base.columns, second.ty, 0));
            (columns, values) = (format!("({columns}, {})", second.name), format!("({values}, {old})"));
        }
        self.sql(format!("UPDATE {} SET {columns} = {values} WHERE {filter}{returning}", base.name));
    }

    fn delete(&mut self, i: usize) {
        let base = self.bases[i].clone();
        let other = pick(&mut self.rng, &self.bases).clone();
        let pair = base.columns.iter().find_map(|c| Some((c, other.columns.iter().find(|o| o.ty == c.ty)?)));
        if let Some((own, theirs)) = pair.filter(|_| other.name != base.name && one_in(&mut self.rng, 5)) {
            let filter = predicate(&mut self.rng, &other.columns, 1);
            let (name, theirs, from) = (&base.name, &theirs.name, &other.name);
            if one_in(&mut self.rng, 2) {
                let filter = predicate(&mut self.rng, &aliased(&other.columns, "x"), 1);
                let sql =
                    format!("DELETE FROM {name} USING {from} AS x WHERE x.{theirs} = {name}.{} AND {filter}", own.name);
                return self.sql(sql);
            }
            let sql = format!("DELETE FROM {name} WHERE {} IN (SELECT {theirs} FROM {from} WHERE {filter})", own.name);
            return self.sql(sql);
        }
        let filter = self.which(&base);
        let returning = self.returning();
        self.sql(format!("DELETE FROM {} WHERE {filter}{returning}", base.name));
    }

    /// A value of the column's type from another table's rows that match, if there are any.
    fn newest_of(&mut self, base: &Base, column: &Column) -> Option<String> {
        let others: Vec<&Base> = self.bases.iter().filter(|b| b.name != base.name).collect();
        let other = (*pick(&mut self.rng, &others)).clone();
        let theirs = &other.columns.iter().find(|o| o.ty == column.ty)?.name;
        let (own, their_own) =
            base.columns.iter().find_map(|c| Some((c, other.columns.iter().find(|o| o.ty == c.ty)?)))?;
        let fallback = literal(&mut self.rng, column.ty);
        Some(format!(
            "coalesce((SELECT x.{theirs} FROM {} AS x WHERE x.{} = {}.{} ORDER BY x.{theirs} DESC LIMIT 1), {fallback})",
            other.name, their_own.name, base.name, own.name
        ))
    }

    fn returning(&mut self) -> &'static str {
        if one_in(&mut self.rng, 8) { " RETURNING *" } else { "" }
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

fn aliased(columns: &[Column], alias: &str) -> Vec<Column> {
    columns.iter().map(|c| Column { name: format!("{alias}.{}", c.name), ty: c.ty }).collect()
}

/// Keeps values that updates feed back within their domain.
fn bounded(ty: Type, expression: String) -> String {
    match ty {
        Type::Int | Type::Bigint => format!("({expression}) % 100"),
        Type::Numeric => format!("round(({expression}) % 100, 2)"),
        Type::Text => format!("substr({expression}, 1, 3)"),
        Type::Smallint => format!("(({expression}) % 100)::smallint"),
        Type::Double => format!("least({expression}, 1000)"),
        Type::Interval => format!("least(greatest({expression}, '-100 hours'), '100 hours')"),
        Type::Bytea => format!("decode(left(encode({expression}, 'hex'), 6), 'hex')"),
        Type::Array => format!("({expression})[1:3]"),
        Type::Json => format!("CASE WHEN length(({expression})::text) < 40 THEN {expression} END"),
        _ => expression,
    }
}
