//! `org.voipd.Call1`: a call.

use std::net::SocketAddr;

use voipd_agent::view::{CallDirection, CallId, MediaWay, Reason, SoundPlace};
use voipd_agent::{CallView, MOST_DIGITS};
use zbus::Variant;
use zbus::message::Body;

use super::conference;
use super::options::{Options, Received};
use super::outcome::{Dict, Failure, Outcome, Requests, arguments, invalid, nothing};
use super::tree::Object;
use crate::api::Request;
use crate::config::account::codec;

pub(super) fn properties(view: &CallView) -> Dict {
    let remote_media = view.remote_media.map(|address| address.to_string()).unwrap_or_default();
    Dict::from([
        ("Direction", direction(view.direction).into()),
        ("State", view.state.name().into()),
        ("Reason", view.reason.name().into()),
        ("Peer", view.peer.clone().into()),
        ("PeerName", view.peer_name.clone().into()),
        ("AssertedIdentity", view.asserted.clone().into()),
        ("AssertedName", view.asserted_name.clone().into()),
        ("Anonymous", view.anonymous.into()),
        ("Diversion", view.diversions.clone().into()),
        ("DiversionReason", view.diversion_reason.clone().into()),
        ("RedirectContacts", view.contacts.clone().into()),
        ("Account", Object::Account(view.account).path().into()),
        ("Codec", view.codec.into()),
        ("Security", "none".into()),
        ("Muted", view.muted.into()),
        ("LocalHold", view.local_hold.into()),
        ("RemoteHold", view.remote_hold.into()),
        ("Mixed", view.mixed.into()),
        ("Conference", conference::path(view.conference).into()),
        ("NetworkState", view.network.name().into()),
        ("Sound", sound(view.sound).into()),
        ("Playing", view.playing.into()),
        ("Recording", view.recording.into()),
        ("EndReason", view.end_reason.map_or("", Reason::name).into()),
        ("SipStatus", view.sip_status.into()),
        ("Q850Cause", view.q850.into()),
        ("CreatedAt", view.created_at.into()),
        ("AnsweredAt", view.answered_at.into()),
        ("EndedAt", view.ended_at.into()),
        ("RemoteMedia", remote_media.into()),
        ("MediaPath", media_path(view.media_way).into()),
    ])
}

pub(super) fn call(requests: &Requests, call: CallId, member: &str, body: &Body) -> Result<Outcome, Failure> {
    match member {
        "Accept" => {
            let mut options = Options::new(arguments::<Received>(member, "options", body)?);
            let sound = options.sound()?;
            options.finish()?;
            requests.order(|reply| Request::Accept { call, sound, reply })
        }
        "Reject" => {
            let reason = match arguments::<&str>(member, "a reason", body)? {
                // 480: this one does not say whether anyone is there.
                "" => Reason::NoAnswer,
                "busy" => Reason::Busy,
                "declined" => Reason::Declined,
                _ => return Err(invalid("a call is rejected with the reason 'busy', 'declined' or ''")),
            };
            requests.order(|reply| Request::Reject { call, reason, reply })
        }
        "Hangup" => {
            nothing(member, body)?;
            requests.order(|reply| Request::Hangup { call, reply })
        }
        "Hold" => {
            nothing(member, body)?;
            requests.order(|reply| Request::Hold { call, reply })
        }
        "Resume" => {
            let mut options = Options::new(arguments::<Received>(member, "options", body)?);
            let mix = options.flag("mix")?.unwrap_or(false);
            options.finish()?;
            requests.order(|reply| Request::Resume { call, mix, reply })
        }
        "Silence" => {
            nothing(member, body)?;
            requests.order(|reply| Request::Silence { call, reply })
        }
        "SetCodec" => {
            let name: String = arguments(member, "codec", body)?;
            let codec = codec(&name).map_err(|fault| invalid(format!("the argument {fault}")))?;
            requests.order(|reply| Request::SetCodec { call, codec, reply })
        }
        "SendDtmf" => {
            let digits: String = arguments(member, "digits", body)?;
            if digits.is_empty() || digits.len() > MOST_DIGITS {
                return Err(invalid(format!("send 1 to {MOST_DIGITS} of the digits 0-9, *, #, A-D and ','")));
            }
            requests.order(|reply| Request::SendDtmf { call, digits, reply })
        }
        _ => super::call_ports::call(requests, call, member, body),
    }
}

pub(super) fn set(
    requests: &Requests,
    call: CallId,
    property: &str,
    value: &Variant<'_>,
) -> Option<Result<Outcome, Failure>> {
    match (property, value) {
        ("Muted", Variant::Bool(muted)) => {
            Some(requests.order(|reply| Request::SetMuted { call, muted: *muted, reply }))
        }
        ("Muted", _) => Some(Err(invalid("Muted is a boolean (b): write true or false"))),
        _ => None,
    }
}

fn media_path(way: MediaWay) -> Dict {
    let mut path = Dict::from([("kind", way.name().into())]);
    let mut address = |key, address: Option<SocketAddr>| {
        if let Some(address) = address {
            path.insert(key, address.to_string().into());
        }
    };
    match way {
        MediaWay::None | MediaWay::Checking | MediaWay::Failed | MediaWay::Lost => {}
        MediaWay::Plain { local, remote } => {
            address("local", Some(local));
            address("remote", remote);
        }
        MediaWay::Selected { local_kind, remote_kind, local, remote } => {
            address("local", local);
            address("remote", Some(remote));
            path.insert("local-type", local_kind.name().into());
            path.insert("remote-type", remote_kind.name().into());
        }
    }
    path
}

fn direction(direction: CallDirection) -> &'static str {
    match direction {
        CallDirection::Inbound => "inbound",
        CallDirection::Outbound => "outbound",
    }
}

fn sound(place: SoundPlace) -> &'static str {
    match place {
        SoundPlace::Device => "device",
        SoundPlace::Files => "files",
        SoundPlace::Echo => "echo",
        SoundPlace::Programs => "programs",
        SoundPlace::Conference => "conference",
        SoundPlace::None => "none",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use voipd_agent::view::CallState;

    #[test]
    fn states_and_reasons_are_the_words_of_the_contract() {
        let states = [
            CallState::Dialing,
            CallState::Ringing,
            CallState::Early,
            CallState::Incoming,
            CallState::Active,
            CallState::Held,
            CallState::Ended,
        ];
        let words = voipd_dbus::CallState::ALL.iter().map(|word| word.as_str());
        assert!(words.eq(states.map(CallState::name)));
        let reasons = [
            Reason::Local,
            Reason::Remote,
            Reason::Busy,
            Reason::Declined,
            Reason::NoAnswer,
            Reason::Cancelled,
            Reason::Unreachable,
            Reason::CertificateExpired,
            Reason::CertificateNotYetValid,
            Reason::CertificateWrongName,
            Reason::CertificateUnknownIssuer,
            Reason::CertificateNotPinned,
            Reason::CertificateUnfit,
            Reason::ClientCertificate,
            Reason::TlsFailed,
            Reason::Unresolvable,
            Reason::Network,
            Reason::NoCommonCodec,
            Reason::EncryptionRequired,
            Reason::NotFound,
            Reason::Credentials,
            Reason::Policy,
            Reason::Protocol,
            Reason::Rejected,
            Reason::AnsweredElsewhere,
            Reason::Redirected,
        ];
        let words = voipd_dbus::Reason::ALL.iter().map(|word| word.as_str());
        assert!(words.eq(reasons.map(Reason::name)));
    }
}
