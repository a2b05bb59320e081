//! A machine that is not as it should be: files, ports, devices, the bus.

use std::fs::{self, Permissions};
use std::net::UdpSocket;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use voipd_dbus::{AcceptOptions, DialOptions};
use voipd_tests::bus::Bus;
use voipd_tests::process::{Process, program};
use voipd_tests::speech::{Speaker, speech};
use voipd_tests::voipd::{built, reading, writing};
use voipd_tests::{Config, Lab, SOON, Voipd, needs_root, until};

use super::witness::{Witness, with_echo};

/// A daemon that will not come far.
fn voipd(lab: &Lab, config: &str) -> Command {
    let file = lab.path("voipd.toml");
    fs::write(&file, config).unwrap();
    let mut command = program(built("voipd"));
    command.arg("--session").arg("--config").arg(file).arg("--state-directory").arg(lab.path("state"));
    command.env("DBUS_SESSION_BUS_ADDRESS", format!("unix:path={}", lab.path("bus").display()));
    command.env("HOME", lab.root()).env_remove("NOTIFY_SOCKET").env_remove("JOURNAL_STREAM");
    command
}

/// A wrong configuration (sysexits.h): a service manager need not try again.
const EX_CONFIG: i32 = 78;

/// Runs it; it must end by itself with exit code 1 and tell why in its last line, which is returned.
async fn refuses(lab: &Lab, command: Command) -> String {
    ends_with(lab, command, 1).await
}

async fn ends_with(lab: &Lab, command: Command, code: i32) -> String {
    let log = tempfile::NamedTempFile::new_in(lab.root()).unwrap();
    let mut process = Process::start("voipd", command, log.path());
    let status = process.wait(SOON).await;
    let output = process.output();
    assert_eq!(status.code(), Some(code), "{output}");
    assert!(!output.contains("panicked"), "{output}");
    output.lines().last().unwrap_or_default().to_owned()
}

/// A configuration that is well, at an address of its own.
fn sound_config(lab: &Lab) -> String {
    format!("[sip]\nlisten = [\"{}:5060\"]\n[audio]\ninput = \"null\"\noutput = \"null\"\n", lab.address())
}

#[tokio::test]
async fn a_broken_configuration_is_told_with_line_and_remedy() {
    let lab = Lab::shared();
    let file = lab.path("voipd.toml").display().to_string();
    for (config, place, remedy) in [
        ("[sip]\nlisten = [\"0.0.0.0\"]\n", ":2:", "write an address and a port"),
        ("[sip]\n\nlissen = []\n", ":3:1: ", "did you mean 'listen'?"),
        ("[calls]\nmax = \"many\"\n", ":2:7: ", "a whole number without quotes"),
        ("[audio]\nringer = \"jackdaw:7\"\n", ":2:10: ", "`voipctl devices` shows"),
        ("[[account]]\nname = \"a b\"\naddress = \"sip:a@b\"\n", ":2:8: ", "letters"),
        ("[[account]]\nname = \"a\"\n", ":1:", "address"),
        ("[sip\n", ":1:", ""),
        ("\n\u{1}\n", ":2:", ""),
    ] {
        let line = ends_with(&lab, voipd(&lab, config), EX_CONFIG).await;
        let expected = format!("{file}{place}");
        assert!(line.contains(&expected) && line.contains(remedy), "{config:?}: {line}");
        let mut check = voipd(&lab, config);
        check.arg("--check-config");
        assert_eq!(refuses(&lab, check).await, line, "--check-config");
    }
    let mut good = voipd(&lab, &sound_config(&lab));
    let checked = good.arg("--check-config").output().unwrap();
    assert!(checked.status.success(), "{checked:?}");
}

