//! Errors of the contract, for the daemon that sends them and for clients that get them.

use std::fmt;

/// An error of voipd, `org.voipd.Error.*`. Each carries a sentence that tells a person what to do.
#[derive(Clone, Debug, PartialEq, zbus::DBusError)]
#[zbus(prefix = "org.voipd.Error", impl_display = false)]
pub enum Error {
    /// Not an error of voipd: of the bus, of the connection, or of a reply that makes no sense.
    #[zbus(error)]
    Bus(zbus::Error),
    /// There is no account with this name or path.
    NoSuchAccount(String),
    /// There is no such call, or no longer.
    NoSuchCall(String),
    /// There is no such conference, or no longer.
    NoSuchConference(String),
    /// There is no sound device with this name.
    NoSuchDevice(String),
    /// Not possible in the state that the object is in.
    InvalidState(String),
    /// An argument or option has a wrong value, type or name.
    InvalidArgument(String),
    /// The name is taken.
    AlreadyExists(String),
    /// The caller, or anyone, may not do this.
    NotPermitted(String),
    /// A sound device is busy or gone.
    DeviceUnavailable(String),
    /// There are too many of these already.
    LimitReached(String),
    /// What is asked for needs something that is not there yet.
    NotReady(String),
    /// Something else went wrong on the daemon's side.
    Failed(String),
}

/// Result of a call to voipd.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// The last part of the error's name, such as `NoSuchCall`; `None` when it is no error of voipd.
    pub fn kind(&self) -> Option<&'static str> {
        Some(match self {
            Self::Bus(_) => return None,
            Self::NoSuchAccount(_) => "NoSuchAccount",
            Self::NoSuchCall(_) => "NoSuchCall",
            Self::NoSuchConference(_) => "NoSuchConference",
            Self::NoSuchDevice(_) => "NoSuchDevice",
            Self::InvalidState(_) => "InvalidState",
            Self::InvalidArgument(_) => "InvalidArgument",
            Self::AlreadyExists(_) => "AlreadyExists",
            Self::NotPermitted(_) => "NotPermitted",
            Self::DeviceUnavailable(_) => "DeviceUnavailable",
            Self::LimitReached(_) => "LimitReached",
            Self::NotReady(_) => "NotReady",
            Self::Failed(_) => "Failed",
        })
    }

    /// Is the object gone that the request was for?
    pub fn is_gone(&self) -> bool {
        use zbus::fdo;
        match self {
            Self::NoSuchCall(_) | Self::NoSuchAccount(_) | Self::NoSuchConference(_) => true,
            Self::Bus(zbus::Error::FDO(e)) => {
                matches!(**e, fdo::Error::UnknownObject(_) | fdo::Error::UnknownInterface(_))
            }
            _ => false,
        }
    }
}

/// The sentence alone, without the error's name.
impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bus(zbus::Error::FDO(e)) => match zbus::DBusError::description(&**e) {
                Some(sentence) if !sentence.is_empty() => f.write_str(sentence),
                _ => write!(f, "{e}"),
            },
            Self::Bus(zbus::Error::MethodError(_, Some(sentence), _)) => f.write_str(sentence),
            Self::Bus(e) => write!(f, "{e}"),
            Self::NoSuchAccount(sentence)
            | Self::NoSuchCall(sentence)
            | Self::NoSuchConference(sentence)
            | Self::NoSuchDevice(sentence)
            | Self::InvalidState(sentence)
            | Self::InvalidArgument(sentence)
            | Self::AlreadyExists(sentence)
            | Self::NotPermitted(sentence)
            | Self::DeviceUnavailable(sentence)
            | Self::LimitReached(sentence)
            | Self::NotReady(sentence)
            | Self::Failed(sentence) => f.write_str(sentence),
        }
    }
}

impl From<zbus::fdo::Error> for Error {
    fn from(error: zbus::fdo::Error) -> Self {
        Self::from(zbus::Error::from(error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use zbus::DBusError;

    fn reply(name: &str, sentence: &str) -> Error {
        let call = zbus::Message::method_call("/", "Member").build(&()).unwrap();
        let message = zbus::Message::error(&call.header(), name).build(&sentence).unwrap();
        Error::from(zbus::Error::from(message))
    }

    #[test]
    fn an_error_reply_becomes_its_variant_and_prints_its_sentence() {
        let error = reply("org.voipd.Error.NoSuchCall", "There is no call 7. 'voipctl calls' lists them.");
        assert_eq!(error, Error::NoSuchCall("There is no call 7. 'voipctl calls' lists them.".into()));
        assert_eq!(error.to_string(), "There is no call 7. 'voipctl calls' lists them.");
        assert!(error.is_gone());
    }

    #[test]
    fn errors_of_others_print_their_sentence_too() {
        let error = reply("org.freedesktop.DBus.Error.AccessDenied", "Rejected send message");
        assert_eq!(error.to_string(), "Rejected send message");
        assert_eq!(error.kind(), None);
        assert_eq!(reply("org.example.Odd", "Odd thing").to_string(), "Odd thing");
        assert!(reply("org.freedesktop.DBus.Error.UnknownObject", "Unknown object").is_gone());
    }

    #[test]
    fn kinds_are_the_names_on_the_bus() {
        for error in [Error::InvalidState(String::new()), Error::Failed(String::new())] {
            let name = format!("{}{}", crate::names::ERROR_PREFIX, error.kind().unwrap());
            assert_eq!(error.name().as_str(), name);
        }
    }
}
