//! Fragments of session descriptions that bring candidates one after the other (RFC 8840 section 9,
//! `application/trickle-ice-sdpfrag`), read and written. What carries them, and when, is not their affair.

use super::{Candidate, Listed, LocalIce, PASSWORD_LENGTH, UFRAG_LENGTH, is_ice_text, list};

/// Longest fragment that is read, in bytes: room for more candidates than are looked at.
const MAX_BYTES: usize = 8 * 1024;
/// Most lines of one.
const MAX_LINES: usize = 256;
/// Identification of our audio line where no description has named one.
pub(crate) const DEFAULT_MID: &str = "0";

/// What a fragment of the peer's says about the stream that was asked about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fragment {
    /// Whose generation of candidates it belongs to: the user name fragment of the peer's description. Where that is another
    /// one, the fragment says nothing (RFC 8838 section 10).
    pub ufrag: String,
    /// Those that we can use, in the peer's order; a bounded number of them.
    pub candidates: Vec<Candidate>,
    /// No candidate follows (RFC 8838 section 14).
    pub complete: bool,
}

/// Why a fragment cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FragmentError {
    /// Longer than we read.
    #[error("longer than {MAX_BYTES} bytes or {MAX_LINES} lines")]
    TooLong,
    /// A line is none of a session description.
    #[error("not lines of a session description")]
    NoLines,
    /// It belongs to no generation of candidates (RFC 8838 section 9 wants it said).
    #[error("a=ice-ufrag is missing, or not as RFC 8839 section 5.4 has it")]
    NoUfrag,
    /// RFC 8839 section 5.4.
    #[error("a=ice-pwd is not as RFC 8839 section 5.4 has it")]
    BadPassword,
}

impl FragmentError {
    /// The SIP status that tells the peer.
    #[must_use]
    pub fn status(self) -> u16 {
        match self {
            FragmentError::TooLong => 413,
            FragmentError::NoLines | FragmentError::NoUfrag | FragmentError::BadPassword => 400,
        }
    }
}

/// The lines before the first pseudo m= line, or those of one.
#[derive(Default)]
struct Section<'a> {
    mid: Option<&'a str>,
    ufrag: Option<&'a str>,
    password: Option<&'a str>,
    candidates: Vec<&'a str>,
    complete: bool,
}

impl<'a> Section<'a> {
    fn take(&mut self, attribute: &'a str) {
        let (name, value) = attribute.split_once(':').unwrap_or((attribute, ""));
        let value = value.trim();
        match name.trim().to_ascii_lowercase().as_str() {
            "mid" => self.mid = Some(value),
            "ice-ufrag" => self.ufrag = Some(value),
            "ice-pwd" => self.password = Some(value),
            "candidate" => self.candidates.push(value),
            "end-of-candidates" => self.complete = true,
            // Options, groups, and what others may add (RFC 8840 section 9.2).
            _ => {}
        }
    }
}

impl Fragment {
    /// Reads what a fragment says about the stream `mid` ([`crate::Negotiation::mid`]). A section that names no stream, or
    /// the first where our stream has no name, is taken for it; one about other streams alone says nothing about ours.
    ///
    /// # Errors
    /// See [`FragmentError`]. Candidates that are of no use to us are left out.
    pub fn read(bytes: &[u8], mid: Option<&str>) -> Result<Self, FragmentError> {
        if bytes.len() > MAX_BYTES {
            return Err(FragmentError::TooLong);
        }
        let text = std::str::from_utf8(bytes).map_err(|_| FragmentError::NoLines)?;
        let mut session = Section::default();
        let mut streams: Vec<Section<'_>> = Vec::new();
        let lines = text.split(['\r', '\n']).map(str::trim).filter(|line| !line.is_empty());
        for (count, line) in lines.enumerate() {
            if count >= MAX_LINES {
                return Err(FragmentError::TooLong);
            }
            match line.split_once('=') {
                Some(("m", _)) => streams.push(Section::default()),
                Some(("a", attribute)) => streams.last_mut().unwrap_or(&mut session).take(attribute),
                Some((key, _)) if key.len() == 1 => {}
                Some(_) | None => return Err(FragmentError::NoLines),
            }
        }
        let ours = |stream: &&Section<'_>| mid.is_none() || stream.mid.is_none() || stream.mid == mid;
        let stream = streams.iter().find(ours);
        // At either level, wherever the peer's description has them (RFC 8840 section 9).
        let levels = || stream.into_iter().chain([&session]);
        let ufrag = levels().find_map(|level| level.ufrag).or_else(|| streams.iter().find_map(|of| of.ufrag));
        let ufrag = ufrag.filter(|ufrag| is_ice_text(ufrag, UFRAG_LENGTH)).ok_or(FragmentError::NoUfrag)?;
        let good = |password: &str| is_ice_text(password, PASSWORD_LENGTH);
        if !levels().filter_map(|level| level.password).all(good) {
            return Err(FragmentError::BadPassword);
        }
        // A name in place of an address is left to the peer's own checks.
        let Listed { candidates, hidden: _ } =
            list(stream.into_iter().flat_map(|stream| stream.candidates.iter().copied()));
        Ok(Self { ufrag: ufrag.to_owned(), candidates, complete: levels().any(|level| level.complete) })
    }
}

impl LocalIce {
    /// The fragment that tells of these candidates of the stream `mid` ([`crate::Negotiation::mid`]), and of no others that
    /// the peer knows already. `rtcp_mux`: both sides have agreed to it, and RTCP has no candidates.
    #[must_use]
    pub fn fragment(&self, mid: Option<&str>, rtcp_mux: bool) -> Vec<u8> {
        let mid = mid.unwrap_or(DEFAULT_MID);
        // The words of the pseudo m= line mean nothing, and are always these (RFC 8840 section 9.2).
        let mut lines = vec!["m=audio 9 RTP/AVP 0".to_owned(), format!("a=mid:{mid}")];
        lines.push(format!("a=ice-ufrag:{}", self.credentials.ufrag));
        lines.push(format!("a=ice-pwd:{}", self.credentials.password));
        if rtcp_mux {
            lines.push("a=rtcp-mux".to_owned());
        }
        let wanted = |candidate: &&Candidate| candidate.component == 1 || !rtcp_mux;
        lines.extend(
            self.candidates.iter().filter(wanted).map(|candidate| format!("a=candidate:{candidate}")),
        );
        if self.complete {
            lines.push("a=end-of-candidates".to_owned());
        }
        let mut text = lines.join("\r\n");
        text.push_str("\r\n");
        text.into_bytes()
    }
}

/// The identification of a stream as a description or a fragment has it (RFC 5888 section 4): a token, of no more than
/// 32 characters, since answers repeat it.
pub(crate) fn token(mid: &str) -> Option<&str> {
    let is_token = |byte: u8| byte.is_ascii_graphic() && !b"\"(),/:;<=>?@[\\]".contains(&byte);
    Some(mid.trim()).filter(|mid| (1..=32).contains(&mid.len()) && mid.bytes().all(is_token))
}
