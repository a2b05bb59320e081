//! WAV files as devices: what is recorded can be played, odd formats are understood, broken files are refused in words.
#![allow(clippy::unwrap_used, reason = "a test may fail by panic")]

mod sound_lab;

use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use socket2::{Domain, SockAddr, Socket, Type};
use sound_lab::*;
use voipd::api::DeviceRole;
use voipd::api::ports::{RecordFormat, RecordWish};
use voipd::sound::{self, RECORDING_RATE, Recording, SoundEvent, SoundSystem};
use voipd_audio::engine::{DevicePort, Pace, Side};

/// Takes all samples of a file being played, as fast as they come.
fn drain(port: DevicePort) -> Vec<f32> {
    assert_eq!(port.pace, Pace::Tick);
    let mut ring = port.capture.unwrap();
    let start = Instant::now();
    let mut samples = Vec::new();
    loop {
        let ended = ring.is_abandoned();
        while let Ok(sample) = ring.pop() {
            samples.push(sample);
        }
        if ended {
            return samples;
        }
        assert!(start.elapsed() < Duration::from_secs(20), "the end never comes");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn play(path: &Path) -> Result<DevicePort, String> {
    run(sound::play_file(OwnedFd::from(File::open(path).unwrap()), false))
}

async fn record(file: File) -> Result<Recording, String> {
    sound::record_file(OwnedFd::from(file), RecordWish::default(), Arc::default()).await
}

fn chunk(id: &[u8; 4], body: &[u8]) -> Vec<u8> {
    let mut chunk = [id, (body.len() as u32).to_le_bytes().as_slice(), body].concat();
    chunk.resize(chunk.len().next_multiple_of(2), 0);
    chunk
}

fn riff(chunks: &[Vec<u8>]) -> Vec<u8> {
    let body = chunks.concat();
    [b"RIFF", (body.len() as u32 + 4).to_le_bytes().as_slice(), b"WAVE", &body].concat()
}

fn fmt(tag: u16, channels: u16, rate: u32, bits: u16) -> Vec<u8> {
    let frame = channels * bits / 8;
    let bytes = rate.wrapping_mul(u32::from(frame));
    let [tag, channels, frame, bits] = [tag, channels, frame, bits].map(u16::to_le_bytes);
    let [rate, bytes] = [rate, bytes].map(u32::to_le_bytes);
    let fields: [&[u8]; 6] = [&tag, &channels, &rate, &bytes, &frame, &bits];
    chunk(b"fmt ", &fields.concat())
}

#[test]
fn a_recording_can_be_played_and_is_what_was_heard() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("call.wav");
    fs::write(&path, "an older file, which a client has opened for writing").unwrap();
    let tone = sine(440.0, 0.5, RECORDING_RATE, 3 * RECORDING_RATE as usize);
    let file = File::create(&path).unwrap();
    let finished = run(async {
        let recording = record(file).await.unwrap();
        let mut ring = recording.port.listener.unwrap().ring;
        for part in tone.chunks(RECORDING_RATE as usize) {
            wait_until(Duration::from_secs(5), "the recorder empties its ring", || {
                ring.slots() >= part.len()
            });
            ring.push_entire_slice(part).unwrap();
        }
        drop(ring);
        recording.finished.await.unwrap()
    });
    assert_eq!(finished, Ok(()));
    let port = play(&path).unwrap();
    assert_eq!(port.rate, RECORDING_RATE);
    let played = drain(port);
    assert_eq!(played.len(), tone.len());
    assert!(played.iter().zip(&tone).all(|(a, b)| (a - b).abs() < 1.0 / 32_000.0));
}

#[test]
fn a_recording_is_valid_while_it_is_being_made() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("call.wav");
    let file = File::create(&path).unwrap();
    let recording = run(record(file)).unwrap();
    let mut ring = recording.port.listener.unwrap().ring;
    ring.push_entire_slice(&vec![0.25; 70_000]).unwrap();
    let readable = || hound::WavReader::open(&path).is_ok_and(|reader| reader.len() >= RECORDING_RATE);
    wait_until(Duration::from_secs(5), "the header says what is there", readable);
    // A killed daemon leaves just this; nothing else is needed to play it.
    assert!(drain(play(&path).unwrap()).iter().all(|sample| (sample - 0.25).abs() < 1e-4));
}

