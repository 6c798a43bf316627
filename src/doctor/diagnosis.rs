//! The diagnosis of a kind's engine, and what its trials need.

use async_trait::async_trait;

use super::{Check, trial};
use crate::{
    image::Cache,
    kind::{Family, Kind},
};

/// The diagnosis of one kind's engine, which was asked already.
#[async_trait(?Send)]
pub trait Diagnosis {
    /// The reason to report if the kind can run.
    fn found(&self) -> String;

    /// What its instances run as, in [`super::Ability::how`]'s words.
    fn how(&self, kind: Kind) -> &'static str {
        match kind.family() {
            Family::Process => "as a bare process",
            Family::Container => "in a container",
            Family::Vm => "in a VM",
        }
    }

    /// The checks that start nothing.
    fn quick_check(&self) -> Vec<Check>;

    /// Every check, the cause of others before them, with an instance at the end.
    async fn examine(&self, trials: &Trials<'_>) -> Vec<Check>;

    /// Whether its own storage has room; `None` if it has none.
    fn space(&self, _have_image: bool) -> Option<Check> {
        None
    }
}

/// What trials need; an `Err` says why there can be none.
pub struct Trials<'a> {
    pub bench: &'a Result<trial::Bench, String>,
    pub cache: &'a Result<Cache, String>,
    /// The result of [`crate::target::native::isolate_mounts`].
    pub isolated: &'a Result<(), String>,
}
