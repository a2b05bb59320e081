//! The ringer where it is the output's device, which can be opened only once: what rings is led to the output.

use voipd_agent::output::{DEVICE_OUTPUT, RINGER};
use voipd_audio::BUS_RATE;
use voipd_audio::engine::{DevicePort, MediaSocket, Pace};

use crate::driver::patchbay::{Patchbay, RING_RETURN};

/// Whether the ringer sounds at the output's device.
#[derive(Default)]
pub(super) struct RingerAtOutput(bool);

impl RingerAtOutput {
    pub(super) fn is_on(&self) -> bool {
        self.0
    }

    /// To be called when the output is open, or being opened.
    pub(super) fn begin<S: MediaSocket>(&mut self, patchbay: &mut Patchbay<S>) {
        if !std::mem::replace(&mut self.0, true) {
            lead_ringer_to_output(patchbay);
        }
    }

    /// To be called before the output is closed.
    pub(super) fn end<S: MediaSocket>(&mut self, patchbay: &mut Patchbay<S>) {
        if std::mem::take(&mut self.0) {
            patchbay.join(DEVICE_OUTPUT, None);
            patchbay.close(RING_RETURN);
            patchbay.close(RINGER);
        }
    }
}

/// What is played at the ringer's port is heard at the output's, too: a ring leads from the one to the other.
fn lead_ringer_to_output<S: MediaSocket>(patchbay: &mut Patchbay<S>) {
    let (playback, capture) = rtrb::RingBuffer::new(BUS_RATE as usize / 10);
    let end = |capture, playback| DevicePort { capture, playback, rate: BUS_RATE, pace: Pace::Tick };
    let opened = patchbay
        .open_device(RINGER, end(None, Some(playback)))
        .and_then(|()| patchbay.open_device(RING_RETURN, end(Some(capture), None)));
    match opened {
        Ok(()) => patchbay.join(DEVICE_OUTPUT, Some(RING_RETURN)),
        Err(error) => log::warn!("ringer: {error}"),
    }
}
