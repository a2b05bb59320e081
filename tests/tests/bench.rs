//! What voipd costs and how fast it is, with baresip beside it. `make bench` runs it; docs/benchmarks.md explains it.
//!
//! Every program measured runs on the far host of a wire, and the load comes from this end.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use voipd_dbus::AcceptOptions;
use voipd_tests::bare::Bare;
use voipd_tests::grid::{Ear, Sleeper, busy, lateness};
use voipd_tests::host::Wire;
use voipd_tests::judge::{Codec, Sound, compare};
use voipd_tests::load::{answer_times, calls, calls_at_rate, calls_with};
use voipd_tests::measure::{Cost, quantile};
use voipd_tests::process::{Process, program, run};
use voipd_tests::pulse::Pulse;
use voipd_tests::speech::programs;
use voipd_tests::{Config, Lab, Voipd, needs_root, pause, until};

/// Most calls that voipd has at once: as it comes, since each takes memory, and where many are made in a second.
const USUAL: usize = 64;
const MOST: usize = 1000;
/// How many calls at once.
const CALLS: [u32; 4] = [0, 1, 18, 30];
/// How long processor time is counted.
const WATCH: Duration = Duration::from_secs(12);
/// How long a load's calls take to begin.
const BEGIN: Duration = Duration::from_secs(4);
/// Calls made one after another.
const SEQUENTIAL: u32 = 400;
/// Calls a second, one step after another.
const RATES: [u32; 7] = [50, 100, 200, 400, 600, 800, 1000];
/// How long each step takes.
const STEP: Duration = Duration::from_secs(5);
/// How long departures of packets are watched, and how often: where the kernel does not preempt itself, a few long system
/// calls of other programs decide what the rarest packets of one round look like, the sleeper's and voipd's.
const GRID: Duration = Duration::from_secs(30);
const ROUNDS: usize = 3;
/// Chirps whose way from mouth to ear is measured.
const CHIRPS: usize = 12;
const RATE: u32 = 48_000;

/// A telephone that answers by itself and sends back what it hears; `most` calls at once.
async fn echo(lab: &Lab, wire: &Wire, name: &str, most: usize) -> Voipd {
    let config = Config::beyond(wire)
        .line("log", "level = \"info\"")
        .line("rtp", "ports = \"16384-32766\"")
        .line("calls", format!("max = {most}"))
        .account("name = \"echo\"\nkind = \"echo\"\nallow-from = [\"198.18.0.0/15\"]");
    Voipd::start(lab, name, config).await
}

/// A running baresip, where there is one on this machine.
struct Baresip(Process);

impl Baresip {
    /// Starts one with the given lines of configuration and accounts, as Debian's defaults have it else.
    async fn start(
        mut command: Command,
        directory: PathBuf,
        config: &str,
        accounts: &str,
        options: &[&str],
    ) -> Self {
        let config = format!(
            "module_path /usr/lib/baresip/modules\nmodule_app account.so\nmodule_app menu.so\nmodule g711.so\n\
             call_max_calls 0\ncall_hold_other_calls no\naudio_alert aubridge,nobody\nmodule aubridge.so\n{config}"
        );
        std::fs::write(directory.join("config"), config).unwrap();
        std::fs::write(directory.join("accounts"), accounts).unwrap();
        std::fs::write(directory.join("contacts"), "").unwrap();
        command.arg("-f").arg(&directory).arg("-4").args(options);
        let mut process = Process::start("baresip", command, &directory.join("log"));
        process.says("baresip is ready").await;
        Self(process)
    }

    /// One that answers by itself and sends back what it hears: `u1`, `u2` and so on, as many as calls.
    async fn echo(lab: &Lab, wire: &Wire, name: &str, users: u32) -> Self {
        let address = wire.there;
        // Each account has a bridge of its own: one that several share sends for one of them only.
        let account = |n| {
            format!(
                "<sip:u{n}@{address}>;regint=0;answermode=auto;audio_codecs=PCMU/8000/1;\
                 audio_source=aubridge,b{n};audio_player=aubridge,b{n}\n"
            )
        };
        let accounts: String = (1..=users).map(account).collect();
        let config = format!("sip_listen {address}:5060\naudio_player aubridge,b\naudio_source aubridge,b\n");
        Self::start(wire.program("baresip"), lab.directory(name), &config, &accounts, &[]).await
    }
}

