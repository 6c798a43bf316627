//! The command line as scripts see it: output, messages and exit codes. Needs no engine.

mod common;

use std::{
    fs,
    io::Write,
    path::Path,
    process::{Command, Output, Stdio},
    time::{Duration, Instant},
};

use bootrace::scenario::SHIPPED;
use common::{bootrace, hear_signals};
use rustix::process::{Pid, Signal, kill_process};

fn run(args: &[&str]) -> Output {
    bootrace(args).output().unwrap()
}

fn out(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn err(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// A scenario file in a directory of its own.
fn file(text: &str) -> (tempfile::TempDir, String) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.toml");
    fs::write(&path, text).unwrap();
    (dir, path.display().to_string())
}

#[test]
fn help_shows_every_subcommand_and_the_exit_codes() {
    let output = run(&["--help"]);
    assert_eq!(output.status.code(), Some(0));
    let help = out(&output);
    let words = [
        "run",
        "ab",
        "report",
        "export",
        "compare",
        "history",
        "check",
        "calibrate",
        "doctor",
        "list",
        "image",
        "clean",
        "completions",
    ];
    for word in words {
        assert!(help.contains(&format!("\n  {word} ")), "{word} is not in\n{help}");
        assert_eq!(run(&[word, "--help"]).status.code(), Some(0), "{word} --help");
    }
    for code in ["0  ", "1  ", "2  ", "3  ", "4  ", "130"] {
        assert!(help.contains(&format!("\n  {code}")), "exit code {code} is not in\n{help}");
    }
    assert!(help.contains("129: hang-up"), "{help}");
}

#[test]
fn a_side_of_an_ab_says_hello_before_anything_else_and_nothing_more_than_events() {
    let part = r#"{"ab":"ab-1","side":"new","run":"ab-1-new","partner":"ab-1-base","dir":"/nowhere"}"#;
    let output = run(&["run", "--as-side", part, "no/such.toml"]);
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(out(&output), "{\"event\":\"hello\",\"protocol\":2}\n");
    assert!(err(&output).contains("no/such.toml"), "{}", err(&output));
    assert!(!out(&run(&["run", "--help"])).contains("as-side"));
}

#[test]
fn the_kvm_probes_child_is_hidden_and_names_its_parent_command() {
    let output = run(&["kvm-probe"]);
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(err(&output), "kvm-probe: only the KVM probe starts this, with its own pid as the argument\n");
    assert!(!out(&run(&["--help"])).contains("kvm-probe"));
}

#[test]
fn the_version_is_the_packages() {
    let output = run(&["--version"]);
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(out(&output), format!("bootrace {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn wrong_usage_exits_with_2_and_names_the_error() {
    for (args, word) in [
        (&["runn"][..], "'runn'"),
        (&["run", "--sampels", "5"], "'--sampels'"),
        (&["run", "--samples", "many"], "'many'"),
        (&["check"], "<SCENARIO>"),
        (&["completions", "tcsh"], "'tcsh'"),
    ] {
        let output = run(args);
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert!(err(&output).contains(word), "{word} is not in\n{}", err(&output));
        assert_eq!(out(&output), "");
    }
    let output = run(&[]);
    assert_eq!(output.status.code(), Some(2));
    assert!(err(&output).contains("Usage: bootrace"));
}

#[test]
fn every_shipped_scenario_is_sound_as_a_file_and_by_name() {
    let mut names = Vec::new();
    for entry in fs::read_dir("scenarios").unwrap() {
        let path = entry.unwrap().path();
        names.push(path.file_stem().unwrap().to_str().unwrap().to_string());
        let output = run(&["check", path.to_str().unwrap()]);
        assert_eq!(output.status.code(), Some(0), "{}", err(&output));
        assert!(out(&output).starts_with("ok  scenarios/"), "{}", out(&output));
    }
    assert!(names.len() >= 4, "{names:?}");
    // Elsewhere only those in the binary are known, and all of them are.
    let elsewhere = tempfile::tempdir().unwrap();
    for name in names {
        let output = bootrace(&["check", &name]).current_dir(elsewhere.path()).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", err(&output));
    }
}

#[test]
fn check_shows_the_cost_of_running_the_scenario() {
    let output = run(&["check", "quickstart"]);
    assert_eq!(
        out(&output),
        "ok  quickstart: targets native, docker, libvirt; 10 samples of each and 1 to warm up: 11 rounds, \
         33 instances, 66s of settling and idling alone\n"
    );
}

#[test]
fn a_wrong_scenario_exits_with_2_and_names_line_and_key_of_every_error() {
    let (_dir, path) = file(
        "name = \"x\"\n[workload]\ncommand = [\"true\"]\nready = { exit = 0 }\nredy = 1\n[sampling]\nsettle = \"2 sec\"\n",
    );
    let output = run(&["check", &path]);
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(out(&output), "");
    assert_eq!(
        err(&output),
        format!(
            "error: {path}:5:1: workload.redy: unknown key (did you mean ready?): expected one of command, env, ready, user, work, network\n\
             error: {path}:7:10: sampling.settle: \"2 sec\" is not a time: write a whole number and ms, s or m, as in \"2s\"\n"
        )
    );
}

#[test]
fn a_warm_page_cache_needs_the_warm_up_that_the_command_line_removes() {
    let least = "name = \"x\"\n[workload]\ncommand = [\"true\"]\nready = { exit = 0 }\n[sampling]\n";
    let (_dir, path) = file(&format!("{least}page_cache = \"warm\"\n"));
    assert_eq!(run(&["check", &path]).status.code(), Some(0));
    let output = run(&["run", &path, "--warmup", "0"]);
    assert_eq!(output.status.code(), Some(2));
    let message = err(&output);
    assert!(
        message.contains("page_cache = \"warm\"")
            && message.contains("no warm-up round fills the page cache"),
        "{message}"
    );
}

/// The sample report's run, where docker takes 177 ms to start and libvirt's VM is emulated, with these claims.
fn run_with_claims(claims: serde_json::Value) -> tempfile::TempDir {
    let mut results: serde_json::Value =
        serde_json::from_slice(&fs::read("tests/report/recorded-run.json").unwrap()).unwrap();
    results["run"]["scenario"]["claim"] = claims;
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("results.json"), results.to_string()).unwrap();
    dir
}

#[test]
fn claims_make_the_exit_code_that_was_asked_for() {
    let claim = |target: &str, at_most: &str| serde_json::json!({"says": "it is quick", "metric": "startup", "target": target, "at_most": at_most});
    let (supported, refuted) = (claim("docker", "10s"), claim("docker", "1ms"));
    let few =
        serde_json::json!({"says": "many", "metric": "startup", "target": "docker", "at_least": "170ms"});
    let ratio = |at_most: &str| {
        let mut claim = claim("libvirt", at_most);
        claim["relative_to"] = "docker".into();
        claim
    };
    for (claims, codes) in [
        (vec![&supported, &ratio("30x")], [0, 0, 0]),
        (vec![&supported, &refuted, &few], [3, 3, 0]),
        (vec![&supported, &few], [0, 4, 0]),
        (vec![&ratio("2x")], [3, 3, 0]),
        (vec![&ratio("13x")], [0, 4, 0]),
        (vec![], [0, 0, 0]),
    ] {
        let dir = run_with_claims(serde_json::json!(claims));
        for (fail_on, code) in ["refuted", "undecided", "never"].into_iter().zip(codes) {
            let output = run(&["report", "--quiet", dir.path().to_str().unwrap(), "--fail-on", fail_on]);
            assert_eq!(output.status.code(), Some(code), "{fail_on}: {claims:?}\n{}", err(&output));
            assert_eq!(err(&output).is_empty(), code == 0, "{}", err(&output));
        }
        // Writing a report again judges nobody unless it is asked to.
        assert_eq!(run(&["report", "--quiet", dir.path().to_str().unwrap()]).status.code(), Some(0));
    }
    let dir = run_with_claims(serde_json::json!([ratio("2x")]));
    let output = run(&["report", "--quiet", dir.path().to_str().unwrap(), "--fail-on", "undecided"]);
    let message = err(&output);
    assert!(
        message.starts_with(
            "error: refuted: it is quick (startup of libvirt, TCG (emulated), relative to docker, at most 2x: "
        ) && message.contains("the 99.0 % interval of the ratio lies beyond the bound; this is the cost of emulation"),
        "{message}"
    );
}

#[test]
fn check_goes_on_after_a_wrong_scenario() {
    let (_dir, path) = file("name = 1");
    let output = run(&["check", &path, "quickstart", "no/such.toml"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(out(&output).starts_with("ok  quickstart: "), "{}", out(&output));
    let errors = err(&output);
    let lines: Vec<&str> = errors.lines().collect();
    assert!(lines[0].starts_with(&format!("error: {path}:1:8: name: 1 is an integer")), "{errors}");
    assert_eq!(
        lines.last(),
        Some(&"error: reading the scenario no/such.toml: No such file or directory (os error 2)")
    );
}

#[test]
fn an_unknown_scenario_exits_with_2_and_lists_the_shipped_ones() {
    let output = run(&["check", "rediss"]);
    assert_eq!(output.status.code(), Some(2));
    let known = SHIPPED.map(|(name, _)| name).join(", ");
    let says = format!(
        "error: there is no scenario \"rediss\" (did you mean redis?): expected one of {known}, or the path of a file, \
         as in ./my.toml\n"
    );
    assert_eq!(err(&output), says);
}

#[test]
fn list_shows_scenarios_and_targets_and_why_one_cannot_run() {
    let output = bootrace(&["list"]).env("DOCKER_HOST", "unix:///no/such.sock").output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", err(&output));
    let text = out(&output);
    assert!(text.contains("\n  redis "), "{text}");
    assert!(
        text.contains(
            "\n  docker   can't run: connecting to Docker at unix:///no/such.sock (DOCKER_HOST): Socket not found: "
        ) && text.contains("; fix: start what DOCKER_HOST names, or unset DOCKER_HOST"),
        "{text}"
    );
}

#[test]
fn podmans_overriding_settings_count_last() {
    let dir = tempfile::tempdir().unwrap();
    let [all, last] = ["all.conf", "last.conf"].map(|name| dir.path().join(name));
    std::fs::write(&all, "[engine]\nremote = false\n").unwrap();
    std::fs::write(&last, "[engine]\nremote = true\n").unwrap();
    let mut list = bootrace(&["list"]);
    let output = list.env("CONTAINERS_CONF", &all).env("CONTAINERS_CONF_OVERRIDE", &last).output().unwrap();
    let says = format!("connecting to podman by remote = true in {}", last.display());
    assert!(out(&output).contains(&says), "{}", out(&output));
}

/// Settings of Docker's program with one context, which is chosen.
fn docker_settings(host: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    // sha256 of its name.
    let meta =
        dir.path().join("contexts/meta/a51146d38077ff992eba84cf1d5e9b249073503eb74868699016153b031a38f7");
    fs::create_dir_all(&meta).unwrap();
    let endpoint = format!(r#"{{"Name":"lab","Endpoints":{{"docker":{{"Host":"{host}"}}}}}}"#);
    fs::write(meta.join("meta.json"), endpoint).unwrap();
    fs::write(dir.path().join("config.json"), r#"{"currentContext":"lab"}"#).unwrap();
    dir
}

#[test]
fn the_context_of_docker_context_use_is_followed_and_named() {
    let settings = docker_settings("unix:///no/such.sock");
    let mut list = bootrace(&["list"]);
    list.env_remove("DOCKER_CONTEXT").env("DOCKER_CONFIG", settings.path());
    let text = out(&list.output().unwrap());
    let by = format!("Docker's context \"lab\" ({})", settings.path().join("config.json").display());
    let says = format!("can't run: connecting to Docker at unix:///no/such.sock ({by}): Socket not found: ");
    let fix = format!("fix: start what {by} names, or docker context use default");
    assert!(text.contains(&says) && text.contains(&fix), "{text}");
}

#[test]
fn a_context_on_another_host_and_a_missing_one_end_a_run_before_anything_is_built() {
    let settings = docker_settings("ssh://elsewhere");
    for (context, signs) in [
        (
            "lab",
            [
                "ssh://elsewhere (Docker's context \"lab\" (DOCKER_CONTEXT)): it is no socket of this host",
                "fix: unset DOCKER_CONTEXT",
            ],
        ),
        (
            "nosuch",
            ["by Docker's context \"nosuch\" (DOCKER_CONTEXT): ", "contexts/meta has no context \"nosuch\""],
        ),
    ] {
        let out = tempfile::tempdir().unwrap();
        let mut run = bootrace(&["run", "quickstart", "--targets", "docker", "--out"]);
        run.arg(out.path().join("run")).env("DOCKER_CONTEXT", context).env("DOCKER_CONFIG", settings.path());
        let output = run.output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        assert!(signs.iter().all(|sign| err(&output).contains(sign)), "{}", err(&output));
    }
}

#[test]
#[ignore = "needs root: scripts/test runs it"]
fn under_sudo_the_context_of_the_sudo_user_counts() {
    let home = tempfile::tempdir().unwrap();
    fs::rename(docker_settings("unix:///no/such.sock").keep(), home.path().join(".docker")).unwrap();
    // A user whose home can be named.
    let getent = home.path().join("getent");
    fs::write(&getent, format!("#!/bin/sh\necho u:x:4242:4242::{}:/bin/sh\n", home.path().display()))
        .unwrap();
    fs::set_permissions(&getent, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", home.path().display(), std::env::var("PATH").unwrap());
    let mut list = bootrace(&["list"]);
    list.env_remove("DOCKER_CONTEXT")
        .env_remove("DOCKER_CONFIG")
        .envs([("SUDO_UID", "4242"), ("SUDO_GID", "4242")])
        .env("PATH", path);
    let text = out(&list.output().unwrap());
    assert!(text.contains(&format!("({})", home.path().join(".docker/config.json").display())), "{text}");
}

#[test]
fn a_run_is_stopped_while_an_engine_hangs() {
    for signal in [Signal::HUP, Signal::INT, Signal::QUIT, Signal::TERM] {
        is_stopped_while_an_engine_hangs(&["run", "quickstart", "--targets", "docker"], &[signal]);
    }
}

#[test]
fn a_signal_that_is_ignored_at_the_start_stays_ignored() {
    for command in [&["run", "quickstart", "--targets", "docker"][..], &["image", "build", "quickstart"]] {
        for ignored in [Signal::HUP, Signal::INT, Signal::QUIT] {
            is_stopped_while_an_engine_hangs(command, &[ignored, Signal::TERM]);
        }
        is_stopped_while_an_engine_hangs(command, &[Signal::TERM, Signal::INT]);
    }
}

#[test]
#[ignore = "needs root: scripts/test runs it"]
fn a_calibration_is_stopped_while_an_engine_hangs() {
    is_stopped_while_an_engine_hangs(&["calibrate", "--targets", "docker"], &[Signal::INT]);
}

/// Sends these signals. bootrace ends by the last one alone: it starts with the others ignored.
fn is_stopped_while_an_engine_hangs(command: &[&str], signals: &[Signal]) {
    let (last, ignored) = signals.split_last().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("hangs.sock");
    let listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let numbers: Vec<String> = ignored.iter().map(|signal| signal.as_raw().to_string()).collect();
    let mut child = hear_signals(&mut Command::new("sh"))
        .args(["-c", "[ -z \"$1\" ] || trap '' $1; shift; exec \"$@\"", "sh", &numbers.join(" ")])
        .arg(env!("CARGO_BIN_EXE_bootrace"))
        .args(command)
        .current_dir(dir.path())
        .env("BOOTRACE_CACHE", dir.path().join("cache"))
        .env("DOCKER_HOST", format!("unix://{}", socket.display()))
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // The question that gets no answer.
    let _connection = listener.accept().unwrap();
    let pid = Pid::from_child(&child);
    for signal in signals {
        kill_process(pid, *signal).unwrap();
    }
    // Docker's client would wait for two minutes.
    let deadline = Instant::now() + Duration::from_secs(60);
    while child.try_wait().unwrap().is_none() {
        if Instant::now() > deadline {
            child.kill().unwrap();
            panic!("{command:?} waits for the engine");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let output = child.wait_with_output().unwrap();
    let error = err(&output);
    assert_eq!(output.status.code(), Some(128 + last.as_raw()), "{command:?}, {signals:?}: {error}");
    // Two signals would end it at once.
    assert!(!error.contains("stopped at once"), "{command:?}, {signals:?}: {error}");
}

#[test]
fn list_asks_the_engines_that_a_run_would_use_and_does_not_wait_for_one_that_hangs() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("hangs.sock");
    let _never_answers = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let output = bootrace(&["list", "--patience", "2s"])
        .env("DOCKER_HOST", format!("unix://{}", socket.display()))
        .env("LIBVIRT_DEFAULT_URI", "test+nonsense:///nothing")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", err(&output));
    let text = out(&output);
    assert!(text.contains("\n  docker   can't run: Docker did not answer in 2s: "), "{text}");
    assert!(
        text.contains(
            "\n  libvirt  can't run: VMs can't be measured at \"test+nonsense:///nothing\", which LIBVIRT_DEFAULT_URI names: "
        ),
        "{text}"
    );
}

#[test]
fn list_is_there_for_programs_too() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("scenarios")).unwrap();
    fs::write(dir.path().join("scenarios/mine.toml"), "name = 1").unwrap();
    let output = bootrace(&["list", "--json"]).current_dir(dir.path()).output().unwrap();
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let names = json["scenarios"].as_array().unwrap().iter().map(|s| s["name"].as_str().unwrap());
    let mut known = SHIPPED.map(|(name, _)| name).to_vec();
    known.push("mine");
    known.sort_unstable();
    assert_eq!(names.collect::<Vec<_>>(), known);
    let of = |name: &str| &json["scenarios"][known.iter().position(|known| *known == name).unwrap()];
    assert_eq!(of("mine")["path"], "scenarios/mine.toml");
    assert!(of("mine")["error"].as_str().unwrap().starts_with("scenarios/mine.toml:1:8: name: "));
    assert_eq!(of("nginx")["targets"], serde_json::json!(["native", "docker", "libvirt"]));
    let kinds = json["targets"].as_array().unwrap().iter().map(|t| t["kind"].as_str().unwrap());
    assert_eq!(kinds.collect::<Vec<_>>(), ["native", "docker", "libvirt", "podman", "lxc"]);
    assert!(json["targets"].as_array().unwrap().iter().all(|t| t["can_run"].is_boolean()));
}

#[test]
fn completions_for_bash_parse_and_know_the_subcommands() {
    let script = out(&run(&["completions", "bash"]));
    assert!(script.contains("bootrace__subcmd__check") || script.contains("bootrace__check"), "{script}");
    let mut bash = Command::new("bash").arg("-n").stdin(Stdio::piped()).spawn().unwrap();
    bash.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
    assert!(bash.wait().unwrap().success());
}

#[test]
fn colours_are_for_terminals_and_no_color_is_honoured() {
    let (_dir, path) = file("name = 1");
    for args in [&["--help"][..], &["list"], &["check", &path, "quickstart"]] {
        let coloured = |variables: &[(&str, &str)]| {
            let output = bootrace(args).envs(variables.iter().copied()).output().unwrap();
            output.stdout.contains(&0x1b) || output.stderr.contains(&0x1b)
        };
        assert!(coloured(&[("CLICOLOR_FORCE", "1")]), "{args:?}");
        assert!(!coloured(&[("CLICOLOR_FORCE", "1"), ("NO_COLOR", "1")]), "{args:?}");
        assert!(!coloured(&[]), "{args:?}");
    }
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    for args in [&["completions", "bash"][..], &["list"], &["check", "quickstart"], &["--help"]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = bootrace(args).stdout(writer).stderr(Stdio::piped()).output().unwrap();
        assert_eq!((output.status.code(), err(&output).as_str()), (Some(0), ""), "{args:?}");
    }
}

/// A file that can't be written: the disk is full.
fn full() -> fs::File {
    fs::OpenOptions::new().write(true).open("/dev/full").expect("/dev/full is needed: mount devtmpfs")
}

/// The image cache's commands, without an engine: they have lines for both streams.
fn of_images(arguments: &[&str], cache: &Path) -> Command {
    let mut command = bootrace(arguments);
    command.env("BOOTRACE_CACHE", cache);
    command
        .env("DOCKER_HOST", "unix:///nowhere/docker.sock")
        .env("CONTAINER_HOST", "unix:///nowhere/podman.sock");
    command
}

#[test]
fn standard_output_that_cant_be_written_is_an_error_of_every_command() {
    let cache = tempfile::tempdir().unwrap();
    for args in [
        &["list"][..],
        &["check", "quickstart"],
        &["completions", "bash"],
        &["image", "list"],
        &["image", "list", "--verify"],
        &["image", "prune"],
        &["--help"],
        &["run", "--help"],
        &["--version"],
    ] {
        let output = of_images(args, cache.path()).stdout(full()).stderr(Stdio::piped()).output().unwrap();
        let error = err(&output);
        assert_eq!(output.status.code(), Some(1), "{args:?}: {error}");
        let expected =
            "error: writing to standard output\n  because: No space left on device (os error 28)\n";
        assert!(error.ends_with(expected), "{args:?}: {error}");
    }
}

#[test]
fn standard_error_that_cant_be_written_changes_no_exit_code() {
    let cache = tempfile::tempdir().unwrap();
    for (args, code) in [
        (&["image", "list"][..], 0),
        (&["-vv", "image", "list"], 0),
        (&["check", "no/such.toml"], 2),
        (&["runn"], 2),
        (&["kvm-probe"], 2),
    ] {
        let said = of_images(args, cache.path()).output().unwrap();
        assert!(!said.stderr.is_empty(), "{args:?} has nothing for standard error");
        let output = of_images(args, cache.path()).stdout(Stdio::piped()).stderr(full()).output().unwrap();
        assert_eq!((output.status.code(), out(&output)), (Some(code), out(&said)), "{args:?}");
    }
    // Both at once.
    let output = of_images(&["list"], cache.path()).stdout(full()).stderr(full()).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn the_log_goes_to_standard_error_and_does_not_mix_with_output() {
    let output = run(&["-vv", "list", "--json"]);
    assert!(serde_json::from_slice::<serde_json::Value>(&output.stdout).is_ok());
}

/// The reference of the command line, as clap has it.
fn reference() -> String {
    use std::fmt::Write;

    use clap::CommandFactory;

    fn command_of(out: &mut String, path: &str, command: &clap::Command) {
        let about = command.get_about().map(ToString::to_string).unwrap_or_default();
        let _ = writeln!(out, "\n## {path}\n\n{about}");
        let shown = || command.get_arguments().filter(|arg| !arg.is_hide_set() && arg.get_id() != "verbose");
        if shown().next().is_some() {
            let _ = writeln!(out, "\n| argument | what it does |\n|---|---|");
        }
        for arg in shown() {
            let value = arg
                .get_value_names()
                .map(|names| names.iter().map(|n| n.to_string()).collect::<Vec<_>>().join(" "));
            let value = value.filter(|_| arg.get_action().takes_values()).unwrap_or_default();
            let name = match (arg.get_long(), arg.get_short()) {
                (None, _) => value,
                (Some(long), None) => format!("--{long} {value}").trim_end().to_owned(),
                (Some(long), Some(short)) => format!("-{short}, --{long} {value}").trim_end().to_owned(),
            };
            let default: Vec<_> = arg.get_default_values().iter().map(|v| v.to_string_lossy()).collect();
            let default = match default.is_empty() || !arg.get_action().takes_values() {
                true => String::new(),
                false => format!(" Default: `{}`.", default.join(",")),
            };
            let values: Vec<_> =
                arg.get_possible_values().iter().map(|v| format!("`{}`", v.get_name())).collect();
            let values = match values.is_empty() || !arg.get_action().takes_values() {
                true => String::new(),
                false => format!(" One of {}.", values.join(", ")),
            };
            let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
            let help = format!("{}.{values}{default}", help.trim_end_matches('.')).replace('|', "\\|");
            let _ = writeln!(out, "| `{}` | {} |", name.replace('|', "\\|"), help.trim_start_matches(". "));
        }
        for each in command.get_subcommands().filter(|each| each.get_name() != "help") {
            command_of(out, &format!("{path} {}", each.get_name()), each);
        }
    }

    let mut out = String::from(
        "# Command line\n\nGenerated from the program's own description of its arguments. Every command has `--help` with examples, and \
         `-v` for more\non standard error.\n",
    );
    for each in bootrace::cli::Cli::command().get_subcommands() {
        command_of(&mut out, &format!("bootrace {}", each.get_name()), each);
    }
    let _ = writeln!(out, "\n## Exit codes\n\n| code | meaning |\n|---|---|");
    for (code, meaning) in bootrace::cli::exit::rows() {
        let _ = writeln!(out, "| {code} | {meaning} |");
    }
    out
}

#[test]
fn the_reference_of_the_command_line_is_that_of_the_program() {
    let (path, reference) = ("docs/cli.md", reference());
    if std::env::var_os("BOOTRACE_GENERATE").is_some() {
        fs::write(path, &reference).unwrap();
    }
    let committed = fs::read_to_string(path).unwrap_or_default();
    assert!(
        committed == reference,
        "{path} is not what the program says; fix: BOOTRACE_GENERATE=1 cargo test --test cli"
    );
}
