//! Forks: which of several callees is heard before the call is answered (RFC 3261 section 13.2.2.4). Signalling decides
//! which; here it is known when the stream goes to another one than before.

/// Whom the stream goes to.
#[derive(Default)]
pub(crate) struct Forks {
    /// To tag of the one that is heard.
    heard: Option<String>,
    /// The stream goes to another peer than before, for whom it is to be a source of its own.
    moved: bool,
}

impl Forks {
    /// This one is heard now.
    pub(crate) fn hear(&mut self, dialog: &str) {
        self.moved |= self.heard.as_ref().is_some_and(|heard| heard != dialog);
        self.heard = Some(dialog.to_owned());
    }

    /// Whether this one is heard.
    pub(crate) fn hears(&self, dialog: &str) -> bool {
        self.heard.as_ref().is_some_and(|heard| heard == dialog)
    }

    /// Whether it goes to another peer than when [`Forks::take_moved`] was asked last.
    pub(crate) fn has_moved(&self) -> bool {
        self.moved
    }

    /// The call goes on to somebody else.
    pub(crate) fn forget(&mut self) {
        *self = Self { heard: None, moved: true };
    }

    /// Whether the stream goes to another peer than when this was asked last.
    pub(crate) fn take_moved(&mut self) -> bool {
        std::mem::take(&mut self.moved)
    }
}
