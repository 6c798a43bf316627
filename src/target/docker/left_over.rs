//! Containers, and images for trials, that carry our label.

use std::collections::HashMap;

use bollard::{
    errors::Error as ClientError,
    query_parameters::{
        ListContainersOptionsBuilder, ListImagesOptionsBuilder, RemoveImageOptions, RemoveImageOptionsBuilder,
    },
};

use super::{Error, LABEL, TRIAL_IMAGE, connect, explain, remove, status};
use crate::target::{LeftOver, Thing};

/// Those of instances whose name is `wanted`.
///
/// # Errors
/// When the Engine does not answer.
pub async fn find(wanted: impl Fn(&str) -> bool) -> Result<Vec<LeftOver>, Error> {
    let client = connect().await?;
    let filters = HashMap::from([("label", vec![LABEL])]);
    let failed = |e: ClientError| Error::new("listing containers and images", explain(&e));
    let options = ListContainersOptionsBuilder::new().all(true).filters(&filters).build();
    let mut found = Vec::new();
    for container in client.list_containers(Some(options)).await.map_err(failed)? {
        let names = container.names.unwrap_or_default();
        let Some(name) = names.first().map(|n| n.trim_start_matches('/')) else { continue };
        found.push(LeftOver { kind: Thing::Container, name: name.into(), instance: name.into() });
    }
    let options = ListImagesOptionsBuilder::new().filters(&filters).build();
    for image in client.list_images(Some(options)).await.map_err(failed)? {
        let name = image.repo_tags.first().unwrap_or(&image.id);
        let Some(instance) = name.strip_prefix(TRIAL_IMAGE).and_then(|rest| rest.strip_prefix(':')) else {
            continue;
        };
        found.push(LeftOver { kind: Thing::Image, name: name.clone(), instance: instance.into() });
    }
    found.retain(|it| wanted(&it.instance));
    Ok(found)
}

/// Removes a container with what runs in it; one that is gone already is fine.
///
/// # Errors
/// When the Engine does not answer or will not remove it.
pub async fn remove_container(name: &str) -> Result<(), Error> {
    remove(&connect().await?, name).await
}

/// Removes an image that [`find`] found.
///
/// # Errors
/// When the Engine does not answer or will not remove it.
pub async fn remove_image(name: &str) -> Result<(), Error> {
    let client = connect().await?;
    let options: RemoveImageOptions = RemoveImageOptionsBuilder::new().build();
    match client.remove_image(name, Some(options), None).await {
        Err(e) if status(&e) != Some(404) => Err(Error::new(format!("removing image {name}"), explain(&e))),
        _ => Ok(()),
    }
}
