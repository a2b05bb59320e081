//! What besides the sound device speaks to a call's peer, or listens to the call: players, recorders, programs. It knows
//! their places in the mixer, not what is behind them.

use std::time::Instant;

use voipd_audio::PortId;

use crate::agent::Agent;
use crate::call::{Call, Phase};
use crate::error::AgentError;
use crate::output::Output;
use crate::view::CallId;

/// Most ports that a call has besides its stream.
pub const MOST_CALL_PORTS: usize = 16;

/// What a port of a call does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PortRole {
    /// A file is played to the peer.
    Player(Voice),
    /// A program speaks to the peer, and may listen to the call.
    Program(Voice),
    /// A program listens to the call.
    Listener,
    /// The call is recorded.
    Recorder,
}

/// How a port speaks to the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Voice {
    /// Together with the microphone.
    Beside,
    /// In place of the microphone, as long as the port is there.
    Instead,
}

/// A port of a call besides its stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CallPort {
    pub(crate) port: PortId,
    pub(crate) role: PortRole,
}

impl CallPort {
    fn voice(&self) -> Option<Voice> {
        match self.role {
            PortRole::Player(voice) | PortRole::Program(voice) => Some(voice),
            PortRole::Listener | PortRole::Recorder => None,
        }
    }
}

impl Call {
    /// Whether the microphone is left out.
    pub(crate) fn is_replaced(&self) -> bool {
        self.ports.iter().any(|port| port.voice() == Some(Voice::Instead))
    }

    /// What speaks to the peer besides the microphone, from the answer on.
    pub(crate) fn voices(&self) -> impl Iterator<Item = PortId> {
        let answered = self.phase == Phase::Active;
        self.ports.iter().filter(move |port| answered && port.voice().is_some()).map(|port| port.port)
    }

    pub(crate) fn plays(&self) -> bool {
        self.ports.iter().any(|port| matches!(port.role, PortRole::Player(_)))
    }

    pub(crate) fn has_programs(&self) -> bool {
        self.ports.iter().any(|port| matches!(port.role, PortRole::Program(_) | PortRole::Listener))
    }

    pub(crate) fn records(&self) -> bool {
        self.ports.iter().any(|port| port.role == PortRole::Recorder)
    }
}

impl Agent {
    /// Gives a call a port more. [`Output::OpenPort`] says when sound flows: now, or when the call is answered.
    ///
    /// # Errors
    /// There is no such call, it has ended, or it has [`MOST_CALL_PORTS`].
    pub fn open_port(&mut self, now: Instant, id: CallId, role: PortRole) -> Result<PortId, AgentError> {
        let what = match role {
            PortRole::Player(_) => "playing",
            PortRole::Recorder => "recording",
            PortRole::Program(_) | PortRole::Listener => "joining a program",
        };
        self.in_phase(id, what, |phase| !matches!(phase, Phase::Ended { .. }))?;
        let port = self.new_port();
        let call = self.calls.get_mut(&id).ok_or(AgentError::NoSuchCall(id.0))?;
        if call.ports.len() >= MOST_CALL_PORTS {
            return Err(AgentError::TooManyPorts(MOST_CALL_PORTS));
        }
        call.ports.push(CallPort { port, role });
        if call.phase == Phase::Active {
            self.outputs.push_back(Output::OpenPort { call: id, port, stream: call.stream_port });
        }
        self.touched.insert(id);
        self.settle(now);
        Ok(port)
    }

    /// Takes a port away; [`Output::ClosePort`] follows. Nothing happens when it is gone.
    pub fn close_port(&mut self, now: Instant, id: CallId, port: PortId) {
        let Some(call) = self.calls.get_mut(&id) else { return };
        let before = call.ports.len();
        call.ports.retain(|one| one.port != port);
        if call.ports.len() == before {
            return;
        }
        self.touched.insert(id);
        self.settle(now);
        self.outputs.push_back(Output::ClosePort { port });
    }

    /// The call is answered: sound flows at its ports.
    pub(crate) fn open_ports(&mut self, id: CallId) {
        let Some(call) = self.calls.get(&id) else { return };
        let stream = call.stream_port;
        let opened = call.ports.iter().map(|port| Output::OpenPort { call: id, port: port.port, stream });
        self.outputs.extend(opened);
    }
}
