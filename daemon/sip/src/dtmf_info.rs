//! Digits in INFO: `application/dtmf-relay` and `application/dtmf`, which no RFC describes but most gateways speak.

/// Media type of a digit with its length.
pub(crate) const RELAY: &str = "application/dtmf-relay";
/// Media type of a digit alone.
pub(crate) const PLAIN: &str = "application/dtmf";
/// Length of a digit whose sender does not say it, in milliseconds.
const DEFAULT_MS: u32 = 250;
/// Shortest and longest length that is told, in milliseconds.
const RANGE_MS: std::ops::RangeInclusive<u32> = 40..=8000;
/// More than a digit with its length ever needs.
const MAX_BODY: usize = 256;

/// A digit that the peer pressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Digit {
    /// `0` to `9`, `*`, `#`, `A` to `D`.
    pub digit: char,
    /// How long it was pressed, in milliseconds; 40 to 8000.
    pub duration_ms: u32,
}

impl Digit {
    /// Reads a body; `None` when its type is one of the two, but its content is no digit.
    pub(crate) fn read(content_type: &str, body: &[u8]) -> Option<Self> {
        let text = body.get(..body.len().min(MAX_BODY)).and_then(|body| std::str::from_utf8(body).ok())?;
        if content_type == PLAIN && !text.contains('=') {
            let digit = signal(text.trim()).filter(|_| text.trim().len() == 1)?;
            return Some(Self { digit, duration_ms: DEFAULT_MS });
        }
        let (mut digit, mut duration_ms) = (None, DEFAULT_MS);
        for (key, value) in text.lines().filter_map(|line| line.split_once('=')) {
            match key.trim().to_ascii_lowercase().as_str() {
                "signal" => digit = signal(value.trim()),
                "duration" => duration_ms = value.trim().parse().unwrap_or(DEFAULT_MS),
                _ => {}
            }
        }
        Some(Self { digit: digit?, duration_ms: duration_ms.clamp(*RANGE_MS.start(), *RANGE_MS.end()) })
    }

    /// The body of type [`RELAY`].
    pub(crate) fn write(self) -> Vec<u8> {
        format!("Signal={}\r\nDuration={}\r\n", self.digit, self.duration_ms).into_bytes()
    }
}

/// A digit, or its number among the telephone events (RFC 4733 section 3.2).
fn signal(text: &str) -> Option<char> {
    let mut letters = text.chars();
    match (letters.next()?.to_ascii_uppercase(), letters.next()) {
        (digit @ ('0'..='9' | '*' | '#' | 'A'..='D'), None) => Some(digit),
        _ => match text {
            "10" => Some('*'),
            "11" => Some('#'),
            "12" => Some('A'),
            "13" => Some('B'),
            "14" => Some('C'),
            "15" => Some('D'),
            _ => None,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(content_type: &str, body: &str) -> Option<(char, u32)> {
        Digit::read(content_type, body.as_bytes()).map(|digit| (digit.digit, digit.duration_ms))
    }

    #[test]
    fn digits_are_read_as_gateways_write_them() {
        assert_eq!(read(RELAY, "Signal=5\r\nDuration=160\r\n"), Some(('5', 160)));
        assert_eq!(read(RELAY, "signal = *\nduration= 90"), Some(('*', 90)));
        assert_eq!(read(RELAY, "Signal= d\r\n"), Some(('D', 250)));
        assert_eq!(read(RELAY, "Signal=11\r\nDuration=x"), Some(('#', 250)));
        assert_eq!(read(PLAIN, "7\r\n"), Some(('7', 250)));
        assert_eq!(read(PLAIN, "Signal=7\r\nDuration=100000000"), Some(('7', 8000)));
        assert_eq!(read(RELAY, "Signal=1\r\nDuration=0"), Some(('1', 40)));
    }

    #[test]
    fn nonsense_is_no_digit() {
        for body in ["", "5", "Signal=", "Signal=E", "Signal=16", "Signal=55", "Duration=100", "\u{0}"] {
            assert_eq!(read(RELAY, body), None, "{body}");
        }
        assert_eq!(read(PLAIN, "12"), None);
        assert_eq!(read(PLAIN, "flash"), None);
        assert_eq!(Digit::read(PLAIN, &[0xff]), None);
    }

    #[test]
    fn what_is_written_is_read_back() {
        for digit in "0123456789*#ABCD".chars() {
            let digit = Digit { digit, duration_ms: 120 };
            assert_eq!(Digit::read(RELAY, &digit.write()), Some(digit));
        }
    }
}
