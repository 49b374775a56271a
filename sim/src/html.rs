//! A run as one page, for whoever was not there: figures and plots in one file that needs nothing else to be read.

use std::{fmt::Write as _, time::Duration};

use crate::{
    happening::date,
    plot::{self, Axis, Colour, Layer, Mark, PlotError, escape},
    report::{Change, Cost, Report, grouped, quantile, seconds},
    timeline::Look,
};

/// Rows of a table beside a plot: it says what the plot shows, not every point of it.
const ROWS: usize = 24;

const HOUR: f64 = 3600.0;

/// Runs up to this are told in hours, longer ones in days.
const SHORT: Duration = Duration::from_secs(3 * 24 * 60 * 60);

const STYLE: &str = "\
body{margin:0 auto;max-width:60rem;padding:1rem;font:1rem/1.5 system-ui,sans-serif;color:var(--ink);background:Canvas}\n\
:root{color-scheme:light dark}\n\
h1{font-size:1.5rem;line-height:1.2}h2{font-size:1.15rem;margin:2rem 0 .25rem}p{margin:.25rem 0}\n\
figure{margin:0}.wide{overflow-x:auto}svg{display:block;width:100%;min-width:34rem;height:auto}\n\
.legend{display:flex;flex-wrap:wrap;gap:.25rem 1.25rem;list-style:none;padding:0;margin:.5rem 0}\n\
i{display:inline-block;width:.9em;height:.9em;margin-right:.4em;border-radius:2px;vertical-align:-.1em}\n\
table{border-collapse:collapse;font-variant-numeric:tabular-nums}\n\
th,td{padding:.15rem .75rem .15rem 0;text-align:right;border-bottom:1px solid var(--grid)}\n\
td{white-space:nowrap}th:first-child,td:first-child{text-align:left}caption{text-align:left;font-weight:600;padding:1rem 0 .25rem}\n\
.figures{display:grid;grid-template-columns:repeat(auto-fit,minmax(17rem,1fr));gap:0 2.5rem;align-items:start}\n\
.figures table{width:100%}.figures th{font-weight:400}summary{cursor:pointer;margin:.5rem 0}code{overflow-wrap:anywhere}\n";

/// What a page is about.
pub struct Page<'a> {
    /// The scenario's name.
    pub scenario: &'a str,
    /// What it is about.
    pub about: &'a str,
    /// The command that shows the run again.
    pub command: &'a str,
    /// How it went.
    pub report: &'a Report,
    /// What it cost.
    pub cost: &'a Cost,
}

/// A table with names above its columns.
struct Rows<'a> {
    columns: &'a [&'a str],
    rows: Vec<Vec<String>>,
}

