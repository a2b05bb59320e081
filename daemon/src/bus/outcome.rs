//! What becomes of a method call: a reply, an error, or a reply that the driver has still to make.

use std::collections::BTreeMap;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use serde::Deserialize;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot};
use voipd_dbus::Error;
use zbus::message::{Body, Header};
use zbus::wire::Type;
use zbus::{BoxDBusError, Message, ObjectPath, OwnedFd, Variant, fdo};

use crate::api::{self, ErrorKind, Request, RequestError};

/// A dictionary in a fixed order, `a{sv}` on the bus.
pub(super) type Dict = BTreeMap<&'static str, Variant<'static>>;
/// Interfaces with their properties.
pub(super) type Interfaces = BTreeMap<&'static str, Dict>;
/// Why a call fails: an error with its name on the bus.
pub(super) type Failure = BoxDBusError;
/// What a call ends with.
pub(super) type Answer = Result<Reply, Failure>;

/// The body of a reply.
pub(super) enum Reply {
    Nothing,
    Text(String),
    Number(u32),
    Path(ObjectPath<'static>),
    File(OwnedFd),
    Value(Variant<'static>),
    Dict(Dict),
    Dicts(Vec<Dict>),
    Objects(BTreeMap<ObjectPath<'static>, Interfaces>),
}

impl Reply {
    pub(super) fn message(&self, call: &Header<'_>) -> zbus::Result<Message> {
        let message = Message::method_return(call);
        match self {
            Self::Nothing => message.build(&()),
            Self::Text(text) => message.build(text),
            Self::Number(number) => message.build(number),
            Self::Path(path) => message.build(path),
            Self::File(file) => message.build(file),
            Self::Value(value) => message.build(value),
            Self::Dict(dict) => message.build(dict),
            Self::Dicts(dicts) => message.build(dicts),
            Self::Objects(objects) => message.build(objects),
        }
    }
}

/// What an interface makes of a method call.
pub(super) enum Outcome {
    Now(Reply),
    /// When the driver has answered.
    Later(BoxFuture<'static, Answer>),
    /// Figures are wanted every so many milliseconds.
    Watch(u32),
    Unwatch,
    /// Talk and silence are wanted, and silences of so many seconds; 0: no such.
    WatchActivity(u32),
    UnwatchActivity,
    /// Who speaks in a conference is to be known.
    WatchSpeaker,
    UnwatchSpeaker,
}

/// The way to the driver.
#[derive(Clone)]
pub(super) struct Requests(pub(super) mpsc::Sender<Request>);

impl Requests {
    /// Asks the driver; `reply` makes the body of its answer.
    pub(super) fn ask<T: Send + 'static>(
        &self,
        request: impl FnOnce(api::Reply<T>) -> Request,
        reply: impl FnOnce(T) -> Answer + Send + 'static,
    ) -> Result<Outcome, Failure> {
        let (sender, receiver) = oneshot::channel();
        match self.0.try_send(request(sender)) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => return Err(busy()),
            Err(TrySendError::Closed(_)) => return Err(stopping()),
        }
        let answer = async move {
            match receiver.await {
                Ok(Ok(value)) => reply(value),
                Ok(Err(error)) => Err(failure(error)),
                Err(_) => Err(stopping()),
            }
        };
        Ok(Outcome::Later(answer.boxed()))
    }

    /// Asks the driver for something to be done.
    pub(super) fn order(&self, request: impl FnOnce(api::Reply<()>) -> Request) -> Result<Outcome, Failure> {
        self.ask(request, |()| Ok(Reply::Nothing))
    }
}

/// The arguments of a method; `usage` says in words what they are.
pub(super) fn arguments<'b, T: Type + Deserialize<'b>>(
    member: &str,
    usage: &str,
    body: &'b Body,
) -> Result<T, Failure> {
    // A unit would be read from any body.
    let fits = std::mem::size_of::<T>() > 0 || body.is_empty();
    body.deserialize().ok().filter(|_| fits).ok_or_else(|| {
        let wanted = T::SIGNATURE.to_string_no_parens();
        let got = body.signature().to_string_no_parens();
        invalid(format!("{member} takes {usage} (signature '{wanted}'), and was called with '{got}'"))
    })
}

/// No arguments.
pub(super) fn nothing(member: &str, body: &Body) -> Result<(), Failure> {
    arguments(member, "no arguments", body)
}

/// `org.voipd.Error.InvalidArgument`.
pub(super) fn invalid(message: impl Into<String>) -> Failure {
    Box::new(Error::InvalidArgument(message.into()))
}

pub(super) fn unknown_method(member: &str) -> Failure {
    Box::new(fdo::Error::UnknownMethod(format!(
        "there is no method '{member}' here: busctl introspect shows which"
    )))
}

pub(super) fn busy() -> Failure {
    Box::new(Error::LimitReached("voipd has too many requests to answer: try again in a moment".to_owned()))
}

fn stopping() -> Failure {
    Box::new(Error::NotReady("voipd is stopping: try again when it runs".to_owned()))
}

/// The total map from the driver's errors to those of the contract.
fn failure(error: RequestError) -> Failure {
    let make = match error.kind {
        ErrorKind::NoSuchAccount => Error::NoSuchAccount,
        ErrorKind::NoSuchCall => Error::NoSuchCall,
        ErrorKind::NoSuchConference => Error::NoSuchConference,
        ErrorKind::NoSuchDevice => Error::NoSuchDevice,
        ErrorKind::InvalidState => Error::InvalidState,
        ErrorKind::InvalidArgument => Error::InvalidArgument,
        ErrorKind::AlreadyExists => Error::AlreadyExists,
        ErrorKind::NotPermitted => Error::NotPermitted,
        ErrorKind::DeviceUnavailable => Error::DeviceUnavailable,
        ErrorKind::LimitReached => Error::LimitReached,
        ErrorKind::NotReady => Error::NotReady,
        ErrorKind::Failed => Error::Failed,
    };
    Box::new(make(error.message))
}
