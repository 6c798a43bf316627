//! Checks that every instance ran the same image, agent and workload, and whose kernel it ran on.

use std::collections::BTreeSet;

use crate::{
    kind::HOST_KERNEL_RUNTIMES,
    sample::{Identity, Outcome, Results},
};

/// Owner of the kernel that a target's instances ran on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kernel {
    /// Its boot id is the host's.
    SharedWithHost,
    /// Its boot id differs from the host's.
    Own,
    /// Instances of one target disagree, or none reported a boot id.
    Unclear,
}

/// Identity that the instances of one target reported: every distinct value of each field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Name of the target.
    pub target: String,
    /// Number of good samples, warm-ups included.
    pub samples: usize,
    /// Number of those samples with an identity.
    pub with_identity: usize,
    /// Digests of the root file system, sha256 in hex.
    pub image_digests: BTreeSet<String>,
    /// Digests of the agent's executable, sha256 in hex.
    pub agent_digests: BTreeSet<String>,
    /// Digests of the workload's executable, sha256 in hex.
    pub workload_digests: BTreeSet<String>,
    /// Command lines of the workload.
    pub argv: BTreeSet<Vec<String>>,
    /// Kernel releases, as `uname -r` prints them.
    pub kernel_releases: BTreeSet<String>,
    /// Contents of `/proc/sys/kernel/random/boot_id`.
    pub boot_ids: BTreeSet<String>,
    /// Derived from the boot ids.
    pub kernel: Kernel,
}

/// Evidence that the targets are comparable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identities {
    /// In the order of the results' targets.
    pub targets: Vec<Seen>,
    /// Sentences about each mismatch or missing identity; empty when all instances agree.
    pub disagreements: Vec<String>,
}

pub(super) fn identities(results: &Results) -> Identities {
    let targets: Vec<Seen> = results.targets.iter().map(|t| seen(results, &t.name)).collect();
    let disagreements = disagreements(results, &targets);
    Identities { targets, disagreements }
}

fn seen(results: &Results, target: &str) -> Seen {
    let good = results.samples.iter().filter(|s| s.target == target && s.outcome == Outcome::Ok);
    let samples = good.clone().count();
    let identities: Vec<&Identity> = good.filter_map(|s| s.identity.as_ref()).collect();
    let all = |field: fn(&Identity) -> Option<&String>| -> BTreeSet<String> {
        identities.iter().filter_map(|i| field(i).cloned()).collect()
    };
    let boot_ids = all(|i| Some(&i.boot_id));
    let own = identities.iter().filter(|i| i.boot_id != results.host.boot_id).count();
    let kernel = match (own, identities.len()) {
        (_, 0) => Kernel::Unclear,
        (0, _) => Kernel::SharedWithHost,
        (own, n) if own == n => Kernel::Own,
        _ => Kernel::Unclear,
    };
    Seen {
        target: target.to_owned(),
        samples,
        with_identity: identities.len(),
        image_digests: all(|i| i.image_digest.as_ref()),
        agent_digests: all(|i| i.agent_digest.as_ref()),
        workload_digests: all(|i| i.workload_digest.as_ref()),
        argv: identities.iter().map(|i| i.argv.clone()).collect(),
        kernel_releases: all(|i| Some(&i.kernel_release)),
        boot_ids,
        kernel,
    }
}

type Digests = fn(&Seen) -> &BTreeSet<String>;

fn disagreements(results: &Results, targets: &[Seen]) -> Vec<String> {
    let mut found = Vec::new();
    let digests: [(&str, Digests); 3] = [
        ("image", |s| &s.image_digests),
        ("agent", |s| &s.agent_digests),
        ("workload executable", |s| &s.workload_digests),
    ];
    for (what, of) in digests {
        let different: BTreeSet<&String> = targets.iter().flat_map(of).collect();
        if different.len() > 1 {
            let each: Vec<String> = targets
                .iter()
                .filter(|s| !of(s).is_empty())
                .map(|s| {
                    let short: Vec<&str> = of(s).iter().map(|d| short(d)).collect();
                    format!("{} {}", s.target, short.join(" and "))
                })
                .collect();
            found.push(format!("the {what} digest differs between instances: {}", each.join(", ")));
        }
        let without = targets.iter().filter(|s| s.with_identity > 0 && of(s).is_empty());
        found.extend(without.map(|s| format!("{} did not report its {what} digest", s.target)));
    }
    if targets.iter().flat_map(|s| &s.argv).collect::<BTreeSet<_>>().len() > 1 {
        found.push("the workload's arguments differ between instances".into());
    }
    let image = &results.image.digest;
    let other = |s: &&Seen| !s.image_digests.is_empty() && !s.image_digests.contains(image);
    found.extend(
        targets.iter().filter(other).map(|s| {
            format!("{} ran another image than the one that was built ({})", s.target, short(image))
        }),
    );
    let missing = targets.iter().filter(|s| s.with_identity < s.samples);
    found.extend(missing.map(|s| {
        format!(
            "{} of {}'s {} good samples have no identity",
            s.samples - s.with_identity,
            s.target,
            s.samples
        )
    }));
    found.extend(results.targets.iter().zip(targets).filter_map(|(t, s)| kernel_caveat(t, s)));
    found
}

/// A disagreement where a container or process has its own kernel, or a VM the host's.
fn kernel_caveat(target: &crate::sample::TargetRecord, seen: &Seen) -> Option<String> {
    let runtime = target.options.get("runtime").and_then(|runtime| runtime.as_str());
    let expected = match target.kind.row().kernel {
        // Other runtimes, such as kata and gVisor, put a kernel of their own below the container.
        crate::kind::Kernel::ByRuntime
            if !runtime.is_none_or(|name| HOST_KERNEL_RUNTIMES.contains(&name)) =>
        {
            return None;
        }
        crate::kind::Kernel::Host | crate::kind::Kernel::ByRuntime => Kernel::SharedWithHost,
        crate::kind::Kernel::Own => Kernel::Own,
    };
    if seen.with_identity == 0 || seen.kernel == expected {
        return None;
    }
    Some(match expected {
        Kernel::Own => format!("{} is a VM, but its kernel's boot id is the host's", seen.target),
        _ => format!("{} should share the host's kernel, but has another boot id", seen.target),
    })
}

/// The first 12 characters of a digest.
pub fn short(digest: &str) -> &str {
    digest.char_indices().nth(12).map_or(digest, |(end, _)| &digest[..end])
}
