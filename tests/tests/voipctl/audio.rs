//! A call's sound at standard input and output, at sockets and in files, as docs/audio.md says.

use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::Signal;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use voipd_tests::judge::Sound;
use voipd_tests::process::Process;
use voipd_tests::speech::{Speaker, speech};
use voipd_tests::{Lab, SOON, Voipctl, Voipd, pause, timely, until};

use super::{at, ctl, echo_at, friend, phone, talk};

/// A command with files for standard input and output.
fn piped(voipd: &Voipd, arguments: &[&str], input: &Path, output: &Path) -> Voipctl {
    let command = voipd.voipctl(arguments);
    let mut shell = Command::new("sh");
    shell.args(["-c", "in=$1 out=$2; shift 2; exec \"$@\" <\"$in\" >\"$out\"", "sh"]).args([input, output]);
    shell.arg(command.get_program()).args(command.get_args());
    shell.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    Voipctl::start(shell)
}

/// A pipe for standard input, which does not end as long as its other end is held.
fn open_pipe(lab: &Lab) -> (PathBuf, File) {
    let path = lab.path("input");
    mkfifo(path.as_path(), Mode::S_IRWXU).unwrap();
    let held = File::options().read(true).write(true).open(&path).unwrap();
    (path, held)
}

/// Waits until a program has joined in a mode, and sound flows.
async fn joins(voipd: &Voipd, number: &str, mode: &str) {
    until(&format!("{mode} is open"), SOON, async || {
        let ports = ctl(voipd, &["audio", number, "--list", "--json"]).await.json();
        (ports[0]["mode"] == mode && ports[0]["open"] == true).then_some(())
    })
    .await;
}

/// A second of a tone as raw samples, at 16 kHz.
fn tone() -> Vec<u8> {
    let samples = Sound::tone(16_000, 600.0, 1.0, 0.3).samples;
    samples.iter().flat_map(|sample| ((sample * 32_768.0) as i16).to_le_bytes()).collect()
}

fn loudest(sound: &Sound) -> f64 {
    sound.samples.iter().fold(0.0, |loudest, sample| sample.abs().max(loudest))
}

/// A file of raw samples, as WAV: the judge reads nothing else.
fn as_wav(raw: &Path, rate: u32) -> Sound {
    let bytes = std::fs::read(raw).unwrap();
    let samples =
        bytes.chunks_exact(2).map(|b| f64::from(i16::from_le_bytes([b[0], b[1]])) / 32_768.0).collect();
    Sound { rate, samples }
}

#[timely]
async fn a_wav_file_on_standard_input_is_said_and_the_answer_written() {
    let lab = Lab::shared();
    let (phone, friend) = (phone(&lab).await, friend(&lab).await);
    let (said, heard) = (speech(Speaker::Alice, 16_000), lab.path("heard.wav"));
    let call = piped(&phone, &["call", &echo_at(&friend), "--audio", "-", "--wav", "--wait"], &said, &heard);
    let ended = call.ends().await;
    assert_eq!(ended.code, 0, "{}", ended.errors);
    assert!(ended.errors.contains("hung up here after"), "{}", ended.errors);
    let (said, heard) = (Sound::load(&said), Sound::load(&heard));
    assert_eq!(heard.rate, 16_000);
    // Neither its beginning nor its end is missing: the echo of all of it came back.
    assert!(heard.seconds() > said.seconds(), "{} s of {} s", heard.seconds(), said.seconds());
    let verdict = voipd_tests::judge::compare(&said, &heard, voipd_tests::judge::Codec::Perceptual);
    // Other tests run beside this one: how smoothly it came is asked where nothing disturbs, here that all of it came.
    assert!(verdict.correlation > 0.6, "{verdict}");
    phone.stop().await;
    friend.stop().await;
}

