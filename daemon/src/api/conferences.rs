//! What the bus asks of conferences.

use voipd_agent::view::CallId;
use voipd_agent::{ConferenceId, DevicePart};

use super::Reply;

pub enum ConferenceRequest {
    Open { calls: Vec<CallId>, device: DevicePart, reply: Reply<ConferenceId> },
    Join { conference: ConferenceId, call: CallId, reply: Reply<()> },
    Leave { conference: ConferenceId, call: CallId, reply: Reply<()> },
    SetMuted { conference: ConferenceId, call: CallId, muted: bool, reply: Reply<()> },
    SetDevice { conference: ConferenceId, device: DevicePart, reply: Reply<()> },
    End { conference: ConferenceId, reply: Reply<()> },
}
