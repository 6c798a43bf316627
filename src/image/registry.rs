//! A root file system from a registry's image: Docker pulls it, a container adds packages, and Docker exports it.
//!
//! Packages are added in an image of the same files without configuration: a volume would lose what they put there, and
//! the image's environment is meant for its own program.

use std::{
    collections::HashMap,
    path::Path,
    sync::atomic::{AtomicUsize, Ordering},
};

use bollard::{
    Docker,
    container::LogOutput,
    models::{ContainerCreateBody, HostConfig},
    query_parameters::{
        CreateContainerOptionsBuilder, CreateImageOptionsBuilder, ListContainersOptionsBuilder,
        ListImagesOptionsBuilder, LogsOptionsBuilder, RemoveContainerOptionsBuilder, StartContainerOptions,
        WaitContainerOptions,
    },
};
use bootrace_model::foreign::tail;
use futures_util::{StreamExt, TryStreamExt};

use super::{
    engine::{Client, connect, is_not_found, refused},
    error::{Error, ErrorOrigin},
    job::Job,
    login::Login,
    manifest::{Sum, save},
};

use crate::sys::processes;

/// The label of a build's containers and images; its value is the builder, as [`processes::identity`] has it.
pub const LABEL: &str = "bootrace.build";
/// The start of their names, which go on with the builder and a number.
const NAME: &str = "bootrace-build";