#[timely]
async fn programs_join_and_leave_a_call_that_goes_on() {
    let lab = Lab::shared();
    let (phone, friend) = (phone(&lab).await, friend(&lab).await);
    let number = talk(&phone, &echo_at(&friend), &[]).await;
    // The peer hears a tone, and both sides are tapped.
    let said = lab.path("tone.raw");
    std::fs::write(&said, tone()).unwrap();
    let (both, nothing) = (lab.path("both.raw"), lab.path("nothing"));
    let tap = piped(
        &phone,
        &["audio", &number, "--listen", "near", "--rate", "8000"],
        Path::new("/dev/null"),
        &both,
    );
    joins(&phone, &number, "tap").await;
    let speaks = piped(&phone, &["audio", &number, "--mode", "inject"], &said, &nothing);
    assert_eq!(speaks.ends().await.code, 0);
    assert!(std::fs::read(&nothing).unwrap().is_empty(), "it was not asked to listen");
    ctl(&phone, &["record", "--stop"]).await.fails(1, &["not being recorded"]);
    ctl(&phone, &["hangup"]).await.silent();
    assert_eq!(tap.ends().await.code, 0, "the call's end ends it");
    let told = as_wav(&both, 8000);
    assert!((told.strongest_frequency() - 600.0).abs() < 10.0, "{}", told.strongest_frequency());
    phone.stop().await;
    friend.stop().await;
}

#[timely]
async fn a_call_is_joined_to_what_standard_input_and_output_are() {
    let lab = Lab::shared();
    let (phone, friend) = (phone(&lab).await, friend(&lab).await);
    let number = talk(&phone, &echo_at(&friend), &[]).await;
    let said = lab.path("tone.raw");
    std::fs::write(&said, [tone(), vec![0; 32_000]].concat()).unwrap();
    let (heard, null) = (lab.path("heard.raw"), Path::new("/dev/null"));
    let both = piped(&phone, &["audio", &number], &said, &heard).ends().await;
    assert_eq!(both.code, 0, "{}", both.errors);
    let back = as_wav(&heard, 16_000);
    assert!((back.strongest_frequency() - 600.0).abs() < 10.0, "{}", back.strongest_frequency());
    // Nobody wants what the peer says.
    assert_eq!(piped(&phone, &["audio", &number], &said, null).ends().await.code, 0);
    // Nobody says anything.
    let tap = piped(&phone, &["audio", &number], null, &heard);
    joins(&phone, &number, "tap").await;
    ctl(&phone, &["hangup"]).await.silent();
    assert_eq!(tap.ends().await.code, 0, "the call's end ends it");
    phone.stop().await;
    friend.stop().await;
}

#[timely]
async fn a_call_is_followed_while_its_program_says_nothing_yet() {
    let lab = Lab::shared();
    let (phone, friend) = (phone(&lab).await, friend(&lab).await);
    let ((input, _held), output) = (open_pipe(&lab), lab.path("heard.raw"));
    let call = || piped(&phone, &["call", &at(&friend), "--audio", "-", "--wait"], &input, &output);
    let refused = call();
    friend.incoming().await;
    ctl(&friend, &["reject", "--busy"]).await.silent();
    let ended = refused.ends().await;
    assert_eq!(ended.code, 10, "{}", ended.errors);
    let interrupted = call();
    let incoming = friend.incoming().await;
    incoming.accept().await;
    ctl(&phone, &["wait", "active", "--timeout", "10"]).await.well();
    interrupted.signal(Signal::SIGTERM);
    let ended = interrupted.ends().await;
    assert_eq!(ended.code, 0, "{}", ended.errors);
    assert_eq!(incoming.ended().await.0, "remote");
    phone.stop().await;
    friend.stop().await;
}

#[timely]
async fn a_program_that_only_speaks_ends_with_the_call_and_stays_as_long() {
    let lab = Lab::shared();
    let (phone, friend) = (phone(&lab).await, friend(&lab).await);
    let number = talk(&phone, &echo_at(&friend), &[]).await;
    let ((input, mut held), nothing) = (open_pipe(&lab), lab.path("nothing"));
    held.write_all(&tone()).unwrap();
    let speaks = piped(&phone, &["audio", &number, "--mode", "inject"], &input, &nothing);
    joins(&phone, &number, "inject").await;
    ctl(&phone, &["hangup"]).await.silent();
    let ended = speaks.ends().await;
    assert_eq!(ended.code, 0, "{}", ended.errors);
    // One that stays keeps the microphone's place when it has said all.
    let number = talk(&phone, &echo_at(&friend), &[]).await;
    let arguments = ["audio", &number, "--mode", "replace", "--stay"];
    let stays = piped(&phone, &arguments, Path::new("/dev/null"), &nothing);
    joins(&phone, &number, "replace").await;
    pause(1.0).await;
    joins(&phone, &number, "replace").await;
    ctl(&phone, &["hangup"]).await.silent();
    let ended = stays.ends().await;
    assert_eq!(ended.code, 0, "{}", ended.errors);
    ctl(&phone, &["audio", &number, "--mode", "inject"]).await.fails(1, &["the call has ended"]);
    phone.stop().await;
    friend.stop().await;
}

