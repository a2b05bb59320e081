//! Talk is told from noise: at several distances between the two, at every rate, whatever the noise does.

use crate::support::{Random, rms, speech};
use voipd_audio::activity::ActivityDetector;

/// Noise of this rms; `colour`: 0 white, towards 1 ever more rumble.
fn noise(count: usize, level: f32, colour: f32, seed: u64) -> Vec<f32> {
    let mut random = Random::new(seed);
    let mut state = 0.0;
    let mut samples: Vec<f32> = (0..count)
        .map(|_| {
            state = colour * state + (random.unit() as f32 - 0.5);
            state
        })
        .collect();
    let scale = level / rms(&samples) as f32;
    samples.iter_mut().for_each(|sample| *sample *= scale);
    samples
}

/// Level of the parts of speech that are not silent.
fn active_rms(samples: &[f32], rate: u32) -> f32 {
    let loud: Vec<f32> =
        samples.chunks(rate as usize / 100).filter(|frame| rms(frame) > 0.01).flatten().copied().collect();
    rms(&loud) as f32
}

struct Judged {
    /// Share of the frames with speech that were found.
    hits: f64,
    /// Share of the frames long after speech that were taken for talk.
    false_alarms: f64,
    /// Changes between talk and silence.
    changes: usize,
}

/// Four seconds of noise, four of speech in it, and so on.
fn judge(rate: u32, snr_db: f32, colour: f32, seed: u64) -> Judged {
    let part = 4 * rate as usize;
    let mut clean = Vec::new();
    for round in 0..3 {
        clean.extend(vec![0.0; part]);
        clean.extend(speech(rate, 4.0, seed + round).iter().map(|sample| sample * 0.2));
    }
    clean.extend(vec![0.0; part]);
    let level = active_rms(&clean, rate) / 10_f32.powf(snr_db / 20.0);
    let dirt = noise(clean.len(), level, colour, seed ^ 0xff);
    let mut detector = ActivityDetector::new(rate, 200);
    let (mut spoken, mut hits, mut silent, mut alarms, mut changes) = (0, 0, 0, 0, 0);
    let frame = rate as usize / 100;
    let (mut since_speech, mut before) = (0, false);
    for (clean, dirt) in clean.chunks_exact(frame).zip(dirt.chunks_exact(frame)) {
        let sum: Vec<f32> = clean.iter().zip(dirt).map(|(clean, dirt)| clean + dirt).collect();
        let talking = detector.frame(&sum).talking;
        changes += usize::from(talking != before);
        before = talking;
        since_speech = if rms(clean) > 1e-5 { 0 } else { since_speech + 1 };
        if rms(clean) > 0.01 {
            (spoken, hits) = (spoken + 1, hits + u32::from(talking));
        } else if since_speech >= 40 {
            (silent, alarms) = (silent + 1, alarms + u32::from(talking));
        }
    }
    Judged {
        hits: f64::from(hits) / f64::from(spoken),
        false_alarms: f64::from(alarms) / f64::from(silent),
        changes,
    }
}

#[test]
fn speech_is_found_in_noise() {
    for (snr, least) in [(30.0, 0.95), (20.0, 0.95), (10.0, 0.9), (5.0, 0.4)] {
        for rate in [8_000, 16_000, 48_000] {
            for colour in [0.0, 0.9] {
                let Judged { hits, false_alarms, changes } = judge(rate, snr, colour, 7);
                let which = format!("{snr} dB at {rate} Hz, colour {colour}");
                println!("{which}: {hits:.3} found, {false_alarms:.3} false, {changes} changes");
                assert!(hits >= least, "{which}: {hits:.3} found");
                assert!(false_alarms <= 0.02, "{which}: {false_alarms:.3} false");
                assert!(changes <= 60, "{which}: {changes} changes");
            }
        }
    }
}

#[test]
fn silence_and_crumbs_are_no_talk() {
    let mut detector = ActivityDetector::new(8_000, 200);
    assert!((0..500).all(|_| !detector.frame(&[0.0; 80]).talking));
    // The last bit of G.711.
    let crumbs = noise(8_000 * 5, 0.0002, 0.0, 1);
    assert!(crumbs.chunks(80).all(|frame| !detector.frame(frame).talking));
}

