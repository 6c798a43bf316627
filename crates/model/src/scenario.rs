//! A scenario file: image + workload + readiness + resources + targets + sampling + claims + gate + density.
//!
//! Strict TOML: unknown keys, wrong units and impossible values are errors that name file, line,
//! key and the fix. These types are the resolved settings, every default filled in.

use std::{io::Read, path::Path};

mod boots;
mod build;
mod capabilities;
mod claims;
mod cow;
mod cpus;
mod density;
mod deserialize;
mod document;
mod error;
mod fact;
mod fix;
mod gate;
mod options;
mod path;
mod problem;
#[cfg(test)]
mod reference;
mod rules;
mod settings;
mod shipped;
mod target;
mod text;
mod units;
pub mod uri;

pub use crate::kind::{Kind, Start};
pub use boots::{Boot, Firmware, Init};
pub use build::Build;
pub use capabilities::{Capabilities, Capability};
pub use claims::Claim;
pub use cow::CowFile;
pub use cpus::{CpuChoice, CpuList};
pub use density::Density;
pub use error::Error;
pub use fact::FACTS;
pub use gate::Gate;
pub use options::{Accel, DiskCache, PageCache};
pub use problem::Problem;
use rules::LARGEST_FILE;
pub use rules::{SAMPLES, WARMUP, is_url};
pub use settings::{Image, Ready, Resources, Sampling, Scenario, Work, Workload};
pub use shipped::{FOLDER, QUICKSTART, SHIPPED, file, find, names};
pub use target::{
    ContainerOptions, DockerOptions, LibvirtOptions, LxcOptions, ScenarioTarget, TargetOptions,
};
pub use units::{Bound, Bytes, Share, Span};

impl Scenario {
    /// Reads and checks a file of at most 1 MiB. Paths in it are not opened.
    ///
    /// # Errors
    /// When the file can't be read, is larger than 1 MiB or not UTF-8, and as [`Scenario::parse`].
    pub fn load(path: &Path) -> Result<Self, Error> {
        let unreadable = |why: String| Error::Unreadable { path: path.into(), why };
        let file = std::fs::File::open(path).map_err(|e| unreadable(e.to_string()))?;
        let mut bytes = Vec::new();
        file.take(LARGEST_FILE + 1).read_to_end(&mut bytes).map_err(|e| unreadable(e.to_string()))?;
        if bytes.len() as u64 > LARGEST_FILE {
            return Err(unreadable(
                "it is larger than 1 MiB, the limit for a scenario: name the TOML file".into(),
            ));
        }
        let text = String::from_utf8(bytes).map_err(|_| {
            unreadable("it is not UTF-8 text: name the TOML file, or save it as UTF-8".into())
        })?;
        Self::parse(&text, &path.display().to_string())
    }

    /// Reads and checks TOML; `origin` stands for the file in messages.
    ///
    /// # Errors
    /// With every problem of the text at once, except those that another one hides.
    pub fn parse(text: &str, origin: &str) -> Result<Self, Error> {
        let mut document = document::Document::parse(text, origin).map_err(Error::Invalid)?;
        let scenario = document.read().map(|scenario| scenario.resolved(&document));
        if let Some(scenario) = &scenario {
            rules::check(scenario, &mut document);
        }
        let problems = document.into_problems();
        match scenario {
            Some(scenario) if problems.is_empty() => Ok(scenario),
            _ => Err(Error::Invalid(problems)),
        }
    }

    /// Reads and checks a resolved scenario of results, as strictly as a file.
    ///
    /// # Errors
    /// As [`Scenario::parse`]; `origin` stands for the file, and lines and columns are of its TOML.
    pub fn from_json(json: &serde_json::Value, origin: &str) -> Result<Self, Error> {
        let text = toml::to_string(json)
            .map_err(|e| Error::Unreadable { path: origin.into(), why: e.to_string() })?;
        Self::parse(&text, origin)
    }

    /// Fills in the defaults that depend on other keys.
    fn resolved(mut self, document: &document::Document<'_>) -> Self {
        for (index, target) in self.targets.iter_mut().enumerate() {
            if !document.has(path::at!["target", index, "name"]) {
                target.name = target.kind().to_string();
            }
        }
        let image = &mut self.image;
        image.cow = self.cow;
        let elsewhere = image.tarball.is_some() || image.registry.is_some() || image.cloud.is_some();
        if image.suite.is_none() && !elsewhere {
            let default = Image::default();
            image.suite = default.suite;
            image.fallback = image.fallback.take().or(default.fallback);
        }
        self
    }
}

#[cfg(test)]
mod tests;
