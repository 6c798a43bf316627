//! Finds the image of a scenario, or builds its missing forms.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use futures_util::{StreamExt, stream::FuturesUnordered};
use tokio::signal::unix::Signal;
use tokio_util::sync::CancellationToken;

use super::{
    Cache, Forms, Image, StockFiles, SystemFiles, VmFiles,
    base::{self, Base},
    boot_disk,
    cache::make_dir,
    cloud::stock,
    cow_file,
    definition::{Definition, Source},
    docker,
    engine::{Client, ContainerEngine},
    error::Error,
    job::Job,
    lock::Lock,
    rootless,
    stored::touch,
    tree::{self, Tree},
    vm,
};
use crate::{
    agent, sample,
    scenario::{self, Firmware},
    sys,
};

/// Returns the image that `spec` describes, in the requested `forms`. Builds only what `cache` lacks, and keeps it
/// there. The scenario's relative paths start at `base_dir`. `log` gets a line for each step that takes long, and
/// the reason for a fallback.
///
/// A hang-up, Ctrl-C, Ctrl-\\ or SIGTERM ends it with [`Error::Signalled`] after all processes that it spawned have ended.
/// Dropping it ends them too. (From the first call on, these signals no longer end this process by themselves.)
///
/// # Errors
/// When `[image]` is wrong, an engine does not answer, a program is missing or fails, the source can't be reached and
/// there is no fallback, the cache can't be written, or a signal arrives.
pub async fn ensure(
    spec: &scenario::Image,
    base_dir: &Path,
    forms: Forms,
    cache: &Cache,
    log: &dyn Fn(&str),
) -> Result<Image, Error> {
    let job = Job { cache, log, cancel: CancellationToken::new() };
    let signals = sys::signals::ending().unwrap_or_default();
    // On the heap, since the future of a build is large.
    let mut work = Box::pin(work(&job, spec, base_dir, forms));
    tokio::select! {
        image = &mut work => image,
        signal = interrupted(signals) => {
            job.say("stopping what was begun");
            job.cancel.cancel();
            let _ = work.await;
            Err(Error::Signalled { signal })
        }
    }
}

/// Connects to the engines that need the image.
async fn connect(forms: Forms) -> Result<Vec<Client>, Error> {
    let mut engines = Vec::new();
    for engine in forms.engines() {
        let client = Client::connect(engine).await?;
        rootless::refuse(engine, &client.info().await.map_err(client.refused("say what it is"))?).await?;
        engines.push(client);
    }
    Ok(engines)
}

async fn work(job: &Job<'_>, spec: &scenario::Image, base_dir: &Path, forms: Forms) -> Result<Image, Error> {
    // Reports the scenario's mistakes first, then engines that can't be used, before the long build.
    Definition::first(spec, base_dir)?;
    Definition::fallback(spec)?;
    let engines = tokio::select! {
        biased;
        () = job.cancel.cancelled() => return Err(Error::Interrupted),
        engines = connect(forms) => engines?,
    };
    let (base, fallback_reason) = base::choose(job, spec, base_dir, forms.systemd).await?;
    let cow_bytes = cow_file::bytes(spec.cow);
    let digest = tree::digest(&base.sum()?.sha256, &agent::digest(), cow_bytes);
    let in_use = job.use_lock(&digest, "this image").await?;
    let dir = job.cache.image(&digest);
    let wanted = Wanted {
        job,
        dir: &dir,
        digest: &digest,
        base: &base,
        cow_bytes,
        engines: &engines,
        vm: forms.vm,
        forms,
    };
    let made = match wanted.find().await? {
        Some(found) => found,
        None => wanted.make().await?,
    };
    touch(&dir)?;
    if (forms.vm || forms.stock)
        && let Some(barrier) = job.cache.barrier()
    {
        job.say(format!(
            "{} is closed to other users: QEMU, if it runs as one, can't read the VM's files; fix: chmod o+x {0}, or \
             another cache directory in {}",
            barrier.display(),
            super::cache::VARIABLE
        ));
    }
    made.into_image(&base, forms, fallback_reason, in_use)
}

/// The requested image and its place in the cache.
struct Wanted<'a> {
    job: &'a Job<'a>,
    dir: &'a Path,
    digest: &'a str,
    base: &'a Base,
    /// Size of the `[cow]` file in bytes; `None` without one.
    cow_bytes: Option<u64>,
    /// Clients of the engines that need it.
    engines: &'a [Client],
    vm: bool,
    forms: Forms,
}

struct Made {
    tree: Tree,
    /// Its reference in each engine.
    engines: Vec<(ContainerEngine, String)>,
    vm: Option<(VmFiles, vm::About)>,
    stock: Option<StockFiles>,
}

