//! Everything that the daemon tells, as one ordered flow.

use std::collections::HashMap;
use std::num::NonZeroUsize;

use futures_util::StreamExt;
use voipd_dbus::{CallState, Dict, names};
use zbus::names::OwnedUniqueName;
use zbus::{Connection, MatchRule, Message, MessageStream, OwnedObjectPath, fdo, message};

use crate::exit::Failure;

/// Messages that may wait while a command awaits an answer. A full queue would keep that answer from being read.
const QUEUE: NonZeroUsize = NonZeroUsize::new(65_536).expect("not zero");

/// What the daemon tells.
#[derive(Debug)]
pub(crate) enum Event {
    /// An object came, with its interfaces and their properties.
    Added { path: String, interfaces: HashMap<String, Dict> },
    /// An object went.
    Removed { path: String },
    /// Properties of an object have new values.
    Changed { path: String, interface: String, properties: Dict },
    /// A call or an account went from one state to another.
    StateChanged {
        path: String,
        interface: String,
        old: String,
        new: String,
        reason: String,
        sip_status: u16,
    },
    /// The peer of a call sent a digit.
    Digit { path: String, digit: String, duration_ms: u32 },
    /// A direction of a call has begun to sound bad, or is good again.
    Quality { path: String, direction: String, quality: String, mos: f64, cause: String },
    /// Somebody in a call that is listened to has begun to talk, or has stopped.
    Activity { path: String, direction: String, talking: bool },
    /// Nobody has talked there for so long.
    Silence { path: String, direction: String, seconds: u32 },
    /// Figures of a call that is watched.
    Statistics { path: String, figures: Dict },
    /// Levels of the sound devices, when they are watched.
    Levels(Dict),
    /// The daemon left the bus. Nothing follows.
    Gone,
}

impl Event {
    /// Whether it tells that a call has ended; a failure where the daemon is gone.
    pub(crate) fn ends(&self, call: &str) -> Result<bool, Failure> {
        match self {
            Self::Gone => Err(Failure::gone()),
            Self::Removed { path } => Ok(path == call),
            Self::StateChanged { path, new, .. } => {
                Ok(path == call && CallState::from_word(new) == Some(CallState::Ended))
            }
            _ => Ok(false),
        }
    }
}

/// The flow of events.
pub(crate) struct Events {
    stream: MessageStream,
    owner: OwnedUniqueName,
}

impl Events {
    pub(crate) async fn subscribe(connection: &Connection, owner: &OwnedUniqueName) -> zbus::Result<Self> {
        // One stream of all messages keeps their order: the last words of a daemon come before it goes.
        let mut stream = MessageStream::from(connection);
        stream.set_max_queued(QUEUE);
        let bus = fdo::DBusProxy::new(connection).await?;
        let from_daemon = MatchRule::builder()
            .msg_type(message::Type::Signal)
            .sender(owner.inner())
            .path_namespace(names::ROOT_PATH)
            .build()?;
        bus.add_match_rule(from_daemon).await?;
        let gone = MatchRule::builder()
            .msg_type(message::Type::Signal)
            .sender("org.freedesktop.DBus")
            .member("NameOwnerChanged")
            .add_arg(owner.as_str())
            .build()?;
        bus.add_match_rule(gone).await?;
        Ok(Self { stream, owner: owner.clone() })
    }

    /// The next event. Can be cancelled without losing one.
    pub(crate) async fn next(&mut self) -> Event {
        loop {
            match self.stream.next().await {
                None | Some(Err(_)) => return Event::Gone,
                Some(Ok(message)) => {
                    if let Some(event) = read(&message, self.owner.as_str()) {
                        return event;
                    }
                }
            }
        }
    }
}

