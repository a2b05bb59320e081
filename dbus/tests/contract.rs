//! The contract against itself: each member is documented, and the proxies speak what the XML says.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;

use voipd_dbus::XML;
use zbus_xml::{Annotation, Interface, Node};

const DOC_STRING: &str = "org.freedesktop.DBus.DocString";
const ERRORS: &[&str] = &[
    "NoSuchAccount",
    "NoSuchCall",
    "NoSuchConference",
    "NoSuchDevice",
    "InvalidState",
    "InvalidArgument",
    "AlreadyExists",
    "NotPermitted",
    "DeviceUnavailable",
    "LimitReached",
    "NotReady",
    "Failed",
];

/// The only interface of each file.
fn interfaces() -> Vec<Interface<'static>> {
    XML.iter()
        .map(|(name, xml)| {
            let (node, warnings) = Node::from_reader_with_warnings(xml.as_bytes()).expect(name);
            assert!(warnings.is_empty(), "{name}: {warnings:?}");
            let [interface] = node.interfaces() else { panic!("{name}: one interface a file") };
            assert_eq!(interface.name().as_str(), *name);
            interface.to_owned()
        })
        .collect()
}

/// Name, annotations and access path of every member.
fn members(interface: &Interface<'static>) -> Vec<(String, String, Vec<Annotation<'static>>)> {
    let owned = |list: &[Annotation<'_>]| list.iter().map(Annotation::to_owned).collect::<Vec<_>>();
    let methods =
        interface.methods().map(|m| ("call".to_owned(), m.name().to_string(), owned(m.annotations())));
    let signals =
        interface.signals().map(|s| ("monitor".to_owned(), s.name().to_string(), owned(s.annotations())));
    let properties = interface.properties().map(|p| {
        let verb = if p.access().write() { "set-property" } else { "get-property" };
        (verb.to_owned(), p.name().to_string(), owned(p.annotations()))
    });
    methods.chain(signals).chain(properties).collect()
}

fn text(annotations: &[Annotation<'_>], name: &str) -> Option<String> {
    let found: Vec<_> = annotations.iter().filter(|a| a.name() == name).collect();
    let [one] = found.as_slice() else { return None };
    Some(one.value().split_whitespace().collect::<Vec<_>>().join(" "))
}

#[test]
fn each_member_is_documented() {
    for interface in interfaces() {
        for (verb, name, annotations) in members(&interface) {
            let place = format!("{}.{name}", interface.name());
            let doc = |key: &str| text(&annotations, key).unwrap_or_else(|| panic!("{place}: one {key}"));

            assert!(doc(DOC_STRING).ends_with('.'), "{place}: a sentence");
            assert!(!doc("org.voipd.Doc.Valid").is_empty(), "{place}");
            assert_eq!(doc("org.voipd.Doc.Since"), "0.1", "{place}");
            let voipctl = doc("org.voipd.Doc.Voipctl");
            assert!(voipctl == "none" || voipctl.starts_with("voipctl "), "{place}: {voipctl}");
            let busctl = doc("org.voipd.Doc.Busctl");
            assert!(busctl.starts_with(&format!("busctl --user {verb} ")), "{place}: {busctl}");
            assert!(
                busctl.contains(interface.name().as_str()) && busctl.contains(&name),
                "{place}: {busctl}"
            );

            let errors = doc("org.voipd.Doc.Errors");
            // What stands in parentheses explains when.
            let plain: String = errors.split('(').map(|s| s.rsplit(')').next().unwrap_or("")).collect();
            for error in plain.split(',').map(str::trim).filter(|e| !e.is_empty() && *e != "none") {
                assert!(ERRORS.contains(&error), "{place}: '{error}' is no error of voipd");
            }
        }
    }
}

#[test]
fn each_argument_has_a_name() {
    for interface in interfaces() {
        let args = interface
            .methods()
            .flat_map(|m| m.args().to_vec())
            .chain(interface.signals().flat_map(|s| s.args().to_vec()));
        args.for_each(|a| assert!(a.name().is_some_and(|n| !n.is_empty()), "{}: {a:?}", interface.name()));
    }
}

#[test]
fn only_voipds_own_words_annotate() {
    let known: BTreeSet<_> = [
        DOC_STRING,
        "org.voipd.Doc.Valid",
        "org.voipd.Doc.Errors",
        "org.voipd.Doc.Since",
        "org.voipd.Doc.Voipctl",
        "org.voipd.Doc.Busctl",
        "org.freedesktop.DBus.Property.EmitsChangedSignal",
    ]
    .into();
    for interface in interfaces() {
        for (_, name, annotations) in members(&interface) {
            annotations.iter().for_each(|a| assert!(known.contains(a.name()), "{name}: {}", a.name()));
        }
    }
}

#[test]
fn statistics_have_the_keys_of_the_properties() {
    let statistics = interfaces().into_iter().find(|i| i.name() == "org.voipd.CallStatistics1").unwrap();
    let properties: Vec<_> = statistics.properties().map(|p| p.name().to_string()).collect();
    assert_eq!(properties, voipd_dbus::Figures::KEYS);
    let figures = voipd_dbus::Figures::default().to_dict();
    for property in statistics.properties() {
        let name = property.name();
        assert_eq!(figures[name.as_str()].value_signature(), property.ty(), "{name}");
    }
}
