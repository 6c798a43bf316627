//! Hand-made results with the magnitudes of a real machine, an outlier, a failed and a timed-out
//! sample, and text that tries to break out of wherever it is shown. No random numbers: the spread
//! comes from a fixed list.

use std::collections::BTreeMap;

use bootrace::{kind::Kind, sample::*};
use serde_json::json;

pub const HOSTILE: &str = "</script><img src=x onerror=alert(1)>";

/// Ten deviations around 1 with a long right tail, as start-up times have.
const SPREAD: [f64; 10] = [0.96, 1.00, 1.03, 0.98, 1.01, 1.07, 0.97, 1.02, 1.05, 0.99];

struct Shape {
    name: &'static str,
    /// engine, boot, app in ms.
    phases: [f64; 3],
    teardown: f64,
    /// footprint, workload, engine, page cache in MiB.
    memory: [Option<f64>; 4],
    daemons: Option<f64>,
    /// start-up CPU, idle CPU in a second, work, work as the host sees it, in ms.
    cpu: [f64; 4],
}

const SHAPES: [Shape; 3] = [
    Shape {
        name: "native",
        phases: [0.62, 0.11, 0.71],
        teardown: 0.4,
        memory: [Some(1.94), Some(0.53), None, Some(0.12)],
        daemons: None,
        cpu: [0.98, 0.0, 102.0, 101.0],
    },
    Shape {
        name: "docker",
        phases: [288.0, 0.0, 2.1],
        teardown: 84.0,
        memory: [Some(14.8), Some(0.55), Some(12.2), Some(3.1)],
        daemons: Some(1.2),
        cpu: [61.0, 1.9, 109.0, 110.0],
    },
    Shape {
        name: "libvirt",
        phases: [610.0, 3610.0, 52.0],
        teardown: 212.0,
        memory: [Some(229.0), Some(0.58), Some(231.0), Some(41.0)],
        daemons: Some(-0.3),
        cpu: [4610.0, 5.2, 611.0, 640.0],
    },
];

/// 3 targets, a warm-up round, 10 measured rounds; everything well but for one failure, one
/// time-out and one outlier.
pub fn results() -> Results {
    let mut samples = Vec::new();
    for round in 0..11_u32 {
        for position in 0..3_u32 {
            let shape = &SHAPES[((position + round * 2 + round / 3) % 3) as usize];
            samples.push(sample(shape, round, position));
        }
    }
    let find = |samples: &mut Vec<Sample>, target: &str, round: u32| {
        samples.iter().position(|s| s.target == target && s.round == round).unwrap()
    };
    let failed = find(&mut samples, "libvirt", 4);
    fail(
        &mut samples[failed],
        Outcome::Failed,
        &format!(
            "starting domain bootrace-4: internal error: process exited while connecting to monitor: {HOSTILE}"
        ),
    );
    let late = find(&mut samples, "docker", 9);
    fail(
        &mut samples[late],
        Outcome::TimedOut,
        "waiting for ready: not ready within 120s; the last output was:\n\u{1b}[31mred\u{1b}[0m | `code` **bold** @someone",
    );
    let slow = find(&mut samples, "docker", 6);
    let time = &mut samples[slow].timeline_ns;
    for moment in [&mut time.started, &mut time.agent, &mut time.ready, &mut time.stopping, &mut time.gone] {
        *moment = moment.map(|m| m + 240_000_000);
    }
    Results {
        schema: SCHEMA.into(),
        run: run(samples.len() as u32),
        host: host(),
        image: image(),
        targets: targets(),
        samples,
        density: Vec::new(),
    }
}

/// The same with nothing wrong: no failure, no fallback, no emulation, steady host.
pub fn clean() -> Results {
    let mut results = results();
    for sample in &mut results.samples {
        let shape = SHAPES.iter().find(|s| s.name == sample.target).unwrap();
        *sample = self::sample(shape, sample.round, sample.position);
    }
    results.run.warnings.clear();
    results.run.scenario["claim"] = json!([]);
    results.image.fallback = false;
    results.image.fallback_reason = None;
    results.targets[2].accelerator = Accelerator::Kvm;
    results.targets[2].accelerator_reason = Some("a probe guest ran at hardware speed".into());
    results.host.virtualised = Some("none".into());
    results.host.governor = Some("performance".into());
    results.host.turbo = Some(false);
    results.host.smt = Some(false);
    results.host.thp = Some("madvise".into());
    results
}

