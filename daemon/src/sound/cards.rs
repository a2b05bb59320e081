//! The kernel's sound cards as `/proc/asound` tells of them, without opening any: names, directions, and who holds
//! one.

use std::fs;
use std::path::{Path, PathBuf};

/// A PCM device of a sound card.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct CardPcm {
    /// Number of the card: changes with the order in which cards are found.
    pub(super) card: u32,
    /// Id of the card (`PCH`): stays, and can be set by a udev rule.
    pub(super) card_id: String,
    pub(super) device: u32,
    pub(super) description: String,
    pub(super) capture: bool,
    pub(super) playback: bool,
}

impl CardPcm {
    /// What stands behind `alsa:` in its name.
    pub(super) fn stable_name(&self) -> String {
        format!("{},{}", self.card_id, self.device)
    }
}

/// `/proc`, or what a test puts in its place.
pub(super) struct Cards {
    proc: PathBuf,
}

impl Cards {
    pub(super) fn of_system() -> Self {
        Self { proc: PathBuf::from("/proc") }
    }

    /// All PCM devices, in the kernel's order; none where the kernel has no sound.
    pub(super) fn pcms(&self) -> Vec<CardPcm> {
        let names = fs::read_to_string(self.proc.join("asound/cards")).unwrap_or_default();
        let cards = card_names(&names);
        let text = fs::read_to_string(self.proc.join("asound/pcm")).unwrap_or_default();
        text.lines()
            .filter_map(pcm_line)
            .map(|mut pcm| {
                let known = cards.iter().find(|(number, ..)| *number == pcm.card);
                pcm.card_id = known.map_or_else(|| pcm.card.to_string(), |(_, id, _)| id.clone());
                if let Some((.., name)) = known {
                    pcm.description = format!("{name}, {}", pcm.description);
                }
                pcm
            })
            .collect()
    }

    /// The name and process id of whoever has opened a direction of the device, by the kernel's own account.
    pub(super) fn holder(&self, card: u32, device: u32, capture: bool) -> Option<(String, u32)> {
        let pcm = format!("asound/card{card}/pcm{device}{}", if capture { 'c' } else { 'p' });
        let subdevices = fs::read_dir(self.proc.join(pcm)).ok()?;
        let mut owners = subdevices.flatten().filter_map(|entry| owner(&entry.path().join("status")));
        let pid = owners.next()?;
        let comm = fs::read_to_string(self.proc.join(format!("{pid}/comm"))).unwrap_or_default();
        Some((comm.trim().to_owned(), pid))
    }
}

/// `owner_pid   : 1234` of a substream's status; absent while it is closed.
fn owner(status: &Path) -> Option<u32> {
    let text = fs::read_to_string(status).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("owner_pid"))?;
    line.trim_start_matches([' ', '\t', ':']).trim().parse().ok()
}

/// (number, id, name) from lines such as ` 0 [PCH            ]: HDA-Intel - HDA Intel PCH`.
fn card_names(text: &str) -> Vec<(u32, String, String)> {
    let card = |line: &str| {
        let (number, rest) = line.split_once('[')?;
        let (id, rest) = rest.split_once(']')?;
        let name = rest.split_once(" - ").map_or(rest.trim_start_matches(':'), |(_, name)| name);
        Some((number.trim().parse().ok()?, id.trim().to_owned(), name.trim().to_owned()))
    };
    text.lines().filter_map(card).collect()
}

/// A line such as `00-00: ALC257 Analog : ALC257 Analog : playback 1 : capture 1`; the card's id is filled in later.
fn pcm_line(line: &str) -> Option<CardPcm> {
    let mut fields = line.split(": ");
    let (card, device) = fields.next()?.trim().split_once('-')?;
    let _id = fields.next()?;
    let description = fields.next()?.trim().to_owned();
    let mut pcm = CardPcm {
        card: card.parse().ok()?,
        card_id: String::new(),
        device: device.parse().ok()?,
        description,
        capture: false,
        playback: false,
    };
    for field in fields {
        pcm.capture |= field.starts_with("capture");
        pcm.playback |= field.starts_with("playback");
    }
    Some(pcm)
}