#[test]
fn formats_of_all_widths_rates_and_channels_are_understood() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("odd.wav");
    let float = |value: f32| value.to_le_bytes().to_vec();
    // WAVEFORMATEXTENSIBLE: 24 valid bits, front left and right, PCM subformat.
    let mut extensible = fmt(0xfffe, 2, 48_000, 24);
    extensible[4..8].copy_from_slice(&40u32.to_le_bytes());
    extensible.extend(22u16.to_le_bytes());
    extensible.extend(24u16.to_le_bytes());
    extensible.extend(3u32.to_le_bytes());
    extensible.extend([1, 0, 0, 0, 0, 0, 0x10, 0, 0x80, 0, 0, 0xaa, 0, 0x38, 0x9b, 0x71]);
    // Format chunk, sound, and what comes of them: rate and samples.
    type Case<'a> = (Vec<u8>, Vec<u8>, u32, &'a [f32]);
    let cases: &[Case<'_>] = &[
        (fmt(1, 1, 8_000, 8), vec![0, 64, 128, 192], 8_000, &[-1.0, -0.5, 0.0, 0.5]),
        (fmt(1, 1, 11_025, 16), vec![0, 0x80, 0, 0x40], 11_025, &[-1.0, 0.5]),
        (fmt(1, 2, 16_000, 16), vec![0, 0x40, 0, 0, 0, 0xc0, 0, 0xc0], 16_000, &[0.25, -0.5]),
        (fmt(1, 1, 44_100, 24), vec![0, 0, 0x40, 0, 0, 0x80], 44_100, &[0.5, -1.0]),
        (fmt(1, 1, 22_050, 32), vec![0, 0, 0, 0x40], 22_050, &[0.5]),
        (fmt(3, 1, 96_000, 32), [float(0.5), float(f32::NAN), float(9.0)].concat(), 96_000, &[0.5, 0.0, 1.0]),
        (extensible, vec![0, 0, 0x40, 0, 0, 0x40], 48_000, &[0.5]),
    ];
    for (format, data, rate, expected) in cases {
        // A chunk of odd length before the sound, and one after it, are passed over.
        let file =
            riff(&[format.clone(), chunk(b"LIST", b"abc"), chunk(b"data", data), chunk(b"id3 ", b"tag!")]);
        fs::write(&path, file).unwrap();
        let port = play(&path).unwrap();
        assert_eq!(port.rate, *rate);
        assert_eq!(drain(port), *expected, "{rate} Hz");
    }
}

/// Amplitude of one frequency.
fn level(samples: &[f32], hertz: f32, rate: u32) -> f32 {
    let turn = std::f32::consts::TAU * hertz / rate as f32;
    let (mut re, mut im) = (0.0, 0.0);
    for (n, sample) in samples.iter().enumerate() {
        let angle = n as f32 * turn;
        (re, im) = (re + sample * angle.cos(), im + sample * angle.sin());
    }
    2.0 * f32::hypot(re, im) / samples.len() as f32
}

/// A second of 500 Hz at 10 dB below full scale on both channels, in each of the formats.
#[test]
fn other_formats_than_wav_are_played() {
    for name in ["tone.flac", "tone.ogg"] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sound_lab").join(name);
        let port = play(&path).unwrap();
        let rate = port.rate;
        assert_eq!(rate, 8000, "{name}");
        let played = drain(port);
        assert!(played.len().abs_diff(8000) < 1300, "{name}: {} samples", played.len());
        let loud = level(&played[2000..6000], 500.0, rate);
        assert!((loud - 0.316).abs() < 0.02, "{name}: {loud}");
    }
}

