//! Origin of the figures: identity, targets, failures and scenario.

use std::collections::BTreeSet;

use maud::{Markup, html};

use super::{
    super::text::{self, NOTHING},
    SENTENCE,
};
use crate::{
    analysis::{Analysis, Kernel, Seen, Unit, short},
    sample::{Outcome, Results},
};

/// Longest shown scenario, in characters.
const SCENARIO: usize = 32 * 1024;
/// Number of failures shown in full.
const FAILURES: usize = 50;

pub fn identity(results: &Results, analysis: &Analysis) -> Markup {
    let identities = &analysis.identities;
    let agree = identities.disagreements.is_empty() && identities.targets.iter().any(|t| t.with_identity > 0);
    html! {
        section #identity {
            h2 { "Same image, agent and workload?" }
            @if agree {
                p.agree {
                    "Yes: the agents in all instances report the same image, agent and workload."
                    @if !results.density.is_empty() {
                        " Density instances report after the last reading; instances of bursts don't report."
                    }
                }
            } @else {
                p { "Not proven:" }
                ul.caveats { @for d in &identities.disagreements { li { (text::clean(d, SENTENCE)) } } }
            }
            div.scroll tabindex="0" role="region" aria-label="Identity of each target" {
                table.plain {
                    thead { tr { @for head in ["target", "image", "agent", "workload", "kernel", "boot id"] { th scope="col" { (head) } } } }
                    tbody {
                        @for (i, seen) in identities.targets.iter().enumerate() {
                            tr {
                                th scope="row" class={ "t" (i) } {
                                    (text::name(&seen.target))
                                    small { (seen.with_identity) " of " (seen.samples) " instances" }
                                }
                                td { (digests(&seen.image_digests)) }
                                td { (digests(&seen.agent_digests)) }
                                td { (digests(&seen.workload_digests)) }
                                td { (list(&seen.kernel_releases)) }
                                td { (boot(seen)) }
                            }
                        }
                    }
                }
            }
            dl.facts.wide {
                div { dt { "image built" } dd { (text::image(&results.image)) ", " code { (text::clip(&results.image.digest, 80)) } } }
                div { dt { "from" } dd { (text::clean(&results.image.source, 300)) } }
                @if results.image.fallback {
                    div { dt { "why a fallback" } dd { (text::clean(results.image.fallback_reason.as_deref().unwrap_or("no reason was recorded"), SENTENCE)) } }
                }
                @if !results.image.packages.is_empty() {
                    div { dt { "packages" } dd { (text::clean(&results.image.packages.join(" "), SENTENCE)) } }
                }
                @if let Some(kernel) = &results.image.kernel { div { dt { "kernel in the image" } dd { (text::clip(kernel, 80)) } } }
                @if let Some(tar) = results.image.tar_bytes { div { dt { "size as tar" } dd { (text::value(Unit::Size, tar as f64)) } } }
                @if let Some(disk) = results.image.disk_bytes { div { dt { "size as VM disk" } dd { (text::value(Unit::Size, disk as f64)) } } }
            }
            (targets(results))
        }
    }
}

fn targets(results: &Results) -> Markup {
    html! {
        h3 { "Targets" }
        div.scroll tabindex="0" role="region" aria-label="Targets and their options" {
            table.plain {
                thead { tr { @for head in ["target", "kind", "accelerator", "options"] { th scope="col" { (head) } } } }
                tbody {
                    @for (i, target) in results.targets.iter().enumerate() {
                        tr {
                            th scope="row" class={ "t" (i) } { (text::name(&target.name)) }
                            td { (target.kind) }
                            td.words {
                                (text::on(target.accelerator, target.kvm.map(|kvm| kvm.degree)).unwrap_or("none, not a VM"))
                                @if let Some(reason) = &target.accelerator_reason { small { (text::clean(reason, SENTENCE)) } }
                            }
                            td.words { code { (text::clean(&target.options.to_string(), SENTENCE)) } }
                        }
                    }
                }
            }
        }
    }
}

