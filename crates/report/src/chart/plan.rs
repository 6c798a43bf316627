//! A chart from its plan: its layout at each width, and the notes below every chart of a run.

use super::{
    canvas::{Anchor, Canvas, Role, Room, SMALL},
    document::Chart,
};
use crate::{
    Error,
    analysis::{Analysis, TargetAnalysis, interference},
    sample::{Accelerator, Results, Sample},
    text,
};

/// Input of every chart.
pub struct Source<'a> {
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
        notes
            .extend(emulated.map(|t| {
                format!("{}: {}, no hardware virtualisation.", text::name(&t.name), text::EMULATED)
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
pub fn processor_note(words: String) -> String {
    format!("Taken on an {words}: no figure is a speed.")
}

/// A chart's texts, and its layout from `canvas.y` on.
pub struct Plan<'a> {
    pub name: &'static str,
    pub title: &'static str,
    pub caption: String,
    pub description: String,
    pub layout: &'a dyn Fn(&mut Canvas),
}

pub fn make(source: &Source<'_>, plan: Plan<'_>) -> Result<Chart, Error> {
    let description = format!("{} {}", plan.description, text::PageCache::of(source.results).sentence());
    make_with(&source.notes(), &source.about(), Plan { description, ..plan })
}

/// `notes` go below the chart; `about` goes beside the title in the file of its own.
pub fn make_with(notes: &[String], about: &str, plan: Plan<'_>) -> Result<Chart, Error> {
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
