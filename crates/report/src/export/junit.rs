//! JUnit XML, as CI systems show test results: a suite for the run, a test case for each claim and for each figure of
//! the scenario's gate.
//!
//! A refuted claim is a failure, an undecided one is skipped. A gate's figure fails where its target has no good
//! sample, and is skipped where its kind has no such figure; `bootrace compare` compares two runs. Times are in seconds, as the format requires.

use std::io;

use quick_xml::{Writer, events::BytesText};

use super::{Run, Target, text};
use crate::{
    analysis::{ClaimVerdict, Figure, Unit, gate},
    claims,
};

/// Longest text, in characters.
const LONGEST: usize = 500;

/// Outcome of a test case.
enum Case {
    Passed,
    Failed(String),
    Skipped(String),
}

pub fn file(run: &Run<'_>) -> Vec<u8> {
    let mut cases = Vec::new();
    for claim in &run.analysis.claims {
        let finding = claims::finding(claim, run.analysis);
        let case = match claim.verdict {
            ClaimVerdict::Supported => Case::Passed,
            ClaimVerdict::Refuted => Case::Failed(finding.clone()),
            ClaimVerdict::Undecided => Case::Skipped(finding.clone()),
        };
        let said = format!("{}: {finding}", claims::about(claim, run.analysis));
        cases.push((format!("claim: {}", text::clean(&claim.says, LONGEST)), None, case, said));
    }
    for metric in gate::metrics_of(run.results) {
        for target in &run.targets {
            let name = format!("gate: {} of {}", metric.name(), target.label);
            let (seconds, case, said) = match target.analysed.figure(metric) {
                Some(figure) => (seconds(figure), Case::Passed, shown(figure, target)),
                None if target.good.is_empty() => {
                    (None, Case::Failed("no good sample".into()), String::new())
                }
                None => (None, Case::Skipped("this target has no such figure".into()), String::new()),
            };
            cases.push((name, seconds, case, said));
        }
    }
    let in_memory = "writing to memory doesn't fail";
    let mut xml = Writer::new_with_indent(b"<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n".to_vec(), b' ', 2);
    let count =
        |kind: fn(&Case) -> bool| cases.iter().filter(|(_, _, case, _)| kind(case)).count().to_string();
    let suite = [
        ("name", text::clip(&run.results.run.id, 128)),
        ("tests", cases.len().to_string()),
        ("failures", count(|case| matches!(case, Case::Failed(_)))),
        ("skipped", count(|case| matches!(case, Case::Skipped(_)))),
        ("errors", "0".into()),
        ("timestamp", text::clip(&run.results.run.started_at, 40)),
    ];
    let host = &run.results.host;
    let properties = [
        ("image", text::image(&run.results.image)),
        ("processor", text::clip(&host.processor().unwrap_or_else(|| "unknown CPU".into()), 200)),
    ];
    xml.create_element("testsuites")
        .write_inner_content(|xml| {
            let suite = suite.iter().map(|(key, value)| (*key, value.as_str()));
            xml.create_element("testsuite").with_attributes(suite).write_inner_content(|xml| {
                xml.create_element("properties").write_inner_content(|xml| {
                    properties.iter().try_for_each(|(name, value)| {
                        let property = [("name", *name), ("value", value.as_str())];
                        xml.create_element("property").with_attributes(property).write_empty().map(drop)
                    })
                })?;
                cases.iter().try_for_each(|(name, seconds, case, said)| {
                    write_case(xml, run, name, *seconds, case, said)
                })
            })?;
            Ok(())
        })
        .expect(in_memory);
    let mut bytes = xml.into_inner();
    bytes.push(b'\n');
    bytes
}

fn write_case(
    xml: &mut Writer<Vec<u8>>,
    run: &Run<'_>,
    name: &str,
    seconds: Option<f64>,
    case: &Case,
    said: &str,
) -> io::Result<()> {
    let seconds = seconds.map(|seconds| seconds.to_string());
    let attributes = [("classname", run.scenario.as_str()), ("name", name)].into_iter();
    let attributes = attributes.chain(seconds.as_deref().map(|seconds| ("time", seconds)));
    xml.create_element("testcase").with_attributes(attributes).write_inner_content(|xml| {
        match case {
            Case::Passed => {}
            Case::Failed(why) => {
                let why = [("message", why.as_str()), ("type", "bootrace")];
                xml.create_element("failure").with_attributes(why).write_empty()?;
            }
            Case::Skipped(why) => {
                xml.create_element("skipped").with_attribute(("message", why.as_str())).write_empty()?;
            }
        }
        if !said.is_empty() {
            xml.create_element("system-out").write_text_content(BytesText::new(said))?;
        }
        Ok(())
    })?;
    Ok(())
}

fn seconds(figure: &Figure) -> Option<f64> {
    (figure.metric.unit() == Unit::Time).then_some(figure.median / 1e9)
}

/// "median 142 ms [132, 154] of 10 samples, TCG (emulated)".
fn shown(figure: &Figure, target: &Target<'_>) -> String {
    let interval = text::interval(figure.metric.unit(), figure.median, figure.interval.as_ref());
    let accelerator = target.accelerator.map(|accelerator| format!(", {accelerator}")).unwrap_or_default();
    format!(
        "median {} {interval} of {} samples{accelerator}",
        text::of(figure.metric, figure.median),
        figure.n
    )
}
