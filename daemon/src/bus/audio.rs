//! `org.voipd.Audio1`: sound devices and the real-time thread.

use std::collections::BTreeMap;

use zbus::Variant;
use zbus::message::Body;

use super::options::{Options, Received};
use super::outcome::{
    Answer, Dict, Failure, Outcome, Reply, Requests, arguments, invalid, nothing, unknown_method,
};
use crate::api::devices::{DeviceChange, DeviceSettings, MOST_VOLUME};
use crate::api::{AudioLive, AudioView, DeviceRole, DeviceState, DeviceView, Request};
use crate::config::device_name;

pub(super) fn properties(view: &AudioView) -> Dict {
    Dict::from([
        ("Input", view.input.clone().into()),
        ("Output", view.output.clone().into()),
        ("Ringer", view.ringer.clone().into()),
        ("InUse", view.in_use.clone().into()),
        ("InputSettings", settings(&view.settings[0], true).into()),
        ("OutputSettings", settings(&view.settings[1], false).into()),
        ("RingerSettings", settings(&view.settings[2], false).into()),
        ("State", state(view.state).into()),
        ("Reason", view.reason.clone().into()),
        ("Scheduling", view.scheduling.into()),
        ("SchedulingReason", view.scheduling_reason.clone().into()),
        ("Priority", view.priority.into()),
        ("MemoryLocked", view.memory_locked.into()),
    ])
}

/// Figures of the moment, with the counters or without.
fn live(live: &AudioLive, with_counters: bool) -> Dict {
    let mut figures = Dict::from([
        ("Parked", live.parked.into()),
        ("InputLevel", live.input_level_dbov.into()),
        ("OutputLevel", live.output_level_dbov.into()),
    ]);
    if with_counters {
        let counters: BTreeMap<String, u64> =
            live.counters.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect();
        figures.insert("Counters", counters.into());
    }
    figures
}

/// Asks for the figures of the moment.
pub(super) fn ask(
    requests: &Requests,
    with_counters: bool,
    reply: impl FnOnce(Dict) -> Answer + Send + 'static,
) -> Result<Outcome, Failure> {
    requests.ask(|reply| Request::AudioLive { reply }, move |figures| reply(live(&figures, with_counters)))
}

pub(super) fn call(requests: &Requests, member: &str, body: &Body) -> Result<Outcome, Failure> {
    match member {
        "ListDevices" => {
            nothing(member, body)?;
            let devices =
                |devices: Vec<DeviceView>| Ok(Reply::Dicts(devices.into_iter().map(device).collect()));
            requests.ask(|reply| Request::ListDevices { reply }, devices)
        }
        "SelectDevice" => {
            let (role, name): (&str, &str) = arguments(member, "a role and a device's name", body)?;
            let role = role_of(role)?;
            let name = device_name(name).map_err(|wrong| invalid(format!("the device's name {wrong}")))?;
            requests.order(|reply| Request::SelectDevice { role, name, reply })
        }
        "ConfigureDevice" => {
            let (role, given): (&str, Received) = arguments(member, "a role and settings", body)?;
            let (role, mut options) = (role_of(role)?, Options::new(given));
            let change = DeviceChange {
                volume: options.number("volume")?,
                muted: options.flag("muted")?,
                echo_cancellation: options.flag("echo-cancellation")?,
                noise_suppression: options.flag("noise-suppression")?,
                gain_control: options.flag("gain-control")?,
            };
            options.finish()?;
            if change.volume.is_some_and(|volume| volume > MOST_VOLUME) {
                return Err(invalid(format!("the volume is 0 to {MOST_VOLUME} per cent")));
            }
            requests.order(|reply| Request::ConfigureDevice { role, change, reply })
        }
        "StartTest" => {
            let mut options = Options::new(arguments::<Received>(member, "options", body)?);
            let output = options.flag("output")?.unwrap_or(true);
            let input = options.flag("input")?.unwrap_or(true);
            options.finish()?;
            requests.order(|reply| Request::StartTest { output, input, reply })
        }
        "StopTest" => {
            nothing(member, body)?;
            requests.order(|reply| Request::StopTest { reply })
        }
        "Watch" => Ok(Outcome::Watch(arguments(member, "an interval in milliseconds", body)?)),
        "Unwatch" => nothing(member, body).map(|()| Outcome::Unwatch),
        _ => Err(unknown_method(member)),
    }
}

fn device(device: DeviceView) -> Dict {
    Dict::from([
        ("name", device.name.into()),
        ("description", device.description.into()),
        ("host", device.host.into()),
        ("input", device.input.into()),
        ("output", device.output.into()),
        ("default", device.default.into()),
        ("available", device.available.into()),
        ("reason", device.reason.into()),
    ])
}

fn role_of(word: &str) -> Result<DeviceRole, Failure> {
    match word {
        "input" => Ok(DeviceRole::Input),
        "output" => Ok(DeviceRole::Output),
        "ringer" => Ok(DeviceRole::Ringer),
        _ => Err(invalid("the role is 'input', 'output' or 'ringer'")),
    }
}

/// As ConfigureDevice takes them; loudspeakers have no processing.
fn settings(settings: &DeviceSettings, is_microphone: bool) -> BTreeMap<String, Variant<'static>> {
    let mut shown = vec![("volume", settings.volume.into()), ("muted", settings.muted.into())];
    if is_microphone {
        shown.push(("echo-cancellation", settings.echo_cancellation.into()));
        shown.push(("noise-suppression", settings.noise_suppression.into()));
        shown.push(("gain-control", settings.gain_control.into()));
    }
    shown.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

fn state(state: DeviceState) -> &'static str {
    match state {
        DeviceState::Closed => "closed",
        DeviceState::Open => "open",
        DeviceState::Unavailable => "unavailable",
    }
}
