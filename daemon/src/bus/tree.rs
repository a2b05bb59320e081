//! The objects on the bus as they were last told: their paths, interfaces, properties and introspection. It sends and
//! asks nothing.

use std::collections::BTreeMap;
use std::time::Instant;

use voipd_agent::view::CallId;
use voipd_agent::{AccountId, AccountView, CallView, ConferenceId, ConferenceView, Neighbour};
use voipd_dbus::{XML, names};
use zbus::ObjectPath;

use super::outcome::{Dict, Interfaces};
use super::{account, audio, call, conference, friends, manager, nat};
use crate::api::mappings::MappingView;
use crate::api::nat::NatView;
use crate::api::{AudioView, FriendsView};
use crate::config::Scope;

/// An object with an interface of voipd.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Object {
    Root,
    Audio,
    Nat,
    Friends,
    Account(AccountId),
    Call(CallId),
    Conference(ConferenceId),
}

impl Object {
    /// The object that has this path, whether it is there or not.
    pub(super) fn at(path: &str) -> Option<Self> {
        match path {
            names::ROOT_PATH => Some(Self::Root),
            names::AUDIO_PATH => Some(Self::Audio),
            names::NAT_PATH => Some(Self::Nat),
            names::FRIENDS_PATH => Some(Self::Friends),
            _ => names::account_number(path)
                .map(|number| Self::Account(AccountId(number)))
                .or_else(|| names::call_number(path).map(|number| Self::Call(CallId(number))))
                .or_else(|| {
                    names::conference_number(path).map(|number| Self::Conference(ConferenceId(number)))
                }),
        }
    }

    pub(super) fn path(self) -> ObjectPath<'static> {
        match self {
            Self::Root => ObjectPath::from_static_str_unchecked(names::ROOT_PATH),
            Self::Audio => ObjectPath::from_static_str_unchecked(names::AUDIO_PATH),
            Self::Nat => ObjectPath::from_static_str_unchecked(names::NAT_PATH),
            Self::Friends => ObjectPath::from_static_str_unchecked(names::FRIENDS_PATH),
            Self::Account(id) => ObjectPath::from_string_unchecked(names::account_path(id.0)),
            Self::Call(id) => ObjectPath::from_string_unchecked(names::call_path(id.0)),
            Self::Conference(id) => ObjectPath::from_string_unchecked(names::conference_path(id.0)),
        }
    }

    /// Its interfaces of voipd.
    pub(super) fn interfaces(self) -> &'static [Interface] {
        match self {
            Self::Root => &[Interface::Manager],
            Self::Audio => &[Interface::Audio],
            Self::Nat => &[Interface::Nat],
            Self::Friends => &[Interface::Friends],
            Self::Account(_) => &[Interface::Account],
            Self::Call(_) => &[Interface::Call, Interface::CallStatistics],
            Self::Conference(_) => &[Interface::Conference],
        }
    }
}

/// An interface of voipd.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Interface {
    Manager,
    Account,
    Call,
    CallStatistics,
    Conference,
    Audio,
    Nat,
    Friends,
}

impl Interface {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Manager => names::MANAGER,
            Self::Account => names::ACCOUNT,
            Self::Call => names::CALL,
            Self::CallStatistics => names::CALL_STATISTICS,
            Self::Conference => names::CONFERENCE,
            Self::Audio => names::AUDIO,
            Self::Nat => names::NAT,
            Self::Friends => names::FRIENDS,
        }
    }
}

/// An account as it was told.
pub(super) struct Account {
    pub(super) view: Box<AccountView>,
    pub(super) security: String,
}

/// A conference as it was told, and who speaks in it, as far as somebody wants to know.
pub(super) struct Conference {
    pub(super) view: Box<ConferenceView>,
    pub(super) speaker: Option<CallId>,
}

