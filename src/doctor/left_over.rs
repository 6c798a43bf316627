//! Checks for left-overs of earlier runs.

use std::time::Duration;

use super::Check;
use crate::{
    image::Cache,
    runner::left_over::{self, Found, Owner, Unseen},
    tune,
};

/// The most left-overs to name.
const NAMED: usize = 5;

/// Searches, and removes nothing.
pub async fn check(cache: &Cache, patience: Duration) -> Check {
    let found = left_over::find_within(patience, &cache.instances_dir(), &Owner::Ended).await;
    let (builds, unread) = match cache.abandoned() {
        Ok(builds) => (builds.iter().map(ToString::to_string).collect(), None),
        Err(error) => (Vec::new(), Some(error.to_string())),
    };
    let settings: Vec<String> =
        tune::left().iter().filter(|setting| setting.original.is_some()).map(ToString::to_string).collect();
    judge(&found, &settings, builds, unread)
}

/// `settings`: of a killed tuned run. `builds`: killed image builds. `unread`: why those can't be listed.
fn judge(found: &Found, settings: &[String], builds: Vec<String>, unread: Option<String>) -> Check {
    let (id, title) = ("left_over", "left-overs of earlier runs");
    // Another check explains an absent engine.
    let unseen = found.unseen.iter().map(|Unseen { error, .. }| match error.is_unreachable() {
        true => format!("{}: no answer", error.tried),
        false => error.to_string(),
    });
    let unseen: Vec<String> = unseen.chain(unread).collect();
    // Settings first: they concern every figure of this host.
    let settings = settings.iter().map(|setting| format!("setting {setting}"));
    let mut names: Vec<String> =
        settings.chain(found.left_overs.iter().map(ToString::to_string)).chain(builds).collect();
    if let Some(more) = names.len().checked_sub(NAMED).filter(|more| *more > 0) {
        names.truncate(NAMED);
        names.push(format!("{more} more"));
    }
    match (names.is_empty(), unseen.is_empty()) {
        (true, true) => Check::ok(id, title, "none"),
        (true, false) => {
            Check::not_checked(id, title, format!("the search is incomplete: {}", unseen.join("; ")))
        }
        _ => Check::warning(id, title, names.join(", ")).fix("sudo bootrace clean (--dry-run lists them)"),
    }
}

#[cfg(test)]
mod tests {
    use super::{super::Status, *};
    use crate::target::{Error, LeftOver, ResourceKind};

    #[test]
    fn left_overs_are_named_with_the_fix_and_the_unseen_is_not_taken_for_nothing() {
        assert_eq!(judge(&Found::default(), &[], Vec::new(), None).status, Status::Ok);
        let left_over = |n: usize| LeftOver {
            kind: ResourceKind::Container,
            engine: Some(crate::kind::Kind::Docker),
            name: format!("c{n}"),
            instance: format!("bootrace-1-{n}"),
        };
        let check = judge(
            &Found { left_overs: (0..7).map(left_over).collect(), unseen: Vec::new() },
            &[],
            Vec::new(),
            None,
        );
        assert_eq!(check.status, Status::Warning);
        assert_eq!(
            check.found,
            "container c0, container c1, container c2, container c3, container c4, 2 more"
        );
        let check = judge(
            &Found {
                left_overs: Vec::new(),
                unseen: vec![Unseen { kind: None, error: Error::new("listing", "no") }],
            },
            &[],
            Vec::new(),
            None,
        );
        assert_eq!(check.status, Status::NotChecked);
        let unread = Some("the cache directory /c: denied".into());
        assert_eq!(judge(&Found::default(), &[], Vec::new(), unread).status, Status::NotChecked);
        let builds = vec!["unfinished build /c/a.tmp".into()];
        assert_eq!(judge(&Found::default(), &[], builds, None).found, "unfinished build /c/a.tmp");
    }

    #[test]
    fn settings_of_a_killed_tuned_run_are_left_overs_too() {
        let check = judge(&Found::default(), &["/sys/kernel/mm/ksm/run: 0, was 1".into()], Vec::new(), None);
        assert_eq!((check.status, check.stops.len()), (Status::Warning, 0));
        assert_eq!(check.found, "setting /sys/kernel/mm/ksm/run: 0, was 1");
        assert!(check.fix.unwrap().starts_with("sudo bootrace clean"));
    }
}
