//! How it was measured and what each figure means, in plain words.

use std::collections::BTreeSet;

use maud::{Markup, html};

use super::super::{second, text};
use crate::{
    analysis::{Analysis, Unit},
    metric::{self, Metric},
    sample::{Results, TargetRecord},
};

pub fn section(results: &Results, analysis: &Analysis) -> Markup {
    let sampling = |key: &str| {
        let value = results.run.scenario.get("sampling").and_then(|s| s.get(key));
        value.map_or("unknown".into(), |v| match v.as_str() {
            Some(s) => text::clip(s, 20),
            None => text::clip(&v.to_string(), 20),
        })
    };
    let density = |key: &str| {
        let value = results.run.scenario.get("density").and_then(|s| s.get(key)).and_then(|v| v.as_str());
        value.map_or("unknown".into(), |v| text::clip(v, 20))
    };
    let rounds = !text::is_density_alone(results);
    let ready = results.run.scenario.get("workload").and_then(|w| w.get("ready"));
    let tcp = ready.is_some_and(|r| r.get("tcp").is_some());
    html! {
        section #method {
            h2 { "How it was measured" }
            ul {
                li { "The same workload, from one root file system, by one agent, on every target, under the same CPU and memory limits." }
                @if rounds { li { "In rounds: each has every target once, in a random order that the seed decides, so that what the host does meanwhile hits all targets alike." } }
                li { "One clock: every moment is taken on the host (CLOCK_MONOTONIC), never by a guest; guests send events and durations only." }
                @if !results.density.is_empty() {
                    li { "How many at once: each target in turn was filled, one instance at a time, and read " (density("settle"))
                        " after the last was ready, CPU over a window of " (sampling("idle")) ". What one more costs is a mean, with Student's interval." }
                }
                li { "One set of readers for memory and CPU, on the host, for all targets. Of a single instance memory is read " (sampling("settle"))
                    " after ready; idle CPU over a window of " (sampling("idle")) ". An instance that is not ready within "
                    (sampling("timeout")) " counts as timed out." }
                @if tcp { li { "Ready means that its port accepts a connection. A listening socket gives no event, so the agent tries again and "
                    "again: resolution 1 ms or twenty times what a try costs, whichever is more." } }
                li { (cache(results)) }
                @for sentence in second::sentences(results) { li { "Second start. " (sentence) } }
                @if let Some(cpus) = bound(results) { li { "Bound to CPU " (cpus) " of the host: the bare process, the container and the VM's vCPUs, all "
                    "to the same ones. The engine's processes (shim, QEMU's I/O threads, daemons) are not bound." } }
                @if let Some(ab) = &results.run.ab {
                    li { "This is the " (ab.side.name()) " side of the A/B " code { (text::clip(&ab.id, 80)) } ": it took turns with the other side, whose sample of "
                        "the same round and target was taken right before or after, which of them the seed decides. The run's time is both sides' together." }
                }
                @for target in results.targets.iter().filter(|target| stock_and_cold(target)) {
                    li { code { (text::clip(&target.name, 40)) } " boots a stock cloud image for the first time, as its users do: what cloud-init takes to set up "
                        "a new instance, and to bring the agent in by its seed, is part of the start-up." }
                }
                li { "Failed instances are counted and kept, never tried again. Warm-up rounds are kept and left out of the figures." }
                @if let (true, Some(wall), Some(measuring)) = (rounds, results.run.wall_ns, results.run.measuring_ns) {
                    li { "The rounds took " (text::value(Unit::Time, wall as f64)) ", of which "
                        (format!("{:.0} %", measuring as f64 / wall.max(1) as f64 * 100.0))
                        " was start-up, settling, idle window, work and teardown of samples"
                        @if let Some(dropping) = results.run.cache_drop_ns {
                            ", and " (format!("{:.0} %", dropping as f64 / wall.max(1) as f64 * 100.0)) " dropping the page cache"
                        }
                        "." }
                }
            }
            h3 { "How sure it is" }
            ul {
                li {
                    "Figures are medians. Brackets hold the exact order-statistic interval of the median (Conover 1999, §3.2), "
                    "made for " (format!("{:.0} %", analysis.level * 100.0)) "; beside it stands the coverage that it really has, "
                    "from the binomial distribution. Below 8 samples no interval reaches 99 %, so the whole range is shown with its "
                    "own coverage; below 6 there is none."
                }
                li {
                    "Ratios are Hodges-Lehmann estimates on logarithms over pairs of one round; their interval comes from the exact "
                    "distribution of Wilcoxon's signed-rank statistic (Hollander, Wolfe and Chicken 2014, §3.2 and 3.3). A ratio of medians can differ a little."
                }
                li { "An outlier has a modified z-score beyond 3.5 (Iglewicz and Hoaglin 1993). It is flagged and stays in every figure." }
                li { "Drift is judged by Mann and Kendall's exact test with Theil and Sen's slope; it is told above 5 % with p < 0.01." }
                li { "All of it describes this run on this host. Runs differ more among themselves than samples within one." }
            }
            h3 { "What each figure means" }
            dl.meanings { @for row in metric::TABLE.iter().filter(|row| is_shown(row.metric, analysis)) { div { dt { (row.label) " " code { (row.name) } } dd { (row.meaning) } } } }
        }
    }
}

/// Whether this run has a figure of it.
fn is_shown(metric: Metric, analysis: &Analysis) -> bool {
    let density = analysis.density.iter().any(|density| density.figure(metric).is_some());
    density || analysis.targets.iter().any(|target| target.figure(metric).is_some())
}

fn stock_and_cold(target: &TargetRecord) -> bool {
    target.options.get("seed").is_some() && !target.start().is_second()
}

fn cache(results: &Results) -> String {
    let cache = text::PageCache::of(results);
    let more = match cache {
        text::PageCache::Cold => {
            "Written back and dropped (drop_caches) before anything of the sample was prepared, so outside of all figures. What \
             running programs have mapped stays, such as the engines' own code; so does what a hypervisor below this host caches."
        }
        text::PageCache::Warm => "A first start from a cold disk is slower, and in no figure.",
        text::PageCache::AsFound => {
            "The first samples may have read from the disk what later ones found in memory."
        }
    };
    format!("{} {more}", cache.sentence())
}

/// The CPUs that the targets' options name, as in "0-1"; targets that differ are all told.
pub(super) fn bound(results: &Results) -> Option<String> {
    let cpus = results.targets.iter().filter_map(|t| t.options.get("cpus")?.as_str());
    let cpus: BTreeSet<String> = cpus.map(|c| text::clip(c, 40)).collect();
    (!cpus.is_empty()).then(|| cpus.into_iter().collect::<Vec<_>>().join(" or "))
}
