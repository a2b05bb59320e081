//! `voipctl graph`: the way of a call's sound, drawn as text or for Graphviz.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::cli::GraphArgs;
use crate::daemon::Daemon;
use crate::exit::Failure;
use crate::objects::Fit;
use crate::output::{Output, dict_to_json};
use crate::text::clean;

/// A part of the way.
#[derive(Debug)]
struct Node {
    id: String,
    kind: String,
    name: String,
    to: Vec<String>,
    /// In the order of their names, in words.
    figures: Vec<String>,
}

pub(crate) async fn run(daemon: &Daemon, out: Output, args: GraphArgs) -> Result<(), Failure> {
    let call = daemon.snapshot().await?.call(args.call.call.as_ref(), Fit::Unended)?.path.clone();
    let nodes: Vec<Value> =
        daemon.statistics(&call).await?.graph().await?.iter().map(|node| dict_to_json(node).into()).collect();
    if out.json {
        return out.document(&json!(nodes));
    }
    let nodes: Vec<Node> = nodes.iter().filter_map(read).collect();
    match args.dot {
        true => out.lines(&dot(&nodes)),
        false if nodes.is_empty() => out.line("The call has no media."),
        false => out.lines(&drawn(&nodes)),
    }
}

fn read(node: &Value) -> Option<Node> {
    let text = |key: &str| node.get(key).and_then(Value::as_str).map(clean);
    let to = node.get("to").and_then(Value::as_array).into_iter().flatten();
    let figures =
        node.as_object()?.iter().filter(|(key, _)| !matches!(key.as_str(), "id" | "kind" | "name" | "to"));
    Some(Node {
        id: text("id")?,
        kind: text("kind")?,
        name: text("name").unwrap_or_default(),
        to: to.filter_map(Value::as_str).map(clean).collect(),
        figures: figures.filter_map(|(key, value)| figure(key, value)).collect(),
    })
}

/// A figure in words: the unit is the last part of its name.
fn figure(key: &str, value: &Value) -> Option<String> {
    if let Some(text) = value.as_str() {
        return Some(clean(text));
    }
    let number = value.as_f64()?;
    let (name, unit) = match key.rsplit_once('_') {
        Some((name, "ms")) => (name, " ms"),
        Some((name, "percent")) => (name, " %"),
        Some((name, "dbov")) => (name, " dB"),
        _ => (key, ""),
    };
    let number = match unit {
        "" if number.fract() == 0.0 => format!("{number:.0}"),
        " dB" | " ms" => format!("{number:.0}"),
        _ => format!("{number:.1}"),
    };
    Some(format!("{} {number}{unit}", name.replace('_', " ")))
}

impl Node {
    fn title(&self) -> String {
        let title = format!("{} {}", self.kind.replace('-', " "), self.name);
        title.trim_end().to_owned()
    }
}

/// Each chain from its beginning; where sound goes several ways, they stand below each other.
fn drawn(nodes: &[Node]) -> Vec<String> {
    let fed: BTreeSet<&str> = nodes.iter().flat_map(|node| &node.to).map(String::as_str).collect();
    let (mut lines, mut shown) = (Vec::new(), BTreeSet::new());
    for node in nodes.iter().filter(|node| !fed.contains(node.id.as_str())) {
        draw(nodes, node, "", "", &mut lines, &mut shown);
    }
    lines
}

/// `lead`: what stands before this line; `below`: before those of the ways that begin here.
fn draw<'n>(
    nodes: &'n [Node],
    node: &'n Node,
    lead: &str,
    below: &str,
    lines: &mut Vec<String>,
    shown: &mut BTreeSet<&'n str>,
) {
    let figures =
        if node.figures.is_empty() { String::new() } else { format!(" ({})", node.figures.join(", ")) };
    // What has been drawn is not drawn again, with all that follows; so a loop ends, too.
    if !shown.insert(&node.id) {
        lines.push(format!("{lead}{} (above)", node.title()));
        return;
    }
    lines.push(format!("{lead}{}{figures}", node.title()));
    let following: Vec<&Node> =
        node.to.iter().filter_map(|id| nodes.iter().find(|other| other.id == *id)).collect();
    for (place, next) in following.iter().enumerate() {
        let last = place + 1 == following.len();
        let (corner, bar) = if last { ("└─ ", "   ") } else { ("├─ ", "│  ") };
        draw(nodes, next, &format!("{below}{corner}"), &format!("{below}{bar}"), lines, shown);
    }
}

