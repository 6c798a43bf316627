//! A target without an engine, for tests of order and failure; the library's own tests take this file too. Its agent is a thread that plays a part, and it logs
//! every call in order.

use std::{
    os::unix::net::UnixStream,
    path::PathBuf,
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use async_trait::async_trait;
use bootrace_agent::protocol::{
    Account, BootTimes, Exit, FromAgent, Hello, Identity, Readings, ToAgent, VERSION, WorkDone, Written,
    read_frame, write_frame,
};
use tokio::sync::Notify;

use bootrace::{
    agent,
    control::Greeting,
    kind::{Kind, Start},
    probe::Scope,
    sample::{self, Accelerator},
    target::{EndNotice, Error, Instance, InstanceId, Rest, Target},
};

/// How an instance behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Works as it should.
    Good,
    /// The engine's start call fails.
    StartFails,
    /// The engine's start call never returns.
    StartHangs,
    /// Never connects.
    Silent,
    /// Its agent is of another build.
    Foreign,
    /// Its identity is that of another image.
    OtherImage,
    /// Its workload can't be executed.
    NoProgram,
    /// Its workload ends with code 3 before it is ready.
    Dies,
    /// Its workload never becomes ready.
    NeverReady,
    /// Its work command never ends.
    WorkHangs,
    /// Its own kernel kills its workload for lack of memory.
    LacksMemory,
    /// Never connects, since the engine has ended it and reports that.
    Ended,
    /// The engine reports its end before the agent's report of its workload's end arrives.
    LastWords,
    /// Its channel closes, and the engine reports its end a little later.
    Vanishes,
    /// Sends noise in place of frames.
    Noise,
    /// Its work command fails.
    WorkFails,
    /// The engine can't remove it at first.
    RemoveFails,
    /// The engine's remove call never returns.
    RemoveHangs,
    /// Its workload ends with code 3 a while after it was ready.
    DiesLater,
}

/// The calls of a fake target, in order.
pub type Log = Arc<Mutex<Vec<String>>>;

pub struct Fake {
    pub name: String,
    pub log: Log,
    /// The part of each instance in order; the last one repeats.
    pub parts: Vec<Part>,
    /// How its instances start.
    pub begins: Start,
    /// When its agents get their first message. With [`Greeting::AfterHello`] instances are VMs, restored from a file.
    pub greeting: Greeting,
    staged: Mutex<usize>,
}

impl Fake {
    pub fn new(name: &str, log: &Log, parts: &[Part]) -> Self {
        Fake {
            name: name.into(),
            log: log.clone(),
            parts: parts.to_vec(),
            begins: Start::Create,
            greeting: Greeting::AtOnce,
            staged: Mutex::new(0),
        }
    }
}

fn note(log: &Log, text: String) {
    log.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).push(text);
}

#[async_trait]
impl Target for Fake {
    fn info(&self) -> sample::TargetRecord {
        let own_kernel = self.parts.contains(&Part::LacksMemory);
        sample::TargetRecord {
            accelerator: if own_kernel { Accelerator::Tcg } else { Accelerator::None },
            ..sample::TargetRecord::without_vm(self.name.clone(), Kind::Native, serde_json::json!({}))
        }
    }

    fn begins(&self) -> Start {
        self.begins
    }

    fn greeting(&self) -> Greeting {
        self.greeting
    }

    fn versions(&self, _host: &mut sample::Host) {}

    fn daemons(&self) -> Vec<u32> {
        Vec::new()
    }

    async fn stage(&self, instance_id: &InstanceId) -> Result<Box<dyn Instance>, Error> {
        let mut staged = self.staged.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let part = *self.parts.get(*staged).or(self.parts.last()).unwrap_or(&Part::Good);
        *staged += 1;
        note(&self.log, format!("stage {}", self.name));
        Ok(Box::new(Actor {
            name: self.name.clone(),
            log: self.log.clone(),
            part,
            socket: instance_id.socket(),
            nonce: instance_id.nonce.text().into(),
            begins: self.begins,
            greeting: self.greeting,
            rested: false,
            ended: Arc::new(Notify::new()),
            removals: 0,
        }))
    }
}

struct Actor {
    name: String,
    log: Log,
    part: Part,
    socket: PathBuf,
    nonce: String,
    begins: Start,
    greeting: Greeting,
    rested: bool,
    ended: Arc<Notify>,
    removals: u32,
}

#[async_trait]
impl Instance for Actor {
    async fn start(&mut self) -> Result<(), Error> {
        note(&self.log, format!("start {}", self.name));
        if self.rested && self.begins.keeps_memory() {
            if self.greeting == Greeting::AfterHello {
                let (socket, nonce, part) = (self.socket.clone(), self.nonce.clone(), self.part);
                thread::spawn(move || serve(UnixStream::connect(socket).ok()?, &nonce, part));
            }
            return Ok(());
        }
        match self.part {
            Part::StartFails => return Err(Error::new("starting a fake", "this fake always fails")),
            Part::StartHangs => std::future::pending().await,
            Part::Silent => return Ok(()),
            Part::Ended => {
                self.ended.notify_one();
                return Ok(());
            }
            Part::LastWords => self.ended.notify_one(),
            Part::Vanishes => {
                let ended = self.ended.clone();
                thread::spawn(move || {
                    thread::sleep(Duration::from_millis(50));
                    ended.notify_one();
                });
            }
            _ => {}
        }
        let (socket, nonce, part) = (self.socket.clone(), self.nonce.clone(), self.part);
        thread::spawn(move || play(socket, nonce, part));
        Ok(())
    }

