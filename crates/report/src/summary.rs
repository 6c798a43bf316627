//! `summary.md`: the figures as Markdown, fit for a pull request or a job summary.

use std::fmt::Write;

use super::{
    claims, density, isolation,
    markdown::{escape, fit},
    restarts,
    text::{self, NOTHING},
};
use crate::{
    analysis::{Analysis, Metric, RelativeTo, TargetAnalysis},
    metric::Ratio,
    sample::Results,
};

/// The report of a run in GitHub's Markdown: its claims first, no longer than a comment.
pub fn summary(results: &Results, analysis: &Analysis) -> String {
    let mut out = String::new();
    let run = &results.run;
    let name = run.scenario.get("name").and_then(|n| n.as_str()).unwrap_or("run");
    let _ = writeln!(out, "# {}\n", escape(&text::clip(name, 64)));
    if let Some(description) = run.scenario.get("description").and_then(|d| d.as_str()) {
        let _ = writeln!(out, "{}\n", escape(&text::clean(description, 300)));
    }
    let rounds = !text::is_density_alone(results);
    if let Some(words) = text::emulated_processor(&results.host) {
        let _ = writeln!(out, "**Taken on an {}: no figure is a speed.**\n", escape(&words));
    }
    judged(&mut out, analysis);
    if rounds {
        figures(&mut out, analysis);
        let _ = writeln!(
            out,
            "\nMedians with their exact order-statistic interval in brackets ({:.0} % requested). Ratios are \
         Hodges-Lehmann estimates over the pairs of each round. Figures exclude warm-ups and failed samples \
         and include outliers. {}",
            analysis.level * 100.0,
            text::PageCache::of(results).sentence(),
        );
    }
    for sentence in restarts::sentences(results) {
        let _ = writeln!(out, "\nRestart or resume. {}", escape(&sentence));
    }
    if !analysis.density.is_empty() {
        density::markdown(&mut out, &analysis.density);
    }
    if !analysis.caveats.is_empty() {
        let _ = writeln!(out, "\n## Caveats\n");
        for caveat in &analysis.caveats {
            let _ = writeln!(out, "- {}", escape(&text::clean(caveat, 500)));
        }
    }
    isolation(&mut out, results, analysis);
    about(&mut out, results);
    fit(out, "index.html")
}

fn figures(out: &mut String, analysis: &Analysis) {
    let head = |t: &TargetAnalysis| {
        let name = escape(&text::name(&t.name));
        text::accelerator_of(t).map_or(name.clone(), |a| format!("{name}, {a}"))
    };
    let heads: Vec<String> = analysis.targets.iter().map(head).collect();
    let _ = writeln!(out, "| | {} |", heads.join(" | "));
    let _ = writeln!(out, "|:--|{}", "--:|".repeat(heads.len()));
    let mut row = |label: &str, cell: &dyn Fn(&TargetAnalysis) -> String| {
        let cells: Vec<String> = analysis.targets.iter().map(cell).collect();
        if cells.iter().any(|c| c != NOTHING) {
            let _ = writeln!(out, "| {label} | {} |", cells.join(" | "));
        }
    };
    row("samples ok, failed, timed out", &|t| {
        format!("{}, {}, {}", t.counts.ok, t.counts.failed, t.counts.timed_out)
    });
    let baseline = analysis.baseline.as_deref().map(|b| escape(&text::name(b)));
    let baseline = baseline.unwrap_or_else(|| "baseline".into());
    for metric in Metric::ALL {
        row(&format!("{} `{}`", metric.row().label, metric.name()), &|t| figure(t, metric));
        if metric.row().ratio == Ratio::Everywhere {
            row(&format!("… times {baseline}"), &|t| ratio(t, metric));
        }
    }
}

fn figure(target: &TargetAnalysis, metric: Metric) -> String {
    let Some(figure) = target.figure(metric) else { return NOTHING.into() };
    let unit = metric.unit();
    let interval = text::interval(unit, figure.median, figure.interval.as_ref());
    format!("{} {}", text::of(metric, figure.median), escape(&interval))
}

fn ratio(target: &TargetAnalysis, metric: Metric) -> String {
    match target.figure(metric).map(|f| &f.against) {
        Some(RelativeTo::Ratio(r)) => {
            let interval = text::times_interval(r.interval.as_ref());
            format!("**{}** {}", text::times(r.estimate), escape(&interval))
        }
        Some(RelativeTo::Baseline) => "1".into(),
        _ => NOTHING.into(),
    }
}

fn judged(out: &mut String, analysis: &Analysis) {
    if analysis.claims.is_empty() {
        return;
    }
    let _ = writeln!(out, "## Claims\n");
    for claim in &analysis.claims {
        let says = escape(&text::clean(&claim.says, 200));
        let about = escape(&claims::about(claim, analysis));
        let finding = escape(&claims::finding(claim, analysis));
        let _ = writeln!(out, "- **{}**: {says} ({about}): {finding}", claim.verdict.word());
    }
    let _ = writeln!(out, "\n## Figures\n");
}

/// The instances' isolation from their host.
fn isolation(out: &mut String, results: &Results, analysis: &Analysis) {
    let rows = isolation::rows(results);
    if rows.is_empty() {
        return;
    }
    let _ = writeln!(out, "\n## Isolation\n");
    let heads: Vec<String> = analysis.targets.iter().map(|t| escape(&text::name(&t.name))).collect();
    let _ = writeln!(out, "| seen from inside | {} | |", heads.join(" | "));
    let _ = writeln!(out, "|:--|{}:--|", ":--|".repeat(heads.len()));
    for row in rows {
        let cells: Vec<String> = row.cells.iter().map(|cell| escape(cell)).collect();
        let _ = writeln!(out, "| {} | {} | {} |", row.label, cells.join(" | "), escape(row.about));
    }
}

fn about(out: &mut String, results: &Results) {
    let (run, host) = (&results.run, &results.host);
    let cpu = host.processor().unwrap_or_else(|| "unknown CPU".into());
    let line = format!(
        "Run {}, {}, seed {}, bootrace {}. Host: {} × {cpu}, Linux {}. Image: {}, {}.",
        run.id,
        run.started_at,
        run.seed,
        run.bootrace_version,
        host.cpus,
        host.kernel_release,
        text::image(&results.image),
        crate::analysis::short(&results.image.digest),
    );
    let _ = writeln!(out, "\n{}", escape(&text::clean(&line, 600)));
}
