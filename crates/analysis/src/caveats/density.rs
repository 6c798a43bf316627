//! Caveats of density.

use crate::sample::{Results, density::Limit};

pub fn all(results: &Results) -> Vec<String> {
    let mut found = Vec::new();
    for density in &results.density {
        let (target, reached) = (&density.target, density.reached());
        let why = density.limit_why.as_deref().unwrap_or("no reason was recorded");
        match density.limit {
            Some(Limit::Failure) => found.push(format!(
                "density of {target}: a failure ended it with {reached} at once, so the limit of the host is unknown; fix the failure and run again: {why}"
            )),
            Some(Limit::Stopped) | None => found.push(format!(
                "density of {target}: it was cut short with {reached} at once; let a run finish"
            )),
            Some(Limit::Count | Limit::Memory | Limit::Startup) => {}
        }
        for burst in density.bursts.iter().filter(|burst| burst.failed > 0) {
            found.push(format!(
                "density of {target}: {} of {} instances of a burst failed, and no figure includes them; fix their errors, or use a smaller burst",
                burst.failed, burst.n
            ));
        }
    }
    found
}
