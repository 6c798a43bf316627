//! The host: its properties, its other activity, and the effect of `--tune`.

use maud::{Markup, html};

use super::super::text::{self, NOTHING};
use crate::{
    analysis::{Unit, is_measured, median, others_cpus},
    kind::Program,
    sample::{Frequency, Host, Interference, Noise, Results, Sample},
};

pub fn section(results: &Results) -> Markup {
    html! {
        section #host {
            h2 { "The host" }
            (about(&results.host))
            (during(results))
        }
    }
}

/// Properties, settings, and other activity before and after.
pub fn about(host: &Host) -> Markup {
    html! {
        dl.facts.wide {
            @for (what, value) in facts(host) { div { dt { (what) } dd { (value) } } }
        }
        (mitigations(host))
        (tuned(host))
        h3 { "Other activity before and after" }
        div.scroll tabindex="0" role="region" aria-label="The host's noise" {
            table.plain {
                thead { tr { th scope="col" { } th scope="col" { "before" } th scope="col" { "after" } } }
                tbody {
                    @for (what, value) in NOISE {
                        tr {
                            th scope="row" { (what) }
                            td { (value(&host.noise_before)) }
                            td { (host.noise_after.as_ref().map_or(NOTHING.into(), value)) }
                        }
                    }
                }
            }
        }
    }
}

