//! Serving the harness: one thread, one loop that waits for all that can happen.
//!
//! A single loop has no races between a child that ends, a line that comes and a request: they
//! are dealt with in a fixed order. Only hashing, which takes long, has a thread of its own.

use std::{
    fs::File,
    io::{self, Read},
    os::fd::AsRawFd,
    thread,
};

use bootrace_agent::protocol::{FrameError, FromAgent, Hello, ToAgent, Work, WorkDone, Workload};

use crate::{
    below,
    boot_times::{self, Began},
    channel::Channel,
    identity::Evidence,
    program::Process,
    ready::Watch,
    sys::{self, Ended},
};

/// Why serving can't go on.
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

pub struct Agent {
    channel: Channel,
    hello: Hello,
    began: Began,
    child_events: File,
    /// Started at most once.
    workload: Option<Child>,
    /// Until the event has happened, or can't happen any more.
    watch: Option<Watch>,
    work: Option<Process>,
}

impl Agent {
    /// Says hello: the end of the boot phase.
    pub fn new(channel: Channel, hello: Hello, began: Began) -> Result<Self, ServeError> {
        let child_events = sys::child_events()
            .map_err(|error| ServeError::System { tried: "watch for children that end", error })?;
        channel.writer().send(&FromAgent::Hello(hello.clone()))?;
        Ok(Agent { channel, hello, began, child_events, workload: None, watch: None, work: None })
    }

    /// Serves until the harness says stop or the stream ends.
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

    /// Process groups of the children that have not been reaped, so that no other can have their numbers.
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
            // The workload waits if it writes more than a pipe holds meanwhile; it has been measured by then.
            ToAgent::BootTimes => {
                self.send(&FromAgent::BootTimes(boot_times::read(self.began, self.hello.uptime_ns)))
            }
            ToAgent::Read => match below::readings() {
                Ok(readings) => self.send(&FromAgent::Readings(readings)),
                Err(error) => self.fail(format!("read /proc: {error}")),
            },
            ToAgent::Ping { token } => self.send(&FromAgent::Pong { token }),
            // Dealt with in `serve`.
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
        match Process::spawn(&workload.argv, &workload.env) {
            Ok(process) => {
                let pid = process.pid;
                self.workload = Some(Child { process, alive: true });
                self.watch = Some(watch);
                self.send(&FromAgent::Started { pid })
            }
            Err(error) => self.fail(error),
        }
    }

    fn work(&mut self, work: Work) -> Result<(), ServeError> {
        if self.work.is_some() {
            return self.fail("run a piece of work: another one is still running");
        }
        match Process::spawn(&work.argv, &work.env) {
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
        let writer = self.channel.writer().clone();
        let hash = move || {
            // If the stream has ended the loop sees it, too.
            let _ = writer.send(&FromAgent::Identity(evidence.identity()));
        };
        match thread::Builder::new().spawn(hash) {
            Ok(_) => Ok(()),
            Err(error) => self.fail(format!("start a thread that hashes executables: {error}")),
        }
    }

    /// Takes what the children wrote; a line may make the workload ready.
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

    /// Reaps every child that has ended: the workload, work, and orphans that became ours.
    fn reap(&mut self) -> Result<(), ServeError> {
        let mut count = [0; 8];
        let _ = self.child_events.read(&mut count);
        while let Some(ended) = sys::reap(false) {
            // What it wrote before it ended is still in its pipes.
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

    fn workload_ended(&mut self, ended: &Ended) -> Result<(), ServeError> {
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
