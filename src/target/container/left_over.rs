//! Left-over containers and trial images with bootrace's label.

use std::collections::HashMap;

use bollard::{
    errors::Error as ClientError,
    query_parameters::{
        ListContainersOptionsBuilder, ListImagesOptionsBuilder, RemoveImageOptions, RemoveImageOptionsBuilder,
    },
};

use super::{Error, LABEL, TRIAL_IMAGE, cause, connect_to, failed, remove};
use crate::{
    cause::Cause,
    image::{ContainerEngine, build_orphans},
    target::{LeftOver, ResourceKind, instance_name::is_instance_of},
};

/// Finds those of instances whose name is `wanted`. The label's value, a run's id, must agree with the name: a container
/// of a user with such a label or such a name, or with a label that its image handed down, is none of ours. Docker's are also those of killed builds.
///
/// # Errors
/// When the engine does not answer.
pub async fn find(engine: ContainerEngine, wanted: impl Fn(&str) -> bool) -> Result<Vec<LeftOver>, Error> {
    let left_over = |kind, name: String, instance: &str| LeftOver {
        kind,
        engine: Some(engine.kind()),
        name,
        instance: instance.into(),
    };
    let client = connect_to(engine).await?;
    let filters = HashMap::from([("label", vec![LABEL])]);
    let failed = |e: ClientError| failed(engine, "listing containers and images", &e);
    let options = ListContainersOptionsBuilder::new().all(true).filters(&filters).build();
    let mut found = Vec::new();
    for listed in client.list_containers(Some(options)).await.map_err(failed)? {
        let names = listed.names.unwrap_or_default();
        let Some(name) = names.first().map(|n| n.trim_start_matches('/')) else { continue };
        let run = listed.labels.as_ref().and_then(|labels| labels.get(LABEL));
        if run.is_some_and(|run| is_instance_of(name, run)) {
            found.push(left_over(ResourceKind::Container, name.into(), name));
        }
    }
    let options = ListImagesOptionsBuilder::new().filters(&filters).build();
    for listed in client.list_images(Some(options)).await.map_err(failed)? {
        let Some(run) = listed.labels.get(LABEL) else { continue };
        for name in &listed.repo_tags {
            let instance = ContainerEngine::short_name(name)
                .strip_prefix(TRIAL_IMAGE)
                .and_then(|rest| rest.strip_prefix(':'));
            if let Some(instance) = instance.filter(|instance| is_instance_of(instance, run)) {
                found.push(left_over(ResourceKind::Image, name.clone(), instance));
            }
        }
    }
    if engine == ContainerEngine::Docker {
        let orphans = build_orphans(&client).await.map_err(failed)?;
        let containers = orphans.containers.into_iter().map(|name| (ResourceKind::Container, name));
        let images = orphans.images.into_iter().map(|name| (ResourceKind::Image, name));
        found.extend(containers.chain(images).map(|(kind, name)| left_over(kind, name.clone(), &name)));
    }
    found.retain(|it| wanted(&it.instance));
    Ok(found)
}

/// Removes a container with its processes. Succeeds if it is gone already.
///
/// # Errors
/// When the engine does not answer or will not remove it.
pub async fn remove_container(engine: ContainerEngine, name: &str) -> Result<(), Error> {
    remove(engine, &connect_to(engine).await?, name).await
}

/// Removes an image that [`find`] found.
///
/// # Errors
/// When the engine does not answer or will not remove it.
pub async fn remove_image(engine: ContainerEngine, name: &str) -> Result<(), Error> {
    let client = connect_to(engine).await?;
    let options: RemoveImageOptions = RemoveImageOptionsBuilder::new().build();
    match client.remove_image(name, Some(options), None).await {
        Err(e) if cause(&e) != Cause::NotFound => Err(failed(engine, format!("removing image {name}"), &e)),
        _ => Ok(()),
    }
}
