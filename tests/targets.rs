//! Every target for real: the same workload, measured by the same code, nothing left.

mod common;

use std::{
    fs,
    io::{Read, Write},
    net::TcpListener,
    thread,
};

use common::{Bench, LIST_INTERFACES, boot_id, left_over, ran_the_same};

/// Says that it is ready after a known time, holds a known amount of memory, works on a known amount of data.
const SCENARIO: &str = r#"
[workload]
command = ["sh", "-c", "sleep 0.3; echo ready; exec sleep infinity"]
ready = { line = "^ready$" }
work = { command = ["sh", "-c", "head -c 4194304 /dev/zero | sha256sum"] }
[resources]
cpus = 1
memory = "256MiB"
[sampling]
samples = 2
warmup = 0
settle = "300ms"
idle = "500ms"
"#;

#[test]
#[ignore = "needs docker and libvirt: scripts/test runs it"]
fn one_workload_runs_identically_on_every_target_and_leaves_nothing() {
    let bench = Bench::new(SCENARIO);
    let samples = bench.run(&[]).good();
    assert_eq!(samples.len(), 6);
    ran_the_same(&samples);
    for sample in &samples {
        let (name, identity) = (&sample.target, sample.identity.as_ref().unwrap());
        // The VM's kernel is another boot; the others share the host's.
        assert_eq!(identity.boot_id == boot_id(), name != "libvirt", "{name}");

        let (t, p) = (sample.timeline_ns, sample.timeline_ns.phases().unwrap());
        assert_eq!(p.engine + p.boot + p.app, t.startup().unwrap(), "{name}");
        // A little less than it sleeps, since a hello may be read late.
        assert!(p.app >= 250_000_000, "{name}: it sleeps 0.3 s before it says that it is ready: {p:?}");
        assert!(t.teardown().is_some(), "{name}");

        let (m, c) = (sample.memory_bytes, sample.cpu_ns);
        assert!(m.footprint.unwrap() > 100 << 10, "{name}: {m:?}");
        assert!(m.workload_rss.unwrap() > 100 << 10, "{name}: {m:?}");
        assert!(m.cgroup_anon.is_some() && m.cgroup_file.is_some(), "{name}: {m:?}");
        assert_eq!(m.engine_pss.is_none(), name == "native", "{name}: {m:?}");
        assert_eq!(m.daemons.is_none(), name == "native", "{name}: {m:?}");
        let work = sample.work_ns;
        assert!(
            c.startup.unwrap() > 0 && work.cpu.unwrap() > 0 && work.wall.unwrap() > 0,
            "{name}: {c:?} {work:?}"
        );
        assert!(c.idle_window.unwrap() >= 500_000_000, "{name}: {c:?}");
    }
    let footprint = |name: &str| {
        let of_target = samples.iter().filter(|s| s.target == name);
        of_target.map(|s| s.memory_bytes.footprint.unwrap()).min().unwrap()
    };
    assert!(footprint("native") < footprint("docker") && footprint("docker") < footprint("libvirt"));
    assert_eq!(left_over(), Vec::<String>::new());

    let latest = bench.latest();
    for file in ["results.json", "index.html", "summary.md"] {
        assert!(latest.join(file).exists(), "{file}");
    }
}

