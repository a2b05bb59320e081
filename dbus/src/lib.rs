//! The D-Bus contract of voipd: names, interface XML, states, errors and typed client proxies. It knows no telephony.
//!
//! The XML files in `xml/` are the reference: each member says there what it does, in which states it is valid, with
//! which errors it fails, and how `voipctl` and `busctl` use it.

pub mod account;
pub mod audio;
pub mod call;
pub mod conference;
mod error;
pub mod friends;
pub mod manager;
pub mod names;
pub mod nat;
mod states;
pub mod statistics;

pub use account::{AccountProxy, AccountSettings};
pub use audio::{AudioProxy, DeviceSettings, TestOptions};
pub use call::{AcceptOptions, AudioOptions, CallProxy, PlayOptions, RecordOptions, ResumeOptions};
pub use conference::ConferenceProxy;
pub use error::{Error, Result};
pub use friends::FriendsProxy;
pub use manager::{ConferenceOptions, DialOptions, ManagerProxy, TraceOptions};
pub use nat::{MappingOptions, NatProxy};
pub use states::{AccountState, CallState, Reason};
pub use statistics::{CallStatisticsProxy, Figures};

/// A dictionary of named values, `a{sv}` on the bus.
pub type Dict = std::collections::HashMap<String, zbus::OwnedVariant>;

/// Each interface's name and its XML.
pub const XML: &[(&str, &str)] = &[
    (names::MANAGER, include_str!("../xml/org.voipd.Manager1.xml")),
    (names::ACCOUNT, include_str!("../xml/org.voipd.Account1.xml")),
    (names::CALL, include_str!("../xml/org.voipd.Call1.xml")),
    (names::CALL_STATISTICS, include_str!("../xml/org.voipd.CallStatistics1.xml")),
    (names::CONFERENCE, include_str!("../xml/org.voipd.Conference1.xml")),
    (names::AUDIO, include_str!("../xml/org.voipd.Audio1.xml")),
    (names::NAT, include_str!("../xml/org.voipd.Nat1.xml")),
    (names::FRIENDS, include_str!("../xml/org.voipd.Friends1.xml")),
];