#[timely]
async fn a_tap_that_is_interrupted_leaves_a_whole_wav_file() {
    let lab = Lab::shared();
    let (phone, friend) = (phone(&lab).await, friend(&lab).await);
    let (number, heard) = (talk(&phone, &echo_at(&friend), &[]).await, lab.path("heard.wav"));
    let tap = piped(&phone, &["audio", &number, "--wav"], Path::new("/dev/null"), &heard);
    until("sound is written", SOON, async || (std::fs::metadata(&heard).ok()?.len() > 10_000).then_some(()))
        .await;
    tap.signal(Signal::SIGINT);
    let ended = tap.ends().await;
    assert_eq!(ended.code, 0, "{}", ended.errors);
    let file = std::fs::read(&heard).unwrap();
    let length = u32::from_le_bytes(file[40..44].try_into().unwrap());
    assert_eq!(length as usize, file.len() - 44);
    phone.stop().await;
    friend.stop().await;
}

#[timely]
async fn a_named_socket_takes_a_program_that_cannot_be_handed_one() {
    let lab = Lab::shared();
    let (phone, friend) = (phone(&lab).await, friend(&lab).await);
    let number = talk(&phone, &echo_at(&friend), &["--record", lab.path("echo.wav").to_str().unwrap()]).await;
    let said = ctl(&phone, &["audio", &number, "--socket", "--mode", "replace", "--listen", "far"]).await;
    let path = said.well().trim().to_owned();
    let mut socket = UnixStream::connect(&path).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    socket.write_all(&tone()).unwrap();
    let mut heard = vec![0; 64_000];
    socket.read_exact(&mut heard).unwrap();
    let raw = lab.path("socket.raw");
    std::fs::write(&raw, &heard).unwrap();
    assert!((as_wav(&raw, 16_000).strongest_frequency() - 600.0).abs() < 10.0);
    ctl(&phone, &["hangup"]).await.silent();
    until("the socket is removed", SOON, async || (!Path::new(&path).exists()).then_some(())).await;
    ctl(&phone, &["audio", "--mode", "inject"]).await.fails(1, &["there is no call"]);
    phone.stop().await;
    friend.stop().await;
}

/// What the call's own `--record` writes goes by the file's name.
#[timely]
async fn the_name_of_the_file_tells_what_a_call_is_recorded_as() {
    let lab = Lab::shared();
    let (phone, friend) = (phone(&lab).await, friend(&lab).await);
    let tone = lab.path("beep.wav");
    Sound::tone(8000, 500.0, 1.0, 0.3).save(&tone);
    let (echo, tone) = (echo_at(&friend), tone.to_str().unwrap());
    let call = async |played: &str, options: &[&str]| {
        let begin = ["call", &echo, "--hangup-after", "0.5", "--play", played];
        ctl(&phone, &[&begin, options].concat()).await.well();
    };
    for (name, magic) in [("call.flac", "fLaC"), ("call.opus", "OggS"), ("call.wav", "RIFF")] {
        let file = lab.path(name);
        let file = file.to_str().unwrap();
        call(tone, &["--record", file]).await;
        let begin = std::fs::read(file).unwrap();
        assert!(begin.starts_with(magic.as_bytes()), "{name}");
        // It can be played as it is.
        call(file, &[]).await;
    }
    phone.stop().await;
    friend.stop().await;
}