fn has_baresip() -> bool {
    let found = Path::new("/usr/bin/baresip").exists();
    if !found {
        println!("baresip is not installed: voipd stands alone");
    }
    found
}

/// Watches a process under load and checks that the sound really flows.
async fn under_load(wire: &Wire, process: u32, count: u32) -> Cost {
    pause(BEGIN.as_secs_f64()).await;
    let before = wire.packets();
    let cost = Cost::of(process, WATCH).await;
    let after = wire.packets();
    // Fifty packets a second, each way, and hardly anything else.
    let expected = f64::from(count) * 50.0 * WATCH.as_secs_f64();
    for (way, packets) in [("sent", after.0 - before.0), ("received", after.1 - before.1)] {
        let share = packets as f64 / expected.max(1.0);
        assert!(count == 0 || (0.97..1.06).contains(&share), "{packets} packets {way}, not {expected}");
    }
    cost
}

fn row(what: &str, count: u32, cost: Cost) {
    let Cost { cpu_percent, pss_mb, rss_mb } = cost;
    println!("| {what} | {count} | {cpu_percent:.1} % | {pss_mb:.1} MB | {rss_mb:.1} MB |");
}

#[tokio::test]
#[ignore = "a measurement: make bench"]
async fn calls_cost() {
    if !needs_root("calls_cost") {
        return;
    }
    let lab = Lab::alone();
    let wire = Wire::new();
    let (here, there) = (wire.here, wire.there);
    let time = BEGIN + WATCH + Duration::from_secs(3);
    println!("\n| PCMU calls | at once | CPU | PSS | RSS |\n|---|---|---|---|---|");
    for count in CALLS {
        let voipd = echo(&lab, &wire, &format!("echo-{count}"), USUAL).await;
        let load = (count > 0).then(|| calls(&lab, here, there, "echo", count, time));
        row("voipd, echo", count, under_load(&wire, voipd.id(), count).await);
        if let Some(load) = load {
            load.succeeds().await;
        }
        voipd.stop().await;
    }
    let alone = AcceptOptions { programs: Some(true), ..AcceptOptions::default() };
    let mixed = AcceptOptions { mix: Some(true), ..AcceptOptions::default() };
    for (what, name, options) in
        [("null device, each by itself", "alone", alone), ("null device, one conference", "mixed", mixed)]
    {
        for count in CALLS.into_iter().filter(|count| *count > 0) {
            let voipd = echo(&lab, &wire, &format!("{name}-{count}"), USUAL).await;
            let load = calls(&lab, here, there, "phone", count, time + Duration::from_secs(3));
            for _ in 0..count {
                voipd.incoming().await.proxy.accept(&options).await.unwrap();
            }
            row(&format!("voipd, {what}"), count, under_load(&wire, voipd.id(), count).await);
            load.succeeds().await;
            voipd.stop().await;
        }
    }
    for count in CALLS.into_iter().filter(|count| *count > 0) {
        let bare = Bare::start(&wire, count, WATCH);
        let (used, back) = tokio::task::spawn_blocking(|| bare.used()).await.unwrap();
        let expected = f64::from(count) * 50.0 * WATCH.as_secs_f64();
        assert!(back as f64 > 0.97 * expected, "{back} packets came back, not {expected}");
        let percent = 100.0 * used.as_secs_f64() / WATCH.as_secs_f64();
        println!("| bare sockets, the same packets and nothing else | {count} | {percent:.1} % | | |");
    }
    if !has_baresip() {
        return;
    }
    for count in CALLS {
        let mut baresip = Baresip::echo(&lab, &wire, &format!("baresip-{count}"), count.max(1)).await;
        let load = (count > 0).then(|| calls(&lab, here, there, "u[call_number]", count, time));
        row("baresip, echo", count, under_load(&wire, baresip.0.id(), count).await);
        if let Some(load) = load {
            load.succeeds().await;
        }
        baresip.0.cut();
    }
}