#[test]
fn a_click_is_no_talk() {
    let mut detector = ActivityDetector::new(48_000, 200);
    for round in 0..500 {
        let level = if round % 50 == 49 { 0.5 } else { 0.0 };
        assert!(!detector.frame(&noise(480, level + 0.0005, 0.0, round)).talking, "{round}");
    }
}

#[test]
fn noise_that_begins_is_learned_within_seconds() {
    let mut detector = ActivityDetector::new(8_000, 200);
    let quiet = noise(8_000 * 4, 0.001, 0.0, 3);
    quiet.chunks(80).for_each(|frame| {
        detector.frame(frame);
    });
    assert!(!detector.is_talking());
    let loud = noise(8_000 * 8, 0.05, 0.0, 4);
    let talking: Vec<bool> = loud.chunks(80).map(|frame| detector.frame(frame).talking).collect();
    assert!(talking[50], "for the time being it could be talk");
    assert!(talking[450..].iter().all(|talking| !talking));
}

#[test]
fn hum_hides_no_speech() {
    let mut detector = ActivityDetector::new(8_000, 200);
    let hum = |n: usize| (n as f32 * 50.0 / 8_000.0 * std::f32::consts::TAU).sin() * 0.03;
    let voice = speech(8_000, 4.0, 5);
    let mut talked = 0;
    for (place, frame) in voice.chunks_exact(80).enumerate() {
        let sum: Vec<f32> =
            frame.iter().enumerate().map(|(n, sample)| 0.2 * sample + hum(place * 80 + n)).collect();
        talked += usize::from(detector.frame(&sum).talking);
    }
    assert!(talked > 280, "{talked} of 400");
}

#[test]
fn what_is_no_number_does_no_harm() {
    let mut detector = ActivityDetector::new(8_000, 200);
    detector.frame(&[f32::NAN; 80]);
    detector.frame(&[f32::INFINITY; 80]);
    let activity = (0..500).map(|_| detector.frame(&[0.0; 80])).last().unwrap();
    assert!(!activity.talking && activity.level <= -100.0, "{activity:?}");
    let voice = speech(8_000, 4.0, 5);
    assert!(voice.chunks_exact(80).filter(|frame| detector.frame(frame).talking).count() > 200);
}

#[test]
fn pauses_up_to_the_hangover_belong_to_the_talk() {
    for hangover in [200, 600] {
        let mut detector = ActivityDetector::new(8_000, hangover);
        let mut frames = |level: f32, count: usize| -> usize {
            noise(80 * count, level, 0.0, 9)
                .chunks(80)
                .map(|frame| detector.frame(frame).talking)
                .filter(|talking| *talking)
                .count()
        };
        frames(0.0005, 200);
        frames(0.1, 50);
        let went_on = frames(0.0005, 200) as u32 * 10;
        assert!((hangover..hangover + 150).contains(&went_on), "{hangover}: {went_on}");
    }
}

#[test]
fn noise_is_remembered_while_nothing_is_heard() {
    let mut detector = ActivityDetector::new(8_000, 200);
    assert!((0..500).all(|_| !detector.pause().talking));
    for seed in [6, 7] {
        // Longer than noise is remembered.
        assert!(noise(8_000 * 4, 0.003, 0.0, seed).chunks(80).all(|frame| !detector.frame(frame).talking));
        assert!((0..500).all(|_| !detector.pause().talking));
    }
    let loud = noise(8_000, 0.1, 0.0, 8);
    assert!(loud.chunks(80).filter(|frame| detector.frame(frame).talking).count() > 90);
}

#[test]
fn talk_ends_while_nothing_is_heard() {
    let mut detector = ActivityDetector::new(8_000, 200);
    noise(8_000 * 2, 0.0005, 0.0, 9).chunks(80).for_each(|frame| {
        detector.frame(frame);
    });
    noise(8_000, 0.1, 0.0, 9).chunks(80).for_each(|frame| {
        detector.frame(frame);
    });
    assert!(detector.is_talking());
    assert_eq!((0..100).filter(|_| detector.pause().talking).count(), 20, "the hangover");
}

mod on_a_stream {
    //! The engine reports who talks, to those alone who ask.

    use super::noise;
    use crate::support::speech;
    use crate::world::{STREAM, World, address, plan};
    use voipd_audio::StreamPlan;
    use voipd_audio::plan::{Codec, EngineEvent, Heard};