impl Wanted<'_> {
    /// The image if all requested forms exist.
    async fn find(&self) -> Result<Option<Made>, Error> {
        let Some(tree) = tree::find(self.dir) else { return Ok(None) };
        self.has_system(&tree)?;
        let mut made = Made { tree, engines: Vec::new(), vm: None, stock: None };
        if self.forms.stock {
            made.stock = stock::find(self.dir);
        }
        if self.vm {
            made.vm = vm::find(self.dir);
        }
        let (mut disks, wanted) = (0, self.firmwares());
        if let Some(system) = made.vm.as_mut().and_then(|(files, _)| files.system.as_mut()) {
            for &firmware in &wanted {
                let found = boot_disk::find(self.dir, firmware);
                disks += usize::from(found.is_some());
                *disk_of(system, firmware) = found;
            }
        }
        for client in self.engines {
            let found = docker::find(client, self.digest).await?;
            made.engines.extend(found.map(|reference| (client.engine, reference)));
        }
        let forms = made.vm.is_some() == self.vm && made.engines.len() == self.engines.len();
        let whole = forms && disks == wanted.len() && made.stock.is_some() == self.forms.stock;
        Ok(whole.then_some(made))
    }

    /// Builds the missing forms, those of engines and VMs at the same time.
    async fn make(&self) -> Result<Made, Error> {
        self.job.require_root()?;
        let _building = self.job.build_lock(self.digest, "this image").await?;
        self.job.cache.sweep()?;
        make_dir(self.dir)?;
        let tree = match tree::find(self.dir) {
            Some(tree) => tree,
            None => tree::make(self.job, self.dir, self.digest, self.base, self.cow_bytes).await?,
        };
        if let (true, Err(why)) = (self.vm, &tree.about.fits_vm) {
            return Err(Error::NoKernel { image: tree.about.source.clone(), why: why.clone() });
        }
        self.has_system(&tree)?;
        let vm = async {
            let found = match vm::find(self.dir) {
                _ if !self.vm => return Ok(None),
                Some(found) => found,
                None => vm::make(self.job, self.dir, &tree).await?,
            };
            self.with_boot_disks(found, &tree).await.map(Some)
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
        let stock = async {
            match stock::find(self.dir) {
                _ if !self.forms.stock => Ok(None),
                Some(found) => Ok(Some(found)),
                None => stock::make(self.job, self.dir, &tree, self.base).await.map(Some),
            }
        };
        let (vm, engines, stock) = tokio::join!(vm, engines, stock);
        Ok(Made { vm: vm?, engines: engines?, stock: stock?, tree })
    }

    /// Fails if a target starts the image's whole system and the image has none.
    fn has_system(&self, tree: &Tree) -> Result<(), Error> {
        let systemd = if self.forms.systemd { tree.about.fits_systemd.clone() } else { Ok(()) };
        let initrd = if self.forms.initrd { tree.about.initrd.clone().map(drop) } else { Ok(()) };
        let no_system = |why| Error::NoSystem { image: tree.about.source.clone(), why };
        systemd.and(initrd).map_err(no_system)
    }

    fn firmwares(&self) -> Vec<Firmware> {
        let wanted = [(Firmware::Bios, self.forms.bios), (Firmware::Uefi, self.forms.uefi)];
        wanted.into_iter().filter(|(_, wanted)| *wanted).map(|(firmware, _)| firmware).collect()
    }

    /// Builds the missing disks for firmware.
    async fn with_boot_disks(
        &self,
        (mut files, about): (VmFiles, vm::About),
        tree: &Tree,
    ) -> Result<(VmFiles, vm::About), Error> {
        if let Some(system) = &mut files.system {
            for firmware in self.firmwares() {
                let disk = match boot_disk::find(self.dir, firmware) {
                    Some(found) => found,
                    None => boot_disk::make(self.job, self.dir, tree, &files.disk, system, firmware).await?,
                };
                *disk_of(system, firmware) = Some(disk);
            }
        }
        Ok((files, about))
    }
}

fn disk_of(system: &mut SystemFiles, firmware: Firmware) -> &mut Option<PathBuf> {
    match firmware {
        Firmware::Bios => &mut system.bios,
        Firmware::Uefi => &mut system.uefi,
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
            disk_bytes: match (&self.vm, &self.stock) {
                (Some((_, about)), _) => Some(about.disk_bytes),
                (None, stock) => stock.as_ref().map(|stock| stock.disk_bytes),
            },
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
            stock: self.stock,
            in_use: Some(Arc::new(in_use)),
        })
    }
}

/// Waits for a signal that ends the build, and returns its number. Never returns if signals can't be handled.
async fn interrupted(mut signals: Vec<(Signal, u8)>) -> u8 {
    let mut received: FuturesUnordered<_> = signals
        .iter_mut()
        .map(|(signal, number)| async {
            signal.recv().await;
            *number
        })
        .collect();
    match received.next().await {
        Some(number) => number,
        None => std::future::pending().await,
    }
}
