//! The table of the instances' isolation from their host.

use maud::{Markup, html};

use super::super::{isolation, text};
use crate::{analysis::Analysis, sample::Results};

pub fn section(results: &Results, analysis: &Analysis) -> Markup {
    let rows = isolation::rows(results);
    if rows.is_empty() {
        return html! {};
    }
    html! {
        section #isolation {
            h2 { "Isolation" }
            p.note {
                "Evidence without a verdict: observations of the agent inside the first good instance of each target, after ready, "
                "compared with the host at that time. Claims can refer to kernel, processes and page cache."
            }
            div.scroll tabindex="0" role="region" aria-label="Isolation of each target" {
                table.plain.isolation {
                    thead { tr {
                        th scope="col" { span.hidden { "what" } }
                        @for (i, target) in analysis.targets.iter().enumerate() {
                            th scope="col" class={ "t" (i) } {
                                (text::name(&target.name))
                                @if let Some(accelerator) = text::accelerator_of(target) { small { (accelerator) } }
                            }
                        }
                    } }
                    tbody {
                        @for row in &rows {
                            tr {
                                th scope="row" { (row.label) small { (row.about) } }
                                @for cell in &row.cells { td { (cell) } }
                            }
                        }
                    }
                }
            }
        }
    }
}
