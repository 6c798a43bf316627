//! Charts as SVG.
//!
//! The layout of each chart is a list of shapes ([`Canvas`]) at three widths: wide and narrow for the
//! page, which shows the one that fits, and one with a title for a file of its own.

use super::{Error, text};
use crate::{analysis::Analysis, sample::Results};

mod axis;
mod canvas;
mod density;
mod document;
pub mod fits;
mod order;
mod panels;
mod phases;
mod plan;
pub mod sides;
mod startup;
pub mod trend;

pub use canvas::target_colors;
use canvas::{Anchor, Canvas, NORMAL, Role, SMALL, text_width};
pub use document::{Chart, dark_style};
use plan::{Plan, Source, make, make_with, processor_note};

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
