//! Charts as SVG through plotters; only this file uses plotters.
//!
//! The layout of each chart is a list of shapes ([`Canvas`]) at three widths: wide and narrow for the
//! page, which shows the one that fits, and one with a title for a file of its own. Plotters writes
//! literal colours, whole pixels and no titles. Therefore every role has a marker colour that becomes a
//! CSS class, shapes are [`SHAPE_SCALE`] times as large, and the document adds title and description.

use plotters::{
    backend::SVGBackend,
    drawing::{DrawingArea, IntoDrawingArea},
    element::{Circle, PathElement, Rectangle, Text},
    style::{
        Color as _, FontStyle, IntoFont, RGBAColor, RGBColor, ShapeStyle,
        text_anchor::{HPos, Pos, VPos},
    },
};

use super::{Error, text};
use crate::{
    analysis::{Analysis, TargetAnalysis, interference},
    sample::{Accelerator, Results, Sample},
};

mod axis;
mod density;
mod document;
pub mod fits;
mod order;
mod panels;
mod phases;
pub mod sides;
mod startup;
pub mod trend;

use document::Drawing;
pub use document::{Chart, dark_style};

/// The width that a chart is laid out for, in pixels.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Room {
    Wide,
    Narrow,
}

impl Room {
    fn width(self) -> f64 {
        match self {
            Room::Wide => 960.0,
            Room::Narrow => 348.0,
        }
    }
}

/// Meaning of a shape, which decides its colour in light and dark.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Paper,
    Ink,
    Muted,
    Grid,
    Bad,
    /// A target's colour, by its index in the results.
    Target(usize),
}

/// Light and dark colours. The targets' colours are distinct for every kind of colour vision (after
/// Okabe and Ito 2008), reach a contrast of 3:1, and repeat after the sixth; every row has a label too.
const PALETTE: [(&str, &str); 11] = [
    ("#FFFFFF", "#15181C"),
    ("#1B1F24", "#E8EAED"),
    ("#59636E", "#A3ADB8"),
    ("#D9DEE3", "#323941"),
    ("#C5221F", "#FF7B72"),
    ("#0072B2", "#56B4E9"),
    ("#D55E00", "#F0914B"),
    ("#00896A", "#3FC79B"),
    ("#A8508A", "#DDA0CB"),
    ("#8A6D00", "#E3C14B"),
    ("#56606B", "#AEB8C2"),
];

impl Role {
    fn index(self) -> usize {
        match self {
            Role::Paper => 0,
            Role::Ink => 1,
            Role::Muted => 2,
            Role::Grid => 3,
            Role::Bad => 4,
            Role::Target(i) => 5 + i % (PALETTE.len() - 5),
        }
    }

    /// A unique colour in plotters' output, unlike any role's real colour.
    fn marker(self) -> RGBColor {
        RGBColor(0xFA, 0x01, self.index() as u8)
    }
}

/// Scale of the shapes in plotters, which uses whole pixels only.
const SHAPE_SCALE: f64 = 4.0;

#[derive(Debug, Clone, Copy)]
pub(super) enum Anchor {
    Start,
    Middle,
    End,
}

#[derive(Debug)]
enum Shape {
    Text { x: f64, y: f64, text: String, size: f64, role: Role, anchor: Anchor, bold: bool },
    Rect { x: (f64, f64), y: (f64, f64), role: Role, opacity: f64 },
    Line { points: Vec<(f64, f64)>, role: Role, width: f64, opacity: f64 },
    Dot { at: (f64, f64), radius: f64, role: Role, opacity: f64 },
    Ring { at: (f64, f64), radius: f64, role: Role, width: f64 },
}

/// A list of shapes, in pixels from the top left.
#[derive(Debug)]
pub(super) struct Canvas {
    pub room: Room,
    shapes: Vec<Shape>,
    /// Top of the next element.
    pub y: f64,
}

pub(super) const SMALL: f64 = 12.0;
pub(super) const NORMAL: f64 = 13.0;

impl Canvas {
    fn new(room: Room) -> Self {
        Canvas { room, shapes: Vec::new(), y: 0.0 }
    }

    pub fn width(&self) -> f64 {
        self.room.width()
    }

    pub fn narrow(&self) -> bool {
        self.room == Room::Narrow
    }

    /// Text whose middle line is at `y`.
    pub fn text(&mut self, x: f64, y: f64, text: impl Into<String>, size: f64, role: Role, anchor: Anchor) {
        self.shapes.push(Shape::Text { x, y, text: text.into(), size, role, anchor, bold: false });
    }

    pub fn bold(&mut self, x: f64, y: f64, text: impl Into<String>, size: f64, role: Role, anchor: Anchor) {
        self.shapes.push(Shape::Text { x, y, text: text.into(), size, role, anchor, bold: true });
    }

