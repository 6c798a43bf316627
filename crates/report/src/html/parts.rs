//! Parts that pages share.

use maud::{Markup, PreEscaped, html};

use crate::{
    chart::{self, Chart},
    text,
};

/// Longest untrusted sentence, in characters.
pub const SENTENCE: usize = 600;

const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'";

/// `targets`: number of targets with a colour.
pub fn head(title: &str, version: &str, targets: usize) -> Markup {
    html! {
        head {
            meta charset="utf-8";
            meta http-equiv="Content-Security-Policy" content=(POLICY);
            meta name="viewport" content="width=device-width, initial-scale=1";
            meta name="color-scheme" content="light dark";
            meta name="generator" content={ "bootrace " (text::clip(version, 40)) };
            title { (title) " · bootrace" }
            style { (PreEscaped(include_str!("style.css"))) (PreEscaped(colors(targets))) (PreEscaped(chart::dark_style())) }
        }
    }
}

/// CSS classes with the targets' colours, as in the charts.
fn colors(targets: usize) -> String {
    let each = |dark: bool| -> String {
        let color = |i| if dark { chart::target_colors(i).1 } else { chart::target_colors(i).0 };
        (0..targets).map(|i| format!(".t{i}{{--own:{}}}", color(i))).collect()
    };
    format!("{}@media screen and (prefers-color-scheme:dark){{{}}}", each(false), each(true))
}

/// "2025-01-02 03:04:05 UTC" from RFC 3339; other text unchanged.
pub fn started(at: &str) -> String {
    let parts = at.strip_suffix('Z').and_then(|at| at.split_once('T'));
    match parts {
        Some((date, time)) => {
            format!("{} {} UTC", text::clip(date, 10), text::clip(time.split('.').next().unwrap_or(time), 8))
        }
        None => text::clip(at, 40),
    }
}

pub fn figure(chart: &Chart) -> Markup {
    html! {
        figure id={ "chart-" (chart.name) } {
            h3 { (chart.title) }
            (PreEscaped(chart.inline()))
            figcaption { (chart.caption) }
        }
    }
}
