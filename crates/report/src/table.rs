//! The table in the terminal: a column per target, a row per figure, at most 100 columns wide; targets
//! that don't fit into a narrower terminal go into further tables below.

use std::fmt::Write;

use super::{
    claims, density,
    terminal::{COLUMN, LABEL, WIDTH, columns, wrap},
    text::{self, NOTHING},
};
use crate::{
    analysis::{Analysis, ClaimVerdict, Metric, RelativeTo, TargetAnalysis},
    metric::{self, Ratio, Terminal},
    sample::Results,
};

/// Width that one target needs.
const NARROWEST: usize = 48;

/// The report of a run, as wide as the terminal on standard output, 100 columns at most. Colours are
/// ANSI sequences; `color` turns them on.
pub fn table(results: &Results, analysis: &Analysis, color: bool) -> String {
    table_within(results, analysis, color, terminal_width().unwrap_or(WIDTH))
}

/// [`table()`] for a terminal with `width` columns, of which it uses 48 to 100.
pub fn table_within(results: &Results, analysis: &Analysis, color: bool, width: usize) -> String {
    let width = width.clamp(NARROWEST, WIDTH);
    // A separator follows each column.
    let per_table = (width - usize::from(LABEL) - 4) / usize::from(COLUMN + 1);
    let paint = Paint(color);
    let mut out = String::new();
    let name = results.run.scenario.get("name").and_then(|n| n.as_str()).unwrap_or("run");
    let (name, about) = (text::clip(name, 64), about(results));
    let beside = name.chars().count() + 2 + about.chars().count() <= width;
    let between = if beside { "  " } else { "\n" };
    let about = if beside { about } else { wrap(&about, width).join("\n") };
    let _ = writeln!(out, "{}{between}{}", paint.bold(&name), paint.dim(&about));
    let rounds = !text::is_density_alone(results);
    for targets in analysis.targets.chunks(per_table).filter(|_| rounds) {
        for (i, line) in one_table(analysis, targets).lines().enumerate() {
            let line = line.trim_end();
            let _ = writeln!(out, "{}", if i == 1 { paint.bold(line) } else { line.to_owned() });
        }
    }
    for line in notes(analysis, width).iter().filter(|_| rounds) {
        let _ = writeln!(out, "{}", paint.dim(line));
    }
    if !analysis.density.is_empty() {
        out.push_str(&density::table(&analysis.density, width));
    }
    for claim in &analysis.claims {
        let word = format!("{:<9}", claim.verdict.word());
        let word = match claim.verdict {
            ClaimVerdict::Supported => paint.good(&word),
            ClaimVerdict::Refuted => paint.bad(&word),
            ClaimVerdict::Undecided => paint.warn(&word),
        };
        let says = text::clean(&claim.says, 200);
        let (about, finding) = (claims::about(claim, analysis), claims::finding(claim, analysis));
        let lines = wrap(&format!("claim {says:?}: {about}: {finding}"), width - 12);
        let _ = writeln!(out, "{word} {}", lines.join("\n          "));
    }
    for caveat in &analysis.caveats {
        let lines = wrap(&text::clean(caveat, 400), width - 9);
        let _ = writeln!(out, "{} {}", paint.warn("warning:"), lines.join("\n         "));
    }
    out
}

/// Columns of the terminal on standard output; `None` when it is not a terminal.
fn terminal_width() -> Option<usize> {
    let size = rustix::termios::tcgetwinsize(rustix::stdio::stdout()).ok()?;
    // A terminal without a known size reports 0.
    (size.ws_col > 0).then(|| usize::from(size.ws_col))
}

fn about(results: &Results) -> String {
    let rounds = |warmup| {
        let of_kind = results.samples.iter().filter(|s| s.warmup == warmup).map(|s| s.round);
        of_kind.collect::<std::collections::BTreeSet<_>>().len()
    };
    let (measured, warmups) = (rounds(false), rounds(true));
    let processor =
        text::emulated_processor(&results.host).map(|words| format!("{words}, ")).unwrap_or_default();
    let (image, cache) = (text::image(&results.image), text::PageCache::of(results).words());
    format!(
        "{processor}{measured} rounds, {warmups} warm-up, {cache}, seed {}, image {image}",
        results.run.seed
    )
}

fn one_table(analysis: &Analysis, targets: &[TargetAnalysis]) -> String {
    let head = |t: &TargetAnalysis| {
        let name = wrap(&text::name(&t.name), usize::from(COLUMN) - 2).join("\n");
        match text::accelerator_of(t) {
            Some(accelerator) => format!("{name}\n{accelerator}"),
            None => name,
        }
    };
    let rows = rows(analysis).into_iter().map(|row| {
        let cells: Vec<String> = targets.iter().map(&row.cell).collect();
        (row.label, cells)
    });
    columns(targets.iter().map(head), rows.filter(|(_, cells)| cells.iter().any(|cell| cell != NOTHING)))
}

