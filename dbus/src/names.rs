//! Names on the bus: service, object paths, interfaces. The names of errors are in [`Error`](crate::Error).

/// The bus name of the daemon, on the system bus and on the session bus.
pub const BUS_NAME: &str = "org.voipd";

/// The root object: `Manager1`, and the ObjectManager of all other objects.
pub const ROOT_PATH: &str = "/org/voipd";
/// The object of the sound devices: `Audio1`.
pub const AUDIO_PATH: &str = "/org/voipd/audio";
/// The object of the way through NAT: `Nat1`.
pub const NAT_PATH: &str = "/org/voipd/nat";
/// The object of friends and meeting points: `Friends1`.
pub const FRIENDS_PATH: &str = "/org/voipd/friends";
/// What an account's path starts with; its number follows.
pub const ACCOUNT_PREFIX: &str = "/org/voipd/account/";
/// What a call's path starts with; its number follows.
pub const CALL_PREFIX: &str = "/org/voipd/call/";
/// What a conference's path starts with; its number follows.
pub const CONFERENCE_PREFIX: &str = "/org/voipd/conference/";

/// Interface of the root object.
pub const MANAGER: &str = "org.voipd.Manager1";
/// Interface of an account.
pub const ACCOUNT: &str = "org.voipd.Account1";
/// Interface of a call.
pub const CALL: &str = "org.voipd.Call1";
/// Interface of a call's figures, on the call's object.
pub const CALL_STATISTICS: &str = "org.voipd.CallStatistics1";
/// Interface of a conference.
pub const CONFERENCE: &str = "org.voipd.Conference1";
/// Interface of the sound devices.
pub const AUDIO: &str = "org.voipd.Audio1";
/// Interface of the way through NAT.
pub const NAT: &str = "org.voipd.Nat1";
/// Interface of friends and meeting points.
pub const FRIENDS: &str = "org.voipd.Friends1";

/// What the name of each of voipd's errors starts with.
pub const ERROR_PREFIX: &str = "org.voipd.Error.";

/// Path of the account with this number.
pub fn account_path(number: u32) -> String {
    format!("{ACCOUNT_PREFIX}{number}")
}

/// Path of the call with this number.
pub fn call_path(number: u32) -> String {
    format!("{CALL_PREFIX}{number}")
}

/// Path of the conference with this number.
pub fn conference_path(number: u32) -> String {
    format!("{CONFERENCE_PREFIX}{number}")
}

/// The number at the end of an account's path.
pub fn account_number(path: &str) -> Option<u32> {
    number(path, ACCOUNT_PREFIX)
}

/// The number at the end of a call's path.
pub fn call_number(path: &str) -> Option<u32> {
    number(path, CALL_PREFIX)
}

/// The number at the end of a conference's path.
pub fn conference_number(path: &str) -> Option<u32> {
    number(path, CONFERENCE_PREFIX)
}

fn number(path: &str, prefix: &str) -> Option<u32> {
    let digits = path.strip_prefix(prefix)?;
    // `parse` alone would take a sign and leading zeros: two spellings of one path.
    let canonical = digits == "0" || digits.starts_with(|c: char| ('1'..='9').contains(&c));
    if canonical { digits.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_paths_map_to_each_other() {
        for n in [0, 1, 10, u32::MAX] {
            assert_eq!(call_number(&call_path(n)), Some(n));
            assert_eq!(account_number(&account_path(n)), Some(n));
        }
        for path in
            ["/org/voipd/call/", "/org/voipd/call/01", "/org/voipd/call/+1", "/org/voipd/call/4294967296"]
        {
            assert_eq!(call_number(path), None, "{path}");
        }
        assert_eq!(call_number("/org/voipd/account/1"), None);
        assert_eq!(account_number("/org/voipd/audio"), None);
    }
}