fn digests(digests: &BTreeSet<String>) -> Markup {
    html! {
        @if digests.is_empty() { (NOTHING) }
        @for digest in digests.iter().take(3) { code title=(text::clip(digest, 80)) { (text::clip(short(digest), 16)) } " " }
        @if digests.len() > 3 { small { (digests.len()) " different" } }
    }
}

fn list(all: &BTreeSet<String>) -> Markup {
    let some: Vec<String> = all.iter().take(3).map(|s| text::clip(s, 60)).collect();
    html! { @if some.is_empty() { (NOTHING) } @else { (some.join(", ")) } }
}

fn boot(seen: &Seen) -> Markup {
    let kernel = match seen.kernel {
        Kernel::SharedWithHost => "the host's: kernel shared",
        Kernel::Own => "not the host's: own kernel",
        Kernel::Unclear => "unclear",
    };
    html! { (kernel) small { (seen.boot_ids.len()) " seen" } }
}

pub fn failures(results: &Results) -> Markup {
    let bad: Vec<_> = results.samples.iter().enumerate().filter(|(_, s)| s.outcome != Outcome::Ok).collect();
    html! {
        section #failures {
            h2 { "Failed samples" }
            @if bad.is_empty() && super::density::failures(results).is_empty() { p { "None: every instance became ready." } }
            @for (index, sample) in bad.iter().take(FAILURES) {
                article.failure {
                    p {
                        strong { (text::name(&sample.target)) }
                        ", sample " (index + 1) ", round " (sample.round)
                        @if sample.warmup { " (warm-up)" }
                        ": " @if sample.outcome == Outcome::TimedOut { "timed out" } @else { "failed" }
                    }
                    pre { (text::clean_lines(sample.error.as_deref().unwrap_or("no reason was recorded"), 4000)) }
                }
            }
            @for (what, error) in super::density::failures(results).iter().take(FAILURES) {
                article.failure {
                    p { (what) }
                    pre { (text::clean_lines(error, 4000)) }
                }
            }
            @if bad.len() > FAILURES { p { "… and " (bad.len() - FAILURES) " more in results.json." } }
        }
    }
}

pub fn scenario(results: &Results) -> Markup {
    let run = &results.run;
    // TOML has no null: then the page shows JSON.
    let (form, shown) = match toml::to_string_pretty(&run.scenario) {
        Ok(toml) => ("TOML", toml),
        Err(_) => ("JSON", serde_json::to_string_pretty(&run.scenario).unwrap_or_default()),
    };
    let name =
        run.scenario.get("name").and_then(|n| n.as_str()).filter(|n| harmless(n)).unwrap_or("scenario");
    html! {
        section #scenario {
            h2 { "Repeat the run" }
            p { "The seed gives the same order of trials. For a scenario that bootrace ships:" }
            pre { "bootrace run " (name) " --seed " (run.seed) (options(results)) }
            p { "For any other scenario, save the text below as " code { (name) ".toml" } " and run that file:" }
            pre { "bootrace run " (name) ".toml --seed " (run.seed) }
            details {
                summary { "The scenario with every default filled in, as " (form) }
                pre { (text::clean_lines(&shown, SCENARIO)) }
            }
        }
    }
}

/// Command-line options of the run, as resolved; names that are unsafe in a shell are left out.
fn options(results: &Results) -> String {
    let sampling = results.run.scenario.get("sampling");
    let number = |key| sampling.and_then(|s| s.get(key)).and_then(|n| n.as_u64());
    let mut options = String::new();
    for key in ["samples", "warmup"] {
        options.extend(number(key).map(|n| format!(" --{key} {n}")));
    }
    let targets: Vec<&str> = results.targets.iter().map(|t| t.name.as_str()).collect();
    if !targets.is_empty() && targets.iter().all(|t| harmless(t)) {
        options.push_str(&format!(" --targets {}", targets.join(",")));
    }
    if results.host.tuned.is_some() {
        options.push_str(" --tune");
    }
    options
}

/// Whether a name is safe to paste into a shell.
fn harmless(name: &str) -> bool {
    let fit = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    name.len() <= 64 && name.starts_with(|c: char| c.is_ascii_alphanumeric()) && name.chars().all(fit)
}