    async fn rest(&mut self) -> Result<Rest, Error> {
        note(&self.log, format!("rest {}", self.name));
        self.rested = true;
        Ok(match (self.begins, self.greeting) {
            (Start::Unpause | Start::Restore, Greeting::AtOnce) => Rest::Frozen,
            _ => Rest::Ended,
        })
    }

    fn scope(&self, leader: u32) -> Scope {
        Scope { leader, engine: Vec::new() }
    }

    fn ended(&mut self) -> Option<EndNotice> {
        let ended = self.ended.clone();
        Some(Box::pin(async move {
            ended.notified().await;
            "the fake was ended".into()
        }))
    }

    async fn post_mortem(&mut self) -> Option<String> {
        Some("the fake says nothing".into())
    }

    async fn remove(&mut self) -> Result<(), Error> {
        self.removals += 1;
        note(&self.log, format!("remove {}", self.name));
        if self.part == Part::RemoveHangs {
            std::future::pending::<()>().await;
        }
        if self.part == Part::RemoveFails && self.removals == 1 {
            return Err(Error::new("removing a fake", "this fake always fails"));
        }
        Ok(())
    }
}

/// The agent's side of the protocol, until the stream ends.
fn play(socket: PathBuf, nonce: String, part: Part) -> Option<()> {
    let mut stream = UnixStream::connect(socket).ok()?;
    let build = if part == Part::Foreign { "another" } else { agent::BUILD };
    let hello = FromAgent::Hello(Hello {
        version: VERSION,
        nonce: nonce.clone(),
        build: build.into(),
        kernel_release: KERNEL.into(),
        boot_id: BOOT_ID.into(),
        uptime_ns: 1,
    });
    write_frame(&mut stream, &hello).ok()?;
    if part == Part::Noise {
        std::io::Write::write_all(&mut stream, &[0xff; 16]).ok()?;
    }
    serve(stream, &nonce, part)
}

const KERNEL: &str = "6.0-fake";
const BOOT_ID: &str = "00000000-fake";
const SURROUNDINGS: [(&str, &str); 2] = [("umask", "0022"), ("unknown", "")];

/// The part after its hello or its restore.
fn serve(mut stream: UnixStream, nonce: &str, part: Part) -> Option<()> {
    let exit = |code| Exit { code: Some(code), signal: None, output: "last words".into() };
    while let Ok(Some(asked)) = read_frame::<ToAgent>(&mut stream) {
        let say = |message: FromAgent| write_frame(&mut &stream, &message).ok();
        match asked {
            ToAgent::Start(_) => match part {
                Part::NoProgram => say(FromAgent::Failed {
                    error: "executing nothing: not found".into(),
                    nonce: nonce.into(),
                })?,
                Part::Vanishes => return Some(()),
                Part::Dies | Part::LastWords => {
                    thread::sleep(Duration::from_millis(if part == Part::LastWords { 20 } else { 0 }));
                    say(FromAgent::Exited(exit(3)))?;
                }
                Part::LacksMemory => {
                    let killed = Exit { code: None, signal: Some(9), output: "filling\n".into() };
                    say(FromAgent::Exited(killed))?;
                }
                Part::NeverReady => {}
                _ => {
                    thread::sleep(Duration::from_millis(2));
                    say(FromAgent::Ready { after_ns: 2_000_000 })?;
                    if part == Part::DiesLater {
                        thread::sleep(Duration::from_millis(40));
                        say(FromAgent::Exited(exit(3)))?;
                    }
                }
            },
            ToAgent::Identify => say(FromAgent::Identity(Identity {
                image_digest: Some(if part == Part::OtherImage { "2" } else { "0" }.repeat(64)),
                agent_digest: Some(agent::digest()),
                workload_digest: Some("1".repeat(64)),
                argv: vec!["fake".into()],
                kernel_release: KERNEL.into(),
                boot_id: BOOT_ID.into(),
            }))?,
            ToAgent::Read => {
                say(FromAgent::Readings(Readings {
                    workload_rss: Some(1 << 20),
                    workload_cpu_ns: Some(1),
                    page_cache: Some(1),
                }))?;
            }
            ToAgent::Work(_) => {
                say(FromAgent::WorkStarted)?;
                if part == Part::WorkHangs {
                    continue;
                }
                let code = i32::from(part == Part::WorkFails);
                say(FromAgent::WorkDone(WorkDone { wall_ns: 1, cpu_ns: 1, exit: exit(code) }))?;
            }
            ToAgent::Check => {
                say(FromAgent::Awake { nonce: nonce.into() })?;
                say(FromAgent::Ready { after_ns: 3_000_000 })?;
            }
            ToAgent::Sync => say(FromAgent::Synced)?,
            ToAgent::Write { .. } => {
                say(FromAgent::WriteStarted)?;
                say(FromAgent::Written(Written { wall_ns: 1 }))?;
            }
            ToAgent::Introspect(_) => say(FromAgent::Isolation(Box::default()))?,
            ToAgent::Survey => say(FromAgent::Surroundings(
                SURROUNDINGS.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect(),
            ))?,
            ToAgent::IsCached => say(FromAgent::Cached(None))?,
            ToAgent::BootTimes => say(FromAgent::BootTimes(BootTimes::default()))?,
            ToAgent::Account => say(FromAgent::Account(Account {
                output: match part {
                    Part::NeverReady => Some("10%\rready\r".into()),
                    Part::WorkHangs => Some(String::new()),
                    _ => None,
                },
                oom_kills: u64::from(part == Part::LacksMemory),
            }))?,
            ToAgent::Ping { token } => say(FromAgent::Pong { token })?,
            ToAgent::Stop => return Some(()),
        }
    }
    Some(())
}
