//! What tasks of the driver bring back.

use std::net::{IpAddr, SocketAddr};

use voipd_agent::view::CallId;
use voipd_agent::{AccountId, MediaNameId};
use voipd_audio::PortId;
use voipd_audio::engine::Clip;
use voipd_audio::tone::Signal;
use voipd_sip::endpoint::{ResolveError, ResolveId};
use voipd_sip::uri::Host;

use super::ice::ServerAnswer;
use crate::api::{DeviceRole, Reply, Request, Update};
use crate::sound::FindError;
use crate::transport::Place;

/// What tasks of the driver bring back.
pub(super) enum Finished {
    /// A relay that a friend offers has been tried.
    RelayChecked {
        member: String,
        address: SocketAddr,
        result: Result<(), String>,
    },
    Resolved {
        id: ResolveId,
        /// Whose certificate is expected, and by which account.
        host: Host,
        account: Option<AccountId>,
        result: Result<Vec<Place>, ResolveError>,
    },
    MediaResolved {
        id: MediaNameId,
        result: Result<Vec<IpAddr>, String>,
    },
    PlayerOpened {
        call: CallId,
        port: PortId,
        device: Result<voipd_audio::engine::DevicePort, String>,
    },
    /// With the port of the stream that is recorded.
    RecorderOpened {
        call: CallId,
        port: PortId,
        recorder: Result<(voipd_audio::engine::ProgramPort, PortId), String>,
    },
    RecordingDone {
        call: CallId,
        port: PortId,
        result: Result<(), String>,
    },
    /// A file that is heard in the place of a tone.
    ToneRead {
        signal: Signal,
        clip: Result<Clip, String>,
    },
    /// A program has left a call, or has never come.
    PortOver {
        port: PortId,
    },
    /// About a port mapping.
    RouterSaid(Vec<u8>),
    RouterSeen {
        id: voipd_nat::mapping::RequestId,
        seen: Result<Option<std::net::Ipv4Addr>, voipd_nat::mapping::Refusal>,
    },
    RouterAnswered {
        id: voipd_nat::mapping::RequestId,
        answer: voipd_nat::mapping::Answer,
    },
    /// The answer to a request, which goes out behind all that has been told until now.
    Answer(Update),
    /// The files that came with a request can be used.
    FilesChecked(Box<Request>),
    /// What was asked about a STUN server or a relay.
    Server(ServerAnswer),
    /// Whether there is a device that was chosen.
    DeviceFound {
        role: DeviceRole,
        name: String,
        found: Result<(), FindError>,
        reply: Reply<()>,
    },
}