/// Everything that was told.
pub(super) struct Tree {
    pub(super) scope: Scope,
    pub(super) do_not_disturb: bool,
    pub(super) dial_tone: bool,
    /// The call whose peer talks, among those in which somebody listens for that.
    pub(super) speaker: Option<CallId>,
    pub(super) accounts: BTreeMap<AccountId, Account>,
    pub(super) calls: BTreeMap<CallId, Box<CallView>>,
    pub(super) conferences: BTreeMap<ConferenceId, Conference>,
    pub(super) audio: Option<Box<AudioView>>,
    pub(super) nat: Option<Box<NatView>>,
    pub(super) mappings: Vec<MappingView>,
    pub(super) neighbours: Vec<Neighbour>,
    pub(super) friends: Option<FriendsView>,
}

impl Tree {
    pub(super) fn new(scope: Scope, do_not_disturb: bool) -> Self {
        Self {
            scope,
            do_not_disturb,
            dial_tone: false,
            speaker: None,
            accounts: BTreeMap::new(),
            calls: BTreeMap::new(),
            conferences: BTreeMap::new(),
            audio: None,
            nat: None,
            mappings: Vec::new(),
            neighbours: Vec::new(),
            friends: None,
        }
    }

    /// Whether the object is there.
    pub(super) fn has(&self, object: Object) -> bool {
        match object {
            Object::Root => true,
            Object::Audio => self.audio.is_some(),
            Object::Nat => self.nat.is_some(),
            Object::Friends => self.friends.is_some(),
            Object::Account(id) => self.accounts.contains_key(&id),
            Object::Call(id) => self.calls.contains_key(&id),
            Object::Conference(id) => self.conferences.contains_key(&id),
        }
    }

    /// The properties that emit change signals; empty when the object is not there.
    pub(super) fn properties(&self, object: Object, interface: Interface) -> Dict {
        match (object, interface) {
            (Object::Root, Interface::Manager) => manager::properties(self),
            (Object::Audio, Interface::Audio) => {
                self.audio.as_deref().map(audio::properties).unwrap_or_default()
            }
            (Object::Nat, Interface::Nat) => {
                self.nat.as_deref().map(|view| nat::properties(view, &self.mappings)).unwrap_or_default()
            }
            (Object::Friends, Interface::Friends) => {
                self.friends.as_ref().map(friends::properties).unwrap_or_default()
            }
            (Object::Account(id), Interface::Account) => {
                self.accounts.get(&id).map(account::properties).unwrap_or_default()
            }
            (Object::Call(id), Interface::Call) => {
                self.calls.get(&id).map(|view| call::properties(view)).unwrap_or_default()
            }
            (Object::Conference(id), Interface::Conference) => {
                self.conferences.get(&id).map(conference::properties).unwrap_or_default()
            }
            // All properties of CallStatistics1 are those of the moment; other pairs do not meet.
            _ => Dict::new(),
        }
    }

    /// Properties that change with the clock and are known without the driver.
    pub(super) fn clock_properties(&self, object: Object, now: Instant) -> Dict {
        match object {
            Object::Account(id) => {
                self.accounts.get(&id).map(|account| account::live(&account.view, now)).unwrap_or_default()
            }
            _ => Dict::new(),
        }
    }

    /// An object as InterfacesAdded and GetManagedObjects tell it: without the properties that emit no change signal,
    /// which would be stale as soon as they are read.
    pub(super) fn interfaces(&self, object: Object) -> Interfaces {
        object
            .interfaces()
            .iter()
            .map(|interface| (interface.name(), self.properties(object, *interface)))
            .collect()
    }