    /// A target's name in bold, smaller and then cut to fit `room`.
    pub fn name(&mut self, x: f64, y: f64, name: &str, room: f64) {
        const BOLD: f64 = 1.13;
        let fits = |size: f64, name: &str| text_width(name, size) * BOLD <= room;
        let size = [NORMAL + 1.0, SMALL, 11.0].into_iter().find(|size| fits(*size, name)).unwrap_or(11.0);
        let longest = (room / (text_width("x", size) * BOLD)) as usize;
        self.bold(x, y, text::clip(name, longest.max(2)), size, Role::Ink, Anchor::Start);
    }

    pub fn rect(&mut self, x: (f64, f64), y: (f64, f64), role: Role, opacity: f64) {
        self.shapes.push(Shape::Rect { x, y, role, opacity });
    }

    pub fn line(&mut self, points: &[(f64, f64)], role: Role, width: f64, opacity: f64) {
        self.shapes.push(Shape::Line { points: points.to_vec(), role, width, opacity });
    }

    pub fn dot(&mut self, at: (f64, f64), radius: f64, role: Role, opacity: f64) {
        self.shapes.push(Shape::Dot { at, radius, role, opacity });
    }

    pub fn ring(&mut self, at: (f64, f64), radius: f64, role: Role, width: f64) {
        self.shapes.push(Shape::Ring { at, radius, role, width });
    }

    pub fn cross(&mut self, (x, y): (f64, f64), arm: f64, role: Role) {
        self.line(&[(x - arm, y - arm), (x + arm, y + arm)], role, 2.0, 1.0);
        self.line(&[(x - arm, y + arm), (x + arm, y - arm)], role, 2.0, 1.0);
    }

    /// An open square.
    pub fn square(&mut self, (x, y): (f64, f64), arm: f64, role: Role) {
        let corners = [(-arm, -arm), (arm, -arm), (arm, arm), (-arm, arm), (-arm, -arm)];
        self.line(&corners.map(|(dx, dy)| (x + dx, y + dy)), role, 1.25, 1.0);
    }

    /// Lines of text at `self.y`, which moves below them.
    pub fn paragraph(&mut self, text: &str, role: Role) {
        let fit = (self.width() / text_width("x", SMALL)) as usize;
        for line in super::table::wrap(text, fit.max(20)) {
            self.text(0.0, self.y + 9.0, line, SMALL, role, Anchor::Start);
            self.y += 18.0;
        }
    }

    fn finish(self, chart: &'static str) -> Result<Drawing, Error> {
        let (width, height) = (self.width(), self.y.ceil());
        let mut body = String::new();
        let failed = |e: &dyn std::fmt::Display| Error::Chart { chart, why: e.to_string() };
        {
            let size = ((width * SHAPE_SCALE) as u32, (height * SHAPE_SCALE) as u32);
            let area = SVGBackend::with_string(&mut body, size).into_drawing_area();
            for shape in &self.shapes {
                draw(&area, shape).map_err(|e| failed(&e))?;
            }
            area.present().map_err(|e| failed(&e))?;
        }
        Ok(Drawing { width, height, body: styled(&body) })
    }
}

/// Approximate width of text, by the average of a wide sans-serif font.
pub(super) fn text_width(text: &str, size: f64) -> f64 {
    text.chars().count() as f64 * size * 0.58
}

type Area<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;
type Drawn = Result<(), plotters::drawing::DrawingAreaErrorKind<std::io::Error>>;

fn draw(area: &Area<'_>, shape: &Shape) -> Drawn {
    let at = |(x, y): (f64, f64)| ((x * SHAPE_SCALE).round() as i32, (y * SHAPE_SCALE).round() as i32);
    let color = |role: Role, opacity: f64| -> RGBAColor { role.marker().mix(opacity) };
    let stroke = |role, width: f64, opacity| ShapeStyle {
        color: color(role, opacity),
        filled: false,
        stroke_width: (width * SHAPE_SCALE).round() as u32,
    };
    match shape {
        Shape::Text { x, y, text, size, role, anchor, bold } => {
            let h_pos = match anchor {
                Anchor::Start => HPos::Left,
                Anchor::Middle => HPos::Center,
                Anchor::End => HPos::Right,
            };
            let weight = if *bold { FontStyle::Bold } else { FontStyle::Normal };
            // The back end divides sizes by 1.24.
            let font = ("sans-serif", size * SHAPE_SCALE * 1.24, weight).into_font();
            let style = font.color(&role.marker()).pos(Pos::new(h_pos, VPos::Center));
            area.draw(&Text::new(text.clone(), at((*x, *y)), style))
        }
        Shape::Rect { x, y, role, opacity } => {
            area.draw(&Rectangle::new([at((x.0, y.0)), at((x.1, y.1))], color(*role, *opacity).filled()))
        }
        Shape::Line { points, role, width, opacity } => {
            let points: Vec<(i32, i32)> = points.iter().map(|p| at(*p)).collect();
            area.draw(&PathElement::new(points, stroke(*role, *width, *opacity)))
        }
        Shape::Dot { at: centre, radius, role, opacity } => {
            let radius = (radius * SHAPE_SCALE).round() as u32;
            area.draw(&Circle::new(at(*centre), radius, color(*role, *opacity).filled()))
        }
        Shape::Ring { at: centre, radius, role, width } => area.draw(&Circle::new(
            at(*centre),
            (radius * SHAPE_SCALE).round() as u32,
            stroke(*role, *width, 1.0),
        )),
    }
}