/// Installs packages. Their names are arguments, so the shell never parses them.
const INSTALL: &str = r#"
command -v apt-get >/dev/null || { echo "packages can be added by apt-get alone, which this image lacks" >&2; exit 1; }
apt="apt-get -q -o Acquire::Retries=0 -o Acquire::http::Timeout=15 -o Acquire::https::Timeout=15"
$apt update
$apt install --yes --no-install-recommends -- "$@"
apt-get clean
rm -rf /var/lib/apt/lists/*
"#;

/// Writes the image with `packages` to `tar`. Returns its checksum and the digest of the pulled image.
pub(super) async fn build(
    job: &Job<'_>,
    reference: &str,
    packages: &[String],
    bootable: bool,
    tar: &Path,
) -> Result<(Sum, String), Error> {
    let source = |why: String| Error::Source {
        asked: format!("the registry's image {reference}"),
        why,
        origin: ErrorOrigin::There,
    };
    let docker = connect().await?;
    remove_orphans(&docker).await?;
    tokio::select! {
        pulled = pull(job, &docker, reference) => pulled.map_err(|error| source(error.to_string()))?,
        () = job.cancel.cancelled() => return Err(Error::Interrupted),
    }
    let image = docker.inspect_image(reference).await.map_err(refused(format!("show {reference}")))?;
    let pinned = image.repo_digests.and_then(|digests| digests.into_iter().next());
    let origin = pinned.or(image.id).unwrap_or_else(|| reference.into());

    let mut made = Made::default();
    let exported = tokio::select! {
        exported = export(job, &docker, reference, packages, bootable, tar, &mut made) => exported,
        () = job.cancel.cancelled() => Err(Error::Interrupted),
    };
    let removed = made.remove(&docker).await;
    let sum = exported?;
    removed?;
    Ok((sum, tail(&origin, 300)))
}

/// What a build makes in the engine.
#[derive(Default)]
struct Made {
    containers: Vec<String>,
    image: Option<String>,
}

impl Made {
    async fn remove(self, docker: &Client) -> Result<(), Error> {
        let mut removed = Ok(());
        for container in self.containers {
            let options = RemoveContainerOptionsBuilder::new().force(true).v(true).build();
            let gone = docker.remove_container(&container, Some(options)).await;
            // Tries to remove the rest all the same.
            removed = removed.and(gone.map_err(refused("remove the container that an image was made in")));
        }
        match self.image {
            Some(image) => removed.and(docker.remove(&image).await.map(drop)),
            None => removed,
        }
    }
}

/// Writes the files of the image, with the packages, to `tar`.
async fn export(
    job: &Job<'_>,
    docker: &Client,
    reference: &str,
    packages: &[String],
    bootable: bool,
    tar: &Path,
    made: &mut Made,
) -> Result<Sum, Error> {
    let mut container = create(docker, reference, packages, bootable, made).await?;
    if !packages.is_empty() {
        job.say(format!("adding {}", packages.join(", ")));
        let plain = without_configuration(docker, &container, made).await?;
        container = create(docker, &plain, packages, bootable, made).await?;
        install(docker, &container).await?;
    }
    let chunks =
        docker.export_container(&container).map_err(|error| refused("export the image's files")(error));
    save(chunks, tar).await
}

/// Differs in each name of this process.
fn next_number() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// An image of a container's files, whose volumes, environment and user are nobody's.
async fn without_configuration(docker: &Client, container: &str, made: &mut Made) -> Result<String, Error> {
    let builder = processes::identity();
    let image = format!("{NAME}:{builder}-{}", next_number());
    made.image = Some(image.clone());
    let label = format!("LABEL {LABEL}={builder}");
    let options = CreateImageOptionsBuilder::new().from_src("-").repo(&image).changes(vec![label]).build();
    let files = docker.export_container(container).map_err(std::io::Error::other);
    let progress = docker.create_image(Some(options), Some(bollard::body_try_stream(files)), None);
    let tried = "import the files that packages are added to";
    progress.try_for_each(|_| async { Ok(()) }).await.map_err(refused(tried))?;
    Ok(image)
}

/// Pulls the image unless the engine has it, like `docker run`.
async fn pull(job: &Job<'_>, docker: &Client, reference: &str) -> Result<(), Error> {
    match docker.inspect_image(reference).await {
        Ok(_) => return Ok(()),
        Err(error) if is_not_found(&error) => {}
        Err(error) => return Err(refused(format!("show {reference}"))(error)),
    }
    job.say(format!("pulling {reference}"));
    let login = Login::of(reference).await;
    if let Some(why) = &login.problem {
        job.say(format!("pulling without a login: {why}"));
    }
    let options = CreateImageOptionsBuilder::new().from_image(reference).build();
    let progress = docker.create_image(Some(options), None, login.credentials.clone());
    let pulled = progress.try_for_each(|_| async { Ok(()) }).await;
    pulled.map_err(refused(format!("pull {reference}"))).map_err(|error| match error {
        Error::Engine { engine, tried, why } => {
            Error::Engine { engine, tried, why: format!("{}; {}", login.conceal(why), login.note) }
        }
        other => other,
    })
}

async fn create(
    docker: &Client,
    reference: &str,
    packages: &[String],
    bootable: bool,
    made: &mut Made,
) -> Result<String, Error> {
    let builder = processes::identity();
    let name = format!("{NAME}-{builder}-{}", next_number());
    let shell = ["sh", "-ec", INSTALL, "sh"].map(String::from).to_vec();
    let body = ContainerCreateBody {
        image: Some(reference.into()),
        user: Some("0:0".into()),
        // Without packages the container never starts, but Docker requires a command.
        entrypoint: Some(shell),
        cmd: Some(packages.to_vec()),
        env: Some(
            // Skips an unneeded initrd, which takes seconds to build.
            [Some("DEBIAN_FRONTEND=noninteractive"), (!bootable).then_some("INITRD=No")]
                .into_iter()
                .flatten()
                .map(String::from)
                .collect(),
        ),
        working_dir: Some("/".into()),
        labels: Some(HashMap::from([(LABEL.into(), builder)])),
        host_config: Some(HostConfig {
            network_mode: packages.is_empty().then(|| "none".into()),
            ..HostConfig::default()
        }),
        ..ContainerCreateBody::default()
    };
    let options = CreateContainerOptionsBuilder::new().name(&name).build();
    let created = docker.create_container(Some(options), body).await;
    let id = created.map_err(refused(format!("create a container of {reference}")))?.id;
    made.containers.push(id.clone());
    Ok(id)
}

async fn install(docker: &Client, container: &str) -> Result<(), Error> {
    let started = docker.start_container(container, None::<StartContainerOptions>).await;
    started.map_err(refused("start the container that packages are added in"))?;
    let mut waiting = docker.wait_container(container, None::<WaitContainerOptions>);
    match waiting.next().await {
        Some(Ok(_)) => Ok(()),
        Some(Err(bollard::errors::Error::DockerContainerWaitError { code, .. })) => {
            let log = last_words(docker, container).await;
            let outcome = format!("ended with exit code {code}");
            Err(Error::Tool {
                command: "apt-get install (in a container)".into(),
                outcome,
                output: log,
                code: None,
            })
        }
        Some(Err(error)) => Err(refused("wait for the container that packages are added in")(error)),
        None => Err(Error::Engine {
            engine: "Docker",
            tried: "wait for the container that packages are added in".into(),
            why: "it ended the connection; is dockerd still running?".into(),
        }),
    }
}

async fn last_words(docker: &Client, container: &str) -> String {
    let options = LogsOptionsBuilder::new().stdout(true).stderr(true).tail("8").build();
    let chunks: Vec<_> = docker.logs(container, Some(options)).take(64).collect().await;
    let bytes: Vec<u8> = chunks.into_iter().flatten().flat_map(LogOutput::into_bytes).collect();
    tail(&String::from_utf8_lossy(&bytes), 700)
}

/// The names of what killed builds have left in Docker.
#[derive(Debug, Default)]
pub struct Orphans {
    pub containers: Vec<String>,
    pub images: Vec<String>,
}

/// Finds what killed builds have left. The label's value must agree with the name: an image or container of a user that
/// was made of a build's has its label.
///
/// # Errors
/// When Docker does not answer.
pub async fn orphans(docker: &Docker) -> Result<Orphans, bollard::errors::Error> {
    let builder_of = |labels: &HashMap<String, String>| {
        labels.get(LABEL).filter(|builder| !processes::is_identity_alive(builder)).cloned()
    };
    let is_ours = |name: &str, builder: &str, separator: char| {
        let number = name.strip_prefix(NAME).and_then(|rest| rest.strip_prefix(separator));
        let number = number.and_then(|rest| rest.strip_prefix(builder)?.strip_prefix('-'));
        number.is_some_and(|number| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()))
    };
    let mut orphans = Orphans::default();
    let filters = HashMap::from([("label", vec![LABEL])]);
    let options = ListContainersOptionsBuilder::new().all(true).filters(&filters).build();
    for container in docker.list_containers(Some(options)).await? {
        let Some(builder) = container.labels.as_ref().and_then(builder_of) else { continue };
        let names = container.names.into_iter().flatten().map(|name| name.trim_start_matches('/').to_owned());
        orphans.containers.extend(names.filter(|name| is_ours(name, &builder, '-')));
    }
    let options = ListImagesOptionsBuilder::new().filters(&filters).build();
    for image in docker.list_images(Some(options)).await? {
        let Some(builder) = builder_of(&image.labels) else { continue };
        orphans.images.extend(image.repo_tags.into_iter().filter(|name| is_ours(name, &builder, ':')));
    }
    Ok(orphans)
}

/// Removes what killed builds have left.
async fn remove_orphans(docker: &Client) -> Result<(), Error> {
    let orphans = orphans(docker).await.map_err(refused("list containers and images"))?;
    for container in orphans.containers {
        let options = RemoveContainerOptionsBuilder::new().force(true).v(true).build();
        // Another builder may do the same at this time.
        let _ = docker.remove_container(&container, Some(options)).await;
    }
    for image in orphans.images {
        let _ = docker.remove(&image).await;
    }
    Ok(())
}