/// The event in a message; `None` for what is no event or makes no sense.
fn read(message: &Message, owner: &str) -> Option<Event> {
    if message.message_type() != message::Type::Signal {
        return None;
    }
    let (header, body) = (message.header(), message.body());
    let (interface, member) = (header.interface()?.as_str(), header.member()?.as_str());
    if header.sender()?.as_str() != owner {
        let (name, _, new): (String, String, String) = body.deserialize().ok()?;
        let gone = header.sender()? == "org.freedesktop.DBus"
            && member == "NameOwnerChanged"
            && name == owner
            && new.is_empty();
        return gone.then_some(Event::Gone);
    }
    let path = header.path()?.to_string();
    match (interface, member) {
        ("org.freedesktop.DBus.ObjectManager", "InterfacesAdded") => {
            let (path, interfaces): (OwnedObjectPath, HashMap<String, Dict>) = body.deserialize().ok()?;
            Some(Event::Added { path: path.to_string(), interfaces })
        }
        ("org.freedesktop.DBus.ObjectManager", "InterfacesRemoved") => {
            let (path, _): (OwnedObjectPath, Vec<String>) = body.deserialize().ok()?;
            Some(Event::Removed { path: path.to_string() })
        }
        ("org.freedesktop.DBus.Properties", "PropertiesChanged") => {
            let (interface, properties, _): (String, Dict, Vec<String>) = body.deserialize().ok()?;
            Some(Event::Changed { path, interface, properties })
        }
        (names::CALL | names::ACCOUNT, "StateChanged") => {
            let (old, new, reason, sip_status) = body.deserialize().ok()?;
            Some(Event::StateChanged { path, interface: interface.to_owned(), old, new, reason, sip_status })
        }
        (names::CALL, "DtmfReceived") => {
            let (digit, duration_ms) = body.deserialize().ok()?;
            Some(Event::Digit { path, digit, duration_ms })
        }
        (names::CALL_STATISTICS, "QualityChanged") => {
            let (direction, quality, mos, cause) = body.deserialize().ok()?;
            Some(Event::Quality { path, direction, quality, mos, cause })
        }
        (names::CALL_STATISTICS, "ActivityChanged") => {
            let (direction, talking, _level): (String, bool, f64) = body.deserialize().ok()?;
            Some(Event::Activity { path, direction, talking })
        }
        (names::CALL_STATISTICS, "SilenceTimeout") => {
            let (direction, seconds) = body.deserialize().ok()?;
            Some(Event::Silence { path, direction, seconds })
        }
        (names::CALL_STATISTICS, "Statistics") => {
            Some(Event::Statistics { path, figures: body.deserialize().ok()? })
        }
        (names::AUDIO, "Levels") => Some(Event::Levels(body.deserialize().ok()?)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signal(sender: &str, path: &str, interface: &str, member: &str) -> message::Builder<'static> {
        let (path, interface, member) = (path.to_owned(), interface.to_owned(), member.to_owned());
        Message::signal(path, interface, member).sender(sender.to_owned())
    }

    #[test]
    fn a_state_change_is_read() {
        let message = signal(":1.5", "/org/voipd/call/3", names::CALL, "StateChanged");
        let message = message.build(&("ringing", "ended", "busy", 486u16)).unwrap();
        let Some(Event::StateChanged { path, old, new, reason, sip_status, .. }) = read(&message, ":1.5")
        else {
            panic!("no state change");
        };
        assert_eq!((path.as_str(), old.as_str(), new.as_str()), ("/org/voipd/call/3", "ringing", "ended"));
        assert_eq!((reason.as_str(), sip_status), ("busy", 486));
    }

    #[test]
    fn a_call_ends_with_its_state_its_object_or_the_daemon() {
        let call = "/org/voipd/call/3";
        let ends = |state: &str| {
            let message = signal(":1.5", call, names::CALL, "StateChanged");
            let message = message.build(&("active", state, "remote", 200u16)).unwrap();
            read(&message, ":1.5").unwrap().ends(call).unwrap()
        };
        assert!(ends("ended") && !ends("held"));
        assert!(Event::Removed { path: call.to_owned() }.ends(call).unwrap());
        assert!(!Event::Removed { path: "/org/voipd/call/4".to_owned() }.ends(call).unwrap());
        assert!(Event::Gone.ends(call).is_err());
    }

    #[test]
    fn signals_of_others_and_with_wrong_types_are_no_events() {
        let message = signal(":1.6", "/org/voipd/call/3", names::CALL, "StateChanged");
        assert!(read(&message.build(&("ringing", "ended", "busy", 486u16)).unwrap(), ":1.5").is_none());
        let message = signal(":1.5", "/org/voipd/call/3", names::CALL, "StateChanged");
        assert!(read(&message.build(&("ringing", 7u32)).unwrap(), ":1.5").is_none());
    }

    #[test]
    fn only_the_bus_can_tell_that_the_daemon_is_gone() {
        let told = |sender: &str, name: &str, new: &str| {
            let message = signal(sender, "/org/freedesktop/DBus", "org.freedesktop.DBus", "NameOwnerChanged");
            read(&message.build(&(name, ":1.5", new)).unwrap(), ":1.5")
        };
        assert!(matches!(told("org.freedesktop.DBus", ":1.5", ""), Some(Event::Gone)));
        assert!(told("org.freedesktop.DBus", ":1.9", "").is_none());
        assert!(told(":1.6", ":1.5", "").is_none());
    }
}
