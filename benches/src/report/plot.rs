//! The report's plots, as SVG: bars per query on a logarithmic scale, and lines over the input.

use std::fmt::Write;

const COLOURS: [&str; 3] = ["#1f6fb4", "#e08214", "#7f7f7f"];
const HEIGHT: f64 = 360.0;
const LEFT: f64 = 70.0;
const TOP: f64 = 60.0;
const BOTTOM: f64 = 310.0;

pub struct Series {
    pub name: String,
    /// NaN where there is none.
    pub values: Vec<f64>,
}

/// A group of bars for each label, a bar for each series.
pub fn bars(title: &str, labels: &[String], series: &[Series]) -> String {
    let values = || series.iter().flat_map(|s| &s.values).copied().filter(|v| v.is_finite() && *v > 0.0);
    let low = values().fold(f64::INFINITY, f64::min).log10().floor();
    let high = values().fold(f64::NEG_INFINITY, f64::max).log10().ceil().max(low + 1.0);
    let y = |value: f64| BOTTOM - (value.log10() - low) / (high - low) * (BOTTOM - TOP);
    let group = 40.0;
    let width = LEFT + group * labels.len() as f64 + 20.0;
    let mut svg = begin(title, width, series);
    for power in low as i32..=high as i32 {
        let value = 10f64.powi(power);
        grid_line(&mut svg, width, y(value), &format!("{value}"));
    }
    let bar = (group - 8.0) / series.len() as f64;
    for (i, label) in labels.iter().enumerate() {
        let x = LEFT + group * i as f64 + 4.0;
        text(&mut svg, x + (group - 8.0) / 2.0, BOTTOM + 18.0, "middle", label);
        for (place, (series, colour)) in series.iter().zip(COLOURS).enumerate() {
            let value = series.values[i];
            if value.is_finite() && value > 0.0 {
                let (x, top) = (x + bar * place as f64, y(value));
                let height = BOTTOM - top;
                let _ = writeln!(
                    svg,
                    r#"<rect x="{x:.1}" y="{top:.1}" width="{bar:.1}" height="{height:.1}" fill="{colour}"/>"#
                );
            }
        }
    }
    svg + "</svg>\n"
}

/// A line for each series over `xs`, from zero.
pub fn lines(title: &str, x_title: &str, xs: &[f64], series: &[Series]) -> String {
    let width = 640.0;
    let finite = |values: &[f64]| values.iter().copied().filter(|v| v.is_finite()).fold(0.0, f64::max);
    let high = round_up(series.iter().map(|s| finite(&s.values)).fold(0.0, f64::max));
    let x_high = finite(xs).max(f64::MIN_POSITIVE);
    let x = |value: f64| LEFT + value / x_high * (width - LEFT - 30.0);
    let y = |value: f64| BOTTOM - value / high * (BOTTOM - TOP);
    let mut svg = begin(title, width, series);
    for step in 0..=5 {
        let value = high * f64::from(step) / 5.0;
        grid_line(&mut svg, width, y(value), &format!("{}", (value * 1000.0).round() / 1000.0));
    }
    for value in xs {
        text(&mut svg, x(*value), BOTTOM + 18.0, "middle", &format!("{}", (value * 100.0).round() / 100.0));
    }
    text(&mut svg, width / 2.0, BOTTOM + 40.0, "middle", x_title);
    for (series, colour) in series.iter().zip(COLOURS) {
        let points = xs.iter().zip(&series.values).filter(|(_, v)| v.is_finite());
        let points: Vec<String> = points.map(|(a, b)| format!("{:.1},{:.1}", x(*a), y(*b))).collect();
        let points = points.join(" ");
        let _ = writeln!(svg, r#"<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>"#);
    }
    svg + "</svg>\n"
}

/// The next of 1, 2, 2.5, 5, 10, 20, …
fn round_up(value: f64) -> f64 {
    let power = 10f64.powf(value.max(1e-9).log10().floor());
    [1.0, 2.0, 2.5, 5.0, 10.0].map(|step| step * power).into_iter().find(|step| *step >= value).unwrap_or(value)
}

fn begin(title: &str, width: f64, series: &[Series]) -> String {
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {HEIGHT}\" width=\"{width}\" \
         height=\"{HEIGHT}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"{width}\" height=\"{HEIGHT}\" fill=\"white\"/>\n"
    );
    text(&mut svg, LEFT, 20.0, "start", title);
    let mut x = LEFT;
    for (series, colour) in series.iter().zip(COLOURS) {
        let _ = writeln!(svg, r#"<rect x="{x}" y="32" width="12" height="12" fill="{colour}"/>"#);
        text(&mut svg, x + 18.0, 43.0, "start", &series.name);
        x += 40.0 + 8.0 * series.name.len() as f64;
    }
    svg
}

fn grid_line(svg: &mut String, width: f64, y: f64, label: &str) {
    let right = width - 15.0;
    let _ = writeln!(svg, r##"<line x1="{LEFT}" y1="{y:.1}" x2="{right}" y2="{y:.1}" stroke="#dddddd"/>"##);
    text(svg, LEFT - 8.0, y + 4.0, "end", label);
}

fn text(svg: &mut String, x: f64, y: f64, anchor: &str, text: &str) {
    let _ = writeln!(svg, r##"<text x="{x:.1}" y="{y:.1}" text-anchor="{anchor}" fill="#222222">{text}</text>"##);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scales() {
        assert_eq!([0.3, 1.0, 1.1, 2.1, 7.0, 130.0].map(round_up), [0.5, 1.0, 2.0, 2.5, 10.0, 200.0]);
        let series = |values: &[f64]| [Series { name: "one".into(), values: values.to_vec() }];
        let svg = bars("title", &["q0".into(), "q1".into()], &series(&[0.1, f64::NAN]));
        assert_eq!(svg.matches("<rect").count(), 3, "background, legend, and the one bar: {svg}");
        let svg = lines("title", "x", &[1.0, 2.0], &series(&[3.0, 5.0]));
        assert!(svg.contains(r#"points="340.0,160.0 610.0,60.0""#), "{svg}");
    }
}
