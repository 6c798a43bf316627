//! Serves the harness: one thread, one loop that waits for all events.
//!
//! A single loop has no races between the end of a child, a line of output and a request: it handles them in a fixed
//! order. Only long operations have their own thread: hashing, and writes to the disk.

use std::{
    fs::File,
    io::{self, Read},
    os::fd::AsRawFd,
    path::Path,
    thread,
};

use bootrace_agent::protocol::{
    Account, FrameError, FromAgent, Hello, Ready, ToAgent, Work, WorkDone, Workload,
};

use crate::{
    below,
    boot_times::{self, BootOrigin},
    channel::{Channel, Writer},
    copy,
    identity::Evidence,
    introspect,
    program::Process,
    ready::Watch,
    survey,
    sys::{self, ExitedChild},
    user::User,
};

/// Why the agent can't serve any longer.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error("{tried}: {error}")]
    System { tried: &'static str, error: io::Error },
}

/// A child and whether it has been reaped.
#[derive(Debug)]
struct Child {
    process: Process,
    alive: bool,
}

/// The state of the agent: its stream, its children and the watch for readiness.
pub struct Agent {
    channel: Channel,
    hello: Hello,
    began: BootOrigin,
    child_events: File,
    /// Started at most once.
    workload: Option<Child>,
    /// The readiness event of the workload that was started.
    condition: Option<Ready>,
    /// Until the event has happened, or can't happen any more.
    watch: Option<Watch>,
    work: Option<Process>,
    /// The user of the workload and of work commands; `None`: the agent's own.
    user: Option<User>,
}

impl Agent {
    /// Says hello, which ends the boot phase.
    ///
    /// # Errors
    /// When the harness is gone, or SIGCHLD can't be watched.
    pub fn new(mut channel: Channel, hello: Hello, began: BootOrigin) -> Result<Self, ServeError> {
        let child_events = sys::child_events()
            .map_err(|error| ServeError::System { tried: "watch for children that end", error })?;
        channel.wait().map_err(|error| ServeError::System { tried: "wait for the request", error })?;
        channel.writer().send(&FromAgent::Hello(hello.clone()))?;
        Ok(Agent {
            channel,
            hello,
            began,
            child_events,
            workload: None,
            condition: None,
            watch: None,
            work: None,
            user: None,
        })
    }

    /// Serves until the harness says stop or the stream ends.
    ///
    /// # Errors
    /// When the stream fails or has a frame that is not a request.
    pub fn serve(&mut self) -> Result<(), ServeError> {
        loop {
            let mut fds = self.descriptors();
            sys::poll(&mut fds, self.watch.as_ref().and_then(Watch::interval))
                .map_err(|error| ServeError::System { tried: "wait for events", error })?;
            self.drain()?;
            if self.watch.as_mut().is_some_and(Watch::check) {
                self.ready()?;
            }
            if fds[1].revents != 0 {
                self.reap()?;
            }
            if fds[0].revents != 0 {
                match self.channel.receive()? {
                    None | Some(ToAgent::Stop) => return Ok(()),
                    Some(request) => self.answer(request)?,
                }
            }
        }
    }

    /// Process groups of the children that are not yet reaped, whose numbers the kernel can't have reused.
    pub fn groups(&self) -> Vec<u32> {
        let workload = self.workload.iter().filter(|w| w.alive).map(|w| w.process.pid);
        workload.chain(self.work.iter().map(|w| w.pid)).collect()
    }

    /// The stream first, children second; then all that may be readable.
    fn descriptors(&self) -> Vec<libc::pollfd> {
        let mut fds = vec![self.channel.fd(), self.child_events.as_raw_fd()];
        fds.extend(self.workload.iter().flat_map(|w| w.process.descriptors()));
        fds.extend(self.work.iter().flat_map(Process::descriptors));
        fds.extend(self.watch.as_ref().and_then(Watch::descriptor));
        fds.into_iter().map(sys::readable).collect()
    }

