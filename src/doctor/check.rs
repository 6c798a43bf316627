//! One finding of the doctor.

use serde::Serialize;

use crate::kind::Kind;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    Ok,
    /// Runs are possible, at some cost.
    Warning,
    /// The targets that depend on it can't run.
    Failed,
    /// The doctor could not check it; the finding says why.
    NotChecked,
}

/// One need of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// A stable id for programs.
    pub id: &'static str,
    pub title: &'static str,
    pub status: Status,
    /// The finding, in words.
    pub found: String,
    /// A command or an edit.
    pub fix: Option<String>,
    /// The kinds that can't run because of it; also of an engine that is not here and need not be (`not_checked`).
    pub stops: Vec<Kind>,
}

impl Check {
    pub(super) fn new(
        id: &'static str,
        title: &'static str,
        status: Status,
        found: impl Into<String>,
    ) -> Self {
        Check { id, title, status, found: found.into(), fix: None, stops: Vec::new() }
    }

    pub(super) fn ok(id: &'static str, title: &'static str, found: impl Into<String>) -> Self {
        Check::new(id, title, Status::Ok, found)
    }

    pub(super) fn warning(id: &'static str, title: &'static str, found: impl Into<String>) -> Self {
        Check::new(id, title, Status::Warning, found)
    }

    pub(super) fn failed(
        id: &'static str,
        title: &'static str,
        found: impl Into<String>,
        stops: &[Kind],
    ) -> Self {
        Check { stops: stops.into(), ..Check::new(id, title, Status::Failed, found) }
    }

    /// `why` says why the doctor could not check it.
    pub(super) fn not_checked(id: &'static str, title: &'static str, why: impl Into<String>) -> Self {
        Check::new(id, title, Status::NotChecked, why)
    }

    /// An engine that is not here, and that only scenarios need that name it.
    pub(super) fn absent(
        id: &'static str,
        title: &'static str,
        found: impl Into<String>,
        stops: &[Kind],
    ) -> Self {
        Check { stops: stops.into(), ..Check::new(id, title, Status::NotChecked, found) }
    }

    pub(super) fn fix(self, fix: impl Into<String>) -> Self {
        Check { fix: Some(fix.into()), ..self }
    }
}