fn sample(shape: &Shape, round: u32, position: u32) -> Sample {
    let k = SPREAD[((round * 7 + position / 2) % 10) as usize];
    let warm = if round == 0 { 1.6 } else { 1.0 };
    let small = 1.0 + (k - 1.0) / 10.0;
    let ns = |ms: f64| (ms * 1e6) as u64;
    let bytes = |mib: f64| (mib * small * 1_048_576.0) as u64;
    let [engine, boot, app] = shape.phases.map(|ms| ns(ms * k * warm));
    let ready = engine + boot + app;
    let [footprint, workload, engine_pss, cache] = shape.memory;
    let [startup, idle, work, work_host] = shape.cpu.map(|ms| ns(ms * (0.5 + k / 2.0)));
    let stopping = ready + 2_000_000_000 + work;
    Sample {
        target: shape.name.into(),
        round,
        position,
        warmup: round == 0,
        outcome: Outcome::Ok,
        error: None,
        timeline_ns: Timeline {
            requested: 0,
            // Docker's start call returns after the hello.
            started: Some(if shape.name == "docker" { engine + 1_500_000 } else { engine }),
            agent: Some(engine + boot),
            ready: Some(ready),
            stopping: Some(stopping),
            gone: Some(stopping + ns(shape.teardown * k)),
        },
        memory_bytes: Memory {
            footprint: footprint.map(bytes),
            workload_rss: workload.map(bytes),
            guest_cache: None,
            swap: None,
            cgroup_anon: footprint.map(|f| bytes(f * 0.8)),
            cgroup_file: cache.map(bytes),
            cgroup_kernel: Some(bytes(0.4)),
            engine_pss: engine_pss.map(bytes),
            pss: footprint.map(|f| bytes(f * 1.1)),
            pss_file: footprint.map(|f| bytes(f * 0.2)),
            daemons: shape.daemons.map(|d| (d * 1_048_576.0 * k) as i64),
        },
        cpu_ns: Cpu { startup: Some(startup), idle: Some(idle), idle_window: Some(1_000_000_000) },
        work_ns: Work { wall: Some(work), cpu: Some(work_host), cpu_guest: Some(work_host) },
        identity: Some(identity(shape.name, round)),
        boot_ns: None,
        interference: Some(Interference {
            window_ns: stopping,
            others_cpu_ns: Some(stopping / 50),
            steal_ns: Some(0),
            psi_cpu_ns: Some(stopping / 10),
            psi_io_ns: Some(stopping / 100),
            psi_memory_ns: Some(0),
            thermal_throttles: None,
            quota_throttled_ns: Some(0),
            swapped_in_pages: Some(0),
            swapped_out_pages: Some(0),
            major_faults: Some(12),
            cpu_khz: Some(2_600_000),
        }),
        disk: None,
        isolation: None,
        surroundings: None,
    }
}

pub fn identity(target: &str, round: u32) -> Identity {
    let (kernel_release, boot_id) = match target {
        "libvirt" => ("6.1.0-37-cloud-amd64".to_owned(), format!("7d1a9c3e-0000-4000-8000-{round:012}")),
        _ => (host().kernel_release, host().boot_id),
    };
    Identity {
        image_digest: Some(image().digest),
        agent_digest: Some("b7".repeat(32)),
        workload_digest: Some("c1".repeat(32)),
        argv: ["sh", "-c", "echo ready; exec sleep infinity"].map(String::from).into(),
        kernel_release,
        boot_id,
    }
}

fn fail(sample: &mut Sample, outcome: Outcome, error: &str) {
    sample.outcome = outcome;
    sample.error = Some(error.into());
    sample.timeline_ns = Timeline { started: sample.timeline_ns.started, ..Timeline::default() };
    sample.memory_bytes = Memory::default();
    sample.cpu_ns = Cpu::default();
    sample.work_ns = Work::default();
    sample.identity = None;
}

fn run(planned: u32) -> Run {
    Run {
        id: "quickstart-20250102T030405Z-42".into(),
        started_at: "2025-01-02T03:04:05Z".into(),
        seed: 42,
        bootrace_version: "0.1.0".into(),
        scenario: json!({
            "name": "quickstart",
            "description": format!("a shell that says it is ready, then hashes 32 MiB {HOSTILE}"),
            "image": { "suite": "ubuntu/noble", "fallback": "debian/bookworm", "packages": [] },
            "workload": {
                "command": ["sh", "-c", "echo ready; exec sleep infinity"],
                "ready": { "line": "^ready$" },
                "work": { "command": ["sh", "-c", "head -c 33554432 /dev/zero | sha256sum"] },
                "network": false,
            },
            "resources": { "cpus": 1, "memory": "256MiB" },
            "sampling": { "samples": 10, "warmup": 1, "settle": "1s", "idle": "1s", "timeout": "120s" },
            "target": [
                { "name": "native", "kind": "native" },
                { "name": "docker", "kind": "docker" },
                { "name": "libvirt", "kind": "libvirt", "boot": "direct", "accel": "auto" },
            ],
            "claim": [
                { "says": "a container starts in two seconds", "metric": "startup", "target": "docker", "at_most": "2s" },
                { "says": "a VM takes under 64 MiB", "metric": "memory.footprint", "target": "libvirt", "at_most": "64MiB" },
                { "says": HOSTILE, "metric": "startup", "target": "docker", "at_most": "290ms" },
                { "says": "a VM starts within 20 containers", "metric": "startup", "target": "libvirt", "relative_to": "docker", "at_most": "20x" },
            ],
        }),
        planned,
        interrupted: false,
        wall_ns: Some(163_000_000_000),
        measuring_ns: Some(151_000_000_000),
        cache_drop_ns: None,
        warnings: vec![format!("swap is on {HOSTILE}")],
        source: Some(Source {
            commit: "0123456789abcdef0123456789abcdef01234567".into(),
            branch: Some(HOSTILE.into()),
            url: Some("https://example.org/bench".into()),
            dirty: Some(false),
        }),
        ab: None,
        program_digest: Some("c".repeat(64)),
        scenario_file: Some(ScenarioFile { path: format!("/srv/{HOSTILE}.toml"), digest: "d".repeat(64) }),
        resumptions: Vec::new(),
    }
}

