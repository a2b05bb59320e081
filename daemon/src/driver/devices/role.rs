//! The roles that a device can have: their order in a [`Devices`](super::Devices), their ports and their names.

use voipd_agent::output::{DEVICE_INPUT, DEVICE_OUTPUT, RINGER};
use voipd_audio::PortId;

use crate::api::DeviceRole;

pub(super) const ROLES: [DeviceRole; 3] = [DeviceRole::Input, DeviceRole::Output, DeviceRole::Ringer];

pub(super) fn index(role: DeviceRole) -> usize {
    match role {
        DeviceRole::Input => 0,
        DeviceRole::Output => 1,
        DeviceRole::Ringer => 2,
    }
}

pub(super) fn port_of(role: DeviceRole) -> PortId {
    match role {
        DeviceRole::Input => DEVICE_INPUT,
        DeviceRole::Output => DEVICE_OUTPUT,
        DeviceRole::Ringer => RINGER,
    }
}

/// As on D-Bus.
pub fn role_name(role: DeviceRole) -> &'static str {
    match role {
        DeviceRole::Input => "input",
        DeviceRole::Output => "output",
        DeviceRole::Ringer => "ringer",
    }
}