#[test]
#[ignore = "needs docker and libvirt: scripts/test runs it"]
fn every_readiness_works_on_every_target() {
    let cases = [
        (r#"["true"]"#, "{ exit = 0 }"),
        (r#"["sh", "-c", "sleep 0.1; : > /run/here; exec sleep infinity"]"#, r#"{ file = "/run/here" }"#),
        (
            r#"["perl", "-MIO::Socket::INET", "-e", "my $s = IO::Socket::INET->new(LocalAddr => '127.0.0.1', LocalPort => 17171, Listen => 1, ReuseAddr => 1) or die; sleep"]"#,
            "{ tcp = 17171 }",
        ),
        (
            r#"["perl", "-MIO::Socket::IP", "-e", "my $s = IO::Socket::IP->new(LocalHost => '::', LocalPort => 17172, V6Only => 1, Listen => 1, ReuseAddr => 1) or die; sleep"]"#,
            "{ tcp = 17172 }",
        ),
    ];
    for (command, ready) in cases {
        let scenario = format!(
            "\n[workload]\ncommand = {command}\nready = {ready}\n[resources]\nmemory = \"256MiB\"\n\
             [sampling]\nsamples = 1\nwarmup = 0\nsettle = \"0s\"\nidle = \"0s\"\n"
        );
        let samples = Bench::new(&scenario).run(&[]).good();
        assert_eq!(samples.len(), 3, "{ready}");
        assert!(samples.iter().all(|s| s.cpu_ns.idle.is_none() && s.work_ns.wall.is_none()));
    }
}

/// Once, with what each target needs of a scenario for a quick run.
const ONCE: &str = "[resources]\nmemory = \"256MiB\"\n\
    [sampling]\nsamples = 1\nwarmup = 0\nsettle = \"0s\"\nidle = \"0s\"\ntimeout = \"60s\"\n";

/// Connects to the host, which is loopback for a bare process and the gateway for the others, sends what it
/// knows of resolvers, and prints the answer.
const CALL_HOME: &str = r#"
my @hosts = ("127.0.0.1");
open my $routes, "<", "/proc/net/route" or die;
while (<$routes>) {
    my @field = split;
    push @hosts, join ".", reverse unpack "C4", pack "H8", $field[2] if $field[1] eq "00000000";
}
for (@hosts) {
    my $host = IO::Socket::INET->new(PeerAddr => $_, PeerPort => PORT, Timeout => 10) or next;
    if (open my $resolver, "<", "/etc/resolv.conf") { print $host $_ while <$resolver> }
    $host->flush;
    shutdown $host, 1;
    $| = 1;
    print scalar <$host>;
    sleep;
}
die "nobody answers at @hosts";
"#;

#[test]
#[ignore = "needs docker and libvirt: scripts/test runs it"]
fn with_a_network_every_target_connects_out_and_knows_its_resolver() {
    let listener = TcpListener::bind("0.0.0.0:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = thread::spawn(move || {
        let calls = listener.incoming().take(3).map(|connection| {
            let (mut connection, mut said) = (connection.unwrap(), String::new());
            connection.read_to_string(&mut said).unwrap();
            connection.write_all(b"welcome\n").unwrap();
            said
        });
        calls.collect::<Vec<_>>()
    });
    let script = CALL_HOME.replace("PORT", &port.to_string());
    let bench = Bench::new(&format!(
        "\n[workload]\ncommand = [\"perl\", \"-MIO::Socket::INET\", \"-e\", '''{script}''']\n\
         ready = {{ line = \"^welcome$\" }}\nnetwork = true\n{ONCE}"
    ));
    assert_eq!(bench.run(&[]).good().len(), 3);

    let resolvers = server.join().unwrap();
    assert!(resolvers.iter().any(|said| said == "nameserver 10.0.2.3\n"), "the VM's: {resolvers:?}");
    // A host without one means the image's.
    if let Ok(host) = fs::read_to_string("/etc/resolv.conf") {
        assert!(resolvers.contains(&host), "the bare process's: {resolvers:?}");
    }
    let targets = bench.results().unwrap().targets;
    let networks: Vec<_> = targets.iter().map(|t| (t.name.as_str(), &t.options["network"])).collect();
    for expected in [("native", "host"), ("docker", "bridge"), ("libvirt", "user")] {
        assert!(networks.iter().any(|(name, network)| (*name, *network) == (expected.0, &expected.1.into())));
    }
}

#[test]
#[ignore = "needs docker and libvirt: scripts/test runs it"]
fn without_a_network_a_container_and_a_vm_have_loopback_alone() {
    let look = format!("{LIST_INTERFACES}\n[ \"$found\" = \" lo\" ] && exec sleep infinity");
    let bench = Bench::new(&format!(
        "\n[workload]\ncommand = [\"sh\", \"-c\", '''{look}''']\nready = {{ line = \"^found: lo$\" }}\n{ONCE}"
    ));
    assert_eq!(bench.run(&["--targets", "docker,libvirt"]).good().len(), 2);
    for target in bench.results().unwrap().targets {
        assert_eq!(target.options["network"], "none", "{}", target.name);
    }
}
