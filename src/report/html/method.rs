//! How it was measured and what each figure means, in plain words.

use std::collections::BTreeSet;

use maud::{Markup, html};

use super::super::{second, text};
use crate::{
    analysis::{Analysis, Unit},
    sample::{Results, Target},
};

/// Each figure and what it means here.
const MEANINGS: [(&str, &str); 21] = [
    (
        "start-up",
        "From the moment just before the engine is asked to make the instance until the workload says that it is ready. \
         Native: before fork. docker: before the create call, with the image at hand. libvirt: before the instance's own disk is made.",
    ),
    (
        "engine",
        "The part of start-up until the engine's start call returned, or the agent inside spoke if that was earlier.",
    ),
    (
        "boot",
        "From there until the agent inside spoke. In a VM: firmware, kernel and initramfs. Native: the new process's exec, commonly \
         less than a millisecond. docker: 0 where the agent spoke before the start call returned, as it commonly does.",
    ),
    (
        "firmware, kernel, initrd, userspace, unit",
        "What the boot phase of a VM consists of. Firmware: the boot phase less the guest's uptime at the agent's first word, so QEMU, \
         firmware, boot loader, and of the kernel what unpacks it. Kernel: from its start until the initrd's first program. Initrd: from there \
         until systemd in the root file system, or until the agent spoke where it is that program. Userspace: from systemd's start until that of \
         the agent's unit. Unit: until the agent spoke. All but the first are durations by the guest's clock. They add up to boot; of a \
         container with systemd inside the last two begin with systemd, which is before the engine's start call returns.",
    ),
    (
        "launch",
        "From the agent's first word until ready: the workload itself. Engine, boot and launch add up to start-up exactly, in each sample.",
    ),
    ("teardown", "From asking it to stop until nothing of it is left."),
    (
        "memory footprint",
        "What the host would get back if the instance were gone, without page cache: anonymous and shared memory (PSS) of every \
         process that exists because of it, shim and QEMU included, and its cgroup's kernel memory.",
    ),
    ("memory overhead", "The footprint less the baseline's footprint of the same round."),
    (
        "engine's processes",
        "PSS of the processes that the engine runs for this instance alone: shim or QEMU. For a VM, the guest's memory is in QEMU.",
    ),
    ("workload's RSS", "Resident set of the workload as seen beside it; in a VM, by the guest's kernel."),
    (
        "page cache, apart",
        "Page cache charged to the instance's cgroup. The host can drop it, so it is in no other figure.",
    ),
    (
        "guest's page cache",
        "Page cache of a VM's own kernel, as the guest has it. The host can't tell it from the guest's other memory and gets it back \
         with the VM, so it is in the footprint.",
    ),
    (
        "seen inside",
        "CPU time of the work as its own kernel accounts for it; in a VM, what the host pays beyond it is virtualisation's cost.",
    ),
    ("CPU to start", "CPU time that the host spent from requested to ready, the engine's daemons included."),
    (
        "idle CPU",
        "CPU time that the host spent on the idle instance over a window after ready, without the engine's daemons, as a share of one core.",
    ),
    ("fixed work", "Wall time of the scenario's work command by the host's clock, once ready."),
    (
        "image on disk",
        "Allocated blocks of the image in the target's form: the unpacked tree, the layer in Docker's store (in containerd's \
         also the compressed one beside it), the VM's raw base disk. Every instance shares it.",
    ),
    (
        "instance on disk",
        "Allocated blocks of what exists for the instance alone, once settled: the upper and work directory of its overlay, with Docker's \
         init layer; for a VM its qcow2 overlay, after its kernel has written out what it held back.",
    ),
    (
        "making its disk",
        "Wall time of making the instance's own disk. docker: the create call; libvirt: the copy of an empty overlay; both are in start-up. \
         Native: the overlay's mount, before start-up.",
    ),
    (
        "first write",
        "Wall time by the host's clock of the first write of one page to a file of the image ([copy]), from before the open until it was \
         synced: overlayfs copies the whole file, qcow2 the clusters around the page. Whether the file is read from the disk for that is as \
         the page cache is: warm where warm-up rounds did the same before. The second write is to another page of the same file.",
    ),
    ("copied by a write", "How much the instance on disk grew by the first write."),
];

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
            dl.meanings { @for (word, meaning) in MEANINGS { div { dt { (word) } dd { (meaning) } } } }
        }
    }
}

fn stock_and_cold(target: &Target) -> bool {
    let start = target.options.get("start").and_then(|start| start.as_str());
    target.options.get("seed").is_some() && start.unwrap_or("cold") == "cold"
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