/// Frames of MPEG-1 layer III at 128 kbit/s, one channel at 44.1 kHz, whose granules have no data: silence.
#[test]
fn mp3_is_decoded() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("silence.mp3");
    let mut frame = vec![0xff, 0xfb, 0x90, 0xc4];
    frame.resize(417, 0);
    fs::write(&path, frame.repeat(80)).unwrap();
    let port = play(&path).unwrap();
    assert_eq!(port.rate, 44_100);
    let played = drain(port);
    assert!(played.len().abs_diff(80 * 1152) <= 2 * 1152, "{} samples", played.len());
    assert!(played.iter().all(|sample| *sample == 0.0));
}

#[test]
fn a_damaged_file_is_played_as_far_as_it_goes_or_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("damaged");
    for name in ["tone.flac", "tone.ogg"] {
        let whole =
            fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sound_lab").join(name)).unwrap();
        for length in [0, 3, 20, 64, whole.len() / 3, whole.len() - 1] {
            fs::write(&path, &whole[..length]).unwrap();
            if let Ok(port) = play(&path) {
                assert!(drain(port).len() <= 10_000, "{name} of {length} bytes");
            }
        }
        // Bytes turned over, everywhere a little.
        for step in [7, 61, 509] {
            let mut bytes = whole.clone();
            bytes.iter_mut().skip(step).step_by(step).for_each(|byte| *byte ^= 0x5a);
            fs::write(&path, &bytes).unwrap();
            if let Ok(port) = play(&path) {
                drain(port);
            }
        }
    }
}

fn recording_in(path: &Path, wish: RecordWish) -> Recording {
    let file = OwnedFd::from(File::create(path).unwrap());
    run(sound::record_file(file, wish, Arc::default())).unwrap()
}

/// Records a tone, answers what is played of the file, which can be played in part before the tone has ended.
fn recorded_and_played(path: &Path, format: RecordFormat, tone: &[f32]) -> Vec<f32> {
    let recording = recording_in(path, RecordWish { format, ..RecordWish::default() });
    let mut ring = recording.port.listener.unwrap().ring;
    ring.push_entire_slice(tone).unwrap();
    let second = || play(path).is_ok_and(|port| port.capture.unwrap().slots() >= RECORDING_RATE as usize / 2);
    wait_until(Duration::from_secs(10), "what was said a second ago is there", second);
    drop(ring);
    assert_eq!(run(recording.finished).unwrap(), Ok(()));
    let port = play(path).unwrap();
    assert_eq!(port.rate, RECORDING_RATE);
    drain(port)
}

#[test]
fn a_recording_in_ogg_is_as_long_as_the_sound_and_can_be_played_at_any_time() {
    let folder = tempfile::tempdir().unwrap();
    // Neither a whole number of packets nor of pages.
    let tone = sine(440.0, 0.4, RECORDING_RATE, 70_123);
    let played = recorded_and_played(&folder.path().join("call.ogg"), RecordFormat::Ogg, &tone);
    assert_eq!(played.len(), tone.len());
    let loud = level(&played[4800..68_000], 440.0, RECORDING_RATE);
    assert!((loud - 0.4).abs() < 0.05, "{loud}");
    assert!(level(&played[69_000..], 440.0, RECORDING_RATE) > 0.2, "its end is there");
}

#[test]
fn a_recording_in_flac_is_the_sound_itself_and_can_be_played_at_any_time() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("call.flac");
    // Not a whole number of frames.
    let tone = sine(440.0, 0.4, RECORDING_RATE, 70_123);
    let played = recorded_and_played(&path, RecordFormat::Flac, &tone);
    let exact: Vec<f32> = tone.iter().map(|sample| (sample * 32_768.0).round() / 32_768.0).collect();
    assert!(played == exact, "{} samples of {}", played.len(), exact.len());
    let verified = flac_codec::decode::verify(&path).unwrap();
    assert!(matches!(verified, flac_codec::decode::Verified::MD5Match), "{verified:?}");
    let size = fs::metadata(&path).unwrap().len();
    assert!(size < 2 * 70_123 / 2, "{size} bytes");
}

