//! Caveats of many instances at once.

use crate::sample::{Results, density::Limit};

pub fn all(results: &Results) -> Vec<String> {
    let mut found = Vec::new();
    for density in &results.density {
        let (target, reached) = (&density.target, density.reached());
        let why = density.limit_why.as_deref().unwrap_or("no reason was recorded");
        match density.limit {
            Some(Limit::Failure) => found.push(format!(
                "density of {target}: a failure ended it with {reached} at once, which says nothing of how many the host holds; fix what it says and run again: {why}"
            )),
            Some(Limit::Stopped) | None => found.push(format!(
                "density of {target}: it was cut off with {reached} at once; let one go on to its end"
            )),
            Some(Limit::Count | Limit::Memory | Limit::Startup) => {}
        }
        for burst in density.bursts.iter().filter(|burst| burst.failed > 0) {
            found.push(format!(
                "density of {target}: {} of {} that were requested at once failed and are in no figure; fix what their errors say, or write a smaller burst",
                burst.failed, burst.n
            ));
        }
    }
    found
}
