//! Who may come in: members, their devices' credentials, and invitations. It knows nothing of where they are.

use std::collections::BTreeMap;

use super::invitation::is_name;
use super::words::{Credential, Invitation, InviteError};
use crate::digest::{Presented, UserHash};
use crate::message::Method;

/// Most members and invited names together.
const MAX_MEMBERS: usize = 1000;
/// Most devices of a member.
const MAX_DEVICES: usize = 16;
/// Longest user name of a device: no more than a digest needs.
const LONGEST_USER: usize = 64;

#[derive(Default)]
struct Record {
    /// By the user name of their digests.
    devices: BTreeMap<String, UserHash>,
    invitation: Option<Invitation>,
}

/// Whose credentials these are.
pub(super) struct Known {
    pub(super) member: String,
    /// An invitation was used: this is what it has become.
    pub(super) joined: Option<Credential>,
}

#[derive(Default)]
pub(super) struct Members {
    records: BTreeMap<String, Record>,
}

impl Members {
    /// The name is a member's, or invited.
    pub(super) fn has(&self, name: &str) -> bool {
        self.records.contains_key(name)
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &String> {
        self.records.keys()
    }

    pub(super) fn devices(&self, name: &str) -> usize {
        self.records.get(name).map_or(0, |record| record.devices.len())
    }

    /// The hash of a device's password.
    pub(super) fn hash(&self, user: &str) -> Option<&UserHash> {
        let (name, _) = user.rsplit_once('.')?;
        self.records.get(name)?.devices.get(user)
    }

    /// Unix seconds until which `name` is invited.
    pub(super) fn invited_until(&self, name: &str, now: u64) -> Option<u64> {
        let invitation = self.records.get(name)?.invitation.as_ref()?;
        Some(invitation.expires).filter(|expires| *expires > now)
    }

    pub(super) fn add(&mut self, credential: Credential) {
        let record = self.records.entry(credential.member).or_default();
        record.devices.insert(credential.user, credential.hash);
    }

    /// Takes an invitation, in place of an earlier one for the same name.
    ///
    /// # Errors
    /// The name is unfit, or there is no room.
    pub(super) fn invite(&mut self, invitation: Invitation) -> Result<(), InviteError> {
        let name = &invitation.member;
        if !is_name(name) {
            return Err(InviteError::BadName(name.chars().take(64).collect()));
        }
        if !self.has(name) && self.records.len() >= MAX_MEMBERS {
            return Err(InviteError::TooManyMembers(MAX_MEMBERS));
        }
        let devices = self.devices(name);
        if devices >= MAX_DEVICES {
            return Err(InviteError::TooManyDevices { member: name.clone(), devices });
        }
        let name = name.clone();
        self.records.entry(name).or_default().invitation = Some(invitation);
        Ok(())
    }

    pub(super) fn remove(&mut self, name: &str) -> bool {
        self.records.remove(name).is_some()
    }

    /// Forgets invitations whose time is over, and names that were never more than invited.
    pub(super) fn forget_expired(&mut self, now: u64) {
        for record in self.records.values_mut() {
            record.invitation.take_if(|invitation| invitation.expires <= now);
        }
        self.records.retain(|_, record| !record.devices.is_empty() || record.invitation.is_some());
    }

    /// Who has written these credentials; `None` when nobody that is known. An invitation is taken from who proves that
    /// he has it.
    pub(super) fn prove(
        &mut self,
        realm: &str,
        presented: &Presented,
        method: &Method,
        now: u64,
    ) -> Option<Known> {
        if presented.user.len() > LONGEST_USER || presented.realm != realm {
            return None;
        }
        let (name, salt) = presented.user.rsplit_once('.')?;
        let record = self.records.get_mut(name)?;
        if let Some(hash) = record.devices.get(&presented.user) {
            let known = || Known { member: name.to_owned(), joined: None };
            return presented.is_right(hash, method).then(known);
        }
        // Joining is registering: nothing else uses an invitation up.
        let open = |invitation: &&Invitation| invitation.expires > now && *method == Method::Register;
        let hash = record.invitation.as_ref().filter(open)?.key.hash(realm, &presented.user, salt);
        if !presented.is_right(&hash, method) {
            return None;
        }
        record.invitation = None;
        record.devices.insert(presented.user.clone(), hash.clone());
        let credential = Credential { member: name.to_owned(), user: presented.user.clone(), hash };
        Some(Known { member: name.to_owned(), joined: Some(credential) })
    }

    /// Whether a user name is a device's, or could become one.
    pub(super) fn expects(&self, user: &str, now: u64) -> bool {
        let Some((name, _)) = user.rsplit_once('.') else { return false };
        self.records.get(name).is_some_and(|record| record.devices.contains_key(user))
            || self.invited_until(name, now).is_some()
    }
}
