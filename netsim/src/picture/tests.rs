//! Pictures of whole worlds.

use super::*;
use crate::plan::Frame;
use crate::world;

fn frame() -> Frame {
    Frame { nodes: 5..=9, days: 5 }
}

#[test]
fn a_world_that_is_watched_is_the_same_world() {
    for seed in 5..9 {
        let unseen = world::run(seed, &frame(), &mut |_, _| {});
        let (seen, timeline) = world::film(seed, &frame(), &mut |_, _| {});
        assert_eq!(seen, unseen);
        assert!(timeline.live.samples.len() > 20, "seed {seed}");
    }
}

#[test]
fn a_picture_is_valid_xml_bounded_and_escaped() {
    let (mut outcome, timeline) = world::film(7, &frame(), &mut |_, _| {});
    outcome.violations.push("0 <rejects> 1 & \"2\"".repeat(30));
    let caption = Caption { title: "seed <3> & more", again: "netsim replay 3" };
    let picture = draw(caption, &outcome, &timeline);
    let xml = roxmltree::Document::parse(&picture).unwrap();
    let texts: Vec<_> = xml.descendants().filter_map(|node| node.text()).collect();
    for words in ["seed <3> & more", "netsim replay 3", "gossip sent, kB per node and hour", "puts"]
    {
        assert!(texts.contains(&words), "{words}");
    }
    assert!(texts.iter().any(|text| text.starts_with("0 <rejects> 1 & \"2\"")));
    assert!((20_000..600_000).contains(&picture.len()), "{}", picture.len());
}

#[test]
fn a_world_without_anything_has_a_picture_too() {
    let (outcome, _) = world::film(7, &frame(), &mut |_, _| {});
    let empty = Timeline::new(outcome.plan.span);
    let picture = draw(Caption { title: "", again: "" }, &outcome, &empty);
    assert!(roxmltree::Document::parse(&picture).is_ok() && !picture.contains("NaN"));
}
