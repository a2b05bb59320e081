//! Friends as rows: the members of a meeting point on this machine, and those who are invited there.

use rusqlite::{Connection, params};
use voipd_sip::digest::UserHash;
use voipd_sip::rendezvous::{Credential, Invitation, InvitationKey};

use super::{Change, Store};

/// What the store holds of friends.
#[derive(Debug, Default)]
pub struct Friends {
    /// One for each device of a member.
    pub credentials: Vec<Credential>,
    /// Those that were not used.
    pub invitations: Vec<Invitation>,
    /// Pairs of members who have talked with each other.
    pub contacts: Vec<(String, String)>,
}

impl Store {
    /// Keeps what a device of a member proves itself with, and forgets the invitation that it has used.
    pub fn put_credential(&self, credential: Credential) -> Change {
        self.change(move |connection| {
            let change = connection.transaction()?;
            let Credential { member, user, hash } = &credential;
            change.execute(
                "INSERT OR REPLACE INTO friend (user, member, hash) VALUES (?1, ?2, ?3)",
                params![user, member, hash.expose()],
            )?;
            change.execute("DELETE FROM invitation WHERE member = ?1", [member])?;
            change.commit()
        })
    }

    /// Keeps an invitation, in place of one for the same name.
    pub fn put_invitation(&self, invitation: Invitation) -> Change {
        let sql = "INSERT OR REPLACE INTO invitation (member, key, expires) VALUES (?1, ?2, ?3)";
        self.change(move |connection| {
            let Invitation { member, key, expires } = &invitation;
            let expires = i64::try_from(*expires).unwrap_or(i64::MAX);
            connection.execute(sql, params![member, key.expose(), expires]).map(drop)
        })
    }

    /// Keeps that two members have talked with each other.
    pub fn put_contacts(&self, one: String, other: String) -> Change {
        let sql = "INSERT OR REPLACE INTO contact (one, other) VALUES (?1, ?2)";
        self.change(move |connection| connection.execute(sql, [one, other]).map(drop))
    }

    /// Forgets a member with all its devices, and its invitation.
    pub fn remove_friend(&self, name: String) -> Change {
        self.change(move |connection| {
            let change = connection.transaction()?;
            change.execute("DELETE FROM friend WHERE member = ?1", [&name])?;
            change.execute("DELETE FROM invitation WHERE member = ?1", [&name])?;
            change.execute("DELETE FROM contact WHERE one = ?1 OR other = ?1", [&name])?;
            change.commit()
        })
    }
}

/// Everything at once. Rows that make no sense are left out: whoever they were about is invited anew.
pub(super) fn all(connection: &Connection) -> rusqlite::Result<Friends> {
    let credentials = connection
        .prepare("SELECT user, member, hash FROM friend ORDER BY user")?
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?
        .collect::<rusqlite::Result<Vec<(String, String, String)>>>()?;
    let invitations = connection
        .prepare("SELECT member, key, expires FROM invitation ORDER BY member")?
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?
        .collect::<rusqlite::Result<Vec<(String, String, i64)>>>()?;
    let contacts = connection
        .prepare("SELECT one, other FROM contact ORDER BY one, other")?
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<rusqlite::Result<_>>()?;
    let credential = |(user, member, hash): (String, String, String)| {
        Some(Credential { user, member, hash: UserHash::from_kept(&hash)? })
    };
    let invitation = |(member, key, expires): (String, String, i64)| {
        let key = InvitationKey::from_kept(&key)?;
        Some(Invitation { member, key, expires: u64::try_from(expires).unwrap_or(0) })
    };
    Ok(Friends {
        credentials: credentials.into_iter().filter_map(credential).collect(),
        invitations: invitations.into_iter().filter_map(invitation).collect(),
        contacts,
    })
}