#[test]
fn a_call_in_which_nothing_was_heard_leaves_a_file_without_sound() {
    let folder = tempfile::tempdir().unwrap();
    for format in RecordFormat::ALL {
        let path = folder.path().join(format.name());
        let recording = recording_in(&path, RecordWish { format, ..RecordWish::default() });
        drop(recording.port);
        assert_eq!(run(recording.finished).unwrap(), Ok(()), "{format:?}");
        assert!(play(&path).is_err(), "{format:?}");
        assert!(fs::metadata(&path).unwrap().len() > 0, "{format:?} has a header");
    }
}

#[test]
fn near_and_far_stay_apart_in_flac() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("call.flac");
    let recording = recording_in(&path, RecordWish { format: RecordFormat::Flac, side: Side::Stereo });
    let mut ring = recording.port.listener.unwrap().ring;
    let said: Vec<i16> = (0..20_000i16).flat_map(|at| [at, -at / 2]).collect();
    let samples: Vec<f32> = said.iter().map(|sample| f32::from(*sample) / 32_768.0).collect();
    ring.push_entire_slice(&samples).unwrap();
    drop(ring);
    assert_eq!(run(recording.finished).unwrap(), Ok(()));
    let mut reader = flac_codec::decode::FlacSampleReader::new(File::open(&path).unwrap()).unwrap();
    let mut written = Vec::new();
    reader.read_to_end(&mut written).unwrap();
    assert!(written == said.iter().map(|sample| i32::from(*sample)).collect::<Vec<_>>());
}

/// Both channels of a recording as libopus hears them, from its header to the end that its last page tells (RFC 7845
/// section 4).
fn both_channels(path: &Path) -> [Vec<f32>; 2] {
    let mut reader = ogg::PacketReader::new(File::open(path).unwrap());
    let head = reader.read_packet_expected().unwrap().data;
    assert!(head.starts_with(b"OpusHead\x01\x02") && head.len() == 19 && head[18] == 0, "{head:?}");
    assert!(reader.read_packet_expected().unwrap().data.starts_with(b"OpusTags"));
    let mut decoder =
        audiopus::coder::Decoder::new(audiopus::SampleRate::Hz48000, audiopus::Channels::Stereo).unwrap();
    let (mut sides, mut end) = ([vec![], vec![]], 0);
    while let Some(packet) = reader.read_packet().unwrap() {
        end = packet.absgp_page();
        let mut samples = [0.0; 2 * 5_760];
        let data = (&packet.data).try_into().unwrap();
        let room = (&mut samples[..]).try_into().unwrap();
        let frames = decoder.decode_float(Some(data), room, false).unwrap();
        for pair in samples[..2 * frames].chunks_exact(2) {
            sides[0].push(pair[0]);
            sides[1].push(pair[1]);
        }
    }
    let begin = usize::from(u16::from_le_bytes([head[10], head[11]]));
    sides.map(|side| side[begin..end as usize].to_vec())
}

#[test]
fn near_and_far_stay_apart_in_ogg() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("call.opus");
    let recording = recording_in(&path, RecordWish { format: RecordFormat::Ogg, side: Side::Stereo });
    let mut ring = recording.port.listener.unwrap().ring;
    // Who is near speaks at first, then both, then who is far.
    let frames = 70_123;
    let (near, far) = (sine(440.0, 0.4, RECORDING_RATE, frames), sine(1310.0, 0.4, RECORDING_RATE, frames));
    for (at, (near, far)) in near.iter().zip(&far).enumerate() {
        let pair = [if at < 48_000 { *near } else { 0.0 }, if at > 24_000 { *far } else { 0.0 }];
        ring.push_entire_slice(&pair).unwrap();
    }
    drop(ring);
    assert_eq!(run(recording.finished).unwrap(), Ok(()));

    let [left, right] = both_channels(&path);
    assert_eq!((left.len(), right.len()), (frames, frames));
    let heard = |side: &[f32], part: std::ops::Range<usize>| {
        [440.0, 1310.0].map(|pitch| level(&side[part.clone()], pitch, RECORDING_RATE))
    };
    for (part, of_left, of_right) in [
        (4_800..19_200, [0.4, 0.0], [0.0, 0.0]),
        (28_800..43_200, [0.4, 0.0], [0.0, 0.4]),
        (52_800..67_200, [0.0, 0.0], [0.0, 0.4]),
    ] {
        for (side, wanted) in [(&left, of_left), (&right, of_right)] {
            let heard = heard(side, part.clone());
            let near = |(heard, wanted): (f32, f32)| (heard - wanted).abs() < 0.04;
            assert!(heard.into_iter().zip(wanted).all(near), "{part:?}: {heard:?} for {wanted:?}");
        }
    }
    // Our own player mixes both.
    let played = drain(play(&path).unwrap());
    assert_eq!(played.len(), frames);
    for loud in heard(&played, 28_800..43_200) {
        assert!((loud - 0.2).abs() < 0.04, "{loud}");
    }
}