    /// All objects below the root.
    pub(super) fn managed(&self) -> BTreeMap<ObjectPath<'static>, Interfaces> {
        self.objects().map(|object| (object.path(), self.interfaces(object))).collect()
    }

    fn objects(&self) -> impl Iterator<Item = Object> {
        let accounts = self.accounts.keys().map(|id| Object::Account(*id));
        let calls = self.calls.keys().map(|id| Object::Call(*id));
        let audio = self.audio.iter().map(|_| Object::Audio);
        let nat = self.nat.iter().map(|_| Object::Nat);
        let friends = self.friends.iter().map(|_| Object::Friends);
        let conferences = self.conferences.keys().map(|id| Object::Conference(*id));
        audio.chain(nat).chain(friends).chain(accounts).chain(calls).chain(conferences)
    }

    /// Introspection data of any path that leads somewhere.
    pub(super) fn introspect(&self, path: &str) -> Option<String> {
        let object = Object::at(path).filter(|object| self.has(*object));
        let below = if path == "/" { path.to_owned() } else { format!("{path}/") };
        let mut children: Vec<String> = self
            .objects()
            .map(Object::path)
            .chain([Object::Root.path()])
            .filter_map(|path| Some(path.as_str().strip_prefix(&below)?.split('/').next()?.to_owned()))
            .collect();
        // Numbers in their order.
        children.sort_by_key(|name| (name.len(), name.clone()));
        children.dedup();
        if object.is_none() && children.is_empty() {
            return None;
        }
        let mut xml = String::from(HEAD);
        xml.push_str(STANDARD);
        if object == Some(Object::Root) {
            xml.push_str(OBJECT_MANAGER);
        }
        for interface in object.map(Object::interfaces).unwrap_or_default() {
            xml.push_str(definition(interface.name()));
        }
        for child in children {
            xml.push_str(&format!("  <node name=\"{child}\"/>\n"));
        }
        xml.push_str("</node>\n");
        Some(xml)
    }
}

/// The interface as the contract has it.
fn definition(name: &str) -> &'static str {
    let text = XML.iter().find(|(interface, _)| *interface == name).map_or("", |(_, text)| *text);
    let end = "</interface>\n";
    text.find("  <interface ")
        .zip(text.find(end))
        .and_then(|(from, to)| text.get(from..to + end.len()))
        .unwrap_or("")
}

const HEAD: &str = "<!DOCTYPE node PUBLIC \"-//freedesktop//DTD D-BUS Object Introspection 1.0//EN\"\n  \
                    \"http://www.freedesktop.org/standards/dbus/1.0/introspect.dtd\">\n<node>\n";

/// What every object has (D-Bus specification, section "Standard Interfaces").
const STANDARD: &str = r#"  <interface name="org.freedesktop.DBus.Peer">
    <method name="Ping"/>
    <method name="GetMachineId">
      <arg name="machine_uuid" type="s" direction="out"/>
    </method>
  </interface>
  <interface name="org.freedesktop.DBus.Introspectable">
    <method name="Introspect">
      <arg name="xml_data" type="s" direction="out"/>
    </method>
  </interface>
  <interface name="org.freedesktop.DBus.Properties">
    <method name="Get">
      <arg name="interface_name" type="s" direction="in"/>
      <arg name="property_name" type="s" direction="in"/>
      <arg name="value" type="v" direction="out"/>
    </method>
    <method name="GetAll">
      <arg name="interface_name" type="s" direction="in"/>
      <arg name="properties" type="a{sv}" direction="out"/>
    </method>
    <method name="Set">
      <arg name="interface_name" type="s" direction="in"/>
      <arg name="property_name" type="s" direction="in"/>
      <arg name="value" type="v" direction="in"/>
    </method>
    <signal name="PropertiesChanged">
      <arg name="interface_name" type="s"/>
      <arg name="changed_properties" type="a{sv}"/>
      <arg name="invalidated_properties" type="as"/>
    </signal>
  </interface>
"#;

const OBJECT_MANAGER: &str = r#"  <interface name="org.freedesktop.DBus.ObjectManager">
    <method name="GetManagedObjects">
      <arg name="objects" type="a{oa{sa{sv}}}" direction="out"/>
    </method>
    <signal name="InterfacesAdded">
      <arg name="object" type="o"/>
      <arg name="interfaces" type="a{sa{sv}}"/>
    </signal>
    <signal name="InterfacesRemoved">
      <arg name="object" type="o"/>
      <arg name="interfaces" type="as"/>
    </signal>
  </interface>
"#;