fn dot(nodes: &[Node]) -> Vec<String> {
    let quoted = |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"");
    let mut lines = vec!["digraph call {".to_owned(), "  rankdir=LR; node [shape=box];".to_owned()];
    for node in nodes {
        let label: Vec<String> = std::iter::once(node.title())
            .chain(node.figures.iter().cloned())
            .map(|line| quoted(&line))
            .collect();
        lines.push(format!("  \"{}\" [label=\"{}\"];", quoted(&node.id), label.join("\\n")));
    }
    for node in nodes {
        lines.extend(node.to.iter().map(|to| format!("  \"{}\" -> \"{}\";", quoted(&node.id), quoted(to))));
    }
    lines.push("}".to_owned());
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nodes() -> Vec<Node> {
        let all = json!([
            {"id": "source-1", "kind": "microphone", "name": "", "to": ["mixer-16"], "level_dbov": -30.2},
            {"id": "source-17", "kind": "call", "name": "2", "to": ["mixer-16"]},
            {"id": "mixer-16", "kind": "mixer", "name": "", "to": ["encoder"], "sources": 2.0},
            {"id": "encoder", "kind": "encoder", "name": "opus", "to": ["path-out"]},
            {"id": "path-out", "kind": "path", "name": "relayed", "to": ["peer-hears"], "remote": "192.0.2.1:4000", "round_trip_ms": 40.4},
            {"id": "peer-hears", "kind": "peer", "name": "sip:\u{1b}\"b\"@example.org", "to": [], "mos": 4.26},
            {"id": "decoder", "kind": "decoder", "name": "opus", "to": ["sink-2", "sink-9"], "concealed_percent": 0.0},
            {"id": "sink-2", "kind": "loudspeaker", "name": "", "to": []},
            {"id": "sink-9", "kind": "recorder", "name": "", "to": ["nowhere"]},
        ]);
        all.as_array().unwrap().iter().filter_map(read).collect()
    }

    #[test]
    fn the_way_is_drawn_as_text() {
        assert_eq!(
            drawn(&nodes()),
            [
                "microphone (level -30 dB)",
                "└─ mixer (sources 2)",
                "   └─ encoder opus",
                "      └─ path relayed (192.0.2.1:4000, round trip 40 ms)",
                "         └─ peer sip:\u{fffd}\"b\"@example.org (mos 4.3)",
                "call 2",
                "└─ mixer (above)",
                "decoder opus (concealed 0.0 %)",
                "├─ loudspeaker",
                "└─ recorder",
            ]
        );
    }

    #[test]
    fn the_way_is_drawn_for_graphviz() {
        let lines = dot(&nodes());
        assert_eq!(lines[0], "digraph call {");
        assert!(
            lines.contains(&"  \"source-1\" [label=\"microphone\\nlevel -30 dB\"];".to_owned()),
            "{lines:?}"
        );
        assert!(lines.contains(&"  \"mixer-16\" -> \"encoder\";".to_owned()));
        assert!(lines.iter().any(|line| line.contains("peer sip:\u{fffd}\\\"b\\\"@example.org")));
        assert_eq!(lines.last().unwrap(), "}");
    }

    #[test]
    fn a_loop_comes_to_an_end() {
        let node = |id: &str, to: &str| Node {
            id: id.into(),
            kind: "mixer".into(),
            name: id.into(),
            to: vec![to.into()],
            figures: Vec::new(),
        };
        let lines = drawn(&[node("a", "b"), node("b", "c"), node("c", "b")]);
        assert_eq!(lines, ["mixer a", "└─ mixer b", "   └─ mixer c", "      └─ mixer b (above)"]);
    }
}