#[test]
fn a_file_is_played_again_and_again_until_nobody_listens() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("short.wav");
    fs::write(&path, riff(&[fmt(1, 1, 8_000, 16), chunk(b"data", &[0, 0x40].repeat(3000))])).unwrap();
    let file = OwnedFd::from(File::open(&path).unwrap());
    let mut ring = run(sound::play_file(file, true)).unwrap().capture.unwrap();
    let mut heard = 0;
    let many = || {
        heard += std::iter::from_fn(|| ring.pop().ok()).inspect(|sample| assert_eq!(*sample, 0.5)).count();
        heard > 20_000
    };
    wait_until(Duration::from_secs(10), "more than the file holds", many);
}

#[test]
fn a_file_cut_short_plays_what_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cut.wav");
    let mut file = riff(&[fmt(1, 1, 8_000, 16), chunk(b"data", &[0, 0x40].repeat(9_000))]);
    file.truncate(file.len() - 1);
    // What a pipe writes for a length it does not know.
    file[40..44].copy_from_slice(&u32::MAX.to_le_bytes());
    fs::write(&path, file).unwrap();
    assert_eq!(drain(play(&path).unwrap()), [0.5].repeat(8_999));
}

#[test]
fn broken_files_are_refused_in_words() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("broken.wav");
    let data = chunk(b"data", &[0; 64]);
    let mut contradiction = fmt(1, 2, 8_000, 16);
    contradiction[20] = 3;
    let cases: &[(Vec<u8>, &str)] = &[
        (vec![], "not a WAV file"),
        (b"ID3\x04 and so on, an MP3 file".to_vec(), "not a WAV file"),
        (riff(&[fmt(1, 1, 8_000, 16)]), "cut off in its header"),
        (riff(std::slice::from_ref(&data)), "does not say what format"),
        (riff(&[fmt(1, 0, 8_000, 16), data.clone()]), "no channels"),
        (riff(&[fmt(1, 1, 0, 16), data.clone()]), "rate of 0 Hz"),
        (riff(&[fmt(1, 1, u32::MAX, 16), data.clone()]), "rate of 4294967295 Hz"),
        (riff(&[fmt(7, 1, 8_000, 8), data.clone()]), "encoding is not supported"),
        (riff(&[fmt(1, 1, 8_000, 64), data.clone()]), "encoding is not supported"),
        (riff(&[contradiction, data]), "contradicts itself"),
        (riff(&[fmt(1, 1, 8_000, 16), chunk(b"data", &[])]), "holds no sound"),
        (riff(&vec![chunk(b"junk", &[]); 5_000]), "no sound in it"),
        ([riff(&[]), b"fmt \xff\xff\xff\xff".to_vec()].concat(), "cut off in its header"),
        ([riff(&[]), b"junk\xff\xff\xff\xff".to_vec()].concat(), "cut off in its header"),
    ];
    for (bytes, words) in cases {
        fs::write(&path, bytes).unwrap();
        let reason = play(&path).map(|_| ()).unwrap_err();
        assert!(reason.contains(words), "{words}: {reason}");
    }
}

