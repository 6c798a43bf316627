//! What a workload does to its instance and to bootrace: it hangs, floods, fills, breaks its guest, or speaks in the
//! agent's place.

use rustix::process::{Pid, Signal, kill_process};

use crate::{
    case::{HELLO, Row, Running, SETTLING, STARTED, Step, Then, all_hold},
    parts::qemu,
};

/// One sample of this workload.
fn scenario(workload: &str, memory: &str, timeout: &str) -> String {
    format!(
        "[workload]\n{workload}\n[resources]\nmemory = \"{memory}\"\n\
         [sampling]\nsamples = 1\nwarmup = 0\nsettle = \"1s\"\nidle = \"0s\"\ntimeout = \"{timeout}\"\n"
    )
}

/// A shell script as a workload, ready by a line.
fn shell(script: &str) -> String {
    format!("command = [\"sh\", \"-c\", '''{script}''']\nready = {{ line = \"^ready\" }}")
}

fn perl(script: &str) -> String {
    format!("command = [\"perl\", \"-e\", '''{script}''']\nready = {{ line = \"^ready\" }}")
}

/// The workload itself is the fault.
fn none(_: &mut Running) {}

/// Each is a workload of one sample, which fails.
fn fails(
    fault: &'static str,
    targets: &'static [&'static str],
    workload: String,
    limits: (&str, &str),
    at: Step,
    says: &'static [&'static str],
) -> Vec<Row> {
    let rows = targets.iter().map(|target| {
        let scenario = scenario(&workload, limits.0, limits.1);
        Row::new(fault, target, scenario, (0, at), none).ends(Some(1), says, 0, Then::Clean)
    });
    rows.collect()
}

#[test]
#[ignore = "needs docker and libvirt: scripts/test runs it"]
fn a_workload_that_misbehaves_is_reported_and_leaves_nothing() {
    const CONTAINERS: &[&str] = &["native", "docker"];
    const NOT_READY: &[&str] =
        &["has not printed a line that matches \"^ready\" within 3s (sampling.timeout)"];
    const MEMORY: &[&str] = &["its memory limit of 128 MiB was met (resources.memory)"];
    let small = ("128MiB", "3s");
    let rows = [
        fails("the workload hangs", CONTAINERS, shell("exec sleep infinity"), small, HELLO, NOT_READY),
        fails(
            "the workload closes its streams",
            CONTAINERS,
            shell("exec sleep infinity <&- >&- 2>&-"),
            small,
            HELLO,
            NOT_READY,
        ),
        fails(
            "the workload forks without end",
            CONTAINERS,
            perl("fork while 1"),
            ("128MiB", "3s"),
            HELLO,
            &["1 of 1 samples failed"],
        )
        .into_iter()
        // The kernel chooses what ends for it.
        .map(Row::varies)
        .collect(),
        fails(
            "the workload fills its memory",
            CONTAINERS,
            perl("push @x, 'x' x 1048576 while 1"),
            ("128MiB", "60s"),
            HELLO,
            MEMORY,
        ),
        fails(
            "the workload fills its disk",
            &["libvirt"],
            shell("dd if=/dev/zero of=/fill bs=1M 2>&1 | grep -o \"No space left on device\"; exit 3"),
            ("256MiB", "60s"),
            HELLO,
            &["exit code 3; it printed: No space left on device"],
        ),
    ];
    // More than its memory, in one line and without one.
    let flood = shell("head -c 1000000000 /dev/zero; echo; echo ready; exec sleep infinity");
    let floods = CONTAINERS.iter().map(|target| {
        let scenario = scenario(&flood, "128MiB", "60s");
        Row::new("the workload prints 1 GB", target, scenario, (0, HELLO), none).ends(
            Some(0),
            &[],
            1,
            Then::Clean,
        )
    });
    all_hold("Workloads", &rows.into_iter().flatten().chain(floods).collect::<Vec<_>>());
}

/// The workload, which is root, tries to take the agent's end of the control channel and to write into it.
const NONSENSE: &str = r#"
$| = 1; print "ready\n"; select undef, undef, undef, 0.3;
my $agent = syscall 434, getppid, 0;
for my $fd (0 .. 20) {
    my $got = syscall 438, $agent, $fd, 0;
    next if $got < 0 || ! open my $channel, ">&=", $got;
    next if ! -S $channel;
    syswrite $channel, "\xff" x 64;
}
sleep 60;
"#;

/// The workload, which is root of its VM, takes the channel's device away from the agent.
const TAKES_CHANNEL: &str = r#"echo ready; sleep 0.3; cd /sys/bus/virtio/drivers/virtio_console
for device in virtio*; do echo $device > unbind; done; sleep 60"#;

/// It is not the first to connect.
const SECOND: &str = r#"
use IO::Socket::UNIX; $SIG{PIPE} = "IGNORE";
my $s = IO::Socket::UNIX->new(Peer => "/run/bootrace/control.sock");
print {$s} "\xff" x 64 if $s;
$| = 1; print "ready\n"; sleep 60;
"#;

fn stop_qemu(running: &mut Running) {
    kill_process(Pid::from_raw(qemu(running) as i32).unwrap(), Signal::STOP).unwrap();
}

#[test]
#[ignore = "needs docker and libvirt: scripts/test runs it"]
fn a_guest_that_panics_says_nothing_or_nonsense_is_reported_and_leaves_nothing() {
    let panic = shell("echo ready; sleep 0.2; echo c > /proc/sysrq-trigger; sleep 60");
    let rows =
        [fails("the guest's kernel panics", &["libvirt"], panic, ("256MiB", "60s"), SETTLING, &["libvirt"])];
    let mut rows: Vec<_> = rows.into_iter().flatten().collect();
    rows.extend(fails(
        "the workload takes the agent's channel away",
        &["libvirt"],
        shell(TAKES_CHANNEL),
        ("256MiB", "60s"),
        SETTLING,
        &["libvirt reports"],
    ));
    let silent = scenario(&shell("echo ready; exec sleep infinity"), "256MiB", "5s");
    rows.push(
        Row::new(
            "the guest never says hello: its QEMU is stopped",
            "libvirt",
            silent,
            (0, STARTED),
            stop_qemu,
        )
        .ends(Some(1), &["the agent has not come up within 5s (sampling.timeout)"], 0, Then::Clean)
        .varies(),
    );
    rows.push(
        Row::new(
            "the workload reaches for the agent's channel",
            "native",
            scenario(&perl(NONSENSE), "128MiB", "10s"),
            (0, SETTLING),
            none,
        )
        .ends(Some(0), &[], 1, Then::Clean),
    );
    let second = scenario(&perl(SECOND), "128MiB", "10s");
    rows.push(
        Row::new("the workload connects to the control socket too", "docker", second, (0, SETTLING), none)
            .ends(Some(0), &[], 1, Then::Clean),
    );
    all_hold("Guests", &rows);
}
