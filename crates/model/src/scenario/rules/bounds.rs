//! What several rules share.

use std::time::Duration;

use crate::scenario::{Span, path::Step};

/// Largest scenario file, in bytes; a larger one is no scenario.
pub(in crate::scenario) const LARGEST_FILE: u64 = 1 << 20;

/// A longer wait for an idle guest adds nothing.
pub(super) const PAUSE_MOST: Span = Span(Duration::from_secs(600));

pub(super) const TIMEOUT_LEAST: Span = Span(Duration::from_millis(100));
pub(super) const TIMEOUT_MOST: Span = Span(Duration::from_secs(24 * 3600));

/// Takes the path of a value and the result of its check.
pub(super) type Wrong<'a> = dyn FnMut(&[Step], Result<(), String>) + 'a;
