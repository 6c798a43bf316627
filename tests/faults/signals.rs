//! Ctrl-C and SIGTERM at each step of a sample, and a second signal at once.

use rustix::process::Signal;

use crate::{
    case::{
        HELLO, IDLING, REMOVING, REQUESTED, Row, Running, SAVING, SETTLING, STAGED, Step, Then, WORKING,
        all_hold,
    },
    killed::each_step_lasts,
};

const STOPPING: &str = "stopping: removing what runs (again to stop at once)";

const ONCE: [(&str, &str, &[Step]); 3] = [
    ("Ctrl-C", "docker", &[STAGED, REQUESTED, HELLO, SETTLING, IDLING, WORKING, REMOVING, SAVING]),
    ("SIGTERM", "native", &[REQUESTED, WORKING, SAVING]),
    ("Ctrl-C", "libvirt", &[REQUESTED, WORKING]),
];

fn interrupt(running: &mut Running) {
    running.signal(Signal::INT);
}

fn terminate(running: &mut Running) {
    running.signal(Signal::TERM);
}

/// Two signals without a pause are one to the kernel, so the second waits for the answer to the first.
fn interrupt_twice(running: &mut Running) {
    running.signal(Signal::INT);
    running.until(|line| line == STOPPING);
    running.signal(Signal::INT);
}

#[test]
#[ignore = "needs docker and libvirt: scripts/test runs it"]
fn a_signal_ends_the_run_with_its_code_and_leaves_nothing() {
    let once =
        ONCE.iter().flat_map(|(fault, target, steps)| steps.iter().map(|step| (*fault, *target, *step)));
    let once = once.map(|(fault, target, at)| {
        let (inject, code) =
            if fault == "SIGTERM" { (terminate as fn(&mut _), 143) } else { (interrupt as _, 130) };
        let row = Row::new(fault, target, each_step_lasts(target), (1, at), inject);
        // A QEMU that ends before its agent speaks may be logged.
        let varies = target == "libvirt";
        Row {
            varies,
            ..row.ends(
                Some(code),
                &[STOPPING, "error: interrupted; the samples taken are kept in"],
                1,
                Then::Clean,
            )
        }
    });
    let twice = [("docker", REQUESTED), ("docker", WORKING), ("libvirt", WORKING)].map(|(target, at)| {
        let scenario = each_step_lasts(target).replace("samples = 3", "samples = 2");
        Row::new("Ctrl-C twice", target, scenario, (1, at), interrupt_twice).ends(
            Some(130),
            &[STOPPING, "stopped at once; bootrace clean removes what is left"],
            1,
            Then::CleanAndResume,
        )
    });
    all_hold("Signals", &once.chain(twice).collect::<Vec<_>>());
}
