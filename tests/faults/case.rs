//! One fault: starts the program, waits for the step by an event, injects, and checks how the run ends.

use std::{
    any::Any,
    ffi::OsString,
    fs,
    io::{BufRead, BufReader},
    panic::{AssertUnwindSafe, catch_unwind},
    process::{Child, Command, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError, channel},
    thread,
    time::{Duration, Instant},
};

use bootrace::sample::{Outcome, Results, Sample};
use regex_lite::Regex;
use rustix::process::{Pid, Signal, kill_process};

use crate::{
    common::{Bench, Ran, bootrace, hear_signals, left_over},
    table::{self, Line},
};

/// How long an event may take before the row fails. Generous: hosts are slow.
pub const PATIENCE: Duration = Duration::from_secs(180);
/// The lines of a message that the table shows.
const SHOWN: usize = 4;

/// The step of a run at which a fault comes: the sign in the program's log of events, of the sample with this number.
#[derive(Debug, Clone, Copy)]
pub struct Step {
    pub name: &'static str,
    pub sign: &'static str,
}

/// No event is awaited.
pub const BEFORE: Step = Step { name: "before the first sample", sign: "" };
pub const STAGED: Step = Step { name: "its files and cgroups are made", sign: "trial begins" };
pub const REQUESTED: Step = Step { name: "the engine's start", sign: "step=Starting" };
pub const STARTED: Step = Step { name: "before the agent's hello", sign: "start call has returned" };
pub const HELLO: Step = Step { name: "the agent's hello", sign: "Hello(" };
pub const SETTLING: Step = Step { name: "ready, settle", sign: "step=Settling" };
pub const IDLING: Step = Step { name: "idle", sign: "step=Idling" };
pub const WORKING: Step = Step { name: "work", sign: "WorkStarted" };
pub const REMOVING: Step = Step { name: "teardown", sign: "step=Removing" };
pub const SAVING: Step = Step { name: "the sample is saved", sign: "trial ended" };

/// What a run is afterwards, beside its exit code and message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then {
    /// Nothing is left.
    Clean,
    /// `bootrace clean` removes what is left, and `bootrace run --resume` takes the other samples.
    CleanAndResume,
    /// `bootrace clean` removes what is left, and the same command does what it would have done.
    CleanAndRunAgain,
}

/// A fault as data.
pub struct Row {
    pub fault: String,
    pub target: &'static str,
    /// Of the scenario: everything but name and image.
    pub scenario: String,
    /// The number of the sample and the step in it at which `inject` is called.
    pub at: (usize, Step),
    /// Calls that set up what the program runs on, before it starts; what they return is taken down at the end.
    pub around: Around,
    pub inject: Inject,
    /// `None`: ended by a signal.
    pub code: Option<i32>,
    /// Texts that the user sees, in this order.
    pub says: &'static [&'static str],
    /// Good samples in results.json afterwards, at least.
    pub kept: usize,
    pub then: Then,
    /// Whether a race or the host words the message: then the table has `says` alone.
    pub varies: bool,
    /// What else may be left, beside what [`left_over`] sees.
    pub left: Option<Box<dyn Fn() -> Vec<String>>>,
}

impl Row {
    /// A row with the host as it is.
    pub fn new(
        fault: &str,
        target: &'static str,
        scenario: String,
        at: (usize, Step),
        inject: impl Fn(&mut Running) + 'static,
    ) -> Row {
        Row {
            fault: fault.into(),
            target,
            scenario,
            at,
            around: None,
            inject: Box::new(inject),
            code: Some(1),
            says: &[],
            kept: 0,
            then: Then::Clean,
            varies: false,
            left: None,
        }
    }

    pub fn varies(self) -> Row {
        Row { varies: true, ..self }
    }

    pub fn around(self, around: Around) -> Row {
        Row { around, ..self }
    }

    /// How the run ends.
    pub fn ends(self, code: Option<i32>, says: &'static [&'static str], kept: usize, then: Then) -> Row {
        Row { code, says, kept, then, ..self }
    }
}

pub type Inject = Box<dyn Fn(&mut Running)>;
pub type Around = Option<Box<dyn Fn(&Bench, &mut Command) -> Box<dyn Any>>>;