#[test]
fn what_cannot_be_recorded_into_is_refused_in_words() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("read-only.wav");
    fs::write(&path, "").unwrap();
    let refused = |file: File| run(record(file)).map(|_| ()).unwrap_err();
    let reason = refused(File::open(&path).unwrap());
    assert!(reason.contains("cannot be written"), "{reason}");
    let reason = refused(File::options().write(true).open("/dev/null").unwrap());
    assert!(reason.contains("not a regular file"), "{reason}");
}

#[test]
fn a_file_open_for_appending_is_refused_before_anything_is_recorded() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("appended.wav");
    let check = |file: File| run(sound::check_files(None, Some(OwnedFd::from(file))));
    assert_eq!(check(File::create(&path).unwrap()), Ok(()));
    for reads in [false, true] {
        let file = File::options().read(reads).append(true).open(&path).unwrap();
        let reason = check(file).unwrap_err();
        assert!(reason.ends_with("it is open for appending only; open it for writing"), "{reason}");
    }
    let reason = check(File::open(&path).unwrap()).unwrap_err();
    assert!(reason.ends_with("it is open for reading only"), "{reason}");
}

#[test]
fn file_devices_open_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let name = |file: &str| format!("file:{}", folder.path().join(file).display());
    write_wav(&folder.path().join("mic.wav"), &sine(300.0, 0.2, RATE, 200_000));
    let mut sound = SoundSystem::start().unwrap();
    run(async {
        let (input, opened, _) = open(&mut sound, DeviceRole::Input, &name("mic.wav")).await;
        assert_eq!(opened.to_string(), name("mic.wav"));
        assert_eq!(drain(input).len(), 200_000, "once, then the end");

        let (output, ..) = open(&mut sound, DeviceRole::Output, &name("out.wav")).await;
        assert_eq!(output.pace, Pace::Tick);
        let mut ring = output.playback.unwrap();
        ring.push_entire_slice(&[0.5; 480]).unwrap();
        drop(ring);
        let complete =
            || hound::WavReader::open(folder.path().join("out.wav")).is_ok_and(|file| file.len() == 480);
        wait_until(Duration::from_secs(5), "the file is complete", complete);
        // A recording may be replaced.
        open(&mut sound, DeviceRole::Ringer, &name("out.wav")).await;

        let reason = refusal(&mut sound, DeviceRole::Input, &name("none.wav")).await;
        assert!(reason.contains("there is no such file"), "{reason}");
        let reason = refusal(&mut sound, DeviceRole::Input, "file:/").await;
        assert!(reason.contains("not a regular file"), "{reason}");
        fs::write(folder.path().join("letter.txt"), "Dear").unwrap();
        let reason = refusal(&mut sound, DeviceRole::Output, &name("letter.txt")).await;
        assert!(reason.contains("does not overwrite"), "{reason}");
        assert_eq!(fs::read_to_string(folder.path().join("letter.txt")).unwrap(), "Dear");
    });
}

#[test]
fn without_any_sound_default_is_silence() {
    without_sound("inside_without_any_sound_default_is_silence");
}

#[test]
#[ignore = "runs in an environment without sound"]
fn inside_without_any_sound_default_is_silence() {
    if inside().is_none() || Path::new("/proc/asound/pcm").exists() {
        return;
    }
    let mut sound = SoundSystem::start().unwrap();
    run(async {
        let (port, name, description) = open(&mut sound, DeviceRole::Input, "default").await;
        assert!(port.capture.is_none() && port.playback.is_none() && port.pace == Pace::Tick);
        assert_eq!(name.to_string(), "null");
        assert_eq!(description, "silence: no sound server and no sound card was found");
        assert!(sound.find(DeviceRole::Input, "default".parse().unwrap()).await.is_err());
        for (name, words) in [
            ("pulseaudio:x", "PulseAudio does not run"),
            ("alsa:PCH,0", "ALSA has no device `PCH,0`"),
            ("pipewire:default", "PipeWire"),
        ] {
            let reason = refusal(&mut sound, DeviceRole::Input, name).await;
            assert!(reason.contains(words), "{reason}");
        }
        let views = sound.list().await;
        let names: Vec<_> = views.iter().map(|view| view.name.as_str()).collect();
        assert_eq!((names.first(), names.last()), (Some(&"default"), Some(&"null")), "{views:#?}");
        assert!(views.last().unwrap().default);
    });
}