#[tokio::test]
#[ignore = "a measurement: make bench"]
async fn answering_takes() {
    if !needs_root("answering_takes") {
        return;
    }
    let lab = Lab::alone();
    let wire = Wire::new();
    let (here, there) = (wire.here, wire.there);
    println!("\n| INVITE to 200 OK | median | 99 of 100 |\n|---|---|---|");
    let measure = async |what: &str, user: &'static str| {
        let times = tokio::task::spawn_blocking(move || answer_times(here, there, user, SEQUENTIAL));
        let times = times.await.unwrap();
        println!("| {what} | {:.2} ms | {:.2} ms |", quantile(&times, 0.5), quantile(&times, 0.99));
    };
    let voipd = echo(&lab, &wire, "voipd", MOST).await;
    measure("voipd", "echo").await;
    voipd.stop().await;
    if has_baresip() {
        let _baresip = Baresip::echo(&lab, &wire, "baresip", 1).await;
        measure("baresip", "u1").await;
    }
}

#[tokio::test]
#[ignore = "a measurement: make bench"]
async fn calls_a_second() {
    if !needs_root("calls_a_second") {
        return;
    }
    let lab = Lab::alone();
    let wire = Wire::new();
    let ends = (wire.here, wire.there);
    println!(
        "\n| short calls | wanted a second | made a second | failed | retransmissions |\n|---|---|---|---|---|"
    );
    let measure = async |what: &str, user: &str| {
        for rate in RATES {
            let outcome = calls_at_rate(&lab, ends, user, rate, STEP).await;
            let (made, failed, again) = (outcome.rate, outcome.failed, outcome.retransmissions);
            println!("| {what} | {rate} | {made:.0} | {failed} | {again} |");
            if failed > 0 {
                break;
            }
        }
    };
    let voipd = echo(&lab, &wire, "voipd", MOST).await;
    measure("voipd", "echo").await;
    voipd.stop().await;
    if has_baresip() {
        let _baresip = Baresip::echo(&lab, &wire, "baresip", 1).await;
        measure("baresip", "u1").await;
    }
}

/// Eighteen parties that all talk, 20 ms at 8 kHz, as Python's `audioop` mixes them: the sum once, each party's own taken
/// off.
const AUDIOOP: &str = "
import audioop, time
said = [bytes((number * 7 + n * 3) % 251 for n in range(320)) for number in range(18)]
def mix():
    whole = said[0]
    for own in said[1:]:
        whole = audioop.add(whole, own, 2)
    return [audioop.add(whole, audioop.mul(own, 2, -1), 2) for own in said]
def round():
    start = time.perf_counter()
    for _ in range(200):
        mix()
    return (time.perf_counter() - start) / 200 * 1e6
print(min(round() for _ in range(100)))
";

#[test]
#[ignore = "a measurement: make bench"]
fn mixing_takes() {
    let mut mix = Command::new(programs().join("examples/mix"));
    let shown = run(&mut mix);
    let share = shown.lines().find_map(|line| line.strip_prefix("the mixer's share: ")?.strip_suffix(" us"));
    let ours: f64 = share.unwrap_or_else(|| panic!("no share in {shown}")).parse().unwrap();
    println!("\n| 18 parties, 20 ms at 8 kHz, limiter included | |\n|---|---|\n| voipd | {ours:.1} us |");
    let python = Command::new("python3").args(["-W", "ignore", "-c", AUDIOOP]).output().unwrap();
    match String::from_utf8_lossy(&python.stdout).trim().parse::<f64>() {
        Ok(theirs) => {
            println!(
                "| audioop | {theirs:.1} us |\n| share (goal: at most 25 %) | {:.0} % |",
                100.0 * ours / theirs
            );
        }
        // Gone since Python 3.13.
        Err(_) => println!("this Python has no audioop: {}", String::from_utf8_lossy(&python.stderr)),
    }
}

