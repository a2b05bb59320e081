//! Whether this telephone is found by its neighbours, and under which name.

use super::Check;
use crate::neighbours::Health;

const ID: &str = "neighbours";

/// `answered`: whether the own announcement is answered on the network; `None` where there is none.
pub(super) fn judge(health: &Health, answered: Option<Result<(), String>>) -> Check {
    let wanted = &health.config;
    let known = match health.known {
        0 => "no other telephone is known".to_owned(),
        1 => "one other telephone is known".to_owned(),
        many => format!("{many} other telephones are known"),
    };
    if let Some(why) = &health.failure {
        let sentence = format!("telephones of the local network do not find each other: {why}");
        return Check::failed(
            ID,
            sentence,
            "does another program hold UDP port 5353 for itself, or a firewall?",
        );
    }
    match (&wanted.announce, &health.announced, answered) {
        (None, ..) if wanted.discover => {
            Check::ok(ID, format!("telephones of the local network are looked for: {known}"))
        }
        (None, ..) => Check::skipped(
            ID,
            "telephones of the local network are not looked for, and this one is not announced to them",
        ),
        (Some(_), Some(_), Some(Err(why))) => Check::failed(
            ID,
            format!("this telephone is announced to the local network, and cannot be found there: {why}"),
            "let UDP port 5353 through this machine's firewall, in both directions",
        ),
        (Some(name), Some(announced), _) if name != announced => Check::warning(
            ID,
            format!("another telephone on this network is called '{name}': this one is '{announced}' there"),
            "give one of them another name: announce under [direct]",
        ),
        (Some(name), ..) => {
            Check::ok(ID, format!("this telephone is announced to the local network as '{name}'; {known}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::CheckState;
    use super::*;
    use crate::neighbours::NeighbourConfig;

    fn health(announce: Option<&str>, announced: Option<&str>) -> Health {
        let config = NeighbourConfig { announce: announce.map(str::to_owned), discover: false };
        Health { config, announced: announced.map(str::to_owned), known: 2, failure: None }
    }

    #[test]
    fn each_way_to_be_found_or_not_has_words() {
        for (health, answered, state, words) in [
            (health(None, None), None, CheckState::Skipped, "not announced"),
            (
                health(Some("hall"), Some("hall")),
                Some(Ok(())),
                CheckState::Ok,
                "as 'hall'; 2 other telephones",
            ),
            (health(Some("hall"), Some("hall (2)")), Some(Ok(())), CheckState::Warning, "'hall (2)'"),
            (health(Some("hall"), Some("hall")), Some(Err("nobody".into())), CheckState::Failed, "nobody"),
            (
                Health { failure: Some("busy".into()), ..health(Some("hall"), None) },
                None,
                CheckState::Failed,
                "busy",
            ),
        ] {
            let check = judge(&health, answered);
            assert_eq!(check.state, state, "{check:?}");
            assert!(check.sentence.contains(words), "{check:?}");
        }
        let only_looks = NeighbourConfig { announce: None, discover: true };
        let check = judge(&Health { config: only_looks, ..health(None, None) }, None);
        assert!(check.state == CheckState::Ok && check.sentence.contains("2 other"), "{check:?}");
    }
}
