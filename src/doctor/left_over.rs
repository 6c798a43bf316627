//! What earlier runs left.

use super::Check;
use crate::{
    image::Cache,
    runner::left_over::{self, Found, Whose},
};

/// How many things are named.
const NAMED: usize = 5;

/// Looks, and removes nothing.
pub async fn check(cache: &Cache) -> Check {
    judge(&left_over::find(&cache.instances_dir(), &Whose::Ended).await)
}

fn judge(found: &Found) -> Check {
    let (id, title) = ("left_over", "left-overs of earlier runs");
    // Of an engine that is not there enough is said elsewhere.
    let unseen = found.unseen.iter().map(|error| match error.absent {
        true => format!("{}: nothing answers there", error.tried),
        false => error.to_string(),
    });
    let unseen: Vec<String> = unseen.collect();
    let mut names: Vec<String> = found.things.iter().take(NAMED).map(ToString::to_string).collect();
    if let Some(more) = found.things.len().checked_sub(NAMED).filter(|more| *more > 0) {
        names.push(format!("{more} more"));
    }
    match (names.is_empty(), unseen.is_empty()) {
        (true, true) => Check::ok(id, title, "none"),
        (true, false) => {
            Check::not_checked(id, title, format!("not all was looked at: {}", unseen.join("; ")))
        }
        _ => Check::warning(id, title, names.join(", ")).mend("sudo bootrace clean (--dry-run lists them)"),
    }
}

#[cfg(test)]
mod tests {
    use super::{super::Status, *};
    use crate::target::{Error, LeftOver, Thing};

    #[test]
    fn left_overs_are_named_with_the_mend_and_the_unseen_is_not_taken_for_nothing() {
        assert_eq!(judge(&Found::default()).status, Status::Ok);
        let thing = |n: usize| LeftOver {
            kind: Thing::Container,
            name: format!("c{n}"),
            instance: format!("bootrace-1-{n}"),
        };
        let check = judge(&Found { things: (0..7).map(thing).collect(), unseen: Vec::new() });
        assert_eq!(check.status, Status::Warning);
        assert_eq!(
            check.found,
            "container c0, container c1, container c2, container c3, container c4, 2 more"
        );
        let check = judge(&Found { things: Vec::new(), unseen: vec![Error::new("listing", "no")] });
        assert_eq!(check.status, Status::NotChecked);
    }
}
