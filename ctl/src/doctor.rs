//! `voipctl doctor`: what works and what does not, in plain words. What the daemon sees it says itself
//! (`org.voipd.Manager1.Diagnose`); what can be seen without one is looked at here.

use serde_json::json;
use voipd_dbus::Dict;
use zbus::fdo;

use crate::config;
use crate::daemon::{Bus, Daemon, Found};
use crate::exit::{Exit, Failure};
use crate::objects::Object;
use crate::output::Output;

/// Something that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Check {
    id: String,
    state: State,
    sentence: String,
    remedy: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Ok,
    Warning,
    Failed,
    Skipped,
}

impl State {
    const ALL: [Self; 4] = [Self::Ok, Self::Warning, Self::Failed, Self::Skipped];

    fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Failed => "failed",
            Self::Skipped => "skipped",
        }
    }
}

impl Check {
    fn new(id: &str, state: State, sentence: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { id: id.to_owned(), state, sentence: sentence.into(), remedy: remedy.into() }
    }

    fn of_daemon(dict: Dict) -> Self {
        let check = Object { path: String::new(), properties: dict };
        let state = State::ALL.into_iter().find(|state| state.word() == check.text("state"));
        Self {
            id: check.text("id").to_owned(),
            // A word that this version does not know is no success.
            state: state.unwrap_or(State::Warning),
            sentence: check.text("sentence").to_owned(),
            remedy: check.text("remedy").to_owned(),
        }
    }
}

/// Looks, tells, and ends with the exit code that sums it up.
pub(crate) async fn run(out: Output, choice: Option<Bus>) -> Result<u8, Failure> {
    let buses: Vec<Bus> = choice.map_or_else(|| vec![Bus::Session, Bus::System], |bus| vec![bus]);
    let mut found = Vec::new();
    for bus in buses {
        found.push((bus, Daemon::look(bus).await));
    }
    let (mut checks, daemon) = daemons(choice.is_some(), found);
    match daemon {
        Some(daemon) => match daemon.manager().await?.diagnose().await {
            Ok(seen) => checks.extend(seen.into_iter().map(Check::of_daemon)),
            Err(error) => checks.push(unsaid(error)),
        },
        // The daemon would say it: one that does not run may not be able to start because of it.
        None => checks.push(configuration(choice)),
    }
    tell(out, &checks)?;
    Ok(verdict(&checks).code())
}

/// Why the daemon does not say how things are.
fn unsaid(error: voipd_dbus::Error) -> Check {
    let denied = match &error {
        voipd_dbus::Error::Bus(zbus::Error::FDO(inner)) => matches!(**inner, fdo::Error::AccessDenied(_)),
        _ => false,
    };
    let remedy = match denied {
        true => "sudo adduser $USER voip, and log in anew: a login from before is not in the group",
        false => "look at its log: journalctl -e -t voipd",
    };
    let why = Failure::from(error).sentence.unwrap_or_default();
    let sentence = format!("voipd does not say how things are: {}", why.trim_end_matches('.'));
    Check::new("daemon", State::Failed, sentence, remedy)
}

/// What there is to say about which daemon runs, and the one that is to be asked.
fn daemons(chosen: bool, found: Vec<(Bus, Found)>) -> (Vec<Check>, Option<Daemon>) {
    let mut checks = Vec::new();
    let mut running = Vec::new();
    let mut idle = Vec::new();
    for (bus, found) in found {
        match found {
            Found::Daemon(daemon) => running.push((bus, daemon)),
            Found::Nobody => idle.push(bus),
            Found::NoBus(error) if chosen => {
                let sentence = format!("the {} bus cannot be reached: {error}", bus.name());
                checks.push(Check::new("bus", State::Failed, sentence, bus.remedy()));
            }
            Found::NoBus(_) => {}
        }
    }
    let both = running.len() > 1;
    let first = running.into_iter().next();
    let check = match &first {
        Some((bus, _)) if both => Check::new(
            "daemon",
            State::Warning,
            format!(
                "voipd runs on the session bus and on the system bus: they get in each other's way; what follows is \
                 about that of the {} bus",
                bus.name()
            ),
            "stop one of them: systemctl --user stop voipd, or sudo systemctl stop voipd",
        ),
        Some((bus, _)) => {
            Check::new("daemon", State::Ok, format!("voipd runs on the {} bus", bus.name()), "")
        }
        None => {
            let remedy: Vec<String> = idle
                .iter()
                .map(|bus| match bus {
                    Bus::Session => format!("for this session: {}", bus.start_line()),
                    Bus::System => format!("for the whole machine: {}", bus.start_line()),
                })
                .collect();
            let remedy = match remedy.is_empty() {
                true => "start D-Bus first".to_owned(),
                false => {
                    format!("start it, {}; why it ended says journalctl -e -t voipd", remedy.join(", or "))
                }
            };
            Check::new("daemon", State::Failed, "voipd does not run", remedy)
        }
    };
    checks.push(check);
    (checks, first.map(|(_, daemon)| daemon))
}