#[tokio::test]
#[ignore = "a measurement: make bench"]
async fn packets_leave_in_time() {
    if !needs_root("packets_leave_in_time") {
        return;
    }
    let lab = Lab::alone();
    let wire = Wire::new();
    let ends = (wire.here, wire.there);
    println!("\n| packets behind their 20 ms grid, both cores busy | median | 99.9 % | most | packets |");
    println!("|---|---|---|---|---|");
    let row = |what: &str, late: &[f64]| {
        let [median, rare, most] = [0.5, 0.999, 1.0].map(|share| quantile(late, share));
        println!("| {what} | {median:.3} ms | {rare:.3} ms | {most:.3} ms | {} |", late.len());
        rare
    };
    for count in [1, 18] {
        let mut beyond = Vec::new();
        for round in 1..=ROUNDS {
            let voipd = echo(&lab, &wire, &format!("grid-{count}-{round}"), USUAL).await;
            let ear = Ear::open(wire.here);
            let time = GRID + Duration::from_secs(4);
            let load = calls_with(&lab, ends, "echo", count, time, &ear.description());
            pause(2.0).await;
            let busy = busy();
            // Both in the same minute: what the machine itself takes is in both figures.
            let sleeper = Sleeper::start(&wire, GRID);
            let (packets, slept) =
                tokio::task::spawn_blocking(move || (ear.listen(GRID), sleeper.packets())).await.unwrap();
            drop(busy);
            let ticks = voipd.audio().await.counters().await.unwrap();
            load.succeeds().await;
            voipd.stop().await;
            let bare = row(&format!("a bare sleeper, beside {count}"), &lateness(&slept));
            let rare = row(&format!("voipd, calls: {count}"), &lateness(&packets));
            println!("voipd's ticks: {ticks:?}");
            beyond.push(rare - bare);
        }
        println!(
            "voipd's 99.9 % less the sleeper's, {count} calls, median of {ROUNDS}: {:+.3} ms of {beyond:.3?} (goal: at \
             most 0.2)",
            quantile(&beyond, 0.5)
        );
    }
}

/// Rising tones of a tenth of a second, one a second and a bit, so that none falls always into the same place of a packet.
fn chirps() -> Sound {
    let mut samples = vec![0.0; RATE as usize];
    for number in 0..CHIRPS {
        let length = RATE as usize / 10;
        samples.extend((0..length).map(|n| {
            let time = n as f64 / f64::from(RATE);
            let phase = 2.0 * std::f64::consts::PI * (400.0 * time + 0.5 * 25_000.0 * time * time);
            let swell = (std::f64::consts::PI * n as f64 / length as f64).sin();
            0.4 * swell * phase.sin()
        }));
        samples.resize(samples.len() + RATE as usize * 9 / 10 + 137 * number, 0.0);
    }
    Sound { rate: RATE, samples }
}

/// Speaks chirps into Alice's microphone and answers how many milliseconds later each came out of Bob's loudspeaker.
async fn delays(lab: &Lab, pulse: &Pulse, name: &str) -> Vec<f64> {
    let said = chirps();
    let (file, record) = (lab.path("chirps.wav"), lab.path(&format!("{name}.wav")));
    said.save(&file);
    let mut recorder = pulse.record("alice-to-bob", &record).await;
    let mut speaking = pulse.speak("alice-mouth", &file);
    speaking.wait(Duration::from_secs(60)).await;
    pause(1.5).await;
    recorder.stop().await;
    let (mouth, ear) = (Sound::channel(&record, 0), Sound::channel(&record, 1));
    let start = compare(&said, &mouth, Codec::Waveform).lag_ms / 1000.0;
    let mut place = start + 1.0;
    let mut delays = Vec::new();
    for number in 0..CHIRPS {
        let spoken = mouth.between(place, place + 0.1);
        let heard = ear.between(place, place + 0.9);
        place += 1.0 + 137.0 * number as f64 / f64::from(RATE);
        let found = compare(&spoken, &heard, Codec::Waveform);
        if found.correlation > 0.8 {
            delays.push(found.lag_ms);
        } else {
            // A machine that is busy with something else tears the sound now and then.
            println!("{name}: chirp {number} came torn: {found}");
        }
    }
    assert!(4 * delays.len() >= 3 * CHIRPS, "{name}: only {} of {CHIRPS} chirps are heard", delays.len());
    delays
}