#[tokio::test]
async fn a_configuration_that_cannot_be_read_is_named() {
    let lab = Lab::shared();
    let mut missing = voipd(&lab, "");
    missing.arg("--config").arg("/nonexistent/voipd.toml");
    // The option was given twice: a mistake of the command line.
    assert_eq!(missing.output().unwrap().status.code(), Some(2));
    let with = |path: &Path| {
        let mut command = program(built("voipd"));
        command.arg("--session").arg("--check-config").arg("--config").arg(path);
        command
    };
    let line = refuses(&lab, with(&lab.path("missing.toml"))).await;
    assert!(line.contains("missing.toml") && line.contains("No such file"), "{line}");
    let line = refuses(&lab, with(&lab.directory("directory.toml"))).await;
    assert!(line.contains("directory.toml") && line.contains("not a regular file"), "{line}");
    let latin = lab.path("latin.toml");
    fs::write(&latin, b"[sip]\nuser-agent = \"T\xE9l\"\n").unwrap();
    let line = refuses(&lab, with(&latin)).await;
    assert!(line.contains("latin.toml") && line.contains("UTF-8"), "{line}");
    if needs_root("an unreadable configuration") {
        let secret = lab.path("secret.toml");
        fs::write(&secret, "").unwrap();
        fs::set_permissions(&secret, Permissions::from_mode(0o000)).unwrap();
        fs::set_permissions(lab.root(), Permissions::from_mode(0o755)).unwrap();
        let mut command = Command::new("setpriv");
        // Nobody in particular may not read it.
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--"]).arg(readable_by_all(&lab));
        command.arg("--check-config").arg("--config").arg(&secret);
        let line = refuses(&lab, command).await;
        assert!(line.contains("secret.toml") && line.contains("Permission denied"), "{line}");
    }
}

/// A copy of the daemon that every user can run: the build directory may be closed to them.
fn readable_by_all(lab: &Lab) -> std::path::PathBuf {
    let copy = lab.path("voipd-copy");
    fs::copy(built("voipd"), &copy).unwrap();
    copy
}

#[tokio::test]
async fn a_taken_sip_port_is_named() {
    let lab = Lab::shared();
    let address = lab.address();
    let taken = UdpSocket::bind((address, 5060)).unwrap();
    let _bus = Bus::start(lab.root()).await;
    let config = format!("[sip]\nlisten = [\"{address}:5060\"]\n");
    let line = refuses(&lab, voipd(&lab, &config)).await;
    assert!(line.contains(&format!("cannot listen for SIP on {address}:5060: the port is taken")), "{line}");
    drop(taken);
    let line = refuses(&lab, voipd(&lab, "[sip]\nlisten = [\"192.0.2.1:5060\"]\n")).await;
    assert!(line.contains("192.0.2.1:5060") && line.contains("Check [sip] listen"), "{line}");
    if UdpSocket::bind("[::]:0").is_ok() {
        // Though IPv4 works: voipd would not be reached at an address that somebody counts on.
        let both = format!("[sip]\nlisten = [\"{address}:5060\", \"[2001:db8::1]:5060\"]\n");
        let line = refuses(&lab, voipd(&lab, &both)).await;
        assert!(line.contains("[2001:db8::1]:5060"), "{line}");
    }
}

#[tokio::test]
async fn a_state_that_cannot_be_used_is_named_and_left_alone() {
    let lab = Lab::shared();
    let _bus = Bus::start(lab.root()).await;
    let config = sound_config(&lab);
    let state = lab.directory("state");
    let database = state.join("voipd.sqlite");
    fs::write(&database, "this is no database, but somebody wrote it. ".repeat(100)).unwrap();
    let before = fs::read(&database).unwrap();
    let line = refuses(&lab, voipd(&lab, &config)).await;
    assert!(line.contains("voipd.sqlite is damaged") && line.contains("move it away"), "{line}");
    assert_eq!(fs::read(&database).unwrap(), before);
    fs::remove_dir_all(&state).unwrap();
    // A file where the directory should be.
    fs::write(&state, "").unwrap();
    let line = refuses(&lab, voipd(&lab, &config)).await;
    assert!(line.contains(&state.display().to_string()), "{line}");
    fs::remove_file(&state).unwrap();
    if needs_root("a state directory that cannot be written") {
        fs::create_dir(&state).unwrap();
        fs::set_permissions(&state, Permissions::from_mode(0o555)).unwrap();
        fs::set_permissions(lab.root(), Permissions::from_mode(0o755)).unwrap();
        let mut command = Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--"]).arg(readable_by_all(&lab));
        command.arg("--session").arg("--config").arg(lab.path("voipd.toml"));
        command.arg("--state-directory").arg(&state);
        let line = refuses(&lab, command).await;
        assert!(line.contains(&state.display().to_string()) && line.contains("not permitted"), "{line}");
    }
}

