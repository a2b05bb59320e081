//! A method call's way to the interface that it is for, and the standard interfaces themselves.

use std::time::Instant;

use voipd_dbus::Error;
use zbus::message::Body;
use zbus::{OwnedVariant, Variant, fdo};

use super::outcome::{Dict, Failure, Outcome, Reply, Requests, arguments, nothing, unknown_method};
use super::tree::{Interface, Object, Tree};
use super::{account, audio, call, conference, friends, manager, nat, statistics};

/// A method call, taken apart.
pub(super) struct Call<'c> {
    pub(super) path: &'c str,
    pub(super) interface: &'c str,
    pub(super) member: &'c str,
    pub(super) body: &'c Body,
}

/// What becomes of the call.
pub(super) fn dispatch(tree: &Tree, requests: &Requests, call: &Call<'_>) -> Result<Outcome, Failure> {
    match call.interface {
        // Works on any path (D-Bus specification, "org.freedesktop.DBus.Peer").
        "org.freedesktop.DBus.Peer" => peer(call.member, call.body),
        "org.freedesktop.DBus.Introspectable" => introspect(tree, call),
        "org.freedesktop.DBus.Properties" => properties(tree, requests, call),
        "org.freedesktop.DBus.ObjectManager" => match (call.path, call.member) {
            (voipd_dbus::names::ROOT_PATH, "GetManagedObjects") => {
                nothing(call.member, call.body)?;
                Ok(Outcome::Now(Reply::Objects(tree.managed())))
            }
            (voipd_dbus::names::ROOT_PATH, _) => Err(unknown_method(call.member)),
            _ => Err(unknown_interface(call.path, call.interface)),
        },
        _ => {
            let (object, interface) = find(tree, call.path, call.interface)?;
            own(requests, object, interface, call)
        }
    }
}

fn own(
    requests: &Requests,
    object: Object,
    interface: Interface,
    Call { member, body, .. }: &Call<'_>,
) -> Result<Outcome, Failure> {
    match (object, interface) {
        (Object::Account(id), Interface::Account) => account::call(requests, id, member, body),
        (Object::Call(id), Interface::Call) => call::call(requests, id, member, body),
        (Object::Call(id), Interface::CallStatistics) => statistics::call(requests, id, member, body),
        (Object::Conference(id), _) => conference::call(requests, id, member, body),
        (Object::Audio, _) => audio::call(requests, member, body),
        (Object::Nat, _) => nat::call(requests, member, body),
        (Object::Friends, _) => friends::call(requests, member, body),
        _ => manager::call(requests, member, body),
    }
}

/// The object and its interface, if both are there.
fn find(tree: &Tree, path: &str, interface: &str) -> Result<(Object, Interface), Failure> {
    let object = Object::at(path).ok_or_else(|| unknown_object(path))?;
    let found = object.interfaces().iter().find(|own| own.name() == interface);
    let Some(interface) = found else { return Err(unknown_interface(path, interface)) };
    if !tree.has(object) {
        return Err(match object {
            Object::Call(id) => Box::new(Error::NoSuchCall(format!(
                "there is no call {}: it ended more than 30 seconds ago, or never was; list the calls to see which \
                 there are",
                id.0
            ))),
            Object::Conference(id) => Box::new(Error::NoSuchConference(format!(
                "there is no conference {}: its last call has left it, or it never was; list the conferences to see which \
                 there are",
                id.0
            ))),
            Object::Account(id) => Box::new(Error::NoSuchAccount(format!(
                "there is no account {}: list the accounts to see which there are",
                id.0
            ))),
            Object::Audio | Object::Friends | Object::Nat => {
                Box::new(Error::NotReady("voipd is starting: try again in a moment".to_owned()))
            }
            Object::Root => unknown_object(path),
        });
    }
    Ok((object, *interface))
}