#[tokio::test]
#[ignore = "a measurement: make bench"]
async fn mouth_to_ear() {
    if !needs_root("mouth_to_ear") {
        return;
    }
    println!("\n| mouth to ear, PCMU, 20 ms | median | least | most |\n|---|---|---|---|");
    let print = |what: &str, delays: &[f64]| {
        let [median, least, most] = [0.5, 0.0, 1.0].map(|share| quantile(delays, share));
        println!("| {what} | {median:.0} ms | {least:.0} ms | {most:.0} ms |");
    };
    let lab = Lab::alone();
    let wire = Wire::new();
    let pulse = Pulse::start(&lab).await;
    {
        let phone = |config: Config, who: &str| {
            config
                .line("log", "level = \"info\"")
                .line("audio", format!("input = \"pulseaudio:{who}-microphone\""))
                .line("audio", format!("output = \"pulseaudio:{who}-loudspeaker\""))
                .line("audio", "echo-cancellation = false")
                .line("direct", "codecs = [\"PCMU\"]")
                .environment("PULSE_SERVER", pulse.server())
        };
        let alice = Voipd::start(&lab, "alice", phone(Config::at(wire.here), "alice")).await;
        let bob = Voipd::start(&lab, "bob", phone(Config::beyond(&wire), "bob")).await;
        let call = alice.dial(&format!("sip:{}", bob.address)).await;
        bob.incoming().await.accept().await;
        call.is("active").await;
        pause(6.0).await;
        print("voipd", &delays(&lab, &pulse, "voipd").await);
        call.hang_up().await;
        alice.stop().await;
        bob.stop().await;
    }
    if has_baresip() {
        // Debian's baresip reaches PulseAudio by way of ALSA's plugin.
        let devices = "</usr/share/alsa/alsa.conf>\n".to_owned()
            + &["alice-microphone", "alice-loudspeaker", "bob-microphone", "bob-loudspeaker"]
                .map(|device| format!("pcm.{device} {{ type pulse device {device} }}\n"))
                .concat();
        let alsa = lab.path("asound.conf");
        std::fs::write(&alsa, devices).unwrap();
        let config = |address, who: &str| {
            format!(
                "sip_listen {address}:5060\nmodule alsa.so\naudio_source alsa,{who}-microphone\n\
                 audio_player alsa,{who}-loudspeaker\n"
            )
        };
        let account = |who: &str, address| {
            format!("<sip:{who}@{address}>;regint=0;answermode=auto;audio_codecs=PCMU/8000/1\n")
        };
        let start = async |mut command: Command, address, who: &str, options: &[&str]| {
            command.env("PULSE_SERVER", pulse.server()).env("ALSA_CONFIG_PATH", &alsa);
            let directory = lab.directory(&format!("baresip-{who}"));
            Baresip::start(command, directory, &config(address, who), &account(who, address), options).await
        };
        let bob = start(wire.program("baresip"), wire.there, "bob", &[]).await;
        let dial = format!("/dial sip:bob@{}", wire.there);
        let alice = start(program("baresip"), wire.here, "alice", &["-e", &dial]).await;
        until("the call is established", Duration::from_secs(10), async || {
            [&alice, &bob].iter().all(|side| side.0.output().contains("established")).then_some(())
        })
        .await;
        pause(6.0).await;
        print("baresip", &delays(&lab, &pulse, "baresip").await);
    }
}
