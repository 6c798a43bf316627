//! The shapes of a chart, drawn by plotters; only this file uses plotters.
//!
//! Plotters writes literal colours, whole pixels and no titles. Therefore every role has a marker colour that becomes a
//! CSS class, and shapes are [`SHAPE_SCALE`] times as large.

use std::collections::BTreeMap;

use plotters::{
    backend::SVGBackend,
    drawing::{DrawingArea, IntoDrawingArea},
    element::{Circle, PathElement, Rectangle, Text},
    style::{
        Color as _, FontStyle, IntoFont, RGBAColor, RGBColor, ShapeStyle,
        text_anchor::{HPos, Pos, VPos},
    },
};

use super::document::{Drawing, PALETTE, SHAPE_SCALE};
use crate::{Error, terminal::wrap, text};

/// The width that a chart is laid out for, in pixels.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Room {
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
pub enum Role {
    Paper,
    Ink,
    Muted,
    Grid,
    Bad,
    /// A target's colour, by its index in the results.
    Target(usize),
}

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

#[derive(Debug, Clone, Copy)]
pub enum Anchor {
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
pub struct Canvas {
    pub room: Room,
    shapes: Vec<Shape>,
    /// Top of the next element.
    pub y: f64,
    /// Shortened names by the whole name and the length, each one's own.
    shortened: BTreeMap<(String, usize), String>,
}

pub const SMALL: f64 = 12.0;
pub const NORMAL: f64 = 13.0;

impl Canvas {
    pub fn new(room: Room) -> Self {
        Canvas { room, shapes: Vec::new(), y: 0.0, shortened: BTreeMap::new() }
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

    /// A name of at most `longest` characters. It leaves out a part where this chart's names stay apart, the middle if
    /// possible.
    pub fn short(&mut self, name: &str, longest: usize) -> String {
        let whole: Vec<char> = text::name(name).chars().collect();
        if whole.len() <= longest {
            return whole.into_iter().collect();
        }
        let key = (name.to_owned(), longest);
        if let Some(short) = self.shortened.get(&key) {
            return short.clone();
        }
        let kept = longest.saturating_sub(1);
        let cut = |end: usize| -> String {
            let (head, tail) = (&whole[..kept - end], &whole[whole.len() - end..]);
            head.iter().chain(['…'].iter()).chain(tail).collect()
        };
        let numbered = |n: usize| {
            let number = n.to_string();
            whole.iter().take(kept.saturating_sub(number.len())).collect::<String>() + "…" + &number
        };
        let ends = (kept / 2..=kept).chain((0..kept / 2).rev());
        let short = ends.map(cut).chain((2..).map(numbered)).find(|short| !self.has(short));
        let short = short.expect("numbers don't end");
        self.shortened.insert(key, short.clone());
        short
    }

    fn has(&self, short: &String) -> bool {
        self.shortened.values().any(|taken| taken == short)
    }

    /// A target's name in bold, smaller and then shortened to fit `room`.
    pub fn name(&mut self, x: f64, y: f64, name: &str, room: f64) {
        const BOLD: f64 = 1.13;
        let fits = |size: f64, name: &str| text_width(name, size) * BOLD <= room;
        let size = [NORMAL + 1.0, SMALL, 11.0].into_iter().find(|size| fits(*size, name)).unwrap_or(11.0);
        let longest = (room / (text_width("x", size) * BOLD)) as usize;
        let name = self.short(name, longest);
        self.bold(x, y, name, size, Role::Ink, Anchor::Start);
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
        for line in wrap(text, fit.max(20)) {
            self.text(0.0, self.y + 9.0, line, SMALL, role, Anchor::Start);
            self.y += 18.0;
        }
    }

    pub fn finish(self, chart: &'static str) -> Result<Drawing, Error> {
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
pub fn text_width(text: &str, size: f64) -> f64 {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_a_chart_stay_apart_however_short_they_are() {
        let name = |at: usize, c: char| {
            let mut name = "x".repeat(64);
            name.replace_range(at..=at, &c.to_string());
            name
        };
        // They differ at the start, in the middle, and at the end.
        let mut names: Vec<String> =
            [0, 32, 63].into_iter().flat_map(|at| [name(at, 'a'), name(at, 'b')]).collect();
        names.extend((0..58).map(|n| format!("{}-{n}-{}", "x".repeat(30), "y".repeat(30))));
        for longest in [24, 12, 4] {
            let mut canvas = Canvas::new(Room::Wide);
            let short: Vec<String> = names.iter().map(|name| canvas.short(name, longest)).collect();
            assert!(short.iter().all(|short| short.chars().count() <= longest), "{short:?}");
            let different: std::collections::BTreeSet<&String> = short.iter().collect();
            assert_eq!(different.len(), names.len(), "{short:?}");
            assert_eq!(canvas.short(&names[1], longest), short[1], "the same name is shortened the same way");
        }
        let mut canvas = Canvas::new(Room::Wide);
        assert_eq!(canvas.short("docker", 6), "docker");
        assert_eq!(canvas.short("redis-on-docker-with-io_uring", 15), "redis-o…o_uring");
    }
}
