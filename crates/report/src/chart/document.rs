//! A drawn chart as an SVG document with title, description and dark colours.

use std::{borrow::Cow, fmt::Write};

/// Scale of the shapes in plotters, which uses whole pixels only.
pub(super) const SHAPE_SCALE: f64 = 4.0;

/// Light and dark colours. The targets' colours are distinct for every kind of colour vision (after
/// Okabe and Ito 2008), reach a contrast of 3:1, and repeat after the sixth; every row has a label too.
pub(super) const PALETTE: [(&str, &str); 11] = [
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

/// One chart at all its widths.
#[derive(Debug)]
pub struct Chart {
    /// Its file's name without `.svg`.
    pub name: Cow<'static, str>,
    pub title: &'static str,
    /// Explanation in a few sentences.
    pub caption: String,
    /// Its figures in words, for screen readers.
    pub description: String,
    pub(super) wide: Drawing,
    pub(super) narrow: Drawing,
    pub(super) alone: Drawing,
}

#[derive(Debug)]
pub(super) struct Drawing {
    pub width: f64,
    pub height: f64,
    /// The shapes as SVG elements.
    pub body: String,
}

/// CSS of a chart's shapes in dark mode; in light mode their attributes apply.
pub fn dark_style() -> String {
    let mut css = String::from("@media screen and (prefers-color-scheme:dark){");
    for (i, (_, dark)) in PALETTE.iter().enumerate() {
        let _ = write!(css, ".bf{i}{{fill:{dark}}}.bs{i}{{stroke:{dark}}}");
    }
    css.push('}');
    css
}

const FONTS: &str = "system-ui,-apple-system,'Segoe UI',Roboto,'Noto Sans','DejaVu Sans',sans-serif";

impl Chart {
    /// The SVG file with a title.
    pub fn alone(&self) -> String {
        let d = &self.alone;
        let pad = 24.0;
        let (width, height) = (d.width + 2.0 * pad, d.height + 2.0 * pad);
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
             viewBox=\"0 0 {width} {height}\" role=\"img\" aria-labelledby=\"t d\" font-family=\"{FONTS}\">\n\
             <title id=\"t\">{}</title>\n<desc id=\"d\">{}</desc>\n<style>{}</style>\n\
             <rect class=\"bf0\" fill=\"{}\" width=\"100%\" height=\"100%\"/>\n\
             <g transform=\"translate({pad},{pad}) scale({})\">\n{}</g>\n</svg>\n",
            escape(self.title),
            escape(&self.description),
            dark_style(),
            PALETTE[0].0,
            1.0 / SHAPE_SCALE,
            d.body,
        )
    }

    /// Two elements for the page, whose style shows one of them.
    pub fn inline(&self) -> String {
        [(&self.wide, "wide"), (&self.narrow, "narrow")]
            .map(|(d, class)| {
                format!(
                    "<svg class=\"chart {class}\" viewBox=\"0 0 {} {}\" role=\"img\" \
                     aria-labelledby=\"{name}-{class}-t {name}-{class}-d\">\
                     <title id=\"{name}-{class}-t\">{}</title><desc id=\"{name}-{class}-d\">{}</desc>\n\
                     <g transform=\"scale({})\">\n{}</g></svg>\n",
                    d.width,
                    d.height,
                    escape(self.title),
                    escape(&self.description),
                    1.0 / SHAPE_SCALE,
                    d.body,
                    name = self.name,
                )
            })
            .concat()
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
