//! bootrace is killed by SIGKILL at each step of a sample, and goes on by `--resume`.

use rustix::process::Signal;

use crate::case::{
    HELLO, IDLING, REMOVING, REQUESTED, Row, SAVING, SETTLING, STAGED, Step, Then, WORKING, all_hold,
};

/// A scenario in which every step lasts long enough that a fault at its event comes in it.
pub fn each_step_lasts(target: &str) -> String {
    format!(
        "[workload]\ncommand = [\"sh\", \"-c\", \"sleep 0.2; echo ready; exec sleep infinity\"]\nready = {{ line = \"ready\" }}\n\
         work = {{ command = [\"sleep\", \"0.3\"] }}\n[resources]\nmemory = \"256MiB\"\n\
         [sampling]\nsamples = 3\nwarmup = 0\nsettle = \"100ms\"\nidle = \"100ms\"\ntimeout = \"60s\"\n\
         [[target]]\nkind = \"{target}\"\n"
    )
}

const STEPS: [(&str, &[Step]); 3] = [
    ("native", &[REQUESTED, WORKING, SAVING]),
    ("docker", &[STAGED, REQUESTED, HELLO, SETTLING, IDLING, WORKING, REMOVING, SAVING]),
    ("libvirt", &[REQUESTED, WORKING]),
];

#[test]
#[ignore = "needs docker and libvirt: scripts/test runs it"]
fn a_killed_run_keeps_its_samples_and_is_resumed() {
    let rows = STEPS.iter().flat_map(|(target, steps)| steps.iter().map(|step| (*target, *step)));
    let rows: Vec<Row> = rows
        .map(|(target, step)| {
            let scenario = each_step_lasts(target).replace("samples = 3", "samples = 2");
            Row::new("SIGKILL", target, scenario, (1, step), |run| run.signal(Signal::KILL)).ends(
                None,
                &[],
                1,
                Then::CleanAndResume,
            )
        })
        .collect();
    all_hold("bootrace killed by SIGKILL", &rows);
}
