//! Finds the image of a scenario, or makes what of it is missing.

use std::{path::Path, sync::Arc};

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::{
    Cache, Forms, Image, VmFiles,
    base::{self, Base},
    cache::make_dir,
    definition::Source,
    docker,
    engine::{Client, ContainerEngine},
    error::Error,
    job::Job,
    lock::Lock,
    stored::touch,
    tree::{self, Tree},
    vm,
};
use crate::{agent, sample, scenario};

/// The image that `spec` describes, in the `forms` asked for; nothing is made that is there
/// already, and what is made is kept in `cache`. `base_dir` is where the scenario's relative paths
/// start. `log` gets a line for each step that takes long, and the reason for a fallback.
///
/// SIGINT, SIGTERM and SIGHUP end it with [`Error::Signalled`] once all that it spawned is gone;
/// so does dropping it. (From its first call on, those signals no longer end the process by themselves.)
pub async fn ensure(
    spec: &scenario::Image,
    base_dir: &Path,
    forms: Forms,
    cache: &Cache,
    log: &dyn Fn(&str),
) -> Result<Image, Error> {
    let job = Job { cache, log, cancel: CancellationToken::new() };
    // On the heap: all that building takes, which a caller's future and stack should not hold.
    let mut work = Box::pin(work(&job, spec, base_dir, forms));
    tokio::select! {
        image = &mut work => image,
        signal = interrupted() => {
            job.say("stopping what was begun");
            job.cancel.cancel();
            let _ = work.await;
            Err(Error::Signalled { signal })
        }
    }
}

async fn work(job: &Job<'_>, spec: &scenario::Image, base_dir: &Path, forms: Forms) -> Result<Image, Error> {
    let (base, fallback_reason) = base::choose(job, spec, base_dir).await?;
    let digest = tree::digest(&base.sum()?.sha256, &agent::digest());
    let mut engines = Vec::new();
    for engine in forms.engines() {
        engines.push(Client::connect(engine).await?);
    }
    let in_use = job.use_lock(&digest, "this image").await?;
    let dir = job.cache.image(&digest);
    let wanted = Wanted { job, dir: &dir, digest: &digest, base: &base, engines: &engines, vm: forms.vm };
    let made = match wanted.find().await? {
        Some(found) => found,
        None => wanted.make().await?,
    };
    touch(&dir)?;
    if forms.vm
        && let Some(barrier) = job.cache.barrier()
    {
        job.say(format!(
            "{} is closed to other users: QEMU, if it runs as one, can't read the VM's files; mend: chmod o+x {0}, or \
             another cache directory in {}",
            barrier.display(),
            super::cache::VARIABLE
        ));
    }
    made.into_image(&base, forms, fallback_reason, in_use)
}

/// What is asked for, and where it belongs.
struct Wanted<'a> {
    job: &'a Job<'a>,
    dir: &'a Path,
    digest: &'a str,
    base: &'a Base,
    /// Those that are to have it, connected.
    engines: &'a [Client],
    vm: bool,
}

struct Made {
    tree: Tree,
    /// Its references.
    engines: Vec<(ContainerEngine, String)>,
    vm: Option<(VmFiles, vm::About)>,
}

impl Wanted<'_> {
    /// All of it, or `None`.
    async fn find(&self) -> Result<Option<Made>, Error> {
        let Some(tree) = tree::find(self.dir) else { return Ok(None) };
        let mut made = Made { tree, engines: Vec::new(), vm: None };
        if self.vm {
            made.vm = vm::find(self.dir);
        }
        for client in self.engines {
            let found = docker::find(client, self.digest).await?;
            made.engines.extend(found.map(|reference| (client.engine, reference)));
        }
        let whole = made.vm.is_some() == self.vm && made.engines.len() == self.engines.len();
        Ok(whole.then_some(made))
    }

    /// Makes what is missing, the engines' and the VM's form at the same time.
    async fn make(&self) -> Result<Made, Error> {
        self.job.require_root()?;
        let _building = self.job.build_lock(self.digest, "this image").await?;
        self.job.cache.sweep()?;
        make_dir(self.dir)?;
        let tree = match tree::find(self.dir) {
            Some(tree) => tree,
            None => tree::make(self.job, self.dir, self.digest, self.base).await?,
        };
        if let (true, Err(why)) = (self.vm, &tree.about.fits_vm) {
            return Err(Error::NoKernel { image: tree.about.source.clone(), why: why.clone() });
        }
        let vm = async {
            match vm::find(self.dir) {
                _ if !self.vm => Ok(None),
                Some(found) => Ok(Some(found)),
                None => vm::make(self.job, self.dir, &tree).await.map(Some),
            }
        };
        let engines = async {
            let mut made = Vec::new();
            for client in self.engines {
                let reference = match docker::find(client, self.digest).await? {
                    Some(found) => found,
                    None => docker::make(self.job, client, self.dir, &tree).await?,
                };
                made.push((client.engine, reference));
            }
            Ok::<_, Error>(made)
        };
        let (vm, engines) = tokio::join!(vm, engines);
        Ok(Made { vm: vm?, engines: engines?, tree })
    }
}

impl Made {
    fn into_image(
        self,
        base: &Base,
        forms: Forms,
        fallback_reason: Option<String>,
        in_use: Lock,
    ) -> Result<Image, Error> {
        let about = self.tree.about;
        let (distribution, suite) = match &base.definition().source {
            Source::Suite(suite) => (suite.distribution.name().into(), suite.name.clone()),
            _ => (about.distribution, about.suite),
        };
        let info = sample::Image {
            digest: about.digest,
            distribution,
            suite,
            source: base.manifest.about.origin.clone(),
            fallback: fallback_reason.is_some(),
            fallback_reason,
            packages: base.definition().packages.clone(),
            kernel: about.fits_vm.ok(),
            tar_bytes: Some(base.sum()?.bytes),
            disk_bytes: self.vm.as_ref().map(|(_, about)| about.disk_bytes),
        };
        let of = |engine| {
            let found = self.engines.iter().find(|(of, _)| *of == engine);
            found.map(|(_, reference)| reference.clone())
        };
        Ok(Image {
            info,
            agent_digest: about.agent_digest,
            tree: forms.tree.then_some(self.tree.root),
            docker: of(ContainerEngine::Docker),
            podman: of(ContainerEngine::Podman),
            vm: self.vm.map(|(files, _)| files),
            in_use: Some(Arc::new(in_use)),
        })
    }
}

/// Ends when the user wants out, with the number of the signal; never if signals can't be had.
async fn interrupted() -> u8 {
    let kinds = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()];
    let [Ok(mut int), Ok(mut term), Ok(mut hup)] = kinds.map(signal) else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = int.recv() => 2,
        _ = term.recv() => 15,
        _ = hup.recv() => 1,
    }
}
