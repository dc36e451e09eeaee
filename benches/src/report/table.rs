//! A table of figures: printed row by row as they are measured, and as Markdown for the report.

pub struct Table {
    headings: Vec<String>,
    rows: Vec<Vec<String>>,
    printed: bool,
}

impl Table {
    /// Prints its headings, and later each row, if `printed`.
    pub fn new(headings: &[&str], printed: bool) -> Self {
        let table =
            Table { headings: headings.iter().map(|text| text.to_string()).collect(), rows: Vec::new(), printed };
        table.print(&table.headings);
        table
    }

    pub fn push(&mut self, cells: Vec<String>) {
        self.print(&cells);
        self.rows.push(cells);
    }

    fn print(&self, cells: &[String]) {
        if self.printed {
            let padded = cells.iter().zip(&self.headings).enumerate().map(|(i, (cell, heading))| match i {
                0 => format!("{cell:<9}"),
                _ => format!("{cell:>width$}", width = heading.chars().count().max(7)),
            });
            println!("{}", padded.collect::<Vec<_>>().join("  ").trim_end());
        }
    }

    pub fn markdown(&self) -> String {
        let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
        let rule: Vec<String> =
            (0..self.headings.len()).map(|i| if i == 0 { "---" } else { "---:" }.to_string()).collect();
        let rows: String = self.rows.iter().map(|row| line(row)).collect();
        format!("{}{}{rows}", line(&self.headings), line(&rule))
    }
}

/// A number with so many digits after the point; `-` where there is none.
pub fn number(value: f64, digits: usize) -> String {
    if value.is_finite() { format!("{value:.digits$}") } else { "-".into() }
}

/// The geometric mean of the numbers that there are.
pub fn geometric_mean(values: impl Iterator<Item = f64>) -> f64 {
    let logarithms: Vec<f64> = values.filter(|value| value.is_finite() && *value > 0.0).map(f64::ln).collect();
    (logarithms.iter().sum::<f64>() / logarithms.len() as f64).exp()
}

/// Of each column of `rows`, as cells.
pub fn geometric_means<const N: usize>(rows: &[[f64; N]]) -> [String; N] {
    std::array::from_fn(|column| number(geometric_mean(rows.iter().map(|row| row[column])), 2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markdown_and_means() {
        let mut table = Table::new(&["query", "CPU s"], false);
        table.push(vec!["q0".into(), number(1.25, 1)]);
        table.push(vec!["q1".into(), number(f64::NAN, 1)]);
        assert_eq!(table.markdown(), "| query | CPU s |\n| --- | ---: |\n| q0 | 1.2 |\n| q1 | - |\n");
        assert!((geometric_mean([2.0, f64::NAN, 8.0].into_iter()) - 4.0).abs() < 1e-9);
        assert!(geometric_mean([f64::NAN].into_iter()).is_nan());
    }
}