#[tokio::test]
async fn a_second_daemon_is_turned_away_and_the_first_goes_on() {
    let lab = Lab::shared();
    let first = Voipd::start(&lab, "first", with_echo(&lab)).await;
    let mut witness = Witness::call(&first).await;
    // The same bus, another port and state.
    let mut second = voipd(&lab, &sound_config(&lab));
    second.env("DBUS_SESSION_BUS_ADDRESS", first.bus());
    let line = refuses(&lab, second).await;
    assert!(line.contains("another voipd serves the session bus already"), "{line}");
    // The same state, another bus and port.
    let _bus = Bus::start(lab.root()).await;
    let mut third = voipd(&lab, &sound_config(&lab));
    third.env_remove("HOME");
    let mut with_state = program(built("voipd"));
    with_state.arg("--session").arg("--config").arg(lab.path("voipd.toml"));
    with_state.arg("--state-directory").arg(first.directory().join("state"));
    with_state.env("DBUS_SESSION_BUS_ADDRESS", format!("unix:path={}", lab.path("bus").display()));
    let line = refuses(&lab, with_state).await;
    assert!(line.contains("is in use: stop the other voipd"), "{line}");
    witness.goes_on().await;
    first.stop().await;
}

#[tokio::test]
async fn without_a_bus_the_daemon_says_what_to_do() {
    let lab = Lab::shared();
    let line = refuses(&lab, voipd(&lab, &sound_config(&lab))).await;
    assert!(
        line.contains("cannot reach the session bus") && line.contains("DBUS_SESSION_BUS_ADDRESS"),
        "{line}"
    );
}

#[tokio::test]
async fn a_bus_that_goes_away_ends_the_daemon_with_an_error() {
    let lab = Lab::shared();
    let directory = lab.directory("with-bus");
    let bus = Bus::start(&directory).await;
    let mut command = voipd(&lab, &sound_config(&lab));
    command.env("DBUS_SESSION_BUS_ADDRESS", bus.address());
    let mut process = Process::start("voipd", command, &lab.path("log"));
    process.says("serves the session bus").await;
    drop(bus);
    let status = process.wait(SOON).await;
    assert_eq!(status.code(), Some(1), "{}", process.output());
    assert!(process.output().contains("the connection to the bus is lost"), "{}", process.output());
}

#[tokio::test]
async fn a_low_limit_of_open_files_is_raised_as_far_as_it_may_be() {
    let lab = Lab::shared();
    let directory = lab.directory("with-bus");
    let bus = Bus::start(&directory).await;
    let mut daemon = voipd(&lab, &sound_config(&lab));
    daemon.env("DBUS_SESSION_BUS_ADDRESS", bus.address());
    let mut command = program("sh");
    command.args(["-c", "ulimit -S -n 256 && exec \"$0\" \"$@\""]);
    command.arg(daemon.get_program()).args(daemon.get_args());
    for (name, value) in daemon.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    let mut process = Process::start("voipd", command, &lab.path("log"));
    process.says("serves the session bus").await;
    let limits = fs::read_to_string(format!("/proc/{}/limits", process.id())).unwrap();
    let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    let numbers: Vec<u64> = line.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    let [soft, hard] = numbers[..] else { panic!("{line}") };
    assert_eq!(soft, hard.min(65_536), "{line}");
}

#[tokio::test]
async fn a_call_goes_on_without_the_sound_device_that_is_missing() {
    let lab = Lab::shared();
    for (input, output, words) in [
        ("alsa:NoSuchCard", "null", "NoSuchCard"),
        ("null", "pulseaudio:no-such-sink", "PulseAudio"),
        ("file:/nonexistent/voice.wav", "null", "/nonexistent/voice.wav"),
        ("null", "file:/nonexistent/ear.wav", "/nonexistent/ear.wav"),
    ] {
        let config = with_echo(&lab)
            .line("audio", format!("input = \"{input}\""))
            .line("audio", format!("output = \"{output}\""))
            .environment("PULSE_SERVER", format!("unix:{}/no-pulse", lab.root().display()));
        let voipd = Voipd::start(&lab, &input.replace(['/', ':'], "-"), config).await;
        let mut witness = Witness::call(&voipd).await;
        let call = voipd.dial(&format!("sip:echo@{}", voipd.address)).await;
        call.is("active").await;
        let audio = voipd.audio().await;
        let reason = until("the missing device is explained", 2 * SOON, async || {
            Some(audio.reason().await.unwrap()).filter(|reason| !reason.is_empty())
        })
        .await;
        assert!(reason.contains(words), "{input}, {output}: {reason}");
        assert_eq!(audio.state().await.unwrap(), "unavailable");
        assert_eq!(call.state().await, "active");
        let sent = call.figures().await.packets_sent;
        until("silence is sent in its place", SOON, async || {
            (call.figures().await.packets_sent > sent + 3).then_some(())
        })
        .await;
        witness.goes_on().await;
        // Told once, though it is tried again and again.
        let log = voipd.log();
        assert_eq!(log.matches(&reason).count(), 1, "{log}");
        call.hang_up().await;
        until("the device is no longer wanted", SOON, async || {
            (audio.state().await.unwrap() == "closed").then_some(())
        })
        .await;
        voipd.stop().await;
    }
}