/// Why a device that someone holds cannot be opened, and what to do.
pub(super) fn held_by(holder: Option<(String, u32)>) -> String {
    match holder {
        Some((name, _)) if matches!(name.as_str(), "pipewire" | "wireplumber") => {
            "busy: PipeWire holds it; run the session service".to_owned()
        }
        Some((name, _)) if name == "pulseaudio" => {
            "busy: PulseAudio holds it; run the session service".to_owned()
        }
        Some((_, pid)) if pid == std::process::id() => {
            "busy: voipd itself uses it for something else".to_owned()
        }
        Some((name, pid)) if name.is_empty() => format!("busy: process {pid} holds it"),
        Some((name, pid)) => format!("busy: {name} (process {pid}) holds it"),
        None => "busy: another program holds it".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CARDS: &str = " 0 [PCH            ]: HDA-Intel - HDA Intel PCH
                      HDA Intel PCH at 0xf7410000 irq 45
 2 [Headset        ]: USB-Audio - USB Headset
                      Vendor USB Headset at usb-0000:00:14.0-2, full speed
";
    const PCM: &str = "00-00: ALC257 Analog : ALC257 Analog : playback 1 : capture 1
00-03: HDMI 0 : HDMI 0 : playback 1
02-00: USB Audio : USB Audio : capture 1
";

    fn machine() -> (tempfile::TempDir, Cards) {
        let root = tempfile::tempdir().unwrap();
        let asound = root.path().join("asound");
        fs::create_dir_all(asound.join("card0/pcm0p/sub0")).unwrap();
        fs::write(asound.join("cards"), CARDS).unwrap();
        fs::write(asound.join("pcm"), PCM).unwrap();
        let cards = Cards { proc: root.path().to_owned() };
        (root, cards)
    }

    #[test]
    fn devices_have_the_id_of_their_card_and_its_name() {
        let (_root, cards) = machine();
        let found: Vec<_> = cards
            .pcms()
            .into_iter()
            .map(|p| (p.stable_name(), p.description, p.capture, p.playback))
            .collect();
        assert_eq!(
            found,
            [
                ("PCH,0".to_owned(), "HDA Intel PCH, ALC257 Analog".to_owned(), true, true),
                ("PCH,3".to_owned(), "HDA Intel PCH, HDMI 0".to_owned(), false, true),
                ("Headset,0".to_owned(), "USB Headset, USB Audio".to_owned(), true, false),
            ]
        );
    }

    #[test]
    fn the_holder_of_a_busy_device_is_named() {
        let (root, cards) = machine();
        let status = root.path().join("asound/card0/pcm0p/sub0/status");
        fs::write(&status, "closed\n").unwrap();
        assert_eq!(cards.holder(0, 0, false), None);

        fs::create_dir(root.path().join("4321")).unwrap();
        fs::write(root.path().join("4321/comm"), "pipewire\n").unwrap();
        fs::write(&status, "state: RUNNING\nowner_pid   : 4321\ntrigger_time: 12.3\n").unwrap();
        assert_eq!(cards.holder(0, 0, false), Some(("pipewire".to_owned(), 4321)));
        assert_eq!(cards.holder(0, 0, true), None);
        assert_eq!(held_by(cards.holder(0, 0, false)), "busy: PipeWire holds it; run the session service");
        assert_eq!(held_by(Some(("baresip".to_owned(), 7))), "busy: baresip (process 7) holds it");
    }

    #[test]
    fn a_kernel_without_sound_and_garbage_have_no_devices() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(Cards { proc: root.path().to_owned() }.pcms(), []);
        for line in ["", "00", "00-xx: a : b : playback 1", "--- no soundcards ---", "1-1"] {
            assert_eq!(pcm_line(line), None, "{line}");
        }
    }
}
