//! Plots as SVG. A colour in them has a name, to which the style of a page gives what it looks like in light and dark.

use std::{fmt::Write as _, io};

use plotters::{drawing::DrawingAreaErrorKind, prelude::*};

/// What goes wrong when a plot is drawn.
pub type PlotError = DrawingAreaErrorKind<io::Error>;

/// How wide and high a plot is, in units of its own: a page makes it as wide as there is room.
const SIZE: (u32, u32) = (720, 320);

/// Room for what stands beside the axes.
const BELOW: u32 = 48;
const LEFT: u32 = 92;

const FONT: (&str, u32) = ("sans-serif", 18);

/// What a colour stands for. The hues are told apart by people who see few colours (Okabe and Ito, 2008).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Colour {
    /// Text and axes.
    Ink,
    /// Lines that help the eye.
    Grid,
    /// Clusters that are up to date.
    UpToDate,
    /// Clusters that are on the way.
    OnTheWay,
    /// Clusters that are offline.
    Offline,
    /// Clusters that failed.
    Failed,
    /// What most clusters reach, or what goes up.
    First,
    /// What the slowest reach, or what goes down.
    Second,
}

impl Colour {
    const ALL: [Self; 8] = [
        Self::Ink,
        Self::Grid,
        Self::UpToDate,
        Self::OnTheWay,
        Self::Offline,
        Self::Failed,
        Self::First,
        Self::Second,
    ];

    /// Its name in the page's style.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ink => "ink",
            Self::Grid => "grid",
            Self::UpToDate => "up-to-date",
            Self::OnTheWay => "on-the-way",
            Self::Offline => "offline",
            Self::Failed => "failed",
            Self::First => "first",
            Self::Second => "second",
        }
    }

    /// In light and in dark.
    fn shades(self) -> [u32; 2] {
        match self {
            Self::Ink => [0x1a_1a_1a, 0xec_ec_ec],
            Self::Grid => [0xd8_d8_d8, 0x44_44_44],
            Self::UpToDate => [0x00_9e_73, 0x00_9e_73],
            Self::OnTheWay => [0x56_b4_e9, 0x56_b4_e9],
            Self::Offline => [0xa6_a6_a6, 0x6e_6e_6e],
            Self::Failed => [0xd5_5e_00, 0xe6_77_1f],
            Self::First => [0x00_72_b2, 0x4a_a8_e0],
            Self::Second => [0xb8_72_00, 0xe6_9f_00],
        }
    }

    fn rgb(self) -> RGBColor {
        let [_, red, green, blue] = self.shades()[0].to_be_bytes();
        RGBColor(red, green, blue)
    }
}

/// The style that gives colours their looks.
pub fn style() -> String {
    let mut style = String::new();
    let shades = |shade: usize| {
        let one = |colour: Colour| format!("--{}:#{:06x};", colour.name(), colour.shades()[shade]);
        Colour::ALL.map(one).concat()
    };
    let _written = write!(
        style,
        ":root{{{}}}\n@media (prefers-color-scheme:dark){{:root{{{}}}}}\n",
        shades(0),
        shades(1)
    );
    for colour in Colour::ALL {
        // What is drawn names its colour by what it is in light; a style goes before that.
        let (name, drawn) = (colour.name(), format!("#{:06X}", colour.shades()[0]));
        let _written = writeln!(
            style,
            "svg [fill=\"{drawn}\"]{{fill:var(--{name})}}svg [stroke=\"{drawn}\"]{{stroke:var(--{name})}}i.{name}{{background:var(--{name})}}"
        );
    }
    style
}

/// One direction of a plot, which begins at nothing.
pub struct Axis<'a> {
    /// What it counts.
    pub of: &'a str,
    /// Where it ends.
    pub to: f64,
    /// How a place on it is told.
    pub label: &'a dyn Fn(&f64) -> String,
}

/// What is drawn, in which colour.
pub struct Layer {
    /// The colour.
    pub colour: Colour,
    /// The marks.
    pub marks: Vec<Mark>,
}

/// A mark on a plot, by its places.
pub enum Mark {
    /// What these places enclose.
    Area(Vec<(f64, f64)>),
    /// What connects these places, so wide.
    Line(Vec<(f64, f64)>, u32),
    /// A spot.
    Spot((f64, f64)),
}

/// Draws layers, one over the other. `told` is what somebody is told who cannot see it.
///
/// # Errors
/// When it cannot be drawn.
pub fn draw(told: &str, across: &Axis<'_>, up: &Axis<'_>, layers: Vec<Layer>) -> Result<String, PlotError> {
    let mut svg = String::new();
    let root = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
    let mut builder = ChartBuilder::on(&root);
    builder.margin(10).margin_right(24).x_label_area_size(BELOW).y_label_area_size(LEFT);
    let mut chart = builder.build_cartesian_2d(0.0..across.to.max(1e-9), 0.0..up.to.max(1e-9))?;
    let (ink, grid) = (Colour::Ink.rgb(), Colour::Grid.rgb());
    let text = FONT.into_font().color(&ink);
    let mut mesh = chart.configure_mesh();
    mesh.light_line_style(TRANSPARENT).bold_line_style(grid).axis_style(ink).label_style(text.clone());
    mesh.x_desc(across.of).y_desc(up.of).axis_desc_style(text);
    mesh.x_labels(8).y_labels(6).x_label_formatter(across.label).y_label_formatter(up.label).draw()?;
    for Layer { colour, marks } in layers {
        let style = colour.rgb();
        for mark in marks {
            match mark {
                Mark::Area(places) => chart.draw_series([Polygon::new(places, style.filled())])?,
                Mark::Line(places, width) => {
                    chart.draw_series([PathElement::new(places, style.stroke_width(width))])?
                }
                Mark::Spot(place) => chart.draw_series([Circle::new(place, 3, style.filled())])?,
            };
        }
    }
    root.present()?;
    drop(chart);
    drop(root);
    let told = escape(told);
    Ok(svg.replacen("<svg ", &format!("<svg role=\"img\" aria-label=\"{told}\" "), 1).replacen(
        ">\n",
        &format!("><title>{told}</title>\n"),
        1,
    ))
}

/// Text as it stands in a page.
pub fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            other => escaped.push(other),
        }
    }
    escaped
}
