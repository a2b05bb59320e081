//! Forks: the answers that come before the call is answered, one for each early dialog of an INVITE that forked
//! (RFC 3261 section 13.2.2.4). The newest is heard; each keeps its own answer until one of them wins.

use voipd_media::Agreement;

/// Most early answers that are kept: no honest fork has more.
const MAX_FORKS: usize = 8;

/// Early answers, and whom the stream goes to.
#[derive(Default)]
pub(crate) struct Forks {
    /// To tags and what was agreed there; the one that is heard is last.
    answers: Vec<(String, Agreement)>,
    /// The stream goes to another peer than before, for whom it is to be a source of its own.
    moved: bool,
}

impl Forks {
    /// Takes an answer, and says what is heard now. One that is repeated where another is heard by now does not bring
    /// its dialog back.
    pub(crate) fn answer(&mut self, dialog: &str, agreement: Agreement) -> Agreement {
        if let Some((_, known)) = self.answers.iter_mut().find(|(known, _)| known == dialog) {
            *known = agreement.clone();
            return self.heard().unwrap_or(agreement);
        }
        if self.answers.len() >= MAX_FORKS {
            self.answers.remove(0);
        }
        self.moved |= !self.answers.is_empty();
        self.answers.push((dialog.to_owned(), agreement.clone()));
        agreement
    }

    /// An early dialog is over (RFC 6228): what is heard now, where it was that one, and another is there.
    pub(crate) fn ended(&mut self, dialog: &str) -> Option<Agreement> {
        if self.answers.len() < 2 {
            return None;
        }
        let was_heard = self.is_heard(dialog);
        self.answers.retain(|(known, _)| known != dialog);
        self.moved |= was_heard;
        self.heard().filter(|_| was_heard)
    }

    /// One of them has answered: its early answer, if there was one. The others are nobody's any more.
    pub(crate) fn won(&mut self, dialog: &str) -> Option<Agreement> {
        self.moved |= !self.answers.is_empty() && !self.is_heard(dialog);
        let answers = std::mem::take(&mut self.answers);
        answers.into_iter().find(|(known, _)| known == dialog).map(|(_, agreement)| agreement)
    }

    /// All early dialogs are over, and the call goes on to somebody else.
    pub(crate) fn forget(&mut self) {
        *self = Self { answers: Vec::new(), moved: true };
    }

    /// Whether the stream goes to another peer than when this was asked last.
    pub(crate) fn take_moved(&mut self) -> bool {
        std::mem::take(&mut self.moved)
    }

    fn is_heard(&self, dialog: &str) -> bool {
        self.answers.last().is_some_and(|(heard, _)| heard == dialog)
    }

    fn heard(&self) -> Option<Agreement> {
        self.answers.last().map(|(_, agreement)| agreement.clone())
    }
}