#[timely]
async fn files_are_played_and_recorded_in_mid_call() {
    let lab = Lab::shared();
    let (phone, friend) = (phone(&lab).await, friend(&lab).await);
    let number = talk(&phone, &echo_at(&friend), &[]).await;
    let (tone, both) = (lab.path("tone.wav"), lab.path("both.wav"));
    Sound::tone(8000, 500.0, 1.0, 0.3).save(&tone);
    let (tone, both) = (tone.to_str().unwrap(), both.to_str().unwrap());
    std::fs::write(lab.path("text.txt"), "words").unwrap();
    ctl(&phone, &["play", lab.path("text.txt").to_str().unwrap()]).await.fails(1, &["cannot be used"]);
    ctl(&phone, &["record", &number, both, "--side", "stereo"]).await.silent();
    ctl(&phone, &["record", both]).await.fails(1, &["being recorded"]);
    ctl(&phone, &["play", &number, tone, "--wait"]).await.silent();
    ctl(&phone, &["play", tone, "--loop", "--replace"]).await.silent();
    ctl(&phone, &["play", tone]).await.fails(1, &["stop it first"]);
    let calls = ctl(&phone, &["calls", "--json"]).await.json();
    assert_eq!((&calls[0]["playing"], &calls[0]["recording"]), (&true.into(), &true.into()));
    ctl(&phone, &["play", "--stop"]).await.silent();
    ctl(&phone, &["play", "--stop", &number]).await.fails(1, &["no file is being played"]);
    // The file is complete when the command returns.
    ctl(&phone, &["record", "--stop"]).await.silent();
    for channel in [0, 1] {
        let side = Sound::channel(Path::new(both), channel);
        assert!(
            (side.strongest_frequency() - 500.0).abs() < 10.0,
            "{channel}: {}",
            side.strongest_frequency()
        );
        assert!(loudest(&side) > 0.2, "{channel}");
    }
    ctl(&phone, &["hangup"]).await.silent();
    phone.stop().await;
    friend.stop().await;
}

#[timely]
async fn a_call_that_nobody_answers_tells_why_also_with_sound_joined() {
    let lab = Lab::shared();
    let phone = phone(&lab).await;
    let nobody = format!("sip:{}:9", lab.address());
    let (input, output) = (Path::new("/dev/null"), lab.path("nothing.raw"));
    let ended = piped(&phone, &["call", &nobody, "--audio", "-"], input, &output).ends().await;
    assert_eq!(ended.code, 13, "{}", ended.errors);
    phone.stop().await;
}

/// The page's `sh` blocks.
fn examples() -> Vec<String> {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/audio.md");
    let text = std::fs::read_to_string(page).unwrap();
    text.split("```sh\n").skip(1).map(|rest| rest.split("```").next().unwrap().to_owned()).collect()
}

#[timely]
async fn every_example_of_the_page_works() {
    let lab = Lab::shared();
    let (phone, friend) = (phone(&lab).await, friend(&lab).await);
    Sound::tone(16_000, 600.0, 0.5, 0.3).save(&lab.path("announcement.wav"));
    let voipctl = voipd_tests::voipd::built("voipctl");
    let path = std::env::join_paths(
        std::iter::once(voipctl.parent().unwrap().to_owned())
            .chain(std::env::split_paths(&std::env::var_os("PATH").unwrap())),
    );
    let path = path.unwrap();
    let examples = examples();
    assert!(examples.len() >= 6, "only {} examples were found", examples.len());
    for (number, example) in examples.iter().enumerate() {
        let call = match example.contains("$CALL") {
            true => talk(&phone, &echo_at(&friend), &[]).await,
            false => String::new(),
        };
        let mut shell = Command::new("bash");
        shell.args(["-e", "-o", "pipefail", "-c", example]).current_dir(lab.path("")).env("PATH", &path);
        let like = phone.voipctl(&[]);
        shell.envs(like.get_envs().filter_map(|(name, value)| Some((name, value?))));
        shell.env("CALL", &call).env("TARGET", echo_at(&friend)).env("OTHER_TARGET", echo_at(&friend));
        let mut ran = Process::start("example", shell, &lab.path(&format!("example-{number}.log")));
        let status = ran.wait(Duration::from_secs(30)).await;
        assert!(status.success(), "{example} failed ({status}):\n{}", ran.output());
        // Where the example has not ended the call, it ends here.
        ctl(&phone, &["hangup", "--all"]).await.silent();
    }
    assert!(Sound::load(&lab.path("answer.wav")).seconds() > 1.0);
    // The echo comes back what was said, left and right.
    for channel in [0, 1] {
        assert!(loudest(&Sound::channel(&lab.path("both.wav"), channel)) > 0.05, "{channel}");
        assert!(loudest(&Sound::channel(&lab.path("call.wav"), channel)) > 0.05, "{channel}");
    }
    assert!(loudest(&as_wav(&lab.path("answer.raw"), 8000)) > 0.05);
    phone.stop().await;
    friend.stop().await;
}