fn properties(tree: &Tree, requests: &Requests, call: &Call<'_>) -> Result<Outcome, Failure> {
    match call.member {
        "Get" => {
            let (interface, property): (&str, String) =
                arguments("Get", "an interface and a property", call.body)?;
            let (object, interface) = find(tree, call.path, interface)?;
            let mut known = tree.properties(object, interface);
            known.append(&mut tree.clock_properties(object, Instant::now()));
            if let Some(value) = known.remove(property.as_str()) {
                return Ok(Outcome::Now(Reply::Value(value)));
            }
            // The others are asked for: all at once, and the driver is quick.
            let pick = move |mut figures: Dict| match figures.remove(property.as_str()) {
                Some(value) => Ok(Reply::Value(value)),
                None => Err(unknown_property(&property)),
            };
            match (object, interface) {
                (Object::Call(id), Interface::CallStatistics) => statistics::ask(requests, id, pick),
                (Object::Audio, _) => audio::ask(requests, true, pick),
                _ => pick(known).map(Outcome::Now),
            }
        }
        "GetAll" => {
            let interface: &str = arguments("GetAll", "an interface", call.body)?;
            let (object, interface) = find(tree, call.path, interface)?;
            let mut known = tree.properties(object, interface);
            known.append(&mut tree.clock_properties(object, Instant::now()));
            let mut all = move |mut figures: Dict| {
                figures.append(&mut known);
                Ok(Reply::Dict(figures))
            };
            match (object, interface) {
                (Object::Call(id), Interface::CallStatistics) => statistics::ask(requests, id, all),
                (Object::Audio, _) => audio::ask(requests, true, all),
                _ => all(Dict::new()).map(Outcome::Now),
            }
        }
        "Set" => {
            let (interface, property, value): (&str, &str, OwnedVariant) =
                arguments("Set", "an interface, a property and a value", call.body)?;
            let (object, interface) = find(tree, call.path, interface)?;
            let value = Variant::from(value);
            let set = match (object, interface) {
                (Object::Root, _) => manager::set(requests, property, &value),
                (Object::Call(id), Interface::Call) => call::set(requests, id, property, &value),
                (Object::Conference(id), _) => conference::set(requests, id, property, &value),
                _ => None,
            };
            set.unwrap_or_else(|| {
                Err(Box::new(fdo::Error::PropertyReadOnly(format!(
                    "there is no property '{property}' that can be written here"
                ))))
            })
        }
        _ => Err(unknown_method(call.member)),
    }
}

fn introspect(tree: &Tree, call: &Call<'_>) -> Result<Outcome, Failure> {
    if call.member != "Introspect" {
        return Err(unknown_method(call.member));
    }
    nothing(call.member, call.body)?;
    let xml = tree.introspect(call.path).ok_or_else(|| unknown_object(call.path))?;
    Ok(Outcome::Now(Reply::Text(xml)))
}

fn peer(member: &str, body: &Body) -> Result<Outcome, Failure> {
    match member {
        "Ping" => nothing(member, body).map(|()| Outcome::Now(Reply::Nothing)),
        "GetMachineId" => {
            nothing(member, body)?;
            let read = |path| std::fs::read_to_string(path).ok();
            match read("/etc/machine-id").or_else(|| read("/var/lib/dbus/machine-id")) {
                Some(id) => Ok(Outcome::Now(Reply::Text(id.trim().to_owned()))),
                None => Err(Box::new(fdo::Error::Failed("this machine has no /etc/machine-id".to_owned()))),
            }
        }
        _ => Err(unknown_method(member)),
    }
}

fn unknown_object(path: &str) -> Failure {
    Box::new(fdo::Error::UnknownObject(format!(
        "there is no object {path}: busctl tree org.voipd shows which"
    )))
}

fn unknown_interface(path: &str, interface: &str) -> Failure {
    Box::new(fdo::Error::UnknownInterface(format!("{path} has no interface '{interface}'")))
}

fn unknown_property(property: &str) -> Failure {
    Box::new(fdo::Error::UnknownProperty(format!("there is no property '{property}' here")))
}
