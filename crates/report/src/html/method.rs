//! The method of measurement and the meaning of each figure.

use std::collections::BTreeSet;

use maud::{Markup, html};

use super::super::{restarts, text};
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
                li { "One agent starts the same workload from one root file system on every target, under the same CPU and memory limits." }
                @if rounds { li { "Samples come in rounds. A round has every target once, in a random order from the seed: it is a block of a randomised complete block design, so that disturbances by the host affect all targets alike." } }
                li { "One clock: the host takes every timestamp (CLOCK_MONOTONIC); guests send only events and durations." }
                @if !results.density.is_empty() {
                    li { "Density: each target in turn was filled, one instance at a time. Memory was read " (density("settle"))
                        " after the last instance was ready, CPU over a window of " (sampling("idle")) ". The cost of one more instance is a mean, with Student's interval." }
                }
                li { "The same readers on the host measure memory and CPU of all targets. Memory of a single instance is read " (sampling("settle"))
                    " after ready, idle CPU over a window of " (sampling("idle")) ". An instance that is not ready within "
                    (sampling("timeout")) " counts as timed out." }
                @if tcp { li { "Ready means that its port accepts a connection. A listening socket gives no event, so the agent polls it: "
                    "the resolution is 1 ms or twenty times the cost of one attempt, whichever is longer." } }
                li { (cache(results)) }
                @for sentence in restarts::sentences(results) { li { "Restart or resume. " (sentence) } }
                @if let Some(cpus) = bound(results) { li { "The bare process, the container and the VM's vCPUs are bound to the same CPU " (cpus) " of the host. "
                    "The engine's processes (shim, QEMU's I/O threads, daemons) are not bound." } }
                @if let Some(ab) = &results.run.ab {
                    li { "This is the " (ab.side.name()) " side of the interleaved A/B " code { (text::clip(&ab.id, 80)) } ": the other side's sample of the same "
                        "round and target ran directly before or after, in an order from the seed. The duration of the run includes both sides." }
                }
                @for target in results.targets.iter().filter(|target| stock_and_cold(target)) {
                    li { code { (text::name(&target.name)) } " boots a stock cloud image for the first time, as its users do: the start-up includes the time "
                        "that cloud-init needs to set up a new instance and to install the agent from its seed." }
                }
                li { "Failed instances are recorded, counted and never repeated. Warm-up rounds are recorded and excluded from all statistics." }
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
            h3 { "Statistics" }
            ul {
                li {
                    "Figures are medians. Brackets contain the exact order-statistic interval of the median (Conover 1999, §3.2) "
                    "for a level of " (format!("{:.0} %", analysis.level * 100.0)) ", with its actual coverage from the binomial "
                    "distribution. Below 8 samples no interval reaches 99 %: the report shows the whole range with its coverage. "
                    "Below 6 samples there is no interval."
                }
                li {
                    "Ratios are Hodges-Lehmann estimates on logarithms over the pairs of each round; their interval comes from the exact "
                    "distribution of Wilcoxon's signed-rank statistic (Hollander, Wolfe and Chicken 2014, §3.2 and 3.3). A ratio of medians can differ a little."
                }
                li { "An outlier has a modified z-score beyond 3.5 (Iglewicz and Hoaglin 1993). Every figure includes it." }
                li { "Drift is judged by Mann and Kendall's exact test with Theil and Sen's slope; a caveat reports it above 5 % with p < 0.01." }
                li { "All figures describe this run on this host. Runs differ more from each other than samples within one run." }
            }
            h3 { "What each figure means" }
            dl.meanings { @for row in metric::TABLE.iter().filter(|row| is_shown(row.metric, analysis)) { div { dt { (row.label) " " code { (row.name) } } dd { (row.meaning) } } } }
        }
    }
}

/// Whether this run has a figure of a metric.
fn is_shown(metric: Metric, analysis: &Analysis) -> bool {
    let density = analysis.density.iter().any(|density| density.figure(metric).is_some());
    density || analysis.targets.iter().any(|target| target.figure(metric).is_some())
}

fn stock_and_cold(target: &TargetRecord) -> bool {
    target.options.get("seed").is_some() && !target.start().needs_initial_start()
}

fn cache(results: &Results) -> String {
    let cache = text::PageCache::of(results);
    let more = match cache {
        text::PageCache::Cold => {
            "bootrace writes it back and drops it (drop_caches) before it prepares the sample, outside of all figures. Pages that \
             running programs map stay, such as the engines' own code, and so does the cache of a hypervisor below this host."
        }
        text::PageCache::Warm => "A first start from a cold disk is slower; no figure includes one.",
        text::PageCache::AsFound => {
            "The first samples may have read data from the disk that later ones found in memory."
        }
    };
    format!("{} {more}", cache.sentence())
}

/// The CPUs in the targets' options, for example "0-1"; all of them where targets differ.
pub(super) fn bound(results: &Results) -> Option<String> {
    let cpus = results.targets.iter().filter_map(|t| t.options.get("cpus")?.as_str());
    let cpus: BTreeSet<String> = cpus.map(|c| text::clip(c, 40)).collect();
    (!cpus.is_empty()).then(|| cpus.into_iter().collect::<Vec<_>>().join(" or "))
}
