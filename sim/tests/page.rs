//! The page that a run leaves: one file, complete, that needs nothing else to be read.

use std::{collections::BTreeSet, time::Duration};

use edgefleet_sim::{
    html::Page,
    rehearsal::{Fleet, rehearse},
    report::{Cost, Report},
};
use roxmltree::{Document, Node, ParsingOptions};

const SVG: &str = "http://www.w3.org/2000/svg";

fn run(scenario: &str, days: u32) -> Report {
    let fleet = Fleet { scenario: scenario.to_owned(), clusters: 4, days, without: BTreeSet::new() };
    let scenario = fleet.scenario().expect("it comes with the program");
    rehearse(scenario, 3, None, |_, _| ()).expect("the fleet is made").expect("no rule is broken")
}

fn page(report: &Report) -> String {
    let cost = Cost { took: Duration::from_secs(1), peak: Some(5_000_000), before: 1_000_000 };
    let about = "what <script>alert('is')</script> & \"was\"";
    let page = Page { scenario: "swarm", about, command: "edgefleet-sim run", report, cost: &cost };
    page.write().expect("it is drawn")
}

fn elements<'a>(document: &'a Document<'a>, name: &'static str) -> Vec<Node<'a, 'a>> {
    document.descendants().filter(|node| node.has_tag_name(name) || node.has_tag_name((SVG, name))).collect()
}

#[test]
fn it_is_complete() {
    let report = run("swarm", 1);
    let page = page(&report);
    for what in ["http://", "https://", "//", "url(", "@import", "src=", "<link", "<script"] {
        assert!(!page.replace(SVG, "").contains(what), "the page refers to something: {what}");
    }
    let options = ParsingOptions { allow_dtd: true, ..ParsingOptions::default() };
    let document = Document::parse_with_options(&page, options).unwrap();
    let plots = elements(&document, "svg");
    assert_eq!((plots.len(), elements(&document, "figure").len()), (3, 3));
    for plot in plots {
        let title =
            plot.children().find(|node| node.has_tag_name((SVG, "title"))).and_then(|node| node.text());
        assert_eq!((plot.attribute("role"), plot.attribute("aria-label")), (Some("img"), title));
        assert!(plot.descendants().count() > 20, "an empty plot: {title:?}");
    }
    for figure in elements(&document, "figure") {
        let rows = figure.descendants().filter(|node| node.has_tag_name("tr")).count();
        assert!(rows > 3, "{rows} rows under a plot");
    }
    // Every colour that is drawn has a meaning in light and dark.
    let style = elements(&document, "style")[0].text().unwrap();
    for node in document.descendants() {
        for (attribute, colour) in
            ["fill", "stroke"].map(|name| (name, node.attribute(name).unwrap_or("none")))
        {
            let known = colour == "none" || style.contains(&format!("[{attribute}=\"{colour}\"]"));
            assert!(known, "{attribute} {colour} has no style");
        }
    }
    let text: String = document.descendants().filter_map(|node| node.text()).collect();
    for figure in ["what <script>alert('is')</script> & \"was\"", "faults survived", "1000.0 KB", "p99"] {
        assert!(text.contains(figure), "{figure} is missing");
    }
}

#[test]
fn what_is_seen_is_when_it_was() {
    let report = run("calm", 2);
    let looks = report.timeline.looks();
    assert_eq!((looks[0].tally.offline, looks[0].up.bytes), (4, 0));
    assert!(looks[1..].iter().all(|look| look.tally.offline == 0), "nobody is ever offline in calm");
    assert!(looks.windows(2).all(|pair| pair[0].at < pair[1].at && pair[0].up.bytes <= pair[1].up.bytes));
    assert!(report.changes.iter().all(|change| change.took.len() == 4));
    for report in [&report, &run("swarm", 1)] {
        let looks = report.timeline.looks();
        assert!(looks.len() >= 200);
        for look in looks {
            let tally = look.tally;
            assert_eq!(tally.up_to_date + tally.on_the_way + tally.offline + tally.failed, 4, "{look:?}");
        }
        let last = looks.last().expect("there are some");
        assert_eq!((last.tally.up_to_date, last.at), (4, report.simulated));
    }
    let signatures = report.signatures;
    assert!(signatures.by_clusters >= signatures.checked_by_hub && signatures.checked_by_hub > 0);
    assert!(signatures.by_hub > 0 && signatures.checked_by_clusters >= signatures.by_hub);
}