impl Page<'_> {
    /// The page.
    ///
    /// # Errors
    /// When a plot cannot be drawn.
    pub fn write(&self) -> Result<String, PlotError> {
        let title = format!("Rehearsal of {}", escape(self.scenario));
        let (about, command) = (escape(self.about), escape(self.command));
        Ok([
            "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\"/>\n".to_owned(),
            "<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\"/>\n".to_owned(),
            format!("<title>{title}</title>\n<style>\n{STYLE}{}</style>\n</head>\n<body>\n", plot::style()),
            format!("<h1>{title}</h1>\n<p>{about}</p>\n<p>{}</p>\n", self.summary()),
            self.states()?,
            self.convergence()?,
            self.traffic()?,
            self.figures(),
            format!("<h2>Again</h2>\n<p><code>{command}</code></p>\n</body>\n</html>\n"),
        ]
        .concat())
    }

    fn summary(&self) -> String {
        let Report { clusters, simulated, changes, faults, .. } = self.report;
        format!(
            "{} clusters from {} to {}: {} changes, {} faults, and no rule was broken.",
            grouped(*clusters as u64),
            date(Duration::ZERO),
            date(*simulated),
            grouped(changes.len() as u64),
            grouped(faults.values().sum())
        )
    }

    fn states(&self) -> Result<String, PlotError> {
        let states = [
            ("up to date", Colour::UpToDate),
            ("on the way", Colour::OnTheWay),
            ("failed", Colour::Failed),
            ("offline", Colour::Offline),
        ];
        let looks = self.report.timeline.looks();
        let counts = |look: &Look| {
            let tally = look.tally;
            [tally.up_to_date, tally.on_the_way, tally.failed, tally.offline]
        };
        let place = |look: &Look, state: usize| {
            (self.across(look.at), f64::from(counts(look)[..state].iter().sum::<u32>()))
        };
        let layer = |(state, (_, colour)): (usize, &(&str, Colour))| {
            // What a look saw is so until the next.
            let upper = steps(looks.iter().map(|look| place(look, state + 1)));
            let mut lower = steps(looks.iter().map(|look| place(look, state)));
            lower.reverse();
            Layer { colour: *colour, marks: vec![Mark::Area([upper, lower].concat())] }
        };
        let layers = states.iter().enumerate().map(layer).collect();
        let up =
            Axis { of: "clusters", to: self.report.clusters as f64, label: &|count| grouped(*count as u64) };
        let told = "Clusters by state over time, as people at the hub see them";
        let svg = plot::draw(told, &self.axis(), &up, layers)?;
        let row = |look: &Look| {
            std::iter::once(date(look.at)).chain(counts(look).map(|count| grouped(count.into()))).collect()
        };
        let columns = ["time", states[0].0, states[1].0, states[2].0, states[3].0];
        let rows = Rows { columns: &columns, rows: some(looks).map(row).collect() };
        Ok(figure("Clusters by state", told, &svg, &states, &rows))
    }

    fn convergence(&self) -> Result<String, PlotError> {
        let legend =
            [("half of the clusters, and nine of ten", Colour::First), ("the slowest", Colour::Second)];
        let slowest = self.report.changes.iter().flat_map(|change| &change.took).max();
        let top = slowest.map_or(1.0, |time| logarithm(*time).ceil().max(1.0));
        let mut layers = [Colour::Second, Colour::First].map(|colour| Layer { colour, marks: Vec::new() });
        let mut rows = Vec::new();
        for Change { at, took, .. } in &self.report.changes {
            let mut times = took.clone();
            times.sort_unstable();
            let [half, most, all] = [500, 900, 1000].map(|parts| quantile(&times, parts));
            let reached = grouped(times.len() as u64);
            let told = [half, most, all].map(|time| time.map_or("-".to_owned(), seconds));
            rows.push([date(*at), reached].into_iter().chain(told).collect());
            let (Some(half), Some(most), Some(all)) = (half, most, all) else { continue };
            let place = |time| (self.across(*at), logarithm(time));
            layers[0].marks.extend([Mark::Line(vec![place(most), place(all)], 1), Mark::Spot(place(all))]);
            layers[1].marks.extend([Mark::Line(vec![place(half), place(most)], 5), Mark::Spot(place(half))]);
        }
        let label = |power: &f64| {
            let is_whole = (power - power.round()).abs() < 1e-6;
            if is_whole { seconds_short(10_f64.powf(*power)) } else { String::new() }
        };
        let up = Axis { of: "time (log scale)", to: top, label: &label };
        let told = "For each change, the time until people saw that clusters run it";
        let svg = plot::draw(told, &self.axis(), &up, layers.into())?;
        let rows = Rows { columns: &["changed", "clusters", "p50", "p90", "max"], rows };
        Ok(figure("Convergence", told, &svg, &legend, &rows))
    }

    fn traffic(&self) -> Result<String, PlotError> {
        let legend = [("up, from clusters", Colour::First), ("down, to clusters", Colour::Second)];
        let looks = self.report.timeline.looks();
        let rate = |pair: &[Look], bytes: fn(&Look) -> u64| {
            let hours = pair[1].at.saturating_sub(pair[0].at).as_secs_f64() / HOUR;
            bytes(&pair[1]).saturating_sub(bytes(&pair[0])) as f64 / hours.max(1e-9)
        };
        let directions: [fn(&Look) -> u64; 2] = [|look| look.up.bytes, |look| look.down.bytes];
        let rates =
            directions.map(|bytes| looks.windows(2).map(|pair| rate(pair, bytes)).collect::<Vec<_>>());
        let top = rates.iter().flatten().copied().fold(1.0, f64::max) * 1.05;
        let line = |(rates, (_, colour)): (&Vec<f64>, &(&str, Colour))| {
            let places = looks.iter().zip(rates).map(|(look, rate)| (self.across(look.at), *rate));
            Layer { colour: *colour, marks: vec![Mark::Line(steps(places), 2)] }
        };
        let layers = rates.iter().zip(&legend).map(line).collect();
        let label = |rate: &f64| {
            if top >= 1e6 { format!("{:.1} MB", rate / 1e6) } else { format!("{:.0} KB", rate / 1e3) }
        };
        let up = Axis { of: "an hour", to: top, label: &label };
        let told = "Bytes in an hour over time, of the whole fleet";
        let svg = plot::draw(told, &self.axis(), &up, layers)?;
        let each = looks.iter().zip(&rates[0]).zip(&rates[1]);
        let each: Vec<_> = each.map(|((look, up), down)| (look.at, *up, *down)).collect();
        let row = |(at, up, down): &(Duration, f64, f64)| {
            vec![date(*at), grouped(*up as u64), grouped(*down as u64)]
        };
        let rows = Rows { columns: &["time", "up", "down"], rows: some(&each).map(row).collect() };
        Ok(figure("Bytes in an hour", told, &svg, &legend, &rows))
    }

    fn figures(&self) -> String {
        let mut page = "<h2>Figures</h2>\n<div class=\"figures\">\n".to_owned();
        for section in self.report.sections(self.cost) {
            let _written = write!(page, "<table><caption>{}</caption>\n<tbody>\n", escape(section.title));
            for (what, figure) in section.rows {
                let (what, figure) = (escape(what.trim()), escape(&figure));
                let _written = writeln!(page, "<tr><th scope=\"row\">{what}</th><td>{figure}</td></tr>");
            }
            page.push_str("</tbody></table>\n");
        }
        page + "</div>\n"
    }

    fn is_short(&self) -> bool {
        self.report.simulated <= SHORT
    }

    fn across(&self, at: Duration) -> f64 {
        at.as_secs_f64() / HOUR / if self.is_short() { 1.0 } else { 24.0 }
    }

    fn axis(&self) -> Axis<'static> {
        let of = if self.is_short() { "hours" } else { "days" };
        Axis { of, to: self.across(self.report.simulated), label: &|time| format!("{time:.0}") }
    }
}

