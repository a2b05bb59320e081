//! `voipctl devices`: sound devices, `org.voipd.Audio1`.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;
use voipd_dbus::{DeviceSettings, Dict, TestOptions, names};

use crate::cli::{DevicesCommand, Role, Stage, Switch, TestArgs};
use crate::daemon::Daemon;
use crate::events::{Event, Events};
use crate::exit::Failure;
use crate::objects::Object;
use crate::output::{Output, dict_to_json};
use crate::text::{level, table};

/// Quieter than this, a microphone hears its own noise at most.
const HEARD_DBOV: f64 = -55.0;

pub(crate) async fn run(
    daemon: &Daemon,
    out: Output,
    command: Option<DevicesCommand>,
) -> Result<(), Failure> {
    match command.unwrap_or(DevicesCommand::List) {
        DevicesCommand::List => list(daemon, out).await,
        DevicesCommand::Select { role, name } => {
            Ok(daemon.audio().await?.select_device(role.word(), &name).await?)
        }
        DevicesCommand::Volume { role, volume: None } => {
            let settings = settings(daemon, role).await?;
            let volume = settings.number("volume");
            if out.json {
                out.document(&json!({ "volume": volume }))
            } else {
                out.line(&format!("{volume} %"))
            }
        }
        DevicesCommand::Volume { role, volume } => {
            configure(daemon, role, DeviceSettings { volume, ..DeviceSettings::default() }).await
        }
        DevicesCommand::Mute { role, switch } => {
            let muted = Some(is_on(switch));
            configure(daemon, role, DeviceSettings { muted, ..DeviceSettings::default() }).await
        }
        DevicesCommand::Processing { stage, switch } => processing(daemon, out, stage.zip(switch)).await,
        DevicesCommand::Test(args) => test(daemon, out, args).await,
    }
}

fn is_on(switch: Switch) -> bool {
    matches!(switch, Switch::On)
}

async fn configure(daemon: &Daemon, role: Role, settings: DeviceSettings) -> Result<(), Failure> {
    Ok(daemon.audio().await?.configure_device(role.word(), &settings).await?)
}

/// What is set of the device of a role.
async fn settings(daemon: &Daemon, role: Role) -> Result<Object, Failure> {
    let audio = daemon.audio().await?;
    let properties = match role {
        Role::Input => audio.input_settings().await?,
        Role::Output => audio.output_settings().await?,
        Role::Ringer => audio.ringer_settings().await?,
    };
    Ok(Object { path: String::new(), properties })
}

/// What is done to the microphone's sound: the word for the command line, and the name on the bus.
const STAGES: [(&str, &str); 3] =
    [("echo", "echo-cancellation"), ("noise", "noise-suppression"), ("gain", "gain-control")];

async fn processing(daemon: &Daemon, out: Output, change: Option<(Stage, Switch)>) -> Result<(), Failure> {
    if let Some((stage, switch)) = change {
        let on = Some(is_on(switch));
        let change = match stage {
            Stage::Echo => DeviceSettings { echo_cancellation: on, ..DeviceSettings::default() },
            Stage::Noise => DeviceSettings { noise_suppression: on, ..DeviceSettings::default() },
            Stage::Gain => DeviceSettings { gain_control: on, ..DeviceSettings::default() },
        };
        return configure(daemon, Role::Input, change).await;
    }
    let settings = settings(daemon, Role::Input).await?;
    if out.json {
        return out.document(&Value::from(dict_to_json(&settings.properties)));
    }
    for (word, key) in STAGES {
        out.line(&format!("{word:<6} {:<4} {key}", if settings.flag(key) { "on" } else { "off" }))?;
    }
    Ok(())
}

async fn list(daemon: &Daemon, out: Output) -> Result<(), Failure> {
    let proxy = daemon.audio().await?;
    let devices = proxy.list_devices().await?;
    let in_use = proxy.in_use().await?;
    let audio =
        Object { path: String::new(), properties: daemon.properties(names::AUDIO_PATH, names::AUDIO).await? };
    if out.json {
        return out.document(&json!({
            "input": audio.text("Input"),
            "output": audio.text("Output"),
            "ringer": audio.text("Ringer"),
            "in_use": in_use,
            "devices": devices.iter().map(|d| Value::from(dict_to_json(d))).collect::<Vec<_>>(),
        }));
    }
    for role in [Role::Input, Role::Output, Role::Ringer] {
        let key = match role {
            Role::Input => "Input",
            Role::Output => "Output",
            Role::Ringer => "Ringer",
        };
        let settings = settings(daemon, role).await?;
        let loud = match settings.flag("muted") {
            true => "muted".to_owned(),
            false => format!("{} %", settings.number("volume")),
        };
        let chosen = audio.text(key);
        // What default means now, or what stands in for the chosen device.
        let in_use = match in_use.get(role.word()) {
            Some(name) if name != chosen => format!(" (now {name})"),
            _ => String::new(),
        };
        out.line(&format!("{:<7} {loud:>5}  {chosen}{in_use}", role.word()))?;
    }
    out.line("")?;
    out.lines(&devices_table(devices))
}

fn devices_table(devices: Vec<Dict>) -> Vec<String> {
    let row = |properties: Dict| {
        let device = Object { path: String::new(), properties };
        let mut can: Vec<_> = ["input", "output"].into_iter().filter(|key| device.flag(key)).collect();
        if device.flag("default") {
            can.push("default");
        }
        let state = match device.flag("available") {
            true => String::new(),
            false if device.text("reason").is_empty() => "not available".to_owned(),
            false => device.text("reason").to_owned(),
        };
        vec![
            device.text("name").to_owned(),
            device.text("host").to_owned(),
            can.join(", "),
            device.text("description").to_owned(),
            state,
        ]
    };
    table(&["DEVICE", "HOST", "CAN", "DESCRIPTION", ""], &devices.into_iter().map(row).collect::<Vec<_>>())
}