#[tokio::test]
async fn a_file_that_is_no_sound_leaves_the_call_alone() {
    let lab = Lab::shared();
    let voipd = Voipd::start(&lab, "voipd", with_echo(&lab)).await;
    let mut witness = Witness::call(&voipd).await;
    let target = format!("sip:echo@{}", voipd.address);
    let text = lab.path("text.wav");
    fs::write(&text, "these are words, not sounds").unwrap();
    let truncated = lab.path("truncated.wav");
    let whole = fs::read(speech(Speaker::Alice, 8000)).unwrap();
    fs::write(&truncated, &whole[..30]).unwrap();
    let empty = lab.path("empty.wav");
    fs::write(&empty, "").unwrap();
    let pipe = lab.path("pipe.wav");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRUSR | nix::sys::stat::Mode::S_IWUSR).unwrap();
    let _writer = fs::File::options().read(true).write(true).open(&pipe).unwrap();
    for (file, words) in [
        (&text, "this is not a WAV file"),
        (&truncated, "cut off in its header"),
        (&empty, "this is not a WAV file"),
        (&pipe, "this is not a regular file"),
    ] {
        let options = DialOptions { play: Some(reading(file)), ..DialOptions::default() };
        match voipd.manager().await.dial(&target, &options).await {
            Err(voipd_dbus::Error::InvalidArgument(sentence)) => {
                assert!(sentence.starts_with("the file to be played cannot be used: "), "{sentence}");
                assert!(sentence.contains(words), "{sentence}");
            }
            other => panic!("{}: {other:?}", file.display()),
        }
    }
    assert_eq!(voipd.manager().await.calls().await.unwrap().len(), 2, "only the call beside it");
    // A call that rings goes on ringing, and can be answered without the file.
    let caller = Voipd::start(&lab, "caller", Config::at(lab.address())).await;
    let out = caller.dial(&format!("sip:{}", voipd.address)).await;
    let incoming = voipd.incoming().await;
    let options = AcceptOptions { play: Some(reading(&text)), ..AcceptOptions::default() };
    let refused = incoming.proxy.accept(&options).await;
    assert!(matches!(refused, Err(voipd_dbus::Error::InvalidArgument(_))), "{refused:?}");
    assert_eq!(incoming.state().await, "incoming");
    incoming.accept().await;
    out.is("active").await;
    caller.stop().await;
    witness.goes_on().await;
    voipd.stop().await;
}

#[tokio::test]
async fn a_recording_that_cannot_be_written_leaves_the_call_alone() {
    let lab = Lab::shared();
    let voipd = Voipd::start(&lab, "voipd", with_echo(&lab)).await;
    let mut witness = Witness::call(&voipd).await;
    let target = format!("sip:echo@{}", voipd.address);
    // Open for reading only; and a device that is no file, and always full.
    let read_only: &Path = &lab.path("read-only.wav");
    fs::write(read_only, "").unwrap();
    for target_file in [read_only, Path::new("/dev/full")] {
        let file = if target_file == read_only { reading(target_file) } else { writing(target_file) };
        let options = DialOptions { record: Some(file), ..DialOptions::default() };
        match voipd.manager().await.dial(&target, &options).await {
            Err(voipd_dbus::Error::InvalidArgument(sentence)) => {
                assert!(sentence.starts_with("the file to be recorded into cannot be used: "), "{sentence}");
            }
            other => panic!("{}: {other:?}", target_file.display()),
        }
    }
    witness.goes_on().await;
    voipd.stop().await;
}