/// A plot under a heading, with what its colours mean, and as a table.
fn figure(heading: &str, told: &str, svg: &str, legend: &[(&str, Colour)], rows: &Rows<'_>) -> String {
    let mut page =
        format!("<h2>{heading}</h2>\n<figure>\n<figcaption>{told}.</figcaption>\n<ul class=\"legend\">\n");
    for (what, colour) in legend {
        let _written = writeln!(page, "<li><i class=\"{}\"></i>{}</li>", colour.name(), escape(what));
    }
    let _written = write!(page, "</ul>\n<div class=\"wide\">\n{svg}</div>\n");
    page.push_str("<details><summary>As a table</summary>\n<div class=\"wide\"><table>\n<thead><tr>");
    for column in rows.columns {
        let _written = write!(page, "<th scope=\"col\">{}</th>", escape(column));
    }
    page.push_str("</tr></thead>\n<tbody>\n");
    for row in &rows.rows {
        let cells = row.iter().map(|cell| format!("<td>{}</td>", escape(cell)));
        let _written = writeln!(page, "<tr>{}</tr>", cells.collect::<String>());
    }
    page + "</tbody></table></div>\n</details>\n</figure>\n"
}

/// A few of many, evenly.
fn some<T>(all: &[T]) -> impl Iterator<Item = &T> {
    all.iter().step_by(all.len().div_ceil(ROWS).max(1))
}

/// Places between which nothing is known: each holds until the next.
fn steps(places: impl Iterator<Item = (f64, f64)>) -> Vec<(f64, f64)> {
    let mut line: Vec<(f64, f64)> = Vec::new();
    for (across, up) in places {
        if let Some((_, before)) = line.last().copied().filter(|(_, before)| (before - up).abs() > 1e-9) {
            line.push((across, before));
        }
        line.push((across, up));
    }
    line
}

/// Of a time in seconds, from one second on.
fn logarithm(time: Duration) -> f64 {
    time.as_secs_f64().max(1.0).log10()
}

fn seconds_short(seconds: f64) -> String {
    format!("{} s", grouped(seconds.round() as u64))
}