type Reading = (&'static str, fn(&Noise) -> String);

const NOISE: [Reading; 5] = [
    ("load, 1 minute", |n| n.load_1m.map_or(NOTHING.into(), |v| format!("{v:.2}"))),
    ("waiting for CPU (PSI some, 10 s)", |n| percent(n.psi_cpu_some_avg10)),
    ("waiting for disk", |n| percent(n.psi_io_some_avg10)),
    ("waiting for memory", |n| percent(n.psi_memory_some_avg10)),
    ("stolen by a hypervisor since boot", |n| {
        n.steal_ns.map_or(NOTHING.into(), |v| text::value(Unit::Time, v as f64))
    }),
];

/// A row of the table of samples' windows: label, reading of a sample, and format.
type Column = (&'static str, fn(&Sample) -> Option<f64>, fn(f64) -> String);

/// Readings of each sample's window; see [`Interference`].
const DURING: [Column; 10] = [
    ("CPUs that other processes kept busy", others_cpus, |v| format!("{v:.2}")),
    ("stolen, of one CPU", |s| share(s, |n| n.steal_ns), fraction),
    ("waiting for CPU (PSI some)", |s| share(s, |n| n.psi_cpu_ns), fraction),
    ("waiting for disk", |s| share(s, |n| n.psi_io_ns), fraction),
    ("waiting for memory", |s| share(s, |n| n.psi_memory_ns), fraction),
    ("throttled by heat, times", |s| Some(s.interference?.thermal_throttles? as f64), |v| format!("{v:.0}")),
    ("throttled by a quota", |s| share(s, |n| n.quota_throttled_ns), fraction),
    (
        "swapped pages",
        |s| Some(s.interference?.swapped_in_pages? as f64 + s.interference?.swapped_out_pages? as f64),
        |v| format!("{v:.0}"),
    ),
    ("major faults", |s| Some(s.interference?.major_faults? as f64), |v| format!("{v:.0}")),
    ("clock rate at its end", |s| Some(s.interference?.cpu_khz? as f64), |v| format!("{:.2} GHz", v / 1e6)),
];

fn share(sample: &Sample, of: fn(&Interference) -> Option<u64>) -> Option<f64> {
    let noise = sample.interference.as_ref().filter(|noise| noise.window_ns > 0)?;
    Some(of(noise)? as f64 / noise.window_ns as f64)
}

fn fraction(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

/// Activity during samples, by target: the median and the range.
fn during(results: &Results) -> Markup {
    let reported = |target: &str, (_, of, shown): &Column| {
        let good = results.samples.iter().filter(|s| s.target == target && is_measured(s));
        let values = median::sorted(&good.filter_map(of).collect::<Vec<_>>());
        let (Some(low), Some(high)) = (values.first(), values.last()) else { return NOTHING.to_owned() };
        let middle = median::of_sorted(&values).map_or(NOTHING.into(), shown);
        format!("{middle} ({} to {})", shown(*low), shown(*high))
    };
    if results.samples.iter().all(|s| s.interference.is_none()) {
        return html! {};
    }
    html! {
        h3 { "Other activity during samples" }
        p.note { "Median (lowest to highest), from request to stop. Waiting includes the instance itself." }
        div.scroll tabindex="0" role="region" aria-label="The host's noise during samples" {
            table.plain {
                thead { tr {
                    th scope="col" { }
                    @for (i, target) in results.targets.iter().enumerate() {
                        th scope="col" class={ "t" (i) } { (text::name(&target.name)) }
                    }
                } }
                tbody {
                    @for column in &DURING {
                        tr {
                            th scope="row" { (column.0) }
                            @for target in &results.targets { td { (reported(&target.name, column)) } }
                        }
                    }
                }
            }
        }
    }
}

fn percent(value: Option<f64>) -> String {
    value.map_or(NOTHING.into(), |v| format!("{v:.1} %"))
}

fn facts(host: &Host) -> Vec<(&'static str, String)> {
    let word = |v: &Option<String>| v.as_deref().map_or("unknown".to_owned(), |v| text::clean(v, 120));
    let switch = |v: Option<bool>| v.map_or("unknown", |on| if on { "on" } else { "off" }).to_owned();
    let size = |v: u64| if v == 0 { "none".to_owned() } else { text::value(Unit::Size, v as f64) };
    let or_nothing = |text: String| if text.is_empty() { "unknown".to_owned() } else { text };
    let mut facts = vec![
        ("CPU", format!("{} × {}", host.cpus, word(&host.processor()))),
        ("clock rate", or_nothing(frequencies(host))),
        ("microcode", word(&host.microcode)),
        ("NUMA nodes", number(host.numa_nodes.map(u64::from))),
        ("memory", size(host.memory_bytes)),
        ("swap", format!("{}{}", size(host.swap_bytes), swap(host))),
        ("name", word(&host.hostname)),
        ("system", word(&host.os)),
        ("kernel", text::clean(&host.kernel_release, 120)),
        ("boot id", text::clean(&host.boot_id, 60)),
        ("itself virtual", word(&host.virtualised)),
        ("nested virtualisation", switch(host.nested)),
        ("clock source", word(&host.clock_source)),
        ("CPU governor", word(&host.governor)),
        ("turbo", switch(host.turbo)),
        ("SMT", switch(host.smt)),
        ("same-page merging (KSM)", format!("{}, {} pages merged", switch(host.ksm), number(host.ksm_pages))),
        ("transparent huge pages", word(&host.thp)),
        ("other containers", number(host.other_containers.map(u64::from))),
        ("other VMs", number(host.other_vms.map(u64::from))),
        ("cgroup", format!("v{}", host.cgroup_version)),
    ];
    let programs = Program::ALL.into_iter();
    facts.extend(programs.filter_map(|p| Some((p.title(), text::clean(host.version(p)?, 120)))));
    facts
}

fn number(value: Option<u64>) -> String {
    value.map_or("unknown".into(), |n| n.to_string())
}

/// "8 CPUs: 0.80 to 5.00 GHz, 3.50 GHz now", and the same for other ranges.
fn frequencies(host: &Host) -> String {
    let ghz = |khz: u64| format!("{:.2} GHz", khz as f64 / 1e6);
    let one = |f: &Frequency| {
        let range = f.min_khz.zip(f.max_khz).map(|(min, max)| format!("{} to {}", ghz(min), ghz(max)));
        let now = f.now_khz.map(|khz| format!("{} now", ghz(khz)));
        let known: Vec<String> = range.into_iter().chain(now).collect();
        format!("{} CPUs: {}", f.cpus, if known.is_empty() { "unknown".into() } else { known.join(", ") })
    };
    host.frequencies.iter().take(8).map(one).collect::<Vec<_>>().join("; ")
}

fn swap(host: &Host) -> String {
    let used = host.swap_used_bytes.filter(|_| host.swap_bytes > 0);
    let used = used.map(|used| format!(", {} used", text::value(Unit::Size, used as f64)));
    used.unwrap_or_default() + &host.swappiness.map(|s| format!(", swappiness {s}")).unwrap_or_default()
}

/// Settings that `--tune` found and changed.
fn tuned(host: &Host) -> Markup {
    let Some(settings) = &host.tuned else { return html! {} };
    let word = |v: &Option<String>| v.as_deref().map_or(NOTHING.into(), |v| text::clean(v, 120));
    html! {
        h3 { "Tuned for the run (--tune), and restored afterwards" }
        div.scroll tabindex="0" role="region" aria-label="What was tuned" {
            table.plain {
                thead { tr { @for head in ["setting", "found", "set", "why not"] { th scope="col" { (head) } } } }
                tbody {
                    @for setting in settings.iter().take(16) {
                        tr {
                            th scope="row" { (text::clip(&setting.name, 40)) }
                            td { (word(&setting.found)) }
                            td { (word(&setting.set)) }
                            td.words { (word(&setting.why_not)) }
                        }
                    }
                }
            }
        }
    }
}

fn mitigations(host: &Host) -> Markup {
    if host.mitigations.is_empty() {
        return html! {};
    }
    html! {
        details {
            summary { "Processor vulnerabilities and the kernel's mitigations" }
            dl.facts.wide {
                @for m in host.mitigations.iter().take(64) {
                    div { dt { (text::clip(&m.name, 60)) } dd { (text::clean(&m.state, 200)) } }
                }
            }
        }
    }
}
