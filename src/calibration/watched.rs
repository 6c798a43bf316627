//! Wraps a target for a calibration: measures it independently, and injects a fault on request.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use async_trait::async_trait;

use super::Break;
use crate::{
    control::Greeting,
    probe::{Scope, disk::Place, process},
    sample,
    scenario::Start,
    target::{EndNotice, Error, Instance, InstanceId, Rest, Target},
};

/// Observations of one instance beside its sample.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    pub start_call_ns: Option<u64>,
    pub remove_call_ns: Option<u64>,
    /// The processes that existed before it.
    pub before: BTreeSet<u32>,
}

/// A target that runs one instance at a time.
pub struct Watched {
    pub target: Box<dyn Target>,
    pub broken: Option<Break>,
    seen: Arc<Mutex<Seen>>,
}

impl Watched {
    pub fn new(target: Box<dyn Target>, broken: Option<Break>) -> Self {
        Watched { target, broken, seen: Arc::default() }
    }

    /// The observations of the last instance.
    pub fn seen(&self) -> Seen {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[async_trait]
impl Target for Watched {
    fn info(&self) -> sample::TargetRecord {
        self.target.info()
    }

    fn versions(&self, host: &mut sample::Host) {
        self.target.versions(host);
    }

    fn warnings(&self) -> Vec<String> {
        self.target.warnings()
    }

    fn begins(&self) -> Start {
        self.target.begins()
    }

    fn greeting(&self) -> Greeting {
        self.target.greeting()
    }

    fn boots(&self) -> bool {
        self.target.boots()
    }

    async fn neighbours(&self, host: &mut sample::Host) {
        self.target.neighbours(host).await;
    }

    fn daemons(&self) -> Vec<u32> {
        self.target.daemons()
    }

    async fn stage(&self, instance_id: &InstanceId) -> Result<Box<dyn Instance>, Error> {
        // Before it is staged: the agent of a bare process is there from then on.
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) =
            Seen { before: process::all(), ..Seen::default() };
        let instance = self.target.stage(instance_id).await?;
        let mut watched =
            WatchedInstance { instance, broken: self.broken, seen: self.seen.clone(), started: None };
        if self.broken == Some(Break::Clock) {
            // `start` returns the result: a staging that fails leaves nothing to remove.
            watched.started = Some(watched.start_now().await);
        }
        Ok(Box::new(watched))
    }
}

struct WatchedInstance {
    instance: Box<dyn Instance>,
    broken: Option<Break>,
    seen: Arc<Mutex<Seen>>,
    /// The result of a premature start.
    started: Option<Result<(), Error>>,
}

impl WatchedInstance {
    async fn start_now(&mut self) -> Result<(), Error> {
        let begin = Instant::now();
        let result = self.instance.start().await;
        let took = begin.elapsed().as_nanos() as u64;
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).start_call_ns = Some(took);
        result
    }
}

#[async_trait]
impl Instance for WatchedInstance {
    async fn start(&mut self) -> Result<(), Error> {
        match self.started.take() {
            Some(result) => result,
            None => self.start_now().await,
        }
    }

    fn scope(&self, leader: u32) -> Scope {
        let mut scope = self.instance.scope(leader);
        if self.broken == Some(Break::Engine) {
            scope.engine.clear();
        }
        scope
    }

    async fn rest(&mut self) -> Result<Rest, Error> {
        self.instance.rest().await
    }

    async fn disk(&mut self) -> Option<Place> {
        self.instance.disk().await
    }

    fn ended(&mut self) -> Option<EndNotice> {
        self.instance.ended()
    }

    async fn post_mortem(&mut self) -> Option<String> {
        self.instance.post_mortem().await
    }

    async fn remove(&mut self) -> Result<(), Error> {
        let begin = Instant::now();
        let result = self.instance.remove().await;
        let took = begin.elapsed().as_nanos() as u64;
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).remove_call_ns = Some(took);
        result
    }

    async fn unstage(&mut self) -> Result<(), Error> {
        self.instance.unstage().await
    }
}
