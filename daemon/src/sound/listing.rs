//! The list of sound devices that people choose from.

use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use super::cards::{Cards, held_by};
use super::hardware::{Direction, Hosts, Listed, User, may_open};
use super::name::{DeviceName, HostKind};
use super::server::{Servers, default_host};
use super::worker::at_work;
use crate::api::DeviceView;

/// How long a sound system may take to say what it has.
const PATIENCE: Duration = Duration::from_secs(3);
/// So many threads that hang in asking one sound system, and it is not asked any more.
const MOST_HANGING: usize = 3;

/// Each thread that asks a sound system for its devices holds one of that system's.
pub(super) type Askers = [Arc<()>; 3];

/// Everything that can be chosen. Blocks for up to [`PATIENCE`].
pub(super) fn list(hosts: &Arc<Hosts>, askers: &Askers) -> Vec<DeviceView> {
    let kinds = [HostKind::PulseAudio, HostKind::PipeWire, HostKind::Alsa];
    let deadline = Instant::now() + PATIENCE;
    // Asked at the same time, each on a thread that may hang.
    let answers: Vec<_> =
        kinds.into_iter().zip(askers).map(|(kind, asker)| ask(hosts, kind, asker)).collect();
    let mut views = Vec::new();
    let mut running = Vec::new();
    for (kind, answer) in kinds.into_iter().zip(answers) {
        let answer = answer.recv_timeout(deadline.saturating_duration_since(Instant::now()));
        if !matches!(answer, Ok(Answer::NotThere)) {
            running.push(kind);
        }
        let listed = match answer {
            Ok(Answer::Devices(listed)) => listed,
            Ok(Answer::NotThere) => continue,
            Ok(Answer::Silent(reason)) => {
                views.push(unavailable(kind, reason));
                continue;
            }
            Err(_) => {
                hosts.forget_connection(User::Listing);
                views.push(unavailable(kind, format!("{kind} does not answer")));
                continue;
            }
        };
        let mut of_kind = if kind == HostKind::Alsa { cards(&Cards::of_system()) } else { Vec::new() };
        merge(&mut of_kind, kind, listed);
        views.append(&mut of_kind);
    }
    let chosen = default_host(&Cards::of_system(), |kind| running.contains(&kind));
    // What `default` means is marked on the host that it comes from alone.
    for view in &mut views {
        view.default &= chosen.is_some_and(|kind| view.host == kind.prefix());
    }
    let mut all = vec![default_view(&views, chosen)];
    all.append(&mut views);
    all.push(DeviceView {
        name: DeviceName::Null.to_string(),
        description: "silence".to_owned(),
        host: "null".to_owned(),
        input: true,
        output: true,
        default: chosen.is_none(),
        available: true,
        reason: String::new(),
    });
    all
}

enum Answer {
    Devices(Vec<Listed>),
    /// It does not run here, which is nothing to tell of.
    NotThere,
    /// It runs, and does not let us in.
    Silent(String),
}

fn ask(hosts: &Arc<Hosts>, kind: HostKind, asker: &Arc<()>) -> mpsc::Receiver<Answer> {
    let (reply, answer) = mpsc::channel();
    // Without a thread the channel closes, which counts as no answer.
    if at_work(asker) >= MOST_HANGING {
        return answer;
    }
    let (hosts, asker) = (hosts.clone(), asker.clone());
    let _ = thread::Builder::new().name("voipd-list".to_owned()).spawn(move || {
        let servers = Servers::of_environment();
        let answer = match servers.reach(kind) {
            Err(_) => Answer::NotThere,
            Ok(()) => servers
                .prepare(kind)
                .and_then(|()| hosts.list(kind))
                .map_or_else(Answer::Silent, Answer::Devices),
        };
        // Before the answer: a next listing must not count this thread.
        drop(asker);
        // Who asked may have given up.
        let _ = reply.send(answer);
    });
    answer
}

fn unavailable(kind: HostKind, reason: String) -> DeviceView {
    DeviceView {
        name: format!("{}:default", kind.prefix()),
        description: format!("what {kind} calls its default"),
        host: kind.prefix().to_owned(),
        input: true,
        output: true,
        default: false,
        available: false,
        reason,
    }
}

/// The kernel's cards: the first is what ALSA takes by default.
fn cards(cards: &Cards) -> Vec<DeviceView> {
    let view = |(index, pcm): (usize, super::cards::CardPcm)| {
        let held = |capture| cards.holder(pcm.card, pcm.device, capture);
        let in_use =
            (pcm.capture.then(|| held(true)).flatten()).or(pcm.playback.then(|| held(false)).flatten());
        let reason = match may_open(pcm.card) {
            Err(reason) => reason,
            // A card that is used by voipd itself is available to it.
            Ok(()) => match in_use.filter(|(_, pid)| *pid != std::process::id()) {
                Some(holder) => held_by(Some(holder)),
                None => String::new(),
            },
        };
        DeviceView {
            name: DeviceName::Host(HostKind::Alsa, pcm.stable_name()).to_string(),
            description: pcm.description,
            host: HostKind::Alsa.prefix().to_owned(),
            input: pcm.capture,
            output: pcm.playback,
            default: index == 0,
            available: reason.is_empty(),
            reason,
        }
    };
    cards.pcms().into_iter().enumerate().map(view).collect()
}

/// Joins the two directions of a name to one device.
fn merge(views: &mut Vec<DeviceView>, kind: HostKind, listed: Vec<Listed>) {
    for device in listed {
        let name = DeviceName::Host(kind, device.name).to_string();
        let (input, output) =
            (device.direction == Direction::Capture, device.direction == Direction::Playback);
        match views.iter_mut().find(|view| view.name == name) {
            Some(view) => {
                view.input |= input;
                view.output |= output;
                view.default |= device.default;
            }
            None => views.push(DeviceView {
                name,
                description: device.description,
                host: kind.prefix().to_owned(),
                input,
                output,
                default: device.default,
                available: true,
                reason: String::new(),
            }),
        }
    }
}

/// The entry `default`, with what it stands for now.
fn default_view(views: &[DeviceView], chosen: Option<HostKind>) -> DeviceView {
    let mut meant: Vec<_> =
        views.iter().filter(|view| view.default).map(|view| view.description.as_str()).collect();
    meant.dedup();
    let description = match chosen {
        Some(kind) if meant.is_empty() => format!("what {kind} chooses"),
        Some(kind) => format!("{kind}: {}", meant.join(", ")),
        None => "silence: no sound server and no sound card was found".to_owned(),
    };
    DeviceView {
        name: DeviceName::Default.to_string(),
        description,
        host: chosen.map_or("null", HostKind::prefix).to_owned(),
        input: true,
        output: true,
        default: false,
        available: true,
        reason: String::new(),
    }
}
