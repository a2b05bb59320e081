//! Meeting points in the virtual network: each shares its address with an agent, as in the daemon.

use std::time::{Duration, Instant};

use voipd_sip::digest::Secret;
use voipd_sip::endpoint::{Event, Identity, IdentityId, Transport};
use voipd_sip::rendezvous::{self, InvitationText, Rendezvous, RendezvousConfig};

use super::home::INSTANCE;
use super::{HostId, Net, Role, subscriber};

/// The wall clock when a test begins.
pub const UNIX: u64 = 1_800_000_000;
/// The domain of the meeting point.
pub const DOMAIN: &str = "meet.example.org";

pub struct Meeting {
    pub point: Rendezvous,
    pub events: Vec<rendezvous::Event>,
    /// What outlives a restart.
    pub kept: Vec<rendezvous::Credential>,
}

/// A friend's telephone, registered at the meeting point.
#[derive(Clone, Copy)]
pub struct Friend {
    pub host: HostId,
    pub id: IdentityId,
}

impl Net {
    /// An agent that is a meeting point too.
    pub fn meeting(&mut self, address: &str) -> HostId {
        let host = self.agent(address);
        let point = Rendezvous::new(config("kept"), [7; 32], self.now, UNIX);
        let Role::Agent { meeting, .. } = &mut self.hosts[host.0].role else { unreachable!() };
        *meeting = Some(Box::new(Meeting { point, events: Vec::new(), kept: Vec::new() }));
        self.name_on(DOMAIN, &[(Transport::Udp, address), (Transport::Tcp, address)]);
        host
    }

    /// A meeting point ends and begins anew with what is kept of its members, and with a key; connections to it break.
    pub fn restart_meeting(&mut self, host: HostId, key: &str) {
        let unix = UNIX + (self.now - self.start).as_secs();
        let mut point = Rendezvous::new(config(key), [8; 32], self.now, unix);
        let Role::Agent { meeting: Some(meeting), .. } = &mut self.hosts[host.0].role else { unreachable!() };
        for credential in &meeting.kept {
            point.add_credential(credential.clone());
        }
        meeting.point = point;
        self.drain_meeting(host);
    }

    /// Acts on a meeting point, then drains it; nothing happens where there is none.
    pub fn with_meeting<R>(
        &mut self,
        host: HostId,
        act: impl FnOnce(&mut Rendezvous, Instant) -> R,
    ) -> Option<R> {
        let now = self.now;
        let Role::Agent { meeting: Some(meeting), .. } = &mut self.hosts[host.0].role else { return None };
        let result = act(&mut meeting.point, now);
        self.drain_meeting(host);
        Some(result)
    }

    /// Takes what a meeting point has told.
    pub fn told(&mut self, host: HostId) -> Vec<rendezvous::Event> {
        let Role::Agent { meeting: Some(meeting), .. } = &mut self.hosts[host.0].role else {
            panic!("{host:?} is no meeting point")
        };
        std::mem::take(&mut meeting.events)
    }

    pub(super) fn drain_meeting(&mut self, host: HostId) -> Option<Instant> {
        loop {
            let Role::Agent { meeting: Some(meeting), .. } = &mut self.hosts[host.0].role else {
                return None;
            };
            match meeting.point.poll_output() {
                rendezvous::Output::Transmit { flow, bytes } if flow.transport == Transport::Udp => {
                    self.transmit(flow.local, flow.remote, bytes);
                }
                rendezvous::Output::Transmit { flow, bytes } => self.write(host, flow, bytes),
                rendezvous::Output::Event(event) => {
                    if let rendezvous::Event::Joined(credential) = &event {
                        meeting.kept.push(credential.clone());
                    }
                    meeting.events.push(event);
                }
                rendezvous::Output::Timeout(at) => return at,
            }
        }
    }

    /// Invites someone.
    pub fn invitation(&mut self, point: HostId, name: &str) -> InvitationText {
        let hour = Duration::from_secs(3600);
        let (invitation, secret) =
            self.with_meeting(point, |point, now| point.invite(now, name, hour)).unwrap().unwrap();
        InvitationText {
            member: name.to_owned(),
            host: DOMAIN.parse().unwrap(),
            port: None,
            server_port: None,
            transport: Transport::Udp,
            secret,
            pin: None,
            expires: invitation.expires,
        }
    }

    /// An identity that an invitation makes; it does not register yet.
    pub fn invited(&mut self, host: HostId, invitation: &InvitationText, salt: &str) -> IdentityId {
        self.with(host, |endpoint, _| endpoint.add_identity(guest(invitation, salt)))
    }

    /// A friend at an address of its own, joined and registered over a transport.
    pub fn friend_by(&mut self, point: HostId, name: &str, address: &str, transport: Transport) -> Friend {
        self.join(point, name, address, transport, None)
    }

    /// A friend whose telephone names itself, as the daemon does: its binding is a flow's (RFC 5626).
    pub fn device_by(&mut self, point: HostId, name: &str, address: &str, transport: Transport) -> Friend {
        self.join(point, name, address, transport, Some(INSTANCE.to_owned()))
    }

    fn join(
        &mut self,
        point: HostId,
        name: &str,
        address: &str,
        transport: Transport,
        instance: Option<String>,
    ) -> Friend {
        let host = self.agent(address);
        let invitation = InvitationText { transport, ..self.invitation(point, name) };
        let identity = Identity { instance, ..guest(&invitation, &format!("at{}", address.len())) };
        let id = self.with(host, |endpoint, _| endpoint.add_identity(identity));
        self.with(host, |endpoint, now| endpoint.register(now, id)).unwrap();
        self.run_ms(200);
        let registered = |event: &Event| {
            matches!(event, Event::Registration { state, .. }
                if matches!(state, voipd_sip::endpoint::RegistrationState::Registered { .. }))
        };
        let events = self.events(host);
        assert!(events.iter().any(registered), "{events:?}");
        Friend { host, id }
    }

    pub fn friend(&mut self, point: HostId, name: &str, address: &str) -> Friend {
        self.friend_by(point, name, address, Transport::Udp)
    }
}

/// What an invitation makes.
fn guest(invitation: &InvitationText, salt: &str) -> Identity {
    let (user, password) = invitation.login(salt);
    let (aor, registrar) = (format!("<{}>", invitation.address()), invitation.registrar().to_string());
    let mut identity = subscriber(&aor, &registrar, &user, password.expose());
    if let Some(credentials) = &mut identity.credentials {
        credentials.allow_md5 = false;
    }
    identity
}

fn config(key: &str) -> RendezvousConfig {
    RendezvousConfig {
        product: "voipd-test".to_owned(),
        host: DOMAIN.parse().unwrap(),
        port: None,
        key: Secret::new(key),
        max_transactions: 200,
    }
}
