//! Restarts and resumes: how each target starts, and which other targets it is comparable with.

use super::text;
use crate::sample::{Results, TargetRecord};

/// A sentence for each target whose instances restart or resume; empty where all are created.
pub fn sentences(results: &Results) -> Vec<String> {
    let restarts = results.targets.iter().filter(|target| target.start().needs_initial_start());
    restarts.map(|target| sentence(target, &results.targets)).collect()
}

fn sentence(target: &TargetRecord, all: &[TargetRecord]) -> String {
    let (name, start) = (|target: &TargetRecord| text::name(&target.name), target.start());
    let what = target.kind.started(start).unwrap_or("a start that this kind of target does not support");
    let pairs = all.iter().filter(|other| other.start() == start && other.kind != target.kind);
    let pairs: Vec<String> = pairs.map(name).collect();
    let with = match pairs.as_slice() {
        [] => "no other target in this run: the others start in another way".into(),
        some => some.join(", "),
    };
    let once_more =
        if start.keeps_memory() { "; ready means that the agent finds the workload ready again" } else { "" };
    format!("{}: {what}{once_more}. It is comparable with {with}.", name(target))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        kind::{Kind, Start},
        sample::Accelerator,
    };

    fn target(kind: Kind, name: &str, start: Option<&str>) -> TargetRecord {
        let options = start.map_or(serde_json::json!({}), |start| serde_json::json!({ "start": start }));
        let accelerator_reason = None;
        TargetRecord {
            name: name.into(),
            kind,
            accelerator: Accelerator::None,
            accelerator_reason,
            kvm: None,
            options,
        }
    }

    #[test]
    fn a_restart_compares_with_a_restart_of_another_kind() {
        let all = [
            target(Kind::Native, "native", None),
            target(Kind::Docker, "again", Some("restart")),
            target(Kind::Docker, "thawed", Some("unpause")),
            target(Kind::Libvirt, "reboot", Some("restart")),
            target(Kind::Libvirt, "vm", Some("create")),
        ];
        assert_eq!(all[0].start(), Start::Create);
        let again = sentence(&all[1], &all);
        assert!(again.starts_with("again: a container that ran until ready and ended"), "{again}");
        assert!(again.ends_with("It is comparable with reboot."), "{again}");
        let thawed = sentence(&all[2], &all);
        assert!(thawed.contains("comparable with no other target in this run"), "{thawed}");
    }
}