    fn activities(events: &[EngineEvent]) -> Vec<(Heard, bool)> {
        let one = |event: &EngineEvent| match *event {
            EngineEvent::Activity { port: STREAM, heard, talking, level_dbov } => {
                assert!((-60..0).contains(&level_dbov), "{level_dbov}");
                Some((heard, talking))
            }
            _ => None,
        };
        events.iter().filter_map(one).collect()
    }

    fn sentence(rate: u32) -> Vec<f32> {
        let pause = || noise(2 * rate as usize, 0.0005, 0.0, 3);
        let mut sound = pause();
        sound.extend(speech(rate, 2.0, 8).iter().map(|sample| sample * 0.5));
        sound.extend(pause());
        sound
    }

    #[test]
    fn both_directions_are_told_where_somebody_watches() {
        for (codec, rate) in [(Codec::Pcmu, 8_000), (Codec::Opus, 48_000)] {
            let (mut world, mut near, _far) = World::call(codec, rate);
            world.sides[0].controller.watch_activity(STREAM, true).unwrap();
            world.sides[1].controller.watch_activity(STREAM, true).unwrap();
            near.feed(&sentence(rate));
            world.run_ms(5800);
            assert_eq!(activities(&world.sides[0].events), [(Heard::Near, true), (Heard::Near, false)]);
            assert_eq!(activities(&world.sides[1].events), [(Heard::Far, true), (Heard::Far, false)]);
        }
    }

    #[test]
    fn a_room_that_was_muted_is_as_quiet_as_before() {
        let (mut world, mut near, _far) = World::call(Codec::Pcmu, 8_000);
        world.sides[0].controller.watch_activity(STREAM, true).unwrap();
        near.feed(&noise(12 * 8_000, 0.003, 0.0, 3));
        for muted in [false, true, false] {
            world.sides[0].controller.set_muted(STREAM, muted).unwrap();
            world.run_ms(4000);
        }
        assert_eq!(activities(&world.sides[0].events), []);
        near.feed(&sentence(8_000));
        world.run_ms(5800);
        assert_eq!(activities(&world.sides[0].events), [(Heard::Near, true), (Heard::Near, false)]);
    }

    #[test]
    fn rooms_are_quiet_when_a_call_begins_and_when_it_is_resumed() {
        let (mut world, mut near, mut far) = World::call(Codec::Pcmu, 8_000);
        near.feed(&noise(12 * 8_000, 0.003, 0.0, 3));
        far.feed(&noise(12 * 8_000, 0.003, 0.0, 4));
        for side in &mut world.sides {
            side.controller.watch_activity(STREAM, true).unwrap();
        }
        world.run_ms(4000);
        for (generation, held) in [(2, true), (3, false)] {
            for (this, side) in world.sides.iter_mut().enumerate() {
                let sending = StreamPlan { generation, ..plan(Codec::Pcmu, this, address(1 - this)) };
                let resting = StreamPlan { send: None, play: false, ..sending.clone() };
                let plan = if held { resting } else { sending };
                side.controller.update_stream(STREAM, plan).unwrap();
            }
            world.run_ms(4000);
        }
        for side in &world.sides {
            assert_eq!(activities(&side.events), []);
            assert!(side.counters(STREAM).level_in_dbov > -60, "the other room is heard");
        }
    }

    #[test]
    fn a_peer_whose_noise_gate_opens_talks() {
        let (mut world, mut near, _far) = World::call(Codec::Pcmu, 8_000);
        world.sides[1].controller.watch_activity(STREAM, true).unwrap();
        let mut gated = vec![0.0; 4 * 8_000];
        gated.extend(noise(8_000, 0.01, 0.0, 3));
        gated.extend(vec![0.0; 2 * 8_000]);
        near.feed(&gated);
        world.run_ms(6800);
        assert_eq!(activities(&world.sides[1].events), [(Heard::Far, true), (Heard::Far, false)]);
    }

    #[test]
    fn nobody_is_told_who_does_not_watch() {
        let (mut world, mut near, _far) = World::call(Codec::Pcmu, 8_000);
        world.sides[0].controller.watch_activity(STREAM, true).unwrap();
        world.sides[0].controller.watch_activity(STREAM, false).unwrap();
        near.feed(&sentence(8_000));
        world.run_ms(5800);
        assert_eq!(activities(&world.sides[0].events), []);
        assert_eq!(activities(&world.sides[1].events), []);
    }
}
