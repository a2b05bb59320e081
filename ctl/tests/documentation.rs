//! The `busctl` lines of the documentation against the contract: they name members that exist, and use all of them.

use std::collections::BTreeSet;

use zbus_xml::Node;

fn page_lines() -> Vec<String> {
    let page = include_str!("../../docs/voipctl.md");
    let mut inside = false;
    let mut lines = Vec::new();
    for line in page.lines() {
        match line {
            "```busctl" => inside = true,
            "```" => inside = false,
            line if inside => lines.push(line.to_owned()),
            _ => {}
        }
    }
    lines
}

/// The words of a shell line; quotes hold words together.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), String::new(), None);
    for c in line.chars() {
        match (quote, c) {
            (Some(q), c) if c == q => quote = None,
            (None, '\'' | '"') => quote = Some(c),
            (None, ' ') => words.push(std::mem::take(&mut word)),
            (_, c) => word.push(c),
        }
    }
    words.push(word);
    words
}

#[test]
fn busctl_lines_use_members_that_exist_with_their_types() {
    let lines = page_lines();
    assert!(lines.len() > 30, "{}", lines.len());
    for line in lines {
        let words = words(&line);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let ["busctl", "--user", rest @ ..] = words.as_slice() else { panic!("{line}") };
        let (verb, interface, member, signature) = match rest {
            ["monitor", "--match", rule] => {
                assert!(rule.starts_with("type='signal',"), "{line}");
                continue;
            }
            [verb, "org.voipd", path, interface, member, signature @ ..] => {
                let known = [
                    "$CALL",
                    "$ACCOUNT",
                    "$CONFERENCE",
                    "/org/voipd",
                    "/org/voipd/audio",
                    "/org/voipd/nat",
                    "/org/voipd/friends",
                ];
                assert!(known.contains(path), "{line}");
                (*verb, *interface, *member, signature.first().copied().unwrap_or(""))
            }
            _ => panic!("{line}"),
        };
        if interface.starts_with("org.freedesktop.DBus.") {
            continue;
        }
        let (_, xml) =
            voipd_dbus::XML.iter().find(|(name, _)| *name == interface).unwrap_or_else(|| panic!("{line}"));
        let node = Node::from_reader(xml.as_bytes()).expect("the contract is XML");
        let xml = &node.interfaces()[0];
        match verb {
            "call" => {
                let method =
                    xml.methods().find(|m| m.name().as_str() == member).unwrap_or_else(|| panic!("{line}"));
                let wanted: String = method
                    .args()
                    .iter()
                    .filter(|a| a.direction() == Some(zbus_xml::ArgDirection::In))
                    .map(|a| a.ty().to_string())
                    .collect();
                assert_eq!(signature, wanted, "{line}");
            }
            "get-property" | "set-property" => {
                let property = xml
                    .properties()
                    .find(|p| p.name().as_str() == member)
                    .unwrap_or_else(|| panic!("{line}"));
                if verb == "set-property" {
                    assert!(property.access().write(), "{line}");
                    assert_eq!(signature, property.ty().to_string(), "{line}");
                }
            }
            _ => panic!("{line}"),
        }
    }
}

#[test]
fn every_method_of_the_contract_has_its_line() {
    let page = page_lines().join("\n");
    let mut missing = BTreeSet::new();
    for (interface, xml) in voipd_dbus::XML {
        let node = Node::from_reader(xml.as_bytes()).expect("the contract is XML");
        for method in node.interfaces()[0].methods() {
            // A whole word: Play is not in Playing.
            let line = format!("{interface} {}", method.name());
            let whole = |rest: &str| !rest.starts_with(char::is_alphanumeric);
            if !page.split(&line).skip(1).any(whole) {
                missing.insert(format!("{interface}.{}", method.name()));
            }
        }
    }
    // A watch of a call ends with the caller's connection: from the shell it shows nothing.
    let watches = ["Unwatch", "UnwatchActivity", "Watch", "WatchActivity"];
    let watches = watches.map(|method| format!("org.voipd.CallStatistics1.{method}"));
    // busctl hands over no descriptors.
    let takes_files = ["org.voipd.Call1.Play", "org.voipd.Call1.StartRecording"].map(str::to_owned);
    let speakers = ["WatchSpeaker", "UnwatchSpeaker"].map(|method| format!("org.voipd.Conference1.{method}"));
    let shown_nowhere = watches.into_iter().chain(speakers).chain(takes_files).collect();
    assert_eq!(missing, shown_nowhere);
}