fn host() -> Host {
    Host {
        hostname: Some("bench-1".into()),
        os: Some("Debian GNU/Linux 12 (bookworm)".into()),
        kernel_release: "6.18.0-host".into(),
        boot_id: "3f0c2f6e-1111-4222-8333-444455556666".into(),
        cpu_model: Some("Intel(R) Xeon(R) Processor @ 2.60GHz".into()),
        cpus: 2,
        frequencies: vec![Frequency { cpus: 2, now_khz: Some(2_600_000), ..Default::default() }],
        microcode: Some("0x1".into()),
        mitigations: vec![
            Mitigation { name: "meltdown".into(), state: "Not affected".into() },
            Mitigation { name: "retbleed".into(), state: format!("Vulnerable {HOSTILE}") },
        ],
        numa_nodes: Some(1),
        memory_bytes: 24 << 30,
        swap_bytes: 0,
        swap_used_bytes: Some(0),
        swappiness: Some(60),
        virtualised: Some("kvm".into()),
        processor_emulator: None,
        nested: None,
        clock_source: Some("tsc".into()),
        governor: None,
        turbo: None,
        smt: Some(true),
        ksm: Some(false),
        ksm_pages: Some(0),
        thp: Some("always".into()),
        cgroup_version: 1,
        noise_before: Noise {
            load_1m: Some(0.42),
            psi_cpu_some_avg10: Some(1.5),
            psi_io_some_avg10: Some(0.0),
            psi_memory_some_avg10: Some(0.0),
            steal_ns: Some(1_000_000_000),
        },
        noise_after: Some(Noise {
            load_1m: Some(1.31),
            psi_cpu_some_avg10: Some(12.0),
            psi_io_some_avg10: Some(0.4),
            psi_memory_some_avg10: Some(0.0),
            steal_ns: Some(1_200_000_000),
        }),
        other_containers: Some(0),
        other_vms: Some(0),
        tuned: None,
        programs: BTreeMap::from([
            ("docker".into(), "20.10.24+dfsg1".into()),
            ("containerd".into(), "1.6.20~ds1".into()),
            ("runc".into(), "1.1.5+ds1".into()),
            ("libvirt".into(), "9.0.0".into()),
            ("qemu".into(), format!("7.2.17 {HOSTILE}")),
        ]),
    }
}

fn image() -> Image {
    Image {
        digest: "a0".repeat(32),
        distribution: "debian".into(),
        suite: "bookworm".into(),
        source: "mmdebstrap from http://deb.example.org/debian".into(),
        fallback: true,
        fallback_reason: Some(format!("ubuntu/noble: no Ubuntu source answered {HOSTILE}")),
        packages: vec![],
        kernel: Some("6.1.0-37-cloud-amd64".into()),
        tar_bytes: Some(312 << 20),
        disk_bytes: Some(341 << 20),
    }
}

fn targets() -> Vec<TargetRecord> {
    let target = |kind: Kind, accelerator, reason: Option<&str>, options| TargetRecord {
        name: kind.name().into(),
        kind,
        accelerator,
        accelerator_reason: reason.map(String::from),
        kvm: None,
        options,
    };
    vec![
        target(Kind::Native, Accelerator::None, None, json!({})),
        target(Kind::Docker, Accelerator::None, None, json!({ "network": "none" })),
        target(
            Kind::Libvirt,
            Accelerator::Tcg,
            Some("the probe guest ran 1300 times slower under KVM than hardware would"),
            json!({ "boot": "direct", "machine": "q35", "cpu": "qemu64" }),
        ),
    ]
}
