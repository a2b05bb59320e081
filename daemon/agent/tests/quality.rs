//! How a call sounds at both ends: what each works out, tells the other, and warns of.

use std::collections::BTreeSet;

use crate::common::{HostId, Pair, World};
use voipd_agent::quality::{CallQuality, Cause, Flow};
use voipd_agent::view::CallId;
use voipd_agent::{Output, described_codec};

fn quality(world: &mut World, host: HostId, call: CallId) -> CallQuality {
    world.act(host, |agent, _| agent.quality(call))
}

/// Warnings since the last look: which direction, whether it is bad, and why.
fn warnings(world: &mut World, host: HostId) -> Vec<(Flow, bool, Cause)> {
    let warning = |output| match output {
        Output::QualityChanged { warning, .. } => Some((warning.flow, warning.poor, warning.cause)),
        _ => None,
    };
    world.outputs(host).into_iter().filter_map(warning).collect()
}

#[test]
fn both_ends_tell_each_other_how_they_hear() {
    let mut pair = Pair::new();
    let (out, inb) = pair.talking();
    let world = &mut pair.world;
    world.run_s(30);
    let (alice, bob) = (quality(world, pair.alice, out), quality(world, pair.bob, inb));
    for quality in [alice, bob] {
        let reported = quality.reported.expect("an extended report");
        assert_eq!((reported.loss, reported.burst_density, reported.gap_density), (0.0, 0.0, 0.0));
        assert!(reported.listening_opinion.is_some_and(|mos| mos >= 4.3), "{reported:?}");
        let (inbound, outbound) = (quality.inbound.unwrap(), quality.outbound.unwrap());
        assert!(inbound.conversation_opinion > 4.2 && outbound.conversation_opinion > 4.2, "{quality:?}");
        assert!(quality.one_way_ms >= quality.round_trip_ms.map(|trip| trip / 2.0), "{quality:?}");
    }
    assert_eq!((warnings(world, pair.alice), warnings(world, pair.bob)), (vec![], vec![]));
}

#[test]
fn a_peer_that_is_not_heard_at_all_is_warned_of_while_that_lasts() {
    let mut pair = Pair::new();
    let (out, _) = pair.talking();
    let world = &mut pair.world;
    world.run_s(20);
    warnings(world, pair.alice);
    // Sound alone may be missing: its reports tell that the peer is there.
    world.media_cut = true;
    world.run_s(30);
    assert_eq!(warnings(world, pair.alice), vec![]);
    world.media_cut = false;
    world.run_s(20);
    world.blackout = true;
    world.run_s(12);
    assert_eq!(warnings(world, pair.alice), vec![(Flow::Inbound, true, Cause::Loss)]);
    let dark = quality(world, pair.alice, out);
    assert!(dark.inbound.is_some_and(|quality| quality.conversation_opinion < 1.5), "{dark:?}");
    world.run_s(15);
    let later = quality(world, pair.alice, out);
    assert_eq!(later.outbound, None, "what was told half a minute ago says nothing any more");
    world.blackout = false;
    world.run_s(30);
    assert!(warnings(world, pair.alice).contains(&(Flow::Inbound, false, Cause::None)));
}

#[test]
fn a_bad_network_is_warned_of_once_and_its_recovery_too() {
    let mut pair = Pair::new();
    let (out, _) = pair.talking();
    let world = &mut pair.world;
    world.run_s(20);
    warnings(world, pair.alice);
    world.sound_loss = 30;
    world.run_s(60);
    let bad = warnings(world, pair.alice);
    assert_eq!(bad.len(), 2, "{bad:?}");
    for flow in [Flow::Inbound, Flow::Outbound] {
        assert!(bad.contains(&(flow, true, Cause::Loss)), "{bad:?}");
    }
    let quality = quality(world, pair.alice, out);
    assert!(quality.inbound.is_some_and(|quality| quality.conversation_opinion < 3.0), "{quality:?}");
    assert!(quality.reported.is_some_and(|told| told.gap_density > 0.1), "{quality:?}");
    world.sound_loss = 0;
    world.run_s(60);
    let good = warnings(world, pair.alice);
    assert_eq!(good.len(), 2, "{good:?}");
    assert!(good.iter().all(|(_, poor, cause)| !poor && *cause == Cause::None), "{good:?}");
}

#[test]
fn how_we_are_heard_is_not_known_without_reports() {
    let mut pair = Pair::new();
    let (out, _) = pair.talking();
    let world = &mut pair.world;
    world.run_s(30);
    assert!(quality(world, pair.alice, out).outbound.is_some());
    // Sound goes on, RTCP is lost.
    world.media_loss = 1000;
    world.run_s(40);
    let quality = quality(world, pair.alice, out);
    assert!(quality.outbound.is_none() && quality.inbound.is_some(), "{quality:?}");
}

#[test]
fn every_codec_that_is_heard_can_be_named() {
    let described = voipd_audio::Codec::ALL.map(|codec| described_codec(codec).expect("a name").name());
    assert_eq!(described[..3], ["opus", "PCMU", "PCMA"]);
    let different: BTreeSet<&str> = described.into_iter().collect();
    assert_eq!(different.len(), described.len());
}
