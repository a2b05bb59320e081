//! `org.voipd.Conference1`: calls that hear each other.

use voipd_agent::view::CallId;
use voipd_agent::{ConferenceId, DevicePart};
use voipd_dbus::{Error, names};
use zbus::message::Body;
use zbus::{ObjectPath, OwnedObjectPath, Variant};

use super::options::{Options, Received};
use super::outcome::{Dict, Failure, Outcome, Reply, Requests, arguments, invalid, nothing, unknown_method};
use super::tree::{Conference, Object};
use crate::api::Request;
use crate::api::conferences::ConferenceRequest;

/// Most calls that a conference is opened with in one go.
const MOST_CALLS: usize = 1024;

pub(super) fn properties(conference: &Conference) -> Dict {
    let members = &conference.view.members;
    let path = |call: &CallId| Object::Call(*call).path();
    let all: Vec<ObjectPath<'static>> = members.iter().map(|(call, _)| path(call)).collect();
    let muted: Vec<ObjectPath<'static>> =
        members.iter().filter(|(_, muted)| *muted).map(|(call, _)| path(call)).collect();
    Dict::from([
        ("Members", all.into()),
        ("MutedMembers", muted.into()),
        ("Device", conference.view.device.name().into()),
        ("ActiveSpeaker", conference.speaker.as_ref().map_or_else(nobody, path).into()),
    ])
}

/// The path of a call's conference.
pub(super) fn path(conference: Option<ConferenceId>) -> ObjectPath<'static> {
    conference.map_or_else(nobody, |id| Object::Conference(id).path())
}

fn nobody() -> ObjectPath<'static> {
    ObjectPath::from_static_str_unchecked("/")
}

/// `Manager1.OpenConference`.
pub(super) fn open(requests: &Requests, member: &str, body: &Body) -> Result<Outcome, Failure> {
    let (paths, options): (Vec<OwnedObjectPath>, Received) = arguments(member, "calls and options", body)?;
    if paths.len() > MOST_CALLS {
        return Err(invalid(format!("a conference is opened with {MOST_CALLS} calls at most")));
    }
    let calls = paths.iter().map(|path| call_of(path.as_str())).collect::<Result<Vec<CallId>, Failure>>()?;
    let mut options = Options::new(options);
    let part = options.text("device")?.map_or(Ok(DevicePart::default()), |word| part(&word))?;
    options.finish()?;
    requests.ask(
        |reply| Request::Conference(ConferenceRequest::Open { calls, device: part, reply }),
        |conference| Ok(Reply::Path(Object::Conference(conference).path())),
    )
}

pub(super) fn call(
    requests: &Requests,
    conference: ConferenceId,
    member: &str,
    body: &Body,
) -> Result<Outcome, Failure> {
    let one_call = || {
        let path: OwnedObjectPath = arguments(member, "the path of a call", body)?;
        call_of(path.as_str())
    };
    match member {
        "Join" => {
            let call = one_call()?;
            requests.order(|reply| Request::Conference(ConferenceRequest::Join { conference, call, reply }))
        }
        "Leave" => {
            let call = one_call()?;
            requests.order(|reply| Request::Conference(ConferenceRequest::Leave { conference, call, reply }))
        }
        "SetMuted" => {
            let (path, muted): (OwnedObjectPath, bool) =
                arguments(member, "the path of a call, and true or false", body)?;
            let call = call_of(path.as_str())?;
            requests.order(|reply| {
                Request::Conference(ConferenceRequest::SetMuted { conference, call, muted, reply })
            })
        }
        "End" => {
            nothing(member, body)?;
            requests.order(|reply| Request::Conference(ConferenceRequest::End { conference, reply }))
        }
        "WatchSpeaker" => nothing(member, body).map(|()| Outcome::WatchSpeaker),
        "UnwatchSpeaker" => nothing(member, body).map(|()| Outcome::UnwatchSpeaker),
        _ => Err(unknown_method(member)),
    }
}

pub(super) fn set(
    requests: &Requests,
    conference: ConferenceId,
    property: &str,
    value: &Variant<'_>,
) -> Option<Result<Outcome, Failure>> {
    let word = match (property, value) {
        ("Device", Variant::Str(word)) => word.as_str(),
        ("Device", _) => "",
        _ => return None,
    };
    Some(part(word).and_then(|device| {
        requests
            .order(|reply| Request::Conference(ConferenceRequest::SetDevice { conference, device, reply }))
    }))
}

fn part(word: &str) -> Result<DevicePart, Failure> {
    DevicePart::ALL.into_iter().find(|part| part.name() == word).ok_or_else(|| {
        invalid("the sound device is 'joined', 'listening' or 'away' (s): write one of these words")
    })
}

fn call_of(path: &str) -> Result<CallId, Failure> {
    names::call_number(path).map(CallId).ok_or_else(|| {
        Box::new(Error::NoSuchCall(format!("{path} is no call: the property Calls of /org/voipd lists them")))
            as Failure
    })
}