/// The loudest that was measured, and how often.
#[derive(Debug, Default, PartialEq)]
struct Peaks {
    measured: u32,
    input: Option<f64>,
    output: Option<f64>,
}

impl Peaks {
    fn add(&mut self, levels: &Dict) -> (f64, f64) {
        let value = |key: &str| levels.get(key).and_then(|v| f64::try_from(v).ok()).unwrap_or(-127.0);
        let (input, output) = (value("InputLevel"), value("OutputLevel"));
        let loudest = |peak: Option<f64>, new: f64| Some(peak.map_or(new, |peak| peak.max(new)));
        self.measured += 1;
        self.input = loudest(self.input, input);
        self.output = loudest(self.output, output);
        (input, output)
    }

    fn heard(&self) -> bool {
        self.input.is_some_and(|peak| peak > HEARD_DBOV)
    }

    /// What the test showed, for people.
    fn verdict(&self, microphone: bool) -> String {
        match self.input {
            None => "voipd sent no levels.".to_owned(),
            Some(_) if !microphone => "The tone was played; the microphone was left closed.".to_owned(),
            Some(peak) if self.heard() => format!("The microphone works: its loudest was {peak:.0} dB."),
            Some(peak) if peak > -120.0 => format!(
                "The microphone is very quiet: its loudest was {peak:.0} dB. Speak during the test, and look at its volume."
            ),
            Some(_) => "Nothing was heard from the microphone: it may be muted, or be another device. \
                        'voipctl devices' lists them."
                .to_owned(),
        }
    }
}

async fn test(daemon: &Daemon, out: Output, args: TestArgs) -> Result<(), Failure> {
    let audio = daemon.audio().await?;
    let mut events = daemon.events().await?;
    let terminal = out.is_terminal();
    let options = TestOptions { output: Some(!args.no_tone), input: Some(!args.no_microphone) };
    audio.start_test(&options).await?;
    // Whatever happens now, the tone is not left on.
    let peaks = async {
        audio.watch(if terminal { 100 } else { 500 }).await?;
        if !out.json && !args.no_microphone {
            out.line("Speak into the microphone.")?;
        }
        show_levels(&mut events, out, Duration::from_secs(args.seconds)).await
    };
    let peaks = tokio::select! {
        peaks = peaks => peaks,
        _ = tokio::signal::ctrl_c() => Ok(None),
    };
    let _ = audio.unwatch().await;
    let stopped = audio.stop_test().await;
    if terminal {
        out.redraw("")?;
    }
    let Some(peaks) = peaks? else { return Err(Failure::failed("the test was interrupted.")) };
    stopped?;
    match out.json {
        true => out.document(&json!({
            "heard": peaks.heard(),
            "input_peak_dbov": peaks.input,
            "output_peak_dbov": peaks.output,
            "measurements": peaks.measured,
        })),
        false => out.line(&peaks.verdict(!args.no_microphone)),
    }
}

async fn show_levels(events: &mut Events, out: Output, time: Duration) -> Result<Option<Peaks>, Failure> {
    let end = Instant::now() + time;
    let mut peaks = Peaks::default();
    loop {
        let event = tokio::select! {
            event = events.next() => event,
            () = tokio::time::sleep_until(end) => return Ok(Some(peaks)),
        };
        match event {
            Event::Gone => return Err(Failure::gone()),
            Event::Levels(levels) => {
                let (input, output) = peaks.add(&levels);
                let line = format!("microphone {}  loudspeaker {}", level(input), level(output));
                match (out.json, out.is_terminal()) {
                    (true, _) => {}
                    (false, true) => out.redraw(&line)?,
                    (false, false) => out.line(&line)?,
                }
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use zbus::Variant;

    fn dict(pairs: &[(&str, Variant<'static>)]) -> Dict {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), v.try_clone().unwrap().try_into().unwrap())).collect()
    }

    #[test]
    fn the_verdict_follows_the_loudest_level() {
        let mut peaks = Peaks::default();
        assert_eq!(peaks.verdict(true), "voipd sent no levels.");
        peaks.add(&dict(&[("InputLevel", (-127.0).into()), ("OutputLevel", (-20.0).into())]));
        assert!(!peaks.heard() && peaks.verdict(true).starts_with("Nothing was heard"), "{peaks:?}");
        peaks.add(&dict(&[("InputLevel", (-70.0).into())]));
        assert!(!peaks.heard() && peaks.verdict(true).contains("very quiet"), "{peaks:?}");
        peaks.add(&dict(&[("InputLevel", (-23.4).into())]));
        peaks.add(&dict(&[("InputLevel", (-90.0).into())]));
        assert_eq!(peaks.verdict(true), "The microphone works: its loudest was -23 dB.");
        assert_eq!(peaks, Peaks { measured: 4, input: Some(-23.4), output: Some(-20.0) });
    }

    #[test]
    fn a_missing_device_shows_its_reason() {
        let lines = devices_table(vec![
            dict(&[
                ("name", "null".into()),
                ("output", true.into()),
                ("input", true.into()),
                ("available", true.into()),
            ]),
            dict(&[("name", "alsa:usb".into()), ("reason", "unplugged".into())]),
        ]);
        assert!(lines[1].starts_with("null") && lines[1].contains("input, output"), "{lines:?}");
        assert!(lines[2].starts_with("alsa:usb") && lines[2].ends_with("unplugged"), "{lines:?}");
    }
}