/// The program at the step of a row.
pub struct Running {
    pub child: Child,
    /// The name of the instance that is measured.
    pub instance: String,
    pub bench: Bench,
    lines: Receiver<String>,
    said: Vec<String>,
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Running {
    pub fn start(bench: Bench, arguments: &[&str], more: impl FnOnce(&Bench, &mut Command)) -> Running {
        let mut command = bench.command(arguments);
        hear_signals(&mut command).env("RUST_LOG", "bootrace=debug").env("NO_COLOR", "1");
        more(&bench, &mut command);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let (sender, lines) = channel();
        let reader = BufReader::new(child.stderr.take().unwrap());
        thread::spawn(move || reader.lines().map_while(Result::ok).all(|line| sender.send(line).is_ok()));
        Running { child, instance: String::new(), bench, lines, said: Vec::new() }
    }

    /// Waits for a line of the program's standard error, and panics with all of it if none comes.
    pub fn until(&mut self, wanted: impl Fn(&str) -> bool) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => {
                    self.said.push(line.clone());
                    if wanted(&line) {
                        return line;
                    }
                }
                Err(why) => panic!("the event did not come: {why}\n{}", self.said.join("\n")),
            }
        }
    }

    pub fn until_step(&mut self, number: usize, step: Step) {
        let instance = Regex::new(&format!(r#"instance="(bootrace-[0-9a-f]{{8}}-{number})""#)).unwrap();
        let line = self.until(|line| line.contains(step.sign) && instance.is_match(line));
        self.instance = instance.captures(&line).unwrap()[1].to_owned();
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Waits for the end; the exit code and what the user saw, without the log of events.
    pub fn end(&mut self) -> (Option<i32>, Vec<String>) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => self.said.push(line),
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => panic!("it does not end:\n{}", self.said.join("\n")),
            }
        }
        let code = self.child.wait().unwrap().code();
        (code, self.said.iter().filter(|line| !line.contains(" DEBUG bootrace")).cloned().collect())
    }

    pub fn log(&self) -> String {
        self.said.join("\n")
    }
}

/// Good samples of results.
pub fn good(results: &Option<Results>) -> usize {
    results.iter().flat_map(|results| &results.samples).filter(|s| s.outcome == Outcome::Ok).count()
}

/// A user's view of a message: no process ids, times, random names and paths.
pub fn normalised(lines: &[String], bench: &Bench) -> Vec<String> {
    let path = regex_lite::escape(&bench.path().display().to_string());
    let replacements = [
        (path.as_str(), "DIR"),
        (r"bootrace-[0-9a-f]{8}-\d+", "INSTANCE"),
        (r"test-\d{8}T\d{6}Z-\d+", "RUN"),
        (r"\d+(\.\d+)? (m?s)\b", "N $2"),
        (r"/\.bootrace-\w{6}\b", "/TEMPORARY"),
        (r"bootrace:[0-9a-f]{16}", "bootrace:DIGEST"),
        (r"/var/tmp/\.tmp\w+/engine\.sock", "SOCKET"),
        (r"process \d+", "process PID"),
        (r"/proc/\d+", "/proc/PID"),
    ];
    let progress = Regex::new(r"^(round \d|mak|made |unpack|import)").unwrap();
    let mut lines: Vec<String> =
        lines.iter().filter(|line| !progress.is_match(line)).take(SHOWN).cloned().collect();
    for (pattern, word) in replacements {
        let pattern = Regex::new(pattern).unwrap();
        lines.iter_mut().for_each(|line| *line = pattern.replace_all(line, word).into_owned());
    }
    lines
}

/// What helpers of an engine leave goes a moment after the engine's answer.
pub fn left_after_a_moment() -> Vec<String> {
    let deadline = Instant::now() + Duration::from_secs(5);
    loop {
        let left = left_over();
        if left.is_empty() || Instant::now() > deadline {
            return left;
        }
        thread::sleep(Duration::from_millis(100));
    }
}