struct Row {
    label: String,
    cell: Box<dyn Fn(&TargetAnalysis) -> String>,
}

fn row(label: impl Into<String>, cell: impl Fn(&TargetAnalysis) -> String + 'static) -> Row {
    Row { label: label.into(), cell: Box::new(cell) }
}

fn rows(analysis: &Analysis) -> Vec<Row> {
    let times = match &analysis.baseline {
        Some(baseline) if baseline.len() <= 10 => format!("  times {}", text::name(baseline)),
        // Its own cells say which one it is.
        _ => "  times baseline".into(),
    };
    let mut rows = vec![row("samples", samples)];
    for of in metric::TABLE {
        let (label, metric) = (of.label, of.metric);
        let indented = |steps: usize| format!("{}{label}", "  ".repeat(steps));
        match of.terminal {
            Terminal::Hidden => {}
            Terminal::Median(steps) => {
                rows.push(row(indented(steps), move |t: &TargetAnalysis| median(t, metric)))
            }
            Terminal::Interval(steps) => {
                rows.push(row(indented(steps), move |t: &TargetAnalysis| with_interval(t, metric)));
            }
        }
        if of.ratio == Ratio::Everywhere {
            rows.push(row(times.clone(), move |t: &TargetAnalysis| against(t, metric)));
        }
    }
    rows.push(row("interval covers", |t: &TargetAnalysis| {
        let interval = t.figure(Metric::Startup).and_then(|f| f.interval);
        interval.map_or(NOTHING.into(), |i| text::coverage(i.coverage))
    }));
    rows
}

fn samples(target: &TargetAnalysis) -> String {
    let counts = target.counts;
    let mut text = format!("{} ok", counts.ok);
    for (n, what) in [(counts.failed, "failed"), (counts.timed_out, "timed out")] {
        if n > 0 {
            let _ = write!(text, ", {n} {what}");
        }
    }
    text
}

fn median(target: &TargetAnalysis, metric: Metric) -> String {
    target.median(metric).map_or(NOTHING.into(), |m| text::value(metric.unit(), m))
}

fn with_interval(target: &TargetAnalysis, metric: Metric) -> String {
    let Some(figure) = target.figure(metric) else { return NOTHING.into() };
    let (unit, median) = (metric.unit(), figure.median);
    let shown = text::of(metric, median);
    format!("{shown} {}", text::interval(unit, median, figure.interval.as_ref()))
}

fn against(target: &TargetAnalysis, metric: Metric) -> String {
    match target.figure(metric).map(|f| &f.against) {
        Some(RelativeTo::Ratio(r)) => {
            format!("{} {}", text::times(r.estimate), text::times_interval(r.interval.as_ref()))
        }
        Some(RelativeTo::Baseline) => "baseline".into(),
        _ => NOTHING.into(),
    }
}

fn notes(analysis: &Analysis, width: usize) -> Vec<String> {
    let mut text = String::from("Medians [exact interval].");
    if analysis.baseline.is_some() {
        let pairs: Vec<_> = analysis
            .targets
            .iter()
            .filter_map(|t| t.figure(Metric::Startup)?.against.ratio()?.interval)
            .collect();
        let least = pairs.iter().map(|i| i.coverage).reduce(f64::min);
        let least =
            least.map(|c| format!(" [interval, covers >= {}]", text::coverage(c))).unwrap_or_default();
        let _ = write!(text, " Ratios: Hodges-Lehmann, paired by round{least}.");
    }
    let outliers: usize =
        analysis.targets.iter().filter_map(|t| t.figure(Metric::Startup)).map(|f| f.outliers.len()).sum();
    if outliers > 0 {
        let s = if outliers == 1 { "" } else { "s" };
        let _ = write!(text, " {outliers} start-up outlier{s} flagged, none dropped.");
    }
    wrap(&text, width)
}

/// Colours, or none.
struct Paint(bool);

impl Paint {
    fn style(&self, style: anstyle::Style, text: &str) -> String {
        if self.0 { format!("{style}{text}{style:#}") } else { text.to_owned() }
    }

    fn color(&self, color: anstyle::AnsiColor, text: &str) -> String {
        self.style(anstyle::Style::new().fg_color(Some(color.into())), text)
    }

    fn bold(&self, text: &str) -> String {
        self.style(anstyle::Style::new().bold(), text)
    }

    fn dim(&self, text: &str) -> String {
        self.style(anstyle::Style::new().dimmed(), text)
    }

    fn good(&self, text: &str) -> String {
        self.color(anstyle::AnsiColor::Green, text)
    }

    fn bad(&self, text: &str) -> String {
        self.color(anstyle::AnsiColor::Red, text)
    }

    fn warn(&self, text: &str) -> String {
        self.color(anstyle::AnsiColor::Yellow, text)
    }
}