    fn send(&self, message: &FromAgent) -> Result<(), ServeError> {
        Ok(self.channel.writer().send(message)?)
    }

    fn fail(&self, error: impl ToString) -> Result<(), ServeError> {
        Ok(self.channel.writer().fail(error)?)
    }

    fn answer(&mut self, request: ToAgent) -> Result<(), ServeError> {
        match request {
            ToAgent::Start(workload) => self.start(workload),
            ToAgent::Work(work) => self.work(work),
            ToAgent::Identify => self.identify(),
            // Meanwhile the workload waits if it writes more than a pipe holds; all measuring is over by then.
            ToAgent::BootTimes => {
                self.send(&FromAgent::BootTimes(boot_times::read(self.began, self.hello.uptime_ns)))
            }
            ToAgent::Read => match below::readings() {
                Ok(readings) => self.send(&FromAgent::Readings(readings)),
                Err(error) => self.fail(format!("read /proc: {error}")),
            },
            ToAgent::Check => self.check(),
            ToAgent::Sync => self.aside("syncs", |writer| match copy::sync() {
                Ok(()) => writer.send(&FromAgent::Synced),
                Err(error) => writer.fail(error),
            }),
            ToAgent::Write { at } => self.aside("writes", move |writer| {
                writer.send(&FromAgent::WriteStarted)?;
                match copy::write(at) {
                    Ok(written) => writer.send(&FromAgent::Written(written)),
                    Err(error) => writer.fail(error),
                }
            }),
            ToAgent::Introspect(wanted) => {
                let workload = self.workload.as_ref().filter(|w| w.alive).map(|w| w.process.pid);
                self.send(&FromAgent::Isolation(Box::new(introspect::introspect(&wanted, workload))))
            }
            ToAgent::Survey => {
                let workload = self.workload.as_ref().filter(|w| w.alive).map(|w| w.process.pid);
                self.send(&FromAgent::Surroundings(survey::survey(workload)))
            }
            ToAgent::IsCached => self.send(&FromAgent::Cached(introspect::is_cached())),
            ToAgent::Account => {
                let program = self.work.as_ref().or(self.workload.as_ref().map(|workload| &workload.process));
                let output = program.map(Process::output);
                self.send(&FromAgent::Account(Account { output, oom_kills: below::oom_kills() }))
            }
            ToAgent::Ping { token } => self.send(&FromAgent::Pong { token }),
            // `serve` handles it.
            ToAgent::Stop => Ok(()),
        }
    }

    fn start(&mut self, workload: Workload) -> Result<(), ServeError> {
        if self.workload.is_some() {
            return self.fail("start the workload: it was started before, and an instance has only one");
        }
        let watch = match Watch::new(&workload.ready) {
            Ok(watch) => watch,
            Err(error) => return self.fail(error),
        };
        if let Err(error) = sys::limit_privileges(workload.capabilities) {
            return self.fail(format!("limit the workload's privileges: {error}"));
        }
        self.user = match workload.user.as_deref().map(User::find).transpose() {
            Ok(user) => user,
            Err(error) => return self.fail(error),
        };
        match Process::spawn(&workload.argv, &workload.env, self.user.as_ref()) {
            Ok(process) => {
                // No answer: the workload may share the agent's CPU, and each frame wakes the harness.
                self.workload = Some(Child { process, alive: true });
                self.watch = Some(watch);
                self.condition = Some(workload.ready);
                Ok(())
            }
            Err(error) => self.fail(error),
        }
    }