/// Removes what a killed run left.
pub fn clean() {
    let output = bootrace(&["clean"]).output().unwrap();
    let text =
        [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
    assert_eq!(output.status.code(), Some(0), "bootrace clean: {text}");
}

impl Row {
    fn run(&self) -> Line {
        let bench = match self.scenario.contains("[image]") {
            true => Bench::with_text(&format!("name = \"test\"\n{}", self.scenario)),
            false => Bench::new(&format!("\n{}", self.scenario)),
        };
        let (mut set_up, mut environment) = (None, Vec::new());
        let mut running = Running::start(bench, &["--targets", self.target], |bench, command| {
            set_up = self.around.as_ref().map(|around| around(bench, command));
            let variables = command.get_envs().filter_map(|(name, value)| Some((name.into(), value?.into())));
            environment = variables.collect::<Vec<(OsString, OsString)>>();
        });
        if !self.at.1.sign.is_empty() {
            running.until_step(self.at.0, self.at.1);
        }
        (self.inject)(&mut running);
        let (code, said) = running.end();
        assert_eq!(code, self.code, "{}", running.log());
        let text = said.join("\n");
        let mut rest = text.as_str();
        for sign in self.says {
            let Some((_, after)) = rest.split_once(sign) else { panic!("no {sign:?} in: {text}") };
            rest = after;
        }
        let results = running.bench.results();
        let kept = good(&results);
        assert!(kept >= self.kept, "{kept} good samples are kept, not {}: {results:#?}", self.kept);
        if let Some(results) = &results {
            crate::common::holds_to_schema(results);
            let slow = |sample: &&Sample| sample.timeline_ns.ready > Some(PATIENCE.as_nanos() as u64);
            assert_eq!(results.samples.iter().find(slow), None, "a clock that is no clock of durations");
        }
        if self.then != Then::Clean {
            clean();
        }
        assert_eq!(self.left.as_ref().map(|left| left()).unwrap_or_default(), Vec::<String>::new());
        assert_eq!(left_after_a_moment(), Vec::<String>::new());
        if self.then == Then::CleanAndRunAgain {
            let mut again = running.bench.command(&["--targets", self.target]);
            let again = again.envs(environment).output().unwrap();
            Ran::new(again, running.bench.results()).good();
            let left: Vec<_> = fs::read_dir(running.bench.path().join("cache/tmp")).unwrap().collect();
            assert!(left.is_empty(), "{left:?}");
            assert_eq!(left_after_a_moment(), Vec::<String>::new());
        }
        drop(set_up);
        if self.then == Then::CleanAndResume {
            let resumed = bootrace(&["run", "--resume"]).arg(running.bench.latest()).output().unwrap();
            let samples = Ran::new(resumed, running.bench.results()).good();
            let planned = results.as_ref().unwrap().run.planned as usize;
            assert_eq!(samples.len(), planned, "the resumed run takes the others, once each");
            assert_eq!(left_after_a_moment(), Vec::<String>::new());
        }
        Line {
            fault: self.fault.clone(),
            step: self.at.1.name.into(),
            target: self.target.into(),
            sees: self.sees(said, results, &running.bench),
            code: self.code.map_or("by the signal".into(), |code| code.to_string()),
            kept: self.kept.to_string(),
            left: match self.then {
                Then::Clean => "nothing".into(),
                Then::CleanAndResume | Then::CleanAndRunAgain => "nothing after `bootrace clean`".into(),
            },
        }
    }
}

impl Row {
    /// The message; of a run that ended well, the warnings that its table shows.
    fn sees(&self, mut said: Vec<String>, results: Option<Results>, bench: &Bench) -> Vec<String> {
        if self.varies {
            return vec![format!("… {} …", self.says.join(" … "))];
        }
        if self.code == Some(0) {
            let warnings = results.into_iter().flat_map(|results| results.run.warnings);
            said.extend(warnings.map(|warning| format!("warning: {warning}")));
        }
        normalised(&said, bench)
    }
}

/// Runs all rows, reports every one that fails, and holds the table's section to them.
pub fn all_hold(section: &str, rows: &[Row]) {
    let mut failed = Vec::new();
    let mut lines = Vec::new();
    let only = std::env::var("BOOTRACE_FAULT").ok();
    for row in rows {
        let name = format!("{}, {}, {}", row.fault, row.at.1.name, row.target);
        if only.as_ref().is_some_and(|only| !name.contains(only)) {
            continue;
        }
        let begun = Instant::now();
        match catch_unwind(AssertUnwindSafe(|| row.run())) {
            Ok(line) => lines.push(line),
            Err(_) => {
                failed.push(name.clone());
                clean();
            }
        }
        println!("{name}: {:.1} s", begun.elapsed().as_secs_f64());
    }
    assert_eq!(failed, Vec::<String>::new(), "of {section}");
    if only.is_none() {
        table::holds(section, &lines);
    }
}