/// Threads of this process by that name.
fn threads(name: &str) -> usize {
    let is_named = |task: &fs::DirEntry| {
        fs::read_to_string(task.path().join("comm")).is_ok_and(|comm| comm.trim_end() == name)
    };
    fs::read_dir("/proc/self/task").unwrap().flatten().filter(is_named).count()
}

#[test]
fn a_server_that_hangs_is_listed_as_such_and_costs_few_threads() {
    without_sound("inside_a_server_that_hangs_is_listed_as_such_and_costs_few_threads");
}

#[test]
#[ignore = "runs in an environment without sound"]
fn inside_a_server_that_hangs_is_listed_as_such_and_costs_few_threads() {
    const NAME: &str = "pulseaudio:x";
    /// Threads that may hang in one kind of call.
    const MOST: usize = 16;
    /// Threads that may hang in listing one server.
    const MOST_LISTING: usize = 3;
    let Some(folder) = inside() else { return };
    let path = folder.join("pulse/native");
    fs::create_dir(folder.join("pulse")).unwrap();
    // There is room for one connection, which is never taken: all others wait.
    let door = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
    door.bind(&SockAddr::unix(&path).unwrap()).unwrap();
    door.listen(0).unwrap();
    let _first = UnixStream::connect(&path).unwrap();
    let mut sound = SoundSystem::start().unwrap();
    run(async {
        for _ in 0..MOST_LISTING + 2 {
            let views = tokio::time::timeout(Duration::from_secs(20), sound.list()).await.expect("a listing");
            let server = views.iter().find(|view| view.name == "pulseaudio:default").unwrap();
            assert!(!server.available && server.reason.contains("does not answer"), "{views:#?}");
            assert_eq!(views[0].host, "pulseaudio", "`default` leads to what hangs");
        }
        wait_until(Duration::from_secs(10), "few go on", || threads("voipd-list") <= MOST_LISTING);

        for _ in 0..40 {
            drop(sound.find(DeviceRole::Input, NAME.parse().unwrap()));
        }
        assert!(sound.find(DeviceRole::Input, NAME.parse().unwrap()).await.is_err());
        wait_until(Duration::from_secs(10), "they look", || threads("voipd-find") >= MOST);
        assert_eq!(threads("voipd-find"), MOST);

        for _ in 0..40 {
            sound.open(DeviceRole::Input, NAME.parse().unwrap());
        }
        let reason = refusal(&mut sound, DeviceRole::Input, NAME).await;
        assert!(reason.contains("hangs"), "{reason}");
        wait_until(Duration::from_secs(10), "they open", || threads("voipd-open") >= MOST);
        assert_eq!(threads("voipd-open"), MOST);

        drop(door);
        let ended = || threads("voipd-list") + threads("voipd-find") + threads("voipd-open") == 0;
        wait_until(Duration::from_secs(10), "all of them end", ended);
        let reason = refusal(&mut sound, DeviceRole::Input, NAME).await;
        assert!(reason.contains("does not run"), "{reason}");
    });
}

#[test]
fn an_overtaken_wish_is_not_told() {
    let mut sound = SoundSystem::start().unwrap();
    run(async {
        sound.open(DeviceRole::Input, "file:/nowhere.wav".parse().unwrap());
        sound.open(DeviceRole::Input, "null".parse().unwrap());
        let SoundEvent::Opened { name, .. } = event(&mut sound, 5).await else {
            panic!("the first wish was told")
        };
        assert_eq!(name.to_string(), "null");
        sound.open(DeviceRole::Output, "null".parse().unwrap());
        sound.close(DeviceRole::Output);
        let told = tokio::time::timeout(Duration::from_millis(300), sound.next_event()).await;
        assert!(told.is_err(), "a closed role tells nothing");
    });
}
