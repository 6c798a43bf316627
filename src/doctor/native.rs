//! A bare process: it needs no engine.

use async_trait::async_trait;

use super::{Check, Diagnosis, Trials};

pub struct Native;

#[async_trait(?Send)]
impl Diagnosis for Native {
    fn found(&self) -> String {
        "root, with cgroups".into()
    }

    fn quick_check(&self) -> Vec<Check> {
        Vec::new()
    }

    async fn examine(&self, trials: &Trials<'_>) -> Vec<Check> {
        vec![match trials.bench {
            Ok(bench) => bench.native(trials.isolated).await,
            Err(why) => Check::not_checked("native.trial", "a bare process", why),
        }]
    }
}