    /// Checks readiness again: a port must accept connections again, an earlier line remains valid.
    fn check(&mut self) -> Result<(), ServeError> {
        self.send(&FromAgent::Awake { nonce: self.channel.writer().nonce() })?;
        let alive = self.workload.as_ref().is_some_and(|workload| workload.alive);
        match self.condition.as_ref().filter(|_| alive) {
            None => self.fail("check again whether the workload is ready: it does not run"),
            Some(Ready::Tcp(port)) => {
                self.watch = Some(Watch::again(*port));
                Ok(())
            }
            Some(Ready::File(path)) if !Path::new("/").join(path).exists() => {
                self.fail(format!("check again whether the workload is ready: {path:?} is gone"))
            }
            Some(Ready::File(_) | Ready::Line(_) | Ready::Exit(_)) => self.ready(),
        }
    }

    fn work(&mut self, work: Work) -> Result<(), ServeError> {
        if self.work.is_some() {
            return self.fail("run a work command: another one is still running");
        }
        match Process::spawn(&work.argv, &work.env, self.user.as_ref()) {
            Ok(process) => {
                self.work = Some(process);
                self.send(&FromAgent::WorkStarted)
            }
            Err(error) => self.fail(error),
        }
    }

    fn identify(&self) -> Result<(), ServeError> {
        let workload = self.workload.as_ref();
        let alive = workload.is_some_and(|w| w.alive);
        let evidence = Evidence::of(workload.map(|w| &w.process), alive, &self.hello);
        self.aside("hashes executables", move |writer| writer.send(&FromAgent::Identity(evidence.identity())))
    }

    /// Runs a long operation in a thread of its own.
    fn aside(
        &self,
        what: &str,
        work: impl FnOnce(&Writer) -> Result<(), FrameError> + Send + 'static,
    ) -> Result<(), ServeError> {
        let writer = self.channel.writer().clone();
        let work = move || {
            // If the stream has ended, the loop sees it too.
            let _ = work(&writer);
        };
        match thread::Builder::new().spawn(work) {
            Ok(_) => Ok(()),
            Err(error) => self.fail(format!("start a thread that {what}: {error}")),
        }
    }

    /// Reads the children's output; a line may make the workload ready.
    fn drain(&mut self) -> Result<(), ServeError> {
        let mut ready = false;
        if let Some(workload) = &mut self.workload {
            workload.process.drain(|stream, bytes| {
                ready = ready || self.watch.as_mut().is_some_and(|w| w.output(stream, bytes));
            });
        }
        if let Some(work) = &mut self.work {
            work.drain(|_, _| {});
        }
        if ready { self.ready() } else { Ok(()) }
    }

    /// The readiness event happened.
    fn ready(&mut self) -> Result<(), ServeError> {
        self.watch = None;
        let Some(workload) = &self.workload else { return Ok(()) };
        let after_ns = workload.process.started.elapsed().as_nanos() as u64;
        self.send(&FromAgent::Ready { after_ns })
    }

    /// Reaps every child that has ended: the workload, the work command, and adopted orphans.
    fn reap(&mut self) -> Result<(), ServeError> {
        let mut count = [0; 8];
        let _ = self.child_events.read(&mut count);
        while let Some(ended) = sys::reap(false) {
            // The last output is still in its pipes.
            self.drain()?;
            if self.workload.as_ref().is_some_and(|w| w.alive && w.process.pid == ended.pid) {
                self.workload_ended(&ended)?;
            } else if let Some(work) = self.work.take_if(|w| w.pid == ended.pid) {
                let wall_ns = work.started.elapsed().as_nanos() as u64;
                let cpu_ns = ended.cpu.as_nanos() as u64;
                self.send(&FromAgent::WorkDone(WorkDone { wall_ns, cpu_ns, exit: work.exit(&ended) }))?;
            }
        }
        Ok(())
    }

    fn workload_ended(&mut self, ended: &ExitedChild) -> Result<(), ServeError> {
        if self.watch.as_mut().is_some_and(|w| w.exited(ended.code)) {
            self.ready()?;
        }
        self.watch = None;
        let Some(workload) = &mut self.workload else { return Ok(()) };
        workload.alive = false;
        let exit = workload.process.exit(ended);
        self.send(&FromAgent::Exited(exit))
    }
}
