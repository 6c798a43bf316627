//! Second starts: what each target's is, and which of the others it compares with.

use super::text;
use crate::sample::{Results, Target};

/// A sentence for each target that begins with something that was there already; none where all start cold.
pub fn sentences(results: &Results) -> Vec<String> {
    let second: Vec<&Target> = results.targets.iter().filter(|t| begins(t) != "cold").collect();
    second.iter().map(|target| sentence(target, &results.targets)).collect()
}

fn sentence(target: &Target, all: &[Target]) -> String {
    let name = |target: &Target| text::clip(&target.name, 40);
    let what = match (target.kind.as_str(), begins(target)) {
        ("libvirt", "restart") => {
            "a VM that ran until ready and was powered off, booted again from its own disk"
        }
        ("libvirt", "restore") => {
            "a VM that ran until ready and was saved to a file, restored with its memory"
        }
        (_, "restart") => {
            "a container that ran until ready and ended, started again with its own file system"
        }
        (_, "restore") => "a container that ran until ready and was frozen with its memory, resumed",
        (_, _) => "a second start of a kind that this version doesn't know",
    };
    let pairs = all.iter().filter(|other| begins(other) == begins(target) && other.kind != target.kind);
    let pairs: Vec<String> = pairs.map(name).collect();
    let with = match pairs.as_slice() {
        [] => "nothing in this run: every other kind of target here starts in another way".into(),
        some => some.join(", "),
    };
    let once_more = match begins(target) {
        "restore" => "; ready is when its workload is found ready again",
        _ => "",
    };
    format!("{}: {what}{once_more}. It compares with {with}.", name(target))
}

/// As scenarios have it; results of versions that knew none have nothing else.
fn begins(target: &Target) -> &str {
    target.options.get("start").and_then(|start| start.as_str()).unwrap_or("cold")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::Accelerator;

    fn target(kind: &str, name: &str, start: Option<&str>) -> Target {
        let options = start.map_or(serde_json::json!({}), |start| serde_json::json!({ "start": start }));
        let accelerator_reason = None;
        Target {
            name: name.into(),
            kind: kind.into(),
            accelerator: Accelerator::None,
            accelerator_reason,
            kvm: None,
            options,
        }
    }

    #[test]
    fn a_second_start_compares_with_its_like_of_another_kind() {
        let all = [
            target("native", "native", None),
            target("docker", "again", Some("restart")),
            target("docker", "thawed", Some("restore")),
            target("libvirt", "reboot", Some("restart")),
            target("libvirt", "vm", Some("cold")),
        ];
        assert_eq!(begins(&all[0]), "cold");
        let again = sentence(&all[1], &all);
        assert!(again.starts_with("again: a container that ran until ready and ended"), "{again}");
        assert!(again.ends_with("It compares with reboot."), "{again}");
        let thawed = sentence(&all[2], &all);
        assert!(thawed.contains("compares with nothing in this run"), "{thawed}");
    }
}