/// The configuration that a daemon would read at its start.
fn configuration(choice: Option<Bus>) -> Check {
    const ID: &str = "configuration";
    let bus = choice.unwrap_or_else(Bus::own);
    match config::read(bus) {
        Ok((true, said)) => {
            Check::new(ID, State::Ok, format!("voipd could start with its configuration: {said}"), "")
        }
        Ok((false, said)) => {
            let sentence = format!("voipd cannot start with its configuration: {said}");
            let command = format!("voipctl --{} config check", bus.name());
            let remedy = format!("mend it; `{command}` shows everything that is wrong with it");
            Check::new(ID, State::Failed, sentence, remedy)
        }
        Err(error) => Check::new(ID, State::Skipped, error.sentence.unwrap_or_default(), ""),
    }
}

fn tell(out: Output, checks: &[Check]) -> Result<(), Failure> {
    let count = |state: State| checks.iter().filter(|check| check.state == state).count();
    if out.json {
        let check = |check: &Check| {
            json!({
                "id": check.id,
                "state": check.state.word(),
                "sentence": check.sentence,
                "remedy": check.remedy,
            })
        };
        return out.document(&json!({
            "checks": checks.iter().map(check).collect::<Vec<_>>(),
            "ok": count(State::Ok),
            "warnings": count(State::Warning),
            "failed": count(State::Failed),
            "skipped": count(State::Skipped),
        }));
    }
    out.lines(&lines(checks))?;
    out.line("")?;
    out.line(&match (count(State::Failed), count(State::Warning)) {
        (0, 0) => "Everything that was looked at works.".to_owned(),
        (0, warnings) => format!("It works; {warnings} could be better."),
        (failed, _) => format!("{failed} of {} do not work.", checks.len()),
    })
}

fn lines(checks: &[Check]) -> Vec<String> {
    let mut lines = Vec::new();
    for Check { state, sentence, remedy, .. } in checks {
        lines.push(format!("{:<8} {}", state.word(), capitalized(sentence)));
        if !remedy.is_empty() {
            lines.push(format!("{:<8} -> {}", "", capitalized(remedy)));
        }
    }
    lines
}

/// Sentences come without a capital letter and a full stop, as parts of others.
fn capitalized(text: &str) -> String {
    let mut chars = text.chars();
    match chars.next() {
        Some(first) => first.to_uppercase().chain(chars).collect(),
        None => String::new(),
    }
}

fn verdict(checks: &[Check]) -> Exit {
    let any = |state| checks.iter().any(|check| check.state == state);
    match (any(State::Failed), any(State::Warning)) {
        (true, _) => Exit::Faults,
        (false, true) => Exit::Warnings,
        (false, false) => Exit::Ok,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::objects::tests::call;

    fn check(state: State) -> Check {
        Check::new("x", state, "it is so", if state == State::Ok { "" } else { "do something" })
    }

    #[test]
    fn the_exit_code_is_that_of_the_worst() {
        use State::{Failed, Ok, Skipped, Warning};
        for (states, exit) in [
            (&[][..], Exit::Ok),
            (&[Ok, Skipped], Exit::Ok),
            (&[Ok, Warning], Exit::Warnings),
            (&[Warning, Failed, Ok], Exit::Faults),
        ] {
            let checks: Vec<_> = states.iter().map(|state| check(*state)).collect();
            assert_eq!(verdict(&checks), exit);
        }
    }

    #[test]
    fn a_remedy_stands_below_its_sentence() {
        assert_eq!(
            lines(&[check(State::Ok), check(State::Failed)]),
            ["ok       It is so", "failed   It is so", "         -> Do something"]
        );
    }

    #[test]
    fn the_daemons_words_are_taken_and_unknown_ones_are_no_success() {
        let of = |state| {
            let dict = call(1, &[("id", "nat"), ("state", state), ("sentence", "s"), ("remedy", "r")], &[]);
            Check::of_daemon(dict.properties)
        };
        assert_eq!(of("skipped"), Check::new("nat", State::Skipped, "s", "r"));
        assert_eq!(of("excellent").state, State::Warning);
    }

    #[test]
    fn who_may_not_ask_is_told_how_to_become_one_who_may() {
        let denied = unsaid(fdo::Error::AccessDenied("Rejected send message".into()).into());
        assert!(denied.sentence.contains("members of the group voip"), "{denied:?}");
        assert!(denied.remedy.contains("log in anew"), "{denied:?}");
        let other = unsaid(voipd_dbus::Error::Failed("a bad day".into()));
        assert!(other.sentence.ends_with(": a bad day") && other.remedy.contains("journalctl"), "{other:?}");
    }

    #[test]
    fn without_a_daemon_each_bus_that_is_there_has_its_command() {
        let (checks, daemon) = daemons(
            false,
            vec![(Bus::Session, Found::Nobody), (Bus::System, Found::NoBus("gone".to_owned()))],
        );
        assert!(daemon.is_none());
        let [check] = checks.as_slice() else { panic!("{checks:?}") };
        assert_eq!((check.state, check.sentence.as_str()), (State::Failed, "voipd does not run"));
        assert!(check.remedy.contains("systemctl --user start voipd") && !check.remedy.contains("sudo"));
        let (checks, _) = daemons(true, vec![(Bus::System, Found::NoBus("gone".to_owned()))]);
        assert_eq!(checks[0].id, "bus");
        assert!(checks[0].sentence.contains("the system bus cannot be reached: gone"), "{checks:?}");
    }
}