/// Plotters' elements with classes in place of marker colours, without its root element and fonts.
fn styled(svg: &str) -> String {
    let inner = svg.split_once('\n').map_or("", |(_, rest)| rest);
    let inner = inner.trim_end().strip_suffix("</svg>").unwrap_or(inner);
    let mut out = inner.replace(" font-family=\"sans-serif\"", "").replace(" opacity=\"1\"", "");
    for (i, (light, _)) in PALETTE.iter().enumerate() {
        let marker = format!("#FA01{i:02X}");
        for (attribute, class) in [("fill", "f"), ("stroke", "s")] {
            let with = format!("class=\"b{class}{i}\" {attribute}=\"{light}\"");
            out = out.replace(&format!("{attribute}=\"{marker}\""), &with);
        }
    }
    out
}

/// The light and the dark colour of a target, for the page around the charts.
pub fn target_colors(place: usize) -> (&'static str, &'static str) {
    PALETTE[Role::Target(place).index()]
}

/// Input of every chart.
pub(super) struct Source<'a> {
    pub results: &'a Results,
    pub analysis: &'a Analysis,
}

impl<'a> Source<'a> {
    pub fn targets(&self) -> impl Iterator<Item = (Role, &'a TargetAnalysis)> {
        self.analysis.targets.iter().enumerate().map(|(i, t)| (Role::Target(i), t))
    }

    /// Whether there was interference while the sample was taken.
    pub fn has_interference(&self, sample: &Sample) -> bool {
        !interference(sample, self.results.host.cpus).is_empty()
    }

    /// Notes below every chart, one line each.
    fn notes(&self) -> Vec<String> {
        let emulated = self.analysis.targets.iter().filter(|t| t.accelerator == Accelerator::Tcg);
        let mut notes: Vec<String> =
            text::emulated_processor(&self.results.host).map(processor_note).into_iter().collect();
        notes.extend(emulated.map(|t| {
            format!("{}: {}, no hardware virtualisation.", text::clip(&t.name, 24), text::EMULATED)
        }));
        if self.results.image.fallback {
            notes.push(format!("Image: {}.", text::image(&self.results.image)));
        }
        notes.push(text::PageCache::of(self.results).sentence().into());
        if self.results.run.interrupted {
            notes.push("The run was cut short.".into());
        }
        notes
    }

    fn about(&self) -> String {
        let run = &self.results.run;
        let name = run.scenario.get("name").and_then(|n| n.as_str()).unwrap_or("run");
        format!("{} · {} · seed {}", text::clip(name, 40), text::clip(&run.started_at, 30), run.seed)
    }
}

/// Note below every chart with figures from an emulated processor.
fn processor_note(words: String) -> String {
    format!("Taken on an {words}: no figure is a speed.")
}

/// A chart's texts, and its layout from `canvas.y` on.
struct Plan<'a> {
    name: &'static str,
    title: &'static str,
    caption: String,
    description: String,
    layout: &'a dyn Fn(&mut Canvas),
}

fn make(source: &Source<'_>, plan: Plan<'_>) -> Result<Chart, Error> {
    let description = format!("{} {}", plan.description, text::PageCache::of(source.results).sentence());
    make_with(&source.notes(), &source.about(), Plan { description, ..plan })
}

/// `notes` go below the chart; `about` goes beside the title in the file of its own.
fn make_with(notes: &[String], about: &str, plan: Plan<'_>) -> Result<Chart, Error> {
    let drawing = |room, titled| {
        let mut canvas = Canvas::new(room);
        if titled {
            canvas.bold(0.0, 10.0, plan.title, 18.0, Role::Ink, Anchor::Start);
            canvas.text(canvas.width(), 10.0, about, SMALL, Role::Muted, Anchor::End);
            canvas.y = 36.0;
        }
        (plan.layout)(&mut canvas);
        for note in notes {
            canvas.paragraph(note, Role::Muted);
        }
        canvas.finish(plan.name)
    };
    Ok(Chart {
        name: plan.name.into(),
        title: plan.title,
        caption: plan.caption,
        description: plan.description,
        wide: drawing(Room::Wide, false)?,
        narrow: drawing(Room::Narrow, false)?,
        alone: drawing(Room::Wide, true)?,
    })
}

/// All charts of a run, in the order of the page.
///
/// # Errors
/// When the drawing library fails.
pub fn all(results: &Results, analysis: &Analysis) -> Result<Vec<Chart>, Error> {
    let source = Source { results, analysis };
    let mut charts = Vec::new();
    if !text::is_density_alone(results) {
        charts = vec![
            startup::chart(&source)?,
            phases::chart(&source)?,
            panels::memory(&source)?,
            panels::cpu(&source)?,
        ];
        charts.extend(panels::disk(&source)?);
        charts.push(order::chart(&source)?);
    }
    charts.extend(density::charts(&source)?);
    Ok(charts)
}
