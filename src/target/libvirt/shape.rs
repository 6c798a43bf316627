//! The shape of a domain's XML, for tests.

use quick_xml::{Reader, events::Event};

/// The tags in their order: text that is no markup does not change them.
pub fn shape(xml: &str) -> Vec<String> {
    let mut reader = Reader::from_str(xml);
    let mut tags = Vec::new();
    loop {
        match reader.read_event().unwrap() {
            Event::Eof => return tags,
            Event::Start(tag) => tags.push(tag.name().as_ref().to_owned()),
            Event::Empty(tag) => tags.push(format!("{}/", tag.name().as_ref())),
            Event::End(_) | Event::Text(_) | Event::GeneralRef(_) => {}
            other => panic!("{other:?}"),
        }
    }
}
